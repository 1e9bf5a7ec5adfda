// Quantization: to integers and back, and products of quantized numbers, computed exactly in floats.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { type Tensor, maximum, minimum } from '../../tensor/index.ts';
import { elementType, flag, int, ints } from '../attributes.ts';
import { isFloat8 } from '../float8.ts';
import { type Call, type Operator, type Result, checkAxis, defineOperator } from '../operator.ts';
import type { ElementType } from '../tensor-data.ts';
import { type TensorValue, isFloatType } from '../values.ts';
import { type ConvolutionAttributes, alongChannels, convolve } from './convolution.ts';
import { castValue } from './creation.ts';
import { as } from './results.ts';
import { GROUP, WINDOW_ATTRIBUTES } from './windows.ts';

/** The numbers a type holds. */
const LIMITS: Partial<Readonly<Record<ElementType, readonly [low: number, high: number]>>> = {
  uint2: [0, 3],
  int2: [-2, 1],
  uint4: [0, 15],
  int4: [-8, 7],
  uint8: [0, 255],
  int8: [-128, 127],
  uint16: [0, 65_535],
  int16: [-32_768, 32_767],
  int32: [-(2 ** 31), 2 ** 31 - 1],
};

/**
 * A scale or zero point against the tensor it is for: one number, one for each place along the axis, or
 * one for each block of `blockSize` places.
 */
function laidAlong(
  value: Tensor,
  shape: readonly number[],
  axis: number,
  blockSize: number,
): Tensor {
  if (value.size === 1) return value.reshape([]);
  if (blockSize > 0) {
    const wide = value.repeatInterleave(blockSize, axis);
    const length = shape[axis] ?? 0;
    return (wide.shape[axis] ?? 0) > length ? wide.narrow(axis, 0, length) : wide;
  }
  if (value.ndim !== 1 || value.shape[0] !== shape[axis]) {
    throw new ShapeError(
      `${formatShape(value.shape)} scales for axis ${axis} of ${formatShape(shape)}`,
    );
  }
  return value.reshape(shape.map((size, i) => (i === axis ? size : 1)));
}

/** Rounded to nearest even and brought into the range of a type. */
function saturated(x: Tensor, type: ElementType): TensorValue {
  const limits = LIMITS[type];
  if (limits === undefined) throw new FormatError(`nothing is quantized to ${type}`);
  return as(type, x.clamp(limits[0], limits[1]));
}

interface QuantizeAttributes {
  readonly axis: number;
  readonly block_size: number;
  readonly output_dtype: ElementType | undefined;
  readonly precision: ElementType | undefined;
  readonly saturate: boolean;
}

function axisOf(call: Call<{ axis: number }>): number {
  const { rank } = call.value(0);
  // One number for all needs no axis.
  return call.value(1).size === 1 ? 0 : checkAxis(call.attributes.axis, rank);
}

function quantize(call: Call<QuantizeAttributes>): TensorValue {
  const { block_size: block, output_dtype: wanted, saturate, precision } = call.attributes;
  const x = call.value(0);
  const type = call.has(2) ? call.type(2) : (wanted ?? 'uint8');
  const axis = axisOf(call);
  const wide = precision === 'float64' || x.type === 'float64' ? 'float64' : 'float32';
  const scale = laidAlong(call.tensor(1).to(wide), x.shape, axis, block);
  const quotient = x.tensor.to(wide).div(scale);
  if (isFloat8(type)) return castValue(as(wide, quotient), type, saturate);
  const rounded = quotient.round();
  if (!call.has(2)) return saturated(rounded, type);
  const zero = laidAlong(call.tensor(2).to(wide), x.shape, axis, block);
  return saturated(rounded.add(zero), type);
}

function dequantize(call: Call<Omit<QuantizeAttributes, 'saturate' | 'precision'>>): TensorValue {
  const { block_size: block, output_dtype: wanted } = call.attributes;
  const x = call.value(0);
  const axis = axisOf(call);
  const type = wanted ?? call.type(1);
  const scale = laidAlong(call.tensor(1), x.shape, axis, block).float();
  // The difference of integers is exact in float32 up to 24 bits, and in int32 beyond.
  let difference = x.tensor;
  if (call.has(2) && !isFloatType(x.type)) {
    const zero = laidAlong(call.tensor(2).to('int32'), x.shape, axis, block);
    difference = difference.to('int32').sub(zero);
  }
  return as(type, difference.float().mul(scale));
}

/** Scale and zero point of the range of x, which takes in zero; then uint8. */
function quantizeDynamically(call: Call): Result[] {
  const x = call.tensor(0);
  const high = maximum(x.max(), 0);
  const low = minimum(x.min(), 0);
  const range = high.sub(low);
  // Of zeros alone any scale will do.
  const scale = range.div(255);
  const zero = low.neg().div(scale).nanToNum({ nan: 0 }).clamp(0, 255).round();
  const values = x.div(scale).nanToNum({ nan: 0 }).round().add(zero);
  return [saturated(values, 'uint8'), as('float32', scale), saturated(zero, 'uint8')];
}

/** Products of integers of 8 bits: so many of them have an exact sum in float32. */
const EXACT_TERMS = 256;

/** An integer tensor less its zero point, in a float in which sums of `terms` products are exact. */
function centred(x: Tensor, zero: Tensor | null, terms: number): Tensor {
  const dtype = terms <= EXACT_TERMS ? 'float32' : 'float64';
  const wide = x.to(dtype);
  return zero === null ? wide : wide.sub(zero.to(dtype));
}

/** Zero points of a matrix: one, one for each row of the first factor or column of the second. */
function matrixZero(zero: Tensor | null, x: Tensor, rows: boolean): Tensor | null {
  if (zero === null || zero.size === 1) return zero?.reshape([]) ?? null;
  if (zero.ndim === 1) return rows ? zero.unsqueeze(-1) : zero;
  if (zero.ndim !== x.ndim) {
    throw new ShapeError(`zero points ${formatShape(zero.shape)} for ${formatShape(x.shape)}`);
  }
  return zero;
}

/** The exact product of (a - aZero) and (b - bZero), as a float. */
function integerProduct(call: Call, [a, aZero, b, bZero]: readonly number[]): Tensor {
  const [left, right] = [call.tensor(a ?? 0), call.tensor(b ?? 1)];
  const terms = left.shape.at(-1) ?? 1;
  const first = centred(left, matrixZero(call.optional(aZero ?? -1), left, true), terms);
  const second = centred(right, matrixZero(call.optional(bZero ?? -1), right, false), terms);
  return first.matmul(second);
}

/** A float of an exact sum, scaled, rounded and shifted into the quantized range. */
function requantized(sum: Tensor, scale: Tensor, zero: Tensor, type: ElementType): TensorValue {
  return saturated(sum.mul(scale).round().add(zero.to(sum.dtype)), type);
}

function quantizedProduct(call: Call): TensorValue {
  const sum = integerProduct(call, [0, 2, 3, 5]);
  const scaleOf = (index: number, rows: boolean): Tensor => {
    const scale = call.tensor(index).float();
    return matrixZero(scale, call.tensor(rows ? 0 : 3), rows) ?? scale;
  };
  const scale = scaleOf(1, true).mul(scaleOf(4, false)).div(call.tensor(6).float());
  return requantized(sum, scale, call.tensor(7), call.type(7));
}

/** One number for all, or one for each output channel, of the weight [out, ..]. */
function perOutput(value: Tensor | null, rank: number): Tensor | null {
  if (value === null || value.size === 1) return value?.reshape([]) ?? null;
  return value.reshape([-1, ...new Array<number>(rank - 1).fill(1)]);
}

function integerConvolution(
  call: Call<ConvolutionAttributes>,
  [x, w, xZero, wZero]: readonly [number, number, number, number],
): Tensor {
  const weight = call.tensor(w);
  const terms = weight.shape.slice(1).reduce((a, b) => a * b, 1);
  const zero = call.optional(xZero);
  const input = centred(call.tensor(x), zero === null ? null : zero.reshape([]), terms);
  const kernel = centred(weight, perOutput(call.optional(wZero), weight.ndim), terms);
  // Padding is done after the shift: its zeros stand for the zero point.
  return convolve(input, kernel, null, call.attributes);
}

function quantizedConvolution(call: Call<ConvolutionAttributes>): TensorValue {
  let sum = integerConvolution(call, [0, 3, 2, 5]);
  const space = sum.ndim - 2;
  const bias = call.optional(8);
  if (bias !== null) sum = sum.add(alongChannels(bias.to(sum.dtype), space));
  const given = call.tensor(4).float();
  const weightScale = given.size === 1 ? given.reshape([]) : alongChannels(given, space);
  const scale = call
    .tensor(1)
    .float()
    .reshape([])
    .mul(weightScale)
    .div(call.tensor(6).float().reshape([]));
  return requantized(sum, scale, call.tensor(7).reshape([]), call.type(7));
}

const CONVOLUTION = { ...WINDOW_ATTRIBUTES, ...GROUP };
const SETTINGS = [1, 2];

export const quantization: readonly Operator[] = [
  defineOperator({
    name: 'QuantizeLinear',
    since: 10,
    inputs: [2, 3],
    attributes: {
      axis: int(1),
      block_size: int(0),
      output_dtype: elementType(),
      precision: elementType(),
      saturate: flag(true),
    },
    constants: SETTINGS,
    run: quantize,
  }),
  defineOperator({
    name: 'DequantizeLinear',
    since: 10,
    inputs: [2, 3],
    attributes: { axis: int(1), block_size: int(0), output_dtype: elementType() },
    constants: SETTINGS,
    run: dequantize,
  }),
  defineOperator({
    name: 'DynamicQuantizeLinear',
    since: 11,
    inputs: 1,
    outputs: 3,
    run: quantizeDynamically,
  }),
  defineOperator({
    name: 'MatMulInteger',
    since: 10,
    inputs: [2, 4],
    run: (call) => as('int32', integerProduct(call, [0, 2, 1, 3])),
  }),
  defineOperator({
    name: 'QLinearMatMul',
    since: 10,
    inputs: 8,
    constants: [1, 4, 6],
    run: quantizedProduct,
  }),
  defineOperator({
    name: 'ConvInteger',
    since: 10,
    inputs: [2, 4],
    attributes: CONVOLUTION,
    run: (call) => as('int32', integerConvolution(call, [0, 1, 2, 3])),
  }),
  defineOperator({
    name: 'QLinearConv',
    since: 10,
    inputs: [8, 9],
    attributes: { ...CONVOLUTION, pads: ints() },
    constants: [1, 4, 6],
    run: quantizedConvolution,
  }),
];
