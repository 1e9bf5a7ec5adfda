// The two kinds of C that kernels are printed in: GNU C with the flags that its compilers take, and
// C99 that means the same wherever it is compiled.
import type { DType } from '../../base/dtype.ts';
import type { ValueType } from '../../ir/expression.ts';

/** Names and rules of a kind of C. */
export interface CDialect {
  /** Types of values. */
  readonly register: Readonly<Record<ValueType, string>>;
  /** Types of elements in memory. */
  readonly stored: Readonly<Record<DType, string>>;
  /** How a helper of a few instructions is declared. Compilers call them from large kernels else. */
  readonly inline: string;
  /** An unsigned integer of 64 bits. */
  readonly wide: string;
  /** Whether overflowing signed integers wrap around by themselves. */
  readonly wraps: boolean;
  /** `memcpy` by its name here. */
  readonly copy: string;
  /** Calls of `sqrt`, `fabs`, `fma` and the like by their names for this type. */
  math(name: string, type: 'f32' | 'f64'): string;
  nan(type: 'f32' | 'f64'): string;
  infinity(type: 'f32' | 'f64'): string;
  /** Whether either of two floats is NaN. */
  unordered(a: string, b: string): string;
  /** `multiply_pairs`, where targets have it. */
  readonly pairs: string | null;
  /** The call that has memory fetched, where targets have it. */
  readonly prefetch: string | null;
}

const SUFFIX = { f32: 'f', f64: '' } as const;

/** For gcc and clang with -fwrapv -fno-strict-aliasing. */
export const GNU: CDialect = {
  register: { f32: 'float', f64: 'double', i32: 'int', u32: 'unsigned', bool: 'int' },
  stored: {
    float32: 'float',
    float64: 'double',
    float16: 'unsigned short',
    bfloat16: 'unsigned short',
    int8: 'signed char',
    uint8: 'unsigned char',
    int16: 'short',
    int32: 'int',
    uint32: 'unsigned',
    bool: 'unsigned char',
  },
  inline: 'static inline __attribute__((always_inline))',
  wide: 'unsigned long long',
  wraps: true,
  copy: '__builtin_memcpy',
  math: (name, type) => `__builtin_${name}${SUFFIX[type]}`,
  nan: (type) => `__builtin_nan${SUFFIX[type]}("")`,
  infinity: (type) => `__builtin_inf${SUFFIX[type]}()`,
  unordered: (a, b) => `__builtin_isunordered(${a}, ${b})`,
  pairs: null,
  prefetch: '__builtin_prefetch',
};

/**
 * C99 without flags, after `PORTABLE_PRELUDE`. Kernels share memory between dtypes: the names of
 * elements in memory stand for types that may alias, where a compiler has to be told.
 */
export const PORTABLE: CDialect = {
  register: { f32: 'float', f64: 'double', i32: 'int32_t', u32: 'uint32_t', bool: 'int32_t' },
  stored: {
    float32: 'f32_mem',
    float64: 'f64_mem',
    float16: 'u16_mem',
    bfloat16: 'u16_mem',
    int8: 'i8_mem',
    uint8: 'u8_mem',
    int16: 'i16_mem',
    int32: 'i32_mem',
    uint32: 'u32_mem',
    bool: 'u8_mem',
  },
  inline: 'static inline',
  wide: 'uint64_t',
  wraps: false,
  copy: 'memcpy',
  math: (name, type) => `${name}${SUFFIX[type]}`,
  nan: (type) => (type === 'f32' ? 'NAN' : '(double)NAN'),
  infinity: (type) => (type === 'f32' ? 'INFINITY' : '(double)INFINITY'),
  unordered: (a, b) => `(${a} != ${a} || ${b} != ${b})`,
  pairs: null,
  prefetch: null,
};

/** What `PORTABLE` text needs before it. */
export const PORTABLE_PRELUDE = `#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One piece of memory holds floats now and integers later. */
#if defined(__GNUC__)
#define MAY_ALIAS __attribute__((may_alias))
#else
#define MAY_ALIAS
#endif
typedef float MAY_ALIAS f32_mem;
typedef double MAY_ALIAS f64_mem;
typedef int32_t MAY_ALIAS i32_mem;
typedef uint32_t MAY_ALIAS u32_mem;
typedef int16_t MAY_ALIAS i16_mem;
typedef uint16_t MAY_ALIAS u16_mem;
typedef int8_t MAY_ALIAS i8_mem;
typedef uint8_t MAY_ALIAS u8_mem;`;
