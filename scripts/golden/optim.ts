// Adapters of the family `optim`: optimizers on given gradients, clipping, schedules.

import { numberOf, optionsOf } from './attributes.ts';
import {
  DefectiveReference,
  find,
  floats,
  make,
  nn,
  optim,
  readTensor,
  rowsOf,
} from './framework.ts';
import type { Tensor } from './framework.ts';
import type { Attributes, Json } from './manifest.ts';
import type { Adapter, AdapterTable, Inputs } from './runner.ts';

interface Stepper {
  step(): void;
  readonly paramGroups: Record<string, unknown>[];
}

function present(inputs: Inputs): Tensor[] {
  return inputs.filter((input): input is Tensor => input !== undefined);
}

/** Constructor arguments: parameters, or groups that name them by position. */
function parametersOf(params: readonly Tensor[], groups: Json | undefined): readonly unknown[] {
  if (!Array.isArray(groups)) return params;
  return (groups as readonly Attributes[]).map((group) => ({
    ...optionsOf(group, 'params'),
    params: (group['params'] as readonly number[]).map((position) => params[position]),
  }));
}

function optimizer(name: string): Adapter {
  return async (inputs, attrs) => {
    const tensors = present(inputs);
    const count = tensors.length / 2;
    const params = tensors.slice(0, count).map((value) => new nn.Parameter(value));
    const gradients = await Promise.all(tensors.slice(count).map((stacked) => rowsOf(stacked)));
    const stepper = make<Stepper>(
      name,
      parametersOf(params, attrs['groups']),
      optionsOf(attrs, 'groups'),
    );
    const steps = gradients[0]?.length ?? 0;
    const trails: number[][] = params.map(() => []);
    for (let step = 0; step < steps; step++) {
      for (const [i, param] of params.entries()) param.grad = gradients[i]?.[step] ?? null;
      stepper.step();
      for (const [i, param] of params.entries()) {
        const { data } = await readTensor(param);
        for (const value of Array.from(data)) trails[i]?.push(Number(value));
      }
    }
    return params.map((param, i) => floats(trails[i] ?? [], [steps, ...param.shape]));
  };
}

function schedule(name: string): Adapter {
  return async ([metrics], attrs, { outputNames }) => {
    const param = new nn.Parameter(floats([0], [1]));
    const stepper: Stepper = new optim.SGD([param], {
      lr: numberOf(attrs, 'base_lr'),
      momentum: 0.9,
    });
    const options = optionsOf(attrs, 'base_lr', 'epochs');
    const scheduler = make<{ step(metric?: number): void }>(name, stepper, options);
    const measured = metrics === undefined ? undefined : (await readTensor(metrics)).data;
    const epochs = numberOf(attrs, 'epochs');
    const seen: number[][] = outputNames.map(() => []);
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const [i, key] of outputNames.entries()) {
        seen[i]?.push(Number(stepper.paramGroups[0]?.[key ?? '']));
      }
      stepper.step();
      if (measured === undefined) scheduler.step();
      else scheduler.step(Number(measured[epoch]));
    }
    return seen.map((values) => floats(values, [epochs]));
  };
}

/** Parameters that have these gradients. */
function withGradients(inputs: Inputs): Tensor[] {
  return present(inputs).map((gradient) => {
    const param = new nn.Parameter(gradient);
    param.grad = gradient;
    return param;
  });
}

function gradientsAfter(params: readonly Tensor[]): Tensor[] {
  return params.map(({ grad }) => {
    if (grad === null) throw new Error('clipping lost a gradient');
    return grad;
  });
}

const OPTIMIZERS = ['SGD', 'Adam', 'AdamW', 'Adamax', 'RAdam', 'Adagrad', 'Adadelta', 'RMSprop'];
const SCHEDULES = [
  'StepLR',
  'MultiStepLR',
  'ExponentialLR',
  'ConstantLR',
  'LinearLR',
  'PolynomialLR',
  'CosineAnnealingLR',
  'CosineAnnealingWarmRestarts',
  'OneCycleLR',
  'ReduceLROnPlateau',
];

function tableOf(names: readonly string[], make: (name: string) => Adapter): AdapterTable {
  return Object.fromEntries(names.map((name) => [name, make(name)]));
}

export const optimization: AdapterTable = {
  ...tableOf(OPTIMIZERS, optimizer),
  ...tableOf(SCHEDULES, schedule),
  NAdam: () => {
    // Multiplying mu_t into the next step's product twice gives exactly the set's numbers.
    throw new DefectiveReference(
      'NAdam: PyTorch 1.13, which made the vectors, multiplies by mu_t once too often; PyTorch 2 ' +
        'corrected it (pytorch/pytorch#92699), and so is ours',
    );
  },
  clip_grad_norm_: (inputs, attrs) => {
    const params = withGradients(inputs);
    const options = optionsOf(attrs, 'max_norm');
    const norm = find('clipGradNorm')(params, numberOf(attrs, 'max_norm'), options);
    return [norm as Tensor, ...gradientsAfter(params)];
  },
  clip_grad_value_: (inputs, attrs) => {
    const params = withGradients(inputs);
    find('clipGradValue')(params, numberOf(attrs, 'clip_value'));
    return gradientsAfter(params);
  },
};
