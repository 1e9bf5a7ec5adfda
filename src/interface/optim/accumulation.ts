// Gradients of several batches before one step.
import { checkInteger, checkNumber, POSITIVE } from '../../base/checks.ts';
import { isTensor, notTensor } from '../tensor/handle.ts';
import { act, engine } from '../tensor/engine.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { clipGradNorm } from './clip.ts';

/** What is accumulated for: any optimizer that steps without a closure. */
interface Stepping {
  readonly paramGroups: readonly { readonly params: readonly Tensor[] }[];
  step(): void;
  zeroGrad(): void;
}

export interface AccumulationOptions {
  /** Clips the sum of the gradients to this norm before the step; default none. */
  readonly maxNorm?: number | undefined;
}

/**
 * Makes one step of every `steps` batches, as if they were one: each loss counts by 1 / steps.
 * Gradients are computed batch by batch, so that only one batch's activations are held at a time.
 *
 * @example
 * const w = new nn.Parameter(tensor([1]));
 * const sgd = new optim.SGD([w], { lr: 1 });
 * const accumulator = new GradientAccumulator(sgd, 2);
 * accumulator.backward(w.mul(1).sum()); // => false
 * accumulator.backward(w.mul(3).sum()); // => true
 * w; // => [-1]
 */
export class GradientAccumulator {
  readonly steps: number;
  readonly #optimizer: Stepping;
  readonly #maxNorm: number | undefined;
  #count = 0;

  constructor(optimizer: Stepping, steps: number, options: AccumulationOptions = {}) {
    this.steps = checkInteger('GradientAccumulator', 'steps', steps, 1);
    if (options.maxNorm !== undefined) {
      checkNumber('GradientAccumulator', 'maxNorm', options.maxNorm, POSITIVE);
    }
    this.#maxNorm = options.maxNorm;
    this.#optimizer = optimizer;
  }

  /** Batches whose gradients wait for a step. */
  get pending(): number {
    return this.#count;
  }

  /** Adds the gradients of a batch. True if that was the last one and the step was made. */
  backward(loss: Tensor): boolean {
    if (!isTensor(loss)) notTensor('GradientAccumulator.backward', loss, 'the loss');
    return engine().act({
      name: 'GradientAccumulator.backward',
      inputs: [loss],
      run: ([value]) => this.#backward(value as Tensor),
    });
  }

  #backward(loss: Tensor): boolean {
    loss.mul(1 / this.steps).backward();
    this.#count++;
    if (this.#count === this.steps) {
      this.#flush();
      return true;
    }
    const gradients = this.#params().flatMap(({ grad }) => (grad === null ? [] : [grad.node]));
    engine().evaluate(gradients);
    return false;
  }

  /** Steps with the batches there are, and clears the gradients. Nothing if there are none. */
  flush(): void {
    act('GradientAccumulator.flush', () => this.#flush());
  }

  #flush(): void {
    if (this.#count === 0) return;
    if (this.#maxNorm !== undefined) clipGradNorm(this.#params(), this.#maxNorm);
    this.#optimizer.step();
    this.#optimizer.zeroGrad();
    this.#count = 0;
  }

  #params(): Tensor[] {
    return this.#optimizer.paramGroups.flatMap(({ params }) => params);
  }
}
