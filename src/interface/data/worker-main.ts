// What runs inside a worker: builds the dataset, answers requests for batches.
import type { DatasetLike } from './dataset.ts';
import type { Random } from './random.ts';
import type { BatchRequest, ErrorMessage, FromWorker, ToWorker } from './worker-protocol.ts';

/** The worker's end of its channel. */
export interface WorkerPort {
  post(message: FromWorker, transfer: ArrayBuffer[]): void;
  listen(receive: (message: ToWorker) => void): void;
}

/** Everything {@link serveBatches} needs from outside. */
export interface WorkerParts {
  /** `import()`: handed in, because build tools rewrite it in the source text. */
  readonly importModule: (url: string) => Promise<Record<string, unknown>>;
  readonly createStacker: (
    fail: (reason: string) => never,
  ) => (samples: readonly unknown[]) => unknown;
  readonly Random: new (...keys: readonly number[]) => Random;
  /** The dataset's factory, where the worker brings its own. */
  readonly factory: ((args: never) => unknown) | undefined;
}

/**
 * Serves a dataset through `port`. Workers receive this function as source text: it refers to nothing
 * outside itself and its arguments.
 */
export function serveBatches(port: WorkerPort, parts: WorkerParts): void {
  /** In the progress slot: no single sample is being read. */
  const NO_SAMPLE = -1;
  const queue: BatchRequest[] = [];
  let dataset: DatasetLike<unknown> | undefined;
  let progress: Int32Array | undefined;
  let busy = false;
  const stackSamples = parts.createStacker((reason) => {
    throw new Error(`collate: ${reason}`);
  });

  const turn = (): Promise<void> =>
    new Promise((resolve) => {
      if (typeof setImmediate === 'function') setImmediate(resolve);
      else setTimeout(resolve, 0);
    });

  const describe = (error: unknown): ErrorMessage =>
    error instanceof Error
      ? { name: error.name, message: error.message, stack: error.stack }
      : { name: 'Error', message: String(error), stack: undefined };

  /** Buffers that may move: whole ones, once each. Views of larger memory are copied instead. */
  const transferables = (value: unknown, found = new Set<ArrayBuffer>()): Set<ArrayBuffer> => {
    if (ArrayBuffer.isView(value)) {
      const { buffer, byteLength } = value;
      if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) found.add(buffer);
    } else if (typeof value === 'object' && value !== null) {
      for (const member of Object.values(value)) transferables(member, found);
    }
    return found;
  };

  const contextOf = (index: number, { epoch, seed }: BatchRequest): object => {
    let random: Random | undefined;
    return {
      index,
      epoch,
      get random(): Random {
        random ??= new parts.Random(seed, epoch, index);
        return random;
      },
    };
  };

  const answer = async (request: BatchRequest, source: DatasetLike<unknown>): Promise<void> => {
    const { id, indices, epoch, seed, stack } = request;
    let current: number | undefined;
    try {
      if (stack && typeof source.getBatch === 'function') {
        const value = await source.getBatch(indices, { epoch, seed });
        port.post({ type: 'batch', id, value }, [...transferables(value)]);
        return;
      }
      const samples: unknown[] = [];
      for (const index of indices) {
        current = index;
        if (progress !== undefined) Atomics.store(progress, 0, index);
        samples.push(await source.get(index, contextOf(index, request) as never));
      }
      current = undefined;
      if (!stack) {
        // Samples may be views of the dataset's own memory, so nothing moves.
        port.post({ type: 'batch', id, value: samples }, []);
        return;
      }
      const value = stackSamples(samples);
      port.post({ type: 'batch', id, value }, [...transferables(value)]);
    } catch (error) {
      port.post({ type: 'error', id, error: describe(error), index: current }, []);
    } finally {
      if (progress !== undefined) Atomics.store(progress, 0, NO_SAMPLE);
    }
  };

  const work = async (): Promise<void> => {
    if (busy || dataset === undefined) return;
    busy = true;
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      await answer(next, dataset);
      // A turn of the event loop, so that a cancel can arrive between two batches.
      if (queue.length > 0) await turn();
    }
    busy = false;
  };

  const build = async (message: ToWorker & { type: 'init' }): Promise<void> => {
    if (message.progress !== undefined) {
      progress = new Int32Array(message.progress);
      Atomics.store(progress, 0, NO_SAMPLE);
    }
    let factory: unknown = parts.factory;
    if (factory === undefined) {
      const url = message.module as string;
      let module: Record<string, unknown>;
      if (message.typescriptLoader === undefined) {
        module = await parts.importModule(url);
      } else {
        const loader = (await parts.importModule(message.typescriptLoader)) as {
          tsImport: (url: string, parent: string) => Promise<Record<string, unknown>>;
        };
        module = await loader.tsImport(url, url);
      }
      factory = module[message.exportName];
      if (factory === undefined) {
        const names = Object.keys(module).join(', ');
        throw new Error(`${url} exports no '${message.exportName}', only: ${names || 'nothing'}`);
      }
    }
    const made: unknown =
      typeof factory === 'function'
        ? await (factory as (args: unknown) => unknown)(message.args)
        : factory;
    const candidate = made as Partial<DatasetLike<unknown>> | null | undefined;
    if (typeof candidate?.get !== 'function' || typeof candidate.length !== 'number') {
      throw new Error(`'${message.exportName}' gave no dataset: it needs length and get(index)`);
    }
    dataset = candidate as DatasetLike<unknown>;
    port.post({ type: 'ready', length: dataset.length }, []);
    await work();
  };

  port.listen((message) => {
    if (message.type === 'init') {
      build(message).catch((error: unknown) => {
        port.post({ type: 'failed', error: describe(error) }, []);
      });
    } else if (message.type === 'cancel') {
      const place = queue.findIndex(({ id }) => id === message.id);
      if (place >= 0) queue.splice(place, 1);
    } else {
      queue.push(message);
      void work();
    }
  });
}
