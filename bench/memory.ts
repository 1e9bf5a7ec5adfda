// W3: what is bound by memory and by mathematics. Limits: bench/limits.ts.
import { evaluate, F, randn, type Tensor } from 'tengen';
import { type Row, rowOf, timeResult } from './harness.ts';

/** Name, inputs and function of each workload. */
type Workload = readonly [
  name: string,
  shapes: readonly (readonly number[])[],
  run: (...inputs: Tensor[]) => Tensor,
];

const WORKLOADS: readonly Workload[] = [
  [
    'W3 chain 4M',
    [[4 * 1024 * 1024]],
    (x) => x.mul(2).add(1).sigmoid().mul(x.tanh()).sub(F.relu(x)),
  ],
  ['W3 softmax 4096x1000', [[4096, 1000]], (x) => F.softmax(x, -1)],
  [
    'W3 layernorm 4096x768',
    [[4096, 768], [768], [768]],
    (x, weight, bias) => F.layerNorm(x, [768], { weight, bias }),
  ],
  ['W3 sum axis0 4096x1024', [[4096, 1024]], (x) => x.sum(0)],
  ['W3 sum axis1 4096x1024', [[4096, 1024]], (x) => x.sum(1)],
  ['max pool 2x2 64x32x28x28', [[64, 32, 28, 28]], (x) => F.maxPool2d(x, 2)],
];

export function benchMemory(threads: number): Row[] {
  return WORKLOADS.map(([name, shapes, run]) => {
    const inputs = shapes.map((shape) => randn(shape));
    evaluate(...inputs);
    return rowOf(
      name,
      threads,
      timeResult(() => run(...inputs)),
    );
  });
}
