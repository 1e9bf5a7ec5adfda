// Attention and rotary embeddings.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { conv1d, scaledDotProductAttention, softmax } from '../../functional/index.ts';
import { type Tensor, arange, cat, full, where } from '../../tensor/index.ts';
import { elementType, flag, float, ignored, int, required, subgraph, text } from '../attributes.ts';
import type { Graph } from '../graph.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import type { ElementType } from '../tensor-data.ts';
import { type TensorValue, computedAs } from '../values.ts';
import { as } from './results.ts';

interface AttentionAttributes {
  readonly is_causal: boolean;
  readonly kv_num_heads: number | undefined;
  /** So many keys before and after its place a query sees; -1 for all. */
  readonly left_window_size: number;
  readonly right_window_size: number;
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

/** Which keys a query sees by its place: those not behind it, those within a window, those that count. */
function visibleKeys(
  call: Call<AttentionAttributes>,
  query: Tensor,
  keys: number,
  past: number | null,
): Tensor | null {
  const { is_causal: causal, left_window_size: left, right_window_size: right } = call.attributes;
  const [batch = 0, , queries = 0] = query.shape;
  const lengths = call.has(6) ? call.tensor(6).to('int32').reshape([batch, 1, 1, 1]) : null;
  const columns = arange(keys).to('int32').reshape([1, keys]);
  const parts: Tensor[] = [];
  if (lengths !== null) parts.push(columns.lt(lengths));
  if (causal || left >= 0 || right >= 0) {
    const rows = arange(queries).to('int32').reshape([queries, 1]);
    // Keys before the block of queries: those of a cache, given or known by its length.
    const cached = past === null && lengths !== null ? lengths.sub(queries) : (past ?? 0);
    const places = rows.add(cached);
    if (causal) parts.push(columns.le(places));
    if (left >= 0) parts.push(columns.ge(places.sub(left)));
    if (right >= 0) parts.push(columns.le(places.add(right)));
  }
  return parts.length === 0 ? null : parts.reduce((a, b) => a.logicalAnd(b));
}

/** What is added to scores [.., queries, keys]: minus infinity where a mask says no. */
function biasOf(
  call: Call<AttentionAttributes>,
  query: Tensor,
  keys: number,
  past: number | null,
): Tensor | null {
  const { dtype } = query;
  const nothing = full([], 0, { dtype });
  const visible = visibleKeys(call, query, keys, past);
  const seen = visible === null ? null : where(visible, nothing, -Infinity);
  const mask = call.optional(3);
  if (mask === null) return seen;
  let added = mask.dtype === 'bool' ? where(mask, nothing, -Infinity) : mask.to(dtype);
  const given = added.shape.at(-1) ?? 0;
  if (given < keys && given > 1) {
    // A mask that is too short lets nothing through behind its end.
    const rest = full([...added.shape.slice(0, -1), keys - given], -Infinity, { dtype });
    added = cat([added, rest], -1);
  }
  return seen === null ? added : added.add(seen);
}

/** 1 for queries that see a key at all, [.., queries, 1]; what sees nothing gives zeros. */
function seesAny(bias: Tensor): Tensor {
  return bias.amax(-1, { keepdims: true }).gt(-Infinity);
}

/** Step by step, for what the fused operation does not give: soft caps and scores. */
function stepwise(
  { query, key, value, bias, scale }: Operands,
  { softcap, softmax_precision: precision, qk_matmul_output_mode: mode }: AttentionAttributes,
): readonly [result: Tensor, scores: Tensor] {
  const root = Math.sqrt(scale);
  const raw = query.mul(root).matmul(key.mul(root).transpose(-2, -1));
  const capped = softcap > 0 ? raw.div(softcap).tanh().mul(softcap) : raw;
  const biased = bias === null ? capped : capped.add(bias);
  const dtype = precision === undefined ? biased.dtype : computedAs(precision);
  let weights = softmax(biased.to(dtype), -1).to(value.dtype);
  if (bias !== null) weights = where(seesAny(bias), weights, 0);
  const steps = [raw, capped, biased, weights];
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
  const bias = biasOf(call, query, keys, pastKey?.shape[2] ?? null);
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
    if (bias !== null) result = where(seesAny(bias), result, 0);
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

const ATTENTION = {
  is_causal: flag(),
  kv_num_heads: int(),
  q_num_heads: int(),
  qk_matmul_output_mode: int(0),
  scale: float(),
  softcap: float(0),
  softmax_precision: elementType(),
};

/** Scores and weights may each be changed by a subgraph. */
function flexible(
  call: Call<{
    prob_mod: Graph | undefined;
    scale: number | undefined;
    score_mod: Graph | undefined;
    softmax_precision: ElementType | undefined;
  }>,
): TensorValue {
  const { prob_mod: onWeights, score_mod: onScores, scale } = call.attributes;
  const query = call.tensor(0);
  const heads = query.shape[1] ?? 1;
  const type = call.type(0);
  const precision = call.attributes.softmax_precision ?? (type === 'float64' ? type : 'float32');
  const dtype = computedAs(precision);
  const changed = (x: Tensor, graph: Graph | undefined): Tensor => {
    if (graph === undefined) return x;
    const [result] = call.graphs.run(graph, [as(precision, x)]);
    if (result?.kind === 'tensor') return result.tensor;
    throw new FormatError('the subgraph gives no tensor');
  };
  const [key, value] = [sharedHeads(call.tensor(1), heads), sharedHeads(call.tensor(2), heads)];
  const factor = scale ?? 1 / Math.sqrt(query.shape.at(-1) ?? 1);
  const scores = query.to(dtype).matmul(key.to(dtype).transpose(-2, -1)).mul(factor);
  const weights = changed(softmax(changed(scores, onScores), -1), onWeights);
  return as(type, weights.matmul(value.to(dtype)));
}

const RULES = ['linear', 'gated', 'delta', 'gated_delta'] as const;

/** A state that is multiplied, corrected and read step by step, in place of scores. */
function linearAttention(
  call: Call<{
    kv_num_heads: number;
    q_num_heads: number;
    scale: number;
    update_rule: (typeof RULES)[number];
  }>,
): Result[] {
  const { kv_num_heads: shared, q_num_heads: heads, update_rule: rule } = call.attributes;
  const type = call.type(0);
  const wide = type === 'float64' ? 'float64' : 'float32';
  // [batch, heads, steps, size]
  const query = splitHeads(call.tensor(0).to(wide), heads, 'the query');
  const key = splitHeads(call.tensor(1).to(wide), shared, 'the key');
  const value = splitHeads(call.tensor(2).to(wide), shared, 'the value');
  const [batch = 0, , steps = 0, size = 1] = query.shape;
  const width = value.shape[3] ?? 0;
  const scale = call.attributes.scale === 0 ? 1 / Math.sqrt(size) : call.attributes.scale;
  let state = call.optional(3)?.to(wide) ?? full([batch, shared, size, width], 0, { dtype: wide });
  const gated = rule === 'gated' || rule === 'gated_delta';
  const corrects = rule === 'delta' || rule === 'gated_delta';
  // Decay [batch, heads, steps, 1 or size], rate [batch, 1 or heads, steps, 1].
  const decay = gated ? splitHeads(call.tensor(4).to(wide), shared, 'the decay').exp() : null;
  const rate = corrects ? call.tensor(5).to(wide).transpose(1, 2).unsqueeze(-1) : null;
  const outputs: Tensor[] = [];
  for (let step = 0; step < steps; step++) {
    call.graphs.countRound();
    const k = key.select(2, step).unsqueeze(-1);
    let v = value.select(2, step).unsqueeze(-2);
    if (decay !== null) state = state.mul(decay.select(2, step).unsqueeze(-1));
    if (rate !== null) {
      const known = k.transpose(-2, -1).matmul(state);
      v = v.sub(known).mul(rate.select(2, step).unsqueeze(-1));
    }
    state = state.add(k.mul(v));
    const q = query.select(2, step).unsqueeze(-2);
    outputs.push(q.matmul(sharedHeads(state, heads)).mul(scale));
  }
  const whole = cat(outputs, 2)
    .transpose(1, 2)
    .reshape([batch, steps, heads * width]);
  return [as(type, whole), as(call.has(3) ? call.type(3) : type, state)];
}

/** Convolution of each channel with what came before, also in calls before this one. */
function causalConvolution(call: Call<{ activation: 'silu' | 'swish' | 'none' }>): Result[] {
  const x = call.tensor(0);
  const weight = call.tensor(1);
  const [batch = 0, channels = 0, length = 0] = x.shape;
  const kept = (weight.shape[2] ?? 1) - 1;
  const past = call.optional(3) ?? full([batch, channels, kept], 0, { dtype: x.dtype });
  const joined = cat([past, x], 2);
  const bias = call.optional(2);
  const result = conv1d(joined, weight, bias, { groups: channels });
  const activated = call.attributes.activation === 'none' ? result : result.mul(result.sigmoid());
  const state = joined.narrow(2, length, kept);
  return [as(call.type(0), activated), as(call.has(3) ? call.type(3) : call.type(0), state)];
}

export const attentions: readonly Operator[] = [
  defineOperator({
    name: 'Attention',
    since: 23,
    until: 24,
    inputs: [3, 7],
    outputs: [1, 4],
    attributes: ATTENTION,
    run: (call) =>
      attention(call.with({ ...call.attributes, left_window_size: -1, right_window_size: -1 })),
  }),
  defineOperator({
    name: 'Attention',
    since: 25,
    inputs: [3, 7],
    outputs: [1, 4],
    attributes: { ...ATTENTION, left_window_size: int(-1), right_window_size: int(-1) },
    run: attention,
  }),
  defineOperator({
    name: 'FlexAttention',
    domain: 'ai.onnx.preview',
    since: 1,
    inputs: 3,
    attributes: {
      prob_mod: subgraph(),
      scale: float(),
      score_mod: subgraph(),
      softmax_precision: elementType(),
    },
    run: flexible,
  }),
  defineOperator({
    name: 'LinearAttention',
    since: 27,
    inputs: [3, 6],
    outputs: [1, 2],
    attributes: {
      chunk_size: ignored(),
      kv_num_heads: required(int()),
      q_num_heads: required(int()),
      scale: float(0),
      update_rule: text('gated_delta', RULES),
    },
    run: linearAttention,
  }),
  defineOperator({
    name: 'CausalConvWithState',
    since: 27,
    inputs: [2, 4],
    outputs: [1, 2],
    attributes: {
      activation: text<'silu' | 'swish' | 'none'>('none', ['silu', 'swish', 'none']),
    },
    run: causalConvolution,
  }),
  defineOperator({
    name: 'RotaryEmbedding',
    since: 23,
    inputs: [3, 4],
    attributes: { interleaved: flag(), num_heads: int(0), rotary_embedding_dim: int(0) },
    run: rotary,
  }),
];
