// Finds known composites in the graph by their shape: an expression with names in it is laid over a
// node and what leads to it. Nodes remember nothing of the function that made them.
import type { Node } from '../../../graph/node.ts';
import type { AttributeValue } from '../encode-attribute.ts';
import { type Image, isNumber, numberIn, operands, type TracedGraph } from './graph.ts';
import { isFixed } from './sizes.ts';
import type { GraphWriter } from './writer.ts';

/** What the names in a pattern stand for. */
export type Found = Readonly<Record<string, Node>>;

/** A pattern: extends what was found, or gives null where the node is something else. */
export type Pattern = (node: Node, found: Found, graph: TracedGraph) => Found | null;

/** How a found composite is written. */
export interface Match {
  readonly needs: readonly Node[];
  write(writer: GraphWriter, inputs: readonly string[]): string;
}

/** A composite: what it looks like, and what is written for it (null: not this time). */
export interface Composite {
  readonly name: string;
  /** The primitive that it ends in. */
  readonly root: string;
  /** The first operator set that has it. */
  readonly sinceOpset?: number;
  /** Whether it is a call of a function that the file brings along. */
  readonly isCall?: boolean;
  readonly pattern: Pattern;
  match(found: Found, node: Node, graph: TracedGraph): Match | null;
}

const COMMUTATIVE: ReadonlySet<string> = new Set(['add', 'mul', 'maximum', 'minimum']);

/** A primitive with these operands, in either order where that does not matter. */
export function op(name: string, ...parts: readonly Pattern[]): Pattern {
  const inTurn = (nodes: readonly Node[], found: Found, graph: TracedGraph): Found | null => {
    let result: Found | null = found;
    for (const [i, part] of parts.entries()) {
      if (result !== null) result = part(nodes[i] as Node, result, graph);
    }
    return result;
  };
  return (node, found, graph) => {
    if (node.storage !== null || node.op.name !== name || graph.isGiven(node)) return null;
    const inputs = operands(node);
    if (inputs.length !== parts.length) return null;
    const result = inTurn(inputs, found, graph);
    if (result !== null || !COMMUTATIVE.has(name)) return result;
    return inTurn(inputs.toReversed(), found, graph);
  };
}

/** Whether two nodes are the same, or numbers of the same value. */
function areSame(a: Node, b: Node, graph: TracedGraph): boolean {
  if (a === b) return true;
  if (!isNumber(a) || !isNumber(b)) return false;
  return graph.everywhere([a, b], (x, y) => numberIn(x as Image) === numberIn(y as Image));
}

/** Any node, or what the name stands for already. */
export function any(name: string): Pattern {
  return (node, found, graph) => {
    const known = found[name];
    if (known === undefined) return { ...found, [name]: node };
    return areSame(known, node, graph) ? found : null;
  };
}

/** What fits the pattern, under a name. */
export function as(name: string, pattern: Pattern): Pattern {
  return (node, found, graph) => {
    const inside = pattern(node, found, graph);
    return inside === null ? null : any(name)(node, inside, graph);
  };
}

/** The first of some patterns that fits. */
export function either(...patterns: readonly Pattern[]): Pattern {
  return (node, found, graph) => {
    for (const pattern of patterns) {
      const result = pattern(node, found, graph);
      if (result !== null) return result;
    }
    return null;
  };
}

/** A number that is the same in every trace, under a name. */
export function number(name: string): Pattern {
  return (node, found, graph) => {
    if (!isNumber(node) || !isFixed(graph.vary(node, numberIn))) return null;
    return any(name)(node, found, graph);
  };
}

/** A number, under a name; it may follow the sizes. */
export function factor(name: string): Pattern {
  return (node, found, graph) => (isNumber(node) ? any(name)(node, found, graph) : null);
}

/** A given number, as float32 has it. */
export function constant(value: number): Pattern {
  return (node, found, graph) => {
    if (!isNumber(node)) return null;
    const is = (held: number): boolean => held === value || held === Math.fround(value);
    return graph.vary(node, numberIn).every(is) ? found : null;
  };
}

/** One node of a file with the operands of these names. */
export function oneNode(
  opType: string,
  found: Found,
  names: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>> = {},
): Match {
  return {
    needs: names.map((name) => found[name] as Node),
    write: (writer, inputs) => writer.add(opType, inputs, attributes),
  };
}

/** The value of a number that a pattern found. */
export function valueOf(found: Found, name: string): number {
  return numberIn(found[name] as Node);
}
