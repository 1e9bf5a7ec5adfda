// Results that nobody has read yet, and that are built from values which are about to be overwritten.
import { newMark, type Node } from '../../graph/node.ts';
import type { Storage } from '../../runtime/storage.ts';

/** Whether every stored value that `root` is computed from can still be read. */
export function isReadable(root: Node): boolean {
  return leavesOf(root).every((leaf) => (leaf.storage as Storage).holds(leaf.version));
}

/**
 * Of `roots`, those that can be computed now and no more after the next change of one of the storages:
 * they read its value before the last one, or, where it is overwritten `inPlace`, the present one.
 */
export function aboutToBeLost(
  roots: readonly Node[],
  changing: ReadonlyMap<Storage, { readonly inPlace: boolean }>,
): Node[] {
  return roots.filter((root) => {
    const leaves = leavesOf(root);
    const isLost = leaves.some((leaf) => {
      const storage = leaf.storage as Storage;
      const change = changing.get(storage);
      return change !== undefined && (change.inPlace || leaf.version < storage.version);
    });
    return isLost && isReadable(root);
  });
}

function leavesOf(root: Node): Node[] {
  const leaves: Node[] = [];
  const mark = newMark();
  const stack = [root];
  root.mark = mark;
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (node.storage !== null) {
      leaves.push(node);
      continue;
    }
    for (const input of node.inputs) {
      if (input.mark === mark) continue;
      input.mark = mark;
      stack.push(input);
    }
  }
  return leaves;
}
