// The optimizers of ONNX's training operators: one step on several tensors.
import { FormatError } from '../../../base/errors.ts';
import { tensor, type Tensor, where } from '../../tensor/index.ts';
import { float, required, text } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import { as } from './results.ts';

const DOMAIN = 'ai.onnx.preview.training';

/** Learning rate, number of the step, and for each of the tensors what belongs to it. */
interface Update {
  readonly rate: Tensor;
  /** As a float of the rate's dtype. */
  readonly step: Tensor;
}

/**
 * Calls `update` for each tensor with what belongs to it, `kinds` values in the order of the inputs:
 * all tensors, then all gradients, then states. Gives the first results of all, then the second ones.
 */
function each<A>(
  call: Call<A>,
  kinds: number,
  update: (common: Update, values: readonly Tensor[]) => readonly Tensor[],
): Result[] {
  const count = (call.inputs.length - 2) / kinds;
  if (!Number.isInteger(count) || count < 1) {
    throw new FormatError(`${call.inputs.length} inputs, ${kinds} for each tensor and two more`);
  }
  const rate = call.tensor(0);
  const step = call.tensor(1).to(rate.dtype);
  const results = Array.from({ length: count }, (_, k) => {
    const values = Array.from({ length: kinds }, (__, kind) => call.tensor(2 + kind * count + k));
    return update({ rate, step }, values);
  });
  return (results[0] ?? []).flatMap((_, kind) =>
    results.map((list, k) => as(call.type(2 + k), list[kind] as Tensor)),
  );
}

const regularized = (x: Tensor, gradient: Tensor, factor: number): Tensor =>
  factor === 0 ? gradient : gradient.add(x.mul(factor));

function adagrad(
  call: Call<{ decay_factor: number; epsilon: number; norm_coefficient: number }>,
): Result[] {
  const { decay_factor: decay, epsilon, norm_coefficient: norm } = call.attributes;
  return each(call, 3, ({ rate, step }, [x, g, h]) => {
    const gradient = regularized(x as Tensor, g as Tensor, norm);
    const squares = (h as Tensor).add(gradient.square());
    const own = rate.div(step.mul(decay).add(1));
    const moved = own.mul(gradient).div(squares.sqrt().add(epsilon));
    return [(x as Tensor).sub(moved), squares];
  });
}

function adam(
  call: Call<{
    alpha: number;
    beta: number;
    epsilon: number;
    norm_coefficient: number;
    norm_coefficient_post: number;
  }>,
): Result[] {
  const { alpha, beta, epsilon, norm_coefficient: norm } = call.attributes;
  const after = 1 - call.attributes.norm_coefficient_post;
  return each(call, 4, ({ rate, step }, [x, g, v, h]) => {
    const gradient = regularized(x as Tensor, g as Tensor, norm);
    const mean = (v as Tensor).mul(alpha).add(gradient.mul(1 - alpha));
    const squares = (h as Tensor).mul(beta).add(gradient.square().mul(1 - beta));
    const power = (base: number): Tensor => tensor(base, { dtype: step.dtype }).pow(step).rsub(1);
    const corrected = rate.mul(power(beta).sqrt()).div(power(alpha));
    const own = where(step.gt(0), corrected, rate);
    const moved = (x as Tensor).sub(own.mul(mean).div(squares.sqrt().add(epsilon)));
    return [after === 1 ? moved : moved.mul(after), mean, squares];
  });
}

function momentum(
  call: Call<{
    alpha: number;
    beta: number;
    mode: 'standard' | 'nesterov';
    norm_coefficient: number;
  }>,
): Result[] {
  const { alpha, beta, mode, norm_coefficient: norm } = call.attributes;
  return each(call, 3, ({ rate, step }, [x, g, v]) => {
    const gradient = regularized(x as Tensor, g as Tensor, norm);
    const share = where(step.gt(0), tensor(beta, { dtype: step.dtype }), 1);
    const speed = (v as Tensor).mul(alpha).add(gradient.mul(share));
    const direction = mode === 'nesterov' ? gradient.add(speed.mul(alpha)) : speed;
    return [(x as Tensor).sub(rate.mul(direction)), speed];
  });
}

export const training: readonly Operator[] = [
  defineOperator({
    name: 'Adagrad',
    domain: DOMAIN,
    since: 1,
    inputs: [5, 4096],
    outputs: [1, 4096],
    attributes: { decay_factor: float(0), epsilon: float(1e-6), norm_coefficient: float(0) },
    run: adagrad,
  }),
  defineOperator({
    name: 'Adam',
    domain: DOMAIN,
    since: 1,
    inputs: [6, 4096],
    outputs: [1, 4096],
    attributes: {
      alpha: float(0.9),
      beta: float(0.999),
      epsilon: float(1e-6),
      norm_coefficient: float(0),
      norm_coefficient_post: float(0),
    },
    run: adam,
  }),
  defineOperator({
    name: 'Momentum',
    domain: DOMAIN,
    since: 1,
    inputs: [5, 4096],
    outputs: [1, 4096],
    attributes: {
      alpha: required(float()),
      beta: required(float()),
      mode: required(text('standard', ['standard', 'nesterov'] as const)),
      norm_coefficient: required(float()),
    },
    run: momentum,
  }),
];
