// The weights of a model on a device: read from the file once, shared by everything that runs it there. A
// device whose kernels reach the memory of this process takes them where they are, or straight from disk.
import { byteSize } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import { bytesOf } from '../io/host-array.ts';
import type { SafetensorsFile } from '../io/safetensors.ts';
import { entryIn } from './file.ts';
import { isState, type ModelHeader } from './header.ts';

export class Weights {
  readonly #device: Device;
  readonly #buffers: Map<string, DeviceBuffer>;
  readonly #sizes: Map<string, number>;
  /** Those that are this model's alone: what a run changes. */
  readonly #own: Set<string>;
  /** How many models hold the buffers that do not change. */
  readonly #holders: { count: number };

  private constructor(
    device: Device,
    buffers: Map<string, DeviceBuffer>,
    sizes: Map<string, number>,
    own: Set<string>,
    holders: { count: number },
  ) {
    this.#device = device;
    this.#buffers = buffers;
    this.#sizes = sizes;
    this.#own = own;
    this.#holders = holders;
    holders.count++;
  }

  /** @throws FormatError if a weight is not in the file. */
  static async read(file: SafetensorsFile, header: ModelHeader, device: Device): Promise<Weights> {
    const weights = new Weights(device, new Map(), new Map(), new Set(), { count: 0 });
    const leaves = header.leaves.flatMap((leaf) => (leaf.kind === 'weight' ? [leaf] : []));
    for (const leaf of leaves) if (isState(leaf)) weights.#own.add(leaf.tensor);
    try {
      for (const { tensor } of leaves) {
        if (!weights.#buffers.has(tensor)) await weights.#read(file, tensor);
      }
      return weights;
    } catch (error) {
      weights.dispose();
      throw error;
    }
  }

  async #read(file: SafetensorsFile, name: string): Promise<void> {
    const { dtype, byteLength } = entryIn(file, name);
    // Kernels of such a device run on memory of this process.
    if (this.#device.adopt !== undefined && file.canReadInto(name)) {
      const buffer = this.#keep(name, this.#device.allocate(Math.max(byteLength, 1)), byteLength);
      await file.readInto(name, this.#device.view(buffer).subarray(0, byteLength));
      return;
    }
    const bytes = bytesOf((await file.read(name)).data);
    const inPlace = this.#own.has(name) ? null : this.#device.adopt?.(bytes, byteSize(dtype));
    if (inPlace !== null && inPlace !== undefined) this.#keep(name, inPlace, bytes.byteLength);
    else this.#copy(name, bytes);
  }

  #copy(name: string, bytes: Uint8Array): void {
    const { byteLength } = bytes;
    const buffer = this.#keep(name, this.#device.allocate(Math.max(byteLength, 1)), byteLength);
    if (byteLength > 0) this.#device.write(buffer, 0, bytes);
  }

  /** From now on it is freed with the others. */
  #keep(name: string, buffer: DeviceBuffer, bytes: number): DeviceBuffer {
    this.#buffers.set(name, buffer);
    this.#sizes.set(name, bytes);
    return buffer;
  }

  /** The same weights for another model; what runs change is copied as it is now. */
  share(): Weights {
    const buffers = new Map(this.#buffers);
    for (const name of this.#own) {
      const bytes = this.bytesOf(name);
      const buffer = this.#device.allocate(Math.max(bytes, 1));
      if (bytes > 0) {
        this.#device.write(buffer, 0, this.#device.view(this.buffer(name)).slice(0, bytes));
      }
      buffers.set(name, buffer);
    }
    return new Weights(this.#device, buffers, this.#sizes, new Set(this.#own), this.#holders);
  }

  bytesOf(name: string): number {
    return this.#sizes.get(name) ?? -1;
  }

  buffer(name: string): DeviceBuffer {
    const buffer = this.#buffers.get(name);
    if (buffer === undefined) throw internalError(`there is no weight ${name}`);
    return buffer;
  }

  /** Puts another buffer in the place of a weight that changes; returns the one before. */
  exchange(name: string, buffer: DeviceBuffer): DeviceBuffer {
    const before = this.buffer(name);
    this.#buffers.set(name, buffer);
    return before;
  }

  dispose(): void {
    const isLast = --this.#holders.count === 0;
    for (const [name, buffer] of this.#buffers) {
      if (isLast || this.#own.has(name)) this.#device.free(buffer);
    }
    this.#buffers.clear();
  }
}
