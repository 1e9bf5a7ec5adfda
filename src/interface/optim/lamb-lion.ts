// Optimizers for large batches and with small state: LAMB and Lion.
import { where } from '../tensor/arithmetic.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type LambOptions = {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Divide the moments by 1 - beta ** step. */
  biasCorrection: boolean;
  /** Scale by the trust ratio even without weight decay. */
  alwaysAdapt: boolean;
  maximize: boolean;
};

/**
 * LAMB (You et al. 2020): the step of AdamW, scaled for each parameter as a whole to the length
 * `lr * ‖w‖`. Without weight decay the scale is left out, unless `alwaysAdapt` is set: biases and
 * normalizations are usually put in such a group.
 *
 * @example
 * const w = new nn.Parameter(tensor([3, 4]));
 * const lamb = new Lamb([w], { lr: 0.1, alwaysAdapt: true });
 * w.sum().backward();
 * lamb.step();
 * w; // => [2.646, 3.646]
 */
export class Lamb extends Optimizer<LambOptions> {
  static override readonly name = 'Lamb';

  constructor(
    parameters: Parameters<LambOptions>,
    options: Partial<LambOptions> & { betas?: readonly [number, number] } = {},
  ) {
    super(
      parameters,
      {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weightDecay: 0,
        biasCorrection: true,
        alwaysAdapt: false,
        maximize: false,
      },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<LambOptions>): void {
    const { lr, beta1, beta2, eps, weightDecay } = group;
    const direction = group.maximize ? grad.neg() : grad;
    const first = this.stateOf(param, 'expAvg');
    const second = this.stateOf(param, 'expAvgSq');
    const mean = first.mul(slot(beta1, param)).add(direction.mul(slot(1 - beta1, param)));
    const squares = direction.mul(direction).mul(slot(1 - beta2, param));
    const square = second.mul(slot(beta2, param)).add(squares);
    this.setState(first, mean);
    this.setState(second, square);
    const one = slot(1, param);
    const corrects = group.biasCorrection;
    const factor1 = corrects
      ? this.counted(param, (math, step) => math.div(1, math.sub(1, math.power(beta1, step))))
      : one;
    const factor2 = corrects
      ? this.counted(param, (math, step) =>
          math.div(1, math.sqrt(math.sub(1, math.power(beta2, step)))),
        )
      : one;
    const denominator = square.sqrt().mul(factor2).add(slot(eps, param));
    let delta = mean.mul(factor1).div(denominator);
    if (weightDecay !== 0) delta = delta.add(param.mul(slot(weightDecay, param)));
    let rate = slot(lr, param);
    if (weightDecay !== 0 || group.alwaysAdapt) {
      const [weights, length] = [param.square().sum().sqrt(), delta.square().sum().sqrt()];
      const both = weights.gt(0).logicalAnd(length.gt(0));
      rate = where(both, weights.div(length), 1).mul(rate);
    }
    this.assign(param, param.sub(delta.mul(rate)));
  }
}

export type LionOptions = {
  lr: number;
  beta1: number;
  beta2: number;
  weightDecay: number;
  maximize: boolean;
};

/**
 * Lion (Chen et al. 2023): steps of equal size by the sign of a momentum, with decoupled weight
 * decay. One state tensor where Adam has two; lr is about a tenth of Adam's.
 *
 * @example
 * const w = new nn.Parameter(tensor([1, 1]));
 * const lion = new Lion([w], { lr: 0.25 });
 * w.mul(tensor([5, -0.1])).sum().backward();
 * lion.step();
 * w; // => [0.75, 1.25]
 */
export class Lion extends Optimizer<LionOptions> {
  static override readonly name = 'Lion';

  constructor(
    parameters: Parameters<LionOptions>,
    options: Partial<LionOptions> & { betas?: readonly [number, number] } = {},
  ) {
    const defaults = { lr: 1e-4, beta1: 0.9, beta2: 0.99, weightDecay: 0, maximize: false };
    super(parameters, defaults, options);
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<LionOptions>): void {
    const { lr, beta1, beta2, weightDecay } = group;
    const direction = group.maximize ? grad.neg() : grad;
    const average = this.stateOf(param, 'expAvg');
    const mix = (beta: number): Tensor =>
      average.mul(slot(beta, param)).add(direction.mul(slot(1 - beta, param)));
    const shrunk = param.mul(slot(1 - lr * weightDecay, param));
    this.assign(param, shrunk.sub(mix(beta1).sign().mul(slot(lr, param))));
    this.setState(average, mix(beta2));
  }
}
