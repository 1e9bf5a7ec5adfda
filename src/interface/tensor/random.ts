// Random tensors. Each takes its place in a generator's stream when it is made, so the numbers do
// not depend on when, where or how often they are computed.
import { checkNumber } from '../../base/checks.ts';
import { type DType, isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError } from '../../base/errors.ts';
import { checkShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from './arguments.ts';
import { openBodies } from '../../graph/bodies.ts';
import { defaultGenerator, type Generator } from './generator.ts';
import { watched } from './engine.ts';
import { castNode, numberNode, wrap } from './handle.ts';
import { type CreationOptions, readShape } from './creation.ts';
import type { Tensor } from './tensor.ts';

export interface RandomOptions extends CreationOptions {
  /** Default: the global generator, which `manualSeed` seeds. */
  readonly generator?: Generator | undefined;
}

/** One draw of `count` words: what a replay takes anew from the generator. */
export interface Draw {
  readonly generator: Generator;
  readonly count: number;
}

/** The four words that name a place in a stream: low and high of seed and offset. */
export function placeWords({ generator, count }: Draw): readonly [number, number, number, number] {
  const [seedLow, seedHigh] = generator.key;
  const offset = generator.reserve(count);
  return [seedLow, seedHigh, offset >>> 0, Math.floor(offset / 4294967296)];
}

const draws = new WeakMap<Node, { readonly draw: Draw; readonly word: 0 | 1 | 2 | 3 }>();

/** Which word of which draw a scalar slot holds, if it is one. */
export function drawOf(slot: Node): { readonly draw: Draw; readonly word: 0 | 1 | 2 | 3 } | null {
  return draws.get(slot) ?? null;
}

/** Random uint32 words at the generator's next place. */
export function bitsNode(shape: Shape, generator?: Generator): Node {
  return ops.randomBits(shape, sourceOf(sizeOf(shape), generator));
}

/** The generator's next place, for `count` words. */
export function sourceOf(count: number, generator: Generator = defaultGenerator): ops.RandomSource {
  const draw: Draw = { generator, count };
  const words = placeWords(draw);
  watched.current?.drew(draw);
  const slot = (word: 0 | 1 | 2 | 3): Node => {
    const node = ops.scalar(words[word], 'uint32');
    draws.set(node, { draw, word });
    return node;
  };
  let source: ops.RandomSource = {
    seedLow: slot(0),
    seedHigh: slot(1),
    offsetLow: slot(2),
    offsetHigh: slot(3),
  };
  for (const { iteration } of openBodies()) {
    if (iteration !== null) source = streamOf(source, iteration());
  }
  return source;
}

/** What a loop draws: a key of its own, and for each iteration other blocks under it. */
function streamOf(source: ops.RandomSource, iteration: Node): ops.RandomSource {
  const key = ops.randomBits([2], source);
  const word = (index: number): Node => ops.reshape(ops.narrowAxis(key, 0, index, 1), []);
  return {
    seedLow: word(0),
    seedHigh: word(1),
    offsetLow: ops.constant(0, 'uint32'),
    offsetHigh: iteration,
  };
}

/** Words as floats in [0, 1): their upper 24 bits. */
function unitFloats(bits: Node, dtype: DType): Node {
  const upper = ops.shiftRight(bits, ops.constant(8, 'uint32'));
  return ops.mul(castNode(upper, dtype), ops.constant(2 ** -24, dtype));
}

/** Uniform floats in [0, 1). */
export function uniformNode(shape: Shape, dtype: DType, generator?: Generator): Node {
  return unitFloats(bitsNode(shape, generator), dtype);
}

/** Standard normal floats by Box and Muller (1958): an angle and a radius for each. */
export function normalNode(shape: Shape, dtype: DType, generator?: Generator): Node {
  const both = uniformNode([2, ...shape], dtype, generator);
  const part = (index: number): Node => ops.reshape(ops.narrowAxis(both, 0, index, 1), shape);
  const one = ops.constant(1, dtype);
  // 1 - u lies in (0, 1], where the logarithm is finite.
  const squared = ops.mul(ops.log(ops.sub(one, part(0))), ops.constant(-2, dtype));
  const angle = ops.mul(part(1), ops.constant(2 * Math.PI, dtype));
  return ops.mul(ops.sqrt(squared), ops.cos(angle));
}

/** float16 and bfloat16 are drawn in float32 and rounded. */
function drawFloats(op: string, shape: Shape, dtype: DType, draw: (dtype: DType) => Node): Tensor {
  if (!isFloat(dtype)) {
    throw new DTypeError(`draws floats, not ${dtype}`, { op, hint: 'use randint()' });
  }
  checkShape(op, shape);
  const wide: DType = dtype === 'float64' ? 'float64' : 'float32';
  return wrap(castNode(draw(wide), dtype));
}

type ShapeArguments = (number | Shape | RandomOptions | undefined)[];

function generatorOf(args: ShapeArguments): Generator | undefined {
  const last = args[args.length - 1];
  if (typeof last !== 'object' || Array.isArray(last)) return undefined;
  return (last as RandomOptions).generator;
}

/**
 * Uniform numbers in [0, 1): `rand(2, 3)` or `rand([2, 3], { generator })`.
 *
 * @example
 * ```ts
 * manualSeed(1);
 * const first = await rand(3).array();
 * manualSeed(1);
 * const again = await rand(3).array();
 * String(first) === String(again); // => true
 * ```
 */
export function rand(shape: Shape, options?: RandomOptions): Tensor;
export function rand(...sizes: number[]): Tensor;
export function rand(...args: ShapeArguments): Tensor {
  const { shape, dtype } = readShape('rand', args);
  return drawFloats('rand', shape, dtype, (wide) => uniformNode(shape, wide, generatorOf(args)));
}

/** Standard normal numbers: `randn(2, 3)` or `randn([2, 3], { generator })`. */
export function randn(shape: Shape, options?: RandomOptions): Tensor;
export function randn(...sizes: number[]): Tensor;
export function randn(...args: ShapeArguments): Tensor {
  const { shape, dtype } = readShape('randn', args);
  return drawFloats('randn', shape, dtype, (wide) => normalNode(shape, wide, generatorOf(args)));
}

/** Uniform numbers in [0, 1) with the shape of `x`, and its dtype unless given. */
export function randLike(x: Tensor, options: RandomOptions = {}): Tensor {
  return rand(x.shape, { ...options, dtype: options.dtype ?? x.dtype });
}

/** Standard normal numbers with the shape of `x`, and its dtype unless given. */
export function randnLike(x: Tensor, options: RandomOptions = {}): Tensor {
  return randn(x.shape, { ...options, dtype: options.dtype ?? x.dtype });
}

/** Uniform numbers in [low, high). */
export function uniform(
  low: number,
  high: number,
  shape: Shape,
  options: RandomOptions = {},
): Tensor {
  if (!(low <= high)) throw new ArgumentError(`low ${low} exceeds high ${high}`, { op: 'uniform' });
  return drawFloats('uniform', shape, options.dtype ?? 'float32', (wide) => {
    const unit = uniformNode(shape, wide, options.generator);
    return ops.add(ops.mul(unit, numberNode(high - low, wide)), numberNode(low, wide));
  });
}

/** Normal numbers of a mean and a standard deviation. */
export function normal(
  mean: number,
  std: number,
  shape: Shape,
  options: RandomOptions = {},
): Tensor {
  checkNumber('normal', 'mean', mean, [-Infinity]);
  checkNumber('normal', 'std', std);
  return drawFloats('normal', shape, options.dtype ?? 'float32', (wide) => {
    const unit = normalNode(shape, wide, options.generator);
    return ops.add(ops.mul(unit, numberNode(std, wide)), numberNode(mean, wide));
  });
}

/** Integers in [low, high), int32 unless `dtype` is given. */
export function randint(
  low: number,
  high: number,
  shape: Shape,
  options: RandomOptions = {},
): Tensor {
  const op = 'randint';
  const range = high - low;
  if (!Number.isInteger(low) || !Number.isInteger(high) || range < 1 || range > 4294967295) {
    throw new ArgumentError(`there are no integers in [${low}, ${high})`, { op });
  }
  checkShape(op, shape);
  const bits = bitsNode(shape, options.generator);
  const within = castNode(ops.remainder(bits, numberNode(range, 'uint32')), 'int32');
  return wrap(castNode(ops.add(within, numberNode(low, 'int32')), options.dtype ?? 'int32'));
}

/** The integers from 0 to n - 1 in random order, int32 unless `dtype` is given. */
export function randperm(n: number, options: RandomOptions = {}): Tensor {
  checkInteger('randperm', 'n', n, 0);
  const dtype = options.dtype ?? 'int32';
  if (n === 0) return wrap(ops.full([0], 0, dtype));
  // Sorting random keys; equal keys keep their order, which 32 bits make rare.
  return wrap(castNode(ops.argsort(bitsNode([n], options.generator), 0), dtype));
}

/** 1 with the probability that `x` holds at each place, else 0, in the dtype of `x`. */
export function bernoulli(x: Tensor, options: { generator?: Generator } = {}): Tensor {
  const node = nodeOf('bernoulli', x);
  if (!isFloat(node.dtype)) {
    throw new DTypeError(`takes float probabilities, not ${node.dtype}`, { op: 'bernoulli' });
  }
  const drawn = uniformNode(node.shape, 'float32', options.generator);
  return wrap(castNode(ops.less(drawn, castNode(node, 'float32')), node.dtype));
}
