// Schedules made of others, and those that turn round: chains, sequences, cycles, averaging.
import { checkFunction, describeValue, type OptionRules, type Range } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { act } from '../tensor/engine.ts';
import {
  checkOptimizer,
  initialRate,
  type Scheduled,
  Scheduler,
  type SchedulerState,
} from './schedulers.ts';

const COUNT: Range = [1, Infinity, 'integer'];
const WHOLE: Range = [0, Infinity, 'integer'];
const RATE: Range = [0];

/**
 * Multiplies the rate by a function of the epoch, every epoch anew.
 *
 * @example
 * const sgd = new optim.SGD([new nn.Parameter(tensor([1]))], { lr: 1 });
 * const schedule = new MultiplicativeLR(sgd, (epoch) => 1 / epoch);
 * for (let epoch = 1; epoch <= 3; epoch++) schedule.step();
 * schedule.lastLr(); // => [0.167]
 */
export class MultiplicativeLR extends Scheduler {
  static override readonly name = 'MultiplicativeLR';
  readonly #factor: (epoch: number) => number;
  /** Products of the factors of epochs 1 to i. */
  readonly #products = [1];

  constructor(optimizer: Scheduled, factor: (epoch: number) => number) {
    super(optimizer, {}, {});
    this.#factor = checkFunction(this.constructor.name, factor);
  }

  rate(base: number, epoch: number): number {
    for (let i = this.#products.length; i <= epoch; i++) {
      this.#products.push((this.#products[i - 1] as number) * this.#factor(i));
    }
    return base * (this.#products[epoch] as number);
  }
}

export interface CyclicOptions {
  /** The least rate, at the start of each cycle. */
  readonly baseLr: number;
  readonly maxLr: number;
  /** Steps in which the rate rises; default 2000. */
  readonly stepSizeUp?: number;
  /** Steps in which it falls; default stepSizeUp. */
  readonly stepSizeDown?: number;
  /** Whether the height stays, is halved each cycle, or falls by gamma each step. */
  readonly mode?: 'triangular' | 'triangular2' | 'expRange';
  readonly gamma?: number;
  /** Move momentum (or beta1) the other way round; default true. */
  readonly cycleMomentum?: boolean;
  readonly baseMomentum?: number;
  readonly maxMomentum?: number;
}

const CYCLIC: OptionRules<Omit<CyclicOptions, 'stepSizeDown'>> = {
  baseLr: [RATE],
  maxLr: [RATE],
  stepSizeUp: [COUNT, 2000],
  mode: [['triangular', 'triangular2', 'expRange'], 'triangular'],
  gamma: [RATE, 1],
  cycleMomentum: ['boolean', true],
  baseMomentum: [[0, 1], 0.8],
  maxMomentum: [[0, 1], 0.9],
};

/** Rises and falls between two rates again and again (Smith 2017), stepped once per batch. */
export class CyclicLR extends Scheduler<Omit<CyclicOptions, 'stepSizeDown'>> {
  static override readonly name = 'CyclicLR';
  readonly #down: number;

  constructor(optimizer: Scheduled, options: CyclicOptions) {
    const { stepSizeDown, ...rest } = options ?? {};
    super(optimizer, rest, CYCLIC);
    this.#down = stepSizeDown ?? this.options.stepSizeUp;
    if (!Number.isInteger(this.#down) || this.#down < 1) {
      throw new ArgumentError(
        `stepSizeDown must be an integer of at least 1, got ${describeValue(stepSizeDown)}`,
        { op: 'CyclicLR' },
      );
    }
    this.apply();
  }

  /** How high in its cycle a step is, 0 to 1, and lower in later cycles. */
  #height(step: number): number {
    const { stepSizeUp, mode, gamma } = this.options;
    const length = stepSizeUp + this.#down;
    const cycle = Math.floor(step / length);
    const within = step - cycle * length;
    const height = within <= stepSizeUp ? within / stepSizeUp : (length - within) / this.#down;
    if (mode === 'triangular2') return height / 2 ** cycle;
    return mode === 'expRange' ? height * gamma ** step : height;
  }

  rate(_base: number, step: number): number {
    const { baseLr, maxLr } = this.options;
    return baseLr + (maxLr - baseLr) * this.#height(step);
  }

  protected override apply(): void {
    super.apply();
    const { cycleMomentum, baseMomentum, maxMomentum } = this.options;
    if (!cycleMomentum) return;
    const momentum = maxMomentum - (maxMomentum - baseMomentum) * this.#height(this.epoch);
    for (const group of this.optimizer.paramGroups) {
      if (group.beta1 !== undefined) group.beta1 = momentum;
      else if (group.momentum !== undefined) group.momentum = momentum;
    }
  }
}

function checkSchedulers(op: string, optimizer: Scheduled, schedulers: readonly Scheduler[]): void {
  checkOptimizer(op, optimizer);
  if (!Array.isArray(schedulers) || schedulers.length === 0) {
    throw new ArgumentError(`expected a list of schedules, got ${describeValue(schedulers)}`, {
      op,
    });
  }
  for (const scheduler of schedulers) {
    if (!(scheduler instanceof Scheduler)) {
      throw new ArgumentError(`${describeValue(scheduler)} is no schedule of epochs`, { op });
    }
    if (!scheduler.drives(optimizer)) {
      throw new ArgumentError('the schedules are of different optimizers', { op });
    }
  }
}

/** Base of schedules made of schedules: their epochs follow from the whole's. */
abstract class Composite {
  static readonly name: string = 'Composite';
  epoch = 0;
  protected readonly optimizer: Scheduled;
  protected readonly schedulers: readonly Scheduler[];

  constructor(op: string, optimizer: Scheduled, schedulers: readonly Scheduler[]) {
    checkSchedulers(op, optimizer, schedulers);
    this.optimizer = optimizer;
    this.schedulers = schedulers;
  }

  protected abstract apply(): void;

  /** Goes on to the next epoch. */
  step(): void {
    act(`${this.constructor.name}.step`, () => {
      this.epoch++;
      this.apply();
    });
  }

  /** The rates in force, one per group. */
  lastLr(): number[] {
    return this.optimizer.paramGroups.map((group) => group.lr);
  }

  stateDict(): SchedulerState {
    return { epoch: this.epoch };
  }

  loadStateDict(state: SchedulerState): void {
    const { epoch } = state ?? {};
    if (typeof epoch !== 'number') {
      throw new ArgumentError('the state is of another kind of schedule', {
        op: `${this.constructor.name}.loadStateDict`,
      });
    }
    this.epoch = epoch;
    this.apply();
  }
}

/**
 * One schedule after the other: each begins, as from its own epoch 0, at a milestone.
 *
 * @example
 * const sgd = new optim.SGD([new nn.Parameter(tensor([1]))], { lr: 1 });
 * const warmUp = new optim.LinearLR(sgd, { startFactor: 0.5, totalIters: 2 });
 * const cosine = new optim.CosineAnnealingLR(sgd, { tMax: 4 });
 * const schedule = new SequentialLR(sgd, [warmUp, cosine], [2]);
 * const rates = [0, 1, 2, 3, 4].map(() => {
 *   const [rate] = schedule.lastLr();
 *   schedule.step();
 *   return rate;
 * });
 * rates; // => [0.5, 0.75, 1, 0.854, 0.5]
 */
export class SequentialLR extends Composite {
  static override readonly name = 'SequentialLR';
  readonly #milestones: readonly number[];

  constructor(
    optimizer: Scheduled,
    schedulers: readonly Scheduler[],
    milestones: readonly number[],
  ) {
    super('SequentialLR', optimizer, schedulers);
    const isRising =
      Array.isArray(milestones) &&
      milestones.every((at, i) => Number.isInteger(at) && at > (milestones[i - 1] ?? 0));
    if (!isRising || milestones.length !== schedulers.length - 1) {
      throw new ArgumentError(
        `${schedulers.length} schedules need ${schedulers.length - 1} rising milestones`,
        { op: 'SequentialLR' },
      );
    }
    this.#milestones = milestones;
    this.apply();
  }

  protected apply(): void {
    const passed = this.#milestones.filter((at) => at <= this.epoch).length;
    const start = this.#milestones[passed - 1] ?? 0;
    (this.schedulers[passed] as Scheduler).stepTo(this.epoch - start);
  }
}

/**
 * Several schedules at once, each applied to what the one before it gives: factors multiply.
 *
 * @example
 * const sgd = new optim.SGD([new nn.Parameter(tensor([1]))], { lr: 1 });
 * const halved = new optim.ConstantLR(sgd, { factor: 0.5, totalIters: 2 });
 * const falling = new optim.ExponentialLR(sgd, { gamma: 0.9 });
 * const schedule = new ChainedScheduler(sgd, [halved, falling]);
 * schedule.step();
 * schedule.lastLr(); // => [0.45]
 */
export class ChainedScheduler extends Composite {
  static override readonly name = 'ChainedScheduler';

  constructor(optimizer: Scheduled, schedulers: readonly Scheduler[]) {
    super('ChainedScheduler', optimizer, schedulers);
    this.apply();
  }

  protected apply(): void {
    // Through `stepTo`, so that what else a schedule moves (momentum) moves too.
    for (const scheduler of this.schedulers) scheduler.stepTo(this.epoch);
    for (const group of this.optimizer.paramGroups) {
      group.lr = this.schedulers.reduce(
        (rate, scheduler) => scheduler.rate(rate, this.epoch),
        initialRate(group),
      );
    }
  }
}

export interface AveragingOptions {
  /** The rate at which weights are averaged. */
  readonly swaLr: number;
  /** Epochs to get there from the present rate; default 10. */
  readonly annealEpochs?: number;
  readonly annealStrategy?: 'cos' | 'linear';
}

const AVERAGING: OptionRules<AveragingOptions> = {
  swaLr: [RATE],
  annealEpochs: [WHOLE, 10],
  annealStrategy: [['cos', 'linear'], 'cos'],
};

/** Goes from the rate in force to a constant one, for averaging weights (Izmailov et al. 2018). */
export class SWALR extends Scheduler<AveragingOptions> {
  static override readonly name = 'SWALR';

  constructor(optimizer: Scheduled, options: AveragingOptions) {
    super(optimizer, options, AVERAGING);
    const present = optimizer.paramGroups.map((group) => group.lr);
    this.baseRates.splice(0, this.baseRates.length, ...present);
  }

  rate(base: number, epoch: number): number {
    const { swaLr, annealEpochs, annealStrategy } = this.options;
    const share = annealEpochs === 0 ? 1 : Math.min(1, epoch / annealEpochs);
    const moved = annealStrategy === 'linear' ? share : (1 - Math.cos(Math.PI * share)) / 2;
    return base + (swaLr - base) * moved;
  }
}
