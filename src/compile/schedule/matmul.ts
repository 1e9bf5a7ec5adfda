// Matrix products of the graph on the product schedule.
import type { Node } from '../../graph/node.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Emitter, GroupView } from '../lower/emit.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import { type ProductProblem, productStages } from './product.ts';

/** The product that a matmul node, [...batch, m, k] @ [...batch, k, n], asks for. */
export function matmulProblem(node: Node): ProductProblem {
  const [a, b] = node.inputs as readonly [Node, Node];
  const rank = node.shape.length;
  const batchShape = node.shape.slice(0, rank - 2);
  const at = (emitter: Emitter, batch: Expression, row: Expression, column: Expression) => [
    ...unflatten(emitter.kernel.builder, batch, batchShape),
    row,
    column,
  ];
  return {
    sizes: {
      batch: batchShape.reduce((product, size) => product * size, 1),
      m: node.shape[rank - 2] as number,
      n: node.shape[rank - 1] as number,
      k: a.shape[rank - 1] as number,
    },
    dtype: node.dtype,
    readA: (emitter, batch, m, k) => emitter.value(a, at(emitter, batch, m, k)),
    readB: (emitter, batch, k, n) => emitter.value(b, at(emitter, batch, k, n)),
    store: (emitter, batch, m, n, value) => {
      emitter.give(node, value);
      return emitter.storeOutputs(at(emitter, batch, m, n), node.shape);
    },
  };
}

/** Stages of a matmul: packed, register-tiled. */
export function matmulStages(node: Node, view: GroupView): Stage[] {
  return productStages(view, matmulProblem(node));
}
