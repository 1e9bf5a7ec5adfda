// Functions on the host inside of graphs: plans end before them and begin behind them.
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import {
  ArgumentError,
  configure,
  debug,
  env,
  evaluate,
  grad,
  nn,
  optim,
  randn,
  resetStats,
  scan,
  setDefaultDevice,
  stats,
  tensor,
  type Tensor,
  trace,
  TraceError,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { defineOp, gradcheck } from 'tengen/extend';
import { checkLeaks } from '../interface/support.ts';
import { sortedOnHost, squarePlus } from './support.ts';

const devices = [
  'interp',
  ...env().devices.flatMap((d) => (d.unavailable === null ? [d.name] : [])),
];
const nonDifferentiable = 'a test';

describe.each([...new Set(devices)])('%s', (device) => {
  afterAll(() => setDefaultDevice('auto'));

  test('values and gradients, amid other operations', () => {
    configure({ device });
    const x = tensor([3, 1, 2]);
    expect(sortedOnHost(x).arraySync()).toEqual([1, 2, 3]);
    expect(sortedOnHost(x.mul(-1)).add(10).arraySync()).toEqual([7, 8, 9]);
    // Two in a row, and two beside each other.
    const twice = sortedOnHost(sortedOnHost(x.neg()).neg()).add(sortedOnHost(x.mul(2)));
    expect(twice.arraySync()).toEqual([3, 6, 9]);
    const weights = tensor([1, 10, 100]);
    const slope = grad((a: Tensor) => sortedOnHost(a.mul(2)).mul(weights).sum());
    expect(slope(x).arraySync()).toEqual([200, 2, 20]);
    expect(sortedOnHost(tensor([[]])).dataSync()).toHaveLength(0);
  });
});

describe('host functions', () => {
  checkLeaks();

  test('have the gradients that differences give', async () => {
    const x = tensor([0.3, -1, 2, 0.5], { dtype: 'float64' });
    expect(await gradcheck((a) => sortedOnHost(a.mul(a)).mul(a.exp()), [x])).toBeLessThan(1e-6);
  });

  test('run once for each program, with a plan before and one behind', () => {
    let runs = 0;
    const counted = defineOp({
      name: 'test.counted',
      inputs: ['x', 'y'],
      shape: ([x]) => x,
      host: ([x, y], _attrs, { data }) => {
        runs++;
        for (let i = 0; i < data.length; i++) data[i] = x.data[i]! + y.data[i]!;
      },
      gradient: ({ grad: g }) => [g, g],
    });
    const x = tensor([1, 2]);
    const result = counted(x.add(1), x.mul(2)).mul(3);
    evaluate(x);
    resetStats();
    expect(result.arraySync()).toEqual([12, 21]);
    expect([runs, stats().runs]).toEqual([1, 2]);
    // What is computed stays computed.
    expect(result.add(1).arraySync()).toEqual([13, 22]);
    expect(runs).toBe(1);
    const both = [counted(x, x), counted(x.exp(), x.exp())];
    resetStats();
    evaluate(...both);
    expect([runs, stats().runs]).toEqual([3, 1]);
  });

  test('train: plans settle, and what both sides need is kept', () => {
    const weight = new nn.Parameter(tensor([[0.5, -0.25, 0.125]]));
    const optimizer = new optim.SGD([weight], { lr: 0.1 });
    const x = tensor([[1], [2]]);
    const losses: number[] = [];
    const misses: number[] = [];
    for (let step = 0; step < 8; step++) {
      const before = stats().planMisses;
      const loss = sortedOnHost(x.matmul(weight).tanh())
        .mul(tensor([1, 2, 3]))
        .sum();
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      losses.push(loss.itemSync());
      misses.push(stats().planMisses - before);
    }
    for (let i = 1; i < losses.length; i++) expect(losses[i]).toBeLessThan(losses[i - 1]!);
    expect(misses.slice(4)).toEqual([0, 0, 0, 0]);
    // The same with the sort of the framework.
    const other = new nn.Parameter(tensor([[0.5, -0.25, 0.125]]));
    const plain = new optim.SGD([other], { lr: 0.1 });
    for (let step = 0; step < 8; step++) {
      const { values } = x.matmul(other).tanh().sort(-1);
      const loss = values.mul(tensor([1, 2, 3])).sum();
      plain.zeroGrad();
      loss.backward();
      plain.step();
      expect(losses[step]).toBeCloseTo(loss.itemSync(), 5);
    }
  });

  test.each([{}, { symbolic: true }, { withoutHost: true }])('are traced: %o', (options) => {
    const plain = (x: Tensor, y: Tensor) => sortedOnHost(x.mul(2)).add(sortedOnHost(y)).mul(3);
    const traced = trace(plain, options);
    for (let i = 0; i < 4; i++) {
      const [x, y] = [randn([2, 3]), randn([3])];
      expect(traced(x, y).arraySync()).toEqual(plain(x, y).arraySync());
    }
    expect(traced.stats.recordings).toBe(1);
  });

  test('see halves as numbers and bools as 0 and 1, and may write to what they are given', () => {
    const reversed = defineOp({
      name: 'test.reversed',
      inputs: ['x'],
      shape: ([x]) => x,
      host: ([x], _attrs, { data }) => data.set(x.data.reverse()),
      gradient: { nonDifferentiable },
    });
    for (const dtype of ['float16', 'bfloat16', 'float64', 'int8', 'uint32'] as const) {
      const x = tensor([1, 2, 100], { dtype });
      const result = reversed(x);
      expect(result.dtype).toBe(dtype);
      expect(result.to('float32').arraySync(), dtype).toEqual([100, 2, 1]);
      expect(x.to('float32').arraySync(), dtype).toEqual([1, 2, 100]);
    }
    expect(reversed(tensor([true, false])).arraySync()).toEqual([false, true]);
  });

  describe('that fail', () => {
    let fails = true;
    const failing = defineOp({
      name: 'test.failing',
      inputs: ['x'],
      shape: ([x]) => x,
      host: ([x], _attrs, { data }) => {
        if (fails) throw new RangeError('not today');
        data.set(x.data);
      },
      gradient: ({ grad: g }) => [g],
    });
    beforeEach(() => {
      fails = true;
    });

    test('are heard of where the value is asked for, and not again', () => {
      const x = tensor([1, 2]);
      const result = failing(x).add(1);
      expect(() => result.dataSync()).toThrow(RangeError);
      expect(x.add(1).arraySync()).toEqual([2, 3]);
      fails = false;
      expect(failing(x).arraySync()).toEqual([1, 2]);
    });

    test('assign nothing, and the next step goes on', () => {
      const weight = new nn.Parameter(tensor([1]));
      const optimizer = new optim.SGD([weight], { lr: 1 });
      const step = (): void => {
        optimizer.zeroGrad();
        failing(weight.square()).sum().backward();
        optimizer.step();
      };
      // The backward pass does not need the value: its loss does, which the step computes too.
      expect(step).toThrow(RangeError);
      expect(weight.arraySync()).toEqual([1]);
      fails = false;
      step();
      expect(weight.arraySync()).toEqual([-1]);
    });
  });

  test('cannot run inside of a loop, where kernels can', () => {
    const x = tensor([
      [3, 1],
      [2, 5],
    ]);
    const through = (step: (row: Tensor) => Tensor) =>
      scan((sum: Tensor, row: Tensor) => [sum.add(step(row)), sum], zeros([2]), x)[0];
    expect(through((row) => squarePlus(row, { shift: 1 })).arraySync()).toEqual([15, 28]);
    expect(() => through((row) => sortedOnHost(row))).toThrow(TraceError);
    // What the loop only reads is computed before.
    const before = sortedOnHost(x);
    expect(through((row) => row.mul(before.at(0))).arraySync()).toEqual([5, 18]);
  });

  test('cannot wait', () => {
    const waiting = defineOp({
      name: 'test.waiting',
      inputs: ['x'],
      shape: ([x]) => x,
      host: async () => Promise.resolve(),
      gradient: { nonDifferentiable },
    });
    expect(() => waiting(tensor([1])).dataSync()).toThrow(ArgumentError);
  });

  test('work op by op, and under the search for NaN', () => {
    const x = tensor([3, 1]);
    try {
      debug.eager = true;
      expect(sortedOnHost(x.mul(2)).arraySync()).toEqual([2, 6]);
      debug.eager = false;
      debug.checkNaN = true;
      expect(sortedOnHost(x.mul(2)).arraySync()).toEqual([2, 6]);
    } finally {
      debug.eager = false;
      debug.checkNaN = false;
    }
  });
});
