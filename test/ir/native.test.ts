// Rendered C computes what the interpreter computes, bit for bit.
import { describe, expect, it } from 'vitest';
import { DTYPES, newTypedArray, type DType, type TypedArray } from '../../src/base/dtype.ts';
import { renderC } from '../../src/backends/native/renderer.ts';
import { Builder } from '../../src/ir/builder.ts';
import { type Expression, valueTypeOf } from '../../src/ir/expression.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { compilerMissing, expectSame, type Run } from './native.ts';
import { randomKernel, randomViews } from './random.ts';
import { elementwise, prefetching, targetOf } from './support.ts';

const missing = compilerMissing();

describe('C source', () => {
  it('of a fused sum and relu, in vectors of 8', () => {
    const kernel = elementwise(20, ['float32', 'float32'], 'float32', (b, [x, y]) =>
      b.max(b.fma(x as Expression, y as Expression, x as Expression), b.constant(0, 'f32')),
    );
    expect(renderC([prepareKernel(kernel, targetOf(32, true))]).source).toMatchInlineSnapshot(`
      "typedef float f32x8 __attribute__((vector_size(32)));
      typedef float f32x8_u __attribute__((vector_size(32), aligned(4), may_alias));
      static inline __attribute__((always_inline)) f32x8 max_constant_eq_f32x8(f32x8 a, f32x8 b) {
        f32x8 r;
        for (int i = 0; i < 8; i++) r[i] = (a[i] <= b[i] ? b[i] : a[i]);
        return r;
      }
      static inline __attribute__((always_inline)) f32x8 fma_f32x8(f32x8 a, f32x8 b, f32x8 c) {
        f32x8 r;
        for (int i = 0; i < 8; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
        return r;
      }
      typedef float f32x4 __attribute__((vector_size(16)));
      typedef float f32x4_u __attribute__((vector_size(16), aligned(4), may_alias));
      static inline __attribute__((always_inline)) f32x4 max_constant_eq_f32x4(f32x4 a, f32x4 b) {
        f32x4 r;
        for (int i = 0; i < 4; i++) r[i] = (a[i] <= b[i] ? b[i] : a[i]);
        return r;
      }
      static inline __attribute__((always_inline)) f32x4 fma_f32x4(f32x4 a, f32x4 b, f32x4 c) {
        f32x4 r;
        for (int i = 0; i < 4; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
        return r;
      }

      void kernel_0(void** buffers, long begin, long end) {
        const float* b0 = buffers[0];
        const float* b1 = buffers[1];
        float* b2 = buffers[2];
        for (long v0 = begin; v0 < end; v0++) {
          for (long v1 = 0; v1 < 16; v1 += 8) {
            const f32x8 v2 = *(const f32x8_u*)(b0 + v1);
            *(f32x8_u*)(b2 + v1) = max_constant_eq_f32x8(fma_f32x8(v2, *(const f32x8_u*)(b1 + v1), v2), (f32x8){0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f});
          }
          const f32x4 v3 = *(const f32x4_u*)(b0 + 16);
          *(f32x4_u*)(b2 + 16) = max_constant_eq_f32x4(fma_f32x4(v3, *(const f32x4_u*)(b1 + 16), v3), (f32x4){0.0f, 0.0f, 0.0f, 0.0f});
        }
      }
      "
    `);
  });

  it('refuses workgroups', () => {
    const builder = new Builder();
    const [gridIndex, localIndex] = [builder.variable('g'), builder.variable('l')];
    const workgroup = { size: 8, localIndex };
    const kernel = {
      name: 'w',
      buffers: [],
      scratch: [],
      gridIndex,
      gridSize: 1,
      body: [],
      workgroup,
    };
    expect(() => renderC([kernel])).toThrow(/kernel w runs in workgroups/);
  });
});

describe.skipIf(missing !== undefined)(`C against the interpreter${missing ?? ''}`, () => {
  it.each([4, 16, 32, 64])('random kernels, vectors of %i bytes', (vectorBytes) => {
    const runs = Array.from({ length: 60 }, (_, n): Run => {
      const seed = vectorBytes * 1000 + n;
      const kernel = randomKernel(seed, { vector: true, fma: n % 2 === 0 });
      return { name: `seed ${seed}`, kernel, views: randomViews(seed) };
    });
    expectSame(runs, vectorBytes, true);
  });

  it('memory that is told of what does not exist', () => {
    const kernel = prefetching(
      elementwise(4, ['float32'], 'float32', (b, [x]) => b.add(x as Expression, x as Expression)),
    );
    expect(renderC([kernel]).source).toContain('__builtin_prefetch(b0 + 1000);');
    const views = [Float32Array.of(1, 2, 3, 4), new Float32Array(4)];
    expectSame([{ name: 'prefetch', kernel, views }], 16, false);
  });

  it.each([4, 32, 64])('every conversion, vectors of %i bytes', (vectorBytes) => {
    const values = [
      0, 1, 2, -1, -0, 3.5, 127.5, -128.5, 255, 300, -70000, 65504, 65520, 1e-7, 6e-8,
    ];
    const extremes = [3e9, -3e9, 5e9, 1e38, NaN, Infinity, -Infinity, 0.1, 1 / 3];
    const runs = DTYPES.flatMap((from) =>
      DTYPES.map((to): Run => conversion(from, to, [...values, ...extremes])),
    );
    expectSame(runs, vectorBytes, false);
  });

  it.each([4, 32])('integers, vectors of %i bytes', (vectorBytes) => {
    const numbers = [
      0, 1, -1, 7, -7, 31, 33, 2147483647, -2147483648, 65535, 65536, 123456789, -5, 8, 12,
    ];
    const pairs = numbers.flatMap((a) => numbers.map((b) => [a, b] as const));
    const runs = (['int32', 'uint32'] as const).flatMap((dtype) =>
      (
        [
          'add',
          'sub',
          'mul',
          'div',
          'rem',
          'min',
          'max',
          'and',
          'or',
          'xor',
          'shl',
          'shr',
          'mulHigh',
        ] as const
      )
        .filter((op) => op !== 'mulHigh' || dtype === 'uint32')
        .map((op): Run => {
          const usable = op === 'div' || op === 'rem' ? pairs.filter(([, b]) => b !== 0) : pairs;
          const [a, b] = [0, 1].map((side) => {
            const array = newTypedArray(dtype, usable.length);
            usable.forEach((pair, i) => {
              array[i] = pair[side] ?? 0;
            });
            return array;
          }) as [TypedArray, TypedArray];
          const kernel = elementwise(usable.length, [dtype, dtype], dtype, (builder, [x, y]) =>
            builder.binary(op, x as Expression, y as Expression),
          );
          return {
            name: `${op} ${dtype}`,
            kernel,
            views: [a, b, newTypedArray(dtype, usable.length)],
          };
        }),
    );
    expectSame(runs, vectorBytes, false);
  });

  it('min and max of every pair of awkward numbers', () => {
    const values = [0, -0, 1, -1, NaN, Infinity, -Infinity];
    const x = Float32Array.from(values.flatMap((v) => values.map(() => v)));
    const y = Float32Array.from(values.flatMap(() => values));
    const runs = (['min', 'max'] as const).flatMap((op): Run[] => [
      {
        name: op,
        kernel: elementwise(x.length, ['float32', 'float32'], 'float32', (b, [p, q]) =>
          b.binary(op, p as Expression, q as Expression),
        ),
        views: [x, y, new Float32Array(x.length)],
      },
      ...values
        .filter((value) => !Number.isNaN(value))
        .map((value): Run => {
          const kernel = elementwise(x.length, ['float32'], 'float32', (b, [p]) =>
            b.binary(op, p as Expression, b.constant(value, 'f32')),
          );
          return { name: `${op} ${value}`, kernel, views: [x, new Float32Array(x.length)] };
        }),
    ]);
    for (const vectorBytes of [4, 32]) expectSame(runs, vectorBytes, false);
  });
});

function conversion(from: DType, to: DType, values: readonly number[]): Run {
  const x = newTypedArray(from, values.length);
  const half = from === 'float16' || from === 'bfloat16';
  // Halves are seen as bits: take some that mean something.
  values.forEach((value, i) => {
    x[i] = half ? i * 2719 : from === 'bool' ? Number(value !== 0) : value;
  });
  const kernel = elementwise(values.length, [from], to, (b, [v]) =>
    b.convert(v as Expression, valueTypeOf(to)),
  );
  return { name: `${from} to ${to}`, kernel, views: [x, newTypedArray(to, values.length)] };
}
