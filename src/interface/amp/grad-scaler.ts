// Scaling of losses, so that small gradients are not lost in float16, with the scale found by trial.
import { type OptionRules, POSITIVE, readOptions } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { withoutTracking } from '../../graph/op.ts';
import { maximum } from '../tensor/arithmetic.ts';
import { act } from '../tensor/engine.ts';
import { isTensor, notTensor, tensorOn } from '../tensor/handle.ts';
import { withHostValue } from '../tensor/host-value.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface GradScalerOptions {
  /** The first scale; default 65536. */
  readonly initScale?: number;
  /** Factor of the scale after `growthInterval` steps without overflow; default 2. */
  readonly growthFactor?: number;
  /** Factor of the scale after an overflow; default 0.5. */
  readonly backoffFactor?: number;
  /** Default 2000. */
  readonly growthInterval?: number;
  /** Whether anything is scaled; default true. */
  readonly enabled?: boolean;
}

const RULES: OptionRules<GradScalerOptions> = {
  initScale: [POSITIVE, 65536],
  growthFactor: [[1, Infinity, 'above'], 2],
  backoffFactor: [[0, 1, 'below'], 0.5],
  growthInterval: [[1, Infinity, 'integer'], 2000],
  enabled: ['boolean', true],
};

/** Saved form of a scaler. */
export interface GradScalerState {
  readonly scale: number;
  readonly growthFactor: number;
  readonly backoffFactor: number;
  readonly growthInterval: number;
  /** Steps without overflow since the scale last changed. */
  readonly growthTracker: number;
}

/** The part of an optimizer that a scaler touches. */
interface Scalable {
  readonly paramGroups: readonly { readonly params: readonly Tensor[] }[];
  step(options?: { readonly skipIf?: Tensor }): boolean;
}

interface Progress {
  /** Nonzero if a gradient is not finite; null if there are no gradients. */
  overflow: Tensor | null;
  stepped: boolean;
  skipped: boolean;
}

/**
 * Scales losses up before `backward`, and gradients down again before the step; a step with a
 * gradient that is not finite is left out, and the scale lowered. The check is part of the plan of
 * the step: it costs no pass over the weights.
 *
 * @example
 * const w = new nn.Parameter(tensor([1]));
 * const sgd = new optim.SGD([w], { lr: 0.5 });
 * const scaler = new GradScaler({ initScale: 1024 });
 * scaler.scale(w.mul(w).sum()).backward();
 * scaler.step(sgd); // => true
 * scaler.update();
 * w; // => [0]
 */
export class GradScaler {
  #scale: number;
  #tracker = 0;
  #settings: Required<GradScalerOptions>;
  readonly #progress = new Map<Scalable, Progress>();

  constructor(options: GradScalerOptions = {}) {
    this.#settings = readOptions('amp.GradScaler', options, RULES);
    this.#scale = this.#settings.initScale;
  }

  /** The scale in force; 1 where scaling is off. */
  getScale(): number {
    return this.#settings.enabled ? this.#scale : 1;
  }

  /** The loss times the scale: call `backward` on it. */
  scale(loss: Tensor): Tensor {
    if (!isTensor(loss)) notTensor('GradScaler.scale', loss, 'a loss');
    if (!this.#settings.enabled) return loss;
    // In float32: the scaled loss itself may be beyond a half.
    const wide = loss.dtype === 'float64' ? loss : loss.float();
    return wide.mul(tensorOn(withHostValue(() => this.#scale, wide.dtype)));
  }

  /** Divides the gradients by the scale now: for clipping them before the step. */
  unscale(optimizer: Scalable): void {
    if (this.#settings.enabled) act('GradScaler.unscale', () => this.#unscale(optimizer));
  }

  #unscale(optimizer: Scalable): void {
    if (this.#progress.has(optimizer)) {
      throw new ArgumentError('the gradients of this optimizer are unscaled already', {
        op: 'GradScaler.unscale',
        hint: 'call update() once after each step',
      });
    }
    let overflow: Tensor | null = null;
    withoutTracking(() => {
      for (const param of optimizer.paramGroups.flatMap(({ params }) => params)) {
        if (param.grad === null) continue;
        const grad = param.grad.dtype === 'float64' ? param.grad : param.grad.float();
        const unscaled = grad.mul(tensorOn(withHostValue(() => 1 / this.#scale, grad.dtype)));
        param.grad = unscaled;
        const isBad = unscaled.isfinite().logicalNot().any().float();
        overflow = overflow === null ? isBad : maximum(overflow, isBad);
      }
    });
    this.#progress.set(optimizer, { overflow, stepped: false, skipped: false });
  }

  /** Makes the optimizer's step unless a gradient is not finite. Whether it was made. */
  step(optimizer: Scalable): boolean {
    if (!this.#settings.enabled) return optimizer.step();
    return act('GradScaler.step', () => this.#step(optimizer));
  }

  #step(optimizer: Scalable): boolean {
    if (!this.#progress.has(optimizer)) this.#unscale(optimizer);
    const progress = this.#progress.get(optimizer) as Progress;
    if (progress.stepped) {
      throw new ArgumentError('this optimizer has stepped already', {
        op: 'GradScaler.step',
        hint: 'call update() once after each step',
      });
    }
    const { overflow } = progress;
    progress.stepped = true;
    progress.skipped = !optimizer.step(overflow === null ? {} : { skipIf: overflow });
    return !progress.skipped;
  }

  /** Adapts the scale to what happened since the last update. Once per iteration, after all steps. */
  update(newScale?: number): void {
    if (this.#settings.enabled) act('GradScaler.update', () => this.#update(newScale));
  }

  #update(newScale: number | undefined): void {
    if (newScale !== undefined) {
      const { initScale } = readOptions('GradScaler.update', { initScale: newScale }, RULES);
      this.#scale = initScale;
    } else {
      const steps = [...this.#progress.values()].filter(({ stepped }) => stepped);
      if (steps.length === 0) {
        throw new ArgumentError('no step was made since the last update', {
          op: 'GradScaler.update',
        });
      }
      const { growthFactor, backoffFactor, growthInterval } = this.#settings;
      if (steps.some(({ skipped }) => skipped)) {
        this.#scale *= backoffFactor;
        this.#tracker = 0;
      } else if (++this.#tracker === growthInterval) {
        this.#scale *= growthFactor;
        this.#tracker = 0;
      }
    }
    this.#progress.clear();
  }

  stateDict(): GradScalerState {
    const { growthFactor, backoffFactor, growthInterval } = this.#settings;
    const growthTracker = this.#tracker;
    return { scale: this.#scale, growthFactor, backoffFactor, growthInterval, growthTracker };
  }

  /** Takes over what `stateDict` gave. Throws ArgumentError, and changes nothing, if it does not fit. */
  loadStateDict(state: GradScalerState): void {
    const op = 'GradScaler.loadStateDict';
    const { scale, growthTracker, ...factors } = state ?? {};
    if (typeof scale !== 'number' || !Number.isInteger(growthTracker)) {
      throw new ArgumentError('the state is not that of a scaler', { op });
    }
    const given = { ...factors, initScale: scale, enabled: this.#settings.enabled };
    this.#settings = readOptions(op, given, RULES);
    this.#scale = scale;
    this.#tracker = growthTracker;
  }
}
