// Samplers: in which order a loader visits a dataset. An epoch's order depends on seed and epoch only.
import { checkInteger, checkNumber, describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { Random, permutation } from './random.ts';

/** Where an iteration stands: enough to go on exactly there. */
export interface SamplerState {
  readonly epoch: number;
  /** Items given in this epoch. */
  readonly position: number;
}

/**
 * Something that gives a sequence per epoch. Iterating it goes through one epoch, from where
 * `loadState` put it, and moves on to the next epoch at the end.
 */
export abstract class EpochSequence<T> implements Iterable<T> {
  /** Items per epoch. */
  abstract readonly length: number;
  /** The items of an epoch; the same whenever it is asked for. */
  abstract order(epoch: number): Iterable<T>;

  private epoch = 0;
  private position = 0;

  *[Symbol.iterator](): Generator<T, void, undefined> {
    const skip = this.position;
    let place = 0;
    for (const item of this.order(this.epoch)) {
      if (place++ < skip) continue;
      this.position = place;
      yield item;
    }
    this.epoch++;
    this.position = 0;
  }

  state(): SamplerState {
    return { epoch: this.epoch, position: this.position };
  }

  loadState(state: SamplerState): void {
    checkInteger('sampler', 'epoch', state.epoch, 0);
    checkInteger('sampler', 'position', state.position, 0);
    if (state.position > this.length) {
      throw new ArgumentError(`position ${state.position} of ${this.length}`, {
        op: 'sampler',
        hint: 'the state comes from a sampler of another length',
      });
    }
    this.epoch = state.epoch;
    this.position = state.position;
  }
}

/** A sequence of sample indices. */
export type Sampler = EpochSequence<number>;

/** Anything with a length, or the length itself. */
export type Sized = number | { readonly length: number };

/** The indices of one epoch lie in an Int32Array. */
const MAX_LENGTH = 2 ** 31 - 1;

function lengthOf(op: string, source: Sized, limit = Infinity): number {
  const length =
    typeof source === 'number' ? source : (source as { length: number } | undefined)?.length;
  return checkNumber(op, 'length of the dataset', length, [0, limit, 'integer']);
}

function checkSeed(op: string, seed = 0): number {
  return checkInteger(op, 'seed', seed, -Infinity);
}

/** 0, 1, 2, ... in every epoch. */
export class SequentialSampler extends EpochSequence<number> {
  readonly length: number;

  constructor(source: Sized) {
    super();
    this.length = lengthOf('SequentialSampler', source);
  }

  *order(): Generator<number, void, undefined> {
    for (let index = 0; index < this.length; index++) yield index;
  }
}

/** Options of {@link RandomSampler}. */
export interface RandomSamplerOptions {
  readonly seed?: number;
  /** Draw each sample independently, so that some come twice. Default false. */
  readonly replacement?: boolean;
  /** Samples per epoch; more than the dataset has only with replacement. */
  readonly numSamples?: number;
}

/** Every sample once in random order, anew each epoch; or independent draws. */
export class RandomSampler extends EpochSequence<number> {
  readonly length: number;
  private readonly sourceLength: number;
  private readonly seed: number;
  private readonly replacement: boolean;

  constructor(source: Sized, options: RandomSamplerOptions = {}) {
    super();
    this.sourceLength = lengthOf('RandomSampler', source, MAX_LENGTH);
    this.seed = checkSeed('RandomSampler', options.seed);
    this.replacement = options.replacement ?? false;
    this.length = options.numSamples ?? this.sourceLength;
    checkInteger('RandomSampler', 'numSamples', this.length, 0);
    if (!this.replacement && this.length > this.sourceLength) {
      throw new ArgumentError(`${this.length} samples of ${this.sourceLength}`, {
        op: 'RandomSampler',
        hint: 'replacement: true allows more than there are',
      });
    }
    if (this.sourceLength === 0 && this.length > 0) {
      throw new ArgumentError('there is nothing to draw from', { op: 'RandomSampler' });
    }
  }

  order(epoch: number): Int32Array {
    const random = new Random(this.seed, epoch);
    if (!this.replacement) return permutation(this.sourceLength, random).subarray(0, this.length);
    return Int32Array.from({ length: this.length }, () => random.below(this.sourceLength));
  }
}

/** Options of {@link WeightedRandomSampler}. */
export interface WeightedRandomSamplerOptions {
  readonly seed?: number;
  /** Default true, as in PyTorch. */
  readonly replacement?: boolean;
}

/** Draws samples with probabilities in proportion to their weights. */
export class WeightedRandomSampler extends EpochSequence<number> {
  readonly length: number;
  private readonly weights: Float64Array;
  private readonly seed: number;
  private readonly replacement: boolean;

  /**
   * @param weights one per sample, not negative, not all zero
   * @param numSamples samples per epoch
   */
  constructor(
    weights: ArrayLike<number>,
    numSamples: number,
    options: WeightedRandomSamplerOptions = {},
  ) {
    super();
    checkInteger('WeightedRandomSampler', 'numSamples', numSamples, 0);
    this.weights = Float64Array.from(weights);
    this.length = numSamples;
    this.seed = checkSeed('WeightedRandomSampler', options.seed);
    this.replacement = options.replacement ?? true;
    if (this.weights.some((weight) => !(weight >= 0 && weight < Infinity))) {
      throw new ArgumentError('weights must be finite and not negative', {
        op: 'WeightedRandomSampler',
      });
    }
    const positive = this.weights.reduce((count, weight) => count + (weight > 0 ? 1 : 0), 0);
    if (numSamples > 0 && (positive === 0 || (!this.replacement && positive < numSamples))) {
      throw new ArgumentError(`${numSamples} samples of ${positive} with a positive weight`, {
        op: 'WeightedRandomSampler',
      });
    }
  }

  order(epoch: number): Int32Array {
    const random = new Random(this.seed, epoch);
    return this.replacement ? this.draw(random) : this.drawWithout(random);
  }

  private draw(random: Random): Int32Array {
    let sum = 0;
    const cumulative = this.weights.map((weight) => (sum += weight));
    let last = cumulative.length - 1;
    while (last > 0 && this.weights[last] === 0) last--;
    return Int32Array.from({ length: this.length }, () => {
      const target = random.float() * sum;
      let low = 0;
      let high = last;
      // The first whose cumulative weight exceeds the target: never one of weight zero.
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((cumulative[middle] as number) > target) high = middle;
        else low = middle + 1;
      }
      return low;
    });
  }

  /** Efraimidis and Spirakis 2006: the smallest of independent exponential times at these rates. */
  private drawWithout(random: Random): Int32Array {
    const times = this.weights.map((weight) => {
      const time = -Math.log(1 - random.float());
      return weight > 0 ? time / weight : Infinity;
    });
    const order = Array.from(times.keys());
    order.sort((a, b) => (times[a] as number) - (times[b] as number) || a - b);
    return Int32Array.from(order.slice(0, this.length));
  }
}

/** What a {@link BatchSampler} takes its indices from; samplers of your own need not be a subclass. */
export interface IndexOrder {
  readonly length: number;
  order(epoch: number): Iterable<number>;
}

/** Groups a sampler's indices into batches. */
export class BatchSampler extends EpochSequence<readonly number[]> {
  private readonly sampler: IndexOrder;
  readonly batchSize: number;
  readonly dropLast: boolean;

  constructor(sampler: IndexOrder, batchSize: number, dropLast = false) {
    super();
    checkInteger('BatchSampler', 'batchSize', batchSize, 1);
    if (typeof (sampler as IndexOrder | undefined)?.order !== 'function') {
      throw new ArgumentError(`expected a sampler, got ${describeValue(sampler)}`, {
        op: 'BatchSampler',
      });
    }
    this.sampler = sampler;
    this.batchSize = batchSize;
    this.dropLast = dropLast;
  }

  get length(): number {
    const batches = this.sampler.length / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  *order(epoch: number): Generator<readonly number[], void, undefined> {
    let batch: number[] = [];
    for (const index of this.sampler.order(epoch)) {
      batch.push(index);
      if (batch.length < this.batchSize) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0 && !this.dropLast) yield batch;
  }
}
