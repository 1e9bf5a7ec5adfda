// Checks that a kernel is well formed: types and lanes agree, every variable is in scope, every
// buffer is declared and used as declared. What fails here is a bug of ours, not of the user.
import { internalError } from '../base/errors.ts';
import {
  isFloatType,
  type BasicUnary,
  type Binary,
  type Buffer,
  type Expression,
  operandsOf,
  type Unary,
  type Variable,
  valueTypeOf,
} from './expression.ts';
import type { Kernel, Statement } from './kernel.ts';
import { printExpression } from './print.ts';
import { rootsOf } from './walk.ts';

export interface VerifyOptions {
  /** Also reject functions that `decompose` should have replaced. */
  readonly decomposed?: boolean;
}

const BASIC_UNARY: Readonly<Record<BasicUnary, true>> = {
  neg: true,
  abs: true,
  sqrt: true,
  floor: true,
  ceil: true,
  trunc: true,
  round: true,
  not: true,
};
const FLOAT_ONLY: ReadonlySet<string> = new Set(['sqrt', 'floor', 'ceil', 'trunc', 'round']);

/** Whether every target has this operation, so that `decompose` leaves it alone. */
export function isBasicUnary(op: Unary['op']): op is BasicUnary {
  return op in BASIC_UNARY;
}

/**
 * Throws an `internal:` error that names the first violation.
 *
 * @throws Error if the kernel is not well formed.
 */
export function verifyKernel(kernel: Kernel, options: VerifyOptions = {}): void {
  new Verifier(kernel, options.decomposed === true).run();
}

class Verifier {
  readonly #kernel: Kernel;
  readonly #decomposed: boolean;
  readonly #buffers = new Set<Buffer>();
  readonly #defined = new Set<Variable>();
  readonly #inScope = new Set<Variable>();
  /** Expressions found valid in a scope that is still open. */
  readonly #valid = new Set<Expression>();

  constructor(kernel: Kernel, decomposed: boolean) {
    this.#kernel = kernel;
    this.#decomposed = decomposed;
  }

  run(): void {
    const { buffers, scratch, gridIndex, gridSize, workgroup } = this.#kernel;
    for (const buffer of buffers) {
      this.#require(buffer.space === 'argument', `argument ${buffer.name} is ${buffer.space}`);
      this.#buffers.add(buffer);
    }
    for (const buffer of scratch) {
      this.#require(buffer.space !== 'argument', `scratch ${buffer.name} is an argument`);
      this.#require(buffer.length !== undefined, `scratch ${buffer.name} has no length`);
      this.#buffers.add(buffer);
    }
    this.#require(
      this.#buffers.size === buffers.length + scratch.length,
      'a buffer is declared twice',
    );
    this.#require(Number.isInteger(gridSize) && gridSize >= 0, `grid size ${gridSize}`);
    this.#define(gridIndex);
    if (workgroup !== undefined) this.#define(workgroup.localIndex);
    this.#block(this.#kernel.body);
  }

  #require(condition: boolean, problem: string): void {
    if (!condition) throw internalError(`kernel ${this.#kernel.name}: ${problem}`);
  }

  #define(variable: Variable): void {
    this.#require(!this.#defined.has(variable), `${variable.name} is declared twice`);
    this.#defined.add(variable);
    this.#inScope.add(variable);
  }

  #block(statements: readonly Statement[], index?: Variable): void {
    const scoped: Variable[] = [];
    const checked: Expression[] = [];
    const declare = (variable: Variable): void => {
      this.#define(variable);
      scoped.push(variable);
    };
    if (index !== undefined) declare(index);
    for (const statement of statements) {
      for (const root of rootsOf(statement)) this.#expression(root, checked);
      this.#statement(statement, declare);
    }
    for (const variable of scoped) this.#inScope.delete(variable);
    for (const expression of checked) this.#valid.delete(expression);
  }

  #statement(statement: Statement, declare: (variable: Variable) => void): void {
    switch (statement.kind) {
      case 'for':
        this.#scalar(statement.start, 'i32', 'a loop start');
        this.#scalar(statement.end, 'i32', 'a loop end');
        this.#require(
          Number.isInteger(statement.step) && statement.step > 0,
          `loop step ${statement.step}`,
        );
        this.#scalar(statement.index, 'i32', 'a loop index');
        this.#block(statement.body, statement.index);
        break;
      case 'if':
        this.#scalar(statement.condition, 'bool', 'a condition');
        this.#block(statement.then);
        this.#block(statement.otherwise);
        break;
      case 'let':
      case 'declare': {
        const { variable, value, kind } = statement;
        this.#require(
          variable.mutable === (kind === 'declare'),
          `${kind} of ${variable.mutable ? 'mutable' : 'immutable'} ${variable.name}`,
        );
        this.#same(variable, value, `${kind} ${variable.name}`);
        declare(variable);
        break;
      }
      case 'assign': {
        const { variable, value } = statement;
        this.#require(this.#inScope.has(variable), `${variable.name} assigned out of scope`);
        this.#require(variable.mutable, `${variable.name} is assigned but not mutable`);
        this.#same(variable, value, `assignment to ${variable.name}`);
        break;
      }
      case 'store': {
        const { buffer, index, value } = statement;
        this.#require(this.#buffers.has(buffer), `buffer ${buffer.name} is not declared`);
        this.#require(buffer.access !== 'read', `store to read-only ${buffer.name}`);
        this.#scalar(index, 'i32', 'a store index');
        const type = valueTypeOf(buffer.dtype);
        this.#require(
          value.type === type,
          `store of ${value.type} to ${buffer.dtype} ${buffer.name}`,
        );
        break;
      }
      case 'multiplyPairs': {
        const { sums, left, right } = statement;
        for (const buffer of [sums, left, right]) {
          this.#require(this.#buffers.has(buffer), `buffer ${buffer.name} is not declared`);
        }
        this.#require(sums.dtype === 'float32', `sums of pairs in ${sums.dtype}`);
        this.#require(sums.access === 'readwrite', `sums of pairs in ${sums.access} ${sums.name}`);
        for (const { dtype, access, name } of [left, right]) {
          this.#require(dtype === 'uint32', `pairs of ${dtype}`);
          this.#require(access !== 'write', `pairs from write-only ${name}`);
        }
        for (const index of rootsOf(statement)) this.#scalar(index, 'i32', 'an index of pairs');
        break;
      }
      case 'prefetch': {
        const { buffer, index } = statement;
        this.#require(this.#buffers.has(buffer), `buffer ${buffer.name} is not declared`);
        this.#scalar(index, 'i32', 'a prefetch index');
        break;
      }
      case 'barrier':
        break;
      default:
        statement satisfies never;
    }
  }

  #scalar(expression: Expression, type: Expression['type'], what: string): void {
    this.#require(
      expression.type === type && expression.lanes === 1,
      `${what} is ${expression.type}x${expression.lanes}, not a scalar ${type}`,
    );
  }

  #same(a: Expression, b: Expression, what: string): void {
    this.#require(
      a.type === b.type && a.lanes === b.lanes,
      `${what}: ${a.type}x${a.lanes} and ${b.type}x${b.lanes}`,
    );
  }

  #expression(expression: Expression, checked: Expression[]): void {
    if (this.#valid.has(expression)) return;
    this.#valid.add(expression);
    checked.push(expression);
    for (const operand of operandsOf(expression)) {
      this.#require(operand.id < expression.id, `${expression.kind} is older than its operand`);
      this.#expression(operand, checked);
    }
    const problem = this.#problem(expression);
    if (problem !== undefined) {
      this.#require(false, `${problem} in ${printExpression(expression).slice(0, 200)}`);
    }
  }

  #problem(e: Expression): string | undefined {
    switch (e.kind) {
      case 'constant':
        return e.lanes >= 1 ? undefined : 'no lanes';
      case 'variable':
        return this.#inScope.has(e) ? undefined : `${e.name} is out of scope`;
      case 'unary':
        return matches(e, e.operand) ? this.#unaryProblem(e) : 'types differ';
      case 'binary':
        return this.#binaryProblem(e);
      case 'select':
        if (e.condition.type !== 'bool' || e.condition.lanes !== e.lanes) return 'not a mask';
        return matches(e, e.whenTrue) && matches(e, e.whenFalse) ? undefined : 'types differ';
      case 'fma':
        if (e.type !== 'f32' && e.type !== 'f64') return 'fma of integers';
        return [e.a, e.b, e.c].every((operand) => matches(e, operand)) ? undefined : 'types differ';
      case 'convert':
        return e.lanes === e.operand.lanes ? undefined : 'lanes differ';
      case 'bitcast': {
        const wrong = [e.type, e.operand.type].some((type) => type === 'f64' || type === 'bool');
        if (wrong) return 'bitcast of something that has not 32 bits';
        return e.lanes === e.operand.lanes ? undefined : 'lanes differ';
      }
      case 'load':
        if (!this.#buffers.has(e.buffer)) return `buffer ${e.buffer.name} is not declared`;
        if (e.buffer.access === 'write') return `load from write-only ${e.buffer.name}`;
        if (e.type !== valueTypeOf(e.buffer.dtype)) return 'type is not the buffer’s';
        return e.index.type === 'i32' && e.index.lanes === 1 ? undefined : 'index is not an i32';
      case 'splat':
        return e.operand.lanes === 1 && e.type === e.operand.type ? undefined : 'not a scalar';
      case 'lanes':
        if (e.operands.length !== e.lanes) return 'wrong number of lanes';
        return e.operands.every(({ type, lanes }) => type === e.type && lanes === 1)
          ? undefined
          : 'lanes are not scalars of the type';
      case 'extract':
        return e.lane < e.operand.lanes && e.type === e.operand.type ? undefined : 'no such lane';
      default:
        e satisfies never;
        return 'unknown expression';
    }
  }

  #unaryProblem({ op, type }: Unary): string | undefined {
    if (!isBasicUnary(op)) {
      if (this.#decomposed) return `${op} was not decomposed`;
      return isFloatType(type) ? undefined : `${op} of ${type}`;
    }
    if (op === 'not') return isFloatType(type) ? 'not of a float' : undefined;
    if (FLOAT_ONLY.has(op)) return isFloatType(type) ? undefined : `${op} of ${type}`;
    return type === 'bool' || (type === 'u32' && op === 'abs') ? `${op} of ${type}` : undefined;
  }

  #binaryProblem(e: Binary): string | undefined {
    const { op, left, right } = e;
    const operand = left.type;
    const float = isFloatType(operand);
    if (!matches(left, right) || left.lanes !== e.lanes) return 'types differ';
    const bad = `${op} of ${operand}`;
    switch (op) {
      case 'eq':
      case 'ne':
        return e.type === 'bool' ? undefined : 'comparison is not bool';
      case 'lt':
      case 'le':
      case 'gt':
      case 'ge':
        if (e.type !== 'bool') return 'comparison is not bool';
        return operand === 'bool' ? bad : undefined;
      case 'and':
      case 'or':
      case 'xor':
        return float ? bad : sameType(e);
      case 'shl':
      case 'shr':
        return float || operand === 'bool' ? bad : sameType(e);
      case 'rem':
        return float || operand === 'bool' ? bad : sameType(e);
      case 'mulHigh':
        return operand === 'u32' ? sameType(e) : bad;
      case 'pow':
      case 'atan2':
      case 'fmod':
        if (this.#decomposed) return `${op} was not decomposed`;
        return float ? sameType(e) : bad;
      case 'add':
      case 'sub':
      case 'mul':
      case 'div':
      case 'min':
      case 'max':
        return operand === 'bool' ? bad : sameType(e);
      default:
        op satisfies never;
        return bad;
    }
  }
}

function matches(a: Expression, b: Expression): boolean {
  return a.type === b.type && a.lanes === b.lanes;
}

function sameType(e: Binary): string | undefined {
  return e.type === e.left.type ? undefined : 'types differ';
}
