// What an operator of ONNX is: a row of a table with its versions, attributes and the function that
// builds its result; and the call that the function sees.
import type { DType } from '../../base/dtype.ts';
import { FormatError, ShapeError } from '../../base/errors.ts';
import { type Shape, formatShape } from '../../base/shape.ts';
import { type Tensor, isTensor } from '../tensor/index.ts';
import type { AttributeSchema, AttributeValues } from './attributes.ts';
import type { Graph } from './graph.ts';
import type { ElementArray, ElementType } from './tensor-data.ts';
import { TensorValue, type Value, computedAs } from './values.ts';

/** What a function gives: one result or several; a tensor alone has the type that fits. */
export type Result = Tensor | Value | null;

/** How nodes with subgraphs run them. */
export interface GraphRunner {
  /** Runs a subgraph, which sees the names of the graph around the node. */
  run(graph: Graph, inputs: readonly (Value | null)[]): (Value | null)[];
  /** Counts one round of a loop; throws when there are too many. */
  countRound(): void;
}

/** One use of an operator: its inputs and attributes. */
export class Call<A = object> {
  readonly attributes: A;
  readonly inputs: readonly (Value | null)[];
  /** Names of the outputs; '' for one that is not wanted. */
  readonly outputs: readonly string[];
  /** Version of the operator set. */
  readonly opset: number;
  readonly graphs: GraphRunner;

  constructor(
    attributes: A,
    inputs: readonly (Value | null)[],
    outputs: readonly string[],
    opset: number,
    graphs: GraphRunner,
  ) {
    this.attributes = attributes;
    this.inputs = inputs;
    this.outputs = outputs;
    this.opset = opset;
    this.graphs = graphs;
  }

  /** The same call with other attributes. */
  with<B>(attributes: B): Call<B> {
    return new Call(attributes, this.inputs, this.outputs, this.opset, this.graphs);
  }

  /** Whether an optional input is given. */
  has(index: number): boolean {
    return (this.inputs[index] ?? null) !== null;
  }

  /** Whether an output is used. */
  wants(index: number): boolean {
    return (this.outputs[index] ?? '') !== '';
  }

  /** An input of any kind. */
  any(index: number): Value {
    const value = this.inputs[index] ?? null;
    if (value === null) throw new FormatError(`input ${index} is missing`);
    return value;
  }

  /** An input that is a tensor. */
  value(index: number): TensorValue {
    const value = this.any(index);
    if (value.kind === 'tensor') return value;
    throw new FormatError(`input ${index} is ${value.kind} where a tensor is expected`);
  }

  /** All inputs, which are tensors. */
  values(): TensorValue[] {
    return this.inputs.map((_, index) => this.value(index));
  }

  tensor(index: number): Tensor {
    return this.value(index).tensor;
  }

  /** An optional input, or null. */
  optional(index: number): Tensor | null {
    return this.has(index) ? this.tensor(index) : null;
  }

  type(index: number): ElementType {
    return this.value(index).type;
  }

  shape(index: number): Shape {
    return this.value(index).shape;
  }

  /** The numbers of an input, read from the device if they are not known. */
  numbers(index: number): number[] {
    return this.value(index).numbers();
  }

  /** The numbers of an optional input, or undefined. */
  optionalNumbers(index: number): number[] | undefined {
    return this.has(index) ? this.numbers(index) : undefined;
  }

  /** The number of an input of one element. */
  number(index: number): number {
    const numbers = this.numbers(index);
    const [value] = numbers;
    if (value === undefined || numbers.length !== 1) {
      throw new ShapeError(
        `input ${index} holds ${numbers.length} numbers where one is expected, its shape is ${formatShape(this.shape(index))}`,
      );
    }
    return value;
  }

  /** An axis of an input, counted from the end if negative. */
  axis(axis: number, rank = this.value(0).rank): number {
    return checkAxis(axis, rank);
  }
}

/** An axis of a tensor of `rank` axes. Throws ShapeError. */
export function checkAxis(axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (Number.isInteger(positive) && positive >= 0 && positive < rank) return positive;
  throw new ShapeError(`axis ${axis} of a tensor of ${rank} axes`);
}

type Run<A> = (call: Call<A>) => Result | readonly Result[];

/** A row as it is written. */
export interface OperatorRow<S extends AttributeSchema> {
  readonly name: string;
  readonly domain?: string;
  /** The first version of the operator set that it holds for, and the last. */
  readonly since: number;
  readonly until?: number;
  /** Fewest and most inputs; one number for exactly so many. */
  readonly inputs: number | readonly [number, number];
  readonly outputs?: number | readonly [number, number];
  readonly attributes?: S;
  /** Inputs that hold statistics or settings: a model does not train them. */
  readonly constants?: readonly number[];
  readonly run: Run<AttributeValues<S>>;
  /** Computes on the host if all inputs are known there; undefined where that is not possible. */
  readonly host?: (call: Call<AttributeValues<S>>) => ElementArray | undefined;
}

/** A row, whatever its attributes. */
export interface Operator {
  readonly name: string;
  readonly domain: string;
  readonly since: number;
  readonly until: number;
  readonly inputs: readonly [number, number];
  readonly outputs: readonly [number, number];
  readonly attributes: AttributeSchema;
  readonly constants: readonly number[];
  call(call: Call): Value[];
}

const range = (given: number | readonly [number, number]): readonly [number, number] =>
  typeof given === 'number' ? [given, given] : given;

/** Types that a tensor of a dtype has where nothing else is known. */
function typeOfDType(dtype: DType): ElementType {
  return dtype;
}

/** A result with its ONNX type: that of the first input if it is computed in the same dtype. */
function typed(result: Result, call: Call): Value | null {
  if (!isTensor(result)) return result;
  const first = call.inputs[0];
  const fits = first?.kind === 'tensor' && computedAs(first.type) === result.dtype;
  return TensorValue.ofTensor(result, fits ? first.type : typeOfDType(result.dtype));
}

/** Arrays of at most so many elements are computed on the host. */
export const HOST_LIMIT = 4096;

/** Whether all inputs are known on the host and small. */
function allKnown(call: Call): boolean {
  if (call.inputs.length === 0) return false;
  return call.inputs.every(
    (value) =>
      value === null ||
      (value.kind === 'tensor' && value.known !== null && value.size <= HOST_LIMIT),
  );
}

/** Makes a row of the table of operators. */
export function defineOperator<const S extends AttributeSchema>(row: OperatorRow<S>): Operator {
  const { run, host } = row;
  return {
    name: row.name,
    domain: row.domain ?? '',
    since: row.since,
    until: row.until ?? Infinity,
    inputs: range(row.inputs),
    outputs: range(row.outputs ?? 1),
    attributes: row.attributes ?? {},
    constants: row.constants ?? [],
    call(call: Call): Value[] {
      // The loader has read the attributes by this very schema.
      const own = call as Call<AttributeValues<S>>;
      if (host !== undefined && allKnown(call)) {
        const array = host(own);
        if (array !== undefined) return [TensorValue.ofArray(array)];
      }
      const results = run(own);
      const list = Array.isArray(results) ? (results as readonly Result[]) : [results as Result];
      return list.map((result) => typed(result, call)) as Value[];
    },
  };
}
