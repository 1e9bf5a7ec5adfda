// The graph of a program as values that refer to their inputs: what surgery rewires. Values never change:
// a graph that differs shares those that do not, and a value that was only rewired keeps its number.
//
// Shapes, attributes and numbers are as files hold them: expressions where they follow declared dimensions.
// So surgery is done once, on the graph for all sizes; only what functions put in is recorded at several
// sizes. Repeating every edit on a graph for each size would need all functions again at every new size,
// and handles on nodes of which there are several.
import type { DType } from '../../base/dtype.ts';
import { FormatError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import { formatSizes, type SizeRecord, type Sizes, sizeAt } from '../../base/size-expression.ts';
import type { Node } from '../../graph/node.ts';
import { type Attrs, makeNode, NO_ATTRS, type OpDef, opNamed } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import { type AttrRecord, attrsOf, type BodyRecord, type GraphRecord } from '../../graph/record.ts';
import { instantiate, type SymbolicOf } from '../../graph/symbolic.ts';
import type { LeafRecord, ScalarRecord } from '../lite/header.ts';
import { sourceOf } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { shapeAt, type SizedShape } from './sizes.ts';

/** A random draw of so many words: each run takes a new place in the stream. */
export interface DrawSource {
  readonly count: SizeRecord;
}

/** Attributes as files hold them. */
export type SizedAttrs = SymbolicOf<Readonly<Record<string, AttrRecord>>>;

const NO_SIZED_ATTRS: SizedAttrs = {};

/** What a value is that nothing computes. */
export type Source =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'weight'; readonly tensor: Tensor }
  | { readonly kind: 'number'; readonly value: SizeRecord }
  | { readonly kind: 'random'; readonly draw: DrawSource; readonly word: number };

export interface Value {
  readonly id: number;
  /** Null for what `source` gives. */
  readonly op: OpDef | null;
  readonly source: Source | null;
  readonly inputs: readonly Value[];
  readonly attrs: SizedAttrs;
  readonly dtype: DType;
  readonly shape: SizedShape;
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

export function endValue(source: Source, dtype: DType, shape: SizedShape): Value {
  return { id: freshId(), op: null, source, inputs: [], attrs: NO_SIZED_ATTRS, dtype, shape };
}

/** A graph as data, and what its ends are. */
export interface DescribedGraph {
  readonly graph: SymbolicOf<GraphRecord>;
  readonly leaves: readonly LeafRecord[];
  readonly scalars: readonly ScalarRecord[];
  /** Words of each draw. */
  readonly draws: readonly SizeRecord[];
}

/** One node of a graph as data. */
type SizedNode = SymbolicOf<GraphRecord>['nodes'][number];

/** What a node computes of `made`, the values of the nodes before it. */
function valueOf(record: SizedNode, made: readonly Value[]): Value {
  const op = opNamed(record.op);
  if (op === undefined) throw new FormatError(`there is no op '${record.op}'`);
  return {
    id: freshId(),
    op,
    source: null,
    inputs: (record.inputs ?? []).map((at) => made[at as number] as Value),
    attrs: record.attrs ?? NO_SIZED_ATTRS,
    dtype: record.dtype,
    shape: record.shape,
  };
}

/**
 * The outputs of a graph as values. `inputs` stand for its inputs, and `weight` gives what stands for a
 * weight. The graph is taken to be right: `graphOf` checks it.
 */
export function valuesOf(
  { graph, leaves, scalars, draws }: DescribedGraph,
  inputs: readonly Value[],
  weight: (leaf: LeafRecord & { readonly kind: 'weight' }) => Value,
): Value[] {
  const sources = draws.map((count): DrawSource => ({ count }));
  const leafOf = leaves.values();
  const scalarOf = scalars.values();
  const made: Value[] = [];
  for (const record of graph.nodes) {
    if (record.op === 'input') {
      const leaf = leafOf.next().value as LeafRecord;
      made.push(leaf.kind === 'input' ? (inputs[leaf.input] as Value) : weight(leaf));
    } else if (record.op === 'scalar') {
      const scalar = scalarOf.next().value as ScalarRecord;
      const source: Source =
        scalar.kind === 'number' ? scalar : { ...scalar, draw: sources[scalar.draw] as DrawSource };
      made.push(endValue(source, record.dtype, record.shape));
    } else made.push(valueOf(record, made));
  }
  return graph.outputs.map((at) => bare(made[at as number] as Value));
}

/** The body of a loop or choice as data. */
export type SizedBody = SymbolicOf<BodyRecord>;

/** The values of a body, `given` for its parameters. */
export function valuesOfBody({ nodes }: SizedBody, given: readonly Value[]): Value[] {
  const made = [...given];
  for (const record of nodes.slice(given.length)) made.push(valueOf(record, made));
  return made;
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

/** Attributes that were read, for the sizes that were used last. */
const readAttrs = new WeakMap<SizedAttrs, Map<string, Attrs>>();
const MAX_READ = 8;

/** The attributes of a value at sizes, which `key` names. */
function attrsAt(op: OpDef, attrs: SizedAttrs, sizes: Sizes, key: string): Attrs {
  if (attrs === NO_SIZED_ATTRS) return NO_ATTRS;
  let known = readAttrs.get(attrs);
  if (known === undefined) readAttrs.set(attrs, (known = new Map()));
  let read = known.get(key);
  if (read === undefined) {
    read = attrsOf(op, { attrs: instantiate<Record<string, AttrRecord>>(attrs, sizes) }, 0);
    const [oldest] = known.keys();
    if (oldest !== undefined && known.size >= MAX_READ) known.delete(oldest);
    known.set(key, read);
  }
  return read;
}

/**
 * New nodes for the values of `order` at some sizes, of what `given` stands for its inputs.
 *
 * @throws ShapeError where an operation gives another shape at these sizes than the formula says.
 */
export function nodesOf(
  order: readonly Value[],
  given: ReadonlyMap<Value, Node>,
  sizes: Sizes,
): ReadonlyMap<Value, Node> {
  const made = new Map<Value, Node>(given);
  const places = new Map<DrawSource, ops.RandomSource>();
  const key = formatSizes(sizes);
  const wordOf = (draw: DrawSource, word: number): Node => {
    let place = places.get(draw);
    if (place === undefined) {
      place = sourceOf(sizeAt(draw.count, sizes));
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
      const node = makeNode(op as OpDef, inputs, attrsAt(op as OpDef, attrs, sizes, key));
      if (key !== '') checkShape(value, node, sizes);
      made.set(value, node);
    } else if (source.kind === 'weight') made.set(value, source.tensor.node);
    else if (source.kind === 'number') {
      made.set(value, ops.scalar(sizeAt(source.value, sizes), dtype));
    } else if (source.kind === 'random') made.set(value, wordOf(source.draw, source.word));
  }
  return made;
}

function checkShape(value: Value, node: Node, sizes: Sizes): void {
  const expected = shapeAt(value.shape, sizes);
  if (sameShape(node.shape, expected)) return;
  throw new ShapeError(
    `gives ${formatShape(node.shape)} at ${formatSizes(sizes)}, of other sizes follows ${formatShape(expected)}`,
    { op: value.op?.name ?? 'program', hint: 'declare the dimension without this size' },
  );
}
