// The C of bfloat16 products on each unit: as this processor has it, in plain C, and by matrix tiles,
// whose instructions are played by a header of our own, since few processors have them.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fromBfloat16Bits } from '../../src/base/dtype.ts';
import { findToolchain } from '../../src/backends/native/toolchain.ts';
import { PAIR_UNIT_SOURCE, PAIRS_SOURCE } from '../../src/backends/native/pairs.ts';
import { temporaryFolder } from './support.ts';

const toolchain = findToolchain();

/** What the instructions do, by Intel's manual: rows of 64 bytes, pairs of bfloat16, float32 sums. */
const TILE_HEADER = `
#include <string.h>
static unsigned char tile[8][16][64];
static int tiles_configured;
static inline void _tile_loadconfig(const void* shape) {
  const unsigned char* bytes = shape;
  tiles_configured = bytes[0] == 1 && bytes[16] == 64 && bytes[48] == 16;
}
static inline void tile_load(int t, const void* from, long stride) {
  for (int row = 0; row < 16; row++) memcpy(tile[t][row], (const char*)from + row * stride, 64);
}
static inline void tile_store(int t, void* to, long stride) {
  for (int row = 0; row < 16; row++) memcpy((char*)to + row * stride, tile[t][row], 64);
}
static inline float tile_value(int t, int row, int word, int high) {
  unsigned bits; float value;
  memcpy(&bits, tile[t][row] + 4 * word, 4);
  bits = high ? bits & 0xffff0000u : bits << 16;
  memcpy(&value, &bits, 4);
  return value;
}
static inline void tile_multiply(int c, int a, int b) {
  for (int m = 0; m < 16; m++) for (int k = 0; k < 16; k++) for (int n = 0; n < 16; n++) {
    float sum; memcpy(&sum, tile[c][m] + 4 * n, 4);
    sum += tile_value(a, m, k, 0) * tile_value(b, k, n, 0);
    sum += tile_value(a, m, k, 1) * tile_value(b, k, n, 1);
    memcpy(tile[c][m] + 4 * n, &sum, 4);
  }
}
#define _tile_loadd(t, from, stride) tile_load(t, from, stride)
#define _tile_stored(t, to, stride) tile_store(t, to, stride)
#define _tile_dpbf16ps(c, a, b) tile_multiply(c, a, b)
`;

/** Prints which unit there is, and the sums of a product of given words. */
const MAIN = `
#include <stdio.h>
int main(void) {
  static unsigned a[3 * 512], b[3 * 512];
  static float c[32 * 40];
  unsigned state = 1;
  for (int i = 0; i < 3 * 512; i++) {
    state = state * 1664525u + 1013904223u; a[i] = (state & 0x807f807fu) | 0x3f003f00u;
    state = state * 1664525u + 1013904223u; b[i] = (state & 0x807f807fu) | 0x3f803f80u;
  }
  for (int i = 0; i < 32 * 40; i++) c[i] = i % 7;
  printf("%d\\n", pair_unit());
  multiply_pairs(c, 40, a, b, 3);
  for (int i = 0; i < 32 * 40; i++) printf("%.9g\\n", c[i]);
  return 0;
}
`;

function expectedSums(): number[] {
  const [a, b] = [new Uint32Array(3 * 512), new Uint32Array(3 * 512)];
  let state = 1;
  const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
  for (let i = 0; i < a.length; i++) {
    a[i] = (next() & 0x807f807f) | 0x3f003f00;
    b[i] = (next() & 0x807f807f) | 0x3f803f80;
  }
  const half = (word: number, high: number): number =>
    fromBfloat16Bits(high === 0 ? word & 0xffff : word >>> 16);
  return Array.from({ length: 32 * 40 }, (_, i) => {
    const [row, column] = [Math.floor(i / 40), i % 40];
    let sum = i % 7;
    if (column >= 32) return sum;
    for (let step = 0; step < 3; step++) {
      for (let word = 0; word < 16; word++) {
        const x = a[step * 512 + row * 16 + word]!;
        const y = b[step * 512 + word * 32 + column]!;
        for (const high of [0, 1]) sum += half(x, high) * half(y, high);
      }
    }
    return sum;
  });
}

describe.skipIf(typeof toolchain === 'string')('products of bfloat16 in C', () => {
  const folder = temporaryFolder();
  const { compiler, leading, flags } = toolchain as Exclude<typeof toolchain, string>;

  function run(name: string, args: readonly string[]): { unit: number; sums: number[] } {
    const source = join(folder, `${name}.c`);
    writeFileSync(source, `#define _GNU_SOURCE\n${PAIRS_SOURCE}\n${PAIR_UNIT_SOURCE}\n${MAIN}`);
    const program = join(folder, name);
    execFileSync(compiler, [...leading, '-O1', '-w', ...args, source, '-o', program]);
    const [unit, ...sums] = execFileSync(program, { encoding: 'utf8' }).trim().split('\n');
    return { unit: Number(unit), sums: sums.map(Number) };
  }

  /** Flags of a processor with tiles, whose kernel gives `answer` when asked for them. */
  function withTiles(answer: number): readonly string[] {
    const headers = join(folder, `include${answer}`);
    mkdirSync(join(headers, 'sys'), { recursive: true });
    writeFileSync(join(headers, 'immintrin.h'), TILE_HEADER);
    writeFileSync(join(headers, 'unistd.h'), `#define syscall(...) (${answer})`);
    writeFileSync(join(headers, 'sys', 'syscall.h'), '');
    return ['-D__AMX_TILE__', '-D__AMX_BF16__', '-isystem', headers];
  }

  function expectSums(sums: readonly number[]): void {
    const expected = expectedSums();
    expect(sums).toHaveLength(expected.length);
    sums.forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 3));
  }

  test('plain', () => {
    const { unit, sums } = run('plain', []);
    expect(unit).toBe(0);
    expectSums(sums);
  });

  test('on this processor', () => {
    const features = flags.filter((flag) => flag.startsWith('-m'));
    const { unit, sums } = run('here', features);
    expect(unit >= 1).toBe(features.includes('-mavx512bf16') || features.includes('-mamx-bf16'));
    expectSums(sums);
  });

  test.skipIf(process.platform !== 'linux')('by tiles, as their instructions are described', () => {
    const { unit, sums } = run('tiles', withTiles(0));
    expect(unit).toBe(2);
    expectSums(sums);
  });

  test.skipIf(process.platform !== 'linux')('without leave for tiles another unit does it', () => {
    const { unit, sums } = run('refused', withTiles(-1));
    expect(unit).toBe(0);
    expectSums(sums);
  });
});
