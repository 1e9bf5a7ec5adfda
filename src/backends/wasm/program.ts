// Renders a whole plan as one WebAssembly module: its kernels, and `run`, which executes the
// dispatches in order on one or several threads.
import { BARRIER } from '../../runtime/worker-source.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Location, Loop, Plan, Stride } from '../../runtime/plan.ts';
import { type FunctionBuilder, ModuleBuilder } from './encoder.ts';
import { Helpers } from './helpers.ts';
import { type RenderedKernel, renderKernel } from './renderer.ts';
import {
  dispatchesIn,
  type LoopStep,
  type PlanStep,
  scheduleOf,
  type Step,
  type WorkLimits,
} from '../../runtime/work-sharing.ts';

/** Pages a 32-bit memory can have. */
export const MAXIMUM_PAGES = 65536;
const CACHE_LINE = 64;

export interface ProgramOptions {
  readonly relaxed: boolean;
  readonly limits: WorkLimits;
  /** Set if the memory is shared: where the pool's barrier block stands in it, and how many run. */
  readonly pool: { readonly barrierAddress: number; readonly threads: number } | undefined;
}

/**
 * The plan's table in memory, in bytes from its start: the arena's address, the address of the
 * threads' scratch, scalar slots of 8 bytes, binding addresses of 4 bytes, and for every parallel
 * step what each thread's share has already been dealt out (4 bytes a thread, zero at first). Steps in
 * loops have that twice: while one iteration counts with the one, the other is cleared for the next.
 */
export interface TableLayout {
  readonly arena: number;
  readonly scratch: number;
  readonly scalars: number;
  readonly bindings: number;
  readonly dealt: number;
  readonly bytes: number;
}

export interface Program {
  readonly code: Uint8Array<ArrayBuffer>;
  readonly table: TableLayout;
  /** Scratch of each thread. */
  readonly scratchBytes: number;
  /** Whether any dispatch is worth several threads. */
  readonly parallel: boolean;
  /** Estimated instructions of what runs in parallel. */
  readonly parallelWork: number;
  /** Dispatches that one run executes. */
  readonly dispatches: number;
  /** Times the threads meet in one run, for explanations and tests. */
  readonly barriers: number;
}

function tableLayout(plan: Plan, dealtBytes: number): TableLayout {
  const scalars = 8;
  const bindings = scalars + 8 * plan.scalars.length;
  const end = bindings + 4 * plan.bindings.length;
  const dealt = Math.ceil(end / CACHE_LINE) * CACHE_LINE;
  return { arena: 0, scratch: 4, scalars, bindings, dealt, bytes: dealt + dealtBytes };
}

/** Renders a plan whose kernels are prepared (`prepareKernel`). */
export function renderProgram(plan: Plan, options: ProgramOptions): Program {
  const shared = options.pool !== undefined;
  const module = new ModuleBuilder({ initial: 1, maximum: MAXIMUM_PAGES, shared });
  const { run: _, ...program } = renderPlan(module, plan, options, 'run');
  return { code: module.encode(), ...program };
}

/** A plan in a module: `run` is the index of a function of (thread, threads, address of the table). */
export interface RenderedPlan extends Omit<Program, 'code'> {
  readonly run: number;
}

/** Adds a plan's functions to a module; what they call is exported if it is given a name. */
export function renderPlan(
  module: ModuleBuilder,
  plan: Plan,
  { pool, relaxed, limits }: ProgramOptions,
  exportName?: string,
): RenderedPlan {
  const { steps, parallel, parallelWork } = scheduleOf(plan, limits);
  const threaded = pool !== undefined && parallel;
  const wait = threaded ? module.importFunction('wait', ['i32']) : 0;
  const helpers = new Helpers(module);
  const kernels = plan.kernels.map((kernel) => renderKernel(kernel, module, helpers, { relaxed }));
  const scratchBytes = kernels.reduce((most, kernel) => Math.max(most, kernel.scratchBytes), 0);
  const sharing = threaded
    ? {
        barrier: renderBarrier(module, pool.barrierAddress, wait),
        deal: renderDeal(module),
        stride: Math.ceil((4 * pool.threads) / CACHE_LINE) * CACHE_LINE,
      }
    : undefined;
  const table = tableLayout(plan, countersIn(steps) * (sharing?.stride ?? 0));
  const run = module.function(['i32', 'i32', 'i32'], [], exportName);
  new RunRenderer(plan, kernels, table, run, sharing, scratchBytes).render(steps);
  return {
    run: run.index,
    table,
    scratchBytes,
    parallel: threaded,
    parallelWork,
    dispatches: dispatchesIn(steps).length,
    barriers: dispatchesIn(steps).filter((step) => step.barrier).length,
  };
}

/** Sets of counters that parallel steps need. */
function countersIn(steps: readonly PlanStep[]): number {
  return steps.reduce((sum, step) => {
    if ('loop' in step) return sum + 2 * ownCounters(step.steps) + nestedCounters(step.steps);
    return sum + (step.parallel ? 1 : 0);
  }, 0);
}

function ownCounters(steps: readonly PlanStep[]): number {
  return steps.filter((step) => !('loop' in step) && step.parallel).length;
}

function nestedCounters(steps: readonly PlanStep[]): number {
  return countersIn(steps) - ownCounters(steps);
}

/** What `run` needs to share work: functions of the module, and the bytes of a step's counters. */
interface Sharing {
  readonly barrier: number;
  readonly deal: number;
  readonly stride: number;
}

const THREAD = 0;
const THREAD_COUNT = 1;
const TABLE = 2;

class RunRenderer {
  readonly #plan: Plan;
  readonly #kernels: readonly RenderedKernel[];
  readonly #table: TableLayout;
  readonly #f: FunctionBuilder;
  readonly #sharing: Sharing | undefined;
  readonly #arena: number;
  readonly #scratch: number;
  readonly #begin: number;
  readonly #end: number;
  readonly #range: number;
  #dealt: number;
  /** Numbers of the iterations of the loops around, by depth. */
  readonly #iterations: number[] = [];
  /** In a loop that all threads go through: which counters are in use, and where the next ones are. */
  #turn: { readonly turn: number; readonly bytes: number; at: number } | null = null;

  constructor(
    plan: Plan,
    kernels: readonly RenderedKernel[],
    table: TableLayout,
    f: FunctionBuilder,
    sharing: Sharing | undefined,
    scratchBytes: number,
  ) {
    this.#plan = plan;
    this.#kernels = kernels;
    this.#table = table;
    this.#f = f;
    this.#sharing = sharing;
    this.#arena = f.local('i32');
    this.#scratch = f.local('i32');
    this.#begin = f.local('i32');
    this.#end = f.local('i32');
    this.#range = f.local('i64');
    this.#dealt = table.dealt;
    f.get(TABLE).memory('i32.load', table.arena).set(this.#arena);
    if (scratchBytes > 0) {
      f.get(TABLE).memory('i32.load', table.scratch);
      f.get(THREAD).i32(scratchBytes).op('i32.mul').op('i32.add').set(this.#scratch);
    }
  }

  render(steps: readonly PlanStep[]): void {
    const sharing = this.#sharing;
    if (sharing === undefined) {
      for (const step of steps) this.#alone(step);
      return;
    }
    const f = this.#f;
    // Consecutive steps of the first thread share one test.
    let alone = false;
    for (const step of steps) {
      if (alone && (step.barrier || step.parallel)) {
        f.end();
        alone = false;
      }
      const meets = step.barrier && !('loop' in step && step.parallel);
      if (meets) f.get(THREAD_COUNT).call(sharing.barrier);
      if (!step.parallel && !alone) {
        f.get(THREAD).op('i32.eqz').if();
        alone = true;
      }
      if (!step.parallel) this.#alone(step);
      else if ('loop' in step) this.#together(step, sharing);
      else this.#shared(step, sharing);
    }
    if (alone) f.end();
  }

  /** By this thread, whatever the others do. */
  #alone(step: PlanStep): void {
    if (!('loop' in step)) this.#whole(step);
    else {
      this.#repeat(
        step.loop,
        () => {},
        () => {
          for (const inner of step.steps) this.#alone(inner);
        },
      );
    }
  }

  /** By all threads, which meet before each iteration. */
  #together({ loop, steps }: LoopStep, sharing: Sharing): void {
    const f = this.#f;
    const bytes = ownCounters(steps) * sharing.stride;
    const counters = this.#dealt;
    this.#dealt += 2 * bytes;
    const outer = this.#turn;
    // Never set back: a loop within a loop goes on where it was.
    const turn = f.local('i32');
    this.#repeat(
      loop,
      () => {
        f.get(THREAD_COUNT).call(sharing.barrier);
        if (bytes === 0) return;
        f.get(turn).i32(1).op('i32.xor').set(turn);
        f.get(THREAD).op('i32.eqz').if();
        f.get(TABLE).i32(counters).op('i32.add');
        f.get(turn).i32(1).op('i32.xor').i32(bytes).op('i32.mul').op('i32.add');
        f.i32(0).i32(bytes).memoryFill().end();
      },
      () => {
        this.#turn = { turn, bytes, at: counters };
        this.render(steps);
      },
    );
    this.#turn = outer;
  }

  /** `meet` comes before the condition is looked at. */
  #repeat({ depth, trips, condition }: Loop, meet: () => void, body: () => void): void {
    const f = this.#f;
    const at = (this.#iterations[depth] ??= f.local('i32'));
    f.i32(0).set(at).block().loop();
    meet();
    if (trips >= 0) f.get(at).i32(trips).op('i32.ge_u').brIf(1);
    if (condition !== null) {
      this.#pushAddress(condition.location);
      f.memory('i32.load8_u');
      if (condition.when) f.op('i32.eqz');
      f.brIf(1);
    }
    body();
    f.get(at).i32(1).op('i32.add').set(at).br(0).end().end();
  }

  #gridSize({ dispatch }: Step): number {
    return (this.#plan.kernels[dispatch.kernel] as Kernel).gridSize;
  }

  /** The whole grid by this thread. */
  #whole(step: Step): void {
    const f = this.#f;
    const gridSize = this.#gridSize(step);
    const { itemsPerCall } = step;
    if (itemsPerCall >= gridSize) {
      this.#call(step, () => f.i32(0).i32(gridSize));
      return;
    }
    f.i32(0).set(this.#begin).loop();
    // min(gridSize, begin + itemsPerCall): below 2^31, for grids are.
    f.get(this.#begin).i32(itemsPerCall).op('i32.add').tee(this.#end).i32(gridSize);
    f.get(this.#end).i32(gridSize).op('i32.lt_u').op('select').set(this.#end);
    this.#call(step, () => f.get(this.#begin).get(this.#end));
    f.get(this.#end).tee(this.#begin).i32(gridSize).op('i32.lt_u').brIf(0).end();
  }

  /** Ranges of the grid as they are dealt out to this thread. */
  #shared(step: Step, { deal, stride }: Sharing): void {
    const f = this.#f;
    f.block().loop();
    this.#pushCounters(stride);
    f.get(THREAD).get(THREAD_COUNT);
    f.i32(this.#gridSize(step)).i32(step.itemsPerCall).call(deal);
    f.tee(this.#range).op('i64.eqz').brIf(1);
    this.#call(step, () => {
      f.get(this.#range).op('i32.wrap_i64');
      f.get(this.#range).i64(32n).op('i64.shr_u').op('i32.wrap_i64');
    });
    f.br(0).end().end();
  }

  /** The counters of the next parallel step. */
  #pushCounters(stride: number): void {
    const f = this.#f;
    const turn = this.#turn;
    const at = turn === null ? this.#dealt : turn.at;
    f.get(TABLE).i32(at).op('i32.add');
    if (turn === null) this.#dealt += stride;
    else {
      f.get(turn.turn).i32(turn.bytes).op('i32.mul').op('i32.add');
      turn.at += stride;
    }
  }

  #call({ dispatch }: Step, pushRange: () => void): void {
    const { index, scratchBytes } = this.#kernels[dispatch.kernel] as RenderedKernel;
    for (const location of dispatch.arguments) this.#pushAddress(location);
    pushRange();
    if (scratchBytes > 0) this.#f.get(this.#scratch);
    this.#f.call(index);
  }

  #pushAddress(location: Location): void {
    const f = this.#f;
    switch (location.space) {
      case 'arena':
        f.get(this.#arena);
        this.#move(location);
        break;
      case 'binding':
        f.get(TABLE).memory('i32.load', this.#table.bindings + 4 * location.index);
        this.#move(location);
        break;
      case 'scalar':
        f.get(TABLE)
          .i32(this.#table.scalars + 8 * location.slot)
          .op('i32.add');
        break;
      default:
        location satisfies never;
    }
  }

  /** Adds to an address what its location says. */
  #move(location: { readonly offset?: number; readonly strides?: readonly Stride[] }): void {
    const f = this.#f;
    const { offset = 0, strides = [] } = location;
    if (offset !== 0) f.i32(offset).op('i32.add');
    for (const { depth, bytes, turn } of strides) {
      f.get(this.#iterations[depth] as number);
      if (turn === 1) f.i32(1).op('i32.add');
      if (turn !== undefined) f.i32(1).op('i32.and');
      f.i32(bytes).op('i32.mul').op('i32.add');
    }
  }
}

/**
 * `deal(counters, thread, threadCount, gridSize, items)`: the next range of a grid for a thread, its
 * end in the high word and its begin in the low one, or 0 if all is dealt out. Each thread has a
 * share of its own, the same in every dispatch for the sake of caches; when that is done it takes
 * from the shares of the others, so that nobody waits for a thread that the system has interrupted.
 */
function renderDeal(module: ModuleBuilder): number {
  const f = module.function(['i32', 'i32', 'i32', 'i32', 'i32'], ['i64']);
  const [counters, thread, threadCount, gridSize, items] = [0, 1, 2, 3, 4] as const;
  const owner = f.local('i32');
  const left = f.local('i32');
  const begin = f.local('i32');
  const end = f.local('i32');
  const pushBoundary = (add: number): void => {
    f.get(owner).i32(add).op('i32.add').op('i64.extend_i32_u');
    f.get(gridSize).op('i64.extend_i32_u').op('i64.mul');
    f.get(threadCount).op('i64.extend_i32_u').op('i64.div_u').op('i32.wrap_i64');
  };
  const pushCounter = (): void => {
    f.get(counters).get(owner).i32(2).op('i32.shl').op('i32.add');
  };
  f.get(thread).set(owner).get(threadCount).set(left);
  f.loop();
  pushBoundary(0);
  f.set(begin);
  pushBoundary(1);
  f.set(end);
  // Looked at first, so that a counter is never raised far beyond its share.
  pushCounter();
  f.memory('i32.atomic.load').get(end).get(begin).op('i32.sub').op('i32.lt_u').if();
  pushCounter();
  f.get(items).memory('i32.atomic.rmw.add').get(begin).op('i32.add').tee(begin);
  f.get(end).op('i32.lt_u').if();
  // min(begin + items, end)
  f.get(begin).get(items).op('i32.add').get(end);
  f.get(end).get(begin).op('i32.sub').get(items).op('i32.gt_u').op('select');
  f.op('i64.extend_i32_u').i64(32n).op('i64.shl').get(begin).op('i64.extend_i32_u').op('i64.or');
  f.op('return').end().end();
  f.get(owner).i32(1).op('i32.add').tee(owner).get(threadCount).op('i32.eq');
  f.if().i32(0).set(owner).end();
  f.get(left).i32(1).op('i32.sub').tee(left).brIf(0).end();
  f.i64(0n);
  return f.index;
}

/** The barrier of the worker pool's protocol (see `WorkerPool`): a function of the thread count. */
function renderBarrier(module: ModuleBuilder, address: number, wait: number): number {
  const f = module.function(['i32']);
  const phase = f.local('i32');
  const spins = f.local('i32');
  const at = (word: keyof typeof BARRIER): number => address + 4 * BARRIER[word];
  const load = (word: keyof typeof BARRIER): FunctionBuilder =>
    f.i32(at(word)).memory('i32.atomic.load');
  f.get(0).i32(1).op('i32.eq').if().op('return').end();
  load('phase').tee(phase).i32(0).op('i32.lt_s').if().op('unreachable').end();
  f.i32(at('count')).i32(1).memory('i32.atomic.rmw.add');
  f.get(0).i32(1).op('i32.sub').op('i32.eq').if();
  // The last to come opens the barrier. A failure signalled meanwhile (phase < 0) must stay.
  f.i32(at('count')).i32(0).memory('i32.atomic.store');
  f.i32(at('phase')).get(phase).get(phase).i32(1).op('i32.add').i32(0x7fffffff).op('i32.and');
  f.memory('i32.atomic.rmw.cmpxchg').op('drop');
  load('waiters').if().i32(at('phase')).i32(-1).memory('memory.atomic.notify').op('drop').end();
  f.else();
  f.i32(at('spins')).memory('i32.load').set(spins);
  f.block().loop();
  load('phase').get(phase).op('i32.ne').brIf(1);
  f.get(spins).i32(0).op('i32.gt_s').if();
  f.get(spins).i32(1).op('i32.sub').set(spins);
  f.else().get(phase).call(wait).end();
  f.br(0).end().end();
  f.end();
  load('phase').i32(0).op('i32.lt_s').if().op('unreachable').end();
  return f.index;
}
