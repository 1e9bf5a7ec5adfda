// The worker's program as text: no file that a bundler could fail to find, the same in Node and pages.
import { createStacker } from './collate.ts';
import { Random } from './random.ts';
import { serveBatches } from './worker-main.ts';

/**
 * An ES module that serves batches over its thread's channel. It is put together from the text of
 * three definitions, each of which refers to nothing outside itself.
 */
export function workerSource(): string {
  return `
// Some build tools wrap functions in this helper to keep their names.
const __name = (value) => value;
const importModule = (url) => import(url);
const createStacker = ${String(createStacker)};
const Random = ${String(Random)};
const serveBatches = ${String(serveBatches)};
const parts = { importModule, createStacker, Random, factory: undefined };
if (typeof process === 'object' && process.versions?.node !== undefined) {
  const { parentPort } = await import('node:worker_threads');
  serveBatches({
    post: (message, transfer) => parentPort.postMessage(message, transfer),
    listen: (receive) => parentPort.on('message', receive),
  }, parts);
} else {
  serveBatches({
    post: (message, transfer) => self.postMessage(message, transfer),
    listen: (receive) => self.addEventListener('message', (event) => receive(event.data)),
  }, parts);
}
`;
}

/**
 * For a worker script of your own, where a bundler has to see it or a policy forbids generated code:
 * serves the dataset that `factory` makes of the loader's `args`.
 *
 * @example sketch: two scripts
 * // my-worker.ts
 * serveDataset(({ folder }: { folder: string }) => openMyDataset(folder));
 * // main.ts
 * new DataLoader(
 *   { worker: () => new Worker(new URL('./my-worker.ts', import.meta.url), { type: 'module' }),
 *     args: { folder } },
 *   { workers: 2 },
 * );
 */
export async function serveDataset<Args>(factory: (args: Args) => unknown): Promise<void> {
  const importModule = (url: string): Promise<Record<string, unknown>> =>
    Promise.reject(new Error(`this worker serves its own dataset, not ${url}`));
  const parts = { importModule, createStacker, Random, factory };
  if (typeof process === 'object' && process.versions?.node !== undefined) {
    const { parentPort } = await import('node:worker_threads');
    if (parentPort === null) throw new Error('serveDataset() belongs in a worker');
    serveBatches(
      {
        post: (message, transfer) => parentPort.postMessage(message, transfer),
        listen: (receive) => parentPort.on('message', receive),
      },
      parts,
    );
    return;
  }
  serveBatches(
    {
      post: (message, transfer) => globalThis.postMessage(message, { transfer }),
      listen: (receive) => globalThis.addEventListener('message', (event) => receive(event.data)),
    },
    parts,
  );
}
