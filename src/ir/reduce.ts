// Reductions: 16 virtual lanes whatever the target's vectors, so that every target adds up in the
// same order and gives the same bits.
import { internalError } from '../base/errors.ts';
import type { Builder } from './builder.ts';
import { type Expression, operandsOf, type ValueType, type Variable } from './expression.ts';
import { branch, type Statement, type Target } from './kernel.ts';
import { consecutive, LaneRewriter } from './lanes.ts';

/** Partial results that a reduction keeps, whatever the width of the target's vectors. */
export const VIRTUAL_LANES = 16;
/** Vectors that are added to in turn, so that none waits for the one before. */
const INDEPENDENT_VECTORS = 4;
/** Rounds below which more partial results cost more at the end than they save. */
const FEWEST_ROUNDS = 4;

/** A loop that a reduction runs over, from 0 or `start` up to `end`. */
export interface ReductionLoop {
  /** A fresh index variable; `step` uses it. */
  readonly index: Variable;
  readonly start?: Expression;
  readonly end: Expression;
}

export interface Accumulator {
  readonly name: string;
  readonly type: ValueType;
  /** What a lane holds that has seen no element; `combine` must leave the other side as it is. */
  readonly identity: number;
}

export interface Reduction {
  /**
   * From the outermost to the innermost. The innermost should be the one with stride 1: it is the
   * one spread over lanes.
   */
  readonly loops: readonly ReductionLoop[];
  readonly accumulators: readonly Accumulator[];
  /**
   * The accumulators after one element, in scalar terms: pure expressions of the accumulators, the
   * loop indices and loads. Called once, with a scalar variable for each accumulator.
   */
  step(accumulators: readonly Expression[]): readonly Expression[];
  /** Two partial results as one, in scalar terms. `left` has seen the lower lanes. Called once. */
  combine(left: readonly Expression[], right: readonly Expression[]): readonly Expression[];
}

export interface Reduced {
  /** To be put where the results are needed; leaves the variables of `results` in scope. */
  readonly statements: readonly Statement[];
  /** One scalar for each accumulator. */
  readonly results: readonly Expression[];
}

/**
 * A reduction over nested loops. Element `i` of the innermost loop goes to lane `i mod 16`, in order;
 * what is left over goes to lanes 0, 1, ... ; at the end lane `l` is combined with lane `l + 8`, then
 * `l + 4`, `l + 2`, `l + 1`. Every target does exactly these operations, in vectors of its own width,
 * so the result has the same bits everywhere. In fast numerics wide vectors and long loops have
 * more lanes than 16: a few vectors of the target's.
 *
 * @example sketch: inside a lowering
 * const i = builder.variable('i', 'i32', { min: 0, max: length - 1 });
 * const { statements, results } = emitReduction(builder, target, {
 *   loops: [{ index: i, end: builder.constant(length) }],
 *   accumulators: [{ name: 'sum', type: 'f32', identity: 0 }],
 *   step: ([sum]) => [builder.add(sum, builder.load(input, builder.add(row, i)))],
 *   combine: ([a], [b]) => [builder.add(a, b)],
 * });
 */
export function emitReduction(builder: Builder, target: Target, reduction: Reduction): Reduced {
  return new ReductionEmitter(builder, target, reduction).emit();
}

/** The scalar code of `step` or `combine`, and the variables that stand for its accumulators. */
interface Template {
  readonly inputs: readonly (readonly Variable[])[];
  readonly outputs: readonly Expression[];
}

/** The values of all accumulators, for one vector's worth of lanes. */
type Group = readonly Variable[];

class ReductionEmitter {
  readonly #builder: Builder;
  readonly #reduction: Reduction;
  readonly #inner: ReductionLoop;
  readonly #step: Template;
  readonly #combine: Template;
  readonly #lanes: number;
  readonly #virtual: number;
  /** Whether an element may go to any lane. */
  readonly #free: boolean;
  readonly #groups: readonly Group[];

  constructor(builder: Builder, target: Target, reduction: Reduction) {
    this.#builder = builder;
    this.#reduction = reduction;
    const inner = reduction.loops.at(-1);
    if (inner === undefined) throw internalError('a reduction over no loops');
    this.#inner = inner;
    const left = this.#placeholders();
    this.#step = { inputs: [left], outputs: reduction.step(left) };
    const right = this.#placeholders();
    this.#combine = { inputs: [left, right], outputs: reduction.combine(left, right) };
    this.#lanes = lanesFor(target, reduction.accumulators, this.#step.outputs);
    this.#virtual = this.#virtualLanes(target);
    this.#free = target.numerics === 'fast';
    this.#groups = Array.from({ length: this.#virtual / this.#lanes }, () =>
      reduction.accumulators.map(({ name, type }) =>
        builder.variable(name, type, { lanes: this.#lanes, mutable: true }),
      ),
    );
  }

  #virtualLanes({ numerics, vectorRegisters }: Target): number {
    const builder = this.#builder;
    const trips = this.#reduction.loops.map(({ start = builder.constant(0), end }) => {
      const count = builder.sub(end, start);
      return count.kind === 'constant' ? count.value : 1;
    });
    const inner = trips.at(-1) as number;
    const total = trips.reduce((product, count) => product * count, 1);
    if (numerics === 'strict') return VIRTUAL_LANES;
    let lanes = this.#lanes;
    const most = this.#lanes * INDEPENDENT_VECTORS;
    const registers = (width: number): number =>
      (width / this.#lanes) * this.#reduction.accumulators.length;
    while (
      lanes < most &&
      2 * lanes <= inner &&
      2 * lanes * FEWEST_ROUNDS <= total &&
      2 * registers(2 * lanes) <= vectorRegisters
    ) {
      lanes *= 2;
    }
    return Math.max(VIRTUAL_LANES, lanes);
  }

  emit(): Reduced {
    const builder = this.#builder;
    const declared = this.#groups.flatMap((group) =>
      group.map((variable, which): Statement => {
        const { type, identity } = this.#accumulator(which);
        return { kind: 'declare', variable, value: builder.constant(identity, type, this.#lanes) };
      }),
    );
    let body = this.#innermost();
    for (const { index, start = builder.constant(0), end } of this.#reduction.loops
      .slice(0, -1)
      .toReversed()) {
      body = [{ kind: 'for', index, start, end, step: 1, body }];
    }
    const { statements, results } = this.#fold();
    return { statements: [...declared, ...body, ...statements], results };
  }

  #accumulator(which: number): Accumulator {
    const accumulator = this.#reduction.accumulators[which];
    if (accumulator === undefined) throw internalError('step returned too many accumulators');
    return accumulator;
  }

  #placeholders(): Variable[] {
    return this.#reduction.accumulators.map(({ name, type }) => this.#builder.variable(name, type));
  }

  /** The innermost loop: whole rounds, then what is left over. */
  #innermost(): readonly Statement[] {
    const builder = this.#builder;
    const { start = builder.constant(0), end } = this.#inner;
    const trips = builder.max(builder.sub(end, start), builder.constant(0));
    const left = builder.rem(trips, builder.constant(this.#virtual));
    const middle = builder.add(start, builder.sub(trips, left));
    const statements: Statement[] = [];
    if (trips.kind === 'constant' && trips.value === this.#virtual) {
      statements.push(...this.#round(start));
    } else if (trips.kind !== 'constant' || trips.value > this.#virtual) {
      statements.push(this.#rounds(start, middle));
    }
    if (left.kind !== 'constant') {
      const condition = builder.compare('gt', left, builder.constant(0));
      statements.push(branch(condition, this.#dynamicRest(middle, left)));
    } else if (left.value > 0) {
      const long = trips.kind === 'constant' && trips.value >= this.#lanes;
      statements.push(...this.#rest(middle, left.value, this.#free && long));
    }
    return statements;
  }

  #rounds(start: Expression, end: Expression): Statement {
    const { name, min, max } = this.#inner.index;
    const last = Math.min(max, end.max - 1) - this.#virtual + 1;
    const bounds = { min: Math.max(min, start.min), max: last };
    const index = this.#builder.variable(name, 'i32', bounds);
    const body = this.#round(index);
    return { kind: 'for', index, start, end, step: this.#virtual, body };
  }

  /** One element for each lane, from `base`. */
  #round(base: Expression): Statement[] {
    return this.#groups.flatMap((group, which) => {
      const first = this.#builder.offset(base, which * this.#lanes);
      return this.#stepGroup(group, consecutive(this.#builder, first, this.#lanes), true);
    });
  }

  /** The last `count` elements, fewer than lanes. */
  #rest(base: Expression, count: number, overlap: boolean): Statement[] {
    const builder = this.#builder;
    return this.#groups.flatMap((group, which) => {
      const before = which * this.#lanes;
      const valid = Math.min(count - before, this.#lanes);
      if (valid <= 0) return [];
      const first = builder.offset(base, before);
      if (valid === this.#lanes) {
        return this.#stepGroup(group, consecutive(builder, first, this.#lanes), true);
      }
      if (overlap) {
        // The last elements as a whole vector, of which the first lanes have been counted before.
        const done = this.#lanes - valid;
        const mask = builder.lanes(
          Array.from({ length: this.#lanes }, (_, lane) =>
            builder.constant(lane < done ? 0 : 1, 'bool'),
          ),
        );
        const whole = consecutive(builder, builder.offset(first, -done), this.#lanes);
        return this.#stepGroup(group, whole, true, mask);
      }
      // Lanes without an element compute the first one again, and keep what they had.
      const indices = Array.from({ length: this.#lanes }, (_, lane) =>
        lane < valid ? builder.offset(first, lane) : first,
      );
      const mask = builder.lanes(
        indices.map((_, lane) => builder.constant(lane < valid ? 1 : 0, 'bool')),
      );
      return this.#stepGroup(group, indices, false, mask);
    });
  }

  /** The last elements, where their number is only known when the kernel runs. */
  #dynamicRest(base: Expression, count: Expression): Statement[] {
    const builder = this.#builder;
    const last = builder.offset(builder.add(base, count), -1);
    return this.#groups.flatMap((group, which) => {
      const lanes = Array.from({ length: this.#lanes }, (_, lane) => which * this.#lanes + lane);
      const indices = lanes.map((lane) => builder.min(builder.offset(base, lane), last));
      const mask = builder.lanes(
        lanes.map((lane) => builder.compare('gt', count, builder.constant(lane))),
      );
      return this.#stepGroup(group, indices, false, mask);
    });
  }

  #stepGroup(
    group: Group,
    laneIndices: readonly Expression[],
    contiguous: boolean,
    mask?: Expression,
  ): Statement[] {
    const builder = this.#builder;
    const index = this.#inner.index;
    const values = this.#apply(this.#step, [group], { index, laneIndices, contiguous });
    const kept = values.map((value, which) => {
      const old = group[which];
      if (old === undefined) throw internalError('step returned too many accumulators');
      return mask === undefined ? value : builder.select(mask, value, old);
    });
    return this.#assign(group, kept);
  }

  /** Assigns all accumulators at once: each new value may depend on all old ones. */
  #assign(group: Group, values: readonly Expression[]): Statement[] {
    const assign = (variable: Variable, value: Expression): Statement => {
      return { kind: 'assign', variable, value };
    };
    const changes = group.flatMap((variable, which) => {
      const value = values[which];
      if (value === undefined) throw internalError('step returned too few accumulators');
      return value === variable ? [] : [{ variable, value }];
    });
    if (changes.length <= 1) return changes.map(({ variable, value }) => assign(variable, value));
    const named = changes.map(({ variable, value }) => {
      const { type, lanes, name } = variable;
      return { variable, value, next: this.#builder.variable(name, type, { lanes }) };
    });
    return [
      ...named.map(({ next, value }): Statement => ({ kind: 'let', variable: next, value })),
      ...named.map(({ variable, next }) => assign(variable, next)),
    ];
  }

  /** Runs a template's scalar code on vectors. */
  #apply(
    template: Template,
    inputs: readonly (readonly Expression[])[],
    place?: {
      readonly index: Variable;
      readonly laneIndices: readonly Expression[];
      readonly contiguous: boolean;
    },
  ): readonly Expression[] {
    const lanes = inputs[0]?.[0]?.lanes ?? 1;
    const varying = new Map<Variable, Expression>();
    template.inputs.forEach((variables, side) =>
      variables.forEach((variable, which) => {
        const value = inputs[side]?.[which];
        if (value !== undefined) varying.set(variable, value);
      }),
    );
    // A fold has no index: any variable that does not occur will do.
    const index = place?.index ?? this.#inner.index;
    const laneIndices = place?.laneIndices ?? Array.from({ length: lanes }, () => index);
    const contiguous = place?.contiguous === true;
    const uniform = new Map<Variable, Expression>();
    const mapping = { lanes, index, laneIndices, contiguous, varying, uniform };
    const rewriter = new LaneRewriter(this.#builder, mapping);
    return template.outputs.map((output) => rewriter.vector(output));
  }

  /** Combines lane l with l + 8, then + 4, + 2, + 1: vectors while there are any, then scalars. */
  #fold(): Reduced {
    const statements: Statement[] = [];
    const bind = (values: readonly Expression[]): readonly Expression[] =>
      values.map((value, which) => {
        const { name, type } = this.#accumulator(which);
        const variable = this.#builder.variable(name, type, { lanes: value.lanes });
        statements.push({ kind: 'let', variable, value });
        return variable;
      });
    let parts: readonly (readonly Expression[])[] = this.#groups;
    while (parts.length > 1 || (parts[0]?.[0]?.lanes ?? 1) > 1) {
      if (parts.length === 1) parts = this.#halves(parts[0] ?? []);
      const half = parts.length / 2;
      const previous = parts;
      parts = parts
        .slice(0, half)
        .map((left, which) =>
          bind(this.#apply(this.#combine, [left, previous[which + half] ?? []])),
        );
    }
    return { statements, results: parts[0] ?? [] };
  }

  /** One vector as two of half the lanes, or as scalars where halves would be too narrow. */
  #halves(vectors: readonly Expression[]): readonly (readonly Expression[])[] {
    const lanes = vectors[0]?.lanes ?? 1;
    const width = lanes > 4 ? lanes / 2 : 1;
    return Array.from({ length: lanes / width }, (_, part) =>
      vectors.map((vector) => {
        const scalars = Array.from({ length: width }, (__, lane) =>
          this.#builder.extract(vector, part * width + lane),
        );
        return this.#builder.lanes(scalars);
      }),
    );
  }
}

/** Lanes of the vectors to use: all values 32 bits wide, or all 64, or else scalars. */
function lanesFor(
  target: Target,
  accumulators: readonly Accumulator[],
  outputs: readonly Expression[],
): number {
  const types = new Set<ValueType>(accumulators.map(({ type }) => type));
  const seen = new Set<Expression>();
  const note = (value: Expression): void => {
    if (seen.has(value)) return;
    seen.add(value);
    // A comparison's mask is as wide as what it compares; a loaded bool is not.
    if (value.type !== 'bool' || value.kind === 'load') types.add(value.type);
    if (value.kind !== 'load') operandsOf(value).forEach(note);
  };
  outputs.forEach(note);
  if (!types.has('f64')) return Math.max(1, target.vectorBytes / 4);
  return types.size === 1 ? Math.max(1, target.vectorBytes / 8) : 1;
}
