// Round numbers for axes: where ticks stand, and how their labels are written.

/** The step among 1, 2, 5 x 10^k that divides `span` into at most `count` parts. */
function roundStep(span: number, count: number): number {
  const rough = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const digit = [1, 2, 5, 10].find((candidate) => candidate * power >= rough * (1 - 1e-9)) ?? 10;
  return digit * power;
}

/**
 * Writes values of an axis whose ticks stand `step` apart, with as many decimals as tell them
 * apart, plus `extraDigits`. Very small and very large axes are written with exponents.
 */
export function tickFormatter(
  step: number,
  largest: number,
  extraDigits = 0,
): (value: number) => string {
  const stepExponent = Math.floor(Math.log10(step) + 1e-9);
  const largestExponent = largest > 0 ? Math.floor(Math.log10(largest)) : 0;
  if (largestExponent >= 6 || largestExponent < -3) {
    const digits = Math.max(0, largestExponent - stepExponent + extraDigits);
    return (value) =>
      value === 0 ? '0' : value.toExponential(Math.min(20, digits)).replace('e+', 'e');
  }
  const decimals = Math.min(20, Math.max(0, extraDigits - stepExponent));
  return (value) => {
    const text = value.toFixed(decimals);
    return Number(text) === 0 ? text.replace('-', '') : text;
  };
}

export interface Ticks {
  readonly values: readonly number[];
  readonly format: (value: number) => string;
}

/** Ticks at round numbers within `min`..`max`, about `count` of them. */
export function linearTicks(min: number, max: number, count: number): Ticks {
  const step = roundStep(max - min, count);
  const first = Math.ceil(min / step - 1e-9);
  const last = Math.floor(max / step + 1e-9);
  const values = Array.from(
    { length: Math.max(0, last - first + 1) },
    (_, i) => (first + i) * step,
  );
  return { values, format: tickFormatter(step, Math.max(Math.abs(min), Math.abs(max))) };
}

function formatPower(value: number): string {
  if (value >= 1e-3 && value < 1e6) return String(Number(value.toPrecision(3)));
  return value.toExponential().replace('e+', 'e');
}

/**
 * Ticks of a logarithmic axis; `min` and `max` are decimal logarithms. Powers of ten, with 2 and 5
 * between where there is room; round numbers where the axis spans less than a power.
 */
export function logTicks(min: number, max: number, count: number): Ticks {
  const candidates = (digits: readonly number[], stride: number) => {
    const values: number[] = [];
    for (let power = Math.floor(min / stride) * stride; power <= max; power += stride) {
      for (const digit of digits) {
        const place = power + Math.log10(digit);
        if (place >= min - 1e-9 && place <= max + 1e-9) values.push(place);
      }
    }
    return values;
  };
  const format = (place: number) => formatPower(Number((10 ** place).toPrecision(6)));
  const fine = candidates([1, 2, 5], 1);
  if (fine.length < 2) {
    const linear = linearTicks(10 ** min, 10 ** max, count);
    return {
      values: linear.values.filter((value) => value > 0).map((value) => Math.log10(value)),
      format: (place) => linear.format(10 ** place),
    };
  }
  if (fine.length <= count + 2) return { values: fine, format };
  const stride = Math.max(1, Math.ceil((max - min) / Math.max(1, count)));
  return { values: candidates([1], stride), format };
}
