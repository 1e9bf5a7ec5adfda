// Dropout (Srivastava et al. 2014): of elements, and of whole channels.
import { checkNumber } from '../../base/checks.ts';
import * as F from '../functional/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { Module } from './module.ts';

abstract class DropoutBase extends Module {
  /** Probability of being dropped. */
  readonly p: number;

  constructor(p = 0.5) {
    super();
    this.p = checkNumber(`nn.${this.constructor.name}`, 'p', p, [0, 1]);
  }

  override describe(): string {
    return `${this.constructor.name}(p=${this.p})`;
  }
}

/**
 * In training, drops each element with probability `p` and scales the others by 1 / (1 - p); in
 * evaluation it does nothing.
 *
 * @example
 * const layer = new Dropout(0.5).eval();
 * layer.forward(ones([2])); // => [1, 1]
 */
export class Dropout extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.dropout(x, { p: this.p, training: this.training });
  }
}

/** Drops whole channels of [batch, channels, length]. */
export class Dropout1d extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.dropout1d(x, { p: this.p, training: this.training });
  }
}

/** Drops whole channels of [batch, channels, height, width]. */
export class Dropout2d extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.dropout2d(x, { p: this.p, training: this.training });
  }
}

/** Drops whole channels of [batch, channels, depth, height, width]. */
export class Dropout3d extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.dropout3d(x, { p: this.p, training: this.training });
  }
}

/** Dropout that keeps mean and variance of self-normalizing activations (Klambauer et al. 2017). */
export class AlphaDropout extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.alphaDropout(x, { p: this.p, training: this.training });
  }
}

/** As `AlphaDropout`, of whole channels of [batch, channels, ...]. */
export class FeatureAlphaDropout extends DropoutBase {
  forward(x: Tensor): Tensor {
    return F.featureAlphaDropout(x, { p: this.p, training: this.training });
  }
}
