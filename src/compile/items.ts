// What a program is listed as before it is placed in memory: steps, and loops around some of them.
import type { Memory } from './lower/kernel-builder.ts';
import type { Step } from './memory/plan-memory.ts';
import type { KernelExplanation } from './program.ts';

export interface ListedStep extends Step {
  readonly explanation: KernelExplanation;
  /** Steps and loops of one group share a number: they only make sense together. */
  readonly group?: number;
}

/** Steps that are repeated or left out. */
export interface ListedLoop {
  readonly items: readonly Item[];
  readonly trips: number;
  readonly condition: { readonly memory: Memory; readonly when: boolean } | null;
  readonly group?: number;
}

export type Item = ListedStep | ListedLoop;

export function isLoop(item: object): item is ListedLoop {
  return 'items' in item;
}

/** All steps of a list, those in loops too. */
export function stepsIn(items: readonly Item[]): ListedStep[] {
  return items.flatMap((item) => (isLoop(item) ? stepsIn(item.items) : [item]));
}
