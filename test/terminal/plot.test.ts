// Plots, sparklines, histograms, tables, images and number formats.

import { describe, expect, test } from 'vitest';

import {
  colors,
  displayWidth,
  formatBytes,
  formatClock,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
  histogram,
  imageGrid,
  plot,
  smooth,
  sparkline,
  table,
} from '../../src/terminal.ts';
import { supportsColor } from '../../src/interface/terminal/environment.ts';
import { cutText } from '../../src/interface/terminal/text.ts';
import { linearTicks, logTicks } from '../../src/interface/terminal/ticks.ts';

const plain = { color: false, unicode: true } as const;

describe('plot', () => {
  test('a falling line in braille, with axes and ticks', () => {
    const falling = [4, 3, 2, 1, 0];
    expect(plot(falling, { ...plain, width: 24, height: 5, title: 'loss' })).toBe(
      [
        '           loss',
        '4 ┤⠑⠢⢄⡀',
        '  │   ⠈⠑⠒⠤⣀',
        '2 ┤        ⠉⠒⠤⢄⡀',
        '  │            ⠈⠉⠒⠤⣀',
        '0 ┤                 ⠉⠒⠤⣀',
        '  └┬─────────┬─────────┬',
        '   0         2         4',
      ].join('\n'),
    );
  });

  test('series are told apart by marks without colours, by colours with them', () => {
    const input = { train: [3, 2, 1], test: [4, 3, 3] };
    const marked = plot(input, { ...plain, width: 40 });
    expect(marked).toContain('• train   × test');
    expect(marked).not.toMatch(/[\u2800-\u28ff]/);
    const colored = plot(input, { color: true, unicode: true, width: 40 });
    expect(colored).toMatch(/[\u2801-\u28ff]/);
    expect(colored).toContain('\u001b[36m──\u001b[39m train');
    const ascii = plot(input, { color: false, unicode: false, width: 40 });
    // oxlint-disable-next-line no-control-regex -- ASCII is meant as a range of codes
    expect(ascii).toMatch(/^[\x00-\x7f]*$/);
  });

  test.each([20, 33, 80, 121])('no line is wider than %i columns', (width) => {
    const noise = Array.from({ length: 500 }, (_, i) => Math.sin(i / 20) * 1000);
    for (const color of [true, false]) {
      const text = plot({ noise, more: noise }, { width, color, xLabel: 'step', yLabel: 'value' });
      for (const line of text.split('\n')) expect(displayWidth(line)).toBeLessThanOrEqual(width);
    }
  });

  test('gaps, constants, single points, nothing at all', () => {
    const withGap = plot([1, 1, Number.NaN, 1, 1], { ...plain, width: 30, height: 3 });
    const drawn = withGap.split('\n').find((line) => /[\u2801-\u28ff]/.test(line)) ?? '';
    expect(drawn).toMatch(/[\u2801-\u28ff] +[\u2801-\u28ff]/);
    expect(plot([], { ...plain, width: 30 })).toContain('no data');
    expect(plot([Number.NaN, Number.POSITIVE_INFINITY], plain)).toContain('no data');
    expect(plot([7], { ...plain, width: 30 })).toMatch(/[\u2801-\u28ff]/);
    expect(plot({}, { ...plain, width: 30 })).toContain('no data');
    expect(plot([0, -1], { ...plain, width: 30, logY: true })).toContain('no data');
  });

  test('a logarithmic axis has powers of ten', () => {
    const text = plot([1e-3, 1, 1e3], { ...plain, width: 40, height: 9, logY: true });
    expect(text).toContain('0.01 ┤');
    expect(text).toContain('   1 ┤');
    expect(text).toContain(' 100 ┤');
  });

  test('own places on the x axis', () => {
    const text = plot({ x: [10, 20, 40], y: [1, 2, 3] }, { ...plain, width: 50 });
    expect(text.split('\n').at(-1)).toMatch(/^ +10 +15 +20 +25 +30 +35 +40$|^ +10 +20 +30 +40$/);
  });

  test('smoothing is an average without the bias of its start', () => {
    expect([...smooth([2, 2, 2], 0.9)]).toEqual([2, 2, 2]);
    const [first, second] = smooth([1, 2], 0.5);
    expect(first).toBe(1);
    expect(second).toBeCloseTo((2 + 0.5) / 1.5, 12);
    expect(smooth([1, Number.NaN, 1], 0.5)[1]).toBeNaN();
    expect(() => smooth([1], 1)).toThrow(RangeError);
  });

  test('ticks are round numbers', () => {
    const { values, format } = linearTicks(0.03, 2.31, 5);
    expect(values.map(format)).toEqual(['0.5', '1.0', '1.5', '2.0']);
    const small = linearTicks(1e-7, 3e-7, 2);
    expect(small.values.map(small.format)).toEqual(['1e-7', '2e-7', '3e-7']);
    const log = logTicks(-1.3, 0.4, 6);
    expect(log.values.map(log.format)).toEqual(['0.1', '0.2', '0.5', '1', '2']);
  });
});

describe('small charts', () => {
  test('sparkline', () => {
    expect(sparkline([1, 4, 9, 4, 1], { unicode: true })).toBe('▁▄█▄▁');
    expect(sparkline([1, Number.NaN, 2], { unicode: true })).toBe('▁ █');
    expect(sparkline([5, 5], { unicode: true })).toBe('▅▅');
    expect(
      sparkline(
        Array.from({ length: 100 }, (_, i) => i),
        { width: 8 },
      ),
    ).toHaveLength(8);
    expect(sparkline([])).toBe('');
  });

  test('histogram counts every value once', () => {
    const values = [0, 0.1, 0.2, 0.9, 1, 5, Number.NaN];
    const text = histogram(values, { ...plain, bins: 2, min: 0, max: 1, width: 30, title: 'w' });
    const [title, low, high, ...rest] = text.split('\n');
    expect(title).toBe('w');
    expect(low).toMatch(/^0\.00 ▕█+ 3$/);
    expect(high).toMatch(/^0\.50 ▕█+.? 2$/);
    expect(rest).toEqual(['1 outside', '1 not finite']);
    expect(histogram([], plain).split('\n')).toHaveLength(10);
    expect(histogram([2, 2], { ...plain, bins: 4 })).toMatch(/ 2$/m);
  });

  test('table', () => {
    const rows = [['conv1', 320], ['天元', 1290], ['short']];
    expect(table(rows, { head: ['layer', 'parameters'] })).toBe(
      [
        'layer  parameters',
        '─────  ──────────',
        'conv1         320',
        '天元         1290',
        'short',
      ].join('\n'),
    );
    const framed = table(rows, { border: true, unicode: false, align: 'center' });
    expect(framed.split('\n')[0]).toBe('+-------+------+');
    expect(table([])).toBe('');
  });
});

describe('imageGrid', () => {
  const ramp = { pixels: [0, 1, 2, 3], width: 2, height: 2, label: 'ab' };

  test('half blocks: the upper pixel before, the lower behind', () => {
    const text = imageGrid([ramp], { color: true, unicode: true, imageWidth: 2 });
    const [row] = text.split('\n');
    expect(row).toBe('\u001b[38;5;232;48;5;247m▀\u001b[38;5;240;48;5;255m▀\u001b[0m');
  });

  test('shades without colours, labels below, rows of as many as fit', () => {
    const text = imageGrid([ramp, ramp, ramp], { color: false, unicode: true, width: 6 });
    expect(text.split('\n')).toEqual(['░▓  ░▓', 'ab  ab', '', '░▓', 'ab']);
  });

  test('a smaller drawing averages', () => {
    const pixels = Uint8Array.from({ length: 16 }, (_, i) => (i % 4 < 2 ? 0 : 200));
    const options = { color: false, unicode: false, imageWidth: 2 };
    expect(imageGrid([{ pixels, width: 4, height: 4 }], options)).toBe(' @');
  });

  test('a wrong number of pixels is refused', () => {
    expect(() => imageGrid([{ pixels: [1, 2, 3], width: 2, height: 2 }])).toThrow(/2 x 2/);
  });
});

describe('text and numbers', () => {
  test.each([
    [formatDuration(850), '850 ms'],
    [formatDuration(4_230), '4.2 s'],
    [formatDuration(59_700), '1:00'],
    [formatDuration(187_000), '3:07'],
    [formatDuration(8_109_000), '2:15:09'],
    [formatDuration(Number.POSITIVE_INFINITY), '?'],
    [formatClock(7_000), '0:07'],
    [formatBytes(0), '0 B'],
    [formatBytes(1_536), '1.5 KiB'],
    [formatBytes(1024 ** 2 - 1), '1 MiB'],
    [formatBytes(150 * 1024 ** 3), '150 GiB'],
    [formatCount(1_234), '1,234'],
    [formatCount(999_999), '1M'],
    [formatCount(11_689_512), '11.7M'],
    [formatCount(-12_300), '-12.3k'],
    [formatNumber(0.31274), '0.3127'],
    [formatNumber(12.3456), '12.35'],
    [formatNumber(0.0000123), '1.23e-5'],
    [formatNumber(17), '17'],
    [formatNumber(Number.NaN), 'NaN'],
    [formatPercent(0.98642), '98.64 %'],
    [formatPercent(0.5), '50.0 %'],
    [formatPercent(1), '100.0 %'],
  ])('%s is %s', (actual, expected) => {
    expect(actual).toBe(expected);
  });

  test('widths of wide, combining and coloured characters', () => {
    expect(displayWidth('天元')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth(colors(true).red('abc'))).toBe(3);
    expect(displayWidth(cutText(colors(true).red('天元天元'), 6))).toBe(5);
    expect(cutText('abcdef', 4)).toBe('abc…');
    expect(cutText('abc', 3)).toBe('abc');
  });

  test('colours follow FORCE_COLOR, NO_COLOR, TERM and the stream, in this order', () => {
    const terminal = { isTTY: true, write: () => true };
    const pipe = { isTTY: false, write: () => true };
    expect(supportsColor(terminal, {})).toBe(true);
    expect(supportsColor(pipe, {})).toBe(false);
    expect(supportsColor(terminal, { NO_COLOR: '1' })).toBe(false);
    expect(supportsColor(terminal, { TERM: 'dumb' })).toBe(false);
    expect(supportsColor(pipe, { FORCE_COLOR: '1', NO_COLOR: '1' })).toBe(true);
    expect(supportsColor(terminal, { FORCE_COLOR: '0' })).toBe(false);
    expect(colors(false).red('x')).toBe('x');
    expect(colors(true).bold('x')).toBe('\u001b[1mx\u001b[22m');
  });
});
