// Index tensors: their dtype and their range. What the host knows is checked on the caller's line;
// what is computed on the device is checked by the run that uses it (transform/promises.ts).
import { isFloat, isInteger, viewTypedArray } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { valueBounds } from '../../graph/bounds.ts';
import type { Node } from '../../graph/node.ts';
import type { Bounds } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import type { Storage } from '../../runtime/storage.ts';
import { nodeOf } from './arguments.ts';
import { castNode } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** Smallest and largest of stored integers, as of one version of their storage. */
interface StoredBounds extends Bounds {
  readonly version: number;
  readonly except: number;
}

const storedBounds = new WeakMap<Storage, StoredBounds>();

/** Checks stored values, of whose bytes a look is enough; each version of a storage once. */
export function checkStored(leaf: Node, range: ops.IndexRange, bytes: () => Uint8Array): void {
  const storage = leaf.storage as Storage;
  const { version } = leaf;
  const { except } = range;
  let known = storedBounds.get(storage);
  if (known?.version !== version || known.except !== except) {
    const { buffer, byteOffset } = bytes();
    const values = viewTypedArray(leaf.dtype, buffer, byteOffset, sizeOf(leaf.shape));
    let [min, max] = [Infinity, -Infinity];
    for (let i = 0; i < values.length; i++) {
      const value = values[i] as number;
      if (value === except) continue;
      if (value < min) min = value;
      if (value > max) max = value;
    }
    known = { version, except, min, max };
    storedBounds.set(storage, known);
  }
  if (known.min <= known.max) ops.checkBounds(known, range);
}

/** Ops whose result has just the values of their operand. */
const SAME_VALUES = new Set(['reshape', 'expand', 'permute', 'flip', 'copy', 'checkedIndex']);

/** The value furthest back that has the same elements as `index`. */
export function indexSource(index: Node): Node {
  let node = index;
  while (node.storage === null) {
    const [operand] = node.inputs;
    const same =
      SAME_VALUES.has(node.op.name) ||
      (node.op.name === 'cast' && operand !== undefined && !isFloat(operand.dtype));
    if (!same || operand === undefined) break;
    node = operand;
  }
  return node;
}

/** The stored value whose elements are those of `index`, or null if it has to be computed. */
export function storedIndex(index: Node): Node | null {
  const source = indexSource(index);
  return source.storage === null ? null : source;
}

/**
 * `index`, promised to be in [lowest, size) or `except`. What the graph proves needs no check.
 *
 * @throws ShapeError if a value that is known already is out of range.
 */
export function rangeNode(
  op: string,
  index: Node,
  size: number,
  { lowest = 0, except = lowest }: { readonly lowest?: number; readonly except?: number } = {},
): Node {
  if (sizeOf(index.shape) === 0) return index;
  const range = ops.promiseRange(op, { lowest, size, except });
  const bounds = valueBounds(index);
  if (bounds !== null && bounds.min >= lowest && bounds.max < size) return index;
  // Of a constant nothing else is possible.
  if (bounds !== null && bounds.min === bounds.max && bounds.min !== except) {
    ops.checkBounds(bounds, range);
  }
  const stored = storedIndex(index);
  if (stored !== null) {
    const { host, version } = stored.storage as Storage;
    if (host !== null && version === stored.version) checkStored(stored, range, () => host);
  }
  return ops.checkedIndex(index, range);
}

/** An index tensor as int32 in [0, size); negative ones count from the end if `wrapNegative`. */
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
  if (options.wrapNegative !== true) return castNode(rangeNode(op, node, size), 'int32');
  const wide = castNode(rangeNode(op, node, size, { lowest: -size }), 'int32');
  const bounds = valueBounds(node);
  return bounds !== null && bounds.min >= 0 ? wide : wrapIndices(wide, size);
}

/** Negative indices counted from the end. */
function wrapIndices(index: Node, size: number): Node {
  const zero = ops.constant(0, 'int32');
  const fromEnd = ops.add(index, ops.constant(size, 'int32'));
  return ops.select(ops.less(index, zero), fromEnd, index);
}
