// A network that was trained, dumped and loaded reads the same digits as before.
import { expect, test } from 'vitest';
import { DigitNet, evaluate, trainEpoch } from '../../examples/mnist/model.ts';
import { DataLoader, datasets, transforms } from '../../src/data.ts';
import { load } from '../../src/lite-node.ts';
import { dim, manualSeed, noGrad, optim, randn, spec, type Tensor, trace } from '../../src/node.ts';

test('evaluation after dump and load: the same answers', async () => {
  manualSeed(4);
  const model = new DigitNet();
  const transform = transforms.toFloat();
  const train = new DataLoader(datasets.strokes({ size: 3200, transform }), {
    batchSize: 64,
    shuffle: true,
  });
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.05, momentum: 0.9 });
  const schedule = new optim.OneCycleLR(optimizer, { maxLr: 0.1, totalSteps: 50 });
  for await (const _ of trainEpoch(model, optimizer, schedule, train, (step) => trace(step)));
  // 520: the last batch is smaller, of a size that the file holds no program for.
  const held = datasets.strokes({ size: 520, split: 'test', transform });
  const batches = () => new DataLoader(held, { batchSize: 128 });
  const { accuracy } = await evaluate(model, batches());
  expect(accuracy).toBeGreaterThan(0.5);

  const read = trace((images: Tensor) => noGrad(() => model.forward(images)));
  const { bytes } = await read.dump(null, {
    inputs: [spec([dim('batch'), 1, 28, 28])],
    testCases: [[randn(8, 1, 28, 28)]],
    module: model,
  });
  const loaded = await load(bytes!, { threads: 1 });
  let right = 0;
  let total = 0;
  for await (const [images, labels] of batches()) {
    const count = images.shape[0]!;
    const { output } = await loaded.run({
      data: await images.data(),
      shape: [count, 1, 28, 28],
    });
    const wanted = await labels.data();
    for (let i = 0; i < count; i++) {
      const scores = output!.data.subarray(10 * i, 10 * i + 10);
      if (scores.indexOf(Math.max(...scores)) === wanted[i]) right++;
      total++;
    }
  }
  expect(right / total).toBeCloseTo(accuracy, 10);
});
