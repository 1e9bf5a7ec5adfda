// Groups: which stored values one kernel (or the few kernels of one main op) computes together.
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Flow } from '../flow.ts';
import { type AccessMap, isMainOp } from './access.ts';
import { type Cone, coneOf, storeCostOf } from './cone.ts';
import type { Materialisation } from './materialise.ts';

export interface Group {
  readonly id: number;
  /** Main ops computed side by side (reductions may be several), or the first elementwise value. */
  readonly anchors: Node[];
  /** Whether the anchors are main ops. */
  readonly main: boolean;
  /** Stored values computed here, inputs first, anchors included. */
  readonly members: Node[];
  /** Groups whose values are read. */
  readonly after: Set<Group>;
  /** Leaves and values of other groups that are read, and whether only at the same position. */
  readonly reads: Map<Node, boolean>;
  /** Arithmetic per element of what it runs through, reads and writes included. */
  cost: number;
  /** Why it ends where it ends, for explain(). */
  readonly reasons: string[];
}

/** Values that one kernel writes at most: every one costs registers and a stream of memory. */
const MEMBERS_LIMIT = 12;

/** The groups of all stored values, and of which group each value is. */
export interface Grouping {
  readonly groups: readonly Group[];
  readonly groupOf: ReadonlyMap<Node, Group>;
}

/** Joins stored values into groups. Without `fusion` each is a group of its own. */
export function formGroups(
  flow: Flow,
  accesses: AccessMap,
  { stored, reasons }: Materialisation,
  fusion: boolean,
): Grouping {
  const former = new GroupFormer(flow, accesses, stored, fusion);
  for (const node of flow.nodes) {
    if (stored.has(node)) former.place(node, reasons.get(node));
  }
  return former.result();
}

class GroupFormer {
  readonly #flow: Flow;
  readonly #accesses: AccessMap;
  readonly #stored: ReadonlySet<Node>;
  readonly #fusion: boolean;
  readonly #groups: Group[] = [];
  readonly #groupOf = new Map<Node, Group>();
  /** For each group, the groups that must run before it, as bits. */
  readonly #before: Uint32Array[] = [];
  readonly #words: number;
  /** Elementwise groups that read a value at the position they compute. */
  readonly #readers = new Map<Node, Group[]>();

  constructor(flow: Flow, accesses: AccessMap, stored: ReadonlySet<Node>, fusion: boolean) {
    this.#flow = flow;
    this.#accesses = accesses;
    this.#stored = stored;
    this.#fusion = fusion;
    this.#words = Math.ceil(stored.size / 32) + 1;
  }

  result(): Grouping {
    return { groups: this.#groups, groupOf: this.#groupOf };
  }

  #isStored(node: Node): boolean {
    return this.#flow.isLeaf(node) || this.#stored.has(node);
  }

  place(node: Node, reason: string | undefined): void {
    const cone = coneOf(node, this.#accesses, (other) => this.#isStored(other), Infinity);
    const notes: string[] = [];
    if (reason !== undefined) notes.push(`${node.op.name} is stored: ${reason}`);
    const host = this.#fusion ? this.#findHost(node, cone, notes) : null;
    if (host === null) this.#open(node, cone, notes);
    else this.#join(host, node, cone, notes);
  }

  #findHost(node: Node, cone: Cone, notes: string[]): Group | null {
    return isMainOp(node.op)
      ? this.#siblingReduction(node, cone)
      : (this.#epilogueHost(node, cone, notes) ?? this.#siblingHost(node, cone));
  }

  /** The latest group whose values `node` continues at the same position. */
  #epilogueHost(node: Node, cone: Cone, notes: string[]): Group | null {
    const candidates = new Set<Group>();
    for (const [read, samePosition] of cone.reads) {
      const group = this.#groupOf.get(read);
      if (group === undefined || !samePosition || !fitsDomain(group, node)) continue;
      candidates.add(group);
    }
    const latestFirst = [...candidates].sort((a, b) => b.id - a.id);
    for (const group of latestFirst) {
      const obstacle = this.#obstacle(group, node, cone);
      if (obstacle === null) return group;
      notes.push(`${node.op.name} cannot join ${nameOf(group)}: ${obstacle}`);
    }
    return null;
  }

  /** A group of elementwise values of the same size that reads some of the same memory. */
  #siblingHost(node: Node, cone: Cone): Group | null {
    const candidates = new Set<Group>();
    for (const [read, samePosition] of cone.reads) {
      if (!samePosition || sizeOf(read.shape) !== sizeOf(node.shape)) continue;
      for (const group of this.#readers.get(read) ?? []) candidates.add(group);
    }
    const latestFirst = [...candidates].sort((a, b) => b.id - a.id);
    for (const group of latestFirst) {
      if (fitsDomain(group, node) && this.#obstacle(group, node, cone) === null) return group;
    }
    return null;
  }

  /** A reduction over the same axes of a value of the same shape that reads the same memory. */
  #siblingReduction(node: Node, cone: Cone): Group | null {
    if (node.op.lower.kind !== 'reduce') return null;
    const input = node.inputs[0] as Node;
    const axes = reducedAxes(node);
    for (let i = this.#groups.length - 1; i >= 0; i--) {
      const group = this.#groups[i] as Group;
      const first = group.anchors[0] as Node;
      if (first.op.lower.kind !== 'reduce' || reducedAxes(first) !== axes) continue;
      if (formatShape((first.inputs[0] as Node).shape) !== formatShape(input.shape)) continue;
      if (!sharesLargeRead(cone, group, node)) continue;
      if (this.#obstacle(group, node, cone) === null) return group;
    }
    return null;
  }

  /** Why `node` cannot be computed in `group`, or null. */
  #obstacle(group: Group, node: Node, cone: Cone): string | null {
    if (group.members.length >= MEMBERS_LIMIT) return `it has ${MEMBERS_LIMIT} results already`;
    for (const [read, samePosition] of cone.reads) {
      const source = this.#groupOf.get(read);
      if (source === undefined) continue;
      if (source === group) {
        if (isMainOp(node.op)) return 'it would need its own result';
        if (!samePosition) return `${read.op.name} is needed at other positions too`;
      } else if (this.#runsBefore(group, source)) {
        return `${read.op.name} comes later, in ${nameOf(source)}`;
      }
    }
    return null;
  }

  #runsBefore(first: Group, second: Group): boolean {
    const bits = this.#before[second.id] as Uint32Array;
    return ((bits[first.id >>> 5] as number) & (1 << (first.id & 31))) !== 0;
  }

  #open(node: Node, cone: Cone, notes: readonly string[]): void {
    const group: Group = {
      id: this.#groups.length,
      anchors: [node],
      main: isMainOp(node.op),
      members: [],
      after: new Set(),
      reads: new Map(),
      cost: 0,
      reasons: [],
    };
    this.#groups.push(group);
    this.#before.push(new Uint32Array(this.#words));
    this.#add(group, node, cone, notes);
  }

  #join(group: Group, node: Node, cone: Cone, notes: readonly string[]): void {
    if (isMainOp(node.op)) group.anchors.push(node);
    this.#add(group, node, cone, notes);
  }

  #add(group: Group, node: Node, cone: Cone, notes: readonly string[]): void {
    group.members.push(node);
    group.cost += cone.cost + cone.loadCost + storeCostOf(node, this.#accesses.target.cacheBytes);
    group.reasons.push(...notes);
    this.#groupOf.set(node, group);
    const mine = this.#before[group.id] as Uint32Array;
    for (const [read, samePosition] of cone.reads) {
      const source = this.#groupOf.get(read);
      if (source === group) continue;
      group.reads.set(
        read,
        (group.reads.get(read) ?? true) && samePosition && fitsDomain(group, read),
      );
      if (source !== undefined && !group.after.has(source)) {
        group.after.add(source);
        mergeBits(mine, this.#before[source.id] as Uint32Array);
        setBit(mine, source.id);
      }
      if (!group.main && samePosition) {
        const readers = this.#readers.get(read);
        if (readers === undefined) this.#readers.set(read, [group]);
        else if (!readers.includes(group)) readers.push(group);
      }
    }
    // What waits for this group now also waits for what it waits for.
    for (const other of this.#groups) {
      if (other !== group && this.#runsBefore(group, other)) {
        mergeBits(this.#before[other.id] as Uint32Array, mine);
      }
    }
  }
}

function setBit(bits: Uint32Array, index: number): void {
  bits[index >>> 5] = (bits[index >>> 5] as number) | (1 << (index & 31));
}

function mergeBits(into: Uint32Array, from: Uint32Array): void {
  for (let i = 0; i < into.length; i++) into[i] = (into[i] as number) | (from[i] as number);
}

/** Whether element i of `node` belongs to the moment when element i of the group is computed. */
function fitsDomain(group: Group, node: Node): boolean {
  return sizeOf((group.anchors[0] as Node).shape) === sizeOf(node.shape);
}

/** Text that is equal for reductions over the same axes. */
function reducedAxes(node: Node): string {
  const { lower } = node.op;
  return lower.kind === 'reduce' ? lower.reduction(node.attrs, node).axes.join(',') : '';
}

/** Whether both read a value about as large as the reduction's input. */
function sharesLargeRead(cone: Cone, group: Group, node: Node): boolean {
  const size = sizeOf((node.inputs[0] as Node).shape);
  for (const read of cone.reads.keys()) {
    if (sizeOf(read.shape) * 2 < size) continue;
    if (group.reads.has(read)) return true;
  }
  return false;
}

function nameOf(group: Group): string {
  return `the kernel of ${group.anchors.map((anchor) => anchor.op.name).join(' and ')}`;
}
