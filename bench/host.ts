// Host overhead, without kernels: microseconds to build a deferred operation, and microseconds per
// node to find its plan again and bind it. A device that computes nothing leaves the host alone.
import { F, manualSeed, nn, optim, setDefaultDevice, stats, tensor, type Tensor } from 'tengen';
import { WasmDevice } from '../src/backends/wasm/device.ts';
import { engine } from '../src/interface/tensor/engine.ts';
import type { EvaluationObserver } from '../src/interface/transform/observers.ts';
import { evaluator } from '../src/interface/transform/install.ts';
import { nextNodeId } from '../src/interface/transform/tracing/tape.ts';
import type { Device } from '../src/runtime/device.ts';
import { registerBackend } from '../src/runtime/registry.ts';
import { median } from './harness.ts';

const HELP = `npx tsx bench/host.ts [--json]

Prints microseconds per deferred op built (bar: 1) and per node on a plan hit (bar: 0.3),
medians of many rounds. Kernels do not run.`;

/** Before these the gradient walk still runs in V8's lower tiers, at about twice the time. */
const WARM_UP = 1000;
const ROUNDS = 1000;

/** Memory and plans of the WebAssembly device, but running a plan does nothing. */
function idleDevice(): Device {
  const device = new WasmDevice({ threads: 1 });
  return Object.create(device, {
    name: { value: 'idle' },
    threads: { value: 1 },
    target: { value: device.target.bind(device) },
    allocate: { value: device.allocate.bind(device) },
    free: { value: device.free.bind(device) },
    write: { value: device.write.bind(device) },
    view: { value: device.view.bind(device) },
    memory: { value: device.memory.bind(device) },
    load: { value: () => ({ run: () => undefined, dispose: () => undefined }) },
  }) as Device;
}

interface Measured {
  readonly name: string;
  readonly nodes: number;
  readonly buildPerOp: number;
  readonly buildPerNode: number;
  readonly hitPerNode: number;
}

/** Counts public results while `body` runs. */
function countResults(body: () => void): number {
  const real = engine();
  const created = real.created.bind(real);
  let count = 0;
  real.created = (node) => {
    count++;
    created(node);
  };
  try {
    body();
  } finally {
    real.created = created;
  }
  return count;
}

/** Times building and evaluating apart; both run often enough for the optimizing tier. */
function measure(name: string, build: () => () => void): Measured {
  const ops = countResults(() => build()());
  for (let i = 0; i < WARM_UP; i++) build()();
  const buildTimes: number[] = [];
  const hitTimes: number[] = [];
  let nodes = 0;
  const misses = stats().planMisses;
  for (let round = 0; round < ROUNDS; round++) {
    const first = nextNodeId();
    const start = performance.now();
    const evaluateAll = build();
    const built = performance.now();
    const last = nextNodeId();
    evaluateAll();
    hitTimes.push(performance.now() - built);
    buildTimes.push(built - start);
    nodes = last - first - 1;
  }
  if (stats().planMisses !== misses) throw new Error(`${name} compiled while it was timed`);
  const buildUs = median(buildTimes) * 1000;
  const hitUs = median(hitTimes) * 1000;
  return {
    name,
    nodes,
    buildPerOp: buildUs / ops,
    buildPerNode: buildUs / nodes,
    hitPerNode: hitUs / nodes,
  };
}

function chain(): () => void {
  const start = tensor(new Float32Array(16));
  let x = start;
  for (let i = 0; i < 75; i++) x = x.mul(1.5).add(start).relu().sub(0.25);
  return () => engine().evaluate([x.node]);
}

function forwardAndBackward(): () => () => void {
  manualSeed(0);
  const layers = Array.from({ length: 8 }, () => [new nn.Linear(16, 16), new nn.ReLU()]).flat();
  const model = new nn.Sequential(...layers);
  const optimizer = new optim.Adam(model.parameters(), { lr: 1e-3 });
  const x = tensor(new Float32Array(64), { shape: [4, 16] });
  const y = tensor(new Int32Array(4));
  return () => {
    const loss = F.crossEntropy(model.forward(x) as Tensor, y);
    optimizer.zeroGrad();
    loss.backward();
    // step() builds the updates and evaluates; the second part is put off, to be timed apart.
    const { observers } = evaluator();
    observers.push(later);
    optimizer.step();
    observers.pop();
    return () => engine().step();
  };
}

const later: EvaluationObserver = { stepping: () => true };

if (process.argv.includes('--help')) console.log(HELP);
else {
  registerBackend({ name: 'idle', priority: -1, unavailable: () => null, create: idleDevice });
  setDefaultDevice('idle');
  const rows = [measure('chain of 300 elementwise ops', () => chain())];
  rows.push(measure('training step of 8 layers with Adam', forwardAndBackward()));
  for (const row of rows) {
    if (process.argv.includes('--json')) console.log(JSON.stringify(row));
    else {
      const { name, nodes, buildPerOp, buildPerNode, hitPerNode } = row;
      const us = (value: number): string => value.toFixed(3);
      console.log(
        `${name}: ${nodes} nodes, built in ${us(buildPerOp)} us/op (${us(buildPerNode)} us/node), plan hit ${us(hitPerNode)} us/node`,
      );
    }
  }
}
