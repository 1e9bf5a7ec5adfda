// Writing where it cannot be done, and to what is no plain file.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path, { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { makeFolder } from '../../src/base/make-folder.ts';
import { writeFileAtomically } from '../../src/interface/io/atomic-file.ts';
import { writeOutput } from '../../src/base/output-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-output-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const one = new Uint8Array([1]);
const save = (file: string, bytes = one): Promise<void> =>
  writeFileAtomically(file, (write) => write(bytes));

describe('makeFolder', () => {
  const make = (name: string, mode?: number): void => makeFolder({ fs, path }, name, mode);

  test('makes those above, and leaves what is there', () => {
    make(join(folder, 'a', 'b', 'c'), 0o700);
    make(join(folder, 'a', 'b', 'c'));
    expect(statSync(join(folder, 'a', 'b')).mode & 0o777).toBe(0o700);
    make(join(folder, 'a', 'd'));
    expect(readdirSync(join(folder, 'a')).sort()).toEqual(['b', 'd']);
  });

  test('through a link to a folder', () => {
    mkdirSync(join(folder, 'real'));
    symlinkSync(join(folder, 'real'), join(folder, 'link'));
    make(join(folder, 'link', 'inner'));
    expect(existsSync(join(folder, 'real', 'inner'))).toBe(true);
  });

  test('ends where it cannot', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(() => make(file)).toThrow('EEXIST');
    expect(() => make(join(file, 'x'))).toThrow(/EEXIST|ENOTDIR/);
    expect(() => make('')).toThrow('ENOENT');
    if (existsSync('/proc')) expect(() => make('/proc/none/deeper')).toThrow('ENOENT');
  });

  test('is content if another was faster', () => {
    const name = join(folder, 'raced');
    const racing = {
      ...fs,
      mkdirSync: (file: string) => {
        mkdirSync(file);
        throw new Error('EEXIST');
      },
    };
    makeFolder({ fs: { ...fs, mkdirSync: racing.mkdirSync as typeof mkdirSync }, path }, name);
    expect(existsSync(name)).toBe(true);
  });
});

describe('a file written whole', () => {
  test('a link stays one', async () => {
    const [file, link] = [join(folder, 'weights'), join(folder, 'latest')];
    await save(file);
    symlinkSync(file, link);
    await save(link, new Uint8Array([2]));
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect([...readFileSync(file)]).toEqual([2]);
  });

  test('what is no file is not replaced', async () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    await expect(save(inner)).rejects.toThrow(`save: cannot write '${inner}' (EISDIR`);
    expect(readdirSync(inner)).toEqual([]);
  });

  test.skipIf(!existsSync('/dev/full'))('devices are written to', async () => {
    // A name of this folder, so that a fault does not replace the machine's own.
    const [none, full] = [join(folder, 'null'), join(folder, 'full')];
    symlinkSync('/dev/null', none);
    symlinkSync('/dev/full', full);
    await save(none);
    const error = await save(full).catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ name: 'ArgumentError', code: 'ENOSPC' });
    expect((error as Error).message).toBe(
      `save: cannot write '${full}' (ENOSPC: no space left on device)`,
    );
    expect(statSync(none).isCharacterDevice()).toBe(true);
    expect(statSync(full).isCharacterDevice()).toBe(true);
  });

  test('a failure that is no error is passed on', async () => {
    const produce = (): Promise<void> => Promise.reject(undefined);
    await expect(writeFileAtomically(join(folder, 'odd'), produce)).rejects.toBe(undefined);
  });
});

test('writeOutput says what it could not write', async () => {
  const error = await writeOutput('profile', folder, 'x').catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ name: 'ArgumentError', code: 'EISDIR' });
  expect((error as Error).message).toContain(`profile: cannot write '${folder}' (EISDIR`);
});
