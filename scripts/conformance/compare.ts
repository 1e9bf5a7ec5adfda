// Whether a result agrees with what the test expects: type, shape and elements.
import { formatShape, sameShape } from '../../src/base/shape.ts';
import type { ElementArray } from '../../src/interface/onnx/tensor-data.ts';
import {
  type Value,
  decodeValues,
  isFloatType,
  isWideInteger,
} from '../../src/interface/onnx/values.ts';
import type { ExpectedValue } from './folder.ts';

/** The tolerances of ONNX's own runner. */
const RELATIVE = 1e-3;
const ABSOLUTE = 1e-7;

/** What differs, or null if nothing does. */
export function difference(
  name: string,
  got: Value | null,
  expected: ExpectedValue,
  isFourier = false,
): string | null {
  if (expected.kind === 'empty')
    return got === null || isEmpty(got) ? null : `${name} is not empty`;
  if (got === null) return `${name} is missing`;
  if (got.kind === 'optional') {
    return got.value === null
      ? `${name} is empty`
      : difference(name, got.value, expected, isFourier);
  }
  if (expected.kind === 'sequence') {
    if (got.kind !== 'sequence') return `${name} is no sequence`;
    if (got.items.length !== expected.items.length) {
      return `${name} has ${got.items.length} items, expected ${expected.items.length}`;
    }
    for (const [index, item] of expected.items.entries()) {
      const problem = difference(`${name}[${index}]`, got.items[index] ?? null, item, isFourier);
      if (problem !== null) return problem;
    }
    return null;
  }
  if (got.kind !== 'tensor') return `${name} is a ${got.kind}, expected a tensor`;
  return arrayDifference(name, got.read(), expected.array, isFourier);
}

const isEmpty = (value: Value): boolean => value.kind === 'optional' && value.value === null;

function arrayDifference(
  name: string,
  got: ElementArray,
  expected: ElementArray,
  isFourier: boolean,
): string | null {
  if (got.type !== expected.type) return `${name} is ${got.type}, expected ${expected.type}`;
  if (!sameShape(got.shape, expected.shape)) {
    return `${name} is ${formatShape(got.shape)}, expected ${formatShape(expected.shape)}`;
  }
  const exact = expected.type === 'string' || isWideInteger(expected.type);
  const [a, b] = exact ? [got.data, expected.data] : [decodeValues(got), decodeValues(expected)];
  const absolute =
    isFourier && expected.type === 'float32' ? fourierTolerance(b as ArrayLike<number>) : ABSOLUTE;
  for (let index = 0; index < b.length; index++) {
    const [x, y] = [a[index], b[index]];
    if (x === y || agrees(expected, Number(x), Number(y), absolute)) continue;
    return `${name}[${index}] is ${String(x)}, expected ${String(y)}`;
  }
  return null;
}

/**
 * Halves have fewer digits than the tolerance asks for: two units in the last place of float16 and
 * bfloat16. The vectors round after every step, and those of releases before 1.13 cut float32 off to
 * bfloat16 where others round.
 */
const RELATIVE_OF: Readonly<Record<string, number>> = { float16: 2 ** -9, bfloat16: 2 ** -6 };

/**
 * Vectors of Fourier transforms that numpy 2 made in float32 hold the rounding of their sums: 1.9e-7
 * where zero is meant, beside values of 54. So one float32 unit in the last place of the largest value
 * is allowed there, and nowhere else.
 */
function fourierTolerance(values: ArrayLike<number>): number {
  let largest = 0;
  for (let index = 0; index < values.length; index++) {
    const magnitude = Math.abs(Number(values[index]));
    if (Number.isFinite(magnitude)) largest = Math.max(largest, magnitude);
  }
  return Math.max(ABSOLUTE, 2 ** -23 * largest);
}

function agrees({ type }: ElementArray, x: number, y: number, absolute: number): boolean {
  if (!isFloatType(type)) return false;
  if (Number.isNaN(y)) return Number.isNaN(x);
  const relative = RELATIVE_OF[type] ?? RELATIVE;
  return Math.abs(x - y) <= absolute + relative * Math.abs(y);
}
