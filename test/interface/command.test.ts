// The command `tengen`, as a process: what it prints and how it ends.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { root } from '../../scripts/entries.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-command-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const cache = join(folder, 'cache');

function tengen(...args: readonly string[]) {
  const command = ['--import', 'tsx', `${root}src/cli.ts`, ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, TENGEN_CACHE: cache },
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
