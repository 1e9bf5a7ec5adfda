// Experiment 4, the measurements themselves: they run in Node, in a page and in a page's worker.
import { BARRIER, WorkerPool } from '../../src/runtime/workers.ts';
import type { PoolSpins, RunPart } from '../../src/runtime/workers.ts';
import { I32, barrierFunction, encodeModule, op } from './tiny-wasm.ts';
import type { Code } from './tiny-wasm.ts';

const BARRIER_ADDRESS = 64;
const TABLE = 4096;

// Words of the table: how many regions, loop turns of work per region, whether the work is dealt
// out in chunks, and from COUNTERS on one counter of taken chunks per region.
const REGION_COUNT = 0;
const REGION_WORK = 1;
const DEALT = 2;
const COUNTERS = 16;
const CHUNKS = 16;

/** `run`: in every region does its share of the work, then meets the others. */
function regionsModule(salt: number): WebAssembly.Module {
  const [region, left] = [3, 4];
  const countDown = op.loop([
    ...op.get(left),
    ...op.i32(1),
    ...op.sub,
    ...op.tee(left),
    ...op.branchIf(0),
  ]);
  const work = (parts: Code): Code => [
    ...op.get(2),
    ...op.i32load(4 * REGION_WORK),
    ...parts,
    ...op.divU,
    ...op.tee(left),
    ...op.when(countDown),
  ];
  const takeChunk: Code = [
    ...op.get(2),
    ...op.get(region),
    ...op.i32(4),
    ...op.mul,
    ...op.add,
    ...op.i32(1),
    ...op.atomicAdd(4 * COUNTERS),
    ...op.i32(CHUNKS),
    ...op.ltU,
  ];
  const chunks = op.loop([...takeChunk, ...op.when([...work(op.i32(CHUNKS)), ...op.branch(1)])]);
  const regions = op.loop([
    ...op.get(region),
    ...op.i32(1),
    ...op.sub,
    ...op.set(region),
    ...op.get(2),
    ...op.i32load(4 * DEALT),
    ...op.when(chunks, work(op.get(1))),
    ...op.get(1),
    ...op.call(1),
    ...op.get(region),
    ...op.branchIf(0),
  ]);
  const body: Code = [
    ...op.i32(salt),
    ...op.drop,
    ...op.get(2),
    ...op.i32load(4 * REGION_COUNT),
    ...op.tee(region),
    ...op.when(regions),
  ];
  const run = { parameters: 3, locals: [I32, I32], body, exportAs: 'run' };
  return new WebAssembly.Module(encodeModule([barrierFunction(BARRIER_ADDRESS, BARRIER), run]));
}

const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function busyFor(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

interface Ready {
  readonly pool: WorkerPool;
  readonly id: number;
  readonly run: RunPart;
  readonly table: Int32Array;
  readonly startMs: number;
}

let modules = 0;

async function ready(threads: number, spins: Partial<PoolSpins>): Promise<Ready> {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
  const start = performance.now();
  const pool = WorkerPool.create({ memory, barrierAddress: BARRIER_ADDRESS, threads, spins });
  const module = regionsModule(modules++);
  const id = pool.register(module);
  const up = await pool.whenReady(id);
  if (up !== threads - 1) throw new Error(`${up} of ${threads - 1} workers came up`);
  const startMs = performance.now() - start;
  const instance = new WebAssembly.Instance(module, pool.imports);
  const run = instance.exports['run'] as RunPart;
  return { pool, id, run, table: new Int32Array(memory.buffer, TABLE, 256), startMs };
}

/** Microseconds of one run with so many barriers; the mean of a burst, the median of bursts. */
function runMicroseconds(at: Ready, barriers: number, gapMs: number, perBurst: number): number {
  at.table[REGION_COUNT] = barriers;
  const bursts: number[] = [];
  for (let burst = 0; burst < 9; burst++) {
    let spent = 0;
    for (let i = 0; i < perBurst; i++) {
      if (gapMs > 0) busyFor(gapMs);
      const start = performance.now();
      at.pool.run(at.id, at.run, TABLE);
      spent += performance.now() - start;
    }
    bursts.push((spent * 1000) / perBurst);
  }
  return median(bursts);
}

const REGIONS = 20;

/** How much faster two threads are than one on regions of about `regionUs` microseconds. */
function speedup(at: Ready, regionUs: number, dealt: boolean): number {
  const { table } = at;
  const time = (maxThreads: number): number => {
    let spent = 0;
    for (let i = 0; i < 10; i++) {
      table.fill(0, COUNTERS);
      const start = performance.now();
      at.pool.run(at.id, at.run, TABLE, maxThreads);
      spent += performance.now() - start;
    }
    // The mean: what a busy neighbour costs shows in the tail.
    return spent / 10;
  };
  table[REGION_COUNT] = REGIONS;
  table[REGION_WORK] = 100_000;
  table[DEALT] = dealt ? 1 : 0;
  const perTurn = time(1) / (REGIONS * 100_000);
  table[REGION_WORK] = Math.round((2 * regionUs) / 1000 / perTurn);
  const rounds = Array.from({ length: 9 }, () => time(1) / time(2));
  table[REGION_WORK] = 0;
  table[DEALT] = 0;
  return round(median(rounds));
}

/** Wake-up, barrier, start-up and hand-over, as records. `busy`: what else the machine does. */
export async function measurePool(place: string, busy: string, threads = 2): Promise<object[]> {
  const records: object[] = [];
  for (const idle of [0, 1_000, 10_000, 100_000]) {
    const at = await ready(threads, { idle });
    runMicroseconds(at, 0, 0, 200);
    records.push({
      measure: 'one run without barrier',
      place,
      busy,
      idleSpins: idle,
      backToBackUs: round(runMicroseconds(at, 0, 0, 300)),
      after50usUs: round(runMicroseconds(at, 0, 0.05, 100)),
      after1msUs: round(runMicroseconds(at, 0, 1, 20)),
    });
    await at.pool.close();
  }
  for (const barrier of [0, 1_000, 10_000, 100_000]) {
    const at = await ready(threads, { barrier, finish: barrier });
    runMicroseconds(at, 100, 0, 20);
    const without = runMicroseconds(at, 0, 0, 20);
    const count = 200;
    const us = (runMicroseconds(at, count, 0, 5) - without) / count;
    records.push({
      measure: 'one barrier',
      place,
      busy,
      barrierSpins: barrier,
      us: round(us, 3),
      speedup50us: speedup(at, 50, false),
      speedup300us: speedup(at, 300, false),
      speedup50usDealt: speedup(at, 50, true),
      speedup300usDealt: speedup(at, 300, true),
    });
    await at.pool.close();
  }
  const at = await ready(threads, {});
  const word = new Int32Array(new SharedArrayBuffer(4));
  const spinStart = performance.now();
  for (let i = 0; i < 1e7; i++) if (Atomics.load(word, 0) !== 0) break;
  const spinNs = (performance.now() - spinStart) / 10;
  const handOver: number[] = [];
  for (let i = 0; i < 20; i++) {
    busyFor(1);
    const module = regionsModule(modules++);
    const start = performance.now();
    await at.pool.whenReady(at.pool.register(module));
    handOver.push(performance.now() - start);
  }
  at.table[REGION_COUNT] = 0;
  const alone: number[] = [];
  for (let i = 0; i < 9; i++) {
    const start = performance.now();
    for (let j = 0; j < 1000; j++) at.pool.run(at.id, at.run, TABLE, 1);
    alone.push(performance.now() - start);
  }
  records.push({
    measure: 'start and hand-over',
    place,
    busy,
    oneSpinNs: round(spinNs),
    startMs: round(at.startMs),
    handOverMs: round(median(handOver), 3),
    runOnOneThreadUs: round(median(alone), 3),
  });
  await at.pool.close();
  return records;
}
