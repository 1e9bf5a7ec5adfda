// Eigenvalues and eigenvectors of symmetric matrices, by Jacobi's rotations.
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode, NO_ATTRS } from '../op.ts';
import { add, mul, sub } from './arithmetic.ts';
import { expand, reshape } from './broadcast.ts';
import { byLowerTriangle, symmetricTensor } from './cholesky.ts';
import { matmul } from './matmul.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import {
  batchOf,
  diagonalPart,
  flipped,
  identityOf,
  matricesOf,
  reciprocalOrZero,
  type Rows,
  squareSize,
  unpack,
} from './matrix-parts.ts';
import { tensorOf } from './samples.ts';

/** More than any matrix is known to need: they converge quadratically, as a rule within ten. */
const SWEEPS = 40;

/**
 * Eigenvectors are determined but for their sign: the first component that has this share of the
 * largest magnitude is made positive. No share that simple vectors have.
 */
const NOTABLE = 0.6;

interface Working {
  readonly size: number;
  readonly a: ReturnType<MatrixCode['array']>;
  /** Eigenvectors as rows. */
  readonly v: ReturnType<MatrixCode['array']>;
}

function lowerEigen(context: KernelContext, node: Node): KernelBody {
  const size = node.inputs[0]!.shape.at(-1)!;
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const a = code.array('matrix', size * size);
    const v = code.array('vectors', size * size);
    const working = { size, a, v };
    const into: Statement[] = code.fill(a, [size, size], (i, j) => {
      const { builder } = code;
      return context.read(0, [...batch, builder.max(i, j), builder.min(i, j)]);
    });
    const largest = code.largest(into, a, size * size);
    const scale = code.scaleFor(largest);
    const down = code.bind(into, 'down', scale.down);
    const up = code.bind(into, 'up', scale.up);
    // Without effect on finite matrices; of others everything becomes NaN.
    const poison = code.bind(into, 'poison', code.sub(largest, largest));
    const enough = code.mul(code.mul(largest, down), code.number(code.epsilon / 16));
    const limit = code.bind(into, 'limit', enough);
    into.push(
      ...code.fill(a, [1, size * size], (_, at) => code.mul(code.load(a, at), down)),
      ...identityInto(code, v, size),
    );
    const moved = code.declare(into, 'moved', code.index(1));
    into.push(
      ...code.range('sweep', [0, SWEEPS, SWEEPS], (_sweep, sweep) => {
        const body: Statement[] = [code.set(moved, code.index(0))];
        body.push(
          ...code.range('p', [0, Math.max(size - 1, 0), size], (p, outer) => {
            outer.push(
              ...code.range('q', [code.builder.offset(p, 1), size, size], (q, inner) => {
                const off = code.bind(inner, 'off', code.load(a, code.place(p, size, q)));
                const turn: Statement[] = [code.set(moved, code.index(1))];
                rotate(code, working, { p, q, off }, turn);
                inner.push(code.when(code.compare('gt', code.abs(off), limit), turn));
              }),
            );
          }),
        );
        sweep.push(code.when(code.compare('ne', moved, 0), body));
      }),
    );
    const order = orderedPlaces(code, into, size, (i) => code.load(a, code.place(i, size, i)));
    const signs = signsOf(code, into, v, [size, size]);
    into.push(
      ...code.give(batch, 0, [1, size], (_, i, inner) => {
        const from = code.bind(inner, 'from', code.load(order, i));
        return code.add(code.mul(code.load(a, code.place(from, size, from)), up), poison);
      }),
      ...code.give(batch, size, [size, size], (i, j, inner) => {
        const from = code.bind(inner, 'from', code.load(order, j));
        const value = code.mul(
          code.load(v, code.builder.add(code.builder.mul(from, code.index(size)), i)),
          code.load(signs, from),
        );
        return code.add(value, poison);
      }),
    );
    return into;
  });
}

/** An identity matrix in an array. */
export function identityInto(
  code: MatrixCode,
  buffer: ReturnType<MatrixCode['array']>,
  size: number,
): Statement[] {
  return code.fill(buffer, [size, size], (i, j) =>
    code.select(code.builder.compare('eq', i, j), code.number(1), code.number(0)),
  );
}

/** Tangent of the angle that makes two numbers on the diagonal free of `off`: the smaller of both. */
export function tangent(
  code: MatrixCode,
  into: Statement[],
  [first, second, off]: readonly [Expression, Expression, Expression],
): Expression {
  const difference = code.div(code.sub(second, first), code.add(off, off));
  const theta = code.bind(into, 'theta', difference);
  const root = code.sqrt(code.multiplyAdd(theta, theta, code.number(1)));
  const magnitude = code.bind(into, 'magnitude', code.add(code.abs(theta), root));
  const inverse = code.div(code.number(1), magnitude);
  return code.bind(
    into,
    'tangent',
    code.select(code.compare('lt', theta, 0), code.neg(inverse), inverse),
  );
}

/** A rotation of rows p and q: the sine of its angle, and the tangent of half of it. */
export interface Rotation {
  readonly p: Expression;
  readonly q: Expression;
  readonly sine: Expression;
  readonly half: Expression;
}

/** The rotation by an angle whose tangent is given. */
export function rotationOf(
  code: MatrixCode,
  into: Statement[],
  [p, q, tan]: readonly [Expression, Expression, Expression],
): Rotation {
  const one = code.number(1);
  const cosine = code.div(one, code.sqrt(code.multiplyAdd(tan, tan, one)));
  const bound = code.bind(into, 'cosine', cosine);
  const sine = code.bind(into, 'sine', code.mul(bound, tan));
  return { p, q, sine, half: code.bind(into, 'half', code.div(sine, code.add(bound, one))) };
}

/** Turns rows p and q of an array in their plane. */
export function turnRows(
  code: MatrixCode,
  rows: ReturnType<MatrixCode['array']>,
  length: number,
  { p, q, sine, half }: Rotation,
): Statement[] {
  const negative = code.neg(sine);
  return code.range(
    'along',
    [0, length, length],
    (i, body) => {
      const x = code.bind(body, 'x', code.load(rows, code.place(p, length, i)));
      const y = code.bind(body, 'y', code.load(rows, code.place(q, length, i)));
      // As small changes of both (Rutishauser, 1966): small angles hardly round anything.
      const less = code.multiplyAdd(negative, code.multiplyAdd(half, x, y), x);
      const more = code.multiplyAdd(sine, code.multiplyAdd(code.neg(half), y, x), y);
      body.push(
        code.store(rows, code.place(p, length, i), less),
        code.store(rows, code.place(q, length, i), more),
      );
    },
    { vector: true },
  );
}

/** Makes element (p, q) zero by a rotation from both sides. */
function rotate(
  code: MatrixCode,
  { size, a, v }: Working,
  { p, q, off }: { p: Expression; q: Expression; off: Expression },
  into: Statement[],
): void {
  const at = (i: Expression, j: Expression): Expression => code.place(i, size, j);
  const first = code.bind(into, 'first', code.load(a, at(p, p)));
  const second = code.bind(into, 'second', code.load(a, at(q, q)));
  const tan = tangent(code, into, [first, second, off]);
  const plane = rotationOf(code, into, [p, q, tan]);
  into.push(...turnRows(code, a, size, plane));
  // Beside the plane the matrix stays symmetric: its columns are its rows.
  into.push(
    ...code.range('other', [0, size, size], (i, body) => {
      const left = code.bind(body, 'left', code.load(a, at(p, i)));
      const right = code.bind(body, 'right', code.load(a, at(q, i)));
      body.push(code.store(a, at(i, p), left), code.store(a, at(i, q), right));
    }),
    code.store(a, at(p, p), code.sub(first, code.mul(tan, off))),
    code.store(a, at(q, q), code.add(second, code.mul(tan, off))),
    code.store(a, at(p, q), code.number(0)),
    code.store(a, at(q, p), code.number(0)),
    ...turnRows(code, v, size, plane),
  );
}

/** Places of `count` numbers in ascending order (or descending), in an array; equal ones keep theirs. */
export function orderedPlaces(
  code: MatrixCode,
  into: Statement[],
  count: number,
  value: (i: Expression) => Expression,
  descending = false,
): ReturnType<MatrixCode['array']> {
  const order = code.array('order', count, 'int32');
  into.push(
    // By insertion: each goes down past those that come after it.
    ...code.range('place', [0, count, count], (i, body) => {
      const own = code.bind(body, 'own', value(i));
      const at = code.declare(body, 'at', i);
      body.push(
        ...code.range('step', [0, i, count], (step, inner) => {
          const place = code.bind(inner, 'before', code.sub(code.builder.offset(i, -1), step));
          const there = code.bind(inner, 'there', code.load(order, place));
          const later = code.compare(descending ? 'lt' : 'gt', value(there), own);
          inner.push(
            code.when(later, [
              code.store(order, code.builder.offset(place, 1), there),
              code.set(at, place),
            ]),
          );
        }),
        code.store(order, at, i),
      );
    }),
  );
  return order;
}

/** For each row of an array the sign that makes its first notable component positive. */
export function signsOf(
  code: MatrixCode,
  into: Statement[],
  rows: ReturnType<MatrixCode['array']>,
  [count, length]: readonly [number, number],
): ReturnType<MatrixCode['array']> {
  const signs = code.array('signs', count);
  into.push(
    ...code.range('row', [0, count, count], (row, body) => {
      const largest = code.declare(body, 'longest', code.number(0));
      body.push(
        ...code.range('column', [0, length, length], (i, inner) => {
          const size = code.abs(code.load(rows, code.place(row, length, i)));
          inner.push(code.set(largest, code.builder.max(largest, size)));
        }),
      );
      const enough = code.bind(body, 'enough', code.mul(largest, code.number(NOTABLE)));
      const sign = code.declare(body, 'sign', code.number(0));
      body.push(
        ...code.range('column', [0, length, length], (i, inner) => {
          const value = code.bind(inner, 'value', code.load(rows, code.place(row, length, i)));
          const own = code.select(code.compare('lt', value, 0), code.number(-1), code.number(1));
          const notable = code.compare('ge', code.abs(value), enough);
          const found = code.builder.and(code.compare('eq', sign, 0), notable);
          inner.push(code.set(sign, code.select(found, own, sign)));
        }),
        code.store(signs, row, sign),
      );
    }),
  );
  return signs;
}

// ---- the op -----------------------------------------------------------------------------------

/** The sign by which a vector is multiplied, in plain numbers. */
export function signOf(vector: readonly number[]): number {
  const enough = NOTABLE * Math.max(0, ...vector.map(Math.abs));
  return (vector.find((value) => Math.abs(value) >= enough) ?? 0) < 0 ? -1 : 1;
}

/** Eigenvalues, and eigenvectors as rows, in ascending order. */
export function eigenRows(matrix: Rows): { values: number[]; vectors: Rows } {
  const size = matrix.length;
  const a = matrix.map((row, i) => row.map((_, j) => matrix[Math.max(i, j)]![Math.min(i, j)]!));
  const v = identityOf(size);
  const turn = (rows: Rows, p: number, q: number, c: number, s: number): void => {
    const [x, y] = [rows[p]!, rows[q]!];
    rows[p] = x.map((value, i) => c * value - s * y[i]!);
    rows[q] = x.map((value, i) => s * value + c * y[i]!);
  };
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        const angle = 0.5 * Math.atan2(2 * a[p]![q]!, a[q]![q]! - a[p]![p]!);
        // Of the two angles a quarter turn apart, the small one.
        const small = angle - (Math.PI / 2) * Math.round(angle / (Math.PI / 2));
        const [c, s] = [Math.cos(small), Math.sin(small)];
        turn(a, p, q, c, s);
        for (const row of a) {
          const [x, y] = [row[p]!, row[q]!];
          row[p] = c * x - s * y;
          row[q] = s * x + c * y;
        }
        turn(v, p, q, c, s);
      }
    }
  }
  const order = a.map((_, i) => i).sort((i, j) => a[i]![i]! - a[j]![j]!);
  return {
    values: order.map((i) => a[i]![i]!),
    vectors: order.map((i) => v[i]!.map((value) => value * signOf(v[i]!))),
  };
}

const symmetricEigenOp = defineOp({
  name: 'symmetricEigen',
  summary:
    'eigenvalues, ascending, then eigenvectors as columns; of A only the lower triangle is read',
  attrs: {},
  infer: ([x]) => {
    const size = squareSize('eigh', x!);
    return { shape: [...batchOf(x!.shape), size + size * size], dtype: x!.dtype };
  },
  // Giles, An extended collection of matrix derivative results (2008), 3.1.
  gradient: ({ node, grad, inputs }) => {
    const size = inputs[0]!.shape.at(-1)!;
    const shapes = [[size], [size, size]];
    const [values, vectors] = unpack(node, shapes) as [Node, Node];
    const [gradValues, gradVectors] = unpack(grad, shapes) as [Node, Node];
    const middle = add(
      mul(matmul(flipped(vectors), gradVectors), inverseGaps(values)),
      diagonalPart(spreadRows(gradValues)),
    );
    const whole = matmul(matmul(vectors, middle), flipped(vectors));
    return [byLowerTriangle(whole)];
  },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerEigen(context, node) },
  reference: ([x]) =>
    Float64Array.from(
      matricesOf(x!).flatMap((matrix) => {
        const { values, vectors } = eigenRows(matrix);
        return [...values, ...matrix.flatMap((_, i) => vectors.map((vector) => vector[i]!))];
      }),
    ),
  samples: () => [
    ...[
      [1, 1],
      [2, 2],
      [3, 3],
      [2, 4, 4],
      [0, 0],
      [0, 2, 2],
    ].map((shape) => ({
      inputs: [symmetricTensor(shape, 0, { seed: 4 })],
      attrs: {},
      // Eigenvectors are as exact as their eigenvalues are apart.
      tolerance: 1e-4,
    })),
    {
      inputs: [symmetricTensor([5, 5], 0, { dtype: 'float64', seed: 2 })],
      attrs: {},
      tolerance: 1e-10,
    },
    {
      inputs: [tensorOf([2, 2], [3e25, 0, 1e25, 3e25])],
      attrs: {},
      skipGradient: 'out of scale for differences',
    },
    {
      inputs: [tensorOf([3, 3], [2, 0, 0, 0, 2, 0, 0, 0, 2])],
      attrs: {},
      skipGradient: 'equal eigenvalues',
    },
  ],
});

/** 1 / (v[j] - v[i]) at (i, j), and 0 where they are equal. */
function inverseGaps(values: Node): Node {
  const size = values.shape.at(-1)!;
  const row = spreadRows(values);
  const column = expand(reshape(values, [...values.shape, 1]), [...values.shape, size]);
  return reciprocalOrZero(sub(row, column));
}

/** A vector as every row of a square matrix. */
function spreadRows(vector: Node): Node {
  const size = vector.shape.at(-1)!;
  const batch = vector.shape.slice(0, -1);
  return expand(reshape(vector, [...batch, 1, size]), [...batch, size, size]);
}

/**
 * Eigenvalues [.., n], ascending, and eigenvectors [.., n, n] as columns, of the symmetric matrices
 * with the lower triangle of `x`. The first component of a vector that has at least 0.6 of its largest
 * magnitude is positive. NaN if an element is not finite. Between equal eigenvalues, where vectors
 * have no derivative, nothing flows back.
 */
export function symmetricEigen(x: Node): readonly [Node, Node] {
  const size = squareSize('eigh', x);
  const packed = makeNode(symmetricEigenOp, [x], NO_ATTRS);
  return unpack(packed, [[size], [size, size]]) as [Node, Node];
}
