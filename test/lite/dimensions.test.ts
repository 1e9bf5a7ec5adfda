// Program files for every size of declared dimensions.
import { describe, expect, test } from 'vitest';
import { load } from '../../src/lite-node.ts';
import {
  dim,
  F,
  manualSeed,
  nn,
  noGrad,
  randn,
  spec,
  type Tensor,
  tensor,
  trace,
  TraceError,
  zeros,
} from '../../src/node.ts';

class Net extends nn.Module {
  conv = new nn.Conv2d(1, 4, 3, { padding: 1 });
  bn = new nn.BatchNorm2d(4);
  fc = new nn.Linear(4 * 16, 3);

  forward(x: Tensor): Tensor {
    const features = F.maxPool2d(this.bn.forward(this.conv.forward(x)).relu(), 2);
    return this.fc.forward(features.reshape([x.shape[0]!, -1]));
  }
}

describe('declared dimensions', () => {
  test('one file serves every batch size, also those that were never recorded', async () => {
    manualSeed(2);
    const net = new Net().eval();
    const forward = (x: Tensor): Tensor => noGrad(() => net.forward(x));
    const traced = trace(forward, { name: 'digits' });
    const batch = dim('batch', { max: 64 });
    const { bytes } = await traced.dump(null, {
      inputs: [spec([batch, 1, 8, 8])],
      names: { inputs: ['image'], outputs: ['logits'] },
      testCases: [[randn(1, 1, 8, 8)], [randn(5, 1, 8, 8)]],
      module: net,
    });
    const model = await load(bytes!);
    expect(model.inputs[0]!.shape).toEqual(['batch', 1, 8, 8]);
    expect((await model.check()).passed).toBe(true);
    for (const size of [1, 2, 7, 64]) {
      const x = randn(size, 1, 8, 8);
      const { logits } = await model.run(await x.data());
      expect(logits!.shape).toEqual([size, 3]);
      const expected = await forward(x).data();
      logits!.data.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));
    }
    await expect(model.run(new Float32Array(65 * 64))).rejects.toThrow(/batch.* is 65/);
    await expect(model.run(new Float32Array(65))).rejects.toThrow(/does not take 65 numbers/);
    expect(() => model.runSync(new Float32Array(3 * 64))).toThrow(/not ready/);
    await model.prepare({ batch: 3 });
    expect(model.runSync(new Float32Array(3 * 64))['logits']!.shape).toEqual([3, 3]);
  });

  test('a function that declares its sizes is dumped for all of them', async () => {
    const layer = new nn.Linear(3, 2);
    const batch = dim('batch', { max: 64 });
    const forward = trace((x: Tensor) => layer.forward(x), { inputs: [spec([batch, 3])] });
    const cases = [[randn(1, 3)], [randn(5, 3)]];
    const dumps = [
      forward.dump(null, { inputs: [randn(4, 3)] }),
      forward.dump(null),
      forward.dump(null, { testCases: cases }),
    ];
    for (const [i, dumped] of dumps.entries()) {
      const model = await load((await dumped).bytes!);
      expect(model.inputs[0]!.shape).toEqual(['batch', 3]);
      expect((await model.check()).cases.length).toBe([1, 0, 2][i]);
      expect((await model.run(new Float32Array(21)))['output']!.shape).toEqual([7, 2]);
      for (const size of [0, 65, 1.5, Number.NaN]) {
        await expect(model.prepare({ batch: size })).rejects.toThrow(
          `dimension 'batch' is ${size}, the model takes 1 to 64`,
        );
      }
      await expect(model.prepare(null as never)).rejects.toThrow('sizes are { dimension: size }');
      model.dispose();
    }
    // Specs say it otherwise.
    const fixed = await forward.dump(null, { inputs: [spec([2, 3])] });
    expect((await load(fixed.bytes!)).inputs[0]!.shape).toEqual([2, 3]);
    await expect(forward.dump(null, { inputs: [randn(4, 2)] })).rejects.toThrow(
      'tensor 0 is [4,2], declared is float32 [batch,3]',
    );
    const plain = trace((x: Tensor) => x.add(1));
    await expect(plain.dump(null, { inputs: [zeros([3])], testCases: cases })).rejects.toThrow(
      /test case 0 is of float32 \[1,3\], the inputs are of float32 \[3\].*declare them/s,
    );
    await expect(plain.dump(null)).rejects.toThrow('inputs are the arguments of a call');
  });

  test('two dimensions, means over them, and attention', async () => {
    const attention = new nn.MultiheadAttention(8, 2);
    const fn = (x: Tensor): Tensor => {
      const [out] = noGrad(() => attention.forward(x, x, x));
      return out.mean([0]).add(x.sum([0]));
    };
    const [batch, time] = [dim('batch', { min: 1 }), dim('time', { min: 2, max: 40 })];
    const { bytes } = await trace(fn).dump(null, { inputs: [spec([time, batch, 8])] });
    const model = await load(bytes!);
    for (const [t, b] of [
      [2, 1],
      [9, 3],
      [40, 2],
    ] as const) {
      const x = randn(t, b, 8);
      const { output } = await model.run({ data: await x.data(), shape: [t, b, 8] });
      const expected = await fn(x).data();
      output!.data.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));
    }
  });

  test('what branches on a size is told, with the place', async () => {
    const batch = dim('batch');
    const fn = trace((x: Tensor) => (x.shape[0]! > 2 ? x.exp() : x.log()));
    const dumped = fn.dump(null, { inputs: [spec([batch, 2])] });
    await expect(dumped).rejects.toThrow(TraceError);
    await expect(dumped).rejects.toThrow(
      /is no program for all sizes: operation 1 is "\w+" at batch=\d+, "\w+" at batch=\d+/,
    );
  });

  test.each<[string, (x: Tensor) => Tensor, RegExp]>([
    [
      'a size',
      (x) => x.narrow(0, 0, Math.floor(Math.sqrt(x.shape[0]!))),
      /: size\.0 of operation 1, slice, is 1 at batch=\d/,
    ],
    [
      'a result',
      (x) => F.maxPool2d(x.reshape([1, 1, -1, 2]), [2, 1]),
      /: axis 2 of the result of operation 2, maxPool, is/,
    ],
    ['a number', (x) => x.mul(Math.log(x.shape[0]!)), /: a number is 0\.69\d* at batch=2, 1\.38/],
    [
      'a list',
      (x) => (x.shape[0]! > 2 ? x.exp().neg() : x.neg()),
      /: the list of its operations is 2 long at batch=\d, 3 long at batch=\d/,
    ],
  ])('%s that follows no formula is named', async (_what, fn, message) => {
    const dumped = trace(fn).dump(null, { inputs: [spec([dim('batch'), 2])] });
    await expect(dumped).rejects.toThrow(message);
    await expect(dumped).rejects.toThrow('hint: it must compute the same operations');
  });

  test('sizes that were declared are compiled ahead', async () => {
    const batch = dim('batch', { sizes: [1, 4, 8] });
    const fn = trace((x: Tensor) => x.mul(2));
    const { bytes, header } = await fn.dump(null, { inputs: [spec([batch, 2])] });
    expect((header as { stored: unknown[] }).stored).toHaveLength(6);
    const model = await load(bytes!);
    const { output } = await model.run(
      await tensor([
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
      ]).data(),
    );
    expect([...output!.data]).toEqual([2, 4, 6, 8, 10, 12, 14, 16]);
  });
});
