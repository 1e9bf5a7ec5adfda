// What all subcommands share: how words become options, what goes wrong, and where text is written.
import { TengenError } from '../../base/errors.ts';
import type { ByteInput } from '../io/byte-source.ts';
import type { ExportableOptions } from '../program/exportable.ts';

/** A call that cannot be understood: the command ends with 2. */
export class CallError extends TengenError {
  override name = 'CallError';
}

/** What a subcommand is given of the process. */
export interface Terminal {
  /** A piece of the result. */
  print(text: string): void;
  /** What is going on, for long work; goes beside the result. */
  note(text: string): void;
  /** Makes the devices of this machine known; the interpreter only where it is asked for. */
  devices(interpreter?: boolean): Promise<void>;
  /** Compiled kernels on disk. */
  cache(): Promise<CacheAccess>;
  /** Programs as source: `exportToC` and `exportToWasm`. */
  exporters(): Promise<Exporters>;
}

export interface ExportChoices extends ExportableOptions {
  readonly numerics: 'fast' | 'strict';
}

/** Files by their names. */
type Files = ReadonlyMap<string, string | Uint8Array>;

export interface Exporters {
  c(
    source: ByteInput,
    options: ExportChoices & {
      readonly variants?: readonly string[];
      readonly weights?: 'binary' | 'array';
      readonly train?: ByteInput;
    },
  ): Promise<Files>;
  wasm(
    source: ByteInput,
    options: ExportChoices & {
      readonly weights?: 'inside' | 'beside';
      readonly relaxed?: boolean;
    },
  ): Promise<Files>;
}

export interface CacheAccess {
  report(): {
    readonly path: string;
    readonly libraries: number;
    readonly kernels: number;
    readonly programs: number;
    readonly bytes: number;
  };
  clear(): { readonly path: string; readonly libraries: number };
}

/** One subcommand. */
export interface Command {
  readonly help: string;
  /** The exit code: 0, or 1 if it found something wrong. */
  run(words: readonly string[], terminal: Terminal): Promise<number>;
}

interface OptionKind {
  readonly type: 'string' | 'boolean';
  readonly multiple?: boolean;
}

/** Options and words of a call. */
export class Call {
  readonly words: readonly string[];
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(words: readonly string[], values: ReadonlyMap<string, unknown>) {
    this.words = words;
    this.#values = values;
  }

  flag(name: string): boolean {
    return this.#values.get(name) === true;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return typeof value === 'string' ? value : undefined;
  }

  texts(name: string): readonly string[] {
    const value = this.#values.get(name);
    return Array.isArray(value) ? value.map(String) : [];
  }

  /** A list with commas. */
  list(name: string): readonly string[] | undefined {
    const words = this.text(name)?.split(',').filter(Boolean);
    if (words?.length === 0) throw new CallError(`--${name} names nothing`);
    return words;
  }

  /** One of some words, or undefined. */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value);
    if (found !== undefined) return found;
    throw new CallError(`--${name} is ${choices.join(' or ')}, got '${value}'`);
  }

  /** A whole number from `least`. */
  count<D extends number | undefined>(name: string, otherwise: D, least = 0): number | D {
    const value = this.text(name);
    if (value === undefined) return otherwise;
    const count = Number(value);
    if (value.trim() !== '' && Number.isSafeInteger(count) && count >= least) return count;
    throw new CallError(`--${name} is a whole number from ${least}, got '${value}'`);
  }

  /** A number that is not negative. */
  number(name: string, otherwise: number): number {
    const value = this.text(name);
    if (value === undefined) return otherwise;
    const number = Number(value);
    if (value.trim() !== '' && Number.isFinite(number) && number >= 0) return number;
    throw new CallError(`--${name} is a number from 0, got '${value}'`);
  }

  /** Pairs `name=value` of an option that may stand several times. */
  pairs(name: string): ReadonlyMap<string, string> {
    const pairs = new Map<string, string>();
    for (const text of this.texts(name)) {
      const at = text.indexOf('=');
      const key = text.slice(0, Math.max(at, 0));
      if (pairs.has(key)) throw new CallError(`--${name} says '${key}' twice`);
      pairs.set(key, text.slice(at + 1));
    }
    return pairs;
  }
}

/**
 * Reads the words of a call.
 *
 * @throws CallError for unknown options, and for too few or too many words.
 */
export async function parseCall(
  words: readonly string[],
  options: Readonly<Record<string, OptionKind>>,
  [least, most]: readonly [number, number],
  wanted = 'a FILE',
): Promise<Call> {
  const { parseArgs } = await import('node:util');
  let parsed: { readonly values: object; readonly positionals: readonly string[] };
  try {
    parsed = parseArgs({
      args: [...words],
      options: { json: { type: 'boolean' }, ...options },
      allowPositionals: true,
    });
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new CallError(text.split(/\. |\n/)[0] as string, { cause });
  }
  const { positionals, values } = parsed;
  if (positionals.length < least) throw new CallError(`${wanted} is missing`);
  if (positionals.length > most) {
    throw new CallError(`'${positionals[most]}' is one word too many`);
  }
  return new Call(positionals, new Map(Object.entries(values)));
}

/** Numbers that JSON does not have become words. */
export function toJson(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) =>
      typeof item === 'number' && !Number.isFinite(item) ? String(item) : item,
    2,
  );
}
