// If, Loop and Scan: the course is decided on the host, so loops are unrolled into the computation.
// Conditions and counts that are computed are read from the device.
import { FormatError, ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape } from '../../../base/shape.ts';
import { stack } from '../../tensor/index.ts';
import { int, ints, required, subgraph } from '../attributes.ts';
import type { Graph } from '../graph.ts';
import { type Call, HOST_LIMIT, type Operator, type Result, defineOperator } from '../operator.ts';
import { elementTypeOf, newElements } from '../tensor-data.ts';
import { TensorValue, type Value, encodeValues } from '../values.ts';
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

function asTensor(value: Value | null, what: string): TensorValue {
  if (value?.kind === 'tensor') return value;
  throw new FormatError(`${what} is ${value?.kind ?? 'empty'} where a tensor is expected`);
}

function choose(call: Call<{ then_branch: Graph; else_branch: Graph }>): Result[] {
  const { then_branch: yes, else_branch: no } = call.attributes;
  return call.graphs.run(call.number(0) !== 0 ? yes : no, []);
}

function loop(call: Call<{ body: Graph }>): Result[] {
  const { body } = call.attributes;
  const limit = call.has(0) ? call.number(0) : Infinity;
  let goes = call.has(1) ? call.number(1) !== 0 : true;
  let state = call.inputs.slice(2);
  const gathered = body.outputs.length - 1 - state.length;
  if (body.inputs.length !== state.length + 2 || gathered < 0) {
    throw new FormatError(
      `the body takes ${body.inputs.length} values and gives ${body.outputs.length}, for ${state.length} that it keeps`,
    );
  }
  const lists: TensorValue[][] = Array.from({ length: gathered }, () => []);
  for (let round = 0; goes && round < limit; round++) {
    call.graphs.countRound();
    const counter = TensorValue.ofNumbers([round], []);
    const condition = TensorValue.ofNumbers([1], [], 'bool');
    const results = call.graphs.run(body, [counter, condition, ...state]);
    goes = (asTensor(results[0] ?? null, 'the condition').numbers()[0] ?? 0) !== 0;
    state = results.slice(1, 1 + state.length);
    for (const [index, list] of lists.entries()) {
      list.push(asTensor(results[1 + state.length + index] ?? null, 'what is gathered'));
    }
  }
  const whole = lists.map((list, index) =>
    list.length > 0 ? stacked(list, 0) : nothingGathered(body, 1 + state.length + index),
  );
  return [...state, ...whole];
}

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
  const sources = inputs.slice(states).map((value) => asTensor(value, 'an input'));
  const axes = sources.map((value, i) => {
    const axis = call.attributes.scan_input_axes?.[i] ?? 0;
    return axis < 0 ? axis + value.rank : axis;
  });
  const lengths = sources.map(({ shape }, i) => shape[axes[i] ?? 0] ?? 0);
  const [length = 0] = lengths;
  if (lengths.some((other) => other !== length)) {
    throw new ShapeError(`inputs of ${formatShape(lengths)} slices are gone through together`);
  }
  let state = inputs.slice(0, states);
  const gathered = body.outputs.length - states;
  const lists: TensorValue[][] = Array.from({ length: gathered }, () => []);
  for (let round = 0; round < length; round++) {
    call.graphs.countRound();
    const slices = sources.map((value, i) => {
      const back = call.attributes.scan_input_directions?.[i] === 1;
      return as(value.type, value.tensor.select(axes[i] ?? 0, back ? length - 1 - round : round));
    });
    const results = call.graphs.run(body, [...state, ...slices]);
    state = results.slice(0, states);
    for (const [index, list] of lists.entries()) {
      list.push(asTensor(results[states + index] ?? null, 'what is gathered'));
    }
  }
  const whole = lists.map((list, index) => {
    if (list.length === 0) return nothingGathered(body, states + index);
    const back = call.attributes.scan_output_directions?.[index] === 1;
    const axis = call.attributes.scan_output_axes?.[index] ?? 0;
    const rank = (list[0]?.rank ?? 0) + 1;
    return stacked(back ? list.toReversed() : list, axis < 0 ? axis + rank : axis);
  });
  return [...state.map((value) => asTensor(value, 'the state')), ...whole];
}

/** Version 8 goes over batches: every input has an axis of them in front, and lengths may be given. */
function scanBatches(call: Call<ScanAttributes>): Result[] {
  if (call.has(0)) throw new FormatError('lengths of sequences are not supported');
  const inputs = call.inputs.slice(1).map((value) => asTensor(value, 'an input'));
  const batch = inputs[0]?.shape[0] ?? 0;
  const items: TensorValue[][] = [];
  for (let item = 0; item < batch; item++) {
    const parts = inputs.map((value) => as(value.type, value.tensor.select(0, item)));
    items.push(scan(call, parts));
  }
  const [first = []] = items;
  return first.map((_, index) =>
    stacked(
      items.map((item) => asTensor(item[index] ?? null, 'an output')),
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
    run: loop,
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
