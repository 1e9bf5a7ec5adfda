// Writes a function as a program file: its graph, weights, test cases, and what is compiled of it.
import type { TypedArray } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Sizes } from '../../base/size-expression.ts';
import { NO_PASSES } from '../../compile/passes/switches.ts';
import { portableTargets } from '../../runtime/registry.ts';
import { writeProgram } from '../../runtime/program-writer.ts';
import { crc32 } from '../io/crc32.ts';
import {
  pendingTensor,
  type PendingTensor,
  serializePending,
  writePending,
} from '../io/safetensors.ts';
import { toHostArray } from '../io/tensors.ts';
import { compileModel } from '../lite/compile.ts';
import {
  FORMAT_VERSION,
  formatHeader,
  HEADER_KEY,
  type ModelHeader,
  type PortRecord,
  RESERVED_PREFIX,
  type StoredRecord,
  type TestRecord,
} from '../lite/header.ts';
import { differenceOf } from '../lite/model.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { evaluate } from '../transform/controls.ts';
import { settings } from '../transform/settings.ts';
import { flattenTree, treeLeaves } from '../transform/tree.ts';
import type { DumpOptions, DumpReport } from '../transform/dumping.ts';
import { unchanged } from './host-watch.ts';
import { checkDumpOptions } from './options.ts';
import {
  captureAtAllSizes,
  formatSized,
  ProgramInputs,
  type ProgramSizes,
  shapeAt,
  type SizedCapture,
} from './sizes.ts';

type Fn = (...args: readonly unknown[]) => unknown;

/** Differences up to this count as rounding, over the largest value. */
const TOLERANCE = 1e-5;

/** A function to write down: what was recorded of it, and how it is called. */
export interface Recorded {
  readonly name: string;
  readonly fn: Fn;
  readonly captured: SizedCapture;
  readonly sizes: ProgramSizes;
  /** Arguments whose results are kept in the file. */
  readonly testCases: readonly (readonly unknown[])[];
  /** The sizes of a call. */
  readonly sizesOf: (args: readonly unknown[], tensors: readonly Tensor[]) => Sizes;
}

/**
 * Writes `fn` to a file at `path`, or to memory.
 *
 * @throws ArgumentError for options that are not known or not what they must be, and names or test cases that
 *   do not fit; TraceError if the function reads a value.
 */
export async function dump(
  name: string,
  fn: Fn,
  path: string | URL | null,
  options: DumpOptions,
): Promise<DumpReport> {
  checkDumpOptions(path, options);
  const { inputs = [] } = options;
  const given = new ProgramInputs('dump', inputs);
  const { declared, sizes } = given;
  const captured = captureAtAllSizes(sizes, (at) => ({ fn, args: given.at(at) }), {
    name,
    module: options.module,
    inputNames: options.names?.inputs,
    outputNames: options.names?.outputs,
  });
  const testCases = options.testCases ?? (given.hasValues ? [inputs] : []);
  const sizesOf = (args: readonly unknown[], tensors: readonly Tensor[]): Sizes =>
    declared.sizesOf('dump', tensors, declared.specsOf('dump', args));
  return writeProgramFile(path, { name, fn, captured, sizes, testCases, sizesOf }, options);
}

/** Writes what was recorded to a file at `path`, or to memory. */
export async function writeProgramFile(
  path: string | URL | null,
  recorded: Recorded,
  options: Omit<DumpOptions, 'inputs'>,
): Promise<DumpReport> {
  const { name, captured, sizes } = recorded;
  checkWeightNames(captured);
  const tensors: PendingTensor[] = [];
  for (const [key, value] of captured.weights) {
    tensors.push(pendingTensor(key, await toHostArray(value)));
  }
  const { tests, difference } = await writeTests(recorded, options, tensors);
  const bare: ModelHeader = {
    version: FORMAT_VERSION,
    name,
    producer: 'tengen',
    dimensions: sizes.records,
    inputs: captured.inputs,
    outputs: captured.outputs,
    graph: captured.graph,
    leaves: captured.leaves,
    scalars: captured.scalars,
    draws: captured.draws,
    guards: captured.guards,
    tests,
    stored: [],
    difference,
    metadata: options.metadata ?? {},
  };
  const header = { ...bare, stored: storePrograms(bare, sizes.ahead, options, tensors) };
  const text = new Map([
    ['format', 'tengen'],
    [HEADER_KEY, formatHeader(header)],
  ]);
  const bytes = path === null ? await serializePending(tensors, text) : null;
  if (path !== null) await writePending(path, tensors, text);
  return { bytes, header, difference };
}

function checkWeightNames({ weights }: SizedCapture): void {
  const reserved = [...weights.keys()].find((name) => name.startsWith(RESERVED_PREFIX));
  if (reserved === undefined) return;
  throw new ArgumentError(`a weight is called '${reserved}': files use such names themselves`, {
    op: 'dump',
  });
}

/** Compiles for every machine that starts without a compiler. */
function storePrograms(
  header: ModelHeader,
  ahead: readonly Sizes[],
  { numerics = ['fast'] }: Pick<DumpOptions, 'numerics'>,
  tensors: PendingTensor[],
): StoredRecord[] {
  const wanted = ahead.flatMap((sizes) =>
    portableTargets(numerics).map((target) => ({ sizes, target })),
  );
  return wanted.map(({ sizes, target }) => {
    const bytes = writeProgram(compileModel(header, sizes, target));
    const { name, vectorBytes, fma } = target;
    const fused = fma ? '.fma' : '';
    const at = Object.entries(sizes).map(([dimension, size]) => `.${dimension}=${size}`);
    const tensor = `${RESERVED_PREFIX}program.${name}.${target.numerics}${fused}${at.join('')}`;
    tensors.push(pendingTensor(tensor, { data: bytes, shape: [bytes.length] }));
    const record = { name, vectorBytes, fma, numerics: target.numerics };
    return { target: record, sizes, tensor, checksum: crc32(bytes) };
  });
}

/** Runs the function on the test cases, one after the other, as it is compiled and without optimisation. */
async function writeTests(
  { fn, captured, testCases, sizesOf }: Recorded,
  { tolerance = TOLERANCE }: Pick<DumpOptions, 'tolerance'>,
  tensors: PendingTensor[],
): Promise<{ tests: TestRecord[]; difference: number | null }> {
  const { inputs, outputs, states } = captured;
  const given = testCases.map((args) => flattenTree(args, { numbers: false }).tensors);
  const sizes = testCases.map((args, i) => sizesOf(args, given[i] as readonly Tensor[]));
  given.forEach((list, i) => checkCase(i, list, inputs, sizes[i] as Sizes));
  // Both begin with the state that the file begins with, and leave it as it is.
  const runAll = (): Promise<TypedArray[][]> =>
    unchanged(testCases.length === 0 ? [] : states, async (call) => {
      const all: TypedArray[][] = [];
      for (const args of testCases) all.push(await valuesOf(() => call(() => fn(...args))));
      return all;
    });
  const results = await runAll();
  const plain = (await withoutPasses(runAll)).flat();
  let difference: number | null = null;
  results.flat().forEach((values, k) => {
    difference = Math.max(difference ?? 0, differenceOf(values, plain[k] as TypedArray));
  });
  const tests: TestRecord[] = [];
  for (const i of testCases.keys()) {
    const at = sizes[i] as Sizes;
    const write = (kind: string, { name, shape, dtype }: PortRecord, data: TypedArray): string => {
      const tensor = `${RESERVED_PREFIX}test.${i}.${kind}.${name}`;
      tensors.push(pendingTensor(tensor, { data, shape: shapeAt(shape, at), dtype }));
      return tensor;
    };
    const record = { inputs: [] as string[], outputs: [] as string[] };
    for (const [k, tensor] of (given[i] ?? []).entries()) {
      record.inputs.push(write('input', inputs[k] as PortRecord, await tensor.data()));
    }
    for (const [k, port] of outputs.entries()) {
      record.outputs.push(write('output', port, results[i]?.[k] as TypedArray));
    }
    tests.push({ ...record, sizes: at, tolerance });
  }
  return { tests, difference };
}

/** Throws ArgumentError for a test case of another form than the inputs. */
function checkCase(
  i: number,
  given: readonly Tensor[],
  inputs: readonly PortRecord[],
  sizes: Sizes,
): void {
  const fits =
    given.length === inputs.length &&
    given.every(({ dtype, shape }, k) => {
      const port = inputs[k];
      return dtype === port?.dtype && String(shape) === String(shapeAt(port?.shape ?? [], sizes));
    });
  if (fits) return;
  const list = given.map(({ dtype, shape }) => `${dtype} ${formatShape(shape)}`).join(', ');
  const wanted = inputs.map(({ dtype, shape }) => `${dtype} ${formatSized(shape)}`).join(', ');
  throw new ArgumentError(
    `test case ${i} is of ${list || 'no tensors'}, the inputs are of ${wanted || 'no tensors'}`,
    {
      op: 'dump',
      hint: "for several sizes declare them: inputs: [spec([dim('batch'), ...])]",
    },
  );
}

async function valuesOf(call: () => unknown): Promise<TypedArray[]> {
  const results = treeLeaves('dump', 'output', call()).map(({ tensor }) => tensor);
  evaluate(...results);
  return Promise.all(results.map((result) => result.data()));
}

async function withoutPasses<T>(body: () => Promise<T>): Promise<T> {
  const before = settings.passes;
  settings.passes = NO_PASSES;
  try {
    return await body();
  } finally {
    settings.passes = before;
  }
}
