// A computation inside another: the body of a loop, a branch of a choice. Its nodes are ordinary
// ones; the nodes at which it ends stand for inputs of the node that holds it.
import { type DType, dtypeIndex, isFloat } from '../base/dtype.ts';
import { TraceError } from '../base/errors.ts';
import type { Shape } from '../base/shape.ts';
import { Node } from './node.ts';
import { KeyWriter, NO_ATTRS, writeAttrs } from './op.ts';
import { parameterOp } from './ops/leaf.ts';

/** A value that a body is given. Gradients may be asked for by it if it is a float. */
export function parameter(shape: Shape, dtype: DType, device: string | null): Node {
  return new Node(parameterOp, [], NO_ATTRS, shape, dtype, isFloat(dtype), device);
}

/** A parameter for values like `node`, or like its parts along the first axis. */
export function parameterLike(node: Node, sliced = false): Node {
  return parameter(sliced ? node.shape.slice(1) : node.shape, node.dtype, node.device);
}

/** Whether the value is known only while a body runs. */
export function isParameter(node: Node): boolean {
  return node.op.id === parameterOp.id;
}

/** Two results of the node that holds a body: the least and the most of what `promise` inside it watches. */
export interface Guard {
  readonly results: readonly [least: number, most: number];
  readonly promise: Node;
}

export class Subgraph {
  /** What it is given; whatever leads to them is no part of it. */
  readonly parameters: readonly Node[];
  readonly outputs: readonly Node[];
  /** What it computes, inputs first. */
  readonly nodes: readonly Node[];
  readonly guards: readonly Guard[];
  /** Its structure: equal words mean equal computations of the parameters. */
  readonly key: Int32Array;

  constructor(
    parameters: readonly Node[],
    outputs: readonly Node[],
    guards: readonly Guard[] = [],
  ) {
    const given = new Set(parameters);
    this.parameters = parameters;
    this.outputs = outputs;
    this.guards = guards;
    this.nodes = interiorOf(outputs, (node) => given.has(node)).nodes;
    for (const { op } of this.nodes) {
      if (op.lower.kind !== 'host') continue;
      throw new TraceError('runs on the host, which a loop or branch cannot stop for', {
        op: op.name,
        hint: 'give it a kernel, or write the loop in JavaScript',
      });
    }
    this.key = keyOf(this);
  }

  /** For messages: what is computed. */
  toString(): string {
    return `{ ${this.nodes.map(({ op }) => op.name).join(', ')} }`;
  }
}

function keyOf({ parameters, nodes, outputs }: Subgraph): Int32Array {
  const key = new KeyWriter();
  const numbers = new Map<Node, number>();
  const refer = (list: readonly Node[]): void => {
    key.push(list.length);
    for (const node of list) key.push(numbers.get(node) as number);
  };
  key.push(parameters.length);
  for (const { dtype, shape } of parameters) {
    key.push(dtypeIndex[dtype]);
    key.push(shape.length);
    for (const size of shape) key.push(size);
  }
  for (const node of parameters) numbers.set(node, numbers.size);
  for (const node of nodes) {
    key.push(node.op.id);
    refer(node.inputs);
    writeAttrs(node.op, node.attrs, key);
    numbers.set(node, numbers.size);
  }
  refer(outputs);
  return key.words.slice(0, key.length);
}

/** What leads from nodes that are outside to `outputs`, inputs first, and those outside that it reads. */
export function interiorOf(
  outputs: readonly Node[],
  isOutside: (node: Node) => boolean,
): { readonly nodes: Node[]; readonly boundary: Set<Node> } {
  const nodes: Node[] = [];
  const boundary = new Set<Node>();
  postOrder(
    outputs,
    (node) => {
      if (!isOutside(node)) return false;
      boundary.add(node);
      return true;
    },
    (node) => nodes.push(node),
  );
  return { nodes, boundary };
}

/**
 * Whether a node stays outside of a loop's body: what does not depend on its parameters is computed
 * once, before it. Constants belong to the body, where they fold.
 */
export function outsideOfLoop(
  parameters: readonly Node[],
  outputs: readonly Node[],
): (node: Node) => boolean {
  const varying = new Set(parameters);
  const constant = new Set<Node>();
  // What is older than all parameters cannot depend on them.
  const oldest = Math.min(...parameters.map(({ id }) => id));
  const ends = (node: Node): boolean => varying.has(node) || isGiven(node) || node.id < oldest;
  const classify = (node: Node): void => {
    if (node.inputs.some((input) => varying.has(input))) varying.add(node);
    else if (folds(node) && node.inputs.every((input) => constant.has(input))) constant.add(node);
  };
  postOrder(outputs, (node) => ends(node) && !isConstant(node), classify);
  return (node) => !constant.has(node) && (!varying.has(node) || isParameter(node));
}

/**
 * Whether a node stays outside of a branch: what was made before its function ran, and what it is
 * `given`. Whatever else it needs is computed only if the branch is taken.
 */
export function outsideOfBranch(
  firstId: number,
  given: ReadonlySet<Node> = new Set(),
): (node: Node) => boolean {
  return (node) => given.has(node) || isGiven(node) || (node.id < firstId && !isConstant(node));
}

function isGiven(node: Node): boolean {
  return node.storage !== null || node.op.lower.kind === 'leaf';
}

/** Whether it takes no kernel of its own. */
function folds({ op }: Node): boolean {
  return op.lower.kind === 'elementwise' || op.lower.kind === 'indexed';
}

function isConstant(node: Node): boolean {
  return node.inputs.length === 0 && !isGiven(node);
}

/** Iterative: graphs can be deep. Nodes at which `ends` holds are not entered and not visited. */
function postOrder(
  outputs: readonly Node[],
  ends: (node: Node) => boolean,
  visit: (node: Node) => void,
): void {
  const seen = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  const enter = (node: Node): void => {
    if (seen.has(node)) return;
    seen.add(node);
    if (!ends(node)) stack.push({ node, next: 0 });
  };
  for (const output of outputs) {
    enter(output);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const input = top.node.inputs[top.next++];
      if (input !== undefined) {
        enter(input);
        continue;
      }
      stack.pop();
      visit(top.node);
    }
  }
}
