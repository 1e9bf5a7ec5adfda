// Renders a whole plan as one WebAssembly module: its kernels, and `run`, which executes the
// dispatches in order on one or several threads.
import { BARRIER } from '../../runtime/worker-source.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Location, Plan } from '../../runtime/plan.ts';
import { type FunctionBuilder, ModuleBuilder } from './encoder.ts';
import { Helpers } from './helpers.ts';
import { type RenderedKernel, renderKernel } from './renderer.ts';
import { scheduleOf, type Step } from './schedule.ts';

/** Pages a 32-bit memory can have. */
export const MAXIMUM_PAGES = 65536;
const BARRIER_WORD_BYTES = 4;

export interface ProgramOptions {
  readonly relaxed: boolean;
  /** Set if the memory is shared: where the pool's barrier block stands in it. */
  readonly barrierAddress: number | undefined;
}

/**
 * The plan's table in memory, in bytes from its start: the arena's address, the address of the
 * threads' scratch, scalar slots of 8 bytes, binding addresses of 4 bytes.
 */
export interface TableLayout {
  readonly arena: number;
  readonly scratch: number;
  readonly scalars: number;
  readonly bindings: number;
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

export function tableLayout(plan: Plan): TableLayout {
  const scalars = 8;
  const bindings = scalars + 8 * plan.scalars.length;
  return { arena: 0, scratch: 4, scalars, bindings, bytes: bindings + 4 * plan.bindings.length };
}

/** Renders a plan whose kernels are prepared (`prepareKernel`). */
export function renderProgram(plan: Plan, options: ProgramOptions): Program {
  const { barrierAddress, relaxed } = options;
  const shared = barrierAddress !== undefined;
  const module = new ModuleBuilder({ initial: 1, maximum: MAXIMUM_PAGES, shared });
  const schedule = scheduleOf(plan);
  const threaded = shared && schedule.parallel;
  const wait = threaded ? module.importFunction('wait', ['i32']) : 0;
  const helpers = new Helpers(module);
  const kernels = plan.kernels.map((kernel) => renderKernel(kernel, module, helpers, { relaxed }));
  const scratchBytes = kernels.reduce((most, kernel) => Math.max(most, kernel.scratchBytes), 0);
  const table = tableLayout(plan);
  const barrier = threaded ? renderBarrier(module, barrierAddress, wait) : undefined;
  const run = module.function(['i32', 'i32', 'i32'], [], 'run');
  new RunRenderer(plan, kernels, table, run, barrier, scratchBytes).render(schedule.steps);
  return {
    code: module.encode(),
    table,
    scratchBytes,
    parallel: threaded,
    parallelWork: schedule.parallelWork,
    dispatches: schedule.steps.length,
    barriers: schedule.steps.filter((step) => step.barrier).length,
  };
}

const THREAD = 0;
const THREAD_COUNT = 1;
const TABLE = 2;

class RunRenderer {
  readonly #plan: Plan;
  readonly #kernels: readonly RenderedKernel[];
  readonly #table: TableLayout;
  readonly #f: FunctionBuilder;
  readonly #barrier: number | undefined;
  readonly #arena: number;
  readonly #scratch: number;
  readonly #begin: number;
  readonly #end: number;

  constructor(
    plan: Plan,
    kernels: readonly RenderedKernel[],
    table: TableLayout,
    f: FunctionBuilder,
    barrier: number | undefined,
    scratchBytes: number,
  ) {
    this.#plan = plan;
    this.#kernels = kernels;
    this.#table = table;
    this.#f = f;
    this.#barrier = barrier;
    this.#arena = f.local('i32');
    this.#scratch = f.local('i32');
    this.#begin = f.local('i32');
    this.#end = f.local('i32');
    f.get(TABLE).memory('i32.load', table.arena).set(this.#arena);
    if (scratchBytes > 0) {
      f.get(TABLE).memory('i32.load', table.scratch);
      f.get(THREAD).i32(scratchBytes).op('i32.mul').op('i32.add').set(this.#scratch);
    }
  }

  render(steps: readonly Step[]): void {
    const f = this.#f;
    // Consecutive steps of the first thread share one test.
    let alone = false;
    for (const step of steps) {
      const barrier = step.barrier && this.#barrier !== undefined;
      const first = !step.parallel && this.#barrier !== undefined;
      if (alone && (barrier || !first)) {
        f.end();
        alone = false;
      }
      if (barrier) f.get(THREAD_COUNT).call(this.#barrier ?? 0);
      if (first && !alone) {
        f.get(THREAD).op('i32.eqz').if();
        alone = true;
      }
      this.#step(step);
    }
    if (alone) f.end();
  }

  #step(step: Step): void {
    const f = this.#f;
    const { gridSize } = this.#plan.kernels[step.dispatch.kernel] as Kernel;
    const shares = step.parallel && this.#barrier !== undefined;
    if (!shares && step.itemsPerCall >= gridSize) {
      this.#call(step, () => f.i32(0).i32(gridSize));
      return;
    }
    if (shares) {
      this.#boundary(gridSize, () => f.get(THREAD)).set(this.#begin);
      this.#boundary(gridSize, () => f.get(THREAD).i32(1).op('i32.add')).set(this.#end);
    } else {
      f.i32(0).set(this.#begin).i32(gridSize).set(this.#end);
    }
    const { itemsPerCall } = step;
    f.block().loop();
    f.get(this.#begin).get(this.#end).op('i32.ge_u').brIf(1);
    const next = f.local('i32');
    // min(end, begin + itemsPerCall), written so that it cannot overflow.
    f.get(this.#begin).i32(itemsPerCall).op('i32.add').get(this.#end);
    f.get(this.#end).get(this.#begin).op('i32.sub').i32(itemsPerCall).op('i32.gt_u');
    f.op('select').set(next);
    this.#call(step, () => f.get(this.#begin).get(next));
    f.get(next).set(this.#begin).br(0);
    f.release(next);
    f.end().end();
  }

  /** Pushes gridSize * part / threadCount. */
  #boundary(gridSize: number, part: () => FunctionBuilder): FunctionBuilder {
    part().op('i64.extend_i32_u').i64(BigInt(gridSize)).op('i64.mul');
    this.#f.get(THREAD_COUNT).op('i64.extend_i32_u').op('i64.div_u').op('i32.wrap_i64');
    return this.#f;
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
        if (location.offset !== 0) f.i32(location.offset).op('i32.add');
        break;
      case 'binding':
        f.get(TABLE).memory('i32.load', this.#table.bindings + 4 * location.index);
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
}

/** The barrier of the worker pool's protocol (see `WorkerPool`): a function of the thread count. */
function renderBarrier(module: ModuleBuilder, address: number, wait: number): number {
  const f = module.function(['i32']);
  const phase = f.local('i32');
  const spins = f.local('i32');
  const at = (word: keyof typeof BARRIER): number => address + BARRIER_WORD_BYTES * BARRIER[word];
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
