// Fixtures that scripts/golden/format_fixtures.py wrote, and what they hold.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { fromBfloat16Bits, fromFloat16Bits } from '../../src/base/dtype.ts';
import type { TypedHostArray } from '../../src/interface/io/host-array.ts';

export interface ExpectedArray {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: readonly (number | boolean | string)[];
}

export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
}

export function readFixture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(fixturePath(name)));
}

export function readExpected(name: string): Map<string, ExpectedArray> {
  const parsed = JSON.parse(readFileSync(fixturePath(name), 'utf8')) as object;
  return new Map(Object.entries(parsed) as [string, ExpectedArray][]);
}

/** The values, halves decoded. */
export function numbersOf({ data, dtype }: TypedHostArray): number[] {
  if (dtype === 'float16') return Array.from(data, fromFloat16Bits);
  if (dtype === 'bfloat16') return Array.from(data, fromBfloat16Bits);
  return Array.from(data);
}

const NARROWED: Readonly<Record<string, string>> = {
  int64: 'int32',
  uint64: 'uint32',
  uint16: 'int32',
};

/** Checks dtype, shape and every value, bit for bit. */
export function expectArray(array: TypedHostArray, expected: ExpectedArray): void {
  expect(array.dtype).toBe(NARROWED[expected.dtype] ?? expected.dtype);
  expect(array.shape).toEqual(expected.shape);
  // Infinities and NaN are written as Python does.
  const values = expected.values.map((v) =>
    v === 'inf' ? Infinity : v === '-inf' ? -Infinity : Number(v),
  );
  expect(numbersOf(array)).toEqual(values);
}
