// Attention that does not store its scores, against softmax(q kᵀ) v written out.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  eye,
  F,
  Generator,
  grad,
  manualSeed,
  ones,
  randn,
  tensor,
  type Tensor,
  valueAndGrad,
  where,
  zeros,
} from 'tengen';
import * as ops from '../../src/graph/ops/index.ts';
import { tensorOn } from '../../src/interface/tensor/handle.ts';
import { sourceOf } from '../../src/interface/tensor/random.ts';
import type { AttentionOptions } from '../../src/interface/functional/attention.ts';
import { checkLeaks } from './support.ts';

checkLeaks();

/** The composite; `seen`: bool, or numbers to add. */
function composite(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const scale = options.scale ?? 1 / Math.sqrt(q.shape.at(-1)!);
  let scores = q.matmul(k.transpose(-2, -1)).mul(scale);
  const { isCausal, attnMask } = options;
  const [queries = 0, keys = 0] = scores.shape.slice(-2);
  const mask = isCausal === true ? ones([queries, keys]).tril().bool() : attnMask;
  if (mask?.dtype === 'bool') scores = scores.maskedFill(mask.logicalNot(), -Infinity);
  else if (mask !== undefined && mask !== null) scores = scores.add(mask);
  return F.softmax(scores, -1).matmul(v);
}

function expectSame(actual: Tensor, expected: Tensor, what: string, tolerance = 2e-5): void {
  expect(actual.shape, what).toEqual(expected.shape);
  const [found, wanted] = [actual.dataSync(), expected.dataSync()];
  for (let i = 0; i < wanted.length; i++) {
    const [a, e] = [Number(found[i]), Number(wanted[i])];
    if (Object.is(a, e) || Math.abs(a - e) <= tolerance * (1 + Math.abs(e))) continue;
    expect.fail(`${what}, element ${i}: ${a}, expected ${e}`);
  }
}

/** Result and gradients of both ways, for a cotangent that differs everywhere. */
function expectAgreement(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  options: AttentionOptions,
  what: string,
): void {
  const cotangent = randn([...F.scaledDotProductAttention(q, k, v, options).shape]);
  const both = [F.scaledDotProductAttention, composite].map((attend) =>
    valueAndGrad(
      (a: Tensor, b: Tensor, c: Tensor) => attend(a, b, c, options).mul(cotangent).sum(),
      {
        argnums: [0, 1, 2],
      },
    )(q, k, v),
  );
  expectSame(F.scaledDotProductAttention(q, k, v, options), composite(q, k, v, options), what);
  const [found = [], wanted = []] = both.map(({ grads }) => grads);
  found.forEach((x, i) => expectSame(x, wanted[i]!, `${what}, gradient ${i}`, 1e-4));
}

describe('fused attention', () => {
  test('any shapes, masks and batches', () => {
    const size = fc.integer({ min: 1, max: 20 });
    fc.assert(
      fc.property(
        fc.record({
          queries: fc.integer({ min: 20, max: 140 }),
          keys: fc.integer({ min: 1, max: 140 }),
          size,
          valueSize: size,
          mode: fc.constantFrom('none', 'causal', 'bool', 'float', 'keys'),
          seed: fc.integer({ min: 0, max: 1000 }),
        }),
        ({ queries, keys, size: e, valueSize, mode, seed }) => {
          manualSeed(seed);
          const noise = randn([2, 1, queries, keys]);
          const masks: Record<string, Tensor> = {
            // The first key is seen by all: a query that sees none gives NaN.
            bool: noise.gt(0).logicalOr(tensor([...Array(keys).keys()]).eq(0)),
            float: noise,
            keys: randn([2, 1, 1, keys]),
          };
          const options = { isCausal: mode === 'causal', attnMask: masks[mode] ?? null };
          expectAgreement(
            randn([2, 3, queries, e]),
            randn([2, 3, keys, e]),
            randn([2, 3, keys, valueSize]),
            options,
            `${queries} queries, ${keys} keys, ${mode}`,
          );
        },
      ),
      { numRuns: 8, seed: 1 },
    );
  }, 120_000);

  test('keys of several blocks and grid items', () => {
    manualSeed(3);
    const [q, k, v] = [randn([70, 5]), randn([600, 5]), randn([600, 3])];
    expectAgreement(q, k, v, {}, 'two parts');
    expectAgreement(k, k, v, { isCausal: true, scale: 0.3 }, 'causal, two parts');
  });

  test('batches broadcast: queries in groups, keys shared', () => {
    manualSeed(4);
    const [q, k, v] = [randn([2, 3, 33, 4]), randn([2, 1, 10, 4]), randn([10, 4])];
    expectAgreement(q, k, v, {}, 'grouped');
  });

  test('views and fused inputs', () => {
    manualSeed(5);
    const packed = randn([2, 35, 3, 2, 4]);
    const [q, k, v] = packed.permute(2, 0, 3, 1, 4).unbind(0) as [Tensor, Tensor, Tensor];
    expectAgreement(q.mul(2), k.add(1), v.transpose(-2, -1).exp().transpose(-2, -1), {}, 'views');
  });

  test('float64 and halves', () => {
    manualSeed(6);
    const [q, k, v] = [0, 1, 2].map(() => randn([2, 66, 4], { dtype: 'float64' }));
    const found = F.scaledDotProductAttention(q!, k!, v!, { isCausal: true });
    expectSame(found, composite(q!, k!, v!, { isCausal: true }), 'float64', 1e-12);
    const half = F.scaledDotProductAttention(q!.half(), k!.half(), v!.half());
    expect(half.dtype).toBe('float16');
    expectSame(half.float(), composite(q!, k!, v!).float(), 'float16', 4e-3);
  });

  test('large scores, hidden blocks, and queries that see nothing', () => {
    const q = zeros([32, 2]).add(tensor([100, -100]));
    const k = tensor(Array.from({ length: 130 }, (_, i) => [i % 7, i % 3]));
    expectSame(F.scaledDotProductAttention(q, k, k), composite(q, k, k), 'large');
    // The first 64 keys are hidden from all, and the last query sees nothing.
    const mask = zeros([32, 130])
      .add(1)
      .mul(tensor([...Array(130).keys()]).ge(64))
      .bool();
    const last = tensor([...Array(32).keys()]).lt(31);
    const all = mask.logicalAnd(last.reshape(32, 1));
    const result = F.scaledDotProductAttention(q, k, k, { attnMask: all });
    const expected = composite(q, k, k, { attnMask: mask });
    expectSame(result.narrow(0, 0, 31), expected.narrow(0, 0, 31), 'hidden');
    expect(Array.from(result.at(31).dataSync())).toEqual([NaN, NaN]);
  });

  test('empty inputs', () => {
    expect(
      F.scaledDotProductAttention(zeros(0, 40, 2), zeros(0, 5, 2), zeros(0, 5, 3)).shape,
    ).toEqual([0, 40, 3]);
    const none = F.scaledDotProductAttention(zeros(40, 2), zeros(0, 2), zeros(0, 3));
    expect(none.shape).toEqual([40, 3]);
  });

  test('gradients of gradients, and of a mask', () => {
    manualSeed(7);
    const [q, k, v, mask] = [randn([33, 3]), randn([10, 3]), randn([10, 2]), randn([33, 10])];
    const [cotangent, other] = [randn([33, 2]), randn([33, 3])];
    const ways = [F.scaledDotProductAttention, composite].map((attend) => {
      const loss = (a: Tensor, b: Tensor, c: Tensor, m: Tensor): Tensor =>
        attend(a, b, c, { attnMask: m }).mul(cotangent).sum();
      const slope = grad(loss, { createGraph: true });
      const byMask = grad(loss, { argnums: [3] });
      const second = valueAndGrad(
        (a: Tensor, b: Tensor, c: Tensor) => slope(a, b, c, mask).mul(other).sum(),
        { argnums: [0, 1, 2] },
      );
      return [byMask(q, k, v, mask), ...second(q, k, v).grads];
    });
    const [found = [], wanted = []] = ways;
    found.forEach((x, i) => expectSame(x as Tensor, wanted[i] as Tensor, `result ${i}`, 1e-4));
  });
});

describe('gradient of a mask', () => {
  test('of every shape that broadcasts, as stored scores have it', () => {
    manualSeed(21);
    const [queries, keys] = [40, 70];
    const q = randn([2, 2, queries, 5]);
    const [k, v] = [randn([2, 2, keys, 5]), randn([2, 2, keys, 4])];
    const cotangent = randn([2, 2, queries, 4]);
    const shapes = [
      [2, 2, queries, keys],
      [2, 1, 1, keys],
      [queries, keys],
      [1, keys],
      [queries, 1],
      [2, 1, 1],
    ];
    for (const shape of shapes) {
      const mask = randn(shape);
      const [found, wanted] = [F.scaledDotProductAttention, composite].map((attend) => {
        const loss = (a: Tensor, m: Tensor): Tensor =>
          attend(a, k, v, { attnMask: m }).mul(cotangent).sum();
        return valueAndGrad(loss, { argnums: [0, 1] })(q, mask).grads;
      });
      found!.forEach((x, i) => expectSame(x, wanted![i]!, `[${shape.join()}], input ${i}`, 5e-5));
    }
    expect(() => F.scaledDotProductAttention(q, k, v, { attnMask: zeros(queries, 3) })).toThrow(
      'attnMask [40,3] is not for [2,2,40,70]',
    );
  }, 60_000);

  test('of gradients, and with what dropout leaves', () => {
    manualSeed(22);
    const [q, k, v] = [randn([2, 33, 3]), randn([2, 9, 3]), randn([2, 9, 2])];
    const [mask, cotangent, other] = [randn([1, 9]), randn([2, 33, 2]), randn([1, 9])];
    const [found, wanted] = [F.scaledDotProductAttention, composite].map((attend) => {
      const slope = (a: Tensor, m: Tensor): Tensor => {
        const loss = (n: Tensor): Tensor => attend(a, k, v, { attnMask: n }).mul(cotangent).sum();
        return grad(loss, { createGraph: true })(m).mul(other).sum();
      };
      return valueAndGrad(slope, { argnums: [0, 1] })(q, mask).grads;
    });
    found!.forEach((x, i) => expectSame(x, wanted![i]!, `input ${i}`, 1e-4));
    // With the same draws, a step along the mask changes the loss as the gradient says.
    const loss = (m: Tensor): Tensor =>
      F.scaledDotProductAttention(q, k, v, {
        attnMask: m,
        dropoutP: 0.3,
        generator: new Generator(3),
      })
        .mul(cotangent)
        .sum();
    const slope = grad(loss)(mask).mul(other).sum().itemSync();
    const [up, down] = [mask.add(other.mul(1e-2)), mask.sub(other.mul(1e-2))].map(loss);
    const difference = (up!.itemSync() - down!.itemSync()) / 2e-2;
    expect(Math.abs(slope - difference)).toBeLessThan(2e-3 * (1 + Math.abs(slope)));
  });
});

describe('dropout of weights', () => {
  /** With the identity as values the result is the weights themselves. */
  function weightsOf(length: number, dropoutP: number, seed = 5): Tensor {
    const generator = new Generator(seed);
    const q = tensor(
      Float32Array.from({ length: length * 4 }, (_, i) => Math.sin(i)),
      {
        shape: [1, length, 4],
      },
    );
    const k = q.mul(0.5).flip(1);
    return F.scaledDotProductAttention(q, k, eye(length).unsqueeze(0), { dropoutP, generator });
  }

  test.each([
    ['stored scores', 21],
    ['blocks', 75],
  ])('%s: each weight is 0 or raised, and repeats with its seed', (_name, length) => {
    const plain = weightsOf(length, 0);
    const dropped = weightsOf(length, 0.25);
    const isZero = dropped.eq(0);
    const raised = plain.div(0.75);
    const error = where(isZero, 0, dropped.sub(raised)).abs().amax();
    expect(error.itemSync()).toBeLessThan(1e-6);
    expect(isZero.float().mean().itemSync()).toBeCloseTo(0.25, 1);
    expect(dropped.sub(weightsOf(length, 0.25)).abs().amax().itemSync()).toBe(0);
    expect(
      dropped
        .eq(0)
        .eq(weightsOf(length, 0.25, 6).eq(0))
        .all()
        .itemSync(),
    ).toBe(0);
    expect(weightsOf(length, 1).abs().amax().itemSync()).toBe(0);
  });

  test('blocks drop what stored scores drop, forward and backward', () => {
    const seed = 9;
    const shape = [2, 40, 3];
    const make = (by: number): Tensor =>
      tensor(
        Float32Array.from({ length: 240 }, (_, i) => Math.cos(by * i)),
        { shape },
      );
    const inputs = [make(0.3), make(0.7), make(1.1)] as const;
    const blocks = gradsOf((q, k, v) => {
      const options = { dropoutP: 0.3, generator: new Generator(seed) };
      return F.scaledDotProductAttention(q, k, v, options).square().sum();
    }, inputs);
    const stored = gradsOf((q, k, v) => {
      const generator = new Generator(seed);
      const scores = q.matmul(k.transpose()).div(Math.sqrt(3));
      const kept = tensorOn(
        ops.keptFactors([2, 40, 40], 'float32', 0.3, sourceOf(3200, generator)),
      );
      return F.softmax(scores, -1).mul(kept).matmul(v).square().sum();
    }, inputs);
    blocks.forEach((found, i) => {
      expect(found.sub(stored[i]!).abs().amax().itemSync()).toBeLessThan(2e-5);
    });
  });

  test('a probability is one', () => {
    const x = zeros([2, 3]);
    expect(() => F.scaledDotProductAttention(x, x, x, { dropoutP: 1.5 })).toThrow('in [0, 1]');
  });
});

function gradsOf(
  fn: (q: Tensor, k: Tensor, v: Tensor) => Tensor,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
): readonly Tensor[] {
  return [
    grad((x: Tensor) => fn(x, k, v))(q),
    grad((x: Tensor) => fn(q, x, v))(k),
    grad((x: Tensor) => fn(q, k, x))(v),
  ];
}
