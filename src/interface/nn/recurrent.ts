// Recurrent layers (RNN, LSTM, GRU) and single cells, with PyTorch's parameter names.
import { checkKeys, checkOption } from '../../base/checks.ts';
import { ArgumentError } from '../../base/errors.ts';
import * as F from '../functional/index.ts';
import { checkInteger } from '../tensor/arguments.ts';
import { zeros } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { describeOptions, newParameter } from './create.ts';
import * as init from './init.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

export interface RecurrentLayerOptions {
  /** Layers on top of each other; default 1. */
  readonly numLayers?: number;
  /** Whether there are biases; default true. */
  readonly bias?: boolean;
  /** Whether x and the output are [batch, time, size] instead of [time, batch, size]; default false. */
  readonly batchFirst?: boolean;
  /** Probability that an element between two layers is dropped in training; default 0. */
  readonly dropout?: number;
  /** Whether each layer also runs backwards; default false. */
  readonly bidirectional?: boolean;
}

export interface RNNOptions extends RecurrentLayerOptions {
  /** Default tanh. */
  readonly nonlinearity?: 'tanh' | 'relu';
}

export interface LSTMOptions extends RecurrentLayerOptions {
  /** Size to which h is projected; default 0, none. */
  readonly projSize?: number;
}

export interface SequenceOptions {
  /**
   * Length of each sequence of the batch, in any order: numbers, or integers [batch]. Beyond it the
   * output is 0 and the state stays; backwards a sequence starts at its own end.
   */
  readonly lengths?: F.RecurrentOptions['lengths'];
}

const OPTION_NAMES = ['numLayers', 'bias', 'batchFirst', 'dropout', 'bidirectional'];

/** Base of RNN, LSTM and GRU: weights named weight_ih_l0, weight_hh_l0, ..., `_reverse` behind. */
abstract class RecurrentLayer extends Module {
  readonly inputSize: number;
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly bias: boolean;
  readonly batchFirst: boolean;
  readonly dropout: number;
  readonly bidirectional: boolean;
  readonly #fields: string[] = [];

  constructor(
    inputSize: number,
    hiddenSize: number,
    options: RecurrentLayerOptions,
    form: { readonly gates: number; readonly projSize?: number; readonly names: readonly string[] },
  ) {
    super();
    const op = `nn.${new.target.name}`;
    checkKeys(op, options, [...OPTION_NAMES, ...form.names]);
    this.inputSize = checkInteger(op, 'inputSize', inputSize, 1);
    this.hiddenSize = checkInteger(op, 'hiddenSize', hiddenSize, 1);
    this.numLayers = checkInteger(op, 'numLayers', options.numLayers ?? 1, 1);
    this.bias = options.bias ?? true;
    this.batchFirst = options.batchFirst ?? false;
    this.dropout = options.dropout ?? 0;
    this.bidirectional = options.bidirectional ?? false;
    checkOption(op, 'dropout', this.dropout, [0, 1]);
    if (this.dropout > 0 && this.numLayers === 1) {
      throw new ArgumentError('dropout is between layers, and there is only one', { op });
    }
    this.#addWeights(form.gates * hiddenSize, form.projSize ?? 0);
    this.resetParameters();
  }

  #addWeights(rows: number, projSize: number): void {
    const outputs = projSize > 0 ? projSize : this.hiddenSize;
    const sides = this.bidirectional ? ['', 'Reverse'] : [''];
    for (let layer = 0; layer < this.numLayers; layer++) {
      const inputs = layer === 0 ? this.inputSize : outputs * sides.length;
      for (const side of sides) {
        const add = (name: string, shape: readonly number[]): void => {
          const field = `${name}L${layer}${side}`;
          this.#fields.push(field);
          Reflect.set(this, field, newParameter(shape));
        };
        add('weightIh', [rows, inputs]);
        add('weightHh', [rows, outputs]);
        if (this.bias) for (const name of ['biasIh', 'biasHh']) add(name, [rows]);
        if (projSize > 0) add('weightHr', [projSize, this.hiddenSize]);
      }
    }
  }

  /** All weights in the order in which `F.lstm` and its like take them. */
  protected weights(): Tensor[] {
    return this.#fields.map((field) => Reflect.get(this, field) as Tensor);
  }

  /** Draws all weights anew, uniform within 1 / sqrt(hiddenSize). */
  resetParameters(): void {
    const bound = 1 / Math.sqrt(this.hiddenSize);
    for (const parameter of this.parameters()) init.uniform(parameter, -bound, bound);
  }

  protected options(sequence: SequenceOptions): F.RecurrentOptions {
    checkKeys(`nn.${this.constructor.name}`, sequence, ['lengths']);
    const { numLayers, bias, batchFirst, dropout, bidirectional, training } = this;
    const { lengths = null } = sequence;
    return { numLayers, bias, batchFirst, dropout, bidirectional, training, lengths };
  }

  protected more(): Readonly<Record<string, unknown>> {
    return {};
  }

  override describe(): string {
    const { numLayers, bias, batchFirst, dropout, bidirectional } = this;
    const options = {
      ...this.more(),
      numLayers: numLayers === 1 ? undefined : numLayers,
      bias: bias ? undefined : false,
      batchFirst: batchFirst || undefined,
      dropout: dropout === 0 ? undefined : dropout,
      bidirectional: bidirectional || undefined,
    };
    const text = describeOptions(options);
    const { name } = this.constructor;
    return `${name}(${this.inputSize}, ${this.hiddenSize}${text === '' ? '' : `, ${text}`})`;
  }
}

/**
 * Elman network: `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`. x is [time, batch, inputSize], with
 * `batchFirst` [batch, time, inputSize], or [time, inputSize] without a batch; the state h
 * [layers * directions, batch, hiddenSize], zeros if left out. Gives the output of the last layer
 * at all times, and the last h of every layer and direction.
 *
 * @example
 * const layer = new RNN(4, 8, { numLayers: 2, bidirectional: true });
 * const [output, h] = layer.forward(zeros([5, 3, 4]));
 * output.shape; // => [5, 3, 16]
 * h.shape; // => [4, 3, 8]
 */
export class RNN extends RecurrentLayer {
  static override readonly name = 'RNN';
  readonly nonlinearity: 'tanh' | 'relu';

  constructor(inputSize: number, hiddenSize: number, options: RNNOptions = {}) {
    super(inputSize, hiddenSize, options, { gates: 1, names: ['nonlinearity'] });
    this.nonlinearity = options.nonlinearity ?? 'tanh';
    checkOption('nn.RNN', 'nonlinearity', this.nonlinearity, ['tanh', 'relu']);
  }

  forward(x: Tensor, h?: Tensor | null, options: SequenceOptions = {}): [Tensor, Tensor] {
    const run = this.nonlinearity === 'relu' ? F.rnnRelu : F.rnnTanh;
    return run(x, h === undefined || h === null ? [] : [h], this.weights(), this.options(options));
  }

  protected override more(): Readonly<Record<string, unknown>> {
    return this.nonlinearity === 'relu' ? { nonlinearity: 'relu' } : {};
  }
}

/**
 * Gated recurrent units; arguments and results as those of `RNN`.
 *
 * @example
 * const layer = new GRU(4, 8, { batchFirst: true });
 * const [output, h] = layer.forward(zeros([2, 5, 4]), null, { lengths: [5, 2] });
 * output.shape; // => [2, 5, 8]
 * Object.keys(layer.stateDict()); // => ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
 */
export class GRU extends RecurrentLayer {
  static override readonly name = 'GRU';

  constructor(inputSize: number, hiddenSize: number, options: RecurrentLayerOptions = {}) {
    super(inputSize, hiddenSize, options, { gates: 3, names: [] });
  }

  forward(x: Tensor, h?: Tensor | null, options: SequenceOptions = {}): [Tensor, Tensor] {
    const states = h === undefined || h === null ? [] : [h];
    return F.gru(x, states, this.weights(), this.options(options));
  }
}

/**
 * Long short-term memory. As `RNN`, but the state is a pair [h, c]; h is [.., projSize] where there
 * is a projection.
 *
 * @example
 * const layer = new LSTM(4, 8, { projSize: 3 });
 * const [output, [h, c]] = layer.forward(zeros([5, 2, 4]));
 * output.shape; // => [5, 2, 3]
 * h.shape; // => [1, 2, 3]
 * c.shape; // => [1, 2, 8]
 */
export class LSTM extends RecurrentLayer {
  static override readonly name = 'LSTM';
  readonly projSize: number;

  constructor(inputSize: number, hiddenSize: number, options: LSTMOptions = {}) {
    const projSize = checkInteger('nn.LSTM', 'projSize', options.projSize ?? 0, 0);
    if (projSize >= hiddenSize) {
      throw new ArgumentError(`projSize ${projSize} is not below hiddenSize ${hiddenSize}`, {
        op: 'nn.LSTM',
      });
    }
    super(inputSize, hiddenSize, options, { gates: 4, projSize, names: ['projSize'] });
    this.projSize = projSize;
  }

  forward(
    x: Tensor,
    state?: readonly [h: Tensor, c: Tensor] | null,
    options: SequenceOptions = {},
  ): [output: Tensor, state: [h: Tensor, c: Tensor]] {
    const [output, h, c] = F.lstm(x, state ?? [], this.weights(), this.options(options));
    return [output, [h, c]];
  }

  protected override more(): Readonly<Record<string, unknown>> {
    return this.projSize === 0 ? {} : { projSize: this.projSize };
  }
}

// ---- cells ------------------------------------------------------------------------------------

export interface CellOptions {
  /** Whether there are biases; default true. */
  readonly bias?: boolean;
}

abstract class RecurrentCell extends Module {
  readonly inputSize: number;
  readonly hiddenSize: number;
  readonly weightIh: Parameter;
  readonly weightHh: Parameter;
  readonly biasIh: Parameter | null;
  readonly biasHh: Parameter | null;

  constructor(inputSize: number, hiddenSize: number, gates: number, options: CellOptions) {
    super();
    const op = `nn.${new.target.name}`;
    this.inputSize = checkInteger(op, 'inputSize', inputSize, 1);
    this.hiddenSize = checkInteger(op, 'hiddenSize', hiddenSize, 1);
    const rows = gates * hiddenSize;
    const hasBias = options.bias ?? true;
    this.weightIh = newParameter([rows, inputSize]);
    this.weightHh = newParameter([rows, hiddenSize]);
    this.biasIh = hasBias ? newParameter([rows]) : null;
    this.biasHh = hasBias ? newParameter([rows]) : null;
    this.resetParameters();
  }

  /** Draws all weights anew, uniform within 1 / sqrt(hiddenSize). */
  resetParameters(): void {
    const bound = 1 / Math.sqrt(this.hiddenSize);
    for (const parameter of this.parameters()) init.uniform(parameter, -bound, bound);
  }

  /** Zeros for a state that was left out. */
  protected zeroState(x: Tensor): Tensor {
    return zeros([...x.shape.slice(0, -1), this.hiddenSize], { dtype: this.weightHh.dtype });
  }

  override describe(): string {
    const { inputSize, hiddenSize, biasIh } = this;
    const bias = biasIh === null ? ', bias=false' : '';
    return `${this.constructor.name}(${inputSize}, ${hiddenSize}${bias})`;
  }
}

/**
 * One step of `RNN`: x [batch, inputSize] and h [batch, hiddenSize], or both without a batch, give
 * the new h.
 *
 * @example
 * const cell = new RNNCell(4, 8);
 * let h = zeros([2, 8]);
 * for (const x of zeros([5, 2, 4])) h = cell.forward(x, h);
 * h.shape; // => [2, 8]
 */
export class RNNCell extends RecurrentCell {
  static override readonly name = 'RNNCell';
  readonly nonlinearity: 'tanh' | 'relu';

  constructor(
    inputSize: number,
    hiddenSize: number,
    options: CellOptions & { readonly nonlinearity?: 'tanh' | 'relu' } = {},
  ) {
    checkKeys('nn.RNNCell', options, ['bias', 'nonlinearity']);
    super(inputSize, hiddenSize, 1, options);
    this.nonlinearity = options.nonlinearity ?? 'tanh';
    checkOption('nn.RNNCell', 'nonlinearity', this.nonlinearity, ['tanh', 'relu']);
  }

  forward(x: Tensor, h?: Tensor | null): Tensor {
    const step = this.nonlinearity === 'relu' ? F.rnnReluCell : F.rnnTanhCell;
    const { weightIh, weightHh, biasIh, biasHh } = this;
    return step(x, h ?? this.zeroState(x), weightIh, weightHh, biasIh, biasHh);
  }
}

/** One step of `GRU`; arguments as for `RNNCell`. */
export class GRUCell extends RecurrentCell {
  static override readonly name = 'GRUCell';

  constructor(inputSize: number, hiddenSize: number, options: CellOptions = {}) {
    checkKeys('nn.GRUCell', options, ['bias']);
    super(inputSize, hiddenSize, 3, options);
  }

  forward(x: Tensor, h?: Tensor | null): Tensor {
    const { weightIh, weightHh, biasIh, biasHh } = this;
    return F.gruCell(x, h ?? this.zeroState(x), weightIh, weightHh, biasIh, biasHh);
  }
}

/** One step of `LSTM`: the state is a pair [h, c], as is the result. */
export class LSTMCell extends RecurrentCell {
  static override readonly name = 'LSTMCell';

  constructor(inputSize: number, hiddenSize: number, options: CellOptions = {}) {
    checkKeys('nn.LSTMCell', options, ['bias']);
    super(inputSize, hiddenSize, 4, options);
  }

  forward(x: Tensor, state?: readonly [h: Tensor, c: Tensor] | null): [h: Tensor, c: Tensor] {
    const { weightIh, weightHh, biasIh, biasHh } = this;
    const before = state ?? [this.zeroState(x), this.zeroState(x)];
    return F.lstmCell(x, before, weightIh, weightHh, biasIh, biasHh);
  }
}
