// Kernels to test with, and a way to run them in the interpreter.
import { newTypedArray, type DType, type TypedArray } from '../../src/base/dtype.ts';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { Builder } from '../../src/ir/builder.ts';
import { type Expression, valueTypeOf } from '../../src/ir/expression.ts';
import type { Kernel, Target } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { highestId } from '../../src/ir/walk.ts';

/** A target with vectors of so many bytes. */
export function targetOf(vectorBytes: number, fma = false): Target {
  return {
    name: 'test',
    vectorBytes,
    fma,
    numerics: fma ? 'fast' : 'strict',
    vectorRegisters: 16,
    workgroups: false,
    cacheBytes: { l1: 32 << 10, l2: 1 << 20 },
  };
}

/** The same, after memory was told of what lies beyond the end of its first buffer. */
export function prefetching(kernel: Kernel): Kernel {
  const [buffer] = kernel.buffers;
  if (buffer === undefined) throw new Error('a kernel without buffers');
  const index = new Builder(highestId(kernel) + 1).constant(1000);
  return { ...kernel, body: [{ kind: 'prefetch', buffer, index }, ...kernel.body] };
}

/** `y[i] = make(x[0][i], x[1][i], ...)` over one loop. */
export function elementwise(
  length: number,
  dtypes: readonly DType[],
  result: DType,
  make: (builder: Builder, operands: readonly Expression[], index: Expression) => Expression,
): Kernel {
  const builder = new Builder();
  const inputs = dtypes.map((dtype, i) => builder.buffer(`x${i}`, dtype, 'read'));
  const output = builder.buffer('y', result, 'write');
  const gridIndex = builder.variable('g', 'i32', { min: 0, max: 0 });
  const index = builder.variable('i', 'i32', { min: 0, max: length - 1 });
  const operands = inputs.map((buffer) => builder.load(buffer, index));
  const value = builder.convert(make(builder, operands, index), valueTypeOf(result));
  return {
    name: 'elementwise',
    buffers: [...inputs, output],
    scratch: [],
    gridIndex,
    gridSize: 1,
    body: [
      {
        kind: 'for',
        index,
        start: builder.constant(0),
        end: builder.constant(length),
        step: 1,
        vector: true,
        body: [{ kind: 'store', buffer: output, index, value }],
      },
    ],
  };
}

/** Prepares a kernel, verifying it before and after, and runs it on host arrays in place. */
export function interpret(
  kernel: Kernel,
  views: readonly TypedArray[],
  target: Target = targetOf(4),
): void {
  new InterpreterProgram(prepareKernel(kernel, target, { verify: verifyKernel })).run(views);
}

/** The values of an elementwise kernel in the interpreter. */
export function evaluate(
  inputs: readonly TypedArray[],
  dtype: DType,
  make: (builder: Builder, operands: readonly Expression[]) => Expression,
  target: Target = targetOf(4),
): TypedArray {
  const length = inputs[0]?.length ?? 0;
  const output = newTypedArray(dtype, length);
  const kernel = elementwise(
    length,
    inputs.map(() => dtype),
    dtype,
    make,
  );
  interpret(kernel, [...inputs, output], target);
  return output;
}

const single = new Float32Array(1);
const singleBits = new Int32Array(single.buffer);

/** The distance of two neighbours of float32 at `value`. */
export function ulp32(value: number): number {
  const magnitude = Math.max(Math.abs(Math.fround(value)), 2 ** -126);
  if (magnitude === Infinity) return 2 ** 104;
  return 2 ** (Math.floor(Math.log2(magnitude)) - 23);
}

/** The float32 `steps` neighbours away. */
export function neighbour(value: number, steps: number): number {
  single[0] = value;
  singleBits[0] = (singleBits[0] ?? 0) + steps;
  return single[0] ?? 0;
}
