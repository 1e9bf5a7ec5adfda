// What loaders, samplers and datasets refuse, and where: at construction wherever it can be known.
import { describe, expect, test } from 'vitest';
import { ArgumentError } from 'tengen';
import {
  BatchSampler,
  ConcatDataset,
  DataLoader,
  type DataLoaderOptions,
  datasets,
  parseIdx,
  RandomSampler,
  randomSplit,
  readIdx,
  SequentialSampler,
  Subset,
  TensorDataset,
  transforms,
} from 'tengen/data';

const numbers = (length: unknown) => ({ length: length as number, get: (i: number) => i });

function expectRefusal(run: () => unknown, message: string): void {
  expect(run).toThrow(ArgumentError);
  expect(run).toThrow(message);
}

describe('loaders', () => {
  test.each([
    [undefined, 'DataLoader: expected a dataset with length and get(index), got undefined'],
    [null, 'got null'],
    ['data', "got 'data'"],
    [{ length: 1e12 }, 'got Object'],
    [numbers(NaN), 'length of the dataset must be an integer of at least 0, got NaN'],
    [numbers(-1), 'got -1'],
    [numbers(undefined), 'got undefined'],
    [{ module: 'x', length: NaN }, 'got NaN'],
  ])('of %s', (source, message) => {
    expectRefusal(() => new DataLoader(source as never), message);
  });

  test.each([
    [{ seed: NaN }, 'DataLoader: seed must be an integer, got NaN'],
    [{ seed: 'a' }, "seed must be an integer, got 'a'"],
    [{ timeout: Infinity }, 'timeout must be a number of at least 0, got Infinity'],
    [{ sampler: [0, 1] }, 'sampler needs length and order(epoch), got Array'],
    [{ batchSampler: {} }, 'batchSampler needs length and order(epoch)'],
    [{ collate: 'stack' }, "collate must be a function, got 'stack'"],
    [{ batch_size: 3 }, "there is no option 'batch_size'. hint: did you mean batchSize?"],
    [{ num_workers: 3 }, 'did you mean workers?'],
    [7, 'expected a record of options, got 7'],
  ])('with %o', (options, message) => {
    expectRefusal(() => new DataLoader([1, 2], options as never), message);
  });

  test('more samples than an order can hold', () => {
    expectRefusal(
      () => new DataLoader(numbers(1e12), { shuffle: true }),
      'length of the dataset must be an integer in [0, 2147483647], got 1000000000000',
    );
  });

  test.each<DataLoaderOptions<number, unknown>>([
    { sampler: { length: 1, order: () => [9] } },
    { batchSampler: { length: 1, order: () => [[0, 9]] } },
  ])('a sample that is not there', async (options) => {
    const first = new DataLoader([1, 2], options)[Symbol.asyncIterator]().next();
    await expect(first).rejects.toThrow(ArgumentError);
    await expect(first).rejects.toThrow(
      'DataLoader: index 9 is out of range. hint: valid indices are 0 to 1',
    );
  });
});

describe('samplers and datasets', () => {
  test.each<[string, () => unknown, string]>([
    ['a length', () => new RandomSampler(NaN), 'RandomSampler: length of the dataset'],
    ['another', () => new SequentialSampler(undefined as never), 'got undefined'],
    ['a seed', () => new RandomSampler(2, { seed: NaN }), 'seed must be an integer, got NaN'],
    ['batches', () => new BatchSampler(undefined as never, 2), 'expected a sampler'],
    ['columns', () => new TensorDataset([1, 2] as never), 'expected a tensor or { data, shape }'],
    ['parts', () => new ConcatDataset(numbers(2) as never), 'hint: new ConcatDataset([a, b])'],
    ['indices', () => new Subset([1] as never, undefined as never), 'expected a list of indices'],
    ['a split', () => randomSplit(numbers(4), [2, 2], { seed: NaN }), 'seed must be'],
    ['a mean', () => transforms.normalize(NaN, 1), 'normalize: mean must be a number, got NaN'],
    ['no deviation', () => transforms.normalize(0, undefined as never), 'std must be a number'],
    ['a list of transforms', () => transforms.compose([] as never), 'compose(first, second)'],
    ['a border', () => transforms.pad(undefined as never), 'pad: padding must be an integer'],
    ['a size', () => transforms.centerCrop(undefined as never), 'centerCrop: size must be'],
    ['digits', () => datasets.strokes({ sizes: 10 } as never), 'did you mean size?'],
    [
      'bytes',
      () => parseIdx('file' as never),
      "parseIdx: expected the bytes of the file, got 'file'",
    ],
  ])('%s', (_, run, message) => {
    expectRefusal(run, message);
  });

  test('files', async () => {
    await expect(readIdx('file' as never)).rejects.toThrow('in Node: await readFile(path)');
    await expect(datasets.mnist(undefined as never)).rejects.toThrow(
      'expected a record of options',
    );
    await expect(datasets.mnist({} as never)).rejects.toThrow(
      'root must be a folder, got undefined',
    );
    await expect(datasets.mnist({ root: '/none', splits: 'test' } as never)).rejects.toThrow(
      'did you mean split?',
    );
  });
});
