// Products of vectors, matrices and batches of them.
import { type DType, isFloat, promote } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, normalizeAxis, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from './arguments.ts';
import { castNode, numberNode, wrap } from './handle.ts';
import { floatOperands } from './arithmetic.ts';
import { normNode } from './reductions.ts';
import { diagonalNode } from './shaping.ts';
import type { Tensor } from './tensor.ts';

/** Operands of a product in one dtype: small integers multiply in int32. */
export function productOperands(op: string, a: Tensor, b: Tensor): [Node, Node] {
  const [x, y] = [nodeOf(op, a), nodeOf(op, b)];
  const common = promote(x.dtype, y.dtype);
  const dtype: DType = isFloat(common) ? common : 'int32';
  return [castNode(x, dtype), castNode(y, dtype)];
}

function checkRank(op: string, node: Node, rank: number, what: string): Node {
  if (node.shape.length !== rank) {
    throw new ShapeError(`${what} must have ${rank} dimension(s), got ${formatShape(node.shape)}`, {
      op,
    });
  }
  return node;
}

/** Throws with both shapes unless the inner sizes agree. */
function checkInner(op: string, a: Node, b: Node): void {
  const inner = a.shape[a.shape.length - 1];
  const other = b.shape[Math.max(b.shape.length - 2, 0)];
  if (inner !== other) {
    throw new ShapeError(
      `inner sizes differ, ${formatShape(a.shape)} @ ${formatShape(b.shape)} (${inner} vs ${other})`,
      { op, hint: 'transpose the second argument?' },
    );
  }
}

/** Matrix product of nodes by NumPy's rules: vectors are promoted, batches broadcast. */
export function matmulNode(op: string, a: Node, b: Node): Node {
  const [rankA, rankB] = [a.shape.length, b.shape.length];
  if (rankA === 0 || rankB === 0) {
    throw new ShapeError(
      `${formatShape(a.shape)} @ ${formatShape(b.shape)}: a number is no matrix`,
      {
        op,
        hint: 'use mul()',
      },
    );
  }
  checkInner(op, a, b);
  if (rankA === 2 && rankB === 2) return ops.matmul(a, b);
  const left = rankA === 1 ? ops.reshape(a, [1, a.shape[0] as number]) : a;
  const right = rankB === 1 ? ops.reshape(b, [b.shape[0] as number, 1]) : b;
  const product = batchedProduct(op, left, right);
  const shape = [...product.shape];
  if (rankB === 1) shape.pop();
  if (rankA === 1) shape.splice(shape.length - (rankB === 1 ? 1 : 2), 1);
  return ops.reshape(product, shape);
}

function batchedProduct(op: string, a: Node, b: Node): Node {
  const [m, k] = a.shape.slice(-2) as [number, number];
  const n = b.shape[b.shape.length - 1] as number;
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  if (batchB.length === 0) {
    // One matrix on the right: the batch is just more rows.
    const rows = ops.reshape(a, [sizeOf(batchA) * m, k]);
    return ops.reshape(ops.matmul(rows, b), [...batchA, m, n]);
  }
  const batch = broadcastShapes(op, batchA, batchB);
  const left = ops.expand(a, [...batch, m, k]);
  const right = ops.expand(b, [...batch, k, n]);
  return ops.matmul(left, right);
}

/**
 * Matrix product. Vectors count as a row on the left and a column on the right and lose that axis
 * again; leading axes are batches and broadcast. Throws ShapeError if inner sizes differ.
 *
 * @example
 * ```ts
 * matmul(tensor([[1, 2], [3, 4]]), tensor([1, 1])); // => [3, 7]
 * ```
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('matmul', a, b);
  return wrap(matmulNode('matmul', x, y));
}

/** Product of two matrices. */
export function mm(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('mm', a, b);
  checkRank('mm', x, 2, 'the first operand');
  checkRank('mm', y, 2, 'the second operand');
  return wrap(matmulNode('mm', x, y));
}

/** Products of two equally long batches of matrices. */
export function bmm(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('bmm', a, b);
  checkRank('bmm', x, 3, 'the first operand');
  checkRank('bmm', y, 3, 'the second operand');
  if (x.shape[0] !== y.shape[0]) {
    throw new ShapeError(`batch sizes differ, ${formatShape(x.shape)} @ ${formatShape(y.shape)}`, {
      op: 'bmm',
      hint: 'matmul() broadcasts batches',
    });
  }
  return wrap(matmulNode('bmm', x, y));
}

/** Product of a matrix and a vector. */
export function mv(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('mv', a, b);
  checkRank('mv', x, 2, 'the matrix');
  checkRank('mv', y, 1, 'the vector');
  return wrap(matmulNode('mv', x, y));
}

/** Sum of the products of two vectors. */
export function dot(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('dot', a, b);
  checkRank('dot', x, 1, 'the first operand');
  checkRank('dot', y, 1, 'the second operand');
  checkInner('dot', x, y);
  return wrap(ops.sum(ops.mul(x, y)));
}

/** All products of the elements of two vectors. */
export function outer(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('outer', a, b);
  checkRank('outer', x, 1, 'the first operand');
  checkRank('outer', y, 1, 'the second operand');
  return wrap(ops.mul(ops.reshape(x, [x.shape[0] as number, 1]), y));
}

export interface ProductScales {
  /** Factor of the first operand; default 1. With 0 it is not used at all. */
  readonly beta?: number;
  /** Factor of the product; default 1. */
  readonly alpha?: number;
}

function scaleNode(node: Node, factor: number): Node {
  return factor === 1 ? node : ops.mul(node, numberNode(factor, node.dtype));
}

function addProduct(op: string, input: Tensor, product: Node, scales: ProductScales): Tensor {
  const { alpha = 1, beta = 1 } = scales;
  const scaled = scaleNode(product, alpha);
  const start = castNode(nodeOf(op, input), product.dtype);
  if (beta === 0) return wrap(scaled);
  const whole = ops.expand(start, product.shape);
  return wrap(ops.add(scaleNode(whole, beta), scaled));
}

/** `beta * input + alpha * (a @ b)` of matrices. */
export function addmm(input: Tensor, a: Tensor, b: Tensor, scales: ProductScales = {}): Tensor {
  const [x, y] = productOperands('addmm', a, b);
  checkRank('addmm', x, 2, 'the first matrix');
  checkRank('addmm', y, 2, 'the second matrix');
  return addProduct('addmm', input, matmulNode('addmm', x, y), scales);
}

/** `beta * input + alpha * (a @ b)` of a matrix and a vector. */
export function addmv(input: Tensor, a: Tensor, b: Tensor, scales: ProductScales = {}): Tensor {
  const [x, y] = productOperands('addmv', a, b);
  checkRank('addmv', x, 2, 'the matrix');
  checkRank('addmv', y, 1, 'the vector');
  return addProduct('addmv', input, matmulNode('addmv', x, y), scales);
}

/** `beta * input + alpha * (a @ b)` of batches of matrices. */
export function baddbmm(input: Tensor, a: Tensor, b: Tensor, scales: ProductScales = {}): Tensor {
  const [x, y] = productOperands('baddbmm', a, b);
  checkRank('baddbmm', x, 3, 'the first operand');
  checkRank('baddbmm', y, 3, 'the second operand');
  return addProduct('baddbmm', input, matmulNode('baddbmm', x, y), scales);
}

/**
 * Sums products over axes: over the last `axes` of `a` with the first of `b`, or over two lists.
 */
export function tensordot(
  a: Tensor,
  b: Tensor,
  axes: number | readonly [readonly number[], readonly number[]] = 2,
): Tensor {
  const [x, y] = productOperands('tensordot', a, b);
  const range = (from: number, count: number): number[] =>
    Array.from({ length: count }, (_, i) => from + i);
  const [left, right] =
    typeof axes === 'number'
      ? [range(x.shape.length - axes, axes), range(0, axes)]
      : [
          axes[0].map((axis) => normalizeAxis('tensordot', axis, x.shape.length)),
          axes[1].map((axis) => normalizeAxis('tensordot', axis, y.shape.length)),
        ];
  const sizes = (node: Node, list: readonly number[]): number[] =>
    list.map((axis) => node.shape[axis] as number);
  if (left.length !== right.length || sizes(x, left).join() !== sizes(y, right).join()) {
    throw new ShapeError(
      `axes [${left.join(',')}] of ${formatShape(x.shape)} do not match [${right.join(',')}] of ${formatShape(y.shape)}`,
      { op: 'tensordot' },
    );
  }
  const rest = (node: Node, list: readonly number[]): number[] =>
    range(0, node.shape.length).filter((axis) => !list.includes(axis));
  const [restX, restY] = [rest(x, left), rest(y, right)];
  const inner = sizeOf(sizes(x, left));
  const rows = ops.reshape(ops.permute(x, [...restX, ...left]), [sizeOf(sizes(x, restX)), inner]);
  const columns = ops.reshape(ops.permute(y, [...right, ...restY]), [
    inner,
    sizeOf(sizes(y, restY)),
  ]);
  return wrap(ops.reshape(ops.matmul(rows, columns), [...sizes(x, restX), ...sizes(y, restY)]));
}

/** Kronecker product: every element of `a` times the whole of `b`. */
export function kron(a: Tensor, b: Tensor): Tensor {
  const [x, y] = productOperands('kron', a, b);
  const rank = Math.max(x.shape.length, y.shape.length);
  const aligned = (node: Node): number[] => [
    ...new Array<number>(rank - node.shape.length).fill(1),
    ...node.shape,
  ];
  const [sizesX, sizesY] = [aligned(x), aligned(y)];
  const left = ops.reshape(
    x,
    sizesX.flatMap((size) => [size, 1]),
  );
  const right = ops.reshape(
    y,
    sizesY.flatMap((size) => [1, size]),
  );
  const shape = sizesX.map((size, axis) => size * (sizesY[axis] as number));
  return wrap(ops.reshape(ops.mul(left, right), shape));
}

/** Sum of the diagonal of a matrix. */
export function trace(x: Tensor): Tensor {
  const node = checkRank('trace', nodeOf('trace', x), 2, 'the operand');
  return wrap(ops.sum(diagonalNode('trace', node, {})));
}

/** Cross product of vectors of 3 along an axis (the last by default). */
export function cross(a: Tensor, b: Tensor, axis = -1): Tensor {
  const [x0, y0] = productOperands('cross', a, b);
  const shape = broadcastShapes('cross', x0.shape, y0.shape);
  const [x, y] = [ops.expand(x0, shape), ops.expand(y0, shape)];
  const normal = normalizeAxis('cross', axis, shape.length);
  if (shape[normal] !== 3) {
    throw new ShapeError(`axis ${axis} of ${formatShape(shape)} is not of size 3`, { op: 'cross' });
  }
  const part = (node: Node, index: number): Node => ops.narrowAxis(node, normal, index % 3, 1);
  const component = (index: number): Node =>
    ops.sub(
      ops.mul(part(x, index + 1), part(y, index + 2)),
      ops.mul(part(x, index + 2), part(y, index + 1)),
    );
  return wrap(ops.concat([component(0), component(1), component(2)], normal));
}

/** Distances [.., p, r] between the rows of [.., p, m] and [.., r, m], by the p-norm. */
export function cdist(a: Tensor, b: Tensor, options: { p?: number } = {}): Tensor {
  const [x, y] = floatOperands('cdist', a, b);
  const { p = 2 } = options;
  if (x.shape.length < 2 || y.shape.length < 2 || x.shape.at(-1) !== y.shape.at(-1)) {
    throw new ShapeError(
      `takes rows of equal length, got ${formatShape(x.shape)} and ${formatShape(y.shape)}`,
      { op: 'cdist' },
    );
  }
  if (!(p >= 0)) throw new ArgumentError(`p must not be negative, got ${p}`, { op: 'cdist' });
  const spread = (node: Node, at: number): Node => {
    const place = node.shape.length - at;
    return ops.reshape(node, [...node.shape.slice(0, place), 1, ...node.shape.slice(place)]);
  };
  const difference = ops.sub(spread(x, 1), spread(y, 2));
  return wrap(normNode(difference, p, [difference.shape.length - 1], false));
}

/** `x1ᵀ W[k] x2 (+ bias)`: weight [out, in1, in2]. */
export function bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  const [a, b] = floatOperands('bilinear', x1, x2);
  const w = castNode(checkRank('bilinear', nodeOf('bilinear', weight), 3, 'the weight'), a.dtype);
  const [out, in1, in2] = w.shape as readonly [number, number, number];
  if (a.shape.at(-1) !== in1 || b.shape.at(-1) !== in2) {
    throw new ShapeError(
      `weight ${formatShape(w.shape)} takes rows of ${in1} and ${in2}, got ${formatShape(a.shape)} and ${formatShape(b.shape)}`,
      { op: 'bilinear' },
    );
  }
  const outer = a.shape.slice(0, -1);
  const rows = sizeOf(outer);
  const left = ops.reshape(a, [rows, in1]);
  const right = ops.reshape(b, [rows, 1, in2]);
  const matrix = ops.reshape(ops.permute(w, [1, 0, 2]), [in1, out * in2]);
  const middle = ops.reshape(ops.matmul(left, matrix), [rows, out, in2]);
  const result = ops.reshape(ops.sum(ops.mul(middle, right), -1), [...outer, out]);
  if (bias === undefined || bias === null) return wrap(result);
  return wrap(ops.add(result, castNode(nodeOf('bilinear', bias), a.dtype)));
}
