// What DataLoader costs in one thread: milliseconds for a batch of images in memory.
import { collateToArrays, DataLoader, ImageDataset } from '../src/data.ts';
import { compose, normalize, toFloat } from '../src/interface/data/transforms.ts';
import '../src/index.ts';
import { median } from './harness.ts';

const COUNT = 12_800;
const set = new ImageDataset({
  images: Uint8Array.from({ length: COUNT * 784 }, (_, i) => i & 255),
  imageShape: [1, 28, 28],
  labels: new Uint8Array(COUNT),
  classes: ['a'],
  transform: compose(toFloat(), normalize(0.1307, 0.3081)),
});
const loader = new DataLoader(set, { batchSize: 64, shuffle: true, collate: collateToArrays });
const times: number[] = [];
for (let epoch = 0; epoch < 12; epoch++) {
  const start = performance.now();
  let batches = 0;
  for await (const _batch of loader) batches++;
  times.push((performance.now() - start) / batches);
}
console.log(`64 images of 28x28, shuffled: ${median(times.slice(2)).toFixed(3)} ms a batch`);
