// Transforms against PyTorch's, against the defining sum for many lengths, their gradients and errors.
import { describe, expect, test } from 'vitest';
import { arange, grad, rand, ShapeError, tensor, type Tensor, zeros } from 'tengen';
import * as F from 'tengen/fft';
import 'tengen/interp';
import { firstFactor } from '../../src/interface/fft/dft.ts';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';

const z = (): Tensor =>
  f64([
    [1, 0],
    [-2, 1],
    [0.5, -1],
    [3, 2],
    [0, 0.5],
  ]);
const r = (): Tensor => f64([1, -2, 0.5, 3, 0, 4]);
const m = (): Tensor => arange(6, { dtype: 'float64' }).reshape(2, 3).square();
const mz = (): Tensor => F.complex(m(), m().flip(0).sub(1));

describe('as PyTorch', () => {
  test('one axis', () => {
    expectClose(F.fft(z()), [
      [2.5, 2.5],
      [-3.737421, 3.0260847],
      [6.8466556, -2.1065793],
      [0.55253129, 0.29756229],
      [-1.161766, -3.7170677],
    ]);
    expectClose(F.ifft(z(), 3), [
      [-0.16666667, 0],
      [0.0059830641, -0.72168784],
      [1.1606836, 0.72168784],
    ]);
    expectClose(F.fft(z(), 7, -1, { norm: 'ortho' }).narrow(0, 0, 2), [
      [0.94491118, 0.94491118],
      [-0.98399932, -0.61678648],
    ]);
    expectClose(F.fft(z(), null, 0, { norm: 'forward' }), F.fft(z()).div(5).arraySync());
    expectClose(F.rfft(r()), [
      [6.5, 0],
      [-1.25, 4.7631397],
      [2.75, 5.6291651],
      [-3.5, 0],
    ]);
    expectClose(
      F.irfft(z()),
      [0.5, -1.0392136, 0.25, 0.22855339, 0, 1.7892136, -0.25, -0.47855339],
    );
    expectClose(
      F.irfft(z(), 7),
      [0.57142857, -1.2102336, 0.71996519, -0.34841463, 1.4604831, 0.63147872, -0.82470732],
    );
    expectClose(F.hfft(z()), [4, -3.8284271, -2, 14.313708, 0, 1.8284271, 2, -8.3137085]);
    expectClose(F.ihfft(r()), [
      [1.0833333, 0],
      [-0.20833333, -0.79385662],
      [0.45833333, -0.93819419],
      [-0.58333333, 0],
    ]);
  });

  test('several axes', () => {
    expectClose(F.rfft2(m()), [
      [
        [55, 0],
        [-14, 10.392305],
      ],
      [
        [-45, 0],
        [9, -5.1961524],
      ],
    ]);
    expectClose(F.irfft2(F.rfft2(m()), [2, 3]), m().arraySync());
    expectClose(F.rfftn(m(), [3, 2], [1, 0]), [
      [
        [55, 0],
        [-14, 10.392305],
        [-14, -10.392305],
      ],
      [
        [-45, 0],
        [9, -5.1961524],
        [9, 5.1961524],
      ],
    ]);
    expectClose(F.irfftn(F.rfftn(m(), [3, 2], [1, 0]), [3, 2], [1, 0]), m().arraySync());
    expectClose(F.fft2(mz()), [
      [
        [55, 49],
        [-24.392305, -3.6076952],
        [-3.6076952, -24.392305],
      ],
      [
        [-45, 45],
        [3.8038476, -14.196152],
        [14.196152, -3.8038476],
      ],
    ]);
    expectClose(F.ifft2(F.fft2(mz())), mz().arraySync());
    expectClose(F.ifftn(mz(), null, [0], { norm: 'ortho' }).select(0, 0), [
      [6.363961, 4.9497475],
      [12.020815, 10.606602],
      [20.506097, 19.091883],
    ]);
    expectClose(F.fft(mz(), 3, 0).select(0, 1), [
      [-5.3660254, 0.70577137],
      [-7, 1.1435935],
      [-5.9019238, 0.84936491],
    ]);
    const cube = F.complex(rand([2, 3, 4]), rand([2, 3, 4]));
    expectClose(F.ifftn(F.fftn(cube)), cube.arraySync(), 1e-6);
    expectClose(F.fftn(cube, null, [1]), F.fft(cube, null, 1).arraySync(), 1e-6);
  });

  test('gradients', () => {
    const weights = arange(8, { dtype: 'float64' });
    const ofReal = (x: Tensor): Tensor => {
      const v = F.rfft(x);
      return v.mul(weights.reshape(4, 2)).sum().add(v.square().sum());
    };
    expectClose(grad(ofReal)(r()), [21, -15.928203, 10.732051, 24, 4.2679492, 33.928203]);
    expectClose(grad((x: Tensor) => F.irfft(x).square().mul(weights).sum())(z()), [
      [1.0606602, 0],
      [-4.9571068, 1.1035534],
      [0.5, -5.2855339],
      [4.9571068, 3.1035534],
      [-1.5606602, 0],
    ]);
  });
});

/** Σ x[j] exp(∓2πi j k / n) in plain numbers. */
function bySum(x: readonly (readonly [number, number])[], sign: 1 | -1): [number, number][] {
  const n = x.length;
  return x.map((_, k) => {
    let [re, im] = [0, 0];
    x.forEach(([a, b], j) => {
      const angle = (sign * 2 * Math.PI * ((j * k) % n)) / n;
      re += a * Math.cos(angle) - b * Math.sin(angle);
      im += a * Math.sin(angle) + b * Math.cos(angle);
    });
    return [re, im];
  });
}

describe('any length', () => {
  // One product, a split, three stages, a large prime, a product with a large prime in it.
  const lengths = [1, 2, 3, 16, 31, 64, 65, 96, 210, 257, 331, 514, 1000];
  test.each(lengths)('%i', (n) => {
    const data = Array.from({ length: n }, (_, i): [number, number] => [
      Math.sin(1 + i * i),
      Math.cos(3 * i),
    ]);
    const x = f64(data);
    const forward = bySum(data, -1);
    expectClose(F.fft(x), forward, 1e-10);
    expectClose(F.ifft(F.fft(x)), data, 1e-12);
    expectClose(
      F.rfft(F.real(x)),
      bySum(
        data.map(([re]) => [re, 0]),
        -1,
      ).slice(0, Math.floor(n / 2) + 1),
      1e-10,
    );
    expectClose(
      F.irfft(F.rfft(F.real(x)), n),
      data.map(([re]) => re),
      1e-12,
    );
    expectClose(F.fft(x.to('float32')), forward, 2e-6 * Math.sqrt(n));
  });

  test('three stages, at once on a batch', () => {
    expect(firstFactor(8192)).toBe(16);
    const x = F.complex(rand([2, 8192]).sub(0.5));
    expectClose(F.ifft(F.fft(x)).sub(x).abs().max(), 0, 1e-6);
    const energy = F.fft(x, null, -1, { norm: 'ortho' }).square().sum();
    expectClose(energy.div(x.square().sum()), 1, 1e-5);
  });

  test('gradients through splits and chirps', () => {
    for (const n of [66, 263]) {
      const x = f64(Array.from({ length: n }, (_, i) => Math.sin(i * i)));
      const weights = f64(
        Array.from({ length: 2 * (Math.floor(n / 2) + 1) }, (_, i) => Math.cos(i)),
      );
      const fn = (y: Tensor): Tensor => F.rfft(y).square().mul(weights.reshape(-1, 2)).sum();
      const found = grad(fn)(x).arraySync() as number[];
      const step = 1e-3;
      for (const i of [0, 1, Math.floor(n / 2), n - 1]) {
        const moved = (by: number): number => {
          const data = x.arraySync() as number[];
          data[i]! += by;
          return fn(f64(data)).itemSync();
        };
        // Of a quadratic function central differences are exact.
        expect(found[i]).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 6);
      }
    }
    checkDifferences((x) => F.fft(x).square().select(0, 1).sum(), z());
    checkDifferences(
      (x) =>
        F.ifftn(x.reshape(1, 5, 2))
          .square()
          .mul(3)
          .sum(),
      z(),
    );
  });
});

describe('complex numbers as pairs', () => {
  test('parts, products, polar form', () => {
    expectClose(F.real(z()), [1, -2, 0.5, 3, 0]);
    expectClose(F.imag(F.conj(z())), [-0, -1, 1, -2, -0.5]);
    expectClose(F.complexMul(f64([1, 2]), f64([[3, 4]])), [[-5, 10]]);
    expectClose(F.polar(F.complexAbs(z()), F.angle(z())), z().arraySync());
    expectClose(F.complex(f64([1]), 2), [[1, 2]]);
    expectClose(
      grad((x: Tensor) => F.complexAbs(x).sum())(
        f64([
          [0, 0],
          [3, 4],
        ]),
      ),
      [
        [0, 0],
        [0.6, 0.8],
      ],
    );
  });

  test('a convolution is a product', () => {
    const a = f64([1, 2, 3]);
    const b = f64([1, -1]);
    const product = F.complexMul(F.rfft(a, 4), F.rfft(b, 4));
    expectClose(F.irfft(product, 4), [1, 1, 1, -3]);
  });

  test('frequencies and shifts', () => {
    expectClose(F.fftfreq(5, 0.5), [0, 0.4, 0.8, -0.8, -0.4], 1e-6);
    expectClose(F.rfftfreq(5, 0.5), [0, 0.4, 0.8], 1e-6);
    expectClose(F.fftshift(arange(5)), [3, 4, 0, 1, 2]);
    expectClose(F.ifftshift(F.fftshift(arange(5))), [0, 1, 2, 3, 4]);
    expectClose(F.fftshift(arange(6).reshape(2, 3), 1), [
      [2, 0, 1],
      [5, 3, 4],
    ]);
    expect(F.fftfreq(0).shape).toEqual([0]);
  });
});

describe('errors', () => {
  test('real numbers where complex ones are wanted', () => {
    expect(() => F.fft(zeros(3))).toThrow(ShapeError);
    expect(() => F.fft(zeros(3))).toThrow(
      'fft: takes complex numbers, whose last axis holds real and imaginary part, got [3]. hint: complex(x)',
    );
    expect(() => F.irfft(zeros(4, 3))).toThrow('complex numbers');
  });

  test('sizes, axes and norms', () => {
    expect(() => F.fft(z(), 0)).toThrow('n must be');
    expect(() => F.fft(z(), null, 1)).toThrow('fft');
    expect(() => F.rfft(zeros(0))).toThrow('transformed over 0 elements');
    expect(() => F.irfft(zeros(1, 2))).toThrow('transformed over 0 elements');
    expect(() => F.fft(z(), null, -1, { norm: 'none' as 'ortho' })).toThrow('norm must be');
    expect(() => F.fftn(mz(), [1, 2], [0])).toThrow('2 sizes for 1 axes');
    expect(() => F.fftn(mz(), null, [0, -2])).toThrow('name one twice');
    expect(() => F.rfft(zeros([4], { dtype: 'float16' }))).toThrow('takes float32 or float64');
    expect(() => F.rfft([1, 2] as never)).toThrow('expected a tensor');
  });

  test('integers and empty batches', () => {
    expectClose(F.rfft(tensor([1, 2], { dtype: 'int32' })), [
      [3, 0],
      [-1, 0],
    ]);
    expect(F.fft(zeros(0, 4, 2)).shape).toEqual([0, 4, 2]);
    expect(F.rfft(zeros(0, 100)).shape).toEqual([0, 51, 2]);
  });
});
