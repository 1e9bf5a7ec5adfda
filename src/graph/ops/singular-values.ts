// Singular value decomposition, by rotations from one side (Hestenes): the columns of A are turned
// until they are orthogonal; their lengths are the singular values.
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode, NO_ATTRS } from '../op.ts';
import { add, mul, sub } from './arithmetic.ts';
import { expand, reshape } from './broadcast.ts';
import { matmul } from './matmul.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import {
  batchOf,
  diagonalPart,
  flipped,
  identityOf,
  matricesOf,
  matrixSizes,
  reciprocalOrZero,
  type Rows,
  scaleAxis,
  shiftedTensor,
  transposeOf,
  unpack,
} from './matrix-parts.ts';
import { randomTensor, tensorOf } from './samples.ts';
import {
  identityInto,
  orderedPlaces,
  rotationOf,
  signOf,
  signsOf,
  tangent,
  turnRows,
} from './symmetric-eigen.ts';

/** More than any matrix is known to need. */
const SWEEPS = 40;
/** A column of this share of the longest counts as zero, and has no direction of its own. */
const NOTHING = 2 ** -60;

interface Working {
  readonly rows: number;
  readonly columns: number;
  /** The columns of A, then of U, as rows. */
  readonly w: ReturnType<MatrixCode['array']>;
  /** The columns of V as rows. */
  readonly v: ReturnType<MatrixCode['array']>;
  /** Lengths of the columns. */
  readonly s: ReturnType<MatrixCode['array']>;
}

function lowerSVD(context: KernelContext, node: Node): KernelBody {
  const [rows, columns] = node.inputs[0]!.shape.slice(-2) as [number, number];
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const w = code.array('columns', rows * columns);
    const v = code.array('vectors', columns * columns);
    const s = code.array('lengths', columns);
    const working = { rows, columns, w, v, s };
    const into: Statement[] = code.fill(w, [columns, rows], (j, i) =>
      context.read(0, [...batch, i, j]),
    );
    const largest = code.largest(into, w, rows * columns);
    const scale = code.scaleFor(largest);
    const down = code.bind(into, 'down', scale.down);
    const up = code.bind(into, 'up', scale.up);
    // Without effect on finite matrices; of others everything becomes NaN.
    const poison = code.bind(into, 'poison', code.sub(largest, largest));
    into.push(
      ...code.fill(w, [1, rows * columns], (_, at) => code.mul(code.load(w, at), down)),
      ...identityInto(code, v, columns),
    );
    orthogonalize(code, working, into);
    into.push(
      ...code.range('column', [0, columns, columns], (j, body) => {
        const [square] = squares(code, body, working, j);
        body.push(code.store(s, j, code.sqrt(square)));
      }),
    );
    const order = orderedPlaces(code, into, columns, (j) => code.load(s, j), true);
    if (columns > 0) directions(code, working, order, into);
    const signs = signsOf(code, into, w, [columns, rows]);
    const signed = (
      buffer: Working['w'],
      length: number,
      [i, j]: readonly [Expression, Expression],
      inner: Statement[],
    ): Expression => {
      const from = code.bind(inner, 'from', code.load(order, j));
      const at = code.builder.add(code.builder.mul(from, code.index(length)), i);
      return code.add(code.mul(code.load(buffer, at), code.load(signs, from)), poison);
    };
    into.push(
      ...code.give(batch, 0, [rows, columns], (i, j, inner) => signed(w, rows, [i, j], inner)),
      ...code.give(batch, rows * columns, [1, columns], (_, j, inner) => {
        const from = code.bind(inner, 'from', code.load(order, j));
        return code.add(code.mul(code.load(s, from), up), poison);
      }),
      ...code.give(batch, (rows + 1) * columns, [columns, columns], (i, j, inner) =>
        signed(v, columns, [i, j], inner),
      ),
    );
    return into;
  });
}

/** The squared length of one column. */
function squares(
  code: MatrixCode,
  into: Statement[],
  { w, rows }: Working,
  j: Expression,
): readonly [Expression] {
  const [square] = code.sums(into, [0, rows, rows], (i) => {
    const value = code.load(w, code.place(j, rows, i));
    return [[value, value]];
  });
  return [square!];
}

/** Turns columns in pairs until all are orthogonal to each other. */
function orthogonalize(code: MatrixCode, working: Working, into: Statement[]): void {
  const { w, v, rows, columns } = working;
  const tolerance = code.epsilon * Math.max(2, Math.sqrt(rows));
  const moved = code.declare(into, 'moved', code.index(1));
  const pair = (p: Expression, q: Expression, body: Statement[]): void => {
    const [first, second, both] = code.sums(body, [0, rows, rows], (i) => {
      const x = code.load(w, code.place(p, rows, i));
      const y = code.load(w, code.place(q, rows, i));
      return [
        [x, x],
        [y, y],
        [x, y],
      ];
    }) as [Expression, Expression, Expression];
    const lengths = code.mul(code.sqrt(first), code.sqrt(second));
    const enough = code.mul(lengths, code.number(tolerance));
    const turn: Statement[] = [code.set(moved, code.index(1))];
    const tan = tangent(code, turn, [first, second, both]);
    const plane = rotationOf(code, turn, [p, q, tan]);
    turn.push(...turnRows(code, w, rows, plane), ...turnRows(code, v, columns, plane));
    body.push(code.when(code.compare('gt', code.abs(both), enough), turn));
  };
  into.push(
    ...code.range('sweep', [0, SWEEPS, SWEEPS], (_sweep, sweep) => {
      const body: Statement[] = [code.set(moved, code.index(0))];
      body.push(
        ...code.range('p', [0, Math.max(columns - 1, 0), columns], (p, outer) => {
          outer.push(
            ...code.range('q', [code.builder.offset(p, 1), columns, columns], (q, inner) =>
              pair(p, q, inner),
            ),
          );
        }),
      );
      sweep.push(code.when(code.compare('ne', moved, 0), body));
    }),
  );
}

/** Columns of length 1; those of no length get a direction that none before them has. */
function directions(
  code: MatrixCode,
  working: Working,
  order: Working['w'],
  into: Statement[],
): void {
  const { w, s, rows, columns } = working;
  const longest = code.load(s, code.load(order, 0));
  const limit = code.bind(into, 'limit', code.mul(longest, code.number(NOTHING)));
  into.push(
    ...code.range('place', [0, columns, columns], (place, body) => {
      const own = code.bind(body, 'own', code.load(order, place));
      const length = code.bind(body, 'length', code.load(s, own));
      const at = (i: Expression): Expression =>
        code.builder.add(code.builder.mul(own, code.index(rows)), i);
      const scaled = code.range(
        'row',
        [0, rows, rows],
        (i, inner) => {
          const value = code.div(code.load(w, at(i)), length);
          inner.push(code.store(w, at(i), code.bind(inner, 'value', value)));
        },
        { vector: true },
      );
      const found = code.index(0);
      const complete: Statement[] = [];
      const done = code.declare(complete, 'done', found);
      complete.push(
        ...code.range('unit', [0, rows, rows], (unit, inner) => {
          const attempt: Statement[] = [];
          tryDirection(code, { working, order, place, at, unit, done }, attempt);
          inner.push(code.when(code.compare('eq', done, 0), attempt));
        }),
      );
      body.push(code.when(code.compare('gt', length, limit), scaled, complete));
    }),
  );
}

/** Takes off a column what it has of the direction of column `from`. */
function takeOff(
  code: MatrixCode,
  { w, rows }: Working,
  { at, from }: { at: (i: Expression) => Expression; from: Expression },
  into: Statement[],
): void {
  const there = (i: Expression): Expression =>
    code.builder.add(code.builder.mul(from, code.index(rows)), i);
  const [product] = code.sums(into, [0, rows, rows], (i) => [
    [code.load(w, there(i)), code.load(w, at(i))],
  ]) as [Expression];
  const share = code.bind(into, 'share', code.neg(product));
  into.push(
    ...code.range(
      'row',
      [0, rows, rows],
      (i, inner) => {
        const value = code.bind(inner, 'value', code.load(w, at(i)));
        const left = code.multiplyAdd(share, code.load(w, there(i)), value);
        inner.push(code.store(w, at(i), left));
      },
      { vector: true },
    ),
  );
}

/** What is left of a unit vector beside the columns so far becomes a column, if it is enough. */
function tryDirection(
  code: MatrixCode,
  given: {
    working: Working;
    order: Working['w'];
    place: Expression;
    at: (i: Expression) => Expression;
    unit: Expression;
    done: ReturnType<MatrixCode['declare']>;
  },
  into: Statement[],
): void {
  const { working, order, place, at, unit, done } = given;
  const { w, rows, columns } = working;
  into.push(
    ...code.range('row', [0, rows, rows], (i, body) => {
      const isUnit = code.builder.compare('eq', i, unit);
      body.push(code.store(w, at(i), code.select(isUnit, code.number(1), code.number(0))));
    }),
    // Twice is enough, as Kahan says.
    ...code.range('round', [0, 2, 2], (_round, round) => {
      round.push(
        ...code.range('known', [0, place, columns], (known, body) => {
          const from = code.bind(body, 'from', code.load(order, known));
          takeOff(code, working, { at, from }, body);
        }),
      );
    }),
  );
  const [square] = code.sums(into, [0, rows, rows], (i) => {
    const value = code.load(w, at(i));
    return [[value, value]];
  }) as [Expression];
  // On average (rows - place) / rows is left: some unit vector has more than half of that.
  const left = code.builder.convert(code.sub(code.index(rows), place), code.type);
  const wide = code.mul(square, code.number(2 * rows));
  const inverse: Statement[] = [];
  const factor = code.bind(inverse, 'factor', code.div(code.number(1), code.sqrt(square)));
  inverse.push(
    ...code.range(
      'row',
      [0, rows, rows],
      (i, inner) => {
        const value = code.mul(code.load(w, at(i)), factor);
        inner.push(code.store(w, at(i), code.bind(inner, 'value', value)));
      },
      { vector: true },
    ),
    code.set(done, code.index(1)),
  );
  into.push(code.when(code.compare('ge', wide, left), inverse));
}

// ---- the op -----------------------------------------------------------------------------------

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((total, value, i) => total + value * b[i]!, 0);

/** U's and V's columns as rows, and the singular values, in descending order. */
function svdRows(matrix: Rows, columns: number): { u: Rows; s: number[]; v: Rows } {
  const rows = matrix.length;
  const w = transposeOf(matrix, columns);
  const v = identityOf(columns);
  const turn = (list: Rows, p: number, q: number, c: number, s: number): void => {
    const [x, y] = [list[p]!, list[q]!];
    list[p] = x.map((value, i) => c * value - s * y[i]!);
    list[q] = x.map((value, i) => s * value + c * y[i]!);
  };
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < columns; p++) {
      for (let q = p + 1; q < columns; q++) {
        const angle =
          0.5 * Math.atan2(2 * dot(w[p]!, w[q]!), dot(w[q]!, w[q]!) - dot(w[p]!, w[p]!));
        // Of the two angles a quarter turn apart, the small one.
        const small = angle - (Math.PI / 2) * Math.round(angle / (Math.PI / 2));
        turn(w, p, q, Math.cos(small), Math.sin(small));
        turn(v, p, q, Math.cos(small), Math.sin(small));
      }
    }
  }
  const lengths = w.map((column) => Math.sqrt(dot(column, column)));
  const order = w.map((_, j) => j).sort((i, j) => lengths[j]! - lengths[i]!);
  const u: Rows = [];
  for (const j of order) {
    const length = lengths[j]!;
    if (length > lengths[order[0]!]! * NOTHING) u.push(w[j]!.map((value) => value / length));
    else u.push(directionBeside(u, rows));
  }
  return {
    u: u.map((column) => column.map((value) => value * signOf(column))),
    s: order.map((j) => lengths[j]!),
    v: order.map((j, place) => v[j]!.map((value) => value * signOf(u[place]!))),
  };
}

function directionBeside(known: Rows, rows: number): number[] {
  for (let unit = 0; unit < rows; unit++) {
    let vector = Array.from({ length: rows }, (_, i): number => (i === unit ? 1 : 0));
    for (const other of [...known, ...known]) {
      const share = dot(vector, other);
      vector = vector.map((value, i) => value - share * other[i]!);
    }
    const square = dot(vector, vector);
    if (2 * rows * square >= rows - known.length) {
      return vector.map((value) => value / Math.sqrt(square));
    }
  }
  throw new Error('internal: no direction left');
}

const svdOp = defineOp({
  name: 'singularValues',
  summary:
    'U, singular values in descending order, V, with U diag(s) Vᵀ = A, of A [m, n] with m ≥ n',
  attrs: {},
  infer: ([x]) => {
    const [rows, columns] = matrixSizes('svd', x!);
    if (rows < columns) {
      throw new ShapeError(`${formatShape(x!.shape)} has more columns than rows`, { op: 'svd' });
    }
    const size = rows * columns + columns + columns * columns;
    return { shape: [...batchOf(x!.shape), size], dtype: x!.dtype };
  },
  gradient: ({ node, grad, inputs }) => [svdGradient(node, grad, matrixSizes('svd', inputs[0]!))],
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerSVD(context, node) },
  reference: ([x]) => {
    const columns = x!.shape.at(-1)!;
    return Float64Array.from(
      matricesOf(x!).flatMap((matrix) => {
        const { u, s, v } = svdRows(matrix, columns);
        return [...transposeOf(u, matrix.length).flat(), ...s, ...transposeOf(v, columns).flat()];
      }),
    );
  },
  samples: () => [
    ...[
      [1, 1],
      [2, 2],
      [3, 3],
      [2, 4, 3],
      [5, 2],
      [0, 0],
      [0, 2, 2],
      [3, 0],
    ].map((shape) => ({
      inputs: [shiftedTensor(shape, 1, { seed: 3 })],
      attrs: {},
      // Singular vectors are as exact as their values are apart.
      tolerance: 1e-4,
    })),
    {
      inputs: [randomTensor([5, 4], { dtype: 'float64', seed: 2 })],
      attrs: {},
      tolerance: 1e-10,
    },
    {
      inputs: [tensorOf([3, 3], [0, 1, 0, 0, 2, 0, 0, 2, 0])],
      attrs: {},
      skipGradient: 'of rank 1: U and V are not determined',
    },
    {
      inputs: [tensorOf([2, 2], [3e25, 0, 1e25, 2e25])],
      attrs: {},
      skipGradient: 'out of scale for differences',
    },
  ],
});

/**
 * PyTorch's svd_backward for real matrices (Townsend, Differentiating the singular value
 * decomposition, 2016), with terms left out that equal or zero singular values leave undefined.
 */
function svdGradient(node: Node, grad: Node, [rows, columns]: readonly [number, number]): Node {
  const shapes = [[rows, columns], [columns], [columns, columns]];
  const [u, s, v] = unpack(node, shapes) as [Node, Node, Node];
  const [gradU, gradS, gradV] = unpack(grad, shapes) as [Node, Node, Node];
  const batch = s.shape.slice(0, -1);
  const square = [...batch, columns, columns];
  const across = expand(reshape(s, [...batch, 1, columns]), square);
  const along = expand(reshape(s, [...batch, columns, 1]), square);
  // Differences of squares, without squaring.
  const gaps = reciprocalOrZero(mul(sub(across, along), add(across, along)));
  const skew = (x: Node): Node => sub(x, flipped(x));
  const turned = (vectors: Node, gradient: Node): Node =>
    mul(skew(matmul(flipped(vectors), gradient)), gaps);
  const ofU = scaleAxis(turned(u, gradU), s, -1);
  const ofV = scaleAxis(turned(v, gradV), s, -2);
  const ofS = diagonalPart(expand(reshape(gradS, [...batch, 1, columns]), square));
  let left = matmul(u, add(add(ofU, ofV), ofS));
  if (rows > columns) {
    const beside = sub(gradU, matmul(u, matmul(flipped(u), gradU)));
    left = add(left, scaleAxis(beside, reciprocalOrZero(s), -1));
  }
  return matmul(left, flipped(v));
}

/**
 * U [.., m, k], s [.., k] in descending order and V [.., n, k] with U diag(s) Vᵀ = A, k the smaller
 * of m and n. The first component of a vector of U (if m < n: of V) that has at least 0.6 of its
 * largest magnitude is positive. NaN if an element is not finite.
 */
export function svd(x: Node): readonly [Node, Node, Node] {
  const [rows, columns] = matrixSizes('svd', x);
  const wide = rows < columns;
  const [m, n] = wide ? [columns, rows] : [rows, columns];
  const packed = makeNode(svdOp, [wide ? flipped(x) : x], NO_ATTRS);
  const [u, s, v] = unpack(packed, [[m, n], [n], [n, n]]) as [Node, Node, Node];
  return wide ? [v, s, u] : [u, s, v];
}
