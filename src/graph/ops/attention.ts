// Scaled dot-product attention in blocks, and its gradient: neither stores all scores.
import { isFloat } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { philoxBits, uniformFromBits } from '../../base/philox.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode, type ReferenceTensor, type Sample } from '../op.ts';
import { add, mul, sub } from './arithmetic.ts';
import { keyParts, lowerAttentionBackward } from './attention-backward.ts';
import { lowerAttention } from './attention-forward.ts';
import { BLOCK, drawnKeys, keptThreshold } from './attention-head.ts';
import { lowerAttentionMask } from './attention-mask.ts';
import { reshape, sum, sumTo } from './broadcast.ts';
import { greaterEqual, select } from './compare.ts';
import { constant, iota } from './creation.ts';
import { exp } from './math.ts';
import { matmul } from './matmul.ts';
import { transpose } from './permute.ts';
import { randomBits, type RandomSource } from './random.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { narrowAxis, pad } from './slicing.ts';

const ATTENTION = { scale: 'float', causal: 'flag', dropout: 'float' } as const;
type AttentionAttrs = AttrsOf<typeof ATTENTION>;

/** Inputs that are floats, and the four words that name a place in a random stream, if any. */
function parted<T>(inputs: readonly T[], { dropout }: AttentionAttrs) {
  const count = inputs.length - (dropout > 0 ? 4 : 0);
  return { floats: inputs.slice(0, count), source: inputs.slice(count) };
}

/** Throws unless the inputs are floats of one dtype with these shapes, and words behind them. */
function check(
  op: string,
  all: readonly Node[],
  attrs: AttentionAttrs,
  shapes: readonly Shape[],
): void {
  const { floats: inputs, source } = parted(all, attrs);
  if (!(attrs.dropout >= 0 && attrs.dropout < 1)) {
    throw new ArgumentError(`dropout must be in [0, 1), got ${attrs.dropout}`, { op });
  }
  if (source.some(({ dtype, shape }) => dtype !== 'uint32' || shape.length > 0)) {
    throw new DTypeError('the random source is four scalars of uint32', { op });
  }
  const { dtype } = inputs[0]!;
  if (!isFloat(dtype) || inputs.some((input) => input.dtype !== dtype)) {
    const dtypes = inputs.map((input) => input.dtype).join(', ');
    throw new DTypeError(`takes floats of one dtype, not ${dtypes}`, { op });
  }
  const found = inputs.map(({ shape }) => formatShape(shape)).join(', ');
  const wanted = shapes.slice(0, inputs.length).map(formatShape).join(', ');
  // The mask stands last, and may be the same for parts of the batch and for all queries.
  const fits = shapes.every((shape, at) => {
    const given = inputs[at]?.shape ?? shape;
    const isMask = at === shapes.length - 1;
    return (
      given.length === shape.length &&
      given.every((size, axis) => {
        const mayShare = isMask && axis < shape.length - 1;
        return size === shape[axis] || (mayShare && size === 1);
      })
    );
  });
  if (!fits) throw new ShapeError(`got ${found}, not ${wanted}`, { op });
}

/** The same for the inputs of gradients. */
function checkBackward(op: string, inputs: readonly Node[], attrs: AttentionAttrs): void {
  const { batch, queries, keys, size, valueSize } = sizesOf(inputs);
  check(op, inputs, attrs, [
    [...batch, queries, size],
    [...batch, keys, size],
    [...batch, keys, valueSize],
    [...batch, queries, valueSize],
    [...batch, queries, 1],
    [...batch, queries, 1],
    [...batch, queries, keys],
  ]);
}

/** Batch, L, S, E and V of query, key and value. */
function sizesOf([q, k, v]: readonly { readonly shape: Shape }[]) {
  return {
    batch: q!.shape.slice(0, -2),
    queries: q!.shape.at(-2)!,
    keys: k!.shape.at(-2)!,
    size: q!.shape.at(-1)!,
    valueSize: v!.shape.at(-1)!,
  };
}

const attentionOp = defineOp({
  name: 'attention',
  summary: 'softmax(scale q kᵀ + mask) v; the last column is the log-sum-exp of the scores',
  attrs: ATTENTION,
  infer: (inputs, attrs) => {
    const { batch, queries, keys, size, valueSize } = sizesOf(inputs);
    check('attention', inputs, attrs, [
      [...batch, queries, size],
      [...batch, keys, size],
      [...batch, keys, valueSize],
      [...batch, queries, keys],
    ]);
    return { shape: [...batch, queries, valueSize + 1], dtype: inputs[0]!.dtype };
  },
  gradient: ({ node, inputs, attrs, grad, needs }) => {
    const { floats, source } = parted(inputs, attrs);
    const [q, k, v, mask] = floats as [Node, Node, Node, Node?];
    const { valueSize } = sizesOf(inputs);
    const [result, logSum] = [columns(node, 0, valueSize), columns(node, valueSize, 1)];
    const [g, byLogSum] = [columns(grad, 0, valueSize), columns(grad, valueSize, 1)];
    const share = sub(sum(mul(g, result), -1, true), byLogSum);
    const tail = mask === undefined ? [] : [mask];
    const all = [q, k, v, g, logSum, share, ...tail, ...source];
    const { byQuery, byKey, byValue } = unpack(makeNode(backwardOp, all, attrs), q, k, v);
    const gradients: (Node | null)[] = [sum(byQuery, -3), byKey, byValue];
    if (mask !== undefined) gradients.push(needs(3) ? makeNode(maskOp, all, attrs) : null);
    return [...gradients, ...source.map(() => null)];
  },
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => {
      const blocks = node.shape.at(-2)! / 32;
      return [1, blocks, blocks, 1];
    },
    lower: lowerAttention,
  },
  reference: (inputs, attrs) => {
    const { queries, valueSize } = sizesOf(inputs);
    const [, , v] = inputs;
    const data: number[] = [];
    const { floats } = parted(inputs, attrs);
    const factor = factorsOf(inputs, attrs);
    forEachRow(inputs, attrs, floats[3], (scores, head, i, keys) => {
      const top = Math.max(...scores);
      const total = scores.reduce((all, score) => all + Math.exp(score - top), 0);
      for (let c = 0; c < valueSize; c++) {
        let value = 0;
        for (let j = 0; j < keys; j++) {
          const weight = (factor(head, i, j) * Math.exp(scores[j]! - top)) / total;
          value += weight * v!.data[(head * keys + j) * valueSize + c]!;
        }
        data.push(value);
      }
      data.push(top + Math.log(total));
    });
    return Float64Array.from(queries === 0 ? [] : data);
  },
  samples: () => GEOMETRIES.map((geometry) => sample(geometry)),
});

const backwardOp = defineOp({
  name: 'attentionBackward',
  summary: 'gradients of attention for parts of the keys: rows of queries, keys, values',
  attrs: ATTENTION,
  infer: (inputs, attrs) => {
    const { batch, queries, keys, size, valueSize } = sizesOf(inputs);
    checkBackward('attentionBackward', inputs, attrs);
    const { parts, keysOfPart } = keyParts(sizeOf(batch), keys);
    const shape = [...batch, parts, queries + 2 * keysOfPart, Math.max(size, valueSize)];
    return { shape, dtype: inputs[0]!.dtype };
  },
  gradient: ({ inputs, attrs, grad }) => secondGradients(inputs, attrs, grad),
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => {
      const blocks = node.inputs[0]!.shape.at(-2)! / 16;
      const parts = node.shape.at(-3)!;
      return [2 * parts, blocks, blocks, 2 * parts, parts, parts, 1];
    },
    lower: lowerAttentionBackward,
  },
  reference: backwardReference,
  samples: () => GEOMETRIES.map((geometry) => backwardSample(geometry)),
});

const maskOp = defineOp({
  name: 'attentionMaskGradient',
  summary: 'the gradient of attention by its mask',
  attrs: ATTENTION,
  infer: (inputs, attrs) => {
    checkBackward('attentionMaskGradient', inputs, attrs);
    const mask = parted(inputs, attrs).floats[6];
    if (mask === undefined) {
      throw new ShapeError('takes a mask', { op: 'attentionMaskGradient' });
    }
    return { shape: mask.shape, dtype: mask.dtype };
  },
  gradient: ({ inputs, attrs, grad }) => maskSecondGradients(inputs, attrs, grad),
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => {
      const queryBlocks = node.inputs[0]!.shape.at(-2)! / 32;
      const keyBlocks = node.shape.at(-1)! / BLOCK;
      return [keyBlocks, queryBlocks, queryBlocks, keyBlocks, keyBlocks, keyBlocks, 1];
    },
    lower: lowerAttentionMask,
  },
  reference: maskReference,
  samples: () => GEOMETRIES.filter(({ masked }) => masked).map((one) => backwardSample(one)),
});

function columns(x: Node, start: number, count: number): Node {
  return narrowAxis(x, -1, start, count);
}

/** [.., parts, keys of a part, n] as [.., keys, n]. */
function joinParts(x: Node, keys: number): Node {
  const [parts, keysOfPart, n] = x.shape.slice(-3) as [number, number, number];
  return narrowAxis(reshape(x, [...x.shape.slice(0, -3), parts * keysOfPart, n]), -2, 0, keys);
}

/** [.., keys, n] as [.., parts, keys of a part, n], with zeros at the end. */
function splitParts(x: Node, parts: number, keysOfPart: number): Node {
  const [rows, width] = x.shape.slice(-2) as [number, number];
  const batch = x.shape.slice(0, -2);
  const none = x.shape.map(() => 0);
  const padded = pad(x, none, [...batch.map(() => 0), parts * keysOfPart - rows, 0]);
  return reshape(padded, [...batch, parts, keysOfPart, width]);
}

/** What lies in the result of the backward op; `byQuery` for each part of the keys. */
function unpack(packed: Node, q: Node, k: Node, v: Node) {
  const { queries, keys, size, valueSize } = sizesOf([q, k, v]);
  const keysOfPart = (packed.shape.at(-2)! - queries) / 2;
  const rows = (start: number, count: number, width: number): Node =>
    columns(narrowAxis(packed, -2, start, count), 0, width);
  return {
    byQuery: rows(0, queries, size),
    byKey: joinParts(rows(queries, keysOfPart, size), keys),
    byValue: joinParts(rows(queries + keysOfPart, keysOfPart, valueSize), keys),
  };
}

/**
 * What dropout makes of the weights [.., L, S], as a graph: 0, or 1 / (1 - dropout). It draws what the
 * kernels draw.
 */
export function keptFactors(
  shape: Shape,
  dtype: Node['dtype'],
  dropout: number,
  source: RandomSource,
): Node {
  const keys = shape.at(-1)!;
  const drawn = randomBits([...shape.slice(0, -1), drawnKeys(keys)], source);
  const words = narrowAxis(drawn, -1, 0, keys);
  const kept = greaterEqual(words, constant(keptThreshold(dropout), 'uint32'));
  return select(kept, constant(1 / (1 - dropout), dtype), constant(0, dtype));
}

/** Weights and gradients of the scores as a graph that stores them. */
function composite(inputs: readonly Node[], attrs: AttentionAttrs) {
  const { scale, causal, dropout } = attrs;
  const { floats, source } = parted(inputs, attrs);
  const [q, k, v, g, logSum, share, mask] = floats as [Node, Node, Node, Node, Node, Node, Node?];
  let scores = mul(matmul(q, transpose(k)), constant(scale, q.dtype));
  if (mask !== undefined) scores = add(scores, mask);
  if (causal) {
    const plane = scores.shape.slice(-2);
    const seen = greaterEqual(iota(plane, 0, 'int32'), iota(plane, 1, 'int32'));
    scores = select(seen, scores, constant(-Infinity, q.dtype));
  }
  const weights = exp(sub(scores, logSum));
  const [seedLow, seedHigh, offsetLow, offsetHigh] = source as [Node, Node, Node, Node];
  const place = { seedLow, seedHigh, offsetLow, offsetHigh };
  const factors = dropout > 0 ? keptFactors(scores.shape, q.dtype, dropout, place) : null;
  /** What reaches the values, or comes from them. */
  const dropped = (x: Node): Node => (factors === null ? x : mul(x, factors));
  const excess = sub(dropped(matmul(g, transpose(v))), share);
  return { weights, excess, slopes: mul(weights, excess), dropped };
}

/**
 * Gradients of the backward op: of dS = P ∘ (F ∘ g vᵀ - share), dq = dS k, dk = dSᵀ q, dv = (F ∘ P)ᵀ g, with
 * F what dropout makes of the weights.
 */
function secondGradients(
  inputs: readonly Node[],
  attrs: AttentionAttrs,
  grad: Node,
): (Node | null)[] {
  const [q, k, v, g] = inputs as [Node, Node, Node, Node];
  const { floats, source } = parted(inputs, attrs);
  const { weights, excess, slopes, dropped } = composite(inputs, attrs);
  const { byQuery: a, byKey: b, byValue: c } = unpack(grad, q, k, v);
  const [parts, keys] = [a.shape.at(-3)!, k.shape.at(-2)!];
  const keysOfPart = (grad.shape.at(-2)! - q.shape.at(-2)!) / 2;
  const scaled = (x: Node): Node => mul(x, constant(attrs.scale, x.dtype));
  // The parts of a meet the keys of their part only.
  const byPart = matmul(splitParts(k, parts, keysOfPart), transpose(a));
  const together = transpose(joinParts(byPart, keys));
  const slopesGrad = scaled(add(together, matmul(q, transpose(b))));
  const excessGrad = mul(slopesGrad, weights);
  const weightsGrad = add(mul(slopesGrad, excess), dropped(matmul(g, transpose(c))));
  const scoresGrad = mul(weightsGrad, weights);
  const slopesByKey = splitParts(transpose(slopes), parts, keysOfPart);
  const result = [
    scaled(add(matmul(scoresGrad, k), matmul(slopes, b))),
    scaled(add(matmul(transpose(scoresGrad), q), joinParts(matmul(slopesByKey, a), keys))),
    matmul(transpose(dropped(excessGrad)), g),
    add(matmul(dropped(excessGrad), v), matmul(dropped(weights), c)),
    mul(sum(scoresGrad, -1, true), constant(-1, q.dtype)),
    mul(sum(excessGrad, -1, true), constant(-1, q.dtype)),
    ...(floats[6] === undefined ? [] : [sumTo(scoresGrad, floats[6].shape)]),
  ];
  return [...result, ...source.map(() => null)];
}

/** Gradients of the gradient by the mask, which is dS, summed to the mask's shape. */
function maskSecondGradients(
  inputs: readonly Node[],
  attrs: AttentionAttrs,
  grad: Node,
): (Node | null)[] {
  const { floats, source } = parted(inputs, attrs);
  const [q, k, v, g, , , mask] = floats as [Node, Node, Node, Node, Node, Node, Node];
  const { weights, excess, dropped } = composite(inputs, attrs);
  const excessGrad = mul(weights, grad);
  const scoresGrad = mul(mul(excess, grad), weights);
  const leftGrad = dropped(excessGrad);
  const scaled = (x: Node): Node => mul(x, constant(attrs.scale, x.dtype));
  const negative = (x: Node): Node => mul(sum(x, -1, true), constant(-1, q.dtype));
  return [
    scaled(matmul(scoresGrad, k)),
    scaled(matmul(transpose(scoresGrad), q)),
    matmul(transpose(leftGrad), g),
    matmul(leftGrad, v),
    negative(scoresGrad),
    negative(excessGrad),
    sumTo(scoresGrad, mask.shape),
    ...source.map(() => null),
  ];
}

// ---- reference and samples --------------------------------------------------------------------

/** What dropout makes of the weight of a key for a query of a head. */
function factorsOf(
  inputs: readonly ReferenceTensor[],
  attrs: AttentionAttrs,
): (head: number, query: number, key: number) => number {
  const { batch, queries, keys } = sizesOf(inputs);
  if (attrs.dropout === 0) return () => 1;
  const [seedLow, seedHigh, low, high] = parted(inputs, attrs).source.map(({ data }) => data[0]!);
  const width = drawnKeys(keys);
  const count = sizeOf(batch) * queries * width;
  const bits = philoxBits(seedLow!, seedHigh!, low! + high! * 2 ** 32, count);
  return (head, query, key) => {
    const unit = uniformFromBits(bits[(head * queries + query) * width + key]!);
    return unit >= attrs.dropout ? 1 / (1 - attrs.dropout) : 0;
  };
}

/** Where a mask, axes of which may have size 1, stands for a key of a query of a head. */
function maskIndex(
  inputs: readonly ReferenceTensor[],
  mask: ReferenceTensor | undefined,
): (head: number, query: number, key: number) => number {
  const { batch, queries, keys } = sizesOf(inputs);
  const shape = mask?.shape ?? [...batch, queries, keys];
  return (head, query, key) => {
    let [rest, lead, stride] = [head, 0, 1];
    for (let axis = batch.length - 1; axis >= 0; axis--) {
      const index = rest % batch[axis]!;
      rest = Math.floor(rest / batch[axis]!);
      if (shape[axis] === 1) continue;
      lead += index * stride;
      stride *= shape[axis]!;
    }
    const rows = shape.at(-2)!;
    return (lead * rows + (rows === 1 ? 0 : query)) * keys + key;
  };
}

/** Visits the scores of every query of every head. */
function forEachRow(
  inputs: readonly ReferenceTensor[],
  { scale, causal }: AttentionAttrs,
  mask: ReferenceTensor | undefined,
  visit: (scores: number[], head: number, query: number, keys: number) => void,
): void {
  const [q, k] = inputs;
  const { batch, queries, keys, size } = sizesOf(inputs);
  const maskAt = maskIndex(inputs, mask);
  for (let head = 0; head < sizeOf(batch); head++) {
    for (let i = 0; i < queries; i++) {
      const row = head * queries + i;
      const scores = Array.from({ length: keys }, (_, j) => {
        if (causal && j > i) return -Infinity;
        let product = 0;
        for (let e = 0; e < size; e++) {
          product += q!.data[row * size + e]! * k!.data[(head * keys + j) * size + e]!;
        }
        return scale * product + (mask?.data[maskAt(head, i, j)] ?? 0);
      });
      visit(scores, head, i, keys);
    }
  }
}

function backwardReference(
  inputs: readonly ReferenceTensor[],
  attrs: AttentionAttrs,
  output: { readonly shape: Shape },
): Float64Array {
  const [q, k, v, g, logSum, share, mask] = parted(inputs, attrs).floats as ReferenceTensor[];
  const factor = factorsOf(inputs, attrs);
  const { queries, size, valueSize } = sizesOf(inputs);
  const [parts, rows, width] = output.shape.slice(-3) as [number, number, number];
  const keysOfPart = (rows - queries) / 2;
  const data = new Float64Array(sizeOf(output.shape));
  forEachRow(inputs, attrs, mask, (scores, head, i, keys) => {
    const row = head * queries + i;
    scores.forEach((score, j) => {
      const weight = Math.exp(score - logSum!.data[row]!);
      const at = head * keys + j;
      const part = Math.floor(j / keysOfPart);
      const add = (line: number, column: number, value: number): void => {
        data[((head * parts + part) * rows + line) * width + column]! += value;
      };
      const byKey = queries + (j % keysOfPart);
      let product = 0;
      for (let c = 0; c < valueSize; c++) {
        const slope = g!.data[row * valueSize + c]! * factor(head, i, j);
        product += slope * v!.data[at * valueSize + c]!;
        add(byKey + keysOfPart, c, weight * slope);
      }
      const slope = attrs.scale * weight * (product - share!.data[row]!);
      for (let e = 0; e < size; e++) {
        add(i, e, slope * k!.data[at * size + e]!);
        add(byKey, e, slope * q!.data[row * size + e]!);
      }
    });
  });
  return data;
}

/** Slopes of the scores, added up where the mask stands for them. */
function maskReference(
  inputs: readonly ReferenceTensor[],
  attrs: AttentionAttrs,
  output: { readonly shape: Shape },
): Float64Array {
  const [, , v, g, logSum, share, mask] = parted(inputs, attrs).floats as ReferenceTensor[];
  const factor = factorsOf(inputs, attrs);
  const { queries, valueSize } = sizesOf(inputs);
  const data = new Float64Array(sizeOf(output.shape));
  const at = maskIndex(inputs, mask);
  forEachRow(inputs, attrs, mask, (scores, head, i, keys) => {
    const row = head * queries + i;
    scores.forEach((score, j) => {
      let product = 0;
      for (let c = 0; c < valueSize; c++) {
        const value = v!.data[(head * keys + j) * valueSize + c]!;
        product += g!.data[row * valueSize + c]! * factor(head, i, j) * value;
      }
      const weight = Math.exp(score - logSum!.data[row]!);
      data[at(head, i, j)]! += weight * (product - share!.data[row]!);
    });
  });
  return data;
}

interface Geometry {
  readonly batch: Shape;
  /** L, S, E, V. */
  readonly sizes: readonly [number, number, number, number];
  readonly causal?: boolean;
  readonly masked?: boolean;
  /** Of the mask, if not that of all scores. */
  readonly mask?: Shape;
  readonly dropout?: number;
  readonly dtype?: 'float32' | 'float64';
}

const GEOMETRIES: readonly Geometry[] = [
  { batch: [], sizes: [1, 1, 1, 1] },
  { batch: [2], sizes: [5, 7, 4, 4] },
  { batch: [2, 3], sizes: [9, 9, 8, 8], causal: true },
  { batch: [1], sizes: [18, 70, 9, 5], masked: true },
  { batch: [1], sizes: [70, 66, 3, 17], causal: true },
  { batch: [2], sizes: [6, 5, 4, 2], masked: true, dtype: 'float64' },
  { batch: [1], sizes: [3, 80, 2, 2], causal: true, dtype: 'float64' },
  { batch: [0], sizes: [3, 4, 2, 2], masked: true },
  { batch: [1], sizes: [2, 300, 2, 2] },
  { batch: [2], sizes: [5, 7, 4, 3], dropout: 0.3 },
  { batch: [1, 2], sizes: [18, 18, 3, 5], causal: true, dropout: 0.5, dtype: 'float64' },
  { batch: [1], sizes: [70, 131, 3, 4], masked: true, dropout: 0.1 },
  { batch: [2, 2], sizes: [3, 4, 1, 2], masked: true, mask: [1, 2, 3, 4], causal: true },
  { batch: [2], sizes: [3, 2, 1, 2], masked: true, mask: [1, 1, 2], dtype: 'float64' },
  { batch: [2], sizes: [18, 67, 2, 2], masked: true, mask: [1, 1, 67], dropout: 0.2 },
];

/** A place in a random stream from which counting goes beyond 32 bits. */
const PLACE = [11, 22, 4294967290, 0].map((word) => tensorOf([], [word], 'uint32'));

function sample({
  batch,
  sizes,
  causal = false,
  masked = false,
  mask,
  dropout = 0,
  dtype = 'float32',
}: Geometry): Sample<AttentionAttrs> {
  const [queries, keys, size, valueSize] = sizes;
  const shapes = [
    [...batch, queries, size],
    [...batch, keys, size],
    [...batch, keys, valueSize],
    mask ?? [...batch, queries, keys],
  ];
  const inputs = shapes
    .slice(0, masked ? 4 : 3)
    .map((shape, seed) => randomTensor(shape, { dtype, seed }));
  const source = dropout > 0 ? PLACE : [];
  const attrs = { scale: 0.5, causal, dropout };
  return { inputs: [...inputs, ...source], attrs, ...skipLarge(sizes) };
}

/** Many keys are there for the blocks of kernels; differences would take long. */
function skipLarge([queries, keys]: Geometry['sizes']): { readonly skipGradient?: string } {
  return queries * keys < 700 ? {} : { skipGradient: 'large; the rule is that of the small ones' };
}

function backwardSample(geometry: Geometry): Sample<AttentionAttrs> {
  const { inputs, attrs } = sample(geometry);
  const { batch, sizes, dtype = 'float32' } = geometry;
  const [queries, , , valueSize] = sizes;
  const random = (width: number, options: { low: number; high: number; seed: number }) =>
    randomTensor([...batch, queries, width], { dtype, ...options });
  const more = [
    random(valueSize, { low: -1, high: 1, seed: 7 }),
    random(1, { low: 6, high: 8, seed: 8 }),
    random(1, { low: -1, high: 1, seed: 9 }),
  ];
  // The mask and the random source stand at the end.
  const all = [...inputs.slice(0, 3), ...more, ...inputs.slice(3)];
  return { inputs: all, attrs, ...skipLarge(sizes) };
}

export interface AttentionOptions {
  readonly scale: number;
  /** Query i sees keys 0 to i only. */
  readonly causal: boolean;
  /** Probability that a weight is dropped; it needs a `source` of [.., L, S] words, rows of whole blocks. */
  readonly dropout?: number;
  readonly source?: RandomSource;
}

/**
 * softmax(scale * q kᵀ + mask) v without storing the scores (FlashAttention: Dao et al. 2022,
 * arXiv:2205.14135): q [.., L, E], k [.., S, E], v [.., S, V] and the mask [.., L, S], of equal batch
 * sizes, give [.., L, V]. Batch axes of the mask and that of the queries may have size 1.
 */
export function attention(
  q: Node,
  k: Node,
  v: Node,
  mask: Node | null,
  { dropout = 0, source, ...attrs }: AttentionOptions,
): Node {
  const words =
    dropout > 0 && source !== undefined
      ? [source.seedLow, source.seedHigh, source.offsetLow, source.offsetHigh]
      : [];
  const inputs = mask === null ? [q, k, v] : [q, k, v, mask];
  const packed = makeNode(attentionOp, [...inputs, ...words], { ...attrs, dropout });
  return columns(packed, 0, v.shape.at(-1)!);
}
