// Checkpoints: trees of tensors and plain values in one file, and errors for files that are none.
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
// Installs the evaluator, without which tensors cannot be read.
import '../../src/index.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ArgumentError, FormatError } from '../../src/base/errors.ts';
import { DataLoader } from '../../src/interface/data/loader.ts';
import {
  loadCheckpoint,
  save,
  saveCheckpoint,
  serialize,
  serializeCheckpoint,
} from '../../src/interface/io/checkpoint.ts';
import { parseSafetensors, serializeSafetensors } from '../../src/interface/io/safetensors.ts';
import { type Tensor, fromHostArray } from '../../src/interface/io/tensors.ts';
import { load } from '../../src/interface/io/weights.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tengen-checkpoint-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

const vector = (...values: number[]): Tensor =>
  fromHostArray({ data: Float32Array.from(values), shape: [values.length] });

async function failure(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

describe('state dicts', () => {
  it('survive a round trip, as Map or record', async () => {
    const path = join(folder, 'model.safetensors');
    const weight = fromHostArray({ data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [2, 3] });
    const count = fromHostArray({ data: Int32Array.of(7), shape: [] });
    const half = fromHostArray({
      data: Uint16Array.of(0x3c00, 0xc000),
      shape: [2],
      dtype: 'float16',
    });
    const state = { 'fc.weight': weight, 'bn.count': count, half };
    await save(path, state, { metadata: { note: 'x' } });
    const loaded = await load(path);
    expect([...loaded.keys()].sort()).toEqual(['bn.count', 'fc.weight', 'half']);
    expect(loaded.get('fc.weight')?.shape).toEqual([2, 3]);
    expect(await loaded.get('fc.weight')?.data()).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(loaded.get('bn.count')?.shape).toEqual([]);
    expect(loaded.get('half')?.dtype).toBe('float16');
    const bytes = new Uint8Array(await readFile(path));
    expect(await serialize(new Map(Object.entries(state)), { metadata: { note: 'x' } })).toEqual(
      bytes,
    );
    expect([...(await load(bytes)).keys()]).toHaveLength(3);
  });

  it('hold tensors only', async () => {
    const error = await failure(serialize({ a: 3 } as never));
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain("serialize: 'a' is not a Tensor");
  });
});

describe('checkpoints', () => {
  it('give back the tree that was saved', async () => {
    const path = join(folder, 'run.safetensors');
    const shared = vector(1, 2);
    const loader = new DataLoader([1, 2, 3], { batchSize: 2, shuffle: true });
    for await (const _batch of loader) break;
    const saved = {
      model: new Map([
        ['fc.weight', shared],
        ['fc.bias', vector(3)],
      ]),
      optimizer: { state: [{ momentum: vector(4, 5), step: 3 }, null], tied: shared, lr: 0.1 },
      scheduler: undefined,
      rng: { key: Uint32Array.of(1, 2 ** 32 - 1), counter: 2n ** 70n },
      loader: loader.state(),
      extra: {
        best: -Infinity,
        nothing: NaN,
        zero: -0,
        done: false,
        name: 'naïve',
        $odd: { $tensor: 'a', $$: 1 },
        ['__proto__']: 1,
        list: [[], {}, new Map(), [1, [2]]],
        halves: Uint16Array.of(1, 65535),
        bytes: Uint8Array.of(1),
        doubles: Float64Array.of(Math.PI),
      },
    };
    await saveCheckpoint(path, saved);
    type Saved = typeof saved;
    const loaded = await loadCheckpoint<Saved>(path);
    expect(Object.keys(loaded)).toEqual(['model', 'optimizer', 'rng', 'loader', 'extra']);
    expect(loaded.model).toBeInstanceOf(Map);
    expect(await loaded.model.get('fc.bias')?.data()).toEqual(Float32Array.of(3));
    expect(loaded.rng).toEqual(saved.rng);
    expect(loaded.extra).toEqual(saved.extra);
    expect(Object.is(loaded.extra.zero, -0)).toBe(true);
    expect(Object.hasOwn(loaded.extra, '__proto__')).toBe(true);
    // A tensor at two places is stored once, and is one tensor again.
    expect(loaded.optimizer.tied).toBe(loaded.model.get('fc.weight'));
    const resumed = new DataLoader([1, 2, 3], { batchSize: 2, shuffle: true });
    resumed.loadState(loaded.loader);
    expect(resumed.state()).toEqual(loader.state());
    const { tensors } = parseSafetensors(new Uint8Array(await readFile(path)));
    expect([...tensors.keys()]).toContain('model.fc.weight');
    expect([...tensors.keys()]).not.toContain('optimizer.tied');
    expect(await serializeCheckpoint(saved)).toEqual(new Uint8Array(await readFile(path)));
  });

  it('keep apart names that look the same', async () => {
    const bytes = await serializeCheckpoint({ a: { 'b.c': vector(1) }, 'a.b': { c: vector(2) } });
    const loaded = await loadCheckpoint<Record<string, Record<string, Tensor>>>(bytes);
    expect(await loaded['a']?.['b.c']?.data()).toEqual(Float32Array.of(1));
    expect(await loaded['a.b']?.['c']?.data()).toEqual(Float32Array.of(2));
  });

  it('refuse what is not data, naming the place', async () => {
    const circle: Record<string, unknown> = {};
    circle['again'] = { circle };
    let deep: unknown = 1;
    for (let depth = 0; depth < 200; depth++) deep = [deep];
    class Thing {
      readonly size = 1;
    }
    for (const [tree, reason] of [
      [{ a: [0, () => 1] }, "cannot hold the function at 'a.1'"],
      [{ a: Symbol('x') }, "cannot hold the symbol at 'a'"],
      [{ a: new Thing() }, "not the Thing at 'a'"],
      [{ a: new Date() }, "not the Date at 'a'"],
      [{ a: new Map([[1, 2]]) }, "string keys, not so at 'a'"],
      [circle, "contains itself at 'again.circle'"],
      [{ deep }, 'nests deeper than 100'],
    ] as const) {
      const error = await failure(serializeCheckpoint(tree));
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error.message).toContain(reason);
    }
  });

  it('an interrupted save leaves the previous one', async () => {
    const inner = await mkdtemp(join(folder, 'atomic-'));
    const path = join(inner, 'run.safetensors');
    await saveCheckpoint(path, { epoch: 1, w: vector(1) });
    const broken = vector(2);
    Object.defineProperty(broken, 'data', {
      value: () => Promise.reject(new Error('device lost')),
    });
    await expect(saveCheckpoint(path, { epoch: 2, w: broken })).rejects.toThrow('device lost');
    expect(await loadCheckpoint(path)).toMatchObject({ epoch: 1 });
    expect(await readdir(inner)).toEqual(['run.safetensors']);
  });
});

describe('the wrong kind of file', () => {
  it('is named, with what to use instead', async () => {
    const plain = await serialize({ w: vector(1) });
    const checkpoint = await serializeCheckpoint({ w: vector(1) });
    const toCheckpoint = await failure(loadCheckpoint(plain));
    expect(toCheckpoint).toBeInstanceOf(FormatError);
    expect(toCheckpoint.message).toContain('a state dict, not a checkpoint. hint: use load()');
    const toPlain = await failure(load(checkpoint));
    expect(toPlain).toBeInstanceOf(FormatError);
    expect(toPlain.message).toContain('is a checkpoint, not a plain state dict');
    expect(toPlain.message).toContain('use loadCheckpoint()');
    const path = join(folder, 'weights.pt');
    await writeFile(path, 'PK\u0003\u0004 whatever follows');
    const pickle = await failure(loadCheckpoint(path));
    expect(pickle.message).toMatch(/weights\.pt: this is a zip archive/);
    await expect(load(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  const withTree = (tree: string, version = '1'): Promise<Uint8Array> =>
    serializeSafetensors(
      { w: { data: Float32Array.of(1), shape: [1] } },
      { metadata: { 'tengen.kind': 'checkpoint', 'tengen.version': version, 'tengen.tree': tree } },
    );

  it.each<[string, string, RegExp]>([
    ['no JSON', '{', /is not JSON/],
    ['a tensor that is missing', '{"a":{"$tensor":"b"}}', /'b', which is missing/],
    [
      'an array of another kind',
      '{"a":{"$array":"w","kind":"Int8Array"}}',
      /a Float32Array, not a Int8Array/,
    ],
    ['an array of no kind', '{"a":{"$array":"w","kind":"Function"}}', /malformed \$array/],
    ['an unknown mark', '{"a":{"$eval":"1"}}', /malformed \$eval/],
    ['a bad number', '{"a":{"$number":"1"}}', /malformed \$number/],
    ['a bad bigint', '{"a":{"$bigint":"x"}}', /malformed \$bigint/],
    ['a bad map', '{"a":{"$map":[1]}}', /malformed \$map/],
    ['a bad map key', '{"a":{"$map":[[1,2]]}}', /malformed \$map/],
    [
      'endless nesting',
      `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
      /nests deeper than 100/,
    ],
  ])('a tree with %s', async (_name, tree, reason) => {
    const error = await failure(loadCheckpoint(await withTree(tree)));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toMatch(reason);
  });

  it('a version of the future', async () => {
    const error = await failure(loadCheckpoint(await withTree('{}', '2')));
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain('version 2 of the checkpoint format is unknown');
  });
});
