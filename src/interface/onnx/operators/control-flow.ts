// If, Loop and Scan. What is known on the host or short is decided there and unrolled; what depends on
// values, or goes on for long, is a loop or choice of the graph, as long as its shapes stay.
import { FormatError, ShapeError, TengenError, TraceError } from '../../../base/errors.ts';
import { formatShape, sameShape } from '../../../base/shape.ts';
import { cat, full, stack } from '../../tensor/index.ts';
import { noGrad } from '../../transform/index.ts';
import { int, ints, required, subgraph } from '../attributes.ts';
import type { Graph } from '../graph.ts';
import {
  type Call,
  checkAxis,
  HOST_LIMIT,
  type Operator,
  type Result,
  defineOperator,
} from '../operator.ts';
import { elementTypeOf, newElements } from '../tensor-data.ts';
import { TensorValue, type Value, encodeValues } from '../values.ts';
import {
  asTensor,
  chooseBranch,
  conditionalLoop,
  countedLoop,
  type LoopResult,
  MayEndEarly,
  MOST_ROUNDS,
  type RunRound,
  UNROLLED_ROUNDS,
} from './graph-loops.ts';
import { as } from './results.ts';

/** Values of one shape on a new axis, known ones on the host. */
function stacked(values: readonly TensorValue[], axis: number): TensorValue {
  const [first] = values;
  if (first === undefined) throw new FormatError('nothing to stack');
  const { shape, type } = first;
  for (const value of values) {
    if (sameShape(value.shape, shape)) continue;
    throw new ShapeError(`rounds give ${formatShape(shape)} and ${formatShape(value.shape)}`);
  }
  const size = first.size * values.length;
  if (axis === 0 && size <= HOST_LIMIT && values.every(({ known }) => known !== null)) {
    const data = newElements(type, size);
    let at = 0;
    for (const value of values) {
      for (const element of value.read().data) Reflect.set(data, at++, element);
    }
    return TensorValue.ofArray({ type, shape: [values.length, ...shape], data });
  }
  const tensors = values.map(({ tensor }) => tensor);
  return as(type, stack(tensors, axis));
}

/** What a loop that runs no round gives for an output that is gathered. */
function nothingGathered(graph: Graph, index: number): TensorValue {
  const type = graph.outputInfo[index]?.type?.tensorType;
  const rest = type?.shape?.dim.map(({ dimValue }) => dimValue ?? 0) ?? [];
  return TensorValue.ofArray(
    encodeValues(elementTypeOf(type?.elemType) ?? 'float32', [0, ...rest], []),
  );
}

/** Why a loop or choice is not an operation of the graph, in words. */
function reasonOf(error: unknown): string {
  if (error instanceof TengenError) return error.message;
  throw error;
}

/** What a loop that is unrolled, or a choice that is decided while the graph is built, has to read. */
function decided<T>(what: string, reason: string | null, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof TraceError) || reason === null) throw error;
    throw new TraceError(`${error.message} (${what} because: ${reason})`, { cause: error });
  }
}

function choose(call: Call<{ then_branch: Graph; else_branch: Graph }>): Result[] {
  const { then_branch: yes, else_branch: no } = call.attributes;
  const predicate = call.value(0);
  let reason: string | null = null;
  if (predicate.known === null && predicate.size === 1) {
    try {
      const branch = (graph: Graph) => () =>
        call.graphs.run(graph, []).map((value) => asTensor(value, 'what a branch gives'));
      return chooseBranch(predicate, branch(yes), branch(no));
    } catch (error) {
      reason = reasonOf(error);
    }
  }
  const holds = decided('the condition is read', reason, () => call.number(0) !== 0);
  return call.graphs.run(holds ? yes : no, []);
}

/** A Loop: its rounds, how many there may be, and its state. */
class LoopCall {
  readonly #call: Call<{ body: Graph }>;
  readonly #body: Graph;
  readonly #initial: readonly (Value | null)[];
  readonly #gathered: number;

  constructor(call: Call<{ body: Graph }>) {
    this.#call = call;
    this.#body = call.attributes.body;
    this.#initial = call.inputs.slice(2);
    this.#gathered = this.#body.outputs.length - 1 - this.#initial.length;
    if (this.#body.inputs.length !== this.#initial.length + 2 || this.#gathered < 0) {
      throw new FormatError(
        `the body takes ${this.#body.inputs.length} values and gives ${this.#body.outputs.length}, for ${this.#initial.length} that it keeps`,
      );
    }
  }

  run(): Result[] {
    const call = this.#call;
    const limit = call.has(0) ? call.value(0) : null;
    const goes = call.has(1) ? call.value(1) : null;
    const isKnown = (value: TensorValue | null): boolean => value === null || value.known !== null;
    // Nothing is computed yet: this only says what a round would give.
    const isOver = isKnown(limit) && isKnown(goes) && !(this.#limit() > 0 && this.#goes());
    const first = isOver ? null : this.#round(this.#initial, 0);
    const stays = first?.every((value) => value?.kind !== 'tensor' || value.known !== null) ?? true;
    const isShort =
      isKnown(limit) && isKnown(goes) && this.#limit() <= UNROLLED_ROUNDS && this.#isSure(first);
    if (first === null || stays || isShort) return this.#unrolled(first, null);
    try {
      return this.#inGraph(first);
    } catch (error) {
      return this.#unrolled(first, reasonOf(error));
    }
  }

  #limit(): number {
    return this.#call.has(0) ? this.#call.number(0) : Infinity;
  }

  #goes(): boolean {
    return this.#call.has(1) ? this.#call.number(1) !== 0 : true;
  }

  #isSure(results: readonly (Value | null)[] | null): boolean {
    const [condition] = results ?? [];
    return condition?.kind === 'tensor' && condition.known !== null;
  }

  #round(state: readonly (Value | null)[], round: number): (Value | null)[] {
    this.#call.graphs.countRound();
    const counter = TensorValue.ofNumbers([round], []);
    const condition = TensorValue.ofNumbers([1], [], 'bool');
    return this.#call.graphs.run(this.#body, [counter, condition, ...state]);
  }

  /** Round by round; the first one may be there already. */
  #unrolled(first: readonly (Value | null)[] | null, reason: string | null): Result[] {
    const read = <T>(of: () => T): T => decided('the loop is unrolled', reason, of);
    const limit = read(() => this.#limit());
    let goes = read(() => this.#goes());
    let state = this.#initial;
    const count = state.length;
    const lists: TensorValue[][] = Array.from({ length: this.#gathered }, () => []);
    for (let round = 0; goes && round < limit; round++) {
      const results = round === 0 && first !== null ? first : this.#round(state, round);
      const condition = asTensor(results[0], 'the condition');
      goes = read(() => condition.numbers()[0] ?? 0) !== 0;
      state = results.slice(1, 1 + count);
      for (const [index, list] of lists.entries()) {
        list.push(asTensor(results[1 + count + index], 'what is gathered'));
      }
    }
    const whole = lists.map((list, index) =>
      list.length > 0 ? stacked(list, 0) : nothingGathered(this.#body, 1 + count + index),
    );
    return [...state, ...whole];
  }

  /** As an operation of the graph. Throws what says why it is none. */
  #inGraph(first: readonly (Value | null)[]): Result[] {
    const state = this.#initial.map((value) => asTensor(value, 'the state'));
    const count = state.length;
    const run: RunRound = (values, at) => {
      const on = TensorValue.ofNumbers([1], [], 'bool');
      const results = this.#call.graphs.run(this.#body, [at, on, ...values]);
      return {
        goes: asTensor(results[0], 'the condition'),
        state: results.slice(1, 1 + count).map((value) => asTensor(value, 'the state')),
        kept: results.slice(1 + count).map((value) => asTensor(value, 'what is gathered')),
      };
    };
    const tracked = first.some((value) => value?.kind === 'tensor' && isTracked(value));
    const limit = this.#call.has(0) ? this.#call.value(0) : null;
    const goes = this.#call.has(1) ? this.#call.value(1) : null;
    const bound = limit !== null && limit.known !== null ? this.#limit() : Infinity;
    const isCounted = bound <= MOST_ROUNDS && (goes === null || this.#isSure([goes]));
    if (isCounted) {
      try {
        const { state: last, kept } = countedLoop(run, state, this.#limit());
        return [...last, ...kept];
      } catch (error) {
        if (!(error instanceof MayEndEarly)) throw error;
      }
    }
    const few = tracked && bound <= MOST_SAVED ? bound : undefined;
    // 2^63 - 1 stands for no bound.
    const end = limit?.known === null || bound <= MOST_ROUNDS ? limit : null;
    const conditional = (): ReturnType<typeof conditionalLoop> =>
      conditionalLoop(run, state, end, goes, few);
    const gathers = this.#call.outputs.some((name, k) => name !== '' && k >= count);
    if (!gathers && (!tracked || few !== undefined)) return conditional().state;
    // How much is gathered, or saved for gradients, is a shape: that number is read.
    const rounds = decided('it is the size of an output', 'a Loop that gathers may end early', () =>
      noGrad(() => conditional().rounds.itemSync()),
    );
    if (rounds === 0) return this.#unrolled(null, null);
    const { state: last, kept } = countedLoop(run, state, Number(rounds), { holds: true });
    return [...last, ...kept];
  }
}

/** Whether gradients may be asked for through a value. */
function isTracked(value: TensorValue): boolean {
  return value.known === null && value.tensor.tracked;
}

/** What so many rounds began with may be kept for gradients. */
const MOST_SAVED = 4096;

interface ScanAttributes {
  readonly body: Graph;
  readonly num_scan_inputs: number;
  readonly scan_input_axes: readonly number[] | undefined;
  readonly scan_input_directions: readonly number[] | undefined;
  readonly scan_output_axes: readonly number[] | undefined;
  readonly scan_output_directions: readonly number[] | undefined;
}

/** Runs the body over slices of the last inputs, with a state that is handed on. */
function scan(call: Call<ScanAttributes>, inputs: readonly (Value | null)[]): TensorValue[] {
  const { body, num_scan_inputs: count } = call.attributes;
  const states = inputs.length - count;
  if (count < 1 || states < 0 || body.inputs.length !== inputs.length) {
    throw new FormatError(`${count} inputs to go through of ${inputs.length}`);
  }
  const isBack = (i: number): boolean => call.attributes.scan_input_directions?.[i] === 1;
  const reverse = Array.from({ length: count }, (_, i) => i).every(isBack);
  // Parts along the first axis, all in the order in which rounds take them but for `reverse`.
  const sources = inputs.slice(states).map((given, i): TensorValue => {
    const value = asTensor(given, 'an input');
    const first = value.tensor.movedim(
      checkAxis(call.attributes.scan_input_axes?.[i] ?? 0, value.rank),
      0,
    );
    return as(value.type, isBack(i) === reverse ? first : first.flip(0));
  });
  const lengths = sources.map(({ shape }) => shape[0] ?? 0);
  const [length = 0] = lengths;
  if (lengths.some((other) => other !== length)) {
    throw new ShapeError(`inputs of ${formatShape(lengths)} slices are gone through together`);
  }
  const run: RunRound = (state, _, parts) => {
    const results = call.graphs.run(body, [...state, ...parts]);
    return {
      state: results.slice(0, states).map((value) => asTensor(value, 'the state')),
      kept: results.slice(states).map((value) => asTensor(value, 'what is gathered')),
      goes: HOLDS,
    };
  };
  const initial = inputs.slice(0, states).map((value) => asTensor(value, 'the state'));
  const { state, kept } = rounds(call, run, initial, sources, reverse);
  const whole = kept.map((value, index) => {
    const isFlipped = call.attributes.scan_output_directions?.[index] === 1;
    const axis = checkAxis(call.attributes.scan_output_axes?.[index] ?? 0, value.rank);
    if (axis === 0 && isFlipped === reverse) return value;
    const ordered = isFlipped === reverse ? value.tensor : value.tensor.flip(0);
    return as(value.type, ordered.movedim(0, axis));
  });
  return [...state, ...whole];
}

const HOLDS = TensorValue.ofNumbers([1], [], 'bool');

/** All rounds of a Scan; what is kept of each stands at the place of its part. */
function rounds(
  call: Call<ScanAttributes>,
  run: RunRound,
  initial: readonly TensorValue[],
  sources: readonly TensorValue[],
  reverse: boolean,
): LoopResult {
  const length = sources[0]?.shape[0] ?? 0;
  if (length > UNROLLED_ROUNDS) {
    try {
      return countedLoop(run, initial, length, { parts: sources, reverse });
    } catch (error) {
      // Shapes that change, or values that decide shapes: round by round.
      reasonOf(error);
    }
  }
  const { body } = call.attributes;
  let state: readonly TensorValue[] = initial;
  const lists: TensorValue[][] = body.outputs.slice(initial.length).map(() => []);
  for (let round = 0; round < length; round++) {
    call.graphs.countRound();
    const at = reverse ? length - 1 - round : round;
    const parts = sources.map((value): TensorValue => as(value.type, value.tensor.select(0, at)));
    const made = run(state, TensorValue.ofNumbers([round], []), parts);
    state = made.state;
    made.kept.forEach((value, index) => lists[index]?.push(value));
  }
  const kept = lists.map((list, index) => {
    if (list.length === 0) return nothingGathered(body, initial.length + index);
    return stacked(reverse ? list.toReversed() : list, 0);
  });
  return { state: [...state], kept };
}

/** Zeros behind what a shorter sequence gave. */
function padded(value: TensorValue, length: number): TensorValue {
  const missing = length - (value.shape[0] ?? 0);
  if (missing === 0) return value;
  const rest = full([missing, ...value.shape.slice(1)], 0, { dtype: value.tensor.dtype });
  return as(value.type, cat([value.tensor, rest], 0));
}

/** Version 8 goes over batches: every input has an axis of them in front, and lengths may be given. */
function scanBatches(call: Call<ScanAttributes>): Result[] {
  const inputs = call.inputs.slice(1).map((value) => asTensor(value, 'an input'));
  const states = inputs.length - call.attributes.num_scan_inputs;
  const batch = inputs[0]?.shape[0] ?? 0;
  const longest = inputs.at(-1)?.shape[1] ?? 0;
  const lengths = call.optionalNumbers(0) ?? new Array<number>(batch).fill(longest);
  const fits = lengths.every((n) => Number.isInteger(n) && n >= 0 && n <= longest);
  if (lengths.length !== batch || !fits) {
    throw new ShapeError(
      `lengths ${formatShape(lengths)} for ${batch} sequences of ${longest} parts`,
    );
  }
  const items: TensorValue[][] = [];
  for (const [item, length] of lengths.entries()) {
    const parts = inputs.map((value, k) => {
      const own = value.tensor.select(0, item);
      return as(value.type, k < states ? own : own.narrow(0, 0, length));
    });
    items.push(scan(call, parts));
  }
  const [first = []] = items;
  return first.map((_, index) =>
    stacked(
      items.map((item) => {
        const value = asTensor(item[index], 'an output');
        return index < states ? value : padded(value, longest);
      }),
      0,
    ),
  );
}

const SCAN = { body: required(subgraph()), num_scan_inputs: required(int()) };

export const controlFlow: readonly Operator[] = [
  defineOperator({
    name: 'If',
    since: 1,
    inputs: 1,
    outputs: [1, 4096],
    attributes: { then_branch: required(subgraph()), else_branch: required(subgraph()) },
    run: choose,
  }),
  defineOperator({
    name: 'Loop',
    since: 1,
    inputs: [2, 4096],
    outputs: [1, 4096],
    attributes: { body: required(subgraph()) },
    run: (call) => new LoopCall(call).run(),
  }),
  defineOperator({
    name: 'Scan',
    since: 8,
    until: 8,
    inputs: [1, 4096],
    outputs: [1, 4096],
    attributes: { ...SCAN, directions: ints() },
    run: (call) =>
      scanBatches(
        call.with({
          ...call.attributes,
          scan_input_axes: undefined,
          scan_input_directions: call.attributes.directions,
          scan_output_axes: undefined,
          scan_output_directions: undefined,
        }),
      ),
  }),
  defineOperator({
    name: 'Scan',
    since: 9,
    inputs: [1, 4096],
    outputs: [1, 4096],
    attributes: {
      ...SCAN,
      scan_input_axes: ints(),
      scan_input_directions: ints(),
      scan_output_axes: ints(),
      scan_output_directions: ints(),
    },
    run: (call) => scan(call, call.inputs),
  }),
];
