// Losses of classification, over any number of axes behind the one of classes.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { logSoftmax } from '../../functional/index.ts';
import { type Tensor, fullLike, where } from '../../tensor/index.ts';
import { int, text } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import { as } from './results.ts';

const REDUCTIONS = ['mean', 'sum', 'none'] as const;

interface LossAttributes {
  readonly ignore_index: number | undefined;
  readonly reduction: (typeof REDUCTIONS)[number];
}

/**
 * Minus the log probability of the target, times the weight of its class; targets that are ignored
 * weigh nothing, also in the mean.
 */
function negativeLogLikelihood(
  logs: Tensor,
  given: Tensor,
  weight: Tensor | null,
  { ignore_index: ignored, reduction }: LossAttributes,
): Tensor {
  const [n, classes, ...space] = logs.shape;
  const fits = given.ndim === space.length + 1 && given.shape[0] === n;
  if (!fits || space.some((size, axis) => given.shape[axis + 1] !== size)) {
    throw new ShapeError(
      `targets ${formatShape(given.shape)} for scores ${formatShape(logs.shape)}`,
    );
  }
  if (weight !== null && (weight.ndim !== 1 || weight.shape[0] !== classes)) {
    throw new ShapeError(`weights ${formatShape(weight.shape)} for ${classes ?? 0} classes`);
  }
  const target = given.to('int32');
  const counts = ignored === undefined ? null : target.ne(ignored);
  const index = counts === null ? target : where(counts, target, 0);
  const picked = logs.gather(1, index.unsqueeze(1)).squeeze(1);
  let weights =
    weight === null ? null : weight.indexSelect(0, index.reshape([-1])).reshape(index.shape);
  if (counts !== null) weights = where(counts, weights ?? fullLike(picked, 1), 0);
  const losses = weights === null ? picked.neg() : picked.neg().mul(weights);
  if (reduction === 'none') return losses;
  if (reduction === 'sum') return losses.sum();
  return weights === null ? losses.mean() : losses.sum().div(weights.sum());
}

const ATTRIBUTES = { ignore_index: int(), reduction: text('mean', REDUCTIONS) };

function crossEntropy(call: Call<LossAttributes>): Result[] {
  const logs = logSoftmax(call.tensor(0), 1);
  const loss = negativeLogLikelihood(logs, call.tensor(1), call.optional(2), call.attributes);
  return [as(call.type(0), loss), as(call.type(0), logs)];
}

export const losses: readonly Operator[] = [
  defineOperator({
    name: 'NegativeLogLikelihoodLoss',
    since: 12,
    inputs: [2, 3],
    attributes: ATTRIBUTES,
    constants: [2],
    run: (call) =>
      as(
        call.type(0),
        negativeLogLikelihood(call.tensor(0), call.tensor(1), call.optional(2), call.attributes),
      ),
  }),
  defineOperator({
    name: 'SoftmaxCrossEntropyLoss',
    since: 12,
    inputs: [2, 3],
    outputs: [1, 2],
    attributes: ATTRIBUTES,
    constants: [2],
    run: crossEntropy,
  }),
];
