// Makes the inputs that ops are tested with: small, deterministic, exactly representable.
import { type DType, isFloat } from '../../base/dtype.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import type { Attrs, ReferenceTensor, Sample } from '../op.ts';
import { storedValue } from './reference.ts';

/** A tensor from listed values, rounded to what `dtype` stores. */
export function tensorOf(
  shape: Shape,
  values: readonly number[],
  dtype: DType = 'float32',
): ReferenceTensor {
  if (values.length !== sizeOf(shape)) throw new Error('internal: sample data does not fit');
  return { shape, dtype, data: Float64Array.from(values, (value) => storedValue(dtype, value)) };
}

export interface RandomOptions {
  readonly dtype?: DType;
  readonly low?: number;
  readonly high?: number;
  readonly seed?: number;
}

/** Uniform numbers in [low, high), the same ones for the same arguments. */
export function randomTensor(shape: Shape, options: RandomOptions = {}): ReferenceTensor {
  const { dtype = 'float32', seed = 1 } = options;
  const unsigned = dtype === 'uint8' || dtype === 'uint32';
  const { low = isFloat(dtype) ? -2 : unsigned || dtype === 'bool' ? 0 : -9 } = options;
  const { high = isFloat(dtype) ? 2 : dtype === 'bool' ? 2 : 10 } = options;
  let state = (seed * 2654435761 + shape.length * 40503 + sizeOf(shape)) >>> 0;
  const data = Float64Array.from({ length: sizeOf(shape) }, () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 13), 0x297a2d39) >>> 0;
    const value = low + ((high - low) * mixed) / 4294967296;
    return storedValue(dtype, isFloat(dtype) ? value : Math.floor(value));
  });
  return { shape, dtype, data };
}

/** All different, well apart: for extrema and sorting, where a tie is a kink. */
export function distinctTensor(shape: Shape, options: RandomOptions = {}): ReferenceTensor {
  const { dtype = 'float32', seed = 1 } = options;
  const size = sizeOf(shape);
  const order = Array.from(randomTensor([size], { seed }).data, (key, i) => ({ key, i }));
  order.sort((a, b) => a.key - b.key);
  const data = new Float64Array(size);
  order.forEach(({ i }, rank) => {
    data[i] = storedValue(dtype, isFloat(dtype) ? (rank - size / 2) / 8 : rank - (size >> 1));
  });
  return { shape, dtype, data };
}

const SHAPES: readonly Shape[] = [[], [0], [1], [2, 3], [33], [2, 0, 3]];

/** Samples of a one-operand function over the part of the line where it is smooth. */
export function unarySamples(
  options: {
    low?: number;
    high?: number;
    dtypes?: readonly DType[];
    tolerance?: number;
    /** Values at kinks, poles and infinities; compared, but not differentiated. */
    special?: readonly number[];
    skipGradient?: string;
  } = {},
): Sample[] {
  const { low = -2, high = 2, dtypes = ['float64'], tolerance, special = [] } = options;
  const skipGradient = options.skipGradient === undefined ? {} : options;
  const extra = {
    ...(tolerance === undefined ? {} : { tolerance }),
    ...(skipGradient.skipGradient === undefined ? {} : { skipGradient: skipGradient.skipGradient }),
  };
  const samples: Sample[] = SHAPES.map((shape, i) => ({
    inputs: [randomTensor(shape, { low, high, seed: i + 1 })],
    attrs: {},
    ...extra,
  }));
  for (const dtype of dtypes) {
    samples.push({ inputs: [randomTensor([3, 5], { dtype, low, high })], attrs: {}, ...extra });
  }
  const values = [...special, NaN];
  samples.push({
    inputs: [tensorOf([values.length], values)],
    attrs: {},
    ...extra,
    skipGradient: 'special values',
  });
  return samples;
}

/** Pairs of shapes that broadcast in every way. */
export const PAIRS: readonly (readonly [Shape, Shape])[] = [
  [[], []],
  [[0], [1]],
  [[1], [1]],
  [
    [2, 3],
    [2, 3],
  ],
  [[4, 5], [5]],
  [
    [4, 1],
    [1, 7],
  ],
  [[], [3, 2]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [
    [2, 0, 3],
    [1, 3],
  ],
];

/** Samples of a two-operand function. */
export function pairSamples(
  options: {
    left?: RandomOptions;
    right?: RandomOptions;
    dtypes?: readonly DType[];
    special?: readonly (readonly [number, number])[];
    skipGradient?: string;
    tolerance?: number;
    /** Whether the plain float32 samples make sense. */
    floats?: boolean;
  } = {},
): Sample[] {
  const { left = {}, right = {}, dtypes = ['float64', 'int32'], special = [] } = options;
  const extra = {
    ...(options.skipGradient === undefined ? {} : { skipGradient: options.skipGradient }),
    ...(options.tolerance === undefined ? {} : { tolerance: options.tolerance }),
  };
  const pair = (a: Shape, b: Shape, seed: number, dtype: DType): Sample => ({
    inputs: [
      randomTensor(a, { ...left, seed, dtype }),
      randomTensor(b, { ...right, seed: seed + 100, dtype }),
    ],
    attrs: {},
    ...extra,
  });
  const samples: Sample[] =
    options.floats === false ? [] : PAIRS.map(([a, b], i) => pair(a, b, i + 1, 'float32'));
  dtypes.forEach((dtype, i) => samples.push(pair([3, 5], [5], i + 20, dtype)));
  if (special.length > 0) {
    samples.push({
      inputs: [
        tensorOf(
          [special.length],
          special.map(([a]) => a),
        ),
        tensorOf(
          [special.length],
          special.map(([, b]) => b),
        ),
      ],
      attrs: {},
      ...extra,
      skipGradient: 'special values',
    });
  }
  return samples;
}

/** Gives samples the precise attribute type of their op. */
export function withAttrs<A extends Attrs>(
  attrs: A,
  ...inputs: readonly ReferenceTensor[]
): Sample<A> {
  return { inputs, attrs };
}
