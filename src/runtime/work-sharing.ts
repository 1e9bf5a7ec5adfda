// Who runs each dispatch of a plan - all threads or the first alone - and where threads must meet.
import type { Kernel } from '../ir/kernel.ts';
import type { Dispatch, Location, Plan } from './plan.ts';
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

export interface Schedule {
  readonly steps: readonly Step[];
  /** Whether there is enough to do for more than one thread. */
  readonly parallel: boolean;
  /** Estimated work of all parallel steps. */
  readonly parallelWork: number;
}

interface Access {
  readonly space: 'arena' | 'binding';
  /** Offset in the arena, or the number of the binding. */
  readonly start: number;
  readonly end: number;
  readonly writes: boolean;
  readonly parallel: boolean;
}

/** Plans barriers so that every pair of dispatches with a data hazard is separated by one. */
export function scheduleOf(plan: Plan, limits: WorkLimits): Schedule {
  const steps: Step[] = [];
  let pending: Access[] = [];
  let parallelWork = 0;
  for (const dispatch of plan.dispatches) {
    const kernel = plan.kernels[dispatch.kernel] as Kernel;
    const { work, touched } = factsOf(kernel);
    if (kernel.gridSize === 0) continue;
    const total = work * kernel.gridSize;
    const parallel = kernel.gridSize > 1 && total >= limits.dispatch;
    if (parallel) parallelWork += total;
    const accesses = accessesOf(kernel, dispatch, touched, parallel);
    const barrier = accesses.some((access) => pending.some((earlier) => conflict(earlier, access)));
    if (barrier) pending = [];
    pending.push(...accesses);
    const callWork = Math.max(CALL_WORK_MIN, Math.min(total / CALLS_PER_DISPATCH, CALL_WORK_MAX));
    const itemsPerCall = Math.max(1, Math.floor(callWork / Math.max(1, work)));
    steps.push({ dispatch, parallel, barrier, itemsPerCall });
  }
  return { steps, parallel: parallelWork > 0 && parallelWork >= limits.plan, parallelWork };
}

function accessesOf(
  kernel: Kernel,
  dispatch: Dispatch,
  touched: readonly number[],
  parallel: boolean,
): Access[] {
  const accesses: Access[] = [];
  kernel.buffers.forEach((buffer, position) => {
    const location = dispatch.arguments[position] as Location;
    const writes = buffer.access !== 'read';
    const bytes = touched[position] as number;
    if (location.space === 'arena' && bytes > 0) {
      const start = location.offset;
      accesses.push({ space: 'arena', start, end: start + bytes, writes, parallel });
    } else if (location.space === 'binding') {
      const start = location.index;
      accesses.push({ space: 'binding', start, end: start + 1, writes, parallel });
    }
  });
  return accesses;
}

function conflict(earlier: Access, later: Access): boolean {
  if (!earlier.writes && !later.writes) return false;
  // Both on the first thread, one after the other.
  if (!earlier.parallel && !later.parallel) return false;
  return earlier.space === later.space && earlier.start < later.end && later.start < earlier.end;
}
