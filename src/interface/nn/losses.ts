// Losses as modules: each calls the function of the same name with the options it was made with.
import * as F from '../functional/index.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { describeOptions, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import { Buffer, type Parameter } from './parameter.ts';

/** A loss with its options; tensors among them (class weights) are saved as buffers. */
abstract class Loss<Options extends object> extends Module {
  readonly #options: Options;
  /** Weights of classes or elements, as part of the state dict. */
  readonly weight: Buffer | null;

  constructor(options: Options) {
    super();
    this.weight = bufferOf((options as { weight?: Tensor | null }).weight);
    this.#options = options;
  }

  /** The options with the buffers in the places of the tensors they were made from. */
  protected get options(): Options {
    return this.weight === null ? this.#options : { ...this.#options, weight: this.weight };
  }

  override describe(): string {
    const plain = Object.entries(this.#options).filter(([, value]) => typeof value !== 'object');
    return `${this.constructor.name}(${describeOptions(Object.fromEntries(plain))})`;
  }
}

/** The margin of hinge losses. */
type MarginOptions = F.LossOptions & { readonly margin?: number | undefined };

function bufferOf(value: Tensor | null | undefined): Buffer | null {
  return value === undefined || value === null ? null : new Buffer(value);
}

/**
 * Negative log-likelihood of softmax scores: input [batch, classes, ...], target class indices
 * [batch, ...] or probabilities shaped as the input.
 *
 * @example
 * const loss = new CrossEntropyLoss();
 * loss.forward(tensor([[0, 0]]), tensor([1], { dtype: 'int32' })); // => 0.693
 */
export class CrossEntropyLoss extends Loss<F.CrossEntropyOptions> {
  constructor(options: F.CrossEntropyOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.crossEntropy(input, target, this.options);
  }
}

/** Negative log-likelihood: input log-probabilities [batch, classes, ...], target class indices. */
export class NLLLoss extends Loss<F.NllOptions> {
  constructor(options: F.NllOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.nllLoss(input, target, this.options);
  }
}

/**
 * Squared difference.
 *
 * @example
 * new MSELoss().forward(tensor([1, 2]), tensor([1, 4])); // => 2
 */
export class MSELoss extends Loss<F.LossOptions> {
  constructor(options: F.LossOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.mseLoss(input, target, this.options);
  }
}

/** Absolute difference. */
export class L1Loss extends Loss<F.LossOptions> {
  constructor(options: F.LossOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.l1Loss(input, target, this.options);
  }
}

/** Squared difference near 0, absolute beyond `beta` (Girshick 2015). */
export class SmoothL1Loss extends Loss<F.LossOptions & { beta?: number }> {
  constructor(options: F.LossOptions & { beta?: number } = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.smoothL1Loss(input, target, this.options);
  }
}

/** Squared difference near 0, `delta` times the absolute beyond (Huber 1964). */
export class HuberLoss extends Loss<F.LossOptions & { delta?: number }> {
  constructor(options: F.LossOptions & { delta?: number } = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.huberLoss(input, target, this.options);
  }
}

/** Binary cross-entropy of probabilities. */
export class BCELoss extends Loss<F.BceOptions> {
  constructor(options: F.BceOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.binaryCrossEntropy(input, target, this.options);
  }
}

/** Kullback-Leibler divergence: input log-probabilities, target probabilities. */
export class KLDivLoss extends Loss<F.KlDivOptions> {
  constructor(options: F.KlDivOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.klDiv(input, target, this.options);
  }
}

/** Negative log-likelihood of counts under a Poisson distribution. */
export class PoissonNLLLoss extends Loss<F.PoissonOptions> {
  constructor(options: F.PoissonOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.poissonNllLoss(input, target, this.options);
  }
}

/** Hinge on distances: target 1 for similar, -1 for dissimilar. */
export class HingeEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.hingeEmbeddingLoss(input, target, this.options);
  }
}

/** Logistic loss: target 1 or -1. */
export class SoftMarginLoss extends Loss<F.LossOptions> {
  constructor(options: F.LossOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.softMarginLoss(input, target, this.options);
  }
}

/** Binary cross-entropy of several labels from scores, mean over classes. */
export class MultiLabelSoftMarginLoss extends Loss<F.LossOptions & { weight?: Tensor | null }> {
  constructor(options: F.LossOptions & { weight?: Tensor | null } = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.multilabelSoftMarginLoss(input, target, this.options);
  }
}

/** Hinge between the right class and all others. */
export class MultiMarginLoss extends Loss<F.MultiMarginOptions> {
  constructor(options: F.MultiMarginOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.multiMarginLoss(input, target, this.options);
  }
}

/** Hinge between several right classes and all others. */
export class MultiLabelMarginLoss extends Loss<F.LossOptions> {
  constructor(options: F.LossOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.multilabelMarginLoss(input, target, this.options);
  }
}

/** Binary cross-entropy of scores: a sigmoid and `BCELoss` in one, without overflow. */
export class BCEWithLogitsLoss extends Loss<F.BceOptions & { posWeight?: Tensor | null }> {
  /** Weight of positive examples, per class. */
  readonly posWeight: Buffer | null;

  constructor(options: F.BceOptions & { posWeight?: Tensor | null } = {}) {
    super(options);
    this.posWeight = bufferOf(options.posWeight);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    const options = { ...this.options, posWeight: this.posWeight };
    return F.binaryCrossEntropyWithLogits(input, target, options);
  }
}

/** Negative log-likelihood under a normal distribution of a given variance. */
export class GaussianNLLLoss extends Loss<F.GaussianOptions> {
  constructor(options: F.GaussianOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor, variance: Tensor): Tensor {
    return F.gaussianNllLoss(input, target, variance, this.options);
  }
}

/** Hinge on a ranking: target 1 if the first is to rank higher, else -1. */
export class MarginRankingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options);
  }

  forward(x1: Tensor, x2: Tensor, target: Tensor): Tensor {
    return F.marginRankingLoss(x1, x2, target, this.options);
  }
}

/** The anchor is to be nearer to the positive than to the negative. */
export class TripletMarginLoss extends Loss<F.TripletOptions> {
  constructor(options: F.TripletOptions = {}) {
    super(options);
  }

  forward(anchor: Tensor, positive: Tensor, negative: Tensor): Tensor {
    return F.tripletMarginLoss(anchor, positive, negative, this.options);
  }
}

/** Angles between vectors: target 1 for similar, -1 for dissimilar. */
export class CosineEmbeddingLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options);
  }

  forward(x1: Tensor, x2: Tensor, target: Tensor): Tensor {
    return F.cosineEmbeddingLoss(x1, x2, target, this.options);
  }
}

/** Connectionist temporal classification: labels whose places in time are unknown. */
export class CTCLoss extends Loss<F.CtcOptions> {
  constructor(options: F.CtcOptions = {}) {
    super(options);
  }

  forward(
    logProbabilities: Tensor,
    targets: Tensor,
    inputLengths: Tensor | readonly number[],
    targetLengths: Tensor | readonly number[],
  ): Tensor {
    return F.ctcLoss(logProbabilities, targets, inputLengths, targetLengths, this.options);
  }
}

/** As `TripletMarginLoss`, by any distance. */
export class TripletMarginWithDistanceLoss extends Loss<F.TripletDistanceOptions> {
  constructor(options: F.TripletDistanceOptions = {}) {
    super(options);
  }

  forward(anchor: Tensor, positive: Tensor, negative: Tensor): Tensor {
    return F.tripletMarginWithDistanceLoss(anchor, positive, negative, this.options);
  }
}

/** Hinge of scores, summed over classes: targets 1 or -1. */
export class HingeLoss extends Loss<F.HingeOptions> {
  constructor(options: F.HingeOptions = {}) {
    super(options);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.hingeLoss(input, target, this.options);
  }
}

/** Brings what is alike together and moves the rest apart: see `F.contrastiveLoss`. */
export class ContrastiveLoss extends Loss<MarginOptions> {
  constructor(options: MarginOptions = {}) {
    super(options);
  }

  forward(x1: Tensor, x2: Tensor, target: Tensor): Tensor {
    return F.contrastiveLoss(x1, x2, target, this.options);
  }
}

/** How badly queries find their keys among those of all: see `F.infoNceLoss`. */
export class InfoNCELoss extends Loss<F.InfoNceOptions> {
  constructor(options: F.InfoNceOptions = {}) {
    super(options);
  }

  forward(query: Tensor, keys: Tensor): Tensor {
    return F.infoNceLoss(query, keys, this.options);
  }
}

/**
 * Half the squared distance from the centre of one's class, a parameter [numClasses, size] that starts
 * from normal numbers: see `F.centerLoss`.
 *
 * @example
 * const loss = new CenterLoss(10, 2);
 * loss.centers.shape; // => [10, 2]
 * loss.forward(zeros([3, 2]), tensor([0, 1, 0], { dtype: 'int32' })).shape; // => []
 */
export class CenterLoss extends Loss<F.LossOptions> {
  readonly centers: Parameter;

  constructor(numClasses: number, size: number, options: F.LossOptions = {}) {
    super(options);
    checkInteger('nn.CenterLoss', 'numClasses', numClasses, 1);
    checkInteger('nn.CenterLoss', 'size', size, 1);
    this.centers = newParameter([numClasses, size]);
    init.normal(this.centers);
  }

  forward(input: Tensor, target: Tensor): Tensor {
    return F.centerLoss(input, target, this.centers, this.options);
  }
}
