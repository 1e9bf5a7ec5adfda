// Loops and choices of models: operations of the graph where values decide or rounds are many, unrolled
// where shapes change.
import { cat, F, manualSeed, randn, tensor, trace, type Tensor } from 'tengen';
import { load, type OnnxModel } from 'tengen/onnx';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Draft, GraphProto, NodeProto } from '../../src/interface/onnx/messages.ts';
import { info, model, node, weight } from './build.ts';

beforeEach(() => {
  manualSeed(11);
});

const scalar = (name: string, type: 'float32' | 'bool' | 'int64' = 'float32') =>
  info(name, type, []);

const DOUBLED = [node('Add', ['v', 'v'], ['next']), node('Less', ['next', 'limit'], ['on'])];

/** A body of Loop on one number: doubles it, as long as it is below a limit from around. */
function doubling(
  nodes: readonly Draft<NodeProto>[] = DOUBLED,
  gathers = false,
): { graph: Draft<GraphProto> } {
  return {
    graph: {
      name: 'body',
      input: [scalar('i', 'int64'), scalar('go', 'bool'), scalar('v')],
      output: [scalar('on', 'bool'), scalar('next'), ...(gathers ? [scalar('kept')] : [])],
      node: [...nodes, node('Neg', ['next'], ['kept'])],
    },
  };
}

async function loopModel(
  inputs: readonly string[],
  outputs: readonly string[],
  body: { graph: Draft<GraphProto> },
  more: Partial<Draft<GraphProto>> = {},
  options: { trainable?: boolean } = {},
): Promise<OnnxModel> {
  return load(
    model({
      input: [scalar('x'), scalar('limit')],
      output: outputs.map((name) => (name === 'all' ? info(name, 'float32', ['n']) : scalar(name))),
      node: [node('Loop', inputs, ['last', 'all'], { body })],
      ...more,
    }),
    options,
  );
}

/** The model as one plan that never looks at a value: throws if it would. */
function planned(loaded: OnnxModel, output: string) {
  return trace((given: Record<string, Tensor>) => loaded.run(given)[output] as Tensor, {
    symbolic: true,
  });
}

describe('a Loop', () => {
  it('that ends by a value is one plan for any number of rounds', async () => {
    const loaded = await loopModel(['', '', 'x'], ['last'], doubling());
    const run = planned(loaded, 'last');
    for (const [limit, last] of [
      [10, 16],
      [1000, 1024],
      [1e9, 2 ** 30],
      [1, 2],
    ] as const) {
      expect(run({ x: tensor(1), limit: tensor(limit) }).itemSync()).toBe(last);
    }
  });

  it('has a bound, a first condition, or both', async () => {
    const initializer = [
      weight('most', [], [20], 'int64'),
      weight('endless', [], [2 ** 62], 'int64'),
      weight('never', [], [0], 'bool'),
    ];
    const at = async (inputs: readonly string[], limit: number) => {
      const loaded = await loopModel(inputs, ['last'], doubling(), { initializer });
      return planned(loaded, 'last')({ x: tensor(1), limit: tensor(limit) }).itemSync();
    };
    expect(await at(['most', '', 'x'], 1e30)).toBe(2 ** 20);
    expect(await at(['most', '', 'x'], 100)).toBe(128);
    expect(await at(['endless', '', 'x'], 100)).toBe(128);
    expect(await at(['most', 'never', 'x'], 100)).toBe(1);
  });

  it('takes its bound and first condition from values', async () => {
    const input = [scalar('x'), scalar('limit'), scalar('most', 'int64'), scalar('first', 'bool')];
    const loaded = await loopModel(['most', 'first', 'x'], ['last'], doubling(), { input });
    const run = planned(loaded, 'last');
    const at = (most: number, first: boolean) =>
      run({
        x: tensor(1),
        limit: tensor(1e9),
        most: tensor(most, { dtype: 'int32' }),
        first: tensor(first),
      }).itemSync();
    expect([at(3, true), at(0, true), at(12, true), at(12, false)]).toEqual([8, 1, 4096, 1]);
  });

  it('gathers in a fixed number of rounds', async () => {
    const counted = doubling(
      [node('Add', ['v', 'v'], ['next']), node('Identity', ['go'], ['on'])],
      true,
    );
    const initializer = [weight('most', [], [12], 'int64')];
    const loaded = await loopModel(['most', '', 'x'], ['all'], counted, { initializer });
    const all = planned(loaded, 'all')({ x: tensor(1), limit: tensor(0) });
    expect(all.arraySync()).toEqual(Array.from({ length: 12 }, (_, k) => -(2 ** (k + 1))));
  });

  it('that gathers until a value ends it reads how often, and says so', async () => {
    const loaded = await loopModel(['', '', 'x'], ['last', 'all'], doubling(DOUBLED, true));
    const { last, all } = loaded.run({ x: 1, limit: 1000 });
    expect(last?.itemSync()).toBe(1024);
    expect(all?.arraySync()).toEqual(Array.from({ length: 10 }, (_, k) => -(2 ** (k + 1))));
    expect(loaded.run({ x: 5, limit: 1 })['all']?.arraySync()).toEqual([-10]);
    expect(() => planned(loaded, 'all')({ x: tensor(1), limit: tensor(9) })).toThrow(
      'may end early',
    );
  });

  it('knows the number of its round', async () => {
    const body = doubling([
      node('Cast', ['i'], ['number'], { to: 1 }),
      node('Add', ['number', 'v'], ['next']),
      node('Less', ['next', 'limit'], ['on']),
    ]);
    const loaded = await loopModel(['', '', 'x'], ['last'], body);
    const run = planned(loaded, 'last');
    expect(run({ x: tensor(0), limit: tensor(40) }).itemSync()).toBe(45);
  });

  it('whose state grows is unrolled', async () => {
    const graph = {
      name: 'body',
      input: [scalar('i', 'int64'), scalar('go', 'bool'), info('v', 'float32', ['n'])],
      output: [scalar('on', 'bool'), info('next', 'float32', ['m'])],
      node: [
        node('Concat', ['v', 'v'], ['next'], { axis: 0 }),
        node('ReduceSum', ['next'], ['sum'], { keepdims: 0 }),
        node('Less', ['sum', 'limit'], ['on']),
      ],
    };
    const loaded = await load(
      model({
        input: [info('x', 'float32', [1]), scalar('limit')],
        output: [info('last', 'float32', ['n'])],
        node: [node('Loop', ['', '', 'x'], ['last'], { body: { graph } })],
      }),
    );
    expect(loaded.run({ x: [1], limit: 10 })['last']?.shape).toEqual([16]);
    const run = planned(loaded, 'last');
    expect(() => run({ x: tensor([1]), limit: tensor(10) })).toThrow(
      /the loop is unrolled because: .*float32 \[1\] in init and float32 \[2\]/,
    );
  });

  it('without an end is an error', async () => {
    const stubborn = doubling([
      node('Add', ['v', 'v'], ['next']),
      node('GreaterOrEqual', ['next', 'limit'], ['on']),
    ]);
    const loaded = await loopModel(['', '', 'x'], ['last'], stubborn);
    const { last } = loaded.run({ x: 1, limit: 0 });
    expect(() => last?.itemSync()).toThrow('Loop, number of rounds');
  });

  it.each([
    ['with a bound', 'most'],
    ['without one', ''],
  ])('%s has gradients', async (_, most) => {
    const initializer = [weight('most', [], [30], 'int64'), weight('factor', [1], [1.5])];
    const body = doubling([
      node('Mul', ['v', 'factor'], ['wide']),
      node('Squeeze', ['wide'], ['next']),
      node('Less', ['next', 'limit'], ['on']),
    ]);
    const loaded = await loopModel(
      [most, '', 'x'],
      ['last'],
      body,
      { initializer },
      {
        trainable: true,
      },
    );
    const { last } = loaded.run({ x: 1, limit: 7 });
    last?.backward();
    // 1.5 to the fifth is the first above seven.
    expect(last?.itemSync()).toBeCloseTo(1.5 ** 5, 5);
    const [factor] = [...loaded.parameters()];
    expect(factor?.grad?.arraySync()).toEqual([expect.closeTo(5 * 1.5 ** 4, 4)]);
  });
});

describe('an If', () => {
  const branch = (name: string, opType: string, shape: readonly number[] = [2]) => ({
    graph: {
      name,
      output: [info(`${name}.y`, 'float32', shape)],
      node: [node(opType, ['x'], [`${name}.y`])],
    },
  });
  const chooser = (no: ReturnType<typeof branch>) =>
    load(
      model({
        input: [info('x', 'float32', [2]), scalar('limit')],
        output: [info('y', 'float32', ['n'])],
        node: [
          node('ReduceSum', ['x'], ['sum'], { keepdims: 0 }),
          node('Less', ['sum', 'limit'], ['small']),
          node('If', ['small'], ['y'], { then_branch: branch('yes', 'Neg'), else_branch: no }),
        ],
      }),
    );

  it('on a value is one plan', async () => {
    const run = planned(await chooser(branch('no', 'Exp')), 'y');
    const x = tensor([0, 0]);
    expect(run({ x, limit: tensor(1) }).arraySync()).toEqual([-0, -0]);
    expect(run({ x, limit: tensor(0) }).arraySync()).toEqual([1, 1]);
  });

  it('whose branches differ in shape reads the value', async () => {
    const loaded = await chooser({
      graph: {
        name: 'no',
        output: [info('no.y', 'float32', [4])],
        node: [node('Concat', ['x', 'x'], ['no.y'], { axis: 0 })],
      },
    });
    expect(loaded.run({ x: [1, 2], limit: 9 })['y']?.arraySync()).toEqual([-1, -2]);
    expect(loaded.run({ x: [1, 2], limit: 0 })['y']?.arraySync()).toEqual([1, 2, 1, 2]);
    const run = planned(loaded, 'y');
    expect(() => run({ x: tensor([1, 2]), limit: tensor(0) })).toThrow(
      /the condition is read because: .*float32 \[4\] in the second/,
    );
  });
});

describe('a Scan', () => {
  const graph = {
    name: 'body',
    input: [info('sum', 'float32', [2]), info('a', 'float32', [2]), info('b', 'float32', [2])],
    output: [info('next', 'float32', [2]), info('kept', 'float32', [2])],
    node: [
      node('Mul', ['sum', 'a'], ['product']),
      node('Add', ['product', 'b'], ['next']),
      node('Neg', ['next'], ['kept']),
    ],
  };
  const scanner = (attributes: Record<string, readonly number[]>) =>
    load(
      model({
        input: [
          info('start', 'float32', [2]),
          info('as', 'float32', ['n', 2]),
          info('bs', 'float32', [2, 'n']),
        ],
        output: [info('last', 'float32', [2]), info('all', 'float32', ['n', 2])],
        node: [
          node('Scan', ['start', 'as', 'bs'], ['last', 'all'], {
            body: { graph },
            num_scan_inputs: 2,
            scan_input_axes: [0, -1],
            ...attributes,
          }),
        ],
      }),
    );

  it.each([
    ['forward', {}, [0, 0, 0]],
    ['backward', { scan_input_directions: [1, 1], scan_output_directions: [1] }, [1, 1, 1]],
    ['in different directions', { scan_input_directions: [0, 1] }, [0, 1, 0]],
    ['kept backward', { scan_output_directions: [1] }, [0, 0, 1]],
    ['gone through backward', { scan_input_directions: [1, 1] }, [1, 1, 0]],
  ])('%s gives what rounds one by one give', async (_, attributes, [backA, backB, backKept]) => {
    const loaded = await scanner(attributes);
    for (const length of [3, 20]) {
      const [start, as, bs] = [randn([2]), randn([length, 2]), randn([2, length])];
      let sum = start;
      const kept: number[][] = [];
      for (let k = 0; k < length; k++) {
        const other = length - 1 - k;
        sum = sum.mul(as.select(0, backA ? other : k)).add(bs.select(1, backB ? other : k));
        kept.push(sum.neg().arraySync() as number[]);
      }
      const got = trace(
        (given: Record<string, Tensor>) => {
          const { last, all } = loaded.run(given);
          return [last, all] as Tensor[];
        },
        { symbolic: true },
      )({ start, as, bs });
      const close = (list: readonly number[]) => list.map((x) => expect.closeTo(x, 4));
      expect(got[0]?.arraySync()).toEqual(close(sum.arraySync() as number[]));
      expect(got[1]?.arraySync()).toEqual((backKept ? kept.toReversed() : kept).map(close));
    }
  });

  it('of version 8 ends each sequence at its length', async () => {
    const body = {
      name: 'body',
      input: [scalar('sum'), scalar('x')],
      output: [scalar('next'), scalar('kept')],
      node: [node('Add', ['sum', 'x'], ['next']), node('Identity', ['next'], ['kept'])],
    };
    const loaded = await load(
      model(
        {
          input: [
            info('n', 'int64', [2]),
            info('start', 'float32', [2]),
            info('xs', 'float32', [2, 3]),
          ],
          output: [info('last', 'float32', [2]), info('all', 'float32', [2, 3])],
          node: [
            node('Scan', ['n', 'start', 'xs'], ['last', 'all'], {
              body: { graph: body },
              num_scan_inputs: 1,
            }),
          ],
        },
        8,
      ),
    );
    const { last, all } = loaded.run({
      n: [3, 1],
      start: [10, 20],
      xs: [
        [1, 2, 3],
        [4, 5, 6],
      ],
    });
    expect(last?.arraySync()).toEqual([16, 24]);
    expect(all?.arraySync()).toEqual([
      [11, 13, 16],
      [24, 0, 0],
    ]);
  });
});

describe('recurrent layers over many steps', () => {
  const [steps, hidden, features] = [12, 3, 2];
  const recurrent = (opType: string, gates: number, attributes: Record<string, number | string>) =>
    load(
      model({
        input: [
          info('x', 'float32', [steps, 'batch', features]),
          info('w', 'float32', [1, gates * hidden, features]),
          info('r', 'float32', [1, gates * hidden, hidden]),
          info('b', 'float32', [1, 2 * gates * hidden]),
        ],
        output: [info('y', 'float32', [steps, 1, 'batch', hidden])],
        node: [node(opType, ['x', 'w', 'r', 'b'], ['y'], { hidden_size: hidden, ...attributes })],
      }),
    );

  it.each([
    ['RNN', 1, {}],
    ['GRU', 3, { linear_before_reset: 1 }],
    ['GRU', 3, {}],
    ['LSTM', 4, {}],
    ['LSTM', 4, { input_forget: 1 }],
  ])('%s of %i gates %o are one plan', async (opType, gates, attributes) => {
    const loaded = await recurrent(opType, gates, attributes);
    const given = {
      x: randn([steps, 2, features]),
      w: randn([1, gates * hidden, features]),
      r: randn([1, gates * hidden, hidden]).mul(0.5),
      b: randn([1, 2 * gates * hidden]),
    };
    const got = planned(loaded, 'y')(given);
    expect(F.mseLoss(got, byHand(opType, given, attributes)).itemSync()).toBeLessThan(1e-10);
  });
});

/** The equations of the standard, step by step. */
function byHand(
  opType: string,
  { x, w, r, b }: Record<'x' | 'w' | 'r' | 'b', Tensor>,
  attributes: Readonly<Record<string, number>>,
): Tensor {
  const [wt, rt] = [w.select(0, 0).transpose(0, 1), r.select(0, 0).transpose(0, 1)];
  const [wb, rb] = b.select(0, 0).chunk(2, 0) as [Tensor, Tensor];
  const hidden = rt.shape[0] as number;
  const gates = (wt.shape[1] as number) / hidden;
  let h = randn([x.shape[1] as number, hidden]).mul(0);
  let c = h;
  const all: Tensor[] = [];
  for (let t = 0; t < (x.shape[0] as number); t++) {
    const input = x.select(0, t).matmul(wt).add(wb).chunk(gates, 1);
    const state = h.matmul(rt).add(rb).chunk(gates, 1);
    const sum = input.map((part, k) => part.add(state[k] as Tensor));
    if (opType === 'RNN') h = (sum[0] as Tensor).tanh();
    else if (opType === 'GRU') {
      const [z, reset] = sum.map((part) => part.sigmoid()) as [Tensor, Tensor];
      const memory =
        attributes['linear_before_reset'] === 1
          ? reset.mul(state[2] as Tensor)
          : reset
              .mul(h)
              .matmul(rt.chunk(3, 1)[2] as Tensor)
              .add(rb.chunk(3, 0)[2] as Tensor);
      const candidate = (input[2] as Tensor).add(memory).tanh();
      h = z.rsub(1).mul(candidate).add(z.mul(h));
    } else {
      const [i, o, f] = sum.map((part) => part.sigmoid()) as [Tensor, Tensor, Tensor];
      const forget = attributes['input_forget'] === 1 ? i.rsub(1) : f;
      c = forget.mul(c).add(i.mul((sum[3] as Tensor).tanh()));
      h = o.mul(c.tanh());
    }
    all.push(h.unsqueeze(0).unsqueeze(0));
  }
  return cat(all, 0);
}
