// The golden runner on a small folder made here: it must pass what is right, fail what is wrong,
// skip what does not exist, and refuse folders that are not what they say.

import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { adapterOf } from '../../scripts/golden/adapters.ts';
import { GoldenFormatError, loadCases } from '../../scripts/golden/manifest.ts';
import { runCase } from '../../scripts/golden/runner.ts';
import { serializeSafetensors } from '../../src/io.ts';

let directory = '';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tengen-golden-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** d/dx and d/dy of sum(x * y * [10, 100]) are y * [10, 100] and x * [10, 100]. */
const PRODUCT = {
  in0: [2, 3],
  in1: [5, 7],
  out0: [10, 21],
  gout0: [10, 100],
  gin0: [50, 700],
  gin1: [20, 300],
};

const productCase = {
  id: 'mul/0',
  op: 'mul',
  attrs: {},
  inputs: ['in0', 'in1'],
  outputs: ['out0'],
  gradOutputs: ['gout0'],
  gradInputs: ['gin0', 'gin1'],
  tolerance: { rtol: 1e-5, atol: 1e-6 },
};

async function writeFolder(
  tensors: Readonly<Record<string, readonly number[]>>,
  cases: readonly object[],
  index: (digest: (name: string) => string) => object = () => ({}),
): Promise<void> {
  const arrays = Object.entries(tensors).map(
    ([name, values]) =>
      [name, { data: Float32Array.from(values), shape: [values.length] }] as const,
  );
  const files: Readonly<Record<string, Uint8Array>> = {
    'small.safetensors': await serializeSafetensors(Object.fromEntries(arrays)),
    'small.jsonl': Buffer.from(cases.map((item) => JSON.stringify(item)).join('\n')),
  };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
  const digest = (name: string) =>
    createHash('sha256')
      .update(files[name] ?? new Uint8Array())
      .digest('hex');
  const entry = { cases: cases.length, manifest: 'small.jsonl', data: 'small.safetensors' };
  const family = { ...entry, ...index(digest) };
  const text = JSON.stringify({ format: 'golden/1', families: { small: family } });
  writeFileSync(join(directory, 'index.json'), text);
}

async function outcomeOf(
  tensors: Readonly<Record<string, readonly number[]>>,
  item: typeof productCase,
) {
  await writeFolder(tensors, [item]);
  const [goldenCase] = loadCases(directory, undefined);
  if (goldenCase === undefined) throw new Error('no case was read');
  return runCase(goldenCase, adapterOf(goldenCase.op), adapterOf);
}

describe('runCase', () => {
  test('passes what is right', async () => {
    expect(await outcomeOf(PRODUCT, productCase)).toMatchObject({ kind: 'passed', maxRatio: 0 });
  });

  test('fails a wrong output, and a wrong gradient by name', async () => {
    const wrongOutput = await outcomeOf({ ...PRODUCT, out0: [10, 21.001] }, productCase);
    expect(wrongOutput).toMatchObject({ kind: 'failed' });
    expect(JSON.stringify(wrongOutput)).toContain('output 0: 1 of 2 values differ');
    const wrongGradient = await outcomeOf({ ...PRODUCT, gin1: [20, 301] }, productCase);
    expect(JSON.stringify(wrongGradient)).toContain('gradient by input 1');
  });

  test('fails where the operation throws or gives too few results', async () => {
    const thrown = await outcomeOf({ ...PRODUCT, in1: [5, 7, 9] }, productCase);
    expect(JSON.stringify(thrown)).toContain('threw ShapeError');
    const missing = await outcomeOf(PRODUCT, { ...productCase, outputs: ['out0', 'out0'] });
    expect(JSON.stringify(missing)).toContain('1 outputs, expected 2');
  });

  test('gradients go to the stored tensor through a view of it', async () => {
    const attrs = { views: { 0: [['slice', 0, 1, null, 2]] } };
    const tensors = { ...PRODUCT, in0: [0, 2, 0, 3, 0], gin0: [0, 50, 0, 700, 0] };
    expect(await outcomeOf(tensors, { ...productCase, attrs })).toMatchObject({ kind: 'passed' });
  });

  test('skips an operation that does not exist, and says which', async () => {
    const outcome = await outcomeOf(PRODUCT, { ...productCase, op: 'no_such_op' });
    expect(outcome).toMatchObject({ kind: 'skipped' });
    expect(JSON.stringify(outcome)).toContain('not in this stage: no_such_op');
  });
});

describe('loadCases', () => {
  test('reads infinities and checks digests', async () => {
    const attrs = { p: 'inf', nested: ['-inf', '...'] };
    await writeFolder(PRODUCT, [{ ...productCase, attrs }], (digest) => ({
      sha256: { 'small.safetensors': digest('small.safetensors') },
    }));
    const [goldenCase] = loadCases(directory, ['small']);
    expect(goldenCase?.attrs).toEqual({
      p: Number.POSITIVE_INFINITY,
      nested: [Number.NEGATIVE_INFINITY, '...'],
    });
  });

  test.each([
    ['another file than the index says', () => ({ sha256: { 'small.jsonl': 'beef' } }), /SHA-256/],
    ['another number of cases', () => ({ cases: 7 }), /1 cases, the index says 7/],
  ])('refuses %s', async (_, index, message) => {
    await writeFolder(PRODUCT, [productCase], index);
    expect(() => loadCases(directory, undefined)).toThrow(message);
    expect(() => loadCases(directory, undefined)).toThrow(GoldenFormatError);
  });

  test('refuses a name without a tensor, and an unknown family', async () => {
    await writeFolder(PRODUCT, [{ ...productCase, outputs: ['nowhere'] }]);
    expect(() => loadCases(directory, undefined)).toThrow(/no tensor nowhere/);
    expect(() => loadCases(directory, ['large'])).toThrow(/no family large/);
  });
});
