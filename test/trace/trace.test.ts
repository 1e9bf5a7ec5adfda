// trace: record, compare, replay.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { F, nn, optim, tensor, type Tensor, trace, TraceError } from 'tengen';
import { checkLeaks, expectValues } from '../interface/support.ts';

checkLeaks();

function smallModel(): { model: nn.Sequential; optimizer: optim.Adam } {
  tg.manualSeed(4);
  const model = new nn.Sequential(
    new nn.Linear(3, 8),
    new nn.BatchNorm1d(8),
    new nn.ReLU(),
    new nn.Dropout(0.25),
    new nn.Linear(8, 2),
  );
  return { model, optimizer: new optim.Adam(model.parameters(), { lr: 0.01 }) };
}

function trainingStep({ model, optimizer }: ReturnType<typeof smallModel>) {
  return (x: Tensor, y: Tensor): Tensor => {
    const loss = F.mseLoss(model.forward(x) as Tensor, y);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss;
  };
}

const batch = (step: number): [Tensor, Tensor] => {
  const values = Array.from({ length: 12 }, (_, i) => Math.sin(i + step));
  return [tensor(values).reshape(4, 3), tensor(values.slice(0, 8)).reshape(4, 2)];
};

describe('record and compare', () => {
  test('numbers are slots, argument forms have programs of their own', () => {
    const scale = trace((x: Tensor, factor: number) => x.mul(factor).sum());
    expectValues(scale(tensor([1, 2]), 3), 9);
    expectValues(scale(tensor([1, 2]), 5), 15);
    expect(scale.stats).toMatchObject({ calls: 2, hits: 1, misses: 1, recordings: 1, retraces: 0 });
    expectValues(scale(tensor([1, 2, 3]), 5), 30);
    expect(scale.stats.recordings).toBe(2);
  });

  test('a changed structure names the operation and its line', () => {
    let useExp = false;
    const fn = trace(function wavering(x: Tensor) {
      const shifted = x.add(1);
      return useExp ? shifted.exp() : shifted.sqrt();
    });
    fn(tensor([3]));
    useExp = true;
    expect(() => fn(tensor([3]))).toThrow(TraceError);
    expect(() => fn(tensor([3]))).toThrow(
      /wavering built another program: operation 3 is exp float32 \[1\] of #2 \(at .*\), was sqrt/,
    );
    expect(() => fn(tensor([3]))).toThrow(/trace\.test\.ts:\d+:\d+/);
    useExp = false;
    expectValues(fn(tensor([3])), [2]);
  });

  test('numbers may become 0, 1 and -1, and come back; the rest must stay', async () => {
    let sharp = false;
    const fn = trace((x: Tensor, n: number, m: number = 2) => {
      const y = x.mul(n).add(n).sub(m);
      return sharp ? y.exp() : y.abs();
    });
    const x = tensor([3]);
    for (const n of [5, 0, 0, -1, 1, 7, 7, Number.NaN, 0.5]) {
      expect(await fn(x, n).item()).toBe(Math.abs(3 * n + n - 2));
      expect(await fn(x, n, 0).item()).toBe(Math.abs(3 * n + n));
    }
    expect(fn.stats.recordings).toBe(2 + fn.stats.retraces);
    const { retraces } = fn.stats;
    await fn(x, 4).item();
    await fn(x, 6).item();
    expect(fn.stats.retraces).toBe(retraces);
    sharp = true;
    // Also where a number changes on the way.
    expect(() => fn(x, 0)).toThrow(/is exp float32 \[1\] of #\d+ \(at .*\), was abs/);
    sharp = false;
    expect(await fn(x, 0).item()).toBe(2);
  });

  test('a result more or less is a change', () => {
    let both = true;
    const fn = trace((x: Tensor) => (both ? [x.add(1), x.sub(1)] : [x.add(1)]));
    fn(tensor([1]));
    both = false;
    expect(() => fn(tensor([1]))).toThrow('is missing');
    let reads = true;
    const reading = trace((x: Tensor) => {
      if (reads) x.sum().itemSync();
      return x.mul(2);
    });
    reading(tensor([1]));
    reads = false;
    expect(() => reading(tensor([1]))).toThrow(TraceError);
  });

  test('retrace records again, and counts', () => {
    let power = 2;
    const fn = trace((x: Tensor) => x.pow(power), { retrace: true });
    expectValues(fn(tensor([3])), [9]);
    power = 3;
    expectValues(fn(tensor([3])), [27]);
    expectValues(fn(tensor([2])), [8]);
    expect(fn.stats).toMatchObject({ calls: 3, recordings: 2, retraces: 1 });
  });

  test('arguments and results are trees', () => {
    const fn = trace((input: { a: Tensor; rest: Tensor[] }) => ({
      total: input.rest.reduce((sum, x) => sum.add(x), input.a),
    }));
    expectValues(fn({ a: tensor([1]), rest: [tensor([2]), tensor([3])] }).total, [6]);
    expectValues(fn({ a: tensor([1]), rest: [] }).total, [1]);
    expect(fn.stats.recordings).toBe(2);
  });

  test('the least recently used program is forgotten', () => {
    const fn = trace((x: Tensor) => x.add(1), { cacheSize: 2 });
    for (const size of [1, 2, 3, 1]) fn(tg.zeros(size));
    expect(fn.stats.recordings).toBe(4);
    fn(tg.zeros(3));
    expect(fn.stats.recordings).toBe(4);
    fn.reset();
    fn(tg.zeros(3));
    expect(fn.stats.recordings).toBe(5);
    expect(() => trace((x: Tensor) => x, { cacheSize: 0 })).toThrow('cacheSize');
  });
});

describe('training', () => {
  test.each([false, true])('equals the untraced loop bit for bit (symbolic: %s)', (symbolic) => {
    const run = (traced: boolean): unknown => {
      const parts = smallModel();
      const plain = trainingStep(parts);
      const step = traced ? trace(plain, { symbolic }) : plain;
      const losses = [0, 1, 2, 3].map((i) => step(...batch(i)).itemSync());
      return [losses, parts.model.parameters().map((p) => p.arraySync())];
    };
    expect(run(true)).toEqual(run(false));
  });

  test('one program; what is pending from outside is no part of it', () => {
    const parts = smallModel();
    const step = trace(trainingStep(parts));
    let outside: Tensor | null = null;
    for (let i = 0; i < 4; i++) {
      if (i === 2) outside = tensor([1]).add(1);
      step(...batch(i));
    }
    expect(step.stats.recordings).toBe(1);
    expectValues(outside as unknown as Tensor, [2]);
    expect(step.explain()).toContain('kernels');
  });

  test('inside a dynamic function, and inside another trace', () => {
    const w = new nn.Parameter(tensor([3]));
    const inner = trace((x: Tensor) => x.mul(w));
    inner(tensor([2]))
      .sum()
      .backward();
    expectValues(w.grad as Tensor, [2]);
    const outer = trace((x: Tensor) => inner(x).add(1));
    expectValues(outer(tensor([5])), [16]);
    expectValues(outer(tensor([6])), [19]);
    expect(outer.stats.recordings).toBe(1);
  });
});

describe('symbolic', () => {
  test('computes nothing, and refuses reads with their line', () => {
    const { runs } = tg.stats();
    const fn = trace((x: Tensor) => x.mul(2), { symbolic: true });
    const y = fn(tensor([1]));
    expect(tg.stats().runs).toBe(runs);
    expectValues(y, [2]);
    const reads = trace((x: Tensor) => x.mul(x.sum().itemSync()), {
      symbolic: true,
      name: 'reads',
    });
    expect(() => reads(tensor([1]))).toThrow(
      /reads reads a value while it is traced \(at .*trace\.test\.ts/,
    );
    const masks = trace((x: Tensor) => x.at(x.gt(0)), { symbolic: true });
    expect(() => masks(tensor([1]))).toThrow(TraceError);
  });
});

describe('without host', () => {
  test('the function runs once; closed-over tensors are read anew, numbers are not', () => {
    let calls = 0;
    let factor = 2;
    const w = new nn.Parameter(tensor([10]));
    const fn = trace(
      (x: Tensor) => {
        calls++;
        return { y: x.mul(factor).add(w) };
      },
      { withoutHost: true },
    );
    expectValues(fn(tensor([1])).y, [12]);
    factor = 100;
    expectValues(fn(tensor([2])).y, [14]);
    w.setData([20]);
    expectValues(fn(tensor([2])).y, [24]);
    expect(calls).toBe(1);
    expectValues(fn(tensor([1, 2])).y, [120, 220]);
    expect(calls).toBe(2);
  });

  test('gradients flow through a replay', () => {
    const w = new nn.Parameter(tensor([3]));
    const fn = trace((x: Tensor) => x.mul(w).sum(), { withoutHost: true });
    fn(tensor([1]));
    fn(tensor([5])).backward();
    expectValues(w.grad as Tensor, [5]);
  });

  test('random numbers move on, running statistics too', () => {
    tg.manualSeed(0);
    const noise = trace((x: Tensor) => x.add(tg.rand(4)), { withoutHost: true });
    const first = noise(tg.zeros(4)).arraySync();
    const second = noise(tg.zeros(4)).arraySync();
    expect(second).not.toEqual(first);
    tg.manualSeed(0);
    expectValues(noise(tg.zeros(4)), first);
    const norm = new nn.BatchNorm1d(2, { momentum: 0.5 });
    const train = trace((x: Tensor) => norm.forward(x), { withoutHost: true });
    for (let i = 0; i < 2; i++)
      train(
        tensor([
          [1, 0],
          [3, 0],
        ]),
      ).dataSync();
    expectValues(norm.runningMean as Tensor, [1.5, 0]);
  });

  test('a module in evaluation mode', () => {
    const { model } = smallModel();
    model.eval();
    const fn = trace((x: Tensor) => model.forward(x) as Tensor, { withoutHost: true });
    for (let i = 0; i < 3; i++) {
      const [x] = batch(i);
      expectValues(fn(x), (model.forward(x) as Tensor).arraySync());
    }
    expect(fn.stats).toMatchObject({ calls: 3, recordings: 1, hits: 2 });
  });

  test('what a replay could not do right is refused', () => {
    const reads = trace(
      function reads(x: Tensor) {
        return x.mul(x.sum().itemSync());
      },
      { withoutHost: true },
    );
    expect(() => reads(tensor([1]))).toThrow(/reads reads a value while it is traced \(at .*trace/);
    const made = trace((x: Tensor) => new Map([['x', x]]), { withoutHost: true });
    expect(() => made(tensor([1]))).toThrow('the result holds Map, which a replay');
    const writes = trace((x: Tensor) => x.add(1).setData([1]), { withoutHost: true });
    expect(() => writes(tensor([1]))).toThrow('writes numbers into a tensor');
  });
});

describe('as a decorator', () => {
  test('each object has programs of its own', () => {
    class Scaler {
      factor: number;
      constructor(factor: number) {
        this.factor = factor;
      }
      scale(x: Tensor): Tensor {
        return x.mul(this.factor);
      }
    }
    const context = { kind: 'method', name: 'scale' } as ClassMethodDecoratorContext;
    const decorated = trace(Scaler.prototype.scale as (x: Tensor) => Tensor, context);
    expectValues(decorated.call(new Scaler(2), tensor([1])), [2]);
    expectValues(decorated.call(new Scaler(3), tensor([1])), [3]);
  });
});
