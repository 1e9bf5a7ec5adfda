// A running average of a model's weights, to evaluate with (Izmailov et al. 2018; Polyak).
import { checkFunction, checkKeys, checkNumber } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import { withoutTracking } from '../../graph/op.ts';
import { scalar } from '../../graph/ops/leaf.ts';
import { engine } from '../tensor/engine.ts';
import { tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { newBuffer } from './create.ts';
import { functionalCall } from './functional-call.ts';
import { Module } from './module.ts';
import { BatchNorm1d, BatchNorm2d, BatchNorm3d } from './normalization.ts';
import { Buffer } from './parameter.ts';

export interface AveragedModelOptions {
  /** Weight of the past in an exponential average (EMA); default none: all weights count the same. */
  readonly decay?: number;
  /** Average buffers (running statistics) too; default false: they are copied. */
  readonly useBuffers?: boolean;
}

/**
 * Holds the average of another model's parameters; `forward` is that model's, computed with it. Call
 * `updateParameters` after each optimizer step. The average costs one more copy of the parameters.
 *
 * @example
 * const layer = new nn.Linear(1, 1, { bias: false });
 * const average = new AveragedModel(layer, { decay: 0.5 });
 * for (const value of [2, 4]) {
 *   layer.weight.setData([value]);
 *   average.updateParameters();
 * }
 * average.forward(tensor([[1]])); // => [[3]]
 */
export class AveragedModel<I extends readonly unknown[], O> extends Module {
  readonly #model: Module & { forward(...inputs: I): O };
  readonly #averages = new Map<string, Buffer>();
  readonly #averaged: ReadonlySet<string>;
  readonly #decay: number | null;
  /** Number of updates so far. */
  readonly nAveraged: Buffer = newBuffer([], 0, 'int32');
  #count = 0;

  constructor(model: Module & { forward(...inputs: I): O }, options: AveragedModelOptions = {}) {
    super();
    const op = 'nn.AveragedModel';
    checkKeys(op, options, ['decay', 'useBuffers']);
    const { decay = null, useBuffers = false } = options;
    if (decay !== null) checkNumber(op, 'decay', decay, [0, 1]);
    this.#decay = decay;
    this.#model = model;
    for (const [name, tensor] of Object.entries(model.stateDict())) {
      this.#averages.set(name, new Buffer(tensor));
    }
    const names = [...model.namedParameters()].map(([name]) => name);
    const buffers = useBuffers ? [...model.namedBuffers()].map(([name]) => name) : [];
    this.#averaged = new Set([...names, ...buffers]);
  }

  protected override *members(): Generator<[string, Module | Tensor]> {
    yield ['n_averaged', this.nAveraged];
    for (const [name, average] of this.#averages) yield [`module.${name}`, average];
  }

  /** The averages by the model's names: what `model.loadStateDict` takes. */
  averages(): Record<string, Tensor> {
    return Object.fromEntries(this.#averages);
  }

  /** Takes the model's present weights into the average; the first ones become it. */
  updateParameters(): void {
    // What it computes differs the first time: no part of a traced step, which runs it each time.
    engine().outside({
      name: 'AveragedModel.updateParameters',
      inputs: [],
      run: () => this.#update(),
    });
  }

  #update(): void {
    const own = this.#model.stateDict();
    const count = this.#count || this.nAveraged.itemSync();
    withoutTracking(() => {
      for (const [name, average] of this.#averages) {
        const value = own[name];
        if (value === undefined) {
          throw new ArgumentError(`the model has no '${name}' any more`, {
            op: 'nn.AveragedModel',
          });
        }
        average.assign(this.#moved(name, average, value, count), { inPlace: true });
      }
      this.#count = count + 1;
      this.nAveraged.setData([this.#count]);
    });
    // Now, while the weights are what they are: somebody may overwrite them from outside.
    engine().evaluate(Array.from(this.#averages.values(), ({ node }) => node));
  }

  #moved(name: string, average: Buffer, value: Tensor, count: number): Tensor {
    if (!this.#averaged.has(name) || !isFloat(average.dtype)) return value.clone();
    if (count === 0) return value.clone();
    const share = this.#decay === null ? 1 / (count + 1) : 1 - this.#decay;
    const slot = (factor: number): Tensor => tensorOn(scalar(factor, average.dtype));
    return average.mul(slot(1 - share)).add(value.mul(slot(share)));
  }

  /** The model's `forward` in evaluation mode, with the averages in place of its weights. */
  override forward(...inputs: I): O {
    const modes = this.#model.modules().map((module) => [module, module.training] as const);
    this.#model.eval();
    try {
      return functionalCall(this.#model, this.averages(), ...inputs);
    } finally {
      for (const [module, training] of modes) module.training = training;
    }
  }

  override describe(): string {
    const text = this.#decay === null ? '' : `, decay=${this.#decay}`;
    return `AveragedModel(${this.#model.describe()}${text})`;
  }
}

/**
 * Computes the running statistics of batch normalization anew, as means over `batches`: averaged
 * weights have other statistics than any of those they are made of. Load them into the model first:
 * `model.loadStateDict(average.averages())`. The model is left in its mode.
 */
export async function updateBatchNorm(
  batches: Iterable<Tensor> | AsyncIterable<Tensor>,
  model: Module & { forward(x: Tensor): unknown },
): Promise<void> {
  checkFunction('updateBatchNorm', model?.forward);
  const layers = model.modules().filter(isBatchNorm);
  const before = layers.map(({ momentum }) => momentum);
  const modes = model.modules().map((module) => [module, module.training] as const);
  for (const layer of layers) {
    layer.resetRunningStats();
    layer.momentum = null;
  }
  model.train();
  try {
    for await (const batch of batches) {
      withoutTracking(() => model.forward(batch));
      for (const { runningMean, runningVar } of layers) {
        engine().evaluate([runningMean, runningVar].flatMap((x) => (x === null ? [] : [x.node])));
      }
    }
  } finally {
    for (const [i, layer] of layers.entries()) layer.momentum = before[i] ?? null;
    for (const [module, training] of modes) module.training = training;
  }
}

function isBatchNorm(module: Module): module is BatchNorm1d | BatchNorm2d | BatchNorm3d {
  return (
    module instanceof BatchNorm1d || module instanceof BatchNorm2d || module instanceof BatchNorm3d
  );
}
