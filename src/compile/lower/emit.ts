// Turns a value of the graph, asked for at some indices, into an expression of the kernel: walks
// back through elementwise and indexed ops to what is in memory. Movement becomes index arithmetic.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { type Buffer, type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import type { AlgorithmPolicy } from '../tune/algorithms.ts';
import { flatten, unflatten } from './indexing.ts';
import type { KernelBuilder, Memory } from './kernel-builder.ts';

/** What lowering knows about the group whose kernels it writes. */
export interface GroupView {
  readonly target: Target;
  /** How schedules are chosen; by estimate if nothing is said. */
  readonly algorithms?: AlgorithmPolicy | undefined;
  /** Main ops, or the first elementwise value. */
  readonly anchors: readonly Node[];
  /** Values to be written, and where. */
  readonly outputs: readonly GroupOutput[];
  /** Whether the value is in memory when the group runs. */
  isInMemory(node: Node): boolean;
  /** Whether it follows from parameters and numbers alone: what is made of it is kept (prepared.ts). */
  isConstant(node: Node): boolean;
  /** Whether no result can lie over something that is read. */
  readonly mayRepeat?: boolean;
  /** Name for the group's kernels. */
  readonly name: string;
}

export interface GroupOutput {
  readonly node: Node;
  readonly memory: Memory;
}

/** Emits values into one kernel. Equal requests give the same expression. */
export class Emitter {
  readonly kernel: KernelBuilder;
  readonly #view: GroupView;
  /** Values known at the position being computed: results of main ops. */
  readonly #given = new Map<Node, Expression>();
  readonly #memo = new Map<Node, Map<string, Expression>>();

  constructor(kernel: KernelBuilder, view: GroupView) {
    this.kernel = kernel;
    this.#view = view;
  }

  /** States the value of a main op at the position for which values are emitted from now on. */
  give(node: Node, value: Expression): void {
    this.#given.set(node, value);
    this.#memo.clear();
  }

  /** The value of `node` at `indices` (one per axis, in range). */
  value(node: Node, indices: readonly Expression[]): Expression {
    const given = this.#given.get(node);
    if (given !== undefined) return given;
    // Nothing can be read from a value without elements, though code may mention it.
    if (sizeOf(node.shape) === 0) {
      return this.kernel.builder.constant(0, valueTypeOf(node.dtype));
    }
    if (this.#view.isInMemory(node)) return this.kernel.load(node, indices);
    let memo = this.#memo.get(node);
    if (memo === undefined) {
      memo = new Map();
      this.#memo.set(node, memo);
    }
    const key = indices.map(({ id }) => id).join(',');
    let value = memo.get(key);
    if (value === undefined) {
      value = this.#compute(node, indices);
      memo.set(key, value);
    }
    return value;
  }

  #compute(node: Node, indices: readonly Expression[]): Expression {
    const { lower } = node.op;
    const { builder } = this.kernel;
    if (lower.kind === 'elementwise') {
      const inputs = node.inputs.map((input) => this.value(input, this.#broadcast(input, indices)));
      return lower.emit(builder, inputs, node.attrs, node);
    }
    if (lower.kind === 'indexed') {
      const context = {
        builder,
        target: this.#view.target,
        read: (input: number, at: readonly Expression[]) =>
          this.value(node.inputs[input] as Node, at),
      };
      return lower.emit(context, indices, node.attrs, node);
    }
    throw internalError(`${node.op.name} is needed inside the kernel ${this.kernel.name}`);
  }

  /** Indices into a smaller operand: axes are aligned at the last one, sizes 1 are repeated. */
  #broadcast(input: Node, indices: readonly Expression[]): readonly Expression[] {
    const { shape } = input;
    const shift = indices.length - shape.length;
    const zero = this.kernel.builder.constant(0);
    return shape.map((size, axis) => (size === 1 ? zero : (indices[axis + shift] as Expression)));
  }

  /**
   * Statements that store the element at row-major position `indices` (of `shape`) of every output.
   * All values are computed before the first is stored: results may share memory with operands.
   *
   * @param elsewhere where an output goes that has no memory of its own.
   */
  storeOutputs(
    indices: readonly Expression[],
    shape: readonly number[],
    elsewhere?: (node: Node) => { readonly buffer: Buffer; readonly index: Expression } | undefined,
  ): Statement[] {
    const stores = this.outputValues(indices, shape);
    const { builder } = this.kernel;
    const values: Statement[] = [];
    const writes: Statement[] = [];
    for (const { memory, node, index: position, value } of stores) {
      const place = elsewhere?.(node);
      const { buffer, index } = place ?? {
        buffer: this.kernel.output(memory, node),
        index: position,
      };
      if (stores.length === 1) {
        writes.push({ kind: 'store', buffer, index, value });
      } else {
        const variable = builder.variable(node.op.name, value.type);
        values.push({ kind: 'let', variable, value });
        writes.push({ kind: 'store', buffer, index, value: variable });
      }
    }
    return [...values, ...writes];
  }

  /** The value and position of every output's element at `indices` of `shape`. */
  outputValues(
    indices: readonly Expression[],
    shape: readonly number[],
  ): (GroupOutput & { readonly index: Expression; readonly value: Expression })[] {
    const { builder } = this.kernel;
    const position = flatten(builder, indices, shape);
    return this.#view.outputs.map((output) => {
      const { node } = output;
      if (sizeOf(node.shape) !== sizeOf(shape)) {
        throw internalError(`${node.op.name} does not fit the kernel ${this.kernel.name}`);
      }
      const same =
        node.shape.length === shape.length &&
        node.shape.every((size, axis) => size === shape[axis]);
      const at = same ? indices : unflatten(builder, position, node.shape);
      return { ...output, index: position, value: this.value(node, at) };
    });
  }
}
