// The script of the test page: starts the worker and hands its result to the test.
import type { Message } from './worker.ts';

/** What crosses into Node: bytes as base64, because the channel carries JSON. */
export interface PageResult {
  readonly accuracy: number;
  readonly scores: string;
  readonly weights: string;
  readonly threads: number;
  readonly threadsReason: string;
  readonly isolated: boolean;
  readonly seconds: number;
}

function base64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

/** Trains in a dedicated worker. Rejects with the worker's error. */
function train(): Promise<PageResult> {
  const worker = new Worker('/worker.js', { type: 'module' });
  return new Promise((resolve, reject) => {
    worker.addEventListener('error', (event) => reject(new Error(`worker: ${event.message}`)));
    worker.addEventListener('message', ({ data }: MessageEvent<Message>) => {
      if (data.kind === 'step') {
        if (data.step % 25 === 1) console.log(`step ${data.step}: loss ${data.loss.toFixed(4)}`);
      } else if (data.kind === 'failed') {
        reject(new Error(data.reason));
      } else {
        const { scores, weights, ...rest } = data.trained;
        const scoreBytes = new Uint8Array(scores.buffer, scores.byteOffset, scores.byteLength);
        resolve({ ...rest, scores: base64(scoreBytes), weights: base64(weights) });
      }
    });
  });
}

Object.assign(globalThis, { train });
