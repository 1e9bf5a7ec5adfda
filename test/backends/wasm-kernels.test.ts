// Whole kernels on wasm against the interpreter: random loop nests and indices, guards, scratch,
// mutable variables, and what prepareKernel makes of marked loops.
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../src/ir/expression.ts';
import { branch, type Kernel, type Statement } from '../../src/ir/kernel.ts';
import { place } from '../../src/ir/place.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import type { Device } from '../../src/runtime/device.ts';

const wasm = new WasmDevice({ threads: 1 });
const interp = new InterpDevice();
afterAll(() => [wasm, interp].forEach((device) => device.close()));

function lengthOf(buffer: Buffer): number {
  return buffer.length ?? 0;
}

const samples = new Map<string, Uint8Array>();

/** The initial contents of a buffer of float32 or int32. */
function sample(buffer: Buffer): Uint8Array {
  const key = `${buffer.dtype} ${lengthOf(buffer)}`;
  const known = samples.get(key);
  if (known !== undefined) return known;
  const data = Int32Array.from({ length: lengthOf(buffer) }, (_, i) => (i * 37) % 101);
  const typed = buffer.dtype === 'float32' ? Float32Array.from(data, (v) => v / 8 - 3) : data;
  const bytes = new Uint8Array(typed.buffer);
  samples.set(key, bytes);
  return bytes;
}

/** Runs a kernel of float32 and int32 buffers; gives the bytes of what it may write. */
function runOn(device: Device, kernel: Kernel): number[][] {
  const executable = device.load({
    kernels: [kernel],
    dispatches: [
      { kernel: 0, arguments: kernel.buffers.map((_, index) => ({ space: 'binding', index })) },
    ],
    arenaBytes: 0,
    bindings: kernel.buffers.map((buffer) => ({
      bytes: lengthOf(buffer) * 4,
      access: buffer.access,
    })),
    scalars: [],
  });
  const buffers = kernel.buffers.map((buffer) => {
    const made = device.allocate(lengthOf(buffer) * 4);
    device.write(made, 0, sample(buffer));
    return made;
  });
  executable.run(buffers, new Float64Array());
  const result = buffers
    .filter((_, index) => kernel.buffers[index]?.access !== 'read')
    .map((buffer) => [...device.view(buffer)]);
  executable.dispose();
  for (const buffer of buffers) device.free(buffer);
  return result;
}

function expectSame(kernel: Kernel): void {
  verifyKernel(kernel);
  const wanted = runOn(interp, kernel);
  expect(runOn(wasm, kernel)).toEqual(wanted);
}

/** One random access: a coefficient for each loop, what becomes of the loop's index, a shift. */
interface Access {
  readonly terms: readonly { readonly coefficient: number; readonly shape: number }[];
  readonly constant: number;
  readonly guard: number;
  readonly lanes: 1 | 4;
}

interface Nest {
  readonly trips: readonly number[];
  readonly steps: readonly number[];
  readonly starts: readonly number[];
  readonly grid: number;
  readonly accesses: readonly Access[];
  readonly placed: boolean;
  readonly lets: boolean;
}

const term = fc.record({
  coefficient: fc.oneof(fc.integer({ min: -5, max: 5 }), fc.constantFrom(64, -100, 30000, -30000)),
  shape: fc.nat(4),
});
const nest: fc.Arbitrary<Nest> = fc.integer({ min: 0, max: 3 }).chain((depth) => {
  const perLoop = (max: number, min = 0): fc.Arbitrary<number[]> =>
    fc.array(fc.integer({ min, max }), { minLength: depth, maxLength: depth });
  return fc.record({
    trips: perLoop(4),
    steps: perLoop(3, 1),
    starts: perLoop(2),
    grid: fc.integer({ min: 1, max: 3 }),
    accesses: fc.array(
      fc.record({
        terms: fc.array(term, { minLength: depth + 1, maxLength: depth + 1 }),
        constant: fc.oneof(fc.integer({ min: -9, max: 9 }), fc.constantFrom(20000, 30000, 31000)),
        guard: fc.nat(6),
        lanes: fc.constantFrom(1 as const, 4 as const),
      }),
      { minLength: 1, maxLength: 4 },
    ),
    placed: fc.boolean(),
    lets: fc.boolean(),
  });
});

/** The affine or not quite affine part that one loop contributes to an index. */
function shaped(b: Builder, index: Expression, shape: number, coefficient: number): Expression {
  switch (shape) {
    case 0:
      return b.scale(b.div(index, b.constant(2)), coefficient);
    case 1:
      return b.scale(b.rem(index, b.constant(3)), coefficient);
    case 2:
      return b.scale(b.min(index, b.constant(2)), coefficient);
    default:
      return b.scale(index, coefficient);
  }
}

function nestKernel(spec: Nest): Kernel {
  const b = new Builder();
  const grid = b.variable('g', 'i32', { min: 0, max: spec.grid - 1 });
  const loops: Variable[] = [];
  spec.trips.forEach((trips, level) => {
    const max = spec.starts[level]! + Math.max(0, trips) * spec.steps[level]!;
    loops.push(b.variable(`i${level}`, 'i32', { min: 0, max: max + spec.grid }));
  });
  const indices = [grid, ...loops];
  // Indices out of range, also far below zero, are guarded: they must do no harm.
  const length = 70000;
  const source = b.buffer('x', 'float32', 'read', { length });
  const out = b.buffer('out', 'float32', 'readwrite', { length: spec.grid * 4 });
  const total = b.variable('total', 'f32', { mutable: true });
  const body: Statement[] = [];
  for (const [number, access] of spec.accesses.entries()) {
    let index: Expression = b.constant(access.constant);
    access.terms.forEach(({ coefficient, shape }, position) => {
      const by = Math.abs(coefficient) > 1000 && position > 0 ? 7 : coefficient;
      index = b.add(index, shaped(b, indices[position]!, shape, by));
    });
    if (spec.lets) {
      const named = b.variable(`at${number}`, 'i32', { min: index.min, max: index.max });
      body.push({ kind: 'let', variable: named, value: index });
      index = b.offset(named, -2);
    }
    const inside = b.and(
      b.compare('ge', index, b.constant(0)),
      b.compare('le', index, b.constant(length - 4)),
    );
    const loaded = b.load(source, index, access.lanes);
    const value = access.lanes === 1 ? loaded : b.add(b.extract(loaded, 1), b.extract(loaded, 3));
    const add: Statement = { kind: 'assign', variable: total, value: b.add(total, value) };
    const innermost = indices.at(-1)!;
    const condition =
      access.guard === 0
        ? inside
        : b.and(inside, b.compare('ne', innermost, b.constant(access.guard)));
    const otherwise = { ...add, value: b.add(total, b.constant(1, 'f32')) };
    body.push(branch(condition, [add], access.guard > 3 ? [otherwise] : []));
  }
  let statements: Statement[] = body;
  for (let level = loops.length - 1; level >= 0; level--) {
    const start = spec.starts[level]!;
    // Some bounds depend on an outer loop.
    const outer = level % 2 === 1 ? grid : b.constant(0);
    statements = [
      {
        kind: 'for',
        index: loops[level]!,
        start: b.offset(outer, start),
        end: b.offset(outer, start + spec.trips[level]! * spec.steps[level]!),
        step: spec.steps[level]!,
        body: statements,
      },
    ];
  }
  const kernel: Kernel = {
    name: 'nest',
    buffers: [source, out],
    scratch: [],
    gridIndex: grid,
    gridSize: spec.grid,
    body: [
      { kind: 'declare', variable: total, value: b.constant(0, 'f32') },
      ...statements,
      { kind: 'store', buffer: out, index: b.scale(grid, 4), value: b.splat(total, 4) },
    ],
  };
  return spec.placed ? place(kernel) : kernel;
}

describe('kernels on wasm', () => {
  it('address random indices as the interpreter does', () => {
    fc.assert(
      fc.property(nest, (spec) => {
        expectSame(nestKernel(spec));
      }),
      { numRuns: 400 },
    );
  });

  it('use an array of their own for every grid item', () => {
    const b = new Builder();
    const grid = b.variable('g', 'i32', { min: 0, max: 4 });
    const i = b.variable('i', 'i32', { min: 0, max: 15 });
    const j = b.variable('j', 'i32', { min: 0, max: 15 });
    const x = b.buffer('x', 'float32', 'read', { length: 80 });
    const out = b.buffer('out', 'float32', 'write', { length: 80 });
    const counts = b.buffer('counts', 'int32', 'readwrite', { space: 'private', length: 3 });
    const copy = b.buffer('copy', 'float32', 'readwrite', { space: 'workgroup', length: 16 });
    const zero = b.constant(0);
    const sixteen = b.constant(16);
    const at = b.add(b.scale(grid, 16), i);
    expectSame({
      name: 'reverse',
      buffers: [x, out],
      scratch: [counts, copy],
      gridIndex: grid,
      gridSize: 5,
      body: [
        { kind: 'store', buffer: counts, index: b.constant(2), value: zero },
        {
          kind: 'for',
          index: i,
          start: zero,
          end: sixteen,
          step: 1,
          body: [
            { kind: 'store', buffer: copy, index: i, value: b.load(x, at) },
            {
              kind: 'store',
              buffer: counts,
              index: b.constant(2),
              value: b.offset(b.load(counts, b.constant(2)), 1),
            },
          ],
        },
        { kind: 'barrier' },
        {
          kind: 'for',
          index: j,
          start: zero,
          end: sixteen,
          step: 4,
          body: [
            {
              kind: 'store',
              buffer: out,
              index: b.add(b.scale(grid, 16), j),
              value: b.add(
                b.lanes([0, 1, 2, 3].map((lane) => b.load(copy, b.sub(b.constant(15 - lane), j)))),
                b.splat(b.convert(b.load(counts, b.constant(2)), 'f32'), 4),
              ),
            },
          ],
        },
      ],
    });
  });

  it('read indices from memory, and from variables that change', () => {
    const b = new Builder();
    const grid = b.variable('g', 'i32', { min: 0, max: 7 });
    const indices = b.buffer('indices', 'int32', 'read', { length: 8 });
    const x = b.buffer('x', 'float32', 'read', { length: 128 });
    const out = b.buffer('out', 'float32', 'write', { length: 8 });
    const i = b.variable('i', 'i32', { min: 0, max: 3 });
    const position = b.variable('position', 'i32', { mutable: true });
    const sum = b.variable('sum', 'f32', { mutable: true });
    const limited = b.rem(b.max(b.load(indices, grid), b.constant(0)), b.constant(32));
    const gathered = b.load(x, b.add(b.add(position, limited), b.scale(i, 3)));
    expectSame({
      name: 'gather',
      buffers: [indices, x, out],
      scratch: [],
      gridIndex: grid,
      gridSize: 8,
      body: [
        { kind: 'declare', variable: position, value: b.constant(1) },
        { kind: 'declare', variable: sum, value: b.constant(0, 'f32') },
        {
          kind: 'for',
          index: i,
          start: b.constant(0),
          end: b.constant(4),
          step: 1,
          body: [
            { kind: 'assign', variable: sum, value: b.add(sum, gathered) },
            { kind: 'assign', variable: position, value: b.add(position, b.constant(5)) },
          ],
        },
        { kind: 'store', buffer: out, index: grid, value: sum },
      ],
    });
  });

  it('say what is wrong with kernels that they cannot hold', () => {
    const b = new Builder();
    const out = b.buffer('out', 'float64', 'write', { length: 4 });
    const grid = b.variable('g', 'i32', { min: 0, max: 0 });
    const kernel = (value: Expression): Kernel => ({
      name: 'wide',
      buffers: [out],
      scratch: [],
      gridIndex: grid,
      gridSize: 1,
      body: [{ kind: 'store', buffer: out, index: b.constant(0), value }],
    });
    expect(() => runOn(wasm, kernel(b.constant(1, 'f64', 4)))).toThrow(/internal: a vector of 4/);
    const stray = b.load(b.buffer('stray', 'float64', 'read'), b.constant(0));
    expect(() => runOn(wasm, kernel(stray))).toThrow(/internal: wide: stray is not among/);
    const grouped = { ...kernel(b.constant(1, 'f64')), workgroup: { size: 4, localIndex: grid } };
    expect(() => runOn(wasm, grouped)).toThrow(/wide is written for workgroups/);
  });
});
