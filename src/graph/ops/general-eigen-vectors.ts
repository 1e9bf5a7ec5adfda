// The second half of generalEigen's kernel: eigenvectors of a real Schur form by substitution (Golub and
// Van Loan, Matrix Computations, 7.6), in the basis of the matrix.
import type { Buffer, Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { MatrixCode } from './matrix-kernel.ts';

/** Of the largest squared magnitude: the first component of a vector with this share is made real. */
export const NOTABLE_SQUARE = 0.36;

/** What the stages work on. */
export interface Working {
  readonly code: MatrixCode;
  readonly size: number;
  /** Becomes the Schur form, row by row. */
  readonly h: Buffer;
  /** Its basis, vectors as rows. */
  readonly q: Buffer;
  /** Real and imaginary parts of the eigenvalues. */
  readonly real: Buffer;
  readonly imaginary: Buffer;
}

export type Index = Expression | number;

/** Element (i, j) of the Schur form. */
export function at({ code, size, h }: Working, i: Index, j: Index): Expression {
  return code.load(h, code.place(i, size, j));
}

/** A complex number as two expressions. */
type Complex = readonly [re: Expression, im: Expression];

function complexMath(code: MatrixCode) {
  const mul = ([a, b]: Complex, [c, d]: Complex): Complex => [
    code.sub(code.mul(a, c), code.mul(b, d)),
    code.add(code.mul(a, d), code.mul(b, c)),
  ];
  const sub = ([a, b]: Complex, [c, d]: Complex): Complex => [code.sub(a, c), code.sub(b, d)];
  const bind = (into: Statement[], name: string, [a, b]: Complex): Complex => [
    code.bind(into, `${name}Re`, a),
    code.bind(into, `${name}Im`, b),
  ];
  /** -a / b, where a b that is nearly 0 counts as `least`. */
  const minusQuotient = (into: Statement[], a: Complex, b: Complex, least: Expression): Complex => {
    const size = code.bind(into, 'size', code.add(code.abs(b[0]), code.abs(b[1])));
    const safe = code.compare('gt', size, least);
    const re = code.bind(into, 'downRe', code.select(safe, b[0], least));
    const im = code.bind(into, 'downIm', code.select(safe, b[1], code.number(0)));
    // By Smith (1962): neither squares overflow nor do they vanish.
    const wide = code.compare('ge', code.abs(re), code.abs(im));
    const ratio = code.bind(
      into,
      'ratio',
      code.select(
        wide,
        code.div(im, code.select(wide, re, code.number(1))),
        code.div(re, code.select(wide, code.number(1), im)),
      ),
    );
    const whole = code.select(
      wide,
      code.multiplyAdd(im, ratio, re),
      code.multiplyAdd(re, ratio, im),
    );
    const bottom = code.bind(into, 'bottom', whole);
    const first = code.select(
      wide,
      code.multiplyAdd(a[1], ratio, a[0]),
      code.multiplyAdd(a[0], ratio, a[1]),
    );
    const second = code.select(
      wide,
      code.sub(a[1], code.mul(a[0], ratio)),
      code.sub(code.mul(a[1], ratio), a[0]),
    );
    return [code.neg(code.div(first, bottom)), code.neg(code.div(second, bottom))];
  };
  return { mul, sub, bind, minusQuotient };
}

interface Vector {
  readonly re: Buffer;
  readonly im: Buffer;
}

/** Solves (T - λ) x = 0 upwards from the rows where x begins: `top` is the first row above. */
function substitute(
  w: Working,
  into: Statement[],
  x: Vector,
  [top, end]: readonly [Expression, Expression],
  lambda: Complex,
  least: Expression,
): void {
  const { code, size } = w;
  const { builder } = code;
  const math = complexMath(code);
  const sums = (body: Statement[], row: Expression, from: Expression): Complex => {
    const [re, im] = code.sums(body, [from, end, size], (j) => [
      [at(w, row, j), code.load(x.re, j)],
      [at(w, row, j), code.load(x.im, j)],
    ]);
    return math.bind(body, 'sum', [re!, im!]);
  };
  const shifted = (i: Expression): Complex => [
    code.sub(at(w, i, i), lambda[0]),
    code.neg(lambda[1]),
  ];
  const set = (i: Expression, [re, im]: Complex): Statement[] => [
    code.store(x.re, i, re),
    code.store(x.im, i, im),
  ];
  into.push(
    ...code.range('up', [0, builder.offset(top, 1), size], (up, body) => {
      const i = code.bind(body, 'row', builder.sub(top, up));
      const kind = code.bind(body, 'kind', code.load(w.imaginary, i));
      const below = builder.offset(i, 1);
      const single: Statement[] = [];
      const own = math.bind(
        single,
        'own',
        math.minusQuotient(single, sums(single, i, below), shifted(i), least),
      );
      single.push(...set(i, own));
      const pair: Statement[] = [];
      const above = code.bind(pair, 'above', builder.offset(i, -1));
      const [r0, r1] = [sums(pair, above, below), sums(pair, i, below)];
      const p = math.bind(pair, 'p', shifted(above));
      const v = math.bind(pair, 'v', shifted(i));
      const q: Complex = [code.bind(pair, 'q', at(w, above, i)), code.number(0)];
      const u: Complex = [code.bind(pair, 'u', at(w, i, above)), code.number(0)];
      const whole = math.bind(pair, 'whole', math.sub(math.mul(p, v), math.mul(q, u)));
      const smallest = code.number(code.dtype === 'float64' ? 1e-300 : 1e-36);
      const tiny = code.bind(pair, 'tiny', builder.max(code.mul(least, least), smallest));
      const first = math.bind(pair, 'first', math.sub(math.mul(v, r0), math.mul(q, r1)));
      const second = math.bind(pair, 'second', math.sub(math.mul(p, r1), math.mul(u, r0)));
      const high = math.bind(pair, 'high', math.minusQuotient(pair, first, whole, tiny));
      const low = math.bind(pair, 'low', math.minusQuotient(pair, second, whole, tiny));
      pair.push(...set(above, high), ...set(i, low));
      // Rows of the upper half of a pair are done with the lower one.
      body.push(
        code.when(code.compare('eq', kind, 0), single, [
          code.when(code.compare('lt', kind, 0), pair),
        ]),
      );
      shrink(w, body, x, i, end);
    }),
  );
}

/** Brings a vector down when an element has grown beyond what squares may be of. */
function shrink(
  { code, size }: Working,
  body: Statement[],
  x: Vector,
  i: Expression,
  end: Expression,
): void {
  const [edge, power] = code.dtype === 'float64' ? [2 ** 300, 2 ** -300] : [2 ** 40, 2 ** -40];
  const grown = code.add(code.abs(code.load(x.re, i)), code.abs(code.load(x.im, i)));
  const scale = code.range('j', [0, end, size], (j, loop) => {
    for (const part of [x.re, x.im]) {
      loop.push(code.store(part, j, code.mul(code.load(part, j), code.number(power))));
    }
  });
  body.push(code.when(code.compare('gt', grown, edge), scale));
}

/** The first `end` elements of a vector in the Schur basis, in the basis of the matrix. */
function inBasis(
  { code, size, q }: Working,
  from: Buffer,
  to: Buffer,
  place: (i: Index) => Expression,
  end: Expression,
): Statement[] {
  return [
    ...code.range('clear', [0, size, size], (i, body) => {
      body.push(code.store(to, place(i), code.number(0)));
    }),
    ...code.range('j', [0, end, size], (j, outer) => {
      const factor = code.bind(outer, 'factor', code.load(from, j));
      outer.push(
        ...code.range(
          'i',
          [0, size, size],
          (i, body) => {
            const sum = code.multiplyAdd(
              factor,
              code.load(q, code.place(j, size, i)),
              code.load(to, place(i)),
            );
            body.push(code.store(to, place(i), sum));
          },
          { vector: true },
        ),
      );
    }),
  ];
}

/** x in the basis of the matrix, of length 1, its first notable component real and positive. */
function finishVector(
  w: Working,
  x: Vector,
  vectors: Vector,
  row: Expression,
  end: Expression,
): Statement[] {
  const { code, size } = w;
  const { builder } = code;
  const into: Statement[] = [];
  const place = (i: Index): Expression => code.place(row, size, i);
  into.push(
    ...inBasis(w, x.re, vectors.re, place, end),
    ...inBasis(w, x.im, vectors.im, place, end),
  );
  const re = (i: Index): Expression => code.load(vectors.re, place(i));
  const im = (i: Index): Expression => code.load(vectors.im, place(i));
  const square = (i: Index): Expression => code.multiplyAdd(re(i), re(i), code.mul(im(i), im(i)));
  const most = code.declare(into, 'longest', code.number(0));
  const total = code.declare(into, 'total', code.number(0));
  into.push(
    ...code.range('i', [0, size, size], (i, body) => {
      const own = code.bind(body, 'square', square(i));
      body.push(code.set(most, builder.max(most, own)), code.set(total, code.add(total, own)));
    }),
  );
  const enough = code.bind(into, 'enough', code.mul(most, code.number(NOTABLE_SQUARE)));
  const chosen = code.declare(into, 'chosen', code.index(-1));
  into.push(
    ...code.range('i', [0, size, size], (i, body) => {
      const notable = builder.and(
        builder.compare('lt', chosen, code.index(0)),
        code.compare('ge', square(i), enough),
      );
      body.push(code.when(notable, [code.set(chosen, i)]));
    }),
  );
  const turn: Statement[] = [];
  const magnitude = code.bind(turn, 'magnitude', code.sqrt(square(chosen)));
  const length = code.bind(turn, 'length', code.mul(magnitude, code.sqrt(total)));
  const cosine = code.bind(turn, 'cosine', code.div(re(chosen), length));
  const sine = code.bind(turn, 'sine', code.div(im(chosen), length));
  turn.push(
    ...code.range('i', [0, size, size], (i, body) => {
      const [a, b] = [code.bind(body, 'a', re(i)), code.bind(body, 'b', im(i))];
      const real = code.multiplyAdd(a, cosine, code.mul(b, sine));
      const other = code.sub(code.mul(b, cosine), code.mul(a, sine));
      const isChosen = builder.compare('eq', i, chosen);
      body.push(
        code.store(vectors.re, place(i), real),
        code.store(vectors.im, place(i), code.select(isChosen, code.number(0), other)),
      );
    }),
  );
  into.push(code.when(builder.compare('ge', chosen, code.index(0)), turn));
  return into;
}

/** Eigenvectors as rows: of real eigenvalues, and of each pair the first; the second is its conjugate. */
export function findVectors(w: Working, into: Statement[], norm: Expression): Vector {
  const { code, size } = w;
  const { builder } = code;
  const x = { re: code.array('xRe', size), im: code.array('xIm', size) };
  const vectors = {
    re: code.array('vectorsRe', size * size),
    im: code.array('vectorsIm', size * size),
  };
  // Of a matrix of zeros any number will do.
  const share = code.mul(code.number(code.epsilon), norm);
  const isZero = code.compare('eq', norm, 0);
  const least = code.bind(into, 'least', code.select(isZero, code.number(1), share));
  const zero = code.number(0);
  into.push(
    ...code.range('k', [0, size, size], (k, outer) => {
      const kind = code.bind(outer, 'kind', code.load(w.imaginary, k));
      const body: Statement[] = [];
      const isPair = code.bind(body, 'isPair', builder.convert(code.compare('gt', kind, 0), 'i32'));
      const lambda: Complex = [code.bind(body, 'lambda', code.load(w.real, k)), kind];
      const next = code.bind(body, 'next', builder.add(k, isPair));
      // Of the two equations of a block the one with the larger number beside the diagonal.
      const b = code.bind(body, 'b', at(w, k, next));
      const c = code.bind(body, 'c', at(w, next, k));
      const upper = code.compare('ge', code.abs(b), code.abs(c));
      const real = code.compare('eq', kind, 0);
      const choose = (single: Expression, ifUpper: Expression, ifLower: Expression): Expression =>
        code.select(real, single, code.select(upper, ifUpper, ifLower));
      const start = [
        choose(zero, code.sub(lambda[0], at(w, k, k)), c),
        choose(zero, kind, zero),
        choose(code.number(1), b, code.sub(lambda[0], at(w, next, next))),
        choose(zero, zero, kind),
      ].map((value, n) => code.bind(body, `start${n}`, value));
      body.push(
        code.store(x.re, next, start[0]!),
        code.store(x.im, next, start[1]!),
        code.store(x.re, k, start[2]!),
        code.store(x.im, k, start[3]!),
      );
      const end = code.bind(body, 'end', builder.offset(next, 1));
      substitute(w, body, x, [builder.offset(k, -1), end], lambda, least);
      body.push(...finishVector(w, x, vectors, k, end));
      const copy = code.range('i', [0, size, size], (i, loop) => {
        const from = code.place(builder.offset(k, -1), size, i);
        loop.push(
          code.store(vectors.re, code.place(k, size, i), code.load(vectors.re, from)),
          code.store(vectors.im, code.place(k, size, i), code.neg(code.load(vectors.im, from))),
        );
      });
      outer.push(code.when(code.compare('lt', kind, 0), copy, body));
    }),
  );
  return vectors;
}
