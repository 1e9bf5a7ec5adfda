// Maxima over windows whose places are drawn at random (Graham 2014).
import { checkKeys, checkNumber, checkOption } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import { rand } from '../tensor/random.ts';
import type { ValuesAndIndices } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { perAxis, type Sizes, withBatch } from './windows.ts';

export interface FractionalPoolOptions {
  /** Sizes of the result; this or `outputRatio`. */
  readonly outputSize?: Sizes;
  /** Sizes of the result per size of x, in (0, 1). */
  readonly outputRatio?: Sizes;
  /** Whether positions within the image are returned too. */
  readonly returnIndices?: boolean;
  /** Numbers in [0, 1), [n, c, 2], for width and height, in place of drawn ones. */
  readonly randomSamples?: Tensor | null;
}

const OP = 'fractionalMaxPool2d';

function lengthsOf(space: readonly number[], options: FractionalPoolOptions): readonly number[] {
  const { outputSize, outputRatio } = options;
  if ((outputSize === undefined) === (outputRatio === undefined)) {
    throw new ArgumentError('takes either outputSize or outputRatio', { op: OP });
  }
  if (outputSize !== undefined) return perAxis(OP, 'outputSize', outputSize, 2, 1);
  const list = typeof outputRatio === 'number' ? [outputRatio, outputRatio] : outputRatio!;
  if (list.length !== 2) throw new ArgumentError('outputRatio has one or two numbers', { op: OP });
  for (const ratio of list) {
    if (checkNumber(OP, 'outputRatio', ratio, [0, 1, 'above']) < 1) continue;
    throw new ArgumentError(`outputRatio must be below 1, got ${ratio}`, { op: OP });
  }
  return space.map((size, axis) => Math.floor(size * list[axis]!));
}

/** First element of each window along an axis, int32 [n, c, length]. */
function starts(sample: Node, size: number, length: number, window: number): Node {
  const [n, c] = sample.shape as readonly [number, number];
  const last = ops.constant(size - window, 'int32');
  if (length === 1) return ops.expand(last, [n, c, 1]);
  const { dtype } = sample;
  const step = ops.constant((size - window) / (length - 1), dtype);
  const order = ops.iota([1, 1, length], 2, dtype);
  const places = ops.floor(ops.mul(ops.add(order, sample), step));
  const drawn = castNode(ops.sub(places, ops.floor(ops.mul(sample, step))), 'int32');
  const isLast = ops.equal(ops.iota([1, 1, length], 2, 'int32'), ops.constant(length - 1, 'int32'));
  return ops.select(isLast, last, drawn);
}

/** Positions in the image that the windows cover, [n, c, oh * ow, kh * kw]. */
function covered(first: readonly [Node, Node], kernel: readonly number[], width: number): Node {
  const [n, c, rows] = first[0].shape as readonly [number, number, number];
  const columns = first[1].shape[2]!;
  const [kh, kw] = kernel as readonly [number, number];
  const y = ops.add(
    ops.reshape(first[0], [n, c, rows, 1, 1, 1]),
    ops.iota([1, 1, 1, 1, kh, 1], 4, 'int32'),
  );
  const x = ops.add(
    ops.reshape(first[1], [n, c, 1, columns, 1, 1]),
    ops.iota([1, 1, 1, 1, 1, kw], 5, 'int32'),
  );
  const at = ops.add(ops.mul(y, ops.constant(width, 'int32')), x);
  return ops.reshape(at, [n, c, rows * columns, kh * kw]);
}

/**
 * Maxima of x [n, c, h, w] over windows of `kernelSize`, whose places are drawn anew at every call, for
 * each channel of its own. As torch.nn.functional.fractional_max_pool2d; of several maxima the first
 * counts.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]);
 * const randomSamples = tensor([[[0.5, 0.5]]]);
 * fractionalMaxPool2d(x, 2, { outputSize: 2, randomSamples }); // => [[[[5, 6], [8, 9]]]]
 * ```
 */
export function fractionalMaxPool2d(
  x: Tensor,
  kernelSize: Sizes,
  options: FractionalPoolOptions & { readonly returnIndices: true },
): ValuesAndIndices;
export function fractionalMaxPool2d(
  x: Tensor,
  kernelSize: Sizes,
  options: FractionalPoolOptions,
): Tensor;
export function fractionalMaxPool2d(
  x: Tensor,
  kernelSize: Sizes,
  options: FractionalPoolOptions,
): Tensor | ValuesAndIndices {
  checkKeys(OP, options, ['outputSize', 'outputRatio', 'returnIndices', 'randomSamples']);
  const { returnIndices = false, randomSamples = null } = options;
  checkOption(OP, 'returnIndices', returnIndices, 'boolean');
  const { batched, unbatch } = withBatch(OP, nodeOf(OP, x), 2);
  const [n, c, height, width] = batched.shape as readonly [number, number, number, number];
  const kernel = perAxis(OP, 'kernelSize', kernelSize, 2, 1);
  const lengths = lengthsOf([height, width], options) as readonly [number, number];
  const fits = lengths.every(
    (length, axis) => length >= 1 && length + kernel[axis]! - 1 <= [height, width][axis]!,
  );
  if (!fits) {
    throw new ShapeError(
      `${formatShape(lengths)} windows of ${formatShape(kernel)} do not fit ${formatShape([height, width])}`,
      { op: OP },
    );
  }
  const samples = nodeOf(OP, randomSamples ?? rand([n, c, 2]));
  if (!isFloat(samples.dtype) || !sameShape(samples.shape, [n, c, 2])) {
    throw new ShapeError(
      `randomSamples must be ${formatShape([n, c, 2])} of floats, got ${formatShape(samples.shape)} of ${samples.dtype}`,
      { op: OP },
    );
  }
  const sample = (k: number): Node => ops.detach(ops.narrowAxis(samples, 2, k, 1));
  const first = [
    starts(sample(1), height, lengths[0], kernel[0]!),
    starts(sample(0), width, lengths[1], kernel[1]!),
  ] as const;
  const at = covered(first, kernel, width);
  const [places, taps] = at.shape.slice(2) as [number, number];
  const flat = ops.reshape(batched, [n, c, height * width]);
  const index = ops.reshape(at, [n, c, places * taps]);
  const read = ops.reshape(ops.gather(ops.detach(flat), index, 2), [n, c, places, taps]);
  const best = ops.reshape(ops.argmax(read, 3), [n, c, places, 1]);
  const found = ops.reshape(ops.gather(at, best, 3), [n, c, places]);
  const shape = [n, c, ...lengths];
  const values = wrap(unbatch(ops.reshape(ops.gather(flat, found, 2), shape)));
  if (!returnIndices) return values;
  return { values, indices: wrap(unbatch(ops.reshape(found, shape))) };
}
