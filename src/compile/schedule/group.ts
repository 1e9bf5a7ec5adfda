// Groups: which stored values one kernel (or the few kernels of one main op) computes together.
import { byteSize } from '../../base/dtype.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Target } from '../../ir/kernel.ts';
import type { Flow } from '../flow.ts';
import type { Passes } from '../passes/switches.ts';
import { type AccessMap, isContraction, isMainOp } from './access.ts';
import { type Cone, coneOf, storeCostOf } from './cone.ts';
import type { Materialisation, ScheduleFacts } from './materialise.ts';
import { type RowDomain, rowDomainOf, type RowRelation, rowRelations, sameRows } from './rows.ts';

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
  /** What other reductions and elementwise values may join row by row, or null. */
  readonly rows: RowDomain | null;
  /** Of a row group: in which phase each member is computed. */
  readonly phaseOf: Map<Node, number>;
  /** Of a row group: members that a later phase reads from memory. */
  readonly reloaded: Set<Node>;
  /** Arithmetic per element of what it runs through, reads and writes included. */
  cost: number;
  /** Why it ends where it ends, for explain(). */
  readonly reasons: string[];
}

/** Values that one kernel computes at most: every one costs registers and a stream of memory. */
const MEMBERS_LIMIT = 12;
/** In the phases of a row group they are not all alive at once. */
const ROW_MEMBERS_LIMIT = 24;

/** Elements that take less time than starting a kernel. */
const TINY = 1024;

/** Where a value is computed; for a row group, how it reads there. */
interface Host {
  readonly group: Group;
  readonly relations?: ReadonlyMap<Node, RowRelation>;
}

/** The groups of all stored values, and of which group each value is. */
export interface Grouping {
  readonly groups: readonly Group[];
  readonly groupOf: ReadonlyMap<Node, Group>;
}

/** Joins stored values into groups, as far as the passes are on that do so. */
export function formGroups(
  flow: Flow,
  accesses: AccessMap,
  { stored, reasons }: Materialisation,
  facts: ScheduleFacts,
): Grouping {
  const former = new GroupFormer(flow, accesses, stored, facts);
  for (const node of flow.nodes) {
    if (stored.has(node)) former.place(node, reasons.get(node));
  }
  return former.result();
}

class GroupFormer {
  readonly #flow: Flow;
  readonly #accesses: AccessMap;
  readonly #stored: ReadonlySet<Node>;
  readonly #passes: Passes;
  readonly #groups: Group[] = [];
  readonly #rowGroups: Group[] = [];
  readonly #groupOf = new Map<Node, Group>();
  /** For each group, the groups that must run before it, as bits. */
  readonly #before: Uint32Array[] = [];
  readonly #words: number;
  /** Elementwise groups that read a value at the position they compute. */
  readonly #readers = new Map<Node, Group[]>();

  readonly #constants: ReadonlySet<Node>;

  constructor(
    flow: Flow,
    accesses: AccessMap,
    stored: ReadonlySet<Node>,
    { passes, constants }: ScheduleFacts,
  ) {
    this.#flow = flow;
    this.#accesses = accesses;
    this.#stored = stored;
    this.#passes = passes;
    this.#constants = constants ?? new Set();
    this.#words = Math.ceil(stored.size / 32) + 1;
  }

  result(): Grouping {
    return { groups: this.#groups, groupOf: this.#groupOf };
  }

  /** What is computed once and what is computed in every run are no one's kernel. */
  #sameRuns(group: Group, node: Node): boolean {
    return this.#constants.has(group.anchors[0] as Node) === this.#constants.has(node);
  }

  #isStored(node: Node): boolean {
    return this.#flow.isLeaf(node) || this.#stored.has(node);
  }

  place(node: Node, reason: string | undefined): void {
    if (node.op.lower.kind === 'result') {
      const group = this.#groupOf.get(node.inputs[0] as Node) as Group;
      group.members.push(node);
      this.#groupOf.set(node, group);
      return;
    }
    const cone = coneOf(node, this.#accesses, (other) => this.#isStored(other), Infinity);
    const notes: string[] = [];
    if (reason !== undefined) notes.push(`${node.op.name} is stored: ${reason}`);
    const host = this.#findHost(node, cone, notes);
    if (host === null) this.#open(node, cone, notes);
    else this.#add(host.group, node, cone, notes, host.relations);
  }

  #findHost(node: Node, cone: Cone, notes: string[]): Host | null {
    const { elementwiseFusion } = this.#passes;
    if (node.op.lower.kind === 'reduce') {
      if (!elementwiseFusion) return null;
      const rows = this.#rowHost(node, cone);
      if (rows !== null) return rows;
      const sibling = this.#siblingReduction(node, cone);
      return sibling === null ? null : { group: sibling };
    }
    if (isMainOp(node.op)) return null;
    const epilogue = this.#epilogueHost(node, cone, notes);
    if (epilogue !== null) return { group: epilogue };
    if (!elementwiseFusion) return null;
    const rows = this.#rowHost(node, cone);
    if (rows !== null) return rows;
    const sibling = this.#siblingHost(node, cone);
    return sibling === null ? null : { group: sibling };
  }

  /** A row group to which `node` adds a phase, or to whose phases it belongs. */
  #rowHost(node: Node, cone: Cone): Host | null {
    const candidates = new Set<Group>();
    for (const read of cone.reads.keys()) {
      const group = this.#groupOf.get(read);
      if (group !== undefined) candidates.add(group);
    }
    if (isMainOp(node.op)) {
      const input = node.inputs[0] as Node;
      for (const group of this.#rowGroups) {
        if (sharesLargeRead(cone, group, sizeOf(input.shape))) candidates.add(group);
      }
    }
    const latestFirst = [...candidates].sort((a, b) => b.id - a.id);
    for (const group of latestFirst) {
      const { rows } = group;
      if (rows === null || group.members.length >= ROW_MEMBERS_LIMIT) continue;
      if (!this.#sameRuns(group, node)) continue;
      const fits = isMainOp(node.op) ? sameRows(rows, node) : sizeOf(node.shape) === rows.elements;
      if (!fits || this.#waitsFor(group, cone)) continue;
      const relations = this.#relationsOf(node, rows);
      if (this.#readsRowsOnly(group, relations)) return { group, relations };
    }
    return null;
  }

  #relationsOf(node: Node, rows: RowDomain): ReadonlyMap<Node, RowRelation> {
    return rowRelations(node, rows, (other) => this.#isStored(other), this.#accesses.target);
  }

  /** Whether a value that `cone` reads is computed after `group`. */
  #waitsFor(group: Group, cone: Cone): boolean {
    for (const read of cone.reads.keys()) {
      const source = this.#groupOf.get(read);
      if (source !== undefined && source !== group && this.#runsBefore(group, source)) return true;
    }
    return false;
  }

  #readsRowsOnly(group: Group, relations: ReadonlyMap<Node, RowRelation>): boolean {
    for (const [read, relation] of relations) {
      if (this.#groupOf.get(read) === group && relation === 'other') return false;
    }
    return true;
  }

  /** The latest group whose values `node` continues at the same position. */
  #epilogueHost(node: Node, cone: Cone, notes: string[]): Group | null {
    const candidates = new Set<Group>();
    for (const [read, samePosition] of cone.reads) {
      const group = this.#groupOf.get(read);
      if (group === undefined || !samePosition || !fitsDomain(group, node)) continue;
      const { epilogues, elementwiseFusion } = this.#passes;
      const mayJoin = isContraction(group.anchors[0] as Node) ? epilogues : elementwiseFusion;
      if (mayJoin) candidates.add(group);
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
    // Where starting a kernel is all there is, any other will do.
    if (sizeOf(node.shape) <= TINY) {
      for (const group of this.#groups) {
        if (!group.main && group.rows === null) candidates.add(group);
      }
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
      if (!sharesLargeRead(cone, group, sizeOf(input.shape))) continue;
      if (this.#obstacle(group, node, cone) === null) return group;
    }
    return null;
  }

  /** Why `node` cannot be computed in `group`, or null. */
  #obstacle(group: Group, node: Node, cone: Cone): string | null {
    if ((group.anchors[0] as Node).op.lower.kind === 'region') return 'it is no kernel';
    if (!this.#sameRuns(group, node)) return 'one of both is computed ahead';
    const limit = group.rows === null ? MEMBERS_LIMIT : ROW_MEMBERS_LIMIT;
    if (group.members.length >= limit) return `it has ${limit} results already`;
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
    const rows = this.#passes.elementwiseFusion ? rowDomainOf(node) : null;
    const group: Group = {
      id: this.#groups.length,
      anchors: [],
      main: isMainOp(node.op),
      members: [],
      after: new Set(),
      reads: new Map(),
      rows,
      phaseOf: new Map(),
      reloaded: new Set(),
      cost: 0,
      reasons: [],
    };
    this.#groups.push(group);
    this.#before.push(new Uint32Array(this.#words));
    if (rows !== null) this.#rowGroups.push(group);
    if (!group.main) group.anchors.push(node);
    this.#add(group, node, cone, notes, rows === null ? undefined : this.#relationsOf(node, rows));
  }

  #add(
    group: Group,
    node: Node,
    cone: Cone,
    notes: readonly string[],
    relations: ReadonlyMap<Node, RowRelation> | undefined,
  ): void {
    if (isMainOp(node.op)) group.anchors.push(node);
    group.members.push(node);
    const { cacheBytes } = this.#accesses.target;
    group.cost += cone.cost + cone.loadCost + storeCostOf(node, cacheBytes);
    group.reasons.push(...notes);
    this.#groupOf.set(node, group);
    if (group.rows !== null) setPhase(group, node, cone, relations);
    const mine = this.#before[group.id] as Uint32Array;
    for (const [read, samePosition] of cone.reads) {
      const source = this.#groupOf.get(read);
      if (source === group) continue;
      const inStep =
        relations === undefined
          ? samePosition && fitsDomain(group, read)
          : relations.get(read) === 'row';
      group.reads.set(read, (group.reads.get(read) ?? true) && inStep);
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

/** Whether both read a value about as large as what is run through, of `size` elements. */
function sharesLargeRead(cone: Cone, group: Group, size: number): boolean {
  for (const read of cone.reads.keys()) {
    if (sizeOf(read.shape) * 2 >= size && group.reads.has(read)) return true;
  }
  return false;
}

/** Finds the first phase in which everything that `node` reads of its own group is known. */
function setPhase(
  group: Group,
  node: Node,
  cone: Cone,
  relations: ReadonlyMap<Node, RowRelation> | undefined,
): void {
  const reduces = isMainOp(node.op);
  let phase = 0;
  for (const read of cone.reads.keys()) {
    const known = group.phaseOf.get(read);
    if (known !== undefined) phase = Math.max(phase, reduces ? known + 1 : known);
  }
  group.phaseOf.set(node, phase);
  for (const [read, relation] of relations ?? []) {
    const known = group.phaseOf.get(read);
    if (relation === 'element' && known !== undefined && known < phase) group.reloaded.add(read);
  }
}

function nameOf(group: Group): string {
  return `the kernel of ${group.anchors.map((anchor) => anchor.op.name).join(' and ')}`;
}

/**
 * Whether what a row group reads again in a later phase is kept for one row at a time, in the second
 * level of the cache, and needs no memory unless somebody else reads it too.
 */
export function keepsRows({ rows, reloaded }: Group, { cacheBytes }: Target): boolean {
  if (rows === null) return false;
  let bytes = 0;
  for (const node of reloaded) bytes += (rows.elements / rows.rows) * byteSize(node.dtype);
  return bytes * 4 <= cacheBytes.l2;
}
