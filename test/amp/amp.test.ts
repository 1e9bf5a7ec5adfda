// Mixed precision: which dtype each operation gets, gradients and their scaling, steps that are
// skipped, and the memory that halves save.
import { afterAll, describe, expect, test } from 'vitest';
import {
  amp,
  ArgumentError,
  DTypeError,
  evaluate,
  explain,
  F,
  full,
  manualSeed,
  nn,
  ones,
  optim,
  randn,
  resetStats,
  setDefaultDevice,
  stats,
  tensor,
  type Tensor,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { expectValues, settledBytes } from '../interface/support.ts';

setDefaultDevice('interp');

const HALVES = ['float16', 'bfloat16'] as const;
const x = ones([2, 4]);
const image = ones([1, 2, 4, 4]);
const half = x.to('float16');
const labels = tensor([0, 1], { dtype: 'int32' });

const LOW: [string, () => Tensor][] = [
  ['matmul', () => x.matmul(x.transpose(0, 1))],
  ['linear with a bias', () => new nn.Linear(4, 2).forward(x)],
  ['conv2d', () => new nn.Conv2d(2, 3, 3).forward(image)],
  ['convTranspose2d', () => new nn.ConvTranspose2d(2, 3, 3).forward(image)],
  [
    'attention',
    () => F.scaledDotProductAttention(ones([1, 2, 4]), ones([1, 2, 4]), ones([1, 2, 4])),
  ],
  ['lstm', () => new nn.LSTM(4, 3).forward(ones([2, 1, 4]))[0]],
  ['gruCell', () => new nn.GRUCell(4, 3).forward(x)],
  ['relu of a product', () => F.relu(x.matmul(x.transpose(0, 1)))],
];

const HIGH: [string, () => Tensor][] = [
  ['exp', () => half.exp()],
  ['pow', () => half.pow(2)],
  ['sum', () => half.sum()],
  ['mean', () => half.mean()],
  ['softmax', () => F.softmax(half, -1)],
  ['layerNorm', () => F.layerNorm(half, 4)],
  ['crossEntropy', () => F.crossEntropy(half, labels)],
  ['mseLoss', () => F.mseLoss(half, half)],
  ['cosineSimilarity', () => F.cosineSimilarity(half, half)],
  ['what meets float32', () => half.add(x)],
];

const SAME: [string, () => Tensor][] = [
  ['add', () => half.add(half)],
  ['relu', () => F.relu(half)],
  ['maxPool2d', () => F.maxPool2d(image.half(), 2)],
  ['batchNorm', () => new nn.BatchNorm2d(2).forward(image.half())],
];

describe('which dtype', () => {
  for (const dtype of HALVES) {
    test.each(LOW)(`${dtype}: %s is computed in it`, (_, run) => {
      expect(amp.autocast({ dtype }, run).dtype).toBe(dtype);
      expect(run().dtype).toBe('float32');
    });
  }

  test.each(HIGH)('%s is float32', (_, run) => {
    expect(amp.autocast({ dtype: 'float16' }, run).dtype).toBe('float32');
  });

  test.each(SAME)('%s stays what it is', (_, run) => {
    expect(amp.autocast({ dtype: 'float16' }, run).dtype).toBe('float16');
  });

  test('float64 and integers are left alone; off inside; over after an error', () => {
    amp.autocast({ dtype: 'float16' }, () => {
      expect(amp.isAutocastEnabled()).toBe(true);
      expect(x.double().matmul(x.double().transpose(0, 1)).dtype).toBe('float64');
      expect(x.int().matmul(x.int().transpose(0, 1)).dtype).toBe('int32');
      expect(amp.autocast({ enabled: false }, () => x.matmul(x.transpose(0, 1))).dtype).toBe(
        'float32',
      );
    });
    const fails = (): never => {
      throw new Error('inside');
    };
    expect(() => amp.autocast({}, fails)).toThrow('inside');
    expect(amp.isAutocastEnabled()).toBe(false);
  });

  test('what is refused', () => {
    expect(() => amp.autocast({ dtype: 'float32' as 'float16' }, () => x)).toThrow(ArgumentError);
    expect(() => amp.autocast({ type: 'float16' } as object, () => x)).toThrow('type');
    expect(() => amp.autocast({}, async () => x)).toThrow('asynchronous');
    expect(() => new nn.Linear(1, 1).to('int8')).toThrow(DTypeError);
  });
});

describe('halves without autocast', () => {
  test.each(HALVES)('%s: statistics and means are float32 inside', (dtype) => {
    // The sum is beyond float16, and its squares beyond anything a half can add up.
    expectValues(full([70000], 1, { dtype }).mean().float(), 1);
    expectValues(full([600], 200, { dtype }).mean().float(), 200);
    const spread = tensor([[1000, 1002, 998, 1000]], { dtype });
    const exact = F.layerNorm(spread.float(), 4).to(dtype);
    expect(F.layerNorm(spread, 4).arraySync()).toEqual(exact.arraySync());
    const many = zeros([1, 4096], { dtype });
    expect(F.softmax(many, -1).float().sum().itemSync()).toBeCloseTo(1, 2);
    const norm = new nn.BatchNorm1d(1);
    norm.forward(tensor([[1000], [1002]], { dtype }));
    expect(norm.runningMean?.dtype).toBe('float32');
  });

  test('Module.to keeps the parameters the same objects', () => {
    const layer = new nn.BatchNorm1d(2);
    const [weight] = layer.parameters();
    weight?.setData([1.5, 3]);
    layer.half();
    expect(layer.parameters()[0]).toBe(weight);
    expect([weight?.dtype, layer.runningMean?.dtype, layer.numBatchesTracked?.dtype]).toEqual([
      'float16',
      'float16',
      'int32',
    ]);
    expectValues(weight as Tensor, [1.5, 3]);
    // It still is a parameter: gradients arrive, and optimizers write to it.
    const sgd = new optim.SGD(layer.parameters(), { lr: 0.5 });
    layer.weight?.mul(2).sum().backward();
    sgd.step();
    expectValues(weight as Tensor, [0.5, 2]);
    layer.float();
    expect(weight?.dtype).toBe('float32');
    expectValues(weight as Tensor, [0.5, 2]);
  });
});

/** Eight steps of a small network; the losses. */
function train(dtype: 'float16' | 'bfloat16' | null): number[] {
  manualSeed(4);
  const model = new nn.Sequential(
    new nn.Linear(4, 16),
    new nn.LayerNorm(16),
    new nn.GELU(),
    new nn.Linear(16, 3),
  );
  const optimizer = new optim.AdamW(model.parameters(), { lr: 0.02 });
  const scaler = new amp.GradScaler({ enabled: dtype !== null });
  const inputs = randn([12, 4]);
  const targets = tensor(
    Array.from({ length: 12 }, (_, i) => i % 3),
    { dtype: 'int32' },
  );
  return Array.from({ length: 8 }, () => {
    const loss = amp.autocast(dtype === null ? { enabled: false } : { dtype }, () =>
      F.crossEntropy(model.forward(inputs), targets),
    );
    scaler.scale(loss).backward();
    expect(scaler.step(optimizer)).toBe(true);
    scaler.update();
    optimizer.zeroGrad();
    return loss.itemSync();
  });
}

describe('training', () => {
  test.each(HALVES)('in %s follows float32', (dtype) => {
    const [wide, narrow] = [train(null), train(dtype)];
    expect(wide.at(-1)).toBeLessThan((wide[0] as number) * 0.8);
    for (const [i, loss] of wide.entries()) {
      // The last places of a half in every product: one of 2^11 or of 2^8.
      const tolerance = dtype === 'float16' ? 5e-3 : 3e-2;
      expect(Math.abs((narrow[i] as number) - loss)).toBeLessThan(tolerance);
    }
  });

  test('gradients too small for float16 arrive through the scale', () => {
    const run = (scale: number): number => {
      const w = new nn.Parameter(tensor([[1]]));
      const scaler = new amp.GradScaler({ initScale: scale });
      const sgd = new optim.SGD([w], { lr: 0 });
      const y = amp.autocast({ dtype: 'float16' }, () => w.matmul(tensor([[1]])));
      scaler.scale(y.float().mul(1e-8).sum()).backward();
      scaler.unscale(sgd);
      return (w.grad as Tensor).itemSync();
    };
    expect(run(1)).toBe(0);
    expect(run(65536) / 1e-8).toBeCloseTo(1, 2);
  });
});

describe('GradScaler', () => {
  const adam = (w: nn.Parameter): optim.Adam => new optim.Adam([w], { lr: 0.1 });

  test('a step that overflows changes nothing: weights, moments, counts', () => {
    const w = new nn.Parameter(tensor([1, 2]));
    const optimizer = adam(w);
    const scaler = new amp.GradScaler({ initScale: 8, growthInterval: 2 });
    const step = (factor: number): boolean => {
      scaler.scale(w.mul(factor).sum()).backward();
      const made = scaler.step(optimizer);
      scaler.update();
      optimizer.zeroGrad();
      return made;
    };
    expect(step(1)).toBe(true);
    const before = JSON.stringify([w, optimizer.stateDict()]);
    for (const [i, bad] of [Infinity, NaN].entries()) {
      expect(step(bad)).toBe(false);
      expect(JSON.stringify([w, optimizer.stateDict()])).toBe(before);
      expect(scaler.getScale()).toBe(8 / 2 ** (i + 1));
    }
    expect(step(1)).toBe(true);
    expect(step(1)).toBe(true);
    expect(scaler.getScale()).toBe(4);
    expect(optimizer.stateDict().state[0]?.['step']).toBe(3);
    // As if the bad steps had not been.
    const other = new nn.Parameter(tensor([1, 2]));
    const plain = adam(other);
    for (let i = 0; i < 3; i++) {
      other.grad = tensor([1, 1]);
      plain.step();
    }
    expect(w.arraySync()).toEqual(other.arraySync());
  });

  test('the whole of a scaled step is one plan', () => {
    const w = new nn.Parameter(tensor([1, 2]));
    const optimizer = adam(w);
    const scaler = new amp.GradScaler();
    const step = (): void => {
      scaler.scale(w.square().sum()).backward();
      scaler.step(optimizer);
      scaler.update();
      optimizer.zeroGrad();
    };
    step();
    resetStats();
    step();
    expect(stats().runs).toBe(1);
    expect(stats().planMisses).toBe(0);
  });

  test('clipping between unscale and step; several optimizers; errors in order', () => {
    const [a, b] = [new nn.Parameter(tensor([1])), new nn.Parameter(tensor([1]))];
    const [first, second] = [new optim.SGD([a], { lr: 1 }), new optim.SGD([b], { lr: 1 })];
    const scaler = new amp.GradScaler({ initScale: 16 });
    expect(() => scaler.update()).toThrow('no step');
    scaler.scale(a.mul(100).sum().add(b.mul(Infinity).sum())).backward();
    scaler.unscale(first);
    expect(() => scaler.unscale(first)).toThrow('unscaled already');
    expect(optim.clipGradNorm([a], 0.5)?.itemSync()).toBe(100);
    expect([scaler.step(first), scaler.step(second)]).toEqual([true, false]);
    expect(() => scaler.step(first)).toThrow('stepped already');
    scaler.update();
    expect(scaler.getScale()).toBe(8);
    expect(a.itemSync()).toBeCloseTo(0.5, 5);
    expect(b.itemSync()).toBe(1);
  });

  test('goes on from its state; nonsense is refused and changes nothing', () => {
    const scaler = new amp.GradScaler({ initScale: 4, growthInterval: 7, growthFactor: 3 });
    const w = new nn.Parameter(tensor([1]));
    scaler.scale(w.sum()).backward();
    scaler.step(new optim.SGD([w]));
    scaler.update();
    const saved = scaler.stateDict();
    expect(saved).toEqual({
      scale: 4,
      growthFactor: 3,
      backoffFactor: 0.5,
      growthInterval: 7,
      growthTracker: 1,
    });
    const other = new amp.GradScaler();
    other.loadStateDict(saved);
    expect(other.stateDict()).toEqual(saved);
    expect(() => other.loadStateDict({ ...saved, scale: -1 })).toThrow(ArgumentError);
    expect(() => other.loadStateDict({} as typeof saved)).toThrow('not that of a scaler');
    expect(other.stateDict()).toEqual(saved);
    expect(() => new amp.GradScaler({ growthFactor: 1 })).toThrow(ArgumentError);
    other.update(32);
    expect(other.getScale()).toBe(32);
  });

  test('switched off it is not there', () => {
    const w = new nn.Parameter(tensor([1]));
    const scaler = new amp.GradScaler({ enabled: false });
    const loss = w.sum();
    expect(scaler.scale(loss)).toBe(loss);
    loss.backward();
    expect(scaler.step(new optim.SGD([w], { lr: 1 }))).toBe(true);
    scaler.update();
    expect([w.itemSync(), scaler.getScale()]).toEqual([0, 1]);
  });
});

describe('memory', () => {
  afterAll(() => setDefaultDevice('interp'));

  test('parameters of halves take half the bytes', async () => {
    setDefaultDevice('wasm');
    const bytesOf = async (dtype: 'float32' | 'bfloat16'): Promise<number> => {
      const before = await settledBytes(0);
      const layer = new nn.Linear(256, 256).to(dtype);
      evaluate(layer.weight.add(0).sum());
      const bytes = (await settledBytes(before)) - before;
      // Held until here, or a collection in between would give a wrong difference.
      expect(layer.weight.dtype).toBe(dtype);
      return bytes;
    };
    const [wide, narrow] = [await bytesOf('float32'), await bytesOf('bfloat16')];
    expect(wide).toBeGreaterThanOrEqual(4 * 256 * 256);
    expect(narrow).toBeGreaterThanOrEqual(2 * 256 * 256);
    expect(narrow).toBeLessThanOrEqual(wide / 2 + 1024);
  });

  test('activations kept for the backward pass take half the bytes', () => {
    setDefaultDevice('wasm');
    const inputs = randn([256, 32]);
    evaluate(inputs);
    const arena = (dtype: 'bfloat16' | null): number => {
      const layers = Array.from({ length: 16 }, () => new nn.Linear(32, 32, { bias: false }));
      const body = (): Tensor =>
        layers.reduce<Tensor>((y, layer) => F.relu(layer.forward(y)), inputs);
      const output = amp.autocast(dtype === null ? { enabled: false } : { dtype }, body);
      output.float().sum().backward();
      evaluate(...layers.map(({ weight }) => weight.grad as Tensor));
      const [, size, unit] = /arena ([\d.]+) (kB|MB)/.exec(explain()) ?? [];
      return Number(size) * (unit === 'MB' ? 1000 : 1);
    };
    // Blocks that products are packed into are float32 and shared by all of them.
    expect(arena('bfloat16')).toBeLessThan(0.62 * arena(null));
  });
});
