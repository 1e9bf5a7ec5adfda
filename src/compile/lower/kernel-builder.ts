// A kernel under construction: its expressions, its arguments and where their memory comes from.
import type { DType } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Kernel, Statement } from '../../ir/kernel.ts';
import { forEachExpression, forEachStatement, writtenBy } from '../../ir/walk.ts';
import type { Stride } from '../../runtime/plan.ts';
import { flatten } from './indexing.ts';

/** Memory that the kernels of one group share: the memory plan gives it a place in the arena. */
export interface Scratch {
  readonly name: string;
  readonly dtype: DType;
  /** In elements. */
  readonly length: number;
}

/** A place for the whole run. */
export type Place =
  /** The memory of a value: a leaf's or root's binding, a scalar slot, or the arena. */
  | { readonly kind: 'value'; readonly node: Node }
  /** A binding that is not (yet) where the value is looked for. */
  | { readonly kind: 'binding'; readonly index: number }
  | { readonly kind: 'scratch'; readonly scratch: Scratch };

/** Where an argument's bytes come from; the memory plan turns it into a Location. */
export type Memory =
  | Place
  /** A part of a place, another one in each iteration of the loops around. `offset` in bytes. */
  | {
      readonly kind: 'moving';
      readonly of: Place;
      readonly offset: number;
      readonly strides: readonly Stride[];
    };

/** A finished kernel and what its arguments are bound to. */
export interface Stage {
  readonly kernel: Kernel;
  readonly memory: readonly Memory[];
}

/** Makes one kernel. Buffers are declared as they are asked for. */
export class KernelBuilder {
  readonly builder: Builder = new Builder();
  readonly name: string;
  readonly #buffers: Buffer[] = [];
  readonly #memory: Memory[] = [];
  readonly #values = new Map<Node, Buffer>();
  readonly #outputs = new Map<Memory, Buffer>();
  readonly #scratch = new Map<Scratch, Buffer>();
  readonly #private: Buffer[] = [];

  constructor(name: string) {
    this.name = name;
  }

  #declare(name: string, dtype: DType, access: Buffer['access'], memory: Memory): Buffer {
    const buffer = this.builder.buffer(name, dtype, access);
    this.#buffers.push(buffer);
    this.#memory.push(memory);
    return buffer;
  }

  /** The buffer of a stored value, to be read. */
  buffer(node: Node): Buffer {
    let buffer = this.#values.get(node);
    if (buffer === undefined) {
      const name = `${node.op.name}${this.#buffers.length}`;
      buffer = this.#declare(name, node.dtype, 'read', { kind: 'value', node });
      this.#values.set(node, buffer);
    }
    return buffer;
  }

  /** An element of a stored value. */
  load(node: Node, indices: readonly Expression[]): Expression {
    return this.builder.load(this.buffer(node), flatten(this.builder, indices, node.shape));
  }

  /** The buffer of a result; one that is `readable` is loaded like a stored value afterwards. */
  output(memory: Memory, node: Node, readable = false): Buffer {
    let buffer = this.#outputs.get(memory);
    if (buffer === undefined) {
      const name = `${node.op.name}_out${this.#buffers.length}`;
      buffer = this.#declare(name, node.dtype, readable ? 'readwrite' : 'write', memory);
      this.#outputs.set(memory, buffer);
      if (readable) this.#values.set(node, buffer);
    }
    return buffer;
  }

  /** The buffer of memory that several kernels of a group share. */
  scratch(scratch: Scratch, access: 'read' | 'write' | 'readwrite'): Buffer {
    let buffer = this.#scratch.get(scratch);
    if (buffer === undefined) {
      buffer = this.#declare(scratch.name, scratch.dtype, access, { kind: 'scratch', scratch });
      this.#scratch.set(scratch, buffer);
    }
    return buffer;
  }

  /** An array of its own for each grid item. */
  privateArray(name: string, dtype: DType, length: number): Buffer {
    const buffer = this.builder.buffer(name, dtype, 'readwrite', { space: 'private', length });
    this.#private.push(buffer);
    return buffer;
  }

  /** The finished kernel; arguments that nothing touches are left out. */
  finish(gridIndex: Variable, gridSize: number, body: readonly Statement[]): Stage {
    const used = new Set<Buffer>();
    forEachStatement(body, (statement) => {
      const written = writtenBy(statement);
      if (written !== null) used.add(written);
      if (statement.kind === 'multiplyPairs') used.add(statement.left).add(statement.right);
    });
    forEachExpression(body, (expression) => {
      if (expression.kind === 'load') used.add(expression.buffer);
    });
    const buffers: Buffer[] = [];
    const memory: Memory[] = [];
    this.#buffers.forEach((buffer, index) => {
      if (!used.has(buffer)) return;
      buffers.push(buffer);
      memory.push(this.#memory[index] as Memory);
    });
    const scratch = this.#private.filter((buffer) => used.has(buffer));
    const kernel = { name: this.name, buffers, scratch, gridIndex, gridSize, body };
    return { kernel, memory };
  }
}
