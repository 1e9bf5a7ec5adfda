// Surgery inside the bodies of loops and choices computes what a loop of the other function does.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  cond,
  configure,
  dim,
  DTypeError,
  F,
  grad,
  manualSeed,
  nn,
  rand,
  randn,
  scan,
  ShapeError,
  spec,
  tensor,
  type Tensor,
  trace,
  whileLoop,
  zeros,
} from 'tengen';
import { load } from 'tengen/lite';
import { type Program, type ProgramNode, programOf } from 'tengen/program';

configure({ device: 'wasm' });

function expectSame(actual: Tensor, expected: Tensor): void {
  expect(actual.shape).toEqual(expected.shape);
  expect([...actual.dataSync()]).toEqual([...expected.dataSync()]);
}

function expectSameGradients(actual: (x: Tensor) => Tensor, expected: (x: Tensor) => Tensor): void {
  const x = randn(4, 3);
  const by = (fn: (x: Tensor) => Tensor): Tensor => grad((t: Tensor) => fn(t).square().sum())(x);
  expectSame(by(actual), by(expected));
}

function only(program: Program, op: string): ProgramNode {
  const found = program.find(op);
  expect(found).toHaveLength(1);
  return found[0] as ProgramNode;
}

/** An Elman network over rows, with its state and an output of each step. */
function network(act: (t: Tensor) => Tensor): { cell: nn.Linear; fn: (x: Tensor) => Tensor } {
  manualSeed(2);
  const cell = new nn.Linear(3, 3);
  const fn = (x: Tensor): Tensor => {
    const [last, all] = scan(
      (h: Tensor, row: Tensor) => {
        const next = act(cell.forward(h).add(row));
        return [next, next.mul(2)];
      },
      x.sum(0).mul(0.1),
      x,
    );
    return all.add(last);
  };
  return { cell, fn };
}

describe('the body of a loop', () => {
  test('is a program that shares weights and has names', () => {
    const { cell, fn } = network(F.relu);
    const program = programOf(fn, [zeros([4, 3])], { module: cell });
    const body = program.body(only(program, 'loop'));
    expect(body.inputs).toEqual([
      { name: 'carry', dtype: 'float32', shape: [3] },
      { name: 'x', dtype: 'float32', shape: [3] },
      // What does not change from one iteration to the next is computed before the loop.
      { name: 'permute', dtype: 'float32', shape: [3, 3] },
    ]);
    expect(body.outputs.map(({ name }) => name)).toEqual(['next', 'each']);
    expect([...body.weights.keys()]).toEqual(['bias']);
    expect(body.weights.get('bias')).toBe(cell.bias);
    expect(body.find(['add', 'add', 'relu'])).toHaveLength(1);
    const [h, row] = [randn(3), randn(3)];
    const permute = cell.weight.transpose(0, 1);
    expectSame(
      body.run({ carry: h, x: row, permute })['next'] as Tensor,
      F.relu(cell.forward(h).add(row)),
    );
  });

  test('another activation: values, gradients, a file', async () => {
    const { cell, fn } = network(F.relu);
    const program = programOf(fn, [zeros([4, 3])], { module: cell });
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.replace(body.find('relu'), (t) => t.tanh()),
    );
    const expected = network((t) => t.tanh()).fn;
    const x = randn(4, 3);
    expectSame(other.call(x), expected(x));
    expectSame(program.call(x), fn(x));
    expect([...other.weights.keys()].sort()).toEqual(['bias', 'weight']);
    expect(other.weights.get('weight')).toBe(cell.weight);
    expectSameGradients((t) => other.call(t), expected);
    const { bytes } = await other.dump(null, { inputs: [x] });
    const model = await load(bytes as Uint8Array, { device: 'wasm' });
    expect((await model.check()).passed).toBe(true);
  });

  test('functions close over weights and numbers, which become the program’s', () => {
    const { fn } = network(F.relu);
    const program = programOf(fn, [zeros([4, 3])]);
    const gate = new nn.Linear(3, 3);
    const act = (t: Tensor): Tensor => t.mul(gate.forward(t).sigmoid()).add(0.25);
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.replace(body.find('relu'), act, { module: gate }),
    );
    const x = randn(4, 3);
    expectSame(other.call(x), network(act).fn(x));
    expect([...other.weights.values()]).toContain(gate.weight);
    other.call(x).sum().backward();
    expect(gate.weight.grad).not.toBeNull();
  });

  test('is edited again and again, and insert and delete work in it', () => {
    const { fn } = network(F.relu);
    let program = programOf(fn, [zeros([4, 3])]);
    program = program.replaceBody(only(program, 'loop'), (body) => body.delete(body.node('relu')));
    program = program.replaceBody(only(program, 'loop'), (body) =>
      body.insertAfter(body.node('x'), (row) => row.mul(3)),
    );
    const { cell } = network(F.relu);
    const expected = (x: Tensor): Tensor => {
      const [last, all] = scan(
        (h: Tensor, row: Tensor) => {
          const next = cell.forward(h).add(row.mul(3));
          return [next, next.mul(2)];
        },
        x.sum(0).mul(0.1),
        x,
      );
      return all.add(last);
    };
    const x = randn(4, 3);
    expectSame(program.call(x), expected(x));
    expectSameGradients((t) => program.call(t), expected);
  });

  test('values from around are its inputs', () => {
    const fn = (x: Tensor): Tensor => {
      const scale = x.abs().sum(0);
      return scan((h: Tensor, row: Tensor) => [h.add(row.mul(scale)), null], zeros([3]), x)[0];
    };
    const program = programOf(fn, [zeros([4, 3])]);
    const other = program.replaceBody(only(program, 'loop'), (body) => {
      expect(body.inputs.map(({ name }) => name)).toEqual(['carry', 'x', 'sum']);
      return body.replace(body.find('mul'), (row, scale) => row.div(scale));
    });
    const x = rand(4, 3).add(1);
    const expected = x.div(x.abs().sum(0));
    const rows = [0, 1, 2, 3].reduce<Tensor>(
      (sum, i) => sum.add(expected.select(0, i)),
      zeros([3]),
    );
    expectSame(other.call(x), rows);
  });

  test('several carries, backwards, and what is kept', () => {
    const run = (act: (t: Tensor) => Tensor) => (x: Tensor) => {
      const [{ a, b }, kept] = scan(
        ({ a, b }: { a: Tensor; b: Tensor }, row: Tensor) => {
          const next = { a: act(b.add(row)), b: a };
          return [next, [next.a, next.b]];
        },
        { a: x.sum(0), b: x.sum(0).neg() },
        x,
        { reverse: true },
      );
      return [a, b, ...(kept as Tensor[])];
    };
    const program = programOf(run(F.relu), [zeros([4, 3])]);
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.replace(body.find('relu'), (t) => t.sin()),
    );
    const x = randn(4, 3);
    const results = Object.values(other.run({ input: x }));
    run((t) => t.sin())(x).forEach((expected, i) => expectSame(results[i] as Tensor, expected));
  });

  test('at every size of declared dimensions', async () => {
    const { fn } = network(F.relu);
    const program = programOf(fn, [spec([dim('time', { max: 50 }), 3])]);
    const expected = network((t) => F.silu(t)).fn;
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.replace(body.find('relu'), (t) => F.silu(t)),
    );
    expect(other.dimensions).toEqual(['time']);
    const { bytes } = await other.dump(null);
    const model = await load(bytes as Uint8Array, { device: 'wasm' });
    for (const steps of [1, 4, 9]) {
      const x = randn(steps, 3);
      expectSame(other.call(x), expected(x));
      const { output } = await model.run({ input: { data: await x.data(), shape: x.shape } });
      expect([...(output?.data ?? [])]).toEqual([...other.call(x).dataSync()]);
    }
  });

  test('random numbers in it are others in each iteration', () => {
    const fn = (x: Tensor): Tensor =>
      scan((h: Tensor, row: Tensor) => [h, h.add(row).abs()], zeros([3]), x)[1];
    const program = programOf(fn, [zeros([4, 3])]);
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.replace(body.find('abs'), (t) => t.add(rand(3))),
    );
    const again = other.replaceBody(only(other, 'loop'), (body) =>
      body.insertAfter(body.output('each'), (t) => t.add(1)),
    );
    for (const made of [other, again]) {
      const values = [...made.call(zeros([4, 3])).dataSync()];
      expect(new Set(values).size).toBe(12);
      expect([...made.call(zeros([4, 3])).dataSync()]).not.toEqual(values);
    }
    // As the function that has them from the start draws them.
    const drawn = (x: Tensor): Tensor =>
      scan((h: Tensor, row: Tensor) => [h, h.add(row).add(rand(3))], zeros([3]), x)[1];
    manualSeed(8);
    const expected = drawn(zeros([4, 3]));
    manualSeed(8);
    expectSame(other.call(zeros([4, 3])), expected);
  });

  test('what is promised in it is still watched, in files too', async () => {
    const table = tensor([1, 2, 3], { dtype: 'int32' });
    const fn = (indices: Tensor): Tensor =>
      scan(
        (sum: Tensor, i: Tensor) => {
          const next = sum.add(table.indexSelect(0, i.add(sum.mul(0)).reshape([1])));
          return [next, null];
        },
        zeros([1], { dtype: 'int32' }),
        indices,
      )[0];
    const program = programOf(fn, [zeros([2], { dtype: 'int32' })]);
    const other = program.replaceBody(only(program, 'loop'), (body) =>
      body.insertAfter(body.output('next'), (t) => t.mul(2)),
    );
    expect(other.call(tensor([1, 2], { dtype: 'int32' })).dataSync()[0]).toBe(14);
    expect(() => other.call(tensor([1, 7], { dtype: 'int32' })).dataSync()).toThrow(/7/);
    const { bytes } = await other.dump(null);
    const model = await load(bytes as Uint8Array, { device: 'wasm' });
    expect((await model.run([1, 2])).output?.data[0]).toBe(14);
    await expect(model.run([1, 7])).rejects.toThrow(/7/);
  });

  test('loops in loops', () => {
    const run =
      (act: (t: Tensor) => Tensor) =>
      (x: Tensor): Tensor =>
        scan(
          (h: Tensor, row: Tensor) => {
            const inner = scan(
              (s: Tensor, e: Tensor) => [act(s.add(e).add(h.sum())), null],
              tensor(0.5),
              row,
            );
            return [h.add(inner[0]), inner[0]];
          },
          zeros([3]),
          x,
        )[1];
    const program = programOf(run(F.relu), [zeros([4, 3])]);
    const other = program.replaceBody(only(program, 'loop'), (outer) =>
      outer.replaceBody(only(outer, 'loop'), (inner) =>
        inner.replace(inner.find('relu'), (t) => t.sin()),
      ),
    );
    const x = randn(4, 3);
    expectSame(other.call(x), run((t) => t.sin())(x));
    expectSameGradients(
      (t) => other.call(t),
      run((t) => t.sin()),
    );
    const noisy = program.replaceBody(only(program, 'loop'), (outer) =>
      outer.replaceBody(only(outer, 'loop'), (inner) =>
        inner.replace(inner.find('relu'), (t) => t.add(rand())),
      ),
    );
    manualSeed(4);
    const expected = run((t) => t.add(rand()))(x);
    manualSeed(4);
    expectSame(noisy.call(x), expected);
  });
});

describe('the body of a loop with a condition', () => {
  const run =
    (step: (t: Tensor) => Tensor, limit: number, options = {}) =>
    (x: Tensor): Tensor =>
      whileLoop(
        (t: Tensor) => t.lt(limit),
        (t) => step(t),
        x,
        options,
      );

  test('step and condition', () => {
    const program = programOf(
      run((t) => t.mul(3), 100),
      [zeros([])],
    );
    const loop = only(program, 'loop');
    const body = program.body(loop);
    expect(body.outputs.map(({ name }) => name)).toEqual(['next', 'condition']);
    const faster = program.replaceBody(loop, (b) => b.replace(b.output('next'), (t) => t.mul(10)));
    expect(faster.call(tensor(2)).itemSync()).toBe(200);
    const further = program.replaceBody(loop, (b) =>
      b.replace(b.output('condition'), (t) => t.lt(1000), { inputs: [b.output('next')] }),
    );
    expect(further.call(tensor(2)).itemSync()).toBe(1458);
    expect(program.call(tensor(2)).itemSync()).toBe(162);
  });

  test('gradients, with a bound', () => {
    const options = { maxIterations: 20 };
    const program = programOf(
      run((t) => t.mul(3), 100, options),
      [zeros([])],
    );
    const other = program.replaceBody(only(program, 'loop'), (b) =>
      b.replace(b.output('next'), (t) => t.square().add(t)),
    );
    const expected = run((t) => t.square().add(t), 100, options);
    const x = tensor(2);
    expectSame(other.call(x), expected(x));
    expectSame(grad((t: Tensor) => other.call(t))(x), grad(expected)(x));
    const step = trace((t: Tensor) => grad((u: Tensor) => other.call(u))(t));
    expectSame(step(x), grad(expected)(x));
  });

  test('what it draws', () => {
    const start = zeros([]);
    const program = programOf(
      run((t) => t.add(1), 5),
      [start],
    );
    const other = program.replaceBody(only(program, 'loop'), (b) =>
      b.replace(b.output('next'), (t) => t.add(rand())),
    );
    manualSeed(3);
    const expected = run((t) => t.add(rand()), 5)(start);
    manualSeed(3);
    expectSame(other.call(start), expected);
    // Once more, now that it counts.
    const again = other.replaceBody(only(other, 'loop'), (b) =>
      b.insertAfter(b.output('next'), (t) => t.mul(1)),
    );
    manualSeed(3);
    expectSame(again.call(start), expected);
  });
});

describe('the bodies of a choice', () => {
  const run =
    (first: (t: Tensor) => Tensor, second: (t: Tensor) => Tensor) =>
    (x: Tensor): Tensor =>
      cond(
        x.sum().gt(0),
        (t: Tensor) => first(t.mul(2)),
        (t: Tensor) => second(t),
        [x],
      ).add(1);

  test('each is changed on its own', () => {
    const [relu, sin] = [(t: Tensor) => t.relu(), (t: Tensor) => t.sin()];
    const program = programOf(run(relu, sin), [zeros([3])]);
    const choice = only(program, 'choice');
    expect(program.body(choice, 'whenFalse').find('sin')).toHaveLength(1);
    const first = program.replaceBody(
      choice,
      (b) => b.replace(b.find('relu'), (t) => t.exp()),
      'whenTrue',
    );
    const both = first.replaceBody(
      only(first, 'choice'),
      (b) => b.replace(b.find('sin'), (t) => t.cos()),
      'whenFalse',
    );
    for (const x of [tensor([1, 2, 3]), tensor([-1, -2, 1])]) {
      const [exp, cos] = [(t: Tensor) => t.exp(), (t: Tensor) => t.cos()];
      expectSame(first.call(x), run(exp, sin)(x));
      expectSame(both.call(x), run(exp, cos)(x));
      expectSame(
        grad((t: Tensor) => both.call(t).square().sum())(x),
        grad((t: Tensor) => run(exp, cos)(t).square().sum())(x),
      );
    }
  });
});

describe('what is refused', () => {
  function loopProgram(): { program: Program; loop: ProgramNode } {
    const program = programOf(network(F.relu).fn, [zeros([4, 3])]);
    return { program, loop: only(program, 'loop') };
  }

  test('nodes without a body, and branches that are not there', () => {
    const { program, loop } = loopProgram();
    expect(() => program.body(program.node('input'))).toThrow(
      "body: 'input' is no operation. hint: bodies are those of 'loop' and 'choice'",
    );
    expect(() => program.body(loop, 'whenTrue')).toThrow("'loop' is a loop, it has one body");
    const choice = programOf(
      (t: Tensor) =>
        cond(
          t.gt(0),
          () => t,
          () => t.neg(),
        ),
      [zeros([])],
    );
    expect(() => choice.body(only(choice, 'choice'))).toThrow(
      /say which: 'whenTrue' or 'whenFalse'/,
    );
  });

  test('bodies that take or give something else', () => {
    const { program, loop } = loopProgram();
    const edit = (fn: (body: Program) => Program) => () => program.replaceBody(loop, fn);
    expect(edit((b) => b.cut({ outputs: [b.output('next')] }))).toThrow(
      'replaceBody: the body gives next, it must give next, each',
    );
    expect(edit((b) => b.cut({ inputs: { y: b.node('relu') } }))).toThrow(
      "the body has an input 'y' that it is not given: there are carry, x",
    );
    const sum = programOf((t: Tensor) => t.sum(), [zeros([3])]);
    expect(
      edit((b) =>
        b
          .rename({ outputs: { each: 'kept' } })
          .merge(sum, { connect: { kept: 'input' } })
          .rename({ outputs: { output: 'each' } }),
      ),
    ).toThrow(ShapeError);
    const flags = programOf((t: Tensor) => t.gt(0), [zeros([3])]);
    expect(
      edit((b) =>
        b
          .rename({ outputs: { each: 'kept' } })
          .merge(flags, { connect: { kept: 'input' } })
          .rename({ outputs: { output: 'each' } }),
      ),
    ).toThrow(DTypeError);
    expect(() =>
      program.replaceBody(loop, (b) => b.replace(b.node('relu'), (t) => t.sum())),
    ).toThrow('expected float32 [3], got float32 []');
    const count = new nn.Buffer(zeros([3]));
    expect(
      edit((b) =>
        b.insertAfter(b.node('relu'), (t) => {
          count.assign(count.add(1));
          return t.add(count);
        }),
      ),
    ).toThrow(/assigned to inside a loop or branch/);
    expect(() => program.replaceBody(loop, (() => 3) as never)).toThrow(ArgumentError);
  });
});
