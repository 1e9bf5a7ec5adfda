// Every primitive's samples through the runtime, against the primitive's own reference.
import { type DType, isFloat } from '../../src/base/dtype.ts';
import { allOps, makeNode, type Sample, type TestedOp } from '../../src/graph/op.ts';
import { wrap } from '../../src/interface/tensor/handle.ts';
import type { Tensor } from '../../src/node.ts';
import { toBytes, UnsupportedError } from '../../src/onnx.ts';
import { hostArray, numbersOf, type Runtime } from './runtime.ts';

export interface OpReport {
  readonly op: string;
  passed: number;
  /** By what is different, in words. */
  readonly failed: Map<string, number>;
  /** By why it was not run. */
  readonly skipped: Map<string, number>;
}

const HALVES: ReadonlySet<DType> = new Set(['float16', 'bfloat16']);

function count(counts: Map<string, number>, text: string): void {
  counts.set(text, (counts.get(text) ?? 0) + 1);
}

function holds(sample: Sample, wanted: (value: number) => boolean): boolean {
  return sample.inputs.some(({ data }) => data.some(wanted));
}

/** Samples of some ops that ask for more than ONNX promises. */
const BEYOND: Readonly<Record<string, (sample: Sample) => string | null>> = {
  gather: outOfRange,
  take: outOfRange,
  maxPool: wideBorder,
  maxPoolIndices: wideBorder,
  pow: ({ inputs }) => (inputs.some(({ dtype }) => isFloat(dtype)) ? null : 'integers overflow'),
};

function outOfRange({ inputs: [x, index], attrs }: Sample): string | null {
  const size = x?.shape[attrs['axis'] as number] ?? 0;
  return index?.data.every((at) => at >= 0 && at < size) === true ? null : 'index out of range';
}

function wideBorder({ attrs }: Sample): string | null {
  const [kernel, padding] = [attrs['kernel'], attrs['padding']] as (readonly number[])[];
  const isWide = padding?.some((amount, i) => amount >= (kernel?.[i >> 1] ?? 0)) === true;
  return isWide ? 'the runtime wants borders narrower than windows' : null;
}

/** Why a sample is left out: what ONNX or the runtime leaves open. */
function reasonToSkip(op: TestedOp, sample: Sample, result: DType): string | null {
  const dtypes = [...sample.inputs.map(({ dtype }) => dtype), result];
  if (dtypes.some((dtype) => HALVES.has(dtype))) return 'halves are read as bits here';
  if (holds(sample, Number.isNaN)) return 'ONNX leaves NaN open';
  return BEYOND[op.name]?.(sample) ?? null;
}

function difference(
  got: Float64Array,
  want: Float64Array,
  dtype: DType,
  tolerance: number,
): string | null {
  for (const [i, exact] of want.entries()) {
    const wanted = dtype === 'float32' ? Math.fround(exact) : exact;
    const value = got[i] as number;
    const isSame = Object.is(value, wanted) || value === wanted;
    const allowed = isFloat(dtype) ? tolerance * Math.abs(wanted) + 1e-6 : 0;
    if (!isSame && !(Math.abs(value - wanted) <= allowed)) return `${value}, not ${wanted}`;
  }
  return null;
}

async function runSample(runtime: Runtime, op: TestedOp, sample: Sample): Promise<string | null> {
  const specs = sample.inputs.map(({ shape, dtype }) => ({ shape, dtype }));
  const fn = (...inputs: Tensor[]): Tensor => {
    const nodes = sample.inputs.length === 0 ? [] : inputs.map(({ node }) => node);
    return wrap(makeNode(op, nodes, sample.attrs));
  };
  const inputs = specs.length === 0 ? [[1]] : specs;
  const inputNames = inputs.map((_, i) => `x${i}`);
  const bytes = await toBytes(fn, { inputs, inputNames, opset: 18 });
  const given =
    specs.length === 0
      ? [{ shape: [1], dtype: 'float32' as const, data: new Float64Array(1) }]
      : sample.inputs;
  const feeds = Object.fromEntries(
    given.map(({ shape, dtype, data }, i) => [
      inputNames[i],
      runtime.tensor({ shape, dtype, data: hostArray(dtype, data) }),
    ]),
  );
  const session = await runtime.load(bytes);
  const output = (await session.run(feeds))['output'];
  await session.release();
  if (output === undefined) return 'no output';
  const expected = op.infer(sample.inputs as never, sample.attrs);
  if (output.type !== expected.dtype) return `${output.type}, not ${expected.dtype}`;
  if (output.dims.join() !== expected.shape.join()) return `[${output.dims.join()}]`;
  const want = op.reference(sample.inputs, sample.attrs, expected);
  return difference(numbersOf(output), want, expected.dtype, sample.tolerance ?? 1e-5);
}

/** One primitive; what the runtime has no kernel for is skipped and counted. */
export async function checkOp(runtime: Runtime, op: TestedOp): Promise<OpReport> {
  const report: OpReport = { op: op.name, passed: 0, failed: new Map(), skipped: new Map() };
  for (const sample of op.samples()) {
    const { dtype } = op.infer(sample.inputs as never, sample.attrs);
    const reason = reasonToSkip(op, sample, dtype);
    if (reason !== null) {
      count(report.skipped, reason);
      continue;
    }
    try {
      const problem = await runSample(runtime, op, sample);
      if (problem === null) report.passed++;
      else count(report.failed, problem);
    } catch (error) {
      const text = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
      if (error instanceof UnsupportedError) count(report.skipped, 'refused by the export');
      else if (/Could not find an implementation/.test(text)) {
        count(report.skipped, 'the runtime has no kernel for this type');
      } else count(report.failed, text.slice(0, 160));
    }
  }
  return report;
}

export function opsToCheck(): readonly TestedOp[] {
  return allOps().filter(({ lower, samples }) => lower.kind !== 'leaf' && samples().length > 0);
}
