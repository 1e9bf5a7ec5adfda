// Scaled dot-product attention.
import { checkNumber } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import type { Generator } from '../tensor/generator.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import { matmulNode } from '../tensor/linear-algebra.ts';
import { sourceOf } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { softmaxNode } from './softmax.ts';

export interface AttentionOptions {
  /** bool: true where a query may look; float: added to the scores. Broadcasts to [.., L, S]. */
  readonly attnMask?: Tensor | null;
  /** Whether query i sees keys 0 to i only. */
  readonly isCausal?: boolean;
  /** Probability that a weight is dropped; default 0. */
  readonly dropoutP?: number;
  /** Factor of the scores; default 1 / sqrt(size of a query). */
  readonly scale?: number | null;
  readonly generator?: Generator;
}

/** Scores of what must not be seen become -Infinity. */
function maskScores(scores: Node, options: AttentionOptions): Node {
  const hidden = ops.constant(-Infinity, scores.dtype);
  if (options.isCausal === true) {
    const plane = scores.shape.slice(-2);
    const seen = ops.greaterEqual(ops.iota(plane, 0, 'int32'), ops.iota(plane, 1, 'int32'));
    return ops.select(seen, scores, hidden);
  }
  const { attnMask } = options;
  if (attnMask === undefined || attnMask === null) return scores;
  const mask = nodeOf('scaledDotProductAttention', attnMask);
  if (mask.dtype === 'bool') return ops.select(mask, scores, hidden);
  return ops.add(scores, castNode(mask, scores.dtype));
}

/** What dropout makes of weights: what the fused op draws, too. */
function dropFactors(weights: Node, p: number, generator: Generator | undefined): Node {
  const zero = ops.constant(0, weights.dtype);
  if (p === 1) return zero;
  const { shape, dtype } = weights;
  const count = sizeOf(shape.slice(0, -1)) * ops.drawnKeys(shape.at(-1)!);
  return ops.keptFactors(shape, dtype, p, sourceOf(count, generator));
}

/** With fewer queries than this, scores take less room than blocks: docs/decisions/0008-attention.md. */
export const FUSED_QUERIES = 32;

/**
 * A mask of all axes, those of size 1 left as they are but for the keys: then its gradient is summed
 * where it is computed.
 */
function shared(op: string, mask: Node, batch: Shape, plane: readonly number[]): Node {
  const whole = [...batch, ...plane];
  const shape = [...new Array<number>(whole.length - mask.shape.length).fill(1), ...mask.shape];
  if (!shape.every((size, axis) => size === 1 || size === whole[axis])) {
    throw new ShapeError(`attnMask ${formatShape(mask.shape)} is not for ${formatShape(whole)}`, {
      op,
    });
  }
  return ops.expand(ops.reshape(mask, shape), [...shape.slice(0, -1), plane[1]!]);
}

/** The op that never stores all scores; halves are computed as float32. */
function fused(
  op: string,
  [q, k, v]: readonly [Node, Node, Node],
  scale: number,
  options: AttentionOptions,
): Node {
  const dtype = q.dtype === 'float64' ? 'float64' : 'float32';
  let mask: Node | null = null;
  if (options.attnMask !== undefined && options.attnMask !== null) {
    mask = nodeOf(op, options.attnMask);
    const hidden = ops.constant(-Infinity, dtype);
    mask =
      mask.dtype === 'bool'
        ? ops.select(mask, ops.constant(0, dtype), hidden)
        : castNode(mask, dtype);
  }
  const parts = mask === null ? [q, k, v] : [q, k, v, mask];
  const batch = broadcastShapes(op, ...parts.map(({ shape }) => shape.slice(0, -2)));
  const wide = (node: Node, plane: Shape): Node =>
    ops.expand(castNode(node, dtype), [...batch, ...plane]);
  const [wideQ, wideK, wideV] = [q, k, v].map((x) => wide(x, x.shape.slice(-2)));
  const plane = [q.shape.at(-2)!, k.shape.at(-2)!];
  const dropout = options.dropoutP ?? 0;
  const count = sizeOf(batch) * plane[0]! * ops.drawnKeys(plane[1]!);
  const attrs = {
    scale,
    causal: options.isCausal === true,
    ...(dropout > 0 ? { dropout, source: sourceOf(count, options.generator) } : {}),
  };
  const added = mask === null ? null : shared(op, castNode(mask, dtype), batch, plane);
  return castNode(ops.attention(wideQ!, wideK!, wideV!, added, attrs), q.dtype);
}

/**
 * softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017): query [.., L, E], key [.., S, E], value
 * [.., S, V] give [.., L, V]. A query that may see nothing gives NaN, as in PyTorch.
 *
 * The [.., L, S] scores are not stored, forward or backward (FlashAttention: Dao et al. 2022,
 * arXiv:2205.14135), except with fewer than 32 queries and in gradients of gradients. The gradient of a
 * float mask has the mask's size. What dropout drops is drawn again in the backward pass.
 */
export function scaledDotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const op = 'scaledDotProductAttention';
  const { dropoutP = 0, isCausal = false } = options;
  checkNumber(op, 'dropoutP', dropoutP, [0, 1]);
  const q = floatNode(op, query);
  const k = castNode(floatNode(op, key), q.dtype);
  const v = castNode(floatNode(op, value), q.dtype);
  const size = q.shape.at(-1);
  const fits =
    q.shape.length >= 2 &&
    k.shape.length >= 2 &&
    v.shape.length >= 2 &&
    k.shape.at(-1) === size &&
    v.shape.at(-2) === k.shape.at(-2);
  if (!fits || size === undefined) {
    throw new ShapeError(
      `query ${formatShape(q.shape)}, key ${formatShape(k.shape)} and value ${formatShape(v.shape)} do not fit`,
      { op, hint: 'query [.., L, E], key [.., S, E], value [.., S, V]' },
    );
  }
  if (isCausal && options.attnMask !== undefined && options.attnMask !== null) {
    throw new ArgumentError('give isCausal or attnMask, not both', { op });
  }
  const scale = options.scale ?? 1 / Math.sqrt(size);
  const isEmpty = [q, k, v].some(({ shape }) => sizeOf(shape) === 0);
  if (dropoutP < 1 && q.shape.at(-2)! >= FUSED_QUERIES && !isEmpty) {
    return wrap(fused(op, [q, k, v], scale, options));
  }
  const scaled = ops.mul(q, numberNode(scale, q.dtype));
  const scores = maskScores(matmulNode(op, scaled, ops.transpose(k)), options);
  let weights = softmaxNode(scores, scores.shape.length - 1);
  if (dropoutP > 0) {
    weights = ops.mul(weights, dropFactors(weights, dropoutP, options.generator));
  }
  return wrap(matmulNode(op, weights, v));
}
