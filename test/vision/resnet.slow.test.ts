// The larger ResNets and ResNeXts against torchvision's.
import { describe, expect, test } from 'vitest';
import { nn } from 'tengen';
import {
  resnet34,
  resnet50,
  resnet101,
  resnet152,
  resnext50_32x4d,
  resnext101_32x8d,
} from 'tengen/vision';
import { expectSame, expectState, named, readFixture } from './support.ts';

const { models } = readFixture('resnet');

describe('large ResNets', () => {
  const computed = [resnet34, resnet50, resnet101, resnext50_32x4d];
  test.each(named(computed))('%s computes the same', { timeout: 120_000 }, async (name, build) => {
    expect(models[name]!.logits).toHaveLength(20);
    await expectSame(
      nn.init.skip(() => build({ numClasses: 10 })),
      models[name]!,
    );
  });

  test.each(named([resnet152, resnext101_32x8d]))('%s has the same state', (name, build) => {
    expectState(
      nn.init.skip(() => build({ numClasses: 10 })),
      models[name]!,
    );
  });
});
