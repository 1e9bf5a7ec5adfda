// GGUF files (llama.cpp): metadata, and tensors with their blocks expanded.
import { checkKeys, describeValue } from '../../base/checks.ts';
import { type DType, toFloat16Bits } from '../../base/dtype.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { type ByteInput, type ByteSource, openSource } from './byte-source.ts';
import { parseStart } from './cursor.ts';
import { decodeElements, requireLittleEndian } from './elements.ts';
import { withFileName } from '../../base/file-errors.ts';
import { BLOCK_FORMATS, expandBlocks } from './gguf-blocks.ts';
import { type GgufHeader, type GgufValue, MAX_GGUF_HEADER, readGgufHeader } from './gguf-header.ts';
import type { TypedHostArray } from './host-array.ts';
import { FILE_DTYPE_INFO } from './safetensors-header.ts';
import { type WeightInfo, type WeightsFile, findTensor } from './weights-file.ts';

/** A tensor of a GGUF file. */
export interface GgufEntry extends WeightInfo {
  /** How it is stored: `F32`, `Q4_K`, ... */
  readonly type: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface GgufOptions {
  /** What blocks are expanded to: `float32` (default) or `float16`. Plain tensors keep their dtype. */
  readonly dtype?: 'float32' | 'float16';
}

/** An open GGUF file: the metadata is read, tensors are fetched and expanded one by one. */
export class GgufFile implements WeightsFile {
  readonly label: string;
  readonly tensors: ReadonlyMap<string, GgufEntry>;
  private readonly source: ByteSource;
  private readonly header: GgufHeader;
  private readonly dtype: 'float32' | 'float16';
  private closed = false;

  private constructor(source: ByteSource, header: GgufHeader, dtype: 'float32' | 'float16') {
    this.label = source.label;
    this.source = source;
    this.header = header;
    this.dtype = dtype;
    const entries = new Map<string, GgufEntry>();
    for (const { name, shape, type, byteOffset, byteLength } of header.tensors.values()) {
      const read: DType = type.kind === 'plain' ? FILE_DTYPE_INFO[type.fileDType].dtype : dtype;
      entries.set(name, { name, shape, dtype: read, type: type.name, byteOffset, byteLength });
    }
    this.tensors = entries;
  }

  /**
   * Reads and checks the metadata and the list of tensors, of version 2 or 3.
   *
   * @throws FormatError if the file is damaged.
   * @example no-run: needs a file
   * const file = await GgufFile.open('model-Q4_K_M.gguf', { dtype: 'float16' });
   * const layers = file.metadata.get('llama.block_count');
   * const weight = await file.read('blk.0.attn_q.weight');
   * await file.close();
   */
  static async open(input: ByteInput, options: GgufOptions = {}): Promise<GgufFile> {
    checkKeys('GgufFile.open', options, ['dtype']);
    const { dtype = 'float32' } = options;
    if (dtype !== 'float32' && dtype !== 'float16') {
      throw new ArgumentError(`dtype must be float32 or float16, got ${describeValue(dtype)}`, {
        op: 'GgufFile.open',
      });
    }
    requireLittleEndian();
    const source = await openSource(input);
    try {
      const header = await parseStart(source, MAX_GGUF_HEADER, readGgufHeader);
      return new GgufFile(source, header, dtype);
    } catch (error) {
      await source.close();
      throw withFileName(error, source.label);
    }
  }

  /** Everything about the model that is no tensor: architecture, vocabulary, settings. */
  get metadata(): ReadonlyMap<string, GgufValue> {
    return this.header.metadata;
  }

  /**
   * Reads one tensor; blocks (`Q4_0` to `Q8_K`) are expanded to the dtype that `open` was given.
   *
   * @throws ArgumentError if there is none of that name.
   * @throws FormatError if its type is not read (`IQ..`, `TQ..`), naming the type.
   */
  async read(name: string): Promise<TypedHostArray> {
    const { type, shape, byteOffset, byteLength } = findTensor(
      this.label,
      this.header.tensors,
      name,
      this.closed,
    );
    try {
      if (type.kind === 'unknown') {
        throw new FormatError(`tensor '${name}' is ${type.name}, which is not read`, {
          offset: byteOffset,
          hint: `these are: ${Object.keys(BLOCK_FORMATS).join(', ')}`,
        });
      }
      const bytes = await this.source.read(byteOffset, byteLength);
      if (type.kind === 'plain') {
        const { fileDType } = type;
        const data = decodeElements(name, fileDType, bytes, byteOffset);
        return { data, shape, dtype: FILE_DTYPE_INFO[fileDType].dtype };
      }
      const values = expandBlocks(BLOCK_FORMATS[type.name], bytes);
      if (this.dtype === 'float32') return { data: values, shape, dtype: 'float32' };
      return { data: Uint16Array.from(values, toFloat16Bits), shape, dtype: 'float16' };
    } catch (error) {
      throw withFileName(error, this.label);
    }
  }

  /** Closes the file; may be called twice. */
  async close(): Promise<void> {
    this.closed = true;
    await this.source.close();
  }
}
