// The program as the compiler sees it: live nodes in order, with who reads whom. Passes give a new
// one; scheduling and lowering only read it.
import { internalError } from '../base/errors.ts';
import type { Node } from '../graph/node.ts';

/** A result that must be written to memory that outlives the run. */
export interface FlowRoot {
  readonly node: Node;
  /** Index of the leaf whose memory it takes, or -1 for a buffer of its own. */
  readonly inPlaceOf: number;
}

/** An input that `user` reads: its `operand`-th. */
export interface Use {
  readonly user: Node;
  readonly operand: number;
}

export class Flow {
  /** Live nodes, inputs first. Leaves and scalar slots are included. */
  readonly nodes: readonly Node[];
  readonly roots: readonly FlowRoot[];
  /** Stored values by their binding. All of the program's, also those that nothing reads. */
  readonly leaves: ReadonlyMap<Node, number>;
  /** Scalar slots by their number. */
  readonly scalars: ReadonlyMap<Node, number>;
  readonly #index = new Map<Node, number>();
  readonly #uses: Use[][] = [];

  constructor(
    nodes: readonly Node[],
    roots: readonly FlowRoot[],
    leaves: ReadonlyMap<Node, number>,
    scalars: ReadonlyMap<Node, number>,
  ) {
    this.nodes = nodes;
    this.roots = roots;
    this.leaves = leaves;
    this.scalars = scalars;
    for (const node of nodes) {
      this.#index.set(node, this.#uses.length);
      this.#uses.push([]);
    }
    for (const node of nodes) {
      if (this.isLeaf(node)) continue;
      node.inputs.forEach((input, operand) => {
        this.#uses[this.indexOf(input)]?.push({ user: node, operand });
      });
    }
  }

  /** Position in `nodes`. Node.position belongs to the linearization and is left alone. */
  indexOf(node: Node): number {
    const index = this.#index.get(node);
    if (index === undefined) throw internalError(`${node.op.name} is not part of this program`);
    return index;
  }

  has(node: Node): boolean {
    return this.#index.has(node);
  }

  /** Whether the value is given: stored, or a scalar slot. Its inputs are history then. */
  isLeaf(node: Node): boolean {
    return this.leaves.has(node) || this.scalars.has(node);
  }

  /** Who reads `node`, once per operand. */
  usesOf(node: Node): readonly Use[] {
    return this.#uses[this.indexOf(node)] ?? [];
  }
}

/** The flow of everything that `roots` need: whatever they do not need is gone. */
export function collectFlow(
  roots: readonly FlowRoot[],
  leaves: ReadonlyMap<Node, number>,
  scalars: ReadonlyMap<Node, number>,
): Flow {
  const nodes: Node[] = [];
  const seen = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  for (const root of roots) {
    stack.push({ node: root.node, next: 0 });
    while (stack.length > 0) {
      const top = stack[stack.length - 1] as { node: Node; next: number };
      const given = leaves.has(top.node) || scalars.has(top.node);
      if (!given && top.next < top.node.inputs.length && !seen.has(top.node)) {
        const input = top.node.inputs[top.next++] as Node;
        if (!seen.has(input)) stack.push({ node: input, next: 0 });
        continue;
      }
      stack.pop();
      if (seen.has(top.node)) continue;
      seen.add(top.node);
      nodes.push(top.node);
    }
  }
  return new Flow(nodes, roots, leaves, scalars);
}
