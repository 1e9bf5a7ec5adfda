// Shape algebra: sizes, strides, axes, broadcasting. Shapes are plain readonly arrays.
import { describeValue } from './checks.ts';
import { ShapeError } from './errors.ts';

export type Shape = readonly number[];

/** Number of elements: the product of all sizes, 1 for a scalar. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (let axis = 0; axis < shape.length; axis++) size *= shape[axis] as number;
  return size;
}

/** `[2,3]`, as it stands in messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(',')}]`;
}

export function sameShape(a: Shape, b: Shape): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let axis = 0; axis < a.length; axis++) if (a[axis] !== b[axis]) return false;
  return true;
}

/** Row-major strides, in elements. */
export function contiguousStrides(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis] as number;
  }
  return strides;
}

/** An axis counted from the end if negative, checked. */
export function normalizeAxis(op: string, axis: number, rank: number): number {
  const normal = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normal < 0 || normal >= rank) {
    throw new ShapeError(`axis ${axis} is out of range for ${rank} dimension(s)`, {
      op,
      ...(rank > 0 ? { hint: `valid axes are ${-rank} to ${rank - 1}` } : {}),
    });
  }
  return normal;
}

/** Sorted unique axes; `undefined` means all of them. */
export function normalizeAxes(
  op: string,
  axes: number | readonly number[] | undefined,
  rank: number,
): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, axis) => axis);
  const list = typeof axes === 'number' ? [axes] : axes;
  const normal = list.map((axis) => normalizeAxis(op, axis, rank));
  const unique = [...new Set(normal)].sort((a, b) => a - b);
  if (unique.length !== normal.length) {
    throw new ShapeError(`axis appears twice in [${list.join(',')}]`, { op });
  }
  return unique;
}

/** The common shape of operands under NumPy's broadcasting rules. */
export function broadcastShapes(op: string, ...shapes: readonly Shape[]): number[] {
  let rank = 0;
  for (const shape of shapes) rank = Math.max(rank, shape.length);
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    const shift = rank - shape.length;
    for (let axis = 0; axis < shape.length; axis++) {
      const size = shape[axis] as number;
      const known = result[axis + shift] as number;
      if (size === known || size === 1) continue;
      if (known !== 1) {
        throw new ShapeError(
          `shapes ${shapes.map(formatShape).join(' and ')} do not broadcast (${known} vs ${size} at axis ${axis + shift - rank})`,
          { op, hint: 'sizes must be equal or 1, aligned at the last axis' },
        );
      }
      result[axis + shift] = size;
    }
  }
  return result;
}

/** Throws unless every size is a non-negative integer. */
export function checkShape(op: string, shape: Shape): void {
  if (Array.isArray(shape) && shape.every((size) => Number.isInteger(size) && size >= 0)) return;
  const given = Array.isArray(shape) ? formatShape(shape) : describeValue(shape);
  throw new ShapeError(`sizes must be non-negative integers, got ${given}`, { op });
}

/** The shape left after reducing `axes` (sorted, normalized). */
export function reducedShape(shape: Shape, axes: readonly number[], keepdims: boolean): number[] {
  const result: number[] = [];
  for (let axis = 0; axis < shape.length; axis++) {
    if (!axes.includes(axis)) result.push(shape[axis] as number);
    else if (keepdims) result.push(1);
  }
  return result;
}
