// Gradients of attention: weights are computed again from the log-sum-exp of the scores, block by
// block (Dao et al. 2022, arXiv:2205.14135, algorithm 4).
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { type Block, COLUMN_UNIT, roundUp } from './attention-blocks.ts';
import { type AttentionAttrs, BLOCK, HeadWriter } from './attention-head.ts';

/** With fewer heads than this, the keys of a head are shared among several grid items, too. */
const ENOUGH_ITEMS = 16;
/** Keys that are worth a grid item of their own, and what an item holds gradients of at most. */
const PART = 256;
const LARGEST_PART = 4096;

/** Grid items that share the keys of one head in the backward kernel, and the keys of each. */
export function keyParts(heads: number, keys: number): { parts: number; keysOfPart: number } {
  const wanted = Math.min(Math.ceil(ENOUGH_ITEMS / Math.max(heads, 1)), Math.ceil(keys / PART));
  const share = Math.min(Math.ceil(keys / Math.max(wanted, 1)), LARGEST_PART);
  const keysOfPart = roundUp(Math.max(share, 1), BLOCK);
  return { parts: Math.max(1, Math.ceil(keys / keysOfPart)), keysOfPart };
}

/** Inputs of the backward kernels behind query, key and value. */
export const GRAD = 3;
export const LOG_SUM = 4;
export const SHARE = 5;
export const BACKWARD_MASK = 6;

/** What the backward kernel keeps of a block of queries, and of all keys of the item. */
interface BackwardBlocks {
  /** Queries and gradients, one a row and one a column. */
  readonly query: Block;
  readonly queryColumns: Block;
  readonly grad: Block;
  readonly gradColumns: Block;
  readonly logSum: Block;
  readonly share: Block;
  /** Gradients of the scores. */
  readonly slopes: Block;
  /** What dropout makes of the weights; null without it. */
  readonly factors: Block | null;
  readonly key: Block;
  readonly queryGrad: Block;
  readonly keyGrad: Block;
  readonly valueGrad: Block;
}

function backwardBlocks(w: HeadWriter, keys: number): BackwardBlocks {
  const { size, valueSize, blockQueries } = w;
  const wide = roundUp(size, COLUMN_UNIT);
  const wideValue = roundUp(valueSize, COLUMN_UNIT);
  return {
    query: w.block('query', blockQueries, wide),
    queryColumns: w.block('queryColumns', size, blockQueries),
    grad: w.block('grad', blockQueries, wideValue),
    gradColumns: w.block('gradColumns', valueSize, blockQueries),
    logSum: w.block('logSum', 1, blockQueries),
    share: w.block('share', 1, blockQueries),
    slopes: w.block('slopes', BLOCK, blockQueries),
    factors: w.attrs.dropout > 0 ? w.block('factors', BLOCK, blockQueries) : null,
    key: w.block('key', BLOCK, wide),
    queryGrad: w.block('queryGrad', blockQueries, wide),
    keyGrad: w.block('keyGrad', keys, wide),
    valueGrad: w.block('valueGrad', keys, wideValue),
  };
}

/** One block of queries with one block of keys: adds to all three gradients. */
function backwardStep(
  w: HeadWriter,
  b: BackwardBlocks,
  place: {
    readonly firstQuery: Expression;
    readonly queries: Expression;
    readonly firstKey: Expression;
    /** The block's first row in the gradients of keys and values. */
    readonly row: Expression;
  },
): readonly Statement[] {
  const { builder, lanes, scores, blockQueries } = w;
  const { firstQuery, queries, firstKey } = place;
  const zero = builder.constant(0);
  const count = w.rest(firstKey, BLOCK, w.keys);
  const key = w.reader(1, firstKey);
  const weigh = w.groups('weights', (columns) => [
    w.loop('weightKey', count, (row) =>
      columns.map((at) => {
        const score = w.load(scores, row, at, lanes);
        const weight = w.exp(builder.sub(score, w.load(b.logSum, zero, at, lanes)));
        return w.store(scores, row, at, weight);
      }),
    ),
  ]);
  const from = (block: Block): Block => ({
    ...block,
    first: builder.scale(place.row, block.width),
  });
  const addTo = (grad: Block, weights: Block, rows: Block): Statement =>
    w.product({
      rows: count,
      depth: queries,
      a: (row, k) => w.load(weights, row, k),
      b: rows,
      c: from(grad),
      columns: rows.width,
    });
  const { factors } = b;
  // Until they are computed, slopes hold the weights that are left.
  const drop =
    factors === null
      ? null
      : [
          w.dropping(firstQuery, firstKey, count, (at, column, factor) =>
            w.store(factors, at, column, factor),
          ),
          w.loop('leftKey', count, (at) => [
            w.vectors('left', blockQueries, (column) => {
              const factor = w.load(factors, at, column, lanes);
              const left = builder.mul(w.load(scores, at, column, lanes), factor);
              return [w.store(b.slopes, at, column, left)];
            }),
          ]),
        ];
  return [
    ...w.score(firstQuery, firstKey, count, b.queryColumns),
    weigh,
    ...(drop ?? []),
    addTo(b.valueGrad, drop === null ? scores : b.slopes, b.grad),
    slopesOf(w, b, b.gradColumns, firstKey, count),
    addTo(b.keyGrad, b.slopes, b.query),
    w.loop('key', count, (row) => [
      w.loop('element', w.size, (column) => [w.store(b.key, row, column, key(row, column))], {
        vector: true,
      }),
    ]),
    w.product({
      rows: queries,
      depth: count,
      a: (row, k) => w.load(b.slopes, k, row),
      b: b.key,
      c: b.queryGrad,
      columns: b.key.width,
    }),
  ];
}

/** Writes `count` rows of the result from `firstRow`; beyond `size` they are zeros. */
function writeRows(
  w: HeadWriter,
  firstRow: Expression,
  count: Expression,
  { size, width }: { readonly size: number; readonly width: number },
  value: (row: Expression, column: Expression) => Expression,
): Statement {
  const { builder, context } = w;
  return w.loop('gradRow', count, (row) => {
    const write = (column: Expression, what: Expression): readonly Statement[] =>
      context.write([...w.lead, w.part, builder.add(firstRow, row), column], what);
    const columns = w.loop('gradColumn', size, (c) => write(c, value(row, c)), { vector: true });
    const rest = w.loop('zeroColumn', width - size, (c) =>
      write(builder.offset(c, size), w.number(0)),
    );
    return size < width ? [columns, rest] : [columns];
  });
}

/**
 * Gradients of a block of scores by what becomes of them: values times `grad`, dropped as the weights
 * were, less what rows share, times the weights that stand in the scores.
 */
export function slopesOf(
  w: HeadWriter,
  b: { readonly slopes: Block; readonly share: Block; readonly factors: Block | null },
  grad: Block,
  firstKey: Expression,
  count: Expression,
): Statement {
  const { builder, lanes, scores, blockQueries } = w;
  const { factors } = b;
  return w.product({
    rows: count,
    depth: builder.constant(w.valueSize),
    a: w.reader(2, firstKey),
    b: grad,
    c: b.slopes,
    columns: blockQueries,
    start: () => w.number(0, lanes),
    finish: (sum, row, at) => {
      const left = factors === null ? sum : builder.mul(sum, w.load(factors, row, at, lanes));
      const excess = builder.sub(left, w.load(b.share, builder.constant(0), at, lanes));
      return builder.mul(excess, w.load(scores, row, at, lanes));
    },
  });
}

/**
 * One grid item: some keys of one head, with all queries. Its rows of the result are the gradient of
 * the queries by these keys, then the gradients of the keys, then of the values.
 */
export function lowerAttentionBackward(
  context: KernelContext,
  attrs: AttentionAttrs,
  node: Node,
): KernelBody {
  const keysOfPart = (node.shape.at(-2)! - node.inputs[0]!.shape.at(-2)!) / 2;
  const grid = { perHead: node.shape.at(-3)!, mask: BACKWARD_MASK };
  const w = new HeadWriter(context, attrs, node, grid);
  const { builder, gridIndex, gridSize, blockQueries, queries, size, valueSize } = w;
  const firstKey = builder.scale(w.part, keysOfPart);
  const b = backwardBlocks(w, keysOfPart);
  const width = node.shape.at(-1)!;
  const perQueries = w.loop('queryBlock', Math.ceil(queries / blockQueries), (block) => {
    const first = builder.scale(block, blockQueries);
    const count = w.rest(first, blockQueries, queries);
    const steps = w.loop('keyBlock', w.seenBlocks(first, firstKey, keysOfPart / BLOCK), (step) => {
      const row = builder.scale(step, BLOCK);
      const place = { firstQuery: first, queries: count, row };
      return backwardStep(w, b, { ...place, firstKey: builder.add(firstKey, row) });
    });
    return [
      w.copyQueries(0, first, b.query, size, 'rows'),
      w.copyQueries(0, first, b.queryColumns, size, 'columns'),
      w.copyQueries(GRAD, first, b.grad, valueSize, 'rows'),
      w.copyQueries(GRAD, first, b.gradColumns, valueSize, 'columns'),
      w.copyQueries(LOG_SUM, first, b.logSum, 1, 'columns'),
      w.copyQueries(SHARE, first, b.share, 1, 'columns'),
      w.fill(b.queryGrad, blockQueries, 0),
      steps,
      writeRows(w, first, count, { size, width }, (row, column) =>
        builder.mul(w.load(b.queryGrad, row, column), w.number(attrs.scale)),
      ),
    ];
  });
  const ofPart = builder.constant(keysOfPart);
  const writeGrad = (grad: Block, columns: number, firstRow: number): Statement =>
    writeRows(w, builder.constant(firstRow), ofPart, { size: columns, width }, (row, column) => {
      // Rows of register tiles beyond the last key hold anything.
      const exists = builder.compare('lt', builder.add(firstKey, row), builder.constant(w.keys));
      return builder.select(exists, w.load(grad, row, column), w.number(0));
    });
  const body = [
    w.fill(b.keyGrad, keysOfPart, 0),
    w.fill(b.valueGrad, keysOfPart, 0),
    perQueries,
    writeGrad(b.keyGrad, size, queries),
    writeGrad(b.valueGrad, valueSize, queries + keysOfPart),
  ];
  return { gridIndex, gridSize, body };
}
