// Methods of Tensor for indexing, scattering, order and search, each one line over a free function.
import type { KeepDims } from './arguments.ts';
import type { TensorLike } from './handle.ts';
import type { IndexArgument } from './index-argument.ts';
import * as indexing from './indexing.ts';
import type { ValuesAndIndices } from './reductions.ts';
import * as scattering from './scattering.ts';
import * as selection from './selection.ts';
import { ShapeMethods } from './shape-methods.ts';
import * as sorting from './sorting.ts';
import type { Tensor } from './tensor.ts';

export class IndexMethods extends ShapeMethods {
  // ---- indexing -------------------------------------------------------------------------------

  /** The part at the given indices, one per axis: numbers, ranges, null, '...', arrays, masks. */
  at(this: Tensor, ...indices: readonly IndexArgument[]): Tensor {
    return indexing.at(this, ...indices);
  }
  /** A copy in which the part at `indices` is `value`. */
  set(this: Tensor, indices: readonly IndexArgument[], value: TensorLike): Tensor {
    return indexing.setAt(this, indices, value);
  }
  /** A copy with `values` at index tensors, or added there. */
  indexPut(
    this: Tensor,
    indices: readonly Tensor[],
    values: TensorLike,
    options?: { accumulate?: boolean },
  ): Tensor {
    return indexing.indexPut(this, indices, values, options);
  }
  /** Elements of the flattened tensor at positions. */
  take(this: Tensor, index: Tensor): Tensor {
    return indexing.take(this, index);
  }
  /** Elements along an axis at an index of the result's shape. */
  gather(this: Tensor, axis: number, index: Tensor): Tensor {
    return scattering.gather(this, axis, index);
  }
  /** As `gather`, with broadcasting. */
  takeAlongDim(this: Tensor, index: Tensor, axis?: number): Tensor {
    return scattering.takeAlongDim(this, index, axis);
  }
  /** Slices along an axis at the positions of a vector. */
  indexSelect(this: Tensor, axis: number, index: Tensor): Tensor {
    return scattering.indexSelect(this, axis, index);
  }
  /** With `alpha * source` added in the rows of a vector of positions. */
  indexAdd(
    this: Tensor,
    axis: number,
    index: Tensor,
    source: Tensor,
    options?: { alpha?: number },
  ): Tensor {
    return scattering.indexAdd(this, axis, index, source, options);
  }
  /** With `source` in the rows of a vector of positions. */
  indexCopy(this: Tensor, axis: number, index: Tensor, source: Tensor): Tensor {
    return scattering.indexCopy(this, axis, index, source);
  }
  /** With `source` written at an index along an axis. */
  scatter(this: Tensor, axis: number, index: Tensor, source: TensorLike): Tensor {
    return scattering.scatter(this, axis, index, source);
  }
  /** With `source` added at an index along an axis. */
  scatterAdd(this: Tensor, axis: number, index: Tensor, source: TensorLike): Tensor {
    return scattering.scatterAdd(this, axis, index, source);
  }
  /** With `source` joined in at an index along an axis. */
  scatterReduce(
    this: Tensor,
    axis: number,
    index: Tensor,
    source: Tensor,
    reduce: scattering.ScatterReduction,
    options?: { includeSelf?: boolean },
  ): Tensor {
    return scattering.scatterReduce(this, axis, index, source, reduce, options);
  }
  /** The elements where a mask is true, as a vector. */
  maskedSelect(this: Tensor, mask: Tensor): Tensor {
    return selection.maskedSelect(this, mask);
  }
  /** Positions of nonzero elements. */
  nonzero(this: Tensor): Tensor {
    return selection.nonzero(this);
  }
  /** Each element so many times in a row. */
  repeatInterleave(this: Tensor, repeats: number | Tensor, axis?: number): Tensor {
    return selection.repeatInterleave(this, repeats, axis);
  }

  // ---- order ----------------------------------------------------------------------------------

  /** Sorted along an axis, and where each element stood. */
  sort(this: Tensor, axis?: number, options?: sorting.SortOptions): ValuesAndIndices {
    return sorting.sort(this, axis, options);
  }
  /** Positions that sort along an axis. */
  argsort(this: Tensor, axis?: number, options?: sorting.SortOptions): Tensor {
    return sorting.argsort(this, axis, options);
  }
  /** The `k` largest (or smallest) along an axis, in order. */
  topk(
    this: Tensor,
    k: number,
    axis?: number,
    options?: { largest?: boolean; sorted?: boolean },
  ): ValuesAndIndices {
    return sorting.topk(this, k, axis, options);
  }
  /** The k-th smallest along an axis. */
  kthvalue(this: Tensor, k: number, axis?: number, options?: KeepDims): ValuesAndIndices {
    return sorting.kthvalue(this, k, axis, options);
  }
  /** The lower median of all, or along an axis. */
  median(this: Tensor): Tensor;
  median(this: Tensor, axis: number, options?: KeepDims): ValuesAndIndices;
  median(this: Tensor, axis?: number, options?: KeepDims): Tensor | ValuesAndIndices {
    return axis === undefined ? sorting.median(this) : sorting.median(this, axis, options);
  }
  /** Running sum along an axis. */
  cumsum(this: Tensor, axis: number): Tensor {
    return sorting.cumsum(this, axis);
  }
  /** Running product along an axis. */
  cumprod(this: Tensor, axis: number): Tensor {
    return sorting.cumprod(this, axis);
  }
  /** The largest so far along an axis. */
  cummax(this: Tensor, axis: number): ValuesAndIndices {
    return sorting.cummax(this, axis);
  }
  /** The smallest so far along an axis. */
  cummin(this: Tensor, axis: number): ValuesAndIndices {
    return sorting.cummin(this, axis);
  }
}
