// Weights in several safetensors files: an index (model.safetensors.index.json) says which is where.
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { type ByteInput, type ByteSource, hasFiles, openSource } from './byte-source.ts';
import { withFileName } from '../../base/file-errors.ts';
import type { TypedHostArray } from './host-array.ts';
import { SafetensorsFile } from './safetensors.ts';
import { type WeightInfo, type WeightsFile, findTensor } from './weights-file.ts';

export interface ShardOptions {
  /**
   * Gives the file that the index calls `name`. Needed where the index itself is bytes or a Blob; a
   * path or an address has its files beside it.
   */
  readonly shard?: (name: string) => ByteInput | Promise<ByteInput>;
}

/** Names of a hundred thousand tensors take some megabytes. */
const MAX_INDEX = 1 << 26;
const MAX_SHARDS = 10_000;

/** Which file holds each tensor. Throws FormatError unless it is an index. */
function parseIndex(bytes: Uint8Array): Map<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as unknown;
  } catch (cause) {
    throw new FormatError('the index is not JSON', { cause });
  }
  const map: unknown =
    typeof parsed === 'object' && parsed !== null && 'weight_map' in parsed
      ? parsed.weight_map
      : undefined;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new FormatError('JSON without the weight_map of an index of safetensors files');
  }
  const files = new Map<string, string>();
  for (const [name, file] of Object.entries(map) as [string, unknown][]) {
    if (typeof file !== 'string') {
      throw new FormatError(`the file of '${name.slice(0, 200)}' is ${describeValue(file)}`);
    }
    checkShardName(file);
    files.set(name, file);
  }
  return files;
}

/** A shard lies beside the index, or below: nothing in a file may point elsewhere. */
function checkShardName(name: string): void {
  const parts = name.split('/');
  const isPlain = parts.every((part) => part !== '' && part !== '.' && part !== '..');
  // Backslashes and colons mean folders and drives on Windows; NUL ends a path in C.
  if (isPlain && !/[\\:\0]/.test(name) && name.length <= 1000) return;
  throw new FormatError(`the index names the file '${name.slice(0, 200)}'`, {
    hint: 'files of an index lie in its own folder',
  });
}

/** The file beside the index at `index`. */
async function besideIndex(index: ByteInput, name: string): Promise<ByteInput> {
  const isAddress =
    index instanceof URL || (typeof index === 'string' && /^(https?|file):/.test(index));
  const encoded = name.split('/').map(encodeURIComponent).join('/');
  if (isAddress) {
    const url = new URL(index);
    // The index's query (a token, a revision) goes with its files.
    return Object.assign(new URL(encoded, url), { search: url.search });
  }
  if (typeof index === 'string') {
    if (!hasFiles()) return index.replace(/[^/]*([?#].*)?$/, '') + encoded;
    const { dirname, join } = await import('node:path');
    return join(dirname(index), ...name.split('/'));
  }
  throw new ArgumentError('an index without a path does not say where its files are', {
    op: 'load',
    hint: 'give the path of the index, or { shard: (name) => file }',
  });
}

/** The open files of an index, as if they were one. */
export class ShardedFile implements WeightsFile {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, WeightInfo>;
  private readonly files: ReadonlyMap<string, SafetensorsFile>;
  private readonly fileOf: ReadonlyMap<string, string>;
  private closed = false;

  private constructor(
    label: string,
    files: ReadonlyMap<string, SafetensorsFile>,
    fileOf: ReadonlyMap<string, string>,
  ) {
    this.label = label;
    this.files = files;
    this.fileOf = fileOf;
    const tensors = new Map<string, WeightInfo>();
    for (const [name, file] of fileOf) {
      const entry = files.get(file)?.tensors.get(name);
      if (entry === undefined) {
        throw new FormatError(`${file} does not hold '${name.slice(0, 200)}', as the index says`);
      }
      tensors.set(name, entry);
    }
    this.tensors = tensors;
  }

  /**
   * Opens an index and the files it names, which lie in its folder.
   *
   * @throws FormatError if the index or a file is damaged, points out of the folder, or a tensor is
   * missing.
   * @example no-run: needs files
   * const file = await ShardedFile.open('model.safetensors.index.json');
   * const weight = await file.read('model.norm.weight');
   * await file.close();
   */
  static async open(index: ByteInput, options: ShardOptions = {}): Promise<ShardedFile> {
    return ShardedFile.fromSource(await openSource(index), index, options);
  }

  /** As `open`, of an index whose source is open; it is closed. */
  static async fromSource(
    source: ByteSource,
    index: ByteInput,
    options: ShardOptions,
  ): Promise<ShardedFile> {
    const files = new Map<string, SafetensorsFile>();
    try {
      if (source.size > MAX_INDEX) throw new FormatError(`an index of ${source.size} bytes`);
      const fileOf = parseIndex(await source.read(0, source.size));
      const names = new Set(fileOf.values());
      if (names.size > MAX_SHARDS) throw new FormatError(`an index of ${names.size} files`);
      for (const name of names) {
        const shard = await (options.shard?.(name) ?? besideIndex(index, name));
        files.set(name, await SafetensorsFile.open(shard));
      }
      return new ShardedFile(source.label, files, fileOf);
    } catch (error) {
      for (const file of files.values()) await file.close();
      throw withFileName(error, source.label);
    } finally {
      await source.close();
    }
  }

  /** Reads one tensor from its file. */
  async read(name: string): Promise<TypedHostArray> {
    const file = findTensor(this.label, this.fileOf, name, this.closed);
    return (this.files.get(file) as SafetensorsFile).read(name);
  }

  /** Closes all files; may be called twice. */
  async close(): Promise<void> {
    this.closed = true;
    for (const file of this.files.values()) await file.close();
  }
}
