// Adapters of the family `end_to_end`: whole trainings from given weights, batch after batch.

import { numberOf, optionsOf, recordOf, textOf } from './attributes.ts';
import {
  call,
  find,
  floats,
  make,
  makeCausalMask,
  nn,
  readTensor,
  readTensors,
  rowsOf,
} from './framework.ts';
import type { Layer, Tensor } from './framework.ts';
import type { Attributes, Json } from './manifest.ts';
import type { AdapterContext, AdapterTable, Inputs } from './runner.ts';

/** Constructor arguments that our layers take by position; all others are options. */
const POSITIONAL: Readonly<Record<string, readonly string[]>> = {
  Linear: ['in_features', 'out_features'],
  Conv2d: ['in_channels', 'out_channels', 'kernel_size'],
  ConvTranspose2d: ['in_channels', 'out_channels', 'kernel_size'],
  BatchNorm2d: ['num_features'],
  GroupNorm: ['num_groups', 'num_channels'],
  LayerNorm: ['normalized_shape'],
  MaxPool2d: ['kernel_size'],
  Flatten: ['start_dim', 'end_dim'],
};

function buildLayer(kind: string, config: Attributes): Layer {
  const names = POSITIONAL[kind] ?? [];
  return make<Layer>(kind, ...names.map((name) => config[name]), optionsOf(config, ...names));
}

function buildSequence(rows: readonly Json[]): nn.Sequential {
  const layers = rows.map((row) => {
    const [name, kind, config] = row as readonly [string, string, Attributes];
    return [name, buildLayer(kind, config)] as const;
  });
  return new nn.Sequential(Object.fromEntries(layers));
}

/** The language model of the golden set's README. */
class TransformerLM extends nn.Module {
  token: Layer;
  position: Layer;
  layers: Layer[];
  norm: Layer;
  head: Layer;

  constructor(config: Attributes) {
    super();
    const { vocab, length, num_layers: layerCount, d_model: width, ...layer } = config;
    const options = optionsOf({ ...layer, dropout: 0, batch_first: true }, 'nhead');
    this.token = make<Layer>('Embedding', vocab, width);
    this.position = make<Layer>('Embedding', length, width);
    this.layers = Array.from({ length: Number(layerCount) }, () =>
      make<Layer>('TransformerEncoderLayer', width, layer['nhead'], options),
    );
    this.norm = make<Layer>('LayerNorm', width);
    this.head = buildLayer('Linear', { in_features: width ?? 0, out_features: vocab ?? 0 });
  }

  override forward(tokens: Tensor): Tensor {
    const length = tokens.shape[1] ?? 0;
    const places = call('arange', 0, length, 1, { dtype: 'int32' });
    const srcMask = makeCausalMask(length);
    let x = call('add', this.token.forward(tokens), this.position.forward(places));
    for (const layer of this.layers) x = layer.forward(x, { srcMask });
    return this.head.forward(this.norm.forward(x));
  }
}

type Model = nn.Sequential | TransformerLM;

interface Batch {
  readonly x: Tensor;
  readonly target: Tensor;
}

/** Sets the parameters to the tensors that follow the data, by their names. */
async function setWeights(model: Model, inputs: Inputs, names: readonly (string | null)[]) {
  const parameters = new Map(model.namedParameters());
  for (const [i, name] of names.entries()) {
    const input = inputs[i];
    const parameter = name === null ? undefined : parameters.get(name);
    if (input === undefined || parameter === undefined) continue;
    parameter.setData((await readTensor(input)).data as ArrayLike<number>);
    parameters.delete(name ?? '');
  }
  if (parameters.size > 0) {
    throw new Error(`no weights for ${[...parameters.keys()].join(', ')}`);
  }
}

interface Stepper {
  step(): void;
  zeroGrad(): void;
}

function buildOptimizer(model: Model, attrs: Attributes): Stepper {
  const [name, config] = attrs['optimizer'] as readonly [string, Attributes];
  return make<Stepper>(name, model.parameters(), optionsOf(config));
}

function buildScheduler(stepper: Stepper, attrs: Attributes): { step(): void } | undefined {
  if (attrs['scheduler'] === undefined) return undefined;
  const [name, config] = attrs['scheduler'] as readonly [string, Attributes];
  return make<{ step(): void }>(name, stepper, optionsOf(config));
}

/** Trains in place; gives the loss of each step and the gradients of the first. */
async function train(
  model: Model,
  batches: readonly Batch[],
  lossOf: (model: Model, batch: Batch) => Tensor,
  attrs: Attributes,
): Promise<{ losses: number[]; firstGradients: Map<string, Tensor> }> {
  const stepper = buildOptimizer(model, attrs);
  const scheduler = buildScheduler(stepper, attrs);
  const losses: number[] = [];
  const firstGradients = new Map<string, Tensor>();
  for (const [step, batch] of batches.entries()) {
    stepper.zeroGrad();
    const loss = lossOf(model, batch);
    loss.backward();
    if (step === 0) {
      const named = [...model.namedParameters()];
      const gradients = named.map(([name, { grad }]) => {
        if (grad === null) throw new Error(`${name} has no gradient`);
        return grad;
      });
      for (const [i, { data, shape }] of (await readTensors(gradients)).entries()) {
        firstGradients.set(named[i]?.[0] ?? '', floats(Array.from(data, Number), shape));
      }
    }
    if (attrs['clip_grad_norm'] !== undefined) {
      find('clipGradNorm')(model.parameters(), numberOf(attrs, 'clip_grad_norm'));
    }
    stepper.step();
    scheduler?.step();
    losses.push(Number((await readTensor(loss)).data[0]));
  }
  return { losses, firstGradients };
}

/** The outputs that the case names, from what a training gave. */
async function trainingOutputs(
  model: Model,
  batches: readonly Batch[],
  lossOf: (model: Model, batch: Batch) => Tensor,
  attrs: Attributes,
  { outputNames }: AdapterContext,
): Promise<Tensor[]> {
  model.train();
  const { losses, firstGradients } = await train(model, batches, lossOf, attrs);
  const state = model.stateDict();
  model.eval();
  const [first] = batches;
  if (first === undefined) throw new Error('no batches');
  const evaluation = model.forward(first.x);
  return outputNames.map((output) => {
    const name = output ?? '';
    const slash = name.indexOf('/');
    const [kind, key] = slash < 0 ? [name, ''] : [name.slice(0, slash), name.slice(slash + 1)];
    const found =
      kind === 'loss'
        ? floats(losses, [losses.length])
        : kind === 'eval'
          ? evaluation
          : kind === 'first_grad'
            ? firstGradients.get(key)
            : state[key];
    if (found === undefined) throw new Error(`the training has no ${name}`);
    return found;
  });
}

const LOSSES: Readonly<Record<string, string>> = {
  cross_entropy: 'crossEntropy',
  mse_loss: 'mseLoss',
  smooth_l1_loss: 'smoothL1Loss',
};

async function trainSequence(inputs: Inputs, attrs: Attributes, context: AdapterContext) {
  const [x, target] = inputs;
  const loss = LOSSES[textOf(attrs, 'loss')] ?? textOf(attrs, 'loss');
  const model = buildSequence(attrs['model'] as readonly Json[]);
  await setWeights(model, inputs, context.inputNames);
  const [xs, targets] = [await rowsOf(x), await rowsOf(target)];
  const batches = xs.flatMap((row, step) => {
    const wanted = targets[step];
    return wanted === undefined ? [] : [{ x: row, target: wanted }];
  });
  const lossOf = (at: Model, batch: Batch) => call(loss, at.forward(batch.x), batch.target);
  return trainingOutputs(model, batches, lossOf, attrs, context);
}

async function trainLanguageModel(inputs: Inputs, attrs: Attributes, context: AdapterContext) {
  const [tokens] = inputs;
  const config = recordOf(attrs, 'model');
  const model = new TransformerLM(config);
  await setWeights(model, inputs, context.inputNames);
  const length = numberOf(config, 'length');
  const batches = (await rowsOf(tokens)).map((batch) => ({
    x: call('narrow', batch, 1, 0, length),
    target: call('narrow', batch, 1, 1, length),
  }));
  const lossOf = (at: Model, { x, target }: Batch) =>
    call('crossEntropy', call('flatten', at.forward(x), 0, 1), call('flatten', target));
  return trainingOutputs(model, batches, lossOf, attrs, context);
}

export const endToEnd: AdapterTable = {
  train: trainSequence,
  train_transformer_lm: trainLanguageModel,
};
