// A loader's workers: which one gets which batch, what comes back, and what if one dies.
import { ArgumentError } from '../../base/errors.ts';
import { DataError, WorkerDiedError, formatSamples } from './errors.ts';
import {
  type WorkerChannel,
  type WorkerLike,
  findTypescriptLoader,
  openChannel,
} from './worker-channel.ts';
import {
  type BatchRequest,
  type ErrorMessage,
  type FromWorker,
  NO_SAMPLE,
} from './worker-protocol.ts';

/** A dataset that a worker can build for itself: code cannot be sent, a module's name can. */
export interface WorkerDataset {
  /** The module that makes the dataset: `import.meta.url`, or `new URL('./dataset.js', ...)`. */
  readonly module?: string | URL | undefined;
  /** Its export: a function that makes the dataset, or the dataset. Default `default`. */
  readonly export?: string | undefined;
  /** What the function is given; must survive being sent to another thread. */
  readonly args?: unknown;
  /** Starts a worker script of your own, one that calls `serveDataset`. In place of `module`. */
  readonly worker?: (() => WorkerLike) | undefined;
  /** Number of samples. Without it the workers say, so `loader.length` is known after `ready()`. */
  readonly length?: number | undefined;
}

/**
 * Names a dataset that workers can build for themselves.
 *
 * @example sketch: a module that workers import
 * export function makeDataset({ folder }: { folder: string }): Dataset<Sample> { ... }
 *
 * const loader = new DataLoader(workerDataset(import.meta.url, 'makeDataset', { folder }), {
 *   batchSize: 64,
 *   workers: 2,
 * });
 */
export function workerDataset(
  module: string | URL,
  exportName = 'default',
  args?: unknown,
): WorkerDataset {
  return { module, export: exportName, args };
}

interface Pending {
  readonly request: BatchRequest;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Member {
  readonly number: number;
  readonly pending: Map<number, Pending>;
  readonly progress: Int32Array | undefined;
  channel: WorkerChannel | undefined;
}

/** A batch that was asked for. */
export interface PoolTicket {
  readonly value: Promise<unknown>;
  /** The sample its worker reads at this moment, if that is known. */
  currentSample(): number | undefined;
  /** Nobody waits for it any more. */
  cancel(): void;
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

function sharedSlot(): SharedArrayBuffer | undefined {
  return typeof SharedArrayBuffer === 'undefined' ? undefined : new SharedArrayBuffer(4);
}

/** The error as it was in the worker, with the worker's stack. */
function revive({ name, message, stack }: ErrorMessage): Error {
  const error = new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** Threads that each hold the dataset. One that dies takes the pool with it: none is left hanging. */
export class WorkerPool {
  private readonly members: Member[] = [];
  private readonly count: number;
  /** Length of the dataset as each worker built it. */
  private readonly lengths: number[] = [];
  private nextId = 0;
  private failure: DataError | undefined;
  private readonly length = deferred<number>();

  private constructor(count: number) {
    this.count = count;
    // Whoever needs it awaits it; batches report the same failure.
    this.length.promise.catch(() => undefined);
  }

  /** True once a worker has died, or the pool was closed. */
  get failed(): boolean {
    return this.failure !== undefined;
  }

  /** Starts `count` workers, which build their datasets side by side. */
  static async start(dataset: WorkerDataset, count: number): Promise<WorkerPool> {
    const pool = new WorkerPool(count);
    const module = dataset.module === undefined ? undefined : String(dataset.module);
    if (module === undefined && dataset.worker === undefined) {
      throw new ArgumentError('a dataset for workers needs module or worker', { op: 'DataLoader' });
    }
    const typescriptLoader = module === undefined ? undefined : await findTypescriptLoader(module);
    try {
      for (let number = 0; number < count; number++) {
        const progress = sharedSlot();
        const member: Member = {
          number,
          pending: new Map(),
          progress: progress === undefined ? undefined : new Int32Array(progress),
          channel: undefined,
        };
        member.progress?.fill(NO_SAMPLE);
        member.channel = await openChannel(dataset.worker, {
          message: (message) => pool.receive(member, message),
          died: (reason, cause) => pool.memberDied(member, reason, cause),
        });
        pool.members.push(member);
        if (pool.failure !== undefined) throw pool.failure;
        member.channel.hold(false);
        member.channel.post({
          type: 'init',
          module,
          exportName: dataset.export ?? 'default',
          args: dataset.args,
          typescriptLoader,
          progress,
        });
      }
    } catch (error) {
      pool.close();
      pool.stop();
      throw error;
    }
    return pool;
  }

  /** Samples of the dataset, once every worker has built it. */
  async ready(): Promise<number> {
    for (const { channel } of this.members) channel?.hold(true);
    try {
      return await this.length.promise;
    } finally {
      for (const { channel, pending } of this.members) {
        if (pending.size === 0) channel?.hold(false);
      }
    }
  }

  /** Asks the least busy worker for a batch. */
  request(batch: Omit<BatchRequest, 'type' | 'id'>): PoolTicket {
    const { failure } = this;
    if (failure !== undefined) {
      return {
        value: Promise.reject(failure),
        currentSample: () => undefined,
        cancel: () => undefined,
      };
    }
    const member = this.members.reduce((best, other) =>
      other.pending.size < best.pending.size ? other : best,
    );
    const request: BatchRequest = { ...batch, type: 'batch', id: this.nextId++ };
    const value = new Promise((resolve, reject) => {
      member.pending.set(request.id, { request, resolve, reject });
    });
    member.channel?.hold(true);
    member.channel?.post(request);
    return {
      value,
      currentSample: () => currentSample(member, request.indices),
      cancel: () => this.cancel(member, request.id),
    };
  }

  private cancel(member: Member, id: number): void {
    if (!member.pending.delete(id)) return;
    member.channel?.post({ type: 'cancel', id });
    if (member.pending.size === 0) member.channel?.hold(false);
  }

  private receive(member: Member, message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        this.memberReady(message.length);
        return;
      case 'failed': {
        const cause = revive(message.error);
        this.fail(
          new DataError(`a worker could not make the dataset: ${cause.message}`, { cause }),
        );
        return;
      }
      case 'batch':
      case 'error': {
        const pending = member.pending.get(message.id);
        // A batch that nobody waits for any more.
        if (pending === undefined) return;
        member.pending.delete(message.id);
        if (member.pending.size === 0) member.channel?.hold(false);
        if (message.type === 'batch') pending.resolve(message.value);
        else
          pending.reject(
            sampleError(pending.request.indices, message.index, revive(message.error)),
          );
        return;
      }
      default:
        message satisfies never;
    }
  }

  private memberReady(length: number): void {
    this.lengths.push(length);
    const [first] = this.lengths;
    if (first !== length) {
      this.fail(
        new DataError(`the dataset has ${first} samples in one worker and ${length} in another`, {
          hint: 'make it the same in each, from the arguments alone',
        }),
      );
    } else if (this.lengths.length === this.count) {
      this.length.resolve(length);
    }
  }

  private memberDied(member: Member, reason: string, cause: unknown): void {
    const held = [...member.pending.values()].flatMap(({ request }) => request.indices);
    const sampleIndex = currentSample(member, held);
    const place =
      sampleIndex !== undefined
        ? ` at sample ${sampleIndex}`
        : held.length > 0
          ? ` while it held samples ${formatSamples(held)}`
          : '';
    this.fail(
      new WorkerDiedError(`worker ${member.number} ${reason}${place}`, {
        sampleIndex,
        samples: held,
        ...(cause === undefined ? {} : { cause }),
      }),
    );
  }

  private fail(error: DataError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.length.reject(error);
    for (const { pending } of this.members) {
      for (const { reject } of pending.values()) reject(error);
    }
    this.stop();
  }

  /** Ends every worker now. Whoever still waits gets an error. */
  close(): void {
    this.fail(new DataError('the loader was closed'));
  }

  private stop(): void {
    for (const { pending, channel } of this.members) {
      pending.clear();
      channel?.terminate();
    }
  }
}

function currentSample(member: Member, held: readonly number[]): number | undefined {
  if (member.progress === undefined) return undefined;
  const index = Atomics.load(member.progress, 0);
  return index !== NO_SAMPLE && held.includes(index) ? index : undefined;
}

/** A dataset's own failure: says which sample, and carries the cause. */
export function sampleError(
  samples: readonly number[],
  sampleIndex: number | undefined,
  cause: unknown,
): DataError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const place =
    sampleIndex === undefined
      ? `the batch of samples ${formatSamples(samples)}`
      : `sample ${sampleIndex}`;
  return new DataError(`${place} failed: ${reason}`, { sampleIndex, samples, cause });
}
