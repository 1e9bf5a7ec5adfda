// Loading whatever it is: formats by their first bytes, indexes of several files, and other names.
import '../../src/index.ts';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ArgumentError, FormatError } from '../../src/base/errors.ts';
import { serialize, serializeCheckpoint } from '../../src/interface/io/checkpoint.ts';
import { ShardedFile } from '../../src/interface/io/sharded.ts';
import { load, openWeights, renameKeys } from '../../src/interface/io/weights.ts';
import { Linear } from '../../src/interface/nn/index.ts';
import { tensor, zeros } from '../../src/interface/tensor/index.ts';
import { fixturePath, readFixture } from './fixtures.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tengen-weights-'));
  await mkdir(join(folder, 'model', 'parts'), { recursive: true });
  await writeFile(join(folder, 'model', 'one.safetensors'), await serialize({ a: tensor([1]) }));
  await writeFile(
    join(folder, 'model', 'parts', 'two #2.safetensors'),
    await serialize({ b: tensor([2]), c: tensor([3]) }),
  );
  await writeFile(join(folder, 'outside.safetensors'), await serialize({ a: tensor([9]) }));
  await writeFile(
    join(folder, 'model', 'index.json'),
    indexOf({ a: 'one.safetensors', b: 'parts/two #2.safetensors' }),
  );
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

const indexOf = (map: unknown): string =>
  JSON.stringify({ metadata: { total_size: 8 }, weight_map: map });

describe('load', () => {
  it.each([
    ['state.pt', 'conv.weight', [2, 1, 3, 3]],
    ['state-legacy.pt', 'conv.weight', [2, 1, 3, 3]],
    ['arrays.npz', 'fortran', [2, 3, 4]],
    ['arrays-compressed.npz', 'fortran', [2, 3, 4]],
    ['version2.npy', 'arr_0', [2, 3, 4]],
    ['tensors.gguf', 'Q4_0', [2, 64]],
  ])('%s', async (name, key, shape) => {
    for (const input of [
      fixturePath(name),
      readFixture(name),
      new Blob([readFixture(name).slice()]),
    ]) {
      expect((await load(input)).get(key)?.shape).toEqual(shape);
    }
  });

  it('a safetensors file whose header length looks like a pickle or an archive', async () => {
    for (const [size, first] of [
      [0x80, 0x80],
      [0x280, 0x80],
    ] as const) {
      // prettier-ignore
      let padding = 0;
      let bytes = await serialize({ a: tensor([1]) });
      const header = (): number => new DataView(bytes.buffer).getUint32(0, true);
      while (header() < size) {
        padding += 8;
        bytes = await serialize({ a: tensor([1]) }, { metadata: { pad: 'x'.repeat(padding) } });
      }
      expect(bytes[0]).toBe(first);
      expect([...(await load(bytes)).keys()]).toEqual(['a']);
    }
  });

  it('what is no file of weights', async () => {
    for (const bytes of [
      new Uint8Array(0),
      Uint8Array.of(1, 2, 3),
      new TextEncoder().encode('hello, world'),
    ]) {
      await expect(load(bytes)).rejects.toThrow(FormatError);
    }
    await expect(load(await serializeCheckpoint({ epoch: 1 }))).rejects.toThrow(
      'use loadCheckpoint()',
    );
    await expect(load(5 as never)).rejects.toThrow(ArgumentError);
    await expect(load(join(folder, 'none.pt'))).rejects.toThrow('none.pt');
  });

  it('an option of another format is an error, not ignored', async () => {
    await expect(load(readFixture('tensors.gguf'), { key: 'model' })).rejects.toThrow(
      "is gguf, which has no option 'key'",
    );
    await expect(load(readFixture('state.pt'), { dtype: 'float16' })).rejects.toThrow(
      ArgumentError,
    );
    await expect(load(readFixture('state.pt'), { strict: true } as object)).rejects.toThrow(
      ArgumentError,
    );
  });

  it('tensors go into a module', async () => {
    const layer = new Linear(2, 1);
    layer.loadStateDict(await load(fixturePath('checkpoint.pt'), { key: 'model' }));
    expect(await layer.forward(zeros([1, 2])).item()).toBeCloseTo(0.24);
  });
});

describe('an index of safetensors files', () => {
  it('is as one file', async () => {
    const path = join(folder, 'model', 'index.json');
    for (const input of [path, pathToFileURL(path), pathToFileURL(path).href]) {
      const state = await load(input);
      expect([...state.keys()]).toEqual(['a', 'b']);
      expect(await state.get('b')?.array()).toEqual([2]);
    }
    const file = await openWeights(path);
    expect(file).toBeInstanceOf(ShardedFile);
    await expect(file.read('c')).rejects.toThrow(ArgumentError);
    await file.close();
    await expect(file.read('a')).rejects.toThrow('was closed');
  });

  it('that is bytes asks for its files', async () => {
    const bytes = new TextEncoder().encode(indexOf({ a: 'one' }));
    await expect(load(bytes)).rejects.toThrow('{ shard: (name) => file }');
    const state = await load(bytes, {
      shard: async (name) => serialize({ a: tensor([name.length]) }),
    });
    expect(await state.get('a')?.array()).toEqual([3]);
  });

  it.each([
    '../outside.safetensors',
    'parts/../../outside.safetensors',
    '/etc/passwd',
    '..',
    '.',
    '',
    'a//b',
    'C:file',
    'parts\\two',
    'file:///etc/passwd',
    'https://example.com/x',
    'nul\0',
  ])('cannot point out of its folder: %j', async (name) => {
    const path = join(folder, 'model', 'escape.json');
    await writeFile(path, indexOf({ a: name }));
    await expect(load(path)).rejects.toThrow('files of an index lie in its own folder');
  });

  it.each([
    ['{', 'the index is not JSON'],
    ['{}', 'without the weight_map'],
    ['{"weight_map": []}', 'without the weight_map'],
    ['{"weight_map": {"a": 1}}', "the file of 'a' is 1"],
    ['{"weight_map": {"z": "one.safetensors"}}', "one.safetensors does not hold 'z'"],
  ])('%s: %s', async (text, message) => {
    const path = join(folder, 'model', 'broken.json');
    await writeFile(path, text);
    const error = await load(path).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).message).toContain(message);
    expect((error as FormatError).message).toContain('broken.json');
  });

  it('a file that is missing is named', async () => {
    const path = join(folder, 'model', 'gone.json');
    await writeFile(path, indexOf({ a: 'gone.safetensors' }));
    await expect(load(path)).rejects.toThrow('gone.safetensors');
  });
});

describe('renameKeys', () => {
  it('takes off, replaces whole parts, puts in front', () => {
    const state = { 'module.fc.weight': 1, 'module.fc2.fc.bias': 2, other: 3 };
    const names = renameKeys(state, {
      stripPrefix: 'module.',
      replace: [['fc', 'head']],
      addPrefix: 'm.',
    });
    expect([...names]).toEqual([['m.head.weight', 1], ['m.fc2.head.bias', 2], ['m.other', 3]]); // prettier-ignore
    const map = new Map([['layers.3.w', 1]]);
    expect([...renameKeys(map, { replace: [[/^layers\.(\d+)/, 'h.$1']] }).keys()]).toEqual([
      'h.3.w',
    ]);
    // A part that stands twice in a row.
    expect([...renameKeys({ 'a.a.a': 1 }, { replace: [['a', 'b']] }).keys()]).toEqual(['b.b.b']);
  });

  it('two of one name are an error', () => {
    expect(() => renameKeys({ 'a.x': 1, x: 2 }, { stripPrefix: 'a.' })).toThrow(ArgumentError);
    expect(() => renameKeys({}, { prefix: 'a' } as object)).toThrow("no option 'prefix'");
  });
});
