// Special functions in float64 for the reference implementations; relative error about 1e-14.

/** The error function: Taylor series near zero, the complement elsewhere. */
export function erf(x: number): number {
  if (Math.abs(x) > 2) return x > 0 ? 1 - erfc(x) : erfc(-x) - 1;
  let term = x;
  let total = x;
  for (let n = 1; n < 60; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

/** 1 - erf(x) without cancellation: Legendre's continued fraction, evaluated backwards. */
export function erfc(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (x < 2) return x < -2 ? 2 - erfc(-x) : 1 - erf(x);
  if (x > 28) return 0;
  let fraction = x;
  for (let n = 120; n >= 1; n--) fraction = x + n / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}

/** Inverse of erf, by Newton's method on erfc from an asymptotic start. */
export function erfinv(y: number): number {
  if (Number.isNaN(y) || Math.abs(y) > 1) return NaN;
  if (Math.abs(y) === 1) return y * Infinity;
  const complement = 1 - Math.abs(y);
  const w = Math.sqrt(-Math.log(complement * (1 + Math.abs(y))));
  let x = Math.abs(y) < 0.7 ? Math.abs(y) * 0.9 : w - 0.3 / w;
  for (let step = 0; step < 30; step++) {
    const error = Math.abs(y) < 0.5 ? erf(x) - Math.abs(y) : complement - erfc(x);
    const slope = (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x);
    const change = error / slope;
    x -= change / (1 + x * change);
  }
  return y < 0 ? -x : x;
}

/** log|gamma(x)|: shifted up by recurrence, then Stirling's series. */
export function lgamma(x: number): number {
  if (Number.isNaN(x)) return NaN;
  if (Math.abs(x) === Infinity || (x <= 0 && Number.isInteger(x))) return Infinity;
  // Where the sum below cancels.
  if (x === 1 || x === 2) return 0;
  if (x < 0.5) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * x))) - lgamma(1 - x);
  let product = 1;
  let z = x;
  while (z < 12) product *= z++;
  const r = 1 / (z * z);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / z;
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - Math.log(product);
}

/** Derivative of lgamma: shifted up by recurrence, then the asymptotic series. */
export function digamma(x: number): number {
  if (x === 0) return -Infinity * Math.sign(1 / x);
  if (x < 0 && Number.isInteger(x)) return NaN;
  if (x < 0) return digamma(1 - x) - Math.PI / Math.tan(Math.PI * x);
  let shift = 0;
  let z = x;
  while (z < 12) shift += 1 / z++;
  const r = 1 / (z * z);
  const series = r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r / 132))));
  return Math.log(z) - 0.5 / z - series - shift;
}
