// Short-time transforms, their inverse, and windows against PyTorch's.
import { describe, expect, test } from 'vitest';
import { arange, rand, type Tensor, zeros } from 'tengen';
import * as F from 'tengen/fft';
import 'tengen/interp';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';

const x = (): Tensor => {
  const t = arange(20, { dtype: 'float64' });
  return t.mul(0.7).sin().add(t.mul(0.1));
};
const double = { dtype: 'float64' } as const;
const options = () => ({ hopLength: 3, winLength: 6, window: F.hannWindow(6, double) });

describe('stft', () => {
  test('as PyTorch, with a short window in the middle', () => {
    const s = F.stft(x(), 8, options());
    expect(s.shape).toEqual([5, 7, 2]);
    expectClose(s.select(1, 2), [
      [-0.14557227, 0],
      [0.34223475, -0.37049096],
      [-0.49750615, 0.32375204],
      [0.2009168, -0.087363565],
      [0.054281486, 0],
    ]);
    const two = F.stft(x(), 8, { hopLength: 4, center: false, normalized: true, onesided: false });
    expectClose(two.select(1, 1), [
      [1.8246461, 0],
      [0.60095723, 1.4664043],
      [-0.17030289, 0.26151812],
      [-0.20055463, 0.10270473],
      [-0.20598514, 0],
      [-0.20055463, -0.10270473],
      [-0.17030289, -0.26151812],
      [0.60095723, -1.4664043],
    ]);
  });

  test('istft gives the signal back', () => {
    const back = F.istft(F.stft(x(), 8, options()), 8, options());
    expect(back.shape).toEqual([18]);
    expectClose(back, x().narrow(0, 0, 18).arraySync());
    const batch = rand([3, 100]);
    const whole = { window: F.hannWindow(16) };
    const spectrum = F.stft(batch, 16, whole);
    expectClose(F.istft(spectrum, 16, { ...whole, length: 100 }), batch.arraySync(), 1e-5);
    const both = { ...whole, onesided: false, normalized: true };
    const twosided = F.istft(F.stft(batch, 16, both), 16, { ...both, length: 110 });
    expectClose(twosided.narrow(1, 0, 100), batch.arraySync(), 1e-5);
    // Beyond what a window reaches there is nothing.
    expectClose(twosided.narrow(1, 109, 1), [[0], [0], [0]]);
  });

  test('gradients', () => {
    const weights = f64(Array.from({ length: 5 * 7 * 2 }, (_, i) => Math.cos(i * i))).reshape(
      5,
      7,
      2,
    );
    checkDifferences((y) => F.stft(y, 8, options()).square().mul(weights).sum(), x());
    const small = F.stft(x(), 8, options()).narrow(1, 0, 3).detach();
    checkDifferences((s) => F.istft(s, 8, options()).square().sum(), small);
  });

  test('errors', () => {
    expect(() => F.stft(zeros(2, 2, 8), 4)).toThrow('takes [n] or [batch, n]');
    expect(() => F.stft(zeros(8), 4, { winLength: 5 })).toThrow('winLength 5 is more than nFft 4');
    expect(() => F.stft(zeros(8), 4, { window: zeros(3) })).toThrow('expected [4]');
    expect(() => F.stft(zeros(3), 4, { center: false })).toThrow('3 samples are fewer');
    expect(() => F.stft(zeros(8), 0)).toThrow('nFft');
    expect(() => F.istft(zeros(4, 3, 2), 8)).toThrow('4 frequencies of 3 pieces, expected 5');
    expect(() => F.istft(zeros(5, 3), 8)).toThrow('complex numbers');
  });
});

describe('windows', () => {
  const cases: readonly (readonly [string, typeof F.hannWindow, number[], number[]])[] = [
    ['hann', F.hannWindow, [0, 0.3454915, 0.9045085, 0.9045085, 0.3454915], [0, 0.5, 1, 0.5, 0]],
    [
      'hamming',
      F.hammingWindow,
      [0.08, 0.39785218, 0.91214782, 0.91214782, 0.39785218],
      [0.08, 0.54, 1, 0.54, 0.08],
    ],
    [
      'blackman',
      F.blackmanWindow,
      [0, 0.20077014, 0.84922986, 0.84922986, 0.20077014],
      [0, 0.34, 1, 0.34, 0],
    ],
    ['bartlett', F.bartlettWindow, [0, 0.4, 0.8, 0.8, 0.4], [0, 0.5, 1, 0.5, 0]],
    [
      'kaiser',
      F.kaiserWindow,
      [5.2773441e-5, 0.10171969, 0.79293983, 0.79293983, 0.10171969],
      [5.2773441e-5, 0.21567274, 1, 0.21567274, 5.2773441e-5],
    ],
  ];
  test.each(cases)('%s', (name, window, periodic, symmetric) => {
    expectClose(window(5, double), periodic);
    expectClose(window(5, { ...double, periodic: false }), symmetric);
    expectClose(window(1), [1]);
    expect(window(0).shape).toEqual([0]);
    expect(() => window(-1)).toThrow(`${name}Window: the length`);
  });
});
