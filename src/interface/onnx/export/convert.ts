// From a traced graph to the nodes of a file: composites first, then one primitive at a time.
import { formatShape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import { UnsupportedError } from '../errors.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { findComposite } from './composites.ts';
import type { Conversions } from './conversion.ts';
import { CONVOLUTION } from './convolution.ts';
import { inOrder, isNumber, numberIn, operands, resolve, type TracedGraph } from './graph.ts';
import { INDEXING } from './indexing.ts';
import { LOGIC } from './logic.ts';
import type { Match } from './pattern.ts';
import { MATRICES } from './matrices.ts';
import { POOLING } from './pooling.ts';
import { type GraphScope, isResult, planRegion } from './region.ts';
import { REDUCTION } from './reduction.ts';
import { RUNNING } from './running.ts';
import { SHAPING } from './shaping.ts';
import { SPECIAL } from './special.ts';
import { TAPS } from './taps.ts';
import { UNARY } from './unary.ts';
import { UNSUPPORTED } from './unsupported.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

/** How each primitive is written. What is missing stands in UNSUPPORTED. */
export const CONVERSIONS: Conversions = {
  ...ARITHMETIC,
  ...UNARY,
  ...LOGIC,
  ...SHAPING,
  ...REDUCTION,
  ...INDEXING,
  ...CONVOLUTION,
  ...POOLING,
  ...TAPS,
  ...RUNNING,
  ...MATRICES,
  ...SPECIAL,
};

/** Constants with at most this many elements are computed by the export, not by the file's reader. */
const FOLDED_ELEMENTS = 65_536;

/** Nodes that follow from numbers alone and are the same in every trace. */
function constantsOf(graph: TracedGraph, order: readonly Node[], given: Given): Set<Node> {
  const constants = new Set<Node>();
  for (const node of order) {
    const { name, lower } = node.op;
    const isComputed =
      node.storage === null &&
      !given.has(node) &&
      name !== 'randomBits' &&
      lower.kind !== 'region' &&
      lower.kind !== 'result';
    if (!isComputed || !operands(node).every((operand) => constants.has(operand))) continue;
    const texts = graph.images(node).map(({ attrs, shape, value }) => {
      return JSON.stringify([Object.values(attrs), shape, String(value)]);
    });
    if (texts.every((text) => text === texts[0])) constants.add(node);
  }
  return constants;
}

/** Stands for a loop or choice, which has results and no value of its own. */
const WRITTEN = ' ';

/** Stands for the result of what could not be written: the export goes on, to list everything. */
const FAILED = '';

/** What all graphs of one file share. */
export interface Shared {
  readonly op: string;
  readonly graph: TracedGraph;
  /** Names of stored values that have one, by their storage. */
  readonly stateNames: ReadonlyMap<object, string>;
  /** Names of stored values that are written. */
  readonly stored: Map<object, string>;
  /** What could not be written, in words, and how often. */
  readonly failures: Map<string, number>;
}

/** Names of the values that a graph is given. */
type Given = ReadonlyMap<Node, string>;

export class GraphConversion implements GraphScope {
  readonly graph: TracedGraph;
  readonly writer: GraphWriter;
  readonly #shared: Shared;
  readonly #roots: readonly Node[];
  readonly #values: Map<Node, string>;
  readonly #plans = new Map<Node, Match>();
  readonly #constants: ReadonlySet<Node>;
  readonly #order: readonly Node[];
  /** Names of the results of loops and choices. */
  readonly #results = new Map<Node, ReadonlyMap<number, string>>();

  constructor(shared: Shared, writer: GraphWriter, roots: readonly Node[], given: Given) {
    this.#shared = shared;
    this.graph = shared.graph;
    this.writer = writer;
    this.#roots = roots;
    this.#values = new Map(given);
    this.#order = inOrder(roots, given);
    this.#constants = constantsOf(this.graph, this.#order, given);
  }

  /** Writes the main graph; returns the names of its outputs. Throws UnsupportedError. */
  static main(
    op: string,
    graph: TracedGraph,
    writer: GraphWriter,
    inputNames: readonly string[],
    stateNames: ReadonlyMap<object, string>,
  ): string[] {
    const stored = new Map<object, string>();
    graph.main.inputs.forEach(({ storage }, i) => {
      if (storage !== null) stored.set(storage, inputNames[i] as string);
    });
    const failures = new Map<string, number>();
    const roots = graph.main.outputs.map(({ node }) => resolve(node));
    const shared = { op, graph, stateNames, stored, failures };
    const names = new GraphConversion(shared, writer, roots, new Map()).run();
    if (failures.size === 0) return names;
    const problems = Array.from(failures, ([text, count]) =>
      count > 1 ? `${text} (${count} times)` : text,
    );
    throw new UnsupportedError(problems, { op });
  }

  /** Writes all that the roots need; returns their names, empty for what could not be written. */
  run(): string[] {
    return this.#roots.map((node) => this.#valueOf(node));
  }

  usedResults(region: Node): Set<number> {
    return new Set(
      this.#order
        .filter((node) => isResult(node) && operands(node)[0] === region)
        .map(({ attrs }) => attrs['index'] as number),
    );
  }

  body(outputs: readonly Node[], given: Given): { writer: GraphWriter; names: string[] } {
    const writer = this.writer.nested();
    const names = this.graph.within(given, () =>
      new GraphConversion(this.#shared, writer, outputs, given).run(),
    );
    return { writer, names };
  }

  /** The value of a node, written after everything that it needs. */
  #valueOf(root: Node): string {
    const stack = [root];
    for (let node = stack.at(-1); node !== undefined; node = stack.at(-1)) {
      if (this.#values.has(node)) {
        stack.pop();
        continue;
      }
      const { needs } = this.#planOf(node);
      const missing = needs.filter((needed) => !this.#values.has(needed));
      if (missing.length > 0) stack.push(...missing.toReversed());
      else this.#write(node);
    }
    return this.#values.get(root) as string;
  }

  #planOf(node: Node): Match {
    let plan = this.#plans.get(node);
    if (plan === undefined) {
      plan = this.#isFolded(node)
        ? { needs: [], write: (writer) => writer.stored(node, undefined) }
        : (this.#region(node) ??
          findComposite(node, this.graph, this.writer) ??
          this.#primitive(node));
      this.#plans.set(node, plan);
    }
    return plan;
  }

  /** Whether a constant is stored as its values; one number in all places is written shorter. */
  #isFolded(node: Node): boolean {
    if (!this.#constants.has(node) || isNumber(node)) return false;
    return node.op.name !== 'full' && sizeOf(node.shape) <= FOLDED_ELEMENTS;
  }

  /** A loop or choice, or one of its results. */
  #region(node: Node): Match | null {
    if (isResult(node)) {
      const region = operands(node)[0] as Node;
      const index = node.attrs['index'] as number;
      return { needs: [region], write: () => this.#results.get(region)?.get(index) ?? FAILED };
    }
    const plan = node.storage === null ? planRegion(this, node) : null;
    if (plan === null) return null;
    return {
      needs: plan.needs,
      write: (_, inputs) => {
        const results = plan.write(inputs);
        if ([...inputs, ...results.values()].includes(FAILED)) return FAILED;
        this.#results.set(node, results);
        return WRITTEN;
      },
    };
  }

  #primitive(node: Node): Match {
    if (node.storage !== null) return { needs: [], write: () => this.#storedValue(node) };
    if (node.op.name === 'scalar') {
      const values = this.graph.vary(node, numberIn);
      return { needs: [], write: (writer) => writer.scalar(values, node.dtype) };
    }
    return {
      needs: operands(node),
      write: (writer, inputs) => {
        const conversion = CONVERSIONS[node.op.name];
        if (conversion === undefined) {
          throw new NotExportable(UNSUPPORTED[node.op.name] ?? 'it has no conversion');
        }
        return conversion.write({ writer, graph: this.graph, node, inputs });
      },
    };
  }

  /** An initializer; several views of one storage share it. */
  #storedValue(node: Node): string {
    const storage = node.storage as object;
    const known = this.#shared.stored.get(storage);
    if (known !== undefined) return known;
    const name = this.writer.stored(node, this.#shared.stateNames.get(storage));
    this.#shared.stored.set(storage, name);
    return name;
  }

  #write(node: Node): void {
    const { needs, write } = this.#planOf(node);
    const inputs = needs.map((needed) => this.#values.get(needed) as string);
    this.#values.set(node, FAILED);
    const isRegion = node.op.lower.kind === 'region';
    if (node.storage === null && !isRegion && inputs.includes(FAILED)) {
      // Where an operand is missing, only what has no conversion at all is worth telling.
      if (UNSUPPORTED[node.op.name] !== undefined)
        this.#fail(node, UNSUPPORTED[node.op.name] as string);
      return;
    }
    try {
      this.#values.set(node, write(this.writer, inputs));
    } catch (error) {
      if (!(error instanceof NotExportable)) throw error;
      this.#fail(node, error.message);
    }
  }

  #fail(node: Node, reason: string): void {
    const line = this.graph.main.lineOf(node);
    const place = line === '' ? '' : ` at ${line}`;
    const text = `${node.op.name} ${node.dtype} ${formatShape(node.shape)}${place}: ${reason}`;
    this.#shared.failures.set(text, (this.#shared.failures.get(text) ?? 0) + 1);
  }
}
