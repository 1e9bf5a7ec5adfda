// Simplification of index arithmetic and of values must never change a value.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import { foldBinary } from '../../src/ir/fold.ts';
import { linearForm } from '../../src/ir/linear.ts';
import { printExpression } from '../../src/ir/print.ts';
import { substitute } from '../../src/ir/rewrite.ts';
import { randomNumbers } from './random.ts';

const OPS = ['add', 'sub', 'mul', 'div', 'rem', 'min', 'max'] as const;
const COMPARE = ['lt', 'le', 'eq', 'ne', 'gt', 'ge'] as const;

/** A random expression of three bounded variables, and how to evaluate it without the builder. */
class RandomIndex {
  readonly builder = new Builder();
  readonly variables = [5, 31, 1].map((max, n) =>
    this.builder.variable(`v${n}`, 'i32', { min: n === 1 ? -3 : 0, max }),
  );
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomNumbers(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  make(depth: number): { expression: Expression; evaluate: (values: readonly number[]) => number } {
    if (depth === 0 || this.#random() < 0.15) {
      if (this.#random() < 0.4) {
        const value = this.below(17) - 4;
        return { expression: this.builder.constant(value), evaluate: () => value };
      }
      const which = this.below(3);
      const expression = this.variables[which] as Expression;
      return { expression, evaluate: (values) => values[which] ?? 0 };
    }
    const left = this.make(depth - 1);
    const right = this.make(depth - 1);
    if (this.#random() < 0.15) {
      const op = COMPARE[this.below(COMPARE.length)] ?? 'lt';
      const { builder } = this;
      const condition = builder.compare(op, left.expression, right.expression);
      return {
        expression: builder.select(condition, left.expression, right.expression),
        evaluate: (values) => {
          const [a, b] = [left.evaluate(values), right.evaluate(values)];
          return foldBinary(op, a, b, 'i32') === 1 ? a : b;
        },
      };
    }
    const op = OPS[this.below(OPS.length)] ?? 'add';
    const divides = op === 'div' || op === 'rem';
    const divisor = 1 + this.below(12);
    const other = divides
      ? { expression: this.builder.constant(divisor), evaluate: () => divisor }
      : right;
    return {
      expression: this.builder.binary(op, left.expression, other.expression),
      evaluate: (values) =>
        foldBinary(op, left.evaluate(values), other.evaluate(values), 'i32') ?? 0,
    };
  }
}

describe('index arithmetic', () => {
  it('has the value it had before simplification, within the bounds it claims', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const random = new RandomIndex(seed);
        const { expression, evaluate } = random.make(5);
        for (let round = 0; round < 10; round++) {
          const values = random.variables.map(({ min, max }) => min + random.below(max - min + 1));
          const known = new Map<Expression, Expression>(
            random.variables.map((variable, n) => [
              variable,
              random.builder.constant(values[n] ?? 0),
            ]),
          );
          const result = substitute(random.builder, expression, known);
          const text = `${printExpression(expression)} at ${values.join(', ')}`;
          expect(result.kind === 'constant' ? result.value : NaN, text).toBe(evaluate(values));
          const value = evaluate(values);
          expect(value >= expression.min && value <= expression.max, text).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('keeps one normal form of sums', () => {
    const b = new Builder();
    const [i, j] = [b.variable('i'), b.variable('j')];
    const one = b.add(b.scale(b.add(i, j), 4), b.offset(i, 3));
    const other = b.add(b.offset(b.scale(j, 4), 3), b.scale(i, 5));
    expect(one).toBe(other);
    expect([...linearForm(one).terms.values()]).toEqual([5, 4]);
  });

  it('divides what it knows to be a multiple', () => {
    const b = new Builder();
    const i = b.variable('i', 'i32', { min: 0, max: 9 });
    const j = b.variable('j', 'i32', { min: 0, max: 7 });
    const flat = b.add(b.scale(i, 8), j);
    expect(b.div(flat, b.constant(8))).toBe(i);
    expect(b.rem(flat, b.constant(8))).toBe(j);
    expect(b.compare('lt', flat, b.constant(80))).toBe(b.constant(1, 'bool'));
  });
});

describe('values', () => {
  it('keep NaN, infinities and signed zeros', () => {
    const b = new Builder();
    const v = b.variable('v', 'f32');
    const zero = b.constant(0, 'f32');
    // x + 0 is not x for x = -0, and 0 x is not 0 for infinities: neither may be simplified.
    expect(b.add(v, zero)).not.toBe(v);
    expect(b.mul(v, zero)).not.toBe(zero);
    expect(b.compare('eq', v, v).kind).toBe('binary');
    expect(b.sub(v, zero)).toBe(v);
    expect(b.mul(v, b.constant(1, 'f32'))).toBe(v);
    expect(b.constant(-0, 'f32')).not.toBe(zero);
  });

  it('wrap between integers and saturate from floats', () => {
    const b = new Builder();
    expect(b.convert(b.constant(-1), 'u32')).toBe(b.constant(4294967295, 'u32'));
    expect(b.convert(b.constant(1e20, 'f32'), 'i32')).toBe(b.constant(2147483647));
    expect(b.convert(b.constant(NaN, 'f32'), 'i32')).toBe(b.constant(0));
  });
});
