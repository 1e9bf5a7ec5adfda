// Rendered WGSL against the interpreter, on SwiftShader in a headless browser.
import { describe, expect, it } from 'vitest';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression, MathUnary } from '../../src/ir/expression.ts';
import type { Kernel, Statement } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { randomKernel, randomViews } from './random.ts';
import { elementwise, targetOf, ulp32 } from './support.ts';
import { browserMissing, runWebGpu, type WordArray } from './webgpu.ts';

const missing = browserMissing();

interface Run {
  readonly name: string;
  readonly kernel: Kernel;
  readonly views: readonly WordArray[];
  /** Largest error in units of the last place. */
  readonly ulps: number;
}

async function expectClose(runs: readonly Run[], vectorBytes: number): Promise<void> {
  const target = { ...targetOf(vectorBytes), reassociates: true };
  const kernels = runs.map(({ kernel }) => prepareKernel(kernel, target, { verify: verifyKernel }));
  const wanted = runs.map(({ views }) => views.map((view) => view.slice()));
  kernels.forEach((kernel, n) => new InterpreterProgram(kernel).run(wanted[n] ?? []));
  const got = runs.map(({ views }) => views.map((view) => view.slice()));
  await runWebGpu(kernels, got);
  const differences: string[] = [];
  runs.forEach(({ name, ulps }, n) => {
    got[n]?.forEach((array, which) => {
      const want = wanted[n]?.[which] ?? array;
      for (let i = 0; i < array.length; i++) {
        const [a, b] = [array[i] ?? NaN, want[i] ?? NaN];
        if (Object.is(a, b) || a === b || Math.abs(a - b) <= ulps * ulp32(b)) continue;
        differences.push(`${name}[${which}][${i}]: ${a}, not ${b}`);
      }
    });
  });
  expect(differences).toEqual([]);
}

describe.skipIf(missing !== undefined)(`WGSL on SwiftShader ${missing ?? ''}`, () => {
  const FUNCTIONS: readonly MathUnary[] = [
    'exp',
    'expm1',
    'log',
    'log1p',
    'tanh',
    'sigmoid',
    'erf',
    'sin',
    'atan',
  ];

  it('functions, in vectors of four and alone', async () => {
    const edges = [
      0,
      -0,
      1,
      -1,
      0.5,
      3.3,
      -2.7,
      10,
      -20,
      80,
      -80,
      1e-6,
      1e4,
      NaN,
      Infinity,
      -Infinity,
    ];
    const x = Float32Array.from(edges);
    const runs = FUNCTIONS.map((op): Run => {
      const kernel = elementwise(x.length, ['float32'], 'float32', (b, [v]) =>
        b.unary(op, v as Expression),
      );
      return { name: op, kernel, views: [x, new Float32Array(x.length)], ulps: 4 };
    });
    await expectClose(runs, 16);
    await expectClose(runs, 4);
  }, 120_000);

  it.each([4, 16])(
    'random kernels, vectors of %i bytes',
    async (vectorBytes) => {
      const runs = Array.from({ length: 40 }, (_, n): Run => {
        const seed = 5000 + vectorBytes * 100 + n;
        // One grid item: two may write the same element, and here they would do so at the same time.
        const kernel = { ...randomKernel(seed, { vector: true, finite: true }), gridSize: 1 };
        return { name: `seed ${seed}`, kernel, views: randomViews(seed, true), ulps: 8 };
      });
      await expectClose(runs, vectorBytes);
    },
    120_000,
  );

  it('integers: division, remainder, shifts, products, conversions', async () => {
    const numbers = [0, 1, -1, 7, -7, 31, 2147483647, -2147483648, 65537, -5];
    const pairs = numbers.flatMap((a) =>
      numbers.filter((b) => b !== 0).map((b) => [a, b] as const),
    );
    const [x, y] = [0, 1].map((side) => Int32Array.from(pairs, (pair) => pair[side] ?? 0)) as [
      Int32Array,
      Int32Array,
    ];
    const ops = [
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
    ] as const;
    const runs = ops.map((op): Run => {
      const kernel = elementwise(x.length, ['int32', 'int32'], 'int32', (b, [p, q]) =>
        b.binary(op, p as Expression, q as Expression),
      );
      return { name: op, kernel, views: [x, y, new Int32Array(x.length)], ulps: 0 };
    });
    const words = new Uint32Array(x.buffer);
    const product = elementwise(x.length, ['uint32', 'uint32'], 'uint32', (b, [p, q]) =>
      b.binary('mulHigh', p as Expression, q as Expression),
    );
    runs.push({
      name: 'mulHigh',
      kernel: product,
      views: [words, new Uint32Array(y.buffer), new Uint32Array(x.length)],
      ulps: 0,
    });
    const floats = Float32Array.of(
      0.5,
      -0.5,
      3e9,
      -3e9,
      5e9,
      NaN,
      Infinity,
      -Infinity,
      255.9,
      -1.9,
      2147483520,
      0,
    );
    for (const dtype of ['int32', 'uint32'] as const) {
      const output = dtype === 'int32' ? new Int32Array(12) : new Uint32Array(12);
      const kernel = elementwise(12, ['float32'], dtype, (b, [v]) =>
        b.convert(v as Expression, dtype === 'int32' ? 'i32' : 'u32'),
      );
      runs.push({ name: `float32 to ${dtype}`, kernel, views: [floats, output], ulps: 0 });
    }
    await expectClose(runs, 4);
    await expectClose(runs, 16);
  }, 120_000);

  it('workgroups: a reversal through shared memory, more than one dimension of them', async () => {
    const items = 70000;
    await expectClose([reversal(8, 5), reversal(4, items)], 4);
  }, 120_000);
});

/** Each workgroup reverses its elements: all write to shared memory, meet, and read the mirror's. */
function reversal(size: number, items: number): Run {
  const b = new Builder();
  const x = b.buffer('x', 'float32', 'read');
  const y = b.buffer('y', 'float32', 'write');
  const shared = b.buffer('s', 'float32', 'readwrite', { space: 'workgroup', length: size });
  const gridIndex = b.variable('g', 'i32', { min: 0, max: items - 1 });
  const localIndex = b.variable('l', 'i32', { min: 0, max: size - 1 });
  const at = b.add(b.scale(gridIndex, size), localIndex);
  const mirror = b.sub(b.constant(size - 1), localIndex);
  const body: Statement[] = [
    { kind: 'store', buffer: shared, index: localIndex, value: b.load(x, at) },
    { kind: 'barrier' },
    { kind: 'store', buffer: y, index: at, value: b.load(shared, mirror) },
  ];
  const kernel: Kernel = {
    name: 'reversal',
    buffers: [x, y],
    scratch: [shared],
    gridIndex,
    gridSize: items,
    body,
    workgroup: { size, localIndex },
  };
  const input = Float32Array.from({ length: size * items }, (_, i) => i % 1000);
  return {
    name: `reversal of ${size}`,
    kernel,
    views: [input, new Float32Array(size * items)],
    ulps: 0,
  };
}
