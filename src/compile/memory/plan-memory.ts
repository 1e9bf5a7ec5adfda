// Gives every argument of every dispatch a place: bindings and scalar slots are given, everything
// else shares one arena, in place where an operand dies as its result is born.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import { internalError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import type { Location } from '../../runtime/plan.ts';
import type { Memory, Place, Scratch, Stage } from '../lower/kernel-builder.ts';
import { alignedBytes, type Block, layOutArena } from './arena.ts';

/** Kernels in the order in which they run. */
export interface Step {
  readonly stage: Stage;
  /** Whether one argument's value may take the memory of another that is read at the same position only. */
  mayShare(result: number, operand: number): boolean;
}

/** Steps from `first` up to `end` that run again and again. */
export interface StepLoop {
  readonly first: number;
  readonly end: number;
  /** What is looked at before each iteration. */
  readonly condition: Memory | null;
}

export interface MemoryPlan {
  /** For each step, the location of each argument. */
  readonly locations: readonly (readonly Location[])[];
  /** For each loop, where its condition is. */
  readonly conditions: readonly (Location | null)[];
  readonly arenaBytes: number;
  readonly lowerBound: number;
  /** What the arena would take if no value gave its place to another. */
  readonly unplannedBytes: number;
  /** Arena place of every value and scratch, for tests: offset, bytes, first and last step. */
  readonly blocks: readonly (Block & { readonly offset: number })[];
}

/** A value or scratch in the arena. Several values may follow one another in one place. */
interface Tenant {
  readonly bytes: number;
  readonly first: number;
  last: number;
  /** The innermost loop around everything that touches it. */
  readonly home: StepLoop | null;
  /** The tenant whose place this one takes over. */
  takesOver: Tenant | null;
  /** Whether another tenant takes over from this one. */
  taken: boolean;
}

/**
 * @param fixed where a value is that is not in the arena: bound or a scalar slot; null for others.
 * @param kept where what outlives the run is.
 * @param loops outer ones first.
 * @param enough bytes of the arena with which the caller is content.
 */
export function planMemory(
  steps: readonly Step[],
  fixed: (node: Node) => Location | null,
  kept: ReadonlyMap<Scratch | Node, Location> = new Map(),
  loops: readonly StepLoop[] = [],
  enough = 0,
): MemoryPlan {
  const tenants = new Map<Node | Scratch, Tenant>();
  const bytes = new Map<Node | Scratch, number>();
  const touched = new Map<Node | Scratch, number[]>();
  const inArena = (memory: Place): Node | Scratch | null => {
    if (memory.kind === 'binding') return null;
    const key = memory.kind === 'value' ? memory.node : memory.scratch;
    if (kept.has(key)) return null;
    return memory.kind === 'scratch' || fixed(memory.node) === null ? key : null;
  };
  const touch = (memory: Memory, at: number): void => {
    const place = memory.kind === 'moving' ? memory.of : memory;
    const key = inArena(place);
    if (key === null) return;
    bytes.set(key, bytesOf(place));
    const known = touched.get(key);
    if (known === undefined) touched.set(key, [at]);
    else known.push(at);
  };
  steps.forEach(({ stage }, at) => {
    for (const { first, condition } of loops) {
      if (first === at && condition !== null) touch(condition, at);
    }
    for (const memory of stage.memory) touch(memory, at);
  });
  for (const [key, list] of touched) {
    const span = spanOf(list, loops);
    tenants.set(key, { bytes: bytes.get(key) ?? 0, ...span, takesOver: null, taken: false });
  }
  steps.forEach((step, at) => takeOver(step, at, tenants, loops));

  const places = [...new Set([...tenants.values()].map(placeOf))];
  const ends = new Map<Tenant, number>();
  for (const tenant of tenants.values()) {
    const place = placeOf(tenant);
    ends.set(place, Math.max(ends.get(place) ?? 0, tenant.last));
  }
  const blocks = places.map((place): Block => ({
    bytes: place.bytes,
    first: place.first,
    last: ends.get(place) ?? place.last,
  }));
  const layout = layOutArena(blocks, enough);
  let unplannedBytes = 0;
  for (const tenant of tenants.values()) unplannedBytes += alignedBytes(tenant.bytes);
  const offsets = new Map(places.map((place, i) => [place, layout.offsets[i] as number]));
  const locate = (memory: Memory): Location => {
    if (memory.kind === 'moving') return moved(locate(memory.of), memory);
    if (memory.kind === 'binding') return { space: 'binding', index: memory.index };
    const key = memory.kind === 'value' ? memory.node : memory.scratch;
    const known = kept.get(key) ?? (memory.kind === 'value' ? fixed(memory.node) : null);
    if (known !== null) return known;
    const offset = offsets.get(placeOf(tenants.get(key) as Tenant)) as number;
    return { space: 'arena', offset };
  };
  return {
    locations: steps.map(({ stage }) => stage.memory.map(locate)),
    conditions: loops.map(({ condition }) => (condition === null ? null : locate(condition))),
    arenaBytes: layout.bytes,
    lowerBound: layout.lowerBound,
    unplannedBytes,
    blocks: blocks.map((block, i) => ({ ...block, offset: layout.offsets[i] as number })),
  };
}

/** A value that is used inside a loop and outside lives as long as the loop runs. */
function spanOf(
  steps: readonly number[],
  loops: readonly StepLoop[],
): Pick<Tenant, 'first' | 'last' | 'home'> {
  const around = loops.filter((loop) => steps.every((at) => isIn(loop, at)));
  let [first, last] = [Infinity, -1];
  for (const at of steps) {
    const inner = loops.find((loop) => isIn(loop, at) && !around.includes(loop));
    first = Math.min(first, inner?.first ?? at);
    last = Math.max(last, inner === undefined ? at : inner.end - 1);
  }
  return { first, last, home: around.at(-1) ?? null };
}

function isIn({ first, end }: StepLoop, step: number): boolean {
  return first <= step && step < end;
}

function moved(location: Location, by: Memory & { kind: 'moving' }): Location {
  if (location.space === 'scalar') throw internalError('a scalar slot does not move');
  const offset = (location.offset ?? 0) + by.offset;
  return { ...location, offset, ...(by.strides.length > 0 ? { strides: by.strides } : {}) };
}

function bytesOf(memory: Place): number {
  if (memory.kind === 'scratch') return memory.scratch.length * byteSize(memory.scratch.dtype);
  if (memory.kind === 'value') return sizeOf(memory.node.shape) * byteSize(memory.node.dtype);
  return 0;
}

function placeOf(tenant: Tenant): Tenant {
  let place = tenant;
  while (place.takesOver !== null) place = place.takesOver;
  return place;
}

/** Results that are born in this step take the place of operands that die in it. */
function takeOver(
  step: Step,
  at: number,
  tenants: ReadonlyMap<Node | Scratch, Tenant>,
  loops: readonly StepLoop[],
): void {
  const { kernel, memory } = step.stage;
  const home = loops.findLast((loop) => isIn(loop, at)) ?? null;
  // What is used outside of the loop, or in the next iteration, stays where it is.
  const tenantOf = (place: Memory): Tenant | undefined => {
    if (place.kind !== 'value' && place.kind !== 'scratch') return undefined;
    const tenant = tenants.get(place.kind === 'value' ? place.node : place.scratch);
    return tenant?.home === home ? tenant : undefined;
  };
  memory.forEach((written, i) => {
    if (kernel.buffers[i]?.access !== 'write') return;
    const result = tenantOf(written);
    if (result === undefined || result.first !== at || result.takesOver !== null) return;
    for (const [j, read] of memory.entries()) {
      if (kernel.buffers[j]?.access !== 'read') continue;
      const operand = tenantOf(read);
      if (operand === undefined || operand === result) continue;
      if (operand.taken || operand.last !== at || operand.bytes !== result.bytes) continue;
      if (!step.mayShare(i, j)) continue;
      result.takesOver = operand;
      operand.taken = true;
      return;
    }
  });
}
