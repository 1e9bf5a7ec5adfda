// The interfaces a backend implements. Two files make a backend: a renderer that turns kernels
// into code, and a device that owns memory and runs plans.
import type { Target } from '../ir/kernel.ts';
import type { Plan } from './plan.ts';
import type { ProgramStore } from './program-store.ts';

/** Memory of a device. Only the device that made it knows what is inside. */
export interface DeviceBuffer {
  readonly bytes: number;
}

/** A plan made ready for a device. */
export interface Executable {
  /**
   * Runs the plan. `bindings` are in the plan's order; `scalars` holds one number per slot.
   * Returns when results may be read with `Device.read` or, on CPU devices, `Device.view`. In the
   * `background` the device may go on after that, and what reads or writes its memory waits.
   */
  run(bindings: readonly DeviceBuffer[], scalars: Float64Array, background?: boolean): void;
  /**
   * Runs the plan and measures each of its dispatches, one after the other: milliseconds, in the
   * plan's order. Missing where a device cannot.
   */
  profile?(bindings: readonly DeviceBuffer[], scalars: Float64Array): Float64Array;
  /** Frees code and arena. */
  dispose(): void;
}

export interface Device {
  readonly name: string;
  /** What measurements of kernels depend on: processor, instruction sets, threads. */
  readonly fingerprint?: string;
  /** Whether results can be read without waiting (`dataSync`). */
  readonly synchronous: boolean;
  /** How many threads kernels run on. */
  readonly threads: number;
  /**
   * Whether dropped buffers are reclaimed by the garbage collector alone. If false, `free` must be
   * called (by a finalizer), and owners carry ballast that tells V8 of the bytes it cannot see.
   */
  readonly collected: boolean;
  target(numerics: 'fast' | 'strict', pairs?: boolean): Target;
  /** Bytes are not cleared. Throws OutOfMemoryError. */
  allocate(bytes: number): DeviceBuffer;
  free(buffer: DeviceBuffer): void;
  /**
   * A buffer for reading only that is `bytes` itself, elements of `elementBytes` each; or null if kernels
   * cannot read them where they are. They must not change until it is freed. On a device that has this,
   * `view` of any buffer is good for as long as the buffer.
   */
  adopt?(bytes: Uint8Array, elementBytes: number): DeviceBuffer | null;
  write(buffer: DeviceBuffer, byteOffset: number, source: Uint8Array): void;
  /** A copy of `bytes` bytes. */
  read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<Uint8Array>;
  /** A live view, on synchronous devices; invalid after the next `allocate` or `run`. */
  view(buffer: DeviceBuffer): Uint8Array;
  /** Compiles all kernels of a plan. Throws CompileError. */
  load(plan: Plan): Executable;
  /** Compiled programs kept on disk for this device, if it can keep any. */
  readonly programs?: ProgramStore | null;
  /** Bytes handed out by `allocate` and not freed, and bytes held for arenas and code tables. */
  memory(): { readonly allocated: number; readonly reserved: number };
  /** Stops workers and frees everything. */
  close(): void;
}
