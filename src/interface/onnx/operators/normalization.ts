// Normalizations: batch, instance, layer, group, root mean square, local response.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape } from '../../../base/shape.ts';
import * as ops from '../../../graph/ops/index.ts';
import * as F from '../../functional/index.ts';
import { wrap } from '../../tensor/handle.ts';
import { type Tensor, where } from '../../tensor/index.ts';
import { flag, float, ignored, int, ints, required } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import type { TensorValue } from '../values.ts';
import { alongChannels } from './convolution.ts';
import { as } from './results.ts';

/** Axes but the one of channels. */
const othersThanChannels = (rank: number): number[] =>
  Array.from({ length: rank }, (_, axis) => axis).filter((axis) => axis !== 1);

/** scale (x - mean) / sqrt(variance + eps) + shift along channels. */
function normalizeChannels(
  x: Tensor,
  mean: Tensor,
  variance: Tensor,
  [scale, shift]: readonly [Tensor, Tensor],
  eps: number,
): Tensor {
  const space = Math.max(0, x.ndim - 2);
  const factor = variance.add(eps).rsqrt().mul(scale);
  const along = (y: Tensor): Tensor => alongChannels(y, space);
  // As a product and a sum of channels, which a convolution before it takes in.
  return x.mul(along(factor)).add(along(shift.sub(mean.mul(factor))));
}

/** Statistics of each place of [batch, ...], not of each channel, as versions before 9 may have. */
function perElement(call: Call<{ epsilon: number }>): Tensor {
  const [x, scale, shift, mean, variance] = [0, 1, 2, 3, 4].map((i) => call.tensor(i)) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const wanted = x.shape.slice(1);
  for (const given of [scale, shift, mean, variance]) {
    if (sameShape(given.shape, wanted)) continue;
    throw new ShapeError(`statistics ${formatShape(given.shape)} of ${formatShape(wanted)} places`);
  }
  return x.sub(mean).mul(variance.add(call.attributes.epsilon).rsqrt().mul(scale)).add(shift);
}

function batchNormalization(
  call: Call<{ epsilon: number; momentum: number; training_mode: boolean }>,
): Result[] {
  const { epsilon, momentum, training_mode: training } = call.attributes;
  const x = call.tensor(0);
  const affine = [call.tensor(1), call.tensor(2)] as const;
  const [mean, variance] = [call.tensor(3), call.tensor(4)];
  if (x.ndim < 2 && x.ndim !== 1) throw new ShapeError('a number has no channels');
  if (!training) {
    const [weight, bias] = affine;
    const alike = [weight, bias, mean, variance].every(({ dtype }) => dtype === x.dtype);
    // The layer itself where it can be: a file that was exported gives the bits of its origin.
    const result =
      alike && x.ndim > 1
        ? F.batchNorm(x, mean, variance, { weight, bias, eps: epsilon })
        : normalizeChannels(x, mean, variance, affine, epsilon);
    return [as(call.type(0), result), as(call.type(3), mean), as(call.type(4), variance)];
  }
  const axes = othersThanChannels(x.ndim);
  const batchMean = x.mean(axes);
  const batchVariance = x.var(axes, { correction: 0 });
  const kept = (running: Tensor, batch: Tensor): Tensor =>
    running.mul(momentum).add(batch.mul(1 - momentum));
  return [
    as(call.type(0), normalizeChannels(x, batchMean, batchVariance, affine, epsilon)),
    as(call.type(3), kept(mean, batchMean)),
    as(call.type(4), kept(variance, batchVariance)),
  ];
}

/** Over the axes from `axis` on; also the mean and 1 / deviation that were used. */
function layerNormalization(
  call: Call<{ axis: number; epsilon: number; stash_type: number }>,
): Result[] {
  const { epsilon } = call.attributes;
  const value = call.value(0);
  const from = call.axis(call.attributes.axis);
  const axes = value.shape.flatMap((_, axis) => (axis >= from ? [axis] : []));
  // Halves are normalized in float32, which stash_type 1 asks for.
  const x = value.tensor.dtype === 'float64' ? value.tensor : value.tensor.float();
  const scale = call.tensor(1);
  const bias = call.optional(2);
  const sizes = value.shape.slice(from);
  const plain =
    scale.ndim === sizes.length &&
    (bias === null || bias.ndim === sizes.length) &&
    !call.wants(1) &&
    !call.wants(2) &&
    [scale, bias].every((y) => y === null || y.shape.every((size, i) => size === sizes[i]));
  if (plain) {
    const result = F.layerNorm(x, sizes, {
      weight: scale.to(x.dtype),
      bias: bias === null ? null : bias.to(x.dtype),
      eps: epsilon,
    });
    return [as(value.type, result)];
  }
  const mean = x.mean(axes, { keepdims: true });
  const inverse = x.var(axes, { correction: 0, keepdims: true }).add(epsilon).rsqrt();
  const normal = x.sub(mean).mul(inverse).to(value.tensor.dtype);
  const scaled = normal.mul(scale);
  return [as(value.type, bias === null ? scaled : scaled.add(bias)), mean, inverse];
}

function rmsNormalization(
  call: Call<{ axis: number; epsilon: number; stash_type: number }>,
): TensorValue {
  const value = call.value(0);
  const from = call.axis(call.attributes.axis);
  const axes = value.shape.flatMap((_, axis) => (axis >= from ? [axis] : []));
  const x = value.tensor.dtype === 'float64' ? value.tensor : value.tensor.float();
  const square = x.square().mean(axes, { keepdims: true });
  const normal = x.mul(square.add(call.attributes.epsilon).rsqrt()).to(value.tensor.dtype);
  return as(value.type, normal.mul(call.tensor(1)));
}

function groupNormalization(
  call: Call<{ epsilon: number; num_groups: number; stash_type: number }>,
): TensorValue {
  const { epsilon, num_groups: groups } = call.attributes;
  const value = call.value(0);
  const [n = 0, channels = 0] = value.shape;
  if (value.rank < 3 || !(groups >= 1) || channels % groups !== 0) {
    throw new ShapeError(`${groups} groups of ${formatShape(value.shape)}`);
  }
  const original = value.tensor;
  const wide = original.dtype === 'float64' ? original : original.float();
  const x = wide.reshape([n, groups, -1]);
  const mean = x.mean(2, { keepdims: true });
  const inverse = x.var(2, { correction: 0, keepdims: true }).add(epsilon).rsqrt();
  const normal = x.sub(mean).mul(inverse).reshape(value.shape).to(original.dtype);
  // Before version 21 there is a scale for each group.
  const perChannel = (y: Tensor): Tensor => {
    const each = y.shape[0] === channels ? y : y.repeatInterleave(channels / groups, 0);
    return alongChannels(each, value.rank - 2);
  };
  return as(value.type, normal.mul(perChannel(call.tensor(1))).add(perChannel(call.tensor(2))));
}

function instanceNormalization(call: Call<{ epsilon: number }>): TensorValue {
  const x = call.tensor(0);
  if (x.ndim < 3) throw new ShapeError(`expected [n, c, ...space], got ${formatShape(x.shape)}`);
  const axes = Array.from({ length: x.ndim - 2 }, (_, axis) => axis + 2);
  const mean = x.mean(axes, { keepdims: true });
  const variance = x.var(axes, { correction: 0, keepdims: true });
  const normal = x.sub(mean).mul(variance.add(call.attributes.epsilon).rsqrt());
  const along = (y: Tensor): Tensor => alongChannels(y, x.ndim - 2);
  return as(call.type(0), normal.mul(along(call.tensor(1))).add(along(call.tensor(2))));
}

/** x / (bias + alpha / size × sum of squares in a window of channels)^beta. */
function localResponse(
  call: Call<{ alpha: number; beta: number; bias: number; size: number }>,
): TensorValue {
  const { alpha, beta, bias, size } = call.attributes;
  const x = call.tensor(0);
  const [n = 0, channels = 0] = x.shape;
  const before = (size - 1) >> 1;
  const squares = x.square().reshape([n, 1, channels, -1]);
  const window = {
    kernel: [size, 1],
    stride: [1, 1],
    dilation: [1, 1],
    padding: [before, size - 1 - before, 0, 0],
  };
  const sums = wrap(ops.sumPool(squares.node, window)).reshape(x.shape);
  return as(
    call.type(0),
    x.div(
      sums
        .mul(alpha / size)
        .add(bias)
        .pow(beta),
    ),
  );
}

/** (x - mean) / (deviation + 1e-9) over the axes. */
function meanVariance(call: Call<{ axes: readonly number[] }>): TensorValue {
  const axes = call.attributes.axes.map((axis) => call.axis(axis));
  const x = call.tensor(0);
  const centred = x.sub(x.mean(axes, { keepdims: true }));
  const deviation = centred.square().mean(axes, { keepdims: true }).sqrt();
  return as(call.type(0), centred.div(deviation.add(1e-9)));
}

function lpNormalization(call: Call<{ axis: number; p: number }>): TensorValue {
  const axis = call.axis(call.attributes.axis);
  const x = call.tensor(0);
  const length = x.norm(call.attributes.p, axis, { keepdims: true });
  // What has no length stays zero.
  return as(call.type(0), where(length.eq(0), 0, x.div(length)));
}

export const normalizations: readonly Operator[] = [
  defineOperator({
    name: 'BatchNormalization',
    since: 1,
    until: 13,
    inputs: 5,
    outputs: [1, 5],
    attributes: {
      epsilon: float(1e-5),
      momentum: float(0.9),
      spatial: flag(true),
      is_test: flag(),
      consumed_inputs: ignored(),
    },
    constants: [3, 4],
    run: (call) => {
      if (!call.attributes.spatial) return perElement(call);
      const attributes = { ...call.attributes, training_mode: false };
      const [result] = batchNormalization(call.with(attributes));
      return [result ?? null];
    },
  }),
  defineOperator({
    name: 'BatchNormalization',
    since: 14,
    inputs: 5,
    outputs: [1, 3],
    attributes: { epsilon: float(1e-5), momentum: float(0.9), training_mode: flag() },
    constants: [3, 4],
    run: batchNormalization,
  }),
  defineOperator({
    name: 'LayerNormalization',
    since: 17,
    inputs: [2, 3],
    outputs: [1, 3],
    attributes: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
    run: layerNormalization,
  }),
  defineOperator({
    name: 'RMSNormalization',
    since: 23,
    inputs: 2,
    attributes: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
    run: rmsNormalization,
  }),
  defineOperator({
    name: 'GroupNormalization',
    since: 18,
    inputs: 3,
    attributes: { epsilon: float(1e-5), num_groups: required(int()), stash_type: int(1) },
    run: groupNormalization,
  }),
  defineOperator({
    name: 'InstanceNormalization',
    since: 1,
    inputs: 3,
    attributes: { epsilon: float(1e-5), consumed_inputs: ignored() },
    run: instanceNormalization,
  }),
  defineOperator({
    name: 'LRN',
    since: 1,
    inputs: 1,
    attributes: {
      alpha: float(1e-4),
      beta: float(0.75),
      bias: float(1),
      size: required(int()),
    },
    run: localResponse,
  }),
  defineOperator({
    name: 'MeanVarianceNormalization',
    since: 9,
    inputs: 1,
    attributes: { axes: ints([0, 2, 3]) },
    run: meanVariance,
  }),
  defineOperator({
    name: 'LpNormalization',
    since: 1,
    inputs: 1,
    attributes: { axis: int(-1), p: int(2) },
    run: lpNormalization,
  }),
];
