// The MNIST example from the command line: the same weights again, on other thread counts, and
// after Ctrl-C; and what it says about mistakes.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finished, hashOf, runMnist, startMnist } from './command.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-mnist-'));
const at = (name: string): string => join(folder, name);

/** Small enough for seconds, large enough to be interrupted in the middle. */
const SMALL = ['--data', 'strokes', '--train-size', 512, '--test-size', 64] as const;
const SETTINGS = ['--batch', 16, '--epochs', 2, '--seed', 7] as const;

interface Report {
  readonly lossCurve: readonly number[];
  readonly testAccuracies: readonly number[];
}

function expectSuccess(run: Finished): void {
  expect(run.code, run.errors).toBe(0);
}

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the same weights, bit for bit', { timeout: 240_000 }, () => {
  let whole = '';
  beforeAll(async () => {
    const json = ['--json', at('whole.json')];
    const save = ['--save', at('whole.safetensors')];
    expectSuccess(await runMnist(...SMALL, ...SETTINGS, '--numerics', 'strict', ...save, ...json));
    whole = hashOf(at('whole.safetensors'));
  }, 120_000);

  test('the report has what it promises', () => {
    const report = JSON.parse(readFileSync(at('whole.json'), 'utf8')) as Record<string, unknown>;
    expect(report).toMatchObject({
      planMissesAfterFirstEpoch: 0,
      settings: { epochs: 2, batch: 16, seed: 7, trainImages: 512, testImages: 64 },
    });
    expect(report['lossCurve']).toHaveLength(64);
    expect(report['testAccuracy']).toBeGreaterThan(0.3);
    expect(report['stepMsMedian']).toBeGreaterThan(0);
    expect(report['peakRssMb']).toBeGreaterThan(20);
  });

  test('strict numerics: one thread gives what two give', async () => {
    const args = ['--numerics', 'strict', '--threads', 1, '--save', at('one.safetensors')];
    expectSuccess(await runMnist(...SMALL, ...SETTINGS, ...args));
    expect(hashOf(at('one.safetensors'))).toBe(whole);
  });

  test.each(['compared', 'symbolic', 'without-host'])(
    'the step traced, %s: the same loss curve, accuracy and weights',
    async (mode) => {
      const [save, json] = [at(`${mode}.safetensors`), at(`${mode}.json`)];
      const traced = ['--numerics', 'strict', '--trace', mode, '--save', save, '--json', json];
      expectSuccess(await runMnist(...SMALL, ...SETTINGS, ...traced));
      expect(hashOf(save)).toBe(whole);
      const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Partial<Report>;
      const { lossCurve, testAccuracies } = read(at('whole.json'));
      expect(read(json)).toMatchObject({ lossCurve, testAccuracies, planMissesAfterFirstEpoch: 0 });
    },
  );

  test('fast numerics: the same seed twice', async () => {
    const hashes: string[] = [];
    for (const name of ['first.safetensors', 'second.safetensors']) {
      expectSuccess(await runMnist(...SMALL, ...SETTINGS, '--save', at(name)));
      hashes.push(hashOf(at(name)));
    }
    expect(hashes[0]).toBe(hashes[1]);
    const other = ['--batch', 16, '--epochs', 2, '--seed', 8, '--save', at('other.safetensors')];
    expectSuccess(await runMnist(...SMALL, ...other));
    expect(hashOf(at('other.safetensors'))).not.toBe(hashes[0]);
  });

  test('interrupted and resumed equals uninterrupted', async () => {
    const strict = ['--numerics', 'strict', '--save', at('resumed.safetensors')] as const;
    const { child, finished } = startMnist(...SMALL, ...SETTINGS, ...strict);
    // The first line of progress: some steps are done, most are not.
    await new Promise<void>((resolve) => {
      child.stderr?.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('epoch 1/2')) resolve();
      });
      child.on('close', () => resolve());
    });
    child.kill('SIGINT');
    const interrupted = await finished;
    expect(interrupted.code, interrupted.errors).toBe(130);
    expect(interrupted.output).toContain('--resume');
    const checkpoint = at('resumed.checkpoint.safetensors');
    expect(existsSync(checkpoint)).toBe(true);
    expect(existsSync(at('resumed.safetensors'))).toBe(false);

    const resumed = await runMnist(...SMALL, ...strict, '--resume', checkpoint);
    expectSuccess(resumed);
    expect(hashOf(at('resumed.safetensors'))).toBe(whole);
  });
});

describe('mistakes', { timeout: 60_000 }, () => {
  async function expectMistake(message: string, ...args: (string | number)[]): Promise<void> {
    const { code, errors } = await runMnist(...args);
    expect(errors).toContain(message);
    expect(errors, 'a stack is for bugs').not.toContain('    at ');
    expect(code).toBe(1);
  }

  test('in flags and folders', async () => {
    await expectMistake('--data DIR is missing');
    await expectMistake(
      '--epochs 0: expected a whole number of at least 1',
      ...SMALL,
      '--epochs',
      0,
    );
    await expectMistake('train-images-idx3-ubyte[.gz] is not in', '--data', folder);
    await expectMistake("Unknown option '--epoch'", '--epoch', '3');
    await expectMistake("there is no device 'gpu'", ...SMALL, '--device', 'gpu');
  });

  test('in numbers, and places that cannot be written: before any work', async () => {
    await expectMistake('--epochs 1.5: expected a whole number', ...SMALL, '--epochs', 1.5);
    await expectMistake(
      '--batch -1: expected a whole number of at least 2',
      ...SMALL,
      '--batch',
      -1,
    );
    await expectMistake("'--save' argument is ambiguous.\nhint: --help", '--save', '--json', 'x');
    // A file is no folder; and under /proc nothing can be made, in which mkdir never ends.
    const below = at('a-file/x.safetensors');
    writeFileSync(at('a-file'), '');
    await expectMistake(`--save ${below}: cannot be written`, ...SMALL, '--save', below);
    await expectMistake(`--json ${folder}: cannot be written`, ...SMALL, '--json', folder);
    if (process.platform === 'linux') {
      await expectMistake('--save /proc/x/y: cannot be written', ...SMALL, '--save', '/proc/x/y');
    }
  });

  test('in a rate so high that the loss is lost: no checkpoint of it', async () => {
    const save = ['--save', at('lost.safetensors')];
    await expectMistake('hint: the learning rate of 1e+30', ...SMALL, '--lr', '1e30', ...save);
    expect(existsSync(at('lost.checkpoint.safetensors'))).toBe(false);
  });

  test('in what to resume', async () => {
    const save = ['--save', at('used.safetensors')];
    const tiny = ['--data', 'strokes', '--train-size', 32, '--test-size', 16] as const;
    expectSuccess(await runMnist(...tiny, '--batch', 16, '--epochs', 1, ...save));
    const used = at('used.checkpoint.safetensors');
    await expectMistake('is finished after 1 epochs', ...tiny, '--resume', used);
    await expectMistake('batch is 32, the run in', ...tiny, '--resume', used, '--batch', 32);
    await expectMistake('not a checkpoint', ...tiny, '--resume', at('used.safetensors'));
    await expectMistake('no such file', ...tiny, '--resume', at('absent.safetensors'));
  });
});
