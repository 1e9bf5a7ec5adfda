// Prints kernels as WGSL compute shaders. There is no device for it yet.
//
// Limits, each a CompileError: storage of 8 or 16 bits (bool, int8, uint8, int16, halves), which has
// to be packed into words; float64, which WGSL lacks; vectors of other than 2, 3 or 4 lanes; more
// buffers than a shader stage may bind. WGSL lets drivers fuse and reorder arithmetic, so results
// are close to the other backends', not equal bit for bit. A target for it has `fma: false`: WGSL's
// fma need not round once.
import type { DType } from '../../base/dtype.ts';
import { CompileError, internalError } from '../../base/errors.ts';
import type {
  Binary,
  Buffer,
  Expression,
  Unary,
  ValueType,
  Variable,
} from '../../ir/expression.ts';
import type { For, Kernel, Statement, Store } from '../../ir/kernel.ts';

export interface RenderedWgsl {
  /** A module with the entry point `main`; binding i of group 0 is argument i. */
  readonly source: string;
  /** Workgroups to dispatch in x and y. */
  readonly workgroups: readonly [x: number, y: number];
}

export interface WgslOptions {
  /** The device's `maxStorageBuffersPerShaderStage`; 8 is what every device has. */
  readonly maximumBuffers?: number;
}

/** Workgroups that every device can dispatch in one dimension. */
const MAXIMUM_GROUPS = 65535;

/**
 * The shader of one prepared kernel. A grid item is a workgroup; a kernel without workgroups runs in
 * workgroups of one invocation.
 *
 * @throws CompileError for what WGSL cannot do, as the head of this file lists.
 */
export function renderWgsl(kernel: Kernel, options: WgslOptions = {}): RenderedWgsl {
  const { maximumBuffers = 8 } = options;
  if (kernel.buffers.length > maximumBuffers) {
    throw new CompileError(
      `kernel ${kernel.name} has ${kernel.buffers.length} buffers, the device binds ${maximumBuffers}`,
    );
  }
  const width = Math.min(Math.max(kernel.gridSize, 1), MAXIMUM_GROUPS);
  const height = Math.ceil(Math.max(kernel.gridSize, 1) / width);
  const source = new ShaderRenderer(kernel).render(width, height);
  return { source, workgroups: [width, height] };
}

const INFIX: Partial<Record<Binary['op'], string>> = {
  add: '+',
  sub: '-',
  mul: '*',
  div: '/',
  rem: '%',
  and: '&',
  or: '|',
  eq: '==',
  ne: '!=',
  lt: '<',
  le: '<=',
  gt: '>',
  ge: '>=',
};

/** Functions that WGSL lacks, by name. Their vector forms differ in the types alone. */
const HELPERS: Readonly<Record<string, (float: string, int: string, word: string) => string>> = {
  // Not `x != x`: drivers may assume that there is no NaN.
  is_nan: (float, _, word) => {
    const result = float.replace('f32', 'bool');
    return `fn NAME(x: ${float}) -> ${result} { return (bitcast<${word}>(x) & ${word}(0x7fffffffu)) > ${word}(0x7f800000u); }`;
  },
  min_f32: (float, int) =>
    `fn NAME(a: ${float}, b: ${float}) -> ${float} {
  let tie = bitcast<${float}>(bitcast<${int}>(a) | bitcast<${int}>(b));
  let least = select(select(a, tie, a == b), b, b < a);
  return select(select(least, b, IS_NAN(b)), a, IS_NAN(a));
}`,
  max_f32: (float, int) =>
    `fn NAME(a: ${float}, b: ${float}) -> ${float} {
  let tie = bitcast<${float}>(bitcast<${int}>(a) & bitcast<${int}>(b));
  let most = select(select(a, tie, a == b), b, b > a);
  return select(select(most, b, IS_NAN(b)), a, IS_NAN(a));
}`,
  f32_to_i32: (float, int) =>
    `fn NAME(x: ${float}) -> ${int} {
  let inside = ${int}(clamp(x, ${float}(-2147483648f), ${float}(2147483520f)));
  let high = select(inside, ${int}(2147483647), x >= ${float}(2147483648f));
  return select(high, ${int}(0), IS_NAN(x));
}`,
  f32_to_u32: (float, _, word) =>
    `fn NAME(x: ${float}) -> ${word} {
  let inside = ${word}(clamp(x, ${float}(0f), ${float}(4294967040f)));
  let high = select(inside, ${word}(4294967295u), x >= ${float}(4294967296f));
  return select(high, ${word}(0u), IS_NAN(x));
}`,
};

class ShaderRenderer {
  readonly #kernel: Kernel;
  readonly #names = new Map<Variable | Buffer, string>();
  /** Module-scope functions and variables, each once. */
  readonly #module = new Map<string, string>();
  readonly #lines: string[] = [];
  #variables = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  render(width: number, height: number): string {
    const { buffers, scratch, gridIndex, gridSize, workgroup, body } = this.#kernel;
    const declarations: string[] = [];
    buffers.forEach((buffer, n) => {
      const access = buffer.access === 'read' ? 'read' : 'read_write';
      const element = this.#stored(buffer);
      this.#names.set(buffer, `b${n}`);
      declarations.push(
        `@group(0) @binding(${n}) var<storage, ${access}> b${n}: array<${element}>;`,
      );
    });
    scratch.forEach((buffer, n) => {
      const element = buffer.dtype === 'bool' ? 'bool' : this.#stored(buffer);
      this.#names.set(buffer, `s${n}`);
      declarations.push(`var<${buffer.space}> s${n}: array<${element}, ${buffer.length ?? 0}>;`);
    });
    const grid = this.#declare(gridIndex);
    const group = height === 1 ? 'group.x' : `group.x + group.y * ${width}u`;
    this.#lines.push(`  let ${grid} = i32(${group});`);
    // Uniform in a workgroup: barriers after it are met by all or by none.
    if (width * height > gridSize) this.#lines.push(`  if (${grid} >= ${gridSize}) { return; }`);
    if (workgroup !== undefined) {
      this.#lines.push(`  let ${this.#declare(workgroup.localIndex)} = i32(local);`);
    }
    // Used or not, every argument keeps its place in an automatic layout.
    for (const buffer of buffers) this.#lines.push(`  _ = &${this.#name(buffer)};`);
    this.#block(body, '  ');
    const main = [
      `@compute @workgroup_size(${workgroup?.size ?? 1})`,
      'fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {',
      ...this.#lines,
      '}',
    ];
    return `${[...declarations, ...this.#module.values(), ...main].join('\n')}\n`;
  }

  #stored({ dtype, name }: Buffer): string {
    const elements: Partial<Record<DType, string>> = {
      float32: 'f32',
      int32: 'i32',
      uint32: 'u32',
    };
    const element = elements[dtype];
    if (element !== undefined) return element;
    const reason = dtype === 'float64' ? 'has no such numbers' : 'stores 32-bit elements only';
    throw new CompileError(`kernel ${this.#kernel.name}: ${name} is ${dtype}, and WGSL ${reason}`);
  }

  #declare(variable: Variable): string {
    const name = `v${this.#variables++}`;
    this.#names.set(variable, name);
    return name;
  }

  #name(named: Variable | Buffer): string {
    const name = this.#names.get(named);
    if (name === undefined) throw internalError(`${named.name} has no name in WGSL`);
    return name;
  }

  #type(type: ValueType, lanes: number): string {
    if (type === 'f64') {
      throw new CompileError(`kernel ${this.#kernel.name} computes in float64, which WGSL lacks`);
    }
    if (lanes === 1) return type;
    if (lanes > 4) {
      throw new CompileError(
        `kernel ${this.#kernel.name} has vectors of ${lanes}, WGSL at most of 4`,
      );
    }
    return `vec${lanes}<${type}>`;
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
        const keyword = kind === 'let' ? 'let' : 'var';
        const type = this.#type(variable.type, variable.lanes);
        put(`${keyword} ${this.#declare(variable)}: ${type} = ${text};`);
        break;
      }
      case 'assign':
        put(`${this.#name(statement.variable)} = ${this.#text(statement.value)};`);
        break;
      case 'store':
        put(`${this.#store(statement)};`);
        break;
      case 'multiplyPairs':
        throw internalError('WGSL has no products of bfloat16');
      case 'prefetch':
        throw internalError('WGSL has no prefetch');
      case 'barrier':
        put('workgroupBarrier();');
        break;
      default:
        statement satisfies never;
    }
  }

  #for(loop: For, indent: string): void {
    const start = this.#text(loop.start);
    let end = this.#text(loop.end);
    const index = this.#declare(loop.index);
    const put = (line: string): void => {
      this.#lines.push(indent + line);
    };
    // The end is evaluated once, before the first iteration.
    if (loop.end.kind !== 'constant') {
      put(`let ${index}_end: i32 = ${end};`);
      end = `${index}_end`;
    }
    put(`for (var ${index}: i32 = ${start}; ${index} < ${end}; ${index} += ${loop.step}) {`);
    this.#block(loop.body, `${indent}  `);
    put('}');
  }

  #store({ buffer, index, value }: Store): string {
    const name = this.#name(buffer);
    const [at, text] = [this.#text(index), this.#text(value)];
    if (value.lanes === 1) return `${name}[${at}] = ${text}`;
    const type = this.#type(value.type, value.lanes);
    const helper = `store${value.lanes}_${name}`;
    const items = Array.from({ length: value.lanes }, (_, n) => `${name}[i + ${n}] = v[${n}];`);
    this.#module.set(helper, `fn ${helper}(i: i32, v: ${type}) { ${items.join(' ')} }`);
    return `${helper}(${at}, ${text})`;
  }

  // Expressions. Each comes with its parentheses.

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
        return this.#call('select', e.whenFalse, e.whenTrue, e.condition);
      case 'fma':
        return this.#call('fma', e.a, e.b, e.c);
      case 'convert':
        return this.#convert(e.operand, e.type);
      case 'bitcast':
        return this.#call(`bitcast<${this.#type(e.type, e.lanes)}>`, e.operand);
      case 'load':
        return this.#load(e);
      case 'splat':
        return this.#call(this.#type(e.type, e.lanes), e.operand);
      case 'lanes':
        return this.#call(this.#type(e.type, e.lanes), ...e.operands);
      case 'extract':
        return `${this.#text(e.operand)}[${e.lane}]`;
      default:
        e satisfies never;
        throw internalError('unknown expression');
    }
  }

  #call(name: string, ...operands: readonly Expression[]): string {
    return `${name}(${operands.map((operand) => this.#text(operand)).join(', ')})`;
  }

  /** The name of a function for one lane count; it joins the module with what it needs. */
  #helper(name: string, lanes: number): string {
    const full = lanes === 1 ? name : `${name}x${lanes}`;
    if (this.#module.has(full)) return full;
    const template = HELPERS[name];
    if (template === undefined) throw internalError(`no WGSL helper ${name}`);
    const [float, int, word] = (['f32', 'i32', 'u32'] as const).map((t) => this.#type(t, lanes));
    const text = template(float ?? '', int ?? '', word ?? '');
    const isNaN = text.includes('IS_NAN') ? this.#helper('is_nan', lanes) : '';
    this.#module.set(full, text.replaceAll('IS_NAN', isNaN).replaceAll('NAME', full));
    return full;
  }

  #constant(value: number, type: ValueType, lanes: number): string {
    const scalar = this.#literal(value, type);
    return lanes === 1 ? scalar : `${this.#type(type, lanes)}(${scalar})`;
  }

  #literal(value: number, register: ValueType): string {
    switch (register) {
      case 'bool':
        return value === 0 ? 'false' : 'true';
      case 'i32':
        return value < 0 ? `i32(${value})` : String(value);
      case 'u32':
        return `${value}u`;
      case 'f32':
        if (!Number.isFinite(value)) return this.#special(value);
        return value < 0 || Object.is(value, -0) ? `(-${Math.abs(value)}f)` : `${value}f`;
      case 'f64':
        return this.#type(register, 1);
      default:
        register satisfies never;
        throw internalError('unknown register');
    }
  }

  /** NaN and infinities: no constant expression may give them, but the bits of a variable may. */
  #special(value: number): string {
    const [name, bits] = Number.isNaN(value)
      ? ['nan_bits', '0x7fc00000u']
      : value > 0
        ? ['infinity_bits', '0x7f800000u']
        : ['minus_infinity_bits', '0xff800000u'];
    this.#module.set(name, `var<private> ${name}: u32 = ${bits};`);
    return `bitcast<f32>(${name})`;
  }

  #unary({ op, operand, type, lanes }: Unary): string {
    this.#type(type, lanes);
    switch (op) {
      case 'neg':
        return `(-${this.#text(operand)})`;
      case 'not':
        return `(${type === 'bool' ? '!' : '~'}${this.#text(operand)})`;
      case 'abs':
      case 'sqrt':
      case 'floor':
      case 'ceil':
      case 'trunc':
      case 'round':
        return this.#call(op, operand);
      default:
        throw internalError(`${op} reached the WGSL renderer undecomposed`);
    }
  }

  #binary(e: Binary): string {
    const { op, left, right, lanes } = e;
    const type = left.type;
    this.#type(type, lanes);
    if (left === right && type === 'f32' && (op === 'ne' || op === 'eq')) {
      const test = this.#call(this.#helper('is_nan', lanes), left);
      return op === 'ne' ? test : `(!${test})`;
    }
    const infix = INFIX[op];
    if (infix !== undefined) return `(${this.#text(left)} ${infix} ${this.#text(right)})`;
    switch (op) {
      case 'xor':
        return `(${this.#text(left)} ${type === 'bool' ? '!=' : '^'} ${this.#text(right)})`;
      case 'shl':
      case 'shr': {
        const word = this.#type('u32', lanes);
        const by =
          right.kind === 'constant'
            ? this.#constant(right.value & 31, 'u32', lanes)
            : `(${word}(${this.#text(right)}) & ${this.#constant(31, 'u32', lanes)})`;
        return `(${this.#text(left)} ${op === 'shl' ? '<<' : '>>'} ${by})`;
      }
      case 'min':
      case 'max':
        return type === 'f32' ? this.#extremum(e, op) : this.#call(op, left, right);
      default:
        throw internalError(`${op} reached the WGSL renderer undecomposed`);
    }
  }

  /** min or max of floats: NaN if either is, and -0 below 0. A constant needs one comparison. */
  #extremum(e: Binary, op: 'min' | 'max'): string {
    const { left, right } = e;
    const [variable, constant] = left.kind === 'constant' ? [right, left] : [left, right];
    const simple = variable.kind === 'variable' && constant.kind === 'constant';
    if (!simple || !Number.isFinite(constant.value)) {
      return this.#call(this.#helper(`${op}_f32`, e.lanes), left, right);
    }
    // A zero that wins ties against the other zero is taken on equality.
    const wins = Object.is(constant.value, op === 'min' ? -0 : 0);
    const [x, c] = [this.#text(variable), this.#text(constant)];
    return `select(${x}, ${c}, ${x} ${op === 'min' ? '>' : '<'}${wins ? '=' : ''} ${c})`;
  }

  #convert(operand: Expression, to: ValueType): string {
    const from = operand.type;
    const { lanes } = operand;
    const target = this.#type(to, lanes);
    this.#type(from, lanes);
    if (from === 'f32' && (to === 'i32' || to === 'u32')) {
      return this.#call(this.#helper(`f32_to_${to}`, lanes), operand);
    }
    return this.#call(target, operand);
  }

  #load({ buffer, index, type, lanes }: Expression & { kind: 'load' }): string {
    const name = this.#name(buffer);
    if (lanes === 1) return `${name}[${this.#text(index)}]`;
    const vector = this.#type(type, lanes);
    const helper = `load${lanes}_${name}`;
    const items = Array.from({ length: lanes }, (_, n) => `${name}[i + ${n}]`);
    this.#module.set(
      helper,
      `fn ${helper}(i: i32) -> ${vector} { return ${vector}(${items.join(', ')}); }`,
    );
    return `${helper}(${this.#text(index)})`;
  }
}
