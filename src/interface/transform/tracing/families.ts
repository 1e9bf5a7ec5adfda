// Programs of one form of the arguments at all sizes of its declared dimensions: those that were
// recorded, and what follows from them.
import { formatSizes, type Sizes } from '../../../base/size-expression.ts';
import {
  instantiate,
  SizeConflict,
  SizeSystem,
  type SymbolicOf,
  unify,
} from '../../../graph/symbolic.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { Recent } from './recent.ts';
import { Replay } from './replay.ts';
import {
  conflictOf,
  entryAt,
  noProgram,
  numbersOf,
  programOf,
  recordedOf,
  type Skeleton,
  skeletonOf,
} from './skeleton.ts';
import type { Program } from './watch.ts';

/** Sizes whose programs are kept ready. */
const INSTANCES = 64;

interface Sample<V> {
  readonly sizes: Sizes;
  readonly value: V;
}

abstract class Family<V, D> {
  protected readonly name: string;
  protected readonly dims: readonly string[];
  protected readonly samples: Sample<V>[] = [];
  #symbolic: { readonly data: SymbolicOf<D>; readonly base: V } | null = null;
  readonly #instances = new Recent<V>(INSTANCES);

  constructor(name: string, dims: readonly string[]) {
    this.name = name;
    this.dims = dims;
  }

  protected abstract dataOf(value: V): D;
  protected abstract valueOf(data: D, base: V): V;
  protected abstract failed(error: unknown, base: V): unknown;

  /** The program for these sizes, if it is known. */
  find(sizes: Sizes): V | null {
    const key = formatSizes(sizes);
    const exact = this.samples.find((sample) => formatSizes(sample.sizes) === key);
    if (exact !== undefined) return exact.value;
    if (this.#symbolic === null || !this.follows(sizes)) return null;
    const known = this.#instances.get(key);
    if (known !== undefined) return known;
    const { data, base } = this.#symbolic;
    const made = this.valueOf(instantiate<D>(data, sizes), base);
    this.#instances.set(key, made);
    return made;
  }

  /** Whether the program of these sizes is that of others with other numbers. */
  protected follows(_sizes: Sizes): boolean {
    return true;
  }

  /** Whether all sizes have their program. */
  get isComplete(): boolean {
    return this.dims.length === 0 || this.#symbolic !== null;
  }

  /**
   * Adds a recording; as soon as there are enough, they are laid over each other.
   *
   * @throws TraceError if that is no program for all sizes.
   */
  add(sizes: Sizes, value: V): void {
    this.samples.push({ sizes, value });
    if (this.dims.length === 0 || this.#symbolic !== null) return;
    // At size 1 axes are broadcast, at 0 nothing is left: these are like no others.
    const usual = this.samples.filter((sample) => isUsual(sample.sizes));
    const system = new SizeSystem(
      this.dims,
      usual.map((sample) => sample.sizes),
    );
    if (!system.isDetermined) return;
    const base = (usual[0] as Sample<V>).value;
    try {
      const data = unify(
        this.dims,
        usual.map((sample) => ({ sizes: sample.sizes, value: this.dataOf(sample.value) })),
      );
      this.#symbolic = { data, base };
    } catch (error) {
      this.samples.pop();
      throw this.failed(error, base);
    }
  }
}

export function isUsual(sizes: Sizes): boolean {
  return Object.values(sizes).every((size) => size >= 2);
}

/** Replays of one form of the arguments. */
export class ReplayFamily extends Family<Replay, Skeleton> {
  /** Whether the tensors whose gradients it reads have some, or none, as when it was recorded. */
  fits(args: readonly Tensor[]): boolean {
    return this.samples[0]?.value.fits(args) ?? true;
  }

  protected dataOf({ recorded }: Replay): Skeleton {
    return skeletonOf(recorded);
  }

  protected valueOf(skeleton: Skeleton, { recorded }: Replay): Replay {
    return new Replay(this.name, recordedOf(skeleton, recorded), true);
  }

  protected failed(error: unknown, { recorded }: Replay): unknown {
    return conflictOf(error, this.name, recorded);
  }
}

/** Programs that calls are compared with. */
export class ProgramFamily extends Family<Program, number[]> {
  protected dataOf(program: Program): number[] {
    return numbersOf(program);
  }

  protected valueOf(numbers: number[], base: Program): Program {
    return programOf(numbers, base);
  }

  protected override follows(sizes: Sizes): boolean {
    return isUsual(sizes);
  }

  protected failed(error: unknown, base: Program): unknown {
    if (!(error instanceof SizeConflict)) return error;
    const [index] = error.path;
    if (typeof index !== 'number') {
      return noProgram(this.name, 'at some of them it computes other operations', '');
    }
    const entry = entryAt(base, index);
    // An entry begins with its operation.
    const isOther = index === 0 || entryAt(base, index - 1) < entry;
    const own = `operation ${entry}, ${base.steps[entry]},`;
    const what = isOther
      ? `${own} is another at some of them`
      : `a number of ${own} is ${error.text}`;
    return noProgram(this.name, what, base.lines[entry] ?? '');
  }
}
