// A plan: a finished program as data. Kernels, the order they run in, and where their arguments
// live. It holds no tensors, so one plan serves every execution of the same structure.
import type { DType } from '../base/dtype.ts';
import type { Kernel } from '../ir/kernel.ts';

/** Where an argument's bytes are while the plan runs. Offsets are in bytes, aligned to 64. */
export type Location =
  | { readonly space: 'arena'; readonly offset: number }
  /** A buffer given at each run: an input, a parameter or a result. */
  | { readonly space: 'binding'; readonly index: number }
  /** One number given at each run, in the plan's scalar table (8 bytes a slot). */
  | { readonly space: 'scalar'; readonly slot: number };

/** One kernel call; `arguments[i]` binds `kernels[kernel].buffers[i]`. */
export interface Dispatch {
  readonly kernel: number;
  readonly arguments: readonly Location[];
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
  /** Scratch for intermediates; contents do not survive the run. */
  readonly arenaBytes: number;
  readonly bindings: readonly Binding[];
  /** dtype of each scalar slot. */
  readonly scalars: readonly DType[];
}
