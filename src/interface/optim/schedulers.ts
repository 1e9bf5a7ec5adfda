// Learning-rate schedules, PyTorch's by name and formula. A schedule changes `group.lr`; rates are
// scalar slots of the plan, so no schedule ever recompiles a step.
import {
  checkNumber,
  describeValue,
  type OptionRules,
  POSITIVE,
  type Range,
  readOptions,
} from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { act } from '../tensor/engine.ts';

/** The part of an optimizer that schedules touch. */
export interface Scheduled {
  readonly paramGroups: { lr: number; momentum?: number; beta1?: number }[];
}

/** Saved form of a schedule. */
export type SchedulerState = Record<string, number | number[]>;

/** A number of epochs, or of steps. */
const COUNT: Range = [1, Infinity, 'integer'];
const WHOLE: Range = [0, Infinity, 'integer'];
/** A rate, or a factor of rates. */
const RATE: Range = [0];

export function checkOptimizer(op: string, optimizer: Scheduled): void {
  if (Array.isArray((optimizer as Scheduled | undefined)?.paramGroups)) return;
  throw new ArgumentError(`expected an optimizer, got ${describeValue(optimizer)}`, { op });
}

/**
 * The rate of each group before its first schedule: what all later schedules are based on too, as
 * PyTorch's `initial_lr`.
 */
const initialRates = new WeakMap<object, number>();

export function initialRate(group: { lr: number }): number {
  const known = initialRates.get(group);
  if (known !== undefined) return known;
  initialRates.set(group, group.lr);
  return group.lr;
}

/** Base of schedules that are a function of the epoch: `lr = rate(base, epoch)`. */
export abstract class Scheduler<O extends object = object> {
  /** Number of `step()` calls so far. */
  epoch = 0;
  protected readonly baseRates: number[];
  protected readonly optimizer: Scheduled;
  protected readonly options: Required<O>;

  /** Throws ArgumentError for options that are not in `rules`, or are out of their bounds. */
  constructor(optimizer: Scheduled, options: O, rules: OptionRules<O>) {
    checkOptimizer(this.constructor.name, optimizer);
    this.optimizer = optimizer;
    this.options = readOptions(this.constructor.name, options, rules);
    this.baseRates = optimizer.paramGroups.map(initialRate);
  }

  /** The rate of a group at `epoch`, counted from 0, if `base` is its rate without a schedule. */
  abstract rate(base: number, epoch: number): number;

  /** Sets the rates of the present epoch: constructors call it once. */
  protected apply(): void {
    this.optimizer.paramGroups.forEach((group, i) => {
      group.lr = this.rate(this.baseRates[i] ?? group.lr, this.epoch);
    });
  }

  /** Whether it is this optimizer's rates that the schedule changes. */
  drives(optimizer: Scheduled): boolean {
    return this.optimizer === optimizer;
  }

  /** Goes on to the next epoch. */
  step(): void {
    act(`${this.constructor.name}.step`, () => {
      this.epoch++;
      this.apply();
    });
  }

  /** Goes to an epoch, wherever the schedule is. */
  stepTo(epoch: number): void {
    checkNumber(this.constructor.name, 'epoch', epoch, WHOLE);
    act(`${this.constructor.name}.stepTo`, () => {
      this.epoch = epoch;
      this.apply();
    });
  }

  /** The rates in force, one per group. */
  lastLr(): number[] {
    return this.optimizer.paramGroups.map((group) => group.lr);
  }

  stateDict(): SchedulerState {
    return { epoch: this.epoch, baseRates: [...this.baseRates] };
  }

  loadStateDict(state: SchedulerState): void {
    const { epoch, baseRates } = state ?? {};
    if (typeof epoch !== 'number' || !Array.isArray(baseRates)) {
      throw new ArgumentError('the state is of another kind of schedule', {
        op: `${this.constructor.name}.loadStateDict`,
      });
    }
    this.epoch = epoch;
    this.baseRates.splice(0, this.baseRates.length, ...baseRates);
    this.apply();
  }
}

export interface StepOptions {
  readonly stepSize: number;
  /** Default 0.1. */
  readonly gamma?: number;
}

/** Multiplies the rate by `gamma` every `stepSize` epochs. */
export class StepLR extends Scheduler<StepOptions> {
  static override readonly name = 'StepLR';

  constructor(optimizer: Scheduled, options: StepOptions) {
    super(optimizer, options, { stepSize: [COUNT], gamma: [RATE, 0.1] });
  }

  rate(base: number, epoch: number): number {
    const { stepSize, gamma } = this.options;
    return base * gamma ** Math.floor(epoch / stepSize);
  }
}

export interface MultiStepOptions {
  readonly milestones: readonly number[];
  /** Default 0.1. */
  readonly gamma?: number;
}

/** Multiplies the rate by `gamma` at each milestone. */
export class MultiStepLR extends Scheduler<MultiStepOptions> {
  static override readonly name = 'MultiStepLR';

  constructor(optimizer: Scheduled, options: MultiStepOptions) {
    super(optimizer, options, { milestones: ['integers'], gamma: [RATE, 0.1] });
  }

  rate(base: number, epoch: number): number {
    const { milestones, gamma } = this.options;
    return base * gamma ** milestones.filter((milestone) => milestone <= epoch).length;
  }
}

export interface ExponentialOptions {
  readonly gamma: number;
}

/** Multiplies the rate by `gamma` every epoch. */
export class ExponentialLR extends Scheduler<ExponentialOptions> {
  static override readonly name = 'ExponentialLR';

  constructor(optimizer: Scheduled, options: ExponentialOptions) {
    super(optimizer, options, { gamma: [RATE] });
  }

  rate(base: number, epoch: number): number {
    return base * this.options.gamma ** epoch;
  }
}

export interface ConstantOptions {
  /** Default 1/3. */
  readonly factor?: number;
  /** Default 5. */
  readonly totalIters?: number;
}

/** Multiplies the rate by `factor` until `totalIters` epochs have passed. */
export class ConstantLR extends Scheduler<ConstantOptions> {
  static override readonly name = 'ConstantLR';

  constructor(optimizer: Scheduled, options: ConstantOptions = {}) {
    super(optimizer, options, { factor: [RATE, 1 / 3], totalIters: [WHOLE, 5] });
    this.apply();
  }

  rate(base: number, epoch: number): number {
    const { factor, totalIters } = this.options;
    return epoch < totalIters ? base * factor : base;
  }
}

export interface LinearOptions {
  /** Default 1/3. */
  readonly startFactor?: number;
  /** Default 1. */
  readonly endFactor?: number;
  /** Default 5. */
  readonly totalIters?: number;
}

/** A straight line from `startFactor` to `endFactor` over `totalIters` epochs: warm-up. */
export class LinearLR extends Scheduler<LinearOptions> {
  static override readonly name = 'LinearLR';

  constructor(optimizer: Scheduled, options: LinearOptions = {}) {
    super(optimizer, options, {
      startFactor: [RATE, 1 / 3],
      endFactor: [RATE, 1],
      totalIters: [COUNT, 5],
    });
    this.apply();
  }

  rate(base: number, epoch: number): number {
    const { startFactor, endFactor, totalIters } = this.options;
    const share = Math.min(epoch / totalIters, 1);
    return base * (startFactor + (endFactor - startFactor) * share);
  }
}

export interface PolynomialOptions {
  /** Default 5. */
  readonly totalIters?: number;
  /** Default 1. */
  readonly power?: number;
}

/** Falls to zero over `totalIters` epochs as `(1 - epoch / totalIters) ** power`. */
export class PolynomialLR extends Scheduler<PolynomialOptions> {
  static override readonly name = 'PolynomialLR';

  constructor(optimizer: Scheduled, options: PolynomialOptions = {}) {
    super(optimizer, options, { totalIters: [COUNT, 5], power: [RATE, 1] });
  }

  rate(base: number, epoch: number): number {
    const { totalIters, power } = this.options;
    return base * (1 - Math.min(epoch / totalIters, 1)) ** power;
  }
}

export interface CosineAnnealingOptions {
  readonly tMax: number;
  /** Default 0. */
  readonly etaMin?: number;
}

/** Half a cosine from the base rate to `etaMin` over `tMax` epochs (Loshchilov and Hutter 2017). */
export class CosineAnnealingLR extends Scheduler<CosineAnnealingOptions> {
  static override readonly name = 'CosineAnnealingLR';

  constructor(optimizer: Scheduled, options: CosineAnnealingOptions) {
    super(optimizer, options, { tMax: [COUNT], etaMin: [RATE, 0] });
  }

  rate(base: number, epoch: number): number {
    const { tMax, etaMin } = this.options;
    const cosine = Math.cos((Math.PI * epoch) / tMax);
    return etaMin + ((base - etaMin) * (1 + cosine)) / 2;
  }
}

export interface WarmRestartsOptions {
  /** Epochs to the first restart. */
  readonly t0: number;
  /** How much longer each period is than the one before it; default 1. */
  readonly tMult?: number;
  /** Default 0. */
  readonly etaMin?: number;
}

/** Cosine annealing that starts again after t0, t0 * tMult, t0 * tMult^2, ... epochs. */
export class CosineAnnealingWarmRestarts extends Scheduler<WarmRestartsOptions> {
  static override readonly name = 'CosineAnnealingWarmRestarts';

  constructor(optimizer: Scheduled, options: WarmRestartsOptions) {
    super(optimizer, options, { t0: [COUNT], tMult: [COUNT, 1], etaMin: [RATE, 0] });
  }

  rate(base: number, epoch: number): number {
    const { t0, tMult, etaMin } = this.options;
    let period = t0;
    let within = epoch;
    while (within >= period) {
      within -= period;
      period *= tMult;
    }
    const cosine = Math.cos((Math.PI * within) / period);
    return etaMin + ((base - etaMin) * (1 + cosine)) / 2;
  }
}

/** Multiplies the rate by a function of the epoch. */
export class LambdaLR extends Scheduler {
  static override readonly name = 'LambdaLR';
  readonly #factor: (epoch: number) => number;

  constructor(optimizer: Scheduled, factor: (epoch: number) => number) {
    super(optimizer, {}, {});
    if (typeof factor !== 'function') {
      throw new ArgumentError(`expected a function of the epoch, got ${describeValue(factor)}`, {
        op: this.constructor.name,
      });
    }
    this.#factor = factor;
    this.apply();
  }

  rate(base: number, epoch: number): number {
    return base * this.#factor(epoch);
  }
}

export interface OneCycleOptions {
  readonly maxLr: number;
  readonly totalSteps: number;
  /** Share of the cycle in which the rate rises. */
  readonly pctStart?: number;
  readonly annealStrategy?: 'cos' | 'linear';
  /** Move momentum (or beta1) the other way round. */
  readonly cycleMomentum?: boolean;
  readonly baseMomentum?: number;
  readonly maxMomentum?: number;
  readonly divFactor?: number;
  readonly finalDivFactor?: number;
  readonly threePhase?: boolean;
}

const ONE_CYCLE: OptionRules<OneCycleOptions> = {
  maxLr: [RATE],
  totalSteps: [COUNT],
  pctStart: [[0, 1], 0.3],
  annealStrategy: [['cos', 'linear'], 'cos'],
  cycleMomentum: ['boolean', true],
  baseMomentum: [[0, 1], 0.85],
  maxMomentum: [[0, 1], 0.95],
  divFactor: [POSITIVE, 25],
  finalDivFactor: [POSITIVE, 1e4],
  threePhase: ['boolean', false],
};

interface Phase {
  readonly end: number;
  readonly lr: readonly [number, number];
  readonly momentum: readonly [number, number];
}

/** One rise and one fall of the rate (Smith and Topin 2018), stepped once per batch. */
export class OneCycleLR extends Scheduler<OneCycleOptions> {
  static override readonly name = 'OneCycleLR';
  readonly #phases: readonly Phase[];

  constructor(optimizer: Scheduled, options: OneCycleOptions) {
    super(optimizer, options, ONE_CYCLE);
    const full = this.options;
    const { maxLr, baseMomentum: low, maxMomentum: high, totalSteps, pctStart } = full;
    const initial = maxLr / full.divFactor;
    const final = initial / full.finalDivFactor;
    const peak = pctStart * totalSteps - 1;
    this.#phases = full.threePhase
      ? [
          { end: peak, lr: [initial, maxLr], momentum: [high, low] },
          { end: 2 * pctStart * totalSteps - 2, lr: [maxLr, initial], momentum: [low, high] },
          { end: totalSteps - 1, lr: [initial, final], momentum: [high, high] },
        ]
      : [
          { end: peak, lr: [initial, maxLr], momentum: [high, low] },
          { end: totalSteps - 1, lr: [maxLr, final], momentum: [low, high] },
        ];
    this.apply();
  }

  #anneal(epoch: number, of: (phase: Phase) => readonly [number, number]): number {
    let start = 0;
    for (const [i, phase] of this.#phases.entries()) {
      if (epoch <= phase.end || i === this.#phases.length - 1) {
        // A phase of one step, as in a short cycle, is at its end.
        const share = phase.end === start ? 1 : (epoch - start) / (phase.end - start);
        const [from, to] = of(phase);
        return this.options.annealStrategy === 'linear'
          ? from + (to - from) * share
          : to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
      }
      start = phase.end;
    }
    return of(this.#phases[0] as Phase)[1];
  }

  rate(_base: number, epoch: number): number {
    if (epoch > this.options.totalSteps) {
      throw new ArgumentError(`step ${epoch} of ${this.options.totalSteps}`, {
        op: 'OneCycleLR',
        hint: 'totalSteps counts batches: epochs * loader.length',
      });
    }
    return this.#anneal(epoch, (phase) => phase.lr);
  }

  protected override apply(): void {
    super.apply();
    if (!this.options.cycleMomentum) return;
    const momentum = this.#anneal(this.epoch, (phase) => phase.momentum);
    for (const group of this.optimizer.paramGroups) {
      if (group.beta1 !== undefined) group.beta1 = momentum;
      else if (group.momentum !== undefined) group.momentum = momentum;
    }
  }
}

export interface PlateauOptions {
  readonly mode?: 'min' | 'max';
  readonly factor?: number;
  readonly patience?: number;
  readonly threshold?: number;
  readonly thresholdMode?: 'rel' | 'abs';
  readonly cooldown?: number;
  readonly minLr?: number;
  readonly eps?: number;
}

const PLATEAU: OptionRules<PlateauOptions> = {
  mode: [['min', 'max'], 'min'],
  factor: [[0, 1, 'below'], 0.1],
  patience: [WHOLE, 10],
  threshold: [RATE, 1e-4],
  thresholdMode: [['rel', 'abs'], 'rel'],
  cooldown: [WHOLE, 0],
  minLr: [RATE, 0],
  eps: [RATE, 1e-8],
};

/** Multiplies the rate by `factor` when a metric has stopped improving for `patience` epochs. */
export class ReduceLROnPlateau {
  readonly #optimizer: Scheduled;
  readonly #options: Required<PlateauOptions>;
  #best: number;
  #bad = 0;
  #cooldown = 0;

  constructor(optimizer: Scheduled, options: PlateauOptions = {}) {
    const op = 'ReduceLROnPlateau';
    checkOptimizer(op, optimizer);
    this.#optimizer = optimizer;
    this.#options = readOptions(op, options, PLATEAU);
    this.#best = this.#options.mode === 'min' ? Infinity : -Infinity;
  }

  #improves(metric: number): boolean {
    const { mode, threshold, thresholdMode } = this.#options;
    const best = this.#best;
    if (mode === 'min') {
      return metric < (thresholdMode === 'rel' ? best * (1 - threshold) : best - threshold);
    }
    return metric > (thresholdMode === 'rel' ? best * (1 + threshold) : best + threshold);
  }

  /** Reports this epoch's metric. */
  step(metric: number): void {
    if (typeof metric !== 'number') {
      throw new ArgumentError(`expected the metric as a number, got ${describeValue(metric)}`, {
        op: 'ReduceLROnPlateau.step',
      });
    }
    act('ReduceLROnPlateau.step', () => this.#report(metric));
  }

  #report(metric: number): void {
    if (this.#improves(metric)) {
      this.#best = metric;
      this.#bad = 0;
    } else this.#bad++;
    if (this.#cooldown > 0) {
      this.#cooldown--;
      this.#bad = 0;
    }
    if (this.#bad <= this.#options.patience) return;
    const { factor, minLr, eps, cooldown } = this.#options;
    for (const group of this.#optimizer.paramGroups) {
      const reduced = Math.max(group.lr * factor, minLr);
      if (group.lr - reduced > eps) group.lr = reduced;
    }
    this.#cooldown = cooldown;
    this.#bad = 0;
  }

  lastLr(): number[] {
    return this.#optimizer.paramGroups.map((group) => group.lr);
  }

  stateDict(): SchedulerState {
    return { best: this.#best, bad: this.#bad, cooldown: this.#cooldown };
  }

  loadStateDict(state: SchedulerState): void {
    const { best, bad, cooldown } = state ?? {};
    if (typeof best !== 'number' || typeof bad !== 'number' || typeof cooldown !== 'number') {
      throw new ArgumentError('the state is of another kind of schedule', {
        op: 'ReduceLROnPlateau.loadStateDict',
      });
    }
    this.#best = best;
    this.#bad = bad;
    this.#cooldown = cooldown;
  }
}
