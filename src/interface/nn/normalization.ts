// Normalization layers: batch, layer, group, instance, RMS, local response.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import * as F from '../functional/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { describeOptions, newBuffer, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Buffer, Parameter } from './parameter.ts';

export interface BatchNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Weight of the present batch in the running statistics, default 0.1; null for a plain mean. */
  readonly momentum?: number | null;
  /** Whether there are a weight and a bias per channel. */
  readonly affine?: boolean;
  /** Whether statistics of the training are kept and used in evaluation. */
  readonly trackRunningStats?: boolean;
}

/** What batch and instance normalization share. */
abstract class ChannelNorm extends Module {
  readonly numFeatures: number;
  readonly eps: number;
  /** May be changed, as PyTorch's. */
  momentum: number | null;
  readonly affine: boolean;
  readonly trackRunningStats: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly runningMean: Buffer | null;
  readonly runningVar: Buffer | null;
  readonly numBatchesTracked: Buffer | null;

  constructor(numFeatures: number, options: Required<BatchNormOptions>) {
    super();
    const { eps, momentum, affine, trackRunningStats } = options;
    this.numFeatures = checkInteger(`nn.${this.constructor.name}`, 'numFeatures', numFeatures, 1);
    this.eps = eps;
    this.momentum = momentum;
    this.affine = affine;
    this.trackRunningStats = trackRunningStats;
    this.weight = affine ? newParameter([numFeatures], 1) : null;
    this.bias = affine ? newParameter([numFeatures]) : null;
    this.runningMean = trackRunningStats ? newBuffer([numFeatures]) : null;
    this.runningVar = trackRunningStats ? newBuffer([numFeatures], 1) : null;
    this.numBatchesTracked = trackRunningStats ? newBuffer([], 0, 'int32') : null;
  }

  /** Forgets the statistics seen so far. */
  resetRunningStats(): void {
    if (this.runningMean !== null) init.zeros(this.runningMean);
    if (this.runningVar !== null) init.ones(this.runningVar);
    if (this.numBatchesTracked !== null) init.zeros(this.numBatchesTracked);
  }

  /** Weight 1, bias 0, statistics forgotten. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
    this.resetRunningStats();
  }

  /** Throws ShapeError unless the input has one of these numbers of axes, and the channels. */
  protected check(x: Tensor, dimensions: readonly number[], channelAxis: number): void {
    const op = `nn.${this.constructor.name}`;
    if (!dimensions.includes(x.ndim)) {
      throw new ShapeError(
        `expected ${dimensions.join(' or ')} axes, got ${formatShape(x.shape)}`,
        { op },
      );
    }
    const channels = x.shape[channelAxis];
    if (channels !== this.numFeatures) {
      throw new ShapeError(
        `axis ${channelAxis} of ${formatShape(x.shape)} has ${channels} channels, expected ${this.numFeatures}`,
        { op },
      );
    }
  }

  /** Counts this batch; the weight that it gets in the running statistics. */
  protected countBatch(): number {
    const count = this.numBatchesTracked;
    if (count === null || !this.training) return this.momentum ?? 0;
    if (this.momentum !== null) {
      withoutTracking(() => count.assign(count.add(1)));
      return this.momentum;
    }
    // A plain mean over batches weighs the n-th by 1 / n: the count must be known at once.
    const batches = count.itemSync() + 1;
    count.setData([batches]);
    return 1 / batches;
  }

  override describe(): string {
    const { numFeatures, eps, momentum, affine, trackRunningStats } = this;
    const options = describeOptions({ eps, momentum, affine, trackRunningStats });
    return `${this.constructor.name}(${numFeatures}, ${options})`;
  }
}

/** Batch normalization (Ioffe and Szegedy 2015): over all axes but the channels, axis 1. */
abstract class BatchNorm extends ChannelNorm {
  constructor(numFeatures: number, options: BatchNormOptions) {
    super(numFeatures, {
      eps: 1e-5,
      momentum: 0.1,
      affine: true,
      trackRunningStats: true,
      ...options,
    });
  }

  protected abstract readonly dimensions: readonly number[];
  /** See SyncBatchNorm. */
  protected allReduce: ((sums: Tensor) => Tensor) | null = null;

  forward(x: Tensor): Tensor {
    this.check(x, this.dimensions, 1);
    const { weight, bias, runningMean, runningVar, eps, allReduce } = this;
    // Without running statistics those of the batch are used in evaluation too.
    const training = this.training || runningMean === null;
    const momentum = this.countBatch();
    const options = { weight, bias, training, momentum, eps, allReduce };
    return F.batchNorm(x, runningMean, runningVar, options);
  }
}

/** Batch normalization of [batch, channels] or [batch, channels, length]. */
export class BatchNorm1d extends BatchNorm {
  protected readonly dimensions = [2, 3];
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

/**
 * Batch normalization of [batch, channels, height, width]. In training mode it normalizes with the
 * batch's own statistics and moves the running ones; in evaluation it uses those.
 *
 * @example
 * const layer = new BatchNorm2d(3);
 * Object.keys(layer.stateDict());
 * // => ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
 * layer.forward(zeros([4, 3, 8, 8])).shape; // => [4, 3, 8, 8]
 */
export class BatchNorm2d extends BatchNorm {
  protected readonly dimensions = [4];
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

/** Batch normalization of [batch, channels, depth, height, width]. */
export class BatchNorm3d extends BatchNorm {
  protected readonly dimensions = [5];
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

export interface SyncBatchNormOptions extends BatchNormOptions {
  /** Adds a tensor up over all processes, with a gradient: see `F.batchNorm`. */
  readonly allReduce?: ((sums: Tensor) => Tensor) | null;
}

/**
 * Batch normalization of [batch, channels, ...] whose statistics are those of the batches of all processes
 * that train together: `allReduce` adds a tensor up over them. Without it, it is a batch normalization.
 * Its state is that of BatchNorm2d.
 *
 * @example
 * // Two processes with the same batch: the sums are twice those of one.
 * const layer = new nn.SyncBatchNorm(1, { allReduce: (sums) => sums.mul(2), eps: 0 });
 * layer.forward(tensor([[1], [3]])); // => [[-1], [1]]
 */
export class SyncBatchNorm extends BatchNorm {
  protected readonly dimensions = [2, 3, 4, 5];
  constructor(numFeatures: number, options: SyncBatchNormOptions = {}) {
    const { allReduce = null, ...rest } = options;
    super(numFeatures, rest);
    this.allReduce = allReduce;
  }

  /** Puts one in the place of each batch normalization of a model, with its parameters. Returns the model. */
  static convert<M extends Module>(
    model: M,
    allReduce?: (sums: Tensor) => Tensor,
  ): M | SyncBatchNorm {
    if (model instanceof BatchNorm && !(model instanceof SyncBatchNorm)) {
      const { numFeatures, eps, momentum, affine, trackRunningStats } = model;
      const options = { eps, momentum, affine, trackRunningStats, allReduce: allReduce ?? null };
      const { weight, bias, runningMean, runningVar, numBatchesTracked, training } = model;
      const state = { weight, bias, runningMean, runningVar, numBatchesTracked, training };
      return Object.assign(new SyncBatchNorm(numFeatures, options), state);
    }
    for (const [name, child] of model.namedChildren()) {
      const converted = SyncBatchNorm.convert(child, allReduce);
      if (converted !== child) model.setSubmodule(name, converted);
    }
    return model;
  }
}

/** Instance normalization (Ulyanov et al. 2016): over the spatial axes of each image and channel. */
abstract class InstanceNorm extends ChannelNorm {
  constructor(numFeatures: number, options: BatchNormOptions) {
    super(numFeatures, {
      eps: 1e-5,
      momentum: 0.1,
      affine: false,
      trackRunningStats: false,
      ...options,
    });
  }

  protected abstract readonly spatialAxes: number;

  forward(x: Tensor): Tensor {
    const batched = x.ndim !== this.spatialAxes + 1;
    this.check(x, [this.spatialAxes + 1, this.spatialAxes + 2], batched ? 1 : 0);
    const { weight, bias, runningMean, runningVar, eps } = this;
    const useInputStats = this.training || runningMean === null;
    const momentum = this.countBatch();
    const input = batched ? x : x.unsqueeze(0);
    const options = { weight, bias, useInputStats, momentum, eps };
    const y = F.instanceNorm(input, runningMean, runningVar, options);
    return batched ? y : y.squeeze(0);
  }
}

/** Instance normalization of [batch, channels, length] or without batch. */
export class InstanceNorm1d extends InstanceNorm {
  protected readonly spatialAxes = 1;
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

/** Instance normalization of [batch, channels, height, width] or without batch. */
export class InstanceNorm2d extends InstanceNorm {
  protected readonly spatialAxes = 2;
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

/** Instance normalization of [batch, channels, depth, height, width] or without batch. */
export class InstanceNorm3d extends InstanceNorm {
  protected readonly spatialAxes = 3;
  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super(numFeatures, options);
  }
}

function lastAxes(op: string, shape: number | readonly number[]): readonly number[] {
  const list = Array.isArray(shape) ? (shape as readonly number[]) : [shape as number];
  if (list.length === 0) throw new ArgumentError('normalizedShape has no axes', { op });
  for (const size of list) checkInteger(op, 'normalizedShape', size, 1);
  return list;
}

export interface LayerNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Whether there is a weight per element (and a bias). */
  readonly elementwiseAffine?: boolean;
  /** Whether there is a bias beside the weight; default true. */
  readonly bias?: boolean;
}

/**
 * Layer normalization (Ba et al. 2016) over the last axes.
 *
 * @example
 * new LayerNorm([3, 4]).forward(zeros([2, 3, 4])).shape; // => [2, 3, 4]
 */
export class LayerNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number;
  readonly elementwiseAffine: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  constructor(normalizedShape: number | readonly number[], options: LayerNormOptions = {}) {
    super();
    const { eps = 1e-5, elementwiseAffine = true, bias = true } = options;
    this.normalizedShape = lastAxes('nn.LayerNorm', normalizedShape);
    this.eps = eps;
    this.elementwiseAffine = elementwiseAffine;
    this.weight = elementwiseAffine ? newParameter(this.normalizedShape, 1) : null;
    this.bias = elementwiseAffine && bias ? newParameter(this.normalizedShape) : null;
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
  }

  forward(x: Tensor): Tensor {
    const { normalizedShape, weight, bias, eps } = this;
    return F.layerNorm(x, normalizedShape, { weight, bias, eps });
  }

  override describe(): string {
    const { normalizedShape, eps, elementwiseAffine } = this;
    return `LayerNorm([${normalizedShape.join(', ')}], ${describeOptions({ eps, elementwiseAffine })})`;
  }
}

export interface GeneralNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Whether there are a weight and a bias of the normalized shape; default true. */
  readonly affine?: boolean;
  /** Axes that are normalized together, negative ones from the end; default those of the shape, at the end. */
  readonly axes?: number | readonly number[];
}

/**
 * Normalization over any axes: see `F.generalNorm`. `normalizedShape` has their sizes, in their order.
 *
 * @example
 * const layer = new nn.GeneralNorm([3, 5], { axes: [1, 3] });
 * layer.forward(zeros(2, 3, 4, 5)).shape; // => [2, 3, 4, 5]
 */
export class GeneralNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly axes: readonly number[];
  readonly eps: number;
  readonly affine: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  constructor(normalizedShape: number | readonly number[], options: GeneralNormOptions = {}) {
    super();
    const op = 'nn.GeneralNorm';
    const { eps = 1e-5, affine = true } = options;
    this.normalizedShape = lastAxes(op, normalizedShape);
    const rank = this.normalizedShape.length;
    const { axes = this.normalizedShape.map((_, at) => at - rank) } = options;
    this.axes = Array.isArray(axes) ? (axes as readonly number[]) : [axes as number];
    if (this.axes.length !== rank) {
      throw new ArgumentError(`${this.axes.length} axes for ${rank} size(s)`, { op });
    }
    this.eps = eps;
    this.affine = affine;
    this.weight = affine ? newParameter(this.normalizedShape, 1) : null;
    this.bias = affine ? newParameter(this.normalizedShape) : null;
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
  }

  forward(x: Tensor): Tensor {
    const { axes, normalizedShape, weight, bias, eps } = this;
    const sizes = axes.map((axis) => x.shape.at(axis));
    if (sizes.some((size, at) => size !== undefined && size !== normalizedShape[at])) {
      throw new ShapeError(
        `axes [${axes.join(', ')}] of ${formatShape(x.shape)} are not ${formatShape(normalizedShape)}`,
        { op: 'nn.GeneralNorm' },
      );
    }
    return F.generalNorm(x, axes, { weight, bias, eps });
  }

  override describe(): string {
    const { normalizedShape, axes, eps, affine } = this;
    return `GeneralNorm([${normalizedShape.join(', ')}], axes=[${axes.join(', ')}], ${describeOptions({ eps, affine })})`;
  }
}

export interface RMSNormOptions {
  /** Added to the mean square; by default the precision of the dtype, as in PyTorch. */
  readonly eps?: number | null;
  readonly elementwiseAffine?: boolean;
}

/** Root-mean-square normalization (Zhang and Sennrich 2019) over the last axes. */
export class RMSNorm extends Module {
  readonly normalizedShape: readonly number[];
  readonly eps: number | null;
  readonly elementwiseAffine: boolean;
  readonly weight: Parameter | null;

  constructor(normalizedShape: number | readonly number[], options: RMSNormOptions = {}) {
    super();
    const { eps = null, elementwiseAffine = true } = options;
    this.normalizedShape = lastAxes('nn.RMSNorm', normalizedShape);
    this.eps = eps;
    this.elementwiseAffine = elementwiseAffine;
    this.weight = elementwiseAffine ? newParameter(this.normalizedShape, 1) : null;
  }

  /** Weight 1. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
  }

  forward(x: Tensor): Tensor {
    const { normalizedShape, weight, eps } = this;
    return F.rmsNorm(x, normalizedShape, { weight, ...(eps === null ? {} : { eps }) });
  }

  override describe(): string {
    const { normalizedShape, eps, elementwiseAffine } = this;
    return `RMSNorm([${normalizedShape.join(', ')}], ${describeOptions({ eps, elementwiseAffine })})`;
  }
}

export interface GroupNormOptions {
  /** Added to the variance; default 1e-5. */
  readonly eps?: number;
  /** Whether there are a weight and a bias per channel. */
  readonly affine?: boolean;
}

/** Group normalization (Wu and He 2018): channels in groups, over all of a group's elements. */
export class GroupNorm extends Module {
  readonly numGroups: number;
  readonly numChannels: number;
  readonly eps: number;
  readonly affine: boolean;
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;

  constructor(numGroups: number, numChannels: number, options: GroupNormOptions = {}) {
    super();
    const { eps = 1e-5, affine = true } = options;
    this.numGroups = checkInteger('nn.GroupNorm', 'numGroups', numGroups, 1);
    this.numChannels = checkInteger('nn.GroupNorm', 'numChannels', numChannels, 1);
    if (numChannels % numGroups !== 0) {
      throw new ArgumentError(`${numGroups} groups do not divide ${numChannels} channels`, {
        op: 'nn.GroupNorm',
      });
    }
    this.eps = eps;
    this.affine = affine;
    this.weight = affine ? newParameter([numChannels], 1) : null;
    this.bias = affine ? newParameter([numChannels]) : null;
  }

  /** Weight 1, bias 0. */
  resetParameters(): void {
    if (this.weight !== null) init.ones(this.weight);
    if (this.bias !== null) init.zeros(this.bias);
  }

  forward(x: Tensor): Tensor {
    const { numGroups, weight, bias, eps } = this;
    return F.groupNorm(x, numGroups, { weight, bias, eps });
  }

  override describe(): string {
    const { numGroups, numChannels, eps, affine } = this;
    return `GroupNorm(${numGroups}, ${numChannels}, ${describeOptions({ eps, affine })})`;
  }
}

export interface LocalResponseNormOptions {
  /** Default 1e-4. */
  readonly alpha?: number;
  /** Default 0.75. */
  readonly beta?: number;
  /** Default 1. */
  readonly k?: number;
}

/** Divides by the activity of `size` neighbouring channels (Krizhevsky et al. 2012). */
export class LocalResponseNorm extends Module {
  readonly size: number;
  readonly alpha: number;
  readonly beta: number;
  readonly k: number;

  constructor(size: number, options: LocalResponseNormOptions = {}) {
    super();
    this.size = checkInteger('nn.LocalResponseNorm', 'size', size, 1);
    this.alpha = options.alpha ?? 1e-4;
    this.beta = options.beta ?? 0.75;
    this.k = options.k ?? 1;
  }

  forward(x: Tensor): Tensor {
    const { size, alpha, beta, k } = this;
    return F.localResponseNorm(x, size, { alpha, beta, k });
  }

  override describe(): string {
    const { size, alpha, beta, k } = this;
    return `LocalResponseNorm(${size}, ${describeOptions({ alpha, beta, k })})`;
  }
}
