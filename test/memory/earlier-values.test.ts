// Results that nobody has read yet when what they are built from is overwritten: they are computed in
// time, and where that is impossible only who reads them hears of it.
import { describe, expect, test } from 'vitest';
import { configure, F, keep, nn, optim, type Tensor, tensor, trace } from 'tengen';

configure({ device: 'wasm', threads: 1 });

const listOf = (x: Tensor): number[] => [...x.dataSync()];

function batches(): { model: nn.BatchNorm1d; next: () => Tensor } {
  const model = new nn.BatchNorm1d(2, { momentum: 0.5 });
  let count = 0;
  const next = (): Tensor => {
    count++;
    return model
      .forward(
        tensor([
          [count, 1],
          [3 * count, 5 + count],
        ]),
      )
      .square()
      .sum();
  };
  return { model, next };
}

describe('a copy of running statistics', () => {
  test('outlives readings that move them on', () => {
    const { model, next } = batches();
    next().itemSync();
    const mean = listOf(model.runningMean as Tensor);
    const copy = (model.runningMean as Tensor).clone();
    const kept = keep((model.runningMean as Tensor).mul(2).add(0));
    // Losses of several batches are read before one step: gradients add up.
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
    for (let i = 0; i < 4; i++) {
      const loss = next();
      loss.itemSync();
      loss.backward();
    }
    optimizer.step();
    expect(listOf(copy)).toEqual(mean);
    expect(listOf(kept)).toEqual(mean.map((each) => 2 * each));
    expect(listOf(model.runningMean as Tensor)).not.toEqual(mean);
  });

  test('is taken before a traced step, too', () => {
    const { model, next } = batches();
    const optimizer = new optim.SGD(model.parameters(), { lr: 0.1 });
    const step = trace((x: Tensor) => {
      optimizer.zeroGrad();
      const loss = model.forward(x).square().sum();
      loss.backward();
      optimizer.step();
      return loss;
    });
    const copy = (model.runningMean as Tensor).clone();
    for (let i = 0; i < 3; i++) next().itemSync();
    for (let i = 0; i < 3; i++)
      step(
        tensor([
          [i, 1],
          [2, 3],
        ]),
      ).itemSync();
    expect(listOf(copy)).toEqual([0, 0]);
  });
});

describe('weights from the host', () => {
  test('a copy outlives those that come after it', () => {
    const w = tensor([1, 2], { requiresGrad: true });
    const copies: Tensor[] = [];
    for (let i = 1; i <= 4; i++) {
      w.setData([i, i]);
      copies.push(w.detach().clone());
    }
    const optimizer = new optim.SGD([w], { lr: 1 });
    F.relu(w).sum().backward();
    optimizer.step();
    expect(listOf(w)).toEqual([3, 3]);
    expect(copies.map((copy) => listOf(copy)[0])).toEqual([1, 2, 3, 4]);
  });

  test('averages that overwrite in place', () => {
    const model = new nn.Linear(2, 1);
    const average = new nn.AveragedModel(model);
    const weight = average.averages()['weight'] as Tensor;
    average.updateParameters();
    const before = listOf(weight);
    const copy = weight.clone();
    for (let i = 0; i < 3; i++) {
      model.weight.setData([i, i + 1]);
      average.updateParameters();
      listOf(weight);
    }
    expect(listOf(copy)).toEqual(before);
    expect(listOf(weight)).not.toEqual(before);
  });
});

test.each([false, true])(
  'a result of what was disposed of does not stop a step, traced: %s',
  (traced) => {
    const w = tensor([1, 2], { requiresGrad: true });
    const optimizer = new optim.SGD([w], { lr: 1 });
    const x = tensor([1, 2]);
    const unread = x.mul(3);
    const read = tensor([1, 1]).add(1);
    x.dispose();
    const plain = (): void => {
      optimizer.zeroGrad();
      w.sum().backward();
      optimizer.step();
    };
    (traced ? trace(plain) : plain)();
    expect(listOf(w)).toEqual([0, 1]);
    expect(listOf(read)).toEqual([2, 2]);
    expect(() => unread.dataSync()).toThrow('was disposed of');
  },
);
