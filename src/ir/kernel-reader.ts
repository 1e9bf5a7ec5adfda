// Kernels from bytes, as kernel-writer.ts wrote them. Every place and number is checked; that types agree
// is for the renderer's target to say (a WebAssembly engine validates what it is given).
import { type DType, DTYPES } from '../base/dtype.ts';
import { FormatError } from '../base/errors.ts';
import {
  isFloatType,
  type Buffer,
  type Expression,
  type ValueType,
  type Variable,
} from './expression.ts';
import { branch, type Kernel, type Statement } from './kernel.ts';
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

/** Deeper nesting than any program has; the reader recurses. */
const MAX_DEPTH = 1000;

/**
 * The kernels that `bytes` hold.
 *
 * @throws FormatError with the offset in `bytes` of what cannot be.
 */
export function readKernels(bytes: Uint8Array): Kernel[] {
  const from = new ByteReader(bytes);
  const kernels: Kernel[] = [];
  for (let left = from.count(); left > 0; left--) kernels.push(new KernelReader(from).kernel());
  from.expectEnd();
  return kernels;
}

class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(what: string): FormatError {
    return new FormatError(`stored kernels: ${what}`, { offset: this.#at });
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw this.fail('they end too early');
    this.#at += length;
    return at;
  }

  expectEnd(): void {
    if (this.#at !== this.#bytes.length) throw this.fail('more follows');
  }

  byte(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  whole(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (!Number.isSafeInteger(value)) throw this.fail('a number is too large');
      if (byte < 128) return value;
    }
  }

  /** How many things follow, each of a byte at least. */
  count(): number {
    const count = this.whole();
    if (count > this.#bytes.length - this.#at) throw this.fail(`${count} things cannot follow`);
    return count;
  }

  signed(): number {
    const value = this.whole();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  float(wide: boolean): number {
    const at = this.#take(wide ? 8 : 4);
    return wide ? this.#view.getFloat64(at, true) : this.#view.getFloat32(at, true);
  }

  text(): string {
    const length = this.count();
    const at = this.#take(length);
    return new TextDecoder().decode(this.#bytes.slice(at, at + length));
  }

  word<T extends string>(list: readonly T[]): T {
    const word = list[this.byte()];
    if (word === undefined) throw this.fail(`a word beyond ${list.join(', ')}`);
    return word;
  }
}

type Known = { readonly buffer: Buffer } | { readonly expression: Expression };

class KernelReader {
  readonly #from: ByteReader;
  readonly #known: Known[] = [];
  #depth = 0;

  constructor(from: ByteReader) {
    this.#from = from;
  }

  kernel(): Kernel {
    const name = this.#from.text();
    const buffers = this.#buffers();
    const scratch = this.#buffers();
    if (buffers.some(({ space }) => space !== 'argument'))
      throw this.#from.fail('a false argument');
    if (scratch.some(({ space, length }) => space === 'argument' || length === undefined)) {
      throw this.#from.fail('scratch without a length');
    }
    const gridSize = this.#from.whole();
    if (gridSize >= 2 ** 31) throw this.#from.fail(`a grid of ${gridSize}`);
    return { name, buffers, scratch, gridSize, gridIndex: this.#variable(), body: this.#block() };
  }

  #buffers(): Buffer[] {
    const buffers: Buffer[] = [];
    for (let left = this.#from.count(); left > 0; left--) {
      const name = this.#from.text();
      const dtype = this.#from.word<DType>(DTYPES);
      const space = this.#from.word(SPACES);
      const access = this.#from.word(ACCESSES);
      const length = this.#from.whole();
      const id = this.#known.length;
      const buffer = {
        id,
        name,
        dtype,
        space,
        access,
        length: length === 0 ? undefined : length - 1,
      };
      this.#known.push({ buffer });
      buffers.push(buffer);
    }
    return buffers;
  }

  #variable(): Variable {
    const from = this.#from;
    const name = from.text();
    const type = from.word(TYPES);
    const lanes = this.#lanes();
    const mutable = from.byte() === 1;
    const id = this.#known.length;
    const variable: Variable = {
      kind: 'variable',
      id,
      name,
      type,
      lanes,
      mutable,
      ...this.#bounds(),
    };
    this.#known.push({ expression: variable });
    return variable;
  }

  #lanes(): number {
    const lanes = this.#from.byte();
    if (lanes === 0 || lanes > 64) throw this.#from.fail(`a vector of ${lanes}`);
    return lanes;
  }

  #bounds(): { readonly min: number; readonly max: number } {
    const flags = this.#from.byte();
    const min = (flags & HAS_MIN) === 0 ? -Infinity : this.#from.signed();
    const max = (flags & HAS_MAX) === 0 ? Infinity : this.#from.signed();
    return { min, max };
  }

  #block(): Statement[] {
    this.#enter();
    const statements: Statement[] = [];
    for (let left = this.#from.count(); left > 0; left--) statements.push(this.#statement());
    this.#depth--;
    return statements;
  }

  #enter(): void {
    if (++this.#depth > MAX_DEPTH) throw this.#from.fail(`nested ${MAX_DEPTH} deep`);
  }

  #statement(): Statement {
    const from = this.#from;
    const kind = from.word(STATEMENTS);
    switch (kind) {
      case 'for':
        return this.#loop();
      case 'if':
        return branch(this.#expression(), this.#block(), this.#block());
      case 'let':
      case 'declare': {
        const value = this.#expression();
        return { kind, value, variable: this.#variable() };
      }
      case 'assign': {
        const variable = this.#expressionAgain();
        if (variable.kind !== 'variable') throw from.fail('an assignment to no variable');
        return { kind, variable, value: this.#expression() };
      }
      case 'store':
        return {
          kind,
          buffer: this.#buffer(),
          index: this.#expression(),
          value: this.#expression(),
        };
      case 'barrier':
        return { kind };
      default:
        kind satisfies never;
        throw from.fail('an unknown statement');
    }
  }

  #loop(): Statement {
    const start = this.#expression();
    const end = this.#expression();
    const step = this.#from.whole();
    if (step === 0) throw this.#from.fail('a loop that stands still');
    const flags = this.#from.byte();
    const index = this.#variable();
    const body = this.#block();
    return {
      kind: 'for',
      index,
      start,
      end,
      step,
      body,
      ...((flags & VECTOR) === 0 ? {} : { vector: true }),
      ...((flags & REPEATABLE) === 0 ? {} : { repeatable: true }),
    };
  }

  #buffer(): Buffer {
    const known = this.#known[this.#from.whole()];
    if (known === undefined || !('buffer' in known)) throw this.#from.fail('no such buffer');
    return known.buffer;
  }

  #expressionAgain(): Expression {
    const known = this.#known[this.#from.whole()];
    if (known === undefined || !('expression' in known)) throw this.#from.fail('no such value');
    return known.expression;
  }

  #expression(): Expression {
    const kind = this.#from.word(EXPRESSIONS);
    if (kind === 'again') return this.#expressionAgain();
    this.#enter();
    const type = this.#from.word(TYPES);
    const lanes = this.#lanes();
    const expression = this.#made(kind, type, lanes);
    this.#known.push({ expression });
    this.#depth--;
    return expression;
  }

  #made(kind: Exclude<Expression['kind'], 'variable'>, type: ValueType, lanes: number): Expression {
    const from = this.#from;
    const isIndex = type === 'i32' && lanes === 1;
    if (kind === 'constant') {
      const value = isFloatType(type) ? from.float(type === 'f64') : from.signed();
      const [min, max] = isIndex ? [value, value] : [-Infinity, Infinity];
      return { kind, id: this.#known.length, type, lanes, value, min, max };
    }
    const parts = this.#parts(kind);
    const bounds = isIndex ? this.#bounds() : { min: -Infinity, max: Infinity };
    // Numbers are given in the order of this list: operands before what uses them.
    return { ...parts, id: this.#known.length, type, lanes, ...bounds };
  }

  #parts(kind: Exclude<Expression['kind'], 'variable' | 'constant'>) {
    const from = this.#from;
    switch (kind) {
      case 'unary':
        return { kind, op: from.word(UNARY), operand: this.#expression() };
      case 'binary':
        return {
          kind,
          op: from.word(BINARY),
          left: this.#expression(),
          right: this.#expression(),
        };
      case 'select':
        return {
          kind,
          condition: this.#expression(),
          whenTrue: this.#expression(),
          whenFalse: this.#expression(),
        };
      case 'fma':
        return { kind, a: this.#expression(), b: this.#expression(), c: this.#expression() };
      case 'convert':
        return { kind, operand: this.#expression() };
      case 'bitcast':
        return { kind, operand: this.#expression() };
      case 'splat':
        return { kind, operand: this.#expression() };
      case 'load':
        return { kind, buffer: this.#buffer(), index: this.#expression() };
      case 'lanes': {
        const operands: Expression[] = [];
        for (let left = from.count(); left > 0; left--) operands.push(this.#expression());
        return { kind, operands };
      }
      case 'extract':
        return { kind, lane: from.byte(), operand: this.#expression() };
      default:
        kind satisfies never;
        throw from.fail('an unknown expression');
    }
  }
}
