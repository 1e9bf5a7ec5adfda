// Optimizers against plain loops in float64, written from the papers' formulas, over several steps.
import { describe, expect, test } from 'vitest';
import { ArgumentError, nn, optim, type Tensor, tensor } from 'tengen';

/** Gradients of ten steps for three weights: signs change, sizes differ. */
const GRADIENTS = Array.from({ length: 10 }, (_, t) =>
  [0.5, -2, 0.01].map((scale, i) => scale * (Math.sin(t + i) + 0.3)),
);
const START = [1, -0.5, 2];

const parameterOf = (values: readonly number[]): nn.Parameter =>
  new nn.Parameter(Float32Array.from(values), [values.length]);
const values = (x: Tensor): number[] => Array.from(x.dataSync());

function runOptimizer(make: (params: nn.Parameter[]) => { step(): void }): number[] {
  const w = parameterOf(START);
  const optimizer = make([w]);
  for (const gradient of GRADIENTS) {
    w.grad = tensor(Float32Array.from(gradient));
    optimizer.step();
  }
  return values(w);
}

/** One weight's rule: called with the weight, its gradient, and the step from 1. */
type Rule = () => (w: number, g: number, t: number) => number;

function runRule(rule: Rule): number[] {
  return START.map((start, i) => {
    const update = rule();
    return GRADIENTS.reduce((w, gradient, t) => update(w, gradient[i] ?? NaN, t + 1), start);
  });
}

function adamRule(lr: number, b1: number, b2: number, eps: number, decay: number): Rule {
  return () => {
    let [m, v] = [0, 0];
    return (w, g, t) => {
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      const step = m / (1 - b1 ** t) / (Math.sqrt(v / (1 - b2 ** t)) + eps);
      return w - lr * decay * w - lr * step;
    };
  };
}

const cases: [string, (params: nn.Parameter[]) => { step(): void }, Rule][] = [
  ['SGD', (p) => new optim.SGD(p, { lr: 0.1 }), () => (w, g) => w - 0.1 * g],
  [
    'SGD with momentum, dampening and weight decay',
    (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.9, dampening: 0.2, weightDecay: 0.01 }),
    () => {
      let v = 0;
      return (w, g, t) => {
        const direction = g + 0.01 * w;
        v = t === 1 ? direction : 0.9 * v + 0.8 * direction;
        return w - 0.1 * v;
      };
    },
  ],
  [
    'SGD with Nesterov momentum, ascending',
    (p) => new optim.SGD(p, { lr: 0.1, momentum: 0.5, nesterov: true, maximize: true }),
    () => {
      let v = 0;
      return (w, g) => {
        v = 0.5 * v - g;
        return w - 0.1 * (-g + 0.5 * v);
      };
    },
  ],
  ['Adam', (p) => new optim.Adam(p, { lr: 0.02 }), adamRule(0.02, 0.9, 0.999, 1e-8, 0)],
  [
    'Adam with betas and eps',
    (p) => new optim.Adam(p, { lr: 0.02, betas: [0.8, 0.95], eps: 0.1 }),
    adamRule(0.02, 0.8, 0.95, 0.1, 0),
  ],
  ['AdamW', (p) => new optim.AdamW(p, { lr: 0.02 }), adamRule(0.02, 0.9, 0.999, 1e-8, 0.01)],
  [
    'Adam with amsgrad',
    (p) => new optim.Adam(p, { lr: 0.02, betas: [0.9, 0.5], amsgrad: true }),
    () => {
      let [m, v, largest] = [0, 0, 0];
      return (w, g, t) => {
        m = 0.9 * m + 0.1 * g;
        v = 0.5 * v + 0.5 * g * g;
        largest = Math.max(largest, v);
        const scale = Math.sqrt(largest) / Math.sqrt(1 - 0.5 ** t) + 1e-8;
        return w - (0.02 * m) / (1 - 0.9 ** t) / scale;
      };
    },
  ],
  [
    'RMSprop, centred, with momentum',
    (p) => new optim.RMSprop(p, { lr: 0.01, alpha: 0.9, momentum: 0.5, centered: true }),
    () => {
      let [square, mean, buffer] = [0, 0, 0];
      return (w, g) => {
        square = 0.9 * square + 0.1 * g * g;
        mean = 0.9 * mean + 0.1 * g;
        buffer = 0.5 * buffer + g / (Math.sqrt(square - mean * mean) + 1e-8);
        return w - 0.01 * buffer;
      };
    },
  ],
  [
    'Adagrad',
    (p) => new optim.Adagrad(p, { lr: 0.1, lrDecay: 0.1, initialAccumulatorValue: 0.5 }),
    () => {
      let sum = 0.5;
      return (w, g, t) => {
        sum += g * g;
        return w - (0.1 / (1 + (t - 1) * 0.1)) * (g / (Math.sqrt(sum) + 1e-10));
      };
    },
  ],
  [
    'Adadelta',
    (p) => new optim.Adadelta(p, { lr: 0.5 }),
    () => {
      let [square, deltas] = [0, 0];
      return (w, g) => {
        square = 0.9 * square + 0.1 * g * g;
        const delta = (Math.sqrt(deltas + 1e-6) / Math.sqrt(square + 1e-6)) * g;
        deltas = 0.9 * deltas + 0.1 * delta * delta;
        return w - 0.5 * delta;
      };
    },
  ],
  [
    'Adamax',
    (p) => new optim.Adamax(p, { lr: 0.02 }),
    () => {
      let [m, norm] = [0, 0];
      return (w, g, t) => {
        m = 0.9 * m + 0.1 * g;
        norm = Math.max(0.999 * norm, Math.abs(g) + 1e-8);
        return w - (0.02 / (1 - 0.9 ** t)) * (m / norm);
      };
    },
  ],
  [
    'NAdam',
    (p) => new optim.NAdam(p, { lr: 0.02, momentumDecay: 0.1 }),
    () => {
      let [m, v, product] = [0, 0, 1];
      const momentum = (t: number): number => 0.9 * (1 - 0.5 * 0.96 ** (t * 0.1));
      return (w, g, t) => {
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        product *= momentum(t);
        const scale = Math.sqrt(v / (1 - 0.999 ** t)) + 1e-8;
        const now = (g * (1 - momentum(t))) / (1 - product);
        const next = (m * momentum(t + 1)) / (1 - product * momentum(t + 1));
        return w - (0.02 * (now + next)) / scale;
      };
    },
  ],
  [
    'RAdam, from plain to adaptive steps',
    (p) => new optim.RAdam(p, { lr: 0.02 }),
    () => {
      let [m, v] = [0, 0];
      const longest = 2 / (1 - 0.999) - 1;
      return (w, g, t) => {
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        const mean = m / (1 - 0.9 ** t);
        const rho = longest - (2 * t * 0.999 ** t) / (1 - 0.999 ** t);
        if (rho <= 5) return w - 0.02 * mean;
        const top = (rho - 4) * (rho - 2) * longest;
        const rectified = Math.sqrt(top / ((longest - 4) * (longest - 2) * rho));
        const adaptive = Math.sqrt(1 - 0.999 ** t) / (Math.sqrt(v) + 1e-8);
        return w - 0.02 * mean * rectified * adaptive;
      };
    },
  ],
];

describe('ten steps', () => {
  test.each(cases)('%s', (_, make, rule) => {
    const [actual, expected] = [runOptimizer(make), runRule(rule)];
    for (const [i, value] of expected.entries()) {
      // The first steps divide by square roots of small numbers: float32 keeps five digits.
      expect(Math.abs((actual[i] ?? NaN) - value)).toBeLessThan(
        2e-5 * Math.max(1, Math.abs(value)),
      );
    }
  });
});

describe('groups and state', () => {
  test('groups have settings of their own, and may change between steps', () => {
    const [a, b] = [parameterOf([1]), parameterOf([1])];
    const sgd = new optim.SGD([{ params: [a] }, { params: [b], lr: 1 }], { lr: 0.1 });
    const step = (): void => {
      a.grad = tensor([1]);
      b.grad = tensor([1]);
      sgd.step();
    };
    step();
    expect([values(a)[0], values(b)[0]]).toEqual([Math.fround(0.9), 0]);
    for (const group of sgd.paramGroups) group.lr = 0;
    step();
    expect([values(a)[0], values(b)[0]]).toEqual([Math.fround(0.9), 0]);
  });

  test('parameters without a gradient rest; zeroGrad forgets', () => {
    const [a, b] = [parameterOf([1]), parameterOf([1])];
    const sgd = new optim.SGD([a, b], { lr: 1 });
    a.grad = tensor([1]);
    sgd.step();
    sgd.zeroGrad();
    expect(a.grad).toBeNull();
    sgd.step();
    expect([values(a)[0], values(b)[0]]).toEqual([0, 1]);
  });

  test('mistakes are named', () => {
    const w = parameterOf([1]);
    expect(() => new optim.SGD([], { lr: 1 })).toThrow('SGD: got no parameters');
    expect(() => new optim.SGD([tensor([1])], { lr: 1 })).toThrow('is not a parameter');
    expect(() => new optim.SGD([w, w], { lr: 1 })).toThrow(ArgumentError);
    expect(() => new optim.Adam([w], { lr: -1 })).toThrow(
      'lr must be a number of at least 0, got -1',
    );
    const other = new optim.Adam([w, parameterOf([2])]);
    expect(() => new optim.Adam([w]).loadStateDict(other.stateDict())).toThrow(
      'the saved groups have 2 parameters',
    );
  });

  test.each([
    ['SGD', (p: nn.Parameter[]) => new optim.SGD(p, { lr: 0.1, momentum: 0.9 })],
    ['AdamW', (p: nn.Parameter[]) => new optim.AdamW(p, { lr: 0.1 })],
    ['NAdam', (p: nn.Parameter[]) => new optim.NAdam(p, { lr: 0.1 })],
  ])('%s goes on from its state dict to the same bits', (_, make) => {
    const train = (
      optimizer: { step(): void },
      w: nn.Parameter,
      from: number,
      to: number,
    ): void => {
      for (const gradient of GRADIENTS.slice(from, to)) {
        w.grad = tensor(Float32Array.from(gradient));
        optimizer.step();
      }
    };
    const whole = parameterOf(START);
    train(make([whole]), whole, 0, 10);
    const first = parameterOf(START);
    const before = make([first]);
    train(before, first, 0, 4);
    const second = parameterOf(values(first));
    const after = make([second]);
    after.loadStateDict(before.stateDict());
    train(after, second, 4, 10);
    expect(values(second)).toEqual(values(whole));
  });
});

describe('clipping', () => {
  const withGradients = (): nn.Parameter[] =>
    [
      [3, 0],
      [0, 4],
    ].map((gradient) => {
      const w = parameterOf([0, 0]);
      w.grad = tensor(gradient);
      return w;
    });
  const gradients = (params: nn.Parameter[]): number[] =>
    params.flatMap((w) => values(w.grad as Tensor));

  test('by norm: scaled together, and the norm returned', () => {
    const params = withGradients();
    expect(values(optim.clipGradNorm(params, 1) as Tensor)).toEqual([5]);
    for (const [i, value] of [0.6, 0, 0, 0.8].entries()) {
      expect(gradients(params)[i]).toBeCloseTo(value, 5);
    }
    const small = withGradients();
    optim.clipGradNorm(small, 10);
    expect(gradients(small)).toEqual([3, 0, 0, 4]);
    const largest = withGradients();
    expect(values(optim.clipGradNorm(largest, 2, { normType: Infinity }) as Tensor)).toEqual([4]);
    expect(gradients(largest)[3]).toBeCloseTo(2, 5);
    expect(values(optim.clipGradNorm(withGradients(), 1, { normType: 1 }) as Tensor)).toEqual([7]);
    expect(optim.clipGradNorm([parameterOf([1])], 1)).toBeNull();
  });

  test('by value', () => {
    const params = withGradients();
    optim.clipGradValue(params, 3.5);
    expect(gradients(params)).toEqual([3, 0, 0, 3.5]);
  });
});
