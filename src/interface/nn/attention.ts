// Multi-head attention (Vaswani et al. 2017) with PyTorch's parameters and argument conventions.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { zeros } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { newParameter } from './create.ts';
import * as init from './init.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

export interface MultiheadAttentionOptions {
  /** Probability that an attention weight is dropped in training; default 0. */
  readonly dropout?: number;
  /** Whether the projections have biases; default true. */
  readonly bias?: boolean;
  /** Size of the keys; default embedDim. */
  readonly kdim?: number;
  /** Size of the values; default embedDim. */
  readonly vdim?: number;
  /** Whether inputs are [batch, length, size] instead of [length, batch, size]; default false. */
  readonly batchFirst?: boolean;
}

export interface AttentionArguments {
  /** bool [batch, S]: true where a key is ignored; float is added to the scores. */
  readonly keyPaddingMask?: Tensor | null;
  /** [L, S] or [batch * heads, L, S]: bool true is not seen; float is added to the scores. */
  readonly attnMask?: Tensor | null;
  /** Whether query i sees keys 0 to i only. */
  readonly isCausal?: boolean;
  /** Whether the weights are returned; default true. */
  readonly needWeights?: boolean;
  /** Whether returned weights are the mean over heads; default true. */
  readonly averageAttnWeights?: boolean;
}

/**
 * Attention by several heads, each on a share of the embedding. Inputs are [length, batch, size],
 * with `batchFirst` [batch, length, size], or [length, size] without a batch.
 *
 * @example
 * const attention = new MultiheadAttention(8, 2, { batchFirst: true });
 * const x = zeros([3, 5, 8]);
 * const [output, weights] = attention.forward(x, x, x);
 * output.shape; // => [3, 5, 8]
 * weights?.shape; // => [3, 5, 5]
 */
export class MultiheadAttention extends Module {
  readonly embedDim: number;
  readonly numHeads: number;
  readonly dropout: number;
  readonly batchFirst: boolean;
  readonly qProjWeight: Parameter | null;
  readonly kProjWeight: Parameter | null;
  readonly vProjWeight: Parameter | null;
  readonly inProjWeight: Parameter | null;
  readonly inProjBias: Parameter | null;
  readonly outProj: Linear;

  constructor(embedDim: number, numHeads: number, options: MultiheadAttentionOptions = {}) {
    super();
    const op = 'nn.MultiheadAttention';
    const { dropout = 0, bias = true, batchFirst = false } = options;
    const kdim = checkInteger(op, 'kdim', options.kdim ?? embedDim, 1);
    const vdim = checkInteger(op, 'vdim', options.vdim ?? embedDim, 1);
    this.embedDim = checkInteger(op, 'embedDim', embedDim, 1);
    this.numHeads = checkInteger(op, 'numHeads', numHeads, 1);
    if (embedDim % numHeads !== 0) {
      throw new ArgumentError(`${numHeads} heads do not divide embedDim ${embedDim}`, { op });
    }
    this.dropout = dropout;
    this.batchFirst = batchFirst;
    // One matrix for all three projections, unless they differ in size.
    const isOne = kdim === embedDim && vdim === embedDim;
    this.qProjWeight = isOne ? null : newParameter([embedDim, embedDim]);
    this.kProjWeight = isOne ? null : newParameter([embedDim, kdim]);
    this.vProjWeight = isOne ? null : newParameter([embedDim, vdim]);
    this.inProjWeight = isOne ? newParameter([3 * embedDim, embedDim]) : null;
    this.inProjBias = bias ? newParameter([3 * embedDim]) : null;
    this.outProj = new Linear(embedDim, embedDim, { bias });
    this.resetParameters();
  }

  /** Draws the projections of the inputs anew; biases become 0. */
  resetParameters(): void {
    const weights = [this.inProjWeight, this.qProjWeight, this.kProjWeight, this.vProjWeight];
    for (const weight of weights) if (weight !== null) init.xavierUniform(weight);
    if (this.inProjBias !== null) init.zeros(this.inProjBias);
    if (this.outProj.bias !== null) init.zeros(this.outProj.bias);
  }

  /** The output, shaped as the query, and the weights [batch, L, S] unless not wanted. */
  forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttentionArguments = {},
  ): [output: Tensor, weights: Tensor | null] {
    const isBatched = query.ndim === 3;
    this.#check(query, key, value);
    const { needWeights = true, averageAttnWeights = true } = options;
    const [q, k, v] = this.#project(query, key, value).map((x) => this.#splitHeads(x)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const dropoutP = this.training ? this.dropout : 0;
    let weights: Tensor | null = null;
    let heads: Tensor;
    if (needWeights) {
      const mask = this.#mask(q, k, options);
      const scores = q.mul(1 / Math.sqrt(q.shape[3] ?? 1)).matmul(k.transpose(-2, -1));
      const all = F.softmax(mask === null ? scores : scores.add(mask), -1);
      const kept = dropoutP > 0 ? F.dropout(all, { p: dropoutP, training: true }) : all;
      heads = kept.matmul(v);
      weights = averageAttnWeights ? kept.mean(1) : kept;
    } else {
      const { isCausal = false, attnMask = null, keyPaddingMask = null } = options;
      // Where the order is all that hides keys, half of the blocks are left out.
      const isOrder = isCausal && attnMask === null && keyPaddingMask === null;
      const seen = isOrder ? { isCausal } : { attnMask: this.#mask(q, k, options) };
      heads = F.scaledDotProductAttention(q, k, v, { ...seen, dropoutP });
    }
    const output = this.outProj.forward(this.#joinHeads(heads));
    if (isBatched) return [this.batchFirst ? output : output.transpose(0, 1), weights];
    return [output.squeeze(0), weights?.squeeze(0) ?? null];
  }

  #check(query: Tensor, key: Tensor, value: Tensor): void {
    const fits = [2, 3].includes(query.ndim) && key.ndim === query.ndim && value.ndim === key.ndim;
    if (fits && query.shape.at(-1) === this.embedDim) return;
    const shapes = [query, key, value].map((x) => formatShape(x.shape)).join(', ');
    throw new ShapeError(
      `expected query, key and value of 2 or 3 axes, the query ending in ${this.embedDim}, got ${shapes}`,
      { op: 'nn.MultiheadAttention' },
    );
  }

  /** Query, key and value as [batch, length, embedDim] after their projections. */
  #project(query: Tensor, key: Tensor, value: Tensor): Tensor[] {
    const size = this.embedDim;
    const batchFirst = (x: Tensor): Tensor => {
      if (x.ndim === 2) return x.unsqueeze(0);
      return this.batchFirst ? x : x.transpose(0, 1);
    };
    const weight = this.inProjWeight;
    const bias = this.inProjBias;
    if (weight !== null && query === key && key === value) {
      return F.linear(batchFirst(query), weight, bias).chunk(3, -1);
    }
    const separate = [this.qProjWeight, this.kProjWeight, this.vProjWeight];
    return [query, key, value].map((x, i) => {
      const own = weight === null ? separate[i] : weight.narrow(0, i * size, size);
      if (own === null || own === undefined) throw new ArgumentError('no weight', { op: 'nn' });
      return F.linear(batchFirst(x), own, bias === null ? null : bias.narrow(0, i * size, size));
    });
  }

  /** [batch, length, embedDim] to [batch, heads, length, embedDim / heads]. */
  #splitHeads(x: Tensor): Tensor {
    const [batch = 0, length = 0] = x.shape;
    const { numHeads, embedDim } = this;
    return x.reshape(batch, length, numHeads, embedDim / numHeads).transpose(1, 2);
  }

  #joinHeads(x: Tensor): Tensor {
    const [batch = 0, , length = 0] = x.shape;
    return x.transpose(1, 2).reshape(batch, length, this.embedDim);
  }

  /** All masks as one summand of the scores, which broadcasts to [batch, heads, L, S]. */
  #mask(q: Tensor, k: Tensor, options: AttentionArguments): Tensor | null {
    const { keyPaddingMask = null, attnMask = null, isCausal = false } = options;
    const [batch = 0, heads = 0, length = 0] = q.shape;
    const keys = k.shape[2] ?? 0;
    const parts: Tensor[] = [];
    if (isCausal && attnMask === null) parts.push(causalMask(length, keys));
    if (attnMask !== null) {
      const added = additive(attnMask);
      parts.push(added.ndim === 3 ? added.reshape(batch, heads, length, keys) : added);
    }
    if (keyPaddingMask !== null) {
      parts.push(additive(keyPaddingMask).reshape(batch, 1, 1, keys));
    }
    const [first, second] = parts;
    if (first === undefined) return null;
    return second === undefined ? first : first.add(second);
  }
}

/** A mask as a summand: -Infinity where a bool mask is true. */
function additive(mask: Tensor): Tensor {
  if (mask.dtype !== 'bool') return mask;
  return zeros(mask.shape).maskedFill(mask, -Infinity);
}

/** [length, keys] with -Infinity above the diagonal. */
export function causalMask(length: number, keys: number = length): Tensor {
  return zeros([length, keys]).maskedFill(zeros([length, keys]).add(1).triu(1).bool(), -Infinity);
}
