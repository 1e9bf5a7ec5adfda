// Turns scalar expressions of a loop index into vectors over consecutive iterations.
import { byteSize } from '../base/dtype.ts';
import { internalError } from '../base/errors.ts';
import type { Builder } from './builder.ts';
import { type Buffer, type Expression, operandsOf, type Variable } from './expression.ts';
import { coefficientOf } from './linear.ts';
import { rebuild, substitute } from './rewrite.ts';

/** How scalar code of one iteration becomes vector code of several. */
export interface LaneMapping {
  readonly lanes: number;
  /** The index of the scalar loop. */
  readonly index: Variable;
  /** What the index is in each lane. */
  readonly laneIndices: readonly Expression[];
  /** Whether the lanes' indices follow one another without gaps. */
  readonly contiguous: boolean;
  /** Vectors that stand for variables that differ between iterations. */
  readonly varying: ReadonlyMap<Variable, Expression>;
  /** New names of variables that are the same in all iterations. */
  readonly uniform: ReadonlyMap<Variable, Expression>;
}

/** `lanes` consecutive indices from `base`. */
export function consecutive(builder: Builder, base: Expression, lanes: number): Expression[] {
  return Array.from({ length: lanes }, (_, lane) => builder.offset(base, lane));
}

/**
 * Rewrites expressions under one mapping. Loads at consecutive addresses become vector loads, loads
 * that do not move become splats, all others are gathered lane by lane. Integer division, and shifts
 * by amounts that differ between lanes, are done lane by lane: vector units have neither.
 */
export class LaneRewriter {
  readonly #builder: Builder;
  readonly #mapping: LaneMapping;
  readonly #vectors = new Map<Expression, Expression>();
  readonly #uniforms: Map<Expression, Expression>;
  readonly #laneMemos: Map<Expression, Expression>[];
  readonly #moving = new Map<Expression, Motion>();

  constructor(builder: Builder, mapping: LaneMapping) {
    this.#builder = builder;
    this.#mapping = mapping;
    this.#uniforms = new Map<Expression, Expression>(mapping.uniform);
    this.#laneMemos = mapping.laneIndices.map(
      (value) => new Map<Expression, Expression>([...mapping.uniform, [mapping.index, value]]),
    );
  }

  /** Whether the expression differs between iterations. */
  varies(expression: Expression): boolean {
    return this.#motion(expression) !== 'still';
  }

  /** The scalar that all lanes share. */
  uniform(expression: Expression): Expression {
    return substitute(this.#builder, expression, this.#uniforms);
  }

  /** The vector of the values in all lanes. */
  vector(expression: Expression): Expression {
    const { lanes } = this.#mapping;
    if (!this.varies(expression)) return this.#builder.splat(this.uniform(expression), lanes);
    const known = this.#vectors.get(expression);
    if (known !== undefined) return known;
    const made = this.#vector(expression);
    this.#vectors.set(expression, made);
    return made;
  }

  /** The scalars of an index expression, one for each lane. */
  indices(expression: Expression): Expression[] {
    if (this.#motion(expression) === 'computed') {
      const vector = this.vector(expression);
      return this.#each((lane) => this.#builder.extract(vector, lane));
    }
    return this.#each((lane) => this.#inLane(expression, lane));
  }

  /** How far an index expression moves from one lane to the next, where that is a constant. */
  stride(expression: Expression): number | undefined {
    const motion = this.#motion(expression);
    if (motion === 'still') return 0;
    if (motion === 'computed' || !this.#mapping.contiguous) return undefined;
    return coefficientOf(expression, this.#mapping.index);
  }

  #each(make: (lane: number) => Expression): Expression[] {
    return Array.from({ length: this.#mapping.lanes }, (_, lane) => make(lane));
  }

  /** The value in one lane of an expression of the index alone. */
  #inLane(expression: Expression, lane: number): Expression {
    const memo = this.#laneMemos[lane];
    if (memo === undefined) throw internalError(`no lane ${lane}`);
    return substitute(this.#builder, expression, memo);
  }

  #motion(expression: Expression): Motion {
    const known = this.#moving.get(expression);
    if (known !== undefined) return known;
    let motion: Motion = 'still';
    if (expression === this.#mapping.index) motion = 'index';
    else if (expression.kind === 'variable') {
      motion = this.#mapping.varying.has(expression) ? 'computed' : 'still';
    } else {
      for (const operand of operandsOf(expression)) {
        const inner = this.#motion(operand);
        if (inner === 'computed' || (inner === 'index' && expression.kind === 'load')) {
          motion = 'computed';
        } else if (inner === 'index' && motion === 'still') motion = 'index';
      }
      // Only index arithmetic is worth repeating for each lane.
      if (motion === 'index' && expression.type !== 'i32' && expression.type !== 'bool') {
        motion = 'computed';
      }
    }
    this.#moving.set(expression, motion);
    return motion;
  }

  #vector(expression: Expression): Expression {
    const builder = this.#builder;
    if (expression.type === 'i32') {
      const stride = this.stride(expression);
      if (stride !== undefined) return this.#progression(expression, stride);
    }
    switch (expression.kind) {
      case 'variable': {
        const vector = this.#mapping.varying.get(expression);
        return vector ?? builder.lanes(this.indices(expression));
      }
      case 'load':
        return this.#load(expression);
      case 'binary':
        if (expression.type === 'i32' || expression.type === 'u32') {
          if (expression.op === 'div' || expression.op === 'rem') return this.#perLane(expression);
          const shift = expression.op === 'shl' || expression.op === 'shr';
          if (shift && this.varies(expression.right)) return this.#perLane(expression);
        }
        return this.#whole(expression);
      case 'unary':
      case 'select':
      case 'fma':
      case 'convert':
      case 'bitcast':
        return this.#whole(expression);
      case 'constant':
      case 'splat':
      case 'lanes':
      case 'extract':
        throw internalError(`${expression.kind} in a loop that is to be vectorized`);
      default:
        expression satisfies never;
        throw internalError('unknown expression');
    }
  }

  #whole(expression: Expression): Expression {
    const operands = operandsOf(expression).map((operand) => this.vector(operand));
    return rebuild(this.#builder, expression, operands);
  }

  #perLane(expression: Expression): Expression {
    if (this.#motion(expression) === 'index') {
      return this.#builder.lanes(this.indices(expression));
    }
    const operands = operandsOf(expression).map((operand) => this.vector(operand));
    const scalars = this.#each((lane) => {
      const inLane = operands.map((operand) => this.#builder.extract(operand, lane));
      return rebuild(this.#builder, expression, inLane);
    });
    return this.#builder.lanes(scalars);
  }

  /** `first, first + stride, first + 2 * stride, ...`. */
  #progression(expression: Expression, stride: number): Expression {
    const builder = this.#builder;
    const first = builder.splat(this.#inLane(expression, 0), this.#mapping.lanes);
    const steps = this.#each((lane) => builder.constant(lane * stride));
    return builder.add(first, builder.lanes(steps));
  }

  #load(expression: Expression & { kind: 'load' }): Expression {
    const { buffer, index } = expression;
    if (this.stride(index) === 1) {
      return this.#builder.load(buffer, this.#inLane(index, 0), this.#mapping.lanes);
    }
    if (this.stride(index) === 2 && this.#mapping.lanes % 4 === 0 && byteSize(buffer.dtype) === 4) {
      return this.#everySecond(buffer, this.#inLane(index, 0));
    }
    const addresses = this.indices(index);
    return this.#builder.lanes(addresses.map((address) => this.#builder.load(buffer, address)));
  }

  /**
   * Elements first, first + 2, ... from two whole vectors: the second begins one early, so that
   * nothing behind the last element is read. Renderers turn the choice of lanes into a shuffle.
   */
  #everySecond(buffer: Buffer, first: Expression): Expression {
    const builder = this.#builder;
    const { lanes } = this.#mapping;
    const low = builder.load(buffer, first, lanes);
    const high = builder.load(buffer, builder.offset(first, lanes - 1), lanes);
    const half = lanes / 2;
    return builder.lanes(
      this.#each((lane) =>
        lane < half ? builder.extract(low, 2 * lane) : builder.extract(high, 2 * (lane - half) + 1),
      ),
    );
  }
}

/** Not changing between lanes, index arithmetic that can be done for each lane, or anything else. */
type Motion = 'still' | 'index' | 'computed';
