// Every op's samples: shapes and dtypes that `infer` promises, and a reference that keeps them.
import { describe, expect, test } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { makeNode } from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { storedValue } from '../../src/graph/ops/reference.ts';
import { computedOps, leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';

const ops = computedOps();

describe('primitives', () => {
  test('names are unique', () => {
    const names = ops.map((op) => op.name);
    expect([...new Set(names)]).toEqual(names);
  });

  test.each(ops.map((op) => [op.name, op] as const))('%s', (_name, op) => {
    const samples = op.samples();
    expect(samples.length).toBeGreaterThan(0);
    expect(op.summary).not.toBe('');
    samples.forEach((sample, i) => {
      for (const { dtype, data, shape } of sample.inputs) {
        expect(data.length).toBe(shape.reduce((a, b) => a * b, 1));
        for (const value of data) expect(storedValue(dtype, value)).toBe(value);
      }
      for (const attr of Object.keys(sample.attrs)) expect(op.attrs).toHaveProperty(attr);
      for (const attr of Object.keys(op.attrs)) expect(sample.attrs).toHaveProperty(attr);
      const leaves = sample.inputs.map(leafFor);
      const node = makeNode(op, leaves, sample.attrs);
      const values = new Map(leaves.map((leaf, k) => [leaf, sample.inputs[k]!]));
      const { data } = evaluateReference([node], values).get(node)!;
      if (!isFloat(node.dtype)) {
        for (const value of data) expect(storedValue(node.dtype, value), `sample ${i}`).toBe(value);
      }
    });
  });

  test('sizes 0 and 1 occur among the samples of every op with inputs', () => {
    const withInputs = ops.filter((op) => op.samples().some(({ inputs }) => inputs.length > 0));
    const without = withInputs.filter((op) => {
      const seen = new Set(
        op.samples().flatMap(({ inputs, attrs }) => {
          const leaves = inputs.map(leafFor);
          return [...leaves, makeNode(op, leaves, attrs)].flatMap(({ shape }) => shape);
        }),
      );
      return !seen.has(0) || !seen.has(1);
    });
    expect(without.map((op) => op.name)).toEqual([]);
  });
});
