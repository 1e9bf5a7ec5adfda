// Similarities and distances as modules, and pooling by p-norms.
import * as F from '../functional/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { describeOptions } from './create.ts';
import { Module } from './module.ts';

/** Cosine of the angle between vectors along `axis` (default 1). */
export class CosineSimilarity extends Module {
  readonly axis: number;
  readonly eps: number;

  constructor(options: { axis?: number; eps?: number } = {}) {
    super();
    this.axis = options.axis ?? 1;
    this.eps = options.eps ?? 1e-8;
  }

  forward(x1: Tensor, x2: Tensor): Tensor {
    return F.cosineSimilarity(x1, x2, { axis: this.axis, eps: this.eps });
  }

  override describe(): string {
    return `CosineSimilarity(${describeOptions({ axis: this.axis, eps: this.eps })})`;
  }
}

/** The p-norm of x1 - x2 + eps along the last axis. */
export class PairwiseDistance extends Module {
  readonly #options: F.PairwiseDistanceOptions;

  constructor(options: F.PairwiseDistanceOptions = {}) {
    super();
    this.#options = options;
  }

  forward(x1: Tensor, x2: Tensor): Tensor {
    return F.pairwiseDistance(x1, x2, this.#options);
  }

  override describe(): string {
    return `PairwiseDistance(${describeOptions({ ...this.#options })})`;
  }
}

type PoolOptions = NonNullable<Parameters<typeof F.lpPool1d>[3]>;
type PoolSize = Parameters<typeof F.lpPool1d>[2];

abstract class LPPool extends Module {
  readonly normType: number;
  readonly kernelSize: PoolSize;
  protected readonly options: PoolOptions;

  constructor(normType: number, kernelSize: PoolSize, options: PoolOptions = {}) {
    super();
    this.normType = normType;
    this.kernelSize = kernelSize;
    this.options = options;
  }

  override describe(): string {
    const { normType, kernelSize, options } = this;
    const text = describeOptions({ normType, kernelSize, ...options });
    return `${this.constructor.name}(${text})`;
  }
}

/** Sums of p-th powers over windows of [.., channels, length], and the p-th root. */
export class LPPool1d extends LPPool {
  forward(x: Tensor): Tensor {
    return F.lpPool1d(x, this.normType, this.kernelSize, this.options);
  }
}

/** Sums of p-th powers over windows of [.., channels, height, width], and the p-th root. */
export class LPPool2d extends LPPool {
  forward(x: Tensor): Tensor {
    return F.lpPool2d(x, this.normType, this.kernelSize, this.options);
  }
}
