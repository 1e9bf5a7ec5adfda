// The attributes an operator takes: each with a type, a default, and what it is read from.
import { FormatError } from '../../base/errors.ts';
import type { Graph } from './graph.ts';
import type { AttributeProto, GraphProto } from './messages.ts';
import { ATTRIBUTE_TYPE } from './messages.ts';
import { decodeSparse } from './sparse.ts';
import { type ElementArray, type ElementType, decodeTensor, elementTypeOf } from './tensor-data.ts';

/** What reading an attribute may need of its surroundings. */
export interface AttributeReader {
  /** Resolves the nodes of a subgraph. */
  subgraph(graph: GraphProto): Graph;
}

/** One attribute: how it is stored, and its value where a node does not give it. */
export interface Attribute<T> {
  readonly types: readonly number[];
  readonly required: boolean;
  readonly standard: T;
  /** Throws FormatError with the reason for a value that cannot be. */
  read(proto: AttributeProto, reader: AttributeReader): T;
}

export type AttributeSchema = Readonly<Record<string, Attribute<unknown>>>;

/** What the attributes of a schema read as. */
export type AttributeValues<S extends AttributeSchema> = {
  readonly [K in keyof S]: S[K] extends Attribute<infer T> ? T : never;
};

const utf8 = new TextDecoder();

function attribute<T>(
  type: number,
  standard: T,
  read: (proto: AttributeProto, reader: AttributeReader) => T,
): Attribute<T> {
  return { types: [type], required: false, standard, read };
}

/** The same attribute, which every node has to give. */
export function required<T>(of: Attribute<T | undefined>): Attribute<T> {
  // Where it is missing the node is refused before anybody sees the default.
  return { ...of, required: true } as Attribute<T>;
}

/** An integer. Values beyond 2^53, such as INT64_MAX for "to the end", lose their last digits. */
export function int(): Attribute<number | undefined>;
export function int(standard: number): Attribute<number>;
export function int(standard?: number): Attribute<number | undefined> {
  return attribute(ATTRIBUTE_TYPE.int, standard, ({ i }) => Number(i ?? 0n));
}

/** An integer that means no or yes. */
export function flag(standard = false): Attribute<boolean> {
  return attribute<boolean>(ATTRIBUTE_TYPE.int, standard, ({ i }) => (i ?? 0n) !== 0n);
}

export function ints(): Attribute<readonly number[] | undefined>;
export function ints(standard: readonly number[]): Attribute<readonly number[]>;
export function ints(standard?: readonly number[]): Attribute<readonly number[] | undefined> {
  return attribute<readonly number[] | undefined>(ATTRIBUTE_TYPE.ints, standard, ({ ints }) =>
    Array.from(ints, Number),
  );
}

export function float(): Attribute<number | undefined>;
export function float(standard: number): Attribute<number>;
export function float(standard?: number): Attribute<number | undefined> {
  return attribute(ATTRIBUTE_TYPE.float, standard, ({ f }) => f ?? 0);
}

export function floats(): Attribute<readonly number[] | undefined>;
export function floats(standard: readonly number[]): Attribute<readonly number[]>;
export function floats(standard?: readonly number[]): Attribute<readonly number[] | undefined> {
  return attribute<readonly number[] | undefined>(ATTRIBUTE_TYPE.floats, standard, ({ floats }) =>
    Array.from(floats),
  );
}

/** Text; with `allowed` one of these words. */
export function text(): Attribute<string | undefined>;
export function text<T extends string>(standard: T, allowed: readonly T[]): Attribute<T>;
export function text(standard: string): Attribute<string>;
export function text(
  standard?: string,
  allowed?: readonly string[],
): Attribute<string | undefined> {
  return attribute(ATTRIBUTE_TYPE.string, standard, ({ s }) => {
    const value = utf8.decode(s ?? new Uint8Array(0));
    if (allowed === undefined || allowed.includes(value)) return value;
    throw new FormatError(`'${value.slice(0, 40)}' is not ${allowed.join(' or ')}`);
  });
}

export function texts(): Attribute<readonly string[] | undefined> {
  return attribute<readonly string[] | undefined>(
    ATTRIBUTE_TYPE.strings,
    undefined,
    ({ strings }) => strings.map((bytes) => utf8.decode(bytes)),
  );
}

/** A tensor, which is part of the model. */
export function tensorAttribute(): Attribute<ElementArray | undefined> {
  return attribute<ElementArray | undefined>(ATTRIBUTE_TYPE.tensor, undefined, ({ t }) => {
    if (t === undefined) throw new FormatError('it holds no tensor');
    return decodeTensor(t);
  });
}

/** A sparse tensor, which is written out. */
export function sparseAttribute(): Attribute<ElementArray | undefined> {
  return attribute<ElementArray | undefined>(
    ATTRIBUTE_TYPE.sparseTensor,
    undefined,
    ({ sparseTensor }) => {
      if (sparseTensor === undefined) throw new FormatError('it holds no tensor');
      return decodeSparse(sparseTensor);
    },
  );
}

/** The code of an element type. */
export function elementType(): Attribute<ElementType | undefined>;
export function elementType(standard: ElementType): Attribute<ElementType>;
export function elementType(standard?: ElementType): Attribute<ElementType | undefined> {
  return attribute<ElementType | undefined>(ATTRIBUTE_TYPE.int, standard, ({ i }) => {
    const type = elementTypeOf(Number(i ?? 0n));
    if (type === undefined) throw new FormatError(`${i ?? 0n} is no element type`);
    return type;
  });
}

/** A graph that the node may run. */
export function subgraph(): Attribute<Graph | undefined> {
  return attribute<Graph | undefined>(ATTRIBUTE_TYPE.graph, undefined, ({ g }, reader) => {
    if (g === undefined) throw new FormatError('it holds no graph');
    return reader.subgraph(g);
  });
}

/** A type, as of an optional value. */
export function typeAttribute(): Attribute<AttributeProto['tp']> {
  return attribute<AttributeProto['tp']>(ATTRIBUTE_TYPE.type, undefined, ({ tp }) => tp);
}

/** An attribute that changes nothing about the result, of any type. */
export function ignored(): Attribute<undefined> {
  return { types: [], required: false, standard: undefined, read: () => undefined };
}

/**
 * The type of an attribute as its file says, or guessed from what is there: files of early releases
 * leave it out.
 */
export function typeOfAttribute(proto: AttributeProto): number {
  if (proto.type !== undefined && proto.type !== 0) return proto.type;
  if (proto.f !== undefined) return ATTRIBUTE_TYPE.float;
  if (proto.i !== undefined) return ATTRIBUTE_TYPE.int;
  if (proto.s !== undefined) return ATTRIBUTE_TYPE.string;
  if (proto.t !== undefined) return ATTRIBUTE_TYPE.tensor;
  if (proto.g !== undefined) return ATTRIBUTE_TYPE.graph;
  if (proto.floats.length > 0) return ATTRIBUTE_TYPE.floats;
  if (proto.strings.length > 0) return ATTRIBUTE_TYPE.strings;
  if (proto.tp !== undefined) return ATTRIBUTE_TYPE.type;
  return ATTRIBUTE_TYPE.ints;
}

/** Name of an attribute type, for messages. */
export function attributeTypeName(type: number): string {
  const found = Object.entries(ATTRIBUTE_TYPE).find(([, code]) => code === type);
  return found?.[0] ?? `type ${type}`;
}
