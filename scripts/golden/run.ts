// Checks Tengen against golden vectors: `npm run golden -- DIR [options]`.

import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { progress } from '../../src/terminal.ts';
import { adapterOf } from './adapters.ts';
import { takeBits } from './compare.ts';
import { useDevice } from './framework.ts';
import { loadCases } from './manifest.ts';
import type { GoldenCase } from './manifest.ts';
import { familyTable, failuresText, skipText, summaryLine, totalsOf } from './report.ts';
import type { CaseResult } from './report.ts';
import { runCase } from './runner.ts';

const USAGE = `Usage: npm run golden -- DIR [options]

Runs every case of a folder of golden vectors (index.json, <family>.jsonl and .safetensors),
compares outputs and gradients, and ends in "N passed, N failed, N skipped". Exit code 1 if any
case failed.

  --family f,...        only these families
  --op name             only this op
  --id id               only this case, as conv2d/3
  --device name         wasm (default), native or interp
  --strict              strict numerics, and at the end a hash of all bits: the same on every device
  --json FILE           write the results as JSON
  --verbose             a line per case
  --help                this text`;

interface Options {
  readonly directory: string;
  readonly families: readonly string[] | undefined;
  readonly op: string | undefined;
  readonly id: string | undefined;
  readonly device: string | undefined;
  readonly strict: boolean;
  readonly json: string | undefined;
  readonly verbose: boolean;
}

class UsageError extends Error {
  override readonly name = 'UsageError';
}

function readOptions(args: readonly string[]): Options | 'help' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      family: { type: 'string' },
      op: { type: 'string' },
      id: { type: 'string' },
      device: { type: 'string' },
      strict: { type: 'boolean', default: false },
      json: { type: 'string' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const [directory, ...rest] = positionals;
  if (directory === undefined) throw new UsageError('the folder of golden vectors is missing');
  if (rest.length > 0) throw new UsageError(`one folder at a time, not also ${rest.join(' ')}`);
  return {
    directory,
    families: values.family?.split(',').filter((name) => name !== ''),
    op: values.op,
    id: values.id,
    device: values.device,
    strict: values.strict,
    json: values.json,
    verbose: values.verbose,
  };
}

function selectCases(options: Options): GoldenCase[] {
  const cases = loadCases(options.directory, options.families);
  const selected = cases.filter(
    ({ op, id }) => (options.op ?? op) === op && (options.id ?? id) === id,
  );
  if (selected.length === 0) throw new UsageError('no case fits these options');
  return selected;
}

async function runAll(cases: readonly GoldenCase[], verbose: boolean): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  // With a line per case on standard output a bar would only be in the way.
  const bar = progress(cases, {
    label: 'golden',
    unit: 'case',
    ...(verbose ? { stream: null } : {}),
  });
  for (const goldenCase of bar) {
    const start = performance.now();
    const outcome = await runCase(goldenCase, adapterOf(goldenCase.op), adapterOf);
    const { id, family, op, attrs } = goldenCase;
    const milliseconds = performance.now() - start;
    const result = { id, family, op, attrs, outcome, milliseconds, bits: takeBits() };
    results.push(result);
    if (verbose) console.log(verboseLine(result));
    bar.set({ failed: totalsOf(results).failed });
  }
  return results;
}

function verboseLine({ id, outcome, milliseconds, bits }: CaseResult): string {
  const time = `${milliseconds.toFixed(0)} ms`;
  switch (outcome.kind) {
    case 'passed':
      return `pass ${id}  ${outcome.maxRatio.toFixed(3)} of what is allowed, bits ${bits}, ${time}`;
    case 'skipped':
      return `skip ${id}  ${outcome.reason}`;
    case 'failed':
      return `FAIL ${id}  ${outcome.problems.join('; ')}`;
    default:
      return outcome satisfies never;
  }
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(USAGE);
    return 0;
  }
  const cases = selectCases(options);
  console.log(useDevice(options.device, options.strict));
  const results = await runAll(cases, options.verbose);
  for (const text of [failuresText(results), skipText(results)]) {
    if (text !== '') console.log(`\n${text}`);
  }
  console.log(`\n${familyTable(results)}\n`);
  if (options.json !== undefined) {
    const report = { directory: options.directory, totals: totalsOf(results), results };
    writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  if (options.strict) {
    const bits = createHash('sha256').update(results.map((result) => result.bits).join());
    console.log(`bits of all results: ${bits.digest('hex').slice(0, 16)}`);
  }
  console.log(summaryLine(results));
  return totalsOf(results).failed > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // Mistakes in the command line or the folder; failures of cases never come here.
  console.error(error instanceof Error ? `golden: ${error.message}` : error);
  console.error('\nnpm run golden -- --help shows the options.');
  process.exitCode = 2;
}
