// Trees of tensors and plain values, taken apart into named tensors and JSON, and put together again.
import type { TypedArray } from '../../base/dtype.ts';
import { ArgumentError, FormatError } from '../../base/errors.ts';
import { isTypedArray } from './host-array.ts';
import { type Tensor, isTensor } from './tensors.ts';

/** What a checkpoint is made of. */
export type CheckpointValue =
  | Tensor
  | TypedArray
  | number
  | bigint
  | string
  | boolean
  | null
  | undefined
  | readonly CheckpointValue[]
  | ReadonlyMap<string, CheckpointValue>
  | { readonly [key: string]: CheckpointValue };

/** The two halves of a tree: arrays by name, and JSON that says where they go. */
export interface FlatTree {
  readonly arrays: Map<string, Tensor | TypedArray>;
  readonly json: string;
}

/** Deeper trees are a mistake (or an attack): nothing real nests like this. */
const MAX_DEPTH = 100;

const TYPED_ARRAY_NAMES = [
  'Float32Array',
  'Float64Array',
  'Int8Array',
  'Uint8Array',
  'Int16Array',
  'Uint16Array',
  'Int32Array',
  'Uint32Array',
];

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

class Flattener {
  readonly arrays = new Map<string, Tensor | TypedArray>();
  /** Names by identity, so that an array that stands at two places is stored once. */
  private readonly names = new Map<object, string>();
  private readonly open = new Set<object>();

  private nameFor(value: Tensor | TypedArray, path: string): string {
    const known = this.names.get(value);
    if (known !== undefined) return known;
    let name = path;
    for (let copy = 2; this.arrays.has(name); copy++) name = `${path}#${copy}`;
    this.arrays.set(name, value);
    this.names.set(value, name);
    return name;
  }

  encode(value: unknown, path: string): Json {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
    if (typeof value === 'number') {
      // JSON has no words for these four.
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { $number: numberText(value) };
    }
    if (typeof value === 'bigint') return { $bigint: String(value) };
    if (typeof value !== 'object') {
      throw new ArgumentError(`a checkpoint cannot hold the ${typeof value} at '${path}'`);
    }
    if (isTensor(value)) return { $tensor: this.nameFor(value, path) };
    if (isTypedArray(value)) {
      return { $array: this.nameFor(value, path), kind: value.constructor.name };
    }
    if (ArrayBuffer.isView(value)) {
      throw new ArgumentError(
        `a checkpoint cannot hold the ${value.constructor.name} at '${path}'`,
        { hint: `it takes ${TYPED_ARRAY_NAMES.join(', ')}` },
      );
    }
    if (this.open.has(value)) {
      throw new ArgumentError(`the checkpoint contains itself at '${path}'`);
    }
    if (this.open.size >= MAX_DEPTH) {
      throw new ArgumentError(`the checkpoint nests deeper than ${MAX_DEPTH} at '${path}'`);
    }
    this.open.add(value);
    try {
      return this.encodeContainer(value, path);
    } finally {
      this.open.delete(value);
    }
  }

  private encodeContainer(value: object, path: string): Json {
    const below = (key: string): string => (path === '' ? key : `${path}.${key}`);
    if (Array.isArray(value)) {
      return value.map((item: unknown, index) => this.encode(item, below(String(index))));
    }
    if (value instanceof Map) {
      const pairs: Json[] = [];
      for (const [key, item] of value as Map<unknown, unknown>) {
        if (typeof key !== 'string') {
          throw new ArgumentError(`a Map in a checkpoint has string keys, not so at '${path}'`);
        }
        if (item !== undefined) pairs.push([key, this.encode(item, below(key))]);
      }
      return { $map: pairs };
    }
    if (!isPlainRecord(value)) {
      throw new ArgumentError(
        `a checkpoint holds plain data, not the ${value.constructor.name} at '${path}'`,
        { hint: 'save its state: stateDict() or state()' },
      );
    }
    const result: { [key: string]: Json } = Object.create(null) as { [key: string]: Json };
    for (const [key, item] of Object.entries(value) as [string, unknown][]) {
      if (item === undefined) continue;
      // '$' marks our own words, so a key that starts with it gets one more.
      result[key.startsWith('$') ? `$${key}` : key] = this.encode(item, below(key));
    }
    return result;
  }
}

/** True for `{...}` of any realm, false for instances of classes. */
function isPlainRecord(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function numberText(value: number): string {
  return Object.is(value, -0) ? '-0' : String(value);
}

/**
 * Takes a tree apart. Maps, records, arrays, numbers (also NaN and infinities), bigints, strings,
 * booleans and null come back as they were; `undefined` members are left out. An array at two places
 * is stored once.
 *
 * @throws ArgumentError for functions, class instances and cycles, naming the place.
 */
export function flattenTree(tree: unknown): FlatTree {
  const flattener = new Flattener();
  const json = JSON.stringify(flattener.encode(tree, ''));
  return { arrays: flattener.arrays, json };
}

/** Gives the array stored under a name; the flag tells whether a plain typed array is wanted. */
export type ArrayLookup = (name: string, kind: string | undefined) => Tensor | TypedArray;

/**
 * Puts a tree together again.
 *
 * @throws FormatError if the JSON is not what {@link flattenTree} writes.
 */
export function unflattenTree(json: string, lookup: ArrayLookup): CheckpointValue {
  let parsed: Json;
  try {
    parsed = JSON.parse(json) as Json;
  } catch (cause) {
    throw new FormatError('the tree of the checkpoint is not JSON', { cause });
  }
  return decode(parsed, lookup, 0);
}

function decode(value: Json, lookup: ArrayLookup, depth: number): CheckpointValue {
  if (typeof value !== 'object' || value === null) return value;
  if (depth > MAX_DEPTH + 1) {
    throw new FormatError(`the tree of the checkpoint nests deeper than ${MAX_DEPTH}`);
  }
  if (Array.isArray(value)) return value.map((item) => decode(item, lookup, depth + 1));
  const keys = Object.keys(value);
  const mark = keys[0];
  if (mark !== undefined && /^\$[^$]/.test(mark)) return decodeMark(mark, value, lookup, depth);
  // Object.fromEntries defines own properties, so a key '__proto__' stays harmless data.
  return Object.fromEntries(
    keys.map((key) => [
      key.startsWith('$$') ? key.slice(1) : key,
      decode(value[key] as Json, lookup, depth + 1),
    ]),
  );
}

function decodeMark(
  mark: string,
  value: { [key: string]: Json },
  lookup: ArrayLookup,
  depth: number,
): CheckpointValue {
  const content = value[mark];
  if (mark === '$map' && Array.isArray(content)) {
    return new Map(content.map((pair) => decodePair(pair, lookup, depth)));
  }
  if (typeof content === 'string') {
    const kind = value['kind'];
    if (mark === '$tensor') return lookup(content, undefined);
    if (mark === '$array' && typeof kind === 'string' && TYPED_ARRAY_NAMES.includes(kind)) {
      return lookup(content, kind);
    }
    if (mark === '$number' && /^(NaN|-?Infinity|-0)$/.test(content)) return Number(content);
    if (mark === '$bigint' && /^-?\d{1,10000}$/.test(content)) return BigInt(content);
  }
  throw new FormatError(`the tree of the checkpoint has a malformed ${mark.slice(0, 40)}`);
}

function decodePair(pair: Json, lookup: ArrayLookup, depth: number): [string, CheckpointValue] {
  const [key, item] = Array.isArray(pair) ? pair : [];
  if (typeof key !== 'string' || item === undefined) {
    throw new FormatError('the tree of the checkpoint has a malformed $map');
  }
  return [key, decode(item, lookup, depth + 1)];
}
