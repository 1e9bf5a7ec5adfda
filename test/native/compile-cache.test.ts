// The compile cache: what is compiled, what is found again, and what is never loaded.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { CompileError } from '../../src/base/errors.ts';
import { objectionTo } from '../../src/backends/native/cache-directory.ts';
import { defaultCachePath } from '../../src/runtime/cache-path.ts';
import { missingTools } from '../../src/backends/native/compile-cache.ts';
import { detectToolchain, requireToolchain } from '../../src/backends/native/toolchain.ts';
import { groupUnits, keyOf, sourceOf } from '../../src/backends/native/units.ts';
import { adder, fakeCompiler, INT_TO_INT, openCache, temporaryFolder } from './support.ts';

const missing = missingTools() ?? undefined;
const root = process.getuid?.() === 0;

let folders = 0;
const base = temporaryFolder();
const freshPath = (): string => join(base, `cache-${folders++}`);

const librariesIn = (path: string): string[] =>
  readdirSync(path).filter((name) => name.endsWith('.so'));

/** So long that two of them are two translation units, which a thread compiles, as it does not one. */
const padded = (amount: number) => ({
  ...adder(amount),
  definition: `${adder(amount).definition} /* ${' '.repeat(9000)} */`,
});

describe('units', () => {
  it('have keys of all that decides about their code', () => {
    const unit = adder(1);
    const keys = [
      keyOf(unit, 'a'),
      keyOf(unit, 'b'),
      keyOf(adder(2), 'a'),
      keyOf({ ...unit, declarations: [] }, 'a'),
      keyOf({ ...unit, exports: [] }, 'a'),
    ];
    expect(new Set(keys).size).toBe(5);
    expect(keyOf(adder(1), 'a')).toBe(keys[0]);
    expect(keys.every((key) => /^[0-9a-f]{32}$/.test(key))).toBe(true);
  });

  it('share declarations, and get names of their own', () => {
    const units = [adder(1), adder(2)].map((unit) => ({ unit, key: keyOf(unit, '') }));
    const source = sourceOf(units);
    expect(source.match(/static inline int add/g)).toHaveLength(1);
    for (const { key } of units) expect(source).toContain(`#define f f_${key}`);
  });

  it('are dealt evenly, small ones together and some alone', () => {
    const sized = (bytes: number, alone = false) => {
      const unit = { declarations: [], definition: ' '.repeat(bytes), exports: [], alone };
      return { unit, key: `${bytes}` };
    };
    const bytesOf = (sizes: number[], parallel: number) =>
      groupUnits(
        sizes.map((bytes) => sized(bytes)),
        parallel,
      ).map((group) => group.reduce((sum, { unit }) => sum + unit.definition.length, 0));
    expect(bytesOf([100, 200, 300], 8)).toEqual([600]);
    expect(bytesOf([20000, 9000, 8000, 4000], 2)).toEqual([20000, 21000]);
    expect(bytesOf([90000, 10, 10], 8)).toEqual([90000, 10, 10]);
    expect(groupUnits([], 4)).toEqual([]);
    expect(groupUnits([sized(10), sized(20, true)], 4)).toHaveLength(2);
  });
});

describe.skipIf(missing !== undefined)(`compiled libraries ${missing ?? ''}`, () => {
  it('are compiled once, found on disk later, and loaded once in a process', () => {
    const path = freshPath();
    const first = openCache(path);
    expect(first.run(adder(1), 41)).toBe(42);
    expect(first.run(adder(1), 1)).toBe(2);
    expect(first.cache.statistics).toMatchObject({ misses: 1, hits: 0, loaded: 1, libraries: 1 });
    const second = openCache(path);
    expect(second.run(adder(1), 2)).toBe(3);
    expect(second.cache.statistics).toMatchObject({ misses: 0, hits: 1, compilations: 0 });
    expect(first.lines).toEqual([]);
    expect(readdirSync(second.cache.path)).toHaveLength(2);
  });

  it('are compiled anew for what is new only', () => {
    const { cache } = openCache(freshPath());
    cache.load([adder(1), adder(2)]);
    const loaded = cache.load([adder(3), adder(2), adder(3), adder(1)]);
    expect(loaded.map((unit) => unit.function('f', INT_TO_INT)(0))).toEqual([3, 2, 3, 1]);
    expect(cache.statistics).toMatchObject({ misses: 3, compilations: 2, loaded: 2 });
  });

  it('come in parallel parts, and from code that does not block', async () => {
    const { cache } = openCache(freshPath(), { parallel: 2 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const loaded = await cache.loadAsync([1, 2, 3, 4].map(padded));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(2);
    expect(loaded.map((unit) => unit.function('f', INT_TO_INT)(0))).toEqual([1, 2, 3, 4]);
    expect(cache.statistics).toMatchObject({ misses: 4, compilations: 2, libraries: 2 });
    expect(await cache.loadAsync([])).toEqual([]);
  });

  it('differ between flags', () => {
    const path = freshPath();
    openCache(path).run(adder(1), 0);
    const toolchain = detectToolchain(process.env, { ...requireToolchain(), features: [] });
    if (typeof toolchain === 'string') throw new Error(toolchain);
    const plain = openCache(path, { toolchain });
    plain.run(adder(1), 0);
    const same = toolchain.identity === requireToolchain().identity;
    expect(plain.cache.statistics.misses).toBe(same ? 0 : 1);
  });

  // Put in its place and not written over: this process has the file mapped.
  it.each<[string, (file: string, bytes: Buffer) => void]>([
    ['shorter', (file, bytes) => writeFileSync(file, bytes.subarray(0, 1000))],
    ['empty', (file) => writeFileSync(file, '')],
    ['no library', (file) => writeFileSync(file, 'something else')],
    ['with one other bit', (file, bytes) => writeFileSync(file, flipBit(bytes))],
    ['a link to elsewhere', (file) => symlinkSync('/etc', file)],
    ['a folder', (file) => mkdirSync(file)],
    ['gone', () => undefined],
  ])('that are %s are compiled again, never loaded', (_name, damage) => {
    const path = freshPath();
    const first = openCache(path);
    first.run(adder(1), 0);
    const file = join(first.cache.path, librariesIn(first.cache.path)[0] as string);
    const bytes = readFileSync(file);
    rmSync(file);
    damage(file, bytes);
    const second = openCache(path);
    expect(second.run(adder(1), 1)).toBe(2);
    expect(second.cache.statistics).toMatchObject({ rejected: 1, misses: 1, hits: 0 });
    const third = openCache(path);
    expect(third.run(adder(1), 2)).toBe(3);
    expect(third.cache.statistics).toMatchObject({ rejected: 0, misses: 0, hits: 1 });
  });

  it('that answer another key are not taken for it', () => {
    const path = freshPath();
    const { cache, run } = openCache(path);
    run(adder(1), 0);
    const [library] = librariesIn(cache.path);
    const key = keyOf(adder(2), requireToolchain().identity);
    symlinkSync(library as string, join(cache.path, key));
    const second = openCache(path);
    expect(second.run(adder(2), 0)).toBe(2);
    expect(second.cache.statistics).toMatchObject({ rejected: 1, misses: 1 });
    // And a link that leads out of the directory is not followed at all.
    symlinkSync('../../evil.so', join(cache.path, keyOf(adder(3), requireToolchain().identity)));
    expect(second.run(adder(3), 0)).toBe(3);
  });

  it('that were used least recently go when there are too many bytes', () => {
    const path = freshPath();
    const { cache } = openCache(path);
    const toolchain = requireToolchain();
    const libraryOf = (amount: number): string =>
      readlinkSync(join(cache.path, keyOf(adder(amount), toolchain.identity)));
    cache.load([adder(201)]);
    const size = readFileSync(join(cache.path, libraryOf(201))).length;
    cache.load([adder(202)]);
    cache.load([adder(203)]);
    [201, 202, 203].forEach((amount, i) => {
      utimesSync(join(cache.path, libraryOf(amount)), 1000 + i, 1000 + i);
    });
    // Using the oldest makes it the newest.
    openCache(path).run(adder(201), 0);
    const bounded = openCache(path, { limitBytes: size * 3.5 });
    bounded.cache.load([adder(204)]);
    expect(bounded.cache.statistics.evicted).toBe(1);
    const again = openCache(path);
    again.cache.load([adder(201), adder(203), adder(204)]);
    expect(again.cache.statistics).toMatchObject({ hits: 3, misses: 0 });
    again.cache.load([adder(202)]);
    expect(again.cache.statistics.misses).toBe(1);
    // A bound that nothing fits into still gives kernels that run.
    const tiny = openCache(freshPath(), { limitBytes: 0 });
    expect(tiny.run(adder(1), 1)).toBe(2);
    expect(readdirSync(tiny.cache.path)).toEqual([]);
  });

  it('leave no half-made files behind, and remove those of processes that were killed', () => {
    const path = freshPath();
    const { cache } = openCache(path);
    for (const [name, age] of [
      ['work-1-old', 7200],
      ['work-2-new', 60],
    ] as const) {
      mkdirSync(join(cache.path, name));
      writeFileSync(join(cache.path, name, '0.so'), 'half');
      const time = Date.now() / 1000 - age;
      utimesSync(join(cache.path, name), time, time);
    }
    openCache(path);
    expect(readdirSync(cache.path)).toEqual(['work-2-new']);
  });
});

function flipBit(bytes: Buffer): Buffer {
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] as number) ^ 1;
  return bytes;
}

describe('the directory', () => {
  it('is where the environment says', () => {
    expect(defaultCachePath({ TENGEN_CACHE: '/a', XDG_CACHE_HOME: '/b' })).toBe('/a');
    expect(defaultCachePath({ XDG_CACHE_HOME: '/b' })).toBe('/b/tengen');
    expect(defaultCachePath({ XDG_CACHE_HOME: 'b' })).toMatch(/^\/.*\.cache\/tengen$/);
    expect(defaultCachePath({})).toMatch(/\.cache\/tengen$/);
  });

  it('must be ours, and closed to others, like those above it', () => {
    const path = join(freshPath(), 'inner');
    mkdirSync(path, { recursive: true, mode: 0o700 });
    expect(objectionTo(path)).toBeUndefined();
    chmodSync(path, 0o755);
    expect(objectionTo(path)).toBeUndefined();
    chmodSync(path, 0o770);
    expect(objectionTo(path)).toContain('can be written to by others');
    chmodSync(path, 0o1777);
    expect(objectionTo(path)).toContain('can be written to by others');
    chmodSync(path, 0o700);
    chmodSync(join(path, '..'), 0o777);
    expect(objectionTo(path)).toContain('can be written to by others');
    // As /tmp is: others can make files there, and not exchange ours.
    chmodSync(join(path, '..'), 0o1777);
    expect(objectionTo(path)).toBeUndefined();
  });

  it.skipIf(!root)('of another user is refused (only root can make one)', () => {
    const path = freshPath();
    mkdirSync(join(path, 'inner'), { recursive: true, mode: 0o700 });
    chownSync(join(path, 'inner'), 12345, 12345);
    expect(objectionTo(join(path, 'inner'))).toContain('belongs to user 12345');
    chownSync(join(path, 'inner'), 0, 0);
    chownSync(path, 12345, 12345);
    expect(objectionTo(join(path, 'inner'))).toContain('belongs to user 12345');
  });
});

describe.skipIf(missing !== undefined)(`without a usable directory ${missing ?? ''}`, () => {
  /** A cache at `path` works, keeps nothing there, and has said why in one line. */
  function expectFallback(path: string, reason: string): void {
    const { cache, lines, run } = openCache(path);
    expect(run(adder(1), 1)).toBe(2);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('kept for this process only');
    expect(lines[0]).toContain(reason);
    expect(lines[0]).not.toContain('\n');
    expect(cache.fallback).toContain(reason);
    expect(objectionTo(cache.path)).toBeUndefined();
    expect(cache.path.startsWith(path)).toBe(false);
  }

  it('one that others can write to is not used, nor one behind a link to such', () => {
    const path = freshPath();
    mkdirSync(path);
    chmodSync(path, 0o777);
    expectFallback(path, 'can be written to by others');
    const link = freshPath();
    symlinkSync(path, link);
    expectFallback(link, 'can be written to by others');
    expect(readdirSync(join(path, 'v1'))).toEqual([]);
  });

  it('a file in its place, and a directory that cannot be written to, are no hindrance', () => {
    const path = freshPath();
    writeFileSync(path, '');
    expectFallback(path, 'ENOTDIR');
    if (!root) {
      const closed = freshPath();
      mkdirSync(join(closed, 'v1'), { recursive: true });
      chmodSync(join(closed, 'v1'), 0o500);
      expectFallback(closed, 'EACCES');
    }
  });

  it('temporary directories of killed processes go, once they are old', () => {
    const [dead, young, alive] = [999_999_999, 999_999_998, process.pid].map((pid) => {
      const path = join(tmpdir(), `tengen-native-${pid}-test`);
      mkdirSync(path);
      if (pid !== 999_999_998) utimesSync(path, 1000, 1000);
      return path;
    }) as [string, string, string];
    expectFallback('/nonexistent\0', 'null bytes');
    expect([dead, young, alive].map((path) => existsSync(path))).toEqual([false, true, true]);
    for (const path of [young, alive]) rmSync(path, { recursive: true });
  });

  it('one that breaks after it was opened is left', () => {
    const path = freshPath();
    const { cache, lines, run } = openCache(path);
    expect(run(adder(1), 1)).toBe(2);
    const before = cache.path;
    rmSync(path, { recursive: true });
    expect(run(adder(2), 1)).toBe(3);
    expect(lines).toHaveLength(1);
    expect(cache.path).not.toBe(before);
  });

  it('a full disk is left', () => {
    const path = freshPath();
    const { compiler } = requireToolchain();
    const full = fakeCompiler(
      base,
      'full',
      `case "$PWD" in ${path}*) echo "0.s: fatal error: No space left on device" >&2; exit 1;; esac
exec ${compiler} "$@"`,
    );
    const { lines, run } = openCache(path, {
      toolchain: { ...requireToolchain(), compiler: full },
    });
    expect(run(adder(1), 1)).toBe(2);
    expect(lines.join()).toContain('No space left on device');
    expect(readdirSync(join(path, 'v1'))).toEqual([]);
  });
});

describe.skipIf(missing !== undefined)(`compilers that fail ${missing ?? ''}`, () => {
  const failureOf = (body: string, units = [adder(1)], timeoutMs = 30_000): CompileError => {
    const compiler = fakeCompiler(base, `failing-${folders++}`, body);
    const path = freshPath();
    const { cache } = openCache(path, {
      toolchain: { ...requireToolchain(), compiler },
      timeoutMs,
      parallel: 2,
    });
    try {
      cache.load(units);
    } catch (error) {
      // Nothing that could be loaded later, and no leftovers.
      expect(readdirSync(cache.path)).toEqual([]);
      if (error instanceof CompileError) return error;
      throw error;
    }
    throw new Error('it did not fail');
  };

  it('give their first lines and the command', () => {
    const { cache } = openCache(freshPath());
    const broken = { ...adder(1), definition: 'int f(int x) { return y; }' };
    expect(() => cache.load([broken])).toThrow(CompileError);
    expect(() => cache.load([broken])).toThrow(/ended with status 1:\n.*error: .y. undeclared/);
    expect(() => cache.load([broken])).toThrow(/command: .* -o 0\.so 0\.c/);
    // Others still compile.
    expect(cache.load([adder(1)])).toHaveLength(1);
  });

  it('give the error of code that does not block too', async () => {
    const { cache } = openCache(freshPath());
    const broken = { ...adder(1), definition: 'nonsense' };
    await expect(cache.loadAsync([broken])).rejects.toThrow(CompileError);
    expect(readdirSync(cache.path)).toEqual([]);
  });

  it.each([
    ['one', [adder(1)]],
    ['two', [padded(1), padded(2)]],
  ])('may end with a status or by a signal: %s', (_name, units) => {
    expect(failureOf('echo "fatal error: no license" >&2; exit 7', units).message).toMatch(
      /status 7:\nfatal error: no license/,
    );
    expect(failureOf('kill -9 $$', units).message).toContain('ended by SIGKILL');
  });

  it('may write nothing, or what is no library', () => {
    expect(failureOf('exit 0').message).toContain('ENOENT');
    expect(failureOf('echo junk > 0.so; exit 0').message).toContain('cannot load');
  });

  it.each([
    ['one', [adder(1)]],
    ['two', [padded(1), padded(2)]],
  ])('are stopped when they hang, with all that they started: %s', async (name, units) => {
    const mark = join(base, `still-alive-${name}`);
    const error = failureOf(`(sleep 1; touch ${mark}) & sleep 20`, units, 300);
    expect(error.message).toContain('no answer within 0.3 s');
    await new Promise((resolve) => setTimeout(resolve, 1300));
    expect(existsSync(mark)).toBe(false);
  });

  it('that are gone meanwhile are named', () => {
    const compiler = join(base, 'nowhere');
    const { cache } = openCache(freshPath(), { toolchain: { ...requireToolchain(), compiler } });
    expect(() => cache.load([adder(1)])).toThrow(/did not finish:\n.*ENOENT/);
  });
});
