// Softmax over many classes of which few are frequent (Grave et al. 2017).
import { checkKeys, checkNumber, POSITIVE } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import { checkInteger, nodeOf } from '../tensor/arguments.ts';
import { where } from '../tensor/arithmetic.ts';
import { wrap } from '../tensor/handle.ts';
import { indexNode } from '../tensor/index-values.ts';
import { cat, narrow, select } from '../tensor/joining.ts';
import { gather } from '../tensor/scattering.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { ModuleList, Sequential } from './containers.ts';
import { describeOptions } from './create.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';

export interface AdaptiveSoftmaxOptions {
  /** The sizes of clusters' projections fall by this factor, from one to the next; default 4. */
  readonly divValue?: number;
  /** Whether the head has a bias; default false. */
  readonly headBias?: boolean;
}

/** `output`: the logarithm of each target's probability; `loss`: their negative mean. */
export interface AdaptiveSoftmaxResult {
  readonly output: Tensor;
  readonly loss: Tensor;
}

/**
 * Log-softmax over `nClasses` classes, sorted from frequent to rare: those before the first of `cutoffs`
 * are scored by a head, the others in clusters of ever smaller projections. Parameters are named as
 * PyTorch's: `head.weight`, `tail.0.0.weight`, `tail.0.1.weight`.
 *
 * Every cluster is computed for every sample, so that the program does not depend on the targets:
 * what is saved is the width of the projections.
 *
 * @example
 * const layer = new AdaptiveLogSoftmaxWithLoss(8, 10, [2, 5]);
 * const { output, loss } = layer.forward(zeros([3, 8]), tensor([0, 4, 9], { dtype: 'int32' }));
 * output.shape; // => [3]
 * loss.shape; // => []
 * layer.logProb(zeros([3, 8])).shape; // => [3, 10]
 */
export class AdaptiveLogSoftmaxWithLoss extends Module {
  readonly inFeatures: number;
  readonly nClasses: number;
  /** Where clusters end, the last one at `nClasses`. */
  readonly cutoffs: readonly number[];
  readonly divValue: number;
  readonly head: Linear;
  readonly tail: ModuleList<Sequential>;

  constructor(
    inFeatures: number,
    nClasses: number,
    cutoffs: readonly number[],
    options: AdaptiveSoftmaxOptions = {},
  ) {
    super();
    const op = 'nn.AdaptiveLogSoftmaxWithLoss';
    checkKeys(op, options, ['divValue', 'headBias']);
    const { divValue = 4, headBias = false } = options;
    this.inFeatures = checkInteger(op, 'inFeatures', inFeatures, 1);
    this.nClasses = checkInteger(op, 'nClasses', nClasses, 2);
    this.divValue = checkNumber(op, 'divValue', divValue, POSITIVE);
    const rises = cutoffs.every(
      (end, i) => Number.isInteger(end) && end > (cutoffs[i - 1] ?? 0) && end < nClasses,
    );
    if (cutoffs.length === 0 || !rises) {
      throw new ArgumentError(
        `cutoffs must rise between 1 and ${nClasses - 1}, got [${cutoffs.join(', ')}]`,
        { op },
      );
    }
    this.cutoffs = [...cutoffs, nClasses];
    const shortlist = this.#shortlist;
    this.head = new Linear(inFeatures, shortlist + cutoffs.length, { bias: headBias });
    const tail = cutoffs.map((low, i) => {
      const size = Math.floor(inFeatures / divValue ** (i + 1));
      const classes = this.cutoffs[i + 1]! - low;
      const plain = { bias: false };
      return new Sequential(new Linear(inFeatures, size, plain), new Linear(size, classes, plain));
    });
    this.tail = new ModuleList(tail);
  }

  /** How many classes the head scores. */
  get #shortlist(): number {
    return this.cutoffs[0]!;
  }

  /** Throws ShapeError unless x is [n, inFeatures], or [inFeatures]. */
  #batch(x: Tensor): Tensor {
    if (x.shape.at(-1) !== this.inFeatures || x.ndim < 1 || x.ndim > 2) {
      throw new ShapeError(
        `takes [n, ${this.inFeatures}] or [${this.inFeatures}], got ${formatShape(x.shape)}`,
        { op: 'nn.AdaptiveLogSoftmaxWithLoss' },
      );
    }
    return x.ndim === 2 ? x : x.unsqueeze(0);
  }

  /**
   * The logarithm of the probability of each target, and their negative mean: `input` [n, inFeatures],
   * `target` [n] (or without n).
   */
  forward(input: Tensor, target: Tensor): AdaptiveSoftmaxResult {
    const op = 'nn.AdaptiveLogSoftmaxWithLoss';
    const x = this.#batch(input);
    const count = x.shape[0]!;
    const given = nodeOf(op, target);
    if (given.shape.length !== input.ndim - 1 || (given.shape[0] ?? 1) !== count) {
      throw new ShapeError(
        `targets are ${formatShape(given.shape)}, for input ${formatShape(input.shape)} they must be ${formatShape(input.shape.slice(0, -1))}`,
        { op },
      );
    }
    const labels = wrap(indexNode(op, target, this.nClasses)).reshape([count]);
    const head = F.logSoftmax(this.head.forward(x), 1);
    const shortlist = this.#shortlist;
    let output = picked(head, labels.clamp(0, shortlist - 1));
    let i = 0;
    for (const cluster of this.tail) {
      const [low, high] = [this.cutoffs[i]!, this.cutoffs[i + 1]!];
      const inside = labels.ge(low).logicalAnd(labels.lt(high));
      const scores = F.logSoftmax(cluster.forward(x), 1);
      const own = picked(scores, labels.sub(low).clamp(0, high - low - 1));
      output = where(inside, own.add(select(head, 1, shortlist + i)), output);
      i += 1;
    }
    return { output: output.reshape(target.shape), loss: output.mean().neg() };
  }

  /** Logarithms of the probabilities of all classes, [n, nClasses]. */
  logProb(input: Tensor): Tensor {
    const head = F.logSoftmax(this.head.forward(this.#batch(input)), 1);
    const shortlist = this.#shortlist;
    const parts = [narrow(head, 1, 0, shortlist)];
    let i = 0;
    for (const cluster of this.tail) {
      const scores = F.logSoftmax(cluster.forward(this.#batch(input)), 1);
      parts.push(scores.add(narrow(head, 1, shortlist + i, 1)));
      i += 1;
    }
    const result = cat(parts, 1);
    return input.ndim === 2 ? result : result.squeeze(0);
  }

  /** The most probable class of each sample, int32. */
  predict(input: Tensor): Tensor {
    return this.logProb(input).argmax(-1);
  }

  override describe(): string {
    const { inFeatures, nClasses, divValue } = this;
    const options = describeOptions({ cutoffs: this.cutoffs.slice(0, -1), divValue });
    return `AdaptiveLogSoftmaxWithLoss(${inFeatures}, ${nClasses}, ${options})`;
  }
}

/** From each row the element at its index. */
function picked(rows: Tensor, index: Tensor): Tensor {
  return gather(rows, 1, index.unsqueeze(1)).squeeze(1);
}
