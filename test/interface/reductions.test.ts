// Reductions: axes, keepdims, ties, empty axes, moments, norms.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { grad, ShapeError, tensor, type Tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

const x = (): Tensor =>
  tensor([
    [1, 5, 3],
    [4, 2, 6],
  ]);

describe('sums and means', () => {
  test('all axes, one, several, negative, kept', () => {
    expectValues(x().sum(), 21);
    expectValues(x().sum(0), [5, 7, 9]);
    expectValues(x().sum(-1, { keepdims: true }), [[9], [12]]);
    expectValues(x().sum([0, 1]), 21);
    expectValues(x().sum([]), [
      [1, 5, 3],
      [4, 2, 6],
    ]);
    expectValues(x().mean(1), [3, 4]);
    expectValues(x().prod(), 720);
    expectValues(ints([1, 2]).mean(), 1.5);
    expect(ints([1, 2]).sum().dtype).toBe('int32');
    expectValues(tensor([true, true]).sum(), 2);
    expectValues(tensor([100, 100], { dtype: 'int8' }).sum(), 200);
    expectValues(x().gt(2).countNonzero(1), [2, 2]);
    expect(() => x().sum(2)).toThrow('sum: axis 2 is out of range for 2 dimension(s)');
    expect(() => x().sum([0, -2])).toThrow('axis appears twice');
  });

  test('of nothing', () => {
    expectValues(zeros([0]).sum(), 0);
    expectValues(zeros([0]).prod(), 1);
    expectValues(zeros([2, 0]).mean(1), [NaN, NaN]);
    expectValues(zeros([0]).all(), true);
    expectValues(zeros([0]).any(), false);
    expect(() => zeros([2, 0]).amax(1)).toThrow(ShapeError);
  });
});

describe('extremes', () => {
  test('values, positions, ties', () => {
    expectValues(x().max(), 6);
    const { values, indices } = x().max(1);
    expectValues(values, [5, 6]);
    expectValues(indices, [1, 2]);
    expect(indices.dtype).toBe('int32');
    expect(x().min(0, { keepdims: true }).values.shape).toEqual([1, 3]);
    expectValues(x().argmax(), 5);
    expectValues(x().argmin(1), [0, 1]);
    expectValues(tensor([1, NaN, 2]).amax(), NaN);
    expectValues(tensor([2, 2]).argmax(), 0);
  });

  test('amax shares the gradient of a tie, max(axis) gives it to the first', () => {
    const tied = tensor([3, 3, 1]);
    expectValues(grad((t: Tensor) => t.amax())(tied), [0.5, 0.5, 0]);
    expectValues(grad((t: Tensor) => t.max(0).values)(tied), [1, 0, 0]);
  });
});

describe('moments and norms', () => {
  test('variance and deviation', () => {
    expectValues(x().var(1), [4, 4]);
    expectValues(x().var(1, { correction: 0 }), [8 / 3, 8 / 3]);
    expectValues(x().std(), Math.sqrt(3.5));
    const [variance, mean] = tg.varMean(x(), 0, { keepdims: true });
    expectValues(variance, [[4.5, 4.5, 4.5]]);
    expectValues(mean, [[2.5, 3.5, 4.5]]);
    expectValues(tg.stdMean(x())[0], Math.sqrt(3.5));
    expectValues(tensor([1]).var(), NaN);
    // A large mean must not eat up the variance.
    expectValues(tensor([10000, 10001, 10002]).var(), 1);
  });

  test('norms', () => {
    const v = tensor([3, -4]);
    expectValues(v.norm(), 5);
    expectValues(v.norm(1), 7);
    expectValues(v.norm(Infinity), 4);
    expectValues(v.norm(-Infinity), 3);
    expectValues(v.norm(0), 2);
    expectValues(v.norm(3), 91 ** (1 / 3));
    expectValues(x().norm('fro', [0, 1]), Math.sqrt(91));
    expectValues(grad((t: Tensor) => t.norm())(zeros([2])), [0, 0]);
    expect(() => ints([1]).norm()).toThrow('norm: takes floats, not int32');
  });

  test('logsumexp stays finite', () => {
    expectValues(tensor([1000, 1000]).logsumexp(), 1000 + Math.LN2);
    expectValues(tensor([-Infinity, -Infinity]).logsumexp(), -Infinity);
    expectValues(tensor([Infinity, 1]).logsumexp(), Infinity);
    expectValues(grad((t: Tensor) => t.logsumexp())(tensor([0, 0])), [0.5, 0.5]);
  });

  test('logic', () => {
    const flags = tensor([
      [true, false],
      [true, true],
    ]);
    expectValues(flags.all(1), [false, true]);
    expectValues(flags.any(0), [true, true]);
    expectValues(tensor([0, 0.5]).any(), true);
  });
});
