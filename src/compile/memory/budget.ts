// A memory budget for one plan: orders its kernels so that they let go early, and runs some of them
// again, the same kernels on the same values, so that every result keeps its bits.
import { BudgetError } from '../../base/errors.ts';
import { Node } from '../../graph/node.ts';
import { isLoop, type Item, stepsIn } from '../items.ts';
import type { Memory, Place } from '../lower/kernel-builder.ts';
import { orderForMemory } from './reorder.ts';
import { Recomputation, type Solution } from './recompute.ts';
import { instancesOf, type Timeline } from './timeline.ts';
import { type Fixed, type Key, ownerOf, placeOf, type Unit, type Units, unitsOf } from './units.ts';

/** Most bytes of the arena; `sqrt`: as few as segments of the forward pass make possible. */
export type MemoryBudget = number | 'sqrt';

/** What a budget did to a plan. */
export interface BudgetReport {
  readonly budget: MemoryBudget;
  /** Bytes of the arena as they are, and as they would be without a budget. */
  readonly arenaBytes: number;
  readonly unbudgetedBytes: number;
  /** Arithmetic of what runs again, and of the program when nothing does. */
  readonly extraFlops: number;
  readonly flops: number;
  /** Dispatches that run again. */
  readonly recomputed: number;
  /** Milliseconds that the search took. */
  readonly searchMs: number;
}

export interface Budgeted {
  readonly items: readonly Item[];
  readonly report: BudgetReport;
}

/** Real layouts tried for one start of the search; each a little below the one before. */
const LAYOUTS = 12;
/** Ways to leave out what a plan does not need that are laid out. */
const PRUNINGS = 3;
/** Segmentations that are laid out to find the smallest. */
const SEGMENTED = 4;

/** Bytes of the arena of a list of items; as few as can be if that is more than `enough`. */
type ArenaBytesOf = (items: readonly Item[], enough?: number) => number;

/**
 * The items in an order, and with repetitions, for which the arena fits.
 *
 * @throws BudgetError if no plan is found that fits.
 */
export function fitBudget(
  items: readonly Item[],
  budget: MemoryBudget,
  where: Fixed,
  arenaBytesOf: ArenaBytesOf,
): Budgeted {
  const start = performance.now();
  const listed = unitsOf(items, where);
  const flops = listed.units.reduce((sum, unit) => sum + unit.flops, 0);
  const before = arenaBytesOf(items, budget === 'sqrt' ? 0 : budget);
  const fitting = new Fitting(listed, budget, where, arenaBytesOf);
  const found = budget !== 'sqrt' && before <= budget ? null : fitting.find(before);
  return {
    items: found?.items ?? items,
    report: {
      budget,
      arenaBytes: found?.bytes ?? before,
      unbudgetedBytes: before,
      extraFlops: found?.extraFlops ?? 0,
      flops,
      recomputed: found?.recomputed ?? 0,
      searchMs: performance.now() - start,
    },
  };
}

/** A plan that fits. */
interface Found {
  readonly items: readonly Item[];
  readonly bytes: number;
  readonly extraFlops: number;
  readonly recomputed: number;
}

class Fitting {
  /** In the order that lets go early. */
  readonly #program: Units;
  readonly #search: Recomputation;
  readonly #budget: MemoryBudget;
  readonly #where: Fixed;
  readonly #arenaBytesOf: ArenaBytesOf;
  /** Fewest bytes at the end of a way down. */
  #least = Infinity;

  constructor(listed: Units, budget: MemoryBudget, where: Fixed, arenaBytesOf: ArenaBytesOf) {
    const order = orderForMemory(listed);
    const items = order.flatMap((unit) => (listed.units[unit] as Unit).items);
    this.#program = unitsOf(items, where);
    this.#search = new Recomputation(this.#program);
    this.#budget = budget;
    this.#where = where;
    this.#arenaBytesOf = arenaBytesOf;
  }

  /** The plan, or null if the one with `before` bytes is as good. */
  find(before: number): Found | null {
    if (this.#budget === 'sqrt') return this.#smallest(before);
    const fitting: Solution[] = [];
    for (const path of this.#search.paths()) {
      const solution = this.#along(path, this.#budget);
      if (solution !== null) fitting.push(solution);
    }
    const [best] = fitting.sort((a, b) => a.timeline.extraCost - b.timeline.extraCost);
    if (best === undefined) throw new BudgetError(this.#budget, this.#least);
    return this.#found(best);
  }

  /** The best of the best segments. */
  #smallest(before: number): Found | null {
    let best: Solution | null = null;
    let least = before;
    for (const solution of [this.#search.base, ...this.#search.segmented().slice(0, SEGMENTED)]) {
      if (solution.timeline.peak >= least) continue;
      const bytes = this.#bytesOf(solution);
      if (bytes < least) [best, least] = [solution, bytes];
    }
    if (best === null) return null;
    // What does not lower the peak need not be computed again.
    const pruned = this.#search.pruned(best, best.timeline.peak);
    return this.#found(this.#bytesOf(pruned) <= least ? pruned : best);
  }

  #items({ timeline }: Solution): readonly Item[] {
    return itemsOf(this.#program, timeline, this.#where);
  }

  #bytesOf(solution: Solution): number {
    const enough = this.#budget === 'sqrt' ? 0 : this.#budget;
    return this.#arenaBytesOf(this.#items(solution), enough);
  }

  #found(solution: Solution): Found {
    const { timeline } = solution;
    let recomputed = 0;
    timeline.unit.forEach((unit, run) => {
      if (unit === timeline.at[run]) return;
      recomputed += stepsIn((this.#program.units[unit] as Unit).items).length;
    });
    return {
      items: this.#items(solution),
      bytes: this.#bytesOf(solution),
      extraFlops: timeline.extraFlops,
      recomputed,
    };
  }

  /** The first plan of a path that fits, without what it does not need. */
  #along(path: Iterable<Solution>, budget: number): Solution | null {
    let last: Solution | null = null;
    let layouts = 0;
    let below = budget;
    for (const solution of path) {
      last = solution;
      if (solution.timeline.peak > below || layouts >= LAYOUTS) continue;
      layouts++;
      const bytes = this.#bytesOf(solution);
      if (bytes <= budget) return this.#pruned(solution, budget);
      // A layout wastes a little: the next one that is tried has room for that.
      below = solution.timeline.peak - (bytes - budget) / 2;
    }
    if (last === null) return null;
    const bytes = this.#bytesOf(last);
    this.#least = Math.min(this.#least, bytes);
    return bytes <= budget ? last : null;
  }

  #pruned(solution: Solution, budget: number): Solution {
    // What the layout wastes now it will waste then.
    let limit = budget - (this.#bytesOf(solution) - solution.timeline.peak);
    for (let tried = 0; tried < PRUNINGS; tried++) {
      const pruned = this.#search.pruned(solution, limit);
      if (pruned === solution) break;
      const bytes = this.#bytesOf(pruned);
      if (bytes <= budget) return pruned;
      limit -= bytes - budget;
      if (limit < solution.timeline.peak) break;
    }
    return solution;
  }
}

// ---- from a timeline to items -----------------------------------------------------------------

/** The program's items as a timeline has them run. */
function itemsOf(program: Units, timeline: Timeline, where: Fixed): readonly Item[] {
  const seen = new Set<number>();
  const keys = Array.from(timeline.value, (value): Key => {
    const { key } = program.values[value] as (typeof program.values)[number];
    if (seen.has(value)) return again(key);
    seen.add(value);
    return key;
  });
  return Array.from(timeline.unit).flatMap((unit, run) =>
    remapped(program, unit, unit !== timeline.at[run], instancesOf(timeline, run), keys, where),
  );
}

/** A key of its own for the same kind of value. */
function again(key: Key): Key {
  if (!('shape' in key)) return { ...key };
  return new Node(key.op, [], key.attrs, key.shape, key.dtype, false, key.device);
}

function remapped(
  program: Units,
  which: number,
  isAgain: boolean,
  instances: Int32Array,
  keys: readonly Key[],
  where: Fixed,
): readonly Item[] {
  const unit = program.units[which] as Unit;
  const moved = new Map<Key | number, Key>();
  [...unit.reads, ...unit.writes].forEach((value, i) => {
    const { key } = program.values[value] as (typeof program.values)[number];
    const to = keys[instances[i] as number] as Key;
    if (to !== key) moved.set(key, to);
  });
  if (!isAgain && moved.size === 0) return unit.items;
  const keyOf = (place: Place, written: boolean): Key | null => {
    const owner = ownerOf(place, where);
    if (owner === null) return null;
    if (typeof owner === 'number') {
      // Results are there already: what computes them again writes elsewhere.
      if (!written || !isAgain || place.kind !== 'value') return null;
      const known = moved.get(owner) ?? again(place.node);
      moved.set(owner, known);
      return known;
    }
    const known = moved.get(owner);
    if (known !== undefined) return known;
    if (!isAgain || program.numberOf.has(owner)) return null;
    const own = again(owner);
    moved.set(owner, own);
    return own;
  };
  const remap = (memory: Memory, written: boolean): Memory => {
    const place = placeOf(memory);
    const key = keyOf(place, written);
    if (key === null) return memory;
    const to: Place =
      'shape' in key ? { kind: 'value', node: key } : { kind: 'scratch', scratch: key };
    return memory.kind === 'moving' ? { ...memory, of: to } : to;
  };
  const visit = (item: Item): Item => {
    if (isLoop(item)) {
      const { condition } = item;
      return {
        ...item,
        items: item.items.map(visit),
        condition:
          condition === null ? null : { ...condition, memory: remap(condition.memory, false) },
      };
    }
    const { kernel, memory } = item.stage;
    const { explanation } = item;
    return {
      ...item,
      stage: {
        kernel,
        memory: memory.map((place, i) => remap(place, kernel.buffers[i]?.access !== 'read')),
      },
      explanation: isAgain
        ? { ...explanation, schedule: `${explanation.schedule}, again`, reasons: [] }
        : explanation,
    };
  };
  return unit.items.map(visit);
}
