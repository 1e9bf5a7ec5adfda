// The file of a model: its header and its tensors. It is opened when something of it is wanted, so that a
// model holds no file open.
import { FormatError } from '../../base/errors.ts';
import { type ByteInput, hasFiles } from '../io/byte-source.ts';
import type { TypedHostArray } from '../io/host-array.ts';
import { SafetensorsFile } from '../io/safetensors.ts';
import type { TensorEntry } from '../io/safetensors-header.ts';
import { HEADER_KEY, type ModelHeader, parseHeader } from './header.ts';

/**
 * What an open file says of its program.
 *
 * @throws FormatError if it holds none.
 */
export function headerOf(file: SafetensorsFile): ModelHeader {
  const text = file.metadata.get(HEADER_KEY);
  if (text !== undefined) return parseHeader(text);
  throw new FormatError(`${file.label} holds tensors and no program`, {
    hint: "fn.dump(path) writes programs; loadWeights() of 'tengen/io' reads tensors",
  });
}

/**
 * Where a tensor that the header of a file names lies in it.
 *
 * @throws FormatError if it is not there.
 */
export function entryIn(file: SafetensorsFile, name: string): TensorEntry {
  const entry = file.tensors.get(name);
  if (entry === undefined) throw new FormatError(`the file has no tensor '${name}'`);
  return entry;
}

/** A tensor that the header of a file names. Throws as `entryIn` does. */
export async function tensorIn(file: SafetensorsFile, name: string): Promise<TypedHostArray> {
  return file.read(entryIn(file, name).name);
}

export class ModelFile {
  readonly #source: ByteInput;
  /** What was fetched or is in memory anyway stays open. */
  #open: SafetensorsFile | null = null;

  constructor(source: ByteInput) {
    this.#source = source;
  }

  async read<T>(use: (file: SafetensorsFile) => Promise<T>): Promise<T> {
    if (this.#open !== null) return use(this.#open);
    const file = await SafetensorsFile.open(this.#source);
    if (!this.#isOnDisk()) this.#open = file;
    try {
      return await use(file);
    } finally {
      if (this.#open === null) await file.close();
    }
  }

  #isOnDisk(): boolean {
    const source = this.#source;
    if (typeof source !== 'string' && !(source instanceof URL)) return false;
    return hasFiles() && !/^https?:/.test(String(source));
  }
}
