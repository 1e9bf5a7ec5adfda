// GGUF files: metadata and every type of tensor against the format's own Python package.
import '../../src/index.ts';
import { describe, expect, it } from 'vitest';
import { fromFloat16Bits } from '../../src/base/dtype.ts';
import { ArgumentError, DisposedError, FormatError } from '../../src/base/errors.ts';
import { GgufFile } from '../../src/interface/io/gguf.ts';
import { readNpz } from '../../src/interface/io/npy.ts';
import { load } from '../../src/interface/io/weights.ts';
import { fixturePath, numbersOf, readFixture } from './fixtures.ts';

/** Writes numbers and texts one after the other, as GGUF has them. */
class Writer {
  private readonly parts: number[] = [];

  u32(...values: readonly number[]): this {
    for (const value of values)
      for (let i = 0; i < 32; i += 8) this.parts.push((value >>> i) & 255);
    return this;
  }

  u64(...values: readonly number[]): this {
    for (const value of values) this.u32(value % 2 ** 32, Math.floor(value / 2 ** 32));
    return this;
  }

  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.parts.push(...bytes);
    return this;
  }

  /** Magic, version and counts. */
  start(tensors: number, pairs: number, version = 3): this {
    return this.u32(0x46554747, version).u64(tensors, pairs);
  }

  bytes(padding = 0): Uint8Array {
    return Uint8Array.from([...this.parts, ...Array.from({ length: padding }, () => 0)]);
  }
}

const start = (tensors: number, pairs: number, version?: number): Writer =>
  new Writer().start(tensors, pairs, version);

describe('GGUF', () => {
  it('tensors of all types are what the package of the format makes of them', async () => {
    const expected = await readNpz(fixturePath('tensors.npz'));
    const file = await GgufFile.open(fixturePath('tensors.gguf'));
    expect([...file.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, array] of expected) {
      const read = await file.read(name);
      expect(file.tensors.get(name)).toMatchObject({
        type: name,
        dtype: read.dtype,
        shape: read.shape,
      });
      expect(read.shape).toEqual(array.shape);
      expect(numbersOf(read), name).toEqual(numbersOf(array));
    }
    await file.close();
    await expect(file.read('F32')).rejects.toThrow(DisposedError);
  });

  it('metadata', async () => {
    const { metadata } = await GgufFile.open(readFixture('tensors.gguf'));
    expect(metadata.get('general.architecture')).toBe('llama');
    expect(metadata.get('llama.block_count')).toBe(2);
    expect(metadata.get('tokenizer.ggml.tokens')).toEqual(['<s>', 'a', 'ß']);
    expect(metadata.get('tokenizer.ggml.scores')).toEqual([0.5, -1, 2]);
    expect(metadata.get('test.flag')).toBe(true);
    expect(metadata.get('test.negative')).toBe(-(2 ** 40));
    expect(metadata.get('test.large')).toBe(2n ** 63n);
    expect(metadata.get('test.double')).toBe(1 / 3);
  });

  it('blocks are expanded to float16 if asked for', async () => {
    const bytes = readFixture('tensors.gguf');
    const full = await load(bytes);
    const halves = await load(bytes, { dtype: 'float16' });
    expect(full.get('Q4_K')?.dtype).toBe('float32');
    expect(halves.get('Q4_K')?.dtype).toBe('float16');
    // Plain tensors stay as they are.
    expect(halves.get('F32')?.dtype).toBe('float32');
    const [wide, narrow] = [await full.get('Q4_K')!.data(), await halves.get('Q4_K')!.data()];
    for (const [i, value] of wide.entries()) {
      expect(Math.abs(fromFloat16Bits(narrow[i]!) - value)).toBeLessThanOrEqual(
        Math.abs(value) / 2048 + 2 ** -25,
      );
    }
    await expect(GgufFile.open(bytes, { dtype: 'int8' as 'float16' })).rejects.toThrow(
      ArgumentError,
    );
  });

  it('a type that is not read is named when its tensor is asked for', async () => {
    const bytes = start(2, 0)
      .text('a')
      .u32(1)
      .u64(32)
      .u32(20)
      .u64(0)
      .text('b')
      .u32(0, 0)
      .u64(32)
      .bytes(96);
    const file = await GgufFile.open(bytes);
    expect(file.tensors.get('a')?.type).toBe('IQ4_NL');
    await expect(file.read('a')).rejects.toThrow("tensor 'a' is IQ4_NL, which is not read");
    expect((await file.read('b')).shape).toEqual([]);
  });

  it.each([
    ['no GGUF', new Writer().u32(5), 'this is not a GGUF file'],
    ['version 1', new Writer().u32(0x46554747, 1), 'version 1 is unknown'],
    ['big-endian', new Writer().u32(0x46554747, 0x03000000), 'another byte order'],
    ['many pairs', start(0, 2 ** 40), 'a length of 8 bytes, 0 are left'],
    ['a long key', start(0, 1).u64(2 ** 20), 'a key of 1048576 bytes'],
    ['a type', start(0, 1).text('k').u32(13), 'unknown type 13'],
    ['a boolean', start(0, 1).text('k').u32(7, 2), 'a boolean of 2'],
    [
      'a long list',
      start(0, 1)
        .text('k')
        .u32(9, 0)
        .u64(2 ** 40),
      'a list of 1099511627776 values',
    ],
    ['a nested list', start(0, 1).text('k').u32(9).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(9).u64(1).u32(0, 0, 0, 0), 'nests deeper'], // prettier-ignore
    [
      'two keys',
      start(0, 2).text('k').u32(4, 0).text('k').u32(4, 0),
      "two metadata are called 'k'",
    ],
    ['an alignment', start(0, 1).text('general.alignment').u32(4, 0), 'an alignment of 0'],
    ['two tensors', start(2, 0).text('t').u32(0, 0).u64(0).text('t').u32(0, 0).u64(0), "two tensors are called 't'"], // prettier-ignore
    ['axes', start(1, 0).text('t').u32(9), "tensor 't' has 9 axes"],
    ['rows', start(1, 0).text('t').u32(1).u64(33).u32(8).u64(0), "'t' of [33] cannot be Q8_0"],
    [
      'a size',
      start(1, 0)
        .text('t')
        .u32(2)
        .u64(2 ** 40, 2 ** 40)
        .u32(0)
        .u64(0),
      'cannot be F32',
    ],
    ['an offset', start(1, 0).text('t').u32(0, 0).u64(7), 'not at a multiple of 32'],
    ['data', start(1, 0).text('t').u32(1).u64(1000).u32(0).u64(0), 'beyond the end'],
  ] as const)('%s', async (_, writer, message) => {
    const error = await GgufFile.open(writer.bytes(64)).catch((e: unknown) => e);
    // Padding hides the ends of files that are too short.
    const short = await GgufFile.open(writer.bytes()).catch((e: unknown) => e);
    expect(error instanceof FormatError || error instanceof GgufFile).toBe(true);
    expect(short).toBeInstanceOf(FormatError);
    expect((short as FormatError).message).toContain(message);
  });

  it('tensors that share bytes are refused', async () => {
    const writer = start(3, 0);
    for (const name of ['a', 'b', 'c']) writer.text(name).u32(1).u64(64).u32(0).u64(0);
    await expect(GgufFile.open(writer.bytes(300))).rejects.toThrow('tensors overlap');
  });

  it('a header longer than what is read first', async () => {
    const writer = start(0, 1).text('words').u32(9, 8).u64(20000);
    for (let i = 0; i < 20000; i++) writer.text(`word ${i}`);
    const { metadata } = await GgufFile.open(writer.bytes());
    expect((metadata.get('words') as string[]).at(-1)).toBe('word 19999');
  });
});
