// A decoder of the shape of GPT-2 (Radford et al. 2019).
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { full } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';

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

  constructor(width: number, heads: number) {
    super();
    this.heads = heads;
    this.l1 = new nn.LayerNorm(width);
    this.qkv = new nn.Linear(width, 3 * width);
    this.o = new nn.Linear(width, width);
    this.l2 = new nn.LayerNorm(width);
    this.f1 = new nn.Linear(width, 4 * width);
    this.f2 = new nn.Linear(4 * width, width);
  }

  /** Vectors [batch, time, width] and mask [time, time], added to the scores. */
  forward(x: Tensor, mask: Tensor): Tensor {
    const y = x.add(this.o.forward(this.#attend(this.l1.forward(x), mask)));
    return y.add(this.f2.forward(F.gelu(this.f1.forward(this.l2.forward(y)))));
  }

  #attend(x: Tensor, attnMask: Tensor): Tensor {
    const [batch = 0, time = 0, width = 0] = x.shape;
    const split = this.qkv.forward(x).reshape(batch, time, 3, this.heads, width / this.heads);
    const [query, key, value] = split.permute(2, 0, 3, 1, 4).unbind(0) as [Tensor, Tensor, Tensor];
    const heads = F.scaledDotProductAttention(query, key, value, { attnMask });
    return heads.transpose(1, 2).reshape(batch, time, width);
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
  /** [contextLength, contextLength]: what is added to the scores, so that no token sees later ones. */
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
    this.te = new nn.Embedding(vocabulary, width);
    this.pe = new nn.Parameter(new Float32Array(this.contextLength * width), [
      this.contextLength,
      width,
    ]);
    nn.init.normal(this.pe, 0, 0.02);
    this.bl = new nn.ModuleList(Array.from({ length: layers }, () => new Block(width, heads)));
    this.lf = new nn.LayerNorm(width);
    this.head = new nn.Linear(width, vocabulary, { bias: false });
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
    const mask = isFull ? this.mask : this.mask.narrow(0, 0, time).narrow(1, 0, time);
    let x = this.te.forward(tokens).add(positions);
    for (const block of this.bl) x = block.forward(x, mask);
    return this.head.forward(this.lf.forward(x));
  }
}
