// Indexing by numbers, ranges, arrays and masks; writing, gathering and scattering.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { arange, at, grad, setAt, ShapeError, slice, tensor, type Tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

const grid = () => arange(12).reshape(3, 4);

describe('reading', () => {
  test('numbers drop an axis, ranges keep it', () => {
    expectValues(grid().at(1, 2), 6);
    expectValues(grid().at(-1), [8, 9, 10, 11]);
    expectValues(grid().at(':', 0), [0, 4, 8]);
    expectValues(grid().at('...', 3), [3, 7, 11]);
    expectValues(grid().at('1:', ':2'), [
      [4, 5],
      [8, 9],
    ]);
    expectValues(grid().at(0, slice(null, null, -1)), [3, 2, 1, 0]);
    expectValues(grid().at(0, '::-2'), [3, 1]);
    expectValues(grid().at(0, '-3:-1'), [1, 2]);
    expectValues(grid().at(0, slice(2, 1)), []);
    expectValues(grid().at(0, slice(-100, 100)), [0, 1, 2, 3]);
    expect(grid().at(null, 0, null).shape).toEqual([1, 1, 4]);
    expect(grid().at().shape).toEqual([3, 4]);
    expectValues(tensor(5).at('...'), 5);
  });

  test('arrays pick, and broadcast together', () => {
    expectValues(grid().at([0, -1]), [
      [0, 1, 2, 3],
      [8, 9, 10, 11],
    ]);
    expectValues(grid().at([0, 1], [2, 3]), [2, 7]);
    expectValues(grid().at([[0], [1]], [0, 2]), [
      [0, 2],
      [4, 6],
    ]);
    expectValues(grid().at(':', ints([[0, 1]])), [[[0, 1]], [[4, 5]], [[8, 9]]]);
    expectValues(grid().at([]), []);
    expect(zeros(2, 3, 4, 5).at(':', [0, 1], [1, 2]).shape).toEqual([2, 2, 5]);
    // Apart from each other: their axes come first. A number is no array.
    expect(zeros(2, 3, 4, 5).at(':', [0, 1], ':', [1, 2]).shape).toEqual([2, 2, 4]);
    expect(zeros(2, 3, 4).at(0, ':', [1, 2]).shape).toEqual([3, 2]);
  });

  test('masks', () => {
    const x = grid();
    expectValues(x.at(x.gt(9)), [10, 11]);
    expectValues(x.at([true, false, true], 0), [0, 8]);
    expectValues(x.at(':', tensor([false, true, false, false])), [[1], [5], [9]]);
    expectValues(x.at(x.lt(0)), []);
    expect(() => x.at(tensor([true, false]))).toThrow(
      'the mask is [2], the axes it stands for are [3]',
    );
  });

  test('what is refused', () => {
    const x = grid();
    expect(() => x.at(3)).toThrow(
      'at: index 3 is out of range for axis 0 of size 3. hint: valid indices are -3 to 2',
    );
    expect(() => x.at([0, 5])).toThrow('index 5 is out of range for size 3');
    expect(() => x.at(ints([-4]))).toThrow(ShapeError);
    expect(() => x.at(0, 0, 0)).toThrow('3 indices for [3,4]');
    expect(() => x.at('...', '...')).toThrow("only one '...'");
    expect(() => x.at('a' as never)).toThrow("'a' is no index");
    expect(() => x.at(tensor([0.5]))).toThrow('indices are integers or a bool mask, got float32');
    expect(() => x.at([0.5])).toThrow('indices are integers, got 0.5');
    expect(() => x.at(slice(0, 1, 0))).toThrow('the step must be a nonzero integer');
    expect(() => at([1] as never, 0)).toThrow('expected a tensor');
  });

  test('gradients come back to where they were read', () => {
    const read = grad((x: Tensor) => x.at([0, 0, 2]).sum());
    expectValues(read(tensor([1, 2, 3])), [2, 0, 1]);
    const range = grad((x: Tensor) =>
      x
        .at('::-2')
        .mul(tensor([1, 10]))
        .sum(),
    );
    expectValues(range(tensor([1, 2, 3])), [10, 0, 1]);
  });
});

describe('writing', () => {
  test('ranges and numbers', () => {
    const x = zeros(2, 3);
    expectValues(setAt(x, [0], 1), [
      [1, 1, 1],
      [0, 0, 0],
    ]);
    expectValues(x.set([':', '::2'], tensor([1, 2])), [
      [1, 0, 2],
      [1, 0, 2],
    ]);
    expectValues(x.set([1, '::-1'], tensor([1, 2, 3])), [
      [0, 0, 0],
      [3, 2, 1],
    ]);
    expectValues(x, [
      [0, 0, 0],
      [0, 0, 0],
    ]);
    expect(() => x.set([0], tensor([1, 2]))).toThrow(ShapeError);
    expectValues(ints([1, 2]).set([0], 2.9), [2, 2]);
  });

  test('arrays and masks; the last of equal indices stays', () => {
    const x = tensor([1, 2, 3, 4]);
    expectValues(x.set([[0, -1]], tensor([9, 8])), [9, 2, 3, 8]);
    expectValues(x.set([x.gt(2)], 0), [1, 2, 0, 0]);
    expectValues(x.set([[1, 1]], tensor([5, 6])), [1, 6, 3, 4]);
    expectValues(
      zeros(2, 2).set(
        [
          [0, 1],
          [1, 0],
        ],
        7,
      ),
      [
        [0, 7],
        [7, 0],
      ],
    );
    expectValues(x.indexPut([ints([1, 1])], tensor([5, 6]), { accumulate: true }), [1, 13, 3, 4]);
  });

  test('gradients flow to what stays and to what is written', () => {
    const x = tensor([1, 2, 3]);
    const value = tensor([10]);
    const weights = tensor([1, 2, 3]);
    for (const index of [['1:2'], [[1]]] as const) {
      const total = (a: Tensor, b: Tensor) => a.set(index, b).mul(weights).sum();
      const [byX, byValue] = tg.valueAndGrad(total, { argnums: [0, 1] })(x, value).grads;
      expectValues(byX as Tensor, [1, 0, 3]);
      expectValues(byValue as Tensor, [2]);
    }
  });
});

describe('along an axis', () => {
  const x = () =>
    tensor([
      [1, 2],
      [3, 4],
    ]);

  test('gather and its relatives', () => {
    expectValues(x().gather(1, ints([[1], [0]])), [[2], [3]]);
    expectValues(x().gather(0, ints([[1]])), [[3]]);
    expectValues(x().takeAlongDim(ints([[0, 1, 0]]), 1), [
      [1, 2, 1],
      [3, 4, 3],
    ]);
    expectValues(x().takeAlongDim(ints([3, -4])), [4, 1]);
    expectValues(x().indexSelect(1, ints([1, 1])), [
      [2, 2],
      [4, 4],
    ]);
    expectValues(x().take(ints([0, -1])), [1, 4]);
    expect(() => x().gather(1, ints([[2], [0]]))).toThrow('index 2 is out of range for size 2');
    expect(() => x().gather(1, ints([0]))).toThrow('does not fit [2,2] beside axis 1');
    expect(() => x().gather(1, tensor([[0]]))).toThrow('indices are integers, got float32');
    expect(() => x().indexSelect(0, ints([[0]]))).toThrow('must be a vector');
  });

  test('scatter and its relatives', () => {
    expectValues(zeros(2, 2).scatter(1, ints([[1], [0]]), 5), [
      [0, 5],
      [5, 0],
    ]);
    expectValues(zeros(3).scatter(0, ints([1, 1]), tensor([4, 5])), [0, 5, 0]);
    expectValues(zeros(3).scatterAdd(0, ints([1, 1]), tensor([4, 5])), [0, 9, 0]);
    expectValues(
      tensor([1, 1, 1]).indexAdd(0, ints([0, 0]), tensor([2, 3]), { alpha: 2 }),
      [11, 1, 1],
    );
    expectValues(zeros(3).indexCopy(0, ints([2, 0]), tensor([7, 8])), [8, 0, 7]);
    const target = tensor([10, 10, 10]);
    const index = ints([0, 0, 1]);
    const source = tensor([2, 4, 6]);
    expectValues(target.scatterReduce(0, index, source, 'sum'), [16, 16, 10]);
    expectValues(target.scatterReduce(0, index, source, 'prod'), [80, 60, 10]);
    expectValues(target.scatterReduce(0, index, source, 'mean'), [16 / 3, 8, 10]);
    expectValues(
      target.scatterReduce(0, index, source, 'amax', { includeSelf: false }),
      [4, 6, 10],
    );
    expectValues(target.scatterReduce(0, index, source, 'amin'), [2, 6, 10]);
    expect(() => zeros(3).scatter(0, ints([3]), 1)).toThrow(ShapeError);
    expect(() => zeros(3).scatter(0, ints([0, 1]), tensor([1]))).toThrow('does not cover');
  });

  test('results whose size depends on values', () => {
    expectValues(x().maskedSelect(tensor([true, false])), [1, 3]);
    expectValues(x().gt(2).nonzero(), [
      [1, 0],
      [1, 1],
    ]);
    expect(zeros(2, 2).nonzero().shape).toEqual([0, 2]);
    expectValues(tg.bincount(ints([1, 1, 3])), [0, 2, 0, 1]);
    expectValues(
      tg.bincount(ints([0, 1]), { weights: tensor([0.5, 2]), minlength: 3 }),
      [0.5, 2, 0],
    );
    expect(() => tg.bincount(ints([-1]))).toThrow('must not be negative');
  });
});

describe('order', () => {
  test('sorting is stable, NaN is the largest', () => {
    const { values, indices } = tensor([3, 1, 3, NaN]).sort();
    expectValues(values, [1, 3, 3, NaN]);
    expectValues(indices, [1, 0, 2, 3]);
    expectValues(tensor([3, 1, 3]).sort(0, { descending: true }).indices, [0, 2, 1]);
    expectValues(tensor([[2, 1]]).argsort(), [[1, 0]]);
    expectValues(tensor(3).sort().values, 3);
    expectValues(
      grad((x: Tensor) => x.sort().values.mul(arange(3)).sum())(tensor([5, 1, 3])),
      [2, 0, 1],
    );
  });

  test('topk, kthvalue, median', () => {
    expectValues(tensor([1, 9, 5]).topk(2).values, [9, 5]);
    expectValues(tensor([1, 9, 5]).topk(2, 0, { largest: false }).indices, [0, 2]);
    expect(() => tensor([1]).topk(2)).toThrow('k must lie between 0 and 1');
    expectValues(tensor([4, 1, 3]).kthvalue(2).values, 3);
    expectValues(tensor([4, 1, 3, 2]).median(), 2);
    expectValues(tensor([[4, 1, 3]]).median(1).indices, [2]);
    expectValues(tensor([1, NaN, 2]).median(), NaN);
  });

  test('running values and searches', () => {
    expectValues(tensor([1, 2, 3]).cumsum(0), [1, 3, 6]);
    expectValues(tensor([1, 2, 3]).cumprod(-1), [1, 2, 6]);
    expectValues(tensor([1, 3, 2, 3]).cummax(0).indices, [0, 1, 1, 3]);
    expectValues(tensor([2, 1, 3]).cummin(0).values, [2, 1, 1]);
    expectValues(tg.logcumsumexp(tensor([0, 0]), 0), [0, Math.LN2]);
    expectValues(tensor([true, true]).cumsum(0), [1, 2]);
    const sorted = tensor([1, 3, 5]);
    expectValues(tg.searchsorted(sorted, tensor([0, 3, 6])), [0, 1, 3]);
    expectValues(tg.searchsorted(sorted, 3, { right: true }), 2);
  });
});
