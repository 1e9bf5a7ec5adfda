// Windows that move over the space axes, the last ones of the input: maxima, sums, and the way back.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode, type ReferenceTensor, type Sample } from '../op.ts';
import { reshape } from './broadcast.ts';
import { checkWindowNumbers, windowOutputSize } from './convolution.ts';
import { constantLike } from './emit.ts';
import { gather } from './indexing.ts';
import { isSmallTiling, lowerMaxSpread, lowerSpread, lowerWindows } from './pooling-lowering.ts';
import { forEachIndex } from './reference.ts';
import { distinctTensor, randomTensor, tensorOf } from './samples.ts';

/** How the window moves; arrays have one entry per space axis, `padding` two: before, after. */
export interface PoolWindow {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

const POOL = { kernel: 'ints', stride: 'ints', padding: 'ints', dilation: 'ints' } as const;
const SPREAD = { ...POOL, inputSize: 'ints' } as const;
type PoolAttrs = AttrsOf<typeof POOL>;

/** The shape that a window makes of another. Throws ShapeError if it does not fit. */
export function checkPool(op: string, shape: Shape, window: PoolWindow): Shape {
  const { kernel, stride, padding, dilation } = window;
  const rank = kernel.length;
  const fits =
    rank >= 1 &&
    shape.length >= rank &&
    stride.length === rank &&
    dilation.length === rank &&
    padding.length === 2 * rank;
  if (!fits) {
    throw new ShapeError(`window of ${rank} axes over ${formatShape(shape)}`, { op });
  }
  checkWindowNumbers(op, [...kernel, ...stride, ...dilation], padding);
  const lead = shape.slice(0, shape.length - rank);
  const size = windowOutputSize(shape.slice(-rank), kernel, window);
  if (size.some((length) => length < 1) && !shape.includes(0)) {
    throw new ShapeError(
      `window ${formatShape(kernel)} is larger than the padded input ${formatShape(shape)}`,
      { op },
    );
  }
  return [...lead, ...size.map((length) => Math.max(length, 0))];
}

/** Visits (flat output, flat input) for every element under a window, windows in order. */
function forEachWindow(
  input: Shape,
  output: Shape,
  { kernel, stride, padding, dilation }: PoolWindow,
  visit: (out: number, from: number, spaceFrom: number) => void,
): void {
  const rank = kernel.length;
  const lead = sizeOf(input.slice(0, -rank));
  const space = input.slice(-rank);
  const outSpace = output.slice(-rank);
  for (let l = 0; l < lead; l++) {
    forEachIndex(outSpace, (indices, out) => {
      forEachIndex(kernel, (tap) => {
        let from = 0;
        for (let axis = 0; axis < rank; axis++) {
          const start = indices[axis]! * stride[axis]! - padding[2 * axis]!;
          const at = start + tap[axis]! * dilation[axis]!;
          if (at < 0 || at >= space[axis]!) return;
          from = from * space[axis]! + at;
        }
        visit(l * sizeOf(outSpace) + out, l * sizeOf(space) + from, from);
      });
    });
  }
}

/** Value and position of each window's maximum: the first one, but the last NaN. */
function maximaReference(x: ReferenceTensor, output: Shape, window: PoolWindow) {
  const values = new Float64Array(sizeOf(output)).fill(-Infinity);
  const positions = new Float64Array(sizeOf(output)).fill(-1);
  forEachWindow(x.shape, output, window, (out, from, spaceFrom) => {
    const value = x.data[from]!;
    if (positions[out] !== -1 && !(value > values[out]!) && !Number.isNaN(value)) return;
    values[out] = value;
    positions[out] = spaceFrom;
  });
  return { values, positions };
}

function lowestValue(dtype: DType): number {
  if (isFloat(dtype)) return -Infinity;
  return dtype === 'uint32' || dtype === 'uint8' ? 0 : -2147483648;
}

function window(kernel: Shape, options: Partial<PoolAttrs> = {}): PoolAttrs {
  return {
    kernel,
    stride: kernel,
    padding: kernel.flatMap(() => [0, 0]),
    dilation: kernel.map(() => 1),
    ...options,
  };
}

/** Geometries that all pools are tested with: input shape and window. */
const GEOMETRIES: readonly (readonly [Shape, PoolAttrs])[] = [
  [[1], window([1])],
  [[2, 6], window([2])],
  [[2, 3, 7], window([3], { stride: [2], padding: [1, 1] })],
  [[2, 2, 6, 8], window([2, 2])],
  [[1, 2, 7, 9], window([2, 2])],
  [[2, 7, 8], window([3, 3], { stride: [2, 2], padding: [1, 1, 1, 1] })],
  [[1, 6, 7], window([3, 2], { stride: [1, 1], padding: [1, 1, 0, 1] })],
  [[1, 9, 8], window([2, 3], { stride: [2, 1], dilation: [3, 2], padding: [0, 2, 1, 0] })],
  [[1, 7, 7], window([2, 2], { stride: [3, 3] })],
  [[2, 8, 9], window([8, 9])],
  [[1, 12, 11], window([6, 7], { stride: [1, 2], padding: [2, 3, 3, 1] })],
  [[1, 20, 6], window([3, 2], { stride: [9, 2] })],
  [[1, 4, 3, 5], window([2, 2, 2], { stride: [2, 1, 2], padding: [0, 0, 1, 0, 0, 1] })],
  // Rows that take whole vectors, and one that overlaps them.
  [[1, 2, 37], window([2, 2])],
  [[2, 3, 40], window([3, 3], { stride: [3, 3], padding: [1, 1, 1, 1] })],
  [[0, 4, 4], window([2, 2])],
];

const maxPoolOp = defineOp({
  name: 'maxPool',
  summary: 'maximum under each window; padding is -inf',
  attrs: POOL,
  infer: ([x], attrs) => ({ shape: checkPool('maxPool', x!.shape, attrs), dtype: x!.dtype }),
  gradient: ({ grad, inputs, attrs }) => {
    const x = inputs[0]!;
    const inputSize = x.shape.slice(-attrs.kernel.length);
    if (isSmallTiling(attrs)) return [maxPoolBackward(grad, x, attrs)];
    return [unpool(grad, maxPoolIndices(x, attrs), attrs, inputSize)];
  },
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [overlap(attrs.kernel, attrs.stride)],
    lower: (context, attrs, node) => {
      const { builder } = context;
      const lowest = lowestValue(node.dtype);
      return lowerWindows(context, node, attrs, {
        states: [{ type: valueTypeOf(node.dtype), initial: lowest }],
        first: (tap) => [tap.value],
        step: ([best], { value, valid }) => {
          // Of equal ones the first, and NaN over all: cheaper than the exact maximum of two.
          let better = builder.compare('gt', value, best!);
          if (isFloat(node.dtype)) better = builder.or(better, builder.compare('ne', value, value));
          return [builder.select(builder.and(valid, better), value, best!)];
        },
        finish: ([best]) => best!,
      });
    },
  },
  reference: ([x], attrs, output) => maximaReference(x!, output.shape, attrs).values,
  samples: () => maximaSamples(),
});

const maxPoolIndicesOp = defineOp({
  name: 'maxPoolIndices',
  summary: "position, in the input's space, of the first maximum under each window",
  attrs: POOL,
  infer: ([x], attrs) => ({ shape: checkPool('maxPool', x!.shape, attrs), dtype: 'int32' }),
  gradient: { nonDifferentiable: 'a position is an integer' },
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [overlap(attrs.kernel, attrs.stride)],
    lower: (context, attrs, node) => {
      const { builder } = context;
      const { dtype } = node.inputs[0]!;
      return lowerWindows(context, node, attrs, {
        states: [
          { type: valueTypeOf(dtype), initial: lowestValue(dtype) },
          { type: 'i32', initial: -1 },
        ],
        first: ({ value, position }) => [value, position],
        step: ([best, index], { value, position, valid }) => {
          let better = builder.compare('gt', value, best!);
          better = builder.or(better, builder.compare('lt', index!, builder.constant(0)));
          if (isFloat(dtype)) better = builder.or(better, builder.compare('ne', value, value));
          const take = builder.and(valid, better);
          return [builder.select(take, value, best!), builder.select(take, position, index!)];
        },
        finish: ([, index]) => index!,
      });
    },
  },
  reference: ([x], attrs, output) => maximaReference(x!, output.shape, attrs).positions,
  samples: () => maximaSamples(),
});

function maximaSamples(): Sample<PoolAttrs>[] {
  return [
    ...GEOMETRIES.map(([shape, attrs], i) => ({
      inputs: [distinctTensor(shape, { dtype: i % 3 === 2 ? 'float64' : 'float32' })],
      attrs,
    })),
    {
      inputs: [randomTensor([2, 4, 4], { dtype: 'int32' })],
      attrs: window([2, 2]),
      skipGradient: 'integers',
    },
    {
      inputs: [tensorOf([2, 6], [1, 1, NaN, 2, 3, NaN, -Infinity, -Infinity, 0, 0, Infinity, 1])],
      attrs: window([3]),
      skipGradient: 'ties and special values',
    },
    {
      inputs: [
        tensorOf(
          [2, 36],
          Array.from({ length: 72 }, (_, i) => (i % 7 === 3 ? NaN : (i * 5) % 4 === 0 ? 0 : i % 3)),
        ),
      ],
      attrs: window([2, 2]),
      skipGradient: 'ties and special values',
    },
  ];
}

/**
 * How often a window's value is evaluated on its way back: once where windows do not overlap, as the
 * elements of one stride are computed together.
 */
function spreadEvaluations({ kernel, stride }: PoolWindow): number {
  return kernel.every((size, axis) => size <= stride[axis]!) ? 1 : overlap(kernel, stride);
}

/** How many windows an average input element lies under. */
function overlap(kernel: Shape, stride: Shape): number {
  return kernel.reduce((product, size, axis) => product * (size / stride[axis]!), 1);
}

/** Checks indices against the window's output over `inputSize`; returns the input's shape. */
function inferSpread(op: string, dy: Node, attrs: AttrsOf<typeof SPREAD>): Shape {
  const rank = attrs.kernel.length;
  const shape = [...dy.shape.slice(0, dy.shape.length - rank), ...attrs.inputSize];
  const expected = checkPool(op, shape, attrs);
  if (expected.length !== dy.shape.length || expected.some((n, i) => n !== dy.shape[i])) {
    throw new ShapeError(
      `the gradient of the result is ${formatShape(dy.shape)}, not ${formatShape(expected)}`,
      { op },
    );
  }
  return shape;
}

const unpoolOp = defineOp({
  name: 'unpool',
  summary: "sums each window's value into the position that maxPoolIndices chose",
  attrs: SPREAD,
  infer: ([dy, index], attrs) => {
    if (!isFloat(dy!.dtype) || index!.dtype !== 'int32') {
      throw new DTypeError(`takes floats and int32, not ${dy!.dtype} and ${index!.dtype}`, {
        op: 'unpool',
      });
    }
    if (formatShape(dy!.shape) !== formatShape(index!.shape)) {
      throw new ShapeError(`${formatShape(dy!.shape)} and ${formatShape(index!.shape)} differ`, {
        op: 'unpool',
      });
    }
    return { shape: inferSpread('unpool', dy!, attrs), dtype: dy!.dtype };
  },
  gradient: ({ grad, inputs, attrs }) => [
    gatherWindows(grad, inputs[1]!, attrs.kernel.length),
    null,
  ],
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [0, 1].map(() => spreadEvaluations(attrs)),
    lower: (context, attrs, node) => {
      const { builder } = context;
      return lowerSpread(context, node, attrs, (window, { position }) => {
        const chosen = builder.compare('eq', context.read(1, window), position);
        const value = context.read(0, window);
        return builder.select(chosen, value, constantLike(builder, value, 0));
      });
    },
  },
  reference: ([dy, index], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachWindow(output.shape, dy!.shape, attrs, (out, from, spaceFrom) => {
      if (index!.data[out] === spaceFrom) data[from] = data[from]! + dy!.data[out]!;
    });
    return data;
  },
  samples: () =>
    GEOMETRIES.map(([shape, attrs]) => {
      const output = checkPool('unpool', shape, attrs);
      const x = distinctTensor(shape);
      const index = { shape: output, dtype: 'int32' as const };
      return {
        inputs: [
          randomTensor(output),
          { ...index, data: maximaReference(x, output, attrs).positions },
        ],
        attrs: { ...attrs, inputSize: shape.slice(-attrs.kernel.length) },
      };
    }),
});

const maxPoolBackwardOp = defineOp({
  name: 'maxPoolBackward',
  summary: "each window's value at its first maximum; for windows that do not overlap",
  attrs: POOL,
  infer: ([dy, x], attrs) => {
    checkFloat('maxPoolBackward', dy!);
    const expected = checkPool('maxPoolBackward', x!.shape, attrs);
    if (formatShape(expected) !== formatShape(dy!.shape)) {
      throw new ShapeError(
        `the gradient of the result is ${formatShape(dy!.shape)}, not ${formatShape(expected)}`,
        { op: 'maxPoolBackward' },
      );
    }
    if (!isSmallTiling(attrs)) {
      throw new ShapeError('windows overlap or are large', { op: 'maxPoolBackward' });
    }
    return { shape: x!.shape, dtype: dy!.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => [
    needs(0) ? gatherWindows(grad, maxPoolIndices(inputs[1]!, attrs), attrs.kernel.length) : null,
    null,
  ],
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1],
    lower: (context, attrs, node) => lowerMaxSpread(context, node, attrs),
  },
  reference: ([dy, x], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    const { positions } = maximaReference(x!, dy!.shape, attrs);
    forEachWindow(output.shape, dy!.shape, attrs, (out, from, spaceFrom) => {
      if (positions[out] === spaceFrom) data[from] = data[from]! + dy!.data[out]!;
    });
    return data;
  },
  samples: () =>
    maximaSamples()
      .filter(({ attrs }) => isSmallTiling(attrs))
      .map(({ inputs, ...sample }) => {
        const x = inputs[0]!;
        const dtype = isFloat(x.dtype) ? x.dtype : 'float32';
        const dy = randomTensor(checkPool('maxPoolBackward', x.shape, sample.attrs), { dtype });
        return { ...sample, inputs: [dy, x] };
      }),
});

/** For each window, the element of `x` at its position within the last `rank` axes. */
function gatherWindows(x: Node, index: Node, rank: number): Node {
  const lead = x.shape.slice(0, x.shape.length - rank);
  const flat = (node: Node): Node => {
    return reshape(node, [...lead, sizeOf(node.shape.slice(lead.length))]);
  };
  return reshape(gather(flat(x), flat(index), lead.length), index.shape);
}

function checkFloat(op: string, x: Node): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`takes floats, not ${x.dtype}`, { op });
}

const sumPoolOp = defineOp({
  name: 'sumPool',
  summary: 'sum under each window; padding is 0',
  attrs: POOL,
  infer: ([x], attrs) => {
    checkFloat('sumPool', x!);
    return { shape: checkPool('sumPool', x!.shape, attrs), dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, attrs }) => [
    sumPoolBackward(grad, attrs, inputs[0]!.shape.slice(-attrs.kernel.length)),
  ],
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [overlap(attrs.kernel, attrs.stride)],
    lower: (context, attrs, node) => {
      const { builder } = context;
      return lowerWindows(context, node, attrs, {
        states: [{ type: valueTypeOf(node.dtype), initial: 0 }],
        first: ({ value }) => [value],
        step: ([total], { value, valid }) => {
          const term = builder.select(valid, value, constantLike(builder, value, 0));
          return [builder.add(total!, term)];
        },
        finish: ([total]) => total!,
      });
    },
  },
  reference: ([x], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachWindow(x!.shape, output.shape, attrs, (out, from) => {
      data[out] = data[out]! + x!.data[from]!;
    });
    return data;
  },
  samples: () =>
    GEOMETRIES.map(([shape, attrs], i) => ({
      inputs: [randomTensor(shape, { dtype: i % 3 === 2 ? 'float64' : 'float32' })],
      attrs,
    })),
});

const sumPoolBackwardOp = defineOp({
  name: 'sumPoolBackward',
  summary: "sums each window's value into every position under it",
  attrs: SPREAD,
  infer: ([dy], attrs) => {
    checkFloat('sumPoolBackward', dy!);
    return { shape: inferSpread('sumPoolBackward', dy!, attrs), dtype: dy!.dtype };
  },
  gradient: ({ grad, attrs }) => [sumPool(grad, attrs)],
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [spreadEvaluations(attrs)],
    lower: (context, attrs, node) =>
      lowerSpread(context, node, attrs, (window): Expression => context.read(0, window)),
  },
  reference: ([dy], attrs, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachWindow(output.shape, dy!.shape, attrs, (out, from) => {
      data[from] = data[from]! + dy!.data[out]!;
    });
    return data;
  },
  samples: () =>
    GEOMETRIES.map(([shape, attrs]) => ({
      inputs: [randomTensor(checkPool('sumPool', shape, attrs))],
      attrs: { ...attrs, inputSize: shape.slice(-attrs.kernel.length) },
    })),
});

function poolAttrs({ kernel, stride, padding, dilation }: PoolWindow): PoolAttrs {
  return { kernel, stride, padding, dilation };
}

/** Maximum under each window over the last axes; padding is -inf. Throws ShapeError. */
export function maxPool(x: Node, window: PoolWindow): Node {
  return makeNode(maxPoolOp, [x], poolAttrs(window));
}

/** Row-major position, within the space axes of `x`, of each window's first maximum: int32. */
export function maxPoolIndices(x: Node, window: PoolWindow): Node {
  return makeNode(maxPoolIndicesOp, [x], poolAttrs(window));
}

/** The gradient of `maxPool` where windows do not overlap and are small: from its input again. */
export function maxPoolBackward(dy: Node, x: Node, window: PoolWindow): Node {
  return makeNode(maxPoolBackwardOp, [dy, x], poolAttrs(window));
}

/** The gradient of `maxPool`: sums `dy` into the positions `index` of space axes `inputSize`. */
export function unpool(dy: Node, index: Node, window: PoolWindow, inputSize: Shape): Node {
  return makeNode(unpoolOp, [dy, index], { ...poolAttrs(window), inputSize });
}

/** Sum under each window over the last axes; padding is 0. Throws ShapeError. */
export function sumPool(x: Node, window: PoolWindow): Node {
  return makeNode(sumPoolOp, [x], poolAttrs(window));
}

/** The gradient of `sumPool`: spreads `dy` over space axes `inputSize`. */
export function sumPoolBackward(dy: Node, window: PoolWindow, inputSize: Shape): Node {
  return makeNode(sumPoolBackwardOp, [dy], { ...poolAttrs(window), inputSize });
}
