// Many processes with one cache, and processes that are killed while they compile.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CacheDirectory } from '../../src/backends/native/cache-directory.ts';
import { missingTools } from '../../src/backends/native/compile-cache.ts';
import { temporaryFolder } from './support.ts';

const missing = missingTools() ?? undefined;
const program = fileURLToPath(new URL('child.ts', import.meta.url));
const VALUES = [10, 20, 30, 40, 50, 60, 70, 80];

const start = (path: string): ChildProcess =>
  spawn(process.execPath, ['--import', 'tsx', program, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });

/** What the process printed last, after it ended well. */
function reportOf(child: ChildProcess): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout?.on('data', (part: Buffer) => (text += part.toString()));
    child.on('close', (status, signal) => {
      const line = text.trim().split('\n').at(-1) ?? '';
      if (status === 0) resolve(JSON.parse(line) as Record<string, unknown>);
      else reject(new Error(`ended with ${status ?? signal}: ${text}`));
    });
  });
}

describe.skipIf(missing !== undefined)(`one cache ${missing ?? ''}`, () => {
  const folder = temporaryFolder();

  it('serves 16 processes at once', async () => {
    const path = join(folder, 'many');
    const reports = await Promise.all(Array.from({ length: 16 }, () => reportOf(start(path))));
    for (const report of reports) {
      expect(report).toMatchObject({ values: VALUES, rejected: 0 });
      expect(report['fallback']).toBeUndefined();
    }
    const names = readdirSync(join(path, 'v1'));
    expect(names.filter((name) => !name.endsWith('.so'))).toHaveLength(8);
    // 5000 bytes each are 5 translation units. Who comes a little later finds some kernels, and shares
    // out the rest in other units: a few libraries more, but nothing like 16 times 5.
    expect(names.filter((name) => name.endsWith('.so')).length).toBeLessThanOrEqual(16);
    expect(await reportOf(start(path))).toMatchObject({ values: VALUES, hits: 8, misses: 0 });
  }, 240_000);

  it('is sound after processes were killed at any moment', async () => {
    const path = join(folder, 'killed');
    for (const wait of [0, 10, 20, 40, 80, 120, 200]) {
      const child = start(path);
      // It may be done before it is killed.
      const closed = new Promise((resolve) => child.once('close', resolve));
      await Promise.race([closed, new Promise((resolve) => child.stdout?.once('data', resolve))]);
      await new Promise((resolve) => setTimeout(resolve, wait));
      child.kill('SIGKILL');
      await closed;
    }
    expect(await reportOf(start(path))).toMatchObject({ values: VALUES, rejected: 0 });
    expect(await reportOf(start(path))).toMatchObject({ values: VALUES, hits: 8, misses: 0 });
    // What the killed ones left goes once it is old.
    const left = readdirSync(join(path, 'v1')).filter((name) => name.startsWith('work-'));
    for (const name of left) utimesSync(join(path, 'v1', name), 1000, 1000);
    expect(CacheDirectory.open(path, 1e9)).toBeInstanceOf(CacheDirectory);
    const after = readdirSync(join(path, 'v1'));
    expect(after.filter((name) => name.startsWith('work-'))).toEqual([]);
  }, 240_000);
});
