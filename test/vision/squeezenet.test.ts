// SqueezeNet against torchvision's: state dicts and scores.
import { describe, expect, test } from 'vitest';
import { manualSeed, nn } from 'tengen';
import { squeezenet1_0, squeezenet1_1 } from 'tengen/vision';
import { expectSame, named, readFixture } from './support.ts';

const { models } = readFixture('squeezenet');

describe('SqueezeNet', () => {
  test.each(named([squeezenet1_0, squeezenet1_1]))('%s', async (name, build) => {
    await expectSame(
      nn.init.skip(() => build({ numClasses: 10 })),
      models[name]!,
    );
  });

  test('the last convolution starts small', () => {
    manualSeed(2);
    const state = squeezenet1_1({ numClasses: 10 }).stateDict();
    const deviation = (name: string): number => {
      const values = state[name]!.float().dataSync();
      return Math.hypot(...values.values()) / Math.sqrt(values.length);
    };
    expect(deviation('classifier.1.weight') / 0.01).toBeCloseTo(1, 1);
    expect(deviation('features.3.expand3x3.weight') / Math.sqrt(2 / (16 * 9))).toBeCloseTo(1, 1);
    expect(deviation('features.3.expand3x3.bias')).toBe(0);
  });
});
