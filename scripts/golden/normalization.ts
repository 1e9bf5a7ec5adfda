// Adapters of the family `normalization`.

import { optionsOf } from './attributes.ts';
import { call, nn } from './framework.ts';
import type { Tensor } from './framework.ts';
import type { Adapter, AdapterTable } from './runner.ts';

/** Weight and bias, where the case has them, go among the options. */
function affine(weight: Tensor | undefined, bias?: Tensor): Record<string, Tensor> {
  return {
    ...(weight === undefined ? {} : { weight }),
    ...(bias === undefined ? {} : { bias }),
  };
}

/** x, running statistics, affine parameters; updated statistics follow the result. */
function withStatistics(name: string, updating: string): Adapter {
  return ([x, mean, variance, weight, bias], attrs) => {
    // Copies: the case's own tensors are used again for the gradient.
    const [runningMean, runningVar] = [mean, variance].map((statistic) =>
      statistic === undefined ? undefined : new nn.Buffer(statistic),
    );
    const options = { ...optionsOf(attrs), ...affine(weight, bias) };
    const result = call(name, x, runningMean, runningVar, options);
    if (attrs[updating] !== true || runningMean === undefined || runningVar === undefined) {
      return result;
    }
    return [result, runningMean, runningVar];
  };
}

/** The tensor, one attribute by position, then options with weight and bias. */
function affineNorm(name: string, attribute: string): Adapter {
  return ([x, weight, bias], attrs) =>
    call(name, x, attrs[attribute], { ...optionsOf(attrs, attribute), ...affine(weight, bias) });
}

export const normalization: AdapterTable = {
  batch_norm: withStatistics('batchNorm', 'training'),
  instance_norm: withStatistics('instanceNorm', 'use_input_stats'),
  layer_norm: affineNorm('layerNorm', 'normalized_shape'),
  rms_norm: affineNorm('rmsNorm', 'normalized_shape'),
  group_norm: affineNorm('groupNorm', 'num_groups'),
  local_response_norm: affineNorm('localResponseNorm', 'size'),
};
