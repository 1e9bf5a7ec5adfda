// Runs a graph: calls the operators in their order. What comes out is a deferred computation, so this
// costs microseconds a node; only values that decide the course (shapes, conditions) are read.
import { FormatError, TengenError } from '../../base/errors.ts';
import type { Graph, GraphNode } from './graph.ts';
import { Call, type GraphRunner } from './operator.ts';
import type { Value } from './values.ts';

/** Rounds of all loops of one run: each adds its nodes to the computation. */
const MAX_ROUNDS = 20_000;

/** The values of one graph by name, and those of the graph around it. */
class Frame {
  readonly #values = new Map<string, Value | null>();
  readonly #outer: Frame | null;

  constructor(outer: Frame | null) {
    this.#outer = outer;
  }

  set(name: string, value: Value | null): void {
    this.#values.set(name, value);
  }

  get(name: string): Value | null {
    // An input that is not given.
    if (name === '') return null;
    const own = this.#values.get(name);
    if (own !== undefined) return own;
    if (this.#outer === null || this.#values.has(name)) {
      throw new FormatError(`the value '${name}' was not made`);
    }
    return this.#outer.get(name);
  }
}

interface Run {
  rounds: number;
}

/**
 * The outputs of `graph` for `inputs`, in the order in which it names them. `values` replaces
 * initializers by name.
 *
 * @throws what the framework throws for a call, with the node in front of the message.
 */
export function runGraph(
  graph: Graph,
  inputs: readonly (Value | null)[],
  values: ReadonlyMap<string, Value> = new Map(),
): (Value | null)[] {
  return run(graph, inputs, null, { rounds: 0 }, values);
}

function run(
  graph: Graph,
  inputs: readonly (Value | null)[],
  outer: Frame | null,
  state: Run,
  replaced: ReadonlyMap<string, Value>,
): (Value | null)[] {
  const frame = new Frame(outer);
  for (const [name, value] of graph.initializers) frame.set(name, value);
  for (const [name, value] of replaced) frame.set(name, value);
  for (const [index, name] of graph.inputs.entries()) frame.set(name, inputs[index] ?? null);
  for (const node of graph.nodes) {
    try {
      runNode(node, frame, state);
    } catch (error) {
      throw withNode(error, node.label);
    }
  }
  return graph.outputs.map((name) => frame.get(name));
}

const NOTHING: ReadonlyMap<string, Value> = new Map();

function runNode(node: GraphNode, frame: Frame, state: Run): void {
  const inputs = node.inputs.map((name) => frame.get(name));
  const { work } = node;
  let results: readonly (Value | null)[];
  if (work.kind === 'function') results = run(work.body, inputs, null, state, NOTHING);
  else {
    const graphs: GraphRunner = {
      run: (graph, given) => run(graph, given, frame, state, NOTHING),
      countRound: () => {
        if (++state.rounds <= MAX_ROUNDS) return;
        throw new FormatError(`loops of more than ${MAX_ROUNDS} rounds`);
      },
    };
    // Inputs left out at the end count as not given.
    const call = new Call(work.attributes, inputs, node.outputs, work.opset, graphs);
    results = work.operator.call(call);
  }
  for (const [index, name] of node.outputs.entries()) {
    if (name === '') continue;
    const value = results[index];
    if (value === undefined) throw new FormatError(`output ${index} is not computed`);
    frame.set(name, value);
  }
}

const MARK = new WeakSet<Error>();

/** The same error with the innermost node in front of its message. */
function withNode(error: unknown, label: string): unknown {
  if (!(error instanceof TengenError) || MARK.has(error)) return error;
  MARK.add(error);
  error.message = `${label}: ${error.message}`;
  return error;
}
