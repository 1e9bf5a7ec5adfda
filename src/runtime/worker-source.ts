// What the pool and its workers share: the layout of their control words and the worker's program.

/**
 * Words (int32) of the barrier block, which lives in the wasm memory at the address the backend
 * gave. `phase`, `count` and `waiters` stand on cache lines of their own.
 */
export const BARRIER = { phase: 0, count: 16, waiters: 32, spins: 48 } as const;
/** Bytes a backend reserves for the barrier block, zeroed and aligned to 64. */
export const BARRIER_BYTES = 256;

/** Words of the control block, which lives in a shared buffer that no kernel can reach. */
export const CONTROL = {
  /** Bumped by the caller for every parallel run, and to make workers look at their messages. */
  generation: 0,
  /** Workers asleep on `generation`: where it is 0 nobody need be notified. */
  sleepers: 1,
  /** Messages posted so far to every worker. */
  posted: 2,
  module: 3,
  threadCount: 4,
  table: 5,
  /** 1 while the caller sleeps until a worker finishes. */
  callerSleeps: 6,
  /** Iterations an idle worker spins before it sleeps. */
  idleSpins: 7,
  /** 1 + index of the worker that failed first in this run, 0 if none. */
  failedWorker: 8,
  /** UTF-16 units of the failure's text. */
  failureLength: 9,
} as const;

/** Each worker has a cache line of its own; the first one starts after the common words. */
export const WORKER_WORDS = 16;
export const WORKER = {
  /** Messages handled so far. */
  handled: 0,
  /** Generation of the last run this worker was called to. */
  called: 1,
  /** Its thread number in that run. */
  thread: 2,
  /** Generation of the last run it finished. */
  finished: 3,
} as const;
/** Longest failure text that is kept, in UTF-16 units. */
export const FAILURE_UNITS = 1024;

/** Word at which worker `index` has its own words. */
export function workerBase(index: number): number {
  return WORKER_WORDS * (index + 1);
}

/** Word at which the failure text starts. */
export function failureBase(workerCount: number): number {
  return workerBase(workerCount);
}

/** Words of the whole control block. */
export function controlWords(workerCount: number): number {
  return failureBase(workerCount) + FAILURE_UNITS / 2;
}

// A worker that sleeps in Atomics.wait has no event loop, so `serve` returns to the loop whenever
// messages are waiting, and the handler of the last one enters `serve` again.
const PROGRAM = `
let control, barrier, text, memory, index, base;
let handled = 0, seen = 0;
const runs = new Map();
function abort() {
  Atomics.store(barrier, ${BARRIER.phase}, -1);
  Atomics.notify(barrier, ${BARRIER.phase});
}
function fail(error) {
  if (Atomics.compareExchange(control, ${CONTROL.failedWorker}, 0, index + 1) === 0) {
    const message = String((error && error.stack) || error).slice(0, ${FAILURE_UNITS});
    for (let i = 0; i < message.length; i++) text[i] = message.charCodeAt(i);
    Atomics.store(control, ${CONTROL.failureLength}, message.length);
  }
  abort();
}
function wait(phase) {
  Atomics.add(barrier, ${BARRIER.waiters}, 1);
  Atomics.wait(barrier, ${BARRIER.phase}, phase);
  Atomics.sub(barrier, ${BARRIER.waiters}, 1);
}
function participate() {
  try {
    const run = runs.get(control[${CONTROL.module}]);
    run(control[base + ${WORKER.thread}], control[${CONTROL.threadCount}], control[${CONTROL.table}]);
  } catch (error) {
    fail(error);
  }
  Atomics.store(control, base + ${WORKER.finished}, seen);
  if (Atomics.load(control, ${CONTROL.callerSleeps}) === 1) Atomics.notify(control, base + ${WORKER.finished});
}
function serve() {
  for (;;) {
    if (Atomics.load(control, ${CONTROL.posted}) !== handled) return;
    const generation = Atomics.load(control, ${CONTROL.generation});
    if (generation !== seen) {
      seen = generation;
      if (Atomics.load(control, base + ${WORKER.called}) === generation) participate();
      let spins = control[${CONTROL.idleSpins}];
      while (spins-- > 0 && Atomics.load(control, ${CONTROL.generation}) === seen);
      continue;
    }
    Atomics.add(control, ${CONTROL.sleepers}, 1);
    Atomics.wait(control, ${CONTROL.generation}, seen);
    Atomics.sub(control, ${CONTROL.sleepers}, 1);
  }
}
function start(message) {
  memory = message.memory;
  control = message.control;
  index = message.index;
  base = message.base;
  barrier = new Int32Array(memory.buffer, message.barrierAddress, ${BARRIER_BYTES / 4});
  text = new Uint16Array(control.buffer, message.failureBase * 4, ${FAILURE_UNITS});
}
function receive(message) {
  if (message.kind === 'start') start(message);
  else if (message.kind === 'release') runs.delete(message.id);
  else {
    try {
      const instance = new WebAssembly.Instance(message.module, { env: { memory, wait } });
      runs.set(message.id, instance.exports.run);
    } catch (error) {
      runs.set(message.id, () => { throw error; });
    }
  }
  handled++;
  Atomics.store(control, base + ${WORKER.handled}, handled);
  Atomics.notify(control, base + ${WORKER.handled});
  send(handled);
  if (Atomics.load(control, ${CONTROL.posted}) === handled) serve();
}
`;

/** The worker's program for \`worker_threads\` (evaluated as CommonJS). */
export const NODE_WORKER_SOURCE = `'use strict';
const { parentPort, workerData } = require('node:worker_threads');
workerData.lifeline.on('message', () => {}).unref();
const send = (value) => parentPort.postMessage(value);
${PROGRAM}
parentPort.on('message', receive);
`;

/**
 * The worker's program for browsers, a classic script. A page whose content security policy
 * forbids \`blob:\` workers serves this text from its own origin and passes its URL to the pool.
 */
export const WEB_WORKER_SOURCE = `'use strict';
const send = (value) => self.postMessage(value);
${PROGRAM}
self.onmessage = (event) => receive(event.data);
`;
