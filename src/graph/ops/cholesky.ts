// Cholesky decomposition, and symmetric matrices of which one triangle is given.
import type { Expression } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import {
  defineOp,
  type KernelBody,
  type KernelContext,
  makeNode,
  NO_ATTRS,
  type ReferenceTensor,
} from '../op.ts';
import { add, mul, sub } from './arithmetic.ts';
import { constant } from './creation.ts';
import { matmul } from './matmul.ts';
import { overMatrices } from './matrix-kernel.ts';
import {
  diagonalPart,
  flipped,
  lowerPart,
  matricesOf,
  productOf,
  type Rows,
  shiftedTensor,
  squareSize,
  transposeOf,
} from './matrix-parts.ts';
import { fillReference } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { triangularSolve } from './triangular.ts';

// ---- symmetric matrices -----------------------------------------------------------------------

const mirrorOp = defineOp({
  name: 'mirrorTriangle',
  summary: 'the symmetric matrix that has this lower (or upper) triangle',
  attrs: { upper: 'flag' },
  infer: ([x]) => {
    squareSize('mirrorTriangle', x!);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  // By the symmetric matrix that is meant, as PyTorch's: half on either side of the diagonal.
  gradient: ({ grad }) => [mul(add(grad, flipped(grad)), constant(0.5, grad.dtype))],
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { upper }) => {
      const { builder } = context;
      const batch = indices.slice(0, -2);
      const [row, column] = indices.slice(-2) as [Expression, Expression];
      const high = builder.max(row, column);
      const low = builder.min(row, column);
      return context.read(0, upper ? [...batch, low, high] : [...batch, high, low]);
    },
  },
  reference: ([x], { upper }, output) => {
    const size = output.shape.at(-1)!;
    return fillReference(output, (indices, flat) => {
      const [row, column] = indices.slice(-2) as [number, number];
      const mirrored = upper ? row > column : row < column;
      const start = flat - row * size - column;
      return x!.data[mirrored ? start + column * size + row : flat]!;
    });
  },
  samples: () =>
    [
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [0, 0],
    ].flatMap((shape) =>
      [false, true].map((upper) => ({
        inputs: [randomTensor(shape)],
        attrs: { upper },
        skipGradient: 'it is that of the symmetric matrix, not of the triangle',
      })),
    ),
});

/**
 * Symmetric matrices [.., n, n] with the lower (or upper) triangle of `x`. The gradient is symmetric:
 * by the whole matrix that is meant.
 */
export function mirrorTriangle(x: Node, upper = false): Node {
  return makeNode(mirrorOp, [x], { upper });
}

/** The gradient by the lower triangle alone, from that by an unconstrained matrix. */
export function byLowerTriangle(gradient: Node): Node {
  return lowerPart(sub(add(gradient, flipped(gradient)), diagonalPart(gradient)));
}

/** Symmetric samples: x + xᵀ, with `shift` on the diagonal. */
export function symmetricTensor(
  shape: readonly number[],
  shift: number,
  options: Parameters<typeof shiftedTensor>[2] = {},
): ReferenceTensor {
  const made = shiftedTensor(shape, shift, options);
  const values = matricesOf(made).flatMap((matrix) => {
    const other = transposeOf(matrix);
    return matrix.flatMap((row, i) => row.map((value, j) => value + other[i]![j]!));
  });
  return tensorOf(shape, values, made.dtype);
}

// ---- the decomposition ------------------------------------------------------------------------

function lowerCholesky(context: KernelContext, node: Node): KernelBody {
  const size = node.shape.at(-1)!;
  return overMatrices(context, node.dtype, node.shape.slice(0, -2), (code, batch) => {
    const a = code.array('matrix', size * size);
    const column = code.array('column', size);
    const at = (i: Expression, j: Expression): Expression => code.place(i, size, j);
    return [
      ...code.fill(a, [size, size], (i, j) => context.read(0, [...batch, i, j])),
      ...code.range('step', [0, size, size], (step, into) => {
        const root = code.bind(into, 'root', code.sqrt(code.load(a, at(step, step))));
        const next = code.builder.offset(step, 1);
        into.push(code.store(a, at(step, step), root));
        into.push(
          ...code.range('row', [next, size, size], (i, body) => {
            const factor = code.bind(body, 'factor', code.div(code.load(a, at(i, step)), root));
            const negative = code.bind(body, 'negative', code.neg(factor));
            body.push(code.store(a, at(i, step), factor), code.store(column, i, factor));
            body.push(
              ...code.range(
                'column',
                [next, code.builder.offset(i, 1), size],
                (j, inner) => {
                  const value = code.bind(inner, 'value', code.load(a, at(i, j)));
                  const left = code.multiplyAdd(negative, code.load(column, j), value);
                  inner.push(code.store(a, at(i, j), left));
                },
                { vector: true },
              ),
            );
          }),
        );
      }),
      ...code.giveMatrix(batch, [size, size], (i, j) => {
        const kept = code.builder.compare('le', j, i);
        return code.select(kept, code.load(a, at(i, j)), code.number(0));
      }),
    ];
  });
}

function choleskyRows(matrix: Rows): Rows {
  const lower: Rows = matrix.map((row) => row.map(() => 0));
  for (let i = 0; i < matrix.length; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = matrix[i]![j]!;
      for (let k = 0; k < j; k++) rest -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(rest) : rest / lower[j]![j]!;
    }
  }
  return lower;
}

/** Positive definite samples: the squares of well conditioned ones. */
function definiteTensor(
  shape: readonly number[],
  options: Parameters<typeof shiftedTensor>[2] = {},
): ReferenceTensor {
  const made = shiftedTensor(shape, 3, options);
  const values = matricesOf(made).flatMap((matrix) =>
    productOf(matrix, transposeOf(matrix)).flat(),
  );
  return tensorOf(shape, values, made.dtype);
}

const choleskyOp = defineOp({
  name: 'cholesky',
  summary: 'L with L Lᵀ = A, of whose A only the lower triangle is read',
  attrs: {},
  infer: ([x]) => {
    squareSize('cholesky', x!);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  // Murray, Differentiation of the Cholesky decomposition (2016), eq. 10.
  gradient: ({ node, grad }) => {
    const product = matmul(flipped(node), lowerPart(grad));
    const half = constant(0.5, grad.dtype);
    const middle = lowerPart(sub(product, mul(diagonalPart(product), half)));
    const options = { upper: true, unit: false };
    const left = triangularSolve(flipped(node), middle, options);
    const both = flipped(triangularSolve(flipped(node), flipped(left), options));
    return [byLowerTriangle(both)];
  },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerCholesky(context, node) },
  reference: ([x]) => Float64Array.from(matricesOf(x!).flatMap((m) => choleskyRows(m).flat())),
  samples: () => [
    ...[
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [0, 0],
      [0, 2, 2],
      [19, 19],
    ].map((shape) => ({
      inputs: [definiteTensor(shape)],
      attrs: {},
      // Squares of up to 20 elements: the rounding of large numbers that are subtracted.
      ...(shape[0] === 19 ? { tolerance: 2e-4 } : {}),
    })),
    { inputs: [definiteTensor([4, 4], { dtype: 'float64' })], attrs: {} },
    {
      inputs: [tensorOf([2, 2], [4, 0, 2, -1])],
      attrs: {},
      skipGradient: 'not positive definite: NaN',
    },
  ],
});

/**
 * L [.., n, n], lower triangular, with L Lᵀ = A for the symmetric A that has the lower triangle of
 * `x`. NaN from the first row on that makes A not positive definite.
 */
export function cholesky(x: Node): Node {
  return makeNode(choleskyOp, [x], NO_ATTRS);
}
