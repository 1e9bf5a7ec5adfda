// Matrices as products of simpler ones.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  batchOf,
  commonBatch,
  matrixNode,
  rightSide,
  squareNode,
  turned,
  withBatch,
} from './arguments.ts';

// ---- Cholesky ---------------------------------------------------------------------------------

export interface CholeskyOptions {
  /** Read the upper triangle, and return the upper factor Lᵀ. */
  readonly upper?: boolean;
}

function choleskyNode(a: Node, upper: boolean): Node {
  return ops.cholesky(ops.mirrorTriangle(a, upper));
}

/**
 * L [.., n, n] with L Lᵀ = A, for symmetric positive definite A [.., n, n], of which the lower
 * triangle is read. Others throw LinAlgError when the result is computed.
 *
 * @example
 * ```ts
 * cholesky(tensor([[4, 2], [2, 5]])); // => [[2, 0], [1, 2]]
 * ```
 */
export function cholesky(A: Tensor, options: CholeskyOptions = {}): Tensor {
  const upper = options.upper === true;
  const a = squareNode('cholesky', A);
  const factor = ops.checkedFactor(
    choleskyNode(a, upper),
    'cholesky',
    'cholesky',
    a.shape.at(-1) as number,
  );
  return wrap(upper ? turned(factor) : factor);
}

/**
 * As `cholesky`, without throwing: `info` (int32) is 0, or the order of the leading part that is not
 * positive definite; L is NaN from there on.
 */
export function choleskyEx(A: Tensor, options: CholeskyOptions = {}): { L: Tensor; info: Tensor } {
  const upper = options.upper === true;
  const factor = choleskyNode(squareNode('choleskyEx', A), upper);
  const diagonal = ops.diagonalOf(factor);
  const good = ops.greater(diagonal, ops.constant(0, factor.dtype));
  return { L: wrap(upper ? turned(factor) : factor), info: wrap(firstFailure(good)) };
}

/** Place, from 1, of the first false along the last axis, or 0. */
export function firstFailure(good: Node): Node {
  if (good.shape.at(-1) === 0) return ops.full(good.shape.slice(0, -1), 0, 'int32');
  const bad = castNode(ops.logicalNot(good), 'int32');
  const place = ops.add(ops.argmax(bad, -1), ops.constant(1, 'int32'));
  return ops.select(ops.all(good, -1), ops.constant(0, 'int32'), place);
}

/**
 * X with A X = B, from the Cholesky factor L of A (`upper`: from Lᵀ). B [.., n, k].
 *
 * @example
 * ```ts
 * const A = tensor([[4, 2], [2, 5]]);
 * choleskySolve(tensor([[8], [12]]), cholesky(A)); // => [[1], [2]]
 * ```
 */
export function choleskySolve(B: Tensor, L: Tensor, options: CholeskyOptions = {}): Tensor {
  const op = 'choleskySolve';
  const upper = options.upper === true;
  const given = squareNode(op, L);
  const { node: b, finish } = rightSide(op, given, B);
  const batch = commonBatch(op, given, b);
  const factor = withBatch(given, batch);
  const lower = upper ? turned(factor) : factor;
  const middle = ops.triangularSolve(lower, withBatch(b, batch), { upper: false, unit: false });
  return wrap(finish(ops.triangularSolve(turned(lower), middle, { upper: true, unit: false })));
}

// ---- LU ---------------------------------------------------------------------------------------

/**
 * P [.., m, m], L [.., m, k] and U [.., k, n] with P L U = A [.., m, n], k the smaller of m and n: a
 * permutation, ones and what is below the diagonal, and what is on it and above.
 *
 * @example
 * ```ts
 * const { P, L, U } = lu(tensor([[1, 2], [4, 4]]));
 * P; // => [[0, 1], [1, 0]]
 * L; // => [[1, 0], [0.25, 1]]
 * U; // => [[4, 4], [0, 1]]
 * ```
 */
export function lu(A: Tensor): { P: Tensor; L: Tensor; U: Tensor } {
  const a = matrixNode('lu', A);
  const [m, n] = ops.matrixSizes('lu', a) as [number, number];
  const k = Math.min(m, n);
  const [both, order] = ops.luParts(ops.luFactor(a), m, n) as [Node, Node];
  const rank = a.shape.length;
  const batch = batchOf(a);
  const lower = ops.lowerPart(ops.narrowAxis(both, rank - 1, 0, k), true);
  const diagonal = ops.narrowAxis(ops.identity(batch, m, a.dtype), rank - 1, 0, k);
  const rows = ops.cast(ops.reshape(order, [...batch, 1, m]), 'int32');
  const places = ops.equal(ops.iota([m, 1], 0, 'int32'), ops.expand(rows, [...batch, 1, m]));
  return {
    P: wrap(castNode(places, a.dtype)),
    L: wrap(ops.add(lower, diagonal)),
    U: wrap(ops.upperPart(ops.narrowAxis(both, rank - 2, 0, k))),
  };
}

/** What `luFactor` gives and `luSolve` takes. */
export interface LUFactors {
  /** L below the diagonal, without its ones, and U on it and above: [.., n, n]. */
  readonly LU: Tensor;
  /** Row i of L U is row `permutation[i]` of the matrix: int32 [.., n]. */
  readonly permutation: Tensor;
}

/** The decomposition of matrices [.., m, n] in compact form. Singular ones have a zero on U's diagonal. */
export function luFactor(A: Tensor): LUFactors {
  const a = matrixNode('luFactor', A);
  const [m, n] = ops.matrixSizes('luFactor', a) as [number, number];
  const [both, order] = ops.luParts(ops.luFactor(a), m, n) as [Node, Node];
  return { LU: wrap(both), permutation: wrap(ops.cast(order, 'int32')) };
}

/**
 * X with A X = B, B [.., n, k], from what `luFactor` gives for A.
 *
 * @example
 * ```ts
 * luSolve(luFactor(tensor([[0, 2], [1, 1]])), tensor([[4], [3]])); // => [[1], [2]]
 * ```
 */
export function luSolve(factors: LUFactors, B: Tensor): Tensor {
  const op = 'luSolve';
  const given = squareNode(op, factors.LU);
  const size = given.shape.at(-1) as number;
  const rows = indexNode(op, factors.permutation, size);
  if (formatShape(rows.shape) !== formatShape(given.shape.slice(0, -1))) {
    throw new ShapeError(
      `the permutation ${formatShape(rows.shape)} does not fit ${formatShape(given.shape)}`,
      { op },
    );
  }
  const { node: b, finish } = rightSide(op, given, B);
  const batch = commonBatch(op, given, b);
  const both = withBatch(given, batch);
  const order = ops.expand(rows, [...batch, size]);
  const inOrder = ops.takeRows(withBatch(b, batch), order);
  const middle = ops.triangularSolve(both, inOrder, { upper: false, unit: true });
  return wrap(finish(ops.triangularSolve(both, middle, { upper: true, unit: false })));
}

// ---- QR ---------------------------------------------------------------------------------------

export type QRMode = 'reduced' | 'complete' | 'r';

/**
 * Q and R with Q R = A [.., m, n]: orthonormal columns and an upper triangle. `'reduced'` gives as
 * many columns as the smaller of m and n, `'complete'` a square Q (whose gradient is not defined if
 * m > n), `'r'` an empty Q. Signs are LAPACK's: R's diagonal may be negative.
 *
 * @example
 * ```ts
 * const { Q, R } = qr(tensor([[3, 1], [4, 2]]));
 * R; // => [[-5.000, -2.200], [0, 0.400]]
 * Q.matmul(R); // => [[3.000, 1.000], [4.000, 2.000]]
 * ```
 */
export function qr(A: Tensor, mode: QRMode = 'reduced'): { Q: Tensor; R: Tensor } {
  if (mode !== 'reduced' && mode !== 'complete' && mode !== 'r') {
    throw new ArgumentError(`mode must be reduced, complete or r, got '${String(mode)}'`, {
      op: 'qr',
    });
  }
  const a = matrixNode('qr', A);
  const [q, r] = ops.qr(a, mode === 'complete');
  return { Q: wrap(mode === 'r' ? ops.full([0], 0, a.dtype) : q), R: wrap(r) };
}

// ---- eigenvalues and singular values ----------------------------------------------------------

export interface TriangleOptions {
  /** Which triangle is read: 'L' (default) or 'U'. */
  readonly UPLO?: 'L' | 'U';
}

function symmetric(op: string, A: Tensor, { UPLO = 'L' }: TriangleOptions): Node {
  if (UPLO !== 'L' && UPLO !== 'U') {
    throw new ArgumentError(`UPLO must be L or U, got '${String(UPLO)}'`, { op });
  }
  return ops.mirrorTriangle(squareNode(op, A), UPLO === 'U');
}

/**
 * Eigenvalues [.., n], ascending, and eigenvectors [.., n, n] as columns, of symmetric A [.., n, n],
 * of which one triangle is read. Of a vector the first component with at least 0.6 of the largest
 * magnitude is positive. NaN where A is not finite. The gradient through vectors is defined where
 * eigenvalues differ; between equal ones nothing flows.
 *
 * @example
 * ```ts
 * const { eigenvalues, eigenvectors } = eigh(tensor([[2, 1], [1, 2]]));
 * eigenvalues; // => [1.000, 3.000]
 * eigenvectors; // => [[0.707, 0.707], [-0.707, 0.707]]
 * ```
 */
export function eigh(
  A: Tensor,
  options: TriangleOptions = {},
): { eigenvalues: Tensor; eigenvectors: Tensor } {
  const [values, vectors] = ops.symmetricEigen(symmetric('eigh', A, options));
  return { eigenvalues: wrap(values), eigenvectors: wrap(vectors) };
}

/** Eigenvalues of symmetric matrices, as `eigh`; their gradient is always defined. */
export function eigvalsh(A: Tensor, options: TriangleOptions = {}): Tensor {
  return wrap(ops.symmetricEigen(symmetric('eigvalsh', A, options))[0]);
}

/** Two parts as complex numbers [.., 2]: as `tengen/fft` has them. */
function paired({ re, im }: { readonly re: Node; readonly im: Node }): Tensor {
  const column = (x: Node): Node => ops.reshape(x, [...x.shape, 1]);
  return wrap(ops.concat([column(re), column(im)], re.shape.length));
}

/**
 * Eigenvalues [.., n, 2] and eigenvectors [.., n, n, 2], as columns of length 1, of any real A
 * [.., n, n]. They are complex: the last axis holds real and imaginary parts, as in `tengen/fft`. In
 * order of real parts; of a conjugate pair the one with the positive imaginary part is first. Of a
 * vector the first component with at least 0.6 of the largest magnitude is real and positive. NaN
 * where A is not finite. The gradient is defined where eigenvalues differ; between equal ones nothing
 * flows.
 *
 * @example
 * ```ts
 * const { eigenvalues, eigenvectors } = eig(tensor([[0, -1], [1, 0]]));
 * eigenvalues; // => [[0.000, 1.000], [0.000, -1.000]]
 * eigenvectors.shape; // => [2, 2, 2]
 * ```
 */
export function eig(A: Tensor): { eigenvalues: Tensor; eigenvectors: Tensor } {
  const [values, vectors] = ops.generalEigen(squareNode('eig', A));
  return { eigenvalues: paired(values), eigenvectors: paired(vectors) };
}

/**
 * Eigenvalues [.., n, 2] of any real matrices, as `eig`.
 *
 * @example
 * ```ts
 * eigvals(tensor([[2, 1], [0, 1]])); // => [[1, 0], [2, 0]]
 * ```
 */
export function eigvals(A: Tensor): Tensor {
  return paired(ops.generalEigen(squareNode('eigvals', A))[0]);
}

/**
 * U, S and Vh with U diag(S) Vh = A [.., m, n]; S [.., k] in descending order, k the smaller of m and
 * n. With `fullMatrices` (the default, as PyTorch's) U is [.., m, m] and Vh [.., n, n]; columns beyond k
 * carry no gradient. Without, [.., m, k] and [.., k, n]. Signs: of each column of U (if m < n: of V) the first
 * component with at least 0.6 of the largest magnitude is positive. NaN where A is not finite. The
 * gradient through U and V is defined where singular values differ and are not zero; what is
 * undefined is left out.
 *
 * @example
 * ```ts
 * svd(tensor([[0, 2], [1, 0]])).S; // => [2, 1]
 * ```
 */
export function svd(
  A: Tensor,
  options: { fullMatrices?: boolean } = {},
): { U: Tensor; S: Tensor; Vh: Tensor } {
  const { fullMatrices = true } = options;
  const a = matrixNode('svd', A);
  const [u, s, v] = ops.svd(a);
  const whole = (x: Node): Node => (fullMatrices ? completed(x) : x);
  return { U: wrap(whole(u)), S: wrap(s), Vh: wrap(turned(whole(v))) };
}

/** Orthonormal columns with more of their kind, as many as rows. */
function completed(x: Node): Node {
  const [rows, columns] = ops.matrixSizes('svd', x) as [number, number];
  if (rows === columns) return x;
  const rank = x.shape.length;
  const basis = ops.qr(ops.detach(x), true)[0];
  return ops.concat([x, ops.narrowAxis(basis, rank - 1, columns, rows - columns)], rank - 1);
}

/** Singular values in descending order; their gradient is always defined. */
export function svdvals(A: Tensor): Tensor {
  return wrap(ops.svd(matrixNode('svdvals', A))[1]);
}
