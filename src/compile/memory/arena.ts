// Offsets in one arena for values that live from one dispatch to another.

/** Arena offsets are multiples of this: a cache line, and any vector. */
export const ALIGNMENT = 64;

/** Something that needs memory from dispatch `first` to dispatch `last`, both included. */
export interface Block {
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface ArenaLayout {
  /** Offset of each block, in the given order. */
  readonly offsets: readonly number[];
  readonly bytes: number;
  /** Largest sum of blocks alive at once: no layout can be smaller. */
  readonly lowerBound: number;
}

/** Bytes as they count in the arena. */
export function alignedBytes(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** A layout this close to the bound is not improved further. */
const CLOSE_ENOUGH = 1.01;
/** How much work improving may be: orders tried, times the square of the number of blocks. */
const EFFORT = 2e7;
const MOST_ORDERS = 200;

/**
 * Places blocks so that no two that live at the same time overlap. Of three orders the best is taken,
 * and while there is more than the bound, what lies at the top of it is placed earlier.
 *
 * @param enough bytes with which the caller is content.
 */
export function layOutArena(blocks: readonly Block[], enough = 0): ArenaLayout {
  const lowerBound = largestSum(blocks);
  const block = (index: number): Block => blocks[index] as Block;
  const lifetime = (index: number): number => block(index).last - block(index).first + 1;
  const area = (index: number): number => block(index).bytes * lifetime(index);
  const keys: readonly ((index: number) => number)[] = [
    (index) => block(index).bytes,
    area,
    lifetime,
  ];
  let best = { order: [] as number[], offsets: [] as readonly number[], bytes: Infinity };
  const consider = (order: number[]): typeof best => {
    const placed = { order, ...placeInOrder(blocks, order) };
    if (placed.bytes < best.bytes) best = placed;
    return placed;
  };
  const goal = Math.max(lowerBound * CLOSE_ENOUGH, enough);
  const isDone = (): boolean => best.bytes <= goal;
  for (const key of keys) {
    consider(blocks.map((_, index) => index).sort((a, b) => key(b) - key(a) || a - b));
    if (isDone()) return { offsets: best.offsets, bytes: best.bytes, lowerBound };
  }
  const orders = Math.min(MOST_ORDERS, Math.floor(EFFORT / blocks.length ** 2));
  let current = best;
  for (let tried = 0; tried < orders && !isDone(); tried++) {
    const { offsets, bytes } = current;
    const ends = (index: number): boolean =>
      (offsets[index] as number) + alignedBytes(block(index).bytes) === bytes;
    const top = current.order.findLastIndex(ends);
    const moved = current.order[top] as number;
    // Half way to the front each time: the very front would forget what earlier moves have found.
    const to = top >> 1;
    if (to === top) break;
    current = consider(current.order.toSpliced(top, 1).toSpliced(to, 0, moved));
  }
  return { offsets: best.offsets, bytes: best.bytes, lowerBound };
}

/** Each block in turn goes into the tightest gap that its contemporaries leave. */
function placeInOrder(
  blocks: readonly Block[],
  order: readonly number[],
): { readonly offsets: number[]; readonly bytes: number } {
  const offsets = new Array<number>(blocks.length).fill(0);
  // Placed blocks by offset.
  const placed: number[] = [];
  let total = 0;
  for (const index of order) {
    const block = blocks[index] as Block;
    const bytes = alignedBytes(block.bytes);
    let best = -1;
    let bestGap = Infinity;
    let end = 0;
    for (const other of placed) {
      const neighbour = blocks[other] as Block;
      if (neighbour.last < block.first || neighbour.first > block.last) continue;
      const start = offsets[other] as number;
      const gap = start - end;
      if (gap >= bytes && gap < bestGap) {
        best = end;
        bestGap = gap;
      }
      end = Math.max(end, start + alignedBytes(neighbour.bytes));
    }
    const offset = best < 0 ? end : best;
    offsets[index] = offset;
    total = Math.max(total, offset + bytes);
    let at = placed.length;
    while (at > 0 && (offsets[placed[at - 1] as number] as number) > offset) at--;
    placed.splice(at, 0, index);
  }
  return { offsets, bytes: total };
}

function largestSum(blocks: readonly Block[]): number {
  const changes: { at: number; bytes: number }[] = [];
  for (const { first, last, bytes } of blocks) {
    changes.push({ at: first, bytes: alignedBytes(bytes) });
    changes.push({ at: last + 1, bytes: -alignedBytes(bytes) });
  }
  changes.sort((a, b) => a.at - b.at || a.bytes - b.bytes);
  let sum = 0;
  let largest = 0;
  for (const { bytes } of changes) {
    sum += bytes;
    largest = Math.max(largest, sum);
  }
  return largest;
}
