// Every op's samples, compiled and run on the interpreter, against the op's reference.
import { describe, expect, test } from 'vitest';
import { isFloat } from '../../src/base/dtype.ts';
import { makeNode, type Sample, type TestedOp } from '../../src/graph/op.ts';
import '../../src/graph/ops/index.ts';
import { storedValue } from '../../src/graph/ops/reference.ts';
import { computedOps, leafFor } from '../support/graphs.ts';
import { evaluateReference } from '../support/reference-evaluator.ts';
import { compileRoots, execute, targetOf } from './harness.ts';

const ops = computedOps();

function tolerance(dtype: string): number {
  if (dtype === 'float16') return 2e-3;
  if (dtype === 'bfloat16') return 1.6e-2;
  return dtype === 'float64' ? 1e-12 : 1e-5;
}

/** A sample as a graph, with what the reference says of it: made once for all widths. */
function caseOf(op: TestedOp, sample: Sample) {
  const leaves = sample.inputs.map(leafFor);
  const node = makeNode(op, leaves, sample.attrs);
  const values = new Map(leaves.map((leaf, k) => [leaf, sample.inputs[k]!]));
  const expected = evaluateReference([node], values).get(node)!.data;
  return { sample, node, values, expected };
}

const made = new Map<TestedOp, readonly ReturnType<typeof caseOf>[]>();

function casesOf(op: TestedOp) {
  const cases = made.get(op) ?? op.samples().map((sample) => caseOf(op, sample));
  made.set(op, cases);
  return cases;
}

describe.each([64, 32, 16, 4])('vectors of %i bytes', (vectorBytes) => {
  test.each(ops.map((op) => [op.name, op] as const))('%s', (_name, op) => {
    for (const [i, { sample, node, values, expected }] of casesOf(op).entries()) {
      const { program, compiled } = compileRoots([node], {}, targetOf({ vectorBytes }));
      const [actual] = execute(program, compiled, values);
      expect(actual!.length).toBe(expected.length);
      const relative = sample.tolerance ?? tolerance(node.dtype);
      for (let k = 0; k < expected.length; k++) {
        const a = actual![k]!;
        const e = storedValue(node.dtype, expected[k]!);
        if (Object.is(a, e) || a === e) continue;
        const close = isFloat(node.dtype) && Math.abs(a - e) <= relative * (1 + Math.abs(e));
        if (!close)
          expect.fail(
            `sample ${i} ${JSON.stringify(sample.attrs)} element ${k}: ${a}, expected ${e}`,
          );
      }
    }
  });
});
