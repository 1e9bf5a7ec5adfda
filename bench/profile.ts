// Kernel by kernel: what a workload spends where, and what each kernel reaches.
//   npx tsx bench/profile.ts step [--device native] [--threads 1]     the MNIST training step
//   npx tsx bench/profile.ts conv N C H W O K STRIDE PADDING GROUPS    a convolution, --backward too
//   npx tsx bench/profile.ts matmul M N K [BATCH]
//   npx tsx bench/profile.ts gpt                                      a training step of a small GPT
//   npx tsx bench/profile.ts gpt2                                     128 tokens through GPT-2
//   npx tsx bench/profile.ts resnet18-step                            a training step, CIFAR's stem
//   npx tsx bench/profile.ts resnet18 (resnet50, mobilenet_v2, shufflenet_v2)    one image
import { parseArgs } from 'node:util';
import {
  configure,
  evaluate,
  explain,
  F,
  noGrad,
  optim,
  profile,
  randn,
  tensor,
  valueAndGrad,
} from 'tengen';
import type { Tensor } from 'tengen';
import 'tengen/native';
import { DigitNet } from '../examples/mnist/model.ts';
import { noise } from './harness.ts';
import { inference, NETWORK_NAMES, resNetStep } from './networks.ts';
import { gpt2Forward, gptStep } from './text.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'native' },
    threads: { type: 'string', default: '1' },
    runs: { type: 'string', default: '20' },
    backward: { type: 'boolean', default: false },
    reasons: { type: 'boolean', default: false },
  },
});
configure({ device: values.device, threads: Number(values.threads) });

function trainingStep(): () => void {
  const model = new DigitNet();
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const pixels = noise(64 * 784);
  const labels = Int32Array.from({ length: 64 }, (_, i) => i % 10);
  return () => {
    const x = tensor(pixels, { shape: [64, 1, 28, 28] });
    const loss = F.crossEntropy(model.forward(x), tensor(labels, { shape: [64] }));
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
  };
}

function convolution(sizes: readonly number[]): () => void {
  const [n = 1, c = 64, h = 56, w = 56, o = 64, k = 3, stride = 1, padding = 1, groups = 1] = sizes;
  const x = randn([n, c, h, w]);
  const weight = randn([o, c / groups, k, k]);
  evaluate(x, weight);
  const options = { stride, padding, groups };
  if (!values.backward) return () => noGrad(() => evaluate(F.conv2d(x, weight, null, options)));
  const both = valueAndGrad((a: Tensor, b: Tensor) => F.conv2d(a, b, null, options).sum(), {
    argnums: [0, 1],
  });
  return () => evaluate(...both(x, weight).grads);
}

function product(sizes: readonly number[]): () => void {
  const [m = 1024, n = 1024, k = 1024, batch = 1] = sizes;
  const a = randn(batch === 1 ? [m, k] : [batch, m, k]);
  const b = randn(batch === 1 ? [k, n] : [batch, k, n]);
  evaluate(a, b);
  return () => noGrad(() => evaluate(a.matmul(b)));
}

function gpt2(): () => void {
  const forward = gpt2Forward();
  return () => {
    using scores = noGrad(forward);
    evaluate(scores);
  };
}

const SUBJECTS: Readonly<Record<string, (sizes: readonly number[]) => () => void>> = {
  step: trainingStep,
  conv: convolution,
  matmul: product,
  gpt: gptStep,
  'resnet18-step': resNetStep,
  gpt2,
  ...Object.fromEntries(NETWORK_NAMES.map((name) => [name, () => inference(name)])),
};
const [what = 'step', ...rest] = positionals;
const subject = SUBJECTS[what];
if (subject === undefined)
  throw new Error(`${what} is none of ${Object.keys(SUBJECTS).join(', ')}`);
const run = subject(rest.map(Number));
for (let i = 0; i < 10; i++) run();
await profile(() => {
  for (let i = 0; i < Number(values.runs); i++) run();
});
const lines = explain().split('\n');
console.log(
  (values.reasons ? lines : lines.filter((line) => !line.startsWith('     '))).join('\n'),
);
