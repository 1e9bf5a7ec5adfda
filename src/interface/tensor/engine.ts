// What a Tensor needs of the evaluator, so that tensors do not import the compiler.
import type { Node } from '../../graph/node.ts';
import type { Storage } from '../../runtime/storage.ts';

/** A handle on a node: `assign` swaps the node. */
export interface NodeHolder {
  node: Node;
}

export interface AssignOptions {
  /**
   * Overwrite where it stands, so that no earlier version is kept. For values that nobody else
   * holds expressions of: optimizer state.
   */
  readonly inPlace?: boolean;
}

export interface Engine {
  /** A result was made by the public interface: a step computes it if nothing consumes it. */
  created(node: Node): void;
  /**
   * Computes what is missing of `nodes`; afterwards each has a storage. In the `background` the
   * device may still be at work then, and reading waits for it.
   */
  evaluate(nodes: readonly Node[], background?: boolean): void;
  /** Computes all pending assignments, kept values and unconsumed results. */
  step(): void;
  /** The value of `holder` becomes `value` at the next step. */
  assign(holder: NodeHolder, storage: Storage, value: Node, options: AssignOptions): void;
  /** `storage` was replaced from the host: pending assignments to it are void. */
  replaced(holder: NodeHolder, storage: Storage): void;
  /** Makes the next plan that computes `node` keep it as a value of its own. */
  keep(node: Node): void;
  /** A copy of a computed node's bytes. */
  read(node: Node): Promise<Uint8Array>;
  readSync(node: Node): Uint8Array;
  /** A live view of a computed node's bytes where the device allows it, else a copy. */
  viewSync(node: Node): Uint8Array;
}

let current: Engine | null = null;

/** Installed by the transform layer. */
export function setEngine(engine: Engine): void {
  current = engine;
}

export function engine(): Engine {
  if (current === null) {
    throw new Error("internal: no evaluator is installed; import from 'tengen', not from inside");
  }
  return current;
}
