// Experiment 4 in Node: what waking the pool and meeting in a barrier cost, alone and beside a
// process that keeps one core busy.
//   npx tsx scripts/experiments/pool.ts          (prints JSON lines)
import { spawn } from 'node:child_process';
import { measurePool } from './pool-measure.ts';

/** Keeps one core busy while `work` runs. */
export async function besideBusyProcess<T>(work: () => Promise<T>): Promise<T> {
  const other = spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
  try {
    return await work();
  } finally {
    other.kill('SIGKILL');
  }
}

export function print(records: readonly object[]): void {
  for (const record of records) console.log(JSON.stringify(record));
}

if (process.argv[1]?.endsWith('pool.ts') === true) {
  print(await measurePool('node', 'nothing'));
  print(await besideBusyProcess(() => measurePool('node', 'one process')));
}
