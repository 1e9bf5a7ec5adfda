// Relatives of Adam: Adamax, NAdam, RAdam, as PyTorch's.
import { type Arithmetic, type Formula, hostMath, type Running } from '../tensor/counting.ts';
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

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdamVariantOptions>): void {
    const { lr, beta1, beta2, eps } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const norms = this.stateOf(param, 'expInf');
    const norm = norms.mul(slot(beta2, param)).maximum(direction.abs().add(slot(eps, param)));
    this.setState(norms, norm);
    const rate = this.counted(param, (math, step) =>
      math.div(lr, math.sub(1, math.power(beta1, step))),
    );
    this.assign(param, param.sub(mean.div(norm).mul(rate)));
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

  /** The product of the momenta so far. */
  #productOf(beta1: number, decay: number): Running {
    const key = `${beta1} ${decay}`;
    const products = this.#products.get(key) ?? [1];
    this.#products.set(key, products);
    const next = <T>(math: Arithmetic<T>, step: T, before: T): T =>
      math.mul(before, momentumAt(math, step, beta1, decay));
    const at = (step: number): number => {
      for (let t = products.length; t <= step; t++) {
        products.push(next(hostMath, t, products[t - 1] ?? 1));
      }
      return products[step] ?? 1;
    };
    return { name: 'momentumProduct', key, at, next };
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<NAdamOptions>): void {
    const { lr, beta1, beta2, eps, momentumDecay } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const square = this.secondMoment(param, direction, beta2);
    const product = this.#productOf(beta1, momentumDecay);
    const correction = this.counted(param, (math, step) =>
      math.div(1, math.sub(1, math.power(beta2, step))),
    );
    const ofGradient: Formula = (math, step, momenta) => {
      const rest = math.sub(1, momentumAt(math, step, beta1, momentumDecay));
      return math.div(math.mul(lr, rest), math.sub(1, momenta));
    };
    const ofMean: Formula = (math, step, momenta) => {
      const next = momentumAt(math, math.add(step, 1), beta1, momentumDecay);
      return math.div(math.mul(lr, next), math.sub(1, math.mul(momenta, next)));
    };
    const scale = square.mul(correction).sqrt();
    const gradientShare = direction.mul(this.counted(param, ofGradient, product));
    const meanShare = mean.mul(this.counted(param, ofMean, product));
    this.assign(param, param.sub(gradientShare.add(meanShare).div(scale.add(slot(eps, param)))));
  }
}

/** `beta1 * (1 - 0.5 * 0.96 ** (step * decay))` */
function momentumAt<T>(math: Arithmetic<T>, step: T, beta1: number, decay: number): T {
  return math.mul(beta1, math.sub(1, math.mul(0.5, math.power(0.96 ** decay, step))));
}

/** Adam that starts plainly until its variance estimate can be trusted (Liu et al. 2020). */
export class RAdam extends AdamVariant<AdamVariantOptions> {
  static override readonly name = 'RAdam';

  constructor(parameters: Parameters<AdamVariantOptions>, options: AdamVariantArguments = {}) {
    super(parameters, { ...DEFAULTS, lr: 1e-3 }, options);
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdamVariantOptions>): void {
    const { lr, beta1, beta2, eps } = group;
    const direction = this.direction(param, grad, group);
    const mean = this.firstMoment(param, direction, beta1);
    const square = this.secondMoment(param, direction, beta2);
    // Both kinds of step are one structure with other numbers: no second plan.
    const adaptive = this.counted(param, (math, step) => rectified(math, step, beta2))
      .div(square.sqrt().add(slot(eps, param)))
      .add(
        this.counted(param, (math, step) =>
          math.ifGreater(lengthAt(math, step, beta2), TRUSTED, 0, 1),
        ),
      );
    const rate = this.counted(param, (math, step) =>
      math.div(lr, math.sub(1, math.power(beta1, step))),
    );
    this.assign(param, param.sub(mean.mul(adaptive).mul(rate)));
  }
}

/** Length of an average from which its variance can be trusted. */
const TRUSTED = 5;

/** How long an average the second moment is: what the estimate of its variance depends on. */
function lengthAt<T>(math: Arithmetic<T>, step: T, beta2: number): T {
  const longest = 2 / (1 - beta2) - 1;
  const power = math.power(beta2, step);
  const missing = math.div(math.mul(math.mul(2, step), power), math.sub(1, power));
  return math.sub(longest, missing);
}

/** What the root of the second moment is divided by; 0 where it cannot be trusted. */
function rectified<T>(math: Arithmetic<T>, step: T, beta2: number): T {
  const longest = 2 / (1 - beta2) - 1;
  const length = lengthAt(math, step, beta2);
  const over = math.mul(math.mul(math.sub(length, 4), math.sub(length, 2)), longest);
  const under = math.mul((longest - 4) * (longest - 2), length);
  const root = math.sqrt(math.sub(1, math.power(beta2, step)));
  return math.ifGreater(length, TRUSTED, math.mul(math.sqrt(math.div(over, under)), root), 0);
}
