// The interpreter as a device: slow, checked, and the standard that the other backends are held to.
import { byteSize, type DType, viewTypedArray, type TypedArray } from '../../base/dtype.ts';
import { internalError, OutOfMemoryError } from '../../base/errors.ts';
import type { Target } from '../../ir/kernel.ts';
import { verifyKernel } from '../../ir/verify.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import { itemsOf, type Location, type Plan, type PlanItem } from '../../runtime/plan.ts';
import { writeScalars } from '../../runtime/scalars.ts';
import { InterpreterProgram } from './program.ts';

export interface InterpOptions {
  /** Width of the vectors to pretend: 4 (scalars, the default), 16, 32 or 64. */
  readonly vectorBytes?: number;
  /** Whether fast numerics use fused multiply-add; on by default. */
  readonly fma?: boolean;
}

interface HostBuffer extends DeviceBuffer {
  /** Eight bytes longer than asked for where needed, so that any dtype can view it to its end. */
  readonly memory: ArrayBuffer;
}

/** What locations name in one run. */
interface RunMemory {
  readonly arena: ArrayBuffer;
  readonly table: ArrayBuffer;
  readonly bindings: readonly DeviceBuffer[];
  /** Of the loops around, by depth. */
  readonly iterations: readonly number[];
}

function offsetOf(
  { offset = 0, strides = [] }: Exclude<Location, { space: 'scalar' }>,
  iterations: readonly number[],
): number {
  return strides.reduce((sum, { depth, bytes, turn }) => {
    const at = iterations[depth] as number;
    return sum + bytes * (turn === undefined ? at : (at + turn) % 2);
  }, offset);
}

/** Runs kernels one by one in JavaScript, checking every access. */
export class InterpDevice implements Device {
  readonly name = 'interp';
  readonly synchronous = true;
  readonly threads = 1;
  readonly collected = true;
  /** Kernels executed so far; tests compare counts. */
  kernelRuns = 0;
  readonly #vectorBytes: number;
  readonly #fma: boolean;
  readonly #buffers = new WeakSet<DeviceBuffer>();
  /** Buffers that the collector took are no longer allocated. */
  readonly #finalizers = new FinalizationRegistry<number>((bytes) => {
    this.#allocated -= bytes;
  });
  #allocated = 0;
  #reserved = 0;

  constructor(options: InterpOptions = {}) {
    this.#vectorBytes = options.vectorBytes ?? 4;
    this.#fma = options.fma ?? true;
  }

  target(numerics: 'fast' | 'strict', pairs = false): Target {
    return {
      name: 'interp',
      vectorBytes: this.#vectorBytes,
      fma: this.#fma && numerics === 'fast',
      numerics,
      vectorRegisters: 16,
      prefetches: true,
      workgroups: false,
      cacheBytes: { l1: 32 << 10, l2: 1 << 20 },
      ...(pairs && { pairSpeed: 2 }),
    };
  }

  allocate(bytes: number): DeviceBuffer {
    let memory: ArrayBuffer;
    try {
      memory = new ArrayBuffer(Math.ceil(bytes / 8) * 8);
    } catch (cause) {
      throw new OutOfMemoryError(`cannot allocate ${bytes} bytes`, { op: 'interp', cause });
    }
    const buffer: HostBuffer = { bytes, memory };
    this.#buffers.add(buffer);
    this.#finalizers.register(buffer, bytes, buffer);
    this.#allocated += bytes;
    return buffer;
  }

  free(buffer: DeviceBuffer): void {
    if (!this.#buffers.delete(buffer)) throw internalError('freed a buffer twice');
    this.#finalizers.unregister(buffer);
    this.#allocated -= buffer.bytes;
  }

  write(buffer: DeviceBuffer, byteOffset: number, source: Uint8Array): void {
    this.view(buffer).set(source, byteOffset);
  }

  read(buffer: DeviceBuffer, byteOffset: number, bytes: number): Promise<Uint8Array> {
    return Promise.resolve(this.view(buffer).slice(byteOffset, byteOffset + bytes));
  }

  view(buffer: DeviceBuffer): Uint8Array {
    return new Uint8Array(this.#memoryOf(buffer), 0, buffer.bytes);
  }

  /** Takes kernels that `prepareKernel` has been through, and verifies them. */
  load(plan: Plan): Executable {
    const programs = plan.kernels.map((kernel) => {
      verifyKernel(kernel, { decomposed: true });
      return new InterpreterProgram(kernel);
    });
    const arena = new ArrayBuffer(Math.ceil(plan.arenaBytes / 8) * 8);
    // Not a number: what nothing has written must not look like a result.
    new Uint8Array(arena).fill(0xff);
    this.#reserved += arena.byteLength;
    let disposed = false;
    return {
      run: (bindings, scalars) => {
        if (disposed) throw internalError('ran a disposed plan');
        this.#run(plan, programs, arena, bindings, scalars);
      },
      dispose: () => {
        if (!disposed) this.#reserved -= arena.byteLength;
        disposed = true;
      },
    };
  }

  memory(): { readonly allocated: number; readonly reserved: number } {
    return { allocated: this.#allocated, reserved: this.#reserved };
  }

  /** Buffers and plans are the collector's: there is nothing to stop. */
  close(): void {}

  #memoryOf(buffer: DeviceBuffer): ArrayBuffer {
    if (!this.#buffers.has(buffer)) throw internalError('a buffer of another device, or freed');
    return (buffer as HostBuffer).memory;
  }

  #run(
    plan: Plan,
    programs: readonly InterpreterProgram[],
    arena: ArrayBuffer,
    bindings: readonly DeviceBuffer[],
    scalars: Float64Array,
  ): void {
    const table = new ArrayBuffer(plan.scalars.length * 8);
    writeScalars(new DataView(table), 0, plan.scalars, scalars);
    const iterations: number[] = [];
    const memory: RunMemory = { arena, table, bindings, iterations };
    const run = (items: readonly PlanItem[]): void => {
      for (const item of items) {
        if ('loop' in item) {
          const { trips, depth, condition } = item.loop;
          // Behind the loop it is how often that ran.
          for (let at = 0; ; at++) {
            iterations[depth] = at;
            if (at === trips) break;
            if (condition !== null) {
              const holds = this.#resolve(condition.location, 'bool', memory)[0] !== 0;
              if (holds !== condition.when) break;
            }
            run(item.items);
          }
          continue;
        }
        const { kernel, arguments: locations } = item;
        const program = programs[kernel];
        if (program === undefined) throw internalError(`no kernel ${kernel}`);
        const views = locations.map((location, index) => {
          const dtype = plan.kernels[kernel]?.buffers[index]?.dtype;
          if (dtype === undefined) throw internalError(`kernel ${kernel} has no argument ${index}`);
          return this.#resolve(location, dtype, memory);
        });
        program.run(views);
        this.kernelRuns++;
      }
    };
    run(itemsOf(plan));
  }

  #resolve(location: Location, dtype: DType, memory: RunMemory): TypedArray {
    const size = byteSize(dtype);
    switch (location.space) {
      case 'arena': {
        const offset = offsetOf(location, memory.iterations);
        return viewTypedArray(
          dtype,
          memory.arena,
          offset,
          (memory.arena.byteLength - offset) / size,
        );
      }
      case 'binding': {
        const buffer = memory.bindings[location.index];
        if (buffer === undefined) throw internalError(`binding ${location.index} is missing`);
        const offset = offsetOf(location, memory.iterations);
        const count = Math.floor((buffer.bytes - offset) / size);
        return viewTypedArray(dtype, this.#memoryOf(buffer), offset, count);
      }
      case 'scalar':
        return viewTypedArray(dtype, memory.table, location.slot * 8, 1);
      default:
        location satisfies never;
        throw internalError('unknown location');
    }
  }
}
