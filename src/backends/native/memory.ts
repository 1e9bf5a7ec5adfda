// Memory of the native device: array buffers whose contents start at a multiple of 64 bytes, a pool of
// those that were freed, and bytes of somebody else.
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

/** Bytes that somebody else made and keeps: kernels read them where they are. */
export class BorrowedMemory {
  readonly address: number;
  readonly #bytes: Uint8Array;

  private constructor(bytes: Uint8Array, address: number) {
    this.#bytes = bytes;
    this.address = address;
  }

  /**
   * Null for memory that may shrink or that other threads may write, and where elements are not at
   * multiples of their size: that much kernels rely on.
   */
  static of(bytes: Uint8Array, elementBytes: number): BorrowedMemory | null {
    const { buffer, byteOffset, byteLength } = bytes;
    if (!(buffer instanceof ArrayBuffer) || isResizable(buffer) || byteLength === 0) return null;
    const address = requireForeign().addressOf(buffer) + byteOffset;
    return address % elementBytes === 0 ? new BorrowedMemory(bytes, address) : null;
  }

  /** Whether the buffer was transferred: its bytes belong to somebody else then, or are freed. */
  get isGone(): boolean {
    return this.#bytes.byteLength === 0;
  }

  view(byteOffset: number, bytes: number): Uint8Array {
    return this.#bytes.subarray(byteOffset, byteOffset + bytes);
  }
}

function isResizable(buffer: ArrayBuffer): boolean {
  return 'resizable' in buffer && buffer.resizable === true;
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
