// Graphs whose sizes are not known in advance: values between plans are given up under a budget, by cost,
// bytes and time since their last use, and come back with the same bits.
import { afterEach, describe, expect, test } from 'vitest';
import {
  clearPlans,
  configure,
  debug,
  F,
  heldMemory,
  keep,
  manualSeed,
  nn,
  optim,
  randn,
  resetStats,
  setMemoryBudget,
  setNumerics,
  stats,
  type Tensor,
} from 'tengen';
import type { CompiledProgram } from '../../src/compile/program.ts';
import { Node } from '../../src/graph/node.ts';
import * as g from '../../src/graph/ops/index.ts';
import { HeldValues } from '../../src/interface/transform/held-values.ts';
import { Storage } from '../../src/runtime/storage.ts';

configure({ device: 'wasm', threads: 1 });

afterEach(() => {
  debug.eager = false;
  setMemoryBudget(null);
  setNumerics('fast');
  clearPlans();
});

const WIDTH = 32;
const ROWS = 64;
const BYTES = WIDTH * ROWS * 4;

class Net extends nn.Module {
  layers: nn.ModuleList<nn.Linear>;
  constructor(depth: number) {
    super();
    this.layers = new nn.ModuleList(
      Array.from({ length: depth }, () => new nn.Linear(WIDTH, WIDTH)),
    );
  }
  /** As deep as its argument says, with a shortcut from the first layer to the last. */
  forward(x: Tensor, depth: number): Tensor {
    let first: Tensor | null = null;
    let h = x;
    for (let i = 0; i < depth; i++) {
      h = this.layers.at(i).forward(h).tanh();
      first ??= h;
    }
    return h.add(first ?? 0);
  }
}

function bits(x: Tensor): Uint8Array {
  const data = x.dataSync();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
}

/** Steps of different depth; gives the bits of losses and weights. */
function train(watch: () => void = () => undefined): Uint8Array[] {
  manualSeed(2);
  const model = new Net(6);
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
  const x = randn([ROWS, WIDTH]);
  const results: Uint8Array[] = [];
  for (const depth of [3, 6, 4, 6]) {
    const loss = F.mseLoss(model.forward(x, depth), x);
    watch();
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    results.push(bits(loss));
  }
  return [...results, ...model.parameters().map(bits)];
}

describe('op by op', () => {
  test('what is held stays within the budget, and training is the same to the bit', () => {
    setNumerics('strict');
    debug.eager = true;
    const expected = train();
    resetStats();
    setMemoryBudget(8 * BYTES);
    let most = 0;
    const results = train(() => (most = Math.max(most, heldMemory().bytes)));
    expect(results).toEqual(expected);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(8 * BYTES);
    expect(heldMemory().evictions).toBeGreaterThan(0);
  });

  test('a value that was given up is read with the same bits, in fast numerics too', () => {
    debug.eager = true;
    manualSeed(3);
    const model = new Net(6);
    const x = randn([ROWS, WIDTH]);
    const all = (): Tensor[] => {
      const values: Tensor[] = [x];
      for (const layer of model.layers) values.push(layer.forward(values.at(-1)!).tanh());
      return values.slice(1);
    };
    const expected = all().map(bits);
    resetStats();
    setMemoryBudget(3 * BYTES);
    const values = all();
    expect(heldMemory().evictions).toBeGreaterThan(0);
    expect(heldMemory().bytes).toBeLessThanOrEqual(3 * BYTES);
    expect(values.map(bits)).toEqual(expected);
    expect(values.toReversed().map(bits)).toEqual(expected.toReversed());
    expect(heldMemory().restorations).toBeGreaterThan(0);
    expect(heldMemory().bytes).toBeLessThanOrEqual(3 * BYTES);
  });

  test('what is kept stays', () => {
    debug.eager = true;
    setMemoryBudget(2 * BYTES);
    const layer = new nn.Linear(WIDTH, WIDTH);
    const kept = keep(layer.forward(randn([ROWS, WIDTH])));
    resetStats();
    let h = kept;
    for (let i = 0; i < 6; i++) h = h.tanh();
    expect(heldMemory().evictions).toBeGreaterThan(0);
    const { runs } = stats();
    bits(kept);
    expect(stats().runs).toBe(runs);
  });
});

describe('in parts', () => {
  test('values that plans learned to keep fit into the budget, and nothing is compiled over and over', () => {
    setNumerics('strict');
    const run = (): Uint8Array[] => {
      manualSeed(4);
      const model = new Net(6);
      const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
      const x = randn([ROWS, WIDTH]);
      const losses: Uint8Array[] = [];
      for (let i = 0; i < 8; i++) {
        if (i === 5) resetStats();
        const loss = F.mseLoss(model.forward(x, 6), x);
        // Read before backward: two plans, and what the second wants of the first is kept.
        losses.push(bits(loss));
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
      }
      expect(stats().planMisses).toBe(0);
      return [...losses, ...model.parameters().map(bits)];
    };
    const expected = run();
    setMemoryBudget(6 * BYTES);
    expect(run()).toEqual(expected);
  });
});

// ---- the rule -------------------------------------------------------------------------------------

function computed(inputs: readonly Node[], elements = 64): Node {
  const node = new Node(g.exp(inputs[0]!).op, inputs, {}, [elements], 'float32', true, null);
  node.storage = new Storage(elements * 4, new Uint8Array(elements * 4));
  return node;
}

/** A plan of so many operations. */
const costing = (flops: number): Pick<CompiledProgram, 'kernels'> => ({
  kernels: [
    {
      name: 'exp',
      ops: ['exp'],
      shape: [],
      schedule: 'elementwise',
      flops,
      bytesRead: 0,
      bytesWritten: 0,
      reasons: [],
    },
  ],
});

describe('the rule', () => {
  const data = (): Node => {
    const storage = new Storage(256, new Uint8Array(256));
    return g.input(storage, 0, [64], 'float32', false, null);
  };

  test('cheap, large and long unused values go first', () => {
    const held = new HeldValues();
    const dear = computed([data()]);
    const cheap = computed([data()]);
    const large = computed([data()], 256);
    held.ran(costing(1e8), [], [dear]);
    held.ran(costing(1e7), [], [cheap]);
    held.ran(costing(1e7), [], [large]);
    held.ran(costing(1e10), [], []);
    held.shrink(64 * 4 * 2, []);
    expect([dear, cheap, large].map(({ storage }) => storage !== null)).toEqual([
      true,
      true,
      false,
    ]);
    held.shrink(64 * 4, []);
    expect([dear, cheap].map(({ storage }) => storage !== null)).toEqual([true, false]);
  });

  test('what lies next to a value that was given up costs that as well', () => {
    const held = new HeldValues();
    const first = computed([data()]);
    const second = computed([first]);
    const other = computed([data()]);
    held.ran(costing(1e8), [], [first]);
    held.ran(costing(1e6), [first], [second]);
    held.ran(costing(2e6), [], [other]);
    held.ran(costing(1e10), [], []);
    held.shrink(512, [second, other]);
    expect(first.storage).toBeNull();
    // By itself `second` would be the cheaper one.
    held.shrink(256, []);
    expect([second, other].map(({ storage }) => storage !== null)).toEqual([true, false]);
    expect(held.missing(g.exp(second))).toEqual([]);
    expect(held.missing(g.exp(other))).toEqual([other]);
  });

  test('what others read in place, and what comes from a buffer, stays', () => {
    const held = new HeldValues();
    const aliased = computed([data()]);
    g.input(aliased.storage!, 0, [64], 'float32', false, null);
    const buffer = data();
    (buffer.storage as Storage).persistent = true;
    const fromBuffer = computed([buffer]);
    held.ran(costing(10), [], [aliased, fromBuffer]);
    held.shrink(0, []);
    expect(aliased.storage).not.toBeNull();
    expect(fromBuffer.storage).not.toBeNull();
  });
});
