// Who runs each dispatch of a plan - all threads or the first alone - and where threads must meet.
import type { Kernel } from '../ir/kernel.ts';
import {
  type Dispatch,
  itemsOf,
  type Location,
  type Loop,
  type LoopItem,
  type Plan,
  type PlanItem,
} from './plan.ts';
import { factsOf } from './kernel-work.ts';

// Work is counted in instructions (see workPerItem), of which a core does about seven a nanosecond.

/** Least work for which threads are used. Experiments and tests change it. */
export interface WorkLimits {
  /** Of a dispatch that is split: with less (about 6 us) that costs more than it saves. */
  readonly dispatch: number;
  /** Of all such dispatches of a plan: with less (about 70 us) nobody is woken. */
  readonly plan: number;
}

export const WORK_LIMITS: WorkLimits = { dispatch: 40_000, plan: 500_000 };

/**
 * Most and least work of one call of a kernel: about 15 us and 1.5 us. V8 never replaces the code of
 * a call that has begun (docs/decisions/0003-one-module-per-plan.md), so long ranges are run in
 * several calls; and a thread that is early takes over calls from one that is late.
 */
const CALL_WORK_MAX = 100_000;
const CALL_WORK_MIN = 10_000;
/** Calls into which a parallel dispatch is cut, if these limits allow. */
const CALLS_PER_DISPATCH = 16;

export interface Step {
  readonly dispatch: Dispatch;
  /** Whether all threads share the grid; else the first thread does it all. */
  readonly parallel: boolean;
  /** Whether all threads must have finished what came before. */
  readonly barrier: boolean;
  /** Grid items of one call at most. */
  readonly itemsPerCall: number;
}

/** A loop. All threads go through a parallel one and meet before each iteration; else the first does. */
export interface LoopStep {
  readonly loop: Loop;
  readonly steps: readonly PlanStep[];
  readonly parallel: boolean;
  /** Whether all threads must have finished what came before; of a parallel one always. */
  readonly barrier: boolean;
}

export type PlanStep = Step | LoopStep;

export interface Schedule {
  readonly steps: readonly PlanStep[];
  /** Whether there is enough to do for more than one thread. */
  readonly parallel: boolean;
  /** Estimated work of all parallel steps. */
  readonly parallelWork: number;
}

/** All steps that dispatch, those in loops too. */
export function dispatchesIn(steps: readonly PlanStep[]): Step[] {
  return steps.flatMap((step) => ('loop' in step ? dispatchesIn(step.steps) : [step]));
}

interface Access {
  readonly space: 'arena' | 'binding';
  /** Offset in the arena, or the number of the binding. */
  readonly start: number;
  readonly end: number;
  readonly writes: boolean;
  readonly parallel: boolean;
}

/** Iterations assumed of a loop that only a condition ends. */
const UNKNOWN_TRIPS = 16;

/** Plans barriers so that every pair of dispatches with a data hazard is separated by one. */
export function scheduleOf(plan: Plan, limits: WorkLimits): Schedule {
  const scheduler = new Scheduler(plan, limits);
  const { steps } = scheduler.place(itemsOf(plan), [], 1);
  const { parallelWork } = scheduler;
  return { steps, parallel: parallelWork > 0 && parallelWork >= limits.plan, parallelWork };
}

interface Placed {
  readonly steps: PlanStep[];
  /** What was touched since the threads met last. */
  readonly pending: Access[];
  /** All that was touched. */
  readonly all: Access[];
}

class Scheduler {
  parallelWork = 0;
  readonly #plan: Plan;
  readonly #limits: WorkLimits;
  /** Of the loops around, by depth. */
  readonly #trips: number[] = [];

  constructor(plan: Plan, limits: WorkLimits) {
    this.#plan = plan;
    this.#limits = limits;
  }

  /** @param times how often this part runs, about. */
  place(items: readonly PlanItem[], before: readonly Access[], times: number): Placed {
    const placed: Placed = { steps: [], pending: [...before], all: [...before] };
    for (const item of items) {
      if ('loop' in item) this.#placeLoop(item, placed, times);
      else this.#placeDispatch(item, placed, times);
    }
    return placed;
  }

  #placeDispatch(dispatch: Dispatch, placed: Placed, times: number): void {
    const kernel = this.#plan.kernels[dispatch.kernel] as Kernel;
    const { work, touched } = factsOf(kernel);
    if (kernel.gridSize === 0) return;
    const total = work * kernel.gridSize;
    const parallel = kernel.gridSize > 1 && total >= this.#limits.dispatch;
    if (parallel) this.parallelWork += total * times;
    const accesses = kernel.buffers.flatMap(({ access }, position) =>
      this.#accessOf(
        dispatch.arguments[position] as Location,
        touched[position] as number,
        access !== 'read',
        parallel,
      ),
    );
    const barrier = this.#meet(placed, accesses);
    const callWork = Math.max(CALL_WORK_MIN, Math.min(total / CALLS_PER_DISPATCH, CALL_WORK_MAX));
    const itemsPerCall = Math.max(1, Math.floor(callWork / Math.max(1, work)));
    placed.steps.push({ dispatch, parallel, barrier, itemsPerCall });
  }

  #placeLoop({ loop, items }: LoopItem, placed: Placed, times: number): void {
    const { depth, trips, condition } = loop;
    this.#trips[depth] = trips;
    // Whoever looks at the condition must have done so before it changes.
    const looks = condition === null ? [] : this.#accessOf(condition.location, 1, false, true);
    const inner = this.place(items, looks, times * (trips < 0 ? UNKNOWN_TRIPS : trips));
    // Threads that have no part in a loop would not know how often it ran.
    const counts = condition !== null && trips !== 1;
    const parallel = counts || inner.steps.some((step) => step.parallel);
    if (parallel) {
      // They meet before the first iteration.
      placed.pending.length = 0;
      placed.pending.push(...inner.pending);
      placed.all.push(...inner.all);
      placed.steps.push({ loop, steps: inner.steps, parallel, barrier: true });
      return;
    }
    const accesses = inner.all.map((access) => ({ ...access, parallel: false }));
    const barrier = this.#meet(placed, accesses);
    placed.steps.push({ loop, steps: inner.steps, parallel, barrier });
  }

  /** Notes what a step touches; whether the threads must meet before it. */
  #meet({ pending, all }: Placed, accesses: readonly Access[]): boolean {
    const barrier = accesses.some((access) => pending.some((earlier) => conflict(earlier, access)));
    if (barrier) pending.length = 0;
    pending.push(...accesses);
    all.push(...accesses);
    return barrier;
  }

  #accessOf(location: Location, bytes: number, writes: boolean, parallel: boolean): Access[] {
    if (location.space === 'scalar') return [];
    if (location.space === 'binding') {
      const start = location.index;
      return [{ space: 'binding', start, end: start + 1, writes, parallel }];
    }
    if (bytes <= 0) return [];
    let start = location.offset;
    let end = start + bytes;
    for (const { depth, bytes: stride, turn } of location.strides ?? []) {
      const reach = stride * (turn === undefined ? (this.#trips[depth] as number) - 1 : 1);
      if (reach < 0) start += reach;
      else end += reach;
    }
    return [{ space: 'arena', start, end, writes, parallel }];
  }
}

function conflict(earlier: Access, later: Access): boolean {
  if (!earlier.writes && !later.writes) return false;
  // Both on the first thread, one after the other.
  if (!earlier.parallel && !later.parallel) return false;
  return earlier.space === later.space && earlier.start < later.end && later.start < earlier.end;
}
