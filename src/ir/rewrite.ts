// Rebuilding of expressions through a builder, so that what becomes constant or linear simplifies.
import { internalError } from '../base/errors.ts';
import type { Builder } from './builder.ts';
import { type Expression, operandsOf } from './expression.ts';
import { branch, type Statement } from './kernel.ts';

/** The same operation on other operands, of the same types but perhaps of another lane count. */
export function rebuild(
  builder: Builder,
  expression: Expression,
  operands: readonly Expression[],
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
      return builder.unary(expression.op, at(0));
    case 'binary':
      return builder.binary(expression.op, at(0), at(1));
    case 'select':
      return builder.select(at(0), at(1), at(2));
    case 'fma':
      return builder.fma(at(0), at(1), at(2));
    case 'convert':
      return builder.convert(at(0), expression.type);
    case 'bitcast':
      return builder.bitcast(at(0), expression.type);
    case 'load':
      return builder.load(expression.buffer, at(0), expression.lanes);
    case 'splat':
      return builder.splat(at(0), expression.lanes);
    case 'lanes':
      return builder.lanes(operands);
    case 'extract':
      return builder.extract(at(0), expression.lane);
    default:
      expression satisfies never;
      throw internalError('unknown expression');
  }
}

/**
 * Replaces expressions, usually variables, wherever they occur. The map also serves as the memo, so
 * one map must only be used for one substitution.
 */
export function substitute(
  builder: Builder,
  expression: Expression,
  replaced: Map<Expression, Expression>,
): Expression {
  const known = replaced.get(expression);
  if (known !== undefined) return known;
  let changed = false;
  const operands = operandsOf(expression).map((operand) => {
    const result = substitute(builder, operand, replaced);
    changed ||= result !== operand;
    return result;
  });
  const result = changed ? rebuild(builder, expression, operands) : expression;
  replaced.set(expression, result);
  return result;
}

/** The same statements with every expression they evaluate replaced; unchanged ones are kept. */
export function mapExpressions(
  statements: readonly Statement[],
  map: (expression: Expression) => Expression,
): readonly Statement[] {
  let changed = false;
  const result = statements.map((statement) => {
    const made = mapStatement(statement, map);
    changed ||= made !== statement;
    return made;
  });
  return changed ? result : statements;
}

function mapStatement(
  statement: Statement,
  map: (expression: Expression) => Expression,
): Statement {
  switch (statement.kind) {
    case 'for': {
      const start = map(statement.start);
      const end = map(statement.end);
      const body = mapExpressions(statement.body, map);
      const same = start === statement.start && end === statement.end && body === statement.body;
      return same ? statement : { ...statement, start, end, body };
    }
    case 'if': {
      const condition = map(statement.condition);
      const then = mapExpressions(statement.then, map);
      const otherwise = mapExpressions(statement.otherwise, map);
      const same =
        condition === statement.condition &&
        then === statement.then &&
        otherwise === statement.otherwise;
      return same ? statement : branch(condition, then, otherwise);
    }
    case 'let':
    case 'declare':
    case 'assign': {
      const value = map(statement.value);
      return value === statement.value ? statement : { ...statement, value };
    }
    case 'store': {
      const index = map(statement.index);
      const value = map(statement.value);
      const same = index === statement.index && value === statement.value;
      return same ? statement : { ...statement, index, value };
    }
    case 'multiplyPairs': {
      const sumsIndex = map(statement.sumsIndex);
      const leftIndex = map(statement.leftIndex);
      const rightIndex = map(statement.rightIndex);
      const steps = map(statement.steps);
      return { ...statement, sumsIndex, leftIndex, rightIndex, steps };
    }
    case 'prefetch': {
      const index = map(statement.index);
      return index === statement.index ? statement : { ...statement, index };
    }
    case 'barrier':
      return statement;
    default:
      statement satisfies never;
      throw internalError('unknown statement');
  }
}
