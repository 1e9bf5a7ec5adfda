// Complex numbers as tensors whose last axis holds real and imaginary part.
import { ArgumentError } from '../../base/errors.ts';
import { broadcastShapes } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { floatOperands } from '../tensor/arithmetic.ts';
import { isTensor, wrap } from '../tensor/handle.ts';
import { normNode } from '../tensor/reductions.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { complexNode } from './transforms.ts';

/** Two tensors of one shape as pairs [.., 2]. */
function pairs(real: Node, imaginary: Node): Node {
  const column = (x: Node): Node => ops.reshape(x, [...x.shape, 1]);
  return ops.concat([column(real), column(imaginary)], real.shape.length);
}

function part(x: Node, which: 0 | 1): Node {
  const rank = x.shape.length - 1;
  return ops.reshape(ops.narrowAxis(x, rank, which, 1), x.shape.slice(0, -1));
}

/**
 * Complex numbers [.., 2] of real and imaginary parts, which broadcast; without the second, of real
 * numbers.
 *
 * @example
 * ```ts
 * complex(tensor([1, 2]), tensor([0, -1])); // => [[1, 0], [2, -1]]
 * ```
 */
export function complex(re: Tensor, im?: Tensor | number): Tensor {
  const real = floatNode('complex', re);
  if (im === undefined) return wrap(pairs(real, ops.full(real.shape, 0, real.dtype)));
  if (!isTensor(im) && typeof im !== 'number') {
    throw new ArgumentError('the imaginary part is neither a tensor nor a number', {
      op: 'complex',
    });
  }
  const [a, b] = floatOperands('complex', re, im);
  const shape = broadcastShapes('complex', a.shape, b.shape);
  return wrap(pairs(ops.expand(a, shape), ops.expand(b, shape)));
}

/** The real parts of complex numbers [.., 2]. */
export function real(x: Tensor): Tensor {
  return wrap(part(complexNode('real', x), 0));
}

/** The imaginary parts of complex numbers [.., 2]. */
export function imag(x: Tensor): Tensor {
  return wrap(part(complexNode('imag', x), 1));
}

/** The conjugates: imaginary parts with the other sign. */
export function conj(x: Tensor): Tensor {
  const node = complexNode('conj', x);
  return wrap(pairs(part(node, 0), ops.neg(part(node, 1))));
}

/**
 * The magnitudes of complex numbers [.., 2]; at 0 the gradient is 0.
 *
 * @example
 * ```ts
 * complexAbs(tensor([[3, 4]])); // => [5]
 * ```
 */
export function complexAbs(x: Tensor): Tensor {
  const node = complexNode('complexAbs', x);
  return wrap(normNode(node, 2, [node.shape.length - 1], false));
}

/** The angles of complex numbers [.., 2], from -π to π. */
export function angle(x: Tensor): Tensor {
  const node = complexNode('angle', x);
  return wrap(ops.atan2(part(node, 1), part(node, 0)));
}

/** Complex numbers of magnitudes and angles, which broadcast. */
export function polar(abs: Tensor, phase: Tensor): Tensor {
  const [a, b] = floatOperands('polar', abs, phase);
  const shape = broadcastShapes('polar', a.shape, b.shape);
  const [size, turn] = [ops.expand(a, shape), ops.expand(b, shape)];
  return wrap(pairs(ops.mul(size, ops.cos(turn)), ops.mul(size, ops.sin(turn))));
}

/**
 * Products of complex numbers [.., 2], which broadcast: what a convolution becomes after transforming.
 *
 * @example
 * ```ts
 * complexMul(tensor([0, 1]), tensor([0, 1])); // => [-1, 0]
 * ```
 */
export function complexMul(x: Tensor, y: Tensor): Tensor {
  const op = 'complexMul';
  complexNode(op, x);
  complexNode(op, y);
  const [a, b] = floatOperands(op, x, y);
  const shape = broadcastShapes(op, a.shape, b.shape);
  const [left, right] = [ops.expand(a, shape), ops.expand(b, shape)];
  const [p, q, r, s] = [part(left, 0), part(left, 1), part(right, 0), part(right, 1)];
  const re = ops.sub(ops.mul(p, r), ops.mul(q, s));
  const im = ops.add(ops.mul(p, s), ops.mul(q, r));
  return wrap(pairs(re, im));
}
