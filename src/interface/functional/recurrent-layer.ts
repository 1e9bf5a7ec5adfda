// One direction of one recurrent layer. Short sequences are unrolled, with the gradient through time
// written out, so that the weights have one product over all steps; longer ones are a loop.
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { tensorOn } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { scan } from '../transform/control-flow.ts';
import type { RecurrentCell, State, Step } from './recurrent-cells.ts';

/** Weights as PyTorch names them; `projection` is weight_hr. */
export interface DirectionWeights {
  readonly input: Node;
  readonly hidden: Node;
  readonly inputBias: Node | null;
  readonly hiddenBias: Node | null;
  readonly projection: Node | null;
}

export interface DirectionResult {
  /** [time, batch, size]. */
  readonly output: Node;
  readonly last: State;
}

/** What one step leaves behind for the gradient. */
interface Moment {
  readonly time: number;
  readonly before: State;
  readonly hidden: Node;
  readonly step: Step;
  /** True where the sequence still runs; null: everywhere. */
  readonly runs: Node | null;
}

/** `rows @ weight.T + bias`. */
export function project(rows: Node, weight: Node, bias: Node | null): Node {
  const product = ops.matmul(rows, ops.transpose(weight));
  return bias === null ? product : ops.add(product, bias);
}

/** Where `condition` is true `a`, else `b`; `a` where there is no condition. */
function where(condition: Node | null, a: Node, b: Node): Node {
  return condition === null ? a : ops.select(condition, a, b);
}

function zeroLike(node: Node): Node {
  return ops.constant(0, node.dtype);
}

/** Rows `index` of a stack of equally high blocks. */
function block(stack: Node, index: number, rows: number): Node {
  return ops.narrowAxis(stack, 0, index * rows, rows);
}

/**
 * The blocks of `width` columns that x [rows, columns] is cut into, the last filled up with zeros:
 * states of another width than the output are stacked below it that way.
 */
function toBlocks(x: Node, width: number): Node[] {
  const columns = x.shape[1] as number;
  const blocks: Node[] = [];
  for (let start = 0; start < columns; start += width) {
    const count = Math.min(width, columns - start);
    blocks.push(ops.pad(ops.narrowAxis(x, 1, start, count), [0, 0], [0, width - count]));
  }
  return blocks;
}

function fromBlocks(blocks: readonly Node[], columns: number): Node {
  return ops.narrowAxis(ops.concat(blocks, 1), 1, 0, columns);
}

class Direction {
  readonly #cell: RecurrentCell;
  readonly #weights: DirectionWeights;
  readonly #gates: Node;
  readonly #times: readonly number[];
  readonly #lengths: Node | null;

  constructor(
    cell: RecurrentCell,
    gates: Node,
    weights: DirectionWeights,
    options: { readonly reverse: boolean; readonly lengths: Node | null },
  ) {
    this.#cell = cell;
    this.#gates = gates;
    this.#weights = weights;
    this.#lengths = options.lengths;
    const times = Array.from({ length: gates.shape[0] as number }, (_, t) => t);
    this.#times = options.reverse ? times.reverse() : times;
  }

  run(initial: State): DirectionResult {
    const { hidden, hiddenBias, projection } = this.#weights;
    const [time, batch] = this.#gates.shape as readonly [number, number, number];
    const outputs = new Array<Node>(time);
    const moments: Moment[] = [];
    let state = initial;
    for (const t of this.#times) {
      const moment = this.#step(t, state);
      const { runs, step } = moment;
      moments.push(moment);
      const made = [...step.state];
      if (projection !== null) made[0] = project(made[0] as Node, projection, null);
      outputs[t] = where(runs, made[0] as Node, zeroLike(hidden));
      const before = state;
      state = made.map((node, i) => where(runs, node, before[i] as Node));
    }
    const width = (outputs[0] as Node).shape[1] as number;
    const blocks = state.map((node) => toBlocks(node, width));
    const stack = ops.concat([...outputs, ...blocks.flat()], 0);
    const inputs = [this.#gates, ...initial, hidden, hiddenBias, projection];
    const whole = ops.customGradient(
      stack,
      inputs.filter((node) => node !== null),
      (grad) => this.#gradient(grad, moments, state),
    );
    let next = time;
    const last = state.map((node, i) => {
      const parts = (blocks[i] as Node[]).map(() => block(whole, next++, batch));
      return fromBlocks(parts, node.shape[1] as number);
    });
    const output = ops.reshape(block(whole, 0, time * batch), [time, batch, width]);
    return { output, last };
  }

  #step(time: number, before: State): Moment {
    const [, batch, width] = this.#gates.shape as readonly [number, number, number];
    const { hidden: weight, hiddenBias } = this.#weights;
    const input = ops.reshape(ops.narrowAxis(this.#gates, 0, time, 1), [batch, width]);
    const hidden = project(before[0] as Node, weight, hiddenBias);
    const step = this.#cell.step(input, hidden, before);
    const lengths = this.#lengths;
    const runs = lengths === null ? null : ops.greater(lengths, ops.constant(time, lengths.dtype));
    return { time, before, hidden, step, runs };
  }

  /** Gradients by the gates, the initial state and the weights, for that of the stack. */
  #gradient(grad: Node, moments: readonly Moment[], last: State): Node[] {
    const { hidden: weight, hiddenBias, projection } = this.#weights;
    const [time, batch] = this.#gates.shape as readonly [number, number, number];
    let next = time;
    let carried = last.map((node) => {
      const columns = node.shape[1] as number;
      const width = grad.shape[1] as number;
      const count = Math.ceil(columns / width);
      const parts = Array.from({ length: count }, () => block(grad, next++, batch));
      return fromBlocks(parts, columns);
    });
    const fromInput = new Array<Node>(time);
    const fromState = new Array<Node>(time);
    const outputs = new Array<Node>(time);
    for (const { time: t, before, hidden, step, runs } of [...moments].reverse()) {
      const zero = zeroLike(grad);
      const ahead = carried;
      const arriving = ahead.map((node, i) =>
        i === 0 ? ops.add(node, block(grad, t, batch)) : node,
      );
      const stopped = runs === null ? [] : ahead.map((node) => ops.select(runs, zero, node));
      const grads = arriving.map((node) => where(runs, node, zero));
      outputs[t] = grads[0] as Node;
      if (projection !== null) grads[0] = ops.matmul(grads[0] as Node, projection);
      const gradient = this.#cell.gradient(step, hidden, before, grads);
      fromInput[t] = gradient.fromInput;
      fromState[t] = gradient.fromState;
      carried = before.map((_, i) => {
        const through = i === 0 ? ops.matmul(gradient.fromState, weight) : null;
        const parts = [through, gradient.state[i], stopped[i]];
        return parts.filter((part) => part !== null && part !== undefined).reduce(ops.add);
      });
    }
    const inTime = [...moments].sort((a, b) => a.time - b.time);
    const all = ops.concat(fromInput, 0);
    const isShared = fromInput.every((node, t) => node === fromState[t]);
    const ofStates = isShared ? all : ops.concat(fromState, 0);
    const states = ops.concat(
      inTime.map(({ before }) => before[0] as Node),
      0,
    );
    const results = [
      ops.reshape(all, this.#gates.shape),
      ...carried,
      ops.matmul(ops.transpose(ofStates), states),
    ];
    if (hiddenBias !== null) results.push(ops.sum(ofStates, 0));
    if (projection !== null) {
      const made = ops.concat(
        inTime.map(({ step }) => step.state[0] as Node),
        0,
      );
      results.push(ops.matmul(ops.transpose(ops.concat(outputs, 0)), made));
    }
    return results;
  }
}

/**
 * Runs a cell over x [time, batch, features] from an initial state [batch, size]. The input's
 * products of all steps are one. `lengths` [batch, 1]: beyond its length a sequence keeps its
 * state and its output is 0; in reverse it starts at its own end.
 */
export function runDirection(
  cell: RecurrentCell,
  x: Node,
  initial: State,
  weights: DirectionWeights,
  options: { readonly reverse: boolean; readonly lengths: Node | null },
): DirectionResult {
  const [time, batch, features] = x.shape as readonly [number, number, number];
  const rows = ops.reshape(x, [time * batch, features]);
  const gates = project(rows, weights.input, weights.inputBias);
  const stacked = ops.reshape(gates, [time, batch, gates.shape[1] as number]);
  if (time > UNROLLED || recorded !== null) {
    const result = scanDirection(cell, stacked, initial, weights, options);
    const loop = result.output.inputs[0] as Node;
    recorded?.set(loop, { cell, input: x, initial, weights, ...options });
    return result;
  }
  return new Direction(cell, stacked, weights, options).run(initial);
}

/**
 * Steps that are unrolled at most. Longer sequences are a loop that is compiled once, whatever their
 * length: unrolled, every step would be kernels of its own.
 */
const UNROLLED = 8;

/** One direction of one layer, as a loop that stands for it. */
export interface RecordedDirection {
  readonly cell: RecurrentCell;
  /** [time, batch, features] */
  readonly input: Node;
  readonly initial: State;
  readonly weights: DirectionWeights;
  readonly reverse: boolean;
  readonly lengths: Node | null;
}

let recorded: Map<Node, RecordedDirection> | null = null;

/**
 * Runs `body` with every sequence as a loop, however short, and tells which loop is which layer: for
 * files, which have one op for a layer and are to be the same at all lengths.
 */
export function withRecordedDirections<T>(body: () => T): {
  readonly result: T;
  readonly directions: ReadonlyMap<Node, RecordedDirection>;
} {
  const before = recorded;
  const directions = new Map<Node, RecordedDirection>();
  recorded = directions;
  try {
    return { result: body(), directions };
  } finally {
    recorded = before;
  }
}

/** All steps as one loop; its gradient is another. */
function scanDirection(
  cell: RecurrentCell,
  gates: Node,
  initial: State,
  weights: DirectionWeights,
  { reverse, lengths }: { readonly reverse: boolean; readonly lengths: Node | null },
): DirectionResult {
  const { hidden, hiddenBias, projection } = weights;
  const [time] = gates.shape as readonly [number, number, number];
  const times = ops.iota([time], 0, 'int32');
  const step = (
    before: readonly Tensor[],
    [input, at]: readonly [Tensor, Tensor],
  ): readonly [readonly Tensor[], Tensor] => {
    const state = before.map(({ node }) => node);
    const product = project(state[0] as Node, hidden, hiddenBias);
    const made = [...cell.step(input.node, product, state).state];
    if (projection !== null) made[0] = project(made[0] as Node, projection, null);
    const runs = lengths === null ? null : ops.greater(lengths, at.node);
    const next = made.map((node, i) => where(runs, node, state[i] as Node));
    const output = where(runs, made[0] as Node, zeroLike(hidden));
    return [next.map(tensorOn), tensorOn(output)];
  };
  const start: readonly Tensor[] = initial.map(tensorOn);
  const parts: readonly [Tensor, Tensor] = [tensorOn(gates), tensorOn(times)];
  const [last, output] = scan(step, start, parts, {
    reverse,
  });
  return { output: output.node, last: last.map(({ node }) => node) };
}
