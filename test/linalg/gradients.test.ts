// Gradients of tengen/linalg: against PyTorch's where its choice counts, else against differences.
import { describe, expect, test } from 'vitest';
import { arange, eye, grad, type Tensor, trace } from 'tengen';
import * as linalg from 'tengen/linalg';
import 'tengen/interp';
import { A, B, checkDifferences, expectClose, f64, S, singular, T, W } from './support.ts';

const column = (x: Tensor): Tensor => x.narrow(1, 0, 2);
const eight = (): Tensor => arange(8, { dtype: 'float64' });

describe('as PyTorch', () => {
  const cases: readonly (readonly [string, (x: Tensor) => Tensor, Tensor, unknown])[] = [
    [
      'inv',
      (a) => linalg.inv(a).mul(W()).sum(),
      A(),
      [
        [0.0034528054, 0.033777444, 0.071551886],
        [-0.04030775, -0.037793207, -0.015725277],
        [0.015500094, 0.086413961, -0.049446425],
      ],
    ],
    [
      'solve by A',
      (a) => linalg.solve(a, B()).mul(column(W())).sum(),
      A(),
      [
        [0.015725277, -0.021448677, -0.024976543],
        [-0.069281291, 0.092587728, 0.12531432],
        [0.055732783, -0.094633139, 0.060405329],
      ],
    ],
    [
      'solve by B',
      (b) => linalg.solve(A(), b).mul(column(W())).sum(),
      B(),
      [
        [-0.017808219, -0.031506849],
        [0.10136986, 0.11780822],
        [0.16027397, -0.31643836],
      ],
    ],
    [
      'det',
      (a) => linalg.det(a),
      A(),
      [
        [-8, -0.5, -5.5],
        [-5, -14, -8],
        [-1, 4.5, 13],
      ],
    ],
    [
      'slogdet',
      (a) => linalg.slogdet(a).logabsdet,
      A(),
      [
        [0.21917808, 0.01369863, 0.15068493],
        [0.1369863, 0.38356164, 0.21917808],
        [0.02739726, -0.12328767, -0.35616438],
      ],
    ],
    [
      'cholesky, symmetric',
      (a) => linalg.cholesky(a).mul(W()).sum(),
      S(),
      [
        [0.10475121, 0.028218924, -0.2944475],
        [0.028218924, 0.19078906, 0.39267049],
        [-0.2944475, 0.39267049, 0.37023901],
      ],
    ],
    [
      'eigvalsh',
      (a) => linalg.eigvalsh(a).mul(W().select(0, 0)).sum(),
      S(),
      [
        [0.032657762, 0.23172957, -0.28135065],
        [0.23172957, -0.11962872, 0.40381512],
        [-0.28135065, 0.40381512, -0.11302904],
      ],
    ],
    [
      'eigh, of what does not depend on signs',
      (a) => linalg.eigh(a).eigenvectors.square().mul(W()).sum(),
      S(),
      [
        [0.20914268, 0.059902019, 0.20012392],
        [0.059902019, -0.61357932, 0.062316999],
        [0.20012392, 0.062316999, 0.40443664],
      ],
    ],
    [
      'svdvals',
      (a) =>
        linalg
          .svdvals(a)
          .mul(f64([0.3, -0.7]))
          .sum(),
      T(),
      [
        [-0.0130151, -0.60732235],
        [0.26518237, 0.15154734],
        [-0.0065075499, -0.30366118],
        [-0.15867946, 0.016439534],
      ],
    ],
    [
      'svd, of what does not depend on signs',
      (a) => {
        const { U, Vh } = linalg.svd(a, { fullMatrices: false });
        const ofV = Vh.square()
          .mul(
            f64([
              [1, 2],
              [0, 3],
            ]),
          )
          .sum();
        return U.square().mul(eight().reshape(4, 2)).sum().add(ofV);
      },
      T(),
      [
        [-0.14645284, -0.52494808],
        [-0.51674472, 0.17673896],
        [0.3044497, 1.1194107],
        [-0.84008631, -0.1139441],
      ],
    ],
    [
      'qr',
      (a) => {
        const { Q, R } = linalg.qr(a);
        return Q.mul(eight().reshape(4, 2))
          .sum()
          .add(
            R.mul(
              f64([
                [1, 2],
                [0, 3],
              ]),
            ).sum(),
          );
      },
      T(),
      [
        [-1.193232, 1.6621256],
        [-1.1148084, -0.89862925],
        [-1.5272388, 2.6693563],
        [-0.76317975, 3.9253752],
      ],
    ],
    [
      'pinv',
      (a) => linalg.pinv(a).mul(eight().reshape(2, 4)).sum(),
      T(),
      [
        [-0.26325068, -0.76065428],
        [0.28810136, 1.0157829],
        [0.057212721, 0.31061522],
        [0.25407965, 1.3553102],
      ],
    ],
    [
      'matrixExp',
      (a) => linalg.matrixExp(a).mul(W()).sum(),
      S().div(4),
      [
        [0.73408999, -1.5711574, 0.63935832],
        [1.4311384, 0.1007007, -0.84838987],
        [-1.1110447, 1.0776452, 1.3998808],
      ],
    ],
    [
      'the nuclear norm',
      (a) => linalg.matrixNorm(a, 'nuc'),
      T(),
      [
        [0.30063509, 0.83365456],
        [0.78028356, -0.35601642],
        [0.15031755, 0.41682728],
        [-0.52742843, 0.067285939],
      ],
    ],
  ];
  test.each(cases)('%s', (_name, fn, at, expected) => {
    expectClose(grad(fn)(at), expected);
  });
});

describe('by differences', () => {
  const cases: readonly (readonly [string, (x: Tensor) => Tensor, () => Tensor])[] = [
    [
      'lstsq, full rank',
      (a) =>
        linalg
          .lstsq(a, f64([1, 2, 3, 4]), { driver: 'gels' })
          .solution.square()
          .sum(),
      T,
    ],
    [
      'lstsq, wide',
      (a) =>
        linalg
          .lstsq(a.t(), f64([1, 2]), { driver: 'gels' })
          .solution.square()
          .sum(),
      T,
    ],
    [
      'lstsq, any rank',
      (a) =>
        linalg
          .lstsq(a, f64([1, 2, 3, 4]))
          .residuals.square()
          .sum(),
      T,
    ],
    ['solveTriangular', (a) => linalg.solveTriangular(a, B(), { upper: true }).square().sum(), A],
    ['X A = B', (a) => linalg.solve(a, B().t(), { left: false }).square().sum(), A],
    ['lu, tall', (a) => linalg.lu(a).L.square().sum().add(linalg.lu(a).U.square().sum()), T],
    ['luSolve', (a) => linalg.luSolve(linalg.luFactor(a), B()).square().sum(), A],
    [
      'choleskySolve',
      (a) =>
        linalg
          .choleskySolve(B(), linalg.cholesky(a.matmul(a.t())))
          .square()
          .sum(),
      A,
    ],
    ['qr, wide', (a) => linalg.qr(a.t()).R.square().mul(eight().reshape(2, 4)).sum(), T],
    ['cond', (a) => linalg.cond(a), A],
    ['cond, 1', (a) => linalg.cond(a, 1), A],
    ['matrixPower', (a) => linalg.matrixPower(a, -3).sum(), A],
    ['norm 2', (a) => linalg.matrixNorm(a, 2), T],
    ['the determinant of a singular matrix', (a) => linalg.det(a), singular],
    [
      'svd, full',
      (a) => linalg.svd(a).U.narrow(1, 0, 2).square().mul(eight().reshape(4, 2)).sum(),
      T,
    ],
  ];
  test.each(cases)('%s', (_name, fn, at) => checkDifferences(fn, at()));

  test('second gradients', () => {
    const slope = (fn: (x: Tensor) => Tensor) => (x: Tensor) => grad(fn)(x).square().sum();
    checkDifferences(
      slope((a) => linalg.inv(a).sum()),
      A(),
    );
    checkDifferences(
      slope((a) => linalg.det(a)),
      A(),
    );
    checkDifferences(
      slope((a) => linalg.pinv(a).sum()),
      T(),
    );
    checkDifferences(
      slope((a) => linalg.cholesky(a.matmul(a.t())).sum()),
      A(),
      1e-5,
    );
    checkDifferences(
      slope((a) =>
        linalg
          .svdvals(a)
          .mul(f64([1, 2]))
          .sum(),
      ),
      T(),
      1e-5,
    );
  });
});

describe('degenerate', () => {
  test('equal values: gradients of values are right, those of vectors leave the pair out', () => {
    expectClose(
      grad((a) => linalg.eigvalsh(a).sum())(eye(3, 3, { dtype: 'float64' })),
      eye(3).arraySync(),
    );
    const u = grad((a) => linalg.svd(a).U.square().sum())(eye(3, 3, { dtype: 'float64' }));
    expectClose(u, [
      [0, 0, 0],
      [0, 0, 0],
      [0, 0, 0],
    ]);
    // The pseudoinverse of a matrix with equal singular values: no way leads through them.
    checkDifferences((a) => linalg.pinv(a).mul(W()).sum(), eye(3, 3, { dtype: 'float64' }));
    expectClose(grad((a) => linalg.matrixNorm(a, 'nuc'))(eye(2, 2, { dtype: 'float64' })), [
      [1, 0],
      [0, 1],
    ]);
  });

  test('gradients of a complete Q that is not determined are refused', () => {
    const complete = (a: Tensor): Tensor => linalg.qr(a, 'complete').Q.sum();
    expect(() => grad(complete)(T())).toThrow('may turn freely');
  });

  test('in a traced function', () => {
    const fn = trace((a: Tensor) => grad((x: Tensor) => linalg.solve(x, B()).sum())(a));
    expectClose(fn(A()), grad((x: Tensor) => linalg.solve(x, B()).sum())(A()).arraySync());
    expectClose(fn(S()), grad((x: Tensor) => linalg.solve(x, B()).sum())(S()).arraySync());
  });
});
