// Casting, moving, reading and printing.
import { describe, expect, test, vi } from 'vitest';
import { inspect } from 'node:util';
import type * as tg from 'tengen';
import { arange, format, ShapeError, tensor, zeros } from 'tengen';
import { checkLeaks, expectValues, ints } from './support.ts';

checkLeaks();

describe('conversion', () => {
  test('casts', () => {
    expectValues(tensor([1.9, -1.9]).int(), [1, -1]);
    expectValues(tensor([0, 0.5]).bool(), [false, true]);
    expectValues(ints([3]).float().div(2), [1.5]);
    expect(tensor([1]).double().dtype).toBe('float64');
    expect(tensor([1]).half().to('bfloat16').dtype).toBe('bfloat16');
    expectValues(tensor([1 / 3]).half(), [0.333251953125]);
    expect(() => tensor([1]).to('int64')).toThrow("there is no device 'int64'");
  });

  test('devices', () => {
    const x = tensor([1, 2]);
    const there = x.add(1).to('interp');
    expect(there.device).toBe('interp');
    expectValues(there.mul(2), [4, 6]);
    expectValues(x.to('interp').to('wasm').add(x), [2, 4]);
    expect(() => x.to('abacus')).toThrow("there is no device 'abacus'");
  });

  test('detached and cloned values', () => {
    const w = tensor([2], { requiresGrad: true });
    expect(w.mul(2).tracked).toBe(true);
    expect(w.detach().tracked).toBe(false);
    expect(w.mul(2).detach().tracked).toBe(false);
    expect(w.clone().tracked).toBe(true);
    w.clone().mul(3).sum().backward();
    expectValues(w.grad as tg.Tensor, [3]);
    const y = w.mul(w.detach()).sum();
    w.grad = null;
    y.backward();
    expectValues(w.grad as unknown as tg.Tensor, [2]);
  });
});

describe('reading', () => {
  test('items and arrays', async () => {
    expect(await tensor(2.5).item()).toBe(2.5);
    expect(tensor([[true]]).itemSync()).toBe(1);
    expect(() => tensor([1, 2]).itemSync()).toThrow(ShapeError);
    await expect(tensor([1, 2]).item()).rejects.toThrow('the tensor is [2], not one number');
    expect(await tensor([[1], [2]]).array()).toEqual([[1], [2]]);
    expect(tensor(3).arraySync()).toBe(3);
    expect(zeros(2, 0).arraySync()).toEqual([[], []]);
    expect(await ints([1, 2]).data()).toEqual(new Int32Array([1, 2]));
    expect(tensor([true]).dataSync()).toEqual(new Uint8Array([1]));
  });

  test('what is read is a copy', () => {
    const x = tensor([1, 2]).add(0);
    x.dataSync().fill(9);
    expectValues(x, [1, 2]);
  });
});

describe('text', () => {
  test('columns are aligned', async () => {
    expect(
      await tensor([
        [1, -2.5],
        [10, 0.25],
      ]).format(),
    ).toBe('[[ 1.00, -2.50],\n [10.00,  0.25]]');
    expect(await ints([1, 200]).format()).toBe('[  1, 200]');
    expect(await tensor([true, false]).format()).toBe('[ true, false]');
    expect(await tensor([1, NaN, -Infinity]).format()).toBe('[   1,  nan, -inf]');
    expect(await tensor(1.23456).format()).toBe('1.2346');
    expect(await tensor(1.23456).format({ precision: 2 })).toBe('1.23');
    expect(await tensor([1e-7, 1]).format()).toBe('[1.0000e-7, 1.0000e+0]');
    expect(await zeros(0).format()).toBe('[]');
    expect(
      await tensor([
        [[1], [2]],
        [[3], [4]],
      ]).format(),
    ).toBe('[[[1],\n  [2]],\n\n [[3],\n  [4]]]');
  });

  test('long axes show their ends', async () => {
    const text = await arange(2000).reshape(2, 1000).format({ edgeItems: 2 });
    expect(text).toBe('[[   0,    1, ...,  998,  999],\n [1000, 1001, ..., 1998, 1999]]');
    expect(await arange(6).format({ threshold: 5, edgeItems: 1 })).toBe('[0, ..., 5]');
    const wide = await arange(40).format({ lineWidth: 40 });
    expect(Math.max(...wide.split('\n').map(({ length }) => length))).toBeLessThanOrEqual(41);
    await expect(format(tensor([1]), { edgeItems: 0 })).rejects.toThrow('out of range');
  });

  test('print, toString and inspection', async () => {
    const printed = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    await tensor([1, 2]).print();
    expect(printed).toHaveBeenCalledWith('Tensor(float32 [2])\n[1, 2]');
    const x = tensor([1, 2]);
    expect(`${x}`).toBe('Tensor(float32 [2])');
    expect(inspect(x)).toBe('Tensor(float32 [2]) [1, 2]');
    const pending = x.add(1);
    expect(inspect(pending)).toBe('Tensor(float32 [2]) not computed yet');
    pending.dataSync();
    expect(inspect(pending)).toBe('Tensor(float32 [2]) [2, 3]');
  });

  test('operators say what to write', () => {
    expect(() => (tensor([1]) as unknown as number) * 2).toThrow('write a.add(b)');
  });
});
