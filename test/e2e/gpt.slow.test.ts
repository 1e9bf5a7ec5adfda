// The GPT example from the command line: it learns, writes, goes on after Ctrl-C; what it says about
// mistakes.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Finished, hashOf, startExample } from './command.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-gpt-'));
const at = (name: string): string => join(folder, name);
const data = at('data');

const start = (...args: readonly (string | number)[]) => startExample('gpt/gpt.ts', args);
const run = (...args: readonly (string | number)[]): Promise<Finished> => start(...args).finished;

/** Small enough for seconds; strict, so that bits can be compared. */
const SMALL = ['--data', data, '--device', 'wasm', '--numerics', 'strict'] as const;
const SETTINGS = ['--steps', 12, '--batch', 2, '--seed', 3, '--dropout', 0.1] as const;

beforeAll(() => {
  mkdirSync(data);
  const lines = Array.from({ length: 160 }, (_, i) => `${i % 7} times ${i % 5} is a number.\n`);
  writeFileSync(join(data, 'text.txt'), lines.join(''));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('training and writing', { timeout: 240_000 }, () => {
  test('learns, reports, and repeats when interrupted in between', async () => {
    const files = ['--save', at('whole.safetensors'), '--json', at('whole.json')];
    const whole = await run(...SMALL, ...SETTINGS, ...files, '--sample', 40);
    expect(whole.code, whole.errors).toBe(0);
    const report = JSON.parse(readFileSync(at('whole.json'), 'utf8')) as Record<string, unknown>;
    expect(report).toMatchObject({
      planMissesAfterWarmUp: 0,
      settings: { steps: 12, batch: 2, layers: 4, width: 128, device: 'wasm' },
    });
    const curve = report['lossCurve'] as number[];
    expect(curve).toHaveLength(12);
    expect(curve.at(-1)).toBeLessThan(curve[0]! - 0.5);
    expect(report['heldOutLoss']).toBeLessThan(curve[0]!);
    expect([...(report['sample'] as string)]).toHaveLength(40);
    expect(whole.output).toContain('held-out loss');

    const save = ['--save', at('resumed.safetensors')];
    const { child, finished } = start(...SMALL, ...SETTINGS, ...save);
    await new Promise<void>((resolve) => {
      child.stderr?.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('steps 1-3')) resolve();
      });
      child.on('close', () => resolve());
    });
    child.kill('SIGINT');
    const interrupted = await finished;
    expect(interrupted.code, interrupted.errors).toBe(130);
    expect(existsSync(at('resumed.safetensors'))).toBe(false);
    const checkpoint = at('resumed.checkpoint.safetensors');
    const resumed = await run(...SMALL, ...save, '--resume', checkpoint, '--sample', 5);
    expect(resumed.code, resumed.errors).toBe(0);
    expect(hashOf(at('resumed.safetensors'))).toBe(hashOf(at('whole.safetensors')));

    // A finished run only writes.
    const prompt = ['--prompt', '3 times', '--temperature', 0, '--sample', 5];
    const again = await run(...SMALL, ...save, '--resume', checkpoint, ...prompt);
    expect(again.code, again.errors).toBe(0);
    expect(again.output).toContain('3 times');
    expect(hashOf(at('resumed.safetensors'))).toBe(hashOf(at('whole.safetensors')));
    const other = await run(...SMALL, '--resume', checkpoint, '--batch', 4);
    expect(other.errors).toContain('batch is 4, the run in');
  });
});

describe('mistakes', { timeout: 60_000 }, () => {
  test.each<[string, readonly (string | number)[]]>([
    ['--data DIR is missing', []],
    ['no .txt file in', ['--data', folder]],
    ['--steps 0: expected a whole number of at least 1', [...SMALL, '--steps', 0]],
    ['--dropout 1: expected a number below 1', [...SMALL, '--dropout', 1]],
    ['--topK 0: expected a whole number of at least 1', [...SMALL, '--topK', 0]],
    ['the model does not know "Z"', [...SMALL, '--prompt', 'Z']],
    ["Unknown option '--step'", ['--step', '3']],
  ])('%s', async (message, args) => {
    const save = ['--save', at('mistake.safetensors')];
    const { code, errors } = await run(...args, ...(message.includes('Unknown') ? [] : save));
    expect(errors).toContain(message);
    expect(errors, 'a stack is for bugs').not.toContain('    at ');
    expect(code).toBe(1);
  });

  test('a text that is too short', async () => {
    const short = at('short');
    mkdirSync(short);
    writeFileSync(join(short, 'a.txt'), 'abc'.repeat(100));
    const { errors } = await run('--data', short, '--save', at('short.safetensors'));
    expect(errors).toContain('300 characters are too few for a context of 128');
  });
});
