// Numbers that belong to the state of something on the host: a factor that changes as training goes on.
// A function that is replayed without running reads them anew.
import type { DType } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import { scalar } from '../../graph/ops/leaf.ts';

const readers = new WeakMap<Node, () => number>();

/** A slot with the number that `read` gives now, and again in each replay. */
export function withHostValue(read: () => number, dtype: DType): Node {
  const slot = scalar(read(), dtype);
  readers.set(slot, read);
  return slot;
}

/** How the number of a slot is read anew, if it can be. */
export function hostValueOf(slot: Node): (() => number) | null {
  return readers.get(slot) ?? null;
}
