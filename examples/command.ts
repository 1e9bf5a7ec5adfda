// What the examples share as commands: numbers among the arguments, Ctrl-C, and mistakes in one line.
import { ArgumentError, configure, type Numerics, TengenError } from 'tengen';

/** `--batch -1` as `--batch=-1`: what is wrong with the number is for us to say, not for parseArgs. */
export function joinNegative(args: readonly string[]): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    const last = joined.at(-1);
    if (/^-[\d.]/.test(arg) && last?.startsWith('--') === true)
      joined.splice(-1, 1, `${last}=${arg}`);
    else joined.push(arg);
  }
  return joined;
}

/** The number after a flag. Throws ArgumentError unless it is one, and at least `low`. */
export function numberAfter(
  flags: Readonly<Record<string, string | boolean | undefined>>,
  name: string,
  low: number,
  kind: 'a whole number' | 'a number' = 'a whole number',
): number | undefined {
  const text = flags[name];
  if (text === undefined) return undefined;
  const value = Number(text);
  const fits = kind === 'a number' ? Number.isFinite(value) : Number.isSafeInteger(value);
  if (text !== '' && fits && value >= low) return value;
  throw new ArgumentError(`--${name} ${String(text)}: expected ${kind} of at least ${low}`);
}

/** Chooses device, threads and numerics by the flags of those names. */
export async function configureBy(flags: {
  readonly device?: string | undefined;
  readonly threads?: string | undefined;
  readonly numerics?: string | undefined;
}): Promise<void> {
  if (flags.device === 'interp') await import('tengen/interp');
  configure({
    device: flags.device,
    threads: numberAfter(flags, 'threads', 1),
    numerics: flags.numerics as Numerics | undefined, // checked there
  });
}

/** Settings that were given; those left out are undefined. */
export function withoutUndefined<T extends object>(given: {
  readonly [K in keyof T]: T[K] | undefined;
}): Partial<T> {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<T>;
}

/** `digits.safetensors` has its checkpoint in `digits.checkpoint.safetensors`. */
export function checkpointBeside(file: string): string {
  return `${file.replace(/\.safetensors$/, '')}.checkpoint.safetensors`;
}

/** One key press may arrive several times: from the terminal, from npm, from tsx. */
const SAME_KEY_PRESS_MS = 1000;

/** Aborted by a first Ctrl-C; a second one ends the process at once. */
export function abortedByInterrupt(): AbortSignal {
  const controller = new AbortController();
  let first = 0;
  process.on('SIGINT', () => {
    if (!controller.signal.aborted) {
      first = performance.now();
      console.error('\nfinishing the step; once more to stop at once');
      controller.abort();
    } else if (performance.now() - first > SAME_KEY_PRESS_MS) process.exit(130);
  });
  return controller.signal;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Mean of the last values: single steps jump too much to be read. */
export function recentMean(values: readonly number[], count = 20): number {
  const recent = values.slice(-count);
  return recent.reduce((sum, value) => sum + value, 0) / recent.length;
}

/** Settings that were given, against those of a saved run. Throws ArgumentError where they differ. */
export function checkSettings<T extends object>(
  file: string,
  saved: T,
  given: Partial<T>,
  mayChange: readonly (keyof T)[] = [],
): void {
  for (const [name, value] of Object.entries(given)) {
    const then = saved[name as keyof T];
    if (value === undefined || value === then || mayChange.includes(name as keyof T)) continue;
    throw new ArgumentError(`${name} is ${String(value)}, the run in ${file} has ${String(then)}`, {
      hint: 'leave it out: a resumed run keeps its settings',
    });
  }
}

/** Runs a command. A mistake in its arguments or in a file needs no stack; a bug does. */
export async function runCommand(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const isUsage = code?.startsWith('ERR_PARSE_ARGS') === true;
    if (isUsage) console.error(`${message.split('\n')[0]}\nhint: --help lists what there is`);
    else console.error(error instanceof TengenError || code !== undefined ? message : error);
    process.exitCode = 1;
  }
}
