// Draws from distributions: exponential, gamma, beta, Poisson and their like, categories, orders. What
// rejects a candidate draws a fixed number of them at once, so that the program does not depend on
// values; that all of an element are rejected has a chance below 1e-9.
import { checkInteger, checkKeys, checkNumber, POSITIVE } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from './arguments.ts';
import { floatOperands } from './arithmetic.ts';
import type { Generator } from './generator.ts';
import { castNode, type TensorLike, wrap } from './handle.ts';
import { normalNode, randperm, type RandomOptions, uniformNode } from './random.ts';
import { indexSelect } from './scattering.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

export interface DrawOptions {
  /** Default: the global generator, which `manualSeed` seeds. */
  readonly generator?: Generator | undefined;
}

type Draws = (shape: Shape, dtype: 'float32' | 'float64') => Node;

/** Calls `build` with a float parameter in float32 or float64; the draw has its dtype, no gradient. */
function drawn(x: Node, build: (wide: Node, dtype: 'float32' | 'float64') => Node): Tensor {
  const dtype = x.dtype === 'float64' ? 'float64' : 'float32';
  return wrap(castNode(build(castNode(ops.detach(x), dtype), dtype), x.dtype));
}

function numbers(like: Node): (value: number) => Node {
  return (value) => ops.constant(value, like.dtype);
}

/** A number in (0, 1], whose logarithm is finite. */
function positiveUnit(shape: Shape, dtype: 'float32' | 'float64', generator?: Generator): Node {
  return ops.sub(ops.constant(1, dtype), uniformNode(shape, dtype, generator));
}

/** One of several draws per element: [rounds, ...shape]. */
function rounds(count: number, shape: Shape, dtype: 'float32' | 'float64', draw: Draws) {
  const all = draw([count, ...shape], dtype);
  return (k: number): Node => ops.reshape(ops.narrowAxis(all, 0, k, 1), shape);
}

// ---- continuous -------------------------------------------------------------------------------

/**
 * Numbers of an exponential distribution with these rates, in the shape of `rate`; or of one rate, in
 * a shape.
 *
 * @example
 * exponential(2, [3]).shape; // => [3]
 */
export function exponential(rate: Tensor, options?: DrawOptions): Tensor;
export function exponential(rate: number, shape: Shape, options?: RandomOptions): Tensor;
export function exponential(
  rate: Tensor | number,
  second: Shape | DrawOptions = {},
  third: RandomOptions = {},
): Tensor {
  const op = 'exponential';
  if (typeof rate !== 'number') {
    const { generator } = second as DrawOptions;
    return drawn(floatNode(op, rate), (node, dtype) =>
      ops.div(ops.neg(ops.log(positiveUnit(node.shape, dtype, generator))), node),
    );
  }
  checkNumber(op, 'rate', rate, POSITIVE);
  const { dtype = 'float32', generator } = third;
  if (!isFloat(dtype)) throw new DTypeError(`draws floats, not ${dtype}`, { op });
  return drawn(ops.full(second as Shape, rate, dtype), (node, wide) =>
    ops.div(ops.neg(ops.log(positiveUnit(node.shape, wide, generator))), node),
  );
}

/** Candidates for a gamma number: each is taken with a chance of 0.95 or more. */
const GAMMA_ROUNDS = 8;

/** Marsaglia and Tsang (2000): the cube of a normal number, squeezed; of shapes below 1 a power more. */
function gammaNode(shape: Node, dtype: 'float32' | 'float64', generator?: Generator): Node {
  const number = numbers(shape);
  const small = ops.less(shape, number(1));
  const d = ops.sub(ops.select(small, ops.add(shape, number(1)), shape), number(1 / 3));
  const c = ops.div(number(1 / 3), ops.sqrt(d));
  const normals = rounds(GAMMA_ROUNDS, shape.shape, dtype, (s) => normalNode(s, dtype, generator));
  const units = rounds(GAMMA_ROUNDS, shape.shape, dtype, (s) => positiveUnit(s, dtype, generator));
  let result = d;
  for (let k = GAMMA_ROUNDS - 1; k >= 0; k--) {
    const z = normals(k);
    const base = ops.add(number(1), ops.mul(c, z));
    const isPositive = ops.greater(base, number(0));
    const safe = ops.select(isPositive, base, number(1));
    const v = ops.mul(ops.mul(safe, safe), safe);
    const dv = ops.mul(d, v);
    const limit = ops.add(
      ops.add(ops.mul(ops.mul(z, z), number(0.5)), ops.sub(d, dv)),
      ops.mul(d, ops.log(v)),
    );
    const accepted = ops.logicalAnd(isPositive, ops.less(ops.log(units(k)), limit));
    result = ops.select(accepted, dv, result);
  }
  const power = ops.div(number(1), ops.select(small, shape, number(1)));
  const boost = ops.pow(positiveUnit(shape.shape, dtype, generator), power);
  return ops.select(small, ops.mul(result, boost), result);
}

/**
 * Numbers of gamma distributions with these shapes and rates, which broadcast (Marsaglia and Tsang
 * 2000). No gradient flows to the shapes or the rates.
 *
 * @example
 * gamma(full([4], 2.5)).shape; // => [4]
 */
export function gamma(
  concentration: Tensor,
  rate: TensorLike = 1,
  options: DrawOptions = {},
): Tensor {
  const [a, b] = floatOperands('gamma', concentration, rate);
  const both = ops.add(a, ops.mul(b, ops.constant(0, b.dtype)));
  return drawn(both, (node, dtype) =>
    ops.div(gammaNode(node, dtype, options.generator), castNode(ops.detach(b), dtype)),
  );
}

/** Numbers of beta distributions with these two shapes, which broadcast. No gradient flows. */
export function beta(
  concentration1: Tensor,
  concentration0: TensorLike,
  options: DrawOptions = {},
): Tensor {
  const [a, b] = floatOperands('beta', concentration1, concentration0);
  const zero = ops.constant(0, a.dtype);
  const [first, second] = [ops.add(a, ops.mul(b, zero)), ops.add(b, ops.mul(a, zero))];
  return drawn(first, (node, dtype) => {
    const x = gammaNode(node, dtype, options.generator);
    const y = gammaNode(castNode(ops.detach(second), dtype), dtype, options.generator);
    return ops.div(x, ops.add(x, y));
  });
}

/** Points of Dirichlet distributions [.., n]: the last axis sums to 1. */
export function dirichlet(concentration: Tensor, options: DrawOptions = {}): Tensor {
  const node = floatNode('dirichlet', concentration);
  if (node.shape.length === 0)
    throw new ShapeError('takes [.., n], got a number', { op: 'dirichlet' });
  return drawn(node, (wide, dtype) => {
    const x = gammaNode(wide, dtype, options.generator);
    return ops.div(x, ops.sum(x, -1, true));
  });
}

// ---- counts -----------------------------------------------------------------------------------

/** Below this rate counts are found in the distribution function, from there on by rejection. */
const POISSON_EDGE = 10;
const POISSON_STEPS = 40;
const POISSON_ROUNDS = 12;

/**
 * Counts of Poisson distributions with these rates, in their dtype: by inversion below 10, above by
 * transformed rejection (Hörmann 1993). NaN of a negative rate.
 *
 * @example
 * poisson(tensor([0, 0])); // => [0, 0]
 */
export function poisson(rate: Tensor, options: DrawOptions = {}): Tensor {
  return drawn(floatNode('poisson', rate), (node, dtype) => {
    const number = numbers(node);
    const small = ops.less(node, number(POISSON_EDGE));
    const low = smallCounts(ops.select(small, node, number(1)), dtype, options.generator);
    const high = largeCounts(
      ops.select(small, number(POISSON_EDGE), node),
      dtype,
      options.generator,
    );
    const invalid = ops.logicalNot(ops.greaterEqual(node, number(0)));
    return ops.select(invalid, number(NaN), ops.select(small, low, high));
  });
}

function smallCounts(rate: Node, dtype: 'float32' | 'float64', generator?: Generator): Node {
  const number = numbers(rate);
  const unit = uniformNode(rate.shape, dtype, generator);
  let term = ops.exp(ops.neg(rate));
  let total = term;
  let count: Node = number(0);
  for (let k = 1; k <= POISSON_STEPS; k++) {
    const beyond = ops.greaterEqual(unit, total);
    count = ops.add(count, castNode(beyond, dtype));
    term = ops.mul(term, ops.mul(rate, number(1 / k)));
    total = ops.add(total, term);
  }
  return count;
}

function largeCounts(rate: Node, dtype: 'float32' | 'float64', generator?: Generator): Node {
  const number = numbers(rate);
  const plus = (x: Node, value: number): Node => ops.add(x, number(value));
  const times = (x: Node, value: number): Node => ops.mul(x, number(value));
  const b = plus(times(ops.sqrt(rate), 2.53), 0.931);
  const a = plus(times(b, 0.02483), -0.059);
  const inverseAlpha = plus(ops.div(number(1.1328), plus(b, -3.4)), 1.1239);
  const edge = plus(ops.neg(ops.div(number(3.6224), plus(b, -2))), 0.9277);
  const logRate = ops.log(rate);
  const draw = (s: Shape): Node => positiveUnit(s, dtype, generator);
  const [us, vs] = [
    rounds(POISSON_ROUNDS, rate.shape, dtype, draw),
    rounds(POISSON_ROUNDS, rate.shape, dtype, draw),
  ];
  let result = ops.floor(rate);
  for (let k = POISSON_ROUNDS - 1; k >= 0; k--) {
    const u = plus(us(k), -0.5);
    const v = vs(k);
    const side = ops.maximum(ops.sub(number(0.5), ops.abs(u)), number(2 ** -26));
    const slope = ops.div(times(a, 2), side);
    const count = ops.floor(plus(ops.add(ops.mul(ops.add(slope, b), u), rate), 0.43));
    const quick = ops.logicalAnd(ops.greaterEqual(side, number(0.07)), ops.lessEqual(v, edge));
    const out = ops.logicalOr(
      ops.less(count, number(0)),
      ops.logicalAnd(ops.less(side, number(0.013)), ops.greater(v, side)),
    );
    const safe = ops.maximum(count, number(0));
    const hat = ops.add(ops.div(a, ops.mul(side, side)), b);
    const left = ops.sub(ops.add(ops.log(v), ops.log(inverseAlpha)), ops.log(hat));
    const right = ops.sub(ops.sub(ops.mul(safe, logRate), rate), ops.lgamma(plus(safe, 1)));
    const slow = ops.logicalAnd(ops.logicalNot(out), ops.lessEqual(left, right));
    result = ops.select(ops.logicalOr(quick, slow), count, result);
  }
  return result;
}

// ---- categories and orders --------------------------------------------------------------------

export interface MultinomialOptions extends DrawOptions {
  /** Whether a category may be drawn more than once; default false. */
  readonly replacement?: boolean;
}

/**
 * `numSamples` categories of each row of `weights` [n] or [.., n], which are not negative and need not
 * sum to 1: int32 [.., numSamples]. Without replacement more than there are is an error; of a row with
 * fewer categories of weight above 0 than samples, others follow at the end.
 *
 * @example
 * multinomial(tensor([0, 3, 0]), 2, { replacement: true }); // => [1, 1]
 * multinomial(tensor([[0, 1], [5, 0]]), 1); // => [[1], [0]]
 */
export function multinomial(
  weights: Tensor,
  numSamples: number,
  options: MultinomialOptions = {},
): Tensor {
  const op = 'multinomial';
  checkKeys(op, options, ['replacement', 'generator']);
  const { replacement = false, generator } = options;
  checkInteger(op, 'numSamples', numSamples, 1);
  const given = nodeOf(op, weights);
  if (!isFloat(given.dtype))
    throw new DTypeError(`takes float weights, not ${given.dtype}`, { op });
  const count = given.shape.at(-1) ?? 0;
  if (count === 0) {
    throw new ShapeError(`there are no categories in ${formatShape(given.shape)}`, { op });
  }
  if (!replacement && numSamples > count) {
    throw new ArgumentError(`${numSamples} of ${count} categories without replacement`, {
      op,
      hint: '{ replacement: true }?',
    });
  }
  const dtype = given.dtype === 'float64' ? 'float64' : 'float32';
  const node = castNode(ops.detach(given), dtype);
  if (!replacement) {
    // The first of exponential waiting times with these rates.
    const waiting = ops.neg(ops.log(positiveUnit(node.shape, dtype, generator)));
    const arrival = ops.div(waiting, node);
    const order = ops.argsort(arrival, node.shape.length - 1);
    return wrap(ops.narrowAxis(order, node.shape.length - 1, 0, numSamples));
  }
  const sums = ops.cumsum(node, node.shape.length - 1);
  const total = ops.narrowAxis(sums, node.shape.length - 1, count - 1, 1);
  const unit = uniformNode([...node.shape.slice(0, -1), numSamples], dtype, generator);
  // Below the total, so that a category of weight 0 at the end is never met.
  const below = ops.mul(total, ops.constant(1 - 2 ** -23, dtype));
  const place = ops.minimum(ops.mul(unit, total), below);
  const found = ops.searchSorted(sums, place, true);
  return wrap(ops.minimum(found, ops.constant(count - 1, 'int32')));
}

/**
 * The slices of `x` along an axis (default the first) in random order.
 *
 * @example
 * shuffle(tensor([7, 7, 7])); // => [7, 7, 7]
 */
export function shuffle(x: Tensor, axis = 0, options: DrawOptions = {}): Tensor {
  const { shape } = nodeOf('shuffle', x);
  const normal = normalizeAxis('shuffle', axis, shape.length);
  return indexSelect(x, normal, randperm(shape[normal]!, options));
}
