// Matrix products of the graph on the product schedule.
import type { Node } from '../../graph/node.ts';
import type { Expression } from '../../ir/expression.ts';
import type { ContractionKernel, ContractionSchedule } from '../lower/contraction.ts';
import { unflatten } from '../lower/indexing.ts';
import { productCost, productStages } from './product.ts';
import { type ProductProblem, layoutsOf } from './product-problem.ts';

/** The product that a matmul node, [...batch, m, k] @ [...batch, k, n], asks for. */
export function matmulProblem(node: Node): Required<ProductProblem> {
  const a = node.inputs[0] as Node;
  const rank = node.shape.length;
  const batchShape = node.shape.slice(0, rank - 2);
  const at = (
    kernel: ContractionKernel,
    batch: Expression,
    row: Expression,
    column: Expression,
  ) => [...unflatten(kernel.builder, batch, batchShape), row, column];
  return {
    sizes: {
      batch: batchShape.reduce((product, size) => product * size, 1),
      m: node.shape[rank - 2] as number,
      n: node.shape[rank - 1] as number,
      k: a.shape[rank - 1] as number,
    },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => kernel.read(0, at(kernel, batch, m, k)),
    readB: (kernel, batch, k, n) => kernel.read(1, at(kernel, batch, k, n)),
    store: (kernel, batch, m, n, value) => kernel.writeElement(at(kernel, batch, m, n), value),
    storeVector: (kernel, batch, m, n, value) =>
      kernel.writeVector((lane) => at(kernel, batch, m, kernel.builder.add(n, lane)), value),
  };
}

/** Packed, register-tiled products: worth it when panels are reused. */
export const packedProduct: ContractionSchedule = {
  name: 'packed product',
  reproducible: true,
  usable: ({ node, target }) => {
    if (node.op.lower.kind !== 'matmul' || target.workgroups) return false;
    const { m, n, k } = matmulProblem(node).sizes;
    // A vector times a matrix reads every element once: packing would only copy it.
    return m >= 4 && n >= 4 && k >= 4;
  },
  cost: (context) => {
    const problem = matmulProblem(context.node);
    const b = layoutsOf(context, problem)?.b;
    // Columns of a transposed b come from as many cache lines as there are of them.
    const gather = b !== undefined && b.along !== 1 ? 6 : 1;
    return productCost(problem.sizes, context.target, {
      a: context.isConstant(0) ? 0 : 1,
      b: context.isConstant(1) ? 0 : gather,
    });
  },
  lower: (context) => productStages(context, matmulProblem(context.node)),
};
