// The float8 and float4 formats of ONNX: bits to values, and values to bits, rounded to nearest even.
import type { ElementType } from './tensor-data.ts';

interface SmallFloat {
  readonly exponentBits: number;
  readonly fractionBits: number;
  readonly bias: number;
  /** ieee: the top exponent is infinity and NaN; fn: only all ones is NaN; uz: NaN is minus zero; finite: none. */
  readonly special: 'ieee' | 'fn' | 'uz' | 'finite';
}

const FORMATS = {
  float8e4m3fn: { exponentBits: 4, fractionBits: 3, bias: 7, special: 'fn' },
  float8e4m3fnuz: { exponentBits: 4, fractionBits: 3, bias: 8, special: 'uz' },
  float8e5m2: { exponentBits: 5, fractionBits: 2, bias: 15, special: 'ieee' },
  float8e5m2fnuz: { exponentBits: 5, fractionBits: 2, bias: 16, special: 'uz' },
  float4e2m1: { exponentBits: 2, fractionBits: 1, bias: 1, special: 'finite' },
} as const satisfies Partial<Record<ElementType, SmallFloat>>;

/** Element types of 4 or 8 bits that are floats. */
export type Float8 = keyof typeof FORMATS | 'float8e8m0';

/** True for the floats of 4 and 8 bits. */
export function isFloat8(type: ElementType): type is Float8 {
  return type in FORMATS || type === 'float8e8m0';
}

/** Bits of the format, without the sign. */
function magnitudeBits({ exponentBits, fractionBits }: SmallFloat): number {
  return exponentBits + fractionBits;
}

/** The value of the bits of a small float. */
export function fromFloat8Bits(type: Float8, bits: number): number {
  if (type === 'float8e8m0') return bits === 255 ? NaN : 2 ** (bits - 127);
  const format: SmallFloat = FORMATS[type];
  const width = magnitudeBits(format);
  const sign = (bits >> width) & 1 ? -1 : 1;
  const magnitude = bits & ((1 << width) - 1);
  if (format.special === 'uz' && sign < 0 && magnitude === 0) return NaN;
  if (format.special === 'fn' && magnitude === (1 << width) - 1) return NaN;
  const exponent = magnitude >> format.fractionBits;
  const fraction = magnitude & ((1 << format.fractionBits) - 1);
  if (format.special === 'ieee' && exponent === (1 << format.exponentBits) - 1) {
    return fraction === 0 ? sign * Infinity : NaN;
  }
  const unit = 2 ** -format.fractionBits;
  if (exponent === 0) return sign * fraction * unit * 2 ** (1 - format.bias);
  return sign * (1 + fraction * unit) * 2 ** (exponent - format.bias);
}

/** The largest magnitude that is a number. */
function largestBits(format: SmallFloat): number {
  const all = (1 << magnitudeBits(format)) - 1;
  if (format.special === 'fn') return all - 1;
  if (format.special === 'ieee') return all - (1 << format.fractionBits);
  return all;
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest > 0.5 ? floor + 1 : floor;
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * The bits of a number, rounded to nearest even. What is too large becomes the largest number if
 * `saturate`, else infinity or NaN, as the format has it.
 */
export function toFloat8Bits(type: Float8, value: number, saturate = true): number {
  if (type === 'float8e8m0') return toPowerBits(value);
  const format: SmallFloat = FORMATS[type];
  const width = magnitudeBits(format);
  const negative = value < 0 || Object.is(value, -0);
  const sign = negative ? 1 << width : 0;
  if (Number.isNaN(value)) return nanBits(format, sign);
  const largest = largestBits(format);
  const absolute = Math.abs(value);
  let bits: number;
  if (absolute === Infinity) bits = largest + 1;
  else {
    const lowest = 1 - format.bias;
    const exponent = absolute === 0 ? lowest : Math.max(lowest, Math.floor(Math.log2(absolute)));
    const steps = roundHalfEven(absolute * 2 ** (format.fractionBits - exponent));
    // A carry of the fraction moves into the exponent by itself.
    bits = ((exponent - lowest) << format.fractionBits) + steps;
  }
  if (bits > largest) {
    const keeps = saturate || format.special === 'finite';
    if (!keeps || (absolute === Infinity && format.special === 'ieee' && !saturate)) {
      if (format.special === 'ieee') return sign | (largest + 1);
      return nanBits(format, sign);
    }
    bits = largest;
  }
  if (format.special === 'uz' && bits === 0) return 0;
  return sign | bits;
}

function nanBits(format: SmallFloat, sign: number): number {
  const width = magnitudeBits(format);
  if (format.special === 'uz') return 1 << width;
  // A format without NaN has nothing better.
  if (format.special === 'finite') return 0;
  return sign | ((1 << width) - 1);
}

/** float8e8m0: a power of two, no sign; rounded up where it lies between two. */
function toPowerBits(value: number): number {
  if (Number.isNaN(value)) return 255;
  const absolute = Math.abs(value);
  if (absolute === 0) return 0;
  return Math.min(254, Math.max(0, Math.ceil(Math.log2(absolute)) + 127));
}
