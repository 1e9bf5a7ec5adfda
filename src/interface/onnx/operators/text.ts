// Numbers as text and text as numbers, as Cast has it.
import { FormatError } from '../../../base/errors.ts';
import {
  fromBfloat16Bits,
  fromFloat16Bits,
  toBfloat16Bits,
  toFloat16Bits,
} from '../../../base/dtype.ts';
import type { ElementType } from '../tensor-data.ts';

/** How a type rounds a number. */
function rounding(type: ElementType): (value: number) => number {
  if (type === 'float32') return Math.fround;
  if (type === 'float16') return (value) => fromFloat16Bits(toFloat16Bits(value));
  if (type === 'bfloat16') return (value) => fromBfloat16Bits(toBfloat16Bits(value));
  return (value) => value;
}

/** The shortest text that reads as the same number of its type. */
export function formatNumber(value: number, type: ElementType): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'INF' : '-INF';
  if (type === 'bool') return value === 0 ? '0' : '1';
  if (!type.startsWith('float') && type !== 'bfloat16') return String(value);
  const round = rounding(type);
  let digits = 1;
  while (digits < 17 && round(Number(value.toPrecision(digits))) !== value) digits++;
  return String(Number(value.toPrecision(digits)));
}

/** The number that a text stands for. Throws FormatError for any other text. */
export function parseNumber(text: string): number {
  const trimmed = text.trim();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)) return Number(trimmed);
  if (/^[+-]?(inf|infinity)$/i.test(trimmed)) return trimmed.startsWith('-') ? -Infinity : Infinity;
  if (/^[+-]?nan$/i.test(trimmed)) return NaN;
  throw new FormatError(`'${text.slice(0, 40)}' is no number`);
}
