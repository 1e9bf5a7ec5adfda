// QR decomposition by Householder's reflections, with LAPACK's signs.
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode, NO_ATTRS } from '../op.ts';
import { add, sub } from './arithmetic.ts';
import { matmul } from './matmul.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import {
  batchOf,
  flipped,
  identityOf,
  lowerPart,
  matricesOf,
  matrixSizes,
  productOf,
  type Rows,
  shiftedTensor,
  unpack,
} from './matrix-parts.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { concat, narrowAxis } from './slicing.ts';
import { triangularSolve } from './triangular.ts';

interface Sizes {
  readonly rows: number;
  readonly columns: number;
  /** Columns of Q: the smaller of both, or all rows. */
  readonly width: number;
}

function sizesOf(x: Node, complete: boolean): Sizes {
  const [rows, columns] = matrixSizes('qr', x);
  return { rows, columns, width: complete ? rows : Math.min(rows, columns) };
}

interface Working extends Sizes {
  /** The matrix's columns, one behind the other. */
  readonly w: ReturnType<MatrixCode['array']>;
  /** The columns of Q. */
  readonly q: ReturnType<MatrixCode['array']>;
  /** Scales of the reflections I - tau v vᵀ, where v[step] is 1 and the rest stands in `w`. */
  readonly tau: ReturnType<MatrixCode['array']>;
}

function lowerQR(context: KernelContext, node: Node, complete: boolean): KernelBody {
  const sizes = sizesOf(node.inputs[0]!, complete);
  const { rows, columns, width } = sizes;
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const w = code.array('columns', rows * columns);
    const q = code.array('basis', rows * width);
    const tau = code.array('scales', Math.min(rows, columns));
    const working = { ...sizes, w, q, tau };
    const steps = Math.min(rows, columns);
    const into: Statement[] = code.fill(w, [columns, rows], (j, i) =>
      context.read(0, [...batch, i, j]),
    );
    const largest = code.largest(into, w, rows * columns);
    const scale = code.scaleFor(largest);
    const down = code.bind(into, 'down', scale.down);
    const up = code.bind(into, 'up', scale.up);
    into.push(
      ...code.fill(w, [1, rows * columns], (_, at) => code.mul(code.load(w, at), down)),
      ...code.range('step', [0, steps, steps], (step, body) => reflect(code, working, step, body)),
      ...code.fill(q, [width, rows], (j, i) =>
        code.select(code.builder.compare('eq', i, j), code.number(1), code.number(0)),
      ),
      ...code.range('back', [0, steps, steps], (back, body) => {
        const step = code.sub(code.index(steps - 1), back);
        apply(code, working, { step, target: q, first: step, count: width }, body);
      }),
      ...code.give(batch, 0, [rows, width], (i, j) => code.load(q, code.place(j, rows, i))),
      ...code.give(batch, rows * width, [width, columns], (i, j) => {
        const value = code.mul(code.load(w, code.place(j, rows, i)), up);
        return code.select(code.builder.compare('le', i, j), value, code.number(0));
      }),
    );
    return into;
  });
}

/** Makes the reflection that clears a column below the diagonal, and applies it to those after. */
function reflect(code: MatrixCode, working: Working, step: Expression, into: Statement[]): void {
  const { w, tau, rows, columns } = working;
  const at = (i: Expression): Expression => code.place(step, rows, i);
  const next = code.builder.offset(step, 1);
  const alpha = code.bind(into, 'alpha', code.load(w, at(step)));
  const [square] = code.sums(into, [next, rows, rows], (i) => {
    const value = code.load(w, at(i));
    return [[value, value]];
  }) as [Expression];
  const clear = code.bind(into, 'clear', code.compare('eq', square, 0));
  const length = code.sqrt(code.multiplyAdd(alpha, alpha, square));
  const negative = code.neg(length);
  const beta = code.bind(into, 'beta', code.select(code.compare('gt', alpha, 0), negative, length));
  const scale = code.select(clear, code.number(0), code.div(code.sub(beta, alpha), beta));
  into.push(code.store(tau, step, scale));
  const tail = code.range(
    'row',
    [next, rows, rows],
    (i, body) => {
      const value = code.div(code.load(w, at(i)), code.sub(alpha, beta));
      body.push(code.store(w, at(i), code.bind(body, 'value', value)));
    },
    { vector: true },
  );
  into.push(code.when(clear, [], [...tail, code.store(w, at(step), beta)]));
  apply(code, working, { step, target: w, first: next, count: columns }, into);
}

/** Reflects the columns of `target` from `first` on. */
function apply(
  code: MatrixCode,
  { w, tau, rows }: Working,
  where: { step: Expression; target: Working['w']; first: Expression; count: number },
  into: Statement[],
): void {
  const { step, target, first, count } = where;
  const next = code.builder.offset(step, 1);
  const scale = code.bind(into, 'scale', code.load(tau, step));
  const columns = code.range('column', [first, count, count], (j, body) => {
    const at = (i: Expression): Expression => code.place(j, rows, i);
    const [inner] = code.sums(body, [next, rows, rows], (i) => [
      [code.load(w, code.place(step, rows, i)), code.load(target, at(i))],
    ]) as [Expression];
    const head = code.bind(body, 'head', code.load(target, at(step)));
    const negative = code.neg(code.mul(scale, code.add(head, inner)));
    const share = code.bind(body, 'share', negative);
    body.push(code.store(target, at(step), code.add(head, share)));
    body.push(
      ...code.range(
        'row',
        [next, rows, rows],
        (i, rest) => {
          const value = code.bind(rest, 'value', code.load(target, at(i)));
          const left = code.multiplyAdd(share, code.load(w, code.place(step, rows, i)), value);
          rest.push(code.store(target, at(i), left));
        },
        { vector: true },
      ),
    );
  });
  into.push(code.when(code.compare('ne', scale, 0), columns));
}

/** Q and R, by multiplying with the reflections as whole matrices. */
function reflectRows(matrix: Rows, { rows, columns, width }: Sizes): readonly [Rows, Rows] {
  let r = matrix;
  let q = identityOf(rows);
  for (let c = 0; c < Math.min(rows, columns); c++) {
    const x = r.map((row, i) => (i < c ? 0 : row[c]!));
    if (x.slice(c + 1).every((value) => value === 0)) continue;
    x[c]! += (x[c]! > 0 ? 1 : -1) * Math.hypot(...x);
    const square = x.reduce((total, value) => total + value * value, 0);
    const reflection = identityOf(rows).map((row, i) =>
      row.map((value, j) => value - (2 * x[i]! * x[j]!) / square),
    );
    r = productOf(reflection, r);
    q = productOf(q, reflection);
  }
  const upper = r.slice(0, width).map((row, i) => row.map((value, j) => (j < i ? 0 : value)));
  return [q.map((row) => row.slice(0, width)), upper];
}

function packedShape(x: Node, complete: boolean): readonly number[] {
  const { rows, columns, width } = sizesOf(x, complete);
  return [...batchOf(x.shape), rows * width + width * columns];
}

const qrOp = defineOp({
  name: 'qr',
  summary: 'Q R = A with orthonormal columns, as many as the smaller side: Q, then R',
  attrs: {},
  infer: ([x]) => ({ shape: packedShape(x!, false), dtype: x!.dtype }),
  gradient: ({ node, grad, inputs }) => [qrGradient(node, grad, sizesOf(inputs[0]!, false))],
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerQR(context, node, false) },
  reference: ([x]) => {
    const [rows, columns] = x!.shape.slice(-2) as [number, number];
    const sizes = { rows, columns, width: Math.min(rows, columns) };
    return Float64Array.from(
      matricesOf(x!).flatMap((matrix) => reflectRows(matrix, sizes).flat(2)),
    );
  },
  samples: () => [
    ...[
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [3, 5],
      [2, 5, 3],
      [0, 0],
      [0, 2, 2],
      [3, 0],
      [21, 9],
    ].map((shape) => ({
      inputs: [shiftedTensor(shape, 3)],
      attrs: {},
      // Of larger matrices: long sums, and in the gradient R's condition.
      ...(shape[0] === 21 ? { tolerance: 1e-4 } : {}),
    })),
    { inputs: [randomTensor([5, 3], { dtype: 'float64' })], attrs: {} },
    {
      inputs: [tensorOf([3, 2], [1e25, 0, 2e25, 1e25, 0, 3e25])],
      attrs: {},
      skipGradient: 'out of scale for differences',
    },
  ],
});

const qrCompleteOp = defineOp({
  name: 'qrComplete',
  summary: 'Q R = A with a square Q: Q, then R',
  attrs: {},
  infer: ([x]) => ({ shape: packedShape(x!, true), dtype: x!.dtype }),
  gradient: { nonDifferentiable: 'the columns of Q beyond those of A may turn freely' },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerQR(context, node, true) },
  reference: ([x]) => {
    const [rows, columns] = x!.shape.slice(-2) as [number, number];
    const sizes = { rows, columns, width: rows };
    return Float64Array.from(
      matricesOf(x!).flatMap((matrix) => reflectRows(matrix, sizes).flat(2)),
    );
  },
  samples: () =>
    [
      [1, 1],
      [3, 5],
      [2, 5, 3],
      [0, 0],
      [3, 0],
      [4, 1],
    ].map((shape) => ({
      inputs: [shiftedTensor(shape, 3)],
      attrs: {},
    })),
});

/** Walter, Lehmann and Lamour (2012), as PyTorch has it; columns beyond the rows are Qᵀ A. */
function qrGradient(node: Node, grad: Node, { rows, columns, width }: Sizes): Node {
  const shapes = [
    [rows, width],
    [width, columns],
  ];
  const [q, r] = unpack(node, shapes) as [Node, Node];
  const [gradQ, gradR] = unpack(grad, shapes) as [Node, Node];
  const rank = q.shape.length;
  if (columns <= rows) return squareGradient(q, r, gradQ, gradR);
  const part = (x: Node, start: number, count: number): Node =>
    narrowAxis(x, rank - 1, start, count);
  const beyond = part(gradR, width, columns - width);
  // What lies right of the square is Q times R's right part, and A's right part goes with it.
  const right = matmul(q, part(r, width, columns - width));
  const forQ = add(gradQ, matmul(right, flipped(beyond)));
  const left = squareGradient(q, part(r, 0, width), forQ, part(gradR, 0, width));
  return concat([left, matmul(q, beyond)], rank - 1);
}

function squareGradient(q: Node, r: Node, gradQ: Node, gradR: Node): Node {
  const middle = sub(matmul(r, flipped(gradR)), matmul(flipped(gradQ), q));
  const mirrored = add(lowerPart(middle), flipped(lowerPart(middle, true)));
  const left = add(gradQ, matmul(q, mirrored));
  // Times R⁻ᵀ on the right.
  return flipped(triangularSolve(r, flipped(left), { upper: true, unit: false }));
}

/**
 * Q [.., m, k] and R [.., k, n] with Q R = A, k the smaller of m and n, or m if `complete`. Signs are
 * LAPACK's. R is upper triangular.
 */
export function qr(x: Node, complete = false): readonly [Node, Node] {
  const sizes = sizesOf(x, complete);
  const { rows, columns, width } = sizes;
  const op = complete && rows > columns ? qrCompleteOp : qrOp;
  const packed = makeNode(op, [x], NO_ATTRS);
  return unpack(packed, [
    [rows, width],
    [width, columns],
  ]) as [Node, Node];
}
