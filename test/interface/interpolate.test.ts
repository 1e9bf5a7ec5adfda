// Resizing and grid sampling. Literals are PyTorch 1.13's; the golden vectors check in breadth.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  DTypeError,
  F,
  grad,
  nn,
  ones,
  ShapeError,
  tensor,
  type Tensor,
  trace,
  valueAndGrad,
  zeros,
} from 'tengen';
import { cubicTaps, filterTaps, linearTaps } from '../../src/interface/functional/resampling.ts';
import { checkLeaks, expectValues, ints, values } from './support.ts';

checkLeaks();

const image = (): Tensor => tensor([[[[1, 4, 2], [0, 3, 5]]]]); // prettier-ignore

/** Gradient of the elements' sum, each weighed by its number from 1. */
function gradient(fn: (x: Tensor) => Tensor, at: Tensor): Tensor {
  return grad((x: Tensor) => {
    const y = fn(x);
    const weights = tensor(Float32Array.from({ length: y.size }, (_, i) => i + 1));
    return y.mul(weights.reshape(y.shape)).sum();
  })(at);
}

describe('interpolate', () => {
  test.each<[F.InterpolateOptions, readonly number[][], readonly number[][]]>([
    [
      { size: [3, 4], mode: 'bilinear' },
      [
        [1, 2.875, 3.25, 2],
        [0.5, 2.375, 3.5, 3.5],
        [0, 1.875, 3.75, 5],
      ],
      [
        [5.375, 7.1875, 10.4375],
        [16.375, 17.1875, 21.4375],
      ],
    ],
    [
      { size: [3, 4], mode: 'bilinear', alignCorners: true },
      [
        [1, 3, 3.3333333, 2],
        [0.5, 2.5, 3.5, 3.5],
        [0, 2, 3.6666667, 5],
      ],
      [
        [5.1666667, 7.6666667, 10.1666667],
        [15.8333333, 18.3333333, 20.8333333],
      ],
    ],
    [
      { size: [3, 2], mode: 'bicubic' },
      [
        [1.849013, 2.3768451],
        [1.1796875, 3.6054688],
        [0.5103627, 4.8340931],
      ],
      [
        [1.5366223, 1.5194236, 2.7495134],
        [5.0024414, 3.9766705, 6.2153316],
      ],
    ],
    [
      { size: [1, 2], mode: 'bilinear', antialias: true },
      [[1.625, 3.5]],
      [
        [0.3125, 0.5625, 0.625],
        [0.3125, 0.5625, 0.625],
      ],
    ],
    [
      { size: [1, 2], mode: 'bicubic', antialias: true },
      [[1.5497589, 3.6203852]],
      [
        [0.2849117, 0.5850722, 0.630016],
        [0.2849117, 0.5850722, 0.630016],
      ],
    ],
    [
      { scaleFactor: [1.5, 0.7], mode: 'bilinear' },
      [
        [1.6428572, 2.7142856],
        [1.1428572, 3.5],
        [0.6428572, 4.2857141],
      ],
      [
        [1.9642856, 1.9642856, 2.5714288],
        [5.1071429, 4.2499995, 5.1428576],
      ],
    ],
  ])('%o', (options, expected, slopes) => {
    expectValues(F.interpolate(image(), options), [[expected]]);
    expectValues(
      gradient((x) => F.interpolate(x, options), image()),
      [[slopes]],
    );
  });

  test('nearest takes the neighbour that float32 positions name', () => {
    const x = ints([[[0, 1, 2, 3, 4, 5, 6]]]);
    expect(values(F.interpolate(x, { size: 5 }))).toEqual([[[0, 1, 2, 4, 5]]]);
    expect(values(F.interpolate(x, { size: 5, mode: 'nearest-exact' }))).toEqual([
      [[0, 2, 3, 4, 6]],
    ]);
    // 29 elements from 13: in double precision position 29 of 58 would be a hair below 13.
    const y = F.interpolate(tensor([[Float32Array.from({ length: 7 }, (_, i) => i)]]), {
      size: 21,
    });
    expect(values(y)).toEqual([[Array.from({ length: 21 }, (_, i) => Math.floor(i / 3))]]);
    expectValues(
      gradient((t) => F.interpolate(t, { size: 5 }), tensor([[[0, 0, 0, 0, 0, 0, 0]]])),
      [[[1, 2, 3, 0, 4, 5, 0]]],
    );
    expectValues(
      gradient((t) => F.interpolate(t, { scaleFactor: 2 }), tensor([[[0, 0]]])),
      [[[3, 7]]],
    );
  });

  test('volumes, signals, areas, single elements', () => {
    const volume = ones(2, 3, 2, 3, 4);
    expectValues(
      F.interpolate(volume, { size: [4, 2, 1], mode: 'trilinear' }),
      values(ones(2, 3, 4, 2, 1)),
    );
    expectValues(F.interpolate(tensor([[[5]]]), { size: 3, mode: 'linear' }), [[[5, 5, 5]]]);
    expectValues(F.interpolate(tensor([[[1, 3, 5, 7]]]), { size: 2, mode: 'area' }), [[[2, 6]]]);
    expect(F.interpolate(zeros(0, 2, 3), { size: 5, mode: 'linear' }).shape).toEqual([0, 2, 5]);
    // A whole number of taps beyond what is read one by one becomes a matrix product.
    const wide = tensor(Float32Array.from({ length: 200 }, (_, i) => i)).reshape(1, 1, 100, 2);
    const options = { size: [2, 1], mode: 'bilinear', antialias: true } as const;
    expectValues(F.interpolate(wide, options), [[[[59.02571], [139.97429]]]]);
  });

  test.each<[F.InterpolateOptions, readonly number[], readonly number[]]>([
    // 31 taps: two nodes. 81 taps: a product.
    [
      { size: [1, 4], mode: 'bilinear', antialias: true },
      [2.7136834, 4.6421633, 6.0615835, 7.1026249],
      [0.0406091, 0.1066441, 0.1688889, 0.1624365],
    ],
    [
      { size: [1, 3], mode: 'bicubic', antialias: true },
      [2.9982755, 5.4249773, 7.0029449],
      [0.0260697, 0.0664271, 0.0989076, 0.0909692],
    ],
  ])('many taps, %o', (options, expected, slopes) => {
    const x = tensor(Float32Array.from({ length: 60 }, (_, i) => Math.sqrt(i))).reshape(
      1,
      1,
      1,
      60,
    );
    expectValues(F.interpolate(x, options).reshape(-1), expected);
    const all = gradient((t) => F.interpolate(t, options), x).reshape(-1);
    expectValues(all.at([0, 15, 30, 59]), slopes);
    // The weights of each position add up to 1.
    expectValues(all.sum(), (expected.length * (expected.length + 1)) / 2);
  });

  test('an axis that keeps its size is left alone by linear modes, whatever its factor', () => {
    const x = tensor([[[1, 2, 4]]]);
    expect(values(F.interpolate(x, { scaleFactor: 1.3, mode: 'linear' }))).toEqual([[[1, 2, 4]]]);
  });

  test('second derivatives, traced, halves', () => {
    const cube = (x: Tensor): Tensor => F.interpolate(x.pow(3), { size: 3, mode: 'linear' }).sum();
    const second = grad((x: Tensor) => grad(cube, { createGraph: true })(x).sum());
    expectValues(second(tensor([[[1, 2]]])), [[[9, 18]]]);
    const traced = trace((x: Tensor) => F.interpolate(x, { size: [3, 4], mode: 'bilinear' }));
    for (let i = 0; i < 3; i++) expectValues(traced(image()).at(0, 0, 1), [0.5, 2.375, 3.5, 3.5]);
    const half = F.interpolate(image().to('float16'), { size: [1, 1], mode: 'bilinear' });
    expect(half.dtype).toBe('float16');
    expectValues(half, [[[[3.5]]]]);
  });

  test('layers', () => {
    const x = tensor([[[[1, 2]]]]);
    expectValues(new nn.UpsamplingNearest2d({ scaleFactor: 2 }).forward(x), [
      [
        [
          [1, 1, 2, 2],
          [1, 1, 2, 2],
        ],
      ],
    ]);
    expectValues(new nn.UpsamplingBilinear2d({ size: [1, 3] }).forward(x), [[[[1, 1.5, 2]]]]);
    expect(String(new nn.Upsample({ scaleFactor: 2 }))).toContain('scaleFactor: 2, mode: nearest');
  });

  test('what is refused', () => {
    const x = image();
    const bad =
      (options: object): (() => Tensor) =>
      () =>
        F.interpolate(x, options);
    expect(bad({})).toThrow('takes either size or scaleFactor');
    expect(bad({ size: 2, scaleFactor: 2 })).toThrow(ArgumentError);
    expect(bad({ size: 2, mode: 'linear' })).toThrow(
      "mode 'linear' takes 1 space axes, there are 2",
    );
    expect(bad({ size: 2, mode: 'cubic' })).toThrow('mode must be nearest or');
    expect(bad({ size: 2, alignCorners: true })).toThrow("mode 'nearest' has no alignCorners");
    expect(bad({ size: 2, antialias: true })).toThrow("mode 'nearest' has no antialias");
    expect(bad({ size: [2, 2, 2] })).toThrow('size has 3 numbers for 2 space axes');
    expect(bad({ size: 0 })).toThrow('size must be an integer of at least 1');
    expect(bad({ scaleFactor: 0.2 })).toThrow('cannot resize [2,3] to [0,0]');
    expect(bad({ scaleFactor: NaN })).toThrow('scaleFactor must be a number above 0, got NaN');
    expect(bad({ size: 2, recomputeScaleFactor: true })).toThrow('needs a scaleFactor');
    expect(bad({ size: 2, alignCorners: 1 })).toThrow('alignCorners must be true or false, got 1');
    expect(bad({ size: [2.5, 2] })).toThrow('size must be an integer');
    expect(bad({ size: 2, sizes: 2 })).toThrow("there is no option 'sizes'");
    expect(() => F.interpolate(zeros(2, 2), { size: 2 })).toThrow(ShapeError);
    expect(() => F.interpolate(zeros(1, 1, 0), { size: 2 })).toThrow('cannot resize [0] to [2]');
    expect(() => F.interpolate(ints([[[1]]]), { size: 2, mode: 'linear' })).toThrow(DTypeError);
  });
});

describe('tables of taps', () => {
  test('what lies outside can be left out', () => {
    const cubic = cubicTaps(3, [-0.5], { outside: 'exclude' });
    expect([...cubic.index]).toEqual([0, 0, 0, 1]);
    expect(cubic.weight[0]).toBe(0);
    expect(cubic.weight.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
    expect([...linearTaps(3, [-0.25], 'exclude').weight]).toEqual([0, 1]);
    const kernel = (x: number): number => Math.max(0, 1 - Math.abs(x));
    const filter = { kernel, radius: 1, scale: 2, outside: 'edge' } as const;
    const taps = filterTaps(4, [0.5, 2.5], filter);
    expect([...taps.index].filter((_, i) => i % 2 === 0)).toEqual([0, 0, 1, 2]);
    expect([...taps.weight].filter((_, i) => i % 2 === 0)).toEqual([0.125, 0.375, 0.375, 0.125]);
  });
});

describe('gridSample', () => {
  const grid = (): Tensor => tensor([[[[-1.2, 0.3], [0.1, -0.9], [1.4, 1.7]]]]); // prettier-ignore

  /** Results; gradients by image and grid of their sum weighed by 1, 2, 3. */
  function sampled(x: Tensor, at: Tensor, options: F.GridSampleOptions): number[][] {
    const build = (a: Tensor, b: Tensor): Tensor =>
      F.gridSample(a, b, options)
        .mul(tensor([1, 2, 3]))
        .sum();
    const { grads } = valueAndGrad(build, { argnums: [0, 1] })(x, at);
    return [F.gridSample(x, at, options), ...grads].map((t) => [...t.dataSync()]);
  }

  /** To four digits: in float32 the cubic's coefficients cancel. */
  function expectSampled(actual: number[][], expected: readonly (readonly number[])[]): void {
    expected.forEach((list, i) =>
      list.forEach((value, k) => expect(actual[i]![k], `${i}, ${k}`).toBeCloseTo(value, 4)),
    );
  }

  test.each<[F.GridSampleOptions, readonly (readonly number[])[]]>([
    [
      { paddingMode: 'zeros' },
      [
        [0.04, 2.22, 0],
        [0.04, 1.02, 0.18, 0.16, 0, 0],
        [0.3, -0.2, -3.6, 7.4, 0, 0],
      ],
    ],
    [
      { paddingMode: 'border' },
      [
        [0.2, 3.7, 5],
        [0.2, 1.7, 0.3, 0.8, 0, 3],
        [0, -1, -6, 0, 0, 0],
      ],
    ],
    [
      { paddingMode: 'reflection' },
      [
        [0.2, 3.7, 4.28],
        [0.2, 1.76, 0.84, 0.8, 0.24, 2.16],
        [0, -1, -6, 0, -5.4, -7.8],
      ],
    ],
    [
      { mode: 'nearest', paddingMode: 'reflection' },
      [
        [0, 4, 5],
        [0, 2, 0, 1, 0, 3],
        [0, 0, 0, 0, 0, 0],
      ],
    ],
    [
      { mode: 'bicubic', paddingMode: 'zeros' },
      [
        [-0.04544, 2.506691, 0.02916],
        [-0.077045, 1.368375, 0.204525, 0.201557, -0.228056, -0.013183],
        [-0.7614, -0.1788, -2.274076, 8.9984, 1.0206, 0.2187],
      ],
    ],
    [
      { mode: 'bicubic', paddingMode: 'border' },
      [
        [0.104001, 4.041307, 5],
        [0.000105, 2.108939, 0.282956, 0.861333, -0.225752, 2.972419],
        [-0.945, -0.99, -3.711736, 0.088058, 0, 0],
      ],
    ],
  ])('%o', (options, expected) => {
    expectSampled(sampled(image(), grid(), options), expected);
  });

  test.each<['zeros' | 'border' | 'reflection', readonly (readonly number[])[]]>([
    [
      'zeros',
      [
        [3.5, 2, 0],
        [0, 0.5, 2, 2.25, 0.5, 0],
        [0, -0.5, -4, 3, 6.75, 0],
      ],
    ],
    [
      'border',
      [
        [3.5, 2, 0],
        [0, 0.5, 2, 3, 0.5, 0],
        [0, -0.5, 0, 0, 0, 0],
      ],
    ],
    [
      'reflection',
      [
        [3.5, 2, 0.25],
        [0.75, 0.5, 2, 2.25, 0.5, 0],
        [0, -0.5, 0, 0, 0, 1.5],
      ],
    ],
  ])('at centres and borders, %s: PyTorch’s one-sided slopes', (paddingMode, expected) => {
    const at = tensor([[[[0, 0], [1, -1], [-1, 1.5]]]]); // prettier-ignore
    const found = sampled(image(), at, { paddingMode, alignCorners: true });
    expectSampled(found, expected);
  });

  test('nothing outside is touched: infinities there do not leak', () => {
    const x = tensor([[[[Infinity, 1], [NaN, 2]]]]); // prettier-ignore
    const at = tensor([[[[-9, 0], [NaN, 0], [2, -0.5]]]]); // prettier-ignore
    expect(values(F.gridSample(x, at))).toEqual([[[[0, 0, 0]]]]);
  });

  test('an affine grid that moves by whole pixels', () => {
    const x = tensor([[[[1, 2, 3]]]]);
    const theta = tensor([[[1, 0, 2 / 3], [0, 1, 0]]]); // prettier-ignore
    expectValues(F.gridSample(x, F.affineGrid(theta, [1, 1, 1, 3])), [[[[2, 3, 0]]]]);
    const volume = F.affineGrid(ones(1, 3, 4), [1, 1, 1, 1, 2], { alignCorners: true });
    expectValues(volume, [[[[[0, 0, 0], [2, 2, 2]]]]]); // prettier-ignore
  });

  test('what is refused', () => {
    const x = image();
    expect(() => F.gridSample(x, zeros(1, 2, 2, 3))).toThrow(ShapeError);
    expect(() => F.gridSample(x, zeros(2, 2, 2, 2))).toThrow('does not fit [1,1,2,3]');
    expect(() => F.gridSample(zeros(1, 1, 3), zeros(1, 1, 1))).toThrow('images or volumes');
    expect(() => F.gridSample(zeros(1, 1, 0, 3), zeros(1, 2, 2, 2))).toThrow('nothing to sample');
    expect(() =>
      F.gridSample(zeros(1, 1, 2, 2, 2), zeros(1, 1, 1, 1, 3), { mode: 'bicubic' }),
    ).toThrow('bicubic is for images');
    expect(() => F.gridSample(x, zeros(1, 1, 1, 2), { mode: 'linear' as never })).toThrow(
      ArgumentError,
    );
    expect(() => F.affineGrid(zeros(1, 2, 2), [1, 1, 2, 2])).toThrow('theta must be [1,2,3]');
    expect(() => F.affineGrid(zeros(1, 2, 3), [1, 2, 2])).toThrow('size must be');
    expect(F.gridSample(zeros(0, 2, 3, 3), zeros(0, 4, 5, 2)).shape).toEqual([0, 2, 4, 5]);
  });
});
