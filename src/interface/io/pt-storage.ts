// Where PyTorch files keep the bytes of storages: members of a ZIP archive, or (before PyTorch 1.6) one
// after the other behind the pickles.
import { FormatError } from '../../base/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { Cursor, parseStart } from './cursor.ts';
import { readPickle } from './pickle.ts';
import { PickleDict, type PickleValue, describePickle } from './pickle-values.ts';
import { PtHost } from './pt-host.ts';
import { FILE_DTYPE_INFO } from './safetensors-header.ts';
import { ZipArchive, type ZipEntry } from './zip.ts';

/** Pickles hold names and shapes; the largest models have some megabytes of them. */
const MAX_PICKLE = 1 << 27;

/** The bytes of a file's storages, by ranges. */
export interface PtBytes {
  /** `length` bytes of storage `key` from `offset`. */
  read(key: string, offset: number, length: number): Promise<Uint8Array>;
}

/** What a file holds: the object that was saved, and the bytes that its tensors are views of. */
export interface PtContent {
  readonly root: PickleValue;
  readonly bytes: PtBytes;
}

/** Reads the object of a file of PyTorch 1.6 or later. */
export async function readZipContent(source: ByteSource): Promise<PtContent> {
  const archive = await ZipArchive.open(source);
  const prefix = prefixOf(archive);
  const member = (name: string): ZipEntry | undefined => archive.entries.get(prefix + name);
  await checkByteOrder(archive, member('byteorder'));
  const entry = member('data.pkl') as ZipEntry;
  if (entry.size > MAX_PICKLE) throw new FormatError(`data.pkl has ${entry.size} bytes`);
  const pickle = await archive.read(entry);
  const base = entry.isStored ? await archive.dataOffset(entry) : undefined;
  const host = new PtHost((key) => member(`data/${key}`)?.size);
  const root = readPickle(new Cursor(pickle, { base }), host);
  return { root, bytes: zipBytes(archive, (key) => member(`data/${key}`)) };
}

/** The folder that everything in an archive lies in. */
function prefixOf(archive: ZipArchive): string {
  const names = [...archive.entries.keys()];
  const found = names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (found.length === 1) {
    const prefix = (found[0] ?? '').slice(0, -'data.pkl'.length);
    if (archive.entries.has(`${prefix}constants.pkl`)) {
      throw new FormatError('this is a TorchScript program, not a file of weights', {
        hint: 'in Python: torch.save(module.state_dict(), path)',
      });
    }
    return prefix;
  }
  const shown = names.slice(0, 3).join(', ');
  throw new FormatError(
    `a ZIP archive without the data.pkl of PyTorch (it has ${shown || 'nothing'})`,
  );
}

async function checkByteOrder(archive: ZipArchive, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return;
  const order = entry.size > 16 ? '?' : new TextDecoder().decode(await archive.read(entry));
  if (order !== 'little') throw new FormatError(`numbers of byte order '${order}' are not read`);
}

function zipBytes(archive: ZipArchive, find: (key: string) => ZipEntry | undefined): PtBytes {
  /** The storage that was expanded last: the next tensor is often another view of it. */
  let expanded: { readonly key: string; readonly bytes: Uint8Array } | undefined;
  return {
    read: async (key, offset, length) => {
      const entry = find(key);
      if (entry === undefined) throw new FormatError(`storage '${key}' is missing`);
      if (entry.isStored) {
        return archive.readRange(entry, offset, length);
      }
      if (expanded?.key !== key) expanded = { key, bytes: await archive.read(entry) };
      return expanded.bytes.subarray(offset, offset + length);
    },
  };
}

/** First number of the old format. */
const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001;

interface LegacyStart {
  readonly root: PickleValue;
  readonly host: PtHost;
  /** Storages in the order of their bytes. */
  readonly keys: readonly string[];
  /** Where the first of them begins. */
  readonly end: number;
}

function parseLegacy(cursor: Cursor): LegacyStart {
  const host = new PtHost();
  const magic = readPickle(cursor, host);
  if (magic !== MAGIC) {
    cursor.fail('this is a pickle, but not a file of PyTorch', 0, host.hint);
  }
  const protocol = readPickle(cursor, host);
  if (protocol !== PROTOCOL) cursor.fail(`version ${describePickle(protocol)} is unknown`);
  const system = readPickle(cursor, host);
  const little = system instanceof PickleDict ? system.items.get('little_endian') : undefined;
  if (little !== true) cursor.fail('numbers of another byte order are not read');
  const root = readPickle(cursor, host);
  const keys = readPickle(cursor, host);
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string')) {
    return cursor.fail(`the list of storages is ${describePickle(keys)}`);
  }
  return { root, host, keys, end: cursor.position };
}

/** Reads the object of a file that PyTorch wrote before 1.6, or with the old format asked for. */
export async function readLegacyContent(source: ByteSource): Promise<PtContent> {
  const start = await parseStart(source, MAX_PICKLE, parseLegacy);
  const places = new Map<string, number>();
  let position = start.end;
  for (const key of start.keys) {
    const storage = start.host.storages.get(key);
    const element = storage?.element?.fileDType;
    if (storage === undefined || places.has(key)) {
      throw new FormatError(`storage '${key.slice(0, 100)}' is listed and not used, or twice`, {
        offset: position,
      });
    }
    const itemSize = element === undefined ? 1 : FILE_DTYPE_INFO[element].bytes;
    const head: Cursor = new Cursor(await source.read(position, 8), { base: position });
    const count = head.u64('a number of elements');
    if (count * itemSize !== storage.byteLength) {
      head.fail(`a storage of ${count} elements, ${storage.byteLength / itemSize} expected`, 0);
    }
    places.set(key, position + 8);
    position += 8 + storage.byteLength;
    if (position > source.size) head.fail('a storage goes beyond the end of the file', 8);
  }
  for (const key of start.host.storages.keys()) {
    if (!places.has(key)) throw new FormatError(`storage '${key.slice(0, 100)}' is missing`);
  }
  if (position !== source.size) {
    throw new FormatError(`${source.size - position} bytes behind the last storage`, {
      offset: position,
    });
  }
  const bytes: PtBytes = {
    read: async (key, offset, length) => source.read((places.get(key) ?? 0) + offset, length),
  };
  return { root: start.root, bytes };
}
