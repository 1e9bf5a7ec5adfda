// Prints kernels as C; vectors in the extensions of gcc and clang.
import { byteSize } from '../../base/dtype.ts';
import { CompileError, internalError } from '../../base/errors.ts';
import {
  isFloatType,
  type Binary,
  type Buffer,
  type Expression,
  type Unary,
  type ValueType,
  type Variable,
} from '../expression.ts';
import type { For, Kernel, Statement, Store } from '../kernel.ts';
import { forEachExpression } from '../walk.ts';
import type { CDialect } from './dialect.ts';
import { type CHelpers, isStoredWhole } from './helpers.ts';

/** Scratch arrays start at multiples of this many bytes. */
const SCRATCH_ALIGNMENT = 64;

/** Where the scratch arrays of a kernel stand, from the start of its scratch, and the bytes of all. */
export function scratchOf({ scratch }: Kernel): {
  readonly offsets: readonly number[];
  readonly bytes: number;
} {
  let bytes = 0;
  const offsets = scratch.map(({ dtype, length = 0 }) => {
    const offset = bytes;
    bytes += Math.ceil((length * byteSize(dtype)) / SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT;
    return offset;
  });
  return { offsets, bytes };
}

/** What can overflow. */
const ARITHMETIC: ReadonlySet<Binary['op']> = new Set(['add', 'sub', 'mul']);

const INFIX: Partial<Record<Binary['op'], string>> = {
  add: '+',
  sub: '-',
  mul: '*',
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

/** The loop over the grid of one prepared kernel, with pointers `b0`, `b1`.. to its buffers. */
export class KernelRenderer {
  readonly #kernel: Kernel;
  readonly #helpers: CHelpers;
  readonly #dialect: CDialect;
  readonly #names = new Map<Variable | Buffer, string>();
  readonly #lines: string[] = [];
  /** Whether there is a multiply-add whose sign a negation must not get into. */
  readonly #fused: boolean;
  #variables = 0;

  /** @throws CompileError for kernels of workgroups, which are a GPU's. */
  constructor(kernel: Kernel, helpers: CHelpers) {
    this.#kernel = kernel;
    this.#helpers = helpers;
    this.#dialect = helpers.dialect;
    let fused = false;
    forEachExpression(kernel.body, ({ kind }) => {
      fused ||= kind === 'fma';
    });
    this.#fused = fused;
    if (kernel.workgroup !== undefined) {
      throw new CompileError(`kernel ${kernel.name} runs in workgroups, which C has not`);
    }
  }

  /**
   * Lines for the inside of a function in which `b0`.. point to the buffers and `s0`.. to the scratch
   * arrays. `begin` and `end` are what the grid index goes through.
   */
  body(begin: string, end: string): readonly string[] {
    const { buffers, scratch, gridIndex, body } = this.#kernel;
    buffers.forEach((buffer, n) => this.#names.set(buffer, `b${n}`));
    scratch.forEach((buffer, n) => this.#names.set(buffer, `s${n}`));
    const index = this.#declare(gridIndex);
    this.#lines.push(`  for (long ${index} = ${begin}; ${index} < ${end}; ${index}++) {`);
    this.#block(body, '    ');
    this.#lines.push('  }');
    return this.#lines;
  }

  #declare(variable: Variable): string {
    const name = `v${this.#variables++}`;
    this.#names.set(variable, name);
    return name;
  }

  #name(named: Variable | Buffer): string {
    const name = this.#names.get(named);
    if (name === undefined) throw internalError(`${named.name} has no name in C`);
    return name;
  }

  #type({ type, lanes }: Expression): string {
    return this.#helpers.type(type, lanes);
  }

  // Statements.

  #block(statements: readonly Statement[], indent: string): void {
    for (const statement of statements) this.#statement(statement, indent);
  }

  #statement(statement: Statement, indent: string): void {
    const put = (line: string): void => {
      this.#lines.push(indent + line);
    };
    switch (statement.kind) {
      case 'for':
        this.#for(statement, indent);
        break;
      case 'if':
        put(`if (${this.#text(statement.condition)}) {`);
        this.#block(statement.then, `${indent}  `);
        if (statement.otherwise.length > 0) {
          put('} else {');
          this.#block(statement.otherwise, `${indent}  `);
        }
        put('}');
        break;
      case 'let':
      case 'declare': {
        const { variable, value, kind } = statement;
        const text = this.#text(value);
        const long = kind === 'let' && isIndex(variable);
        const type =
          kind === 'let' ? `const ${long ? 'long' : this.#type(variable)}` : this.#type(variable);
        put(`${type} ${this.#declare(variable)} = ${text};`);
        break;
      }
      case 'assign':
        put(`${this.#name(statement.variable)} = ${this.#text(statement.value)};`);
        break;
      case 'store':
        put(`${this.#store(statement)};`);
        break;
      case 'multiplyPairs': {
        const { sums, sumsIndex, sumsStride, left, leftIndex, right, rightIndex } = statement;
        const name = this.#helpers.multiplyPairs();
        const places = [
          this.#address(sums, sumsIndex),
          String(sumsStride),
          this.#address(left, leftIndex),
          this.#address(right, rightIndex),
          this.#text(statement.steps),
        ];
        put(`${name}(${places.join(', ')});`);
        break;
      }
      case 'prefetch':
        put(`${this.#helpers.prefetch()}(${this.#address(statement.buffer, statement.index)});`);
        break;
      case 'barrier':
        // One invocation for each grid item: nobody to wait for.
        break;
      default:
        statement satisfies never;
    }
  }

  #for(loop: For, indent: string): void {
    const start = this.#text(loop.start);
    const fixed =
      loop.end.kind === 'constant' || (loop.end.kind === 'variable' && !loop.end.mutable);
    const end = this.#text(loop.end);
    const index = this.#declare(loop.index);
    // The end is evaluated once, before the first iteration.
    const declared = fixed ? '' : `, ${index}_end = ${end}`;
    const step = loop.step === 1 ? `${index}++` : `${index} += ${loop.step}`;
    const limit = fixed ? end : `${index}_end`;
    this.#lines.push(
      `${indent}for (long ${index} = ${start}${declared}; ${index} < ${limit}; ${step}) {`,
    );
    this.#block(loop.body, `${indent}  `);
    this.#lines.push(`${indent}}`);
  }

  #store({ buffer, index, value }: Store): string {
    const at = this.#address(buffer, index);
    const text = this.#text(value);
    if (value.lanes === 1) return `*(${at}) = ${this.#helpers.encode(buffer.dtype, text)}`;
    if (isStoredWhole(buffer.dtype)) {
      return `*(${this.#helpers.unaligned(value.type, value.lanes)}*)(${at}) = ${text}`;
    }
    return `${this.#helpers.storeNarrow(buffer.dtype, value.type, value.lanes)}(${at}, ${text})`;
  }

  // Expressions.

  /** Constants are added to the pointer last: the processor then adds them for nothing. */
  #address(buffer: Buffer, index: Expression): string {
    const name = this.#name(buffer);
    if (index.kind === 'binary' && index.op === 'add' && index.right.kind === 'constant') {
      return `${name} + ${this.#operand(index.left)} + ${this.#text(index.right)}`;
    }
    return `${name} + ${this.#operand(index)}`;
  }

  #operand(expression: Expression): string {
    const text = this.#text(expression);
    return /^\w+$/.test(text) ? text : `(${text})`;
  }

  #text(e: Expression): string {
    switch (e.kind) {
      case 'constant':
        return this.#constant(e.value, e.type, e.lanes);
      case 'variable':
        return this.#name(e);
      case 'unary':
        return this.#unary(e);
      case 'binary':
        return this.#binary(e);
      case 'select':
        return this.#select(e);
      case 'fma': {
        const name = this.#dialect.math('fma', floatOf(e.type));
        return this.#call(
          `fma_${e.type}`,
          e,
          [e.a, e.b, e.c],
          (a, b, c) => `${name}(${a}, ${b}, ${c})`,
        );
      }
      case 'convert':
        return this.#convert(e.operand, e.type);
      case 'bitcast':
        if (e.lanes > 1) return `(${this.#type(e)})${this.#operand(e.operand)}`;
        return `${this.#helpers.bitcast(e.operand.type, e.type)}(${this.#text(e.operand)})`;
      case 'load':
        return this.#load(e);
      case 'splat':
        return `${this.#helpers.splat(e.type, e.lanes)}(${this.#text(e.operand)})`;
      case 'lanes': {
        const chosen = laneChoice(e.operands);
        if (chosen !== null) {
          const { low, high, lanes } = chosen;
          const choose = this.#helpers.chooseLanes(lanes.length);
          return `${choose}(${[this.#text(low), this.#text(high), ...lanes].join(', ')})`;
        }
        const items = e.operands.map((operand) => {
          return e.type === 'bool' ? `-${this.#operand(operand)}` : this.#text(operand);
        });
        return `(${this.#type(e)}){${items.join(', ')}}`;
      }
      case 'extract': {
        const lane = `${this.#operand(e.operand)}[${e.lane}]`;
        return e.type === 'bool' ? `-${lane}` : lane;
      }
      default:
        e satisfies never;
        throw internalError('unknown expression');
    }
  }

  #constant(value: number, type: ValueType, lanes: number): string {
    const scalar = literal(value, type, this.#dialect);
    if (lanes === 1) return scalar;
    const item = type === 'bool' && value !== 0 ? '-1' : scalar;
    const items = Array.from({ length: lanes }, () => item).join(', ');
    return `(${this.#helpers.type(type, lanes)}){${items}}`;
  }

  #call(
    name: string,
    result: Expression,
    operands: readonly Expression[],
    body: (...operands: string[]) => string,
  ): string {
    const types = operands.map(({ type }) => type);
    const { type, lanes } = result;
    const helper = this.#helpers.perLane(name, type, types, lanes, body);
    return `${helper}(${operands.map((operand) => this.#text(operand)).join(', ')})`;
  }

  #unary(e: Unary): string {
    const { op, operand, type, lanes } = e;
    const builtin = (name: string): string => {
      const full = this.#dialect.math(name, floatOf(type));
      return this.#call(`${op}_${type}`, e, [operand], (a) => `${full}(${a})`);
    };
    switch (op) {
      case 'neg':
        if (this.#fused && isFloatType(type)) {
          return `${this.#helpers.flipSign(type, lanes)}(${this.#text(operand)})`;
        }
        if (this.#mayOverflow(e)) {
          return `(${this.#type(e)})-${this.#unsigned(operand)}`;
        }
        return `${this.#narrowing(e)}-${this.#operand(operand)}`;
      case 'not':
        return `${type === 'bool' && lanes === 1 ? '!' : '~'}${this.#operand(operand)}`;
      case 'abs':
        if (type !== 'i32') return builtin('fabs');
        return this.#call(
          'abs_i32',
          e,
          [operand],
          (a) => `(${a} < 0 ? ${this.#negative(a)} : ${a})`,
        );
      case 'sqrt':
      case 'floor':
      case 'ceil':
      case 'trunc':
        return builtin(op);
      case 'round':
        // To even on ties, as the processor's default mode is.
        return builtin('rint');
      default:
        throw internalError(`${op} reached the C renderer undecomposed`);
    }
  }

  #binary(e: Binary): string {
    const { op, left, right } = e;
    const type = left.type;
    const float = isFloatType(type);
    const infix = INFIX[op];
    if (this.#fused && op === 'sub' && left.kind === 'constant' && Object.is(left.value, -0)) {
      if (float) return `${this.#helpers.flipSign(type, e.lanes)}(${this.#text(right)})`;
    }
    if (infix !== undefined) {
      if (ARITHMETIC.has(op) && this.#mayOverflow(e)) {
        return `(${this.#type(e)})(${this.#unsigned(left)} ${infix} ${this.#unsigned(right)})`;
      }
      const text = `${this.#operand(left)} ${infix} ${this.#operand(right)}`;
      if (isWrapping(e)) return `${this.#narrowing(e)}(${text})`;
      // A comparison of doubles gives a mask of 64 bits a lane; ours have 32.
      const wide = e.type === 'bool' && type === 'f64' && e.lanes > 1;
      return wide ? `__builtin_convertvector(${text}, ${this.#type(e)})` : text;
    }
    switch (op) {
      case 'div':
        if (float || isPositive(right)) return `${this.#operand(left)} / ${this.#operand(right)}`;
        return this.#call(`div_${type}`, e, [left, right], (a, b) =>
          type === 'i32' ? `(${b} == -1 ? ${this.#negative(a)} : ${a} / ${b})` : `${a} / ${b}`,
        );
      case 'rem':
        if (isPositive(right)) return `${this.#operand(left)} % ${this.#operand(right)}`;
        return this.#call(`rem_${type}`, e, [left, right], (a, b) =>
          type === 'i32' ? `(${b} == -1 ? 0 : ${a} % ${b})` : `${a} % ${b}`,
        );
      case 'shl':
      case 'shr': {
        const shift = op === 'shl' ? '<<' : '>>';
        // C shifts no negative number to the left.
        const wraps = op === 'shl' && type === 'i32' && !this.#dialect.wraps;
        if (right.kind === 'constant') {
          const places = right.value & 31;
          if (wraps) return `(${this.#type(e)})(${this.#unsigned(left)} << ${places})`;
          const text = `${this.#operand(left)} ${shift} ${places}`;
          return isWrapping(e) ? `${this.#narrowing(e)}(${text})` : text;
        }
        const { i32, u32 } = this.#dialect.register;
        return this.#call(`${op}_${type}`, e, [left, right], (a, b) =>
          wraps ? `(${i32})((${u32})${a} << (${b} & 31))` : `${a} ${shift} (${b} & 31)`,
        );
      }
      case 'min':
      case 'max':
        return isFloatType(type)
          ? this.#extremum(e, op, type)
          : this.#call(
              `${op}_${type}`,
              e,
              [left, right],
              (a, b) => `(${a} ${op === 'min' ? '<' : '>'} ${b} ? ${a} : ${b})`,
            );
      case 'mulHigh':
        return this.#call('mulhigh_u32', e, [left, right], (a, b) => {
          return `(${this.#dialect.register.u32})((${this.#dialect.wide})${a} * ${b} >> 32)`;
        });
      default:
        throw internalError(`${op} reached the C renderer undecomposed`);
    }
  }

  /** Whether C has to be kept from overflowing a signed integer. */
  #mayOverflow(e: Expression): boolean {
    return !this.#dialect.wraps && e.type === 'i32' && (e.lanes > 1 || isWrapping(e));
  }

  /** An operand of i32 as unsigned, which wraps around. */
  #unsigned(operand: Expression): string {
    return `(${this.#helpers.type('u32', operand.lanes)})${this.#operand(operand)}`;
  }

  /** The negative of an i32 variable. */
  #negative(a: string): string {
    const { register, wraps } = this.#dialect;
    return wraps ? `-${a}` : `(${register.i32})-(${register.u32})${a}`;
  }

  /** A cast that cuts arithmetic of indices, which may be in longs, down to 32 bits. */
  #narrowing(e: Expression): string {
    return isWrapping(e) ? `(${this.#dialect.register.i32})` : '';
  }

  /**
   * min or max of floats: NaN if either is, and -0 below 0. Against a constant one comparison is
   * enough: chosen so that an equal or unordered operand is what the IR wants.
   */
  #extremum(e: Binary, op: 'min' | 'max', type: 'f32' | 'f64'): string {
    const { left, right } = e;
    const [variable, constant] = left.kind === 'constant' ? [right, left] : [left, right];
    const sign = op === 'min' ? '>' : '<';
    if (constant.kind === 'constant' && !Number.isNaN(constant.value)) {
      // A zero that wins ties against the other zero is taken on equality.
      const wins = Object.is(constant.value, op === 'min' ? -0 : 0);
      const name = `${op}_constant_${wins ? 'eq_' : ''}${type}`;
      const test = wins ? `${sign}=` : sign;
      return this.#call(
        name,
        e,
        [variable, constant],
        (a, b) => `(${a} ${test} ${b} ? ${b} : ${a})`,
      );
    }
    const operands = [left, right].map((operand) => this.#text(operand));
    return `${this.#helpers.extremum(op, type, e.lanes)}(${operands.join(', ')})`;
  }

  #select(e: Expression & { kind: 'select' }): string {
    const { condition, whenTrue, whenFalse, type, lanes } = e;
    if (lanes === 1) {
      const [test, yes, no] = [condition, whenTrue, whenFalse].map((x) => this.#operand(x));
      return `${test} ? ${yes} : ${no}`;
    }
    // Masks choose bit by bit; other lanes by a loop that becomes a blend.
    if (type === 'bool') {
      const [test, yes, no] = [condition, whenTrue, whenFalse].map((x) => this.#operand(x));
      return `(${test} & ${yes}) | (~${test} & ${no})`;
    }
    const operands = [condition, whenTrue, whenFalse];
    return this.#call(`select_${type}`, e, operands, (a, b, c) => `${a} ? ${b} : ${c}`);
  }

  #convert(operand: Expression, to: ValueType): string {
    const from = operand.type;
    const result = { ...operand, type: to };
    const call = (body: (a: string) => string): string =>
      this.#call(`${from}_to_${to}`, result, [operand], body);
    if (to === 'bool') return call((a) => `(${a} != 0)`);
    if (from === 'bool') return call((a) => `(${a} != 0)`);
    const target = this.#dialect.register[to];
    const float = isFloatType(from);
    if (!float || isFloatType(to)) return call((a) => `(${target})${a}`);
    if (to === 'u32') {
      return call((a) => `(${a} > 0 ? ${a} >= 4294967296.0 ? 4294967295u : (${target})${a} : 0u)`);
    }
    const low = '(-2147483647 - 1)';
    return call((a) => {
      const inside = `${a} > -2147483648.0 ? (${target})${a} : ${a} == ${a} ? ${low} : 0`;
      return `(${a} >= 2147483648.0 ? 2147483647 : ${inside})`;
    });
  }

  #load({ buffer, index, type, lanes }: Expression & { kind: 'load' }): string {
    const { dtype } = buffer;
    const at = this.#address(buffer, index);
    if (lanes === 1) {
      const element = `*(${at})`;
      return isStoredWhole(dtype) ? element : this.#helpers.decode(dtype, element, type);
    }
    if (!isStoredWhole(dtype)) return `${this.#helpers.loadNarrow(dtype, type, lanes)}(${at})`;
    return `*(const ${this.#helpers.unaligned(type, lanes)}*)(${at})`;
  }
}

/** What `lanes` chooses of one or two vectors as long as its own: numbers of low's lanes, then high's. */
function laneChoice(
  operands: readonly Expression[],
): { readonly low: Expression; readonly high: Expression; readonly lanes: number[] } | null {
  const sources: Expression[] = [];
  const lanes: number[] = [];
  for (const operand of operands) {
    if (operand.kind !== 'extract' || operand.type === 'f64') return null;
    const source = operand.operand;
    // A variable is read more than once at no cost, whatever else it could be written as.
    if (source.lanes !== operands.length || source.kind !== 'variable') return null;
    if (!sources.includes(source)) sources.push(source);
    lanes.push(sources.indexOf(source) * source.lanes + operand.lane);
  }
  const [low, high = low] = sources;
  if (low === undefined || high === undefined || sources.length > 2 || lanes.length < 4)
    return null;
  return { low, high, lanes };
}

/** Whether a variable is an index: it cannot wrap, and as a long it needs no extension in addresses. */
function isIndex({ type, lanes, min, max }: Expression): boolean {
  return type === 'i32' && lanes === 1 && min >= -(2 ** 31) && max < 2 ** 31;
}

/** Whether integer arithmetic, which may be in longs, has to be cut down to 32 bits. */
function isWrapping(e: Expression): boolean {
  return e.type === 'i32' && e.lanes === 1 && !isIndex(e);
}

function isPositive(divisor: Expression): boolean {
  return divisor.kind === 'constant' && divisor.value > 0;
}

function floatOf(type: ValueType): 'f32' | 'f64' {
  if (isFloatType(type)) return type;
  throw internalError(`a function of ${type} in C`);
}

/** A number as C reads it back, bit for bit. */
function literal(value: number, register: ValueType, dialect: CDialect): string {
  switch (register) {
    case 'bool':
      return value === 0 ? '0' : '1';
    case 'i32':
      return value === -2147483648 ? '(-2147483647 - 1)' : String(value);
    case 'u32':
      return `${value}u`;
    case 'f32':
    case 'f64': {
      const suffix = register === 'f32' ? 'f' : '';
      if (Number.isNaN(value)) return dialect.nan(register);
      const sign = value < 0 || Object.is(value, -0) ? '-' : '';
      if (!Number.isFinite(value)) return `${sign}${dialect.infinity(register)}`;
      const digits = String(Math.abs(value));
      return `${sign}${/[.e]/.test(digits) ? digits : `${digits}.0`}${suffix}`;
    }
    default:
      register satisfies never;
      throw internalError('unknown register');
  }
}
