// IDX, the format of MNIST: a big-endian array with a short header, often gzipped.
import type { DType, TypedArray } from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { TypedHostArray } from '../io/host-array.ts';

interface IdxType {
  readonly dtype: DType;
  readonly bytes: number;
}

/** The element types of the format, by their code. */
const IDX_TYPES: Readonly<Record<number, IdxType>> = {
  0x08: { dtype: 'uint8', bytes: 1 },
  0x09: { dtype: 'int8', bytes: 1 },
  0x0b: { dtype: 'int16', bytes: 2 },
  0x0c: { dtype: 'int32', bytes: 4 },
  0x0d: { dtype: 'float32', bytes: 4 },
  0x0e: { dtype: 'float64', bytes: 8 },
};

interface IdxHeader {
  readonly type: IdxType;
  readonly shape: number[];
  /** Bytes of the header. */
  readonly length: number;
  /** Bytes of the whole file. */
  readonly fileLength: number;
}

/** Deflate cannot do better than this, so a header that promises more is lying. */
const MAX_COMPRESSION = 1032;

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** Reads the header, or gives `undefined` if `bytes` ends inside it. Throws if it is not one. */
function readHeader(bytes: Uint8Array): IdxHeader | undefined {
  const [zero, zero2, code, rank] = bytes;
  if ((zero ?? 0) !== 0 || (zero2 ?? 0) !== 0) {
    throw new FormatError('an IDX file starts with two zero bytes', { offset: zero === 0 ? 1 : 0 });
  }
  if (code === undefined || rank === undefined) return undefined;
  const type = IDX_TYPES[code];
  if (type === undefined) {
    throw new FormatError(`unknown IDX element type 0x${code.toString(16).padStart(2, '0')}`, {
      offset: 2,
    });
  }
  if (rank === 0) throw new FormatError('an IDX array needs at least one axis', { offset: 3 });
  const length = 4 + 4 * rank;
  if (bytes.byteLength < length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const shape: number[] = [];
  let size = type.bytes;
  for (let axis = 0; axis < rank; axis++) {
    const offset = 4 + 4 * axis;
    shape.push(view.getUint32(offset));
    size *= shape[axis] as number;
    if (size > Number.MAX_SAFE_INTEGER) {
      throw new FormatError(`the size of the IDX array overflows at axis ${axis}`, { offset });
    }
  }
  return { type, shape, length, fileLength: length + size };
}

function truncated(header: IdxHeader | undefined, available: number): FormatError {
  if (header === undefined) {
    return new FormatError('the IDX file ends inside its header', { offset: available });
  }
  return new FormatError(
    `truncated IDX file: ${formatShape(header.shape)} ${header.type.dtype} takes ${header.fileLength} bytes, there are ${available}`,
    { offset: available },
  );
}

function oversized(header: IdxHeader): FormatError {
  return new FormatError(
    `the IDX file goes on after its data, which ends at byte ${header.fileLength}`,
    { offset: header.fileLength },
  );
}

/**
 * Parses an IDX file that is not compressed. 8-bit arrays are views of `bytes`.
 *
 * @throws FormatError with the byte offset if the file is not IDX, too short or too long.
 */
export function parseIdx(bytes: Uint8Array): TypedHostArray {
  checkBytes('parseIdx', bytes);
  if (isGzip(bytes)) {
    throw new FormatError('this file is gzipped', { offset: 0, hint: 'use readIdx()' });
  }
  const header = readHeader(bytes);
  if (header === undefined || bytes.byteLength < header.fileLength) {
    throw truncated(header, bytes.byteLength);
  }
  if (bytes.byteLength > header.fileLength) throw oversized(header);
  return {
    data: decode(bytes.subarray(header.length), header.type.dtype),
    shape: header.shape,
    dtype: header.type.dtype,
  };
}

/**
 * Parses an IDX file, gzipped or not. Decompression stops as soon as more comes out than the header
 * promises, so that a small file cannot fill the memory.
 *
 * @throws FormatError with the byte offset (of the decompressed file) if anything is wrong.
 */
export async function readIdx(bytes: Uint8Array): Promise<TypedHostArray> {
  checkBytes('readIdx', bytes);
  return isGzip(bytes) ? parseIdx(await gunzipIdx(bytes)) : parseIdx(bytes);
}

function checkBytes(op: string, bytes: Uint8Array): void {
  if (bytes instanceof Uint8Array) return;
  throw new ArgumentError(`expected the bytes of the file, got ${describeValue(bytes)}`, {
    op,
    hint: 'in Node: await readFile(path)',
  });
}

/** Feeds the decompressor piece by piece, at its own pace. */
function pieces(bytes: Uint8Array): ReadableStream<BufferSource> {
  const PIECE = 1 << 16;
  let position = 0;
  return new ReadableStream<BufferSource>({
    pull: (controller) => {
      if (position >= bytes.byteLength) {
        controller.close();
        return;
      }
      controller.enqueue(bytes.slice(position, position + PIECE));
      position += PIECE;
    },
  });
}

async function gunzipIdx(bytes: Uint8Array): Promise<Uint8Array> {
  const reader = pieces(bytes).pipeThrough(new DecompressionStream('gzip')).getReader();
  let output: Uint8Array = new Uint8Array(0);
  let length = 0;
  let header: IdxHeader | undefined;
  try {
    for (;;) {
      const { done, value } = await readChunk(reader, length);
      if (done) break;
      output = append(output, length, value, header?.fileLength);
      length += value.byteLength;
      header ??= readHeader(output.subarray(0, length));
      if (header === undefined) continue;
      if (length > header.fileLength) throw oversized(header);
      if (header.fileLength > MAX_COMPRESSION * bytes.byteLength + 1024) {
        throw truncated(header, length);
      }
    }
  } catch (error) {
    // Cancelling also stops the decompressor; that it was broken is what is being reported.
    await reader.cancel().catch(() => undefined);
    throw error;
  }
  if (header === undefined || length < header.fileLength) throw truncated(header, length);
  return output.subarray(0, length);
}

async function readChunk(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  offset: number,
): Promise<{ done: true; value: undefined } | { done: false; value: Uint8Array }> {
  try {
    const { done, value } = await reader.read();
    return done ? { done, value: undefined } : { done, value };
  } catch (cause) {
    throw new FormatError('the gzip data is damaged or cut off', { offset, cause });
  }
}

/** The buffer with a chunk added; it grows by doubling, at most to the promised size. */
function append(
  buffer: Uint8Array,
  used: number,
  chunk: Uint8Array,
  limit: number | undefined,
): Uint8Array {
  const needed = used + chunk.byteLength;
  let result = buffer;
  if (needed > buffer.byteLength) {
    const capacity = Math.max(needed, Math.min(2 * buffer.byteLength, limit ?? Infinity));
    result = new Uint8Array(capacity);
    result.set(buffer.subarray(0, used));
  }
  result.set(chunk, used);
  return result;
}

/** The elements of `bytes`, turned to the machine's byte order. */
function decode(bytes: Uint8Array, dtype: DType): TypedArray {
  const { buffer, byteOffset, byteLength } = bytes;
  const view = new DataView(buffer, byteOffset, byteLength);
  switch (dtype) {
    case 'uint8':
      return bytes;
    case 'int8':
      return new Int8Array(buffer, byteOffset, byteLength);
    case 'int16':
      return Int16Array.from({ length: byteLength / 2 }, (_, i) => view.getInt16(2 * i));
    case 'int32':
      return Int32Array.from({ length: byteLength / 4 }, (_, i) => view.getInt32(4 * i));
    case 'float32':
      return Float32Array.from({ length: byteLength / 4 }, (_, i) => view.getFloat32(4 * i));
    case 'float64':
      return Float64Array.from({ length: byteLength / 8 }, (_, i) => view.getFloat64(8 * i));
    default:
      throw new FormatError(`IDX has no ${dtype}`, { offset: 2 });
  }
}
