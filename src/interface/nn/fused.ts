// Layers that belong together when a model is made for inference or quantized: convolution or linear,
// batch normalization, ReLU; the operations that such models name; and folding a normalization.
import { checkOption } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import * as F from '../functional/index.ts';
import type { Sizes } from '../functional/windows.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { add, div, logaddexp, maximum, minimum, mul, pow, sub } from '../tensor/arithmetic.ts';
import { cat } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { abs, ceil, cos, exp, floor, log, neg, round, sin, sqrt } from '../tensor/unary.ts';
import {
  Conv1d,
  Conv2d,
  Conv3d,
  type ConvOptions,
  ConvTranspose2d,
  type ConvTransposeOptions,
} from './convolution.ts';
import { newParameter } from './create.ts';
import * as init from './init.ts';
import { Linear, type LinearOptions } from './linear.ts';
import { Module } from './module.ts';
import {
  BatchNorm1d,
  BatchNorm2d,
  type BatchNorm3d,
  type BatchNormOptions,
} from './normalization.ts';
import type { Parameter } from './parameter.ts';

/** `Conv2d`, then ReLU. Parameters have the names of `Conv2d`. */
export class ConvRelu2d extends Conv2d {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

/** `ConvTranspose2d`, then ReLU. Parameters have the names of `ConvTranspose2d`. */
export class ConvTransposeRelu2d extends ConvTranspose2d {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

/** `Linear`, then ReLU. Parameters have the names of `Linear`. */
export class LinearRelu extends Linear {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

/** A layer, and the normalization of what it gives. */
interface Normalized {
  readonly norm?: BatchNormOptions;
}

/**
 * `Conv2d` as `conv`, then `BatchNorm2d` as `bn`: options are those of the convolution, and `norm` those
 * of the normalization.
 *
 * @example
 * const layer = new ConvBn2d(3, 8, 3, { padding: 1, bias: false, norm: { eps: 1e-3 } });
 * layer.forward(zeros([2, 3, 4, 4])).shape; // => [2, 8, 4, 4]
 * Object.keys(layer.stateDict()).slice(0, 3); // => ['conv.weight', 'bn.weight', 'bn.bias']
 */
export class ConvBn2d extends Module {
  readonly conv: Conv2d;
  readonly bn: BatchNorm2d;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvOptions & Normalized = {},
  ) {
    super();
    const { norm = {}, ...own } = options;
    this.conv = new Conv2d(inChannels, outChannels, kernelSize, own);
    this.bn = new BatchNorm2d(outChannels, norm);
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x));
  }
}

/** As `ConvBn2d`, then ReLU. */
export class ConvBnRelu2d extends ConvBn2d {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

/** `ConvTranspose2d` as `conv`, then `BatchNorm2d` as `bn`, with options as `ConvBn2d`. */
export class ConvTransposeBn2d extends Module {
  readonly conv: ConvTranspose2d;
  readonly bn: BatchNorm2d;

  constructor(
    inChannels: number,
    outChannels: number,
    kernelSize: Sizes,
    options: ConvTransposeOptions & Normalized = {},
  ) {
    super();
    const { norm = {}, ...own } = options;
    this.conv = new ConvTranspose2d(inChannels, outChannels, kernelSize, own);
    this.bn = new BatchNorm2d(outChannels, norm);
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x));
  }
}

/** As `ConvTransposeBn2d`, then ReLU. */
export class ConvTransposeBnRelu2d extends ConvTransposeBn2d {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

/** `Linear` as `linear`, then `BatchNorm1d` as `bn`. */
export class LinearBn1d extends Module {
  readonly linear: Linear;
  readonly bn: BatchNorm1d;

  constructor(inFeatures: number, outFeatures: number, options: LinearOptions & Normalized = {}) {
    super();
    const { norm = {}, ...own } = options;
    this.linear = new Linear(inFeatures, outFeatures, own);
    this.bn = new BatchNorm1d(outFeatures, norm);
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.linear.forward(x));
  }
}

/** As `LinearBn1d`, then ReLU. */
export class LinearBnRelu1d extends LinearBn1d {
  override forward(x: Tensor): Tensor {
    return F.relu(super.forward(x));
  }
}

export interface BatchMatMulOptions {
  /** Whether there is an additive bias; default true. */
  readonly bias?: boolean;
  /** Applied at the end; default identity. */
  readonly nonlinearity?: 'identity' | 'relu';
}

/**
 * `weight @ x + bias` with a matrix of its own for each place of the batch: weight
 * [batch, outFeatures, inFeatures], bias [1, outFeatures, 1], x [batch, inFeatures, n].
 *
 * @example
 * new BatchMatMulActivation(2, 3, 4).forward(zeros([2, 3, 5])).shape; // => [2, 4, 5]
 */
export class BatchMatMulActivation extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly nonlinearity: 'identity' | 'relu';

  constructor(
    batch: number,
    inFeatures: number,
    outFeatures: number,
    options: BatchMatMulOptions = {},
  ) {
    super();
    const op = 'nn.BatchMatMulActivation';
    const { bias = true, nonlinearity = 'identity' } = options;
    checkOption(op, 'nonlinearity', nonlinearity, ['identity', 'relu']);
    checkInteger(op, 'batch', batch, 1);
    checkInteger(op, 'inFeatures', inFeatures, 1);
    checkInteger(op, 'outFeatures', outFeatures, 1);
    this.weight = newParameter([batch, outFeatures, inFeatures]);
    this.bias = bias ? newParameter([1, outFeatures, 1]) : null;
    this.nonlinearity = nonlinearity;
    this.resetParameters();
  }

  /** Draws weight and bias anew, as `Linear` does. */
  resetParameters(): void {
    const bound = 1 / Math.sqrt(this.weight.shape[2] ?? 1);
    init.uniform(this.weight, -bound, bound);
    if (this.bias !== null) init.uniform(this.bias, -bound, bound);
  }

  forward(x: Tensor): Tensor {
    const { weight, bias } = this;
    if (x.ndim !== 3 || x.shape[0] !== weight.shape[0] || x.shape[1] !== weight.shape[2]) {
      throw new ShapeError(
        `takes [${weight.shape[0]}, ${weight.shape[2]}, n], got ${formatShape(x.shape)}`,
        { op: 'nn.BatchMatMulActivation' },
      );
    }
    const product = weight.matmul(x);
    const result = bias === null ? product : product.add(bias);
    return this.nonlinearity === 'relu' ? F.relu(result) : result;
  }
}

/** Joins tensors along an axis, as a module. */
export class Concat extends Module {
  forward(inputs: readonly Tensor[], axis = 0): Tensor {
    return cat(inputs, axis);
  }
}

type Pair = (a: Tensor, b: Tensor) => Tensor;

const OF_ONE = {
  relu: F.relu,
  abs,
  ceil,
  cos,
  exp,
  floor,
  log,
  neg,
  round,
  sigmoid: F.sigmoid,
  silu: F.silu,
  sin,
  sqrt,
  tanh: F.tanh,
  gelu: (x: Tensor): Tensor => F.gelu(x),
  hardswish: F.hardswish,
} as const;

const OF_TWO = {
  add: (a: Tensor, b: Tensor): Tensor => add(a, b),
  sub: (a: Tensor, b: Tensor): Tensor => sub(a, b),
  mul,
  div: (a: Tensor, b: Tensor): Tensor => div(a, b),
  pow,
  maximum,
  minimum,
  logaddexp,
  addRelu: (a: Tensor, b: Tensor): Tensor => F.relu(add(a, b)),
  addSigmoid: (a: Tensor, b: Tensor): Tensor => F.sigmoid(add(a, b)),
  addTanh: (a: Tensor, b: Tensor): Tensor => F.tanh(add(a, b)),
} as const;

/** What `Elemwise` can do. */
export type ElemwiseMethod = keyof typeof OF_ONE | keyof typeof OF_TWO;

/**
 * An elementwise operation as a module: of one input, or of two that broadcast.
 *
 * @example
 * new Elemwise('addRelu').forward(tensor([1, -3]), tensor([1, 1])); // => [2, 0]
 */
export class Elemwise extends Module {
  readonly method: ElemwiseMethod;

  constructor(method: ElemwiseMethod) {
    super();
    if (!Object.hasOwn(OF_ONE, method) && !Object.hasOwn(OF_TWO, method)) {
      throw new ArgumentError(`there is no method '${String(method)}'`, {
        op: 'nn.Elemwise',
        hint: [...Object.keys(OF_ONE), ...Object.keys(OF_TWO)].join(', '),
      });
    }
    this.method = method;
  }

  forward(...inputs: readonly Tensor[]): Tensor {
    const [a, b] = inputs;
    const takes = Object.hasOwn(OF_ONE, this.method) ? 1 : 2;
    if (inputs.length !== takes || a === undefined) {
      throw new ArgumentError(`${this.method} takes ${takes} tensor(s), got ${inputs.length}`, {
        op: 'nn.Elemwise',
      });
    }
    if (b === undefined) return OF_ONE[this.method as keyof typeof OF_ONE](a);
    return (OF_TWO[this.method as keyof typeof OF_TWO] as Pair)(a, b);
  }

  override describe(): string {
    return `Elemwise(${this.method})`;
  }
}

// ---- folding ----------------------------------------------------------------------------------

/** Factor and offset of each channel that a normalization in evaluation amounts to. */
function affineOf(op: string, bn: BatchNorm1d | BatchNorm2d | BatchNorm3d) {
  const { runningMean, runningVar, weight, bias, eps } = bn;
  if (runningMean === null || runningVar === null) {
    throw new ArgumentError('the normalization has no running statistics to fold', { op });
  }
  const inverse = runningVar.add(eps).rsqrt();
  const factor = weight === null ? inverse : inverse.mul(weight);
  const shift = runningMean.mul(factor).neg();
  return { factor, shift: bias === null ? shift : shift.add(bias) };
}

/** Weight and bias of a layer with the normalization behind it folded in. */
function folded(
  op: string,
  layer: { readonly weight: Tensor; readonly bias: Tensor | null },
  bn: BatchNorm1d | BatchNorm2d | BatchNorm3d,
  outputs: number,
): { weight: Tensor; bias: Tensor } {
  if (bn.numFeatures !== outputs) {
    throw new ShapeError(`${bn.numFeatures} channels are normalized, the layer has ${outputs}`, {
      op,
    });
  }
  return withoutTracking(() => {
    const { factor, shift } = affineOf(op, bn);
    const rest = layer.weight.shape.slice(1).map(() => 1);
    const weight = layer.weight.mul(factor.reshape([outputs, ...rest]));
    const bias = layer.bias === null ? shift : layer.bias.mul(factor).add(shift);
    return { weight, bias };
  });
}

/** Puts folded parts in the place of zeros. */
function setParts(
  layer: { readonly weight: Parameter; readonly bias: Parameter | null },
  { weight, bias }: { readonly weight: Tensor; readonly bias: Tensor },
): void {
  withoutTracking(() => {
    layer.weight.assign(weight);
    layer.bias?.assign(bias);
  });
}

/**
 * One convolution that does what `conv` and then `bn` do in evaluation; both stay as they are. As
 * torch.nn.utils.fusion.fuse_conv_bn_eval. Throws ArgumentError if `bn` has no running statistics.
 *
 * @example
 * const block = new ConvBn2d(2, 4, 3).eval();
 * const fused = fuseConvBnEval(block.conv, block.bn);
 * const x = ones([1, 2, 5, 5]);
 * const difference = fused.forward(x).sub(block.forward(x)).abs().max();
 * (await difference.item()) < 1e-5; // => true
 */
export function fuseConvBnEval<C extends Conv1d | Conv2d | Conv3d>(
  conv: C,
  bn: BatchNorm1d | BatchNorm2d | BatchNorm3d,
): C {
  const op = 'nn.fuseConvBnEval';
  const { inChannels, outChannels, kernelSize, ...rest } = conv;
  const { stride, padding, dilation, groups, paddingMode } = rest;
  const parts = folded(op, conv, bn, outChannels);
  const options = { stride, padding, dilation, groups, paddingMode };
  const fused = init.skip(() => {
    if (conv instanceof Conv2d) return new Conv2d(inChannels, outChannels, kernelSize, options);
    if (conv instanceof Conv1d) return new Conv1d(inChannels, outChannels, kernelSize, options);
    return new Conv3d(inChannels, outChannels, kernelSize, options);
  });
  setParts(fused, parts);
  return fused.eval() as C;
}

/**
 * One linear layer that does what `linear` and then `bn` do in evaluation; both stay as they are. As
 * torch.nn.utils.fusion.fuse_linear_bn_eval.
 */
export function fuseLinearBnEval(linear: Linear, bn: BatchNorm1d): Linear {
  const { inFeatures, outFeatures } = linear;
  const parts = folded('nn.fuseLinearBnEval', linear, bn, outFeatures);
  const fused = init.skip(() => new Linear(inFeatures, outFeatures));
  setParts(fused, parts);
  return fused.eval();
}
