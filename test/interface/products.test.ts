// Products of vectors, matrices, batches and whatever einsum says.
import { describe, expect, test } from 'vitest';
import * as tg from 'tengen';
import { arange, einsum, ShapeError, tensor, type Tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

const a = () =>
  tensor([
    [1, 2],
    [3, 4],
  ]);
const b = () =>
  tensor([
    [5, 6],
    [7, 8],
  ]);

describe('matmul', () => {
  test('ranks and batches', () => {
    expectValues(a().matmul(b()), [
      [19, 22],
      [43, 50],
    ]);
    expectValues(a().matmul(tensor([1, 1])), [3, 7]);
    expectValues(tensor([1, 1]).matmul(a()), [4, 6]);
    expectValues(tensor([1, 2]).matmul(tensor([3, 4])), 11);
    expect(zeros(5, 1, 2, 3).matmul(zeros(4, 3, 6)).shape).toEqual([5, 4, 2, 6]);
    expect(zeros(4, 2, 3).matmul(zeros(3, 6)).shape).toEqual([4, 2, 6]);
    expect(zeros(3).matmul(zeros(4, 3, 6)).shape).toEqual([4, 6]);
    expect(zeros(4, 2, 3).matmul(zeros(3)).shape).toEqual([4, 2]);
    expectValues(zeros(2, 0).matmul(zeros(0, 2)), [
      [0, 0],
      [0, 0],
    ]);
    expectValues(ints([[2]]).matmul(ints([[3]])), [[6]]);
    expectValues(ints([[2]]).matmul(tensor([[1.5]])), [[3]]);
  });

  test('errors name both shapes and a way out', () => {
    expect(() => zeros(2, 3).matmul(zeros(4, 5))).toThrow(
      'matmul: inner sizes differ, [2,3] @ [4,5] (3 vs 4). hint: transpose the second argument?',
    );
    expect(() => zeros(2, 2).matmul(tensor(1))).toThrow('hint: use mul()');
    expect(() => zeros(2, 2, 3).matmul(zeros(3, 3, 2))).toThrow(ShapeError);
    expect(() => tg.bmm(zeros(2, 2, 3), zeros(3, 3, 2))).toThrow('batch sizes differ');
    expect(() => tg.mm(zeros(2), zeros(2, 2))).toThrow(
      'the first operand must have 2 dimension(s)',
    );
    expect(() => tg.dot(zeros(2), zeros(3))).toThrow('inner sizes differ');
  });

  test('named products', () => {
    expectValues(tg.mv(a(), tensor([1, 0])), [1, 3]);
    expectValues(tg.outer(tensor([1, 2]), tensor([3, 4])), [
      [3, 4],
      [6, 8],
    ]);
    expectValues(tg.addmm(tensor([1, 1]), a(), b(), { beta: 2, alpha: 0.5 }), [
      [11.5, 13],
      [23.5, 27],
    ]);
    expectValues(tg.addmm(tensor([NaN]), a(), b(), { beta: 0 }), [
      [19, 22],
      [43, 50],
    ]);
    expectValues(tg.addmv(tensor([1, 1]), a(), tensor([1, 1])), [4, 8]);
    expect(tg.baddbmm(zeros(2, 2, 4), zeros(2, 2, 3), zeros(2, 3, 4)).shape).toEqual([2, 2, 4]);
    expectValues(tg.kron(tensor([1, 2]), tensor([1, 10])), [1, 10, 2, 20]);
    expectValues(tg.cross(tensor([1, 0, 0]), tensor([0, 1, 0])), [0, 0, 1]);
    expect(() => tg.cross(zeros(2), zeros(2))).toThrow('is not of size 3');
    expectValues(tg.tensordot(a(), b(), 1), [
      [19, 22],
      [43, 50],
    ]);
    expectValues(
      tg.tensordot(a(), b(), [
        [0, 1],
        [1, 0],
      ]),
      1 * 5 + 2 * 7 + 3 * 6 + 4 * 8,
    );
    expect(() => tg.tensordot(zeros(2, 3), zeros(2, 3), 1)).toThrow('do not match');
    expectValues(
      tg.cdist(
        tensor([[0, 0]]),
        tensor([
          [3, 4],
          [0, 1],
        ]),
      ),
      [[5, 1]],
    );
    expectValues(tg.cdist(tensor([[0, 0]]), tensor([[3, 4]]), { p: 1 }), [[7]]);
    expectValues(tg.bilinear(tensor([[1, 2]]), tensor([[3, 4]]), tg.ones(1, 2, 2), tensor([1])), [
      [22],
    ]);
  });
});

describe('einsum', () => {
  const checkEquation = (equation: string, result: Tensor, ...operands: Tensor[]): void => {
    expectValues(einsum(equation, ...operands), result.arraySync());
  };

  test('products, traces, transposes, sums', () => {
    checkEquation('ij,jk->ik', a().matmul(b()), a(), b());
    checkEquation('ij,kj->ik', a().matmul(b().t()), a(), b());
    checkEquation('ij->ji', a().t(), a());
    checkEquation('ij->', a().sum(), a());
    checkEquation('ii->', a().trace(), a());
    checkEquation('ii->i', a().diagonal(), a());
    checkEquation('ij,ij->', a().mul(b()).sum(), a(), b());
    checkEquation('ij,ij->ij', a().mul(b()), a(), b());
    checkEquation(
      'i,j->ij',
      tg.outer(tensor([1, 2]), tensor([3, 4])),
      tensor([1, 2]),
      tensor([3, 4]),
    );
    checkEquation('ba', a().t(), a());
    checkEquation('ij,jk', a().matmul(b()), a(), b());
    checkEquation('ij,jk,kl->il', a().matmul(b()).matmul(a()), a(), b(), a());
    checkEquation(' i j , j -> i ', tensor([3, 7]), a(), tensor([1, 1]));
  });

  test('batches and ellipsis', () => {
    const x = arange(12).reshape(2, 2, 3).float();
    const y = arange(12).reshape(2, 3, 2).float();
    checkEquation('bij,bjk->bik', x.matmul(y), x, y);
    checkEquation('...ij,...jk->...ik', x.matmul(y), x, y);
    checkEquation('...ij->...ji', x.transpose(), x);
    checkEquation('...i->...', x.sum(-1), x);
    checkEquation('bij->j', x.sum([0, 1]), x);
    expect(einsum('...ij,jk->...ik', zeros(5, 4, 2, 3), zeros(3, 6)).shape).toEqual([5, 4, 2, 6]);
  });

  test('what is malformed', () => {
    expect(() => einsum('ij,jk->ik', a())).toThrow("2 operand(s) named, 1 given in 'ij,jk->ik'");
    expect(() => einsum('ijk->i', a())).toThrow("'ijk' names 3 axes, operand 0 is [2,2]");
    expect(() => einsum('ij->ik', a())).toThrow("the result names 'k', no operand does");
    expect(() => einsum('ij->ii', a())).toThrow('names a label twice');
    expect(() => einsum('i1', a())).toThrow('not made of letters');
    expect(() => einsum('ij,jk->ik', zeros(2, 3), zeros(4, 2))).toThrow(
      "label 'j' is both 3 and 4",
    );
    expect(() => einsum('a->b->c', a())).toThrow("more than one '->'");
  });

  test('gradient', () => {
    const slope = tg.grad((x: Tensor) => einsum('ij,jk->', x, b()));
    expectValues(slope(a()), [
      [11, 15],
      [11, 15],
    ]);
  });
});
