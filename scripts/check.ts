// `npm run check`: everything a commit must pass, in under two minutes on two cores. Quick parts run
// first, one by one; then types and size beside the tests. Output is shown for reports and failures.
// `--static` leaves the tests out, for continuous integration, which runs all of them by themselves.
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { root } from './entries.ts';

interface Part {
  name: string;
  command: string;
  /** Print the output even when the part passes. */
  report?: boolean;
}

interface Result {
  part: Part;
  passed: boolean;
  seconds: number;
  output: string;
}

const BUDGET_SECONDS = 120;

const quick: Part[] = [
  { name: 'format', command: 'oxfmt --check' },
  { name: 'lint', command: 'oxlint --deny-warnings' },
  { name: 'architecture', command: 'vitest run test/architecture.test.ts' },
  { name: 'lines', command: 'tsx scripts/lines.ts', report: true },
];

/** Two lanes for two cores; the second holds what is long together. */
const lanes: Part[][] = [
  [
    {
      name: 'tests',
      command: "vitest run --exclude 'test/**/*.slow.test.ts' --exclude test/architecture.test.ts",
    },
  ],
  [
    { name: 'types', command: 'tsc -p tsconfig.json' },
    { name: 'size', command: 'tsx scripts/size.ts', report: true },
  ],
];

const seconds = (since: number): number => (performance.now() - since) / 1000;

function runPart(part: Part): Promise<Result> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(part.command, {
      cwd: root,
      shell: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PATH: `${root}node_modules/.bin:${process.env['PATH']}` },
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      const result = { part, passed: code === 0, seconds: seconds(start), output };
      show(result);
      resolve(result);
    });
  });
}

function show({ part, passed, seconds, output }: Result): void {
  const verdict = passed ? 'ok    ' : 'FAILED';
  console.log(`${verdict} ${part.name.padEnd(13)} ${seconds.toFixed(1).padStart(6)} s`);
  if (!passed || part.report === true) console.log(output.replace(/^/gm, '    ').trimEnd());
}

async function runLane(parts: Part[]): Promise<Result[]> {
  const results: Result[] = [];
  for (const part of parts) results.push(await runPart(part));
  return results;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { static: { type: 'boolean', default: false } } });
  const wanted = ({ command }: Part): boolean => !values.static || !command.startsWith('vitest');
  const start = performance.now();
  const results = await runLane(quick.filter(wanted));
  results.push(...(await Promise.all(lanes.map((lane) => runLane(lane.filter(wanted))))).flat());
  const failed = results.filter((result) => !result.passed).map((result) => result.part.name);
  const total = seconds(start);
  if (total > BUDGET_SECONDS) {
    console.log(`warning: ${total.toFixed(0)} s, over the budget of ${BUDGET_SECONDS} s`);
  }
  const verdict = failed.length === 0 ? 'all passed' : `FAILED: ${failed.join(', ')}`;
  console.log(`check: ${verdict}, ${total.toFixed(1)} s`);
  if (failed.length > 0) process.exitCode = 1;
}

await main();
