// Adapters of the family `losses`.

import { optionsOf } from './attributes.ts';
import { call } from './framework.ts';
import type { Adapter, AdapterTable } from './runner.ts';

/** Input and target by position, a weight per class or element among the options. */
function weighted(name: string): Adapter {
  return ([input, target, weight], attrs) =>
    call(name, input, target, {
      ...optionsOf(attrs),
      ...(weight === undefined ? {} : { weight }),
    });
}

/** All tensors by position. */
function plain(name: string): Adapter {
  return (inputs, attrs) => call(name, ...inputs, optionsOf(attrs));
}

export const losses: AdapterTable = {
  cross_entropy: weighted('crossEntropy'),
  nll_loss: weighted('nllLoss'),
  binary_cross_entropy: weighted('binaryCrossEntropy'),
  binary_cross_entropy_with_logits: ([input, target, weight, posWeight], attrs) =>
    call('binaryCrossEntropyWithLogits', input, target, {
      ...optionsOf(attrs),
      ...(weight === undefined ? {} : { weight }),
      ...(posWeight === undefined ? {} : { posWeight }),
    }),
  mse_loss: plain('mseLoss'),
  l1_loss: plain('l1Loss'),
  smooth_l1_loss: plain('smoothL1Loss'),
  huber_loss: plain('huberLoss'),
  kl_div: plain('klDiv'),
  hinge_embedding_loss: plain('hingeEmbeddingLoss'),
  multi_margin_loss: plain('multiMarginLoss'),
  soft_margin_loss: plain('softMarginLoss'),
  multilabel_soft_margin_loss: plain('multilabelSoftMarginLoss'),
  margin_ranking_loss: plain('marginRankingLoss'),
  triplet_margin_loss: plain('tripletMarginLoss'),
  cosine_embedding_loss: plain('cosineEmbeddingLoss'),
  poisson_nll_loss: plain('poissonNllLoss'),
  gaussian_nll_loss: plain('gaussianNllLoss'),
  ctc_loss: ([scores, targets, inputLengths, targetLengths], attrs) => {
    const logProbabilities = call('logSoftmax', scores, -1);
    return call(
      'ctcLoss',
      logProbabilities,
      targets,
      inputLengths,
      targetLengths,
      optionsOf(attrs),
    );
  },
};
