// A loaded model: its inputs and outputs, and its weights as a module of the framework.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { Module } from '../nn/module.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { type Tensor, type TensorData, isTensor, tensor } from '../tensor/index.ts';
import type { Graph } from './graph.ts';
import { runGraph } from './interpreter.ts';
import type { ModelProto, TypeProto, ValueInfoProto } from './messages.ts';
import { type ElementType, elementTypeOf } from './tensor-data.ts';
import { TensorValue, type Value, computedAs, isFloatType } from './values.ts';

/** A size of an axis: a number, the name of one that is the same wherever it stands, or unknown. */
export type Dimension = number | string | null;

/** What a model says about an input or output. */
export interface ValueInfo {
  readonly name: string;
  readonly kind: 'tensor' | 'sequence' | 'optional' | 'other';
  /** Of the elements; null where the model does not say. */
  readonly type: ElementType | null;
  /** null where not even the number of axes is said. */
  readonly shape: readonly Dimension[] | null;
}

/** What a model takes for an input: a tensor, or numbers for one of the input's type. */
export type ModelInput = Tensor | TensorData;

function readInfo({ name, type }: ValueInfoProto): ValueInfo {
  const kind = kindOf(type);
  let element = type;
  while (element !== undefined && element.tensorType === undefined) {
    element = element.sequenceType?.elemType ?? element.optionalType?.elemType;
  }
  const tensorType = element?.tensorType;
  const shape = tensorType?.shape?.dim.map(({ dimValue, dimParam }): Dimension => {
    if (dimParam !== undefined && dimParam !== '') return dimParam;
    return dimValue === undefined || dimValue < 0 ? null : dimValue;
  });
  return {
    name: name ?? '',
    kind,
    type: elementTypeOf(tensorType?.elemType) ?? null,
    shape: kind === 'tensor' ? (shape ?? null) : null,
  };
}

function kindOf(type: TypeProto | undefined): ValueInfo['kind'] {
  if (type === undefined || type.tensorType !== undefined) return 'tensor';
  if (type.sequenceType !== undefined) return 'sequence';
  return type.optionalType === undefined ? 'other' : 'optional';
}

/** `[N, 3, 224]` */
function formatDimensions(shape: readonly Dimension[]): string {
  return `[${shape.map((size) => size ?? '?').join(', ')}]`;
}

/**
 * A model that was read from an ONNX file. It is a module: it can be traced, differentiated and, if it
 * was loaded with `trainable`, trained.
 */
export class OnnxModel extends Module {
  /** What must be given to `run`, in the order of the file. */
  readonly inputs: readonly ValueInfo[];
  /** What `run` gives. */
  readonly outputs: readonly ValueInfo[];
  readonly name: string;
  readonly producer: string;
  /** The version of the operators of the standard. */
  readonly opset: number;
  /** The texts that the producer attached. */
  readonly metadata: Readonly<Record<string, string>>;
  readonly #graph: Graph;
  readonly #weights = new Map<string, Parameter | Buffer>();

  constructor(proto: ModelProto, graph: Graph, options: { trainable?: boolean } = {}) {
    super();
    this.#graph = graph;
    this.name = graph.name;
    this.producer = [proto.producerName, proto.producerVersion].filter(Boolean).join(' ');
    const standard = proto.opsetImport.find(
      ({ domain }) => (domain ?? '') === '' || domain === 'ai.onnx',
    );
    this.opset = standard?.version ?? 0;
    this.metadata = Object.fromEntries(
      proto.metadataProps.map(({ key, value }) => [key ?? '', value ?? '']),
    );
    this.inputs = graph.inputInfo.map(readInfo);
    this.outputs = graph.outputInfo.map(readInfo);
    this.#takeWeights(options.trainable === true);
    this.eval();
  }

  /** Floats with axes become parameters, or buffers if they are not trained. */
  #takeWeights(trainable: boolean): void {
    const { initializers } = this.#graph;
    const { used, trained } = usesOf(this.#graph);
    for (const [name, value] of initializers) {
      if (!used.has(name)) initializers.delete(name);
      if (!used.has(name) || !isFloatType(value.type) || value.rank === 0) continue;
      const { data, shape } = value.read();
      const dtype = computedAs(value.type);
      // float8 is held as bits and computed as float32.
      if (value.type !== dtype || !isFloat(dtype) || Array.isArray(data)) continue;
      const Kind = trainable && trained.has(name) ? Parameter : Buffer;
      const weight = new Kind(data as Float32Array, [...shape], dtype);
      this.#weights.set(name, weight);
      initializers.set(name, TensorValue.ofTensor(weight, value.type));
    }
  }

  protected override *members(): Generator<[string, Tensor]> {
    yield* this.#weights;
  }

  /**
   * Computes the outputs by name from the inputs by name; a model of one input also takes it alone.
   * Nothing is computed before a result is read. 64-bit integers come as int32.
   *
   * @throws ArgumentError for a missing or unknown input, ShapeError or DTypeError for one that does not
   *   fit; errors of a node name it.
   */
  forward(given: Readonly<Record<string, ModelInput>> | Tensor): Record<string, Tensor> {
    const values = this.execute(this.#read(given));
    const results = this.outputs.map(({ name }, index): [string, Tensor] => {
      const value = values[index];
      if (value?.kind !== 'tensor') {
        throw new ArgumentError(`the output '${name}' is no tensor but ${value?.kind ?? 'empty'}`, {
          op: 'run',
          hint: 'execute() gives sequences and optional values',
        });
      }
      return [name, value.tensor];
    });
    return Object.fromEntries(results);
  }

  /** As `forward`. */
  run(given: Readonly<Record<string, ModelInput>> | Tensor): Record<string, Tensor> {
    return this.forward(given);
  }

  /**
   * As `forward`, with values that know their ONNX type: sequences, text, 64-bit integers. Shapes are
   * not compared with what the model declares.
   */
  execute(given: ReadonlyMap<string, Value>): (Value | null)[] {
    const inputs = this.inputs.map(({ name }) => {
      const value = given.get(name);
      if (value !== undefined) return value;
      throw new ArgumentError(`the input '${name}' is missing`, {
        op: 'run',
        hint: `the model takes ${this.inputs.map((input) => input.name).join(', ')}`,
      });
    });
    const replaced = new Map<string, Value>();
    for (const [name, value] of given) {
      if (this.#graph.initializers.has(name)) replaced.set(name, value);
    }
    return runGraph(this.#graph, inputs, replaced);
  }

  #read(given: Readonly<Record<string, ModelInput>> | Tensor): Map<string, Value> {
    if (isTensor(given)) {
      const [only, second] = this.inputs;
      if (only === undefined || second !== undefined) {
        throw new ArgumentError(`the model takes ${this.inputs.length} inputs, by name`, {
          op: 'run',
          hint: `run({ ${this.inputs.map(({ name }) => name).join(', ')} })`,
        });
      }
      return this.#read({ [only.name]: given });
    }
    const values = new Map<string, Value>();
    const sizes = new Map<string, { size: number; name: string }>();
    for (const [name, value] of Object.entries(given)) {
      const info = this.inputs.find((input) => input.name === name);
      const initializer = this.#graph.initializers.get(name);
      if (info === undefined && initializer === undefined) {
        throw new ArgumentError(`the model has no input '${name}'`, {
          op: 'run',
          hint: `it takes ${this.inputs.map((input) => input.name).join(', ')}`,
        });
      }
      const read = readInput(name, info?.type ?? initializer?.type ?? null, value);
      if (info !== undefined) checkInput(info, read, sizes);
      values.set(name, read);
    }
    return values;
  }

  override describe(): string {
    const list = (infos: readonly ValueInfo[]): string =>
      infos
        .map(({ name, type, shape }) => `${name}: ${type ?? '?'}${formatDimensions(shape ?? [])}`)
        .join(', ');
    return `OnnxModel(${list(this.inputs)} -> ${list(this.outputs)})`;
  }
}

/** A tensor of the type that the model wants. */
function readInput(name: string, type: ElementType | null, given: ModelInput): TensorValue {
  if (type === null) {
    const value = isTensor(given) ? given : tensor(given);
    return TensorValue.ofTensor(value, value.dtype);
  }
  const dtype = computedAs(type);
  const value = isTensor(given) ? given : tensor(given, { dtype });
  if (value.dtype !== dtype) {
    const as = type === dtype ? '' : ` as ${dtype}`;
    throw new DTypeError(`the input '${name}' is ${type}${as}, got ${value.dtype}`, {
      op: 'run',
      hint: `.to('${dtype}')`,
    });
  }
  return TensorValue.ofTensor(value, type);
}

function checkInput(
  { name, shape }: ValueInfo,
  value: TensorValue,
  sizes: Map<string, { size: number; name: string }>,
): void {
  if (shape === null) return;
  const fail = (hint?: string): never => {
    throw new ShapeError(
      `the input '${name}' is ${formatDimensions(shape)}, got ${formatShape(value.shape)}`,
      { op: 'run', ...(hint === undefined ? {} : { hint }) },
    );
  };
  if (shape.length !== value.rank) fail();
  for (const [axis, expected] of shape.entries()) {
    const size = value.shape[axis] ?? 0;
    if (typeof expected === 'number' && expected !== size) fail();
    if (typeof expected !== 'string') continue;
    const known = sizes.get(expected);
    if (known === undefined) sizes.set(expected, { size, name });
    else if (known.size !== size) fail(`${expected} is ${known.size} in '${known.name}'`);
  }
}

/** Names of initializers that nodes use at all, and those that one uses as what can be trained. */
function usesOf(graph: Graph): { used: Set<string>; trained: Set<string> } {
  const used = new Set<string>(graph.outputs);
  const trained = new Set<string>();
  for (const { inputs, captured, work } of graph.nodes) {
    for (const name of captured) {
      used.add(name);
      trained.add(name);
    }
    for (const [index, name] of inputs.entries()) {
      used.add(name);
      const fixed = work.kind === 'operator' && work.operator.constants.includes(index);
      if (!fixed) trained.add(name);
    }
  }
  return { used, trained };
}
