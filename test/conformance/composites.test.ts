// Functions made of primitives: values against formulas written down plainly, and gradients.
import { describe, expect, test } from 'vitest';
import { philoxBits, uniformFromBits } from '../../src/base/philox.ts';
import * as composites from '../../src/graph/composites/index.ts';
import type { Node } from '../../src/graph/node.ts';
import type { ReferenceTensor } from '../../src/graph/op.ts';
import { constant, type PoolWindow } from '../../src/graph/ops/index.ts';
import { distinctTensor, randomTensor } from '../../src/graph/ops/samples.ts';
import { checkGradients } from '../support/gradient-check.ts';
import { expectClose, leafFor, tensor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';

const NEAR = { relative: 1e-12, absolute: 1e-12 };

/** Evaluates a function of one leaf. */
function run(x: ReferenceTensor, build: (x: Node) => Node): ReferenceTensor {
  const leaf = leafFor(x);
  const node = build(leaf);
  return evaluateReference([node], new Map([[leaf, x]])).get(node)!;
}

function checkGradient(
  x: ReferenceTensor,
  build: (x: Node) => Node,
  what: string,
  order: 1 | 2 = 2,
) {
  const leaf = leafFor(x);
  checkGradients([build(leaf)], new Map([[leaf, x]]), { order }, what);
}

const random = (shape: readonly number[], seed = 1) =>
  randomTensor(shape, { dtype: 'float64', seed });

describe('softmax family', () => {
  test('softmax, its logarithm and the logarithm of its divisor agree with their formulas', () => {
    const x = random([3, 5]);
    const soft = run(x, (n) => composites.softmax(n, 1)).data;
    const logSoft = run(x, (n) => composites.logSoftmax(n, 1)).data;
    const total = run(x, (n) => composites.logSumExp(n, 1)).data;
    for (let row = 0; row < 3; row++) {
      const values = Array.from(x.data.slice(row * 5, row * 5 + 5));
      const sum = values.reduce((a, b) => a + Math.exp(b), 0);
      expectClose(total.slice(row, row + 1), [Math.log(sum)], NEAR, 'logSumExp');
      const expected = values.map((value) => Math.exp(value) / sum);
      expectClose(soft.slice(row * 5, row * 5 + 5), expected, NEAR, 'softmax');
      expectClose(logSoft.slice(row * 5, row * 5 + 5), expected.map(Math.log), NEAR, 'logSoftmax');
    }
  });

  test('nothing overflows, and infinite rows are as in PyTorch', () => {
    const x = tensor([3, 2], [1000, 999, -Infinity, 3, -Infinity, -Infinity]);
    const soft = run(x, (n) => composites.softmax(n, -1)).data;
    expectClose(
      soft.slice(0, 4),
      [1 / (1 + Math.exp(-1)), 1 / (1 + Math.E), 0, 1],
      NEAR,
      'softmax',
    );
    expect(Array.from(soft.slice(4))).toEqual([NaN, NaN]);
    const total = run(x, (n) => composites.logSumExp(n, 1)).data;
    expectClose(total, [1000 + Math.log(1 + Math.exp(-1)), 3, -Infinity], NEAR, 'logSumExp');
    const up = run(tensor([2], [Infinity, 1]), (n) => composites.logSumExp(n)).data;
    expect([...up]).toEqual([Infinity]);
  });

  test('gradients', () => {
    checkGradient(random([2, 4]), (n) => composites.softmax(n, 1), 'softmax');
    checkGradient(random([2, 3, 2]), (n) => composites.softmax(n, [0, 2]), 'softmax over two axes');
    checkGradient(random([2, 4]), (n) => composites.logSoftmax(n, 0), 'logSoftmax');
    checkGradient(random([2, 4]), (n) => composites.logSumExp(n, 1), 'logSumExp');
  });

  test('empty axes', () => {
    const x = tensor([2, 0], []);
    expect(run(x, (n) => composites.softmax(n, 1)).shape).toEqual([2, 0]);
    expect([...run(x, (n) => composites.logSumExp(n, 1)).data]).toEqual([-Infinity, -Infinity]);
  });
});

describe('moments', () => {
  test('one pass agrees with two', () => {
    const x = random([4, 3, 5]);
    const shifted = { ...x, data: x.data.map((value) => value + 1000) };
    const one = run(shifted, (n) => composites.moments(n, [0, 2]).variance);
    const two = run(shifted, (n) => composites.variance(n, [0, 2], 0, true));
    expect(one.shape).toEqual([1, 3, 1]);
    expectClose(one.data, two.data, { relative: 1e-9, absolute: 0 }, 'variance');
    const average = run(shifted, (n) => composites.moments(n, [0, 2]).mean).data;
    expectClose(average, run(shifted, (n) => composites.mean(n, [0, 2])).data, NEAR, 'mean');
  });

  test('gradients flow as if there were no shift', () => {
    checkGradient(random([4, 3]), (n) => composites.moments(n, 0).mean, 'mean');
    checkGradient(random([4, 3]), (n) => composites.moments(n, 0).variance, 'variance');
    checkGradient(random([4, 3]), (n) => composites.variance(n, 0), 'two-pass variance');
  });

  test('constant slices have variance 0, single elements NaN without bias', () => {
    const x = tensor([3, 1], [7, 7, 7]);
    expect([...run(x, (n) => composites.moments(n, 0).variance).data]).toEqual([0]);
    expect([...run(x, (n) => composites.variance(n, 1)).data]).toEqual([NaN, NaN, NaN]);
  });
});

describe('pooling', () => {
  const window: PoolWindow = {
    kernel: [3, 2],
    stride: [2, 2],
    padding: [1, 1, 0, 1],
    dilation: [1, 1],
  };

  /** Means written down with explicit bounds. */
  function averages(x: ReferenceTensor, include: boolean, counted: readonly number[]): number[] {
    const [, h, w] = x.shape as [number, number, number];
    const out: number[] = [];
    const rows = Math.floor((h + 2 - 3) / 2) + 1;
    const columns = Math.floor((w + 1 - 2) / 2) + 1;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        let [total, count] = [0, 0];
        for (let i = r * 2 - 1; i < r * 2 + 2; i++) {
          for (let j = c * 2; j < c * 2 + 2; j++) {
            const inside = i >= 0 && i < h && j >= 0 && j < w;
            if (inside) total += x.data[i * w + j]!;
            const padded = i < h + counted[1]! && j < w + counted[3]!;
            if (include ? padded : inside) count++;
          }
        }
        out.push(total / count);
      }
    }
    return out;
  }

  test.each([
    [true, [1, 1, 0, 1]],
    [true, [1, 1, 0, 0]],
    [false, [1, 1, 0, 1]],
  ] as const)('average, padding counts: %s, %s', (countIncludePad, countedPadding) => {
    const x = random([1, 5, 4]);
    const options = { countIncludePad, countedPadding };
    const actual = run(x, (n) => composites.averagePool(n, window, options)).data;
    expectClose(actual, averages(x, countIncludePad, countedPadding), NEAR, 'average');
    checkGradient(x, (n) => composites.averagePool(n, window, options), 'averagePool', 1);
  });

  test('a given divisor', () => {
    const x = random([1, 4, 4]);
    const even = { ...window, kernel: [2, 2], padding: [0, 0, 0, 0] };
    const actual = run(x, (n) => composites.averagePool(n, even, { divisor: 3 })).data;
    const expected = run(x, (n) => composites.averagePool(n, even)).data.map((v) => (v * 4) / 3);
    expectClose(actual, expected, NEAR, 'divisor');
  });

  test.each([
    [
      [5, 7],
      [3, 2],
    ],
    [
      [6, 4],
      [3, 2],
    ],
    [
      [4, 3],
      [7, 5],
    ],
    [[9], [4]],
  ])('adaptive, %j to %j', (space, size) => {
    const x = distinctTensor([2, ...space], { dtype: 'float64' });
    const part = (axis: number, i: number): [number, number] => [
      Math.floor((i * space[axis]!) / size[axis]!),
      Math.ceil(((i + 1) * space[axis]!) / size[axis]!),
    ];
    const means: number[] = [];
    const maxima: number[] = [];
    const places: number[] = [];
    const [h, w] = space.length === 2 ? [space[0]!, space[1]!] : [1, space[0]!];
    const [n, m] = size.length === 2 ? [size[0]!, size[1]!] : [1, size[0]!];
    for (let lead = 0; lead < 2; lead++) {
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < m; j++) {
          const [top, bottom] = space.length === 2 ? part(0, i) : [0, 1];
          const [left, right] = part(space.length - 1, j);
          let [total, count, best, place] = [0, 0, -Infinity, -1];
          for (let r = top; r < bottom; r++) {
            for (let c = left; c < right; c++) {
              const value = x.data[(lead * h + r) * w + c]!;
              total += value;
              count++;
              if (value > best) [best, place] = [value, r * w + c];
            }
          }
          means.push(total / count);
          maxima.push(best);
          places.push(place);
        }
      }
    }
    expectClose(run(x, (x1) => composites.adaptiveAveragePool(x1, size)).data, means, NEAR, 'mean');
    const max = (x1: Node) => composites.adaptiveMaxPool(x1, size);
    expectClose(run(x, (x1) => max(x1).values).data, maxima, NEAR, 'maximum');
    expect([...run(x, (x1) => max(x1).indices).data]).toEqual(places);
    checkGradient(x, (x1) => composites.adaptiveAveragePool(x1, size), 'adaptive average', 1);
    checkGradient(x, (x1) => max(x1).values, 'adaptive maximum', 1);
  });

  test('a size that cannot be reached', () => {
    expect(() => composites.adaptiveAveragePool(leafFor(random([2, 0])), [3])).toThrow(/pool to/);
  });
});

describe('random numbers', () => {
  const source = () => {
    const [seedLow, seedHigh, offsetLow, offsetHigh] = [11, 22, 4294967295, 3].map((value) =>
      constant(value, 'uint32'),
    ) as [Node, Node, Node, Node];
    return { seedLow, seedHigh, offsetLow, offsetHigh };
  };
  const offset = 4294967295 + 3 * 2 ** 32;
  const evaluate = (node: Node) => evaluateReference([node], new Map()).get(node)!.data;

  test('uniform numbers are those of the host', () => {
    const expected = Array.from(philoxBits(11, 22, offset, 15), uniformFromBits);
    expect([...evaluate(composites.uniform([3, 5], source()))]).toEqual(expected);
  });

  test('normal numbers come in pairs, and have the moments they should', () => {
    const u = Array.from(philoxBits(11, 22, offset, 8), uniformFromBits);
    const expected = Array.from({ length: 7 }, (_, i) => {
      const radius = Math.sqrt(-2 * Math.log(1 - u[i & ~1]!));
      const angle = 2 * Math.PI * u[i | 1]!;
      return radius * (i & 1 ? Math.sin(angle) : Math.cos(angle));
    });
    expectClose(evaluate(composites.normal([7], source())), expected, NEAR, 'normal');
    const many = evaluate(composites.normal([20000], source()));
    const mean = many.reduce((a, b) => a + b) / many.length;
    const variance = many.reduce((a, b) => a + (b - mean) ** 2, 0) / many.length;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 1)).toBeLessThan(0.04);
  });

  test('bernoulli and integers', () => {
    const kept = evaluate(composites.bernoulli([10000], constant(0.3, 'float32'), source()));
    expect(Math.abs(kept.reduce((a, b) => a + b) / 10000 - 0.3)).toBeLessThan(0.02);
    const integers = evaluate(composites.randomIntegers([5000], -2, 3, source()));
    expect(new Set(integers)).toEqual(new Set([-2, -1, 0, 1, 2]));
  });
});

describe('masks', () => {
  test('triangles', () => {
    const x = tensor([2, 3], [1, 2, 3, 4, 5, 6]);
    expect([...run(x, (n) => composites.tril(n)).data]).toEqual([1, 0, 0, 4, 5, 0]);
    expect([...run(x, (n) => composites.triu(n, 1)).data]).toEqual([0, 2, 3, 0, 0, 6]);
    expect([...run(x, (n) => composites.tril(n, -1)).data]).toEqual([0, 0, 0, 4, 0, 0]);
    expect(() => composites.tril(leafFor(random([3])))).toThrow(/no matrix/);
  });

  test('one-hot', () => {
    const index = tensor([3], [2, 0, 1], 'int32');
    expect([...run(index, (n) => composites.oneHot(n, 3)).data]).toEqual([
      0, 0, 1, 1, 0, 0, 0, 1, 0,
    ]);
  });
});

describe('scatter', () => {
  const base = random([4, 3]);
  const source = random([5, 3], 2);
  const index = tensor([5, 3], [0, 1, 2, 2, 1, 0, 0, 1, 3, 2, 2, 2, 0, 0, 0], 'int32');

  /** A function of base, index and source, evaluated and differentiated. */
  function both(build: (b: Node, i: Node, s: Node) => Node, what: string): Float64Array {
    const leaves = [base, index, source].map(leafFor) as [Node, Node, Node];
    const node = build(...leaves);
    const values = new Map([
      [leaves[0], base],
      [leaves[1], index],
      [leaves[2], source],
    ]);
    checkGradients([node], values, { order: 1 }, what);
    return evaluateReference([node], values).get(node)!.data;
  }

  /** The elements that meet at each place, in order. */
  function meeting(): number[][] {
    const lists: number[][] = Array.from({ length: 12 }, () => []);
    source.data.forEach((value, i) => lists[index.data[i]! * 3 + (i % 3)]!.push(value));
    return lists;
  }

  test('of several values at one place the last stays', () => {
    const actual = both((b, i, s) => composites.scatterReplace(b, i, s, 0), 'scatterReplace');
    const expected = meeting().map((list, place) => list.at(-1) ?? base.data[place]!);
    expectClose(actual, expected, NEAR, 'scatterReplace');
  });

  const joins: Record<composites.ScatterReduction, (list: readonly number[]) => number> = {
    sum: (list) => list.reduce((a, b) => a + b, 0),
    prod: (list) => list.reduce((a, b) => a * b, 1),
    mean: (list) => list.reduce((a, b) => a + b, 0) / list.length,
    amax: (list) => Math.max(...list),
    amin: (list) => Math.min(...list),
  };
  const kinds = Object.keys(joins) as composites.ScatterReduction[];

  test.each(kinds.flatMap((kind) => [[kind, true] as const, [kind, false] as const]))(
    '%s, own value takes part: %s',
    (kind, includeSelf) => {
      const actual = both(
        (b, i, s) => composites.scatterReduceInto(b, i, s, 0, kind, includeSelf),
        kind,
      );
      const expected = meeting().map((list, place) => {
        const own = base.data[place]!;
        if (list.length === 0) return own;
        return joins[kind](includeSelf ? [own, ...list] : list);
      });
      expectClose(actual, expected, NEAR, kind);
    },
  );

  test('several indices name elements together', () => {
    const x = random([3, 4, 2]);
    const leaf = leafFor(x);
    const rows = tensor([2, 1], [2, -3], 'int32');
    const columns = tensor([3], [0, -1, 1], 'int32');
    const given = new Map([[leaf, x]]);
    const indices = [rows, columns].map((values) => {
      const node = leafFor(values);
      given.set(node, values);
      return node;
    });
    const read = composites.gatherND(leaf, indices);
    const at = (r: number, c: number) =>
      Array.from(x.data.slice((r * 4 + c) * 2, (r * 4 + c) * 2 + 2));
    const expected = [2, 0].flatMap((r) => [0, 3, 1].flatMap((c) => at(r, c)));
    expect(read.shape).toEqual([2, 3, 2]);
    expect([...evaluateReference([read], given).get(read)!.data]).toEqual(expected);
    checkGradients([read], given, { order: 2 }, 'gatherND');
    const added = composites.putND(leaf, indices, read, true);
    const doubled = evaluateReference([added], given).get(added)!.data;
    const named = new Set([2, 0].flatMap((r) => [0, 3, 1].map((c) => r * 4 + c)));
    const twice = x.data.map((value, i) => (named.has(i >> 1) ? 2 * value : value));
    expectClose(doubled, twice, NEAR, 'putND');
    checkGradients([added], given, { order: 1 }, 'putND, added');
    const set = composites.putND(leaf, indices, constant(7, 'float64'));
    const sevens = x.data.map((value, i) => (named.has(i >> 1) ? 7 : value));
    expectClose(evaluateReference([set], given).get(set)!.data, sevens, NEAR, 'putND, set');
    checkGradients([set], given, { order: 1 }, 'putND, set');
  });

  test('errors', () => {
    const x = leafFor(random([2, 2]));
    expect(() => composites.gatherND(x, [])).toThrow(/0 indices/);
    const wrong = leafFor(tensor([2, 3], [0, 0, 0, 0, 0, 0], 'int32'));
    expect(() => composites.scatterReplace(x, wrong, wrong, 0)).toThrow(/differ beside/);
  });
});
