// `fn.dump`: the writer of program files stands above this folder and is loaded when it is first used.
import { TengenError } from '../../base/errors.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** What names weights: a module. */
export interface WeightNames {
  namedParameters(): Iterable<readonly [string, Tensor]>;
  namedBuffers(): Iterable<readonly [string, Tensor]>;
}

export interface DumpOptions {
  /**
   * The arguments of a call: tensors of the shapes that the program is for, or specs whose sizes may be
   * declared dimensions (`spec([dim('batch'), 1, 28, 28])`), and trees of them. Where `trace` was told
   * `inputs`, tensors of these forms stand for all declared sizes, and the default is what it was told.
   */
  readonly inputs?: readonly unknown[];
  /** Names of the tensors among arguments and results, in order; else their keys or numbers. */
  readonly names?: { readonly inputs?: readonly string[]; readonly outputs?: readonly string[] };
  /** The module whose names the weights get; else they are numbered. */
  readonly module?: WeightNames;
  /**
   * Arguments whose results are kept in the file, for `model.check()`, of any declared sizes; default
   * `[inputs]` if these are tensors.
   */
  readonly testCases?: readonly (readonly unknown[])[];
  /** Largest difference in tests that counts as the same, over the largest value. Default 1e-5. */
  readonly tolerance?: number;
  /** What is compiled ahead, for machines that start without a compiler. Default `['fast']`. */
  readonly numerics?: readonly ('fast' | 'strict')[];
  /** Anything of yours that JSON holds. */
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export interface DumpReport {
  /** The file, if no path was given. */
  readonly bytes: Uint8Array | null;
  /** What the file says of its program; docs/format.md. */
  readonly header: object;
  /** Largest difference on the tests between plain and optimised kernels, over the largest value. */
  readonly difference: number | null;
}

type Dumper = (
  name: string,
  fn: (...args: readonly unknown[]) => unknown,
  path: string | URL | null,
  options: DumpOptions,
) => Promise<DumpReport>;

let load: (() => Promise<Dumper>) | null = null;

/** Called by the package's entries. */
export function installDumper(loader: () => Promise<Dumper>): void {
  load = loader;
}

/** Writes a function as a program file. */
export async function dumpFunction<A extends readonly unknown[]>(
  name: string,
  fn: (...args: A) => unknown,
  path: string | URL | null,
  options: DumpOptions,
): Promise<DumpReport> {
  if (load === null) {
    throw new TengenError('the writer of program files is not installed', {
      op: 'dump',
      hint: "import from 'tengen', not from inside",
    });
  }
  const dump = await load();
  return dump(name, fn as (...args: readonly unknown[]) => unknown, path, options);
}
