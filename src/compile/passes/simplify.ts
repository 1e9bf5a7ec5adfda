// Algebraic simplification. Every rule keeps the value exactly, NaN, infinities and signed zeros
// included, unless it says that it belongs to fast numerics.
import { isFloat } from '../../base/dtype.ts';
import { sameShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { makeNode } from '../../graph/op.ts';
import { add, mul, neg, sub } from '../../graph/ops/arithmetic.ts';
import { expand, reshape } from '../../graph/ops/broadcast.ts';
import { full } from '../../graph/ops/creation.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { permute } from '../../graph/ops/permute.ts';
import { constantValue } from './fold-constants.ts';
import type { RewriteContext, Rule } from './rewrite.ts';

type Apply = (node: Node, context: RewriteContext) => Node | null;

/** A rule for nodes of one op. */
function rule(name: string, ops: readonly string[], apply: Apply): Rule {
  return {
    name,
    apply: (node, context) => (ops.includes(node.op.name) ? apply(node, context) : null),
  };
}

const operand = (node: Node, index: number): Node => node.inputs[index] as Node;

/** Whether `node` is computed here by the op of that name (and is not a stored value). */
function isOp(node: Node, name: string, context: RewriteContext): boolean {
  return node.op.name === name && !context.isLeaf(node);
}

/** `value` repeated to the shape that broadcasting gave `node`. */
function broadcastTo(value: Node, shape: Shape): Node {
  return sameShape(value.shape, shape) ? value : expand(value, shape);
}

/** x * 1, x / 1, x - 0, and for integers x + 0. (Of floats, -0 + 0 is 0: not the same.) */
const neutralOperand = rule('neutral-operand', ['add', 'sub', 'mul', 'div'], (node, context) => {
  const { name } = node.op;
  if (node.dtype === 'bool') return null;
  for (const side of name === 'add' || name === 'mul' ? [1, 0] : [1]) {
    const value = constantValue(operand(node, side), context);
    if (value === undefined) continue;
    const neutral =
      name === 'mul' || name === 'div'
        ? value === 1
        : name === 'sub'
          ? Object.is(value, 0)
          : Object.is(value, -0) || (value === 0 && !isFloat(node.dtype));
    if (neutral) return broadcastTo(operand(node, 1 - side), node.shape);
  }
  return null;
});

/** x + 0 of floats, in fast numerics: differs from x for x = -0 only. */
const addZero = rule('add-zero (fast)', ['add'], (node, context) => {
  if (context.numerics !== 'fast') return null;
  for (const side of [1, 0]) {
    const value = constantValue(operand(node, side), context);
    if (value === 0) return broadcastTo(operand(node, 1 - side), node.shape);
  }
  return null;
});

const doubleNegation = rule('double-negation', ['neg', 'logicalNot'], (node, context) => {
  const inner = operand(node, 0);
  return isOp(inner, node.op.name, context) ? operand(inner, 0) : null;
});

/** a + (-b) = a - b, a - (-b) = a + b, x * -1 = -x. */
const signs = rule('signs', ['add', 'sub', 'mul'], (node, context) => {
  const [left, right] = [operand(node, 0), operand(node, 1)];
  if (node.dtype === 'bool') return null;
  switch (node.op.name) {
    case 'add':
      if (isOp(right, 'neg', context)) return sub(left, operand(right, 0));
      return isOp(left, 'neg', context) ? sub(right, operand(left, 0)) : null;
    case 'sub':
      return isOp(right, 'neg', context) ? add(left, operand(right, 0)) : null;
    default:
      if (constantValue(right, context) === -1) return broadcastTo(neg(left), node.shape);
      if (constantValue(left, context) === -1) return broadcastTo(neg(right), node.shape);
      return null;
  }
});

/** x / c = x * (1 / c): exact for powers of two, otherwise one more rounding. */
const divideByConstant = rule('divide-by-constant', ['div'], (node, context) => {
  const divisor = operand(node, 1);
  const value = constantValue(divisor, context);
  if (value === undefined || value === 0 || !Number.isFinite(value)) return null;
  const exponent = Math.log2(Math.abs(value));
  const exact = Number.isInteger(exponent) && Math.abs(exponent) < 100;
  if (!exact && context.numerics !== 'fast') return null;
  if (!exact && Math.abs(exponent) > 100) return null;
  return mul(operand(node, 0), full(divisor.shape, 1 / value, divisor.dtype));
});

/** x ** 2 = x * x, as good as any other way to compute it and far cheaper. */
const square = rule('square', ['pow'], (node, context) => {
  if (constantValue(operand(node, 1), context) !== 2 || !isFloat(node.dtype)) return null;
  const base = broadcastTo(operand(node, 0), node.shape);
  return mul(base, base);
});

const sameDType = rule('cast-to-same', ['cast'], (node) =>
  operand(node, 0).dtype === node.dtype ? operand(node, 0) : null,
);

/** A copy is the value itself; roots that need memory of their own are copied at the end. */
const copies = rule(
  'copy',
  ['copy', 'customGradient', 'checkedIndex', 'checkedFactor', 'pseudoInverse'],
  (node) => operand(node, 0),
);

const reshapes = rule('reshape', ['reshape'], (node, context) => {
  const inner = operand(node, 0);
  if (sameShape(inner.shape, node.shape)) return inner;
  if (isOp(inner, 'reshape', context)) return reshape(operand(inner, 0), node.shape);
  return null;
});

const expands = rule('expand', ['expand'], (node, context) => {
  const inner = operand(node, 0);
  if (sameShape(inner.shape, node.shape)) return inner;
  return isOp(inner, 'expand', context) ? expand(operand(inner, 0), node.shape) : null;
});

const permutes = rule('permute', ['permute'], (node, context) => {
  const axes = node.attrs['axes'] as readonly number[];
  const inner = operand(node, 0);
  if (axes.every((axis, position) => axis === position)) return inner;
  if (isOp(inner, 'permute', context)) {
    const first = inner.attrs['axes'] as readonly number[];
    return permute(
      operand(inner, 0),
      axes.map((axis) => first[axis] as number),
    );
  }
  // Moving axes of size 1 only does not move elements.
  const moved = axes.filter((axis) => inner.shape[axis] !== 1);
  const inOrder = moved.every((axis, i) => i === 0 || (moved[i - 1] as number) < axis);
  return inOrder ? reshape(inner, node.shape) : null;
});

/** (a b)^T = b^T a^T, with the same products added up in the same order. */
const transposedProduct = rule('transposed-product', ['permute'], (node, context) => {
  const product = operand(node, 0);
  if (!isOp(product, 'matmul', context) || !context.usedOnce(product)) return null;
  const axes = node.attrs['axes'] as readonly number[];
  const rank = axes.length;
  const swapped = axes.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
  if (!swapped) return null;
  return matmul(permute(operand(product, 1), axes), permute(operand(product, 0), axes));
});

/** A product, minimum or maximum of one element is it; a sum but for -0, as sums start from 0. */
const reduceOfOne = rule('reduce-of-one', ['sum', 'prod', 'max', 'min'], (node, context) => {
  const inner = operand(node, 0);
  const exact = node.op.name !== 'sum' || !isFloat(node.dtype);
  if (!exact && context.numerics !== 'fast') return null;
  if (inner.dtype !== node.dtype || sizeOf(inner.shape) !== sizeOf(node.shape)) return null;
  const axes = node.attrs['axes'] as readonly number[];
  return axes.every((axis) => inner.shape[axis] === 1) ? reshape(inner, node.shape) : null;
});

/**
 * The axes of `to`, each as the list of neighbouring axes of `from` that it is made of; null if some
 * axis of `from` was split.
 */
function mergedAxes(from: Shape, to: Shape): readonly (readonly number[])[] | null {
  const groups: number[][] = [];
  let next = 0;
  for (const [position, size] of to.entries()) {
    const group: number[] = [];
    for (let product = 1; product < size; next++) {
      product *= from[next] as number;
      group.push(next);
      if (product > size) return null;
    }
    // What is left at the end is of size 1.
    if (position === to.length - 1) for (; next < from.length; next++) group.push(next);
    groups.push(group);
  }
  return groups;
}

/**
 * A reduction over merged axes of something permuted runs over the axes as they are: it then knows
 * which of them lie side by side in memory. In strict numerics the order of sums is the shape's.
 */
const reduceOfMerged = rule(
  'reduce-of-merged (fast)',
  ['sum', 'prod', 'max', 'min'],
  (node, context) => {
    const inner = operand(node, 0);
    if (context.numerics !== 'fast' || !isOp(inner, 'reshape', context)) return null;
    const source = operand(inner, 0);
    if (!isOp(source, 'permute', context) || sizeOf(source.shape) === 0) return null;
    const groups = mergedAxes(source.shape, inner.shape);
    if (groups === null) return null;
    const axes = (node.attrs['axes'] as readonly number[]).flatMap((axis) => groups[axis] ?? []);
    if (axes.length === 0) return null;
    return reshape(makeNode(node.op, [source], { ...node.attrs, axes }), node.shape);
  },
);

/** A choice whose condition is known, or whose branches are the same. */
const knownChoice = rule('select', ['select'], (node, context) => {
  const condition = constantValue(operand(node, 0), context);
  if (condition !== undefined) {
    return broadcastTo(operand(node, condition === 0 ? 2 : 1), node.shape);
  }
  const [, whenTrue, whenFalse] = node.inputs;
  return whenTrue === whenFalse && whenTrue !== undefined
    ? broadcastTo(whenTrue, node.shape)
    : null;
});

export const SIMPLIFICATIONS: readonly Rule[] = [
  neutralOperand,
  addZero,
  doubleNegation,
  signs,
  divideByConstant,
  square,
  sameDType,
  copies,
  reshapes,
  expands,
  permutes,
  transposedProduct,
  reduceOfOne,
  reduceOfMerged,
  knownChoice,
];
