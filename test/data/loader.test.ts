// DataLoader in one thread: order, batches, resuming, errors, abort, timeout, prefetching, whole batches.
// Installs the evaluator, without which tensors cannot be read.
import '../../src/index.ts';
import { describe, expect, it } from 'vitest';
import { ArgumentError, ShapeError } from '../../src/base/errors.ts';
import { collateToArrays } from '../../src/interface/data/collate.ts';
import {
  type DatasetLike,
  IterableDataset,
  TensorDataset,
  mapDataset,
} from '../../src/interface/data/dataset.ts';
import { DataError, LoaderTimeoutError } from '../../src/interface/data/errors.ts';
import { ImageDataset } from '../../src/interface/data/image-dataset.ts';
import { DataLoader, type LoaderState } from '../../src/interface/data/loader.ts';
import { RandomSampler, SequentialSampler } from '../../src/interface/data/samplers.ts';
import { compose, normalize, randomCrop, toFloat } from '../../src/interface/data/transforms.ts';
import { Tensor } from '../../src/interface/io/tensors.ts';

const numbers = (length: number): DatasetLike<number> => ({ length, get: (index) => index });
const identity = (samples: number[]): number[] => samples;

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

describe('order', () => {
  it('is sequential by default, with a short last batch or none', async () => {
    const loader = new DataLoader(numbers(7), { batchSize: 3, collate: identity });
    expect(loader.length).toBe(3);
    expect(await collect(loader)).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    const even = new DataLoader(numbers(7), { batchSize: 3, dropLast: true, collate: identity });
    expect(even.length).toBe(2);
    expect(await collect(even)).toEqual([
      [0, 1, 2],
      [3, 4, 5],
    ]);
    expect(await collect(new DataLoader(numbers(0), { collate: identity }))).toEqual([]);
  });

  it('is shuffled anew in each epoch, by seed and epoch alone', async () => {
    const options = { batchSize: 8, shuffle: true, seed: 3, collate: identity };
    const loader = new DataLoader(numbers(40), options);
    const first = (await collect(loader)).flat();
    const second = (await collect(loader)).flat();
    expect(first).not.toEqual(second);
    for (const epoch of [first, second]) {
      expect([...epoch].sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, i) => i));
    }
    const again = new DataLoader(numbers(40), options);
    expect((await collect(again)).flat()).toEqual(first);
    expect((await collect(again)).flat()).toEqual(second);
    const other = new DataLoader(numbers(40), { ...options, seed: 4 });
    expect((await collect(other)).flat()).not.toEqual(first);
  });

  it('comes from a sampler or a batch sampler of the user', async () => {
    const sampler = new RandomSampler(5, { numSamples: 3, seed: 1 });
    const loader = new DataLoader(numbers(5), { sampler, batchSize: 2, collate: identity });
    expect((await collect(loader)).flat()).toEqual([...sampler.order(0)]);
    const batchSampler = { length: 2, order: (epoch: number) => [[0], [epoch, 1, 2]] };
    const custom = new DataLoader(numbers(5), { batchSampler, collate: identity });
    expect(await collect(custom)).toEqual([[0], [0, 1, 2]]);
    expect(await collect(custom)).toEqual([[0], [1, 1, 2]]);
    expect(custom.length).toBe(2);
  });

  it('takes an array as a dataset', async () => {
    const loader = new DataLoader(['a', 'b', 'c'], { batchSize: 2 });
    expect(await collect(loader)).toEqual([['a', 'b'], ['c']]);
  });
});

describe('batches', () => {
  it('are tensors by default, of tuples and records alike', async () => {
    const images = Uint8Array.from({ length: 12 }, (_, i) => i);
    const set = new TensorDataset(
      { data: images, shape: [3, 2, 2] },
      { data: Int32Array.of(7, 8, 9), shape: [3] },
    );
    for await (const [batch, labels] of new DataLoader(set, { batchSize: 2 })) {
      expect(batch).toBeInstanceOf(Tensor);
      expect(batch.dtype).toBe('uint8');
      expect(batch.shape).toEqual([2, 2, 2]);
      expect(await labels.data()).toEqual(Int32Array.of(7, 8));
      break;
    }
    const records = mapDataset(numbers(3), (n) => ({ x: n / 2, y: [n, `s${n}`] as const }));
    const [all] = await collect(new DataLoader(records, { batchSize: 3 }));
    expect(all?.x.dtype).toBe('float32');
    expect(await all?.x.data()).toEqual(Float32Array.of(0, 0.5, 1));
    expect(all?.y[0].dtype).toBe('int32');
    expect(all?.y[1]).toEqual(['s0', 's1', 's2']);
  });

  it('are host arrays with collateToArrays, whole batches where the dataset gives them', async () => {
    const set = new TensorDataset({ data: Float32Array.of(1, 2, 3), shape: [3, 1] });
    const loader = new DataLoader(set, { batchSize: 2, collate: collateToArrays });
    expect(await collect(loader)).toEqual([
      [{ data: Float32Array.of(1, 2), shape: [2, 1], dtype: 'float32' }],
      [{ data: Float32Array.of(3), shape: [1, 1], dtype: 'float32' }],
    ]);
  });

  it('say what does not fit together', async () => {
    const ragged = mapDataset(numbers(4), (n) => new Float32Array(n < 2 ? 3 : 4));
    const error = await failure(collect(new DataLoader(ragged, { batchSize: 4 })));
    expect(error).toBeInstanceOf(ShapeError);
    expect(error.message).toContain('sample 2 has shape [4], that of sample 0 [3]');
  });

  it('have augmentation fixed by seed, epoch and index', async () => {
    const images = Uint8Array.from({ length: 40 * 16 }, (_, i) => i & 255);
    const transform = compose(toFloat(), randomCrop(4, { padding: 2 }));
    const labels = new Uint8Array(40);
    const init = { images, imageShape: [1, 4, 4], labels, classes: ['a'], transform } as const;
    const set = new ImageDataset(init);
    const run = (more: object): Promise<unknown> =>
      collect(
        new DataLoader(set, { batchSize: 8, shuffle: true, collate: collateToArrays, ...more }),
      );
    const fast = await run({ seed: 1 });
    expect(await run({ seed: 1, prefetch: 7 })).toEqual(fast);
    expect(await run({ seed: 2 })).not.toEqual(fast);
    // One by one, the same: the batch method is only faster.
    const single: DatasetLike<ReturnType<typeof set.get>> = {
      length: set.length,
      get: (index, context) => set.get(index, context),
    };
    const slow = await collect(
      new DataLoader(single, { batchSize: 8, shuffle: true, seed: 1, collate: collateToArrays }),
    );
    expect(slow).toEqual(fast);
  });
});

describe('resuming', () => {
  const options = { batchSize: 4, shuffle: true, seed: 9, collate: identity };

  it('gives exactly the batches that remained, in the middle of any epoch', async () => {
    const whole = new DataLoader(numbers(22), options);
    const epochs = [await collect(whole), await collect(whole), await collect(whole)];
    for (let epoch = 0; epoch < 2; epoch++) {
      for (let stop = 1; stop <= 6; stop++) {
        const interrupted = new DataLoader(numbers(22), options);
        for (let done = 0; done < epoch; done++) await collect(interrupted);
        let state: LoaderState | undefined;
        let seen = 0;
        for await (const _batch of interrupted) {
          if (++seen < stop) continue;
          state = interrupted.state();
          break;
        }
        // It goes through a checkpoint, so through JSON.
        state = JSON.parse(JSON.stringify(state)) as LoaderState;
        expect(state).toMatchObject({ epoch, batch: stop });
        const resumed = new DataLoader(numbers(22), options);
        resumed.loadState(state);
        expect(resumed.epoch).toBe(epoch);
        expect(await collect(resumed)).toEqual(epochs[epoch]?.slice(stop));
        expect(await collect(resumed)).toEqual(epochs[epoch + 1]);
      }
    }
  });

  it('between epochs continues with the next', async () => {
    const whole = new DataLoader(numbers(22), options);
    await collect(whole);
    const state = whole.state();
    expect(state).toMatchObject({ epoch: 1, batch: 0 });
    const second = await collect(whole);
    const resumed = new DataLoader(numbers(22), options);
    resumed.loadState(state);
    expect(await collect(resumed)).toEqual(second);
  });

  it('leaving early ends the epoch', async () => {
    const loader = new DataLoader(numbers(22), options);
    for await (const _batch of loader) break;
    expect(loader.state()).toMatchObject({ epoch: 0, batch: 1 });
    const next = await collect(loader);
    const whole = new DataLoader(numbers(22), options);
    await collect(whole);
    expect(next).toEqual(await collect(whole));
  });

  it('refuses the state of another loader', () => {
    const loader = new DataLoader(numbers(22), options);
    const state = loader.state();
    for (const [change, reason] of [
      [{ seed: 1 }, /seed is 9 here and 1 in the state/],
      [{ batchSize: 8 }, /batchSize is 4 here and 8/],
      [{ batches: 7 }, /batches is 6 here and 7/],
      [{ batch: 7 }, /batch 7 of 6/],
      [{ epoch: -1 }, /epoch must be an integer/],
    ] as const) {
      expect(() => loader.loadState({ ...state, ...change })).toThrow(reason);
    }
  });

  it('skips in a stream', async () => {
    const stream = IterableDataset.from(function* ({ epoch }) {
      for (let n = 0; n < 7; n++) yield n + 100 * epoch;
    });
    const make = (): DataLoader<number, number[]> =>
      new DataLoader(stream, { batchSize: 2, collate: identity });
    const loader = make();
    expect(await collect(loader)).toEqual([[0, 1], [2, 3], [4, 5], [6]]);
    expect(await collect(loader)).toEqual([[100, 101], [102, 103], [104, 105], [106]]);
    const resumed = make();
    resumed.loadState({ ...resumed.state(), epoch: 1, batch: 2 });
    expect(await collect(resumed)).toEqual([[104, 105], [106]]);
    expect(() => loader.length).toThrow('a stream has no length');
  });
});

describe('failures', () => {
  it('name the sample and carry the cause, after the batches before it', async () => {
    const cursed: DatasetLike<number> = {
      length: 10,
      get: (index) => {
        if (index === 5) throw new RangeError('bad pixel');
        return index;
      },
    };
    const seen: number[][] = [];
    const error = await failure(
      (async () => {
        for await (const batch of new DataLoader(cursed, { batchSize: 2, collate: identity })) {
          seen.push(batch);
        }
      })(),
    );
    expect(seen).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(error).toBeInstanceOf(DataError);
    expect(error).toMatchObject({ sampleIndex: 5, samples: [4, 5] });
    expect(error.message).toBe('DataLoader: sample 5 failed: bad pixel');
    expect(error.cause).toBeInstanceOf(RangeError);
  });

  it('of a stream come after its good batches', async () => {
    const stream = IterableDataset.from(async function* () {
      yield 1;
      yield 2;
      throw new Error('the line went dead');
    });
    const iterator = new DataLoader(stream, { collate: identity })[Symbol.asyncIterator]();
    expect(await iterator.next()).toEqual({ done: false, value: [1] });
    expect(await iterator.next()).toEqual({ done: false, value: [2] });
    const error = await failure(iterator.next());
    expect(error).toMatchObject({ sampleIndex: 2 });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it.each<[string, object, RegExp]>([
    ['a batch size of 0', { batchSize: 0 }, /batchSize must be an integer of at least 1, got 0/],
    ['half a worker', { workers: 0.5 }, /workers must be/],
    ['no prefetch', { prefetch: 0 }, /prefetch must be/],
    ['a negative timeout', { timeout: -1 }, /timeout must be a number of at least 0, got -1/],
    ['two orders', { shuffle: true, sampler: new SequentialSampler(2) }, /both say an order/],
    [
      'a batch sampler with more',
      { batchSampler: { length: 0, order: () => [] }, batchSize: 2 },
      /leave out/,
    ],
    ['code for workers', { workers: 1 }, /code cannot be sent to workers.*workerDataset/],
  ])('of options: %s', (_name, options, reason) => {
    expect(() => new DataLoader(numbers(4), options)).toThrow(ArgumentError);
    expect(() => new DataLoader(numbers(4), options)).toThrow(reason);
  });

  it('of datasets that are none, and of streams with an order', () => {
    expect(() => new DataLoader({ length: 3 } as never)).toThrow('length and get(index)');
    const stream = IterableDataset.from(() => [1]);
    expect(() => new DataLoader(stream, { shuffle: true })).toThrow(
      'a stream comes in its own order',
    );
    expect(() => new DataLoader(stream, { workers: 1 })).toThrow('use workers: 0');
  });
});

describe('abort and timeout', () => {
  const stuck: DatasetLike<number> = {
    length: 6,
    get: (index) => (index < 3 ? index : new Promise<number>(() => undefined)),
  };

  it('the signal ends a wait at once, with its reason', async () => {
    const controller = new AbortController();
    const loader = new DataLoader(stuck, {
      batchSize: 3,
      collate: identity,
      signal: controller.signal,
    });
    const reason = new Error('Ctrl-C');
    const seen: number[][] = [];
    const error = await failure(
      (async () => {
        for await (const batch of loader) {
          seen.push(batch);
          setTimeout(() => controller.abort(reason), 10);
        }
      })(),
    );
    expect(error).toBe(reason);
    expect(seen).toEqual([[0, 1, 2]]);
    expect(loader.state()).toMatchObject({ epoch: 0, batch: 1 });
    await expect(collect(loader)).rejects.toBe(reason);
  });

  it('the timeout names the sample that does not come', async () => {
    const loader = new DataLoader(stuck, { batchSize: 2, collate: identity, timeout: 30 });
    const error = await failure(collect(loader));
    expect(error).toBeInstanceOf(LoaderTimeoutError);
    expect(error).toMatchObject({ sampleIndex: 3, samples: [2, 3] });
    expect(error.message).toContain('no batch after 30 ms: waiting for sample 3, of samples 2, 3');
  });

  it('leaving a stream that waits for ever does not hang', async () => {
    const stream = IterableDataset.from(async function* () {
      yield 1;
      await new Promise<void>(() => undefined);
    });
    for await (const batch of new DataLoader(stream, { collate: identity })) {
      expect(batch).toEqual([1]);
      break;
    }
  });
});

describe('prefetching', () => {
  it('reads so many batches ahead and no more, and stops when left', async () => {
    let read = 0;
    const counted: DatasetLike<number> = {
      length: 100,
      get: async (index) => {
        read++;
        return index;
      },
    };
    const settle = (): Promise<void> =>
      new Promise((resolve) => {
        setTimeout(resolve, 20);
      });
    for await (const _batch of new DataLoader(counted, {
      batchSize: 5,
      prefetch: 3,
      collate: identity,
    })) {
      await settle();
      expect(read).toBe(5 * (1 + 3));
      break;
    }
    await settle();
    expect(read).toBe(5 * (1 + 3));
  });

  it('overlaps slow reads', async () => {
    let now = 0;
    let most = 0;
    const slow: DatasetLike<number> = {
      length: 40,
      get: async (index) => {
        most = Math.max(most, ++now);
        await new Promise((resolve) => {
          setTimeout(resolve, 5);
        });
        now--;
        return index;
      },
    };
    await collect(new DataLoader(slow, { batchSize: 4, prefetch: 4, collate: identity }));
    expect(most).toBe(4 * (1 + 4));
  });

  it('answers calls in order when they come all at once', async () => {
    const iterator = new DataLoader(numbers(6), { batchSize: 2, collate: identity })[
      Symbol.asyncIterator
    ]();
    const results = await Promise.all([1, 2, 3, 4, 5].map(() => iterator.next()));
    expect(results.map(({ value }) => value)).toEqual([
      [0, 1],
      [2, 3],
      [4, 5],
      undefined,
      undefined,
    ]);
  });

  it('two passes at once do not disturb each other', async () => {
    const loader = new DataLoader(numbers(30), { batchSize: 4, shuffle: true, collate: identity });
    const [first, second] = await Promise.all([collect(loader), collect(loader)]);
    const alone = new DataLoader(numbers(30), { batchSize: 4, shuffle: true, collate: identity });
    expect(first).toEqual(await collect(alone));
    expect(second).toEqual(await collect(alone));
  });
});

describe('whole batches', () => {
  it('images in memory are read by the batch, none alone', async () => {
    let alone = 0;
    class Watched extends ImageDataset {
      override get(...args: Parameters<ImageDataset['get']>): ReturnType<ImageDataset['get']> {
        alone++;
        return super.get(...args);
      }
    }
    const set = new Watched({
      images: Uint8Array.from({ length: 50 * 16 }, (_, i) => i & 255),
      imageShape: [1, 4, 4],
      labels: new Uint8Array(50),
      classes: ['a'],
      transform: compose(toFloat(), normalize(0.1307, 0.3081)),
    });
    const loader = new DataLoader(set, { batchSize: 8, shuffle: true, collate: collateToArrays });
    expect(await collect(loader)).toHaveLength(7);
    expect(alone).toBe(0);
    set.get(3);
    expect(alone).toBe(1);
  });
});
