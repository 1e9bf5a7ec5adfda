// Runs compilers: several at a time, with a time limit, from code that waits and code that does not.
import { spawnSync, type SpawnSyncOptionsWithStringEncoding } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { CompileError } from '../../base/errors.ts';

/** One call of a compiler. */
export interface Job {
  readonly compiler: string;
  readonly args: readonly string[];
  /** Where it runs; its own temporary files go there too. */
  readonly folder: string;
}

export interface JobResult {
  /** Exit status; -1 if it did not start or was stopped. */
  readonly status: number;
  /** Its messages, or why it did not start. */
  readonly text: string;
}

/** A kernel takes a tenth of a second: this long means that the compiler hangs. */
export const BUILD_TIMEOUT_MS = 60_000;
/** Beyond the compilers' own limit, for the thread that starts them. */
const GRACE_MS = 10_000;

/** How many compilers run at a time. */
export function buildParallelism(): number {
  return availableParallelism();
}

/**
 * Body of an async function of (spawn, jobs, parallel, timeout). As text, because a thread runs it:
 * a function's source would drag in helpers that bundlers put around it. Compilers get a process
 * group of their own, so that the time limit ends their children too.
 */
const RUN_JOBS = `
const results = [];
let next = 0;
const runOne = (job) => new Promise((resolve) => {
  let text = '';
  let late = false;
  let timer;
  const done = (status, reason) => {
    clearTimeout(timer);
    resolve({ status: late || status === null ? -1 : status, text: reason + text });
  };
  const child = spawn(job.compiler, job.args, {
    cwd: job.folder,
    env: { ...process.env, TMPDIR: job.folder, LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  timer = setTimeout(() => {
    late = true;
    try { process.kill(-child.pid, 'SIGKILL'); } catch {}
    child.stderr.destroy();
    done(-1, 'stopped: no answer within ' + timeout / 1000 + ' s\\n');
  }, timeout);
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (part) => { if (text.length < 100000) text += part; });
  child.on('error', (error) => done(-1, error.message + '\\n'));
  child.on('close', (status, signal) => done(status, signal ? 'ended by ' + signal + '\\n' : ''));
});
const lane = async () => {
  while (next < jobs.length) {
    const index = next++;
    results[index] = await runOne(jobs[index]);
  }
};
await Promise.all(Array.from({ length: Math.min(parallel, jobs.length) }, lane));
return results;
`;

/** What the thread runs: the jobs, then a message, then a wake-up for the thread that waits. */
const WORKER = `
const { workerData } = require('node:worker_threads');
const { spawn } = require('node:child_process');
const { jobs, parallel, timeout, port, flag } = workerData;
(async () => {${RUN_JOBS}})().then(
  (results) => port.postMessage({ results }),
  (error) => port.postMessage({ failure: String(error) }),
).finally(() => {
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
});
`;

interface Reply {
  readonly results?: readonly JobResult[];
  readonly failure?: string;
}

export interface BuildOptions {
  readonly parallel: number;
  readonly timeoutMs: number;
}

/** Runs the jobs and waits for them: a thread starts them, and this one sleeps. */
export function runJobsSync(jobs: readonly Job[], options: BuildOptions): readonly JobResult[] {
  const [first] = jobs;
  if (first === undefined) return [];
  // One alone needs no thread, whose start costs as much as a small kernel.
  if (jobs.length === 1) return [runJobSync(first, options.timeoutMs)];
  const { worker, port, flag } = startWorker(jobs, options);
  const rounds = Math.ceil(jobs.length / options.parallel);
  Atomics.wait(flag, 0, 0, rounds * options.timeoutMs + GRACE_MS);
  const message = receiveMessageOnPort(port);
  void worker.terminate();
  port.close();
  return resultsOf(message === undefined ? {} : (message.message as Reply));
}

function runJobSync({ compiler, args, folder }: Job, timeoutMs: number): JobResult {
  const options: SpawnSyncOptionsWithStringEncoding & { detached: boolean } = {
    cwd: folder,
    env: { ...process.env, TMPDIR: folder, LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 10_000_000,
    // A process group of its own, as in RUN_JOBS.
    detached: true,
  };
  const { pid, status, signal, error, stderr } = spawnSync(compiler, args, options);
  if (error === undefined) {
    return {
      status: status ?? -1,
      text: signal === null ? stderr : `ended by ${signal}\n${stderr}`,
    };
  }
  if (!('code' in error) || error.code !== 'ETIMEDOUT') {
    return { status: -1, text: `${error.message}\n${stderr ?? ''}` };
  }
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // All of them have ended already.
  }
  return { status: -1, text: `stopped: no answer within ${timeoutMs / 1000} s\n${stderr}` };
}

/** The same, without blocking the event loop. */
export function runJobs(
  jobs: readonly Job[],
  options: BuildOptions,
): Promise<readonly JobResult[]> {
  const { worker, port } = startWorker(jobs, options);
  return new Promise((resolve, reject) => {
    port.once('message', (reply: Reply) => {
      void worker.terminate();
      port.close();
      try {
        resolve(resultsOf(reply));
      } catch (error) {
        reject(error as Error);
      }
    });
    worker.once('error', (cause) => {
      port.close();
      reject(new CompileError('the thread that compiles failed', { op: 'native', cause }));
    });
  });
}

function startWorker(jobs: readonly Job[], { parallel, timeoutMs }: BuildOptions) {
  const { port1, port2 } = new MessageChannel();
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(WORKER, {
    eval: true,
    // Flags of this process (a debugger, a loader of TypeScript) are nothing for this thread.
    execArgv: [],
    workerData: { jobs, parallel, timeout: timeoutMs, port: port2, flag },
    transferList: [port2],
  });
  // A failure shows as a missing answer; unheard, the event would end the process.
  worker.on('error', () => undefined);
  return { worker, port: port1, flag };
}

function resultsOf({ results, failure }: Reply): readonly JobResult[] {
  if (results !== undefined) return results;
  throw new CompileError(`compilers could not be run: ${failure ?? 'no answer'}`, {
    op: 'native',
  });
}
