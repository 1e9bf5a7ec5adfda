// What C is printed for: any machine, or machines with vectors of 16 or 32 bytes.
import type { Target } from '../../ir/kernel.ts';

export const C_VARIANTS = ['scalar', 'sse', 'avx', 'neon'] as const;

/** `scalar` is C99 for any machine; the others use vectors as gcc and clang write them. */
export type CVariant = (typeof C_VARIANTS)[number];

interface VariantFacts {
  readonly vectorBytes: number;
  readonly vectorRegisters: number;
  readonly fma: boolean;
  readonly foldsSplats: boolean;
  /** Flags of gcc and clang. */
  readonly flags: string;
  /** What a machine must have. */
  readonly needs: string;
}

export const VARIANT_FACTS: Readonly<Record<CVariant, VariantFacts>> = {
  scalar: {
    vectorBytes: 4,
    vectorRegisters: 16,
    fma: false,
    foldsSplats: false,
    flags: '',
    needs: 'any machine with a C99 compiler',
  },
  sse: {
    vectorBytes: 16,
    vectorRegisters: 16,
    fma: false,
    foldsSplats: false,
    flags: '-msse4.2',
    needs: 'x86 with SSE4.2 (from about 2009 on)',
  },
  avx: {
    vectorBytes: 32,
    vectorRegisters: 16,
    fma: true,
    foldsSplats: false,
    flags: '-mavx2 -mfma',
    needs: 'x86 with AVX2 and FMA (from about 2013 on)',
  },
  neon: {
    vectorBytes: 16,
    vectorRegisters: 32,
    fma: true,
    foldsSplats: true,
    flags: '',
    needs: '64-bit ARM',
  },
};

/** What programs are compiled for that are to be exported as this variant. */
export function cTarget(variant: CVariant, numerics: 'fast' | 'strict'): Target {
  const { vectorBytes, vectorRegisters, fma, foldsSplats } = VARIANT_FACTS[variant];
  return {
    name: `c-${variant}`,
    vectorBytes,
    fma: fma && numerics === 'fast',
    numerics,
    vectorRegisters,
    foldsSplats,
    mulHigh: true,
    workgroups: false,
    cacheBytes: { l1: 32 * 1024, l2: 256 * 1024 },
  };
}
