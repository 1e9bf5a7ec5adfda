// Attention in blocks beside softmax(q kᵀ) v with stored scores, in turns: milliseconds of forward,
// and of forward with backward, the best of each, and megabytes of the backward plan's arena.
//   npx tsx bench/attention.ts [--device native] [--lengths 64,128] [--sizes 64] [--modes full,causal,mask]
import { parseArgs } from 'node:util';
import { configure, evaluate, explain, F, noGrad, ones, tensor, valueAndGrad } from 'tengen';
import type { Tensor } from 'tengen';
import 'tengen/native';
import { noise } from './harness.ts';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'native' },
    threads: { type: 'string', default: '2' },
    lengths: { type: 'string', default: '64,128,256,512,1024,2048,4096' },
    sizes: { type: 'string', default: '32,64,128' },
    modes: { type: 'string', default: 'full,causal' },
    heads: { type: 'string', default: '32' },
    ms: { type: 'string', default: '500' },
  },
});
configure({ device: values.device, threads: Number(values.threads) });
const list = (text: string): number[] => text.split(',').map(Number);

/** The best time of each, all in turns, so that what else runs on the machine meets all alike. */
function inTurns(runs: readonly (() => void)[]): number[] {
  const best = runs.map(() => Infinity);
  for (const run of runs) for (let i = 0; i < 2; i++) run();
  const end = performance.now() + Number(values.ms) * runs.length;
  for (let round = 0; round < 4 || performance.now() < end; round++) {
    runs.forEach((run, i) => {
      const start = performance.now();
      run();
      best[i] = Math.min(best[i]!, performance.now() - start);
    });
  }
  return best;
}

type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;

function arenaMegabytes(): number {
  const [, amount, prefix = ''] = /arena ([\d.]+) (\w?)B/.exec(explain()) ?? [];
  return (Number(amount) * 1000 ** ' kMG'.indexOf(prefix || ' ')) / 1e6;
}

function measure(length: number, size: number, mode: string): void {
  // Fewer heads for long sequences: 32,768 rows of scores at most.
  const heads = Math.max(2, Math.min(Number(values.heads), Math.floor(32768 / length)));
  const make = (seed: number): Tensor =>
    tensor(noise(heads * length * size, seed), { shape: [heads, length, size] });
  const [q, k, v, g] = [make(1), make(2), make(3), make(4)] as const;
  const seen = ones([length, length]).tril().bool();
  const mask = seen.logicalNot().float().mul(-1e9);
  evaluate(q, k, v, g, seen, mask);
  const options = { isCausal: mode === 'causal', attnMask: mode === 'mask' ? mask : null };
  const fused: Attend = (a, b, c) => F.scaledDotProductAttention(a, b, c, options);
  const stored: Attend = (a, b, c) => {
    let scores = a.mul(1 / Math.sqrt(size)).matmul(b.transpose(-2, -1));
    if (mode === 'mask') scores = scores.add(mask);
    if (mode === 'causal') scores = scores.maskedFill(seen.logicalNot(), -Infinity);
    return F.softmax(scores, -1).matmul(c);
  };
  const forward = (attend: Attend) => () => noGrad(() => evaluate(attend(q, k, v)));
  const training = (attend: Attend) => {
    const both = valueAndGrad((a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c).mul(g).sum(), {
      argnums: [0, 1, 2],
    });
    return () => {
      const { value, grads } = both(q, k, v);
      evaluate(value, ...grads);
    };
  };
  const ways = [stored, fused];
  const times = inTurns([...ways.map(forward), ...ways.map(training)]);
  const arenas = ways.map((attend) => {
    training(attend)();
    return arenaMegabytes();
  });
  const row = [...times, ...arenas].map((n) => n.toPrecision(3).padStart(9)).join('');
  const [a = 0, b = 0, c = 0, d = 0] = times;
  const ratios = [a / b, c / d].map((n) => n.toFixed(2).padStart(6)).join('');
  console.log(`${values.device} E${size} L${length} x${heads} ${mode}`.padEnd(34) + row + ratios);
}

console.log(`${'forward stored, fused; with backward; arenas; ratios'.padStart(90)}`);
for (const size of list(values.sizes)) {
  for (const length of list(values.lengths)) {
    for (const mode of values.modes.split(',')) measure(length, size, mode);
  }
}
