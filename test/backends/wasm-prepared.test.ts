// Kernels as prepareKernel makes them, on wasm against the interpreter: functions as polynomials,
// vectorized loops and what is left over of them, with the bits of strict numerics.
import { afterAll, describe, expect, it } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import type { DType } from '../../src/base/dtype.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression, MathUnary } from '../../src/ir/expression.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import type { Device } from '../../src/runtime/device.ts';

const COLUMNS = 87;
const ROWS = 5;
const SIZE = ROWS * COLUMNS;

const wasm = new WasmDevice({ threads: 1 });
const scalar = new InterpDevice({ vectorBytes: 4 });
const vector = new InterpDevice({ vectorBytes: 16 });
afterAll(() => [wasm, scalar, vector].forEach((device) => device.close()));

const MATH: readonly MathUnary[] = [
  'exp',
  'exp2',
  'expm1',
  'log',
  'log2',
  'log10',
  'log1p',
  'sin',
  'cos',
  'tan',
  'asin',
  'acos',
  'atan',
  'sinh',
  'cosh',
  'tanh',
  'asinh',
  'acosh',
  'atanh',
  'sigmoid',
  'erf',
  'erfc',
  'erfinv',
  'lgamma',
  'digamma',
];

/** out[r, c] = make(x[r, c], y[r, c]) as a marked loop over columns. */
function mapKernel(
  dtype: DType,
  make: (b: Builder, x: Expression, y: Expression) => Expression,
): Kernel {
  const b = new Builder();
  const [x, y] = ['x', 'y'].map((name) => b.buffer(name, dtype, 'read', { length: SIZE }));
  const out = b.buffer('out', dtype, 'write', { length: SIZE });
  const row = b.variable('row', 'i32', { min: 0, max: ROWS - 1 });
  const column = b.variable('column', 'i32', { min: 0, max: COLUMNS - 1 });
  const index = b.add(b.scale(row, COLUMNS), column);
  if (x === undefined || y === undefined) throw new Error('no buffers');
  return {
    name: 'map',
    buffers: [x, y, out],
    scratch: [],
    gridIndex: row,
    gridSize: ROWS,
    body: [
      {
        kind: 'for',
        index: column,
        start: b.constant(0),
        end: b.constant(COLUMNS),
        step: 1,
        vector: true,
        body: [
          { kind: 'store', buffer: out, index, value: make(b, b.load(x, index), b.load(y, index)) },
        ],
      },
    ],
  };
}

/** Numbers of all magnitudes and signs, near the functions' own points, and what is not finite. */
function sample(dtype: DType, shift: number): Uint8Array {
  const special = [0, -0, NaN, Infinity, -Infinity, 1, -1, 0.5, 1e-40, 3e38, -88, 89, 1e4, 2 ** 24];
  const values = Array.from({ length: SIZE }, (_, i) => {
    const at = i + shift;
    if (at % 3 === 0) return special[(at / 3) % special.length] as number;
    if (at % 3 === 1) return Math.sin(at * 12.9898) * 10 ** ((at % 11) - 5);
    return (at % 200) / 100 - 1;
  });
  const typed = dtype === 'float64' ? Float64Array.from(values) : Float32Array.from(values);
  return new Uint8Array(typed.buffer);
}

function runOn(device: Device, kernel: Kernel, dtype: DType): unknown[] {
  const target = device.target('strict');
  const prepared = prepareKernel(kernel, { ...target, mulHigh: true }, { verify: verifyKernel });
  const data = [sample(dtype, 0), sample(dtype, 7)];
  const bytes = (data[0] as Uint8Array).length;
  const executable = device.load({
    kernels: [prepared],
    dispatches: [{ kernel: 0, arguments: [0, 1, 2].map((index) => ({ space: 'binding', index })) }],
    arenaBytes: 0,
    bindings: [0, 1, 2].map((index) => ({ bytes, access: index === 2 ? 'write' : 'read' })),
    scalars: [],
  });
  const buffers = [0, 1, 2].map((index) => {
    const buffer = device.allocate(bytes);
    const initial = data[index];
    if (initial !== undefined) device.write(buffer, 0, initial);
    return buffer;
  });
  executable.run(buffers, new Float64Array());
  const result = Uint8Array.from(device.view(buffers[2] as (typeof buffers)[number])).buffer;
  executable.dispose();
  for (const buffer of buffers) device.free(buffer);
  const numbers = dtype === 'float64' ? new Float64Array(result) : new Float32Array(result);
  return Array.from(numbers, (value) => (Object.is(value, -0) ? '-0' : value));
}

function expectSame(
  dtype: DType,
  make: (b: Builder, x: Expression, y: Expression) => Expression,
): void {
  const kernel = mapKernel(dtype, make);
  const wanted = runOn(scalar, kernel, dtype);
  expect(runOn(vector, kernel, dtype)).toEqual(wanted);
  expect(runOn(wasm, kernel, dtype)).toEqual(wanted);
}

describe.each(['float32', 'float64'] as const)('functions of %s', (dtype) => {
  it.each(MATH)('%s', (op) => {
    expectSame(dtype, (b, x) => b.unary(op, x));
  });

  it.each(['pow', 'atan2', 'fmod'] as const)('%s', (op) => {
    expectSame(dtype, (b, x, y) => b.binary(op, x, y));
  });

  it('a chain with a branch', () => {
    expectSame(dtype, (b, x, y) => {
      const { type } = x;
      const positive = b.compare('gt', x, b.constant(0, type));
      const whole = b.max(b.mul(x, y), b.constant(0, type));
      return b.select(positive, b.unary('sqrt', whole), b.sub(y, b.div(x, b.constant(3, type))));
    });
  });
});
