import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { KernelLibrary, type LoadedKernels } from './kernel-library.ts';
import { open, koffiRaw } from './foreign.ts';
import { RUNTIME_SOURCE } from './runtime-source.ts';
import { C_FLAGS } from './renderer.ts';
import type { Kernel } from '../../ir/kernel.ts';

export interface NativeHost {
  readonly cpu: {
    vectorBytes: number;
    vectorRegisters: number;
    fma: boolean;
    cacheBytes: { l1: number; l2: number };
  };
  start(threads: number): number;
  kernels(kernels: readonly Kernel[]): LoadedKernels;
  run(address: number): void;
  submit(address: number): number;
  done(ticket: number): boolean;
  wait(ticket: number): void;
  waitAsync(ticket: number): Promise<void>;
}
export function nativeUnavailable(): string | null {
  return null;
}
let host: NativeHost | null = null;
const flags = readFileSync('/proc/cpuinfo', 'utf8');
const MF = ['sse4_1', 'avx2', 'fma', 'avx512f', 'avx512vl', 'avx512dq', 'avx512bw']
  .filter((n) => new RegExp(`\\b${n}\\b`).test(flags))
  .map((n) => `-m${n.replace('_', '.')}`);
function compileUnit(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'tn-'));
  writeFileSync(join(folder, 'k.c'), source);
  execFileSync('cc', [
    ...C_FLAGS,
    ...(process.env['TN_O']?.split(' ') ?? []),
    ...MF,
    '-shared',
    '-fPIC',
    '-pthread',
    join(folder, 'k.c'),
    '-o',
    join(folder, 'k.so'),
  ]);
  return join(folder, 'k.so');
}
export function nativeHost(): NativeHost {
  if (host) return host;
  const lib = open(compileUnit(RUNTIME_SOURCE));
  const run = lib.func('tengen_run', 'int', ['uintptr_t']);
  const submit = lib.func('tengen_submit', 'uint32', ['uintptr_t']);
  const done = lib.func('tengen_done', 'int', ['uint32']);
  const wait = lib.func('tengen_wait', 'int', ['uint32']);
  const start = lib.func('tengen_start', 'int', ['int']);
  const library = new KernelLibrary(
    (units) =>
      units.map((u) => {
        const l = open(compileUnit(u));
        return { address: (n: string) => Number(koffiRaw.address(l.symbol(n, 'void'))) };
      }),
    2,
  );
  const vb = Number(process.env['TN_VB'] ?? 64);
  host = {
    cpu: {
      vectorBytes: vb,
      vectorRegisters: vb === 64 ? 32 : 16,
      fma: true,
      cacheBytes: { l1: 32768, l2: 1 << 20 },
    },
    start: (t) => start(t),
    kernels: (k) => library.load(k),
    run: (a) => {
      run(a);
    },
    submit: (a) => submit(a),
    done: (t) => done(t) !== 0,
    wait: (t) => {
      wait(t);
    },
    waitAsync: (t) =>
      new Promise((res, rej) => wait.async(t, (e: unknown) => (e ? rej(e) : res()))),
  };
  return host;
}
