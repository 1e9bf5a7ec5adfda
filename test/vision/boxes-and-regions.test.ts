// Boxes, regions of interest, deformable convolution, focal loss. Literals are torchvision 0.14's.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  arange,
  F,
  grad,
  linspace,
  ones,
  ShapeError,
  slice,
  tensor,
  type Tensor,
  valueAndGrad,
  zeros,
} from 'tengen';
import * as vision from 'tengen/vision';
import { checkLeaks, expectValues, ints, values } from '../interface/support.ts';

checkLeaks();

/** Square roots of 0, 1, 2, ... as an image. */
const roots = (...shape: number[]): Tensor =>
  arange(shape.reduce((a, b) => a * b, 1))
    .float()
    .sqrt()
    .reshape(shape);

/** Gradient of the elements' sum, each weighed by its number from 1. */
function gradient(fn: (x: Tensor) => Tensor, at: Tensor): Tensor {
  return grad((x: Tensor) => {
    const y = fn(x);
    return y
      .mul(
        arange(1, y.size + 1)
          .float()
          .reshape(y.shape),
      )
      .sum();
  })(at);
}

describe('boxes', () => {
  const boxes = (): Tensor =>
    tensor([
      [0, 0, 4, 4],
      [1, 1, 5, 5],
      [0, 0, 4, 4.2],
      [10, 10, 12, 12],
      [10, 10, 12, 12],
    ]);
  const scores = (): Tensor => tensor([0.5, 0.9, 0.5, 0.1, 0.1]);

  test.each([
    [0.35, [1, 3]],
    [0.9, [1, 0, 3]],
    [1, [1, 0, 2, 3, 4]],
  ])('suppression at %f', (iouThreshold, kept) => {
    expect(values(vision.nms(boxes(), scores(), { iouThreshold }))).toEqual(kept);
  });

  test('suppression in classes, of few, of none', () => {
    const options = { iouThreshold: 0.3 };
    const classes = ints([0, 1, 0, 1, 2]);
    expect(values(vision.batchedNms(boxes(), scores(), classes, options))).toEqual([1, 0, 3, 4]);
    const few = { iouThreshold: 1, maxOutput: 2 };
    expect(values(vision.nms(boxes(), scores(), few))).toEqual([1, 0]);
    const none = vision.nms(zeros(0, 4), zeros(0), options);
    expect([none.shape, none.dtype]).toEqual([[0], 'int32']);
    expect(values(vision.nms(boxes(), tensor([0, NaN, 1, 0, 0]), options))).toEqual([1, 3]);
  });

  test('areas, overlaps, forms', () => {
    expectValues(vision.boxArea(boxes()).at(slice(0, 3)), [16, 16, 16.8]);
    const [a, b] = [tensor([[0, 0, 2, 2]]), tensor([[1, 1, 3, 3], [2, 2, 3, 3], [5, 5, 6, 6]])]; // prettier-ignore
    expectValues(vision.boxIou(a, b), [[1 / 7, 0, 0]]);
    expectValues(vision.generalizedBoxIou(a, b), [[1 / 7 - 2 / 9, -4 / 9, -31 / 36]]);
    expect(vision.boxIou(zeros(0, 4), b).shape).toEqual([0, 3]);
    for (const form of ['xywh', 'cxcywh', 'xyxy'] as const) {
      const there = vision.boxConvert(boxes(), { inFmt: 'xyxy', outFmt: form });
      expectValues(vision.boxConvert(there, { inFmt: form, outFmt: 'xyxy' }), values(boxes()));
    }
    expect(values(vision.removeSmallBoxes(boxes(), 2.5))).toEqual([0, 1, 2]);
    const clipped = vision.clipBoxesToImage(boxes(), { size: [4, 11] });
    expectValues(clipped.at(3), [10, 4, 11, 4]);
  });

  test('what is refused', () => {
    expect(() => vision.boxArea(zeros(4))).toThrow('takes boxes [n, 4], got [4]');
    expect(() => vision.boxIou(zeros(2, 4), zeros(2, 5))).toThrow(ShapeError);
    expect(() => vision.nms(boxes(), zeros(3), { iouThreshold: 0.5 })).toThrow('not one for each');
    expect(() => vision.nms(boxes(), scores(), { iouThreshold: NaN })).toThrow(ArgumentError);
    expect(() => vision.nms(boxes(), scores(), { iouThreshold: 1, maxOutput: -1 })).toThrow(
      'maxOutput',
    );
    const forms = { inFmt: 'xyxy', outFmt: 'yxyx' as never } as const;
    expect(() => vision.boxConvert(boxes(), forms)).toThrow("there is no form 'yxyx'");
  });
});

describe('regions', () => {
  const regions = (): Tensor =>
    tensor([
      [0, 0.5, 0.25, 3.5, 2.75],
      [0, -2, 1, 9, 1.5],
    ]);

  test('align', () => {
    const options = { outputSize: [1, 2], samplingRatio: 2, aligned: true } as const;
    const run = (x: Tensor): Tensor => vision.roiAlign(x, regions(), options);
    const x = roots(1, 1, 4, 5);
    expectValues(run(x).reshape(-1), [2.145335, 2.567319, 1.121918, 1.375]);
    expectValues(gradient(run, x).reshape(4, 5), [
      [0.097656, 0.375, 0.644531, 0.195312, 0.5],
      [0.117188, 0.703125, 1.195312, 0.234375, 1.5],
      [0.097656, 0.234375, 0.410156, 0.195312, 0],
      [0, 0, 0, 0, 0],
    ]);
    const boxes = regions().at(':', slice(1, 5));
    expectValues(vision.roiAlign(x, [boxes], options), values(run(x)));
  });

  test('align with as many samples as pixels', () => {
    const options = { outputSize: 2, spatialScale: 0.5 } as const;
    const run = (x: Tensor): Tensor => vision.roiAlign(x, regions(), options);
    const x = roots(1, 1, 4, 5);
    expectValues(
      run(x).reshape(-1),
      [1.3882, 1.753724, 2.425037, 2.57614, 1.889377, 2.570585, 2.576565, 3.038237],
    );
    expectValues(gradient(run, x).at(0, 0, 1), [6.09375, 8.171875, 5.380209, 3.791667, 3.9375]);
  });

  test('maxima', () => {
    const run = (x: Tensor): Tensor => vision.roiPool(x, regions(), { outputSize: [1, 2] });
    const x = roots(1, 1, 4, 5);
    expectValues(run(x).reshape(-1), [4.123106, 4.358899, 3.605551, 3.741657]);
    const expected = new Array<number>(20).fill(0);
    [expected[13], expected[14], expected[17], expected[19]] = [3, 4, 1, 2];
    expectValues(gradient(run, x).reshape(-1), expected);
    const outside = vision.roiPool(x, tensor([[0, 50, 50, 60, 60]]), { outputSize: 1 });
    expectValues(outside, [[[[0]]]]);
  });

  test('position sensitive', () => {
    const x = roots(1, 2, 4, 5);
    const align = { outputSize: [1, 2], samplingRatio: 2 } as const;
    expectValues(
      vision.psRoiAlign(x, regions(), align).reshape(-1),
      [2.145335, 5.20599, 1.121918, 2.631809],
    );
    const pool = (t: Tensor): Tensor => vision.psRoiPool(t, regions(), { outputSize: [1, 2] });
    expectValues(pool(x).reshape(-1), [2.381697, 5.22922, 2.539934, 5.291502]);
    expectValues(gradient(pool, x).at(0, 0, 1), [0.75, 0.916667, 0.916667, 0.75, 0]);
  });

  test('images of a batch, no regions, second derivatives', () => {
    const x = roots(2, 1, 2, 2);
    const one = { outputSize: 1, samplingRatio: 1 } as const;
    const both = vision.roiAlign(x, tensor([[1, 0, 0, 1, 1], [0, 0, 0, 1, 1]]), one); // prettier-ignore
    const mean = (image: number): unknown => values(x.at(image).mean());
    expectValues(both.reshape(-1), [mean(1), mean(0)]);
    expect(vision.roiAlign(x, zeros(0, 5), one).shape).toEqual([0, 1, 1, 1]);
    expect(vision.roiPool(x, zeros(0, 5), { outputSize: 2 }).shape).toEqual([0, 1, 2, 2]);
    const square = (t: Tensor): Tensor =>
      vision
        .roiAlign(t, tensor([[0, 0, 0, 1, 1]]), one)
        .square()
        .sum();
    const second = grad((t: Tensor) => grad(square, { createGraph: true })(t).sum());
    expectValues(second(x).reshape(-1), [0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]);
  });

  test('what is refused', () => {
    const x = roots(2, 3, 4, 5);
    const one = { outputSize: 1 };
    expect(() => vision.roiAlign(x, zeros(2, 4), one)).toThrow('takes regions [k, 5], got [2,4]');
    expect(() => vision.roiAlign(x, [zeros(1, 4)], one)).toThrow(
      'boxes of 1 images for a batch of 2',
    );
    expect(() => vision.roiAlign(x, [zeros(1, 5), zeros(1, 4)], one)).toThrow('are [k, 4]');
    expect(() => vision.roiAlign(zeros(3, 4, 5), zeros(1, 5), one)).toThrow('takes features');
    expect(() => vision.roiAlign(x, zeros(1, 5), { outputSize: 0 })).toThrow('outputSize');
    expect(() => vision.psRoiAlign(x, zeros(1, 5), { outputSize: 2 })).toThrow(
      '3 channels are no multiple of 2 x 2 bins',
    );
    const outside = tensor([[2, 0, 0, 1, 1]]);
    expect(() => vision.roiAlign(x, outside, one).dataSync()).toThrow('index 2 is out of range');
  });
});

describe('deformable convolution', () => {
  const image = (): Tensor => roots(1, 1, 4, 4);
  const offset = (): Tensor => linspace(-1.3, 1.7, 72).reshape(1, 8, 3, 3);
  const weight = (): Tensor => tensor([[[[1, 2], [-1, 0.5]]]]); // prettier-ignore
  const mask = (): Tensor => linspace(0.1, 1, 36).reshape(1, 4, 3, 3);

  test('modulated: values and all gradients', () => {
    const run = (x: Tensor, o: Tensor, w: Tensor, m: Tensor): Tensor =>
      vision.deformConv2d(x, o, w, tensor([0.5]), { mask: m });
    const inputs = [image(), offset(), weight(), mask()] as const;
    expectValues(run(...inputs).reshape(3, 3), [
      [0.725785, 0.29367, -0.502806],
      [1.347392, 0.800097, 0.338361],
      [2.029526, 2.824977, 2.716455],
    ]);
    const ramp = arange(1, 10).float().reshape(1, 1, 3, 3);
    const { grads } = valueAndGrad(
      (...at: Tensor[]) => run(at[0]!, at[1]!, at[2]!, at[3]!).mul(ramp).sum(),
      { argnums: [0, 1, 2, 3] },
    )(...inputs);
    const start = (k: number, count = 8): Tensor => grads[k]!.reshape(-1).at(slice(0, count));
    expectValues(
      start(0),
      [0.908787, 2.75451, 2.684998, 2.891589, 1.845729, 5.424064, 4.763918, 4.538531],
    );
    expectValues(start(1), [0, 0, 0, 0, 0.252857, 1.537047, 1.188338, 3.836489]);
    expectValues(start(2, 4), [13.891861, 49.571472, 75.328873, 24.547186]);
    expectValues(start(3), [0, 0, 0, 0, 1.083208, 6.127894, 4.456033, 16.652306]);
  });

  test('without offsets it is a convolution', () => {
    const w = roots(4, 2, 3, 3);
    const x = roots(2, 4, 6, 5);
    const options = { stride: 2, padding: 1, dilation: [1, 2] } as const;
    const found = vision.deformConv2d(x, zeros(2, 36, 3, 2), w, null, options);
    expectValues(found, values(F.conv2d(x, w, null, { ...options, groups: 2 })));
  });

  test('what is refused', () => {
    const call = (x: Tensor, o: Tensor, w: Tensor, options?: vision.DeformConvOptions) => () =>
      vision.deformConv2d(x, o, w, null, options);
    expect(call(image(), zeros(1, 7, 3, 3), weight())).toThrow('not [1,8,3,3] for one group');
    expect(call(image(), zeros(1, 8, 2, 3), weight())).toThrow('offsets are [1,8,2,3]');
    expect(call(zeros(4, 4), offset(), weight())).toThrow(ShapeError);
    expect(call(zeros(1, 3, 4, 4), offset(), ones(2, 2, 2, 2))).toThrow(
      'do not divide into groups',
    );
    expect(call(image(), offset(), ones(1, 1, 5, 5))).toThrow('the kernel does not fit');
    expect(call(image(), offset(), weight(), { mask: ones(1, 4, 2, 2) })).toThrow('the mask is');
  });
});

test('focal loss', () => {
  const scores = tensor([-3, 0, 2]);
  const targets = tensor([1, 0, 1]);
  const loss = (x: Tensor): Tensor => vision.sigmoidFocalLoss(x, targets, { reduction: 'sum' });
  expectValues(loss(scores), 0.821986);
  expectValues(grad(loss)(scores), [-0.281687, 0.223715, -0.001218]);
  expect(vision.sigmoidFocalLoss(scores, targets).shape).toEqual([3]);
  expect(() => vision.sigmoidFocalLoss(scores, zeros(2))).toThrow(ShapeError);
  expect(() => vision.sigmoidFocalLoss(scores, targets, { gamma: -1 })).toThrow('gamma');
});
