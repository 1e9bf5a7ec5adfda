// The files that the command takes: program files as they are, ONNX files as programs in memory.
import { type DType, isDType } from '../../base/dtype.ts';
import { FormatError } from '../../base/errors.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { SafetensorsFile } from '../io/safetensors.ts';
import type { TypedHostArray } from '../io/host-array.ts';
import { headerOf, tensorIn } from '../lite/file.ts';
import type { ModelHeader } from '../lite/header.ts';
import { CallError } from './call.ts';

/** A tensor of the file, without its values. */
export interface StoredTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: number;
}

export interface ModelSource {
  readonly path: string;
  readonly format: 'tengen' | 'onnx';
  /** For `load`. */
  readonly source: ByteInput;
  readonly header: ModelHeader;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Tensors of the file, with values. */
  read(names: readonly string[]): Promise<Map<string, TypedHostArray>>;
}

/**
 * Opens a model. `sizes`: of the axes that an ONNX file leaves open.
 *
 * @throws FormatError for what is no model; CallError for a path that leads nowhere.
 */
export async function openModel(
  path: string,
  sizes: ReadonlyMap<string, string>,
): Promise<ModelSource> {
  if (!/^https?:/.test(path)) {
    const { stat } = await import('node:fs/promises');
    const found = await stat(path).catch(() => null);
    if (found === null) throw new CallError(`there is no file '${path}'`);
    if (!found.isFile()) throw new CallError(`'${path}' is no file`);
  }
  const isOnnx = /\.onnx$/i.test(path);
  const source: ByteInput = isOnnx ? await programOf(path, sizes) : path;
  const file = await SafetensorsFile.open(source);
  try {
    const header = headerOf(file);
    const tensors = new Map<string, StoredTensor>();
    for (const [name, { dtype, shape, byteLength }] of file.tensors) {
      tensors.set(name, { dtype, shape, bytes: byteLength });
    }
    return {
      path,
      format: isOnnx ? 'onnx' : 'tengen',
      source,
      header,
      tensors,
      read: (names) => readTensors(source, names),
    };
  } finally {
    await file.close();
  }
}

async function readTensors(
  source: ByteInput,
  names: readonly string[],
): Promise<Map<string, TypedHostArray>> {
  const file = await SafetensorsFile.open(source);
  try {
    const values = new Map<string, TypedHostArray>();
    for (const name of names) {
      values.set(name, await tensorIn(file, name));
    }
    return values;
  } finally {
    await file.close();
  }
}

/** What ONNX calls a type that the framework computes as another. */
const NARROWED: Readonly<Record<string, DType>> = {
  int64: 'int32',
  uint64: 'uint32',
  uint16: 'int32',
};

/** Imports an ONNX file and writes it as a program, in memory. */
async function programOf(
  path: string,
  sizes: ReadonlyMap<string, string>,
): Promise<Uint8Array<ArrayBufferLike>> {
  const [onnx, { dump }, { zeros }, { noGrad }] = await Promise.all([
    import('../onnx/index.ts'),
    import('../program/dump.ts'),
    import('../tensor/index.ts'),
    import('../transform/index.ts'),
  ]);
  const model = await onnx.load(path);
  const given: Record<string, ReturnType<typeof zeros>> = {};
  for (const { name, type, shape } of model.inputs) {
    const dtype = NARROWED[type ?? ''] ?? type;
    if (shape === null || !isDType(dtype)) {
      throw new FormatError(`input '${name}' of ${path} is no tensor of known rank and type`);
    }
    const numbers = shape.map((size, axis) => {
      if (typeof size === 'number') return size;
      return openSize(size ?? `${name}.${axis}`, sizes);
    });
    given[name] = zeros(numbers, { dtype });
  }
  const report = await dump(
    model.name === '' ? 'model' : model.name,
    (inputs) => noGrad(() => model.forward(inputs as typeof given)),
    null,
    {
      inputs: [given],
      module: model,
      testCases: [],
      numerics: [],
      names: { inputs: Object.keys(given), outputs: model.outputs.map(({ name }) => name) },
      metadata: { producer: model.producer, opset: model.opset },
    },
  );
  return report.bytes as Uint8Array;
}

/** 1, unless `--size NAME=N` says another. */
function openSize(name: string, sizes: ReadonlyMap<string, string>): number {
  const size = Number(sizes.get(name) ?? 1);
  if (Number.isSafeInteger(size) && size >= 0) return size;
  throw new CallError(`--size ${name}=${sizes.get(name)} is no whole number`);
}
