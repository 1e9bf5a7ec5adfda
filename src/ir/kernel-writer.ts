// Kernels as bytes, for files: prepared kernels (`prepareKernel`) for machines without workgroups.
import { dtypeIndex } from '../base/dtype.ts';
import { internalError } from '../base/errors.ts';
import {
  isFloatType,
  type Buffer,
  type Expression,
  operandsOf,
  type Variable,
} from './expression.ts';
import type { Kernel, Statement } from './kernel.ts';
import {
  ACCESSES,
  BINARY,
  EXPRESSIONS,
  HAS_MAX,
  HAS_MIN,
  REPEATABLE,
  SPACES,
  STATEMENTS,
  TYPES,
  UNARY,
  VECTOR,
} from './kernel-format.ts';

/**
 * The bytes of kernels.
 *
 * @throws Error `internal:` for what no portable program holds: workgroups, products of pairs,
 * prefetches.
 */
export function writeKernels(kernels: readonly Kernel[]): Uint8Array<ArrayBuffer> {
  const bytes = new ByteWriter();
  bytes.whole(kernels.length);
  for (const kernel of kernels) new KernelWriter(bytes).kernel(kernel);
  return bytes.taken();
}

class ByteWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  taken(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }

  #reserve(more: number): number {
    const at = this.#length;
    this.#length += more;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  byte(value: number): void {
    // The place first: making it may replace the array.
    const at = this.#reserve(1);
    this.#bytes[at] = value;
  }

  /** A whole number from 0, seven bits a byte, the lowest first. */
  whole(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw internalError(`${value} in a file`);
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.byte((rest % 128) + 128);
    this.byte(rest);
  }

  /** A whole number of any sign: 0, -1, 1, -2, ... */
  signed(value: number): void {
    this.whole(value < 0 ? -2 * value - 1 : 2 * value);
  }

  float(value: number, wide: boolean): void {
    const at = this.#reserve(wide ? 8 : 4);
    if (wide) this.#view.setFloat64(at, value, true);
    else this.#view.setFloat32(at, value, true);
  }

  text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    this.whole(encoded.length);
    const at = this.#reserve(encoded.length);
    this.#bytes.set(encoded, at);
  }

  /** The place of a word in a list of the format. */
  word(list: readonly string[], value: string): void {
    const index = list.indexOf(value);
    if (index < 0) throw internalError(`'${value}' has no place in files`);
    this.byte(index);
  }
}

class KernelWriter {
  readonly #to: ByteWriter;
  /** Numbers of everything that was written: buffers, variables and expressions. */
  readonly #known = new Map<Expression | Buffer, number>();

  constructor(to: ByteWriter) {
    this.#to = to;
  }

  kernel({ name, buffers, scratch, gridIndex, gridSize, workgroup, body }: Kernel): void {
    if (workgroup !== undefined) throw internalError(`${name} has a workgroup`);
    const to = this.#to;
    to.text(name);
    for (const list of [buffers, scratch]) {
      to.whole(list.length);
      for (const buffer of list) this.#buffer(buffer);
    }
    to.whole(gridSize);
    this.#variable(gridIndex);
    this.#block(body);
  }

  #buffer(buffer: Buffer): void {
    const to = this.#to;
    to.text(buffer.name);
    to.byte(dtypeIndex[buffer.dtype]);
    to.word(SPACES, buffer.space);
    to.word(ACCESSES, buffer.access);
    to.whole(buffer.length === undefined ? 0 : buffer.length + 1);
    this.#known.set(buffer, this.#known.size);
  }

  #variable(variable: Variable): void {
    const to = this.#to;
    to.text(variable.name);
    to.word(TYPES, variable.type);
    to.byte(variable.lanes);
    to.byte(variable.mutable ? 1 : 0);
    this.#bounds(variable);
    this.#known.set(variable, this.#known.size);
  }

  #bounds({ min, max }: Expression): void {
    const [hasMin, hasMax] = [Number.isFinite(min), Number.isFinite(max)];
    this.#to.byte((hasMin ? HAS_MIN : 0) + (hasMax ? HAS_MAX : 0));
    if (hasMin) this.#to.signed(min);
    if (hasMax) this.#to.signed(max);
  }

  #block(statements: readonly Statement[]): void {
    this.#to.whole(statements.length);
    for (const statement of statements) this.#statement(statement);
  }

  #statement(statement: Statement): void {
    const to = this.#to;
    to.word(STATEMENTS, statement.kind);
    switch (statement.kind) {
      case 'for':
        this.#expression(statement.start);
        this.#expression(statement.end);
        to.whole(statement.step);
        to.byte(
          (statement.vector === true ? VECTOR : 0) +
            (statement.repeatable === true ? REPEATABLE : 0),
        );
        this.#variable(statement.index);
        this.#block(statement.body);
        break;
      case 'if':
        this.#expression(statement.condition);
        this.#block(statement.then);
        this.#block(statement.otherwise);
        break;
      case 'let':
      case 'declare':
        this.#expression(statement.value);
        this.#variable(statement.variable);
        break;
      case 'assign':
        this.#reference(statement.variable);
        this.#expression(statement.value);
        break;
      case 'store':
        this.#reference(statement.buffer);
        this.#expression(statement.index);
        this.#expression(statement.value);
        break;
      case 'barrier':
      case 'multiplyPairs':
      case 'prefetch':
        break;
      default:
        statement satisfies never;
    }
  }

  #reference(known: Expression | Buffer): void {
    const number = this.#known.get(known);
    if (number === undefined) throw internalError('a kernel uses what it does not declare');
    this.#to.whole(number);
  }

  /** Written once; where it occurs again, its number. */
  #expression(expression: Expression): void {
    const to = this.#to;
    if (this.#known.has(expression) || expression.kind === 'variable') {
      to.word(EXPRESSIONS, 'again');
      this.#reference(expression);
      return;
    }
    to.word(EXPRESSIONS, expression.kind);
    to.word(TYPES, expression.type);
    to.byte(expression.lanes);
    this.#own(expression);
    for (const operand of operandsOf(expression)) this.#expression(operand);
    if (expression.type === 'i32' && expression.lanes === 1 && expression.kind !== 'constant') {
      this.#bounds(expression);
    }
    this.#known.set(expression, this.#known.size);
  }

  /** What it has beside operands. */
  #own(expression: Exclude<Expression, Variable>): void {
    const to = this.#to;
    switch (expression.kind) {
      case 'constant':
        if (isFloatType(expression.type)) {
          to.float(expression.value, expression.type === 'f64');
        } else to.signed(expression.value);
        break;
      case 'unary':
        to.word(UNARY, expression.op);
        break;
      case 'binary':
        to.word(BINARY, expression.op);
        break;
      case 'load':
        this.#reference(expression.buffer);
        break;
      case 'lanes':
        to.whole(expression.operands.length);
        break;
      case 'extract':
        to.byte(expression.lane);
        break;
      case 'select':
      case 'fma':
      case 'convert':
      case 'bitcast':
      case 'splat':
        break;
      default:
        expression satisfies never;
    }
  }
}
