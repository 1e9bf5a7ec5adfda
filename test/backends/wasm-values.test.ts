// Every operation, register type and storage type on wasm, scalar and vector, bit for bit against
// the interpreter.
import { afterAll, describe, expect, it } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import {
  byteSize,
  type DType,
  DTYPES,
  fromFloat16Bits,
  toBfloat16Bits,
  toFloat16Bits,
  viewTypedArray,
} from '../../src/base/dtype.ts';
import { Builder } from '../../src/ir/builder.ts';
import {
  type BinaryOp,
  type Expression,
  type UnaryOp,
  type ValueType,
  valueTypeOf,
} from '../../src/ir/expression.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import type { Device } from '../../src/runtime/device.ts';
import type { Plan } from '../../src/runtime/plan.ts';

const COUNT = 256;

const relaxed = new WasmDevice({ threads: 1 });
const plain = new WasmDevice({ threads: 1, relaxed: false });
const interp = new InterpDevice();
afterAll(() => [relaxed, plain, interp].forEach((device) => device.close()));

/** A small deterministic generator (LCG), so that a failure can be seen again. */
function randomBits(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state ^ (state >>> 15)) >>> 0;
  };
}

const SPECIAL: Readonly<Record<'float' | 'integer', readonly number[]>> = {
  float: [
    0,
    -0,
    1,
    -1,
    0.5,
    1.5,
    2.5,
    -0.5,
    -2.5,
    NaN,
    Infinity,
    -Infinity,
    1e-45,
    -1e-40,
    3.4e38,
    65504,
    65519.99,
    65520,
    6.1e-5,
    5.9e-8,
    2.9e-8,
    2147483648,
    -2147483649,
    4294967296,
    16777217,
    8388609.5,
  ],
  integer: [0, 1, -1, 2, -2, 127, 128, -128, 255, 32767, 32768, -32768, 2 ** 31 - 1, -(2 ** 31)],
};

/** Bytes of `COUNT` numbers: specials in varying order, then random bits and moderate numbers. */
function sampleBytes(dtype: DType, seed: number): Uint8Array {
  const bytes = new Uint8Array(COUNT * byteSize(dtype));
  const view = viewTypedArray(dtype, bytes.buffer, 0, COUNT);
  const next = randomBits(seed);
  for (const [i] of [...bytes].entries()) bytes[i] = next() >>> 24;
  if (dtype === 'bool') return bytes.map((byte) => byte & 1);
  const float = dtype.includes('float');
  const special = SPECIAL[float ? 'float' : 'integer'];
  const encode =
    dtype === 'float16' ? toFloat16Bits : dtype === 'bfloat16' ? toBfloat16Bits : Number;
  for (let i = 0; i < 160; i++) {
    const moderate = float ? (next() / 2 ** 31 - 1) * 100 : (next() % 2001) - 1000;
    view[i] = encode(i < 100 ? (special[next() % special.length] as number) : moderate);
  }
  return bytes;
}

type Make = (b: Builder, operands: readonly Expression[]) => Expression;

/** out[i] = make(inputs[i]...), `lanes` elements in each grid item. */
function mapKernel(inputs: readonly DType[], output: DType, lanes: number, make: Make): Kernel {
  const b = new Builder();
  const sources = inputs.map((dtype, i) => b.buffer(`x${i}`, dtype, 'read', { length: COUNT }));
  const out = b.buffer('out', output, 'write', { length: COUNT });
  const item = b.variable('item', 'i32', { min: 0, max: COUNT / lanes - 1 });
  const index = b.scale(item, lanes);
  const value = make(
    b,
    sources.map((source) => b.load(source, index, lanes)),
  );
  return {
    name: 'map',
    buffers: [...sources, out],
    scratch: [],
    gridIndex: item,
    gridSize: COUNT / lanes,
    body: [{ kind: 'store', buffer: out, index, value }],
  };
}

function planOf(kernel: Kernel): Plan {
  return {
    kernels: [kernel],
    dispatches: [
      { kernel: 0, arguments: kernel.buffers.map((_, index) => ({ space: 'binding', index })) },
    ],
    arenaBytes: 0,
    bindings: kernel.buffers.map(({ dtype, access }) => ({
      bytes: COUNT * byteSize(dtype),
      access,
    })),
    scalars: [],
  };
}

/** The output's bytes after one run on a device. */
function runOn(device: Device, kernel: Kernel, inputs: readonly Uint8Array[]): Uint8Array {
  const executable = device.load(planOf(kernel));
  const buffers = kernel.buffers.map(({ dtype }, index) => {
    const buffer = device.allocate(COUNT * byteSize(dtype));
    device.write(buffer, 0, inputs[index] ?? new Uint8Array(buffer.bytes));
    return buffer;
  });
  executable.run(buffers, new Float64Array());
  const output = device.view(buffers.at(-1) as (typeof buffers)[number]).slice();
  executable.dispose();
  for (const buffer of buffers) device.free(buffer);
  return new Uint8Array(output);
}

/** The numbers' bits, every NaN the same. */
function canonical(dtype: DType, bytes: Uint8Array): (string | number)[] {
  const view = viewTypedArray(dtype, bytes.buffer, 0, COUNT);
  return Array.from(view, (value) => {
    const number =
      dtype === 'float16'
        ? fromFloat16Bits(value)
        : dtype === 'bfloat16' && (value & 0x7fff) > 0x7f80
          ? NaN
          : value;
    if (Number.isNaN(number)) return 'NaN';
    return Object.is(value, -0) ? '-0' : value;
  });
}

function expectSame(
  inputs: readonly DType[],
  output: DType,
  lanes: number,
  make: Make,
  devices: readonly WasmDevice[] = [plain, relaxed],
): void {
  const kernel = mapKernel(inputs, output, lanes, make);
  const data = inputs.map((dtype, i) => sampleBytes(dtype, 17 + 31 * i));
  const wanted = canonical(output, runOn(interp, kernel, data));
  for (const device of devices) {
    expect(canonical(output, runOn(device, kernel, data))).toEqual(wanted);
  }
}

const STORAGE: Readonly<Record<ValueType, DType>> = {
  f32: 'float32',
  f64: 'float64',
  i32: 'int32',
  u32: 'uint32',
  bool: 'bool',
};
const TYPES: readonly ValueType[] = ['f32', 'f64', 'i32', 'u32', 'bool'];

function lanesOf(...types: readonly ValueType[]): readonly number[] {
  return types.includes('f64') ? [1, 2] : [1, 2, 4];
}

describe('unary operations', () => {
  const ops: Readonly<Record<ValueType, readonly UnaryOp[]>> = {
    f32: ['neg', 'abs', 'sqrt', 'floor', 'ceil', 'trunc', 'round'],
    f64: ['neg', 'abs', 'sqrt', 'floor', 'ceil', 'trunc', 'round'],
    i32: ['neg', 'abs', 'not'],
    u32: ['neg', 'not'],
    bool: ['not'],
  };
  for (const type of TYPES) {
    it.each(ops[type])(`%s of ${type}`, (op) => {
      for (const lanes of lanesOf(type)) {
        expectSame([STORAGE[type]], STORAGE[type], lanes, (b, [x]) => b.unary(op, x as Expression));
      }
    });
  }
});

describe('binary operations', () => {
  const arithmetic: readonly BinaryOp[] = ['add', 'sub', 'mul', 'min', 'max'];
  const bits: readonly BinaryOp[] = ['and', 'or', 'xor'];
  const ops: Readonly<Record<ValueType, readonly BinaryOp[]>> = {
    f32: [...arithmetic, 'div'],
    f64: [...arithmetic, 'div'],
    i32: [...arithmetic, ...bits],
    u32: [...arithmetic, ...bits, 'mulHigh'],
    bool: bits,
  };
  for (const type of TYPES) {
    const dtype = STORAGE[type];
    it.each(ops[type])(`%s of ${type}`, (op) => {
      for (const lanes of lanesOf(type)) {
        expectSame([dtype, dtype], dtype, lanes, (b, [x, y]) =>
          b.binary(op, x as Expression, y as Expression),
        );
      }
    });

    const orders = type === 'bool' ? [] : (['lt', 'le', 'gt', 'ge'] as const);
    it.each(['eq', 'ne', ...orders] as const)(`%s of ${type}`, (op) => {
      for (const lanes of lanesOf(type)) {
        expectSame([dtype, dtype], 'bool', lanes, (b, [x, y]) =>
          b.compare(op, x as Expression, y as Expression),
        );
      }
    });
  }

  it.each(['div', 'rem'] as const)('integer %s', (op) => {
    for (const type of ['i32', 'u32'] as const) {
      for (const lanes of lanesOf(type)) {
        // The interpreter refuses a zero divisor: or 1 makes it odd.
        expectSame([STORAGE[type], STORAGE[type]], STORAGE[type], lanes, (b, [x, y]) =>
          b.binary(op, x as Expression, b.or(y as Expression, b.constant(1, type, lanes))),
        );
        for (const divisor of [1, 3, 8, type === 'u32' ? 2 ** 31 : -5]) {
          expectSame([STORAGE[type]], STORAGE[type], lanes, (b, [x]) =>
            b.binary(op, x as Expression, b.constant(divisor, type, lanes)),
          );
        }
      }
    }
  });

  it.each(['shl', 'shr'] as const)('%s', (op) => {
    for (const type of ['i32', 'u32'] as const) {
      for (const lanes of lanesOf(type)) {
        const dtype = STORAGE[type];
        const mask = (b: Builder, y: Expression): Expression =>
          b.and(y, b.constant(31, type, y.lanes));
        expectSame([dtype, dtype], dtype, lanes, (b, [x, y]) =>
          b.binary(op, x as Expression, mask(b, y as Expression)),
        );
        expectSame([dtype], dtype, lanes, (b, [x]) =>
          b.binary(op, x as Expression, b.constant(7, type, lanes)),
        );
      }
    }
  });

  it.each(['min', 'max'] as const)('%s with a constant', (op) => {
    for (const value of [0, -0, 1, -3.5, Infinity, NaN]) {
      for (const type of ['f32', 'f64'] as const) {
        for (const lanes of lanesOf(type)) {
          expectSame([STORAGE[type]], STORAGE[type], lanes, (b, [x]) =>
            b.binary(op, x as Expression, b.constant(value, type, lanes)),
          );
          expectSame([STORAGE[type]], STORAGE[type], lanes, (b, [x]) =>
            b.binary(op, b.constant(value, type, lanes), x as Expression),
          );
        }
      }
    }
  });
});

describe('selection and conversion', () => {
  for (const type of TYPES) {
    it(`select of ${type}`, () => {
      for (const lanes of lanesOf(type)) {
        expectSame(['bool', STORAGE[type], STORAGE[type]], STORAGE[type], lanes, (b, [c, x, y]) =>
          b.select(c as Expression, x as Expression, y as Expression),
        );
      }
    });

    it.each(TYPES)(`${type} to %s`, (target) => {
      for (const lanes of lanesOf(type, target)) {
        expectSame([STORAGE[type]], STORAGE[target], lanes, (b, [x]) =>
          b.convert(x as Expression, target),
        );
      }
    });
  }

  it('select by a comparison of another width', () => {
    for (const lanes of [1, 2]) {
      expectSame(['float64', 'float32', 'float32'], 'float32', lanes, (b, [x, y, z]) =>
        b.select(
          b.compare('lt', x as Expression, b.constant(0.5, 'f64', lanes)),
          y as Expression,
          z as Expression,
        ),
      );
    }
  });

  it('a vector by a scalar condition', () => {
    expectSame(['float32', 'float32'], 'float32', 4, (b, [x, y]) => {
      const first = b.extract(x as Expression, 0);
      const condition = b.compare('lt', first, b.constant(0, 'f32'));
      return b.select(b.splat(condition, 4), x as Expression, y as Expression);
    });
  });

  it.each([
    ['f32', 'i32'],
    ['f32', 'u32'],
    ['i32', 'f32'],
    ['u32', 'f32'],
    ['i32', 'u32'],
    ['u32', 'i32'],
  ] as const)('the bits of %s as %s', (from, to) => {
    for (const lanes of lanesOf(from)) {
      expectSame([STORAGE[from]], STORAGE[to], lanes, (b, [x]) => b.bitcast(x as Expression, to));
    }
  });
});

describe('lanes', () => {
  for (const type of TYPES) {
    for (const lanes of lanesOf(type).slice(1)) {
      it(`extract, splat and assemble ${lanes} lanes of ${type}`, () => {
        const dtype = STORAGE[type];
        for (let lane = 0; lane < lanes; lane++) {
          expectSame([dtype], dtype, lanes, (b, [x]) =>
            b.splat(b.extract(x as Expression, lane), lanes),
          );
        }
        expectSame([dtype, dtype], dtype, lanes, (b, [x, y]) =>
          b.lanes(
            Array.from({ length: lanes }, (_, lane) =>
              b.extract((lane % 2 === 0 ? x : y) as Expression, lanes - 1 - lane),
            ),
          ),
        );
      });
    }
  }

  it('any choice among the lanes of two vectors', () => {
    const choices = [
      [0, 2, 5, 7],
      [3, 3, 0, 1],
      [7, 0, 6, 1],
    ];
    for (const dtype of ['float32', 'int32', 'uint32', 'bool'] as const) {
      for (const choice of choices) {
        expectSame([dtype, dtype], dtype, 4, (b, [x, y]) =>
          b.lanes(choice.map((lane) => b.extract((lane < 4 ? x : y) as Expression, lane % 4))),
        );
      }
    }
  });

  it('constants in every lane', () => {
    expectSame(['int32'], 'int32', 4, (b, [x]) =>
      b.add(x as Expression, b.lanes([0, 1, 2, 3].map((value) => b.constant(value)))),
    );
  });
});

describe('storage', () => {
  it.each(DTYPES)('%s survives a copy', (dtype) => {
    for (const lanes of dtype === 'float64' ? [1, 2] : [1, 2, 4]) {
      expectSame([dtype], dtype, lanes, (_, [x]) => x as Expression);
    }
  });

  it.each(['float16', 'bfloat16'] as const)('float32 rounds to %s', (dtype) => {
    for (const lanes of [1, 2, 4])
      expectSame(['float32'], dtype, lanes, (_, [x]) => x as Expression);
  });

  it.each(['int8', 'uint8', 'int16'] as const)('int32 wraps to %s', (dtype) => {
    for (const lanes of [1, 2, 4]) expectSame(['int32'], dtype, lanes, (_, [x]) => x as Expression);
  });

  it.each(DTYPES)('%s spreads one element over all lanes', (dtype) => {
    const lanes = dtype === 'float64' ? 2 : 4;
    const kernel = mapKernel([dtype], dtype, lanes, (b, [x]) => {
      if (x?.kind !== 'load') throw new Error('not a load');
      return b.splat(b.load(x.buffer, b.offset(x.index, 1)), lanes);
    });
    const data = [sampleBytes(dtype, 5)];
    const wanted = canonical(dtype, runOn(interp, kernel, data));
    expect(canonical(dtype, runOn(plain, kernel, data))).toEqual(wanted);
  });

  it('every float16 and every bfloat16 is read right', () => {
    for (const dtype of ['float16', 'bfloat16'] as const) {
      for (let high = 0; high < 256; high++) {
        const bytes = new Uint8Array(2 * COUNT);
        for (let low = 0; low < COUNT; low++) {
          bytes[2 * low] = low;
          bytes[2 * low + 1] = high;
        }
        const kernel = mapKernel([dtype], 'float32', 4, (_, [x]) => x as Expression);
        if (high % 16 !== 0 && high % 128 > 1 && high % 128 < 0x7b) continue;
        expect(canonical('float32', runOn(plain, kernel, [bytes]))).toEqual(
          canonical('float32', runOn(interp, kernel, [bytes])),
        );
      }
    }
  });
});

describe('fused multiply-add', () => {
  it.each(['f32', 'f64'] as const)('of %s rounds once, in vectors and scalars', (type) => {
    const dtype = STORAGE[type];
    expect(valueTypeOf(dtype)).toBe(type);
    for (const lanes of lanesOf(type)) {
      expectSame(
        [dtype, dtype, dtype],
        dtype,
        lanes,
        (b, [x, y, z]) => b.fma(x as Expression, y as Expression, z as Expression),
        [relaxed],
      );
    }
  });

  it('is refused where the module must not hold it', () => {
    const kernel = mapKernel(['float32'], 'float32', 4, (b, [x]) =>
      b.fma(x as Expression, x as Expression, x as Expression),
    );
    expect(plain.target('fast').fma).toBe(false);
    expect(relaxed.target('strict').fma).toBe(false);
    expect(relaxed.target('fast').fma).toBe(true);
    expect(() => plain.load(planOf(kernel))).toThrow(/internal: fma/);
  });
});
