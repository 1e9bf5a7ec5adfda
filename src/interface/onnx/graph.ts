// From the messages of a file to a graph that can be run: operators found, attributes read, names
// checked. What is not supported is gathered and told at once.
import { FormatError } from '../../base/errors.ts';
import { type AttributeReader, attributeTypeName, typeOfAttribute } from './attributes.ts';
import { UnsupportedError } from './errors.ts';
import type {
  AttributeProto,
  FunctionProto,
  GraphProto,
  ModelProto,
  NodeProto,
  OperatorSetId,
  TensorProto,
  ValueInfoProto,
} from './messages.ts';
import type { Operator } from './operator.ts';
import { isOwnFunction } from './own-functions.ts';
import { decodeSparse } from './sparse.ts';
import { type ElementArray, decodeTensor } from './tensor-data.ts';
import { TensorValue } from './values.ts';

/** One node, ready to be run. */
export interface GraphNode {
  /** How messages call it. */
  readonly label: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Names of the graphs around it that its subgraphs use. */
  readonly captured: readonly string[];
  readonly work:
    | {
        readonly kind: 'operator';
        readonly operator: Operator;
        readonly attributes: Readonly<Record<string, unknown>>;
        readonly opset: number;
      }
    | { readonly kind: 'function'; readonly body: Graph };
}

/** A graph, ready to be run. */
export interface Graph {
  readonly name: string;
  /** Names of the inputs in their order, initializers left out. */
  readonly inputs: readonly string[];
  readonly inputInfo: readonly ValueInfoProto[];
  readonly outputs: readonly string[];
  readonly outputInfo: readonly ValueInfoProto[];
  /** Only the nodes that an output needs. */
  readonly nodes: readonly GraphNode[];
  readonly initializers: Map<string, TensorValue>;
  /** Names it uses of the graphs around it. */
  readonly captured: readonly string[];
}

/** Finds the row of an operator. */
export type OperatorFinder = (
  domain: string,
  name: string,
  opset: number,
) => Operator | { readonly reason: string };

/** Nodes in a model, bodies of functions counted at each use: a short file can ask for a long list. */
const MAX_NODES = 100_000;

/** Functions may call functions so deep; a function that calls itself reaches any depth. */
const MAX_CALLS = 64;

/** What the names of a graph stand for: those it defines, and the graph around it. */
interface Names {
  readonly own: Set<string>;
  readonly outer: Names | null;
}

function knows(names: Names | null, name: string): boolean {
  for (let at = names; at !== null; at = at.outer) if (at.own.has(name)) return true;
  return false;
}

/** Where nodes stand: which operator sets hold, and what the attributes of a function are bound to. */
interface Context {
  readonly opsets: ReadonlyMap<string, number>;
  readonly bindings: ReadonlyMap<string, AttributeProto> | null;
  readonly calls: number;
}

/** 'ai.onnx' is another way to write the domain ''. */
const domainOf = (domain: string | undefined): string =>
  domain === undefined || domain === 'ai.onnx' ? '' : domain;

function readOpsets(imports: readonly OperatorSetId[]): Map<string, number> {
  return new Map(imports.map(({ domain, version }) => [domainOf(domain), version ?? 0]));
}

/** Builds the graphs of one model. */
export class GraphBuilder implements AttributeReader {
  readonly #find: OperatorFinder;
  readonly #functions: ReadonlyMap<string, FunctionProto>;
  readonly #external: ReadonlyMap<TensorProto, Uint8Array>;
  readonly #problems = new Set<string>();
  #nodes = 0;
  /** Where the attribute that is being read stands. */
  #at: { names: Names; context: Context; captured: Set<string> } | null = null;

  constructor(
    model: ModelProto,
    find: OperatorFinder,
    external: ReadonlyMap<TensorProto, Uint8Array>,
  ) {
    this.#find = find;
    this.#external = external;
    this.#functions = new Map(
      model.functions.map((f) => [`${domainOf(f.domain)}:${f.name ?? ''}:${f.overload ?? ''}`, f]),
    );
  }

  /**
   * The main graph of a model.
   *
   * @throws UnsupportedError that names every node with an operator, version or attribute that is not
   *   known; FormatError if the graph contradicts itself.
   */
  build(model: ModelProto): Graph {
    if (model.graph === undefined) throw new FormatError('the model holds no graph');
    const context = { opsets: readOpsets(model.opsetImport), bindings: null, calls: 0 };
    const graph = this.#graph(model.graph, null, context);
    if (this.#problems.size > 0) throw new UnsupportedError([...this.#problems], { op: 'onnx' });
    return graph;
  }

  subgraph(proto: GraphProto): Graph {
    const at = this.#at;
    if (at === null) throw new FormatError('a subgraph outside of a node');
    const graph = this.#graph(proto, at.names, at.context);
    this.#at = at;
    for (const name of graph.captured) at.captured.add(name);
    return graph;
  }

  #array(tensor: TensorProto): ElementArray {
    return decodeTensor(tensor, this.#external.get(tensor));
  }

  #graph(proto: GraphProto, outer: Names | null, context: Context): Graph {
    const names: Names = { own: new Set(), outer };
    const initializers = new Map<string, TensorValue>();
    const add = (name: string | undefined, array: ElementArray): void => {
      if (name === undefined || name === '') throw new FormatError('an initializer without a name');
      if (initializers.has(name)) throw new FormatError(`two initializers are called '${name}'`);
      initializers.set(name, TensorValue.ofArray(array));
      names.own.add(name);
    };
    for (const tensor of proto.initializer) add(tensor.name, this.#array(tensor));
    for (const sparse of proto.sparseInitializer) add(sparse.values?.name, decodeSparse(sparse));
    const inputs: string[] = [];
    for (const { name } of proto.input) {
      if (name === undefined || name === '') throw new FormatError('an input without a name');
      // Before version 4 of the format every initializer is listed as an input too.
      if (initializers.has(name)) continue;
      if (names.own.has(name)) throw new FormatError(`two inputs are called '${name}'`);
      names.own.add(name);
      inputs.push(name);
    }
    const outputs = proto.output.map(({ name }) => name ?? '');
    const body = this.#body(proto.node, names, context, outputs, `graph '${proto.name ?? ''}'`);
    return {
      ...body,
      name: proto.name ?? '',
      inputs,
      inputInfo: proto.input.filter(({ name }) => !initializers.has(name ?? '')),
      outputs,
      outputInfo: proto.output,
      initializers,
    };
  }

  #body(
    protos: readonly NodeProto[],
    names: Names,
    context: Context,
    outputs: readonly string[],
    where: string,
  ): Pick<Graph, 'nodes' | 'captured'> {
    const all = protos.map((proto, index) => this.#node(proto, index, names, context));
    const needed = new Set(outputs);
    for (const name of outputs) {
      if (!knows(names, name)) throw new FormatError(`${where} has no value '${name}' to give`);
    }
    const nodes: GraphNode[] = [];
    for (const node of all.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name))) continue;
      // What nobody uses is as good as left out.
      const outputs = node.outputs.map((name) => (needed.has(name) ? name : ''));
      nodes.push({ ...node, outputs });
      for (const name of node.inputs) needed.add(name);
      for (const name of node.captured) needed.add(name);
    }
    needed.delete('');
    const captured = [...needed].filter((name) => !names.own.has(name));
    return { nodes: nodes.reverse(), captured };
  }

  #node(proto: NodeProto, index: number, names: Names, context: Context): GraphNode {
    if (++this.#nodes > MAX_NODES) throw new FormatError(`more than ${MAX_NODES} nodes`);
    const label = labelOf(proto, index);
    for (const name of proto.input) {
      if (name !== '' && !knows(names, name)) {
        throw new FormatError(`${label} uses '${name}', which nothing before it makes`);
      }
    }
    const captured = new Set<string>();
    const work = this.#work(proto, label, names, context, captured);
    for (const name of proto.output) {
      if (name === '') continue;
      if (names.own.has(name)) throw new FormatError(`${label} makes '${name}' a second time`);
      names.own.add(name);
    }
    return {
      label,
      inputs: proto.input,
      outputs: proto.output,
      captured: [...captured].filter((name) => name !== ''),
      work,
    };
  }

  #work(
    proto: NodeProto,
    label: string,
    names: Names,
    context: Context,
    captured: Set<string>,
  ): GraphNode['work'] {
    const domain = domainOf(proto.domain);
    const name = proto.opType ?? '';
    const own = this.#functions.get(`${domain}:${name}:${proto.overload ?? ''}`);
    // Our own export's functions are what they were before it.
    if (own !== undefined && !isOwnFunction(own)) return this.#function(own, proto, label, context);
    const opset = context.opsets.get(domain);
    const operator =
      opset === undefined
        ? { reason: `the model imports no version of the domain '${domain}'` }
        : this.#find(domain, name, opset);
    const failed = { kind: 'function', body: EMPTY } as const;
    if ('reason' in operator) {
      this.#problems.add(`${label}: ${operator.reason}`);
      return failed;
    }
    checkCount(label, 'inputs', proto.input.length, operator.inputs);
    checkCount(label, 'outputs', proto.output.length, operator.outputs);
    const before = this.#at;
    this.#at = { names, context, captured };
    const attributes = this.#attributes(proto, operator, label, context);
    this.#at = before;
    return { kind: 'operator', operator, attributes, opset: opset ?? 0 };
  }

  #attributes(
    proto: NodeProto,
    { attributes: schema }: Operator,
    label: string,
    context: Context,
  ): Record<string, unknown> {
    const values: Record<string, unknown> = {};
    for (const [name, { standard }] of Object.entries(schema)) values[name] = standard;
    const given = new Set<string>();
    for (const raw of proto.attribute) {
      const name = raw.name ?? '';
      const bound = resolveReference(raw, context);
      if (bound === undefined) continue;
      if (given.has(name)) throw new FormatError(`${label} has two attributes '${name}'`);
      given.add(name);
      const row = Object.hasOwn(schema, name) ? schema[name] : undefined;
      if (row === undefined) {
        this.#problems.add(`${label}: there is no attribute '${name}' in this version`);
        continue;
      }
      const type = typeOfAttribute(bound);
      if (row.types.length > 0 && !row.types.includes(type)) {
        throw new FormatError(
          `${label}: the attribute '${name}' is of type ${attributeTypeName(type)}, not ${row.types.map(attributeTypeName).join(' or ')}`,
        );
      }
      try {
        values[name] = row.read(bound, this);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        throw new FormatError(`${label}: attribute '${name}': ${error.message}`, { cause: error });
      }
    }
    for (const [name, { required }] of Object.entries(schema)) {
      if (required && !given.has(name)) {
        throw new FormatError(`${label}: the attribute '${name}' is missing`);
      }
    }
    return values;
  }

  #function(
    { name, input, output, node, opsetImport, attribute, attributeProto }: FunctionProto,
    call: NodeProto,
    label: string,
    context: Context,
  ): GraphNode['work'] {
    if (context.calls >= MAX_CALLS) {
      throw new FormatError(`${label}: functions call each other more than ${MAX_CALLS} deep`);
    }
    checkCount(label, 'inputs', call.input.length, [0, input.length]);
    checkCount(label, 'outputs', call.output.length, [0, output.length]);
    const bindings = new Map<string, AttributeProto>();
    for (const proto of attributeProto) bindings.set(proto.name ?? '', proto);
    for (const raw of call.attribute) {
      const bound = resolveReference(raw, context);
      if (bound === undefined) continue;
      const known = attribute.includes(raw.name ?? '') || bindings.has(raw.name ?? '');
      if (known) bindings.set(raw.name ?? '', bound);
      else this.#problems.add(`${label}: the function has no attribute '${raw.name ?? ''}'`);
    }
    const opsets = new Map([...context.opsets, ...readOpsets(opsetImport)]);
    const inner: Context = { opsets, bindings, calls: context.calls + 1 };
    const names: Names = { own: new Set(input), outer: null };
    const body = this.#body(node, names, inner, output, `function '${name ?? ''}'`);
    return {
      kind: 'function',
      body: {
        ...body,
        name: name ?? '',
        inputs: input,
        inputInfo: [],
        outputs: output,
        outputInfo: [],
        initializers: new Map(),
      },
    };
  }
}

const EMPTY: Graph = {
  name: '',
  inputs: [],
  inputInfo: [],
  outputs: [],
  outputInfo: [],
  nodes: [],
  initializers: new Map(),
  captured: [],
};

/** An attribute, or what the attribute of the function around it is bound to; undefined if to nothing. */
function resolveReference(proto: AttributeProto, context: Context): AttributeProto | undefined {
  const reference = proto.refAttrName;
  if (reference === undefined || reference === '') return proto;
  if (context.bindings === null) {
    throw new FormatError(`an attribute refers to '${reference}' outside of a function`);
  }
  return context.bindings.get(reference);
}

function labelOf(proto: NodeProto, index: number): string {
  const domain = domainOf(proto.domain);
  const type = domain === '' ? (proto.opType ?? '') : `${domain}.${proto.opType ?? ''}`;
  const named = proto.name !== undefined && proto.name !== '';
  return named ? `node '${proto.name}' (${type})` : `node ${index} (${type})`;
}

function checkCount(
  label: string,
  what: string,
  count: number,
  [fewest, most]: readonly [number, number],
): void {
  if (count >= fewest && count <= most) return;
  const allowed = fewest === most ? String(fewest) : `${fewest} to ${most}`;
  throw new FormatError(`${label} has ${count} ${what}, ${allowed} are possible`);
}
