// Who runs each dispatch of a plan - all threads or the first alone - and where threads must meet.
import type { Kernel } from '../../ir/kernel.ts';
import type { Dispatch, Location, Plan } from '../../runtime/plan.ts';
import { touchedBytes, workPerItem } from './work.ts';

/** Below this (about 4 us) splitting a dispatch costs more than it saves. */
const TINY_WORK = 10_000;
/**
 * Work of one call of a kernel, about 40 us. V8 never replaces the code of a call that has begun
 * (docs/decisions/0003-one-module-per-plan.md), so a long range is run in several calls.
 */
const WORK_PER_CALL = 100_000;

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
  /** Whether any step is parallel. */
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
export function scheduleOf(plan: Plan): Schedule {
  const facts = plan.kernels.map((kernel) => ({
    work: workPerItem(kernel),
    touched: touchedBytes(kernel),
  }));
  const steps: Step[] = [];
  let pending: Access[] = [];
  let parallelWork = 0;
  for (const dispatch of plan.dispatches) {
    const kernel = plan.kernels[dispatch.kernel] as Kernel;
    const { work, touched } = facts[dispatch.kernel] as (typeof facts)[number];
    if (kernel.gridSize === 0) continue;
    const total = work * kernel.gridSize;
    const parallel = kernel.gridSize > 1 && total > TINY_WORK;
    if (parallel) parallelWork += total;
    const accesses = accessesOf(kernel, dispatch, touched, parallel);
    const barrier = accesses.some((access) => pending.some((earlier) => conflict(earlier, access)));
    if (barrier) pending = [];
    pending.push(...accesses);
    const itemsPerCall = Math.max(1, Math.floor(WORK_PER_CALL / Math.max(1, work)));
    steps.push({ dispatch, parallel, barrier, itemsPerCall });
  }
  return { steps, parallel: parallelWork > 0, parallelWork };
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
