// The kernel of generalEigen: Hessenberg form, Francis's double-shift QR to the real Schur form, and
// eigenvectors by substitution (Golub and Van Loan, Matrix Computations, 7.4 to 7.6). Conjugate pairs are
// blocks of two on the diagonal, so that they come out exactly conjugate, and real numbers exactly real.
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { type MatrixCode, overMatrices } from './matrix-kernel.ts';
import { identityInto, orderedPlaces } from './symmetric-eigen.ts';

/** Steps for each eigenvalue; two or three are usual. */
const STEPS = 40;

/** Of the largest squared magnitude: the first component of a vector with this share is made real. */
export const NOTABLE_SQUARE = 0.36;

/** What the stages work on. */
interface Working {
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

type Index = Expression | number;

/** Element (i, j) of the Schur form. */
function at({ code, size, h }: Working, i: Index, j: Index): Expression {
  return code.load(h, code.place(i, size, j));
}

function put({ code, size, h }: Working, i: Index, j: Index, value: Expression): Statement {
  return code.store(h, code.place(i, size, j), value);
}

interface Turn {
  readonly p: Expression;
  readonly q: Expression;
  readonly cosine: Expression;
  readonly sine: Expression;
}

/** Turns two lines of an array, whose elements are `step` apart and begin at `first` and `second`. */
function turnLines(
  { code, size }: Working,
  buffer: Buffer,
  place: (line: Expression, i: Expression) => Expression,
  { p, q, cosine, sine }: Turn,
  vector: boolean,
): Statement[] {
  return code.range(
    'along',
    [0, size, size],
    (i, body) => {
      const x = code.bind(body, 'x', code.load(buffer, place(p, i)));
      const y = code.bind(body, 'y', code.load(buffer, place(q, i)));
      const less = code.multiplyAdd(cosine, x, code.mul(sine, y));
      const more = code.sub(code.mul(cosine, y), code.mul(sine, x));
      body.push(code.store(buffer, place(p, i), less), code.store(buffer, place(q, i), more));
    },
    { vector },
  );
}

/** A rotation of both sides, and of the basis. */
function turn(w: Working, rotation: Turn): Statement[] {
  const { code, size } = w;
  const row = (line: Expression, i: Expression): Expression => code.place(line, size, i);
  const column = (line: Expression, i: Expression): Expression => code.place(i, size, line);
  return [
    ...turnLines(w, w.h, row, rotation, true),
    ...turnLines(w, w.h, column, rotation, false),
    ...turnLines(w, w.q, row, rotation, true),
  ];
}

/** The rotation that brings (x, y) to (r, 0), and all that it turns; nothing if both are 0. */
function annihilate(
  w: Working,
  lines: readonly [Expression, Expression],
  [x, y]: readonly [Expression, Expression],
  then: readonly Statement[],
): Statement {
  const { code } = w;
  const body: Statement[] = [];
  const largest = code.bind(body, 'most', code.builder.max(code.abs(x), code.abs(y)));
  const inner: Statement[] = [];
  const [a, b] = [
    code.bind(inner, 'a', code.div(x, largest)),
    code.bind(inner, 'b', code.div(y, largest)),
  ];
  const length = code.bind(inner, 'r', code.sqrt(code.multiplyAdd(a, a, code.mul(b, b))));
  const cosine = code.bind(inner, 'cosine', code.div(a, length));
  const sine = code.bind(inner, 'sine', code.div(b, length));
  inner.push(...turn(w, { p: lines[0], q: lines[1], cosine, sine }));
  body.push(code.when(code.compare('gt', largest, 0), inner), ...then);
  return code.when(code.compare('ne', y, 0), body);
}

/** Zeros below the first subdiagonal, by rotations. */
function toHessenberg(w: Working, into: Statement[]): void {
  const { code, size } = w;
  const zero = code.number(0);
  into.push(
    ...code.range('column', [0, Math.max(size - 2, 0), size], (j, outer) => {
      const next = code.builder.offset(j, 1);
      outer.push(
        ...code.range('under', [code.builder.offset(j, 2), size, size], (i, body) => {
          const x = code.bind(body, 'above', at(w, next, j));
          const y = code.bind(body, 'below', at(w, i, j));
          body.push(annihilate(w, [next, i], [x, y], [put(w, i, j, zero)]));
        }),
      );
    }),
  );
}

/** The reflection of lines k to k + 2 that brings (x, y, z) to (r, 0, 0), on both sides. */
function reflect(w: Working, k: Expression, vector: readonly Variable[]): Statement[] {
  const { code, size } = w;
  const { builder } = code;
  const [x, y, z] = vector as readonly [Variable, Variable, Variable];
  const body: Statement[] = [];
  const most = code.bind(
    body,
    'most',
    builder.max(code.abs(x), builder.max(code.abs(y), code.abs(z))),
  );
  const inner: Statement[] = [];
  const [a, b, c] = [x, y, z].map((value, i) =>
    code.bind(inner, `v${i}`, code.div(value, most)),
  ) as [Variable, Variable, Variable];
  const squares = code.multiplyAdd(a, a, code.multiplyAdd(b, b, code.mul(c, c)));
  const length = code.bind(inner, 'length', code.sqrt(squares));
  const signed = code.select(code.compare('lt', a, 0), code.neg(length), length);
  const first = code.bind(inner, 'first', code.add(a, signed));
  // 2 / |v|² with |v|² = 2 length (length + |a|).
  const factor = code.bind(inner, 'factor', code.div(code.number(1), code.mul(signed, first)));
  const parts = [first, b, c];
  const lines = [0, 1, 2].map((step) => builder.offset(k, step));
  const apply = (
    buffer: Buffer,
    place: (line: Expression, i: Expression) => Expression,
    vectorized: boolean,
  ): Statement[] =>
    code.range(
      'along',
      [0, size, size],
      (i, loop) => {
        const old = lines.map((line, n) =>
          code.bind(loop, `old${n}`, code.load(buffer, place(line, i))),
        );
        const product = old
          .map((value, n) => code.mul(value, parts[n]!))
          .reduce((sum, term) => code.add(sum, term));
        const share = code.bind(loop, 'share', code.mul(product, factor));
        old.forEach((value, n) => {
          const less = code.sub(value, code.mul(share, parts[n]!));
          loop.push(code.store(buffer, place(lines[n]!, i), less));
        });
      },
      { vector: vectorized },
    );
  const row = (line: Expression, i: Expression): Expression => code.place(line, size, i);
  const column = (line: Expression, i: Expression): Expression => code.place(i, size, line);
  inner.push(...apply(w.h, row, true), ...apply(w.h, column, false), ...apply(w.q, row, true));
  body.push(code.when(code.compare('gt', most, 0), inner));
  return body;
}

/** One double-shift step on the lines from `low` to `high`, at least three. */
function francisStep(
  w: Working,
  [low, high, tries]: readonly [Expression, Expression, Expression],
): Statement[] {
  const { code, size } = w;
  const { builder } = code;
  const into: Statement[] = [];
  const before = code.bind(into, 'before', builder.offset(high, -1));
  const bind = (name: string, i: Index, j: Index): Variable => code.bind(into, name, at(w, i, j));
  const [a, b] = [bind('a', before, before), bind('b', before, high)];
  const [c, d] = [bind('c', high, before), bind('d', high, high)];
  // Now and then a shift of another kind, in case the usual ones turn in a circle.
  const odd = builder.compare('eq', builder.rem(tries, code.index(10)), code.index(9));
  const beside = code.abs(at(w, before, builder.offset(before, -1)));
  const width = code.bind(into, 'width', code.add(code.abs(c), beside));
  const trace = code.bind(
    into,
    'trace',
    code.select(odd, code.mul(code.number(1.5), width), code.add(a, d)),
  );
  const determinant = code.bind(
    into,
    'determinant',
    code.select(odd, code.mul(width, width), code.sub(code.mul(a, d), code.mul(b, c))),
  );
  const one = code.bind(into, 'one', builder.offset(low, 1));
  const two = builder.offset(low, 2);
  const [e, f] = [bind('e', low, low), bind('f', low, one)];
  const [g, i, j] = [bind('g', one, low), bind('i', one, one), bind('j', two, one)];
  const square = code.sub(code.multiplyAdd(e, e, code.mul(f, g)), code.mul(trace, e));
  const x = code.declare(into, 'x', code.add(square, determinant));
  const y = code.declare(into, 'y', code.mul(g, code.sub(code.add(e, i), trace)));
  const z = code.declare(into, 'z', code.mul(g, j));
  const zero = code.number(0);
  into.push(
    ...code.range('k', [low, before, size], (k, body) => {
      body.push(...reflect(w, k, [x, y, z]));
      const left = builder.offset(k, -1);
      body.push(
        code.when(builder.compare('gt', k, low), [
          put(w, builder.offset(k, 1), left, zero),
          put(w, builder.offset(k, 2), left, zero),
        ]),
        code.set(x, at(w, builder.offset(k, 1), k)),
        code.set(y, at(w, builder.offset(k, 2), k)),
        code.set(z, zero),
        code.when(builder.compare('lt', builder.offset(k, 2), high), [
          code.set(z, at(w, builder.offset(k, 3), k)),
        ]),
      );
    }),
    annihilate(w, [before, high], [x, y], []),
    put(w, high, builder.offset(before, -1), zero),
  );
  return into;
}

/** The block of two lines that ends at `high`: made triangular if its eigenvalues are real. */
function splitBlock(w: Working, high: Expression): Statement[] {
  const { code } = w;
  const into: Statement[] = [];
  const before = code.bind(into, 'before', code.builder.offset(high, -1));
  const bind = (name: string, i: Index, j: Index): Variable => code.bind(into, name, at(w, i, j));
  const [a, b] = [bind('a', before, before), bind('b', before, high)];
  const [c, d] = [bind('c', high, before), bind('d', high, high)];
  const p = code.bind(into, 'p', code.mul(code.number(0.5), code.sub(a, d)));
  const discriminant = code.bind(into, 'under', code.multiplyAdd(p, p, code.mul(b, c)));
  const root = code.bind(into, 'root', code.sqrt(code.abs(discriminant)));
  const signed = code.select(code.compare('lt', p, 0), code.neg(root), root);
  const triangular: Statement[] = [];
  const z = code.bind(triangular, 'z', code.add(p, signed));
  triangular.push(
    annihilate(w, [before, high], [z, c], [put(w, high, before, code.number(0))]),
    code.store(w.real, before, at(w, before, before)),
    code.store(w.real, high, at(w, high, high)),
    code.store(w.imaginary, before, code.number(0)),
    code.store(w.imaginary, high, code.number(0)),
  );
  const middle = code.add(d, p);
  const pair = [
    code.store(w.real, before, middle),
    code.store(w.real, high, middle),
    code.store(w.imaginary, before, root),
    code.store(w.imaginary, high, code.neg(root)),
  ];
  into.push(code.when(code.compare('ge', discriminant, 0), triangular, pair));
  return into;
}

/** The Schur form, eigenvalue by eigenvalue from the end. `last` ends below 0 if all were found. */
function toSchur(w: Working, into: Statement[], last: Variable, norm: Expression): void {
  const { code, size } = w;
  const { builder } = code;
  const tries = code.declare(into, 'tries', code.index(0));
  const low = code.declare(into, 'low', code.index(0));
  const epsilon = code.number(code.epsilon);
  into.push(
    ...code.range('step', [0, STEPS * size, STEPS * size], (_step, outer) => {
      const body: Statement[] = [code.set(low, code.index(0))];
      body.push(
        ...code.range('i', [1, builder.offset(last, 1), size], (i, loop) => {
          const left = builder.offset(i, -1);
          const around = code.bind(
            loop,
            'around',
            code.add(code.abs(at(w, left, left)), code.abs(at(w, i, i))),
          );
          const beside = code.select(code.compare('eq', around, 0), norm, around);
          const small = code.compare('le', code.abs(at(w, i, left)), code.mul(epsilon, beside));
          loop.push(code.when(small, [put(w, i, left, code.number(0)), code.set(low, i)]));
        }),
      );
      const single = [
        code.store(w.real, last, at(w, last, last)),
        code.store(w.imaginary, last, code.number(0)),
        code.set(last, builder.offset(last, -1)),
        code.set(tries, code.index(0)),
      ];
      const pair = [
        ...splitBlock(w, last),
        code.set(last, builder.offset(last, -2)),
        code.set(tries, code.index(0)),
      ];
      const step = [
        code.set(tries, builder.offset(tries, 1)),
        ...francisStep(w, [low, last, tries]),
      ];
      const left = builder.sub(last, low);
      const isPair = builder.compare('eq', left, code.index(1));
      body.push(
        code.when(builder.compare('eq', left, code.index(0)), single, [
          code.when(isPair, pair, size < 3 ? [] : step),
        ]),
      );
      outer.push(code.when(code.compare('ge', last, 0), body));
    }),
  );
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

/** x in the basis of the matrix, of length 1, its first notable component real and positive. */
function finishVector(
  w: Working,
  x: Vector,
  vectors: Vector,
  row: Expression,
  end: Expression,
): Statement[] {
  const { code, size, q } = w;
  const { builder } = code;
  const into: Statement[] = [];
  const place = (i: Index): Expression => code.place(row, size, i);
  const sumUp = (from: Buffer, to: Buffer): Statement[] => [
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
  into.push(...sumUp(x.re, vectors.re), ...sumUp(x.im, vectors.im));
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
function findVectors(w: Working, into: Statement[], norm: Expression): Vector {
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

/** Eigenvalues, their real parts and then the imaginary ones, and eigenvectors as columns, likewise. */
export function lowerGeneralEigen(context: KernelContext, node: Node): KernelBody {
  const size = node.inputs[0]!.shape.at(-1)!;
  return overMatrices(context, node.dtype, node.shape.slice(0, -1), (code, batch) => {
    const square = size * size;
    const w: Working = {
      code,
      size,
      h: code.array('matrix', square),
      q: code.array('basis', square),
      real: code.array('real', size),
      imaginary: code.array('imaginary', size),
    };
    const into: Statement[] = code.fill(w.h, [size, size], (i, j) =>
      context.read(0, [...batch, i, j]),
    );
    const largest = code.largest(into, w.h, square);
    const scale = code.scaleFor(largest);
    const down = code.bind(into, 'down', scale.down);
    const up = code.bind(into, 'up', scale.up);
    const norm = code.bind(into, 'norm', code.mul(largest, down));
    // NaN of matrices that are not finite, on which nothing else is tried.
    const poison = code.declare(into, 'poison', code.sub(largest, largest));
    const isFinite = code.compare('eq', poison, 0);
    const last = code.declare(
      into,
      'last',
      code.select(isFinite, code.index(size - 1), code.index(-1)),
    );
    into.push(
      ...code.fill(w.h, [1, square], (_, i) => code.mul(code.load(w.h, i), down)),
      ...identityInto(code, w.q, size),
      ...code.range('i', [0, size, size], (i, body) => {
        body.push(
          code.store(w.real, i, code.number(0)),
          code.store(w.imaginary, i, code.number(0)),
        );
      }),
    );
    toHessenberg(w, into);
    toSchur(w, into, last, norm);
    into.push(code.when(code.compare('ge', last, 0), [code.set(poison, code.number(NaN))]));
    const vectors = findVectors(w, into, norm);
    const order = orderedPlaces(code, into, size, (i) => code.load(w.real, i));
    const from = (i: Expression, body: Statement[]): Expression =>
      code.bind(body, 'from', code.load(order, i));
    const values = (buffer: Buffer) => (_: Expression, i: Expression, body: Statement[]) =>
      code.add(code.mul(code.load(buffer, from(i, body)), up), poison);
    const columns = (buffer: Buffer) => (i: Expression, j: Expression, body: Statement[]) => {
      const row = code.builder.mul(from(j, body), code.index(size));
      return code.add(code.load(buffer, code.builder.add(row, i)), poison);
    };
    into.push(
      ...code.give(batch, 0, [1, size], values(w.real)),
      ...code.give(batch, size, [1, size], values(w.imaginary)),
      ...code.give(batch, 2 * size, [size, size], columns(vectors.re)),
      ...code.give(batch, 2 * size + square, [size, size], columns(vectors.im)),
    );
    return into;
  });
}
