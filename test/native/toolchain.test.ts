// Finding the compiler, and the processor's instruction sets.
import { basename } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeCpu, detectCpu, parseCpuinfo } from '../../src/backends/native/cpu.ts';
import { detectToolchain, findToolchain } from '../../src/backends/native/toolchain.ts';
import { fakeCompiler, script, temporaryFolder } from './support.ts';

const CACHES = { l1: 32768, l2: 1048576, l3: 33554432 };
const ZEN4 =
  'pni ssse3 sse4_1 sse4_2 popcnt avx f16c fma avx2 bmi1 bmi2 abm avx512f avx512dq avx512cd ' +
  'avx512bw avx512vl avx512_bf16 avx512_vnni amx_none';

const cpuOf = (flags: string, env = {}) =>
  describeCpu('x64', 'a processor', new Set(flags.split(' ')), CACHES, env);

describe('the processor', () => {
  it('takes 64-byte vectors where AVX-512 is whole', () => {
    const cpu = cpuOf(ZEN4);
    expect(cpu).toMatchObject({ vectorBytes: 64, registers: 32, fma: true, cacheBytes: CACHES });
    expect(cpu.features).toContain('avx512vnni');
    expect(cpu.features).not.toContain('amx-tile');
  });

  it('takes 32 with AVX2 and fma, or AVX-512 without its parts, else 16', () => {
    expect(cpuOf('avx avx2 fma')).toMatchObject({ vectorBytes: 32, registers: 16, fma: true });
    expect(cpuOf('avx avx2 fma avx512f')).toMatchObject({ vectorBytes: 32, registers: 16 });
    expect(cpuOf('avx avx2')).toMatchObject({ vectorBytes: 16, registers: 16, fma: false });
    expect(cpuOf('')).toMatchObject({ vectorBytes: 16, features: [] });
  });

  it('has NEON on arm64, whatever is listed', () => {
    const cpu = describeCpu('arm64', 'a processor', new Set(['avx2']), CACHES);
    expect(cpu).toMatchObject({ vectorBytes: 16, registers: 32, fma: true, features: [] });
  });

  it('obeys TENGEN_VECTOR_BYTES, and refuses what is no width', () => {
    const narrow = cpuOf(ZEN4, { TENGEN_VECTOR_BYTES: '32' });
    expect(narrow).toMatchObject({ vectorBytes: 32, registers: 32 });
    expect(() => cpuOf(ZEN4, { TENGEN_VECTOR_BYTES: '24' })).toThrow("TENGEN_VECTOR_BYTES is '24'");
    expect(detectToolchain({ TENGEN_VECTOR_BYTES: 'x' })).toContain("TENGEN_VECTOR_BYTES is 'x'");
  });

  it('counts on what every processor of the machine has', () => {
    const text = 'processor\t: 0\nflags\t\t: avx avx2 fma\n\nprocessor\t: 1\nflags\t\t: avx fma\n';
    expect([...parseCpuinfo(text)]).toEqual(['avx', 'fma']);
    expect([...parseCpuinfo('Features : asimd')]).toEqual([]);
  });

  it('is found on this machine', () => {
    const { cpu, cacheBytes } = detectCpu({});
    expect(cpu).toContain(process.arch);
    expect(cacheBytes.l1).toBeGreaterThanOrEqual(8192);
    expect(cacheBytes.l2).toBeGreaterThanOrEqual(cacheBytes.l1);
  });
});

const found = findToolchain();
const missing = typeof found === 'string' ? found : undefined;

describe.skipIf(missing !== undefined)(`the compiler of this machine ${missing ?? ''}`, () => {
  it('is identified, with flags that it takes', () => {
    if (typeof found === 'string') throw new Error(found);
    expect(found.version).toMatch(/^\d+/);
    expect(found.target).toMatch(/-/);
    expect(found.flags).toContain('-ffp-contract=off');
    expect(found.flags).not.toContain('-march=native');
    expect(found.identity).toMatch(/^[0-9a-f]{64}$/);
    expect(detectToolchain(process.env)).toMatchObject({ identity: found.identity });
  });

  it('has another identity with other features', () => {
    if (typeof found === 'string') throw new Error(found);
    const fewer = detectToolchain(process.env, { ...found, features: [] });
    expect(fewer).toMatchObject({ features: [], compiler: found.compiler });
    expect(fewer).not.toMatchObject({ identity: found.identity });
  });

  it('loses the features that it refuses by name, and no others', () => {
    const folder = temporaryFolder();
    const old = fakeCompiler(folder, 'old', '');
    const picky = script(
      folder,
      'picky',
      `case " $* " in *" -mavx512f "*)
  echo "gcc: error: unrecognized option '-mavx512f'; did you mean '-mavx2'?" >&2; exit 1;; esac
exec ${old} "$@"`,
    );
    const cpu = cpuOf('avx avx2 fma avx512f avx512vl avx512dq avx512bw avx512_bf16');
    const toolchain = detectToolchain({ TENGEN_CC: picky }, cpu);
    expect(toolchain).toMatchObject({
      features: ['avx', 'fma', 'avx2', 'avx512bw', 'avx512dq', 'avx512vl', 'avx512bf16'],
    });
    // What follows from a refused feature is gone with it.
    if (process.arch === 'x64') expect(toolchain).toMatchObject({ vectorBytes: 32 });
  });
});

describe('looking for a compiler', () => {
  const folder = temporaryFolder();
  const good = fakeCompiler(folder, 'good', 'exit 0');
  const failing = script(folder, 'failing', 'echo "no license found" >&2; exit 3');
  const other = script(folder, 'other', 'echo "Some C 1.0"');
  const PATH = folder;

  it('takes TENGEN_CC before CC, and CC before the usual names', () => {
    fakeCompiler(folder, 'gcc', 'exit 0');
    const pick = (env: NodeJS.ProcessEnv) => {
      const toolchain = detectToolchain({ PATH, ...env });
      return typeof toolchain === 'string' ? toolchain : basename(toolchain.compiler);
    };
    expect(pick({ TENGEN_CC: good, CC: failing })).toBe('good');
    expect(pick({ CC: 'good' })).toBe('good');
    expect(pick({ CC: failing })).toBe('gcc');
    expect(pick({})).toBe('gcc');
  });

  it('passes on the arguments of a command', () => {
    const wrapper = script(folder, 'wrapper', 'shift; exec "$@"');
    expect(detectToolchain({ PATH, TENGEN_CC: `wrapper --quiet ${good}` })).toMatchObject({
      compiler: wrapper,
      leading: ['--quiet', good],
      version: '99.0',
    });
  });

  it('says in one line why there is none', () => {
    const reasonOf = (env: NodeJS.ProcessEnv): string => {
      const reason = detectToolchain(env);
      if (typeof reason !== 'string') throw new Error('found one');
      expect(reason).not.toContain('\n');
      return reason;
    };
    expect(reasonOf({ PATH: '/nonexistent' })).toContain('cc: not found; gcc: not found; clang');
    expect(reasonOf({ PATH, TENGEN_CC: 'nothing' })).toContain('(from TENGEN_CC): nothing: not');
    expect(reasonOf({ TENGEN_CC: failing })).toContain('exit status 3: no license found');
    expect(reasonOf({ TENGEN_CC: other })).toContain('neither gcc nor clang');
  });

  it('refuses a compiler for another machine', () => {
    const cross = script(
      folder,
      'cross',
      'echo "Target: mips-linux" >&2; echo "gcc version 1" >&2',
    );
    expect(detectToolchain({ TENGEN_CC: cross })).toContain('compiles for mips-linux');
  });

  it('does not run what lies in the current folder', () => {
    expect(detectToolchain({ PATH: `.:${folder}/../x` })).toContain('not found');
    expect(detectToolchain({ PATH: '.', TENGEN_CC: 'package.json' })).toContain('not found');
  });
});
