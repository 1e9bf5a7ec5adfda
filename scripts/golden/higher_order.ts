// Adapters of the family `higher_order`: derivatives of derivatives, by differentiating gradients.

import { numberOf, numbersOf, recordOf, textOf } from './attributes.ts';
import { call, derivative, floats, gradientsOf, vjp } from './framework.ts';
import type { Tensor } from './framework.ts';
import type { Attributes } from './manifest.ts';
import type { Adapter, AdapterContext, AdapterTable, Inputs } from './runner.ts';

function required(inputs: Inputs): Tensor[] {
  return inputs.map((input) => {
    if (input === undefined) throw new Error('an input is missing');
    return input;
  });
}

/** Calls another family's adapter, which must have one result. */
function callOp(op: string, inputs: Inputs, attrs: Attributes, context: AdapterContext): Tensor {
  const result = context.adapterOf(op)(inputs, attrs, context);
  if (result instanceof Promise) throw new Error(`${op} cannot wait here`);
  const [first] = Array.isArray(result) ? (result as readonly Tensor[]) : [result as Tensor];
  if (first === undefined) throw new Error(`${op} has no result`);
  return first;
}

function totalOf(x: Tensor): Tensor {
  return call('sum', x);
}

/** A scalar as a list of one output and the cotangent 1 turns gradientsOf into a plain gradient. */
function gradientsOfScalar(
  fn: (...inputs: readonly Tensor[]) => Tensor,
  at: readonly Tensor[],
): readonly Tensor[] {
  return gradientsOf((...inputs) => [fn(...inputs)], at, [floats([1], [])]);
}

// ---- the functions that the set's README names ---------------------------------------------------

type ScalarFunction = (
  constants: readonly Tensor[],
  params: readonly Tensor[],
  attrs: Attributes,
  context: AdapterContext,
) => Tensor;

function multilayer(
  x: Tensor | undefined,
  [w1, b1, w2, b2]: readonly Tensor[],
  attrs: Attributes,
  context: AdapterContext,
): Tensor {
  const hidden = call('linear', x, w1, b1);
  return call('linear', callOp(textOf(attrs, 'activation'), [hidden], {}, context), w2, b2);
}

function convCrossEntropy(
  [x, target]: readonly Tensor[],
  [wc, bc, wf, bf]: readonly Tensor[],
  attrs: Attributes,
): Tensor {
  const stride = attrs['stride'] ?? 1;
  const features = call('tanh', call('conv2d', x, wc, bc, { stride, padding: 1 }));
  return call('crossEntropy', call('linear', call('mean', features, [2, 3]), wf, bf), target);
}

function layerNormTanh(
  [w]: readonly Tensor[],
  [x]: readonly Tensor[],
  _: Attributes,
  context: AdapterContext,
): Tensor {
  const attrs = { normalized_shape: x?.shape.slice(-1) ?? [], eps: 1e-5 };
  const normalized = callOp('layer_norm', [x, undefined, undefined], attrs, context);
  return totalOf(call('mul', w, call('tanh', normalized)));
}

function rosenbrock(_: readonly Tensor[], [x]: readonly Tensor[]): Tensor {
  const count = (x?.size ?? 0) - 1;
  const [low, high] = [call('narrow', x, 0, 0, count), call('narrow', x, 0, 1, count)];
  const valley = call('square', call('sub', high, call('square', low)));
  return totalOf(call('add', call('mul', valley, 100), call('square', call('sub', 1, low))));
}

/** How many leading tensors are constants, and the function. */
const SCALAR_FUNCTIONS: Readonly<Record<string, readonly [number, ScalarFunction]>> = {
  tanh_sum: [1, ([w], [x]) => totalOf(call('mul', w, call('tanh', x)))],
  softmax_cross_entropy: [1, ([target], [logits]) => call('crossEntropy', logits, target)],
  mlp_cross_entropy: [
    2,
    ([x, target], params, attrs, context) =>
      call('crossEntropy', multilayer(x, params, attrs, context), target),
  ],
  conv_cross_entropy: [2, convCrossEntropy],
  attention_sum: [
    1,
    ([w], [q, k, v]) => totalOf(call('mul', w, call('scaledDotProductAttention', q, k, v))),
  ],
  layer_norm_tanh: [1, layerNormTanh],
  logsumexp_quadratic: [
    1,
    ([a], [x]) =>
      call(
        'add',
        call('logsumexp', call('matmul', a, x), 0),
        call('mul', totalOf(call('square', x)), 0.5),
      ),
  ],
  rosenbrock: [0, rosenbrock],
};

function scalarFunction(attrs: Attributes): readonly [number, ScalarFunction] {
  const name = textOf(attrs, 'function');
  const entry = SCALAR_FUNCTIONS[name];
  if (entry === undefined) throw new Error(`unknown function ${name}`);
  return entry;
}

// ---- the ops -------------------------------------------------------------------------------------

function hessianVectorProduct(inputs: Inputs, attrs: Attributes, context: AdapterContext) {
  const [constantCount, scalar] = scalarFunction(attrs);
  const tensors = required(inputs);
  const constants = tensors.slice(0, constantCount);
  const count = (tensors.length - constantCount) / 2;
  const params = tensors.slice(constantCount, constantCount + count);
  const vectors = tensors.slice(constantCount + count);
  const fn = (...at: readonly Tensor[]) => scalar(constants, at, attrs, context);
  const gradient = (...at: readonly Tensor[]) => gradientsOfScalar(fn, at);
  return [fn(...params), ...gradient(...params), ...gradientsOf(gradient, params, vectors)];
}

/** The rows are Hessian-vector products with the unit vectors. */
function hessian(inputs: Inputs, attrs: Attributes, context: AdapterContext): Tensor {
  const [constantCount, scalar] = scalarFunction(attrs);
  const tensors = required(inputs);
  const constants = tensors.slice(0, constantCount);
  const param = tensors.slice(constantCount);
  const fn = (...at: readonly Tensor[]) => scalar(constants, at, attrs, context);
  const gradient = (...at: readonly Tensor[]) => gradientsOfScalar(fn, at);
  const [{ shape, size } = floats([], [0])] = param;
  const rows = Array.from({ length: size }, (_, i) => {
    const [row] = gradientsOf(gradient, param, [unitVector(i, shape, size)]);
    return call('reshape', row, [size]);
  });
  return call('stack', rows, 0);
}

function unitVector(position: number, shape: readonly number[], size: number): Tensor {
  const values = Array.from({ length: size }, (_, i) => (i === position ? 1 : 0));
  return floats(values, shape);
}

/** One pullback of a unit vector for each element of the result. */
function jacobian(inputs: Inputs, attrs: Attributes, context: AdapterContext): Tensor {
  const [x, ...rest] = required(inputs);
  if (x === undefined) throw new Error('an input is missing');
  const opAttrs = recordOf(attrs, 'attrs');
  const fn = (at: Tensor) => callOp(textOf(attrs, 'op'), [at, ...rest], opAttrs, context);
  const { value, pullback } = vjp(fn, x);
  const rows = Array.from({ length: value.size }, (_, i) => {
    const [row] = pullback(unitVector(i, value.shape, value.size));
    return call('reshape', row, [x.size]);
  });
  return call('stack', rows, 0);
}

function nthDerivative([x]: Inputs, attrs: Attributes, context: AdapterContext): Tensor[] {
  if (x === undefined) throw new Error('an input is missing');
  const opAttrs = recordOf(attrs, 'attrs');
  let fn = (at: Tensor) => callOp(textOf(attrs, 'op'), [at], opAttrs, context);
  const outputs = [fn(x)];
  for (let order = 1; order <= numberOf(attrs, 'order'); order++) {
    fn = derivative(fn);
    outputs.push(fn(x));
  }
  return outputs;
}

function doubleBackward(inputs: Inputs, attrs: Attributes, context: AdapterContext) {
  const primal = inputs.slice(0, -1);
  const cotangent = inputs.at(-1);
  if (cotangent === undefined) throw new Error('the cotangent is missing');
  const positions = numbersOf(attrs, 'wrt');
  const fn = (...at: readonly Tensor[]) => {
    const full = [...primal];
    positions.forEach((position, i) => {
      full[position] = at[i];
    });
    return [callOp(textOf(attrs, 'op'), full, recordOf(attrs, 'attrs'), context)];
  };
  const at = required(positions.map((position) => primal[position]));
  return gradientsOf(fn, at, [cotangent]);
}

function gradientPenalty(inputs: Inputs, attrs: Attributes, context: AdapterContext): Tensor {
  const [x, ...weights] = required(inputs);
  if (x === undefined) throw new Error('an input is missing');
  const critic = (at: Tensor) => multilayer(at, weights, attrs, context);
  const slope = derivative(critic)(x);
  const norm = call('norm', slope, 2, 1);
  return call('mean', call('square', call('sub', norm, 1)));
}

export const higherOrder: AdapterTable = {
  hvp: hessianVectorProduct,
  hessian,
  jacobian,
  nth_derivative: nthDerivative,
  double_backward: doubleBackward,
  gradient_penalty: gradientPenalty,
} satisfies Readonly<Record<string, Adapter>>;
