// Vision transformers (Dosovitskiy et al. 2021): patches of an image as the words of a sentence.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { cat } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ClassifierOptions, conv, linear } from './blocks.ts';

export interface VisionTransformerOptions extends ClassifierOptions {
  /** Width and height of the images, a multiple of the patch size; default 224. */
  readonly imageSize?: number;
  /** After each linear layer and the embedding; default 0. */
  readonly dropout?: number;
  /** Of attention weights; default 0. */
  readonly attentionDropout?: number;
  /** Size of a hidden layer before the scores, with tanh; none by default. */
  readonly representationSize?: number;
}

/** How large a model is; the named models fix it. */
export interface VisionTransformerLayout {
  readonly patchSize: number;
  readonly numLayers: number;
  readonly numHeads: number;
  readonly hiddenDim: number;
  readonly mlpDim: number;
}

/** Of all normalizations. */
const EPS = 1e-6;

interface Dropouts {
  readonly dropout: number;
  readonly attentionDropout: number;
}

/** Two linear layers, items 0 and 3, as in torchvision. Their weights are still zeros. */
export function feedForward(size: number, hidden: number, dropout: number): nn.Sequential {
  return new nn.Sequential(
    linear(size, hidden),
    new nn.GELU(),
    new nn.Dropout(dropout),
    linear(hidden, size),
    new nn.Dropout(dropout),
  );
}

/** Attention and a feed-forward network, each after a normalization and beside a shortcut. */
class EncoderBlock extends nn.Module {
  // The names that files have.
  readonly ln_1: nn.LayerNorm;
  readonly selfAttention: nn.MultiheadAttention;
  readonly dropout: nn.Dropout;
  readonly ln_2: nn.LayerNorm;
  readonly mlp: nn.Sequential;

  constructor(layout: VisionTransformerLayout, { dropout, attentionDropout }: Dropouts) {
    super();
    const { hiddenDim, numHeads, mlpDim } = layout;
    this.ln_1 = new nn.LayerNorm(hiddenDim, { eps: EPS });
    this.selfAttention = new nn.MultiheadAttention(hiddenDim, numHeads, {
      dropout: attentionDropout,
      batchFirst: true,
    });
    this.dropout = new nn.Dropout(dropout);
    this.ln_2 = new nn.LayerNorm(hiddenDim, { eps: EPS });
    this.mlp = feedForward(hiddenDim, mlpDim, dropout);
    for (const layer of this.mlp) {
      if (!(layer instanceof nn.Linear)) continue;
      nn.init.xavierUniform(layer.weight);
      if (layer.bias !== null) nn.init.normal(layer.bias, 0, 1e-6);
    }
  }

  forward(x: Tensor): Tensor {
    const normal = this.ln_1.forward(x);
    const [attended] = this.selfAttention.forward(normal, normal, normal, { needWeights: false });
    const y = this.dropout.forward(attended).add(x);
    return y.add(this.mlp.forward(this.ln_2.forward(y)));
  }
}

/** Adds positions, and applies the blocks: [batch, words, size] to the same. */
class Encoder extends nn.Module {
  readonly posEmbedding: nn.Parameter;
  readonly dropout: nn.Dropout;
  readonly layers: nn.Sequential;
  readonly ln: nn.LayerNorm;

  constructor(words: number, layout: VisionTransformerLayout, dropouts: Dropouts) {
    super();
    const { hiddenDim, numLayers } = layout;
    this.posEmbedding = new nn.Parameter(new Float32Array(words * hiddenDim), [
      1,
      words,
      hiddenDim,
    ]);
    nn.init.normal(this.posEmbedding, 0, 0.02);
    this.dropout = new nn.Dropout(dropouts.dropout);
    const blocks: Record<string, nn.Layer> = {};
    for (let i = 0; i < numLayers; i++) {
      blocks[`encoder_layer_${i}`] = new EncoderBlock(layout, dropouts);
    }
    this.layers = new nn.Sequential(blocks);
    this.ln = new nn.LayerNorm(hiddenDim, { eps: EPS });
  }

  forward(x: Tensor): Tensor {
    const placed = this.dropout.forward(x.add(this.posEmbedding));
    return this.ln.forward(this.layers.forward(placed));
  }
}

/**
 * Vision transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929): images [batch, 3,
 * size, size] of exactly `imageSize` to scores [batch, numClasses].
 */
export class VisionTransformer extends nn.Module {
  readonly imageSize: number;
  readonly patchSize: number;
  readonly classToken: nn.Parameter;
  readonly convProj: nn.Conv2d;
  readonly encoder: Encoder;
  readonly heads: nn.Sequential;

  /** Throws ArgumentError unless patches tile the image and heads the hidden size. */
  constructor(layout: VisionTransformerLayout, options: VisionTransformerOptions = {}) {
    super();
    const op = 'vision.VisionTransformer';
    const { numClasses = 1000, imageSize = 224, dropout = 0, attentionDropout = 0 } = options;
    const { patchSize, hiddenDim } = layout;
    this.patchSize = checkInteger(op, 'patchSize', patchSize, 1);
    this.imageSize = checkInteger(op, 'imageSize', imageSize, 1);
    checkInteger(op, 'hiddenDim', hiddenDim, 1);
    checkInteger(op, 'numLayers', layout.numLayers, 0);
    checkInteger(op, 'numClasses', numClasses, 1);
    if (imageSize % patchSize !== 0) {
      throw new ArgumentError(`patches of ${patchSize} do not tile images of ${imageSize}`, { op });
    }
    const words = (imageSize / patchSize) ** 2 + 1;
    this.classToken = new nn.Parameter(new Float32Array(hiddenDim), [1, 1, hiddenDim]);
    this.convProj = conv(3, hiddenDim, patchSize, { stride: patchSize, padding: 0, bias: true });
    // The fan in of the patches.
    nn.init.normal(this.convProj.weight, 0, Math.sqrt(1 / (3 * patchSize * patchSize)));
    this.encoder = new Encoder(words, layout, { dropout, attentionDropout });
    this.heads = makeHeads(hiddenDim, numClasses, options.representationSize);
  }

  forward(images: Tensor): Tensor {
    const { imageSize, classToken } = this;
    const [batch = 0, , height, width] = images.shape;
    if (images.ndim !== 4 || height !== imageSize || width !== imageSize) {
      throw new ShapeError(
        `expected images [batch, 3, ${imageSize}, ${imageSize}], got ${formatShape(images.shape)}`,
        { op: 'vision.VisionTransformer', hint: `resize them, or make it with { imageSize }` },
      );
    }
    const patches = this.convProj.forward(images).flatten(2).transpose(1, 2);
    const token = classToken.expand(batch, 1, classToken.size);
    const encoded = this.encoder.forward(cat([token, patches], 1));
    return this.heads.forward(encoded.select(1, 0));
  }
}

function makeHeads(hidden: number, numClasses: number, representation?: number): nn.Sequential {
  if (representation === undefined) {
    // Scores start at 0.
    return new nn.Sequential({ head: linear(hidden, numClasses) });
  }
  const before = linear(hidden, representation);
  nn.init.normal(before.weight, 0, Math.sqrt(1 / hidden));
  return new nn.Sequential({
    pre_logits: before,
    act: new nn.Tanh(),
    head: linear(representation, numClasses),
  });
}

const BASE = { numLayers: 12, numHeads: 12, hiddenDim: 768, mlpDim: 3072 };
const LARGE = { numLayers: 24, numHeads: 16, hiddenDim: 1024, mlpDim: 4096 };
const HUGE = { numLayers: 32, numHeads: 16, hiddenDim: 1280, mlpDim: 5120 };

/**
 * ViT-B/16 (Dosovitskiy et al. 2021): [batch, 3, 224, 224] to [batch, numClasses]; 87 million
 * parameters.
 *
 * @example no-run: draws 87 million numbers
 * const model = vitB16();
 * model.forward(zeros([1, 3, 224, 224])).shape; // => [1, 1000]
 */
export function vitB16(options: VisionTransformerOptions = {}): VisionTransformer {
  return new VisionTransformer({ patchSize: 16, ...BASE }, options);
}

/** ViT-B/32 (Dosovitskiy et al. 2021): 88 million parameters. */
export function vitB32(options: VisionTransformerOptions = {}): VisionTransformer {
  return new VisionTransformer({ patchSize: 32, ...BASE }, options);
}

/** ViT-L/16 (Dosovitskiy et al. 2021): 304 million parameters. */
export function vitL16(options: VisionTransformerOptions = {}): VisionTransformer {
  return new VisionTransformer({ patchSize: 16, ...LARGE }, options);
}

/** ViT-L/32 (Dosovitskiy et al. 2021): 307 million parameters. */
export function vitL32(options: VisionTransformerOptions = {}): VisionTransformer {
  return new VisionTransformer({ patchSize: 32, ...LARGE }, options);
}

/** ViT-H/14 (Dosovitskiy et al. 2021): 632 million parameters. */
export function vitH14(options: VisionTransformerOptions = {}): VisionTransformer {
  return new VisionTransformer({ patchSize: 14, ...HUGE }, options);
}
