// Transformer layers (Vaswani et al. 2017) with PyTorch's parameter names.
import { checkInteger } from '../tensor/arguments.ts';
import type { Tensor } from '../tensor/tensor.ts';
import * as F from '../functional/index.ts';
import { causalMask, MultiheadAttention } from './attention.ts';
import { ModuleList } from './containers.ts';
import { Dropout } from './dropout.ts';
import * as init from './init.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';
import { LayerNorm } from './normalization.ts';

export interface TransformerLayerOptions {
  /** Size between the two linear layers; default 2048. */
  readonly dimFeedforward?: number;
  /** Default 0.1. */
  readonly dropout?: number;
  /** `relu`, `gelu`, or a function of your own. */
  readonly activation?: 'relu' | 'gelu' | ((x: Tensor) => Tensor);
  readonly layerNormEps?: number;
  /** Whether inputs are [batch, length, size] instead of [length, batch, size]; default false. */
  readonly batchFirst?: boolean;
  /** Whether normalization comes before attention and feed-forward, not after; default false. */
  readonly normFirst?: boolean;
  /** Whether linear layers and normalizations have biases; default true. */
  readonly bias?: boolean;
}

function activationOf(given: TransformerLayerOptions['activation']): (x: Tensor) => Tensor {
  if (typeof given === 'function') return given;
  return given === 'gelu' ? (x) => F.gelu(x) : F.relu;
}

export interface EncoderArguments {
  /** [L, L] or [batch * heads, L, L]: bool true is not seen; float is added to the scores. */
  readonly srcMask?: Tensor | null;
  /** bool [batch, L]: true where a position is ignored. */
  readonly srcKeyPaddingMask?: Tensor | null;
  /** Whether position i sees 0 to i only. */
  readonly isCausal?: boolean;
}

/**
 * Self-attention and a feed-forward network, each with a residual and a layer normalization.
 *
 * @example
 * const layer = new TransformerEncoderLayer(8, 2, { dimFeedforward: 16, batchFirst: true });
 * layer.forward(zeros([2, 5, 8])).shape; // => [2, 5, 8]
 */
export class TransformerEncoderLayer extends Module {
  readonly normFirst: boolean;
  readonly selfAttn: MultiheadAttention;
  readonly linear1: Linear;
  readonly dropout: Dropout;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly dropout1: Dropout;
  readonly dropout2: Dropout;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super();
    const { dimFeedforward = 2048, dropout = 0.1, layerNormEps: eps = 1e-5, bias = true } = options;
    this.normFirst = options.normFirst ?? false;
    this.selfAttn = new MultiheadAttention(dModel, nhead, {
      dropout,
      bias,
      batchFirst: options.batchFirst ?? false,
    });
    this.linear1 = new Linear(dModel, dimFeedforward, { bias });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias });
    this.norm1 = new LayerNorm(dModel, { eps, bias });
    this.norm2 = new LayerNorm(dModel, { eps, bias });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
    this.#activation = activationOf(options.activation);
  }

  forward(src: Tensor, options: EncoderArguments = {}): Tensor {
    const { norm1, norm2 } = this;
    if (this.normFirst) {
      const x = src.add(this.#attend(norm1.forward(src), options));
      return x.add(this.#feedForward(norm2.forward(x)));
    }
    const x = norm1.forward(src.add(this.#attend(src, options)));
    return norm2.forward(x.add(this.#feedForward(x)));
  }

  #attend(x: Tensor, options: EncoderArguments): Tensor {
    const [attended] = this.selfAttn.forward(x, x, x, {
      attnMask: options.srcMask ?? null,
      keyPaddingMask: options.srcKeyPaddingMask ?? null,
      isCausal: options.isCausal ?? false,
      needWeights: false,
    });
    return this.dropout1.forward(attended);
  }

  #feedForward(x: Tensor): Tensor {
    const hidden = this.dropout.forward(this.#activation(this.linear1.forward(x)));
    return this.dropout2.forward(this.linear2.forward(hidden));
  }
}

/**
 * A stack of encoder layers, made by `layer` once for each, and an optional normalization.
 *
 * @example
 * const layer = () => new nn.TransformerEncoderLayer(8, 2, { dimFeedforward: 16 });
 * const encoder = new TransformerEncoder(layer, 2, { norm: new nn.LayerNorm(8) });
 * encoder.forward(zeros([5, 2, 8]), { isCausal: true }).shape; // => [5, 2, 8]
 */
export class TransformerEncoder extends Module {
  readonly layers: ModuleList<TransformerEncoderLayer>;
  readonly norm: LayerNorm | null;

  constructor(
    layer: () => TransformerEncoderLayer,
    numLayers: number,
    options: { readonly norm?: LayerNorm | null } = {},
  ) {
    super();
    checkInteger('nn.TransformerEncoder', 'numLayers', numLayers, 1);
    this.layers = new ModuleList(Array.from({ length: numLayers }, layer));
    this.norm = options.norm ?? null;
  }

  forward(src: Tensor, options: EncoderArguments = {}): Tensor {
    let x = src;
    for (const layer of this.layers) x = layer.forward(x, options);
    return this.norm === null ? x : this.norm.forward(x);
  }
}

export interface DecoderArguments {
  /** Of the self-attention; see {@link EncoderArguments}. */
  readonly tgtMask?: Tensor | null;
  /** Of the attention to the memory, [L, S]. */
  readonly memoryMask?: Tensor | null;
  readonly tgtKeyPaddingMask?: Tensor | null;
  readonly memoryKeyPaddingMask?: Tensor | null;
  /** Whether position i of the target sees 0 to i only. */
  readonly tgtIsCausal?: boolean;
  /** Whether position i of the target sees 0 to i of the memory only. */
  readonly memoryIsCausal?: boolean;
}

/** Self-attention, attention to an encoder's output, and a feed-forward network. */
export class TransformerDecoderLayer extends Module {
  readonly normFirst: boolean;
  readonly selfAttn: MultiheadAttention;
  readonly multiheadAttn: MultiheadAttention;
  readonly linear1: Linear;
  readonly dropout: Dropout;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly norm3: LayerNorm;
  readonly dropout1: Dropout;
  readonly dropout2: Dropout;
  readonly dropout3: Dropout;
  readonly #activation: (x: Tensor) => Tensor;

  constructor(dModel: number, nhead: number, options: TransformerLayerOptions = {}) {
    super();
    const { dimFeedforward = 2048, dropout = 0.1, layerNormEps: eps = 1e-5, bias = true } = options;
    const attention = { dropout, bias, batchFirst: options.batchFirst ?? false };
    this.normFirst = options.normFirst ?? false;
    this.selfAttn = new MultiheadAttention(dModel, nhead, attention);
    this.multiheadAttn = new MultiheadAttention(dModel, nhead, attention);
    this.linear1 = new Linear(dModel, dimFeedforward, { bias });
    this.dropout = new Dropout(dropout);
    this.linear2 = new Linear(dimFeedforward, dModel, { bias });
    this.norm1 = new LayerNorm(dModel, { eps, bias });
    this.norm2 = new LayerNorm(dModel, { eps, bias });
    this.norm3 = new LayerNorm(dModel, { eps, bias });
    this.dropout1 = new Dropout(dropout);
    this.dropout2 = new Dropout(dropout);
    this.dropout3 = new Dropout(dropout);
    this.#activation = activationOf(options.activation);
  }

  forward(tgt: Tensor, memory: Tensor, options: DecoderArguments = {}): Tensor {
    const { norm1, norm2, norm3 } = this;
    if (this.normFirst) {
      const x = tgt.add(this.#attend(norm1.forward(tgt), options));
      const y = x.add(this.#attendMemory(norm2.forward(x), memory, options));
      return y.add(this.#feedForward(norm3.forward(y)));
    }
    const x = norm1.forward(tgt.add(this.#attend(tgt, options)));
    const y = norm2.forward(x.add(this.#attendMemory(x, memory, options)));
    return norm3.forward(y.add(this.#feedForward(y)));
  }

  #attend(x: Tensor, options: DecoderArguments): Tensor {
    const [attended] = this.selfAttn.forward(x, x, x, {
      attnMask: options.tgtMask ?? null,
      keyPaddingMask: options.tgtKeyPaddingMask ?? null,
      isCausal: options.tgtIsCausal ?? false,
      needWeights: false,
    });
    return this.dropout1.forward(attended);
  }

  #attendMemory(x: Tensor, memory: Tensor, options: DecoderArguments): Tensor {
    const [attended] = this.multiheadAttn.forward(x, memory, memory, {
      attnMask: options.memoryMask ?? null,
      keyPaddingMask: options.memoryKeyPaddingMask ?? null,
      isCausal: options.memoryIsCausal ?? false,
      needWeights: false,
    });
    return this.dropout2.forward(attended);
  }

  #feedForward(x: Tensor): Tensor {
    const hidden = this.dropout.forward(this.#activation(this.linear1.forward(x)));
    return this.dropout3.forward(this.linear2.forward(hidden));
  }
}

/**
 * A stack of decoder layers, made by `layer` once for each, and an optional normalization.
 *
 * @example
 * const layer = () => new nn.TransformerDecoderLayer(8, 2, { dimFeedforward: 16 });
 * const decoder = new TransformerDecoder(layer, 2);
 * decoder.forward(zeros([5, 2, 8]), zeros([7, 2, 8]), { tgtIsCausal: true }).shape; // => [5, 2, 8]
 */
export class TransformerDecoder extends Module {
  readonly layers: ModuleList<TransformerDecoderLayer>;
  readonly norm: LayerNorm | null;

  constructor(
    layer: () => TransformerDecoderLayer,
    numLayers: number,
    options: { readonly norm?: LayerNorm | null } = {},
  ) {
    super();
    checkInteger('nn.TransformerDecoder', 'numLayers', numLayers, 1);
    this.layers = new ModuleList(Array.from({ length: numLayers }, layer));
    this.norm = options.norm ?? null;
  }

  forward(tgt: Tensor, memory: Tensor, options: DecoderArguments = {}): Tensor {
    let x = tgt;
    for (const layer of this.layers) x = layer.forward(x, memory, options);
    return this.norm === null ? x : this.norm.forward(x);
  }
}

export interface TransformerOptions extends TransformerLayerOptions {
  /** Default 512. */
  readonly dModel?: number;
  /** Default 8. */
  readonly nhead?: number;
  /** Default 6. */
  readonly numEncoderLayers?: number;
  /** Default 6. */
  readonly numDecoderLayers?: number;
}

export interface TransformerArguments extends EncoderArguments, DecoderArguments {
  /** Whether position i of the source sees 0 to i only. */
  readonly srcIsCausal?: boolean;
}

/**
 * Encoder and decoder (Vaswani et al. 2017), each ending in a normalization. Matrices start from
 * Glorot's uniform distribution. Source and target are [length, batch, dModel], with `batchFirst`
 * [batch, length, dModel].
 *
 * @example
 * const model = new Transformer({ dModel: 8, nhead: 2, numEncoderLayers: 1, numDecoderLayers: 1, dimFeedforward: 16 });
 * model.forward(zeros([7, 2, 8]), zeros([5, 2, 8]), { tgtIsCausal: true }).shape; // => [5, 2, 8]
 */
export class Transformer extends Module {
  readonly encoder: TransformerEncoder;
  readonly decoder: TransformerDecoder;

  constructor(options: TransformerOptions = {}) {
    super();
    const {
      dModel = 512,
      nhead = 8,
      numEncoderLayers = 6,
      numDecoderLayers = 6,
      ...layer
    } = options;
    const { layerNormEps: eps = 1e-5, bias = true } = layer;
    const norm = (): LayerNorm => new LayerNorm(dModel, { eps, bias });
    this.encoder = new TransformerEncoder(
      () => new TransformerEncoderLayer(dModel, nhead, layer),
      numEncoderLayers,
      { norm: norm() },
    );
    this.decoder = new TransformerDecoder(
      () => new TransformerDecoderLayer(dModel, nhead, layer),
      numDecoderLayers,
      { norm: norm() },
    );
    this.resetParameters();
  }

  /** Draws all matrices anew. */
  resetParameters(): void {
    for (const parameter of this.parameters()) {
      if (parameter.ndim > 1) init.xavierUniform(parameter);
    }
  }

  forward(src: Tensor, tgt: Tensor, options: TransformerArguments = {}): Tensor {
    const { srcMask = null, srcKeyPaddingMask = null, srcIsCausal = false, ...rest } = options;
    const memory = this.encoder.forward(src, {
      srcMask,
      srcKeyPaddingMask,
      isCausal: srcIsCausal,
    });
    return this.decoder.forward(tgt, memory, rest);
  }
}

/** The mask that hides the future: [length, length] with -Infinity above the diagonal. */
export function generateSquareSubsequentMask(length: number): Tensor {
  return causalMask(length);
}
