// Threads as the host offers them: whether there are any, how many, and how one is started.
import type * as Os from 'node:os';
import type * as Threads from 'node:worker_threads';
import { ArgumentError } from '../base/errors.ts';
import { NODE_WORKER_SOURCE, WEB_WORKER_SOURCE } from './worker-source.ts';

/** What decides whether kernels can run on several threads. */
export interface ThreadHost {
  readonly sharedMemory: boolean;
  /** `undefined` where the host knows no such thing (Node). */
  readonly crossOriginIsolated: boolean | undefined;
  readonly workers: boolean;
  /** Logical cores this process may use. */
  readonly cores: number;
  /** Value of the environment variable TENGEN_THREADS. */
  readonly setting: string | undefined;
}

export interface ThreadAvailability {
  readonly available: boolean;
  /** Threads to use, the caller's included; 1 if not available. */
  readonly threads: number;
  /** Why there is one thread only, and what to do; or where the number comes from. */
  readonly reason: string;
}

/** A started worker. `exited` handlers hear of every end except one caused by `terminate`. */
export interface HostThread {
  post(message: unknown): void;
  /**
   * Whether the thread still runs, answered without the event loop. Where the host cannot tell,
   * true until its exit was reported.
   */
  alive(): boolean;
  /** Whether the thread keeps the process from ending. Not so at first. */
  keepsProcess(yes: boolean): void;
  terminate(): Promise<void>;
}

export interface HostThreadEvents {
  readonly message: (value: unknown) => void;
  readonly exited: (reason: string) => void;
}

type NodeThreads = typeof Threads;
type NodeOs = typeof Os;

function nodeModule(id: 'node:worker_threads'): NodeThreads | undefined;
function nodeModule(id: 'node:os'): NodeOs | undefined;
function nodeModule(id: string): object | undefined {
  // Not imported: the same file is loaded by browsers.
  return typeof process === 'object' ? process.getBuiltinModule?.(id) : undefined;
}

/** What this host offers. */
export function threadHost(): ThreadHost {
  const os = nodeModule('node:os');
  const isNode = os !== undefined;
  return {
    sharedMemory: typeof SharedArrayBuffer === 'function',
    crossOriginIsolated: isNode ? undefined : globalThis.crossOriginIsolated === true,
    workers: isNode || typeof Worker === 'function',
    cores: isNode ? os.availableParallelism() : (globalThis.navigator?.hardwareConcurrency ?? 1),
    setting: isNode ? process.env['TENGEN_THREADS'] : undefined,
  };
}

/**
 * Whether kernels can run on several threads here, how many, and why (not).
 *
 * @throws ArgumentError if TENGEN_THREADS is not a positive integer.
 * @example
 * // On a machine with 2 cores: { available: true, threads: 2, reason: '2 cores' }
 * threadsAvailable();
 */
export function threadsAvailable(host: ThreadHost = threadHost()): ThreadAvailability {
  const no = (reason: string): ThreadAvailability => ({ available: false, threads: 1, reason });
  if (host.setting !== undefined && !/^[1-9]\d{0,3}$/.test(host.setting)) {
    throw new ArgumentError(`TENGEN_THREADS is '${host.setting}', not a positive integer`, {
      hint: 'give the number of threads, 1 for no workers, or leave it unset',
    });
  }
  if (host.setting === '1') return no('TENGEN_THREADS is 1');
  if (host.crossOriginIsolated === false) {
    return no(
      'the page is not cross-origin isolated, so it has no shared memory: serve it with the headers ' +
        '`Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`',
    );
  }
  if (!host.sharedMemory) return no('this host has no SharedArrayBuffer');
  if (!host.workers) return no('this host cannot start workers');
  if (host.setting !== undefined) {
    const threads = Number(host.setting);
    return { available: true, threads, reason: `TENGEN_THREADS is ${threads}` };
  }
  if (host.cores < 2) return no('there is one core only');
  return { available: true, threads: host.cores, reason: `${host.cores} cores` };
}

/** Whether this thread may sleep in Atomics.wait (the main thread of a page may not). */
export function callerMayWait(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 1, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * Starts a worker running the pool's program.
 *
 * @param url a script of the page's own origin that holds WEB_WORKER_SOURCE, for pages whose
 *   content security policy forbids `blob:`. Not used in Node.
 */
export function startThread(
  name: string,
  events: HostThreadEvents,
  url?: string | URL,
): HostThread {
  const threads = nodeModule('node:worker_threads');
  return threads === undefined
    ? startWebThread(name, events, url)
    : startNodeThread(threads, name, events);
}

function startNodeThread(threads: NodeThreads, name: string, events: HostThreadEvents): HostThread {
  const lifeline = new threads.MessageChannel();
  const worker = new threads.Worker(NODE_WORKER_SOURCE, {
    eval: true,
    name,
    // Loaders and flags of the parent would slow the start and are of no use to the worker.
    execArgv: [],
    env: {},
    workerData: { lifeline: lifeline.port2 },
    transferList: [lifeline.port2],
  });
  let ended = false;
  let stopping = false;
  let failure = 'it exited';
  worker.on('message', events.message);
  worker.on('error', (error: Error) => (failure = error.message));
  worker.on('exit', (code) => {
    ended = true;
    if (!stopping) events.exited(`${failure} (exit code ${code})`);
  });
  worker.unref();
  lifeline.port1.unref();
  const speaks = (): boolean => {
    // Takes the closing notice off the queue; a closed port then refuses to post. The typings
    // say `void`, Node answers `true` while the port is open.
    threads.receiveMessageOnPort(lifeline.port1);
    return (lifeline.port1.postMessage(0) as unknown) === true;
  };
  const knows = speaks();
  return {
    post: (message) => worker.postMessage(message),
    alive: () => !ended && (!knows || speaks()),
    keepsProcess: (yes) => (yes ? worker.ref() : worker.unref()),
    terminate: async () => {
      stopping = true;
      await worker.terminate();
    },
  };
}

function startWebThread(
  name: string,
  events: HostThreadEvents,
  url: string | URL | undefined,
): HostThread {
  const address =
    url ?? URL.createObjectURL(new Blob([WEB_WORKER_SOURCE], { type: 'text/javascript' }));
  const worker = new Worker(address, { name });
  let ended = false;
  let started = false;
  worker.addEventListener('message', (event: MessageEvent<unknown>) => {
    if (!started && url === undefined) URL.revokeObjectURL(String(address));
    started = true;
    events.message(event.data);
  });
  worker.addEventListener('error', (event) => {
    ended = true;
    events.exited(
      event.message ||
        `its script ${String(address)} could not be loaded; where the page forbids \`blob:\` workers, ` +
          'serve the script from its own origin and give the pool a workerUrl',
    );
  });
  return {
    post: (message) => worker.postMessage(message),
    alive: () => !ended,
    keepsProcess: () => undefined,
    terminate: () => {
      worker.terminate();
      return Promise.resolve();
    },
  };
}
