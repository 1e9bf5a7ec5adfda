// Process-wide settings that change how pending graphs are computed.
import { ALL_PASSES, type Passes } from '../../compile/passes/switches.ts';
import { parseBytes } from '../../base/bytes.ts';
import type { MemoryBudget } from '../../compile/memory/budget.ts';
import type { Target } from '../../ir/kernel.ts';
import type { Device } from '../../runtime/device.ts';

export interface Settings {
  /** `fast`: fused multiply-add where there is one. `strict`: the same bits on every device. */
  numerics: 'fast' | 'strict';
  /** `bfloat16`: products and convolutions of float32 may be computed of operands rounded to it. */
  precision: 'float32' | 'bfloat16';
  /** Compute every operation as soon as it is made: for debugging. */
  eager: boolean;
  /** Throw at the first operation that makes a NaN or an infinity: computes each at once. */
  checkNaN: boolean;
  /** Join operations into kernels. Off only to find out whether fusion changes a result. */
  fusion: boolean;
  /** Which passes of the compiler are on; without `fusion`, those that join operations are not. */
  passes: Passes;
  /** Measure every kernel that runs. */
  profiling: boolean;
  /**
   * Most bytes that all plans together keep of what they computed ahead. A model that runs in many
   * shapes has a plan for each, and packed weights in each of them: those that were not used for
   * longest are computed again when they are needed.
   */
  keptBytes: number;
  /** What the arena of every plan must fit into; null: no limit. */
  memoryBudget: MemoryBudget | null;
  /** Plans kept per device. */
  planCacheSize: number;
}

export const settings: Settings = {
  numerics: 'fast',
  precision: 'float32',
  eager: false,
  checkNaN: false,
  fusion: true,
  passes: ALL_PASSES,
  profiling: false,
  keptBytes: 2 ** 30,
  memoryBudget: null,
  planCacheSize: 256,
};

/** What plans for a device are compiled for under these settings. */
export function targetOf(device: Device): Target {
  const { numerics, precision } = settings;
  return device.target(numerics, numerics === 'fast' && precision === 'bfloat16');
}

/** What `memoryBudget` may be: bytes, a text like '512MB', 'sqrt', or null for no limit. */
export type MemoryBudgetOption = number | string | null;

/**
 * The budget that an option asks for.
 *
 * @throws ArgumentError if it is none.
 */
export function memoryBudgetOf(op: string, option: MemoryBudgetOption): MemoryBudget | null {
  if (option === null || option === 'sqrt') return option;
  return parseBytes(op, 'memoryBudget', option);
}

/** Runs `body` with plans made under `budget`. */
export function withMemoryBudget<T>(budget: MemoryBudget | null, body: () => T): T {
  const before = settings.memoryBudget;
  settings.memoryBudget = budget;
  try {
    return body();
  } finally {
    settings.memoryBudget = before;
  }
}
