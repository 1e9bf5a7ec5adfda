// Learning-rate schedules, PyTorch's by name and formula. A schedule changes `group.lr`; rates are
// scalar slots of the plan, so no schedule ever recompiles a step.
import {
  checkInteger,
  checkKeys,
  checkNumber,
  describeValue,
  type OptionRule,
  type Range,
  readOptions,
} from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';

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

function checkOptimizer(op: string, optimizer: Scheduled): void {
  if (Array.isArray((optimizer as Scheduled | undefined)?.paramGroups)) return;
  throw new ArgumentError(`expected an optimizer, got ${describeValue(optimizer)}`, { op });
}

/** Base of schedules that are a function of the epoch: `lr = rate(base, epoch)`. */
export abstract class Scheduler {
  /** Number of `step()` calls so far. */
  epoch = 0;
  protected readonly baseRates: number[];
  protected readonly optimizer: Scheduled;

  constructor(optimizer: Scheduled) {
    checkOptimizer(this.constructor.name, optimizer);
    this.optimizer = optimizer;
    this.baseRates = optimizer.paramGroups.map((group) => group.lr);
  }

  /** Options over their defaults. Throws ArgumentError for unknown ones, and values out of bounds. */
  protected read<O extends object>(
    options: O,
    defaults: Partial<O>,
    rules: Readonly<Record<keyof O, OptionRule>>,
  ): Required<O> {
    return readOptions(this.constructor.name, options, defaults, rules);
  }

  /** The rate of a group at `epoch`, counted from 0. */
  protected abstract rate(base: number, epoch: number): number;

  /** Sets the rates of the present epoch: constructors call it once. */
  protected apply(): void {
    this.optimizer.paramGroups.forEach((group, i) => {
      group.lr = this.rate(this.baseRates[i] ?? group.lr, this.epoch);
    });
  }

  /** Goes on to the next epoch. */
  step(): void {
    this.epoch++;
    this.apply();
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

/** Multiplies the rate by `gamma` every `stepSize` epochs. */
export class StepLR extends Scheduler {
  static override readonly name = 'StepLR';
  readonly #stepSize: number;
  readonly #gamma: number;

  constructor(optimizer: Scheduled, options: { stepSize: number; gamma?: number }) {
    super(optimizer);
    const rules = { stepSize: COUNT, gamma: RATE };
    const { stepSize, gamma } = this.read(options, { gamma: 0.1 }, rules);
    this.#stepSize = stepSize;
    this.#gamma = gamma;
  }

  protected rate(base: number, epoch: number): number {
    return base * this.#gamma ** Math.floor(epoch / this.#stepSize);
  }
}

/** Multiplies the rate by `gamma` at each milestone. */
export class MultiStepLR extends Scheduler {
  static override readonly name = 'MultiStepLR';
  readonly #milestones: readonly number[];
  readonly #gamma: number;

  constructor(optimizer: Scheduled, options: { milestones: readonly number[]; gamma?: number }) {
    super(optimizer);
    const op = this.constructor.name;
    checkKeys(op, options, ['milestones', 'gamma']);
    const { milestones, gamma = 0.1 } = options;
    if (!Array.isArray(milestones)) {
      throw new ArgumentError(`milestones must be a list, got ${describeValue(milestones)}`, {
        op,
      });
    }
    for (const milestone of milestones) checkInteger(op, 'a milestone', milestone, 0);
    this.#milestones = milestones;
    this.#gamma = checkNumber(op, 'gamma', gamma);
  }

  protected rate(base: number, epoch: number): number {
    return base * this.#gamma ** this.#milestones.filter((milestone) => milestone <= epoch).length;
  }
}

/** Multiplies the rate by `gamma` every epoch. */
export class ExponentialLR extends Scheduler {
  static override readonly name = 'ExponentialLR';
  readonly #gamma: number;

  constructor(optimizer: Scheduled, options: { gamma: number }) {
    super(optimizer);
    this.#gamma = this.read(options, {}, { gamma: RATE }).gamma;
  }

  protected rate(base: number, epoch: number): number {
    return base * this.#gamma ** epoch;
  }
}

/** Multiplies the rate by `factor` until `totalIters` epochs have passed. */
export class ConstantLR extends Scheduler {
  static override readonly name = 'ConstantLR';
  readonly #factor: number;
  readonly #totalIters: number;

  constructor(optimizer: Scheduled, options: { factor?: number; totalIters?: number } = {}) {
    super(optimizer);
    const rules = { factor: RATE, totalIters: WHOLE };
    const full = this.read(options, { factor: 1 / 3, totalIters: 5 }, rules);
    this.#factor = full.factor;
    this.#totalIters = full.totalIters;
    this.apply();
  }

  protected rate(base: number, epoch: number): number {
    return epoch < this.#totalIters ? base * this.#factor : base;
  }
}

/** A straight line from `startFactor` to `endFactor` over `totalIters` epochs: warm-up. */
export class LinearLR extends Scheduler {
  static override readonly name = 'LinearLR';
  readonly #start: number;
  readonly #end: number;
  readonly #totalIters: number;

  constructor(
    optimizer: Scheduled,
    options: { startFactor?: number; endFactor?: number; totalIters?: number } = {},
  ) {
    super(optimizer);
    const defaults = { startFactor: 1 / 3, endFactor: 1, totalIters: 5 };
    const rules = { startFactor: RATE, endFactor: RATE, totalIters: COUNT };
    const full = this.read(options, defaults, rules);
    this.#start = full.startFactor;
    this.#end = full.endFactor;
    this.#totalIters = full.totalIters;
    this.apply();
  }

  protected rate(base: number, epoch: number): number {
    const share = Math.min(epoch / this.#totalIters, 1);
    return base * (this.#start + (this.#end - this.#start) * share);
  }
}

/** Falls to zero over `totalIters` epochs as `(1 - epoch / totalIters) ** power`. */
export class PolynomialLR extends Scheduler {
  static override readonly name = 'PolynomialLR';
  readonly #totalIters: number;
  readonly #power: number;

  constructor(optimizer: Scheduled, options: { totalIters?: number; power?: number } = {}) {
    super(optimizer);
    const rules = { totalIters: COUNT, power: RATE };
    const full = this.read(options, { totalIters: 5, power: 1 }, rules);
    this.#totalIters = full.totalIters;
    this.#power = full.power;
  }

  protected rate(base: number, epoch: number): number {
    return base * (1 - Math.min(epoch / this.#totalIters, 1)) ** this.#power;
  }
}

/** Half a cosine from the base rate to `etaMin` over `tMax` epochs (Loshchilov and Hutter 2017). */
export class CosineAnnealingLR extends Scheduler {
  static override readonly name = 'CosineAnnealingLR';
  readonly #tMax: number;
  readonly #etaMin: number;

  constructor(optimizer: Scheduled, options: { tMax: number; etaMin?: number }) {
    super(optimizer);
    const { tMax, etaMin } = this.read(options, { etaMin: 0 }, { tMax: COUNT, etaMin: RATE });
    this.#tMax = tMax;
    this.#etaMin = etaMin;
  }

  protected rate(base: number, epoch: number): number {
    const cosine = Math.cos((Math.PI * epoch) / this.#tMax);
    return this.#etaMin + ((base - this.#etaMin) * (1 + cosine)) / 2;
  }
}

/** Cosine annealing that starts again after t0, t0 * tMult, t0 * tMult^2, ... epochs. */
export class CosineAnnealingWarmRestarts extends Scheduler {
  static override readonly name = 'CosineAnnealingWarmRestarts';
  readonly #t0: number;
  readonly #tMult: number;
  readonly #etaMin: number;

  constructor(optimizer: Scheduled, options: { t0: number; tMult?: number; etaMin?: number }) {
    super(optimizer);
    const rules = { t0: COUNT, tMult: COUNT, etaMin: RATE };
    const full = this.read(options, { tMult: 1, etaMin: 0 }, rules);
    this.#t0 = full.t0;
    this.#tMult = full.tMult;
    this.#etaMin = full.etaMin;
  }

  protected rate(base: number, epoch: number): number {
    let period = this.#t0;
    let within = epoch;
    while (within >= period) {
      within -= period;
      period *= this.#tMult;
    }
    const cosine = Math.cos((Math.PI * within) / period);
    return this.#etaMin + ((base - this.#etaMin) * (1 + cosine)) / 2;
  }
}

/** Multiplies the rate by a function of the epoch. */
export class LambdaLR extends Scheduler {
  static override readonly name = 'LambdaLR';
  readonly #factor: (epoch: number) => number;

  constructor(optimizer: Scheduled, factor: (epoch: number) => number) {
    super(optimizer);
    if (typeof factor !== 'function') {
      throw new ArgumentError(`expected a function of the epoch, got ${describeValue(factor)}`, {
        op: this.constructor.name,
      });
    }
    this.#factor = factor;
    this.apply();
  }

  protected rate(base: number, epoch: number): number {
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

const ONE_CYCLE = {
  pctStart: 0.3,
  annealStrategy: 'cos',
  cycleMomentum: true,
  baseMomentum: 0.85,
  maxMomentum: 0.95,
  divFactor: 25,
  finalDivFactor: 1e4,
  threePhase: false,
} as const;

const ONE_CYCLE_RULES: Readonly<Record<keyof OneCycleOptions, OptionRule>> = {
  maxLr: RATE,
  totalSteps: COUNT,
  pctStart: [0, 1],
  annealStrategy: ['cos', 'linear'],
  cycleMomentum: 'boolean',
  baseMomentum: [0, 1],
  maxMomentum: [0, 1],
  divFactor: [0, Infinity, 'above'],
  finalDivFactor: [0, Infinity, 'above'],
  threePhase: 'boolean',
};

interface Phase {
  readonly end: number;
  readonly lr: readonly [number, number];
  readonly momentum: readonly [number, number];
}

/** One rise and one fall of the rate (Smith and Topin 2018), stepped once per batch. */
export class OneCycleLR extends Scheduler {
  static override readonly name = 'OneCycleLR';
  readonly #options: Required<OneCycleOptions>;
  readonly #phases: readonly Phase[];

  constructor(optimizer: Scheduled, options: OneCycleOptions) {
    super(optimizer);
    const full = this.read(options, ONE_CYCLE, ONE_CYCLE_RULES);
    this.#options = full;
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
        return this.#options.annealStrategy === 'linear'
          ? from + (to - from) * share
          : to + ((from - to) / 2) * (1 + Math.cos(Math.PI * share));
      }
      start = phase.end;
    }
    return of(this.#phases[0] as Phase)[1];
  }

  protected rate(_base: number, epoch: number): number {
    if (epoch > this.#options.totalSteps) {
      throw new ArgumentError(`step ${epoch} of ${this.#options.totalSteps}`, {
        op: 'OneCycleLR',
        hint: 'totalSteps counts batches: epochs * loader.length',
      });
    }
    return this.#anneal(epoch, (phase) => phase.lr);
  }

  protected override apply(): void {
    super.apply();
    if (!this.#options.cycleMomentum) return;
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

const PLATEAU = {
  mode: 'min',
  factor: 0.1,
  patience: 10,
  threshold: 1e-4,
  thresholdMode: 'rel',
  cooldown: 0,
  minLr: 0,
  eps: 1e-8,
} as const;

const PLATEAU_RULES: Readonly<Record<keyof PlateauOptions, OptionRule>> = {
  mode: ['min', 'max'],
  factor: [0, 1, 'below'],
  patience: WHOLE,
  threshold: RATE,
  thresholdMode: ['rel', 'abs'],
  cooldown: WHOLE,
  minLr: RATE,
  eps: RATE,
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
    this.#options = readOptions(op, options, PLATEAU, PLATEAU_RULES);
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
