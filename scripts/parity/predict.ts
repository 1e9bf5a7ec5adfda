// A fresh process that loads a program file: reads a question from its input, prints the answer.
import { load } from '../../src/lite-node.ts';
import { answer, base64, type Question } from './answer.ts';

let text = '';
for await (const chunk of process.stdin.setEncoding('utf8')) text += String(chunk);
process.stdout.write(base64(await answer(load, JSON.parse(text) as Question)));
