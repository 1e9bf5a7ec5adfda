// Batched matrix product.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS } from '../op.ts';
import { transpose } from './permute.ts';
import { wrapInteger } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';

const matmulOp = defineOp({
  name: 'matmul',
  summary: '[...batch,m,k] @ [...batch,k,n], equal batch sizes',
  attrs: {},
  infer: ([a, b]) => {
    const fail = (why: string, hint?: string): never => {
      throw new ShapeError(`${why}, ${formatShape(a!.shape)} @ ${formatShape(b!.shape)}`, {
        op: 'matmul',
        ...(hint === undefined ? {} : { hint }),
      });
    };
    if (a!.dtype !== b!.dtype) {
      throw new DTypeError(`operands are ${a!.dtype} and ${b!.dtype}`, { op: 'matmul' });
    }
    if (!isFloat(a!.dtype) && a!.dtype !== 'int32') {
      throw new DTypeError(`takes floats or int32, not ${a!.dtype}`, {
        op: 'matmul',
        hint: "cast to 'int32' first",
      });
    }
    const rank = a!.shape.length;
    if (rank < 2 || b!.shape.length !== rank) fail('operands must have equal rank of at least 2');
    const batch = a!.shape.slice(0, -2);
    if (!sameShape(batch, b!.shape.slice(0, -2))) fail('batch sizes differ');
    const inner = a!.shape[rank - 1]!;
    const other = b!.shape[rank - 2]!;
    if (inner !== other) {
      throw new ShapeError(
        `inner sizes differ, ${formatShape(a!.shape)} @ ${formatShape(b!.shape)} (${inner} vs ${other})`,
        { op: 'matmul', hint: 'transpose the second argument?' },
      );
    }
    return { shape: [...batch, a!.shape[rank - 2]!, b!.shape[rank - 1]!], dtype: a!.dtype };
  },
  gradient: ({ grad, inputs, needs }) => [
    needs(0) ? matmul(grad, transpose(inputs[1]!)) : null,
    needs(1) ? matmul(transpose(inputs[0]!), grad) : null,
  ],
  lower: { kind: 'matmul' },
  reference: ([a, b], _attrs, output) => {
    const rank = output.shape.length;
    const [m, n] = [output.shape[rank - 2]!, output.shape[rank - 1]!];
    const k = a!.shape[rank - 1]!;
    const data = new Float64Array(sizeOf(output.shape));
    for (let batch = 0; batch < sizeOf(output.shape.slice(0, -2)); batch++) {
      for (let row = 0; row < m; row++) {
        for (let column = 0; column < n; column++) {
          let total = 0;
          for (let inner = 0; inner < k; inner++) {
            const left = a!.data[(batch * m + row) * k + inner]!;
            total += left * b!.data[(batch * k + inner) * n + column]!;
          }
          data[(batch * m + row) * n + column] = wrapInteger(output.dtype, total);
        }
      }
    }
    return data;
  },
  samples: () => {
    const pair = (a: readonly number[], b: readonly number[]) => ({
      inputs: [randomTensor(a), randomTensor(b, { seed: 7 })],
      attrs: {},
    });
    const typed = (dtype: DType) => ({
      inputs: [randomTensor([2, 3, 4], { dtype }), randomTensor([2, 4, 2], { dtype, seed: 7 })],
      attrs: {},
      ...(isFloat(dtype) ? {} : { skipGradient: 'integers' }),
    });
    return [
      pair([1, 1], [1, 1]),
      pair([2, 3], [3, 4]),
      pair([5, 1], [1, 6]),
      pair([1, 7], [7, 1]),
      pair([17, 19], [19, 23]),
      pair([0, 3], [3, 2]),
      pair([2, 0], [0, 3]),
      pair([3, 2, 4], [3, 4, 5]),
      pair([0, 2, 4], [0, 4, 5]),
      pair([2, 3, 4, 5], [2, 3, 5, 2]),
      typed('float64'),
      typed('int32'),
      {
        inputs: [tensorOf([2, 2], [1, Infinity, NaN, 0]), tensorOf([2, 1], [1, 2])],
        attrs: {},
        skipGradient: 'special values',
      },
    ];
  },
});

/** Batched matrix product; ranks and batch sizes are equal. Throws ShapeError. */
export function matmul(a: Node, b: Node): Node {
  return makeNode(matmulOp, [a, b], NO_ATTRS);
}
