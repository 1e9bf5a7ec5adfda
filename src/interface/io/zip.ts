// ZIP archives, read by ranges: the directory at the end, members stored or deflated, sizes of 64 bits.
import { FormatError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { crc32 } from './crc32.ts';
import { Cursor } from './cursor.ts';
import { MAX_EXPANSION, inflate } from './deflate.ts';

/** One member of an archive. */
export interface ZipEntry {
  readonly name: string;
  /** Whether its bytes lie in the archive as they are. */
  readonly isStored: boolean;
  /** Bytes in the archive. */
  readonly packedSize: number;
  readonly size: number;
  readonly checksum: number;
  /** Where its own header lies in the file. */
  readonly headerOffset: number;
}

export const END_SIGNATURE = 0x06054b50;
export const END64_SIGNATURE = 0x06064b50;
export const LOCATOR64_SIGNATURE = 0x07064b50;
export const ENTRY_SIGNATURE = 0x02014b50;
export const LOCAL_SIGNATURE = 0x04034b50;
/** Tag of the extra field with sizes of 64 bits. */
export const EXTRA64 = 1;

const END_SIZE = 22;
const LOCATOR_SIZE = 20;
const MAX_COMMENT = 0xffff;
const MAX_DIRECTORY = 1 << 26;
/** Stands in a field of 16 or 32 bits for a value that is elsewhere. */
const ELSEWHERE16 = 0xffff;
const ELSEWHERE32 = 0xffffffff;

interface Directory {
  readonly offset: number;
  readonly size: number;
  readonly count: number;
}

/** An open archive. Closing the source is the business of whoever opened it. */
export class ZipArchive {
  /** Members by name, in the order of the directory. */
  readonly entries: ReadonlyMap<string, ZipEntry>;
  private readonly source: ByteSource;

  private constructor(source: ByteSource, entries: ReadonlyMap<string, ZipEntry>) {
    this.source = source;
    this.entries = entries;
  }

  /** Reads the directory. Throws FormatError unless the file is an undamaged archive in one piece. */
  static async open(source: ByteSource): Promise<ZipArchive> {
    const directory = await findDirectory(source);
    const bytes = await source.read(directory.offset, directory.size);
    const cursor: Cursor = new Cursor(bytes, { base: directory.offset });
    const entries = new Map<string, ZipEntry>();
    let packed = 0;
    for (let i = 0; i < directory.count; i++) {
      const start = cursor.position;
      const entry = readEntry(cursor, directory.offset);
      if (entries.has(entry.name)) {
        cursor.fail(`two members are called '${entry.name.slice(0, 200)}'`, start);
      }
      packed += entry.packedSize;
      entries.set(entry.name, entry);
    }
    if (cursor.rest > 0) cursor.fail(`${cursor.rest} bytes behind the last entry`);
    // Members that share bytes make a small archive expand without bound.
    if (packed > source.size) cursor.fail('members of the archive overlap', 0);
    return new ZipArchive(source, entries);
  }

  /** Where the bytes of a member begin in the file. */
  async dataOffset(entry: ZipEntry): Promise<number> {
    const { headerOffset, packedSize } = entry;
    const header: Cursor = new Cursor(await this.source.read(headerOffset, 30), {
      base: headerOffset,
    });
    if (header.u32() !== LOCAL_SIGNATURE) header.fail(`no member begins here`, 0);
    header.position = 26;
    const offset = headerOffset + 30 + header.u16() + header.u16();
    if (offset + packedSize > this.source.size) {
      header.fail(`${nameOf(entry)} goes beyond the end of the file`, 0);
    }
    return offset;
  }

  /**
   * The content of a member. `checked` compares it with its checksum.
   *
   * @throws FormatError if it is damaged.
   */
  async read(entry: ZipEntry, options: { readonly checked?: boolean } = {}): Promise<Uint8Array> {
    const bytes = await this.readRange(entry, 0, entry.size);
    if (options.checked === true && crc32(bytes) !== entry.checksum) {
      throw new FormatError(`${nameOf(entry)} does not have its checksum`, {
        offset: entry.headerOffset,
      });
    }
    return bytes;
  }

  /** A part of a member: what comes before it is expanded too if the member is compressed. */
  async readRange(entry: ZipEntry, start: number, length: number): Promise<Uint8Array> {
    const offset = await this.dataOffset(entry);
    if (entry.isStored) return this.source.read(offset + start, length);
    const packed = await this.source.read(offset, entry.packedSize);
    const bytes = await inflate(packed, entry.size, nameOf(entry), start + length);
    return bytes.subarray(start, start + length);
  }
}

function nameOf(entry: ZipEntry): string {
  return `the member '${entry.name.slice(0, 200)}'`;
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const { size } = source;
  const tailSize = Math.min(size, END_SIZE + MAX_COMMENT);
  const tailStart = size - tailSize;
  const tail = await source.read(tailStart, tailSize);
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength);
  for (let at = tailSize - END_SIZE; at >= 0; at--) {
    if (view.getUint32(at, true) !== END_SIGNATURE) continue;
    if (at + END_SIZE + view.getUint16(at + 20, true) !== tailSize) continue;
    return readEnd(source, new Cursor(tail.subarray(at), { base: tailStart + at }));
  }
  throw new FormatError('a ZIP archive without a directory', {
    offset: size,
    hint: 'is the file complete?',
  });
}

async function readEnd(source: ByteSource, cursor: Cursor): Promise<Directory> {
  const endOffset = source.size - cursor.bytes.byteLength;
  cursor.position = 4;
  const disks = cursor.u32();
  const counts = [cursor.u16(), cursor.u16()] as const;
  let count: number = counts[1];
  let size = cursor.u32();
  let offset = cursor.u32();
  let end = endOffset;
  if (count === ELSEWHERE16 || size === ELSEWHERE32 || offset === ELSEWHERE32) {
    ({ count, size, offset, end } = await readEnd64(source, endOffset));
  } else if (disks !== 0 || counts[0] !== count) {
    cursor.fail('an archive in several parts', 4);
  }
  if (offset + size > end) cursor.fail(`a directory of ${size} bytes at ${offset}`, 12);
  if (size > MAX_DIRECTORY) cursor.fail(`a directory of ${size} bytes`, 12);
  if (count * 46 > size) cursor.fail(`${count} members in a directory of ${size} bytes`, 10);
  return { offset, size, count };
}

async function readEnd64(
  source: ByteSource,
  endOffset: number,
): Promise<Directory & { readonly end: number }> {
  const at = endOffset - LOCATOR_SIZE;
  if (at < 0) throw new FormatError('the large directory is not found', { offset: endOffset });
  const locator: Cursor = new Cursor(await source.read(at, LOCATOR_SIZE), { base: at });
  if (locator.u32() !== LOCATOR64_SIGNATURE) locator.fail('the large directory is not found', 0);
  if (locator.u32() !== 0) locator.fail('an archive in several parts', 4);
  const end = locator.u64('an offset');
  if (end + 56 > at) locator.fail(`the end of the large directory at ${end}`, 8);
  const record: Cursor = new Cursor(await source.read(end, 56), { base: end });
  if (record.u32() !== END64_SIGNATURE) record.fail('the large directory is not found', 0);
  record.position = 32;
  const count = record.u64('a number of members');
  return { count, size: record.u64('a size'), offset: record.u64('an offset'), end };
}

function readEntry(cursor: Cursor, limit: number): ZipEntry {
  const start = cursor.position;
  if (cursor.u32('an entry') !== ENTRY_SIGNATURE) {
    cursor.fail('no entry of the directory begins here', start);
  }
  cursor.position = start + 8;
  const flags = cursor.u16();
  const method = cursor.u16();
  cursor.position = start + 16;
  const checksum = cursor.u32();
  let packedSize = cursor.u32();
  let size = cursor.u32();
  const lengths = [cursor.u16(), cursor.u16(), cursor.u16()] as const;
  cursor.position = start + 42;
  let headerOffset = cursor.u32();
  const name = cursor.text(lengths[0], 'a name');
  const extra: Cursor = new Cursor(cursor.take(lengths[1], 'an extra field'), { base: undefined });
  cursor.take(lengths[2], 'a comment');
  const shown = `the member '${name.slice(0, 200)}'`;
  if (
    [size, packedSize, headerOffset].includes(ELSEWHERE32) &&
    findExtra64(extra) // positions the cursor at the values that are elsewhere, in this order
  ) {
    if (size === ELSEWHERE32) size = extra.u64('a size');
    if (packedSize === ELSEWHERE32) packedSize = extra.u64('a size');
    if (headerOffset === ELSEWHERE32) headerOffset = extra.u64('an offset');
  }
  if ((flags & 1) !== 0) cursor.fail(`${shown} is encrypted`, start);
  if (method !== 0 && method !== 8) {
    cursor.fail(`${shown} is compressed by method ${method}`, start, 'stored and deflate are read');
  }
  const isStored = method === 0;
  if (headerOffset + 30 + packedSize > limit) cursor.fail(`${shown} overlaps the directory`, start);
  if (isStored ? size !== packedSize : size > packedSize * MAX_EXPANSION) {
    cursor.fail(`${shown} cannot expand from ${packedSize} to ${size} bytes`, start);
  }
  return { name, isStored, packedSize, size, checksum, headerOffset };
}

/** Moves to the extra field with sizes of 64 bits, if there is one. */
function findExtra64(extra: Cursor): boolean {
  while (extra.rest >= 4) {
    const tag = extra.u16();
    const length = extra.u16();
    if (tag === EXTRA64) return true;
    if (length > extra.rest) return false;
    extra.position += length;
  }
  return false;
}
