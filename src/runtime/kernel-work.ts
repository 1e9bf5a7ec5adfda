// How much a kernel does and what it touches, read off its IR: decides who runs a dispatch.
import { byteSize } from '../base/dtype.ts';
import type { Buffer, Expression } from '../ir/expression.ts';
import { operandsOf } from '../ir/expression.ts';
import { type For, type Kernel, type MultiplyPairs, PAIRS, type Statement } from '../ir/kernel.ts';
import { boundsOf, linearForm } from '../ir/linear.ts';
import { rootsOf } from '../ir/walk.ts';

/** What sharing work among threads needs to know of a kernel. */
export interface KernelFacts {
  /** Estimated instructions of one grid item. */
  readonly work: number;
  /** Bytes of each argument buffer that may be touched, from its start; may be infinite. */
  readonly touched: readonly number[];
}

const known = new WeakMap<Kernel, KernelFacts>();

export function factsOf(kernel: Kernel): KernelFacts {
  let facts = known.get(kernel);
  if (facts === undefined) {
    facts = { work: workPerItem(kernel), touched: touchedBytes(kernel) };
    known.set(kernel, facts);
  }
  return facts;
}

/** For kernels whose body is not at hand. */
export function stateFacts(kernel: Kernel, facts: KernelFacts): void {
  known.set(kernel, facts);
}

/** Trips assumed of a loop whose bounds are not known. */
const UNKNOWN_TRIPS = 64;

/**
 * Estimated instructions of one grid item, vector ones counted once; one takes about 0.15 ns.
 * Index arithmetic is not counted: most of it leaves the loops.
 */
export function workPerItem(kernel: Kernel): number {
  return statementsWork(kernel.body);
}

function statementsWork(statements: readonly Statement[]): number {
  let work = 0;
  for (const statement of statements) work += statementWork(statement);
  return work;
}

function statementWork(statement: Statement): number {
  switch (statement.kind) {
    case 'for':
      return trips(statement) * (1 + statementsWork(statement.body));
    case 'if':
      return (
        expressionWork(statement.condition) +
        Math.max(statementsWork(statement.then), statementsWork(statement.otherwise))
      );
    case 'let':
    case 'declare':
    case 'assign':
      return expressionWork(statement.value);
    case 'store':
      return 1 + expressionWork(statement.value);
    case 'multiplyPairs':
      // An instruction multiplies a vector of words.
      return stepsOf(statement) * ((PAIRS.rows * PAIRS.columns * PAIRS.depth) / 16);
    case 'prefetch':
    case 'barrier':
      return 0;
    default:
      statement satisfies never;
      return 0;
  }
}

/** Steps that products of pairs take at most. */
function stepsOf({ steps }: MultiplyPairs): number {
  return Number.isFinite(steps.max) ? Math.max(0, steps.max) : UNKNOWN_TRIPS;
}

function trips({ start, end, step }: For): number {
  const difference = new Map(linearForm(end).terms);
  for (const [atom, coefficient] of linearForm(start).terms) {
    difference.set(atom, (difference.get(atom) ?? 0) - coefficient);
  }
  const constant = linearForm(end).constant - linearForm(start).constant;
  for (const [atom, coefficient] of difference) if (coefficient === 0) difference.delete(atom);
  const { max } = boundsOf({ terms: difference, constant });
  return Number.isFinite(max) ? Math.max(0, Math.ceil(max / step)) : UNKNOWN_TRIPS;
}

function expressionWork(expression: Expression): number {
  const seen = new Set<Expression>();
  let work = 0;
  const visit = (node: Expression): void => {
    if (seen.has(node)) return;
    seen.add(node);
    if (node.kind === 'constant' || node.kind === 'variable') return;
    work += weight(node);
    if (node.kind === 'load') return;
    for (const operand of operandsOf(node)) visit(operand);
  };
  visit(expression);
  return work;
}

function weight(node: Expression): number {
  if (node.kind === 'binary') return node.op === 'div' || node.op === 'rem' ? 8 : 1;
  return node.kind === 'unary' && node.op === 'sqrt' ? 8 : 1;
}

/** Bytes of each argument buffer that the kernel may touch, from its start; may be infinite. */
export function touchedBytes(kernel: Kernel): number[] {
  const highest = new Map<Buffer, number>();
  const touch = (buffer: Buffer, index: Expression, lanes: number): void => {
    highest.set(buffer, Math.max(highest.get(buffer) ?? 0, index.max + lanes));
  };
  const seen = new Set<Expression>();
  const visit = (expression: Expression): void => {
    if (seen.has(expression)) return;
    seen.add(expression);
    if (expression.kind === 'load') touch(expression.buffer, expression.index, expression.lanes);
    for (const operand of operandsOf(expression)) visit(operand);
  };
  const walk = (statements: readonly Statement[]): void => {
    for (const statement of statements) {
      if (statement.kind === 'for') {
        visit(statement.start);
        visit(statement.end);
        walk(statement.body);
      } else if (statement.kind === 'if') {
        visit(statement.condition);
        walk(statement.then);
        walk(statement.otherwise);
      } else if (statement.kind === 'multiplyPairs') {
        const { sums, left, right, steps } = statement;
        const { rows, columns, depth } = PAIRS;
        for (const index of rootsOf(statement)) visit(index);
        touch(sums, statement.sumsIndex, (rows - 1) * statement.sumsStride + columns);
        touch(left, statement.leftIndex, steps.max * rows * depth);
        touch(right, statement.rightIndex, steps.max * columns * depth);
      } else if (statement.kind !== 'barrier' && statement.kind !== 'prefetch') {
        visit(statement.value);
        if (statement.kind === 'store') {
          visit(statement.index);
          touch(statement.buffer, statement.index, statement.value.lanes);
        }
      }
    }
  };
  walk(kernel.body);
  return kernel.buffers.map((buffer) => {
    const elements = buffer.length ?? highest.get(buffer) ?? 0;
    return elements * byteSize(buffer.dtype);
  });
}
