// Every op's gradient rule against central differences, first and second derivatives, in float64.
import { describe, expect, test } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { makeNode } from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { checkGradients } from '../support/gradient-check.ts';
import { computedOps, leafFor } from '../support/graphs.ts';

const ops = computedOps();

/** Ops whose second derivative is not checked, and why. */
const FIRST_ONLY: Readonly<Record<string, string>> = {};

describe('gradients of primitives', () => {
  const withRule = ops.filter((op) => typeof op.gradient === 'function');
  test.each(withRule.map((op) => [op.name, op] as const))('%s', (name, op) => {
    let checked = 0;
    op.samples().forEach((sample, i) => {
      if (sample.skipGradient !== undefined) return;
      if (!sample.inputs.some(({ dtype }) => isFloat(dtype))) return;
      const leaves = sample.inputs.map(leafFor);
      const node = makeNode(op, leaves, sample.attrs);
      if (!isFloat(node.dtype)) return;
      const values = new Map(leaves.map((leaf, k) => [leaf, sample.inputs[k]!]));
      const order = name in FIRST_ONLY || node.dtype.endsWith('16') ? 1 : 2;
      checkGradients([node], values, { order }, `${name} sample ${i}`);
      checked++;
    });
    const expectsGradient = op
      .samples()
      .some(({ inputs, skipGradient }) => inputs.length > 0 && skipGradient === undefined);
    if (expectsGradient) expect(checked).toBeGreaterThan(0);
    // A rule that no sample exercises is unproven, unless the op is a step.
    else
      expect(
        op
          .samples()
          .every(({ inputs, skipGradient }) => inputs.length === 0 || skipGradient !== undefined),
      ).toBe(true);
  });

  test('ops without a rule say why', () => {
    const silent = ops.filter(
      ({ gradient }) => typeof gradient !== 'function' && gradient.nonDifferentiable.length < 6,
    );
    expect(silent).toEqual([]);
  });
});
