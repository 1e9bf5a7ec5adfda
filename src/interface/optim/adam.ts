// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), as PyTorch's.
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type AdamOptions = {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Use the maximum of past second moments (Reddi et al. 2018). */
  amsgrad: boolean;
  maximize: boolean;
};

/** Options as users give them: `betas` as a pair, like PyTorch. */
export type AdamArguments = Partial<AdamOptions> & { betas?: readonly [number, number] };

const DEFAULTS: AdamOptions = {
  lr: 1e-3,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  amsgrad: false,
  maximize: false,
};

/** Adam: weight decay is added to the gradient (L2). */
export class Adam extends Optimizer<AdamOptions> {
  static override readonly name: string = 'Adam';

  constructor(
    parameters: Parameters<AdamOptions>,
    options: AdamArguments = {},
    defaults: AdamOptions = DEFAULTS,
  ) {
    super(parameters, defaults, options);
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdamOptions>): void {
    const direction = this.direction(param, grad, group);
    this.assign(param, param.sub(this.delta(param, direction, group)));
  }

  /** Updates both moments; what is to be subtracted from the parameter. */
  protected delta(param: Tensor, direction: Tensor, group: ParameterGroup<AdamOptions>): Tensor {
    const { lr, beta1, beta2, eps } = group;
    const first = this.stateOf(param, 'expAvg');
    const second = this.stateOf(param, 'expAvgSq');
    const mean = first.mul(slot(beta1, param)).add(direction.mul(slot(1 - beta1, param)));
    const squares = direction.mul(direction).mul(slot(1 - beta2, param));
    const square = second.mul(slot(beta2, param)).add(squares);
    this.setState(first, mean);
    this.setState(second, square);
    let scale = square;
    if (group.amsgrad) {
      const largest = this.stateOf(param, 'maxExpAvgSq');
      scale = largest.maximum(square);
      this.setState(largest, scale);
    }
    const rootCorrection = this.counted(param, (math, step) =>
      math.div(1, math.sqrt(math.sub(1, math.power(beta2, step)))),
    );
    const rate = this.counted(param, (math, step) =>
      math.div(lr, math.sub(1, math.power(beta1, step))),
    );
    const denominator = scale.sqrt().mul(rootCorrection).add(slot(eps, param));
    return mean.div(denominator).mul(rate);
  }
}

/** Adam with decoupled weight decay: the parameter shrinks by `lr * weightDecay` each step. */
export class AdamW extends Adam {
  static override readonly name = 'AdamW';

  constructor(parameters: Parameters<AdamOptions>, options: AdamArguments = {}) {
    super(parameters, options, { ...DEFAULTS, weightDecay: 1e-2 });
  }

  protected override update(param: Tensor, grad: Tensor, group: ParameterGroup<AdamOptions>): void {
    const direction = group.maximize ? grad.neg() : grad;
    const { lr, weightDecay } = group;
    // As what follows from a count: a program has the rate as one number then.
    const kept = this.counted(param, (math) => math.sub(1, math.mul(lr, weightDecay)));
    const shrunk = param.mul(kept);
    this.assign(param, shrunk.sub(this.delta(param, direction, group)));
  }
}
