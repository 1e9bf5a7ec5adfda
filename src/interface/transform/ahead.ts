// What a plan has computed ahead of its runs (`CompiledProgram.prepared`): the memory that keeps it, and
// of which values it is, so that it is computed again when one of them has changed.
import type { Prepared } from '../../compile/memory/prepared.ts';
import type { CompiledProgram } from '../../compile/program.ts';
import type { Node } from '../../graph/node.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import type { Storage } from '../../runtime/storage.ts';

export class Ahead {
  readonly #prepared: Prepared;
  readonly #device: Device;
  readonly #executable: Executable;
  readonly #kept: readonly DeviceBuffer[];
  /** Numbers, not the storages: a plan must not keep a dropped model. Empty before the first run. */
  readonly #storageIds: number[] = [];
  readonly #versions: number[] = [];
  readonly #numbers: Float64Array;
  #ran = false;

  private constructor(prepared: Prepared, device: Device) {
    const { plan, kept, scalars } = prepared;
    this.#numbers = new Float64Array(scalars.length);
    this.#prepared = prepared;
    this.#device = device;
    this.#executable = device.load(plan);
    this.#kept = kept.map((index) =>
      device.allocate(Math.max(1, plan.bindings[index]?.bytes ?? 0)),
    );
  }

  /** Null if there is nothing to compute ahead. */
  static of({ prepared }: CompiledProgram, device: Device): Ahead | null {
    return prepared === null ? null : new Ahead(prepared, device);
  }

  /** Puts what is kept among the bindings of the plan. */
  bind(bindings: DeviceBuffer[]): void {
    this.#prepared.kept.forEach((index, i) => {
      bindings[index] = this.#kept[i] as DeviceBuffer;
    });
  }

  /**
   * Computes what is kept, unless it was computed of these very values. The bindings are complete.
   *
   * @returns how many kernels ran.
   */
  run(leaves: readonly Node[], bindings: readonly DeviceBuffer[], scalars: Float64Array): number {
    let changed = !this.#ran;
    this.#prepared.leaves.forEach((index, i) => {
      const { storage, version } = leaves[index] as Node;
      const { storageId } = storage as Storage;
      if (this.#storageIds[i] === storageId && this.#versions[i] === version) return;
      this.#storageIds[i] = storageId;
      this.#versions[i] = version;
      changed = true;
    });
    this.#prepared.scalars.forEach((slot, i) => {
      const number = scalars[slot] as number;
      if (Object.is(this.#numbers[i], number)) return;
      this.#numbers[i] = number;
      changed = true;
    });
    if (!changed) return 0;
    this.#ran = true;
    this.#executable.run(bindings, scalars);
    return this.#prepared.plan.dispatches.length;
  }

  dispose(): void {
    this.#executable.dispose();
    for (const buffer of this.#kept) this.#device.free(buffer);
  }
}
