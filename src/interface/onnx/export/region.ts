// Loops and choices as nodes with graphs inside: Scan, Loop and If.
import type { Node } from '../../../graph/node.ts';
import type { AttrsOf } from '../../../graph/op.ts';
import type { Subgraph } from '../../../graph/subgraph.ts';
import type { AttributeValue } from '../encode-attribute.ts';
import type { Draft, GraphProto, ValueInfoProto } from '../messages.ts';
import { sizesOf } from './conversion.ts';
import { inOrder, operands, resolve, type TracedGraph } from './graph.ts';
import { planRecurrent } from './recurrent.ts';
import { isFixed, type Varying } from './sizes.ts';
import { valueInfo } from './value-info.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

/** The graph that a region stands in, while it is written. */
export interface GraphScope {
  readonly graph: TracedGraph;
  readonly writer: GraphWriter;
  /** Which results of a region anything asks for. */
  usedResults(region: Node): ReadonlySet<number>;
  /** Writes a graph inside; names are empty for what could not be written. */
  body(
    outputs: readonly Node[],
    given: ReadonlyMap<Node, string>,
  ): { readonly writer: GraphWriter; readonly names: readonly string[] };
}

/** How a region is written: the names of its results by their numbers. */
export interface RegionPlan {
  readonly needs: readonly Node[];
  write(inputs: readonly string[]): ReadonlyMap<number, string>;
}

export function isResult(node: Node): boolean {
  return node.storage === null && node.op.lower.kind === 'result' && node.op.name === 'result';
}

/** The primitives that are written here. */
export const REGIONS: ReadonlySet<string> = new Set(['loop', 'choice']);

/** A plan for a loop or choice; null for other nodes. Throws nothing: what is wrong is told by `write`. */
export function planRegion(scope: GraphScope, node: Node): RegionPlan | null {
  if (!REGIONS.has(node.op.name)) return null;
  if (node.op.name === 'choice') return planChoice(scope, node);
  return planRecurrent(scope, node) ?? new LoopPlan(scope, node);
}

/** Names for values that a body is given; aliases of them are the same values. */
function nameGiven(
  formals: readonly Node[],
  name: (index: number) => string | undefined,
): Map<Node, string> {
  const given = new Map<Node, string>();
  formals.forEach((formal, i) => {
    const value = name(i);
    if (value === undefined) return;
    given.set(formal, value);
    given.set(resolve(formal), value);
  });
  return given;
}

/** A value with its type, for the list of a graph's inputs or outputs. */
function infoOf({ graph }: GraphScope, name: string, node: Node): Draft<ValueInfoProto> {
  return valueInfo(name, node.dtype, graph.grid, sizesOf(graph, node));
}

/**
 * A graph inside a node. Its outputs are made in it, each under a name of its own; `first` are
 * further ones in front.
 */
function graphInside(
  scope: GraphScope,
  name: string,
  input: readonly Draft<ValueInfoProto>[],
  outputs: readonly Node[],
  { writer, names }: ReturnType<GraphScope['body']>,
  first: readonly Draft<ValueInfoProto>[] = [],
): Draft<GraphProto> {
  const made = new Set(writer.nodes.flatMap(({ output }) => output ?? []));
  const output = names.map((value, i) => {
    const isOwn = made.delete(value);
    const own = isOwn ? value : writer.add('Identity', [value]);
    return infoOf(scope, own, outputs[i] as Node);
  });
  return { name, node: writer.nodes, input, output: [...first, ...output] };
}

const FAILED = '';

/** Nothing but failures, which are noted already. */
function failed(used: Iterable<number>): Map<number, string> {
  return new Map([...used, -1].map((index) => [index, FAILED]));
}

// ---- choices ----------------------------------------------------------------------------------

function planChoice(scope: GraphScope, node: Node): RegionPlan {
  const { whenTrue, whenFalse } = node.attrs as { whenTrue: Subgraph; whenFalse: Subgraph };
  const used = [...scope.usedResults(node)];
  return {
    needs: operands(node),
    write: (inputs) => {
      const given = nameGiven(whenTrue.parameters, (i) => inputs[i]);
      const branches = [whenTrue, whenFalse].map((branch) => {
        const outputs = used.map((index) => resolve(branch.outputs[index] as Node));
        return { outputs, body: scope.body(outputs, given) };
      });
      if (branches.some(({ body }) => body.names.includes(FAILED))) return failed(used);
      const [then_branch, else_branch] = branches.map(({ outputs, body }, i) => ({
        graph: graphInside(scope, i === 0 ? 'then' : 'else', [], outputs, body),
      })) as [AttributeValue, AttributeValue];
      const names = scope.writer.addMany('If', [inputs[0] as string], used.length, {
        then_branch,
        else_branch,
      });
      return new Map(used.map((index, i) => [index, names[i] as string]));
    },
  };
}

// ---- loops ------------------------------------------------------------------------------------

type LoopAttrs = AttrsOf<{
  readonly body: 'graph';
  readonly carries: 'int';
  readonly slices: 'int';
  readonly trips: 'int';
  readonly backwards: 'flag';
  readonly condition: 'int';
}>;

/** What is kept of each round: a result of the loop, and the value inside. */
interface Kept {
  readonly index: number;
  readonly node: Node;
}

class LoopPlan implements RegionPlan {
  readonly needs: readonly Node[];
  readonly #scope: GraphScope;
  readonly #node: Node;
  readonly #attrs: LoopAttrs;
  readonly #operands: readonly Node[];
  readonly #used: ReadonlySet<number>;
  /** Numbers of the carries and of the slices that anything needs. */
  readonly #carries: readonly number[];
  readonly #slices: readonly number[];
  /** Numbers of the values from outside. */
  readonly #captured: readonly number[];
  readonly #kept: readonly Kept[];

  constructor(scope: GraphScope, node: Node) {
    this.#scope = scope;
    this.#node = node;
    this.#attrs = node.attrs as LoopAttrs;
    this.#operands = operands(node);
    this.#used = scope.usedResults(node);
    const { body, carries, slices, condition } = this.#attrs;
    const first = body.outputs.length;
    this.#kept = [...this.#used].flatMap((index): Kept[] => {
      if (index < carries) return [];
      const value = index < first ? body.outputs[index] : body.parameters[index - first];
      return [{ index, node: resolve(value as Node) }];
    });
    const finals = [...this.#used].filter((index) => index < carries);
    const reached = this.#reach(condition < 0 ? finals : [...finals, condition]);
    this.#carries = Array.from({ length: carries }, (_, k) => k).filter((k) => reached.has(k));
    this.#slices = Array.from({ length: slices }, (_, k) => carries + k).filter((k) =>
      reached.has(k),
    );
    const outside = body.parameters.map((_, k) => k).slice(carries + slices);
    this.#captured = outside.filter((k) => reached.has(k));
    this.needs = [...this.#carries, ...this.#slices, ...this.#captured].map(
      (k) => this.#operands[k] as Node,
    );
  }

  /** Numbers of the parameters that lead to these carries and to what is kept. */
  #reach(carries: readonly number[]): Set<number> {
    const { body, carries: count } = this.#attrs;
    const formals = new Map<Node, number>();
    body.parameters.forEach((node, k) => formals.set(node, k).set(resolve(node), k));
    const live = new Set(carries);
    for (;;) {
      const roots = [
        ...[...live].map((k) => resolve(body.outputs[k] as Node)),
        ...this.#kept.map(({ node }) => node),
      ];
      const reached = inOrder(roots, formals).flatMap((node) => formals.get(node) ?? []);
      const more = reached.filter((k) => k < count && !live.has(k));
      if (more.length === 0) return new Set([...reached, ...live]);
      for (const k of more) live.add(k);
    }
  }

  write(inputs: readonly string[]): ReadonlyMap<number, string> {
    const { condition } = this.#attrs;
    const names = new Map<number, string>();
    [...this.#carries, ...this.#slices, ...this.#captured].forEach((k, i) =>
      names.set(k, inputs[i] as string),
    );
    if (condition < 0 && this.#slices.length > 0) return this.#scan(names);
    if (condition >= 0 && (this.#kept.length > 0 || this.#slices.length > 0)) {
      throw new NotExportable('it keeps values of each round of a loop that may end early');
    }
    return this.#loop(names);
  }

  /** The body, with names for its parameters, and an input for each that is no value from outside. */
  #body(
    outputs: readonly Node[],
    names: ReadonlyMap<number, string>,
    own: ReadonlyMap<number, string>,
  ): ReturnType<GraphScope['body']> {
    const { parameters } = this.#attrs.body;
    return this.#scope.body(
      outputs,
      nameGiven(parameters, (k) => own.get(k) ?? names.get(k)),
    );
  }

  #infos(own: ReadonlyMap<number, string>, numbers: readonly number[]): Draft<ValueInfoProto>[] {
    const { parameters } = this.#attrs.body;
    return numbers.map((k) =>
      infoOf(this.#scope, own.get(k) as string, resolve(parameters[k] as Node)),
    );
  }

  #fresh(numbers: readonly number[]): Map<number, string> {
    return new Map(numbers.map((k) => [k, this.#scope.writer.fresh('value')]));
  }

  #nextOf(carries: readonly number[]): Node[] {
    return carries.map((k) => resolve(this.#attrs.body.outputs[k] as Node));
  }

  #scan(names: ReadonlyMap<number, string>): ReadonlyMap<number, string> {
    const { writer } = this.#scope;
    const numbers = [...this.#carries, ...this.#slices];
    const own = this.#fresh(numbers);
    const outputs = [...this.#nextOf(this.#carries), ...this.#kept.map(({ node }) => node)];
    const body = this.#body(outputs, names, own);
    if (body.names.includes(FAILED)) return failed(this.#used);
    const graph = graphInside(this.#scope, 'body', this.#infos(own, numbers), outputs, body);
    const back = this.#attrs.backwards ? 1 : 0;
    const results = writer.addMany(
      'Scan',
      numbers.map((k) => names.get(k) as string),
      outputs.length,
      {
        body: { graph },
        num_scan_inputs: this.#slices.length,
        ...(back === 1
          ? {
              scan_input_directions: this.#slices.map(() => back),
              scan_output_directions: this.#kept.map(() => back),
            }
          : {}),
      },
    );
    return this.#named(this.#carries, results);
  }

  /** Results under their numbers: those of carries first, then what is kept. */
  #named(carries: readonly number[], results: readonly string[]): Map<number, string> {
    const named = new Map(carries.map((k, i) => [k, results[i] as string]));
    this.#kept.forEach(({ index }, i) => named.set(index, results[carries.length + i] as string));
    return named;
  }

  #loop(names: ReadonlyMap<number, string>): ReadonlyMap<number, string> {
    const { condition, backwards } = this.#attrs;
    const { writer, graph } = this.#scope;
    // The condition is no value of a Loop unless something reads it behind.
    const carries = this.#carries.filter((k) => k !== condition || this.#used.has(k));
    const own = this.#fresh(carries);
    const [round, goes] = [writer.fresh('round'), writer.fresh('goes')];
    if (condition >= 0 && !own.has(condition)) own.set(condition, goes);
    const isConditional = condition >= 0;
    const outputs = [
      ...this.#nextOf(isConditional ? [condition, ...carries] : carries),
      ...this.#kept.map(({ node }) => node),
    ];
    const body = this.#body(outputs, names, own);
    if (body.names.includes(FAILED)) return failed(this.#used);
    const bool = (name: string): Draft<ValueInfoProto> => valueInfo(name, 'bool', graph.grid, []);
    const input = [
      valueInfo(round, 'int64', graph.grid, []),
      bool(goes),
      ...this.#infos(own, carries),
    ];
    const first = isConditional ? [] : [bool(body.writer.add('Identity', [goes]))];
    const trips = graph.vary(this.#node, ({ attrs }) => attrs['trips'] as number);
    const results = writer.addMany(
      'Loop',
      [
        this.#bound(trips),
        isConditional ? (names.get(condition) as string) : '',
        ...carries.map((k) => names.get(k) as string),
      ],
      carries.length + this.#kept.length,
      { body: { graph: graphInside(this.#scope, 'body', input, outputs, body, first) } },
    );
    const named = this.#named(carries, results);
    if (!backwards) return named;
    // A Loop puts what it keeps in the order of its rounds.
    for (const { index } of this.#kept) {
      const each = (value: number): string => writer.integers([value]);
      const turned = [named.get(index) as string, each(-1), each(-(2 ** 31)), each(0), each(-1)];
      named.set(index, writer.add('Slice', turned));
    }
    return named;
  }

  #bound(trips: Varying): string {
    const { writer } = this.#scope;
    if (trips.every((count) => count < 0)) return '';
    if (isFixed(trips)) return writer.number(trips[0] as number, 'int64');
    return writer.add('Reshape', [writer.integer(trips), writer.integers([])]);
  }
}
