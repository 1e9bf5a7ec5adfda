#!/usr/bin/env node
// The command `tengen`: what this machine computes with, and what is cached for it.
import { cacheReport, clearCache, nativeBackend } from './backends/native/index.ts';
import { wasmBackend } from './backends/wasm/index.ts';
import { clearMeasuredAlgorithms, env, measuredAlgorithms } from './interface/transform/index.ts';
import { algorithmFile } from './interface/transform/algorithm-file.ts';
import { installAlgorithmFile } from './interface/transform/algorithm-store.ts';
import { installEvaluator } from './interface/transform/install.ts';
import { table } from './interface/terminal/index.ts';
import { registerBackend } from './runtime/registry.ts';

const HELP = `tengen COMMAND [options]

  env             devices of this machine, which one is used, and why others are not
  cache           compiled kernels and programs, measured algorithms: where, how many, how large
  cache list      every measured algorithm with the times of all that were tried
  cache clear     removes all; they are made again when they are needed

  --json          as JSON
  --help          this text

Exit codes: 0, or 2 for a call that cannot be understood.`;

registerBackend(wasmBackend);
registerBackend(nativeBackend);
installEvaluator();
installAlgorithmFile(algorithmFile());

function showEnvironment(json: boolean): void {
  const environment = env();
  if (json) {
    console.log(JSON.stringify(environment, null, 2));
    return;
  }
  const { device, threads, threadsReason, numerics, devices } = environment;
  console.log(`device ${device}, ${threads} threads (${threadsReason}), ${numerics} numerics`);
  for (const { name, unavailable } of devices) {
    console.log(`  ${name.padEnd(8)} ${unavailable === null ? 'can be used' : unavailable}`);
  }
}

function showCache(json: boolean, list: boolean): void {
  const report = cacheReport();
  const algorithms = measuredAlgorithms();
  if (json) {
    console.log(JSON.stringify({ ...report, algorithms }, null, 2));
    return;
  }
  const { path, libraries, kernels, programs, bytes } = report;
  const size = `${(bytes / 1e6).toFixed(1)} MB`;
  console.log(
    `${path}: ${kernels} kernels in ${libraries} libraries, ${programs} programs, ${size}`,
  );
  console.log(`${algorithms.length} measured algorithms`);
  if (!list || algorithms.length === 0) return;
  const rows = algorithms.map(({ device, operation, times }) => [
    operation,
    times.map(([schedule, ms]) => `${schedule} ${ms.toFixed(3)} ms`).join(', '),
    device,
  ]);
  console.log(table(rows, { head: ['operation', 'schedules, the fastest first', 'device'] }));
}

function run(words: readonly string[]): void {
  const options = new Set(words.filter((word) => word.startsWith('--')));
  const [command, argument, ...rest] = words.filter((word) => !word.startsWith('--'));
  const unknown = [...options].filter((option) => option !== '--json' && option !== '--help');
  const json = options.has('--json');
  if (options.has('--help') || command === undefined || command === 'help') console.log(HELP);
  else if (unknown.length > 0 || rest.length > 0) refuse(words);
  else if (command === 'env' && argument === undefined) showEnvironment(json);
  else if (command === 'cache' && argument === undefined) showCache(json, false);
  else if (command === 'cache' && argument === 'list') showCache(json, true);
  else if (command === 'cache' && argument === 'clear') {
    clearMeasuredAlgorithms();
    const { path, libraries } = clearCache();
    console.log(
      json ? JSON.stringify({ path, libraries }) : `removed ${path}: ${libraries} libraries`,
    );
  } else refuse(words);
}

function refuse(words: readonly string[]): void {
  console.error(`tengen: '${words.join(' ')}' is not a command\n\n${HELP}`);
  process.exitCode = 2;
}

run(process.argv.slice(2));
