// What a plan has computed ahead of its runs (`CompiledProgram.prepared`): the memory that keeps it, and
// of which values it is, so that it is computed again when one of them has changed.
import type { CompiledProgram } from '../../compile/program.ts';
import type { Node } from '../../graph/node.ts';
import type { Device, DeviceBuffer, Executable } from '../../runtime/device.ts';
import type { PreparedPlan } from '../../runtime/plan.ts';
import type { Storage } from '../../runtime/storage.ts';
import { settings } from './settings.ts';

/** Those that keep something now, the one that was used last at the end. */
const keepers = new Set<Ahead>();
let keptBytes = 0;

export class Ahead {
  readonly #prepared: PreparedPlan;
  readonly #device: Device;
  readonly #executable: Executable;
  /** Empty where it has given way to others. */
  #kept: readonly DeviceBuffer[] = [];
  readonly #bytes: number;
  /** The plan's, which end in what is kept. */
  #bindings: DeviceBuffer[] = [];
  /** Numbers, not the storages: a plan must not keep a dropped model. Empty before the first run. */
  readonly #storageIds: number[] = [];
  readonly #versions: number[] = [];
  readonly #numbers: Float64Array;
  #ran = false;

  private constructor(prepared: PreparedPlan, device: Device) {
    const { plan, kept, scalars } = prepared;
    this.#numbers = new Float64Array(scalars.length);
    this.#prepared = prepared;
    this.#device = device;
    this.#bytes = kept.reduce((sum, index) => sum + this.#bytesOf(index), 0);
    this.#executable = device.load(plan);
  }

  #bytesOf(index: number): number {
    return Math.max(1, this.#prepared.plan.bindings[index]?.bytes ?? 0);
  }

  /** Makes sure of the memory, at the cost of those that were not used for longest. */
  #hold(): void {
    if (keepers.delete(this)) {
      keepers.add(this);
      return;
    }
    for (const other of keepers) {
      if (keptBytes + this.#bytes <= settings.keptBytes) break;
      other.#release();
    }
    this.#kept = this.#prepared.kept.map((index) => this.#device.allocate(this.#bytesOf(index)));
    keptBytes += this.#bytes;
    keepers.add(this);
  }

  #release(): void {
    if (!keepers.delete(this)) return;
    for (const buffer of this.#kept) this.#device.free(buffer);
    keptBytes -= this.#bytes;
    this.#kept = [];
    this.#bindings.length = Math.min(this.#bindings.length, this.#prepared.kept[0] ?? Infinity);
    this.#ran = false;
  }

  /** Null if there is nothing to compute ahead. */
  static of({ prepared }: CompiledProgram, device: Device): Ahead | null {
    return prepared === null ? null : new Ahead(prepared, device);
  }

  /** Puts what is kept among the bindings of the plan. */
  bind(bindings: DeviceBuffer[]): void {
    this.#hold();
    this.#bindings = bindings;
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
    this.#release();
  }
}
