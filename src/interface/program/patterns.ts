// What is looked for in programs: operations, names, chains and trees of operations, or whatever a
// function says.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import type { ProgramNode } from './program-node.ts';

/** An operation whose inputs are such: null stands for any, a text for one of this operation. */
export interface PatternTree {
  readonly op: string;
  /** The first inputs in order; those left out may be anything. */
  readonly inputs?: readonly (PatternTree | string | null)[];
}

/**
 * A text is an operation or the name of a node; a list a chain, first operation first, in which each is
 * some input of the next.
 */
export type Pattern = string | readonly string[] | PatternTree | ((node: ProgramNode) => boolean);

const EXPECTED =
  "an operation or name, a chain such as ['matmul', 'add', 'relu'], { op, inputs } or a function";

/**
 * Whether a node is the end of what the pattern describes, as a function.
 *
 * @throws ArgumentError for what is no pattern.
 */
export function matcher(pattern: Pattern): (node: ProgramNode) => boolean {
  if (typeof pattern === 'function') return pattern;
  if (typeof pattern === 'string') return (node) => isCalled(node, pattern);
  if (isChain(pattern)) {
    if (pattern.length === 0 || !pattern.every((item) => typeof item === 'string')) fail(pattern);
    return (node) => endsChain(node, pattern, pattern.length - 1);
  }
  checkTree(pattern);
  return (node) => isLike(node, pattern);
}

function isChain(pattern: Pattern): pattern is readonly string[] {
  return Array.isArray(pattern);
}

function checkTree(tree: PatternTree | string | null): void {
  if (tree === null || typeof tree === 'string') return;
  if (typeof tree !== 'object' || typeof tree.op !== 'string') fail(tree);
  const { inputs = [] } = tree;
  if (!Array.isArray(inputs)) fail(tree);
  for (const input of inputs) checkTree(input);
}

function fail(pattern: unknown): never {
  throw new ArgumentError(`expected ${EXPECTED}, got ${describeValue(pattern)}`, { op: 'find' });
}

function isCalled({ op, name }: ProgramNode, text: string): boolean {
  return op === text || name === text;
}

function endsChain(node: ProgramNode, chain: readonly string[], last: number): boolean {
  if (!isCalled(node, chain[last] as string)) return false;
  return last === 0 || node.inputs.some((input) => endsChain(input, chain, last - 1));
}

function isLike(node: ProgramNode | undefined, tree: PatternTree | string | null): boolean {
  if (node === undefined) return false;
  if (tree === null) return true;
  if (typeof tree === 'string') return isCalled(node, tree);
  if (!isCalled(node, tree.op)) return false;
  return (tree.inputs ?? []).every((input, i) => isLike(node.inputs[i], input));
}
