// Turns loops marked `vector` into loops over vectors, with narrower vectors and scalars for the
// iterations that are left over.
import type { Builder } from './builder.ts';
import { byteSize } from '../base/dtype.ts';
import { type Buffer, type Expression, operandsOf, type Variable } from './expression.ts';
import {
  branch,
  type For,
  type Kernel,
  type Statement,
  type Store,
  type Target,
} from './kernel.ts';
import { consecutive, LaneRewriter } from './lanes.ts';
import { mapExpressions, substitute } from './rewrite.ts';
import { forEachExpression, forEachStatement, nestedOf } from './walk.ts';

/** Below this many lanes of 32 bits a vector is not worth its gathers. */
const FEWEST_LANES = 4;

/**
 * Vectorizes every innermost loop marked `vector`. A marked loop stays scalar if it
 * - assigns to a variable declared outside (reductions are `emitReduction`'s business),
 * - branches, or bounds an inner loop, by what differs between its iterations,
 * - stores at an address that does not move with the index,
 * - mixes float64 with other vectors, or holds vectors already.
 */
export function vectorize(kernel: Kernel, target: Target, builder: Builder): Kernel {
  return { ...kernel, body: new Vectorizer(target, builder).block(kernel.body) };
}

/**
 * Statements of one iteration as statements of `lanes` consecutive ones, which start at `base`.
 *
 * @param given vectors that stand for variables that the statements read but do not declare.
 * @returns undefined if the statements are not for vectors: the reasons are those of `vectorize`.
 */
export function vectorizeStatements(
  builder: Builder,
  statements: readonly Statement[],
  place: {
    readonly index: Variable;
    readonly base: Expression;
    readonly lanes: number;
    readonly given: ReadonlyMap<Variable, Expression>;
  },
): readonly Statement[] | undefined {
  const { index, base, lanes, given } = place;
  const body = inlineIndices(builder, statements);
  try {
    return new LoopBody(builder, { index, body }, base, lanes, given).statements();
  } catch (error) {
    if (error instanceof NotVectorizable) return undefined;
    throw error;
  }
}

/** Thrown inside, caught inside: this loop is not for vectors. */
class NotVectorizable extends Error {
  override name = 'NotVectorizable';
}

class Vectorizer {
  readonly #target: Target;
  readonly #builder: Builder;

  constructor(target: Target, builder: Builder) {
    this.#target = target;
    this.#builder = builder;
  }

  block(statements: readonly Statement[]): readonly Statement[] {
    let changed = false;
    const result = statements.flatMap((statement) => {
      const made = this.#statement(statement);
      changed ||= made.length !== 1 || made[0] !== statement;
      return made;
    });
    return changed ? result : statements;
  }

  #statement(statement: Statement): readonly Statement[] {
    if (statement.kind === 'if') {
      const then = this.block(statement.then);
      const otherwise = this.block(statement.otherwise);
      const same = then === statement.then && otherwise === statement.otherwise;
      return [same ? statement : branch(statement.condition, then, otherwise)];
    }
    if (statement.kind !== 'for') return [statement];
    const body = this.block(statement.body);
    if (statement.vector !== true)
      return [body === statement.body ? statement : { ...statement, body }];
    const { vector: _, repeatable: __, ...plain } = statement;
    const loop: For = { ...plain, body: inlineIndices(this.#builder, body) };
    return this.#split(loop, statement.repeatable === true) ?? [loop];
  }

  #split(loop: For, repeatable: boolean): readonly Statement[] | undefined {
    const double = usesDouble(loop.body);
    const lanes = this.#target.vectorBytes / (double ? 8 : 4);
    if (lanes < 2 || loop.step !== 1 || holdsVectors(loop.body)) return undefined;
    try {
      const trips = this.#builder.sub(loop.end, loop.start);
      return trips.kind === 'constant'
        ? this.#splitConstant(loop, trips.value, {
            widest: lanes,
            narrowest: double ? lanes : Math.min(FEWEST_LANES, lanes),
            repeatable,
          })
        : this.#splitDynamic(loop, trips, lanes);
    } catch (error) {
      if (error instanceof NotVectorizable) return undefined;
      throw error;
    }
  }

  /**
   * Full vectors, then at most one of each narrower width, then scalars: or, where iterations may run
   * twice, one more vector that ends where the loop does.
   */
  #splitConstant(
    loop: For,
    trips: number,
    widths: { readonly widest: number; readonly narrowest: number; readonly repeatable: boolean },
  ): readonly Statement[] | undefined {
    const { widest, narrowest, repeatable } = widths;
    if (trips < narrowest) return undefined;
    const builder = this.#builder;
    const result: Statement[] = [];
    let done = 0;
    for (let lanes = widest; lanes >= narrowest && done < trips; lanes /= 2) {
      const times = Math.floor((trips - done) / lanes);
      const from = builder.offset(loop.start, done);
      const to = builder.offset(loop.start, done + times * lanes);
      if (times === 1) result.push(...new LoopBody(builder, loop, from, lanes).statements());
      if (times > 1) result.push(this.#vectorLoop(loop, from, to, lanes));
      done += times * lanes;
      const rest = trips - done;
      if (repeatable && done > 0 && rest > 0) {
        let enough = narrowest;
        while (enough < rest) enough *= 2;
        const last = builder.offset(loop.start, trips - enough);
        return [...result, ...new LoopBody(builder, loop, last, enough).statements()];
      }
    }
    if (done < trips) result.push({ ...loop, start: builder.offset(loop.start, done) });
    return result;
  }

  #splitDynamic(loop: For, trips: Expression, lanes: number): readonly Statement[] {
    const builder = this.#builder;
    const positive = builder.max(trips, builder.constant(0));
    const rest = builder.rem(positive, builder.constant(lanes));
    const middle = builder.add(loop.start, builder.sub(positive, rest));
    return [this.#vectorLoop(loop, loop.start, middle, lanes), { ...loop, start: middle }];
  }

  #vectorLoop(loop: For, start: Expression, end: Expression, lanes: number): For {
    const { name, min, max } = loop.index;
    const bounds = { min: Math.max(min, start.min), max: Math.min(max, end.max) - lanes + 1 };
    if (end.max <= max) bounds.max = end.max - lanes;
    const index = this.#builder.variable(name, 'i32', bounds);
    const body = new LoopBody(this.#builder, loop, index, lanes).statements();
    return { kind: 'for', index, start, end, step: lanes, body };
  }
}

/** The body of one loop for `lanes` consecutive iterations from `base`. */
class LoopBody {
  readonly #builder: Builder;
  readonly #loop: Pick<For, 'index' | 'body'>;
  readonly #lanes: number;
  readonly #given: ReadonlyMap<Variable, Expression>;
  readonly #varying = new Map<Variable, Variable>();
  readonly #uniform = new Map<Variable, Expression>();
  readonly #rewriter: LaneRewriter;

  constructor(
    builder: Builder,
    loop: Pick<For, 'index' | 'body'>,
    base: Expression,
    lanes: number,
    given: ReadonlyMap<Variable, Expression> = new Map(),
  ) {
    this.#builder = builder;
    this.#loop = loop;
    this.#lanes = lanes;
    this.#given = given;
    this.#nameVariables();
    this.#rewriter = new LaneRewriter(builder, {
      lanes,
      index: loop.index,
      laneIndices: consecutive(builder, base, lanes),
      contiguous: true,
      varying: new Map<Variable, Expression>([...given, ...this.#varying]),
      uniform: this.#uniform,
    });
  }

  statements(): readonly Statement[] {
    const result = this.#block(this.#loop.body);
    if (usesDouble(result)) {
      forEachExpression(result, requireDouble);
      forEachStatement(result, (statement) => {
        // Masks of doubles are as wide as doubles; stored bools are not.
        if (statement.kind === 'store' && statement.value.type !== 'f64') {
          if (statement.value.lanes > 1) throw new NotVectorizable();
        }
      });
    }
    return result;
  }

  /** Gives every variable of the body a new one: a vector where iterations differ in it. */
  #nameVariables(): void {
    const builder = this.#builder;
    const declared = new Map<Variable, Expression[]>();
    const note = (statements: readonly Statement[]): void => {
      for (const statement of statements) {
        if (statement.kind === 'for')
          declared.set(statement.index, [statement.start, statement.end]);
        if (statement.kind === 'let' || statement.kind === 'declare') {
          declared.set(statement.variable, [statement.value]);
        }
        if (statement.kind === 'assign') {
          const values = declared.get(statement.variable);
          if (values === undefined) throw new NotVectorizable();
          values.push(statement.value);
        }
        nestedOf(statement).forEach(note);
      }
    };
    note(this.#loop.body);
    const varying = varyingVariables([this.#loop.index, ...this.#given.keys()], declared);
    for (const variable of declared.keys()) {
      const { name, type, mutable, min, max } = variable;
      if (varying.has(variable)) {
        const lanes = this.#lanes;
        this.#varying.set(variable, builder.variable(name, type, { mutable, lanes }));
      } else this.#uniform.set(variable, builder.variable(name, type, { mutable, min, max }));
    }
  }

  #renamed(variable: Variable): Variable {
    const uniform = this.#uniform.get(variable);
    if (uniform?.kind === 'variable') return uniform;
    throw new NotVectorizable();
  }

  #still(expression: Expression): Expression {
    if (this.#rewriter.varies(expression)) throw new NotVectorizable();
    return this.#rewriter.uniform(expression);
  }

  #block(statements: readonly Statement[]): readonly Statement[] {
    const waiting = new Map<Statement, Store>();
    return statements.flatMap((statement, position) => {
      if (statement.kind === 'store') {
        const first = waiting.get(statement);
        if (first !== undefined) return this.#interleaved(first, statement);
        const partner = this.#partnerOf(statement, statements.slice(position + 1));
        if (partner !== undefined && !waiting.has(partner)) {
          waiting.set(partner, statement);
          return [];
        }
      }
      return this.#statement(statement);
    });
  }

  /** The store that fills the gaps which a store of every second element leaves, if one follows. */
  #partnerOf(first: Store, following: readonly Statement[]): Store | undefined {
    const { buffer, index, value } = first;
    const whole = byteSize(buffer.dtype) === (value.type === 'f64' ? 8 : 4);
    if (!whole || value.type === 'bool' || this.#rewriter.stride(index) !== 2) return undefined;
    for (const statement of following) {
      if (statement.kind === 'let') {
        if (loadsFrom(statement.value, buffer)) return undefined;
      } else if (statement.kind !== 'store' || loadsFrom(statement.value, buffer)) return undefined;
      else if (statement.buffer === buffer) {
        const apart = this.#builder.sub(statement.index, index);
        return apart.kind === 'constant' && Math.abs(apart.value) === 1 ? statement : undefined;
      } else if (loadsFrom(value, statement.buffer)) return undefined;
    }
    return undefined;
  }

  /** Two stores of every second element as two whole vectors. */
  #interleaved(first: Store, second: Store): Statement[] {
    const builder = this.#builder;
    const { buffer } = first;
    const apart = builder.sub(second.index, first.index);
    const forward = apart.kind === 'constant' && apart.value === 1;
    const [even, odd] = forward ? [first, second] : [second, first];
    const values = [even, odd].map(({ value }) => this.#rewriter.vector(value));
    const start = this.#rewriter.indices(even.index)[0] ?? even.index;
    return [0, 1].map((part): Statement => {
      const lanes = Array.from({ length: this.#lanes }, (_, lane) => {
        const place = part * this.#lanes + lane;
        return builder.extract(values[place % 2] as Expression, place >> 1);
      });
      const index = builder.offset(start, part * this.#lanes);
      return { kind: 'store', buffer, index, value: builder.lanes(lanes) };
    });
  }

  #statement(statement: Statement): Statement[] {
    switch (statement.kind) {
      case 'let':
      case 'declare':
      case 'assign': {
        const { kind, variable, value } = statement;
        const vector = this.#varying.get(variable);
        if (vector !== undefined) {
          return [{ kind, variable: vector, value: this.#rewriter.vector(value) }];
        }
        return [{ kind, variable: this.#renamed(variable), value: this.#still(value) }];
      }
      case 'store':
        return this.#store(statement);
      case 'for': {
        const index = this.#renamed(statement.index);
        const start = this.#still(statement.start);
        const end = this.#still(statement.end);
        return [{ ...statement, index, start, end, body: this.#block(statement.body) }];
      }
      case 'if':
        return [
          branch(
            this.#still(statement.condition),
            this.#block(statement.then),
            this.#block(statement.otherwise),
          ),
        ];
      case 'multiplyPairs':
      case 'prefetch':
      case 'barrier':
        throw new NotVectorizable();
      default:
        statement satisfies never;
        return [];
    }
  }

  #store({ buffer, index, value }: Store): Statement[] {
    const rewriter = this.#rewriter;
    const stride = rewriter.stride(index);
    if (stride === 0) throw new NotVectorizable();
    const vector = rewriter.vector(value);
    const addresses = rewriter.indices(index);
    if (stride === 1) {
      return [{ kind: 'store', buffer, index: addresses[0] ?? index, value: vector }];
    }
    return addresses.map((address, lane) => {
      return { kind: 'store', buffer, index: address, value: this.#builder.extract(vector, lane) };
    });
  }
}

function loadsFrom(
  expression: Expression,
  buffer: Buffer,
  seen: Set<Expression> = new Set(),
): boolean {
  if (seen.has(expression)) return false;
  seen.add(expression);
  if (expression.kind === 'load' && expression.buffer === buffer) return true;
  return operandsOf(expression).some((operand) => loadsFrom(operand, buffer, seen));
}

/** Replaces `let`s of index arithmetic by their values, so that strides show. */
function inlineIndices(builder: Builder, statements: readonly Statement[]): readonly Statement[] {
  const values = new Map<Expression, Expression>();
  const inlined = (list: readonly Statement[]): readonly Statement[] =>
    list.flatMap((statement): Statement[] => {
      if (statement.kind === 'let' && isIndexArithmetic(statement.value)) {
        values.set(statement.variable, substitute(builder, statement.value, values));
        return [];
      }
      if (statement.kind === 'for') return [{ ...statement, body: inlined(statement.body) }];
      if (statement.kind !== 'if') return [statement];
      return [branch(statement.condition, inlined(statement.then), inlined(statement.otherwise))];
    });
  const rest = inlined(statements);
  if (values.size === 0) return statements;
  return mapExpressions(rest, (expression) => substitute(builder, expression, values));
}

function isIndexArithmetic(expression: Expression): boolean {
  const { kind, type } = expression;
  if (type !== 'i32' && type !== 'bool') return false;
  if (kind === 'load' || (kind === 'variable' && expression.mutable)) return false;
  return operandsOf(expression).every(isIndexArithmetic);
}

/** The variables that differ between iterations: those computed from the index, directly or not. */
function varyingVariables(
  first: readonly Variable[],
  declared: ReadonlyMap<Variable, readonly Expression[]>,
): ReadonlySet<Expression> {
  const varying = new Set<Expression>(first);
  for (let before = 0; before !== varying.size;) {
    before = varying.size;
    const memo = new Map<Expression, boolean>();
    const varies = (expression: Expression): boolean => {
      if (varying.has(expression)) return true;
      const known = memo.get(expression);
      if (known !== undefined) return known;
      const result = operandsOf(expression).some(varies);
      memo.set(expression, result);
      return result;
    };
    for (const [variable, values] of declared) if (values.some(varies)) varying.add(variable);
  }
  return varying;
}

function holdsVectors(statements: readonly Statement[]): boolean {
  let found = false;
  forEachExpression(statements, ({ lanes }) => {
    found ||= lanes > 1;
  });
  return found;
}

function usesDouble(statements: readonly Statement[]): boolean {
  let found = false;
  forEachExpression(statements, ({ type }) => {
    found ||= type === 'f64';
  });
  return found;
}

/** Vectors of f64 have half the lanes of the others, so a loop has either these or those. */
function requireDouble(expression: Expression): void {
  const { kind, type, lanes } = expression;
  if (lanes === 1) return;
  const mask = type === 'bool' && kind !== 'load' && kind !== 'convert';
  if (type !== 'f64' && !mask) throw new NotVectorizable();
}
