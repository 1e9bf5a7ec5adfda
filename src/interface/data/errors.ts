// What can go wrong while data is loaded, with the samples concerned.
import { TengenError } from '../../base/errors.ts';

/** A dataset or its worker failed. `sampleIndex` is the sample at fault, where it is known. */
export class DataError extends TengenError {
  override name = 'DataError';
  readonly sampleIndex: number | undefined;
  /** Every sample of the batch concerned. */
  readonly samples: readonly number[];

  constructor(
    message: string,
    options: {
      sampleIndex?: number | undefined;
      samples?: readonly number[];
      hint?: string;
      cause?: unknown;
    } = {},
  ) {
    super(message, { op: 'DataLoader', ...options });
    this.sampleIndex = options.sampleIndex;
    this.samples = options.samples ?? [];
  }
}

/** A worker thread ended while it still had samples to deliver. */
export class WorkerDiedError extends DataError {
  override name = 'WorkerDiedError';
}

/** A batch did not arrive within the loader's `timeout`. */
export class LoaderTimeoutError extends DataError {
  override name = 'LoaderTimeoutError';
}

/** A file could not be fetched from any mirror. */
export class DownloadError extends TengenError {
  override name = 'DownloadError';
}

/** `3, 1, 4, ... (64 in all)`. */
export function formatSamples(samples: readonly number[]): string {
  const shown = samples.slice(0, 8).join(', ');
  return samples.length > 8 ? `${shown}, ... (${samples.length} in all)` : shown;
}
