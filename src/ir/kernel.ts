// Statements and kernels of the IR, and what a target offers.
import type { Buffer, Expression, Variable } from './expression.ts';

export type Statement =
  | For
  | If
  | { readonly kind: 'let'; readonly variable: Variable; readonly value: Expression }
  | { readonly kind: 'declare'; readonly variable: Variable; readonly value: Expression }
  | { readonly kind: 'assign'; readonly variable: Variable; readonly value: Expression }
  | Store
  | MultiplyPairs
  | Prefetch
  /** All invocations of a workgroup meet. CPUs run one invocation per grid item: a no-op there. */
  | { readonly kind: 'barrier' };

/** `for (index = start; index < end; index += step) body`. Zero trips are allowed. */
export interface For {
  readonly kind: 'for';
  readonly index: Variable;
  readonly start: Expression;
  readonly end: Expression;
  readonly step: number;
  readonly body: readonly Statement[];
  /**
   * Lanes to vectorize over: iterations are independent but for `reduce` accumulators. The
   * `vectorize` pass turns the loop into a vector loop and a scalar rest; targets without vectors
   * leave it alone.
   */
  readonly vector?: boolean;
  /**
   * Whether iterations may run twice: nothing they read lies where they write. The iterations left
   * over then run in a last vector that overlaps the one before.
   */
  readonly repeatable?: boolean;
}

export interface If {
  readonly kind: 'if';
  readonly condition: Expression;
  readonly then: readonly Statement[];
  readonly otherwise: readonly Statement[];
}

/** `if (condition) then else otherwise`; spares its callers a property that linters distrust. */
export function branch(
  condition: Expression,
  then: readonly Statement[],
  otherwise: readonly Statement[] = [],
): If {
  // oxlint-disable-next-line unicorn/no-thenable -- a statement is data, nobody awaits it
  return { kind: 'if', condition, then, otherwise };
}

/** Writes `value.lanes` consecutive elements from `index`. Narrow integers wrap, halves round. */
export interface Store {
  readonly kind: 'store';
  readonly buffer: Buffer;
  readonly index: Expression;
  readonly value: Expression;
}

/**
 * Says that `buffer` will be read at `index` soon; results do not depend on it. The index may lie
 * beyond the end. For what comes from memory in longer runs than processors foresee.
 * Only on targets that have `prefetches`.
 */
export interface Prefetch {
  readonly kind: 'prefetch';
  readonly buffer: Buffer;
  readonly index: Expression;
}

/** Rows, columns and words along k of one step of `multiplyPairs`; a word holds two bfloat16. */
export const PAIRS = { rows: 32, columns: 32, depth: 16 } as const;

/**
 * A block of a matrix product in bfloat16 with float32 sums:
 * `sums[i][j] += left[i][k] * right[k][j]` for 32 rows i, 32 columns j and `steps` times 32 values k.
 *
 * Operands are words of two neighbours along k, the earlier one in the low half. For each step, `left`
 * holds 32 rows of 16 words, and `right` 16 rows of 32 words. The order of the sums is the machine's.
 * Only on targets that have `pairSpeed`.
 */
export interface MultiplyPairs {
  readonly kind: 'multiplyPairs';
  readonly sums: Buffer;
  readonly sumsIndex: Expression;
  /** In elements, from one row of the sums to the next. */
  readonly sumsStride: number;
  readonly left: Buffer;
  readonly leftIndex: Expression;
  readonly right: Buffer;
  readonly rightIndex: Expression;
  readonly steps: Expression;
}

/**
 * One parallel kernel: `body` runs once for each `gridIndex` in [0, gridSize), in any order and on
 * any thread; grid items write disjoint memory. On GPUs a grid item is a workgroup of
 * `workgroup.size` invocations.
 */
export interface Kernel {
  readonly name: string;
  /** `argument` buffers in calling order. */
  readonly buffers: readonly Buffer[];
  /** `workgroup` and `private` arrays. */
  readonly scratch: readonly Buffer[];
  readonly gridIndex: Variable;
  readonly gridSize: number;
  readonly body: readonly Statement[];
  readonly workgroup?: { readonly size: number; readonly localIndex: Variable };
}

/** What lowering needs to know of a machine. Part of a plan's key. */
export interface Target {
  readonly name: string;
  /** Width of a vector register: 4 for scalar targets, 16, 32 or 64. */
  readonly vectorBytes: number;
  /** Whether a fused multiply-add instruction may be used (fast numerics only). */
  readonly fma: boolean;
  readonly numerics: 'fast' | 'strict';
  /** Number of vector registers, which bounds register tiles. */
  readonly vectorRegisters: number;
  /** Whether a splatted load is an operand of the arithmetic, and needs no register of its own. */
  readonly foldsSplats?: boolean;
  /** Whether renderers have `mulHigh`; if not it is made of 16-bit products. */
  readonly mulHigh?: boolean;
  /**
   * Whether the target's own compiler may reorder float arithmetic, as WGSL's may: functions then do
   * without tricks that live on rounding.
   */
  readonly reassociates?: boolean;
  /**
   * How many times as fast as multiply-adds of float32 products of bfloat16 are; absent where there
   * are none, or where the user did not ask for them.
   */
  readonly pairSpeed?: number;
  /** Whether the target can be told what will be read soon. */
  readonly prefetches?: boolean;
  /** Whether kernels run as workgroups with shared memory (GPUs). */
  readonly workgroups: boolean;
  /** Bytes of first- and second-level cache a thread may count on. */
  readonly cacheBytes: { readonly l1: number; readonly l2: number };
}
