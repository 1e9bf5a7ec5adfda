// Random numbers from random bits. base/philox.ts and the host's generators give the same numbers
// for the same place in the stream, but for the rounding of functions.
import type { DType } from '../../base/dtype.ts';
import { type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import {
  cast,
  concat,
  constant,
  cos,
  less,
  log,
  mul,
  narrowAxis,
  neg,
  randomBits,
  type RandomSource,
  reshape,
  shiftRight,
  sin,
  sqrt,
  sub,
} from '../ops/index.ts';

/** How many 32-bit words `normal` of `count` numbers takes from the stream. */
export function normalWords(count: number): number {
  return 2 * Math.ceil(count / 2);
}

/** Uniform float32 numbers in [0, 1): the upper 24 bits of one word each. */
export function uniform(shape: Shape, source: RandomSource): Node {
  const bits = shiftRight(randomBits(shape, source), constant(8, 'uint32'));
  return mul(cast(bits, 'float32'), constant(2 ** -24, 'float32'));
}

/** Standard normal float32 numbers, two from two words each (Box and Muller, 1958). */
export function normal(shape: Shape, source: RandomSource): Node {
  const count = sizeOf(shape);
  const pairs = Math.ceil(count / 2);
  const numbers = uniform([pairs, 2], source);
  const one = constant(1, 'float32');
  // 1 - u is in (0, 1], so that its logarithm is finite.
  const logarithm = log(sub(one, narrowAxis(numbers, 1, 0, 1)));
  const radius = sqrt(mul(logarithm, constant(-2, 'float32')));
  const angle = mul(narrowAxis(numbers, 1, 1, 1), constant(2 * Math.PI, 'float32'));
  const both = concat([mul(radius, cos(angle)), mul(radius, sin(angle))], 1);
  return reshape(narrowAxis(reshape(both, [2 * pairs]), 0, 0, count), shape);
}

/** Bool: true with the given probability (a float32 scalar). */
export function bernoulli(shape: Shape, probability: Node, source: RandomSource): Node {
  return less(uniform(shape, source), probability);
}

/** Random integers in [low, high), as `dtype`; the bias is below (high - low) / 2^24. */
export function randomIntegers(
  shape: Shape,
  low: number,
  high: number,
  source: RandomSource,
  dtype: DType = 'int32',
): Node {
  const scaled = mul(uniform(shape, source), constant(high - low, 'float32'));
  return cast(sub(cast(scaled, 'int32'), neg(constant(low, 'int32'))), dtype);
}
