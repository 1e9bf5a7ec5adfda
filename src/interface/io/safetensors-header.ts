// The header of a safetensors file: parsed with every check the format asks for, and written.
import type { DType } from '../../base/dtype.ts';
import { FormatError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { JsonScanner } from './json-scanner.ts';

/** Element types a file may hold and Tengen reads. */
export type FileDType = (typeof FILE_DTYPES)[number];

const FILE_DTYPES = [
  'F64',
  'F32',
  'F16',
  'BF16',
  'I64',
  'I32',
  'I16',
  'I8',
  'U64',
  'U32',
  'U16',
  'U8',
  'BOOL',
] as const;

interface FileDTypeInfo {
  readonly bytes: number;
  /** The dtype in memory. */
  readonly dtype: DType;
}

/** 64-bit integers are narrowed with a range check; U16 widens, as no 16-bit unsigned dtype exists. */
export const FILE_DTYPE_INFO: Readonly<Record<FileDType, FileDTypeInfo>> = {
  F64: { bytes: 8, dtype: 'float64' },
  F32: { bytes: 4, dtype: 'float32' },
  F16: { bytes: 2, dtype: 'float16' },
  BF16: { bytes: 2, dtype: 'bfloat16' },
  I64: { bytes: 8, dtype: 'int32' },
  I32: { bytes: 4, dtype: 'int32' },
  I16: { bytes: 2, dtype: 'int16' },
  I8: { bytes: 1, dtype: 'int8' },
  U64: { bytes: 8, dtype: 'uint32' },
  U32: { bytes: 4, dtype: 'uint32' },
  U16: { bytes: 2, dtype: 'int32' },
  U8: { bytes: 1, dtype: 'uint8' },
  BOOL: { bytes: 1, dtype: 'bool' },
};

/** How each dtype is written. */
export const FILE_DTYPE_OF: Readonly<Record<DType, FileDType>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint32: 'U32',
  uint8: 'U8',
  bool: 'BOOL',
};

/** Known to the format and not to Tengen: named, so that the message can say so. */
const UNSUPPORTED = /^(F8_\w+|F6_\w+|F4|C64)$/;

/** The longest header read, as in the format's own reader. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 64;
const BRACE = 0x7b;
export const METADATA_KEY = '__metadata__';

/** One tensor of a file: what it is and where its bytes lie. */
export interface TensorEntry {
  readonly name: string;
  /** Element type in the file. */
  readonly fileDType: FileDType;
  /** Element type after reading. */
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A parsed header. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

function isFileDType(name: string): name is FileDType {
  return Object.hasOwn(FILE_DTYPE_INFO, name);
}

/**
 * Length of the JSON header, from the first 9 bytes (fewer if there are no more) of a file of
 * `fileSize` bytes.
 *
 * @throws FormatError if it cannot be true, naming the kind of file if it is a known other one.
 */
export function readHeaderLength(prefix: Uint8Array, fileSize: number): number {
  const kind = prefix[8] === BRACE ? undefined : recognize(prefix);
  if (kind !== undefined) {
    throw new FormatError(`this is ${kind}, not a safetensors file`, { offset: 0 });
  }
  if (prefix.byteLength < 8) {
    throw new FormatError(`a safetensors file has at least 8 bytes, this has ${fileSize}`, {
      offset: prefix.byteLength,
    });
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES) {
    throw new FormatError(`header of ${length} bytes, more than ${MAX_HEADER_BYTES}`, {
      offset: 0,
      hint: 'is this a safetensors file?',
    });
  }
  if (length > fileSize - 8) {
    throw new FormatError(`header of ${length} bytes in a file of ${fileSize}`, { offset: 0 });
  }
  return length;
}

/** Other kinds of file people hand over by mistake, by their first bytes. */
function recognize(prefix: Uint8Array): string | undefined {
  const [a, b, c, d] = prefix;
  if (a === 0x50 && b === 0x4b && c === 0x03 && d === 0x04) {
    return 'a zip archive (PyTorch .pt, NumPy .npz)';
  }
  if (a === 0x1f && b === 0x8b) return 'a gzip file';
  if (a === 0x89 && b === 0x48 && c === 0x44 && d === 0x46) return 'an HDF5 file (Keras)';
  if (a === 0x47 && b === 0x47 && c === 0x55 && d === 0x46) return 'a GGUF file';
  if (a === 0x93 && b === 0x4e && c === 0x55 && d === 0x4d) return 'a NumPy .npy file';
  if (a === 0x80 && b !== undefined && b >= 2 && b <= 5) return 'a Python pickle';
  return undefined;
}

/**
 * Parses and checks the JSON header (`bytes`, which follow the 8 bytes of its length) of a file of
 * `fileSize` bytes: shape of the JSON, dtypes, sizes, and that the tensors tile the data exactly.
 */
export function parseHeader(bytes: Uint8Array, fileSize: number): SafetensorsHeader {
  const scanner = new JsonScanner(bytes, 8);
  const dataStart = 8 + bytes.byteLength;
  if (bytes[0] !== BRACE) scanner.fail("the header must start with '{'", 8);
  const tensors = new Map<string, TensorEntry>();
  const metadata = new Map<string, string>();
  const places: { entry: TensorEntry; offset: number }[] = [];
  scanner.object('of the header', (name, offset) => {
    if (name === METADATA_KEY) {
      scanner.object('of the metadata', (key) => {
        metadata.set(key, scanner.string('as metadata'));
      });
      return;
    }
    const entry = parseEntry(scanner, name, offset, dataStart, fileSize);
    tensors.set(name, entry);
    places.push({ entry, offset });
  });
  scanner.expectEnd();
  checkTiling(places, dataStart, fileSize);
  return { tensors, metadata };
}

function parseEntry(
  scanner: JsonScanner,
  name: string,
  offset: number,
  dataStart: number,
  fileSize: number,
): TensorEntry {
  const label = JSON.stringify(name.slice(0, 200));
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let range: number[] | undefined;
  scanner.object(`of tensor ${label}`, (key, keyOffset) => {
    if (key === 'dtype') dtype = scanner.string(`as dtype of ${label}`);
    else if (key === 'shape') shape = scanner.integers(`in the shape of ${label}`, MAX_RANK);
    else if (key === 'data_offsets') range = scanner.integers(`in data_offsets of ${label}`, 2);
    else scanner.fail(`unknown key ${JSON.stringify(key.slice(0, 100))} in ${label}`, keyOffset);
  });
  if (dtype === undefined || shape === undefined || range === undefined) {
    scanner.fail(`tensor ${label} needs dtype, shape and data_offsets`, offset);
  }
  if (!isFileDType(dtype)) {
    const reason = UNSUPPORTED.test(dtype) ? `is ${dtype}, which is not supported` : undefined;
    const shown = JSON.stringify(dtype.slice(0, 40));
    scanner.fail(`tensor ${label} ${reason ?? `has the unknown dtype ${shown}`}`, offset);
  }
  const info = FILE_DTYPE_INFO[dtype];
  const [begin, end] = range;
  if (begin === undefined || end === undefined) {
    scanner.fail(`data_offsets of ${label} needs two numbers`, offset);
  }
  if (begin > end || end > fileSize - dataStart) {
    scanner.fail(
      `tensor ${label} lies at [${begin}, ${end}) of ${fileSize - dataStart} bytes of data`,
      offset,
    );
  }
  let byteLength = info.bytes;
  for (const size of shape) {
    byteLength *= size;
    if (byteLength > Number.MAX_SAFE_INTEGER) {
      scanner.fail(`the size of ${label}, ${formatShape(shape)}, overflows`, offset);
    }
  }
  if (byteLength !== end - begin) {
    scanner.fail(
      `tensor ${label} ${dtype}${formatShape(shape)} takes ${byteLength} bytes, its range has ${end - begin}`,
      offset,
    );
  }
  return {
    name,
    fileDType: dtype,
    dtype: info.dtype,
    shape,
    byteOffset: dataStart + begin,
    byteLength,
  };
}

/** Tensors must cover the data without overlap, hole or rest: nothing can hide in a file. */
function checkTiling(
  places: { entry: TensorEntry; offset: number }[],
  dataStart: number,
  fileSize: number,
): void {
  places.sort(
    ({ entry: a }, { entry: b }) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength,
  );
  let expected = dataStart;
  for (const { entry, offset } of places) {
    if (entry.byteOffset !== expected) {
      const fault = entry.byteOffset < expected ? 'overlaps the tensor before it' : 'leaves a hole';
      throw new FormatError(
        `tensor ${JSON.stringify(entry.name.slice(0, 200))} ${fault} (starts at byte ${entry.byteOffset}, not ${expected})`,
        { offset },
      );
    }
    expected += entry.byteLength;
  }
  if (expected !== fileSize) {
    throw new FormatError(`${fileSize - expected} bytes belong to no tensor`, { offset: expected });
  }
}

/** A tensor to be written. */
export interface HeaderTensor {
  readonly name: string;
  readonly fileDType: FileDType;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** The order of tensors in a file: wide elements first, so that all are aligned; then by name. */
export function compareForFile(a: HeaderTensor, b: HeaderTensor): number {
  const byWidth = FILE_DTYPE_INFO[b.fileDType].bytes - FILE_DTYPE_INFO[a.fileDType].bytes;
  if (byWidth !== 0) return byWidth;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/**
 * The length and the JSON for `tensors`, which must be in file order. Padded with spaces so that the
 * data begins at a multiple of 8.
 */
export function formatHeader(
  tensors: readonly HeaderTensor[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  const members: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1));
    const inner = pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.push(`${JSON.stringify(METADATA_KEY)}:{${inner.join(',')}}`);
  }
  let begin = 0;
  for (const { name, fileDType, shape, byteLength } of tensors) {
    const end = begin + byteLength;
    members.push(
      `${JSON.stringify(name)}:{"dtype":"${fileDType}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`,
    );
    begin = end;
  }
  const json = new TextEncoder().encode(`{${members.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  if (length > MAX_HEADER_BYTES) {
    throw new FormatError(`a header of ${length} bytes exceeds ${MAX_HEADER_BYTES}`, {
      hint: 'fewer tensors, shorter names or less metadata',
    });
  }
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}
