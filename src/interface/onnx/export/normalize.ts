// Attention in blocks, which exists for memory's sake, as the plain graph that it stands for: a function
// makes one or the other by the number of queries, and a file is to have the same at all sizes.
import { sameShape, type Shape } from '../../../base/shape.ts';
import { Node } from '../../../graph/node.ts';
import { type Attrs, withoutTracking } from '../../../graph/op.ts';
import * as ops from '../../../graph/ops/index.ts';
import { Subgraph } from '../../../graph/subgraph.ts';
import type { RecordedDirection } from '../../functional/recurrent-layer.ts';
import { bodiesOf, inOrder, isNumber, numberIn, operands, resolve } from './graph.ts';
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
  let mask = given;
  if (isOp(mask, 'expand')) mask = operands(mask)[0] as Node;
  if (isOp(mask, 'reshape')) {
    // Axes of size 1 in front, which broadcasting adds anyway.
    const [inner] = operands(mask) as [Node];
    const more = mask.shape.length - inner.shape.length;
    if (more >= 0 && sameShape(mask.shape.slice(more), inner.shape)) mask = inner;
  }
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
function plainAttention(node: Node, inputs: readonly Node[]): Attention {
  const {
    scale,
    causal: isCausal,
    dropout,
  } = node.attrs as {
    scale: number;
    causal: boolean;
    dropout: number;
  };
  const floats = inputs.length - (dropout > 0 ? 4 : 0);
  const [q, k, v, mask] = inputs.slice(0, floats);
  const scaled = ops.mul(q as Node, ops.scalar(scale, node.dtype));
  let scores = ops.matmul(scaled, ops.transpose(k as Node));
  if (mask !== undefined) scores = masked(scores, mask);
  if (isCausal) scores = causal(scores);
  const axis = scores.shape.length - 1;
  const top = ops.max(scores, axis, true);
  const powers = ops.exp(ops.sub(scores, top));
  const total = ops.sum(powers, axis, true);
  let weights = ops.mul(powers, ops.reciprocal(total));
  if (dropout > 0) {
    // No file draws random numbers: the node that does is refused, with its reason.
    const [seedLow, seedHigh, offsetLow, offsetHigh] = inputs.slice(floats) as [
      Node,
      Node,
      Node,
      Node,
    ];
    const source = { seedLow, seedHigh, offsetLow, offsetHigh };
    weights = ops.mul(weights, ops.keptFactors(weights.shape, weights.dtype, dropout, source));
  }
  const result = ops.matmul(weights, v as Node);
  IN_BLOCKS.add(result);
  return {
    result,
    logSum: () => ops.add(top, ops.log(total)),
  };
}

/** The node again on other inputs. */
function onInputs(node: Node, inputs: readonly Node[], attrs = node.attrs): Node {
  const { op, shape, dtype, device, value } = node;
  const copy = new Node(op, inputs, attrs, shape, dtype, false, device);
  copy.value = value;
  return copy;
}

/** Whether a graph holds attention in blocks, in the bodies of its loops too. */
function holdsBlocks(order: readonly Node[]): boolean {
  return order.some(
    (node) => isOp(node, 'attention') || bodiesOf(node).some(({ nodes }) => holdsBlocks(nodes)),
  );
}

/** Nodes without attention in blocks, for those with it. */
class Rebuilder {
  readonly #attentions = new Map<Node, Attention>();
  readonly #replaced = new Map<Node, Node>();
  /** What a new node was made of, for its line. */
  readonly origins = new Map<Node, Node>();

  readonly now = (node: Node): Node => this.#replaced.get(node) ?? node;

  run(order: readonly Node[]): void {
    for (const node of order) {
      const result = this.#rebuild(node);
      if (result === node) continue;
      this.#replaced.set(node, result);
      this.origins.set(result, node);
    }
  }

  #rebuild(node: Node): Node {
    const before = operands(node);
    const source = this.#attentions.get(before[0] as Node);
    if (isOp(node, 'slice') && source !== undefined) {
      const [start, size] = [node.attrs['start'], node.attrs['size']] as [Shape, Shape];
      const columns = source.result.shape.at(-1);
      if (start.at(-1) === 0 && size.at(-1) === columns) return source.result;
      if (start.at(-1) === columns) return source.logSum();
    }
    const inputs = before.map(this.now);
    if (isOp(node, 'attention')) {
      const attention = plainAttention(node, inputs);
      this.#attentions.set(node, attention);
      return ops.concat([attention.result, attention.logSum()], -1);
    }
    const attrs = this.#attrsOf(node);
    const isSame = attrs === node.attrs && inputs.every((input, i) => input === before[i]);
    return isSame ? node : onInputs(node, inputs, attrs);
  }

  #attrsOf(node: Node): Attrs {
    if (!bodiesOf(node).some(({ nodes }) => holdsBlocks(nodes))) return node.attrs;
    const entries = Object.entries(node.attrs).map(([name, value]) => [
      name,
      value instanceof Subgraph ? this.#body(value) : value,
    ]);
    return Object.fromEntries(entries) as Attrs;
  }

  #body({ parameters, outputs }: Subgraph): Subgraph {
    const given = new Set(parameters.map(resolve));
    const ends = outputs.map(resolve);
    this.run(inOrder(ends, given).filter((node) => !given.has(node)));
    return new Subgraph([...given], ends.map(this.now));
  }
}

/** The recording without attention in blocks; itself if there is none. */
export function normalizeRecording(recording: Recording): Recording {
  const order = inOrder(recording.outputs.map(({ node }) => resolve(node)));
  if (!holdsBlocks(order)) return recording;
  const rebuilder = new Rebuilder();
  const { now, origins } = rebuilder;
  withoutTracking(() => rebuilder.run(order));
  const found = (node: Node): Node => now(resolve(node));
  const maybe = (node: Node | null): Node | null => (node === null ? null : found(node));
  const directions = Array.from(
    recording.directions,
    ([loop, { input, initial, weights, lengths, ...rest }]): [Node, RecordedDirection] => [
      now(loop),
      {
        ...rest,
        input: found(input),
        initial: initial.map(found),
        lengths: maybe(lengths),
        weights: {
          input: found(weights.input),
          hidden: found(weights.hidden),
          inputBias: maybe(weights.inputBias),
          hiddenBias: maybe(weights.hiddenBias),
          projection: maybe(weights.projection),
        },
      },
    ],
  );
  return {
    ...recording,
    directions: new Map(directions),
    outputs: recording.outputs.map(({ path, node }) => ({ path, node: now(resolve(node)) })),
    lineOf: (node) => recording.lineOf(origins.get(node) ?? node),
  };
}
