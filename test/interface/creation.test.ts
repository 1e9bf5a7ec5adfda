// Tensors from host data and by rule: shapes, dtypes, and what is refused.
import { describe, expect, test } from 'vitest';
import {
  arange,
  eye,
  full,
  fullLike,
  linspace,
  ones,
  onesLike,
  ShapeError,
  tensor,
  zeros,
  zerosLike,
} from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

describe('from host data', () => {
  test('numbers are float32, booleans bool, typed arrays what they are', () => {
    expect(tensor([1, 2]).dtype).toBe('float32');
    expect(tensor([true, false]).dtype).toBe('bool');
    expect(tensor([true, 2]).dtype).toBe('float32');
    expect(tensor(true).dtype).toBe('bool');
    expect(tensor(new Float64Array(2)).dtype).toBe('float64');
    expect(tensor(new Int8Array(2)).dtype).toBe('int8');
    expect(tensor(new Uint8Array(2), { dtype: 'bool' }).dtype).toBe('bool');
    expect(tensor([new Int16Array([1, 2]), new Int16Array([3, 4])]).dtype).toBe('int16');
    expect(tensor([]).shape).toEqual([0]);
    expect(tensor([[], []]).shape).toEqual([2, 0]);
    expect(tensor(3).shape).toEqual([]);
  });

  test('values arrive in row-major order, copied', () => {
    const source = new Float32Array([1, 2, 3, 4, 5, 6]);
    const x = tensor(source, { shape: [2, 3] });
    source.fill(0);
    expectValues(x, [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expectValues(tensor([[[1], [2]]]), [[[1], [2]]]);
    expectValues(tensor([2, 0], { dtype: 'bool' }), [true, false]);
  });

  test('halves are encoded and decoded', () => {
    expectValues(tensor([1.5, -65504, 1e-8], { dtype: 'float16' }), [1.5, -65504, 0]);
    expectValues(
      tensor([1.5, 2 ** 120], { dtype: 'bfloat16' })
        .float()
        .div(2),
      [0.75, 2 ** 119],
    );
    const bits = tensor(new Uint16Array([0x3c00]), { dtype: 'float16' });
    expectValues(bits, [1]);
  });

  test('ragged rows are refused with their place', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(ShapeError);
    expect(() => tensor([[1, 2], [3]])).toThrow('1 element(s) where 2 were expected at data[1]');
    expect(() => tensor([[1], 2])).toThrow('a number where a row was expected at data[1]');
    expect(() => tensor([1, [2]])).toThrow('a row where a number was expected at data[1]');
    expect(() => tensor([[[1]], [[1, 2]]])).toThrow('data[1][0]');
  });

  test('values that do not fit are refused', () => {
    expect(() => tensor([300], { dtype: 'uint8' })).toThrow('300 does not fit uint8');
    expect(() => tensor([NaN], { dtype: 'int32' })).toThrow('does not fit int32');
    expect(() => tensor(new Uint16Array(2))).toThrow("give dtype: 'float16' or 'bfloat16'");
    expect(() => tensor(new Float32Array(5), { shape: [2, 3] })).toThrow('do not fill [2,3]');
    expect(() => tensor(['1' as never])).toThrow("data[0] is '1', not a number");
    expect(() => tensor([tensor(1) as never])).toThrow('use stack()');
    expect(() => tensor([1], { dtype: 'int64' as never })).toThrow("there is no dtype 'int64'");
    expect(() => tensor([1], { device: 'abacus' })).toThrow("there is no device 'abacus'");
    expect(() => tensor([1], { dtype: 'int32', requiresGrad: true })).toThrow('only floats');
  });
});

describe('by rule', () => {
  test('constants', () => {
    expectValues(zeros(2, 2), [
      [0, 0],
      [0, 0],
    ]);
    expectValues(ones([2], { dtype: 'int32' }), [1, 1]);
    expect(ones([2], { dtype: 'int32' }).dtype).toBe('int32');
    expectValues(full([2], 2.5), [2.5, 2.5]);
    expect(full([1], true).dtype).toBe('bool');
    const like = ints([[1, 2]]);
    for (const [made, value] of [
      [zerosLike(like), 0],
      [onesLike(like), 1],
      [fullLike(like, 7), 7],
    ] as const) {
      expect(made.dtype).toBe('int32');
      expectValues(made, [[value, value]]);
    }
    expect(zeros([]).shape).toEqual([]);
    expect(() => zeros(-1)).toThrow('sizes must be non-negative integers');
    expect(() => zeros(1.5)).toThrow('expected integers');
  });

  test('ramps', () => {
    expectValues(arange(4), [0, 1, 2, 3]);
    expect(arange(4).dtype).toBe('int32');
    expectValues(arange(5, 0, -2), [5, 3, 1]);
    expectValues(arange(0, 1, 0.25), [0, 0.25, 0.5, 0.75]);
    expectValues(arange(3, 3), []);
    expectValues(arange(2, { dtype: 'float32' }), [0, 1]);
    expect(() => arange(0, 5, -1)).toThrow('does not lead from 0 to 5');
    expect(() => arange(0, 5, 0)).toThrow('the step not 0');
    expectValues(linspace(0, 1, 5), [0, 0.25, 0.5, 0.75, 1]);
    expectValues(linspace(3, 3, 1), [3]);
    expectValues(linspace(1, -1, 3), [1, 0, -1]);
    expect(() => linspace(0, 1, -1)).toThrow('at least 0');
  });

  test('eye', () => {
    expectValues(eye(2, 3), [
      [1, 0, 0],
      [0, 1, 0],
    ]);
    expect(eye(0).shape).toEqual([0, 0]);
  });
});
