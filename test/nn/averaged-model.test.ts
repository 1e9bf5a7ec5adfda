// Averages of weights: equal and exponential, in the model's place, and its running statistics.
import { describe, expect, test } from 'vitest';
import { ArgumentError, nn, optim, setDefaultDevice, tensor, zeros } from 'tengen';
import 'tengen/interp';
import { expectValues } from '../interface/support.ts';

setDefaultDevice('interp');

describe('AveragedModel', () => {
  test('a plain mean of all weights', () => {
    const layer = new nn.Linear(1, 1, { bias: false });
    const average = new nn.AveragedModel(layer);
    for (const value of [1, 2, 6]) {
      layer.weight.setData([value]);
      average.updateParameters();
    }
    expectValues(average.forward(tensor([[2]])), [[6]]);
    expectValues(layer.forward(tensor([[2]])), [[12]]);
    expect(average.nAveraged.itemSync()).toBe(3);
    // The names of PyTorch's swa_utils.AveragedModel.
    expect(Object.keys(average.stateDict())).toEqual(['n_averaged', 'module.weight']);
    layer.loadStateDict(average.averages());
    expectValues(layer.weight, [[3]]);
  });

  test('exponential, beside a training loop, and after a state was loaded', () => {
    const layer = new nn.Linear(1, 1, { bias: false });
    layer.weight.setData([1]);
    const average = new nn.AveragedModel(layer, { decay: 0.9 });
    const sgd = new optim.SGD(layer.parameters(), { lr: 0.5 });
    let expected = NaN;
    for (let step = 0; step < 4; step++) {
      layer
        .forward(tensor([[1]]))
        .sum()
        .backward();
      sgd.step();
      sgd.zeroGrad();
      average.updateParameters();
      const weight = 1 - 0.5 * (step + 1);
      expected = step === 0 ? weight : 0.9 * expected + 0.1 * weight;
    }
    expectValues(average.forward(tensor([[1]])), [[expected]]);
    const again = new nn.AveragedModel(layer, { decay: 0.9 });
    again.loadStateDict(average.stateDict());
    again.updateParameters();
    expectValues(again.forward(tensor([[1]])), [[0.9 * expected + 0.1 * -1]]);
  });

  test('evaluates as in evaluation, and leaves the model in its mode', () => {
    const model = new nn.Sequential(new nn.BatchNorm1d(1), new nn.Dropout(0.5));
    const average = new nn.AveragedModel(model, { decay: 0.5 });
    expectValues(average.forward(tensor([[2], [4]])).round(), [[2], [4]]);
    expect(model.training).toBe(true);
    expect(() => new nn.AveragedModel(model, { decay: 1.5 })).toThrow(ArgumentError);
  });
});

test('updateBatchNorm: means over the batches, whatever was there', async () => {
  const layer = new nn.BatchNorm1d(1);
  layer.forward(tensor([[100], [200]]));
  await nn.updateBatchNorm([tensor([[1], [3]]), tensor([[5], [9]])], layer.eval());
  expect(layer.training).toBe(false);
  expect(layer.momentum).toBe(0.1);
  expectValues(layer.runningMean ?? zeros([1]), [4.5]);
  expectValues(layer.runningVar ?? zeros([1]), [5]);
});
