// What goes into the compiler and what comes out.
import type { Node } from '../graph/node.ts';
import type { Plan, PreparedPlan } from '../runtime/plan.ts';
import type { BudgetReport } from './memory/budget.ts';

/** A result that must survive the run. */
export interface Root {
  /** Position of the node in `Program.nodes`; never a leaf; no two roots name the same node. */
  readonly position: number;
  /**
   * Index into `Program.leaves` of the value that this result overwrites in place, or -1 for a
   * buffer of its own. All reads of the old value happen before or within the same element's write.
   */
  readonly inPlaceOf: number;
}

/** A linearized graph: what one plan computes. */
export interface Program {
  /** Inputs first. `node.position` is the index in this array while compiling. */
  readonly nodes: readonly Node[];
  /** Stored values, in order of first use. Leaf i is the plan's binding i. */
  readonly leaves: readonly Node[];
  /** Scalar slots, in order of first use: the plan's scalar slot i. */
  readonly scalars: readonly Node[];
  readonly roots: readonly Root[];
}

/** What fused with what, and why not: the data behind `explain()`. */
export interface KernelExplanation {
  readonly name: string;
  /** Names of the graph ops that run in this kernel, inputs first. */
  readonly ops: readonly string[];
  /** Shape of the kernel's main result. */
  readonly shape: readonly number[];
  readonly schedule: string;
  /** Rough arithmetic and traffic, for roofline figures. */
  readonly flops: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Why the results end here instead of fusing further. */
  readonly reasons: readonly string[];
}

export interface CompiledProgram {
  readonly plan: Plan;
  /** What is computed once for many runs: packed weights, tables. */
  readonly prepared: PreparedPlan | null;
  /** Binding of each root, in the order of `Program.roots`. */
  readonly rootBindings: readonly number[];
  /** One entry per dispatch of the plan. */
  readonly kernels: readonly KernelExplanation[];
  /**
   * For each position of `Program.nodes`, whether the plan writes that value to memory at all (in
   * the arena or as a root). A value that is only ever inlined is cheap to compute again; the
   * evaluator keeps the stored ones that later plans ask for.
   */
  readonly stored: Uint8Array;
  /** Largest sum of bytes alive at once: no arena can be smaller. */
  readonly arenaLowerBound: number;
  /** What the arena would take if every value in it had memory of its own. */
  readonly unplannedBytes: number;
  /** How often each rewriting rule applied, by name. */
  readonly applied: readonly (readonly [name: string, times: number])[];
  /** What a memory budget did, if there was one. */
  readonly budget: BudgetReport | null;
}
