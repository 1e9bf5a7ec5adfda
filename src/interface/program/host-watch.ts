// Calls of functions that leave no trace on the host: what they count, and the gradients and values that they
// set, are put back.
import {
  type HostAction,
  type HostObserver,
  type NodeHolder,
  type RestoreHost,
  watched,
} from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { evaluator } from '../transform/install.ts';
import type { EvaluationObserver } from '../transform/observers.ts';

/** Notes what has to be put back. */
export class HostWatch implements EvaluationObserver, HostObserver {
  readonly #actions: RestoreHost[] = [];
  /** Gradients as they were. */
  readonly #gradients = new Map<NodeHolder, Tensor | null>();

  acting({ snapshot }: HostAction<unknown>): undefined {
    if (snapshot !== undefined) this.#actions.push(snapshot());
  }

  /** Whether the call itself has set a gradient. */
  protected isSet(holder: NodeHolder): boolean {
    return this.#gradients.has(holder);
  }

  gradientRead(_holder: NodeHolder, _value: Tensor | null): void {}

  gradientWritten(holder: NodeHolder): void {
    if (this.#gradients.has(holder)) return;
    // Asked as by nobody: it is no read of the function.
    const { current } = watched;
    watched.current = null;
    this.#gradients.set(holder, (holder as Tensor).grad);
    watched.current = current;
  }

  drew(): void {}

  /** Calls `fn` under this watch. */
  during<R>(fn: () => R): R {
    const { observers } = evaluator();
    const { current } = watched;
    observers.push(this);
    watched.current = this;
    try {
      return fn();
    } finally {
      observers.splice(observers.indexOf(this), 1);
      watched.current = current;
    }
  }

  /** Puts gradients back. */
  restoreGradients(): void {
    for (const [holder, grad] of this.#gradients) (holder as Tensor).grad = grad;
    this.#gradients.clear();
  }

  /** Puts back what actions changed, the last first; counts only if they are not to stay. */
  restore(counts: 'back' | 'stay' = 'back'): void {
    for (const restore of this.#actions.toReversed()) restore(counts);
  }
}

/**
 * Runs `body`, which makes its calls by the function that it is given, and then sets `states`, gradients and
 * counts to what they were before.
 */
export async function unchanged<T>(
  states: readonly Tensor[],
  body: (call: <R>(fn: () => R) => R) => Promise<T>,
): Promise<T> {
  if (states.length === 0) return body((fn) => fn());
  const values = await Promise.all(states.map((state) => state.data()));
  const watch = new HostWatch();
  try {
    return await body((fn) => watch.during(fn));
  } finally {
    states.forEach((state, i) => state.setData(values[i] as Awaited<ReturnType<Tensor['data']>>));
    watch.restoreGradients();
    watch.restore();
  }
}
