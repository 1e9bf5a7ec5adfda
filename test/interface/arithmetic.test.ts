// Elementwise functions: promotion, weak numbers, broadcasting, edge values, errors.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { add, clamp, div, type DType, eq, mul, pow, tensor, where } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

describe('promotion follows PyTorch', () => {
  const of = (dtype: DType) => tensor([1, 0], { dtype });
  test.each([
    ['int32', 'float32', 'float32'],
    ['int8', 'uint8', 'int16'],
    ['bool', 'int8', 'int8'],
    ['float16', 'bfloat16', 'float32'],
    ['float32', 'float64', 'float64'],
    ['int32', 'int8', 'int32'],
  ] as const)('%s and %s give %s', (a, b, result) => {
    expect(add(of(a), of(b)).dtype).toBe(result);
    expect(add(of(b), of(a)).dtype).toBe(result);
  });

  test('numbers are weak', () => {
    expect(of('float16').mul(2).dtype).toBe('float16');
    expect(of('int8').add(1).dtype).toBe('int8');
    expect(of('int8').add(1.5).dtype).toBe('float32');
    expect(of('bool').add(1).dtype).toBe('int32');
    expect(of('float64').add(0.1).sub(0.1).dtype).toBe('float64');
    expect(add(1, of('float32')).dtype).toBe('float32');
    expect(() => add(1, 2)).toThrow('at least one operand must be a tensor');
    expect(() => add(of('float32'), [1] as never)).toThrow('wrap it with tensor()');
  });

  test('division is true, or rounds and stays whole', () => {
    const [a, b] = [ints([7, -7]), ints([2, 2])];
    expectValues(div(a, b), [3.5, -3.5]);
    expectValues(div(a, b, { roundingMode: 'floor' }), [3, -4]);
    expectValues(div(a, b, { roundingMode: 'trunc' }), [3, -3]);
    expect(div(a, b, { roundingMode: 'floor' }).dtype).toBe('int32');
    expectValues(a.remainder(b), [1, 1]);
    expectValues(a.fmod(b), [1, -1]);
    expectValues(a.floorDivide(b), [3, -4]);
    expectValues(tensor([5.5]).remainder(-2), [-0.5]);
  });
});

describe('operands', () => {
  test('broadcast', () => {
    expectValues(add(tensor([[1], [2]]), tensor([10, 20])), [
      [11, 21],
      [12, 22],
    ]);
    expectValues(mul(tensor(2), tensor([])), []);
    expect(() => add(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(
      'add: shapes [2] and [3] do not broadcast (2 vs 3 at axis -1)',
    );
  });

  test('devices must agree', () => {
    const here = tensor([1], { device: 'wasm' });
    const there = tensor([1], { device: 'interp' });
    expect(() => add(here, there)).toThrow(
      "operands are on wasm and interp. hint: move one of them with to('wasm')",
    );
    expectValues(here.add(there.to('wasm')), [2]);
    expectValues(there.add(1), [2]);
  });

  test('a scaled addition and its relatives', () => {
    const [a, b] = [tensor([1, 2]), tensor([3, 4])];
    expectValues(a.add(b, { alpha: 2 }), [7, 10]);
    expectValues(a.sub(b, { alpha: 2 }), [-5, -6]);
    expectValues(a.rsub(1), [0, -1]);
    expectValues(a.addcmul(a, b, { value: 0.5 }), [2.5, 6]);
    expectValues(a.addcdiv(b, a), [4, 4]);
    expectValues(a.lerp(b, 0.25), [1.5, 2.5]);
    expectValues(tensor([3]).hypot(4), [5]);
    expectValues(
      tensor([2e38])
        .hypot(tensor([2e38]))
        .div(1e38),
      [2 * Math.SQRT2],
    );
    expectValues(tensor([0]).hypot(0), [0]);
  });
});

describe('powers', () => {
  test('small whole exponents, roots, negative ones', () => {
    const x = tensor([2, -3]);
    expectValues(x.pow(0), [1, 1]);
    expectValues(x.pow(2), [4, 9]);
    expectValues(x.pow(3), [8, -27]);
    expectValues(x.pow(-1), [0.5, -1 / 3]);
    expectValues(tensor([4]).pow(0.5), [2]);
    expectValues(pow(2, tensor([3, 0.5])), [8, Math.SQRT2]);
    expectValues(tensor([-8]).pow(1 / 3), [NaN]);
    expectValues(ints([2, 3]).pow(2), [4, 9]);
    expect(ints([2]).pow(2).dtype).toBe('int32');
    expect(() => ints([2]).pow(-1)).toThrow('int32 to the negative power -1');
  });
});

describe('comparison, logic, choice', () => {
  test('comparisons give bool', () => {
    const x = tensor([1, NaN, 3]);
    expect(eq(x, 1).dtype).toBe('bool');
    expectValues(x.eq(x), [true, false, true]);
    expectValues(x.ne(1), [false, true, true]);
    expectValues(x.lt(2), [true, false, false]);
    expectValues(x.ge(3), [false, false, true]);
    expectValues(tg.isclose(tensor([1, 2]), tensor([1 + 1e-6, 2.1])), [true, false]);
    expectValues(x.isclose(x, { equalNaN: true }), [true, true, true]);
    expectValues(tensor([Infinity]).isclose(tensor([Infinity])), [true]);
    expectValues(tensor([1]).isclose(tensor([Infinity])), [false]);
  });

  test('logic and bits', () => {
    const [a, b] = [ints([5, 0]), ints([3, 0])];
    expectValues(a.logicalAnd(b), [true, false]);
    expectValues(a.logicalOr(false), [true, false]);
    expectValues(a.logicalXor(b), [false, false]);
    expectValues(a.logicalNot(), [false, true]);
    expectValues(a.bitwiseAnd(b), [1, 0]);
    expectValues(a.bitwiseOr(b), [7, 0]);
    expectValues(a.bitwiseXor(b), [6, 0]);
    expectValues(a.bitwiseNot(), [-6, -1]);
    expectValues(a.bitwiseLeftShift(1), [10, 0]);
    expectValues(ints([-8]).bitwiseRightShift(1), [-4]);
    expectValues(tensor([true, false]).bitwiseNot(), [false, true]);
    expect(() => tensor([1.5]).bitwiseNot()).toThrow('bitwiseNot');
  });

  test('choices', () => {
    const mask = tensor([true, false]);
    expectValues(where(mask, tensor([1, 2]), 0), [1, 0]);
    expectValues(where(mask, 1, 2), [1, 2]);
    expect(where(mask, true, false).dtype).toBe('bool');
    expectValues(tensor([1, 2]).maskedFill(mask, 9), [9, 2]);
    expectValues(clamp(tensor([-2, 0, 5, NaN]), -1, 3), [-1, 0, 3, NaN]);
    expectValues(clamp(tensor([-2, 5]), null, 3), [-2, 3]);
    expectValues(clamp(tensor([-2, 5]), 0), [0, 5]);
    expectValues(clamp(ints([-2, 5]), 0, 3), [0, 3]);
    expectValues(clamp(tensor([1, 5]), tensor([2, 2]), tensor([3, 3])), [2, 3]);
    expect(() => clamp(tensor([1]))).toThrow('give low, high or both');
  });
});

describe('one operand', () => {
  test('integers become floats where the result is not whole', () => {
    expect(ints([4]).sqrt().dtype).toBe('float32');
    expect(ints([4]).neg().dtype).toBe('int32');
    expectValues(ints([4]).exp().log(), [4]);
    expectValues(ints([-2]).abs(), [2]);
  });

  test('rounding', () => {
    expectValues(tensor([0.5, 1.5, 2.5, -0.5]).round(), [0, 2, 2, 0]);
    expectValues(tensor([1.255, -1234.5]).round({ decimals: 1 }), [1.3, -1234.5]);
    expectValues(tensor([1234]).round({ decimals: -2 }), [1200]);
    expectValues(tensor([1.75, -1.75]).frac(), [0.75, -0.75]);
    expectValues(
      tensor([-1.5])
        .floor()
        .add(tensor([-1.5]).ceil()),
      [-3],
    );
  });

  test('special values', () => {
    const x = tensor([NaN, Infinity, -Infinity, 1]);
    expectValues(x.isnan(), [true, false, false, false]);
    expectValues(x.isinf(), [false, true, true, false]);
    expectValues(x.isfinite(), [false, false, false, true]);
    expectValues(x.nanToNum({ posinf: 9, neginf: -9 }), [0, 9, -9, 1]);
    expectValues(ints([1]).isfinite(), [true]);
    expectValues(tensor([0.5]).logit(), [0]);
    expectValues(tensor([2]).logit({ eps: 0.25 }), [Math.log(3)]);
    expect(() => tensor([0.5]).logit({ eps: 0.7 })).toThrow('eps must be a number in [0, 0.5]');
    expectValues(tensor([0, 2]).xlogy(tensor([0, 1])), [0, 0]);
    expectValues(tensor([1000]).logaddexp(1000), [1000 + Math.LN2]);
    expectValues(tensor([-Infinity]).logaddexp(-Infinity), [-Infinity]);
  });
});
