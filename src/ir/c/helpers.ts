// C types and small functions that rendered kernels use, each emitted once and only if needed.
// Vector functions are loops over lanes: gcc and clang turn them into single instructions.
import type { DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import type { Buffer, ValueType } from '../expression.ts';
import type { CDialect } from './dialect.ts';

/** Whether memory holds a dtype as registers do, so that vectors load and store whole. */
export function isStoredWhole(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'int32' || dtype === 'uint32';
}

/** Types and functions of one translation unit, in the order in which they were first needed. */
export class CHelpers {
  readonly dialect: CDialect;
  readonly #parts = new Map<string, string>();

  constructor(dialect: CDialect) {
    this.dialect = dialect;
  }

  /** The text to put before the kernels. */
  text(): string {
    return this.parts().join('\n');
  }

  /** The same in pieces, each after those that it needs. */
  parts(): readonly string[] {
    return [...this.#parts.values()];
  }

  /**
   * The C type of a register. Masks are vectors of int, all bits set or none, whatever they mask;
   * scalar bools are 0 or 1.
   */
  type(type: ValueType, lanes: number): string {
    if (lanes === 1) return this.dialect.register[type];
    const element = type === 'bool' ? 'i32' : type;
    const name = `${element}x${lanes}`;
    const bytes = lanes * (element === 'f64' ? 8 : 4);
    this.#add(name, () => {
      const vector = `vector_size(${bytes})`;
      return (
        `typedef ${this.dialect.register[type]} ${name} __attribute__((${vector}));\n` +
        `typedef ${this.dialect.register[type]} ${name}_u ` +
        `__attribute__((${vector}, aligned(${bytes / lanes}), may_alias));`
      );
    });
    return name;
  }

  /** The C type of a pointer to a buffer's elements. */
  pointer({ dtype, access }: Pick<Buffer, 'dtype' | 'access'>): string {
    return `${access === 'read' ? 'const ' : ''}${this.dialect.stored[dtype]}*`;
  }

  /** A vector type that may be read and written at any element. */
  unaligned(type: ValueType, lanes: number): string {
    return `${this.type(type, lanes)}_u`;
  }

  /**
   * A function of registers. `body` gets the operands of one lane, or of the scalar, and gives the
   * value of the result; in vectors, bools come and go as masks.
   */
  perLane(
    name: string,
    result: ValueType,
    operands: readonly ValueType[],
    lanes: number,
    body: (...operands: string[]) => string,
  ): string {
    const key = lanes === 1 ? `${name}_s` : `${name}x${lanes}`;
    this.#add(key, () => {
      const letters = ['a', 'b', 'c'].slice(0, operands.length);
      const list = letters.map((letter, i) => {
        return `${this.type(operands[i] ?? 'i32', lanes)} ${letter}`;
      });
      const type = this.type(result, lanes);
      const head = `${this.dialect.inline} ${type} ${key}(${list.join(', ')})`;
      if (lanes === 1) return `${head} { return ${body(...letters)}; }`;
      const value = body(...letters.map((letter) => `${letter}[i]`));
      const masked = result === 'bool' ? `-(${value})` : value;
      return (
        `${head} {\n  ${type} r;\n` +
        `  for (int i = 0; i < ${lanes}; i++) r[i] = ${masked};\n  return r;\n}`
      );
    });
    return key;
  }

  /**
   * min or max of floats: NaN if either is, and -0 below 0. The processor's instruction gives its
   * second operand where they are equal: taken both ways, the bits of two zeros make the right one.
   */
  extremum(op: 'min' | 'max', type: 'f32' | 'f64', lanes: number): string {
    const key = lanes === 1 ? `${op}_${type}_s` : `${op}_${type}x${lanes}`;
    const sign = op === 'min' ? '<' : '>';
    this.#add(key, () => {
      const name = this.type(type, lanes);
      const head = `${this.dialect.inline} ${name} ${key}(${name} a, ${name} b)`;
      if (lanes === 1) {
        const zero = op === 'min' ? '-(-a - b)' : 'a + b';
        const tie = `a == 0 ? ${zero} : a`;
        return `${head} {\n  return a ${sign} b ? a : b ${sign} a ? b : a == b ? (${tie}) : a + b;\n}`;
      }
      const bytes = lanes * (type === 'f32' ? 4 : 8);
      const each = (text: string): string => `  for (int i = 0; i < ${lanes}; i++) ${text};\n`;
      return (
        `${head} {\n  typedef long long lane_bits __attribute__((vector_size(${bytes})));\n` +
        `  ${name} p, q, r;\n` +
        each(`p[i] = a[i] ${sign} b[i] ? a[i] : b[i]`) +
        each(`q[i] = b[i] ${sign} a[i] ? b[i] : a[i]`) +
        `  p = (${name})((lane_bits)p ${op === 'min' ? '|' : '&'} (lane_bits)q);\n` +
        each(`r[i] = ${this.dialect.unordered('a[i]', 'b[i]')} ? a[i] + b[i] : p[i]`) +
        '  return r;\n}'
      );
    });
    return key;
  }

  /** A scalar in every lane. Not `x + (vector){}`: that loses the sign of zero. */
  splat(type: ValueType, lanes: number): string {
    const key = `splat_${type}x${lanes}`;
    this.#add(key, () => {
      const vector = this.type(type, lanes);
      const value = type === 'bool' ? '-a' : 'a';
      const list = Array.from({ length: lanes }, () => value).join(', ');
      return `${this.dialect.inline} ${vector} ${key}(${this.dialect.register[type]} a) { return (${vector}){${list}}; }`;
    });
    return key;
  }

  /**
   * Lanes of 32 bits chosen of two vectors, by constants. Written as a list of elements they are put
   * together one by one: gcc finds the instruction that chooses only if it is told.
   */
  chooseLanes(lanes: number): string {
    const key = `choose_x${lanes}`;
    this.#add(key, () => {
      const mask = this.type('i32', lanes);
      return (
        `#if defined(__clang__) || __GNUC__ >= 12\n` +
        `#define ${key}(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)\n` +
        `#else\n` +
        `#define ${key}(a, b, ...) __builtin_shuffle(a, b, (${mask}){__VA_ARGS__})\n` +
        `#endif`
      );
    });
    return key;
  }

  /** Reinterprets 32 bits. */
  bitcast(from: ValueType, to: ValueType): string {
    const key = `bits_${from}_${to}`;
    this.#add(key, () => {
      const [source, target] = [this.dialect.register[from], this.dialect.register[to]];
      return `${this.dialect.inline} ${target} ${key}(${source} a) { ${target} r; ${this.dialect.copy}(&r, &a, 4); return r; }`;
    });
    return key;
  }

  /**
   * The negative of a float by its sign bit. gcc contracts `-fma(a, b, c)` to an instruction that
   * gives the other zero where the sum cancels; it leaves bits alone.
   */
  flipSign(type: 'f32' | 'f64', lanes: number): string {
    const scalar = `flip_${type}`;
    const [bits, mask] =
      type === 'f32'
        ? [this.dialect.register.u32, '0x80000000u']
        : [this.dialect.wide, '0x8000000000000000u'];
    const register = this.dialect.register[type];
    this.#add(scalar, () => {
      const copy = `${this.dialect.copy}(&u, &a, sizeof u); u ^= ${mask}; ${this.dialect.copy}(&a, &u, sizeof u);`;
      return `${this.dialect.inline} ${register} ${scalar}(${register} a) { ${bits} u; ${copy} return a; }`;
    });
    if (lanes === 1) return scalar;
    return this.perLane(`flip_${type}`, type, [type], lanes, (a) => `${scalar}(${a})`);
  }

  /** Reads elements whose stored form differs from their register form. */
  loadNarrow(dtype: DType, type: ValueType, lanes: number): string {
    const key = `load_${dtype}x${lanes}`;
    const element = this.#decode(dtype, 'p[i]', type, lanes);
    this.#add(key, () => {
      const vector = this.type(type, lanes);
      return (
        `${this.dialect.inline} ${vector} ${key}(const ${this.dialect.stored[dtype]}* p) {\n  ${vector} r;\n` +
        `  for (int i = 0; i < ${lanes}; i++) r[i] = ${element};\n  return r;\n}`
      );
    });
    return key;
  }

  /** Writes elements whose stored form differs from their register form. */
  storeNarrow(dtype: DType, type: ValueType, lanes: number): string {
    const key = `store_${dtype}x${lanes}`;
    const element = this.encode(dtype, 'v[i]');
    this.#add(key, () => {
      const vector = this.type(type, lanes);
      return (
        `${this.dialect.inline} void ${key}(${this.dialect.stored[dtype]}* p, ${vector} v) {\n` +
        `  for (int i = 0; i < ${lanes}; i++) p[i] = ${element};\n}`
      );
    });
    return key;
  }

  /** The register value of one stored element. */
  decode(dtype: DType, stored: string, type: ValueType): string {
    return this.#decode(dtype, stored, type, 1);
  }

  #decode(dtype: DType, stored: string, type: ValueType, lanes: number): string {
    if (dtype === 'float16') return `${this.#fromHalf()}(${stored})`;
    if (dtype === 'bfloat16')
      return `${this.bitcast('u32', 'f32')}((${this.dialect.register.u32})${stored} << 16)`;
    if (dtype === 'bool') return lanes === 1 ? `(${stored} != 0)` : `-(${stored} != 0)`;
    return type === 'i32' ? `(${this.dialect.register.i32})${stored}` : stored;
  }

  /** What one register value is stored as. */
  encode(dtype: DType, value: string): string {
    if (dtype === 'float16') return `${this.#toHalf()}(${value})`;
    if (dtype === 'bfloat16') return `${this.#toBfloat()}(${value})`;
    if (dtype === 'bool') return `(${/^[\w[\]]+$/.test(value) ? value : `(${value})`} != 0)`;
    return isStoredWhole(dtype) ? value : `(${this.dialect.stored[dtype]})(${value})`;
  }

  /** Products of bfloat16, on whatever unit this processor has for them. */
  multiplyPairs(): string {
    const { pairs } = this.dialect;
    if (pairs === null) throw internalError('products of pairs on a target without them');
    this.#add('multiply_pairs', () => pairs);
    return 'multiply_pairs';
  }

  /** What has memory fetched. */
  prefetch(): string {
    const { prefetch } = this.dialect;
    if (prefetch === null) throw internalError('prefetches on a target without them');
    return prefetch;
  }

  #fromHalf(): string {
    const toFloat = this.bitcast('u32', 'f32');
    const { half, word } = this.#integers();
    this.#add('from_half', () => {
      // Subnormal halves are multiples of 2^-24, which float32 holds exactly.
      return `static inline float from_half(${half} h) {
  ${word} s = (h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
  if (e == 0) { float r = m * 0x1p-24f; return s ? -r : r; }
  return ${toFloat}(s | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13);
}`;
    });
    return 'from_half';
  }

  #toHalf(): string {
    const toBits = this.bitcast('f32', 'u32');
    const { half, word } = this.#integers();
    const [rint, abs] = [this.dialect.math('rint', 'f32'), this.dialect.math('fabs', 'f32')];
    this.#add('to_half', () => {
      return `static inline ${half} to_half(float f) {
  ${word} x = ${toBits}(f), s = (x >> 16) & 0x8000u, m = x & 0x7fffffffu;
  if (m > 0x7f800000u) return s | 0x7e00u;
  if (m >= 0x477ff000u) return s | 0x7c00u;
  if (m < 0x38800000u) return s | (${word})${rint}(${abs}(f) * 0x1p24f);
  return s | (m - 0x38000000u + 0xfffu + ((m >> 13) & 1u)) >> 13;
}`;
    });
    return 'to_half';
  }

  #toBfloat(): string {
    const toBits = this.bitcast('f32', 'u32');
    const { half, word } = this.#integers();
    this.#add('to_bfloat', () => {
      return `static inline ${half} to_bfloat(float f) {
  ${word} x = ${toBits}(f);
  if ((x & 0x7fffffffu) > 0x7f800000u) return x >> 16 | 0x40u;
  return (x + 0x7fffu + ((x >> 16) & 1u)) >> 16;
}`;
    });
    return 'to_bfloat';
  }

  #integers(): { readonly half: string; readonly word: string } {
    const { stored, register } = this.dialect;
    return { half: stored.float16, word: register.u32 };
  }

  /** Reserves the place after what `make` itself asks for: a type comes before its users. */
  #add(key: string, make: () => string): void {
    if (this.#parts.has(key)) return;
    const text = make();
    if (this.#parts.has(key)) throw internalError(`C helper ${key} needs itself`);
    this.#parts.set(key, text);
  }
}
