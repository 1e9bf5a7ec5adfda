// Activation functions, and what passes its input through.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import * as F from '../../functional/index.ts';
import { type Tensor, onesLike, where } from '../../tensor/index.ts';
import { flag, float, ignored, int, text } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import { as } from './results.ts';

const plain = (name: string, since: number, compute: (x: Tensor) => Tensor): Operator =>
  defineOperator({
    name,
    since,
    inputs: 1,
    attributes: since < 6 ? { consumed_inputs: ignored() } : {},
    run: (call) => compute(call.tensor(0)),
  });

/** An activation with the parameter `alpha`. */
const withAlpha = (
  name: string,
  since: number,
  standard: number,
  compute: (x: Tensor, alpha: number) => Tensor,
): Operator =>
  defineOperator({
    name,
    since,
    inputs: 1,
    attributes: { alpha: float(standard), ...(since < 6 ? { consumed_inputs: ignored() } : {}) },
    run: (call) => compute(call.tensor(0), call.attributes.alpha),
  });

/** gamma (alpha eˣ - alpha) below zero, gamma x above. */
function selu(call: Call<{ alpha: number; gamma: number }>): Tensor {
  const { alpha, gamma } = call.attributes;
  return F.elu(call.tensor(0), alpha).mul(gamma);
}

function prelu(call: Call): Tensor {
  const [x, slope] = [call.value(0), call.value(1)];
  let factor = slope.tensor;
  // Early files give a slope for each channel without the axes that broadcast it.
  const perChannel = call.opset < 7 && slope.rank === 1 && x.rank > 2;
  if (perChannel) factor = factor.reshape([-1, ...new Array<number>(x.rank - 2).fill(1)]);
  if (slope.rank > x.rank) {
    throw new ShapeError(`slopes ${formatShape(slope.shape)} for ${formatShape(x.shape)}`);
  }
  return where(x.tensor.ge(0), x.tensor, x.tensor.mul(factor));
}

function shrink(call: Call<{ bias: number; lambd: number }>): Tensor {
  const { bias, lambd } = call.attributes;
  const x = call.tensor(0);
  const lowered = where(x.gt(lambd), x.sub(bias), 0);
  return where(x.lt(-lambd), x.add(bias), lowered);
}

/** In inference the input; the mask is all true. */
function dropout(call: Call, ratio: number, training: boolean): Result[] {
  const x = call.tensor(0);
  if (!training || ratio === 0) {
    return [as(call.type(0), x), onesLike(x, { dtype: 'bool' })];
  }
  const ones = onesLike(x);
  const mask = F.dropout(ones, { p: ratio, training: true });
  return [x.mul(mask), mask.ne(0)];
}

/** [0, 1] where a line of slope alpha through beta leaves it. */
function hardSigmoid(x: Tensor, alpha: number, beta: number): Tensor {
  // The one of the framework, which others export as well.
  if (Math.fround(alpha) === Math.fround(1 / 6) && beta === 0.5) return F.hardsigmoid(x);
  return x.mul(alpha).add(beta).clamp(0, 1);
}

function axisSoftmax(
  name: string,
  compute: (x: Tensor, axis: number) => Tensor,
): readonly Operator[] {
  return [
    defineOperator({
      name,
      since: 1,
      until: 12,
      inputs: 1,
      attributes: { axis: int(1) },
      // All axes from `axis` on count as one.
      run: (call) => {
        const x = call.value(0);
        const axis = call.attributes.axis;
        const from = axis === x.rank ? axis : call.axis(axis);
        const lead = x.shape.slice(0, from).reduce((a, b) => a * b, 1);
        const rest = x.shape.slice(from).reduce((a, b) => a * b, 1);
        return compute(x.tensor.reshape([lead, rest]), 1).reshape(x.shape);
      },
    }),
    defineOperator({
      name,
      since: 13,
      inputs: 1,
      attributes: { axis: int(-1) },
      run: (call) => compute(call.tensor(0), call.axis(call.attributes.axis)),
    }),
  ];
}

/** One at the first largest element along the axis, zero elsewhere. */
function hardmax(x: Tensor, axis: number): Tensor {
  return F.oneHot(x.argmax(axis), x.shape[axis] ?? 0)
    .movedim(-1, axis)
    .to(x.dtype);
}

export const activations: readonly Operator[] = [
  plain('Relu', 1, (x) => x.relu()),
  plain('Sigmoid', 1, (x) => x.sigmoid()),
  plain('Softplus', 1, (x) => F.softplus(x, { threshold: 30 })),
  plain('Softsign', 1, F.softsign),
  plain('HardSwish', 14, F.hardswish),
  plain('Mish', 18, F.mish),
  withAlpha('LeakyRelu', 1, 0.01, F.leakyRelu),
  withAlpha('Elu', 1, 1, F.elu),
  withAlpha('Celu', 12, 1, F.celu),
  withAlpha('Swish', 24, 1, (x, alpha) => x.mul(x.mul(alpha).sigmoid())),
  withAlpha('ThresholdedRelu', 10, 1, (x, alpha) => where(x.gt(alpha), x, 0)),
  defineOperator({
    name: 'SwiGLU',
    since: 28,
    inputs: 2,
    attributes: { alpha: float(1) },
    run: (call) => {
      const gate = call.tensor(0);
      return gate.mul(gate.mul(call.attributes.alpha).sigmoid()).mul(call.tensor(1));
    },
  }),
  defineOperator({
    name: 'Selu',
    since: 1,
    inputs: 1,
    // The defaults before version 6 have fewer digits of the same numbers.
    attributes: {
      alpha: float(1.6732632423543772),
      gamma: float(1.0507009873554805),
      consumed_inputs: ignored(),
    },
    run: selu,
  }),
  defineOperator({
    name: 'HardSigmoid',
    since: 1,
    inputs: 1,
    attributes: { alpha: float(0.2), beta: float(0.5), consumed_inputs: ignored() },
    run: (call) => hardSigmoid(call.tensor(0), call.attributes.alpha, call.attributes.beta),
  }),
  defineOperator({
    name: 'Gelu',
    since: 20,
    inputs: 1,
    attributes: { approximate: text<'none' | 'tanh'>('none', ['none', 'tanh']) },
    run: (call) => F.gelu(call.tensor(0), { approximate: call.attributes.approximate }),
  }),
  defineOperator({
    name: 'PRelu',
    since: 1,
    inputs: 2,
    attributes: { consumed_inputs: ignored() },
    run: prelu,
  }),
  defineOperator({
    name: 'Shrink',
    since: 9,
    inputs: 1,
    attributes: { bias: float(0), lambd: float(0.5) },
    run: shrink,
  }),
  ...axisSoftmax('Softmax', F.softmax),
  ...axisSoftmax('LogSoftmax', F.logSoftmax),
  ...axisSoftmax('Hardmax', hardmax),
  defineOperator({
    name: 'Dropout',
    since: 1,
    until: 11,
    inputs: 1,
    outputs: [1, 2],
    attributes: { ratio: float(0.5), is_test: flag(), consumed_inputs: ignored() },
    run: (call) => {
      const [result, mask] = dropout(call, 0, false);
      // Before version 10 the mask has the type of the input.
      const early = call.opset < 10 && call.wants(1);
      return [result ?? null, early ? onesLike(call.tensor(0)) : (mask ?? null)];
    },
  }),
  defineOperator({
    name: 'Dropout',
    since: 12,
    inputs: [1, 3],
    outputs: [1, 2],
    attributes: { seed: int() },
    constants: [1, 2],
    run: (call) => {
      const training = call.has(2) && call.number(2) !== 0;
      const ratio = call.has(1) ? call.number(1) : 0.5;
      return dropout(call, ratio, training);
    },
  }),
];

/** Functions that recurrent operators name, of a tensor and their numbers. */
export const RECURRENT_ACTIVATIONS: Readonly<
  Record<string, (x: Tensor, alpha: number | undefined, beta: number | undefined) => Tensor>
> = {
  relu: (x) => x.relu(),
  tanh: (x) => x.tanh(),
  sigmoid: (x) => x.sigmoid(),
  affine: (x, alpha = 1, beta = 0) => x.mul(alpha).add(beta),
  leakyrelu: (x, alpha = 0.01) => F.leakyRelu(x, alpha),
  thresholdedrelu: (x, alpha = 1) => where(x.gt(alpha), x, 0),
  scaledtanh: (x, alpha = 1, beta = 1) => x.mul(beta).tanh().mul(alpha),
  hardsigmoid: (x, alpha = 0.2, beta = 0.5) => hardSigmoid(x, alpha, beta),
  elu: (x, alpha = 1) => F.elu(x, alpha),
  softsign: (x) => F.softsign(x),
  softplus: (x) => F.softplus(x),
};
