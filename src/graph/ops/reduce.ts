// Reductions beyond the sum: product, extremes and their positions, any and all.
import { type DType, isFloat } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxes, reducedShape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { isFloatType, type Expression, type ValueType, valueTypeOf } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  defineOp,
  makeNode,
  type ReferenceTensor,
  type Reduction,
  type Sample,
} from '../op.ts';
import { div, mul } from './arithmetic.ts';
import { accumulatedDType, reshape, restoreReduced, sum } from './broadcast.ts';
import { cast } from './cast.ts';
import { equal, notEqual } from './compare.ts';
import { constant, full } from './creation.ts';
import { constantLike } from './emit.ts';
import { permute } from './permute.ts';
import { flatPosition, forEachIndex, wrapInteger } from './reference.ts';
import { cumprod } from './scan.ts';
import { distinctTensor, randomTensor, tensorOf } from './samples.ts';

const SCHEMA = { axes: 'ints', keepdims: 'flag' } as const;
type ReduceAttrs = AttrsOf<typeof SCHEMA>;

/** The register that extremes are found in: bool becomes a number, so that lanes can be counted. */
function extremeType(dtype: DType): ValueType {
  return dtype === 'bool' ? 'i32' : valueTypeOf(dtype);
}

function lowest(type: ValueType, minimum: boolean): number {
  if (isFloatType(type)) return minimum ? Infinity : -Infinity;
  if (type === 'u32') return minimum ? 4294967295 : 0;
  return minimum ? 2147483647 : -2147483648;
}

function inferExtreme(op: string, x: Node, { axes, keepdims }: ReduceAttrs): readonly number[] {
  const shape = reducedShape(x.shape, axes, keepdims);
  // A result without elements needs no extreme.
  if (axes.some((axis) => x.shape[axis] === 0) && !shape.includes(0)) {
    throw new ShapeError(`no elements to choose from in ${formatShape(x.shape)}`, { op });
  }
  return shape;
}

/** Whether value b should replace value a: NaN wins over everything, as in PyTorch. */
function better(a: number, b: number, minimum: boolean): boolean {
  if (Number.isNaN(a)) return false;
  return Number.isNaN(b) || (minimum ? b < a : b > a);
}

/** The position within `axes` of each extreme, first ones first. */
function extremePositions(
  x: ReferenceTensor,
  axes: readonly number[],
  minimum: boolean,
): { positions: Float64Array; values: Float64Array } {
  const kept = reducedShape(x.shape, axes, true);
  const size = kept.reduce((a, b) => a * b, 1);
  const positions = new Float64Array(size).fill(-1);
  const values = new Float64Array(size);
  const within = axes.map((axis) => x.shape[axis]!);
  forEachIndex(x.shape, (indices, flat) => {
    const target = flatPosition(
      kept,
      indices.map((index, axis) => (axes.includes(axis) ? 0 : index)),
    );
    const value = x.data[flat]!;
    if (positions[target] !== -1 && !better(values[target]!, value, minimum)) return;
    values[target] = value;
    positions[target] = flatPosition(
      within,
      axes.map((axis) => indices[axis]!),
    );
  });
  return { positions, values };
}

const TIES = 'ties have no one derivative for differences to find';

function extremeSamples(): Sample<ReduceAttrs>[] {
  const sample = (
    input: ReferenceTensor,
    axes: readonly number[],
    keepdims = false,
    skipGradient?: string,
  ): Sample<ReduceAttrs> => ({
    inputs: [input],
    attrs: { axes, keepdims },
    ...(skipGradient === undefined ? {} : { skipGradient }),
  });
  return [
    sample(distinctTensor([3, 4]), [0, 1]),
    sample(distinctTensor([3, 4]), [0]),
    sample(distinctTensor([3, 4, 2]), [1], true),
    sample(distinctTensor([3, 2, 5]), [0, 2]),
    sample(distinctTensor([1]), [0]),
    sample(distinctTensor([70]), [0]),
    sample(distinctTensor([3, 37], { dtype: 'float64' }), [1]),
    sample(distinctTensor([0, 3]), [1]),
    sample(randomTensor([9, 3], { dtype: 'int32' }), [0], false, 'integers'),
    sample(randomTensor([40], { dtype: 'uint32' }), [0], false, 'integers'),
    sample(randomTensor([4, 9], { dtype: 'int8' }), [1], true, 'integers'),
    sample(randomTensor([5, 2], { dtype: 'bool' }), [0], false, 'bool'),
    sample(tensorOf([2, 4], [1, 3, 3, 2, -1, -1, 0, 0]), [1], false, TIES),
    sample(tensorOf([3, 2], [1, NaN, -Infinity, -Infinity, NaN, NaN]), [1], false, TIES),
    sample(tensorOf([2, 3], [Infinity, 1, -Infinity, -Infinity, -Infinity, -5]), [1], false, TIES),
  ];
}

/**
 * The better of two values; a NaN on either side stays. Of zeros the first is kept whatever its sign,
 * which takes half of the instructions that `max` does, where a processor has none for all of it.
 */
function joinExtremes(
  builder: Builder,
  minimum: boolean,
  a: Expression,
  b: Expression,
): Expression {
  if (a.type !== 'f32' && a.type !== 'f64') return builder.binary(minimum ? 'min' : 'max', a, b);
  const wins = builder.compare(minimum ? 'lt' : 'gt', b, a);
  return builder.select(builder.or(wins, builder.compare('ne', b, b)), b, a);
}

function defineExtreme(name: 'max' | 'min') {
  const minimum = name === 'min';
  return defineOp({
    name,
    summary: `${minimum ? 'minimum' : 'maximum'} over axes; NaN wins`,
    attrs: SCHEMA,
    infer: ([x], attrs) => ({ shape: inferExtreme(name, x!, attrs), dtype: x!.dtype }),
    gradient: ({ grad, inputs, node, attrs }) => {
      const x = inputs[0]!;
      const chosen = equal(x, restoreReduced(node, x.shape, attrs.axes));
      const mask = cast(chosen, grad.dtype);
      // Ties share the gradient evenly.
      const share = div(grad, sum(mask, attrs.axes, attrs.keepdims));
      return [mul(mask, restoreReduced(share, x.shape, attrs.axes))];
    },
    lower: {
      kind: 'reduce',
      reduction: ({ axes, keepdims }, node): Reduction => {
        const type = extremeType(node.dtype);
        return {
          axes,
          keepdims,
          accumulators: [{ type, identity: lowest(type, minimum) }],
          map: (builder, value) => [builder.convert(value, type)],
          combine: (builder, [a], [b]) => [joinExtremes(builder, minimum, a!, b!)],
          finish: (builder, [value]) =>
            node.dtype === 'bool'
              ? builder.compare('ne', value!, constantLike(builder, value!, 0))
              : value!,
        };
      },
    },
    reference: ([x], { axes }) => extremePositions(x!, axes, minimum).values,
    samples: extremeSamples,
  });
}

/** Joins (value, position) pairs: the better value, the first of equals. */
function combinePositions(
  builder: Builder,
  minimum: boolean,
  [a, i]: readonly Expression[],
  [b, j]: readonly Expression[],
): Expression[] {
  let wins = builder.compare(minimum ? 'lt' : 'gt', b!, a!);
  let ties = builder.compare('eq', a!, b!);
  if (a!.type === 'f32' || a!.type === 'f64') {
    const nanA = builder.compare('ne', a!, a!);
    const nanB = builder.compare('ne', b!, b!);
    wins = builder.or(wins, builder.and(nanB, builder.unary('not', nanA)));
    ties = builder.or(ties, builder.and(nanA, nanB));
  }
  const earlier = builder.and(ties, builder.compare('lt', j!, i!));
  const take = builder.or(wins, earlier);
  return [builder.select(take, b!, a!), builder.select(take, j!, i!)];
}

function defineArgExtreme(name: 'argmax' | 'argmin') {
  const minimum = name === 'argmin';
  return defineOp({
    name,
    summary: `row-major position within the axes of the first ${minimum ? 'minimum' : 'maximum'}`,
    attrs: SCHEMA,
    infer: ([x], attrs) => ({ shape: inferExtreme(name, x!, attrs), dtype: 'int32' }),
    gradient: { nonDifferentiable: 'a position is an integer' },
    bounds: (_inputs, { axes }, node) => {
      const { shape } = node.inputs[0]!;
      return { min: 0, max: Math.max(sizeOf(axes.map((axis) => shape[axis]!)) - 1, 0) };
    },
    lower: {
      kind: 'reduce',
      reduction: ({ axes, keepdims }, node): Reduction => {
        const type = extremeType(node.inputs[0]!.dtype);
        return {
          axes,
          keepdims,
          accumulators: [
            { type, identity: lowest(type, minimum) },
            { type: 'i32', identity: 2147483647 },
          ],
          map: (builder, value, flatIndex) => [builder.convert(value, type), flatIndex],
          combine: (builder, a, b) => combinePositions(builder, minimum, a, b),
          finish: (_builder, [, position]) => position!,
        };
      },
    },
    reference: ([x], { axes }) => extremePositions(x!, axes, minimum).positions,
    samples: extremeSamples,
  });
}

const maxOp = defineExtreme('max');
const minOp = defineExtreme('min');
const argmaxOp = defineArgExtreme('argmax');
const argminOp = defineArgExtreme('argmin');

type Axes = number | readonly number[];

function axesOf(op: string, x: Node, axes: Axes | undefined): number[] {
  return normalizeAxes(op, axes, x.shape.length);
}

/**
 * Maximum over axes (all by default); NaN wins; ties share the gradient. Throws ShapeError when
 * there is nothing to choose from.
 */
export function max(x: Node, axes?: Axes, keepdims = false): Node {
  const normal = axesOf('max', x, axes);
  return normal.length === 0 ? x : makeNode(maxOp, [x], { axes: normal, keepdims });
}

/** Minimum over axes; else as `max`. */
export function min(x: Node, axes?: Axes, keepdims = false): Node {
  const normal = axesOf('min', x, axes);
  return normal.length === 0 ? x : makeNode(minOp, [x], { axes: normal, keepdims });
}

function position(op: typeof argmaxOp, x: Node, axes: Axes | undefined, keepdims: boolean): Node {
  const normal = axesOf(op.name, x, axes);
  if (normal.length > 0) return makeNode(op, [x], { axes: normal, keepdims });
  return full(x.shape, 0, 'int32');
}

/** Row-major position within `axes` (all by default) of the first maximum, int32; NaN wins. */
export function argmax(x: Node, axes?: Axes, keepdims = false): Node {
  return position(argmaxOp, x, axes, keepdims);
}

/** Row-major position within `axes` of the first minimum, int32; NaN wins. */
export function argmin(x: Node, axes?: Axes, keepdims = false): Node {
  return position(argminOp, x, axes, keepdims);
}

function asBool(x: Node): Node {
  return x.dtype !== 'bool' ? notEqual(x, constant(0, x.dtype)) : x;
}

/** Whether any element along the axes is nonzero; false for none. */
export function any(x: Node, axes?: Axes, keepdims = false): Node {
  return logical('any', x, axes, keepdims);
}

/** Whether all elements along the axes are nonzero; true for none. */
export function all(x: Node, axes?: Axes, keepdims = false): Node {
  return logical('all', x, axes, keepdims);
}

function logical(op: 'any' | 'all', x: Node, axes: Axes | undefined, keepdims: boolean): Node {
  const normal = axesOf(op, x, axes);
  const empty = normal.some((axis) => x.shape[axis] === 0);
  // Of no elements: any is false, all is true, and max has nothing to start from.
  if (empty) {
    const shape = reducedShape(x.shape, normal, keepdims);
    return full(shape, op === 'all' ? 1 : 0, 'bool');
  }
  return op === 'any' ? max(asBool(x), normal, keepdims) : min(asBool(x), normal, keepdims);
}

const prodOp = defineOp({
  name: 'prod',
  summary: 'product over axes',
  attrs: SCHEMA,
  infer: ([x], { axes, keepdims }) => ({
    shape: reducedShape(x!.shape, axes, keepdims),
    dtype: accumulatedDType(x!.dtype),
  }),
  gradient: ({ grad, inputs, attrs }) => [prodGradient(grad, inputs[0]!, attrs.axes)],
  lower: {
    kind: 'reduce',
    reduction: ({ axes, keepdims }, node): Reduction => {
      const type = valueTypeOf(node.dtype);
      return {
        axes,
        keepdims,
        accumulators: [{ type, identity: 1 }],
        map: (builder, value) => [builder.convert(value, type)],
        combine: (builder, [a], [b]) => [builder.mul(a!, b!)],
        finish: (_builder, [value]) => value!,
      };
    },
  },
  reference: ([x], { axes }, output) => {
    const kept = reducedShape(x!.shape, axes, true);
    const products = new Float64Array(sizeOf(kept)).fill(1);
    forEachIndex(x!.shape, (indices, flat) => {
      const target = indices.map((index, axis) => (axes.includes(axis) ? 0 : index));
      const position = flatPosition(kept, target);
      const value = x!.data[flat]!;
      products[position] = isFloat(output.dtype)
        ? products[position]! * value
        : wrapInteger(output.dtype, Math.imul(products[position]!, value));
    });
    return products;
  },
  samples: () => {
    const sample = (input: ReferenceTensor, axes: readonly number[], keepdims = false) => ({
      inputs: [input],
      attrs: { axes, keepdims },
    });
    return [
      sample(randomTensor([3, 4]), [0, 1]),
      sample(randomTensor([3, 4]), [0]),
      sample(randomTensor([3, 4, 2], { dtype: 'float64' }), [1], true),
      sample(randomTensor([3, 2, 5]), [0, 2]),
      sample(randomTensor([1]), [0]),
      sample(randomTensor([0]), [0]),
      sample(randomTensor([2, 0]), [1]),
      sample(tensorOf([3, 4], [1, 2, 3, 4, 1, 0, 3, 4, 0, 2, 0, 4]), [1]),
      sample(tensorOf([2, 2], [0, 2, 3, 4]), [0, 1]),
      { ...sample(randomTensor([9], { dtype: 'int32' }), [0]), skipGradient: 'integers' },
      { ...sample(randomTensor([3], { dtype: 'bool' }), [0]), skipGradient: 'integers' },
      { ...sample(tensorOf([3], [0, Infinity, 1]), [0]), skipGradient: 'special values' },
    ];
  },
});

/** Each element's share is the product of all others, found without dividing: zeros are right. */
function prodGradient(grad: Node, x: Node, axes: readonly number[]): Node {
  const rest = x.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const order = [...rest, ...axes];
  const kept = rest.map((axis) => x.shape[axis]!);
  const moved = permute(x, order);
  const rows = reshape(moved, [...kept, sizeOf(axes.map((axis) => x.shape[axis]!))]);
  const others = mul(cumprod(rows, -1, false, true), cumprod(rows, -1, true, true));
  const back = order.map((_, axis) => order.indexOf(axis));
  const shares = permute(reshape(others, moved.shape), back);
  return mul(shares, restoreReduced(grad, x.shape, axes));
}

/** Product over axes (all by default), 1 for no elements. Integers and bool accumulate in int32. */
export function prod(x: Node, axes?: Axes, keepdims = false): Node {
  const normal = axesOf('prod', x, axes);
  if (normal.length === 0) return cast(x, accumulatedDType(x.dtype));
  return makeNode(prodOp, [x], { axes: normal, keepdims });
}
