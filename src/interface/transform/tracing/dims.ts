// Declared dimensions: sizes that may differ from call to call of one program.
import { checkInteger, checkKeys, checkOption, describeValue } from '../../../base/checks.ts';
import { DTYPES, type DType } from '../../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { formatSizes, type Sizes } from '../../../base/size-expression.ts';
import { isTensor, standIn } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { isBranch, mapLeaves, mapTree } from '../tree.ts';

export interface DimOptions {
  /** Least size; default 1. */
  readonly min?: number;
  /** Greatest size; default none. */
  readonly max?: number;
  /** The only sizes there are. */
  readonly sizes?: readonly number[];
}

/** A size that may differ from call to call; the same wherever its name stands. */
export class Dim {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly sizes: readonly number[] | null;

  constructor(name: string, options: DimOptions = {}) {
    checkKeys('dim', options, ['min', 'max', 'sizes']);
    if (typeof name !== 'string' || !/^[A-Za-z_]\w*$/.test(name)) {
      throw new ArgumentError(`a dimension has a word for its name, not ${describeValue(name)}`, {
        op: 'dim',
        hint: "dim('batch')",
      });
    }
    const { min = 1, max = Infinity, sizes } = options;
    checkInteger('dim', 'min', min, 0);
    if (max !== Infinity) checkInteger('dim', 'max', max, min);
    if (sizes !== undefined) {
      if (!Array.isArray(sizes) || sizes.length === 0) {
        throw new ArgumentError(`sizes of '${name}' must be a list of sizes`, { op: 'dim' });
      }
      for (const size of sizes) checkInteger('dim', 'sizes', size, 0);
    }
    this.name = name;
    this.min = min;
    this.max = max;
    this.sizes = sizes === undefined ? null : [...new Set(sizes)];
  }

  /** Throws ShapeError for a size that was not declared. */
  check(op: string, size: number): void {
    const { name, min, max, sizes } = this;
    if (sizes !== null && !sizes.includes(size)) {
      throw new ShapeError(`'${name}' is ${size}, declared are ${sizes.join(', ')}`, { op });
    }
    if (size >= min && size <= max) return;
    const bounds = max === Infinity ? `at least ${min}` : `from ${min} to ${max}`;
    throw new ShapeError(`'${name}' is ${size}, declared is ${bounds}`, { op });
  }

  /** Whether the size was declared. */
  allows(size: number): boolean {
    return (this.sizes?.includes(size) ?? true) && size >= this.min && size <= this.max;
  }

  /**
   * The sizes that this and another dimension allow, under the same name.
   *
   * @throws ArgumentError if there are none.
   */
  and(op: string, other: Dim): Dim {
    if (other === this) return this;
    const [min, max] = [Math.max(this.min, other.min), Math.min(this.max, other.max)];
    const listed = this.sizes ?? other.sizes;
    const sizes = listed?.filter((size) => this.allows(size) && other.allows(size));
    if (min > max || sizes?.length === 0) {
      throw new ArgumentError(`the two dimensions '${this.name}' have no size in common`, { op });
    }
    return new Dim(this.name, { min, max, ...(sizes === undefined ? {} : { sizes }) });
  }

  /**
   * Three sizes at which a function is recorded, `first` among them if it will do. They differ from it
   * by multiples of `step`, for what is defined at every `step`-th size only.
   */
  samples(first: number, step = 1): number[] {
    const { min, max, sizes } = this;
    // At size 1 axes are broadcast, at 0 nothing is left: too special to tell the rest.
    const fits = (size: number): boolean => size >= Math.max(min, 2) && size <= max;
    const near = [0, 1, 3, 2, -1, 4].map((k) => first + k * step);
    const candidates = sizes ?? (step === 1 ? [...near, 2, 3, 5, 7, min, max] : near);
    const usable = [...new Set(candidates)].filter((size) => sizes !== null || fits(size));
    return usable.slice(0, 3);
  }
}

/**
 * Declares a size that may differ from call to call: a program that is recorded with it serves all sizes.
 *
 * @throws ArgumentError for a name that is no word, or bounds that are none.
 *
 * @example
 * ```ts
 * const batch = dim('batch', { max: 64 });
 * const total = trace((x: Tensor) => x.sum(0), { inputs: [spec([batch, 2])], withoutHost: true });
 * total(tensor([[1, 2], [3, 4]])); // => [4, 6]
 * total(tensor([[1, 2], [3, 4], [5, 6]])); // => [9, 12]
 * total.stats.recordings; // => 1
 * ```
 */
export function dim(name: string, options: DimOptions = {}): Dim {
  return new Dim(name, options);
}

/** A tensor of an argument by its form; sizes may be declared dimensions. */
export class TensorSpec {
  readonly shape: readonly (number | Dim)[];
  readonly dtype: DType;

  constructor(shape: readonly (number | Dim)[], dtype: DType = 'float32') {
    if (!Array.isArray(shape)) {
      throw new ArgumentError(`a shape is a list of sizes, got ${describeValue(shape)}`, {
        op: 'spec',
      });
    }
    checkOption('spec', 'dtype', dtype, [...DTYPES]);
    for (const size of shape) if (!(size instanceof Dim)) checkInteger('spec', 'a size', size, 0);
    this.shape = shape;
    this.dtype = dtype;
  }

  /** The dimensions, each once. */
  get dims(): Dim[] {
    return [...new Set(this.shape.filter((size) => size instanceof Dim))];
  }

  toString(): string {
    return `${this.dtype} [${this.shape.map((size) => (size instanceof Dim ? size.name : size)).join(',')}]`;
  }
}

/**
 * The form of a tensor argument, for `trace` and `dump`: `spec([dim('batch'), 1, 28, 28])`.
 *
 * @throws ArgumentError for sizes that are none, or a dtype that is not there.
 *
 * @example
 * ```ts
 * String(spec([dim('batch'), 10], 'int32')); // => 'int32 [batch,10]'
 * ```
 */
export function spec(shape: readonly (number | Dim)[], dtype?: DType): TensorSpec {
  return new TensorSpec(shape, dtype);
}

/** Specs of arguments, in trees like theirs; null or undefined where sizes are as they come. */
export type InputSpecs = readonly unknown[] | Readonly<Record<string, unknown>>;

/** The dimensions of all specs, and which spec stands for which tensor. */
export class DeclaredInputs {
  readonly dims: readonly Dim[];
  readonly #specs: InputSpecs;

  /** Throws ArgumentError if two dimensions have the same name. */
  constructor(specs: InputSpecs) {
    this.#specs = specs;
    const dims = new Map<string, Dim>();
    visitSpecs(specs, (found) => {
      for (const each of found.dims) {
        const known = dims.get(each.name) ?? each;
        if (known !== each) {
          throw new ArgumentError(`there are two dimensions '${each.name}'`, {
            op: 'trace',
            hint: 'make it once, and use it in all specs',
          });
        }
        dims.set(each.name, each);
      }
    });
    this.dims = [...dims.values()];
  }

  /** For each tensor of the arguments its spec, or null. Throws ArgumentError where they do not fit. */
  specsOf(op: string, args: readonly unknown[]): (TensorSpec | null)[] {
    const found: (TensorSpec | null)[] = [];
    const visit = (value: unknown, given: unknown, path: string): void => {
      if (isTensor(value)) {
        if (given !== undefined && given !== null && !(given instanceof TensorSpec)) {
          throw misplaced(op, path, 'a tensor', given);
        }
        found.push(given ?? null);
        return;
      }
      if (given instanceof TensorSpec) throw misplaced(op, path, describeValue(value), given);
      if (!isBranch(value)) return;
      const specs = (given ?? {}) as Readonly<Record<string, unknown>>;
      for (const [key, item] of Object.entries(value)) {
        visit(item, specs[key], path === '' ? key : `${path}.${key}`);
      }
    };
    visit(args, this.#specs, '');
    return found;
  }

  /** Whether the arguments are tensors, and of declared sizes: no specs among them say it otherwise. */
  isOpenIn(args: readonly unknown[]): boolean {
    let isSaid = false;
    mapLeaves(args, (leaf) => {
      isSaid ||= leaf instanceof TensorSpec;
    });
    return this.dims.length > 0 && !isSaid;
  }

  /** Other sizes at which a pure function is recorded; none if there are too few to tell. */
  otherSizes(first: Sizes): Sizes[] {
    const own = formatSizes(first);
    return samplePoints(this.dims, first).filter((sizes) => formatSizes(sizes) !== own);
  }

  /** The arguments with zeros of other sizes in the places of tensors that have dimensions. */
  standIns(args: readonly unknown[], sizes: Sizes): readonly unknown[] {
    const specs = this.specsOf('trace', args);
    return mapTree(args, (tensor, i) => {
      const declared = specs[i] ?? null;
      if (declared === null || declared.dims.length === 0) return tensor;
      const shape = declared.shape.map((size) =>
        size instanceof Dim ? (sizes[size.name] as number) : size,
      );
      const { tracked, device } = tensor;
      return standIn(shape, declared.dtype, {
        tracked,
        ...(device === null ? {} : { device }),
      });
    }) as readonly unknown[];
  }

  /**
   * The sizes of a call.
   *
   * @throws ShapeError or DTypeError where tensors do not fit their specs or each other.
   */
  sizesOf(op: string, tensors: readonly Tensor[], specs: readonly (TensorSpec | null)[]): Sizes {
    const sizes: Record<string, number> = {};
    tensors.forEach((tensor, i) => {
      const declared = specs[i] ?? null;
      if (declared === null) return;
      if (tensor.dtype !== declared.dtype) {
        throw new DTypeError(`tensor ${i} is ${tensor.dtype}, declared is ${String(declared)}`, {
          op,
        });
      }
      const isLike =
        tensor.ndim === declared.shape.length &&
        declared.shape.every((size, axis) => size instanceof Dim || size === tensor.shape[axis]);
      if (!isLike) {
        throw new ShapeError(
          `tensor ${i} is ${formatShape(tensor.shape)}, declared is ${String(declared)}`,
          { op },
        );
      }
      declared.shape.forEach((size, axis) => {
        if (!(size instanceof Dim)) return;
        const actual = tensor.shape[axis] as number;
        const known = sizes[size.name] ?? actual;
        if (known !== actual) {
          throw new ShapeError(
            `'${size.name}' is ${known}, and ${actual} in tensor ${i}, ${formatShape(tensor.shape)}`,
            { op },
          );
        }
        size.check(op, actual);
        sizes[size.name] = actual;
      });
    });
    for (const { name } of this.dims) {
      if (sizes[name] !== undefined) continue;
      throw new ArgumentError(`no tensor of the arguments has the dimension '${name}'`, { op });
    }
    return sizes;
  }
}

/**
 * Sizes at which recordings tell what follows from the dimensions, and check it: near `first`, from which
 * each differs by multiples of `step`. None if a dimension has fewer than three sizes.
 */
export function samplePoints(dims: readonly Dim[], first: Sizes, step = 1): Sizes[] {
  const lists = dims.map((each) => each.samples(first[each.name] as number, step));
  if (lists.some((list) => list.length < 3)) return [];
  const pick = (choice: (dim: number) => number): Sizes =>
    Object.fromEntries(dims.map(({ name }, i) => [name, lists[i]?.[choice(i)] as number]));
  const points = Array.from({ length: 2 ** lists.length }, (_, corner) =>
    pick((i) => (corner >> i) & 1),
  );
  return [...points, pick(() => 2)];
}

function misplaced(op: string, path: string, what: string, given: unknown): ArgumentError {
  return new ArgumentError(
    `argument ${path} is ${what}, inputs declares ${given instanceof TensorSpec ? String(given) : describeValue(given)}`,
    { op, hint: 'inputs has the form of the arguments: [spec([dim(...), 3])] for one tensor' },
  );
}

function visitSpecs(specs: unknown, found: (spec: TensorSpec) => void): void {
  if (specs instanceof TensorSpec) found(specs);
  else if (Array.isArray(specs)) for (const item of specs) visitSpecs(item, found);
  else if (typeof specs === 'object' && specs !== null && !isTensor(specs)) {
    for (const item of Object.values(specs)) visitSpecs(item, found);
  }
}
