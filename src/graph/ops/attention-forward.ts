// Attention that never stores all scores: FlashAttention (Dao et al. 2022, arXiv:2205.14135) with the
// online softmax of Milakov and Gimelshein (2018, arXiv:1805.02867).
import type { Expression } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { type Block, roundUp, ROW_UNIT } from './attention-blocks.ts';
import { type AttentionAttrs, BLOCK, HeadWriter, queriesOfBlock } from './attention-head.ts';

/** Rows of numbers that the forward kernel keeps for each query. */
interface Running {
  readonly top: Block;
  readonly total: Block;
  readonly decay: Block;
}

/** Scores to weights, relative to the largest score so far; what came before decays. */
function onlineSoftmax(w: HeadWriter, count: Expression, running: Running): Statement {
  const { builder, lanes, scores } = w;
  const zero = builder.constant(0);
  return w.groups('softmax', (columns) => {
    const tops = columns.map((at) => w.declare('top', w.load(running.top, zero, at, lanes)));
    const findTop = w.loop('topKey', count, (row) =>
      tops.map(({ variable }, v) => {
        const score = w.load(scores, row, columns[v]!, lanes);
        // NaN is skipped here, and comes out of exp.
        const value = builder.select(builder.compare('gt', score, variable), score, variable);
        return { kind: 'assign', variable, value } as const;
      }),
    );
    const before: Statement[] = [];
    const after: Statement[] = [];
    const states = tops.map(({ variable: top }, v) => {
      const at = columns[v]!;
      const lowest = w.number(-Infinity, lanes);
      const base = builder.variable('base', w.type, { lanes });
      const decay = builder.variable('decay', w.type, { lanes });
      const nothing = builder.compare('eq', top, lowest);
      const value = builder.select(nothing, w.number(0, lanes), top);
      before.push({ kind: 'let', variable: base, value });
      const old = builder.sub(w.load(running.top, zero, at, lanes), base);
      before.push({ kind: 'let', variable: decay, value: w.exp(old) });
      const total = w.declare('total', builder.mul(w.load(running.total, zero, at, lanes), decay));
      before.push(total.statement);
      after.push(w.store(running.decay, zero, at, decay), w.store(running.top, zero, at, top));
      after.push(w.store(running.total, zero, at, total.variable));
      return { base, total: total.variable };
    });
    const weigh = w.loop('weightKey', count, (row) =>
      states.flatMap(({ base, total }, v): Statement[] => {
        const at = columns[v]!;
        const weight = builder.variable('weight', w.type, { lanes });
        const value = w.exp(builder.sub(w.load(scores, row, at, lanes), base));
        return [
          { kind: 'let', variable: weight, value },
          w.store(scores, row, at, weight),
          { kind: 'assign', variable: total, value: builder.add(total, weight) },
        ];
      }),
    );
    return [...tops.map(({ statement }) => statement), findTop, ...before, weigh, ...after];
  });
}

/** Result and log-sum-exp of a block of queries, one query a row. */
function writeResult(
  w: HeadWriter,
  first: Expression,
  result: Block,
  { top, total, decay }: Running,
): Statement[] {
  const { builder, lanes, context, lead } = w;
  const zero = builder.constant(0);
  const finish = w.vectors('finish', w.blockQueries, (at) => {
    const sum = w.load(total, zero, at, lanes);
    const logarithm = builder.add(w.load(top, zero, at, lanes), builder.unary('log', sum));
    return [
      w.store(decay, zero, at, builder.div(w.number(1, lanes), sum)),
      w.store(top, zero, at, logarithm),
    ];
  });
  const write = w.loop('resultRow', w.rest(first, w.blockQueries, w.queries), (row) => {
    const at = (column: Expression) => [...lead, builder.add(first, row), column];
    return [
      w.loop(
        'resultColumn',
        w.valueSize,
        (column) => {
          const value = builder.mul(w.load(result, column, row), w.load(decay, zero, row));
          return context.write(at(column), value);
        },
        { vector: true },
      ),
      ...context.write(at(builder.constant(w.valueSize)), w.load(top, zero, row)),
    ];
  });
  return [finish, write];
}

/** One grid item: a block of queries of one head, with all keys. */
export function lowerAttention(
  context: KernelContext,
  attrs: AttentionAttrs,
  node: Node,
): KernelBody {
  const blockQueries = queriesOfBlock(node.shape.at(-2)!);
  const perHead = Math.ceil(node.shape.at(-2)! / blockQueries);
  const w = new HeadWriter(context, attrs, node, { perHead, mask: 3 });
  const { builder, gridIndex, gridSize } = w;
  const first = builder.scale(w.part, blockQueries);
  const query = w.block('query', w.size, blockQueries);
  const result = w.block('result', roundUp(w.valueSize, ROW_UNIT), blockQueries);
  const row = (name: string): Block => w.block(name, 1, blockQueries);
  const running = { top: row('top'), total: row('total'), decay: row('decay') };
  const zero = builder.constant(0);
  const keyBlocks = Math.ceil(w.keys / BLOCK);
  const allKeys = w.loop('keyBlock', w.seenBlocks(first, zero, keyBlocks), (block) => {
    const firstKey = builder.scale(block, BLOCK);
    const count = w.rest(firstKey, BLOCK, w.keys);
    const value = w.reader(2, firstKey);
    return [
      ...w.score(first, firstKey, count, query),
      onlineSoftmax(w, count, running),
      // What is dropped counts in the sum: only then the mean stays.
      ...(attrs.dropout > 0
        ? [
            w.dropping(first, firstKey, count, (at, column, factor) =>
              w.store(w.scores, at, column, builder.mul(w.load(w.scores, at, column), factor)),
            ),
          ]
        : []),
      w.product({
        rows: builder.constant(w.valueSize),
        depth: count,
        a: (column, k) => value(k, column),
        b: w.scores,
        c: result,
        columns: blockQueries,
        start: (old, at) => builder.mul(old, w.load(running.decay, zero, at, w.lanes)),
      }),
    ];
  });
  const body = [
    w.copyQueries(0, first, query, w.size, 'columns'),
    w.fill(running.top, 1, -Infinity),
    w.fill(running.total, 1, 0),
    w.fill(result, roundUp(w.valueSize, ROW_UNIT), 0),
    allKeys,
    ...writeResult(w, first, result, running),
  ];
  return { gridIndex, gridSize, body };
}
