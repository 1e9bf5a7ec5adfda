// A whole training run of a character-level GPT: model, schedule, progress, checkpoints, resuming.
import {
  ArgumentError,
  defaultGenerator,
  F,
  manualSeed,
  nn,
  noGrad,
  optim,
  stats,
  type Tensor,
} from 'tengen';
import { loadCheckpoint, saveCheckpoint } from 'tengen/io';
import { progress } from 'tengen/terminal';
import { GPT } from 'tengen/text';
import { checkSettings, recentMean } from '../command.ts';
import type { Characters } from './characters.ts';

/** What decides the result of a run, bit for bit on one kind of machine. */
export interface Settings {
  readonly steps: number;
  readonly batch: number;
  /** Highest learning rate. */
  readonly lr: number;
  readonly dropout: number;
  readonly seed: number;
}

/** Sizes of the model. */
export const SIZES = { layers: 4, width: 128, heads: 4, contextLength: 128 } as const;

const WARM_UP = 0.1;
/** Share of the highest rate that is left at the end. */
const LAST_RATE = 0.1;
const LARGEST_NORM = 1;
const WEIGHT_DECAY = 0.1;
const EVALUATION_BATCH = 32;
/** How often the held-out text is read in a run. */
const EVALUATIONS = 4;

export interface RunOptions {
  readonly text: Characters;
  /** Where the checkpoint goes, after each evaluation and when interrupted. */
  readonly checkpoint: string;
  /** Aborted to stop once the step in hand is done. */
  readonly signal?: AbortSignal;
}

/** How a run ended. */
export interface Result {
  /** True if it stopped before its end, with a checkpoint written. */
  readonly interrupted: boolean;
  /** Mean loss on the held-out text at the end. */
  readonly heldOutLoss: number;
  /** Milliseconds of each step of this process. */
  readonly stepMs: readonly number[];
  /** Seconds of all steps of this process together. */
  readonly trainSeconds: number;
  readonly planMissesAfterWarmUp: number;
}

/** Everything that a run needs to go on as if it had never stopped. */
interface Checkpoint {
  readonly settings: Settings;
  readonly characters: readonly string[];
  readonly model: nn.StateDict;
  readonly optimizer: optim.OptimizerState;
  readonly schedule: optim.SchedulerState;
  readonly generator: { readonly seed: number; readonly offset: number };
  readonly lossCurve: readonly number[];
}

/** The model with matrices from N(0, 0.02²), as GPT-2's, those that end a shortcut smaller. */
export function makeModel(vocabulary: number, dropout: number): GPT {
  const model = nn.init.skip(() => new GPT({ ...SIZES, vocabulary, dropout }));
  for (const [name, parameter] of model.namedParameters()) {
    if (parameter.ndim < 2) continue;
    const endsShortcut = /\.(o|f2)\.weight$/.test(name);
    nn.init.normal(parameter, 0, endsShortcut ? 0.02 / Math.sqrt(2 * SIZES.layers) : 0.02);
  }
  return model;
}

/** A straight rise to the highest rate, then half a cosine (Loshchilov and Hutter 2017). */
function rateFactor(step: number, steps: number): number {
  const rising = Math.max(1, WARM_UP * steps);
  if (step < rising) return (step + 1) / rising;
  const share = Math.min(1, (step - rising) / Math.max(1, steps - rising));
  return LAST_RATE + ((1 - LAST_RATE) * (1 + Math.cos(Math.PI * share))) / 2;
}

export class TrainingRun {
  readonly settings: Settings;
  readonly model: GPT;
  /** The loss of every step so far, those before a resumption included. */
  readonly lossCurve: number[] = [];
  readonly #options: RunOptions;
  readonly #optimizer: optim.AdamW;
  readonly #schedule: optim.LambdaLR;

  constructor(settings: Settings, options: RunOptions) {
    const { steps, lr, dropout, seed } = settings;
    this.settings = settings;
    this.#options = options;
    manualSeed(seed);
    this.model = makeModel(options.text.vocabulary.size, dropout);
    const parameters = this.model.parameters();
    // Biases and normalizations are not pulled to zero.
    const groups = [
      { params: parameters.filter(({ ndim }) => ndim >= 2), weightDecay: WEIGHT_DECAY },
      { params: parameters.filter(({ ndim }) => ndim < 2), weightDecay: 0 },
    ];
    this.#optimizer = new optim.AdamW(groups, { lr, betas: [0.9, 0.99] });
    this.#schedule = new optim.LambdaLR(this.#optimizer, (step) => rateFactor(step, steps));
  }

  /** Continues the run that wrote a checkpoint. Throws if it is of other settings or another text. */
  static async resume(
    file: string,
    options: RunOptions,
    given: Partial<Settings> = {},
  ): Promise<TrainingRun> {
    const saved = await loadCheckpoint<Checkpoint>(file);
    checkSettings(file, saved.settings, given);
    if (saved.characters.join('') !== options.text.vocabulary.characters.join('')) {
      throw new ArgumentError(`the run in ${file} has learned other characters`, {
        hint: 'give the --data that it began with',
      });
    }
    const run = new TrainingRun(saved.settings, options);
    run.model.loadStateDict(saved.model);
    run.#optimizer.loadStateDict(saved.optimizer);
    run.#schedule.loadStateDict(saved.schedule);
    run.lossCurve.push(...saved.lossCurve);
    defaultGenerator.setState(saved.generator);
    return run;
  }

  async #save(): Promise<void> {
    await saveCheckpoint(this.#options.checkpoint, {
      settings: this.settings,
      characters: this.#options.text.vocabulary.characters,
      model: this.model.stateDict(),
      optimizer: this.#optimizer.stateDict(),
      schedule: this.#schedule.stateDict(),
      generator: defaultGenerator.getState(),
      lossCurve: this.lossCurve,
    } satisfies Checkpoint);
  }

  /** Mean loss on the held-out text. */
  async evaluate(): Promise<number> {
    this.model.eval();
    let sum = 0;
    let count = 0;
    for (const { tokens, next } of this.#options.text.heldOut(EVALUATION_BATCH)) {
      sum += (await noGrad(() => lossOf(this.model, tokens, next)).item()) * tokens.size;
      count += tokens.size;
    }
    return sum / count;
  }

  /** Trains to the end, or until the signal. */
  async train(): Promise<Result> {
    const { steps } = this.settings;
    const stepMs: number[] = [];
    const every = Math.ceil(steps / EVALUATIONS);
    let misses: number | null = null;
    let compiled = 0;
    let interrupted = false;
    let heldOutLoss = Number.NaN;
    while (!interrupted && this.lossCurve.length < steps) {
      const end = Math.min(steps, (Math.floor(this.lossCurve.length / every) + 1) * every);
      const before = stats().planMisses;
      interrupted = await this.#steps(end, stepMs);
      // The first stretch compiles.
      if (misses !== null) compiled += stats().planMisses - before;
      misses ??= 0;
      if (!interrupted) {
        heldOutLoss = await this.evaluate();
        console.log(`step ${this.lossCurve.length}: held-out loss ${heldOutLoss.toFixed(4)}`);
      }
      await this.#save();
    }
    if (Number.isNaN(heldOutLoss) && !interrupted) heldOutLoss = await this.evaluate();
    const trainSeconds = stepMs.reduce((sum, ms) => sum + ms, 0) / 1000;
    return { interrupted, heldOutLoss, stepMs, trainSeconds, planMissesAfterWarmUp: compiled };
  }

  /** Steps up to `end`; true if the signal ended them before. */
  async #steps(end: number, stepMs: number[]): Promise<boolean> {
    const { text, signal } = this.#options;
    const { batch, seed, steps, lr } = this.settings;
    const first = this.lossCurve.length;
    using bar = progress(end - first, {
      label: `steps ${first + 1}-${end}/${steps}`,
      unit: 'char',
      unitsPerStep: batch * SIZES.contextLength,
    });
    this.model.train();
    for (let step = first; step < end; step++) {
      const start = performance.now();
      const { tokens, next } = text.batch(batch, seed, step);
      const loss = lossOf(this.model, tokens, next);
      this.#optimizer.zeroGrad();
      loss.backward();
      optim.clipGradNorm(this.model.parameters(), LARGEST_NORM);
      this.#optimizer.step(); // forward, backward and update run here, as one compiled plan
      this.#schedule.step();
      const value = await loss.item();
      stepMs.push(performance.now() - start);
      this.lossCurve.push(value);
      if (!Number.isFinite(value)) {
        // No checkpoint: the one before this is the last that is of use.
        throw new ArgumentError(`the loss is ${value} at step ${step + 1}`, {
          hint: `the learning rate of ${lr} is too high: try a lower --lr`,
        });
      }
      bar.advance(1, { loss: recentMean(this.lossCurve) });
      // Signals are delivered between turns of the event loop, and training awaits none by itself.
      await new Promise((resolve) => setImmediate(resolve));
      if (signal?.aborted === true && step + 1 < steps) return true;
    }
    return false;
  }
}

/** Mean loss of the next token, over all places of all windows. */
function lossOf(model: GPT, tokens: Tensor, next: Tensor): Tensor {
  return F.crossEntropy(model.forward(tokens).flatten(0, 1), next.flatten());
}
