// Loading weights of any format: the first bytes of a file tell which it is.
import { checkKeys } from '../../base/checks.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { type ByteInput, type ByteSource, openSource } from './byte-source.ts';
import { KIND_KEY } from './checkpoint.ts';
import { withFileName } from '../../base/file-errors.ts';
import { GgufFile, type GgufOptions } from './gguf.ts';
import { type TypedHostArray, ownedArray } from './host-array.ts';
import { NpzFile, readNpy } from './npy.ts';
import { PtFile, type PtOptions } from './pt.ts';
import { SafetensorsFile } from './safetensors.ts';
import { type ShardOptions, ShardedFile } from './sharded.ts';
import { type Tensor, adoptHostArray } from './tensors.ts';
import { type WeightsFile, findTensor } from './weights-file.ts';
import { ZipArchive } from './zip.ts';

/** Options for the formats that have any. */
export interface LoadOptions extends PtOptions, ShardOptions, GgufOptions {}

/** The formats that {@link openWeights} tells apart. */
export type WeightsFormat = 'safetensors' | 'sharded' | 'pt' | 'npy' | 'npz' | 'gguf';

function startsWith(bytes: Uint8Array, ...start: readonly number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte);
}

/** The format of a file, by its first bytes; safetensors, whose reader says more, if it is none. */
async function detect(source: ByteSource): Promise<WeightsFormat> {
  const start = await source.read(0, Math.min(9, source.size));
  // The length of a safetensors header is below 2^32, and may look like any magic.
  if (start[8] === 0x7b && startsWith(start.subarray(4), 0, 0, 0, 0)) return 'safetensors';
  if (startsWith(start, 0x50, 0x4b, 3, 4) || startsWith(start, 0x50, 0x4b, 5, 6)) {
    const { entries } = await ZipArchive.open(source);
    const names = [...entries.keys()];
    return names.some((name) => name.endsWith('/data.pkl')) ? 'pt' : 'npz';
  }
  if (startsWith(start, 0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59)) return 'npy';
  if (startsWith(start, 0x47, 0x47, 0x55, 0x46)) return 'gguf';
  if (start[0] === 0x80 && (start[1] ?? 9) <= 5) return 'pt';
  return start[0] === 0x7b ? 'sharded' : 'safetensors';
}

/** A .npy file as a file of weights: its one array has the name that numpy.savez would give it. */
class NpyFile implements WeightsFile {
  readonly label: string;
  readonly tensors: WeightsFile['tensors'];
  private readonly arrays: ReadonlyMap<string, TypedHostArray>;
  private closed = false;

  constructor(label: string, array: TypedHostArray) {
    const name = 'arr_0';
    this.label = label;
    this.arrays = new Map([[name, array]]);
    this.tensors = new Map([[name, { name, shape: array.shape, dtype: array.dtype }]]);
  }

  async read(name: string): Promise<TypedHostArray> {
    return findTensor(this.label, this.arrays, name, this.closed);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** Throws ArgumentError for an option of another format: it would be ignored. */
function checkOptions(label: string, format: WeightsFormat, options: LoadOptions): void {
  const homes = { key: 'pt', shard: 'sharded', dtype: 'gguf' } as const;
  for (const name of ['key', 'shard', 'dtype'] as const) {
    if (options[name] === undefined || homes[name] === format) continue;
    throw new ArgumentError(`${label} is ${format}, which has no option '${name}'`, { op: 'load' });
  }
}

/**
 * Opens weights of whichever format: safetensors, an index of several such files, PyTorch (.pt, .pth),
 * NumPy (.npy, .npz) and GGUF. Names, dtypes and shapes are there at once, tensors are read one by one.
 *
 * @throws FormatError if the file is damaged, or of no known format.
 * @example
 * const file = await openWeights(await io.serializeNpz({ x: tensor([1, 2]) }));
 * file.tensors.get('x')?.shape; // => [2]
 * await file.close();
 */
export async function openWeights(
  input: ByteInput,
  options: LoadOptions = {},
): Promise<WeightsFile> {
  checkKeys('load', options, ['key', 'shard', 'dtype']);
  const source = await openSource(input);
  let format: WeightsFormat;
  try {
    format = await detect(source);
    checkOptions(source.label, format, options);
  } catch (error) {
    await source.close();
    throw withFileName(error, source.label);
  }
  const { key, dtype, shard } = options;
  switch (format) {
    case 'safetensors':
      return SafetensorsFile.open(source);
    case 'sharded':
      return ShardedFile.fromSource(source, input, shard === undefined ? {} : { shard });
    case 'pt':
      return PtFile.open(source, key === undefined ? {} : { key });
    case 'npy':
      return new NpyFile(source.label, await readNpy(source));
    case 'npz':
      return NpzFile.open(source);
    case 'gguf':
      return GgufFile.open(source, dtype === undefined ? {} : { dtype });
    default:
      format satisfies never;
      throw new FormatError('unknown format');
  }
}

/**
 * Loads all tensors of a file of weights: safetensors or an index of several, PyTorch (.pt, .pth), NumPy
 * (.npy, .npz) or GGUF, told apart by their first bytes. From a path, an address, bytes or a Blob.
 * Nothing in a file is ever executed.
 *
 * @throws FormatError if the file is damaged, or is a checkpoint.
 * @example sketch: the model is the reader's
 * model.loadStateDict(await load('model.safetensors'));
 * model.loadStateDict(await load('resnet50.pth'));
 * model.loadStateDict(await load('checkpoint.pt', { key: 'model' }));
 */
export async function load(
  input: ByteInput,
  options: LoadOptions = {},
): Promise<Map<string, Tensor>> {
  const file = await openWeights(input, options);
  try {
    const kind = file instanceof SafetensorsFile ? file.metadata.get(KIND_KEY) : undefined;
    if (kind !== undefined) {
      throw new FormatError(`${file.label} is a ${kind.slice(0, 40)}, not a plain state dict`, {
        hint: 'use loadCheckpoint(), and take the part you need',
      });
    }
    const tensors = new Map<string, Tensor>();
    for (const name of file.tensors.keys()) {
      tensors.set(name, adoptHostArray(ownedArray(await file.read(name))));
    }
    return tensors;
  } finally {
    await file.close();
  }
}

/** How {@link renameKeys} changes names. */
export interface RenameOptions {
  /** Taken off the front of names that have it: `'module.'` of DataParallel, `'_orig_mod.'` of compile. */
  readonly stripPrefix?: string;
  /** Put in front of every name, after the rest. */
  readonly addPrefix?: string;
  /** Old to new: a text is replaced where it stands as whole parts between dots, a RegExp as it is. */
  readonly replace?: readonly (readonly [from: string | RegExp, to: string])[];
}

/**
 * The same tensors under other names, for state dicts that were saved from inside another module.
 *
 * @throws ArgumentError if two tensors would have one name.
 * @example
 * const state = { 'module.fc.weight': ones([2, 2]), 'module.fc.bias': ones([2]) };
 * const names = renameKeys(state, { stripPrefix: 'module.', replace: [['fc', 'head']] });
 * [...names.keys()]; // => ['head.weight', 'head.bias']
 */
export function renameKeys<T>(
  state: ReadonlyMap<string, T> | Readonly<Record<string, T>>,
  options: RenameOptions,
): Map<string, T> {
  const op = 'renameKeys';
  checkKeys(op, options, ['stripPrefix', 'addPrefix', 'replace']);
  const { stripPrefix = '', addPrefix = '', replace = [] } = options;
  const renamed = new Map<string, T>();
  const entries: Iterable<[string, T]> =
    state instanceof Map ? state : Object.entries(state as Readonly<Record<string, T>>);
  for (const [old, value] of entries) {
    let name = old.startsWith(stripPrefix) ? old.slice(stripPrefix.length) : old;
    for (const [from, to] of replace) {
      name = typeof from === 'string' ? replaceParts(name, from, to) : name.replace(from, to);
    }
    name = addPrefix + name;
    if (renamed.has(name)) {
      throw new ArgumentError(`two tensors would be called '${name}', one was '${old}'`, { op });
    }
    renamed.set(name, value);
  }
  return renamed;
}

/** `from` as whole parts of `name`: 'fc' in 'fc.weight', not in 'fc2.weight'. */
function replaceParts(name: string, from: string, to: string): string {
  const parts = name.split('.');
  const wanted = from.split('.');
  const result: string[] = [];
  for (let i = 0; i < parts.length;) {
    const fits = wanted.every((part, j) => parts[i + j] === part);
    result.push(fits ? to : (parts[i] ?? ''));
    i += fits ? wanted.length : 1;
  }
  return result.join('.');
}
