// Surgery on programs: what is found, replaced, cut and joined computes what the same functions do.
import { inspect } from 'node:util';
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
  scan,
  ShapeError,
  spec,
  stats,
  tensor,
  type Tensor,
  trace,
  whileLoop,
  zeros,
} from 'tengen';
import { load } from 'tengen/lite';
import { loadProgram, type Program, type ProgramNode, programOf } from 'tengen/program';

configure({ device: 'wasm' });

class Net extends nn.Module {
  body = new nn.Linear(3, 4);
  head = new nn.Linear(4, 2);
  forward(x: Tensor): Tensor {
    return this.head.forward(F.relu(this.body.forward(x)));
  }
}

const x = tensor([
  [0.5, -1, 2],
  [1, 0.25, -0.75],
]);

function netAndProgram(): { net: Net; program: Program } {
  manualSeed(3);
  const net = new Net();
  const program = programOf((input: Tensor) => net.forward(input), [zeros([2, 3])], {
    module: net,
    name: 'net',
  });
  return { net, program };
}

function expectSame(actual: Tensor, expected: Tensor): void {
  expect([...actual.dataSync()]).toEqual([...expected.dataSync()]);
}

describe('a program', () => {
  test('computes what its function does and shares the weights of the module', () => {
    const { net, program } = netAndProgram();
    expectSame(program.call(x), net.forward(x));
    expect(program.weights.get('body.weight')).toBe(net.body.weight);
    expect([...program.weights.keys()].sort()).toEqual(
      ['body.bias', 'body.weight', 'head.bias', 'head.weight'].sort(),
    );
    const traced = trace((input: Tensor) => program.call(input));
    expectSame(traced(x), net.forward(x));
    expectSame(traced(x), net.forward(x));
  });

  test('gradients reach inputs and weights', () => {
    const { net, program } = netAndProgram();
    expectSame(
      grad((input: Tensor) => program.call(input).square().sum())(x),
      grad((input: Tensor) => net.forward(input).square().sum())(x),
    );
    program.call(x).square().sum().backward();
    const own = net.body.weight.grad;
    for (const parameter of program.parameters()) parameter.grad = null;
    net.forward(x).square().sum().backward();
    expect(own).not.toBeNull();
    expectSame(own as Tensor, net.body.weight.grad as Tensor);
  });

  test('gradients go through loops in it', () => {
    const fn = (input: Tensor): Tensor =>
      scan(
        (h: Tensor, row: Tensor) => {
          const next = h.mul(row).tanh();
          return [next, next];
        },
        zeros([3]).add(1),
        input,
      )[1];
    const program = programOf(fn, [zeros([2, 3])]);
    expectSame(program.call(x), fn(x));
    expectSame(
      grad((input: Tensor) => program.call(input).square().sum())(x),
      grad((input: Tensor) => fn(input).square().sum())(x),
    );
  });

  test('assigns what its function assigns, and draws at new places', () => {
    manualSeed(1);
    const bn = new nn.BatchNorm1d(3);
    const program = programOf((input: Tensor) => bn.forward(input), [zeros([2, 3])], {
      module: bn,
    });
    const other = new nn.BatchNorm1d(3);
    expectSame(program.call(x), other.forward(x));
    expectSame(bn.runningMean as Tensor, other.runningMean as Tensor);
    expect((bn.runningMean as Tensor).dataSync()[0]).toBeCloseTo(0.075);
    const dropped = programOf((input: Tensor) => F.dropout(input, { p: 0.5 }), [zeros([64])]);
    const ones = zeros([64]).add(1);
    const first = [...dropped.call(ones).dataSync()];
    expect(new Set(first)).toEqual(new Set([0, 2]));
    expect([...dropped.call(ones).dataSync()]).not.toEqual(first);
  });

  test('several results come by name', () => {
    const program = programOf((a: Tensor, b: Tensor) => ({ sum: a.add(b), a }), [x, x], {
      names: { inputs: ['a', 'b'] },
    });
    const results = program.run({ b: x, a: x.mul(2) });
    expectSame(results['sum'] as Tensor, x.mul(3));
    expectSame(results['a'] as Tensor, x.mul(2));
    expect(() => program.call(x, x)).toThrow(/it has 2 results.*run/);
    expect(() => program.run({ a: x })).toThrow("input 'b' is missing: float32 [2,3]");
    expect(() => program.run({ a: x, c: x })).toThrow("there is no input 'c'; there are: a, b");
  });

  test('inputs of another form are refused', () => {
    const { program } = netAndProgram();
    expect(() => program.call()).toThrow('0 inputs instead of 1: input float32 [2,3]');
    expect(() => program.call(zeros([3, 3]))).toThrow(
      "net: input 'input': expected float32 [2,3], got float32 [3,3]",
    );
    expect(() => program.call(zeros([2, 3], { dtype: 'int32' }))).toThrow(DTypeError);
  });
});

describe('find', () => {
  test('operations, names, chains, trees, functions', () => {
    const { program } = netAndProgram();
    const relu = program.find('relu')[0];
    expect(relu?.name).toBe('relu');
    expect(program.node('relu')).toBe(relu);
    expect(program.find(['matmul', 'add', 'relu'])).toEqual([relu]);
    expect(program.find(['relu', 'matmul', 'add'])).toEqual([program.output('output')]);
    expect(program.find(['matmul', 'relu'])).toEqual([]);
    const tree = { op: 'add', inputs: [{ op: 'matmul', inputs: ['relu', null] }] };
    expect(program.find(tree)).toEqual([program.output('output')]);
    expect(program.find((node) => node.shape[1] === 4 && node.op === 'add')).toEqual(relu?.inputs);
    expect(relu?.users.map(({ op }) => op)).toEqual(['matmul']);
    expect(() => program.find([])).toThrow(/find: expected an operation or name/);
    expect(() => program.node('gelu')).toThrow(/there is no node 'gelu'.*print/);
  });

  test('print has a line for each node', () => {
    const program = programOf((a: Tensor) => a.sum(1).mul(0.3), [x], { name: 'rows' });
    expect(program.print().split('\n')).toMatchInlineSnapshot(`
      [
        "program rows",
        "  input: input float32 [2,3]",
        "  sum = sum(input, axes: [1], keepdims: false): float32 [2]",
        "  number = 0.3: float32 []",
        "  mul = mul(sum, number): float32 [2]",
        "  return output = mul",
      ]
    `);
  });

  test('console.log says in a line what it takes and gives, and no values', () => {
    const { program } = netAndProgram();
    expect(inspect(program)).toMatch(/^Program\(.*\) print\(\) shows them$/);
    const sized = programOf((a: Tensor) => a.exp(), [spec([dim('batch'), 2])], { name: 'exps' });
    expect(inspect(sized)).toBe(
      'Program(exps: input: float32 [batch,2] => output: float32 [batch,2]; 2 nodes, 0 weights) print() shows them',
    );
    expect(inspect(sized.node('exp'))).toBe('ProgramNode(exp = exp(input): float32 [batch,2])');
  });
});

describe('surgery', () => {
  test('another activation, in all places', () => {
    manualSeed(5);
    const layer = new nn.Linear(3, 3);
    const twice = (act: (t: Tensor) => Tensor) => (input: Tensor) =>
      act(layer.forward(act(layer.forward(input))));
    const program = programOf(twice(F.relu), [x], { module: layer });
    const other = program.replace(program.find('relu'), (t) => F.hardswish(t));
    expectSame(other.call(x), twice(F.hardswish)(x));
    expectSame(program.call(x), twice(F.relu)(x));
    expect(other.find('relu')).toEqual([]);
    expect(other.weights.size).toBe(2);
    expect(other.weights.get('weight')).toBe(layer.weight);
  });

  test('a chain as a whole, with a tensor of the function as a weight', () => {
    const { net, program } = netAndProgram();
    const scale = new nn.Parameter(tensor([2, 3, 4, 5]));
    const relu = program.node('relu');
    const other = program.replace(relu, (input) => input.sum(1, { keepdims: true }).mul(scale), {
      inputs: [program.node('input')],
    });
    expectSame(other.call(x), net.head.forward(x.sum(1, { keepdims: true }).mul(scale)));
    // What only the old chain needed is gone.
    expect([...other.weights.keys()].sort()).toEqual(['head.bias', 'head.weight', 'weight0']);
    expect(other.weights.get('weight0')).toBe(scale);
  });

  test('quantised weights and activations', () => {
    const { net, program } = netAndProgram();
    const quantise = (t: Tensor): Tensor => t.mul(8).round().div(8);
    const weights = program.insertAfter(program.node('head.weight'), quantise);
    const matmul = weights.find('matmul').at(-1);
    if (matmul === undefined) throw new Error('no matmul');
    const both = weights.insertBefore(matmul, 0, quantise);
    const hidden = quantise(F.relu(net.body.forward(x)));
    expectSame(both.call(x), F.linear(hidden, quantise(net.head.weight), net.head.bias as Tensor));
    expectSame(
      weights.call(x),
      F.linear(F.relu(net.body.forward(x)), quantise(net.head.weight), net.head.bias as Tensor),
    );
  });

  test('delete', () => {
    const { net, program } = netAndProgram();
    const linear = program.delete(program.node('relu'));
    expectSame(linear.call(x), net.head.forward(net.body.forward(x)));
    const sum = programOf((a: Tensor, b: Tensor) => a.add(b), [x, x]);
    const add = sum.node('add');
    expect(() => sum.delete(add)).toThrow(/one input of 'add' must be .* say which: one of 0, 1/);
    expectSame(sum.delete(add, 1).call(x, x.mul(2)), x.mul(2));
    const rows = programOf((a: Tensor) => a.sum(1), [x]);
    expect(() => rows.delete(rows.node('sum'))).toThrow('float32 [2]');
  });

  test('a head cut off, another put on, trained and dumped', async () => {
    const { net, program } = netAndProgram();
    const features = program.cut({ outputs: { features: program.node('relu') } });
    expect([...features.weights.keys()].sort()).toEqual(['body.bias', 'body.weight']);
    expectSame(features.call(x), F.relu(net.body.forward(x)));
    const head = new nn.Linear(4, 1);
    const tuned = features.merge(
      programOf((t: Tensor) => head.forward(t), [zeros([2, 4])], { module: head }),
      { connect: { features: 'input' } },
    );
    expect(tuned.inputs).toEqual([{ name: 'input', dtype: 'float32', shape: [2, 3] }]);
    expectSame(tuned.call(x), head.forward(features.call(x)));
    const optimizer = new optim.SGD(tuned.parameters(), { lr: 0.05 });
    const target = tensor([[1], [-1]]);
    const step = trace(() => {
      optimizer.zeroGrad();
      const loss = F.mseLoss(tuned.call(x), target);
      loss.backward();
      optimizer.step();
      return loss;
    });
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) losses.push(step().itemSync());
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) / 4);
    const { bytes } = await tuned.dump(null, { inputs: [x] });
    const model = await load(bytes as Uint8Array, { device: 'wasm' });
    expect((await model.check()).passed).toBe(true);
    const again = await loadProgram(bytes as Uint8Array);
    expectSame(again.call(x), tuned.call(x));
    expect([...again.weights.keys()].sort()).toEqual([...tuned.weights.keys()].sort());
    const sharper = again.replace(again.find('relu'), (t) => F.silu(t));
    const second = await sharper.dump(null, { inputs: [x] });
    const silu = await load(second.bytes as Uint8Array, { device: 'wasm' });
    expect((await silu.check()).passed).toBe(true);
    const { output } = await silu.run({ input: { data: await x.data(), shape: x.shape } });
    expect([...(output?.data ?? [])]).toEqual([...sharper.call(x).dataSync()]);
  });

  test('cut at an input', () => {
    const { net, program } = netAndProgram();
    const head = program.cut({ inputs: { hidden: program.node('relu') } });
    const hidden = F.relu(net.body.forward(x));
    expectSame(head.call(hidden), net.head.forward(hidden));
    expect(head.inputs.map(({ name }) => name)).toEqual(['hidden']);
    expect(() =>
      program.cut({ inputs: [program.node('relu')], outputs: [program.node('input')] }),
    ).toThrow("no output depends on 'relu'");
  });

  test('cut keeps statistics of what stays, and no others', () => {
    const bn = new nn.BatchNorm1d(3);
    const program = programOf((t: Tensor) => F.relu(bn.forward(t.mul(2))).sum(), [x], {
      module: bn,
    });
    const relu = program.node('relu');
    const kept = program.cut({ outputs: [relu] });
    expect([...kept.weights.keys()]).toContain('running_mean');
    kept.call(x);
    expect((bn.runningMean as Tensor).dataSync()[0]).toBeCloseTo(0.15);
    const [twice] = program.find((node) => node.op === 'mul' && node.inputs[0]?.op === 'input');
    const before = program.cut({ outputs: { twice: twice as ProgramNode } });
    expect([...before.weights.keys()]).toEqual([]);
    expect(before.call(x).shape).toEqual([2, 3]);
  });

  test('merge is composition, also with itself and with state', () => {
    const bn = new nn.BatchNorm1d(3);
    const make = (module: nn.BatchNorm1d): Program =>
      programOf((t: Tensor) => F.relu(module.forward(t)), [x], { module });
    const program = make(bn);
    const twice = program.merge(program, { connect: { output: 'input' } });
    const other = new nn.BatchNorm1d(3);
    const result = twice.call(x);
    expectSame(result, F.relu(other.forward(F.relu(other.forward(x)))));
    expectSame(bn.runningMean as Tensor, other.runningMean as Tensor);
    expect(twice.weights.size).toBe(program.weights.size);
    const random = programOf((t: Tensor) => F.dropout(t, { p: 0.5 }), [zeros([64])]);
    const both = random.merge(random.rename({ inputs: { input: 'b' }, outputs: { output: 'c' } }), {
      connect: {},
    });
    const ones = zeros([64]).add(1);
    const { output, c } = both.run({ input: ones, b: ones });
    expect([...(output as Tensor).dataSync()]).not.toEqual([...(c as Tensor).dataSync()]);
  });

  test('the unconnected ends of both stay', () => {
    const first = programOf((a: Tensor) => ({ twice: a.mul(2), minus: a.neg() }), [x]);
    const second = programOf((a: Tensor, b: Tensor) => a.sub(b), [x, x], {
      names: { inputs: ['left', 'right'] },
    });
    const merged = first.merge(second, { connect: { twice: 'right' } });
    expect(merged.inputs.map(({ name }) => name)).toEqual(['input', 'left']);
    const results = merged.run({ input: x, left: x });
    expectSame(results['output'] as Tensor, x.sub(x.mul(2)));
    expectSame(results['minus'] as Tensor, x.neg());
  });
});

describe('what surgery refuses', () => {
  test('replacements of another form', () => {
    const { program } = netAndProgram();
    const relu = program.node('relu');
    expect(() => program.replace(relu, (t) => t.sum())).toThrow(
      'replace: the result of the function: expected float32 [2,4], got float32 []',
    );
    expect(() => program.replace(relu, (t) => t.sum())).toThrow(ShapeError);
    expect(() => program.replace(relu, (t) => t.isnan())).toThrow(DTypeError);
    expect(() => program.insertAfter(relu, (t) => t.sum(0))).toThrow(ShapeError);
    expect(() => program.replace(relu, (t) => t.mul(t.sum().itemSync()))).toThrow(/reads a value/);
    expect(() => program.replace(program.node('input'), (t) => t)).toThrow(/is an input/);
    expect(() => program.replace(relu, (t) => t, { inputs: [program.output('output')] })).toThrow(
      /computed from 'relu'/,
    );
  });

  test('nodes that are not there', () => {
    const { program } = netAndProgram();
    const relu = program.node('relu');
    const other = program.delete(relu);
    expect(() => other.delete(relu)).toThrow(/node 'relu' is not in this program.*look for it/);
    // Those that were only rewired are still known.
    expect(other.replace(program.output('output'), (a, b) => a.sub(b)).find('sub')).toHaveLength(1);
    expect(() => other.insertBefore(other.node('add'), 2, (t) => t)).toThrow(
      "'add' has 2 inputs, there is none 2",
    );
    expect(() => program.output('logits')).toThrow(
      "there is no output 'logits'; there are: output",
    );
  });

  test('programs that do not fit', () => {
    const { program } = netAndProgram();
    expect(() => program.merge(program, { connect: { output: 'input' } })).toThrow(
      "merge: output 'output' is float32 [2,2], input 'input' takes float32 [2,3]",
    );
    expect(() => program.merge(program, { connect: { logits: 'input' } })).toThrow(
      "there is no output 'logits'",
    );
    expect(() => program.merge(program, { connect: {} })).toThrow(
      /two inputs are called 'input'.*rename/,
    );
  });

  test('files that hold no program', async () => {
    await expect(loadProgram(new Uint8Array(4))).rejects.toThrow();
    const { program } = netAndProgram();
    const { bytes } = await program.dump(null, { inputs: [x] });
    await expect(loadProgram(bytes as Uint8Array, { sizes: { n: 3 } })).rejects.toThrow(
      "there is no dimension 'n'; declared: none",
    );
    const frozen = await loadProgram(bytes as Uint8Array, {
      trainable: (name) => name.startsWith('head.'),
    });
    expect([...frozen.namedParameters()].map(([name]) => name).sort()).toEqual([
      'head.bias',
      'head.weight',
    ]);
  });
});

describe('recording', () => {
  test('leaves nothing to compute', () => {
    // On stand-ins, which are zeros, this would never end.
    const fn = (t: Tensor): Tensor =>
      whileLoop(
        (v) => v.lt(100),
        (v) => v.mul(3),
        t,
      );
    const { runs } = stats();
    const program = programOf(fn, [spec([])]);
    programOf((t: Tensor) => t.exp().add(1), [spec([2])]);
    expect(stats().runs).toBe(runs);
    expect(program.call(tensor(2)).itemSync()).toBe(162);
  });
});
