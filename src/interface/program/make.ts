// How programs come to be: from functions, and from files.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import type { Shape } from '../../base/shape.ts';
import { type Sizes, sizeAt, substituteSizes } from '../../base/size-expression.ts';
import { parseGraphRecord } from '../../graph/record.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { SafetensorsFile } from '../io/safetensors.ts';
import { adoptHostArray } from '../io/tensors.ts';
import { headerOf, tensorIn } from '../lite/file.ts';
import { completeSizes, isState, type ModelHeader } from '../lite/header.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { WeightNames } from '../transform/dumping.ts';
import { capture } from './capture.ts';
import { Program } from './program.ts';
import { valuesOfCapture } from './splice.ts';
import { endValue, type Update, type Value, valuesOf } from './value-graph.ts';

export interface ProgramOptions {
  /** The module whose names the weights get; else they are numbered. */
  readonly module?: WeightNames;
  /** Names of the tensors among arguments and results, in order; else their keys or numbers. */
  readonly names?: { readonly inputs?: readonly string[]; readonly outputs?: readonly string[] };
  /** Default: the name of the function. */
  readonly name?: string;
}

/**
 * A function as a program for inputs like `inputs`: it is recorded, nothing is computed. Tensors that it
 * closes over become weights: parameters and buffers of modules are shared with them, plain tensors
 * copied. Numbers are part of the program.
 *
 * @throws TraceError if the function reads a value; ArgumentError if names do not fit.
 * @example
 * const layer = new nn.Linear(3, 2);
 * const program = programOf((x: Tensor) => layer.forward(x), [zeros([1, 3])], { module: layer });
 * [...program.weights.keys()].sort(); // => ['bias', 'weight']
 * program.outputs; // => [{ name: 'output', dtype: 'float32', shape: [1, 2] }]
 */
export function programOf<A extends readonly unknown[]>(
  fn: (...args: A) => unknown,
  inputs: A,
  options: ProgramOptions = {},
): Program {
  const op = 'programOf';
  checkKeys(op, options, ['module', 'names', 'name']);
  if (typeof fn !== 'function') {
    throw new ArgumentError(`expected a function of tensors, got ${describeValue(fn)}`, { op });
  }
  if (!Array.isArray(inputs)) {
    throw new ArgumentError(`inputs are the arguments of a call, got ${describeValue(inputs)}`, {
      op,
      hint: 'programOf(fn, [x])',
    });
  }
  const name = options.name ?? (fn.name || 'program');
  const captured = capture(fn as (...args: readonly unknown[]) => unknown, inputs, {
    name,
    module: options.module,
    inputNames: options.names?.inputs,
    outputNames: options.names?.outputs,
  });
  const ends = captured.inputs.map((port) => {
    const shape = port.shape.map((size) => sizeAt(size, {}));
    return endValue({ kind: 'input', name: port.name }, port.dtype, shape);
  });
  const { outputs, updates, weightNames } = valuesOfCapture(captured, ends, new Map());
  return new Program({
    name,
    inputs: captured.inputs.map((port, i) => ({ name: port.name, value: ends[i] as Value })),
    outputs: captured.outputs.map((port, i) => ({ name: port.name, value: outputs[i] as Value })),
    updates,
    weightNames,
    nodeNames: new Map(),
  });
}

export interface LoadProgramOptions {
  /** Sizes of declared dimensions; those left out are as recorded. */
  readonly sizes?: Sizes;
  /**
   * Which weights become parameters. Files do not say it; default: floats that no run of the program
   * itself changes.
   */
  readonly trainable?: boolean | ((name: string) => boolean);
}

/**
 * Reads a program file (`fn.dump`, `program.dump`), to change or to train it further.
 *
 * @throws FormatError for a file that is damaged or holds no program; ArgumentError for dimensions that
 *   it does not declare.
 * @example no-run: needs a file
 * const program = await loadProgram('digits.tengen');
 * program.print();
 */
export async function loadProgram(
  source: ByteInput,
  options: LoadProgramOptions = {},
): Promise<Program> {
  checkKeys('loadProgram', options, ['sizes', 'trainable']);
  const file = await SafetensorsFile.open(source);
  try {
    const header = headerOf(file);
    const tensors = new Map<string, Tensor>();
    for (const leaf of header.leaves) {
      if (leaf.kind !== 'weight' || tensors.has(leaf.tensor)) continue;
      const plain = adoptHostArray(await tensorIn(file, leaf.tensor));
      const isTrained = isFloat(plain.dtype) && isTrainable(leaf, options.trainable);
      tensors.set(leaf.tensor, isTrained ? new Parameter(plain) : new Buffer(plain));
    }
    return programFrom(header, tensors, options.sizes ?? {});
  } finally {
    await file.close();
  }
}

function isTrainable(
  { tensor, update }: { readonly tensor: string; readonly update: number },
  trainable: LoadProgramOptions['trainable'],
): boolean {
  if (typeof trainable === 'function') return trainable(tensor);
  return trainable ?? update < 0;
}

function programFrom(
  header: ModelHeader,
  tensors: ReadonlyMap<string, Tensor>,
  given: Sizes,
): Program {
  const { leaves, scalars, outputs: ports } = header;
  const sizes = completeSizes('loadProgram', header, given);
  const graph = parseGraphRecord(substituteSizes(header.graph, sizes));
  const inputs = header.inputs.map(({ name, dtype, shape }) => {
    const fixed: Shape = shape.map((size) => sizeAt(size, sizes));
    return { name, value: endValue({ kind: 'input', name }, dtype, fixed) };
  });
  const known = new Map<Tensor, Value>();
  const draws = header.draws.map((count) => sizeAt(count, sizes));
  const roots = valuesOf(
    { graph, leaves, scalars, draws },
    inputs.map(({ value }) => value),
    ({ tensor: name }) => {
      const tensor = tensors.get(name) as Tensor;
      const leaf =
        known.get(tensor) ?? endValue({ kind: 'weight', tensor }, tensor.dtype, tensor.shape);
      known.set(tensor, leaf);
      return leaf;
    },
  );
  const rootAt = (position: number): Value =>
    roots[position] ?? fail(`there is no output ${position} of the graph`);
  return new Program({
    name: header.name,
    inputs,
    outputs: ports.map(({ name }, i) => ({ name, value: rootAt(i) })),
    updates: leaves.flatMap((leaf): Update[] =>
      isState(leaf)
        ? [{ tensor: tensors.get(leaf.tensor) as Tensor, value: rootAt(leaf.update) }]
        : [],
    ),
    weightNames: new Map([...tensors].map(([name, tensor]) => [tensor, name])),
    nodeNames: new Map(),
  });
}

function fail(message: string): never {
  throw new FormatError(message);
}
