// Values that plans keep because later plans asked for them: which ones, and for how long.
import type { Node } from '../../graph/node.ts';
import type { Device, DeviceBuffer } from '../../runtime/device.ts';
import type { Storage } from '../../runtime/storage.ts';
import type { Entry, KeptValues, Run } from './entry.ts';
import { toStorage } from './values.ts';

/** Live generations of learned values per plan, when no step expires them. */
const KEPT_RUNS = 4;

export class LearnedValues {
  /** Number of steps, i.e. of runs that replaced a parameter. */
  #generation = 0;
  /** Plans with learned values that are still alive. */
  readonly #keepers = new Set<Entry>();

  /**
   * Finds values of this program that an earlier run computed and did not keep. They are computed
   * again now; that run's plan keeps them from its next run on.
   */
  learn(nodes: readonly Node[], rootNodes: readonly Node[]): void {
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[i] as Node;
      if (node.origin !== null || node.storage !== null) continue;
      const inputs = node.inputs;
      for (let j = 0; j < inputs.length; j++) {
        const operand = inputs[j] as Node;
        if (operand.origin !== null && operand.storage === null) this.#want(operand);
      }
    }
    for (const node of rootNodes) if (node.origin !== null) this.#want(node);
  }

  /** Makes the plan that computed `node` keep it, or what it was inlined from. */
  #want(node: Node): void {
    if (node.storage !== null || node.origin === null || node.op.lower.kind === 'leaf') return;
    const { entry } = node.origin as Run;
    if (entry.compiled.stored[node.originPosition] === 1) {
      if (!entry.learned.has(node.originPosition)) {
        entry.learned.add(node.originPosition);
        entry.stale = true;
      }
      return;
    }
    for (const operand of node.inputs) this.#want(operand);
  }

  /** Takes over what a run kept because it was learned. */
  store(
    entry: Entry,
    device: Device,
    run: Run,
    nodes: readonly Node[],
    outputs: readonly DeviceBuffer[],
    firstOutput: number,
  ): void {
    if (entry.learnedRoots.length === 0) return;
    const kept: Node[] = [];
    entry.learnedRoots.forEach((position, i) => {
      const node = nodes[position] as Node;
      node.storage = toStorage(device, outputs[firstOutput + i] as DeviceBuffer, node);
      node.version = 0;
      kept.push(node);
      node.origin = run;
      node.originPosition = position;
    });
    entry.kept.push({ run, generation: this.#generation, nodes: kept });
  }

  /** Learned values live until the step after next, or until a few more runs of their plan. */
  #expire(entry: Entry): void {
    while (entry.kept.length > 0) {
      const oldest = entry.kept[0] as KeptValues;
      const passed = this.#generation - oldest.generation;
      if (passed < 2 && entry.kept.length <= KEPT_RUNS) return;
      entry.kept.shift();
      for (const node of oldest.nodes) {
        if (node.origin !== oldest.run) continue;
        (node.storage as Storage | null)?.dispose();
        node.storage = null;
      }
    }
    this.#keepers.delete(entry);
  }

  /** After a run of `entry`: values that nobody can ask for any longer are let go. */
  expire(entry: Entry, wasStep: boolean): void {
    if (wasStep) this.#generation++;
    if (entry.kept.length > 0) this.#keepers.add(entry);
    for (const keeper of this.#keepers) this.#expire(keeper);
  }

  /** The plan is dropped: what it kept belongs to whoever still holds the nodes. */
  forget(entry: Entry): void {
    this.#keepers.delete(entry);
    entry.kept.length = 0;
  }
}
