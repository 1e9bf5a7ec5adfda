// Windows at random places, unpooled volumes, weights that differ from place to place.
import { expect, test } from 'vitest';
import { arange, F, grad, nn, ones, rand, ShapeError, tensor, type Tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, values } from './support.ts';

checkLeaks();

const pattern = (size: number): Tensor => arange(size).mul(7).remainder(11).float();

test('fractional pooling at given places, as PyTorch', () => {
  const x = pattern(49).reshape(1, 1, 7, 7);
  const randomSamples = tensor([[[0.3, 0.8]]]);
  const options = { outputSize: [3, 4], randomSamples, returnIndices: true } as const;
  const { values: best, indices } = F.fractionalMaxPool2d(x, 2, options);
  expectValues(best.reshape(-1), [7, 10, 10, 9, 10, 9, 10, 8, 10, 7, 9, 10]);
  expectValues(indices.reshape(-1), [1, 3, 3, 6, 14, 17, 25, 20, 36, 45, 39, 47]);
  const slopes = grad((t: Tensor) =>
    F.fractionalMaxPool2d(t, 2, { outputSize: [3, 4], randomSamples }).sum(),
  )(x);
  expectValues(slopes.sum(), 12);
  expectValues(slopes.at(0, 0, 0, 3), 2);
});

test('fractional pooling at drawn places', () => {
  const x = pattern(2 * 81).reshape(2, 9, 9);
  const pool = new nn.FractionalMaxPool2d(3, { outputRatio: 0.5 });
  const y = pool.forward(x);
  expect(y.shape).toEqual([2, 4, 4]);
  expect(Math.min(...(y.dataSync() as Float32Array))).toBeGreaterThan(5);
  const bad =
    (options: F.FractionalPoolOptions): (() => Tensor) =>
    () =>
      F.fractionalMaxPool2d(x, 3, options);
  expect(bad({})).toThrow('either outputSize or outputRatio');
  expect(bad({ outputRatio: 1 })).toThrow('outputRatio must be below 1');
  expect(bad({ outputSize: 8 })).toThrow('do not fit [9,9]');
  expect(bad({ outputSize: 2, randomSamples: zeros(3) })).toThrow(ShapeError);
});

test('volumes are unpooled to where their maxima were', () => {
  const x = pattern(60).reshape(1, 1, 3, 4, 5);
  const { values: best, indices } = F.maxPool3d(x, 2, { returnIndices: true });
  expectValues(indices.reshape(-1), [25, 3, 36, 17]);
  const back = new nn.MaxUnpool3d(2).forward(best, indices, [3, 4, 5]).reshape(-1);
  const expected = new Array<number>(60).fill(0);
  expected[25] = expected[3] = expected[36] = 10;
  expected[17] = 9;
  expect(values(back)).toEqual(expected);
});

test('local convolution is a convolution if all places have the same weights', () => {
  const x = rand(2, 4, 5, 6);
  const shared = rand(6, 2, 3, 2);
  const bias = rand(6);
  const options = { stride: [2, 1], padding: 1, dilation: [1, 2] } as const;
  const expected = F.conv2d(x, shared, bias, { ...options, groups: 2 });
  const [, , oh, ow] = expected.shape as readonly [number, number, number, number];
  const each = shared.reshape(2, 1, 1, 3, 2, 3, 2).permute(0, 1, 2, 4, 5, 6, 3);
  const weight = each.expand(2, oh, ow, 2, 3, 2, 3);
  expectValues(F.localConv2d(x, weight, bias, options), values(expected));
  const slope = (fn: (w: Tensor) => Tensor, at: Tensor): Tensor =>
    grad((w: Tensor) => fn(w).mul(expected.detach()).sum())(at);
  const local = slope((w) => F.localConv2d(x, w, bias, options), weight).sum([1, 2]);
  const whole = slope((w) => F.conv2d(x, w, bias, { ...options, groups: 2 }), shared);
  const reordered = whole.reshape(2, 3, 2, 3, 2).permute(0, 2, 3, 4, 1);
  expectValues(local.div(100), values(reordered.div(100)));
});

test('layer of local convolution, and what is refused', () => {
  const layer = new nn.LocalConv2d(4, 6, [5, 5], 3, { groups: 2, bias: false });
  expect(layer.weight.shape).toEqual([2, 3, 3, 2, 3, 3, 3]);
  expect(layer.forward(ones(4, 5, 5)).shape).toEqual([6, 3, 3]);
  expect(() => layer.forward(ones(1, 4, 6, 5))).toThrow('which has [4,3] places');
  expect(() => new nn.LocalConv2d(3, 4, 5, 3, { groups: 2 })).toThrow('do not divide');
  expect(() => new nn.LocalConv2d(3, 4, 2, 3)).toThrow('does not fit');
  expect(() => F.localConv2d(ones(1, 1, 2, 2), ones(1, 2, 2, 1, 1, 1, 1), ones(2))).toThrow(
    'bias [2] does not fit 1',
  );
});
