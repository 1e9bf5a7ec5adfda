// Datasets: things with a length and samples by index, streams of samples, and what is made of them.
import type { TypedArray } from '../../base/dtype.ts';
import { checkInteger, checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import {
  type HostArray,
  type TypedHostArray,
  isHostArray,
  isTypedArray,
  typedHostArray,
} from '../io/host-array.ts';
import { type Tensor, isTensor } from '../io/tensors.ts';
import { Random, permutation } from './random.ts';

/** What a loader tells a dataset about the sample it asks for. */
export interface SampleContext {
  /** Index that the loader asked its dataset for. */
  readonly index: number;
  readonly epoch: number;
  /** A generator of this sample in this epoch alone: results do not depend on order or workers. */
  readonly random: Random;
}

/** What a loader tells a dataset about a whole batch. */
export interface BatchContext {
  readonly epoch: number;
  readonly seed: number;
}

/** What a loader needs: samples by index. Any object of this form will do. */
export interface DatasetLike<S> {
  /** Number of samples. */
  readonly length: number;
  get(index: number, context?: SampleContext): S | Promise<S>;
  /**
   * The collated batch at once: a tree like a sample, with host arrays that have the batch as first
   * axis. Optional: the fast path for data in memory. The arrays must be freshly allocated.
   */
  getBatch?(indices: readonly number[], context?: BatchContext): unknown;
}

/**
 * A map-style dataset. Subclasses give `length` and `get`.
 *
 * @example
 * class Squares extends Dataset<[number, number]> {
 *   readonly length = 100;
 *   get(index: number): [number, number] {
 *     return [index, index * index];
 *   }
 * }
 */
export abstract class Dataset<S> implements DatasetLike<S> {
  abstract readonly length: number;
  abstract get(index: number, context?: SampleContext): S | Promise<S>;
  /** See {@link DatasetLike}. */
  getBatch?(indices: readonly number[], context?: BatchContext): unknown;

  /** The dataset with `transform` applied to every sample as it is read. */
  map<R>(
    transform: (sample: S, context: SampleContext) => R | Promise<R>,
  ): MappedDataset<S, Awaited<R>> {
    return new MappedDataset<S, Awaited<R>>(this, transform as MapFunction<S, Awaited<R>>);
  }

  /** The samples at `indices`, in that order. */
  subset(indices: ArrayLike<number>): Subset<S> {
    return new Subset(this, indices);
  }
}

/**
 * A stream of samples whose number need not be known: lines of a log, frames of a camera.
 *
 * @example
 * const numbers = IterableDataset.from(function* () {
 *   for (let n = 0; n < 1000; n++) yield n;
 * });
 */
export abstract class IterableDataset<S> {
  /** A fresh pass over the samples; the same for the same epoch, so that training can be resumed. */
  abstract iterate(context: BatchContext): Iterable<S> | AsyncIterable<S>;

  /** A dataset from a function that starts a pass. */
  static from<S>(
    start: (context: BatchContext) => Iterable<S> | AsyncIterable<S>,
  ): IterableDataset<S> {
    return new GeneratedDataset(start);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<S, void, undefined> {
    yield* this.iterate({ epoch: 0, seed: 0 });
  }
}

class GeneratedDataset<S> extends IterableDataset<S> {
  private readonly start: (context: BatchContext) => Iterable<S> | AsyncIterable<S>;

  constructor(start: (context: BatchContext) => Iterable<S> | AsyncIterable<S>) {
    super();
    this.start = start;
  }

  iterate(context: BatchContext): Iterable<S> | AsyncIterable<S> {
    return this.start(context);
  }
}

/** The context of a sample read outside a loader: epoch 0 and a generator of its own. */
export function plainContext(index: number): SampleContext {
  return { index, epoch: 0, random: new Random(0, 0, index) };
}

/** Throws unless `index` is a sample's. */
export function checkIndex(op: string, index: number, length: number): void {
  if (Number.isInteger(index) && index >= 0 && index < length) return;
  const range = length === 0 ? 'it is empty' : `valid indices are 0 to ${length - 1}`;
  throw new ArgumentError(`index ${index} is out of range`, { op, hint: range });
}

type MapFunction<S, R> = (sample: S, context: SampleContext) => R | Promise<R>;

/** A dataset whose samples go through a function. */
export class MappedDataset<S, R> extends Dataset<R> {
  private readonly source: DatasetLike<S>;
  private readonly transform: MapFunction<S, R>;

  constructor(source: DatasetLike<S>, transform: MapFunction<S, R>) {
    super();
    this.source = source;
    this.transform = transform;
  }

  get length(): number {
    return this.source.length;
  }

  get(index: number, context: SampleContext = plainContext(index)): R | Promise<R> {
    const sample = this.source.get(index, context);
    if (sample instanceof Promise) {
      return sample.then((value: S) => this.transform(value, context));
    }
    return this.transform(sample, context);
  }
}

/** Some samples of a dataset, in a given order. */
export class Subset<S> extends Dataset<S> {
  private readonly source: DatasetLike<S>;
  private readonly indices: ArrayLike<number>;

  constructor(source: DatasetLike<S>, indices: ArrayLike<number>) {
    super();
    if (typeof (indices as ArrayLike<number> | undefined)?.length !== 'number') {
      throw new ArgumentError(`expected a list of indices, got ${describeValue(indices)}`, {
        op: 'Subset',
      });
    }
    for (let place = 0; place < indices.length; place++) {
      checkIndex('Subset', indices[place] as number, source.length);
    }
    this.source = source;
    this.indices = indices;
    if (source.getBatch !== undefined) {
      this.getBatch = (places, context) =>
        source.getBatch?.(
          places.map((place) => this.indexAt(place)),
          context,
        );
    }
  }

  get length(): number {
    return this.indices.length;
  }

  private indexAt(place: number): number {
    checkIndex('Subset', place, this.indices.length);
    return this.indices[place] as number;
  }

  get(place: number, context?: SampleContext): S | Promise<S> {
    return this.source.get(this.indexAt(place), context);
  }
}

/** Datasets one after the other. */
export class ConcatDataset<S> extends Dataset<S> {
  private readonly sources: readonly DatasetLike<S>[];
  /** First index of each source, and the length of all. */
  private readonly starts: readonly number[];

  constructor(sources: readonly DatasetLike<S>[]) {
    super();
    if (!Array.isArray(sources)) {
      throw new ArgumentError(`expected a list of datasets, got ${describeValue(sources)}`, {
        op: 'ConcatDataset',
        hint: 'new ConcatDataset([a, b])',
      });
    }
    this.sources = [...(sources as readonly DatasetLike<S>[])];
    const starts = [0];
    for (const source of sources) starts.push((starts.at(-1) as number) + source.length);
    this.starts = starts;
  }

  get length(): number {
    return this.starts.at(-1) as number;
  }

  get(index: number, context?: SampleContext): S | Promise<S> {
    checkIndex('ConcatDataset', index, this.length);
    let low = 0;
    let high = this.sources.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.starts[middle] as number) <= index) low = middle;
      else high = middle - 1;
    }
    const source = this.sources[low] as DatasetLike<S>;
    return source.get(index - (this.starts[low] as number), context);
  }
}

/** Arrays in memory that share their first axis; a sample is a tuple of rows. */
export class TensorDataset<Columns extends readonly (HostArray | Tensor)[]> extends Dataset<{
  -readonly [Key in keyof Columns]: TypedHostArray;
}> {
  readonly length: number;
  private readonly columns: readonly TypedHostArray[];

  /**
   * Tensors are read once, at construction, so on devices without synchronous reads give host arrays.
   *
   * @throws ShapeError if the first axes differ.
   * @example
   * const pixels = new Float32Array([0, 1, 2, 3, 4, 5]);
   * const labels = new Int32Array([7, 8, 9]);
   * const set = new TensorDataset({ data: pixels, shape: [3, 2] }, { data: labels, shape: [3] });
   * set.length; // => 3
   */
  constructor(...columns: Columns) {
    super();
    this.columns = columns.map(hostColumn);
    const first = this.columns[0];
    if (first === undefined) {
      throw new ArgumentError('at least one array is needed', { op: 'TensorDataset' });
    }
    this.length = first.shape[0] as number;
    for (const { shape } of this.columns) {
      if (shape[0] === this.length) continue;
      throw new ShapeError(
        `first axes differ, ${formatShape(first.shape)} and ${formatShape(shape)}`,
        { op: 'TensorDataset', hint: 'every array needs one row per sample' },
      );
    }
  }

  get(index: number): { -readonly [Key in keyof Columns]: TypedHostArray } {
    checkIndex('TensorDataset', index, this.length);
    const rows = this.columns.map(({ data, shape, dtype }) => {
      const size = sizeOf(shape.slice(1));
      return {
        data: data.subarray(index * size, (index + 1) * size),
        shape: shape.slice(1),
        dtype,
      };
    });
    return rows as { -readonly [Key in keyof Columns]: TypedHostArray };
  }

  override getBatch(indices: readonly number[]): TypedHostArray[] {
    for (const index of indices) checkIndex('TensorDataset', index, this.length);
    return this.columns.map((column) => gatherRows(column, indices));
  }
}

function hostColumn(column: HostArray | Tensor): TypedHostArray {
  if (!isTensor(column) && !isHostArray(column)) {
    throw new ArgumentError(
      `expected a tensor or { data, shape } with a typed array, got ${describeValue(column)}`,
      { op: 'TensorDataset' },
    );
  }
  const array = isTensor(column)
    ? { data: column.dataSync(), shape: column.shape, dtype: column.dtype }
    : typedHostArray('TensorDataset', column);
  if (array.shape.length > 0) return array;
  throw new ShapeError('a scalar has no samples', { op: 'TensorDataset' });
}

/** The rows of an array at `indices`, copied into a new one. */
export function gatherRows(array: TypedHostArray, indices: readonly number[]): TypedHostArray {
  const { data, shape, dtype } = array;
  const row = shape.slice(1);
  const size = sizeOf(row);
  const result = newLike(data, size * indices.length);
  for (let place = 0; place < indices.length; place++) {
    const index = indices[place] as number;
    if (size === 1) result[place] = data[index] as number;
    else result.set(data.subarray(index * size, (index + 1) * size), place * size);
  }
  return { data: result, shape: [indices.length, ...row], dtype };
}

function newLike(data: TypedArray, length: number): TypedArray {
  const Kind = data.constructor as new (length: number) => unknown;
  const result = new Kind(length);
  if (!isTypedArray(result)) throw new Error('internal: not a typed array');
  return result;
}

/** The dataset with `transform` applied to every sample as it is read. */
export function mapDataset<S, R>(
  source: DatasetLike<S>,
  transform: (sample: S, context: SampleContext) => R | Promise<R>,
): MappedDataset<S, R> {
  return new MappedDataset(source, transform);
}

/**
 * Splits a dataset at random into disjoint parts: `lengths` are either numbers of samples that add up
 * to the dataset's, or fractions that add up to 1 (what rounding leaves goes to the first parts).
 *
 * @example
 * import { datasets } from 'tengen/data';
 *
 * const digits = datasets.strokes({ size: 100 });
 * const parts = randomSplit(digits, [0.9, 0.1], { seed: 1 });
 * parts.map((part) => part.length); // => [90, 10]
 */
export function randomSplit<S>(
  source: DatasetLike<S>,
  lengths: readonly number[],
  options: { readonly seed?: number } = {},
): Subset<S>[] {
  checkKeys('randomSplit', options, ['seed']);
  const seed = checkInteger('randomSplit', 'seed', options.seed ?? 0, -Infinity);
  const counts = splitCounts(source.length, lengths);
  const order = permutation(source.length, new Random(seed));
  let start = 0;
  return counts.map((count) => {
    const part = new Subset(source, order.subarray(start, start + count));
    start += count;
    return part;
  });
}

function splitCounts(total: number, lengths: readonly number[]): number[] {
  const sum = lengths.reduce((a, b) => a + b, 0);
  if (lengths.some((length) => !(length >= 0))) {
    throw new ArgumentError(`lengths must not be negative, got [${lengths.join(', ')}]`, {
      op: 'randomSplit',
    });
  }
  if (sum === total && lengths.every(Number.isInteger)) return [...lengths];
  if (Math.abs(sum - 1) > 1e-6) {
    throw new ArgumentError(
      `[${lengths.join(', ')}] add up to ${sum}, the dataset has ${total} samples`,
      { op: 'randomSplit', hint: 'give counts that add up to that, or fractions that add up to 1' },
    );
  }
  const counts = lengths.map((length) => Math.floor(length * total + 1e-9));
  let rest = total - counts.reduce((a, b) => a + b, 0);
  for (let part = 0; rest > 0; part = (part + 1) % counts.length, rest--) {
    counts[part] = (counts[part] as number) + 1;
  }
  return counts;
}
