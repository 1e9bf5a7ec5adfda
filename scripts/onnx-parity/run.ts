// Checks exported ONNX files in onnxruntime-node: `npm run onnx-parity -- --runtime DIR [options]`.
import { parseArgs } from 'node:util';

import { modelProto } from '../../src/interface/onnx/messages.ts';
import { setDefaultDevice, setNumerics, Tensor } from '../../src/node.ts';
import * as onnx from '../../src/onnx.ts';
import { table } from '../../src/terminal.ts';
import { call, type ParityCase, smallCases, visionCases } from './models.ts';
import { checkOp, opsToCheck } from './ops.ts';
import { numbersOf, Runtime } from './runtime.ts';

const USAGE = `Usage: npm run onnx-parity -- --runtime DIR [options]

Exports models with dynamic axes, runs them in the onnxruntime-node of DIR/node_modules at several sizes,
reads them back with Tengen's own importer in strict numerics, and prints a table. Then every primitive's
samples. Ends in "N passed, N failed, N skipped". Exit code 1 if any failed.

  --runtime DIR         folder that holds node_modules/onnxruntime-node
  --vision              image models too
  --no-ops              only models
  --device name         wasm, native (default: the best there is)
  --tolerance x         largest error, relative to the largest magnitude of a result; default 1e-5
  --help                this text`;

type Verdict = 'pass' | 'FAIL';

interface Row {
  readonly model: string;
  readonly nodes: number;
  readonly error: number;
  readonly readBack: string;
  readonly verdict: Verdict;
}

/** All tensors of a result in order. */
function tensorsOf(result: unknown): Tensor[] {
  if (result instanceof Tensor) return [result];
  if (typeof result !== 'object' || result === null) return [];
  return Object.values(result).flatMap(tensorsOf);
}

/** Largest difference, relative to the largest magnitude. */
function relativeError(got: Float64Array, want: ArrayLike<number>): number {
  let [error, magnitude] = [0, Number.MIN_VALUE];
  for (let i = 0; i < want.length; i++) {
    magnitude = Math.max(magnitude, Math.abs(want[i] as number));
    const difference = Math.abs((got[i] as number) - (want[i] as number));
    // NaN is larger than anything.
    if (!(difference <= error)) error = difference;
  }
  return got.length === want.length ? error / magnitude : Infinity;
}

const SAME = 'identical';

/** How many elements of a model that was read back have other bits, of how many. */
async function differentBits({ model, inputs }: ParityCase, bytes: Uint8Array): Promise<string> {
  const back = await onnx.load(bytes);
  let [different, total] = [0, 0];
  setNumerics('strict');
  try {
    for (const x of inputs) {
      const got = tensorsOf(back.forward({ x }));
      const want = tensorsOf(call(model, x));
      for (const [i, result] of want.entries()) {
        const [a, b] = [got[i]?.dataSync() ?? [], result.dataSync()];
        total += b.length;
        for (let k = 0; k < b.length; k++) if (!Object.is(a[k], b[k])) different++;
      }
    }
  } finally {
    setNumerics('fast');
  }
  if (different === 0) return SAME;
  return `${different} of ${total} differ`;
}

async function checkModel(runtime: Runtime, item: ParityCase, tolerance: number): Promise<Row> {
  const { model, inputs, axes } = item;
  const bytes = await onnx.toBytes(model, {
    inputs: [inputs[0]],
    inputNames: ['x'],
    dynamicAxes: { x: axes },
  });
  const session = await runtime.load(bytes);
  let error = 0;
  for (const x of inputs) {
    const { dtype, shape } = x;
    const outputs = await session.run({ x: runtime.tensor({ dtype, shape, data: x.dataSync() }) });
    const values = Object.values(outputs);
    for (const [i, result] of tensorsOf(call(model, x)).entries()) {
      const value = values[i];
      const fits = value !== undefined && value.dims.join() === result.shape.join();
      error = Math.max(error, fits ? relativeError(numbersOf(value), result.dataSync()) : Infinity);
    }
  }
  await session.release();
  const readBack = await differentBits(item, bytes);
  return {
    model: item.name,
    nodes: modelProto.decode(bytes).graph?.node.length ?? 0,
    error,
    readBack,
    verdict: error <= tolerance && readBack === SAME ? 'pass' : 'FAIL',
  };
}

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

async function checkModels(
  runtime: Runtime,
  cases: readonly ParityCase[],
  tolerance: number,
  totals: Totals,
): Promise<void> {
  const rows: Row[] = [];
  for (const item of cases) rows.push(await checkModel(runtime, item, tolerance));
  for (const { verdict } of rows) totals[verdict === 'pass' ? 'passed' : 'failed']++;
  const cells = rows.map(({ model, nodes, error, readBack, verdict }) => [
    model,
    nodes,
    error.toExponential(1),
    readBack,
    verdict,
  ]);
  const head = ['model', 'nodes', 'error', 'read back, bits', ''];
  console.log(`${table(cells, { head })}\n`);
}

async function checkOps(runtime: Runtime, totals: Totals): Promise<void> {
  const reasons = new Map<string, number>();
  for (const op of opsToCheck()) {
    const { passed, failed, skipped } = await checkOp(runtime, op);
    totals.passed += passed;
    for (const [text, count] of failed) {
      totals.failed += count;
      console.log(`FAIL ${op.name}, ${count} sample(s): ${text}`);
    }
    for (const [text, count] of skipped) {
      totals.skipped += count;
      reasons.set(text, (reasons.get(text) ?? 0) + count);
    }
  }
  for (const [text, count] of reasons) console.log(`skipped ${count}: ${text}`);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      runtime: { type: 'string' },
      vision: { type: 'boolean', default: false },
      'no-ops': { type: 'boolean', default: false },
      device: { type: 'string' },
      tolerance: { type: 'string', default: '1e-5' },
      help: { type: 'boolean', default: false },
    },
  });
  const tolerance = Number(values.tolerance);
  if (values.help || values.runtime === undefined || !(tolerance > 0)) {
    console.log(USAGE);
    return values.help ? 0 : 2;
  }
  if (values.device !== undefined) setDefaultDevice(values.device);
  const runtime = new Runtime(values.runtime);
  console.log(`onnxruntime-node ${runtime.version}\n`);
  const totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  await checkModels(runtime, smallCases(), tolerance, totals);
  if (values.vision) await checkModels(runtime, visionCases(), tolerance, totals);
  if (!values['no-ops']) await checkOps(runtime, totals);
  const { passed, failed, skipped } = totals;
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return failed > 0 ? 1 : 0;
}

process.exitCode = await main();
