// Makes every root a value of its own: a root that became a leaf, or the same node as another root,
// is copied.
import type { Node } from '../../graph/node.ts';
import { copy } from '../../graph/ops/copy.ts';
import { collectFlow, type Flow } from '../flow.ts';

/** The flow with distinct roots, none of them a leaf. */
export function separateRoots(flow: Flow): Flow {
  const seen = new Set<Node>();
  let changed = false;
  const roots = flow.roots.map((root) => {
    const shared = flow.isLeaf(root.node) || seen.has(root.node);
    seen.add(root.node);
    if (!shared) return root;
    changed = true;
    return { ...root, node: copy(root.node) };
  });
  return changed ? collectFlow(roots, flow.leaves, flow.scalars) : flow;
}
