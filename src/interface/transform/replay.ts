// Replaying a recorded graph without the function that built it: its nodes are made again on new
// inputs, which takes a fraction of a microsecond each, and evaluated like any others.
import type { DType } from '../../base/dtype.ts';
import { internalError, TraceError } from '../../base/errors.ts';
import type { Shape } from '../../base/shape.ts';
import { Linearization } from '../../graph/linearize.ts';
import { Node } from '../../graph/node.ts';
import type { Attrs, OpDef } from '../../graph/op.ts';
import { input, scalar } from '../../graph/ops/index.ts';
import type { Storage } from '../../runtime/storage.ts';
import { engine } from '../tensor/engine.ts';
import { ownerOf, tensorOn, wrap } from '../tensor/handle.ts';
import { type Draw, drawOf, placeWords } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { evaluator } from './install.ts';
import { checkTensorTree, flattenTree, mapTree } from './tree.ts';

/** One node of the recorded graph, without anything that the first call computed. */
type Step =
  | { readonly kind: 'argument'; readonly index: number }
  /** A closed-over value: read anew, as its owner or its storage has it now. */
  | { readonly kind: 'stored'; readonly leaf: Node; readonly owner: Tensor | null }
  | { readonly kind: 'number'; readonly value: number; readonly dtype: DType }
  /** A place in a random stream, which moves on with every replay. */
  | { readonly kind: 'random'; readonly draw: Draw; readonly word: 0 | 1 | 2 | 3 }
  | {
      readonly kind: 'op';
      readonly op: OpDef;
      readonly inputs: readonly number[];
      readonly attrs: Attrs;
      readonly shape: Shape;
      readonly dtype: DType;
      readonly device: string | null;
      /** Made without tracking, though an input was tracked. */
      readonly cut: boolean;
    };

interface Target {
  readonly owner: Tensor;
  readonly position: number;
  readonly inPlace: boolean;
}

/** A number that no node made so far reaches. */
export function nextNodeId(): number {
  return scalar(0, 'float32').id;
}

export class Replay {
  /** What the recording call returned. */
  readonly result: unknown;
  readonly #steps: readonly Step[];
  readonly #outputs: readonly number[];
  readonly #targets: readonly Target[];

  private constructor(
    result: unknown,
    steps: readonly Step[],
    outputs: readonly number[],
    targets: readonly Target[],
  ) {
    this.result = result;
    this.#steps = steps;
    this.#outputs = outputs;
    this.#targets = targets;
  }

  /** Runs `body` once on the arguments and takes down the graph of its results and assignments. */
  static record(name: string, args: readonly Tensor[], body: () => unknown): Replay {
    // Everything that stands before the call becomes an input.
    engine().evaluate(args.map(({ node }) => node));
    const firstId = nextNodeId();
    const argumentNodes = args.map(({ node }) => node);
    const before = new Set(evaluator().pendingAssignments());
    const result = body();
    checkTensorTree(name, result);
    const outputs = flattenTree(result, { numbers: false }).tensors.map(({ node }) => node);
    const made = evaluator()
      .pendingAssignments()
      .filter((assignment) => !before.has(assignment));
    const roots = [...outputs, ...made.map(({ node }) => node)];
    const closedOver = linearize(roots).filter((n) => n.id < firstId && n.storage === null);
    engine().evaluate(closedOver.filter((node) => node.op.lower.kind !== 'leaf'));
    const nodes = linearize(roots);
    const steps = nodes.map((node) => stepOf(name, node, argumentNodes));
    const position = (node: Node): number => nodes.indexOf(node);
    return new Replay(
      result,
      steps,
      outputs.map(position),
      made.map(({ holder, node, inPlace }) => ({
        owner: holder as Tensor,
        position: position(node),
        inPlace,
      })),
    );
  }

  /** The graph again, on other arguments. */
  run(args: readonly Tensor[]): unknown {
    const nodes: Node[] = [];
    const places = new Map<Draw, readonly number[]>();
    for (const step of this.#steps) nodes.push(makeAgain(step, args, nodes, places));
    const results = this.#outputs.map((position) => wrap(nodes[position] as Node));
    for (const { owner, position, inPlace } of this.#targets) {
      owner.assign(tensorOn(nodes[position] as Node), { inPlace });
    }
    return mapTree(this.result, (_, i) => results[i] as Tensor);
  }
}

/** Everything that `roots` need, inputs first. */
function linearize(roots: readonly Node[]): Node[] {
  const linear = new Linearization();
  linear.reset();
  for (const root of roots) linear.add(root);
  return linear.nodes;
}

function stepOf(name: string, node: Node, args: readonly Node[]): Step {
  const index = args.indexOf(node);
  if (index >= 0) return { kind: 'argument', index };
  if (node.storage !== null) return { kind: 'stored', leaf: node, owner: ownerOf(node) };
  const { op, attrs, shape, dtype, device } = node;
  if (op.lower.kind === 'leaf') {
    const random = drawOf(node);
    if (random !== null) return { kind: 'random', ...random };
    return { kind: 'number', value: node.value, dtype };
  }
  if (node.tracked && holdsCustomGradient(node)) {
    throw new TraceError(`${name} uses a custom gradient, which a replay cannot call`, {
      op: 'trace',
      hint: 'trace without { withoutHost: true }',
    });
  }
  const inputs = node.inputs.map((operand) => operand.position);
  const cut = !node.tracked && node.inputs.some((operand) => operand.tracked);
  return { kind: 'op', op, inputs, attrs, shape, dtype, device, cut };
}

/** Whether a rule that is a function belongs to it, or to something in its body. */
function holdsCustomGradient({ op, attrs }: Node): boolean {
  if (op.name === 'customGradient') return true;
  if (op.lower.kind !== 'region') return false;
  return op.lower.regions(attrs).some(({ body }) => body.nodes.some(holdsCustomGradient));
}

function makeAgain(
  step: Step,
  args: readonly Tensor[],
  nodes: readonly Node[],
  places: Map<Draw, readonly number[]>,
): Node {
  switch (step.kind) {
    case 'argument':
      return (args[step.index] as Tensor).node;
    case 'stored': {
      if (step.owner !== null) return step.owner.node;
      const storage = step.leaf.storage as Storage;
      const { shape, dtype, tracked, device } = step.leaf;
      return input(storage, storage.version, shape, dtype, tracked, device);
    }
    case 'number':
      return scalar(step.value, step.dtype);
    case 'random': {
      const words = places.get(step.draw) ?? placeWords(step.draw);
      places.set(step.draw, words);
      return scalar(words[step.word] as number, 'uint32');
    }
    case 'op': {
      const inputs = step.inputs.map((position) => nodes[position] as Node);
      let tracked = false;
      for (const operand of inputs) {
        operand.consumed = true;
        if (operand.tracked && !step.cut) tracked = true;
      }
      return new Node(step.op, inputs, step.attrs, step.shape, step.dtype, tracked, step.device);
    }
    default:
      step satisfies never;
      throw internalError('unknown step of a replay');
  }
}
