// Random kernels: loops, branches, locals and stores over random expressions, all in bounds.
import { Builder } from '../../src/ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../src/ir/expression.ts';
import { branch, type Kernel, type Statement } from '../../src/ir/kernel.ts';

/** Elements of every input. */
export const INPUT_LENGTH = 64;
/** Elements of the output. */
export const OUTPUT_LENGTH = 16384;
/** Elements of the output that one store statement has: more than any index times any stride. */
const REGION = 64;

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export interface RandomOptions {
  /** Use fused multiply-adds. */
  readonly fma?: boolean;
  /** Leave out what makes infinities and NaN of finite numbers: division and square roots. */
  readonly finite?: boolean;
  /** Mark innermost loops for vectorization. */
  readonly vector?: boolean;
}

/** What may be used at one point of a kernel under construction. */
interface Scope {
  readonly indices: readonly Variable[];
  readonly floats: readonly Expression[];
  readonly mutables: readonly Variable[];
}

/** A kernel of two float32 inputs, an int32 input of values below 64, and a float32 output. */
export function randomKernel(seed: number, options: RandomOptions = {}): Kernel {
  return new Generator(seed, options).kernel();
}

class Generator {
  readonly #random: () => number;
  readonly #options: RandomOptions;
  readonly #builder = new Builder();
  readonly #x: readonly Buffer[];
  readonly #k: Buffer;
  readonly #y: Buffer;
  #stores = 0;

  constructor(seed: number, options: RandomOptions) {
    this.#random = randomNumbers(seed);
    this.#options = options;
    const builder = this.#builder;
    this.#x = [builder.buffer('a', 'float32', 'read'), builder.buffer('b', 'float32', 'read')];
    this.#k = builder.buffer('k', 'int32', 'read');
    this.#y = builder.buffer('y', 'float32', 'readwrite');
  }

  kernel(): Kernel {
    const gridIndex = this.#builder.variable('g', 'i32', { min: 0, max: 1 });
    const scope = { indices: [gridIndex], floats: [], mutables: [] };
    return {
      name: 'random',
      buffers: [...this.#x, this.#k, this.#y],
      scratch: [],
      gridIndex,
      gridSize: 2,
      body: this.#block(scope, 3),
    };
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)] as T;
  }

  #block(outer: Scope, depth: number): Statement[] {
    let scope = outer;
    const statements: Statement[] = [];
    const count = 1 + this.#below(4);
    for (let i = 0; i < count; i++) {
      const kind = this.#pick(['let', 'declare', 'assign', 'store', 'store', 'if', 'for', 'for']);
      if (kind === 'let') {
        const value = this.#float(scope, 3);
        const variable = this.#builder.variable('l', 'f32');
        statements.push({ kind, variable, value });
        scope = { ...scope, floats: [...scope.floats, variable] };
      } else if (kind === 'declare') {
        const variable = this.#builder.variable('m', 'f32', { mutable: true });
        statements.push({ kind, variable, value: this.#float(scope, 2) });
        const mutables = [...scope.mutables, variable];
        scope = { ...scope, mutables, floats: [...scope.floats, variable] };
      } else if (kind === 'assign') {
        const variable = scope.mutables.at(-1);
        if (variable === undefined) continue;
        statements.push({ kind, variable, value: this.#float(scope, 3) });
      } else if (kind === 'store') statements.push(this.#store(scope));
      else if (kind === 'if' && depth > 0) {
        const condition = this.#condition(scope);
        const otherwise = this.#random() < 0.5 ? this.#block(scope, depth - 1) : [];
        statements.push(branch(condition, this.#block(scope, depth - 1), otherwise));
      } else if (kind === 'for' && depth > 0) statements.push(this.#for(scope, depth));
    }
    return statements.length > 0 ? statements : [this.#store(scope)];
  }

  #for(scope: Scope, depth: number): Statement {
    const builder = this.#builder;
    const trips = this.#pick([0, 1, 3, 4, 7, 16, 21]);
    const start = this.#below(3);
    const end = start + trips;
    const index = builder.variable('i', 'i32', { min: start, max: Math.max(start, end - 1) });
    const innermost = this.#options.vector === true && this.#random() < 0.7;
    const indices = [...scope.indices, index];
    // What a vector loop assigns must be its own.
    const inner = innermost ? { ...scope, indices, mutables: [] } : { ...scope, indices };
    // A bound that the simplifier cannot see through now and then.
    const limit =
      this.#random() < 0.3 && trips > 0
        ? builder.min(
            builder.constant(end),
            builder.load(this.#k, builder.constant(INPUT_LENGTH - 1)),
          )
        : builder.constant(end);
    return {
      kind: 'for',
      index,
      start: builder.constant(start),
      end: limit,
      step: 1,
      body: this.#block(inner, innermost ? this.#below(2) : depth - 1),
      ...(innermost ? { vector: true } : {}),
    };
  }

  /**
   * Each store has a region of its own, in which every iteration has an element of its own: what a
   * loop marked for vectors promises.
   */
  #store(scope: Scope): Statement {
    const builder = this.#builder;
    if (this.#stores >= OUTPUT_LENGTH / REGION) throw new Error('too many stores for the output');
    const region = builder.constant(this.#stores++ * REGION);
    const inner = scope.indices.at(-1) ?? region;
    const stride = this.#pick([1, 1, 1, 2]);
    const index = builder.add(region, builder.scale(inner, stride));
    return { kind: 'store', buffer: this.#y, index, value: this.#float(scope, 4) };
  }

  /** An index expression within an input. */
  index(scope: Scope, depth: number): Expression {
    const builder = this.#builder;
    const length = builder.constant(INPUT_LENGTH);
    if (depth <= 0) return builder.rem(this.#pick(scope.indices), length);
    switch (this.#below(6)) {
      case 0:
        return builder.rem(
          builder.add(this.index(scope, depth - 1), this.index(scope, depth - 1)),
          length,
        );
      case 1:
        return builder.rem(builder.scale(this.index(scope, depth - 1), this.#below(5)), length);
      case 2:
        return builder.div(this.index(scope, depth - 1), builder.constant(1 + this.#below(5)));
      case 3:
        return builder.min(
          this.index(scope, depth - 1),
          builder.constant(this.#below(INPUT_LENGTH)),
        );
      case 4:
        return builder.load(this.#k, this.index(scope, depth - 1));
      default:
        return this.#pick(scope.indices);
    }
  }

  #condition(scope: Scope): Expression {
    const builder = this.#builder;
    const op = this.#pick(['lt', 'le', 'eq', 'ne', 'gt', 'ge'] as const);
    return this.#random() < 0.5
      ? builder.compare(op, this.index(scope, 2), this.index(scope, 1))
      : builder.compare(op, this.#float(scope, 1), this.#float(scope, 1));
  }

  #float(scope: Scope, depth: number): Expression {
    const builder = this.#builder;
    if (depth <= 0 || this.#random() < 0.1) {
      if (scope.floats.length > 0 && this.#random() < 0.4) return this.#pick(scope.floats);
      if (this.#random() < 0.2) {
        return builder.constant(this.#pick([0, -0, 1, -1.5, 3.25, 1e-3]), 'f32');
      }
      return builder.load(this.#pick(this.#x), this.index(scope, 2));
    }
    const next = (): Expression => this.#float(scope, depth - 1);
    switch (this.#below(9)) {
      case 0:
        return builder.unary(
          this.#pick([
            'neg',
            'abs',
            this.#options.finite === true ? 'abs' : 'sqrt',
            'floor',
            'ceil',
            'trunc',
            'round',
          ]),
          next(),
        );
      case 1:
        return builder.select(this.#condition(scope), next(), next());
      case 2:
        return this.#options.fma === true
          ? builder.fma(next(), next(), next())
          : builder.mul(next(), next());
      case 3:
        return builder.convert(this.index(scope, 2), 'f32');
      case 4:
        return builder.binary(this.#pick(['min', 'max'] as const), next(), next());
      case 5:
        return builder.binary(this.#options.finite === true ? 'sub' : 'div', next(), next());
      default: {
        const shared = next();
        const other = this.#random() < 0.3 ? shared : next();
        return builder.binary(this.#pick(['add', 'sub', 'mul'] as const), shared, other);
      }
    }
  }
}

/** Inputs for a random kernel, with some awkward numbers among them unless they are to be finite. */
export function randomViews(seed: number, finite = false): (Float32Array | Int32Array)[] {
  const random = randomNumbers(seed ^ 0x5bd1e995);
  const floats = (): Float32Array =>
    Float32Array.from({ length: INPUT_LENGTH }, () => {
      const kind = random() + (finite ? 1 : 0);
      if (kind < 0.03) return NaN;
      if (kind < 0.06) return -0;
      if (kind < 0.08) return Infinity;
      return Math.round((random() * 16 - 8) * 8) / 8;
    });
  const small = Int32Array.from({ length: INPUT_LENGTH }, () =>
    Math.floor(random() * INPUT_LENGTH),
  );
  return [floats(), floats(), small, new Float32Array(OUTPUT_LENGTH)];
}
