// A memory budget for one plan: orders its kernels so that they let go early, and runs some of them
// again, the same kernels on the same values, so that every result keeps its bits.
import { BudgetError } from '../../base/errors.ts';
import { type Item, stepsIn } from '../items.ts';
import { orderForMemory } from './reorder.ts';
import { Recomputation, type Solution } from './recompute.ts';
import { itemsOf } from './repeat.ts';
import { type Fixed, type Unit, type Units, unitsOf } from './units.ts';

/** Most bytes of the arena; `sqrt`: as few as segments of the forward pass make possible. */
export type MemoryBudget = number | 'sqrt';

/** What a budget did to a plan. */
export interface BudgetReport {
  /** Null: nobody asked, and it costs next to nothing. */
  readonly budget: MemoryBudget | null;
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
  const fits = budget !== 'sqrt' && before <= budget;
  const found = fits ? null : new Fitting(listed, budget, where, arenaBytesOf).find(before);
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

/** Arenas of more bytes than this are made smaller without being asked to, to this part of them. */
const LARGE_ARENA = 256 * 2 ** 20;
const SMALLER = 0.6;
/** Arithmetic that runs again for that at most, as a part of all. */
const NEXT_TO_NOTHING = 0.01;

/**
 * A large plan made smaller where that costs next to nothing: of a training step normalizations and
 * activations, which are computed again from what stands before them. Null if there is nothing to gain.
 * `before` are the bytes of its arena as it is.
 */
export function saveMemory(
  items: readonly Item[],
  before: number,
  where: Fixed,
  arenaBytesOf: ArenaBytesOf,
): Budgeted | null {
  if (before <= LARGE_ARENA) return null;
  try {
    const found = fitBudget(items, Math.floor(SMALLER * before), where, arenaBytesOf);
    const { extraFlops, flops } = found.report;
    if (extraFlops > NEXT_TO_NOTHING * flops) return null;
    return { items: found.items, report: { ...found.report, budget: null } };
  } catch (error) {
    if (error instanceof BudgetError) return null;
    throw error;
  }
}

/** A plan that fits. */
interface Found {
  readonly items: readonly Item[];
  readonly bytes: number;
  readonly extraFlops: number;
  readonly recomputed: number;
}

interface LaidOut {
  readonly solution: Solution;
  readonly items: readonly Item[];
  /** Of the arena. */
  readonly bytes: number;
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
    const fitting: LaidOut[] = [];
    for (const path of this.#search.paths()) {
      const plan = this.#along(path, this.#budget);
      if (plan !== null) fitting.push(plan);
    }
    const costOf = ({ solution }: LaidOut): number => solution.timeline.extraCost;
    const [best] = fitting.sort((a, b) => costOf(a) - costOf(b));
    if (best === undefined) throw new BudgetError(this.#budget, this.#least);
    return this.#found(best);
  }

  /** The best of the best segments. */
  #smallest(before: number): Found | null {
    let best: LaidOut | null = null;
    let least = before;
    for (const solution of [this.#search.base, ...this.#search.segmented().slice(0, SEGMENTED)]) {
      if (solution.timeline.peak >= least) continue;
      const plan = this.#layOut(solution);
      if (plan.bytes < least) [best, least] = [plan, plan.bytes];
    }
    if (best === null) return null;
    // What does not lower the peak need not be computed again.
    const { solution } = best;
    const pruned = this.#layOut(this.#search.pruned(solution, solution.timeline.peak));
    return this.#found(pruned.bytes <= least ? pruned : best);
  }

  #layOut(solution: Solution): LaidOut {
    const items = itemsOf(this.#program, solution.timeline, this.#where);
    const enough = this.#budget === 'sqrt' ? 0 : this.#budget;
    return { solution, items, bytes: this.#arenaBytesOf(items, enough) };
  }

  #found({ solution, items, bytes }: LaidOut): Found {
    const { timeline } = solution;
    let recomputed = 0;
    timeline.unit.forEach((unit, run) => {
      if (unit === timeline.at[run]) return;
      recomputed += stepsIn((this.#program.units[unit] as Unit).items).length;
    });
    return { items, bytes, extraFlops: timeline.extraFlops, recomputed };
  }

  /** The first plan of a path that fits, without what it does not need. */
  #along(path: Iterable<Solution>, budget: number): LaidOut | null {
    let last: Solution | null = null;
    let layouts = 0;
    let below = budget;
    for (const solution of path) {
      last = solution;
      if (solution.timeline.peak > below || layouts >= LAYOUTS) continue;
      layouts++;
      const plan = this.#layOut(solution);
      if (plan.bytes <= budget) return this.#pruned(plan, budget);
      // A layout wastes a little: the next one that is tried has room for that.
      below = solution.timeline.peak - (plan.bytes - budget) / 2;
    }
    if (last === null) return null;
    const plan = this.#layOut(last);
    this.#least = Math.min(this.#least, plan.bytes);
    return plan.bytes <= budget ? plan : null;
  }

  #pruned(plan: LaidOut, budget: number): LaidOut {
    const { solution, bytes } = plan;
    // What the layout wastes now it will waste then.
    let limit = budget - (bytes - solution.timeline.peak);
    for (let tried = 0; tried < PRUNINGS; tried++) {
      const pruned = this.#search.pruned(solution, limit);
      if (pruned === solution) break;
      const smaller = this.#layOut(pruned);
      if (smaller.bytes <= budget) return smaller;
      limit -= smaller.bytes - budget;
      if (limit < solution.timeline.peak) break;
    }
    return plan;
  }
}
