// DataLoader with worker threads: the same batches whatever their number, and no hang when they fail.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createContext, runInContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
// Installs the evaluator, without which tensors cannot be read.
import '../../src/index.ts';
import { describe, expect, it } from 'vitest';
import { ArgumentError } from '../../src/base/errors.ts';
import { collateToArrays, createStacker } from '../../src/interface/data/collate.ts';
import { DataError, LoaderTimeoutError, WorkerDiedError } from '../../src/interface/data/errors.ts';
import { DataLoader, type DataLoaderOptions } from '../../src/interface/data/loader.ts';
import { Random } from '../../src/interface/data/random.ts';
import { serveBatches } from '../../src/interface/data/worker-main.ts';
import { type WorkerDataset, workerDataset } from '../../src/interface/data/worker-pool.ts';
import { Tensor } from '../../src/interface/io/tensors.ts';

const fixtures = new URL('./fixtures/worker-datasets.mjs', import.meta.url);

function open<B = unknown>(
  name: string,
  args: unknown,
  options: DataLoaderOptions<never, B>,
): DataLoader<never, B> {
  return new DataLoader<never, B>(workerDataset(fixtures, name, args), options);
}

async function collect<B>(loader: AsyncIterable<B>): Promise<B[]> {
  const batches: B[] = [];
  for await (const batch of loader) batches.push(batch);
  return batches;
}

async function failure(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

describe('the number of workers', () => {
  it('changes nothing: 0, 1, 2 and 3 give the same batches in the same order', async () => {
    const runs: unknown[][] = [];
    for (const workers of [0, 1, 2, 3]) {
      await using loader = open(
        'makeNoisy',
        { length: 26 },
        {
          batchSize: 4,
          shuffle: true,
          seed: 5,
          workers,
          collate: collateToArrays as never,
        },
      );
      runs.push([...(await collect(loader)), ...(await collect(loader))]);
    }
    expect(runs[0]).toHaveLength(14);
    expect(runs[0]?.[0]).toMatchObject({ image: { shape: [4, 2, 3], dtype: 'float32' } });
    for (const run of runs) expect(run).toEqual(runs[0]);
  });

  it('changes nothing for resuming either', async () => {
    const options = { batchSize: 3, shuffle: true, collate: collateToArrays as never };
    await using whole = open('makeNoisy', { length: 20 }, { ...options, workers: 0 });
    const expected = await collect(whole);
    await using first = open('makeNoisy', { length: 20 }, { ...options, workers: 2 });
    let seen = 0;
    for await (const _batch of first) if (++seen === 3) break;
    await using second = open('makeNoisy', { length: 20 }, { ...options, workers: 3 });
    second.loadState(first.state());
    expect(await collect(second)).toEqual(expected.slice(3));
  });
});

describe('batches from workers', () => {
  it('become tensors here, and keep strings', async () => {
    await using loader = open<Record<string, unknown>>(
      'makeNoisy',
      { length: 4 },
      {
        batchSize: 2,
        workers: 1,
      },
    );
    const [batch] = await collect(loader);
    expect(batch?.['image']).toBeInstanceOf(Tensor);
    expect(batch?.['label']).toMatchObject({ dtype: 'int32', shape: [2] });
    expect(batch?.['name']).toEqual(['n0', 'n1']);
  });

  it("use the dataset's own batches, and the user's collate here", async () => {
    const args = { length: 5 };
    await using arrays = open('makeBatched', args, {
      batchSize: 3,
      workers: 2,
      collate: collateToArrays as never,
    });
    const batches = await collect(arrays);
    expect(batches[1]).toMatchObject({ values: { data: Int32Array.of(3, 4) } });
    await using plain = open('makeBatched', args, {
      batchSize: 3,
      workers: 2,
      collate: (samples) => samples,
    });
    expect(await collect(plain)).toEqual([
      [0, 1, 2],
      [3, 4],
    ]);
  });

  it("do not carry off the dataset's memory", async () => {
    await using loader = open(
      'makeViews',
      {},
      {
        batchSize: 5,
        workers: 1,
        collate: (samples) => samples,
      },
    );
    const first = await collect(loader);
    expect(await collect(loader)).toEqual(first);
    expect(first[1]?.[4]).toEqual(Float32Array.of(36, 37, 38, 39));
  });

  it('come from TypeScript as well', async () => {
    const module = new URL('./fixtures/typescript-dataset.ts', import.meta.url);
    await using loader = new DataLoader(workerDataset(module, 'makeTyped', { length: 4 }), {
      batchSize: 4,
      workers: 1,
      collate: collateToArrays,
    });
    expect(await collect(loader)).toMatchObject([{ data: Int32Array.of(0, 2, 4, 6) }]);
  });

  it('have a length once the workers know it', async () => {
    await using loader = open('makeBatched', { length: 10 }, { batchSize: 4, workers: 1 });
    expect(() => loader.length).toThrow('await loader.ready()');
    await loader.ready();
    expect(loader.length).toBe(3);
    const spec: WorkerDataset = { ...workerDataset(fixtures, 'ready'), length: 3 };
    await using known = new DataLoader(spec, { workers: 1 });
    expect(known.length).toBe(3);
    expect(await collect(known)).toHaveLength(3);
    await using wrong = new DataLoader({ ...spec, length: 4 }, { workers: 1 });
    await expect(collect(wrong)).rejects.toThrow('the dataset has 3 samples, not 4');
  });
});

describe('a worker that fails', () => {
  const run = async (how: string, more: object = {}): Promise<[Error, unknown[], number]> => {
    await using loader = open(
      'makeFailing',
      { how },
      {
        batchSize: 4,
        workers: 2,
        collate: collateToArrays as never,
        ...more,
      },
    );
    // The timeout is for batches: starting two workers on a busy machine may take longer.
    await loader.ready();
    const seen: unknown[] = [];
    const start = performance.now();
    const error = await failure(
      (async () => {
        for await (const batch of loader) seen.push(batch);
      })(),
    );
    return [error, seen, performance.now() - start];
  };

  it('by throwing: the error names the sample and carries the cause', async () => {
    const [error, seen] = await run('throw');
    expect(seen).toHaveLength(3);
    expect(error).toBeInstanceOf(DataError);
    expect(error).toMatchObject({ sampleIndex: 13, samples: [12, 13, 14, 15] });
    expect(error.message).toBe('DataLoader: sample 13 failed: this sample is cursed');
    expect(error.cause).toMatchObject({ name: 'RangeError', message: 'this sample is cursed' });
    expect((error.cause as Error).stack).toContain('worker-datasets.mjs');
  });

  it.each([
    ['exit', /worker \d ended with exit code 7 at sample 13/],
    ['crash', /worker \d failed: out of nowhere at sample 13/],
  ])('by %s: the error names the sample it held, and nothing hangs', async (how, reason) => {
    const [error, , duration] = await run(how);
    expect(error).toBeInstanceOf(WorkerDiedError);
    expect(error.message).toMatch(reason);
    expect(error).toMatchObject({ sampleIndex: 13 });
    expect((error as WorkerDiedError).samples).toContain(13);
    expect(duration).toBeLessThan(20_000);
  });

  it('by running out of memory', async () => {
    const create = (): Worker =>
      new Worker(new URL('./fixtures/serving-worker.mjs', import.meta.url), {
        workerData: { how: 'memory' },
        resourceLimits: { maxOldGenerationSizeMb: 32 },
      });
    await using loader = new DataLoader({ worker: create }, { batchSize: 4, workers: 1 });
    const error = await failure(collect(loader));
    expect(error).toBeInstanceOf(WorkerDiedError);
    expect(error.message).toContain('worker 0 ran out of memory at sample 13');
  });

  it.each(['loop', 'wait'])('by a %s without end: the timeout names the sample', async (how) => {
    const [error] = await run(how, { timeout: 600 });
    expect(error).toBeInstanceOf(LoaderTimeoutError);
    expect(error).toMatchObject({ sampleIndex: 13 });
  });

  it('by a loop without end: the signal ends it', async () => {
    const reason = new Error('enough');
    const signal = AbortSignal.any([AbortSignal.timeout(60_000)]);
    const controller = new AbortController();
    signal.addEventListener('abort', () => controller.abort(new Error('too late')));
    setTimeout(() => controller.abort(reason), 400);
    const [error] = await run('loop', { signal: controller.signal });
    expect(error).toBe(reason);
  });

  it('is replaced when the loader is used again', async () => {
    await using loader = open(
      'makeFailing',
      { how: 'exit' },
      {
        workers: 1,
        collate: collateToArrays as never,
      },
    );
    expect(await failure(collect(loader))).toBeInstanceOf(WorkerDiedError);
    expect(await failure(collect(loader))).toBeInstanceOf(WorkerDiedError);
    for await (const batch of loader) {
      expect(batch).toMatchObject({ data: Int32Array.of(0) });
      break;
    }
  });

  it.each([
    ['makeNothing', /gave no dataset: it needs length and get/],
    ['makeUneven', /samples in one worker and \d+ in another/],
    ['makeError', /could not make the dataset: the disk is missing/],
    ['makeTypo', /exports no 'makeTypo', only: .*makeNoisy/],
  ])('to make its dataset: %s', async (name, reason) => {
    await using loader = open(name, {}, { workers: 2 });
    const error = await failure(collect(loader));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toMatch(reason);
  });

  it('to find its module', async () => {
    const missing = new URL('./fixtures/no-such-module.mjs', import.meta.url);
    await using loader = new DataLoader(workerDataset(missing), { workers: 1 });
    await expect(collect(loader)).rejects.toThrow(/could not make the dataset: .*no-such-module/);
    await using empty = new DataLoader({ worker: undefined, module: undefined }, { workers: 1 });
    await expect(collect(empty)).rejects.toThrow(ArgumentError);
  });
});

describe('the process', () => {
  const tsx = fileURLToPath(new URL('../../node_modules/tsx/dist/loader.mjs', import.meta.url));

  it('ends although workers are idle or still reading, under tsx as well', async () => {
    const program = fileURLToPath(new URL('./fixtures/idle-workers.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', tsx, program], {
      timeout: 25_000,
    });
    expect(stdout).toBe('batches: 10\n');
  });
});

describe('what is sent to workers as text', () => {
  it('refers to nothing outside itself', () => {
    const context = createContext({ console });
    // What tsx and esbuild wrap named functions in.
    const text = `const __name = (value) => value; [${[createStacker, Random, serveBatches].map(String).join(',')}]`;
    const [stack, Remote, serve] = runInContext(text, context) as [
      typeof createStacker,
      typeof Random,
      typeof serveBatches,
    ];
    const fail = (reason: string): never => {
      throw new Error(reason);
    };
    expect(stack(fail)([1, 2])).toMatchObject({ shape: [2], dtype: 'int32' });
    const words = (random: Random): number[] => [random.bits(), random.below(10), random.bell()];
    expect(words(new Remote(1, 2, 3))).toEqual(words(new Random(1, 2, 3)));
    expect(serve).toBeTypeOf('function');
  });
});
