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

/** Places blocks so that no two that live at the same time overlap; the better of two orders. */
export function layOutArena(blocks: readonly Block[]): ArenaLayout {
  const lowerBound = largestSum(blocks);
  const order = blocks.map((_, index) => index);
  const block = (index: number): Block => blocks[index] as Block;
  const bySize = order.toSorted(
    (a, b) => block(b).bytes - block(a).bytes || block(a).first - block(b).first || a - b,
  );
  const first = placeInOrder(blocks, bySize);
  if (first.bytes <= lowerBound) return { ...first, lowerBound };
  const area = (index: number): number =>
    block(index).bytes * (block(index).last - block(index).first + 1);
  const byArea = order.toSorted((a, b) => area(b) - area(a) || a - b);
  const second = placeInOrder(blocks, byArea);
  return { ...(second.bytes < first.bytes ? second : first), lowerBound };
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
