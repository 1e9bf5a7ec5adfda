// n-d convolution and its two derivatives. Each is linear in both operands and is the others'
// gradient, so that derivatives of any order stay within the three.
import { checkInteger } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  type ConvolutionGeometry,
  defineOp,
  makeNode,
  type ReferenceTensor,
} from '../op.ts';
import { forEachIndex } from './reference.ts';
import { randomTensor } from './samples.ts';

/** How the window moves; arrays have one entry per space axis, `padding` two: before, after. */
export interface Window {
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
  readonly groups: number;
}

const WINDOW = { stride: 'ints', padding: 'ints', dilation: 'ints', groups: 'int' } as const;
const WITH_INPUT = { ...WINDOW, inputSize: 'ints' } as const;
const WITH_KERNEL = { ...WINDOW, kernelSize: 'ints' } as const;

/** Sizes of the space axes after a window of `kernel` has moved over `size`. May be below 1. */
export function windowOutputSize(
  size: Shape,
  kernel: Shape,
  window: Pick<Window, 'stride' | 'padding' | 'dilation'>,
): number[] {
  return size.map((length, axis) => {
    const { stride, padding, dilation } = window;
    const padded = length + padding[2 * axis]! + padding[2 * axis + 1]!;
    const reach = dilation[axis]! * (kernel[axis]! - 1) + 1;
    return Math.floor((padded - reach) / stride[axis]!) + 1;
  });
}

function checkWindow(op: string, rank: number, window: Window): void {
  const { stride, padding, dilation, groups } = window;
  const right = stride.length === rank && dilation.length === rank && padding.length === 2 * rank;
  if (!right) {
    throw new ShapeError(
      `stride, dilation and padding have ${stride.length}, ${dilation.length} and ${padding.length} entries for ${rank} space axes`,
      { op },
    );
  }
  checkWindowNumbers(op, [...stride, ...dilation, groups], padding);
}

/** The numbers of a window: what must be positive, and padding, which may be 0. */
export function checkWindowNumbers(
  op: string,
  positive: readonly number[],
  padding: readonly number[],
): void {
  for (const number of positive) checkInteger(op, 'window, stride and dilation', number, 1);
  for (const number of padding) checkInteger(op, 'padding', number, 0);
}

/** Checks that input, weight and result belong together; returns the result's space sizes. */
function checkConvolution(op: string, x: Shape, weight: Shape, window: Window): number[] {
  const rank = x.length - 2;
  if (rank < 1 || weight.length !== x.length) {
    throw new ShapeError(
      `input ${formatShape(x)} and weight ${formatShape(weight)} must be [batch, channels, ...space] and [out, in / groups, ...kernel] of equal rank`,
      { op },
    );
  }
  checkWindow(op, rank, window);
  const { groups } = window;
  const [channels, outputs, perGroup] = [x[1]!, weight[0]!, weight[1]!];
  if (channels !== perGroup * groups) {
    throw new ShapeError(
      `input ${formatShape(x)} has ${channels} channels, weight ${formatShape(weight)} takes ${perGroup} * ${groups} group(s)`,
      { op, hint: 'weight is [out, in / groups, ...kernel]' },
    );
  }
  if (outputs % groups !== 0) {
    throw new ShapeError(`${outputs} output channels do not divide into ${groups} groups`, { op });
  }
  const size = windowOutputSize(x.slice(2), weight.slice(2), window);
  if (size.some((length) => length < 1) && !x.includes(0)) {
    throw new ShapeError(
      `kernel ${formatShape(weight.slice(2))} is larger than the padded input ${formatShape(x)}`,
      { op },
    );
  }
  return size.map((length) => Math.max(length, 0));
}

function checkDTypes(op: string, a: Node, b: Node): void {
  if (a.dtype !== b.dtype || !isFloat(a.dtype)) {
    throw new DTypeError(`takes floats of one dtype, not ${a.dtype} and ${b.dtype}`, { op });
  }
}

/** Checks the shape of a result that a derivative is given. */
function checkResult(op: string, dy: Shape, expected: Shape): void {
  if (dy.length !== expected.length || dy.some((size, axis) => size !== expected[axis])) {
    throw new ShapeError(
      `the gradient of the result is ${formatShape(dy)}, not ${formatShape(expected)}`,
      { op },
    );
  }
}

const geometryOf = (
  role: ConvolutionGeometry['role'],
  { stride, padding, dilation, groups }: Window,
): ConvolutionGeometry => ({ role, stride, padding, dilation, groups });

/** Visits every product that a convolution sums: flat positions in input, weight and result. */
function forEachTap(
  x: Shape,
  weight: Shape,
  y: Shape,
  { stride, padding, dilation, groups }: Window,
  visit: (inX: number, inWeight: number, inY: number) => void,
): void {
  const perGroup = weight[1]!;
  const outputsPerGroup = weight[0]! / groups;
  const kernel = weight.slice(2);
  const space = x.slice(2);
  forEachIndex(y, (indices, inY) => {
    const [batch, output] = indices as [number, number];
    const firstChannel = Math.floor(output / outputsPerGroup) * perGroup;
    forEachIndex(kernel, (tap, flatTap) => {
      let inSpace = 0;
      for (let axis = 0; axis < space.length; axis++) {
        const at =
          indices[axis + 2]! * stride[axis]! + tap[axis]! * dilation[axis]! - padding[2 * axis]!;
        if (at < 0 || at >= space[axis]!) return;
        inSpace = inSpace * space[axis]! + at;
      }
      for (let channel = 0; channel < perGroup; channel++) {
        const inX = (batch * x[1]! + firstChannel + channel) * sizeOf(space) + inSpace;
        visit(inX, (output * perGroup + channel) * sizeOf(kernel) + flatTap, inY);
      }
    });
  });
}

const convolutionOp = defineOp({
  name: 'convolution',
  summary: '[n, in, ...space] by [out, in / groups, ...kernel], cross-correlated',
  attrs: WINDOW,
  infer: ([x, weight], attrs) => {
    checkDTypes('convolution', x!, weight!);
    const size = checkConvolution('convolution', x!.shape, weight!.shape, attrs);
    return { shape: [x!.shape[0]!, weight!.shape[0]!, ...size], dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => {
    const [x, weight] = inputs as readonly [Node, Node];
    return [
      needs(0) ? convolutionBackwardData(grad, weight, attrs, x.shape.slice(2)) : null,
      needs(1) ? convolutionBackwardFilter(x, grad, attrs, weight.shape.slice(2)) : null,
    ];
  },
  lower: { kind: 'convolution', geometry: (attrs) => geometryOf('forward', attrs) },
  reference: ([x, weight], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachTap(x!.shape, weight!.shape, output.shape, attrs, (inX, inWeight, inY) => {
      data[inY] = data[inY]! + x!.data[inX]! * weight!.data[inWeight]!;
    });
    return data;
  },
  samples: () => cases().map(({ x, weight, window }) => ({ inputs: [x, weight], attrs: window })),
});

const backwardDataOp = defineOp({
  name: 'convolutionBackwardData',
  summary: 'gradient of a convolution by its input, from those of the result and the weight',
  attrs: WITH_INPUT,
  infer: ([dy, weight], attrs) => {
    const op = 'convolutionBackwardData';
    checkDTypes(op, dy!, weight!);
    const channels = weight!.shape[1]! * attrs.groups;
    const shape = [dy!.shape[0]!, channels, ...attrs.inputSize];
    const size = checkConvolution(op, shape, weight!.shape, attrs);
    checkResult(op, dy!.shape, [dy!.shape[0]!, weight!.shape[0]!, ...size]);
    return { shape, dtype: dy!.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => {
    const [dy, weight] = inputs as readonly [Node, Node];
    return [
      needs(0) ? convolution(grad, weight, attrs) : null,
      needs(1) ? convolutionBackwardFilter(grad, dy, attrs, weight.shape.slice(2)) : null,
    ];
  },
  lower: { kind: 'convolution', geometry: (attrs) => geometryOf('backwardData', attrs) },
  reference: ([dy, weight], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachTap(output.shape, weight!.shape, dy!.shape, attrs, (inX, inWeight, inY) => {
      data[inX] = data[inX]! + dy!.data[inY]! * weight!.data[inWeight]!;
    });
    return data;
  },
  samples: () =>
    cases().map(({ x, weight, y, window }) => ({
      inputs: [y, weight],
      attrs: { ...window, inputSize: x.shape.slice(2) },
    })),
});

const backwardFilterOp = defineOp({
  name: 'convolutionBackwardFilter',
  summary: 'gradient of a convolution by its weight, from the input and that of the result',
  attrs: WITH_KERNEL,
  infer: ([x, dy], attrs) => {
    const op = 'convolutionBackwardFilter';
    checkDTypes(op, x!, dy!);
    const shape = [dy!.shape[1]!, Math.floor(x!.shape[1]! / attrs.groups), ...attrs.kernelSize];
    const size = checkConvolution(op, x!.shape, shape, attrs);
    checkResult(op, dy!.shape, [x!.shape[0]!, dy!.shape[1]!, ...size]);
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => {
    const [x, dy] = inputs as readonly [Node, Node];
    return [
      needs(0) ? convolutionBackwardData(dy, grad, attrs, x.shape.slice(2)) : null,
      needs(1) ? convolution(x, grad, attrs) : null,
    ];
  },
  lower: { kind: 'convolution', geometry: (attrs) => geometryOf('backwardFilter', attrs) },
  reference: ([x, dy], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachTap(x!.shape, output.shape, dy!.shape, attrs, (inX, inWeight, inY) => {
      data[inWeight] = data[inWeight]! + x!.data[inX]! * dy!.data[inY]!;
    });
    return data;
  },
  samples: () =>
    cases().map(({ x, weight, y, window }) => ({
      inputs: [x, y],
      attrs: { ...window, kernelSize: weight.shape.slice(2) },
    })),
});

interface Case {
  readonly x: ReferenceTensor;
  readonly weight: ReferenceTensor;
  readonly y: ReferenceTensor;
  readonly window: AttrsOf<typeof WINDOW>;
}

/** Geometries that all three ops are tested with. */
function cases(): Case[] {
  const make = (
    xShape: Shape,
    weightShape: Shape,
    options: Partial<Window> = {},
    dtype: 'float32' | 'float64' = 'float32',
  ): Case => {
    const rank = xShape.length - 2;
    const ones = xShape.slice(2).map(() => 1);
    const window = {
      stride: ones,
      padding: new Array<number>(2 * rank).fill(0),
      dilation: ones,
      groups: 1,
      ...options,
    };
    const size = windowOutputSize(xShape.slice(2), weightShape.slice(2), window);
    return {
      x: randomTensor(xShape, { dtype, seed: 1 }),
      weight: randomTensor(weightShape, { dtype, seed: 2 }),
      y: randomTensor([xShape[0]!, weightShape[0]!, ...size], { dtype, seed: 3 }),
      window,
    };
  };
  return [
    make([1, 1, 1], [1, 1, 1]),
    make([2, 3, 8], [4, 3, 3]),
    make([1, 2, 9], [2, 2, 2], { stride: [2], padding: [1, 2], dilation: [2] }),
    make([2, 3, 6, 5], [4, 3, 3, 3], { padding: [1, 1, 1, 1] }),
    make([2, 3, 6, 7], [4, 3, 1, 1]),
    make([1, 2, 7, 8], [3, 2, 3, 2], { stride: [2, 3], padding: [1, 0, 0, 2] }),
    make([1, 4, 6, 6], [6, 2, 3, 3], { groups: 2, padding: [1, 1, 1, 1] }),
    make([2, 5, 6, 4], [5, 1, 3, 3], { groups: 5, padding: [1, 1, 1, 1] }),
    make([1, 3, 5, 5], [6, 1, 3, 3], { groups: 3, stride: [2, 2], padding: [1, 1, 1, 1] }),
    make([1, 2, 7, 6], [2, 2, 2, 2], { dilation: [3, 2], stride: [1, 2] }),
    make([1, 2, 8, 8], [2, 2, 2, 2], { stride: [3, 3] }),
    make([1, 2, 3, 4, 5], [2, 2, 2, 3, 2], { padding: [1, 0, 0, 1, 1, 1] }, 'float64'),
    make([2, 17, 9, 9], [19, 17, 3, 3], { padding: [1, 1, 1, 1] }, 'float64'),
    make([0, 2, 4], [3, 2, 3]),
    make([2, 0, 4], [3, 0, 3]),
  ];
}

/**
 * Cross-correlation of `x` [n, in, ...space] with `weight` [out, in / groups, ...kernel] over one
 * to three space axes. Throws ShapeError or DTypeError for operands that do not fit.
 */
export function convolution(x: Node, weight: Node, window: Window): Node {
  return makeNode(convolutionOp, [x, weight], windowAttrs(window));
}

/**
 * Gradient of a convolution by its input, whose space sizes are `inputSize`; also what transposed
 * convolution is.
 */
export function convolutionBackwardData(
  dy: Node,
  weight: Node,
  window: Window,
  inputSize: Shape,
): Node {
  return makeNode(backwardDataOp, [dy, weight], { ...windowAttrs(window), inputSize });
}

/** Gradient of a convolution by its weight, whose space sizes are `kernelSize`. */
export function convolutionBackwardFilter(
  x: Node,
  dy: Node,
  window: Window,
  kernelSize: Shape,
): Node {
  return makeNode(backwardFilterOp, [x, dy], { ...windowAttrs(window), kernelSize });
}

/** Only the window: the attributes of the three ops differ in the rest. */
function windowAttrs({ stride, padding, dilation, groups }: Window): AttrsOf<typeof WINDOW> {
  return { stride, padding, dilation, groups };
}
