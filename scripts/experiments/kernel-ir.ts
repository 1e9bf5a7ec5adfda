// Experiment 1 (docs/decisions/0001-kernel-ir.md): one matrix-product schedule in the kernel IR,
// relu(a @ b + bias), as WebAssembly and as C, in shares of what the machine's multiply-add units
// can do; and kernels of workgroups as WGSL.
//   npx tsx scripts/experiments/kernel-ir.ts [wasm|native|gpu] [--chromium /usr/bin/chromium]
// Other programs may run beside it: a whole product is timed by processor time, the multiply kernel
// in calls of about half a millisecond of which the best counts, in turn with the limit.
import { parseArgs } from 'node:util';
import { WasmDevice } from '../../src/backends/wasm/device.ts';
import type { ProductSizes } from '../../src/compile/schedule/product-problem.ts';
import type { Target } from '../../src/ir/kernel.ts';
import type { DeviceBuffer } from '../../src/runtime/device.ts';
import { runGpu } from './kernel-ir-gpu.ts';
import { nativeTarget, runNative } from './kernel-ir-native.ts';
import { noise, productProgram, referenceElement } from './kernel-ir-product.ts';
import { encodeModule, op, V128 } from './tiny-wasm.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { chromium: { type: 'string', default: '/usr/bin/chromium' } },
});
const part = positionals[0] ?? 'all';
const square = (n: number): ProductSizes => ({ batch: 1, m: n, n, k: n });
/** The last is odd in every way: edges in rows, columns and depth. */
const SIZES: readonly ProductSizes[] = [
  square(256),
  square(512),
  square(1024),
  { batch: 1, m: 131, n: 157, k: 611 },
];
const SECONDS = 1.5;
const NOTHING = new Float64Array(0);
let failed = false;

const flopOf = ({ m, n, k }: ProductSizes): number => 2 * m * n * k;
const nameOf = ({ m, n, k }: ProductSizes): string => `${m} x ${k} x ${n}`;
const share = (value: number, limit: number): string => `${Math.round((100 * value) / limit)} %`;

function report(
  name: string,
  size: string,
  tiles: object,
  results: { full: number; kernel: number; limit: number; worst: number },
  notes = '',
): void {
  const { full, kernel, limit, worst } = results;
  console.log(
    `${name.padEnd(14)} ${size.padEnd(18)} tiles ${Object.values(tiles).join(',').padEnd(16)} whole ` +
      `${full.toFixed(1)} GFLOP/s (${share(full, limit)}), kernel ${kernel.toFixed(1)} ` +
      `(${share(kernel, limit)}), limit ${limit.toFixed(1)}, error ${worst.toExponential(1)}${notes}`,
  );
  if (worst > 1e-3) failed = true;
}

// ---- WebAssembly --------------------------------------------------------------------------------

const ACCUMULATORS = 12;
const LIMIT_TURNS = 20_000;

/** Twelve relaxed multiply-adds in a loop, all in registers; returns GFLOP/s of one call. */
function wasmLimit(): () => number {
  const [turns, a, b, first] = [0, 1, 2, 3];
  const accumulators = Array.from({ length: ACCUMULATORS }, (_, i) => first + i);
  const add = (local: number): number[] => [
    ...op.get(local),
    ...op.get(a),
    ...op.get(b),
    ...op.f32x4madd,
    ...op.set(local),
  ];
  const body = [
    ...op.loop([
      ...accumulators.flatMap(add),
      ...op.get(turns),
      ...op.i32(1),
      ...op.sub,
      ...op.tee(turns),
      ...op.branchIf(0),
    ]),
    ...op.i32(0),
    ...op.splatConst(0),
    ...accumulators.flatMap((local) => [...op.get(local), ...op.f32x4add]),
    ...op.v128store(0),
  ];
  const locals = Array<number>(2 + ACCUMULATORS).fill(V128);
  const bytes = encodeModule([{ parameters: 1, locals, body, exportAs: 'run' }]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const imports = { env: { memory, wait: () => {} } };
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports);
  const run = exports['run'] as (turns: number) => void;
  return () => {
    const start = performance.now();
    run(LIMIT_TURNS);
    return (8 * ACCUMULATORS * LIMIT_TURNS) / (performance.now() - start) / 1e6;
  };
}

function operandsOf(device: WasmDevice, { m, n, k }: ProductSizes) {
  const arrays = { a: noise(m * k, 1), b: noise(k * n, 2), bias: noise(n, 3) };
  const buffers: DeviceBuffer[] = Object.values(arrays).map((array) => {
    const buffer = device.allocate(array.byteLength);
    device.write(buffer, 0, new Uint8Array(array.buffer));
    return buffer;
  });
  buffers.push(device.allocate(4 * m * n));
  return { ...arrays, buffers };
}

function measureWasm(device: WasmDevice, target: Target, sizes: ProductSizes, limit: () => number) {
  const { plan, tiles } = productProgram(sizes, target);
  const { a, b, bias, buffers } = operandsOf(device, sizes);
  const whole = device.load(plan);
  const last = plan.kernels.length - 1;
  const kernels = plan.kernels.map((kernel, i) => {
    const flop = 2 * tiles.blockRows * tiles.blockColumns * sizes.k;
    const blocks = Math.floor(sizes.n / tiles.blockColumns);
    const gridSize = Math.max(1, Math.min(Math.round(3e7 / flop), blocks));
    return i === last ? { ...kernel, gridSize } : kernel;
  });
  const itemFlop = 2 * tiles.blockRows * tiles.blockColumns * sizes.k;
  const partFlop = itemFlop * (kernels[last]?.gridSize ?? 0);
  const short = device.load({ ...plan, kernels, dispatches: plan.dispatches.slice(-1) });
  for (let i = 0; i < 5; i++) whole.run(buffers, NOTHING);
  for (let i = 0; i < 100; i++) short.run(buffers, NOTHING);
  let [full, kernel, top] = [0, 0, 0];
  const begin = performance.now();
  while (performance.now() - begin < 1000 * SECONDS) {
    const before = process.cpuUsage();
    whole.run(buffers, NOTHING);
    const { user, system } = process.cpuUsage(before);
    full = Math.max(full, flopOf(sizes) / (user + system) / 1e3);
    for (let i = 0; i < 20; i++) {
      const start = performance.now();
      short.run(buffers, NOTHING);
      kernel = Math.max(kernel, partFlop / (performance.now() - start) / 1e6);
      top = Math.max(top, limit());
    }
  }
  whole.run(buffers, NOTHING);
  const out = new Float32Array(device.view(buffers[3] as DeviceBuffer).slice().buffer);
  let worst = 0;
  for (let at = 0; at < out.length; at += 997) {
    const expected = referenceElement(sizes, a, b, bias, Math.floor(at / sizes.n), at % sizes.n);
    worst = Math.max(worst, Math.abs((out[at] as number) - expected));
  }
  for (const buffer of buffers) device.free(buffer);
  return { tiles, full, kernel, limit: top, worst };
}

function wasm(): void {
  // One thread: processor time is then the product's own.
  const device = new WasmDevice({ threads: 1 });
  const limit = wasmLimit();
  const target = device.target('fast');
  if (!target.fma) console.log('this engine has no relaxed SIMD: multiply, then add');
  for (const sizes of SIZES) {
    const { tiles, ...results } = measureWasm(device, target, sizes, limit);
    report('wasm', nameOf(sizes), tiles, results);
  }
  device.close();
}

// ---- C ------------------------------------------------------------------------------------------

function native(): void {
  for (const bytes of [32, 64] as const) {
    for (const sizes of SIZES) {
      const { tiles, gflops, kernelGflops, limit, loop, worstError } = runNative(
        sizes,
        nativeTarget(bytes),
        undefined,
        SECONDS,
      );
      const results = { full: gflops, kernel: kernelGflops, limit, worst: worstError };
      report(
        `C, ${bytes} bytes`,
        nameOf(sizes),
        tiles,
        results,
        `; inner loop: ${loop.fma} multiply-adds in ${loop.instructions} instructions, ${loop.stack} of the stack`,
      );
    }
  }
}

if (part === 'all' || part === 'wasm') wasm();
if (part === 'all' || part === 'native') native();
if (part === 'all' || part === 'gpu') failed = !(await runGpu(values.chromium)) || failed;
process.exit(failed ? 1 : 0);
