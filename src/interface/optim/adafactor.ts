// Adafactor: second moments of a matrix kept as those of its rows and columns.
import type { Shape } from '../../base/shape.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type AdafactorOptions = {
  /** The largest relative step. */
  lr: number;
  /** The weight of the past is 1 - step ** beta2Decay. */
  beta2Decay: number;
  /** Least value of squares; 0 is the precision of the dtype. */
  eps1: number;
  /** Least size of a parameter that steps are relative to. */
  eps2: number;
  /** Updates of a greater root mean square are scaled down to it. */
  clipThreshold: number;
  weightDecay: number;
  maximize: boolean;
};

const EPSILON32 = 2 ** -23;
const EPSILON64 = 2 ** -52;

/** Sizes of the two factors: the rows' and the columns' moments, kept as [.., n, 1] and [.., 1, m]. */
function factorShape(shape: Shape, name: string): Shape {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const lead = shape.slice(0, -2);
  return name === 'rowVar' ? [...lead, rows, 1] : [...lead, 1, columns];
}

/**
 * Adafactor (Shazeer and Stern 2018) as PyTorch has it: no momentum, steps relative to the size of
 * the parameter. For a weight [n, m] the state is n + m numbers.
 *
 * @example
 * const w = new nn.Parameter(ones([64, 32]));
 * const adafactor = new Adafactor([w]);
 * w.sum().backward();
 * adafactor.step();
 * Object.values(adafactor.stateDict().state[0] ?? {}).map((x) => (typeof x === 'number' ? x : x.size)); // => [1, 64, 32]
 */
export class Adafactor extends Optimizer<AdafactorOptions> {
  static override readonly name = 'Adafactor';

  constructor(parameters: Parameters<AdafactorOptions>, options: Partial<AdafactorOptions> = {}) {
    super(
      parameters,
      {
        lr: 1e-2,
        beta2Decay: -0.8,
        eps1: 0,
        eps2: 1e-3,
        clipThreshold: 1,
        weightDecay: 0,
        maximize: false,
      },
      options,
    );
  }

  protected override stateShape(param: Tensor, name: string): Shape {
    return name === 'rowVar' || name === 'colVar' ? factorShape(param.shape, name) : param.shape;
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<AdafactorOptions>): void {
    const { lr, eps2, clipThreshold, weightDecay } = group;
    const eps1 =
      group.eps1 === 0 ? (param.dtype === 'float64' ? EPSILON64 : EPSILON32) : group.eps1;
    const direction = group.maximize ? grad.neg() : grad;
    const variance = this.#variance(param, direction, group.beta2Decay, eps1);
    const update = variance
      .maximum(eps1 * eps1)
      .rsqrt()
      .mul(direction);
    const size = param.square().mean().sqrt().maximum(slot(eps2, param));
    const excess = update.square().mean().sqrt().div(slot(clipThreshold, param)).maximum(1);
    const largest = this.counted(param, (math, step) =>
      math.minimum(lr, math.div(1, math.sqrt(step))),
    );
    const rate = size.mul(largest).div(excess);
    const kept = this.counted(param, (math) => math.sub(1, math.mul(lr, weightDecay)));
    const shrunk = param.mul(kept);
    this.assign(param, shrunk.sub(update.mul(rate)));
  }

  /** The mean of squared gradients, estimated from those of rows and columns where there are some. */
  #variance(param: Tensor, direction: Tensor, decay: number, eps1: number): Tensor {
    const share = this.counted(param, (math, step) => math.raise(step, decay));
    const kept = this.counted(param, (math, step) => math.sub(1, math.raise(step, decay)));
    const squares = direction.square();
    const moved = (name: string, value: Tensor): Tensor => {
      const state = this.stateOf(param, name);
      const next = state.mul(kept).add(value.mul(share));
      this.setState(state, next);
      return next;
    };
    if (param.ndim < 2) return moved('variance', squares);
    const rows = moved('rowVar', squares.mean(-1, { keepdims: true }));
    const columns = moved('colVar', squares.mean(-2, { keepdims: true }));
    const mean = rows.mean(-2, { keepdims: true }).maximum(eps1);
    return rows.mul(columns).div(mean);
  }
}
