// Charts of one line or of one line per bar: sparklines and histograms.

import { supportsUnicode, terminalWidth } from './environment.ts';
import { colors } from './color.ts';
import { formatCount } from './format.ts';
import { tickFormatter } from './ticks.ts';
import { padText } from './text.ts';

const LEVELS = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_LEVELS = ['_', '.', '-', '~', '=', '+', '*', '#'];

export interface SparklineOptions {
  /** Columns; longer series are averaged into as many groups. Default: one column a value. */
  width?: number;
  /** Value of the lowest and of the highest mark; by default those of the series. */
  min?: number;
  max?: number;
  unicode?: boolean;
}

/** Means of `groups` equal parts of the finite values; NaN for a part that has none. */
function groupMeans(values: ArrayLike<number>, groups: number): number[] {
  return Array.from({ length: groups }, (_, group) => {
    const first = Math.floor((group * values.length) / groups);
    const last = Math.floor(((group + 1) * values.length) / groups);
    let sum = 0;
    let count = 0;
    for (let i = first; i < last; i++) {
      const value = values[i] ?? Number.NaN;
      if (!Number.isFinite(value)) continue;
      sum += value;
      count++;
    }
    return count > 0 ? sum / count : Number.NaN;
  });
}

/**
 * A series as one line of small bars. Values that are not finite leave a gap.
 *
 * @example
 * sparkline([1, 4, 9, 4, 1]); // => '▁▄█▄▁'
 */
export function sparkline(values: ArrayLike<number>, options: SparklineOptions = {}): string {
  const width = Math.min(values.length, Math.max(1, options.width ?? values.length));
  const means = groupMeans(values, width);
  const finite = means.filter((value) => Number.isFinite(value));
  const min = options.min ?? finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const max = options.max ?? finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const levels = (options.unicode ?? supportsUnicode()) ? LEVELS : ASCII_LEVELS;
  return means
    .map((value) => {
      if (!Number.isFinite(value)) return ' ';
      // A constant series stands in the middle: neither low nor high.
      const height = max > min ? (value - min) / (max - min) : 0.5;
      const level = Math.round(Math.max(0, Math.min(1, height)) * (levels.length - 1));
      return levels[level] ?? ' ';
    })
    .join('');
}

export interface HistogramOptions {
  /** Number of bars: 10. */
  bins?: number;
  /** Columns in all; by default those of the terminal, 80 at most. */
  width?: number;
  /** Range of the bars; values outside are counted in a last line. By default all values. */
  min?: number;
  max?: number;
  title?: string;
  unicode?: boolean;
  color?: boolean;
}

const BAR_EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

function horizontalBar(length: number, unicode: boolean): string {
  const whole = Math.floor(length);
  if (!unicode) return '#'.repeat(Math.round(length));
  return '█'.repeat(whole) + (BAR_EIGHTHS[Math.floor((length - whole) * 8)] ?? '');
}

interface Bins {
  readonly counts: readonly number[];
  readonly min: number;
  readonly max: number;
  readonly outside: number;
  readonly notFinite: number;
}

function countBins(values: ArrayLike<number>, options: HistogramOptions): Bins {
  const bins = Math.max(1, Math.floor(options.bins ?? 10));
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? Number.NaN;
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  let min = options.min ?? (low <= high ? low : 0);
  let max = options.max ?? (low <= high ? high : 1);
  if (!(max > min)) [min, max] = [min - 0.5, min + 0.5];
  const counts = Array.from({ length: bins }, () => 0);
  let outside = 0;
  let notFinite = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? Number.NaN;
    if (!Number.isFinite(value)) notFinite++;
    else if (value < min || value > max) outside++;
    else {
      const bin = Math.min(bins - 1, Math.floor(((value - min) / (max - min)) * bins));
      counts[bin] = (counts[bin] ?? 0) + 1;
    }
  }
  return { counts, min, max, outside, notFinite };
}

/**
 * How values are spread: one bar a range, with its lower bound and its count. Values that are not
 * finite, and those outside `min`..`max`, are counted below.
 *
 * @example
 * const weights = Float32Array.from({ length: 100 }, (_, i) => Math.sin(i));
 * console.log(histogram(weights, { bins: 12, title: 'conv1.weight' }));
 */
export function histogram(values: ArrayLike<number>, options: HistogramOptions = {}): string {
  const unicode = options.unicode ?? supportsUnicode();
  const paint = colors(options.color);
  const { counts, min, max, outside, notFinite } = countBins(values, options);
  const step = (max - min) / counts.length;
  const format = tickFormatter(step, Math.max(Math.abs(min), Math.abs(max)), 1);
  const labels = counts.map((_, bin) => format(min + bin * step));
  const labelWidth = labels.reduce((width, label) => Math.max(width, label.length), 0);
  const countTexts = counts.map((count) => formatCount(count));
  const countWidth = countTexts.reduce((width, text) => Math.max(width, text.length), 0);
  const total = options.width ?? Math.min(80, terminalWidth());
  const room = Math.max(4, total - labelWidth - countWidth - 4);
  const largest = counts.reduce((a, b) => Math.max(a, b), 1);
  const wall = unicode ? '▕' : '|';
  const lines = counts.map((count, bin) => {
    const bar = horizontalBar((count / largest) * room, unicode);
    const label = padText(labels[bin] ?? '', labelWidth, 'right');
    const text = countTexts[bin] ?? '';
    return `${label} ${paint.dim(wall)}${paint.cyan(bar)} ${paint.dim(text)}`;
  });
  if (options.title !== undefined) lines.unshift(paint.bold(options.title));
  if (outside > 0) lines.push(`${formatCount(outside)} outside`);
  if (notFinite > 0) lines.push(`${formatCount(notFinite)} not finite`);
  return lines.join('\n');
}
