// `tengen compile`: a model file as source that stands alone.
import { formatBytes, table } from '../terminal/index.ts';
import {
  type Call,
  CallError,
  type Command,
  type ExportChoices,
  type Exporters,
  parseCall,
  toJson,
} from './call.ts';
import type { Sizes } from '../../base/size-expression.ts';
import type { ByteInput } from '../io/byte-source.ts';
import { makeOutputFolder, writeOutput } from '../../base/output-files.ts';
import { sizesOf } from './inputs.ts';
import { type ModelSource, openModel } from './model-source.ts';

const HELP = `tengen compile FILE --target c|wasm --out DIR [options]

A program file (.tengen) or an ONNX file as source that needs nothing else: a folder of C99 with a Makefile
and a driver for the test cases, or one WebAssembly module with its loader.

  --target c|wasm     what to write
  --out DIR           where to; made if it is not there, files of the same names are replaced
  --name N            of functions and files; default: the program's name
  --numerics N        'fast' (default), or 'strict': the same bits on every machine
  --size NAME=N       size of a dimension that the model leaves open
  --weights HOW       c: a 'binary' file (default) or an 'array' in the source;
                      wasm: 'inside' the module (default) or a file 'beside' it
  --variants A,B      c: of scalar, sse, avx and neon; default: all
  --train STEPFILE    c: a training step too, with the same weights
  --number NAME=V     makes an input NAME of every number V of the program, or of the step
  --relaxed           wasm: relaxed SIMD may be used
  --json              as JSON`;

const OPTIONS = {
  target: { type: 'string' },
  out: { type: 'string' },
  name: { type: 'string' },
  numerics: { type: 'string' },
  size: { type: 'string', multiple: true },
  weights: { type: 'string' },
  variants: { type: 'string' },
  train: { type: 'string' },
  number: { type: 'string', multiple: true },
  relaxed: { type: 'boolean' },
} as const;

export const compile: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(words, OPTIONS, [1, 1]);
    const target = call.choice('target', ['c', 'wasm']);
    if (target === undefined) throw new CallError('--target is missing: c or wasm');
    const out = call.text('out');
    if (out === undefined || out === '') throw new CallError('--out is missing: a folder');
    const [path = ''] = call.words;
    const model = await openModel(path, call.pairs('size'));
    const name = call.text('name');
    if (name?.trim() === '') throw new CallError('--name is empty');
    const trainPath = target === 'c' ? call.text('train') : undefined;
    const step =
      trainPath === undefined ? undefined : await openModel(trainPath, call.pairs('size'));
    const choices: ExportChoices = {
      numerics: call.choice('numerics', ['fast', 'strict']) ?? 'fast',
      sizes: saidSizes(step === undefined ? [model] : [model, step], call.pairs('size')),
      ...(name === undefined ? {} : { name }),
      numbers: numbersOf(call),
    };
    const write =
      target === 'c'
        ? writerOfC(call, model.source, step?.source)
        : writerOfWasm(call, model.source);
    terminal.note(`compiling ${path}`);
    const files = await write(await terminal.exporters(), choices);
    const written = await writeAll(out, files);
    if (call.flag('json')) terminal.print(toJson({ file: path, target, out, files: written }));
    else terminal.print(textOf(target, out, written));
    return 0;
  },
};

interface Written {
  readonly name: string;
  readonly bytes: number;
}

function numbersOf(call: Call): Readonly<Record<string, number>> {
  const numbers: Record<string, number> = {};
  for (const [name, text] of call.pairs('number')) {
    const value = Number(text);
    if (name === '' || text.trim() === '' || !Number.isFinite(value)) {
      throw new CallError(`--number is NAME=VALUE with a number, got '${name}=${text}'`);
    }
    numbers[name] = value;
  }
  return numbers;
}

/** Sizes of dimensions that one of the models has. Others are as each of them was recorded. */
function saidSizes(models: readonly ModelSource[], said: ReadonlyMap<string, string>): Sizes {
  const all: Record<string, number> = {};
  for (const name of said.keys()) {
    const having = models.filter(({ header }) =>
      header.dimensions.some((dimension) => dimension.name === name),
    );
    const one = new Map([[name, said.get(name) as string]]);
    for (const model of having.length === 0 ? models : having) {
      const size = sizesOf(model, one)[name];
      if (size !== undefined) all[name] = size;
    }
  }
  return all;
}

/** Options that only one target has are refused for the other: they would be without effect. */
function refuse(call: Call, target: string, names: readonly string[]): void {
  const wrong = names.find((name) => call.flag(name) || call.text(name) !== undefined);
  if (wrong !== undefined) throw new CallError(`--${wrong} is not for --target ${target}`);
}

type Writer = (exporters: Exporters, choices: ExportChoices) => ReturnType<Exporters['c']>;

function writerOfC(call: Call, source: ByteInput, train: ByteInput | undefined): Writer {
  refuse(call, 'c', ['relaxed']);
  const [weights, variants] = [call.choice('weights', ['binary', 'array']), call.list('variants')];
  const options = {
    ...(weights === undefined ? {} : { weights }),
    ...(variants === undefined ? {} : { variants }),
    ...(train === undefined ? {} : { train }),
  };
  return (exporters, choices) => exporters.c(source, { ...choices, ...options });
}

function writerOfWasm(call: Call, source: ByteInput): Writer {
  refuse(call, 'wasm', ['variants', 'train']);
  const weights = call.choice('weights', ['inside', 'beside']);
  const options = { relaxed: call.flag('relaxed'), ...(weights === undefined ? {} : { weights }) };
  return (exporters, choices) => exporters.wasm(source, { ...choices, ...options });
}

async function writeAll(
  folder: string,
  files: ReadonlyMap<string, string | Uint8Array>,
): Promise<Written[]> {
  const { join } = await import('node:path');
  await makeOutputFolder('compile', folder);
  const written: Written[] = [];
  for (const [name, content] of files) {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    await writeOutput('compile', join(folder, name), bytes);
    written.push({ name, bytes: bytes.length });
  }
  return written;
}

function textOf(target: 'c' | 'wasm', out: string, written: readonly Written[]): string {
  const files = table(
    written.map(({ name, bytes }) => [name, formatBytes(bytes)]),
    { head: ['file', 'size'], align: [undefined, 'right'] },
  );
  const test = written.find(({ name }) => name.endsWith('_test.js'))?.name ?? '';
  const next =
    target === 'c'
      ? `make -C ${out}            the library and the test drivers\nmake -C ${out} test       runs the test cases`
      : `node ${out}/${test}       runs the test cases`;
  return `wrote ${written.length} files to ${out}\n\n${files}\n\n${next}`;
}
