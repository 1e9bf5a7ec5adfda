// `tengen compile`, files that build and pass their own tests, and what it refuses.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compile } from '../../src/interface/command/compile.ts';
import { root } from '../../scripts/entries.ts';
import { dim, F, nn, optim, randint, randn, spec, type Tensor, trace } from '../../src/node.ts';
import { make, missing } from '../c-export/toolchains.ts';
import { call, writeNetwork } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-compile-'));
const file = join(folder, 'net.tengen');
const noGcc = missing('make') ?? missing('gcc');
beforeAll(async () => void (await writeNetwork(file)));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function tengen(...args: readonly string[]) {
  const command = ['--import', 'tsx', `${root}src/cli.ts`, 'compile', ...args];
  return spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });
}

test.skipIf(noGcc !== undefined)('C that builds and gives the same bits', () => {
  const out = join(folder, 'c', 'deep');
  const words = ['--target', 'c', '--out', out, '--variants', 'scalar', '--numerics', 'strict'];
  const { status, stdout, stderr } = tengen(file, ...words, '--name', 'reader', '--json');
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const report = JSON.parse(stdout) as { files: { name: string; bytes: number }[] };
  const names = report.files.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['reader.h', 'reader_scalar.c', 'Makefile']));
  expect(readdirSync(out).sort()).toEqual([...names].sort());
  for (const { name, bytes } of report.files) {
    expect(readFileSync(join(out, name)).length, name).toBe(bytes);
  }
  expect(make(out, 'test')).toContain('max relative difference: 0 (tolerance 0): passed');
});

test('a WebAssembly module that passes its test cases', () => {
  const out = join(folder, 'wasm');
  const { status, stdout } = tengen(file, '--target', 'wasm', '--out', out, '--weights', 'beside');
  expect(status).toBe(0);
  expect(stdout).toContain('net.wasm');
  expect(stdout).toContain(`node ${out}/net_test.js`);
  const script = join(out, 'net_test.js');
  expect(execFileSync(process.execPath, [script], { encoding: 'utf8' })).toContain('passed');
});

test('a training step with its own input', async () => {
  const model = new nn.Linear(3, 2);
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.25 });
  const [x, labels] = [randn(4, 3), randint(0, 2, [4])];
  const forward = trace((input: Tensor) => model.forward(input), { name: 'line' });
  const step = trace(
    (input: Tensor, truth: Tensor) => {
      const loss = F.crossEntropy(model.forward(input), truth);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    },
    { name: 'line_step' },
  );
  const [one, two] = [join(folder, 'line.tengen'), join(folder, 'step.tengen')];
  await forward.dump(one, { inputs: [spec([dim('batch'), 3])], testCases: [[x]], module: model });
  await step.dump(two, { inputs: [x, labels], module: model, testCases: [] });
  const out = join(folder, 'trained');
  const words = ['--target', 'c', '--out', out, '--train', two, '--number', 'rate=0.25'];
  // The step has no such dimension.
  const size = ['--size', 'batch=5', '--variants', 'scalar'];
  const { status, stderr } = tengen(one, ...words, ...size);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(readFileSync(join(out, 'line.h'), 'utf8')).toContain('[5, 3]');
  expect(readFileSync(join(out, 'line_step.h'), 'utf8')).toContain('LINE_STEP_INPUT_RATE');
});

test.each([
  [[], '--target is missing'],
  [['--target', 'rust'], '--target is c or wasm'],
  [['--target', 'c'], '--out is missing'],
  [['--target', 'c', '--out', 'X', '--size', 'batch'], "--size is NAME=N, got 'batch'"],
  [['--target', 'c', '--out', 'X', '--name', ''], '--name is empty'],
  [['--target', 'c', '--out', 'X', '--relaxed'], '--relaxed is not for --target c'],
  [['--target', 'wasm', '--out', 'X', '--train', 'y'], '--train is not for --target wasm'],
  [['--target', 'c', '--out', 'X', '--weights', 'inside'], 'binary or array'],
  [['--target', 'c', '--out', 'X', '--number', 'rate=fast'], '--number is NAME=VALUE'],
  [['--target', 'c', '--out', 'X', '--size', 'batch=2'], "no dimension 'batch'"],
])('refuses %j', async (words, message) => {
  await expect(call(compile, file, ...words)).rejects.toThrow(message);
  expect(existsSync('X')).toBe(false);
});

test('refuses variants and training steps that are not there, in one line', () => {
  const out = join(folder, 'refused');
  for (const [option, value, message] of [
    ['--variants', 'mmx', "got 'mmx'"],
    ['--train', 'none.tengen', "no file 'none.tengen'"],
  ] as const) {
    const { status, stderr } = tengen(file, '--target', 'c', '--out', out, option, value);
    expect(stderr).toContain(message);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
    expect(existsSync(out)).toBe(false);
  }
});
