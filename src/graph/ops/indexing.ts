// Reading and adding at computed positions. Kernels clamp indices, so that memory is never
// violated; that they are in range is checked elsewhere (checked-index.ts).
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { type DType, isFloat } from '../../base/dtype.ts';
import { formatShape, normalizeAxis, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode, type ReferenceTensor, type Sample } from '../op.ts';
import { reshape } from './broadcast.ts';
import { elementAt, fillReference, flatPosition, forEachIndex, wrapInteger } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { ADDING, clampIndex, lowerAddRows, lowerScatter } from './scatter-lowering.ts';

function clamped(index: number, size: number): number {
  return Math.min(Math.max(index, 0), size - 1);
}

export function checkIndex(op: string, index: Node): void {
  if (index.dtype === 'int32') return;
  throw new DTypeError(`the index is ${index.dtype}, not int32`, { op });
}

/** An axis to read from must have something, unless nothing is read. */
export function checkSource(op: string, size: number, count: number): void {
  if (size > 0 || count === 0) return;
  throw new ShapeError('reads from an axis without elements', { op });
}

/** Integers in [0, size), made from the sample generator. */
export function randomIndices(shape: Shape, size: number, seed = 1): ReferenceTensor {
  return randomTensor(shape, { dtype: 'int32', low: 0, high: size, seed });
}

// ---- gather and scatter-add: an index for each element ---------------------------------------

export function checkAlong(op: string, x: Shape, index: Shape, axis: number): void {
  const fits = x.length === index.length && index.every((size, i) => i === axis || size === x[i]);
  if (fits) return;
  throw new ShapeError(
    `index ${formatShape(index)} and values ${formatShape(x)} differ beside axis ${axis}`,
    { op },
  );
}

const gatherOp = defineOp({
  name: 'gather',
  summary: 'x at index along an axis: y[i][j] = x[index[i][j]][j]',
  attrs: { axis: 'int' },
  infer: ([x, index], { axis }) => {
    checkIndex('gather', index!);
    checkAlong('gather', x!.shape, index!.shape, axis);
    checkSource('gather', x!.shape[axis]!, sizeOf(index!.shape));
    return { shape: index!.shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs: { axis } }) => {
    const [x, index] = inputs as readonly [Node, Node];
    return [scatterAdd(grad, index, axis, x.shape[axis]!), null];
  },
  bounds: ([x]) => x!,
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { axis }, node) => {
      const { builder } = context;
      const at = clampIndex(builder, context.read(1, indices), node.inputs[0]!.shape[axis]!);
      return context.read(
        0,
        indices.map((own, i) => (i === axis ? at : own)),
      );
    },
  },
  reference: ([x, index], { axis }, output) =>
    fillReference(output, (indices, flat) => {
      const at = clamped(index!.data[flat]!, x!.shape[axis]!);
      return elementAt(
        x!,
        indices.map((own, i) => (i === axis ? at : own)),
      );
    }),
  samples: () => {
    const sample = (x: ReferenceTensor, index: ReferenceTensor, axis: number) => ({
      inputs: [x, index],
      attrs: { axis },
      ...(isFloat(x.dtype) ? {} : { skipGradient: 'integers' }),
    });
    return [
      sample(randomTensor([5]), randomIndices([3], 5), 0),
      sample(randomTensor([3, 4]), randomIndices([3, 2], 4), 1),
      sample(randomTensor([3, 4]), randomIndices([7, 4], 3), 0),
      sample(randomTensor([2, 3, 4], { dtype: 'float64' }), randomIndices([2, 5, 4], 3), 1),
      sample(randomTensor([3, 4], { dtype: 'int32' }), randomIndices([3, 4], 4), 1),
      sample(randomTensor([1]), randomIndices([1], 1), 0),
      sample(randomTensor([4, 0]), randomIndices([2, 0], 4), 0),
      sample(randomTensor([3]), randomIndices([0], 3), 0),
      sample(randomTensor([3], { dtype: 'bool' }), tensorOf([4], [2, -5, 9, 0], 'int32'), 0),
    ];
  },
  cost: 3,
});

const SCATTER = { axis: 'int', size: 'int' } as const;

const scatterAddOp = defineOp({
  name: 'scatterAdd',
  summary: 'zeros with values added at index along an axis: y[index[i][j]][j] += x[i][j]',
  attrs: SCATTER,
  infer: ([x, index], { axis, size }) => {
    checkNumber('scatterAdd', x!);
    checkIndex('scatterAdd', index!);
    checkAlong('scatterAdd', x!.shape, index!.shape, axis);
    checkSource('scatterAdd', size, sizeOf(x!.shape));
    if (x!.shape[axis] !== index!.shape[axis]) {
      throw new ShapeError(
        `index ${formatShape(index!.shape)} and values ${formatShape(x!.shape)} differ`,
        { op: 'scatterAdd' },
      );
    }
    return { shape: x!.shape.map((old, i) => (i === axis ? size : old)), dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs: { axis } }) => [gather(grad, inputs[1]!, axis), null],
  lower: {
    kind: 'custom',
    lower: (context, { axis }, node) =>
      lowerScatter(context, node, axis, node.inputs[0]!.shape[axis]!, ADDING, (indices) =>
        context.read(1, indices),
      ),
  },
  reference: ([x, index], { axis, size }, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachIndex(x!.shape, (indices, flat) => {
      const at = clamped(index!.data[flat]!, size);
      const target = flatPosition(
        output.shape,
        indices.map((own, i) => (i === axis ? at : own)),
      );
      data[target] = wrapInteger(output.dtype, data[target]! + x!.data[flat]!);
    });
    return data;
  },
  samples: () => {
    const sample = (
      shape: Shape,
      axis: number,
      size: number,
      dtype: DType = 'float32',
    ): Sample<AttrsOf<typeof SCATTER>> => ({
      inputs: [randomTensor(shape, { dtype }), randomIndices(shape, size, 3)],
      attrs: { axis, size },
      ...(isFloat(dtype) ? {} : { skipGradient: 'integers' }),
    });
    return [
      sample([5], 0, 3),
      sample([3, 4], 1, 6),
      sample([3, 4], 0, 2),
      sample([2, 3, 5], 1, 4, 'float64'),
      sample([9, 130], 0, 5),
      sample([6], 0, 2, 'int32'),
      sample([0], 0, 3),
      sample([1], 0, 1),
      sample([0, 3], 0, 2),
    ];
  },
});

export function checkNumber(op: string, x: Node): void {
  if (x.dtype === 'bool') throw new DTypeError('takes numbers, not bool', { op });
}

/** `x` at `index` (int32, of x's shape but for `axis`) along `axis`. */
export function gather(x: Node, index: Node, axis: number): Node {
  return makeNode(gatherOp, [x, index], { axis: normalizeAxis('gather', axis, x.shape.length) });
}

/**
 * Zeros of `size` along `axis`, with the elements of `x` added at `index` (int32, of x's shape).
 * Additions happen in order of the values, so that the result is the same on every run.
 */
export function scatterAdd(x: Node, index: Node, axis: number, size: number): Node {
  const normal = normalizeAxis('scatterAdd', axis, x.shape.length);
  return makeNode(scatterAddOp, [x, index], { axis: normal, size });
}

// ---- take and its adjoint: an index for each row ----------------------------------------------

const takeOp = defineOp({
  name: 'take',
  summary: 'rows of x along an axis; the index axes stand in its place',
  attrs: { axis: 'int' },
  infer: ([x, index], { axis }) => {
    checkIndex('take', index!);
    checkSource('take', x!.shape[axis]!, sizeOf(index!.shape));
    const shape = [...x!.shape.slice(0, axis), ...index!.shape, ...x!.shape.slice(axis + 1)];
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs: { axis } }) => {
    const [x, index] = inputs as readonly [Node, Node];
    const count = sizeOf(index.shape);
    const rows = [...x.shape.slice(0, axis), count, ...x.shape.slice(axis + 1)];
    return [addRows(reshape(grad, rows), reshape(index, [count]), axis, x.shape[axis]!), null];
  },
  bounds: ([x]) => x!,
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { axis }, node) => {
      const [x, index] = node.inputs as readonly [Node, Node];
      const end = axis + index.shape.length;
      const row = context.read(1, indices.slice(axis, end));
      const at = clampIndex(context.builder, row, x.shape[axis]!);
      return context.read(0, [...indices.slice(0, axis), at, ...indices.slice(end)]);
    },
  },
  reference: ([x, index], { axis }, output) => {
    const end = axis + index!.shape.length;
    return fillReference(output, (indices) => {
      const at = clamped(elementAt(index!, indices.slice(axis, end)), x!.shape[axis]!);
      return elementAt(x!, [...indices.slice(0, axis), at, ...indices.slice(end)]);
    });
  },
  samples: () => [
    { inputs: [randomTensor([5]), randomIndices([3], 5)], attrs: { axis: 0 } },
    { inputs: [randomTensor([4, 3]), randomIndices([6], 4)], attrs: { axis: 0 } },
    { inputs: [randomTensor([4, 3]), randomIndices([2, 2], 3)], attrs: { axis: 1 } },
    { inputs: [randomTensor([4, 3]), randomIndices([], 4)], attrs: { axis: 0 } },
    {
      inputs: [randomTensor([2, 3, 4], { dtype: 'float64' }), randomIndices([5], 3)],
      attrs: { axis: 1 },
    },
    { inputs: [randomTensor([1, 2]), randomIndices([0], 1)], attrs: { axis: 0 } },
    {
      inputs: [randomTensor([3], { dtype: 'int32' }), tensorOf([3], [-1, 3, 2], 'int32')],
      attrs: { axis: 0 },
      skipGradient: 'integers',
    },
  ],
  cost: 3,
});

const addRowsOp = defineOp({
  name: 'addRows',
  summary: 'zeros with rows added at a one-dimensional index along an axis',
  attrs: SCATTER,
  infer: ([x, index], { axis, size }) => {
    checkNumber('addRows', x!);
    checkIndex('addRows', index!);
    if (index!.shape.length !== 1 || index!.shape[0] !== x!.shape[axis]) {
      throw new ShapeError(
        `index ${formatShape(index!.shape)} does not count axis ${axis} of ${formatShape(x!.shape)}`,
        { op: 'addRows' },
      );
    }
    checkSource('addRows', size, sizeOf(x!.shape));
    return { shape: x!.shape.map((old, i) => (i === axis ? size : old)), dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs: { axis } }) => [take(grad, inputs[1]!, axis), null],
  lower: {
    kind: 'custom',
    lower: (context, { axis }, node) =>
      lowerAddRows(context, node, axis, node.inputs[0]!.shape[axis]!),
  },
  reference: ([x, index], { axis, size }, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachIndex(x!.shape, (indices, flat) => {
      const at = clamped(index!.data[indices[axis]!]!, size);
      const target = flatPosition(
        output.shape,
        indices.map((own, i) => (i === axis ? at : own)),
      );
      data[target] = wrapInteger(output.dtype, data[target]! + x!.data[flat]!);
    });
    return data;
  },
  samples: () => {
    const sample = (
      shape: Shape,
      axis: number,
      size: number,
      dtype: DType = 'float32',
    ): Sample<AttrsOf<typeof SCATTER>> => ({
      inputs: [randomTensor(shape, { dtype }), randomIndices([shape[axis]!], size, 3)],
      attrs: { axis, size },
      ...(isFloat(dtype) ? {} : { skipGradient: 'integers' }),
    });
    return [
      sample([5], 0, 3),
      sample([6, 4], 0, 3),
      sample([3, 4], 1, 6),
      sample([2, 3, 5], 1, 4, 'float64'),
      sample([20, 130], 0, 300),
      sample([6, 2], 0, 2, 'int8'),
      sample([0, 3], 0, 2),
      sample([1, 1], 0, 1),
    ];
  },
});

/**
 * Rows of `x` along `axis` at `index` (int32, any shape, whose axes stand in the place of `axis`):
 * an embedding's lookup, `x[index]`.
 */
export function take(x: Node, index: Node, axis = 0): Node {
  return makeNode(takeOp, [x, index], { axis: normalizeAxis('take', axis, x.shape.length) });
}

/**
 * Zeros of `size` along `axis`, with row i of `x` added at `index[i]` (int32, one dimension): the
 * adjoint of `take`. The order of additions is fixed.
 */
export function addRows(x: Node, index: Node, axis: number, size: number): Node {
  const normal = normalizeAxis('addRows', axis, x.shape.length);
  return makeNode(addRowsOp, [x, index], { axis: normal, size });
}
