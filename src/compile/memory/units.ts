// A listed program as units: what one group's kernels read and write, with everything between them
// named by numbers. Orders and recomputation are decided on these, never on kernels.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Target } from '../../ir/kernel.ts';
import type { Location } from '../../runtime/plan.ts';
import { isLoop, type Item, type ListedStep, stepsIn } from '../items.ts';
import { multiplyAddsPerNanosecond, nanosecondsOf } from '../lower/cost.ts';
import type { Memory, Place, Scratch } from '../lower/kernel-builder.ts';
import { alignedBytes } from './arena.ts';

/** What needs memory of its own: a value in the arena, or scratch. */
export type Key = Node | Scratch;

/** The kernels of one group: they run together, and again together. */
export interface Unit {
  readonly items: readonly Item[];
  /** Values of other units. */
  readonly reads: readonly number[];
  /** Values that other units touch. */
  readonly writes: readonly number[];
  /** Bindings that are read, and those that are written. */
  readonly sources: readonly number[];
  readonly targets: readonly number[];
  /** Most bytes that only this unit touches, at any of its steps. */
  readonly inner: number;
  /** Results that may take the memory of an operand that dies here: positions in writes and reads. */
  readonly shares: readonly (readonly [result: number, operand: number])[];
  readonly flops: number;
  /** Estimated nanoseconds on one core. */
  readonly cost: number;
}

/** A value that one unit computes and others read. */
export interface Value {
  readonly key: Key;
  readonly bytes: number;
  /** The unit that computes it, or -1 if several write to it. */
  readonly writer: number;
  /** In order. */
  readonly readers: readonly number[];
}

export interface Units {
  readonly units: readonly Unit[];
  readonly values: readonly Value[];
  /** Number of the value of each key. */
  readonly numberOf: ReadonlyMap<Key, number>;
  readonly bindings: number;
}

/** Where what is not in the arena is. */
export interface Fixed {
  readonly fixed: (node: Node) => Location | null;
  readonly kept: ReadonlyMap<Key, Location>;
  readonly target: Target;
}

export function placeOf(memory: Memory): Place {
  return memory.kind === 'moving' ? memory.of : memory;
}

/** What a place is made of: a key in the arena, a binding, or nothing that changes. */
export function ownerOf(memory: Memory, { fixed, kept }: Fixed): Key | number | null {
  const place = placeOf(memory);
  if (place.kind === 'binding') return place.index;
  const key = place.kind === 'value' ? place.node : place.scratch;
  if (kept.has(key)) return null;
  const location = place.kind === 'value' ? fixed(place.node) : null;
  if (location === null) return key;
  return location.space === 'binding' ? location.index : null;
}

/** Items of one group follow one another and make one unit. */
function grouped(items: readonly Item[]): Item[][] {
  const units: Item[][] = [];
  let last: number | undefined;
  for (const item of items) {
    const same = item.group !== undefined && item.group === last;
    if (same) units.at(-1)?.push(item);
    else units.push([item]);
    last = item.group;
  }
  return units;
}

interface Touches {
  readonly read: Map<Key, number>;
  readonly written: Map<Key, number>;
  readonly spans: Map<Key, [first: number, last: number]>;
  readonly sources: Set<number>;
  readonly targets: Set<number>;
}

/** Steps of a unit that touch each key. */
function touchesOf(items: readonly Item[], where: Fixed): Touches {
  const touches: Touches = {
    read: new Map(),
    written: new Map(),
    spans: new Map(),
    sources: new Set(),
    targets: new Set(),
  };
  let at = 0;
  const touch = (memory: Memory, access: 'read' | 'write' | 'readwrite', first: number): void => {
    const owner = ownerOf(memory, where);
    if (owner === null) return;
    if (typeof owner === 'number') {
      if (access !== 'write') touches.sources.add(owner);
      if (access !== 'read') touches.targets.add(owner);
      return;
    }
    // Part of a place is written without the rest being known.
    if (access !== 'write' || memory.kind === 'moving') touches.read.set(owner, at);
    if (access !== 'read' && !touches.written.has(owner)) touches.written.set(owner, at);
    const span = touches.spans.get(owner);
    if (span === undefined) touches.spans.set(owner, [first, at]);
    else span[1] = at;
  };
  const visit = (item: Item, first: number): void => {
    if (isLoop(item)) {
      if (item.condition !== null) touch(item.condition.memory, 'read', first);
      for (const inner of item.items) visit(inner, first);
      return;
    }
    const { kernel, memory } = item.stage;
    memory.forEach((place, i) => touch(place, kernel.buffers[i]?.access ?? 'read', first));
  };
  for (const item of items) {
    visit(item, at);
    at++;
  }
  return touches;
}

function bytesOf(key: Key): number {
  const length = 'shape' in key ? sizeOf(key.shape) : key.length;
  return alignedBytes(length * byteSize(key.dtype));
}

/** @param items in the order in which they run. */
export function unitsOf(items: readonly Item[], where: Fixed): Units {
  const parts = grouped(items);
  const touches = parts.map((part) => touchesOf(part, where));
  const users = new Map<Key, number[]>();
  touches.forEach(({ spans }, unit) => {
    for (const key of spans.keys()) {
      const known = users.get(key);
      if (known === undefined) users.set(key, [unit]);
      else known.push(unit);
    }
  });
  const numberOf = new Map<Key, number>();
  const values: Value[] = [];
  for (const [key, list] of users) {
    if (list.length === 1) continue;
    const writers = list.filter((unit) => touches[unit]?.written.has(key));
    const writer = writers.length === 1 && writers[0] === list[0] ? (list[0] as number) : -1;
    numberOf.set(key, values.length);
    values.push({
      key,
      bytes: bytesOf(key),
      writer,
      readers: writer < 0 ? list : list.slice(1),
    });
  }
  let bindings = 0;
  const units = parts.map((part, i): Unit => {
    const { sources, targets } = touches[i] as Touches;
    for (const index of [...sources, ...targets]) bindings = Math.max(bindings, index + 1);
    return unitOf(part, touches[i] as Touches, i, numberOf, values, where);
  });
  return { units, values, numberOf, bindings };
}

function unitOf(
  items: readonly Item[],
  { spans, sources, targets, read, written }: Touches,
  at: number,
  numberOf: ReadonlyMap<Key, number>,
  values: readonly Value[],
  where: Fixed,
): Unit {
  const reads: number[] = [];
  const writes: number[] = [];
  const inner = new Float64Array(items.length);
  for (const [key, [first, last]] of spans) {
    const value = numberOf.get(key);
    if (value === undefined) {
      for (let step = first; step <= last; step++) inner[step] = (inner[step] ?? 0) + bytesOf(key);
    } else if ((values[value] as Value).writer === at) writes.push(value);
    else reads.push(value);
  }
  const kernels = stepsIn(items).map(({ explanation }) => explanation);
  const shares: (readonly [number, number])[] = [];
  items.forEach((item, step) => {
    if (isLoop(item)) return;
    for (const [result, operand] of sharesOf(item, where)) {
      const [to, from] = [numberOf.get(result), numberOf.get(operand)];
      if (to === undefined || from === undefined) continue;
      if (written.get(result) !== step || read.get(operand) !== step) continue;
      const pair = [writes.indexOf(to), reads.indexOf(from)] as const;
      if (pair[0] >= 0 && pair[1] >= 0) shares.push(pair);
    }
  });
  return {
    items,
    reads,
    writes,
    sources: [...sources],
    targets: [...targets],
    inner: Math.max(0, ...inner),
    shares,
    flops: kernels.reduce((sum, { flops }) => sum + flops, 0),
    cost: nanosecondsOf(kernels, 2 * multiplyAddsPerNanosecond(where.target)),
  };
}

/** Pairs of keys whose places a step lets follow one another. */
function sharesOf(step: ListedStep, where: Fixed): (readonly [Key, Key])[] {
  const { kernel, memory } = step.stage;
  const pairs: (readonly [Key, Key])[] = [];
  memory.forEach((written, i) => {
    if (kernel.buffers[i]?.access !== 'write' || written.kind !== 'value') return;
    const result = ownerOf(written, where);
    if (result === null || typeof result === 'number') return;
    memory.forEach((taken, j) => {
      if (kernel.buffers[j]?.access !== 'read' || taken.kind !== 'value') return;
      const operand = ownerOf(taken, where);
      if (operand === null || typeof operand === 'number') return;
      if (bytesOf(operand) !== bytesOf(result) || !step.mayShare(i, j)) return;
      pairs.push([result, operand]);
    });
  });
  return pairs;
}
