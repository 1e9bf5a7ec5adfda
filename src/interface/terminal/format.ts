// Numbers for people: durations, byte counts, large counts and metrics, in few characters.

/**
 * A duration in milliseconds, in the two units that matter: `850 ms`, `4.2 s`, `3:07`, `2:15:09`.
 * Unknown or infinite durations are `?`.
 *
 * @example
 * formatDuration(187_000); // => '3:07'
 */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return '?';
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 9_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  return formatClock(milliseconds);
}

/** A duration in milliseconds as a clock, `0:07`, `12:30` or `1:02:03`: the same width as it grows. */
export function formatClock(milliseconds: number): string {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return '?';
  const total = Math.round(milliseconds / 1000);
  const twoDigits = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  const seconds = twoDigits(total % 60);
  return hours > 0 ? `${hours}:${twoDigits(minutes)}:${seconds}` : `${minutes}:${seconds}`;
}

/** Three significant digits without needless zeros after the point: `1.5`, `24.3`, `150`. */
function threeDigits(value: number): string {
  const decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  const text = value.toFixed(decimals);
  return decimals === 0 ? text : text.replace(/\.?0+$/, '');
}

/** Divides by `base` until the value shows in three digits; the suffix says how often. */
function scaled(value: number, base: number, suffixes: readonly string[]): [string, string] {
  let rest = Math.abs(value);
  let step = 0;
  while (rest >= base * (1 - 0.0005) && step < suffixes.length - 1) {
    rest /= base;
    step++;
  }
  return [(value < 0 ? '-' : '') + threeDigits(rest), suffixes[step] ?? ''];
}

/**
 * A number of bytes in powers of 1024.
 *
 * @example
 * formatBytes(1_536); // => '1.5 KiB'
 */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return '?';
  const [digits, suffix] = scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']);
  return `${digits} ${suffix}`;
}

/**
 * A count in thousands, millions and so on; below 10,000 exact where it is whole.
 *
 * @example
 * formatCount(11_689_512); // => '11.7M'
 * formatCount(1_234); // => '1,234'
 */
export function formatCount(count: number): string {
  if (!Number.isFinite(count)) return '?';
  if (Number.isInteger(count) && Math.abs(count) < 10_000) return groupThousands(count);
  return scaled(count, 1000, ['', 'k', 'M', 'G', 'T', 'P']).join('');
}

/** An integer with commas between thousands, whatever the locale of the machine. */
export function groupThousands(count: number): string {
  const digits = Math.abs(Math.trunc(count)).toString();
  return (count < 0 ? '-' : '') + digits.replace(/\B(?=(\d{3})+$)/g, ',');
}

/**
 * A measured number in about four significant digits: `0.3127`, `12.5`, `1.2e-5`.
 *
 * @example
 * formatNumber(0.31274); // => '0.3127'
 */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞';
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) {
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  }
  return value.toFixed(Math.max(0, Math.min(4, 3 - Math.floor(Math.log10(size)))));
}

/**
 * A fraction as a percentage with one decimal, two when close to 100 %.
 *
 * @example
 * formatPercent(0.98642); // => '98.64 %'
 */
export function formatPercent(fraction: number): string {
  if (!Number.isFinite(fraction)) return '?';
  const percent = fraction * 100;
  return `${percent.toFixed(percent >= 95 && percent < 100 ? 2 : 1)} %`;
}
