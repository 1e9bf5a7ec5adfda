// The gradient of attention by a mask of numbers: that of the scores, summed over what shares the mask.
// Blocks are computed again, so that no scores are stored beside the mask's own size.
import { sizeOf } from '../../base/shape.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { BACKWARD_MASK, GRAD, LOG_SUM, SHARE, slopesOf } from './attention-backward.ts';
import type { Block } from './attention-blocks.ts';
import { type AttentionAttrs, BLOCK, HeadWriter, queriesOfBlock } from './attention-head.ts';
import { unflatten } from './emit.ts';

/** What the kernel keeps of a block of queries with a block of keys; queries lie along vectors. */
interface MaskBlocks {
  readonly query: Block;
  readonly grad: Block;
  readonly logSum: Block;
  readonly share: Block;
  /** Gradients of the scores, of one head, */
  readonly slopes: Block;
  /** and the sum of all heads that share the mask. */
  readonly total: Block;
  /** What dropout makes of the weights; null without it. */
  readonly factors: Block | null;
}

/** One block of queries with one block of keys of one head: adds to the sum. */
function addSlopes(
  w: HeadWriter,
  b: MaskBlocks,
  firstQuery: Expression,
  firstKey: Expression,
  count: Expression,
): readonly Statement[] {
  const { builder, lanes, scores, blockQueries } = w;
  const zero = builder.constant(0);
  const weigh = w.loop('weightKey', count, (row) => [
    w.vectors('weights', blockQueries, (at) => {
      const score = w.load(scores, row, at, lanes);
      const weight = w.exp(builder.sub(score, w.load(b.logSum, zero, at, lanes)));
      return [w.store(scores, row, at, weight)];
    }),
  ]);
  const { factors } = b;
  const drop =
    factors === null
      ? []
      : [
          w.dropping(firstQuery, firstKey, count, (at, column, factor) =>
            w.store(factors, at, column, factor),
          ),
        ];
  const slopes = slopesOf(w, b, b.grad, firstKey, count);
  const add = w.loop('sumKey', count, (row) => [
    w.loop(
      'sumQuery',
      blockQueries,
      (column) => {
        // Beyond the last query it is repeated, which must not count.
        const exists = builder.compare(
          'lt',
          builder.add(firstQuery, column),
          builder.constant(w.queries),
        );
        const slope = builder.select(exists, w.load(b.slopes, row, column), w.number(0));
        const sum = builder.add(w.load(b.total, row, column), slope);
        return [w.store(b.total, row, column, sum)];
      },
      { vector: true },
    ),
  ]);
  return [
    w.copyQueries(0, firstQuery, b.query, w.size, 'columns'),
    w.copyQueries(GRAD, firstQuery, b.grad, w.valueSize, 'columns'),
    w.copyQueries(LOG_SUM, firstQuery, b.logSum, 1, 'columns'),
    w.copyQueries(SHARE, firstQuery, b.share, 1, 'columns'),
    ...w.score(firstQuery, firstKey, count, b.query),
    weigh,
    ...drop,
    slopes,
    add,
  ];
}

/** One grid item: a block of keys, with a block of queries or, where these share the mask, with all. */
export function lowerAttentionMask(
  context: KernelContext,
  attrs: AttentionAttrs,
  node: Node,
): KernelBody {
  const { builder } = context;
  const batch = node.inputs[0]!.shape.slice(0, -2);
  const own = node.shape.slice(0, -2);
  const shared = batch.map((size, axis) => (own[axis] === 1 ? size : 1));
  const sharing = sizeOf(shared);
  const index = builder.variable('sharing', 'i32', { min: 0, max: Math.max(0, sharing - 1) });
  const [queries, keys] = [node.inputs[0]!.shape.at(-2)!, node.shape.at(-1)!];
  const isPerQuery = node.shape.at(-2) === queries;
  const blockQueries = queriesOfBlock(queries);
  const queryBlocks = Math.ceil(queries / blockQueries);
  const keyBlocks = Math.ceil(keys / BLOCK);
  let place: readonly Expression[] = [];
  const w = new HeadWriter(context, attrs, node, {
    perHead: keyBlocks * (isPerQuery ? queryBlocks : 1),
    mask: BACKWARD_MASK,
    heads: {
      count: sizeOf(own),
      lead: (head) => {
        place = unflatten(builder, head, own);
        const others = unflatten(builder, index, shared);
        return place.map((one, axis) => (own[axis] === 1 ? others[axis]! : one));
      },
    },
  });
  const firstKey = builder.scale(builder.rem(w.part, builder.constant(keyBlocks)), BLOCK);
  const count = w.rest(firstKey, BLOCK, keys);
  const b: MaskBlocks = {
    query: w.block('query', w.size, blockQueries),
    grad: w.block('grad', w.valueSize, blockQueries),
    logSum: w.block('logSum', 1, blockQueries),
    share: w.block('share', 1, blockQueries),
    slopes: w.block('slopes', BLOCK, blockQueries),
    total: w.block('total', BLOCK, blockQueries),
    factors: attrs.dropout > 0 ? w.block('factors', BLOCK, blockQueries) : null,
  };
  const ownQuery = builder.scale(
    builder.div(w.part, builder.constant(Math.max(1, keyBlocks))),
    blockQueries,
  );
  const steps = isPerQuery
    ? addSlopes(w, b, ownQuery, firstKey, count)
    : [
        w.loop('queryBlock', queryBlocks, (block) =>
          addSlopes(w, b, builder.scale(block, blockQueries), firstKey, count),
        ),
      ];
  const overShared: Statement = {
    kind: 'for',
    index,
    start: builder.constant(0),
    end: builder.constant(sharing),
    step: 1,
    body: steps,
    vector: false,
  };
  const write = isPerQuery
    ? writePerQuery(w, b, place, ownQuery, firstKey, count)
    : writeSum(w, b, place, firstKey, count);
  const body = [w.fill(b.total, BLOCK, 0), overShared, ...write];
  return { gridIndex: w.gridIndex, gridSize: w.gridSize, body };
}

function writePerQuery(
  w: HeadWriter,
  b: MaskBlocks,
  place: readonly Expression[],
  firstQuery: Expression,
  firstKey: Expression,
  count: Expression,
): readonly Statement[] {
  const { builder, context } = w;
  return [
    w.loop('maskGradQuery', w.rest(firstQuery, w.blockQueries, w.queries), (query) => [
      w.loop('maskGradKey', count, (key) =>
        context.write(
          [...place, builder.add(firstQuery, query), builder.add(firstKey, key)],
          w.load(b.total, key, query),
        ),
      ),
    ]),
  ];
}

/** The sum over queries: into the first column, one after the other. */
function writeSum(
  w: HeadWriter,
  b: MaskBlocks,
  place: readonly Expression[],
  firstKey: Expression,
  count: Expression,
): readonly Statement[] {
  const { builder, context } = w;
  const zero = builder.constant(0);
  return [
    w.loop('maskGradKey', count, (key) => [
      w.loop('maskGradQuery', w.blockQueries - 1, (query) => {
        const next = w.load(b.total, key, builder.offset(query, 1));
        return [w.store(b.total, key, zero, builder.add(w.load(b.total, key, zero), next))];
      }),
      ...context.write([...place, zero, builder.add(firstKey, key)], w.load(b.total, key, zero)),
    ]),
  ];
}
