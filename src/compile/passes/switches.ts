// The passes that can be switched, by name. All are on by default; each only saves time or memory.
export interface Passes {
  /** Algebra that keeps the value: `x * 1`, `-(-x)`, views of views, transposed products. */
  readonly simplification: boolean;
  /**
   * What is known while compiling is a number; what follows from parameters alone is computed once
   * and kept, unless it is much larger than what it is made of.
   */
  readonly constantFolding: boolean;
  /** What is computed twice of the same values, in whichever branches, is computed once. */
  readonly commonSubexpressions: boolean;
  /**
   * Factors and shifts per channel behind a convolution or product (batch norm in evaluation, above
   * all) go into its weights and one bias. Fast numerics only: it changes how results round.
   */
  readonly batchNormFolding: boolean;
  /** Elementwise operations, views and reductions are computed in one kernel where that is cheaper. */
  readonly elementwiseFusion: boolean;
  /** Bias, residual sum and activation are computed where a convolution or product stores its result. */
  readonly epilogues: boolean;
  /**
   * What stands in front of a convolution and only it reads - cast, normalisation, change of size or
   * layout of an image - is computed where the convolution copies its input.
   */
  readonly preprocessing: boolean;
  /** Weights are packed, and transformed for Winograd, once and not in every run. */
  readonly weightPacking: boolean;
  /** Results of loops and choices that nobody reads, and carries that only serve them, are left out. */
  readonly deadOutputs: boolean;
  /** The schedule of a product or convolution is chosen; without, each kind has one for all sizes. */
  readonly algorithmSelection: boolean;
}

export type PassName = keyof Passes;

export const ALL_PASSES: Passes = {
  simplification: true,
  constantFolding: true,
  commonSubexpressions: true,
  batchNormFolding: true,
  elementwiseFusion: true,
  epilogues: true,
  preprocessing: true,
  weightPacking: true,
  deadOutputs: true,
  algorithmSelection: true,
};

export const PASS_NAMES = Object.keys(ALL_PASSES) as readonly PassName[];

export const NO_PASSES = Object.fromEntries(PASS_NAMES.map((name) => [name, false])) as Record<
  PassName,
  boolean
>;

/** What decides which operations share a kernel, or changes the operations themselves. */
const JOINING = [
  'simplification',
  'commonSubexpressions',
  'batchNormFolding',
  'elementwiseFusion',
  'epilogues',
  'preprocessing',
] satisfies readonly PassName[];

/** All passes but those that are switched off; without `fusion` each operation is computed by itself. */
export function passesOf(switches: Partial<Passes> = {}, fusion = true): Passes {
  const passes: Record<PassName, boolean> = { ...ALL_PASSES, ...switches };
  if (!fusion) for (const name of JOINING) passes[name] = false;
  return passes;
}

/** Text that differs between switches under which plans may differ. */
export function passesKey(passes: Passes): string {
  return PASS_NAMES.map((name) => (passes[name] ? 1 : 0)).join('');
}
