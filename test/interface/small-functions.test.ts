// Small functions that are made of others, and draws from distributions; against PyTorch's values.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { F, full, Generator, manualSeed, tensor, zeros } from 'tengen';
import * as fft from 'tengen/fft';
import * as linalg from 'tengen/linalg';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';
import { ints } from './support.ts';

describe('elementwise', () => {
  test('extremes pass over NaN', () => {
    const [a, b] = [tensor([1, NaN, 3, Infinity]), tensor([2, 5, NaN, 1])];
    expectClose(tg.fmax(a, b), [2, 5, 3, Infinity]);
    expectClose(tg.fmin(a, b), [1, 5, 3, 1]);
    expectClose(tg.fmax(NaN, tensor([NaN])), [NaN]);
    expectClose(tg.fmax(ints([1, 4]), 2), [2, 4]);
    checkDifferences((x) => tg.fmax(x, f64([0.5, NaN, -2])).sum(), f64([1, 2, -3]));
  });

  test('infinities by their sign', () => {
    const x = tensor([Infinity, -Infinity, NaN, 1]);
    expect(tg.isposinf(x).arraySync()).toEqual([true, false, false, false]);
    expect(tg.isneginf(x).arraySync()).toEqual([false, true, false, false]);
    expect(tg.isposinf(ints([1])).arraySync()).toEqual([false]);
  });

  test('polygamma', () => {
    const x = f64([Math.fround(0.3), 1, 4, 12]);
    expectClose(tg.polygamma(0, f64([1])), [-0.5772156649]);
    expectClose(tg.polygamma(1, f64([1])), [Math.PI ** 2 / 6]);
    const second = [-75.27252772978655, -2.404113806319188, -0.0800397322451145];
    expectClose(tg.polygamma(2, x), [...second, -0.007547205368998914], 1e-10);
    const third = [743.1416468349348, 6.493939402266829, 0.04486532819275508];
    expectClose(tg.polygamma(3, x), [...third, 0.001310093231070826], 1e-10);
    const fifth = [164634.8068519763, 122.08116743813383, 0.04155838463595437];
    expectClose(tg.polygamma(5, x), [...fifth, 0.00011820829051081487], 1e-10);
    expectClose(tg.polygamma(2, f64([0, -1.5, NaN])), [NaN, NaN, NaN]);
    checkDifferences((v) => tg.polygamma(2, v).sum(), f64([0.7, 3]));
    expect(() => tg.polygamma(-1, x)).toThrow('n must be an integer');
  });

  test('logarithm of the normal distribution function', () => {
    const x = f64([-50, -12, -6, -2, -0.5, 0, 1, 4]);
    const expected = [
      -1254.8313611394199,
      -75.41067300156881,
      -20.73676894997471,
      -3.7831843336820317,
      -1.1759117615936185,
      -Math.LN2,
      -0.17275377902344985,
      -3.1671743377489226e-5,
    ];
    expectClose(tg.logNdtr(x), expected, 1e-11);
    expectClose(tg.logNdtr(x.float()), expected, 2e-6);
    expectClose(tg.logNdtr(f64([Infinity, -Infinity, NaN])), [0, -Infinity, NaN]);
    checkDifferences((v) => tg.logNdtr(v).sum(), f64([-25, -5, -0.5, 2]));
  });
});

describe('products, distances and pieces', () => {
  test('inner, addr, addbmm', () => {
    expectClose(tg.inner(tensor(2), tensor([1, 3])), [2, 6]);
    expectClose(
      tg.addr(full([2, 3], 1), tensor([1, 2]), tensor([3, 4, 5]), { beta: 2, alpha: 0.5 }),
      [
        [3.5, 4, 4.5],
        [5, 6, 7],
      ],
    );
    const x = tg.arange(8).float().reshape([2, 2, 2]);
    expectClose(tg.addbmm(full([2, 2], 1), x, x, { beta: 2, alpha: 0.5 }), [
      [26, 31],
      [38, 47],
    ]);
    expect(() => tg.addr(zeros(2, 2), zeros(2, 2), zeros(2))).toThrow('takes vectors');
  });

  test('distances', () => {
    const x = f64([
      [1, 2],
      [4, 6],
      [0, 0],
      [1, 1],
    ]);
    expectClose(tg.pdist(x, 1), [7, 3, 1, 10, 8, 2]);
    const cubic = [4.497941493988037, 2.0800838470458984, 1, 6.54213285446167];
    expectClose(F.pdist(x, 3), [...cubic, 5.336803436279297, 1.2599210739135742], 1e-6);
    expect(tg.pdist(zeros(1, 3)).shape).toEqual([0]);
    checkDifferences((v) => tg.pdist(v).sum(), x);
    expectClose(tg.dist(f64([1, 5]), f64([4, 1])), 5);
    expect(() => tg.pdist(zeros(3))).toThrow('takes rows [n, size]');
  });

  test('diagonals', () => {
    expectClose(tg.diagflat(ints([[1, 2]]), 1), [
      [0, 1, 0],
      [0, 0, 2],
      [0, 0, 0],
    ]);
    const source = tensor([
      [1, 2],
      [3, 4],
    ]);
    const placed = tg.diagonalScatter(zeros(2, 3, 3), source, { offset: 1, dim1: 1, dim2: 2 });
    expectClose(placed.select(0, 1), [
      [0, 3, 0],
      [0, 0, 4],
      [0, 0, 0],
    ]);
    checkDifferences(
      (x) => tg.diagonalScatter(x, x.select(0, 0)).square().sum(),
      f64([
        [1, 2],
        [3, 4],
      ]),
    );
    expect(() => tg.diagonalScatter(zeros(2, 2), zeros(3))).toThrow('the diagonal is [2]');
    expect(tg.dsplit(zeros(1, 2, 4), 2).map(({ shape }) => shape)).toEqual([
      [1, 2, 2],
      [1, 2, 2],
    ]);
    expect(() => tg.dsplit(zeros(2, 2), 2)).toThrow('three axes');
  });

  test('rows that meet at an index', () => {
    const source = tensor([
      [2, 3],
      [4, 5],
      [6, 7],
    ]);
    const index = ints([0, 2, 0]);
    expectClose(tg.indexReduce(full([3, 2], 1), 0, index, source, 'prod'), [
      [12, 21],
      [1, 1],
      [4, 5],
    ]);
    expectClose(tg.indexReduce(full([3, 2], 1), 0, index, source, 'mean', { includeSelf: false }), [
      [4, 5],
      [1, 1],
      [4, 5],
    ]);
    expect(() => tg.indexReduce(zeros(3, 2), 0, index, zeros(2, 2), 'sum')).toThrow(
      'must be [3,2]',
    );
  });

  test('dtypes and shapes that result', () => {
    expect(tg.promoteTypes('int8', 'uint8')).toBe('int16');
    expect(tg.promoteTypes('float16', 'bfloat16')).toBe('float32');
    expect(tg.broadcastShapes([2, 1], [], [3])).toEqual([2, 3]);
    expect(() => tg.broadcastShapes([2], [3])).toThrow();
  });
});

describe('linear algebra and transforms', () => {
  test('transforms with conjugate symmetry over several axes', () => {
    const parts = [
      [
        [1, 0],
        [2, 1],
        [3, 2],
      ],
      [
        [0.5, 0],
        [-1, 0.5],
        [0.25, 0],
      ],
    ];
    const whole = [
      [6.75, 1.25, 2.75, -4.75],
      [9.25, -1.25, -2.75, -3.25],
    ];
    expectClose(fft.hfftn(f64(parts)), whole, 1e-10);
    const ortho = fft.hfft2(f64(parts), null, undefined, { norm: 'ortho' });
    expectClose(ortho.mul(Math.sqrt(8)), whole, 1e-10);
    const r = f64([
      [1, 2, 3, 4],
      [0.5, -1, 0.25, 2],
    ]);
    const half = [
      [
        [1.46875, 0],
        [-0.21875, -0.625],
        [-0.28125, 0],
      ],
      [
        [1.03125, 0],
        [-0.28125, 0.125],
        [-0.21875, 0],
      ],
    ];
    expectClose(fft.ihfftn(r), half, 1e-10);
    const forward = fft.ihfft2(r, null, undefined, { norm: 'forward' });
    expectClose(forward.div(8), half, 1e-10);
  });

  test('logdet, solveEx, vander', () => {
    const turn = f64([
      [0, 1],
      [1, 0],
    ]);
    expectClose(linalg.logdet(turn), NaN);
    expectClose(linalg.logdet(f64([[0]])), -Infinity);
    const found = linalg.solveEx(f64([[2]]), f64([[4]]));
    expectClose(found.result, [[2]]);
    expect(found.info.itemSync()).toBe(0);
    expect(linalg.solveEx(f64([[0]]), f64([[4]])).info.itemSync()).toBe(1);
    expectClose(linalg.vander(f64([[2, 3]]), 4), [
      [
        [1, 2, 4, 8],
        [1, 3, 9, 27],
      ],
    ]);
  });
});

/** Mean and variance of many numbers. */
function moments(values: ArrayLike<number>): readonly [number, number] {
  const all = Array.from(values);
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const squares = all.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return [mean, squares / all.length];
}

describe('draws', () => {
  const many = 40_000;

  // Standard errors of means of 40,000 numbers are 0.005 deviations; five of them are allowed.
  test.each([
    ['exponential', () => tg.exponential(2, [many]), 0.5, 0.25],
    ['gamma of shape 3', () => tg.gamma(full([many], 3), 2), 1.5, 0.75],
    ['gamma of shape 0.4', () => tg.gamma(full([many], 0.4)), 0.4, 0.4],
    ['beta', () => tg.beta(full([many], 2), 3), 0.4, 0.04],
    ['poisson of rate 2.5', () => tg.poisson(full([many], 2.5)), 2.5, 2.5],
    ['poisson of rate 30', () => tg.poisson(full([many], 30)), 30, 30],
  ])('%s has its mean and variance', (_name, draw, mean, variance) => {
    manualSeed(3);
    const found = moments(draw().dataSync());
    expect(Math.abs(found[0] - mean)).toBeLessThan(0.025 * Math.sqrt(variance));
    expect(Math.abs(found[1] / variance - 1)).toBeLessThan(0.08);
  });

  test('draws repeat with their seed, and follow dtypes', () => {
    const draw = (): unknown => {
      const generator = new Generator(5);
      return tg.gamma(full([3], 2), 1, { generator }).arraySync();
    };
    expect(draw()).toEqual(draw());
    expect(tg.poisson(f64([1])).dtype).toBe('float64');
    expect(tg.exponential(1, [2], { dtype: 'float64' }).dtype).toBe('float64');
    expectClose(tg.poisson(tensor([0, -1, NaN])), [0, NaN, NaN]);
    expect(() => tg.exponential(0, [2])).toThrow('rate must be');
  });

  test('points of a Dirichlet distribution sum to one', () => {
    const x = tg.dirichlet(full([5, 3], 0.7));
    expectClose(x.sum(1), [1, 1, 1, 1, 1], 1e-6);
  });

  test('categories', () => {
    manualSeed(1);
    const drawn = tg.multinomial(tensor([1, 3, 0, 4, 0]), many, { replacement: true });
    const counts = Array.from(tg.bincount(drawn, { minlength: 5 }).dataSync(), (n) => n / many);
    [0.125, 0.375, 0, 0.5, 0].forEach((share, i) => expect(counts[i]).toBeCloseTo(share, 1.7));
    // The first of an order without replacement is drawn by the same weights.
    const rows = tensor([[1, 3, 0, 4]]).expand([20_000, 4]);
    const order = tg.multinomial(rows, 3);
    expectClose(order.sum(1).eq(4).all(), true);
    const first = moments(order.select(1, 0).eq(1).float().dataSync())[0];
    expect(first).toBeCloseTo(0.375, 1.7);
    expect(() => tg.multinomial(tensor([1, 2]), 3)).toThrow('without replacement');
    expect(() => tg.multinomial(zeros(2, 0), 1)).toThrow('no categories');
    expect(() => tg.multinomial(ints([1, 2]), 1)).toThrow('float weights');
  });

  test('orders', () => {
    const x = tg.shuffle(tg.arange(50));
    expect([...x.dataSync()].toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    );
    expect([...x.dataSync()]).not.toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(tg.shuffle(zeros(2, 3), 1).shape).toEqual([2, 3]);
  });
});
