// The model of which test/lite/files holds a program file for every version of the format.
//   npx tsx test/lite/golden-model.ts   writes that of the present version; it must never change.
import { fileURLToPath } from 'node:url';
import { FORMAT_VERSION } from '../../src/interface/lite/header.ts';
import {
  F,
  manualSeed,
  nn,
  noGrad,
  rand,
  randn,
  type Tensor,
  tensor,
  trace,
} from '../../src/node.ts';

/** Convolution, normalisation, an embedding with its promise, a random draw, a state and two results. */
export async function goldenModel(): Promise<Uint8Array> {
  manualSeed(11);
  const conv = new nn.Conv2d(2, 4, 3, { padding: 1 });
  const norm = new nn.BatchNorm2d(4).eval();
  const table = randn(5, 4);
  const count = new nn.Buffer(tensor([0]));
  const fn = (x: Tensor, i: Tensor) =>
    noGrad(() => {
      const features = F.maxPool2d(norm.forward(conv.forward(x)).relu(), 2).mean([2, 3]);
      count.assign(count.add(1));
      const scores = F.softmax(features.add(F.embedding(i, table)), 1);
      return { scores, noise: rand(2).mul(0), count: count.mul(1) };
    });
  const inputs = [randn(2, 2, 6, 6), tensor([1, 4], { dtype: 'int32' })];
  const { bytes } = await trace(fn, { name: 'golden' }).dump(null, {
    inputs,
    names: { inputs: ['image', 'index'] },
    testCases: [inputs],
    numerics: ['fast', 'strict'],
    metadata: { about: 'a file of every kind of thing' },
  });
  return bytes as Uint8Array;
}

export const goldenPath = (version: number): string =>
  fileURLToPath(new URL(`files/version-${version}.tengen`, import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { existsSync, writeFileSync } = await import('node:fs');
  const path = goldenPath(FORMAT_VERSION);
  if (existsSync(path)) throw new Error(`${path} is there: raise the version of the format`);
  writeFileSync(path, await goldenModel());
  process.exit(0);
}
