// The same value as a node of its own: a value cut off from its history, or assigned elsewhere.
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS, withoutTracking } from '../op.ts';
import { alias } from './leaf.ts';
import { randomTensor } from './samples.ts';

const copyOp = defineOp({
  name: 'copy',
  summary: 'the same value, as a result of its own',
  attrs: {},
  infer: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  gradient: ({ grad }) => [grad],
  lower: { kind: 'elementwise', emit: (_builder, [x]) => x! },
  reference: ([x]) => x!.data.slice(),
  samples: () => [
    { inputs: [randomTensor([2, 3])], attrs: {} },
    { inputs: [randomTensor([])], attrs: {} },
    { inputs: [randomTensor([0])], attrs: {} },
    { inputs: [randomTensor([1])], attrs: {} },
    { inputs: [randomTensor([5], { dtype: 'float64' })], attrs: {} },
    { inputs: [randomTensor([5], { dtype: 'int8' })], attrs: {}, skipGradient: 'integers' },
    { inputs: [randomTensor([5], { dtype: 'bool' })], attrs: {}, skipGradient: 'bool' },
  ],
  cost: 0,
});

/**
 * `x` cut off from its history: no gradient flows through the result. Costs nothing where `x` has
 * no history, or is stored already.
 */
export function detach(x: Node): Node {
  if (!x.tracked) return x;
  if (x.storage !== null) return alias(x, false);
  return withoutTracking(() => copy(x));
}

/** The same value as another node; made without tracking it is cut off from its history. */
export function copy(x: Node): Node {
  return makeNode(copyOp, [x], NO_ATTRS);
}
