// Functions made of others: arranging, elementwise, writing at positions; against PyTorch's values.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { grad, tensor, type Tensor, zeros } from 'tengen';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';
import { ints } from './support.ts';

describe('arranging', () => {
  test('axes', () => {
    expect(tg.swapaxes(zeros(2, 3, 4), 0, -1).shape).toEqual([4, 3, 2]);
    expect(tg.moveaxis(zeros(2, 3, 4), 0, 1).shape).toEqual([3, 2, 4]);
    expectClose(tg.ravel(ints([[1], [2]])), [1, 2]);
    expectClose(
      tg.fliplr(
        ints([
          [1, 2],
          [3, 4],
        ]),
      ),
      [
        [2, 1],
        [4, 3],
      ],
    );
    expectClose(
      tg.flipud(
        ints([
          [1, 2],
          [3, 4],
        ]),
      ),
      [
        [3, 4],
        [1, 2],
      ],
    );
    expect(
      [0, 1, 2, 3].map((n) => tg.atleast3d(zeros(new Array<number>(n).fill(2))).shape),
    ).toEqual([
      [1, 1, 1],
      [1, 2, 1],
      [2, 2, 1],
      [2, 2, 2],
    ]);
    expect(tg.atleast1d(tensor(1)).shape).toEqual([1]);
    expect(tg.atleast2d(tensor(1)).shape).toEqual([1, 1]);
    expect(tg.atleast2d(zeros(3)).shape).toEqual([1, 3]);
    expect(() => tg.fliplr(zeros(2))).toThrow('two axes');
    expect(() => tg.flipud(tensor(1))).toThrow('one axis');
  });

  test('stacking and cutting', () => {
    expectClose(tg.hstack([ints([1]), ints([2, 3])]), [1, 2, 3]);
    expectClose(tg.hstack([ints([[1], [2]]), ints([[3], [4]])]), [
      [1, 3],
      [2, 4],
    ]);
    expectClose(tg.vstack([ints([1, 2]), ints([[3, 4]])]), [
      [1, 2],
      [3, 4],
    ]);
    expectClose(tg.dstack([ints([1, 2]), ints([3, 4])]), [
      [
        [1, 3],
        [2, 4],
      ],
    ]);
    expectClose(
      tg.columnStack([
        ints([1, 2]),
        ints([
          [3, 4],
          [5, 6],
        ]),
      ]),
      [
        [1, 3, 4],
        [2, 5, 6],
      ],
    );
    const lengths = (list: Tensor[]): number[] => list.map((part) => part.size);
    expect(lengths(tg.tensorSplit(zeros(7), 3))).toEqual([3, 2, 2]);
    expect(lengths(tg.tensorSplit(zeros(7), [2, -1, 9]))).toEqual([2, 4, 1, 0]);
    expect(lengths(tg.hsplit(zeros(4, 6), 2))).toEqual([12, 12]);
    expect(lengths(tg.vsplit(zeros(4, 6), [1]))).toEqual([6, 18]);
    expect(() => tg.vsplit(zeros(4), 2)).toThrow('two axes');
    expect(() => tg.tensorSplit(zeros(4), 0)).toThrow('number of parts');
    expect(() => tg.vstack([])).toThrow('got no tensors');
  });

  test('matrices by rule and combinations', () => {
    expectClose(tg.blockDiag([ints([[1, 2]]), tensor(3.5), zeros(1, 0)]), [
      [1, 2, 0],
      [0, 0, 3.5],
      [0, 0, 0],
    ]);
    expectClose(grad((y: Tensor) => tg.blockDiag([y, y]).sum())(f64([[1, 2]])), [[2, 2]]);
    expectClose(tg.vander(f64([1, 2, 3]), 3, { increasing: true }), [
      [1, 1, 1],
      [1, 2, 4],
      [1, 3, 9],
    ]);
    expect(tg.vander(zeros(2), 0).shape).toEqual([2, 0]);
    expectClose(tg.trilIndices(3, 2, -1), [
      [1, 2, 2],
      [0, 0, 1],
    ]);
    expectClose(tg.triuIndices(2, 3, 1), [
      [0, 0, 1],
      [1, 2, 2],
    ]);
    expect(tg.triuIndices(0, 3).shape).toEqual([2, 0]);
    expectClose(tg.cartesianProd([ints([1, 2]), ints([3])]), [
      [1, 3],
      [2, 3],
    ]);
    expectClose(tg.combinations(f64([1, 2]), 3, { withReplacement: true }), [
      [1, 1, 1],
      [1, 1, 2],
      [1, 2, 2],
      [2, 2, 2],
    ]);
    expect(tg.combinations(zeros(2), 3).shape).toEqual([0, 3]);
    expectClose(tg.logspace(-1, 1, 3, 2), [0.5, 1, 2]);
    expect(tg.logspace(0, 1, 0).shape).toEqual([0]);
  });
});

const v = (): Tensor => f64([-2.5, -0, 0, 0.3, 4, 12, 30]);

describe('elementwise', () => {
  test('Bessel functions, in float64 and float32', () => {
    const expected = [
      [tg.i0, [3.2898391, 1, 1, 1.0226269, 11.301922, 18948.925, 781672300000]],
      [tg.i0e, [0.27004644, 1, 1, 0.75758063, 0.20700192, 0.11642622, 0.073145946]],
      [tg.i1, [-2.5167162, 0, 0, 0.15169384, 9.7594652, 18141.349, 768532040000]],
      [tg.i1e, [-0.20658465, 0, 0, 0.11237756, 0.17875084, 0.1114643, 0.071916331]],
    ] as const;
    for (const [fn, values] of expected) {
      expectClose(fn(v()), values);
      expectClose(fn(v().to('float32')), values, 2e-6);
    }
    expectClose(grad((y: Tensor) => tg.i0(y).sum())(v()), tg.i1(v()).arraySync());
    expectClose(
      grad((y: Tensor) => tg.i1(y).sum())(v()).narrow(0, 0, 4),
      [2.2831526, 0.5, 0.5, 0.51698075],
    );
    expectClose(tg.i0(tensor([NaN, 89, -89])), [NaN, 1.9005e37, 1.9005e37], 1e-3);
  });

  test('others', () => {
    expectClose(tg.entr(v()).narrow(0, 0, 5), [-Infinity, 0, 0, 0.36119184, -5.5451774]);
    expectClose(tg.ndtr(v()), [0.0062096653, 0.5, 0.5, 0.61791142, 0.99996833, 1, 1]);
    expectClose(tg.sinc(v()), [0.12732395, 1, 1, 0.85839369, 0, 0, 0]);
    expectClose(
      grad((y: Tensor) => tg.sinc(y).sum())(f64([0, 1e-4, 0.3, 1])),
      [0, -0.00032898681, -0.90202813, -1],
    );
    expectClose(tg.mvlgamma(f64([2.5, 7]), 3), [1.8809955, 18.7464]);
    expectClose(tg.xlog1py(f64([0, 2, 0]), f64([-1, 0.5, NaN])), [0, 0.81093022, NaN]);
    expectClose(tg.heaviside(f64([-1, 0, 2, NaN]), 0.5), [0, 0.5, 1, 0]);
    expectClose(tg.copysign(f64([1, -2, 0]), f64([-0, 3, -1])), [-1, 2, -0]);
    expectClose(grad((y: Tensor) => tg.copysign(y, f64([-1, 1])).sum())(f64([2, -3])), [-1, -1]);
    expectClose(tg.signbit(v()).narrow(0, 0, 4), [true, true, false, false]);
    expectClose(tg.signbit(ints([-1, 2])), [true, false]);
    expectClose(tg.ldexp(f64([1.5, 3]), ints([3, -1])), [12, 1.5]);
    expectClose(tg.logaddexp2(f64([100, -3]), f64([100, 4])), [101, 4.0112273]);
    expectClose(tg.deg2rad(f64([180])), [Math.PI]);
    expectClose(tg.rad2deg(f64([Math.PI])), [180]);
    expectClose(tg.floatPower(ints([2, 4]), -1), [0.5, 0.25]);
    expectClose(
      tg.gcd(ints([12, -18, 0, 0, 1836311903]), ints([18, 12, 7, 0, 1134903170])),
      [6, 6, 7, 0, 1],
    );
    expectClose(tg.lcm(ints([4, -6, 0]), ints([6, 4, 3])), [12, 12, 0]);
    expect(tg.gcd(tensor([6], { dtype: 'int8' }), tensor([4], { dtype: 'int8' })).dtype).toBe(
      'int8',
    );
    expect(() => tg.gcd(f64([1]), f64([2]))).toThrow('takes integers');
    expect(() => tg.mvlgamma(v(), 0)).toThrow('positive integer');
    checkDifferences((y) => tg.xlog1py(y, y).add(tg.entr(y)).add(tg.ndtr(y)).sum(), f64([0.4, 2]));
    checkDifferences((y) => tg.logaddexp2(y, f64([1, 2])).sum(), f64([0.4, 2]));
  });
});

describe('writing at positions', () => {
  test('put, indexFill, maskedScatter', () => {
    const x = () =>
      f64([
        [1, 2],
        [3, 4],
      ]);
    expectClose(tg.put(x(), ints([0, -1]), f64([9, 8])), [
      [9, 2],
      [3, 8],
    ]);
    expectClose(tg.put(x(), ints([0, 0]), f64([9, 8]), { accumulate: true }), [
      [18, 2],
      [3, 4],
    ]);
    expectClose(tg.put(x(), ints([]), f64([])), [
      [1, 2],
      [3, 4],
    ]);
    expectClose(tg.indexFill(x(), 1, ints([0]), -1), [
      [-1, 2],
      [-1, 4],
    ]);
    const mask = tensor([
      [true, false],
      [true, true],
    ]);
    expectClose(tg.maskedScatter(x(), mask, f64([7, 8, 9, 10])), [
      [7, 2],
      [8, 9],
    ]);
    expectClose(tg.maskedScatter(x(), tensor([false, true]), f64([7, 8])), [
      [1, 7],
      [3, 8],
    ]);
    expectClose(
      grad((s: Tensor) => tg.maskedScatter(x(), mask, s).mul(x()).sum())(f64([1, 1, 1, 1])),
      [1, 3, 4, 0],
    );
    expectClose(tg.selectScatter(x(), f64([8, 9]), 1, -1), [
      [1, 8],
      [3, 9],
    ]);
    expectClose(tg.sliceScatter(x(), f64([[8, 9]]), 0, 1), [
      [1, 2],
      [8, 9],
    ]);
    expectClose(
      tg.argwhere(
        ints([
          [0, 1],
          [1, 0],
        ]),
      ),
      [
        [0, 1],
        [1, 0],
      ],
    );
  });

  test('errors', () => {
    expect(() => tg.put(zeros(2), ints([0]), f64([1, 2]))).toThrow('2 values for 1 positions');
    expect(() => tg.put(zeros(2), ints([2]), f64([1]))).toThrow('out of range');
    expect(() => tg.indexFill(zeros(2), 0, ints([0]), f64([1, 2]))).toThrow('must be a number');
    // A source too short shows when it is computed.
    const short = tg.maskedScatter(zeros(3), tensor([true, true, false]), f64([1]));
    expect(() => short.arraySync()).toThrow('maskedScatter: index 1 is out of range for size 1');
  });

  test('wholes', () => {
    expect(tg.equal(f64([1, 2]), f64([1, 2]))).toBe(true);
    expect(tg.equal(f64([1, 2]), f64([1, 3]))).toBe(false);
    expect(tg.equal(f64([1, 2]), f64([[1, 2]]))).toBe(false);
    expect(tg.equal(f64([NaN]), f64([NaN]))).toBe(false);
    expect(tg.equal(zeros(0), zeros(0))).toBe(true);
    expect(tg.allclose(f64([1, 2]), f64([1, 2 + 1e-7]))).toBe(true);
    expect(tg.allclose(f64([1, NaN]), f64([1, NaN]))).toBe(false);
    expect(tg.allclose(f64([1, NaN]), f64([1, NaN]), { equalNaN: true })).toBe(true);
    expect(tg.allclose(f64([1, 2]), f64([1, 2.1]), { atol: 0.2 })).toBe(true);
  });
});
