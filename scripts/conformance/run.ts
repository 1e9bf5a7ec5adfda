// Runs the ONNX operator tests: `npm run conformance -- DIR [options]`.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { progress } from '../../src/terminal.ts';
import { useDevice } from '../golden/framework.ts';
import { testFolders } from './folder.ts';
import { type Outcome, runFolder } from './runner.ts';

const USAGE = `Usage: npm run conformance -- DIR [options]

Runs every folder of ONNX operator tests (model.onnx, test_data_set_*/input_*.pb, output_*.pb),
compares outputs, types and shapes, and ends in "N passed, N failed, N skipped". Exit code 1 if any
failed.

  --device name         wasm (default), native or interp
  --only name           only this folder, with or without 'test_'
  --json                print the results as JSON instead of text
  --json-file FILE      write the results as JSON to a file
  --verbose             a line per folder
  --help                this text`;

class UsageError extends Error {
  override readonly name = 'UsageError';
}

interface Result {
  readonly name: string;
  readonly outcome: Outcome;
  readonly milliseconds: number;
}

function readOptions(args: readonly string[]) {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      device: { type: 'string' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
      'json-file': { type: 'string' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const [directory, ...rest] = positionals;
  if (directory === undefined) throw new UsageError('the folder of tests is missing');
  if (rest.length > 0) throw new UsageError(`one folder at a time, not also ${rest.join(' ')}`);
  return { directory, ...values };
}

function line({ name, outcome, milliseconds }: Result): string {
  switch (outcome.kind) {
    case 'passed':
      return `pass ${name}  ${milliseconds.toFixed(0)} ms`;
    case 'failed':
      return `FAIL ${name}  ${outcome.reason}`;
    case 'skipped':
      return `skip ${name}  ${outcome.reason}`;
    default:
      return outcome satisfies never;
  }
}

/** Names by reason, the most frequent first. */
function skipText(results: readonly Result[]): string {
  const byReason = new Map<string, string[]>();
  for (const { name, outcome } of results) {
    if (outcome.kind !== 'skipped') continue;
    const names = byReason.get(outcome.reason) ?? [];
    byReason.set(outcome.reason, [...names, name]);
  }
  return [...byReason]
    .sort(([, a], [, b]) => b.length - a.length)
    .map(([reason, names]) => `skipped, ${reason}: ${names.join(', ')}`)
    .join('\n');
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(USAGE);
    return 0;
  }
  const names = testFolders(options.directory, options.only);
  if (names.length === 0) throw new UsageError('no folder with a model fits these options');
  const device = useDevice(options.device, false);
  if (!options.json) console.log(device);
  const results: Result[] = [];
  const quiet = options.verbose || options.json;
  const bar = progress(names, {
    label: 'conformance',
    unit: 'folder',
    ...(quiet ? { stream: null } : {}),
  });
  for (const name of bar) {
    const start = performance.now();
    const outcome = await runFolder(options.directory, name);
    const result = { name, outcome, milliseconds: performance.now() - start };
    results.push(result);
    if (options.verbose && !options.json) console.log(line(result));
  }
  const count = (kind: Outcome['kind']): number =>
    results.filter(({ outcome }) => outcome.kind === kind).length;
  const totals = { passed: count('passed'), failed: count('failed'), skipped: count('skipped') };
  const report = JSON.stringify({ directory: options.directory, totals, results }, undefined, 2);
  const file = options['json-file'];
  if (file !== undefined) writeFileSync(file, `${report}\n`);
  if (options.json) console.log(report);
  else {
    if (!options.verbose) {
      for (const result of results) if (result.outcome.kind === 'failed') console.log(line(result));
    }
    console.log(skipText(results));
    console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
  }
  return totals.failed > 0 ? 1 : 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  // Mistakes in the command line or the folder; failures of tests never come here.
  console.error(`conformance: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
