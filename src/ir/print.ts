// Readable text of kernels. With the default numbering it is canonical: two kernels that differ
// only in names and ids print equally, so the text serves as structural identity.
import { internalError } from '../base/errors.ts';
import {
  type BinaryOp,
  type Buffer,
  type Expression,
  operandsOf,
  type Variable,
} from './expression.ts';
import type { Kernel, Statement } from './kernel.ts';
import { forEachExpression, forEachStatement, rootsOf } from './walk.ts';

export interface PrintOptions {
  /** Use the names that the maker of the kernel gave; the text is then no longer canonical. */
  readonly names?: boolean;
}

const INFIX: Partial<Record<BinaryOp, string>> = {
  add: '+',
  sub: '-',
  mul: '*',
  div: '/',
  rem: '%',
  and: '&',
  or: '|',
  xor: '^',
  shl: '<<',
  shr: '>>',
  eq: '==',
  ne: '!=',
  lt: '<',
  le: '<=',
  gt: '>',
  ge: '>=',
};

/** Shared expressions of at least this many nodes are printed once and referred to as `%n`. */
const SHARED_SIZE = 6;

/** The kernel as text, one statement a line. */
export function printKernel(kernel: Kernel, options: PrintOptions = {}): string {
  return new Printer(kernel, options.names === true).print();
}

/** One expression as text, with the names it was built with. Shared parts are repeated. */
export function printExpression(expression: Expression): string {
  const names = new Map<Variable | Buffer, string>();
  return new ExpressionText((named) => names.get(named) ?? named.name, new Map()).text(expression);
}

class ExpressionText {
  readonly #nameOf: (named: Variable | Buffer) => string;
  readonly #shared: ReadonlyMap<Expression, string>;

  constructor(
    nameOf: (named: Variable | Buffer) => string,
    shared: ReadonlyMap<Expression, string>,
  ) {
    this.#nameOf = nameOf;
    this.#shared = shared;
  }

  /** The text of an expression, or its number where it has one. */
  text(expression: Expression): string {
    return this.#shared.get(expression) ?? this.definition(expression);
  }

  /** The text of an expression, spelled out at its top. */
  definition(expression: Expression): string {
    const call = (name: string, ...operands: readonly Expression[]): string =>
      `${name}(${operands.map((operand) => this.text(operand)).join(', ')})`;
    switch (expression.kind) {
      case 'constant':
        return constantText(expression.value, expression.type, expression.lanes);
      case 'variable':
        return this.#nameOf(expression);
      case 'unary':
        return call(expression.op, expression.operand);
      case 'binary': {
        const infix = INFIX[expression.op];
        if (infix === undefined) return call(expression.op, expression.left, expression.right);
        return `${this.#inner(expression.left)} ${infix} ${this.#inner(expression.right)}`;
      }
      case 'select':
        return call('select', expression.condition, expression.whenTrue, expression.whenFalse);
      case 'fma':
        return call('fma', expression.a, expression.b, expression.c);
      case 'convert':
        return call(expression.type, expression.operand);
      case 'bitcast':
        return call(`bits.${expression.type}`, expression.operand);
      case 'load': {
        const width = expression.lanes === 1 ? '' : ` : ${expression.lanes}`;
        return `${this.#nameOf(expression.buffer)}[${this.text(expression.index)}${width}]`;
      }
      case 'splat':
        return call(`splat${expression.lanes}`, expression.operand);
      case 'lanes':
        return `{${expression.operands.map((operand) => this.text(operand)).join(', ')}}`;
      case 'extract':
        return `${this.#inner(expression.operand)}.${expression.lane}`;
      default:
        expression satisfies never;
        throw internalError('unknown expression');
    }
  }

  #inner(expression: Expression): string {
    const text = this.text(expression);
    const infix = expression.kind === 'binary' && INFIX[expression.op] !== undefined;
    return infix && !this.#shared.has(expression) ? `(${text})` : text;
  }
}

function constantText(value: number, type: Expression['type'], lanes: number): string {
  const width = lanes === 1 ? '' : `x${lanes}`;
  if (type === 'bool') return `${value === 0 ? 'false' : 'true'}${width}`;
  const digits = Object.is(value, -0) ? '-0' : String(value);
  const suffix = { f32: 'f', f64: 'd', i32: '', u32: 'u' }[type];
  return `${digits}${suffix}${width}`;
}

class Printer {
  readonly #kernel: Kernel;
  readonly #names = new Map<Variable | Buffer, string>();
  readonly #useNames: boolean;
  readonly #worthNaming: ReadonlySet<Expression>;
  readonly #shared = new Map<Expression, string>();
  readonly #expressions: ExpressionText;
  readonly #lines: string[] = [];
  #variables = 0;

  constructor(kernel: Kernel, useNames: boolean) {
    this.#kernel = kernel;
    this.#useNames = useNames;
    this.#worthNaming = sharedExpressions(kernel);
    this.#expressions = new ExpressionText((named) => this.#nameOf(named), this.#shared);
    kernel.buffers.forEach((buffer, index) => this.#name(buffer, `b${index}`));
    kernel.scratch.forEach((buffer, index) => this.#name(buffer, `s${index}`));
  }

  print(): string {
    const { buffers, scratch, gridIndex, gridSize, workgroup, name } = this.#kernel;
    const list = buffers.map(
      (buffer) => `${this.#nameOf(buffer)}: ${buffer.dtype} ${buffer.access}`,
    );
    this.#lines.push(`${this.#useNames ? name : 'kernel'}(${list.join(', ')})`);
    for (const { dtype, space, length, ...buffer } of scratch) {
      const own = this.#useNames ? buffer.name : `s${scratch.findIndex((s) => s.id === buffer.id)}`;
      this.#lines.push(`  ${space} ${own}: ${dtype}[${length ?? '?'}]`);
    }
    const group =
      workgroup === undefined
        ? ''
        : `, invocation ${this.#variable(workgroup.localIndex)} < ${workgroup.size}`;
    this.#lines.push(`  grid ${this.#variable(gridIndex)} < ${gridSize}${group}`);
    this.#block(this.#kernel.body, '  ');
    return this.#lines.join('\n');
  }

  #name(named: Variable | Buffer, numbered: string): void {
    this.#names.set(named, this.#useNames ? named.name : numbered);
  }

  /** A name for a variable where it is declared. Given names are made unique by their id. */
  #variable(variable: Variable): string {
    const text = this.#useNames ? `${variable.name}.${variable.id}` : `v${this.#variables++}`;
    this.#names.set(variable, text);
    return text;
  }

  #nameOf(named: Variable | Buffer): string {
    return this.#names.get(named) ?? `?${named.name}`;
  }

  /** Prints, once, the shared expressions that a statement needs. */
  #define(expression: Expression, indent: string): void {
    if (this.#shared.has(expression)) return;
    for (const operand of operandsOf(expression)) this.#define(operand, indent);
    if (!this.#worthNaming.has(expression)) return;
    const text = this.#expressions.definition(expression);
    const name = `%${this.#shared.size}`;
    this.#shared.set(expression, name);
    this.#lines.push(`${indent}${name} = ${text}`);
  }

  #block(statements: readonly Statement[], indent: string): void {
    for (const statement of statements) {
      for (const root of rootsOf(statement)) this.#define(root, indent);
      this.#statement(statement, indent);
    }
  }

  #statement(statement: Statement, indent: string): void {
    const text = (expression: Expression): string => this.#expressions.text(expression);
    const put = (line: string): void => {
      this.#lines.push(indent + line);
    };
    const deeper = `${indent}  `;
    switch (statement.kind) {
      case 'for': {
        const range = `${text(statement.start)} .. ${text(statement.end)}`;
        const step = statement.step === 1 ? '' : ` step ${statement.step}`;
        const vector =
          (statement.vector === true ? ' vector' : '') +
          (statement.repeatable === true ? ' repeatable' : '');
        put(`for ${this.#variable(statement.index)} = ${range}${step}${vector}`);
        this.#block(statement.body, deeper);
        break;
      }
      case 'if':
        put(`if ${text(statement.condition)}`);
        this.#block(statement.then, deeper);
        if (statement.otherwise.length > 0) {
          put('else');
          this.#block(statement.otherwise, deeper);
        }
        break;
      case 'let':
      case 'declare': {
        const value = text(statement.value);
        const keyword = statement.kind === 'let' ? 'let' : 'var';
        const { type, lanes } = statement.variable;
        const typed = lanes === 1 ? type : `${type}x${lanes}`;
        put(`${keyword} ${this.#variable(statement.variable)}: ${typed} = ${value}`);
        break;
      }
      case 'assign':
        put(`${this.#nameOf(statement.variable)} = ${text(statement.value)}`);
        break;
      case 'store': {
        const { buffer, index, value } = statement;
        const width = value.lanes === 1 ? '' : ` : ${value.lanes}`;
        put(`${this.#nameOf(buffer)}[${text(index)}${width}] = ${text(value)}`);
        break;
      }
      case 'multiplyPairs': {
        const { sums, sumsIndex, sumsStride, left, leftIndex, right, rightIndex } = statement;
        put(
          `${this.#nameOf(sums)}[${text(sumsIndex)} stride ${sumsStride}] += ` +
            `pairs(${this.#nameOf(left)}[${text(leftIndex)}], ` +
            `${this.#nameOf(right)}[${text(rightIndex)}], ${text(statement.steps)})`,
        );
        break;
      }
      case 'prefetch':
        put(`prefetch ${this.#nameOf(statement.buffer)}[${text(statement.index)}]`);
        break;
      case 'barrier':
        put('barrier');
        break;
      default:
        statement satisfies never;
    }
  }
}

/** Expressions used more than once and too large to repeat: a tree of them could be exponential. */
function sharedExpressions(kernel: Kernel): ReadonlySet<Expression> {
  const uses = new Map<Expression, number>();
  const sizes = new Map<Expression, number>();
  const count = (expression: Expression): void => {
    uses.set(expression, (uses.get(expression) ?? 0) + 1);
  };
  forEachExpression(kernel.body, (expression) => {
    let size = 1;
    for (const operand of operandsOf(expression)) {
      count(operand);
      size += sizes.get(operand) ?? 0;
    }
    sizes.set(expression, Math.min(size, SHARED_SIZE));
  });
  forEachStatement(kernel.body, (statement) => rootsOf(statement).forEach(count));
  const shared = new Set<Expression>();
  for (const [expression, times] of uses) {
    if (times > 1 && (sizes.get(expression) ?? 0) >= SHARED_SIZE) shared.add(expression);
  }
  return shared;
}
