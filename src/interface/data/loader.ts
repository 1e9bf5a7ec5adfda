// DataLoader: batches of a dataset, in an order fixed by seed and epoch, prepared ahead, in threads or not.
import { checkInteger, checkKeys, checkNumber, describeValue } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import { type Collated, collateToArrays, defaultCollate, toTensors } from './collate.ts';
import { checkIndex, type DatasetLike, IterableDataset, type SampleContext } from './dataset.ts';
import { DataError } from './errors.ts';
import { type BatchTicket, LoaderIterator } from './loader-iterator.ts';
import { Random } from './random.ts';
import { BatchSampler, type IndexOrder, RandomSampler, SequentialSampler } from './samplers.ts';
import { type WorkerDataset, WorkerPool, sampleError } from './worker-pool.ts';

/** Batches of indices per epoch. */
export interface BatchOrder {
  readonly length: number;
  order(epoch: number): Iterable<readonly number[]>;
}

/** What a loader can draw from. */
export type DataSource<S> = DatasetLike<S> | readonly S[] | IterableDataset<S> | WorkerDataset;

/** Options of {@link DataLoader}. */
export interface DataLoaderOptions<S, B> {
  /** Samples per batch. Default 1. */
  readonly batchSize?: number | undefined;
  /** A new random order in every epoch. Default false. */
  readonly shuffle?: boolean | undefined;
  /** Fixes shuffling and augmentation. Default 0: two runs see the same batches. */
  readonly seed?: number | undefined;
  /** Order of the samples, in place of `shuffle`. */
  readonly sampler?: IndexOrder | undefined;
  /** Whole batches of indices, in place of `batchSize`, `shuffle`, `sampler` and `dropLast`. */
  readonly batchSampler?: BatchOrder | undefined;
  /** Leave out the last batch if it is not full. Default false. */
  readonly dropLast?: boolean | undefined;
  /** Makes a batch of samples. Default: stack into tensors. */
  readonly collate?: ((samples: S[]) => B | Promise<B>) | undefined;
  /** Worker threads. Default 0: in this thread. More need a dataset that names its module. */
  readonly workers?: number | undefined;
  /** Batches prepared ahead, per worker. Default 2. */
  readonly prefetch?: number | undefined;
  /** Milliseconds to wait for a batch; 0, the default, waits for ever. */
  readonly timeout?: number | undefined;
  /** Ends the iteration, and the workers, with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Where a loader stands. Plain JSON: put it in the checkpoint. */
export interface LoaderState {
  readonly epoch: number;
  /** Batches delivered in this epoch. */
  readonly batch: number;
  readonly seed: number;
  readonly batchSize: number;
  /** Batches per epoch; absent for streams. */
  readonly batches?: number | undefined;
}

function isWorkerDataset(source: object): source is WorkerDataset {
  return !('get' in source) && ('module' in source || 'worker' in source);
}

function fromArray<S>(samples: readonly S[]): DatasetLike<S> {
  return { length: samples.length, get: (index) => samples[index] as S };
}

/**
 * Iterates over a dataset in batches. Every pass of a `for await` is one epoch; the order depends on
 * `seed` and the epoch's number alone, never on the number of workers. Leaving a loop early ends the
 * epoch: the next pass is the next epoch, unless `loadState` says otherwise.
 *
 * `state()` inside the loop counts the batch in hand as done; a loader that gets this state continues
 * with exactly the batches that remained.
 *
 * @example
 * import { datasets } from 'tengen/data';
 *
 * const digits = datasets.strokes({ size: 100 });
 * const loader = new DataLoader(digits, { batchSize: 64, shuffle: true, seed: 1 });
 * const sizes: number[] = [];
 * for await (const [images] of loader) sizes.push(images.shape[0] ?? 0);
 * sizes; // => [64, 36]
 */
export class DataLoader<S, B = Collated<S>> implements AsyncIterable<B> {
  readonly batchSize: number;
  readonly workers: number;
  private readonly seed: number;
  private readonly options: DataLoaderOptions<S, B>;
  private readonly source: DatasetLike<S> | IterableDataset<S> | WorkerDataset;
  private order: BatchOrder | undefined;
  private pool: Promise<WorkerPool> | undefined;
  /** A worker dataset built in this thread, for `workers: 0`. */
  private local: Promise<DatasetLike<S>> | undefined;
  private nextEpoch = 0;
  private startBatch = 0;
  private current: { epoch: number; batch: number } | undefined;
  /** Samples of the dataset, once that is known. */
  private size: number | undefined;

  /** @throws ArgumentError if the options contradict each other or the dataset. */
  constructor(source: DataSource<S>, options: DataLoaderOptions<S, B> = {}) {
    checkOptions(source, options);
    this.options = options;
    this.source = Array.isArray(source)
      ? fromArray<S>(source)
      : (source as DatasetLike<S> | IterableDataset<S> | WorkerDataset);
    this.batchSize = options.batchSize ?? 1;
    this.workers = options.workers ?? 0;
    this.seed = options.seed ?? 0;
    if (!(this.source instanceof IterableDataset)) {
      const { length } = this.source;
      if (length !== undefined) this.order = this.makeOrder(length);
    }
  }

  /**
   * Batches per epoch.
   *
   * @throws ArgumentError for a stream, and for a worker dataset before `ready()`.
   */
  get length(): number {
    if (this.order !== undefined) return this.order.length;
    throw new ArgumentError('the number of batches is not known', {
      op: 'DataLoader',
      hint:
        this.source instanceof IterableDataset
          ? 'a stream has no length'
          : 'await loader.ready(), or give the dataset a length',
    });
  }

  /** Number of the epoch being iterated, or of the next one. */
  get epoch(): number {
    return this.current?.epoch ?? this.nextEpoch;
  }

  /** Starts the workers and learns the dataset's length. Iterating does so by itself. */
  async ready(): Promise<void> {
    if (this.source instanceof IterableDataset) return;
    const length =
      this.workers > 0
        ? await (await this.startPool()).ready()
        : (await this.localDataset()).length;
    const promised = this.source.length;
    if (promised !== undefined && promised !== length) {
      throw new ArgumentError(`the dataset has ${length} samples, not ${promised}`, {
        op: 'DataLoader',
        hint: 'leave out the length of the worker dataset',
      });
    }
    this.size = length;
    this.order ??= this.makeOrder(length);
  }

  /** Where the loader stands: for a checkpoint. */
  state(): LoaderState {
    const { epoch, batch } = this.current ?? { epoch: this.nextEpoch, batch: this.startBatch };
    const batches = this.order?.length;
    return {
      epoch,
      batch,
      seed: this.seed,
      batchSize: this.batchSize,
      ...(batches === undefined ? {} : { batches }),
    };
  }

  /**
   * Continues where `state` was taken: the next pass gives what remained of that epoch.
   *
   * @throws ArgumentError if the state belongs to a loader with other data, seed or batch size.
   */
  loadState(state: LoaderState): void {
    checkInteger('DataLoader.loadState', 'epoch', state.epoch, 0);
    checkInteger('DataLoader.loadState', 'batch', state.batch, 0);
    const mine = this.state();
    for (const key of ['seed', 'batchSize', 'batches'] as const) {
      if (mine[key] === undefined || state[key] === undefined || mine[key] === state[key]) continue;
      throw new ArgumentError(`${key} is ${mine[key]} here and ${state[key]} in the state`, {
        op: 'DataLoader.loadState',
        hint: 'the order would differ: use the same dataset and options',
      });
    }
    if (mine.batches !== undefined && state.batch > mine.batches) {
      throw new ArgumentError(`batch ${state.batch} of ${mine.batches}`, {
        op: 'DataLoader.loadState',
      });
    }
    this.current = undefined;
    this.nextEpoch = state.epoch;
    this.startBatch = state.batch;
  }

  /** One epoch, or what `loadState` left of one. */
  [Symbol.asyncIterator](): AsyncIterableIterator<B, undefined> {
    const epoch = this.current === undefined ? this.nextEpoch : this.current.epoch + 1;
    const first = this.current === undefined ? this.startBatch : 0;
    const mark = { epoch, batch: first };
    this.current = mark;
    this.nextEpoch = epoch + 1;
    this.startBatch = 0;
    return new LoaderIterator<B>({
      tickets: this.tickets(epoch, first),
      ahead: (this.options.prefetch ?? 2) * Math.max(1, this.workers),
      timeout: this.options.timeout ?? 0,
      signal: this.options.signal,
      delivered: () => {
        mark.batch++;
      },
      finished: () => {
        // If a later iteration has taken over, the state is its own.
        if (this.current === mark) this.current = undefined;
      },
      interrupted: () => this.close(),
    });
  }

  /** Ends the workers. They end by themselves with the process; the loader can still be used. */
  async close(): Promise<void> {
    const { pool } = this;
    this.pool = undefined;
    const started = await pool?.catch(() => undefined);
    started?.close();
  }

  /** See {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private makeOrder(length: number): BatchOrder {
    const { batchSampler, sampler, shuffle = false, dropLast = false } = this.options;
    if (batchSampler !== undefined) return batchSampler;
    const plain = shuffle
      ? new RandomSampler(length, { seed: this.seed })
      : new SequentialSampler(length);
    return new BatchSampler(sampler ?? plain, this.batchSize, dropLast);
  }

  private startPool(): Promise<WorkerPool> {
    this.pool = this.runningPool(this.pool);
    return this.pool;
  }

  /** The pool there is, unless it lost a worker: that was reported, and the next pass gets a new one. */
  private async runningPool(previous: Promise<WorkerPool> | undefined): Promise<WorkerPool> {
    const running = await previous?.catch(() => undefined);
    if (running?.failed === false) return running;
    return WorkerPool.start(this.source as WorkerDataset, this.workers);
  }

  private async localDataset(): Promise<DatasetLike<S>> {
    if (this.source instanceof IterableDataset)
      throw new Error('internal: a stream has no samples');
    if (!isWorkerDataset(this.source)) return this.source;
    this.local ??= importDataset<S>(this.source);
    return this.local;
  }

  /** The batches of an epoch, each begun when it is asked for. */
  private async *tickets(epoch: number, first: number): AsyncGenerator<BatchTicket<B>, void> {
    if (this.source instanceof IterableDataset) {
      yield* this.streamTickets(this.source, epoch, first);
      return;
    }
    await this.ready();
    const fetch =
      this.workers > 0
        ? this.poolFetcher(await this.startPool())
        : this.localFetcher(await this.localDataset());
    let place = 0;
    for (const indices of (this.order as BatchOrder).order(epoch)) {
      for (const index of indices) checkIndex('DataLoader', index, this.size ?? 0);
      if (place++ >= first) yield fetch(indices, epoch);
    }
  }

  private poolFetcher(
    pool: WorkerPool,
  ): (indices: readonly number[], epoch: number) => BatchTicket<B> {
    const collate = this.options.collate;
    // The default collations stack in the worker; one of the user's own is code and cannot be sent.
    const stack = collate === undefined || isArrayCollate(collate);
    return (indices, epoch) => {
      const ticket = pool.request({ indices, epoch, seed: this.seed, stack });
      const value = ticket.value.then((result): B | Promise<B> => {
        if (collate === undefined) return toTensors(result) as B;
        return stack ? (result as B) : collate(result as S[]);
      });
      return { ...ticket, value, samples: indices };
    };
  }

  private localFetcher(
    dataset: DatasetLike<S>,
  ): (indices: readonly number[], epoch: number) => BatchTicket<B> {
    return (indices, epoch) => {
      const missing = new Set<number>();
      return {
        value: this.localBatch(dataset, indices, epoch, missing),
        samples: indices,
        currentSample: () => missing.values().next().value,
        cancel: () => undefined,
      };
    };
  }

  private async localBatch(
    dataset: DatasetLike<S>,
    indices: readonly number[],
    epoch: number,
    missing: Set<number>,
  ): Promise<B> {
    const { collate } = this.options;
    if (dataset.getBatch !== undefined && (collate === undefined || isArrayCollate(collate))) {
      let batch: unknown;
      try {
        batch = await dataset.getBatch(indices, { epoch, seed: this.seed });
      } catch (cause) {
        throw sampleError(indices, undefined, cause);
      }
      return (collate === undefined ? toTensors(batch) : batch) as B;
    }
    const samples = await Promise.all(
      indices.map(async (index) => {
        missing.add(index);
        try {
          const sample = await dataset.get(index, this.contextOf(index, epoch));
          missing.delete(index);
          return sample;
        } catch (cause) {
          throw sampleError(indices, index, cause);
        }
      }),
    );
    return this.collate(samples);
  }

  private async collate(samples: S[]): Promise<B> {
    const { collate } = this.options;
    return collate === undefined ? ((await defaultCollate(samples)) as B) : collate(samples);
  }

  private contextOf(index: number, epoch: number): SampleContext {
    const { seed } = this;
    let random: Random | undefined;
    return {
      index,
      epoch,
      get random(): Random {
        random ??= new Random(seed, epoch, index);
        return random;
      },
    };
  }

  private async *streamTickets(
    stream: IterableDataset<S>,
    epoch: number,
    first: number,
  ): AsyncGenerator<BatchTicket<B>, void> {
    let place = 0;
    let count = 0;
    let batch: S[] = [];
    const ticket = (samples: S[]): BatchTicket<B> => ({
      value: this.collate(samples),
      samples: Array.from(samples, (_sample, index) => count - samples.length + index),
      currentSample: () => undefined,
      cancel: () => undefined,
    });
    try {
      for await (const sample of stream.iterate({ epoch, seed: this.seed })) {
        count++;
        batch.push(sample);
        if (batch.length < this.batchSize) continue;
        if (place++ >= first) yield ticket(batch);
        batch = [];
      }
    } catch (cause) {
      throw sampleError([count], count, cause);
    }
    if (batch.length > 0 && this.options.dropLast !== true && place >= first) yield ticket(batch);
  }
}

/** True for {@link collateToArrays} itself: then the fast path may be taken. */
function isArrayCollate(collate: unknown): boolean {
  return collate === collateToArrays;
}

const OPTIONS = [
  'batchSize',
  'shuffle',
  'seed',
  'sampler',
  'batchSampler',
  'dropLast',
  'collate',
  'workers',
  'prefetch',
  'timeout',
  'signal',
] as const satisfies readonly (keyof DataLoaderOptions<unknown, unknown>)[];

/** Throws ArgumentError unless samples can be had from `source`. */
function checkSource(op: string, source: unknown): void {
  if (Array.isArray(source) || source instanceof IterableDataset) return;
  const given = typeof source === 'object' && source !== null ? source : undefined;
  const isMap = given !== undefined && 'get' in given && typeof given.get === 'function';
  if (!isMap && (given === undefined || !isWorkerDataset(given))) {
    throw new ArgumentError(
      `expected a dataset with length and get(index), got ${describeValue(source)}`,
      { op },
    );
  }
  const { length } = given as { length?: unknown };
  // The length of a worker dataset may be left to the workers.
  if (isMap || length !== undefined) checkInteger(op, 'length of the dataset', length, 0);
}

function checkOrder(op: string, name: string, order: unknown): void {
  if (order === undefined || typeof (order as IndexOrder | null)?.order === 'function') return;
  throw new ArgumentError(`${name} needs length and order(epoch), got ${describeValue(order)}`, {
    op,
  });
}

function checkOptions<S, B>(source: DataSource<S>, options: DataLoaderOptions<S, B>): void {
  const op = 'DataLoader';
  checkSource(op, source);
  checkKeys(op, options, OPTIONS);
  checkInteger(op, 'seed', options.seed ?? 0, -Infinity);
  checkNumber(op, 'timeout', options.timeout ?? 0);
  checkOrder(op, 'sampler', options.sampler);
  checkOrder(op, 'batchSampler', options.batchSampler);
  if (options.collate !== undefined && typeof options.collate !== 'function') {
    throw new ArgumentError(`collate must be a function, got ${describeValue(options.collate)}`, {
      op,
    });
  }
  const { batchSampler, sampler, shuffle, workers = 0 } = options;
  checkInteger(op, 'batchSize', options.batchSize ?? 1, 1);
  checkInteger(op, 'workers', workers, 0);
  checkInteger(op, 'prefetch', options.prefetch ?? 2, 1);
  const stream = source instanceof IterableDataset;
  if (shuffle === true && sampler !== undefined) {
    throw new ArgumentError('shuffle and sampler both say an order', { op, hint: 'give one' });
  }
  if (
    batchSampler !== undefined &&
    (options.batchSize !== undefined ||
      shuffle === true ||
      sampler !== undefined ||
      options.dropLast === true)
  ) {
    throw new ArgumentError('batchSampler says everything about batches', {
      op,
      hint: 'leave out batchSize, shuffle, sampler and dropLast',
    });
  }
  if (stream && (shuffle === true || sampler !== undefined || batchSampler !== undefined)) {
    throw new ArgumentError('a stream comes in its own order', {
      op,
      hint: 'shuffle inside the dataset, or use a map-style dataset',
    });
  }
  if (workers > 0 && (stream || !isWorkerDataset(source))) {
    throw new ArgumentError(
      stream ? 'a stream is read in this thread' : 'code cannot be sent to workers',
      {
        op,
        hint: stream
          ? 'use workers: 0'
          : "let the workers make the dataset: workerDataset(import.meta.url, 'makeDataset', args)",
      },
    );
  }
}

/** Builds a worker dataset in this thread. */
async function importDataset<S>(source: WorkerDataset): Promise<DatasetLike<S>> {
  if (source.module === undefined) {
    throw new ArgumentError('a dataset with its own worker script needs workers', {
      op: 'DataLoader',
      hint: 'workers: 1',
    });
  }
  const name = source.export ?? 'default';
  const url = String(source.module);
  const module = (await import(/* @vite-ignore */ url)) as Record<string, unknown>;
  const factory = module[name];
  const made: unknown =
    typeof factory === 'function'
      ? await (factory as (args: unknown) => unknown)(source.args)
      : factory;
  const candidate = made as Partial<DatasetLike<S>> | null | undefined;
  if (typeof candidate?.get !== 'function' || typeof candidate.length !== 'number') {
    throw new DataError(`export '${name}' of ${url} gave no dataset`, {
      hint: 'it needs length and get(index)',
    });
  }
  return candidate as DatasetLike<S>;
}
