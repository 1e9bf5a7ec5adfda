// Indices out of range throw, wherever they come from: never a clamped answer.
import { expect, test } from 'vitest';
import {
  arange,
  F,
  full,
  manualSeed,
  nn,
  ones,
  optim,
  ShapeError,
  type Tensor,
  tensor,
  topk,
  trace,
  zeros,
} from 'tengen';
import { Linearization } from '../../src/graph/linearize.ts';

const ints = (values: number[]): Tensor => tensor(values, { dtype: 'int32' });
/** The same values as the result of a computation. */
const computed = (values: number[]): Tensor => ints(values).add(ints([0]));
const x = (): Tensor => tensor([1, 2, 3]);

const uses: Readonly<Record<string, (index: Tensor) => Tensor>> = {
  gather: (index) => x().gather(0, index),
  takeAlongDim: (index) => x().takeAlongDim(index, 0),
  indexSelect: (index) => x().indexSelect(0, index),
  at: (index) => x().at(index),
  take: (index) => x().take(index),
  scatter: (index) => x().scatter(0, index, ones(1)),
  scatterAdd: (index) => x().scatterAdd(0, index, ones(1)),
  indexAdd: (index) => x().indexAdd(0, index, ones(1)),
  embedding: (index) => F.embedding(index, ones([3, 2])),
  embeddingBag: (index) => F.embeddingBag(index.reshape(1, 1), ones([3, 2])),
  oneHot: (index) => F.oneHot(index, 3),
  crossEntropy: (index) => F.crossEntropy(ones([1, 3]), index),
  nllLoss: (index) => F.nllLoss(ones([1, 3]), index),
  multiMarginLoss: (index) => F.multiMarginLoss(ones([1, 3]), index),
  maxUnpool1d: (index) => F.maxUnpool1d(ones([1, 1, 1]), index.reshape(1, 1, 1), 3),
};

for (const [name, use] of Object.entries(uses)) {
  test(`${name}: a computed index out of range throws when it is computed`, async () => {
    for (const value of [3, 100, -4]) {
      await expect(use(computed([value])).array()).rejects.toThrow(
        `${name}: index ${value} is out of range for size 3`,
      );
    }
    await use(computed([2])).array();
  });

  test(`${name}: a known index throws on the caller's line`, () => {
    expect(() => use(ints([3]))).toThrow(ShapeError);
    expect(() => use(ints([3]).reshape(1, 1).reshape(1))).toThrow('index 3 is out of range');
    expect(() => use(full([1], -7, { dtype: 'int32' }))).toThrow('index -7 is out of range');
  });
}

test('an unsigned index does not wrap into the range', async () => {
  const wrapped = tensor([4294967295], { dtype: 'uint32' });
  expect(() => x().at(wrapped)).toThrow('index 4294967295 is out of range');
  const later = wrapped.add(tensor([0], { dtype: 'uint32' }));
  await expect(x().at(later).array()).rejects.toThrow('index 4294967295 is out of range');
});

test('ignored targets may be anything that ignoreIndex is', async () => {
  const scores = ones([2, 3]);
  const loss = F.crossEntropy(scores, computed([-100, 1]));
  expect(await loss.item()).toBeCloseTo(Math.log(3), 5);
  await expect(F.crossEntropy(scores, computed([-1, 1])).item()).rejects.toThrow('index -1');
  const other = F.crossEntropy(scores, computed([-1, 1]), { ignoreIndex: -1 });
  expect(await other.item()).toBeCloseTo(Math.log(3), 5);
});

test('only the elements that are used count', async () => {
  const labels = ints([9, 1, 2]);
  expect(await x().at(labels.at('1:')).array()).toEqual([2, 3]);
  expect(
    await x()
      .at(zeros([0], { dtype: 'int32' }))
      .array(),
  ).toEqual([]);
});

test('indices that stay on the device are checked as well', async () => {
  const many = arange(400_000, { dtype: 'int32' }).remainder(5);
  await many.array();
  expect(await ones([5]).at(many).sum().item()).toBe(400_000);
  await expect(ones([4]).at(many).sum().item()).rejects.toThrow('index 4 is out of range');
});

test('positions that an operation found are not checked again', () => {
  const values = tensor([[3, 1, 2]]);
  const checks = (result: Tensor): number => {
    const linear = new Linearization();
    linear.reset();
    linear.add(result.node);
    return linear.promises.length;
  };
  const best = values.argmax(1).reshape(1, 1);
  expect(checks(values.gather(1, best))).toBe(0);
  expect(checks(values.gather(1, topk(values, 2).indices))).toBe(0);
  expect(checks(values.gather(1, values.argsort(1)))).toBe(0);
  expect(checks(values.at(0, arange(3, { dtype: 'int32' }).flip(0)))).toBe(0);
  expect(checks(values.gather(1, best.add(1)))).toBe(1);
});

test('a traced function checks the values of every call', async () => {
  for (const withoutHost of [false, true]) {
    const traced = trace((index: Tensor) => x().at(index.add(ints([0]))), { withoutHost });
    expect(await traced(ints([2])).array()).toEqual([3]);
    const wrong = async (): Promise<unknown> => traced(ints([5])).array();
    await expect(wrong()).rejects.toThrow('at: index 5 is out of range');
    expect(await traced(ints([0])).array()).toEqual([1]);
  }
  const replayed = trace((index: Tensor) => x().at(index), { withoutHost: true });
  expect(await replayed(ints([2])).array()).toEqual([3]);
  const known = async (): Promise<unknown> => replayed(ints([6])).array();
  await expect(known()).rejects.toThrow('at: index 6 is out of range');
});

/** Weights and momenta after steps on these labels; a step that throws is left out. */
async function train(labels: readonly number[]): Promise<unknown> {
  manualSeed(3);
  const layer = new nn.Linear(2, 3);
  const optimizer = new optim.SGD(layer.parameters(), { lr: 0.1, momentum: 0.9 });
  for (const label of labels) {
    optimizer.zeroGrad();
    F.crossEntropy(layer.forward(tensor([[1, -2]])), computed([label])).backward();
    try {
      optimizer.step();
    } catch (error) {
      expect(error).toBeInstanceOf(ShapeError);
    }
  }
  const momenta = Object.values(optimizer.stateDict().state).map((entry) =>
    Object.values(entry).map((value) => (typeof value === 'number' ? null : value.dataSync())),
  );
  return [await layer.weight.array(), momenta];
}

test('a step with a wrong label changes nothing', async () => {
  expect(await train([0, 3, 2])).toEqual(await train([0, 2]));
  expect(await train([0, 1, 2])).not.toEqual(await train([0, 2]));
});
