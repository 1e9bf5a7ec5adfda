// The weights of a model on a device: read from the file once, shared by everything that runs it there.
import { internalError } from '../../base/errors.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import { bytesOf } from '../io/host-array.ts';
import type { SafetensorsFile } from '../io/safetensors.ts';
import { tensorIn } from './file.ts';
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
    try {
      for (const leaf of header.leaves) {
        if (leaf.kind !== 'weight') continue;
        if (isState(leaf)) weights.#own.add(leaf.tensor);
        if (!weights.#buffers.has(leaf.tensor)) await weights.#read(file, leaf.tensor);
      }
      return weights;
    } catch (error) {
      weights.dispose();
      throw error;
    }
  }

  async #read(file: SafetensorsFile, name: string): Promise<void> {
    const bytes = bytesOf((await tensorIn(file, name)).data);
    const buffer = this.#device.allocate(Math.max(bytes.byteLength, 1));
    this.#buffers.set(name, buffer);
    this.#sizes.set(name, bytes.byteLength);
    if (bytes.byteLength > 0) this.#device.write(buffer, 0, bytes);
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
