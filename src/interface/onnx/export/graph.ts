// The graph that is exported, as it is at each of several sizes of the dynamic axes: traces of one
// function are laid over each other node by node, and differ in numbers only.
import { ArgumentError, internalError } from '../../../base/errors.ts';
import { formatShape, sameShape, type Shape } from '../../../base/shape.ts';
import { newMark, type Node } from '../../../graph/node.ts';
import type { Attrs } from '../../../graph/op.ts';
import { Subgraph } from '../../../graph/subgraph.ts';
import type { Storage } from '../../../runtime/storage.ts';
import type { Recording } from './record.ts';
import type { Grid, Varying } from './sizes.ts';

/** What one node is in one trace. */
export interface Image {
  readonly attrs: Attrs;
  readonly shape: Shape;
  /** Of a scalar slot. */
  readonly value: number;
}

/** Ops that pass their first input on; what they add is no business of a file. */
export const ALIASES: ReadonlySet<string> = new Set([
  'copy',
  'checkedIndex',
  'checkedFactor',
  'customGradient',
  'pseudoInverse',
]);

/** The node whose value this is: an alias is followed. */
export function resolve(node: Node): Node {
  let result = node;
  while (result.storage === null && ALIASES.has(result.op.name)) result = result.inputs[0] as Node;
  return result;
}

/** Inputs by the values they stand for; a stored value has none. */
export function operands(node: Node): Node[] {
  return node.storage === null ? node.inputs.map(resolve) : [];
}

const NONE: ReadonlySet<Node> = new Set();

/** All nodes that lead to `roots`, inputs first; what leads to those that are `given` is left out. */
export function inOrder(
  roots: readonly Node[],
  given: { has(node: Node): boolean } = NONE,
): Node[] {
  const seen = newMark();
  const order: Node[] = [];
  const stack: { readonly node: Node; readonly inputs: readonly Node[]; next: number }[] = [];
  const enter = (node: Node): void => {
    if (node.mark === seen) return;
    node.mark = seen;
    stack.push({ node, inputs: given.has(node) ? [] : operands(node), next: 0 });
  };
  for (const root of roots) {
    enter(root);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const input = top.inputs[top.next++];
      if (input !== undefined) enter(input);
      else {
        order.push(top.node);
        stack.pop();
      }
    }
  }
  return order;
}

/** Computations inside a node: the bodies of loops and choices. */
export function bodiesOf({ attrs, op }: Node): Subgraph[] {
  if (op.lower.kind !== 'region') return [];
  return Object.values(attrs).filter((value) => value instanceof Subgraph);
}

/** How many nodes lead to `roots`, in bodies too. */
function countNodes(roots: readonly Node[], given: ReadonlySet<Node> = NONE): number {
  let count = 0;
  for (const node of inOrder(roots, given)) {
    count++;
    if (node.storage !== null || given.has(node)) continue;
    for (const { outputs, parameters } of bodiesOf(node)) {
      count += countNodes(
        outputs.map(resolve),
        new Set([...parameters, ...parameters.map(resolve)]),
      );
    }
  }
  return count;
}

/** A number: a slot, or a constant without axes. */
export function isNumber(node: Node): boolean {
  if (node.storage !== null) return false;
  return node.op.name === 'scalar' || (node.op.name === 'full' && node.shape.length === 0);
}

/** The value of a number. */
export function numberIn(image: Image): number {
  const { value } = image.attrs;
  return typeof value === 'number' ? value : image.value;
}

/** Ops that leave a value as it is where sizes happen to fit: the interface makes none of them then. */
const MAY_BE_LEFT_OUT: ReadonlySet<string> = new Set(['reshape', 'expand', 'slice', 'flip']);

/** An op that was left out in a trace, as it would stand there. */
function leftOut(node: Node, shape: Shape): Image {
  const none = shape.map(() => 0);
  const one = shape.map(() => 1);
  return { attrs: { ...node.attrs, shape, start: none, size: shape, step: one }, shape, value: 0 };
}

function describeNode(node: Node): string {
  return `${node.storage === null ? node.op.name : 'a stored value'} ${node.dtype} ${formatShape(node.shape)}`;
}

/** Whether two nodes are the same but for numbers. */
function corresponds(a: Node, b: Node): boolean {
  if (a.dtype !== b.dtype || a.shape.length !== b.shape.length) return false;
  if (isNumber(a) && isNumber(b)) return true;
  if (a.op !== b.op || a.inputs.length !== b.inputs.length) return false;
  return Object.entries(a.attrs).every(([name, value]) => {
    const other = b.attrs[name];
    if (Array.isArray(value)) return Array.isArray(other) && value.length === other.length;
    if (value instanceof Subgraph) return other instanceof Subgraph;
    return typeof value === 'number' ? typeof other === 'number' : value === other;
  });
}

/** Whether two stored values are the same constant, also if the function makes it anew in each run. */
function sameStored(a: Node, b: Node): boolean {
  if (a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return false;
  const [first, second] = [a.storage as Storage | null, b.storage as Storage | null];
  if (first === null || second === null) return false;
  if (first === second) return a.version === b.version;
  const [bytes, others] = [first.host, second.host];
  return bytes !== null && others !== null && bytes.every((byte, i) => byte === others[i]);
}

/** Which input a node is, or -1: what is cut off from its history is another node on its storage. */
export function inputIndex({ inputs }: Recording, node: Node): number {
  const { storage } = node;
  return storage === null ? -1 : inputs.findIndex((input) => input.storage === storage);
}

class Alignment {
  readonly images = new Map<Node, { readonly partner: Node; readonly image: Image }>();
  readonly #main: Recording;
  readonly #other: Recording;
  readonly #op: string;

  constructor(op: string, main: Recording, other: Recording) {
    this.#op = op;
    this.#main = main;
    this.#other = other;
  }

  #fail(a: Node, b: Node): ArgumentError {
    const line = this.#main.lineOf(a);
    return new ArgumentError(
      `the function builds another program at other sizes of its dynamic axes: ${describeNode(a)} became ${describeNode(b)}${line === '' ? '' : ` (at ${line})`}`,
      {
        op: this.#op,
        hint: 'leave out that axis from dynamicAxes, or keep the function free of branches on sizes',
      },
    );
  }

  /** Finds what each node of the main trace is in the other one. */
  run(): this {
    if (this.#main.outputs.length !== this.#other.outputs.length) {
      throw new ArgumentError('the function returns more tensors at some sizes than at others', {
        op: this.#op,
      });
    }
    const pairs: (readonly [Node, Node])[] = this.#main.outputs.map(({ node }, i) => [
      resolve(node),
      resolve((this.#other.outputs[i] as { node: Node }).node),
    ]);
    for (let pair = pairs.pop(); pair !== undefined; pair = pairs.pop()) {
      const [a, b] = pair;
      const known = this.images.get(a);
      if (known !== undefined) {
        if (known.partner !== b) throw this.#fail(a, b);
        continue;
      }
      pairs.push(...this.#match(a, b));
    }
    return this;
  }

  /** Bodies are laid over each other as well: what they are given, and what they make. */
  #insides(a: Node, b: Node): (readonly [Node, Node])[] {
    const others = bodiesOf(b);
    return bodiesOf(a).flatMap((body, i) => {
      const other = others[i] as Subgraph;
      const isAlike =
        body.parameters.length === other.parameters.length &&
        body.outputs.length === other.outputs.length;
      if (!isAlike) throw this.#fail(a, b);
      body.parameters.forEach((formal, k) => {
        // A value from outside stands for itself: it is met among the operands.
        const node = resolve(formal);
        if (operands(a).includes(node)) return;
        const partner = resolve(other.parameters[k] as Node);
        this.images.set(node, { partner, image: partner });
      });
      return pairsOf(body.outputs.map(resolve), other.outputs.map(resolve));
    });
  }

  #match(a: Node, b: Node): (readonly [Node, Node])[] {
    if (a.storage !== null || b.storage !== null) {
      const input = inputIndex(this.#main, a);
      const isSame = input >= 0 ? inputIndex(this.#other, b) === input : sameStored(a, b);
      if (isSame) {
        this.images.set(a, { partner: b, image: b });
        return [];
      }
    } else if (corresponds(a, b)) {
      this.images.set(a, { partner: b, image: b });
      return [...pairsOf(operands(a), operands(b)), ...this.#insides(a, b)];
    }
    if (a.storage === null && MAY_BE_LEFT_OUT.has(a.op.name) && a.shape.length === b.shape.length) {
      const [source] = operands(a);
      if (source !== undefined && source.shape.length === a.shape.length) {
        this.images.set(a, { partner: b, image: leftOut(a, b.shape) });
        return [[source, b]];
      }
    }
    throw this.#fail(a, b);
  }
}

function pairsOf(list: readonly Node[], others: readonly Node[]): (readonly [Node, Node])[] {
  return list.map((node, i) => [node, others[i] as Node]);
}

export class TracedGraph {
  readonly grid: Grid;
  readonly main: Recording;
  /** What a node is in each trace, in the order of the grid's points. */
  readonly #images = new Map<Node, readonly Image[]>();

  /** Lays the traces over the longest of them. Throws ArgumentError if their structures differ. */
  constructor(op: string, grid: Grid, traces: readonly Recording[]) {
    this.grid = grid;
    const lengths = traces.map(({ outputs }) =>
      countNodes(outputs.map(({ node }) => resolve(node))),
    );
    this.main = traces[lengths.indexOf(Math.max(...lengths))] as Recording;
    if (traces.length === 1) return;
    const others = traces.map((trace) =>
      trace === this.main ? null : new Alignment(op, this.main, trace).run(),
    );
    const known = others.find((other) => other !== null)?.images.keys() ?? [];
    for (const node of known) {
      const images = others.map((other) => (other === null ? node : other.images.get(node)?.image));
      this.#images.set(node, images as readonly Image[]);
    }
    // An input may be read under another node, as by a gradient, or not at all.
    this.main.inputs.forEach((input, i) => {
      if (this.#images.has(input)) return;
      this.#images.set(
        input,
        traces.map(({ inputs }) => inputs[i] as Node),
      );
    });
  }

  /** What the bodies that are being written are given, the innermost last. */
  readonly #given: { has(node: Node): boolean }[] = [];

  /** Runs `write` with these nodes as given: patterns do not look behind them. */
  within<T>(given: { has(node: Node): boolean }, write: () => T): T {
    this.#given.push(given);
    try {
      return write();
    } finally {
      this.#given.pop();
    }
  }

  /** Whether a node comes from around the body that is being written. */
  isGiven(node: Node): boolean {
    return this.#given.at(-1)?.has(node) ?? false;
  }

  /** What a node of the main trace is in every trace. */
  images(node: Node): readonly Image[] {
    if (this.grid.points.length === 1) return [node];
    const images = this.#images.get(resolve(node));
    if (images === undefined) throw internalError(`${describeNode(node)} is in one trace only`);
    return images;
  }

  /** One number of a node in every trace. */
  vary(node: Node, read: (image: Image) => number): Varying {
    return this.images(node).map(read);
  }

  /** Whether something holds of some nodes in every trace. */
  everywhere(nodes: readonly Node[], holds: (...images: Image[]) => boolean): boolean {
    const images = nodes.map((node) => this.images(node));
    return (images[0] ?? []).every((_, trace) =>
      holds(...images.map((list) => list[trace] as Image)),
    );
  }
}

/** A list attribute. */
export function intsOf({ attrs }: Image, name: string): readonly number[] {
  const list = attrs[name];
  return Array.isArray(list) ? (list as readonly number[]) : [];
}

/** Whether a reduction over these axes leaves them with size 1. */
export function reducesOver(image: Image, axes: readonly number[]): boolean {
  return image.attrs['keepdims'] === true && sameShape(intsOf(image, 'axes'), axes);
}
