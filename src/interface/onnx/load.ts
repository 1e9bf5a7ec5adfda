// Reads a model from a file, an address, a Blob or bytes, with the files of weights beside it.
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { checkKeys } from '../../base/checks.ts';
import {
  type ByteInput,
  type ByteSource,
  hasFiles,
  openSource,
  readAllBytes,
} from '../io/byte-source.ts';
import { GraphBuilder } from './graph.ts';
import type { AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto } from './messages.ts';
import { EXTERNAL, modelProto } from './messages.ts';
import { OnnxModel } from './model.ts';
import { findOperator } from './operators/index.ts';
import { describeTensor, rawByteLength } from './tensor-data.ts';

export interface LoadOptions {
  /** Weights become parameters, which are trained. By default they are buffers. */
  trainable?: boolean;
  /**
   * Files that hold weights, by the location that the model gives. By default they lie beside the
   * model, if that was read from a path or an address.
   */
  external?: Readonly<Record<string, ByteInput>>;
}

/**
 * Reads an ONNX model. Operators, attributes and versions that are not known are told all at once,
 * before anything runs.
 *
 * @throws FormatError for a file that is broken, UnsupportedError for one that asks for what is not
 *   there.
 *
 * @example no-run: needs a file
 * const model = await load('resnet50.onnx');
 * const { output } = model.run({ input: tensor(new Float32Array(150528)).reshape(1, 3, 224, 224) });
 */
export async function load(input: ByteInput, options: LoadOptions = {}): Promise<OnnxModel> {
  checkKeys('onnx.load', options, ['trainable', 'external']);
  const proto = modelProto.decode(await readAllBytes(input));
  const external = await readExternal(proto, input, options.external ?? {});
  const graph = new GraphBuilder(proto, findOperator, external).build(proto);
  return new OnnxModel(proto, graph, options);
}

/** All tensors of a model that are stored elsewhere. */
function externalTensors(model: ModelProto): TensorProto[] {
  const found: TensorProto[] = [];
  const visitTensor = (tensor: TensorProto | undefined): void => {
    if (tensor?.dataLocation === EXTERNAL) found.push(tensor);
  };
  const visitAttribute = (attribute: AttributeProto): void => {
    visitTensor(attribute.t);
    attribute.tensors.forEach(visitTensor);
    if (attribute.g !== undefined) visitGraph(attribute.g);
    attribute.graphs.forEach(visitGraph);
  };
  const visitNodes = (nodes: readonly NodeProto[]): void => {
    for (const node of nodes) node.attribute.forEach(visitAttribute);
  };
  const visitGraph = (graph: GraphProto): void => {
    graph.initializer.forEach(visitTensor);
    visitNodes(graph.node);
  };
  if (model.graph !== undefined) visitGraph(model.graph);
  for (const { node } of model.functions) visitNodes(node);
  return found;
}

async function readExternal(
  model: ModelProto,
  input: ByteInput,
  given: Readonly<Record<string, ByteInput>>,
): Promise<Map<TensorProto, Uint8Array>> {
  const bytes = new Map<TensorProto, Uint8Array>();
  const sources = new Map<string, ByteSource>();
  try {
    for (const tensor of externalTensors(model)) {
      const { location, offset, length } = externalPlace(tensor);
      let source = sources.get(location);
      if (source === undefined) {
        source = await openExternal(location, input, given);
        sources.set(location, source);
      }
      bytes.set(tensor, await source.read(offset, length));
    }
  } finally {
    for (const source of sources.values()) await source.close();
  }
  return bytes;
}

/** Where the values of a tensor lie: its size is known from its shape, and must be the one given. */
function externalPlace(tensor: TensorProto): { location: string; offset: number; length: number } {
  const { label, type, count } = describeTensor(tensor);
  const entries = new Map(tensor.externalData.map(({ key, value }) => [key ?? '', value ?? '']));
  const number = (key: string, standard: number): number => {
    const value = entries.get(key);
    if (value === undefined) return standard;
    if (/^\d{1,15}$/.test(value)) return Number(value);
    throw new FormatError(`${label}: the ${key} of its external data is '${value.slice(0, 40)}'`);
  };
  const wanted = rawByteLength(type, count);
  const length = number('length', wanted);
  if (length !== wanted) {
    throw new FormatError(`${label} takes ${wanted} bytes, its external data is ${length} long`);
  }
  const location = entries.get('location') ?? '';
  checkLocation(label, location);
  return { location, offset: number('offset', 0), length };
}

/** A location is a relative path that stays within the folder of the model. */
function checkLocation(label: string, location: string): void {
  const parts = location.split('/');
  const leaves = parts.some((part) => part === '..' || part === '' || part.includes('\\'));
  if (!leaves && !/^[a-z]+:|\0|^~/i.test(location)) return;
  throw new FormatError(
    `${label} is stored in '${location.slice(0, 80)}', which is not a path within the model's folder`,
  );
}

async function openExternal(
  location: string,
  input: ByteInput,
  given: Readonly<Record<string, ByteInput>>,
): Promise<ByteSource> {
  if (Object.hasOwn(given, location)) return openSource(given[location] as ByteInput);
  if (typeof input !== 'string' && !(input instanceof URL)) {
    throw new ArgumentError(`weights are stored in '${location}', which is not at hand`, {
      op: 'onnx.load',
      hint: `pass { external: { '${location}': bytes } }`,
    });
  }
  const text = String(input);
  if (/^https?:/.test(text) || !hasFiles()) return openSource(addressBeside(text, location));
  return openSource(await pathBeside(input, location));
}

function addressBeside(address: string, location: string): string {
  const encoded = location.split('/').map(encodeURIComponent).join('/');
  const slash = address.replace(/[?#].*$/, '').lastIndexOf('/');
  return address.slice(0, slash + 1) + encoded;
}

/** The file beside the model. A link that leads out of the folder is refused. */
async function pathBeside(input: string | URL, location: string): Promise<string> {
  const { realpath } = await import('node:fs/promises');
  const { dirname, join, sep } = await import('node:path');
  const { fileURLToPath } = await import('node:url');
  const isAddress = input instanceof URL || input.startsWith('file:');
  const model = isAddress ? fileURLToPath(input) : input;
  const folder = await realpath(dirname(model));
  const path = join(folder, location);
  // A file that is not there fails when it is opened, with its name.
  const real = await realpath(path).catch(() => path);
  if (!real.startsWith(folder.endsWith(sep) ? folder : folder + sep)) {
    throw new FormatError(`'${location}' leads out of the model's folder`);
  }
  return path;
}
