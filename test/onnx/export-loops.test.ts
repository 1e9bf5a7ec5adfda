// Loops, choices and recurrent layers, written and read back: one node each, and the same bits again.
import {
  cond,
  F,
  grad,
  manualSeed,
  nn,
  randn,
  scan,
  setNumerics,
  tensor,
  Tensor,
  whileLoop,
  zeros,
} from 'tengen';
import { matrixExp, qr } from 'tengen/linalg';
import { load, toBytes, UnsupportedError, type ExportOptions } from 'tengen/onnx';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type GraphProto, modelProto } from '../../src/interface/onnx/messages.ts';

beforeEach(() => {
  manualSeed(7);
  setNumerics('strict');
});
afterEach(() => setNumerics('fast'));

const tensorsOf = (value: unknown): Tensor[] => {
  if (value instanceof Tensor) return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(tensorsOf) : [];
};

const allOps = ({ node }: GraphProto): string[] =>
  node.flatMap(({ opType = '', attribute }) => [
    opType,
    ...attribute.flatMap(({ g }) => (g === undefined ? [] : allOps(g).map((name) => `.${name}`))),
  ]);

type Target = nn.Module | ((...xs: Tensor[]) => unknown);

const callOf = (target: Target) =>
  target instanceof nn.Module
    ? (target.forward.bind(target) as (...xs: Tensor[]) => unknown)
    : target;

/** Writes, reads back, and compares at several inputs; returns what the file holds. */
async function check(
  target: Target,
  inputs: readonly (readonly Tensor[])[],
  options: Omit<ExportOptions, 'inputs'> = {},
): Promise<string[]> {
  const first = inputs[0] as readonly Tensor[];
  const inputNames = first.map((_, i) => `x${i}`);
  const bytes = await toBytes(target, { inputs: first, inputNames, ...options });
  const back = await load(bytes);
  for (const xs of inputs) {
    const given = Object.fromEntries(xs.map((x, i) => [`x${i}`, x]));
    const got = Object.values(back.run(given)).map((x) => x.arraySync());
    expect(got).toEqual(tensorsOf(callOf(target)(...xs)).map((x) => x.arraySync()));
  }
  return allOps(modelProto.decode(bytes).graph as GraphProto);
}

const count = (ops: readonly string[], name: string): number =>
  ops.filter((op) => op === name).length;

describe('recurrent layers', () => {
  test('are one node a layer and direction', async () => {
    const gru = new nn.GRU(3, 4, { batchFirst: true, numLayers: 2, bidirectional: true }).eval();
    const ops = await check(gru, [[randn([2, 9, 3])], [randn([3, 9, 3])]], {
      dynamicAxes: { x0: { 0: 'batch' } },
    });
    expect(count(ops, 'GRU')).toBe(4);
    expect(ops).not.toContain('Scan');
  });

  test('over any number of steps', async () => {
    const lstm = new nn.LSTM(3, 4).eval();
    const inputs = [[randn([12, 2, 3])], [randn([2, 1, 3])], [randn([30, 3, 3])]];
    const ops = await check(lstm, inputs, { dynamicAxes: { x0: { 0: 'time', 1: 'batch' } } });
    expect(count(ops, 'LSTM')).toBe(1);
  });

  test.each(['tanh', 'relu'] as const)('of %s', async (nonlinearity) => {
    const rnn = new nn.RNN(3, 4, { nonlinearity, bias: false }).eval();
    expect(count(await check(rnn, [[randn([12, 2, 3])]]), 'RNN')).toBe(1);
  });

  test('from given states, over sequences of different lengths', async () => {
    const weights = [randn([16, 3]), randn([16, 4])];
    const fn = (x: Tensor, h: Tensor, c: Tensor) =>
      F.lstm(x, [h, c], weights, { bias: false, lengths: [12, 5, 1] });
    const ops = await check(fn, [[randn([12, 3, 3]), randn([1, 3, 4]), randn([1, 3, 4])]]);
    expect(count(ops, 'LSTM')).toBe(1);
  });

  test('that ONNX has no op for are a Scan', async () => {
    const projected = new nn.LSTM(3, 6, { projSize: 2 }).eval();
    expect(count(await check(projected, [[randn([12, 2, 3])]]), 'Scan')).toBe(1);
    const weights = [randn([12, 3]).double(), randn([12, 4]).double()];
    const wide = (x: Tensor) => F.gru(x, [], weights, { bias: false });
    expect(count(await check(wide, [[randn([12, 2, 3]).double()]]), 'Scan')).toBe(1);
  });

  test('with their gradients', async () => {
    const weights = [randn([8, 3]), randn([8, 8])];
    const loss = (x: Tensor) => F.rnnTanh(x, [], weights, { bias: false })[0].square().mean();
    const ops = await check((x: Tensor) => grad(loss)(x), [[randn([12, 2, 3])]]);
    expect(count(ops, 'Scan')).toBe(2);
  });
});

describe('scan', () => {
  const w = randn([4, 4]).mul(0.5);
  const step = (h: Tensor, x: Tensor) => {
    const next = h.matmul(w).add(x).tanh();
    return [next, { twice: next.mul(2), sum: next.sum() }] as const;
  };

  test('is a Scan, in either direction, of any length', async () => {
    for (const reverse of [false, true]) {
      const fn = (xs: Tensor) => scan(step, zeros([3, 4]), xs, { reverse });
      const inputs = [15, 9, 3].map((length) => [randn([length, 3, 4])]);
      const ops = await check(fn, inputs, { dynamicAxes: { x0: [0] } });
      expect(ops).toEqual(expect.arrayContaining(['Scan', '.Gemm', '.Tanh', '.Mul', '.ReduceSum']));
    }
  });

  test('over nothing is a Loop', async () => {
    const times = (x: Tensor, reverse: boolean) =>
      scan((h: Tensor) => [h.mul(1.5), h.sum()] as const, x, null, { length: 11, reverse });
    for (const reverse of [false, true]) {
      expect(await check((x) => times(x, reverse), [[randn([3])]])).toContain('Loop');
    }
  });

  test('leaves out what nobody asks for, and checks of indices', async () => {
    const fn = (xs: Tensor) => {
      const body = (carry: readonly Tensor[], x: Tensor) => {
        const [a, b] = carry as [Tensor, Tensor];
        const picked = xs.indexSelect(0, x.argmax().reshape([1])).sum();
        return [[a.add(picked), b.exp()], x.erfinv()] as const;
      };
      return scan(body, [tensor(0), tensor(0)] as readonly Tensor[], xs)[0][0];
    };
    const ops = await check(fn, [[randn([10, 4])]]);
    expect(ops).not.toContain('.Exp');
    expect(count(ops, 'Scan')).toBe(1);
  });

  test('has attention inside', async () => {
    const fn = (xs: Tensor) =>
      scan(
        (h: Tensor, x: Tensor) => {
          const next = F.scaledDotProductAttention(h, x, x, { isCausal: true }).add(x);
          return [next, next.sum()] as const;
        },
        zeros([xs.shape[1] as number, 4]),
        xs,
      );
    const inputs = [[randn([10, 40, 4])], [randn([3, 9, 4])]];
    const ops = await check(fn, inputs, { dynamicAxes: { x0: [0, 1] } });
    expect(ops).toContain('.ScaledDotProductAttentionCausal');
  });
});

describe('whileLoop', () => {
  test('is a Loop that ends by its condition', async () => {
    const fn = (x: Tensor) =>
      whileLoop(
        (v: Tensor) => v.sum().abs().lt(1000),
        (v: Tensor) => v.mul(1.7),
        x,
      );
    const inputs = [[tensor([1, 2])], [tensor([500, 600])], [tensor([-3, 0.5])]];
    const ops = await check(fn, inputs);
    expect(ops.filter((op) => !op.startsWith('.'))).toEqual(['ReduceSum', 'Abs', 'Less', 'Loop']);
  });

  test('is bounded, and counts', async () => {
    const fn = (x: Tensor) =>
      whileLoop(
        ({ v }) => v.lt(1000),
        ({ v, n }) => ({ v: v.mul(3), n: n.add(1) }),
        { v: x, n: tensor(0, { dtype: 'int32' }) },
        { maxIterations: 12 },
      );
    await check(fn, [[tensor(1)], [tensor(0.001)], [tensor(2000)]]);
  });

  test('searches token by token', async () => {
    const logits = randn([10, 10]);
    const places = tensor([0, 1, 2, 3, 4, 5, 6, 7]);
    const fn = (start: Tensor) =>
      whileLoop(
        ({ token, at }) => token.ne(0).logicalAnd(at.lt(8)),
        ({ tokens, token, at }) => {
          const next = logits
            .indexSelect(0, token.reshape([1]))
            .argmax(-1)
            .reshape([]);
          const written = places.eq(at).where(next, tokens);
          return { tokens: written, token: next, at: at.add(1) };
        },
        { tokens: zeros([8], { dtype: 'int32' }), token: start, at: tensor(0) },
      ).tokens;
    const starts = [1, 4, 7, 0].map((token) => [tensor(token, { dtype: 'int32' })]);
    expect(await check(fn, starts)).toContain('Loop');
  });

  test('that keeps values of each round is refused', async () => {
    const f = (x: Tensor) =>
      whileLoop(
        (v: Tensor) => v.sum().lt(100),
        (v: Tensor) => v.mul(v).add(1),
        x,
        { maxIterations: 20 },
      ).sum();
    const attempt = toBytes((x: Tensor) => grad(f)(x), { inputs: [[3]] });
    await expect(attempt).rejects.toThrow(/each round of a loop that may end early/);
  });
});

describe('cond', () => {
  const w = randn([4, 4]);

  test('is an If', async () => {
    const fn = (x: Tensor) =>
      cond(
        x.sum().gt(0),
        (v: Tensor) => [v.exp(), v],
        (v: Tensor) => [v.matmul(w), v.neg()],
        [x],
      );
    const inputs = [[randn([2, 4])], [randn([3, 4]).abs()], [randn([5, 4]).abs().neg()]];
    const ops = await check(fn, inputs, { dynamicAxes: { x0: [0] } });
    expect(ops).toEqual(expect.arrayContaining(['If', '.Exp', '.MatMul', '.Neg']));
  });

  test('stands inside of loops, and loops in each other', async () => {
    const fn = (xs: Tensor) =>
      scan(
        (h: Tensor, x: Tensor) => {
          const next = whileLoop(
            (q: Tensor) => q.sum().lt(5),
            (q: Tensor) => q.add(x.abs()).add(0.1),
            h,
          );
          const kept = cond(
            next.sum().gt(6),
            () => next.mul(0.1),
            () => next.mul(0.2).add(w.sum()),
          );
          return [kept, next] as const;
        },
        zeros([4]),
        xs,
      );
    const ops = await check(fn, [[randn([10, 4])]]);
    expect(ops).toEqual(expect.arrayContaining(['Scan', '.Loop', '.If', '..Add', '..Mul']));
  });
});

test('what cannot be written inside is listed with the rest', async () => {
  const fn = (xs: Tensor) => {
    const [last] = scan(
      (h: Tensor, x: Tensor) => [h.add(matrixExp(x.reshape(2, 2)).reshape(4)), null] as const,
      zeros([4]),
      xs,
    );
    return qr(last.reshape(2, 2)).R;
  };
  const attempt = toBytes(fn, { inputs: [[10, 4]] }).catch((error: unknown) => error);
  const error = await attempt;
  expect(error).toBeInstanceOf(UnsupportedError);
  const { problems } = error as UnsupportedError;
  expect(problems.map((text) => text.split(' ')[0])).toEqual(
    expect.arrayContaining(['matrixExponential', 'qr']),
  );
  const inside = problems.find((text) => text.startsWith('matrixExponential'));
  expect(inside).toMatch(/export-loops\.test\.ts/);
});
