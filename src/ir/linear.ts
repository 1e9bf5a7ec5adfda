// Linear normal form of index arithmetic: sum of coefficient * atom, plus a constant.
import type { Expression } from './expression.ts';

/** `constant + sum(coefficients[i] * atoms[i])`; atoms are not sums or constant multiples. */
export interface LinearForm {
  readonly terms: ReadonlyMap<Expression, number>;
  readonly constant: number;
}

/** `a + b * c` of 32-bit registers, which wrap. */
export function wrappedSum(a: number, b: number, c = 1): number {
  const exact = b * c;
  return (a + (Number.isSafeInteger(exact) ? exact : Math.imul(b, c))) | 0;
}

/** Bounds of a 32-bit register; beyond its range it wraps, and nothing is known. */
export function registerBounds(min: number, max: number): { min: number; max: number } {
  const fits = min >= -2147483648 && max <= 2147483647;
  return fits ? { min, max } : { min: -Infinity, max: Infinity };
}

/** The linear form of a scalar i32 expression. */
export function linearForm(expression: Expression): LinearForm {
  const terms = new Map<Expression, number>();
  const constant = accumulate(expression, 1, terms);
  for (const [atom, coefficient] of terms) if (coefficient === 0) terms.delete(atom);
  return { terms, constant };
}

function accumulate(expression: Expression, scale: number, terms: Map<Expression, number>): number {
  if (expression.kind === 'constant') return wrappedSum(0, expression.value, scale);
  if (expression.kind === 'binary') {
    const { op, left, right } = expression;
    if (op === 'add' || op === 'sub') {
      const first = accumulate(left, scale, terms);
      return wrappedSum(first, accumulate(right, op === 'add' ? scale : -scale, terms));
    }
    if (op === 'mul' && right.kind === 'constant') {
      return accumulate(left, wrappedSum(0, scale, right.value), terms);
    }
  }
  terms.set(expression, wrappedSum(terms.get(expression) ?? 0, scale));
  return 0;
}

/** Bounds of a linear form, from its atoms' bounds. */
export function boundsOf(form: LinearForm): { min: number; max: number } {
  let min = form.constant;
  let max = form.constant;
  for (const [atom, coefficient] of form.terms) {
    min += coefficient * (coefficient > 0 ? atom.min : atom.max);
    max += coefficient * (coefficient > 0 ? atom.max : atom.min);
  }
  return registerBounds(min, max);
}

/** Whether `variable` occurs anywhere in `expression`. `memo` may be shared between calls. */
export function dependsOn(
  expression: Expression,
  variable: Expression,
  memo: Map<Expression, boolean> = new Map(),
): boolean {
  if (expression === variable) return true;
  // Operands are older than the expression that uses them.
  if (expression.id < variable.id) return false;
  const known = memo.get(expression);
  if (known !== undefined) return known;
  let result = false;
  switch (expression.kind) {
    case 'constant':
    case 'variable':
      break;
    case 'binary':
      result =
        dependsOn(expression.left, variable, memo) || dependsOn(expression.right, variable, memo);
      break;
    case 'select':
      result =
        dependsOn(expression.condition, variable, memo) ||
        dependsOn(expression.whenTrue, variable, memo) ||
        dependsOn(expression.whenFalse, variable, memo);
      break;
    case 'fma':
      result =
        dependsOn(expression.a, variable, memo) ||
        dependsOn(expression.b, variable, memo) ||
        dependsOn(expression.c, variable, memo);
      break;
    case 'load':
      result = dependsOn(expression.index, variable, memo);
      break;
    case 'lanes':
      result = expression.operands.some((operand) => dependsOn(operand, variable, memo));
      break;
    case 'unary':
    case 'convert':
    case 'bitcast':
    case 'splat':
    case 'extract':
      result = dependsOn(expression.operand, variable, memo);
      break;
    default:
      expression satisfies never;
  }
  memo.set(expression, result);
  return result;
}

/**
 * The coefficient of `variable` in `expression` if the expression is linear in it,
 * or undefined if it occurs inside a division, a remainder, a load or the like.
 */
export function coefficientOf(expression: Expression, variable: Expression): number | undefined {
  const { terms } = linearForm(expression);
  for (const atom of terms.keys()) {
    if (atom !== variable && dependsOn(atom, variable)) return undefined;
  }
  return terms.get(variable) ?? 0;
}
