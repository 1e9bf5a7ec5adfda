// Wrong arguments: a typed error on the caller's line that names what was called, and what to do.
import { describe, expect, test } from 'vitest';
import {
  ArgumentError,
  bernoulli,
  cat,
  DTypeError,
  F,
  configure,
  full,
  fullLike,
  grad,
  GradManager,
  meshgrid,
  nn,
  noGrad,
  ShapeError,
  stack,
  tensor,
  type Tensor,
  trace,
  vjp,
  zeros,
  zerosLike,
} from 'tengen';
import { checkLeaks, expectValues } from './support.ts';

checkLeaks();

describe('where a tensor, a number or a list is expected', () => {
  const w = tensor([1, 2]);
  test.each<[string, () => unknown, string]>([
    ['assign', () => w.assign(1 as never), 'assign: expected a tensor, got 1'],
    [
      'cat',
      () => cat(w as never, w as never),
      'cat: expected a list of tensors, got Tensor. hint: cat([x, y])',
    ],
    ['stack', () => stack(w as never), 'hint: stack([x, y])'],
    ['meshgrid', () => meshgrid(tensor([1]) as never), 'hint: meshgrid([x, y])'],
    ['zerosLike', () => zerosLike([1] as never), 'zerosLike: expected a tensor, got Array'],
    [
      'noGrad',
      () => noGrad(tensor(1) as never),
      'expected a function, got Tensor. hint: noGrad(() => ...)',
    ],
    ['trace', () => trace(undefined as never), 'trace: expected a function'],
    ['grad', () => grad(1 as never), 'grad: expected a function, got 1'],
    ['vjp', () => vjp(1 as never), 'vjp: expected a function'],
    [
      'a list of modules',
      () => new nn.ModuleList(new nn.ReLU() as never),
      'new nn.ModuleList([a, b])',
    ],
    [
      'options',
      () => configure({ thread: 2 } as never),
      "no option 'thread'. hint: did you mean threads?",
    ],
    ['a shape', () => F.layerNorm(tensor([1]), undefined as never), 'layerNorm: normalizedShape'],
    ['sizes', () => F.adaptiveAvgPool1d(tensor([[1]]), undefined as never), 'adaptiveAvgPool1d'],
    ['amounts', () => F.pad(tensor([1]), 1 as never), 'pad: expected a list of amounts, got 1'],
    ['cat of nothing', () => cat(undefined as never), 'got undefined'],
    ['bernoulli', () => bernoulli(2 as never), 'bernoulli: expected a tensor, got 2'],
    ['full', () => full([2], 'a' as never), "full: expected a number, got 'a'"],
    ['full without a value', () => full([2], undefined as never), 'got undefined'],
    ['fullLike', () => fullLike(w, 'a' as never), 'fullLike: expected a number'],
    [
      'a layer',
      () => new nn.Linear(1, 1).forward(null as never),
      'linear: expected a tensor, got null',
    ],
    [
      'a parameter',
      () => new nn.Parameter(1 as never),
      'nn.Parameter: expected a tensor or a typed array, got 1',
    ],
    [
      'a kernel',
      () => new nn.Conv2d(1, 1, undefined as never),
      'nn.Conv2d: kernelSize must be an integer of at least 1, got undefined',
    ],
    ['a norm', () => new nn.LayerNorm(undefined as never), 'normalizedShape must be an integer'],
    [
      'a state dict',
      () => new nn.Linear(1, 1).loadStateDict(undefined as never),
      'expected a state dict, got undefined',
    ],
    [
      'its values',
      () => new nn.Linear(1, 1).loadStateDict({ weight: 1 } as never),
      'expected a tensor as weight, got 1',
    ],
  ])('%s', (_, run, message) => {
    expect(run).toThrow(ArgumentError);
    expect(run).toThrow(message);
  });

  test('shapes, and arrays that no dtype holds', () => {
    expect(() => full(2 as never, 1)).toThrow('full: sizes must be non-negative integers, got 2');
    expect(() => tensor(new BigInt64Array(1) as never)).toThrow(
      'tensor: cannot hold BigInt64Array. hint: convert it: Int32Array.from(x, Number)',
    );
    expect(() => zeros(-1)).toThrow(ShapeError);
    expect(() => new nn.Parameter(tensor([1], { dtype: 'int32' }))).toThrow(DTypeError);
  });
});

describe('errors name what was called', () => {
  const image = tensor([[[[1]]]]);
  test.each<[string, () => Tensor]>([
    ['cat', () => cat([tensor([1]), tensor([[1]])])],
    ['maxPool1d', () => F.maxPool1d(tensor([[[1]]]), 3) as Tensor],
    ['maxPool2d', () => F.maxPool2d(image, 3) as Tensor],
    ['avgPool2d', () => F.avgPool2d(image, 3)],
    ['lpPool2d', () => F.lpPool2d(image, 2, 3)],
  ])('%s', (name, run) => {
    expect(run).toThrow(ShapeError);
    expect(run).toThrow(`${name}: `);
  });
});

describe('values from the host', () => {
  test('are encoded for the dtype, and checked', () => {
    const half = tensor([0, 0], { dtype: 'float16' });
    expectValues(half.setData([1.5, 2.5]), [1.5, 2.5]);
    expectValues(half.setData(new Float32Array([0.5, 1])), [0.5, 1]);
    expectValues(half.setData(new Uint16Array([0x3c00, 0])), [1, 0]);
    expectValues(new nn.Parameter(new Float32Array([1.5]), [1], 'float16'), [1.5]);
    const bytes = tensor([1, 2], { dtype: 'int8' });
    expect(() => bytes.setData([300, 0])).toThrow('setData: 300 does not fit int8');
    expectValues(bytes, [1, 2]);
    expect(() => bytes.setData([1])).toThrow('1 values do not fill [2]');
  });

  test.each([[tensor([3, 4])], [[[3], [4]]], [['a', 'b']], [undefined], [7]])(
    'numbers in row-major order, not %s',
    (values) => {
      const x = tensor([1, 2]);
      expect(() => x.setData(values as never)).toThrow('expected numbers in row-major order');
      expect(() => x.setData(values as never)).toThrow('assign(x) takes a tensor');
      expectValues(x, [1, 2]);
    },
  );
});

describe('losses take targets of the shape of the input', () => {
  test.each([
    'mseLoss',
    'l1Loss',
    'smoothL1Loss',
    'huberLoss',
    'klDiv',
    'poissonNllLoss',
    'binaryCrossEntropy',
    'binaryCrossEntropyWithLogits',
    'softMarginLoss',
    'hingeEmbeddingLoss',
    'multilabelSoftMarginLoss',
  ] as const)('%s', (name) => {
    const [input, target] = [tensor([[0.1], [0.2]]), tensor([0.1, 0.2])];
    expect(() => F[name](input, target)).toThrow(ShapeError);
    expect(() => F[name](input, target)).toThrow(
      `${name}: shapes differ, [2,1] and [2]. hint: reshape() one of them`,
    );
    expect(F[name](input, target.reshape(2, 1)).shape).toEqual([]);
  });
});

describe('tensors as JavaScript sees them', () => {
  test('iteration goes along the first axis', () => {
    const [first, second] = tensor([
      [1, 2],
      [3, 4],
    ]);
    expectValues(first as Tensor, [1, 2]);
    expectValues(second as Tensor, [3, 4]);
    expect([...zeros(0, 3)]).toHaveLength(0);
    expect(() => [...tensor(1)]).toThrow(ShapeError);
    expect(() => [...tensor(1)]).toThrow('read its number with itemSync()');
  });

  test('a single tensor is not taken for a list of its rows', () => {
    const w = new nn.Parameter(tensor([1, 2]));
    expect(new GradManager().attach(w).attached()).toHaveLength(1);
    expect(new nn.ParameterList(w).parameters()).toHaveLength(1);
  });

  test('JSON holds the values', () => {
    const x = tensor([[1.5, NaN]]);
    expect(JSON.stringify({ x, flag: tensor(true), half: tensor([2]).half() })).toBe(
      '{"x":[[1.5,null]],"flag":true,"half":[2]}',
    );
  });

  test('only what is not computed with gradients is a leaf', () => {
    const w = new nn.Parameter(tensor([1]));
    expect([w.isLeaf, tensor([1]).isLeaf, w.mul(2).isLeaf, w.mul(2).detach().isLeaf]).toEqual([
      true,
      true,
      false,
      true,
    ]);
    w.assign(w.mul(2).detach());
    expect(w.isLeaf).toBe(true);
    expect(tensor([1], { requiresGrad: true }).isLeaf).toBe(true);
  });
});
