// Tensors out of nothing or of another type: constants, ranges, random numbers, casts.
import { ArgumentError, FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sizeOf } from '../../../base/shape.ts';
import * as T from '../../tensor/index.ts';
import { Generator, type Tensor } from '../../tensor/index.ts';
import {
  elementType,
  flag,
  float,
  floats,
  ignored,
  int,
  ints,
  required,
  sparseAttribute,
  tensorAttribute,
  text,
  texts,
} from '../attributes.ts';
import { type Call, HOST_LIMIT, type Operator, defineOperator } from '../operator.ts';
import { tensorProto } from '../messages.ts';
import {
  ELEMENT_TYPES,
  type ElementArray,
  type ElementType,
  decodeTensor,
  elementCode,
  encodeTensor,
} from '../tensor-data.ts';
import { isFloat8 } from '../float8.ts';
import { TensorValue, computedAs, decodeValues, encodeValues, isFloatType } from '../values.ts';
import { formatNumber, parseNumber } from './text.ts';
import { as } from './results.ts';

interface ConstantAttributes {
  readonly value: ElementArray | undefined;
  readonly sparse_value: ElementArray | undefined;
  readonly value_float: number | undefined;
  readonly value_floats: readonly number[] | undefined;
  readonly value_int: number | undefined;
  readonly value_ints: readonly number[] | undefined;
  readonly value_string: string | undefined;
  readonly value_strings: readonly string[] | undefined;
}

/** A node's constant is made once: every run names the same memory. */
const constants = new WeakMap<object, TensorValue>();

function constant({ attributes }: Call<ConstantAttributes>): TensorValue {
  const known = constants.get(attributes);
  if (known !== undefined) return known;
  const made = TensorValue.ofArray(constantArray(attributes));
  constants.set(attributes, made);
  return made;
}

function constantArray(attributes: ConstantAttributes): ElementArray {
  const { value, value_float: one, value_floats: many } = attributes;
  const whole = value ?? attributes.sparse_value;
  if (whole !== undefined) return whole;
  if (one !== undefined) return encodeValues('float32', [], [one]);
  if (many !== undefined) return encodeValues('float32', [many.length], many);
  const { value_int: integer, value_ints: integers } = attributes;
  if (integer !== undefined) return encodeValues('int64', [], [integer]);
  if (integers !== undefined) return encodeValues('int64', [integers.length], integers);
  const { value_string: line, value_strings: lines } = attributes;
  if (line !== undefined) return { type: 'string', shape: [], data: [line] };
  if (lines !== undefined) return { type: 'string', shape: [lines.length], data: lines };
  throw new FormatError('a constant without a value');
}

function constantOfShape(call: Call<{ value: ElementArray | undefined }>): TensorValue {
  const shape = call.numbers(0);
  if (shape.some((size) => size < 0)) throw new ShapeError(`${formatShape(shape)} is no shape`);
  const array = call.attributes.value ?? encodeValues('float32', [1], [0]);
  const [value = 0] = Array.from(decodeValues(array));
  if (sizeOf(shape) <= HOST_LIMIT && !isFloatType(array.type)) {
    return TensorValue.ofNumbers(new Array<number>(sizeOf(shape)).fill(value), shape, array.type);
  }
  return as(array.type, T.full(shape, value, { dtype: computedAs(array.type) }));
}

/** Elements of Range: as many as fit between its ends. */
function range(call: Call): TensorValue {
  const type = call.type(0);
  const [start, limit, delta] = [call.number(0), call.number(1), call.number(2)];
  if (delta === 0) throw new ArgumentError('a range with step 0');
  const count = Math.max(0, Math.ceil((limit - start) / delta));
  if (!Number.isFinite(count)) throw new ArgumentError(`a range from ${start} to ${limit}`);
  if (count <= HOST_LIMIT) {
    const values = Float64Array.from({ length: count }, (_, i) => start + i * delta);
    return TensorValue.ofNumbers(values, [count], type);
  }
  const dtype = computedAs(type);
  return as(type, T.arange(count).to(dtype).mul(delta).add(start));
}

/** Casts on the host, exactly; text too. */
function castHost(array: ElementArray, type: ElementType, saturate: boolean): ElementArray {
  const { shape, data } = array;
  if (type === array.type) return array;
  if (array.type === 'string') {
    return encodeValues(type, shape, (data as readonly string[]).map(parseNumber));
  }
  if (type === 'string') {
    const values = decodeValues(array);
    const isWide = data instanceof BigInt64Array || data instanceof BigUint64Array;
    const texts = Array.from(values, (value, i) =>
      isWide ? String(data[i]) : formatNumber(value, array.type),
    );
    return { type, shape, data: texts };
  }
  if (data instanceof BigInt64Array && type === 'uint64') {
    return { type, shape, data: BigUint64Array.from(data) };
  }
  if (data instanceof BigUint64Array && type === 'int64') {
    return { type, shape, data: BigInt64Array.from(data) };
  }
  return encodeValues(type, shape, decodeValues(array), saturate);
}

/** Types that are rounded on the host, as the framework has no dtype for them. */
function needsHost(type: ElementType): boolean {
  return type === 'string' || isFloat8(type) || /^u?int[24]$/.test(type);
}

export function castValue(value: TensorValue, type: ElementType, saturate = true): TensorValue {
  if (value.type === type) return value;
  const small = value.known !== null && value.size <= HOST_LIMIT;
  if (small || needsHost(type) || value.type === 'string') {
    return TensorValue.ofArray(castHost(value.read(), type, saturate));
  }
  const dtype = computedAs(type);
  if (type === 'uint16') return as(type, value.tensor.to('int32').bitwiseAnd(0xffff));
  return as(type, value.tensor.to(dtype));
}

/** The same bits as another type of the same size; on the host. */
function bitCast(value: TensorValue, type: ElementType): TensorValue {
  const { data, shape } = value.read();
  const bits = (of: ElementType): number => ELEMENT_TYPES[of].bits;
  if (Array.isArray(data) || type === 'string' || bits(type) !== bits(value.type)) {
    throw new FormatError(`the bits of ${value.type} are none of ${type}`);
  }
  const raw = encodeTensor(value.read()).rawData ?? new Uint8Array(0);
  const proto = tensorProto.decode(
    tensorProto.encode({ dims: shape, dataType: elementCode(type), rawData: raw }),
  );
  return TensorValue.ofArray(decodeTensor(proto));
}

/** The generator of a node: of its own if it has a seed. */
function generatorOf(seed: number | undefined): { generator?: Generator } {
  // The seed is a float of 32 bits; its bits are the seed of ours.
  if (seed === undefined) return {};
  return { generator: new Generator(new Uint32Array(Float32Array.of(seed).buffer)[0] ?? 0) };
}

function random(
  name: string,
  standard: readonly [number, number],
  draw: (
    shape: readonly number[],
    a: number,
    b: number,
    options: { generator?: Generator },
  ) => Tensor,
): Operator[] {
  const names = name === 'RandomNormal' ? (['mean', 'scale'] as const) : (['low', 'high'] as const);
  const attributes = {
    [names[0]]: float(standard[0]),
    [names[1]]: float(standard[1]),
    seed: float(),
  };
  const make = (
    given: Readonly<Record<string, number | undefined>>,
    shape: readonly number[],
  ): Tensor => {
    const [a = 0, b = 1] = [given[names[0]], given[names[1]]];
    return draw(shape, a, b, generatorOf(given['seed']));
  };
  const numbersOf = (call: Call): Readonly<Record<string, number | undefined>> =>
    call.attributes as Readonly<Record<string, number | undefined>>;
  return [
    defineOperator({
      name,
      since: 1,
      inputs: 0,
      attributes: { ...attributes, dtype: elementType('float32'), shape: required(ints()) },
      run: (call) => as(call.attributes.dtype, make(numbersOf(call), call.attributes.shape)),
    }),
    defineOperator({
      name: `${name}Like`,
      since: 1,
      inputs: 1,
      attributes: { ...attributes, dtype: elementType() },
      run: (call) =>
        as(call.attributes.dtype ?? call.type(0), make(numbersOf(call), call.shape(0))),
    }),
  ];
}

/** Indices drawn from rows of unnormalized log probabilities. */
function multinomial(
  call: Call<{ dtype: ElementType; sample_size: number; seed: number | undefined }>,
): TensorValue {
  const { dtype, sample_size: count, seed } = call.attributes;
  const logits = call.tensor(0).float();
  const [rows = 0, classes = 0] = logits.shape;
  // The largest of logits with Gumbel noise is distributed as the classes are.
  const noise = T.uniform(1e-20, 1, [rows, count, classes], generatorOf(seed))
    .log()
    .neg()
    .log()
    .neg();
  return as(dtype, logits.unsqueeze(1).add(noise).argmax(2));
}

export const creation: readonly Operator[] = [
  defineOperator({
    name: 'Constant',
    since: 1,
    inputs: 0,
    attributes: {
      value: tensorAttribute(),
      sparse_value: sparseAttribute(),
      value_float: float(),
      value_floats: floats(),
      value_int: int(),
      value_ints: ints(),
      value_string: text(),
      value_strings: texts(),
    },
    run: constant,
  }),
  defineOperator({
    name: 'ConstantOfShape',
    since: 9,
    inputs: 1,
    attributes: { value: tensorAttribute() },
    run: constantOfShape,
  }),
  defineOperator({
    name: 'Range',
    since: 11,
    inputs: 3,
    attributes: { stash_type: ignored() },
    run: range,
  }),
  defineOperator({
    name: 'Cast',
    since: 6,
    inputs: 1,
    attributes: { to: required(elementType()), saturate: flag(true), round_mode: ignored() },
    run: (call) => castValue(call.value(0), call.attributes.to, call.attributes.saturate),
  }),
  defineOperator({
    name: 'CastLike',
    since: 15,
    inputs: 2,
    attributes: { saturate: flag(true), round_mode: ignored() },
    run: (call) => castValue(call.value(0), call.type(1), call.attributes.saturate),
  }),
  defineOperator({
    name: 'BitCast',
    since: 26,
    inputs: 1,
    attributes: { to: required(elementType()) },
    run: (call) => bitCast(call.value(0), call.attributes.to),
  }),
  defineOperator({
    name: 'EyeLike',
    since: 9,
    inputs: 1,
    attributes: { dtype: elementType(), k: int(0) },
    run: (call) => {
      const [rows, columns] = call.shape(0);
      if (rows === undefined || columns === undefined || call.value(0).rank !== 2) {
        throw new ShapeError(`expected a matrix, got ${formatShape(call.shape(0))}`);
      }
      const { dtype, k } = call.attributes;
      const diagonal = T.arange(rows).add(k).reshape([rows, 1]).eq(T.arange(columns));
      return as(dtype ?? call.type(0), diagonal.to(computedAs(dtype ?? call.type(0))));
    },
  }),
  ...random('RandomNormal', [0, 1], (shape, mean, std, options) =>
    T.normal(mean, std, shape, options),
  ),
  ...random('RandomUniform', [0, 1], (shape, low, high, options) =>
    T.uniform(low, high, shape, options),
  ),
  defineOperator({
    name: 'Bernoulli',
    since: 15,
    inputs: 1,
    attributes: { dtype: elementType(), seed: float() },
    run: (call) =>
      as(
        call.attributes.dtype ?? call.type(0),
        T.bernoulli(call.tensor(0), generatorOf(call.attributes.seed)),
      ),
  }),
  defineOperator({
    name: 'Multinomial',
    since: 7,
    inputs: 1,
    attributes: { dtype: elementType('int32'), sample_size: int(1), seed: float() },
    run: multinomial,
  }),
];
