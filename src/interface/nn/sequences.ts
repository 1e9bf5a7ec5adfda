// Batches of sequences of different lengths: padding and taking it off again.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import { stack } from '../tensor/joining.ts';
import { listOf } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface PadSequenceOptions {
  /** Whether the result is [batch, time, ...] instead of [time, batch, ...]; default false. */
  readonly batchFirst?: boolean;
  /** Default 0. */
  readonly paddingValue?: number;
}

/**
 * Sequences [length, ...] as one tensor [time, batch, ...], the shorter ones filled up: what
 * recurrent layers take beside `lengths`. Throws ShapeError if they differ beside their lengths.
 *
 * @example
 * padSequence([tensor([1, 2, 3]), tensor([4])], { batchFirst: true }); // => [[1, 2, 3], [4, 0, 0]]
 */
export function padSequence(sequences: Iterable<Tensor>, options: PadSequenceOptions = {}): Tensor {
  const op = 'padSequence';
  const list = listOf(op, sequences, 'sequences', 'padSequence([a, b])');
  const [first] = list;
  if (first === undefined) throw new ArgumentError('got no sequences', { op });
  for (const { shape } of list) {
    if (shape.length > 0 && sameShape(shape.slice(1), first.shape.slice(1))) continue;
    throw new ShapeError(
      `sequences are [length, ...] of one form, got ${formatShape(first.shape)} and ${formatShape(shape)}`,
      { op },
    );
  }
  const time = Math.max(...list.map((sequence) => sequence.shape[0] as number));
  const rest = new Array<number>(2 * (first.ndim - 1)).fill(0);
  const padded = list.map((sequence) => {
    const missing = time - (sequence.shape[0] as number);
    if (missing === 0) return sequence;
    return F.pad(sequence, [...rest, 0, missing], { value: options.paddingValue ?? 0 });
  });
  return stack(padded, options.batchFirst === true ? 0 : 1);
}

/** The sequences that `padSequence` joined, by their lengths. */
export function unpadSequence(
  padded: Tensor,
  lengths: readonly number[],
  options: { readonly batchFirst?: boolean } = {},
): Tensor[] {
  const op = 'unpadSequence';
  const inBatch = options.batchFirst === true ? padded : padded.transpose(0, 1);
  const [batch = 0, time = 0] = inBatch.shape;
  if (lengths.length !== batch) {
    throw new ShapeError(`${lengths.length} lengths for ${batch} sequences`, { op });
  }
  return lengths.map((length, i) => {
    if (!Number.isInteger(length) || length < 0 || length > time) {
      throw new ShapeError(`a length of ${length} is not among the ${time} time step(s)`, { op });
    }
    return inBatch.select(0, i).narrow(0, 0, length);
  });
}
