// Values of tengen/linalg against PyTorch's, batches, and sizes 0 and 1.
import { describe, expect, test } from 'vitest';
import { arange, eye, matmul, rand, tensor, zeros } from 'tengen';
import * as linalg from 'tengen/linalg';
import 'tengen/interp';
import { A, B, expectClose, f64, S, singular, T } from './support.ts';

const inverse = [
  [0.21917808, 0.1369863, 0.02739726],
  [0.01369863, 0.38356164, -0.12328767],
  [0.15068493, 0.21917808, -0.35616438],
];
const solution = [
  [0.30136986, 0.32876712],
  [-0.35616438, -0.47945205],
  [-0.91780822, -0.2739726],
];
const T_PINV = [
  [0.09441903, 0.20128088, 0.047209515, -0.13906679],
  [0.34547118, -0.13174748, 0.17273559, 0.018298262],
];

describe('systems of equations', () => {
  test('inv and solve', () => {
    expectClose(linalg.inv(A()), inverse);
    expectClose(linalg.inv(A().to('float32')), inverse, 1e-6);
    expectClose(linalg.solve(A(), B()), solution);
    expectClose(
      linalg.solve(A(), B().select(1, 0)),
      solution.map(([x]) => x),
    );
    const right = linalg.solve(A(), B().t(), { left: false });
    expectClose(right.matmul(A()), B().t().arraySync());
  });

  test('batches broadcast; vectors belong to the batch they fit', () => {
    const batch = f64([
      [
        [2, 0],
        [0, 4],
      ],
      [
        [0, 1],
        [1, 0],
      ],
    ]);
    expectClose(linalg.solve(batch, f64([[2], [4]])), [
      [[1], [1]],
      [[4], [2]],
    ]);
    expectClose(
      linalg.solve(
        batch,
        f64([
          [2, 4],
          [6, 8],
        ]),
      ),
      [
        [1, 1],
        [8, 6],
      ],
    );
    expectClose(
      linalg.solve(
        eye(2, 2, { dtype: 'float64' }),
        f64([
          [[1], [2]],
          [[3], [4]],
        ]),
      ),
      [
        [[1], [2]],
        [[3], [4]],
      ],
    );
    expectClose(linalg.det(batch), [8, -1]);
  });

  test('solveTriangular reads one triangle', () => {
    const { solveTriangular } = linalg;
    expectClose(solveTriangular(A(), B(), { upper: true }), [
      [0.33333333, 0.36111111],
      [-0.33333333, -0.44444444],
      [-1, -0.33333333],
    ]);
    expectClose(solveTriangular(A(), B().t(), { upper: false, left: false }), [
      [0.70833333, 0.33333333, -1],
      [0.69444444, -0.22222222, -0.33333333],
    ]);
    expectClose(solveTriangular(A(), B(), { upper: false, unitriangular: true }), [
      [1, 2],
      [-0.5, -2],
      [1.5, -1],
    ]);
  });

  test('pinv and lstsq, of full rank and not', () => {
    expectClose(linalg.pinv(T()), T_PINV);
    expectClose(linalg.pinv(T().t()).t(), T_PINV);
    expectClose(linalg.pinv(S(), { hermitian: true }), linalg.inv(S()).arraySync());
    const z = singular();
    const p = linalg.pinv(z);
    expectClose(z.matmul(p).matmul(z), z.arraySync());
    expectClose(p.matmul(z).matmul(p), p.arraySync());
    const b = f64([[1], [2], [3], [4]]);
    for (const driver of ['gels', 'gelsy', 'gelsd', 'gelss'] as const) {
      const found = linalg.lstsq(T(), b, { driver });
      expectClose(found.solution, [[0.082342177], [0.67337603]]);
      const rest = T().matmul(found.solution).sub(b).square().sum(0);
      expectClose(found.residuals, rest.arraySync());
      expect(found.rank.shape).toEqual(driver === 'gels' ? [0] : []);
    }
    const under = linalg.lstsq(T().t(), f64([1, 2]), { driver: 'gels' });
    expect(under.solution.shape).toEqual([4]);
    expectClose(
      under.solution,
      linalg
        .pinv(T().t())
        .matmul(f64([1, 2]))
        .arraySync(),
    );
    expect(under.residuals.shape).toEqual([0]);
    const deficient = linalg.lstsq(z, f64([1, 2, 3]));
    expectClose(deficient.rank, 2);
    expectClose(deficient.solution, p.matmul(f64([1, 2, 3])).arraySync());
  });
});

describe('decompositions', () => {
  test('cholesky', () => {
    const expected = [
      [2, 0, 0],
      [0.5, 1.6583124, 0],
      [0.25, -0.67840053, 1.2154311],
    ];
    expectClose(linalg.cholesky(S()), expected);
    expectClose(linalg.cholesky(S(), { upper: true }).t(), expected);
    // Only one triangle is read.
    expectClose(linalg.cholesky(S().tril()), expected);
    expectClose(linalg.cholesky(S().triu(), { upper: true }).t(), expected);
    const b = f64([1, 2, 3]);
    const x = linalg.choleskySolve(b.unsqueeze(1), linalg.cholesky(S()));
    expectClose(S().matmul(x), [[1], [2], [3]]);
    const bad = linalg.choleskyEx(S().sub(eye(3).mul(2)));
    expectClose(bad.info, 3);
    expectClose(linalg.choleskyEx(S()).info, 0);
  });

  test('qr has the signs of LAPACK', () => {
    const { Q, R } = linalg.qr(T());
    expectClose(Q, [
      [-0.26490647, 0.84568667],
      [-0.79471941, -0.32250763],
      [-0.13245324, 0.42284334],
      [0.52981294, 0.044792726],
    ]);
    expectClose(R, [
      [-3.7749172, 0.26490647],
      [0, 2.4479225],
    ]);
    const wide = linalg.qr(T().t());
    expectClose(wide.Q, [
      [-0.4472136, -0.89442719],
      [-0.89442719, 0.4472136],
    ]);
    expectClose(wide.R, [
      [-2.236068, -0.4472136, -1.118034, 0.67082039],
      [0, -3.1304952, 0, 1.9006578],
    ]);
    const complete = linalg.qr(T(), 'complete');
    expectClose(complete.Q.select(1, 3), [0.17673811, 0.51005476, -0.05344401, 0.84009019]);
    expectClose(complete.Q.matmul(complete.R), T().arraySync());
    expect(linalg.qr(T(), 'r').Q.shape).toEqual([0]);
    expect(complete.R.shape).toEqual([4, 2]);
  });

  test('lu of tall and wide matrices, and what is solved with it', () => {
    const tall = linalg.lu(T());
    expectClose(tall.P, [
      [0, 1, 0, 0],
      [1, 0, 0, 0],
      [0, 0, 1, 0],
      [0, 0, 0, 1],
    ]);
    expectClose(tall.L, [
      [1, 0],
      [0.33333333, 1],
      [0.16666667, 0.5],
      [-0.66666667, -0.17857143],
    ]);
    expectClose(tall.U, [
      [3, -1],
      [0, 2.3333333],
    ]);
    const wide = linalg.lu(T().t());
    expectClose(wide.U, [
      [2, -1, 1, 0.25],
      [0, 3.5, 0, -2.125],
    ]);
    expectClose(wide.P.matmul(wide.L).matmul(wide.U), T().t().arraySync());
    const cycle = f64([
      [0, 0, 3],
      [1, 0, 0],
      [0, 2, 0],
    ]);
    const turned = linalg.lu(cycle);
    expectClose(turned.P.matmul(turned.L).matmul(turned.U), cycle.arraySync());
    expectClose(linalg.luSolve(linalg.luFactor(A()), B()), solution);
    expectClose(linalg.luSolve(linalg.luFactor(cycle), f64([3, 1, 2])), [1, 1, 1]);
  });

  test('eigenvalues and singular values', () => {
    expectClose(linalg.eigvalsh(S()), [1.0595504, 3.3175444, 4.6229051]);
    expectClose(linalg.eigvalsh(S().triu(), { UPLO: 'U' }), [1.0595504, 3.3175444, 4.6229051]);
    const { eigenvalues, eigenvectors } = linalg.eigh(S());
    expectClose(eigenvectors.mul(eigenvalues).matmul(eigenvectors.t()), S().arraySync());
    expectClose(linalg.svdvals(T()), [3.7908268, 2.4376489]);
    for (const x of [T(), T().t(), singular()]) {
      for (const fullMatrices of [true, false]) {
        const { U, S: s, Vh } = linalg.svd(x, { fullMatrices });
        const [m, n] = x.shape as [number, number];
        const k = Math.min(m, n);
        expect([U.shape, Vh.shape]).toEqual(
          fullMatrices
            ? [
                [m, m],
                [n, n],
              ]
            : [
                [m, k],
                [k, n],
              ],
        );
        expectClose(
          U.narrow(1, 0, k)
            .mul(s)
            .matmul(Vh.narrow(0, 0, k)),
          x.arraySync(),
        );
        expectClose(U.t().matmul(U), eye(U.shape[1] as number).arraySync());
        expectClose(Vh.matmul(Vh.t()), eye(Vh.shape[0] as number).arraySync());
      }
    }
  });

  test('a larger matrix of float32, on each of its decompositions', () => {
    const x = rand([60, 40]).sub(0.5);
    const near = (a: typeof x, b: typeof x, size = 5): void => {
      expect(a.sub(b).abs().max().itemSync()).toBeLessThan(1e-6 * size);
    };
    const { U, S: s, Vh } = linalg.svd(x, { fullMatrices: false });
    near(U.mul(s).matmul(Vh), x);
    near(U.t().matmul(U), eye(40));
    const { Q, R } = linalg.qr(x);
    near(Q.matmul(R), x);
    near(Q.t().matmul(Q), eye(40));
    const square = x.t().matmul(x);
    const { eigenvalues, eigenvectors } = linalg.eigh(square);
    near(eigenvectors.mul(eigenvalues).matmul(eigenvectors.t()), square, 20);
    near(eigenvalues.flip(0), s.square(), 20);
    const { P, L, U: u } = linalg.lu(x);
    near(P.matmul(L).matmul(u), x);
    const c = linalg.cholesky(square);
    near(c.matmul(c.t()), square, 20);
  });

  test('huge, tiny, equal and infinite elements', () => {
    const big = tensor([
      [3e30, 0],
      [4e30, 1e30],
    ]);
    const { Q, R } = linalg.qr(big);
    expectClose(
      Q.matmul(R).div(1e30),
      [
        [3, 0],
        [4, 1],
      ],
      1e-6,
    );
    expectClose(
      linalg.svdvals(big.div(1e30).mul(1e-30)).mul(1e30),
      linalg.svdvals(big.div(1e30)).arraySync(),
      1e-5,
    );
    expectClose(linalg.eigvalsh(eye(3).mul(2)), [2, 2, 2]);
    expectClose(linalg.svdvals(zeros(3, 2)), [0, 0]);
    expectClose(linalg.svd(zeros(3, 2)).U, eye(3).arraySync());
    for (const value of [NaN, Infinity]) {
      expectClose(
        linalg.eigvalsh(
          tensor([
            [1, 0],
            [0, value],
          ]),
        ),
        [NaN, NaN],
      );
      expectClose(
        linalg.svdvals(
          tensor([
            [1, 0],
            [0, value],
          ]),
        ),
        [NaN, NaN],
      );
    }
  });
});

describe('numbers and functions of matrices', () => {
  test('norms', () => {
    const expected = {
      fro: 4.5069391,
      nuc: 6.2284757,
      1: 6.5,
      [-1]: 4.25,
      2: 3.7908268,
      [-2]: 2.4376489,
      Infinity: 4,
      [-Infinity]: 1.5,
    };
    for (const [order, value] of Object.entries(expected)) {
      const ord = order === 'fro' || order === 'nuc' ? order : Number(order);
      expectClose(linalg.matrixNorm(T(), ord), value);
      expectClose(linalg.norm(T(), ord), value);
      const kept = linalg.matrixNorm(T().t().reshape(2, 1, 4), ord, [2, 0], { keepdims: true });
      expectClose(kept, [[[value]]]);
    }
    const vector = [
      [0, 8],
      [1, 10.75],
      [2, 4.5069391],
      [3, 3.5866954],
      [0.5, 76.870542],
      [Infinity, 3],
      [-Infinity, 0.25],
    ] as const;
    for (const [ord, value] of vector) expectClose(linalg.vectorNorm(T(), ord), value);
    expectClose(linalg.norm(T()), 4.5069391);
    expectClose(linalg.norm(f64([3, -4]), 1), 7);
    expectClose(linalg.norm(T(), null, 0), linalg.vectorNorm(T(), 2, 0).arraySync());
  });

  test('rank and condition', () => {
    expectClose(linalg.matrixRank(singular()), 2);
    expectClose(linalg.matrixRank(S(), { atol: 2, hermitian: true }), 2);
    expectClose(linalg.matrixRank(zeros(3, 2)), 0);
    const expected = [
      [null, 2.7628615],
      [1, 4.8082192],
      [2, 2.7628615],
      [-2, 0.36194359],
      ['fro', 4.3990469],
      ['nuc', 11.057651],
      [Infinity, 5.0821918],
    ] as const;
    for (const [p, value] of expected) expectClose(linalg.cond(A(), p), value);
    expectClose(
      linalg.cond(
        f64([
          [1, 2],
          [2, 4],
        ]),
        'fro',
      ),
      Infinity,
    );
  });

  test('determinants', () => {
    expectClose(linalg.det(A()), -36.5);
    const { sign, logabsdet } = linalg.slogdet(A());
    expectClose(sign, -1);
    expectClose(logabsdet, 3.5973123);
    expectClose(
      linalg.det(
        f64([
          [1, 2],
          [2, 4],
        ]),
      ),
      0,
    );
    const nothing = linalg.slogdet(
      f64([
        [1, 2],
        [2, 4],
      ]),
    );
    expectClose(nothing.sign, 0);
    expectClose(nothing.logabsdet, -Infinity);
    expectClose(linalg.slogdet(eye(40).mul(1e-3)).logabsdet, 40 * Math.log(1e-3), 1e-6);
  });

  test('powers, exponential, chains', () => {
    expectClose(linalg.matrixPower(A(), 3), [
      [67.5, -70, 21],
      [10.5, 18.5, -7],
      [28, -7, -23.5],
    ]);
    expectClose(linalg.matrixPower(A(), -2), [
      [0.054043911, 0.088571965, -0.020641771],
      [-0.010320886, 0.1219741, -0.0030024395],
      [-0.017639332, 0.02664665, 0.10395947],
    ]);
    expectClose(linalg.matrixPower(A(), 0), eye(3).arraySync());
    expectClose(linalg.matrixExp(A()), [
      [57.910347, -64.029539, 16.524687],
      [8.2623436, 10.405495, -1.0346046],
      [17.559292, -14.455478, 4.1978674],
    ]);
    expectClose(linalg.matrixExp(tensor([[-200]])), [[0]]);
    const chain = [rand([3, 7]), rand([7, 2]), rand([2, 5]), rand([5])];
    const product = chain.reduce((a, b) => matmul(a, b));
    expectClose(linalg.multiDot(chain), product.arraySync(), 1e-5);
    expectClose(linalg.multiDot([f64([1, 2]), f64([3, 4])]), 11);
    const map = arange(36, { dtype: 'float64' })
      .reshape(2, 3, 6)
      .add(eye(6).reshape(2, 3, 6).mul(9));
    const back = linalg.tensorinv(map);
    expect(back.shape).toEqual([6, 2, 3]);
    const x = linalg.tensorsolve(
      map,
      f64([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    );
    expectClose(map.reshape(6, 6).matmul(x), [1, 2, 3, 4, 5, 6]);
  });

  test('sizes 0 and 1', () => {
    const none = zeros(0, 0);
    expect(linalg.inv(none).shape).toEqual([0, 0]);
    expect(linalg.solve(none, zeros(0, 2)).shape).toEqual([0, 2]);
    expectClose(linalg.det(none), 1);
    expectClose(linalg.inv(tensor([[4]])), [[0.25]]);
    expect(linalg.cholesky(zeros(0, 3, 3)).shape).toEqual([0, 3, 3]);
    expect(linalg.inv(zeros(0, 3, 3)).shape).toEqual([0, 3, 3]);
    expect(linalg.svd(zeros(3, 0)).U.shape).toEqual([3, 3]);
    expect(linalg.pinv(zeros(3, 0)).shape).toEqual([0, 3]);
    expect(linalg.eigh(none).eigenvectors.shape).toEqual([0, 0]);
    expectClose(linalg.matrixRank(zeros(3, 0)), 0);
    expectClose(linalg.eigh(tensor([[-2]])).eigenvectors, [[1]]);
    expectClose(linalg.matrixExp(none), []);
  });
});
