// The CTC loss. Literals are PyTorch 1.13's.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  DTypeError,
  F,
  grad,
  nn,
  ShapeError,
  tensor,
  type Tensor,
  zeros,
} from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

/** Scores [4 times, 2 sequences, 3 classes]. */
const scores = (): Tensor =>
  tensor([0.5, -1, 2, 1, 0, -1, 1, 1, 0, -2, 0.5, 1, 0, 2, -1, 0.3, 0.1, 0, 1, -1, 0.5, 0, 0, 0], {
    dtype: 'float64',
  }).reshape(4, 2, 3);

const targets = (): Tensor => ints([[1, 1], [2, 0]]); // prettier-ignore

const lossOf = (
  x: Tensor,
  lengths: number[],
  labels: number[],
  options: F.CtcOptions = {},
): Tensor => F.ctcLoss(F.logSoftmax(x, 2), targets(), lengths, labels, options);

describe('ctcLoss', () => {
  test('losses and their reductions', () => {
    const losses = (options: F.CtcOptions): Tensor => lossOf(scores(), [4, 3], [2, 1], options);
    expectValues(losses({ reduction: 'none' }), [4.601729, 1.14892]);
    expectValues(losses({}), 1.724892);
    expectValues(losses({ reduction: 'sum' }), 5.750649);
    const layer = new nn.CTCLoss({ reduction: 'sum' });
    const lengths = [ints([4, 3]), ints([2, 1])] as const;
    expectValues(layer.forward(F.logSoftmax(scores(), 2), targets(), ...lengths), 5.750649);
  });

  test('the gradient by the scores', () => {
    const slopes = grad((x: Tensor) => lossOf(x, [4, 3], [2, 1], { reduction: 'sum' }))(scores());
    expectValues(slopes.reshape(8, 3), [
      [0.109835, -0.895432, 0.785597],
      [-0.214795, 0.244729, -0.029934],
      [-0.49762, 0.342258, 0.155362],
      [0.008465, 0.366192, -0.374657],
      [0.019529, -0.061539, 0.04201],
      [-0.17468, 0.319873, -0.145194],
      [-0.223318, -0.124889, 0.348207],
      [0, 0, 0],
    ]);
  });

  test('second derivatives, against differences of the first', () => {
    const first = grad((x: Tensor) => lossOf(x, [4, 3], [2, 1], { reduction: 'sum' }), {
      createGraph: true,
    });
    const direction = tensor(
      Float64Array.from({ length: 24 }, (_, i) => Math.sin(i + 1)),
      { dtype: 'float64' },
    ).reshape(4, 2, 3);
    const along = grad((x: Tensor) => first(x).mul(direction).sum())(scores());
    const step = 1e-4;
    const moved = (by: number): Tensor => first(scores().add(direction.mul(by)));
    const expected = moved(step)
      .sub(moved(-step))
      .div(2 * step);
    const difference = along.sub(expected).abs().max().item();
    return expect(difference).resolves.toBeLessThan(1e-6);
  });

  test('labels that do not fit in time', () => {
    // Two equal labels need three times.
    expectValues(lossOf(scores(), [2, 3], [2, 1], { reduction: 'none' }), [Infinity, 1.14892]);
    const options = { reduction: 'none', zeroInfinity: true } as const;
    expectValues(lossOf(scores(), [2, 3], [2, 1], options), [0, 1.14892]);
    const slopes = grad((x: Tensor) => lossOf(x, [2, 3], [2, 1], options).sum())(scores());
    expectValues(slopes.at(0, 0), [0, 0, 0]);
    expectValues(slopes.at(0, 1), [-0.214795, 0.244729, -0.029934]);
  });

  test('no labels, rows one after another, one sequence', () => {
    expectValues(lossOf(scores(), [4, 3], [0, 0], { reduction: 'none' }), [5.328109, 4.852034]);
    const log = F.logSoftmax(scores(), 2);
    const rows = ints([1, 1, 2]);
    const options = { reduction: 'none' } as const;
    expectValues(F.ctcLoss(log, rows, [4, 3], [2, 1], options), [4.601729, 1.14892]);
    expectValues(F.ctcLoss(log, rows, ints([4, 3]), ints([2, 1]), options), [4.601729, 1.14892]);
    const single = F.ctcLoss(log.at(':', 0), ints([1, 1]), [4], [2], options);
    expectValues(single, 4.601729);
    expectValues(F.ctcLoss(log, zeros(2, 0).int(), [4, 3], [0, 0], options), [5.328109, 4.852034]);
    // What stands behind the end of labels and of time does not count.
    const padded = ints([[1, 1], [2, -7]]); // prettier-ignore
    expectValues(F.ctcLoss(log, padded, [4, 3], [2, 1], options), [4.601729, 1.14892]);
  });

  test('hundreds of times', () => {
    const x = zeros(400, 1, 3);
    const labels = ints([Array.from({ length: 150 }, (_, i) => 1 + (i % 2))]);
    const loss = (s: Tensor): Tensor => F.ctcLoss(F.logSoftmax(s, 2), labels, [400], [150]);
    const slopes = grad(loss)(x);
    expect(Number.isFinite(loss(x).itemSync() as number)).toBe(true);
    // A gradient through softmax adds up to 0 at each time.
    expectValues(slopes.sum(2).abs().max(), 0);
  });

  test('what is refused', () => {
    const log = F.logSoftmax(scores(), 2);
    const call =
      (...args: Parameters<typeof F.ctcLoss>): (() => Tensor) =>
      () =>
        F.ctcLoss(...args);
    expect(call(zeros(4), targets(), [4], [1])).toThrow(ShapeError);
    expect(call(log.int(), targets(), [4, 4], [1, 1])).toThrow(DTypeError);
    expect(call(log, targets().float(), [4, 4], [1, 1])).toThrow('targets are classes as integers');
    expect(call(log, zeros(3, 2).int(), [4, 4], [1, 1])).toThrow('no labels of 2 sequence(s)');
    expect(call(log, targets(), [4], [1, 1])).toThrow('inputLengths [1] are not one for each of 2');
    expect(call(log, targets(), [5, 4], [1, 1])).toThrow('index 5 is out of range');
    expect(call(log, targets(), [0, 4], [1, 1])).toThrow('index 0 is out of range');
    expect(call(log, targets(), [4, 4], [3, 1])).toThrow('index 3 is out of range');
    expect(call(log, ints([1, 1]), [4, 4], [2, 1])).toThrow(
      '2 labels for lengths that add up to 3',
    );
    expect(call(log, targets(), [4, 4], [2, 1], { blank: 3 })).toThrow(ArgumentError);
    expect(call(log, targets(), 4 as never, [2, 1])).toThrow('must be a tensor or a list');
    expect(() =>
      F.ctcLoss(
        log,
        ints([
          [1, 9],
          [2, 0],
        ]),
        [4, 4],
        [2, 1],
      ).dataSync(),
    ).toThrow(
      // prettier-ignore
      'index 9 is out of range',
    );
  });
});
