// Attributes of nodes as they are written.
import {
  ATTRIBUTE_TYPE,
  type AttributeProto,
  type Draft,
  type GraphProto,
  type TensorProto,
} from './messages.ts';

/** A value of an attribute: integers and lists of them as numbers, others by their kind. */
export type AttributeValue =
  | number
  | readonly number[]
  | string
  | { readonly float: number }
  | { readonly texts: readonly string[] }
  | { readonly tensor: Draft<TensorProto> }
  | { readonly graph: Draft<GraphProto> }
  /** In the body of a function: what the call gives under this name, a list of integers. */
  | { readonly integersOf: string };

export function encodeAttribute(name: string, value: AttributeValue): Draft<AttributeProto> {
  if (typeof value === 'number') return { name, type: ATTRIBUTE_TYPE.int, i: BigInt(value) };
  if (typeof value === 'string') {
    return { name, type: ATTRIBUTE_TYPE.string, s: new TextEncoder().encode(value) };
  }
  if ('float' in value) return { name, type: ATTRIBUTE_TYPE.float, f: value.float };
  if ('texts' in value) {
    const strings = value.texts.map((text) => new TextEncoder().encode(text));
    return { name, type: ATTRIBUTE_TYPE.strings, strings };
  }
  if ('tensor' in value) return { name, type: ATTRIBUTE_TYPE.tensor, t: value.tensor };
  if ('integersOf' in value) {
    return { name, type: ATTRIBUTE_TYPE.ints, refAttrName: value.integersOf };
  }
  if ('graph' in value) return { name, type: ATTRIBUTE_TYPE.graph, g: value.graph };
  return { name, type: ATTRIBUTE_TYPE.ints, ints: BigInt64Array.from(value, BigInt) };
}
