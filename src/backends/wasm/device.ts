// The WebAssembly device: one linear memory, an allocator on it, and plans compiled to modules.
import {
  ArgumentError,
  CompileError,
  DeviceError,
  DisposedError,
  internalError,
  OutOfMemoryError,
} from '../../base/errors.ts';
import type { Kernel, Target } from '../../ir/kernel.ts';
import { Allocator, formatBytes } from '../../runtime/allocator.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import {
  bindBuffer,
  checkBindingCount,
  checkRange,
  noRoomForBoth,
  ownBuffer,
  OwnedBuffer,
} from '../../runtime/owned-buffer.ts';
import type { Plan } from '../../runtime/plan.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import { type RunPart, threadsAvailable, WorkerPool } from '../../runtime/workers.ts';
import { LOW_BYTES } from './addresses.ts';
import { relaxedSimdAvailable, simdAvailable } from './features.ts';
import { MAXIMUM_PAGES, type Program, renderProgram } from './program.ts';
import { WORK_LIMITS, type WorkLimits } from '../../runtime/work-sharing.ts';

const PAGE_BYTES = 65536;
const BARRIER_ADDRESS = 64;
const INITIAL_BYTES = LOW_BYTES + 16 * 1024 * 1024;
/** Memory grows by a quarter, within these limits: few growths, little waste. */
const GROWTH_MIN_BYTES = 16 * 1024 * 1024;
const GROWTH_MAX_BYTES = 256 * 1024 * 1024;
/** From this work on (about 10 ms) the first run waits for the workers to get the module. */
const WORK_WORTH_WAITING = 5e7;
const READY_TIMEOUT_MS = 50;

export interface WasmDeviceOptions {
  /** Threads, the caller's included. Default: TENGEN_THREADS, else the cores there are. */
  readonly threads?: number;
  /** Whether to use relaxed SIMD (fused multiply-add). Default: if the engine has it. */
  readonly relaxed?: boolean;
  /** Most bytes the memory may have, 4 GiB at most and by default. */
  readonly maximumBytes?: number;
  /** Script with WEB_WORKER_SOURCE for pages that forbid `blob:` workers. */
  readonly workerUrl?: string | URL;
  /** Least work for which threads are used, for experiments and tests. */
  readonly limits?: Partial<WorkLimits>;
}

/** Counters since the device was made. */
export interface WasmStatistics {
  /** Kernels executed: dispatches of all runs. */
  dispatches: number;
  runs: number;
  modules: number;
  /** Milliseconds spent in rendering and compiling. */
  compileMs: number;
  /** Bytes of WebAssembly code. */
  codeBytes: number;
}

class WasmBuffer extends OwnedBuffer {
  readonly address: number;

  constructor(owner: WasmDevice, address: number, bytes: number) {
    super(owner, bytes);
    this.address = address;
  }
}

/** What plans for WebAssembly are compiled for; `relaxed`: whether there is relaxed SIMD. */
export function wasmTarget(numerics: 'fast' | 'strict', relaxed: boolean): Target {
  const fma = relaxed && numerics === 'fast';
  return {
    name: 'wasm',
    vectorBytes: 16,
    fma,
    numerics,
    // Of 16, V8 keeps one to itself; a product that is rounded before it is added needs another.
    vectorRegisters: fma ? 15 : 14,
    mulHigh: true,
    workgroups: false,
    cacheBytes: { l1: 32768, l2: 1048576 },
  };
}

/** A region shared by all plans, as large as the largest needs; its contents survive no run. */
interface Region {
  address: number;
  bytes: number;
}

/**
 * Runs plans as WebAssembly on one or several threads.
 *
 * @example
 * const device = new WasmDevice({ threads: 1 });
 * const buffer = device.allocate(64);
 * device.write(buffer, 0, new Uint8Array([1, 2, 3]));
 * device.view(buffer)[2]; // => 3
 * device.close();
 */
export class WasmDevice implements Device {
  readonly name = 'wasm';
  readonly synchronous = true;
  readonly collected = false;
  readonly threads: number;
  /** Whether kernels may use relaxed SIMD. */
  readonly relaxed: boolean;
  readonly statistics: WasmStatistics = {
    dispatches: 0,
    runs: 0,
    modules: 0,
    compileMs: 0,
    codeBytes: 0,
  };
  readonly #memory: WebAssembly.Memory;
  readonly #pool: WorkerPool | undefined;
  readonly #allocator: Allocator;
  readonly #executables = new Set<WasmExecutable>();
  readonly #limits: WorkLimits;
  readonly #arena: Region = { address: 0, bytes: 0 };
  readonly #scratch: Region = { address: 0, bytes: 0 };
  #bytes: Uint8Array;
  #view: DataView;
  #allocated = 0;
  #tableBytes = 0;
  #runNumber = 0;
  #closed = false;

  /**
   * @throws ArgumentError if an option is out of range.
   * @throws DeviceError if there is no WebAssembly SIMD, no memory at all, or no shared memory for
   *   the threads that were asked for.
   */
  constructor(options: WasmDeviceOptions = {}) {
    const reason = wasmUnavailable();
    if (reason !== null) throw new DeviceError(reason, { op: 'wasm' });
    this.relaxed = options.relaxed ?? relaxedSimdAvailable();
    if (this.relaxed && !relaxedSimdAvailable()) {
      throw new DeviceError('this engine has no relaxed SIMD', {
        op: 'wasm',
        hint: 'leave the option `relaxed` away, and it is used where there is any',
      });
    }
    this.#limits = { ...WORK_LIMITS, ...options.limits };
    const threads = requestedThreads(options.threads);
    this.#memory = createMemory(maximumPages(options.maximumBytes), threads > 1);
    this.#pool =
      threads > 1
        ? WorkerPool.create({
            memory: this.#memory,
            barrierAddress: BARRIER_ADDRESS,
            threads,
            ...(options.workerUrl === undefined ? {} : { workerUrl: options.workerUrl }),
          })
        : undefined;
    this.threads = threads;
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#view = new DataView(this.#memory.buffer);
    const limit = Math.min(options.maximumBytes ?? Infinity, MAXIMUM_PAGES * PAGE_BYTES);
    this.#allocator = new Allocator({
      start: LOW_BYTES,
      end: this.#bytes.length,
      limit,
      grow: (minimumEnd) => this.#grow(minimumEnd, limit),
    });
  }

  target(numerics: 'fast' | 'strict'): Target {
    return wasmTarget(numerics, this.relaxed);
  }

  allocate(bytes: number): DeviceBuffer {
    this.#checkOpen('allocate');
    if (!Number.isFinite(bytes) || bytes < 0) throw internalError(`allocate: ${bytes} bytes`);
    const address = this.#reserve(bytes);
    this.#allocated += bytes;
    return new WasmBuffer(this, address, bytes);
  }

  free(buffer: DeviceBuffer): void {
    // A finalizer may run after the device was closed.
    if (this.#closed) return;
    const own = this.#own(buffer, 'free');
    own.freed = true;
    this.#allocator.free(own.address);
    this.#allocated -= own.bytes;
  }

  write(buffer: DeviceBuffer, byteOffset: number, source: Uint8Array): void {
    const { address } = this.#range(buffer, byteOffset, source.length, 'write');
    this.#bytes.set(source, address + byteOffset);
  }

  read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<Uint8Array> {
    const { address } = this.#range(buffer, byteOffset, bytes, 'read');
    const start = address + byteOffset;
    // `slice` of shared memory would be shared as well: many APIs refuse that.
    const copy = new Uint8Array(bytes);
    copy.set(this.#bytes.subarray(start, start + bytes));
    return Promise.resolve(copy);
  }

  view(buffer: DeviceBuffer): Uint8Array {
    const { address, bytes } = this.#own(buffer, 'view');
    return new Uint8Array(this.#memory.buffer, address, bytes);
  }

  load(plan: Plan): WasmExecutable {
    this.#checkOpen('load');
    const started = performance.now();
    const program = renderProgram(plan, {
      relaxed: this.relaxed,
      limits: this.#limits,
      pool:
        this.#pool === undefined
          ? undefined
          : { barrierAddress: BARRIER_ADDRESS, threads: this.threads },
    });
    // They come up while the module is compiled.
    if (program.parallel) this.#pool?.start();
    const module = compile(program.code, plan.kernels);
    const instance = new WebAssembly.Instance(
      module,
      this.#pool?.imports ?? { env: { memory: this.#memory } },
    );
    const table = this.#reserve(program.table.bytes);
    this.#tableBytes += program.table.bytes;
    const executable = new WasmExecutable(this, {
      plan,
      program,
      main: instance.exports['run'] as RunPart,
      table,
      moduleId: program.parallel ? this.#pool?.register(module) : undefined,
    });
    this.#executables.add(executable);
    this.statistics.modules++;
    this.statistics.codeBytes += program.code.length;
    this.statistics.compileMs += performance.now() - started;
    return executable;
  }

  memory(): { readonly allocated: number; readonly reserved: number } {
    const reserved = this.#arena.bytes + this.#scratch.bytes + this.#tableBytes;
    return { allocated: this.#allocated, reserved };
  }

  /** Lets go of the memory for intermediates until the next run needs it. */
  trim(): void {
    this.#resize(this.#arena, 0);
    this.#resize(this.#scratch, 0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#executables.clear();
    void this.#pool?.close();
  }

  /** For WasmExecutable: runs a loaded plan once. */
  execute(loaded: Loaded, bindings: readonly DeviceBuffer[], scalars: Float64Array): void {
    this.#checkOpen('run');
    const { plan, program, table, main, moduleId } = loaded;
    const threads = program.parallel ? this.threads : 1;
    this.#ensure(plan.arenaBytes, program.scratchBytes * threads);
    const view = this.#view;
    view.setUint32(table + program.table.arena, this.#arena.address, true);
    view.setUint32(table + program.table.scratch, this.#scratch.address, true);
    this.#writeBindings(plan, bindings, table + program.table.bindings);
    writeScalars(view, table + program.table.scalars, plan.scalars, scalars);
    if (moduleId === undefined) {
      main(0, 1, table);
    } else {
      const pool = this.#pool as WorkerPool;
      if (!loaded.waited && program.parallelWork > WORK_WORTH_WAITING) {
        loaded.waited = true;
        pool.waitUntilReady(moduleId, READY_TIMEOUT_MS);
      }
      this.#bytes.fill(0, table + program.table.dealt, table + program.table.bytes);
      pool.run(moduleId, main, table);
    }
    this.statistics.runs++;
    this.statistics.dispatches += program.dispatches;
  }

  /** For WasmExecutable: resolves once the workers have a module, with how many there are. */
  whenReady(moduleId: number): Promise<number> {
    return this.#pool?.whenReady(moduleId) ?? Promise.resolve(0);
  }

  /** For WasmExecutable: forgets a loaded plan. */
  unload(executable: WasmExecutable, { table, program, moduleId }: Loaded): void {
    if (this.#closed || !this.#executables.delete(executable)) return;
    this.#allocator.free(table);
    this.#tableBytes -= program.table.bytes;
    if (moduleId !== undefined) this.#pool?.release(moduleId);
    let largest = 0;
    for (const { arenaBytes } of this.#executables) largest = Math.max(largest, arenaBytes);
    if (largest < this.#arena.bytes) this.#resize(this.#arena, 0);
  }

  #writeBindings(plan: Plan, bindings: readonly DeviceBuffer[], address: number): void {
    checkBindingCount(plan, bindings);
    const run = ++this.#runNumber;
    for (let i = 0; i < bindings.length; i++) {
      const buffer = this.#own(bindings[i] as DeviceBuffer, 'run');
      bindBuffer(plan, i, buffer, run);
      this.#view.setUint32(address + 4 * i, buffer.address, true);
    }
  }

  /** Room for a run. When memory is short, making one region may let go of the other. */
  #ensure(arenaBytes: number, scratchBytes: number): void {
    for (let attempt = 0; attempt < 2; attempt++) {
      if (this.#arena.bytes < arenaBytes) this.#resize(this.#arena, arenaBytes);
      if (this.#scratch.bytes < scratchBytes) this.#resize(this.#scratch, scratchBytes);
      if (this.#arena.bytes >= arenaBytes) return;
    }
    throw noRoomForBoth('wasm', arenaBytes, scratchBytes);
  }

  #resize(region: Region, bytes: number): void {
    if (region.bytes > 0) this.#allocator.free(region.address);
    region.bytes = 0;
    region.address = 0;
    if (bytes === 0) return;
    region.address = this.#reserve(bytes);
    region.bytes = bytes;
  }

  /** An address from the allocator; before giving up, memory that no run needs now is let go. */
  #reserve(bytes: number): number {
    try {
      return this.#allocator.allocate(bytes);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      this.trim();
      return this.#allocator.allocate(bytes);
    }
  }

  #grow(minimumEnd: number, limit: number): number {
    const current = this.#bytes.length;
    const step = Math.min(Math.max(current / 4, GROWTH_MIN_BYTES), GROWTH_MAX_BYTES);
    for (const wanted of [Math.max(minimumEnd, current + step), minimumEnd]) {
      const pages = Math.ceil((Math.min(wanted, limit) - current) / PAGE_BYTES);
      try {
        this.#memory.grow(pages);
        break;
      } catch {
        // The engine refused: try just what is needed, then report what there is.
      }
    }
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#view = new DataView(this.#memory.buffer);
    return Math.min(this.#bytes.length, limit);
  }

  #own(buffer: DeviceBuffer, op: string): WasmBuffer {
    return ownBuffer(WasmBuffer, this, buffer, op);
  }

  #range(buffer: DeviceBuffer, byteOffset: number, bytes: number, op: string): WasmBuffer {
    const own = this.#own(buffer, op);
    this.#checkOpen(op);
    checkRange(own, byteOffset, bytes, op);
    return own;
  }

  #checkOpen(op: string): void {
    if (this.#closed) throw new DisposedError('the wasm device is closed', { op });
  }
}

interface Loaded {
  readonly plan: Plan;
  readonly program: Program;
  readonly main: RunPart;
  readonly table: number;
  /** The pool's id of the module; undefined if it runs on the calling thread only. */
  readonly moduleId: number | undefined;
  waited?: boolean;
}

/** A plan compiled for the WebAssembly device. */
export class WasmExecutable implements Executable {
  readonly #device: WasmDevice;
  readonly #loaded: Loaded;
  #disposed = false;

  constructor(device: WasmDevice, loaded: Loaded) {
    this.#device = device;
    this.#loaded = loaded;
  }

  get arenaBytes(): number {
    return this.#loaded.plan.arenaBytes;
  }

  /** What was rendered: code, dispatches, barriers. */
  get program(): Program {
    return this.#loaded.program;
  }

  /**
   * Resolves once every worker can take part in a run. Runs before that use fewer threads, with
   * the same results.
   *
   * @returns how many threads a run would use now.
   */
  async whenReady(): Promise<number> {
    const { moduleId } = this.#loaded;
    return moduleId === undefined ? 1 : 1 + (await this.#device.whenReady(moduleId));
  }

  run(bindings: readonly DeviceBuffer[], scalars: Float64Array): void {
    if (this.#disposed) throw new DisposedError('the plan was disposed of', { op: 'run' });
    this.#device.execute(this.#loaded, bindings, scalars);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#device.unload(this, this.#loaded);
  }
}

/** Why WebAssembly kernels cannot run here, or null if they can. */
export function wasmUnavailable(): string | null {
  return simdAvailable() ? null : 'this host has no WebAssembly with 128-bit SIMD';
}

function requestedThreads(threads: number | undefined): number {
  if (threads === undefined) return threadsAvailable().threads;
  if (!Number.isInteger(threads) || threads < 1) {
    throw new ArgumentError(`threads is ${threads}, not a positive integer`, { op: 'wasm' });
  }
  if (threads > 1 && typeof SharedArrayBuffer !== 'function') {
    throw new DeviceError(`${threads} threads asked for, but ${threadsAvailable().reason}`, {
      op: 'wasm',
    });
  }
  return threads;
}

function maximumPages(maximumBytes: number | undefined): number {
  if (maximumBytes === undefined) return MAXIMUM_PAGES;
  if (!(maximumBytes > INITIAL_BYTES)) {
    throw new ArgumentError(
      `maximumBytes is ${maximumBytes}, at least ${formatBytes(INITIAL_BYTES)} is needed`,
      { op: 'wasm' },
    );
  }
  return Math.min(MAXIMUM_PAGES, Math.ceil(maximumBytes / PAGE_BYTES));
}

/** Some hosts refuse to set 4 GiB of addresses apart: ask for less until they agree. */
function createMemory(maximum: number, shared: boolean): WebAssembly.Memory {
  const initial = INITIAL_BYTES / PAGE_BYTES;
  let failure: unknown;
  for (let pages = maximum; pages >= initial; pages = Math.floor(pages / 2)) {
    try {
      return new WebAssembly.Memory({ initial, maximum: pages, shared });
    } catch (error) {
      failure = error;
    }
  }
  throw new DeviceError('the host gives no WebAssembly memory', { op: 'wasm', cause: failure });
}

function compile(code: Uint8Array<ArrayBuffer>, kernels: readonly Kernel[]): WebAssembly.Module {
  try {
    return new WebAssembly.Module(code);
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    const names = kernels.map(({ name }) => name).join(', ');
    throw new CompileError(`the engine refused the module: ${detail} (kernels: ${names})`, {
      op: 'wasm',
      cause,
    });
  }
}
