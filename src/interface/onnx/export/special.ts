// erfc, erfinv, log gamma and digamma in float32, by the polynomials that the kernels use (see
// src/ir/math/special.ts) without their compensated sums: some last digits are lost far out.
import { ERF_SMALL, ERFCX, ERFINV_CENTRAL, ERFINV_TAIL, LGAMMA } from '../../../ir/math/special.ts';
import { type Conversion, type Conversions, convert } from './conversion.ts';
import { type GraphWriter, NotExportable } from './writer.ts';

type Value = string | number;

/** Arithmetic of one float dtype. */
class Arithmetic {
  readonly #writer: GraphWriter;

  constructor(writer: GraphWriter) {
    this.#writer = writer;
  }

  c(value: Value): string {
    if (typeof value === 'string') return value;
    return this.#writer.number(Math.fround(value), 'float32');
  }
  node(opType: string, ...values: Value[]): string {
    return this.#writer.add(
      opType,
      values.map((value) => this.c(value)),
    );
  }
  add = (a: Value, b: Value): string => this.node('Add', a, b);
  sub = (a: Value, b: Value): string => this.node('Sub', a, b);
  mul = (a: Value, b: Value): string => this.node('Mul', a, b);
  div = (a: Value, b: Value): string => this.node('Div', a, b);
  less = (a: Value, b: Value): string => this.node('Less', a, b);
  equal = (a: Value, b: Value): string => this.node('Equal', a, b);
  select = (condition: string, yes: Value, no: Value): string =>
    this.node('Where', condition, yes, no);

  /** The polynomial with these coefficients, the constant first. */
  polynomial(x: Value, coefficients: readonly number[]): string {
    const [last = 0, ...others] = coefficients.toReversed();
    return others.reduce<string>((sum, c) => this.add(this.mul(sum, x), c), this.c(last));
  }
  /** Distance to the nearest integer, with its sign. */
  fraction = (x: Value): string => this.sub(x, this.node('Round', x));
}

function ofFloat32(write: (m: Arithmetic, x: string) => string): Conversion {
  return convert({}, ({ writer, node, inputs }) => {
    if (node.dtype !== 'float32') {
      throw new NotExportable(`ONNX has no such function, and ours is for float32 only`);
    }
    return write(new Arithmetic(writer), inputs[0] as string);
  });
}

function erfc(m: Arithmetic, x: string): string {
  const magnitude = m.node('Min', m.node('Abs', x), 10.5);
  const q = m.div(m.sub(magnitude, 4), m.add(magnitude, 4));
  const scaled = m.div(m.polynomial(q, ERFCX), m.add(m.mul(magnitude, 2), 1));
  const value = m.mul(m.node('Exp', m.node('Neg', m.mul(magnitude, magnitude))), scaled);
  const tail = m.select(m.less(x, 0), m.sub(2, value), value);
  const central = m.sub(m.sub(1, x), m.mul(x, m.polynomial(m.mul(x, x), ERF_SMALL)));
  const result = m.select(m.less(m.node('Abs', x), 0.75), central, tail);
  return m.select(m.node('IsNaN', x), x, result);
}

function erfinv(m: Arithmetic, x: string): string {
  const w = m.node('Neg', m.node('Log', m.mul(m.sub(1, x), m.add(x, 1))));
  const central = m.polynomial(m.sub(w, 2.5), ERFINV_CENTRAL);
  const outer = m.polynomial(m.sub(m.node('Sqrt', w), 3), ERFINV_TAIL);
  const value = m.mul(x, m.select(m.less(5, w), outer, central));
  return m.select(m.equal(m.node('Abs', x), 1), m.mul(x, Infinity), value);
}

function lgamma(m: Arithmetic, given: string): string {
  const x = m.node('Abs', given);
  const large = m.less(8, x);
  let product = m.c(1);
  let t = x;
  for (let step = 0; step < 2; step++) {
    const low = m.less(t, 1.5);
    product = m.select(low, m.mul(product, t), product);
    t = m.select(low, m.add(t, 1), t);
  }
  const raised = m.less(x, 1.5);
  for (let step = 0; step < 6; step++) {
    const high = m.less(2.5, t);
    t = m.select(high, m.sub(t, 1), t);
    product = m.select(high, m.mul(product, t), product);
  }
  const logarithm = m.node('Log', m.select(large, x, product));
  // t - 2 without what rounding t lost.
  const below = m.select(m.less(x, 0.5), x, m.sub(x, 1));
  const offset = m.select(raised, below, m.sub(t, 2));
  const base = m.mul(offset, m.polynomial(offset, LGAMMA));
  const moved = m.add(base, m.select(raised, m.node('Neg', logarithm), logarithm));
  const inverse = m.div(1, x);
  const series = m.polynomial(m.mul(inverse, inverse), [1 / 12, -1 / 360, 1 / 1260]);
  const correction = m.add(m.mul(inverse, series), Math.log(2 * Math.PI) / 2 - 0.5);
  const stirling = m.add(m.mul(m.sub(x, 0.5), m.sub(logarithm, 1)), correction);
  const finite = m.select(large, stirling, moved);
  const positive = m.select(m.equal(x, Infinity), Infinity, finite);
  const sine = m.node('Abs', m.node('Sin', m.mul(m.fraction(x), Math.PI)));
  const around = m.node('Log', m.mul(x, sine));
  const reflected = m.sub(m.sub(Math.log(Math.PI), around), positive);
  const pole = m.select(m.equal(sine, 0), Infinity, reflected);
  const reflects = m.node('And', m.less(given, 0), m.less(-Infinity, given));
  return m.select(reflects, pole, positive);
}

function digamma(m: Arithmetic, given: string): string {
  const negative = m.less(given, 0);
  const x = m.select(negative, m.sub(1, given), given);
  // 1/(x + 1) + 1/(x + 2) + ... = (product)' / product
  let product = m.add(x, 1);
  let derivative = m.c(1);
  for (let step = 2; step < 6; step++) {
    const next = m.add(x, step);
    derivative = m.add(m.mul(derivative, next), product);
    product = m.mul(product, next);
  }
  const small = m.less(x, 6);
  const z = m.select(small, m.add(x, 6), x);
  const fractions = m.add(m.div(derivative, product), m.div(1, x));
  const inverse = m.div(1, z);
  const square = m.mul(inverse, inverse);
  const series = m.mul(square, m.polynomial(square, [1 / 12, -1 / 120, 1 / 252, -1 / 240]));
  const asymptotic = m.sub(m.sub(m.node('Log', z), m.mul(inverse, 0.5)), series);
  const positive = m.sub(asymptotic, m.select(small, fractions, 0));
  const part = m.fraction(given);
  const cotangent = m.div(Math.PI, m.node('Tan', m.mul(part, Math.PI)));
  const reflected = m.select(m.equal(part, 0), NaN, m.sub(positive, cotangent));
  const pole = m.node('Neg', m.div(1, given));
  return m.select(m.equal(given, 0), pole, m.select(negative, reflected, positive));
}

export const SPECIAL: Conversions = {
  erfc: ofFloat32(erfc),
  erfinv: ofFloat32(erfinv),
  lgamma: ofFloat32(lgamma),
  digamma: ofFloat32(digamma),
};
