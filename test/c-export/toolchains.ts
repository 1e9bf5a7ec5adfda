// The compilers that exported C is tried with, and how it is built and run.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import type { ExportedFiles } from '../../src/backends/c/export.ts';

/** Why a program cannot be started here, or undefined if it can. */
export function missing(program: string): string | undefined {
  const { error, status } = spawnSync(program, ['--version'], { stdio: 'ignore' });
  return error === undefined && status === 0 ? undefined : `${program} is not installed`;
}

/** Why ARM code cannot be built and run here. */
export function armMissing(): string | undefined {
  return missing('make') ?? missing('aarch64-linux-gnu-gcc') ?? missing('qemu-aarch64');
}

/** Whether this processor has what a variant needs. */
export function runsHere(variant: string): boolean {
  if (variant === 'scalar') return true;
  if (variant === 'neon') return process.arch === 'arm64';
  if (process.arch !== 'x64') return false;
  const flags = readFileSync('/proc/cpuinfo', 'utf8');
  return variant === 'sse'
    ? /\bsse4_2\b/.test(flags)
    : /\bavx2\b/.test(flags) && /\bfma\b/.test(flags);
}

/** A folder that is removed after the tests of the file. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tengen-c-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function writeFiles(folder: string, { files }: Pick<ExportedFiles, 'files'>): void {
  mkdirSync(folder, { recursive: true });
  for (const [name, contents] of files) writeFileSync(join(folder, name), contents);
}

/** What `make` printed. Warnings are errors. */
export function make(folder: string, ...args: string[]): string {
  const all = ['-s', '-C', folder, 'WARNINGS=-Wall -Wextra -Werror -pedantic', ...args];
  try {
    return execFileSync('make', all, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`make ${args.join(' ')}\n${stdout}\n${stderr}`.slice(0, 6000), {
      cause: error,
    });
  }
}
