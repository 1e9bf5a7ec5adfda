// datasets.strokes(): the same digits everywhere, balanced, drawn inside the frame, quickly.
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ArgumentError } from '../../src/base/errors.ts';
import { strokes } from '../../src/interface/data/strokes.ts';

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('datasets.strokes', () => {
  it('draws the same bytes for the same seed, on every machine', () => {
    const set = strokes({ size: 200, seed: 1 });
    expect(digest(set.images)).toBe(
      'eaef4dd26dbfc1bc2deb32a8cfddb1d3438ed96ac33f8745193c3aa1525f9a1e',
    );
    // A larger set begins with the smaller one.
    expect(strokes({ size: 300, seed: 1 }).images.subarray(0, set.images.length)).toEqual(
      set.images,
    );
    expect(digest(strokes({ size: 200, seed: 2 }).images)).not.toBe(digest(set.images));
  });

  it('has every class equally often', () => {
    const { labels } = strokes({ size: 1000 });
    const counts = Array.from(
      { length: 10 },
      (_, digit) => labels.filter((l) => l === digit).length,
    );
    expect(counts).toEqual(Array(10).fill(100));
    expect([...strokes({ size: 5 }).labels]).toHaveLength(5);
  });

  it('shares no image between splits', () => {
    const hashes = (split: 'train' | 'test'): string[] => {
      const { images, length } = strokes({ size: 1000, seed: 4, split });
      return Array.from({ length }, (_, i) => digest(images.subarray(784 * i, 784 * i + 784)));
    };
    const train = hashes('train');
    expect(new Set(train).size).toBe(1000);
    const test = new Set(hashes('test'));
    expect(train.filter((hash) => test.has(hash))).toEqual([]);
  });

  it('draws enough ink, hardly ever at the border, in any size', () => {
    for (const imageSize of [28, 16, 64]) {
      const { images, length, imageShape } = strokes({ size: 500, imageSize });
      expect(imageShape).toEqual([1, imageSize, imageSize]);
      const plane = imageSize * imageSize;
      let border = 0;
      for (let index = 0; index < length; index++) {
        const image = images.subarray(index * plane, (index + 1) * plane);
        const ink = image.filter((value) => value > 127).length / plane;
        expect(ink).toBeGreaterThan(0.008);
        expect(ink).toBeLessThan(0.4);
        const edge = image.filter((value, place) => {
          const row = Math.floor(place / imageSize);
          const column = place % imageSize;
          const last = imageSize - 1;
          return value > 127 && (row === 0 || column === 0 || row === last || column === last);
        });
        if (edge.length > 0) border++;
      }
      expect(border / length).toBeLessThan(0.05);
    }
  });

  it('is too hard for the nearest class mean, and not by much', () => {
    // A bound from below on what a linear model reaches: means of 2,000 images, 1,000 to classify.
    const train = strokes({ size: 2000, seed: 1 });
    const test = strokes({ size: 1000, seed: 1, split: 'test' });
    const means = Array.from({ length: 10 }, () => new Float64Array(784));
    train.labels.forEach((label, index) => {
      const mean = means[label] as Float64Array;
      for (let i = 0; i < 784; i++)
        mean[i] = (mean[i] as number) + (train.images[784 * index + i] as number) / 200;
    });
    let right = 0;
    test.labels.forEach((label, index) => {
      const distances = means.map((mean) =>
        mean.reduce(
          (sum, value, i) => sum + (value - (test.images[784 * index + i] as number)) ** 2,
          0,
        ),
      );
      if (distances.indexOf(Math.min(...distances)) === label) right++;
    });
    expect(right / 1000).toBeGreaterThan(0.5);
    expect(right / 1000).toBeLessThan(0.9);
  });

  it('draws 10,000 images in little more than half a second', () => {
    strokes({ size: 1000 });
    const before = process.cpuUsage();
    strokes({ size: 2000 });
    // Processor time for a fifth of them, with room for a busy machine.
    expect(process.cpuUsage(before).user / 1e6).toBeLessThan(0.6);
  });

  it('checks its options', () => {
    expect(() => strokes({ size: -1 })).toThrow(ArgumentError);
    expect(() => strokes({ imageSize: 4 })).toThrow(ArgumentError);
    expect(() => strokes({ split: 'validation' as 'test' })).toThrow(
      "split must be 'train' or 'test'",
    );
    expect(strokes({ size: 0 }).length).toBe(0);
  });
});
