// The element types of tensors: sizes, typed arrays, promotion (PyTorch's rules).

export const DTYPES = [
  'float32',
  'float16',
  'bfloat16',
  'float64',
  'int8',
  'uint8',
  'int16',
  'int32',
  'uint32',
  'bool',
] as const;

/** Element type of a tensor. `int64` exists in files only and is narrowed on reading. */
export type DType = (typeof DTYPES)[number];

/** The host arrays a tensor's bytes are seen through. Halves are read and written as raw bits. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array;

interface DTypeInfo {
  readonly bytes: number;
  readonly category: 'bool' | 'integer' | 'float';
  /** Position in the promotion order within a category. */
  readonly rank: number;
}

const INFO: Readonly<Record<DType, DTypeInfo>> = {
  bool: { bytes: 1, category: 'bool', rank: 0 },
  uint8: { bytes: 1, category: 'integer', rank: 0 },
  int8: { bytes: 1, category: 'integer', rank: 1 },
  int16: { bytes: 2, category: 'integer', rank: 2 },
  int32: { bytes: 4, category: 'integer', rank: 3 },
  uint32: { bytes: 4, category: 'integer', rank: 4 },
  float16: { bytes: 2, category: 'float', rank: 0 },
  bfloat16: { bytes: 2, category: 'float', rank: 1 },
  float32: { bytes: 4, category: 'float', rank: 2 },
  float64: { bytes: 8, category: 'float', rank: 3 },
};

/** Number that stands for a dtype in plan keys. */
export const dtypeIndex: Readonly<Record<DType, number>> = Object.fromEntries(
  DTYPES.map((dtype, index) => [dtype, index]),
) as Record<DType, number>;

/** Bytes of one element. */
export function byteSize(dtype: DType): number {
  return INFO[dtype].bytes;
}

export function isFloat(dtype: DType): boolean {
  return INFO[dtype].category === 'float';
}

export function isInteger(dtype: DType): boolean {
  return INFO[dtype].category === 'integer';
}

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && value in INFO;
}

/** The dtype of arithmetic between two tensors, by PyTorch's promotion table. */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  const infoA = INFO[a];
  const infoB = INFO[b];
  if (infoA.category !== infoB.category) {
    const order = { bool: 0, integer: 1, float: 2 } as const;
    return order[infoA.category] > order[infoB.category] ? a : b;
  }
  // Neither of the two signs, or of the two halves, holds the other: take the next wider type.
  if ((a === 'uint8' && b === 'int8') || (a === 'int8' && b === 'uint8')) return 'int16';
  if ((a === 'float16' && b === 'bfloat16') || (a === 'bfloat16' && b === 'float16')) {
    return 'float32';
  }
  return infoA.rank > infoB.rank ? a : b;
}

/** The dtype of arithmetic between a tensor and a JS number: the number is weak. */
export function promoteWithNumber(dtype: DType, value: number | boolean): DType {
  if (typeof value === 'boolean' || isFloat(dtype)) return dtype;
  if (!Number.isInteger(value)) return 'float32';
  return dtype === 'bool' ? 'int32' : dtype;
}

/** A new zeroed host array for `length` elements of `dtype`. */
export function newTypedArray(dtype: DType, length: number): TypedArray {
  return viewTypedArray(dtype, new ArrayBuffer(length * byteSize(dtype)), 0, length);
}

/** A host view on bytes; `byteOffset` must be a multiple of the element size. */
export function viewTypedArray(
  dtype: DType,
  buffer: ArrayBufferLike,
  byteOffset: number,
  length: number,
): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(buffer, byteOffset, length);
    case 'float64':
      return new Float64Array(buffer, byteOffset, length);
    case 'float16':
    case 'bfloat16':
      return new Uint16Array(buffer, byteOffset, length);
    case 'int8':
      return new Int8Array(buffer, byteOffset, length);
    case 'uint8':
    case 'bool':
      return new Uint8Array(buffer, byteOffset, length);
    case 'int16':
      return new Int16Array(buffer, byteOffset, length);
    case 'int32':
      return new Int32Array(buffer, byteOffset, length);
    case 'uint32':
      return new Uint32Array(buffer, byteOffset, length);
    default:
      dtype satisfies never;
      throw new Error('internal: unknown dtype');
  }
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);

/** The bits of `value` as bfloat16, rounded to nearest even. */
export function toBfloat16Bits(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0] ?? 0;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value of bfloat16 bits. */
export function fromBfloat16Bits(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratchFloat[0] ?? 0;
}

/** The bits of `value` as IEEE binary16, rounded to nearest even. */
export function toFloat16Bits(value: number): number {
  scratchFloat[0] = value;
  const bits = scratchBits[0] ?? 0;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal halves: scaling by 2^24 in float64 is exact, so one rounding remains.
    const scaled = Math.abs(value) * 16777216;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    const up = rest > 0.5 || (rest === 0.5 && (floor & 1) === 1);
    return sign | (floor + (up ? 1 : 0));
  }
  const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1);
  return sign | (rounded >>> 13);
}

/** The value of IEEE binary16 bits. */
export function fromFloat16Bits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
