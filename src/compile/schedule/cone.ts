// What computing one element of a node takes when everything between it and stored values is
// computed on the spot.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Target } from '../../ir/kernel.ts';
import type { AccessMap } from './access.ts';

/** Starting a kernel and meeting at its end, in additions. */
export const KERNEL_COST = 20_000;

export interface Cone {
  /** Arithmetic per element. */
  readonly cost: number;
  /** Cost of reading, per element. */
  readonly loadCost: number;
  /** Stored values that are read, and whether only at the same position. */
  readonly reads: ReadonlyMap<Node, boolean>;
  /** Nodes computed on the spot, the top included. */
  readonly inlined: readonly Node[];
  /** Whether the walk gave up: more than `limit` nodes. */
  readonly large: boolean;
}

/**
 * Walks from `top` to what `isStored` (the top itself is always walked through).
 *
 * @param limit nodes after which the walk gives up.
 */
export function coneOf(
  top: Node,
  accesses: AccessMap,
  isStored: (node: Node) => boolean,
  limit: number,
): Cone {
  const reads = new Map<Node, boolean>();
  const inlined: Node[] = [];
  // A node may be reached at the same position and at others: both are walked.
  const seen = new Map<Node, number>();
  const stack: { node: Node; same: boolean }[] = [{ node: top, same: true }];
  let cost = 0;
  while (stack.length > 0) {
    const { node, same } = stack.pop() as { node: Node; same: boolean };
    if (node !== top && isStored(node)) {
      reads.set(node, (reads.get(node) ?? true) && same);
      continue;
    }
    const flag = same ? 1 : 2;
    const before = seen.get(node) ?? 0;
    if ((before & flag) !== 0) continue;
    seen.set(node, before | flag);
    if (before === 0) inlined.push(node);
    cost += node.op.cost;
    if (inlined.length > limit) return { cost, loadCost: 0, reads, inlined, large: true };
    const list = accesses.of(node);
    for (let i = list.length - 1; i >= 0; i--) {
      const access = list[i] as (typeof list)[number];
      stack.push({ node: access.input, same: same && access.samePosition });
    }
  }
  let loadCost = 0;
  for (const read of reads.keys()) loadCost += loadCostOf(read, accesses.target.cacheBytes);
  return { cost, loadCost, reads, inlined, large: false };
}

/** What moving `bytes` costs per 4 of them, in additions: memory is slow, caches are not. */
function transferCost(bytes: number, cache: Target['cacheBytes']): number {
  if (bytes <= cache.l1) return 0.5;
  return bytes * 2 <= cache.l2 ? 1.5 : 5;
}

/** What reading an element of `value` costs. */
export function loadCostOf(value: Node, cache: Target['cacheBytes']): number {
  const width = byteSize(value.dtype);
  return (transferCost(sizeOf(value.shape) * width, cache) * width) / 4;
}

/** What writing an element of `value` costs: a cache line is fetched before it is written. */
export function storeCostOf(value: Node, cache: Target['cacheBytes']): number {
  return 2 * loadCostOf(value, cache);
}
