// Products of bfloat16 pairs in C: by matrix tiles (AMX) where the processor has them and the system
// permits them, else by vector instructions (AVX-512 BF16), else in plain C.
import { PAIRS } from '../../ir/kernel.ts';

const { rows, columns, depth } = PAIRS;

/** Words of one step in either operand: rows and columns are as many. */
const STEP_WORDS = rows * depth;
/** Rows and columns of a tile, and of its words along k. */
const TILE = 16;
/** Rows whose sums are in registers at once, beside two vectors of the right operand. */
const VECTOR_ROWS = 8;

const each = (count: number, text: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => text(index)).join('\n');

/** Two tiles of each operand, four of sums: every tile that is loaded is used twice. */
const TILES = `
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TENGEN_TILES 1
/* 1: tiles may be used and are set up on this thread; -1: they may not. Linux wants to be asked:
   a thread's state grows by 8 KiB once it uses them. */
static __thread int tiles_ready;
static int tiles_start(void) {
  struct { unsigned char palette, row, reserved[14]; unsigned short bytes[16]; unsigned char rows[16]; }
    shape = { 1 };
  for (int i = 0; i < 8; i++) { shape.bytes[i] = ${4 * TILE}; shape.rows[i] = ${TILE}; }
  /* ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA */
  if (syscall(SYS_arch_prctl, 0x1023, 18) != 0) return tiles_ready = -1;
  _tile_loadconfig(&shape);
  return tiles_ready = 1;
}
static void multiply_pairs_tiles(float* c, long stride, const unsigned* a, const unsigned* b, long steps) {
  float* d = c + ${TILE} * stride;
  _tile_loadd(0, c, stride * 4);
  _tile_loadd(1, c + ${TILE}, stride * 4);
  _tile_loadd(2, d, stride * 4);
  _tile_loadd(3, d + ${TILE}, stride * 4);
  for (long step = 0; step < steps; step++, a += ${STEP_WORDS}, b += ${STEP_WORDS}) {
    _tile_loadd(4, a, ${4 * depth});
    _tile_loadd(6, b, ${4 * columns});
    _tile_loadd(7, b + ${TILE}, ${4 * columns});
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + ${TILE * depth}, ${4 * depth});
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, stride * 4);
  _tile_stored(1, c + ${TILE}, stride * 4);
  _tile_stored(2, d, stride * 4);
  _tile_stored(3, d + ${TILE}, stride * 4);
}
#endif`;

/** Named sums: an array of them would be spilled. */
const VECTORS = `
#if defined(__AVX512BF16__)
#include <immintrin.h>
static void multiply_pairs_vectors(float* c, long stride, const unsigned* a, const unsigned* b, long steps) {
  for (int row = 0; row < ${rows}; row += ${VECTOR_ROWS}) {
    float* to = c + row * stride;
${each(VECTOR_ROWS, (i) => `    __m512 s${i} = _mm512_loadu_ps(to + ${i} * stride), t${i} = _mm512_loadu_ps(to + ${i} * stride + ${TILE});`)}
    for (long step = 0; step < steps; step++) {
      const unsigned* from = a + step * ${STEP_WORDS} + row * ${depth};
      const unsigned* right = b + step * ${STEP_WORDS};
      for (int word = 0; word < ${depth}; word++) {
        __m512bh r0 = (__m512bh)_mm512_loadu_si512(right + word * ${columns});
        __m512bh r1 = (__m512bh)_mm512_loadu_si512(right + word * ${columns} + ${TILE});
        __m512bh l;
${each(VECTOR_ROWS, (i) => `        l = (__m512bh)_mm512_set1_epi32((int)from[${i * depth} + word]); s${i} = _mm512_dpbf16_ps(s${i}, l, r0); t${i} = _mm512_dpbf16_ps(t${i}, l, r1);`)}
      }
    }
${each(VECTOR_ROWS, (i) => `    _mm512_storeu_ps(to + ${i} * stride, s${i}); _mm512_storeu_ps(to + ${i} * stride + ${TILE}, t${i});`)}
  }
}
#endif`;

const PLAIN = `
static inline float pair_half(unsigned word, int high) {
  unsigned bits = high ? word & 0xffff0000u : word << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
static void multiply_pairs_plain(float* c, long stride, const unsigned* a, const unsigned* b, long steps) {
  for (long step = 0; step < steps; step++, a += ${STEP_WORDS}, b += ${STEP_WORDS})
    for (int row = 0; row < ${rows}; row++)
      for (int word = 0; word < ${depth}; word++) {
        unsigned l = a[row * ${depth} + word];
        for (int column = 0; column < ${columns}; column++) {
          unsigned r = b[word * ${columns} + column];
          float* sum = c + row * stride + column;
          *sum += pair_half(l, 0) * pair_half(r, 0);
          *sum += pair_half(l, 1) * pair_half(r, 1);
        }
      }
}`;

/** `multiply_pairs`, with the meaning of the IR's statement. */
export const PAIRS_SOURCE = `${TILES}
${VECTORS}
${PLAIN}
static inline void multiply_pairs(float* c, long stride, const unsigned* a, const unsigned* b, long steps) {
#ifdef TENGEN_TILES
  if (tiles_ready > 0 || (tiles_ready == 0 && tiles_start() > 0)) {
    multiply_pairs_tiles(c, stride, a, b, steps);
    return;
  }
#endif
#ifdef __AVX512BF16__
  multiply_pairs_vectors(c, stride, a, b, steps);
#else
  multiply_pairs_plain(c, stride, a, b, steps);
#endif
}`;

/** Says which unit there is: 2 for tiles, 1 for vectors, 0 for none. */
export const PAIR_UNIT_SOURCE = `
int pair_unit(void) {
#ifdef TENGEN_TILES
  if (tiles_start() > 0) return 2;
#endif
#ifdef __AVX512BF16__
  return 1;
#else
  return 0;
#endif
}`;
