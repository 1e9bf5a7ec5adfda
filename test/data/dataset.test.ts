// Datasets, samplers and collation on their own.
import * as fc from 'fast-check';
// Installs the evaluator, without which tensors cannot be read.
import '../../src/index.ts';
import { describe, expect, it } from 'vitest';
import { ArgumentError, DTypeError, ShapeError } from '../../src/base/errors.ts';
import { collateToArrays, defaultCollate } from '../../src/interface/data/collate.ts';
import {
  ConcatDataset,
  Dataset,
  IterableDataset,
  Subset,
  TensorDataset,
  mapDataset,
  randomSplit,
} from '../../src/interface/data/dataset.ts';
import { ImageDataset } from '../../src/interface/data/image-dataset.ts';
import { Random, permutation, sinCos } from '../../src/interface/data/random.ts';
import {
  BatchSampler,
  RandomSampler,
  SequentialSampler,
  WeightedRandomSampler,
} from '../../src/interface/data/samplers.ts';
import { Tensor, fromHostArray } from '../../src/interface/io/tensors.ts';

class Squares extends Dataset<number> {
  readonly length: number;
  constructor(length: number) {
    super();
    this.length = length;
  }
  get(index: number): number {
    return index * index;
  }
}

describe('datasets', () => {
  it('map, subset and concatenate', async () => {
    const squares = new Squares(5);
    const halves = squares.map((value, { index }) => [value / 2, index] as const);
    expect(halves.length).toBe(5);
    expect(await halves.get(3)).toEqual([4.5, 3]);
    const later = mapDataset(
      mapDataset(squares, async (value) => value + 1),
      (value) => -value,
    );
    expect(await later.get(2)).toBe(-5);
    const some = squares.subset([4, 0, 4]);
    expect([some.length, some.get(0), some.get(1), some.get(2)]).toEqual([3, 16, 0, 16]);
    const empty = new Squares(0);
    const both = new ConcatDataset([empty, squares, empty, new Squares(2), some]);
    const values = Array.from({ length: both.length }, (_, index) => both.get(index));
    expect(values).toEqual([0, 1, 4, 9, 16, 0, 1, 16, 0, 16]);
  });

  it('check indices', () => {
    const set = new TensorDataset({ data: new Float32Array(3), shape: [3] });
    for (const index of [-1, 3, 0.5, NaN]) {
      expect(() => set.get(index)).toThrow(ArgumentError);
      expect(() => set.getBatch([index])).toThrow(`index ${index} is out of range`);
      expect(() => new ConcatDataset([set]).get(index)).toThrow(ArgumentError);
      expect(() => new Subset(set, [0]).get(index)).toThrow(ArgumentError);
      expect(() => new Subset(set, [index])).toThrow(ArgumentError);
    }
    expect(() => new Subset(set, []).get(0)).toThrow('it is empty');
  });

  it('of arrays give rows, and the same rows in batches, also through a subset', () => {
    const bytes = Uint8Array.from({ length: 12 }, (_, i) => i);
    const set = new TensorDataset(
      { data: bytes, shape: [3, 2, 2] },
      { data: Float64Array.of(0.5, 1.5, 2.5), shape: [3] },
      { data: Uint16Array.of(1, 2, 3), shape: [3, 1], dtype: 'bfloat16' },
    );
    expect(set.get(1)).toEqual([
      { data: Uint8Array.of(4, 5, 6, 7), shape: [2, 2], dtype: 'uint8' },
      { data: Float64Array.of(1.5), shape: [], dtype: 'float64' },
      { data: Uint16Array.of(2), shape: [1], dtype: 'bfloat16' },
    ]);
    const batch = set.getBatch([2, 0]);
    expect(batch[0]).toEqual({
      data: Uint8Array.of(8, 9, 10, 11, 0, 1, 2, 3),
      shape: [2, 2, 2],
      dtype: 'uint8',
    });
    expect(batch[1]?.data).toEqual(Float64Array.of(2.5, 0.5));
    expect(set.subset([1, 2, 0]).getBatch?.([1, 2])).toEqual(batch);
  });

  it('of tensors read them', () => {
    const column = fromHostArray({ data: Float32Array.of(1, 2, 3, 4), shape: [2, 2] });
    expect(new TensorDataset(column).get(1)[0].data).toEqual(Float32Array.of(3, 4));
  });

  it('of arrays refuse what does not fit', () => {
    const three = { data: new Float32Array(3), shape: [3] };
    const two = { data: new Float32Array(2), shape: [2] };
    expect(() => new TensorDataset(three, two)).toThrow('first axes differ, [3] and [2]');
    expect(() => new TensorDataset()).toThrow(ArgumentError);
    expect(() => new TensorDataset({ data: new Float32Array(1), shape: [] })).toThrow(ShapeError);
    expect(() => new TensorDataset({ data: new Float32Array(3), shape: [2] })).toThrow(ShapeError);
    expect(() => new TensorDataset({ data: new Uint16Array(2), shape: [2] })).toThrow(DTypeError);
    const image = { images: new Uint8Array(4), imageShape: [1, 2, 2] as const, classes: ['a'] };
    expect(() => new ImageDataset({ ...image, labels: [0, 0] })).toThrow(ShapeError);
    expect(() => new ImageDataset({ ...image, labels: [1] })).toThrow('label 1 of image 0');
  });

  it('split at random, disjoint and complete', () => {
    const parts = randomSplit(new Squares(10), [0.5, 0.25, 0.25], { seed: 2 });
    expect(parts.map(({ length }) => length)).toEqual([6, 2, 2]);
    const values = parts.flatMap((part) =>
      Array.from({ length: part.length }, (_, i) => part.get(i)),
    );
    expect([...values].sort((a, b) => Number(a) - Number(b))).toEqual([
      0, 1, 4, 9, 16, 25, 36, 49, 64, 81,
    ]);
    expect(values).not.toEqual([0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
    const [same] = randomSplit(new Squares(10), [5, 5], { seed: 2 });
    expect(Array.from({ length: 5 }, (_, i) => same?.get(i))).toEqual(values.slice(0, 5));
    expect(() => randomSplit(new Squares(10), [5, 4])).toThrow('add up to 9, the dataset has 10');
    expect(() => randomSplit(new Squares(10), [-1, 11])).toThrow('must not be negative');
  });

  it('that are streams can be iterated by themselves', async () => {
    const seen: number[] = [];
    for await (const value of IterableDataset.from(() => [1, 2, 3])) seen.push(value);
    expect(seen).toEqual([1, 2, 3]);
  });
});

describe('samplers', () => {
  it('give each sample once, in order or not', () => {
    expect([...new SequentialSampler(4)]).toEqual([0, 1, 2, 3]);
    const random = new RandomSampler({ length: 50 }, { seed: 1 });
    const order = [...random.order(0)];
    expect([...order].sort((a, b) => a - b)).toEqual([...new SequentialSampler(50).order()]);
    expect([...random.order(0)]).toEqual(order);
    expect([...random.order(1)]).not.toEqual(order);
    expect([...new RandomSampler(50, { seed: 1, numSamples: 7 }).order(0)]).toEqual(
      order.slice(0, 7),
    );
  });

  it('shuffle evenly', () => {
    const counts = new Float64Array(16);
    for (let seed = 0; seed < 8000; seed++) {
      permutation(4, new Random(seed)).forEach((value, place) => {
        counts[4 * place + value] = (counts[4 * place + value] as number) + 1;
      });
    }
    // 2000 expected, deviation 39.
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });

  it('draw with replacement', () => {
    const sampler = new RandomSampler(10, { replacement: true, numSamples: 10_000, seed: 3 });
    const counts = new Float64Array(10);
    for (const index of sampler) counts[index] = (counts[index] as number) + 1;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it('draw by weight', () => {
    const weights = [0, 1, 0, 3, 6, 0];
    const counts = new Float64Array(6);
    for (const index of new WeightedRandomSampler(weights, 20_000, { seed: 1 })) {
      counts[index] = (counts[index] as number) + 1;
    }
    weights.forEach((weight, index) => {
      expect(Math.abs((counts[index] as number) - 2000 * weight)).toBeLessThan(300);
    });
    const firsts = new Float64Array(6);
    for (let seed = 0; seed < 4000; seed++) {
      const order = [
        ...new WeightedRandomSampler(weights, 3, { seed, replacement: false }).order(0),
      ];
      expect([...order].sort((a, b) => a - b)).toEqual([1, 3, 4]);
      const first = order[0] as number;
      firsts[first] = (firsts[first] as number) + 1;
    }
    expect(Math.abs((firsts[4] as number) - 2400)).toBeLessThan(150);
  });

  it('group into batches', () => {
    const sampler = new SequentialSampler(5);
    expect([...new BatchSampler(sampler, 2)]).toEqual([[0, 1], [2, 3], [4]]);
    expect([...new BatchSampler(sampler, 2, true)]).toEqual([
      [0, 1],
      [2, 3],
    ]);
    expect(new BatchSampler(sampler, 2).length).toBe(3);
    expect(new BatchSampler(sampler, 2, true).length).toBe(2);
  });

  it('continue where their state says', () => {
    const make = (): BatchSampler => new BatchSampler(new RandomSampler(11, { seed: 5 }), 2);
    const whole = make();
    const epochs = [[...whole], [...whole]];
    expect(epochs[0]).not.toEqual(epochs[1]);
    const first = make();
    for (const _batch of first) if (first.state().position === 2) break;
    expect(first.state()).toEqual({ epoch: 0, position: 2 });
    const second = make();
    second.loadState(first.state());
    expect([...second]).toEqual(epochs[0]?.slice(2));
    expect([...second]).toEqual(epochs[1]);
    expect(() => second.loadState({ epoch: 0, position: 7 })).toThrow('position 7 of 6');
    expect(() => second.loadState({ epoch: 0, position: -1 })).toThrow(ArgumentError);
  });

  it('refuse what cannot be', () => {
    expect(() => new RandomSampler(3, { numSamples: 4 })).toThrow('replacement: true');
    expect(() => new RandomSampler(0, { numSamples: 1, replacement: true })).toThrow(ArgumentError);
    expect(() => new WeightedRandomSampler([1, -1], 1)).toThrow('not negative');
    expect(() => new WeightedRandomSampler([0, 0], 1)).toThrow('1 samples of 0 with a positive');
    expect(() => new WeightedRandomSampler([1, 0], 2, { replacement: false })).toThrow(
      '2 samples of 1',
    );
    expect(() => new BatchSampler(new SequentialSampler(3), 0)).toThrow(ArgumentError);
  });
});

describe('collation', () => {
  it('stacks numbers, booleans, arrays, tuples and records', async () => {
    expect(await collateToArrays([1, 2])).toEqual({
      data: Int32Array.of(1, 2),
      shape: [2],
      dtype: 'int32',
    });
    expect(await collateToArrays([1, 2.5])).toMatchObject({ data: Float32Array.of(1, 2.5) });
    expect(await collateToArrays([2 ** 31, 0])).toMatchObject({ dtype: 'float32' });
    expect(await collateToArrays([true, false])).toEqual({
      data: Uint8Array.of(1, 0),
      shape: [2],
      dtype: 'bool',
    });
    expect(await collateToArrays([Int8Array.of(1, 2)])).toEqual({
      data: Int8Array.of(1, 2),
      shape: [1, 2],
      dtype: 'int8',
    });
    const half = { data: Uint16Array.of(1), shape: [], dtype: 'float16' as const };
    expect(await collateToArrays([half, half])).toMatchObject({ shape: [2], dtype: 'float16' });
    const nested = [
      { a: [1, 'x'] as const, b: { c: Float32Array.of(1) } },
      { a: [2, 'y'] as const, b: { c: Float32Array.of(2) } },
    ];
    expect(await collateToArrays(nested)).toEqual({
      a: [{ data: Int32Array.of(1, 2), shape: [2], dtype: 'int32' }, ['x', 'y']],
      b: { c: { data: Float32Array.of(1, 2), shape: [2, 1], dtype: 'float32' } },
    });
  });

  it('stacks tensors, and makes tensors', async () => {
    const rows = [1, 2].map((value) => ({
      t: fromHostArray({ data: Float32Array.of(value, -value), shape: [2] }),
    }));
    const { t } = await defaultCollate(rows);
    expect(t).toBeInstanceOf(Tensor);
    expect(t.shape).toEqual([2, 2]);
    expect(await t.data()).toEqual(Float32Array.of(1, -1, 2, -2));
  });

  it.each<[string, unknown[], RegExp]>([
    ['nothing', [], /at least one sample/],
    ['mixed kinds', [1, 'a'], /the value of sample 1 is a string, that of sample 0 a number/],
    ['null', [null], /is null, which cannot be stacked.*collate/],
    ['a function', [() => 1], /is function, which cannot/],
    [
      'other ranks',
      [
        { data: new Uint8Array(1), shape: [] },
        { data: new Uint8Array(1), shape: [1] },
      ],
      /sample 1 has shape \[1\], that of sample 0 \[\]/,
    ],
    ['other types', [new Uint8Array(1), new Int8Array(1)], /sample 1 has another element type/],
    ['a wrong shape', [{ data: new Uint8Array(3), shape: [2] }], /3 elements, shape \[2\]/],
    ['halves of no kind', [new Uint16Array(1)], /Uint16Array, which needs/],
    ['a missing member', [{ a: 1, b: 2 }, { a: 1 }], /the value of sample 1 has no 'b'/],
    ['an extra member', [{ a: 1 }, { a: 1, b: 2 }], /sample 1 has more members/],
    ['a shorter tuple, inside', [{ a: [1, 2] }, { a: [1] }], /the value\.a of sample 1 has no '1'/],
    [
      'a place inside',
      [{ a: [1, 2] }, { a: [1, 'x'] }],
      /the value\.a\[1\] of sample 1 is a string/,
    ],
  ])('refuses %s', async (_name, samples, reason) => {
    const error = await collateToArrays(samples).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ShapeError);
    expect((error as Error).message).toMatch(reason);
    expect((error as Error).message).toMatch(/^collate: /);
  });
});

describe('random numbers', () => {
  it('depend on every key and on nothing else', () => {
    const stream = (...keys: number[]): number[] => {
      const random = new Random(...keys);
      return [random.bits(), random.bits(), random.bits()];
    };
    expect(stream(1, 2, 3)).toEqual(stream(1, 2, 3));
    const different = [
      [1],
      [1, 0],
      [1, 2],
      [2, 1],
      [1 + 2 ** 32],
      [1 + 2 ** 40],
      [-1],
      [0.5],
      [],
    ].map((keys) => stream(...keys).join());
    // 0.5 counts as 0, which is not in the list.
    expect(new Set(different).size).toBe(different.length);
  });

  it('are uniform, and bell-shaped', () => {
    const random = new Random(1);
    const counts = new Float64Array(16);
    let sum = 0;
    let squares = 0;
    for (let draw = 0; draw < 64_000; draw++) {
      const cell = random.below(16);
      counts[cell] = (counts[cell] as number) + 1;
      const value = random.bell();
      sum += value;
      squares += value * value;
    }
    for (const count of counts) expect(Math.abs(count - 4000)).toBeLessThan(300);
    expect(Math.abs(sum / 64_000)).toBeLessThan(0.02);
    expect(Math.abs(squares / 64_000 - 1)).toBeLessThan(0.03);
  });

  it('sine and cosine agree with those of the platform', () => {
    fc.assert(
      fc.property(fc.double({ min: -100, max: 100, noNaN: true }), (angle) => {
        const { sin, cos } = sinCos(angle);
        expect(Math.abs(sin - Math.sin(angle))).toBeLessThan(1e-9);
        expect(Math.abs(cos - Math.cos(angle))).toBeLessThan(1e-9);
      }),
      { seed: 1 },
    );
  });
});
