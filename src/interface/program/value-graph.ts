// The graph of a program as values that refer to their inputs: what surgery rewires. Values never change:
// a graph that differs shares those that do not, and a value that was only rewired keeps its number.
import type { DType } from '../../base/dtype.ts';
import type { Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { type Attrs, makeNode, NO_ATTRS, type OpDef } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import { type GraphRecord, graphOf } from '../../graph/record.ts';
import { parameter } from '../../graph/subgraph.ts';
import type { LeafRecord, ScalarRecord } from '../lite/header.ts';
import { sourceOf } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** A random draw of so many words: each run takes a new place in the stream. */
export interface DrawSource {
  readonly count: number;
}

/** What a value is that nothing computes. */
export type Source =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'weight'; readonly tensor: Tensor }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'random'; readonly draw: DrawSource; readonly word: number };

export interface Value {
  readonly id: number;
  /** Null for what `source` gives. */
  readonly op: OpDef | null;
  readonly source: Source | null;
  readonly inputs: readonly Value[];
  readonly attrs: Attrs;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What weights become after a run. */
export interface Update {
  readonly tensor: Tensor;
  readonly value: Value;
}

let nextId = 1;

/** A number that no value has. */
export function freshId(): number {
  return nextId++;
}

export function endValue(source: Source, dtype: DType, shape: Shape): Value {
  return { id: freshId(), op: null, source, inputs: [], attrs: NO_ATTRS, dtype, shape };
}

/** A graph as data, and what its ends are. */
export interface DescribedGraph {
  readonly graph: GraphRecord;
  readonly leaves: readonly LeafRecord[];
  readonly scalars: readonly ScalarRecord[];
  /** Words of each draw. */
  readonly draws: readonly number[];
}

/**
 * The outputs of a graph as values. `inputs` stand for its inputs, and `weight` gives what stands for a
 * weight.
 *
 * @throws FormatError for a record that contradicts its ops.
 */
export function valuesOf(
  { graph, leaves, scalars, draws }: DescribedGraph,
  inputs: readonly Value[],
  weight: (leaf: LeafRecord & { readonly kind: 'weight' }) => Value,
): Value[] {
  const ends = (op: string): Node[] =>
    graph.nodes
      .filter((node) => node.op === op)
      .map(({ shape, dtype }) => parameter(shape, dtype, null));
  const { nodes } = graphOf(graph, ends('input'), ends('scalar'));
  const sources = draws.map((count): DrawSource => ({ count }));
  const leafOf = leaves.values();
  const scalarOf = scalars.values();
  const made: Value[] = [];
  graph.nodes.forEach((record, i) => {
    const { op, attrs, dtype, shape } = nodes[i] as Node;
    if (record.op === 'input') {
      const leaf = leafOf.next().value as LeafRecord;
      made.push(leaf.kind === 'input' ? (inputs[leaf.input] as Value) : weight(leaf));
    } else if (record.op === 'scalar') {
      const scalar = scalarOf.next().value as ScalarRecord;
      const source: Source =
        scalar.kind === 'number' ? scalar : { ...scalar, draw: sources[scalar.draw] as DrawSource };
      made.push(endValue(source, dtype, shape));
    } else {
      const operands = (record.inputs ?? []).map((at) => made[at] as Value);
      made.push({ id: freshId(), op, source: null, inputs: operands, attrs, dtype, shape });
    }
  });
  return graph.outputs.map((at) => bare(made[at] as Value));
}

/** Recording gives results that nothing computes a node of their own, which no program needs. */
function bare(value: Value): Value {
  const [only] = value.inputs;
  return value.op?.name === 'copy' && only !== undefined && only.source !== null ? only : value;
}

/** Everything that leads to `roots`, inputs first. */
export function orderOf(roots: readonly Value[]): Value[] {
  const seen = new Set<Value>();
  const order: Value[] = [];
  // Without recursion: programs may be deeper than the stack.
  const open: { readonly value: Value; next: number }[] = [];
  const enter = (value: Value): void => {
    if (seen.has(value)) return;
    seen.add(value);
    open.push({ value, next: 0 });
  };
  for (const root of roots) {
    enter(root);
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const input = top.value.inputs[top.next++];
      if (input !== undefined) enter(input);
      else {
        order.push(top.value);
        open.pop();
      }
    }
  }
  return order;
}

/**
 * What becomes of the values of `order` when others stand in the place of some: those that use them are
 * rewired and keep their numbers. What stands in is taken as it is.
 */
export function rewire(
  order: readonly Value[],
  standIns: ReadonlyMap<Value, Value>,
): (value: Value) => Value {
  const made = new Map<Value, Value>(standIns);
  const at = (value: Value): Value => made.get(value) ?? value;
  for (const value of order) {
    if (made.has(value) || value.inputs.every((input) => at(input) === input)) continue;
    made.set(value, { ...value, inputs: value.inputs.map(at) });
  }
  return at;
}

/** The same graph with numbers of its own, so that it may stand beside the first. */
export function clone(
  order: readonly Value[],
  standIns: ReadonlyMap<Value, Value>,
): Map<Value, Value> {
  const made = new Map<Value, Value>(standIns);
  const sources = new Map<DrawSource, DrawSource>();
  for (const value of order) {
    if (made.has(value)) continue;
    const { source } = value;
    const inputs = value.inputs.map((input) => made.get(input) as Value);
    if (source?.kind !== 'random') {
      made.set(value, { ...value, id: freshId(), inputs });
      continue;
    }
    const draw = sources.get(source.draw) ?? { count: source.draw.count };
    sources.set(source.draw, draw);
    made.set(value, { ...value, id: freshId(), source: { ...source, draw } });
  }
  return made;
}

/** New nodes for the values of `order`, of what `given` stands for its inputs. */
export function nodesOf(
  order: readonly Value[],
  given: ReadonlyMap<Value, Node>,
): ReadonlyMap<Value, Node> {
  const made = new Map<Value, Node>(given);
  const places = new Map<DrawSource, ops.RandomSource>();
  const wordOf = (draw: DrawSource, word: number): Node => {
    let place = places.get(draw);
    if (place === undefined) {
      place = sourceOf(draw.count);
      places.set(draw, place);
    }
    const { seedLow, seedHigh, offsetLow, offsetHigh } = place;
    return [seedLow, seedHigh, offsetLow, offsetHigh][word] as Node;
  };
  for (const value of order) {
    if (made.has(value)) continue;
    const { source, op, attrs, dtype } = value;
    if (source === null) {
      const inputs = value.inputs.map((input) => made.get(input) as Node);
      made.set(value, makeNode(op as OpDef, inputs, attrs));
    } else if (source.kind === 'weight') made.set(value, source.tensor.node);
    else if (source.kind === 'number') made.set(value, ops.scalar(source.value, dtype));
    else if (source.kind === 'random') made.set(value, wordOf(source.draw, source.word));
  }
  return made;
}
