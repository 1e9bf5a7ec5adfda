// The file of a model: opened when something of it is wanted, so that a model holds no file open.
import { type ByteInput, hasFiles } from '../io/byte-source.ts';
import { SafetensorsFile } from '../io/safetensors.ts';

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
