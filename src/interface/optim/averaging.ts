// Older optimizers: Rprop, which goes by signs alone, and averaged SGD.
import { where } from '../tensor/arithmetic.ts';
import type { Arithmetic } from '../tensor/counting.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type RpropOptions = {
  /** Size of the first step. */
  lr: number;
  /** Factor of a step after the gradient has changed its sign, and after it has not. */
  etaMinus: number;
  etaPlus: number;
  /** Bounds of steps. */
  stepMin: number;
  stepMax: number;
  maximize: boolean;
};

/** Rprop (Riedmiller and Braun 1993), for whole batches: steps of each weight's own size. */
export class Rprop extends Optimizer<RpropOptions> {
  static override readonly name = 'Rprop';

  constructor(
    parameters: Parameters<RpropOptions>,
    options: Partial<RpropOptions> & {
      etas?: readonly [number, number];
      stepSizes?: readonly [number, number];
    } = {},
  ) {
    super(
      parameters,
      { lr: 1e-2, etaMinus: 0.5, etaPlus: 1.2, stepMin: 1e-6, stepMax: 50, maximize: false },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<RpropOptions>): void {
    const { lr, etaMinus, etaPlus, stepMin, stepMax } = group;
    const direction = group.maximize ? grad.neg() : grad;
    const previous = this.stateOf(param, 'prev');
    const sizes = this.stateOf(param, 'stepSize', lr);
    const agreement = direction.mul(previous);
    const factor = where(
      agreement.gt(0),
      slot(etaPlus, param),
      where(agreement.lt(0), slot(etaMinus, param), 1),
    );
    const size = sizes.mul(factor).maximum(slot(stepMin, param)).minimum(slot(stepMax, param));
    // After a change of sign the weight rests for a step.
    const used = where(agreement.lt(0), 0, direction);
    this.setState(previous, used);
    this.setState(sizes, size);
    this.assign(param, param.sub(used.sign().mul(size)));
  }
}

export type ASGDOptions = {
  lr: number;
  /** How fast the weights decay, and the rate with them. */
  lambd: number;
  /** Power of the rate's decay. */
  alpha: number;
  /** Step at which averaging begins. */
  t0: number;
  weightDecay: number;
  maximize: boolean;
};

/** Averaged SGD (Polyak and Juditsky 1992), as PyTorch's; the average is the state `ax`. */
export class ASGD extends Optimizer<ASGDOptions> {
  static override readonly name = 'ASGD';

  constructor(parameters: Parameters<ASGDOptions>, options: Partial<ASGDOptions> = {}) {
    super(
      parameters,
      { lr: 1e-2, lambd: 1e-4, alpha: 0.75, t0: 1e6, weightDecay: 0, maximize: false },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<ASGDOptions>): void {
    const { lr, lambd, alpha, t0 } = group;
    const rateAt = <T>(math: Arithmetic<T>, step: T): T => {
      const past = math.mul(lambd * lr, math.sub(step, 1));
      return math.div(lr, math.raise(math.add(1, past), alpha));
    };
    const rate = this.counted(param, rateAt);
    const shrinkage = this.counted(param, (math, step) =>
      math.sub(1, math.mul(lambd, rateAt(math, step))),
    );
    const shareAt = <T>(math: Arithmetic<T>, step: T): T =>
      math.div(1, math.maximum(1, math.sub(math.sub(step, 1), t0)));
    const share = this.counted(param, shareAt);
    const rest = this.counted(param, (math, step) => math.sub(1, shareAt(math, step)));
    const direction = this.direction(param, grad, group);
    const average = this.stateOf(param, 'ax');
    const next = param.mul(shrinkage).sub(direction.mul(rate));
    this.assign(param, next);
    this.setState(average, average.mul(rest).add(next.mul(share)));
  }

  /** The averaged value of a parameter; null before its first step. */
  average(param: Tensor): Tensor | null {
    return this.steps.has(param) ? this.stateOf(this.trained(param), 'ax') : null;
  }
}
