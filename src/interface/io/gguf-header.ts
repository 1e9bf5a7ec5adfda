// The start of a GGUF file: metadata, and what tensors there are and where.
import { FormatError } from '../../base/errors.ts';
import type { Cursor } from './cursor.ts';
import { BLOCK_FORMATS, type BlockFormatName } from './gguf-blocks.ts';
import { FILE_DTYPE_INFO, type FileDType } from './safetensors-header.ts';

/** A value of the metadata; integers that no number holds are bigints. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[];

/** How a tensor's numbers are stored. */
export type GgufType =
  | { readonly kind: 'plain'; readonly name: string; readonly fileDType: FileDType }
  | { readonly kind: 'blocks'; readonly name: BlockFormatName }
  | { readonly kind: 'unknown'; readonly name: string };

export interface GgufPlace {
  readonly name: string;
  /** Outermost axis first, as everywhere here; the file has them the other way round. */
  readonly shape: readonly number[];
  readonly type: GgufType;
  /** First byte, counted from the start of the file. */
  readonly byteOffset: number;
  /** 0 for a type that is not known. */
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufPlace>;
}

/** Vocabularies are long; nothing real is longer. */
export const MAX_GGUF_HEADER = 1 << 28;
const MAX_NAME = 1 << 16;
const MAX_RANK = 8;
const MAX_NESTING = 4;

const plain = (name: string, fileDType: FileDType): GgufType => ({
  kind: 'plain',
  name,
  fileDType,
});
const blocks = (name: BlockFormatName): GgufType => ({ kind: 'blocks', name });

const TYPES: ReadonlyMap<number, GgufType> = new Map([
  [0, plain('F32', 'F32')],
  [1, plain('F16', 'F16')],
  [2, blocks('Q4_0')],
  [3, blocks('Q4_1')],
  [6, blocks('Q5_0')],
  [7, blocks('Q5_1')],
  [8, blocks('Q8_0')],
  [10, blocks('Q2_K')],
  [11, blocks('Q3_K')],
  [12, blocks('Q4_K')],
  [13, blocks('Q5_K')],
  [14, blocks('Q6_K')],
  [15, blocks('Q8_K')],
  [24, plain('I8', 'I8')],
  [25, plain('I16', 'I16')],
  [26, plain('I32', 'I32')],
  [27, plain('I64', 'I64')],
  [28, plain('F64', 'F64')],
  [30, plain('BF16', 'BF16')],
]);

/** Names of types that are not read, so that messages can say them. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [9, 'Q8_1'],
  [16, 'IQ2_XXS'],
  [17, 'IQ2_XS'],
  [18, 'IQ3_XXS'],
  [19, 'IQ1_S'],
  [20, 'IQ4_NL'],
  [21, 'IQ3_S'],
  [22, 'IQ2_S'],
  [23, 'IQ4_XS'],
  [29, 'IQ1_M'],
  [34, 'TQ1_0'],
  [35, 'TQ2_0'],
  [39, 'MXFP4'],
]);

function safe(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readText(cursor: Cursor, what: string, limit = Infinity): string {
  const length = cursor.u64('a length');
  if (length > limit) cursor.fail(`${what} of ${length} bytes`);
  return cursor.text(length, what);
}

/** Readers of single values by type number, and the fewest bytes one takes. */
const SCALARS: ReadonlyMap<number, readonly [bytes: number, read: (cursor: Cursor) => GgufValue]> =
  new Map<number, readonly [bytes: number, read: (cursor: Cursor) => GgufValue]>([
    [0, [1, (cursor) => cursor.u8()]],
    [1, [1, (cursor) => (cursor.u8() << 24) >> 24]],
    [2, [2, (cursor) => cursor.u16()]],
    [3, [2, (cursor) => (cursor.u16() << 16) >> 16]],
    [4, [4, (cursor) => cursor.u32()]],
    [5, [4, (cursor) => cursor.i32()]],
    [6, [4, (cursor) => cursor.f32()]],
    [7, [1, readBool]],
    [8, [8, (cursor) => readText(cursor, 'a string of the metadata')]],
    [10, [8, (cursor) => safe(BigInt.asUintN(64, cursor.i64()))]],
    [11, [8, (cursor) => safe(cursor.i64())]],
    [12, [8, (cursor) => cursor.f64()]],
  ]);
const ARRAY = 9;

function readBool(cursor: Cursor): boolean {
  const value = cursor.u8();
  if (value > 1) cursor.fail(`a boolean of ${value}`, cursor.position - 1);
  return value === 1;
}

function readValue(cursor: Cursor, type: number, depth: number): GgufValue {
  if (type !== ARRAY) {
    const scalar = SCALARS.get(type);
    if (scalar === undefined) cursor.fail(`metadata of the unknown type ${type}`);
    return scalar[1](cursor);
  }
  if (depth === MAX_NESTING) cursor.fail(`metadata nests deeper than ${MAX_NESTING}`);
  const itemType = cursor.u32('a type');
  const count = cursor.u64('a length');
  const itemBytes = itemType === ARRAY ? 12 : (SCALARS.get(itemType)?.[0] ?? 1);
  if (count * itemBytes > cursor.rest) {
    cursor.fail(`a list of ${count} values, ${cursor.rest} bytes are left`);
  }
  const items: GgufValue[] = [];
  for (let i = 0; i < count; i++) items.push(readValue(cursor, itemType, depth + 1));
  return items;
}

/** Reads the start of a file. Throws FormatError if it is damaged, or its data does not fit into it. */
export function readGgufHeader(cursor: Cursor): GgufHeader {
  const magic = cursor.u32('a GGUF file');
  if (magic !== 0x46554747) {
    cursor.fail('this is not a GGUF file', 0, 'load() finds out which kind of file it is');
  }
  const version = cursor.u32('a version');
  if (version !== 2 && version !== 3) {
    const isOther = (version & 0xffff) === 0;
    cursor.fail(isOther ? 'numbers of another byte order' : `version ${version} is unknown`, 4);
  }
  const tensorCount = cursor.u64('a number of tensors');
  const pairCount = cursor.u64('a number of metadata');
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const start = cursor.position;
    const key = readText(cursor, 'a key', MAX_NAME);
    if (metadata.has(key)) cursor.fail(`two metadata are called '${key.slice(0, 100)}'`, start);
    metadata.set(key, readValue(cursor, cursor.u32('a type'), 0));
  }
  const relative = readPlaces(cursor, tensorCount);
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || !Number.isInteger(alignment) || alignment < 1) {
    cursor.fail(`an alignment of ${String(alignment).slice(0, 20)}`);
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  return { version, metadata, tensors: absolute(cursor, relative, dataStart, alignment) };
}

function readPlaces(cursor: Cursor, count: number): Map<string, GgufPlace> {
  const places = new Map<string, GgufPlace>();
  for (let i = 0; i < count; i++) {
    const start = cursor.position;
    const name = readText(cursor, 'a name', MAX_NAME);
    const label = `tensor '${name.slice(0, 200)}'`;
    if (places.has(name)) cursor.fail(`two tensors are called '${name.slice(0, 200)}'`, start);
    const rank = cursor.u32('a rank');
    if (rank > MAX_RANK) cursor.fail(`${label} has ${rank} axes`, start);
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) shape.unshift(cursor.u64('a size'));
    const number = cursor.u32('a type');
    const byteOffset = cursor.u64('an offset');
    const type: GgufType = TYPES.get(number) ?? {
      kind: 'unknown',
      name: OTHER_TYPES.get(number) ?? `type ${number}`,
    };
    const byteLength = lengthOf(type, shape);
    if (byteLength === undefined) {
      cursor.fail(`${label} of [${shape.join(',')}] cannot be ${type.name}`, start);
    }
    places.set(name, { name, shape, type, byteOffset, byteLength });
  }
  return places;
}

/** Bytes of a tensor; `undefined` if rows are no whole blocks, or the size overflows. */
function lengthOf(type: GgufType, shape: readonly number[]): number | undefined {
  const count = shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
  let length = 0;
  if (type.kind === 'plain') length = count * FILE_DTYPE_INFO[type.fileDType].bytes;
  if (type.kind === 'blocks') {
    const format = BLOCK_FORMATS[type.name];
    if ((shape.at(-1) ?? 1) % format.count !== 0) return undefined;
    length = (count / format.count) * format.bytes;
  }
  return Number.isSafeInteger(length) && Number.isSafeInteger(count) ? length : undefined;
}

function absolute(
  cursor: Cursor,
  relative: ReadonlyMap<string, GgufPlace>,
  dataStart: number,
  alignment: number,
): Map<string, GgufPlace> {
  const fileSize = cursor.position + cursor.rest;
  const places = new Map<string, GgufPlace>();
  let total = 0;
  for (const place of relative.values()) {
    const byteOffset = dataStart + place.byteOffset;
    const label = `tensor '${place.name.slice(0, 200)}'`;
    if (place.byteOffset % alignment !== 0) {
      throw new FormatError(`${label} is not at a multiple of ${alignment}`);
    }
    if (byteOffset + place.byteLength > fileSize) {
      throw new FormatError(`${label} goes beyond the end of the file, ${fileSize} bytes`, {
        offset: Math.min(byteOffset, fileSize),
        hint: 'is the file complete?',
      });
    }
    total += place.byteLength;
    places.set(place.name, { ...place, byteOffset });
  }
  if (total > fileSize) throw new FormatError('tensors overlap');
  return places;
}
