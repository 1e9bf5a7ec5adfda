// The worker pool: barriers, failures, module hand-over, and that nothing hangs.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArgumentError, DeviceError, DisposedError } from '../../src/base/errors.ts';
import { threadsAvailable } from '../../src/runtime/host-threads.ts';
import type { ThreadHost } from '../../src/runtime/host-threads.ts';
import { BARRIER, BARRIER_BYTES, WorkerPool } from '../../src/runtime/workers.ts';
import type { RunPart } from '../../src/runtime/workers.ts';
import { I32, barrierFunction, encodeModule, op } from '../../scripts/experiments/tiny-wasm.ts';
import type { Code, TinyFunction } from '../../scripts/experiments/tiny-wasm.ts';

const BARRIER_ADDRESS = 64;
const TABLE = 4096;
const BARRIER_CALL = op.call(1);

// Parameters of run: 0 thread, 1 threadCount, 2 table.
function planModule(body: Code, locals: readonly number[] = []): WebAssembly.Module {
  const run: TinyFunction = { parameters: 3, locals, body, exportAs: 'run' };
  return new WebAssembly.Module(encodeModule([barrierFunction(BARRIER_ADDRESS, BARRIER), run]));
}

/**
 * `rounds` (first word of the table) times: every thread writes the round number into its own
 * word, all meet, every thread checks that all words hold it (and counts a fault if not), all meet.
 */
function roundsModule(): WebAssembly.Module {
  const word = (thread: Code): Code => [
    ...op.get(2),
    ...thread,
    ...op.i32(4),
    ...op.mul,
    ...op.add,
  ];
  const check: Code = [
    ...op.i32(0),
    ...op.set(4),
    ...op.loop([
      ...word(op.get(4)),
      ...op.i32load(64),
      ...op.get(3),
      ...op.ne,
      ...op.when([...op.get(2), ...op.i32(1), ...op.atomicAdd(4), ...op.drop]),
      ...op.get(4),
      ...op.i32(1),
      ...op.add,
      ...op.tee(4),
      ...op.get(1),
      ...op.ltU,
      ...op.branchIf(0),
    ]),
  ];
  const body: Code = op.loop([
    ...op.get(3),
    ...op.i32(1),
    ...op.add,
    ...op.set(3),
    ...word(op.get(0)),
    ...op.get(3),
    ...op.i32store(64),
    ...op.get(1),
    ...BARRIER_CALL,
    ...check,
    ...op.get(1),
    ...BARRIER_CALL,
    ...op.get(3),
    ...op.get(2),
    ...op.i32load(0),
    ...op.ltU,
    ...op.branchIf(0),
  ]);
  return planModule(body, [I32, I32]);
}

/** Traps if the table's first word is 1 + this thread's number; then meets the others. */
function trapModule(): WebAssembly.Module {
  return planModule([
    ...op.get(2),
    ...op.i32load(0),
    ...op.i32(1),
    ...op.sub,
    ...op.get(0),
    ...op.eq,
    ...op.when(op.trap),
    ...op.get(1),
    ...BARRIER_CALL,
    ...op.get(1),
    ...BARRIER_CALL,
  ]);
}

/** Adds `amount` to the table's first word, once per thread. */
function addModule(amount: number): WebAssembly.Module {
  return planModule([
    ...op.get(2),
    ...op.i32(amount),
    ...op.atomicAdd(0),
    ...op.drop,
    ...op.get(1),
    ...BARRIER_CALL,
  ]);
}

interface Bench {
  readonly pool: WorkerPool;
  readonly table: Int32Array;
  load(module: WebAssembly.Module): { id: number; run: RunPart };
}

const open: WorkerPool[] = [];

function bench(threads: number): Bench {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
  const pool = WorkerPool.create({ memory, barrierAddress: BARRIER_ADDRESS, threads });
  open.push(pool);
  return {
    pool,
    table: new Int32Array(memory.buffer, TABLE, 64),
    load(module) {
      const instance = new WebAssembly.Instance(module, pool.imports);
      const id = pool.register(module);
      return { id, run: instance.exports['run'] as RunPart };
    },
  };
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((pool) => pool.close()));
});

describe('WorkerPool', () => {
  it('starts workers and hands modules over while the caller stays in synchronous code', () => {
    const { pool, load, table } = bench(3);
    const { id, run } = load(addModule(1));
    expect(pool.waitUntilReady(id, 10_000)).toBe(2);
    expect(pool.run(id, run, TABLE)).toBe(3);
    expect(table[0]).toBe(3);
  });

  it('keeps threads in step over thousands of regions', () => {
    const { pool, load, table } = bench(2);
    const { id, run } = load(roundsModule());
    expect(pool.waitUntilReady(id, 10_000)).toBe(1);
    table[0] = 5000;
    expect(pool.run(id, run, TABLE)).toBe(2);
    expect(table[1]).toBe(0);
    expect([table[16], table[17]]).toEqual([5000, 5000]);
  });

  it('keeps threads in step when there are more of them than cores', () => {
    const { pool, load, table } = bench(5);
    const { id, run } = load(roundsModule());
    expect(pool.waitUntilReady(id, 10_000)).toBe(4);
    table[0] = 200;
    expect(pool.run(id, run, TABLE)).toBe(5);
    expect(table[1]).toBe(0);
    expect([...table.subarray(16, 21)]).toEqual([200, 200, 200, 200, 200]);
  });

  it('loses no wake-up over thousands of runs, spinning or asleep', () => {
    const { pool, load, table } = bench(2);
    const { id, run } = load(addModule(1));
    pool.waitUntilReady(id, 10_000);
    for (let i = 0; i < 3000; i++) {
      // Every few runs the workers get time to fall asleep.
      const until = performance.now() + (i % 8 === 0 ? 0.3 : 0);
      while (performance.now() < until);
      pool.run(id, run, TABLE);
    }
    expect(table[0]).toBe(6000);
  });

  it('runs at once on the caller alone when no worker has the module yet', () => {
    const { pool, load, table } = bench(2);
    const { id, run } = load(addModule(1));
    const threads = pool.run(id, run, TABLE);
    expect(table[0]).toBe(threads);
    expect(pool.waitUntilReady(id, 10_000)).toBe(1);
    expect(pool.run(id, run, TABLE, 1)).toBe(1);
    expect(table[0]).toBe(threads + 1);
  });

  it('runs several modules, takes new ones while workers sleep, and releases them', async () => {
    const { pool, load, table } = bench(2);
    let sum = 0;
    const ids: number[] = [];
    for (let amount = 1; amount <= 20; amount++) {
      const { id, run } = load(addModule(amount));
      ids.push(id);
      expect(await pool.whenReady(id)).toBe(1);
      pool.run(id, run, TABLE);
      sum += 2 * amount;
      expect(table[0]).toBe(sum);
    }
    for (const id of ids) pool.release(id);
    expect(pool.readyFor(ids[0] as number)).toBe(0);
    const { id, run } = load(addModule(7));
    expect(pool.waitUntilReady(id, 10_000)).toBe(1);
    pool.run(id, run, TABLE);
    expect(table[0]).toBe(sum + 14);
  });

  it('takes part in every run even when modules arrive between runs without pause', () => {
    const { pool, load, table } = bench(2);
    const first = load(addModule(1));
    pool.waitUntilReady(first.id, 10_000);
    let expected = 0;
    for (let i = 0; i < 200; i++) {
      const next = load(addModule(1));
      expected += pool.run(first.id, first.run, TABLE);
      expected += pool.run(next.id, next.run, TABLE);
      pool.release(next.id);
    }
    expect(table[0]).toBe(expected);
  });

  it("reports a worker's trap with its name, and goes on", () => {
    const { pool, load, table } = bench(3);
    const { id, run } = load(trapModule());
    expect(pool.waitUntilReady(id, 10_000)).toBe(2);
    for (const failing of [1, 2]) {
      table[0] = 1 + failing;
      expect(() => pool.run(id, run, TABLE)).toThrow(
        new RegExp(`^run: tengen worker ${failing} failed: RuntimeError: unreachable`),
      );
      table[0] = 0;
      expect(pool.run(id, run, TABLE)).toBe(3);
    }
  });

  it("throws the caller's own trap and frees the workers from the barrier", () => {
    const { pool, load, table } = bench(3);
    const { id, run } = load(trapModule());
    pool.waitUntilReady(id, 10_000);
    table[0] = 1;
    expect(() => pool.run(id, run, TABLE)).toThrow(WebAssembly.RuntimeError);
    table[0] = 0;
    expect(pool.run(id, run, TABLE)).toBe(3);
  });

  it('reports a module that a worker cannot instantiate when it is run', () => {
    const { pool } = bench(2);
    // A module that imports what the pool does not give: (import "env" "other" (func)).
    const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0];
    bytes.push(2, 13, 1, 3, 0x65, 0x6e, 0x76, 5, 0x6f, 0x74, 0x68, 0x65, 0x72, 0, 0);
    const id = pool.register(new WebAssembly.Module(new Uint8Array(bytes)));
    expect(pool.waitUntilReady(id, 10_000)).toBe(1);
    expect(() => pool.run(id, () => undefined, TABLE)).toThrow(/worker 1 failed: .*LinkError/);
  });

  it('refuses a run within a run, unknown modules and misuse', () => {
    const { pool, load } = bench(2);
    const { id } = load(addModule(1));
    pool.waitUntilReady(id, 10_000);
    expect(() => pool.run(99, () => undefined, TABLE)).toThrow(/^internal: .*99/);
    const nested: RunPart = () => pool.run(id, () => undefined, TABLE);
    expect(() => pool.run(id, nested, TABLE)).toThrow(/^internal: .*from within a run/);
    const memory = new WebAssembly.Memory({ initial: 1 });
    expect(() => WorkerPool.create({ memory, barrierAddress: 64 })).toThrow(ArgumentError);
    const shared = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    for (const barrierAddress of [4, 65536 - BARRIER_BYTES + 64]) {
      expect(() => WorkerPool.create({ memory: shared, barrierAddress })).toThrow(ArgumentError);
    }
    expect(() => WorkerPool.create({ memory: shared, barrierAddress: 64, threads: 0 })).toThrow(
      ArgumentError,
    );
  });

  it.runIf(process.platform === 'linux')('starts no thread before it has a module', () => {
    const threads = (): number => readdirSync('/proc/self/task').length;
    const before = threads();
    const { pool } = bench(4);
    const idle = threads();
    const id = pool.register(addModule(1));
    expect([idle, threads() >= before + 3]).toEqual([before, true]);
    expect(pool.waitUntilReady(id, 10_000)).toBe(3);
  });

  it('keeps no process alive', () => {
    const source = new URL('../../src/runtime/workers.ts', import.meta.url).href;
    const program = `
      import { WorkerPool } from ${JSON.stringify(source)};
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
      WorkerPool.create({ memory, barrierAddress: 64, threads: 3 }).start();
      process.on('exit', () => console.log('ended by itself'));
    `;
    const flags = ['--import', 'tsx', '--input-type=module', '-e', program];
    const printed = execFileSync(process.execPath, flags, { timeout: 20_000, encoding: 'utf8' });
    expect(printed).toBe('ended by itself\n');
  });

  it('after close refuses work, and a second close is fine', async () => {
    const { pool, load } = bench(2);
    const { id, run } = load(addModule(1));
    pool.waitUntilReady(id, 10_000);
    await pool.close();
    await pool.close();
    expect(pool.readyFor(id)).toBe(0);
    expect(() => pool.run(id, run, TABLE)).toThrow(DisposedError);
    expect(() => pool.register(addModule(1))).toThrow(DisposedError);
  });
});

// terminate() takes effect when the operating system lets the thread see it, so a single run of these
// may meet a worker that is still whole; what is tested is what happens once it is gone.
describe('a worker that is terminated', { retry: 3 }, () => {
  // The pool takes the constructor from here, so the tests can get hold of its workers.
  const threads = process.getBuiltinModule('node:worker_threads');
  const original = threads.Worker;
  let workers: Worker[] = [];

  beforeEach(() => {
    workers = [];
    threads.Worker = class extends original {
      constructor(...args: ConstructorParameters<typeof original>) {
        super(...args);
        workers.push(this);
      }
    };
  });
  afterEach(() => {
    threads.Worker = original;
  });

  it('while idle: the next run says so, later runs use the others', async () => {
    const { pool, load, table } = bench(3);
    const { id, run } = load(addModule(1));
    expect(pool.waitUntilReady(id, 10_000)).toBe(2);
    await workers[0]?.terminate();
    expect(() => pool.run(id, run, TABLE)).toThrow(/^run: tengen worker 1 died: .*exit code 1/);
    expect(pool.run(id, run, TABLE)).toBe(2);
    expect(table[0]).toBe(2);
  });

  it('in synchronous code, before a run: an error, no hang', () => {
    const { pool, load } = bench(3);
    const { id, run } = load(addModule(1));
    expect(pool.waitUntilReady(id, 10_000)).toBe(2);
    void workers[1]?.terminate();
    // Until the thread is really gone it may still take part in a run or two.
    const start = performance.now();
    const runUntilItFails = (): void => {
      while (performance.now() - start < 5000) pool.run(id, run, TABLE);
    };
    expect(runUntilItFails).toThrow(/^run: tengen worker 2 died/);
    expect(pool.run(id, run, TABLE)).toBe(2);
  });

  it('within a run, the others waiting in a barrier: an error, no hang', () => {
    const { pool, load, table } = bench(3);
    const { id, run } = load(roundsModule());
    expect(pool.waitUntilReady(id, 10_000)).toBe(2);
    table[0] = 1_000_000_000;
    const dying: RunPart = (thread, threadCount, address) => {
      void workers[0]?.terminate();
      run(thread, threadCount, address);
    };
    expect(() => pool.run(id, dying, TABLE)).toThrow(DeviceError);
    table[0] = 3;
    // On a busy machine the first run may fail of the stalled barrier before the thread is gone: then
    // its death is reported by the next run, once.
    let threads = 0;
    try {
      threads = pool.run(id, run, TABLE);
    } catch (error) {
      expect(error).toMatchObject({ message: expect.stringContaining('worker 1 died') as string });
      threads = pool.run(id, run, TABLE);
    }
    expect(threads).toBe(2);
    expect([table[1], table[16], table[17]]).toEqual([0, 3, 3]);
  });

  it('before it came up: one thread runs, and the reason is kept', async () => {
    const { pool, load, table } = bench(2);
    const { id, run } = load(addModule(1));
    const warn = console.warn;
    const warnings: string[] = [];
    console.warn = (text: string) => warnings.push(text);
    await workers[0]?.terminate();
    console.warn = warn;
    expect(pool.run(id, run, TABLE)).toBe(1);
    expect(table[0]).toBe(1);
    expect(pool.startFailure).toMatch(/it exited/);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(/tengen worker 1 could not start.*fewer threads/);
  });

  it('while its readiness is awaited: the wait ends', async () => {
    const { pool, load } = bench(2);
    const { id } = load(addModule(1));
    pool.waitUntilReady(id, 10_000);
    const busy = load(addModule(1));
    const ready = pool.whenReady(busy.id);
    void workers[0]?.terminate();
    expect(await ready).toBeLessThanOrEqual(1);
  });
});

describe('threadsAvailable', () => {
  const host: ThreadHost = {
    sharedMemory: true,
    crossOriginIsolated: undefined,
    workers: true,
    cores: 4,
    setting: undefined,
  };

  it('uses all cores where it can', () => {
    expect(threadsAvailable(host)).toEqual({ available: true, threads: 4, reason: '4 cores' });
    const page = threadsAvailable({ ...host, crossOriginIsolated: true });
    expect(page.available).toBe(true);
  });

  it('names the headers a page lacks', () => {
    const { available, threads, reason } = threadsAvailable({
      ...host,
      crossOriginIsolated: false,
      sharedMemory: false,
    });
    expect({ available, threads }).toEqual({ available: false, threads: 1 });
    expect(reason).toContain('Cross-Origin-Opener-Policy: same-origin');
    expect(reason).toContain('Cross-Origin-Embedder-Policy: require-corp');
  });

  it('says what else is missing', () => {
    expect(threadsAvailable({ ...host, cores: 1 }).reason).toMatch(/one core/);
    expect(threadsAvailable({ ...host, workers: false }).reason).toMatch(/workers/);
    expect(threadsAvailable({ ...host, sharedMemory: false }).reason).toMatch(/SharedArrayBuffer/);
  });

  it('follows TENGEN_THREADS and refuses nonsense', () => {
    expect(threadsAvailable({ ...host, setting: '1' }).available).toBe(false);
    expect(threadsAvailable({ ...host, setting: '3', cores: 1 }).threads).toBe(3);
    for (const setting of ['0', '-2', 'two', '1.5', '']) {
      expect(() => threadsAvailable({ ...host, setting })).toThrow(/TENGEN_THREADS/);
    }
  });
});
