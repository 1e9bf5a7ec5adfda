// Prints kernels of workgroups as WGSL: as much as experiment 1 needs, to find out whether the IR
// suits GPUs. What it does not know it refuses; the renderer of a backend is another matter.
import type { Binary, Buffer, Expression, Unary, Variable } from '../../src/ir/expression.ts';
import type { Kernel, Statement } from '../../src/ir/kernel.ts';

const refuse = (what: string): Error => new Error(`the experiment does not print ${what}`);

/** The kernel as a WGSL module: binding i is argument i, a workgroup is a grid item. */
export function printWgsl(kernel: Kernel): string {
  return new Printer(kernel).print();
}

const INFIX: Partial<Record<Binary['op'], string>> = {
  add: '+',
  sub: '-',
  mul: '*',
  div: '/',
  rem: '%',
  and: '&',
  or: '|',
  xor: '^',
  eq: '==',
  ne: '!=',
  lt: '<',
  le: '<=',
  gt: '>',
  ge: '>=',
};

const ELEMENTS: Partial<Record<Buffer['dtype'], string>> = {
  float32: 'f32',
  int32: 'i32',
  uint32: 'u32',
};

class Printer {
  readonly #kernel: Kernel;
  readonly #names = new Map<Variable | Buffer, string>();
  readonly #lines: string[] = [];

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    kernel.buffers.forEach((buffer, i) => this.#names.set(buffer, `b${i}`));
    kernel.scratch.forEach((buffer, i) => this.#names.set(buffer, `s${i}`));
  }

  print(): string {
    const { buffers, scratch, gridIndex, workgroup, body } = this.#kernel;
    if (workgroup === undefined) throw refuse('kernels without workgroups');
    buffers.forEach((buffer, i) => {
      const access = buffer.access === 'read' ? 'read' : 'read_write';
      this.#put(
        `@group(0) @binding(${i}) var<storage, ${access}> b${i}: array<${elementOf(buffer)}>;`,
      );
    });
    scratch.forEach((buffer, i) => {
      this.#put(`var<${buffer.space}> s${i}: array<${elementOf(buffer)}, ${buffer.length ?? 0}>;`);
    });
    this.#put(`@compute @workgroup_size(${workgroup.size})`);
    this.#put(
      'fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {',
    );
    this.#put(`let ${this.#name(gridIndex)} = i32(group.x);`);
    this.#put(`let ${this.#name(workgroup.localIndex)} = i32(local);`);
    this.#block(body);
    this.#put('}');
    return this.#lines.join('\n');
  }

  #put(line: string): void {
    this.#lines.push(line);
  }

  #name(named: Variable | Buffer): string {
    let name = this.#names.get(named);
    if (name === undefined) this.#names.set(named, (name = `v${this.#names.size}`));
    return name;
  }

  #block(statements: readonly Statement[]): void {
    for (const statement of statements) this.#statement(statement);
  }

  #statement(statement: Statement): void {
    switch (statement.kind) {
      case 'for': {
        const index = this.#name(statement.index);
        // Evaluated once, as the IR means it.
        this.#put(`{ let ${index}end = ${this.#text(statement.end)};`);
        const start = `var ${index}: i32 = ${this.#text(statement.start)}`;
        this.#put(`for (${start}; ${index} < ${index}end; ${index} += ${statement.step}) {`);
        this.#block(statement.body);
        this.#put('}}');
        return;
      }
      case 'if':
        this.#put(`if (${this.#text(statement.condition)}) {`);
        this.#block(statement.then);
        this.#put('} else {');
        this.#block(statement.otherwise);
        this.#put('}');
        return;
      case 'let':
      case 'declare': {
        const { variable, value } = statement;
        const keyword = statement.kind === 'let' ? 'let' : 'var';
        this.#put(`${keyword} ${this.#name(variable)}: ${variable.type} = ${this.#text(value)};`);
        return;
      }
      case 'assign':
        this.#put(`${this.#name(statement.variable)} = ${this.#text(statement.value)};`);
        return;
      case 'store': {
        const place = `${this.#name(statement.buffer)}[${this.#text(statement.index)}]`;
        this.#put(`${place} = ${this.#text(statement.value)};`);
        return;
      }
      case 'barrier':
        this.#put('workgroupBarrier();');
        return;
      default:
        statement satisfies never;
    }
  }

  #text(expression: Expression): string {
    const { lanes, type } = expression;
    if (lanes !== 1 || type === 'f64') throw refuse(`${type} of ${lanes} lanes`);
    switch (expression.kind) {
      case 'constant':
        return numberText(expression.value, type);
      case 'variable':
        return this.#name(expression);
      case 'unary':
        return this.#unary(expression);
      case 'binary':
        return this.#binary(expression);
      case 'select': {
        const { condition, whenTrue, whenFalse } = expression;
        return `select(${[whenFalse, whenTrue, condition].map((e) => this.#text(e)).join(', ')})`;
      }
      case 'fma':
        return `fma(${[expression.a, expression.b, expression.c].map((e) => this.#text(e)).join(', ')})`;
      case 'convert':
        // WGSL saturates as the IR does, but says nothing of NaN.
        return `${type}(${this.#text(expression.operand)})`;
      case 'bitcast':
        return `bitcast<${type}>(${this.#text(expression.operand)})`;
      case 'load':
        return `${this.#name(expression.buffer)}[${this.#text(expression.index)}]`;
      case 'splat':
      case 'lanes':
      case 'extract':
        throw refuse('vectors');
      default:
        expression satisfies never;
        throw refuse('an unknown expression');
    }
  }

  #unary({ op, operand, type }: Unary): string {
    const value = this.#text(operand);
    if (op === 'neg') return `(-${value})`;
    if (op === 'not') return type === 'bool' ? `(!${value})` : `(~${value})`;
    return `${op}(${value})`;
  }

  #binary({ op, left, right, type }: Binary): string {
    const [a, b] = [this.#text(left), this.#text(right)];
    if (op === 'min' || op === 'max') {
      // WGSL's own may drop a NaN.
      if (type === 'f32')
        return `select(${b}, ${a}, ${a} ${op === 'max' ? '>' : '<'} ${b} || ${a} != ${a})`;
      return `${op}(${a}, ${b})`;
    }
    if (op === 'shl' || op === 'shr') return `(${a} ${op === 'shl' ? '<<' : '>>'} u32(${b}))`;
    const infix = INFIX[op];
    if (infix === undefined) throw refuse(op);
    const logical = type === 'bool' && (op === 'and' || op === 'or');
    return `(${a} ${logical ? infix + infix : infix} ${b})`;
  }
}

function elementOf({ dtype }: Buffer): string {
  const element = ELEMENTS[dtype];
  if (element === undefined) throw refuse(dtype);
  return element;
}

function numberText(value: number, type: Expression['type']): string {
  if (type === 'bool') return String(value !== 0);
  if (type === 'u32') return `${value >>> 0}u`;
  if (type !== 'f32') return value < 0 ? `i32(${value})` : String(value);
  // WGSL has no constants for them, and refuses bit patterns that are none.
  if (!Number.isFinite(value)) throw refuse('NaN and infinities');
  const negative = value < 0 || Object.is(value, -0);
  return negative ? `(-${Math.abs(value)}f)` : `${value}f`;
}
