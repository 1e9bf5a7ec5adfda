// Squares turned around in registers.
import { expect, test } from 'vitest';
import { transposeVectors } from '../../src/compile/schedule/transpose.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';

test.each([
  ['float32', 4],
  ['float32', 8],
  ['float32', 16],
  ['int32', 8],
  ['float64', 2],
  ['float64', 4],
  ['float64', 8],
] as const)('%s, %i lanes', (dtype, lanes) => {
  const builder = new Builder();
  const source = builder.buffer('source', dtype, 'read');
  const vectors = Array.from({ length: lanes }, (_, i) =>
    builder.load(source, builder.constant(100 * i), lanes),
  );
  const { statements, values } = transposeVectors(builder, vectors);
  const known = new Map<Expression, readonly number[]>();
  const valueOf = (expression: Expression): readonly number[] => {
    const value = known.get(expression);
    if (value !== undefined) return value;
    if (expression.kind === 'load') {
      const { index } = expression;
      const first = index.kind === 'constant' ? index.value : NaN;
      return Array.from({ length: lanes }, (_, lane) => first + lane);
    }
    if (expression.kind !== 'lanes') throw new Error(expression.kind);
    return expression.operands.map((operand) => {
      if (operand.kind !== 'extract') throw new Error(operand.kind);
      return valueOf(operand.operand)[operand.lane]!;
    });
  };
  for (const statement of statements) {
    if (statement.kind === 'let') known.set(statement.variable, valueOf(statement.value));
  }
  const expected = values.map((_, j) => Array.from({ length: lanes }, (__, i) => 100 * i + j));
  expect(values.map(valueOf)).toEqual(expected);
});
