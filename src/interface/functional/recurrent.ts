// Recurrent networks as functions: layers over whole sequences, and single steps.
import { checkInteger, checkKeys } from '../../base/checks.ts';
import { type DType, isInteger, promote } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, type Shape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, isTensor, listOf, tensorOn, wrap } from '../tensor/handle.ts';
import { tensor } from '../tensor/creation.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { dropout } from './dropout.ts';
import { GRU, LSTM, type RecurrentCell, RELU, type State, TANH } from './recurrent-cells.ts';
import { type DirectionWeights, project, runDirection } from './recurrent-layer.ts';

export interface RecurrentOptions {
  /** Layers on top of each other; default 1. */
  readonly numLayers?: number;
  /** Whether each layer also runs backwards, its outputs behind the others'; default false. */
  readonly bidirectional?: boolean;
  /** Whether x and the output are [batch, time, size] instead of [time, batch, size]; default false. */
  readonly batchFirst?: boolean;
  /** Whether the weights have biases among them; default true. */
  readonly bias?: boolean;
  /** Probability that an element between two layers is dropped; default 0. */
  readonly dropout?: number;
  /** Whether anything is dropped; default false. */
  readonly training?: boolean;
  /**
   * Length of each sequence of the batch, 0 to time, in any order: numbers, or integers [batch].
   * Beyond it the output is 0 and the state stays; backwards a sequence starts at its own end.
   */
  readonly lengths?: readonly number[] | Tensor | null;
}

const OPTION_NAMES = [
  'numLayers',
  'bidirectional',
  'batchFirst',
  'bias',
  'dropout',
  'training',
  'lengths',
];

/** x as [time, batch, features], and what becomes of the output's axes. */
interface Sequence {
  readonly node: Node;
  readonly hasBatch: boolean;
  readonly batchFirst: boolean;
}

function readSequence(op: string, x: Tensor, batchFirst: boolean, dtype: DType): Sequence {
  const node = castNode(floatNode(op, x), dtype);
  const hasBatch = node.shape.length === 3;
  if (!hasBatch && node.shape.length !== 2) {
    const expected = batchFirst ? '[batch, time, features]' : '[time, batch, features]';
    throw new ShapeError(`takes ${expected} or [time, features], got ${formatShape(node.shape)}`, {
      op,
    });
  }
  const [first, second, features] = hasBatch
    ? (node.shape as readonly [number, number, number])
    : [node.shape[0] as number, 1, node.shape[1] as number];
  const inTime = hasBatch && batchFirst ? ops.permute(node, [1, 0, 2]) : node;
  const sequence = hasBatch ? inTime : ops.reshape(node, [first, second, features]);
  if (sequence.shape[0] === 0) {
    throw new ShapeError(`a sequence needs one time step at least, got ${formatShape(x.shape)}`, {
      op,
    });
  }
  return { node: sequence, hasBatch, batchFirst };
}

/** The weight at a place of the list, of the given shape. */
function weightNode(
  op: string,
  name: string,
  given: Tensor | undefined,
  shape: Shape,
  dtype: DType,
) {
  const node = castNode(nodeOf(op, given as Tensor), dtype);
  if (sameShape(node.shape, shape)) return node;
  throw new ShapeError(`${name} is ${formatShape(node.shape)}, expected ${formatShape(shape)}`, {
    op,
  });
}

interface Layout {
  readonly cell: RecurrentCell;
  readonly dtype: DType;
  readonly size: number;
  /** Size of the outputs: less than `size` with a projection. */
  readonly outputSize: number;
  readonly hasBias: boolean;
  readonly perDirection: number;
}

/** Sizes, as the first two weights give them. */
function readLayout(
  cell: RecurrentCell,
  weights: readonly Tensor[],
  dtype: DType,
  hasBias: boolean,
): Layout {
  const op = cell.name;
  const [input, hidden] = [nodeOf(op, weights[0] as Tensor), nodeOf(op, weights[1] as Tensor)];
  const size = (input.shape[0] ?? 0) / cell.gates;
  const outputSize = hidden.shape[1] ?? 0;
  const isProjected = outputSize !== size;
  const fits = input.shape.length === 2 && hidden.shape.length === 2 && Number.isInteger(size);
  if (!fits || size === 0 || outputSize === 0 || (isProjected && cell !== LSTM)) {
    throw new ShapeError(
      `weights ${formatShape(input.shape)} and ${formatShape(hidden.shape)} are not [${cell.gates} * size, features] and [${cell.gates} * size, size]`,
      { op },
    );
  }
  const perDirection = 2 + (hasBias ? 2 : 0) + (isProjected ? 1 : 0);
  return { cell, dtype, size, outputSize, hasBias, perDirection };
}

function directionWeights(
  layout: Layout,
  weights: readonly Tensor[],
  direction: number,
  features: number,
): DirectionWeights {
  const { cell, dtype, size, outputSize, hasBias, perDirection } = layout;
  const rows = cell.gates * size;
  const first = direction * perDirection;
  const read = (place: number, name: string, shape: Shape): Node =>
    weightNode(
      cell.name,
      `${name} (weight ${first + place})`,
      weights[first + place],
      shape,
      dtype,
    );
  return {
    input: read(0, 'weight_ih', [rows, features]),
    hidden: read(1, 'weight_hh', [rows, outputSize]),
    inputBias: hasBias ? read(2, 'bias_ih', [rows]) : null,
    hiddenBias: hasBias ? read(3, 'bias_hh', [rows]) : null,
    projection: outputSize === size ? null : read(hasBias ? 4 : 2, 'weight_hr', [outputSize, size]),
  };
}

/** The given initial states as [layers * directions, batch, size], or zeros. */
function readStates(
  layout: Layout,
  given: readonly Tensor[],
  count: number,
  batch: number,
  hasBatch: boolean,
): Node[] {
  const { cell, dtype, size, outputSize } = layout;
  if (given.length !== 0 && given.length !== cell.states) {
    throw new ArgumentError(
      `takes ${cell.states === 1 ? 'one initial state' : 'initial states h and c'}, got ${given.length}`,
      { op: cell.name },
    );
  }
  return Array.from({ length: cell.states }, (_, i) => {
    const shape = [count, batch, i === 0 ? outputSize : size];
    const state = given[i];
    if (state === undefined) return ops.full(shape, 0, dtype);
    const expected = hasBatch ? shape : [shape[0] as number, shape[2] as number];
    const name = i === 0 ? 'the state h' : 'the state c';
    return ops.reshape(weightNode(cell.name, name, state, expected, dtype), shape);
  });
}

/** Lengths as integers [batch, 1], which a run checks to be within the time. */
function readLengths(
  op: string,
  given: RecurrentOptions['lengths'],
  time: number,
  batch: number,
): Node | null {
  if (given === undefined || given === null) return null;
  let lengths: Tensor;
  if (isTensor(given)) lengths = given;
  else {
    for (const length of listOf(op, given, 'lengths')) {
      if (checkInteger(op, 'a length', length, 0) <= time) continue;
      throw new ShapeError(`a length of ${length} is beyond the ${time} time step(s)`, { op });
    }
    lengths = tensor(Int32Array.from(given), { dtype: 'int32' });
  }
  if (!isInteger(lengths.dtype)) {
    throw new DTypeError(`lengths are integers, got ${lengths.dtype}`, { op });
  }
  if (lengths.ndim !== 1 || lengths.shape[0] !== batch) {
    throw new ShapeError(`lengths are ${formatShape(lengths.shape)}, expected [${batch}]`, { op });
  }
  const node = castNode(lengths.node, 'int32');
  const range = { lowest: 0, size: time + 1, except: 0 };
  return ops.reshape(ops.checkedIndex(node, range), [batch, 1]);
}

function checkWeights(
  op: string,
  weights: readonly Tensor[],
  expected: number,
  layers: number,
  directions: number,
): void {
  if (weights.length === expected) return;
  throw new ArgumentError(
    `${layers} layer(s) in ${directions} direction(s) have ${expected} weights, got ${weights.length}`,
    { op, hint: 'in the order weight_ih, weight_hh, bias_ih, bias_hh of each layer and direction' },
  );
}

/** All layers: the output, then the last states. */
function recurrent(
  cell: RecurrentCell,
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly Tensor[],
  options: RecurrentOptions,
): Tensor[] {
  const op = cell.name;
  checkKeys(op, options, OPTION_NAMES);
  const layers = checkInteger(op, 'numLayers', options.numLayers ?? 1, 1);
  const directions = options.bidirectional === true ? 2 : 1;
  const list = listOf(op, weights, 'weights');
  if (list.length < 2) checkWeights(op, list, layers * directions * 4, layers, directions);
  const dtype = promote(floatNode(op, x).dtype, nodeOf(op, list[0] as Tensor).dtype);
  const layout = readLayout(cell, list, dtype, options.bias !== false);
  checkWeights(op, list, layers * directions * layout.perDirection, layers, directions);
  const sequence = readSequence(op, x, options.batchFirst === true, dtype);
  const [time, batch] = sequence.node.shape as readonly [number, number, number];
  const given = states === null || states === undefined ? [] : listOf(op, states, 'states');
  const initial = readStates(layout, given, layers * directions, batch, sequence.hasBatch);
  const lengths = readLengths(op, options.lengths, time, batch);
  const last: State[] = [];
  let input = lengths === null ? sequence.node : withoutPadding(sequence.node, lengths);
  for (let layer = 0; layer < layers; layer++) {
    const features = input.shape[2] as number;
    const outputs: Node[] = [];
    for (let side = 0; side < directions; side++) {
      const at = layer * directions + side;
      const start = initial.map((node) =>
        ops.reshape(ops.narrowAxis(node, 0, at, 1), node.shape.slice(1)),
      );
      const result = runDirection(
        cell,
        input,
        start,
        directionWeights(layout, list, at, features),
        {
          reverse: side === 1,
          lengths,
        },
      );
      outputs.push(result.output);
      last.push(result.last);
    }
    input = ops.concat(outputs, 2);
    if (layer < layers - 1) input = dropBetween(input, options);
  }
  return [finishOutput(input, sequence), ...joinStates(last, sequence.hasBatch)];
}

/** Zeros beyond the lengths: whatever stands there, the gradients must not see it. */
function withoutPadding(node: Node, lengths: Node): Node {
  const [time, batch] = node.shape as readonly [number, number, number];
  const times = ops.iota([time, 1, 1], 0, lengths.dtype);
  const runs = ops.greater(ops.reshape(lengths, [1, batch, 1]), times);
  return ops.select(runs, node, ops.constant(0, node.dtype));
}

function dropBetween(node: Node, { dropout: p = 0, training = false }: RecurrentOptions): Node {
  return dropout(tensorOn(node), { p, training }).node;
}

function finishOutput(node: Node, { hasBatch, batchFirst }: Sequence): Tensor {
  if (!hasBatch) return wrap(ops.reshape(node, [node.shape[0] as number, node.shape[2] as number]));
  return wrap(batchFirst ? ops.permute(node, [1, 0, 2]) : node);
}

/** The last states of all layers and directions, each kind stacked. */
function joinStates(last: readonly State[], hasBatch: boolean): Tensor[] {
  const [first] = last;
  return (first ?? []).map((_, i) => {
    const parts = last.map((state) => {
      const node = state[i] as Node;
      return hasBatch ? ops.reshape(node, [1, ...node.shape]) : node;
    });
    return wrap(ops.concat(parts, 0));
  });
}

/**
 * Elman networks with tanh (Elman 1990): `h = tanh(W_ih x + b_ih + W_hh h + b_hh)` over x [time,
 * batch, features] or [time, features]. `states` is [h] of [layers * directions, batch, size], or
 * empty for zeros; `weights` weight_ih [size, features], weight_hh [size, size], bias_ih, bias_hh
 * of each layer and direction. Gives the output [time, batch, directions * size] and the last h.
 *
 * @example
 * const weights = [tensor([[1]]), tensor([[0.5]])];
 * const [output, h] = rnnTanh(tensor([[0.5], [0]]), [], weights, { bias: false });
 * output; // => [[0.462], [0.227]]
 * h; // => [[0.227]]
 */
export function rnnTanh(
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly Tensor[],
  options: RecurrentOptions = {},
): [output: Tensor, h: Tensor] {
  return recurrent(TANH, x, states, weights, options) as [Tensor, Tensor];
}

/** As `rnnTanh`, with max(x, 0) in place of tanh. */
export function rnnRelu(
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly Tensor[],
  options: RecurrentOptions = {},
): [output: Tensor, h: Tensor] {
  return recurrent(RELU, x, states, weights, options) as [Tensor, Tensor];
}

/**
 * Gated recurrent units (Cho et al. 2014; the reset gate acts after the product, as in PyTorch).
 * Arguments as for `rnnTanh`; weights have 3 * size rows, in the order of gates r, z, n.
 */
export function gru(
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly Tensor[],
  options: RecurrentOptions = {},
): [output: Tensor, h: Tensor] {
  return recurrent(GRU, x, states, weights, options) as [Tensor, Tensor];
}

/**
 * Long short-term memory (Hochreiter and Schmidhuber 1997). Arguments as for `rnnTanh`, but states
 * are [h, c], and weights have 4 * size rows in the order of gates i, f, g, o. If weight_hh is
 * narrower than size, each layer has a fifth weight, weight_hr [outputSize, size], that projects h
 * (Sak et al. 2014). Gives the output and the last h and c.
 */
export function lstm(
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly Tensor[],
  options: RecurrentOptions = {},
): [output: Tensor, h: Tensor, c: Tensor] {
  return recurrent(LSTM, x, states, weights, options) as [Tensor, Tensor, Tensor];
}

/** One step over x [batch, features] or [features]: the new state. */
function singleStep(
  cell: RecurrentCell,
  x: Tensor,
  states: readonly Tensor[],
  weights: readonly (Tensor | null | undefined)[],
): Tensor[] {
  const op = `${cell.name}Cell`;
  const [inputWeight, hiddenWeight, inputBias, hiddenBias] = weights;
  const dtype = promote(floatNode(op, x).dtype, nodeOf(op, inputWeight as Tensor).dtype);
  const given = [inputWeight as Tensor, hiddenWeight as Tensor];
  const { size, outputSize } = readLayout({ ...cell, name: op }, given, dtype, false);
  const node = castNode(floatNode(op, x), dtype);
  const features = node.shape.at(-1) ?? 0;
  const rows = cell.gates * size;
  if (node.shape.length !== 1 && node.shape.length !== 2) {
    throw new ShapeError(`takes [batch, features] or [features], got ${formatShape(node.shape)}`, {
      op,
    });
  }
  const lead = node.shape.slice(0, -1);
  const batch = lead[0] ?? 1;
  const read = (name: string, value: Tensor | undefined, shape: Shape): Node =>
    weightNode(op, name, value, shape, dtype);
  const bias = (name: string, value: Tensor | null | undefined): Node | null =>
    value === null || value === undefined ? null : read(name, value, [rows]);
  const before = states.map((state) =>
    ops.reshape(read('the state', state, [...lead, size]), [batch, size]),
  );
  const input = project(
    ops.reshape(node, [batch, features]),
    read('weight_ih', given[0], [rows, features]),
    bias('bias_ih', inputBias),
  );
  const hidden = project(
    before[0] as Node,
    read('weight_hh', given[1], [rows, outputSize]),
    bias('bias_hh', hiddenBias),
  );
  const { state } = cell.step(input, hidden, before);
  return state.map((part) => wrap(ops.reshape(part, [...lead, size])));
}

/**
 * One step of `rnnTanh`: the new h from x [batch, features] and h [batch, size], or both without
 * the batch.
 *
 * @example
 * rnnTanhCell(tensor([0.5]), tensor([0]), tensor([[1]]), tensor([[0.5]])); // => [0.462]
 */
export function rnnTanhCell(
  x: Tensor,
  h: Tensor,
  weightIh: Tensor,
  weightHh: Tensor,
  biasIh?: Tensor | null,
  biasHh?: Tensor | null,
): Tensor {
  return singleStep(TANH, x, [h], [weightIh, weightHh, biasIh, biasHh])[0] as Tensor;
}

/** One step of `rnnRelu`; arguments as for `rnnTanhCell`. */
export function rnnReluCell(
  x: Tensor,
  h: Tensor,
  weightIh: Tensor,
  weightHh: Tensor,
  biasIh?: Tensor | null,
  biasHh?: Tensor | null,
): Tensor {
  return singleStep(RELU, x, [h], [weightIh, weightHh, biasIh, biasHh])[0] as Tensor;
}

/** One step of `gru`; arguments as for `rnnTanhCell`. */
export function gruCell(
  x: Tensor,
  h: Tensor,
  weightIh: Tensor,
  weightHh: Tensor,
  biasIh?: Tensor | null,
  biasHh?: Tensor | null,
): Tensor {
  return singleStep(GRU, x, [h], [weightIh, weightHh, biasIh, biasHh])[0] as Tensor;
}

/** One step of `lstm` without a projection: the new [h, c] from the old ones. */
export function lstmCell(
  x: Tensor,
  state: readonly [h: Tensor, c: Tensor],
  weightIh: Tensor,
  weightHh: Tensor,
  biasIh?: Tensor | null,
  biasHh?: Tensor | null,
): [h: Tensor, c: Tensor] {
  const states = listOf('lstmCell', state, 'states h and c', 'lstmCell(x, [h, c], ...)');
  if (states.length !== 2) {
    throw new ArgumentError(`takes states h and c, got ${states.length}`, { op: 'lstmCell' });
  }
  return singleStep(LSTM, x, states, [weightIh, weightHh, biasIh, biasHh]) as [Tensor, Tensor];
}
