// What a Tensor needs of the evaluator, so that tensors do not import the compiler.
import { TengenError } from '../../base/errors.ts';
import type { Node } from '../../graph/node.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { Tensor } from './tensor.ts';

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

/** Puts back what an action has changed on the host; its counts only if they are not to `stay`. */
export type RestoreHost = (counts: 'back' | 'stay') => void;

/** Something on the host that tensors do not show: a count of steps, a rate, a place in a stream. */
export interface HostAction<T> {
  /** For messages. */
  readonly name: string;
  /** What it reads of the function around it. */
  readonly inputs: readonly Tensor[];
  /** Left out of what is compared: it happens the first time only. */
  readonly once?: boolean;
  /** It may use nothing else of the function around it. */
  readonly strict?: boolean;
  /**
   * Takes down what it changes on the host. Present if a program that runs without this host can do the
   * action itself: what it counts, it counts in tensors (counting.ts).
   */
  snapshot?(): RestoreHost;
  /** Does it, on such tensors. */
  run(inputs: readonly Tensor[]): T;
}

/** Sees what the evaluator does not, while a function is recorded that will be replayed. */
export interface HostObserver {
  /** `grad` of a tensor is read. */
  gradientRead(holder: NodeHolder, value: Tensor | null): void;
  gradientWritten(holder: NodeHolder, value: Tensor | null): void;
  /** A generator gave a place in its stream. */
  drew(draw: object): void;
}

/** Who watches now, or nobody. */
export const watched: { current: HostObserver | null } = { current: null };

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
  /** `storage` is about to be replaced from the host. */
  replacing(storage: Storage): void;
  /** `storage` was replaced from the host: pending assignments to it are void. */
  replaced(holder: NodeHolder, storage: Storage): void;
  /** Makes the next plan that computes `node` keep it as a value of its own. */
  keep(node: Node): void;
  /**
   * Runs an action on the host. A function around it that is replayed without running does it again, in
   * its place.
   */
  act<T>(action: HostAction<T>): T;
  /** Runs what is no part of the programs of traced functions around it. */
  outside<T>(action: HostAction<T>): T;
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

/** For entries that are used alone: the main one brings what computes. */
export function notInstalled(): TengenError {
  return new TengenError("nothing computes yet: the entry 'tengen' was not imported", {
    hint: "import 'tengen' beside the other entries",
  });
}

export function engine(): Engine {
  if (current === null) {
    throw notInstalled();
  }
  return current;
}

/** As `Engine.act`, for an action that reads nothing of the function around it. */
export function act<T>(name: string, run: () => T): T {
  return current === null ? run() : current.act({ name, inputs: [], run });
}
