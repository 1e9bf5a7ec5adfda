// Trains the digit reader for many steps on one batch and prints resident memory as JSON:
//   npx tsx test/e2e/steps.ts [steps] [batch]
// One line: { steps, batch, early, late } with the peaks, in bytes, of steps 100-1100 (or a tenth)
// and of as many at the end.
import { F, manualSeed, optim, tensor } from 'tengen';
import { DigitNet } from '../../examples/mnist/model.ts';

const [steps = 10_000, batch = 64] = process.argv.slice(2).map(Number);
const span = Math.min(1000, steps / 10);

manualSeed(0);
const model = new DigitNet();
const optimizer = new optim.SGD(model.parameters(), { lr: 0.001, momentum: 0.9 });
let early = 0;
let late = 0;
for (let step = 0; step < steps; step++) {
  const pixels = Float32Array.from({ length: batch * 784 }, (_, i) => Math.sin(i * 0.37 + step));
  const labels = Int32Array.from({ length: batch }, (_, i) => (i + step) % 10);
  const scores = model.forward(tensor(pixels, { shape: [batch, 1, 28, 28] }));
  const loss = F.crossEntropy(scores, tensor(labels));
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
  if (!Number.isFinite(await loss.item()))
    throw new Error(`the loss of step ${step} is not finite`);
  // A turn of the event loop, as any program that draws progress takes: finalizers run in it.
  await new Promise((resolve) => setImmediate(resolve));
  const resident = process.memoryUsage.rss();
  if (step >= 100 && step < 100 + span) early = Math.max(early, resident);
  if (step >= steps - span) late = Math.max(late, resident);
}
console.log(JSON.stringify({ steps, batch, early, late }));
