// Systems of linear equations: solutions, inverses, least squares.
import { ArgumentError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import {
  batchOf,
  commonBatch,
  epsilonOf,
  matrixNode,
  rightSide,
  squareNode,
  turned,
  withBatch,
} from './arguments.ts';
import { firstFailure } from './decompositions.ts';

function sizeOfSquare(node: Node): number {
  return node.shape.at(-1) as number;
}

/** The packed LU decomposition, which a run checks to be of a regular matrix. */
function regularFactors(op: 'inv' | 'solve', a: Node): Node {
  return ops.checkedFactor(ops.luFactor(a), 'lu', op, sizeOfSquare(a));
}

/**
 * The inverses of square matrices [.., n, n]. A singular matrix throws LinAlgError when the result is
 * computed. `solve(A, B)` is faster and more exact than `inv(A).matmul(B)`.
 *
 * @example
 * ```ts
 * inv(tensor([[2, 0], [1, 4]])); // => [[0.5, 0], [-0.125, 0.25]]
 * ```
 */
export function inv(A: Tensor): Tensor {
  const a = squareNode('inv', A);
  return wrap(ops.luInverse(a, regularFactors('inv', a)));
}

/**
 * As `inv`, without throwing: `info` (int32) is 0, or the place (from 1) of the first zero on the
 * diagonal of U; the inverse then holds infinities and NaN.
 */
export function invEx(A: Tensor): { inverse: Tensor; info: Tensor } {
  const a = squareNode('invEx', A);
  const packed = ops.luFactor(a);
  return { inverse: wrap(ops.luInverse(a, packed)), info: wrap(firstFailure(regular(a, packed))) };
}

/** Whether each number on U's diagonal is not zero. */
function regular(a: Node, packed: Node): Node {
  const size = sizeOfSquare(a);
  const [both] = ops.luParts(packed, size, size) as [Node, Node];
  return ops.notEqual(ops.diagonalOf(both), ops.constant(0, a.dtype));
}

export interface SolveOptions {
  /** False: solve X A = B. Default true: A X = B. */
  readonly left?: boolean;
}

/**
 * X with A X = B: A [.., n, n]; B [n], [.., n] with A's batch sizes (vectors), or [.., n, k]. Batches
 * broadcast. A singular matrix throws LinAlgError when the result is computed. Gradients by both.
 *
 * @example
 * ```ts
 * solve(tensor([[3, 1], [1, 2]]), tensor([9, 8])); // => [2, 3]
 * ```
 */
export function solve(A: Tensor, B: Tensor, options: SolveOptions = {}): Tensor {
  const op = 'solve';
  const { left = true } = options;
  const a = squareNode(op, A);
  const { node, finish } = left
    ? rightSide(op, a, B)
    : rightSide(op, turned(a), turnedTensor(op, B));
  const batch = commonBatch(op, a, node);
  const packed = withBatch(regularFactors(op, a), batch, 1);
  const x = ops.luSolve(withBatch(a, batch), withBatch(node, batch), packed, !left);
  return wrap(left ? finish(x) : turned(x));
}

/**
 * As `solve`, without throwing: `info` (int32) is 0, or the place (from 1) of the first zero on the
 * diagonal of U; the result then holds infinities and NaN.
 */
export function solveEx(A: Tensor, B: Tensor): { result: Tensor; info: Tensor } {
  const op = 'solveEx';
  const a = squareNode(op, A);
  const { node, finish } = rightSide(op, a, B);
  const batch = commonBatch(op, a, node);
  const packed = ops.luFactor(a);
  const whole = withBatch(packed, batch, 1);
  const x = ops.luSolve(withBatch(a, batch), withBatch(node, batch), whole, false);
  return { result: wrap(finish(x)), info: wrap(firstFailure(regular(a, packed))) };
}

function turnedTensor(op: string, B: Tensor): Tensor {
  if (B.ndim < 2) {
    throw new ArgumentError('{ left: false } takes matrices [.., k, n], not vectors', { op });
  }
  return B.transpose();
}

export interface TriangularOptions extends SolveOptions {
  /** Whether the upper triangle of A counts, else the lower. */
  readonly upper: boolean;
  /** Take the diagonal as ones, whatever it holds. */
  readonly unitriangular?: boolean;
}

/**
 * X with A X = B (`left: false`: X A = B), where of A [.., n, n] only one triangle is read; B
 * [.., n, k] (or [.., k, n]). Batches broadcast. A zero on the diagonal gives infinities and NaN, as in
 * PyTorch.
 *
 * @example
 * ```ts
 * const A = tensor([[2, 0], [1, 4]]);
 * solveTriangular(A, tensor([[2], [9]]), { upper: false }); // => [[1], [2]]
 * ```
 */
export function solveTriangular(A: Tensor, B: Tensor, options: TriangularOptions): Tensor {
  const op = 'solveTriangular';
  const { upper, left = true, unitriangular = false } = options ?? {};
  if (typeof upper !== 'boolean') {
    throw new ArgumentError('it has to be said which triangle counts', {
      op,
      hint: '{ upper: true } or { upper: false }',
    });
  }
  const given = squareNode(op, A);
  const a = left ? given : turned(given);
  const { node, finish } = rightSide(op, a, left ? B : turnedTensor(op, B));
  const batch = commonBatch(op, a, node);
  const x = ops.triangularSolve(withBatch(a, batch), withBatch(node, batch), {
    upper: upper === left,
    unit: unitriangular,
  });
  return wrap(left ? finish(x) : turned(x));
}

// ---- any rank ---------------------------------------------------------------------------------

export interface ToleranceOptions {
  /** Singular values up to this count as zero. Default 0. */
  readonly atol?: number;
  /** So do those up to this share of the largest. Default: the larger side times epsilon, or 0 with `atol`. */
  readonly rtol?: number;
  /** A is symmetric: eigenvalues are computed in place of singular values. */
  readonly hermitian?: boolean;
}

/** Magnitudes [.., k] below which singular values count as zero, with the axis kept: [.., 1]. */
export function cutoff(op: string, a: Node, values: Node, options: ToleranceOptions): Node {
  const { atol = 0 } = options;
  const [m, n] = ops.matrixSizes(op, a) as [number, number];
  const { rtol = atol > 0 ? 0 : Math.max(m, n) * epsilonOf(a) } = options;
  if (!(atol >= 0) || !(rtol >= 0)) {
    throw new ArgumentError(`tolerances must not be negative, got ${atol} and ${rtol}`, { op });
  }
  const largest = ops.max(values, -1, true);
  const relative = ops.mul(largest, ops.constant(rtol, a.dtype));
  return ops.maximum(relative, ops.constant(atol, a.dtype));
}

/**
 * Moore and Penrose's pseudoinverse [.., n, m] of matrices [.., m, n], of any rank. The gradient is Golub
 * and Pereyra's: right also where singular values are equal.
 *
 * @example
 * ```ts
 * pinv(tensor([[2, 0], [0, 0], [0, 0]])); // => [[0.5, 0, 0], [0, 0, 0]]
 * ```
 */
export function pinv(A: Tensor, options: ToleranceOptions = {}): Tensor {
  const op = 'pinv';
  const a = options.hermitian === true ? squareNode(op, A) : matrixNode(op, A);
  return wrap(pinvNode(op, a, options));
}

function pinvNode(op: string, given: Node, options: ToleranceOptions): Node {
  const [m, n] = ops.matrixSizes(op, given) as [number, number];
  const hermitian = options.hermitian === true;
  const a = hermitian ? ops.mirrorTriangle(given) : given;
  if (m === 0 || n === 0) return ops.full([...batchOf(a), n, m], 0, a.dtype);
  const fixed = ops.detach(a);
  let [left, values, right]: readonly Node[] = [];
  if (hermitian) {
    [values, left] = ops.symmetricEigen(fixed);
    right = left;
  } else [left, values, right] = ops.svd(fixed);
  const magnitudes = ops.abs(values as Node);
  const kept = ops.greater(magnitudes, cutoff(op, a, magnitudes, options));
  const one = ops.constant(1, a.dtype);
  const inverse = ops.div(one, ops.select(kept, values as Node, one));
  const scaled = ops.scaleAxis(
    right as Node,
    ops.select(kept, inverse, ops.constant(0, a.dtype)),
    -1,
  );
  const value = ops.matmul(scaled, turned(left as Node));
  return ops.pseudoInverse(ops.detach(value), a);
}

/** How `lstsq` computes. */
export type LeastSquaresDriver = 'gels' | 'gelsy' | 'gelsd' | 'gelss';

export interface LeastSquares {
  /** [.., n, k], or [.., n] for vectors. */
  readonly solution: Tensor;
  /** Squared lengths [.., k] of the columns of A X - B if m > n, else of no elements. */
  readonly residuals: Tensor;
  /** int32: how many singular values of A count; of no elements with 'gels'. */
  readonly rank: Tensor;
  /** [.., min(m, n)]; of no elements with 'gels'. */
  readonly singularValues: Tensor;
}

/**
 * The X with the smallest |A X - B|: A [.., m, n], B [.., m, k] or vectors [.., m]; of several the one with the
 * smallest |X|. The driver 'gels' is fast and takes A to be of full rank; all others compute singular
 * values and take any A; those up to `rcond` (default: the larger side times epsilon) of the
 * largest count as zero.
 *
 * @example
 * ```ts
 * // The line through three points.
 * const A = tensor([[1, 0], [1, 1], [1, 2]]);
 * lstsq(A, tensor([1, 3, 5])).solution; // => [1.000, 2.000]
 * ```
 */
export function lstsq(
  A: Tensor,
  B: Tensor,
  options: { rcond?: number; driver?: LeastSquaresDriver } = {},
): LeastSquares {
  const op = 'lstsq';
  const { rcond, driver = 'gelsy' } = options;
  if (!['gels', 'gelsy', 'gelsd', 'gelss'].includes(driver)) {
    throw new ArgumentError(`driver must be gels, gelsy, gelsd or gelss, got '${driver}'`, { op });
  }
  const given = matrixNode(op, A);
  const { node, finish } = rightSide(op, given, B);
  const batch = commonBatch(op, given, node);
  const [a, b] = [withBatch(given, batch), withBatch(node, batch)];
  const [m, n] = ops.matrixSizes(op, a) as [number, number];
  const none = (dtype: 'int32' | typeof a.dtype): Tensor => wrap(ops.full([0], 0, dtype));
  const tolerance = rcond === undefined ? {} : { rtol: rcond };
  const byValues = driver !== 'gels';
  const solution = byValues ? ops.matmul(pinvNode(op, a, tolerance), b) : solveFullRank(a, b, m, n);
  const difference = ops.sub(ops.matmul(a, solution), b);
  const residuals = ops.sum(ops.mul(difference, difference), -2);
  const values = byValues ? ops.svd(a)[1] : null;
  return {
    solution: wrap(finish(solution)),
    residuals: m > n ? wrap(finishVector(finish, residuals)) : none(a.dtype),
    rank: values === null ? none('int32') : wrap(rankNode(op, a, values, tolerance)),
    singularValues: values === null ? none(a.dtype) : wrap(values),
  };
}

/** Residuals of vectors have no column axis, those of matrices one entry for each column. */
function finishVector(finish: (node: Node) => Node, residuals: Node): Node {
  const shape = [...residuals.shape.slice(0, -1), 1, residuals.shape.at(-1) as number];
  const asRow = finish(ops.reshape(residuals, shape));
  return asRow.shape.length === shape.length ? residuals : ops.reshape(residuals, asRow.shape);
}

function solveFullRank(a: Node, b: Node, m: number, n: number): Node {
  if (m >= n) {
    const [q, r] = ops.qr(a);
    return ops.triangularSolve(r, ops.matmul(turned(q), b), { upper: true, unit: false });
  }
  const [q, r] = ops.qr(turned(a));
  return ops.matmul(q, ops.triangularSolve(turned(r), b, { upper: false, unit: false }));
}

/** How many singular values count. */
export function rankNode(op: string, a: Node, values: Node, options: ToleranceOptions): Node {
  if (values.shape.at(-1) === 0) return ops.full(batchOf(a), 0, 'int32');
  const kept = ops.greater(values, cutoff(op, a, values, options));
  return ops.sum(castNode(kept, 'int32'), -1);
}
