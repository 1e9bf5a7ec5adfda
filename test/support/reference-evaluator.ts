// The first oracle: runs a graph by its ops' references, in float64, one node after another.
import type { Node } from '../../src/graph/node.ts';
import type { OpTests, ReferenceTensor } from '../../src/graph/op.ts';
import { sizeOf } from '../../src/base/shape.ts';

/** Nodes that lead to `roots`, inputs first; stops at nodes in `known`. Iterative: graphs are deep. */
export function topologicalOrder(
  roots: readonly Node[],
  known: ReadonlyMap<Node, unknown> = new Map(),
): Node[] {
  const order: Node[] = [];
  const done = new Set<Node>();
  const stack: { node: Node; next: number }[] = [];
  for (const root of roots) {
    if (!done.has(root)) stack.push({ node: root, next: 0 });
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const inputs = known.has(top.node) ? [] : top.node.inputs;
      const input = inputs[top.next++];
      if (input !== undefined) {
        if (!done.has(input)) stack.push({ node: input, next: 0 });
        continue;
      }
      stack.pop();
      if (done.has(top.node)) continue;
      done.add(top.node);
      order.push(top.node);
    }
  }
  return order;
}

function evaluateNode(node: Node, values: ReadonlyMap<Node, ReferenceTensor>): ReferenceTensor {
  const { shape, dtype } = node;
  if (node.op.name === 'scalar') return { shape, dtype, data: Float64Array.of(node.value) };
  if (node.op.lower.kind === 'leaf') throw new Error(`no value given for ${node.op.name}`);
  const inputs = node.inputs.map((input) => values.get(input)!);
  const op = node.op as typeof node.op & OpTests;
  const data = op.reference(inputs, node.attrs, { shape, dtype });
  if (data.length !== sizeOf(shape)) {
    throw new Error(`${node.op.name}: reference gave ${data.length} of ${sizeOf(shape)} elements`);
  }
  return { shape, dtype, data };
}

/**
 * Values of `roots` (and of everything on the way), given values of the leaves. A value given for
 * an inner node is taken instead of computing it.
 */
export function evaluateReference(
  roots: readonly Node[],
  given: ReadonlyMap<Node, ReferenceTensor>,
): Map<Node, ReferenceTensor> {
  const values = new Map(given);
  for (const node of topologicalOrder(roots, given)) {
    if (!values.has(node)) values.set(node, evaluateNode(node, values));
  }
  return values;
}
