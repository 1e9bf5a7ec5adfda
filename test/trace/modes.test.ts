// What trace offers beside comparing: switches, constants, parts that are left out, forms of arguments.
import { afterEach, describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import {
  debug,
  excludeFromTrace,
  F,
  nn,
  optim,
  tensor,
  type Tensor,
  trace,
  TraceError,
} from 'tengen';
import { checkLeaks, expectValues } from '../interface/support.ts';

checkLeaks();

afterEach(() => {
  trace.enabled = true;
  debug.eager = false;
  debug.checkNaN = false;
});

describe('switches', () => {
  test('trace.enabled and fn.enabled: the function runs as it is', () => {
    let calls = 0;
    const fn = trace(
      (x: Tensor) => {
        calls++;
        return x.mul(x.sum().itemSync());
      },
      { symbolic: true },
    );
    expect(() => fn(tensor([2]))).toThrow(TraceError);
    trace.enabled = false;
    expectValues(fn(tensor([2])), [4]);
    trace.enabled = true;
    fn.enabled = false;
    expectValues(fn(tensor([3])), [9]);
    fn.enabled = true;
    expect(() => fn(tensor([2]))).toThrow(TraceError);
    expect([calls, fn.stats.calls, fn.stats.untraced]).toEqual([4, 4, 2]);
    const off = trace((x: Tensor) => x.add(1), { enabled: false });
    off(tensor([1]));
    expect([off.enabled, off.stats.untraced]).toEqual([false, 1]);
  });

  test('debug.eager and debug.checkNaN see the function run, operation by operation', () => {
    let seen: unknown;
    const fn = trace(
      (x: Tensor) => {
        const y = x.log();
        seen = y.node.storage !== null;
        return y.add(1);
      },
      { withoutHost: true },
    );
    fn(tensor([1]));
    expect(seen).toBe(false);
    debug.eager = true;
    expectValues(fn(tensor([1])), [1]);
    expect(seen).toBe(true);
    debug.eager = false;
    debug.checkNaN = true;
    expect(() => fn(tensor([-1]))).toThrow('log: made');
    debug.checkNaN = false;
    expect(fn(tensor([-1])).itemSync()).toBeNaN();
    expect(fn.stats).toMatchObject({ calls: 4, untraced: 2, recordings: 1, hits: 1 });
  });

  test('options that are none, or contradict each other', () => {
    const fn = (x: Tensor): Tensor => x;
    expect(() => trace(fn, { witoutHost: true } as object)).toThrow('withoutHost');
    expect(() => trace(fn, { captureAsConst: true, withoutHost: false })).toThrow(
      'captureAsConst replays',
    );
    expect(() => trace(3 as never)).toThrow('expected a function');
    const later = trace(async (x: Tensor) => x.add(1));
    expect(() => later(tensor([1]))).toThrow('is asynchronous');
    const steps = trace(function* (x: Tensor) {
      yield x.add(1);
    });
    expect(() => steps(tensor([1]))).toThrow('is a generator');
    expect(() => trace((x: Tensor) => x, { inputs: 5 as never })).toThrow('inputs are specs');
  });
});

describe('forms of arguments', () => {
  test('hits, misses and evictions are counted', () => {
    const fn = trace((x: Tensor) => x.add(1), { cacheSize: 2, withoutHost: true });
    for (const size of [1, 2, 2, 3, 1]) fn(tg.zeros(size));
    expect(fn.stats).toMatchObject({ calls: 5, hits: 1, misses: 4, evictions: 2, recordings: 4 });
  });

  test('trees with numbers, texts, flags and other objects', () => {
    class Options {
      readonly power = 3;
    }
    const options = new Options();
    let calls = 0;
    const fn = trace(
      (input: { x: Tensor; more: [Tensor, number]; mode: string; by: Options; none: null }) => {
        calls++;
        const { x, more, mode, by } = input;
        const y = mode === 'power' ? x.pow(by.power) : x.mul(more[1]);
        return { y, size: x.size, mode, nested: [{ twice: more[0].mul(2) }, null, undefined] };
      },
      { withoutHost: true },
    );
    const call = (mode: string, factor: number) =>
      fn({ x: tensor([2, 3]), more: [tensor([5]), factor], mode, by: options, none: null });
    const first = call('power', 1);
    const again = call('power', 1);
    expect(calls).toBe(1);
    expect(again).toMatchObject({ size: 2, mode: 'power' });
    expectValues(again.y, [8, 27]);
    expectValues((again.nested[0] as { twice: Tensor }).twice, [10]);
    expect(again.nested.slice(1)).toEqual([null, undefined]);
    expectValues(first.y, [8, 27]);
    // Without the host a number is a part of the program.
    expectValues(call('scale', 10).y, [20, 30]);
    expectValues(call('scale', 100).y, [200, 300]);
    expect(calls).toBe(3);
    const ring: unknown[] = [];
    ring.push(ring);
    expect(() => trace((x: unknown) => x)(ring)).toThrow('contains itself');
  });

  test('the same tensor twice, and one that is closed over too', () => {
    const x = tensor([1, 2]);
    const y = tensor([10, 20]);
    const fn = trace((a: Tensor, b: Tensor) => a.mul(b).add(x), { withoutHost: true });
    expectValues(fn(x, x), [2, 6]);
    expectValues(fn(x, y), [11, 42]);
    expectValues(fn(y, y), [101, 402]);
    expectValues(fn(y, x), [11, 42]);
    expectValues(fn(y, tensor([0, 0])), [1, 2]);
  });

  test('pending arguments, and arguments of other devices and histories', () => {
    const fn = trace((a: Tensor) => a.exp().sum());
    fn(tensor([0, 0]));
    expectValues(fn(tensor([1, 2]).sub(tensor([1, 2]))), 2);
    expect(fn.stats.recordings).toBe(1);
    const w = new nn.Parameter(tensor([1, 1]));
    fn(w.mul(1)).backward();
    expect(fn.stats.recordings).toBe(2);
    tg.noGrad(() => fn(w));
    expect(fn.stats.recordings).toBe(3);
    tg.amp.autocast({ dtype: 'bfloat16' }, () => fn(tensor([0, 0])));
    expect(fn.stats.recordings).toBe(4);
  });

  test('a result is the argument or the parameter itself', () => {
    const w = new nn.Parameter(tensor([1]));
    const fn = trace((x: Tensor) => [x, w, x.add(w)], { withoutHost: true });
    fn(tensor([1]));
    const x = tensor([2]);
    const [first, second, third] = fn(x);
    expect(first).toBe(x);
    expect(second).toBe(w);
    expectValues(third as Tensor, [3]);
  });
});

describe('a mismatch', () => {
  test('names both lines, as it is built, whatever differs', () => {
    let mode = 'first';
    const w = new nn.Parameter(tensor([1]));
    const fn = trace(function model(x: Tensor, y: Tensor) {
      if (mode === 'swapped') return y.sub(x);
      if (mode === 'closed over') return x.sub(w);
      if (mode === 'shape') return x.sub(tensor([1, 2, 3]));
      if (mode === 'read') x.sum().itemSync();
      if (mode === 'assigned') w.assign(y);
      return x.sub(y);
    });
    const call = (): Tensor => fn(tensor([1]), tensor([2]));
    call();
    for (const [now, message] of [
      ['swapped', 'operation 0 is input float32 [1]'],
      ['closed over', 'operation 1 is input float32 [1]'],
      ['shape', 'operation 1 is input float32 [3]'],
      ['read', 'operation 1 is sum float32 []'],
      ['assigned', 'operation 0 is input float32 [1]'],
    ] as const) {
      mode = now;
      expect(call, now).toThrow(message);
      expect(call, now).toThrow(
        /\(at .*modes\.test\.ts:\d+:\d+\).*\(recorded at .*modes\.test\.ts/,
      );
    }
    // What a call that failed was about to assign is not assigned.
    tg.evaluate(w);
    expectValues(w, [1]);
    mode = 'first';
    expectValues(call(), [-1]);
  });

  test('other numbers of steps, of results', () => {
    const w = new nn.Parameter(tensor([1]));
    const sgd = new optim.SGD([w], { lr: 1 });
    let steps = 1;
    const fn = trace(() => {
      for (let i = 0; i < steps; i++) {
        sgd.zeroGrad();
        w.mul(2).sum().backward();
        sgd.step();
      }
    });
    fn();
    steps = 2;
    expect(fn).toThrow(/operation \d+, .* is new/);
    steps = 0;
    expect(fn).toThrow(/operation 0, .* is missing/);
    let order = [0, 1];
    const results = trace((x: Tensor) => {
      const both = [x.add(2), x.mul(2)];
      return order.map((i) => both[i]);
    });
    results(tensor([1]));
    order = [1, 0];
    expect(() => results(tensor([1]))).toThrow('other results are returned');
  });
});

describe('constants', () => {
  test('captureAsConst: later changes are not seen, gradients go to arguments alone', () => {
    const layer = new nn.Linear(2, 2);
    layer.weight.setData([1, 2, 3, 4]);
    layer.bias?.setData([0, 0]);
    const shift = tensor([100, 200]);
    const fn = trace((x: Tensor) => layer.forward(x).add(shift), { captureAsConst: true });
    const x = tensor([[1, 1]], { requiresGrad: true });
    expectValues(fn(x), [[103, 207]]);
    layer.weight.setData([0, 0, 0, 0]);
    shift.setData([0, 0]);
    const y = fn(x);
    expectValues(y, [[103, 207]]);
    y.sum().backward();
    expectValues(x.grad as Tensor, [[4, 6]]);
    expect(layer.weight.grad).toBeNull();
    fn.reset();
    expectValues(fn(x), [[0, 0]]);
  });

  test('what depends on constants alone is computed once', () => {
    const w = new nn.Parameter(
      tensor([
        [1, 2],
        [3, 4],
      ]),
    );
    const fn = trace((x: Tensor) => x.matmul(w.matmul(w).exp().log()), { captureAsConst: true });
    const inputs = [tensor([[1, 0]]), tensor([[0, 1]]), tensor([[1, 1]])];
    const kernels = inputs.map((x) => {
      const before = tg.stats().kernelsExecuted;
      fn(x).dataSync();
      return tg.stats().kernelsExecuted - before;
    });
    expect(kernels[2]).toBeLessThan(kernels[1] as number);
    expect(fn.explain()).toContain('run once');
  });

  test('what cannot be constant is refused', () => {
    const norm = new nn.BatchNorm1d(2);
    const forward = trace((x: Tensor) => norm.forward(x), { captureAsConst: true });
    const x = tensor([
      [1, 2],
      [3, 4],
    ]);
    expect(() => forward(x)).toThrow('what it closes over is constant');
    norm.eval();
    expectValues(forward(x), norm.forward(x).arraySync());
    const w = new nn.Parameter(tensor([1]));
    const sgd = new optim.SGD([w]);
    const step = trace(() => void sgd.step(), { captureAsConst: true });
    expect(step).toThrow('does SGD.step, which a program of constants cannot');
  });
});

describe('what is left out', () => {
  const build = (options: { withoutHost?: boolean; symbolic?: boolean }) => {
    const seen: number[] = [];
    const w = new nn.Parameter(tensor([2]));
    const fn = trace((x: Tensor) => {
      const y = x.mul(w);
      const scale = excludeFromTrace(
        (value, text) => {
          const largest = value.max().itemSync();
          seen.push(largest);
          return { factor: tensor(largest > 10 ? 0 : largest), text };
        },
        y,
        'text',
      );
      return y.mul(scale.factor).sum();
    }, options);
    return { fn, seen, w };
  };

  test.each([{}, { symbolic: true }, { withoutHost: true }, { withoutHost: true, symbolic: true }])(
    'runs on each call, may read and branch: %o',
    (options) => {
      const { fn, seen, w } = build(options);
      expectValues(fn(tensor([1, 2])), 24);
      expectValues(fn(tensor([3, 1])), 48);
      expectValues(fn(tensor([9, 1])), 0);
      expect(seen).toEqual([4, 6, 18]);
      expect(fn.stats.recordings).toBe(1);
      fn(tensor([1, 0])).backward();
      expectValues(w.grad as Tensor, [2]);
    },
  );

  test('outside of a trace it is a call; its results are inputs of one form', () => {
    expect(excludeFromTrace((a: number, b: number) => a + b, 1, 2)).toBe(3);
    const fn = trace((x: Tensor) => {
      const chosen = excludeFromTrace((y) => tg.ones(y.sum().itemSync()), x);
      return chosen.sum();
    });
    fn(tensor([1, 2]));
    expectValues(fn(tensor([2, 1])), 3);
    expect(() => fn(tensor([2, 2]))).toThrow('is input float32 [4]');
    const replayed = trace(
      (x: Tensor) => excludeFromTrace((y) => tg.ones(y.sum().itemSync()), x).sum(),
      { withoutHost: true },
    );
    replayed(tensor([1, 2]));
    expect(() => replayed(tensor([2, 2]))).toThrow('is float32 [4] now, was float32 [3]');
  });

  test('without host it must be given what it uses, and return what is used', () => {
    const sneaks = trace(
      (x: Tensor) => {
        const y = x.add(1);
        return excludeFromTrace(() => y.mul(2));
      },
      { withoutHost: true },
    );
    expect(() => sneaks(tensor([1]))).toThrow('uses a tensor of it that it was not given');
    const reads = trace(
      (x: Tensor) => {
        const y = x.add(1);
        excludeFromTrace(() => y.itemSync());
        return y;
      },
      { withoutHost: true },
    );
    expect(() => reads(tensor([1]))).toThrow('uses a tensor of it that it was not given');
    const leaks = trace(
      (x: Tensor) => {
        let made = x;
        excludeFromTrace((y) => void (made = y.add(1)), x);
        return made.mul(2);
      },
      { withoutHost: true },
    );
    expect(() => leaks(tensor([1]))).toThrow('return it from the function');
  });
});

describe('parts of a dynamic function', () => {
  test.each([{}, { symbolic: true }, { withoutHost: true }])(
    'gradients flow through a traced part: %o',
    (options) => {
      tg.manualSeed(2);
      const first = new nn.Linear(3, 4);
      const second = new nn.Linear(4, 2);
      const plain = (h: Tensor): Tensor => F.relu(second.forward(h)).square();
      const part = trace(plain, options);
      const gradients = (body: (h: Tensor) => Tensor, x: Tensor): unknown => {
        const parameters = [...first.parameters(), ...second.parameters()];
        for (const p of parameters) p.grad = null;
        const h = first.forward(x).tanh();
        const loss = body(h).sum().add(h.sum());
        loss.backward();
        return parameters.map(({ grad }) => grad?.arraySync());
      };
      for (let i = 0; i < 3; i++) {
        const x = tg.randn([5, 3]);
        expect(gradients(part, x)).toEqual(gradients(plain, x));
      }
      expect(part.stats).toMatchObject({ recordings: 1, hits: 2 });
    },
  );

  test('second gradients, and grad() of a replay', () => {
    const cube = trace((x: Tensor) => x.mul(x).mul(x).sum(), { withoutHost: true });
    const second = tg.grad((x: Tensor) => tg.grad(cube)(x).sum());
    for (const x of [1, 2, 3]) expectValues(second(tensor([x])), [6 * x]);
    const inside = trace(
      tg.grad((x: Tensor) => x.pow(2).sum()),
      { withoutHost: true },
    );
    for (const x of [1, 2, 3]) expectValues(inside(tensor([x])), [2 * x]);
  });

  test('a tensor of the dynamic function must be an argument', () => {
    const w = new nn.Parameter(tensor([2]));
    const run = (x: Tensor): Tensor => {
      const h = x.mul(w);
      return trace((y: Tensor) => y.mul(h), { withoutHost: true })(x);
    };
    expect(() => run(tensor([1]))).toThrow('pass it as an argument');
  });

  test('a custom gradient: inside a replay it is used, through one it is refused', () => {
    const clipped = tg.customGradient((x: Tensor) => ({
      value: x.mul(1),
      gradient: (g) => g.mul(7),
    }));
    const w = new nn.Parameter(tensor([1]));
    const step = trace(
      () => {
        w.grad = null;
        clipped(w.mul(2)).sum().backward();
      },
      { withoutHost: true },
    );
    for (let i = 0; i < 3; i++) step();
    expectValues(w.grad as unknown as Tensor, [14]);
    const part = trace((x: Tensor) => clipped(x), { withoutHost: true });
    part(w).sum().backward();
    expect(() => part(w).sum().backward()).toThrow('a custom gradient, which a replay cannot call');
  });
});

describe('traced inside traced', () => {
  const modes = [{}, { symbolic: true }, { withoutHost: true }] as const;
  test.each(modes.flatMap((outer) => modes.map((inner) => [outer, inner] as const)))(
    '%o around %o',
    (outerOptions, innerOptions) => {
      const w = new nn.Parameter(tensor([3]));
      const inner = trace((x: Tensor) => x.mul(w).add(x), innerOptions);
      const outer = trace((x: Tensor) => inner(inner(x).add(1)).sub(w), outerOptions);
      inner(tensor([1]));
      for (const x of [1, 2, 3, 4]) expectValues(outer(tensor([x])), [4 * (4 * x + 1) - 3]);
      expect(outer.stats.recordings).toBe(1);
      w.setData([0]);
      expectValues(outer(tensor([5])), [6]);
      outer(tensor([1]))
        .sum()
        .backward();
      expectValues(w.grad as Tensor, [2]);
    },
  );
});

describe('what a replay sees', () => {
  test('random numbers in the order of the function, whatever is used of them', () => {
    const plain = (x: Tensor): Tensor => {
      const first = tg.rand(3);
      tg.rand(5);
      const second = tg.rand(3);
      return second.sub(first).add(x);
    };
    const fn = trace(plain, { withoutHost: true });
    const run = (body: (x: Tensor) => Tensor): unknown => {
      tg.manualSeed(7);
      return [1, 2, 3].map((x) => body(tensor([x])).arraySync());
    };
    run(fn);
    expect(run(fn)).toEqual(run(plain));
    expect(fn.stats.recordings).toBe(1);
  });

  test('seeds that are set inside are set again', () => {
    const fn = trace(
      () => {
        tg.manualSeed(5);
        return tg.rand(4);
      },
      { withoutHost: true },
    );
    const first = fn().arraySync();
    tg.rand(100).dataSync();
    expect(fn().arraySync()).toEqual(first);
  });

  test('a stored value that was replaced since is an error, never stale', () => {
    const mask = tensor([1, 2]);
    const fn = trace((x: Tensor) => x.mul(mask), { withoutHost: true });
    fn(tensor([1, 1]));
    mask.assign(tensor([5, 6]));
    expect(() => fn(tensor([1, 1]))).toThrow('was given another value since it was recorded');
    const buffer = new nn.Buffer(tensor([1, 2]));
    const reads = trace((x: Tensor) => x.mul(buffer), { withoutHost: true });
    reads(tensor([1, 1]));
    buffer.assign(tensor([5, 6]));
    expectValues(reads(tensor([1, 1])), [5, 6]);
    const layer = new nn.Linear(2, 1);
    const forward = trace((x: Tensor) => layer.forward(x.to(layer.weight.dtype)), {
      withoutHost: true,
    });
    forward(tg.ones([1, 2]));
    layer.to('float64');
    expect(() => forward(tg.ones([1, 2]))).toThrow('is float64 [1,2] now, was float32 [1,2]');
  });

  test('assigning to arguments, to buffers of others, and in turn', () => {
    const count = new nn.Buffer(tensor([0]));
    const fn = trace(
      (x: Tensor) => {
        count.assign(count.add(1));
        x.assign(x.add(count));
        count.assign(count.mul(2));
        return x.mul(10);
      },
      { withoutHost: true },
    );
    const values = [tensor([1]), tensor([2]), tensor([3])];
    const results = values.map((x) => fn(x).itemSync());
    expect([results, values.map((x) => x.itemSync()), count.itemSync()]).toEqual([
      [20, 50, 100],
      [2, 5, 10],
      14,
    ]);
    expect(fn.stats.recordings).toBe(1);
  });

  test('prints while it is recorded', async () => {
    let text = Promise.resolve('');
    const fn = trace(
      (x: Tensor) => {
        const y = x.add(1);
        text = y.format();
        return y.mul(2);
      },
      { withoutHost: true },
    );
    expectValues(fn(tensor([1])), [4]);
    expect(await text).toBe('[2]');
    expectValues(fn(tensor([5])), [12]);
  });
});

describe('reports', () => {
  test('explain shows the programs of this function, not what ran last', () => {
    const w = new nn.Parameter(tg.ones([4, 4]));
    const fn = trace((x: Tensor) => x.matmul(w).tanh());
    expect(fn.explain()).toContain('nothing was computed yet');
    const y = fn(tg.ones([4, 4]));
    expect(fn.explain()).toContain('nothing was computed yet');
    y.dataSync();
    tg.ones([3]).exp().dataSync();
    expect(fn.explain()).toContain('tanh');
    expect(fn.explain()).not.toContain('exp');
    const replayed = trace((x: Tensor) => x.matmul(w).sin(), { withoutHost: true });
    // As a part of a larger plan.
    replayed(tg.ones([4, 4]))
      .sum()
      .itemSync();
    expect(replayed.explain()).toContain('sin');
    fn.reset();
    expect(fn.explain()).toContain('nothing was computed yet');
  });
});

describe('as a decorator', () => {
  test('with options', () => {
    class Model {
      w = new nn.Parameter(tensor([2]));
      calls = 0;
      forward(x: Tensor): Tensor {
        this.calls++;
        return x.mul(this.w);
      }
    }
    const context = { kind: 'method', name: 'forward' } as ClassMethodDecoratorContext;
    const decorate = trace({ withoutHost: true });
    const forward = decorate(Model.prototype.forward, context);
    const model = new Model();
    for (const x of [1, 2]) expectValues(forward.call(model, tensor([x])), [2 * x]);
    expect(model.calls).toBe(1);
    expect(() => trace({ size: 1 } as object)).toThrow('size');
  });
});
