// The element types of ONNX, and the values of a TensorProto as arrays in host memory and back.
import type { TypedArray } from '../../base/dtype.ts';
import { FormatError } from '../../base/errors.ts';
import { type Shape, formatShape } from '../../base/shape.ts';
import type { Draft, TensorProto } from './messages.ts';
import { EXTERNAL } from './messages.ts';

/** How many bits an element takes in `rawData`, and which array holds the elements on the host. */
interface ElementInfo {
  /** `TensorProto.DataType`. */
  readonly code: number;
  readonly bits: number;
  readonly array: ArrayName;
  /** The list that holds the values of a tensor without `rawData`. */
  readonly field: 'floatData' | 'int32Data' | 'int64Data' | 'doubleData' | 'uint64Data' | 'none';
}

const CONSTRUCTORS = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const;

type ArrayName = keyof typeof CONSTRUCTORS;

/**
 * Halves, float8 and float4 are held as their bits; elements of 2 and 4 bits one per byte; a complex number
 * is two floats after each other.
 */
export const ELEMENT_TYPES = {
  float32: { code: 1, bits: 32, array: 'float32', field: 'floatData' },
  uint8: { code: 2, bits: 8, array: 'uint8', field: 'int32Data' },
  int8: { code: 3, bits: 8, array: 'int8', field: 'int32Data' },
  uint16: { code: 4, bits: 16, array: 'uint16', field: 'int32Data' },
  int16: { code: 5, bits: 16, array: 'int16', field: 'int32Data' },
  int32: { code: 6, bits: 32, array: 'int32', field: 'int32Data' },
  int64: { code: 7, bits: 64, array: 'int64', field: 'int64Data' },
  string: { code: 8, bits: 0, array: 'uint8', field: 'none' },
  bool: { code: 9, bits: 8, array: 'uint8', field: 'int32Data' },
  float16: { code: 10, bits: 16, array: 'uint16', field: 'int32Data' },
  float64: { code: 11, bits: 64, array: 'float64', field: 'doubleData' },
  uint32: { code: 12, bits: 32, array: 'uint32', field: 'uint64Data' },
  uint64: { code: 13, bits: 64, array: 'uint64', field: 'uint64Data' },
  complex64: { code: 14, bits: 64, array: 'float32', field: 'floatData' },
  complex128: { code: 15, bits: 128, array: 'float64', field: 'doubleData' },
  bfloat16: { code: 16, bits: 16, array: 'uint16', field: 'int32Data' },
  float8e4m3fn: { code: 17, bits: 8, array: 'uint8', field: 'int32Data' },
  float8e4m3fnuz: { code: 18, bits: 8, array: 'uint8', field: 'int32Data' },
  float8e5m2: { code: 19, bits: 8, array: 'uint8', field: 'int32Data' },
  float8e5m2fnuz: { code: 20, bits: 8, array: 'uint8', field: 'int32Data' },
  uint4: { code: 21, bits: 4, array: 'uint8', field: 'int32Data' },
  int4: { code: 22, bits: 4, array: 'int8', field: 'int32Data' },
  float4e2m1: { code: 23, bits: 4, array: 'uint8', field: 'int32Data' },
  float8e8m0: { code: 24, bits: 8, array: 'uint8', field: 'int32Data' },
  uint2: { code: 25, bits: 2, array: 'uint8', field: 'int32Data' },
  int2: { code: 26, bits: 2, array: 'int8', field: 'int32Data' },
} as const satisfies Record<string, ElementInfo>;

/** Name of an element type of ONNX, in the words of this framework: `float32` for FLOAT. */
export type ElementType = keyof typeof ELEMENT_TYPES;

/** The values of a tensor in host memory; strings as strings. */
export type ElementData = TypedArray | BigInt64Array | BigUint64Array | readonly string[];

/** A tensor as a file holds it. */
export interface ElementArray {
  readonly type: ElementType;
  readonly shape: Shape;
  readonly data: ElementData;
}

const BY_CODE: ReadonlyMap<number, ElementType> = new Map(
  Object.entries(ELEMENT_TYPES).map(([name, { code }]) => [code, name as ElementType]),
);

/** The element type of a `TensorProto.DataType`, or undefined for a code that is none. */
export function elementTypeOf(code: number | undefined): ElementType | undefined {
  return BY_CODE.get(code ?? 0);
}

/** The `TensorProto.DataType` of an element type. */
export function elementCode(type: ElementType): number {
  return ELEMENT_TYPES[type].code;
}

/** How many entries the host array of one element has: two for complex numbers. */
function entriesPerElement(type: ElementType): number {
  return type === 'complex64' || type === 'complex128' ? 2 : 1;
}

/** A new zeroed host array for `length` entries. */
function newArray(name: ArrayName, length: number): Exclude<ElementData, readonly string[]> {
  return new CONSTRUCTORS[name](length);
}

/** A zeroed host array for `count` elements of a type; strings are empty. */
export function newElements(type: ElementType, count: number): ElementData {
  if (type === 'string') return new Array<string>(count).fill('');
  return newArray(ELEMENT_TYPES[type].array, count * entriesPerElement(type));
}

/** Number of elements, or a FormatError for sizes that are no sizes. */
function countOf(name: string, dims: readonly number[]): number {
  let count = 1;
  for (const size of dims) {
    if (size < 0) throw new FormatError(`${name} has the shape ${formatShape(dims)}`);
    count *= size;
  }
  // A later size of 0 makes a product of any factors 0; one that is no safe integer fits no memory.
  if (!Number.isSafeInteger(count)) {
    throw new FormatError(`${name} of shape ${formatShape(dims)} is larger than any memory`);
  }
  return count;
}

/** Bytes of `count` elements as `rawData` stores them. */
export function rawByteLength(type: ElementType, count: number): number {
  return Math.ceil((count * ELEMENT_TYPES[type].bits) / 8);
}

/** Elements of 2 or 4 bits, several in a byte, the lowest first. */
function unpackSmall(
  bytes: Uint8Array,
  count: number,
  bits: 2 | 4,
  signed: boolean,
): Int8Array | Uint8Array {
  const data = signed ? new Int8Array(count) : new Uint8Array(count);
  const perByte = 8 / bits;
  const span = 1 << bits;
  for (let index = 0; index < count; index++) {
    const byte = bytes[Math.floor(index / perByte)] ?? 0;
    const value = (byte >> (bits * (index % perByte))) & (span - 1);
    data[index] = signed && value >= span / 2 ? value - span : value;
  }
  return data;
}

const isSigned = (type: ElementType): boolean => type === 'int4' || type === 'int2';

function fromRaw(type: ElementType, raw: Uint8Array, count: number): ElementData {
  const { bits, array } = ELEMENT_TYPES[type];
  if (bits === 4 || bits === 2) return unpackSmall(raw, count, bits, isSigned(type));
  // A copy of its own: aligned, and the file need not be kept.
  const { buffer } = new Uint8Array(raw);
  return new CONSTRUCTORS[array](buffer);
}

function fromField(
  name: string,
  type: ElementType,
  proto: TensorProto,
  count: number,
): ElementData {
  const { field, array, bits } = ELEMENT_TYPES[type];
  const list = field === 'none' ? [] : proto[field];
  const small = bits === 2 || bits === 4;
  const packed = small && list.length === rawByteLength(type, count);
  const entries = packed ? list.length : count * entriesPerElement(type);
  if (list.length !== entries) {
    throw new FormatError(
      `${name} of shape ${formatShape(proto.dims)} holds ${list.length} values of ${entries}`,
    );
  }
  if (small && packed) {
    return unpackSmall(Uint8Array.from(list, Number), count, bits, isSigned(type));
  }
  const data = newArray(array, list.length);
  const isBig = data instanceof BigInt64Array || data instanceof BigUint64Array;
  for (let index = 0; index < list.length; index++) {
    const value = list[index] ?? 0;
    if (isBig) data[index] = BigInt(value);
    else data[index] = Number(value);
  }
  return data;
}

/** What a message calls a tensor. */
function labelOf(proto: TensorProto): string {
  return proto.name === undefined || proto.name === '' ? 'a tensor' : `the tensor '${proto.name}'`;
}

/** Name, type, shape and number of elements of a tensor; FormatError for what is none. */
export function describeTensor(proto: TensorProto): {
  readonly label: string;
  readonly type: ElementType;
  readonly count: number;
} {
  const label = labelOf(proto);
  const type = elementTypeOf(proto.dataType);
  if (type === undefined) {
    throw new FormatError(`${label} has the unknown element type ${proto.dataType ?? 0}`);
  }
  if (proto.segment !== undefined) {
    throw new FormatError(`${label} is stored in segments, which are not supported`);
  }
  return { label, type, count: countOf(label, proto.dims) };
}

/**
 * The values of a tensor, in memory of their own. `external` are the bytes of one that is stored in
 * another file.
 *
 * @throws FormatError if type, shape and the number of values do not fit each other.
 */
export function decodeTensor(proto: TensorProto, external?: Uint8Array): ElementArray {
  const { label, type, count } = describeTensor(proto);
  const shape = [...proto.dims];
  if (type === 'string') return { type, shape, data: decodeStrings(label, proto, count) };
  if (proto.dataLocation === EXTERNAL && external === undefined) {
    throw new FormatError(`${label} is stored in another file, which is not at hand here`);
  }
  const raw = external ?? proto.rawData;
  if (raw === undefined || (raw.length === 0 && count > 0 && external === undefined)) {
    return { type, shape, data: fromField(label, type, proto, count) };
  }
  const wanted = rawByteLength(type, count);
  if (raw.length !== wanted) {
    const of = `${label}, ${type} of shape ${formatShape(shape)},`;
    throw new FormatError(`${of} takes ${wanted} bytes, ${raw.length} are there`);
  }
  return { type, shape, data: fromRaw(type, raw, count) };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decodeStrings(label: string, proto: TensorProto, count: number): string[] {
  if (proto.stringData.length !== count) {
    throw new FormatError(`${label} holds ${proto.stringData.length} strings of ${count}`);
  }
  return proto.stringData.map((bytes) => {
    try {
      return utf8.decode(bytes);
    } catch {
      throw new FormatError(`${label} holds a string that is not UTF-8`);
    }
  });
}

function packSmall(data: ArrayLike<number>, bits: 2 | 4): Uint8Array {
  const perByte = 8 / bits;
  const bytes = new Uint8Array(Math.ceil(data.length / perByte));
  for (let index = 0; index < data.length; index++) {
    const at = Math.floor(index / perByte);
    const value = (data[index] ?? 0) & ((1 << bits) - 1);
    bytes[at] = (bytes[at] ?? 0) | (value << (bits * (index % perByte)));
  }
  return bytes;
}

/** A TensorProto of the values of `array`; its bytes are those of `array`, not a copy. */
export function encodeTensor(array: ElementArray, name?: string): Draft<TensorProto> {
  const { type, shape, data } = array;
  const head: Draft<TensorProto> = { name, dims: shape, dataType: elementCode(type) };
  const expected = countOf(name ?? 'a tensor', shape) * entriesPerElement(type);
  if (data.length !== expected) {
    throw new FormatError(`${data.length} values do not fill a tensor of ${formatShape(shape)}`);
  }
  if (Array.isArray(data)) {
    const encoder = new TextEncoder();
    return { ...head, stringData: data.map((text: string) => encoder.encode(text)) };
  }
  const typed = data as Exclude<ElementData, readonly string[]>;
  const { bits } = ELEMENT_TYPES[type];
  if (bits === 4 || bits === 2) {
    return { ...head, rawData: packSmall(typed as ArrayLike<number>, bits) };
  }
  const rawData = new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
  return { ...head, rawData };
}
