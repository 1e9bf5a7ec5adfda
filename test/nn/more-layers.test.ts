// Layers and losses beyond the usual ones: adaptive softmax, fused pairs, embeddings that are moved
// together, and how parameters start; against PyTorch's values where it has them.
import { describe, expect, test } from 'vitest';
import { F, Generator, grad, manualSeed, nn, ones, tensor, type Tensor, zeros } from 'tengen';
import { checkDifferences, expectClose, f64 } from '../linalg/support.ts';
import { ints } from '../interface/support.ts';

/** Numbers that no draw changes: sin(0.7 i + size). */
function fill(model: nn.Module): void {
  for (const parameter of model.parameters()) {
    const { size } = parameter;
    parameter.setData(Float64Array.from({ length: size }, (_, i) => Math.sin(0.7 * i + size)));
  }
}

describe('AdaptiveLogSoftmaxWithLoss', () => {
  const layer = new nn.AdaptiveLogSoftmaxWithLoss(8, 10, [2, 5], { divValue: 2, headBias: true });
  fill(layer);
  const x = tensor(
    Float32Array.from({ length: 32 }, (_, i) => Math.cos(i)),
    { shape: [4, 8] },
  );
  const target = ints([0, 3, 9, 5]);

  test('gives the numbers of PyTorch', () => {
    expect(Object.keys(layer.stateDict())).toEqual([
      'head.weight',
      'head.bias',
      'tail.0.0.weight',
      'tail.0.1.weight',
      'tail.1.0.weight',
      'tail.1.1.weight',
    ]);
    const { output, loss } = layer.forward(x, target);
    expectClose(output, [-0.7222893, -12.6692514, -5.430871, -6.8140354], 1e-5);
    expectClose(loss, 6.4091115, 1e-5);
    loss.backward();
    expectClose(layer.tail.at(1).at(0).parameters()[0]!.grad!.sum(), 0.8117405, 1e-5);
    expectClose(layer.head.weight.grad!.abs().sum(), 5.127707, 1e-5);
    expectClose(
      layer.logProb(x).select(0, 1),
      [
        -5.7191367, -4.2463131, -2.643594, -12.6692514, -2.8848922, -2.7009051, -3.4675257,
        -2.0333834, -0.7792494, -1.7870687,
      ],
      1e-5,
    );
    expect(layer.predict(x).arraySync()).toEqual([0, 8, 1, 0]);
  });

  test('takes one sample, and refuses what does not fit', () => {
    const { output } = layer.forward(x.select(0, 1), tensor(3, { dtype: 'int32' }));
    expectClose(output, -12.6692514, 1e-5);
    expectClose(layer.logProb(x.select(0, 1)).exp().sum(), 1, 1e-5);
    expect(() => layer.forward(zeros(4, 7), target)).toThrow('takes [n, 8]');
    expect(() => layer.forward(x, ints([1]))).toThrow('they must be [4]');
    expect(() => layer.forward(x, ints([0, 1, 2, 10]))).toThrow();
    expect(() => new nn.AdaptiveLogSoftmaxWithLoss(8, 10, [5, 2])).toThrow('must rise');
    expect(() => new nn.AdaptiveLogSoftmaxWithLoss(8, 10, [10])).toThrow('must rise');
  });
});

describe('fused layers', () => {
  test('do what their parts do', () => {
    const x = tensor(
      Float32Array.from({ length: 96 }, (_, i) => Math.sin(i)),
      {
        shape: [2, 3, 4, 4],
      },
    );
    const layer = new nn.ConvBnRelu2d(3, 4, 3, { padding: 1, norm: { momentum: 0.5 } });
    const expected = F.relu(layer.bn.forward(layer.conv.forward(x)));
    expect(layer.bn.momentum).toBe(0.5);
    expectClose(layer.forward(x), expected.arraySync(), 1e-6);
    const turned = new nn.ConvTransposeBnRelu2d(3, 2, 2, { stride: 2 });
    expect(turned.forward(x).shape).toEqual([2, 2, 8, 8]);
    expect(turned.forward(x).amin().itemSync()).toBe(0);
    expect(new nn.ConvRelu2d(3, 2, 1).forward(x).amin().itemSync()).toBe(0);
    expect(new nn.ConvTransposeRelu2d(3, 2, 1).forward(x).amin().itemSync()).toBe(0);
    expect(Object.keys(new nn.ConvRelu2d(3, 2, 1).stateDict())).toEqual(['weight', 'bias']);
    const rows = x.reshape([24, 4]);
    expect(new nn.LinearBnRelu1d(4, 3).forward(rows).amin().itemSync()).toBe(0);
    expect(new nn.LinearRelu(4, 3).forward(rows).amin().itemSync()).toBe(0);
  });

  test('a normalization is folded into the layer before it', () => {
    const block = new nn.ConvBn2d(2, 4, 3, { groups: 2, stride: 2, padding: 1 });
    fill(block);
    block.bn.runningMean!.setData([0.1, -0.2, 0.3, 0]);
    block.bn.runningVar!.setData([1, 2, 0.5, 3]);
    block.eval();
    const x = tensor(
      Float32Array.from({ length: 50 }, (_, i) => Math.sin(i)),
      {
        shape: [1, 2, 5, 5],
      },
    );
    const fused = nn.fuseConvBnEval(block.conv, block.bn);
    expect(fused).toBeInstanceOf(nn.Conv2d);
    expectClose(fused.forward(x), block.forward(x).arraySync(), 1e-5);
    const linear = new nn.LinearBn1d(5, 3, { bias: false });
    linear.bn.runningMean!.setData([1, 2, 3]);
    linear.eval();
    const rows = x.reshape([10, 5]);
    const one = nn.fuseLinearBnEval(linear.linear, linear.bn);
    expectClose(one.forward(rows), linear.forward(rows).arraySync(), 1e-5);
    const bare = new nn.BatchNorm2d(4, { trackRunningStats: false });
    expect(() => nn.fuseConvBnEval(block.conv, bare)).toThrow('no running statistics');
    expect(() => nn.fuseConvBnEval(block.conv, new nn.BatchNorm2d(3))).toThrow('3 channels');
  });

  test('operations as modules', () => {
    const [a, b] = [tensor([1, -2]), tensor([3, 1])];
    expectClose(new nn.Elemwise('addRelu').forward(a, b), [4, 0]);
    expectClose(new nn.Elemwise('maximum').forward(a, b), [3, 1]);
    expectClose(new nn.Elemwise('abs').forward(a), [1, 2]);
    expect(() => new nn.Elemwise('add').forward(a)).toThrow('add takes 2');
    // @ts-expect-error no such method
    expect(() => new nn.Elemwise('nothing')).toThrow("no method 'nothing'");
    expectClose(new nn.Concat().forward([a, b]), [1, -2, 3, 1]);
    const layer = new nn.BatchMatMulActivation(2, 3, 1, { nonlinearity: 'relu' });
    fill(layer);
    const x = ones([2, 3, 2]);
    const expected = F.relu(layer.weight.matmul(x).add(layer.bias!));
    expectClose(layer.forward(x), expected.arraySync());
    expect(() => layer.forward(zeros(2, 4, 2))).toThrow('takes [2, 3, n]');
  });

  test('parameters as one vector', () => {
    const layer = new nn.Linear(2, 2);
    const vector = nn.parametersToVector(layer.parameters());
    nn.vectorToParameters(vector.mul(2), layer.parameters());
    expectClose(nn.parametersToVector(layer.parameters()), vector.mul(2).arraySync());
    expect(() => nn.vectorToParameters(zeros(5), layer.parameters())).toThrow('of 6 elements');
  });
});

describe('losses that move vectors', () => {
  const a = f64([
    [0, 0],
    [1, 2],
    [1, 0],
  ]);
  const b = f64([
    [3, 4],
    [1, 2.5],
    [1, 0.2],
  ]);

  test('contrastive', () => {
    const target = tensor([1, 0, 0]);
    const losses = F.contrastiveLoss(a, b, target, { reduction: 'none' });
    expectClose(losses, [12.5, 0.125, 0.32], 1e-5);
    checkDifferences((x) => F.contrastiveLoss(x, b, target), a);
    const twice = grad((x: Tensor) => F.contrastiveLoss(x, a, zeros(3)))(a);
    expect(twice.isfinite().all().itemSync()).toBe(1);
    expectClose(new nn.ContrastiveLoss({ margin: 0 }).forward(a, b, zeros(3)), 0);
    expect(() => F.contrastiveLoss(a, b, zeros(2))).toThrow('they must be [3]');
  });

  test('InfoNCE is the cross entropy of the products', () => {
    const [q, k] = [F.normalize(a.add(0.1)), F.normalize(b)];
    const scores = q.matmul(k.t()).div(0.5);
    const expected = F.crossEntropy(scores, ints([0, 1, 2]));
    const loss = new nn.InfoNCELoss({ temperature: 0.5 });
    expectClose(loss.forward(a.add(0.1), b), expected.itemSync());
    checkDifferences((x) => F.infoNceLoss(x, b), b.add(0.3));
    expect(() => F.infoNceLoss(a, b, { temperature: 0 })).toThrow('temperature');
  });

  test('centres', () => {
    const loss = new nn.CenterLoss(4, 2, { reduction: 'sum' });
    loss.centers.setData([0, 0, 1, 1, 2, 2, 3, 3]);
    const target = ints([1, 1, 3]);
    const x = tensor([
      [1, 0],
      [2, 2],
      [3, 3],
    ]);
    const value = loss.forward(x, target);
    expectClose(value, 1.5);
    value.backward();
    expectClose(loss.centers.grad!, [
      [0, 0],
      [-1, 0],
      [0, 0],
      [0, 0],
    ]);
    expect(() => loss.forward(x, ints([0, 1, 4]))).toThrow();
    expect(() => loss.forward(zeros(3, 3), target)).toThrow('takes vectors');
  });

  test('shares of hits among the best', () => {
    const scores = tensor([
      [0.1, 0.9, 0.5],
      [0.3, 0.3, 0.3],
    ]);
    expectClose(F.topkAccuracy(scores, ints([2, 1]), [1, 2, 3]), [0, 1, 1]);
    expectClose(F.topkAccuracy(scores, ints([1, 0])), 1);
    expect(() => F.topkAccuracy(scores, ints([1, 0]), 4)).toThrow('topk must be');
  });
});

describe('samples', () => {
  test('Gumbel softmax', () => {
    manualSeed(2);
    const logits = tensor([0, Math.log(3)]).expand([20_000, 2]);
    const hard = F.gumbelSoftmax(logits, { hard: true });
    expectClose(hard.sum(1).eq(1).all(), true);
    expect(hard.select(1, 1).mean().itemSync()).toBeCloseTo(0.75, 1.7);
    const soft = F.gumbelSoftmax(logits, { tau: 0.1 });
    expect(soft.isfinite().all().itemSync()).toBe(1);
    const slope = grad((x: Tensor) => {
      const generator = new Generator(4);
      return F.gumbelSoftmax(x, { hard: true, generator }).select(0, 0);
    })(tensor([0.1, 0.4]));
    expect(slope.sum().abs().itemSync()).toBeLessThan(1e-6);
    expect(slope.abs().sum().itemSync()).toBeGreaterThan(0.1);
    expect(() => F.gumbelSoftmax(logits, { tau: 0 })).toThrow('tau');
  });

  test('dropout of features keeps mean and variance', () => {
    manualSeed(2);
    const x = tensor([1, -1]).repeat([30_000, 1]).reshape([30_000, 1, 2]).expand([30_000, 1, 2]);
    const layer = new nn.FeatureAlphaDropout(0.3);
    const y = layer.forward(x);
    expect(y.mean().itemSync()).toBeCloseTo(0, 1.5);
    // Both elements of a channel are dropped together.
    const equal = y.select(2, 0).eq(y.select(2, 1)).float().mean().itemSync();
    expect(equal).toBeCloseTo(0.3, 1.7);
    expectClose(layer.eval().forward(x.narrow(0, 0, 1)), [[[1, -1]]]);
    expect(() => F.featureAlphaDropout(zeros(3))).toThrow('takes [batch, channels');
  });
});

describe('how parameters start', () => {
  test('orthogonal', () => {
    const wide = nn.init.orthogonal(zeros([3, 2, 4]), 2).reshape([3, 8]);
    const unit = [
      [4, 0, 0],
      [0, 4, 0],
      [0, 0, 4],
    ];
    expectClose(wide.matmul(wide.t()), unit, 1e-5);
    const tall = nn.init.orthogonal(zeros([8, 3]), 2);
    expectClose(tall.t().matmul(tall), unit, 1e-5);
    expect(() => nn.init.orthogonal(zeros(3))).toThrow('two axes');
  });

  test('truncated normal', () => {
    manualSeed(1);
    const x = nn.init.truncNormal(zeros(20_000), 1, 2, 0, 4);
    expect(x.amin().itemSync()).toBeGreaterThanOrEqual(0);
    expect(x.amax().itemSync()).toBeLessThanOrEqual(4);
    // Mean of a normal distribution cut at -0.5 and 1.5: 1 + 2 (φ(-0.5) - φ(1.5)) / 0.6247.
    expect(x.mean().itemSync()).toBeCloseTo(1.7124, 1.5);
    const narrow = nn.init.truncNormal(zeros(1000), 0, 1, 2, 2.1);
    expect(narrow.amin().itemSync()).toBeGreaterThanOrEqual(2);
    expect(narrow.mean().itemSync()).toBeCloseTo(2.0491, 2);
    expect(() => nn.init.truncNormal(zeros(2), 0, 0.01, 1, 2)).toThrow('six deviations');
    expect(() => nn.init.truncNormal(zeros(2), 0, 1, 2, 1)).toThrow('is not below');
  });

  test('identities, sparse', () => {
    expectClose(nn.init.eye(ones([2, 3])), [
      [1, 0, 0],
      [0, 1, 0],
    ]);
    const weight = nn.init.dirac(zeros([4, 2, 3, 3]), 2);
    const x = tensor(
      Float32Array.from({ length: 64 }, (_, i) => i),
      { shape: [1, 4, 4, 4] },
    );
    expectClose(F.conv2d(x, weight, null, { padding: 1, groups: 2 }), x.arraySync());
    const sparse = nn.init.sparse(zeros([10, 3]), 0.35);
    expect(sparse.eq(0).sum(0).arraySync()).toEqual([4, 4, 4]);
  });
});
