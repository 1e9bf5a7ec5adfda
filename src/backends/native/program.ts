// A plan in the form in which C runs it: a block of numbers (runtime-source.ts) with the addresses of
// compiled kernels, and tables for what changes from run to run.
import { internalError } from '../../base/errors.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Location, Plan } from '../../runtime/plan.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import { scheduleOf, type Step, type WorkLimits } from '../../runtime/work-sharing.ts';
import type { NativeHost } from './host.ts';
import { AlignedMemory } from './memory.ts';
import {
  BARRIER,
  COUNTER_BYTES,
  HEADER,
  HEADER_LENGTH,
  MAXIMUM_ARGUMENTS,
  PARALLEL,
  SPACE,
  STEP_LENGTH,
} from './runtime-source.ts';

export class NativeProgram {
  readonly plan: Plan;
  /** Scratch of each thread. */
  readonly scratchBytes: number;
  /** Whether any dispatch is worth several threads. */
  readonly parallel: boolean;
  /** Estimated instructions of a run in all parallel steps. */
  readonly work: number;
  /** Numbers of the dispatches that a run executes: not those of empty grids. */
  readonly dispatches: readonly number[];
  /** Kernels that no plan of this process had. */
  readonly newKernels: number;
  /** Of the run that was queued last; 0 if none was. */
  ticket = 0;
  readonly #block: AlignedMemory;
  readonly #numbers: Float64Array;
  readonly #bindings: AlignedMemory;
  readonly #addresses: Float64Array;
  readonly #scalars: AlignedMemory;
  readonly #scalarView: DataView;
  /** Written by threads; held so that it lives as long as its address. */
  readonly #counters: AlignedMemory;

  constructor(plan: Plan, host: NativeHost, limits: WorkLimits, threads: number) {
    this.plan = plan;
    const { steps, parallel, parallelWork } = scheduleOf(plan, limits);
    const library = host.kernels(plan.kernels);
    this.scratchBytes = library.scratchBytes;
    this.newKernels = library.added;
    this.parallel = parallel && threads > 1;
    this.work = parallelWork;
    this.dispatches = steps.map(({ dispatch }) => plan.dispatches.indexOf(dispatch));
    const parallelSteps = steps.filter((step) => step.parallel).length;
    this.#counters = new AlignedMemory(parallelSteps * threads * COUNTER_BYTES);
    this.#bindings = new AlignedMemory(8 * plan.bindings.length);
    this.#addresses = this.#bindings.numbers(plan.bindings.length);
    this.#scalars = new AlignedMemory(8 * plan.scalars.length);
    this.#scalarView = this.#scalars.dataView();
    const words = blockOf(plan, steps, library.addresses);
    this.#block = new AlignedMemory(8 * words.length);
    this.#numbers = this.#block.numbers(words.length);
    this.#numbers.set(words);
    this.#numbers[HEADER.steps] = steps.length;
    this.#numbers[HEADER.threads] = this.parallel ? threads : 1;
    this.#numbers[HEADER.bindings] = this.#bindings.address;
    this.#numbers[HEADER.scalars] = this.#scalars.address;
    this.#numbers[HEADER.scratchStride] = this.scratchBytes;
    this.#numbers[HEADER.dealt] = this.#counters.address;
    this.#numbers[HEADER.parallelSteps] = parallelSteps;
  }

  get address(): number {
    return this.#block.address;
  }

  bind(index: number, address: number): void {
    this.#addresses[index] = address;
  }

  /** Makes the next runs measure their steps, or, with null, not. */
  measure(times: AlignedMemory | null): void {
    this.#numbers[HEADER.times] = times?.address ?? 0;
  }

  /** Writes what the next run finds in the block. */
  prepare(arena: AlignedMemory, scratch: AlignedMemory, scalars: Float64Array): void {
    this.#numbers[HEADER.arena] = arena.address;
    this.#numbers[HEADER.scratch] = scratch.address;
    writeScalars(this.#scalarView, 0, this.plan.scalars, scalars);
  }
}

function blockOf(plan: Plan, steps: readonly Step[], addresses: readonly number[]): number[] {
  const words: number[] = Array.from({ length: HEADER_LENGTH }, () => 0);
  for (const { dispatch, parallel, barrier, itemsPerCall } of steps) {
    const { gridSize } = plan.kernels[dispatch.kernel] as Kernel;
    const flags = (parallel ? PARALLEL : 0) | (barrier ? BARRIER : 0);
    const list = dispatch.arguments;
    if (list.length > MAXIMUM_ARGUMENTS) throw internalError(`a kernel of ${list.length} buffers`);
    const step = [addresses[dispatch.kernel] ?? 0, gridSize, itemsPerCall, flags, list.length];
    if (step.length !== STEP_LENGTH) throw internalError('a step of another form');
    words.push(...step);
    for (const location of list) words.push(...placeOf(location));
  }
  return words;
}

function placeOf(location: Location): readonly [number, number] {
  switch (location.space) {
    case 'arena':
      return [SPACE.arena, location.offset];
    case 'binding':
      return [SPACE.binding, location.index];
    case 'scalar':
      return [SPACE.scalar, location.slot];
    default:
      location satisfies never;
      throw internalError('unknown location');
  }
}
