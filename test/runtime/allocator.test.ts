// The allocator against a simple model: no overlaps, no lost bytes, merging, growth, exhaustion.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutOfMemoryError } from '../../src/base/errors.ts';
import { ALIGNMENT, Allocator, formatBytes } from '../../src/runtime/allocator.ts';

const START = 4096;

function fixed(bytes: number): Allocator {
  const end = START + bytes;
  return new Allocator({ start: START, end, limit: end, grow: () => end });
}

type Command =
  | { readonly kind: 'allocate'; readonly bytes: number }
  | { readonly kind: 'free'; readonly which: number };

const command: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    kind: fc.constant('allocate' as const),
    bytes: fc.oneof(fc.nat(300), fc.nat(100_000), fc.constantFrom(0, 1, 64, 65, 4096)),
  }),
  fc.record({ kind: fc.constant('free' as const), which: fc.nat() }),
);

describe('allocator', () => {
  it('never overlaps, stays aligned and within bounds, and gives every byte back', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        let end = START + 1000;
        const allocator = new Allocator({
          start: START,
          end,
          limit: 1 << 21,
          grow: (minimum) => (end = Math.min(1 << 21, minimum + 777)),
        });
        const live: { start: number; end: number }[] = [];
        for (const step of commands) {
          if (step.kind === 'free') {
            const [range] = live.splice(step.which % Math.max(1, live.length), 1);
            if (range !== undefined) allocator.free(range.start);
          } else {
            let start: number;
            try {
              start = allocator.allocate(step.bytes);
            } catch (error) {
              expect(error).toBeInstanceOf(OutOfMemoryError);
              continue;
            }
            const range = { start, end: start + Math.max(1, step.bytes) };
            expect(start % ALIGNMENT).toBe(0);
            expect(start).toBeGreaterThanOrEqual(START);
            expect(range.end).toBeLessThanOrEqual(end);
            for (const other of live) {
              expect(range.end <= other.start || other.end <= range.start).toBe(true);
            }
            live.push(range);
          }
          allocator.check();
        }
        for (const range of live) allocator.free(range.start);
        allocator.check();
        expect(allocator.usedBytes).toBe(0);
        expect(allocator.largestFree).toBe(allocator.end - START);
      }),
      { numRuns: 200 },
    );
  });

  it('merges with both neighbours, so that a freed memory can be had in one piece', () => {
    const allocator = fixed(64 * 64);
    const blocks = Array.from({ length: 64 }, () => allocator.allocate(64));
    for (let i = 0; i < 64; i += 2) allocator.free(blocks[i] as number);
    expect(allocator.largestFree).toBe(64);
    for (let i = 1; i < 64; i += 2) allocator.free(blocks[i] as number);
    expect(allocator.allocate(64 * 64)).toBe(START);
  });

  it('takes a block of the request’s own class when it is large enough', () => {
    const allocator = fixed(64 * 100);
    const first = allocator.allocate(64 * 37);
    allocator.allocate(64 * 63);
    allocator.free(first);
    expect(allocator.allocate(64 * 37)).toBe(first);
  });

  it('grows by what is missing beyond a free block at the end', () => {
    const asked: number[] = [];
    const allocator = new Allocator({
      start: 0,
      end: 1024,
      limit: 1 << 20,
      grow: (minimum) => {
        asked.push(minimum);
        return minimum;
      },
    });
    allocator.allocate(512);
    expect(allocator.allocate(1024)).toBe(512);
    expect(asked).toEqual([1536]);
  });

  it('says what is in use when there is no more', () => {
    const allocator = fixed(10 * 1024);
    allocator.allocate(6 * 1024);
    expect(() => allocator.allocate(5 * 1024)).toThrow(
      /no room for 5\.00 KB: 6\.00 KB of 14\.0 KB in use, largest free block 4\.00 KB/,
    );
    allocator.check();
    expect(allocator.allocate(4 * 1024)).toBe(START + 6 * 1024);
  });

  it('refuses addresses that it did not give', () => {
    const allocator = fixed(1024);
    const address = allocator.allocate(10);
    allocator.free(address);
    expect(() => allocator.free(address)).toThrow(/internal: .* not an allocated address/);
  });

  it('manages addresses beyond 2 GiB', () => {
    const end = 2 ** 32;
    const allocator = new Allocator({ start: 65536, end, limit: end, grow: () => end });
    const low = allocator.allocate(3 * 2 ** 30);
    const high = allocator.allocate(2 ** 29);
    expect([low, high]).toEqual([65536, 65536 + 3 * 2 ** 30]);
    allocator.free(low);
    allocator.free(high);
    allocator.check();
    expect(allocator.largestFree).toBe(end - 65536);
  });
});

it('formats bytes', () => {
  expect([0, 1023, 1024, 1536, 5e6, 3e10].map(formatBytes)).toEqual([
    '0 bytes',
    '1023 bytes',
    '1.00 KB',
    '1.50 KB',
    '4.77 MB',
    '27.9 GB',
  ]);
});
