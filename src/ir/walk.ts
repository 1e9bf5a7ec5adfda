// Traversal of kernels: what a statement evaluates, what it nests, and rebuilding of expressions.
import { internalError } from '../base/errors.ts';
import { type Buffer, type Expression, operandsOf } from './expression.ts';
import type { Kernel, Statement } from './kernel.ts';

const NOTHING: readonly never[] = [];

/** The expressions a statement evaluates itself, in order; those of nested statements are not. */
export function rootsOf(statement: Statement): readonly Expression[] {
  switch (statement.kind) {
    case 'for':
      return [statement.start, statement.end];
    case 'if':
      return [statement.condition];
    case 'let':
    case 'declare':
    case 'assign':
      return [statement.value];
    case 'store':
      return [statement.index, statement.value];
    case 'multiplyPairs':
      return [statement.sumsIndex, statement.leftIndex, statement.rightIndex, statement.steps];
    case 'prefetch':
      return [statement.index];
    case 'barrier':
      return NOTHING;
    default:
      statement satisfies never;
      throw internalError('unknown statement');
  }
}

/** The buffer that a statement itself writes to, or null. */
export function writtenBy(statement: Statement): Buffer | null {
  if (statement.kind === 'store') return statement.buffer;
  return statement.kind === 'multiplyPairs' ? statement.sums : null;
}

/** The statement lists nested in a statement. */
export function nestedOf(statement: Statement): readonly (readonly Statement[])[] {
  if (statement.kind === 'for') return [statement.body];
  if (statement.kind === 'if') return [statement.then, statement.otherwise];
  return NOTHING;
}

/** Calls `visit` for every statement, in program order, the enclosing one first. */
export function forEachStatement(
  statements: readonly Statement[],
  visit: (statement: Statement) => void,
): void {
  for (const statement of statements) {
    visit(statement);
    for (const nested of nestedOf(statement)) forEachStatement(nested, visit);
  }
}

/** Calls `visit` once for every distinct expression in `roots`, operands first. */
export function forEachNode(
  roots: readonly Expression[],
  visit: (expression: Expression) => void,
  seen: Set<Expression> = new Set(),
): void {
  for (const root of roots) {
    if (seen.has(root)) continue;
    seen.add(root);
    forEachNode(operandsOf(root), visit, seen);
    visit(root);
  }
}

/** Calls `visit` once for every distinct expression of the statements, operands first. */
export function forEachExpression(
  statements: readonly Statement[],
  visit: (expression: Expression) => void,
): void {
  const seen = new Set<Expression>();
  forEachStatement(statements, (statement) => forEachNode(rootsOf(statement), visit, seen));
}

/**
 * The highest id in use. Operands have smaller ids than what uses them, so looking at the roots is
 * enough: `new Builder(highestId(kernel) + 1)` makes expressions that may join the kernel's.
 */
export function highestId(kernel: Kernel): number {
  let highest = Math.max(kernel.gridIndex.id, kernel.workgroup?.localIndex.id ?? 0);
  for (const buffer of kernel.buffers) highest = Math.max(highest, buffer.id);
  for (const buffer of kernel.scratch) highest = Math.max(highest, buffer.id);
  forEachStatement(kernel.body, (statement) => {
    if (statement.kind === 'for') highest = Math.max(highest, statement.index.id);
    else if ('variable' in statement) highest = Math.max(highest, statement.variable.id);
    for (const root of rootsOf(statement)) highest = Math.max(highest, root.id);
  });
  return highest;
}

/** The same operation on other operands, with a new id and nothing simplified. */
export function withOperands(
  expression: Expression,
  operands: readonly Expression[],
  id: number,
): Expression {
  const at = (index: number): Expression => {
    const operand = operands[index];
    if (operand === undefined) throw internalError(`${expression.kind} lacks operand ${index}`);
    return operand;
  };
  switch (expression.kind) {
    case 'constant':
    case 'variable':
      return expression;
    case 'unary':
    case 'convert':
    case 'bitcast':
    case 'splat':
    case 'extract':
      return { ...expression, id, operand: at(0) };
    case 'binary':
      return { ...expression, id, left: at(0), right: at(1) };
    case 'select':
      return { ...expression, id, condition: at(0), whenTrue: at(1), whenFalse: at(2) };
    case 'fma':
      return { ...expression, id, a: at(0), b: at(1), c: at(2) };
    case 'load':
      return { ...expression, id, index: at(0) };
    case 'lanes':
      return { ...expression, id, operands };
    default:
      expression satisfies never;
      throw internalError('unknown expression');
  }
}
