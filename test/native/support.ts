// What tests of the native toolchain share: reasons to skip, folders, and compilers that misbehave.
import { chmodSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { CompileCache, type CompileCacheOptions } from '../../src/backends/native/compile-cache.ts';
import { requireForeign } from '../../src/backends/native/foreign.ts';
import { requireToolchain } from '../../src/backends/native/toolchain.ts';
import type { CUnit } from '../../src/backends/native/units.ts';

export const INT_TO_INT = { parameters: ['i32'], result: 'i32' } as const;

/** A folder that only we can write to, removed when the file's tests are done. */
export function temporaryFolder(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'tengen-native-test-')));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A unit that exports `f`, which adds a number to its argument. */
export function adder(amount: number): CUnit {
  return {
    declarations: ['static inline int add(int a, int b) { return a + b; }'],
    definition: `int f(int x) { return add(x, ${amount}); }`,
    exports: ['f'],
  };
}

const opened: CompileCache[] = [];
// Test runners end their processes without the event that removes temporary directories.
afterAll(() => {
  for (const { path, fallback } of opened) {
    if (fallback !== undefined) rmSync(path, { recursive: true, force: true });
  }
});

/** A cache of its own; lines that it would print are in `lines`. */
export function openCache(path: string, options: Partial<CompileCacheOptions> = {}) {
  const lines: string[] = [];
  const cache = new CompileCache({
    toolchain: requireToolchain(),
    foreign: requireForeign(),
    path,
    warn: (line) => lines.push(line),
    ...options,
  });
  opened.push(cache);
  const run = (unit: CUnit, x: number): number | undefined =>
    cache.load([unit])[0]?.function('f', INT_TO_INT)(x);
  return { cache, lines, run };
}

/** An executable file with a shell script. */
export function script(folder: string, name: string, body: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${body}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Says that it is gcc for this machine, takes every flag, and does `body` when it should compile. */
export function fakeCompiler(folder: string, name: string, body: string): string {
  const machine = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  return script(
    folder,
    name,
    `[ "$1" = -v ] && { echo "Target: ${machine}" >&2; echo "gcc version 99.0" >&2; exit 0; }
case "$*" in *-fsyntax-only*) exit 0;; esac
${body}`,
  );
}
