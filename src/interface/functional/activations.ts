// Activation functions. Parameters are named as in PyTorch; integers become float32.
import { checkKeys, checkNumber, POSITIVE } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, numberNode, wrap } from '../tensor/handle.ts';
import type { Generator } from '../tensor/generator.ts';
import { uniformNode } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { softmaxNode } from './softmax.ts';
import { softplusNode } from './softplus.ts';

export { relu, sigmoid, tanh } from '../tensor/unary.ts';

function constantOf(node: Node, value: number): Node {
  return ops.constant(value, node.dtype);
}

/** A number of the caller's: a slot of the plan, so that changing it never recompiles. */
function slot(node: Node, value: number): Node {
  return numberNode(value, node.dtype);
}

function activation(op: string, build: (x: Node) => Node, x: Tensor): Tensor {
  return wrap(build(floatNode(op, x)));
}

/** min(max(x, 0), 6), with gradient 0 at both ends. */
export function relu6(x: Tensor): Tensor {
  return activation(
    'relu6',
    (node) => hardtanhNode(node, constantOf(node, 0), constantOf(node, 6)),
    x,
  );
}

function hardtanhNode(x: Node, low: Node, high: Node): Node {
  // PyTorch's slope at the ends is 0, other than that of clamp.
  const above = ops.select(ops.lessEqual(x, low), low, x);
  return ops.select(ops.greaterEqual(x, high), high, above);
}

/** x kept between `minVal` and `maxVal`. */
export function hardtanh(x: Tensor, options: { minVal?: number; maxVal?: number } = {}): Tensor {
  const { minVal = -1, maxVal = 1 } = options;
  if (!(minVal < maxVal)) {
    throw new ArgumentError(`minVal ${minVal} must be below maxVal ${maxVal}`, { op: 'hardtanh' });
  }
  return activation('hardtanh', (n) => hardtanhNode(n, slot(n, minVal), slot(n, maxVal)), x);
}

/** x where positive, else negativeSlope * x. */
export function leakyRelu(x: Tensor, negativeSlope = 0.01): Tensor {
  return activation(
    'leakyRelu',
    (n) => ops.select(ops.greater(n, constantOf(n, 0)), n, ops.mul(n, slot(n, negativeSlope))),
    x,
  );
}

/** x where positive, else weight * x; weight has one element, or one per channel (axis 1). */
export function prelu(x: Tensor, weight: Tensor): Tensor {
  const node = floatNode('prelu', x);
  const w = castNode(nodeOf('prelu', weight), node.dtype);
  const count = w.shape.reduce((product, size) => product * size, 1);
  const channels = node.shape.length > 1 ? node.shape[1] : 1;
  if (count !== 1 && count !== channels) {
    throw new ShapeError(
      `weight ${formatShape(w.shape)} has neither 1 nor ${channels} element(s), x is ${formatShape(node.shape)}`,
      { op: 'prelu' },
    );
  }
  const tail = new Array<number>(Math.max(node.shape.length - 2, 0)).fill(1);
  const slope = ops.reshape(w, count === 1 ? [] : [count, ...tail]);
  return wrap(ops.select(ops.greater(node, constantOf(node, 0)), node, ops.mul(node, slope)));
}

/** scale * x above 0, alpha * (exp(x / alphaIn) - 1) below. */
function eluNode(n: Node, positive: Node, negative: Node, inputScale: Node | null): Node {
  const zero = constantOf(n, 0);
  const isPositive = ops.greater(n, zero);
  const below = ops.select(isPositive, zero, n);
  const grown = ops.expm1(inputScale === null ? below : ops.div(below, inputScale));
  return ops.select(isPositive, ops.mul(n, positive), ops.mul(grown, negative));
}

/** x where positive, else alpha * (exp(x) - 1). */
export function elu(x: Tensor, alpha = 1): Tensor {
  return activation('elu', (n) => eluNode(n, constantOf(n, 1), slot(n, alpha), null), x);
}

/** Self-normalizing elu (Klambauer et al. 2017). */
export function selu(x: Tensor): Tensor {
  const scale = 1.0507009873554805;
  const alpha = 1.6732632423543772;
  return activation(
    'selu',
    (n) => eluNode(n, constantOf(n, scale), constantOf(n, scale * alpha), null),
    x,
  );
}

/** x where positive, else alpha * (exp(x / alpha) - 1). */
export function celu(x: Tensor, alpha = 1): Tensor {
  if (alpha === 0) throw new ArgumentError('alpha must not be 0', { op: 'celu' });
  return activation('celu', (n) => eluNode(n, constantOf(n, 1), slot(n, alpha), slot(n, alpha)), x);
}

/** x * Φ(x); `tanh` approximates the normal distribution (Hendrycks and Gimpel 2016). */
export function gelu(x: Tensor, options: { approximate?: 'none' | 'tanh' } = {}): Tensor {
  const { approximate = 'none' } = options;
  return activation(
    'gelu',
    (n) => {
      const half = ops.mul(n, constantOf(n, 0.5));
      const one = constantOf(n, 1);
      if (approximate === 'none') {
        return ops.mul(half, ops.add(one, ops.erf(ops.mul(n, constantOf(n, Math.SQRT1_2)))));
      }
      const cube = ops.mul(ops.mul(n, n), ops.mul(n, constantOf(n, 0.044715)));
      const inner = ops.mul(ops.add(n, cube), constantOf(n, Math.sqrt(2 / Math.PI)));
      return ops.mul(half, ops.add(one, ops.tanh(inner)));
    },
    x,
  );
}

/** x * sigmoid(x), also called swish. */
export function silu(x: Tensor): Tensor {
  return activation('silu', (n) => ops.mul(n, ops.sigmoid(n)), x);
}

/** x * tanh(log(1 + exp(x))). */
export function mish(x: Tensor): Tensor {
  return activation('mish', (n) => ops.mul(n, ops.tanh(softplusNode(n))), x);
}

/** log(1 + exp(beta * x)) / beta; x itself where beta * x exceeds the threshold. */
export function softplus(x: Tensor, options: { beta?: number; threshold?: number } = {}): Tensor {
  const { beta = 1, threshold: limit = 20 } = options;
  return activation(
    'softplus',
    (n) => {
      const scaled = beta === 1 ? n : ops.mul(n, slot(n, beta));
      const smooth = softplusNode(scaled);
      const result = beta === 1 ? smooth : ops.div(smooth, slot(n, beta));
      return ops.select(ops.greater(scaled, slot(n, limit)), n, result);
    },
    x,
  );
}

/** x / (1 + |x|). */
export function softsign(x: Tensor): Tensor {
  return activation('softsign', (n) => ops.div(n, ops.add(constantOf(n, 1), ops.abs(n))), x);
}

/** x - tanh(x). */
export function tanhshrink(x: Tensor): Tensor {
  return activation('tanhshrink', (n) => ops.sub(n, ops.tanh(n)), x);
}

/** x moved towards 0 by `lambd`, and 0 within. */
export function softshrink(x: Tensor, lambd = 0.5): Tensor {
  checkNumber('softshrink', 'lambd', lambd);
  return activation(
    'softshrink',
    (n) => {
      const amount = slot(n, lambd);
      const below = ops.select(ops.less(n, ops.neg(amount)), ops.add(n, amount), constantOf(n, 0));
      return ops.select(ops.greater(n, amount), ops.sub(n, amount), below);
    },
    x,
  );
}

/** x, but 0 where |x| <= lambd. */
export function hardshrink(x: Tensor, lambd = 0.5): Tensor {
  return activation(
    'hardshrink',
    (n) => ops.select(ops.lessEqual(ops.abs(n), slot(n, lambd)), constantOf(n, 0), n),
    x,
  );
}

/** clamp(x / 6 + 1/2, 0, 1), with slope 0 at both ends. */
export function hardsigmoid(x: Tensor): Tensor {
  return activation('hardsigmoid', hardsigmoidNode, x);
}

function hardsigmoidNode(n: Node): Node {
  const line = ops.mul(ops.add(n, constantOf(n, 3)), constantOf(n, 1 / 6));
  const high = ops.select(ops.greaterEqual(n, constantOf(n, 3)), constantOf(n, 1), line);
  return ops.select(ops.lessEqual(n, constantOf(n, -3)), constantOf(n, 0), high);
}

/** x * clamp(x / 6 + 1/2, 0, 1) (Howard et al. 2019). */
export function hardswish(x: Tensor): Tensor {
  return activation(
    'hardswish',
    (n) => {
      const line = ops.mul(ops.mul(n, ops.add(n, constantOf(n, 3))), constantOf(n, 1 / 6));
      // At 3 the slope is that of the curve, at -3 it is 0, as in PyTorch.
      const high = ops.select(ops.greater(n, constantOf(n, 3)), n, line);
      return ops.select(ops.lessEqual(n, constantOf(n, -3)), constantOf(n, 0), high);
    },
    x,
  );
}

/** x where it exceeds `threshold`, else `value`. */
export function threshold(x: Tensor, limit: number, value: number): Tensor {
  return activation(
    'threshold',
    (n) => ops.select(ops.greater(n, slot(n, limit)), n, slot(n, value)),
    x,
  );
}

/** log(sigmoid(x)), without overflow. */
export function logsigmoid(x: Tensor): Tensor {
  return activation('logsigmoid', (n) => ops.neg(softplusNode(ops.neg(n))), x);
}

/** The first half along an axis times the sigmoid of the second (Dauphin et al. 2017). */
export function glu(x: Tensor, axis = -1): Tensor {
  const node = floatNode('glu', x);
  const normal = normalizeAxis('glu', axis, node.shape.length);
  const size = node.shape[normal] as number;
  if (size % 2 !== 0) {
    throw new ShapeError(`axis ${axis} of ${formatShape(node.shape)} cannot be halved`, {
      op: 'glu',
    });
  }
  const value = ops.narrowAxis(node, normal, 0, size / 2);
  const gate = ops.narrowAxis(node, normal, size / 2, size / 2);
  return wrap(ops.mul(value, ops.sigmoid(gate)));
}

export interface RreluOptions {
  /** Bounds of the slope of negative elements; default 1/8 and 1/3. */
  readonly lower?: number;
  readonly upper?: number;
  /** Whether slopes are drawn; otherwise all are the mean of the bounds. Default false. */
  readonly training?: boolean;
  readonly generator?: Generator;
}

/**
 * Leaky ReLU with random slopes (Xu et al. 2015).
 *
 * @example
 * rrelu(tensor([-2, 2]), { lower: 0.25, upper: 0.75 }); // => [-1, 2]
 */
export function rrelu(x: Tensor, options: RreluOptions = {}): Tensor {
  const { lower = 1 / 8, upper = 1 / 3, training = false, generator } = options;
  checkNumber('rrelu', 'lower', lower, [0]);
  checkNumber('rrelu', 'upper', upper, [lower]);
  const node = floatNode('rrelu', x);
  if (!training) return leakyRelu(x, (lower + upper) / 2);
  const drawn = castNode(uniformNode(node.shape, 'float32', generator), node.dtype);
  const width = numberNode(upper - lower, node.dtype);
  const slope = ops.add(ops.mul(drawn, width), numberNode(lower, node.dtype));
  const isNegative = ops.less(node, ops.constant(0, node.dtype));
  return wrap(ops.select(isNegative, ops.mul(node, slope), node));
}

export interface GumbelSoftmaxOptions {
  /** Temperature: the smaller, the nearer to one-hot; default 1. */
  readonly tau?: number;
  /** Whether the result is one-hot, with the gradient of the soft one; default false. */
  readonly hard?: boolean;
  /** Axis of the categories; default the last. */
  readonly axis?: number;
  readonly generator?: Generator;
}

/**
 * A sample of the categories that `logits` describe, soft or one-hot, through which gradients flow
 * (Jang et al. 2017; Maddison et al. 2017).
 *
 * @example
 * const sample = gumbelSoftmax(tensor([[0, 80, 0]]), { hard: true });
 * sample; // => [[0, 1, 0]]
 */
export function gumbelSoftmax(logits: Tensor, options: GumbelSoftmaxOptions = {}): Tensor {
  const op = 'gumbelSoftmax';
  checkKeys(op, options, ['tau', 'hard', 'axis', 'generator']);
  const { tau = 1, hard = false, axis = -1, generator } = options;
  checkNumber(op, 'tau', tau, POSITIVE);
  const node = floatNode(op, logits);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const dtype = node.dtype === 'float64' ? 'float64' : 'float32';
  // 1 - u is never 0; the least that its logarithm can be keeps the second one finite.
  const unit = ops.sub(ops.constant(1, dtype), uniformNode(node.shape, dtype, generator));
  const waiting = ops.maximum(ops.neg(ops.log(unit)), ops.constant(2 ** -26, dtype));
  const noise = castNode(ops.neg(ops.log(waiting)), node.dtype);
  const scores = ops.mul(ops.add(node, noise), slot(node, 1 / tau));
  const soft = softmaxNode(scores, normal);
  if (!hard) return wrap(soft);
  const best = ops.argmax(ops.detach(soft), normal, true);
  const places = ops.iota(
    node.shape.map((size, i) => (i === normal ? size : 1)),
    normal,
    'int32',
  );
  const chosen = castNode(ops.equal(places, best), node.dtype);
  return wrap(ops.add(ops.sub(chosen, ops.detach(soft)), soft));
}
