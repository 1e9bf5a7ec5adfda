// Reads numbers, strings and pieces from bytes in order; bytes that are only the start of a file grow
// when a parser asks for more than are there.
import { FormatError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';

/** Where the bytes of a {@link Cursor} lie. */
export interface CursorPlace {
  /** Offset in the file of the first byte; `undefined` where it says nothing (compressed data). */
  readonly base?: number | undefined;
  /** Bytes there are, if `bytes` is only their start. */
  readonly total?: number;
}

/** Thrown by a {@link Cursor} over the start of a file that needs bytes it has not got yet. */
class MoreBytes extends Error {
  override name = 'MoreBytes';
  readonly wanted: number;
  constructor(wanted: number) {
    super('internal: more bytes are wanted');
    this.wanted = wanted;
  }
}

/** A little-endian reader. Every complaint is a FormatError with the byte offset. */
export class Cursor {
  position = 0;
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly base: number | undefined;
  private readonly total: number;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array, place: CursorPlace = { base: 0 }) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.base = place.base;
    this.total = place.total ?? bytes.byteLength;
  }

  /** Bytes from here to the end of the file. */
  get rest(): number {
    return this.total - this.position;
  }

  fail(reason: string, position = this.position, hint?: string): never {
    throw new FormatError(reason, {
      ...(this.base === undefined ? {} : { offset: this.base + position }),
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** Steps over `length` bytes and gives the position they start at. */
  private step(length: number, what: string): number {
    const start = this.position;
    if (length > this.rest) this.fail(`${what} of ${length} bytes, ${this.rest} are left`);
    if (start + length > this.bytes.byteLength) throw new MoreBytes(start + length);
    this.position = start + length;
    return start;
  }

  /** A view of the next bytes. */
  take(length: number, what: string): Uint8Array {
    const start = this.step(length, what);
    return this.bytes.subarray(start, start + length);
  }

  u8(what = 'a number'): number {
    return this.view.getUint8(this.step(1, what));
  }

  u16(what = 'a number'): number {
    return this.view.getUint16(this.step(2, what), true);
  }

  i32(what = 'a number'): number {
    return this.view.getInt32(this.step(4, what), true);
  }

  u32(what = 'a number'): number {
    return this.view.getUint32(this.step(4, what), true);
  }

  f32(what = 'a number'): number {
    return this.view.getFloat32(this.step(4, what), true);
  }

  f64(what = 'a number', littleEndian = true): number {
    return this.view.getFloat64(this.step(8, what), littleEndian);
  }

  i64(what = 'a number'): bigint {
    return this.view.getBigInt64(this.step(8, what), true);
  }

  /** 64 bits that a JS number must hold exactly: a length or an offset. */
  u64(what = 'a number'): number {
    const start = this.step(8, what);
    const value = this.view.getUint32(start, true) + this.view.getUint32(start + 4, true) * 2 ** 32;
    if (value > Number.MAX_SAFE_INTEGER) this.fail(`${what} of ${value}`, start);
    return value;
  }

  /** The next bytes as UTF-8. */
  text(length: number, what: string): string {
    const start = this.position;
    return this.decode(this.take(length, what), what, start);
  }

  /** Bytes up to the next line feed, which is stepped over, as UTF-8. */
  line(what: string, limit: number): string {
    const start = this.position;
    const end = this.bytes.subarray(start, start + limit + 1).indexOf(0x0a);
    if (end < 0) {
      if (this.rest > limit && this.bytes.byteLength - start > limit) {
        this.fail(`${what} is longer than ${limit} bytes`);
      }
      // There is no end among the bytes here: all of them, or all that a line may have, are wanted.
      if (this.bytes.byteLength < this.total) {
        throw new MoreBytes(Math.min(this.total, start + limit + 1));
      }
      this.fail(`${what} does not end`);
    }
    const text = this.decode(this.bytes.subarray(start, start + end), what, start);
    this.position = start + end + 1;
    return text;
  }

  private decode(bytes: Uint8Array, what: string, start: number): string {
    try {
      return this.decoder.decode(bytes);
    } catch {
      return this.fail(`${what} is not UTF-8`, start);
    }
  }
}

/** What is read at first: more than the header of most files. */
const FIRST_PIECE = 1 << 16;

/**
 * Runs `parse` over the start of a file, with more of it as long as that is wanted. It may be called
 * several times.
 *
 * @throws FormatError where it asks for more than `limit` bytes.
 */
export async function parseStart<T>(
  source: ByteSource,
  limit: number,
  parse: (cursor: Cursor) => T,
): Promise<T> {
  const { size } = source;
  let length = Math.min(size, FIRST_PIECE);
  for (;;) {
    const bytes = await source.read(0, length);
    try {
      return parse(new Cursor(bytes, { base: 0, total: size }));
    } catch (error) {
      if (!(error instanceof MoreBytes)) throw error;
      if (error.wanted > limit) {
        throw new FormatError(`the header is larger than ${limit} bytes`, { offset: length });
      }
      // At least doubled, so that all tries together cost about twice the last.
      length = Math.min(size, limit, Math.max(error.wanted, 2 * length));
    }
  }
}
