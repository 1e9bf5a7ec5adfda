// A plan in the form in which C runs it: a block of numbers (runtime-source.ts) with the addresses of
// compiled kernels, and tables for what changes from run to run.
import { CompileError, internalError } from '../../base/errors.ts';
import type { Kernel } from '../../ir/kernel.ts';
import type { Dispatch, Location, Plan } from '../../runtime/plan.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import {
  dispatchesIn,
  type LoopStep,
  type PlanStep,
  scheduleOf,
  type Step,
  type WorkLimits,
} from '../../runtime/work-sharing.ts';
import type { NativeHost } from './host.ts';
import { AlignedMemory } from './memory.ts';
import {
  BARRIER,
  COUNTER_BYTES,
  HEADER,
  HEADER_LENGTH,
  IS_LOOP,
  LOOP,
  LOOP_LENGTH,
  MAXIMUM_ARGUMENTS,
  MAXIMUM_DEPTH,
  MAXIMUM_LOOPS,
  PARALLEL,
  SPACE,
  STEP_LENGTH,
  WHILE_FALSE,
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
    const executed = dispatchesIn(steps).map(({ dispatch }) => dispatch);
    this.dispatches = executed.map((dispatch) => plan.dispatches.indexOf(dispatch));
    const block = new BlockWriter(plan, executed, library.addresses);
    block.write(steps);
    this.#counters = new AlignedMemory(block.counters * threads * COUNTER_BYTES);
    this.#bindings = new AlignedMemory(8 * plan.bindings.length);
    this.#addresses = this.#bindings.numbers(plan.bindings.length);
    this.#scalars = new AlignedMemory(8 * plan.scalars.length);
    this.#scalarView = this.#scalars.dataView();
    const { words } = block;
    this.#block = new AlignedMemory(8 * words.length);
    this.#numbers = this.#block.numbers(words.length);
    this.#numbers.set(words);
    this.#numbers[HEADER.length] = words.length - HEADER_LENGTH;
    this.#numbers[HEADER.threads] = this.parallel ? threads : 1;
    this.#numbers[HEADER.bindings] = this.#bindings.address;
    this.#numbers[HEADER.scalars] = this.#scalars.address;
    this.#numbers[HEADER.scratchStride] = this.scratchBytes;
    this.#numbers[HEADER.dealt] = this.#counters.address;
    this.#numbers[HEADER.counters] = block.counters;
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

/** The numbers that the C of runtime-source.ts goes through. */
class BlockWriter {
  readonly words: number[] = Array.from({ length: HEADER_LENGTH }, () => 0);
  /** Sets of counters so far. */
  counters = 0;
  readonly #plan: Plan;
  readonly #numberOf: ReadonlyMap<Dispatch, number>;
  readonly #addresses: readonly number[];
  #loops = 0;

  constructor(plan: Plan, executed: readonly Dispatch[], addresses: readonly number[]) {
    this.#plan = plan;
    this.#numberOf = new Map(executed.map((dispatch, i) => [dispatch, i]));
    this.#addresses = addresses;
  }

  /** @param turned how many sets later the second counters of these steps are; 0: they have none. */
  write(steps: readonly PlanStep[], first = -1, turned = 0): void {
    let own = first;
    for (const step of steps) {
      if ('loop' in step) this.#loop(step);
      else if (!step.parallel) this.#step(step, 0, 0);
      else this.#step(step, first < 0 ? this.counters++ : own++, turned);
    }
  }

  #step(step: Step, counters: number, turned: number): void {
    const { dispatch, itemsPerCall } = step;
    const { gridSize } = this.#plan.kernels[dispatch.kernel] as Kernel;
    const pairs = dispatch.arguments.flatMap(placeOf);
    if (dispatch.arguments.length > MAXIMUM_ARGUMENTS) {
      throw internalError(`a kernel of ${dispatch.arguments.length} buffers`);
    }
    const head = [
      flagsOf(step),
      this.#addresses[dispatch.kernel] ?? 0,
      gridSize,
      itemsPerCall,
      this.#numberOf.get(dispatch) ?? 0,
      counters,
      turned,
      pairs.length / 2,
    ];
    if (head.length !== STEP_LENGTH) throw internalError('a step of another form');
    this.words.push(...head, ...pairs);
  }

  #loop(step: LoopStep): void {
    const { trips, depth, condition } = step.loop;
    const number = this.#loops++;
    if (depth >= MAXIMUM_DEPTH || number >= MAXIMUM_LOOPS) {
      throw new CompileError(
        `${MAXIMUM_DEPTH} loops within each other, or ${MAXIMUM_LOOPS} in all, are too many`,
        { op: 'native' },
      );
    }
    const pairs = condition === null ? [] : placeOf(condition.location);
    const sets = step.steps.filter((inner) => !('loop' in inner) && inner.parallel).length;
    const flags = IS_LOOP | flagsOf(step) | (condition?.when === false ? WHILE_FALSE : 0);
    const first = this.counters;
    this.counters += 2 * sets;
    const head = [flags, trips, depth, 0, first, sets, number, pairs.length / 2];
    if (head.length !== LOOP_LENGTH) throw internalError('a loop of another form');
    const begin = this.words.push(...head, ...pairs) - pairs.length;
    this.write(step.steps, first, sets);
    this.words[begin - LOOP_LENGTH + LOOP.length] = this.words.length - begin;
  }
}

function flagsOf({ parallel, barrier }: PlanStep): number {
  return (parallel ? PARALLEL : 0) | (barrier ? BARRIER : 0);
}

function placeOf(location: Location): number[] {
  switch (location.space) {
    case 'arena':
      return [SPACE.arena, location.offset, ...movesOf({ ...location, offset: 0 })];
    case 'binding':
      return [SPACE.binding, location.index, ...movesOf(location)];
    case 'scalar':
      return [SPACE.scalar, location.slot];
    default:
      location satisfies never;
      throw internalError('unknown location');
  }
}

/** What adds to an address. */
function movesOf({ offset = 0, strides = [] }: Exclude<Location, { space: 'scalar' }>): number[] {
  const moves = strides.flatMap(({ depth, bytes, turn }) => [
    SPACE.stride + 3 * depth + (turn === undefined ? 0 : 1 + turn),
    bytes,
  ]);
  return offset === 0 ? moves : [SPACE.offset, offset, ...moves];
}
