// The WebAssembly device: plans of several dispatches on one and two threads, scalars, memory.
import fc from 'fast-check';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import { DTYPES } from '../../src/base/dtype.ts';
import {
  ArgumentError,
  CompileError,
  DisposedError,
  OutOfMemoryError,
} from '../../src/base/errors.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import type { Device, Executable } from '../../src/runtime/device.ts';
import type { Plan } from '../../src/runtime/plan.ts';
import {
  arena,
  binding,
  BYTES,
  call,
  mirrorKernel,
  mirrorPlan,
  needingMemory,
  randomLoopPlans,
  randomMirrorPlans,
  readScalar,
  ROWS,
  runMirror as runPlan,
} from '../support/mirror-plan.ts';

const NO_SCALARS = new Float64Array();

const single = new WasmDevice({ threads: 1 });
// Small enough limits that a test's plans are worth two threads.
const double = new WasmDevice({ threads: 2, limits: { dispatch: 2500, plan: 0 } });
afterAll(() => [single, double].forEach((device) => device.close()));

/** Waits for the threads, where there are any. */
const ready = async (executable: Executable): Promise<void> => {
  const threads = await (executable as ReturnType<WasmDevice['load']>).whenReady();
  expect([1, 2]).toContain(threads);
};

function runMirror(device: Device, plan: Plan, runs: number): Promise<Uint8Array> {
  return runPlan(device, plan, runs, device === double ? ready : undefined);
}

describe('plans on wasm', () => {
  it('meet between dependent dispatches, and only there', async () => {
    const plan = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(binding(0), binding(0), arena(2)), // independent of the first
      call(arena(0), arena(2), arena(4)), // reads both
      call(binding(0), binding(0), arena(0)), // overwrites what was read
      call(arena(4), arena(0), binding(1)),
    ]);
    const loaded = double.load(plan);
    expect(loaded.program.barriers).toBe(3);
    expect(await loaded.whenReady()).toBe(2);
    loaded.dispose();
    const wanted = await runMirror(single, plan, 1);
    for (let repeat = 0; repeat < 20; repeat++) {
      expect(Buffer.compare(await runMirror(double, plan, 5), wanted)).toBe(0);
    }
  });

  it('run tiny dispatches on the first thread, without a barrier between them', async () => {
    const tiny = mirrorPlan([
      call(binding(0), binding(0), arena(0), 1),
      call(arena(0), binding(0), arena(2), 1),
      call(arena(2), arena(0), binding(1), 1),
    ]);
    const loaded = double.load(tiny);
    expect(loaded.program).toMatchObject({ barriers: 0, parallel: false, dispatches: 3 });
    expect(await loaded.whenReady()).toBe(1);
    loaded.dispose();
    const mixed = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(arena(0), binding(0), arena(2), 1), // waits for all threads
      call(arena(2), arena(0), arena(3), 1), // the same thread: no wait
      call(arena(0), arena(0), binding(1)), // touches nothing of these two
    ]);
    const schedule = double.load(mixed);
    expect(schedule.program.barriers).toBe(1);
    schedule.dispose();
    expect(await runMirror(double, mixed, 3)).toEqual(await runMirror(single, mixed, 3));
  });

  it('wake nobody for a short plan', async () => {
    const device = new WasmDevice({ threads: 2 });
    const executable = device.load(mirrorPlan([call(binding(0), binding(0), binding(1))]));
    expect(executable.program.parallel).toBe(false);
    expect(await executable.whenReady()).toBe(1);
    device.close();
  });

  it('give the interpreter’s bits for random plans, on one thread and on two', async () => {
    const interp = new InterpDevice();
    await fc.assert(
      fc.asyncProperty(randomMirrorPlans(), async (plan) => {
        const wanted = await runMirror(interp, plan, 2);
        for (const device of [single, double]) {
          expect(Buffer.compare(await runMirror(device, plan, 2), wanted)).toBe(0);
        }
      }),
      { numRuns: 15 },
    );
  });

  it('give the interpreter’s bits for random loops, on one thread and on two', async () => {
    const interp = new InterpDevice();
    await fc.assert(
      fc.asyncProperty(randomLoopPlans(), async (plan) => {
        const wanted = await runMirror(interp, plan, 2);
        for (const device of [single, double]) {
          expect(Buffer.compare(await runMirror(device, plan, 2), wanted)).toBe(0);
        }
      }),
      { numRuns: 8 },
    );
  });

  it('count runs, dispatches and modules, and hold nothing in the end', async () => {
    const device = new WasmDevice({ threads: 1 });
    await runMirror(device, mirrorPlan([call(binding(0), binding(0), binding(1))]), 7);
    expect(device.statistics).toMatchObject({ runs: 7, dispatches: 7, modules: 1 });
    expect(device.statistics.compileMs).toBeGreaterThan(0);
    expect(device.memory()).toEqual({ allocated: 0, reserved: 0 });
    device.close();
  });

  it('skip dispatches over an empty grid', () => {
    const plan = mirrorPlan([call(binding(0), binding(0), binding(1))]);
    const empty = { ...mirrorKernel(ROWS), gridSize: 0 };
    const executable = single.load({ ...plan, kernels: [empty] });
    expect(executable.program.dispatches).toBe(0);
    executable.dispose();
  });
});

describe('scalars', () => {
  const interp = new InterpDevice();

  it.each(DTYPES)('of %s reach the kernel in their own type, as in the oracle', (dtype) => {
    const value = dtype === 'bool' ? 1 : dtype.startsWith('u') ? 200 : -3;
    for (const device of [single, interp]) {
      expect(readScalar(device, dtype, value)).toBe(value);
      if (dtype === 'float32') expect(readScalar(device, dtype, 0.1)).toBe(Math.fround(0.1));
      if (dtype === 'uint32') expect(readScalar(device, dtype, 4294967295)).toBe(4294967295);
      // Halves round to the nearest, ties to even.
      if (dtype === 'float16') expect(readScalar(device, dtype, 0.1)).toBe(0.0999755859375);
      if (dtype === 'bfloat16') expect(readScalar(device, dtype, 0.1)).toBe(0.10009765625);
    }
  });
});

describe('memory', () => {
  const MB = 1024 * 1024;

  it('grows and keeps what was written', async () => {
    const device = new WasmDevice({ threads: 1 });
    const buffers = Array.from({ length: 8 }, (_, i) => {
      const buffer = device.allocate(9 * MB);
      device.view(buffer).fill(i + 1);
      return buffer;
    });
    for (const [i, buffer] of buffers.entries()) {
      const bytes = await device.read(buffer, 9 * MB - 4, 4);
      expect([...bytes]).toEqual(new Array(4).fill(i + 1));
    }
    expect(device.memory().allocated).toBe(72 * MB);
    device.close();
  });

  it('runs out with figures, after letting go of the arena', () => {
    const device = new WasmDevice({ threads: 1, maximumBytes: 64 * MB });
    const plan = mirrorPlan([call(binding(0), binding(0), binding(1))]);
    const executable = device.load({ ...plan, arenaBytes: 30 * MB });
    const [a, b] = [device.allocate(BYTES), device.allocate(BYTES)];
    executable.run([a, b], Float64Array.of(1));
    expect(device.memory().reserved).toBeGreaterThan(30 * MB);
    const large = device.allocate(50 * MB);
    expect(device.memory().reserved).toBeLessThan(MB);
    expect(() => executable.run([a, b], Float64Array.of(1))).toThrow(OutOfMemoryError);
    expect(() => device.allocate(40 * MB)).toThrow(
      /no room for 40\.0 MB: 50\.\d MB of 64\.0 MB in use, largest free block/,
    );
    device.free(large);
    executable.run([a, b], Float64Array.of(1));
    device.close();
  });

  it('lets go of the arena for scratch memory only if both then fit', async () => {
    const device = new WasmDevice({ threads: 1, maximumBytes: 64 * MB });
    const interp = new InterpDevice();
    const plan = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(arena(0), binding(0), binding(1)),
    ]);
    const wanted = await runMirror(interp, plan, 1);
    await runMirror(device, { ...plan, arenaBytes: 40 * MB }, 1);
    const given = await runMirror(device, needingMemory(plan, MB, 30 * MB), 1);
    expect(Buffer.compare(given, wanted)).toBe(0);
    expect(device.memory().reserved).toBeLessThan(40 * MB);
    const both = needingMemory(plan, 35 * MB, 35 * MB);
    await expect(runMirror(device, both, 1)).rejects.toThrow(OutOfMemoryError);
    expect(Buffer.compare(await runMirror(device, plan, 1), wanted)).toBe(0);
    device.close();
  });

  it('is plain memory, and code without atomics, on one thread', () => {
    const executable = single.load(
      mirrorPlan([call(binding(0), binding(0), arena(0)), call(arena(0), binding(0), binding(1))]),
    );
    const module = new WebAssembly.Module(executable.program.code);
    expect(WebAssembly.Module.imports(module)).toEqual([
      { module: 'env', name: 'memory', kind: 'memory' },
    ]);
    // A module made for shared memory would refuse this one.
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
    expect(() => new WebAssembly.Instance(module, { env: { memory } })).not.toThrow();
    const buffer = single.allocate(4);
    expect(single.view(buffer).buffer).toBeInstanceOf(ArrayBuffer);
    single.free(buffer);
    executable.dispose();
  });

  it('gives copies that are not shared', async () => {
    const buffer = double.allocate(16);
    expect(double.view(buffer).buffer).toBeInstanceOf(SharedArrayBuffer);
    expect((await double.read(buffer, 0, 16)).buffer).toBeInstanceOf(ArrayBuffer);
    double.free(buffer);
  });

  it('refuses what would corrupt it', () => {
    const buffer = single.allocate(16);
    expect(() => single.write(buffer, 10, new Uint8Array(7))).toThrow(/internal: write: bytes 10/);
    expect(() => double.view(buffer)).toThrow(/internal: view: a buffer of another device/);
    const executable = single.load(mirrorPlan([call(binding(0), binding(0), binding(1))]));
    const whole = single.allocate(BYTES);
    const factor = Float64Array.of(1);
    expect(() => executable.run([whole, whole], factor)).toThrow(/internal: .* bound twice/);
    expect(() => executable.run([whole, buffer], factor)).toThrow(/internal: binding 1 has 16/);
    expect(() => executable.run([whole], factor)).toThrow(/internal: 1 bindings for a plan of 2/);
    expect(() => executable.run([whole, buffer], NO_SCALARS)).toThrow(/internal/);
    executable.dispose();
    expect(() => executable.run([whole, whole], factor)).toThrow(DisposedError);
    single.free(whole);
    single.free(buffer);
    expect(() => single.free(buffer)).toThrow(/internal: free: a buffer that was freed/);
  });
});

describe('device', () => {
  it('checks its options', () => {
    expect(() => new WasmDevice({ threads: 0 })).toThrow(ArgumentError);
    expect(() => new WasmDevice({ threads: 1, maximumBytes: 5 })).toThrow(/at least 16\.1 MB/);
  });

  it('says why there are no threads', () => {
    vi.stubGlobal('SharedArrayBuffer', undefined);
    try {
      expect(() => new WasmDevice({ threads: 2 })).toThrow(/2 threads asked for, but/);
      const device = new WasmDevice();
      expect(device.threads).toBe(1);
      device.close();
    } finally {
      vi.unstubAllGlobals();
    }
  });

  it('can be closed, and then says so', () => {
    const device = new WasmDevice({ threads: 1 });
    const buffer = device.allocate(4);
    device.close();
    device.close();
    expect(() => device.allocate(4)).toThrow(DisposedError);
    expect(() => device.free(buffer)).not.toThrow();
  });

  it('names the kernels of a module that the engine refuses', () => {
    const b = new Builder();
    const out = b.buffer('out', 'float32', 'write', { length: 4 });
    const wrong = { ...b.constant(1, 'f32'), type: 'f64' as const };
    const kernel: Kernel = {
      name: 'twisted',
      buffers: [out],
      scratch: [],
      gridIndex: b.variable('g', 'i32', { min: 0, max: 0 }),
      gridSize: 1,
      body: [{ kind: 'store', buffer: out, index: b.constant(0), value: wrong }],
    };
    const load = (): unknown =>
      single.load({
        kernels: [kernel],
        dispatches: [{ kernel: 0, arguments: [binding(0)] }],
        arenaBytes: 0,
        bindings: [{ bytes: 16, access: 'write' }],
        scalars: [],
      });
    expect(load).toThrow(CompileError);
    expect(load).toThrow(/twisted/);
  });
});
