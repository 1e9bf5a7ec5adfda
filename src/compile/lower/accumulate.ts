// The running values of reductions: serial or spread over lanes, and chained so that no sum is the
// end of a very long row of roundings.
import type { Builder } from '../../ir/builder.ts';
import type { Expression, ValueType, Variable } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import { emitReduction, VIRTUAL_LANES } from '../../ir/reduce.ts';
import type { Axis } from './axes.ts';
import { unflatten } from './indexing.ts';

/** Elements that are added up one after another before partial sums are: bounds rounding errors. */
const CHAIN = 1024;

/** A loop over a reduced axis, from `start` to `end`. */
export interface ReducedLoop {
  readonly index: Variable;
  readonly size: number;
  readonly start: Expression;
  readonly end: Expression;
  /** What stands for the axis's variables. */
  readonly replaced: readonly (readonly [Variable, Expression])[];
}

/** A loop for each axis, outer to inner. */
export function reductionLoops(builder: Builder, axes: readonly Axis[]): ReducedLoop[] {
  return axes.map(({ variables, size, joined }) => {
    const index = builder.variable('r', 'i32', { min: 0, max: size - 1 });
    const sizes = variables.map(({ max }) => max + 1);
    const apart = joined ? null : unflatten(builder, index, sizes);
    const last = variables.length - 1;
    return {
      index,
      size,
      start: builder.constant(0),
      end: builder.constant(size),
      replaced: variables.map((variable, i) => {
        const alone = i === last ? index : builder.constant(0);
        return [variable, apart === null ? alone : (apart[i] as Expression)] as const;
      }),
    };
  });
}

/** Statements, and the values that they leave. */
export interface Partial {
  readonly statements: readonly Statement[];
  readonly results: readonly Expression[];
}

export interface NamedAccumulator {
  readonly name: string;
  readonly type: ValueType;
  readonly identity: number;
}

/**
 * Runs inner loops of about CHAIN elements by `run` and combines their results one after another,
 * so that no value is the end of a very long chain of roundings.
 */
export function chained(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  run: (inner: readonly ReducedLoop[]) => Partial,
  combine: (a: readonly Expression[], b: readonly Expression[]) => readonly Expression[],
): Partial {
  let first = loops.length;
  let size = 1;
  while (first > 0 && size < CHAIN) size *= (loops[--first] as ReducedLoop).size;
  const total = loops.reduce((product, loop) => product * loop.size, 1);
  if (total <= 2 * CHAIN) return run(loops);
  const outer = loops.slice(0, first);
  const inner = loops.slice(first);
  const cut = inner[0];
  // The outermost of the inner loops is itself too long: run it in pieces.
  if (cut !== undefined && size > 2 * CHAIN) {
    const rest = inner.slice(1).reduce((product, loop) => product * loop.size, 1);
    const piece = Math.max(VIRTUAL_LANES, Math.ceil(CHAIN / rest / VIRTUAL_LANES) * VIRTUAL_LANES);
    if (piece * 2 <= cut.size) {
      const start = builder.variable('r', 'i32', { min: 0, max: cut.index.max });
      const end = builder.min(builder.offset(start, piece), cut.end);
      const part = run([{ ...cut, start, end }, ...inner.slice(1)]);
      const { declared, joined, results } = joining(builder, accumulators, part, combine);
      const loop: Statement = {
        kind: 'for',
        index: start,
        start: cut.start,
        end: cut.end,
        step: piece,
        body: joined,
      };
      return { statements: [...declared, ...nested(outer, [loop])], results };
    }
  }
  if (outer.length === 0) return run(loops);
  const { declared, joined, results } = joining(builder, accumulators, run(inner), combine);
  return { statements: [...declared, ...nested(outer, joined)], results };
}

/** Totals that a partial result is joined to each time its statements run. */
function joining(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  part: Partial,
  combine: (a: readonly Expression[], b: readonly Expression[]) => readonly Expression[],
): { declared: Statement[]; joined: Statement[]; results: readonly Expression[] } {
  const totals = accumulators.map(({ name, type }) =>
    builder.variable(`${name}_total`, type, { mutable: true }),
  );
  const declared = accumulators.map(({ type, identity }, which): Statement => ({
    kind: 'declare',
    variable: totals[which] as Variable,
    value: builder.constant(identity, type),
  }));
  const joined = [...part.statements, ...assignAll(builder, totals, combine(totals, part.results))];
  return { declared, joined, results: totals };
}

/** Assigns all variables at once: new values may depend on any old one. */
function assignAll(
  builder: Builder,
  variables: readonly Variable[],
  values: readonly Expression[],
): Statement[] {
  if (variables.length === 1) {
    return [{ kind: 'assign', variable: variables[0] as Variable, value: values[0] as Expression }];
  }
  const named = variables.map((variable, which) => ({
    variable,
    value: values[which] as Expression,
    next: builder.variable(variable.name, variable.type),
  }));
  return [
    ...named.map(({ next, value }): Statement => ({ kind: 'let', variable: next, value })),
    ...named.map(({ variable, next }): Statement => ({ kind: 'assign', variable, value: next })),
  ];
}

function nested(loops: readonly ReducedLoop[], body: readonly Statement[]): readonly Statement[] {
  let result = body;
  for (let i = loops.length - 1; i >= 0; i--) {
    const { index, start, end } = loops[i] as ReducedLoop;
    result = [{ kind: 'for', index, start, end, step: 1, body: result }];
  }
  return result;
}

/** One running value for each accumulator, element after element. */
export function serialLoops(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  step: (running: readonly Expression[]) => readonly Expression[],
): Partial {
  const running = accumulators.map(({ name, type }) =>
    builder.variable(name, type, { mutable: true }),
  );
  const declared = accumulators.map(({ type, identity }, which): Statement => ({
    kind: 'declare',
    variable: running[which] as Variable,
    value: builder.constant(identity, type),
  }));
  const body = assignAll(builder, running, step(running));
  return { statements: [...declared, ...nested(loops, body)], results: running };
}

/** 16 running values for each accumulator along the innermost loop, combined at the end. */
export function laneLoops(
  target: Target,
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  code: {
    step(running: readonly Expression[]): readonly Expression[];
    combine(a: readonly Expression[], b: readonly Expression[]): readonly Expression[];
  },
): Partial {
  return emitReduction(builder, target, {
    loops: loops.map(({ index, start, end }) => ({ index, start, end })),
    accumulators,
    step: code.step,
    combine: code.combine,
  });
}
