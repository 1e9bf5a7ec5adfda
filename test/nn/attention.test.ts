// Attention and transformers: values against plain loops, masks, layouts, PyTorch's names.
import { describe, expect, test } from 'vitest';
import { ArgumentError, manualSeed, nn, randn, ShapeError, type Tensor, tensor } from 'tengen';

const values = (x: Tensor): number[] => Array.from(x.dataSync());

function expectClose(actual: Tensor, expected: readonly number[]): void {
  const got = values(actual);
  expect(got).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(got[i]).toBeCloseTo(value, 5);
}

/** Projections that leave the input as it is: what remains is attention itself. */
function plainAttention(size: number, heads: number): nn.MultiheadAttention {
  const attention = new nn.MultiheadAttention(size, heads, { batchFirst: true });
  const identity = Array.from({ length: 3 * size }, (_, row) =>
    Array.from({ length: size }, (_, column) => (row % size === column ? 1 : 0)),
  );
  attention.loadStateDict(
    { in_proj_weight: tensor(identity), 'out_proj.weight': tensor(identity.slice(0, size)) },
    { strict: false },
  );
  return attention;
}

/** softmax(x xᵀ / sqrt(d)) x of rows, where `seen(i, j)`. */
function attend(rows: readonly number[][], seen: (i: number, j: number) => boolean): number[][] {
  return rows.map((query, i) => {
    const scores = rows.map((key, j) => {
      const dot = key.reduce((sum, value, d) => sum + value * (query[d] ?? 0), 0);
      return seen(i, j) ? Math.exp(dot / Math.sqrt(query.length)) : 0;
    });
    const total = scores.reduce((a, b) => a + b, 0);
    return query.map((_, d) =>
      rows.reduce((sum, row, j) => sum + ((scores[j] ?? 0) / total) * (row[d] ?? 0), 0),
    );
  });
}

const ROWS = [
  [1, 0.5],
  [-1, 2],
  [0.25, -0.75],
];

describe('MultiheadAttention', () => {
  test('is softmax(q kᵀ / sqrt(d)) v, with and without the weights', () => {
    const attention = plainAttention(2, 1);
    const x = tensor([ROWS]);
    const expected = attend(ROWS, () => true).flat();
    const [output, weights] = attention.forward(x, x, x);
    expectClose(output, expected);
    expectClose((weights as Tensor).sum(-1), [1, 1, 1]);
    const [again, none] = attention.forward(x, x, x, { needWeights: false });
    expectClose(again, expected);
    expect(none).toBeNull();
    // Other tensors of the same values take the path of separate projections.
    const [separate] = attention.forward(x, tensor([ROWS]), tensor([ROWS]));
    expectClose(separate, expected);
  });

  test('heads see a share of the embedding each', () => {
    const [output] = plainAttention(2, 2).forward(tensor([ROWS]), tensor([ROWS]), tensor([ROWS]));
    const columns = [0, 1].map((d) =>
      attend(
        ROWS.map((row) => [row[d] ?? 0]),
        () => true,
      ).flat(),
    );
    expectClose(
      output,
      ROWS.flatMap((_, i) => columns.map((column) => column[i] ?? NaN)),
    );
  });

  test('causal, bool, float and padding masks', () => {
    const attention = plainAttention(2, 1);
    const x = tensor([ROWS]);
    const causal = attend(ROWS, (i, j) => j <= i).flat();
    const future = tensor(
      [
        [0, 1, 1],
        [0, 0, 1],
        [0, 0, 0],
      ],
      { dtype: 'bool' },
    );
    const added = tensor([
      [0, -Infinity, -Infinity],
      [0, 0, -Infinity],
      [0, 0, 0],
    ]);
    for (const options of [{ isCausal: true }, { attnMask: future }, { attnMask: added }]) {
      for (const needWeights of [true, false]) {
        expectClose(attention.forward(x, x, x, { ...options, needWeights })[0], causal);
      }
    }
    const keyPaddingMask = tensor([[false, true, false]]);
    const padded = attend(ROWS, (_, j) => j !== 1).flat();
    expectClose(attention.forward(x, x, x, { keyPaddingMask })[0], padded);
    const both = attend(ROWS, (i, j) => j <= i && j !== 1).flat();
    expectClose(attention.forward(x, x, x, { keyPaddingMask, attnMask: future })[0], both);
  });

  test('layouts: batch first, sequence first, no batch', () => {
    manualSeed(1);
    const first = new nn.MultiheadAttention(4, 2, { batchFirst: true });
    const second = new nn.MultiheadAttention(4, 2);
    second.loadStateDict(first.stateDict());
    const x = randn([2, 3, 4]);
    const [expected] = first.forward(x, x, x);
    const turned = x.transpose(0, 1);
    const [other, weights] = second.forward(turned, turned, turned);
    expectClose(other.transpose(0, 1), values(expected));
    expect(weights?.shape).toEqual([2, 3, 3]);
    const row = x.select(0, 1);
    const [single, singleWeights] = first.forward(row, row, row, { averageAttnWeights: false });
    expectClose(single, values(expected.select(0, 1)));
    expect(singleWeights?.shape).toEqual([2, 3, 3]);
  });

  test('parameters by PyTorch names, also with other sizes of keys and values', () => {
    expect(Object.keys(new nn.MultiheadAttention(4, 2).stateDict())).toEqual([
      'in_proj_weight',
      'in_proj_bias',
      'out_proj.weight',
      'out_proj.bias',
    ]);
    const other = new nn.MultiheadAttention(4, 2, { kdim: 3, vdim: 5, bias: false });
    expect(Object.entries(other.stateDict()).map(([name, { shape }]) => [name, shape])).toEqual([
      ['q_proj_weight', [4, 4]],
      ['k_proj_weight', [4, 3]],
      ['v_proj_weight', [4, 5]],
      ['out_proj.weight', [4, 4]],
    ]);
    const [output] = other.forward(randn([7, 2, 4]), randn([6, 2, 3]), randn([6, 2, 5]));
    expect(output.shape).toEqual([7, 2, 4]);
  });

  test('what does not fit is refused', () => {
    expect(() => new nn.MultiheadAttention(5, 2)).toThrow(ArgumentError);
    const x = randn([2, 3, 5]);
    expect(() => new nn.MultiheadAttention(4, 2).forward(x, x, x)).toThrow(ShapeError);
  });
});

describe('transformer layers', () => {
  test('encoder: names, both orders of normalization, gradients everywhere', () => {
    const options = { dimFeedforward: 6, dropout: 0, batchFirst: true };
    const layer = new nn.TransformerEncoderLayer(4, 2, options);
    expect(Object.keys(layer.stateDict())).toEqual([
      'self_attn.in_proj_weight',
      'self_attn.in_proj_bias',
      'self_attn.out_proj.weight',
      'self_attn.out_proj.bias',
      'linear1.weight',
      'linear1.bias',
      'linear2.weight',
      'linear2.bias',
      'norm1.weight',
      'norm1.bias',
      'norm2.weight',
      'norm2.bias',
    ]);
    const x = randn([2, 3, 4]);
    const after = layer.forward(x, { isCausal: true });
    // The last step is a normalization: each position has mean 0.
    for (const mean of values(after.mean(-1))) expect(mean).toBeCloseTo(0, 5);
    after.square().sum().backward();
    for (const [name, parameter] of layer.namedParameters()) {
      expect(parameter.grad, name).not.toBeNull();
    }
    const before = new nn.TransformerEncoderLayer(4, 2, { ...options, normFirst: true });
    expect(before.forward(x).shape).toEqual([2, 3, 4]);
  });

  test('encoder: the future does not change the past', () => {
    manualSeed(2);
    const make = (): nn.TransformerEncoderLayer =>
      new nn.TransformerEncoderLayer(4, 2, { dimFeedforward: 6, batchFirst: true });
    const encoder = new nn.TransformerEncoder(make, 2, { norm: new nn.LayerNorm(4) }).eval();
    expect(Object.keys(encoder.stateDict())).toContain('layers.1.self_attn.in_proj_weight');
    const x = randn([1, 3, 4]);
    const changed = x.mul(tensor([[[1], [1], [5]]]));
    const [a, b] = [x, changed].map((input) => values(encoder.forward(input, { isCausal: true })));
    expect(a?.slice(0, 8)).toEqual(b?.slice(0, 8));
    expect(a?.slice(8)).not.toEqual(b?.slice(8));
  });

  test('decoder: names and shapes', () => {
    const layer = new nn.TransformerDecoderLayer(4, 2, { dimFeedforward: 6, batchFirst: true });
    const names = Object.keys(layer.stateDict());
    expect(names).toHaveLength(18);
    expect(names).toContain('multihead_attn.in_proj_weight');
    const output = layer.forward(randn([2, 3, 4]), randn([2, 5, 4]), { tgtIsCausal: true });
    expect(output.shape).toEqual([2, 3, 4]);
  });
});
