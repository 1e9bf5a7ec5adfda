// Where a kernel's loads and stores get their addresses from. Every index is split by loop level:
// a pointer is advanced by each loop it follows, and constants become immediate offsets.
import { byteSize } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import { operandsOf } from '../../ir/expression.ts';
import type { For, Statement } from '../../ir/kernel.ts';
import { linearForm } from '../../ir/linear.ts';

/**
 * Bytes at the start of memory that hold no buffer. A base minus so much is still an unsigned
 * address, so immediate offsets up to this are safe whatever the rest of the index is.
 */
export const LOW_BYTES = 65536;

/** An atom of an index and how many bytes one unit of it moves the address. */
interface Term {
  readonly atom: Expression;
  readonly bytes: number;
  /** Number of the definition after which the atom has a value; infinite if that may change. */
  readonly order: number;
}

/** An address that is kept in a local from the definition of its last atom on. */
export interface Pointer {
  readonly key: string;
  readonly buffer: Buffer;
  /** Number of the definition after which it can be computed. */
  readonly order: number;
  /** The pointer without this one's own terms; null for the buffer's start. */
  readonly parent: Pointer | null;
  readonly own: readonly Term[];
  /** Set if a loop can advance it: bytes per iteration, and the pointer it starts from. */
  readonly induction: {
    readonly step: number;
    readonly start: Pointer;
    readonly startBytes: number;
  } | null;
  /** Bytes added so that negative offsets of its users become immediates. */
  bias: number;
}

/** The address of one access: pointer + volatile terms + constant bytes. */
export interface Address {
  readonly pointer: Pointer;
  /** Terms of mutable variables and loads, which must be evaluated at the access. */
  readonly volatile: readonly Term[];
  readonly bytes: number;
  /** Whether the terms without the constant are known to be non-negative. */
  readonly nonNegative: boolean;
}

interface Definition {
  readonly order: number;
  /** Value of an immutable integer `let`. */
  readonly value: Expression | null;
  readonly loop: For | null;
  readonly mutable: boolean;
}

interface Form {
  readonly terms: Map<Expression, number>;
  constant: number;
}

const VOLATILE = Infinity;

/**
 * Numbers definitions in program order and resolves indices. The analysis and the emission each
 * walk the kernel with a scope of their own and so see the same numbers.
 */
export class Scope {
  readonly #definitions = new Map<Variable, Definition>();
  readonly #addresses = new Map<Buffer, Map<Expression, Address>>();
  #order = 0;

  #define(variable: Variable, definition: Omit<Definition, 'order'>): number {
    const order = ++this.#order;
    // Two loops may share an index: what was resolved in the first does not hold in the second.
    if (this.#definitions.has(variable)) this.#addresses.clear();
    this.#definitions.set(variable, { order, ...definition });
    return order;
  }

  /** A parameter or another name whose value is there from here on. */
  defineValue(variable: Variable): number {
    return this.#define(variable, { value: null, loop: null, mutable: false });
  }

  defineLet(variable: Variable, value: Expression): number {
    const integer = variable.type === 'i32' && variable.lanes === 1;
    return this.#define(variable, { value: integer ? value : null, loop: null, mutable: false });
  }

  defineMutable(variable: Variable): number {
    return this.#define(variable, { value: null, loop: null, mutable: true });
  }

  defineLoop(loop: For): number {
    return this.#define(loop.index, { value: null, loop, mutable: false });
  }

  #definition(variable: Variable): Definition {
    const definition = this.#definitions.get(variable);
    if (definition === undefined) {
      throw internalError(`kernel variable ${variable.name} is used before it is defined`);
    }
    return definition;
  }

  valueOf(variable: Variable): Expression | null {
    return this.#definitions.get(variable)?.value ?? null;
  }

  /** After which definition a scalar integer can be computed; infinite if not once and for all. */
  #orderOf(expression: Expression): number {
    if (expression.kind === 'variable') {
      const definition = this.#definition(expression);
      return definition.mutable ? VOLATILE : definition.order;
    }
    if (expression.kind === 'load') return VOLATILE;
    let order = 0;
    for (const operand of operandsOf(expression)) order = Math.max(order, this.#orderOf(operand));
    return order;
  }

  /** The linear form of an index with integer lets replaced by what they stand for. */
  #expand(index: Expression): Form {
    const form: Form = { terms: new Map(), constant: 0 };
    this.#accumulate(index, 1, form);
    for (const [atom, coefficient] of form.terms) if (coefficient === 0) form.terms.delete(atom);
    return form;
  }

  #accumulate(index: Expression, scale: number, form: Form): void {
    const { terms, constant } = linearForm(index);
    form.constant += constant * scale;
    for (const [atom, coefficient] of terms) {
      const value = atom.kind === 'variable' ? this.#expandable(atom) : null;
      if (value !== null) this.#accumulate(value, coefficient * scale, form);
      else form.terms.set(atom, (form.terms.get(atom) ?? 0) + coefficient * scale);
    }
  }

  /** A let's value, if replacing the let by it splits the index further. */
  #expandable(variable: Variable): Expression | null {
    const value = this.valueOf(variable);
    if (value === null || this.#orderOf(value) === VOLATILE) return null;
    const { terms, constant } = linearForm(value);
    const opaque = terms.size === 1 && constant === 0 && terms.get(value) === 1;
    return opaque && value.kind !== 'variable' ? null : value;
  }

  /** Resolves an access; `pointers` collects the pointers it needs. */
  resolve(buffer: Buffer, index: Expression, pointers: PointerTable): Address {
    let known = this.#addresses.get(buffer);
    if (known === undefined) this.#addresses.set(buffer, (known = new Map()));
    let address = known.get(index);
    if (address === undefined) known.set(index, (address = this.#address(buffer, index, pointers)));
    return address;
  }

  #address(buffer: Buffer, index: Expression, pointers: PointerTable): Address {
    const size = byteSize(buffer.dtype);
    const form = this.#expand(index);
    const stable: Term[] = [];
    const changing: Term[] = [];
    let minimum = 0;
    for (const [atom, coefficient] of form.terms) {
      minimum += coefficient * (coefficient > 0 ? atom.min : atom.max);
      const order = this.#orderOf(atom);
      (order === VOLATILE ? changing : stable).push({ atom, bytes: coefficient * size, order });
    }
    return {
      pointer: this.#pointer(buffer, stable, pointers),
      volatile: changing,
      bytes: form.constant * size,
      nonNegative: minimum >= 0,
    };
  }

  #pointer(buffer: Buffer, terms: readonly Term[], pointers: PointerTable): Pointer {
    let order = 0;
    for (const term of terms) order = Math.max(order, term.order);
    const sorted = terms.length < 2 ? terms : [...terms].sort((a, b) => a.atom.id - b.atom.id);
    let key = `${buffer.id}@${order}`;
    for (const { atom, bytes } of sorted) key += `+${atom.id}*${bytes}`;
    const known = pointers.get(key);
    if (known !== undefined) return known;
    const own = terms.filter((term) => term.order === order);
    const rest = terms.filter((term) => term.order !== order);
    const parent = terms.length === 0 ? null : this.#pointer(buffer, rest, pointers);
    const induction = this.#induction(buffer, rest, own, pointers);
    const pointer: Pointer = { key, buffer, order, parent, own, induction, bias: 0 };
    pointers.add(pointer);
    return pointer;
  }

  #induction(
    buffer: Buffer,
    rest: readonly Term[],
    own: readonly Term[],
    pointers: PointerTable,
  ): Pointer['induction'] {
    const [only] = own;
    if (own.length !== 1 || only?.atom.kind !== 'variable') return null;
    const { loop } = this.#definition(only.atom);
    if (loop === null) return null;
    const start = this.#expand(loop.start);
    const terms = [...rest];
    for (const [atom, coefficient] of start.terms) {
      const order = this.#orderOf(atom);
      if (order === VOLATILE) return null;
      const position = terms.findIndex((term) => term.atom === atom);
      const bytes = coefficient * only.bytes + (terms[position]?.bytes ?? 0);
      if (position >= 0) terms.splice(position, 1);
      if (bytes !== 0) terms.push({ atom, bytes, order });
    }
    return {
      step: only.bytes * loop.step,
      start: this.#pointer(buffer, terms, pointers),
      startBytes: start.constant * only.bytes,
    };
  }
}

/** The pointers of a kernel, by where they are computed. */
export class PointerTable {
  readonly #byKey = new Map<string, Pointer>();
  readonly #byOrder = new Map<number, Pointer[]>();

  get(key: string): Pointer | undefined {
    return this.#byKey.get(key);
  }

  add(pointer: Pointer): void {
    this.#byKey.set(pointer.key, pointer);
    if (pointer.parent === null) return;
    const list = this.#byOrder.get(pointer.order);
    if (list === undefined) this.#byOrder.set(pointer.order, [pointer]);
    else list.push(pointer);
  }

  /** The pointers that can be computed from definition `order` on, and not before. */
  at(order: number): readonly Pointer[] {
    return this.#byOrder.get(order) ?? [];
  }
}

/** What the emission needs to know beforehand: pointers, and which lets are read as values. */
export interface AddressPlan {
  readonly pointers: PointerTable;
  readonly needed: ReadonlySet<Variable>;
}

/** Finds the pointers and the needed lets of a kernel. `grid` is its outermost loop. */
export function planAddresses(grid: For, parameters: readonly Variable[]): AddressPlan {
  const analysis = new Analysis();
  for (const parameter of parameters) analysis.scope.defineValue(parameter);
  analysis.statement(grid);
  return analysis;
}

class Analysis implements AddressPlan {
  readonly scope = new Scope();
  readonly pointers = new PointerTable();
  readonly needed = new Set<Variable>();
  readonly #visited = new Set<Pointer>();

  statement(statement: Statement): void {
    switch (statement.kind) {
      case 'for':
        this.#value(statement.start);
        this.#value(statement.end);
        this.scope.defineLoop(statement);
        for (const inner of statement.body) this.statement(inner);
        break;
      case 'if':
        this.#value(statement.condition);
        for (const inner of statement.then) this.statement(inner);
        for (const inner of statement.otherwise) this.statement(inner);
        break;
      case 'let':
        // Its value is looked at when something reads it.
        this.scope.defineLet(statement.variable, statement.value);
        if (this.scope.valueOf(statement.variable) === null) this.#value(statement.value);
        break;
      case 'declare':
        this.#value(statement.value);
        this.scope.defineMutable(statement.variable);
        break;
      case 'assign':
        this.#value(statement.value);
        break;
      case 'store':
        this.#access(statement.buffer, statement.index);
        this.#value(statement.value);
        break;
      case 'multiplyPairs':
      case 'prefetch':
      case 'barrier':
        break;
      default:
        statement satisfies never;
    }
  }

  #value(expression: Expression): void {
    if (expression.kind === 'variable') {
      if (this.needed.has(expression)) return;
      this.needed.add(expression);
      const value = this.scope.valueOf(expression);
      if (value !== null) this.#value(value);
      return;
    }
    if (expression.kind === 'load') {
      this.#access(expression.buffer, expression.index);
      return;
    }
    for (const operand of operandsOf(expression)) this.#value(operand);
  }

  #access(buffer: Buffer, index: Expression): void {
    const { pointer, volatile, bytes } = this.scope.resolve(buffer, index, this.pointers);
    if (pointer.parent !== null && bytes < pointer.bias && bytes >= -LOW_BYTES) {
      pointer.bias = bytes;
    }
    for (const { atom } of volatile) this.#value(atom);
    this.#pointer(pointer);
  }

  #pointer(pointer: Pointer): void {
    if (this.#visited.has(pointer)) return;
    this.#visited.add(pointer);
    if (pointer.parent !== null) this.#pointer(pointer.parent);
    if (pointer.induction !== null) this.#pointer(pointer.induction.start);
    else for (const { atom } of pointer.own) this.#value(atom);
  }
}
