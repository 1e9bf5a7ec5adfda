// Recurrent layers: values and gradients of PyTorch 1.13 in float64 for weights that a formula
// gives, sequences of different lengths, second derivatives, and what is refused.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  cat,
  DTypeError,
  evaluate,
  explain,
  F,
  grad,
  manualSeed,
  nn,
  randn,
  setDefaultDevice,
  ShapeError,
  tensor,
  type Tensor,
  valueAndGrad,
  zeros,
} from 'tengen';
import 'tengen/interp';
import { expectValues } from '../interface/support.ts';

setDefaultDevice('interp');

/** 0.5 sin(1.7 i + seed): the same numbers as in the script that made the literals. */
function fill(shape: readonly number[], seed: number): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: size }, (_, i) => 0.5 * Math.sin(1.7 * i + seed));
  return tensor(values, { shape });
}

const weighed = (x: Tensor, seed: number): Tensor => x.mul(fill(x.shape, seed)).sum();

interface Case {
  readonly layer: nn.RNN | nn.GRU | nn.LSTM;
  readonly lengths: readonly number[] | null;
  readonly outputs: readonly number[];
  readonly x: number;
  readonly weights: readonly number[];
}

const TWO_WAYS = { numLayers: 2, bidirectional: true } as const;

// torch.nn.{RNN,GRU,LSTM}(2, 3) over 4 steps of 3 sequences, packed where there are lengths. Sums of
// outputs, last states and gradients, each times fill(shape, seed).
const CASES: readonly Case[] = [
  {
    layer: new nn.RNN(2, 3),
    lengths: [2, 4, 3],
    outputs: [0.7307, -1.172531],
    x: 0.015247,
    weights: [0.0973, 0.373383, -0.530336, -0.530336],
  },
  {
    layer: new nn.RNN(2, 3, { ...TWO_WAYS, nonlinearity: 'relu' }),
    lengths: [2, 4, 3],
    outputs: [-0.156648, 0.634124],
    x: 0.438693,
    weights: [
      0.059224, -0.438602, -0.815904, -0.815904, -0.212971, -0.254042, -0.076767, -0.076767,
      -0.462614, 0.478369, -0.168747, -0.168747, 0.407604, 0.457678, 0.415981, 0.415981,
    ],
  },
  {
    layer: new nn.GRU(2, 3, TWO_WAYS),
    lengths: [4, 1, 3],
    outputs: [0.695924, -0.435805],
    x: 0.117879,
    weights: [
      0.027029, -0.118656, 0.260308, 0.14548, -0.090843, -0.017903, -0.630918, -0.327182, -0.352257,
      -0.333839, 0.647856, 0.365042, -0.08829, 0.202356, 0.633768, 0.464603,
    ],
  },
  {
    layer: new nn.GRU(2, 3, { bias: false }),
    lengths: null,
    outputs: [0.549839, 0.117464],
    x: 0.046365,
    weights: [0.036543, 0.165074],
  },
  {
    layer: new nn.LSTM(2, 3, TWO_WAYS),
    lengths: [1, 4, 2],
    outputs: [0.712968, -0.401291, -1.119698],
    x: 0.075779,
    weights: [
      0.072509, -0.074336, 0.936092, 0.936092, -0.003865, -0.115336, -0.565282, -0.565282, 0.094059,
      -0.062095, 0.327401, 0.327401, 0.105632, 0.128453, -0.639148, -0.639148,
    ],
  },
  {
    layer: new nn.LSTM(2, 3, { ...TWO_WAYS, projSize: 2 }),
    lengths: [1, 4, 2],
    outputs: [0.004901, -0.061374, 1.099574],
    x: 0.011402,
    weights: [
      0.012083, -0.021249, 0.659229, 0.659229, -0.015543, 0.032727, 0.036321, -0.394214, -0.394214,
      -0.017239, 0.007253, 0.01151, 0.381435, 0.381435, -0.121814, -0.082421, -0.126017, -0.513831,
      -0.513831, 0.016294,
    ],
  },
  {
    layer: new nn.LSTM(2, 3, { projSize: 1, bias: false }),
    lengths: null,
    outputs: [-0.036919, -0.004403, 0.047275],
    x: 0.005783,
    weights: [0.014045, -0.016923, -0.036623],
  },
];

/** The output and the last states. */
function run(layer: Case['layer'], x: Tensor, lengths: Case['lengths']): Tensor[] {
  const count = layer.numLayers * (layer.bidirectional ? 2 : 1);
  if (layer instanceof nn.LSTM) {
    const size = layer.projSize || layer.hiddenSize;
    const state = [fill([count, 3, size], 0.7), fill([count, 3, layer.hiddenSize], 0.9)] as const;
    const [output, [h, c]] = layer.forward(x, state, { lengths });
    return [output, h, c];
  }
  return layer.forward(x, fill([count, 3, layer.hiddenSize], 0.7), { lengths });
}

/** Sums of the results, as the gradients' loss has them. */
function lossOf([output, ...states]: readonly Tensor[]): Tensor {
  const parts = states.map((state, i) => weighed(state, 0.2 + 0.1 * i));
  return parts.reduce((sum, part) => sum.add(part), weighed(output as Tensor, 0.1));
}

function expectSums(actual: readonly Tensor[], expected: readonly number[]): void {
  evaluate(...actual);
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, i) => expect(value.itemSync()).toBeCloseTo(expected[i] as number, 5));
}

describe('layers against PyTorch', () => {
  for (const { layer, lengths, outputs, x: ofX, weights } of CASES) {
    test(`${String(layer)}${lengths === null ? '' : ` of lengths ${lengths.join()}`}`, () => {
      for (const [i, parameter] of layer.parameters().entries()) {
        parameter.setData(fill(parameter.shape, i).dataSync());
      }
      const x = new nn.Parameter(fill([4, 3, 2], 0.3));
      const results = run(layer, x, lengths);
      expectSums(
        results.map((result) => weighed(result, 0.4)),
        outputs,
      );
      lossOf(run(layer, x, lengths)).backward();
      expectSums([weighed(x.grad as Tensor, 0.5)], [ofX]);
      expectSums(
        layer.parameters().map((parameter) => weighed(parameter.grad as Tensor, 1)),
        weights,
      );
    });
  }

  test('names are those of state dicts', () => {
    expect(Object.keys(new nn.LSTM(2, 3, { ...TWO_WAYS, projSize: 2 }).stateDict())).toEqual(
      [0, 1].flatMap((layer) =>
        ['', '_reverse'].flatMap((side) =>
          ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh', 'weight_hr'].map(
            (name) => `${name}_l${layer}${side}`,
          ),
        ),
      ),
    );
    expect(Object.keys(new nn.GRUCell(2, 3).stateDict())).toEqual([
      'weight_ih',
      'weight_hh',
      'bias_ih',
      'bias_hh',
    ]);
  });
});

describe('layouts and states', () => {
  test('batchFirst and single sequences are the same numbers in other places', () => {
    manualSeed(1);
    const layer = new nn.GRU(2, 3, { numLayers: 2 });
    const first = new nn.GRU(2, 3, { numLayers: 2, batchFirst: true });
    first.loadStateDict(layer.stateDict());
    const x = randn([4, 3, 2]);
    const [output, h] = layer.forward(x);
    const [transposed, sameH] = first.forward(x.transpose(0, 1));
    expectValues(transposed, output.transpose(0, 1).arraySync());
    expectValues(sameH, h.arraySync());
    const [alone, last] = layer.forward(x.select(1, 2));
    expectValues(alone, output.select(1, 2).arraySync());
    expectValues(last, h.select(1, 2).arraySync());
  });

  test('a cell stepped by hand is the layer', () => {
    manualSeed(2);
    const pairs = [
      [new nn.RNN(2, 3), new nn.RNNCell(2, 3)],
      [new nn.GRU(2, 3), new nn.GRUCell(2, 3)],
    ] as const;
    const x = randn([4, 3, 2]);
    for (const [layer, cell] of pairs) {
      const weights = layer.parameters();
      cell.parameters().forEach((parameter, i) => parameter.assign(weights[i] as Tensor));
      let h: Tensor | null = null;
      for (const step of x) h = cell.forward(step, h);
      expectValues(h as Tensor, layer.forward(x)[1].select(0, 0).arraySync());
    }
    const layer = new nn.LSTM(2, 3);
    const cell = new nn.LSTMCell(2, 3);
    const weights = layer.parameters();
    cell.parameters().forEach((parameter, i) => parameter.assign(weights[i] as Tensor));
    let state: [Tensor, Tensor] | null = null;
    for (const step of x) state = cell.forward(step, state);
    const [, [h, c]] = layer.forward(x);
    expectValues((state as [Tensor, Tensor])[0], h.select(0, 0).arraySync());
    expectValues((state as [Tensor, Tensor])[1], c.select(0, 0).arraySync());
    expectValues(
      cell.forward(x.select(0, 0).select(0, 1))[0],
      cell.forward(x.select(0, 0))[0].select(0, 1).arraySync(),
    );
  });

  test('beyond its length a sequence is not seen: not even NaN', () => {
    const layer = new nn.LSTM(1, 2, { bidirectional: true });
    const x = tensor([[[1]], [[2]], [[NaN]]]);
    const [output, [h, c]] = layer.forward(x, null, { lengths: [2] });
    const [short, [shortH, shortC]] = layer.forward(x.narrow(0, 0, 2));
    expectValues(output.narrow(0, 0, 2), short.arraySync());
    expectValues(output.select(0, 2), [[0, 0, 0, 0]]);
    expectValues(h, shortH.arraySync());
    expectValues(c, shortC.arraySync());
    lossOf([output]).backward();
    const gradients = layer.parameters().map((parameter) => parameter.grad as Tensor);
    expect(gradients.every((gradient) => gradient.dataSync().every(Number.isFinite))).toBe(true);
  });

  test('lengths are data: other ones take the same plan, and 0 gives the state back', () => {
    const layer = new nn.GRU(1, 2);
    const h = tensor([[[0.5, -0.5]]]);
    const x = tensor([[[1]], [[2]]]);
    const outputs = [2, 1, 0].map((length) => layer.forward(x, h, { lengths: [length] }));
    evaluate(...(outputs[0] as Tensor[]));
    evaluate(...(outputs[1] as Tensor[]));
    expect(explain()).toContain('2 runs');
    expectValues((outputs[2] as Tensor[])[1] as Tensor, [[[0.5, -0.5]]]);
    const asTensor = layer.forward(x, h, { lengths: tensor([1], { dtype: 'int32' }) });
    expectValues(asTensor[0], (outputs[1] as Tensor[])[0]?.arraySync());
  });

  test('between layers elements are dropped, in training only', () => {
    manualSeed(3);
    const layer = new nn.RNN(2, 3, { numLayers: 2, dropout: 1 });
    const still = new nn.RNN(2, 3, { numLayers: 2 });
    still.loadStateDict(layer.stateDict());
    const x = randn([3, 1, 2]);
    expectValues(layer.eval().forward(x)[0], still.forward(x)[0].arraySync());
    // With everything dropped the second layer sees zeros.
    const [, h] = layer.train().forward(x);
    const [, expected] = F.rnnTanh(zeros([3, 1, 3]), [], still.parameters().slice(4));
    expectValues(h.narrow(0, 1, 1), expected.arraySync());
  });
});

describe('gradients', () => {
  test('second derivatives agree with differences of the first', () => {
    const h0 = fill([1, 2, 2], 0.2);
    const runs: [string, number, (x: Tensor, weights: Tensor[]) => Tensor][] = [
      ['rnn', 1, (x, weights) => F.rnnTanh(x, [h0], weights, { bias: false })[0]],
      ['gru', 3, (x, weights) => F.gru(x, [h0], weights, { bias: false, lengths: [3, 2] })[0]],
      ['lstm', 4, (x, weights) => F.lstm(x, [h0, h0], weights, { bias: false })[0]],
    ];
    for (const [name, gates, forward] of runs) {
      const x = fill([3, 2, 2], 1).double();
      const input = fill([2 * gates, 2], 2).double();
      const hidden = fill([2 * gates, 2], 3).double();
      const slope = (w: Tensor): Tensor => {
        const inner = grad((v: Tensor) => forward(x, [input, v]).square().sum(), {
          createGraph: true,
        });
        return weighed(inner(w), 0.6);
      };
      const { grads } = valueAndGrad(slope)(hidden);
      const analytic = Array.from((grads[0] as Tensor).dataSync());
      const step = 1e-4;
      for (let i = 0; i < hidden.size; i += 3) {
        const moved = (by: number): number => {
          const values = Array.from(hidden.dataSync());
          values[i] = (values[i] as number) + by;
          return slope(
            tensor(Float64Array.from(values), { shape: hidden.shape, dtype: 'float64' }),
          ).itemSync();
        };
        const numeric = (moved(step) - moved(-step)) / (2 * step);
        expect(analytic[i], `${name} ${i}`).toBeCloseTo(numeric, 5);
      }
    }
  });

  test('the weights have one product each, however many steps there are', () => {
    const kernels = (time: number): number => {
      const layer = new nn.LSTM(2, 4);
      layer
        .forward(randn([time, 3, 2]))[0]
        .sum()
        .backward();
      evaluate(...layer.parameters().map((parameter) => parameter.grad as Tensor));
      return Number(/^(\d+) kernels/m.exec(explain())?.[1]);
    };
    // Unrolled, a step is a product and the gates forward, and a product with the gates backward.
    expect(kernels(8) - kernels(6)).toBeLessThanOrEqual(3 * 2);
    // As a loop all steps are the same kernels.
    expect(kernels(40) - kernels(20)).toBeLessThanOrEqual(2);
  });
});

describe('long sequences, which run as a loop', () => {
  const layers = [
    new nn.RNN(2, 3),
    new nn.GRU(2, 3),
    new nn.LSTM(2, 3),
    new nn.LSTM(2, 3, { projSize: 2, bias: false }),
  ];
  const cases = layers.flatMap((layer) =>
    [null, [12, 3, 7]].map((lengths) => ({ layer, lengths })),
  );

  test.each(cases)('$layer, lengths $lengths: the same as in short parts', ({ layer, lengths }) => {
    manualSeed(7);
    const x = new nn.Parameter(randn([12, 3, 2]));
    const gradientsOf = (results: readonly Tensor[]): unknown => {
      layer.zeroGrad();
      x.grad = null;
      lossOf(results).backward();
      const all = [x, ...layer.parameters()].map((parameter) => parameter.grad as Tensor);
      return all.map((gradient) => gradient.arraySync());
    };
    const initial = [fill([1, 3, layer instanceof nn.LSTM && layer.projSize > 0 ? 2 : 3], 0.7)];
    if (layer instanceof nn.LSTM) initial.push(fill([1, 3, 3], 0.9));
    const forward = (part: Tensor, state: readonly Tensor[], own: number[] | null): Tensor[] => {
      const options = { lengths: own };
      if (!(layer instanceof nn.LSTM)) return layer.forward(part, state[0] as Tensor, options);
      const [output, next] = layer.forward(part, state as readonly [Tensor, Tensor], options);
      return [output, ...next];
    };
    const whole = forward(x, initial, lengths);
    let state: readonly Tensor[] = initial;
    const outputs: Tensor[] = [];
    for (let start = 0; start < 12; start += 4) {
      const own = lengths?.map((length) => Math.min(4, Math.max(0, length - start))) ?? null;
      const [output, ...next] = forward(x.narrow(0, start, 4), state, own);
      outputs.push(output as Tensor);
      state = next;
    }
    const parts = [cat(outputs), ...state];
    whole.forEach((value, i) => expectValues(value, (parts[i] as Tensor).arraySync()));
    const expected = gradientsOf(parts);
    const actual = gradientsOf(whole);
    (expected as unknown[]).forEach((value, i) =>
      expectValues(tensor((actual as number[][])[i] as number[]), value),
    );
  });

  test('backwards, and unseen beyond the length', () => {
    const layer = new nn.GRU(1, 2, { bidirectional: true });
    const x = randn([10, 1, 1]);
    const padded = cat([x, tensor([[[NaN]], [[NaN]]])]);
    const [output] = layer.forward(padded, null, { lengths: [10] });
    const reverse = layer.parameters().slice(4);
    const [turned] = F.gru(x.flip(0), [], reverse);
    expectValues(output.narrow(0, 0, 10).narrow(2, 2, 2), turned.flip(0).arraySync());
    expectValues(output.narrow(0, 10, 2), zeros([2, 1, 4]).arraySync());
    lossOf([output]).backward();
    const gradients = layer.parameters().map((parameter) => parameter.grad as Tensor);
    expect(gradients.every((gradient) => gradient.dataSync().every(Number.isFinite))).toBe(true);
  });
});

describe('what is refused', () => {
  const layer = new nn.LSTM(2, 3);
  test.each([
    ['wrong features', () => layer.forward(zeros([4, 3, 5]))],
    ['too many axes', () => layer.forward(zeros([1, 4, 3, 2]))],
    ['no time', () => layer.forward(zeros([0, 3, 2]))],
    [
      'a state of another batch',
      () => layer.forward(zeros([4, 3, 2]), [zeros([1, 2, 3]), zeros([1, 2, 3])]),
    ],
    ['a length beyond the time', () => layer.forward(zeros([4, 1, 2]), null, { lengths: [5] })],
    ['lengths of another batch', () => layer.forward(zeros([4, 3, 2]), null, { lengths: [1, 2] })],
    [
      'a length computed beyond the time',
      () =>
        layer
          .forward(zeros([4, 1, 2]), null, { lengths: tensor([7], { dtype: 'int32' }) })[0]
          .dataSync(),
    ],
  ])('%s: ShapeError', (_, call) => {
    expect(call).toThrow(ShapeError);
  });

  test.each([
    ['sizes of 0', () => new nn.GRU(2, 0)],
    ['dropout in one layer', () => new nn.RNN(2, 3, { dropout: 0.5 })],
    ['a projection that is none', () => new nn.LSTM(2, 3, { projSize: 3 })],
    ['an unknown option', () => new nn.GRU(2, 3, { layers: 2 } as object)],
    ['a negative length', () => layer.forward(zeros([4, 1, 2]), null, { lengths: [-1] })],
    [
      'one state for an LSTM',
      () => F.lstm(zeros([4, 1, 2]), [zeros([1, 1, 3])], layer.parameters()),
    ],
    ['too few weights', () => F.lstm(zeros([4, 1, 2]), [], layer.parameters().slice(0, 3))],
  ])('%s: ArgumentError', (_, call) => {
    expect(call).toThrow(ArgumentError);
  });

  test('lengths are integers', () => {
    expect(() => layer.forward(zeros([4, 1, 2]), null, { lengths: tensor([1.5]) })).toThrow(
      DTypeError,
    );
  });
});

describe('padSequence', () => {
  test('joins and is undone', () => {
    const sequences = [tensor([[1], [2]]), tensor([[3]]), tensor([[4], [5], [6]])];
    const padded = nn.padSequence(sequences, { paddingValue: -1 });
    expectValues(padded.select(2, 0), [
      [1, 3, 4],
      [2, -1, 5],
      [-1, -1, 6],
    ]);
    const again = nn.unpadSequence(padded, [2, 1, 3]);
    again.forEach((sequence, i) => expectValues(sequence, sequences[i]?.arraySync()));
    expect(() => nn.padSequence([])).toThrow(ArgumentError);
    expect(() => nn.padSequence([zeros([2, 1]), zeros([2, 2])])).toThrow(ShapeError);
    expect(() => nn.unpadSequence(padded, [4, 1, 3])).toThrow(ShapeError);
  });
});
