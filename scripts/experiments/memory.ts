// Experiment 2 (docs/decisions/0002-memory.md): what long training costs in memory, which kernels
// each order of the usual loop runs, what a second copy of the parameters costs against the
// alternatives, and what becomes of large results that are kept or dropped in synchronous code.
//   npx tsx scripts/experiments/memory.ts                        all, 1,500 steps of the CNN
//   npx tsx scripts/experiments/memory.ts flat --model cnn --loop async --steps 10000
//   npx tsx scripts/experiments/memory.ts orders|cost|results
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { configure, evaluate, F, memory, nn, optim, resetStats, stats, tensor } from 'tengen';
import type { Tensor } from 'tengen';
import { DigitNet } from '../../examples/mnist/model.ts';
import { evaluator } from '../../src/interface/transform/install.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: 'mlp' },
    loop: { type: 'string', default: 'async' },
    steps: { type: 'string' },
    batch: { type: 'string', default: '64' },
    threads: { type: 'string', default: '2' },
  },
});

class Perceptron extends nn.Module {
  fc1 = new nn.Linear(784, 128);
  fc2 = new nn.Linear(128, 64);
  fc3 = new nn.Linear(64, 10);
  forward(images: Tensor): Tensor {
    const x = F.relu(this.fc1.forward(images.flatten(1)));
    return this.fc3.forward(F.relu(this.fc2.forward(x)));
  }
}

type Model = Perceptron | DigitNet;
interface Loop {
  readonly model: Model;
  readonly optimizer: optim.Adam | optim.SGD;
  readonly batch: number;
}

/** The MLP trains with Adam (two states a parameter), the CNN as the demo does. */
function newLoop(name: string, batch: number): Loop {
  if (name === 'mlp') {
    const model = new Perceptron();
    return { model, optimizer: new optim.Adam(model.parameters(), { lr: 1e-3 }), batch };
  }
  const model = new DigitNet();
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  return { model, optimizer, batch };
}

/** A batch as a loader hands it over: new arrays, new tensors. */
function batchOf(size: number, step: number): [Tensor, Tensor] {
  const pixels = new Float32Array(size * 784);
  for (let i = 0; i < pixels.length; i++) pixels[i] = ((i * 31 + step * 17) % 255) / 255;
  const labels = Int32Array.from({ length: size }, (_, i) => (i + step) % 10);
  return [tensor(pixels, { shape: [size, 1, 28, 28] }), tensor(labels)];
}

interface Values {
  readonly scores: Tensor;
  readonly loss: Tensor;
}

function forward({ model, batch }: Loop, step: number): Values {
  const [x, y] = batchOf(batch, step);
  const scores = model.forward(x);
  return { scores, loss: F.crossEntropy(scores, y) };
}

function update({ optimizer }: Loop, { loss }: Values): void {
  optimizer.zeroGrad();
  loss.backward();
  optimizer.step();
}

/** The orders in which people write a step (docs/deferred.md), synchronously. */
const ORDERS: Readonly<Record<string, (loop: Loop, step: number) => void>> = {
  'nothing read': (loop, step) => update(loop, forward(loop, step)),
  '(a) loss after step()': (loop, step) => {
    const values = forward(loop, step);
    update(loop, values);
    values.loss.itemSync();
  },
  '(b) scores used after step()': (loop, step) => {
    const values = forward(loop, step);
    update(loop, values);
    values.scores.argmax(1).dataSync();
  },
  '(c) loss before backward': (loop, step) => {
    const values = forward(loop, step);
    values.loss.itemSync();
    update(loop, values);
  },
};

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(2);

function parameterBytes({ model }: Loop): number {
  let bytes = 0;
  for (const { shape } of model.parameters()) bytes += 4 * shape.reduce((a, b) => a * b, 1);
  return bytes;
}

// ---- flat ---------------------------------------------------------------------------------------

/** Trains for long and prints peaks of resident memory per 100 steps. Fails if they rise. */
async function flat(name: string, kind: string, steps: number, batch: number): Promise<void> {
  const loop = newLoop(name, batch);
  const peaks: number[] = [];
  const device: number[] = [];
  const started = performance.now();
  for (let step = 0; step < steps; step++) {
    const values = forward(loop, step);
    update(loop, values);
    if (kind === 'sync') values.loss.itemSync();
    else {
      await values.loss.item();
      // What a real loop waits for now and then: a file, a worker, a timer.
      if (step % 10 === 9) await new Promise<void>((resolve) => setImmediate(resolve));
    }
    const block = Math.floor(step / 100);
    peaks[block] = Math.max(peaks[block] ?? 0, process.memoryUsage.rss());
    if (step % 100 === 99) device.push(memory().allocated + memory().reserved);
  }
  const early = Math.max(...peaks.slice(1, 11));
  const late = Math.max(...peaks.slice(-Math.max(1, Math.round(peaks.length / 10))));
  const ratio = late / early;
  const each = ((performance.now() - started) / steps).toFixed(1);
  console.log(
    `${name}, ${kind} loop, ${steps} steps of batch ${batch} (${each} ms each): peak MB per 100 steps`,
  );
  console.log(peaks.map((peak) => (peak / 1e6).toFixed(0)).join(' '));
  console.log(
    `steps 100-1,100: ${megabytes(early)} MB; last tenth: ${megabytes(late)} MB; ratio ${ratio.toFixed(4)}; ` +
      `device bytes ${new Set(device).size === 1 ? 'constant' : 'VARY'} at ${megabytes(device.at(-1) ?? 0)} MB; ` +
      `plan misses ${stats().planMisses}`,
  );
  if (ratio > 1.02 || new Set(device.slice(1)).size > 1) process.exitCode = 1;
}

// ---- orders -------------------------------------------------------------------------------------

/** Kernels and device bytes of each order, step by step. */
function orders(name: string, batch: number): void {
  for (const [order, step] of Object.entries(ORDERS)) {
    const loop = newLoop(name, batch);
    const kernels: number[] = [];
    const before = memory();
    for (let i = 0; i < 6; i++) {
      resetStats();
      step(loop, i);
      kernels.push(stats().kernelsExecuted);
    }
    const { allocated, reserved } = memory();
    console.log(
      `${name} ${order.padEnd(30)} kernels of steps 1-6: ${kernels.join(' ')}; values ` +
        `${megabytes(allocated - before.allocated)} MB, arena ${megabytes(reserved)} MB`,
    );
  }
}

// ---- cost ---------------------------------------------------------------------------------------

/** What each way of making rule (b) right holds, or computes again. */
function cost(name: string, batch: number): void {
  const loop = newLoop(name, batch);
  const step = ORDERS['(a) loss after step()'] as (loop: Loop, step: number) => void;
  for (let i = 0; i < 4; i++) step(loop, i);
  const entry = evaluator().recent[0]?.entry;
  if (entry === undefined) throw new Error('no plan was run');
  const { compiled } = entry;
  // Forward results come before the loss, which ends the forward pass.
  const end = compiled.kernels.findIndex(({ name: kernel }) => /log|exp/.test(kernel)) + 1;
  let intermediates = 0;
  for (const kernel of compiled.kernels.slice(0, end)) intermediates += kernel.bytesWritten;
  const time = (run: () => void): number => {
    let best = Infinity;
    for (let i = 0; i < 12; i++) {
      const before = process.cpuUsage();
      run();
      const { user, system } = process.cpuUsage(before);
      best = Math.min(best, (user + system) / 1000);
    }
    return best;
  };
  const pass = time(() => forward(loop, 0).scores.dataSync());
  const whole = time(() => step(loop, 0));
  console.log(
    `${name}, batch ${batch}: parameters ${megabytes(parameterBytes(loop))} MB = the second buffer; all ` +
      `stored values of the forward pass ${megabytes(intermediates)} MB; arena ${megabytes(compiled.plan.arenaBytes)} MB; ` +
      `forward pass ${pass.toFixed(1)} of ${whole.toFixed(1)} ms CPU`,
  );
}

// ---- results ------------------------------------------------------------------------------------

/** Results of 6.4 MB each in a loop: the device's bytes at most, and resident memory at most. */
async function results(kind: string): Promise<void> {
  const uses: Record<string, (made: Tensor) => Promise<void> | void> = {
    dropped: (made) => evaluate(made),
    read: (made) => void made.dataSync(),
    kept: (made) => {
      evaluate(made);
      kept.push(made);
    },
    disposed: (made) => {
      evaluate(made);
      made.dispose();
    },
    async: async (made) => {
      evaluate(made);
      await new Promise<void>((resolve) => setImmediate(resolve));
    },
  };
  const kept: Tensor[] = [];
  const use = uses[kind];
  if (use === undefined) throw new Error(`${Object.keys(uses).join(', ')}, not ${kind}`);
  const length = 1_600_000;
  const zeros = tensor(new Float32Array(length));
  const count = kind === 'kept' ? 500 : 2000;
  let device = 0;
  let peak = 0;
  const { user } = process.cpuUsage();
  for (let turn = 0; turn < count; turn++) {
    const pending = use(zeros.add(turn));
    if (pending !== undefined) await pending;
    device = Math.max(device, memory().allocated);
    peak = Math.max(peak, process.memoryUsage.rss());
  }
  const cpu = (process.cpuUsage().user - user) / 1000 / count;
  for (const [turn, made] of kept.entries()) {
    const last = made.dataSync()[length - 1];
    if (last !== turn) throw new Error(`result ${turn} has become ${String(last)}`);
  }
  console.log(
    `${kind.padEnd(9)} ${count} results of 6.4 MB: device at most ${megabytes(device)} MB, resident ` +
      `${megabytes(peak)} MB, ${cpu.toFixed(2)} ms CPU each`,
  );
}

// -------------------------------------------------------------------------------------------------

/** Each scenario in a process of its own. */
function child(...args: readonly string[]): void {
  const file = fileURLToPath(import.meta.url);
  const { status } = spawnSync(process.execPath, [...process.execArgv, file, ...args], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exitCode = 1;
}

configure({ threads: Number(values.threads) });
const batch = Number(values.batch);
switch (positionals[0]) {
  case undefined:
    for (const model of ['mlp', 'cnn']) {
      for (const loop of ['sync', 'async']) {
        const steps = values.steps ?? (model === 'mlp' ? '10000' : '1500');
        child('flat', '--model', model, '--loop', loop, '--steps', steps);
      }
      child('orders', '--model', model);
      child('cost', '--model', model);
    }
    for (const kind of ['dropped', 'read', 'kept', 'disposed', 'async']) {
      child('results', '--loop', kind);
    }
    break;
  case 'flat':
    await flat(values.model, values.loop, Number(values.steps ?? '10000'), batch);
    break;
  case 'orders':
    orders(values.model, batch);
    break;
  case 'cost':
    cost(values.model, batch);
    break;
  case 'results':
    await results(values.loop);
    break;
  default:
    throw new Error(`flat, orders, cost or results, not ${positionals[0]}`);
}
// Workers wait for work; nothing else is left to do.
process.exit();
