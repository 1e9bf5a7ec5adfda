// Adapters of the family `reductions`.

import { optionsOf } from './attributes.ts';
import { call, callForPair } from './framework.ts';
import type { Attributes, Json } from './manifest.ts';
import type { Adapter, AdapterTable } from './runner.ts';

/** A reduction over `attrs.dim`, or over everything. */
function reduction(name: string): Adapter {
  return ([x], attrs) => call(name, x, attrs['dim'], optionsOf(attrs, 'dim'));
}

/** Over an axis: values and indices. Over everything: the value alone. */
function extremum(name: string): Adapter {
  return ([x], attrs) => {
    if (attrs['dim'] === undefined) return call(name, x);
    return callForPair(name, x, attrs['dim'], optionsOf(attrs, 'dim'));
  };
}

/** PyTorch 1.13 says `unbiased`, we and newer PyTorch say how much the divisor is lowered. */
function withCorrection(attrs: Attributes): Record<string, Json> {
  const { unbiased, ...rest } = attrs;
  const options = optionsOf(rest, 'dim');
  return unbiased === undefined ? options : { ...options, correction: unbiased === true ? 1 : 0 };
}

function along(name: string): Adapter {
  return ([x], attrs) => call(name, x, attrs['dim']);
}

export const reductions: AdapterTable = {
  sum: reduction('sum'),
  mean: reduction('mean'),
  prod: reduction('prod'),
  amax: reduction('amax'),
  amin: reduction('amin'),
  argmax: reduction('argmax'),
  argmin: reduction('argmin'),
  logsumexp: reduction('logsumexp'),
  all: reduction('all'),
  any: reduction('any'),
  count_nonzero: reduction('countNonzero'),
  max: extremum('max'),
  min: extremum('min'),
  median: extremum('median'),
  var: ([x], attrs) => call('variance', x, attrs['dim'], withCorrection(attrs)),
  std: ([x], attrs) => call('std', x, attrs['dim'], withCorrection(attrs)),
  var_mean: ([x], attrs) => callForPair('varMean', x, attrs['dim'], withCorrection(attrs)),
  std_mean: ([x], attrs) => callForPair('stdMean', x, attrs['dim'], withCorrection(attrs)),
  norm: ([x], attrs) => call('norm', x, attrs['p'], attrs['dim'], optionsOf(attrs, 'p', 'dim')),
  cumsum: along('cumsum'),
  cumprod: along('cumprod'),
  logcumsumexp: along('logcumsumexp'),
  cummax: ([x], attrs) => callForPair('cummax', x, attrs['dim']),
  cummin: ([x], attrs) => callForPair('cummin', x, attrs['dim']),
  softmax: along('softmax'),
  log_softmax: along('logSoftmax'),
  softmin: along('softmin'),
  normalize: ([x], attrs) => call('normalize', x, optionsOf(attrs)),
  cosine_similarity: ([a, b], attrs) => call('cosineSimilarity', a, b, optionsOf(attrs)),
  pairwise_distance: ([a, b], attrs) => call('pairwiseDistance', a, b, optionsOf(attrs)),
  cdist: ([a, b], attrs) => call('cdist', a, b, optionsOf(attrs)),
};
