// LU decomposition with row exchanges, and what follows from it: solutions, inverses, determinants.
import type { DType } from '../../base/dtype.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode, NO_ATTRS } from '../op.ts';
import { add, mul, neg, sub } from './arithmetic.ts';
import { expand, reshape } from './broadcast.ts';
import { cast } from './cast.ts';
import { equal, select } from './compare.ts';
import { constant } from './creation.ts';
import { gather } from './indexing.ts';
import { matmul } from './matmul.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import {
  batchOf,
  checkAlike,
  diagonalOf,
  diagonalPart,
  flipped,
  identity,
  lowerPart,
  matricesOf,
  matrixSizes,
  type Rows,
  shiftedTensor,
  squareSize,
  unpack,
  upperPart,
} from './matrix-parts.ts';
import { prod } from './reduce.ts';
import type { ReferenceTensor } from '../op.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { concat, narrowAxis } from './slicing.ts';
import { argsort } from './sorting.ts';
import { columnBlocks, overColumns, substitute, triangularSolve } from './triangular.ts';
import { sign } from './unary.ts';

// ---- the decomposition ------------------------------------------------------------------------

/** Rows of the matrix `order` gives: what is known of a decomposition. */
interface Factors {
  /** L below the diagonal (whose ones are left out), U on it and above. */
  readonly lu: Rows;
  /** Row i of `lu` belongs to row `order[i]` of the matrix. */
  readonly order: number[];
}

function factorRows(matrix: Rows): Factors {
  const lu = matrix.map((row) => row.slice());
  const order = lu.map((_, i) => i);
  const columns = lu[0]?.length ?? 0;
  for (let c = 0; c < Math.min(lu.length, columns); c++) {
    let best = c;
    for (let r = c + 1; r < lu.length; r++) {
      if (Math.abs(lu[r]![c]!) > Math.abs(lu[best]![c]!)) best = r;
    }
    [lu[c], lu[best]] = [lu[best]!, lu[c]!];
    [order[c], order[best]] = [order[best]!, order[c]!];
    const pivot = lu[c]![c]!;
    if (pivot === 0) continue;
    for (let r = c + 1; r < lu.length; r++) {
      const factor = (lu[r]![c]! /= pivot);
      for (let j = c + 1; j < columns; j++) lu[r]![j]! -= factor * lu[c]![j]!;
    }
  }
  return { lu, order };
}

function packRows({ lu, order }: Factors): number[] {
  return [...lu.flat(), ...order];
}

/** The packed decomposition of a sample, as an input of the ops that use one. */
function factorsFor(x: ReferenceTensor): ReferenceTensor {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const values = matricesOf(x).flatMap((matrix) => packRows(factorRows(matrix)));
  return tensorOf([...batchOf(x.shape), rows * columns + rows], values, x.dtype);
}

function lowerFactor(context: KernelContext, node: Node): KernelBody {
  const [rows, columns] = node.inputs[0]!.shape.slice(-2) as [number, number];
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const a = code.array('matrix', rows * columns);
    const order = code.array('order', rows, 'int32');
    const steps = Math.min(rows, columns);
    return [
      ...code.fill(a, [rows, columns], (i, j) => context.read(0, [...batch, i, j])),
      ...code.range('row', [0, rows, rows], (i, into) => into.push(code.store(order, i, i))),
      ...code.range('step', [0, steps, steps], (step, into) =>
        eliminate(code, { a, order, rows, columns }, step, into),
      ),
      ...code.give(batch, 0, [rows, columns], (i, j) => code.load(a, code.place(i, columns, j))),
      ...code.give(batch, rows * columns, [1, rows], (_, i) =>
        code.builder.convert(code.load(order, i), code.type),
      ),
    ];
  });
}

interface Working {
  readonly a: ReturnType<MatrixCode['array']>;
  readonly order: ReturnType<MatrixCode['array']>;
  readonly rows: number;
  readonly columns: number;
}

/** Finds the pivot of a column, brings it up, and takes its row off those below. */
function eliminate(
  code: MatrixCode,
  { a, order, rows, columns }: Working,
  step: Expression,
  into: Statement[],
): void {
  const at = (i: Expression, j: Expression): Expression => code.place(i, columns, j);
  const next = code.builder.offset(step, 1);
  const best = code.declare(into, 'best', code.abs(code.load(a, at(step, step))));
  const chosen = code.declare(into, 'chosen', step);
  into.push(
    ...code.range('row', [next, rows, rows], (i, body) => {
      const size = code.bind(body, 'size', code.abs(code.load(a, at(i, step))));
      body.push(
        code.when(code.compare('gt', size, best), [code.set(best, size), code.set(chosen, i)]),
      );
    }),
  );
  const swap: Statement[] = code.range(
    'column',
    [0, columns, columns],
    (j, body) => {
      const upper = code.bind(body, 'upper', code.load(a, at(step, j)));
      const lower = code.bind(body, 'lower', code.load(a, at(chosen, j)));
      body.push(code.store(a, at(step, j), lower), code.store(a, at(chosen, j), upper));
    },
    { vector: true },
  );
  const upper = code.bind(swap, 'upper', code.load(order, step));
  const lower = code.bind(swap, 'lower', code.load(order, chosen));
  swap.push(code.store(order, step, lower), code.store(order, chosen, upper));
  into.push(code.when(code.compare('ne', chosen, step), swap));
  const pivot = code.bind(into, 'pivot', code.load(a, at(step, step)));
  const below = code.range('row', [next, rows, rows], (i, body) => {
    const factor = code.bind(body, 'factor', code.div(code.load(a, at(i, step)), pivot));
    body.push(code.store(a, at(i, step), factor));
    const negative = code.bind(body, 'negative', code.neg(factor));
    body.push(
      ...code.range(
        'column',
        [next, columns, columns],
        (j, inner) => {
          const value = code.bind(inner, 'value', code.load(a, at(i, j)));
          const left = code.multiplyAdd(negative, code.load(a, at(step, j)), value);
          inner.push(code.store(a, at(i, j), left));
        },
        { vector: true },
      ),
    );
  });
  // Under a zero pivot everything is zero already.
  into.push(code.when(code.compare('ne', pivot, 0), below));
}

const luFactorOp = defineOp({
  name: 'luFactor',
  summary: 'P L U = A by partial pivoting: L and U in one matrix, then the order of the rows',
  attrs: {},
  infer: ([x]) => {
    const [rows, columns] = matrixSizes('lu', x!);
    return { shape: [...batchOf(x!.shape), rows * columns + rows], dtype: x!.dtype };
  },
  gradient: ({ node, grad, inputs }) => {
    const sizes = matrixSizes('lu', inputs[0]!);
    return [factorGradient(node, grad, sizes)];
  },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerFactor(context, node) },
  reference: ([x]) =>
    Float64Array.from(matricesOf(x!).flatMap((matrix) => packRows(factorRows(matrix)))),
  samples: () => [
    ...[
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [3, 5],
      [2, 5, 3],
      [0, 0],
      [0, 2, 2],
      [17, 17],
    ].map((shape) => ({
      inputs: [shiftedTensor(shape, 4)],
      attrs: {},
    })),
    { inputs: [randomTensor([4, 4], { dtype: 'float64', seed: 3 })], attrs: {} },
    { inputs: [tensorOf([3, 3], [0, 2, 3, 1, 4, -2, 5, 6, 1])], attrs: {} },
    {
      inputs: [tensorOf([3, 3], [1, 2, 3, 2, 4, 7, 0, 0, Infinity])],
      attrs: {},
      skipGradient: 'singular',
    },
  ],
});

/**
 * The gradient of PyTorch's lu, for L [m, k] and U [k, n]: parts of L below k and of U beyond k are
 * L⁻¹ and U⁻¹ times parts of A.
 */
function factorGradient(node: Node, grad: Node, [rows, columns]: readonly [number, number]): Node {
  const count = Math.min(rows, columns);
  const [lu, order] = unpack(node, [[rows, columns], [rows]]) as [Node, Node];
  const [gradLU] = unpack(grad, [[rows, columns]]) as [Node];
  const rank = lu.shape.length;
  const rowsOf = (x: Node, start: number, size: number): Node =>
    narrowAxis(x, rank - 2, start, size);
  const columnsOf = (x: Node, start: number, size: number): Node =>
    narrowAxis(x, rank - 1, start, size);
  const square = (x: Node): Node => columnsOf(rowsOf(x, 0, count), 0, count);
  const core = square(lu);
  const lower = add(lowerPart(core, true), identity(batchOf(lu.shape), count, lu.dtype));
  const upper = upperPart(core);
  let forLower = matmul(flipped(lower), lowerPart(square(gradLU), true));
  let forUpper = matmul(upperPart(square(gradLU)), flipped(upper));
  const right = columns - count;
  const below = rows - count;
  if (right > 0) {
    const share = matmul(columnsOf(gradLU, count, right), flipped(columnsOf(lu, count, right)));
    forLower = sub(forLower, share);
  }
  if (below > 0) {
    const share = matmul(flipped(rowsOf(lu, count, below)), rowsOf(gradLU, count, below));
    forUpper = sub(forUpper, share);
  }
  const middle = add(lowerPart(forLower, true), upperPart(forUpper));
  const overUpper = (x: Node): Node =>
    flipped(triangularSolve(upper, flipped(x), { upper: true, unit: false }));
  const underLower = (x: Node): Node =>
    triangularSolve(flipped(lower), x, { upper: true, unit: true });
  // L⁻ᵀ M U⁻ᵀ, as (U⁻¹ Mᵀ)ᵀ on the right.
  let inOrder = underLower(overUpper(middle));
  if (right > 0) {
    inOrder = concat([inOrder, underLower(columnsOf(gradLU, count, right))], rank - 1);
  }
  if (below > 0) inOrder = concat([inOrder, overUpper(rowsOf(gradLU, count, below))], rank - 2);
  return takeRows(inOrder, argsort(order, -1));
}

/** Row i of the result is row `order[i]` of `x`. */
export function takeRows(x: Node, order: Node): Node {
  const index = cast(order, 'int32');
  const column = reshape(index, [...index.shape, 1]);
  return gather(x, expand(column, x.shape), x.shape.length - 2);
}

/**
 * The decomposition P L U of matrices [.., m, n] as one vector each: m * n numbers with L below the
 * diagonal and U above, then m numbers: row i of L U is row order[i] of the matrix. A zero on U's
 * diagonal tells that the matrix is singular.
 */
export function luFactor(x: Node): Node {
  return makeNode(luFactorOp, [x], NO_ATTRS);
}

/** The parts of a decomposition: L and U in one matrix, and the order of rows as numbers. */
export function luParts(packed: Node, rows: number, columns: number): readonly [Node, Node] {
  return unpack(packed, [[rows, columns], [rows]]) as [Node, Node];
}

// ---- solving ----------------------------------------------------------------------------------

/** Gauss-Jordan elimination. */
function solveRows(matrix: Rows, right: Rows): Rows {
  const { lu, order } = factorRows(matrix);
  const x = order.map((from) => right[from]!.slice());
  const size = lu.length;
  const subtract = (i: number, k: number): void => {
    for (let j = 0; j < x[i]!.length; j++) x[i]![j]! -= lu[i]![k]! * x[k]![j]!;
  };
  for (let i = 0; i < size; i++) for (let k = 0; k < i; k++) subtract(i, k);
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) subtract(i, k);
    for (let j = 0; j < x[i]!.length; j++) x[i]![j]! /= lu[i]![i]!;
  }
  return x;
}

function lowerSolve(context: KernelContext, node: Node, transposed: boolean): KernelBody {
  const size = node.shape.at(-2)!;
  return overColumns(context, node, (code, { batch, first, width, columns }) => {
    const x = code.array('solution', size * width);
    const packed = (at: Expression): Expression => context.read(2, [...batch, at]);
    const order = (i: Expression): Expression =>
      code.builder.convert(packed(code.builder.offset(i, size * size)), 'i32');
    const factor = (i: Expression, j: Expression): Expression =>
      packed(transposed ? code.place(j, size, i) : code.place(i, size, j));
    const unknowns = { code, x, width, columns, factor, size };
    return [
      ...code.range('row', [0, size, size], (i, into) => {
        const from = transposed ? i : code.bind(into, 'from', order(i));
        into.push(
          ...columns((j, inner) => {
            const value = context.read(1, [...batch, from, code.add(first, j)]);
            inner.push(code.store(x, code.place(i, width, j), value));
          }),
        );
      }),
      // Ones stand on the diagonal of L, which is the upper factor of the transpose.
      ...substitute(unknowns, true, !transposed),
      ...substitute(unknowns, false, transposed),
      ...code.range('row', [0, size, size], (i, into) => {
        const to = transposed ? code.bind(into, 'to', order(i)) : i;
        into.push(
          ...columns((j, inner) => {
            const value = code.bind(inner, 'value', code.load(x, code.place(i, width, j)));
            inner.push(...context.write([...batch, to, code.add(first, j)], value));
          }),
        );
      }),
    ];
  });
}

function checkFactors(op: string, matrix: Node, packed: Node, size: number): void {
  const expected = [...batchOf(matrix.shape), size * size + size];
  if (formatShape(expected) === formatShape(packed.shape) && packed.dtype === matrix.dtype) return;
  throw new ShapeError(`${formatShape(packed.shape)} is no decomposition of its matrix`, { op });
}

const luSolveOp = defineOp({
  name: 'luSolve',
  summary: 'X with A X = B (or Aᵀ X = B), from A, B and the decomposition of A',
  attrs: { transposed: 'flag' },
  infer: ([a, b, packed]) => {
    const size = squareSize('solve', a!);
    const [rows] = matrixSizes('solve', b!);
    checkAlike('solve', a!, b!);
    checkFactors('solve', a!, packed!, size);
    if (rows !== size) {
      throw new ShapeError(
        `${formatShape(a!.shape)} does not fit the right-hand side ${formatShape(b!.shape)}`,
        { op: 'solve' },
      );
    }
    return { shape: b!.shape, dtype: b!.dtype };
  },
  gradient: ({ node, grad, inputs, needs, attrs: { transposed } }) => {
    const [a, , packed] = inputs as readonly [Node, Node, Node];
    const forRight = luSolve(a, grad, packed, !transposed);
    if (!needs(0)) return [null, forRight, null];
    const [left, right] = transposed ? [node, forRight] : [forRight, node];
    // The decomposition is part of the function of A: it has no share of its own.
    return [neg(matmul(left, flipped(right))), forRight, null];
  },
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => [0, 1, columnBlocks(node)],
    lower: (context, { transposed }, node) => lowerSolve(context, node, transposed),
  },
  reference: ([a, b], { transposed }) => {
    const rights = matricesOf(b!);
    return Float64Array.from(
      matricesOf(a!).flatMap((matrix, k) => {
        const rows = transposed ? matrix.map((_, j) => matrix.map((row) => row[j]!)) : matrix;
        return solveRows(rows, rights[k]!).flat();
      }),
    );
  },
  samples: () => {
    const sample = (shape: readonly number[], count: number, transposed: boolean, dtype: DType) => {
      const a = shiftedTensor(shape, 4, { dtype });
      const b = randomTensor([...shape.slice(0, -1), count], { dtype, seed: 2 });
      return { inputs: [a, b, factorsFor(a)], attrs: { transposed } };
    };
    return [false, true].flatMap((transposed) => [
      sample([1, 1], 1, transposed, 'float32'),
      sample([3, 3], 2, transposed, 'float64'),
      sample([2, 4, 4], 3, transposed, 'float32'),
      sample([5, 5], 70, transposed, 'float32'),
      sample([0, 0], 2, transposed, 'float32'),
      sample([2, 2, 2], 0, transposed, 'float32'),
    ]);
  },
});

/**
 * X with A X = B, or Aᵀ X = B: A [.., n, n], B [.., n, k] and `packed`, what luFactor gives for A.
 * The gradient by A is A's whole, and none goes to `packed`.
 */
export function luSolve(a: Node, b: Node, packed: Node, transposed = false): Node {
  return makeNode(luSolveOp, [a, b, packed], { transposed });
}

// ---- determinants -----------------------------------------------------------------------------

function determinantOf(matrix: Rows): readonly [number, number, number] {
  const { lu, order } = factorRows(matrix);
  let sign = parity(order);
  let [product, logarithm] = [sign, 0];
  lu.forEach((row, i) => {
    product *= row[i]!;
    sign *= Math.sign(row[i]!);
    logarithm += Math.log(Math.abs(row[i]!));
  });
  return [product, sign, logarithm];
}

/** -1 if an odd number of exchanges makes this order. */
function parity(order: readonly number[]): number {
  let sign = 1;
  order.forEach((value, i) => {
    for (const later of order.slice(i + 1)) if (later < value) sign = -sign;
  });
  return sign;
}

function lowerDeterminant(context: KernelContext, node: Node): KernelBody {
  const size = node.inputs[0]!.shape.at(-1)!;
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const into: Statement[] = [];
    const read = (at: Expression): Expression => context.read(1, [...batch, at]);
    const odd = code.declare(into, 'odd', code.index(0));
    const sign = code.declare(into, 'sign', code.number(1));
    const product = code.declare(into, 'product', code.number(1));
    const logarithm = code.declare(into, 'logarithm', code.number(0));
    into.push(
      ...code.range('row', [0, size, size], (i, body) => {
        const place = (at: Expression): Expression => read(code.builder.offset(at, size * size));
        const own = code.bind(body, 'own', place(i));
        body.push(
          ...code.range('later', [code.builder.offset(i, 1), size, size], (later, inner) => {
            const crosses = code.compare('lt', place(later), own);
            const flip = code.builder.convert(crosses, 'i32');
            inner.push(code.set(odd, code.builder.binary('xor', odd, flip)));
          }),
        );
        const pivot = code.bind(body, 'pivot', read(code.place(i, size, i)));
        const negative = code.select(code.compare('lt', pivot, 0), code.number(-1), pivot);
        const one = code.select(code.compare('gt', pivot, 0), code.number(1), negative);
        body.push(
          code.set(product, code.mul(product, pivot)),
          code.set(sign, code.mul(sign, one)),
          code.set(logarithm, code.add(logarithm, code.builder.unary('log', code.abs(pivot)))),
        );
      }),
    );
    const turned = code.select(code.compare('ne', odd, 0), code.number(-1), code.number(1));
    const results = [code.mul(product, turned), code.mul(sign, turned), logarithm];
    results.forEach((value, i) => into.push(...context.write([...batch, code.index(i)], value)));
    return into;
  });
}

const luDeterminantOp = defineOp({
  name: 'luDeterminant',
  summary: 'determinant, its sign and the logarithm of its magnitude, from A and its decomposition',
  attrs: {},
  infer: ([a, packed]) => {
    const size = squareSize('det', a!);
    checkFactors('det', a!, packed!, size);
    return { shape: [...batchOf(a!.shape), 3], dtype: a!.dtype };
  },
  gradient: ({ node, grad, inputs }) => {
    const [a, packed] = inputs as readonly [Node, Node];
    return [determinantGradient(node, grad, a, packed), null];
  },
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => [0, node.inputs[0]!.shape.at(-1)! / 2],
    lower: (context, _attrs, node) => lowerDeterminant(context, node),
  },
  reference: ([a]) => Float64Array.from(matricesOf(a!).flatMap(determinantOf)),
  samples: () =>
    [
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [0, 0],
      [0, 2, 2],
    ].flatMap((shape) =>
      (['float32', 'float64'] as const).map((dtype) => {
        const a = shiftedTensor(shape, 1.5, { dtype, seed: 5 });
        return { inputs: [a, factorsFor(a)], attrs: {} };
      }),
    ),
});

/**
 * d det = det A⁻ᵀ, d log|det| = A⁻ᵀ. Of a singular matrix the first is its matrix of cofactors: it
 * comes of zeros on U's diagonal replaced by a tiny number, as in PyTorch.
 */
function determinantGradient(node: Node, grad: Node, a: Node, packed: Node): Node {
  const size = a.shape.at(-1)!;
  const batch = batchOf(a.shape);
  const { dtype } = a;
  const [lu, order] = luParts(packed, size, size);
  const zero = constant(0, dtype);
  const diagonal = diagonalOf(lu);
  const isZero = equal(diagonal, zero);
  const tiny = constant(dtype === 'float64' ? 2 ** -52 : 2 ** -23, dtype);
  const filled = add(lu, diagonalPart(expandDiagonal(select(isZero, tiny, zero), lu)));
  const usable = concat(
    [reshape(filled, [...batch, size * size]), reshape(order, [...batch, size])],
    batch.length,
  );
  const inverse = luSolve(a, identity(batch, size, dtype), usable, true);
  const part = (x: Node, at: number): Node =>
    reshape(narrowAxis(x, batch.length, at, 1), [...batch, 1, 1]);
  // With the tiny numbers in place of zeros; the sign of the order of rows is det's own business.
  const turned = reshape(orderSign(order), [...batch, 1, 1]);
  const almost = mul(turned, reshape(prod(diagonalOf(filled), -1), [...batch, 1, 1]));
  const determinant = part(node, 0);
  const factor = select(equal(determinant, zero), almost, determinant);
  return mul(add(mul(part(grad, 0), factor), part(grad, 2)), inverse);
}

function expandDiagonal(vector: Node, like: Node): Node {
  return expand(reshape(vector, [...vector.shape, 1]), like.shape);
}

/** 1 or -1 by the exchanges that make an order: the signs of all differences, multiplied. */
function orderSign(order: Node): Node {
  const size = order.shape.at(-1)!;
  const batch = order.shape.slice(0, -1);
  const square = [...batch, size, size];
  const row = expand(reshape(order, [...batch, size, 1]), square);
  const column = expand(reshape(order, [...batch, 1, size]), square);
  const one = constant(1, order.dtype);
  const difference = upperPart(sub(column, row), true);
  const signs = select(equal(difference, constant(0, order.dtype)), one, sign(difference));
  return prod(signs, [square.length - 2, square.length - 1]);
}

/** [det, sign, log|det|] of matrices [.., n, n], from them and what luFactor gives for them. */
export function luDeterminant(a: Node, packed: Node): Node {
  return makeNode(luDeterminantOp, [a, packed], NO_ATTRS);
}

/** Inverses of matrices [.., n, n] from them and what luFactor gives for them. */
export function luInverse(a: Node, packed: Node): Node {
  return luSolve(a, identity(batchOf(a.shape), a.shape.at(-1)!, a.dtype), packed);
}
