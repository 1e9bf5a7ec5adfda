// Which plans computed what a traced function built: during its calls, and afterwards, where a result
// is computed only when it is read.
import type { Node } from '../../../graph/node.ts';
import type { Device } from '../../../runtime/device.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { explainEntry } from '../controls.ts';
import type { Entry, Run } from '../entry.ts';
import type { EvaluationObserver } from '../observers.ts';
import { evaluator } from '../install.ts';

export class PlansOf implements EvaluationObserver {
  readonly #known = new WeakSet<Entry>();
  /** Weakly: a plan that was dropped must not keep what it was bound to. */
  #plans: { readonly entry: WeakRef<Entry>; readonly device: Device }[] = [];
  /** Results of the last call; a plan may compute them without keeping them. */
  #results: readonly WeakRef<Node>[] = [];

  ran(entry: Entry, device: Device): void {
    if (this.#known.has(entry)) return;
    this.#known.add(entry);
    this.#plans = this.#plans.filter((plan) => plan.entry.deref() !== undefined);
    this.#plans.push({ entry: new WeakRef(entry), device });
  }

  /** Results that are not computed yet: which plan does it will be seen. */
  follow(results: readonly Tensor[]): void {
    const pending = results.map(({ node }) => node).filter(({ storage }) => storage === null);
    for (const node of pending) {
      evaluator().resultWatchers.set(node, (entry, device) => this.ran(entry, device));
    }
    this.#results = pending.map((node) => new WeakRef(node));
  }

  forget(): void {
    for (const { entry } of this.#plans) {
      const plan = entry.deref();
      if (plan !== undefined) this.#known.delete(plan);
    }
    this.#plans = [];
    this.#results = [];
  }

  #notice(): void {
    for (const reference of this.#results) {
      const run = reference.deref()?.origin as Run | null | undefined;
      const known = evaluator().recent.find(({ entry }) => entry === run?.entry);
      if (known !== undefined) this.ran(known.entry, known.device);
    }
  }

  /** The kernels of each plan, or '' if none has run. */
  explain(): string {
    this.#notice();
    return this.#plans
      .flatMap(({ entry, device }) => {
        const plan = entry.deref();
        return plan === undefined ? [] : [explainEntry(plan, device)];
      })
      .join('\n\n');
  }
}
