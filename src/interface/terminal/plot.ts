// Line plots as text: axes with round ticks, several series, logarithmic y axis, smoothing.

import { brailleCanvas, drawLine, markCanvas } from './canvas.ts';
import type { Canvas } from './canvas.ts';
import { colors } from './color.ts';
import type { ColorName, Colors } from './color.ts';
import { supportsUnicode, terminalWidth } from './environment.ts';
import { linearTicks, logTicks } from './ticks.ts';
import type { Ticks } from './ticks.ts';
import { cutText, displayWidth, padText } from './text.ts';

/** One line of a plot. */
export interface PlotSeries {
  /** Values; those that are not finite (and, on a logarithmic axis, not positive) leave gaps. */
  readonly y: ArrayLike<number>;
  /** Places of the values on the x axis, ascending; 0, 1, 2, ... by default. */
  readonly x?: ArrayLike<number>;
  readonly label?: string;
}

/** Series as one array, as objects, or by their names. */
export type PlotInput =
  | ArrayLike<number>
  | PlotSeries
  | readonly PlotSeries[]
  | Readonly<Record<string, ArrayLike<number>>>;

export interface PlotOptions {
  /** Columns of the whole drawing; by default those of the terminal, 80 at most. */
  width?: number;
  /** Rows of the plotting area, without title, labels and legend: 12. */
  height?: number;
  title?: string;
  xLabel?: string;
  yLabel?: string;
  logY?: boolean;
  /** Bounds of the y axis; by default those of the data. */
  yMin?: number;
  yMax?: number;
  /** Weight of the past in a moving average, 0 (none) to 1; 0.9 forgets in about 10 values. */
  smoothing?: number;
  unicode?: boolean;
  color?: boolean;
}

const SERIES_COLORS: readonly ColorName[] = ['cyan', 'yellow', 'magenta', 'green', 'red', 'blue'];
const UNICODE_MARKS = ['•', '×', '+', '○', '▪', '◆'];
const ASCII_MARKS = ['*', 'x', '+', 'o', '#', '@'];
const SMALLEST_WIDTH = 20;

/**
 * An exponential moving average without the bias of its start: each value is the mean of all values
 * up to it, weighted by `weight ** age`. Values that are not finite stay, and are left out.
 *
 * @throws RangeError if `weight` is not in [0, 1).
 */
export function smooth(values: ArrayLike<number>, weight: number): Float64Array {
  if (!(weight >= 0 && weight < 1)) {
    throw new RangeError(`smooth: the weight must lie in [0, 1), but is ${weight}`);
  }
  const result = new Float64Array(values.length);
  let sum = 0;
  let weights = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? Number.NaN;
    if (!Number.isFinite(value)) {
      result[i] = value;
      continue;
    }
    sum = sum * weight + value;
    weights = weights * weight + 1;
    result[i] = sum / weights;
  }
  return result;
}

function isArrayOfNumbers(input: PlotInput): input is ArrayLike<number> {
  if (ArrayBuffer.isView(input)) return true;
  return Array.isArray(input) && (input.length === 0 || typeof input[0] === 'number');
}

function isSeries(input: object): input is PlotSeries {
  const { y } = input as { y?: unknown };
  // A record may have a series called `y`; a series object has no key that is not one of these.
  return y !== undefined && Object.keys(input).every((key) => ['x', 'y', 'label'].includes(key));
}

function toSeries(input: PlotInput): readonly PlotSeries[] {
  if (isArrayOfNumbers(input)) return [{ y: input }];
  if (Array.isArray(input)) return input as readonly PlotSeries[];
  if (isSeries(input)) return [input];
  const record = input as Readonly<Record<string, ArrayLike<number>>>;
  return Object.entries(record).map(([label, y]) => ({ label, y }));
}

/** A curve ready to draw: places, values (logarithms on a logarithmic axis), colour slot. */
interface Curve {
  readonly x: ArrayLike<number> | undefined;
  readonly y: Float64Array;
  readonly series: number;
}

interface Range {
  readonly min: number;
  readonly max: number;
}

function rangeOf(arrays: Iterable<ArrayLike<number>>): Range | undefined {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const values of arrays) {
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? Number.NaN;
      if (!Number.isFinite(value)) continue;
      min = Math.min(min, value);
      max = Math.max(max, value);
    }
  }
  return min <= max ? { min, max } : undefined;
}

/** Gives a constant some height, so that it has a place between two ticks. */
function widen(range: Range, isLog: boolean): Range {
  const { min, max } = range;
  if (max - min > Math.max(Math.abs(min), Math.abs(max)) * 1e-12) return range;
  const margin = isLog ? 0.5 : Math.abs(min) * 0.1 || 0.5;
  return { min: min - margin, max: max + margin };
}

function axisBound(value: number | undefined, isLog: boolean): number | undefined {
  if (value === undefined || !Number.isFinite(value)) return undefined;
  if (!isLog) return value;
  return value > 0 ? Math.log10(value) : undefined;
}

function yRange(curves: readonly Curve[], options: PlotOptions): Range {
  const isLog = options.logY ?? false;
  const data = rangeOf(curves.map((curve) => curve.y)) ?? { min: 0, max: 1 };
  const min = axisBound(options.yMin, isLog) ?? data.min;
  const max = axisBound(options.yMax, isLog) ?? data.max;
  return widen(max >= min ? { min, max } : { min: max, max: min }, isLog);
}

function xRange(curves: readonly Curve[]): Range {
  const drawn = curves.filter((curve) => curve.y.length > 0);
  const spans = drawn.map((curve) => curve.x ?? [0, Math.max(1, curve.y.length - 1)]);
  return widen(rangeOf(spans) ?? { min: 0, max: 1 }, false);
}

function makeCurves(series: readonly PlotSeries[], options: PlotOptions, raw: boolean): Curve[] {
  const { smoothing = 0, logY = false } = options;
  const prepare = (values: ArrayLike<number>, weight: number) => {
    const smoothed = smooth(values, weight);
    return logY ? smoothed.map((value) => (value > 0 ? Math.log10(value) : Number.NaN)) : smoothed;
  };
  const smoothCurves = series.map(({ x, y }, index) => ({
    x,
    y: prepare(y, smoothing),
    series: index,
  }));
  if (!raw || smoothing === 0) return smoothCurves;
  // The unsmoothed curve lies faintly below; its slots come after those of the series.
  const rawCurves = series.map(({ x, y }, index) => ({
    x,
    y: prepare(y, 0),
    series: series.length + index,
  }));
  return [...rawCurves, ...smoothCurves];
}

function drawCurve(canvas: Canvas, curve: Curve, xs: Range, ys: Range): void {
  let last: readonly [number, number] | undefined;
  for (let i = 0; i < curve.y.length; i++) {
    const value = curve.y[i] ?? Number.NaN;
    const place = curve.x === undefined ? i : (curve.x[i] ?? Number.NaN);
    // A point outside given bounds is a gap too: a line along the frame would be a lie.
    if (!(value >= ys.min && value <= ys.max) || !Number.isFinite(place)) {
      last = undefined;
      continue;
    }
    const x = Math.round(((place - xs.min) / (xs.max - xs.min)) * (canvas.dotsWide - 1));
    const y = Math.round(((ys.max - value) / (ys.max - ys.min)) * (canvas.dotsHigh - 1));
    const point = [x, y] as const;
    drawLine(canvas, last ?? point, point, curve.series);
    last = point;
  }
}

interface Glyphs {
  readonly vertical: string;
  readonly horizontal: string;
  readonly corner: string;
  readonly yTick: string;
  readonly xTick: string;
}

const UNICODE_GLYPHS: Glyphs = {
  vertical: '│',
  horizontal: '─',
  corner: '└',
  yTick: '┤',
  xTick: '┬',
};
const ASCII_GLYPHS: Glyphs = {
  vertical: '|',
  horizontal: '-',
  corner: '+',
  yTick: '+',
  xTick: '+',
};

/** Labels of the y axis by row; where two would share a row the first stays. */
function yLabels(ticks: Ticks, range: Range, height: number): Map<number, string> {
  const labels = new Map<number, string>();
  for (const value of ticks.values) {
    const row = Math.round(((range.max - value) / (range.max - range.min)) * (height - 1));
    if (row >= 0 && row < height && !labels.has(row)) labels.set(row, ticks.format(value));
  }
  return labels;
}

/** The x axis: its line with ticks, and the labels below, none touching another. */
function xAxis(range: Range, width: number, glyphs: Glyphs): { line: string; labels: string } {
  const ticks = linearTicks(range.min, range.max, Math.max(1, Math.floor(width / 10)));
  const line = Array.from({ length: width }, () => glyphs.horizontal);
  let labels = '';
  for (const value of ticks.values) {
    const column = Math.round(((value - range.min) / (range.max - range.min)) * (width - 1));
    const label = ticks.format(value);
    const start = Math.max(0, Math.min(width - label.length, column - (label.length >> 1)));
    if (labels !== '' && start < labels.length + 1) continue;
    line[column] = glyphs.xTick;
    labels = labels.padEnd(start) + label;
  }
  return { line: line.join(''), labels };
}

/** Mark and name of each series; in one line where they fit, else one below the other. */
function legend(series: readonly PlotSeries[], width: number, style: PlotStyle): string[] {
  if (series.every(({ label }) => label === undefined)) return [];
  const entries = series.map(({ label }, index) => {
    const line = style.unicode ? '──' : '--';
    const mark = style.marks === undefined ? line : (style.marks[index % style.marks.length] ?? '');
    const name = cutText(label ?? `series ${index + 1}`, width - mark.length - 1);
    return `${style.paintSeries(mark, index)} ${name}`;
  });
  const together = entries.join('   ');
  return displayWidth(together) <= width ? [padText(together, width, 'center')] : entries;
}

interface PlotStyle {
  readonly unicode: boolean;
  readonly paint: Colors;
  /** Marks that tell series apart, where colours cannot; undefined draws in braille. */
  readonly marks: readonly string[] | undefined;
  paintSeries(text: string, series: number): string;
}

function plotStyle(options: PlotOptions, seriesCount: number): PlotStyle {
  const unicode = options.unicode ?? supportsUnicode();
  const paint = colors(options.color);
  const braille = unicode && (paint.enabled || seriesCount <= 1);
  const marks = braille ? undefined : unicode ? UNICODE_MARKS : ASCII_MARKS;
  const paintSeries = (text: string, series: number) => {
    if (series < 0) return text;
    const name = SERIES_COLORS[(series % seriesCount) % SERIES_COLORS.length] ?? 'cyan';
    return series >= seriesCount ? paint.gray(text) : paint[name](text);
  };
  return { unicode, paint, marks, paintSeries };
}

/** A row of the plotting area; neighbours of one colour share an escape sequence. */
function canvasRow(canvas: Canvas, row: number, width: number, style: PlotStyle): string {
  let result = '';
  let run = '';
  let runSeries = -1;
  for (let column = 0; column < width; column++) {
    const { text, series } = canvas.cell(column, row);
    if (series !== runSeries) {
      result += style.paintSeries(run, runSeries);
      run = '';
      runSeries = series;
    }
    run += text;
  }
  return result + style.paintSeries(run, runSeries);
}

/**
 * Draws series as lines and returns the lines of text, without a line break at the end. Braille
 * dots where the terminal shows them; without colours, several series are told apart by marks.
 * Nothing to draw gives an empty frame that says so.
 *
 * @example
 * const train = [2.3, 0.9, 0.4, 0.2];
 * const test = [2.2, 1.1, 0.6, 0.5];
 * console.log(plot({ train, test }, { title: 'loss', logY: true }));
 * console.log(plot(train, { xLabel: 'step', smoothing: 0.9 }));
 */
export function plot(input: PlotInput, options: PlotOptions = {}): string {
  const series = toSeries(input);
  const style = plotStyle(options, series.length);
  const curves = makeCurves(series, options, style.paint.enabled && style.marks === undefined);
  const ys = yRange(curves, options);
  const xs = xRange(curves);
  const height = Math.max(2, Math.floor(options.height ?? 12));
  const total = Math.max(SMALLEST_WIDTH, options.width ?? Math.min(80, terminalWidth()));
  const tickCount = Math.max(2, Math.round(height / 2.4));
  const ticks = (options.logY ? logTicks : linearTicks)(ys.min, ys.max, tickCount);
  const labels = yLabels(ticks, ys, height);
  const labelWidth = Math.max(0, ...[...labels.values()].map((label) => label.length));
  const width = Math.max(8, total - labelWidth - 2);

  const canvas =
    style.marks === undefined
      ? brailleCanvas(width, height)
      : markCanvas(width, height, style.marks);
  for (const curve of curves) drawCurve(canvas, curve, xs, ys);

  const glyphs = style.unicode ? UNICODE_GLYPHS : ASCII_GLYPHS;
  const isEmpty = curves.every((curve) => !curve.y.some((value) => Number.isFinite(value)));
  const rows = Array.from({ length: height }, (_, row) => {
    const label = labels.get(row);
    const axis = label === undefined ? glyphs.vertical : glyphs.yTick;
    const text =
      isEmpty && row === height >> 1
        ? padText('no data', width, 'center')
        : canvasRow(canvas, row, width, style);
    return `${style.paint.dim(`${(label ?? '').padStart(labelWidth)} ${axis}`)}${text}`.trimEnd();
  });
  const margin = ' '.repeat(labelWidth + 1);
  const axis = xAxis(xs, width, glyphs);
  const lines = [...rows, style.paint.dim(`${margin}${glyphs.corner}${axis.line}`)];
  lines.push(style.paint.dim(`${margin} ${axis.labels}`));
  const centered = (text: string) => `${margin} ${padText(cutText(text, width), width, 'center')}`;
  if (options.xLabel !== undefined) lines.push(style.paint.dim(centered(options.xLabel)));
  for (const line of legend(series, width, style)) lines.push(`${margin} ${line}`);
  if (options.yLabel !== undefined) lines.unshift(style.paint.dim(`${margin}${options.yLabel}`));
  if (options.title !== undefined) lines.unshift(style.paint.bold(centered(options.title)));
  return lines.map((line) => line.trimEnd()).join('\n');
}
