// Networks for small machines against torchvision's: state dicts and scores.
import { describe, expect, test } from 'vitest';
import { ArgumentError, manualSeed, nn } from 'tengen';
import {
  mobilenetV2,
  mobilenetV3Large,
  mobilenetV3Small,
  shufflenetV2_x0_5,
  shufflenetV2_x1_0,
  shufflenetV2_x1_5,
  shufflenetV2_x2_0,
} from 'tengen/vision';
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
