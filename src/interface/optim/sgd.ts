// Stochastic gradient descent, as PyTorch's torch.optim.SGD.
import { ArgumentError } from '../../base/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Optimizer, type ParameterGroup, type Parameters, slot } from './optimizer.ts';

export type SGDOptions = {
  /** Learning rate; default 1e-3. */
  lr: number;
  momentum: number;
  dampening: number;
  weightDecay: number;
  nesterov: boolean;
  /** Ascend instead of descend. */
  maximize: boolean;
};

const DEFAULTS: SGDOptions = {
  lr: 1e-3,
  momentum: 0,
  dampening: 0,
  weightDecay: 0,
  nesterov: false,
  maximize: false,
};

/**
 * `v = momentum * v + (1 - dampening) * g; w = w - lr * v`, with `g` including `weightDecay * w`.
 *
 * @example
 * ```ts
 * import { nn, optim, tensor } from 'tengen';
 *
 * const w = new nn.Parameter(tensor([1]));
 * const sgd = new optim.SGD([w], { lr: 0.5 });
 * w.mul(w).sum().backward();
 * sgd.step();
 * await w.array(); // => [0]
 * ```
 */
export class SGD extends Optimizer<SGDOptions> {
  static override readonly name = 'SGD';

  constructor(parameters: Parameters<SGDOptions>, options: Partial<SGDOptions> = {}) {
    super(parameters, DEFAULTS, options);
    for (const { nesterov, momentum, dampening } of this.paramGroups) {
      if (nesterov && (momentum === 0 || dampening !== 0)) {
        throw new ArgumentError('nesterov takes a momentum, and no dampening', { op: 'SGD' });
      }
    }
  }

  protected update(param: Tensor, grad: Tensor, group: ParameterGroup<SGDOptions>): void {
    const { lr, momentum, dampening, nesterov } = group;
    let direction = this.direction(param, grad, group);
    if (momentum !== 0) {
      const buffer = this.stateOf(param, 'momentumBuffer');
      // PyTorch starts the buffer with the first gradient itself: no dampening at step 1.
      const share =
        dampening === 0
          ? slot(1, param)
          : this.counted(param, (math, step) => math.ifGreater(step, 1, 1 - dampening, 1));
      const velocity = buffer.mul(slot(momentum, param)).add(direction.mul(share));
      direction = nesterov ? direction.add(velocity.mul(slot(momentum, param))) : velocity;
      this.setState(buffer, velocity);
    }
    this.assign(param, param.sub(direction.mul(slot(lr, param))));
  }
}
