// ZIP archives: the fields of 64 bits that large files have, comments, and archives that are refused.
import { describe, expect, it } from 'vitest';
import { FormatError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/interface/io/byte-source.ts';
import { crc32 } from '../../src/interface/io/crc32.ts';
import { ZipArchive } from '../../src/interface/io/zip.ts';
import { collectParts, writeZip } from '../../src/interface/io/zip-writer.ts';

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function archiveOf(
  members: Readonly<Record<string, string>>,
  compress = false,
): Promise<Uint8Array> {
  const list = Object.entries(members).map(([name, value]) => ({
    name,
    content: () => text(value),
  }));
  return collectParts((write) => writeZip(write, 'test', list, { compress, align: 8 }));
}

async function contents(bytes: Uint8Array): Promise<Record<string, string>> {
  const archive = await ZipArchive.open(memorySource(bytes));
  const found: Record<string, string> = {};
  for (const [name, entry] of archive.entries) {
    found[name] = new TextDecoder().decode(await archive.read(entry, { checked: true }));
  }
  return found;
}

/** Where the directory of an archive without a comment begins. */
const directoryOf = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer).getUint32(bytes.length - 6, true);

/** A copy with one field changed. */
function changed(bytes: Uint8Array, at: number, value: number, width: 2 | 4): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  if (width === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
  return copy;
}

/** The same archive of one member, with all sizes and offsets in fields of 64 bits. */
function widened(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  const start = directoryOf(bytes);
  const entry = bytes.slice(start, bytes.length - 22);
  const extra = new DataView(new ArrayBuffer(28));
  extra.setUint16(0, 1, true);
  extra.setUint16(2, 24, true);
  extra.setUint32(4, view.getUint32(start + 24, true), true);
  extra.setUint32(12, view.getUint32(start + 20, true), true);
  extra.setUint32(20, view.getUint32(start + 42, true), true);
  const head = new DataView(entry.buffer);
  for (const at of [20, 24, 42]) head.setUint32(at, 0xffffffff, true);
  head.setUint16(30, 28, true);
  const end = new DataView(new ArrayBuffer(56 + 20 + 22));
  const directorySize = entry.length + 28;
  end.setUint32(0, 0x06064b50, true);
  end.setUint32(4, 44, true);
  end.setUint32(24, 1, true);
  end.setUint32(32, 1, true);
  end.setUint32(40, directorySize, true);
  end.setUint32(48, start, true);
  end.setUint32(56, 0x07064b50, true);
  end.setUint32(64, start + directorySize, true);
  end.setUint32(72, 1, true);
  end.setUint32(76, 0x06054b50, true);
  end.setUint16(84, 0xffff, true);
  end.setUint16(86, 0xffff, true);
  end.setUint32(88, 0xffffffff, true);
  end.setUint32(92, 0xffffffff, true);
  const parts = [
    bytes.slice(0, start),
    entry,
    new Uint8Array(extra.buffer),
    new Uint8Array(end.buffer),
  ];
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

describe('ZIP archives', () => {
  it('crc32 of a known text', () => {
    expect(crc32(text('123456789'))).toBe(0xcbf43926);
  });

  it.each([false, true])('round trip, compress: %s', async (compress) => {
    const members = { 'a/b.txt': 'hello', empty: '', long: 'x'.repeat(100_000), ü: 'ö' };
    const bytes = await archiveOf(members, compress);
    expect(await contents(bytes)).toEqual(members);
    if (compress) expect(bytes.length).toBeLessThan(2000);
  });

  it('sizes and offsets of 64 bits', async () => {
    const wide = widened(await archiveOf({ name: 'content' }));
    expect(await contents(wide)).toEqual({ name: 'content' });
    // The offset of the directory's end, in the locator.
    const broken = changed(wide, wide.length - 22 - 20 + 8, 3, 4);
    await expect(contents(broken)).rejects.toThrow('the large directory is not found');
  });

  it('a comment behind the directory', async () => {
    const bytes = await archiveOf({ name: 'content' });
    const comment = text('PK\x05\x06 and more');
    const commented = Uint8Array.from([
      ...changed(bytes, bytes.length - 2, comment.length, 2),
      ...comment,
    ]);
    expect(await contents(commented)).toEqual({ name: 'content' });
  });

  it('a part of a member', async () => {
    for (const compress of [false, true]) {
      const archive = await ZipArchive.open(
        memorySource(await archiveOf({ m: '0123456789' }, compress)),
      );
      const part = await archive.readRange(archive.entries.get('m')!, 3, 4);
      expect(new TextDecoder().decode(part)).toBe('3456');
    }
  });

  it('is refused with the reason', async () => {
    const bytes = await archiveOf({ one: 'content', oxx: 'content' });
    const packed = await archiveOf({ one: 'content'.repeat(20) }, true);
    const start = directoryOf(bytes);
    const cases: readonly (readonly [Uint8Array, string])[] = [
      [bytes.slice(0, -1), 'without a directory'],
      [changed(bytes, start, 5, 4), 'no entry of the directory'],
      [changed(bytes, start + 8, 1, 2), 'is encrypted'],
      [changed(bytes, start + 10, 12, 2), 'by method 12'],
      [changed(bytes, start + 20, 100_000, 4), 'overlaps the directory'],
      [changed(bytes, start + 24, 3, 4), 'cannot expand from 7 to 3'],
      [changed(bytes, start + 49 + 46 + 1, 0x656e, 2), "two members are called 'one'"],
      [changed(bytes, bytes.length - 18, 1, 2), 'in several parts'],
      [changed(bytes, bytes.length - 12, 3, 2), 'in several parts'],
      [changed(bytes, bytes.length - 14, 0x00030003, 4), '3 members in a directory'],
      [changed(bytes, start + 16, 0, 4), 'does not have its checksum'],
      [changed(bytes, 0, 0, 4), 'no member begins here'],
      [changed(packed, directoryOf(packed) + 24, 141, 4), 'expands to 140 of its 141 bytes'],
      [changed(packed, directoryOf(packed) + 24, 139, 4), 'expands to more than its 139'],
      [changed(packed, directoryOf(packed) + 24, 1e9, 4), 'cannot expand from'],
      [changed(packed, 40, 0xffff, 2), 'is not a deflate stream'],
    ];
    for (const [file, reason] of cases) {
      const error = await contents(file).catch((e: unknown) => e);
      expect(error, reason).toBeInstanceOf(FormatError);
      expect((error as FormatError).message).toContain(reason);
    }
  });
});
