// What a `.tengen` file says of its program: the JSON text in the metadata of a safetensors file, checked
// when it is read. docs/format.md is the specification.
import { type DType, isDType } from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, FormatError, ShapeError } from '../../base/errors.ts';
import { isCount, isJson, type Json } from '../../base/json.ts';
import { isSizeExpression, type SizeRecord, type Sizes } from '../../base/size-expression.ts';

/** Key of the text in the file's metadata. */
export const HEADER_KEY = 'tengen.program';
/** Version of the format that is written. Files of every earlier one are read. */
export const FORMAT_VERSION = 1;
/** Names of tensors that are no weights begin like this. */
export const RESERVED_PREFIX = 'tengen.';

/** A declared dimension: sizes from `min` to `max`; `size` is the one it was recorded with. */
export interface DimensionRecord {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly size: number;
}

/** An input or output. */
export interface PortRecord {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly SizeRecord[];
}

/** A tensor of the file. `update`: the output of the graph that it becomes after a run, or -1. */
export interface WeightLeaf {
  readonly kind: 'weight';
  readonly tensor: string;
  readonly update: number;
}

/** What the i-th `input` of the graph is. */
export type LeafRecord = { readonly kind: 'input'; readonly input: number } | WeightLeaf;

/** Whether runs change it: a weight that becomes an output of the graph. */
export function isState(leaf: LeafRecord | undefined): leaf is WeightLeaf {
  return leaf?.kind === 'weight' && leaf.update >= 0;
}

/** What the i-th `scalar` of the graph is. */
export type ScalarRecord =
  | { readonly kind: 'number'; readonly value: SizeRecord }
  /** A word of a place in the random stream: 0 and 1 are the seed, 2 and 3 the number of the block. */
  | { readonly kind: 'random'; readonly draw: number; readonly word: number };

/** What the last outputs of the graph, least and most of some numbers, must be. */
export interface GuardRecord {
  readonly dtype: DType;
  readonly least?: SizeRecord;
  readonly above?: SizeRecord;
  readonly below?: SizeRecord;
  readonly nothing?: readonly [least: number, most: number];
  readonly message: string;
}

/** Inputs with the outputs that belong to them: names of tensors in the file, in the order of the ports. */
export interface TestRecord {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly sizes: Sizes;
  /** Largest difference that counts as the same, over the largest output. */
  readonly tolerance: number;
}

/** What a stored program was compiled for. */
export interface TargetRecord {
  readonly name: string;
  readonly vectorBytes: number;
  readonly fma: boolean;
  readonly numerics: 'fast' | 'strict';
}

/** A compiled program in the file: it starts without a compiler. */
export interface StoredRecord {
  readonly target: TargetRecord;
  readonly sizes: Sizes;
  /** Name of the tensor of bytes. */
  readonly tensor: string;
  /** CRC-32 of the bytes. */
  readonly checksum: number;
}

export interface ModelHeader {
  readonly version: number;
  readonly name: string;
  /** What wrote the file. */
  readonly producer: string;
  readonly dimensions: readonly DimensionRecord[];
  readonly inputs: readonly PortRecord[];
  readonly outputs: readonly PortRecord[];
  /**
   * The graph (graph/record.ts), whose sizes may depend on dimensions. Its outputs: those of the model,
   * what weights become, then least and most of each guard.
   */
  readonly graph: unknown;
  readonly leaves: readonly LeafRecord[];
  readonly scalars: readonly ScalarRecord[];
  /** 32-bit words that each random draw takes. */
  readonly draws: readonly SizeRecord[];
  readonly guards: readonly GuardRecord[];
  readonly tests: readonly TestRecord[];
  readonly stored: readonly StoredRecord[];
  /** Largest difference on the tests between the program as it was recorded and as it is compiled. */
  readonly difference: number | null;
  /** The user's own. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

function fail(what: string): never {
  throw new FormatError(`the program: ${what}`);
}

/** A list under `name`, each item read by `read`. */
function list<T>(json: Json, name: string, read: (item: Json, where: string) => T): readonly T[] {
  const items = json[name];
  if (!Array.isArray(items)) fail(`${name} is no list`);
  return items.map((item: unknown, i) => {
    const where = `${name}[${i}]`;
    return isJson(item) ? read(item, where) : fail(`${where} is no object`);
  });
}

function text(json: Json, name: string, where: string): string {
  const value = json[name];
  return typeof value === 'string' ? value : fail(`${where}: ${name} is no text`);
}

function count(json: Json, name: string, where: string): number {
  const value = json[name];
  return isCount(value) ? value : fail(`${where}: ${name} is no whole number from 0`);
}

function size(value: unknown, where: string): SizeRecord {
  return isCount(value) || isSizeExpression(value) ? value : fail(`${where} is no size`);
}

function sizes(json: Json, where: string): Sizes {
  const value = json['sizes'];
  if (isJson(value) && Object.values(value).every(isCount)) return value as Sizes;
  return fail(`${where}: sizes are no numbers by name`);
}

function texts(json: Json, name: string, where: string): readonly string[] {
  const value = json[name];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  return fail(`${where}: ${name} is no list of names`);
}

function port(json: Json, where: string): PortRecord {
  const { dtype, shape } = json;
  if (!isDType(dtype)) fail(`${where}: there is no dtype ${String(dtype)}`);
  if (!Array.isArray(shape)) fail(`${where}: shape is no list`);
  return {
    name: text(json, 'name', where),
    dtype,
    shape: shape.map((item: unknown) => size(item, `${where}: ${JSON.stringify(item)}`)),
  };
}

function leaf(json: Json, where: string): LeafRecord {
  if (json['kind'] === 'input') return { kind: 'input', input: count(json, 'input', where) };
  if (json['kind'] !== 'weight') fail(`${where}: is no input and no weight`);
  const update = json['update'];
  if (update !== -1 && !isCount(update)) fail(`${where}: update is no output`);
  return { kind: 'weight', tensor: text(json, 'tensor', where), update };
}

function scalar(json: Json, where: string): ScalarRecord {
  if (json['kind'] === 'random') {
    const word = count(json, 'word', where);
    if (word > 3) fail(`${where}: word ${word} of a place has no meaning`);
    return { kind: 'random', draw: count(json, 'draw', where), word };
  }
  const { value } = json;
  // JSON has no infinity.
  if (value === 'inf' || value === '-inf' || value === 'nan') {
    return {
      kind: 'number',
      value: value === 'nan' ? NaN : value === 'inf' ? Infinity : -Infinity,
    };
  }
  if (typeof value === 'number' || isSizeExpression(value)) return { kind: 'number', value };
  return fail(`${where} is no number`);
}

function guard(json: Json, where: string): GuardRecord {
  const { nothing, dtype } = json;
  if (!isDType(dtype)) fail(`${where}: there is no dtype ${String(dtype)}`);
  const limits = (['least', 'above', 'below'] as const).flatMap((name) =>
    json[name] === undefined ? [] : [[name, limit(json[name], where)] as const],
  );
  if (nothing !== undefined && !isPair(nothing)) fail(`${where}: nothing is no pair of numbers`);
  return {
    dtype,
    ...Object.fromEntries(limits),
    ...(nothing === undefined ? {} : { nothing }),
    message: text(json, 'message', where),
  };
}

function limit(value: unknown, where: string): SizeRecord {
  if (Number.isSafeInteger(value)) return value as number;
  return isSizeExpression(value) ? value : fail(`${where}: a limit is no whole number`);
}

function isPair(value: unknown): value is readonly [number, number] {
  return Array.isArray(value) && value.length === 2 && value.every((n) => typeof n === 'number');
}

function test(json: Json, where: string): TestRecord {
  const { tolerance } = json;
  if (typeof tolerance !== 'number' || !(tolerance >= 0)) fail(`${where}: no tolerance`);
  return {
    inputs: texts(json, 'inputs', where),
    outputs: texts(json, 'outputs', where),
    sizes: sizes(json, where),
    tolerance,
  };
}

function stored(json: Json, where: string): StoredRecord {
  const { target } = json;
  if (!isJson(target)) fail(`${where}: no target`);
  const { numerics, fma } = target;
  if (numerics !== 'fast' && numerics !== 'strict') fail(`${where}: numerics ${String(numerics)}`);
  return {
    target: {
      name: text(target, 'name', where),
      vectorBytes: count(target, 'vectorBytes', where),
      fma: fma === true,
      numerics,
    },
    sizes: sizes(json, where),
    tensor: text(json, 'tensor', where),
    checksum: count(json, 'checksum', where),
  };
}

function dimension(json: Json, where: string): DimensionRecord {
  const record = {
    name: text(json, 'name', where),
    min: count(json, 'min', where),
    max: json['max'] === 'inf' ? Infinity : count(json, 'max', where),
    size: count(json, 'size', where),
  };
  const { min, max, size: example } = record;
  if (min > max || example < min || example > max) fail(`${where}: ${example} in ${min} to ${max}`);
  return record;
}

/** Whether every position that leaves, scalars and tests name exists. */
function checkReferences(header: ModelHeader): void {
  const { inputs, outputs, leaves, scalars, draws, tests } = header;
  for (const each of leaves) {
    if (each.kind === 'input' && each.input >= inputs.length)
      fail(`there is no input ${each.input}`);
  }
  for (const each of scalars) {
    if (each.kind === 'random' && each.draw >= draws.length) fail(`there is no draw ${each.draw}`);
  }
  for (const each of tests) {
    if (each.inputs.length !== inputs.length || each.outputs.length !== outputs.length) {
      fail(`a test has ${each.inputs.length} inputs and ${each.outputs.length} outputs`);
    }
  }
}

/**
 * Reads the header of a program.
 *
 * @throws FormatError if it is no such header, or of a later version.
 */
export function parseHeader(source: string): ModelHeader {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (cause) {
    throw new FormatError('the program is no JSON', { cause });
  }
  if (!isJson(json)) fail('is no object');
  const version = count(json, 'version', 'header');
  if (version > FORMAT_VERSION || version === 0) {
    throw new FormatError(
      `the program is of version ${version} of the format, this reads up to ${FORMAT_VERSION}`,
      { hint: 'update tengen' },
    );
  }
  const draws = json['draws'];
  if (!Array.isArray(draws)) fail('draws is no list');
  const { difference, metadata } = json;
  const header: ModelHeader = {
    version,
    name: text(json, 'name', 'header'),
    producer: text(json, 'producer', 'header'),
    dimensions: list(json, 'dimensions', dimension),
    inputs: list(json, 'inputs', port),
    outputs: list(json, 'outputs', port),
    graph: json['graph'],
    leaves: list(json, 'leaves', leaf),
    scalars: list(json, 'scalars', scalar),
    draws: draws.map((item: unknown, i) => size(item, `draws[${i}]`)),
    guards: list(json, 'guards', guard),
    tests: list(json, 'tests', test),
    stored: list(json, 'stored', stored),
    difference: typeof difference === 'number' ? difference : null,
    metadata: isJson(metadata) ? metadata : {},
  };
  checkReferences(header);
  return header;
}

/**
 * The sizes of all dimensions: those left out are as recorded.
 *
 * @throws ArgumentError for a dimension that is not declared, ShapeError for a size out of its range.
 */
export function completeSizes(op: string, { dimensions }: ModelHeader, sizes: Sizes): Sizes {
  if (typeof sizes !== 'object' || sizes === null) {
    throw new ArgumentError(`sizes are { dimension: size }, got ${describeValue(sizes)}`, { op });
  }
  const unknown = Object.keys(sizes).find((name) => !dimensions.some((each) => each.name === name));
  if (unknown !== undefined) {
    const names = dimensions.map(({ name }) => name).join(', ') || 'none';
    throw new ArgumentError(`there is no dimension '${unknown}'; declared: ${names}`, { op });
  }
  return Object.fromEntries(
    dimensions.map((each) => {
      const size = sizes[each.name] ?? each.size;
      checkSize(op, each, size);
      return [each.name, size];
    }),
  );
}

/** Throws ShapeError for a size that the dimension does not have. */
export function checkSize(op: string, { name, min, max }: DimensionRecord, size: number): void {
  if (Number.isInteger(size) && size >= min && size <= max) return;
  const range = max === Infinity ? `from ${min}` : `${min} to ${max}`;
  throw new ShapeError(`dimension '${name}' is ${size}, the model takes ${range}`, { op });
}

/** The text of a header. */
export function formatHeader(header: ModelHeader): string {
  return JSON.stringify(header, (_key, value: unknown) => {
    if (typeof value !== 'number' || Number.isFinite(value)) return value;
    return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  });
}
