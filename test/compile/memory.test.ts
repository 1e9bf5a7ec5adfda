// The arena: what lives at the same time never overlaps, and little is wasted.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import {
  ALIGNMENT,
  alignedBytes,
  type Block,
  layOutArena,
} from '../../src/compile/memory/arena.ts';
import { leafFor } from '../support/graphs.ts';
import { compileRoots } from './harness.ts';

const f32 = (...shape: number[]): Node => leafFor({ shape, dtype: 'float32' });

const block = fc
  .tuple(fc.nat(100_000), fc.nat(40), fc.nat(10))
  .map(([bytes, first, length]): Block => ({ bytes, first, last: first + length }));

describe('arena', () => {
  test('blocks that live at the same time do not overlap', () => {
    fc.assert(
      fc.property(fc.array(block, { maxLength: 60 }), (blocks) => {
        const { offsets, bytes, lowerBound } = layOutArena(blocks);
        blocks.forEach((a, i) => {
          expect(offsets[i]! % ALIGNMENT).toBe(0);
          expect(offsets[i]! + alignedBytes(a.bytes)).toBeLessThanOrEqual(bytes);
          for (let j = 0; j < i; j++) {
            const b = blocks[j]!;
            if (a.last < b.first || b.last < a.first) continue;
            const apart =
              offsets[i]! + alignedBytes(a.bytes) <= offsets[j]! ||
              offsets[j]! + alignedBytes(b.bytes) <= offsets[i]!;
            expect(apart, `${i} and ${j}`).toBe(true);
          }
        });
        expect(bytes).toBeGreaterThanOrEqual(lowerBound);
      }),
      { numRuns: 300 },
    );
  });

  test('the lower bound is the largest sum alive at once', () => {
    const blocks = [
      { bytes: 64, first: 0, last: 2 },
      { bytes: 100, first: 1, last: 1 },
      { bytes: 64, first: 2, last: 3 },
    ];
    expect(layOutArena(blocks).lowerBound).toBe(192);
    expect(layOutArena(blocks).bytes).toBe(192);
  });

  test('random lives of sixty blocks stay within a tenth of the bound', () => {
    const many = fc.array(block, { minLength: 60, maxLength: 60 });
    fc.assert(
      fc.property(many, (blocks) => {
        const { bytes, lowerBound } = layOutArena(blocks);
        expect(bytes).toBeLessThanOrEqual(lowerBound * 1.1);
      }),
      { numRuns: 100, seed: 7 },
    );
  });

  test('chains of equal blocks need no more than the bound', () => {
    const blocks = Array.from({ length: 50 }, (_, i) => ({ bytes: 1000, first: i, last: i + 1 }));
    const { bytes, lowerBound } = layOutArena(blocks);
    expect(bytes).toBe(lowerBound);
  });
});

describe('plans', () => {
  test('a result takes the place of an operand that dies with it', () => {
    const x = f32(1000);
    // Two sums force the value between them into memory.
    const centred = g.sub(g.exp(x), g.sum(g.exp(x)));
    const scaled = g.mul(centred, g.sum(g.square(centred)));
    const root = g.sum(g.mul(scaled, g.max(g.abs(scaled))));
    const { compiled } = compileRoots([root]);
    expect(compiled.plan.arenaBytes).toBeLessThan(2 * 4000 + 1000);
  });

  test('a deep network needs two layers of memory, not all', () => {
    let x = f32(32, 64);
    for (let i = 0; i < 12; i++) x = g.relu(g.matmul(x, f32(64, 64)));
    const { compiled } = compileRoots([g.sum(x)]);
    const { arenaBytes } = compiled.plan;
    expect(arenaBytes).toBeLessThanOrEqual(compiled.arenaLowerBound * 1.1);
    // Packed operands included.
    expect(arenaBytes).toBeLessThan(12 * 32 * 64 * 4);
  });
});
