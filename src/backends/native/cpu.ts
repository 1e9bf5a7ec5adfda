// What this processor can do: instruction sets, caches, and the width of vectors to use.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { ArgumentError } from '../../base/errors.ts';

export interface Cpu {
  /** Name and architecture, for people. */
  readonly cpu: string;
  /** Instruction sets as the compiler calls them: `avx2` for `-mavx2`. Empty on arm64. */
  readonly features: readonly string[];
  /** Bytes of the vectors that kernels should use. */
  readonly vectorBytes: 16 | 32 | 64;
  /** Vector registers. */
  readonly registers: 16 | 32;
  /** Whether there is a fused multiply-add instruction. */
  readonly fma: boolean;
  readonly cacheBytes: { readonly l1: number; readonly l2: number; readonly l3: number };
}

/** Compiler's name -> Linux's name. Only what a kernel could use: each flag is one more to probe. */
const X86_FEATURES: Readonly<Record<string, string>> = {
  sse3: 'pni',
  ssse3: 'ssse3',
  'sse4.1': 'sse4_1',
  'sse4.2': 'sse4_2',
  popcnt: 'popcnt',
  avx: 'avx',
  f16c: 'f16c',
  fma: 'fma',
  avx2: 'avx2',
  bmi: 'bmi1',
  bmi2: 'bmi2',
  lzcnt: 'abm',
  avxvnni: 'avx_vnni',
  avx512f: 'avx512f',
  avx512cd: 'avx512cd',
  avx512bw: 'avx512bw',
  avx512dq: 'avx512dq',
  avx512vl: 'avx512vl',
  avx512vbmi: 'avx512vbmi',
  avx512vnni: 'avx512_vnni',
  avx512bf16: 'avx512_bf16',
  avx512fp16: 'avx512_fp16',
  'amx-tile': 'amx_tile',
  'amx-int8': 'amx_int8',
  'amx-bf16': 'amx_bf16',
};

/** macOS has other names for the same bits; Intel Macs end at AVX-512. */
const DARWIN_NAMES: Readonly<Record<string, string>> = {
  pni: 'sse3',
  sse4_1: 'sse4.1',
  sse4_2: 'sse4.2',
  avx: 'avx1.0',
  abm: 'lzcnt',
  avx512_vnni: 'avx512vnni',
  avx512_bf16: 'avx512bf16',
};

const CPU_FOLDER = '/sys/devices/system/cpu/cpu0/cache';
const DEFAULT_CACHES = { l1: 32 * 1024, l2: 512 * 1024, l3: 4 * 1024 * 1024 };

/**
 * Reads the processor's description.
 *
 * Linux's list is CPUID less what the kernel does not save on a task switch, so every feature in it
 * may be used; reading it needs no compiler and no child process.
 *
 * @throws ArgumentError if TENGEN_VECTOR_BYTES is none of 16, 32 and 64.
 */
export function detectCpu(env: NodeJS.ProcessEnv = process.env): Cpu {
  return describeCpu(process.arch, cpus()[0]?.model ?? 'unknown', readFlags(), readCaches(), env);
}

/** The same from given facts: `flags` are named as in /proc/cpuinfo. */
export function describeCpu(
  arch: string,
  model: string,
  flags: ReadonlySet<string>,
  cacheBytes: Cpu['cacheBytes'],
  env: NodeJS.ProcessEnv = {},
): Cpu {
  const features =
    arch === 'x64'
      ? Object.keys(X86_FEATURES).filter((name) => flags.has(X86_FEATURES[name] ?? name))
      : [];
  return { cpu: `${model.trim()} (${arch})`, ...vectorsOf(arch, features, env), cacheBytes };
}

/** What follows from the instruction sets that processor and compiler have in common. */
export function vectorsOf(
  arch: string,
  features: readonly string[],
  env: NodeJS.ProcessEnv,
): Pick<Cpu, 'features' | 'vectorBytes' | 'registers' | 'fma'> {
  const has = (...names: string[]): boolean => names.every((name) => features.includes(name));
  const wide = has('avx512f', 'avx512vl', 'avx512dq', 'avx512bw');
  // A 512-bit unit of two halves (Zen 4) has the same peak at both widths: 64 bytes are half the code.
  const width = wide ? 64 : has('avx2', 'fma') ? 32 : 16;
  return {
    features,
    vectorBytes: vectorBytesOf(env) ?? width,
    registers: wide || arch === 'arm64' ? 32 : 16,
    fma: has('fma') || arch === 'arm64',
  };
}

function vectorBytesOf(env: NodeJS.ProcessEnv): 16 | 32 | 64 | undefined {
  const text = env['TENGEN_VECTOR_BYTES'];
  if (text === undefined || text === '') return undefined;
  const bytes = Number(text);
  if (bytes === 16 || bytes === 32 || bytes === 64) return bytes;
  throw new ArgumentError(`TENGEN_VECTOR_BYTES is '${text}'`, {
    op: 'native',
    hint: 'use 16, 32 or 64, or leave it away',
  });
}

function readFlags(): ReadonlySet<string> {
  if (process.arch !== 'x64') return new Set();
  try {
    if (process.platform === 'linux') return parseCpuinfo(readFileSync('/proc/cpuinfo', 'utf8'));
    if (process.platform === 'darwin') return readDarwinFlags();
  } catch {
    // Without a list the baseline of the architecture is left.
  }
  return new Set();
}

/** Features of every processor listed: cores of one machine may differ. */
export function parseCpuinfo(text: string): ReadonlySet<string> {
  let common: Set<string> | undefined;
  for (const [, list] of text.matchAll(/^flags\s*:(.*)$/gm)) {
    const flags = new Set((list ?? '').trim().split(/\s+/));
    common = common === undefined ? flags : new Set([...common].filter((name) => flags.has(name)));
  }
  return common ?? new Set();
}

function readDarwinFlags(): ReadonlySet<string> {
  const names = ['machdep.cpu.features', 'machdep.cpu.leaf7_features', 'machdep.cpu.extfeatures'];
  const text = execFileSync('/usr/sbin/sysctl', ['-n', ...names], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    timeout: 5000,
  });
  const found = new Set(text.toLowerCase().split(/\s+/));
  return new Set(
    Object.values(X86_FEATURES).filter((name) => found.has(DARWIN_NAMES[name] ?? name)),
  );
}

/** Sizes from Linux's sysfs; careful guesses elsewhere. */
function readCaches(): Cpu['cacheBytes'] {
  const sizes: { l1: number; l2: number; l3: number } = { ...DEFAULT_CACHES };
  try {
    for (const name of readdirSync(CPU_FOLDER)) {
      if (!/^index\d+$/.test(name)) continue;
      const read = (file: string): string =>
        readFileSync(`${CPU_FOLDER}/${name}/${file}`, 'utf8').trim();
      const bytes = parseSize(read('size'));
      if (bytes === undefined || read('type') === 'Instruction') continue;
      const level = read('level');
      if (level === '1') sizes.l1 = bytes;
      else if (level === '2') sizes.l2 = bytes;
      else if (level === '3') sizes.l3 = bytes;
    }
  } catch {
    // No sysfs: a container without /sys, or another system.
  }
  return sizes;
}

function parseSize(text: string): number | undefined {
  const match = /^(\d+)([KM]?)$/.exec(text);
  if (match === null) return undefined;
  const unit = match[2] === 'M' ? 1024 * 1024 : match[2] === 'K' ? 1024 : 1;
  return Number(match[1]) * unit;
}
