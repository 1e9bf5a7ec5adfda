// Walks a program once, inputs first, and lets rules replace nodes; equal nodes become one, and
// what no root needs any more is gone.
import { isFloat } from '../../base/dtype.ts';
import { Node } from '../../graph/node.ts';
import { collectFlow, type Flow } from '../flow.ts';
import type { Program } from '../program.ts';
import { ValueNumbers } from './value-numbers.ts';

/** What a rule may ask about the program. */
export interface RewriteContext {
  readonly numerics: 'fast' | 'strict';
  /** Whether the value is given (stored or a scalar slot), so that its op must not be looked at. */
  isLeaf(node: Node): boolean;
  /** Whether at most one node of the program reads the value, and it is not a result. */
  usedOnce(node: Node): boolean;
  /**
   * Whether the value follows from parameters that stay as they are for many runs, and from nothing
   * else but numbers. A number of the program alone is none: it may be another one in each run.
   */
  isConstant(node: Node): boolean;
}

/** A simplification. Returns a node of the same shape, dtype and value, or null. */
export interface Rule {
  readonly name: string;
  apply(node: Node, context: RewriteContext): Node | null;
}

export interface Rewritten {
  readonly flow: Flow;
  /** For each position of the program, the node that now stands for it; it may be dead. */
  readonly replacements: readonly Node[];
  /** How often each rule applied, and how many equal nodes were joined, by name. */
  readonly applied: ReadonlyMap<string, number>;
}

/** The name under which joined nodes are counted. */
export const COMMON = 'common-subexpressions';

export interface RewriteOptions {
  readonly numerics: 'fast' | 'strict';
  /** Whether equal nodes are joined. */
  readonly common: boolean;
  /** For each leaf, whether it stays as it is; if nothing is said, none does. */
  readonly constantLeaves?: readonly boolean[] | undefined;
}

/** Applies `rules`, to each node until none fits, and joins equal nodes if `common` is set. */
export function rewrite(
  program: Program,
  rules: readonly Rule[],
  options: RewriteOptions,
): Rewritten {
  return new Rewriter(program, rules, options).run();
}

/**
 * What a value is computed from: what changes from run to run; parameters that stay, and numbers;
 * numbers alone; nothing that is not known while compiling.
 */
type Origin = 'data' | 'parameters' | 'numbers' | 'known';

class Rewriter {
  readonly #program: Program;
  readonly #rules: readonly Rule[];
  readonly #context: RewriteContext;
  readonly #leaves = new Map<Node, number>();
  readonly #scalars = new Map<Node, number>();
  readonly #canonical = new Map<Node, Node>();
  readonly #numbers: ValueNumbers | null;
  /** Readers of a node; those of the nodes that it stands for are added up. */
  readonly #uses = new Map<Node, number>();
  readonly #applied = new Map<string, number>();
  readonly #constantLeaves: readonly boolean[];
  readonly #origins = new Map<Node, Origin>();

  constructor(program: Program, rules: readonly Rule[], options: RewriteOptions) {
    const { numerics, common, constantLeaves = [] } = options;
    this.#program = program;
    this.#rules = rules;
    this.#constantLeaves = constantLeaves;
    this.#numbers = common ? new ValueNumbers() : null;
    program.leaves.forEach((leaf, index) => this.#leaves.set(leaf, index));
    program.scalars.forEach((scalar, slot) => this.#scalars.set(scalar, slot));
    this.#countUses();
    this.#context = {
      numerics,
      isLeaf: (node) => this.#isLeaf(node),
      usedOnce: (node) => (this.#uses.get(node) ?? 0) <= 1,
      isConstant: (node) => ['known', 'parameters'].includes(this.#originOf(node)),
    };
  }

  run(): Rewritten {
    const replacements = this.#program.nodes.map((node) => this.#visit(node));
    const roots = this.#program.roots.map(({ position, inPlaceOf }) => ({
      node: replacements[position] as Node,
      inPlaceOf,
    }));
    const flow = collectFlow(roots, this.#leaves, this.#scalars);
    return { flow, replacements, applied: this.#applied };
  }

  #countUses(): void {
    const count = (node: Node): void => {
      this.#uses.set(node, (this.#uses.get(node) ?? 0) + 1);
    };
    for (const node of this.#program.nodes) if (!this.#isLeaf(node)) node.inputs.forEach(count);
    for (const { position } of this.#program.roots) {
      const root = this.#program.nodes[position] as Node;
      this.#uses.set(root, Infinity);
    }
  }

  #isLeaf(node: Node): boolean {
    return this.#leaves.has(node) || this.#scalars.has(node);
  }

  /** The node that stands for `node`. Recursion is as deep as what one rule builds. */
  #visit(node: Node): Node {
    const known = this.#canonical.get(node);
    if (known !== undefined) return known;
    const result = this.#isLeaf(node) ? node : this.#replace(this.#withInputs(node));
    this.#canonical.set(node, result);
    // Inputs first, so that no later question walks far.
    this.#originOf(result);
    if (result !== node) {
      this.#uses.set(result, (this.#uses.get(result) ?? 0) + (this.#uses.get(node) ?? 0));
    }
    return result;
  }

  #withInputs(node: Node): Node {
    const inputs = node.inputs.map((input) => this.#visit(input));
    if (inputs.every((input, index) => input === node.inputs[index])) return node;
    const { op, attrs, shape, dtype, tracked, device } = node;
    return new Node(op, inputs, attrs, shape, dtype, tracked, device);
  }

  #replace(node: Node): Node {
    for (const rule of this.#rules) {
      const replacement = rule.apply(node, this.#context);
      if (replacement === null || replacement === node) continue;
      this.#count(rule.name);
      return this.#visit(replacement);
    }
    if (this.#numbers === null) return node;
    const first = this.#numbers.intern(node);
    if (first !== node) this.#count(COMMON);
    // A rule may return it as it is.
    this.#canonical.set(first, first);
    return first;
  }

  #originOf(node: Node): Origin {
    let origin = this.#origins.get(node);
    if (origin === undefined) {
      origin = this.#findOrigin(node);
      this.#origins.set(node, origin);
    }
    return origin;
  }

  #findOrigin(node: Node): Origin {
    const leaf = this.#leaves.get(node);
    if (leaf !== undefined) return this.#constantLeaves[leaf] === true ? 'parameters' : 'data';
    if (this.#scalars.has(node)) return isFloat(node.dtype) ? 'numbers' : 'data';
    const { op, inputs } = node;
    if (inputs.length === 0) return op.name === 'full' ? 'known' : 'data';
    const { kind } = op.lower;
    if (kind === 'region' || kind === 'result' || kind === 'host') return 'data';
    const origins = new Set(inputs.map((input) => this.#originOf(input)));
    for (const origin of ['data', 'parameters', 'numbers'] as const) {
      if (origins.has(origin)) return origin;
    }
    return 'known';
  }

  #count(name: string): void {
    this.#applied.set(name, (this.#applied.get(name) ?? 0) + 1);
  }
}
