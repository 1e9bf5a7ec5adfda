// A decoder of the shape of GPT-2 (Radford et al. 2019).
import { checkNumber } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { where } from '../tensor/arithmetic.ts';
import { full } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { KeyValueCache, type LayerCache, type Place } from './cache.ts';

/** Sizes of a GPT; the defaults are those of GPT-2's smallest, 124 million parameters. */
export interface GPTOptions {
  /** Number of blocks; default 12. */
  readonly layers?: number;
  /** Size of a token's vector; default 768. */
  readonly width?: number;
  /** Heads of attention, which divide the width; default 12. */
  readonly heads?: number;
  /** Longest sequence; default 1024. */
  readonly contextLength?: number;
  /** Number of tokens; default 50257. */
  readonly vocabulary?: number;
  /** Probability that training drops an element of a part's result, or of the input; default 0. */
  readonly dropout?: number;
}

/** What a hidden score becomes: softmax gives it weight 0. */
const HIDDEN = -1e9;

/** Attention, then a layer of four times the width; both behind a normalization, beside a shortcut. */
class Block extends nn.Module {
  readonly heads: number;
  readonly l1: nn.LayerNorm;
  readonly qkv: nn.Linear;
  readonly o: nn.Linear;
  readonly l2: nn.LayerNorm;
  readonly f1: nn.Linear;
  readonly f2: nn.Linear;
  readonly drop: nn.Dropout;

  constructor(width: number, heads: number, dropout: number) {
    super();
    this.heads = heads;
    this.l1 = new nn.LayerNorm(width);
    this.qkv = new nn.Linear(width, 3 * width);
    this.o = new nn.Linear(width, width);
    this.l2 = new nn.LayerNorm(width);
    this.f1 = new nn.Linear(width, 4 * width);
    this.f2 = new nn.Linear(4 * width, width);
    this.drop = new nn.Dropout(dropout);
  }

  /** Vectors [batch, time, width]. */
  forward(x: Tensor): Tensor {
    const [query, key, value] = this.#heads(x);
    return this.#finish(x, F.scaledDotProductAttention(query, key, value, { isCausal: true }));
  }

  /** As `forward` for a whole context, whose keys and values the cache takes over. */
  fill(x: Tensor, cache: LayerCache): Tensor {
    const [query, key, value] = this.#heads(x);
    cache.replace(key, value);
    return this.#finish(x, F.scaledDotProductAttention(query, key, value, { isCausal: true }));
  }

  /** Vectors [batch, 1, width] of one place, which sees what the cache holds of those before. */
  next(x: Tensor, cache: LayerCache, place: Place): Tensor {
    const [query, key, value] = this.#heads(x);
    const [keys, values] = cache.write(key, value, place);
    const options = { attnMask: place.seen };
    return this.#finish(x, F.scaledDotProductAttention(query, keys, values, options));
  }

  /** Query, key and value, [batch, heads, time, size] each. */
  #heads(x: Tensor): [query: Tensor, key: Tensor, value: Tensor] {
    const [batch = 0, time = 0, width = 0] = x.shape;
    const split = this.qkv.forward(this.l1.forward(x));
    const parts = split.reshape(batch, time, 3, this.heads, width / this.heads);
    return parts.permute(2, 0, 3, 1, 4).unbind(0) as [Tensor, Tensor, Tensor];
  }

  #finish(x: Tensor, heads: Tensor): Tensor {
    const joined = this.o.forward(heads.transpose(1, 2).reshape(x.shape));
    const y = x.add(this.drop.forward(joined));
    const wide = F.gelu(this.f1.forward(this.l2.forward(y)));
    return y.add(this.drop.forward(this.f2.forward(wide)));
  }
}

/**
 * Decoder of the shape of GPT-2 (Radford et al. 2019): tokens [batch, time] to scores of the next
 * token [batch, time, vocabulary]; time is at most `contextLength`. Normalization stands before each
 * part; gelu is the exact one; the output has a matrix of its own, without bias. Linear layers and
 * token vectors start as PyTorch's, positions from N(0, 0.02²).
 *
 * Throws ArgumentError where heads do not divide the width, and ShapeError for long sequences.
 *
 * @example
 * const model = new GPT({ layers: 1, width: 8, heads: 2, contextLength: 4, vocabulary: 11 });
 * model.forward(tensor([[1, 2, 3]], { dtype: 'int32' })).shape; // => [1, 3, 11]
 */
export class GPT extends nn.Module {
  readonly contextLength: number;
  readonly te: nn.Embedding;
  readonly pe: nn.Parameter;
  readonly bl: nn.ModuleList<Block>;
  readonly lf: nn.LayerNorm;
  readonly head: nn.Linear;
  readonly drop: nn.Dropout;
  /**
   * [contextLength, contextLength]: what hides later tokens from earlier ones, as the state dicts of such
   * models have it. Here attention goes by the order.
   */
  readonly mask: nn.Buffer;

  constructor(options: GPTOptions = {}) {
    super();
    const op = 'text.GPT';
    const { width = 768, heads = 12, vocabulary = 50257 } = options;
    const layers = checkInteger(op, 'layers', options.layers ?? 12, 1);
    this.contextLength = checkInteger(op, 'contextLength', options.contextLength ?? 1024, 1);
    checkInteger(op, 'heads', heads, 1);
    if (width % heads !== 0) {
      throw new ArgumentError(`${heads} heads do not divide width ${width}`, { op });
    }
    const dropout = checkNumber(op, 'dropout', options.dropout ?? 0, [0, 1]);
    this.te = new nn.Embedding(vocabulary, width);
    this.pe = new nn.Parameter(new Float32Array(this.contextLength * width), [
      this.contextLength,
      width,
    ]);
    nn.init.normal(this.pe, 0, 0.02);
    this.bl = new nn.ModuleList(
      Array.from({ length: layers }, () => new Block(width, heads, dropout)),
    );
    this.lf = new nn.LayerNorm(width);
    this.head = new nn.Linear(width, vocabulary, { bias: false });
    this.drop = new nn.Dropout(dropout);
    this.mask = new nn.Buffer(full([this.contextLength, this.contextLength], HIDDEN).triu(1));
  }

  forward(tokens: Tensor): Tensor {
    const [, time] = tokens.shape;
    if (tokens.ndim !== 2 || time === undefined || time > this.contextLength) {
      throw new ShapeError(
        `expected [batch, up to ${this.contextLength} tokens], got ${formatShape(tokens.shape)}`,
        { op: 'text.GPT' },
      );
    }
    const isFull = time === this.contextLength;
    const positions = isFull ? this.pe : this.pe.narrow(0, 0, time);
    let x = this.drop.forward(this.te.forward(tokens).add(positions));
    for (const block of this.bl) x = block.forward(x);
    return this.head.forward(this.lf.forward(x));
  }

  /** Room for the keys and values of a whole context, for `prefill` and `next`. */
  newCache(batch = 1): KeyValueCache {
    checkInteger('text.GPT', 'batch', batch, 1);
    const [block] = this.bl;
    const { heads = 1, o } = block ?? {};
    const width = o?.inFeatures ?? 0;
    const sizes = [batch, heads, this.contextLength, width / heads] as const;
    return new KeyValueCache(this.bl.length, sizes);
  }

  /**
   * Reads `count` tokens at once: scores [batch, vocabulary] of the next one. Tokens are [batch,
   * contextLength], whatever stands behind `count`, so that one plan serves every length; the cache
   * forgets what it held. Throws ShapeError.
   */
  prefill(tokens: Tensor, count: number, cache: KeyValueCache): Tensor {
    const { contextLength } = this;
    if (tokens.ndim !== 2 || tokens.shape[1] !== contextLength) {
      throw new ShapeError(
        `expected [batch, ${contextLength}] tokens, got ${formatShape(tokens.shape)}`,
        { op: 'text.GPT.prefill', hint: 'fill it up with any token' },
      );
    }
    cache.check('text.GPT.prefill', tokens.shape[0] ?? 0);
    const place = cache.restart(count);
    let x = this.drop.forward(this.te.forward(tokens).add(this.pe));
    let layer = 0;
    for (const block of this.bl) x = block.fill(x, cache.layer(layer++));
    const last = where(place.at, x, 0).sum(1);
    return this.head.forward(this.lf.forward(last));
  }

  /**
   * Reads the next token [batch] of each text: scores [batch, vocabulary] of the one that follows. One
   * plan for all places: keys and values of the places before come from the cache, which is
   * brought up to date. Throws ShapeError, and ArgumentError where the context is full.
   */
  next(tokens: Tensor, cache: KeyValueCache): Tensor {
    if (tokens.ndim !== 1) {
      throw new ShapeError(`expected [batch] tokens, got ${formatShape(tokens.shape)}`, {
        op: 'text.GPT.next',
      });
    }
    cache.check('text.GPT.next', tokens.shape[0] ?? 0);
    const place = cache.advance();
    const position = where(place.at, this.pe, 0).sum(0);
    let x = this.drop.forward(this.te.forward(tokens.unsqueeze(1)).add(position));
    let layer = 0;
    for (const block of this.bl) x = block.next(x, cache.layer(layer++), place);
    return this.head.forward(this.lf.forward(x.squeeze(1)));
  }
}
