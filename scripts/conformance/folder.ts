// One folder of the ONNX operator tests: a model, and sets of inputs with the outputs they give.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '../../src/base/errors.ts';
import {
  type ModelProto,
  type OptionalProto,
  type SequenceProto,
  type TypeProto,
  modelProto,
  optionalProto,
  sequenceProto,
  tensorProto,
} from '../../src/interface/onnx/messages.ts';
import {
  type ElementArray,
  decodeTensor,
  elementCode,
  elementTypeOf,
} from '../../src/interface/onnx/tensor-data.ts';
import {
  OptionalValue,
  SequenceValue,
  TensorValue,
  type Value,
} from '../../src/interface/onnx/values.ts';

/** A value as a test holds it. */
export type ExpectedValue =
  | { readonly kind: 'tensor'; readonly array: ElementArray }
  | { readonly kind: 'sequence'; readonly items: readonly ExpectedValue[]; readonly type: number }
  | { readonly kind: 'empty' };

export interface DataSet {
  readonly name: string;
  readonly inputs: readonly ExpectedValue[];
  readonly outputs: readonly ExpectedValue[];
}

export interface TestFolder {
  readonly name: string;
  readonly path: string;
  readonly bytes: Uint8Array;
  readonly model: ModelProto;
}

/** Folders with a model, by name. */
export function testFolders(directory: string, only: string | undefined): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .filter((item) => item.isDirectory() && existsSync(join(directory, item.name, 'model.onnx')))
    .map((item) => item.name)
    .filter((name) => only === undefined || name === only || name === `test_${only}`)
    .sort();
}

export function readFolder(directory: string, name: string): TestFolder {
  const path = join(directory, name);
  const bytes = readFileSync(join(path, 'model.onnx'));
  return { name, path, bytes, model: modelProto.decode(bytes) };
}

/** The data sets of a folder, read by the types that the model declares. */
export function readDataSets({ path, model }: TestFolder): DataSet[] {
  const graph = model.graph;
  if (graph === undefined) throw new FormatError('the model holds no graph');
  const given = new Set(graph.initializer.map(({ name }) => name));
  const inputTypes = graph.input.filter(({ name }) => !given.has(name)).map(({ type }) => type);
  const outputTypes = graph.output.map(({ type }) => type);
  return readdirSync(path)
    .filter((name) => name.startsWith('test_data_set_'))
    .sort()
    .map((name) => ({
      name,
      inputs: readValues(join(path, name), 'input', inputTypes),
      outputs: readValues(join(path, name), 'output', outputTypes),
    }));
}

function readValues(
  folder: string,
  kind: string,
  types: readonly (TypeProto | undefined)[],
): ExpectedValue[] {
  const count = readdirSync(folder).filter((name) => name.startsWith(`${kind}_`)).length;
  return Array.from({ length: count }, (_, index) => {
    const bytes = readFileSync(join(folder, `${kind}_${index}.pb`));
    return readValue(bytes, types[index]);
  });
}

function readValue(bytes: Uint8Array, type: TypeProto | undefined): ExpectedValue {
  if (type?.sequenceType !== undefined) return sequenceOf(sequenceProto.decode(bytes), type);
  if (type?.optionalType !== undefined) return optionalOf(optionalProto.decode(bytes), type);
  const array = decodeTensor(tensorProto.decode(bytes));
  // Early releases store bfloat16 as its bits in a tensor of uint16.
  const isBits = array.type === 'uint16' && type?.tensorType?.elemType === BFLOAT16;
  return { kind: 'tensor', array: isBits ? { ...array, type: 'bfloat16' } : array };
}

const BFLOAT16 = elementCode('bfloat16');

function elementCodeOf(type: TypeProto | undefined): number {
  let at = type;
  while (at !== undefined && at.tensorType === undefined) {
    at = at.sequenceType?.elemType ?? at.optionalType?.elemType;
  }
  return at?.tensorType?.elemType ?? 1;
}

function sequenceOf(proto: SequenceProto, type: TypeProto | undefined): ExpectedValue {
  const items = [
    ...proto.tensorValues.map((t): ExpectedValue => ({ kind: 'tensor', array: decodeTensor(t) })),
    ...proto.sequenceValues.map((s) => sequenceOf(s, type)),
  ];
  return { kind: 'sequence', items, type: elementCodeOf(type) };
}

function optionalOf(proto: OptionalProto, type: TypeProto): ExpectedValue {
  if (proto.tensorValue !== undefined) {
    return { kind: 'tensor', array: decodeTensor(proto.tensorValue) };
  }
  if (proto.sequenceValue !== undefined) return sequenceOf(proto.sequenceValue, type);
  if (proto.optionalValue !== undefined) return optionalOf(proto.optionalValue, type);
  return { kind: 'empty' };
}

/**
 * An input as the model gets it. Tensors go through the device wherever it can hold them, so that the
 * device is tested and not the host.
 */
export function inputValue(given: ExpectedValue): Value {
  if (given.kind === 'empty') return new OptionalValue(null);
  if (given.kind === 'sequence') {
    const type = elementTypeOf(given.type) ?? 'float32';
    return new SequenceValue(given.items.map(inputValue), type);
  }
  const value = TensorValue.ofArray(given.array);
  if (given.array.type === 'string' || given.array.type.startsWith('complex')) return value;
  try {
    return TensorValue.ofTensor(value.tensor, value.type);
  } catch {
    // Integers of more than 32 bits stay on the host.
    return value;
  }
}
