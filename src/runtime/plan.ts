// A plan: a finished program as data. Kernels, the order they run in, and where their arguments
// live. It holds no tensors, so one plan serves every execution of the same structure.
import type { DType } from '../base/dtype.ts';
import type { Kernel } from '../ir/kernel.ts';

/** How a location moves with the iterations of a loop around it. */
export interface Stride {
  /** How many loops are around that loop. */
  readonly depth: number;
  readonly bytes: number;
  /** Moves to and fro, by (iteration + turn) mod 2, and not on and on. */
  readonly turn?: 0 | 1;
}

/**
 * Where an argument's bytes are while the plan runs. Offsets are in bytes, multiples of the argument's
 * elements; those of whole values in the arena are aligned to 64. Strides add to them.
 */
export type Location =
  | { readonly space: 'arena'; readonly offset: number; readonly strides?: readonly Stride[] }
  /** A buffer given at each run: an input, a parameter or a result. */
  | {
      readonly space: 'binding';
      readonly index: number;
      readonly offset?: number;
      readonly strides?: readonly Stride[];
    }
  /** One number given at each run, in the plan's scalar table (8 bytes a slot). */
  | { readonly space: 'scalar'; readonly slot: number };

/** One kernel call; `arguments[i]` binds `kernels[kernel].buffers[i]`. */
export interface Dispatch {
  readonly kernel: number;
  readonly arguments: readonly Location[];
}

/** Dispatches that are repeated, or left out. */
export interface Loop {
  /** The dispatches from `first` up to `end`. Loops lie within each other or apart. */
  readonly first: number;
  readonly end: number;
  /** How many loops are around it. */
  readonly depth: number;
  /** Most iterations, at least 1; -1 for no limit. */
  readonly trips: number;
  /** A bool that is looked at before each iteration, and must be `when`; null: there is none. */
  readonly condition: { readonly location: Location; readonly when: boolean } | null;
}

export interface Binding {
  readonly bytes: number;
  readonly access: 'read' | 'write' | 'readwrite';
}

export interface Plan {
  /** Kernels without duplicates: equal loops at different places share one entry. */
  readonly kernels: readonly Kernel[];
  /** In order; each may read what earlier ones wrote. */
  readonly dispatches: readonly Dispatch[];
  /** Outer ones first; none if left out. */
  readonly loops?: readonly Loop[];
  /** Scratch for intermediates; contents do not survive the run. */
  readonly arenaBytes: number;
  readonly bindings: readonly Binding[];
  /** dtype of each scalar slot. */
  readonly scalars: readonly DType[];
}

/** A plan that is run once before another one, with the same bindings: packed weights, above all. */
export interface PreparedPlan {
  readonly plan: Plan;
  /** Bindings whose contents are kept from run to run. */
  readonly kept: readonly number[];
  /** Bindings and scalar slots that it reads. */
  readonly leaves: readonly number[];
  readonly scalars: readonly number[];
}

/** A dispatch, or a loop with what is in it. */
export type PlanItem = Dispatch | LoopItem;

export interface LoopItem {
  readonly loop: Loop;
  readonly items: readonly PlanItem[];
}

/** The plan as it runs: dispatches in order, loops around them. */
export function itemsOf({ dispatches, loops = [] }: Plan): PlanItem[] {
  let next = 0;
  const take = (first: number, end: number): PlanItem[] => {
    const items: PlanItem[] = [];
    for (let at = first; at < end;) {
      const loop = loops[next];
      if (loop?.first === at && loop.end <= end) {
        next++;
        items.push({ loop, items: take(loop.first, loop.end) });
        at = loop.end;
      } else items.push(dispatches[at++] as Dispatch);
    }
    return items;
  };
  return take(0, dispatches.length);
}
