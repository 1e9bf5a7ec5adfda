// Attention and rotary embeddings.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { scaledDotProductAttention, softmax } from '../../functional/index.ts';
import { type Tensor, arange, cat, full, ones, where } from '../../tensor/index.ts';
import { elementType, flag, float, int } from '../attributes.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import type { ElementType } from '../tensor-data.ts';
import { type TensorValue, computedAs } from '../values.ts';
import { as } from './results.ts';

interface AttentionAttributes {
  readonly is_causal: boolean;
  readonly kv_num_heads: number | undefined;
  readonly q_num_heads: number | undefined;
  readonly qk_matmul_output_mode: number;
  readonly scale: number | undefined;
  readonly softcap: number;
  readonly softmax_precision: ElementType | undefined;
}

/** [batch, length, heads × size] as [batch, heads, length, size]. */
function splitHeads(x: Tensor, heads: number | undefined, what: string): Tensor {
  if (x.ndim === 4) return x;
  const [batch = 0, length = 0, width = 0] = x.shape;
  if (x.ndim !== 3 || heads === undefined || heads < 1 || width % heads !== 0) {
    throw new ShapeError(`${what} ${formatShape(x.shape)} does not split into ${heads ?? 0} heads`);
  }
  return x.reshape([batch, length, heads, width / heads]).transpose(1, 2);
}

/** Each head of keys or values for all heads of queries that share it. */
function sharedHeads(x: Tensor, heads: number): Tensor {
  const own = x.shape[1] ?? 1;
  if (own === heads) return x;
  if (heads % own !== 0) throw new ShapeError(`${heads} heads of queries on ${own} of keys`);
  return x.repeatInterleave(heads / own, 1);
}

interface Operands {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  /** Added to the scores, or null. */
  readonly bias: Tensor | null;
  readonly scale: number;
}

/** What is added to scores [.., queries, keys]: minus infinity where a mask says no. */
function biasOf(call: Call<AttentionAttributes>, query: Tensor, keys: number, past: number) {
  const queries = query.shape[2] ?? 0;
  const { dtype } = query;
  const parts: Tensor[] = [];
  const mask = call.optional(3);
  if (mask !== null) {
    let added =
      mask.dtype === 'bool' ? where(mask, full([], 0, { dtype }), -Infinity) : mask.to(dtype);
    const given = added.shape.at(-1) ?? 0;
    if (given < keys) {
      // A mask that is too short lets nothing through behind its end.
      const rest = full([...added.shape.slice(0, -1), keys - given], -Infinity, { dtype });
      added = cat([added, rest], -1);
    }
    parts.push(added);
  }
  if (call.attributes.is_causal) {
    const allowed = ones([queries, keys], { dtype: 'bool' }).tril(past);
    parts.push(where(allowed, full([], 0, { dtype }), -Infinity));
  }
  if (call.has(6)) {
    const batch = query.shape[0] ?? 0;
    const lengths = call.tensor(6).to('int32').reshape([batch, 1, 1, 1]);
    const places = arange(keys).to('int32').reshape([1, 1, 1, keys]);
    parts.push(where(places.lt(lengths), full([], 0, { dtype }), -Infinity));
  }
  return parts.length === 0 ? null : parts.reduce((a, b) => a.add(b));
}

/** Step by step, for what the fused operation does not give: soft caps and scores. */
function stepwise(
  { query, key, value, bias, scale }: Operands,
  { softcap, softmax_precision: precision, qk_matmul_output_mode: mode }: AttentionAttributes,
): readonly [result: Tensor, scores: Tensor] {
  const root = Math.sqrt(scale);
  const raw = query.mul(root).matmul(key.mul(root).transpose(-2, -1));
  const biased = bias === null ? raw : raw.add(bias);
  const capped = softcap > 0 ? biased.div(softcap).tanh().mul(softcap) : biased;
  const dtype = precision === undefined ? capped.dtype : computedAs(precision);
  const weights = softmax(capped.to(dtype), -1).to(value.dtype);
  const steps = [raw, biased, capped, weights];
  const scores = steps[mode];
  if (scores === undefined) throw new FormatError(`qk_matmul_output_mode ${mode}`);
  return [weights.matmul(value), scores];
}

function attention(call: Call<AttentionAttributes>): Result[] {
  const { attributes } = call;
  const flat = call.value(0).rank === 3;
  const { q_num_heads: heads, kv_num_heads: shared } = attributes;
  const query = splitHeads(call.tensor(0), heads, 'the query');
  let key = splitHeads(call.tensor(1), shared, 'the key');
  let value = splitHeads(call.tensor(2), shared, 'the value');
  const [pastKey, pastValue] = [call.optional(4), call.optional(5)];
  if (pastKey !== null) key = cat([pastKey, key], 2);
  if (pastValue !== null) value = cat([pastValue, value], 2);
  const [batch = 0, count = 0, length = 0, size = 1] = query.shape;
  const keys = key.shape[2] ?? 0;
  const scale = attributes.scale ?? 1 / Math.sqrt(size);
  const bias = biasOf(call, query, keys, pastKey?.shape[2] ?? 0);
  const operands = {
    query,
    key: sharedHeads(key, count),
    value: sharedHeads(value, count),
    bias,
    scale,
  };
  let result: Tensor;
  let scores: Tensor | null = null;
  const plain =
    attributes.softcap === 0 && attributes.softmax_precision === undefined && !call.wants(3);
  if (plain) {
    result = scaledDotProductAttention(query, operands.key, operands.value, {
      attnMask: bias,
      scale,
    });
  } else [result, scores] = stepwise(operands, attributes);
  if (flat) result = result.transpose(1, 2).reshape([batch, length, -1]);
  const type = call.type(0);
  return [
    as(type, result),
    as(call.type(1), key),
    as(call.type(2), value),
    scores === null ? null : as(type, scores),
  ];
}

interface RotaryAttributes {
  readonly interleaved: boolean;
  readonly num_heads: number;
  readonly rotary_embedding_dim: number;
}

/** Turns pairs of features by angles that grow with the position. */
function rotary(call: Call<RotaryAttributes>): TensorValue {
  const { interleaved, num_heads: heads, rotary_embedding_dim: part } = call.attributes;
  const given = call.value(0);
  // [batch, length, heads, size] in either layout.
  const x =
    given.rank === 4
      ? given.tensor.transpose(1, 2)
      : splitHeads(given.tensor, heads, 'the input').transpose(1, 2);
  const [batch = 0, length = 0, , size = 0] = x.shape;
  const turned = part > 0 ? part : size;
  if (turned % 2 !== 0 || turned > size) {
    throw new ShapeError(`${turned} features of ${size} do not turn in pairs`);
  }
  const half = turned / 2;
  const positions = call.optional(3);
  const table = (index: number): Tensor => {
    const cache = call.tensor(index);
    const rows =
      positions === null
        ? cache
        : cache.indexSelect(0, positions.to('int32').reshape([-1])).reshape([batch, length, -1]);
    if (rows.shape.at(-1) !== half) {
      throw new ShapeError(`${formatShape(cache.shape)} angles for ${half} pairs`);
    }
    return rows.unsqueeze(2);
  };
  const [cosine, sine] = [table(1), table(2)];
  const front = x.narrow(-1, 0, turned);
  const pairs = interleaved ? front.reshape([...front.shape.slice(0, -1), half, 2]) : null;
  const first = pairs === null ? front.narrow(-1, 0, half) : pairs.select(-1, 0);
  const second = pairs === null ? front.narrow(-1, half, half) : pairs.select(-1, 1);
  const real = first.mul(cosine).sub(second.mul(sine));
  const imaginary = first.mul(sine).add(second.mul(cosine));
  const rotated = interleaved
    ? cat([real.unsqueeze(-1), imaginary.unsqueeze(-1)], -1).reshape(front.shape)
    : cat([real, imaginary], -1);
  const whole = turned === size ? rotated : cat([rotated, x.narrow(-1, turned, size - turned)], -1);
  return as(given.type, given.rank === 4 ? whole.transpose(1, 2) : whole.reshape([...given.shape]));
}

export const attentions: readonly Operator[] = [
  defineOperator({
    name: 'Attention',
    since: 23,
    inputs: [3, 7],
    outputs: [1, 4],
    attributes: {
      is_causal: flag(),
      kv_num_heads: int(),
      q_num_heads: int(),
      qk_matmul_output_mode: int(0),
      scale: float(),
      softcap: float(0),
      softmax_precision: elementType(),
    },
    run: attention,
  }),
  defineOperator({
    name: 'RotaryEmbedding',
    since: 23,
    inputs: [3, 4],
    attributes: { interleaved: flag(), num_heads: int(0), rotary_embedding_dim: int(0) },
    run: rotary,
  }),
];
