// Dynamic axes: one file for all sizes, or a reason why not.
import { F, grad, nn, tensor } from 'tengen';
import type { Tensor } from 'tengen';
import { inv } from 'tengen/linalg';
import { load, toBytes } from 'tengen/onnx';
import type { ExportOptions, ExportTarget } from 'tengen/onnx';
import { GPT } from 'tengen/text';
import { describe, expect, test } from 'vitest';
import {
  evaluatePolynomial,
  fitPolynomial,
  formatPolynomial,
} from '../../src/interface/onnx/export/sizes.ts';
import type { Grid } from '../../src/interface/onnx/export/sizes.ts';
import { dimensionsOf, exportedModel, reloaded } from './exported.ts';

/** Numbers that are not all alike. */
function numbers(shape: readonly number[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + 0.3));
  return tensor(values).reshape(...shape);
}

function tokens(batch: number, time: number): Tensor {
  const values = Int32Array.from({ length: batch * time }, (_, i) => (7 * i + 2) % 11);
  return tensor(values).reshape(batch, time);
}

/** Runs the file at sizes other than the example's, and compares with the function. */
async function expectAgreement(
  target: ExportTarget,
  options: ExportOptions,
  others: readonly Tensor[],
): Promise<void> {
  const model = await reloaded(target, options);
  const call = (target instanceof nn.Module ? target.forward.bind(target) : target) as (
    x: Tensor,
  ) => Tensor;
  for (const x of others) {
    const got = model.forward(x)['output'] as Tensor;
    const want = call(x);
    expect(got.shape).toEqual(want.shape);
    const values = want.dataSync();
    got.dataSync().forEach((value, i) => expect(value).toBeCloseTo(values[i] as number, 4));
  }
}

const batch = { dynamicAxes: { input: { 0: 'batch' } } };
const batchAndTime = { dynamicAxes: { input: { 0: 'batch', 1: 'time' } } };

describe('functions at several sizes', () => {
  test('a small CNN', async () => {
    const model = new nn.Sequential(
      new nn.Conv2d(1, 3, 3, { padding: 1 }),
      new nn.BatchNorm2d(3),
      new nn.ReLU(),
      new nn.MaxPool2d(2),
      new nn.Flatten(),
      new nn.Linear(48, 5),
    ).eval();
    const options = { inputs: [[2, 1, 8, 8]], ...batch };
    expect(dimensionsOf(await exportedModel(model, options))).toBe('batch, 5');
    await expectAgreement(
      model,
      options,
      [1, 2, 3, 7].map((n) => numbers([n, 1, 8, 8])),
    );
  });

  test('a gradient, and an input that nothing reads', async () => {
    const slope = (x: Tensor): Tensor => grad((a: Tensor) => a.exp().sum())(x);
    await expectAgreement(slope, { inputs: [[2, 4]], ...batch }, [
      numbers([1, 4]),
      numbers([5, 4]),
    ]);
    // What is pending afterwards is not the placeholders' loss.
    const inverse = (x: Tensor): Tensor => grad((a: Tensor) => inv(a).sum())(x);
    const matrices = [1, 4].map((n) => numbers([n, 2, 2]));
    await expectAgreement(inverse, { inputs: [[2, 2, 2]], ...batch }, matrices);
    const bytes = await toBytes((_: Tensor, y: Tensor) => y.mul(2), {
      inputs: [numbers([2, 3]), numbers([2])],
      inputNames: ['unused', 'y'],
      dynamicAxes: { unused: { 0: 'n' }, y: { 0: 'm' } },
    });
    const model = await load(bytes);
    const { output } = model.run({ unused: numbers([4, 3]), y: numbers([3]) });
    expect(output!.shape).toEqual([3]);
  });

  test('an example of size 1', async () => {
    const model = new nn.Sequential(new nn.GroupNorm(2, 4), new nn.Flatten(), new nn.Linear(12, 2));
    const options = { inputs: [[1, 4, 3]], ...batch };
    await expectAgreement(
      model,
      options,
      [1, 2, 5].map((n) => numbers([n, 4, 3])),
    );
  });

  test('a transformer of any batch and length', async () => {
    const layer = () =>
      new nn.TransformerEncoderLayer(8, 2, { dimFeedforward: 16, batchFirst: true });
    const model = new nn.TransformerEncoder(layer, 2).eval();
    const options = { inputs: [[2, 5, 8]], ...batchAndTime };
    expect(dimensionsOf(await exportedModel(model, options))).toBe('batch, time, 8');
    await expectAgreement(model, options, [numbers([1, 1, 8]), numbers([3, 9, 8])]);
  });

  test('attention on both sides of where it is computed in blocks', async () => {
    const attend = (x: Tensor) => F.scaledDotProductAttention(x, x, x, { isCausal: true });
    const options = { inputs: [[2, 31, 4]], ...batchAndTime };
    await expectAgreement(attend, options, [numbers([1, 3, 4]), numbers([1, 40, 4])]);
  });

  test('a GPT up to its context', async () => {
    const sizes = { layers: 1, width: 8, heads: 2, contextLength: 6, vocabulary: 11 };
    const model = new GPT(sizes);
    const options = { inputs: [{ shape: [1, 6], dtype: 'int32' as const }], ...batchAndTime };
    await expectAgreement(model, options, [tokens(2, 3), tokens(1, 6), tokens(1, 1)]);
  });

  test.each<[string, (x: Tensor) => Tensor, string]>([
    ['mean over a dynamic axis', (x) => x.mean(1), 'batch, 6'],
    ['variance over a dynamic axis', (x) => x.var(1), 'batch, 6'],
    ['a factor that is the size by chance', (x) => x.sum(1).mul(1 / 4), 'batch, 6'],
    ['everything in one axis', (x) => x.reshape(-1), '6 * batch * time'],
    ['the last one', (x) => x.narrow(1, x.shape[1]! - 1, 1), 'batch, 1, 6'],
    ['all but the last two', (x) => x.narrow(1, 0, x.shape[1]! - 2), 'batch, -2 + time, 6'],
    ['pairs', (x) => x.reshape(x.shape[0]!, x.shape[1]! / 2, 12), 'batch, time / 2, 12'],
    ['one after another', (x) => x.transpose(0, 1).flatten(0, 1), 'batch * time, 6'],
    ['positions', (x) => x.add(x.detach().cumsum(1)), 'batch, time, 6'],
    ['backwards', (x) => x.flip(1), 'batch, time, 6'],
    ['padding', (x) => F.pad(x, [0, 0, 2, 1]), 'batch, 3 + time, 6'],
    ['sorting', (x) => x.argsort(1).float(), 'batch, time, 6'],
    ['the largest of all', (x) => x.flatten(1).argmax(1).float(), 'batch'],
  ])('%s', async (_name, fn, dimensions) => {
    const options = { inputs: [[2, 4, 6]], ...batchAndTime };
    expect(dimensionsOf(await exportedModel(fn, options))).toBe(dimensions);
    await expectAgreement(fn, options, [
      numbers([1, 8, 6]),
      numbers([5, 4, 6]),
      numbers([2, 10, 6]),
    ]);
  });

  test('sizes in the middle that follow in steps', async () => {
    const conv = new nn.Conv2d(1, 2, 3, { stride: 2, padding: 1 });
    const fn = (x: Tensor) => {
      const y = conv.forward(x);
      const [n, c, h, w] = y.shape as [number, number, number, number];
      return y.reshape(n, c, h * w).transpose(1, 2);
    };
    const axes = { dynamicAxes: { input: { 0: 'batch', 2: 'height', 3: 'width' } } };
    const others = [numbers([1, 1, 5, 7]), numbers([2, 1, 6, 3])];
    await expectAgreement(fn, { inputs: [[2, 1, 8, 8]], ...axes }, others);
  });

  test('a GRU, whose steps share a stack', async () => {
    class Last extends nn.Module {
      readonly gru = new nn.GRU(3, 4, { batchFirst: true, bidirectional: true });
      forward(x: Tensor): Tensor {
        return this.gru.forward(x)[0];
      }
    }
    const others = [1, 2, 5].map((n) => numbers([n, 4, 3]));
    await expectAgreement(new Last(), { inputs: [[2, 4, 3]], ...batch }, others);
  });

  test('values behind detach and index checks', async () => {
    const table = new nn.Parameter(numbers([5, 3]));
    const fn = (x: Tensor) => {
      const index = x.flatten().abs().mul(4).int();
      return table
        .at(index)
        .detach()
        .narrow(0, 0, index.shape[0]! - 1);
    };
    const others = [numbers([1, 4]), numbers([7, 4])];
    await expectAgreement(fn, { inputs: [[2, 4]], ...batch }, others);
  });

  test('two inputs that share an axis', async () => {
    const fn = (x: Tensor, y: Tensor) => x.flatten(1).add(y);
    const model = await exportedModel(fn, {
      inputs: [
        [2, 3, 4],
        [2, 12],
      ],
      dynamicAxes: { input_0: { 0: 'batch' }, input_1: { 0: 'batch' } },
    });
    expect(dimensionsOf(model)).toBe('batch, 12');
  });

  test('axes by number are named after their input', async () => {
    const options = { inputs: [[2, 3]], dynamicAxes: { input: [0, 1] } };
    expect(dimensionsOf(await exportedModel((x: Tensor) => x.relu(), options))).toBe(
      'input_0, input_1',
    );
  });
});

describe('what cannot be dynamic', () => {
  test('a function that branches on the size', async () => {
    const fn = (x: Tensor) => (x.shape[0]! > 3 ? x.relu() : x.exp());
    const attempt = toBytes(fn, { inputs: [[3, 4]], ...batch });
    await expect(attempt).rejects.toThrow(/builds another program.*(relu|exp)/);
  });

  test('a loop over the axis', async () => {
    const fn = (x: Tensor) => x.unbind(0).reduce((a, b) => a.mul(0.5).add(b));
    await expect(toBytes(fn, { inputs: [[3, 4]], ...batch })).rejects.toThrow(/another program/);
  });

  test('a number that follows in steps, however wide they are', async () => {
    const steps = (width: number) => (x: Tensor) => x.sum(0).mul(Math.ceil(x.shape[0]! / width));
    for (const [width, size] of [
      [2, 3],
      [4, 9],
      [32, 33],
    ] as const) {
      const attempt = toBytes(steps(width), { inputs: [[size, 4]], ...batch });
      await expect(attempt, `steps of ${width}`).rejects.toThrow(/no sum of products/);
    }
  });

  test('a number that follows no line', async () => {
    const fn = (x: Tensor) => x.mul(Math.sqrt(x.shape[0]!));
    await expect(toBytes(fn, { inputs: [[3, 4]], ...batch })).rejects.toThrow(
      /mul|scalar.*neither a size nor one over it/s,
    );
  });

  test('a window of the size of the axis', async () => {
    const fn = (x: Tensor) => F.maxPool2d(x, [x.shape[2]!, 2]);
    const options = { inputs: [[1, 2, 6, 6]], dynamicAxes: { input: { 2: 'height' } } };
    await expect(toBytes(fn, options)).rejects.toThrow(/maxPool.*kernel follows a dynamic axis/s);
  });

  test('a function that takes one size only', async () => {
    const options = { inputs: [[2, 4]], dynamicAxes: { input: { 1: 'features' } } };
    await expect(toBytes(new nn.Linear(4, 3), options)).rejects.toThrow(
      /'features' cannot be dynamic: the function takes no other sizes than 4.*linear/s,
    );
  });

  test('a constant that is made in the size of the axis', async () => {
    const fn = (x: Tensor) => x.add(tensor(new Float32Array(x.shape[0]!)).unsqueeze(1));
    await expect(toBytes(fn, { inputs: [[3, 4]], ...batch })).rejects.toThrow(/stored value/);
  });
});

describe('polynomials', () => {
  const grid: Grid = {
    symbols: ['n', 't'],
    points: [
      [2, 5],
      [3, 5],
      [2, 7],
      [3, 7],
      [6, 5],
      [2, 12],
      [6, 12],
    ],
  };
  const at = (f: (n: number, t: number) => number) =>
    grid.points.map(([n, t]) => f(n as number, t as number));

  test.each<[(n: number, t: number) => number, string]>([
    [() => 7, '7'],
    [(n) => n, 'n'],
    [(n, t) => n * t, 'n * t'],
    [(n, t) => 3 * n * t - 2 * n + t + 4, '4 + -2 * n + t + 3 * n * t'],
    [(n, t) => (n * t + 5) / 1, '5 + n * t'],
    [() => 0, '0'],
  ])('%s', (f, text) => {
    const polynomial = fitPolynomial(grid, at(f));
    expect(polynomial).not.toBeNull();
    if (polynomial === null) return;
    expect(formatPolynomial(polynomial, grid.symbols)).toBe(text);
    expect(evaluatePolynomial(polynomial, [10, 13])).toBe(f(10, 13));
  });

  test('with a divisor', () => {
    const halves: Grid = { symbols: ['n'], points: [[4], [6], [10]] };
    const polynomial = fitPolynomial(halves, [2, 3, 5]);
    expect(polynomial === null ? '' : formatPolynomial(polynomial, ['n'])).toBe('n / 2');
  });

  test('squares and steps are none', () => {
    expect(
      fitPolynomial(
        grid,
        at((n) => n * n),
      ),
    ).toBeNull();
    expect(
      fitPolynomial(
        grid,
        at((_, t) => Math.ceil(t / 2)),
      ),
    ).toBeNull();
    expect(
      fitPolynomial(
        grid,
        at((n) => n + 0.5),
      ),
    ).toBeNull();
  });
});
