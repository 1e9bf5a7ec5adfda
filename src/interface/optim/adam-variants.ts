// Relatives of Adam: Adamax, NAdam, RAdam, as PyTorch's.
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type AdamVariantOptions = {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  maximize: boolean;
};

export type NAdamOptions = AdamVariantOptions & {
  /** How fast the momentum reaches its full value. */
  momentumDecay: number;
};

/** Options as users give them: `betas` as a pair, like PyTorch. */
export type AdamVariantArguments<O extends AdamVariantOptions = AdamVariantOptions> = Partial<O> & {
  betas?: readonly [number, number];
};

const DEFAULTS: AdamVariantOptions = {
  lr: 2e-3,
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0,
  maximize: false,
};

abstract class AdamVariant<O extends AdamVariantOptions> extends Optimizer<O> {
  /** The moving mean of the gradients, moved on by one step. */
  protected firstMoment(param: Tensor, direction: Tensor, beta1: number): Tensor {
    const first = this.stateOf(param, 'expAvg');
    const mean = first.mul(slot(beta1, param)).add(direction.mul(slot(1 - beta1, param)));
    this.setState(first, mean);
    return mean;
  }

  /** The moving mean of the squared gradients, moved on by one step. */
  protected secondMoment(param: Tensor, direction: Tensor, beta2: number): Tensor {
    const second = this.stateOf(param, 'expAvgSq');
    const squares = direction.mul(direction).mul(slot(1 - beta2, param));
    const square = second.mul(slot(beta2, param)).add(squares);
    this.setState(second, square);
    return square;
  }
}

/** Adam with the largest recent gradient in place of the mean square (Kingma and Ba 2015). */
export class Adamax extends AdamVariant<AdamVariantOptions> {
  static override readonly name = 'Adamax';

  constructor(parameters: Parameters<AdamVariantOptions>, options: AdamVariantArguments = {}) {
    super(parameters, DEFAULTS, options);
  }

  protected update(
    param: Tensor,
    grad: Tensor,
    group: ParameterGroup<AdamVariantOptions>,
    step: number,
  ): void {
    const { lr, beta1, beta2, eps } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const norms = this.stateOf(param, 'expInf');
    const norm = norms.mul(slot(beta2, param)).maximum(direction.abs().add(slot(eps, param)));
    this.setState(norms, norm);
    this.assign(param, param.sub(mean.div(norm).mul(slot(lr / (1 - beta1 ** step), param))));
  }
}

/** Adam with Nesterov momentum (Dozat 2016). */
export class NAdam extends AdamVariant<NAdamOptions> {
  static override readonly name = 'NAdam';
  /** Products of the momenta of steps 1..t: known from t, so they need no place in the state. */
  readonly #products = new Map<string, number[]>();

  constructor(
    parameters: Parameters<NAdamOptions>,
    options: AdamVariantArguments<NAdamOptions> = {},
  ) {
    super(parameters, { ...DEFAULTS, momentumDecay: 4e-3 }, options);
  }

  #momentumProduct(step: number, beta1: number, decay: number): number {
    const key = `${beta1} ${decay}`;
    const products = this.#products.get(key) ?? [1];
    this.#products.set(key, products);
    for (let t = products.length; t <= step; t++) {
      products.push((products[t - 1] ?? 1) * momentumAt(t, beta1, decay));
    }
    return products[step] ?? 1;
  }

  protected update(
    param: Tensor,
    grad: Tensor,
    group: ParameterGroup<NAdamOptions>,
    step: number,
  ): void {
    const { lr, beta1, beta2, eps, momentumDecay } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const square = this.secondMoment(param, direction, beta2);
    const now = momentumAt(step, beta1, momentumDecay);
    const next = momentumAt(step + 1, beta1, momentumDecay);
    const product = this.#momentumProduct(step, beta1, momentumDecay);
    const scale = square.mul(slot(1 / (1 - beta2 ** step), param)).sqrt();
    const gradientShare = direction.mul(slot((lr * (1 - now)) / (1 - product), param));
    const meanShare = mean.mul(slot((lr * next) / (1 - product * next), param));
    this.assign(param, param.sub(gradientShare.add(meanShare).div(scale.add(slot(eps, param)))));
  }
}

function momentumAt(step: number, beta1: number, decay: number): number {
  return beta1 * (1 - 0.5 * 0.96 ** (step * decay));
}

/** Adam that starts plainly until its variance estimate can be trusted (Liu et al. 2020). */
export class RAdam extends AdamVariant<AdamVariantOptions> {
  static override readonly name = 'RAdam';

  constructor(parameters: Parameters<AdamVariantOptions>, options: AdamVariantArguments = {}) {
    super(parameters, { ...DEFAULTS, lr: 1e-3 }, options);
  }

  protected update(
    param: Tensor,
    grad: Tensor,
    group: ParameterGroup<AdamVariantOptions>,
    step: number,
  ): void {
    const { lr, beta1, beta2, eps } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const square = this.secondMoment(param, direction, beta2);
    const correction2 = 1 - beta2 ** step;
    const longest = 2 / (1 - beta2) - 1;
    const length = longest - (2 * step * beta2 ** step) / correction2;
    const trusted = length > 5;
    const rectification = trusted
      ? Math.sqrt(
          ((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length),
        )
      : 0;
    // Both kinds of step are one structure with other numbers: no second plan.
    const adaptive = slot(rectification * Math.sqrt(correction2), param)
      .div(square.sqrt().add(slot(eps, param)))
      .add(slot(trusted ? 0 : 1, param));
    this.assign(param, param.sub(mean.mul(adaptive).mul(slot(lr / (1 - beta1 ** step), param))));
  }
}
