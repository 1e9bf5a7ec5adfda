// A pseudoinverse with its gradient: the value is computed before, by a decomposition whose own
// gradient would fail where singular values are equal.
import { ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS, type ReferenceTensor } from '../op.ts';
import { add, neg, sub } from './arithmetic.ts';
import { matmul } from './matmul.ts';
import {
  batchOf,
  flipped,
  matricesOf,
  matrixSizes,
  productOf,
  type Rows,
  shiftedTensor,
  transposeOf,
} from './matrix-parts.ts';
import { tensorOf } from './samples.ts';

function invert(matrix: Rows): Rows {
  const size = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let c = 0; c < size; c++) {
    const pivot = rows[c]![c]!;
    rows[c] = rows[c]!.map((value) => value / pivot);
    for (let r = 0; r < size; r++) {
      const factor = rows[r]![c]!;
      if (r !== c) rows[r] = rows[r]!.map((value, j) => value - factor * rows[c]![j]!);
    }
  }
  return rows.map((row) => row.slice(size));
}

/** Of a matrix whose shorter side has full rank. */
function pseudoInverseRows(matrix: Rows, columns: number): Rows {
  const turned = transposeOf(matrix, columns);
  return matrix.length >= columns
    ? productOf(invert(productOf(turned, matrix)), turned)
    : productOf(turned, invert(productOf(matrix, turned)));
}

function inverseFor(x: ReferenceTensor): ReferenceTensor {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const values = matricesOf(x).flatMap((matrix) => pseudoInverseRows(matrix, columns).flat());
  return tensorOf([...batchOf(x.shape), columns, rows], values, x.dtype);
}

const pseudoInverseOp = defineOp({
  name: 'pseudoInverse',
  summary: 'the first input, as the pseudoinverse of the second',
  attrs: {},
  infer: ([inverse, x]) => {
    const [rows, columns] = matrixSizes('pinv', x!);
    if (!sameShape(inverse!.shape, [...batchOf(x!.shape), columns, rows])) {
      throw new ShapeError(
        `${formatShape(inverse!.shape)} is no pseudoinverse of ${formatShape(x!.shape)}`,
        { op: 'pinv' },
      );
    }
    return { shape: inverse!.shape, dtype: x!.dtype };
  },
  // Golub and Pereyra (1973): dP = -P dA P + P Pᵀ dAᵀ (I - A P) + (I - P A) dAᵀ Pᵀ P.
  gradient: ({ node, grad, inputs }) => {
    const x = inputs[1]!;
    const [p, gradT] = [flipped(node), flipped(grad)];
    const main = neg(matmul(matmul(p, grad), p));
    const left = matmul(matmul(gradT, node), p);
    const right = matmul(matmul(p, node), gradT);
    const [rows, columns] = matrixSizes('pinv', x);
    // Beside the ranges of A and of Aᵀ: I - A P and I - P A, which are zero for regular matrices.
    const besideLeft = sub(left, matmul(x, matmul(node, left)));
    const besideRight = sub(right, matmul(matmul(right, node), x));
    if (rows === 0 || columns === 0) return [null, main];
    return [null, add(main, add(besideLeft, besideRight))];
  },
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices) => context.read(0, indices),
  },
  reference: ([, x]) => {
    const columns = x!.shape.at(-1)!;
    return Float64Array.from(
      matricesOf(x!).flatMap((matrix) => pseudoInverseRows(matrix, columns).flat()),
    );
  },
  samples: () =>
    [
      [1, 1],
      [3, 3],
      [2, 4, 3],
      [3, 5],
      [0, 0],
      [0, 2, 2],
    ].map((shape) => {
      const x = shiftedTensor(shape, 4);
      return { inputs: [inverseFor(x), x], attrs: {} };
    }),
  cost: 0,
});

/** `inverse` as the pseudoinverse of `x`: the gradient by `x` is right for every order and rank. */
export function pseudoInverse(inverse: Node, x: Node): Node {
  return makeNode(pseudoInverseOp, [inverse, x], NO_ATTRS);
}
