// A training loop holds what it held after its first steps: on the device to the byte, on the heap
// but for noise. (test/e2e/steps.ts measures resident memory over 10,000 steps.)
import { expect, test } from 'vitest';
import { F, manualSeed, memory, optim, type Tensor, tensor } from 'tengen';
import { DigitNet } from '../../examples/mnist/model.ts';

const BATCH = 2;

function newStep(): () => Promise<void> {
  manualSeed(0);
  const model = new DigitNet();
  const optimizer = new optim.AdamW(model.parameters(), { lr: 0.001 });
  const shape = [BATCH, 1, 28, 28];
  let count = 0;
  return async () => {
    count++;
    const pixels = Float32Array.from({ length: BATCH * 784 }, (_, i) => Math.sin(i * 0.37 + count));
    const labels: Tensor = tensor([count % 10, (count + 3) % 10], { dtype: 'int32' });
    const scores = model.forward(tensor(pixels, { shape }));
    const loss = F.crossEntropy(scores, labels);
    const right = scores.argmax(1).eq(labels).float().mean();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    await loss.item();
    await right.item();
    await scores.data();
    await new Promise((resolve) => setImmediate(resolve));
  };
}

/** Bytes that stay after a collection and its finalizers. */
async function held(): Promise<{ device: number; heap: number }> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { device: memory().allocated, heap: heapUsed + arrayBuffers };
}

test('400 steps hold no more than 100', { timeout: 120_000 }, async () => {
  expect(globalThis.gc, 'run with --expose-gc').toBeDefined();
  const step = newStep();
  for (let i = 0; i < 100; i++) await step();
  const before = await held();
  for (let i = 0; i < 300; i++) await step();
  const after = await held();
  expect(after.device).toBe(before.device);
  // The optimizing compiler comes and goes with some 0.4 MB; one graph per step would be 50 MB.
  expect(after.heap - before.heap).toBeLessThan(1e6);
});
