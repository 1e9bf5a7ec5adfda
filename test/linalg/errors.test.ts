// What tengen/linalg refuses: at the call what shapes tell, when it is computed what values tell.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  DTypeError,
  nn,
  optim,
  ShapeError,
  tensor,
  type Tensor,
  trace,
  zeros,
} from 'tengen';
import * as linalg from 'tengen/linalg';
import 'tengen/interp';
import { A, expectClose, f64, singular } from './support.ts';

describe('at the call', () => {
  test('shapes', () => {
    expect(() => linalg.inv(zeros(2, 3))).toThrow(ShapeError);
    expect(() => linalg.inv(zeros(2, 3))).toThrow('takes square matrices, got [2,3]');
    expect(() => linalg.det(zeros(3))).toThrow('takes matrices [.., m, n], got [3]');
    expect(() => linalg.solve(zeros(3, 3), zeros(2, 1))).toThrow('it needs 3 rows');
    expect(() => linalg.solve(zeros(2, 3, 3), zeros(4, 3, 1))).toThrow(ShapeError);
    expect(() => linalg.cholesky(zeros(3, 2))).toThrow('cholesky');
    expect(() => linalg.eigh(zeros(3, 2))).toThrow(ShapeError);
    expect(() => linalg.multiDot([zeros(2, 3)])).toThrow(ArgumentError);
    expect(() => linalg.multiDot([zeros(2, 3), zeros(2, 3)])).toThrow('inner sizes differ');
    expect(() => linalg.tensorinv(zeros(2, 3, 4))).toThrow('differ in size');
    expect(() => linalg.luSolve(linalg.luFactor(zeros(2, 3)), zeros(2, 1))).toThrow(ShapeError);
  });

  test('dtypes', () => {
    expect(() =>
      linalg.inv(
        tensor(
          [
            [1, 2],
            [3, 4],
          ],
          { dtype: 'int32' },
        ),
      ),
    ).toThrow(DTypeError);
    expect(() => linalg.svd(zeros([2, 2], { dtype: 'float16' }))).toThrow(
      "takes float32 or float64, not float16. hint: cast to 'float32' first",
    );
  });

  test('arguments', () => {
    expect(() => linalg.qr(zeros(2, 2), 'full' as 'r')).toThrow(ArgumentError);
    expect(() => linalg.eigh(zeros(2, 2), { UPLO: 'X' as 'L' })).toThrow('UPLO must be L or U');
    expect(() => linalg.matrixNorm(zeros(2, 2), 3)).toThrow('a matrix norm is of order');
    expect(() => linalg.matrixNorm(zeros(2, 2), 'fro', [0, -2])).toThrow('two different axes');
    expect(() => linalg.norm(zeros(3), 'fro')).toThrow('norm of matrices');
    expect(() => linalg.matrixPower(A(), 0.5)).toThrow('must be an integer');
    expect(() => linalg.pinv(A(), { rtol: -1 })).toThrow('must not be negative');
    expect(() => linalg.lstsq(A(), A(), { driver: 'lu' as 'gels' })).toThrow('driver must be');
    expect(() => linalg.solveTriangular(A(), A(), {} as { upper: boolean })).toThrow(
      'which triangle',
    );
    expect(() => linalg.inv([[1]] as never)).toThrow('expected a tensor');
  });
});

describe('when it is computed', () => {
  test('singular matrices', async () => {
    const x = linalg.inv(singular());
    expect(() => x.arraySync()).toThrow(linalg.LinAlgError);
    expect(() => x.arraySync()).toThrow(
      'inv: a matrix of [3,3] is singular: elimination meets a pivot of 0. hint: pinv() and lstsq() take any matrix',
    );
    await expect(linalg.solve(singular().to('float32'), f64([1, 2, 3])).data()).rejects.toThrow(
      'solve: a matrix of [3,3] is singular',
    );
    // One of a batch is enough.
    const batch = f64([
      [
        [1, 0],
        [0, 1],
      ],
      [
        [1, 1],
        [1, 1],
      ],
    ]);
    expect(() => linalg.inv(batch).arraySync()).toThrow('a matrix of [2,2,2] is singular');
    const { inverse, info } = linalg.invEx(batch);
    expectClose(info, [0, 2]);
    expectClose(inverse.select(0, 0), [
      [1, 0],
      [0, 1],
    ]);
  });

  test('matrices that are not positive definite', () => {
    const x = linalg.cholesky(
      f64([
        [1, 2],
        [2, 1],
      ]),
    );
    expect(() => x.arraySync()).toThrow('cholesky: a matrix of [2,2] is not positive definite');
    expect(() =>
      linalg
        .cholesky(
          f64([
            [NaN, 0],
            [0, 1],
          ]),
        )
        .arraySync(),
    ).toThrow(linalg.LinAlgError);
  });

  test('NaN is no singularity: it goes through', () => {
    expectClose(linalg.inv(f64([[NaN]])), [[NaN]]);
  });

  test('a step that fails changes no parameter', () => {
    const weight = new nn.Parameter(singular());
    const optimizer = new optim.SGD([weight], { lr: 0.1 });
    linalg.inv(weight).sum().backward();
    expect(() => optimizer.step()).toThrow('singular');
    expectClose(weight, singular().arraySync());
  });
});

describe('in a traced function', () => {
  test('promises are kept track of, with and without the host', () => {
    for (const withoutHost of [false, true]) {
      const fn = trace((a: Tensor) => linalg.inv(a).mul(2), { withoutHost });
      expectClose(fn(f64([[2]])), [[1]]);
      expectClose(fn(f64([[4]])), [[0.5]]);
      expect(() => fn(f64([[0]])).arraySync()).toThrow('is singular');
      expectClose(fn(f64([[8]])), [[0.25]]);
    }
  });
});
