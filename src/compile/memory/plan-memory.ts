// Gives every argument of every dispatch a place: bindings and scalar slots are given, everything
// else shares one arena, in place where an operand dies as its result is born.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Location } from '../../runtime/plan.ts';
import type { Memory, Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Block, layOutArena } from './arena.ts';

/** Kernels in the order in which they run. */
export interface Step {
  readonly stage: Stage;
  /** Whether a result may take the memory of an operand that is read at the same position only. */
  mayShare(result: Node, operand: Node): boolean;
}

export interface MemoryPlan {
  /** For each step, the location of each argument. */
  readonly locations: readonly (readonly Location[])[];
  readonly arenaBytes: number;
  readonly lowerBound: number;
  /** Arena place of every value and scratch, for tests: offset, bytes, first and last step. */
  readonly blocks: readonly (Block & { readonly offset: number })[];
}

/** A value or scratch in the arena. Several values may follow one another in one place. */
interface Tenant {
  readonly bytes: number;
  first: number;
  last: number;
  /** The tenant whose place this one takes over. */
  takesOver: Tenant | null;
  /** Whether another tenant takes over from this one. */
  taken: boolean;
}

/**
 * @param fixed where a value is that is not in the arena: bound or a scalar slot; null for others.
 * @param kept where what outlives the run is.
 */
export function planMemory(
  steps: readonly Step[],
  fixed: (node: Node) => Location | null,
  kept: ReadonlyMap<Scratch | Node, Location> = new Map(),
): MemoryPlan {
  const tenants = new Map<Node | Scratch, Tenant>();
  const inArena = (memory: Memory): Node | Scratch | null => {
    if (memory.kind === 'binding') return null;
    const key = memory.kind === 'value' ? memory.node : memory.scratch;
    if (kept.has(key)) return null;
    return memory.kind === 'scratch' || fixed(memory.node) === null ? key : null;
  };
  steps.forEach(({ stage }, at) => {
    for (const memory of stage.memory) {
      const key = inArena(memory);
      if (key === null) continue;
      const tenant = tenants.get(key);
      if (tenant === undefined) {
        const bytes = bytesOf(memory);
        tenants.set(key, { bytes, first: at, last: at, takesOver: null, taken: false });
      } else tenant.last = at;
    }
  });
  steps.forEach((step, at) => takeOver(step, at, tenants));

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
  const layout = layOutArena(blocks);
  const offsets = new Map(places.map((place, i) => [place, layout.offsets[i] as number]));
  const locate = (memory: Memory): Location => {
    if (memory.kind === 'binding') return { space: 'binding', index: memory.index };
    const key = memory.kind === 'value' ? memory.node : memory.scratch;
    const known = kept.get(key) ?? (memory.kind === 'value' ? fixed(memory.node) : null);
    if (known !== null) return known;
    const offset = offsets.get(placeOf(tenants.get(key) as Tenant)) as number;
    return { space: 'arena', offset };
  };
  return {
    locations: steps.map(({ stage }) => stage.memory.map(locate)),
    arenaBytes: layout.bytes,
    lowerBound: layout.lowerBound,
    blocks: blocks.map((block, i) => ({ ...block, offset: layout.offsets[i] as number })),
  };
}

function bytesOf(memory: Memory): number {
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
function takeOver(step: Step, at: number, tenants: ReadonlyMap<Node | Scratch, Tenant>): void {
  const { kernel, memory } = step.stage;
  memory.forEach((written, i) => {
    if (kernel.buffers[i]?.access !== 'write' || written.kind !== 'value') return;
    const result = tenants.get(written.node);
    if (result === undefined || result.first !== at || result.takesOver !== null) return;
    for (const [j, read] of memory.entries()) {
      if (kernel.buffers[j]?.access !== 'read' || read.kind !== 'value') continue;
      const operand = tenants.get(read.node);
      if (operand === undefined || operand === result) continue;
      if (operand.taken || operand.last !== at || operand.bytes !== result.bytes) continue;
      if (!step.mayShare(written.node, read.node)) continue;
      result.takesOver = operand;
      operand.taken = true;
      return;
    }
  });
}
