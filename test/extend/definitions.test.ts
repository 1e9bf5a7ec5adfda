// Definitions and calls that are wrong are typed errors; compositions, with and without a gradient of
// their own.
import { describe, expect, test } from 'vitest';
import { ArgumentError, DTypeError, grad, ShapeError, tensor, type Tensor, trace } from 'tengen';
import { defineOp, gradcheck } from 'tengen/extend';
import { squarePlus } from './support.ts';

const kernel = { kind: 'elementwise', emit: (_b: unknown, [x]: readonly unknown[]) => x } as const;
const gradient = { nonDifferentiable: 'a test' };
const complete = { name: 'test.unused', inputs: ['x'], kernel, gradient };

describe('definitions', () => {
  const wrong: readonly [string, object][] = [
    ['as .package.operation', { name: 'relu' }],
    ['is no name', { name: 'a b.c' }],
    ['is no name', { name: 3 }],
    ['is defined already', { name: 'test.squarePlus' }],
    ['inputs must be different names', { inputs: [] }],
    ['inputs must be different names', { inputs: ['x', 'x'] }],
    ['inputs must be different names', { inputs: 'x' }],
    ['attribute a is of no kind', { attrs: { a: 'double' } }],
    ['attribute a is of no kind', { attrs: { a: [] } }],
    ['there is no dtype', { dtypes: ['float8'] }],
    ['0 of composition, kernel and host', { kernel: undefined }],
    ['2 of composition, kernel and host', { host: () => undefined }],
    ['no kind of kernel', { kernel: { kind: 'fast' } }],
    ['its kernel has no emit()', { kernel: { kind: 'elementwise' } }],
    [
      'a reduction has one input',
      { inputs: ['x', 'y'], kernel: { kind: 'reduce', reduction() {} } },
    ],
    ['the shape rule is missing', { kernel: { kind: 'indexed', emit() {} } }],
    ['shape is no function', { shape: [1] }],
    ['the gradient is missing', { gradient: undefined }],
    ['neither a rule nor', { gradient: {} }],
    ['neither a rule nor', { gradient: { nonDifferentiable: '' } }],
    ["there is no option 'atrs'", { atrs: {} }],
  ];
  test.each(wrong)('%s', (message, change) => {
    const define = () => defineOp({ ...complete, ...change } as never);
    expect(define).toThrow(ArgumentError);
    expect(define).toThrow(new RegExp(message.replaceAll(/[()]/g, '\\$&')));
  });

  test('that fail take no name', () => {
    expect(() => defineOp({ ...complete, gradient: {} } as never)).toThrow(ArgumentError);
    const op = defineOp({ ...complete, name: 'test.unused' } as never) as (x: Tensor) => Tensor;
    expect(op(tensor([1])).arraySync()).toEqual([1]);
    expect(() => defineOp(complete as never)).toThrow(/is defined already/);
  });
});

describe('calls', () => {
  const all = defineOp({
    name: 'test.allKinds',
    inputs: ['x'],
    attrs: { a: 'int', b: 'float', c: 'ints', d: 'flag', e: 'dtype', f: ['near', 'far'] },
    composition: ([x], { a, b, c, d, e, f }) =>
      x.mul(a + b + c.length + Number(d) + Number(f === 'far')).to(e),
  });
  const right = { a: 1, b: 0.5, c: [1, 2], d: true, e: 'float64', f: 'far' } as const;

  test('take attributes of their kinds', () => {
    const result = all(tensor([2]), right);
    expect([result.dtype, result.arraySync()]).toEqual(['float64', [11]]);
    const wrong = [
      { a: 1.5 },
      { a: 2 ** 31 },
      { b: '1' },
      { c: 1 },
      { c: [0.5] },
      { d: 1 },
      { e: 'double' },
      { f: 'middle' },
      { f: undefined },
      { g: 1 },
    ];
    for (const change of wrong) {
      const attrs = { ...right, ...change } as never;
      expect(() => all(tensor([2]), attrs), JSON.stringify(change)).toThrow(ArgumentError);
    }
  });

  test('take one tensor for each input', () => {
    const loose = squarePlus as unknown as (...args: unknown[]) => Tensor;
    expect(() => loose()).toThrow(/it takes x, attributes/);
    expect(() => loose(tensor([1]))).toThrow(ArgumentError);
    expect(() => loose([1], { shift: 1 })).toThrow(/expected a tensor/);
    expect(() => loose(tensor([1]), null)).toThrow(ArgumentError);
  });
});

describe('compositions', () => {
  test('are differentiated as what they are made of', async () => {
    const softSign = defineOp({
      name: 'test.softSign',
      inputs: ['x'],
      dtypes: ['float32', 'float64'],
      composition: ([x]) => x.div(x.abs().add(1)),
    });
    expect(softSign(tensor([1, -3])).arraySync()).toEqual([0.5, -0.75]);
    expect(
      await gradcheck((x) => softSign(x), [tensor([1, -3], { dtype: 'float64' })]),
    ).toBeLessThan(1e-6);
    expect(() => softSign(tensor([1], { dtype: 'int32' }))).toThrow(DTypeError);
  });

  test('may have a gradient of their own, in replays too', () => {
    const roundThrough = defineOp({
      name: 'test.roundThrough',
      inputs: ['x'],
      attrs: { step: 'float' },
      composition: ([x], { step }) => x.div(step).round().mul(step),
      gradient: ({ grad: g, attrs: { step } }) => [g.mul(step)],
    });
    const x = tensor([0.3, 1.2]);
    expect(roundThrough(x, { step: 0.5 }).arraySync()).toEqual([0.5, 1]);
    const slope = grad((a: Tensor) => roundThrough(a.mul(3), { step: 0.5 }).sum());
    expect(slope(x).arraySync()).toEqual([1.5, 1.5]);
    const traced = trace((a: Tensor) => slope(a), { withoutHost: true });
    expect(traced(x).arraySync()).toEqual([1.5, 1.5]);
    expect(traced(x.add(1)).arraySync()).toEqual([1.5, 1.5]);
    // The value, differentiated outside of the replay.
    const value = trace((a: Tensor) => roundThrough(a, { step: 0.5 }), { withoutHost: true });
    value(x);
    const through = grad((a: Tensor) => value(a).sum());
    expect(through(x).arraySync()).toEqual([0.5, 0.5]);
    expect(through(x).arraySync()).toEqual([0.5, 0.5]);
  });

  test('are held to their shape rule', () => {
    const wrong = defineOp({
      name: 'test.wrongShape',
      inputs: ['x'],
      shape: ([x]) => x,
      composition: ([x]) => x.sum(),
    });
    expect(() => wrong(tensor([1, 2]))).toThrow(ShapeError);
    const nothing = defineOp({
      name: 'test.nothing',
      inputs: ['x'],
      composition: (() => 3) as never,
    });
    expect(() => nothing(tensor([1]))).toThrow(ArgumentError);
  });
});
