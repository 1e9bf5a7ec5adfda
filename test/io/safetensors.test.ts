// safetensors: what is written is read back, and whatever is wrong with a file is said with its place.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DType, byteSize, viewTypedArray } from '../../src/base/dtype.ts';
import {
  ArgumentError,
  DisposedError,
  DTypeError,
  FormatError,
  ShapeError,
} from '../../src/base/errors.ts';
import { type ByteSource, memorySource } from '../../src/interface/io/byte-source.ts';
import type { HostArray } from '../../src/interface/io/host-array.ts';
import {
  SafetensorsFile,
  parseSafetensors,
  readSafetensors,
  serializePending,
  serializeSafetensors,
  writePending,
  writeSafetensors,
} from '../../src/interface/io/safetensors.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tengen-io-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** A file of the given header text and data, with a correct length prefix. */
function fileOf(header: string, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + json.length + data.length);
  new DataView(file.buffer).setUint32(0, json.length, true);
  file.set(json, 8);
  file.set(data, 8 + json.length);
  return file;
}

function errorOf(file: Uint8Array): FormatError {
  try {
    parseSafetensors(file);
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    return error as FormatError;
  }
  throw new Error('the file was accepted');
}

const DTYPES: DType[] = [
  'float32',
  'float16',
  'bfloat16',
  'float64',
  'int8',
  'uint8',
  'int16',
  'int32',
  'uint32',
  'bool',
];

function sample(dtype: DType, shape: number[]): HostArray {
  const length = shape.reduce((a, b) => a * b, 1);
  const bytes = new Uint8Array(length * byteSize(dtype));
  for (let i = 0; i < bytes.length; i++) bytes[i] = dtype === 'bool' ? i % 2 : (i * 37 + 11) & 0x3f;
  return { data: viewTypedArray(dtype, bytes.buffer, 0, length), shape, dtype };
}

const every = Object.fromEntries(DTYPES.map((dtype, i) => [`t.${dtype}`, sample(dtype, [3, i])]));

describe('round trip', () => {
  it('keeps every dtype, shape and the metadata', async () => {
    const bytes = await serializeSafetensors(
      {
        ...every,
        scalar: { data: Float32Array.of(-0), shape: [] },
        'naïve "名"\n': sample('int8', [5]),
      },
      { metadata: { note: 'é\u0001"', format: 'pt' } },
    );
    const { tensors, metadata } = parseSafetensors(bytes);
    expect(Object.fromEntries(metadata)).toEqual({ note: 'é\u0001"', format: 'pt' });
    for (const [name, array] of Object.entries(every)) expect(tensors.get(name)).toEqual(array);
    expect(tensors.get('scalar')).toEqual({
      data: Float32Array.of(-0),
      shape: [],
      dtype: 'float32',
    });
    expect(tensors.get('naïve "名"\n')?.shape).toEqual([5]);
    expect(tensors.size).toBe(12);
  });

  it('keeps an empty file and odd names', async () => {
    expect(parseSafetensors(await serializeSafetensors({})).tensors.size).toBe(0);
    const odd = new Map([
      ['', sample('int8', [1])],
      ['__proto__', sample('int8', [2])],
      ['constructor', sample('int8', [3])],
      ['\ud800', sample('int8', [4])],
    ]);
    const { tensors } = parseSafetensors(await serializeSafetensors(odd));
    expect([...tensors.keys()].sort()).toEqual([...odd.keys()].sort());
  });

  it('writes the same bytes whatever the order, aligned, wide elements first', async () => {
    const forward = await serializeSafetensors(every, { metadata: { b: '2', a: '1' } });
    const backward = await serializeSafetensors(new Map(Object.entries(every).reverse()), {
      metadata: new Map([
        ['a', '1'],
        ['b', '2'],
      ]),
    });
    expect(backward).toEqual(forward);
    const file = await SafetensorsFile.open(forward);
    for (const entry of file.tensors.values()) {
      expect(entry.byteOffset % byteSize(entry.dtype)).toBe(0);
    }
    // Aligned, so reading made no copy.
    const { tensors } = parseSafetensors(forward);
    for (const { data } of tensors.values()) expect(data.buffer).toBe(forward.buffer);
  });

  it('reads unaligned data by copying it', async () => {
    const bytes = await serializeSafetensors(every);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    const { tensors } = parseSafetensors(shifted.subarray(1));
    for (const [name, array] of Object.entries(every)) expect(tensors.get(name)).toEqual(array);
  });

  it('reads a file laid out as the reference implementation writes it', () => {
    const file = fileOf(
      '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"U16","shape":[2],"data_offsets":[8,12]}}   ',
      new Uint8Array([0, 0, 128, 63, 0, 0, 0, 192, 255, 255, 1, 0]),
    );
    const { tensors } = parseSafetensors(file);
    expect(tensors.get('w')).toEqual({
      data: Float32Array.of(1, -2),
      shape: [2, 1],
      dtype: 'float32',
    });
    expect(tensors.get('b')).toEqual({ data: Int32Array.of(65535, 1), shape: [2], dtype: 'int32' });
  });
});

describe('64-bit integers', () => {
  const wide = (dtype: string, values: bigint[]): Uint8Array =>
    fileOf(
      `{"n":{"dtype":"${dtype}","shape":[${values.length}],"data_offsets":[0,${8 * values.length}]}}`,
      new Uint8Array(BigInt64Array.from(values.map((v) => BigInt.asIntN(64, v))).buffer),
    );

  it('narrow when they fit', () => {
    const signed = [0n, 1n, -1n, 2147483647n, -2147483648n];
    expect(parseSafetensors(wide('I64', signed)).tensors.get('n')).toEqual({
      data: Int32Array.from(signed.map(Number)),
      shape: [5],
      dtype: 'int32',
    });
    const unsigned = [0n, 4294967295n];
    expect(parseSafetensors(wide('U64', unsigned)).tensors.get('n')).toEqual({
      data: Uint32Array.from(unsigned.map(Number)),
      shape: [2],
      dtype: 'uint32',
    });
  });

  it.each([
    ['I64', 2147483648n],
    ['I64', -2147483649n],
    ['U64', 4294967296n],
    ['U64', 18446744073709551615n],
  ])('%s %s does not fit, and its place is named', (dtype, value) => {
    const file = wide(dtype, [7n, value]);
    const error = errorOf(file);
    expect(error.message).toContain(`element 1 is ${value}`);
    expect(error.offset).toBe(file.length - 8);
  });
});

describe('files that are not right', () => {
  const entry = (text: string): string => `{"a":${text}}`;
  const good = '"dtype":"U8","shape":[2],"data_offsets":[0,2]';
  const data = new Uint8Array(2);

  it.each<[string, Uint8Array, RegExp, number]>([
    ['nothing', new Uint8Array(0), /at least 8 bytes/, 0],
    ['seven bytes', new Uint8Array(7), /at least 8 bytes/, 7],
    ['a header longer than the file', new Uint8Array([9, 0, 0, 0, 0, 0, 0, 0]), /header of 9/, 0],
    ['a header of 2^63', new Uint8Array([0, 0, 0, 0, 0, 0, 0, 128]), /more than 100000000/, 0],
    ['an empty header', new Uint8Array(8), /must start with '{'/, 8],
    ['space before the header', fileOf(' {}'), /must start with '{'/, 8],
    ['text after the header', fileOf('{} x'), /unexpected 'x' after the end/, 11],
    ['a header cut off', fileOf('{"a":{"dtype":"U8"'), /expected '}'/, 26],
    ['an open string', fileOf('{"a'), /does not end/, 9],
    ['a control character', fileOf('{"a\n":1}'), /control character/, 11],
    ['an unknown escape', fileOf('{"\\x":1}'), /unknown escape/, 10],
    ['a short \\u escape', fileOf('{"\\u12":1}'), /unknown escape/, 10],
    [
      'a name that is not UTF-8',
      fileOf('{"?":1}').map((b) => (b === 0x3f ? 0xff : b)),
      /UTF-8/,
      10,
    ],
    ['a list as header', fileOf('[]'), /must start with '{'/, 8],
    ['a number as entry', fileOf(entry('3')), /expected '{' of tensor "a"/, 13],
    ['a missing key', fileOf(entry('{"dtype":"U8","shape":[2]}'), data), /needs dtype, shape/, 9],
    ['an extra key', fileOf(entry(`{${good},"x":1}`), data), /unknown key "x"/, 60],
    ['a key twice', fileOf(entry(`{"dtype":"U8",${good}}`), data), /duplicate key "dtype"/, 27],
    ['a name twice', fileOf(`{"a":{${good}},"a":{${good}}}`, data), /duplicate key "a"/, 61],
    ['metadata that is no text', fileOf('{"__metadata__":{"a":1}}'), /string as metadata/, 29],
    ['metadata twice', fileOf('{"__metadata__":{},"__metadata__":{}}'), /duplicate key/, 27],
    [
      'an unknown dtype',
      fileOf(entry(`{${good}}`.replace('U8', 'Q8')), data),
      /unknown dtype "Q8"/,
      9,
    ],
    [
      'float8',
      fileOf(entry(`{${good}}`.replace('U8', 'F8_E4M3')), data),
      /is F8_E4M3, which is not/,
      9,
    ],
    ['a negative size', fileOf(entry(`{${good}}`.replace('[2]', '[-2]')), data), /found '-'/, 36],
    ['a fractional size', fileOf(entry(`{${good}}`.replace('[2]', '[2.0]')), data), /fraction/, 37],
    [
      'an exponent',
      fileOf(entry(`{${good}}`.replace('[2]', '[2e0]')), data),
      /fraction or exp/,
      37,
    ],
    [
      'a leading zero',
      fileOf(entry(`{${good}}`.replace('[2]', '[02]')), data),
      /starts with 0/,
      36,
    ],
    [
      'a huge size',
      fileOf(entry(`{${good}}`.replace('[2]', '[99999999999999999999]')), data),
      /too large/,
      51,
    ],
    [
      'sizes that overflow',
      fileOf(entry(`{${good}}`.replace('[2]', '[4294967296,4294967296,0]')), data),
      /overflows/,
      9,
    ],
    [
      '65 axes',
      fileOf(entry(`{${good}}`.replace('[2]', `[${'1,'.repeat(64)}1]`)), data),
      /more than 64/,
      164,
    ],
    [
      'a size that is not the range',
      fileOf(entry(`{${good}}`.replace('[2]', '[3]')), data),
      /takes 3 bytes/,
      9,
    ],
    [
      'a range beyond the data',
      fileOf(entry(`{${good}}`), new Uint8Array(1)),
      /\[0, 2\) of 1 bytes/,
      9,
    ],
    [
      'a range backwards',
      fileOf(entry(`{${good}}`.replace('[0,2]', '[2,0]')), data),
      /\[2, 0\)/,
      9,
    ],
    [
      'a range of three',
      fileOf(entry(`{${good}}`.replace('[0,2]', '[0,2,3]')), data),
      /more than 2/,
      59,
    ],
    [
      'a range of one',
      fileOf(entry(`{${good}}`.replace('[0,2]', '[0]')), data),
      /needs two numbers/,
      9,
    ],
    [
      'bytes of no tensor',
      fileOf(entry(`{${good}}`), new Uint8Array(3)),
      /1 bytes belong to no/,
      63,
    ],
    [
      'a hole',
      fileOf(`{"a":{${good}},"b":{${good.replace('[0,2]', '[3,5]')}}}`, new Uint8Array(5)),
      /"b" leaves a hole/,
      61,
    ],
    [
      'an overlap',
      fileOf(`{"a":{${good}},"b":{${good.replace('[0,2]', '[1,3]')}}}`, new Uint8Array(3)),
      /"b" overlaps/,
      61,
    ],
    [
      'a bool of 2',
      fileOf(entry(`{${good}}`.replace('U8', 'BOOL')), Uint8Array.of(1, 2)),
      /BOOL of 2/,
      64,
    ],
    ['a zip file', new TextEncoder().encode('PK\u0003\u0004 and the rest of it'), /zip archive/, 0],
    ['a GGUF file', new TextEncoder().encode('GGUF and the rest of it'), /GGUF/, 0],
  ])('%s', (_name, file, reason, offset) => {
    const error = errorOf(file);
    expect(error.message).toMatch(reason);
    expect(error.offset).toBe(offset);
  });

  it('refuses what the format cannot hold when writing', async () => {
    const one = sample('int8', [1]);
    await expect(serializeSafetensors({ __metadata__: one })).rejects.toThrow(ArgumentError);
    await expect(
      serializeSafetensors({ a: { data: new Float32Array(3), shape: [2, 2] } }),
    ).rejects.toThrow(ShapeError);
    await expect(
      serializeSafetensors({ a: { data: new Uint16Array(2), shape: [2] } }),
    ).rejects.toThrow(DTypeError);
    await expect(
      serializeSafetensors({ a: { data: new Uint16Array(2), shape: [2], dtype: 'float32' } }),
    ).rejects.toThrow('Uint16Array cannot hold float32');
  });
});

describe('files on disk', () => {
  it('are read tensor by tensor, and only what is asked for', async () => {
    const bytes = await serializeSafetensors(every);
    const reads: [number, number][] = [];
    const memory = memorySource(bytes);
    const source: ByteSource = {
      ...memory,
      read: (offset, length) => {
        reads.push([offset, length]);
        return memory.read(offset, length);
      },
    };
    const file = await SafetensorsFile.open(source);
    const entry = file.tensors.get('t.int16');
    expect(await file.read('t.int16')).toEqual(every['t.int16']);
    expect(reads.at(-1)).toEqual([entry?.byteOffset, entry?.byteLength]);
    expect(reads).toHaveLength(3);
  });

  it('survive a round trip by path and by file address', async () => {
    const path = join(folder, 'model.safetensors');
    await writeSafetensors(path, every, { metadata: { epoch: '3' } });
    expect(new Uint8Array(await readFile(path))).toEqual(
      await serializeSafetensors(every, { metadata: { epoch: '3' } }),
    );
    for (const input of [path, pathToFileURL(path), pathToFileURL(path).href]) {
      const { tensors, metadata } = await readSafetensors(input);
      expect(Object.fromEntries(tensors)).toEqual(every);
      expect(metadata.get('epoch')).toBe('3');
    }
    expect(
      Object.fromEntries((await readSafetensors(new Blob([await readFile(path)]))).tensors),
    ).toEqual(every);
  });

  it('name the file in errors', async () => {
    const path = join(folder, 'broken.safetensors');
    await writeFile(path, fileOf('{"a":3}'));
    const error = await readSafetensors(path).catch((reason: unknown) => reason as FormatError);
    expect(error).toBeInstanceOf(FormatError);
    expect(error).toMatchObject({ offset: 13 });
    expect((error as FormatError).message).toMatch(
      /^\/.*broken\.safetensors: expected '{'.*\(at byte 13\)$/,
    );
  });

  it('say so when closed, or asked for what they do not have', async () => {
    const file = await SafetensorsFile.open(await serializeSafetensors(every));
    await expect(file.read('t.int64')).rejects.toThrow("has no tensor 't.int64'");
    await file.close();
    await file.close();
    await expect(file.read('t.int8')).rejects.toThrow(DisposedError);
  });

  it('stay as they were when a save fails half way, with nothing left behind', async () => {
    const inner = await mkdtemp(join(folder, 'atomic-'));
    const path = join(inner, 'model.safetensors');
    await writeSafetensors(path, every);
    const before = await readFile(path);
    const failing = {
      name: 'b',
      fileDType: 'F32',
      shape: [1],
      byteLength: 4,
      bytes: () => Promise.reject(new Error('the device is gone')),
    } as const;
    const fine = { ...failing, name: 'a', bytes: () => new Uint8Array(4) };
    await expect(writePending(path, [fine, failing], new Map())).rejects.toThrow('device is gone');
    const short = { ...failing, bytes: () => new Uint8Array(3) };
    await expect(writePending(path, [fine, short], new Map())).rejects.toThrow(
      '3 bytes instead of 4',
    );
    await expect(serializePending([fine, fine], new Map())).rejects.toThrow(
      "two tensors are called 'a'",
    );
    expect(await readFile(path)).toEqual(before);
    expect(await readdir(inner)).toEqual(['model.safetensors']);
  });
});
