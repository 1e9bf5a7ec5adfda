// Entry `tengen/export`: program files (`fn.dump`) as C source and as WebAssembly modules that stand alone.
import { exportC, type ExportedFiles } from './backends/c/export.ts';
import { C_VARIANTS, cTarget, type CVariant } from './backends/c/targets.ts';
import { InterpDevice } from './backends/interp/device.ts';
import { WasmDevice, wasmTarget } from './backends/wasm/device.ts';
import { exportWasm } from './backends/wasm/export.ts';
import { sameBytes } from './base/bytes.ts';
import { ArgumentError } from './base/errors.ts';
import type { Sizes } from './base/size-expression.ts';
import type { ByteInput } from './interface/io/byte-source.ts';
import { ExportableProgram, type ExportableOptions } from './interface/program/exportable.ts';
import type { ExportedCase, ExportedPlan } from './runtime/export.ts';
import { runOnceOn } from './runtime/run-once.ts';

export { C_VARIANTS, type CVariant, type ExportedFiles };

interface CommonOptions extends ExportableOptions {
  /** `strict`: the same bits on every machine and by every compiler. Default `fast`. */
  readonly numerics?: 'fast' | 'strict';
  /** Largest relative difference of the test cases. Default 0 in strict numerics, 1e-5 in fast. */
  readonly tolerance?: number;
}

export interface ExportToCOptions extends CommonOptions {
  /** Default: all. */
  readonly variants?: readonly CVariant[];
  /** Weights as a file to load (default), or as an array that is compiled in. */
  readonly weights?: 'binary' | 'array';
  /**
   * A program file of a training step: it is exported too, and takes the same block of weights, so that
   * the program uses what the step has trained. Weights that both have go by the same name. `numbers`
   * are then those of the step.
   */
  readonly train?: ByteInput;
}

export interface ExportToWasmOptions extends CommonOptions {
  /** Weights as a part of the module (default), or as a file beside it. */
  readonly weights?: 'inside' | 'beside';
  /** Whether relaxed SIMD may be used (fused multiply-add in fast numerics); default false. */
  readonly relaxed?: boolean;
}

/**
 * A program file as a folder of C99: sources for each variant, a header, weights, a Makefile, and a
 * driver that runs the test cases (docs/c-export.md).
 *
 * @throws FormatError for files that are damaged or hold no program; ArgumentError for options that do
 *   not fit.
 * @example no-run: needs a file
 * const { files } = await exportToC('digits.tengen', { numerics: 'strict', variants: ['sse'] });
 * files.get('digits.h'); // the interface, as text
 */
export async function exportToC(
  source: ByteInput,
  options: ExportToCOptions = {},
): Promise<ExportedFiles> {
  const { variants = C_VARIANTS, train, numerics = 'fast' } = options;
  checkNumerics(numerics);
  const wrong = variants.find((variant) => !C_VARIANTS.includes(variant));
  if (wrong !== undefined) {
    throw new ArgumentError(`there is no variant '${wrong}'; there are ${C_VARIANTS.join(', ')}`, {
      op: 'exportToC',
    });
  }
  const { name: _, numbers, ...more } = options;
  const program = await ExportableProgram.read(
    source,
    train === undefined ? options : { ...options, numbers: {} },
    train === undefined ? 'all' : 'some',
  );
  const step =
    train === undefined
      ? null
      : await readStep(train, program, { ...more, ...(numbers === undefined ? {} : { numbers }) });
  if (step !== null) checkSizes(options.sizes ?? {}, [program, step]);
  const shared = step === null ? null : sharedWeights(program, step);
  const runOnce = runOnceOn(new InterpDevice());
  const models = [];
  for (const each of step === null ? [program] : [program, step]) {
    const plans = new Map<CVariant, ExportedPlan>();
    for (const variant of variants) {
      plans.set(variant, each.planFor(cTarget(variant, numerics), shared === null));
    }
    const testCases = await expectedOf(each, numerics);
    models.push({ request: { ...each.request(runOnce, shared), testCases }, plans });
  }
  return exportC(models, options);
}

/**
 * A program file as one WebAssembly module, `<name>.wasm`, with its loader `<name>.js`, types for it,
 * and a script that runs the test cases.
 *
 * @throws FormatError for a file that is damaged or holds no program; ArgumentError for options that do
 *   not fit; CompileError for a program of more than 4 GiB.
 * @example no-run: needs a file
 * const files = await exportToWasm('digits.tengen');
 * files.get('digits.js'); // the loader, as text
 */
export async function exportToWasm(
  source: ByteInput,
  options: ExportToWasmOptions = {},
): Promise<ReadonlyMap<string, string | Uint8Array>> {
  const { numerics = 'fast', relaxed = false } = options;
  checkNumerics(numerics);
  const program = await ExportableProgram.read(source, options);
  const request = program.request(runOnceOn(new InterpDevice()));
  const testCases = await expectedOf(program, numerics);
  const plan = program.planFor(wasmTarget(numerics, relaxed), true);
  return exportWasm({ ...request, testCases }, plan, options);
}

function checkNumerics(numerics: unknown): void {
  if (numerics === 'fast' || numerics === 'strict') return;
  throw new ArgumentError(`numerics are 'fast' or 'strict', got '${String(numerics)}'`, {
    op: 'export',
  });
}

/** Test cases with what a device computes in these numerics. */
async function expectedOf(
  program: ExportableProgram,
  numerics: 'fast' | 'strict',
): Promise<ExportedCase[]> {
  const device = new WasmDevice({ threads: 1 });
  try {
    return await program.casesOn(device, device.target(numerics));
  } finally {
    device.close();
  }
}

async function readStep(
  source: ByteInput,
  { name }: ExportableProgram,
  options: ExportableOptions,
): Promise<ExportableProgram> {
  const step = await ExportableProgram.read(source, options, 'some');
  if (step.name !== name) return step;
  return ExportableProgram.read(source, { ...options, name: `${name}_train` }, 'some');
}

/** Each size must be one of some program. */
function checkSizes(sizes: Sizes, programs: readonly ExportableProgram[]): void {
  const names = programs.flatMap(({ header }) => header.dimensions.map(({ name }) => name));
  const unknown = Object.keys(sizes).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new ArgumentError(
    `there is no dimension '${unknown}'; declared: ${names.join(', ') || 'none'}`,
    { op: 'exportToC' },
  );
}

type Weights = ExportableProgram['weights'];

/** All weights of two programs; where both have one it must be the same. */
function sharedWeights(program: ExportableProgram, step: ExportableProgram): Weights {
  const all = new Map(program.weights);
  for (const [name, weight] of step.weights) {
    const other = all.get(name);
    all.set(name, other ?? weight);
    if (other === undefined) continue;
    const same = other.dtype === weight.dtype && sameBytes(other.bytes, weight.bytes);
    if (same) continue;
    throw new ArgumentError(`weight '${name}' differs between ${program.name} and ${step.name}`, {
      op: 'exportToC',
      hint: 'dump both before the model is trained further, with { module }, which names weights',
    });
  }
  return all;
}
