// Trained models, written and read back: the same bits in strict numerics; and weights beside the model.
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { F, manualSeed, nn, optim, randn, setNumerics, tensor } from 'tengen';
import type { Tensor } from 'tengen';
import { load, save } from 'tengen/onnx';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { modelProto } from '../../src/interface/onnx/messages.ts';
import { reloaded } from './exported.ts';

beforeEach(() => {
  manualSeed(3);
  setNumerics('strict');
});
afterEach(() => setNumerics('fast'));

/** A few steps, so that no weight and no running statistic is what it was made as. */
function train(model: nn.Module, inputs: readonly Tensor[]): void {
  const optimizer = new optim.Adam(model.parameters(), { lr: 0.01 });
  const forward = model.forward as (...given: Tensor[]) => Tensor | Tensor[];
  model.train();
  for (let step = 0; step < 3; step++) {
    optimizer.zeroGrad();
    const result = forward.apply(model, [...inputs]);
    (Array.isArray(result) ? (result[0] as Tensor) : result).square().mean().backward();
    optimizer.step();
  }
  model.eval();
}

async function expectSameBits(model: nn.Module, x: Tensor, results: number): Promise<void> {
  const options = { inputs: [x], inputNames: ['x'], dynamicAxes: { x: { 0: 'batch' } } };
  const back = await reloaded(model, options);
  const given = (model.forward as (x: Tensor) => Tensor | Tensor[]).call(model, x);
  const wanted = Array.isArray(given) ? given : [given];
  const got = Object.values(back.forward(x));
  expect(got).toHaveLength(results);
  got.forEach((result, i) => {
    expect(result.shape).toEqual(wanted[i]?.shape);
    expect(result.dataSync()).toEqual(wanted[i]?.dataSync());
  });
}

describe('read back, bit for bit', () => {
  test('a CNN', async () => {
    const model = new nn.Sequential(
      new nn.Conv2d(1, 4, 3, { padding: 1 }),
      new nn.LeakyReLU(0.1),
      new nn.MaxPool2d(2),
      new nn.Conv2d(4, 6, 3, { groups: 2, bias: false }),
      new nn.GELU(),
      new nn.AdaptiveAvgPool2d(1),
      new nn.Flatten(),
      new nn.Linear(6, 3),
    );
    train(model, [randn([8, 1, 8, 8])]);
    await expectSameBits(model, randn([3, 1, 8, 8]), 1);
  });

  test('batch normalization', async () => {
    const model = new nn.Sequential(new nn.Conv2d(1, 3, 3), new nn.BatchNorm2d(3), new nn.ReLU());
    train(model, [randn([8, 1, 6, 6])]);
    await expectSameBits(model, randn([2, 1, 6, 6]), 1);
  });

  test('a GRU', async () => {
    const model = new nn.GRU(3, 4, { batchFirst: true, bidirectional: true });
    train(model, [randn([4, 5, 3])]);
    await expectSameBits(model, randn([2, 5, 3]), 2);
  });

  test('a GRU over more steps than are unrolled otherwise', async () => {
    const model = new nn.GRU(3, 4, { batchFirst: true });
    train(model, [randn([4, 12, 3])]);
    await expectSameBits(model, randn([2, 12, 3]), 2);
  });

  test('a transformer', async () => {
    const layer = () =>
      new nn.TransformerEncoderLayer(8, 2, { dimFeedforward: 16, batchFirst: true });
    const model = new nn.TransformerEncoder(layer, 1);
    train(model, [randn([2, 5, 8])]);
    await expectSameBits(model, randn([3, 5, 8]), 1);
  });

  test('halves and float64', async () => {
    const fn = (x: Tensor) => F.softmax(x.double().mul(0.3), -1);
    const back = await reloaded(fn, { inputs: [{ shape: [2, 3], dtype: 'float16' }] });
    const x = randn([2, 3]).half();
    const got = back.forward(x)['output'] as Tensor;
    expect(got.dtype).toBe('float64');
    expect(got.dataSync()).toEqual(fn(x).dataSync());
  });
});

describe('files', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tengen-onnx-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const model = new nn.Sequential(new nn.Linear(20, 30), new nn.ReLU(), new nn.Linear(30, 2));

  test('one file', async () => {
    const path = join(folder, 'model.onnx');
    await save(path, model, { inputs: [[1, 20]] });
    expect(await readdir(folder)).toEqual(['model.onnx']);
    const back = await load(path);
    const x = randn([1, 20]);
    expect((back.forward(x)['output'] as Tensor).dataSync()).toEqual(model.forward(x).dataSync());
  });

  test.each(['a path', 'an address'])('weights beside the model, by %s', async (kind) => {
    const path = join(folder, 'große Gewichte.onnx');
    const place = kind === 'a path' ? path : pathToFileURL(path);
    await save(place, model, { inputs: [[1, 20]], externalData: true });
    const data = 'große Gewichte.onnx.data';
    expect((await readdir(folder)).toSorted()).toEqual(['große Gewichte.onnx', data]);
    const { graph } = modelProto.decode(await readFile(path));
    const weight = graph?.initializer.find(({ name }) => name === '0.weight');
    expect(weight?.rawData).toBeUndefined();
    const entries = Object.fromEntries(
      (weight?.externalData ?? []).map(({ key, value }) => [key, value]),
    );
    expect(entries).toMatchObject({ location: data, length: String(20 * 30 * 4) });
    expect(Number(entries['offset']) % 4096).toBe(0);
    // What is small stays with the model.
    const bias = graph?.initializer.find(({ name }) => name === '2.bias');
    expect(bias?.rawData).toHaveLength(8);
    expect((await stat(join(folder, data))).size).toBe(20 * 30 * 4);
    const back = await load(path);
    const x = randn([1, 20]);
    expect((back.forward(x)['output'] as Tensor).dataSync()).toEqual(model.forward(x).dataSync());
  });

  test('nothing is written for what cannot be exported, and none into nowhere', async () => {
    const path = join(folder, 'model.onnx');
    const attempt = save(path, (x: Tensor) => x.to('float64').erfinv(), { inputs: [[1]] });
    await expect(attempt).rejects.toThrow(/onnx\.save: .*erfinv/);
    const nowhere = save(join(folder, 'no', 'model.onnx'), model, { inputs: [[1, 20]] });
    await expect(nowhere).rejects.toThrow(/folder/);
    await expect(save('', model, { inputs: [[1, 20]] })).rejects.toThrow(/path/);
    expect(await readdir(folder)).toEqual([]);
  });

  test('a weight that was assigned and not computed yet', async () => {
    const layer = new nn.Linear(2, 1, { bias: false });
    layer.weight.assign(tensor([[2, 3]]).add(1));
    const path = join(folder, 'model.onnx');
    await save(path, layer, { inputs: [[1, 2]] });
    const result = (await load(path)).forward(tensor([[1, 1]]))['output'] as Tensor;
    expect([...result.dataSync()]).toEqual([7]);
  });
});
