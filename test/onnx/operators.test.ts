// Single operators against results worked out by hand, on the host and on the device; the table itself.
import { describe, expect, it } from 'vitest';
import { ShapeError, TengenError } from '../../src/base/errors.ts';
import '../../src/index.ts';
import { load } from '../../src/interface/onnx/index.ts';
import { OPERATORS, findOperator } from '../../src/interface/onnx/operators/index.ts';
import type { ElementType } from '../../src/interface/onnx/tensor-data.ts';
import { TensorValue, type Value, encodeValues } from '../../src/interface/onnx/values.ts';
import { info, model, node } from './build.ts';

type Given = readonly [type: ElementType, shape: readonly number[], values: readonly number[]];
type Attributes = Parameters<typeof node>[3];

interface Case {
  readonly inputs: readonly (Given | null)[];
  readonly attributes?: Attributes;
  readonly opset?: number;
  readonly outputs?: number;
}

/** The results of one operator, its inputs on the device or known on the host. */
async function results(op: string, given: Case, onHost = false): Promise<(Value | null)[]> {
  const { inputs, attributes = {}, opset = 17, outputs = 1 } = given;
  const names = inputs.map((input, i) => (input === null ? '' : `x${i}`));
  const outs = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const loaded = await load(
    model(
      {
        input: inputs.flatMap((input, i) => (input === null ? [] : [info(`x${i}`, input[0], [])])),
        output: outs.map((name) => ({ name })),
        node: [node(op, names, outs, attributes)],
      },
      opset,
    ),
  );
  const values = new Map<string, Value>();
  for (const [i, input] of inputs.entries()) {
    if (input === null) continue;
    const value = TensorValue.ofArray(encodeValues(input[0], input[1], input[2]));
    values.set(`x${i}`, onHost ? value : TensorValue.ofTensor(value.tensor, value.type));
  }
  return loaded.execute(values);
}

async function run(op: string, given: Case, onHost = false) {
  const all = await results(op, given, onHost);
  return all.map((value) => {
    if (value?.kind !== 'tensor') throw new Error('no tensor');
    return { type: value.type, shape: [...value.shape], values: value.numbers() };
  });
}

const f32 = (shape: readonly number[], ...values: number[]): Given => ['float32', shape, values];
const i64 = (shape: readonly number[], ...values: number[]): Given => ['int64', shape, values];

/** Expected numbers by name of the case; checked on the device and on the host. */
const CASES: readonly (readonly [
  name: string,
  op: string,
  given: Case,
  shape: readonly number[],
  values: readonly number[],
  type?: ElementType,
])[] = [
  ['broadcast', 'Add', { inputs: [f32([2, 1], 1, 2), f32([2], 10, 20)] }, [2, 2], [11, 21, 12, 22]],
  [
    'the axis of version 6',
    'Add',
    {
      inputs: [f32([2, 2], 1, 2, 3, 4), f32([2], 10, 20)],
      attributes: { axis: 0, broadcast: 1 },
      opset: 6,
    },
    [2, 2],
    [11, 12, 23, 24],
  ],
  [
    'each element its own statistics, before version 9',
    'BatchNormalization',
    {
      inputs: [
        f32([2, 1, 2], 1, 2, 3, 4),
        f32([1, 2], 2, 1),
        f32([1, 2], 0, 10),
        f32([1, 2], 1, 2),
        f32([1, 2], 3.5, 0.5),
      ],
      attributes: { epsilon: 0.5, spatial: 0 },
      opset: 7,
    },
    [2, 1, 2],
    [0, 10, 2, 12],
  ],
  ...(['output_half_pixel', 'half_pixel'] as const).map((mode, i): (typeof CASES)[number] => [
    `the largest weighted pixel, ${mode}`,
    'RoiAlign',
    {
      inputs: [f32([1, 1, 3, 3], 0, 1, 2, 3, 4, 5, 6, 7, 8), f32([1, 4], 0, 0, 2, 2), i64([1], 0)],
      attributes: { mode: 'max', coordinate_transformation_mode: mode },
    },
    [1, 1, 1, 1],
    [i === 0 ? 2 : 4],
  ]),
  ['integers are cut off', 'Div', { inputs: [i64([2], 7, -7), i64([], 2)] }, [2], [3, -3], 'int64'],
  [
    'unsigned 16 bits wrap',
    'Add',
    {
      inputs: [
        ['uint16', [1], [65535]],
        ['uint16', [1], [2]],
      ],
    },
    [1],
    [1],
    'uint16',
  ],
  ['sign of the divisor', 'Mod', { inputs: [i64([2], -7, 7), i64([], 3)] }, [2], [2, 1], 'int64'],
  [
    'sign of the dividend',
    'Mod',
    { inputs: [i64([2], -7, 7), i64([], 3)], attributes: { fmod: 1 } },
    [2],
    [-1, 1],
    'int64',
  ],
  ['type of the base', 'Pow', { inputs: [i64([2], 2, 3), f32([], 2)] }, [2], [4, 9], 'int64'],
  [
    'keeps and infers sizes',
    'Reshape',
    { inputs: [f32([2, 3], 1, 2, 3, 4, 5, 6), i64([3], 0, 1, -1)] },
    [2, 1, 3],
    [1, 2, 3, 4, 5, 6],
  ],
  [
    'backwards to before the start',
    'Slice',
    { inputs: [f32([4], 1, 2, 3, 4), i64([1], -1), i64([1], -9), i64([1], 0), i64([1], -2)] },
    [2],
    [4, 2],
  ],
  [
    'to an end that is far away',
    'Slice',
    { inputs: [f32([3], 1, 2, 3), i64([1], 1), i64([1], 2 ** 31 - 1)] },
    [2],
    [2, 3],
  ],
  [
    'negative indices',
    'Gather',
    { inputs: [i64([3], 5, 6, 7), i64([2], -1, 0)] },
    [2],
    [7, 5],
    'int64',
  ],
  [
    'adds what meets',
    'ScatterND',
    {
      inputs: [f32([3], 1, 1, 1), i64([3, 1], 0, 2, 0), f32([3], 1, 2, 3)],
      attributes: { reduction: 'add' },
      opset: 18,
    },
    [3],
    [5, 1, 3],
  ],
  [
    'wraps around',
    'Pad',
    { inputs: [f32([3], 1, 2, 3), i64([2], 1, 2)], attributes: { mode: 'wrap' }, opset: 19 },
    [6],
    [3, 1, 2, 3, 1, 2],
  ],
  [
    'uneven parts',
    'Split',
    { inputs: [f32([3], 1, 2, 3)], attributes: { num_outputs: 1 }, opset: 18 },
    [3],
    [1, 2, 3],
  ],
  [
    'crops and pads',
    'CenterCropPad',
    { inputs: [f32([1, 3], 1, 2, 3), i64([2], 3, 1)], opset: 18 },
    [3, 1],
    [0, 2, 0],
  ],
  [
    'over nothing',
    'ReduceMax',
    { inputs: [f32([0, 2])], attributes: { axes: [0] } },
    [1, 2],
    [-Infinity, -Infinity],
  ],
  [
    'no axes, nothing reduced',
    'ReduceSum',
    { inputs: [f32([2], 1, 2)], attributes: { noop_with_empty_axes: 1 } },
    [2],
    [1, 2],
  ],
  [
    'the last of equals',
    'ArgMax',
    { inputs: [f32([3], 2, 2, 1)], attributes: { select_last_index: 1, keepdims: 0 } },
    [],
    [1],
    'int64',
  ],
  [
    'exclusive from the end',
    'CumSum',
    { inputs: [f32([3], 1, 2, 3), i64([], 0)], attributes: { exclusive: 1, reverse: 1 } },
    [3],
    [5, 3, 0],
  ],
  [
    'all axes behind one',
    'Softmax',
    { inputs: [f32([1, 2, 1], 0, 0)], opset: 11 },
    [1, 2, 1],
    [0.5, 0.5],
  ],
  [
    'groups of channels',
    'GroupNormalization',
    {
      inputs: [f32([1, 2, 2], 1, 3, 10, 30), f32([2], 1, 2), f32([2], 0, 1)],
      attributes: { num_groups: 2 },
      opset: 21,
    },
    [1, 2, 2],
    [-1, 1, -1, 3],
  ],
  [
    'root mean square',
    'RMSNormalization',
    { inputs: [f32([2], 3, 4), f32([2], 1, 2)], opset: 23 },
    [2],
    [0.848528, 2.262742],
  ],
  [
    'padding by SAME_UPPER',
    'MaxPool',
    {
      inputs: [f32([1, 1, 3], 1, 3, 2)],
      attributes: { kernel_shape: [2], strides: [2], auto_pad: 'SAME_UPPER' },
    },
    [1, 1, 2],
    [3, 2],
  ],
  [
    'does not count padding',
    'AveragePool',
    { inputs: [f32([1, 1, 2], 2, 4)], attributes: { kernel_shape: [3], pads: [1, 1] } },
    [1, 1, 2],
    [3, 3],
  ],
  [
    'asymmetric padding',
    'Conv',
    { inputs: [f32([1, 1, 3], 1, 2, 3), f32([1, 1, 2], 1, 10)], attributes: { pads: [1, 0] } },
    [1, 1, 3],
    [10, 21, 32],
  ],
  [
    'more than the full result',
    'ConvTranspose',
    {
      inputs: [f32([1, 1, 2], 1, 2), f32([1, 1, 2], 1, 10)],
      attributes: { strides: [2], output_padding: [1] },
    },
    [1, 1, 5],
    [1, 10, 2, 20, 0],
  ],
  [
    'rounds to even and saturates',
    'QuantizeLinear',
    { inputs: [f32([4], 0.5, 1.5, -9, 300), f32([], 1), ['uint8', [], [2]]] },
    [4],
    [2, 4, 0, 255],
    'uint8',
  ],
  [
    'by blocks',
    'DequantizeLinear',
    {
      inputs: [['int8', [4], [1, 2, 3, 4]], f32([2], 1, 10)],
      attributes: { axis: 0, block_size: 2 },
      opset: 21,
    },
    [4],
    [1, 2, 30, 40],
  ],
  [
    'zero points of both',
    'MatMulInteger',
    {
      inputs: [
        ['uint8', [1, 2], [3, 4]],
        ['int8', [2, 1], [1, 2]],
        ['uint8', [], [1]],
        ['int8', [], [-1]],
      ],
    },
    [1, 1],
    [13],
    'int32',
  ],
  [
    'halves from the edge',
    'Resize',
    { inputs: [f32([1, 1, 2], 0, 4), null, f32([3], 1, 1, 2)], attributes: { mode: 'linear' } },
    [1, 1, 4],
    [0, 1, 3, 4],
  ],
  [
    'columns that overlap',
    'Col2Im',
    {
      inputs: [f32([1, 2, 2], 1, 2, 3, 4), i64([1], 3), i64([1], 2)],
      attributes: { strides: [1] },
      opset: 18,
    },
    [1, 1, 3],
    [1, 5, 4],
  ],
  [
    'keeps the best of a heap',
    'NonMaxSuppression',
    {
      inputs: [
        f32([1, 3, 4], 0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 5, 1, 6),
        f32([1, 1, 3], 0.5, 0.9, 0.2),
        i64([], 3),
        f32([], 0.5),
        f32([], 0),
      ],
    },
    [2, 3],
    [0, 0, 1, 0, 0, 2],
    'int64',
  ],
  ['a window', 'HannWindow', { inputs: [i64([], 4)] }, [4], [0, 0.5, 1, 0.5]],
  [
    'of an impulse',
    'DFT',
    { inputs: [f32([1, 4, 1], 0, 1, 0, 0)], attributes: { onesided: 1 } },
    [1, 3, 2],
    [1, 0, 0, -1, -1, 0],
  ],
  [
    'one query, one key that is allowed',
    'Attention',
    {
      inputs: [
        f32([1, 1, 1, 2], 1, 0),
        f32([1, 1, 2, 2], 1, 0, 0, 1),
        f32([1, 1, 2, 1], 5, 7),
        ['bool', [1, 2], [0, 1]],
      ],
      opset: 23,
    },
    [1, 1, 1, 1],
    [7],
  ],
  [
    'a quarter turn',
    'RotaryEmbedding',
    { inputs: [f32([1, 1, 1, 2], 1, 2), f32([1, 1, 1], 0), f32([1, 1, 1], 1)], opset: 23 },
    [1, 1, 1, 2],
    [-2, 1],
  ],
  [
    'ignored targets weigh nothing',
    'NegativeLogLikelihoodLoss',
    {
      inputs: [f32([2, 2], -1, -2, -3, -4), i64([2], 1, 0), f32([2], 1, 3)],
      attributes: { ignore_index: 0 },
    },
    [],
    [2],
  ],
  ['a matrix', 'Det', { inputs: [f32([2, 2], 1, 2, 3, 4)] }, [], [-2]],
  [
    'bits',
    'BitCast',
    { inputs: [f32([1], 1)], attributes: { to: 6 }, opset: 26 },
    [1],
    [1065353216],
    'int32',
  ],
];

describe('operators', () => {
  for (const [name, op, given, shape, values, type = 'float32'] of CASES) {
    it(`${op}: ${name}`, async () => {
      for (const onHost of [false, true]) {
        const [result] = await run(op, given, onHost);
        expect(result?.type).toBe(type);
        expect(result?.shape).toEqual(shape);
        expect(result?.values.length).toBe(values.length);
        for (const [i, value] of values.entries()) {
          if (Number.isFinite(value)) expect(result?.values[i]).toBeCloseTo(value, 4);
          else expect(result?.values[i]).toBe(value);
        }
      }
    });
  }

  it('give further outputs', async () => {
    const [values, first, inverse, counts] = await run('Unique', {
      inputs: [f32([4], 3, 1, 3, 2)],
      outputs: 4,
    });
    expect(values?.values).toEqual([1, 2, 3]);
    expect(first?.values).toEqual([1, 3, 0]);
    expect(inverse?.values).toEqual([2, 0, 2, 1]);
    expect(counts?.values).toEqual([1, 1, 2]);
    const [top, places] = await run('TopK', {
      inputs: [f32([3], 1, 3, 2), i64([1], 2)],
      outputs: 2,
    });
    expect(top?.values).toEqual([3, 2]);
    expect(places).toMatchObject({ type: 'int64', values: [1, 2] });
    const [, indices] = await run('MaxPool', {
      inputs: [f32([1, 2, 2], 1, 2, 4, 3)],
      attributes: { kernel_shape: [2] },
      outputs: 2,
    });
    expect(indices).toMatchObject({ type: 'int64', values: [1, 2] });
  });

  it('keep integers of 64 bits exact on the host', async () => {
    const big = 2n ** 62n;
    const data = BigInt64Array.of(big, -big);
    const value = TensorValue.ofArray({ type: 'int64', shape: [2], data });
    const bytes = model({
      input: [info('x', 'int64', [2]), info('i', 'int64', [1])],
      output: [{ name: 'y' }],
      node: [
        node('Add', ['x', 'x'], ['a']),
        node('Sub', ['a', 'x'], ['b']),
        node('Gather', ['b', 'i'], ['y']),
      ],
    });
    const index = TensorValue.ofNumbers([0]);
    const loaded = await load(bytes);
    const [result] = loaded.execute(
      new Map([
        ['x', value],
        ['i', index],
      ]),
    );
    expect(result?.kind === 'tensor' && result.read().data).toEqual(BigInt64Array.of(big));
    // A tensor cannot hold it, and says so.
    expect(() => loaded.run({ x: [1, 2], i: [0] })['y']?.dataSync()).not.toThrow();
    expect(() => result?.kind === 'tensor' && result.tensor).toThrow('does not fit 32 bits');
  });

  it('say what is wrong in typed errors', async () => {
    const fails = async (op: string, given: Case): Promise<void> => {
      await expect(run(op, given)).rejects.toThrow(TengenError);
    };
    await fails('Reshape', { inputs: [f32([2], 1, 2), i64([1], 3)] });
    await fails('Gather', { inputs: [f32([2], 1, 2), i64([1], 2)] });
    await fails('Slice', { inputs: [f32([2], 1, 2), i64([1], 0), i64([1], 1), i64([1], 4)] });
    await fails('Concat', { inputs: [f32([1], 1), f32([1, 1], 1)], attributes: { axis: 0 } });
    await fails('Expand', { inputs: [f32([2], 1, 2), i64([1], 3)] });
    await fails('Transpose', { inputs: [f32([2], 1, 2)], attributes: { perm: [1] } });
    await fails('Range', { inputs: [i64([], 0), i64([], 5), i64([], 0)] });
    await fails('Conv', { inputs: [f32([1, 1, 2], 1, 2), f32([1, 2, 1], 1, 2)] });
    await expect(run('Div', { inputs: [i64([1], 1), i64([1], 0)] }, true)).rejects.toThrow(
      'division of an integer by zero',
    );
    await expect(run('Squeeze', { inputs: [f32([2], 1, 2), i64([1], 0)] })).rejects.toThrow(
      ShapeError,
    );
  });
});

describe('control flow', () => {
  const body = {
    name: 'body',
    input: [info('i', 'int64', []), info('go', 'bool', []), info('v', 'float32', [])],
    output: [info('on', 'bool', []), info('next', 'float32', []), info('copy', 'float32', [])],
    node: [
      node('Add', ['v', 'v'], ['next']),
      node('Less', ['next', 'limit'], ['on']),
      node('Identity', ['next'], ['copy']),
    ],
  };

  it('loops until its condition fails, and sees what lies around it', async () => {
    const loaded = await load(
      model({
        input: [info('x', 'float32', []), info('limit', 'float32', [])],
        output: [info('last', 'float32', []), info('all', 'float32', ['n'])],
        node: [node('Loop', ['', '', 'x'], ['last', 'all'], { body: { graph: body } })],
      }),
    );
    const { last, all } = loaded.run({ x: 1, limit: 10 });
    expect(last?.itemSync()).toBe(16);
    expect(all?.arraySync()).toEqual([2, 4, 8, 16]);
  });

  it('ends a loop that would not', async () => {
    const loaded = await load(
      model({
        input: [info('x', 'float32', []), info('limit', 'float32', [])],
        output: [info('last', 'float32', [])],
        node: [
          node('Loop', ['', '', 'x'], ['last', 'all'], {
            body: {
              graph: {
                ...body,
                node: [
                  node('Identity', ['go'], ['on']),
                  node('Identity', ['v'], ['next']),
                  node('Identity', ['v'], ['copy']),
                ],
              },
            },
          }),
        ],
      }),
    );
    expect(() => loaded.run({ x: 1, limit: 1 })).toThrow('loops of more than 20000 rounds');
  });
});

describe('the table', () => {
  it('has one row for an operator in a version', () => {
    for (const { name, domain, since, until } of OPERATORS) {
      expect(until).toBeGreaterThanOrEqual(since);
      const same = OPERATORS.filter((row) => row.name === name && row.domain === domain);
      const holding = same.filter((row) => row.since <= since && since <= row.until);
      expect(holding.map((row) => row.name)).toEqual([name]);
    }
  });

  it('finds rows by version', () => {
    expect(findOperator('', 'ReduceSum', 12)).toMatchObject({ inputs: [1, 1] });
    expect(findOperator('', 'ReduceSum', 13)).toMatchObject({ inputs: [1, 2] });
    expect(findOperator('', 'Gelu', 19)).toHaveProperty('reason');
    expect(new Set(OPERATORS.map(({ name }) => name)).size).toBeGreaterThan(190);
  });
});
