// The native device: plans of several dispatches on one and more threads, runs beside the program,
// memory, measuring.
import fc from 'fast-check';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { MemoryPool } from '../../src/backends/native/memory.ts';
import { DTYPES } from '../../src/base/dtype.ts';
import { DisposedError } from '../../src/base/errors.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
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
  runMirror,
  SIZE,
} from '../support/mirror-plan.ts';

const missing = nativeUnavailable();
const LIMITS = { dispatch: 2500, plan: 0 };

// Where there is no compiler every test below is skipped, with the reason in its title.
describe.skipIf(missing !== null)(`native device${missing === null ? '' : ` (${missing})`}`, () => {
  const devices: readonly NativeDevice[] =
    missing === null
      ? [
          new NativeDevice({ threads: 1 }),
          new NativeDevice({ threads: 2, limits: LIMITS }),
          // More threads than cores, and every plan beside the program.
          new NativeDevice({ threads: 5, limits: LIMITS, queueFrom: 0 }),
        ]
      : [];
  afterAll(() => devices.forEach((device) => device.close()));
  const single = devices[0] as NativeDevice;
  const queueing = devices[2] as NativeDevice;

  it('gives the interpreter’s bits for random plans, at any thread count', async () => {
    const interp = new InterpDevice();
    await fc.assert(
      fc.asyncProperty(randomMirrorPlans(), async (plan) => {
        const wanted = await runMirror(interp, plan, 2);
        for (const device of devices) {
          expect(Buffer.compare(await runMirror(device, plan, 2), wanted)).toBe(0);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('gives the interpreter’s bits for random loops, at any thread count', async () => {
    const interp = new InterpDevice();
    await fc.assert(
      fc.asyncProperty(randomLoopPlans(), async (plan) => {
        const wanted = await runMirror(interp, plan, 2);
        for (const device of devices) {
          expect(Buffer.compare(await runMirror(device, plan, 2), wanted)).toBe(0);
        }
      }),
      { numRuns: 8 },
    );
  });

  it('makes the arena again if it was let go of for scratch memory', async () => {
    const plan = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(arena(0), binding(0), binding(1)),
    ]);
    const wanted = await runMirror(new InterpDevice(), plan, 1);
    const device = new NativeDevice({ threads: 1 });
    const scratchBytes = 1 << 16;
    const { take } = MemoryPool.prototype;
    let refusals = 0;
    const taking = vi.spyOn(MemoryPool.prototype, 'take').mockImplementation(function (
      this: MemoryPool,
      bytes,
    ) {
      if (bytes === scratchBytes * device.threads && refusals++ === 0)
        throw new RangeError('no memory');
      return take.call(this, bytes);
    });
    try {
      const given = await runMirror(device, needingMemory(plan, plan.arenaBytes, scratchBytes), 1);
      expect(Buffer.compare(given, wanted)).toBe(0);
      expect(refusals).toBe(2);
    } finally {
      taking.mockRestore();
      device.close();
    }
  });

  it('runs beside the program in order: writes, views and later runs wait', () => {
    const plan = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(arena(0), binding(0), binding(1)),
    ]);
    const executable = queueing.load(plan);
    const input = queueing.allocate(BYTES);
    const result = queueing.allocate(BYTES);
    const before = queueing.statistics.queued;
    for (let round = 1; round <= 50; round++) {
      const values = new Float32Array(SIZE).fill(round);
      queueing.write(input, 0, new Uint8Array(values.buffer));
      executable.run([input, result], Float64Array.of(2), true);
      // (x * 2 + x) * 2 + x
      const last = new Float32Array(queueing.view(result).slice().buffer);
      expect([last[0], last[SIZE - 1]]).toEqual([7 * round, 7 * round]);
    }
    expect(queueing.statistics.queued - before).toBe(50);
    executable.dispose();
    queueing.free(input);
    queueing.free(result);
  });

  it('counts runs and what it holds', async () => {
    const device = new NativeDevice({ threads: 1 });
    await runMirror(device, mirrorPlan([call(binding(0), binding(0), binding(1))]), 7);
    expect(device.statistics).toMatchObject({ runs: 7, dispatches: 7 });
    expect(device.memory().allocated).toBe(0);
    device.close();
  });

  it('takes what the collector freed off the count', async () => {
    const device = new NativeDevice({ threads: 1 });
    for (let i = 0; i < 20; i++) device.allocate(1 << 20);
    expect(device.memory().allocated).toBe(20 << 20);
    for (let i = 0; i < 20 && device.memory().allocated > 0; i++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(device.memory().allocated).toBeLessThan(2 << 20);
    device.close();
  });

  it('skips dispatches over an empty grid, and measures the others', () => {
    const plan = mirrorPlan([
      call(binding(0), binding(0), arena(0)),
      call(binding(0), binding(0), arena(2), 1),
      call(binding(0), binding(0), binding(1)),
    ]);
    const empty = { ...mirrorKernel(2), gridSize: 0 };
    const [whole] = plan.kernels as readonly [Kernel, Kernel];
    for (const device of devices) {
      const executable = device.load({ ...plan, kernels: [whole, empty] });
      const buffers = [device.allocate(BYTES), device.allocate(BYTES)];
      const times = executable.profile(buffers, Float64Array.of(1));
      expect(times).toHaveLength(3);
      expect(times[0]).toBeGreaterThan(0);
      expect(times[1]).toBe(0);
      expect(times[2]).toBeGreaterThan(0);
      executable.dispose();
      buffers.forEach((buffer) => device.free(buffer));
    }
  });

  it.each(DTYPES)('hands scalars of %s to the kernel in their own type', (dtype) => {
    const value = dtype === 'bool' ? 1 : dtype.startsWith('u') ? 200 : -3;
    expect(readScalar(single, dtype, value)).toBe(value);
    if (dtype === 'float32') expect(readScalar(single, dtype, 0.1)).toBe(Math.fround(0.1));
  });

  it('keeps buffers at multiples of 64 bytes, and each to itself', () => {
    const buffers = [1, 63, 64, 65, 4096, 1 << 20].map((bytes) => single.allocate(bytes));
    buffers.forEach((buffer, i) => single.view(buffer).fill(i + 1));
    buffers.forEach((buffer, i) => {
      expect(single.view(buffer).every((byte) => byte === i + 1)).toBe(true);
      single.free(buffer);
    });
  });

  it('refuses what would corrupt it', () => {
    const buffer = single.allocate(16);
    expect(() => single.write(buffer, 10, new Uint8Array(7))).toThrow(/internal: write: bytes 10/);
    expect(() => queueing.view(buffer)).toThrow(/internal: view: a buffer of another device/);
    const executable = single.load(mirrorPlan([call(binding(0), binding(0), binding(1))]));
    const whole = single.allocate(BYTES);
    const factor = Float64Array.of(1);
    expect(() => executable.run([whole, whole], factor)).toThrow(/internal: .* bound twice/);
    expect(() => executable.run([whole, buffer], factor)).toThrow(/internal: binding 1 has 16/);
    expect(() => executable.run([whole], factor)).toThrow(/internal: 1 bindings for a plan of 2/);
    executable.dispose();
    expect(() => executable.run([whole, whole], factor)).toThrow(DisposedError);
    single.free(whole);
    single.free(buffer);
    expect(() => single.free(buffer)).toThrow(/internal: free: a buffer that was freed/);
  });

  it('can be closed, and then says so', () => {
    const device = new NativeDevice({ threads: 1 });
    const buffer = device.allocate(4);
    device.close();
    device.close();
    expect(() => device.allocate(4)).toThrow(DisposedError);
    expect(() => device.free(buffer)).not.toThrow();
  });

  it(`splits ${ROWS} rows among more threads than there are cores`, () => {
    expect(queueing.threads).toBe(5);
  });
});
