// Scaled dot-product attention, found in its plain form and written as a call of a function that the
// file brings along: read back it is the same call, which chooses between its forms as it did before.
import { sameShape, type Shape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import { FUSED_QUERIES } from '../../functional/attention.ts';
import type { AttentionKind } from '../own-functions.ts';
import { type Image, intsOf, operands, reducesOver, type TracedGraph } from './graph.ts';
import { wasInBlocks } from './normalize.ts';
import {
  any,
  as,
  type Composite,
  constant,
  either,
  factor,
  type Found,
  type Match,
  op,
} from './pattern.ts';

const scores = as(
  'scores',
  op('matmul', op('mul', any('query'), factor('scale')), as('turned', op('permute', any('key')))),
);

/** The larger ones first: what is added may be anything. */
const visible = as(
  'visible',
  either(
    op('select', any('seen'), scores, constant(-Infinity)),
    op('add', scores, any('bias')),
    scores,
  ),
);

const weights = op(
  'mul',
  as('powers', op('exp', op('sub', visible, as('top', op('max', any('visible')))))),
  op('reciprocal', as('total', op('sum', any('powers')))),
);

/** Whether axes are swapped as a matrix is transposed. */
function isTransposition(node: Node): boolean {
  const rank = node.shape.length;
  const wanted = node.shape.map((_, axis) => axis);
  return sameShape(intsOf(node, 'axes'), swapped(wanted)) && rank >= 2;
}

function swapped(axes: readonly number[]): number[] {
  return [...axes.slice(0, -2), axes.at(-1) as number, axes.at(-2) as number];
}

/** Whether keys are seen by their place alone: those that are no later than the query. */
function isCausal(seen: Node, plane: Shape): boolean {
  if (seen.storage !== null || seen.op.name !== 'greaterEqual') return false;
  if (!sameShape(seen.shape, plane)) return false;
  return operands(seen).every(
    (node, axis) => node.storage === null && node.op.name === 'iota' && node.attrs['axis'] === axis,
  );
}

function kindOf({ seen, bias, scores: all }: Found): AttentionKind {
  if (bias !== undefined) return 'ScaledDotProductAttentionBiased';
  if (seen === undefined) return 'ScaledDotProductAttention';
  const isPlace = isCausal(seen, (all as Node).shape.slice(-2));
  return isPlace ? 'ScaledDotProductAttentionCausal' : 'ScaledDotProductAttentionMasked';
}

/**
 * Whether the plain form is what the call would be: with many queries it would be in blocks, so what
 * is plain there was written by hand.
 */
function isCall(node: Node, graph: TracedGraph): boolean {
  return graph
    .images(node)
    .every((image) => (image.shape.at(-2) as number) < FUSED_QUERIES || wasInBlocks(image));
}

function attention(found: Found, node: Node, graph: TracedGraph): Match | null {
  const { turned, top, total, scores: all, value } = found as Readonly<Record<string, Node>>;
  const last = (all as Node).shape.length - 1;
  const batch = ({ shape }: Image): Shape => shape.slice(0, -2);
  const fits =
    isTransposition(turned as Node) &&
    [top, total].every((reduction) => reducesOver(reduction as Node, [last])) &&
    (found['visible'] as Node).shape.length === (all as Node).shape.length &&
    graph.everywhere(
      ['query', 'key', 'value'].map((name) => found[name] as Node),
      (q, k, v) =>
        sameShape(batch(q as Image), batch(k as Image)) &&
        sameShape(batch(q as Image), batch(v as Image)),
    ) &&
    graph.everywhere([all as Node, found['visible'] as Node], (a, b) =>
      sameShape((a as Image).shape, (b as Image).shape),
    );
  if (!fits || value === undefined || !isCall(node, graph)) return null;
  const kind = kindOf(found);
  const mask =
    kind === 'ScaledDotProductAttentionCausal' ? undefined : (found['seen'] ?? found['bias']);
  const perm = swapped((turned as Node).shape.map((_, axis) => axis));
  return {
    needs: [
      ...['query', 'key', 'value', 'scale'].map((name) => found[name] as Node),
      ...(mask === undefined ? [] : [mask]),
    ],
    write: (writer, inputs) => writer.addCall(kind, inputs, { perm }),
  };
}

const pattern = op('matmul', weights, any('value'));

/** Whether a product is that of an attention, which is not to become part of something else. */
export function endsAttention(node: Node, graph: TracedGraph): boolean {
  const found = pattern(node, {}, graph);
  return found !== null && attention(found, node, graph) !== null;
}

export const ATTENTION_COMPOSITES: readonly Composite[] = [
  { name: 'attention', root: 'matmul', isCall: true, pattern, match: attention },
];
