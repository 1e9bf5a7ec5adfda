// What `npm run parity` counts as the same, and what it refuses.
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import {
  isTelling,
  judge,
  judgeAll,
  nothing,
  relativeDifference,
  textOf,
} from '../../scripts/parity/compare.ts';
import { MODELS } from '../../scripts/parity/models.ts';
import { root } from '../../scripts/entries.ts';

const bytes = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

test('differences are over the largest value', () => {
  expect(relativeDifference(bytes(1, -4), bytes(1, -4))).toBe(0);
  expect(relativeDifference(bytes(1, -4), bytes(2, -4))).toBe(0.25);
  // Nothing that is missing, or no number, looks the same.
  expect(relativeDifference(bytes(1), bytes(1, 2))).toBe(Infinity);
  expect(relativeDifference(bytes(), bytes())).toBe(Infinity);
  expect(judge('fast', bytes(NaN, 1), bytes(2, 1)).verdict).toBe('FAIL');
  expect(judge('fast', bytes(2, 1), bytes(2, NaN)).verdict).toBe('FAIL');
});

test('strict numerics need the same bits, fast ones 1e-5', () => {
  const [one, near, far] = [bytes(1, 0), bytes(1 + 2 ** -20, 0), bytes(1 + 2 ** -10, 0)];
  expect(judge('strict', one, one)).toEqual({ verdict: 'pass', difference: 0, text: 'same bits' });
  expect(judge('strict', near, one).verdict).toBe('FAIL');
  expect(judge('strict', bytes(1, -0), one).verdict).toBe('FAIL');
  expect(judge('fast', near, one).verdict).toBe('pass');
  expect(judge('fast', far, one)).toMatchObject({ verdict: 'FAIL', text: 'FAIL 9.8e-4' });
  expect(judgeAll('strict', [one, one, near]).verdict).toBe('FAIL');
  expect(judgeAll('fast', [one, near, one])).toMatchObject({ verdict: 'pass', text: '9.5e-7' });
  expect(judgeAll('fast', [one]).verdict).toBe('skip');
});

test('results that say nothing are no results', () => {
  expect(isTelling(bytes(1, 2))).toBe(true);
  expect([bytes(), bytes(0, 0), bytes(1, NaN), bytes(1, Infinity)].some(isTelling)).toBe(false);
});

test('a table with a row for each place, and totals', () => {
  const row = { model: 'GRU', place: 'C' };
  const text = textOf([
    { ...row, numerics: 'strict', ...judge('strict', bytes(1), bytes(1)) },
    { ...row, numerics: 'fast', ...nothing('skip', 'no compiler') },
  ]);
  expect(text).toMatch(/GRU +C +same bits +skip: no compiler/);
  expect(text.split('\n').at(-1)).toBe('1 passed, 0 failed, 1 skipped');
});

test('names the models that there are', () => {
  const words = ['--import', 'tsx', `${root}scripts/parity/run.ts`, '--only', 'lenet'];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8' });
  expect(status).toBe(2);
  expect(stderr).toContain("no model 'lenet'");
  for (const { id } of MODELS) expect(stdout).toContain(id);
});
