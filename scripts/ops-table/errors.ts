// The largest error of an op over its samples: what a device computes against the reference in float64.
import { type DType, isFloat } from '../../src/base/dtype.ts';
import { makeNode, type TestedOp } from '../../src/graph/op.ts';
import { storedValue } from '../../src/graph/ops/reference.ts';
import type { Device } from '../../src/runtime/device.ts';
import { leafFor } from '../../test/support/graphs.ts';
import { evaluateReference } from '../../test/support/reference-evaluator.ts';
import { runGraph } from '../../test/support/run-graph.ts';

/** Bits of the fraction, and the smallest exponent of a normal number. */
const FORMATS: Readonly<Partial<Record<DType, readonly [bits: number, lowest: number]>>> = {
  float16: [10, -14],
  bfloat16: [7, -126],
  float32: [23, -126],
  float64: [52, -1022],
};

/** Distance of `value` to the next number of the dtype. */
function ulpAt(value: number, dtype: DType): number {
  const [bits, lowest] = FORMATS[dtype] ?? [0, 0];
  const exponent = Math.floor(Math.log2(Math.abs(value) || Number.MIN_VALUE));
  return 2 ** (Math.max(exponent, lowest) - bits);
}

/** Kinds whose elements are sums: what cancels in one is no error of the op. */
const SUMS: readonly string[] = ['reduce', 'matmul', 'convolution', 'custom'];

/**
 * Largest error of the op on this device in ulp, fast numerics: of the value, and for ops that sum of the
 * largest value of the result. Null for results that are no floats and equal. Throws where
 * one is not equal, or NaN.
 */
export function largestError(device: Device, op: TestedOp): number | null {
  const made = op.samples().map(({ inputs, attrs }) => {
    const leaves = inputs.map(leafFor);
    const values = new Map(leaves.map((leaf, i) => [leaf, inputs[i]!]));
    return { node: makeNode(op, leaves, attrs), values };
  });
  // float64 is left out: the reference is no better. Ops of nothing else have their error in it.
  const narrow = made.filter(({ node }) => node.dtype !== 'float64');
  const counted = narrow.some(({ node }) => isFloat(node.dtype)) ? narrow : made;
  const values = new Map(counted.flatMap((each) => [...each.values]));
  const roots = counted.map(({ node }) => node);
  const actual = runGraph(device, roots, values, { numerics: 'fast' });
  let worst: number | null = null;
  for (const { node, values: own } of counted) {
    const expected = evaluateReference([node], own).get(node)!.data;
    const found = actual.get(node)!.data;
    const finite = expected.filter((value) => Number.isFinite(value));
    const top = finite.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expected.forEach((wanted, i) => {
      const value = found[i]!;
      const nearest = storedValue(node.dtype, wanted);
      if (isFloat(node.dtype) && Number.isFinite(nearest) && Number.isFinite(value)) {
        const scale = SUMS.includes(op.lower.kind) ? top : wanted;
        worst = Math.max(worst ?? 0, Math.abs(value - wanted) / ulpAt(scale, node.dtype));
      } else if (!(Object.is(value, nearest) || value === nearest)) {
        throw new Error(
          `${op.name} on ${device.name}: element ${i} is ${value}, expected ${nearest}`,
        );
      }
    });
  }
  return worst;
}

/** How an error stands in the table. */
export function errorCell(error: number | null): string {
  if (error === null || error === 0) return 'exact';
  return error < 100 ? String(Number(error.toPrecision(2))) : String(Math.ceil(error));
}
