// Puts groups in an order, and decides which results overwrite the value that they replace: every
// reader of the old value must have run by then.
import { byteSize } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Flow } from '../flow.ts';
import type { Group, Grouping } from './group.ts';

export interface Order {
  readonly groups: readonly Group[];
  /** Roots that are written straight over their leaf. The others that should be are copied last. */
  readonly direct: ReadonlySet<Node>;
}

/** A topological order: first come, first served by the position of the group's first value. */
export function orderGroups(flow: Flow, { groups, groupOf }: Grouping): Order {
  const after = new Map<Group, Set<Group>>();
  for (const group of groups) after.set(group, new Set(group.after));
  const direct = new Set<Node>();
  for (const { node, inPlaceOf } of flow.roots) {
    if (inPlaceOf < 0) continue;
    const writer = groupOf.get(node);
    if (writer === undefined) throw internalError('a root without a group');
    if (writeInPlace(flow, groups, after, writer, node, inPlaceOf)) direct.add(node);
  }
  return { groups: topological(groups, after), direct };
}

/** Adds the edges that make every reader of the leaf run before `writer`, unless impossible. */
function writeInPlace(
  flow: Flow,
  groups: readonly Group[],
  after: Map<Group, Set<Group>>,
  writer: Group,
  root: Node,
  inPlaceOf: number,
): boolean {
  let leaf: Node | undefined;
  for (const [node, index] of flow.leaves) if (index === inPlaceOf) leaf = node;
  if (leaf === undefined) throw internalError(`a root in place of leaf ${inPlaceOf}`);
  const sameBytes =
    sizeOf(leaf.shape) === sizeOf(root.shape) && byteSize(leaf.dtype) === byteSize(root.dtype);
  if (writer.reads.get(leaf) === false || (writer.reads.has(leaf) && !sameBytes)) return false;
  const readers = groups.filter((group) => group !== writer && group.reads.has(leaf));
  if (readers.length === 0) return true;
  const later = reachableFrom(writer, groups, after);
  if (readers.some((reader) => later.has(reader))) return false;
  for (const reader of readers) after.get(writer)?.add(reader);
  return true;
}

/** Groups that must run after `start`. */
function reachableFrom(
  start: Group,
  groups: readonly Group[],
  after: ReadonlyMap<Group, ReadonlySet<Group>>,
): Set<Group> {
  const successors = new Map<Group, Group[]>();
  for (const group of groups) {
    for (const earlier of after.get(group) ?? []) {
      const list = successors.get(earlier);
      if (list === undefined) successors.set(earlier, [group]);
      else list.push(group);
    }
  }
  const reached = new Set<Group>();
  const stack = [start];
  while (stack.length > 0) {
    for (const next of successors.get(stack.pop() as Group) ?? []) {
      if (reached.has(next)) continue;
      reached.add(next);
      stack.push(next);
    }
  }
  return reached;
}

/** Depth first from the groups in order of creation, which follows the program. */
function topological(
  groups: readonly Group[],
  after: ReadonlyMap<Group, ReadonlySet<Group>>,
): Group[] {
  const done = new Set<Group>();
  const open = new Set<Group>();
  const order: Group[] = [];
  const stack: Group[] = [];
  for (const start of groups) {
    stack.push(start);
    while (stack.length > 0) {
      const group = stack[stack.length - 1] as Group;
      if (done.has(group)) {
        stack.pop();
        continue;
      }
      const missing = [...(after.get(group) ?? [])].filter((earlier) => !done.has(earlier));
      if (missing.length === 0) {
        stack.pop();
        done.add(group);
        order.push(group);
        continue;
      }
      if (open.has(group)) throw internalError('groups wait for each other');
      open.add(group);
      missing.sort((a, b) => b.id - a.id);
      stack.push(...missing);
    }
  }
  return order;
}
