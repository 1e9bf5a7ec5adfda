// Statements and kernels of the IR, and what a target offers.
import type { Buffer, Expression, Variable } from './expression.ts';

export type Statement =
  | For
  | If
  | { readonly kind: 'let'; readonly variable: Variable; readonly value: Expression }
  | { readonly kind: 'declare'; readonly variable: Variable; readonly value: Expression }
  | { readonly kind: 'assign'; readonly variable: Variable; readonly value: Expression }
  | Store
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
  /** Whether kernels run as workgroups with shared memory (GPUs). */
  readonly workgroups: boolean;
  /** Bytes of first- and second-level cache a thread may count on. */
  readonly cacheBytes: { readonly l1: number; readonly l2: number };
}
