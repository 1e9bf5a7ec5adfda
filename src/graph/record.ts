// A graph as plain data, and the way back: what files hold of a program (docs/format.md). Nothing in it
// is code: ops are named, and their attributes checked against the schema of the op.
import { type DType, isDType } from '../base/dtype.ts';
import { FormatError, TengenError } from '../base/errors.ts';
import { isCount, isInt, isJson, type Json } from '../base/json.ts';
import { formatShape, sameShape, type Shape } from '../base/shape.ts';
import { Linearization } from './linearize.ts';
import type { Node } from './node.ts';
import {
  type AttrKind,
  type Attrs,
  type AttrValue,
  makeNode,
  MAX_ELEMENTS,
  NO_ATTRS,
  type OpDef,
  opNamed,
} from './op.ts';
import { isParameter, parameter, Subgraph } from './subgraph.ts';

/** A number of an attribute; JSON has none of these four words. */
type NumberRecord = number | 'inf' | '-inf' | 'nan' | '-0';
export type AttrRecord = NumberRecord | boolean | string | readonly number[] | BodyRecord;

/** One node. Inputs are positions of earlier nodes. */
export interface NodeRecord {
  /** Name of the op; `input` for a stored value and `scalar` for a number, which the user gives. */
  readonly op: string;
  readonly inputs?: readonly number[];
  readonly attrs?: Readonly<Record<string, AttrRecord>>;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A graph: nodes with their inputs first, and the positions of its results. */
export interface GraphRecord {
  readonly nodes: readonly NodeRecord[];
  readonly outputs: readonly number[];
}

/** The body of a loop or choice: its parameters are the first nodes. */
export interface BodyRecord extends GraphRecord {
  readonly parameters: number;
  /** What has to be checked of its values: positions among the results of the node, and in the body. */
  readonly guards: readonly (readonly [least: number, most: number, promise: number])[];
}

/** A graph as data, and the nodes that are its ends: the i-th `input` and the i-th `scalar` in it. */
export interface RecordedGraph {
  readonly record: GraphRecord;
  readonly leaves: readonly Node[];
  readonly scalars: readonly Node[];
}

/** The shallow depth of bodies in bodies that files may have: readers recurse. */
const MAX_DEPTH = 32;

// ---- writing ----------------------------------------------------------------------------------

/**
 * Everything that leads to `roots`, as data.
 *
 * @throws TengenError if an op is a function of the user's that cannot be written down.
 */
export function recordGraph(roots: readonly Node[]): RecordedGraph {
  const linear = new Linearization();
  linear.reset();
  const outputs = roots.map((root) => linear.add(root));
  const positions = new Map(linear.nodes.map((node, i) => [node, i]));
  return {
    record: { nodes: linear.nodes.map((node) => recordNode(node, positions)), outputs },
    leaves: linear.leaves.slice(),
    scalars: linear.scalars.slice(),
  };
}

function recordNode(node: Node, positions: ReadonlyMap<Node, number>): NodeRecord {
  const { op, dtype, shape } = node;
  if (node.storage !== null) return { op: 'input', dtype, shape };
  if (op.lower.kind === 'leaf') return { op: op.name, dtype, shape };
  if (op.lower.kind === 'host') {
    throw new TengenError('is a function of JavaScript, which no file can hold', {
      op: op.name,
      hint: 'define it with a kernel or by other ops',
    });
  }
  const inputs = node.inputs.map((input) => positions.get(input) as number);
  const attrs = recordAttrs(node);
  return {
    op: op.name,
    ...(inputs.length > 0 ? { inputs } : {}),
    ...(attrs === null ? {} : { attrs }),
    dtype,
    shape,
  };
}

/** The attributes of a node as data; null if its op has none. */
export function recordAttrs({
  op,
  attrs,
}: Pick<Node, 'op' | 'attrs'>): Record<string, AttrRecord> | null {
  const record: Record<string, AttrRecord> = {};
  let found = false;
  for (const name in op.attrs) {
    const value = attrs[name];
    if (value === undefined) continue;
    found = true;
    record[name] = recordValue(value);
  }
  return found ? record : null;
}

function recordValue(value: AttrValue): AttrRecord {
  if (value instanceof Subgraph) return recordBody(value);
  if (typeof value !== 'number') return value;
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  return Object.is(value, -0) ? '-0' : value;
}

function recordBody({ parameters, nodes, outputs, guards }: Subgraph): BodyRecord {
  const all = [...parameters, ...nodes];
  const positions = new Map(all.map((node, i) => [node, i]));
  const at = (node: Node): number => positions.get(node) as number;
  return {
    parameters: parameters.length,
    nodes: all.map((node, i) =>
      i < parameters.length
        ? { op: 'parameter', dtype: node.dtype, shape: node.shape }
        : recordNode(node, positions),
    ),
    outputs: outputs.map(at),
    guards: guards.map(({ results, promise }) => [...results, at(promise)] as const),
  };
}

// ---- reading ----------------------------------------------------------------------------------

/**
 * What JSON gave, as a record: its form is checked, not yet what its ops make of it.
 *
 * @throws FormatError that names the node.
 */
export function parseGraphRecord(json: unknown): GraphRecord {
  return parseGraph(json, 'the graph', 0);
}

/**
 * The nodes of a record. `leaves[i]` stands for its i-th `input`, `scalars[i]` for its i-th `scalar`.
 *
 * @returns all nodes, in the record's order, and its results.
 * @throws FormatError if an op is unknown, or if the record says of a node what its op does not.
 */
export function graphOf(
  { nodes, outputs }: GraphRecord,
  leaves: readonly Node[],
  scalars: readonly Node[],
): { readonly nodes: readonly Node[]; readonly outputs: readonly Node[] } {
  const ends = { input: leaves.values(), scalar: scalars.values() };
  const made: Node[] = [];
  nodes.forEach((record, i) => {
    if (record.op !== 'input' && record.op !== 'scalar') {
      made.push(nodeOf(record, made, i));
      return;
    }
    const { value: end } = ends[record.op].next();
    if (end === undefined) throw new FormatError(`node ${i}: there is no such ${record.op}`);
    checkSame(record, end, i);
    made.push(end);
  });
  return { nodes: made, outputs: outputs.map((position) => made[position] as Node) };
}

function nodeOf(record: NodeRecord, made: readonly Node[], position: number): Node {
  const op = opNamed(record.op);
  if (op === undefined) {
    throw new FormatError(`node ${position}: there is no op '${record.op}'`, {
      hint: 'ops of your own must be defined before the file is loaded; or the file is of a later version',
    });
  }
  const inputs = (record.inputs ?? []).map((input) => made[input] as Node);
  let node: Node;
  try {
    node = makeNode(op, inputs, attrsOf(op, record, position));
  } catch (error) {
    if (error instanceof FormatError || !(error instanceof Error)) throw error;
    throw new FormatError(`node ${position}, ${record.op}: ${error.message}`, { cause: error });
  }
  checkSame(record, node, position);
  return node;
}

function checkSame({ op, dtype, shape }: NodeRecord, node: Node, position: number): void {
  if (node.dtype === dtype && sameShape(node.shape, shape)) return;
  throw new FormatError(
    `node ${position}, ${op}, is said to be ${dtype} ${formatShape(shape)}, and is ${node.dtype} ${formatShape(node.shape)}`,
  );
}

/** Attributes from data, checked against the schema of the op. */
export function attrsOf(
  op: OpDef,
  { attrs = {} }: Pick<NodeRecord, 'attrs'>,
  position: number,
): Attrs {
  const result: Record<string, AttrValue> = {};
  for (const name in op.attrs) {
    const value = attrs[name];
    if (value === undefined) throw badAttr(op.name, position, name, 'is missing');
    const read = attrOf(op.attrs[name] as AttrKind, value);
    if (read === undefined) throw badAttr(op.name, position, name, 'is of another kind');
    result[name] = read;
  }
  const unknown = Object.keys(attrs).find((name) => !(name in op.attrs));
  if (unknown !== undefined) throw badAttr(op.name, position, unknown, 'is unknown');
  return Object.keys(result).length === 0 ? NO_ATTRS : result;
}

function badAttr(op: string, position: number, name: string, what: string): FormatError {
  return new FormatError(`node ${position}, ${op}: attribute '${name}' ${what}`);
}

const WORDS: Readonly<Record<string, number>> = {
  inf: Infinity,
  '-inf': -Infinity,
  nan: NaN,
  '-0': -0,
};

/** The value of an attribute, or undefined if it is not of this kind. */
function attrOf(kind: AttrKind, value: AttrRecord): AttrValue | undefined {
  if (typeof kind !== 'string') {
    return typeof value === 'string' && kind.includes(value) ? value : undefined;
  }
  switch (kind) {
    case 'int':
      return isInt(value) ? value : undefined;
    case 'float':
      if (typeof value === 'string' && Object.hasOwn(WORDS, value)) return WORDS[value];
      return typeof value === 'number' ? value : undefined;
    case 'ints':
      return Array.isArray(value) && value.every(isInt) ? value : undefined;
    case 'flag':
      return typeof value === 'boolean' ? value : undefined;
    case 'dtype':
      return isDType(value) ? value : undefined;
    case 'graph':
      return isBody(value) ? bodyOf(value) : undefined;
    default:
      kind satisfies never;
      return undefined;
  }
}

function isBody(value: AttrRecord): value is BodyRecord {
  return typeof value === 'object' && 'parameters' in value;
}

function bodyOf({ parameters, nodes, outputs, guards }: BodyRecord): Subgraph {
  const made: Node[] = [];
  nodes.forEach((record, i) => {
    const isGiven = i < parameters;
    if (isGiven !== (record.op === 'parameter')) {
      throw new FormatError(
        `node ${i} of a body: its parameters are its first nodes, and only they`,
      );
    }
    const { shape, dtype } = record;
    made.push(isGiven ? parameter(shape, dtype, null) : nodeOf(record, made, i));
  });
  const at = (position: number): Node => made[position] as Node;
  const body = new Subgraph(
    made.slice(0, parameters),
    outputs.map(at),
    guards.map(([least, most, promise]) => ({ results: [least, most], promise: at(promise) })),
  );
  if (body.nodes.some((node) => node.op.lower.kind === 'leaf' && !isParameter(node))) {
    throw new FormatError('a body holds stored values or numbers. They must be its parameters');
  }
  return body;
}

// ---- form -------------------------------------------------------------------------------------

/** A list of whole numbers from 0 to below `end`. */
function parsePositions(json: unknown, end: number, what: string): readonly number[] {
  if (Array.isArray(json) && json.every((at) => isCount(at) && at < end)) return json;
  throw new FormatError(`${what} must be positions of nodes before it`);
}

function parseGraph(json: unknown, what: string, depth: number): GraphRecord {
  if (depth > MAX_DEPTH) throw new FormatError(`${what}: bodies lie ${MAX_DEPTH} deep`);
  if (!isJson(json) || !Array.isArray(json['nodes'])) {
    throw new FormatError(`${what} must be an object with nodes and outputs`);
  }
  const nodes = json['nodes'].map((node, i) => parseNode(node, i, what, depth));
  return { nodes, outputs: parsePositions(json['outputs'], nodes.length, `outputs of ${what}`) };
}

function parseNode(json: unknown, i: number, what: string, depth: number): NodeRecord {
  const where = `node ${i} of ${what}`;
  if (!isJson(json)) throw new FormatError(`${where} is no object`);
  const { op, dtype, shape, inputs, attrs } = json;
  if (typeof op !== 'string') throw new FormatError(`${where} names no op`);
  if (!isDType(dtype)) throw new FormatError(`${where}, ${op}: there is no dtype ${String(dtype)}`);
  const sized = parseShape(shape, `${where}, ${op}`);
  if (attrs !== undefined && !isJson(attrs)) {
    throw new FormatError(`${where}, ${op}: its attributes are no object`);
  }
  return {
    op,
    dtype,
    shape: sized,
    ...(inputs === undefined
      ? {}
      : { inputs: parsePositions(inputs, i, `inputs of ${where}, ${op},`) }),
    ...(attrs === undefined ? {} : { attrs: parseAttrs(attrs, `${where}, ${op}`, depth) }),
  };
}

/** A shape of whole numbers whose product is a size that a tensor may have. */
export function parseShape(json: unknown, where: string): Shape {
  if (!Array.isArray(json) || !json.every(isCount)) {
    throw new FormatError(`${where}: a shape is a list of sizes, this is ${JSON.stringify(json)}`);
  }
  const elements = json.reduce<number>((product, size: number) => product * Math.max(size, 1), 1);
  if (json.length > 64 || elements > MAX_ELEMENTS) {
    throw new FormatError(
      `${where}: ${formatShape(json)} has more elements or axes than tensors may`,
    );
  }
  return json;
}

function parseAttrs(
  json: Json,
  where: string,
  depth: number,
): Readonly<Record<string, AttrRecord>> {
  const attrs: Record<string, AttrRecord> = {};
  for (const [name, value] of Object.entries(json)) {
    if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'string') {
      attrs[name] = value;
    } else if (Array.isArray(value) && value.every(isInt)) attrs[name] = value;
    else if (isJson(value)) attrs[name] = parseBody(value, `'${name}' of ${where}`, depth + 1);
    else throw new FormatError(`${where}: attribute '${name}' is ${JSON.stringify(value)}`);
  }
  return attrs;
}

function parseBody(json: Json, what: string, depth: number): BodyRecord {
  const graph = parseGraph(json, what, depth);
  const { parameters, guards = [] } = json;
  if (!isCount(parameters) || parameters > graph.nodes.length) {
    throw new FormatError(`${what}: the number of its parameters is ${String(parameters)}`);
  }
  if (!Array.isArray(guards) || !guards.every(isGuard)) {
    throw new FormatError(`${what}: guards are three positions each`);
  }
  if (guards.some(([, , promise]) => promise >= graph.nodes.length)) {
    throw new FormatError(`${what}: a guard is of a node that is not there`);
  }
  return { ...graph, parameters, guards };
}

function isGuard(value: unknown): value is readonly [number, number, number] {
  return Array.isArray(value) && value.length === 3 && value.every(isCount);
}
