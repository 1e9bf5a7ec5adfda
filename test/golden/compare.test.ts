// The rule by which golden vectors are compared must not be laxer than it says.

import { describe, expect, test } from 'vitest';

import { compare } from '../../scripts/golden/compare.ts';
import type { HostTensor } from '../../scripts/golden/compare.ts';

const tolerance = { rtol: 1e-2, atol: 1e-3 };

function floats(values: readonly number[], shape: readonly number[] = [values.length]): HostTensor {
  return { dtype: 'float32', shape, data: Float64Array.from(values) };
}

function integers(values: readonly number[], dtype = 'int32'): HostTensor {
  return { dtype, shape: [values.length], data: Int32Array.from(values) };
}

describe('compare', () => {
  test('a value passes up to atol + rtol * |expected|', () => {
    expect(compare(floats([10.1]), floats([10]), tolerance).problem).toBeUndefined();
    expect(compare(floats([10.102]), floats([10]), tolerance).problem).toContain('1 of 1 values');
    expect(compare(floats([0.00099]), floats([0]), tolerance).maxRatio).toBeCloseTo(0.99, 6);
    expect(compare(floats([0.00101]), floats([0]), tolerance).problem).toBeDefined();
  });

  test('the worst value is named with its place', () => {
    const actual = floats([1, 2, 3, 4, 7, 6], [2, 3]);
    const { problem } = compare(actual, floats([1, 2, 3, 4, 5, 6], [2, 3]), tolerance);
    expect(problem).toContain('at [1,1]: 7, expected 5');
  });

  test('infinities must be equal and NaN must meet NaN', () => {
    const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
    expect(compare(floats([inf, -inf, nan]), floats([inf, -inf, nan]), tolerance).problem).toBe(
      undefined,
    );
    expect(compare(floats([-inf]), floats([inf]), tolerance).problem).toBeDefined();
    expect(compare(floats([1]), floats([nan]), tolerance).problem).toBeDefined();
    expect(compare(floats([nan]), floats([1]), tolerance).problem).toBeDefined();
    expect(compare(floats([3e38]), floats([inf]), tolerance).problem).toBeDefined();
  });

  test('integers must be equal, whatever the tolerance; their width may differ', () => {
    expect(compare(integers([1000]), integers([1000]), tolerance).problem).toBeUndefined();
    expect(compare(integers([1001]), integers([1000]), tolerance).problem).toContain('be equal');
    expect(compare(integers([3], 'uint8'), integers([3]), tolerance).problem).toBeUndefined();
  });

  test('shape and kind must agree', () => {
    expect(compare(floats([1]), integers([1]), tolerance).problem).toContain('dtype float32');
    expect(compare(integers([1], 'bool'), integers([1]), tolerance).problem).toContain('dtype');
    expect(compare(floats([1], [1, 1]), floats([1]), tolerance).problem).toContain('shape [1,1]');
    expect(compare(floats([], [0, 3]), floats([], [0, 3]), tolerance).problem).toBeUndefined();
  });
});
