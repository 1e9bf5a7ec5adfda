// Dropout: elements, channels, and the variant that keeps self-normalizing statistics.
import { checkNumber } from '../../base/checks.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import type { Generator } from '../tensor/generator.ts';
import { numberNode, wrap } from '../tensor/handle.ts';
import { uniformNode } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { checkSpaceAxes } from './windows.ts';

export interface DropoutOptions {
  /** Probability that an element is dropped; default 0.5. */
  readonly p?: number;
  /** Whether anything is dropped; default true. */
  readonly training?: boolean;
  /** Default: the global generator. */
  readonly generator?: Generator;
}

/** True where an element stays. */
function keepMask(shape: Shape, p: number, generator: Generator | undefined): Node {
  return ops.greaterEqual(uniformNode(shape, 'float32', generator), numberNode(p, 'float32'));
}

/** Zeroes with probability p, and scales the rest so that the mean stays. */
function drop(
  op: string,
  x: Tensor,
  options: DropoutOptions,
  maskShape: (s: Shape) => Shape,
): Tensor {
  const { p = 0.5, training = true, generator } = options;
  checkNumber(op, 'p', p, [0, 1]);
  const node = floatNode(op, x);
  const shape = maskShape(node.shape);
  if (!training || p === 0) return wrap(node);
  const zero = ops.constant(0, node.dtype);
  if (p === 1) return wrap(ops.mul(node, zero));
  const scaled = ops.mul(node, numberNode(1 / (1 - p), node.dtype));
  return wrap(ops.select(keepMask(shape, p, generator), scaled, zero));
}

/** Drops elements (Srivastava et al. 2014). */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  return drop('dropout', x, options, (shape) => shape);
}

/** The shape of one number per channel of an input with or without a batch axis. */
function perChannel(op: string, spaceRank: number): (shape: Shape) => Shape {
  return (shape) => {
    const lead = shape.length - spaceRank;
    checkSpaceAxes(op, shape, spaceRank);
    return shape.map((size, axis) => (axis < lead ? size : 1));
  };
}

/** Drops whole channels of [.., channels, length]. */
export function dropout1d(x: Tensor, options: DropoutOptions = {}): Tensor {
  return drop('dropout1d', x, options, perChannel('dropout1d', 1));
}

/** Drops whole channels of [.., channels, height, width]. */
export function dropout2d(x: Tensor, options: DropoutOptions = {}): Tensor {
  return drop('dropout2d', x, options, perChannel('dropout2d', 2));
}

/** Drops whole channels of [.., channels, depth, height, width]. */
export function dropout3d(x: Tensor, options: DropoutOptions = {}): Tensor {
  return drop('dropout3d', x, options, perChannel('dropout3d', 3));
}

/** Dropout towards selu's lower limit, at what the mask says. */
function dropLow(
  op: string,
  x: Tensor,
  options: DropoutOptions,
  maskShape: (s: Shape) => Shape,
): Tensor {
  const { p = 0.5, training = true, generator } = options;
  checkNumber(op, 'p', p, [0, 1]);
  const node = floatNode(op, x);
  const shape = maskShape(node.shape);
  if (!training || p === 0) return wrap(node);
  const zero = ops.constant(0, node.dtype);
  if (p === 1) return wrap(ops.mul(node, zero));
  const limit = -1.7580993408473766;
  const scale = 1 / Math.sqrt((1 - p) * (1 + p * limit * limit));
  const shift = -scale * limit * p;
  const low = numberNode(limit, node.dtype);
  const chosen = ops.select(keepMask(shape, p, generator), node, low);
  return wrap(
    ops.add(ops.mul(chosen, numberNode(scale, node.dtype)), numberNode(shift, node.dtype)),
  );
}

/** Dropout towards selu's lower limit, which keeps mean and variance (Klambauer et al. 2017). */
export function alphaDropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  return dropLow('alphaDropout', x, options, (shape) => shape);
}

/**
 * As `alphaDropout`, of whole channels of [batch, channels, ...]. Throws ShapeError for an input of
 * fewer than two axes.
 */
export function featureAlphaDropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  const op = 'featureAlphaDropout';
  return dropLow(op, x, options, (shape) => {
    if (shape.length >= 2) return shape.map((size, axis) => (axis < 2 ? size : 1));
    throw new ShapeError(`takes [batch, channels, ...], got ${formatShape(shape)}`, { op });
  });
}
