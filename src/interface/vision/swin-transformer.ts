// Swin transformers (Liu et al. 2021): attention within windows, which move by half a window each second
// block; images are [batch, height, width, channels] inside.
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import * as nn from '../nn/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { roll } from '../tensor/shaping.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type ClassifierOptions, conv, linear, StochasticDepth } from './blocks.ts';
import { feedForward } from './vision-transformer.ts';

export interface SwinTransformerOptions extends ClassifierOptions {
  /** After each linear layer; default 0. */
  readonly dropout?: number;
  /** Of attention weights; default 0. */
  readonly attentionDropout?: number;
  /**
   * Probability that the last block is left out for an image in training; it grows in even steps from
   * 0 at the first. The named models have defaults of their own.
   */
  readonly stochasticDepth?: number;
}

/** How large a model is; the named models fix it. */
export interface SwinTransformerLayout {
  readonly embedDim: number;
  /** Blocks in each stage. */
  readonly depths: readonly number[];
  /** Attention heads in each stage. */
  readonly numHeads: readonly number[];
  /** Default 7. */
  readonly windowSize?: number;
  /** Default 4. */
  readonly patchSize?: number;
}

/** Added to the scores of words that are not neighbours in the image: their weights become 0. */
const FAR = -100;

/** Pairs of words of a window to rows of the table of positions: by the difference of their places. */
function relativePositions(size: number): Int32Array {
  const words = size * size;
  const side = 2 * size - 1;
  return Int32Array.from({ length: words * words }, (_, i) => {
    const [a, b] = [Math.floor(i / words), i % words];
    const down = Math.floor(a / size) - Math.floor(b / size) + size - 1;
    const right = (a % size) - (b % size) + size - 1;
    return down * side + right;
  });
}

/** Height and width after padding to whole windows, and how far windows move along each. */
interface Grid {
  readonly height: number;
  readonly width: number;
  readonly down: number;
  readonly right: number;
}

/** Attention within windows of an image whose rows and columns were rolled by `shift`. */
class ShiftedWindowAttention extends nn.Module {
  readonly windowSize: number;
  readonly shift: number;
  readonly numHeads: number;
  readonly attentionDropout: number;
  readonly dropout: number;
  readonly relativePositionBiasTable: nn.Parameter;
  readonly relativePositionIndex: nn.Buffer;
  readonly qkv: nn.Linear;
  readonly proj: nn.Linear;
  /** By the size of the image: which words of a window were neighbours before rolling. */
  readonly #masks = new Map<string, nn.Buffer>();

  constructor(channels: number, numHeads: number, shift: number, options: BlockOptions) {
    super();
    const { windowSize } = options;
    this.windowSize = windowSize;
    this.shift = shift;
    this.numHeads = numHeads;
    this.attentionDropout = options.attentionDropout;
    this.dropout = options.dropout;
    const rows = (2 * windowSize - 1) ** 2;
    this.relativePositionBiasTable = new nn.Parameter(new Float32Array(rows * numHeads), [
      rows,
      numHeads,
    ]);
    nn.init.normal(this.relativePositionBiasTable, 0, 0.02);
    const index = relativePositions(windowSize);
    this.relativePositionIndex = new nn.Buffer(index, [index.length], 'int32');
    this.qkv = linear(channels, 3 * channels);
    this.proj = linear(channels, channels);
  }

  forward(x: Tensor): Tensor {
    const [, height = 0, width = 0] = x.shape;
    const { windowSize: size } = this;
    const grid = this.#grid(height, width);
    const { down, right } = grid;
    let padded = F.pad(x, [0, 0, 0, grid.width - width, 0, grid.height - height]);
    if (down + right > 0) padded = roll(padded, [-down, -right], [1, 2]);
    const [rows, columns] = [grid.height / size, grid.width / size];
    const [batch = 0, , , channels = 0] = x.shape;
    const windows = padded
      .reshape(batch, rows, size, columns, size, channels)
      .permute(0, 1, 3, 2, 4, 5)
      .reshape(batch * rows * columns, size * size, channels);
    let y = this.#attend(windows, batch, grid)
      .reshape(batch, rows, columns, size, size, channels)
      .permute(0, 1, 3, 2, 4, 5)
      .reshape(batch, grid.height, grid.width, channels);
    if (down + right > 0) y = roll(y, [down, right], [1, 2]);
    return y.narrow(1, 0, height).narrow(2, 0, width);
  }

  #grid(height: number, width: number): Grid {
    const { windowSize: size, shift } = this;
    const padded = [height, width].map((length) => Math.ceil(length / size) * size);
    const [h = 0, w = 0] = padded;
    // One window holds everything: nothing would come from moving it.
    return { height: h, width: w, down: size >= h ? 0 : shift, right: size >= w ? 0 : shift };
  }

  /** Windows [batch * windows, words, channels] to the same. */
  #attend(x: Tensor, batch: number, grid: Grid): Tensor {
    const [count = 0, words = 0, channels = 0] = x.shape;
    const { numHeads, training } = this;
    const size = channels / numHeads;
    const [q, k, v] = this.qkv
      .forward(x)
      .reshape(count, words, 3, numHeads, size)
      .permute(2, 0, 3, 1, 4)
      .unbind(0) as [Tensor, Tensor, Tensor];
    const scores = q.mul(1 / Math.sqrt(size)).matmul(k.transpose(-2, -1));
    let biased = scores.add(this.#positionBias(words));
    if (grid.down + grid.right > 0) {
      const windows = count / batch;
      biased = biased
        .reshape(batch, windows, numHeads, words, words)
        .add(this.#mask(grid))
        .reshape(count, numHeads, words, words);
    }
    const weights = F.dropout(F.softmax(biased, -1), { p: this.attentionDropout, training });
    const joined = weights.matmul(v).transpose(1, 2).reshape(count, words, channels);
    return F.dropout(this.proj.forward(joined), { p: this.dropout, training });
  }

  /** [1, heads, words, words]. */
  #positionBias(words: number): Tensor {
    return this.relativePositionBiasTable
      .indexSelect(0, this.relativePositionIndex)
      .reshape(words, words, this.numHeads)
      .permute(2, 0, 1)
      .unsqueeze(0);
  }

  /** [windows, 1, words, words]: 0 where two words were neighbours before rolling, else {@link FAR}. */
  #mask(grid: Grid): Tensor {
    const { windowSize: size } = this;
    const key = `${grid.height} ${grid.width}`;
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const region = (length: number, shift: number): number[] =>
      Array.from({ length }, (_, i) => {
        if (shift === 0 || i < length - size) return 0;
        return i < length - shift ? 1 : 2;
      });
    const rows = region(grid.height, grid.down);
    const columns = region(grid.width, grid.right);
    const words = size * size;
    const values: number[] = [];
    for (let top = 0; top < grid.height; top += size) {
      for (let left = 0; left < grid.width; left += size) {
        const place = (word: number): number =>
          3 * (rows[top + Math.floor(word / size)] ?? 0) + (columns[left + (word % size)] ?? 0);
        for (let i = 0; i < words * words; i++) {
          values.push(place(Math.floor(i / words)) === place(i % words) ? 0 : FAR);
        }
      }
    }
    const windows = values.length / (words * words);
    // A value of its own, not an expression: it outlives the call.
    const mask = new nn.Buffer(Float32Array.from(values), [windows, 1, words, words]);
    this.#masks.set(key, mask);
    return mask;
  }
}

interface BlockOptions {
  readonly windowSize: number;
  readonly dropout: number;
  readonly attentionDropout: number;
}

class SwinTransformerBlock extends nn.Module {
  readonly norm1: nn.LayerNorm;
  readonly attn: ShiftedWindowAttention;
  readonly stochasticDepth: StochasticDepth;
  readonly norm2: nn.LayerNorm;
  readonly mlp: nn.Sequential;

  constructor(
    sizes: { readonly channels: number; readonly numHeads: number; readonly shift: number },
    dropped: number,
    options: BlockOptions,
  ) {
    super();
    const { channels, numHeads, shift } = sizes;
    this.norm1 = new nn.LayerNorm(channels);
    this.attn = new ShiftedWindowAttention(channels, numHeads, shift, options);
    this.stochasticDepth = new StochasticDepth(dropped);
    this.norm2 = new nn.LayerNorm(channels);
    this.mlp = feedForward(channels, 4 * channels, options.dropout);
  }

  forward(x: Tensor): Tensor {
    const y = x.add(this.stochasticDepth.forward(this.attn.forward(this.norm1.forward(x))));
    return y.add(this.stochasticDepth.forward(this.mlp.forward(this.norm2.forward(y))));
  }
}

/** Four neighbours to one place of twice the channels. */
class PatchMerging extends nn.Module {
  readonly reduction: nn.Linear;
  readonly norm: nn.LayerNorm;

  constructor(channels: number) {
    super();
    this.reduction = nn.init.skip(() => new nn.Linear(4 * channels, 2 * channels, { bias: false }));
    this.norm = new nn.LayerNorm(4 * channels);
  }

  forward(x: Tensor): Tensor {
    const [batch = 0, height = 0, width = 0, channels = 0] = x.shape;
    const even = F.pad(x, [0, 0, 0, width % 2, 0, height % 2]);
    const [rows, columns] = [Math.ceil(height / 2), Math.ceil(width / 2)];
    // Of the four, the second is below the first, the third to its right.
    const merged = even
      .reshape(batch, rows, 2, columns, 2, channels)
      .permute(0, 1, 3, 4, 2, 5)
      .reshape(batch, rows, columns, 4 * channels);
    return this.reduction.forward(this.norm.forward(merged));
  }
}

/** [batch, channels, height, width] to [batch, height, width, channels]. */
class ChannelsLast extends nn.Module {
  forward(x: Tensor): Tensor {
    return x.permute(0, 2, 3, 1);
  }
}

/**
 * Swin transformer (Liu et al. 2021, https://arxiv.org/abs/2103.14030): images [batch, 3, height,
 * width] of any size from one patch to scores [batch, numClasses].
 */
export class SwinTransformer extends nn.Module {
  readonly features: nn.Sequential;
  readonly norm: nn.LayerNorm;
  readonly avgpool = new nn.AdaptiveAvgPool2d(1);
  readonly head: nn.Linear;

  /** Throws ArgumentError unless there are as many depths as heads, and the heads divide the channels. */
  constructor(layout: SwinTransformerLayout, options: SwinTransformerOptions = {}) {
    super();
    const op = 'vision.SwinTransformer';
    const { embedDim, depths, numHeads, windowSize = 7, patchSize = 4 } = layout;
    const { numClasses = 1000, dropout = 0, attentionDropout = 0, stochasticDepth = 0.1 } = options;
    checkInteger(op, 'numClasses', numClasses, 1);
    checkInteger(op, 'windowSize', windowSize, 1);
    if (depths.length === 0 || depths.length !== numHeads.length) {
      throw new ArgumentError(`${depths.length} depths and ${numHeads.length} numHeads`, { op });
    }
    const block: BlockOptions = { windowSize, dropout, attentionDropout };
    const total = depths.reduce((sum, depth) => sum + depth, 0);
    this.features = new nn.Sequential(
      new nn.Sequential(
        conv(3, embedDim, patchSize, { stride: patchSize, padding: 0, bias: true }),
        new ChannelsLast(),
        new nn.LayerNorm(embedDim),
      ),
    );
    let made = 0;
    let channels = embedDim;
    for (const [i, depth] of depths.entries()) {
      const heads = checkInteger(op, 'numHeads', numHeads[i], 1);
      if (channels % heads !== 0) {
        throw new ArgumentError(`${heads} heads do not divide ${channels} channels`, { op });
      }
      const stage = new nn.Sequential();
      for (let j = 0; j < checkInteger(op, 'depths', depth, 1); j++) {
        const shift = j % 2 === 0 ? 0 : Math.floor(windowSize / 2);
        const dropped = total === 1 ? 0 : (stochasticDepth * made) / (total - 1);
        stage.append(
          new SwinTransformerBlock({ channels, numHeads: heads, shift }, dropped, block),
        );
        made += 1;
      }
      this.features.append(stage);
      if (i === depths.length - 1) continue;
      this.features.append(new PatchMerging(channels));
      channels *= 2;
    }
    this.norm = new nn.LayerNorm(channels);
    this.head = linear(channels, numClasses);
    this.#initialize();
  }

  /** Small normal weights, as torchvision starts; the patches as a convolution of PyTorch does. */
  #initialize(): void {
    for (const module of this.modules()) {
      if (module instanceof nn.Conv2d) nn.init.resetWeightAndBias(module.weight, module.bias);
      if (!(module instanceof nn.Linear)) continue;
      nn.init.normal(module.weight, 0, 0.02);
      if (module.bias !== null) nn.init.zeros(module.bias);
    }
  }

  forward(images: Tensor): Tensor {
    const x = this.norm.forward(this.features.forward(images)).permute(0, 3, 1, 2);
    return this.head.forward(this.avgpool.forward(x).flatten(1));
  }
}

/**
 * Swin-T (Liu et al. 2021): [batch, 3, height, width] to [batch, numClasses]; 28 million parameters.
 *
 * @example no-run: draws 28 million numbers
 * const model = swinT({ numClasses: 10 });
 * model.forward(zeros([1, 3, 224, 224])).shape; // => [1, 10]
 */
export function swinT(options: SwinTransformerOptions = {}): SwinTransformer {
  const layout = { embedDim: 96, depths: [2, 2, 6, 2], numHeads: [3, 6, 12, 24] };
  return new SwinTransformer(layout, { stochasticDepth: 0.2, ...options });
}

/** Swin-S (Liu et al. 2021): 50 million parameters. */
export function swinS(options: SwinTransformerOptions = {}): SwinTransformer {
  const layout = { embedDim: 96, depths: [2, 2, 18, 2], numHeads: [3, 6, 12, 24] };
  return new SwinTransformer(layout, { stochasticDepth: 0.3, ...options });
}

/** Swin-B (Liu et al. 2021): 88 million parameters. */
export function swinB(options: SwinTransformerOptions = {}): SwinTransformer {
  const layout = { embedDim: 128, depths: [2, 2, 18, 2], numHeads: [4, 8, 16, 32] };
  return new SwinTransformer(layout, { stochasticDepth: 0.5, ...options });
}
