// The command `tengen`, as a process: what it prints and how it ends.
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { root } from '../../scripts/entries.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-command-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const cache = join(folder, 'cache');
const hasFull = existsSync('/dev/full');

function tengen(...args: readonly string[]) {
  return tengenWith({ TENGEN_CACHE: cache }, ...args);
}

function tengenWith(variables: NodeJS.ProcessEnv, ...args: readonly string[]) {
  const command = ['--import', 'tsx', `${root}src/cli.ts`, ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...variables },
    // A command that does not end must fail, not wait.
    timeout: 60_000,
  });
  return { status, stdout, stderr };
}

test('says what there is to compute with', () => {
  const { status, stdout } = tengen('env', '--json');
  expect(status).toBe(0);
  const { device, devices } = JSON.parse(stdout) as {
    device: string;
    devices: { name: string; unavailable: string | null }[];
  };
  expect(devices.map(({ name }) => name)).toEqual(['native', 'wasm']);
  expect(devices.find(({ name }) => name === device)?.unavailable).toBeNull();
});

test('shows and clears the cache', () => {
  mkdirSync(cache, { recursive: true });
  const measured = { wasm: { 'matmul float32[2,2]': { 'packed product': 2, other: 1.5 } } };
  writeFileSync(join(cache, 'algorithms.json'), JSON.stringify(measured));
  expect(tengen('cache').stdout).toContain('1 measured algorithms');
  expect(tengen('cache', 'list').stdout).toMatch(
    /matmul .* other 1\.500 ms, packed product 2\.000/,
  );
  expect(tengen('cache', 'clear').status).toBe(0);
  expect(existsSync(cache)).toBe(false);
  expect(tengen('cache').stdout).toContain('0 kernels in 0 libraries, 0 programs');
});

test('has help texts, and refuses what it does not know in one line', () => {
  expect(tengen().stdout).toContain('tengen COMMAND');
  for (const name of ['verify']) {
    const { status, stdout } = tengen(name, '--help');
    expect(status).toBe(0);
    expect(stdout).toContain(`tengen ${name}`);
  }
  for (const words of [['fly'], ['run', 'none.tengen']]) {
    const { status, stderr } = tengen(...words);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^tengen.*hint: tengen .*--help\n$/);
  }
});

test('says its version', () => {
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
    version: string;
  };
  for (const word of ['--version', '-v']) {
    expect(tengen(word)).toMatchObject({ status: 0, stdout: `tengen ${version}\n`, stderr: '' });
  }
  expect(JSON.parse(tengen('--version', '--json').stdout)).toEqual({
    tengen: version,
    node: process.version,
    platform: process.platform,
    arch: process.arch,
  });
  expect(tengen('-v', 'run')).toMatchObject({ status: 2, stdout: '' });
  expect(tengen('--help').stdout).toContain('--version, -v');
});

const network = 'test/onnx/fixtures/network.onnx';
const taken = join(folder, 'taken');
writeFileSync(taken, 'a file');
// Root may write into every folder: only /proc refuses it too.
const places = existsSync('/proc') ? ['/proc/none'] : [taken];

describe.each([
  ['run', ['--device', 'wasm', '--output']],
  ['compile', ['--target', 'wasm', '--out']],
] as const)('%s into a folder that cannot be made', (name, words) => {
  test.each(places)('%s', (place) => {
    const { status, stdout, stderr } = tengen(name, network, ...words, place);
    expect(stderr).toMatch(/^tengen \w+: cannot make the folder '.*' \(E\w+: .*\)\n$/);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  });
});

test('a page that cannot be written', () => {
  for (const place of [hasFull ? '/dev/full' : folder]) {
    const { status, stdout, stderr } = tengen('inspect', network, '--html', place);
    expect(stderr).toMatch(/^tengen inspect: cannot write '.*' \(E\w+: .*\)\n$/);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  }
});

test.skipIf(!hasFull)('results that do not arrive are a failure', () => {
  const full = openSync('/dev/full', 'w');
  const command = ['--import', 'tsx', `${root}src/cli.ts`, 'env', '--json'];
  const ended = spawnSync(process.execPath, command, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', full, 'pipe'],
  });
  closeSync(full);
  expect(ended.stderr).toMatch(/^tengen: the results could not be written \(ENOSPC.*\)\n$/);
  expect(ended.status).toBe(1);
});

test('no folder for the cache is no failure', () => {
  const { status, stderr } = tengenWith({ TENGEN_CACHE: places.at(-1) }, 'run', network);
  expect(status).toBe(0);
  expect(stderr).toMatch(/^(tengen: compiled kernels are kept for this process only: .*\n)?$/);
});

test('inspects an ONNX file, and says what is wrong with a broken one', () => {
  const { status, stdout } = tengen('inspect', 'test/onnx/fixtures/network.onnx', '--json');
  expect(status).toBe(0);
  expect((JSON.parse(stdout) as { format: string }).format).toBe('onnx');
  const broken = join(folder, 'broken.tengen');
  writeFileSync(broken, 'no model');
  const ended = tengen('verify', broken);
  expect(ended.status).toBe(1);
  expect(ended.stderr.trim().split('\n')).toHaveLength(1);
});
