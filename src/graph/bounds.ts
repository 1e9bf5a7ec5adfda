// Bounds of integers that follow from the graph alone: such indices need no check when it runs.
import { byteSize, type DType, isFloat } from '../base/dtype.ts';
import type { Node } from './node.ts';
import { type Bounds, unionOf } from './op.ts';

/** Nodes looked through at most, one below the other. */
const DEPTH = 12;

/** Bounds of what `dtype` stores, or null for floats, which have NaN. */
function storedBounds(dtype: DType): Bounds | null {
  if (isFloat(dtype)) return null;
  if (dtype === 'bool') return { min: 0, max: 1 };
  const values = 2 ** (8 * byteSize(dtype));
  return dtype.startsWith('u')
    ? { min: 0, max: values - 1 }
    : { min: -values / 2, max: values / 2 - 1 };
}

/** `bounds` of integers put into `dtype`, where what does not fit wraps. */
export function withinDType(bounds: Bounds | null, dtype: DType): Bounds | null {
  const stored = storedBounds(dtype);
  if (bounds === null || stored === null) return stored;
  return bounds.min >= stored.min && bounds.max <= stored.max ? bounds : stored;
}

/** Bounds of a node's values whatever is stored in its leaves, or null if nothing is known. */
export function valueBounds(node: Node, depth: number = DEPTH): Bounds | null {
  const { op, inputs, attrs, dtype } = node;
  const moves = op.lower.kind === 'indexed' && op.lower.view;
  if (node.storage !== null || depth === 0 || (op.bounds === undefined && !moves)) {
    return storedBounds(dtype);
  }
  const known = inputs.map((input) => valueBounds(input, depth - 1));
  return (moves ? unionOf(known) : op.bounds?.(known, attrs, node)) ?? storedBounds(dtype);
}
