// The exponential of square matrices: a Taylor polynomial of a scaled matrix, squared again.
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode, NO_ATTRS } from '../op.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import { full } from './creation.ts';
import {
  flipped,
  identityOf,
  matricesOf,
  productOf,
  type Rows,
  shiftedTensor,
  squareSize,
} from './matrix-parts.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { concat, narrowAxis } from './slicing.ts';

/** Powers of two by which a matrix may be scaled: exp overflows long before its norm needs more. */
const MOST_SQUARINGS = 24;

/** `target = left @ right`, plus `add` on the diagonal. */
function product(
  code: MatrixCode,
  size: number,
  [target, left, right]: readonly ReturnType<MatrixCode['array']>[],
  scale: Expression,
  plus: Expression,
): Statement[] {
  const at = (i: Expression, j: Expression): Expression => code.place(i, size, j);
  return code.range('row', [0, size, size], (i, into) => {
    into.push(
      ...code.range(
        'column',
        [0, size, size],
        (j, body) => body.push(code.store(target!, at(i, j), code.number(0))),
        { vector: true },
      ),
      ...code.range('inner', [0, size, size], (k, body) => {
        const factor = code.bind(body, 'factor', code.mul(code.load(left!, at(i, k)), scale));
        body.push(
          ...code.range(
            'column',
            [0, size, size],
            (j, inner) => {
              const value = code.bind(inner, 'value', code.load(target!, at(i, j)));
              const sum = code.multiplyAdd(factor, code.load(right!, at(k, j)), value);
              inner.push(code.store(target!, at(i, j), sum));
            },
            { vector: true },
          ),
        );
      }),
    );
    const own = code.bind(into, 'own', code.load(target!, at(i, i)));
    into.push(code.store(target!, at(i, i), code.add(own, plus)));
  });
}

/** The scale that makes rows add up to no more than a half, where the series is short. */
function halvings(
  code: MatrixCode,
  a: ReturnType<MatrixCode['array']>,
  size: number,
  into: Statement[],
): { scale: Expression; count: Expression } {
  const norm = code.declare(into, 'norm', code.number(0));
  into.push(
    ...code.range('row', [0, size, size], (i, body) => {
      const total = code.declare(body, 'total', code.number(0));
      body.push(
        ...code.range('column', [0, size, size], (j, inner) => {
          const value = code.abs(code.load(a, code.place(i, size, j)));
          inner.push(code.set(total, code.add(total, value)));
        }),
        code.set(norm, code.builder.max(norm, total)),
      );
    }),
  );
  const count = code.declare(into, 'count', code.index(0));
  const scale = code.declare(into, 'scale', code.number(1));
  into.push(
    ...code.range('halving', [0, MOST_SQUARINGS, MOST_SQUARINGS], (_, body) => {
      const large = code.compare('gt', code.mul(norm, scale), 0.5);
      body.push(
        code.when(large, [
          code.set(scale, code.mul(scale, code.number(0.5))),
          code.set(count, code.builder.offset(count, 1)),
        ]),
      );
    }),
  );
  return { scale, count };
}

function lowerExponential(context: KernelContext, node: Node): KernelBody {
  const size = node.shape.at(-1)!;
  // Even, so that the polynomial ends where it began.
  const terms = node.dtype === 'float64' ? 16 : 10;
  return overMatrices(context, node.dtype, node.shape.slice(0, -2), (code, batch) => {
    const a = code.array('matrix', size * size);
    const x = code.array('first', size * size);
    const y = code.array('second', size * size);
    const into: Statement[] = code.fill(a, [size, size], (i, j) =>
      context.read(0, [...batch, i, j]),
    );
    const { scale, count } = halvings(code, a, size, into);
    into.push(
      ...code.fill(x, [size, size], (i, j) =>
        code.select(code.builder.compare('eq', i, j), code.number(1), code.number(0)),
      ),
    );
    // Horner's scheme: x = I + A x / k.
    for (let k = terms; k >= 1; k--) {
      const [from, to] = (terms - k) % 2 === 0 ? [x, y] : [y, x];
      const share = code.mul(scale, code.number(1 / k));
      into.push(...product(code, size, [to, a, from], share, code.number(1)));
    }
    into.push(
      ...code.range('squaring', [0, count, MOST_SQUARINGS], (_, body) => {
        body.push(
          ...product(code, size, [y, x, x], code.number(1), code.number(0)),
          ...code.fill(x, [1, size * size], (_row, at) => code.load(y, at)),
        );
      }),
      ...code.giveMatrix(batch, [size, size], (i, j) => code.load(x, code.place(i, size, j))),
    );
    return into;
  });
}

function exponentialRows(matrix: Rows): Rows {
  const norm = Math.max(0, ...matrix.map((row) => row.reduce((sum, x) => sum + Math.abs(x), 0)));
  const squarings = Math.max(0, Math.ceil(Math.log2(norm || 1)) + 2);
  let power = identityOf(matrix.length);
  let sum = power;
  for (let k = 1; k < 24; k++) {
    const scaled = matrix.map((row) => row.map((x) => x / 2 ** squarings / k));
    power = productOf(power, scaled);
    sum = sum.map((row, i) => row.map((x, j) => x + power[i]![j]!));
  }
  for (let k = 0; k < squarings; k++) sum = productOf(sum, sum);
  return sum;
}

const exponentialOp = defineOp({
  name: 'matrixExponential',
  summary: 'I + A + A A / 2 + A A A / 6 + ...',
  attrs: {},
  infer: ([x]) => {
    squareSize('matrixExp', x!);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  // The upper right part of the exponential of [[Aᵀ, G], [0, Aᵀ]], as in PyTorch (Mathias, 1996).
  gradient: ({ grad, inputs }) => {
    const other = flipped(inputs[0]!);
    const size = other.shape.at(-1)!;
    const rank = other.shape.length;
    const top = concat([other, grad], rank - 1);
    const bottom = concat([full(other.shape, 0, other.dtype), other], rank - 1);
    const whole = matrixExponential(concat([top, bottom], rank - 2));
    return [narrowAxis(narrowAxis(whole, rank - 2, 0, size), rank - 1, size, size)];
  },
  lower: { kind: 'custom', lower: (context, _attrs, node) => lowerExponential(context, node) },
  reference: ([x]) =>
    Float64Array.from(matricesOf(x!).flatMap((matrix) => exponentialRows(matrix).flat())),
  samples: () => [
    ...[
      [1, 1],
      [3, 3],
      [2, 4, 4],
      [0, 0],
      [0, 2, 2],
    ].map((shape) => ({
      inputs: [shiftedTensor(shape, -1)],
      attrs: {},
    })),
    { inputs: [randomTensor([4, 4], { dtype: 'float64', seed: 2 })], attrs: {} },
    { inputs: [tensorOf([2, 2], [0, 0, 0, 0])], attrs: {} },
    { inputs: [tensorOf([2, 2], [0, 100, -100, 0])], attrs: {}, tolerance: 1e-3 },
    { inputs: [tensorOf([2, 2], [NaN, 0, 0, 1])], attrs: {}, skipGradient: 'NaN' },
  ],
});

/** The exponential of matrices [.., n, n]. */
export function matrixExponential(x: Node): Node {
  return makeNode(exponentialOp, [x], NO_ATTRS);
}
