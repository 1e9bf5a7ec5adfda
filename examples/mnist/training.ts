// A whole training run around the epochs of model.ts: schedule, progress, checkpoints, resuming.
import {
  ArgumentError,
  defaultGenerator,
  manualSeed,
  type nn,
  optim,
  stats,
  trace,
  type TraceOptions,
} from 'tengen';
import { DataLoader, type Dataset, type LabelledImage, type LoaderState } from 'tengen/data';
import { loadCheckpoint, saveCheckpoint } from 'tengen/io';
import { formatPercent, type ProgressBar, progress } from 'tengen/terminal';
import { checkSettings, recentMean } from '../command.ts';
import { DigitNet, evaluate, type Step, trainEpoch } from './model.ts';

/** What decides the result of a run, bit for bit on one kind of machine. */
export interface Settings {
  readonly epochs: number;
  readonly batch: number;
  /** Highest learning rate of the one-cycle schedule. */
  readonly lr: number;
  readonly seed: number;
}

export interface RunOptions {
  readonly train: Dataset<LabelledImage>;
  readonly test: Dataset<LabelledImage>;
  /** Where the checkpoint goes, after each epoch and when interrupted. */
  readonly checkpoint: string;
  /** How the step is traced; the bits are the same. Default: not at all. */
  readonly trace?: TraceOptions | undefined;
  /** Aborted to stop once the step in hand is done. */
  readonly signal?: AbortSignal;
}

/** How a run ended. */
export interface Result {
  /** True if it stopped before its end, with a checkpoint written. */
  readonly interrupted: boolean;
  /** Share of the test images read rightly, after each epoch of this process. */
  readonly testAccuracies: readonly number[];
  /** The answers to the test images after the last epoch, in order. */
  readonly answers: readonly number[];
  /** Milliseconds of each step of this process. */
  readonly stepMs: readonly number[];
  readonly planMissesAfterFirstEpoch: number;
}

/** Everything that a run needs to go on as if it had never stopped. */
interface Checkpoint {
  readonly settings: Settings;
  readonly model: nn.StateDict;
  readonly optimizer: optim.OptimizerState;
  readonly schedule: optim.SchedulerState;
  readonly generator: { readonly seed: number; readonly offset: number };
  readonly loader: LoaderState;
  readonly lossCurve: readonly number[];
}

const EVALUATION_BATCH = 256;

export class TrainingRun {
  readonly settings: Settings;
  readonly model: DigitNet;
  /** The loss of every step so far, those before a resumption included. */
  readonly lossCurve: number[] = [];
  readonly #options: RunOptions;
  readonly #loader: DataLoader<LabelledImage>;
  readonly #testLoader: DataLoader<LabelledImage>;
  readonly #optimizer: optim.SGD;
  readonly #schedule: optim.OneCycleLR;
  /** The step of all epochs, if it is traced. */
  #traced: Step | null = null;

  constructor(settings: Settings, options: RunOptions) {
    const { epochs, batch: batchSize, lr, seed } = settings;
    this.settings = settings;
    this.#options = options;
    this.#loader = new DataLoader(options.train, {
      batchSize,
      shuffle: true,
      seed,
      dropLast: true,
    });
    if (this.#loader.length === 0) {
      throw new ArgumentError(`${options.train.length} images do not fill a batch of ${batchSize}`);
    }
    this.#testLoader = new DataLoader(options.test, { batchSize: EVALUATION_BATCH });
    manualSeed(seed);
    this.model = new DigitNet();
    this.#optimizer = new optim.SGD(this.model.parameters(), { lr, momentum: 0.9 });
    this.#schedule = new optim.OneCycleLR(this.#optimizer, {
      maxLr: lr,
      totalSteps: epochs * this.#loader.length,
      cycleMomentum: false,
    });
  }

  /** Continues the run that wrote a checkpoint. Throws if it is finished, or of other settings. */
  static async resume(
    file: string,
    options: RunOptions,
    given: Partial<Settings> = {},
  ): Promise<TrainingRun> {
    const saved = await loadCheckpoint<Checkpoint>(file);
    checkSettings(file, saved.settings, given);
    const run = new TrainingRun(saved.settings, options);
    if (saved.loader.epoch >= saved.settings.epochs) {
      throw new ArgumentError(
        `the run in ${file} is finished after ${saved.settings.epochs} epochs`,
        {
          hint: 'start a new one without --resume',
        },
      );
    }
    run.model.loadStateDict(saved.model);
    run.#optimizer.loadStateDict(saved.optimizer);
    run.#schedule.loadStateDict(saved.schedule);
    run.#loader.loadState(saved.loader);
    run.lossCurve.push(...saved.lossCurve);
    defaultGenerator.setState(saved.generator);
    return run;
  }

  async #save(): Promise<void> {
    await saveCheckpoint(this.#options.checkpoint, {
      settings: this.settings,
      model: this.model.stateDict(),
      optimizer: this.#optimizer.stateDict(),
      schedule: this.#schedule.stateDict(),
      generator: defaultGenerator.getState(),
      loader: this.#loader.state(),
      lossCurve: this.lossCurve,
    } satisfies Checkpoint);
  }

  /** Trains to the end, or until the signal. */
  async train(): Promise<Result> {
    const { epochs } = this.settings;
    const { signal } = this.#options;
    const stepMs: number[] = [];
    const testAccuracies: number[] = [];
    let answers: readonly number[] = [];
    let missesOfFirstEpoch: number | null = null;
    let interrupted = false;
    while (!interrupted && this.#loader.epoch < epochs) {
      interrupted = await this.#epoch(stepMs);
      if (interrupted) break;
      const judged = await evaluate(this.model, this.#testLoader);
      testAccuracies.push(judged.accuracy);
      answers = judged.answers;
      console.log(`test accuracy ${formatPercent(judged.accuracy)}`);
      await this.#save();
      missesOfFirstEpoch ??= stats().planMisses;
      interrupted = signal?.aborted === true && this.#loader.epoch < epochs;
    }
    const planMissesAfterFirstEpoch = stats().planMisses - (missesOfFirstEpoch ?? 0);
    return { interrupted, testAccuracies, answers, stepMs, planMissesAfterFirstEpoch };
  }

  /** One epoch, or what is left of it; true if the signal ended it before its end. */
  async #epoch(stepMs: number[]): Promise<boolean> {
    const { signal } = this.#options;
    const { epoch, batch } = this.#loader.state();
    using bar = this.#progressBar(epoch, this.#loader.length - batch);
    let start = performance.now();
    let sum = 0;
    for await (const step of trainEpoch(
      this.model,
      this.#optimizer,
      this.#schedule,
      this.#loader,
      (plain) => this.#formOf(plain),
    )) {
      stepMs.push(performance.now() - start);
      this.lossCurve.push(step.loss);
      if (!Number.isFinite(step.loss)) {
        // No checkpoint: the one before this is the last that is of use.
        throw new ArgumentError(`the loss is ${step.loss} at step ${this.lossCurve.length}`, {
          hint: `the learning rate of ${this.settings.lr} is too high: try a lower --lr`,
        });
      }
      sum += step.accuracy;
      bar.advance(1, { loss: recentMean(this.lossCurve), accuracy: sum / (bar.done + 1) });
      // Signals are delivered between turns of the event loop, and training awaits none by itself.
      await new Promise((resolve) => setImmediate(resolve));
      if (signal?.aborted === true) {
        await this.#save();
        return true;
      }
      start = performance.now();
    }
    return false;
  }

  #formOf(step: Step): Step {
    const { trace: options } = this.#options;
    if (options === undefined) return step;
    this.#traced ??= trace(step, options);
    return this.#traced;
  }

  #progressBar(epoch: number, steps: number): ProgressBar {
    return progress(steps, {
      label: `epoch ${epoch + 1}/${this.settings.epochs}`,
      unit: 'img',
      unitsPerStep: this.settings.batch,
      format: { accuracy: formatPercent },
    });
  }
}
