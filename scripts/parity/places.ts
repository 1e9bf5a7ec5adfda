// Where models are run: what can compute here, and how it is asked.
import { execFile, type ExecFileException } from 'node:child_process';
import { root } from '../entries.ts';
import { base64 } from './answer.ts';
import type { DumpedModel } from './models.ts';

export type Numerics = 'strict' | 'fast';
export const NUMERICS: readonly Numerics[] = ['strict', 'fast'];

/** A model that was dumped, in a folder of its own. */
export interface Subject extends DumpedModel {
  readonly id: string;
  readonly path: string;
  readonly folder: string;
}

export interface Place {
  readonly name: string;
  /** Why it cannot be tried here. */
  readonly missing: string | null;
  /** Results of a model, as bytes. Throws SkipError where there is a reason not to compute them. */
  outputs(subject: Subject, numerics: Numerics): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** A reason not to compute something, which is no failure. */
export class SkipError extends Error {
  override name = 'SkipError';
}

/** Of a program, in ms. */
const TIME_LIMIT = 300_000;

export interface Ended {
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program. Rejects with what it printed. `timeout` in ms. */
export function execute(
  program: string,
  words: readonly string[],
  options: { readonly cwd?: string; readonly input?: string; readonly timeout?: number } = {},
): Promise<Ended> {
  const { input, timeout = TIME_LIMIT, cwd } = options;
  return new Promise((resolve, reject) => {
    const done = (error: ExecFileException | null, stdout: string, stderr: string): void => {
      if (error === null) resolve({ stdout, stderr });
      else if (error.killed === true) reject(new Error(`${program} took too long`));
      else reject(new Error(`${program}: ${(stderr || error.message).trim().slice(0, 500)}`));
    };
    const settings = { cwd, timeout, encoding: 'utf8', maxBuffer: 2 ** 28 } as const;
    const child = execFile(program, [...words], settings, done);
    child.stdin?.on('error', () => {});
    child.stdin?.end(input ?? '');
  });
}

/** Words for Node that run a file of TypeScript. */
export const tsx = (path: string): string[] => ['--import', 'tsx', `${root}${path}`];

/** A fresh process of Node with `tengen/lite`. */
export function nodePlace(
  device: 'wasm' | 'native',
  threads: number,
  missing: string | null,
): Place {
  return {
    name: `Node, ${device}, ${threads === 1 ? '1 thread' : `${threads} threads`}`,
    missing,
    async outputs({ path, x, shape }, numerics) {
      const bytes = new Uint8Array(x.buffer, x.byteOffset, x.byteLength);
      const options = { device, threads, numerics };
      const input = JSON.stringify({ source: path, x: base64(bytes), shape, options });
      const words = tsx('scripts/parity/predict.ts');
      const { stdout } = await execute(process.execPath, words, { cwd: root, input });
      return new Uint8Array(Buffer.from(stdout, 'base64'));
    },
  };
}
