// Vision and Swin transformers against torchvision's: state dicts and scores.
import { describe, expect, test } from 'vitest';
import { ArgumentError, manualSeed, nn, ShapeError, trace, zeros } from 'tengen';
import { SwinTransformer, swinT, VisionTransformer, vitB16, vitB32 } from 'tengen/vision';
import { expectSame, expectState, fill, images, readFixture } from './support.ts';

const { models } = readFixture('transformers');

const tiny = { patchSize: 8, numLayers: 2, numHeads: 4, hiddenDim: 32, mlpDim: 48 };
const vit = (options = {}): VisionTransformer =>
  nn.init.skip(() => new VisionTransformer(tiny, { imageSize: 32, numClasses: 5, ...options }));
const swin = (options = {}): SwinTransformer => {
  const layout = { embedDim: 8, depths: [2, 2], numHeads: [2, 4], windowSize: 4 };
  return nn.init.skip(() => new SwinTransformer(layout, { numClasses: 5, ...options }));
};

describe('vision transformers', () => {
  test.each([vitB16, vitB32])('%o has the state dict of torchvision', (build) => {
    expectState(
      nn.init.skip(() => build({ numClasses: 10 })),
      models[build.name]!,
    );
  });

  test('scores', async () => {
    await expectSame(vit(), models['vit']!, 32);
    await expectSame(vit({ representationSize: 12 }), models['vit representation']!, 32);
  });

  test('start as torchvision does: scores of 0', async () => {
    manualSeed(3);
    const model = new VisionTransformer(tiny, { imageSize: 16, numClasses: 3 }).eval();
    expect(await model.forward(images(1, 16)).array()).toEqual([[0, 0, 0]]);
    const { weight } = model.convProj;
    const values = weight.dataSync();
    expect(Math.hypot(...values.values()) / Math.sqrt(values.length)).toBeCloseTo(
      Math.sqrt(1 / 192),
      2,
    );
  });

  test('dropout in training only', async () => {
    const model = vit({ dropout: 0.5, attentionDropout: 0.5 });
    fill(model);
    const x = images(1, 32);
    const run = async (): Promise<unknown> => model.forward(x).array();
    expect(await run()).not.toEqual(await run());
    model.eval();
    expect(await run()).toEqual(await run());
  });

  test('refuse other sizes', () => {
    const model = vit();
    expect(() => model.forward(zeros([1, 3, 40, 40]))).toThrow(ShapeError);
    expect(() => model.forward(zeros([1, 3, 40, 40]))).toThrow(
      'expected images [batch, 3, 32, 32]',
    );
    expect(() => vit({ imageSize: 30 })).toThrow(ArgumentError);
    expect(() => new VisionTransformer({ ...tiny, numHeads: 5 })).toThrow(ArgumentError);
    expect(() => vit({ numClasses: 0 })).toThrow(ArgumentError);
  });
});

describe('swin transformers', () => {
  test('swinT has the state dict of torchvision', () => {
    expectState(
      nn.init.skip(() => swinT({ numClasses: 10 })),
      models['swinT']!,
    );
  });

  test.each([32, 44])('scores of images of %i', async (size) => {
    await expectSame(swin(), models[`swin ${size}`]!, size);
  });

  test('positions within a window are numbered as in torchvision', () => {
    const index = swin().stateDict()['features.1.0.attn.relative_position_index']!;
    // A window of 4: the table has 7 rows of 7, the same place is in its middle.
    expect(Array.from(index.dataSync().slice(0, 5))).toEqual([24, 23, 22, 21, 17]);
    expect(index.dtype).toBe('int32');
  });

  test('train, and run traced', async () => {
    manualSeed(4);
    const layout = { embedDim: 8, depths: [2, 1], numHeads: [2, 2], windowSize: 2 };
    const model = new SwinTransformer(layout, { numClasses: 3, stochasticDepth: 0.5 });
    const x = images(2, 16);
    model.forward(x).square().sum().backward();
    for (const [name, parameter] of model.namedParameters()) {
      expect(parameter.grad, name).not.toBeNull();
    }
    model.eval();
    const fast = trace((input: typeof x) => model.forward(input));
    const expected = await model.forward(x).array();
    expect(await fast(x).array()).toEqual(expected);
    expect(await fast(x).array()).toEqual(expected);
  });

  test('refuse layouts that do not fit', () => {
    const of = (layout: object) => () =>
      new SwinTransformer({ embedDim: 8, depths: [1], numHeads: [2], ...layout });
    expect(of({ depths: [1, 1] })).toThrow('2 depths and 1 numHeads');
    expect(of({ numHeads: [3] })).toThrow('3 heads do not divide 8 channels');
    expect(of({ depths: [0] })).toThrow(ArgumentError);
    expect(of({ windowSize: 0 })).toThrow(ArgumentError);
  });
});
