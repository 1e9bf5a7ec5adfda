// Eigenvalues of matrices that are not symmetric: against PyTorch's values, and A V = V Λ.
import { describe, expect, test } from 'vitest';
import { grad, manualSeed, randn, tensor, type Tensor, zeros } from 'tengen';
import * as fft from 'tengen/fft';
import * as linalg from 'tengen/linalg';
import { checkDifferences, expectClose, f64 } from './support.ts';

const A = (): Tensor =>
  f64([
    [1, 2, 0, -1],
    [-3, 1, 4, 0.5],
    [0.25, 1, -2, 2],
    [2, 0, 1, 0.5],
  ]);

function parts(A: Tensor) {
  const { eigenvalues, eigenvectors } = linalg.eig(A);
  return {
    values: { re: fft.real(eigenvalues), im: fft.imag(eigenvalues) },
    vectors: { re: fft.real(eigenvectors), im: fft.imag(eigenvectors) },
  };
}

/** The largest element of A V - V Λ. */
function residue(A: Tensor): number {
  const { values, vectors } = parts(A);
  const [lr, li] = [values.re.unsqueeze(-2), values.im.unsqueeze(-2)];
  const re = A.matmul(vectors.re).sub(vectors.re.mul(lr)).add(vectors.im.mul(li));
  const im = A.matmul(vectors.im).sub(vectors.re.mul(li)).sub(vectors.im.mul(lr));
  return Math.max(re.abs().amax().itemSync() as number, im.abs().amax().itemSync() as number);
}

/** A number that depends on nothing that eigenvectors leave open. */
function loss(A: Tensor): Tensor {
  const { values, vectors } = parts(A);
  const weights = f64([0.3, -0.7, 0.2, 0.9]);
  const squares = vectors.re.square().add(vectors.im.square());
  const places = f64([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9, 10, 11],
    [12, 13, 14, 15],
  ]);
  const one = values.re
    .mul(weights)
    .sum()
    .add(values.im.mul(weights.flip(0)).sum());
  return one.add(squares.mul(places).sum());
}

describe('eig', () => {
  test('values, vectors and gradient are those of PyTorch', () => {
    const { values, vectors } = parts(A());
    expectClose(values.re, [-3.4008, 0.72, 0.72, 2.4609], 1e-4);
    expectClose(values.im, [0, 2.8643, -2.8643, 0], 1e-4);
    const squares = vectors.re.square().add(vectors.im.square());
    expectClose(
      squares.select(0, 0),
      [0.03260468195479821, 0.37290624867342514, 0.37290624867342514, 0.14165020132432937],
    );
    expectClose(loss(A()), 31.155899254575562, 1e-10);
    expectClose(grad(loss)(A()), [
      [0.14084033299991003, 0.16223124370327663, 0.35250755571071746, 1.1052461249110919],
      [-0.3272725785517321, -0.20909879452082056, -0.9384640118705251, -0.416806917077183],
      [0.4460537277829633, 0.23641930541998718, 0.0035092190186710283, -0.576251285624676],
      [3.2102047640242373, 0.8814636623906187, 1.250710847169624, 0.7647492425022394],
    ]);
  });

  test('vectors have a fixed phase, through which gradients flow too', () => {
    const { vectors } = parts(A());
    const size = vectors.re.square().add(vectors.im.square());
    expectClose(size.sum(0), [1, 1, 1, 1]);
    checkDifferences(
      (x) =>
        parts(x)
          .vectors.re.select(1, 1)
          .mul(f64([1, -2, 3, 0.5]))
          .sum(),
      A(),
    );
    checkDifferences((x) => linalg.eigvals(x).select(1, 0).sum(), A());
  });

  test.each([1, 2, 3, 7, 24])('A V = V Λ of random matrices of size %d', (size) => {
    manualSeed(size);
    expect(residue(randn([2, size, size], { dtype: 'float64' }))).toBeLessThan(1e-12);
    expect(residue(randn([size, size]))).toBeLessThan(2e-5);
  });

  test('real numbers are exactly real, pairs exactly conjugate', () => {
    const values = linalg.eigvals(A()).arraySync() as number[][];
    expect(values.map(([, im]) => im === 0)).toEqual([true, false, false, true]);
    expect(values[1]).toEqual([values[2]![0], -values[2]![1]!]);
  });

  test('matrices of zeros, of equal eigenvalues, out of scale, in circles', () => {
    expect(linalg.eig(zeros(2, 2)).eigenvectors.isfinite().all().itemSync()).toBe(1);
    const jordan = f64([
      [2, 1],
      [0, 2],
    ]);
    expectClose(linalg.eigvals(jordan), [
      [2, 0],
      [2, 0],
    ]);
    expect(residue(jordan)).toBeLessThan(1e-12);
    expect(grad((x: Tensor) => linalg.eigvals(x).sum())(f64([[2]])).itemSync()).toBe(1);
    const circle = f64([
      [0, 0, 1],
      [1, 0, 0],
      [0, 1, 0],
    ]);
    const half = Math.sqrt(3) / 2;
    expectClose(linalg.eigvals(circle), [
      [-0.5, half],
      [-0.5, -half],
      [1, 0],
    ]);
    expectClose(
      linalg
        .eigvals(
          tensor([
            [1e30, 1],
            [0, 1e-30],
          ]),
        )
        .select(1, 1),
      [0, 0],
    );
  });

  test('what cannot be', () => {
    expect(
      linalg
        .eigvals(tensor([[NaN]]))
        .isnan()
        .all()
        .itemSync(),
    ).toBe(1);
    expect(linalg.eigvals(zeros(0, 0)).shape).toEqual([0, 2]);
    expect(() => linalg.eig(zeros(2, 3))).toThrow('square');
    expect(() => linalg.eig(tensor([[1]], { dtype: 'int32' }))).toThrow('float32 or float64');
  });
});
