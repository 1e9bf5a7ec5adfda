// Decides where each expression is computed: what is shared or does not change in a loop is bound
// to a `let` once, as far out as its operands allow; everything else stays inline.
import { internalError } from '../base/errors.ts';
import {
  isFloatType,
  type Binary,
  type Buffer,
  type Expression,
  operandsOf,
  type Variable,
} from './expression.ts';
import { branch, type Kernel, type Statement } from './kernel.ts';
import { highestId, rootsOf, withOperands } from './walk.ts';

/**
 * Binds every shared or loop-invariant expression to a `let`, just before the statement that first
 * needs it, in the outermost scope where that is right:
 * - an expression leaves a `for` in which nothing that it reads is written;
 * - it leaves an `if` only to leave a `for` around that, and never if it loads or divides integers,
 *   which may fault where the condition does not hold;
 * - it is shared among statements as long as no statement between them writes what it reads.
 *
 * Constants, variables and `variable + constant` stay inline: renderers fold them into addresses.
 */
export function place(kernel: Kernel): Kernel {
  const placer = new Placer(kernel);
  return { ...kernel, body: placer.run() };
}

type Writable = Variable | Buffer;

interface Scope {
  readonly parent: Scope | undefined;
  readonly depth: number;
  readonly statements: readonly Statement[];
  /** Where the statement that this scope belongs to stands in `parent`. */
  readonly owner: Point;
  /** Whether it is the body of a `for`. */
  readonly loop: boolean;
  /** Number of the first statement after this scope. */
  end: number;
  /** For each position, the number of its statement, and the scopes nested in it. */
  readonly numbers: number[];
  readonly nested: (readonly Scope[])[];
  /** For each position, what may be computed just before that statement, operands first. */
  readonly sites: (Site[] | undefined)[];
}

/** Just before a statement: its position in its scope, and its number in program order. */
interface Point {
  readonly position: number;
  readonly number: number;
}

/** One place where an expression is computed. */
interface Site extends Point {
  readonly expression: Expression;
  readonly scope: Scope;
  /** The last write, before this site, of anything that the expression reads; -1 if none. */
  readonly epoch: number;
  uses: number;
  /** Whether computing it here takes it out of a loop. */
  invariant: boolean;
  variable: Variable | undefined;
}

/** What is known of an expression wherever it is used. */
interface Facts {
  /** Depth of the innermost scope that declares one of its variables. */
  readonly depth: number;
  /** Mutable variables, and buffers the kernel writes, that it reads. */
  readonly reads: readonly Writable[];
  /** Whether evaluating it where it was not asked for could fault. */
  readonly faults: boolean;
  /** Not worth a variable. */
  readonly trivial: boolean;
  readonly sites: Site[];
}

const NONE: readonly Writable[] = [];

class Placer {
  readonly #kernel: Kernel;
  readonly #facts = new Map<Expression, Facts>();
  /** Depth of the scope that declares a variable. */
  readonly #depths = new Map<Variable, number>();
  /** Numbers of the statements that write a variable or buffer, ascending. */
  readonly #writes = new Map<Writable, number[]>();
  readonly #sums = new Map<Expression, Expression>();
  readonly #sumsByTerms = new Map<string, Expression>();
  #nextId: number;
  #nextNumber = 0;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#nextId = highestId(kernel) + 1;
  }

  run(): readonly Statement[] {
    const { body, gridIndex, workgroup } = this.#kernel;
    this.#depths.set(gridIndex, 0);
    if (workgroup !== undefined) this.#depths.set(workgroup.localIndex, 0);
    const root = this.#survey(body, undefined, { position: 0, number: -1 }, false);
    this.#visitScope(root);
    return this.#rewriteScope(root);
  }

  // First walk: number the statements in program order; note who declares and who writes what.

  #survey(
    statements: readonly Statement[],
    parent: Scope | undefined,
    owner: Point,
    loop: boolean,
  ): Scope {
    const depth = parent === undefined ? 0 : parent.depth + 1;
    const places = { numbers: [], nested: [], sites: [] };
    const scope: Scope = { parent, depth, statements, owner, loop, end: 0, ...places };
    for (const [position, statement] of statements.entries()) {
      const number = this.#nextNumber++;
      scope.numbers.push(number);
      scope.nested.push(this.#surveyStatement(statement, scope, { position, number }));
    }
    scope.end = this.#nextNumber;
    return scope;
  }

  #surveyStatement(statement: Statement, scope: Scope, point: Point): readonly Scope[] {
    switch (statement.kind) {
      case 'let':
      case 'declare':
        this.#depths.set(statement.variable, scope.depth);
        return [];
      case 'assign':
        this.#noteWrite(statement.variable, point.number);
        return [];
      case 'store':
        this.#noteWrite(statement.buffer, point.number);
        return [];
      case 'multiplyPairs':
        this.#noteWrite(statement.sums, point.number);
        return [];
      case 'prefetch':
        return [];
      case 'barrier':
        // Behind a barrier stands what the other invocations wrote.
        for (const buffer of [...this.#kernel.buffers, ...this.#kernel.scratch]) {
          if (buffer.access !== 'read') this.#noteWrite(buffer, point.number);
        }
        return [];
      case 'for':
        this.#depths.set(statement.index, scope.depth + 1);
        return [this.#survey(statement.body, scope, point, true)];
      case 'if':
        return [
          this.#survey(statement.then, scope, point, false),
          this.#survey(statement.otherwise, scope, point, false),
        ];
      default:
        statement satisfies never;
        throw internalError('unknown statement');
    }
  }

  #noteWrite(target: Writable, number: number): void {
    const writes = this.#writes.get(target);
    if (writes === undefined) this.#writes.set(target, [number]);
    else writes.push(number);
  }

  /** The number of the last write before `number` to anything in `reads`, or -1. */
  #lastWrite(reads: readonly Writable[], number: number): number {
    let last = -1;
    for (const target of reads) {
      const writes = this.#writes.get(target) ?? [];
      let low = 0;
      let high = writes.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((writes[middle] as number) < number) low = middle + 1;
        else high = middle;
      }
      if (low > 0) last = Math.max(last, writes[low - 1] as number);
    }
    return last;
  }

  // Second walk: find the sites and count their uses.

  #visitScope(scope: Scope): void {
    for (const [position, statement] of scope.statements.entries()) {
      const point = { position, number: scope.numbers[position] as number };
      // Not `rootsOf`: this loop is hot, and the common kinds need no array.
      if (statement.kind === 'for') {
        this.#visit(statement.start, scope, point);
        this.#visit(statement.end, scope, point);
      } else if (statement.kind === 'if') this.#visit(statement.condition, scope, point);
      else if (statement.kind === 'multiplyPairs' || statement.kind === 'prefetch') {
        for (const root of rootsOf(statement)) this.#visit(root, scope, point);
      } else if (statement.kind !== 'barrier') {
        if (statement.kind === 'store') this.#visit(statement.index, scope, point);
        this.#visit(statement.value, scope, point);
      }
      for (const nested of scope.nested[position] as readonly Scope[]) this.#visitScope(nested);
    }
  }

  #visit(given: Expression, scope: Scope, point: Point): void {
    if (given.kind === 'constant' || given.kind === 'variable') return;
    const expression = this.#outerFirst(given);
    const facts = this.#factsOf(expression);
    if (facts.trivial) {
      for (const operand of operandsOf(expression)) this.#visit(operand, scope, point);
      return;
    }
    const home = this.#climb(facts, scope, point);
    const epoch = facts.reads.length === 0 ? -1 : this.#lastWrite(facts.reads, home.point.number);
    const known = findSite(facts, home.scope, home.point, epoch);
    if (known !== undefined) {
      known.uses++;
      known.invariant ||= known.scope === home.scope && home.invariant;
      return;
    }
    const { position, number } = home.point;
    const site: Site = {
      expression,
      scope: home.scope,
      position,
      number,
      epoch,
      uses: 1,
      invariant: home.invariant,
      variable: undefined,
    };
    facts.sites.push(site);
    for (const operand of operandsOf(expression)) this.#visit(operand, home.scope, home.point);
    (home.scope.sites[position] ??= []).push(site);
  }

  /** An index sum with the terms of outer scopes first, so that they add up outside the loops. */
  #outerFirst(expression: Expression): Expression {
    if (!isIndexSum(expression)) return expression;
    const known = this.#sums.get(expression);
    if (known !== undefined) return known;
    const terms: Expression[] = [];
    const flatten = (part: Expression): void => {
      if (isIndexSum(part)) {
        flatten(part.left);
        flatten(part.right);
      } else terms.push(part);
    };
    flatten(expression);
    // The sort is stable: among equals the builder's order stays.
    const rank = (term: Expression): number =>
      term.kind === 'constant' ? Infinity : this.#factsOf(term).depth;
    terms.sort((a, b) => rank(a) - rank(b) || 0);
    const sum = terms.reduce((left, right) => this.#sum(left, right));
    this.#sums.set(expression, sum);
    this.#sums.set(sum, sum);
    return sum;
  }

  #sum(left: Expression, right: Expression): Expression {
    const key = `${left.id},${right.id}`;
    const known = this.#sumsByTerms.get(key);
    if (known !== undefined) return known;
    const id = this.#nextId++;
    const min = left.min + right.min;
    const max = left.max + right.max;
    const type = { type: 'i32', lanes: 1, min, max } as const;
    const sum: Expression = { kind: 'binary', op: 'add', id, left, right, ...type };
    this.#sumsByTerms.set(key, sum);
    return sum;
  }

  /** The outermost point at which an expression that is used at `point` may be computed. */
  #climb(
    facts: Facts,
    scope: Scope,
    point: Point,
  ): { readonly scope: Scope; readonly point: Point; readonly invariant: boolean } {
    let home = { scope, point, invariant: false };
    let at = scope;
    let before = point.number;
    while (at.depth > facts.depth && at.parent !== undefined) {
      if (!at.loop && facts.faults) break;
      if (facts.reads.length > 0) {
        const until = at.loop ? at.end : before;
        if (this.#lastWrite(facts.reads, until) > at.owner.number) break;
      }
      before = at.owner.number;
      if (at.loop) home = { scope: at.parent, point: at.owner, invariant: true };
      at = at.parent;
    }
    return home;
  }

  #factsOf(expression: Expression): Facts {
    const known = this.#facts.get(expression);
    if (known !== undefined) return known;
    let depth = 0;
    let reads = NONE;
    let faults = false;
    if (expression.kind === 'variable') {
      const declared = this.#depths.get(expression);
      if (declared === undefined) throw internalError(`${expression.name} is not declared`);
      depth = declared;
      if (this.#writes.has(expression)) reads = [expression];
    } else if (expression.kind === 'load') {
      faults = true;
      if (this.#writes.has(expression.buffer)) reads = [expression.buffer];
    } else if (expression.kind === 'binary') {
      faults = mayDivideByZero(expression);
    }
    for (const operand of operandsOf(expression)) {
      const facts = this.#factsOf(operand);
      if (facts.depth > depth) depth = facts.depth;
      faults ||= facts.faults;
      if (facts.reads !== NONE) reads = reads === NONE ? facts.reads : union(reads, facts.reads);
    }
    const facts = { depth, reads, faults, trivial: isTrivial(expression), sites: [] };
    this.#facts.set(expression, facts);
    return facts;
  }

  // Third walk: write the statements anew, with a `let` for every site that is worth one.

  #rewriteScope(scope: Scope): readonly Statement[] {
    const result: Statement[] = [];
    for (const [position, statement] of scope.statements.entries()) {
      for (const site of scope.sites[position] ?? []) {
        if (site.uses === 1 && !site.invariant) continue;
        const value = this.#define(site);
        site.variable = this.#fresh(value);
        result.push({ kind: 'let', variable: site.variable, value });
      }
      const point = { position, number: scope.numbers[position] as number };
      result.push(this.#rewriteStatement(statement, scope, point));
    }
    return result;
  }

  #rewriteStatement(statement: Statement, scope: Scope, point: Point): Statement {
    const nested = (index: number): readonly Statement[] =>
      this.#rewriteScope((scope.nested[point.position] as readonly Scope[])[index] as Scope);
    switch (statement.kind) {
      case 'for': {
        const start = this.#resolve(statement.start, scope, point);
        const end = this.#resolve(statement.end, scope, point);
        return { ...statement, start, end, body: nested(0) };
      }
      case 'if': {
        const condition = this.#resolve(statement.condition, scope, point);
        return branch(condition, nested(0), nested(1));
      }
      case 'let':
      case 'declare':
      case 'assign':
        return { ...statement, value: this.#resolve(statement.value, scope, point) };
      case 'store': {
        const index = this.#resolve(statement.index, scope, point);
        return { ...statement, index, value: this.#resolve(statement.value, scope, point) };
      }
      case 'multiplyPairs':
        return {
          ...statement,
          sumsIndex: this.#resolve(statement.sumsIndex, scope, point),
          leftIndex: this.#resolve(statement.leftIndex, scope, point),
          rightIndex: this.#resolve(statement.rightIndex, scope, point),
          steps: this.#resolve(statement.steps, scope, point),
        };
      case 'prefetch':
        return { ...statement, index: this.#resolve(statement.index, scope, point) };
      case 'barrier':
        return statement;
      default:
        statement satisfies never;
        throw internalError('unknown statement');
    }
  }

  /** What stands for an expression at a point: the variable it is bound to, or itself rebuilt. */
  #resolve(given: Expression, scope: Scope, point: Point): Expression {
    if (given.kind === 'constant' || given.kind === 'variable') return given;
    const expression = this.#outerFirst(given);
    const facts = this.#factsOf(expression);
    if (facts.trivial) return this.#rebuild(expression, scope, point);
    const site = facts.sites.length === 1 ? facts.sites[0] : this.#siteFor(facts, scope, point);
    if (site === undefined) throw internalError(`no site for ${expression.kind}`);
    return site.variable ?? this.#define(site);
  }

  #siteFor(facts: Facts, scope: Scope, point: Point): Site | undefined {
    const home = this.#climb(facts, scope, point);
    const epoch = facts.reads.length === 0 ? -1 : this.#lastWrite(facts.reads, home.point.number);
    return findSite(facts, home.scope, home.point, epoch);
  }

  #define(site: Site): Expression {
    return this.#rebuild(site.expression, site.scope, site);
  }

  #rebuild(expression: Expression, scope: Scope, point: Point): Expression {
    let changed = false;
    const operands = operandsOf(expression).map((operand) => {
      const resolved = this.#resolve(operand, scope, point);
      changed ||= resolved !== operand;
      return resolved;
    });
    return changed ? withOperands(expression, operands, this.#nextId++) : expression;
  }

  #fresh(value: Expression): Variable {
    const { type, lanes, min, max } = value;
    const id = this.#nextId++;
    return { kind: 'variable', id, name: 't', type, lanes, mutable: false, min, max };
  }
}

/** The site that serves a use whose home is `scope`: that scope's own, or one further out. */
function findSite(facts: Facts, scope: Scope, point: Point, epoch: number): Site | undefined {
  let outer: Site | undefined;
  for (const site of facts.sites) {
    if (site.scope === scope) {
      if (site.epoch === epoch) return site;
    } else if (facts.reads.length === 0 && outer === undefined && site.number <= point.number) {
      if (encloses(site.scope, scope)) outer = site;
    }
  }
  return outer;
}

function encloses(outer: Scope, inner: Scope): boolean {
  let scope: Scope | undefined = inner;
  while (scope !== undefined && scope.depth > outer.depth) scope = scope.parent;
  return scope === outer;
}

function mayDivideByZero({ op, left, right }: Binary): boolean {
  if (op !== 'div' && op !== 'rem') return false;
  if (isFloatType(left.type)) return false;
  return right.kind !== 'constant' || right.value === 0 || right.value === -1;
}

function isIndexSum(expression: Expression): expression is Binary {
  const { kind, type, lanes } = expression;
  return kind === 'binary' && expression.op === 'add' && type === 'i32' && lanes === 1;
}

/** Constants, and index + constant: the first cost nothing, the second folds into an address. */
function isTrivial(expression: Expression): boolean {
  switch (expression.kind) {
    case 'constant':
    case 'variable':
      return true;
    case 'binary':
      return isIndexSum(expression) && expression.right.kind === 'constant';
    case 'lanes':
      return expression.operands.every(({ kind }) => kind === 'constant');
    default:
      return false;
  }
}

function union(a: readonly Writable[], b: readonly Writable[]): readonly Writable[] {
  const added = b.filter((item) => !a.includes(item));
  return added.length === 0 ? a : [...a, ...added];
}
