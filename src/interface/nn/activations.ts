// Activation functions as modules.
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { describeOptions, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

/**
 * max(x, 0).
 *
 * @example
 * const relu = new ReLU();
 * relu.forward(tensor([-1, 2])); // => [0, 2]
 */
export class ReLU extends Module {
  forward(x: Tensor): Tensor {
    return F.relu(x);
  }
}

/** min(max(x, 0), 6). */
export class ReLU6 extends Module {
  forward(x: Tensor): Tensor {
    return F.relu6(x);
  }
}

/** Self-normalizing ELU (Klambauer et al. 2017). */
export class SELU extends Module {
  forward(x: Tensor): Tensor {
    return F.selu(x);
  }
}

/** x * sigmoid(x) (Elfwing et al. 2017). */
export class SiLU extends Module {
  forward(x: Tensor): Tensor {
    return F.silu(x);
  }
}

/** x * tanh(softplus(x)) (Misra 2019). */
export class Mish extends Module {
  forward(x: Tensor): Tensor {
    return F.mish(x);
  }
}

/** 1 / (1 + exp(-x)). */
export class Sigmoid extends Module {
  forward(x: Tensor): Tensor {
    return F.sigmoid(x);
  }
}

/** log(sigmoid(x)), precise for large -x. */
export class LogSigmoid extends Module {
  forward(x: Tensor): Tensor {
    return F.logsigmoid(x);
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  forward(x: Tensor): Tensor {
    return F.tanh(x);
  }
}

/** x - tanh(x). */
export class Tanhshrink extends Module {
  forward(x: Tensor): Tensor {
    return F.tanhshrink(x);
  }
}

/** x / (1 + |x|). */
export class Softsign extends Module {
  forward(x: Tensor): Tensor {
    return F.softsign(x);
  }
}

/** 0 below -3, 1 above 3, a straight line between. */
export class Hardsigmoid extends Module {
  forward(x: Tensor): Tensor {
    return F.hardsigmoid(x);
  }
}

/** x * hardsigmoid(x) (Howard et al. 2019). */
export class Hardswish extends Module {
  forward(x: Tensor): Tensor {
    return F.hardswish(x);
  }
}

/** x, or x * negativeSlope where x is negative. */
export class LeakyReLU extends Module {
  readonly negativeSlope: number;

  constructor(negativeSlope = 0.01) {
    super();
    this.negativeSlope = negativeSlope;
  }

  forward(x: Tensor): Tensor {
    return F.leakyRelu(x, this.negativeSlope);
  }

  override describe(): string {
    return `LeakyReLU(negativeSlope=${this.negativeSlope})`;
  }
}

/** x, or alpha * (exp(x) - 1) where x is negative (Clevert et al. 2016). */
export class ELU extends Module {
  readonly alpha: number;

  constructor(alpha = 1) {
    super();
    this.alpha = alpha;
  }

  forward(x: Tensor): Tensor {
    return F.elu(x, this.alpha);
  }

  override describe(): string {
    return `ELU(alpha=${this.alpha})`;
  }
}

/** x, or alpha * (exp(x / alpha) - 1) where x is negative (Barron 2017). */
export class CELU extends Module {
  readonly alpha: number;

  constructor(alpha = 1) {
    super();
    this.alpha = alpha;
  }

  forward(x: Tensor): Tensor {
    return F.celu(x, this.alpha);
  }

  override describe(): string {
    return `CELU(alpha=${this.alpha})`;
  }
}

/** x moved towards 0 by lambd, and 0 within. */
export class Softshrink extends Module {
  readonly lambd: number;

  constructor(lambd = 0.5) {
    super();
    this.lambd = lambd;
  }

  forward(x: Tensor): Tensor {
    return F.softshrink(x, this.lambd);
  }

  override describe(): string {
    return `Softshrink(lambd=${this.lambd})`;
  }
}

/** x, or 0 where |x| is at most lambd. */
export class Hardshrink extends Module {
  readonly lambd: number;

  constructor(lambd = 0.5) {
    super();
    this.lambd = lambd;
  }

  forward(x: Tensor): Tensor {
    return F.hardshrink(x, this.lambd);
  }

  override describe(): string {
    return `Hardshrink(lambd=${this.lambd})`;
  }
}

/** The first half along an axis times the sigmoid of the second (Dauphin et al. 2017). */
export class GLU extends Module {
  readonly axis: number;

  constructor(axis = -1) {
    super();
    this.axis = axis;
  }

  forward(x: Tensor): Tensor {
    return F.glu(x, this.axis);
  }

  override describe(): string {
    return `GLU(axis=${this.axis})`;
  }
}

/** exp(x) / sum(exp(x)) along an axis. */
export class Softmax extends Module {
  readonly axis: number;

  constructor(axis: number) {
    super();
    this.axis = axis;
  }

  forward(x: Tensor): Tensor {
    return F.softmax(x, this.axis);
  }

  override describe(): string {
    return `Softmax(axis=${this.axis})`;
  }
}

/** log(softmax(x)) along an axis. */
export class LogSoftmax extends Module {
  readonly axis: number;

  constructor(axis: number) {
    super();
    this.axis = axis;
  }

  forward(x: Tensor): Tensor {
    return F.logSoftmax(x, this.axis);
  }

  override describe(): string {
    return `LogSoftmax(axis=${this.axis})`;
  }
}

/** softmax(-x) along an axis. */
export class Softmin extends Module {
  readonly axis: number;

  constructor(axis: number) {
    super();
    this.axis = axis;
  }

  forward(x: Tensor): Tensor {
    return F.softmin(x, this.axis);
  }

  override describe(): string {
    return `Softmin(axis=${this.axis})`;
  }
}

/** x times the share of a normal distribution below it (Hendrycks and Gimpel 2016). */
export class GELU extends Module {
  readonly approximate: 'none' | 'tanh';

  constructor(options: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    this.approximate = options.approximate ?? 'none';
  }

  forward(x: Tensor): Tensor {
    return F.gelu(x, { approximate: this.approximate });
  }

  override describe(): string {
    return `GELU(approximate=${this.approximate})`;
  }
}

/** log(1 + exp(beta * x)) / beta; linear above `threshold`. */
export class Softplus extends Module {
  readonly beta: number;
  readonly threshold: number;

  constructor(options: { beta?: number; threshold?: number } = {}) {
    super();
    this.beta = options.beta ?? 1;
    this.threshold = options.threshold ?? 20;
  }

  forward(x: Tensor): Tensor {
    return F.softplus(x, { beta: this.beta, threshold: this.threshold });
  }

  override describe(): string {
    return `Softplus(${describeOptions({ beta: this.beta, threshold: this.threshold })})`;
  }
}

/** x kept between `minVal` and `maxVal`. */
export class Hardtanh extends Module {
  readonly minVal: number;
  readonly maxVal: number;

  constructor(options: { minVal?: number; maxVal?: number } = {}) {
    super();
    this.minVal = options.minVal ?? -1;
    this.maxVal = options.maxVal ?? 1;
  }

  forward(x: Tensor): Tensor {
    return F.hardtanh(x, { minVal: this.minVal, maxVal: this.maxVal });
  }

  override describe(): string {
    return `Hardtanh(${describeOptions({ minVal: this.minVal, maxVal: this.maxVal })})`;
  }
}

/** x above `threshold`, else `value`. */
export class Threshold extends Module {
  readonly threshold: number;
  readonly value: number;

  constructor(threshold: number, value: number) {
    super();
    this.threshold = threshold;
    this.value = value;
  }

  forward(x: Tensor): Tensor {
    return F.threshold(x, this.threshold, this.value);
  }

  override describe(): string {
    return `Threshold(threshold=${this.threshold}, value=${this.value})`;
  }
}

/** softmax over the channels at each place of [batch, channels, height, width]. */
export class Softmax2d extends Module {
  forward(x: Tensor): Tensor {
    if (x.ndim !== 3 && x.ndim !== 4) {
      throw new ShapeError(`takes [.., channels, height, width], got ${formatShape(x.shape)}`, {
        op: 'nn.Softmax2d',
      });
    }
    return F.softmax(x, -3);
  }
}

/**
 * Leaky ReLU whose slopes are drawn from [lower, upper] for each element in training, and are their
 * mean in evaluation (Xu et al. 2015).
 */
export class RReLU extends Module {
  readonly lower: number;
  readonly upper: number;

  constructor(options: { lower?: number; upper?: number } = {}) {
    super();
    this.lower = options.lower ?? 1 / 8;
    this.upper = options.upper ?? 1 / 3;
  }

  forward(x: Tensor): Tensor {
    return F.rrelu(x, { lower: this.lower, upper: this.upper, training: this.training });
  }

  override describe(): string {
    return `RReLU(${describeOptions({ lower: this.lower, upper: this.upper })})`;
  }
}

/** Leaky ReLU whose slopes are trained, one or one per channel (He et al. 2015). */
export class PReLU extends Module {
  readonly weight: Parameter;
  readonly #initial: number;

  constructor(options: { numParameters?: number; init?: number } = {}) {
    super();
    this.#initial = options.init ?? 0.25;
    this.weight = newParameter([options.numParameters ?? 1], this.#initial);
  }

  /** All slopes as at the start. */
  resetParameters(): void {
    init.constant(this.weight, this.#initial);
  }

  forward(x: Tensor): Tensor {
    return F.prelu(x, this.weight);
  }

  override describe(): string {
    return `PReLU(numParameters=${this.weight.size})`;
  }
}
