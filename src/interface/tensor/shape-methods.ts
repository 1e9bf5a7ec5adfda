// Methods of Tensor for reductions, shapes and products, each one line over a free function.
import type { Shape } from '../../base/shape.ts';
import type { AxisArgument, KeepDims } from './arguments.ts';
import { ElementwiseMethods } from './elementwise-methods.ts';
import * as joining from './joining.ts';
import * as linear from './linear-algebra.ts';
import * as reductions from './reductions.ts';
import * as shaping from './shaping.ts';
import type { Tensor } from './tensor.ts';

export class ShapeMethods extends ElementwiseMethods {
  // ---- reductions -----------------------------------------------------------------------------

  /** Sum along axes (all by default); integers accumulate in int32. */
  sum(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.sum(this, axis, options);
  }
  /** Mean along axes. */
  mean(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.mean(this, axis, options);
  }
  /** Product along axes. */
  prod(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.prod(this, axis, options);
  }
  /** The largest of all; with an axis, the largest along it and its position. */
  max(this: Tensor): Tensor;
  max(this: Tensor, axis: number, options?: KeepDims): reductions.ValuesAndIndices;
  max(this: Tensor, axis?: number, options?: KeepDims): Tensor | reductions.ValuesAndIndices {
    return axis === undefined ? reductions.max(this) : reductions.max(this, axis, options);
  }
  /** The smallest of all; with an axis, the smallest along it and its position. */
  min(this: Tensor): Tensor;
  min(this: Tensor, axis: number, options?: KeepDims): reductions.ValuesAndIndices;
  min(this: Tensor, axis?: number, options?: KeepDims): Tensor | reductions.ValuesAndIndices {
    return axis === undefined ? reductions.min(this) : reductions.min(this, axis, options);
  }
  /** The largest along axes; equal ones share the gradient. */
  amax(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.amax(this, axis, options);
  }
  /** The smallest along axes; equal ones share the gradient. */
  amin(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.amin(this, axis, options);
  }
  /** int32 position of the first largest element. */
  argmax(this: Tensor, axis?: number | null, options?: KeepDims): Tensor {
    return reductions.argmax(this, axis, options);
  }
  /** int32 position of the first smallest element. */
  argmin(this: Tensor, axis?: number | null, options?: KeepDims): Tensor {
    return reductions.argmin(this, axis, options);
  }
  /** Variance, unbiased unless `correction` is 0. */
  var(this: Tensor, axis?: AxisArgument | null, options?: reductions.VarianceOptions): Tensor {
    return reductions.variance(this, axis, options);
  }
  /** Standard deviation, unbiased unless `correction` is 0. */
  std(this: Tensor, axis?: AxisArgument | null, options?: reductions.VarianceOptions): Tensor {
    return reductions.std(this, axis, options);
  }
  /** Whether all are nonzero. */
  all(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.all(this, axis, options);
  }
  /** Whether any is nonzero. */
  any(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.any(this, axis, options);
  }
  /** int32 number of nonzero elements. */
  countNonzero(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.countNonzero(this, axis, options);
  }
  /** The p-norm along axes. */
  norm(this: Tensor, p?: number | 'fro', axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.norm(this, p, axis, options);
  }
  /** `log(sum(exp(this)))` along axes. */
  logsumexp(this: Tensor, axis?: AxisArgument | null, options?: KeepDims): Tensor {
    return reductions.logsumexp(this, axis, options);
  }

  // ---- shapes ---------------------------------------------------------------------------------

  /** The same elements, row-major, under another shape; one size may be -1. */
  reshape(this: Tensor, ...shape: (number | Shape)[]): Tensor {
    return shaping.reshape(this, ...shape);
  }
  /** As `reshape`. */
  view(this: Tensor, ...shape: (number | Shape)[]): Tensor {
    return shaping.reshape(this, ...shape);
  }
  /** Joins the axes from `start` to `end`. */
  flatten(this: Tensor, start?: number, end?: number): Tensor {
    return shaping.flatten(this, start, end);
  }
  /** Splits an axis into several. */
  unflatten(this: Tensor, axis: number, sizes: Shape): Tensor {
    return shaping.unflatten(this, axis, sizes);
  }
  /** Drops axes of size 1. */
  squeeze(this: Tensor, axis?: number | readonly number[]): Tensor {
    return shaping.squeeze(this, axis);
  }
  /** Adds an axis of size 1 before `axis`. */
  unsqueeze(this: Tensor, axis: number): Tensor {
    return shaping.unsqueeze(this, axis);
  }
  /** Swaps two axes, the last two by default. */
  transpose(this: Tensor, axis0?: number, axis1?: number): Tensor {
    return shaping.transpose(this, axis0, axis1);
  }
  /** The transpose of a matrix. */
  t(this: Tensor): Tensor {
    return shaping.t(this);
  }
  /** Axis i of the result is axis `axes[i]`. */
  permute(this: Tensor, ...axes: (number | readonly number[])[]): Tensor {
    return shaping.permute(this, ...axes);
  }
  /** Moves axes to other positions. */
  movedim(
    this: Tensor,
    source: number | readonly number[],
    destination: number | readonly number[],
  ): Tensor {
    return shaping.movedim(this, source, destination);
  }
  /** Repeats axes of size 1; -1 keeps an axis. */
  expand(this: Tensor, ...shape: (number | Shape)[]): Tensor {
    return shaping.expand(this, ...shape);
  }
  /** Repeated to `shape` by broadcasting. */
  broadcastTo(this: Tensor, ...shape: (number | Shape)[]): Tensor {
    return shaping.expand(this, ...shape);
  }
  /** With the shape of `other`, by broadcasting. */
  expandAs(this: Tensor, other: Tensor): Tensor {
    return shaping.expandAs(this, other);
  }
  /** The whole tensor so many times along each axis. */
  repeat(this: Tensor, ...repeats: (number | readonly number[])[]): Tensor {
    return shaping.repeat(this, ...repeats);
  }
  /** As `repeat`, where missing counts in front are 1. */
  tile(this: Tensor, ...repeats: (number | readonly number[])[]): Tensor {
    return shaping.tile(this, ...repeats);
  }
  /** Axes read backwards. */
  flip(this: Tensor, ...axes: (number | readonly number[])[]): Tensor {
    return shaping.flip(this, ...axes);
  }
  /** Elements moved along axes, around the end. */
  roll(
    this: Tensor,
    shifts: number | readonly number[],
    axes?: number | readonly number[],
  ): Tensor {
    return shaping.roll(this, shifts, axes);
  }
  /** A plane turned by `k` quarters. */
  rot90(this: Tensor, k?: number, axes?: readonly [number, number]): Tensor {
    return shaping.rot90(this, k, axes);
  }
  /** The lower triangle. */
  tril(this: Tensor, diagonal?: number): Tensor {
    return shaping.tril(this, diagonal);
  }
  /** The upper triangle. */
  triu(this: Tensor, diagonal?: number): Tensor {
    return shaping.triu(this, diagonal);
  }
  /** The diagonal of a plane, as a new last axis. */
  diagonal(this: Tensor, options?: shaping.DiagonalOptions): Tensor {
    return shaping.diagonal(this, options);
  }
  /** The last axis on the diagonal of a new plane. */
  diagEmbed(this: Tensor, options?: shaping.DiagonalOptions): Tensor {
    return shaping.diagEmbed(this, options);
  }
  /** A vector as a diagonal matrix, or a matrix's diagonal. */
  diag(this: Tensor, offset?: number): Tensor {
    return shaping.diag(this, offset);
  }
  /** Pieces of `size`, or of the given sizes, along an axis. */
  split(this: Tensor, size: number | readonly number[], axis?: number): Tensor[] {
    return joining.split(this, size, axis);
  }
  /** At most `chunks` equal pieces along an axis. */
  chunk(this: Tensor, chunks: number, axis?: number): Tensor[] {
    return joining.chunk(this, chunks, axis);
  }
  /** All slices along an axis. */
  unbind(this: Tensor, axis?: number): Tensor[] {
    return joining.unbind(this, axis);
  }
  /** The slice at `index` along an axis. */
  select(this: Tensor, axis: number, index: number): Tensor {
    return joining.select(this, axis, index);
  }
  /** `length` elements from `start` along an axis. */
  narrow(this: Tensor, axis: number, start: number, length: number): Tensor {
    return joining.narrow(this, axis, start, length);
  }
  /** Sliding windows along an axis, as a new last axis. */
  unfold(this: Tensor, axis: number, size: number, step: number): Tensor {
    return joining.unfoldAxis(this, axis, size, step);
  }
  /** Differences of neighbours along an axis. */
  diff(this: Tensor, n?: number, axis?: number): Tensor {
    return joining.diff(this, n, axis);
  }

  // ---- products -------------------------------------------------------------------------------

  /** Matrix product; leading axes are batches and broadcast. */
  matmul(this: Tensor, other: Tensor): Tensor {
    return linear.matmul(this, other);
  }
  /** Product of two matrices. */
  mm(this: Tensor, other: Tensor): Tensor {
    return linear.mm(this, other);
  }
  /** Products of two batches of matrices. */
  bmm(this: Tensor, other: Tensor): Tensor {
    return linear.bmm(this, other);
  }
  /** Product with a vector. */
  mv(this: Tensor, vector: Tensor): Tensor {
    return linear.mv(this, vector);
  }
  /** Sum of the products of two vectors. */
  dot(this: Tensor, other: Tensor): Tensor {
    return linear.dot(this, other);
  }
  /** All products of the elements of two vectors. */
  outer(this: Tensor, other: Tensor): Tensor {
    return linear.outer(this, other);
  }
  /** `beta * this + alpha * (a @ b)`. */
  addmm(this: Tensor, a: Tensor, b: Tensor, scales?: linear.ProductScales): Tensor {
    return linear.addmm(this, a, b, scales);
  }
  /** Sum of the diagonal. */
  trace(this: Tensor): Tensor {
    return linear.trace(this);
  }
}
