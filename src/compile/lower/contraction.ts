// What a schedule for matrix products or convolutions works with: kernels under construction, the
// operands (with whatever is fused in front of them) and the results (with whatever follows them).
import { internalError } from '../../base/errors.ts';
import type { DType } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import { coefficientOf, linearForm } from '../../ir/linear.ts';
import { vectorizeStatements } from '../../ir/vectorize.ts';
import { indexVariables } from './axes.ts';
import { Emitter, type GroupView } from './emit.ts';
import { KernelBuilder, type Scratch, type Stage } from './kernel-builder.ts';

/** An operand that is nothing but memory under a strided view: element i at offset + i * strides. */
export interface PlainOperand {
  /** The stored value; `kernel.buffer(value)` reads it. */
  readonly value: Node;
  /** In elements. */
  readonly offset: number;
  /** In elements, one per axis of the operand; 0 for a repeated axis. */
  readonly strides: readonly number[];
}

/** One kernel of a schedule, with access to the group's operands and results. */
export interface ContractionKernel {
  readonly builder: Builder;
  /** The scalar value of an operand's element; `indices` are in range. */
  read(operand: number, indices: readonly Expression[]): Expression;
  /** The buffer of a stored value: of a PlainOperand, say. */
  buffer(value: Node): Buffer;
  /** Memory shared with the schedule's other kernels. */
  scratch(scratch: Scratch, access: 'read' | 'write' | 'readwrite'): Buffer;
  /** An array of its own for each grid item. */
  privateArray(name: string, dtype: DType, length: number): Buffer;
  /** Runs the fused epilogue on one element and stores all results. Every element exactly once. */
  writeElement(indices: readonly Expression[], value: Expression): readonly Statement[];
  /** The same for as many elements as `value` has lanes, by their number. All of them are in range. */
  writeVector(
    indicesOf: (lane: Expression) => readonly Expression[],
    value: Expression,
  ): readonly Statement[];
  finish(gridIndex: Variable, gridSize: number, body: readonly Statement[]): Stage;
}

/** What a schedule is given; `node` is the matmul or convolution. */
export interface ContractionContext {
  readonly node: Node;
  readonly target: Target;
  /** Name of the fused group, to begin kernel names with. */
  readonly name: string;
  newKernel(name: string): ContractionKernel;
  /** What an operand is, if it is a plain buffer under a strided view. */
  plainOperand(operand: number): PlainOperand | null;
  /** Whether an operand follows from parameters alone: packing it costs nothing in most runs. */
  isConstant(operand: number): boolean;
  /** Memory that lives from one kernel of the schedule to another. `length` in elements. */
  newScratch(name: string, dtype: DType, length: number): Scratch;
  /** Whether the epilogue does more than storing the result itself. */
  readonly hasEpilogue: boolean;
  /** Whether loops that write results may be `repeatable`. */
  readonly mayRepeat: boolean;
}

/** One way to compute contractions. Of those that are usable, the one that costs least is used. */
export interface ContractionSchedule {
  readonly name: string;
  /**
   * Whether an element's result depends on its operands alone, not on the sizes around it: sums run in
   * one fixed order. Results never depend on the number of threads.
   */
  readonly reproducible: boolean;
  usable(context: ContractionContext): boolean;
  /**
   * Estimated nanoseconds on one thread, all kernels together: see `cost.ts` for what a target
   * reaches. Only the order of the schedules' estimates matters.
   */
  cost(context: ContractionContext): number;
  /** The kernels, in order. Together they write every element of the result exactly once. */
  lower(context: ContractionContext): readonly Stage[];
}

/** The context of a group whose main op is `node`. */
export function contractionContext(view: GroupView, node: Node): ContractionContext {
  const only = view.outputs.length === 1 && view.outputs[0]?.node === node;
  return {
    node,
    target: view.target,
    name: view.name,
    hasEpilogue: !only,
    mayRepeat: view.mayRepeat === true,
    newKernel: (name) => openKernel(view, node, name),
    plainOperand: (operand) => findPlainOperand(view, node, operand),
    isConstant: (operand) => {
      const input = node.inputs[operand];
      return input !== undefined && view.isConstant(input);
    },
    newScratch: (name, dtype, length) => ({ name, dtype, length }),
  };
}

function openKernel(view: GroupView, node: Node, name: string): ContractionKernel {
  const kernel = new KernelBuilder(name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  return {
    builder,
    read: (operand, indices) => emitter.value(node.inputs[operand] as Node, indices),
    buffer: (value) => kernel.buffer(value),
    scratch: (scratch, access) => kernel.scratch(scratch, access),
    privateArray: (array, dtype, length) => kernel.privateArray(array, dtype, length),
    writeElement(indices, value) {
      emitter.give(node, value);
      return emitter.storeOutputs(indices, node.shape);
    },
    writeVector(indicesOf, value) {
      const { lanes, type } = value;
      if (lanes === 1) return this.writeElement(indicesOf(builder.constant(0)), value);
      const lane = builder.variable('lane', 'i32', { min: 0, max: lanes - 1 });
      const element = builder.variable('value', type);
      const scalar = this.writeElement(indicesOf(lane), element);
      const vector = vectorizeStatements(builder, scalar, {
        index: lane,
        base: builder.constant(0),
        lanes,
        given: new Map([[element, value]]),
      });
      if (vector !== undefined) return vector;
      // Types of other widths are mixed in: lane by lane.
      return Array.from({ length: lanes }, (_, i) =>
        this.writeElement(indicesOf(builder.constant(i)), builder.extract(value, i)),
      ).flat();
    },
    finish: (gridIndex, gridSize, body) => kernel.finish(gridIndex, gridSize, body),
  };
}

/** Reads the operand at symbolic indices and looks whether that is one load at a linear position. */
function findPlainOperand(view: GroupView, node: Node, operand: number): PlainOperand | null {
  const input = node.inputs[operand];
  if (input === undefined) throw internalError(`${node.op.name} has no operand ${operand}`);
  let value: Node | undefined;
  const kernel = new KernelBuilder('probe');
  const { builder } = kernel;
  const probe: GroupView = {
    ...view,
    isInMemory: (other) => {
      const stored = view.isInMemory(other);
      if (stored) value = other;
      return stored;
    },
  };
  const { indices } = indexVariables(builder, 'i', input.shape);
  const element = new Emitter(kernel, probe).value(input, indices);
  if (element.kind !== 'load' || value === undefined) return null;
  if (element.buffer !== kernel.buffer(value)) return null;
  const form = linearForm(element.index);
  const strides: number[] = [];
  for (const index of indices) {
    const stride = index.kind === 'variable' ? coefficientOf(element.index, index) : 0;
    if (stride === undefined) return null;
    strides.push(stride);
  }
  for (const atom of form.terms.keys()) if (!indices.includes(atom)) return null;
  return { value, offset: form.constant, strides };
}
