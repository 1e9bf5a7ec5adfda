// What memory budgets save and cost: `npm run memory-budget`. A training step of ResNet-50, batch 32 at
// 64x64, under ever smaller budgets; residual networks of growing depth under 'sqrt', with a plot
// (--plot FILE). All of it is planned and not run; --time times the step with a third of its memory.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  BudgetError,
  clearPlans,
  env,
  evaluate,
  F,
  manualSeed,
  optim,
  type PlanMemory,
  planMemory,
  randn,
  setDefaultDevice,
  setMemoryBudget,
  zeros,
} from 'tengen';
import { ResNet, resnet50 } from 'tengen/vision';
import { median } from './harness.ts';
import { PLANNER, registerPlanner } from './planner.ts';
import { scalingPlot } from './scaling-plot.ts';

const BATCH = 32;
const SIZE = 64;

/** A training step: forward, backward, SGD with momentum. */
function trainingOf(model: ResNet): () => void {
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const x = randn([BATCH, 3, SIZE, SIZE]);
  const y = zeros([BATCH], { dtype: 'int32' });
  evaluate(x, y, ...model.parameters());
  return () => {
    const loss = F.crossEntropy(model.forward(x), y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
  };
}

type Budget = number | 'sqrt' | null;

/** The plan of a step under a budget, after a first step has made the optimizer's state. */
function planned(step: () => void, budget: Budget): PlanMemory {
  setMemoryBudget(budget);
  try {
    step();
  } finally {
    setMemoryBudget(null);
  }
  const plans = planMemory({ plans: 8 }).filter((plan) => plan.budget === budget);
  return plans.sort((a, b) => b.unbudgetedBytes - a.unbudgetedBytes)[0] as PlanMemory;
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1).padStart(8);
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`.padStart(8);

function printPlan(name: string, plan: PlanMemory): void {
  const { arenaBytes, unbudgetedBytes, recomputedKernels, extraFlops, flops, searchMs } = plan;
  console.log(
    `${name.padEnd(14)}${megabytes(arenaBytes)} MB ${percent(arenaBytes / unbudgetedBytes)}  ` +
      `${String(recomputedKernels).padStart(5)} kernels again, ${percent(extraFlops / flops)} more work, ` +
      `found in ${searchMs.toFixed(0)} ms`,
  );
}

function budgets(): void {
  console.log(`ResNet-50, a training step at batch ${BATCH}, ${SIZE}x${SIZE}`);
  const step = trainingOf(resnet50());
  step();
  const full = planned(step, null);
  printPlan('no budget', full);
  for (const divisor of [1.5, 2, 2.5, 3, 4, 5]) {
    const budget = Math.floor(full.arenaBytes / divisor);
    try {
      printPlan(`1/${divisor}`, planned(step, budget));
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error;
      console.log(`1/${divisor}: ${error.message}`);
      printPlan('the smallest', planned(step, error.smallest));
      break;
    }
  }
  printPlan('sqrt', planned(step, 'sqrt'));
}

/** The exponent of a power law through points, by least squares of logarithms. */
function exponentOf(points: readonly (readonly [x: number, y: number])[]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)] as const);
  const mean = (at: 0 | 1): number => logs.reduce((sum, log) => sum + log[at], 0) / logs.length;
  const [mx, my] = [mean(0), mean(1)];
  let [above, below] = [0, 0];
  for (const [x, y] of logs) {
    above += (x - mx) * (y - my);
    below += (x - mx) ** 2;
  }
  return above / below;
}

/** Blocks in the third stage of a bottleneck network of so many layers, and in the others. */
const DEPTHS: readonly (readonly [layers: number, blocks: [number, number, number, number]])[] = [
  [50, [3, 4, 6, 3]],
  [101, [3, 4, 23, 3]],
  [152, [3, 8, 36, 3]],
  [302, [3, 8, 86, 3]],
];

function depths(file: string | undefined): void {
  console.log(`\nresidual networks of growing depth, batch ${BATCH}, ${SIZE}x${SIZE}`);
  const series = { none: [] as [number, number][], sqrt: [] as [number, number][] };
  for (const [layers, blocks] of DEPTHS) {
    clearPlans();
    const step = trainingOf(new ResNet({ block: 'bottleneck', layers: blocks }));
    step();
    const plan = planned(step, 'sqrt');
    series.none.push([layers, plan.unbudgetedBytes / 1e6]);
    series.sqrt.push([layers, plan.arenaBytes / 1e6]);
    printPlan(`${layers} layers`, plan);
  }
  const lines = [
    { name: 'no budget', points: series.none, exponent: exponentOf(series.none) },
    { name: "memoryBudget: 'sqrt'", points: series.sqrt, exponent: exponentOf(series.sqrt) },
  ];
  for (const { name, exponent } of lines) {
    console.log(`${name}: bytes grow as layers^${exponent.toFixed(2)}`);
  }
  if (file !== undefined) writeFileSync(file, scalingPlot(lines));
}

/** Times of both steps, taken in turns: what disturbs the machine disturbs both. */
function timed(): void {
  console.log(`\ntime of a step, on ${env().device}, ${env().threads} threads`);
  manualSeed(1);
  const step = trainingOf(resnet50());
  const full = planned(step, null);
  const third = Math.floor(full.arenaBytes / 3);
  const times: Record<'full' | 'third', number[]> = { full: [], third: [] };
  for (let round = 0; round < 10; round++) {
    for (const name of ['full', 'third'] as const) {
      setMemoryBudget(name === 'full' ? null : third);
      const start = performance.now();
      step();
      // The first rounds compile, and make kernels warm.
      if (round >= 2) times[name].push(performance.now() - start);
    }
  }
  setMemoryBudget(null);
  const [before, after] = [median(times.full), median(times.third)];
  console.log(
    `no budget ${before.toFixed(0)} ms, a third of the memory ${after.toFixed(0)} ms: ratio ${(after / before).toFixed(3)}`,
  );
}

const { values } = parseArgs({
  options: { time: { type: 'boolean' }, plot: { type: 'string' } },
});
const { device } = env();
if (values.time === true) timed();
else {
  registerPlanner(device);
  setDefaultDevice(PLANNER);
  budgets();
  depths(values.plot);
}
