// Writes ZIP archives: members stored, at aligned offsets, or deflated.
import { ArgumentError } from '../../base/errors.ts';
import type { WritePart } from './atomic-file.ts';
import { crc32 } from './crc32.ts';
import { deflate } from './deflate.ts';
import { END_SIGNATURE, ENTRY_SIGNATURE, LOCAL_SIGNATURE } from './zip.ts';

/** A member whose content is asked for when its turn comes. */
export interface ZipMember {
  readonly name: string;
  readonly content: () => Uint8Array | Promise<Uint8Array>;
}

export interface ZipOptions {
  /** Whether members are deflated; default false. */
  readonly compress?: boolean;
  /** Stored content begins at multiples of this; default 1. */
  readonly align?: number;
}

/** Larger archives need fields of 64 bits, which some readers of the files made here do not know. */
const LIMIT = 0xffffffff;
const MAX_MEMBERS = 0xfffe;
const LOCAL_SIZE = 30;
/** 1980-01-01, the first day of the format: the same content gives the same bytes. */
const DATE = 0x0021;
/** Names are UTF-8. */
const FLAGS = 0x0800;
/** Tag of an extra field that readers skip, as used for padding by PyTorch. */
const PADDING_TAG = 0x4246;

interface Fields {
  readonly name: Uint8Array;
  readonly method: number;
  readonly checksum: number;
  readonly packedSize: number;
  readonly size: number;
}

/** The fields that both headers of a member share, from `version needed` to the length of the name. */
function writeFields(view: DataView, at: number, fields: Fields): void {
  view.setUint16(at, 20, true);
  view.setUint16(at + 2, FLAGS, true);
  view.setUint16(at + 4, fields.method, true);
  view.setUint16(at + 8, DATE, true);
  view.setUint32(at + 10, fields.checksum, true);
  view.setUint32(at + 14, fields.packedSize, true);
  view.setUint32(at + 18, fields.size, true);
  view.setUint16(at + 22, fields.name.byteLength, true);
}

function localHeader(fields: Fields, offset: number, align: number): Uint8Array {
  const plain = LOCAL_SIZE + fields.name.byteLength;
  let padding = -(offset + plain) % align;
  if (padding !== 0) {
    padding += align;
    // An extra field has a head of 4 bytes.
    while (padding < 4) padding += align;
  }
  const header = new Uint8Array(plain + padding);
  const view = new DataView(header.buffer);
  view.setUint32(0, LOCAL_SIGNATURE, true);
  writeFields(view, 4, fields);
  view.setUint16(28, padding, true);
  header.set(fields.name, LOCAL_SIZE);
  if (padding > 0) {
    view.setUint16(plain, PADDING_TAG, true);
    view.setUint16(plain + 2, padding - 4, true);
  }
  return header;
}

function entryHeader(fields: Fields, offset: number): Uint8Array {
  const header = new Uint8Array(46 + fields.name.byteLength);
  const view = new DataView(header.buffer);
  view.setUint32(0, ENTRY_SIGNATURE, true);
  view.setUint16(4, 20, true);
  writeFields(view, 6, fields);
  view.setUint32(42, offset, true);
  header.set(fields.name, 46);
  return header;
}

/**
 * Writes an archive of `members`, holding one at a time.
 *
 * @throws ArgumentError for two members of a name, and beyond 4 GiB.
 */
export async function writeZip(
  write: WritePart,
  op: string,
  members: Iterable<ZipMember>,
  options: ZipOptions = {},
): Promise<void> {
  const { compress = false, align = 1 } = options;
  const entries: Uint8Array[] = [];
  const names = new Set<string>();
  let offset = 0;
  const emit = async (bytes: Uint8Array): Promise<void> => {
    await write(bytes);
    offset += bytes.byteLength;
    if (offset <= LIMIT) return;
    throw new ArgumentError('the file would be larger than 4 GiB', {
      op,
      hint: 'save() writes safetensors files of any size',
    });
  };
  for (const { name, content } of members) {
    if (names.has(name)) throw new ArgumentError(`two arrays are called '${name}'`, { op });
    names.add(name);
    const bytes = await content();
    const packed = compress ? await deflate(bytes) : bytes;
    const fields: Fields = {
      name: new TextEncoder().encode(name),
      method: compress ? 8 : 0,
      checksum: crc32(bytes),
      packedSize: packed.byteLength,
      size: bytes.byteLength,
    };
    if (fields.name.byteLength > 0xffff || names.size > MAX_MEMBERS) {
      throw new ArgumentError('too many names, or too long ones, for a ZIP archive', { op });
    }
    entries.push(entryHeader(fields, offset));
    await emit(localHeader(fields, offset, align));
    await emit(packed);
  }
  const directoryOffset = offset;
  for (const entry of entries) await emit(entry);
  const end = new Uint8Array(22);
  const view = new DataView(end.buffer);
  view.setUint32(0, END_SIGNATURE, true);
  view.setUint16(8, entries.length, true);
  view.setUint16(10, entries.length, true);
  view.setUint32(12, offset - directoryOffset, true);
  view.setUint32(16, directoryOffset, true);
  await emit(end);
}

/** The parts of `produce` as one array. */
export async function collectParts(
  produce: (write: WritePart) => Promise<void>,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await produce(async (bytes) => void parts.push(bytes));
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let position = 0;
  for (const part of parts) {
    result.set(part, position);
    position += part.byteLength;
  }
  return result;
}
