// Numbers that say something of a matrix: norms, rank, condition, determinant.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxes, reducedShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { type AxisArgument, type KeepDims, nodeOf } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import { norm as elementNorm, normNode } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { batchOf, matrixNode, squareNode } from './arguments.ts';
import { rankNode, type ToleranceOptions } from './solving.ts';

/** Which norm of a matrix: Frobenius, nuclear, or by p. */
export type MatrixOrder = 'fro' | 'nuc' | 1 | -1 | 2 | -2 | number;

/** A norm over the last two axes, which stay with size 1. */
function matrixNormNode(op: string, x: Node, order: MatrixOrder): Node {
  const rank = x.shape.length;
  const kept = (values: Node): Node => ops.reshape(values, [...values.shape.slice(0, -1), 1, 1]);
  const sums = (axis: number): Node => ops.sum(ops.abs(x), axis, true);
  switch (order) {
    case 'fro':
      return normNode(x, 2, [rank - 2, rank - 1], true);
    case 'nuc':
      return kept(ops.sum(ops.svd(x)[1], -1, true));
    case 2:
      return kept(ops.max(ops.svd(x)[1], -1, true));
    case -2:
      return kept(ops.min(ops.svd(x)[1], -1, true));
    case 1:
      return ops.max(sums(rank - 2), rank - 1, true);
    case -1:
      return ops.min(sums(rank - 2), rank - 1, true);
    case Infinity:
      return ops.max(sums(rank - 1), rank - 2, true);
    case -Infinity:
      return ops.min(sums(rank - 1), rank - 2, true);
    default:
      throw new ArgumentError(
        `a matrix norm is of order fro, nuc, 1, -1, 2, -2, Infinity or -Infinity, got '${String(order)}'`,
        { op },
      );
  }
}

/**
 * A norm of the matrices in two axes: 'fro' (Frobenius), 'nuc' (sum of the singular values), 1 and -1
 * (largest and smallest sum of a column), Infinity and -Infinity (of a row), 2 and -2 (largest and
 * smallest singular value).
 *
 * @example
 * ```ts
 * matrixNorm(tensor([[3, 0], [0, 4]])); // => 5
 * matrixNorm(tensor([[1, -2], [3, 4]]), Infinity); // => 7
 * ```
 */
export function matrixNorm(
  A: Tensor,
  ord: MatrixOrder = 'fro',
  axis: readonly [number, number] = [-2, -1],
  options: KeepDims = {},
): Tensor {
  const op = 'matrixNorm';
  const node = matrixNode(op, A);
  const rank = node.shape.length;
  // Order counts: the first axis is that of the rows.
  const axes = axis.map((one) => normalizeAxes(op, one, rank)[0] as number);
  if (axes.length !== 2 || axes[0] === axes[1]) {
    throw new ArgumentError(`takes two different axes, got [${axis.join(',')}]`, { op });
  }
  const others = Array.from({ length: rank }, (_, i) => i).filter((i) => !axes.includes(i));
  const moved = ops.permute(node, [...others, ...axes]);
  const result = matrixNormNode(op, moved, ord);
  const shape = reducedShape(node.shape, axes, options.keepdims === true);
  return wrap(ops.reshape(result, shape));
}

/**
 * The p-norm of the elements along axes (of all by default), as if they were one vector: `ord` 2 by
 * default, any number, Infinity or -Infinity.
 *
 * @example
 * ```ts
 * vectorNorm(tensor([3, -4])); // => 5
 * vectorNorm(tensor([3, -4]), 1); // => 7
 * ```
 */
export function vectorNorm(
  x: Tensor,
  ord = 2,
  axis?: AxisArgument | null,
  options: KeepDims = {},
): Tensor {
  return elementNorm(x, ord, axis, options);
}

/**
 * A norm of vectors or matrices, by `ord` and `axis`: without either the 2-norm of all elements; of
 * one axis the vector norm; of two axes (or of a matrix, if `ord` is given) the matrix norm.
 */
export function norm(
  x: Tensor,
  ord?: MatrixOrder | null,
  axis?: number | readonly [number, number] | null,
  options: KeepDims = {},
): Tensor {
  const op = 'norm';
  const node = nodeOf(op, x);
  const order = ord ?? undefined;
  if (
    typeof axis === 'number' ||
    (axis === undefined || axis === null ? node.shape.length : 2) === 1
  ) {
    if (typeof order === 'string') {
      throw new ArgumentError(`'${order}' is a norm of matrices`, { op, hint: 'give two axes' });
    }
    return elementNorm(x, order ?? 2, axis as number | undefined, options);
  }
  if (axis !== undefined && axis !== null) {
    const both = axis as readonly [number, number];
    return order === undefined
      ? elementNorm(x, 2, both, options)
      : matrixNorm(x, order, both, options);
  }
  if (order === undefined) return elementNorm(x, 2, null, options);
  if (node.shape.length !== 2) {
    throw new ShapeError(
      `of order ${String(order)} and without axes it takes a vector or a matrix, got ${formatShape(node.shape)}`,
      { op },
    );
  }
  return matrixNorm(x, order, [0, 1], options);
}

// ---- rank and condition -----------------------------------------------------------------------

/**
 * The number (int32) of singular values that are not zero, up to a tolerance.
 *
 * @example
 * ```ts
 * matrixRank(tensor([[1, 2], [2, 4]])); // => 1
 * ```
 */
export function matrixRank(A: Tensor, options: ToleranceOptions = {}): Tensor {
  const op = 'matrixRank';
  const a = options.hermitian === true ? squareNode(op, A) : matrixNode(op, A);
  const values =
    options.hermitian === true
      ? ops.abs(ops.symmetricEigen(ops.mirrorTriangle(a))[0])
      : ops.svd(a)[1];
  return wrap(rankNode(op, a, values, options));
}

/**
 * The condition of matrices: with `p` 2 (or null) the ratio of the largest singular value to the
 * smallest, -2 the reciprocal; else, of square matrices, |A| |A⁻¹| in the matrix norm `p`, Infinity
 * if they are singular.
 *
 * @example
 * ```ts
 * cond(tensor([[2, 0], [0, 0.5]])); // => 4
 * ```
 */
export function cond(A: Tensor, p: MatrixOrder | null = null): Tensor {
  const op = 'cond';
  if (p === null || p === 2 || p === -2) {
    const a = matrixNode(op, A);
    const values = ops.svd(a)[1];
    const last = (values.shape.at(-1) as number) - 1;
    if (last < 0) return wrap(ops.full(batchOf(a), 0, a.dtype));
    const at = (i: number): Node =>
      ops.reshape(ops.narrowAxis(values, values.shape.length - 1, i, 1), batchOf(a));
    return wrap(p === -2 ? ops.div(at(last), at(0)) : ops.div(at(0), at(last)));
  }
  const a = squareNode(op, A);
  const size = a.shape.at(-1) as number;
  if (size === 0) return wrap(ops.full(batchOf(a), 0, a.dtype));
  const packed = ops.luFactor(a);
  const [both] = ops.luParts(packed, size, size) as [Node, Node];
  const zero = ops.constant(0, a.dtype);
  const singular = ops.any(ops.equal(ops.diagonalOf(both), zero), -1);
  const norms = [a, ops.luInverse(a, packed)].map((x) => matrixNormNode(op, x, p)) as [Node, Node];
  const product = ops.reshape(ops.mul(...norms), batchOf(a));
  return wrap(ops.select(singular, ops.constant(Infinity, a.dtype), product));
}

// ---- determinants -----------------------------------------------------------------------------

function determinant(op: string, A: Tensor): readonly [Node, Node, Node] {
  const a = squareNode(op, A);
  const all = ops.luDeterminant(a, ops.luFactor(a));
  const part = (i: number): Node =>
    ops.reshape(ops.narrowAxis(all, all.shape.length - 1, i, 1), batchOf(a));
  return [part(0), part(1), part(2)];
}

/**
 * Determinants of square matrices [.., n, n]. Of a singular matrix the gradient is that of its
 * cofactors.
 *
 * @example
 * ```ts
 * det(tensor([[1, 2], [3, 5]])); // => -1.000
 * ```
 */
export function det(A: Tensor): Tensor {
  return wrap(determinant('det', A)[0]);
}

/**
 * The sign of the determinant (-1, 0 or 1) and the logarithm of its magnitude (-Infinity of a
 * singular matrix), which neither overflow nor underflow.
 */
export function slogdet(A: Tensor): { sign: Tensor; logabsdet: Tensor } {
  const [, sign, logabsdet] = determinant('slogdet', A);
  return { sign: wrap(ops.detach(sign)), logabsdet: wrap(logabsdet) };
}

/**
 * The logarithm of the determinant: -Infinity of 0, NaN where it is negative.
 *
 * @example
 * ```ts
 * logdet(tensor([[2, 0], [0, 3]])); // => 1.792
 * ```
 */
export function logdet(A: Tensor): Tensor {
  const [, sign, logabsdet] = determinant('logdet', A);
  const negative = ops.less(ops.detach(sign), ops.constant(0, sign.dtype));
  return wrap(ops.select(negative, ops.constant(NaN, logabsdet.dtype), logabsdet));
}
