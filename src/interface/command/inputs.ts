// What the command computes on: values for each input of a model, from files or made up.
import { type DType, newTypedArray } from '../../base/dtype.ts';
import { FormatError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import { sizeAt, type Sizes } from '../../base/size-expression.ts';
import { readNpy, readNpz } from '../io/npy.ts';
import type { PortRecord } from '../lite/header.ts';
import { describePort, type InputValue } from '../lite/values.ts';
import { type Call, CallError } from './call.ts';
import { readImage } from './image.ts';
import type { ModelSource } from './model-source.ts';

export type Values = Record<string, Extract<InputValue, { readonly shape: readonly number[] }>>;

/** Options of every command that computes. */
export const INPUT_OPTIONS = {
  input: { type: 'string', multiple: true },
  size: { type: 'string', multiple: true },
  seed: { type: 'string' },
} as const;

export const INPUT_HELP = `  --input NAME=WHAT   what an input is: a .npy, .npz, .png or .jpg file, or the words random, zeros
                      or test (the file's first test case); WHAT alone is for all inputs
  --size NAME=N       size of a dimension that the model leaves open
  --seed N            of random inputs; default 0`;

/**
 * A value for each input. What is not said: the file's first test case, or random numbers where it has
 * none or where sizes are other than recorded.
 */
export async function readInputs(model: ModelSource, call: Call): Promise<Values> {
  const { header } = model;
  const sizes = sizesOf(model, call.pairs('size'));
  const given = call.pairs('input');
  const unknown = [...given.keys()].find(
    (name) => name !== '' && header.inputs.every((port) => port.name !== name),
  );
  if (unknown !== undefined) {
    const names = header.inputs.map(describePort).join('; ') || 'none';
    throw new CallError(`there is no input '${unknown}'; the inputs are ${names}`);
  }
  const recorded = header.dimensions.every(({ name, size }) => sizes[name] === size);
  const usual = header.tests.length > 0 && recorded ? 'test' : 'random';
  const random = generator(call.count('seed', 0));
  const values: Values = {};
  for (const [i, port] of header.inputs.entries()) {
    const what = given.get(port.name) ?? given.get('') ?? usual;
    values[port.name] = await readInput(model, port, i, what, sizes, random);
  }
  return values;
}

/** The sizes of declared dimensions. */
export function sizesOf({ header, format }: ModelSource, said: ReadonlyMap<string, string>): Sizes {
  const { dimensions } = header;
  for (const [name, text] of said) {
    if (name === '') throw new CallError(`--size is NAME=N, got '${text}'`);
    const dimension = dimensions.find((each) => each.name === name);
    if (dimension === undefined) {
      // Sizes of an ONNX file were used when it was read.
      if (format === 'onnx') continue;
      const names = dimensions.map((each) => each.name).join(', ') || 'none';
      throw new CallError(`there is no dimension '${name}'; declared: ${names}`);
    }
    const size = Number(text);
    if (!Number.isSafeInteger(size) || size < dimension.min || size > dimension.max) {
      throw new CallError(`'${name}' is ${dimension.min} to ${dimension.max}, got '${text}'`);
    }
  }
  return Object.fromEntries(
    dimensions.map(({ name, size }) => [name, Number(said.get(name) ?? size)]),
  );
}

async function readInput(
  model: ModelSource,
  port: PortRecord,
  index: number,
  what: string,
  sizes: Sizes,
  random: () => number,
): Promise<Values[string]> {
  const shape = port.shape.map((size) => sizeAt(size, sizes));
  if (what === 'zeros') return { data: numbers(port.dtype, shape, () => 0), shape };
  if (what === 'random') {
    const isFloat = port.dtype.includes('float');
    // Whole numbers are likely indices: small ones are in range most often.
    const draw = isFloat ? normal(random) : (): number => (random() < 0.5 ? 0 : 1);
    return { data: numbers(port.dtype, shape, draw), shape };
  }
  if (what === 'test') {
    const name = model.header.tests[0]?.inputs[index];
    if (name === undefined) throw new CallError(`the file has no test case for '${port.name}'`);
    const { data, shape: stored } = (await model.read([name])).get(name) as Values[string];
    return { data, shape: stored };
  }
  return readFile(port, shape, what);
}

async function readFile(
  port: PortRecord,
  shape: readonly number[],
  path: string,
): Promise<Values[string]> {
  const { stat } = await import('node:fs/promises');
  if ((await stat(path).catch(() => null)) === null) {
    throw new CallError(`input ${port.name}: '${path}' is no file, and not random, zeros or test`);
  }
  const ending = path.slice(path.lastIndexOf('.') + 1).toLowerCase();
  switch (ending) {
    case 'npy': {
      const array = await readNpy(path);
      return { data: array.data, shape: array.shape };
    }
    case 'npz': {
      const arrays = await readNpz(path);
      const array = arrays.get(port.name) ?? (arrays.size === 1 ? [...arrays.values()][0] : null);
      if (array === null || array === undefined) {
        throw new FormatError(
          `${path} has no array '${port.name}', but ${[...arrays.keys()].join(', ') || 'none'}`,
        );
      }
      return { data: array.data, shape: array.shape };
    }
    case 'png':
    case 'jpg':
    case 'jpeg':
      return readImage(path, port, shape);
    default:
      throw new CallError(`input ${port.name}: '${path}' is no .npy, .npz, .png or .jpg file`);
  }
}

function numbers(dtype: DType, shape: readonly number[], draw: () => number) {
  const isHalf = dtype === 'float16' || dtype === 'bfloat16';
  const data = newTypedArray(isHalf ? 'float32' : dtype, sizeOf(shape));
  for (let i = 0; i < data.length; i++) data[i] = draw();
  return data;
}

/** Uniform numbers in [0, 1): a 32-bit counter, mixed (the finalizer of MurmurHash3). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let word = state;
    word = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
    word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35);
    return ((word ^ (word >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Normal numbers by Box and Muller's transform. */
function normal(random: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
