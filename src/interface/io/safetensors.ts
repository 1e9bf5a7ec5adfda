// safetensors files: read from memory or by ranges of a file, and written deterministically.
import type { TypedArray } from '../../base/dtype.ts';
import { checkKeys, describeValue } from '../../base/checks.ts';
import { ArgumentError, DisposedError, ShapeError } from '../../base/errors.ts';
import { writeFileAtomically } from './atomic-file.ts';
import { type ByteInput, type ByteSource, openSource } from './byte-source.ts';
import { decodeElements, requireLittleEndian } from './elements.ts';
import { withFileName } from '../../base/file-errors.ts';
import { type HostArray, type TypedHostArray, bytesOf, typedHostArray } from './host-array.ts';
import {
  FILE_DTYPE_OF,
  type HeaderTensor,
  METADATA_KEY,
  type SafetensorsHeader,
  type TensorEntry,
  compareForFile,
  formatHeader,
  parseHeader,
  readHeaderLength,
} from './safetensors-header.ts';

/** Tensors by name: a Map, or a plain record. */
export type NamedArrays = ReadonlyMap<string, HostArray> | Readonly<Record<string, HostArray>>;

/** What a whole file holds. */
export interface Safetensors {
  readonly tensors: Map<string, TypedHostArray>;
  readonly metadata: Map<string, string>;
}

/** Options of the writers. */
export interface SafetensorsWriteOptions {
  /** Text that goes with the tensors. */
  readonly metadata?: ReadonlyMap<string, string> | Readonly<Record<string, string>>;
}

/**
 * Parses a safetensors file in memory. Arrays are views of `bytes` where their alignment allows it
 * (always, in files written here), so keep the bytes unchanged while they are in use.
 *
 * I64 is narrowed to int32 and U64 to uint32 with a range check; U16 widens to int32.
 *
 * @throws FormatError for anything that is not exactly a safetensors file, with the byte offset.
 */
export function parseSafetensors(bytes: Uint8Array | ArrayBuffer): Safetensors {
  requireLittleEndian();
  const view = bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes);
  const length = readHeaderLength(view.subarray(0, 9), view.byteLength);
  const header = parseHeader(view.subarray(8, 8 + length), view.byteLength);
  const tensors = new Map<string, TypedHostArray>();
  for (const entry of header.tensors.values()) {
    const start = entry.byteOffset;
    tensors.set(entry.name, decodeTensor(entry, view.subarray(start, start + entry.byteLength)));
  }
  return { tensors, metadata: new Map(header.metadata) };
}

/** An open safetensors file: the header is read, tensors are fetched one by one. */
export class SafetensorsFile {
  private readonly source: ByteSource;
  private readonly header: SafetensorsHeader;
  private closed = false;

  private constructor(source: ByteSource, header: SafetensorsHeader) {
    this.source = source;
    this.header = header;
  }

  /**
   * Reads and checks the header; the data stays where it is.
   *
   * @example no-run: needs a file
   * const file = await SafetensorsFile.open('model.safetensors');
   * const weight = await file.read('conv1.weight');
   * await file.close();
   */
  static async open(input: ByteInput): Promise<SafetensorsFile> {
    requireLittleEndian();
    const source = await openSource(input);
    try {
      const prefix = await source.read(0, Math.min(9, source.size));
      const length = readHeaderLength(prefix, source.size);
      const header = parseHeader(await source.read(8, length), source.size);
      return new SafetensorsFile(source, header);
    } catch (error) {
      await source.close();
      throw withFileName(error, source.label);
    }
  }

  /** What the file holds, by name. */
  get tensors(): ReadonlyMap<string, TensorEntry> {
    return this.header.tensors;
  }

  /** Text stored with the tensors. */
  get metadata(): ReadonlyMap<string, string> {
    return this.header.metadata;
  }

  /** Path or address, for messages. */
  get label(): string {
    return this.source.label;
  }

  /**
   * Reads one tensor.
   *
   * @throws ArgumentError if there is none of that name.
   * @throws DisposedError after `close()`.
   */
  async read(name: string): Promise<TypedHostArray> {
    const entry = this.entryOf(name);
    try {
      return decodeTensor(entry, await this.source.read(entry.byteOffset, entry.byteLength));
    } catch (error) {
      throw withFileName(error, this.label);
    }
  }

  /**
   * Whether a tensor's bytes are not in memory yet, and are in the file what they are there: `readInto`
   * saves a copy then.
   */
  canReadInto(name: string): boolean {
    const { dtype, fileDType } = this.entryOf(name);
    return this.source.readInto !== undefined && FILE_DTYPE_OF[dtype] === fileDType;
  }

  /** Reads one tensor into memory of its size, if `canReadInto` says so. Throws as `read` does. */
  async readInto(name: string, target: Uint8Array): Promise<void> {
    const entry = this.entryOf(name);
    try {
      await this.source.readInto?.(entry.byteOffset, target);
      // What BOOLs may be is checked.
      decodeTensor(entry, target);
    } catch (error) {
      throw withFileName(error, this.label);
    }
  }

  private entryOf(name: string): TensorEntry {
    if (this.closed) {
      throw new DisposedError(`${this.label} was closed, tensor '${name}' cannot be read`, {
        hint: 'open it again',
      });
    }
    const entry = this.header.tensors.get(name);
    if (entry !== undefined) return entry;
    const names = [...this.header.tensors.keys()];
    const more = names.length > 5 ? `, ... (${names.length} in all)` : '';
    throw new ArgumentError(`${this.label} has no tensor '${name}'`, {
      hint: `it has ${names.slice(0, 5).join(', ')}${more}`,
    });
  }

  /** Reads every tensor. */
  async readAll(): Promise<Map<string, TypedHostArray>> {
    const tensors = new Map<string, TypedHostArray>();
    for (const name of this.header.tensors.keys()) tensors.set(name, await this.read(name));
    return tensors;
  }

  /** Closes the file; may be called twice. */
  async close(): Promise<void> {
    this.closed = true;
    await this.source.close();
  }
}

/** Reads a whole safetensors file from a path, an address, bytes or a Blob. */
export async function readSafetensors(input: ByteInput): Promise<Safetensors> {
  const file = await SafetensorsFile.open(input);
  try {
    return { tensors: await file.readAll(), metadata: new Map(file.metadata) };
  } finally {
    await file.close();
  }
}

function decodeTensor(entry: TensorEntry, bytes: Uint8Array): TypedHostArray {
  const { name, fileDType, dtype, shape, byteOffset } = entry;
  return { data: decodeElements(name, fileDType, bytes, byteOffset), shape, dtype };
}

/** A tensor whose bytes are asked for only when it is written. */
export interface PendingTensor extends HeaderTensor {
  readonly bytes: () => Uint8Array | Promise<Uint8Array>;
}

/** Checks an array and prepares it for writing. */
export function pendingTensor(name: string, array: HostArray): PendingTensor {
  const { data, shape, dtype } = typedHostArray(`safetensors '${name}'`, array);
  return {
    name,
    fileDType: FILE_DTYPE_OF[dtype],
    shape,
    byteLength: data.byteLength,
    bytes: () => bytesOf(data),
  };
}

/** A typed array of any of the eight kinds, as a vector; Uint16Array is written as U16. */
export function pendingTypedArray(name: string, data: TypedArray): PendingTensor {
  if (!(data instanceof Uint16Array)) return pendingTensor(name, { data, shape: [data.length] });
  const { byteLength } = data;
  return {
    name,
    fileDType: 'U16',
    shape: [data.length],
    byteLength,
    bytes: () => bytesOf(data),
  };
}

function sortForFile(tensors: Iterable<PendingTensor>): PendingTensor[] {
  const sorted = [...tensors].sort(compareForFile);
  const names = new Set<string>();
  for (const { name } of sorted) {
    if (name === METADATA_KEY) {
      throw new ArgumentError(`a tensor cannot be called ${METADATA_KEY}: the format reserves it`);
    }
    if (names.has(name)) throw new ArgumentError(`two tensors are called '${name}'`);
    names.add(name);
  }
  return sorted;
}

/** Checks that what a tensor gave is what its header entry promised. */
async function bytesToWrite(tensor: PendingTensor): Promise<Uint8Array> {
  const bytes = await tensor.bytes();
  if (bytes.byteLength !== tensor.byteLength) {
    throw new ShapeError(
      `tensor '${tensor.name}' gave ${bytes.byteLength} bytes instead of ${tensor.byteLength}`,
    );
  }
  return bytes;
}

/** A safetensors file in memory, from tensors whose bytes may come later. */
export async function serializePending(
  tensors: Iterable<PendingTensor>,
  metadata: ReadonlyMap<string, string>,
): Promise<Uint8Array> {
  requireLittleEndian();
  const sorted = sortForFile(tensors);
  const header = formatHeader(sorted, metadata);
  const size = sorted.reduce((sum, tensor) => sum + tensor.byteLength, header.byteLength);
  const file = new Uint8Array(size);
  file.set(header);
  let position = header.byteLength;
  for (const tensor of sorted) {
    file.set(await bytesToWrite(tensor), position);
    position += tensor.byteLength;
  }
  return file;
}

/** Writes a safetensors file atomically, holding one tensor's bytes at a time. */
export async function writePending(
  path: string | URL,
  tensors: Iterable<PendingTensor>,
  metadata: ReadonlyMap<string, string>,
): Promise<void> {
  requireLittleEndian();
  const sorted = sortForFile(tensors);
  const header = formatHeader(sorted, metadata);
  await writeFileAtomically(path, async (write) => {
    await write(header);
    for (const tensor of sorted) await write(await bytesToWrite(tensor));
  });
}

/** The text that goes with tensors. Throws ArgumentError for what the format has no place for. */
export function readMetadata(op: string, options: SafetensorsWriteOptions): Map<string, string> {
  checkKeys(op, options, ['metadata']);
  const entries = entriesOf<unknown>(options.metadata ?? {});
  for (const [name, value] of entries) {
    if (typeof value === 'string') continue;
    throw new ArgumentError(
      `the metadata '${name}' must be a string, got ${describeValue(value)}`,
      {
        op,
        hint: 'JSON.stringify() makes one of anything',
      },
    );
  }
  return new Map(entries as [string, string][]);
}

/** The entries of a Map, or of a record's own keys. */
export function entriesOf<T>(
  values: ReadonlyMap<string, T> | Readonly<Record<string, T>>,
): [string, T][] {
  if (typeof values !== 'object' || values === null) {
    throw new ArgumentError(`expected a Map or a record, got ${describeValue(values)}`);
  }
  return values instanceof Map ? [...values] : Object.entries<T>(values as Record<string, T>);
}

/**
 * A safetensors file in memory. The same tensors and metadata always give the same bytes.
 *
 * @example
 * const bytes = await serializeSafetensors({ bias: { data: new Float32Array(10), shape: [10] } });
 */
export async function serializeSafetensors(
  tensors: NamedArrays,
  options: SafetensorsWriteOptions = {},
): Promise<Uint8Array> {
  const pending = entriesOf(tensors).map(([name, array]) => pendingTensor(name, array));
  return serializePending(pending, readMetadata('serializeSafetensors', options));
}

/** Writes a safetensors file: atomically, so that a failed write leaves the old file alone. */
export async function writeSafetensors(
  path: string | URL,
  tensors: NamedArrays,
  options: SafetensorsWriteOptions = {},
): Promise<void> {
  const pending = entriesOf(tensors).map(([name, array]) => pendingTensor(name, array));
  await writePending(path, pending, readMetadata('writeSafetensors', options));
}
