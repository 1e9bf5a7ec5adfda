// Constant folding: an elementwise op of constants, and any re-indexing of one, is a constant.
// Works for every op that lowers to expressions, with the arithmetic that kernels would use.
import type { Node } from '../../graph/node.ts';
import { full } from '../../graph/ops/creation.ts';
import { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Target } from '../../ir/kernel.ts';
import type { RewriteContext, Rule } from './rewrite.ts';

/** The number that a node has everywhere, if it is known while compiling. */
export function constantValue(node: Node, context: RewriteContext): number | undefined {
  if (context.isLeaf(node) || node.op.name !== 'full') return undefined;
  return node.attrs['value'] as number;
}

/** Folds what is a single number everywhere. `target` is what the lowering may ask about. */
export function foldConstants(target: Target): Rule {
  return {
    name: 'constant-folding',
    apply(node, context) {
      const { lower } = node.op;
      if (node.op.name === 'full') return null;
      if (lower.kind !== 'elementwise' && lower.kind !== 'indexed') return null;
      const values: number[] = [];
      for (const input of node.inputs) {
        const value = constantValue(input, context);
        if (value === undefined) return null;
        values.push(value);
      }
      if (values.length === 0) return null;
      const builder = new Builder();
      const inputs = node.inputs.map((input, index) =>
        builder.constant(values[index] as number, valueTypeOf(input.dtype)),
      );
      const result =
        lower.kind === 'elementwise'
          ? lower.emit(builder, inputs, node.attrs, node)
          : lower.emit(
              { builder, target, read: (input) => inputs[input] as Expression },
              node.shape.map((size, axis) =>
                builder.variable(`i${axis}`, 'i32', { min: 0, max: Math.max(size - 1, 0) }),
              ),
              node.attrs,
              node,
            );
      return result.kind === 'constant' ? full(node.shape, result.value, node.dtype) : null;
    },
  };
}
