// Part (c) of experiment 1: kernels of workgroups in the same IR - a fused elementwise kernel and a
// tiled product with shared memory and barriers - printed as WGSL, run on SwiftShader in Chromium,
// and compared with the interpreter.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chromium } from 'playwright-core';
import { InterpreterProgram } from '../../src/backends/interp/program.ts';
import { renderWgsl } from '../../src/backends/webgpu/renderer.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import { branch, type Kernel, type Statement, type Target } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { verifyKernel } from '../../src/ir/verify.ts';
import { noise } from './kernel-ir-product.ts';

const TARGET: Target = {
  name: 'webgpu',
  vectorBytes: 4,
  fma: false,
  numerics: 'fast',
  vectorRegisters: 16,
  workgroups: true,
  cacheBytes: { l1: 16384, l2: 262144 },
};

/** out[i] = gelu(x[i] * scale[c] + shift[c]) for rows of `columns`: one invocation an element. */
function elementwiseKernel(rows: number, columns: number): Kernel {
  const builder = new Builder();
  const size = 64;
  const count = rows * columns;
  const x = builder.buffer('x', 'float32', 'read');
  const scale = builder.buffer('scale', 'float32', 'read');
  const shift = builder.buffer('shift', 'float32', 'read');
  const out = builder.buffer('out', 'float32', 'write');
  const gridSize = Math.ceil(count / size);
  const gridIndex = builder.variable('group', 'i32', { min: 0, max: gridSize - 1 });
  const localIndex = builder.variable('local', 'i32', { min: 0, max: size - 1 });
  const index = builder.add(builder.scale(gridIndex, size), localIndex);
  const column = builder.rem(index, builder.constant(columns));
  const real = (value: number): Expression => builder.constant(value, 'f32');
  const moved = builder.add(
    builder.mul(builder.load(x, index), builder.load(scale, column)),
    builder.load(shift, column),
  );
  const error = builder.unary('erf', builder.mul(moved, real(Math.SQRT1_2)));
  const value = builder.mul(builder.mul(moved, real(0.5)), builder.add(error, real(1)));
  const inside = builder.compare('lt', index, builder.constant(count));
  return {
    name: 'gelu',
    buffers: [x, scale, shift, out],
    scratch: [],
    gridIndex,
    gridSize,
    body: [branch(inside, [{ kind: 'store', buffer: out, index, value }])],
    workgroup: { size, localIndex },
  };
}

/**
 * out = relu(a[m, k] @ b[k, n] + bias[n]): a workgroup computes a tile of 16 x 16, an invocation one
 * element. Tiles of a and b go through workgroup memory, between two barriers for each step of k.
 */
function productKernel(m: number, n: number, k: number): Kernel {
  const builder = new Builder();
  const tile = 16;
  const size = tile * tile;
  const [a, b, bias] = ['a', 'b', 'bias'].map((name) => builder.buffer(name, 'float32', 'read'));
  const out = builder.buffer('out', 'float32', 'write');
  if (a === undefined || b === undefined || bias === undefined) throw new Error('unreachable');
  const shared = (name: string) =>
    builder.buffer(name, 'float32', 'readwrite', { space: 'workgroup', length: size });
  const [tileA, tileB] = [shared('tileA'), shared('tileB')];
  const across = Math.ceil(n / tile);
  const gridSize = Math.ceil(m / tile) * across;
  const gridIndex = builder.variable('group', 'i32', { min: 0, max: gridSize - 1 });
  const localIndex = builder.variable('local', 'i32', { min: 0, max: size - 1 });
  const [width, columns] = [builder.constant(tile), builder.constant(across)];
  const localRow = builder.div(localIndex, width);
  const localColumn = builder.rem(localIndex, width);
  const row = builder.add(builder.scale(builder.div(gridIndex, columns), tile), localRow);
  const column = builder.add(builder.scale(builder.rem(gridIndex, columns), tile), localColumn);
  const steps = Math.ceil(k / tile);
  const step = builder.variable('step', 'i32', { min: 0, max: steps - 1 });
  const inner = builder.variable('inner', 'i32', { min: 0, max: tile - 1 });
  const sum = builder.variable('sum', 'f32', { mutable: true });
  const zero = builder.constant(0, 'f32');
  const first = builder.scale(step, tile);
  /** Copies one element, or a zero beyond the edge, which no index may touch. */
  const copy = (
    from: typeof a,
    to: typeof a,
    at: readonly [Expression, number],
    and: readonly [Expression, number],
  ): Statement => {
    const inRange = builder.and(
      builder.compare('lt', at[0], builder.constant(at[1])),
      builder.compare('lt', and[0], builder.constant(and[1])),
    );
    const clamp = ([index, limit]: readonly [Expression, number]): Expression =>
      builder.min(index, builder.constant(limit - 1));
    const element = builder.load(from, builder.add(builder.scale(clamp(at), and[1]), clamp(and)));
    const value = builder.select(inRange, element, zero);
    return { kind: 'store', buffer: to, index: localIndex, value };
  };
  const product = builder.mul(
    builder.load(tileA, builder.add(builder.scale(localRow, tile), inner)),
    builder.load(tileB, builder.add(builder.scale(inner, tile), localColumn)),
  );
  const loop = (index: typeof step, end: number, body: readonly Statement[]): Statement => ({
    kind: 'for',
    index,
    start: builder.constant(0),
    end: builder.constant(end),
    step: 1,
    body,
  });
  const inside = builder.and(
    builder.compare('lt', row, builder.constant(m)),
    builder.compare('lt', column, builder.constant(n)),
  );
  const biased = builder.add(sum, builder.load(bias, column));
  return {
    name: 'product',
    buffers: [a, b, bias, out],
    scratch: [tileA, tileB],
    gridIndex,
    gridSize,
    body: [
      { kind: 'declare', variable: sum, value: zero },
      loop(step, steps, [
        copy(a, tileA, [row, m], [builder.add(first, localColumn), k]),
        copy(b, tileB, [builder.add(first, localRow), k], [column, n]),
        { kind: 'barrier' },
        loop(inner, tile, [{ kind: 'assign', variable: sum, value: builder.add(sum, product) }]),
        { kind: 'barrier' },
      ]),
      branch(inside, [
        {
          kind: 'store',
          buffer: out,
          index: builder.add(builder.scale(row, n), column),
          value: builder.max(biased, zero),
        },
      ]),
    ],
    workgroup: { size, localIndex },
  };
}

interface Job {
  readonly name: string;
  readonly kernel: Kernel;
  readonly inputs: readonly Float32Array[];
  readonly length: number;
}

function jobs(): Job[] {
  const [rows, columns] = [37, 29];
  const [m, n, k] = [45, 53, 70];
  return [
    {
      name: `gelu(x * scale + shift), ${rows} x ${columns}`,
      kernel: elementwiseKernel(rows, columns),
      inputs: [noise(rows * columns, 1).map((v) => 8 * v), noise(columns, 2), noise(columns, 3)],
      length: rows * columns,
    },
    {
      name: `relu(a @ b + bias), ${m} x ${k} x ${n}`,
      kernel: productKernel(m, n, k),
      inputs: [noise(m * k, 4), noise(k * n, 5), noise(n, 6)],
      length: m * n,
    },
  ];
}

/** What the page gets and gives: plain numbers. */
interface Task {
  readonly code: string;
  readonly groups: readonly number[];
  readonly inputs: readonly (readonly number[])[];
  readonly length: number;
}

// Text, because its names are the page's: there are no types of WebGPU here.
const IN_PAGE = `async (tasks) => {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return { error: 'no WebGPU adapter' };
  const device = await adapter.requestDevice();
  const results = [];
  for (const { code, groups, inputs, length } of tasks) {
    const module = device.createShaderModule({ code });
    const messages = (await module.getCompilationInfo()).messages;
    if (messages.length > 0) return { error: messages.map((m) => m.lineNum + ': ' + m.message).join('; ') };
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
    const buffers = inputs.map((values) => {
      const data = new Float32Array(values);
      const buffer = device.createBuffer({ size: data.byteLength, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST });
      device.queue.writeBuffer(buffer, 0, data);
      return buffer;
    });
    const out = device.createBuffer({ size: 4 * length, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
    const read = device.createBuffer({ size: 4 * length, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const entries = [...buffers, out].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...groups);
    pass.end();
    encoder.copyBufferToBuffer(out, 0, read, 0, 4 * length);
    device.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    results.push([...new Float32Array(read.getMappedRange())]);
  }
  const { vendor, architecture, description } = adapter.info;
  return { results, adapter: [vendor, architecture, description].filter(Boolean).join(' ') };
}`;

interface PageResult {
  readonly error?: string;
  readonly results?: readonly (readonly number[])[];
  readonly adapter?: string;
}

/** Runs both kernels on the GPU of a headless browser; prints and returns whether they agree. */
export async function runGpu(executablePath: string): Promise<boolean> {
  const all = jobs().map((job) => {
    verifyKernel(job.kernel);
    const kernel = prepareKernel(job.kernel, TARGET);
    verifyKernel(kernel, { decomposed: true });
    return { ...job, kernel };
  });
  const tasks: Task[] = all.map(({ kernel, inputs, length }) => {
    const { source, workgroups } = renderWgsl(kernel);
    return {
      code: source,
      groups: workgroups,
      inputs: inputs.map((values) => [...values]),
      length,
    };
  });
  // WebGPU is for secure pages, and this machine's own address is one.
  const server = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>kernels</title>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--enable-unsafe-webgpu',
      '--enable-features=Vulkan',
      '--use-webgpu-adapter=swiftshader',
    ],
  });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    const outcome = await page.evaluate<PageResult>(`(${IN_PAGE})(${JSON.stringify(tasks)})`);
    if (outcome.results === undefined) throw new Error(outcome.error ?? 'no result');
    console.log(`adapter: ${outcome.adapter ?? 'unknown'}`);
    return all.every((job, i) => agrees(job, outcome.results?.[i] ?? []));
  } finally {
    await browser.close();
    server.close();
  }
}

function agrees({ name, kernel, inputs, length }: Job, values: readonly number[]): boolean {
  const expected = new Float32Array(length);
  new InterpreterProgram(kernel).run([...inputs, expected]);
  // Results of nothing would agree as well.
  const computed = values.length === length && expected.some((value) => value > 0.5);
  let worst = computed ? 0 : Infinity;
  values.forEach((value, i) => {
    const truth = expected[i] as number;
    const error = Math.abs(value - truth) / Math.max(1, Math.abs(truth));
    // A NaN must not pass for small.
    if (!(error <= worst)) worst = error;
  });
  // A few units of the last place: SwiftShader may fuse or reorder.
  const right = worst <= 1e-5;
  console.log(
    `${right ? 'agrees' : 'DIFFERS'}: ${name}: worst error ${worst.toExponential(1)} against the interpreter`,
  );
  return right;
}
