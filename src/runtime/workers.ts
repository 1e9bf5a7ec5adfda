// The process-wide pool of workers that run a plan's WebAssembly module on shared memory.
import { ArgumentError, DeviceError, DisposedError, internalError } from '../base/errors.ts';
import { callerMayWait, startThread, threadsAvailable } from './host-threads.ts';
import type { HostThread } from './host-threads.ts';
import {
  BARRIER,
  BARRIER_BYTES,
  CONTROL,
  FAILURE_UNITS,
  WORKER,
  controlWords,
  failureBase,
  workerBase,
} from './worker-source.ts';

export { threadsAvailable } from './host-threads.ts';
export type { ThreadAvailability } from './host-threads.ts';
export { BARRIER, BARRIER_BYTES, WEB_WORKER_SOURCE } from './worker-source.ts';

// How long the caller sleeps before it looks whether the workers it waits for still live.
const STALL_MS = 100;
// Spins before sleeping; docs/decisions/0004-worker-pool.md has the measurements.
const DEFAULT_SPINS: PoolSpins = { barrier: 10_000, finish: 10_000, idle: 2_000 };
// Stands in `failedWorker` when the caller's own part failed first.
const CALLER_FAILED = -1;

/** Turns of a waiting loop before a thread goes to sleep. */
export interface PoolSpins {
  /** At a barrier between kernels. */
  readonly barrier: number;
  /** The caller, at the end of a run. */
  readonly finish: number;
  /** A worker, after a run. */
  readonly idle: number;
}

export interface WorkerPoolOptions {
  /** The shared memory that every module of this pool imports. */
  readonly memory: WebAssembly.Memory;
  /** Where in `memory` the barrier block stands: BARRIER_BYTES zeroed bytes, 64-byte aligned. */
  readonly barrierAddress: number;
  /** Threads, the caller's included. Default: what `threadsAvailable` says. */
  readonly threads?: number;
  /** Script of the page's own origin that holds WEB_WORKER_SOURCE, if `blob:` is forbidden. */
  readonly workerUrl?: string | URL;
  readonly spins?: Partial<PoolSpins>;
}

/**
 * A module's imports; those it does not ask for do no harm. `wait` is the slow path of the
 * barrier: it sleeps while the phase is `phase`, if this thread may sleep.
 */
export type PoolImports = {
  readonly env: {
    readonly memory: WebAssembly.Memory;
    readonly wait: (phase: number) => void;
  };
};

/** Thread `thread` of `threadCount` executes its part of a plan. */
export type RunPart = (thread: number, threadCount: number, tableAddress: number) => void;

interface Member {
  readonly name: string;
  readonly thread: HostThread;
  readonly base: number;
  dead: boolean;
}

/**
 * Workers that execute plans together with the calling thread.
 *
 * Every module exports `run(thread, threadCount, tableAddress)` and imports `env.memory` and
 * `env.wait`. Between dependent kernels the threads meet in a barrier that the module contains:
 *
 * ```text
 * barrier(threadCount):                       ; words of BARRIER, 4 bytes each, at barrierAddress
 *   p = atomic.load phase;  if p < 0: unreachable
 *   if atomic.rmw.add(count, 1) == threadCount - 1:
 *     atomic.store count 0
 *     atomic.rmw.cmpxchg(phase, p, (p + 1) & 0x7fffffff)
 *     if atomic.load waiters: memory.atomic.notify(phase, -1)
 *   else:
 *     n = load spins
 *     while atomic.load phase == p:  if n > 0: n -= 1  else: env.wait(p)
 *   if atomic.load phase < 0: unreachable     ; a thread failed and will never come
 * ```
 *
 * The compare-and-swap keeps a failure that was signalled in the meantime. A module whose plan
 * runs on one thread needs none of it.
 *
 * @example sketch: memory and module are the wasm backend's
 * const pool = WorkerPool.create({ memory, barrierAddress: 64 });
 * const id = pool.register(module);
 * const instance = new WebAssembly.Instance(module, pool.imports);
 * pool.run(id, instance.exports.run as RunPart, tableAddress);
 */
export class WorkerPool {
  /** Threads when all workers are up, the caller's included. */
  readonly threads: number;
  /** For the caller's own instances of registered modules. */
  readonly imports: PoolImports;
  readonly #barrier: Int32Array;
  readonly #control: Int32Array;
  readonly #members: Member[] = [];
  readonly #mayWait = callerMayWait();
  // Number of the message that handed a module over; a worker that handled it can run the module.
  readonly #sequence = new Map<number, number>();
  readonly #whenHandled = new Set<() => void>();
  #nextModule = 1;
  #deaths: string[] = [];
  #startFailure: string | undefined;
  readonly #spins: PoolSpins;
  readonly #options: WorkerPoolOptions;
  #started = false;
  #running = false;
  #closed = false;

  private constructor(options: WorkerPoolOptions, threads: number) {
    const { memory, barrierAddress } = options;
    this.threads = threads;
    this.#options = options;
    this.#spins = { ...DEFAULT_SPINS, ...options.spins };
    this.#barrier = new Int32Array(memory.buffer, barrierAddress, BARRIER_BYTES / 4);
    this.#resetBarrier();
    this.#control = new Int32Array(new SharedArrayBuffer(4 * controlWords(threads - 1)));
    this.#control[CONTROL.idleSpins] = this.#spins.idle;
    this.#control[CONTROL.posted] = 1; // the start message
    this.imports = { env: { memory, wait: (phase) => this.#waitAtBarrier(phase) } };
  }

  /**
   * Makes a pool. Its workers start with the first module: a program that never has one pays for none. They
   * come up by themselves (in a page only once the caller returns to its event loop) and until then plans
   * run on fewer threads.
   *
   * @throws DeviceError if several threads are asked for where there are none.
   * @throws ArgumentError if the memory is not shared or the barrier block does not fit.
   */
  static create(options: WorkerPoolOptions): WorkerPool {
    const { memory, barrierAddress } = options;
    const availability = threadsAvailable();
    const threads = options.threads ?? availability.threads;
    if (!Number.isInteger(threads) || threads < 1) {
      throw new ArgumentError(`threads is ${threads}, not a positive integer`, {
        op: 'WorkerPool',
      });
    }
    if (threads > 1 && typeof SharedArrayBuffer !== 'function') {
      throw new DeviceError(`${threads} threads asked for, but ${availability.reason}`, {
        op: 'WorkerPool',
      });
    }
    const bytes = memory.buffer.byteLength;
    if (Object.prototype.toString.call(memory.buffer) !== '[object SharedArrayBuffer]') {
      throw new ArgumentError('the memory is not shared', { op: 'WorkerPool' });
    }
    if (barrierAddress % 64 !== 0 || barrierAddress + BARRIER_BYTES > bytes) {
      throw new ArgumentError(`barrierAddress ${barrierAddress} is not aligned or not in memory`, {
        op: 'WorkerPool',
      });
    }
    return new WorkerPool(options, threads);
  }

  /**
   * Starts the workers, unless they were. The first module does so as well; whoever knows of it earlier
   * gains the time that they take to come up.
   */
  start(): void {
    this.#checkOpen('start');
    if (this.#started) return;
    this.#started = true;
    for (let index = 0; index < this.threads - 1; index++) this.#startWorker(index, this.#options);
  }

  #startWorker(index: number, options: WorkerPoolOptions): void {
    const name = `tengen worker ${index + 1}`;
    const thread = startThread(
      name,
      {
        message: () => this.#notifyHandled(),
        exited: (reason) => {
          this.#bury(member, reason);
          this.#notifyHandled();
        },
      },
      options.workerUrl,
    );
    const member: Member = { name, thread, base: workerBase(index), dead: false };
    this.#members.push(member);
    thread.post({
      kind: 'start',
      memory: options.memory,
      control: this.#control,
      barrierAddress: options.barrierAddress,
      index,
      base: member.base,
      failureBase: failureBase(this.threads - 1),
    });
  }

  /**
   * Hands a module to every worker. Does not wait: see `readyFor`.
   *
   * @returns the module's id for `run` and `release`.
   */
  register(module: WebAssembly.Module): number {
    this.start();
    const id = this.#nextModule++;
    this.#sequence.set(id, this.#post({ kind: 'module', module, id }));
    return id;
  }

  /** Lets go of a module in every worker. An id that is unknown or released does nothing. */
  release(moduleId: number): void {
    if (this.#closed || !this.#sequence.delete(moduleId)) return;
    this.#post({ kind: 'release', id: moduleId });
  }

  /** Why workers could not be started; `undefined` if none failed to. */
  get startFailure(): string | undefined {
    return this.#startFailure;
  }

  /** How many workers could take part in a run of this module now. */
  readyFor(moduleId: number): number {
    const sequence = this.#sequence.get(moduleId);
    if (sequence === undefined) return 0;
    let ready = 0;
    for (const member of this.#members) if (this.#isReady(member, sequence)) ready++;
    return ready;
  }

  /**
   * Sleeps until every living worker has the module, or the time is over. The main thread of a
   * page may not sleep: there it answers at once.
   *
   * @returns how many workers are ready.
   */
  waitUntilReady(moduleId: number, timeoutMs: number): number {
    const sequence = this.#sequence.get(moduleId);
    if (sequence === undefined || !this.#mayWait) return this.readyFor(moduleId);
    const deadline = performance.now() + timeoutMs;
    for (const member of this.#members) {
      while (!member.dead && !this.#isReady(member, sequence)) {
        const left = deadline - performance.now();
        if (left <= 0) return this.readyFor(moduleId);
        const word = member.base + WORKER.handled;
        const handled = Atomics.load(this.#control, word);
        if (handled >= sequence) break;
        const slept = Atomics.wait(this.#control, word, handled, Math.min(left, STALL_MS));
        if (slept === 'timed-out' && !member.thread.alive()) this.#bury(member, 'it ended');
      }
    }
    return this.readyFor(moduleId);
  }

  /**
   * Resolves once every living worker has the module.
   *
   * @returns how many workers are ready.
   */
  async whenReady(moduleId: number): Promise<number> {
    const sequence = this.#sequence.get(moduleId);
    if (sequence === undefined) return 0;
    const settled = (): boolean =>
      this.#closed ||
      this.#members.every((member) => member.dead || this.#isReady(member, sequence));
    if (settled()) return this.readyFor(moduleId);
    for (const member of this.#members) member.thread.keepsProcess(true);
    await new Promise<void>((resolve) => {
      const check = (): void => {
        if (!settled()) return;
        this.#whenHandled.delete(check);
        resolve();
      };
      this.#whenHandled.add(check);
    });
    if (this.#whenHandled.size === 0) {
      for (const member of this.#members) member.thread.keepsProcess(false);
    }
    return this.readyFor(moduleId);
  }

  /**
   * Runs a plan once: `main` as thread 0 in the caller, the other threads in the workers that are
   * ready. Returns when all have finished.
   *
   * @param main thread 0's part, normally the export `run` of the caller's own instance.
   * @param maxThreads upper limit, the caller's included; 1 wakes nobody.
   * @returns how many threads took part.
   * @throws DeviceError if a worker trapped or died. The memory then holds an unfinished result;
   *   the pool goes on with the workers that live.
   */
  run(moduleId: number, main: RunPart, tableAddress: number, maxThreads = this.threads): number {
    this.#checkOpen('run');
    this.#reportDeaths();
    if (this.#running) throw internalError('WorkerPool.run was entered again from within a run');
    const called = this.#select(moduleId, maxThreads - 1);
    const threadCount = called.length + 1;
    if (threadCount === 1) {
      main(0, 1, tableAddress);
      return 1;
    }
    this.#running = true;
    try {
      this.#call(called, moduleId, tableAddress);
      let failure: unknown;
      let failed = false;
      try {
        main(0, threadCount, tableAddress);
      } catch (error) {
        failure = error;
        failed = true;
        // What fails in the workers from here on is a consequence.
        Atomics.compareExchange(this.#control, CONTROL.failedWorker, 0, CALLER_FAILED);
        this.#abort();
      }
      this.#finish(called, failed, failure);
    } finally {
      this.#running = false;
    }
    return threadCount;
  }

  /** Ends all workers. Runs in progress do not exist here: `run` is synchronous. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#sequence.clear();
    this.#notifyHandled();
    await Promise.all(this.#members.map((member) => member.thread.terminate()));
  }

  #select(moduleId: number, limit: number): Member[] {
    const called: Member[] = [];
    const sequence = this.#sequence.get(moduleId);
    if (sequence === undefined) {
      throw internalError(`WorkerPool.run: module ${moduleId} is not registered`);
    }
    for (const member of this.#members) {
      if (called.length >= limit) break;
      if (this.#isReady(member, sequence)) called.push(member);
    }
    return called;
  }

  #call(called: readonly Member[], moduleId: number, tableAddress: number): void {
    const control = this.#control;
    const generation = (control[CONTROL.generation] as number) + 1;
    control[CONTROL.module] = moduleId;
    control[CONTROL.threadCount] = called.length + 1;
    control[CONTROL.table] = tableAddress;
    for (let i = 0; i < called.length; i++) {
      const { base } = called[i] as Member;
      control[base + WORKER.thread] = i + 1;
      // Workers compare this with the generation they woke for, so one that comes late to an
      // earlier call never takes half of this one.
      Atomics.store(control, base + WORKER.called, generation | 0);
    }
    this.#wake();
  }

  /** Waits for the called workers, then throws what went wrong, if anything did. */
  #finish(called: readonly Member[], mainFailed: boolean, mainFailure: unknown): void {
    const control = this.#control;
    const generation = Atomics.load(control, CONTROL.generation);
    for (const member of called) this.#waitForFinish(member, generation);
    const worker = Atomics.load(control, CONTROL.failedWorker);
    if (!mainFailed && worker === 0 && this.#deaths.length === 0) return;
    this.#resetBarrier();
    Atomics.store(control, CONTROL.failedWorker, 0);
    if (worker > 0) {
      const name = (this.#members[worker - 1] as Member).name;
      const text = this.#failureText();
      throw new DeviceError(`${name} failed: ${text}`, { op: 'run', cause: mainFailure });
    }
    this.#reportDeaths();
    throw mainFailure;
  }

  #waitForFinish(member: Member, generation: number): void {
    const control = this.#control;
    const word = member.base + WORKER.finished;
    let spins = this.#spins.finish;
    while (Atomics.load(control, word) !== generation && !member.dead) {
      if (spins-- > 0 || !this.#mayWait) continue;
      Atomics.store(control, CONTROL.callerSleeps, 1);
      const finished = Atomics.load(control, word);
      if (finished === generation) break;
      if (Atomics.wait(control, word, finished, STALL_MS) === 'timed-out') this.#checkAlive();
    }
    Atomics.store(control, CONTROL.callerSleeps, 0);
  }

  #waitAtBarrier(phase: number): void {
    if (!this.#mayWait) return;
    const barrier = this.#barrier;
    Atomics.add(barrier, BARRIER.waiters, 1);
    const slept = Atomics.wait(barrier, BARRIER.phase, phase, STALL_MS);
    Atomics.sub(barrier, BARRIER.waiters, 1);
    if (slept === 'timed-out') this.#checkAlive();
  }

  /** A dead worker reaches no barrier: release the others from theirs. */
  #checkAlive(): void {
    for (const member of this.#members) {
      if (!member.dead && !member.thread.alive()) this.#bury(member, 'it ended');
    }
    if (this.#deaths.length > 0) this.#abort();
  }

  #resetBarrier(): void {
    this.#barrier.fill(0);
    this.#barrier[BARRIER.spins] = this.#spins.barrier;
  }

  #abort(): void {
    Atomics.store(this.#barrier, BARRIER.phase, -1);
    Atomics.notify(this.#barrier, BARRIER.phase);
  }

  #bury(member: Member, reason: string): void {
    if (member.dead || this.#closed) return;
    member.dead = true;
    if (Atomics.load(this.#control, member.base + WORKER.handled) > 0) {
      this.#deaths.push(`${member.name} died: ${reason}`);
      return;
    }
    // It never came up, so no result is lost: the plans run on fewer threads.
    if (this.#startFailure === undefined) {
      console.warn(`tengen: ${member.name} could not start (${reason}), so fewer threads are used`);
    }
    this.#startFailure ??= reason;
  }

  #reportDeaths(): void {
    if (this.#deaths.length === 0) return;
    const text = this.#deaths.join('; ');
    this.#deaths = [];
    throw new DeviceError(text, {
      op: 'run',
      hint: 'the results of the step it worked on are lost; the pool goes on with the others',
    });
  }

  #failureText(): string {
    const start = failureBase(this.threads - 1) * 4;
    const units = new Uint16Array(this.#control.buffer, start, FAILURE_UNITS);
    const length = Atomics.load(this.#control, CONTROL.failureLength);
    return String.fromCharCode(...units.subarray(0, length));
  }

  #isReady(member: Member, sequence: number): boolean {
    return !member.dead && Atomics.load(this.#control, member.base + WORKER.handled) >= sequence;
  }

  /** Posts to every worker and wakes them to take it. Returns the message's number. */
  #post(message: object): number {
    // Counted first: a worker that handled every message it knows of starts to serve and sleeps.
    const number = Atomics.add(this.#control, CONTROL.posted, 1) + 1;
    for (const member of this.#members) if (!member.dead) member.thread.post(message);
    this.#wake();
    return number;
  }

  #wake(): void {
    const control = this.#control;
    Atomics.add(control, CONTROL.generation, 1);
    if (Atomics.load(control, CONTROL.sleepers) > 0) Atomics.notify(control, CONTROL.generation);
  }

  #notifyHandled(): void {
    for (const check of this.#whenHandled) check();
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new DisposedError('the worker pool is closed', { op });
  }
}
