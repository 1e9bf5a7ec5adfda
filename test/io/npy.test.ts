// NumPy's files: every type, both byte and index orders, three versions, archives, and what is refused.
import '../../src/index.ts';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ArgumentError, DTypeError, FormatError, ShapeError } from '../../src/base/errors.ts';
import {
  NpzFile,
  parseNpy,
  readNpy,
  readNpz,
  serializeNpy,
  serializeNpz,
  writeNpy,
  writeNpz,
} from '../../src/interface/io/npy.ts';
import { tensor } from '../../src/interface/tensor/index.ts';
import { expectArray, fixturePath, readExpected, readFixture } from './fixtures.ts';

const expected = readExpected('arrays.json');

function npyOf(header: string, data = new Uint8Array(0), version = 1): Uint8Array {
  const text = new TextEncoder().encode(header);
  const head =
    version === 1
      ? [text.length & 255, text.length >> 8]
      : [text.length & 255, text.length >> 8, 0, 0];
  return Uint8Array.from([
    0x93,
    ...new TextEncoder().encode('NUMPY'),
    version,
    0,
    ...head,
    ...text,
    ...data,
  ]);
}

describe('.npz', () => {
  it.each(['arrays.npz', 'arrays-compressed.npz'])('%s holds what NumPy saved', async (name) => {
    const arrays = await readNpz(fixturePath(name));
    expect([...arrays.keys()]).toEqual([...expected.keys()]);
    for (const [key, array] of expected) {
      const read = arrays.get(key);
      if (read === undefined) throw new Error(key);
      expectArray(read, array);
    }
  });

  it('gives names and shapes before arrays are read', async () => {
    const file = await NpzFile.open(readFixture('arrays-compressed.npz'));
    expect(file.tensors.get('fortran')).toEqual({
      name: 'fortran',
      dtype: 'int16',
      shape: [2, 3, 4],
    });
    await expect(file.read('f5')).rejects.toThrow(ArgumentError);
    await file.close();
    await expect(file.read('f4')).rejects.toThrow('was closed');
  });

  it('a member that does not have its checksum is an error', async () => {
    const bytes = readFixture('arrays.npz');
    const file = await NpzFile.open(bytes);
    const { data } = await file.read('f4');
    // The array is a view of the file here.
    new Uint8Array(bytes.buffer, data.byteOffset, 1)[0]! ^= 1;
    await expect(file.read('f4')).rejects.toThrow('does not have its checksum');
  });

  it.each([false, true])('is written and read back, compress: %s', async (compress) => {
    const arrays = {
      x: tensor([[1, 2], [3, 4]]), // prettier-ignore
      'layer/weight': { data: Int8Array.of(1, 2), shape: [2, 1] },
      half: tensor([0.5], { dtype: 'float16' }),
    };
    const bytes = await serializeNpz(arrays, { compress });
    const read = await readNpz(bytes);
    expect([...read.keys()]).toEqual(['x', 'layer/weight', 'half']);
    expect(read.get('x')).toEqual({
      data: Float32Array.of(1, 2, 3, 4),
      shape: [2, 2],
      dtype: 'float32',
    });
    expect(read.get('half')).toMatchObject({ dtype: 'float16', data: Uint16Array.of(0x3800) });
    expect(await serializeNpz(arrays, { compress })).toEqual(bytes);
  });
});

describe('.npy', () => {
  const fortran = expected.get('fortran')!;

  it.each([1, 2, 3])('version %i', async (version) => {
    expectArray(await readNpy(fixturePath(`version${version}.npy`)), fortran);
    expectArray(parseNpy(readFixture(`version${version}.npy`)), fortran);
  });

  it('is written and read back', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'tengen-npy-'));
    try {
      const path = join(folder, 'x.npy');
      for (const dtype of [
        'float32',
        'float16',
        'float64',
        'int8',
        'uint8',
        'int16',
        'int32',
        'uint32',
        'bool',
      ] as const) {
        const x = tensor([[1, 0, 1]], { dtype });
        await writeNpy(path, x);
        const read = await readNpy(path);
        expect(read).toMatchObject({ shape: [1, 3], dtype });
        expect(read.data).toEqual(await x.data());
        expect(new Uint8Array(await readFile(path))).toEqual(await serializeNpy(x));
      }
      await writeNpz(join(folder, 'x.npz'), { x: tensor(1) });
      expect((await readNpz(join(folder, 'x.npz'))).get('x')?.shape).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('data begins at a multiple of 64', async () => {
    const rank = Array.from({ length: 40 }, () => 1);
    for (const shape of [[], [1], rank]) {
      const bytes = await serializeNpy({ data: new Float64Array(1), shape });
      expect((bytes.length - 8) % 64).toBe(0);
      expect(parseNpy(bytes).shape).toEqual(shape);
    }
  });

  it('bfloat16 and other things cannot be written', async () => {
    await expect(serializeNpy(tensor([1], { dtype: 'bfloat16' }))).rejects.toThrow(DTypeError);
    await expect(serializeNpy({ data: new Float32Array(2), shape: [3] })).rejects.toThrow(
      ShapeError,
    );
    await expect(serializeNpy([1, 2] as never)).rejects.toThrow(ArgumentError);
    await expect(serializeNpz({}, { level: 3 } as object)).rejects.toThrow(ArgumentError);
  });

  it.each([
    ['objects.npy', "Python objects ('|O') are not read"],
    ['complex.npy', "complex numbers ('<c8') are not read"],
    ['records.npy', 'arrays of records are not read'],
  ])('%s: %s', (name, message) => {
    expect(() => parseNpy(readFixture(name))).toThrow(FormatError);
    expect(() => parseNpy(readFixture(name))).toThrow(message);
  });

  it.each([
    ['', 'expected a dict in the header'],
    ['{}', 'needs descr, fortran_order and shape'],
    ["{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 'has 8 bytes, 0 follow'],
    ["{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", 'expected a size'],
    ["{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}", 'expected True or False'],
    ["{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}", "the type '<f3' is unknown"],
    ["{'descr': '<U4', 'fortran_order': False, 'shape': (2,)}", 'strings'],
    ["{'descr': '<f4', 'descr': '<f4'}", "'descr' is unknown or stands twice"],
    ["{'descr': '<f4', 'more': 1}", "the key 'more'"],
    ["{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", 'text behind'],
    [`{'shape': (${'1,'.repeat(65)})}`, 'more than 64 axes'],
    ["{'descr': '<f4', 'fortran_order': False, 'shape': (9007199254740993,)}", 'too large'],
    ["{'descr': '<f4', 'fortran_order': False, 'shape': (99999999,99999999,99999999)}", 'follow'],
  ])('the header %s: %s', (header, message) => {
    expect(() => parseNpy(npyOf(header))).toThrow(FormatError);
    expect(() => parseNpy(npyOf(header))).toThrow(message);
  });

  it('other faults', () => {
    expect(() => parseNpy(Uint8Array.of(1, 2, 3, 4, 5, 6))).toThrow(
      'this is not a NumPy .npy file',
    );
    expect(() => parseNpy(new Uint8Array(3))).toThrow('6 bytes, 3 are left');
    expect(() => parseNpy(npyOf('{}', new Uint8Array(0), 4))).toThrow('version 4');
    const wide = npyOf(
      "{'descr':'<i8','fortran_order':False,'shape':()}",
      Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0),
    );
    expect(() => parseNpy(wide)).toThrow('element 0 is 4294967296, outside int32');
    const zero = npyOf("{'descr':'<f4','fortran_order':True,'shape':(9007199254740991,0,3)}");
    expect(parseNpy(zero).shape).toEqual([9007199254740991, 0, 3]);
  });
});
