// Products, powers and functions of matrices.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { listOf, promoteOperands, wrap } from '../tensor/handle.ts';
import { matmulNode } from '../tensor/linear-algebra.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { batchOf, squareNode } from './arguments.ts';
import { inv, solve } from './solving.ts';

/**
 * Square matrices to a whole power: by repeated squaring, of the inverse if it is negative.
 *
 * @example
 * ```ts
 * matrixPower(tensor([[1, 1], [0, 1]]), 5); // => [[1, 5], [0, 1]]
 * ```
 */
export function matrixPower(A: Tensor, n: number): Tensor {
  const op = 'matrixPower';
  const a = squareNode(op, A);
  if (!Number.isSafeInteger(n)) {
    throw new ArgumentError(`the power must be an integer, got ${String(n)}`, { op });
  }
  if (n === 0) return wrap(ops.identity(batchOf(a), a.shape.at(-1) as number, a.dtype));
  let square = n < 0 ? inv(A).node : a;
  let result: Node | null = null;
  for (let left = Math.abs(n); left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) result = result === null ? square : ops.matmul(result, square);
    if (left > 1) square = ops.matmul(square, square);
  }
  return wrap(ops.copy(result as Node));
}

/**
 * The exponential I + A + A²/2 + ... of square matrices [.., n, n], by scaling and squaring.
 *
 * @example
 * ```ts
 * matrixExp(tensor([[0, 1], [0, 0]])); // => [[1, 1], [0, 1]]
 * ```
 */
export function matrixExp(A: Tensor): Tensor {
  return wrap(ops.matrixExponential(squareNode('matrixExp', A)));
}

/**
 * The product of at least two matrices, in the order that needs the fewest multiplications. The first
 * and the last may be vectors.
 *
 * @example
 * ```ts
 * multiDot([tensor([1, 2]), tensor([[1, 0], [0, 2]]), tensor([[3], [4]])]); // => [19]
 * ```
 */
export function multiDot(tensors: readonly Tensor[]): Tensor {
  const op = 'multiDot';
  const list = listOf(op, tensors);
  if (list.length < 2)
    throw new ArgumentError(`takes at least two tensors, got ${list.length}`, { op });
  const nodes = list.map((x, i) => {
    const node = nodeOf(op, x);
    const rank = node.shape.length;
    const end = i === 0 || i === list.length - 1;
    if (rank === 2 || (end && rank === 1)) {
      if (node.dtype === list[0]!.dtype) return node;
      return promoteOperands(op, x, list[0]!)[0];
    }
    throw new ShapeError(`tensor ${i} is ${formatShape(node.shape)}, not a matrix`, { op });
  });
  // Rows and columns of the chain, with vectors as one row or one column.
  const sizes = nodes.map(({ shape }, i) =>
    shape.length === 2 ? shape : i === 0 ? [1, shape[0]] : [shape[0], 1],
  ) as [number, number][];
  const order = cheapestOrder(sizes);
  const multiply = (from: number, to: number): Node => {
    if (from === to) return nodes[from] as Node;
    const middle = order(from, to);
    return matmulNode(op, multiply(from, middle), multiply(middle + 1, to));
  };
  return wrap(multiply(0, nodes.length - 1));
}

/** Where to split a chain of products first: the textbook's dynamic programme. */
function cheapestOrder(
  sizes: readonly (readonly [number, number])[],
): (from: number, to: number) => number {
  const count = sizes.length;
  const cost = sizes.map(() => new Array<number>(count).fill(0));
  const split = sizes.map(() => new Array<number>(count).fill(0));
  for (let length = 1; length < count; length++) {
    for (let from = 0; from + length < count; from++) {
      const to = from + length;
      let best = Infinity;
      for (let middle = from; middle < to; middle++) {
        const own = sizes[from]![0] * sizes[middle]![1] * sizes[to]![1];
        const total = cost[from]![middle]! + cost[middle + 1]![to]! + own;
        if (total >= best) continue;
        best = total;
        split[from]![to] = middle;
      }
      cost[from]![to] = best;
    }
  }
  return (from, to) => split[from]![to]!;
}

/**
 * Sums of products along an axis of two tensors that broadcast.
 *
 * @example
 * ```ts
 * vecdot(tensor([[1, 2], [3, 4]]), tensor([1, 1])); // => [3, 7]
 * ```
 */
export function vecdot(x: Tensor, y: Tensor, axis = -1): Tensor {
  const [a, b] = promoteOperands('vecdot', x, y);
  const product = ops.mul(a, b);
  return wrap(ops.sum(product, normalizeAxis('vecdot', axis, product.shape.length)));
}

/**
 * The inverse of the linear map that `tensordot(A, x, x.ndim)` is: the first `ind` axes of A hold as
 * many elements as the others.
 */
export function tensorinv(A: Tensor, ind = 2): Tensor {
  const op = 'tensorinv';
  checkInteger(op, 'ind', ind, 1);
  const { shape } = nodeOf(op, A);
  const [front, back] = [shape.slice(0, ind), shape.slice(ind)];
  const size = sizeOf(front);
  if (size !== sizeOf(back)) {
    throw new ShapeError(
      `${formatShape(front)} and ${formatShape(back)} differ in size (${size} and ${sizeOf(back)})`,
      { op },
    );
  }
  return inv(A.reshape([size, size])).reshape([...back, ...front]);
}

/** X with `tensordot(A, X, X.ndim) == B`: A [...B's shape, ...X's shape]. */
export function tensorsolve(A: Tensor, B: Tensor): Tensor {
  const op = 'tensorsolve';
  const right = nodeOf(op, B).shape;
  const { shape } = nodeOf(op, A);
  const rest = shape.slice(right.length);
  const size = sizeOf(right);
  if (formatShape(shape.slice(0, right.length)) !== formatShape(right) || sizeOf(rest) !== size) {
    throw new ShapeError(`${formatShape(shape)} is no square system for ${formatShape(right)}`, {
      op,
    });
  }
  return solve(A.reshape([size, size]), B.reshape([size])).reshape(rest);
}

/**
 * Powers 0 to n - 1 of each element [..]: [.., n], n the size of the last axis unless given. As
 * torch.linalg.vander; `tengen.vander` begins with the highest power.
 *
 * @example
 * ```ts
 * vander(tensor([2, 3]), 3); // => [[1, 2, 4], [1, 3, 9]]
 * ```
 */
export function vander(x: Tensor, n?: number): Tensor {
  const op = 'vander';
  const node = floatNode(op, x);
  if (node.shape.length === 0) throw new ShapeError('takes [.., n], got a number', { op });
  const count = checkInteger(op, 'n', n ?? node.shape.at(-1), 1);
  const column = ops.reshape(node, [...node.shape, 1]);
  const parts: Node[] = [ops.full(column.shape, 1, node.dtype)];
  for (let k = 1; k < count; k++) parts.push(ops.mul(parts[k - 1]!, column));
  return wrap(ops.concat(parts, node.shape.length));
}
