// The browser's worker: answers questions that it is sent.
import { load } from '../../src/lite.ts';
import { answer, base64, type Question } from './answer.ts';

addEventListener('message', (event: MessageEvent<Question>) => {
  answer(load, event.data).then(
    (bytes) => postMessage({ answer: base64(bytes) }),
    (error: unknown) => postMessage({ error: String(error) }),
  );
});
