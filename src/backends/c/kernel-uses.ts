// What a kernel needs of what it computes: variables and buffers without a use are warnings in C.
import { type Buffer, type Expression, operandsOf, type Variable } from '../../ir/expression.ts';
import { branch, type Kernel, type Statement } from '../../ir/kernel.ts';
import {
  forEachExpression,
  forEachStatement,
  nestedOf,
  rootsOf,
  writtenBy,
} from '../../ir/walk.ts';

export interface KernelUses {
  /** The kernel without variables that nothing depends on, and without loops that do nothing. */
  readonly kernel: Kernel;
  /** Buffers that it reads or writes. */
  readonly used: ReadonlySet<Buffer>;
}

export function usesOf(kernel: Kernel): KernelUses {
  let { body } = kernel;
  // An `if` that is empty now needs its condition no more.
  for (let count = Infinity; countOf(body) < count;) {
    count = countOf(body);
    body = withoutDead(body, liveVariables(body));
  }
  const used = new Set<Buffer>();
  forEachExpression(body, (expression) => {
    if (expression.kind === 'load') used.add(expression.buffer);
  });
  forEachStatement(body, (statement) => {
    const written = writtenBy(statement);
    if (written !== null) used.add(written);
    if (statement.kind === 'multiplyPairs') used.add(statement.left).add(statement.right);
  });
  return { kernel: { ...kernel, body }, used };
}

function countOf(body: readonly Statement[]): number {
  let count = 0;
  forEachStatement(body, () => count++);
  return count;
}

/** Variables that something stored or a condition depends on. */
function liveVariables(body: readonly Statement[]): Set<Variable> {
  const live = new Set<Variable>();
  const seen = new Set<Expression>();
  const definitions = new Map<Variable, Expression[]>();
  const note = (expression: Expression): void => {
    if (seen.has(expression)) return;
    seen.add(expression);
    if (expression.kind === 'variable') {
      live.add(expression);
      for (const value of definitions.get(expression) ?? []) note(value);
    }
    for (const operand of operandsOf(expression)) note(operand);
  };
  const rest: Expression[] = [];
  forEachStatement(body, (statement) => {
    if ('variable' in statement) {
      const values = definitions.get(statement.variable) ?? [];
      values.push(statement.value);
      definitions.set(statement.variable, values);
    } else rest.push(...rootsOf(statement));
  });
  for (const expression of rest) note(expression);
  return live;
}

function withoutDead(
  statements: readonly Statement[],
  live: ReadonlySet<Variable>,
): readonly Statement[] {
  return statements.flatMap((statement): Statement[] => {
    if ('variable' in statement) return live.has(statement.variable) ? [statement] : [];
    if (statement.kind === 'for') {
      const body = withoutDead(statement.body, live);
      return body.length === 0 ? [] : [{ ...statement, body }];
    }
    if (statement.kind === 'if') {
      const [then = [], otherwise = []] = nestedOf(statement).map((each) =>
        withoutDead(each, live),
      );
      if (then.length + otherwise.length === 0) return [];
      return [branch(statement.condition, then, otherwise)];
    }
    return [statement];
  });
}
