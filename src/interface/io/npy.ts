// NumPy files: one array (.npy), or several by name in a ZIP archive (.npz).
import { checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError, DTypeError, FormatError } from '../../base/errors.ts';
import { type WritePart, checkPath, writeFileAtomically } from './atomic-file.ts';
import { type ByteInput, type ByteSource, openSource } from './byte-source.ts';
import { Cursor, parseStart } from './cursor.ts';
import { decodeElements, packView, requireLittleEndian } from './elements.ts';
import { withFileName } from '../../base/file-errors.ts';
import { type HostArray, type TypedHostArray, bytesOf, typedHostArray } from './host-array.ts';
import { type NpyHeader, formatNpyHeader, npyTypeOf, readNpyHeader } from './npy-header.ts';
import { FILE_DTYPE_INFO } from './safetensors-header.ts';
import { entriesOf } from './safetensors.ts';
import { type Tensor, isTensor, toHostArray } from './tensors.ts';
import { type WeightInfo, type WeightsFile, findTensor } from './weights-file.ts';
import { ZipArchive, type ZipEntry } from './zip.ts';
import { collectParts, writeZip } from './zip-writer.ts';

/** Arrays or tensors by name. */
export type NamedTensors =
  | ReadonlyMap<string, HostArray | Tensor>
  | Readonly<Record<string, HostArray | Tensor>>;

export interface NpzWriteOptions {
  /** Whether the arrays are deflated, as by `numpy.savez_compressed`; default false. */
  readonly compress?: boolean;
}

/** More than a header ever has, so that one read is enough. */
const MAX_START = (1 << 20) + 16;

/**
 * Parses a NumPy array in memory, of version 1 to 3 and either byte and index order. The array is a
 * view of `bytes` where that is possible. int64 is narrowed to int32 and uint64 to uint32 with a range
 * check, uint16 widens to int32.
 *
 * @throws FormatError for anything that is no plain array of numbers.
 * @example
 * const bytes = await serializeNpy({ data: Float32Array.of(1, 2), shape: [2, 1] });
 * parseNpy(bytes).shape; // => [2, 1]
 */
export function parseNpy(bytes: Uint8Array | ArrayBuffer): TypedHostArray {
  requireLittleEndian();
  const cursor: Cursor = new Cursor(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes));
  const header = readNpyHeader(cursor);
  const start = cursor.position;
  checkLength(cursor, header, cursor.rest);
  return decodeArray(header, cursor.bytes.subarray(start), start);
}

/** Reads a NumPy array from a path, an address, bytes or a Blob, as {@link parseNpy} does. */
export async function readNpy(input: ByteInput): Promise<TypedHostArray> {
  requireLittleEndian();
  const source = await openSource(input);
  try {
    const { header, start } = await readStart(source);
    return decodeArray(header, await source.read(start, source.size - start), start);
  } catch (error) {
    throw withFileName(error, source.label);
  } finally {
    await source.close();
  }
}

/** The header, and where the data begins. */
async function readStart(source: ByteSource): Promise<{ header: NpyHeader; start: number }> {
  return parseStart(source, MAX_START, (cursor) => {
    const header = readNpyHeader(cursor);
    checkLength(cursor, header, cursor.rest);
    return { header, start: cursor.position };
  });
}

/** Throws FormatError unless exactly the bytes of the array follow. */
function checkLength(cursor: Cursor, header: NpyHeader, length: number): void {
  const { fileDType, shape } = header;
  let expected = FILE_DTYPE_INFO[fileDType].bytes;
  for (const size of shape) expected *= size;
  if (shape.includes(0)) expected = 0;
  if (expected === length) return;
  cursor.fail(`an array of [${shape.join(',')}] has ${expected} bytes, ${length} follow`);
}

function decodeArray(header: NpyHeader, bytes: Uint8Array, offset: number): TypedHostArray {
  const { fileDType, shape, isBigEndian, isFortran } = header;
  const { bytes: itemSize, dtype } = FILE_DTYPE_INFO[fileDType];
  let packed = bytes;
  if (isFortran && shape.length > 1) {
    const strides: number[] = [];
    let stride = 1;
    for (const size of shape) {
      strides.push(stride);
      stride *= size;
    }
    packed = packView(bytes, itemSize, shape, strides);
  }
  const ordered = isBigEndian ? swapBytes(packed, itemSize) : packed;
  return { data: decodeElements('the array', fileDType, ordered, offset), shape, dtype };
}

function swapBytes(bytes: Uint8Array, itemSize: number): Uint8Array {
  const swapped = bytes.slice();
  for (let start = 0; start < swapped.length; start += itemSize) {
    swapped.subarray(start, start + itemSize).reverse();
  }
  return swapped;
}

/** The array behind a tensor, or the array itself, and its type code. */
async function arrayAndType(
  op: string,
  value: HostArray | Tensor,
): Promise<{ array: TypedHostArray; type: string }> {
  if (!isTensor(value) && (typeof value !== 'object' || value === null || !('data' in value))) {
    throw new ArgumentError(`expected a tensor or an array, got ${describeValue(value)}`, { op });
  }
  const array = typedHostArray(op, isTensor(value) ? await toHostArray(value) : value);
  const type = npyTypeOf(array.dtype);
  if (type !== undefined) return { array, type };
  throw new DTypeError('NumPy has no bfloat16', {
    op,
    hint: 'x.float(), or save() as safetensors',
  });
}

async function partsOf(op: string, value: HostArray | Tensor): Promise<[Uint8Array, Uint8Array]> {
  requireLittleEndian();
  const { array, type } = await arrayAndType(op, value);
  return [formatNpyHeader(op, type, array.shape), bytesOf(array.data)];
}

/**
 * A .npy file in memory.
 *
 * @throws DTypeError for bfloat16, which NumPy does not have.
 * @example
 * const bytes = await serializeNpy(tensor([[1, 2], [3, 4]]));
 * Array.from(parseNpy(bytes).data); // => [1, 2, 3, 4]
 */
export async function serializeNpy(array: HostArray | Tensor): Promise<Uint8Array> {
  const parts = await partsOf('serializeNpy', array);
  return collectParts(async (write) => {
    for (const part of parts) await write(part);
  });
}

/** Writes a .npy file, atomically. */
export async function writeNpy(path: string | URL, array: HostArray | Tensor): Promise<void> {
  checkPath(path, 'writeNpy(path, array)');
  const parts = await partsOf('writeNpy', array);
  await writeFileAtomically(path, async (write) => {
    for (const part of parts) await write(part);
  });
}

/** An open .npz file: headers are read, arrays are fetched one by one. */
export class NpzFile implements WeightsFile {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  private readonly source: ByteSource;
  private readonly archive: ZipArchive;
  private closed = false;

  private constructor(
    source: ByteSource,
    archive: ZipArchive,
    tensors: ReadonlyMap<string, WeightInfo>,
  ) {
    this.label = source.label;
    this.source = source;
    this.archive = archive;
    this.tensors = tensors;
  }

  /**
   * Opens an archive of arrays and reads their headers.
   *
   * @throws FormatError if it is damaged, or one of its members is no plain array of numbers.
   */
  static async open(input: ByteInput): Promise<NpzFile> {
    requireLittleEndian();
    const source = await openSource(input);
    try {
      const archive = await ZipArchive.open(source);
      const tensors = new Map<string, WeightInfo>();
      for (const entry of archive.entries.values()) {
        const name = entry.name.replace(/\.npy$/, '');
        if (name === entry.name) {
          throw new FormatError(`'${name.slice(0, 200)}' in the archive is no .npy file`);
        }
        const { shape, fileDType } = await memberHeader(archive, entry);
        tensors.set(name, { name, shape, dtype: FILE_DTYPE_INFO[fileDType].dtype });
      }
      return new NpzFile(source, archive, tensors);
    } catch (error) {
      await source.close();
      throw withFileName(error, source.label);
    }
  }

  /** Reads one array and checks its checksum. */
  async read(name: string): Promise<TypedHostArray> {
    findTensor(this.label, this.tensors, name, this.closed);
    try {
      const entry = this.archive.entries.get(`${name}.npy`) as ZipEntry;
      return parseNpy(await this.archive.read(entry, { checked: true }));
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

async function memberHeader(archive: ZipArchive, entry: ZipEntry): Promise<NpyHeader> {
  const member: ByteSource = {
    label: entry.name,
    size: entry.size,
    read: (start, length) => archive.readRange(entry, start, length),
    close: async () => undefined,
  };
  return (await readStart(member)).header;
}

/** Reads all arrays of a .npz file, by name. */
export async function readNpz(input: ByteInput): Promise<Map<string, TypedHostArray>> {
  const file = await NpzFile.open(input);
  try {
    const arrays = new Map<string, TypedHostArray>();
    for (const name of file.tensors.keys()) arrays.set(name, await file.read(name));
    return arrays;
  } finally {
    await file.close();
  }
}

async function writeMembers(
  write: WritePart,
  op: string,
  arrays: NamedTensors,
  options: NpzWriteOptions,
): Promise<void> {
  checkKeys(op, options, ['compress']);
  const members = entriesOf<HostArray | Tensor>(arrays).map(([name, value]) => ({
    name: `${name}.npy`,
    content: async () => {
      const parts = await partsOf(op, value);
      return collectParts(async (take) => {
        for (const part of parts) await take(part);
      });
    },
  }));
  // NumPy maps arrays into memory at multiples of 64.
  await writeZip(write, op, members, { compress: options.compress === true, align: 64 });
}

/**
 * A .npz file in memory, as `numpy.savez` writes it.
 *
 * @throws ArgumentError beyond 4 GiB.
 * @example
 * const bytes = await serializeNpz({ x: tensor([1, 2]), y: tensor([3]) }, { compress: true });
 * [...(await readNpz(bytes)).keys()]; // => ['x', 'y']
 */
export async function serializeNpz(
  arrays: NamedTensors,
  options: NpzWriteOptions = {},
): Promise<Uint8Array> {
  return collectParts((write) => writeMembers(write, 'serializeNpz', arrays, options));
}

/** Writes a .npz file, atomically. */
export async function writeNpz(
  path: string | URL,
  arrays: NamedTensors,
  options: NpzWriteOptions = {},
): Promise<void> {
  checkPath(path, 'writeNpz(path, arrays)');
  await writeFileAtomically(path, (write) => writeMembers(write, 'writeNpz', arrays, options));
}
