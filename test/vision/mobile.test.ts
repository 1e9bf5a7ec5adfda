// Networks for small machines against torchvision's: state dicts and scores.
import { describe, expect, test } from 'vitest';
import { ArgumentError, manualSeed, nn, ones } from 'tengen';
import {
  efficientnetB0,
  mobilenetV2,
  mobilenetV3Large,
  mobilenetV3Small,
  shufflenetV1,
  shufflenetV2_x0_5,
  shufflenetV2_x1_0,
  shufflenetV2_x1_5,
  shufflenetV2_x2_0,
} from 'tengen/vision';
import { StochasticDepth } from '../../src/interface/vision/blocks.ts';
import { expectSame, expectState, named, readFixture } from './support.ts';

const { models } = readFixture('mobile');

describe('networks for small machines', () => {
  const shuffle = [shufflenetV2_x0_5, shufflenetV2_x1_0, shufflenetV2_x1_5, shufflenetV2_x2_0];
  test.each(named(shuffle))('%s', async (name, build) => {
    const model = nn.init.skip(() => build({ numClasses: 10 }));
    await expectSame(model, models[name]!);
  });

  const mobile = [mobilenetV2, mobilenetV3Small, mobilenetV3Large];
  test.each(named<(typeof mobile)[number]>(mobile))('%s', async (name, build) => {
    const model = nn.init.skip(() => build({ numClasses: 10 }));
    await expectSame(model, models[name]!);
    const half = nn.init.skip(() => build({ numClasses: 10, widthMult: 0.5 }));
    expectState(half, models[`${name} half`]!);
    expect(() => build({ widthMult: 0 })).toThrow(ArgumentError);
  });

  test('efficientnetB0', async () => {
    await expectSame(
      nn.init.skip(() => efficientnetB0({ numClasses: 10 })),
      models['efficientnetB0']!,
    );
  });

  test('shufflenetV1', async () => {
    await expectSame(
      nn.init.skip(() => shufflenetV1({ numClasses: 10 })),
      models['shufflenetV1']!,
    );
    await expectSame(
      nn.init.skip(() => shufflenetV1({ numClasses: 10, groups: 8 })),
      models['shufflenetV1 groups 8']!,
    );
    const counts = ([1, 2, 3, 4, 8] as const).map((groups) => {
      const model = nn.init.skip(() => shufflenetV1({ groups }));
      return model.parameters().reduce((sum, { size }) => sum + size, 0);
    });
    // With 1000 classes, by groups: as other implementations of the paper count them.
    expect(counts).toEqual([1531936, 1733848, 1865728, 1968344, 2434768]);
    expect(() => shufflenetV1({ groups: 2, widthMult: 0.25 })).toThrow(ArgumentError);
    expect(() => shufflenetV1({ groups: 5 as 4 })).toThrow('groups must be');
  });

  test('stochastic depth leaves whole images out of a block, in training only', () => {
    manualSeed(1);
    const layer = new StochasticDepth(0.25);
    const y = layer
      .forward(ones([400, 2, 1, 2]))
      .reshape(400, 4)
      .dataSync();
    const rows = Array.from({ length: 400 }, (_, i) => new Set(y.slice(4 * i, 4 * i + 4)));
    expect(rows.every((row) => row.size === 1)).toBe(true);
    const kept = rows.filter((row) => row.has(Math.fround(4 / 3))).length;
    expect(kept + rows.filter((row) => row.has(0)).length).toBe(400);
    expect(kept / 400).toBeCloseTo(0.75, 1);
    const x = ones([2, 2]);
    expect(layer.eval().forward(x)).toBe(x);
  });

  test('mobilenetV2 starts as torchvision does', () => {
    manualSeed(5);
    const model = mobilenetV2({ numClasses: 10, widthMult: 0.25 });
    const [first, last] = ['features.0.0.weight', 'classifier.1.weight'].map((name) => {
      const values = model.stateDict()[name]!.float().dataSync();
      return Math.hypot(...values.values()) / Math.sqrt(values.length);
    });
    expect(first! / Math.sqrt(2 / (8 * 9))).toBeCloseTo(1, 0);
    expect(last! / 0.01).toBeCloseTo(1, 1);
  });
});
