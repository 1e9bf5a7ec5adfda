// Kernels of users: the same values on every device, fused, differentiated; broken ones are named.
import { afterAll, describe, expect, test } from 'vitest';
import {
  CompileError,
  configure,
  DTypeError,
  env,
  evaluate,
  F,
  grad,
  noGrad,
  randn,
  resetStats,
  setDefaultDevice,
  ShapeError,
  stats,
  tensor,
  type Tensor,
  trace,
} from 'tengen';
import 'tengen/interp';
import { defineOp, gradcheck, valueTypeOf } from 'tengen/extend';
import { runningSum, shifted, squaredNorm, squarePlus, times } from './support.ts';

const float64 = (data: number[] | number[][]): Tensor => tensor(data, { dtype: 'float64' });
const devices = [
  'interp',
  ...env().devices.flatMap((d) => (d.unavailable === null ? [d.name] : [])),
];

afterAll(() => setDefaultDevice('auto'));

describe.each([...new Set(devices)])('%s', (device) => {
  test('values of every kind of kernel, and of gradients', () => {
    configure({ device });
    const x = tensor([
      [1, 2, 3],
      [-4, 0.5, 6],
    ]);
    const y = tensor([10, 100, 1000]);
    expect(squarePlus(x, { shift: 0.5 }).arraySync()).toEqual([
      [1.5, 4.5, 9.5],
      [16.5, 0.75, 36.5],
    ]);
    expect(times(x, y).arraySync()).toEqual([
      [10, 200, 3000],
      [-40, 50, 6000],
    ]);
    expect(shifted(x, { by: 2 }).arraySync()).toEqual([
      [3, 3, 3],
      [6, 6, 6],
    ]);
    expect(squaredNorm(x).arraySync()).toEqual([14, 52.25]);
    expect(runningSum(x).arraySync()).toEqual([
      [1, 3, 6],
      [-4, -3.5, 2.5],
    ]);
    const slope = grad((a: Tensor) => squaredNorm(runningSum(squarePlus(a, { shift: 1 }))).sum());
    const found = slope(x);
    const plain = grad((a: Tensor) => a.mul(a).add(1).cumsum(1).square().sum());
    expect(F.mseLoss(found, plain(x)).itemSync()).toBeLessThan(1e-6);
  });

  test('sizes 0 and 1, and results that nobody fuses', () => {
    configure({ device });
    expect(squarePlus(tensor([]), { shift: 1 }).shape).toEqual([0]);
    expect(squarePlus(tensor([]), { shift: 1 }).dataSync()).toHaveLength(0);
    expect(squaredNorm(tensor([[], []])).arraySync()).toEqual([0, 0]);
    expect(runningSum(tensor([[7]])).arraySync()).toEqual([[7]]);
    expect(shifted(tensor([7]), { by: 3 }).arraySync()).toEqual([7]);
  });
});

describe('kernels', () => {
  test('fuse with what stands before and behind', () => {
    const x = randn([64]);
    evaluate(x);
    resetStats();
    squarePlus(x.mul(3), { shift: 2 }).relu().sum().itemSync();
    expect(stats().kernelsExecuted).toBe(1);
    resetStats();
    const rows = randn([8, 8]);
    evaluate(rows);
    resetStats();
    evaluate(runningSum(shifted(rows.exp(), { by: 1 })).mul(2));
    expect(stats().kernelsExecuted).toBe(1);
  });

  test('attributes are part of the program', () => {
    const x = tensor([1, 2]);
    expect(squarePlus(x, { shift: 1 }).arraySync()).toEqual([2, 5]);
    expect(squarePlus(x, { shift: 2 }).arraySync()).toEqual([3, 6]);
    resetStats();
    expect(squarePlus(x, { shift: 1 }).arraySync()).toEqual([2, 5]);
    expect(stats().planMisses).toBe(0);
  });

  test('have the gradients that differences give, and those of compositions', async () => {
    const x = float64([
      [0.3, -1, 2],
      [4, 5.5, -6],
    ]);
    const y = float64([0.5, 2, -3]);
    expect(await gradcheck((a) => squarePlus(a, { shift: 1 }), [x])).toBeLessThan(1e-6);
    expect(await gradcheck((a, b) => times(a, b), [x, y])).toBeLessThan(1e-6);
    expect(await gradcheck((a) => shifted(a, { by: 1 }), [x])).toBeLessThan(1e-6);
    expect(await gradcheck((a) => squaredNorm(a), [x])).toBeLessThan(1e-6);
    expect(await gradcheck((a) => runningSum(a), [x])).toBeLessThan(1e-6);
    // Second derivatives: the rule is made of operations.
    const slope = grad((a: Tensor) => squaredNorm(squarePlus(a, { shift: 1 })).sum(), {
      createGraph: true,
    });
    expect(await gradcheck((a) => slope(a), [x])).toBeLessThan(1e-6);
  });

  test('round and wrap as their dtype says', () => {
    const halves = squarePlus(tensor([0.1, 300], { dtype: 'float16' }), { shift: 0 });
    expect(halves.dtype).toBe('float16');
    expect(halves.arraySync()).toEqual(
      tensor([0.1, 300], { dtype: 'float16' }).square().arraySync(),
    );
    const bytes = squarePlus(tensor([12, 11], { dtype: 'int8' }), { shift: 0 });
    expect(bytes.to('int32').arraySync()).toEqual([144 - 256, 121]);
  });

  test('are traced, replays included', () => {
    const plain = (x: Tensor) => runningSum(squarePlus(x, { shift: 1 })).sum();
    const x = tensor([[1, 2, 3]]);
    for (const options of [{}, { symbolic: true }, { withoutHost: true }]) {
      const traced = trace(plain, options);
      for (let i = 0; i < 3; i++) {
        const moved = x.add(i);
        evaluate(moved);
        expect(traced(moved).itemSync()).toBe(plain(moved).itemSync());
      }
      expect(traced.stats.recordings).toBe(1);
    }
  });
});

describe('what is wrong with a kernel is said at the call', () => {
  let count = 0;
  const nonDifferentiable = 'a test';
  const name = (): string => `test.broken${count++}`;
  const x = tensor([[1, 2, 3]]);

  test('a value of another type, or none', () => {
    const wrong = defineOp({
      name: name(),
      inputs: ['x'],
      kernel: { kind: 'elementwise', emit: (b) => b.constant(1, 'i32') },
      gradient: { nonDifferentiable },
    });
    expect(() => wrong(x)).toThrow(CompileError);
    expect(() => wrong(x)).toThrow(/gives i32 for float32/);
    expect(wrong(tensor([1], { dtype: 'int32' })).arraySync()).toEqual([1]);
  });

  test('indices that may lie outside', () => {
    const outside = defineOp({
      name: name(),
      inputs: ['x'],
      attrs: { by: 'int' },
      shape: ([x]) => x,
      kernel: {
        kind: 'indexed',
        emit: ({ builder, read }, indices, { by }) =>
          read(0, [indices[0]!, builder.offset(indices[1]!, by)]),
      },
      gradient: { nonDifferentiable },
    });
    expect(outside(x, { by: 0 }).arraySync()).toEqual([[1, 2, 3]]);
    expect(() => outside(x, { by: 1 })).toThrow(/index \[1, 3\] of input 0 at axis 1/);
    expect(() => outside(x, { by: -1 })).toThrow(CompileError);
    const few = defineOp({
      name: name(),
      inputs: ['x'],
      shape: ([x]) => x,
      kernel: { kind: 'indexed', emit: ({ read }, indices) => read(0, indices.slice(1)) },
      gradient: { nonDifferentiable },
    });
    expect(() => few(x)).toThrow(/1 indices for input 0 of \[1,3\]/);
  });

  test('shapes that the kernel does not make', () => {
    const wide = defineOp({
      name: name(),
      inputs: ['x'],
      shape: ([x]) => ({ shape: [...x.shape, 2], dtype: x.dtype }),
      kernel: { kind: 'elementwise', emit: (_b, [x]) => x },
      gradient: { nonDifferentiable },
    });
    expect(() => wide(x)).toThrow(ShapeError);
    const none = defineOp({
      name: name(),
      inputs: ['x'],
      shape: () => ({ shape: [1.5], dtype: 'float32' }),
      kernel: { kind: 'elementwise', emit: (_b, [x]) => x },
      gradient: { nonDifferentiable },
    });
    expect(() => none(x)).toThrow(ShapeError);
    const axis = defineOp({
      name: name(),
      inputs: ['x'],
      shape: ([x]) => ({ shape: [], dtype: x.dtype }),
      kernel: {
        kind: 'reduce',
        reduction: (_attrs, { dtype }) => ({
          axes: [1, 0],
          keepdims: false,
          accumulators: [{ type: valueTypeOf(dtype), identity: 0 }],
          map: (_b, value) => [value],
          combine: (b, [p], [q]) => [b.add(p!, q!)],
          finish: (_b, [total]) => total!,
        }),
      },
      gradient: { nonDifferentiable },
    });
    expect(() => axis(x)).toThrow(/axes \[1,0\]/);
  });

  test('loops that are not well formed', () => {
    const loose = defineOp({
      name: name(),
      inputs: ['x'],
      shape: ([x]) => x,
      kernel: {
        kind: 'loops',
        lower: ({ builder: b, write }) => {
          const item = b.variable('item', 'i32', { min: 0, max: 2 });
          const undeclared = b.variable('undeclared', 'f32');
          const body = write([b.constant(0), item], undeclared);
          return { gridIndex: item, gridSize: 3, body };
        },
      },
      gradient: { nonDifferentiable },
    });
    expect(() => loose(x)).toThrow(/test\.broken\d+: its kernel is not well formed/);
    expect(() => loose(x)).toThrow(CompileError);
  });

  test('dtypes that it does not take; gradients that are none', () => {
    expect(() => squarePlus(tensor([1], { dtype: 'int32' }), { shift: 1 })).toThrow(DTypeError);
    expect(() => times(tensor([1]), tensor([1], { dtype: 'int32' }))).toThrow(DTypeError);
    expect(() => times(tensor([1, 2]), tensor([1, 2, 3]))).toThrow(ShapeError);
    const rule = (gradient: () => readonly (Tensor | null)[]) =>
      defineOp({
        name: name(),
        inputs: ['x'],
        kernel: { kind: 'elementwise', emit: (_b, [x]) => x },
        gradient,
      });
    const slopeOf = (op: (x: Tensor) => Tensor) => () => grad((a: Tensor) => op(a).sum())(x);
    expect(slopeOf(rule(() => []))).toThrow(/0 gradients for 1 input/);
    expect(slopeOf(rule(() => [tensor([1])]))).toThrow(ShapeError);
    expect(slopeOf(rule(() => [tensor([[1, 2, 3]], { dtype: 'int32' })]))).toThrow(DTypeError);
    const none = defineOp({
      name: name(),
      inputs: ['x'],
      kernel: { kind: 'elementwise', emit: (_b, [x]) => x },
      gradient: { nonDifferentiable },
    });
    expect(slopeOf(none)).toThrow(/has no gradient: a test/);
    expect(noGrad(() => none(x)).arraySync()).toEqual([[1, 2, 3]]);
  });
});
