// Lookups by index: embeddings, bags of them, one-hot vectors.
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { isFloat } from '../../base/dtype.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from '../tensor/arguments.ts';
import { valuesNow } from '../tensor/conversion.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface EmbeddingOptions {
  /** Row that receives no gradient; negative counts from the end. */
  readonly paddingIdx?: number | null;
  /** Rows whose norm exceeds this are scaled down to it. */
  readonly maxNorm?: number | null;
  /** p of that norm; default 2. */
  readonly normType?: number;
}

/** The table with row `paddingIdx` cut off from gradients. */
function withoutPaddingGradient(table: Node, paddingIdx: number): Node {
  const rows = table.shape[0] as number;
  const row = paddingIdx < 0 ? paddingIdx + rows : paddingIdx;
  if (!Number.isInteger(paddingIdx) || row < 0 || row >= rows) {
    throw new ArgumentError(`paddingIdx ${paddingIdx} is out of range for ${rows} rows`, {
      op: 'embedding',
    });
  }
  const isPadding = ops.equal(ops.iota([rows, 1], 0, 'int32'), ops.constant(row, 'int32'));
  return ops.select(isPadding, ops.detach(table), table);
}

/** Rows scaled down to a norm of at most `maxNorm`. */
function limitRows(rows: Node, maxNorm: number, p: number): Node {
  const { dtype } = rows;
  const order = ops.constant(p, dtype);
  const magnitude = ops.pow(ops.abs(ops.detach(rows)), order);
  const norm = ops.pow(ops.sum(magnitude, -1, true), ops.constant(1 / p, dtype));
  const limit = ops.constant(maxNorm, dtype);
  const factor = ops.div(limit, ops.add(norm, ops.constant(1e-7, dtype)));
  return ops.mul(rows, ops.select(ops.greater(norm, limit), factor, ops.constant(1, dtype)));
}

/**
 * Rows of `weight` [count, size] at `indices` (integers of any shape): [...indices, size].
 * Throws ShapeError for an index out of range that the host knows.
 *
 * @example
 * ```ts
 * embedding(tensor([1, 0], { dtype: 'int32' }), tensor([[1, 2], [3, 4]])); // => [[3, 4], [1, 2]]
 * ```
 */
export function embedding(indices: Tensor, weight: Tensor, options: EmbeddingOptions = {}): Tensor {
  const { paddingIdx = null, maxNorm = null, normType = 2 } = options;
  let table = nodeOf('embedding', weight);
  if (table.shape.length !== 2 || !isFloat(table.dtype)) {
    throw new ShapeError(
      `the weight must be a float matrix, got ${table.dtype} ${formatShape(table.shape)}`,
      { op: 'embedding', hint: 'indices come first: embedding(indices, weight)' },
    );
  }
  const index = indexNode('embedding', indices, table.shape[0] as number);
  if (paddingIdx !== null) table = withoutPaddingGradient(table, paddingIdx);
  const rows = ops.take(table, index, 0);
  return wrap(maxNorm === null ? rows : limitRows(rows, maxNorm, normType));
}

export interface EmbeddingBagOptions {
  /** How a bag's rows are joined; default mean. */
  readonly mode?: 'sum' | 'mean' | 'max';
}

/**
 * Sums, means or maxima of bags of rows: `indices` [bags, size], or flat with `offsets`, the start
 * of each bag (read at once, since they decide the shapes).
 */
export function embeddingBag(
  indices: Tensor,
  weight: Tensor,
  offsets?: Tensor | null,
  options: EmbeddingBagOptions = {},
): Tensor {
  const { mode = 'mean' } = options;
  const table = nodeOf('embeddingBag', weight);
  const index = indexNode('embeddingBag', indices, table.shape[0] as number);
  if (offsets === undefined || offsets === null) {
    if (index.shape.length !== 2) {
      throw new ShapeError(`flat indices ${formatShape(index.shape)} need offsets`, {
        op: 'embeddingBag',
      });
    }
    return wrap(joinBag(ops.take(table, index, 0), 1, mode));
  }
  const starts = Array.from(valuesNow('embeddingBag', offsets));
  const count = index.shape[0] as number;
  const bags = starts.map((start, i) => {
    const end = starts[i + 1] ?? count;
    if (!(start >= 0 && end >= start && end <= count)) {
      throw new ArgumentError(`offsets ${starts.join(',')} do not rise from 0 to ${count}`, {
        op: 'embeddingBag',
      });
    }
    const rows = ops.take(table, ops.narrowAxis(index, 0, start, end - start), 0);
    const joined =
      end === start
        ? ops.full([1, table.shape[1] as number], 0, table.dtype)
        : ops.reshape(joinBag(rows, 0, mode), [1, table.shape[1] as number]);
    return joined;
  });
  return wrap(ops.concat(bags, 0));
}

function joinBag(rows: Node, axis: number, mode: 'sum' | 'mean' | 'max'): Node {
  switch (mode) {
    case 'sum':
      return ops.sum(rows, axis);
    case 'mean': {
      const count = Math.max(rows.shape[axis] as number, 1);
      return ops.mul(ops.sum(rows, axis), ops.constant(1 / count, rows.dtype));
    }
    case 'max':
      return ops.max(rows, axis);
    default:
      mode satisfies never;
      throw new ArgumentError(`mode must be sum, mean or max, got ${String(mode)}`, {
        op: 'embeddingBag',
      });
  }
}

/**
 * Vectors with a one at the given class and zeros elsewhere: int32 [...x, numClasses]. Without
 * `numClasses` the values are read at once, and the largest decides.
 *
 * @example
 * ```ts
 * oneHot(tensor([2, 0], { dtype: 'int32' }), 3); // => [[0, 0, 1], [1, 0, 0]]
 * ```
 */
export function oneHot(x: Tensor, numClasses = -1): Tensor {
  const node = nodeOf('oneHot', x);
  if (isFloat(node.dtype) || node.dtype === 'bool') {
    throw new DTypeError(`takes integers, not ${node.dtype}`, {
      op: 'oneHot',
      hint: "cast to 'int32' first",
    });
  }
  let classes = numClasses;
  if (classes === -1) classes = Math.max(-1, ...Array.from(valuesNow('oneHot', x))) + 1;
  checkInteger('oneHot', 'numClasses', classes, 1);
  const index = indexNode('oneHot', x, classes);
  const places = ops.iota([...index.shape, classes], index.shape.length, 'int32');
  const spread = ops.reshape(index, [...index.shape, 1]);
  return wrap(castNode(ops.equal(spread, places), 'int32'));
}
