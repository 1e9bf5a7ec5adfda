// Faces of reverse mode: backward, GradManager, grad and its relatives, custom gradients, noGrad.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import {
  customGradient,
  F,
  grad,
  GradManager,
  hvp,
  nn,
  noGrad,
  optim,
  tensor,
  type Tensor,
  valueAndGrad,
  vjp,
} from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

const cube = (x: Tensor): Tensor => x.mul(x).mul(x).sum();

describe('backward', () => {
  test('reaches every parameter, and adds up', () => {
    const [a, b] = [tensor([2], { requiresGrad: true }), new nn.Parameter(tensor([3]))];
    a.mul(b).sum().backward();
    expectValues(a.grad as Tensor, [3]);
    expectValues(b.grad as Tensor, [2]);
    a.mul(2).sum().backward();
    expectValues(a.grad as unknown as Tensor, [5]);
  });

  test('takes a cotangent for results of many elements', () => {
    const x = tensor([1, 2], { requiresGrad: true });
    x.mul(x).backward({ cotangent: tensor([1, 10]) });
    expectValues(x.grad as Tensor, [2, 40]);
    expect(() => x.mul(2).backward()).toThrow(
      'backward: the result is [2], not a single number. hint: reduce it with sum() or mean()',
    );
    expect(() => x.mul(2).backward({ cotangent: tensor([1]) })).toThrow(
      'the cotangent is float32 [1]',
    );
  });

  test('says why there is nothing to do', () => {
    const x = tensor([1], { requiresGrad: true });
    expect(() => tensor([1]).sum().backward()).toThrow('does not depend on any parameter');
    expect(() => noGrad(() => x.mul(2).sum()).backward()).toThrow('noGrad()');
    expect(() => x.detach().sum().backward()).toThrow('does not depend');
    expect(() => x.argmax().backward()).toThrow('gradients need a float result, got int32');
    expect(() => x.sort().indices.float().sum().backward()).toThrow('does not depend');
    expect(x.grad).toBeNull();
  });

  test('twice through the same graph, and through a gradient', () => {
    const x = tensor([3], { requiresGrad: true });
    const y = cube(x);
    y.backward();
    y.backward();
    expectValues(x.grad as Tensor, [54]);
    x.grad = null;
    cube(x).backward({ createGraph: true });
    const first = x.grad as unknown as Tensor;
    x.grad = null;
    first.sum().backward();
    expectValues(x.grad as unknown as Tensor, [18]);
  });

  test('an assigned parameter is differentiated by its new value', () => {
    const w = new nn.Parameter(tensor([2]));
    for (let step = 0; step < 3; step++) {
      w.grad = null;
      w.mul(w).sum().backward();
      noGrad(() => w.assign(w.sub((w.grad as Tensor).mul(0.25))));
    }
    expectValues(w, [0.25]);
  });

  test('frozen parts have no gradient, and pass none on', () => {
    const [a, b] = [new nn.Parameter(tensor([2])), new nn.Parameter(tensor([5]))];
    const frozen = noGrad(() => a.mul(10));
    frozen.mul(b).sum().backward();
    expect(a.grad).toBeNull();
    expectValues(b.grad as Tensor, [20]);
  });
});

describe('GradManager', () => {
  test('only what is attached, with callbacks', () => {
    const [a, b] = [new nn.Parameter(tensor([2])), new nn.Parameter(tensor([3]))];
    const seen: Tensor[] = [];
    const manager = new GradManager().attach(a, [
      (_, gradient) => {
        seen.push(gradient);
        return gradient.mul(10);
      },
    ]);
    manager.backward(a.mul(b).sum());
    expectValues(a.grad as Tensor, [30]);
    expectValues(seen[0] as Tensor, [3]);
    expect(b.grad).toBeNull();
    expect(manager.attached()[0]).toBe(a);
    expect(() => manager.attach(tensor([1]))).toThrow('wrap the tensor with new nn.Parameter(x)');
  });
});

describe('functions of functions', () => {
  test('grad, higher orders, several arguments', () => {
    expectValues(grad(cube)(tensor([2])), [12]);
    const second = grad((x: Tensor) => grad(cube)(x).sum());
    expectValues(second(tensor([2])), [12]);
    expectValues(grad((x: Tensor) => second(x).sum())(tensor([2])), [6]);
    const product = (a: Tensor, b: Tensor): Tensor => a.mul(b).sum();
    const { value, grads } = valueAndGrad(product, { argnums: [1, 0] })(tensor([2]), tensor([3]));
    expectValues(value, 6);
    expectValues(grads[0] as Tensor, [2]);
    expectValues(grads[1] as Tensor, [3]);
    expectValues(grad((x: Tensor) => x.detach().sum())(tensor([1])), [0]);
    expect(() => valueAndGrad(cube, { argnums: [1] })(tensor([1]))).toThrow(
      'there is no argument 1',
    );
  });

  test('grad computes nothing by itself', () => {
    const x = tensor([1, 2]).add(1);
    const { runs } = tg.stats();
    const slope = grad(cube)(x);
    expect(tg.stats().runs).toBe(runs);
    expectValues(slope, [12, 27]);
  });

  test('vjp and hvp', () => {
    const { value, pullback } = vjp((x: Tensor) => x.mul(x), tensor([1, 2]));
    expectValues(value, [1, 4]);
    expectValues(pullback(tensor([1, 1]))[0] as Tensor, [2, 4]);
    expectValues(pullback(tensor([0, 1]))[0] as Tensor, [0, 4]);
    expectValues(hvp(cube, tensor([1, 2]), tensor([1, 10])), [6, 120]);
    expectValues(
      hvp((x: Tensor) => x.sum(), tensor([1]), tensor([1])),
      [0],
    );
  });

  test('what has no derivative says so', () => {
    const by = grad((x: Tensor) => x.int().float().sum());
    expectValues(by(tensor([1.5])), [0]);
    expect(() => grad((x: Tensor) => x.argmax())(tensor([1]))).toThrow('need a float result');
  });
});

describe('custom gradients', () => {
  test('replace the rule, and can be differentiated again', () => {
    const reversed = customGradient((x: Tensor) => ({ value: x.mul(2), gradient: (g) => g.neg() }));
    expectValues(reversed(tensor([3])), [6]);
    expectValues(grad((x: Tensor) => reversed(x).sum())(tensor([3])), [-1]);
    const square = customGradient((x: Tensor) => ({
      value: x.mul(x),
      gradient: (g) => g.mul(x.mul(2)),
    }));
    const second = grad((x: Tensor) => grad((y: Tensor) => square(y).sum())(x).sum());
    expectValues(second(tensor([3])), [2]);
  });

  test('several arguments, of which one has none', () => {
    const scale = customGradient((x: Tensor, factor: Tensor) => ({
      value: x.mul(factor),
      gradient: (g) => [g.mul(factor), null],
    }));
    const [x, factor] = [tensor([2], { requiresGrad: true }), tensor([5], { requiresGrad: true })];
    scale(x, factor).sum().backward();
    expectValues(x.grad as Tensor, [5]);
    expect(factor.grad).toBeNull();
  });

  test('a wrong gradient is refused', () => {
    const wrong = customGradient((x: Tensor) => ({ value: x.sum(), gradient: (g) => g }));
    expect(() => grad((x: Tensor) => wrong(x))(tensor([1, 2]))).toThrow(
      'gradient 0 is float32 [], its argument float32 [2]',
    );
    const few = customGradient((x: Tensor, y: Tensor) => ({ value: x.add(y), gradient: (g) => g }));
    expect(() => grad(few)(tensor(1), tensor(2))).toThrow('1 gradient(s) for 2 argument(s)');
  });
});

describe('a whole model', () => {
  test('trains', () => {
    tg.manualSeed(0);
    const model = new nn.Sequential(new nn.Linear(2, 8), new nn.Tanh(), new nn.Linear(8, 2));
    const optimizer = new optim.Adam(model.parameters(), { lr: 0.1 });
    const x = tensor([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]);
    const y = ints([0, 1, 1, 0]);
    const losses: Tensor[] = [];
    for (let step = 0; step < 60; step++) {
      const loss = F.crossEntropy(model.forward(x) as Tensor, y);
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      losses.push(loss);
    }
    expect((losses.at(-1) as Tensor).itemSync()).toBeLessThan(0.05);
    expect((losses[0] as Tensor).itemSync()).toBeGreaterThan(0.5);
    expectValues((model.forward(x) as Tensor).argmax(1), [0, 1, 1, 0]);
  });
});

describe('where a derivative is 0 and not undefined', () => {
  test('the deviation of equal elements', () => {
    const x = tensor([2, 2, 2], { requiresGrad: true });
    x.std().backward();
    expectValues(x.grad as Tensor, [0, 0, 0]);
    const y = tensor([2, 2, 2], { requiresGrad: true });
    tg.stdMean(y)[0].backward();
    expectValues(y.grad as Tensor, [0, 0, 0]);
    expectValues(tensor([1]).std(), NaN);
  });

  test('the power 0', () => {
    const x = tensor([0, 2, -3], { requiresGrad: true });
    const power = x.pow(0);
    expectValues(power, [1, 1, 1]);
    power.sum().backward();
    expectValues(x.grad as Tensor, [0, 0, 0]);
  });
});

describe('gradients that are read', () => {
  const network = (): { parameters: nn.Parameter[]; loss: Tensor } => {
    const layers = [new nn.Linear(3, 4), new nn.Linear(4, 2)];
    let x = tensor([[1, 2, 3]]);
    for (const layer of layers) x = layer.forward(x).tanh();
    return { parameters: layers.flatMap((layer) => [...layer.parameters()]), loss: x.sum() };
  };

  test('are computed in one pass, whichever is read first', async () => {
    const { parameters, loss } = network();
    loss.backward();
    const before = tg.stats().runs;
    for (const parameter of parameters) await (parameter.grad as Tensor).array();
    await loss.item();
    expect(tg.stats().runs - before).toBe(1);
  });

  test('through something that is computed from them, too', async () => {
    const { parameters, loss } = network();
    loss.backward();
    const norms: number[] = [];
    for (const { grad: gradient } of parameters) {
      norms.push(await (gradient as Tensor).norm().item());
      // The first reading makes the pass; a norm alone is a kernel or two.
      if (norms.length === 1) tg.resetStats();
    }
    expect(norms.every((norm) => norm > 0)).toBe(true);
    expect(tg.stats().kernelsExecuted).toBeLessThanOrEqual(2 * (parameters.length - 1));
  });

  test('do not keep a step from fusing its updates', async () => {
    const steps = (read: boolean): number => {
      const { parameters, loss } = network();
      const optimizer = new optim.SGD(parameters, { lr: 0.1 });
      loss.backward();
      if (read) parameters[0]?.grad?.dataSync();
      tg.resetStats();
      optimizer.step();
      return tg.stats().kernelsExecuted;
    };
    expect(steps(true)).toBeLessThan(steps(false));
  });
});
