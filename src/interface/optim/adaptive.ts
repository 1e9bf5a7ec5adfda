// Rates of their own for each weight, from sums or means of squared gradients: RMSprop, Adagrad,
// Adadelta.
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

/** `decay * mean + (1 - decay) * value`. */
function movingMean(mean: Tensor, value: Tensor, decay: number): Tensor {
  return mean.mul(slot(decay, mean)).add(value.mul(slot(1 - decay, mean)));
}

export type RMSpropOptions = {
  lr: number;
  /** Weight of the past in the mean of squares. */
  alpha: number;
  eps: number;
  weightDecay: number;
  momentum: number;
  /** Divide by an estimate of the deviation instead of the root mean square. */
  centered: boolean;
  maximize: boolean;
};

/** RMSprop (Hinton 2012; centred: Graves 2013), as PyTorch's. */
export class RMSprop extends Optimizer<RMSpropOptions> {
  static override readonly name = 'RMSprop';

  constructor(parameters: Parameters<RMSpropOptions>, options: Partial<RMSpropOptions> = {}) {
    super(
      parameters,
      {
        lr: 1e-2,
        alpha: 0.99,
        eps: 1e-8,
        weightDecay: 0,
        momentum: 0,
        centered: false,
        maximize: false,
      },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<RMSpropOptions>): void {
    const { lr, alpha, eps, momentum, centered } = group;
    const direction = this.direction(param, grad, group);
    const squares = this.stateOf(param, 'squareAvg');
    const square = movingMean(squares, direction.mul(direction), alpha);
    this.setState(squares, square);
    let spread = square;
    if (centered) {
      const means = this.stateOf(param, 'gradAvg');
      const mean = movingMean(means, direction, alpha);
      this.setState(means, mean);
      spread = square.sub(mean.mul(mean));
    }
    let step = direction.div(spread.sqrt().add(slot(eps, param)));
    if (momentum !== 0) {
      const buffer = this.stateOf(param, 'momentumBuffer');
      step = buffer.mul(slot(momentum, param)).add(step);
      this.setState(buffer, step);
    }
    this.assign(param, param.sub(step.mul(slot(lr, param))));
  }
}

export type AdagradOptions = {
  lr: number;
  lrDecay: number;
  weightDecay: number;
  /** What the sums of squares start from. */
  initialAccumulatorValue: number;
  eps: number;
  maximize: boolean;
};

/** Adagrad (Duchi et al. 2011), as PyTorch's. */
export class Adagrad extends Optimizer<AdagradOptions> {
  static override readonly name = 'Adagrad';

  constructor(parameters: Parameters<AdagradOptions>, options: Partial<AdagradOptions> = {}) {
    super(
      parameters,
      {
        lr: 1e-2,
        lrDecay: 0,
        weightDecay: 0,
        initialAccumulatorValue: 0,
        eps: 1e-10,
        maximize: false,
      },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdagradOptions>): void {
    const { lr, lrDecay, eps, initialAccumulatorValue } = group;
    const direction = this.direction(param, grad, group);
    const sums = this.stateOf(param, 'sum', initialAccumulatorValue);
    const sum = sums.add(direction.mul(direction));
    this.setState(sums, sum);
    const rate =
      lrDecay === 0
        ? slot(lr, param)
        : this.counted(param, (math, step) =>
            math.div(lr, math.add(1, math.mul(math.sub(step, 1), lrDecay))),
          );
    this.assign(param, param.sub(direction.div(sum.sqrt().add(slot(eps, param))).mul(rate)));
  }
}

export type AdadeltaOptions = {
  lr: number;
  /** Weight of the past in both means. */
  rho: number;
  eps: number;
  weightDecay: number;
  maximize: boolean;
};

/** Adadelta (Zeiler 2012), as PyTorch's. */
export class Adadelta extends Optimizer<AdadeltaOptions> {
  static override readonly name = 'Adadelta';

  constructor(parameters: Parameters<AdadeltaOptions>, options: Partial<AdadeltaOptions> = {}) {
    super(
      parameters,
      {
        lr: 1,
        rho: 0.9,
        eps: 1e-6,
        weightDecay: 0,
        maximize: false,
      },
      options,
    );
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdadeltaOptions>): void {
    const { lr, rho, eps } = group;
    const direction = this.direction(param, grad, group);
    const squares = this.stateOf(param, 'squareAvg');
    const deltas = this.stateOf(param, 'accDelta');
    const square = movingMean(squares, direction.mul(direction), rho);
    const scale = deltas.add(slot(eps, param)).sqrt();
    const delta = scale.div(square.add(slot(eps, param)).sqrt()).mul(direction);
    this.setState(squares, square);
    this.setState(deltas, movingMean(deltas, delta.mul(delta), rho));
    this.assign(param, param.sub(delta.mul(slot(lr, param))));
  }
}
