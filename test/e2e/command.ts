// Runs examples as a user does: in a process of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { root } from '../../scripts/entries.ts';

export interface Finished {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
}

const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

/** Starts a script of `examples` with these arguments. */
export function startExample(script: string, args: readonly (string | number)[]): Running {
  const command = ['--import', loader, `examples/${script}`, ...args.map(String)];
  const child = spawn(process.execPath, command, {
    cwd: root,
    env: { ...process.env, NO_COLOR: '1', TERM: 'dumb' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output, errors }));
  });
  return { child, finished };
}

export function startMnist(...args: readonly (string | number)[]): Running {
  return startExample('mnist/mnist.ts', args);
}

/** Runs it to its end. */
export function runMnist(...args: readonly (string | number)[]): Promise<Finished> {
  return startMnist(...args).finished;
}

export function hashOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}
