// Batched matrix product.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS } from '../op.ts';
import { transpose } from './permute.ts';
import { wrapInteger } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';

function mismatch(a: Node, b: Node, why: string, detail: string, hint?: string): ShapeError {
  return new ShapeError(`${why}, ${formatShape(a.shape)} @ ${formatShape(b.shape)}${detail}`, {
    op: 'matmul',
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Called for every product that is built, so it makes one array and no closure. */
function inferProduct(a: Node, b: Node): { shape: Shape; dtype: DType } {
  const { shape: left, dtype } = a;
  const right = b.shape;
  if (dtype !== b.dtype) {
    throw new DTypeError(`operands are ${dtype} and ${b.dtype}`, { op: 'matmul' });
  }
  if (!isFloat(dtype) && dtype !== 'int32') {
    throw new DTypeError(`takes floats or int32, not ${dtype}`, {
      op: 'matmul',
      hint: "cast to 'int32' first",
    });
  }
  const rank = left.length;
  if (rank < 2 || right.length !== rank) {
    throw mismatch(a, b, 'operands must have equal rank of at least 2', '');
  }
  const shape = new Array<number>(rank);
  for (let axis = 0; axis < rank - 2; axis++) {
    if (left[axis] !== right[axis]) throw mismatch(a, b, 'batch sizes differ', '');
    shape[axis] = left[axis]!;
  }
  const inner = left[rank - 1]!;
  const other = right[rank - 2]!;
  if (inner !== other) {
    const sizes = ` (${inner} vs ${other})`;
    throw mismatch(a, b, 'inner sizes differ', sizes, 'transpose the second argument?');
  }
  shape[rank - 2] = left[rank - 2]!;
  shape[rank - 1] = right[rank - 1]!;
  return { shape, dtype };
}

const matmulOp = defineOp({
  name: 'matmul',
  summary: '[...batch,m,k] @ [...batch,k,n], equal batch sizes',
  attrs: {},
  infer: (inputs) => inferProduct(inputs[0]!, inputs[1]!),
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
