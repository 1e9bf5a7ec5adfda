// W9: peak memory of a training step of ResNet-18 at batch 128. W10: from the start of a process to
// its first result, and to its first training step, with an empty and with a filled kernel cache.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, type Row, rowOf } from './harness.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CHILD = fileURLToPath(new URL('cold-child.mjs', import.meta.url));

interface Figures {
  readonly times: readonly number[];
  readonly peakRssMb: number;
  /** From the start of the process to its end. */
  readonly processMs: number;
}

function run(what: string, device: string, threads: number, cache: string): Figures {
  const start = performance.now();
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [CHILD, what, device, String(threads)],
    { cwd: ROOT, encoding: 'utf8', env: { ...process.env, TENGEN_CACHE: cache } },
  );
  if (status !== 0) throw new Error(`${what} on ${device}: ${stderr}`);
  const processMs = performance.now() - start;
  return { ...(JSON.parse(stdout) as Omit<Figures, 'processMs'>), processMs };
}

/** Runs `body` with a kernel cache of its own. */
function withCache<T>(body: (cache: string) => T): T {
  const cache = mkdtempSync(join(tmpdir(), 'tengen-cold-'));
  try {
    return body(cache);
  } finally {
    rmSync(cache, { recursive: true, force: true });
  }
}

function build(): void {
  const { status, stderr } = spawnSync('npm', ['run', 'build', '--silent'], { cwd: ROOT });
  if (status !== 0) throw new Error(`the package does not build: ${String(stderr)}`);
}

export function benchPeakMemory(device: string, threads: number): Row[] {
  build();
  const { times, peakRssMb } = withCache((cache) => run('memory', device, threads, cache));
  const row = rowOf('W9 resnet18-cifar train b128 memory', threads, times.slice(1));
  return [{ ...row, peakRssMb }];
}

export function benchColdStart(device: string, threads: number): Row[] {
  build();
  const cold = Array.from({ length: 5 }, () =>
    withCache((cache) => run('lenet', device, threads, cache).processMs),
  );
  const rows = [rowOf('W10 cold start lenet', threads, cold)];
  withCache((cache) => {
    const warm = Array.from({ length: 8 }, () => run('lenet', device, threads, cache).processMs);
    rows.push(rowOf('W10 cold start lenet, kernels cached', threads, warm.slice(1)));
  });
  for (const what of ['mnist', 'resnet']) {
    withCache((cache) => {
      for (const state of ['no kernels cached', 'kernels cached']) {
        const { times } = run(what, device, threads, cache);
        const [first = NaN] = times;
        // Steps 2 and 3 may compile what step 1 learned.
        const steady = median(times.slice(3));
        const row = rowOf(`W10 first step ${what}, ${state}`, threads, [first]);
        rows.push({ ...row, notes: `steady step ${steady.toFixed(1)} ms` });
      }
    });
  }
  return rows;
}
