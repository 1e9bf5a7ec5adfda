// A value whose gradient the caller defines: it passes the value through, and asks a function for
// the gradients of the inputs.
import { internalError } from '../../base/errors.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS } from '../op.ts';
import { randomTensor } from './samples.ts';

/** Gradients of the inputs for the gradient of the result; null where none flows. */
export type CustomRule = (grad: Node) => readonly (Node | null)[];

// Beside the nodes and not in their attributes, because functions have no place in a plan's key:
// the value does not depend on them.
const rules = new WeakMap<Node, CustomRule>();

const customGradientOp = defineOp({
  name: 'customGradient',
  summary: 'the first input, with a gradient rule of the caller for the others',
  attrs: {},
  infer: ([value]) => ({ shape: value!.shape, dtype: value!.dtype }),
  gradient: ({ node, grad }) => {
    const rule = rules.get(node);
    if (rule !== undefined) return [null, ...rule(grad)];
    if (node.inputs.length === 1) return [grad];
    throw internalError('a node lost its gradient rule');
  },
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices) => context.read(0, indices),
  },
  reference: ([value]) => value!.data.slice(),
  samples: () => [
    { inputs: [randomTensor([2, 3])], attrs: {} },
    { inputs: [randomTensor([])], attrs: {} },
    { inputs: [randomTensor([0])], attrs: {} },
    { inputs: [randomTensor([1])], attrs: {} },
  ],
  cost: 0,
});

/** `value` as a result of `inputs` whose gradients `rule` gives. */
export function customGradient(value: Node, inputs: readonly Node[], rule: CustomRule): Node {
  const node = makeNode(customGradientOp, [value, ...inputs], NO_ATTRS);
  rules.set(node, rule);
  return node;
}

export function isCustomGradient({ op }: Node): boolean {
  return op.id === customGradientOp.id;
}

/** Gives a node that was made again its rule. */
export function setCustomRule(node: Node, rule: CustomRule): void {
  rules.set(node, rule);
}
