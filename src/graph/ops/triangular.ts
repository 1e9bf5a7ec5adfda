// Solving with triangular matrices.
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, type KernelBody, type KernelContext, makeNode } from '../op.ts';
import { neg } from './arithmetic.ts';
import { matmul } from './matmul.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import {
  batchOf,
  checkAlike,
  flipped,
  lowerPart,
  matricesOf,
  matrixSizes,
  type Rows,
  shiftedTensor,
  squareSize,
  upperPart,
} from './matrix-parts.ts';
import { randomTensor } from './samples.ts';

const TRIANGLE = { upper: 'flag', unit: 'flag' } as const;
type Triangle = AttrsOf<typeof TRIANGLE>;

/** Right-hand sides that one grid item solves side by side. */
const COLUMNS = 64;

/** Arrays of `size * width` unknowns, solved in place. */
export interface Unknowns {
  readonly code: MatrixCode;
  readonly x: ReturnType<MatrixCode['array']>;
  readonly size: number;
  readonly width: number;
  /** Loops over the columns in use. */
  columns(body: (j: Expression, into: Statement[]) => void): Statement[];
  factor(i: Expression, j: Expression): Expression;
}

/** Substitution in place: from the top with what is below the diagonal, or from the bottom. */
export function substitute(unknowns: Unknowns, forward: boolean, unit: boolean): Statement[] {
  const { code, x, width, size, columns, factor } = unknowns;
  return code.range('step', [0, size, size], (step, into) => {
    const i = forward ? step : code.sub(code.index(size - 1), step);
    const after = code.builder.offset(i, 1);
    into.push(
      ...code.range('known', forward ? [0, i, size] : [after, size, size], (k, body) => {
        const negative = code.bind(body, 'negative', code.neg(factor(i, k)));
        body.push(
          ...columns((j, inner) => {
            const value = code.bind(inner, 'value', code.load(x, code.place(i, width, j)));
            const known = code.load(x, code.place(k, width, j));
            inner.push(
              code.store(x, code.place(i, width, j), code.multiplyAdd(negative, known, value)),
            );
          }),
        );
      }),
    );
    if (unit) return;
    const pivot = code.bind(into, 'pivot', factor(i, i));
    into.push(
      ...columns((j, inner) => {
        const value = code.bind(inner, 'value', code.load(x, code.place(i, width, j)));
        inner.push(code.store(x, code.place(i, width, j), code.div(value, pivot)));
      }),
    );
  });
}

/** A grid over batches and blocks of right-hand sides. */
export function overColumns(
  context: KernelContext,
  node: Node,
  write: (
    code: MatrixCode,
    place: {
      readonly batch: readonly Expression[];
      /** The first column of this block, and how many it may have at most. */
      readonly first: Expression;
      readonly width: number;
      columns(body: (j: Expression, into: Statement[]) => void): Statement[];
    },
  ) => readonly Statement[],
): KernelBody {
  const count = node.shape.at(-1)!;
  const width = Math.max(Math.min(count, COLUMNS), 1);
  const grid = [...batchOf(node.shape), Math.ceil(count / width)];
  return overMatrices(context, node.dtype, grid, (code, item) => {
    const first = code.builder.scale(item.at(-1)!, width);
    const left = code.builder.sub(code.index(count), first);
    const end = count % width === 0 ? width : code.builder.min(code.index(width), left);
    return write(code, {
      batch: item.slice(0, -1),
      first,
      width,
      columns: (body) => code.range('column', [0, end, width], body, { vector: true }),
    });
  });
}

/** How often each column block reads the matrix. */
export function columnBlocks(node: Node): number {
  return Math.ceil(node.shape.at(-1)! / COLUMNS);
}

function lowerTriangular(
  context: KernelContext,
  node: Node,
  { upper, unit }: Triangle,
): KernelBody {
  const size = node.shape.at(-2)!;
  return overColumns(context, node, (code, { batch, first, width, columns }) => {
    const x = code.array('solution', size * width);
    const factor = (i: Expression, j: Expression): Expression => context.read(0, [...batch, i, j]);
    return [
      ...code.range('row', [0, size, size], (i, into) => {
        into.push(
          ...columns((j, inner) => {
            const value = context.read(1, [...batch, i, code.add(first, j)]);
            inner.push(code.store(x, code.place(i, width, j), value));
          }),
        );
      }),
      ...substitute({ code, x, size, width, columns, factor }, !upper, unit),
      ...code.range('row', [0, size, size], (i, into) => {
        into.push(
          ...columns((j, inner) => {
            const value = code.bind(inner, 'value', code.load(x, code.place(i, width, j)));
            inner.push(...context.write([...batch, i, code.add(first, j)], value));
          }),
        );
      }),
    ];
  });
}

function solveTriangle(matrix: Rows, right: Rows, { upper, unit }: Triangle): Rows {
  const x = right.map((row) => row.slice());
  const size = x.length;
  for (let step = 0; step < size; step++) {
    const i = upper ? size - 1 - step : step;
    const [from, to] = upper ? [i + 1, size] : [0, i];
    for (let j = 0; j < x[i]!.length; j++) {
      let value = x[i]![j]!;
      for (let k = from; k < to; k++) value -= matrix[i]![k]! * x[k]![j]!;
      x[i]![j] = unit ? value : value / matrix[i]![i]!;
    }
  }
  return x;
}

const triangularSolveOp = defineOp({
  name: 'triangularSolve',
  summary: 'X with A X = B, of A only one triangle',
  attrs: TRIANGLE,
  infer: ([a, b]) => {
    const size = squareSize('solveTriangular', a!);
    const [rows] = matrixSizes('solveTriangular', b!);
    checkAlike('solveTriangular', a!, b!);
    if (rows === size) return { shape: b!.shape, dtype: b!.dtype };
    throw new ShapeError(
      `${formatShape(a!.shape)} does not fit the right-hand side ${formatShape(b!.shape)}`,
      { op: 'solveTriangular' },
    );
  },
  gradient: ({ node, grad, inputs, needs, attrs: { upper, unit } }) => {
    const forRight = triangularSolve(flipped(inputs[0]!), grad, { upper: !upper, unit });
    if (!needs(0)) return [null, forRight];
    const whole = neg(matmul(forRight, flipped(node)));
    return [upper ? upperPart(whole, unit) : lowerPart(whole, unit), forRight];
  },
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => [columnBlocks(node), 1],
    lower: (context, attrs, node) => lowerTriangular(context, node, attrs),
  },
  reference: ([a, b], attrs) => {
    const rights = matricesOf(b!);
    return Float64Array.from(
      matricesOf(a!).flatMap((matrix, k) => solveTriangle(matrix, rights[k]!, attrs).flat()),
    );
  },
  samples: () =>
    [false, true].flatMap((upper) =>
      [false, true].flatMap((unit) => {
        const sample = (shape: readonly number[], count: number, seed: number) => ({
          inputs: [
            shiftedTensor(shape, 4, { seed, low: -1, high: 1 }),
            randomTensor([...shape.slice(0, -1), count], { seed: seed + 1 }),
          ],
          attrs: { upper, unit },
        });
        return [
          sample([1, 1], 1, 1),
          sample([4, 4], 3, 2),
          sample([2, 3, 3], 2, 3),
          sample([3, 3], 70, 4),
          sample([0, 0], 2, 5),
          sample([2, 2, 2], 0, 6),
          {
            inputs: [
              shiftedTensor([3, 3], 4, { dtype: 'float64' }),
              randomTensor([3, 2], { dtype: 'float64', seed: 9 }),
            ],
            attrs: { upper, unit },
          },
        ];
      }),
    ),
});

/**
 * X with A X = B: A [.., n, n], of which only the upper or lower triangle is read (`unit`: without
 * the diagonal, which is taken as ones), B [.., n, k] with the same batch sizes.
 */
export function triangularSolve(a: Node, b: Node, triangle: Triangle): Node {
  return makeNode(triangularSolveOp, [a, b], triangle);
}
