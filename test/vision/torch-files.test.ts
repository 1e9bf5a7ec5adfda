// Files as PyTorch writes them, of small models with random weights: the state dict loaded into Tengen's
// own model and the exported ONNX graph give PyTorch's logits (scripts/torch-parity/export.py --small).
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { nn, noGrad, type Tensor, tensor } from 'tengen';
import { load, readNpy } from 'tengen/io';
import * as onnx from 'tengen/onnx';
import { SwinTransformer, VisionTransformer } from 'tengen/vision';
import { relativeError } from './support.ts';

const fixture = (name: string): string =>
  fileURLToPath(new URL(`fixtures/torch/${name}`, import.meta.url));

async function readTensor(name: string): Promise<Tensor> {
  const { data, shape } = await readNpy(fixture(name));
  return tensor(data).reshape([...shape]);
}

const models: Readonly<Record<string, () => nn.Layer>> = {
  cnn: () =>
    new nn.Sequential(
      new nn.Conv2d(3, 6, 3, { stride: 2, padding: 1, bias: false }),
      new nn.BatchNorm2d(6),
      new nn.Hardswish(),
      new nn.MaxPool2d(3, { stride: 2, padding: 1 }),
      new nn.Conv2d(6, 8, 3, { padding: 2, dilation: 2, groups: 2 }),
      new nn.SiLU(),
      new nn.AdaptiveAvgPool2d(2),
      new nn.Flatten(),
      new nn.Linear(32, 5),
      new nn.LogSoftmax(1),
    ),
  vit: () =>
    new VisionTransformer(
      { patchSize: 8, numLayers: 1, numHeads: 2, hiddenDim: 8, mlpDim: 16 },
      { imageSize: 16, numClasses: 5 },
    ),
  swin: () =>
    new SwinTransformer(
      { embedDim: 8, depths: [2, 1], numHeads: [2, 2], windowSize: 2 },
      { numClasses: 5 },
    ),
};

// Float32 against PyTorch's float32, which is itself 3e-7 from float64 (swin).
const TOLERANCE = 2e-6;

describe.each(Object.entries(models))('%s', (name, build) => {
  test('state dict', async () => {
    const model = nn.init.skip(build);
    model.loadStateDict(await load(fixture(`${name}.pt`)));
    model.eval();
    const images = await readTensor(`${name}.input.npy`);
    const logits = await noGrad(() => model.forward(images)).data();
    const expected = await readNpy(fixture(`${name}.logits.npy`));
    expect(relativeError(logits, Array.from(expected.data))).toBeLessThan(TOLERANCE);
  });

  test('ONNX', async () => {
    const model = await onnx.load(fixture(`${name}.onnx`));
    const images = await readTensor(`${name}.input.npy`);
    const { logits } = noGrad(() => model.run({ images }));
    const expected = await readNpy(fixture(`${name}.logits.npy`));
    expect(relativeError(await logits!.data(), Array.from(expected.data))).toBeLessThan(TOLERANCE);
  });
});
