// Hands out ranges of one linear memory: free blocks in size classes, neighbours merged.
import { internalError, OutOfMemoryError } from '../base/errors.ts';

/** Granularity and alignment of everything that is handed out, in bytes. */
export const ALIGNMENT = 64;

/** Each power of two is divided into this many size classes. */
const CLASSES_PER_DOUBLING = 8;
const CLASS_BITS = 3;
const CLASS_COUNT = 32 * CLASSES_PER_DOUBLING;
/** How many blocks of the request's own class are looked at before a larger class is taken. */
const SCAN_LIMIT = 8;

interface Block {
  start: number;
  size: number;
  free: boolean;
  /** Neighbours in address order. */
  before: Block | null;
  after: Block | null;
  /** Neighbours in the list of a size class. */
  previous: Block | null;
  next: Block | null;
}

export interface AllocatorOptions {
  /** First byte that may be handed out, a multiple of 64. */
  readonly start: number;
  /** End of the memory there is now. */
  readonly end: number;
  /** The end will never be beyond this. */
  readonly limit: number;
  /**
   * Makes the memory reach `minimumEnd` at least, which is within the limit, and returns the new
   * end; or the old end if the machine has no more.
   */
  readonly grow: (minimumEnd: number) => number;
}

/**
 * Allocates ranges with 64-byte alignment. Both operations take constant time: free blocks are in
 * lists by size class, and a bitmap finds the next class that has one.
 */
export class Allocator {
  readonly #options: AllocatorOptions;
  readonly #lists: (Block | null)[] = new Array<Block | null>(CLASS_COUNT).fill(null);
  readonly #occupied = new Uint32Array(CLASS_COUNT / 32);
  readonly #used = new Map<number, Block>();
  #last: Block;
  #usedBytes = 0;

  constructor(options: AllocatorOptions) {
    this.#options = options;
    const start = options.start;
    const size = roundDown(options.end) - start;
    if (start % ALIGNMENT !== 0 || size < 0) throw internalError('misplaced allocator');
    this.#last = newBlock(start, size, null);
    if (size > 0) this.#insert(this.#last);
  }

  /** Bytes handed out, alignment included. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** End of the memory that is managed now. */
  get end(): number {
    return this.#last.start + this.#last.size;
  }

  /** Size of the largest free block, growth not considered. */
  get largestFree(): number {
    let largest = 0;
    for (let block: Block | null = this.#last; block !== null; block = block.before) {
      if (block.free && block.size > largest) largest = block.size;
    }
    return largest;
  }

  /**
   * The address of `bytes` bytes, not cleared. A request for nothing gets an address too.
   *
   * @throws OutOfMemoryError with what is in use, if the memory cannot grow enough.
   */
  allocate(bytes: number): number {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    const block = this.#find(size) ?? this.#growFor(size);
    if (block === null) throw this.#outOfMemory(bytes);
    this.#remove(block);
    if (block.size > size) this.#split(block, size);
    block.free = false;
    this.#used.set(block.start, block);
    this.#usedBytes += block.size;
    return block.start;
  }

  /** Takes back what `allocate` gave. */
  free(address: number): void {
    const block = this.#used.get(address);
    if (block === undefined) throw internalError(`${address} is not an allocated address`);
    this.#used.delete(address);
    this.#usedBytes -= block.size;
    block.free = true;
    let merged = block;
    const { before, after } = block;
    if (after?.free === true) this.#absorb(merged, after);
    if (before?.free === true) {
      this.#remove(before);
      this.#join(before, merged);
      merged = before;
    }
    this.#insert(merged);
  }

  /** Throws if the lists and the blocks disagree; for tests. */
  check(): void {
    let used = 0;
    let freeBlocks = 0;
    for (let block: Block | null = this.#last; block !== null; block = block.before) {
      const { before } = block;
      if (before !== null && before.start + before.size !== block.start) {
        throw internalError('allocator: a gap between blocks');
      }
      if (before?.free === true && block.free) throw internalError('allocator: unmerged blocks');
      if (block.free && block.size > 0) freeBlocks++;
      else used += block.size;
    }
    let listed = 0;
    for (const head of this.#lists) for (let b = head; b !== null; b = b.next) listed++;
    if (used !== this.#usedBytes || listed !== freeBlocks) {
      throw internalError('allocator: lists and blocks disagree');
    }
  }

  #find(size: number): Block | null {
    const own = classOf(size);
    let candidate = this.#lists[own] ?? null;
    for (let i = 0; i < SCAN_LIMIT && candidate !== null; i++) {
      if (candidate.size >= size) return candidate;
      candidate = candidate.next;
    }
    // Every block of a higher class is large enough.
    const next = this.#nextOccupied(own + 1);
    return next < 0 ? null : (this.#lists[next] ?? null);
  }

  #nextOccupied(from: number): number {
    let word = from >>> 5;
    let bits = (this.#occupied[word] ?? 0) & (-1 << (from & 31));
    while (bits === 0) {
      if (++word >= this.#occupied.length) return -1;
      bits = this.#occupied[word] ?? 0;
    }
    return word * 32 + (31 - Math.clz32(bits & -bits));
  }

  #growFor(size: number): Block | null {
    const last = this.#last;
    const tail = last.free ? last.size : 0;
    const needed = this.end - tail + size;
    if (needed > this.#options.limit) return null;
    const end = roundDown(this.#options.grow(needed));
    const added = end - this.end;
    if (added <= 0) return null;
    if (last.free) {
      if (last.size > 0) this.#remove(last);
      last.size += added;
      this.#insert(last);
    } else {
      const block = newBlock(this.end, added, last);
      last.after = block;
      this.#last = block;
      this.#insert(block);
    }
    return this.#last.size >= size ? this.#last : null;
  }

  #split(block: Block, size: number): void {
    const rest = newBlock(block.start + size, block.size - size, block);
    rest.after = block.after;
    if (rest.after === null) this.#last = rest;
    else rest.after.before = rest;
    block.after = rest;
    block.size = size;
    this.#insert(rest);
  }

  /** Merges the free `after` into `block`. */
  #absorb(block: Block, after: Block): void {
    if (after.size > 0) this.#remove(after);
    this.#join(block, after);
  }

  #join(block: Block, after: Block): void {
    block.size += after.size;
    block.after = after.after;
    if (after.after === null) this.#last = block;
    else after.after.before = block;
  }

  #insert(block: Block): void {
    const index = classOf(block.size);
    const head = this.#lists[index] ?? null;
    block.previous = null;
    block.next = head;
    if (head !== null) head.previous = block;
    this.#lists[index] = block;
    this.#occupied[index >>> 5] = (this.#occupied[index >>> 5] ?? 0) | (1 << (index & 31));
  }

  #remove(block: Block): void {
    const index = classOf(block.size);
    const { previous, next } = block;
    if (next !== null) next.previous = previous;
    if (previous !== null) previous.next = next;
    else {
      this.#lists[index] = next;
      if (next === null) {
        this.#occupied[index >>> 5] = (this.#occupied[index >>> 5] ?? 0) & ~(1 << (index & 31));
      }
    }
    block.previous = null;
    block.next = null;
  }

  #outOfMemory(bytes: number): OutOfMemoryError {
    const { limit } = this.#options;
    return new OutOfMemoryError(
      `no room for ${formatBytes(bytes)}: ${formatBytes(this.#usedBytes)} of ${formatBytes(limit)} in use, largest free block ${formatBytes(this.largestFree)}`,
      { op: 'allocate', hint: 'free tensors, or use a smaller batch' },
    );
  }
}

function newBlock(start: number, size: number, before: Block | null): Block {
  return { start, size, free: true, before, after: null, previous: null, next: null };
}

function roundDown(bytes: number): number {
  return Math.floor(bytes / ALIGNMENT) * ALIGNMENT;
}

/** The class whose blocks have at least this size's leading bits. */
function classOf(size: number): number {
  const units = size / ALIGNMENT;
  const exponent = 31 - Math.clz32(units);
  if (exponent < CLASS_BITS) return units;
  const mantissa = (units >>> (exponent - CLASS_BITS)) - CLASSES_PER_DOUBLING;
  return (exponent - CLASS_BITS + 1) * CLASSES_PER_DOUBLING + mantissa;
}

/** `1.5 MB`: bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}
