// What fit.ts fits: each entry is one polynomial of src/ir/math. Targets are arranged so that they
// can be evaluated in float64 without cancellation.

export interface Fit {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly powers: readonly number[];
  readonly target: (x: number) => number;
  /** The error is measured as (polynomial - target) * weight. */
  readonly weight: (x: number) => number;
  readonly given?: readonly (number | undefined)[];
}

const range = (from: number, to: number, step = 1): number[] =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step);

/** Sum of `term(k)` until it no longer changes. */
function series(term: (k: number) => number, from = 0): number {
  let sum = 0;
  for (let k = from; k < from + 400; k++) {
    const next = sum + term(k);
    if (next === sum && k > from + 4) break;
    sum = next;
  }
  return sum;
}

function factorial(n: number): number {
  let product = 1;
  for (let k = 2; k <= n; k++) product *= k;
  return product;
}

/** (e^x - 1 - x) / x^2. */
const expTail = (x: number): number => series((k) => x ** k / factorial(k + 2));
/** (log(1 + x) - x + x^2 / 2) / x^3; by series near 0, where the difference cancels. */
const logTail = (x: number): number =>
  Math.abs(x) < 0.3
    ? series((k) => (-x) ** k / (k + 3))
    : (Math.log1p(x) - x + (x * x) / 2) / x ** 3;
/** (sin x - x) / x^3 and (cos x - 1 + x^2 / 2) / x^4, in y = x^2. */
const sinTail = (y: number): number => series((k) => -((-y) ** k) / factorial(2 * k + 3));
const cosTail = (y: number): number => series((k) => (-y) ** k / factorial(2 * k + 4));

/** (f(x) - x) / x^3 of an odd function, in y = x^2; by its first terms where that cancels. */
function oddTail(y: number, f: (x: number) => number, first: readonly number[]): number {
  if (y < 1e-3) return first.reduce((sum, c, k) => sum + c * y ** k, 0);
  const x = Math.sqrt(y);
  return (f(x) - x) / (x * y);
}

/** Turns an error of the tail into a relative error of the function. */
const oddWeight = (y: number, f: (x: number) => number): number =>
  y === 0 ? 1e-9 : y ** 1.5 / f(Math.sqrt(y));

/** erfc(x) / (2 / sqrt(pi) e^(-x^2)) for x >= 1, by its continued fraction from the far end. */
function erfcFraction(x: number): number {
  let tail = x;
  for (let k = 200; k >= 1; k--) tail = x + k / 2 / tail;
  return 0.5 / tail;
}
const erfcOf = (x: number): number => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * erfcFraction(x);
/** erf by its series with positive terms only. */
function erfOf(x: number): number {
  let term = x;
  const sum = series((k) => {
    if (k > 0) term *= (2 * x * x) / (2 * k + 1);
    return term;
  });
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
/** e^(x^2) erfc(x), x >= 0. */
const erfcx = (x: number): number =>
  x < 1.5 ? Math.exp(x * x) * (1 - erfOf(x)) : (2 / Math.sqrt(Math.PI)) * erfcFraction(x);

/** Inverse of erf by Newton's method, from the complement q = 1 - p where that is smaller. */
function erfinvOf(p: number, q: number): number {
  let x = p < 0.5 ? p : Math.sqrt(-Math.log(q));
  for (let i = 0; i < 12; i++) {
    const error = x < 1 ? erfOf(x) - p : q - erfcOf(x);
    const slope = (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x);
    // Halley's correction keeps the first steps from running away.
    const step = error / slope;
    x -= step / (1 + x * step);
  }
  return x;
}
/** erfinv(p) / p for w = -log(1 - p^2). Slow, and asked for on the same grid again and again. */
const ratios = new Map<number, number>();
function erfinvRatio(w: number): number {
  const known = ratios.get(w);
  if (known !== undefined) return known;
  const ratio = computeErfinvRatio(w);
  ratios.set(w, ratio);
  return ratio;
}
function computeErfinvRatio(w: number): number {
  if (w < 1e-9) return Math.sqrt(Math.PI) / 2;
  const p = Math.sqrt(-Math.expm1(-w));
  return erfinvOf(p, Math.exp(-w) / (1 + p)) / p;
}

const ZETA = Array.from({ length: 60 }, (_, i) => {
  // zeta(s) - 1 by summing and an Euler-Maclaurin tail.
  const s = i + 2;
  let sum = 0;
  for (let n = 39; n >= 2; n--) sum += n ** -s;
  return sum + 40 ** (1 - s) / (s - 1) + 40 ** -s / 2 + (s * 40 ** (-s - 1)) / 12;
});
const EULER = 0.5772156649015329;
/** lgamma(1 + t) / t and lgamma(2 + t) / t, whose zeros are divided out. */
const lgamma2Ratio = (t: number): number =>
  1 - EULER + series((k) => ((ZETA[k] ?? 0) / (k + 2)) * (k % 2 === 0 ? 1 : -1) * t ** (k + 1));
const lgamma1Ratio = (t: number): number => lgamma2Ratio(t) - (t === 0 ? 1 : Math.log1p(t) / t);

export const fits: readonly Fit[] = [
  {
    name: 'exp',
    from: -Math.LN2 / 2 - 1e-4,
    to: Math.LN2 / 2 + 1e-4,
    powers: range(0, 4),
    target: expTail,
    weight: (x) => (x * x) / Math.exp(x),
  },
  {
    name: 'expm1',
    from: -Math.LN2 / 2 - 1e-4,
    to: Math.LN2 / 2 + 1e-4,
    powers: range(0, 4),
    target: expTail,
    weight: (x) => (Math.abs(x) < 1e-6 ? 1e-6 : (x * x) / Math.abs(Math.expm1(x))),
  },
  {
    name: 'exp2',
    from: -0.5001,
    to: 0.5001,
    powers: range(0, 5),
    target: (x) => (Math.abs(x) < 1e-9 ? Math.LN2 : Math.expm1(x * Math.LN2) / x),
    weight: (x) => x / 2 ** x,
  },
  {
    name: 'log',
    from: Math.SQRT1_2 - 1 - 1e-5,
    to: Math.SQRT2 - 1 + 1e-5,
    powers: range(0, 8),
    target: logTail,
    weight: (x) => (Math.abs(x) < 1e-6 ? x * x : x ** 3 / Math.log1p(x)),
  },
  {
    name: 'sin',
    from: 0,
    to: (Math.PI / 4) ** 2 * 1.001,
    powers: range(0, 2),
    target: sinTail,
    weight: (y) => (y === 0 ? 1e-9 : y ** 1.5 / Math.sin(Math.sqrt(y))),
  },
  {
    name: 'cos',
    from: 0,
    to: (Math.PI / 4) ** 2 * 1.001,
    powers: range(0, 2),
    target: cosTail,
    weight: (y) => (y * y) / Math.cos(Math.sqrt(y)),
  },
  {
    name: 'tan',
    from: 0,
    to: (Math.PI / 4) ** 2 * 1.001,
    powers: range(0, 6),
    target: (y) => oddTail(y, Math.tan, [1 / 3, 2 / 15, 17 / 315, 62 / 2835, 1382 / 155925]),
    weight: (y) => oddWeight(y, Math.tan),
  },
  {
    name: 'asin',
    from: 0,
    to: 0.2501,
    powers: range(0, 4),
    target: (y) => oddTail(y, Math.asin, [1 / 6, 3 / 40, 15 / 336, 105 / 3456, 945 / 42240]),
    weight: (y) => oddWeight(y, Math.asin),
  },
  {
    name: 'atan',
    from: 0,
    to: 1,
    powers: range(0, 8),
    target: (y) => oddTail(y, Math.atan, [-1 / 3, 1 / 5, -1 / 7, 1 / 9, -1 / 11]),
    weight: (y) => oddWeight(y, Math.atan),
  },
  {
    name: 'sinh',
    from: 0,
    to: 1.001,
    powers: range(0, 3),
    target: (y) => series((k) => y ** k / factorial(2 * k + 3)),
    weight: (y) => oddWeight(y, Math.sinh),
  },
  {
    name: 'tanh',
    from: 0,
    to: 0.625 ** 2 * 1.001,
    powers: range(0, 4),
    target: (y) => oddTail(y, Math.tanh, [-1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925]),
    weight: (y) => oddWeight(y, Math.tanh),
  },
  {
    name: 'erf small',
    from: 0,
    to: 1.16 ** 2,
    powers: range(0, 6),
    target: (y) => (y < 1e-12 ? 2 / Math.sqrt(Math.PI) : erfOf(Math.sqrt(y)) / Math.sqrt(y)) - 1,
    weight: (y) => (y === 0 ? 1 : Math.sqrt(y) / erfOf(Math.sqrt(y))),
  },
  {
    name: 'erf large: erfc^(1/4)',
    from: 1.15,
    to: 3.95,
    powers: range(0, 8),
    target: (x) => erfcOf(x) ** 0.25,
    weight: (x) => 4 * erfcOf(x) ** 0.75,
  },
  {
    // In q = (x - 4) / (x + 4).
    name: 'erfcx (1 + 2 x)',
    from: -1,
    to: 0.45,
    powers: range(0, 11),
    target: (q) => erfcx((4 + 4 * q) / (1 - q)) * (1 + (8 + 8 * q) / (1 - q)),
    weight: (q) => 1 / (erfcx((4 + 4 * q) / (1 - q)) * (1 + (8 + 8 * q) / (1 - q))),
  },
  {
    name: 'erfinv central, in w - 2.5',
    from: -2.5,
    to: 2.5,
    powers: range(0, 9),
    target: (t) => erfinvRatio(t + 2.5),
    weight: (t) => 1 / erfinvRatio(t + 2.5),
  },
  {
    name: 'erfinv tail, in sqrt(w) - 3',
    from: Math.sqrt(5) - 3,
    to: 4.1 - 3,
    powers: range(0, 9),
    target: (t) => erfinvRatio((t + 3) ** 2),
    weight: (t) => 1 / erfinvRatio((t + 3) ** 2),
  },
  {
    name: 'lgamma around 1',
    from: -0.5,
    to: 0.5,
    powers: range(0, 13),
    target: lgamma1Ratio,
    weight: (t) => 1 / Math.abs(lgamma1Ratio(t)),
  },
  {
    name: 'lgamma around 2',
    from: -0.5,
    to: 0.5,
    powers: range(0, 8),
    target: lgamma2Ratio,
    weight: (t) => 1 / Math.abs(lgamma2Ratio(t)),
  },
  {
    name: 'asinh',
    from: 0,
    to: 0.5626,
    powers: range(0, 6),
    target: (y) => oddTail(y, Math.asinh, [-1 / 6, 3 / 40, -15 / 336, 105 / 3456, -945 / 42240]),
    weight: (y) => oddWeight(y, Math.asinh),
  },
  {
    name: 'atanh',
    from: 0,
    to: 0.2501,
    powers: range(0, 5),
    target: (y) => oddTail(y, Math.atanh, [1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11]),
    weight: (y) => oddWeight(y, Math.atanh),
  },
];
