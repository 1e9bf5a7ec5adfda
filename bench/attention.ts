// Attention by L, head size and masks: milliseconds of the composite and of the fused op, in turns.
import { parseArgs } from 'node:util';
import { configure, evaluate, explain, F, noGrad, tensor, valueAndGrad } from 'tengen';
import type { Tensor } from 'tengen';
import 'tengen/native';
import { noise } from './harness.ts';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'native' },
    threads: { type: 'string', default: '2' },
    lengths: { type: 'string', default: '64,128,256,512,1024,2048,4096' },
    sizes: { type: 'string', default: '64' },
    heads: { type: 'string', default: '32' },
    ms: { type: 'string', default: '600' },
    explain: { type: 'boolean', default: false },
    modes: { type: 'string', default: 'full,causal' },
  },
});
configure({ device: values.device, threads: Number(values.threads) });
const list = (text: string): number[] => text.split(',').map(Number);

function inTurns(runs: readonly (() => void)[]): number[] {
  const best = runs.map(() => Infinity);
  for (const run of runs) for (let i = 0; i < 3; i++) run();
  const end = performance.now() + Number(values.ms) * runs.length;
  let rounds = 0;
  while (performance.now() < end || rounds < 3) {
    rounds++;
    runs.forEach((run, i) => {
      const start = performance.now();
      run();
      best[i] = Math.min(best[i]!, performance.now() - start);
    });
  }
  return best;
}

for (const size of list(values.sizes)) {
  for (const length of list(values.lengths)) {
    for (const mode of values.modes.split(',')) {
      // The same number of score rows, so that large L do not take for ever.
      const heads = Math.max(2, Math.min(Number(values.heads), Math.floor((32 * 1024) / length)));
      const keys = Number(process.env['KEYS'] ?? length);
      const make = (seed: number, length: number): Tensor =>
        tensor(noise(heads * length * size, seed), { shape: [heads, length, size] });
      const [q, k, v, g] = [make(1, length), make(2, keys), make(3, keys), make(4, length)];
      evaluate(q, k, v, g);
      const attnMask =
        mode === 'mask'
          ? tensor(
              Float32Array.from({ length: length * length }, (_, i) =>
                i % length > Math.floor(i / length) ? -1e9 : 0,
              ),
              { shape: [length, length] },
            )
          : null;
      const options = { isCausal: mode === 'causal', attnMask };
      const forward = (): Tensor => noGrad(() => F.scaledDotProductAttention(q, k, v, options));
      const both = valueAndGrad(
        (a: Tensor, b: Tensor, c: Tensor) =>
          F.scaledDotProductAttention(a, b, c, options).mul(g).sum(),
        { argnums: [0, 1, 2] },
      );
      const withFlag = (flag: string, run: () => void) => () => {
        process.env['FUSED'] = flag;
        run();
      };
      const f = (): void => evaluate(forward());
      const b = (): void => {
        const { value, grads } = both(q, k, v);
        evaluate(value, ...grads);
      };
      const times = inTurns([
        withFlag('0', f),
        withFlag('1', f),
        withFlag('0', b),
        withFlag('1', b),
      ]);
      const [fc, ff, bc, bf] = times as [number, number, number, number];
      const text = [fc, ff, fc / ff, bc, bf, bc / bf].map((t) => t.toFixed(2).padStart(8)).join('');
      console.log(`${values.device} D${size} L${length} heads ${heads} ${mode}`.padEnd(42) + text);
      if (values.explain) {
        process.env['FUSED'] = '1';
        console.log(explain());
      }
    }
  }
}
