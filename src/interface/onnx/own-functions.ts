// Functions that exported files bring along: a call says what is meant, and its body is what readers
// compute that do not know it. When such a file is read back, the call is what it was.
import { type AttributeValue, encodeAttribute } from './encode-attribute.ts';
import {
  type Draft,
  type FunctionProto,
  functionProto,
  type NodeProto,
  type TensorProto,
} from './messages.ts';
import { encodeTensor } from './tensor-data.ts';

/** The domain of all these functions. */
export const OWN_DOMAIN = 'tengen';
export const OWN_VERSION = 1;

/** What decides which keys a query of an attention sees. */
export const ATTENTION_KINDS = {
  /** Nothing: it sees all of them. */
  ScaledDotProductAttention: [],
  /** Something that is added to the scores. */
  ScaledDotProductAttentionBiased: ['bias'],
  /** A bool that is true where it sees. */
  ScaledDotProductAttentionMasked: ['seen'],
  /** Its place: it sees no later keys. */
  ScaledDotProductAttentionCausal: [],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type AttentionKind = keyof typeof ATTENTION_KINDS;

function node(
  opType: string,
  input: readonly string[],
  output: string,
  attributes: Readonly<Record<string, AttributeValue>> = {},
): Draft<NodeProto> {
  const attribute = Object.entries(attributes).map(([key, value]) => encodeAttribute(key, value));
  return { opType, input, output: [output], attribute };
}

function constant(tensor: Draft<TensorProto>, output: string): Draft<NodeProto> {
  return node('Constant', [], output, { value: { tensor } });
}

function integer(value: number, output: string): Draft<NodeProto> {
  const data = BigInt64Array.of(BigInt(value));
  return constant(encodeTensor({ type: 'int64', shape: [], data }), output);
}

/** Minus infinity where `seen` is false. */
function choose(seen: string): Draft<NodeProto>[] {
  const data = Float32Array.of(-Infinity);
  return [
    constant(encodeTensor({ type: 'float32', shape: [], data }), 'infinite'),
    node('CastLike', ['infinite', 'scores'], 'hidden'),
    node('Where', [seen, 'scores', 'hidden'], 'visible'),
  ];
}

/** The places of an axis of the scores, as a column or a row. */
function places(name: string, axis: number, shape: 'rows' | 'columns'): Draft<NodeProto>[] {
  const end = axis === -1 ? {} : { end: axis + 1 };
  const fresh = constant(
    encodeTensor({ type: 'int64', shape: [1], data: BigInt64Array.of(shape === 'rows' ? 1n : 0n) }),
    `${name}.axis`,
  );
  return [
    node('Shape', ['scores'], `${name}.sizes`, { start: axis, ...end }),
    node('Squeeze', [`${name}.sizes`], `${name}.count`),
    node('Range', ['zero', `${name}.count`, 'one'], `${name}.places`),
    fresh,
    node('Unsqueeze', [`${name}.places`, `${name}.axis`], name),
  ];
}

function masking(kind: AttentionKind): Draft<NodeProto>[] {
  switch (kind) {
    case 'ScaledDotProductAttention':
      return [];
    case 'ScaledDotProductAttentionBiased':
      return [node('Add', ['scores', 'bias'], 'visible')];
    case 'ScaledDotProductAttentionMasked':
      return choose('seen');
    case 'ScaledDotProductAttentionCausal':
      return [
        integer(0, 'zero'),
        integer(1, 'one'),
        ...places('queries', -2, 'rows'),
        ...places('keys', -1, 'columns'),
        node('GreaterOrEqual', ['queries', 'keys'], 'seen'),
        ...choose('seen'),
      ];
    default:
      return kind satisfies never;
  }
}

/** softmax(scale q kᵀ + mask) v. `perm` swaps the last two axes of the keys. */
export function attentionFunction(kind: AttentionKind, opset: number): Draft<FunctionProto> {
  const mask = masking(kind);
  return {
    name: kind,
    domain: OWN_DOMAIN,
    input: ['query', 'key', 'value', 'scale', ...ATTENTION_KINDS[kind]],
    output: ['result'],
    attribute: ['perm'],
    opsetImport: [{ domain: '', version: opset }],
    node: [
      node('Mul', ['query', 'scale'], 'scaled'),
      node('Transpose', ['key'], 'transposed', { perm: { integersOf: 'perm' } }),
      node('MatMul', ['scaled', 'transposed'], 'scores'),
      ...mask,
      node('Softmax', [mask.length > 0 ? 'visible' : 'scores'], 'weights', { axis: -1 }),
      node('MatMul', ['weights', 'value'], 'result'),
    ],
  };
}

export function isAttentionKind(name: string): name is AttentionKind {
  return Object.hasOwn(ATTENTION_KINDS, name);
}

/** Whether a function of a file is one of these, with the very body that belongs to it. */
export function isOwnFunction(given: FunctionProto): boolean {
  const { domain, name = '', opsetImport } = given;
  if (domain !== OWN_DOMAIN || !isAttentionKind(name)) return false;
  const opset = opsetImport.find((entry) => (entry.domain ?? '') === '')?.version ?? 0;
  const [own, other] = [attentionFunction(name, opset), given].map((message) =>
    // Read and written again, defaults that are left out are so in both.
    functionProto.encode(functionProto.decode(functionProto.encode(message))),
  ) as [Uint8Array, Uint8Array];
  return own.length === other.length && own.every((byte, i) => byte === other[i]);
}
