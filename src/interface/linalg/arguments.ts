// What functions on matrices share: reading operands, and batches that broadcast.
import { ShapeError } from '../../base/errors.ts';
import { broadcastShapes, formatShape, sameShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Matrices [.., m, n] of float32 or float64. Throws ShapeError or DTypeError. */
export function matrixNode(op: string, x: Tensor): Node {
  const node = nodeOf(op, x);
  ops.matrixSizes(op, node);
  return node;
}

/** Square matrices [.., n, n] of float32 or float64. Throws ShapeError or DTypeError. */
export function squareNode(op: string, x: Tensor): Node {
  const node = nodeOf(op, x);
  ops.squareSize(op, node);
  return node;
}

/** Axes before the last two. */
export function batchOf(node: Node): readonly number[] {
  return node.shape.slice(0, -2);
}

/** `node` with these leading sizes before its last `rank` axes. */
export function withBatch(node: Node, batch: Shape, rank = 2): Node {
  const shape = [...batch, ...node.shape.slice(node.shape.length - rank)];
  return sameShape(shape, node.shape) ? node : ops.expand(node, shape);
}

/** Right-hand sides of a system: matrices, or vectors that count as one column. */
export interface RightSide {
  readonly node: Node;
  /** Takes the column axis off a result for vectors. */
  readonly finish: (result: Node) => Node;
}

/**
 * B of a system with A [.., m, n]: [m], [.., m] with A's batch sizes, or [.., m, k].
 */
export function rightSide(op: string, a: Node, given: Tensor): RightSide {
  const b = castNode(nodeOf(op, given), a.dtype);
  const rows = a.shape.at(-2) as number;
  const isVector =
    b.shape.length === 1 ||
    (b.shape.length === a.shape.length - 1 && sameShape(b.shape, [...batchOf(a), rows]));
  const node = isVector ? ops.reshape(b, [...b.shape, 1]) : b;
  if (node.shape.length < 2 || node.shape.at(-2) !== rows) {
    throw new ShapeError(
      `${formatShape(a.shape)} does not fit the right-hand side ${formatShape(b.shape)}`,
      { op, hint: `it needs ${rows} rows` },
    );
  }
  return {
    node,
    finish: (result) => (isVector ? ops.reshape(result, result.shape.slice(0, -1)) : result),
  };
}

/** Common leading sizes of two batches of matrices. */
export function commonBatch(op: string, a: Node, b: Node): readonly number[] {
  return broadcastShapes(op, batchOf(a), batchOf(b));
}

/** The transpose of the last two axes. */
export function turned(node: Node): Node {
  return ops.transpose(node, -2, -1);
}

/** Spacing of numbers at 1. */
export function epsilonOf(node: Node): number {
  return node.dtype === 'float64' ? 2 ** -52 : 2 ** -23;
}
