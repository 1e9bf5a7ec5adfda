// A compiled program as bytes: its plans as JSON, their kernels as kernel-writer.ts writes them. For
// files that are to start without a compiler; every number in them is checked before it is used.
import { DTYPES, byteSize } from '../base/dtype.ts';
import { FormatError } from '../base/errors.ts';
import { isCount, isInt, isJson } from '../base/json.ts';
import type { Kernel } from '../ir/kernel.ts';
import { KERNEL_FORMAT } from '../ir/kernel-format.ts';
import { readKernels } from '../ir/kernel-reader.ts';
import type { Binding, Dispatch, Location, Loop, Plan, PreparedPlan, Stride } from './plan.ts';

/** What a program needs to run; `CompiledProgram` is more than that. */
export interface RunnableProgram {
  readonly plan: Plan;
  readonly prepared: PreparedPlan | null;
  readonly rootBindings: readonly number[];
}

export type PlanRecord = Omit<Plan, 'kernels'> & { readonly kernels: number };

export interface ProgramRecord {
  readonly format: number;
  readonly plan: PlanRecord;
  readonly prepared: (Omit<PreparedPlan, 'plan'> & { readonly plan: PlanRecord }) | null;
  readonly rootBindings: readonly number[];
}

/**
 * The program that bytes hold.
 *
 * @throws FormatError for bytes that are none.
 */
export function readProgram(bytes: Uint8Array): RunnableProgram {
  if (bytes.byteLength < 4) throw new FormatError('a stored program has 4 bytes at least');
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  if (length > bytes.byteLength - 4) throw new FormatError('a stored program ends too early');
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes.slice(4, 4 + length)));
  } catch (cause) {
    throw new FormatError('a stored program is no JSON', { cause });
  }
  const kernels = readKernels(bytes.subarray(4 + length));
  return new ProgramReader(kernels).program(json);
}

const fail = (what: string): never => {
  throw new FormatError(`a stored program: ${what}`);
};

const counted = (value: unknown, what: string): number =>
  isCount(value) ? value : fail(`${what} is ${JSON.stringify(value)}`);

function numbersBelow(value: unknown, end: number, what: string): readonly number[] {
  if (Array.isArray(value) && value.every((n) => isCount(n) && n < end)) return value;
  return fail(`${what} are no numbers below ${end}`);
}

class ProgramReader {
  readonly #kernels: readonly Kernel[];
  #taken = 0;

  constructor(kernels: readonly Kernel[]) {
    this.#kernels = kernels;
  }

  program(json: unknown): RunnableProgram {
    if (!isJson(json)) return fail('is no object');
    if (json['format'] !== KERNEL_FORMAT) fail(`its form ${String(json['format'])} is not known`);
    const plan = this.#plan(json['plan']);
    const end = plan.bindings.length;
    const rootBindings = numbersBelow(json['rootBindings'], end, 'its results');
    const before = json['prepared'];
    if (before === null) return { plan, prepared: null, rootBindings };
    if (!isJson(before)) return fail('what it prepares is no object');
    const ahead = this.#plan(before['plan']);
    const prepared: PreparedPlan = {
      plan: ahead,
      kept: numbersBelow(before['kept'], Math.min(end, ahead.bindings.length), 'what it keeps'),
      leaves: numbersBelow(before['leaves'], end, 'leaves'),
      scalars: numbersBelow(before['scalars'], plan.scalars.length, 'scalars'),
    };
    return { plan, prepared, rootBindings };
  }

  #plan(json: unknown): Plan {
    if (!isJson(json)) return fail('has no plan');
    const { dispatches, loops, bindings, scalars } = json;
    const count = counted(json['kernels'], 'the number of kernels');
    const kernels = this.#kernels.slice(this.#taken, (this.#taken += count));
    if (kernels.length !== count) fail('kernels are missing');
    if (!Array.isArray(bindings) || !Array.isArray(dispatches) || !Array.isArray(scalars)) {
      return fail('a plan lacks a list');
    }
    const plan: Plan = {
      kernels,
      bindings: bindings.map(bindingOf),
      scalars: scalars.map((dtype) => DTYPES.find((known) => known === dtype) ?? fail('a dtype')),
      arenaBytes: counted(json['arenaBytes'], 'its arena'),
      dispatches: dispatches.map((each: unknown) => dispatchOf(each, kernels)),
      ...(Array.isArray(loops) ? { loops: loops.map(loopOf) } : {}),
    };
    checkLoops(plan);
    plan.dispatches.forEach((dispatch, at) => checkReach(dispatch, plan, at));
    for (const { condition, first } of plan.loops ?? []) {
      if (condition !== null) checkLocation(condition.location, 1, plan, first);
    }
    return plan;
  }
}

function bindingOf(json: unknown): Binding {
  if (!isJson(json)) return fail('a binding is no object');
  const access = (['read', 'write', 'readwrite'] as const).find((word) => word === json['access']);
  return { bytes: counted(json['bytes'], 'a size'), access: access ?? fail('an access') };
}

function dispatchOf(json: unknown, kernels: readonly Kernel[]): Dispatch {
  if (!isJson(json) || !Array.isArray(json['arguments'])) return fail('a call is no object');
  const kernel = counted(json['kernel'], 'a kernel');
  const places = json['arguments'].map(locationOf);
  if (kernels[kernel]?.buffers.length !== places.length) fail('arguments that do not fit a kernel');
  return { kernel, arguments: places };
}

function loopOf(json: unknown): Loop {
  if (!isJson(json)) return fail('a loop is no object');
  const { trips, condition } = json;
  if (trips !== -1 && !isCount(trips)) fail('a loop without an end');
  if (condition !== null && !isJson(condition)) return fail('a condition is no object');
  return {
    first: counted(json['first'], 'a loop'),
    end: counted(json['end'], 'a loop'),
    depth: counted(json['depth'], 'a loop'),
    trips: trips as number,
    condition:
      condition === null
        ? null
        : { location: locationOf(condition['location']), when: condition['when'] === true },
  };
}

function locationOf(json: unknown): Location {
  if (!isJson(json)) return fail('a place is no object');
  const { space, offset = 0, strides = [] } = json;
  if (space === 'scalar') return { space, slot: counted(json['slot'], 'a slot') };
  if (!Array.isArray(strides)) return fail('strides are no list');
  const moves = {
    offset: counted(offset, 'an offset'),
    ...(strides.length === 0 ? {} : { strides: strides.map(strideOf) }),
  };
  if (space === 'arena') return { space, ...moves };
  if (space === 'binding') return { space, index: counted(json['index'], 'a binding'), ...moves };
  return fail(`a place in ${String(space)}`);
}

function strideOf(json: unknown): Stride {
  if (!isJson(json)) return fail('a stride is no object');
  const { bytes, turn } = json;
  if (!isInt(bytes)) fail('a stride is no whole number');
  return {
    depth: counted(json['depth'], 'a stride'),
    bytes: bytes as number,
    ...(turn === 0 || turn === 1 ? { turn } : {}),
  };
}

/** Loops lie within each other or apart, the outer ones first. */
function checkLoops({ loops = [], dispatches }: Plan): void {
  const open: Loop[] = [];
  let before = 0;
  for (const loop of loops) {
    while ((open.at(-1)?.end ?? Infinity) <= loop.first) open.pop();
    const around = open.at(-1);
    const isWithin = loop.end <= (around?.end ?? dispatches.length);
    if (loop.first < before || loop.end <= loop.first || !isWithin || loop.depth !== open.length) {
      fail('loops that cross');
    }
    before = loop.first;
    open.push(loop);
  }
}

/**
 * What a kernel is given begins where there is memory, and is not written to if it is for reading. How
 * far its indices go is not proven: a hostile program may spoil results, in the memory of WebAssembly
 * programs and nowhere else. For other devices files are compiled from their graphs.
 */
function checkReach({ kernel, arguments: places }: Dispatch, plan: Plan, at: number): void {
  const called = plan.kernels[kernel] as Kernel;
  places.forEach((place, i) => {
    const { dtype, access } = called.buffers[i] as Kernel['buffers'][number];
    checkLocation(place, byteSize(dtype), plan, at);
    const isRead = place.space === 'scalar' || bindingAccess(place, plan) === 'read';
    if (access !== 'read' && isRead) fail('writes to what is read only');
  });
}

function bindingAccess(place: Location, plan: Plan): Binding['access'] | null {
  return place.space === 'binding' ? (plan.bindings[place.index]?.access ?? null) : null;
}

/** `at`: the dispatch that uses it. */
function checkLocation(place: Location, bytes: number, plan: Plan, at: number): void {
  if (place.space === 'scalar') {
    if (place.slot >= plan.scalars.length || bytes > 8) fail('a number that is not there');
    return;
  }
  const size =
    place.space === 'arena' ? plan.arenaBytes : (plan.bindings[place.index]?.bytes ?? -1);
  const { offset = 0, strides = [] } = place;
  let last = offset;
  let first = offset;
  for (const { depth, bytes: step, turn } of strides) {
    const trips = turn === undefined ? tripsAt(depth, plan, at) : 2;
    if (step > 0) last += step * (trips - 1);
    else first += step * (trips - 1);
  }
  // Of nothing there is no first element.
  const end = size === 0 ? last : last + bytes;
  if (first < 0 || end > size) {
    fail(`bytes ${first} to ${end} of ${size} in the ${place.space}`);
  }
}

/** Trips of the loop at a depth around a dispatch; one without a limit moves nothing. */
function tripsAt(depth: number, { loops = [] }: Plan, at: number): number {
  const loop = loops.find((each) => each.depth === depth && each.first <= at && at < each.end);
  return loop === undefined ? fail('a stride without its loop') : Math.max(1, loop.trips);
}
