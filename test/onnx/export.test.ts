// What is written for a function: ops, names, types, and what is refused.
import { evaluate, F, grad, nn, tensor } from 'tengen';
import type { Tensor } from 'tengen';
import { toBytes, UnsupportedError } from 'tengen/onnx';
import { describe, expect, test } from 'vitest';
import { dimensionsOf, exportedModel, exportedOps, reloaded } from './exported.ts';

const image = { inputs: [[2, 3, 8, 8]] };
const rows = { inputs: [[3, 4]] };
/** Values that are stored, and not numbers that the export may write shorter. */
const four = new nn.Buffer(new Float32Array(48), [2, 1, 4, 6]);

describe('layers are one op', () => {
  const cases: readonly [
    string,
    nn.Module | ((x: Tensor) => Tensor),
    { inputs: number[][] },
    string,
  ][] = [
    ['Linear', new nn.Linear(4, 5), rows, 'Gemm'],
    ['Linear without bias', new nn.Linear(4, 5, { bias: false }), rows, 'Gemm'],
    ['Linear of batches', new nn.Linear(4, 5), { inputs: [[2, 3, 4]] }, 'Transpose MatMul Add'],
    ['a product of batches', (x) => x.matmul(four), { inputs: [[3, 5, 4]] }, 'MatMul'],
    ['Conv2d', new nn.Conv2d(3, 4, 3, { padding: 1 }), image, 'Conv'],
    ['Conv2d without bias', new nn.Conv2d(3, 4, 3, { bias: false }), image, 'Conv'],
    ['ConvTranspose2d', new nn.ConvTranspose2d(3, 4, 3, { stride: 2 }), image, 'ConvTranspose'],
    ['BatchNorm2d', new nn.BatchNorm2d(3).eval(), image, 'BatchNormalization'],
    ['LayerNorm', new nn.LayerNorm(8), image, 'LayerNormalization'],
    ['LayerNorm over two axes', new nn.LayerNorm([8, 8]), image, 'LayerNormalization'],
    ['InstanceNorm2d', new nn.InstanceNorm2d(3, { affine: true }), image, 'InstanceNormalization'],
    ['MaxPool2d', new nn.MaxPool2d(2), image, 'MaxPool'],
    ['AvgPool2d', new nn.AvgPool2d(2), image, 'AveragePool'],
    [
      'AvgPool2d without its border',
      new nn.AvgPool2d(3, { padding: 1, countIncludePad: false }),
      image,
      'AveragePool',
    ],
    ['AdaptiveAvgPool2d to one', new nn.AdaptiveAvgPool2d(1), image, 'GlobalAveragePool'],
    ['AdaptiveAvgPool2d', new nn.AdaptiveAvgPool2d(4), image, 'AveragePool'],
    ['mean', (x) => x.mean([1, 2]), image, 'ReduceMean'],
    ['softmax', (x) => F.softmax(x, 1), rows, 'Softmax'],
    ['logSoftmax', (x) => F.logSoftmax(x, -1), rows, 'LogSoftmax'],
    ['relu6', (x) => F.relu6(x), rows, 'Clip'],
    ['leakyRelu', (x) => F.leakyRelu(x, 0.2), rows, 'LeakyRelu'],
    ['elu', (x) => F.elu(x, 2), rows, 'Elu'],
    ['selu', (x) => F.selu(x), rows, 'Selu'],
    ['celu', (x) => F.celu(x, 2), rows, 'Celu'],
    ['hardsigmoid', (x) => F.hardsigmoid(x), rows, 'HardSigmoid'],
    ['hardswish', (x) => F.hardswish(x), rows, 'HardSwish'],
    ['softplus', (x) => F.softplus(x), rows, 'Softplus'],
    ['gelu', (x) => F.gelu(x), rows, 'Mul Mul Erf Add Mul'],
  ];
  test.each(cases)('%s', async (_name, target, options, ops) => {
    expect((await exportedOps(target, options)).join(' ')).toBe(ops);
  });

  test('Gelu where the operator set has it', async () => {
    const ops = async (approximate: 'none' | 'tanh') =>
      exportedOps(new nn.GELU({ approximate }), { ...rows, opset: 20 });
    expect(await ops('none')).toEqual(['Gelu']);
    expect(await ops('tanh')).toEqual(['Gelu']);
  });

  test('what looks like a layer but is none is written as it is', async () => {
    // A factor that is not one over the count.
    expect(await exportedOps((x: Tensor) => x.sum([1]).mul(0.3), rows)).toEqual([
      'ReduceSum',
      'Mul',
    ]);
    // A bias that enlarges the product.
    const weight = new nn.Buffer(new Float32Array(20), [4, 5]);
    const bias = new nn.Buffer(new Float32Array(10), [2, 1, 5]);
    const enlarged = (x: Tensor) => x.matmul(weight).add(bias);
    expect(await exportedOps(enlarged, rows)).toEqual(['MatMul', 'Add']);
    // A sum along another axis than the maximum.
    const mixed = (x: Tensor) => {
      const powers = x.sub(x.amax(1, { keepdims: true })).exp();
      return powers.mul(powers.sum(0, { keepdims: true }).reciprocal());
    };
    expect(await exportedOps(mixed, rows)).not.toContain('Softmax');
  });

  test('constants that are computed are stored', async () => {
    const causal = (x: Tensor) => F.scaledDotProductAttention(x, x, x, { isCausal: true });
    const model = await exportedModel(causal, { inputs: [[2, 5, 8]], functions: false });
    const ops = model.graph.node.map(({ opType }) => opType);
    expect(ops).toEqual(['Mul', 'Transpose', 'MatMul', 'Where', 'Softmax', 'MatMul']);
    const mask = model.graph.initializer.find(({ dataType }) => dataType === 9);
    expect(mask?.dims).toEqual([5, 5]);
  });

  test('attention in blocks is written as attention with few queries is', async () => {
    const attend = (x: Tensor) => F.scaledDotProductAttention(x, x, x, { isCausal: true });
    for (const functions of [true, false]) {
      const few = await exportedOps(attend, { inputs: [[2, 5, 8]], functions });
      const many = await exportedOps(attend, { inputs: [[2, 40, 8]], functions });
      expect(many).toEqual(few);
    }
  });
});

describe('names and types', () => {
  class Net extends nn.Module {
    readonly fc = new nn.Linear(4, 3);
    readonly norm = new nn.BatchNorm1d(3);
    forward(x: Tensor) {
      return this.norm.forward(this.fc.forward(x));
    }
  }

  test('parameters have the names of the state dict, values as they are', async () => {
    const net = new Net().eval();
    const { graph } = await exportedModel(net, rows);
    const names = graph.initializer.map(({ name }) => name ?? '');
    const wanted = Object.keys(net.stateDict()).filter((name) => !name.includes('num_batches'));
    expect(names.toSorted()).toEqual(wanted.toSorted());
    const weight = graph.initializer.find(({ name }) => name === 'fc.weight');
    expect(weight?.dims).toEqual([3, 4]);
    const bytes = weight?.rawData ?? new Uint8Array();
    expect(new Float32Array(bytes.slice().buffer)).toEqual(net.fc.weight.dataSync());
  });

  test('of a function, names come from the state that is given', async () => {
    const net = new Net().eval();
    const fn = (x: Tensor) => net.forward(x).relu();
    const { graph } = await exportedModel(fn, { ...rows, state: net.stateDict() });
    expect(graph.initializer.map(({ name }) => name)).toContain('norm.running_mean');
  });

  test('inputs and outputs', async () => {
    const fn = (x: Tensor, { mask }: { mask: Tensor }) => ({
      sum: x.add(mask),
      parts: [x, x.mul(2)],
    });
    const inputs = [[2, 3], { mask: { shape: [3], dtype: 'float32' as const } }];
    const model = await exportedModel(fn, { inputs });
    expect(model.graph.input.map(({ name }) => name)).toEqual(['input_0', 'input_1']);
    expect(model.graph.output.map(({ name }) => name)).toEqual(['sum', 'parts.0', 'parts.1']);
    expect(dimensionsOf(model, 1)).toBe('2, 3');
    const named = await exportedModel(fn, {
      inputs,
      inputNames: ['x', 'mask'],
      outputNames: ['a', 'b', 'c'],
    });
    expect(named.graph.input.map(({ name }) => name)).toEqual(['x', 'mask']);
    expect(named.graph.output.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });

  test('a result that is an input, a weight or another result', async () => {
    const weight = tensor([1, 2]);
    const model = await reloaded(
      (x: Tensor) => {
        const y = x.mul(2);
        return [x, weight, y, y];
      },
      { inputs: [[2]] },
    );
    const results = model.forward(tensor([3, 4]));
    expect(Object.values(results).map((x) => [...x.dataSync()])).toEqual([
      [3, 4],
      [1, 2],
      [6, 8],
      [6, 8],
    ]);
  });

  test('version, producer and metadata', async () => {
    const model = await exportedModel((x: Tensor) => x.relu(), {
      ...rows,
      opset: 19,
      metadata: { author: 'me' },
    });
    expect(model.opsetImport).toEqual([{ domain: '', version: 19 }]);
    expect(model.irVersion).toBe(9);
    expect(model.producerName).toBe('tengen');
    expect(model.metadataProps).toEqual([{ key: 'author', value: 'me' }]);
  });

  test('integers, bools and halves', async () => {
    const fn = (x: Tensor) => [x.add(1), x.gt(2), x.half()];
    const model = await exportedModel(fn, { inputs: [{ shape: [2], dtype: 'int32' }] });
    expect(model.graph.output.map(({ type }) => type?.tensorType?.elemType)).toEqual([6, 9, 10]);
  });

  test('gradients are a function too', async () => {
    const slope = (x: Tensor) => grad((y: Tensor) => y.mul(y).mul(y).sum())(x) as Tensor;
    const model = await reloaded(slope, { inputs: [[3]] });
    expect([...(model.forward(tensor([1, 2, 3]))['output'] as Tensor).dataSync()]).toEqual([
      3, 12, 27,
    ]);
  });

  test('what was pending before is computed, what the export made is not', async () => {
    const before = tensor([1, 2]).mul(3);
    const model = await reloaded((x: Tensor) => x.add(before), { inputs: [[2]] });
    expect([...(model.forward(tensor([1, 1]))['output'] as Tensor).dataSync()]).toEqual([4, 7]);
    evaluate();
  });
});

describe('what is refused', () => {
  test('all ops that cannot be written, in one error', async () => {
    const fn = (x: Tensor) => {
      const wide = x.to('float64');
      return wide.erfinv().add(wide.lgamma()).relu().add(wide.erfinv());
    };
    const attempt = toBytes(fn, rows);
    await expect(attempt).rejects.toThrow(UnsupportedError);
    await expect(attempt).rejects.toThrow(/erfinv float64 \[3,4\]/);
    await expect(attempt).rejects.toThrow(/lgamma float64 \[3,4\]/);
  });

  test('random numbers, with the way out', async () => {
    const model = new nn.Sequential(new nn.Linear(4, 4), new nn.Dropout(0.5));
    await expect(toBytes(model, rows)).rejects.toThrow(/random numbers.*model\.eval\(\)/);
    expect(await exportedOps(model.eval(), rows)).toEqual(['Gemm']);
  });

  test('running statistics that are updated; they stay as they were', async () => {
    const norm = new nn.BatchNorm1d(4);
    await expect(toBytes(norm, rows)).rejects.toThrow(/assigns to tensors.*model\.eval\(\)/s);
    expect([...(norm.runningMean as Tensor).dataSync()]).toEqual([0, 0, 0, 0]);
    expect((norm.numBatchesTracked as Tensor).itemSync()).toBe(0);
  });

  test('a value that is read', async () => {
    const fn = (x: Tensor) => x.mul(x.sum().itemSync());
    await expect(toBytes(fn, rows)).rejects.toThrow(/reads a value \(at .*export\.test\.ts/);
  });

  test('what needs a newer operator set, which is named', async () => {
    const options = { inputs: [{ shape: [3], dtype: 'int32' as const }] };
    const fn = (x: Tensor) => x.bitwiseAnd(6);
    await expect(toBytes(fn, options)).rejects.toThrow('BitwiseAnd came with opset 18');
    expect(await exportedOps(fn, { ...options, opset: 18 })).toEqual(['BitwiseAnd']);
  });

  test.each([
    [{ inputs: [] }, /inputs holds no tensor/],
    [{ inputs: [3] }, /inputs holds no tensor/],
    [{ inputs: [[2, -1]] }, /non-negative/],
    [{ inputs: [{ shape: [2], dtype: 'int64' as never }] }, /no dtype 'int64'/],
    [{ ...rows, opset: 16 }, /opset must be an integer of at least 17/],
    [{ ...rows, opset: 99 }, /opset 99/],
    [{ ...rows, inputNames: ['a', 'b'] }, /inputNames must name 1/],
    [{ ...rows, outputNames: [''] }, /no name/],
    [{ ...rows, outputNames: ['input'] }, /both called 'input'/],
    [{ ...rows, metadata: { a: 1 as never } }, /metadata\.a must be a text/],
    [{ ...rows, dynamicAxes: { x: { 0: 'batch' } } }, /names 'x', which is no input.*input/],
    [{ ...rows, dynamicAxes: { input: { 2: 'batch' } } }, /no axis 2/],
    [{ ...rows, dynamicAxes: { input: { 0: 'n', 1: 'n' } } }, /'n' is 3 in one place and 4/],
    [{ ...rows, externalData: true }, /onnx\.save/],
    [{ ...rows, dynamicAxis: {} }, /no option 'dynamicAxis'.*dynamicAxes/],
  ])('options %j', async (options, message) => {
    await expect(toBytes((x: Tensor) => x.relu(), options)).rejects.toThrow(message);
  });

  test('results that are no tensors', async () => {
    await expect(toBytes(() => 3, rows)).rejects.toThrow(/the result holds 3/);
    await expect(toBytes(() => null, rows)).rejects.toThrow(/returns no tensor/);
    await expect(toBytes('model' as never, rows)).rejects.toThrow(/a module or a function/);
  });
});
