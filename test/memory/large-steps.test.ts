// Large training steps take less memory than they might, unasked, where that costs next to nothing.
import { expect, test } from 'vitest';
import { configure, evaluate, explain, F, optim, planMemory, randn, zeros } from 'tengen';
import { resnet18 } from 'tengen/vision';
import { PLANNER, registerPlanner } from '../../bench/planner.ts';

registerPlanner('wasm');
configure({ device: PLANNER });

/** Plans a step of ResNet-18 on images of 32 x 32. */
function plan(batch: number): NonNullable<ReturnType<typeof planMemory>[0]> {
  const model = resnet18({ numClasses: 10, stem: 'cifar' });
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01 });
  const loss = F.crossEntropy(
    model.forward(zeros([batch, 3, 32, 32])),
    zeros([batch], { dtype: 'int32' }),
  );
  loss.backward();
  optimizer.step();
  evaluate(loss);
  return planMemory()[0]!;
}

test('a large step is planned in 0.6 of its memory for less than 1 % more work', () => {
  const memory = plan(128);
  expect(memory.budget).toBeNull();
  expect(memory.unbudgetedBytes).toBeGreaterThan(2 ** 28);
  expect(memory.arenaBytes).toBeLessThanOrEqual(0.6 * memory.unbudgetedBytes);
  expect(memory.recomputedKernels).toBeGreaterThan(0);
  expect(memory.extraFlops).toBeLessThanOrEqual(0.01 * memory.flops);
  expect(explain()).toMatch(/^memory: .* less, for \d+ kernels that run again/m);
});

test('a small one stays as it is, and so do plans without anything to compute again', () => {
  expect(plan(8)).toMatchObject({ recomputedKernels: 0, savedBytes: 0 });
  const x = randn([8192, 8192]);
  evaluate(x.matmul(x).matmul(x));
  expect(planMemory()[0]).toMatchObject({ recomputedKernels: 0, savedBytes: 0 });
});
