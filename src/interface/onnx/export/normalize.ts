// Attention in blocks, which exists for memory's sake, as the plain graph that it stands for: a function
// makes one or the other by the number of queries, and a file is to have the same at all sizes.
import type { Shape } from '../../../base/shape.ts';
import { Node } from '../../../graph/node.ts';
import { withoutTracking } from '../../../graph/op.ts';
import * as ops from '../../../graph/ops/index.ts';
import { inOrder, isNumber, numberIn, operands, resolve } from './graph.ts';
import type { Recording } from './record.ts';

/** Values of an attention, and the logarithms of its sums. */
interface Attention {
  readonly result: Node;
  readonly logSum: () => Node;
}

/** Results of attention that was in blocks. */
const IN_BLOCKS = new WeakSet<object>();

/** Whether a node stands for an attention in blocks. */
export function wasInBlocks(node: object): boolean {
  return IN_BLOCKS.has(node);
}

function isOp(node: Node, name: string): boolean {
  return node.storage === null && node.op.name === name;
}

/** Scores plus a mask; one that was made of a bool chooses, as it was meant. */
function masked(scores: Node, given: Node): Node {
  const mask = isOp(given, 'expand') ? (operands(given)[0] as Node) : given;
  const [condition, seen, hidden] = operands(mask);
  const isChoice =
    isOp(mask, 'select') &&
    [seen, hidden].every((part, i) => {
      const wanted = i === 0 ? 0 : -Infinity;
      return part !== undefined && isNumber(part) && numberIn(part) === wanted;
    });
  if (!isChoice) return ops.add(scores, mask);
  return ops.select(condition as Node, scores, hidden as Node);
}

function causal(scores: Node): Node {
  const plane: Shape = scores.shape.slice(-2);
  const seen = ops.greaterEqual(ops.iota(plane, 0, 'int32'), ops.iota(plane, 1, 'int32'));
  return ops.select(seen, scores, ops.constant(-Infinity, scores.dtype));
}

/** softmax(scale q kᵀ + mask) v, and the log-sum-exp of the scores. */
function plainAttention(node: Node, [q, k, v, mask]: readonly Node[]): Attention {
  const { scale, causal: isCausal } = node.attrs as { scale: number; causal: boolean };
  const scaled = ops.mul(q as Node, ops.scalar(scale, node.dtype));
  let scores = ops.matmul(scaled, ops.transpose(k as Node));
  if (mask !== undefined) scores = masked(scores, mask);
  if (isCausal) scores = causal(scores);
  const axis = scores.shape.length - 1;
  const top = ops.max(scores, axis, true);
  const powers = ops.exp(ops.sub(scores, top));
  const total = ops.sum(powers, axis, true);
  const weights = ops.mul(powers, ops.reciprocal(total));
  const result = ops.matmul(weights, v as Node);
  IN_BLOCKS.add(result);
  return {
    result,
    logSum: () => ops.add(top, ops.log(total)),
  };
}

/** The node again on other inputs. */
function onInputs(node: Node, inputs: readonly Node[]): Node {
  const { op, attrs, shape, dtype, device, value } = node;
  const copy = new Node(op, inputs, attrs, shape, dtype, false, device);
  copy.value = value;
  return copy;
}

/** The recording without attention in blocks; itself if there is none. */
export function normalizeRecording(recording: Recording): Recording {
  const roots = recording.outputs.map(({ node }) => resolve(node));
  const order = inOrder(roots);
  if (!order.some((node) => isOp(node, 'attention'))) return recording;
  const attentions = new Map<Node, Attention>();
  const replaced = new Map<Node, Node>();
  /** What a new node was made of, for its line. */
  const origins = new Map<Node, Node>();
  const now = (node: Node): Node => replaced.get(node) ?? node;

  const rebuild = (node: Node): Node => {
    const before = operands(node);
    const source = attentions.get(before[0] as Node);
    if (isOp(node, 'slice') && source !== undefined) {
      const [start, size] = [node.attrs['start'], node.attrs['size']] as [Shape, Shape];
      const columns = source.result.shape.at(-1);
      if (start.at(-1) === 0 && size.at(-1) === columns) return source.result;
      if (start.at(-1) === columns) return source.logSum();
    }
    const inputs = before.map(now);
    if (isOp(node, 'attention')) {
      const attention = plainAttention(node, inputs);
      attentions.set(node, attention);
      return ops.concat([attention.result, attention.logSum()], -1);
    }
    return inputs.every((input, i) => input === before[i]) ? node : onInputs(node, inputs);
  };

  withoutTracking(() => {
    for (const node of order) {
      const result = rebuild(node);
      if (result === node) continue;
      replaced.set(node, result);
      origins.set(result, node);
    }
  });
  return {
    inputs: recording.inputs,
    outputs: recording.outputs.map(({ path, node }) => ({ path, node: now(resolve(node)) })),
    lineOf: (node) => recording.lineOf(origins.get(node) ?? node),
  };
}
