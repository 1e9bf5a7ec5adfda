// Functions against float64: errors in units of the last place, and what happens at the edges.
import { describe, expect, it } from 'vitest';
import type { BinaryOp, Expression, MathUnary } from '../../src/ir/expression.ts';
import { randomNumbers } from './random.ts';
import { digamma, erf, erfc, erfinv, lgamma } from './reference.ts';
import { evaluate, targetOf, ulp32 } from './support.ts';

const SAMPLES = 2000;

/** Where to sample: evenly, or evenly in the logarithm. */
type Range = readonly [from: number, to: number, scale?: 'log'];

function samples([from, to, scale]: Range, seed: number): number[] {
  const random = randomNumbers(seed);
  return Array.from({ length: SAMPLES }, (_, i) => {
    const t = (i + random()) / SAMPLES;
    if (scale !== 'log') return from + (to - from) * t;
    const sign = Math.sign(to);
    return sign * Math.exp(Math.log(Math.abs(from)) * (1 - t) + Math.log(Math.abs(to)) * t);
  });
}

interface Case {
  readonly op: MathUnary;
  readonly exact: (x: number) => number;
  readonly ranges: readonly Range[];
  /** Largest error in ulp, 2 if not said otherwise. */
  readonly bound?: number;
  /** Whether the error counts relative to max(1, |value|). */
  readonly absolute?: boolean;
}

const logistic = (x: number): number => 1 / (1 + Math.exp(-x));
const TINY: readonly Range[] = [
  [1e-44, 1e-3, 'log'],
  [-1e-3, -1e-44, 'log'],
];

const CASES: readonly Case[] = [
  {
    op: 'exp',
    exact: Math.exp,
    ranges: [
      [-104, 89],
      [-1, 1],
    ],
  },
  {
    op: 'exp2',
    exact: (x) => 2 ** x,
    ranges: [
      [-150, 128],
      [-1, 1],
    ],
  },
  { op: 'expm1', exact: Math.expm1, ranges: [[-20, 89], [-2, 2], ...TINY] },
  {
    op: 'log',
    exact: Math.log,
    ranges: [
      [1e-45, 3e38, 'log'],
      [0.3, 3],
    ],
  },
  {
    op: 'log2',
    exact: Math.log2,
    ranges: [
      [1e-45, 3e38, 'log'],
      [0.3, 3],
    ],
  },
  {
    op: 'log10',
    exact: Math.log10,
    ranges: [
      [1e-45, 3e38, 'log'],
      [0.3, 3],
    ],
  },
  { op: 'log1p', exact: Math.log1p, ranges: [[-1, 4], [1, 3e38, 'log'], ...TINY] },
  { op: 'sin', exact: Math.sin, ranges: [[-10, 10], [-1e5, 1e5], [-4194304, 4194304], ...TINY] },
  {
    op: 'cos',
    exact: Math.cos,
    ranges: [
      [-10, 10],
      [-1e5, 1e5],
      [-4194304, 4194304],
    ],
  },
  { op: 'tan', exact: Math.tan, ranges: [[-10, 10], [-1e5, 1e5], [-4194304, 4194304], ...TINY] },
  { op: 'asin', exact: Math.asin, ranges: [[-1, 1], [0.99, 1], ...TINY] },
  {
    op: 'acos',
    exact: Math.acos,
    ranges: [
      [-1, 1],
      [0.99, 1],
    ],
  },
  { op: 'atan', exact: Math.atan, ranges: [[-5, 5], [1, 1e30, 'log'], ...TINY] },
  { op: 'sinh', exact: Math.sinh, ranges: [[-89.4, 89.4], [-2, 2], ...TINY] },
  {
    op: 'cosh',
    exact: Math.cosh,
    ranges: [
      [-89.4, 89.4],
      [-2, 2],
    ],
  },
  { op: 'tanh', exact: Math.tanh, ranges: [[-10, 10], [-1, 1], ...TINY] },
  { op: 'asinh', exact: Math.asinh, ranges: [[-5, 5], [1, 3e38, 'log'], ...TINY] },
  {
    op: 'acosh',
    exact: Math.acosh,
    ranges: [
      [1, 5],
      [1, 3e38, 'log'],
    ],
  },
  { op: 'atanh', exact: Math.atanh, ranges: [[-1, 1], ...TINY] },
  {
    op: 'sigmoid',
    exact: logistic,
    ranges: [
      [-103, 20],
      [-5, 5],
    ],
  },
  { op: 'erf', exact: erf, ranges: [[-4.2, 4.2], ...TINY] },
  {
    op: 'erfc',
    exact: erfc,
    ranges: [
      [-4, 10],
      [-1, 1],
    ],
  },
  {
    op: 'erfinv',
    exact: erfinv,
    ranges: [
      [-1, 1],
      [0.999, 1],
    ],
    bound: 4,
  },
  {
    op: 'lgamma',
    exact: lgamma,
    ranges: [
      [0, 10],
      [10, 1000],
      [-6, 0],
    ],
    bound: 8,
    absolute: true,
  },
  {
    op: 'digamma',
    exact: digamma,
    ranges: [
      [0, 10],
      [10, 1000],
      [-6, 0],
    ],
    bound: 8,
    absolute: true,
  },
];

function worst(
  got: ArrayLike<number>,
  want: readonly number[],
  unit: (value: number) => number,
  input: (i: number) => unknown,
): { readonly error: number; readonly at: string } {
  let error = 0;
  let at = '';
  want.forEach((value, i) => {
    if (Object.is(Math.fround(value), got[i]) || value === got[i]) return;
    const distance = Math.abs((got[i] ?? NaN) - value) / unit(value);
    if (distance <= error) return;
    error = Number.isNaN(distance) ? Infinity : distance;
    at = `${String(input(i))}: ${got[i]}, not ${value}`;
  });
  return { error, at };
}

describe.each([
  ['with fma', true],
  ['without fma', false],
])('float32 %s', (_, fma) => {
  it.each(CASES)('$op', ({ op, exact, ranges, bound = 2, absolute }) => {
    for (const [n, range] of ranges.entries()) {
      const input = Float32Array.from(samples(range, n + 1));
      const got = evaluate(
        [input],
        'float32',
        (b, [x]) => b.unary(op, x as Expression),
        targetOf(4, fma),
      );
      const unit = (value: number): number =>
        ulp32(absolute === true ? Math.max(1, Math.abs(value)) : value);
      const { error, at } = worst(got, Array.from(input, exact), unit, (i) => input[i]);
      expect(error, at).toBeLessThanOrEqual(bound);
    }
  });

  const pairs: readonly [BinaryOp, (x: number, y: number) => number, Range, Range][] = [
    ['pow', Math.pow, [0, 10], [0.1, 30, 'log']],
    ['pow', Math.pow, [0.9, 1.1], [1, 500, 'log']],
    ['pow', Math.pow, [1e-45, 1e-38, 'log'], [-1, 1]],
    ['atan2', Math.atan2, [-3, 3], [0.01, 10, 'log']],
    ['atan2', Math.atan2, [1e-30, 1e30, 'log'], [-1e-30, -1e30, 'log']],
    ['fmod', (x, y) => x % y, [-100, 100], [0.001, 10, 'log']],
    ['fmod', (x, y) => x % y, [1e-45, 3e38, 'log'], [1e-45, 3e38, 'log']],
  ];
  it.each(pairs)('%s, case %#', (op, exact, first, second) => {
    const x = Float32Array.from(samples(first, 1));
    const y = Float32Array.from(samples(second, 2).toSorted((a, b) => Math.sin(a) - Math.sin(b)));
    const make: Parameters<typeof evaluate>[2] = (b, [p, q]) =>
      b.binary(op, p as Expression, q as Expression);
    const got = evaluate([x, y], 'float32', make, targetOf(4, fma));
    const want = Array.from(x, (value, i) => exact(value, y[i] ?? NaN));
    const { error, at } = worst(got, want, ulp32, (i) => `${x[i]}, ${y[i]}`);
    expect(error, at).toBeLessThanOrEqual(op === 'fmod' ? 0 : 2);
  });

  it('does not lie about angles it cannot reduce', () => {
    const input = Float32Array.of(4194305, -1e8, 3e38, Infinity);
    for (const op of ['sin', 'cos', 'tan'] as const) {
      const got = evaluate(
        [input],
        'float32',
        (b, [x]) => b.unary(op, x as Expression),
        targetOf(4, fma),
      );
      expect([...got]).toEqual([NaN, NaN, NaN, NaN]);
    }
  });
});

describe('float64', () => {
  const scale: Partial<Record<MathUnary, number>> = { lgamma: 1e-13, digamma: 2e-14 };
  it.each(CASES)('$op', ({ op, exact, ranges, absolute }) => {
    for (const [n, range] of ranges.entries()) {
      const input = Float64Array.from(samples(range, n + 1).slice(0, 500));
      const got = evaluate([input], 'float64', (b, [x]) => b.unary(op, x as Expression));
      const unit = (value: number): number =>
        absolute === true ? Math.max(1, Math.abs(value)) : Math.abs(value);
      const { error, at } = worst(got, Array.from(input, exact), unit, (i) => input[i]);
      expect(error, at).toBeLessThanOrEqual(scale[op] ?? 1e-14);
    }
  });

  it('pow and fmod', () => {
    const x = Float64Array.from(samples([1e-10, 1e10, 'log'], 1).slice(0, 500));
    const y = Float64Array.from(samples([-20, 20], 2).slice(0, 500).toReversed());
    const power = evaluate([x, y], 'float64', (b, [p, q]) =>
      b.binary('pow', p as Expression, q as Expression),
    );
    const relative = worst(
      power,
      Array.from(x, (v, i) => v ** (y[i] ?? 0)),
      Math.abs,
      (i) => x[i],
    );
    expect(relative.error, relative.at).toBeLessThanOrEqual(1e-14);
    const rest = evaluate([x, y], 'float64', (b, [p, q]) =>
      b.binary('fmod', p as Expression, q as Expression),
    );
    expect([...rest]).toEqual(Array.from(x, (v, i) => v % (y[i] ?? 0)));
  });
});

describe('edges', () => {
  const POINTS = [0, -0, Infinity, -Infinity, NaN, 1, -1, 1e-40, 3e38];
  // In the order of POINTS: C's answers, and limits where C has none.
  const EDGES: Partial<Record<MathUnary, readonly number[]>> = {
    exp: [1, 1, Infinity, 0, NaN, Math.E, 1 / Math.E, 1, Infinity],
    expm1: [0, -0, Infinity, -1, NaN, Math.E - 1, 1 / Math.E - 1, 1e-40, Infinity],
    log: [-Infinity, -Infinity, Infinity, NaN, NaN, 0, NaN, Math.log(1e-40), Math.log(3e38)],
    log1p: [0, -0, Infinity, NaN, NaN, Math.LN2, -Infinity, 1e-40, Math.log(3e38)],
    tanh: [0, -0, 1, -1, NaN, Math.tanh(1), -Math.tanh(1), 1e-40, 1],
    sigmoid: [0.5, 0.5, 1, 0, NaN, logistic(1), logistic(-1), 0.5, 1],
    erf: [0, -0, 1, -1, NaN, erf(1), -erf(1), erf(1e-40), 1],
    erfc: [1, 1, 0, 2, NaN, erfc(1), 2 - erfc(1), 1, 0],
    atan: [0, -0, Math.PI / 2, -Math.PI / 2, NaN, Math.PI / 4, -Math.PI / 4, 1e-40, Math.PI / 2],
    asinh: [
      0,
      -0,
      Infinity,
      -Infinity,
      NaN,
      Math.asinh(1),
      -Math.asinh(1),
      1e-40,
      Math.asinh(3e38),
    ],
    acosh: [NaN, NaN, Infinity, NaN, NaN, 0, NaN, NaN, Math.acosh(3e38)],
    atanh: [0, -0, NaN, NaN, NaN, Infinity, -Infinity, 1e-40, NaN],
    erfinv: [0, -0, NaN, NaN, NaN, Infinity, -Infinity, erfinv(1e-40), NaN],
    lgamma: [Infinity, Infinity, Infinity, Infinity, NaN, 0, Infinity, Math.log(1e40), Infinity],
  };

  it.each(Object.entries(EDGES))('%s', (op, want) => {
    const got = evaluate([Float32Array.from(POINTS)], 'float32', (b, [x]) =>
      b.unary(op as MathUnary, x as Expression),
    );
    POINTS.forEach((point, i) => {
      const expected = Math.fround(want[i] ?? NaN);
      const near = Math.abs((got[i] ?? NaN) - expected) <= 2 * ulp32(expected);
      const same = Object.is(expected, got[i]) || (near && expected !== 0);
      expect(same, `${op}(${point}) is ${got[i]}, not ${expected}`).toBe(true);
    });
  });

  it.each([
    [
      'pow',
      (x: number, y: number) => (x === 1 || (x === -1 && Math.abs(y) === Infinity) ? 1 : x ** y),
    ],
    ['atan2', Math.atan2],
    ['fmod', (x: number, y: number) => x % y],
  ] as const)('%s of every pair', (op, exact) => {
    const values = [0, -0, 1, -1, 0.5, -0.5, 2, 3, -3, Infinity, -Infinity, NaN];
    const x = values.flatMap((value) => values.map(() => value));
    const y = values.flatMap(() => values);
    for (const make of [Float32Array, Float64Array]) {
      const dtype = make === Float32Array ? 'float32' : 'float64';
      const got = evaluate([make.from(x), make.from(y)], dtype, (b, [p, q]) =>
        b.binary(op, p as Expression, q as Expression),
      );
      x.forEach((value, i) => {
        const want = exact(value, y[i] ?? NaN);
        const near = Math.abs((got[i] ?? NaN) - want) <= 1e-6 * Math.abs(want);
        const same = Object.is(want, got[i]) || (near && want !== 0);
        expect(same, `${dtype} ${op}(${value}, ${y[i]}) is ${got[i]}, not ${want}`).toBe(true);
      });
    }
  });
});
