// The dedicated worker of the test page: trains, and posts what came out.
import { trainDigits } from './task.ts';

/** What the worker posts: progress, then one result or failure. */
export type Message =
  | { readonly kind: 'step'; readonly step: number; readonly loss: number }
  | { readonly kind: 'done'; readonly trained: Awaited<ReturnType<typeof trainDigits>> }
  | { readonly kind: 'failed'; readonly reason: string };

const post = (message: Message): void => postMessage(message);

try {
  post({
    kind: 'done',
    trained: await trainDigits((step, loss) => post({ kind: 'step', step, loss })),
  });
} catch (error) {
  post({ kind: 'failed', reason: error instanceof Error ? String(error.stack) : String(error) });
}
