// The wire format of protocol buffers, as far as ONNX uses it: varints, fixed 32 and 64 bits, and bytes.
import { FormatError } from '../../base/errors.ts';

/** How the value behind a key is stored. Groups (3, 4) were given up before ONNX began. */
export const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** The number in front of each field: its number in the message and how it is stored. */
export interface FieldKey {
  readonly field: number;
  readonly wire: number;
}

// fatal: bytes that are no UTF-8 are a broken file, not replacement characters.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf8Encoder = new TextEncoder();

/** Reads one message; `base` is where its bytes stand in the file, for messages of errors. */
export class WireReader {
  readonly bytes: Uint8Array;
  readonly base: number;
  readonly #view: DataView;
  /** The next byte to be read. */
  position = 0;
  /** The upper 32 bits of the varint that was read last. */
  #high = 0;

  constructor(bytes: Uint8Array, base = 0) {
    // A Buffer of Node is a Uint8Array whose slice() is no copy.
    const { buffer, byteOffset, byteLength } = bytes;
    this.bytes = new Uint8Array(buffer, byteOffset, byteLength);
    this.base = base;
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  get done(): boolean {
    return this.position >= this.bytes.length;
  }

  /** A FormatError about the current place, or another one in the same message. */
  fail(reason: string, position = this.position): FormatError {
    return new FormatError(reason, { offset: this.base + position });
  }

  #need(count: number, what: string): number {
    const start = this.position;
    if (count > this.bytes.length - start) {
      throw this.fail(`${what} of ${count} bytes, but ${this.bytes.length - start} are left`);
    }
    this.position = start + count;
    return start;
  }

  /** A varint of up to 64 bits: gives the lower 32, keeps the upper ones. */
  #varint(): number {
    let low = 0;
    let high = 0;
    const start = this.position;
    for (let index = 0; index < 10; index++) {
      const byte = this.bytes[start + index];
      if (byte === undefined) throw this.fail('the message ends within a number');
      const bits = byte & 0x7f;
      if (index < 4) low |= bits << (7 * index);
      else if (index === 4) {
        low |= bits << 28;
        high |= bits >>> 4;
      } else high |= bits << (7 * index - 32);
      if (byte < 0x80) {
        if (index === 9 && byte > 1) throw this.fail('a number of more than 64 bits', start);
        this.position = start + index + 1;
        this.#high = high >>> 0;
        return low >>> 0;
      }
    }
    throw this.fail('a number of more than ten bytes', start);
  }

  /** Field number and wire type of the next field. */
  key(): FieldKey {
    const start = this.position;
    const key = this.#varint();
    const field = key >>> 3;
    if (this.#high !== 0 || field === 0) throw this.fail('a field without a valid number', start);
    return { field, wire: key & 7 };
  }

  /** int32 and enums: the lower half counts, as negative ones are written in ten bytes. */
  int32(): number {
    return this.#varint() | 0;
  }

  int64(): bigint {
    const low = this.#varint();
    return BigInt.asIntN(64, (BigInt(this.#high) << 32n) | BigInt(low));
  }

  uint64(): bigint {
    const low = this.#varint();
    return (BigInt(this.#high) << 32n) | BigInt(low);
  }

  /** An int64 that has to be a number JavaScript holds exactly: sizes, versions. */
  safeInteger(): number {
    const start = this.position;
    const low = this.#varint();
    const value = (this.#high | 0) * 2 ** 32 + low;
    if (!Number.isSafeInteger(value)) throw this.fail(`${value} is out of range`, start);
    return value;
  }

  float(): number {
    return this.#view.getFloat32(this.#need(4, 'a float'), true);
  }

  double(): number {
    return this.#view.getFloat64(this.#need(8, 'a double'), true);
  }

  /** The bytes of a length-delimited field: a view, not a copy. */
  view(): Uint8Array {
    const start = this.position;
    const length = this.#varint();
    if (this.#high !== 0) throw this.fail('a length of more than 32 bits', start);
    const from = this.#need(length, 'a field');
    return this.bytes.subarray(from, from + length);
  }

  /** A reader of the bytes of a length-delimited field. */
  inner(): WireReader {
    const view = this.view();
    return new WireReader(view, this.base + this.position - view.length);
  }

  text(): string {
    const start = this.position;
    const view = this.view();
    try {
      return utf8.decode(view);
    } catch {
      throw this.fail('text that is not UTF-8', start);
    }
  }

  /** Steps over a field of a kind that is not known. */
  skip(wire: number): void {
    if (wire === WIRE.varint) this.#varint();
    else if (wire === WIRE.fixed64) this.#need(8, 'a number');
    else if (wire === WIRE.bytes) this.view();
    else if (wire === WIRE.fixed32) this.#need(4, 'a number');
    else throw this.fail(`a field of wire type ${wire}, which ONNX does not use`);
  }

  /** How many varints the rest holds: each has one byte below 128. */
  countVarints(): number {
    let count = 0;
    for (let at = this.position; at < this.bytes.length; at++) {
      if ((this.bytes[at] ?? 0) < 0x80) count++;
    }
    return count;
  }
}

/** What a message may hold at most: the limit of every implementation of protocol buffers. */
const MAX_BYTES = 2 ** 31 - 1;

/**
 * Writes one message. Large pieces are kept as they are and joined once at the end, so a weight is
 * copied once however deep it lies.
 */
export class WireWriter {
  readonly #pieces: Uint8Array[] = [];
  #buffer = new Uint8Array(64);
  #used = 0;
  #flushed = 0;

  /** Bytes written so far. */
  get length(): number {
    return this.#flushed + this.#used;
  }

  #reserve(count: number): void {
    if (this.#used + count <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(this.#used + count, 2 * this.#buffer.length));
    grown.set(this.#buffer.subarray(0, this.#used));
    this.#buffer = grown;
  }

  #flush(): void {
    if (this.#used === 0) return;
    this.#pieces.push(this.#buffer.subarray(0, this.#used));
    this.#flushed += this.#used;
    this.#buffer = new Uint8Array(64);
    this.#used = 0;
  }

  #varint(value: number): void {
    this.#reserve(5);
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.#buffer[this.#used++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#buffer[this.#used++] = rest;
  }

  key(field: number, wire: number): void {
    this.#varint((field << 3) | wire);
  }

  int64(value: bigint): void {
    let rest = BigInt.asUintN(64, value);
    this.#reserve(10);
    while (rest >= 0x80n) {
      this.#buffer[this.#used++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#buffer[this.#used++] = Number(rest);
  }

  int32(value: number): void {
    if (value >= 0) this.#varint(value);
    else this.int64(BigInt(value));
  }

  float(value: number): void {
    this.#reserve(4);
    new DataView(this.#buffer.buffer).setFloat32(this.#used, value, true);
    this.#used += 4;
  }

  double(value: number): void {
    this.#reserve(8);
    new DataView(this.#buffer.buffer).setFloat64(this.#used, value, true);
    this.#used += 8;
  }

  /** A length and bytes, which are not copied yet. */
  view(bytes: Uint8Array): void {
    this.#varint(bytes.length);
    if (bytes.length < 4096) {
      this.#reserve(bytes.length);
      this.#buffer.set(bytes, this.#used);
      this.#used += bytes.length;
      return;
    }
    this.#flush();
    this.#pieces.push(bytes);
    this.#flushed += bytes.length;
  }

  text(value: string): void {
    this.view(utf8Encoder.encode(value));
  }

  /** A length and the bytes of another writer, which is not used any more. */
  inner(writer: WireWriter): void {
    this.#varint(writer.length);
    if (writer.#pieces.length === 0) {
      this.#reserve(writer.#used);
      this.#buffer.set(writer.#buffer.subarray(0, writer.#used), this.#used);
      this.#used += writer.#used;
      return;
    }
    this.#flush();
    writer.#flush();
    for (const piece of writer.#pieces) this.#pieces.push(piece);
    this.#flushed += writer.#flushed;
  }

  /** All bytes, in memory of their own. */
  finish(): Uint8Array {
    if (this.length > MAX_BYTES) {
      throw new FormatError(`a message of ${this.length} bytes, ${MAX_BYTES} are allowed`, {
        hint: 'store the weights as external data',
      });
    }
    this.#flush();
    const result = new Uint8Array(this.#flushed);
    let at = 0;
    for (const piece of this.#pieces) {
      result.set(piece, at);
      at += piece.length;
    }
    return result;
  }
}
