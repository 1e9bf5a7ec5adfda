// Sequences of tensors and optional values.
import { ArgumentError, FormatError, ShapeError } from '../../../base/errors.ts';
import { cat, stack } from '../../tensor/index.ts';
import { elementType, int, required, subgraph, typeAttribute } from '../attributes.ts';
import type { Graph } from '../graph.ts';
import { type Call, type Operator, type Result, defineOperator } from '../operator.ts';
import { elementTypeOf } from '../tensor-data.ts';
import { OptionalValue, SequenceValue, TensorValue, type Value } from '../values.ts';
import { as } from './results.ts';

/** An input that is a sequence, in an optional value or not. */
function sequenceOf(call: Call, index: number): SequenceValue {
  let value: Value | null = call.any(index);
  while (value?.kind === 'optional') value = value.value;
  if (value?.kind === 'sequence') return value;
  throw new FormatError(`input ${index} is ${value?.kind ?? 'empty'} where a sequence is expected`);
}

/** A place in a sequence, counted from the end if negative; `extra` places behind it count too. */
function place(call: Call, index: number, length: number, extra = 0): number {
  const given = call.number(index);
  const at = given < 0 ? given + length : given;
  if (Number.isInteger(at) && at >= 0 && at < length + extra) return at;
  throw new ArgumentError(`place ${given} in a sequence of ${length}`);
}

function insert(call: Call): SequenceValue {
  const { items, type } = sequenceOf(call, 0);
  const at = call.has(2) ? place(call, 2, items.length, 1) : items.length;
  return new SequenceValue(items.toSpliced(at, 0, call.any(1)), type);
}

function erase(call: Call): SequenceValue {
  const { items, type } = sequenceOf(call, 0);
  const at = call.has(1) ? place(call, 1, items.length) : items.length - 1;
  if (items.length === 0) throw new ArgumentError('nothing to erase in an empty sequence');
  return new SequenceValue(items.toSpliced(at, 1), type);
}

function joined(call: Call<{ axis: number; new_axis: number }>): TensorValue {
  const { items, type } = sequenceOf(call, 0);
  const tensors = items.map((item) => {
    if (item.kind === 'tensor') return item.tensor;
    throw new FormatError('a sequence of sequences cannot be joined');
  });
  const { axis, new_axis: fresh } = call.attributes;
  const [first] = tensors;
  if (first === undefined) throw new ShapeError('an empty sequence cannot be joined');
  const at = call.axis(axis, first.ndim + (fresh === 1 ? 1 : 0));
  return as(type, fresh === 1 ? stack(tensors, at) : cat(tensors, at));
}

/** Runs the body for each item of a sequence; other inputs that are tensors are given each time. */
function map(call: Call<{ body: Graph }>): Result[] {
  const { body } = call.attributes;
  const { items } = sequenceOf(call, 0);
  const lists: Value[][] = body.outputs.map(() => []);
  for (const index of items.keys()) {
    call.graphs.countRound();
    const inputs = call.inputs.map((value) => {
      if (value?.kind !== 'sequence') return value;
      if (value.items.length !== items.length) {
        throw new ShapeError(`sequences of ${items.length} and ${value.items.length} items`);
      }
      return value.items[index] ?? null;
    });
    for (const [i, result] of call.graphs.run(body, inputs).entries()) {
      if (result === null) throw new FormatError('the body gives nothing');
      lists[i]?.push(result);
    }
  }
  return lists.map((list, index) => {
    const [first] = list;
    const declared = elementTypeOf(body.outputInfo[index]?.type?.tensorType?.elemType);
    const type = first?.kind === 'tensor' ? first.type : (declared ?? 'float32');
    return new SequenceValue(list, type);
  });
}

/** What an optional value holds; anything else is its own element. */
function element(call: Call): Value {
  const value = call.any(0);
  if (value.kind !== 'optional') return value;
  if (value.value === null) throw new ArgumentError('an empty optional value has no element');
  return value.value;
}

function hasElement(call: Call): TensorValue {
  const value = call.inputs[0] ?? null;
  const has = value !== null && (value.kind !== 'optional' || value.value !== null);
  return TensorValue.ofNumbers([has ? 1 : 0], [], 'bool');
}

export const sequences: readonly Operator[] = [
  defineOperator({
    name: 'SequenceConstruct',
    since: 11,
    inputs: [1, 65_536],
    run: (call) => new SequenceValue(call.values(), call.type(0)),
  }),
  defineOperator({
    name: 'SequenceEmpty',
    since: 11,
    inputs: 0,
    attributes: { dtype: elementType('float32') },
    run: (call) => new SequenceValue([], call.attributes.dtype),
  }),
  defineOperator({ name: 'SequenceInsert', since: 11, inputs: [2, 3], run: insert }),
  defineOperator({ name: 'SequenceErase', since: 11, inputs: [1, 2], run: erase }),
  defineOperator({
    name: 'SequenceAt',
    since: 11,
    inputs: 2,
    run: (call) => {
      const { items } = sequenceOf(call, 0);
      return items[place(call, 1, items.length)] ?? null;
    },
  }),
  defineOperator({
    name: 'SequenceLength',
    since: 11,
    inputs: 1,
    run: (call) => TensorValue.ofNumbers([sequenceOf(call, 0).items.length], []),
  }),
  defineOperator({
    name: 'ConcatFromSequence',
    since: 11,
    inputs: 1,
    attributes: { axis: required(int()), new_axis: int(0) },
    run: joined,
  }),
  defineOperator({
    name: 'SequenceMap',
    since: 17,
    inputs: [1, 4096],
    outputs: [1, 4096],
    attributes: { body: required(subgraph()) },
    run: map,
  }),
  defineOperator({
    name: 'Optional',
    since: 15,
    inputs: [0, 1],
    attributes: { type: typeAttribute() },
    run: (call) => new OptionalValue(call.inputs[0] ?? null),
  }),
  defineOperator({ name: 'OptionalGetElement', since: 15, inputs: 1, run: element }),
  defineOperator({ name: 'OptionalHasElement', since: 15, inputs: [0, 1], run: hasElement }),
];
