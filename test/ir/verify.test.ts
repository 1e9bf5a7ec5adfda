// What printing looks like, that it is canonical, and that verification catches broken kernels.
import { describe, expect, it } from 'vitest';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import type { Kernel, Statement } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { printKernel } from '../../src/ir/print.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { randomKernel } from './random.ts';
import { elementwise, prefetching, targetOf } from './support.ts';

const relu = (length: number): Kernel =>
  elementwise(length, ['float32', 'float32'], 'float32', (b, [x, y]) =>
    b.max(b.add(x as Expression, y as Expression), b.constant(0, 'f32')),
  );

describe('printKernel', () => {
  it('prints a loop as it was lowered', () => {
    expect(printKernel(relu(10))).toBe(
      [
        'kernel(b0: float32 read, b1: float32 read, b2: float32 write)',
        '  grid v0 < 1',
        '  for v1 = 0 .. 10 vector',
        '    b2[v1] = max(b0[v1] + b1[v1], 0f)',
      ].join('\n'),
    );
  });

  it('prints it prepared: whole vectors, a narrower one, scalars', () => {
    expect(printKernel(prepareKernel(relu(79), targetOf(64)))).toBe(
      [
        'kernel(b0: float32 read, b1: float32 read, b2: float32 write)',
        '  grid v0 < 1',
        '  for v1 = 0 .. 64 step 16',
        '    b2[v1 : 16] = max(b0[v1 : 16] + b1[v1 : 16], 0fx16)',
        '  b2[64 : 8] = max(b0[64 : 8] + b1[64 : 8], 0fx8)',
        '  b2[72 : 4] = max(b0[72 : 4] + b1[72 : 4], 0fx4)',
        '  for v2 = 76 .. 79',
        '    b2[v2] = max(b0[v2] + b1[v2], 0f)',
      ].join('\n'),
    );
  });

  it('prints what memory is told of, and leaves it where it stands', () => {
    const kernel = prefetching(relu(10));
    const printed = printKernel(prepareKernel(kernel, { ...targetOf(64), prefetches: true }));
    expect(printed).toContain('  prefetch b0[1000]\n');
    expect(() => verifyKernel(kernel)).not.toThrow();
  });

  it('prints equal kernels equally, whatever their names and ids', () => {
    for (let seed = 0; seed < 20; seed++) {
      const kernel = randomKernel(seed);
      const again = randomKernel(seed);
      expect(printKernel({ ...again, name: 'other' })).toBe(printKernel(kernel));
      expect(printKernel(randomKernel(seed + 1000))).not.toBe(printKernel(kernel));
    }
  });

  it('does not explode where expressions are shared', () => {
    const kernel = elementwise(4, ['float32'], 'float32', (b, [x]) => {
      let value = x as Expression;
      for (let n = 0; n < 60; n++) value = b.add(b.mul(value, value), value);
      return value;
    });
    expect(printKernel(kernel).length).toBeLessThan(5000);
  });
});

describe('verifyKernel', () => {
  const b = new Builder();
  const x = b.buffer('x', 'float32', 'read');
  const y = b.buffer('y', 'float32', 'write');
  const g = b.variable('g', 'i32', { min: 0, max: 3 });
  const kernelOf = (...body: Statement[]): Kernel => {
    return { name: 'k', buffers: [x, y], scratch: [], gridIndex: g, gridSize: 4, body };
  };
  const loose = b.variable('loose', 'f32');
  const value = b.load(x, g);
  const other = b.buffer('other', 'float32', 'read');

  const broken: [string, RegExp, Statement[]][] = [
    [
      'a variable out of scope',
      /loose is out of scope/,
      [{ kind: 'store', buffer: y, index: g, value: loose }],
    ],
    [
      'an undeclared buffer',
      /buffer other is not declared/,
      [{ kind: 'store', buffer: y, index: g, value: b.load(other, g) }],
    ],
    [
      'a store to an input',
      /store to read-only x/,
      [{ kind: 'store', buffer: x, index: g, value }],
    ],
    [
      'a load from an output',
      /load from write-only y/,
      [{ kind: 'store', buffer: y, index: g, value: b.load(y, g) }],
    ],
    [
      'a store of another type',
      /store of i32 to float32 y/,
      [{ kind: 'store', buffer: y, index: g, value: g }],
    ],
    [
      'an assignment to a constant',
      /loose is assigned but not mutable/,
      [
        { kind: 'let', variable: loose, value },
        { kind: 'assign', variable: loose, value },
      ],
    ],
    [
      'a second declaration',
      /loose is declared twice/,
      [
        { kind: 'let', variable: loose, value },
        { kind: 'let', variable: loose, value },
      ],
    ],
    [
      'an undeclared buffer that memory is told of',
      /buffer other is not declared/,
      [{ kind: 'prefetch', buffer: other, index: g }],
    ],
    [
      'a vector as the index of a prefetch',
      /a prefetch index is i32x4/,
      [{ kind: 'prefetch', buffer: x, index: b.splat(g, 4) }],
    ],
    [
      'a vector as index',
      /a store index is i32x4/,
      [{ kind: 'store', buffer: y, index: b.splat(g, 4), value }],
    ],
  ];
  it.each(broken)('finds %s', (_, message, body) => {
    expect(() => verifyKernel(kernelOf(...body))).toThrow(message);
    expect(() => verifyKernel(kernelOf(...body))).toThrow(/^internal: kernel k: /);
  });

  it('finds what decomposition left', () => {
    const kernel = kernelOf({ kind: 'store', buffer: y, index: g, value: b.unary('exp', value) });
    expect(() => verifyKernel(kernel)).not.toThrow();
    expect(() => verifyKernel(kernel, { decomposed: true })).toThrow(/exp was not decomposed/);
  });
});
