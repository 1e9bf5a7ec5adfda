// Progress bars against fake streams and a fake clock.
/* oxlint-disable no-control-regex -- what is tested is the absence of control characters */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { displayWidth, formatPercent, progress, ProgressBar } from '../../src/terminal.ts';
import type { OutputStream, ProgressOptions } from '../../src/terminal.ts';

class FakeStream implements OutputStream {
  text = '';
  readonly isTTY: boolean;
  columns = 100;
  readonly errorListeners: ((error: Error) => void)[] = [];

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string): void {
    this.text += text;
  }

  on(_event: 'error', listener: (error: Error) => void): void {
    this.errorListeners.push(listener);
  }

  /** What a terminal would show: each line after its last redrawing. */
  get lines(): string[] {
    return this.text
      .split('\n')
      .map((line) => (line.split('\r').at(-1) ?? '').replace(/\u001b\[[0-9;]*[A-Za-z]/g, ''));
  }
}

let clock = 0;
const now = () => clock;
const plainOptions = { now, unicode: true, color: false } satisfies ProgressOptions;

beforeEach(() => {
  clock = 0;
  for (const name of ['CI', 'NO_COLOR', 'FORCE_COLOR', 'TERM']) vi.stubEnv(name, undefined);
});

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('in a terminal', () => {
  test('one line is redrawn, with bar, metrics, rate and time left', () => {
    const stream = new FakeStream(true);
    const bar = new ProgressBar({
      ...plainOptions,
      stream,
      total: 100,
      label: 'epoch 1',
      unit: 'img',
      unitsPerStep: 64,
      format: { accuracy: formatPercent },
    });
    for (let step = 0; step < 50; step++) {
      clock += 200;
      bar.advance(1, { loss: 0.5, accuracy: 0.875 });
    }
    expect(stream.text).not.toContain('\n');
    const line = bar.render(120);
    expect(line).toMatch(/^epoch 1 {2}█+▌·+ {3}50% {2}50\/100 {2}loss 0\.5000 {2}accuracy 87\.5 %/);
    expect(line).toContain('320 img/s');
    expect(line).toContain('0:10, 0:10 left');
    expect(stream.lines.at(-1)).toContain('loss 0.5000');
    bar.close();
    expect(stream.text.endsWith('\n')).toBe(true);
    expect(stream.lines.at(-2)).toContain('in 10 s');
  });

  test('draws no more often than redrawEvery', () => {
    const stream = new FakeStream(true);
    const bar = new ProgressBar({ ...plainOptions, stream, total: 1000, redrawEvery: 100 });
    for (let step = 0; step < 999; step++) {
      clock += 1;
      bar.advance();
    }
    const drawings = stream.text.split('\r').length - 1;
    expect(drawings).toBeGreaterThan(8);
    expect(drawings).toBeLessThan(13);
  });

  test.each([10, 20, 30, 45, 60, 80, 200])('a line never exceeds %i columns', (width) => {
    const stream = new FakeStream(true);
    const bar = new ProgressBar({ ...plainOptions, stream, total: 300, label: '第一輪', width });
    clock += 1000;
    bar.advance(137, { loss: 0.1234, accuracy: 0.9 });
    const line = bar.render();
    expect(displayWidth(line)).toBeLessThanOrEqual(width);
    if (width >= 30) expect(line).toContain('45%');
    if (width >= 80) expect(line).toMatch(/accuracy.*137\/300|137\/300.*accuracy/);
  });

  test('an inner bar has the line to itself until it ends', () => {
    const stream = new FakeStream(true);
    const outer = new ProgressBar({ ...plainOptions, stream, total: 2, label: 'outer' });
    const inner = new ProgressBar({ ...plainOptions, stream, total: 9, label: 'inner' });
    const before = stream.text.length;
    clock += 1000;
    outer.advance();
    expect(stream.text.length).toBe(before);
    inner.advance(9);
    outer.advance();
    expect(stream.lines.filter((line) => line.startsWith('inner'))).toHaveLength(1);
    expect(stream.lines.filter((line) => line.startsWith('outer'))).toHaveLength(1);
  });

  test('log prints above the bar', () => {
    const stream = new FakeStream(true);
    const bar = new ProgressBar({ ...plainOptions, stream, total: 4, label: 'run' });
    bar.log('saved model.safetensors');
    expect(stream.lines[0]).toBe('saved model.safetensors');
    expect(stream.lines[1]).toContain('run');
  });

  test('draws in ASCII where Unicode does not show', () => {
    const bar = new ProgressBar({ now, unicode: false, color: false, stream: null, total: 4 });
    clock += 1000;
    bar.advance(2);
    expect(bar.render(60)).toMatch(/^\[=+> +\] {3}50%/);
  });
});

describe('elsewhere', () => {
  test('a plain line at each tenth, without escape sequences', () => {
    const stream = new FakeStream(false);
    let count = 0;
    for (const item of progress(
      Array.from({ length: 100 }, (_, i) => i),
      { ...plainOptions, stream, label: 'train' },
    )) {
      clock += 100;
      count += item >= 0 ? 1 : 0;
    }
    expect(count).toBe(100);
    expect(stream.text).not.toMatch(/[\u001b\r]/);
    expect(stream.lines.filter((line) => line !== '')).toHaveLength(10);
    expect(stream.lines[0]).toBe('train   10 %  10/100  10.0 step/s  0:01, 0:09 left');
    expect(stream.lines[9]).toBe('train  100 %  100/100  10.0 step/s  in 10 s');
  });

  test('a slow loop prints every five seconds, a fast one only its end', () => {
    const slow = new FakeStream(false);
    const slowBar = new ProgressBar({ ...plainOptions, stream: slow, total: 1_000_000 });
    for (let second = 0; second < 20; second++) {
      clock += 1000;
      slowBar.advance();
    }
    expect(slow.lines.filter((line) => line !== '')).toHaveLength(4);
    const fast = new FakeStream(false);
    const fastBar = new ProgressBar({ ...plainOptions, stream: fast, total: 1000 });
    for (let step = 0; step < 1000; step++) {
      clock += 0.1;
      fastBar.advance();
    }
    expect(fast.lines.filter((line) => line !== '')).toHaveLength(1);
  });

  test.each([
    ['CI', 'true'],
    ['NO_COLOR', '1'],
    ['TERM', 'dumb'],
  ])('%s=%s asks for plain lines in a terminal', (name, value) => {
    vi.stubEnv(name, value);
    const stream = new FakeStream(true);
    const bar = new ProgressBar({ now, stream, total: 2 });
    bar.advance(2);
    expect(stream.text).not.toMatch(/[\u001b\r]/);
    expect(stream.text).toContain('2/2');
  });
});

describe('loops', () => {
  test('an async iterable keeps its items, and metrics of the last step are shown', async () => {
    const stream = new FakeStream(false);
    async function* source(): AsyncGenerator<number> {
      for (let i = 0; i < 3; i++) yield await Promise.resolve(i);
    }
    const loop = progress(source(), { ...plainOptions, stream, total: 3 });
    const items: number[] = [];
    for await (const item of loop) {
      items.push(item);
      loop.set({ loss: item + 0.5 });
    }
    expect(items).toEqual([0, 1, 2]);
    expect(loop.closed).toBe(true);
    expect(stream.text).toContain('loss 2.500');
  });

  test('without a total steps are counted', () => {
    const stream = new FakeStream(false);
    const source = {
      *[Symbol.iterator]() {
        yield 1;
        yield 2;
      },
    };
    expect([...progress(source, { ...plainOptions, stream })]).toEqual([1, 2]);
    expect(stream.text).toMatch(/^2 step/);
  });

  test('an error in the loop, or leaving it, ends the bar', () => {
    const stream = new FakeStream(true);
    const loop = progress([1, 2, 3], { ...plainOptions, stream });
    expect(() => {
      for (const item of loop) if (item === 2) throw new Error('stop');
    }).toThrow('stop');
    expect(loop.closed).toBe(true);
    expect(stream.text.endsWith('\n')).toBe(true);
  });

  test('the total comes from length or size', () => {
    expect(progress([1, 2], { stream: null }).total).toBe(2);
    expect(progress(new Set([1, 2, 3]), { stream: null }).total).toBe(3);
    expect(() => progress(-1, { stream: null })).toThrow(RangeError);
  });
});

describe('a stream that fails', () => {
  test('does not end the loop, whether it throws, has ended, or reports later', () => {
    const throwing: OutputStream = {
      isTTY: true,
      write: () => {
        throw new Error('EPIPE');
      },
    };
    const ended = new FakeStream(true);
    Object.assign(ended, { writable: false });
    const reporting = new FakeStream(true);
    for (const stream of [throwing, ended, reporting]) {
      const bar = new ProgressBar({ ...plainOptions, stream, total: 3 });
      reporting.errorListeners[0]?.(new Error('EPIPE'));
      bar.advance(1, { loss: 1 });
      bar.log('message');
      bar.close();
      expect(bar.done).toBe(1);
    }
    expect(ended.text).toBe('');
    expect(reporting.errorListeners).toHaveLength(1);
    expect(reporting.text).not.toContain('message');
  });
});
