// How programs come to be: from functions, and from files.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { type Sizes, sizeAt, substituteSizes } from '../../base/size-expression.ts';
import type { Node } from '../../graph/node.ts';
import { type GraphRecord, graphOf, parseGraphRecord } from '../../graph/record.ts';
import { parameter } from '../../graph/subgraph.ts';
import { unify } from '../../graph/symbolic.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { SafetensorsFile } from '../io/safetensors.ts';
import { adoptHostArray } from '../io/tensors.ts';
import { headerOf, tensorIn } from '../lite/file.ts';
import { completeSizes, isState, type ModelHeader, type ScalarRecord } from '../lite/header.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { WeightNames } from '../transform/dumping.ts';
import type { TensorSpec } from '../transform/tracing/dims.ts';
import { Program } from './program.ts';
import {
  captureAtAllSizes,
  dimensionOf,
  ProgramInputs,
  ProgramSizes,
  shapeAt,
  SizesIn,
} from './sizes.ts';
import { checkNaming } from './options.ts';
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

/** Arguments in which specs may stand for tensors. */
export type InputsLike<T> = T extends Tensor
  ? Tensor | TensorSpec
  : T extends object
    ? { readonly [K in keyof T]: InputsLike<T[K]> }
    : T;

/**
 * A function as a program for inputs like `inputs`: it is recorded, nothing is computed. Tensors that it
 * closes over become weights: parameters and buffers of modules are shared with them, plain tensors
 * copied. Numbers are part of the program. Specs stand for tensors of a form; where their sizes are
 * declared dimensions the program is for every size, and the function is recorded at several.
 *
 * @throws TraceError if the function reads a value, or does something else at other sizes than a formula
 *   says; ArgumentError if names do not fit.
 * @example
 * const layer = new nn.Linear(3, 2);
 * const program = programOf((x: Tensor) => layer.forward(x), [zeros([1, 3])], { module: layer });
 * [...program.weights.keys()].sort(); // => ['bias', 'weight']
 * program.outputs; // => [{ name: 'output', dtype: 'float32', shape: [1, 2] }]
 *
 * const anySize = programOf((x: Tensor) => layer.forward(x), [spec([dim('batch'), 3])]);
 * anySize.outputs; // => [{ name: 'output', dtype: 'float32', shape: ['batch', 2] }]
 * anySize.call(zeros([7, 3])).shape; // => [7, 2]
 */
export function programOf<A extends readonly unknown[]>(
  fn: (...args: A) => unknown,
  inputs: InputsLike<NoInfer<A>>,
  options: ProgramOptions = {},
): Program {
  const op = 'programOf';
  checkKeys(op, options, ['module', 'names', 'name']);
  checkNaming(op, options);
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
  const given = new ProgramInputs(op, inputs);
  const captured = captureAtAllSizes(
    given.sizes,
    (sizes) => ({ fn: fn as (...args: readonly unknown[]) => unknown, args: given.at(sizes) }),
    {
      name,
      op,
      module: options.module,
      inputNames: options.names?.inputs,
      outputNames: options.names?.outputs,
    },
  );
  const ends = captured.inputs.map((port) =>
    endValue({ kind: 'input', name: port.name }, port.dtype, port.shape),
  );
  const { outputs, updates, weightNames } = valuesOfCapture(captured, ends, new Map());
  return new Program({
    name,
    inputs: captured.inputs.map((port, i) => ({ name: port.name, value: ends[i] as Value })),
    outputs: captured.outputs.map((port, i) => ({ name: port.name, value: outputs[i] as Value })),
    updates,
    dims: given.sizes.dims,
    body: null,
    weightNames,
    nodeNames: new Map(),
  });
}

export interface LoadProgramOptions {
  /** Sizes of declared dimensions; those left out stay open. */
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
  const { leaves, outputs: ports } = header;
  const { dims, graph, inputs, scalars, draws } = openSizes(header, given);
  const ends = inputs.map(({ name, dtype, shape }) => {
    return { name, value: endValue({ kind: 'input', name }, dtype, shape) };
  });
  const known = new Map<Tensor, Value>();
  const roots = valuesOf(
    { graph, leaves, scalars, draws },
    ends.map(({ value }) => value),
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
    inputs: ends,
    outputs: ports.map(({ name }, i) => ({ name, value: rootAt(i) })),
    updates: leaves.flatMap((leaf): Update[] =>
      isState(leaf)
        ? [{ tensor: tensors.get(leaf.tensor) as Tensor, value: rootAt(leaf.update) }]
        : [],
    ),
    dims,
    body: null,
    weightNames: new Map([...tensors].map(([name, tensor]) => [tensor, name])),
    nodeNames: new Map(),
  });
}

/** What of a file follows its sizes, with those that are given, and expressions of the others. */
function openSizes(header: ModelHeader, given: Sizes) {
  const op = 'loadProgram';
  const { dimensions, graph, inputs, scalars, draws } = header;
  // Refuses sizes of dimensions that are not there, or out of range.
  const chosen = completeSizes(op, header, given);
  const open = dimensions.filter(({ name }) => given[name] === undefined);
  for (const record of dimensions) {
    if (!open.includes(record)) dimensionOf(record).dim.check(op, chosen[record.name] as number);
  }
  const used = new SizesIn();
  used.add([graph, inputs, scalars, draws]);
  const sizes = new ProgramSizes(op, open.map(dimensionOf), used.step);
  const samples = sizes.samples.map((at) => {
    const all = { ...chosen, ...at };
    const value = {
      graph: parseGraphRecord(substituteSizes(graph, all)),
      inputs: inputs.map((port) => ({ ...port, shape: shapeAt(port.shape, all) })),
      numbers: scalars.map((each) => (each.kind === 'number' ? sizeAt(each.value, all) : null)),
      draws: draws.map((count) => sizeAt(count, all)),
    };
    checkGraph(value.graph, header);
    return { sizes: at, value };
  });
  const [only] = samples as [(typeof samples)[number]];
  const { numbers, ...value } = open.length === 0 ? only.value : unify(sizes.names, samples);
  return {
    ...value,
    dims: sizes.dims,
    scalars: scalars.map((each, i): ScalarRecord => {
      const number = numbers[i] ?? null;
      return number === null ? each : { kind: 'number', value: number };
    }),
  };
}

/** Throws FormatError for a graph that contradicts its ops or the header. */
function checkGraph(graph: GraphRecord, { leaves, scalars }: ModelHeader): void {
  const ends = (op: string): Node[] =>
    graph.nodes
      .filter((node) => node.op === op)
      .map(({ shape, dtype }) => parameter(shape, dtype, null));
  const [inputs, numbers] = [ends('input'), ends('scalar')];
  if (inputs.length !== leaves.length || numbers.length !== scalars.length) {
    fail(
      `the graph has ${inputs.length} inputs and ${numbers.length} numbers, described are ${leaves.length} and ${scalars.length}`,
    );
  }
  graphOf(graph, inputs, numbers);
}

function fail(message: string): never {
  throw new FormatError(message);
}
