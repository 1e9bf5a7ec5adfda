// Widens vector loops around reductions: several vectors of neighbouring columns side by side, so
// that a cache line that was fetched for one of them is used up by the others.
import { internalError } from '../../base/errors.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { For, Statement, Target } from '../../ir/kernel.ts';
import { mapExpressions, substitute } from '../../ir/rewrite.ts';
import { vectorizeStatements } from '../../ir/vectorize.ts';
import { forEachExpression } from '../../ir/walk.ts';

/** Columns side by side at least: a cache line of float32. */
export const JAM_WIDTH = 16;

/** Columns side by side at most, for `accumulators` running values: half of the registers. */
export function widestJam(target: Target, accumulators: number): number {
  const vectors = Math.max(1, target.vectorRegisters / 2 / Math.max(1, accumulators));
  const lanes = target.vectorBytes / 4;
  return Math.max(JAM_WIDTH, lanes * 2 ** Math.floor(Math.log2(vectors)));
}

/** Every `vector` loop that contains loops takes many iterations at a time, where possible. */
export function jamColumns(
  builder: Builder,
  target: Target,
  statements: readonly Statement[],
): readonly Statement[] {
  return statements.flatMap((statement): readonly Statement[] => {
    if (statement.kind !== 'for') return [statement];
    if (statement.vector === true) return jamLoop(builder, target, statement);
    return [{ ...statement, body: jamColumns(builder, target, statement.body) }];
  });
}

/** The widest loop that fits, one of a cache line for what it leaves over, and single vectors. */
function jamLoop(builder: Builder, target: Target, loop: For): readonly Statement[] {
  const { start, end, body } = loop;
  if (!body.some(({ kind }) => kind === 'for')) return [loop];
  const trips = builder.max(builder.sub(end, start), builder.constant(0));
  let width = widestJam(target, accumulatorsIn(body));
  while (width > trips.max && width > JAM_WIDTH) width /= 2;
  const result: Statement[] = [];
  let rest = loop;
  for (const columns of width > JAM_WIDTH ? [width, JAM_WIDTH] : [JAM_WIDTH]) {
    const jammed = jamBy(builder, target, rest, columns);
    if (jammed === undefined) continue;
    result.push(jammed.wide);
    if (jammed.rest === undefined) return result;
    rest = jammed.rest;
  }
  return [...result, rest];
}

/** Running values of the innermost loops. */
function accumulatorsIn(statements: readonly Statement[]): number {
  const loops = statements.filter((statement): statement is For => statement.kind === 'for');
  const inner = loops.filter(({ body }) => body.some(({ kind }) => kind === 'for'));
  if (inner.length > 0) return Math.max(...inner.map(({ body }) => accumulatorsIn(body)));
  return statements.filter(({ kind }) => kind === 'declare').length;
}

/** The loop with `columns` iterations at a time, and the loop over those that are left over. */
function jamBy(
  builder: Builder,
  target: Target,
  loop: For,
  columns: number,
): { readonly wide: For; readonly rest: For | undefined } | undefined {
  const { index, start, end, body } = loop;
  const lanes = target.vectorBytes / (usesDouble(body) ? 8 : 4);
  if (lanes < 2 || lanes >= columns) return undefined;
  const trips = builder.max(builder.sub(end, start), builder.constant(0));
  const whole = builder.sub(trips, builder.rem(trips, builder.constant(columns)));
  if (whole.kind === 'constant' && whole.value === 0) return undefined;
  const middle = builder.add(start, whole);
  const bounds = { min: index.min, max: index.max - columns + 1 };
  const base = builder.variable(index.name, 'i32', bounds);
  let jammed: readonly Statement[] | undefined;
  for (let offset = 0; offset < columns; offset += lanes) {
    const vectors = vectorizeStatements(builder, body, {
      index,
      base: builder.offset(base, offset),
      lanes,
      given: new Map(),
    });
    if (vectors === undefined) return undefined;
    jammed = jammed === undefined ? vectors : merge(builder, jammed, vectors);
  }
  if (jammed === undefined) return undefined;
  const wide: For = { kind: 'for', index: base, start, end: middle, step: columns, body: jammed };
  return { wide, rest: middle === end ? undefined : { ...loop, start: middle } };
}

function usesDouble(statements: readonly Statement[]): boolean {
  let found = false;
  forEachExpression(statements, ({ type }) => {
    found ||= type === 'f64';
  });
  return found;
}

/** Two versions of the same code, run side by side: their loops become one. */
function merge(
  builder: Builder,
  first: readonly Statement[],
  second: readonly Statement[],
): readonly Statement[] {
  const loops = second.filter((statement): statement is For => statement.kind === 'for');
  const result: Statement[] = [];
  let position = 0;
  for (const statement of first) {
    if (statement.kind !== 'for') {
      result.push(statement);
      continue;
    }
    // What stands between the loops of one version stays between them in both.
    while (position < second.length && second[position]?.kind !== 'for') {
      result.push(second[position++] as Statement);
    }
    const other = second[position++] as For | undefined;
    if (other === undefined || other.start !== statement.start || other.end !== statement.end) {
      throw internalError('loops that do not run alike are not merged');
    }
    const renamed = new Map<Expression, Expression>([[other.index, statement.index]]);
    const body = mapExpressions(other.body, (value) => substitute(builder, value, renamed));
    result.push({ ...statement, body: merge(builder, statement.body, body) });
    loops.shift();
  }
  if (loops.length > 0) throw internalError('versions of a loop differ');
  result.push(...second.slice(position));
  return result;
}
