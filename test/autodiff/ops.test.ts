// Every op's gradient rule against central differences, first and second derivatives, in float64.
import { describe, expect, test } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { gradients } from '../../src/graph/autodiff/gradients.ts';
import type { Node } from '../../src/graph/node.ts';
import { makeNode, type Sample, type TestedOp } from '../../src/graph/op.ts';
import { add, constant, mul, transpose } from '../../src/graph/ops/index.ts';
import { checkGradients } from '../support/gradient-check.ts';
import { computedOps, leafFor, randomLike } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';

const ops = computedOps();

/** Ops whose second derivative is not checked, and why. */
const FIRST_ONLY: Readonly<Record<string, string>> = {};

/** Ops whose rule holds only behind another one: differences are taken through both. */
const BEHIND: Readonly<Record<string, (x: Node) => Node>> = {
  // The rule is that of the symmetric matrix that is meant, so that both triangles move together.
  mirrorTriangle: (x) => mul(add(x, transpose(x)), constant(0.5, x.dtype)),
};

/** The graph of a sample that differences apply to, or null. */
function graphOf(op: TestedOp, sample: Sample) {
  const behind = BEHIND[op.name];
  if (sample.skipGradient !== undefined && behind === undefined) return null;
  if (!sample.inputs.some(({ dtype }) => isFloat(dtype))) return null;
  const leaves = sample.inputs.map(leafFor);
  const node = makeNode(op, behind === undefined ? leaves : leaves.map(behind), sample.attrs);
  if (!isFloat(node.dtype)) return null;
  const constants = (sample.constantInputs ?? []).map((k) => leaves[k]!);
  return { node, values: new Map(leaves.map((leaf, k) => [leaf, sample.inputs[k]!])), constants };
}

/** Whether the rule gives zeros on every sample: that is right for a step alone. */
function isStep(op: TestedOp): boolean {
  return op.samples().every(({ inputs, attrs }) => {
    const leaves = inputs.map(leafFor);
    const node = makeNode(op, leaves, attrs);
    const floats = leaves.filter(({ dtype }) => isFloat(dtype));
    if (!isFloat(node.dtype) || floats.length === 0) return true;
    const cotangent = leafFor(node);
    const values = new Map(leaves.map((leaf, k) => [leaf, inputs[k]!]));
    values.set(cotangent, randomLike(node, 1));
    const found = gradients([node], [cotangent], floats).filter((result) => result !== null);
    const zeros = evaluateReference(found, values);
    return found.every((result) => zeros.get(result)!.data.every((value) => value === 0));
  });
}

describe('gradients of primitives', () => {
  const withRule = ops.filter(({ gradient }) => typeof gradient === 'function');
  test.each(withRule.map((op) => [op.name, op] as const))('%s', (name, op) => {
    let checked = 0;
    op.samples().forEach((sample, i) => {
      const graph = graphOf(op, sample);
      if (graph === null) return;
      const { node, values, constants } = graph;
      const order = name in FIRST_ONLY || node.dtype.endsWith('16') ? 1 : 2;
      checkGradients([node], values, { order, constants }, `${name} sample ${i}`);
      checked++;
    });
    const hasInputs = op.samples().some(({ inputs }) => inputs.length > 0);
    // A rule that no sample exercises is unproven, unless it is zero: `skipGradient` is no way out.
    if (checked === 0 && hasInputs) expect(isStep(op), 'samples to check the rule with').toBe(true);
  });

  test('a sample that is not differentiated says why', () => {
    const silent = ops.flatMap((op) =>
      op.samples().filter(({ skipGradient }) => skipGradient?.trim() === ''),
    );
    expect(silent).toEqual([]);
  });

  test('ops without a rule say why', () => {
    const silent = ops.filter(
      ({ gradient }) => typeof gradient !== 'function' && gradient.nonDifferentiable.length < 6,
    );
    expect(silent).toEqual([]);
  });
});
