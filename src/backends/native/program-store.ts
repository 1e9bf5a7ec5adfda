// Compiled programs on disk, in a folder beside the compiled kernels: plans as JSON with the C text of
// their kernels, which finds the machine code. A file that is not whole, or not ours, is not read.
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { realpathSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { makeFolder } from '../../base/make-folder.ts';
import { Builder } from '../../ir/builder.ts';
import type { Buffer } from '../../ir/expression.ts';
import type { Kernel } from '../../ir/kernel.ts';
import { factsOf, type KernelFacts, stateFacts } from '../../runtime/kernel-work.ts';
import type { Plan } from '../../runtime/plan.ts';
import type { ProgramKey, ProgramStore, StoredProgram } from '../../runtime/program-store.ts';
import { objectionTo } from './cache-directory.ts';
import { stateUnit, unitOf } from './kernel-units.ts';
import type { RenderedUnit } from './renderer.ts';

/** Changes with the form of the files. */
export const PROGRAMS_FOLDER = 'programs-v1';
const DIGEST_LENGTH = 64;
const SUFFIX = '.json';
/** Programs kept, the least recently used removed first, and bytes of the largest that is. */
const PROGRAMS = 200;
const LARGEST = 32 * 1024 * 1024;

/** A kernel without its body. */
interface KernelRecord extends RenderedUnit, KernelFacts {
  readonly name: string;
  readonly gridSize: number;
  readonly buffers: readonly (readonly [name: string, dtype: DType, access: Buffer['access']])[];
}

interface FileRecord {
  readonly plans: readonly (Omit<Plan, 'kernels'> & { readonly kernels: readonly number[] })[];
  readonly kernels: readonly KernelRecord[];
  readonly rest: string;
}

export class NativeProgramStore implements ProgramStore {
  readonly #folder: string;
  readonly #fingerprint: string;

  private constructor(folder: string, fingerprint: string) {
    this.#folder = folder;
    this.#fingerprint = fingerprint;
  }

  /** The store in a cache folder, or null if it cannot be written to, or others can. */
  static open(cache: string, fingerprint: string): NativeProgramStore | null {
    try {
      const path = join(cache, PROGRAMS_FOLDER);
      makeFolder({ fs: { mkdirSync, statSync }, path: { dirname } }, path, 0o700);
      const folder = realpathSync(path);
      return objectionTo(folder) === undefined ? new NativeProgramStore(folder, fingerprint) : null;
    } catch {
      return null;
    }
  }

  load(key: ProgramKey): StoredProgram | null {
    const path = this.#pathOf(key);
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
      const now = new Date();
      utimesSync(path, now, now);
    } catch {
      return null;
    }
    const body = text.slice(DIGEST_LENGTH);
    if (digest(body) !== text.slice(0, DIGEST_LENGTH)) {
      rmSync(path, { force: true });
      return null;
    }
    return fromRecord(JSON.parse(body) as FileRecord);
  }

  save(key: ProgramKey, program: StoredProgram): void {
    const body = JSON.stringify(toRecord(program));
    if (body.length > LARGEST) return;
    const path = this.#pathOf(key);
    const temporary = `${path}.${process.pid}`;
    try {
      writeFileSync(temporary, digest(body) + body, { mode: 0o600 });
      renameSync(temporary, path);
      this.#prune();
    } catch {
      // A disk that is full costs nothing but another compilation in the next process.
      rmSync(temporary, { force: true });
    }
  }

  #pathOf({ context, words }: ProgramKey): string {
    const hash = createHash('sha256').update(JSON.stringify([this.#fingerprint, context]));
    return join(this.#folder, hash.update(words).digest('hex').slice(0, 40) + SUFFIX);
  }

  #prune(): void {
    const names = readdirSync(this.#folder);
    if (names.length <= PROGRAMS) return;
    const files = names.flatMap((name) => {
      const path = join(this.#folder, name);
      // Another process may remove it between the two calls.
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path, used: stat.mtimeMs }];
    });
    files.sort((a, b) => a.used - b.used);
    for (const { path } of files.slice(0, files.length - PROGRAMS)) rmSync(path, { force: true });
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function toRecord({ plans, rest }: StoredProgram): FileRecord {
  const numbers = new Map<Kernel, number>();
  for (const { kernels } of plans) {
    for (const kernel of kernels) if (!numbers.has(kernel)) numbers.set(kernel, numbers.size);
  }
  return {
    plans: plans.map((plan) => ({
      ...plan,
      kernels: plan.kernels.map((kernel) => numbers.get(kernel) as number),
    })),
    kernels: [...numbers.keys()].map((kernel) => {
      const { work, touched } = factsOf(kernel);
      return {
        name: kernel.name,
        gridSize: kernel.gridSize,
        buffers: kernel.buffers.map(({ name, dtype, access }) => [name, dtype, access] as const),
        work,
        // JSON has no infinity.
        touched: touched.map((bytes) => (Number.isFinite(bytes) ? bytes : -1)),
        ...unitOf(kernel),
      };
    }),
    rest,
  };
}

function fromRecord({ plans, kernels, rest }: FileRecord): StoredProgram {
  const made = kernels.map((record) => kernelOf(record));
  return {
    plans: plans.map((plan) => ({
      ...plan,
      kernels: plan.kernels.map((number) => made[number] as Kernel),
    })),
    rest,
  };
}

/** A kernel whose text and facts are known, and whose body nobody may ask for. */
function kernelOf({
  name,
  gridSize,
  buffers,
  work,
  touched,
  unit,
  scratchBytes,
}: KernelRecord): Kernel {
  const builder = new Builder();
  const kernel: Kernel = {
    name,
    gridSize,
    buffers: buffers.map(([label, dtype, access]) => builder.buffer(label, dtype, access)),
    scratch: [],
    gridIndex: builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) }),
    get body(): never {
      throw internalError(`the kernel ${name} was stored without its body`);
    },
  };
  stateUnit(kernel, { unit, scratchBytes });
  stateFacts(kernel, { work, touched: touched.map((bytes) => (bytes < 0 ? Infinity : bytes)) });
  return kernel;
}
