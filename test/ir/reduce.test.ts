// Reductions: right, and the same bits whatever the width of the vectors.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newTypedArray, type DType, type TypedArray } from '../../src/base/dtype.ts';
import { Builder } from '../../src/ir/builder.ts';
import { type Expression, valueTypeOf } from '../../src/ir/expression.ts';
import type { Kernel, Statement, Target } from '../../src/ir/kernel.ts';
import { type Accumulator, emitReduction, type Reduction } from '../../src/ir/reduce.ts';
import { randomNumbers } from './random.ts';
import { interpret, targetOf } from './support.ts';

interface Setting {
  readonly dtype: DType;
  readonly rows: number;
  readonly columns: number;
  /** Whether the end of the inner loop is only known when the kernel runs. */
  readonly dynamic?: boolean;
}

/** Reduces a matrix to one number for each accumulator. */
function reduction(
  target: Target,
  { dtype, rows, columns, dynamic }: Setting,
  accumulators: readonly Accumulator[],
  results: readonly DType[],
  steps: (
    builder: Builder,
    element: Expression,
    at: Expression,
  ) => Pick<Reduction, 'step' | 'combine'>,
): Kernel {
  const builder = new Builder();
  const input = builder.buffer('x', dtype, 'read');
  const limit = builder.buffer('n', 'int32', 'read');
  const outputs = results.map((result, n) => builder.buffer(`y${n}`, result, 'write'));
  const gridIndex = builder.variable('g', 'i32', { min: 0, max: 0 });
  const row = builder.variable('r', 'i32', { min: 0, max: rows - 1 });
  const column = builder.variable('c', 'i32', { min: 0, max: columns - 1 });
  const at = builder.add(builder.scale(row, columns), column);
  const end =
    dynamic === true ? builder.load(limit, builder.constant(0)) : builder.constant(columns);
  const { statements, results: values } = emitReduction(builder, target, {
    loops: [
      { index: row, end: builder.constant(rows) },
      { index: column, end },
    ],
    accumulators,
    ...steps(builder, builder.load(input, at), at),
  });
  const stores = outputs.map((buffer, n): Statement => {
    const value = builder.convert(values[n] as Expression, valueTypeOf(buffer.dtype));
    return { kind: 'store', buffer, index: builder.constant(0), value };
  });
  const body = [...statements, ...stores];
  const buffers = [input, limit, ...outputs];
  return { name: 'reduce', buffers, scratch: [], gridIndex, gridSize: 1, body };
}

const sumOf = (type: Accumulator['type']): Accumulator => ({ name: 'sum', type, identity: 0 });

function run(
  setting: Setting,
  input: TypedArray,
  results: readonly DType[],
  make: (target: Target) => Kernel,
  vectorBytes: number,
): number[] {
  const target = targetOf(vectorBytes);
  const outputs = results.map((dtype) => newTypedArray(dtype, 1));
  interpret(make(target), [input, Int32Array.of(setting.columns), ...outputs], target);
  return outputs.map((output) => output[0] ?? NaN);
}

function matrix({ dtype, rows, columns }: Setting, seed: number): TypedArray {
  const random = randomNumbers(seed);
  const array = newTypedArray(dtype, rows * columns);
  for (let i = 0; i < array.length; i++) {
    const value = dtype === 'float32' || dtype === 'float64' ? random() * 4 - 1 : random() * 100;
    array[i] = value;
  }
  return array;
}

/** What 16 lanes make of it, written down again as plainly as can be. */
function laneSum(input: TypedArray, { rows, columns }: Setting): number {
  const lanes = new Float32Array(16);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++)
      lanes[c % 16] = (lanes[c % 16] ?? 0) + (input[r * columns + c] ?? 0);
  }
  for (let half = 8; half >= 1; half /= 2) {
    for (let l = 0; l < half; l++) lanes[l] = (lanes[l] ?? 0) + (lanes[l + half] ?? 0);
  }
  return lanes[0] ?? NaN;
}

const WIDTHS = [4, 16, 32, 64];

describe('emitReduction', () => {
  const settings = fc.record({
    dtype: fc.constant<DType>('float32'),
    rows: fc.integer({ min: 1, max: 3 }),
    columns: fc.integer({ min: 1, max: 70 }),
    dynamic: fc.boolean(),
  });

  it('sums in the documented order, the same at every width', () => {
    fc.assert(
      fc.property(settings, fc.integer(), (setting, seed) => {
        const input = matrix(setting, seed);
        const want = laneSum(input, setting);
        for (const width of WIDTHS) {
          const [sum] = run(
            setting,
            input,
            ['float32'],
            (target) =>
              reduction(target, setting, [sumOf('f32')], ['float32'], (b, x) => ({
                step: ([sum]) => [b.add(sum as Expression, x)],
                combine: ([l], [r]) => [b.add(l as Expression, r as Expression)],
              })),
            width,
          );
          expect(sum).toBe(want);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('keeps several accumulators: the largest element and where it first is', () => {
    fc.assert(
      fc.property(settings, fc.integer(), (setting, seed) => {
        const input = Float32Array.from(matrix(setting, seed), (value) => Math.round(value * 8));
        const best = input.reduce((most, value) => Math.max(most, value), -Infinity);
        const accumulators: Accumulator[] = [
          { name: 'best', type: 'f32', identity: -Infinity },
          { name: 'at', type: 'i32', identity: 2147483647 },
        ];
        for (const width of WIDTHS) {
          const make = (target: Target): Kernel =>
            reduction(target, setting, accumulators, ['float32', 'int32'], (b, x, at) => {
              const choose = (left: readonly Expression[], right: readonly Expression[]) => {
                const [a, i, c, j] = [...left, ...right] as [
                  Expression,
                  Expression,
                  Expression,
                  Expression,
                ];
                const tie = b.and(b.compare('eq', c, a), b.compare('lt', j, i));
                const better = b.or(b.compare('gt', c, a), tie);
                return [b.select(better, c, a), b.select(better, j, i)];
              };
              return { step: (old) => choose(old, [x, at]), combine: choose };
            });
          const result = run(setting, input, ['float32', 'int32'], make, width);
          expect(result).toEqual([best, input.indexOf(best)]);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('takes every register type: doubles, integers, bools, and doubles with integers', () => {
    const setting: Setting = { dtype: 'float64', rows: 2, columns: 37 };
    const input = matrix(setting, 7);
    const exact = [...input].reduce((sum, value) => sum + value, 0);
    const count = [...input].filter((value) => value > 1).length;
    const accumulators: Accumulator[] = [
      sumOf('f64'),
      { name: 'count', type: 'i32', identity: 0 },
      { name: 'any', type: 'bool', identity: 0 },
    ];
    for (const width of WIDTHS) {
      const make = (target: Target): Kernel =>
        reduction(target, setting, accumulators, ['float64', 'int32', 'bool'], (b, x) => ({
          step: ([sum, n, any]) => {
            const large = b.compare('gt', x, b.constant(1, 'f64'));
            return [
              b.add(sum as Expression, x),
              b.add(n as Expression, b.convert(large, 'i32')),
              b.or(any as Expression, large),
            ];
          },
          combine: ([s, n, a], [t, m, c]) => [
            b.add(s as Expression, t as Expression),
            b.add(n as Expression, m as Expression),
            b.or(a as Expression, c as Expression),
          ],
        }));
      const [sum, n, any] = run(setting, input, ['float64', 'int32', 'bool'], make, width);
      expect(sum).toBeCloseTo(exact, 10);
      expect([n, any]).toEqual([count, 1]);
    }
  });

  it('uses vectors of doubles where everything is double', () => {
    const setting: Setting = { dtype: 'float64', rows: 1, columns: 40 };
    const input = matrix(setting, 3);
    const make = (target: Target): Kernel =>
      reduction(target, setting, [sumOf('f64')], ['float64'], (b, x) => ({
        step: ([sum]) => [b.add(sum as Expression, x)],
        combine: ([l], [r]) => [b.add(l as Expression, r as Expression)],
      }));
    const sums = WIDTHS.map((width) => run(setting, input, ['float64'], make, width)[0]);
    expect(new Set(sums).size).toBe(1);
    const body = make(targetOf(64)).body;
    expect(body.some((s) => s.kind === 'declare' && s.variable.lanes === 8)).toBe(true);
  });
});
