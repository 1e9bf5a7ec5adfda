// Surgery on programs with declared dimensions: what comes out is for every size again.
import { describe, expect, test } from 'vitest';
import {
  configure,
  dim,
  DTypeError,
  F,
  grad,
  manualSeed,
  nn,
  optim,
  randn,
  scan,
  ShapeError,
  spec,
  tensor,
  type Tensor,
  trace,
  TraceError,
  zeros,
} from 'tengen';
import { load } from 'tengen/lite';
import { loadProgram, type Program, programOf } from 'tengen/program';

configure({ device: 'wasm' });

class Net extends nn.Module {
  body = new nn.Linear(3, 4);
  head = new nn.Linear(4, 2);
  forward(x: Tensor): Tensor {
    return this.head.forward(F.relu(this.body.forward(x)));
  }
}

function netAndProgram(): { net: Net; program: Program } {
  manualSeed(3);
  const net = new Net();
  const batch = dim('batch', { max: 64 });
  const program = programOf((input: Tensor) => net.forward(input), [spec([batch, 3])], {
    module: net,
    name: 'net',
  });
  return { net, program };
}

/** A program of one input as a file, run by lite. */
async function byLite(program: Program, x: Tensor): Promise<number[]> {
  const { bytes } = await program.dump(null);
  const model = await load(bytes as Uint8Array, { device: 'wasm' });
  const results = await model.run({
    [String(program.inputs[0]?.name)]: { data: await x.data(), shape: x.shape },
  });
  model.dispose();
  return [...(Object.values(results)[0]?.data ?? [])].map(Number);
}

function expectSame(actual: Tensor, expected: Tensor): void {
  expect(actual.shape).toEqual(expected.shape);
  expect([...actual.dataSync()]).toEqual([...expected.dataSync()]);
}

function expectClose(actual: readonly number[], expected: Tensor): void {
  const values = [...expected.dataSync()];
  expect(actual.length).toBe(values.length);
  values.forEach((value, i) => expect(actual[i]).toBeCloseTo(Number(value), 5));
}

describe('a program for every size', () => {
  test('computes what its function does, at sizes that were never recorded', () => {
    const { net, program } = netAndProgram();
    expect(program.dimensions).toEqual(['batch']);
    expect(program.inputs).toEqual([{ name: 'input', dtype: 'float32', shape: ['batch', 3] }]);
    expect(program.node('relu').shape).toEqual(['batch', 4]);
    for (const n of [1, 2, 5, 64]) {
      const x = randn(n, 3);
      expectSame(program.call(x), net.forward(x));
      expectSame(
        grad((t: Tensor) => program.call(t).square().sum())(x),
        grad((t: Tensor) => net.forward(t).square().sum())(x),
      );
    }
  });

  test('shows sizes as terms', () => {
    const [batch, time] = [dim('batch'), dim('time')];
    const fn = (t: Tensor): Tensor => t.reshape([-1, 4]).mul(1 / (t.shape[0] as number));
    const program = programOf(fn, [spec([batch, time, 4])], { name: 'rows' });
    expect(program.print().split('\n')).toMatchInlineSnapshot(`
      [
        "program rows",
        "  input: input float32 [batch,time,4]",
        "  reshape = reshape(input, shape: ["batch*time",4]): float32 [batch*time,4]",
        "  number = 1 / batch: float32 []",
        "  mul = mul(reshape, number): float32 [batch*time,4]",
        "  return output = mul",
      ]
    `);
    const x = randn(3, 2, 4);
    expectSame(program.call(x), fn(x));
  });

  test('inputs of another form are refused', () => {
    const { program } = netAndProgram();
    expect(() => program.call(zeros([2, 4]))).toThrow(
      "net: input 'input': expected float32 [batch,3], got float32 [2,4]",
    );
    expect(() => program.call(zeros([3]))).toThrow(ShapeError);
    expect(() => program.call(zeros([65, 3]))).toThrow(/'?batch'? is 65/);
    expect(() => program.call(zeros([2, 3], { dtype: 'int32' }))).toThrow(DTypeError);
    const n = dim('n', { sizes: [2, 4, 8] });
    const sum = programOf((a: Tensor, b: Tensor) => a.add(b), [spec([n]), spec([n])], {
      name: 'sum',
    });
    expect(() => sum.call(zeros([2]), zeros([4]))).toThrow(
      "sum: input 'input1': expected float32 [n] where n=2, got float32 [4]",
    );
    expect(() => sum.call(zeros([3]), zeros([3]))).toThrow("'n' is 3, declared are 2, 4, 8");
  });

  test('state and random draws follow the size', () => {
    manualSeed(1);
    const batch = dim('batch');
    const [bn, other] = [new nn.BatchNorm1d(3), new nn.BatchNorm1d(3)];
    const program = programOf((t: Tensor) => bn.forward(t), [spec([batch, 3])], { module: bn });
    const x = randn(7, 3);
    expectSame(program.call(x), other.forward(x));
    expectSame(bn.runningVar as Tensor, other.runningVar as Tensor);
    const dropped = programOf((t: Tensor) => F.dropout(t, { p: 0.5 }), [spec([batch])]);
    const [first, second] = [0, 1].map(() => [...dropped.call(zeros([64]).add(1)).dataSync()]);
    expect(new Set(first)).toEqual(new Set([0, 2]));
    expect(second).not.toEqual(first);
  });
});

describe('surgery for every size', () => {
  test('replacements follow the size; the result is dumped and loaded', async () => {
    const { net, program } = netAndProgram();
    // Takes the mean over the batch away, by a number that follows its size.
    const centred = (t: Tensor): Tensor => t.sub(t.sum(0).mul(1 / (t.shape[0] as number)));
    const other = program
      .replace(program.node('relu'), (t) => F.silu(t))
      .insertAfter(program.node('relu').inputs[0]!, centred);
    const expected = (t: Tensor): Tensor => net.head.forward(F.silu(centred(net.body.forward(t))));
    expect(other.dimensions).toEqual(['batch']);
    for (const n of [1, 4, 9]) {
      const x = randn(n, 3);
      expectSame(other.call(x), expected(x));
      expectClose(await byLite(other, x), expected(x));
    }
  });

  test('a file keeps its dimensions through surgery', async () => {
    const { net, program } = netAndProgram();
    const x = randn(5, 3);
    const { bytes, header } = await program.dump(null, { inputs: [x] });
    expect(header).toMatchObject({
      dimensions: [{ name: 'batch', min: 1, max: 64, size: 1 }],
      tests: [{ sizes: { batch: 5 } }],
    });
    const again = await loadProgram(bytes as Uint8Array);
    expectSame(again.call(x), net.forward(x));
    const silu = again.replace(again.find('relu'), (t) => F.silu(t));
    const second = await silu.dump(null, { inputs: [x], testCases: [[x], [randn(2, 3)]] });
    expect(second.header).toMatchObject({ dimensions: [{ name: 'batch', min: 1, max: 64 }] });
    const model = await load(second.bytes as Uint8Array, { device: 'wasm' });
    expect((await model.check()).passed).toBe(true);
    expect(model.inputs[0]?.shape).toEqual(['batch', 3]);
    const fixed = await loadProgram(bytes as Uint8Array, { sizes: { batch: 5 } });
    expect(fixed.dimensions).toEqual([]);
    expect(fixed.inputs[0]?.shape).toEqual([5, 3]);
    expectSame(fixed.call(x), net.forward(x));
    const load65 = loadProgram(bytes as Uint8Array, { sizes: { batch: 65 } });
    await expect(load65).rejects.toThrow("'batch' is 65, the model takes 1 to 64");
  });

  test('sizes that only some numbers divide', async () => {
    const rows = dim('rows', { min: 4, max: 40, sizes: [4, 8, 12, 40] });
    const fn = (t: Tensor): Tensor => t.reshape([(t.shape[0] as number) / 4, 4]).sum(1);
    const program = programOf(fn, [spec([rows])]);
    expect(program.outputs[0]?.shape).toEqual(['rows / 4']);
    const { bytes } = await program.dump(null);
    const again = await loadProgram(bytes as Uint8Array);
    const twice = again.replace(again.node('sum'), (t) => t.mul(2).sum(1));
    const x = randn(16);
    expectSame(twice.call(x), fn(x).mul(2));
    expect(() => twice.call(zeros([6]))).toThrow(/not whole/);
  });

  test('training, in a trace, with batches of two sizes', () => {
    const { program } = netAndProgram();
    const smooth = program.replace(program.find('relu'), (t) => t.tanh());
    const optimizer = new optim.SGD(smooth.parameters(), { lr: 0.1 });
    const step = trace((x: Tensor) => {
      optimizer.zeroGrad();
      const loss = smooth.call(x).square().mean();
      loss.backward();
      optimizer.step();
      return loss;
    });
    const [small, large] = [randn(2, 3), randn(6, 3)];
    const first = step(large).itemSync();
    for (let i = 0; i < 10; i++) {
      step(small);
      step(large);
    }
    expect(step(large).itemSync()).toBeLessThan(first / 2);
  });

  test('cut, delete and merge', () => {
    const { net, program } = netAndProgram();
    const x = randn(6, 3);
    const features = program.cut({ outputs: { features: program.node('relu') } });
    expect(features.outputs).toEqual([{ name: 'features', dtype: 'float32', shape: ['batch', 4] }]);
    const head = new nn.Linear(4, 1);
    const own = programOf((t: Tensor) => head.forward(t), [spec([dim('batch', { min: 2 }), 4])], {
      module: head,
    });
    const tuned = features.merge(own, { connect: { features: 'input' } });
    expectSame(tuned.call(x), head.forward(F.relu(net.body.forward(x))));
    expect(() => tuned.call(zeros([1, 3]))).toThrow(/batch'? is 1/);
    const linear = program.delete(program.node('relu'));
    expectSame(linear.call(x), net.head.forward(net.body.forward(x)));
    const fixed = programOf((t: Tensor) => head.forward(t), [zeros([4, 4])]);
    expect(() => features.merge(fixed, { connect: { features: 'input' } })).toThrow(
      "merge: output 'features' is float32 [batch,4], input 'input' takes float32 [4,4]",
    );
    const rows = programOf((t: Tensor) => head.forward(t), [spec([dim('rows'), 4])]);
    expect(() => features.merge(rows, { connect: { features: 'input' } })).toThrow(
      "'features' is float32 [batch,4], input 'input' takes float32 [rows,4]",
    );
    const few = programOf((t: Tensor) => t, [spec([dim('batch', { sizes: [65, 66, 67] }), 4])]);
    expect(() => features.merge(few, { connect: { features: 'input' } })).toThrow(
      "merge: the two dimensions 'batch' have no size in common",
    );
  });

  test('dimensions that nothing follows any more are gone; what follows them needs an input', () => {
    const batch = dim('batch');
    const program = programOf(
      (t: Tensor) =>
        t
          .sum(0)
          .mul(2)
          .mul(1 / (t.shape[0] as number)),
      [spec([batch, 3])],
    );
    const [mul] = program.find('mul');
    const [sum] = program.find('sum');
    const after = program.cut({ inputs: { sum: sum! }, outputs: { twice: mul! } });
    expect(after.dimensions).toEqual([]);
    expectSame(after.call(tensor([1, 2, 3])), tensor([2, 4, 6]));
    expect(() => program.cut({ inputs: { sum: sum! } })).toThrow(
      /no input tells how large 'batch' is/,
    );
  });

  test('the body of a loop, at every size', async () => {
    const [time, batch] = [dim('time'), dim('batch')];
    const fn = (t: Tensor): Tensor =>
      scan(
        (h: Tensor, row: Tensor) => {
          const next = h.mul(0.5).add(row).tanh();
          return [next, next];
        },
        t.sum(0).mul(0),
        t,
      )[1];
    const program = programOf((t: Tensor) => fn(t).neg(), [spec([time, batch, 2])]);
    const other = program.replace(program.node('neg'), (t) => t.mul(3));
    for (const [steps, rows] of [
      [2, 3],
      [5, 1],
    ] as const) {
      const x = randn(steps, rows, 2);
      expectSame(other.call(x), fn(x).mul(3));
      expectClose(await byLite(other, x), fn(x).mul(3));
    }
  });
});

describe('what surgery refuses', () => {
  test('functions that do not hold for every size', () => {
    const { program } = netAndProgram();
    const relu = program.node('relu');
    const branches = (t: Tensor): Tensor => ((t.shape[0] as number) > 2 ? t.abs() : t.neg());
    expect(() => program.replace(relu, branches)).toThrow(TraceError);
    expect(() => program.replace(relu, branches)).toThrow(
      /^replace: replace is no program for all sizes: operation \d+ is .*abs/,
    );
    expect(() => program.replace(relu, () => zeros([2, 4]))).toThrow(
      'replace: the result of the function: expected float32 [batch,4], got float32 [2,4]',
    );
    expect(() => program.replace(relu, (t) => t.sum(0))).toThrow(
      'expected float32 [batch,4], got float32 [4]',
    );
  });

  test('dimensions of which there are too few sizes', () => {
    const n = dim('n', { sizes: [2, 4] });
    expect(() => programOf((t: Tensor) => t.neg(), [spec([n])])).toThrow(
      /programOf: a dimension has fewer than three sizes/,
    );
  });
});
