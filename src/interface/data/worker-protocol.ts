// The messages between a loader and its workers.

/** Prepares a worker: which dataset to build. */
export interface InitMessage {
  readonly type: 'init';
  /** Module of the dataset; absent where the worker brings its own. */
  readonly module: string | undefined;
  readonly exportName: string;
  readonly args: unknown;
  /** Module with `tsImport`, for TypeScript in a Node that does not read it. */
  readonly typescriptLoader: string | undefined;
  /** One slot: the sample being read. Absent without shared memory. */
  readonly progress: SharedArrayBuffer | undefined;
}

/** Asks for one batch. */
export interface BatchRequest {
  readonly type: 'batch';
  readonly id: number;
  readonly indices: readonly number[];
  readonly epoch: number;
  readonly seed: number;
  /** Stack in the worker; otherwise the samples come back one by one. */
  readonly stack: boolean;
}

/** Drops a batch that was asked for, if it has not begun. */
export interface CancelMessage {
  readonly type: 'cancel';
  readonly id: number;
}

export type ToWorker = InitMessage | BatchRequest | CancelMessage;

/** An error as it crosses the border between threads. */
export interface ErrorMessage {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

export type FromWorker =
  | { readonly type: 'ready'; readonly length: number }
  | { readonly type: 'failed'; readonly error: ErrorMessage }
  | { readonly type: 'batch'; readonly id: number; readonly value: unknown }
  | {
      readonly type: 'error';
      readonly id: number;
      readonly error: ErrorMessage;
      /** The sample at fault, if it is one. */
      readonly index: number | undefined;
    };

/** What the progress slot says while no single sample is being read. */
export const NO_SAMPLE = -1;
