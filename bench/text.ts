// W7: a training step of a small GPT with AdamW, and a forward pass of GPT-2's small shape.
import { F, nn, optim, tensor, type Tensor } from 'tengen';
import { GPT } from 'tengen/text';
import { noise, type Row, rowOf, time, timeResult } from './harness.ts';

function filled(options: ConstructorParameters<typeof GPT>[0]): GPT {
  const model = nn.init.skip(() => new GPT(options));
  let seed = 1;
  for (const parameter of model.parameters()) {
    parameter.setData(noise(parameter.size, seed++).map((value) => value * 0.05));
  }
  return model;
}

const tokens = (count: number, vocabulary: number): Int32Array =>
  Int32Array.from({ length: count }, (_, i) => (i * 7919) % vocabulary);

/** A training step of four layers, eight texts of 128 tokens. */
export function gptStep(): () => void {
  const model = filled({ layers: 4, width: 256, heads: 4, contextLength: 128, vocabulary: 256 });
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  return () => {
    const scores = model.forward(tensor(tokens(1024, 256), { shape: [8, 128] }));
    const loss = F.crossEntropy(scores.reshape(-1, 256), tensor(tokens(1024, 256)));
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
  };
}

/** Scores of 128 tokens by GPT-2's small shape. */
export function gpt2Forward(): () => Tensor {
  const model = filled({ layers: 12, width: 768, heads: 12, contextLength: 128 });
  model.eval();
  const input = tensor(tokens(128, 50257), { shape: [1, 128] });
  return () => model.forward(input);
}

function forward(threads: number): Row {
  const flop = 2 * 128 * (12 * 12 * 768 * 768 + 768 * 50257) + 12 * 4 * 128 * 128 * 768;
  const times = timeResult(gpt2Forward(), { warmup: 4, milliseconds: 5000 });
  return rowOf('W7 gpt2-small fwd t128 b1', threads, times, flop);
}

export function benchText(threads: number): Row[] {
  const step = time(gptStep(), { warmup: 4, milliseconds: 5000 });
  return [rowOf('W7 gpt-4x256 train b8 t128', threads, step), forward(threads)];
}
