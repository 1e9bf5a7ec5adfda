// Warps, rotations, sizes, colours, correlation.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  arange,
  DTypeError,
  F,
  grad,
  ones,
  rand,
  ShapeError,
  tensor,
  type Tensor,
  zeros,
} from 'tengen';
import * as vision from 'tengen/vision';
import { checkLeaks, expectValues, ints, values } from '../interface/support.ts';

checkLeaks();

const image = (): Tensor => tensor([[[[1, 4, 2], [0, 3, 5]]]]); // prettier-ignore

describe('warps', () => {
  const row = (): Tensor => tensor([[[[1, 2, 4]]]]);
  const at = (x: readonly number[]): Tensor =>
    tensor([[x.map((value) => [value, 0])]] as unknown[] as number[][][][]);

  test.each<[NonNullable<vision.WarpOptions['borderMode']>, readonly number[]]>([
    ['replicate', [1, 1, 1.5, 4, 4]],
    ['reflect', [2, 1, 1.5, 4, 2]],
    ['reflect101', [4, 1.5, 1.5, 3, 1]],
    ['wrap', [2, 2.5, 1.5, 2.5, 2]],
    ['constant', [7, 4, 1.5, 5.5, 7]],
  ])('border mode %s', (borderMode, expected) => {
    const options = { borderMode, value: 7 };
    expectValues(vision.remap(row(), at([-2, -0.5, 0.5, 2.5, 4]), options).reshape(-1), expected);
  });

  test('nearest and cubic', () => {
    const nearest = vision.remap(row(), at([0.4, 0.6, 9]), { interpolation: 'nearest' });
    expectValues(nearest.reshape(-1), [1, 2, 4]);
    const grid = tensor([[[[0.25, -0.4]]]]);
    const cubic = vision.remap(image(), tensor([[[[1.375, 0.1]]]]), {
      interpolation: 'bicubic',
      borderMode: 'reflect',
    });
    const options = { mode: 'bicubic', paddingMode: 'reflection' } as const;
    expectValues(cubic, values(F.gridSample(image(), grid, options)));
  });

  test('gradients by the matrix, against differences', async () => {
    const x = rand(1, 2, 5, 6).to('float64');
    const matrix = tensor(
      [
        [
          [0.9, 0.1, 0.3],
          [-0.15, 1.1, 0.2],
          [0.01, 0.02, 1],
        ],
      ],
      {
        // prettier-ignore
        dtype: 'float64',
      },
    );
    const loss = (m: Tensor): Tensor => vision.warpPerspective(x, m, [4, 4]).square().sum();
    const slopes = (await grad(loss)(matrix).data()) as Float64Array;
    const numbers = (await matrix.data()) as Float64Array;
    for (let k = 0; k < 9; k++) {
      const moved = [1e-6, -1e-6].map((step) => {
        const other = numbers.slice();
        other[k]! += step;
        return loss(tensor(other, { shape: [1, 3, 3] })).itemSync() as number;
      });
      const expected = (moved[0]! - moved[1]!) / 2e-6;
      expect(Math.abs(slopes[k]! - expected)).toBeLessThan(1e-4 * (1 + Math.abs(expected)));
    }
  });

  test('several matrices for one image', () => {
    const identity = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]; // prettier-ignore
    const right = [[1, 0, 1], [0, 1, 0], [0, 0, 1]]; // prettier-ignore
    const found = vision.warpPerspective(row(), tensor([identity, right]), [1, 3], {
      matIdx: ints([0, 0]),
    });
    expectValues(found.reshape(2, 3), [[1, 2, 4], [2, 4, 4]]); // prettier-ignore
    const flat = tensor([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]]); // prettier-ignore
    expectValues(vision.warpPerspective(row(), flat, [1, 2]).reshape(-1), [1, 1]);
  });

  test('what is refused', () => {
    expect(() => vision.remap(row(), zeros(1, 2, 2, 3))).toThrow('the map must be [1, oh, ow, 2]');
    expect(() => vision.remap(zeros(1, 1, 0, 2), zeros(1, 1, 1, 2))).toThrow(ShapeError);
    expect(() => vision.warpAffine(row(), zeros(2, 2, 3), 3)).toThrow('matrices must be [1, 2, 3]');
    expect(() => vision.warpAffine(row(), zeros(1, 2, 3), 0)).toThrow('size');
    const mode = { borderMode: 'mirror' as never };
    expect(() => vision.warpAffine(row(), zeros(1, 2, 3), 3, mode)).toThrow('borderMode must be');
    expect(() => vision.warpPerspective(row(), zeros(2, 3, 3), 3, { matIdx: ints([0]) })).toThrow(
      'not one for each of 2',
    );
    expect(() => vision.warpPerspective(row(), zeros(1, 3, 3), 3, { matIdx: ints([1]) })).toThrow(
      'index 1 is out of range',
    );
  });
});

describe('rotation, as torchvision', () => {
  test.each<[number, vision.RotateOptions, readonly number[][]]>([
    [30, {}, [[1, 4, 5], [1, 3, 5]]], // prettier-ignore
    [
      30,
      { expand: true },
      [[0, 0, 0, 0, 0], [0, 1, 4, 5, 0], [0, 1, 3, 5, 0], [0, 0, 0, 0, 0]], // prettier-ignore
    ],
    [
      -75,
      { expand: true, interpolation: 'bilinear' },
      [
        [0, 0.489513, 0.118125],
        [0.513971, 2.180521, 1.346549],
        [1.3954, 3.62059, 1.669614],
        [0.590624, 2.57076, 0.539164],
      ],
    ],
    [180, {}, [[5, 3, 0], [2, 4, 1]]], // prettier-ignore
    [
      45,
      { expand: true },
      [[0, 0, 0, 0, 0], [0, 0, 4, 5, 0], [0, 1, 3, 0, 0], [0, 0, 0, 0, 0]], // prettier-ignore
    ],
  ])('%d degrees %o', (angle, options, expected) => {
    expectValues(vision.rotate(image(), angle, options), [[expected]]);
  });

  test('interpolation meets the fill', () => {
    const turned = vision.rotate(ones(1, 2, 4, 5).mul(7), 33, {
      interpolation: 'bilinear',
      fill: 7,
    });
    expectValues(turned.sub(7).abs().max(), 0);
  });

  test('what is refused', () => {
    expect(() => vision.rotate(image(), NaN)).toThrow(ArgumentError);
    expect(() => vision.rotate(image(), 1, { expand: true, center: [0, 0] })).toThrow('own center');
  });
});

describe('whole images', () => {
  test('sizes', () => {
    const x = arange(24).float().reshape(1, 4, 6);
    expectValues(vision.resize(x, 3).reshape(3, 4), [
      [1.25, 2.75, 4.25, 5.75],
      [9.25, 10.75, 12.25, 13.75],
      [17.25, 18.75, 20.25, 21.75],
    ]);
    expect(vision.resize(zeros(2, 5, 3, 20, 10), 5).shape).toEqual([2, 5, 3, 10, 5]);
    expect(() => vision.resize(zeros(4, 6), 3)).toThrow(ShapeError);
    expect(() => vision.resize(x, 0)).toThrow(ArgumentError);
  });

  test('turns and flips are each other’s', () => {
    const x = image();
    const half = vision.rot90(vision.rot90(x));
    expectValues(half, values(vision.hflip(vision.vflip(x))));
    expectValues(vision.rot90(vision.rot90(x), { clockwise: false }), values(x));
  });

  test('normalization', () => {
    const x = tensor([[[1]], [[4]]]);
    expectValues(vision.normalize(x, [1], [2]), [[[0]], [[1.5]]]);
    expect(() => vision.normalize(x, [1, 2, 3], [1, 1, 1])).toThrow('3 means for 2 channels');
    expect(() => vision.normalize(x, [1], [0])).toThrow(ArgumentError);
  });
});

describe('colours', () => {
  const pixel = (...channels: number[]): Tensor => tensor(channels).reshape(channels.length, 1, 1);

  test('there and back', () => {
    const rgb = rand(2, 3, 4, 5);
    for (const space of ['YUV', 'YCrCb'] as const) {
      const there = vision.cvtColor(rgb, `RGB2${space}`);
      const error = vision.cvtColor(there, `${space}2RGB`).sub(rgb).abs().max();
      // The two directions are published with three digits each.
      expect(error.itemSync() as number).toBeLessThan(3e-3);
    }
    expectValues(vision.cvtColor(vision.cvtColor(rgb, 'RGB2BGR'), 'BGR2RGB'), values(rgb));
  });

  test('single pixels', () => {
    expectValues(vision.cvtColor(pixel(0.5, 1, 0), 'BGR2GRAY'), [[[0.644]]]);
    expectValues(vision.cvtColor(pixel(0.2), 'GRAY2RGB').reshape(-1), [0.2, 0.2, 0.2]);
    expectValues(vision.cvtColor(pixel(0.2), 'GRAY2RGBA').reshape(-1), [0.2, 0.2, 0.2, 1]);
    expectValues(
      vision.cvtColor(pixel(1, 0, 0), 'RGB2YCrCb').reshape(-1),
      [0.299, 0.999813, 0.331364],
    );
    expectValues(
      vision.cvtColor(pixel(1, 0, 0), 'RGB2YUV').reshape(-1),
      [0.299, 0.352892, 1.114777],
    );
    const byte = tensor([255, 0, 3], { dtype: 'uint8' }).reshape(3, 1, 1);
    const gray = vision.cvtColor(byte, 'RGB2GRAY');
    expect([gray.dtype, values(gray)]).toEqual(['uint8', [[[77]]]]);
  });

  test('frames of video', () => {
    // Two by two pixels, then their one colour.
    const frame = tensor([10, 20, 30, 40, 90, 240], { dtype: 'uint8' }).reshape(1, 3, 2);
    const gray = vision.cvtColor(frame, 'YUV2GRAY_NV12');
    expect(values(gray)).toEqual([[[10, 20], [30, 40]]]); // prettier-ignore
    const rgb = vision.cvtColor(frame, 'YUV2RGB_NV12');
    // u = 90, v = 240: r = y + 1.14 * 112, b = y - 2.032 * 38.
    expect(values(rgb.at(0))).toEqual([[138, 148], [158, 168]]); // prettier-ignore
    expect(values(rgb.at(2))).toEqual([[0, 0], [0, 0]]); // prettier-ignore
    expect(values(vision.cvtColor(frame, 'YUV2BGR_NV12').at(2))).toEqual(values(rgb.at(0)));
    expect(values(vision.cvtColor(frame, 'YUV2RGB_YU12'))).toEqual(values(rgb));
    const swapped = tensor([10, 20, 30, 40, 240, 90], { dtype: 'uint8' }).reshape(1, 3, 2);
    expect(values(vision.cvtColor(swapped, 'YUV2RGB_NV21'))).toEqual(values(rgb));
    expect(values(vision.cvtColor(swapped, 'YUV2RGB_YV12'))).toEqual(values(rgb));
    const limited = tensor([16, 235, 16, 235, 128, 128], { dtype: 'uint8' }).reshape(1, 3, 2);
    expect(values(vision.cvtColor(limited, 'BT601_YUV2RGB_NV12').at(1))).toEqual([[0, 255], [0, 255]]); // prettier-ignore
  });

  test('what is refused', () => {
    expect(() => vision.cvtColor(pixel(1, 2), 'RGB2GRAY')).toThrow('takes images [.., 3 channels');
    expect(() => vision.cvtColor(pixel(1), 'RGB2HSV' as never)).toThrow(
      "there is no mode 'RGB2HSV'",
    );
    expect(() => vision.cvtColor(zeros(1, 4, 2), 'YUV2RGB_NV12')).toThrow('a frame is');
    expect(() => vision.cvtColor(ints([[[1]]]), 'GRAY2RGB')).toThrow(DTypeError);
  });
});

describe('correlation', () => {
  /** By its definition, with plain loops. */
  function expected(a: number[], b: number[], size: number, options: Required<Options>): number[] {
    const { kernelSize, maxDisplacement, stride1, stride2, padSize, isMultiply } = options;
    const at = (x: number[], row: number, column: number): number => {
      const [i, j] = [row - padSize, column - padSize];
      return i < 0 || j < 0 || i >= size || j >= size ? 0 : x[i * size + j]!;
    };
    const padded = size + 2 * padSize;
    const out = Math.ceil((padded - 2 * (maxDisplacement + (kernelSize - 1) / 2)) / stride1);
    const radius = Math.floor(maxDisplacement / stride2);
    const result: number[] = [];
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        for (let y = 0; y < out; y++) {
          for (let x = 0; x < out; x++) {
            let sum = 0;
            for (let j = 0; j < kernelSize; j++) {
              for (let i = 0; i < kernelSize; i++) {
                const [row, column] = [
                  y * stride1 + maxDisplacement + j,
                  x * stride1 + maxDisplacement + i,
                ];
                const p = at(a, row, column);
                const q = at(b, row + dy * stride2, column + dx * stride2);
                sum += isMultiply ? p * q : Math.abs(p - q);
              }
            }
            result.push(sum / kernelSize ** 2);
          }
        }
      }
    }
    return result;
  }
  type Options = vision.CorrelationOptions;

  test.each([
    { kernelSize: 1, maxDisplacement: 1, stride1: 1, stride2: 1, padSize: 0 },
    { kernelSize: 3, maxDisplacement: 4, stride1: 2, stride2: 2, padSize: 4 },
    { kernelSize: 1, maxDisplacement: 3, stride1: 2, stride2: 2, padSize: 3 },
  ])('as defined, %o', (geometry) => {
    const [a, b] = [rand(6, 6), rand(6, 6)];
    const [x, y] = [a, b].map((t) => t.reshape(1, 1, 6, 6)) as [Tensor, Tensor];
    for (const isMultiply of [true, false]) {
      const options = { ...geometry, isMultiply };
      const lists = [a, b].map((t) => [...t.dataSync()]) as [number[], number[]];
      expectValues(vision.correlation(x, y, options).reshape(-1), expected(...lists, 6, options));
    }
  });

  test('gradients are differences', () => {
    const [a, b] = [rand(1, 2, 4, 4), rand(1, 2, 4, 4)];
    const options = { padSize: 1 };
    const loss = (x: Tensor): Tensor => vision.correlation(x, b, options).square().sum();
    const slope = grad(loss)(a);
    const direction = rand(1, 2, 4, 4);
    const step = 1e-2;
    const along = loss(a.add(direction.mul(step))).sub(loss(a.sub(direction.mul(step))));
    // A quadratic function: central differences are exact, but for rounding.
    const exact = slope.mul(direction).sum().itemSync() as number;
    const found = (along.itemSync() as number) / (2 * step);
    expect(Math.abs(found - exact)).toBeLessThan(2e-3 * (1 + Math.abs(exact)));
  });

  test('what is refused', () => {
    const x = zeros(1, 1, 4, 4);
    expect(() => vision.correlation(x, zeros(1, 1, 4, 5))).toThrow(ShapeError);
    expect(() => vision.correlation(x, x, { kernelSize: 2 })).toThrow('must be odd');
    expect(() => vision.correlation(x, x, { maxDisplacement: 2 })).toThrow('too small');
  });
});
