// Special functions in float64 to judge ours by; other methods than src/ir/math uses.

const SQRT_PI = Math.sqrt(Math.PI);

/** Series with positive terms up to 3, then the continued fraction of erfc. */
export function erf(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude >= 3) return Math.sign(x) * (1 - erfc(magnitude));
  let term = magnitude;
  let sum = magnitude;
  for (let k = 1; k < 200 && term > sum * 1e-18; k++) {
    term *= (2 * magnitude * magnitude) / (2 * k + 1);
    sum += term;
  }
  return Math.sign(x) * (2 / SQRT_PI) * Math.exp(-magnitude * magnitude) * sum;
}

export function erfc(x: number): number {
  if (x < 1) return 1 - erf(x);
  let tail = x;
  for (let k = 400; k >= 1; k--) tail = x + k / 2 / tail;
  // exp(-x^2) from a square without rounding.
  const head = Math.fround(x);
  const rest = (x - head) * (x + head);
  return (Math.exp(-head * head) * Math.exp(-rest)) / (SQRT_PI * tail);
}

/** Newton's method with bisection as a net. */
export function erfinv(p: number): number {
  if (Math.abs(p) >= 1) return Math.abs(p) === 1 ? Math.sign(p) * Infinity : NaN;
  const magnitude = Math.abs(p);
  let low = 0;
  let high = 7;
  let x = magnitude;
  for (let i = 0; i < 100; i++) {
    const error = magnitude < 0.5 ? erf(x) - magnitude : 1 - magnitude - erfc(x);
    if (error > 0) high = x;
    else low = x;
    const next = x - (error * SQRT_PI * Math.exp(x * x)) / 2;
    const inside = next > low && next < high ? next : (low + high) / 2;
    if (inside === x) break;
    x = inside;
  }
  return Math.sign(p) * x;
}

const LANCZOS_SHIFT = 30;

/** Stirling's series from 30 on, the recurrence below, log1p-exact around the zeros 1 and 2. */
export function lgamma(x: number): number {
  if (x < 0) {
    const sine = Math.abs(sinPi(x));
    return sine === 0 ? Infinity : Math.log(Math.PI / (sine * -x)) - lgamma(-x);
  }
  if (x === 0) return Infinity;
  if (Math.abs(x - 1) < 0.3) return lgammaNearTwo(x - 1) - Math.log1p(x - 1);
  if (Math.abs(x - 2) < 0.3) return lgammaNearTwo(x - 2);
  let shift = 0;
  let z = x;
  while (z < LANCZOS_SHIFT) shift += Math.log(z++);
  const i = 1 / (z * z);
  const series = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i / 1680))) / z;
  return (z - 0.5) * Math.log(z) - z + Math.log(2 * Math.PI) / 2 + series - shift;
}

/** lgamma(2 + t) by the zeta series. */
function lgammaNearTwo(t: number): number {
  let sum = (1 - 0.5772156649015329) * t;
  for (let k = 2; k < 60; k++) sum += (((-t) ** k / k) * zetaMinusOne(k)) as number;
  return sum;
}

function zetaMinusOne(s: number): number {
  let sum = 0;
  for (let n = 39; n >= 2; n--) sum += n ** -s;
  const third = (s * (s + 1) * (s + 2) * 40 ** (-s - 3)) / 720;
  return sum + 40 ** (1 - s) / (s - 1) + 40 ** -s / 2 + (s * 40 ** (-s - 1)) / 12 - third;
}

function sinPi(x: number): number {
  const rest = x - Math.round(x);
  return Math.sin(Math.PI * rest) * (Math.round(x) % 2 === 0 ? 1 : -1);
}

export function digamma(x: number): number {
  if (x < 0) {
    const rest = x - Math.round(x);
    return rest === 0 ? NaN : digamma(1 - x) - Math.PI / Math.tan(Math.PI * rest);
  }
  let sum = 0;
  let z = x;
  while (z < LANCZOS_SHIFT) sum -= 1 / z++;
  const i = 1 / (z * z);
  return sum + Math.log(z) - 0.5 / z - i * (1 / 12 - i * (1 / 120 - i / 252));
}
