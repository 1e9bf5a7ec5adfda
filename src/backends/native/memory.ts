// Memory of the native device: array buffers whose contents start at a multiple of 64 bytes, and a
// pool of those that were freed.
import { addressOf, open } from './foreign.ts';

const ALIGNMENT = 64;
/** Blocks from this size on ask for large pages. */
const HUGE_BYTES = 4 * 1024 * 1024;
const PAGE_BYTES = 4096;
const MADV_HUGEPAGE = 14;
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
    this.bytes = bytes;
    this.#buffer = cleared
      ? new ArrayBuffer(bytes + ALIGNMENT)
      : (Buffer.allocUnsafeSlow(bytes + ALIGNMENT).buffer as ArrayBuffer);
    const start = addressOf(this.#buffer);
    this.#offset = (ALIGNMENT - (start % ALIGNMENT)) % ALIGNMENT;
    this.address = start + this.#offset;
    if (bytes >= HUGE_BYTES) adviseHugePages(start, bytes);
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

let advise: ((address: number, bytes: number, advice: number) => number) | null | undefined;

/**
 * Linux gives fresh memory page by page as it is first touched, which takes several times as long as
 * writing to it. It may refuse the advice: nothing depends on it.
 */
function adviseHugePages(address: number, bytes: number): void {
  if (advise === undefined) {
    advise = null;
    if (process.platform === 'linux') {
      try {
        advise = open('libc.so.6').func('madvise', 'int', ['uintptr_t', 'size_t', 'int']);
      } catch {
        // Another C library.
      }
    }
  }
  const first = Math.ceil(address / PAGE_BYTES) * PAGE_BYTES;
  const length = Math.floor((address + bytes - first) / PAGE_BYTES) * PAGE_BYTES;
  advise?.(first, length, MADV_HUGEPAGE);
}

/** Freed memory by size. New memory is cleared by the host, which costs as much as computing it. */
export class MemoryPool {
  readonly #free = new Map<number, AlignedMemory[]>();
  bytes = 0;

  take(bytes: number): AlignedMemory {
    const list = this.#free.get(bytes);
    const known = list?.pop();
    if (known === undefined) return new AlignedMemory(bytes, false);
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
