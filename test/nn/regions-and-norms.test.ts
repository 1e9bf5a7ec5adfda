// Convolution within regions, sliding windows, normalization over any axes and over processes; against
// plain loops, PyTorch-like neighbours and each other.
import { describe, expect, test } from 'vitest';
import {
  cat,
  F,
  grad,
  nn,
  ones,
  randn,
  manualSeed,
  tensor,
  type Tensor,
  trace,
  zeros,
} from 'tengen';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';

const wave = (shape: readonly number[], step = 0.7): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  return f64(Array.from({ length: size }, (_, i) => Math.sin(step * i + size))).reshape(shape);
};
const regions = (shape: readonly number[], count: number, step = 7): Tensor => {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Int32Array.from({ length: size }, (_, i) => ((i * step) >> 2) % count);
  return tensor(data, { shape, dtype: 'int32' });
};

interface Case {
  readonly x: readonly [number, number, number, number];
  readonly out: number;
  readonly kernel: readonly [number, number];
  readonly groups: number;
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
}

/** The definition, pixel by pixel. */
function byLoops(c: Case, x: Tensor, w: Tensor, rin: Tensor, rout: Tensor): number[][][][] {
  const [n, channels, height, width] = c.x;
  const [, oh, ow] = rout.shape as [number, number, number];
  const [xs, ws] = [x.arraySync(), w.arraySync()] as [number[][][][], number[][][][]];
  const [ins, outs] = [rin.arraySync(), rout.arraySync()] as [number[][][], number[][][]];
  const per = channels / c.groups;
  const one = (b: number, o: number, i: number, j: number): number => {
    let sum = 0;
    const group = Math.floor(o / (c.out / c.groups));
    for (let k = 0; k < per; k++) {
      for (let u = 0; u < c.kernel[0]; u++) {
        for (let v = 0; v < c.kernel[1]; v++) {
          const y = i * c.stride[0] + u * c.dilation[0] - c.padding[0];
          const z = j * c.stride[1] + v * c.dilation[1] - c.padding[1];
          if (y < 0 || z < 0 || y >= height || z >= width) continue;
          if (ins[b]![y]![z] !== outs[b]![i]![j]) continue;
          sum += xs[b]![group * per + k]![y]![z]! * ws[o]![k]![u]![v]!;
        }
      }
    }
    return sum;
  };
  const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
  return range(n).map((b) =>
    range(c.out).map((o) => range(oh).map((i) => range(ow).map((j) => one(b, o, i, j)))),
  );
}

const CASES: Readonly<Record<string, Case & { readonly places: readonly [number, number] }>> = {
  'by depth': {
    x: [2, 3, 5, 6],
    out: 3,
    kernel: [3, 3],
    groups: 3,
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    places: [5, 6],
  },
  dense: {
    x: [1, 2, 5, 4],
    out: 3,
    kernel: [2, 3],
    groups: 1,
    stride: [2, 1],
    padding: [0, 2],
    dilation: [1, 2],
    places: [2, 4],
  },
  grouped: {
    x: [2, 4, 3, 3],
    out: 6,
    kernel: [1, 1],
    groups: 2,
    stride: [1, 1],
    padding: [0, 0],
    dilation: [1, 1],
    places: [3, 3],
  },
  'a large window': {
    x: [1, 2, 13, 9],
    out: 2,
    kernel: [13, 9],
    groups: 2,
    stride: [1, 1],
    padding: [6, 4],
    dilation: [1, 1],
    places: [13, 9],
  },
};

describe('regionRestrictedConv', () => {
  test.each(Object.entries(CASES))('%s is what loops give', (_, c) => {
    const x = wave(c.x);
    const w = wave([c.out, c.x[1] / c.groups, ...c.kernel], 0.3);
    const rin = regions([c.x[0], c.x[2], c.x[3]], 3);
    const rout = regions([c.x[0], ...c.places], 3, 5);
    const { stride, padding, dilation, groups } = c;
    const found = F.regionRestrictedConv(x, w, rin, rout, null, {
      stride,
      padding,
      dilation,
      groups,
    });
    expectClose(found, byLoops(c, x, w, rin, rout), 1e-12);
  });

  test('one region is a convolution, and other regions do not matter', () => {
    const [x, w, b] = [wave([2, 2, 5, 5]), wave([4, 1, 3, 3]), wave([4])];
    const options = { padding: 1, groups: 2 };
    const same = zeros([2, 5, 5], { dtype: 'uint8' });
    const expected = F.conv2d(x, w, b, options);
    expectClose(F.regionRestrictedConv(x, w, same, same, b, options), expected.arraySync(), 1e-12);
    const other = ones([2, 5, 5], { dtype: 'uint8' });
    expectClose(
      F.regionRestrictedConv(x.mul(NaN), w, other, same, null, options),
      zeros([2, 4, 5, 5]).arraySync(),
    );
    // Without a batch, as every convolution.
    expect(F.regionRestrictedConv(x.at(0), w, same.at(0), same.at(0), b, options).shape).toEqual([
      4, 5, 5,
    ]);
  });

  test('has gradients', () => {
    const [x, w] = [wave([1, 2, 4, 3]), wave([2, 1, 3, 3], 0.3)];
    const [rin, rout] = [regions([1, 4, 3], 2), regions([1, 4, 3], 2, 5)];
    const weights = wave([1, 2, 4, 3], 1.3);
    const of = (a: Tensor, b: Tensor, c: Tensor): Tensor =>
      F.regionRestrictedConv(a, b, rin, rout, c, { padding: 1, groups: 2 }).mul(weights).sum();
    const bias = wave([2]);
    checkDifferences((a) => of(a, w, bias), x);
    checkDifferences((a) => of(x, a, bias), w);
    checkDifferences((a) => of(x, w, a), bias);
  });

  test('refuses what does not fit', () => {
    const [x, w] = [ones(1, 2, 4, 4), ones(2, 1, 3, 3)];
    const [whole, inner] = [regions([1, 4, 4], 2), regions([1, 2, 2], 2)];
    const conv = (rin: Tensor, rout: Tensor, groups = 2): Tensor =>
      F.regionRestrictedConv(x, w, rin, rout, null, { groups });
    expect(conv(whole, inner).shape).toEqual([1, 2, 2, 2]);
    expect(() => conv(whole.float(), inner)).toThrow('rin holds float32, regions are integers');
    expect(() => conv(inner, inner)).toThrow('rin is [1,2,2], expected [1,4,4]');
    expect(() => conv(whole, whole)).toThrow('rout is [1,4,4], expected [1,2,2]');
    expect(() => conv(whole, inner, 1)).toThrow('is not for x [1,2,4,4]');
    expect(() =>
      F.regionRestrictedConv(x, ones(2, 1, 5, 5), whole, inner, null, { groups: 2 }),
    ).toThrow('do not fit');
    expect(() => F.regionRestrictedConv(x, w, whole, inner, ones(3), { groups: 2 })).toThrow(
      'bias [3] does not fit 2 output(s)',
    );
    expect(() => new nn.RegionRestrictedConv(3, 4, 3, { groups: 2 })).toThrow('do not divide');
    const layer = new nn.RegionRestrictedConv(2, 2, 3, { groups: 2, bias: false });
    expect(Object.keys(layer.stateDict())).toEqual(['weight']);
    expect(layer.forward(x, whole, inner).shape).toEqual([1, 2, 2, 2]);
  });
});

describe('sliding windows', () => {
  test('are the columns of unfold, on axes of their own', () => {
    const x = wave([2, 3, 5, 6]);
    const options = { stride: [2, 1], padding: [1, 0], dilation: [1, 2] };
    const windows = F.slidingWindow(x, [3, 2], options);
    expect(windows.shape).toEqual([2, 3, 3, 4, 3, 2]);
    const columns = F.unfold(x, [3, 2], options).reshape(2, 3, 3, 2, 3, 4);
    expectClose(windows, columns.permute(0, 1, 4, 5, 2, 3).arraySync());
    // Element (0, 1, 2, 3) of the window of place (1, 2): row 2 * 1 - 1 + 2, column 2 + 2.
    expectClose(windows.at(0, 1, 1, 2, 2, 1), x.at(0, 1, 3, 4).arraySync());
    const back = F.slidingWindowTranspose(windows, [5, 6], [3, 2], options);
    expectClose(back, F.fold(F.unfold(x, [3, 2], options), [5, 6], [3, 2], options).arraySync());
    expect(new nn.SlidingWindow(2).forward(x.at(0)).shape).toEqual([3, 4, 5, 2, 2]);
    const layer = new nn.SlidingWindowTranspose([5, 6], 2);
    expect(layer.forward(F.slidingWindow(x.at(0), 2)).shape).toEqual([3, 5, 6]);
  });

  test('the one is the adjoint of the other', () => {
    const [x, y] = [wave([1, 2, 4, 4]), wave([1, 2, 2, 2, 3, 3], 0.4)];
    const left = F.slidingWindow(x, 3).mul(y).sum();
    expectClose(left, F.slidingWindowTranspose(y, 4, 3).mul(x).sum().arraySync(), 1e-12);
    checkDifferences((a) => F.slidingWindow(a, 3).mul(y).sum(), x);
    expect(() => F.slidingWindow(x, 5)).toThrow('do not fit');
    expect(() => F.slidingWindowTranspose(y, 5, 3)).toThrow('takes [batch, channels, 3, 3, 3, 3]');
  });
});

describe('generalNorm', () => {
  const byLoops3 = (x: Tensor, axes: readonly number[], eps: number): Tensor => {
    const mean = x.mean(axes, { keepdims: true });
    const centred = x.sub(mean);
    return centred.div(centred.square().mean(axes, { keepdims: true }).add(eps).sqrt());
  };

  test('normalizes any axes, with parameters in the order given', () => {
    const x = wave([2, 3, 4, 5]);
    for (const axes of [[1], [3, 1], [0, 2], [-1, -2], [0, 1, 2, 3]]) {
      const sizes = axes.map((axis) => x.shape.at(axis)!);
      const [weight, bias] = [wave(sizes, 0.2), wave(sizes, 0.9)];
      const found = F.generalNorm(x, axes, { weight, bias, eps: 1e-3 });
      const places = axes.map((axis) => (axis + 4) % 4);
      const order = places.map((_, at) => at).toSorted((a, b) => places[a]! - places[b]!);
      const wide = x.shape.map((size, axis) => (places.includes(axis) ? size : 1));
      const expected = byLoops3(x, axes, 1e-3)
        .mul(weight.permute(order).reshape(wide))
        .add(bias.permute(order).reshape(wide));
      expectClose(found, expected.arraySync(), 1e-12);
    }
  });

  test('is layer normalization over the last axes, and instance normalization over space', () => {
    const x = wave([2, 3, 4, 5]);
    expectClose(F.generalNorm(x, [2, 3]), F.layerNorm(x, [4, 5]).arraySync(), 1e-12);
    expectClose(F.generalNorm(x, [-2, -1]), F.instanceNorm(x).arraySync(), 1e-12);
    const layer = new nn.GeneralNorm([5, 3], { axes: [3, 1] });
    expect(layer.weight!.shape).toEqual([5, 3]);
    expectClose(layer.forward(x), F.generalNorm(x, [1, 3]).arraySync(), 1e-5);
    expect(new nn.GeneralNorm(5).forward(x).shape).toEqual(x.shape);
    expect(String(layer)).toBe('GeneralNorm([5, 3], axes=[3, 1], eps=0.00001, affine=true)');
    const weight = wave([3], 0.2);
    const weights = wave([2, 3, 4, 5], 0.3);
    checkDifferences((a) => F.generalNorm(a, 1, { weight }).mul(weights).sum(), x, 1e-5);
    checkDifferences((a) => F.generalNorm(x, 1, { weight: a }).mul(weights).sum(), weight);
  });

  test('refuses what does not fit', () => {
    const x = ones(2, 3, 4);
    expect(() => F.generalNorm(x, 3)).toThrow('axis 3 is out of range');
    expect(() => F.generalNorm(x, [0, -3])).toThrow('axis appears twice');
    expect(() => F.generalNorm(x, [])).toThrow('at least one axis');
    expect(() => F.generalNorm(x, [2, 1], { weight: ones(3, 4) })).toThrow('expected [4,3]');
    expect(() => new nn.GeneralNorm([3, 4], { axes: 1 })).toThrow('1 axes for 2 size(s)');
    expect(() => new nn.GeneralNorm(3, { axes: 2 }).forward(x)).toThrow('are not [3]');
    expect(() => new nn.GeneralNorm(3, { axes: 5 }).forward(x)).toThrow('axis 5 is out of range');
  });
});

describe('SyncBatchNorm', () => {
  const whole = wave([6, 3, 2, 2]).add(2);
  const parts = [whole.narrow(0, 0, 2), whole.narrow(0, 2, 4)] as const;

  /** The sums of the other part, as its process would send them. */
  const sumsOf = (x: Tensor, shift: Tensor): Tensor => {
    const difference = x.sub(shift.reshape(1, -1, 1, 1));
    const total = (y: Tensor): Tensor => y.sum([0, 2, 3]);
    const count = tensor([x.size / 3], { dtype: 'float64' });
    return cat([count, total(difference), total(difference.square())]);
  };

  test('has the statistics and gradients of the whole batch', () => {
    const weight = wave([3], 0.4).add(1);
    const scale = wave([6, 3, 2, 2], 1.1);
    const options = { weight, training: true, eps: 1e-5, momentum: 0.3 };
    const at = (x: Tensor, y: Tensor, checked = false): Tensor => {
      const shift = f64([0.5, 1, 2]);
      const [mean, variance] = [shift.mul(1), f64([1, 1, 1])];
      const allReduce = (sums: Tensor): Tensor => sums.add(sumsOf(y, shift));
      const result = F.batchNorm(x, mean, variance, { ...options, allReduce });
      if (checked) expectClose(mean, running[0]!.arraySync(), 1e-12);
      if (checked) expectClose(variance, running[1]!.arraySync(), 1e-12);
      return result;
    };
    const running = [f64([0.5, 1, 2]), f64([1, 1, 1])];
    const expected = F.batchNorm(whole, running[0]!, running[1]!, options);
    const [a, b] = [at(parts[0], parts[1], true), at(parts[1], parts[0], true)];
    expectClose(a, expected.narrow(0, 0, 2).arraySync(), 1e-10);
    expectClose(b, expected.narrow(0, 2, 4).arraySync(), 1e-10);
    // The loss of all processes, by the part of one: through its own rows and through the statistics.
    const loss = (x: Tensor): Tensor =>
      at(x, parts[1])
        .mul(scale.narrow(0, 0, 2))
        .sum()
        .add(
          at(parts[1], x)
            .mul(scale.narrow(0, 2, 4))
            .sum(),
        );
    const free = [f64([0.5, 1, 2]), f64([1, 1, 1])];
    const ofWhole = (x: Tensor): Tensor =>
      F.batchNorm(x, free[0]!.mul(1), free[1]!.mul(1), options).mul(scale).sum();
    expectClose(grad(loss)(parts[0]), grad(ofWhole)(whole).narrow(0, 0, 2).arraySync(), 1e-9);
  });

  test('without running statistics the mean is found first', () => {
    const rounds: number[] = [];
    const far = whole.add(1000);
    const found = F.batchNorm(far.float(), null, null, {
      training: true,
      allReduce: (sums) => {
        rounds.push(sums.size);
        return sums.mul(3);
      },
    });
    expect(rounds).toEqual([7, 7]);
    expectClose(found, F.batchNorm(whole, null, null, { training: true }).arraySync(), 2e-3);
  });

  test('the module is a batch normalization alone, and one of all together', () => {
    const x = wave([4, 3, 2, 2]).float();
    const [alone, plain] = [new nn.SyncBatchNorm(3), new nn.BatchNorm2d(3)];
    expectClose(alone.forward(x), plain.forward(x).arraySync());
    expect(Object.keys(alone.stateDict())).toEqual(Object.keys(plain.stateDict()));
    const layer = new nn.SyncBatchNorm(3, { allReduce: (sums) => sums.mul(2) });
    expectClose(layer.forward(x), plain.forward(x).arraySync(), 1e-5);
    expectClose(layer.eval().forward(x), layer.forward(x).arraySync());
    const short = new nn.SyncBatchNorm(3, { allReduce: (sums) => sums.narrow(0, 0, 3) });
    expect(() => short.forward(x)).toThrow('allReduce was given [7] and returned [3]');
    expect(() => layer.forward(ones(3))).toThrow('expected 2 or 3 or 4 or 5 axes');
    // One value per channel here, more elsewhere.
    const one = new nn.SyncBatchNorm(2, { allReduce: (sums) => sums.add(ones(5)) });
    expect(one.forward(ones(1, 2)).shape).toEqual([1, 2]);
  });

  test('takes the place of the batch normalizations of a model', () => {
    manualSeed(3);
    const model = new nn.Sequential(
      new nn.Conv2d(3, 4, 1),
      new nn.BatchNorm2d(4, { momentum: 0.2 }),
      new nn.Sequential(new nn.BatchNorm2d(4), new nn.ReLU()),
    );
    const [before, names] = [model.at(1), Object.keys(model.stateDict())];
    const converted = nn.SyncBatchNorm.convert(model, (sums) => sums.mul(2));
    expect(converted).toBe(model);
    expect(model.at(1)).toBeInstanceOf(nn.SyncBatchNorm);
    expect((model.at(1) as nn.SyncBatchNorm).weight).toBe((before as nn.BatchNorm2d).weight);
    expect((model.at(1) as nn.SyncBatchNorm).momentum).toBe(0.2);
    expect(Object.keys(model.stateDict())).toEqual(names);
    expect(nn.SyncBatchNorm.convert(new nn.BatchNorm1d(2))).toBeInstanceOf(nn.SyncBatchNorm);
    const step = trace((x: Tensor) => model.forward(x));
    const x = randn(2, 3, 4, 4);
    expectClose(step(x), step(x).arraySync(), 1e-6);
  });
});
