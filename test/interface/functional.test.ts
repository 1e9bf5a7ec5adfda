// Layers as functions: small hand results and everything that is refused. The golden vectors check
// the numbers in breadth.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { F, grad, nn, ones, ShapeError, tensor, type Tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

describe('activations', () => {
  test('values at and around the kink', () => {
    const x = tensor([-2, 0, 3]);
    expectValues(F.relu(x), [0, 0, 3]);
    expectValues(F.leakyRelu(x, 0.1), [-0.2, 0, 3]);
    expectValues(F.elu(x), [Math.expm1(-2), 0, 3]);
    expectValues(F.prelu(x, tensor([0.5])), [-1, 0, 3]);
    expectValues(F.softplus(x).at(1), Math.LN2);
    expectValues(F.hardtanh(x), [-1, 0, 1]);
    expectValues(F.relu6(tensor([7, -1])), [6, 0]);
    expectValues(F.glu(tensor([[2, 0]])), [[1]]);
    expectValues(F.gelu(tensor([0, 1])), [0, 0.8413447]);
    expectValues(F.silu(tensor([0])), [0]);
    expectValues(F.threshold(x, 1, 9), [9, 9, 3]);
    expectValues(F.softmax(tensor([1000, 1000]), 0), [0.5, 0.5]);
    expectValues(F.logSoftmax(tensor([0, -1000]), 0), [0, -1000]);
    expectValues(F.softmax(tensor(3), 0), 1);
  });

  test('slopes at zero are PyTorch’s', () => {
    const slopeAt = (fn: (x: Tensor) => Tensor, at: number): unknown =>
      grad((x: Tensor) => fn(x).sum())(tensor([at])).arraySync();
    expect(slopeAt(F.relu, 0)).toEqual([0]);
    expect(slopeAt(F.softplus, 0)).toEqual([0.5]);
    expect(slopeAt(F.elu, 0)).toEqual([1]);
    expect(slopeAt((x) => F.hardtanh(x), 1)).toEqual([0]);
    expect(slopeAt((x) => x.abs(), 0)).toEqual([0]);
  });

  test('what is refused', () => {
    expect(() => F.hardtanh(tensor([1]), { minVal: 1, maxVal: 0 })).toThrow('must be below');
    expect(() => F.glu(tensor([1, 2, 3]))).toThrow('cannot be halved');
    expect(() => F.prelu(zeros(1, 3), zeros(2))).toThrow('neither 1 nor 3');
    expect(() => F.softmax(tensor([1]), undefined as never)).toThrow('name the axis');
  });
});

describe('linear and convolution', () => {
  test('linear', () => {
    expectValues(F.linear(tensor([1, 2]), tensor([[3, 4]]), tensor([1])), [12]);
    expect(F.linear(zeros(5, 4, 3), zeros(2, 3)).shape).toEqual([5, 4, 2]);
    expect(() => F.linear(zeros(2, 3), zeros(4, 5))).toThrow(
      'linear: weight [4,5] takes rows of 5, got [2,3]',
    );
    expect(() => F.linear(zeros(2, 3), zeros(4, 3), zeros(3))).toThrow('bias [3] does not fit 4');
  });

  test('convolution', () => {
    const x = tg.arange(9).reshape(1, 1, 3, 3).float();
    expectValues(F.conv2d(x, ones(1, 1, 2, 2)), [
      [
        [
          [8, 12],
          [20, 24],
        ],
      ],
    ]);
    expectValues(F.conv2d(x, ones(1, 1, 2, 2), tensor([1]), { stride: 2 }), [[[[9]]]]);
    expect(F.conv2d(x, ones(1, 1, 3, 3), null, { padding: 'same' }).shape).toEqual([1, 1, 3, 3]);
    expect(F.conv2d(zeros(3, 8, 8), zeros(4, 3, 3, 3)).shape).toEqual([4, 6, 6]);
    expect(
      F.conv1d(zeros(2, 4, 9), zeros(6, 2, 3), null, { groups: 2, dilation: 2 }).shape,
    ).toEqual([2, 6, 5]);
    expect(F.conv3d(zeros(1, 1, 4, 4, 4), zeros(2, 1, 2, 2, 2)).shape).toEqual([1, 2, 3, 3, 3]);
    expect(
      F.convTranspose2d(zeros(1, 3, 4, 4), zeros(3, 2, 3, 3), null, {
        stride: 2,
        padding: 1,
        outputPadding: 1,
      }).shape,
    ).toEqual([1, 2, 8, 8]);
    expect(() => F.conv2d(zeros(1, 3, 8, 8), zeros(4, 2, 3, 3))).toThrow(
      'weight [4,2,3,3] takes 2 channels, x [1,3,8,8] has 3',
    );
    expect(() => F.conv2d(zeros(1, 1, 2, 2), zeros(1, 1, 3, 3))).toThrow('does not fit [2,2]');
    expect(() => F.conv2d(zeros(8, 8), zeros(1, 1, 3, 3))).toThrow('or without batch');
    expect(() => F.conv2d(x, ones(1, 1, 2, 2), null, { stride: 0 })).toThrow('at least 1');
    expect(() => F.conv2d(x, ones(1, 1, 2, 2), null, { padding: 'same', stride: 2 })).toThrow(
      "padding 'same' needs stride 1",
    );
  });
});

describe('pools', () => {
  test('maxima and means', () => {
    const x = tg.arange(16).reshape(1, 1, 4, 4).float();
    expectValues(F.maxPool2d(x, 2), [
      [
        [
          [5, 7],
          [13, 15],
        ],
      ],
    ]);
    const { values, indices } = F.maxPool2d(x, 2, { returnIndices: true });
    expectValues(indices, [
      [
        [
          [5, 7],
          [13, 15],
        ],
      ],
    ]);
    expectValues(F.maxUnpool2d(values, indices, 2).sum(), 40);
    expectValues(F.avgPool2d(x, 2), [
      [
        [
          [2.5, 4.5],
          [10.5, 12.5],
        ],
      ],
    ]);
    const row = tensor([[1, 2, 3]]);
    expectValues(F.avgPool1d(row, 2, { ceilMode: true }), [[1.5, 3]]);
    expectValues(F.avgPool1d(row, 2, { padding: 1 }), [[0.5, 2.5]]);
    expectValues(F.avgPool1d(row, 2, { padding: 1, countIncludePad: false }), [[1, 2.5]]);
    expectValues(F.maxPool1d(row, 2, { ceilMode: true }), [[2, 3]]);
    expect(() => F.maxPool1d(row, 2, { padding: 2 })).toThrow('more than half of the window');
    expect(() => F.maxPool2d(row, 2)).toThrow('or without batch');
  });

  test('adaptive pools with parts of different sizes', () => {
    const row = tensor([[1, 2, 3, 4, 5]]);
    expectValues(F.adaptiveAvgPool1d(row, 2), [[2, 4]]);
    expectValues(F.adaptiveMaxPool1d(row, 3), [[2, 4, 5]]);
    expectValues(F.adaptiveMaxPool1d(row, 3, { returnIndices: true }).indices, [[1, 3, 4]]);
    expect(F.adaptiveAvgPool2d(ones(1, 3, 5), [null, 1]).shape).toEqual([1, 3, 1]);
    expect(F.adaptiveAvgPool3d(ones(1, 2, 4, 4, 4), [2, 1, 3]).shape).toEqual([1, 2, 2, 1, 3]);
  });
});

describe('normalization', () => {
  const x = () =>
    tensor([
      [1, 2],
      [3, 6],
    ]);

  test('batch norm trains on the batch and moves the running statistics', () => {
    const mean = new nn.Buffer(zeros(2));
    const variance = new nn.Buffer(ones(2));
    const y = F.batchNorm(x(), mean, variance, { training: true, eps: 0 });
    expectValues(y, [
      [-1, -1],
      [1, 1],
    ]);
    expectValues(mean, [0.2, 0.4]);
    expectValues(variance, [0.9 + 0.2, 0.9 + 0.8]);
    const evaluated = F.batchNorm(x(), mean, variance, { eps: 0 });
    expectValues(evaluated.at(0, 0), 0.8 / Math.sqrt(1.1));
    expectValues(mean, [0.2, 0.4]);
    expect(() => F.batchNorm(x())).toThrow('needs running statistics outside of training');
    expect(() => F.batchNorm(zeros(1, 2), null, null, { training: true })).toThrow(
      'more than one value per channel',
    );
    expect(() => F.batchNorm(x(), mean, null)).toThrow('come together');
    expect(() => F.batchNorm(x(), zeros(3), ones(3))).toThrow(
      'the running mean is [3], expected [2]',
    );
  });

  test('a far mean does not eat up the variance', () => {
    const far = tensor([[4096], [4097], [4098], [4099]]);
    const y = F.batchNorm(far, null, null, { training: true, eps: 0 });
    expectValues(y.std(0, { correction: 0 }), [1]);
    const mean = new nn.Buffer(tensor([4000]));
    const variance = new nn.Buffer(ones(1));
    expectValues(F.batchNorm(far, mean, variance, { training: true, eps: 0 }), y.arraySync());
  });

  test('layer, group, instance and rms norm', () => {
    expectValues(F.layerNorm(x(), 2, { eps: 0 }), [
      [-1, 1],
      [-1, 1],
    ]);
    expectValues(F.layerNorm(x(), [2], { weight: tensor([2, 2]), bias: ones(2), eps: 0 }), [
      [-1, 3],
      [-1, 3],
    ]);
    expect(() => F.layerNorm(x(), 3)).toThrow('normalizes [3], but x [2,2] does not end so');
    expectValues(F.rmsNorm(tensor([[3, 4]]), 2, { eps: 0 }), [
      [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)],
    ]);
    const image = tg.arange(8).reshape(1, 2, 4).float();
    expectValues(F.groupNorm(image, 2).mean(-1), [[0, 0]]);
    expectValues(F.groupNorm(image, 1).mean(), 0);
    expectValues(F.instanceNorm(image).std(-1, { correction: 0 }), [[1, 1]]);
    expect(() => F.groupNorm(image, 3)).toThrow('3 groups do not divide 2 channels');
    expect(F.localResponseNorm(image, 2).shape).toEqual([1, 2, 4]);
  });
});

describe('losses', () => {
  const scores = () =>
    tensor([
      [2, 0, 0],
      [0, 3, 0],
    ]);
  const labels = () => ints([0, 1]);

  test('cross entropy in its forms agrees with log-softmax', () => {
    const logs = F.logSoftmax(scores(), 1);
    const expected = -((logs.at(0, 0).itemSync() + logs.at(1, 1).itemSync()) / 2);
    expectValues(F.crossEntropy(scores(), labels()), expected);
    expectValues(F.nllLoss(logs, labels()), expected);
    expectValues(F.crossEntropy(scores(), F.oneHot(labels(), 3).float()), expected);
    expectValues(F.crossEntropy(scores(), labels(), { reduction: 'sum' }), 2 * expected);
    expectValues(F.crossEntropy(scores(), ints([0, -100])), -logs.at(0, 0).itemSync());
    expectValues(F.crossEntropy(scores(), ints([0, -100]), { reduction: 'none' }).at(1), 0);
    expectValues(F.crossEntropy(scores().at(0), ints(0)), -logs.at(0, 0).itemSync());
    const weight = tensor([1, 3, 1]);
    const heavy = -(logs.at(0, 0).itemSync() + 3 * logs.at(1, 1).itemSync()) / 4;
    expectValues(F.crossEntropy(scores(), labels(), { weight }), heavy);
    const smooth = F.crossEntropy(scores(), labels(), { labelSmoothing: 0.3 });
    expectValues(smooth, 0.7 * expected - (0.3 / 3) * (logs.sum().itemSync() / 2));
    expectValues(F.crossEntropy(tensor([[1e4, 0]]), ints([1])), 1e4);
  });

  test('its gradient is softmax minus one-hot', () => {
    const slope = grad((s: Tensor) => F.crossEntropy(s, labels(), { reduction: 'sum' }))(scores());
    expectValues(slope, F.softmax(scores(), 1).sub(F.oneHot(labels(), 3)).arraySync());
  });

  test('targets out of range or of the wrong shape are refused', () => {
    expect(() => F.crossEntropy(scores(), ints([0, 3]))).toThrow(
      'index 3 is out of range for size 3',
    );
    expect(() => F.crossEntropy(scores(), ints([0]))).toThrow(ShapeError);
    expect(() => F.crossEntropy(scores(), labels(), { reduction: 'max' as never })).toThrow(
      'reduction must be mean, sum or none',
    );
    expect(() => F.crossEntropy(scores(), labels(), { labelSmoothing: 2 })).toThrow(
      'a number in [0, 1]',
    );
    expect(() => F.nllLoss(scores(), labels(), { weight: ones(2) })).toThrow(
      'weight is [2], expected [3]',
    );
  });

  test('binary cross entropy from probabilities and from scores', () => {
    const x = tensor([0.5, -1]);
    const y = tensor([1, 0]);
    const fromScores = F.binaryCrossEntropyWithLogits(x, y);
    expectValues(F.binaryCrossEntropy(x.sigmoid(), y), fromScores.itemSync());
    expectValues(F.binaryCrossEntropy(tensor([0]), tensor([1])), 100);
    expectValues(F.binaryCrossEntropyWithLogits(tensor([-1000]), tensor([1])), 1000);
  });

  test('regression and margins', () => {
    const [a, b] = [tensor([0, 4]), tensor([1, 1])];
    expectValues(F.mseLoss(a, b), 5);
    expectValues(F.l1Loss(a, b, { reduction: 'sum' }), 4);
    expectValues(F.smoothL1Loss(a, b), (0.5 + 2.5) / 2);
    expectValues(F.huberLoss(a, b, { delta: 2 }), (0.5 + 4) / 2);
    expectValues(F.klDiv(tensor([0.5, 0.5]).log(), tensor([0.5, 0.5])), 0);
    expectValues(F.poissonNllLoss(tensor([0]), tensor([2])), 1);
    expectValues(F.gaussianNllLoss(tensor([1]), tensor([3]), tensor([4])), (Math.log(4) + 1) / 2);
    expectValues(F.marginRankingLoss(a, b, tensor([1, 1])), 0.5);
    expectValues(F.tripletMarginLoss(tensor([[0, 0]]), tensor([[0, 0]]), tensor([[3, 4]])), 0);
    expectValues(F.hingeEmbeddingLoss(tensor([0.5]), tensor([-1])), 0.5);
    expectValues(F.cosineEmbeddingLoss(tensor([[1, 0]]), tensor([[0, 1]]), tensor([1])), 1);
    expectValues(F.multiMarginLoss(tensor([[0.1, 0.2, 0.4]]), ints([2])), (0.7 + 0.8) / 3);
    expectValues(
      F.multilabelMarginLoss(tensor([[0.1, 0.2, 0.4, 0.8]]), ints([[3, 0, -1, 1]])),
      (0.4 + 0.6 + 1.1 + 1.3) / 4,
    );
    expect(() => F.mseLoss(zeros(2), zeros(3))).toThrow('mseLoss: shapes differ, [2] and [3]');
  });
});

describe('the rest', () => {
  test('embedding and one-hot', () => {
    const table = tensor([
      [1, 2],
      [3, 4],
    ]);
    expectValues(F.embedding(ints([[1, 0]]), table), [
      [
        [3, 4],
        [1, 2],
      ],
    ]);
    expect(() => F.embedding(ints([2]), table)).toThrow('index 2 is out of range for size 2');
    expect(() => F.embedding(table, ints([0]))).toThrow('indices come first');
    const slope = (options: object) =>
      grad((t: Tensor) => F.embedding(ints([0, 1, 1]), t, options).sum())(table);
    expectValues(slope({}), [
      [1, 1],
      [2, 2],
    ]);
    expectValues(slope({ paddingIdx: 1 }), [
      [1, 1],
      [0, 0],
    ]);
    expectValues(F.embeddingBag(ints([0, 1, 1]), table, ints([0, 1])), [
      [1, 2],
      [3, 4],
    ]);
    expectValues(F.oneHot(ints([2])), [[0, 0, 1]]);
    expect(() => F.oneHot(tensor([1]))).toThrow('takes integers');
  });

  test('attention', () => {
    const q = tensor([
      [
        [1, 0],
        [0, 1],
      ],
    ]);
    expectValues(F.scaledDotProductAttention(q, q, q, { isCausal: true }).at(0, 0), [1, 0]);
    const mask = tensor([
      [true, false],
      [false, true],
    ]);
    expectValues(F.scaledDotProductAttention(q, q, q, { attnMask: mask }), q.arraySync());
    expect(() => F.scaledDotProductAttention(q, zeros(1, 2, 3), q)).toThrow('do not fit');
    expect(() => F.scaledDotProductAttention(q, q, q, { isCausal: true, attnMask: mask })).toThrow(
      'not both',
    );
  });

  test('padding', () => {
    const x = tensor([1, 2, 3]);
    expectValues(F.pad(x, [1, 1], { value: 7 }), [7, 1, 2, 3, 7]);
    expectValues(F.pad(x, [2, 0], { mode: 'reflect' }), [3, 2, 1, 2, 3]);
    expectValues(F.pad(x, [1, 2], { mode: 'replicate' }), [1, 1, 2, 3, 3, 3]);
    expectValues(F.pad(x, [1, 1], { mode: 'circular' }), [3, 1, 2, 3, 1]);
    expectValues(F.pad(x, [-1, -1]), [2]);
    expectValues(F.pad(x, [1, 0], { value: -Infinity }).at(0), -Infinity);
    expect(F.pad(zeros(1, 2, 3), [1, 1, 2, 2]).shape).toEqual([1, 6, 5]);
    expect(() => F.pad(x, [1])).toThrow('do not make pairs');
    expect(() => F.pad(x, [3, 0], { mode: 'reflect' })).toThrow('exceeds axis 0');
  });

  test('rearrangement', () => {
    const x = tg.arange(16).reshape(1, 4, 2, 2).float();
    expectValues(F.pixelUnshuffle(F.pixelShuffle(x, 2), 2).eq(x).all(), true);
    expectValues(F.channelShuffle(tg.arange(4).reshape(1, 4), 2), [[0, 2, 1, 3]]);
    const image = tg.arange(9).reshape(1, 1, 3, 3).float();
    expectValues(F.unfold(image, 2).at(0, ':', 0), [0, 1, 3, 4]);
    expectValues(F.fold(F.unfold(image, 2), 3, 2).div(image.add(0)).at(0, 0, 1, 1), 4);
    expectValues(F.cosineSimilarity(tensor([[1, 0]]), tensor([[1, 1]])), [Math.SQRT1_2]);
    expectValues(F.normalize(tensor([[3, 4]])), [[0.6, 0.8]]);
  });
});
