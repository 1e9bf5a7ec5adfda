// PyTorch files (.pt, .pth): the tensors of a state dict, or everything a file holds as plain data.
import { checkKeys } from '../../base/checks.ts';
import { FormatError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { type ByteInput, type ByteSource, openSource } from './byte-source.ts';
import {
  decodeElements,
  isContiguous,
  packView,
  requireLittleEndian,
  viewExtent,
} from './elements.ts';
import { withFileName } from '../../base/file-errors.ts';
import { type TypedHostArray, ownedArray } from './host-array.ts';
import {
  PickleDict,
  PickleObject,
  PickleSet,
  PickleTuple,
  type PickleValue,
} from './pickle-values.ts';
import { describePickle } from './pickle-values.ts';
import { PtTensor } from './pt-host.ts';
import { type PtContent, readLegacyContent, readZipContent } from './pt-storage.ts';
import { FILE_DTYPE_INFO } from './safetensors-header.ts';
import { type Tensor, adoptHostArray } from './tensors.ts';
import { type WeightInfo, type WeightsFile, findTensor } from './weights-file.ts';

export interface PtOptions {
  /**
   * Where in the file the state dict stands, for checkpoints that hold more: `'model'`, or with dots
   * `'state.model'`. By default the file itself is one.
   */
  readonly key?: string;
}

/** What a PyTorch file may hold: dicts are Maps, lists, tuples and sets are arrays. */
export type PtValue =
  | Tensor
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PtValue[]
  | ReadonlyMap<null | boolean | number | bigint | string, PtValue>;

/** Deeper trees are a mistake (or an attack): nothing real nests like this. */
const MAX_DEPTH = 100;

/** Views that overlap may be this much larger than the file, all together. */
const MAX_OVERLAP = 1 << 26;

/** An open PyTorch file: the names and shapes are read, tensors are fetched one by one. */
export class PtFile implements WeightsFile {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  private readonly source: ByteSource;
  private readonly content: PtContent;
  private readonly places: ReadonlyMap<string, PtTensor>;
  private closed = false;

  private constructor(
    source: ByteSource,
    content: PtContent,
    places: ReadonlyMap<string, PtTensor>,
  ) {
    this.label = source.label;
    this.source = source;
    this.content = content;
    this.places = places;
    const entries = Array.from(places, ([name, { fileDType, shape }]): [string, WeightInfo] => [
      name,
      { name, shape, dtype: FILE_DTYPE_INFO[fileDType].dtype },
    ]);
    this.tensors = new Map(entries);
  }

  /**
   * Opens a state dict: what `torch.save(model.state_dict(), path)` wrote, in the format of today or
   * that of before 1.6. Nothing in the file is executed; what is no plain data is refused by its name.
   *
   * @throws FormatError if the file is damaged, holds other things, or no state dict at `key`.
   * @example no-run: needs a file
   * const file = await PtFile.open('resnet50.pth');
   * const weight = await file.read('conv1.weight');
   * await file.close();
   */
  static async open(input: ByteInput, options: PtOptions = {}): Promise<PtFile> {
    checkKeys('PtFile.open', options, ['key']);
    return withContent(input, async (source, content) => {
      const places = stateDictAt(content.root, options.key);
      let total = 0;
      for (const tensor of places.values()) total += byteLengthOf(tensor);
      checkTotal(total, source.size);
      return new PtFile(source, content, places);
    });
  }

  /**
   * Reads one tensor, row by row however it was stored.
   *
   * @throws ArgumentError if there is none of that name.
   * @throws DisposedError after `close()`.
   */
  async read(name: string): Promise<TypedHostArray> {
    const tensor = findTensor(this.label, this.places, name, this.closed);
    try {
      return await readTensor(tensor, this.content, name);
    } catch (error) {
      throw withFileName(error, this.label);
    }
  }

  /** Closes the file; may be called twice. */
  async close(): Promise<void> {
    this.closed = true;
    await this.source.close();
  }
}

/**
 * Reads everything that a PyTorch file holds: state dicts, optimizer states, numbers and text. Dicts
 * are Maps, lists, tuples and sets are arrays.
 *
 * @throws FormatError if the file is damaged, or holds anything that is no plain data, by its name.
 * @example sketch: the file is the reader's
 * const checkpoint = await readPt('checkpoint.pth');
 * if (checkpoint instanceof Map) model.loadStateDict(checkpoint.get('model'));
 */
export async function readPt(input: ByteInput): Promise<PtValue> {
  return withContent(input, async (source, content) => {
    const reader = new TreeReader(content, source.size);
    const tree = await reader.convert(content.root, 0);
    await source.close();
    return tree;
  });
}

/** Opens a file and runs `use`; if anything fails the file is closed, and the error names it. */
async function withContent<T>(
  input: ByteInput,
  use: (source: ByteSource, content: PtContent) => Promise<T>,
): Promise<T> {
  requireLittleEndian();
  const source = await openSource(input);
  try {
    return await use(source, await readContent(source));
  } catch (error) {
    await source.close();
    throw withFileName(error, source.label);
  }
}

async function readContent(source: ByteSource): Promise<PtContent> {
  const prefix = await source.read(0, Math.min(4, source.size));
  const [a, b, c, d] = prefix;
  if (a === 0x50 && b === 0x4b && c === 3 && d === 4) return readZipContent(source);
  if (a === 0x80) return readLegacyContent(source);
  throw new FormatError('this is not a file of PyTorch', {
    offset: 0,
    hint: 'load() finds out which kind of file it is',
  });
}

/** The dict of tensors at `key`. */
function stateDictAt(root: PickleValue, key: string | undefined): Map<string, PtTensor> {
  let value = root;
  for (const part of key === undefined ? [] : key.split('.')) {
    const next = value instanceof PickleDict ? value.items.get(part) : undefined;
    if (next === undefined) {
      throw new FormatError(`the file has nothing at '${key}'`, { hint: dictHint(root) });
    }
    value = next;
  }
  const what = key === undefined ? 'the file' : `'${key}'`;
  if (!(value instanceof PickleDict)) {
    throw new FormatError(`${what} holds ${describePickle(value)}, not a state dict`, {
      hint: 'readPt() reads whatever it is',
    });
  }
  const tensors = new Map<string, PtTensor>();
  for (const [name, item] of value.items) {
    if (typeof name !== 'string' || !(item instanceof PtTensor)) {
      const where = describePickle(name);
      throw new FormatError(`${what} is no state dict: at ${where} is ${describePickle(item)}`, {
        hint: dictHint(value),
      });
    }
    tensors.set(name, item);
  }
  return tensors;
}

/** Names the members that hold tensors. */
function dictHint(value: PickleValue): string {
  const names: string[] = [];
  if (value instanceof PickleDict) {
    for (const [name, item] of value.items) {
      if (typeof name !== 'string' || !(item instanceof PickleDict)) continue;
      const [first] = item.items.values();
      if (first instanceof PtTensor) names.push(`{ key: '${name.slice(0, 100)}' }`);
    }
  }
  const other = 'readPt() reads everything in the file';
  if (names.length === 0) return other;
  return `pass ${names.slice(0, 5).join(' or ')} to take that part; ${other}`;
}

/** Bytes a tensor takes in memory before integers are narrowed. */
function byteLengthOf({ shape, fileDType }: PtTensor): number {
  return sizeOf(shape) * FILE_DTYPE_INFO[fileDType].bytes;
}

/** Throws FormatError if tensors take much more memory than the file has bytes. */
function checkTotal(total: number, fileSize: number): void {
  if (total <= 8 * fileSize + MAX_OVERLAP) return;
  throw new FormatError(`tensors of ${total} bytes in a file of ${fileSize}: their views overlap`, {
    hint: 'in Python, save tensor.clone() of what was expanded',
  });
}

async function readTensor(
  tensor: PtTensor,
  content: PtContent,
  name: string,
): Promise<TypedHostArray> {
  const { storage, fileDType, shape, strides, offset } = tensor;
  const { bytes: itemSize, dtype } = FILE_DTYPE_INFO[fileDType];
  const length = viewExtent(shape, strides) * itemSize;
  const start = storage.byteOffset + offset * itemSize;
  const bytes =
    length === 0 ? new Uint8Array(0) : await content.bytes.read(storage.key, start, length);
  const packed = isContiguous(shape, strides) ? bytes : packView(bytes, itemSize, shape, strides);
  return { data: decodeElements(name, fileDType, packed), shape, dtype };
}

class TreeReader {
  private readonly content: PtContent;
  private readonly fileSize: number;
  /** What was converted: what stands at two places in the file does so afterwards. */
  private readonly known = new Map<object, PtValue>();
  private readonly open = new Set<object>();
  private total = 0;

  constructor(content: PtContent, fileSize: number) {
    this.content = content;
    this.fileSize = fileSize;
  }

  async convert(value: PickleValue, depth: number): Promise<PtValue> {
    if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
    const known = this.known.get(value);
    if (known !== undefined) return known;
    if (this.open.has(value))
      throw new FormatError('the file holds something that contains itself');
    if (depth > MAX_DEPTH) throw new FormatError(`the file nests deeper than ${MAX_DEPTH}`);
    this.open.add(value);
    const converted = await this.convertObject(value, depth + 1);
    this.open.delete(value);
    this.known.set(value, converted);
    return converted;
  }

  private async convertObject(
    value: Exclude<PickleValue & object, Uint8Array>,
    depth: number,
  ): Promise<PtValue> {
    if (value instanceof PtTensor) {
      this.total += byteLengthOf(value);
      checkTotal(this.total, this.fileSize);
      const array = await readTensor(value, this.content, 'in the file');
      return adoptHostArray(ownedArray(array));
    }
    if (value instanceof PickleDict) {
      const map = new Map<null | boolean | number | bigint | string, PtValue>();
      for (const [key, item] of value.items) map.set(key, await this.convert(item, depth));
      return map;
    }
    if (value instanceof PickleObject) {
      // A dtype, a class or a function, as in a file of settings: its name says all there is.
      return value.kind;
    }
    const items = value instanceof PickleTuple || value instanceof PickleSet ? value.items : value;
    const list: PtValue[] = [];
    for (const item of items) list.push(await this.convert(item, depth));
    return list;
  }
}
