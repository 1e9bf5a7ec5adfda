// Kernels of attention that never store all scores: FlashAttention (Dao et al. 2022,
// arXiv:2205.14135) with the online softmax of Milakov and Gimelshein (2018, arXiv:1805.02867).
import { sizeOf } from '../../base/shape.ts';
import type { Expression } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import { dependsOn } from '../../ir/linear.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { type Block, BlockWriter, COLUMN_UNIT, roundUp, ROW_UNIT } from './attention-blocks.ts';
import { unflatten } from './emit.ts';

export interface AttentionAttrs {
  readonly scale: number;
  readonly causal: boolean;
}

/** Keys of a block, and queries at most. Sums depend on it, so it is the same on every target. */
const BLOCK = 64;
/** Vectors that the softmax of a block works on at once. */
const TOGETHER = 4;
/** With fewer heads than this, the keys of a head are shared among several grid items, too. */
const ENOUGH_ITEMS = 16;
/** Keys that are worth a grid item of their own. */
const PART = 256;

/** Grid items that share the keys of one head in the backward kernel, and the keys of each. */
export function keyParts(heads: number, keys: number): { parts: number; keysOfPart: number } {
  const most = Math.min(Math.ceil(ENOUGH_ITEMS / Math.max(heads, 1)), Math.ceil(keys / PART));
  const keysOfPart = roundUp(Math.max(1, Math.ceil(keys / Math.max(most, 1))), BLOCK);
  return { parts: Math.max(1, Math.ceil(keys / keysOfPart)), keysOfPart };
}

/** Queries of a block: equal blocks, not one that is nearly empty at the end. */
function queriesOfBlock(queries: number): number {
  const blocks = Math.ceil(Math.max(queries, 1) / BLOCK);
  return roundUp(Math.max(1, Math.ceil(queries / blocks)), COLUMN_UNIT);
}

/** What both kernels know and do: one head's queries and keys in blocks. */
class HeadWriter extends BlockWriter {
  readonly attrs: AttentionAttrs;
  /** Index of the mask among the inputs; -1: there is none. */
  readonly mask: number;
  readonly batch: readonly number[];
  readonly queries: number;
  readonly keys: number;
  /** Size of a query and of a value, and how much room they take as rows and as columns. */
  readonly size: number;
  readonly valueSize: number;
  readonly blockQueries: number;
  readonly blocks: number;
  readonly scores: Block;
  readonly key: Block;
  readonly value: Block;

  constructor(context: KernelContext, attrs: AttentionAttrs, node: Node, mask: number) {
    super(context, node.dtype);
    const [q, k, v] = node.inputs as [Node, Node, Node];
    this.attrs = attrs;
    this.mask = mask < node.inputs.length ? mask : -1;
    this.batch = q.shape.slice(0, -2);
    this.queries = q.shape.at(-2)!;
    this.keys = k.shape.at(-2)!;
    this.size = q.shape.at(-1)!;
    this.valueSize = v.shape.at(-1)!;
    this.blockQueries = queriesOfBlock(this.queries);
    this.blocks = Math.ceil(this.queries / this.blockQueries);
    this.scores = this.block('scores', BLOCK, this.blockQueries);
    this.key = this.block('key', BLOCK, roundUp(this.size, ROW_UNIT));
    this.value = this.block('value', BLOCK, roundUp(this.valueSize, ROW_UNIT));
  }

  get heads(): number {
    return sizeOf(this.batch);
  }

  /** Indices of the batch axes of head `head`. */
  lead(head: Expression): readonly Expression[] {
    return unflatten(this.builder, head, this.batch);
  }

  /** `limit` rows from `first`, or as many as there are. */
  rest(first: Expression, limit: number, all: number): Expression {
    const { builder } = this;
    const left = builder.sub(builder.constant(all), first);
    return builder.max(builder.min(builder.constant(limit), left), builder.constant(0));
  }

  /** Rows of an input from `first` on into a block as they are. */
  copy(
    input: number,
    lead: readonly Expression[],
    first: Expression,
    count: Expression,
    to: Block,
    size: number,
  ): Statement {
    const { builder, context } = this;
    const last = builder.constant((input === 0 || input > 2 ? this.queries : this.keys) - 1);
    return this.loop('row', count, (row) => [
      this.loop(
        'column',
        size,
        (column) => {
          const at = builder.min(builder.add(first, row), last);
          const read = context.read(input, [...lead, at, column]);
          const value = input === 0 ? builder.mul(read, this.number(this.attrs.scale)) : read;
          return [this.store(to, row, column, value)];
        },
        { vector: true },
      ),
    ]);
  }

  /** A block of queries with one query a column; beyond the last query it is repeated. */
  copyTransposed(
    input: number,
    lead: readonly Expression[],
    first: Expression,
    to: Block,
    size: number,
  ): Statement {
    const { builder, context } = this;
    const last = builder.constant(this.queries - 1);
    return this.loop('query', this.blockQueries, (query) => {
      const at = builder.min(builder.add(first, query), last);
      return [
        this.loop('row', size, (row) => {
          const read = context.read(input, [...lead, at, row]);
          const value = input === 0 ? builder.mul(read, this.number(this.attrs.scale)) : read;
          return [this.store(to, row, query, value)];
        }),
      ];
    });
  }

  /** Scores of `count` keys from `firstKey`, one a row, masked. */
  score(
    lead: readonly Expression[],
    firstQuery: Expression,
    firstKey: Expression,
    count: Expression,
    query: Block,
  ): readonly Statement[] {
    const { builder, context, scores } = this;
    const each = (change: (score: Expression, q: Expression, k: Expression) => Expression) =>
      this.loop('maskRow', count, (row) => [
        this.loop(
          'maskColumn',
          this.blockQueries,
          (column) => {
            const [q, k] = [builder.add(firstQuery, column), builder.add(firstKey, row)];
            return [this.store(scores, row, column, change(this.load(scores, row, column), q, k))];
          },
          { vector: true },
        ),
      ]);
    const statements: Statement[] = [
      this.product({
        rows: count,
        depth: builder.constant(this.size),
        a: this.key,
        transposed: false,
        b: query,
        c: scores,
        columns: this.blockQueries,
        start: () => this.number(0, this.lanes),
      }),
    ];
    if (this.mask >= 0) {
      const { before, read } = this.#maskReader(lead, firstQuery, firstKey, count);
      statements.push(...before);
      statements.push(each((score, q, k) => builder.add(score, read(q, k))));
    }
    if (this.attrs.causal) {
      const hide = each((score, q, k) =>
        builder.select(builder.compare('le', k, q), score, this.number(-Infinity)),
      );
      const lastKey = builder.offset(firstKey, BLOCK - 1);
      statements.push(branch(builder.compare('gt', lastKey, firstQuery), [hide]));
    }
    return statements;
  }

  /** How the mask is read; one that differs between queries is turned a block at a time. */
  #maskReader(
    lead: readonly Expression[],
    firstQuery: Expression,
    firstKey: Expression,
    count: Expression,
  ) {
    const { builder, context, mask, blockQueries } = this;
    const read = (q: Expression, k: Expression): Expression =>
      context.read(mask, [...lead, builder.min(q, builder.constant(this.queries - 1)), k]);
    const probe = builder.variable('probe', 'i32', { min: 0, max: this.queries });
    if (!dependsOn(read(probe, firstKey), probe)) return { before: [], read };
    const turned = this.block('mask', BLOCK, blockQueries);
    const turn = this.loop('maskQuery', blockQueries, (query) => [
      this.loop('maskKey', count, (key) => {
        const value = read(builder.add(firstQuery, query), builder.add(firstKey, key));
        return [this.store(turned, key, query, value)];
      }),
    ]);
    const readTurned = (q: Expression, k: Expression): Expression =>
      this.load(turned, builder.sub(k, firstKey), builder.sub(q, firstQuery));
    return { before: [turn], read: readTurned };
  }

  /** Blocks of keys, of `limit`, that the queries from `firstQuery` on may see. */
  seenBlocks(firstQuery: Expression, firstKey: Expression, limit: number): Expression {
    const { builder } = this;
    const all = builder.constant(limit);
    if (!this.attrs.causal) return all;
    const reach = builder.sub(builder.offset(firstQuery, this.blockQueries + BLOCK - 1), firstKey);
    return builder.min(
      builder.div(builder.max(reach, builder.constant(0)), builder.constant(BLOCK)),
      all,
    );
  }

  /** Groups of vectors that lie side by side in a row of queries, each with its columns. */
  groups(name: string, body: (columns: readonly Expression[]) => readonly Statement[]): Statement {
    const { builder, lanes } = this;
    const vectors = this.blockQueries / lanes;
    let together = TOGETHER;
    while (vectors % together !== 0) together--;
    const width = together * lanes;
    return this.loop(name, this.blockQueries / width, (group) =>
      body(
        Array.from({ length: together }, (_, v) =>
          builder.offset(builder.scale(group, width), v * lanes),
        ),
      ),
    );
  }

  /** A fresh variable and its declaration. */
  declare(name: string, value: Expression) {
    const { type, lanes } = value;
    const variable = this.builder.variable(name, type, { lanes, mutable: true });
    return { variable, statement: { kind: 'declare', variable, value } as const };
  }

  exp(value: Expression): Expression {
    return this.builder.unary('exp', value);
  }
}

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
  lead: readonly Expression[],
  first: Expression,
  result: Block,
  { top, total, decay }: Running,
): Statement[] {
  const { builder, lanes, context } = w;
  const zero = builder.constant(0);
  const finish = w.vectors('finish', w.blockQueries, (at) => {
    const sum = w.load(total, zero, at, lanes);
    const logarithm = builder.add(w.load(top, zero, at, lanes), builder.unary('log', sum));
    return [
      w.store(decay, zero, at, builder.div(w.number(1, lanes), sum)),
      w.store(top, zero, at, logarithm),
    ];
  });
  const write = w.loop(
    'resultRow',
    w.rest(first, w.blockQueries, w.queries),
    (row) => {
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
    },
    { limit: w.blockQueries },
  );
  return [finish, write];
}

/** One grid item: a block of queries of one head, with all keys. */
export function lowerAttention(
  context: KernelContext,
  attrs: AttentionAttrs,
  node: Node,
): KernelBody {
  const w = new HeadWriter(context, attrs, node, 3);
  const { builder, blockQueries, blocks } = w;
  const gridSize = w.heads * blocks;
  const gridIndex = builder.variable('item', 'i32', { min: 0, max: gridSize - 1 });
  const lead = w.lead(builder.div(gridIndex, builder.constant(blocks)));
  const first = builder.scale(builder.rem(gridIndex, builder.constant(blocks)), blockQueries);
  const query = w.block('query', w.size, blockQueries);
  const result = w.block('result', roundUp(w.valueSize, ROW_UNIT), blockQueries);
  const row = (name: string): Block => w.block(name, 1, blockQueries);
  const running = { top: row('top'), total: row('total'), decay: row('decay') };
  const zero = builder.constant(0);
  const keyBlocks = Math.ceil(w.keys / BLOCK);
  const allKeys = w.loop('keyBlock', w.seenBlocks(first, zero, keyBlocks), (block) => {
    const firstKey = builder.scale(block, BLOCK);
    const count = w.rest(firstKey, BLOCK, w.keys);
    return [
      w.copy(1, lead, firstKey, count, w.key, w.size),
      ...w.score(lead, first, firstKey, count, query),
      onlineSoftmax(w, count, running),
      w.copy(2, lead, firstKey, count, w.value, w.valueSize),
      w.product({
        rows: builder.constant(w.valueSize),
        depth: count,
        a: w.value,
        transposed: true,
        b: w.scores,
        c: result,
        columns: blockQueries,
        start: (old, at) => builder.mul(old, w.load(running.decay, zero, at, w.lanes)),
      }),
    ];
  });
  const body = [
    w.copyTransposed(0, lead, first, query, w.size),
    w.fill(running.top, 1, -Infinity),
    w.fill(running.total, 1, 0),
    w.fill(result, roundUp(w.valueSize, ROW_UNIT), 0),
    allKeys,
    ...writeResult(w, lead, first, result, running),
  ];
  return { gridIndex, gridSize, body };
}

/** Inputs of the backward kernel behind query, key and value. */
const GRAD = 3;
const LOG_SUM = 4;
const SHARE = 5;
const BACKWARD_MASK = 6;

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
    queryGrad: w.block('queryGrad', roundUp(size, ROW_UNIT), blockQueries),
    keyGrad: w.block('keyGrad', keys, wide),
    valueGrad: w.block('valueGrad', keys, wideValue),
  };
}

/** One block of queries with one block of keys: adds to all three gradients. */
function backwardStep(
  w: HeadWriter,
  b: BackwardBlocks,
  place: {
    readonly lead: readonly Expression[];
    readonly firstQuery: Expression;
    readonly queries: Expression;
    readonly firstKey: Expression;
    /** The block's first row in the gradients of keys and values. */
    readonly row: Expression;
  },
): readonly Statement[] {
  const { builder, lanes, scores, blockQueries } = w;
  const { lead, firstQuery, queries, firstKey } = place;
  const zero = builder.constant(0);
  const count = w.rest(firstKey, BLOCK, w.keys);
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
      a: weights,
      transposed: false,
      b: rows,
      c: from(grad),
      columns: rows.width,
    });
  return [
    w.copy(1, lead, firstKey, count, w.key, w.size),
    w.copy(2, lead, firstKey, count, w.value, w.valueSize),
    ...w.score(lead, firstQuery, firstKey, count, b.queryColumns),
    weigh,
    addTo(b.valueGrad, scores, b.grad),
    w.product({
      rows: count,
      depth: builder.constant(w.valueSize),
      a: w.value,
      transposed: false,
      b: b.gradColumns,
      c: b.slopes,
      columns: blockQueries,
      start: () => w.number(0, lanes),
      finish: (sum, row, at) =>
        builder.mul(
          builder.sub(sum, w.load(b.share, zero, at, lanes)),
          w.load(scores, row, at, lanes),
        ),
    }),
    addTo(b.keyGrad, b.slopes, b.query),
    w.product({
      rows: builder.constant(w.size),
      depth: count,
      a: w.key,
      transposed: true,
      b: b.slopes,
      c: b.queryGrad,
      columns: blockQueries,
    }),
  ];
}

/** Writes `count` rows of the result from `firstRow`; beyond `size` they are zeros. */
function writeRows(
  w: HeadWriter,
  lead: readonly Expression[],
  firstRow: Expression,
  count: Expression | number,
  { size, width, limit }: { size: number; width: number; limit: number },
  value: (row: Expression, column: Expression) => Expression,
): Statement {
  const { builder, context } = w;
  return w.loop(
    'gradRow',
    count,
    (row) => {
      const at = (column: Expression) => [...lead, builder.add(firstRow, row), column];
      const columns = w.loop('gradColumn', size, (c) => context.write(at(c), value(row, c)), {
        vector: true,
      });
      const rest = w.loop('zeroColumn', width - size, (column) =>
        context.write(at(builder.offset(column, size)), w.number(0)),
      );
      return size < width ? [columns, rest] : [columns];
    },
    { limit },
  );
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
  const w = new HeadWriter(context, attrs, node, BACKWARD_MASK);
  const { builder, blockQueries, queries } = w;
  const { parts, keysOfPart } = keyParts(w.heads, w.keys);
  const gridSize = w.heads * parts;
  const gridIndex = builder.variable('item', 'i32', { min: 0, max: gridSize - 1 });
  const lead = w.lead(builder.div(gridIndex, builder.constant(parts)));
  const part = builder.rem(gridIndex, builder.constant(parts));
  const firstKey = builder.scale(part, keysOfPart);
  const b = backwardBlocks(w, keysOfPart);
  const zero = builder.constant(0);
  const width = node.shape.at(-1)!;
  const target = [...lead, part];
  const byQuery = (input: number, to: Block, first: Expression): Statement =>
    w.loop('statistic', blockQueries, (query) => {
      const at = builder.min(builder.add(first, query), builder.constant(queries - 1));
      return [w.store(to, zero, query, context.read(input, [...lead, at, zero]))];
    });
  const perQueries = w.loop('queryBlock', w.blocks, (block) => {
    const first = builder.scale(block, blockQueries);
    const count = w.rest(first, blockQueries, queries);
    const steps = w.loop('keyBlock', w.seenBlocks(first, firstKey, keysOfPart / BLOCK), (step) => {
      const row = builder.scale(step, BLOCK);
      const place = { lead, firstQuery: first, queries: count, row };
      return backwardStep(w, b, { ...place, firstKey: builder.add(firstKey, row) });
    });
    return [
      w.copy(0, lead, first, count, b.query, w.size),
      w.copyTransposed(0, lead, first, b.queryColumns, w.size),
      w.copy(GRAD, lead, first, count, b.grad, w.valueSize),
      w.copyTransposed(GRAD, lead, first, b.gradColumns, w.valueSize),
      byQuery(LOG_SUM, b.logSum, first),
      byQuery(SHARE, b.share, first),
      w.fill(b.queryGrad, roundUp(w.size, ROW_UNIT), 0),
      steps,
      writeRows(w, target, first, count, { size: w.size, width, limit: blockQueries }, (row, c) =>
        builder.mul(w.load(b.queryGrad, c, row), w.number(attrs.scale)),
      ),
    ];
  });
  const writeGrad = (grad: Block, size: number, firstRow: number): Statement =>
    writeRows(
      w,
      target,
      builder.constant(firstRow),
      keysOfPart,
      { size, width, limit: keysOfPart },
      (row, c) => {
        // Rows of register tiles beyond the last key hold anything.
        const exists = builder.compare('lt', builder.add(firstKey, row), builder.constant(w.keys));
        return builder.select(exists, w.load(grad, row, c), w.number(0));
      },
    );
  const body = [
    w.fill(b.keyGrad, keysOfPart, 0),
    w.fill(b.valueGrad, keysOfPart, 0),
    perQueries,
    writeGrad(b.keyGrad, w.size, queries),
    writeGrad(b.valueGrad, w.valueSize, queries + keysOfPart),
  ];
  return { gridIndex, gridSize, body };
}
