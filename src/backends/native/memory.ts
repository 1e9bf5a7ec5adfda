// Memory of the native device: array buffers whose contents start at a multiple of 64 bytes, and a
// pool of those that were freed.
import { allocateAligned, requireForeign } from './foreign.ts';

/** Blocks from this size on are worth large pages. */
const LARGE_BYTES = 4 * 1024 * 1024;
/** Most bytes that wait in the pool for somebody who wants the same size. */
const POOL_BYTES = 64 * 1024 * 1024;

/** An array buffer with an aligned part. V8 never moves its bytes, so the address stays true. */
export class AlignedMemory {
  readonly bytes: number;
  readonly address: number;
  readonly #buffer: ArrayBuffer;
  readonly #offset: number;

  /** `cleared`: whether it must start as zeros. */
  constructor(bytes: number, cleared = true) {
    const { buffer, byteOffset, address } = allocateAligned(requireForeign(), bytes, { cleared });
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

/** Freed memory by size. New memory costs a page fault for each of its pages when it is first used. */
export class MemoryPool {
  readonly #free = new Map<number, AlignedMemory[]>();
  readonly #useLargePages: (address: number, bytes: number) => void;
  bytes = 0;

  constructor(useLargePages: (address: number, bytes: number) => void) {
    this.#useLargePages = useLargePages;
  }

  take(bytes: number): AlignedMemory {
    const list = this.#free.get(bytes);
    const known = list?.pop();
    if (known === undefined) {
      const memory = new AlignedMemory(bytes, false);
      if (bytes >= LARGE_BYTES) this.#useLargePages(memory.address, bytes);
      return memory;
    }
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
