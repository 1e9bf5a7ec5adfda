// Structural identity of kernels as numbers: two kernels that differ only in names and ids have
// equal keys. Cheaper than printing them, and compiled programs compare every kernel they make.
import { dtypeIndex } from '../../base/dtype.ts';
import { KeyWriter } from '../../graph/op.ts';
import type { Buffer, Expression, ValueType, Variable } from '../../ir/expression.ts';
import { operandsOf } from '../../ir/expression.ts';
import type { Kernel, Statement } from '../../ir/kernel.ts';
import { rootsOf } from '../../ir/walk.ts';

const TYPES: Readonly<Record<ValueType, number>> = { f32: 0, f64: 1, i32: 2, u32: 3, bool: 4 };
const KINDS: Readonly<Record<Expression['kind'], number>> = {
  constant: 0,
  variable: 1,
  unary: 2,
  binary: 3,
  select: 4,
  fma: 5,
  convert: 6,
  bitcast: 7,
  load: 8,
  splat: 9,
  lanes: 10,
  extract: 11,
};
const STATEMENTS: Readonly<Record<Statement['kind'], number>> = {
  for: 20,
  if: 21,
  let: 22,
  declare: 23,
  assign: 24,
  store: 25,
  barrier: 26,
  multiplyPairs: 27,
  prefetch: 28,
};

const numbers = new Float64Array(1);
const words = new Int32Array(numbers.buffer);

/** Numbers for operation names, given out as they are met. */
const operations = new Map<string, number>();

function operationNumber(name: string): number {
  let number = operations.get(name);
  if (number === undefined) {
    number = operations.size;
    operations.set(name, number);
  }
  return number;
}

/** The words that identify a kernel's structure. */
export function kernelKey(kernel: Kernel): Int32Array {
  const writer = new KernelKeyWriter(kernel);
  return writer.words();
}

class KernelKeyWriter {
  readonly #key = new KeyWriter();
  /** Everything that has a number: buffers, variables, and expressions written before. */
  readonly #known = new Map<Expression | Buffer, number>();

  constructor({ buffers, scratch, gridIndex, gridSize, workgroup, body }: Kernel) {
    for (const list of [buffers, scratch]) {
      this.#key.push(list.length);
      for (const buffer of list) this.#buffer(buffer);
    }
    this.#key.push(gridSize);
    this.#name(gridIndex);
    this.#key.push(workgroup?.size ?? -1);
    if (workgroup !== undefined) this.#name(workgroup.localIndex);
    this.#block(body);
  }

  words(): Int32Array {
    return this.#key.words.slice(0, this.#key.length);
  }

  #buffer(buffer: Buffer): void {
    this.#key.push(dtypeIndex[buffer.dtype]);
    this.#key.push(operationNumber(buffer.space));
    this.#key.push(operationNumber(buffer.access));
    this.#key.push(buffer.length ?? -1);
    this.#known.set(buffer, this.#known.size);
  }

  #name(variable: Variable): void {
    this.#key.push(TYPES[variable.type]);
    this.#key.push(variable.lanes);
    this.#key.push(variable.mutable ? 1 : 0);
    this.#known.set(variable, this.#known.size);
  }

  #block(statements: readonly Statement[]): void {
    this.#key.push(statements.length);
    for (const statement of statements) this.#statement(statement);
  }

  #statement(statement: Statement): void {
    this.#key.push(STATEMENTS[statement.kind]);
    switch (statement.kind) {
      case 'for':
        this.#expression(statement.start);
        this.#expression(statement.end);
        this.#key.push(statement.step);
        this.#key.push(
          (statement.vector === true ? 1 : 0) + (statement.repeatable === true ? 2 : 0),
        );
        this.#name(statement.index);
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
        this.#name(statement.variable);
        break;
      case 'assign':
        this.#key.push(this.#known.get(statement.variable) ?? -1);
        this.#expression(statement.value);
        break;
      case 'store':
        this.#key.push(this.#known.get(statement.buffer) ?? -1);
        this.#expression(statement.index);
        this.#expression(statement.value);
        break;
      case 'multiplyPairs':
        for (const buffer of [statement.sums, statement.left, statement.right]) {
          this.#key.push(this.#known.get(buffer) ?? -1);
        }
        this.#key.push(statement.sumsStride);
        for (const index of rootsOf(statement)) this.#expression(index);
        break;
      case 'prefetch':
        this.#key.push(this.#known.get(statement.buffer) ?? -1);
        this.#expression(statement.index);
        break;
      case 'barrier':
        break;
      default:
        statement satisfies never;
    }
  }

  /** Writes an expression once; where it occurs again, its number. */
  #expression(expression: Expression): void {
    const known = this.#known.get(expression);
    if (known !== undefined) {
      this.#key.push(-2);
      this.#key.push(known);
      return;
    }
    this.#key.push(KINDS[expression.kind]);
    this.#key.push(TYPES[expression.type]);
    this.#key.push(expression.lanes);
    switch (expression.kind) {
      case 'constant':
        numbers[0] = expression.value;
        this.#key.push(words[0] as number);
        this.#key.push(words[1] as number);
        break;
      case 'unary':
      case 'binary':
        this.#key.push(operationNumber(expression.op));
        break;
      case 'load':
        this.#key.push(this.#known.get(expression.buffer) ?? -1);
        break;
      case 'extract':
        this.#key.push(expression.lane);
        break;
      case 'lanes':
        this.#key.push(expression.operands.length);
        break;
      default:
        break;
    }
    for (const operand of operandsOf(expression)) this.#expression(operand);
    this.#known.set(expression, this.#known.size);
  }
}
