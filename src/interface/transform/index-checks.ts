// Keeps the promises that indices are in range: of stored indices before a run, of computed ones
// by two more results of it. A run that breaks one changes nothing that outlives it.
import { viewTypedArray } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import type { Storage } from '../../runtime/storage.ts';
import { checkBounds, checkStored, storedIndex } from '../tensor/index-values.ts';
import { valueAt } from './values.ts';

function rangeOf(node: Node): ops.IndexRange {
  const range = ops.rangeChecked(node);
  if (range === null) throw internalError(`${node.op.name} promises no range`);
  return range;
}

/**
 * Checks those of `promises` (checkedIndex nodes) whose values are stored; returns the others.
 *
 * @throws ShapeError for an index out of range.
 */
export function checkStoredIndices(promises: readonly Node[]): Node[] {
  return promises.filter((promise) => {
    const leaf = storedIndex(promise);
    if (leaf === null) return true;
    checkStored(leaf, rangeOf(promise), () => bytesNow(leaf));
    return false;
  });
}

function bytesNow(leaf: Node): Uint8Array {
  const storage = leaf.storage as Storage;
  const { host, buffer } = valueAt(storage, leaf.version);
  if (host !== null) return host;
  if (buffer === null || storage.device === null) throw internalError('a value without bytes');
  return storage.device.view(buffer);
}

/** For each promise two results of the run that tell whether it was kept: minimum and maximum. */
export function guardsOf(promises: readonly Node[]): Node[] {
  return promises.flatMap((promise) => {
    const { lowest, except } = rangeOf(promise);
    const index = promise.inputs[0] as Node;
    const constant = (value: number): Node => ops.constant(value, index.dtype);
    const values =
      except === lowest
        ? index
        : ops.select(ops.equal(index, constant(except)), constant(lowest), index);
    return [ops.min(values), ops.max(values)];
  });
}

/**
 * Checks what the guards of `promises` hold after a run.
 *
 * @throws ShapeError for an index out of range.
 */
export function checkGuards(promises: readonly Node[], guards: readonly Uint8Array[]): void {
  promises.forEach((promise, i) => {
    const [min, max] = [guards[2 * i], guards[2 * i + 1]].map((bytes) => {
      const { buffer, byteOffset } = bytes as Uint8Array;
      const [value] = viewTypedArray((promise.inputs[0] as Node).dtype, buffer, byteOffset, 1);
      return value as number;
    });
    checkBounds({ min: min as number, max: max as number }, rangeOf(promise));
  });
}
