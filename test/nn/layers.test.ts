// Layers against values computed by hand, and their parameters against PyTorch's names and shapes.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  manualSeed,
  nn,
  ones,
  ShapeError,
  type Tensor,
  tensor,
  zeros,
} from 'tengen';

const values = (x: Tensor): number[] => Array.from(x.dataSync());

/** Compares to within float32 rounding of a few operations. */
function expectClose(actual: Tensor, expected: readonly number[], shape?: readonly number[]): void {
  const got = values(actual);
  expect(got).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(got[i]).toBeCloseTo(value, 5);
  if (shape !== undefined) expect(actual.shape).toEqual(shape);
}

const shapesOf = (module: nn.Module): Record<string, string> =>
  Object.fromEntries(
    Object.entries(module.stateDict()).map(([name, value]) => [name, value.shape.join('x')]),
  );

describe('linear layers', () => {
  test('Linear is x @ weight.T + bias', () => {
    const layer = new nn.Linear(2, 3);
    layer.loadStateDict({
      weight: tensor([
        [1, 2],
        [3, 4],
        [5, 6],
      ]),
      bias: tensor([10, 20, 30]),
    });
    expectClose(layer.forward(tensor([[1, -1]])), [9, 19, 29], [1, 3]);
    expect(new nn.Linear(2, 3, { bias: false }).bias).toBeNull();
    expect(() => layer.forward(zeros([2, 3]))).toThrow(ShapeError);
  });

  test('Bilinear', () => {
    const layer = new nn.Bilinear(2, 2, 1, { bias: false });
    nn.init.ones(layer.weight);
    expectClose(layer.forward(tensor([[1, 2]]), tensor([[3, 4]])), [21], [1, 1]);
  });

  test('Identity, Flatten, Unflatten', () => {
    const x = zeros([2, 3, 4]);
    expect(new nn.Identity().forward(x)).toBe(x);
    expect(new nn.Flatten().forward(x).shape).toEqual([2, 12]);
    expect(new nn.Flatten(0, 1).forward(x).shape).toEqual([6, 4]);
    expect(new nn.Unflatten(1, [3, 1]).forward(x).shape).toEqual([2, 3, 1, 4]);
  });
});

describe('convolutions', () => {
  test('Conv2d by hand, with stride and padding', () => {
    const layer = new nn.Conv2d(1, 1, 2, { stride: 2, padding: 1 });
    nn.init.ones(layer.weight);
    nn.init.constant(layer.bias as Tensor, 0.5);
    const x = tensor([
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ]);
    expectClose(layer.forward(x), [1.5, 2.5, 3.5, 4.5], [1, 1, 2, 2]);
  });

  test('parameter shapes, groups, and other numbers of axes', () => {
    expect(shapesOf(new nn.Conv1d(4, 6, 3, { groups: 2 }))).toEqual({ weight: '6x2x3', bias: '6' });
    expect(shapesOf(new nn.Conv3d(1, 2, [1, 2, 3], { bias: false }))).toEqual({
      weight: '2x1x1x2x3',
    });
    expect(shapesOf(new nn.ConvTranspose2d(4, 6, 3, { groups: 2 }))).toEqual({
      weight: '4x3x3x3',
      bias: '6',
    });
    const deep = new nn.Conv3d(1, 2, 2).forward(zeros([1, 1, 3, 3, 3]));
    expect(deep.shape).toEqual([1, 2, 2, 2, 2]);
    expect(new nn.Conv1d(2, 3, 3, { padding: 'same' }).forward(zeros([2, 5])).shape).toEqual([
      3, 5,
    ]);
  });

  test('padding modes put the input itself outside', () => {
    const paddingModes = ['zeros', 'reflect', 'replicate', 'circular'] as const;
    const sums = paddingModes.map((paddingMode) => {
      const layer = new nn.Conv1d(1, 1, 3, { padding: 1, paddingMode, bias: false });
      nn.init.ones(layer.weight);
      return values(layer.forward(tensor([[[1, 2, 4]]])));
    });
    expect(sums).toEqual([
      [3, 7, 6],
      [5, 7, 8],
      [4, 7, 10],
      [7, 7, 7],
    ]);
  });

  test('transposed: each input spreads its kernel', () => {
    const layer = new nn.ConvTranspose1d(1, 1, 2, { stride: 2, bias: false });
    layer.loadStateDict({ weight: tensor([[[1, 10]]]) });
    expectClose(layer.forward(tensor([[[1, 2]]])), [1, 10, 2, 20], [1, 1, 4]);
  });

  test('arguments that cannot be are refused', () => {
    expect(() => new nn.Conv2d(0, 1, 3)).toThrow('nn.Conv2d: inChannels');
    expect(() => new nn.Conv2d(1, -1, 3)).toThrow(ArgumentError);
    expect(() => new nn.Conv2d(3, 4, 3, { groups: 2 })).toThrow('2 groups do not divide 3 and 4');
    expect(() => new nn.Conv2d(1, 1, [3, 3, 3])).toThrow(ArgumentError);
    expect(() => new nn.Conv2d(1, 1, 3, { stride: 2, padding: 'same' })).toThrow('needs stride 1');
    expect(() => new nn.Conv2d(1, 1, 3, { paddingMode: 'mirror' as 'reflect' })).toThrow('mirror');
  });
});

describe('normalization', () => {
  test('BatchNorm: batch statistics in training, running ones in evaluation', () => {
    const layer = new nn.BatchNorm1d(1, { eps: 0 });
    const x = tensor([[1], [3]]);
    expectClose(layer.forward(x), [-1, 1]);
    // mean 2, unbiased variance 2
    expectClose(layer.runningMean as Tensor, [0.2]);
    expectClose(layer.runningVar as Tensor, [1.1]);
    expect(values(layer.numBatchesTracked as Tensor)).toEqual([1]);
    layer.eval();
    expectClose(layer.forward(x), [0.8 / Math.sqrt(1.1), 2.8 / Math.sqrt(1.1)]);
    expect(values(layer.numBatchesTracked as Tensor)).toEqual([1]);
  });

  test('BatchNorm with momentum null keeps the plain mean of batches', () => {
    const layer = new nn.BatchNorm1d(1, { momentum: null });
    for (const mean of [1, 2, 6]) layer.forward(tensor([[mean - 1], [mean + 1]]));
    expectClose(layer.runningMean as Tensor, [3]);
    expectClose(layer.runningVar as Tensor, [2]);
    layer.resetRunningStats();
    expectClose(layer.runningMean as Tensor, [0]);
  });

  test('BatchNorm without running statistics uses those of the batch in evaluation too', () => {
    const layer = new nn.BatchNorm2d(1, { trackRunningStats: false, affine: false, eps: 0 }).eval();
    expect(Object.keys(layer.stateDict())).toEqual([]);
    expectClose(layer.forward(tensor([[[[0, 2]]]])), [-1, 1]);
  });

  test('BatchNorm refuses other numbers of axes and channels, and single values', () => {
    expect(() => new nn.BatchNorm2d(3).forward(zeros([2, 3]))).toThrow(
      'expected 4 axes, got [2,3]',
    );
    expect(() => new nn.BatchNorm2d(3).forward(zeros([2, 4, 1, 1]))).toThrow(
      '4 channels, expected 3',
    );
    expect(() => new nn.BatchNorm1d(3).forward(zeros([1, 3]))).toThrow(ShapeError);
  });

  test('names as in PyTorch', () => {
    const names = 'weight,bias,running_mean,running_var,num_batches_tracked';
    expect(Object.keys(new nn.BatchNorm3d(2).stateDict()).join()).toBe(names);
    expect(shapesOf(new nn.LayerNorm([2, 3]))).toEqual({ weight: '2x3', bias: '2x3' });
    expect(shapesOf(new nn.RMSNorm(4))).toEqual({ weight: '4' });
    expect(shapesOf(new nn.GroupNorm(2, 4))).toEqual({ weight: '4', bias: '4' });
    expect(shapesOf(new nn.InstanceNorm2d(4))).toEqual({});
  });

  test('LayerNorm, RMSNorm, GroupNorm, InstanceNorm by hand', () => {
    const options = { eps: 0 };
    expectClose(new nn.LayerNorm(2, options).forward(tensor([[1, 3]])), [-1, 1]);
    expectClose(new nn.RMSNorm(2, options).forward(tensor([[3, 4]])), [
      3 / 12.5 ** 0.5,
      4 / 12.5 ** 0.5,
    ]);
    const groups = new nn.GroupNorm(2, 4, options).forward(tensor([[0, 2, 10, 30]]));
    expectClose(groups, [-1, 1, -1, 1]);
    const x = tensor([
      [
        [0, 2],
        [10, 30],
      ],
    ]);
    expectClose(new nn.InstanceNorm1d(2, options).forward(x), [-1, 1, -1, 1]);
    expectClose(new nn.InstanceNorm1d(2, options).forward(x.squeeze(0)), [-1, 1, -1, 1], [2, 2]);
  });
});

describe('embedding and dropout', () => {
  test('Embedding looks rows up, and never trains its padding row', () => {
    const table = new nn.Embedding(3, 2, { paddingIdx: -1 });
    expect(table.paddingIdx).toBe(2);
    expect(values(table.weight).slice(4)).toEqual([0, 0]);
    const rows = nn.Embedding.fromPretrained(
      tensor([
        [1, 2],
        [3, 4],
      ]),
      { paddingIdx: 0 },
    );
    const y = rows.forward(tensor([1, 0, 1], { dtype: 'int32' }));
    expectClose(y, [3, 4, 1, 2, 3, 4], [3, 2]);
    y.sum().backward();
    expectClose(rows.weight.grad as Tensor, [0, 0, 2, 2]);
    expect(() => new nn.Embedding(3, 2, { paddingIdx: 3 })).toThrow(ArgumentError);
  });

  test('Dropout scales what it keeps, drops the right share, and rests in evaluation', () => {
    manualSeed(3);
    const layer = new nn.Dropout(0.25);
    const y = values(layer.forward(ones([10_000])));
    const kept = y.filter((value) => value !== 0);
    expect(new Set(kept)).toEqual(new Set([Math.fround(4 / 3)]));
    expect(kept.length).toBeGreaterThan(7_300);
    expect(kept.length).toBeLessThan(7_700);
    expect(values(layer.eval().forward(ones([2])))).toEqual([1, 1]);
    expect(() => new nn.Dropout(1.5)).toThrow('nn.Dropout: p must be a number in [0, 1]');
  });

  test('Dropout2d drops whole channels', () => {
    manualSeed(1);
    const y = values(new nn.Dropout2d(0.5).forward(ones([50, 4, 2, 2])));
    const channels = Array.from({ length: 200 }, (_, i) => y.slice(4 * i, 4 * i + 4));
    expect(channels.every((channel) => new Set(channel).size === 1)).toBe(true);
    expect(new Set(y)).toEqual(new Set([0, 2]));
  });
});

describe('pooling', () => {
  const x = tensor([[[1, 2, 3, 4]]]);
  test('maxima and means over windows', () => {
    expectClose(new nn.MaxPool1d(2).forward(x), [2, 4]);
    expectClose(new nn.MaxPool1d(3, { stride: 1, padding: 1 }).forward(x), [2, 3, 4, 4]);
    expectClose(new nn.AvgPool1d(2).forward(x), [1.5, 3.5]);
    const border = new nn.AvgPool1d(2, { padding: 1, countIncludePad: false });
    expectClose(border.forward(x), [1, 2.5, 4]);
    expectClose(new nn.AdaptiveAvgPool1d(1).forward(x), [2.5]);
    expectClose(new nn.AdaptiveMaxPool1d(2).forward(x), [2, 4]);
  });

  test('shapes in two and three axes', () => {
    const image = zeros([1, 2, 5, 4]);
    expect(new nn.MaxPool2d(2).forward(image).shape).toEqual([1, 2, 2, 2]);
    expect(new nn.MaxPool2d(2, { ceilMode: true }).forward(image).shape).toEqual([1, 2, 3, 2]);
    expect(new nn.AvgPool2d([5, 1]).forward(image).shape).toEqual([1, 2, 1, 4]);
    expect(new nn.AdaptiveAvgPool2d([3, 2]).forward(image).shape).toEqual([1, 2, 3, 2]);
    expect(new nn.MaxPool3d(2).forward(zeros([1, 1, 4, 4, 4])).shape).toEqual([1, 1, 2, 2, 2]);
    expect(() => new nn.MaxPool2d(0)).toThrow(ArgumentError);
  });
});

describe('activations and losses', () => {
  test('activations call their functions with their settings', () => {
    const x = tensor([-2, 0, 2]);
    expectClose(new nn.ReLU().forward(x), [0, 0, 2]);
    expectClose(new nn.LeakyReLU(0.5).forward(x), [-1, 0, 2]);
    expectClose(new nn.Hardtanh({ minVal: -1 }).forward(x), [-1, 0, 1]);
    expectClose(
      new nn.Softplus({ beta: 2 }).forward(x),
      [-2, 0, 2].map((v) => Math.log1p(Math.exp(2 * v)) / 2),
    );
    expectClose(new nn.Softmax(0).forward(tensor([0, 0])), [0.5, 0.5]);
    expectClose(new nn.PReLU().forward(x), [-0.5, 0, 2]);
    expectClose(new nn.Threshold(1, 9).forward(x), [9, 9, 2]);
    expect(String(new nn.GELU({ approximate: 'tanh' }))).toBe('GELU(approximate=tanh)');
  });

  test('losses', () => {
    const labels = tensor([1, 0], { dtype: 'int32' });
    const scores = tensor([
      [0, 0],
      [0, Math.log(3)],
    ]);
    const [a, b] = [Math.log(2), Math.log(4)];
    expectClose(new nn.CrossEntropyLoss().forward(scores, labels), [(a + b) / 2]);
    const weighted = new nn.CrossEntropyLoss({ weight: tensor([3, 1]) });
    expectClose(weighted.forward(scores, labels), [(a + 3 * b) / 4]);
    expect(Object.keys(weighted.stateDict())).toEqual(['weight']);
    expectClose(new nn.CrossEntropyLoss({ reduction: 'none' }).forward(scores, labels), [a, b]);
    const [x, y] = [tensor([1, 2]), tensor([3, 2])];
    expectClose(new nn.MSELoss().forward(x, y), [2]);
    expectClose(new nn.L1Loss({ reduction: 'sum' }).forward(x, y), [2]);
    expectClose(new nn.HuberLoss({ delta: 0.5 }).forward(x, y), [(0.5 * (2 - 0.25)) / 2]);
    const positive = new nn.BCEWithLogitsLoss({ posWeight: tensor([2]) });
    expectClose(positive.forward(tensor([0]), tensor([1])), [2 * Math.log(2)]);
    expect(Object.keys(positive.stateDict())).toEqual(['pos_weight']);
    const margin = new nn.TripletMarginLoss({ margin: 1 });
    expectClose(margin.forward(zeros([1, 1]), ones([1, 1]), ones([1, 1])), [1]);
  });
});
