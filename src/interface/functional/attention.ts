// Scaled dot-product attention.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import type { Generator } from '../tensor/generator.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import { matmulNode } from '../tensor/linear-algebra.ts';
import { uniformNode } from '../tensor/random.ts';
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

/** The longer of two shapes, where sizes 1 give way. */
function fused(
  op: string,
  q: Node,
  k: Node,
  v: Node,
  scale: number,
  options: AttentionOptions,
): Node {
  const { attnMask, isCausal = false } = options;
  const mask = attnMask === undefined || attnMask === null ? null : nodeOf(op, attnMask);
  const lead = (node: Node): Shape => node.shape.slice(0, -2);
  let batch = broadcastShapes(op, broadcastShapes(op, lead(q), lead(k)), lead(v));
  if (mask !== null) batch = broadcastShapes(op, batch, lead(mask));
  const wide = (node: Node): Node => ops.expand(node, [...batch, ...node.shape.slice(-2)]);
  let added: Node | null = null;
  if (mask !== null) {
    const values =
      mask.dtype === 'bool'
        ? ops.select(mask, ops.constant(0, q.dtype), ops.constant(-Infinity, q.dtype))
        : castNode(mask, q.dtype);
    added = ops.expand(values, [...batch, q.shape.at(-2)!, k.shape.at(-2)!]);
  }
  return ops.attention(wide(q), wide(k), wide(v), added, { scale, causal: isCausal });
}

/**
 * softmax(q kᵀ · scale + mask) v (Vaswani et al. 2017): query [.., L, E], key [.., S, E], value
 * [.., S, V] give [.., L, V]. A query that may see nothing gives NaN, as in PyTorch.
 */
export function scaledDotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const op = 'scaledDotProductAttention';
  const { dropoutP = 0, isCausal = false } = options;
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
  if (process.env['FUSED'] === '1') return wrap(fused(op, q, k, v, scale, options));
  const scaled = ops.mul(q, numberNode(scale, q.dtype));
  const scores = maskScores(matmulNode(op, scaled, ops.transpose(k)), options);
  let weights = softmaxNode(scores, scores.shape.length - 1);
  if (dropoutP > 0) {
    const drawn = uniformNode(weights.shape, 'float32', options.generator);
    const kept = ops.greaterEqual(drawn, numberNode(dropoutP, 'float32'));
    const raised = ops.mul(weights, numberNode(1 / (1 - dropoutP), q.dtype));
    weights = ops.select(kept, raised, ops.constant(0, q.dtype));
  }
  return wrap(matmulNode(op, weights, v));
}
