// Einstein summation: reads the equation, sums private labels, and joins operands one by one with
// matrix products.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { promote, type DType, isFloat } from '../../base/dtype.ts';
import { nodeOf } from './arguments.ts';
import { castNode, wrap } from './handle.ts';
import { diagonalNode } from './shaping.ts';
import type { Tensor } from './tensor.ts';

/** An operand with one label per axis; labels are distinct. */
interface Term {
  readonly node: Node;
  readonly labels: readonly string[];
}

function fail(equation: string, message: string): never {
  throw new ArgumentError(`${message} in '${equation}'`, { op: 'einsum' });
}

/** Splits 'ij,jk->ik' into labels; the axes of '...' are labelled '0', '1', ... from the right. */
function parse(equation: string, nodes: readonly Node[]): { inputs: string[][]; output: string[] } {
  const text = equation.replaceAll(' ', '');
  const [left = '', right, ...more] = text.split('->');
  if (more.length > 0) fail(equation, "more than one '->'");
  const parts = left.split(',');
  if (parts.length !== nodes.length) {
    fail(equation, `${parts.length} operand(s) named, ${nodes.length} given`);
  }
  let ellipsisRank = 0;
  const inputs = parts.map((part, i) => {
    const shape = (nodes[i] as Node).shape;
    const labels = splitLabels(equation, part, (named) => shape.length - named);
    if (labels.length !== shape.length) {
      throw new ShapeError(
        `'${part}' names ${labels.length} axes, operand ${i} is ${formatShape(shape)}`,
        { op: 'einsum' },
      );
    }
    ellipsisRank = Math.max(ellipsisRank, labels.filter((label) => /\d/.test(label)).length);
    return labels;
  });
  if (right !== undefined) {
    return { inputs, output: splitLabels(equation, right, () => ellipsisRank) };
  }
  // Without '->': the labels that appear once, in alphabetical order, after the ellipsis.
  const all = inputs.flat();
  const once = [...new Set(all)].filter(
    (label) => !/\d/.test(label) && all.indexOf(label) === all.lastIndexOf(label),
  );
  return { inputs, output: [...ellipsisLabels(ellipsisRank), ...once.sort()] };
}

function ellipsisLabels(rank: number): string[] {
  return Array.from({ length: rank }, (_, i) => String(rank - 1 - i));
}

function splitLabels(
  equation: string,
  part: string,
  ellipsisRank: (named: number) => number,
): string[] {
  const [before = '', after, ...more] = part.split('...');
  if (more.length > 0) fail(equation, "more than one '...' in an operand");
  const letters = before + (after ?? '');
  if (!/^[a-zA-Z]*$/.test(letters)) fail(equation, `'${part}' is not made of letters`);
  if (after === undefined) return [...before];
  return [...before, ...ellipsisLabels(Math.max(ellipsisRank(letters.length), 0)), ...after];
}

/** Takes diagonals of labels that repeat within one operand. */
function withoutRepeats(node: Node, labels: readonly string[]): Term {
  let term: Term = { node, labels };
  for (;;) {
    const { labels: present } = term;
    const second = present.findIndex((label, i) => present.indexOf(label) < i);
    if (second < 0) return term;
    const label = present[second] as string;
    const first = present.indexOf(label);
    const [a, b] = [term.node.shape[first], term.node.shape[second]];
    if (a !== b) {
      throw new ShapeError(`label '${label}' is both ${a} and ${b}`, { op: 'einsum' });
    }
    const diagonal = diagonalNode('einsum', term.node, { dim1: first, dim2: second });
    term = {
      node: diagonal,
      labels: [...present.filter((_, i) => i !== first && i !== second), label],
    };
  }
}

/** Sums over the labels that nobody needs any longer. */
function sumAway(term: Term, needed: ReadonlySet<string>): Term {
  const axes = term.labels.flatMap((label, axis) => (needed.has(label) ? [] : [axis]));
  if (axes.length === 0) return term;
  return {
    node: ops.sum(term.node, axes),
    labels: term.labels.filter((label) => needed.has(label)),
  };
}

/** Axes in the order of `labels`; missing ones get size 1. */
function arrange(term: Term, labels: readonly string[]): Node {
  const present = labels.filter((label) => term.labels.includes(label));
  const ordered = ops.permute(
    term.node,
    present.map((label) => term.labels.indexOf(label)),
  );
  let axis = 0;
  const shape = labels.map((label) =>
    term.labels.includes(label) ? (ordered.shape[axis++] as number) : 1,
  );
  return ops.reshape(ordered, shape);
}

/** Joins two operands over the labels that neither the result nor others need. */
function contract(a: Term, b: Term, needed: ReadonlySet<string>): Term {
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const summed = shared.filter((label) => !needed.has(label));
  const batch = shared.filter((label) => needed.has(label));
  const left = a.labels.filter((label) => !shared.includes(label));
  const right = b.labels.filter((label) => !shared.includes(label));
  const sizeFor = (label: string): number => {
    const own = (term: Term): number => {
      const axis = term.labels.indexOf(label);
      return axis < 0 ? 1 : (term.node.shape[axis] as number);
    };
    return Math.max(own(a), own(b));
  };
  if (summed.length === 0) {
    const labels = [...batch, ...left, ...right];
    return { node: ops.mul(arrange(a, labels), arrange(b, labels)), labels };
  }
  const sizes = (labels: readonly string[]): number[] => labels.map(sizeFor);
  const flat = (term: Term, order: readonly string[], shape: readonly number[]): Node =>
    ops.reshape(ops.expand(arrange(term, order), sizes(order)), shape);
  const [batchSize, m, k, n] = [batch, left, summed, right].map((labels) => sizeOf(sizes(labels)));
  const x = flat(
    a,
    [...batch, ...left, ...summed],
    [batchSize as number, m as number, k as number],
  );
  const y = flat(
    b,
    [...batch, ...summed, ...right],
    [batchSize as number, k as number, n as number],
  );
  const labels = [...batch, ...left, ...right];
  return { node: ops.reshape(productOf(x, y), sizes(labels)), labels };
}

/** One matrix needs no batch axis. */
function productOf(x: Node, y: Node): Node {
  if (x.shape[0] !== 1) return ops.matmul(x, y);
  return ops.matmul(ops.reshape(x, x.shape.slice(1)), ops.reshape(y, y.shape.slice(1)));
}

function checkSizes(terms: readonly Term[]): void {
  const known = new Map<string, number>();
  for (const { node, labels } of terms) {
    labels.forEach((label, axis) => {
      const size = node.shape[axis] as number;
      const before = known.get(label) ?? 1;
      if (before !== 1 && size !== 1 && before !== size) {
        const name = /\d/.test(label) ? 'an axis of ...' : `label '${label}'`;
        throw new ShapeError(`${name} is both ${before} and ${size}`, { op: 'einsum' });
      }
      known.set(label, Math.max(before, size));
    });
  }
}

/**
 * Sum of products by an equation: labels that the result leaves out are summed, repeated ones take
 * the diagonal, '...' stands for axes that broadcast. Throws ArgumentError for a malformed
 * equation, ShapeError for sizes that disagree.
 *
 * @example
 * ```ts
 * einsum('ij,jk->ik', tensor([[1, 2]]), tensor([[3], [4]])); // => [[11]]
 * einsum('ii->', tensor([[1, 2], [3, 4]])); // => 5
 * ```
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const given = operands.map((x) => nodeOf('einsum', x));
  if (given.length === 0) throw new ArgumentError('got no operands', { op: 'einsum' });
  const common = given.reduce<DType>(
    (dtype, node) => promote(dtype, node.dtype),
    (given[0] as Node).dtype,
  );
  const dtype: DType = isFloat(common) ? common : 'int32';
  const { inputs, output } = parse(equation, given);
  const named = new Set(inputs.flat());
  for (const label of output) {
    if (!named.has(label)) fail(equation, `the result names '${label}', no operand does`);
  }
  if (new Set(output).size !== output.length) fail(equation, 'the result names a label twice');
  const terms = given.map((node, i) =>
    withoutRepeats(castNode(node, dtype), inputs[i] as readonly string[]),
  );
  checkSizes(terms);
  const [first, ...rest] = terms as [Term, ...Term[]];
  const result = rest.reduce((joined, term, i) => {
    const needed = new Set([...output, ...rest.slice(i + 1).flatMap(({ labels }) => labels)]);
    const alone = sumAway(joined, new Set([...needed, ...term.labels]));
    const other = sumAway(term, new Set([...needed, ...alone.labels]));
    return contract(alone, other, needed);
  }, first);
  const final = sumAway(result, new Set(output));
  const order = output.map((label) => final.labels.indexOf(label));
  return wrap(ops.permute(final.node, order));
}
