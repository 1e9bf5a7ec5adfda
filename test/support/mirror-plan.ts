// Plans of several dispatches in which a row's result needs a row that another thread may have made:
// a missing barrier shows. For tests of devices.
import fc from 'fast-check';
import { expect } from 'vitest';
import { byteSize, type DType } from '../../src/base/dtype.ts';
import { Builder } from '../../src/ir/builder.ts';
import { valueTypeOf } from '../../src/ir/expression.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import type { Device, Executable } from '../../src/runtime/device.ts';
import type { Dispatch, Location, Loop, Plan } from '../../src/runtime/plan.ts';

export const ROWS = 32;
const COLUMNS = 128;
export const SIZE = ROWS * COLUMNS;
export const BYTES = SIZE * 4;

/**
 * out[r, c] = x[rows - 1 - r, c] * factor + y[r, c] over the first `rows` rows: a row of `x` that
 * another thread may have made.
 */
export function mirrorKernel(rows: number): Kernel {
  const b = new Builder();
  const length = rows * COLUMNS;
  const x = b.buffer('x', 'float32', 'read', { length });
  const y = b.buffer('y', 'float32', 'read', { length });
  const factor = b.buffer('factor', 'float32', 'read', { length: 1 });
  const out = b.buffer('out', 'float32', 'write', { length });
  const row = b.variable('row', 'i32', { min: 0, max: rows - 1 });
  const column = b.variable('column', 'i32', { min: 0, max: COLUMNS - 4 });
  const at = b.add(b.scale(row, COLUMNS), column);
  const mirrored = b.add(b.scale(b.sub(b.constant(rows - 1), row), COLUMNS), column);
  const scaled = b.mul(b.load(x, mirrored, 4), b.splat(b.load(factor, b.constant(0)), 4));
  return {
    name: `mirror${rows}`,
    buffers: [x, y, factor, out],
    scratch: [],
    gridIndex: row,
    gridSize: rows,
    body: [
      {
        kind: 'for',
        index: column,
        start: b.constant(0),
        end: b.constant(COLUMNS),
        step: 4,
        body: [{ kind: 'store', buffer: out, index: at, value: b.add(scaled, b.load(y, at, 4)) }],
      },
    ],
  };
}

export const arena = (slot: number): Location => ({ space: 'arena', offset: slot * (BYTES / 2) });
export const binding = (index: number): Location => ({ space: 'binding', index });
const FACTOR: Location = { space: 'scalar', slot: 0 };

/** Dispatches over bindings 0 (input) and 1 (result) and an arena of half-overlapping slots. */
export function mirrorPlan(dispatches: readonly Dispatch[]): Plan {
  return {
    kernels: [mirrorKernel(ROWS), mirrorKernel(2)],
    dispatches,
    arenaBytes: 6 * BYTES,
    bindings: [
      { bytes: BYTES, access: 'read' },
      { bytes: BYTES, access: 'readwrite' },
    ],
    scalars: ['float32'],
  };
}

/** `plan` with kernels that have scratch memory of their own, and with that many bytes of arena. */
export function needingMemory(plan: Plan, arenaBytes: number, scratchBytes: number): Plan {
  const length = scratchBytes / 4;
  const made = new Builder().buffer('spare', 'float32', 'readwrite', { length, space: 'private' });
  // Of another builder than the kernel's buffers: its number must be its own.
  const spare = { ...made, id: 1 << 20 };
  const kernels = plan.kernels.map((kernel) => ({ ...kernel, scratch: [spare] }));
  return { ...plan, kernels, arenaBytes };
}

export function call(x: Location, y: Location, out: Location, kernel = 0): Dispatch {
  return { kernel, arguments: [x, y, FACTOR, out] };
}

/** The bits of binding 1 after `runs` runs, which may go on in the background. */
export async function runMirror(
  device: Device,
  plan: Plan,
  runs: number,
  loaded?: (executable: Executable) => Promise<void>,
): Promise<Uint8Array> {
  const executable = device.load(plan);
  await loaded?.(executable);
  const input = device.allocate(BYTES);
  const result = device.allocate(BYTES);
  const values = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i) + i / SIZE);
  device.write(input, 0, new Uint8Array(values.buffer));
  device.write(result, 0, new Uint8Array(values.buffer));
  for (let run = 0; run < runs; run++) {
    executable.run([input, result], Float64Array.of(0.7), true);
  }
  const bytes = await device.read(result, 0, BYTES);
  executable.dispose();
  device.free(input);
  device.free(result);
  return bytes;
}

/** Plans of up to eight random dispatches that write no memory they read. */
export function randomMirrorPlans(): fc.Arbitrary<Plan> {
  const slot = fc.oneof(
    fc.integer({ min: 0, max: 9 }).map(arena),
    fc.integer({ min: 0, max: 1 }).map(binding),
  );
  const step = fc.record({
    x: slot,
    y: slot,
    out: slot.filter((to) => to.space === 'arena' || (to.space === 'binding' && to.index === 1)),
    kernel: fc.nat(3).map((kernel) => (kernel === 0 ? 1 : 0)),
  });
  const overlap = (a: Location, b: Location): boolean =>
    a.space === 'arena' && b.space === 'arena'
      ? Math.abs(a.offset - b.offset) < BYTES
      : a.space === 'binding' && b.space === 'binding' && a.index === b.index;
  // Every arena byte gets a value first.
  const begin = [0, 2, 4, 6, 8, 10].map((at) => call(binding(0), binding(0), arena(at)));
  return fc.array(step, { minLength: 1, maxLength: 8 }).map((steps) => {
    const dispatches = steps
      .filter(({ x, y, out }) => !overlap(x, out) && !overlap(y, out))
      .map(({ x, y, out, kernel }) => call(x, y, out, kernel));
    return mirrorPlan([...begin, ...dispatches, call(arena(3), arena(7), binding(1))]);
  });
}

/**
 * Those plans with some of their dispatches repeated, one loop perhaps within the other, and places
 * in the arena that move with the iterations.
 */
export function randomLoopPlans(): fc.Arbitrary<Plan> {
  const range = fc.record({ first: fc.nat(7), count: fc.integer({ min: 1, max: 6 }) });
  const trips = fc.integer({ min: 1, max: 4 });
  // A byte of a number stands for the condition: nearly always true.
  const condition = fc.option(
    fc.record({ location: fc.integer({ min: 0, max: 10 }).map(arena), when: fc.constant(true) }),
  );
  return fc
    .tuple(randomMirrorPlans(), range, range, trips, trips, fc.nat(7), condition)
    .map(([plan, outer, inner, times, innerTimes, moving, inside]) => {
      const count = plan.dispatches.length;
      const first = Math.min(6 + outer.first, count - 1);
      const end = Math.min(first + outer.count, count);
      const innerFirst = Math.min(first + inner.first, end - 1);
      const innerEnd = Math.min(innerFirst + inner.count, end);
      const loops: Loop[] = [
        { first, end, depth: 0, trips: times, condition: null },
        { first: innerFirst, end: innerEnd, depth: 1, trips: innerTimes, condition: inside },
      ];
      const dispatches = plan.dispatches.map((dispatch, at): Dispatch => {
        if (at < first || at >= end || (at + moving) % 3 !== 0) return dispatch;
        const [x, y, out, factor] = dispatch.arguments as [Location, Location, Location, Location];
        const depth = at >= innerFirst && at < innerEnd ? 1 : 0;
        const turned = (location: Location, turn: 0 | 1): Location =>
          location.space === 'arena'
            ? { ...location, strides: [{ depth, bytes: moving % 2 === 0 ? BYTES : -BYTES, turn }] }
            : location;
        // Both in step, so that they never meet.
        return {
          ...dispatch,
          arguments: [turned(x, 0), turned(y, 0), turned(out, 0), factor],
        };
      });
      return { ...plan, dispatches, loops };
    })
    .filter(({ dispatches }) => dispatches.every((dispatch) => withinArena(dispatch)));
}

function withinArena({ arguments: list }: Dispatch): boolean {
  return list.every((location) => {
    if (location.space !== 'arena') return true;
    const moved = location.offset + (location.strides?.[0]?.bytes ?? 0);
    return moved >= 0 && moved + BYTES <= 6 * BYTES;
  });
}

/** A number that went through a scalar slot of `dtype`, as a kernel of `device` reads it. */
export function readScalar(device: Device, dtype: DType, value: number): number {
  const b = new Builder();
  const slot = b.buffer('slot', dtype, 'read', { length: 1 });
  const out = b.buffer('out', 'float64', 'write', { length: 1 });
  expect(byteSize(dtype)).toBeLessThanOrEqual(8);
  const loaded = b.load(slot, b.constant(0));
  expect(loaded.type).toBe(valueTypeOf(dtype));
  const kernel: Kernel = {
    name: 'scalar',
    buffers: [slot, out],
    scratch: [],
    gridIndex: b.variable('g', 'i32', { min: 0, max: 0 }),
    gridSize: 1,
    body: [{ kind: 'store', buffer: out, index: b.constant(0), value: b.convert(loaded, 'f64') }],
  };
  const executable = device.load({
    kernels: [kernel],
    dispatches: [{ kernel: 0, arguments: [{ space: 'scalar', slot: 1 }, binding(0)] }],
    arenaBytes: 0,
    bindings: [{ bytes: 8, access: 'write' }],
    scalars: ['float64', dtype],
  });
  const result = device.allocate(8);
  executable.run([result], Float64Array.of(99, value));
  const [number] = new Float64Array(device.view(result).slice().buffer);
  executable.dispose();
  device.free(result);
  return number as number;
}
