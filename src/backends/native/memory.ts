// Memory of the native device: array buffers whose contents start at a multiple of 64 bytes, and a
// pool of those that were freed.
import { allocateAligned, requireForeign } from './foreign.ts';

/** Most bytes that wait in the pool for somebody who wants the same size. */
const POOL_BYTES = 64 * 1024 * 1024;

/** An array buffer with an aligned part. V8 never moves its bytes, so the address stays true. */
export class AlignedMemory {
  readonly bytes: number;
  readonly address: number;
  readonly #buffer: ArrayBuffer;
  readonly #offset: number;

  constructor(bytes: number) {
    const { buffer, byteOffset, address } = allocateAligned(requireForeign(), bytes);
    this.bytes = bytes;
    this.address = address;
    this.#buffer = buffer;
    this.#offset = byteOffset;
  }

  view(byteOffset: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#buffer, this.#offset + byteOffset, bytes);
  }

  /** Doubles from the start. */
  numbers(length: number): Float64Array {
    return new Float64Array(this.#buffer, this.#offset, length);
  }

  dataView(): DataView {
    return new DataView(this.#buffer, this.#offset, this.bytes);
  }
}

/** Freed memory by size. New memory is cleared by the host, which costs as much as computing it. */
export class MemoryPool {
  readonly #free = new Map<number, AlignedMemory[]>();
  bytes = 0;

  take(bytes: number): AlignedMemory {
    const list = this.#free.get(bytes);
    const known = list?.pop();
    if (known === undefined) return new AlignedMemory(bytes);
    if (list?.length === 0) this.#free.delete(bytes);
    this.bytes -= bytes;
    return known;
  }

  give(memory: AlignedMemory): void {
    if (this.bytes + memory.bytes > POOL_BYTES) return;
    const list = this.#free.get(memory.bytes);
    if (list === undefined) this.#free.set(memory.bytes, [memory]);
    else list.push(memory);
    this.bytes += memory.bytes;
  }

  clear(): void {
    this.#free.clear();
    this.bytes = 0;
  }
}
