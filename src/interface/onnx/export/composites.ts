// All composites, the larger ones first: what a node is part of decides how it is written.
import type { Node } from '../../../graph/node.ts';
import { ACTIVATION_COMPOSITES } from './activation-composites.ts';
import { ATTENTION_COMPOSITES } from './attention-composite.ts';
import type { TracedGraph } from './graph.ts';
import { NORMALIZATION_COMPOSITES } from './normalization-composites.ts';
import type { Composite, Match } from './pattern.ts';
import { POOLING_COMPOSITES } from './pooling-composites.ts';
import { PRODUCT_COMPOSITES } from './product-composites.ts';
import type { GraphWriter } from './writer.ts';

export const COMPOSITES: readonly Composite[] = [
  ...ATTENTION_COMPOSITES,
  ...NORMALIZATION_COMPOSITES,
  ...POOLING_COMPOSITES,
  ...PRODUCT_COMPOSITES,
  ...ACTIVATION_COMPOSITES,
];

/** The composite that ends in `node`, or null. */
export function findComposite(
  node: Node,
  graph: TracedGraph,
  { opset, mayCall }: Pick<GraphWriter, 'opset' | 'mayCall'>,
): Match | null {
  if (node.storage !== null) return null;
  for (const { root, sinceOpset = 1, isCall = false, pattern, match } of COMPOSITES) {
    if (root !== node.op.name || opset < sinceOpset || (isCall && !mayCall)) continue;
    const found = pattern(node, {}, graph);
    const result = found === null ? null : match(found, node, graph);
    if (result !== null) return result;
  }
  return null;
}
