// What flows between the nodes of a model: tensors that know their ONNX type and, where possible, their
// values on the host; and sequences of them.
import {
  type DType,
  type TypedArray,
  fromBfloat16Bits,
  fromFloat16Bits,
  toBfloat16Bits,
  toFloat16Bits,
} from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import { fromBytes } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/index.ts';
import { fromFloat8Bits, isFloat8, toFloat8Bits } from './float8.ts';
import type { ElementArray, ElementData, ElementType } from './tensor-data.ts';

/**
 * The dtype in which elements of a type are computed: 64-bit integers as 32, unsigned 16 as signed 32,
 * those of 2 and 4 bits as 8, and the float8 as float32 that has been rounded.
 */
const COMPUTED: Readonly<Record<ElementType, DType | null>> = {
  float32: 'float32',
  float64: 'float64',
  float16: 'float16',
  bfloat16: 'bfloat16',
  int8: 'int8',
  uint8: 'uint8',
  int16: 'int16',
  uint16: 'int32',
  int32: 'int32',
  uint32: 'uint32',
  int64: 'int32',
  uint64: 'uint32',
  bool: 'bool',
  int4: 'int8',
  uint4: 'uint8',
  int2: 'int8',
  uint2: 'uint8',
  float8e4m3fn: 'float32',
  float8e4m3fnuz: 'float32',
  float8e5m2: 'float32',
  float8e5m2fnuz: 'float32',
  float8e8m0: 'float32',
  float4e2m1: 'float32',
  string: null,
  complex64: null,
  complex128: null,
};

/** The dtype in which `type` is computed. Throws DTypeError for strings and complex numbers. */
export function computedAs(type: ElementType): DType {
  const dtype = COMPUTED[type];
  if (dtype === null) throw new DTypeError(`no tensor can hold elements of type ${type}`);
  return dtype;
}

/** True for the types whose arithmetic rounds. */
export function isFloatType(type: ElementType): boolean {
  return type.startsWith('float') || type === 'bfloat16';
}

/** True for the types that are held as bigint on the host. */
export function isWideInteger(type: ElementType): boolean {
  return type === 'int64' || type === 'uint64';
}

/** The values of an array as numbers; halves and float8 decoded. Not for strings. */
export function decodeValues({ type, data }: ElementArray): ArrayLike<number> {
  if (Array.isArray(data)) throw new DTypeError('text where numbers are expected');
  const typed = data as Exclude<ElementData, readonly string[]>;
  if (typed instanceof BigInt64Array || typed instanceof BigUint64Array) {
    return Array.from(typed, Number);
  }
  if (type === 'float16') return Float32Array.from(typed, fromFloat16Bits);
  if (type === 'bfloat16') return Float32Array.from(typed, fromBfloat16Bits);
  if (isFloat8(type)) return Float32Array.from(typed, (bits) => fromFloat8Bits(type, bits));
  return typed;
}

/** Numbers as the host array of a type: the inverse of decodeValues. */
export function encodeValues(
  type: ElementType,
  shape: Shape,
  values: ArrayLike<number>,
  saturate = true,
): ElementArray {
  const of = (data: ElementData): ElementArray => ({ type, shape, data });
  if (type === 'int64') return of(BigInt64Array.from(Array.from(values, wideOf)));
  if (type === 'uint64') return of(BigUint64Array.from(Array.from(values, wideOf)));
  if (type === 'float16') return of(Uint16Array.from(values, toFloat16Bits));
  if (type === 'bfloat16') return of(Uint16Array.from(values, toBfloat16Bits));
  if (isFloat8(type))
    return of(Uint8Array.from(values, (value) => toFloat8Bits(type, value, saturate)));
  return of(typedArrayOf(type, values));
}

function wideOf(value: number): bigint {
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

function typedArrayOf(type: ElementType, values: ArrayLike<number>): TypedArray {
  switch (type) {
    case 'float32':
      return Float32Array.from(values);
    case 'float64':
      return Float64Array.from(values);
    case 'int8':
      return Int8Array.from(values);
    case 'int4':
      return Int8Array.from(values, (value) => (value << 28) >> 28);
    case 'int2':
      return Int8Array.from(values, (value) => (value << 30) >> 30);
    case 'uint8':
      return Uint8Array.from(values);
    case 'uint4':
      return Uint8Array.from(values, (value) => value & 15);
    case 'uint2':
      return Uint8Array.from(values, (value) => value & 3);
    case 'bool':
      return Uint8Array.from(values, (value) => (value === 0 ? 0 : 1));
    case 'int16':
      return Int16Array.from(values);
    case 'uint16':
      return Uint16Array.from(values);
    case 'int32':
      return Int32Array.from(values);
    case 'uint32':
      return Uint32Array.from(values);
    default:
      throw new DTypeError(`no tensor can hold elements of type ${type}`);
  }
}

function narrow(data: BigInt64Array | BigUint64Array, low: bigint, high: bigint): void {
  for (const value of data) {
    if (value >= low && value <= high) continue;
    throw new DTypeError(`the 64-bit integer ${value} does not fit 32 bits`, {
      hint: 'tensors hold integers of up to 32 bits; shapes and indices are exact on the host',
    });
  }
}

/** The bytes of a tensor with the values of `array`. Shares its memory where nothing is converted. */
function tensorBytes({ type, data }: ElementArray): Uint8Array {
  let typed: TypedArray;
  if (data instanceof BigInt64Array) {
    narrow(data, -(2n ** 31n), 2n ** 31n - 1n);
    typed = Int32Array.from(data, Number);
  } else if (data instanceof BigUint64Array) {
    narrow(data, 0n, 2n ** 32n - 1n);
    typed = Uint32Array.from(data, Number);
  } else if (type === 'uint16') typed = Int32Array.from(data as Uint16Array);
  else if (isFloat8(type)) {
    typed = Float32Array.from(data as Uint8Array, (bits) => fromFloat8Bits(type, bits));
  } else typed = data as TypedArray;
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

/** A tensor of a model. */
export class TensorValue {
  readonly kind = 'tensor';
  readonly type: ElementType;
  readonly shape: Shape;
  #array: ElementArray | null;
  #tensor: Tensor | null;

  private constructor(
    type: ElementType,
    shape: Shape,
    array: ElementArray | null,
    tensor: Tensor | null,
  ) {
    this.type = type;
    this.shape = shape;
    this.#array = array;
    this.#tensor = tensor;
  }

  /** A value whose elements are known on the host. */
  static ofArray(array: ElementArray): TensorValue {
    return new TensorValue(array.type, array.shape, array, null);
  }

  /** A value that is computed; cast to the dtype in which `type` is computed. */
  static ofTensor(tensor: Tensor, type: ElementType): TensorValue {
    const dtype = computedAs(type);
    const cast = tensor.dtype === dtype ? tensor : tensor.to(dtype);
    return new TensorValue(type, cast.shape, null, cast);
  }

  /** Integers on the host, as int64 or what else is said. */
  static ofNumbers(
    values: ArrayLike<number>,
    shape: Shape = [values.length],
    type: ElementType = 'int64',
  ): TensorValue {
    return TensorValue.ofArray(encodeValues(type, shape, values));
  }

  get rank(): number {
    return this.shape.length;
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** The elements if they are known without waiting for a device. */
  get known(): ElementArray | null {
    return this.#array;
  }

  /** The value as a tensor; made once, so that every run names the same memory. */
  get tensor(): Tensor {
    if (this.#tensor === null) {
      const dtype = computedAs(this.type);
      const bytes = tensorBytes(this.#array as ElementArray);
      this.#tensor = fromBytes(bytes, this.shape, dtype, { persistent: true });
    }
    return this.#tensor;
  }

  /** The elements, computed and read from the device if need be. */
  read(): ElementArray {
    if (this.#array === null) {
      const { type, shape } = this;
      const data = (this.#tensor as Tensor).dataSync();
      // Halves are read as bits, which is how they are held.
      this.#array =
        type === 'float16' || type === 'bfloat16'
          ? { type, shape, data }
          : encodeValues(type, shape, data);
    }
    return this.#array;
  }

  /** The elements as numbers: sizes, axes, indices. */
  numbers(): number[] {
    return Array.from(decodeValues(this.read()));
  }
}

/** A list of values. */
export class SequenceValue {
  readonly kind = 'sequence';
  readonly items: readonly Value[];
  /** Type of the elements of its tensors, which an empty one has too. */
  readonly type: ElementType;
  constructor(items: readonly Value[], type: ElementType) {
    this.items = items;
    this.type = type;
  }
}

/** An optional value that may be empty. */
export class OptionalValue {
  readonly kind = 'optional';
  readonly value: Value | null;
  constructor(value: Value | null) {
    this.value = value;
  }
}

export type Value = TensorValue | SequenceValue | OptionalValue;
