// Keeps what ops promise of their values, such as that indices are in range: of stored indices before
// a run, of what is computed by two more results of it. A run that breaks one changes nothing that
// outlives it.
import { viewTypedArray } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import type { RunPromise } from '../../graph/op.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkStored, storedIndex } from '../tensor/index-values.ts';
import { viewValue } from './values.ts';

function promiseOf({ op }: Node): RunPromise {
  if (op.promise === undefined) throw internalError(`${op.name} promises nothing`);
  return op.promise;
}

/**
 * Checks those of `promises` that are of stored indices; returns the others.
 *
 * @throws ShapeError for an index out of range.
 */
export function checkStoredIndices(promises: readonly Node[]): Node[] {
  return promises.filter((promise) => {
    const range = ops.rangeChecked(promise);
    const leaf = range === null ? null : storedIndex(promise);
    if (range === null || leaf === null) return true;
    checkStored(leaf, range, () => viewValue(leaf));
    return false;
  });
}

/** For each promise two results of the run that tell whether it was kept: minimum and maximum. */
export function guardsOf(promises: readonly Node[]): Node[] {
  return promises.flatMap((promise) => {
    const watched = promiseOf(promise).watched(promise);
    return [ops.min(watched), ops.max(watched)];
  });
}

/** Checks what the guards of `promises` hold after a run; throws what the first broken one says. */
export function checkGuards(promises: readonly Node[], guards: readonly Uint8Array[]): void {
  promises.forEach((promise, i) => {
    const [min, max] = [guards[2 * i], guards[2 * i + 1]].map((bytes) => {
      const { buffer, byteOffset } = bytes as Uint8Array;
      const [value] = viewTypedArray((promise.inputs[0] as Node).dtype, buffer, byteOffset, 1);
      return value as number;
    });
    promiseOf(promise).check({ min: min as number, max: max as number }, promise);
  });
}
