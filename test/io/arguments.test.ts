// What saving and loading refuse, and how they speak of files that cannot be opened or written.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ArgumentError, nn, tensor } from 'tengen';
import {
  load,
  loadCheckpoint,
  save,
  saveCheckpoint,
  serialize,
  serializeCheckpoint,
  serializeSafetensors,
} from 'tengen/io';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tengen-'));
});
afterAll(() => rm(folder, { recursive: true }));

const state = { a: tensor([1]) };

describe('arguments', () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ['load', () => load(null as never), 'load: expected a path, an address, bytes, a Blob'],
    [
      'the order',
      () => save(state as never, 'x' as never),
      'the path comes first: save(path, state)',
    ],
    [
      'that of checkpoints',
      () => saveCheckpoint(state as never, 'x' as never),
      'the path comes first: saveCheckpoint(path, state)',
    ],
    ['no state', () => save('x', undefined as never), 'expected a state dict, got undefined'],
    [
      'a module',
      () => save('x', new nn.Linear(1, 1) as never),
      'hint: save(path, model.stateDict())',
    ],
    ['options', () => save('x', state, { meta: 1 } as never), 'did you mean metadata?'],
    [
      'metadata',
      () => serialize(state, { metadata: { epoch: 1 } as never }),
      "serialize: the metadata 'epoch' must be a string, got 1",
    ],
    [
      'metadata of arrays',
      () => serializeSafetensors({}, { metadata: { a: 1n } as never }),
      'got 1n',
    ],
    ['an empty checkpoint', () => serializeCheckpoint(null as never), 'expected a record'],
    [
      'wide integers',
      () => serializeCheckpoint({ a: new BigInt64Array(1) }),
      "cannot hold the BigInt64Array at 'a'. hint: it takes Float32Array",
    ],
  ])('%s', async (_, run, message) => {
    const result = run();
    await expect(result).rejects.toThrow(ArgumentError);
    await expect(result).rejects.toThrow(message);
    expect(await readdir('.')).not.toContain('x');
  });

  test('a bigint is data', async () => {
    const bytes = await serializeCheckpoint({ step: 2n ** 60n });
    expect(await loadCheckpoint(bytes)).toEqual({ step: 2n ** 60n });
  });
});

describe('files', () => {
  test('that are missing are named, and told by their code', async () => {
    const path = join(folder, 'none.safetensors');
    for (const open of [load, loadCheckpoint]) {
      const error: unknown = await open(path).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error).toMatchObject({
        op: 'load',
        code: 'ENOENT',
        message: `load: cannot open '${path}' (ENOENT: no such file or directory)`,
      });
    }
  });

  test('that cannot be written are named, not the temporary ones beside them', async () => {
    const path = join(folder, 'none', 'model.safetensors');
    const error: unknown = await save(path, state).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error).toMatchObject({
      code: 'ENOENT',
      message: `save: cannot write '${path}' (ENOENT: no such file or directory). hint: is the folder there, and writable?`,
    });
    await expect(save(folder, state)).rejects.toThrow(`cannot write '${folder}'`);
    expect(await readdir(folder)).toEqual([]);
  });

  test('at addresses that do not answer', async () => {
    const address = 'http://127.0.0.1:1/model.safetensors';
    await expect(load(address)).rejects.toThrow(ArgumentError);
    await expect(load(address)).rejects.toThrow(`load: cannot fetch ${address} (`);
  });
});
