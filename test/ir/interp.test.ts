// The interpreter as a device: what it checks, counts and rounds.
import { describe, expect, it } from 'vitest';
import { fusedMultiplyAdd } from '../../src/backends/interp/arithmetic.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { forEachExpression } from '../../src/ir/walk.ts';
import type { Plan } from '../../src/runtime/plan.ts';
import { randomNumbers } from './random.ts';
import { elementwise, targetOf } from './support.ts';

const double = (length: number): Kernel =>
  elementwise(length, ['float32'], 'float32', (b, [x]) => b.add(x as Expression, x as Expression));

describe('InterpDevice', () => {
  it('runs a plan over bindings, arena and scalars, and counts kernels', () => {
    const device = new InterpDevice();
    const scale = elementwise(4, ['float32'], 'float32', (b, [x]) => {
      const factor = b.buffer('factor', 'float32', 'read');
      return b.mul(x as Expression, b.load(factor, b.constant(0)));
    });
    // The scalar joins the arguments of the kernel that loads it.
    const [input, output] = scale.buffers;
    const factor = loadedBuffers(scale).find(({ name }) => name === 'factor');
    if (input === undefined || output === undefined || factor === undefined)
      throw new Error('kernel');
    const scaled: Kernel = { ...scale, buffers: [input, output, factor] };
    const target = device.target('fast');
    const plan: Plan = {
      kernels: [prepareKernel(double(4), target), prepareKernel(scaled, target)],
      dispatches: [
        {
          kernel: 0,
          arguments: [
            { space: 'binding', index: 0 },
            { space: 'arena', offset: 64 },
          ],
        },
        {
          kernel: 1,
          arguments: [
            { space: 'arena', offset: 64 },
            { space: 'binding', index: 1 },
            { space: 'scalar', slot: 1 },
          ],
        },
      ],
      arenaBytes: 128,
      bindings: [
        { bytes: 16, access: 'read' },
        { bytes: 16, access: 'write' },
      ],
      scalars: ['int32', 'float32'],
    };
    const [x, y] = [device.allocate(16), device.allocate(16)];
    device.write(x, 0, new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer));
    const executable = device.load(plan);
    executable.run([x, y], Float64Array.of(7, 10));
    expect([...new Float32Array(device.view(y).slice().buffer)]).toEqual([20, 40, 60, 80]);
    expect(device.kernelRuns).toBe(2);
    expect(device.memory()).toEqual({ allocated: 32, reserved: 128 });
    executable.dispose();
    expect(() => executable.run([x, y], Float64Array.of(7, 10))).toThrow(
      'internal: ran a disposed plan',
    );
    device.free(x);
    expect(() => device.free(x)).toThrow('internal: freed a buffer twice');
    expect(device.memory()).toEqual({ allocated: 16, reserved: 0 });
  });

  it('takes prepared kernels only', () => {
    const device = new InterpDevice();
    const kernel = elementwise(4, ['float32'], 'float32', (b, [x]) =>
      b.unary('exp', x as Expression),
    );
    const plan: Plan = {
      kernels: [kernel],
      dispatches: [],
      arenaBytes: 0,
      bindings: [],
      scalars: [],
    };
    expect(() => device.load(plan)).toThrow(/exp was not decomposed/);
  });
});

describe('InterpreterProgram', () => {
  it('names the access that is out of range', () => {
    const program = new InterpreterProgram(prepareKernel(double(8), targetOf(4)));
    expect(() => program.run([new Float32Array(7), new Float32Array(8)])).toThrow(
      /^internal: kernel elementwise: x0\[7\.\.7\] of 7/,
    );
    const vectors = new InterpreterProgram(prepareKernel(double(8), targetOf(16)));
    expect(() => vectors.run([new Float32Array(8), new Float32Array(6)])).toThrow(
      /y\[4\.\.7\] of 6/,
    );
  });

  it('stops at a division by zero', () => {
    const kernel = elementwise(1, ['int32', 'int32'], 'int32', (b, [x, y]) =>
      b.div(x as Expression, y as Expression),
    );
    const program = new InterpreterProgram(prepareKernel(kernel, targetOf(4)));
    const views = [Int32Array.of(1), Int32Array.of(0), new Int32Array(1)];
    expect(() => program.run(views)).toThrow('internal: div of 1 by 0');
  });

  it('fills scratch with NaN, so that reading what was not written shows', () => {
    const b = new Builder();
    const scratch = b.buffer('s', 'float32', 'readwrite', { space: 'private', length: 1 });
    const y = b.buffer('y', 'float32', 'write');
    const gridIndex = b.variable('g', 'i32', { min: 0, max: 0 });
    const index = b.constant(0);
    const kernel: Kernel = {
      name: 'unwritten',
      buffers: [y],
      scratch: [scratch],
      gridIndex,
      gridSize: 1,
      body: [{ kind: 'store', buffer: y, index, value: b.load(scratch, index) }],
    };
    const output = new Float32Array(1);
    new InterpreterProgram(kernel).run([output]);
    expect(output[0]).toBeNaN();
  });
});

describe('fusedMultiplyAdd', () => {
  it('rounds once in float32', () => {
    // a * b + c lies just beside the middle of two floats: float64 alone would round to the tie.
    const a = 1 + 2 ** -12;
    const b = 1 + 2 ** -12;
    const c = 2 ** -60;
    expect(fusedMultiplyAdd(a, b, c, 'f32')).toBe(1 + 2 ** -11 + 2 ** -23);
    expect(fusedMultiplyAdd(a, b, -c, 'f32')).toBe(1 + 2 ** -11);
    expect(fusedMultiplyAdd(a, b, 0, 'f32')).toBe(1 + 2 ** -11);
  });

  it('gives the error of a product in float64', () => {
    const random = randomNumbers(1);
    for (let n = 0; n < 200; n++) {
      const [a, b] = [random() + 0.5, random() + 0.5];
      const product = a * b;
      const error = fusedMultiplyAdd(a, b, -product, 'f64');
      // Both are integers when scaled by 2^54: the error is exact in big integers.
      const exact =
        BigInt(a * 2 ** 54) * BigInt(b * 2 ** 54) - BigInt(product * 2 ** 54) * 2n ** 54n;
      expect(error).toBe(Number(exact) / 2 ** 108);
    }
  });

  it('keeps signs of zero, infinities and NaN', () => {
    for (const type of ['f32', 'f64'] as const) {
      expect(fusedMultiplyAdd(-1, 0, -0, type)).toBe(-0);
      expect(fusedMultiplyAdd(-1, 0, 0, type)).toBe(0);
      expect(fusedMultiplyAdd(2, -3, 6, type)).toBe(0);
      expect(fusedMultiplyAdd(Infinity, 1, -Infinity, type)).toBeNaN();
      expect(fusedMultiplyAdd(Infinity, 2, 1, type)).toBe(Infinity);
    }
  });
});

function loadedBuffers(kernel: Kernel): Kernel['buffers'] {
  const found = new Set<Kernel['buffers'][number]>();
  forEachExpression(kernel.body, (expression) => {
    if (expression.kind === 'load') found.add(expression.buffer);
  });
  return [...found];
}
