// The kernel of generalEigen: Hessenberg form and Francis's double-shift QR to the real Schur form (Golub
// and Van Loan, Matrix Computations, 7.4 and 7.5). Conjugate pairs are blocks of two on the diagonal, so
// that they come out exactly conjugate, and real numbers exactly real.
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { at, findVectors, type Index, type Working } from './general-eigen-vectors.ts';
import { overMatrices } from './matrix-kernel.ts';
import { identityInto, orderedPlaces } from './symmetric-eigen.ts';

/** Steps for each eigenvalue; two or three are usual. */
const STEPS = 40;

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
