// npm run bench: the project's workloads, alone or beside peers in alternating runs.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type AlgorithmOptions, setAlgorithms, setDefaultDevice } from 'tengen';
import { median, type Row } from './harness.ts';

const HELP = `npm run bench -- [options]

  --only W1,W4      workloads (all by default): W1 matrix products, W2 convolutions, W3 memory and
                    mathematics, W4 MNIST CNN training step, W5 inference of image networks (by
                    program files; "dynamic" builds the graph each time), W6 ResNet-18 training step,
                    W7 transformer: training step and forward, W9 peak memory of a ResNet-18 step at
                    batch 128, W10 first results of a new process
  --device NAME     native or wasm (the preferred one)
  --threads N       threads, ours and the peers' (2)
  --versus DIR      run the peers that are installed in DIR in turn with ours, print ratios
  --peers torch,... only these: torch, torch-omp (OMPBLAS names the folder of its OpenBLAS), torch-2.6,
                    ort-node, ort-web, tfjs, jax
  --strategies      algorithms by estimate (heuristic) and by measuring (profile) in turn, and what
                    measuring gains
  --rounds N        alternations with --versus or --strategies (3)
  --json FILE       write every row
  --help

Host overhead: npx tsx bench/host.ts. Data loader: npx tsx bench/loader.ts. Limits of this machine:
npx tsx bench/limits.ts.`;

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'W1,W2,W3,W4,W5,W6,W7,W9,W10' },
    threads: { type: 'string', default: '2' },
    device: { type: 'string', default: 'auto' },
    versus: { type: 'string' },
    peers: { type: 'string' },
    strategies: { type: 'boolean', default: false },
    strategy: { type: 'string', default: 'heuristic' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
    help: { type: 'boolean', default: false },
    'in-process': { type: 'boolean', default: false },
  },
});

const threads = Number(values.threads);
const wanted = values.only.split(',');

/** Each in a module of its own: loading one costs the others nothing. */
const WORKLOADS: Readonly<Record<string, () => Promise<Row[]>>> = {
  W1: async () => (await import('./matmul.ts')).benchMatmul(threads),
  W2: async () => (await import('./convolutions.ts')).benchConvolutions(threads),
  W3: async () => (await import('./memory.ts')).benchMemory(threads),
  W4: async () => (await import('./mnist-step.ts')).benchMnistStep(threads),
  W5: async () => (await import('./networks.ts')).benchInference(values.device, threads),
  W6: async () => (await import('./networks.ts')).benchResNetStep(threads),
  W7: async () => (await import('./text.ts')).benchText(threads),
  W9: async () => (await import('./cold.ts')).benchPeakMemory(values.device, threads),
  W10: async () => (await import('./cold.ts')).benchColdStart(values.device, threads),
};

/** Runs our workloads in this process; the parent reads one JSON row a line. */
async function runHere(): Promise<void> {
  setDefaultDevice(values.device);
  setAlgorithms({ strategy: strategyNamed(values.strategy) });
  for (const [name, bench] of Object.entries(WORKLOADS)) {
    if (!wanted.includes(name)) continue;
    for (const row of await bench()) console.log(JSON.stringify(row));
  }
}

/** Each program runs as a process of its own, so that no pool of threads disturbs another. */
function runProgram(
  command: string,
  args: readonly string[],
  cwd?: string,
  env: NodeJS.ProcessEnv = {},
): string[] {
  const result = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...env, TENGEN_THREADS: String(threads) },
    maxBuffer: 1 << 26,
  });
  if (result.status !== 0) {
    const reason = result.error?.message ?? result.stderr.trim().split('\n').at(-1) ?? 'no reason';
    console.error(`${command} ${args.join(' ')}: ${reason}`);
    return [];
  }
  return result.stdout.split('\n').filter((line) => line.startsWith('{'));
}

type Strategy = NonNullable<AlgorithmOptions['strategy']>;

function strategyNamed(name: string): Strategy {
  if (name === 'heuristic' || name === 'profile') return name;
  throw new Error(`--strategy: ${name} is neither heuristic nor profile`);
}

function ours(strategy: Strategy = strategyNamed(values.strategy)): Row[] {
  const script = fileURLToPath(import.meta.url);
  const args = ['--import', 'tsx', script, '--in-process', '--only', values.only];
  args.push('--strategy', strategy);
  args.push('--device', values.device);
  const lines = runProgram(process.execPath, [...args, '--threads', String(threads)]);
  return lines.map((line) => JSON.parse(line) as Row);
}

interface PeerLine {
  readonly peer: string;
  readonly workload: string;
  readonly threads: number;
  readonly median_ms?: number;
  readonly min_ms?: number;
  readonly gflops?: number;
  readonly n?: number;
  readonly peak_rss_mb?: number;
}

/** A program that prints the same workloads as JSON lines. */
interface Peer {
  /** What must be there for it, relative to the folder of peers. */
  readonly needs: string;
  readonly command: readonly [string, ...string[]];
  readonly env?: NodeJS.ProcessEnv;
}

function knownPeers(): Readonly<Record<string, Peer>> {
  const work = [String(threads), values.only] as const;
  const node = process.execPath;
  const openBlas = process.env['OMPBLAS'] ?? '';
  return {
    torch: { needs: 'torch_bench.py', command: ['/usr/bin/python3', 'torch_bench.py', ...work] },
    'torch-omp': {
      needs: openBlas === '' ? 'no folder given' : openBlas,
      command: ['/usr/bin/python3', 'torch_bench.py', ...work],
      env: { LD_LIBRARY_PATH: openBlas, PEER_SUFFIX: '+ompblas' },
    },
    'torch-2.6': { needs: 'debian13', command: ['bash', 'torch26.sh', ...work] },
    'ort-node': {
      needs: 'node_modules/onnxruntime-node',
      command: [node, 'ort.mjs', ...work, 'node'],
    },
    'ort-web': {
      needs: 'node_modules/onnxruntime-web',
      command: [node, 'ort.mjs', ...work, 'web'],
    },
    // Its backend has one thread in Node.
    tfjs: {
      needs: 'node_modules/@tensorflow/tfjs-backend-wasm',
      command: [node, 'tfjs.mjs', '1', values.only, 'wasm'],
    },
    jax: { needs: 'node_modules/@jax-js/jax', command: [node, 'jax.mjs', ...work] },
  };
}

function chosenPeers(directory: string): Peer[] {
  const known = knownPeers();
  for (const name of values.peers?.split(',') ?? []) {
    if (known[name] === undefined) {
      throw new Error(`--peers: ${name} is none of ${Object.keys(known).join(', ')}`);
    }
  }
  const names = values.peers?.split(',') ?? Object.keys(known);
  return names
    .map((name) => known[name] as Peer)
    .filter(({ needs }) => existsSync(resolve(directory, needs)));
}

function peers(directory: string): Row[] {
  const lines = chosenPeers(directory).flatMap(({ command: [program, ...args], env }) =>
    runProgram(program, args, directory, env),
  );
  return lines
    .map((line) => JSON.parse(line) as PeerLine)
    .filter((line) => line.median_ms !== undefined)
    .map((line) => ({
      workload: line.workload,
      peer: line.peer,
      threads: line.threads,
      medianMs: line.median_ms ?? NaN,
      minMs: line.min_ms ?? NaN,
      runs: line.n ?? 0,
      ...(line.gflops === undefined ? {} : { gflops: line.gflops }),
      ...(line.peak_rss_mb === undefined || !line.workload.startsWith('W9')
        ? {}
        : { peakRssMb: line.peak_rss_mb }),
    }));
}

/** One line per workload and peer: median of the rounds' medians, and our time over theirs. */
function report(rows: readonly Row[]): void {
  const names = [...new Set(rows.map((row) => row.workload))];
  for (const workload of names) {
    const of = (peer: string): Row[] =>
      rows.filter((row) => row.workload === workload && row.peer === peer);
    const mine = median(of('tengen').map((row) => row.medianMs));
    for (const peer of new Set(
      rows.filter((row) => row.workload === workload).map((r) => r.peer),
    )) {
      const own = of(peer);
      const ms = median(own.map((row) => row.medianMs));
      const gflops =
        own[0]?.gflops === undefined
          ? ''
          : `${((own[0].gflops * own[0].medianMs) / ms).toFixed(1)} GFLOP/s`;
      const ratio = peer === 'tengen' ? '' : `tengen takes ${(mine / ms).toFixed(2)} x its time`;
      const memory = own[0]?.peakRssMb;
      const peak = memory === undefined ? '' : `peak ${memory.toFixed(0)} MB`;
      const notes = [gflops.padEnd(16), ratio, peak, own[0]?.notes ?? ''].join(' ').trimEnd();
      console.log(
        `${workload.padEnd(26)} ${peer.padEnd(18)} ${ms.toFixed(2).padStart(9)} ms  ${notes}`,
      );
    }
  }
}

/**
 * Both strategies in turn: which of them begins changes, and what was measured is kept on disk, so
 * that only the first round measures. A workload's time is the median of its rounds' medians; its
 * scatter, the largest of those over the least, says which differences mean something.
 */
function compareStrategies(rounds: number): Row[] {
  const rows: Record<Strategy, Row[]> = { heuristic: [], profile: [] };
  for (let round = 0; round < rounds; round++) {
    const order: Strategy[] = round % 2 === 0 ? ['heuristic', 'profile'] : ['profile', 'heuristic'];
    for (const strategy of order) rows[strategy].push(...ours(strategy));
  }
  console.log('| workload | heuristic, ms | profile, ms | profile / heuristic | scatter |');
  console.log('| --- | ---: | ---: | ---: | ---: |');
  for (const workload of new Set(rows.heuristic.map((row) => row.workload))) {
    const times = (strategy: Strategy): number[] =>
      rows[strategy].filter((row) => row.workload === workload).map(({ medianMs }) => medianMs);
    const [before, after] = [times('heuristic'), times('profile')];
    const scatter = Math.max(...[before, after].map((ms) => Math.max(...ms) / Math.min(...ms)));
    const [a, b] = [median(before), median(after)];
    const cells = [workload, a.toPrecision(3), b.toPrecision(3), (b / a).toFixed(2)];
    console.log(`| ${[...cells, scatter.toFixed(2)].join(' | ')} |`);
  }
  return Object.entries(rows).flatMap(([notes, list]) => list.map((row) => ({ ...row, notes })));
}

if (values.help) console.log(HELP);
else if (values['in-process']) await runHere();
else if (values.strategies) {
  const rows = compareStrategies(Number(values.rounds));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
} else {
  const rows: Row[] = [];
  const rounds = values.versus === undefined ? 1 : Number(values.rounds);
  for (let round = 0; round < rounds; round++) {
    rows.push(...ours());
    if (values.versus !== undefined) rows.push(...peers(resolve(values.versus)));
  }
  report(rows);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
}
