// Embedding: a table of vectors, looked up by index.
import { checkOption } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { defaultGenerator } from '../tensor/generator.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

export interface EmbeddingOptions {
  /** A row that starts at zero and is never trained; negative from the end. */
  readonly paddingIdx?: number;
}

/**
 * Rows of a table [numEmbeddings, embeddingDim], looked up by integers. Starts from N(0, 1).
 *
 * @example
 * const table = new Embedding(10, 4, { paddingIdx: 0 });
 * table.forward(tensor([[1, 2, 0]], { dtype: 'int32' })).shape; // => [1, 3, 4]
 */
export class Embedding extends Module {
  readonly numEmbeddings: number;
  readonly embeddingDim: number;
  readonly paddingIdx: number | null;
  readonly weight: Parameter;

  constructor(numEmbeddings: number, embeddingDim: number, options: EmbeddingOptions = {}) {
    super();
    this.numEmbeddings = checkInteger('nn.Embedding', 'numEmbeddings', numEmbeddings, 1);
    this.embeddingDim = checkInteger('nn.Embedding', 'embeddingDim', embeddingDim, 1);
    this.paddingIdx = paddingRow(options.paddingIdx, numEmbeddings);
    this.weight = newParameter([numEmbeddings, embeddingDim]);
    this.resetParameters();
  }

  /** A table that starts from given rows, [numEmbeddings, embeddingDim]. */
  static fromPretrained(rows: Tensor, options: EmbeddingOptions = {}): Embedding {
    const [count, width] = rows.shape;
    if (count === undefined || width === undefined || rows.ndim !== 2) {
      throw new ArgumentError(`expected a table of 2 axes, got ${rows.ndim}`, {
        op: 'nn.Embedding.fromPretrained',
      });
    }
    const embedding = new Embedding(count, width, options);
    embedding.loadStateDict({ weight: rows });
    return embedding;
  }

  /** Draws all rows anew, but for the padding row. */
  resetParameters(): void {
    if (init.isSkipped()) return;
    const values = defaultGenerator.hostNormal(this.weight.size, 0, 1);
    if (this.paddingIdx !== null) {
      const start = this.paddingIdx * this.embeddingDim;
      values.fill(0, start, start + this.embeddingDim);
    }
    this.weight.setData(values);
  }

  forward(indices: Tensor): Tensor {
    const { paddingIdx } = this;
    return F.embedding(indices, this.weight, paddingIdx === null ? {} : { paddingIdx });
  }

  override describe(): string {
    const { numEmbeddings, embeddingDim, paddingIdx } = this;
    const padding = paddingIdx === null ? '' : `, paddingIdx=${paddingIdx}`;
    return `Embedding(${numEmbeddings}, ${embeddingDim}${padding})`;
  }
}

/**
 * Sums, means or maxima of bags of rows: indices [bags, size], or flat ones with the start of each
 * bag. A table as that of `Embedding`.
 *
 * @example
 * const bags = new EmbeddingBag(10, 4, { mode: 'sum' });
 * const indices = tensor([1, 2, 3, 4, 5], { dtype: 'int32' });
 * bags.forward(indices, tensor([0, 2], { dtype: 'int32' })).shape; // => [2, 4]
 */
export class EmbeddingBag extends Module {
  readonly numEmbeddings: number;
  readonly embeddingDim: number;
  readonly mode: 'sum' | 'mean' | 'max';
  readonly weight: Parameter;

  constructor(numEmbeddings: number, embeddingDim: number, options: F.EmbeddingBagOptions = {}) {
    super();
    this.numEmbeddings = checkInteger('nn.EmbeddingBag', 'numEmbeddings', numEmbeddings, 1);
    this.embeddingDim = checkInteger('nn.EmbeddingBag', 'embeddingDim', embeddingDim, 1);
    this.mode = options.mode ?? 'mean';
    checkOption('nn.EmbeddingBag', 'mode', this.mode, ['sum', 'mean', 'max']);
    this.weight = newParameter([numEmbeddings, embeddingDim]);
    this.resetParameters();
  }

  /** Draws all rows anew, from N(0, 1). */
  resetParameters(): void {
    init.normal(this.weight);
  }

  forward(indices: Tensor, offsets?: Tensor | null): Tensor {
    return F.embeddingBag(indices, this.weight, offsets, { mode: this.mode });
  }

  override describe(): string {
    return `EmbeddingBag(${this.numEmbeddings}, ${this.embeddingDim}, mode=${this.mode})`;
  }
}

function paddingRow(index: number | undefined, rows: number): number | null {
  if (index === undefined) return null;
  const row = index < 0 ? index + rows : index;
  if (Number.isInteger(row) && row >= 0 && row < rows) return row;
  throw new ArgumentError(`paddingIdx ${index} is not among ${rows} rows`, { op: 'nn.Embedding' });
}
