// Linear, Bilinear, and the layers that only reshape: Identity, Flatten, Unflatten.
import * as F from '../functional/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

/** Gives back what it gets. */
export class Identity extends Module {
  forward(x: Tensor): Tensor {
    return x;
  }
}

export interface LinearOptions {
  /** Whether there is an additive bias; default true. */
  readonly bias?: boolean;
}

/**
 * `x @ weight.T + bias` over the last axis. Weight [outFeatures, inFeatures], uniform within
 * 1 / sqrt(inFeatures), as is the bias.
 *
 * @example
 * const layer = new Linear(3, 2);
 * layer.forward(zeros([5, 3])).shape; // => [5, 2]
 * String(layer); // => 'Linear(inFeatures=3, outFeatures=2, bias=true)'
 */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super();
    this.inFeatures = checkInteger('nn.Linear', 'inFeatures', inFeatures, 0);
    this.outFeatures = checkInteger('nn.Linear', 'outFeatures', outFeatures, 0);
    this.weight = newParameter([outFeatures, inFeatures]);
    this.bias = options.bias === false ? null : newParameter([outFeatures]);
    this.resetParameters();
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    init.resetWeightAndBias(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    return F.linear(x, this.weight, this.bias);
  }

  override describe(): string {
    const { inFeatures, outFeatures, bias } = this;
    return `Linear(inFeatures=${inFeatures}, outFeatures=${outFeatures}, bias=${bias !== null})`;
  }
}

/** `x1 @ weight[k] @ x2 + bias[k]` for each output k. Weight [outFeatures, in1Features, in2Features]. */
export class Bilinear extends Module {
  readonly in1Features: number;
  readonly in2Features: number;
  readonly outFeatures: number;
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(
    in1Features: number,
    in2Features: number,
    outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    this.in1Features = checkInteger('nn.Bilinear', 'in1Features', in1Features, 1);
    this.in2Features = checkInteger('nn.Bilinear', 'in2Features', in2Features, 1);
    this.outFeatures = checkInteger('nn.Bilinear', 'outFeatures', outFeatures, 0);
    this.weight = newParameter([outFeatures, in1Features, in2Features]);
    this.bias = options.bias === false ? null : newParameter([outFeatures]);
    this.resetParameters();
  }

  /** Draws weight and bias anew. */
  resetParameters(): void {
    const bound = 1 / Math.sqrt(this.in1Features);
    init.uniform(this.weight, -bound, bound);
    if (this.bias !== null) init.uniform(this.bias, -bound, bound);
  }

  forward(x1: Tensor, x2: Tensor): Tensor {
    return F.bilinear(x1, x2, this.weight, this.bias);
  }

  override describe(): string {
    const { in1Features, in2Features, outFeatures, bias } = this;
    return `Bilinear(in1Features=${in1Features}, in2Features=${in2Features}, outFeatures=${outFeatures}, bias=${bias !== null})`;
  }
}

/**
 * Joins the axes from `startAxis` to `endAxis` into one; by default all but the batch.
 *
 * @example
 * new Flatten().forward(zeros([2, 3, 4])).shape; // => [2, 12]
 */
export class Flatten extends Module {
  readonly startAxis: number;
  readonly endAxis: number;

  constructor(startAxis = 1, endAxis = -1) {
    super();
    this.startAxis = startAxis;
    this.endAxis = endAxis;
  }

  forward(x: Tensor): Tensor {
    return x.flatten(this.startAxis, this.endAxis);
  }

  override describe(): string {
    return `Flatten(startAxis=${this.startAxis}, endAxis=${this.endAxis})`;
  }
}

/**
 * Splits an axis into several; one size may be -1.
 *
 * @example
 * new Unflatten(1, [3, -1]).forward(zeros([2, 12])).shape; // => [2, 3, 4]
 */
export class Unflatten extends Module {
  readonly axis: number;
  readonly sizes: readonly number[];

  constructor(axis: number, sizes: readonly number[]) {
    super();
    this.axis = axis;
    this.sizes = sizes;
  }

  forward(x: Tensor): Tensor {
    return x.unflatten(this.axis, this.sizes);
  }

  override describe(): string {
    return `Unflatten(axis=${this.axis}, sizes=[${this.sizes.join(', ')}])`;
  }
}
