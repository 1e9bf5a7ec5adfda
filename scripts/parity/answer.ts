// What `tengen/lite` computes of a program file: the same code in Node and in a browser's worker.
import type { LoadOptions, load } from '../../src/interface/lite/index.ts';

/** A question to `tengen/lite`; bytes as base64, because it crosses processes as JSON. */
export interface Question {
  /** Path or URL of the file. */
  readonly source: string;
  readonly x: string;
  readonly shape: readonly number[];
  readonly options: LoadOptions;
}

/** All outputs, one after the other. */
export async function answer(loader: typeof load, question: Question): Promise<Uint8Array> {
  const model = await loader(question.source, question.options);
  const bytes = Uint8Array.from(atob(question.x), (letter) => letter.charCodeAt(0));
  const x = { data: new Float32Array(bytes.buffer), shape: question.shape };
  const run = async (): Promise<Uint8Array> => {
    const outputs = Object.values(await model.run({ x }));
    const parts = outputs.map(({ data }) => new Uint8Array(data.slice().buffer));
    const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  };
  const first = await run();
  // Threads may start after the first run: browsers start workers between turns of the event loop.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const second = await run();
  model.dispose();
  const isStrict = question.options.numerics === 'strict';
  if (isStrict && !second.every((byte, i) => byte === first[i])) {
    throw new Error('the second run gave other bits than the first');
  }
  return second;
}

/** Bytes as text. */
export function base64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}
