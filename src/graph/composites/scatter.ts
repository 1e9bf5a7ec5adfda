// Writing at computed positions: into a copy of a tensor, by rows, elements or several indices.
import { isFloat } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, normalizeAxis, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  add,
  addRows,
  clamp,
  concat,
  constant,
  div,
  expand,
  floorDivide,
  full,
  gather,
  greater,
  greaterEqual,
  iota,
  less,
  maximum,
  mul,
  reshape,
  scatterAdd,
  scatterReduce,
  select,
  take,
} from '../ops/index.ts';

/** Indices counted from the end where negative. */
export function fromStart(index: Node, size: number): Node {
  const zero = constant(0, 'int32');
  return select(less(index, zero), add(index, constant(size, 'int32')), index);
}

/** `base` with `source` set at `index` along `axis`; of several at one place, the last stays. */
export function scatterReplace(base: Node, index: Node, source: Node, axis: number): Node {
  const normal = normalizeAxis('scatter', axis, base.shape.length);
  const size = base.shape[normal]!;
  const beside = index.shape.every((length, i) => i === normal || length === base.shape[i]);
  if (!beside) {
    throw new ShapeError(
      `index ${formatShape(index.shape)} and values ${formatShape(base.shape)} differ beside axis ${axis}`,
      { op: 'scatter' },
    );
  }
  if (index.shape[normal] === 0 || size === 0) return base;
  const order = iota(index.shape, normal, 'int32');
  const winner = scatterReduce(order, index, normal, size, 'max');
  const zero = constant(0, 'int32');
  const chosen = gather(source, maximum(winner, zero), normal);
  return select(greaterEqual(winner, zero), chosen, base);
}

export type ScatterReduction = 'sum' | 'prod' | 'mean' | 'amax' | 'amin';

/**
 * `base` joined with the elements of `source` at `index` along `axis` (index of source's shape,
 * base's sizes beside the axis). Without `includeSelf`, places that receive something forget their
 * own value.
 */
export function scatterReduceInto(
  base: Node,
  index: Node,
  source: Node,
  axis: number,
  reduction: ScatterReduction,
  includeSelf = true,
): Node {
  const normal = normalizeAxis('scatterReduce', axis, base.shape.length);
  const size = base.shape[normal]!;
  if (index.shape[normal] === 0 || size === 0) return base;
  const ones = full(index.shape, 1, base.dtype);
  const count = scatterAdd(ones, index, normal, size);
  const zero = constant(0, base.dtype);
  const touched = greater(count, zero);
  if (reduction === 'sum' || reduction === 'mean') {
    const start = includeSelf ? base : select(touched, zero, base);
    const total = add(start, scatterAdd(source, index, normal, size));
    if (reduction === 'sum') return total;
    const one = constant(1, base.dtype);
    const divisor = includeSelf ? add(count, one) : maximum(count, one);
    return meanOf(total, divisor);
  }
  const kind = ({ prod: 'prod', amax: 'max', amin: 'min' } as const)[reduction];
  if (!includeSelf) {
    return select(touched, scatterReduce(source, index, normal, size, kind), base);
  }
  if (kind === 'prod') return mul(base, scatterReduce(source, index, normal, size, kind));
  return joinExtreme(base, index, source, normal, kind);
}

function meanOf(total: Node, divisor: Node): Node {
  return isFloat(total.dtype) ? div(total, divisor) : floorDivide(total, divisor);
}

/** The own value takes part as one more element, so that ties share with it evenly. */
function joinExtreme(
  base: Node,
  index: Node,
  source: Node,
  axis: number,
  kind: 'max' | 'min',
): Node {
  const all = concat([source, base], axis);
  const places = concat([index, iota(base.shape, axis, 'int32')], axis);
  return scatterReduce(all, places, axis, base.shape[axis]!, kind);
}

/** Row-major positions within the leading axes of `x` that several index tensors name together. */
function flatIndices(op: string, x: Node, indices: readonly Node[]): Node {
  if (indices.length === 0 || indices.length > x.shape.length) {
    throw new ShapeError(`${indices.length} indices for ${formatShape(x.shape)}`, { op });
  }
  const shape = broadcastShapes(op, ...indices.map((index) => index.shape));
  const flat = indices.reduce<Node | null>((position, index, axis) => {
    const size = x.shape[axis]!;
    const high = constant(Math.max(size - 1, 0), 'int32');
    const own = clamp(fromStart(index, size), constant(0, 'int32'), high);
    return position === null ? own : add(mul(position, constant(size, 'int32')), own);
  }, null);
  return expand(flat!, shape);
}

/**
 * `x[indices[0], indices[1], ...]`: int32 tensors that broadcast, one for each leading axis.
 * Negative ones count from the end.
 */
export function gatherND(x: Node, indices: readonly Node[]): Node {
  const flat = flatIndices('gatherND', x, indices);
  const rest = x.shape.slice(indices.length);
  const rows = sizeOf(x.shape.slice(0, indices.length));
  return take(reshape(x, [rows, ...rest]), flat, 0);
}

/**
 * `base` with `source` (which broadcasts to the shape of `gatherND(base, indices)`) set, or added
 * with `accumulate`, at the named places. Of several at one place, the last one set stays.
 */
export function putND(
  base: Node,
  indices: readonly Node[],
  source: Node,
  accumulate = false,
): Node {
  const flat = flatIndices('putND', base, indices);
  const rest = base.shape.slice(indices.length);
  const rows = sizeOf(base.shape.slice(0, indices.length));
  const count = sizeOf(flat.shape);
  if (count === 0 || rows === 0) return base;
  const values = reshape(expand(source, [...flat.shape, ...rest]), [count, ...rest]);
  const places = reshape(flat, [count]);
  if (accumulate) return add(base, reshape(addRows(values, places, 0, rows), base.shape));
  const winner = scatterReduce(iota([count], 0, 'int32'), places, 0, rows, 'max');
  const zero = constant(0, 'int32');
  const chosen = take(values, maximum(winner, zero), 0);
  const column = reshape(greaterEqual(winner, zero), [rows, ...rest.map(() => 1)]);
  const flatBase = reshape(base, [rows, ...rest]);
  return reshape(select(column, chosen, flatBase), base.shape);
}
