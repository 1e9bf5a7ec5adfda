// Matrix products and what is made of them.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { det } from '../../linalg/index.ts';
import { type Tensor, einsum } from '../../tensor/index.ts';
import { flag, float, required, text } from '../attributes.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import type { TensorValue } from '../values.ts';
import { as } from './results.ts';

interface GemmAttributes {
  readonly alpha: number;
  readonly beta: number;
  readonly transA: boolean;
  readonly transB: boolean;
}

/** alpha A B + beta C, both factors transposed on demand. */
function gemm(call: Call<GemmAttributes>): TensorValue {
  const { alpha, beta, transA, transB } = call.attributes;
  const [a, b] = [call.value(0), call.value(1)];
  if (a.rank !== 2 || b.rank !== 2) {
    throw new ShapeError(`expected matrices, got ${formatShape(a.shape)}, ${formatShape(b.shape)}`);
  }
  const left = transA ? a.tensor.transpose(0, 1) : a.tensor;
  const right = transB ? b.tensor.transpose(0, 1) : b.tensor;
  let product = left.matmul(right);
  if (alpha !== 1) product = product.mul(alpha);
  const c = call.optional(2);
  if (c === null || beta === 0) return as(a.type, product);
  const result = product.add(beta === 1 ? c : c.mul(beta));
  if (result.ndim !== 2 || result.shape.some((size, axis) => size !== product.shape[axis])) {
    throw new ShapeError(`C ${formatShape(c.shape)} does not fit ${formatShape(product.shape)}`);
  }
  return as(a.type, result);
}

function matmul(a: Tensor, b: Tensor): Tensor {
  return a.matmul(b);
}

export const linearAlgebra: readonly Operator[] = [
  defineOperator({
    name: 'MatMul',
    since: 1,
    inputs: 2,
    run: (call) => as(call.type(0), matmul(call.tensor(0), call.tensor(1))),
  }),
  defineOperator({
    name: 'Gemm',
    since: 1,
    inputs: [2, 3],
    attributes: {
      alpha: float(1),
      beta: float(1),
      transA: flag(),
      transB: flag(),
      broadcast: flag(),
    },
    run: gemm,
  }),
  defineOperator({
    name: 'Det',
    since: 11,
    inputs: 1,
    run: (call) => as(call.type(0), det(call.tensor(0))),
  }),
  defineOperator({
    name: 'Einsum',
    since: 12,
    inputs: [1, 64],
    attributes: { equation: required(text()) },
    run: (call) => {
      const { equation } = call.attributes;
      if (equation.length > 1024) throw new FormatError('an equation of more than 1024 letters');
      const tensors = call.values().map(({ tensor }) => tensor);
      return as(call.type(0), einsum(equation.replaceAll(' ', ''), ...tensors));
    },
  }),
];
