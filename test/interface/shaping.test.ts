// Shapes: the same elements otherwise arranged, joined and cut.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { arange, cat, ShapeError, stack, tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

const grid = () => arange(6).reshape(2, 3);

describe('axes', () => {
  test('reshape takes lists and numbers, and works out -1', () => {
    expect(arange(6).reshape(2, -1).shape).toEqual([2, 3]);
    expect(arange(6).reshape([3, 2]).shape).toEqual([3, 2]);
    expect(arange(6).view(-1).shape).toEqual([6]);
    expect(zeros([0, 3]).reshape(0, -1 + 4).shape).toEqual([0, 3]);
    expect(() => arange(6).reshape(4, -1)).toThrow('[6] has 6 element(s), [4,-1] does not divide');
    expect(() => arange(6).reshape(-1, -1)).toThrow('only one size can be -1');
    expect(() => arange(6).reshape(5)).toThrow(ShapeError);
    expect(() => arange(6).reshape(-2, -3)).toThrow('non-negative');
  });

  test('flatten, unflatten, squeeze, unsqueeze', () => {
    expect(zeros(2, 3, 4).flatten(1).shape).toEqual([2, 12]);
    expect(tensor(1).flatten().shape).toEqual([1]);
    expect(zeros(2, 12).unflatten(1, [3, -1]).shape).toEqual([2, 3, 4]);
    expect(() => zeros(2, 12).unflatten(1, [5, 2])).toThrow('does not split axis 1');
    expect(zeros(1, 2, 1).squeeze().shape).toEqual([2]);
    expect(zeros(1, 2, 1).squeeze(0).shape).toEqual([2, 1]);
    expect(zeros(1, 2, 1).squeeze(1).shape).toEqual([1, 2, 1]);
    expect(zeros(2).unsqueeze(-1).shape).toEqual([2, 1]);
    expect(() => zeros(2).unsqueeze(3)).toThrow('out of range');
  });

  test('order', () => {
    expectValues(grid().t(), [
      [0, 3],
      [1, 4],
      [2, 5],
    ]);
    expect(zeros(2, 3, 4).permute(2, 0, 1).shape).toEqual([4, 2, 3]);
    expect(zeros(2, 3, 4).permute([-1, 0, 1]).shape).toEqual([4, 2, 3]);
    expect(zeros(2, 3, 4).transpose(0, 2).shape).toEqual([4, 3, 2]);
    expect(zeros(2, 3, 4).movedim(0, -1).shape).toEqual([3, 4, 2]);
    expect(zeros(2, 3, 4).movedim([0, 1], [1, 0]).shape).toEqual([3, 2, 4]);
    expect(() => zeros(2, 3).permute(0)).toThrow('1 axes for 2 dimension(s)');
    expect(() => zeros(2, 3).permute(0, 0)).toThrow('axis appears twice');
  });

  test('repetition', () => {
    expectValues(tensor([[1], [2]]).expand(-1, 2), [
      [1, 1],
      [2, 2],
    ]);
    expect(tensor([1]).expand(2, 3, -1).shape).toEqual([2, 3, 1]);
    expect(() => tensor([1, 2]).expand(3)).toThrow('[2] does not expand to [3]');
    expectValues(tensor([1, 2]).repeat(2), [1, 2, 1, 2]);
    expect(tensor([1, 2]).repeat(3, 2).shape).toEqual([3, 4]);
    expect(() => grid().repeat(2)).toThrow('1 counts for 2 dimension(s)');
    expect(grid().tile(2).shape).toEqual([2, 6]);
    expectValues(tensor([1, 2]).repeatInterleave(2), [1, 1, 2, 2]);
    expectValues(tensor([1, 2]).repeatInterleave(ints([0, 3])), [2, 2, 2]);
    expect(grid().repeatInterleave(2, 1).shape).toEqual([2, 6]);
    const [a, b] = tg.broadcastTensors(zeros(2, 1), zeros(3));
    expect([a?.shape, b?.shape]).toEqual([
      [2, 3],
      [2, 3],
    ]);
  });

  test('turning', () => {
    expectValues(arange(4).flip(0), [3, 2, 1, 0]);
    expectValues(arange(4).roll(1), [3, 0, 1, 2]);
    expectValues(arange(4).roll(-5, 0), [1, 2, 3, 0]);
    expectValues(grid().roll([1, 1], [0, 1]), [
      [5, 3, 4],
      [2, 0, 1],
    ]);
    expectValues(grid().rot90(), [
      [2, 5],
      [1, 4],
      [0, 3],
    ]);
    expectValues(grid().rot90(2), [
      [5, 4, 3],
      [2, 1, 0],
    ]);
    expectValues(grid().rot90(-1), [
      [3, 0],
      [4, 1],
      [5, 2],
    ]);
  });
});

describe('triangles and diagonals', () => {
  test('triangles', () => {
    expectValues(tg.ones(2, 3).tril(), [
      [1, 0, 0],
      [1, 1, 0],
    ]);
    expectValues(tg.ones(2, 3).triu(1), [
      [0, 1, 1],
      [0, 0, 1],
    ]);
    expect(() => tensor([1]).tril()).toThrow('at least 2 dimensions');
  });

  test('diagonals there and back', () => {
    for (const offset of [-2, -1, 0, 1, 2]) {
      const vector = tensor([1, 2]);
      expectValues(vector.diag(offset).diag(offset), [1, 2]);
    }
    expectValues(grid().diagonal(), [0, 4]);
    expectValues(grid().diagonal({ offset: 2 }), [2]);
    expect(grid().diagonal({ offset: 5 }).shape).toEqual([0]);
    expect(zeros(2, 3, 4).diagonal({ dim1: 1, dim2: 2 }).shape).toEqual([2, 3]);
    expectValues(tensor([[1, 2]]).diagEmbed(), [
      [
        [1, 0],
        [0, 2],
      ],
    ]);
    expectValues(grid().t().mm(grid()).trace(), 0 + 9 + 1 + 16 + 4 + 25);
  });

  test('meshgrid', () => {
    const [a, b] = tg.meshgrid([arange(2), arange(3)]);
    expectValues(a as tg.Tensor, [
      [0, 0, 0],
      [1, 1, 1],
    ]);
    expectValues(b as tg.Tensor, [
      [0, 1, 2],
      [0, 1, 2],
    ]);
    expect(tg.meshgrid([arange(2), arange(3)], { indexing: 'xy' })[0]?.shape).toEqual([3, 2]);
  });
});

describe('joining and cutting', () => {
  test('cat and stack promote and check', () => {
    expectValues(cat([ints([1]), tensor([2.5])]), [1, 2.5]);
    expect(cat([zeros(2, 1), zeros(2, 2)], 1).shape).toEqual([2, 3]);
    expect(stack([zeros(2), zeros(2)], -1).shape).toEqual([2, 2]);
    expect(() => cat([])).toThrow('got no tensors');
    expect(() => cat([zeros(2, 2), zeros(3, 3)])).toThrow(ShapeError);
    expect(() => stack([zeros(2), zeros(3)])).toThrow('tensor 1 is [3], not [2]');
  });

  test('split, chunk, unbind', () => {
    expect(
      arange(5)
        .split(2)
        .map(({ size }) => size),
    ).toEqual([2, 2, 1]);
    expect(
      arange(5)
        .split([1, 4])
        .map(({ size }) => size),
    ).toEqual([1, 4]);
    expect(
      arange(5)
        .chunk(3)
        .map(({ size }) => size),
    ).toEqual([2, 2, 1]);
    expect(() => arange(5).split([1, 3])).toThrow('sizes [1,3] sum to 4');
    expectValues(grid().unbind(1)[2] as tg.Tensor, [2, 5]);
    expectValues(grid().select(0, -1), [3, 4, 5]);
    expectValues(grid().narrow(1, -2, 1), [[1], [4]]);
    expect(() => grid().narrow(1, 2, 2)).toThrow('2 element(s) from 2 leave axis 1 of [2,3]');
    expect(() => grid().select(0, 2)).toThrow('index 2 is out of range for axis 0 of size 2');
  });

  test('windows and differences', () => {
    expectValues(arange(5).unfold(0, 3, 2), [
      [0, 1, 2],
      [2, 3, 4],
    ]);
    expectValues(tensor([1, 4, 9, 16]).diff(), [3, 5, 7]);
    expectValues(tensor([1, 4, 9, 16]).diff(2), [2, 2]);
    expectValues(tensor([true, false, false]).diff(), [true, false]);
  });
});
