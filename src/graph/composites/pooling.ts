// Averages under windows, and pools whose windows divide the input into a given number of parts.
import { ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  add,
  argmax,
  cast,
  constant,
  div,
  expand,
  full,
  gather,
  greaterEqual,
  iota,
  less,
  logicalAnd,
  matmul,
  maxPool,
  maxPoolIndices,
  maximum,
  minimum,
  mul,
  permute,
  type PoolWindow,
  reshape,
  sub,
  sumPool,
  take,
  transpose,
  truncDivide,
} from '../ops/index.ts';

export interface AveragePoolOptions {
  /** Whether padding counts as elements (default), as in PyTorch. */
  readonly countIncludePad?: boolean;
  /** Divides by this instead of by the number of elements. */
  readonly divisor?: number;
  /** The padding that counts, where `window.padding` was enlarged to round sizes up. */
  readonly countedPadding?: readonly number[];
}

/** Mean under each window over the last axes. Throws ShapeError. */
export function averagePool(x: Node, window: PoolWindow, options: AveragePoolOptions = {}): Node {
  const total = sumPool(x, window);
  const { divisor } = options;
  if (divisor !== undefined) return mul(total, constant(1 / divisor, x.dtype));
  const rank = window.kernel.length;
  const space = x.shape.slice(-rank);
  const padding = options.countedPadding ?? window.padding;
  const include = options.countIncludePad !== false;
  const plain =
    window.padding.every((amount) => amount === 0) ||
    (include && padding.every((amount, i) => amount === window.padding[i]));
  if (plain) {
    const size = window.kernel.reduce((a, b) => a * b, 1);
    return mul(total, constant(1 / size, x.dtype));
  }
  let counts: Node = constant(1, x.dtype);
  for (let axis = 0; axis < rank; axis++) {
    const before = window.padding[2 * axis]!;
    const low = include ? -padding[2 * axis]! : 0;
    const high = space[axis]! + (include ? padding[2 * axis + 1]! : 0);
    const length = total.shape[total.shape.length - rank + axis]!;
    const along =
      axis - rank + 1 === 0 ? [length] : [length, ...new Array<number>(rank - axis - 1).fill(1)];
    const number = (value: number): Node => constant(value, 'int32');
    const start = sub(mul(iota(along, 0, 'int32'), number(window.stride[axis]!)), number(before));
    const end = minimum(add(start, number(window.kernel[axis]!)), number(high));
    counts = mul(counts, cast(sub(end, maximum(start, number(low))), x.dtype));
  }
  return div(total, counts);
}

function checkAdaptive(op: string, x: Node, size: Shape): void {
  const space = x.shape.slice(-size.length);
  const right =
    size.length >= 1 &&
    x.shape.length >= size.length &&
    size.every((length) => Number.isInteger(length) && length >= 0) &&
    space.every((length, i) => length > 0 || size[i] === 0);
  if (!right) {
    throw new ShapeError(`${formatShape(x.shape)} does not pool to ${formatShape(size)}`, { op });
  }
}

/** The window that divides every axis evenly, if there is one. */
function evenWindow(space: Shape, size: Shape): PoolWindow | null {
  if (!space.every((length, i) => size[i]! > 0 && Number.isInteger(length / size[i]!))) return null;
  const kernel = space.map((length, i) => length / size[i]!);
  const dilation = space.map(() => 1);
  return { kernel, stride: kernel, padding: space.flatMap(() => [0, 0]), dilation };
}

/** First element of part i, and the one after its last: int32 of shape [parts, 1]. */
function parts(length: number, count: number): { start: Node; end: Node } {
  const number = (value: number): Node => constant(value, 'int32');
  const index = mul(iota([count, 1], 0, 'int32'), number(length));
  const start = truncDivide(index, number(count));
  const end = truncDivide(add(index, number(length + count - 1)), number(count));
  return { start, end };
}

/**
 * Mean over `size[i]` parts of each of the last axes; part i runs from floor(i L / n) to
 * ceil((i + 1) L / n), as in PyTorch. Throws ShapeError.
 */
export function adaptiveAveragePool(x: Node, size: Shape): Node {
  checkAdaptive('adaptiveAveragePool', x, size);
  const space = x.shape.slice(-size.length);
  const even = evenWindow(space, size);
  if (even !== null) return averagePool(x, even);
  const first = x.shape.length - size.length;
  return size.reduce((pooled, count, i) => {
    const length = space[i]!;
    const { start, end } = parts(length, count);
    const place = iota([count, length], 1, 'int32');
    const inside = logicalAnd(greaterEqual(place, start), less(place, end));
    const weights = div(cast(inside, x.dtype), cast(sub(end, start), x.dtype));
    return alongAxis(pooled, first + i, weights);
  }, x);
}

/** Multiplies axis `axis` of `x` by a matrix [new size, old size]. */
function alongAxis(x: Node, axis: number, matrix: Node): Node {
  const moved = transpose(x, axis, -1);
  const lead = moved.shape.slice(0, -1);
  const rows = lead.reduce((a, b) => a * b, 1);
  const product = matmul(reshape(moved, [rows, moved.shape.at(-1)!]), transpose(matrix));
  return transpose(reshape(product, [...lead, product.shape[1]!]), axis, -1);
}

/** Maximum over the parts of `adaptiveAveragePool`, and its row-major position in the space axes. */
export function adaptiveMaxPool(x: Node, size: Shape): { values: Node; indices: Node } {
  checkAdaptive('adaptiveMaxPool', x, size);
  const rank = size.length;
  const space = x.shape.slice(-rank);
  const lead = x.shape.slice(0, -rank);
  const even = evenWindow(space, size);
  if (even !== null) return { values: maxPool(x, even), indices: maxPoolIndices(x, even) };
  if (size.includes(0)) {
    const shape = [...lead, ...size];
    return { values: full(shape, 0, x.dtype), indices: full(shape, 0, 'int32') };
  }
  // Windows as extra axes: [...lead, size0, window0, size1, window1, ...].
  let windows = x;
  let positions: Node = full([], 0, 'int32');
  const counts: number[] = [];
  size.forEach((count, i) => {
    const length = space[i]!;
    const { start, end } = parts(length, count);
    // Shorter parts repeat their last element, which changes no maximum and no first position.
    const longest = Math.ceil(length / count) + (length % count === 0 ? 0 : 1);
    const step = iota([count, longest], 1, 'int32');
    const one = constant(1, 'int32');
    const index = minimum(add(start, step), sub(end, one));
    windows = take(windows, index, lead.length + 2 * i);
    const shape = size.flatMap((_, j) => (j === i ? [count, longest] : [1, 1]));
    const scaled = mul(positions, constant(length, 'int32'));
    positions = add(scaled, reshape(index, shape));
    counts.push(longest);
  });
  const order = [...size.map((_, i) => 2 * i), ...size.map((_, i) => 2 * i + 1)];
  const inWindow = counts.reduce((a, b) => a * b, 1);
  const grouped = reshape(
    permute(windows, [...lead.map((_, i) => i), ...order.map((axis) => lead.length + axis)]),
    [...lead, ...size, inWindow],
  );
  const best = argmax(grouped, -1, true);
  const flat = reshape(permute(positions, order), [...size, inWindow]);
  const shape = [...lead, ...size];
  return {
    values: reshape(gather(grouped, best, -1), shape),
    indices: reshape(gather(expand(flat, grouped.shape), best, -1), shape),
  };
}
