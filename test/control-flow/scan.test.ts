// `scan`: values against the loop written out, trees, closures, and what is refused.
import { describe, expect, test } from 'vitest';
import {
  cond,
  configure,
  grad,
  manualSeed,
  nn,
  noGrad,
  randn,
  scan,
  setDefaultDevice,
  tensor,
  whileLoop,
  zeros,
  type Tensor,
} from 'tengen';
import 'tengen/interp';
import 'tengen/native';
import { engine } from '../../src/interface/tensor/engine.ts';
import { checkLeaks, expectValues, ints } from '../interface/support.ts';
import { asList, cellOf, DEVICES, network, writtenOut } from './support.ts';

configure({ device: 'wasm', numerics: 'strict' });
checkLeaks();

describe('values', () => {
  test('a recurrent network, bit for bit, in both directions', () => {
    const [h0, xs, w, u] = network();
    const cell = cellOf(w, u);
    for (const reverse of [false, true]) {
      const [last, all] = scan(
        (h, x: Tensor) => {
          const next = cell(h, x);
          return [next, next];
        },
        h0,
        xs,
        { reverse },
      );
      const states = writtenOut(cell, h0, xs, reverse);
      if (reverse) states.reverse();
      expect(all.shape).toEqual([5, 2, 4]);
      states.forEach((state, i) => expect(asList(all.at(i))).toEqual(asList(state)));
      expect(asList(last)).toEqual(asList(states.at(reverse ? 0 : -1)!));
    }
  });

  test('trees, nothing to go through, nothing kept', () => {
    const [last, kept] = scan(
      ({ a, b }: { a: Tensor; b: Tensor[] }) => [{ a: b[0]!, b: [a.add(b[0]!)] }, null],
      { a: tensor(0), b: [tensor(1)] },
      null,
      { length: 10 },
    );
    expect(kept).toBeNull();
    expectValues(last.a, 55);
    expectValues(last.b[0]!, 89);
    const [, sums] = scan(
      (c: null, { x, y }: { x: Tensor; y: Tensor }) => [c, [x.add(y), { product: x.mul(y) }]],
      null,
      { x: tensor([1, 2]), y: ints([3, 4]) },
    );
    const [sum, { product }] = sums as unknown as [Tensor, { product: Tensor }];
    expectValues(sum, [4, 6]);
    expectValues(product, [3, 8]);
  });

  test('carries that change places, stay, or are replaced by what stands around', () => {
    const outer = tensor([7, 7]);
    const [[a, b, c, d]] = scan(
      ([p, q, r]: Tensor[]) => [[q!, p!, r!, outer], null],
      [tensor([1, 1]), tensor([2, 2]), tensor([3, 3]), tensor([0, 0])],
      null,
      { length: 3 },
    );
    expectValues(a!, [2, 2]);
    expectValues(b!, [1, 1]);
    expectValues(c!, [3, 3]);
    expectValues(d!, [7, 7]);
  });

  test('no iteration, one, and tensors without elements', () => {
    const body = (s: Tensor, x: Tensor) => [s.add(x), s.mul(2)] as const;
    const [none, nothing] = scan(body, tensor([1, 2]), zeros(0, 2));
    expectValues(none, [1, 2]);
    expect(nothing.shape).toEqual([0, 2]);
    const [one, kept] = scan(body, tensor([1, 2]), tensor([[3, 4]]));
    expectValues(one, [4, 6]);
    expectValues(kept, [[2, 4]]);
    const [empty, rows] = scan(body, zeros(0), zeros(3, 0));
    expect([empty.shape, rows.shape]).toEqual([[0], [3, 0]]);
    expect(empty.arraySync()).toEqual([]);
    expect(rows.arraySync()).toEqual([[], [], []]);
    const slope = grad((w: Tensor) => scan(body, w, zeros(0, 2))[0].sum());
    expectValues(slope(tensor([1, 2])), [1, 1]);
  });

  test('within each other, with a choice inside', () => {
    const table = tensor([
      [1, 2, 3],
      [4, -5, 6],
    ]);
    const [total, rows] = scan(
      (sum: Tensor, row: Tensor) => {
        const [inner, parts] = scan(
          (s: Tensor, x: Tensor) => {
            const next = cond(
              x.gt(0),
              () => s.add(x),
              () => s.sub(x.mul(sum)),
            );
            return [next, next];
          },
          tensor(0),
          row,
        );
        return [sum.add(inner), parts];
      },
      tensor(10),
      table,
    );
    expectValues(rows, [
      [1, 3, 6],
      [4, 84, 90],
    ]);
    expectValues(total, 106);
  });

  test.each(DEVICES)('what attention and layers do inside, on %s', (device) => {
    setDefaultDevice(device);
    try {
      manualSeed(5);
      const attention = new nn.MultiheadAttention(8, 2, { batchFirst: true });
      const norm = new nn.LayerNorm(8);
      const x = randn(2, 3, 8);
      const block = (h: Tensor): Tensor =>
        norm.forward(h.add(attention.forward(h, h, h, { needWeights: false })[0] as Tensor));
      const [out] = scan((h: Tensor) => [block(h), null], x, null, { length: 3 });
      const expected = block(block(block(x)));
      expect(asList(out)).toEqual(asList(expected));
    } finally {
      setDefaultDevice('wasm');
    }
  });
});

describe('what is refused', () => {
  const x = tensor([1, 2, 3]);
  test.each([
    [
      'another shape',
      () => scan((s: Tensor, v: Tensor) => [s.add(v).reshape([1]), null], tensor(0), x),
      /scan: carry is float32 \[\] in init and float32 \[1\] in what the function returns/,
    ],
    [
      'another dtype',
      () => scan(({ n }: { n: Tensor }) => [{ n: n.mul(0.5) }, null], { n: ints(1) }, x),
      /carry\.n is int32 \[\] in init and float32 \[\]/,
    ],
    [
      'another tree',
      () => scan((s: Tensor[]) => [[...s, s[0]!], null], [tensor(0)], x),
      /init has nothing where what the function returns has carry\[1\]/,
    ],
    [
      'sizes that differ',
      () => scan((s: Tensor) => [s, null], x, [x, zeros(2)]),
      /xs\[1\] has 2 parts/,
    ],
    ['a scalar', () => scan((s: Tensor) => [s, null], x, tensor(1)), /xs is a scalar/],
    ['another length', () => scan((s: Tensor) => [s, null], x, x, { length: 4 }), /length is 4/],
    ['no length', () => scan((s: Tensor) => [s, null], x, null), /pass \{ length \}/],
    [
      'a number',
      () => scan((s: number) => [s, null], 1, x),
      /carry is 1, not a tensor.*tensor\(\)/s,
    ],
    [
      'no pair',
      () => scan(((s: Tensor) => s) as never, x, x),
      /the function returned Tensor.*return \[carry, value\]/s,
    ],
    ['a negative length', () => scan((s: Tensor) => [s, null], x, null, { length: -1 }), /length/],
    [
      'reading a value',
      () => scan((s: Tensor) => [s.itemSync() === 0 ? s : s.add(1), null], tensor(0), x),
      /known only while the loop runs.*cond\(\)/s,
    ],
    [
      'an assignment',
      () => {
        const p = new nn.Parameter(tensor(1));
        return scan((s: Tensor) => [s.add(p.assign(s)), null], tensor(0), x);
      },
      /assigned to inside a loop/,
    ],
  ] as [string, () => unknown, RegExp][])('%s', (_name, run, message) => {
    expect(run).toThrow(message);
    // Nothing of it is left behind.
    engine().step();
  });

  test('after an error things go on', () => {
    expect(() =>
      scan(
        () => {
          throw new Error('mine');
        },
        x,
        x,
      ),
    ).toThrow('mine');
    expectValues(x.add(1), [2, 3, 4]);
    expectValues(
      noGrad(() => scan((s: Tensor, v: Tensor) => [s.add(v), null], tensor(0), x))[0],
      6,
    );
    expectValues(
      whileLoop(
        (v: Tensor) => v.lt(5),
        (v: Tensor) => v.add(1),
        tensor(0),
      ),
      5,
    );
  });
});
