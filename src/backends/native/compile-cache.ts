// Turns C into functions that can be called: what was compiled before is loaded, the rest is compiled
// in parallel and kept.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ArgumentError, CompileError, DeviceError } from '../../base/errors.ts';
import {
  BUILD_TIMEOUT_MS,
  buildParallelism,
  type Job,
  type JobResult,
  runJobs,
  runJobsSync,
} from './build.ts';
import { defaultCachePath } from '../../runtime/cache-path.ts';
import { CacheDirectory } from './cache-directory.ts';
import {
  findForeign,
  type ForeignFunction,
  type ForeignLibrary,
  type ForeignLoader,
  type ForeignResult,
  type ForeignSignature,
  requireForeign,
} from './foreign.ts';
import { findToolchain, requireToolchain, type Toolchain } from './toolchain.ts';
import { type CUnit, groupUnits, type KeyedUnit, keyOf, sourceOf, symbolOf } from './units.ts';

const DEFAULT_LIMIT_BYTES = 512 * 1024 * 1024;
const SHOWN_LINES = 8;

/** A unit that is loaded. It stays so until the process ends. */
export interface LoadedUnit {
  /** Where a function of the unit's `exports` is. */
  address(name: string): number;
  function<R extends ForeignResult>(
    name: string,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R>;
}

/** Counters since the cache was opened. */
export interface CompileStatistics {
  /** Units that this process had loaded already. */
  loaded: number;
  /** Units found on disk. */
  hits: number;
  /** Units compiled. */
  misses: number;
  /** Times that what was found on disk was broken, and compiled again. */
  rejected: number;
  /** Calls of the compiler. */
  compilations: number;
  /** Milliseconds spent waiting for compilers. */
  compileMs: number;
  /** Libraries that are open. */
  libraries: number;
  /** Libraries removed from disk to make space. */
  evicted: number;
}

export interface CompileCacheOptions {
  readonly toolchain: Toolchain;
  readonly foreign: ForeignLoader;
  /** Default: by TENGEN_CACHE, XDG_CACHE_HOME and the home directory. */
  readonly path?: string;
  /** Most bytes of libraries on disk. Default: TENGEN_CACHE_BYTES, else 512 MiB. */
  readonly limitBytes?: number;
  /** Compilers at a time. Default: the cores there are. */
  readonly parallel?: number;
  /** How long one compiler may take. */
  readonly timeoutMs?: number;
  /** Gets the line that says why libraries are not kept. Default: console.warn. */
  readonly warn?: (line: string) => void;
}

/** Translation units that wait for their compilers. */
interface Build {
  readonly groups: readonly (readonly KeyedUnit[])[];
  readonly folder: string;
  readonly jobs: readonly Job[];
}

/** Compiles units, or finds them compiled. */
export class CompileCache {
  readonly statistics: CompileStatistics = {
    loaded: 0,
    hits: 0,
    misses: 0,
    rejected: 0,
    compilations: 0,
    compileMs: 0,
    libraries: 0,
    evicted: 0,
  };
  readonly #toolchain: Toolchain;
  readonly #foreign: ForeignLoader;
  readonly #limitBytes: number;
  readonly #limits: { readonly parallel: number; readonly timeoutMs: number };
  readonly #warn: (line: string) => void;
  readonly #units = new Map<string, LoadedUnit>();
  readonly #libraries = new Map<string, ForeignLibrary>();
  #directory: CacheDirectory;
  #fallback: string | undefined;

  /** @throws CompileError if libraries can be put nowhere, not even for this process alone. */
  constructor(options: CompileCacheOptions) {
    this.#toolchain = options.toolchain;
    this.#foreign = options.foreign;
    this.#limitBytes = options.limitBytes ?? limitOf(process.env);
    this.#limits = {
      parallel: options.parallel ?? buildParallelism(),
      timeoutMs: options.timeoutMs ?? BUILD_TIMEOUT_MS,
    };
    this.#warn = options.warn ?? ((line) => console.warn(line));
    const path = options.path ?? defaultCachePath(process.env);
    const opened = CacheDirectory.open(path, this.#limitBytes);
    this.#directory = typeof opened === 'string' ? this.#openFallback(opened) : opened;
  }

  /** Where libraries are. */
  get path(): string {
    return this.#directory.path;
  }

  /** In one line why libraries are not kept; undefined if they are. */
  get fallback(): string | undefined {
    return this.#fallback;
  }

  /**
   * Units loaded, in their order, after compiling those that never were.
   *
   * @throws CompileError with the compiler's first lines if it fails or does not end.
   */
  load(units: readonly CUnit[]): LoadedUnit[] {
    const keyed = this.#keyed(units);
    for (;;) {
      const missing = this.#missing(keyed);
      if (missing.length === 0) return this.#take(keyed);
      const build = this.#prepare(missing);
      const start = performance.now();
      this.#finish(build, start, () => runJobsSync(build.jobs, this.#limits));
    }
  }

  /** The same without blocking the event loop while compilers run. */
  async loadAsync(units: readonly CUnit[]): Promise<LoadedUnit[]> {
    const keyed = this.#keyed(units);
    for (;;) {
      const missing = this.#missing(keyed);
      if (missing.length === 0) return this.#take(keyed);
      const build = this.#prepare(missing);
      const start = performance.now();
      try {
        const results = await runJobs(build.jobs, this.#limits);
        this.#finish(build, start, () => results);
      } catch (error) {
        rmSync(build.folder, { recursive: true, force: true });
        throw error;
      }
    }
  }

  #keyed(units: readonly CUnit[]): KeyedUnit[] {
    const { identity } = this.#toolchain;
    const keyed = units.map((unit) => ({ unit, key: keyOf(unit, identity) }));
    for (const { key } of keyed) if (this.#units.has(key)) this.statistics.loaded++;
    return keyed;
  }

  #take(keyed: readonly KeyedUnit[]): LoadedUnit[] {
    return keyed.map(({ key }) => this.#units.get(key) as LoadedUnit);
  }

  /** Units that are neither loaded nor on disk, each once; those on disk get loaded. */
  #missing(keyed: readonly KeyedUnit[]): KeyedUnit[] {
    const missing = new Map<string, KeyedUnit>();
    for (const each of keyed) {
      if (this.#units.has(each.key) || missing.has(each.key)) continue;
      const name = this.#directory.lookUp(each.key);
      if (name !== undefined && this.#loadFrom(name, [each]) === undefined) {
        this.statistics.hits++;
        continue;
      }
      if (name !== undefined) this.statistics.rejected++;
      missing.set(each.key, each);
    }
    return [...missing.values()];
  }

  /** Loads units from a library on disk, or says why it cannot be. */
  #loadFrom(name: string, units: readonly KeyedUnit[]): string | undefined {
    try {
      let library = this.#libraries.get(name);
      if (library === undefined) {
        const path = this.#directory.verify(name);
        if (path === undefined) return 'its bytes are gone or others';
        library = this.#foreign.open(path);
        this.#libraries.set(name, library);
        this.statistics.libraries++;
      }
      for (const { unit, key } of units) {
        this.#units.set(key, new Loaded(this.#foreign, library, unit, key));
      }
      return undefined;
    } catch (error) {
      if (error instanceof DeviceError) return error.message;
      throw error;
    }
  }

  /** Writes sources. What goes wrong with the directory is made good by a temporary one. */
  #prepare(missing: readonly KeyedUnit[]): Build {
    const groups = groupUnits(missing, this.#limits.parallel);
    const { compiler, leading, flags } = this.#toolchain;
    for (;;) {
      try {
        const folder = this.#directory.makeWork();
        const jobs = groups.map((group, n) => {
          writeFileSync(join(folder, `${n}.c`), sourceOf(group));
          const args = [...leading, ...flags, '-o', `${n}.so`, `${n}.c`, '-lm'];
          return { compiler, args, folder };
        });
        return { groups, folder, jobs };
      } catch (error) {
        this.#fallBack(error);
      }
    }
  }

  /** Takes libraries over and loads them; if the directory fails, all is left for another round. */
  #finish(build: Build, start: number, results: () => readonly JobResult[]): void {
    try {
      const answers = results();
      this.statistics.compileMs += performance.now() - start;
      this.statistics.compilations += build.jobs.length;
      answers.forEach(({ status, text }, n) => {
        if (status !== 0) this.#failed(build.jobs[n] as Job, status, text);
      });
      build.groups.forEach((group, n) => this.#adopt(join(build.folder, `${n}.so`), group));
      this.statistics.evicted += this.#directory.prune();
    } catch (error) {
      if (error instanceof CompileError) throw error;
      this.#fallBack(error);
    } finally {
      rmSync(build.folder, { recursive: true, force: true });
    }
  }

  #adopt(file: string, units: readonly KeyedUnit[]): void {
    const name = this.#directory.adopt(file);
    const reason = this.#loadFrom(name, units);
    // A file system without `exec`, most likely: the compiler has only just written it.
    if (reason !== undefined) {
      this.#directory.remove(name);
      throw new DeviceError(reason);
    }
    for (const { key } of units) this.#directory.link(key, name);
    this.statistics.misses += units.length;
  }

  #failed({ compiler, args }: Job, status: number, text: string): never {
    if (/No space left on device|Read-only file system|Disk quota exceeded/.test(text)) {
      throw new DeviceError(`cannot write to ${this.path}: ${text.split('\n')[0]}`);
    }
    const lines = text.trim().split('\n');
    // gcc says first in which function an error is: what matters has the word in it.
    const first = lines.findIndex((line) => /error|stopped|ENOENT|EACCES/.test(line));
    const from = Math.max(first, 0);
    const shown = lines.slice(from, from + SHOWN_LINES).join('\n');
    const how = status < 0 ? 'did not finish' : `ended with status ${status}`;
    throw new CompileError(
      `the C compiler ${how}:\n${shown}\ncommand: ${[compiler, ...args].join(' ')}`,
      {
        op: 'native',
        hint: "TENGEN_CC names another compiler; without one the device 'wasm' is used",
      },
    );
  }

  #fallBack(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (this.#directory.temporary) {
      throw new CompileError(`compiled kernels cannot be used: ${reason}`, {
        op: 'native',
        cause: error,
      });
    }
    this.#directory = this.#openFallback(reason);
  }

  #openFallback(reason: string): CacheDirectory {
    const directory = CacheDirectory.openTemporary(this.#limitBytes);
    if (typeof directory === 'string') {
      throw new CompileError(`compiled kernels can be put nowhere: ${reason}; ${directory}`, {
        op: 'native',
        hint: 'TENGEN_CACHE names a directory that only you can write to',
      });
    }
    this.#fallback = reason;
    this.#warn(`tengen: compiled kernels are kept for this process only: ${reason}`);
    return directory;
  }
}

class Loaded implements LoadedUnit {
  readonly #foreign: ForeignLoader;
  readonly #addresses: ReadonlyMap<string, number>;

  /** Looks all functions up, which proves that the library holds this very unit. */
  constructor(foreign: ForeignLoader, library: ForeignLibrary, unit: CUnit, key: string) {
    this.#foreign = foreign;
    this.#addresses = new Map(
      unit.exports.map((name) => [name, library.address(symbolOf(name, key))]),
    );
  }

  address(name: string): number {
    const address = this.#addresses.get(name);
    if (address !== undefined) return address;
    const names = [...this.#addresses.keys()].join(', ');
    throw new ArgumentError(`the unit exports ${names}, not ${name}`, { op: 'native' });
  }

  function<R extends ForeignResult>(
    name: string,
    signature: ForeignSignature<R>,
  ): ForeignFunction<R> {
    return this.#foreign.functionAt(this.address(name), signature);
  }
}

let shared: CompileCache | undefined;

/**
 * The cache that all native devices of this process use.
 *
 * @throws DeviceError if there is no compiler, or nothing that calls libraries.
 * @throws CompileError if libraries can be put nowhere.
 */
export function sharedCompileCache(): CompileCache {
  shared ??= new CompileCache({ toolchain: requireToolchain(), foreign: requireForeign() });
  return shared;
}

/** Why native kernels cannot run here, or null if it seems that they can: nothing is compiled. */
export function missingTools(): string | null {
  const foreign = findForeign();
  if (typeof foreign === 'string') return foreign;
  const toolchain = findToolchain();
  return typeof toolchain === 'string' ? toolchain : null;
}

function limitOf(env: NodeJS.ProcessEnv): number {
  const text = env['TENGEN_CACHE_BYTES'];
  if (text === undefined || text === '') return DEFAULT_LIMIT_BYTES;
  const bytes = Number(text);
  if (Number.isInteger(bytes) && bytes >= 0) return bytes;
  throw new ArgumentError(`TENGEN_CACHE_BYTES is '${text}', not a number of bytes`, {
    op: 'native',
  });
}
