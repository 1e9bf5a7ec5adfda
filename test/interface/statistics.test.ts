// Quantiles, uniques, histograms, covariances and integrals against PyTorch's values.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { grad, tensor, type Tensor, zeros } from 'tengen';
import { expectClose, f64 } from '../linalg/support.ts';
import { ints } from './support.ts';

const x = (): Tensor =>
  f64([
    [3, 1, 2, 5],
    [4, 4, 0, -1],
    [2, 9, 7, 2],
  ]);
const withNaN = (): Tensor =>
  f64([
    [3, NaN, 2, 5],
    [4, 4, 0, -1],
    [NaN, NaN, NaN, NaN],
  ]);
const h = (): Tensor => f64([0, 0.5, 1, 1, 2.5, 4, 4.1, -1]);

describe('quantiles', () => {
  test('each interpolation', () => {
    const expected = {
      linear: [
        [1.3, -0.7, 2],
        [2.5, 2, 4.5],
        [3.8, 4, 7.8],
      ],
      lower: [
        [1, -1, 2],
        [2, 0, 2],
        [3, 4, 7],
      ],
      higher: [
        [2, 0, 2],
        [3, 4, 7],
        [5, 4, 9],
      ],
      midpoint: [
        [1.5, -0.5, 2],
        [2.5, 2, 4.5],
        [4, 4, 8],
      ],
      nearest: [
        [1, -1, 2],
        [3, 4, 7],
        [3, 4, 7],
      ],
    } as const;
    for (const [name, values] of Object.entries(expected)) {
      const interpolation = name as keyof typeof expected;
      expectClose(tg.quantile(x(), [0.1, 0.5, 0.8], 1, { interpolation }), values);
    }
    expectClose(tg.quantile(x(), 0.3), 2);
    expectClose(tg.quantile(x(), f64([0, 1]), 0, { keepdims: true }), [
      [[2, 1, 0, -1]],
      [[4, 9, 7, 5]],
    ]);
  });

  test('NaN poisons, or is left out', () => {
    expectClose(tg.quantile(withNaN(), 0.5, 1), [NaN, 2, NaN]);
    expectClose(tg.nanquantile(withNaN(), 0.4, 1), [2.8, 0.8, NaN]);
    expectClose(tg.nanmedian(withNaN()), 3);
    expectClose(tg.nanmean(withNaN(), 1), [3.3333333, 1.75, NaN]);
    expectClose(tg.nansum(withNaN(), 0), [7, 4, 2, 4]);
    expectClose(tg.nansum(ints([1, 2])), 3);
    const slope = grad((y: Tensor) => tg.nanquantile(y, 0.4, 1).narrow(0, 0, 2).sum());
    expectClose(slope(withNaN()), [
      [0.8, 0, 0.2, 0],
      [0.2, 0, 0.8, 0],
      [0, 0, 0, 0],
    ]);
  });

  test('errors', () => {
    expect(() => tg.quantile(x(), 1.5)).toThrow('q must lie between 0 and 1, got 1.5');
    expect(() => tg.quantile(zeros(0), 0.5)).toThrow('no elements');
    expect(() => tg.quantile(x(), 0.5, 2)).toThrow('quantile');
    expect(() => tg.quantile(x(), 0.5, 0, { interpolation: 'cubic' as 'linear' })).toThrow(
      'interpolation must be one of',
    );
  });
});

describe('order', () => {
  test('mode, msort, aminmax, renorm', () => {
    const found = tg.mode(
      f64([
        [3, 1, 3, 1, 2],
        [5, 5, 4, 4, 4],
      ]),
    );
    expectClose(found.values, [1, 4]);
    expectClose(found.indices, [3, 4]);
    expectClose(tg.mode(tensor(7)).values, 7);
    expectClose(tg.mode(ints([[1], [1], [2]]), 0, { keepdims: true }).values, [[1]]);
    expectClose(tg.msort(x()).select(0, 0), [2, 1, 0, -1]);
    expectClose(tg.aminmax(x(), 1).max, [5, 4, 9]);
    expectClose(tg.renorm(x(), 1, 1, 6), [
      [2, 0.42857143, 1.3333333, 3.75],
      [2.6666666, 1.7142857, 0, -0.74999999],
      [1.3333333, 3.8571428, 4.6666666, 1.5],
    ]);
    expect(() => tg.mode(zeros(2, 0))).toThrow('no elements');
    expect(() => tg.renorm(x(), 0, 0, 1)).toThrow('p must be positive');
  });

  test('unique', () => {
    const found = tg.unique(
      f64([
        [2, NaN],
        [1, 2],
        [NaN, 1],
      ]),
    );
    expectClose(found.values, [1, 2, NaN]);
    expectClose(found.inverse, [
      [1, 2],
      [0, 1],
      [2, 0],
    ]);
    expectClose(found.counts, [2, 2, 2]);
    const rows = tg.unique(
      f64([
        [1, 2],
        [0, 5],
        [1, 2],
      ]),
      { axis: 0 },
    );
    expectClose(rows.values, [
      [0, 5],
      [1, 2],
    ]);
    expectClose(rows.inverse, [1, 0, 1]);
    expectClose(
      tg.unique(
        f64([
          [2, 1, 2],
          [3, 0, 3],
        ]),
        { axis: 1 },
      ).values,
      [
        [1, 2],
        [0, 3],
      ],
    );
    expectClose(tg.unique(tensor([true, false, true])).values, [false, true]);
    expect(tg.unique(zeros(0)).values.shape).toEqual([0]);
    expect(tg.unique(zeros(0)).counts.shape).toEqual([0]);
    const runs = tg.uniqueConsecutive(ints([1, 1, 2, 1]));
    expectClose(runs.values, [1, 2, 1]);
    expectClose(runs.counts, [2, 1, 1]);
    // The gradient flows to the first of each.
    expectClose(
      grad((y: Tensor) =>
        tg
          .unique(y)
          .values.mul(f64([1, 10]))
          .sum(),
      )(f64([3, 1, 3])),
      [10, 1, 0],
    );
    expect(() => tg.unique(x(), { axis: 2 })).toThrow('unique');
  });

  test('isin, with few and with many candidates', () => {
    expectClose(tg.isin(ints([1, 2, 3]), ints([3, 1])), [true, false, true]);
    expectClose(tg.isin(ints([1, 2, 3]), ints([3]), { invert: true }), [true, true, false]);
    const many = tg.arange(0, 100, 2);
    expectClose(
      tg.isin(
        ints([
          [0, 1],
          [98, 99],
        ]),
        many,
      ),
      [
        [true, false],
        [true, false],
      ],
    );
    expectClose(tg.isin(ints([1]), ints([])), [false]);
  });
});

describe('histograms', () => {
  test('as PyTorch', () => {
    expectClose(tg.histc(h(), 5, 0, 4), [2, 2, 0, 1, 1]);
    expectClose(tg.histc(h(), 4), [2, 3, 1, 2]);
    expectClose(tg.histc(f64([2, 2]), 2), [0, 2]);
    expectClose(tg.histc(f64([NaN, 1]), 2, 0, 2), [0, 1]);
    expectClose(tg.histogram(h(), f64([0, 1, 4])).hist, [2, 4]);
    const weighted = tg.histogram(h(), 3, {
      range: [0, 3],
      weight: tg.arange(8),
      density: true,
    });
    expectClose(weighted.hist, [0.1, 0.5, 0.4]);
    expectClose(weighted.binEdges, [0, 1, 2, 3]);
    expectClose(tg.histc(zeros(0), 2, 0, 1), [0, 0]);
    expectClose(tg.bucketize(f64([0, 1, 1.5, 9]), f64([1, 2, 3]), { right: true }), [0, 1, 1, 3]);
    expectClose(tg.bucketize(2, f64([1, 2, 3])), 1);
  });

  test('errors', () => {
    expect(() => tg.histc(h(), 0)).toThrow('bins');
    expect(() => tg.histc(h(), 2, 3, 1)).toThrow('the range [3, 1] is empty');
    expect(() => tg.histogram(h(), f64([1]))).toThrow('two or more');
    expect(() => tg.histogram(h(), 2, { weight: zeros(3) })).toThrow('weights [3] for 8 elements');
    expect(() => tg.bucketize(h(), zeros(2, 2))).toThrow('boundaries must be a vector');
  });
});

describe('covariance and integrals', () => {
  test('as PyTorch', () => {
    expectClose(tg.cov(x()), [
      [2.9166667, -2.75, -5.3333333],
      [-2.75, 6.9166667, 2.3333333],
      [-5.3333333, 2.3333333, 12.666667],
    ]);
    const weighted = tg.cov(x(), { fweights: ints([1, 2, 1, 3]), aweights: f64([0.5, 1, 0.2, 2]) });
    expectClose(weighted.select(0, 0), [3.5716612, -4.47557, -6.014658]);
    expectClose(tg.cov(f64([1, 2, 4])), 2.3333333);
    expectClose(tg.corrcoef(x()).select(0, 0), [1, -0.61226703, -0.8774536]);
    expectClose(
      grad((y: Tensor) => tg.cov(y).square().sum())(x()).select(0, 0),
      [14.055556, -43.5, -10.722222, 40.166667],
    );
    const places = f64([0, 1, 3, 3.5]);
    expectClose(tg.cumulativeTrapezoid(x(), places), [
      [2, 5, 6.75],
      [4, 8, 7.75],
      [5.5, 21.5, 23.75],
    ]);
    expectClose(tg.trapezoid(x(), undefined, { dx: 0.5, axis: 0 }), [3.25, 4.5, 2.25, 1.25]);
    expectClose(tg.trapezoid(x(), x()), tg.trapezoid(x(), x(), { axis: 1 }).arraySync());
    expectClose(tg.trapezoid(zeros(0)), 0);
    expectClose(tg.trapezoid(f64([5])), 0);
    expect(() => tg.trapezoid(x(), zeros(3))).toThrow('do not fit');
    expect(() => tg.cov(zeros(2, 2, 2))).toThrow('takes a vector or');
  });
});
