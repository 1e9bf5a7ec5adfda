// A handle on one value of a program, for reading; programs do the surgery.
import type { DType } from '../../base/dtype.ts';
import { formatSize, isSizeExpression, type SizeRecord } from '../../base/size-expression.ts';
import type { AttrRecord } from '../../graph/record.ts';
import { formatSized, readableShape } from './sizes.ts';
import type { SizedAttrs, Value } from './value-graph.ts';

/** An attribute as files hold it; numbers that follow declared dimensions are terms, as in `shape`. */
export type NodeAttr = AttrRecord | readonly (number | string)[] | SizedAttrs[string];

/** What handles ask of the program they are of. */
export interface NodeOwner {
  nameOf(value: Value): string;
  handleOf(value: Value): ProgramNode;
  usersOf(value: Value): readonly Value[];
}

export class ProgramNode {
  /** Internal: the number by which later programs know it. */
  readonly id: number;
  readonly #owner: NodeOwner;
  readonly #value: Value;

  constructor(owner: NodeOwner, value: Value) {
    this.id = value.id;
    this.#owner = owner;
    this.#value = value;
  }

  /** The operation (docs/ops.md), or `input`, `weight`, `number` or `random`. */
  get op(): string {
    const { op, source } = this.#value;
    return source?.kind ?? op?.name ?? '';
  }

  /** Its own in the program; that of an input or weight is the program's for it. */
  get name(): string {
    return this.#owner.nameOf(this.#value);
  }

  /** Sizes; those that follow declared dimensions are names or terms: `['batch', '2*time', 8]`. */
  get shape(): readonly (number | string)[] {
    return readableShape(this.#value.shape);
  }

  get dtype(): DType {
    return this.#value.dtype;
  }

  /** Attributes of the operation, as files hold them (docs/format.md). */
  get attrs(): Readonly<Record<string, NodeAttr>> {
    return Object.fromEntries(
      Object.entries(this.#value.attrs).map(([name, value]) => [name, readableAttr(value)]),
    );
  }

  get inputs(): readonly ProgramNode[] {
    return this.#value.inputs.map((input) => this.#owner.handleOf(input));
  }

  /** The nodes that take it, each once. */
  get users(): readonly ProgramNode[] {
    return this.#owner.usersOf(this.#value).map((user) => this.#owner.handleOf(user));
  }

  /** As a line of `print`. */
  toString(): string {
    const { source, inputs } = this.#value;
    const form = `${this.dtype} ${formatSized(this.#value.shape)}`;
    if (source?.kind === 'number') return `${this.name} = ${formatSize(source.value)}: ${form}`;
    if (source !== null) return `${this.name}: ${source.kind} ${form}`;
    const attrs = Object.entries(this.attrs).map(([name, value]) => {
      const isBody = typeof value === 'object' && !Array.isArray(value);
      return `${name}: ${isBody ? '{...}' : JSON.stringify(value)}`;
    });
    const list = [...inputs.map((input) => this.#owner.nameOf(input)), ...attrs].join(', ');
    return `${this.name} = ${this.op}(${list}): ${form}`;
  }

  /** What `console.log(node)` shows in Node. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `ProgramNode(${this.toString()})`;
  }
}

function readableAttr(value: SizedAttrs[string]): NodeAttr {
  if (isSizeExpression(value)) return formatSize(value);
  if (!isList(value)) return value;
  return value.map((item) => (typeof item === 'number' ? item : formatSize(item)));
}

function isList(value: SizedAttrs[string]): value is readonly SizeRecord[] {
  return Array.isArray(value);
}
