// Starting a worker thread, in Node or in a page, behind one small interface.
import { ArgumentError } from '../../base/errors.ts';
import type { FromWorker, ToWorker } from './worker-protocol.ts';
import { workerSource } from './worker-source.ts';

/** Any worker: a page's `Worker`, or one of `node:worker_threads`. */
export interface WorkerLike {
  postMessage(message: unknown): void;
  terminate(): unknown;
}

/** The loader's end of a worker. */
export interface WorkerChannel {
  post(message: ToWorker): void;
  /** Ends the thread now, whatever it does. */
  terminate(): void;
  /** Whether the thread keeps the process alive. */
  hold(alive: boolean): void;
}

/** What a channel reports. */
export interface ChannelEvents {
  message(message: FromWorker): void;
  /** The thread is gone, or going: once. */
  died(reason: string, cause: unknown): void;
}

interface NodeWorkerLike extends WorkerLike {
  on(event: string, listener: (value: unknown) => void): unknown;
  ref(): void;
  unref(): void;
}

function isNodeWorker(worker: WorkerLike): worker is NodeWorkerLike {
  return 'on' in worker && typeof worker.on === 'function';
}

/** True where threads are made by `node:worker_threads` (Node, Deno, Bun). */
export function hasWorkerThreads(): boolean {
  return typeof process === 'object' && process.versions?.node !== undefined;
}

/** Connects `events` to a worker made by `create`, or to one that runs the inlined program. */
export async function openChannel(
  create: (() => WorkerLike) | undefined,
  events: ChannelEvents,
): Promise<WorkerChannel> {
  const worker = create === undefined ? await createWorker() : create();
  return isNodeWorker(worker) ? nodeChannel(worker, events) : pageChannel(worker, events);
}

async function createWorker(): Promise<WorkerLike> {
  if (hasWorkerThreads()) {
    const { Worker } = await import('node:worker_threads');
    return new Worker(new URL(`data:text/javascript,${encodeURIComponent(workerSource())}`));
  }
  if (typeof Worker === 'undefined') {
    throw new ArgumentError('there are no worker threads here', {
      op: 'DataLoader',
      hint: 'use workers: 0',
    });
  }
  const url = URL.createObjectURL(new Blob([workerSource()], { type: 'text/javascript' }));
  const worker = new Worker(url, { type: 'module', name: 'tengen-data' });
  // The worker has its text once it has spoken; until then the address must live.
  const release = (): void => URL.revokeObjectURL(url);
  worker.addEventListener('message', release, { once: true });
  worker.addEventListener('error', release, { once: true });
  return worker;
}

function nodeChannel(worker: NodeWorkerLike, events: ChannelEvents): WorkerChannel {
  let over = false;
  const die = (reason: string, cause: unknown): void => {
    if (over) return;
    over = true;
    events.died(reason, cause);
  };
  worker.on('message', (message) => events.message(message as FromWorker));
  worker.on('messageerror', (error) => die('sent what cannot be read', error));
  worker.on('error', (error) => die(describeDeath(error), error));
  worker.on('exit', (code) => die(`ended with exit code ${String(code)}`, undefined));
  return {
    post: (message) => worker.postMessage(message),
    terminate: () => {
      over = true;
      void worker.terminate();
    },
    hold: (alive) => {
      if (alive) worker.ref();
      else worker.unref();
    },
  };
}

function describeDeath(error: unknown): string {
  if (!(error instanceof Error)) return `failed: ${String(error)}`;
  const outOfMemory = 'code' in error && error.code === 'ERR_WORKER_OUT_OF_MEMORY';
  return outOfMemory ? 'ran out of memory' : `failed: ${error.message}`;
}

function pageChannel(worker: WorkerLike, events: ChannelEvents): WorkerChannel {
  const page = worker as Worker;
  let over = false;
  const die = (reason: string, cause: unknown): void => {
    if (over) return;
    over = true;
    events.died(reason, cause);
  };
  page.addEventListener('message', (event) => events.message(event.data as FromWorker));
  page.addEventListener('messageerror', (event) => die('sent what cannot be read', event));
  page.addEventListener('error', (event) => {
    // An error event without a message: the script itself could not be loaded.
    die(`failed: ${event.message || 'its script did not load'}`, event.error);
  });
  return {
    post: (message) => page.postMessage(message),
    terminate: () => {
      over = true;
      page.terminate();
    },
    hold: () => undefined,
  };
}

const TYPESCRIPT = /\.[cm]?tsx?$/;

/**
 * The module through which a worker can import TypeScript, for Node versions that do not read it:
 * tsx, if the process runs under it or it is installed where the dataset is.
 *
 * @throws ArgumentError if `moduleUrl` is TypeScript and there is no way to load it.
 */
export async function findTypescriptLoader(moduleUrl: string): Promise<string | undefined> {
  if (!hasWorkerThreads() || !moduleUrl.startsWith('file:')) return undefined;
  if (!TYPESCRIPT.test(new URL(moduleUrl).pathname)) return undefined;
  const running = process.execArgv.find((argument) => /[\\/]tsx[\\/].*\.mjs$/.test(argument));
  if (running === undefined && nativeTypescript()) return undefined;
  const { createRequire } = await import('node:module');
  const { pathToFileURL } = await import('node:url');
  const places = [running, moduleUrl, `${pathToFileURL(process.cwd()).href}/`];
  for (const place of places) {
    if (place === undefined) continue;
    try {
      const requireFrom = createRequire(place);
      const manifest = requireFrom('tsx/package.json') as {
        exports: { './esm/api': { import: { default: string } } };
      };
      const base = pathToFileURL(requireFrom.resolve('tsx/package.json'));
      return new URL(manifest.exports['./esm/api'].import.default, base).href;
    } catch {
      // Not installed there: the next place.
    }
  }
  throw new ArgumentError(`a worker cannot load TypeScript here: ${moduleUrl}`, {
    op: 'DataLoader',
    hint: 'install tsx, use Node 22.18 or later, or give the compiled .js module',
  });
}

/** Node 22.18 and later strip types by themselves. */
function nativeTypescript(): boolean {
  const { features } = process as { features: { typescript?: string | false } };
  return typeof features.typescript === 'string';
}
