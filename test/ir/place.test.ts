// Where placement puts what: read the printed kernels.
import { describe, expect, it } from 'vitest';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression, Variable } from '../../src/ir/expression.ts';
import { branch, type For, type Kernel, type Statement } from '../../src/ir/kernel.ts';
import { place } from '../../src/ir/place.ts';
import { printKernel } from '../../src/ir/print.ts';
import { verifyKernel } from '../../src/ir/verify.ts';

const b = new Builder();
const x = b.buffer('x', 'float32', 'read');
const y = b.buffer('y', 'float32', 'readwrite');
const g = b.variable('g', 'i32', { min: 0, max: 3 });

function index(name: string): Variable {
  return b.variable(name, 'i32', { min: 0, max: 7 });
}

function loop(variable: Variable, body: readonly Statement[]): For {
  const [start, end] = [b.constant(0), b.constant(8)];
  return { kind: 'for', index: variable, start, end, step: 1, body };
}

function store(at: Expression, value: Expression): Statement {
  return { kind: 'store', buffer: y, index: at, value };
}

/** The body of a placed kernel, printed with canonical names. */
function placed(body: readonly Statement[]): string {
  const kernel: Kernel = {
    name: 'k',
    buffers: [x, y],
    scratch: [],
    gridIndex: g,
    gridSize: 4,
    body,
  };
  verifyKernel(kernel);
  const result = place(kernel);
  verifyKernel(result);
  return `\n${printKernel(result).split('\n').slice(2).join('\n')}\n`;
}

describe('place', () => {
  it('takes what does not change out of loops, each part as far as it goes', () => {
    const i = index('i');
    const j = index('j');
    const row = b.add(b.scale(g, 64), b.scale(i, 8));
    const scaled = b.mul(b.load(x, g), b.load(x, i));
    const body = [
      loop(i, [loop(j, [store(b.add(row, j), b.mul(scaled, b.load(x, b.add(row, j))))])]),
    ];
    expect(placed(body)).toBe(`
  let v1: i32 = v0 * 64
  let v2: f32 = b0[v0]
  for v3 = 0 .. 8
    let v4: i32 = v1 + (v3 * 8)
    let v5: f32 = v2 * b0[v3]
    for v6 = 0 .. 8
      let v7: i32 = v4 + v6
      b1[v7] = v5 * b0[v7]
`);
  });

  it('leaves index + constant to the addressing of loads and stores', () => {
    const i = index('i');
    const value = b.add(b.load(x, b.offset(i, 1)), b.load(x, b.offset(i, 2)));
    expect(placed([loop(i, [store(b.offset(i, 3), value)])])).toBe(`
  for v1 = 0 .. 8
    b1[v1 + 3] = b0[v1 + 1] + b0[v1 + 2]
`);
  });

  it('shares among statements, before the first that needs it', () => {
    const root = b.unary('sqrt', b.load(x, g));
    const body = [
      store(g, b.constant(1, 'f32')),
      store(b.offset(g, 4), root),
      store(b.offset(g, 8), b.mul(root, root)),
    ];
    expect(placed(body)).toBe(`
  b1[v0] = 1f
  let v1: f32 = sqrt(b0[v0])
  b1[v0 + 4] = v1
  b1[v0 + 8] = v1 * v1
`);
  });

  it('does not move loads across stores to their buffer, nor out of loops that hold one', () => {
    const i = index('i');
    const value = b.load(y, g);
    const body = [
      loop(i, [store(b.offset(i, 8), b.mul(value, value)), store(b.offset(i, 16), value)]),
    ];
    expect(placed(body)).toBe(`
  for v1 = 0 .. 8
    let v2: f32 = b1[v0]
    b1[v1 + 8] = v2 * v2
    b1[v1 + 16] = b1[v0]
`);
  });

  it('shares what reads a mutable variable only until it is assigned', () => {
    const sum = b.variable('sum', 'f32', { mutable: true });
    const twice = b.mul(sum, sum);
    const body: Statement[] = [
      { kind: 'declare', variable: sum, value: b.load(x, g) },
      store(g, twice),
      store(b.offset(g, 1), twice),
      { kind: 'assign', variable: sum, value: twice },
      store(b.offset(g, 2), twice),
    ];
    expect(placed(body)).toBe(`
  var v1: f32 = b0[v0]
  let v2: f32 = v1 * v1
  b1[v0] = v2
  b1[v0 + 1] = v2
  v1 = v2
  b1[v0 + 2] = v1 * v1
`);
  });

  it('takes arithmetic, but no load, out of a branch when that leaves a loop', () => {
    const i = index('i');
    const body = [
      loop(i, [
        branch(b.compare('lt', i, b.constant(4)), [
          store(i, b.mul(b.load(x, g), b.convert(b.mul(g, g), 'f32'))),
        ]),
      ]),
    ];
    expect(placed(body)).toBe(`
  let v1: f32 = f32(v0 * v0)
  for v2 = 0 .. 8
    if v2 < 4
      b1[v2] = b0[v0] * v1
`);
  });

  it('reuses in a branch what stands before it', () => {
    const value = b.load(x, g);
    const body = [
      store(g, value),
      branch(b.compare('lt', g, b.constant(2)), [store(b.offset(g, 8), b.unary('neg', value))]),
    ];
    expect(placed(body)).toBe(`
  let v1: f32 = b0[v0]
  b1[v0] = v1
  if v0 < 2
    b1[v0 + 8] = neg(v1)
`);
  });

  it('places 200 kernels of 500 expressions in well under a second of CPU time', () => {
    const kernels = Array.from({ length: 200 }, () => large(500));
    place(large(500));
    const start = process.cpuUsage();
    for (const kernel of kernels) place(kernel);
    const { user } = process.cpuUsage(start);
    // Microseconds; about a fifth of this on an idle core.
    expect(user).toBeLessThan(1e6);
  });
});

function large(expressions: number): Kernel {
  const builder = new Builder();
  const input = builder.buffer('x', 'float32', 'read');
  const output = builder.buffer('y', 'float32', 'write');
  const gridIndex = builder.variable('g', 'i32', { min: 0, max: 3 });
  const i = builder.variable('i', 'i32', { min: 0, max: 7 });
  let value = builder.load(input, i);
  for (let n = 0; n < expressions / 2; n++) {
    const other = builder.constant(n, 'f32');
    value = builder.mul(
      builder.add(value, n % 3 === 0 ? builder.load(input, gridIndex) : other),
      value,
    );
  }
  const [start, end] = [builder.constant(0), builder.constant(8)];
  const stored: Statement = { kind: 'store', buffer: output, index: i, value };
  return {
    name: 'large',
    buffers: [input, output],
    scratch: [],
    gridIndex,
    gridSize: 1,
    body: [{ kind: 'for', index: i, start, end, step: 1, body: [stored] }],
  };
}
