// VGG against torchvision's. Slow: each model is half a gigabyte.
import { describe, expect, test } from 'vitest';
import { nn } from 'tengen';
import * as vision from 'tengen/vision';
import { expectSame, expectState, named, readFixture } from './support.ts';

const { models } = readFixture('vgg');
const { vgg11, vgg11Bn, vgg13, vgg13Bn, vgg16, vgg16Bn, vgg19, vgg19Bn } = vision;

describe('VGG', () => {
  test.each(named([vgg11, vgg13Bn]))(
    '%s computes the same',
    { timeout: 120_000 },
    async (name, build) => {
      expect(models[name]!.logits).toHaveLength(20);
      await expectSame(
        nn.init.skip(() => build({ numClasses: 10 })),
        models[name]!,
      );
    },
  );

  const others = [vgg11Bn, vgg13, vgg16, vgg16Bn, vgg19, vgg19Bn];
  test.each(named(others))('%s has the same state', { timeout: 120_000 }, (name, build) => {
    expectState(
      nn.init.skip(() => build({ numClasses: 10 })),
      models[name]!,
    );
  });
});
