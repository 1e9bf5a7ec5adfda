// The native device: ordinary array buffers as memory, and plans run by compiled C on a pool of
// threads.
import { DeviceError, DisposedError, internalError, OutOfMemoryError } from '../../base/errors.ts';
import type { Target } from '../../ir/kernel.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import { threadsAvailable } from '../../runtime/host-threads.ts';
import {
  bindBuffer,
  checkBindingCount,
  checkRange,
  noRoomForBoth,
  ownBuffer,
  OwnedBuffer,
} from '../../runtime/owned-buffer.ts';
import type { Plan } from '../../runtime/plan.ts';
import { WORK_LIMITS, type WorkLimits } from '../../runtime/work-sharing.ts';
import { AlignedMemory, BorrowedMemory, MemoryPool } from './memory.ts';
import { type NativeHost, nativeHost, nativeUnavailable } from './host.ts';
import { NativeProgramStore } from './program-store.ts';
import { NativeProgram } from './program.ts';

/** Estimated work (about 1 ms) from which a plan runs beside the program, which goes on meanwhile. */
const WORK_WORTH_QUEUEING = 7e6;

export interface NativeDeviceOptions {
  /** Threads, the caller's included. Default: TENGEN_THREADS, else the cores there are. */
  readonly threads?: number;
  /** Least work for which threads are used, for experiments and tests. */
  readonly limits?: Partial<WorkLimits>;
  /** Least work of plans that run beside the program, for tests. */
  readonly queueFrom?: number;
}

/** Of the units that multiply bfloat16: none, vectors (AVX-512 BF16), tiles (AMX). */
const PAIR_SPEEDS = [{}, { pairSpeed: 2 }, { pairSpeed: 15 }] as const;

/** Counters since the device was made. */
export interface NativeStatistics {
  /** Kernels executed: dispatches of all runs. */
  dispatches: number;
  runs: number;
  /** Runs that went on while the program did. */
  queued: number;
  /** Kernels that were compiled, or found in the cache on disk. */
  kernels: number;
  /** Milliseconds spent in rendering, compiling and loading. */
  compileMs: number;
}

class NativeBuffer extends OwnedBuffer {
  readonly memory: AlignedMemory | BorrowedMemory;

  constructor(owner: NativeDevice, memory: AlignedMemory | BorrowedMemory, bytes: number) {
    super(owner, bytes);
    this.memory = memory;
  }
}

/** What a run that is under way needs: nothing of it may be collected. */
interface Underway {
  readonly ticket: number;
  readonly memory: readonly unknown[];
}

/**
 * Runs plans as machine code that the system's C compiler made.
 *
 * @example no-run: needs a C compiler
 * const device = new NativeDevice({ threads: 2 });
 * const bytes = device.target('fast').vectorBytes;
 * device.close();
 */
export class NativeDevice implements Device {
  readonly name = 'native';
  readonly synchronous = true;
  readonly collected = true;
  readonly threads: number;
  readonly programs: NativeProgramStore | null;
  readonly fingerprint: string;
  readonly statistics: NativeStatistics = {
    dispatches: 0,
    runs: 0,
    queued: 0,
    kernels: 0,
    compileMs: 0,
  };
  readonly #host: NativeHost;
  readonly #limits: WorkLimits;
  readonly #queueFrom: number;
  readonly #pool: MemoryPool;
  readonly #executables = new Set<NativeExecutable>();
  /** Buffers that the collector took are no longer allocated. */
  readonly #finalizers = new FinalizationRegistry<number>((bytes) => {
    this.#allocated -= bytes;
  });
  #arena: AlignedMemory;
  #scratch: AlignedMemory;
  #underway: Underway[] = [];
  #allocated = 0;
  #runNumber = 0;
  #closed = false;

  /** @throws DeviceError if there is no C compiler or no way to call what it makes. */
  constructor(options: NativeDeviceOptions = {}) {
    const reason = nativeUnavailable();
    if (reason !== null) throw new DeviceError(reason, { op: 'native' });
    this.#host = nativeHost();
    this.#limits = { ...WORK_LIMITS, ...options.limits };
    this.#queueFrom = options.queueFrom ?? WORK_WORTH_QUEUEING;
    this.threads = this.#host.start(options.threads ?? threadsAvailable().threads);
    const { cpu, vectorBytes, kind, version } = this.#host.toolchain;
    this.fingerprint = `native ${cpu} ${vectorBytes} ${kind} ${version} ${this.threads}`;
    // A cache of this process alone is of no use to the next.
    const { cache } = this.#host;
    this.programs =
      cache.fallback === undefined ? NativeProgramStore.open(cache.path, this.fingerprint) : null;
    this.#pool = new MemoryPool(this.#host.useLargePages);
    this.#arena = this.#pool.take(0);
    this.#scratch = this.#pool.take(0);
  }

  target(numerics: 'fast' | 'strict', pairs = false): Target {
    const { vectorBytes, registers, fma, cacheBytes } = this.#host.toolchain;
    return {
      name: 'native',
      vectorBytes,
      fma: fma && numerics === 'fast',
      numerics,
      vectorRegisters: registers,
      foldsSplats: true,
      mulHigh: true,
      prefetches: true,
      workgroups: false,
      cacheBytes,
      ...(pairs && PAIR_SPEEDS[this.#host.pairUnit()]),
    };
  }

  allocate(bytes: number): DeviceBuffer {
    this.#checkOpen('allocate');
    if (!Number.isFinite(bytes) || bytes < 0) throw internalError(`allocate: ${bytes} bytes`);
    const buffer = new NativeBuffer(this, this.#take(bytes), bytes);
    this.#finalizers.register(buffer, bytes, buffer);
    this.#allocated += bytes;
    return buffer;
  }

  adopt(bytes: Uint8Array, elementBytes: number): DeviceBuffer | null {
    this.#checkOpen('adopt');
    const memory = BorrowedMemory.of(bytes, elementBytes);
    return memory === null ? null : new NativeBuffer(this, memory, bytes.byteLength);
  }

  free(buffer: DeviceBuffer): void {
    if (this.#closed) return;
    const own = this.#own(buffer, 'free');
    own.freed = true;
    if (own.memory instanceof BorrowedMemory) return;
    this.#finalizers.unregister(own);
    this.#allocated -= own.bytes;
    // Used again by a later run only, which comes after those under way; writing waits for them.
    this.#pool.give(own.memory);
  }

  write(buffer: DeviceBuffer, byteOffset: number, source: Uint8Array): void {
    const { memory } = this.#range(buffer, byteOffset, source.length, 'write');
    if (memory instanceof BorrowedMemory) throw internalError('write: bytes of somebody else');
    this.#finish();
    memory.view(byteOffset, source.length).set(source);
  }

  async read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<Uint8Array> {
    const { memory } = this.#range(buffer, byteOffset, bytes, 'read');
    const last = this.#underway.at(-1);
    if (last !== undefined) {
      await this.#host.waitAsync(last.ticket);
      this.#release();
    }
    return memory.view(byteOffset, bytes).slice();
  }

  view(buffer: DeviceBuffer): Uint8Array {
    const { memory, bytes } = this.#own(buffer, 'view');
    this.#finish();
    return memory.view(0, bytes);
  }

  load(plan: Plan): NativeExecutable {
    this.#checkOpen('load');
    const started = performance.now();
    const program = new NativeProgram(plan, this.#host, this.#limits, this.threads);
    const executable = new NativeExecutable(this, program);
    this.#executables.add(executable);
    this.statistics.kernels += program.newKernels;
    this.statistics.compileMs += performance.now() - started;
    return executable;
  }

  memory(): { readonly allocated: number; readonly reserved: number } {
    return {
      allocated: this.#allocated,
      reserved: this.#arena.bytes + this.#scratch.bytes + this.#pool.bytes,
    };
  }

  /** Lets go of the memory for intermediates until the next run needs it. */
  trim(): void {
    this.#arena = new AlignedMemory(0);
    this.#scratch = new AlignedMemory(0);
    this.#pool.clear();
  }

  close(): void {
    if (this.#closed) return;
    this.#finish();
    this.#closed = true;
    this.#executables.clear();
    this.trim();
  }

  /** For NativeExecutable: runs a loaded plan once, or queues it. */
  execute(
    program: NativeProgram,
    bindings: readonly DeviceBuffer[],
    scalars: Float64Array,
    background: boolean,
  ): void {
    this.#checkOpen('run');
    const { plan } = program;
    this.#ensure(plan.arenaBytes, program.scratchBytes * this.threads);
    // The program's table is overwritten: a run of it that is under way must be over.
    if (program.ticket !== 0 && !this.#host.done(program.ticket)) this.#finish();
    this.#bind(program, bindings);
    program.prepare(this.#arena, this.#scratch, scalars);
    this.statistics.runs++;
    this.statistics.dispatches += program.dispatches.length;
    if (background && program.work >= this.#queueFrom) {
      this.#release();
      program.ticket = this.#host.submit(program.address);
      const memory = [program, this.#arena, this.#scratch, ...bindings];
      this.#underway.push({ ticket: program.ticket, memory });
      this.statistics.queued++;
    } else {
      this.#host.run(program.address);
      this.#underway.length = 0;
    }
  }

  /** For NativeExecutable: runs a loaded plan and measures each dispatch, in milliseconds. */
  profile(
    program: NativeProgram,
    bindings: readonly DeviceBuffer[],
    scalars: Float64Array,
  ): Float64Array {
    const times = new AlignedMemory(8 * program.dispatches.length);
    program.measure(times);
    this.execute(program, bindings, scalars, false);
    program.measure(null);
    const measured = times.numbers(program.dispatches.length);
    const result = new Float64Array(program.plan.dispatches.length);
    program.dispatches.forEach((dispatch, step) => {
      result[dispatch] = (measured[step] as number) / 1e6;
    });
    return result;
  }

  /** For NativeExecutable: forgets a loaded plan. */
  unload(executable: NativeExecutable): void {
    if (this.#closed || !this.#executables.delete(executable)) return;
    let largest = 0;
    for (const { arenaBytes } of this.#executables) largest = Math.max(largest, arenaBytes);
    if (largest < this.#arena.bytes) this.#arena = new AlignedMemory(0);
  }

  #bind(program: NativeProgram, bindings: readonly DeviceBuffer[]): void {
    const { plan } = program;
    checkBindingCount(plan, bindings);
    const run = ++this.#runNumber;
    for (let i = 0; i < bindings.length; i++) {
      const buffer = this.#own(bindings[i] as DeviceBuffer, 'run');
      bindBuffer(plan, i, buffer, run);
      if (buffer.memory instanceof BorrowedMemory) this.#checkBorrowed(buffer.memory, plan, i);
      program.bind(i, buffer.memory.address);
    }
  }

  #checkBorrowed(memory: BorrowedMemory, { bindings }: Plan, index: number): void {
    if (bindings[index]?.access !== 'read') {
      throw internalError(`binding ${index} is bytes of somebody else and written`);
    }
    if (!memory.isGone) return;
    throw new DisposedError('the bytes that weights were read from were transferred', {
      op: 'native',
      hint: 'load from a copy of them, or keep them where they are',
    });
  }

  /** Waits for everything under way. */
  #finish(): void {
    const last = this.#underway.at(-1);
    if (last === undefined) return;
    this.#host.wait(last.ticket);
    this.#underway.length = 0;
  }

  /** Forgets what is done. */
  #release(): void {
    while (this.#underway.length > 0 && this.#host.done((this.#underway[0] as Underway).ticket)) {
      this.#underway.shift();
    }
  }

  /** Room for a run. When memory is short, making one region may let go of the other. */
  #ensure(arenaBytes: number, scratchBytes: number): void {
    for (let attempt = 0; attempt < 2; attempt++) {
      if (this.#arena.bytes < arenaBytes) this.#arena = this.#take(arenaBytes);
      if (this.#scratch.bytes < scratchBytes) this.#scratch = this.#take(scratchBytes);
      if (this.#arena.bytes >= arenaBytes) return;
    }
    throw noRoomForBoth('native', arenaBytes, scratchBytes);
  }

  /** Memory from the pool or the host; before giving up, what no run needs now is let go. */
  #take(bytes: number): AlignedMemory {
    try {
      return this.#pool.take(bytes);
    } catch {
      this.#finish();
      this.trim();
    }
    try {
      return this.#pool.take(bytes);
    } catch (cause) {
      throw new OutOfMemoryError(`cannot allocate ${bytes} bytes`, { op: 'native', cause });
    }
  }

  #own(buffer: DeviceBuffer, op: string): NativeBuffer {
    return ownBuffer(NativeBuffer, this, buffer, op);
  }

  #range(buffer: DeviceBuffer, byteOffset: number, bytes: number, op: string): NativeBuffer {
    const own = this.#own(buffer, op);
    this.#checkOpen(op);
    checkRange(own, byteOffset, bytes, op);
    return own;
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new DisposedError('the native device is closed', { op });
  }
}

/** A plan compiled for the native device. */
export class NativeExecutable implements Executable {
  readonly #device: NativeDevice;
  readonly #program: NativeProgram;
  #disposed = false;

  constructor(device: NativeDevice, program: NativeProgram) {
    this.#device = device;
    this.#program = program;
  }

  get arenaBytes(): number {
    return this.#program.plan.arenaBytes;
  }

  run(bindings: readonly DeviceBuffer[], scalars: Float64Array, background = false): void {
    if (this.#disposed) throw new DisposedError('the plan was disposed of', { op: 'run' });
    this.#device.execute(this.#program, bindings, scalars, background);
  }

  profile(bindings: readonly DeviceBuffer[], scalars: Float64Array): Float64Array {
    if (this.#disposed) throw new DisposedError('the plan was disposed of', { op: 'profile' });
    return this.#device.profile(this.#program, bindings, scalars);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#device.unload(this);
  }
}
