// From a table of fields to a reader and a writer of messages: one table cannot contradict itself.
import { FormatError, internalError } from '../../base/errors.ts';
import { WIRE, WireReader, WireWriter } from './protobuf.ts';

/** The lists of numbers that a message can hold. */
type NumberList = Float32Array | Float64Array | Int32Array | BigInt64Array | BigUint64Array;

/** How one value, or each of a list, is written. `size` is an int64 that fits a JavaScript number. */
type ScalarKind = 'int32' | 'int64' | 'size' | 'float' | 'double' | 'string' | 'bytes';
type ListKind = 'floats' | 'doubles' | 'int32s' | 'int64s' | 'uint64s';

/** The kinds a property of type V may have. */
type KindOf<V> = V extends string
  ? 'string'
  : V extends bigint
    ? 'int64'
    : V extends number
      ? 'int32' | 'size' | 'float' | 'double'
      : V extends Uint8Array
        ? 'bytes'
        : V extends Float32Array
          ? 'floats'
          : V extends Float64Array
            ? 'doubles'
            : V extends Int32Array
              ? 'int32s'
              : V extends BigInt64Array
                ? 'int64s'
                : V extends BigUint64Array
                  ? 'uint64s'
                  : V extends readonly (infer Item)[]
                    ? readonly [each: KindOf<Item>]
                    : V extends object
                      ? () => MessageCodec<V>
                      : never;

/** One field: its number, its kind, and whether a list of numbers is written as one piece. */
type FieldRow<V> = readonly [field: number, kind: KindOf<Exclude<V, undefined>>, packed?: 'packed'];

/** The fields of message T: a row for every property. */
export type FieldTable<T> = { readonly [K in keyof T]-?: FieldRow<T[K]> };

/** What can be written as T: everything may be left out. */
export type Draft<T> = T extends NumberList | Uint8Array | string | number | bigint | undefined
  ? T
  : T extends readonly (infer Item)[]
    ? readonly Draft<Item>[]
    : { readonly [K in keyof T]?: Draft<T[K]> | undefined };

type AnyCodec = MessageCodec<object>;

interface Field {
  readonly name: string;
  readonly number: number;
  readonly kind: ScalarKind | ListKind | (() => AnyCodec);
  readonly repeated: boolean;
  readonly packed: boolean;
}

/** A chain of messages within messages may be this long: a subgraph takes three. */
const MAX_DEPTH = 100;

/** Messages in a file in all: two bytes of file can stand for an object of a hundred. */
const MAX_MESSAGES = 4_000_000;

interface Progress {
  messages: number;
  depth: number;
}

/** What a list that is not in the file reads as; shared, so never to be written to. */
const NOTHING: readonly never[] = Object.freeze([]);

const newList: Readonly<Record<ListKind, (length: number) => NumberList>> = {
  floats: (length) => new Float32Array(length),
  doubles: (length) => new Float64Array(length),
  int32s: (length) => new Int32Array(length),
  int64s: (length) => new BigInt64Array(length),
  uint64s: (length) => new BigUint64Array(length),
};

const LIST_WIRE: Readonly<Record<ListKind, number>> = {
  floats: WIRE.fixed32,
  doubles: WIRE.fixed64,
  int32s: WIRE.varint,
  int64s: WIRE.varint,
  uint64s: WIRE.varint,
};

const SCALAR_WIRE: Readonly<Record<ScalarKind, number>> = {
  int32: WIRE.varint,
  int64: WIRE.varint,
  size: WIRE.varint,
  float: WIRE.fixed32,
  double: WIRE.fixed64,
  string: WIRE.bytes,
  bytes: WIRE.bytes,
};

/** The numbers of one field while they are read: they may come in several pieces. */
class Gathered {
  readonly #kind: ListKind;
  #list: NumberList;
  #used = 0;

  constructor(kind: ListKind) {
    this.#kind = kind;
    this.#list = newList[kind](0);
  }

  /** Room for as many more as the bytes that were counted really hold. */
  #reserve(count: number): void {
    const wanted = this.#used + count;
    if (wanted <= this.#list.length) return;
    const grown = newList[this.#kind](Math.max(wanted, this.#used === 0 ? 0 : 2 * this.#used));
    copyList(this.#list, grown);
    this.#list = grown;
  }

  read(reader: WireReader, count: number): void {
    this.#reserve(count);
    const list = this.#list;
    const end = this.#used + count;
    for (; this.#used < end; this.#used++) {
      if (list instanceof Float32Array) list[this.#used] = reader.float();
      else if (list instanceof Float64Array) list[this.#used] = reader.double();
      else if (list instanceof Int32Array) list[this.#used] = reader.int32();
      else if (list instanceof BigInt64Array) list[this.#used] = reader.int64();
      else list[this.#used] = reader.uint64();
    }
  }

  readPacked(reader: WireReader): void {
    const width = this.#kind === 'floats' ? 4 : this.#kind === 'doubles' ? 8 : 0;
    if (width === 0) {
      this.read(reader, reader.countVarints());
      // What is left has no end: reading it says so.
      if (!reader.done) reader.skip(WIRE.varint);
      return;
    }
    if (reader.bytes.length % width !== 0) {
      throw reader.fail(`${reader.bytes.length} bytes are no list of numbers of ${width} bytes`);
    }
    this.read(reader, reader.bytes.length / width);
  }

  finish(): NumberList {
    return this.#list.length === this.#used ? this.#list : this.#list.slice(0, this.#used);
  }
}

function copyList(from: NumberList, to: NumberList): void {
  if (from instanceof BigInt64Array && to instanceof BigInt64Array) to.set(from);
  else if (from instanceof BigUint64Array && to instanceof BigUint64Array) to.set(from);
  else if (from instanceof BigInt64Array || from instanceof BigUint64Array) return;
  else if (!(to instanceof BigInt64Array) && !(to instanceof BigUint64Array)) to.set(from);
}

function isListKind(kind: Field['kind']): kind is ListKind {
  return typeof kind === 'string' && kind in newList;
}

function readScalar(kind: ScalarKind, reader: WireReader): unknown {
  switch (kind) {
    case 'int32':
      return reader.int32();
    case 'int64':
      return reader.int64();
    case 'size':
      return reader.safeInteger();
    case 'float':
      return reader.float();
    case 'double':
      return reader.double();
    case 'string':
      return reader.text();
    case 'bytes':
      return reader.view();
    default:
      kind satisfies never;
      throw internalError('unknown kind of field');
  }
}

function writeScalar(kind: ScalarKind, writer: WireWriter, value: unknown): void {
  if (kind === 'string' && typeof value === 'string') writer.text(value);
  else if (kind === 'bytes' && value instanceof Uint8Array) writer.view(value);
  else if (kind === 'int64' && typeof value === 'bigint') writer.int64(value);
  else if (typeof value !== 'number') throw internalError(`a field of kind ${kind} got ${value}`);
  else if (kind === 'float') writer.float(value);
  else if (kind === 'double') writer.double(value);
  else if (Number.isSafeInteger(value)) writer.int64(BigInt(value));
  else throw new FormatError(`${value} cannot be written as an integer`);
}

function writeNumbers(writer: WireWriter, list: NumberList): void {
  for (const value of list) writeNumber(writer, list, value);
}

function writeNumber(writer: WireWriter, list: NumberList, value: number | bigint): void {
  if (typeof value === 'bigint') writer.int64(value);
  else if (list instanceof Float32Array) writer.float(value);
  else if (list instanceof Float64Array) writer.double(value);
  else writer.int32(value);
}

function writeList(field: Field, writer: WireWriter, list: NumberList): void {
  if (list.length === 0) return;
  if (field.packed) {
    writer.key(field.number, WIRE.bytes);
    const inner = new WireWriter();
    writeNumbers(inner, list);
    writer.inner(inner);
    return;
  }
  const wire = LIST_WIRE[field.kind as ListKind];
  for (const value of list) {
    writer.key(field.number, wire);
    writeNumber(writer, list, value);
  }
}

function fieldsOf(table: Readonly<Record<string, readonly unknown[]>>): Field[] {
  return Object.entries(table).map(([name, [number, kind, packed]]) => {
    const repeated = Array.isArray(kind);
    return {
      name,
      number: number as number,
      kind: (repeated ? kind[0] : kind) as Field['kind'],
      repeated,
      packed: packed === 'packed',
    };
  });
}

/** Reads and writes messages of one type. */
export class MessageCodec<T extends object> {
  readonly name: string;
  readonly #fields: readonly Field[];
  readonly #byNumber: ReadonlyMap<number, Field>;

  constructor(name: string, table: FieldTable<T>) {
    this.name = name;
    this.#fields = fieldsOf(table as Readonly<Record<string, readonly unknown[]>>);
    this.#byNumber = new Map(this.#fields.map((field) => [field.number, field]));
  }

  /**
   * The message in `bytes`. Fields that are not there are `undefined`, lists empty; unknown fields are
   * left out. Bytes within it are views on `bytes`.
   *
   * @throws FormatError with the offset of what is truncated, malformed or nested too deeply.
   */
  decode(bytes: Uint8Array): T {
    return this.read(new WireReader(bytes), { messages: 0, depth: 0 });
  }

  /** The bytes of a message; decoding them gives it back. */
  encode(message: Draft<T>): Uint8Array {
    const writer = new WireWriter();
    this.write(writer, message);
    return writer.finish();
  }

  read(reader: WireReader, progress: Progress): T {
    if (++progress.messages > MAX_MESSAGES) {
      throw reader.fail(`more than ${MAX_MESSAGES} messages`);
    }
    if (++progress.depth > MAX_DEPTH) {
      throw reader.fail(`more than ${MAX_DEPTH} messages within each other`);
    }
    const message: Record<string, unknown> = {};
    const lists = new Map<Field, Gathered>();
    while (!reader.done) {
      const start = reader.position;
      const { field: number, wire } = reader.key();
      const field = this.#byNumber.get(number);
      if (field === undefined) reader.skip(wire);
      else if (isListKind(field.kind)) this.#readList(field, field.kind, reader, wire, lists);
      else this.#readField(field, reader, wire, start, message, progress);
    }
    progress.depth--;
    for (const field of this.#fields) {
      if (isListKind(field.kind)) {
        message[field.name] = lists.get(field)?.finish() ?? newList[field.kind](0);
      } else if (field.repeated) message[field.name] ??= NOTHING;
    }
    return message as T;
  }

  #expect(field: Field, reader: WireReader, wire: number, wanted: number): void {
    if (wire === wanted) return;
    throw reader.fail(`${this.name}.${field.name} is stored as wire type ${wire}, not ${wanted}`);
  }

  #readList(
    field: Field,
    kind: ListKind,
    reader: WireReader,
    wire: number,
    lists: Map<Field, Gathered>,
  ): void {
    let list = lists.get(field);
    if (list === undefined) lists.set(field, (list = new Gathered(kind)));
    if (wire === WIRE.bytes) return list.readPacked(reader.inner());
    this.#expect(field, reader, wire, LIST_WIRE[kind]);
    list.read(reader, 1);
  }

  #readField(
    field: Field,
    reader: WireReader,
    wire: number,
    start: number,
    message: Record<string, unknown>,
    progress: Progress,
  ): void {
    const { name, kind } = field;
    const isMessage = typeof kind === 'function';
    const wanted = isMessage ? WIRE.bytes : SCALAR_WIRE[kind as ScalarKind];
    // Lists of integers may come in one piece, as lists of numbers do.
    if (field.repeated && wire === WIRE.bytes && wanted === WIRE.varint) {
      const inner = reader.inner();
      while (!inner.done) append(message, name, readScalar(kind as ScalarKind, inner));
      return;
    }
    this.#expect(field, reader, wire, wanted);
    if (isMessage && !field.repeated && message[name] !== undefined) {
      throw reader.fail(`${this.name}.${name} is there twice`, start);
    }
    const value = isMessage
      ? kind().read(reader.inner(), progress)
      : readScalar(kind as ScalarKind, reader);
    if (field.repeated) append(message, name, value);
    else message[name] = value;
  }

  write(writer: WireWriter, message: object): void {
    const record = message as Readonly<Record<string, unknown>>;
    for (const field of this.#fields) {
      const value = record[field.name];
      if (value === undefined) continue;
      if (isListKind(field.kind)) writeList(field, writer, value as NumberList);
      else if (!field.repeated) writeOne(field, writer, value);
      else for (const item of value as readonly unknown[]) writeOne(field, writer, item);
    }
  }
}

function append(message: Record<string, unknown>, name: string, value: unknown): void {
  const list = message[name] as unknown[] | undefined;
  if (list === undefined) message[name] = [value];
  else list.push(value);
}

function writeOne(field: Field, writer: WireWriter, value: unknown): void {
  const { kind, number } = field;
  if (typeof kind === 'function') {
    writer.key(number, WIRE.bytes);
    const inner = new WireWriter();
    kind().write(inner, value as object);
    writer.inner(inner);
    return;
  }
  writer.key(number, SCALAR_WIRE[kind as ScalarKind]);
  writeScalar(kind as ScalarKind, writer, value);
}
