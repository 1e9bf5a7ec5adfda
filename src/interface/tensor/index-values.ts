// Index tensors: their dtype, and the range check of values that the host knows already.
import { isInteger } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import type { Storage } from '../../runtime/storage.ts';
import { viewTypedArray } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import { nodeOf } from './arguments.ts';
import { castNode } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** Larger ones are not read on the host: the check would cost more than the work. */
const CHECKED_SIZE = 65536;

/** Values that stand on the host already, without computing or copying anything. */
export function knownValues(node: Node): ArrayLike<number> | null {
  const storage = node.storage as Storage | null;
  if (storage === null || storage.host === null || storage.version !== node.version) return null;
  const { host } = storage;
  return viewTypedArray(node.dtype, host.buffer, host.byteOffset, sizeOf(node.shape));
}

/** Throws ShapeError for a known index outside [-size, size). Returns whether any is negative. */
export function checkIndices(
  op: string,
  values: ArrayLike<number>,
  size: number,
  lowest = -size,
): boolean {
  let negative = false;
  for (let i = 0; i < values.length; i++) {
    const index = values[i] as number;
    if (index < lowest || index >= size) {
      throw new ShapeError(`index ${index} is out of range for size ${size}`, {
        op,
        ...(size > 0 ? { hint: `valid indices are ${lowest} to ${size - 1}` } : {}),
      });
    }
    if (index < 0) negative = true;
  }
  return negative;
}

/**
 * An index tensor as int32 in [0, size). Values the host knows are checked; what is computed on
 * the device is clamped by the kernels instead.
 */
export function indexNode(
  op: string,
  index: Tensor,
  size: number,
  options: { wrapNegative?: boolean } = {},
): Node {
  const node = nodeOf(op, index);
  if (!isInteger(node.dtype)) {
    throw new DTypeError(`indices are integers, got ${node.dtype}`, {
      op,
      hint: node.dtype === 'bool' ? 'index with at(mask)' : "cast to 'int32' first",
    });
  }
  const wide = castNode(node, 'int32');
  const wraps = options.wrapNegative === true;
  const known = sizeOf(node.shape) <= CHECKED_SIZE ? knownValues(node) : null;
  const mayBeNegative =
    known === null ? !node.dtype.startsWith('u') : checkIndices(op, known, size, wraps ? -size : 0);
  return wraps && mayBeNegative ? wrapIndices(wide, size) : wide;
}

/** Negative indices counted from the end. */
export function wrapIndices(index: Node, size: number): Node {
  const zero = ops.constant(0, 'int32');
  const fromEnd = ops.add(index, ops.constant(size, 'int32'));
  return ops.select(ops.less(index, zero), fromEnd, index);
}
