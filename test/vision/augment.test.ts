// Augmentation layers against plain loops, and by exact properties of what they draw.
import { describe, expect, test } from 'vitest';
import {
  F,
  Generator,
  grad,
  manualSeed,
  nn,
  ones,
  tensor,
  type Tensor,
  trace,
  zeros,
} from 'tengen';
import * as vision from 'tengen/vision';
import { expectClose } from '../linalg/support.ts';

type Images = number[][][][];

/** Numbers that differ from each other, [n, c, h, w]. */
function picture(n: number, c: number, h: number, w: number): Tensor {
  const data = Float32Array.from({ length: n * c * h * w }, (_, i) => Math.sin(1.7 * i) * 50 + 100);
  return tensor(data, { shape: [n, c, h, w] });
}
const nested = (x: Tensor): Images => x.arraySync() as Images;
/** Whether the one bool is true. */
const holds = (x: Tensor): boolean => x.itemSync() === 1;
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
/** Index in an image that is mirrored without its border twice. */
const mirror = (i: number, size: number): number => (i < 0 ? -i : i >= size ? 2 * size - 2 - i : i);

/** A new image, pixel by pixel. */
function each(x: Tensor, pixel: (plane: number[][], i: number, j: number) => number): Images {
  return nested(x).map((image) =>
    image.map((plane) => plane.map((row, i) => row.map((_, j) => pixel(plane, i, j)))),
  );
}
function through(x: Tensor, kernel: number[][]): Images {
  const [, , h, w] = x.shape as [number, number, number, number];
  return each(x, (plane, i, j) => {
    let sum = 0;
    kernel.forEach((row, u) =>
      row.forEach((weight, v) => {
        const half = [(kernel.length - 1) / 2, (row.length - 1) / 2] as const;
        sum += weight * plane[mirror(i + u - half[0], h)]![mirror(j + v - half[1], w)]!;
      }),
    );
    return sum;
  });
}

describe('noise', () => {
  const LAYERS: readonly [string, vision.AdditiveElemwise, mean: number, deviation: number][] = [
    ['Gaussian', new vision.AdditiveGaussianNoise({ mean: 2, std: 3, perChannel: true }), 2, 3],
    [
      'Laplace',
      new vision.AdditiveLaplaceNoise({ mean: -1, std: 2, perChannel: true }),
      -1,
      8 ** 0.5,
    ],
    ['Poisson', new vision.AdditivePoissonNoise({ lam: 4, perChannel: true }), 4, 2],
  ];

  test.each(LAYERS)('%s: mean and deviation of what is added', (_, layer, mean, deviation) => {
    manualSeed(7);
    const noise = layer.forward(zeros(2, 3, 64, 64));
    const [found, spread] = [noise.mean().itemSync(), noise.std().itemSync()];
    // Five standard errors of 24,576 draws; the Laplace's fourth moment makes its own twice as wide.
    expect(Math.abs(found - mean)).toBeLessThan((5 * deviation) / 156);
    expect(Math.abs(spread - deviation)).toBeLessThan((8 * deviation) / 156);
    expect(holds(noise.isfinite().all())).toBe(true);
    expect(layer.describe()).toContain('Additive');
  });

  test('channels share it unless said otherwise, images do not', () => {
    manualSeed(1);
    const shared = new vision.AdditiveGaussianNoise().forward(zeros(2, 3, 4, 4));
    expectClose(shared.narrow(1, 1, 1), shared.narrow(1, 0, 1).arraySync());
    expect(holds(shared.at(0).eq(shared.at(1)).any())).toBe(false);
    const own = new vision.AdditiveGaussianNoise({ perChannel: true }).forward(zeros(1, 2, 4, 4));
    expect(
      holds(
        own
          .narrow(1, 0, 1)
          .eq(own.narrow(1, 1, 1))
          .any(),
      ),
    ).toBe(false);
  });

  test('bytes stay bytes, and halves halves', () => {
    const bytes = new vision.AdditiveGaussianNoise({ mean: -300, std: 0 }).forward(
      tensor([[[[5, 255]]]], { dtype: 'uint8' }),
    );
    expect(bytes.dtype).toBe('uint8');
    expect(bytes.arraySync()).toEqual([[[[0, 0]]]]);
    expect(new vision.AdditiveLaplaceNoise().forward(ones(1, 1, 2, 2).to('float16')).dtype).toBe(
      'float16',
    );
    expect(() => new vision.AdditiveGaussianNoise().forward(ones(1, 1, 2, 2).gt(0))).toThrow(
      'takes images, not bool',
    );
  });

  test('a seed gives the same numbers, and each run of a trace others', () => {
    const layer = (): nn.Layer => new vision.AdditiveGaussianNoise({ generator: new Generator(5) });
    expectClose(
      layer().forward(zeros(1, 1, 3, 3)),
      layer()
        .forward(zeros(1, 1, 3, 3))
        .arraySync(),
    );
    const one = layer();
    const step = trace((x: Tensor) => one.forward(x));
    const [a, b] = [step(zeros(1, 1, 3, 3)), step(zeros(1, 1, 3, 3))];
    expect(holds(a.eq(b).any())).toBe(false);
    const again = layer();
    expectClose(a, again.forward(zeros(1, 1, 3, 3)).arraySync());
    expectClose(b, again.forward(zeros(1, 1, 3, 3)).arraySync());
  });

  test('bad options', () => {
    expect(() => new vision.AdditiveGaussianNoise({ std: -1 })).toThrow('std');
    expect(() => new vision.AdditivePoissonNoise({ lam: NaN })).toThrow('lam');
    expect(() => new vision.AdditiveLaplaceNoise().forward(ones(3, 4, 4))).toThrow(
      'takes images [n, c, h, w], got [3,4,4]',
    );
  });
});

describe('filters', () => {
  const x = picture(2, 3, 5, 4);

  test('Emboss and Sharpen are their kernels', () => {
    const [alpha, amount] = [0.7, 1.5];
    const blend = (effect: number[][]): number[][] =>
      effect.map((row, i) =>
        row.map((value, j) => alpha * value + (1 - alpha) * Number(i === 1 && j === 1)),
      );
    const emboss = [
      [-1 - amount, -amount, 0],
      [-amount, 1, amount],
      [0, amount, 1 + amount],
    ];
    expectClose(new vision.Emboss(alpha, amount).forward(x), through(x, blend(emboss)), 1e-5);
    const sharpen = [
      [-1, -1, -1],
      [-1, 8 + amount, -1],
      [-1, -1, -1],
    ];
    expectClose(new vision.Sharpen(alpha, amount).forward(x), through(x, blend(sharpen)), 1e-5);
    // A drawn blend lies between its ends, in each image at one place of its own.
    const full = new vision.Sharpen(1, amount).forward(x);
    const share = new vision.Sharpen([0.2, 0.9], amount).forward(x).sub(x).div(full.sub(x));
    const [low, high] = [share.amin([1, 2, 3]), share.amax([1, 2, 3])];
    expectClose(low, high.arraySync(), 1e-2);
    expect(holds(low.ge(0.19).all()) && holds(low.le(0.91).all())).toBe(true);
    expect(() => new vision.Emboss(1.5, 1)).toThrow('alpha');
    expect(() => new vision.Emboss([0.5, 0.2], 1)).toThrow('low 0.5 exceeds high 0.2');
  });

  test('GaussianBlur is its window', () => {
    const line = (size: number, sigma: number): number[] => {
      const values = range(size).map((i) =>
        Math.exp(-((i - (size - 1) / 2) ** 2) / (2 * sigma ** 2)),
      );
      const sum = values.reduce((a, b) => a + b, 0);
      return values.map((value) => value / sum);
    };
    const [rows, columns] = [line(5, 1.3), line(3, 1.3)];
    const kernel = rows.map((a) => columns.map((b) => a * b));
    expectClose(new vision.GaussianBlur([5, 3], 1.3).forward(x), through(x, kernel), 1e-5);
    // A constant image stays, whatever is drawn.
    expectClose(
      new vision.GaussianBlur(3).forward(ones(4, 1, 3, 3)),
      ones(4, 1, 3, 3).arraySync(),
      1e-6,
    );
    expect(() => new vision.GaussianBlur(4)).toThrow('must be odd');
    expect(() => new vision.GaussianBlur(3, 0)).toThrow('sigma');
  });

  test('LinearContrast scales about its centre', () => {
    expectClose(new vision.LinearContrast(0.5).forward(x), x.mul(0.5).arraySync(), 1e-6);
    manualSeed(2);
    const drawn = new vision.LinearContrast([2, 3], { center: 10 }).forward(x);
    const share = drawn.sub(10).div(x.sub(10));
    expectClose(share.amin([1, 2, 3]), share.amax([1, 2, 3]).arraySync(), 1e-4);
    expect(share.amin().itemSync()).toBeGreaterThanOrEqual(2 - 1e-4);
    expect(share.amax().itemSync()).toBeLessThan(3 + 1e-4);
    const own = new vision.LinearContrast([2, 3], { perChannel: true }).forward(x).div(x);
    expectClose(own.amin([2, 3]), own.amax([2, 3]).arraySync(), 1e-4);
    expect(holds(own.at(0, 0, 0, 0).eq(own.at(0, 1, 0, 0)))).toBe(false);
  });

  test('Dilation is the largest of a window', () => {
    const largest = (kernel: readonly (readonly number[])[]): Images =>
      each(x, (plane, i, j) => {
        let result = -Infinity;
        kernel.forEach((row, u) =>
          row.forEach((value, v) => {
            const half = [(kernel.length - 1) / 2, (row.length - 1) / 2] as const;
            const pixel = plane[i + u - half[0]]?.[j + v - half[1]];
            if (value !== 0 && pixel !== undefined) result = Math.max(result, pixel);
          }),
        );
        return result;
      });
    const full = range(3).map(() => range(5).map(() => 1));
    expectClose(new vision.Dilation([3, 5]).forward(x), largest(full), 0);
    const kernel = [
      [0, 1, 0],
      [0, 0, 1],
      [1, 0, 0],
    ];
    expectClose(new vision.Dilation(3, { kernel }).forward(x), largest(kernel), 0);
    const twice = new vision.Dilation(3, { iterations: 2 }).forward(x);
    expectClose(twice, new vision.Dilation(5).forward(x).arraySync(), 0);
    expectClose(new vision.Dilation(3, { iterations: 0 }).forward(x), x.arraySync(), 0);
    expect(() => new vision.Dilation(3, { kernel: [[1]] })).toThrow('3 rows of 3');
    // One step of the gradient: to the largest pixel.
    const slope = grad((a: Tensor) => new vision.Dilation(3).forward(a).sum())(
      tensor([[[[1, 9, 2]]]], { dtype: 'float32' }),
    );
    expect(slope.arraySync()).toEqual([[[[0, 3, 0]]]]);
  });
});

describe('mixing', () => {
  const [a, b] = [picture(6, 2, 8, 10), picture(6, 2, 8, 10).mul(-3).add(7)];

  test('Mixup weighs images and labels alike', () => {
    manualSeed(3);
    const [data, label] = new vision.Mixup(0.7).forward(a, ones(6), b, zeros(6));
    const share = label.reshape(6, 1, 1, 1);
    expectClose(
      data,
      a
        .mul(share)
        .add(b.mul(share.neg().add(1)))
        .arraySync(),
      1e-4,
    );
    expect(holds(label.ge(0).all()) && holds(label.le(1).all())).toBe(true);
    expect(new Set(label.arraySync() as number[]).size).toBe(6);
    const classes = F.oneHot(tensor([0, 1, 2, 0, 1, 2], { dtype: 'int32' }), 3);
    const [, soft] = new vision.Mixup(1).forward(a, classes, b, classes.roll(1, 0));
    expectClose(soft.sum(1), ones(6).arraySync(), 1e-6);
    expect(() => new vision.Mixup(0)).toThrow('beta');
    expect(() => new vision.Mixup(1).forward(a, ones(6), b.narrow(0, 0, 3), ones(6))).toThrow(
      'differ in their sizes',
    );
    expect(() => new vision.Mixup(1).forward(a, ones(5), b, ones(5))).toThrow('are not [6, ...]');
  });

  test('Cutmix puts a box of the one into the other', () => {
    manualSeed(4);
    const [data, label] = new vision.Cutmix(1).forward(a, ones(6), b, zeros(6));
    const [mixed, first, second] = [nested(data), nested(a), nested(b)];
    const shares = label.arraySync() as number[];
    let boxes = 0;
    mixed.forEach((image, k) => {
      const taken: (readonly [number, number])[] = [];
      image[0]!.forEach((row, i) =>
        row.forEach((value, j) => {
          const isSecond = value === second[k]![0]![i]![j];
          expect(isSecond || value === first[k]![0]![i]![j]).toBe(true);
          const same = image[1]![i]![j] === (isSecond ? second : first)[k]![1]![i]![j];
          expect(same).toBe(true);
          if (isSecond) taken.push([i, j]);
        }),
      );
      expect(shares[k]).toBeCloseTo(1 - taken.length / 80, 5);
      if (taken.length === 0) return;
      boxes += 1;
      const extent = (at: 0 | 1): number => {
        const places = taken.map((place) => place[at]);
        return Math.max(...places) - Math.min(...places) + 1;
      };
      expect(taken).toHaveLength(extent(0) * extent(1));
    });
    expect(boxes).toBeGreaterThan(2);
  });

  test('FillPoly is the even-odd rule', () => {
    // A star that crosses itself, and a square.
    const corners = [
      [
        [5, 0.2],
        [8.1, 7.4],
        [0.3, 2.6],
        [9.7, 2.6],
        [1.9, 7.4],
      ],
      [
        [2.5, 1.5],
        [6.5, 1.5],
        [6.5, 4.5],
        [2.5, 4.5],
        [2.5, 3],
      ],
    ];
    const inside = (polygon: number[][], x: number, y: number): boolean => {
      let odd = false;
      polygon.forEach(([x1, y1], i) => {
        const [x2, y2] = polygon[(i + 1) % polygon.length]!;
        if (y1! > y !== y2! > y && x < x1! + ((y - y1!) / (y2! - y1!)) * (x2! - x1!)) odd = !odd;
      });
      return odd;
    };
    const layer = new vision.FillPoly({ value: [1, 2] });
    const expected = corners.map((polygon) =>
      range(2).map((c) =>
        range(8).map((i) => range(10).map((j) => (inside(polygon, j, i) ? c + 1 : 0))),
      ),
    );
    expectClose(layer.forward(zeros(2, 2, 8, 10), tensor(corners)), expected, 0);
    const shared = layer.forward(zeros(2, 2, 8, 10), tensor(corners[1]!));
    expectClose(shared, [expected[1], expected[1]], 0);
    expect((expected[1]!.flat(2) as number[]).filter((value) => value === 1)).toHaveLength(12);
    expect(() => layer.forward(zeros(1, 3, 4, 4), tensor(corners[0]!))).toThrow('2 values for 3');
    expect(() => layer.forward(zeros(1, 2, 4, 4), zeros(2, 2))).toThrow('at least 3 corners');
    expect(() => layer.forward(zeros(1, 2, 4, 4), zeros(3, 3))).toThrow('points must be');
  });
});

describe('geometry', () => {
  const x = picture(3, 2, 4, 5);

  test('flips, and flips by chance', () => {
    expectClose(new vision.Flip().forward(x), x.flip([2, 3]).arraySync());
    manualSeed(5);
    const many = picture(64, 1, 2, 3);
    for (const [layer, axis] of [
      [new vision.RandomHorizontalFlip(0.3), 3],
      [new vision.RandomVerticalFlip(0.3), 2],
    ] as const) {
      const result = layer.forward(many);
      const isSame = result.eq(many).all([1, 2, 3]);
      const isFlipped = result.eq(many.flip([axis])).all([1, 2, 3]);
      expect(holds(isSame.ne(isFlipped).all())).toBe(true);
      const count = isFlipped.int().sum().itemSync();
      expect(count).toBeGreaterThan(8);
      expect(count).toBeLessThan(32);
    }
    expect(() => new vision.RandomHorizontalFlip(1.1)).toThrow('p');
  });

  test('sizes, turns and maps are those of the functions', () => {
    expectClose(new vision.Resize([6, 7]).forward(x), vision.resize(x, [6, 7]).arraySync());
    expect(new vision.Resize(2).forward(x.to('uint8')).dtype).toBe('uint8');
    expectClose(
      new vision.Rot90({ clockwise: false }).forward(x),
      vision.rot90(x, { clockwise: false }).arraySync(),
    );
    const options = { interpolation: 'bilinear', fill: 3 } as const;
    const turned = vision.rotate(x, 33, options).arraySync();
    expectClose(new vision.Rotate(33, options).forward(x), turned, 1e-4);
    // A range without extent: the way of drawn angles, with the same result.
    expectClose(new vision.Rotate([33, 33], options).forward(x), turned, 1e-3);
    const map = ones(3, 2, 2, 2);
    expectClose(new vision.Remap().forward(x, map), vision.remap(x, map).arraySync());
    expect(() => new vision.Rotate([1, 2], { expand: true })).toThrow('one angle');
  });

  test('CropAndPad cuts, adds, and brings back to size', () => {
    const cut = new vision.CropAndPad({ px: [-1, 2, 0, -2], keepSize: false, value: 7 });
    const expected = F.pad(x.narrow(2, 1, 3).narrow(3, 2, 3), [0, 2, 0, 0], { value: 7 });
    expectClose(cut.forward(x), expected.arraySync());
    const kept = new vision.CropAndPad({ px: [-1, 2, 0, -2], value: 7 });
    expectClose(kept.forward(x), cropByLoops(x, [-1, 2, 0, -2], 7), 1e-4);
    const same = new vision.CropAndPad({ percent: [-0.25, 0, 0.5, 0], mode: 'replicate' });
    expect(same.forward(x).shape).toEqual(x.shape);
    expectClose(new vision.CropAndPad({ percent: 0 }).forward(x), x.arraySync(), 1e-4);
    manualSeed(6);
    const drawn = new vision.CropAndPad({ percent: [-0.1, 0.3] }).forward(x);
    expect(holds(drawn.isfinite().all())).toBe(true);
    expect(() => new vision.CropAndPad({})).toThrow('px or percent');
    expect(() => new vision.CropAndPad({ px: [0, 2], keepSize: false })).toThrow(
      'the same for all',
    );
    expect(() => new vision.CropAndPad({ px: -2 }).forward(x)).toThrow('leave nothing of 4 x 5');
  });

  test('layers stand in a sequence, and gradients flow through them', () => {
    const all = new nn.Sequential(
      new vision.RandomHorizontalFlip(),
      new vision.Rotate([-10, 10], { interpolation: 'bilinear' }),
      new vision.GaussianBlur(3),
      new vision.LinearContrast([0.9, 1.1]),
    );
    const step = trace((image: Tensor) => grad((a: Tensor) => all.forward(a).sum())(image));
    expect(step(x).shape).toEqual(x.shape);
    expect(holds(step(x).isfinite().all())).toBe(true);
  });
});

/** Bilinear reads of what is left after cutting and adding, `value` outside. */
function cropByLoops(x: Tensor, sides: readonly number[], value: number): Images {
  const [, , h, w] = x.shape as [number, number, number, number];
  const [top, right, bottom, left] = sides as [number, number, number, number];
  return each(x, (plane, i, j) => {
    const y = ((i + 0.5) * (h + top + bottom)) / h - 0.5 - top;
    const z = ((j + 0.5) * (w + left + right)) / w - 0.5 - left;
    const [y0, z0] = [Math.floor(y), Math.floor(z)];
    const at = (u: number, v: number): number => plane[u]?.[v] ?? value;
    const row = (u: number): number => at(u, z0) * (1 - z + z0) + at(u, z0 + 1) * (z - z0);
    return row(y0) * (1 - y + y0) + row(y0 + 1) * (y - y0);
  });
}
