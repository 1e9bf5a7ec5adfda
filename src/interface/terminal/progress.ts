// Progress of a loop: one redrawn line in a terminal, a few plain lines anywhere else.
// It draws only from within its own calls, so no timer is ever left running.

import { colors } from './color.ts';
import type { Colors } from './color.ts';
import {
  standardError,
  supportsColor,
  supportsRedraw,
  supportsUnicode,
  terminalWidth,
  writeSafely,
} from './environment.ts';
import type { OutputStream } from './environment.ts';
import {
  formatClock,
  formatCount,
  formatDuration,
  formatNumber,
  groupThousands,
} from './format.ts';
import { cutText, displayWidth } from './text.ts';

/** Named values shown beside the bar; numbers are shown in four digits, text as it is. */
export type Metrics = Readonly<Record<string, number | string>>;

export interface ProgressOptions {
  /** Steps in all. Without it (and without a length to take it from) steps are only counted. */
  total?: number;
  /** Stands before the bar, as in `epoch 1/3`. */
  label?: string;
  /** What the rate counts, `step` by default: `812 step/s`. */
  unit?: string;
  /** Units per step, as a batch size: 10 steps of 64 images in a second are 640 img/s. */
  unitsPerStep?: number;
  /** How to show a metric, by its name; by default numbers have four digits. */
  format?: Readonly<Record<string, (value: number) => string>>;
  /** Where to draw: standard error by default (the console in a browser); `null` draws nothing. */
  stream?: OutputStream | null;
  /** Redraw one line (true) or print plain lines (false); by default what the stream is fit for. */
  redraw?: boolean;
  color?: boolean;
  unicode?: boolean;
  /** Width in characters; by default that of the terminal at each drawing. */
  width?: number;
  /** Least time between two drawings of the line, in ms: 100. */
  redrawEvery?: number;
  /** A plain line is printed at each 10 % and whenever this time in ms has passed: 5000. */
  lineEvery?: number;
  /** The clock, in ms; for tests. */
  now?: () => number;
}

/** Ten lines for a loop, whatever its length, ... */
const LINES_PER_LOOP = 10;
/** ... but not more often than this, in ms: a loop of a second needs no ten lines. */
const LEAST_LINE_GAP = 500;
/** The rate is a mean that forgets with this time constant, in ms. */
const RATE_MEMORY = 4000;
const LONGEST_BAR = 40;
const SHORTEST_BAR = 8;

/** Bars that redraw a stream, innermost last: only that one draws, or they would fight for the line. */
const barsOfStream = new WeakMap<OutputStream, ProgressBar[]>();

/** Speed of a loop: recent steps count more than old ones. */
class RateMeter {
  #steps = 0;
  #time = 0;

  add(steps: number, milliseconds: number): void {
    const keep = Math.exp(-milliseconds / RATE_MEMORY);
    this.#steps = this.#steps * keep + steps;
    this.#time = this.#time * keep + milliseconds;
  }

  /** Steps per ms; NaN before the first step. */
  get rate(): number {
    return this.#time > 0 && this.#steps > 0 ? this.#steps / this.#time : Number.NaN;
  }
}

interface LineParts {
  readonly label: string;
  /** `137/200`, or `137` without a total. */
  readonly count: string;
  readonly rate: string;
  readonly metrics: readonly string[];
  readonly time: string;
}

const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A bar of `width` columns, filled to `fraction` in steps of an eighth of a column. */
function drawBar(fraction: number, width: number, unicode: boolean, paint: Colors): string {
  const filled = Math.max(0, Math.min(1, fraction)) * width;
  const whole = Math.floor(filled);
  if (!unicode) {
    const arrow = whole < width ? '>' : '';
    return `[${'='.repeat(whole)}${arrow}${' '.repeat(width - whole - arrow.length)}]`;
  }
  const part = EIGHTHS[Math.floor((filled - whole) * 8)] ?? '';
  const rest = width - whole - part.length;
  return paint.green('█'.repeat(whole) + part) + paint.dim('·'.repeat(rest));
}

/**
 * A progress display that is moved by hand. It never throws because of its stream, and ends by
 * itself when `total` is reached; `close` (or `using`) ends it earlier.
 *
 * @example sketch: the training step is the reader's
 * const bar = new ProgressBar({ total: 200, label: 'epoch 1', unit: 'img', unitsPerStep: 64 });
 * for (let step = 0; step < 200; step++) {
 *   const loss = trainStep();
 *   bar.advance(1, { loss });
 * }
 * bar.close();
 */
export class ProgressBar {
  readonly total: number | undefined;
  readonly #options: ProgressOptions;
  readonly #stream: OutputStream | null;
  readonly #redraw: boolean;
  readonly #unicode: boolean;
  readonly #paint: Colors;
  readonly #now: () => number;
  readonly #start: number;
  #end = 0;
  readonly #meter = new RateMeter();
  #metrics: Record<string, number | string> = {};
  #done = 0;
  #lastStep: number;
  #lastDrawing = Number.NEGATIVE_INFINITY;
  #lastTenth = 0;
  #lineIsDrawn = false;
  #closed = false;

  /** @throws RangeError if `total` is negative or not a number. */
  constructor(options: ProgressOptions = {}) {
    const { total } = options;
    if (total !== undefined && !(total >= 0)) {
      throw new RangeError(`progress: total must not be negative, but is ${total}`);
    }
    this.total = total !== undefined && Number.isFinite(total) ? total : undefined;
    this.#options = options;
    this.#stream = options.stream === undefined ? standardError() : options.stream;
    this.#redraw = options.redraw ?? (this.#stream !== null && supportsRedraw(this.#stream));
    const color =
      options.color ?? (this.#redraw && this.#stream !== null && supportsColor(this.#stream));
    this.#paint = colors(color);
    this.#unicode = options.unicode ?? supportsUnicode();
    this.#now = options.now ?? (() => performance.now());
    this.#start = this.#now();
    this.#lastStep = this.#start;
    this.#takeLine();
    if (this.#redraw) this.#draw();
  }

  /** Steps done so far. */
  get done(): number {
    return this.#done;
  }

  /** Milliseconds since the bar was made, until it was closed. */
  get elapsed(): number {
    return (this.#closed ? this.#end : this.#now()) - this.#start;
  }

  /** Steps per second of late, and over all once closed; NaN before the first step. */
  get stepsPerSecond(): number {
    if (!this.#closed) return this.#meter.rate * 1000;
    const elapsed = this.#end - this.#start;
    return this.#done > 0 && elapsed > 0 ? (this.#done / elapsed) * 1000 : Number.NaN;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Moves on by `steps` and sets metrics. Reaching `total` ends the display. */
  advance(steps = 1, metrics?: Metrics): void {
    this.update(this.#done + steps, metrics);
  }

  /** Moves to `done` steps and sets metrics. Reaching `total` ends the display. */
  update(done: number, metrics?: Metrics): void {
    if (this.#closed) return;
    if (metrics !== undefined) Object.assign(this.#metrics, metrics);
    const now = this.#now();
    this.#meter.add(Math.max(0, done - this.#done), now - this.#lastStep);
    this.#lastStep = now;
    this.#done = done;
    if (this.total !== undefined && done >= this.total) this.close();
    else this.#showIfDue(now);
  }

  /** Sets metrics without moving on; they show at the next drawing. */
  set(metrics: Metrics): void {
    if (this.#closed) return;
    Object.assign(this.#metrics, metrics);
    this.#showIfDue(this.#now());
  }

  /** Prints a line above the bar, which stays where it is. */
  log(message: string): void {
    if (this.#stream === null) return;
    if (this.#lineIsDrawn) writeSafely(this.#stream, '\r\u001b[K');
    writeSafely(this.#stream, `${message}\n`);
    if (this.#lineIsDrawn) this.#draw();
  }

  /** Draws the last state and ends the line. May be called more than once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#end = this.#now();
    const isFront = this.#isFront();
    if (this.#redraw) {
      if (isFront) {
        this.#draw();
        this.#write('\n');
      }
      this.#releaseLine();
    } else {
      this.#printLine();
    }
    this.#lineIsDrawn = false;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The line as it would be drawn now, `width` columns at most, without cursor movements. */
  render(width: number = this.#columns()): string {
    return layOut(this.#parts(), {
      width,
      fraction: this.#fraction(),
      unicode: this.#unicode,
      paint: this.#paint,
    });
  }

  #columns(): number {
    // One column stays free: a full line makes some terminals wrap and the redraw miss it.
    return this.#options.width ?? terminalWidth(this.#stream ?? undefined) - 1;
  }

  #fraction(): number | undefined {
    if (this.total === undefined) return undefined;
    return this.total === 0 ? 1 : this.#done / this.total;
  }

  #parts(): LineParts {
    const { label = '', unit = 'step', unitsPerStep = 1, format = {} } = this.#options;
    const { total } = this;
    const rate = this.stepsPerSecond * unitsPerStep;
    const metrics = Object.entries(this.#metrics).map(([name, value]) => {
      if (typeof value === 'string') return `${name} ${value}`;
      return `${name} ${(format[name] ?? formatNumber)(value)}`;
    });
    const count = groupThousands(this.#done);
    return {
      label,
      count: total === undefined ? `${count} ${unit}` : `${count}/${groupThousands(total)}`,
      rate: Number.isFinite(rate) ? `${formatRate(rate)} ${unit}/s` : '',
      metrics,
      time: this.#timeText(),
    };
  }

  #timeText(): string {
    const elapsed = this.elapsed;
    if (this.#closed) return `in ${formatDuration(elapsed)}`;
    if (this.total === undefined) return formatClock(elapsed);
    const remaining = (this.total - this.#done) / this.#meter.rate;
    return Number.isFinite(remaining)
      ? `${formatClock(elapsed)}, ${formatClock(remaining)} left`
      : formatClock(elapsed);
  }

  #showIfDue(now: number): void {
    if (this.#stream === null) return;
    if (this.#redraw) {
      if (now - this.#lastDrawing < (this.#options.redrawEvery ?? 100)) return;
      if (!this.#isFront()) return;
      this.#lastDrawing = now;
      this.#draw();
      return;
    }
    const since = now - Math.max(this.#lastDrawing, this.#start);
    const tenth = Math.floor((this.#fraction() ?? 0) * LINES_PER_LOOP);
    const reachedTenth = tenth > this.#lastTenth && since >= LEAST_LINE_GAP;
    if (!reachedTenth && since < (this.#options.lineEvery ?? 5000)) return;
    this.#lastTenth = tenth;
    this.#lastDrawing = now;
    this.#printLine();
  }

  #printLine(): void {
    const { label, count, rate, metrics, time } = this.#parts();
    const fraction = this.#fraction();
    const percent = fraction === undefined ? '' : `${Math.floor(fraction * 100)} %`.padStart(5);
    const fields = [label, percent, count, ...metrics, rate, time].filter((text) => text !== '');
    this.#write(`${fields.join('  ')}\n`);
  }

  #draw(): void {
    this.#lineIsDrawn = true;
    this.#write(`\r${this.render()}\u001b[K`);
  }

  #write(text: string): void {
    if (this.#stream !== null) writeSafely(this.#stream, text);
  }

  #isFront(): boolean {
    return this.#stream === null || barsOfStream.get(this.#stream)?.at(-1) === this;
  }

  #takeLine(): void {
    if (this.#stream === null || !this.#redraw) return;
    const bars = barsOfStream.get(this.#stream) ?? [];
    bars.push(this);
    barsOfStream.set(this.#stream, bars);
  }

  #releaseLine(): void {
    if (this.#stream === null) return;
    const bars = barsOfStream.get(this.#stream) ?? [];
    const place = bars.indexOf(this);
    if (place >= 0) bars.splice(place, 1);
  }
}

/** A rate in few characters: `0.43`, `8.21`, `643`, `12.3k`. */
function formatRate(rate: number): string {
  if (rate >= 10_000) return formatCount(rate);
  return rate.toFixed(rate >= 100 ? 0 : rate >= 10 ? 1 : 2);
}

interface Layout {
  readonly width: number;
  readonly fraction: number | undefined;
  readonly unicode: boolean;
  readonly paint: Colors;
}

/** Puts the parts in a line; what matters least goes first when the line is too narrow. */
function layOut(parts: LineParts, layout: Layout): string {
  const { width, fraction, unicode, paint } = layout;
  const percent = fraction === undefined ? '' : `${Math.floor(fraction * 100)}%`.padStart(4);
  const frame = unicode ? 0 : 2;
  const right = [parts.rate, parts.count, parts.time];
  let metrics = [...parts.metrics];
  const textWidth = () =>
    [parts.label, percent, ...metrics, ...right]
      .filter((text) => text !== '')
      .reduce((sum, text) => sum + displayWidth(text) + 2, 0);
  const needed = fraction === undefined ? 0 : SHORTEST_BAR + frame;
  for (let place = 0; place < right.length && textWidth() + needed > width; place++) {
    right[place] = '';
  }
  while (metrics.length > 0 && textWidth() + needed > width) metrics = metrics.slice(0, -1);
  const barWidth = Math.min(LONGEST_BAR, width - textWidth() - frame);
  const bar =
    fraction === undefined || barWidth < 3 ? '' : drawBar(fraction, barWidth, unicode, paint);
  const [rate = '', count = '', time = ''] = right;
  const fields = [
    paint.bold(parts.label),
    bar,
    percent,
    paint.dim(count),
    ...metrics.map((text) => paintMetric(text, paint)),
    paint.dim(rate),
    paint.cyan(time),
  ];
  return cutText(fields.filter((text) => text !== '').join('  '), width, unicode ? '…' : '');
}

function paintMetric(text: string, paint: Colors): string {
  const space = text.indexOf(' ');
  return `${paint.dim(text.slice(0, space))}${text.slice(space)}`;
}

/** A bar that is also the loop it shows: a step ends when the next item is asked for. */
export class ProgressLoop<T> extends ProgressBar implements Iterable<T> {
  readonly #source: Iterable<T>;

  constructor(source: Iterable<T>, options: ProgressOptions = {}) {
    super(withTotal(source, options));
    this.#source = source;
  }

  *[Symbol.iterator](): Generator<T, void, undefined> {
    try {
      for (const item of this.#source) {
        yield item;
        // A last step that reaches `total` closes the bar, so metrics set in the body are in.
        this.advance();
      }
    } finally {
      this.close();
    }
  }
}

/** As `ProgressLoop`, over an async iterable such as a `DataLoader`. */
export class AsyncProgressLoop<T> extends ProgressBar implements AsyncIterable<T> {
  readonly #source: AsyncIterable<T>;

  constructor(source: AsyncIterable<T>, options: ProgressOptions = {}) {
    super(withTotal(source, options));
    this.#source = source;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    try {
      for await (const item of this.#source) {
        yield item;
        this.advance();
      }
    } finally {
      this.close();
    }
  }
}

/** Takes the total from `length` or `size` of the source, unless it is given. */
function withTotal(source: object, options: ProgressOptions): ProgressOptions {
  if (options.total !== undefined) return options;
  const { length, size } = source as { length?: unknown; size?: unknown };
  const total = typeof length === 'number' ? length : size;
  return typeof total === 'number' ? { ...options, total } : options;
}

/**
 * Shows the progress of a loop. Given something to iterate over it returns the same items (`total`
 * is taken from its `length` or `size`), given a number, a bar to move by hand.
 *
 * In a terminal one line is redrawn on standard error; in a pipe, a CI job or with `NO_COLOR` a
 * plain line is printed at each 10 % and every 5 s.
 *
 * @example sketch: loader and training step are the reader's
 * const loop = progress(loader, { label: 'epoch 1', unit: 'img', unitsPerStep: 64 });
 * for await (const [images, labels] of loop) {
 *   const loss = await trainStep(images, labels);
 *   loop.set({ loss });
 * }
 */
export function progress(total: number, options?: ProgressOptions): ProgressBar;
export function progress<T>(source: Iterable<T>, options?: ProgressOptions): ProgressLoop<T>;
export function progress<T>(
  source: AsyncIterable<T>,
  options?: ProgressOptions,
): AsyncProgressLoop<T>;
export function progress<T>(
  source: number | Iterable<T> | AsyncIterable<T>,
  options: ProgressOptions = {},
): ProgressBar | ProgressLoop<T> | AsyncProgressLoop<T> {
  if (typeof source === 'number') return new ProgressBar({ ...options, total: source });
  if (Symbol.asyncIterator in source) return new AsyncProgressLoop(source, options);
  return new ProgressLoop(source, options);
}
