// One head of attention in blocks: queries and keys as the kernels read them, masked scores.
import { type Shape, sizeOf } from '../../base/shape.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import { dependsOn } from '../../ir/linear.ts';
import type { Node } from '../node.ts';
import type { KernelContext } from '../op.ts';
import { type Block, BlockWriter, COLUMN_UNIT, roundUp } from './attention-blocks.ts';
import { unflatten } from './emit.ts';
import { emitPhilox } from './random.ts';

export interface AttentionAttrs {
  readonly scale: number;
  readonly causal: boolean;
  /** Probability that a weight is dropped. With one above 0 the last four inputs are a random source. */
  readonly dropout: number;
}

/** Words that a row of `keys` weights draws: whole blocks, so that four keys share one. */
export function drawnKeys(keys: number): number {
  return roundUp(keys, 4);
}

/** What words are compared with: a weight stays if its word is as large. */
export function keptThreshold(dropout: number): number {
  return Math.ceil(dropout * 2 ** 24) * 2 ** 8;
}

/** Keys of a block, and queries at most. Sums depend on it, so it is the same on every target. */
export const BLOCK = 64;
/** Vectors that the softmax of a block works on at once. */
const TOGETHER = 4;

/** Queries of a block: equal blocks, not one that is nearly empty at the end. */
export function queriesOfBlock(queries: number): number {
  const blocks = Math.ceil(Math.max(queries, 1) / BLOCK);
  return roundUp(Math.max(1, Math.ceil(queries / blocks)), COLUMN_UNIT);
}

/** Heads of the grid other than one for each index of the batch axes. */
export interface Heads {
  readonly count: number;
  /** Indices of the batch axes that the item of a head works on. */
  lead(head: Expression): readonly Expression[];
}

/** What the kernels know and do: one head's queries and keys in blocks. */
export class HeadWriter extends BlockWriter {
  readonly attrs: AttentionAttrs;
  /** Index of the mask among the inputs; it may be missing. */
  readonly mask: number;
  readonly masked: boolean;
  /** Its batch axes and that of queries may have size 1: then it is the same for all. */
  readonly maskShape: Shape;
  /** Index of the first of the four inputs that name a place in a random stream, if there are any. */
  readonly source: number;
  readonly queries: number;
  readonly keys: number;
  /** Size of a query and of a value. */
  readonly size: number;
  readonly valueSize: number;
  readonly blockQueries: number;
  readonly scores: Block;
  readonly gridIndex: Variable;
  readonly gridSize: number;
  /** Number of the head, and its indices of the batch axes. */
  readonly head: Expression;
  readonly lead: readonly Expression[];
  /** Number of the grid item among those of its head. */
  readonly part: Expression;

  constructor(
    context: KernelContext,
    attrs: AttentionAttrs,
    node: Node,
    grid: { readonly perHead: number; readonly mask: number; readonly heads?: Heads },
  ) {
    super(context, node.dtype);
    const { builder } = this;
    const [q, k, v] = node.inputs as [Node, Node, Node];
    const batch = q.shape.slice(0, -2);
    this.attrs = attrs;
    this.mask = grid.mask;
    this.source = node.inputs.length - (attrs.dropout > 0 ? 4 : 0);
    this.masked = grid.mask < this.source;
    this.queries = q.shape.at(-2)!;
    this.keys = k.shape.at(-2)!;
    this.size = q.shape.at(-1)!;
    this.valueSize = v.shape.at(-1)!;
    this.blockQueries = queriesOfBlock(this.queries);
    this.scores = this.block('scores', BLOCK, this.blockQueries);
    const { heads = { count: sizeOf(batch), lead: (item) => unflatten(builder, item, batch) } } =
      grid;
    this.gridSize = heads.count * grid.perHead;
    this.gridIndex = builder.variable('item', 'i32', { min: 0, max: this.gridSize - 1 });
    const perHead = builder.constant(grid.perHead);
    const item = builder.div(this.gridIndex, perHead);
    this.lead = heads.lead(item);
    this.head =
      grid.heads === undefined
        ? item
        : this.lead.reduce(
            (number, index, axis) => builder.add(builder.scale(number, batch[axis]!), index),
            builder.constant(0),
          );
    this.maskShape = node.inputs[grid.mask]?.shape ?? [];
    this.part = builder.rem(this.gridIndex, perHead);
  }

  /** `limit` rows from `first`, or as many as there are. */
  rest(first: Expression, limit: number, all: number): Expression {
    const { builder } = this;
    const left = builder.sub(builder.constant(all), first);
    return builder.max(builder.min(builder.constant(limit), left), builder.constant(0));
  }

  /** Elements of keys or values from row `first` on; what lies beyond is any other element. */
  reader(input: 1 | 2, first: Expression): (row: Expression, column: Expression) => Expression {
    const { builder, context } = this;
    const last = builder.constant(this.keys - 1);
    const lastColumn = builder.constant((input === 1 ? this.size : this.valueSize) - 1);
    return (row, column) =>
      context.read(input, [
        ...this.lead,
        builder.min(builder.add(first, row), last),
        builder.min(column, lastColumn),
      ]);
  }

  /** An input at a query; beyond the last one it is repeated. */
  readQuery(input: number, query: Expression, column: Expression): Expression {
    const { builder, context, lead } = this;
    const at = builder.min(query, builder.constant(this.queries - 1));
    const value = context.read(input, [...lead, at, column]);
    return input === 0 ? builder.mul(value, this.number(this.attrs.scale)) : value;
  }

  /** A block of queries, or of what has a row for each, with one query a row or one a column. */
  copyQueries(
    input: number,
    first: Expression,
    to: Block,
    size: number,
    as: 'rows' | 'columns',
  ): Statement {
    const { builder } = this;
    const copy = (query: Expression): Statement =>
      this.loop(
        'element',
        size,
        (column) => {
          const value = this.readQuery(input, builder.add(first, query), column);
          return [
            as === 'rows'
              ? this.store(to, query, column, value)
              : this.store(to, column, query, value),
          ];
        },
        as === 'rows' ? { vector: true } : {},
      );
    return this.loop('query', this.blockQueries, (query) => [copy(query)]);
  }

  /** Scores of `count` keys from `firstKey`, one a row, masked. */
  score(
    firstQuery: Expression,
    firstKey: Expression,
    count: Expression,
    query: Block,
  ): readonly Statement[] {
    const { builder, scores } = this;
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
        a: this.reader(1, firstKey),
        b: query,
        c: scores,
        columns: this.blockQueries,
        start: () => this.number(0, this.lanes),
      }),
    ];
    if (this.masked) {
      const { before, read } = this.#maskReader(firstQuery, firstKey, count);
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
  #maskReader(firstQuery: Expression, firstKey: Expression, count: Expression) {
    const { builder, blockQueries } = this;
    const zero = builder.constant(0);
    const last = builder.constant(this.queries - 1);
    const lead = this.lead.map((index, axis) => (this.maskShape[axis] === 1 ? zero : index));
    const read = (q: Expression, k: Expression): Expression => {
      const row = this.maskShape.at(-2) === 1 ? zero : builder.min(q, last);
      return this.context.read(this.mask, [...lead, row, k]);
    };
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

  /**
   * Visits the weights of `count` keys, four at a time, with what dropout makes of each: 0, or the factor
   * that keeps the mean. Keys beyond the last are visited too.
   */
  dropping(
    firstQuery: Expression,
    firstKey: Expression,
    count: Expression,
    visit: (row: Expression, column: Expression, factor: Expression) => Statement,
  ): Statement {
    const { builder, context, queries, keys, source } = this;
    const { dropout } = this.attrs;
    const unsigned = (value: Expression): Expression => builder.bitcast(value, 'u32');
    const word = (value: number): Expression => builder.constant(value >>> 0, 'u32');
    const [k0, k1, low, high] = [0, 1, 2, 3].map((i) => context.read(source + i, [])) as [
      Expression,
      Expression,
      Expression,
      Expression,
    ];
    const blocksOfRow = drawnKeys(keys) / 4;
    const groups = builder.div(builder.offset(count, 3), builder.constant(4));
    const firstBlock = builder.div(firstKey, builder.constant(4));
    const draw = (group: Expression, column: Expression): readonly Statement[] => {
      // Unsigned, so that more than 2^31 blocks are counted rightly.
      const query = unsigned(builder.add(firstQuery, column));
      const row = builder.add(builder.mul(unsigned(this.head), word(queries)), query);
      const inRow = unsigned(builder.add(firstBlock, group));
      const block = builder.add(builder.mul(row, word(blocksOfRow)), inRow);
      const counter = builder.add(low, block);
      const carry = builder.convert(builder.compare('lt', counter, low), 'u32');
      const words = emitPhilox(builder, [counter, builder.add(high, carry)], [k0, k1]);
      return words.map((drawn, n) => {
        const kept = builder.compare('ge', drawn, word(keptThreshold(dropout)));
        const factor = builder.select(kept, this.number(1 / (1 - dropout)), this.number(0));
        return visit(builder.offset(builder.scale(group, 4), n), column, factor);
      });
    };
    return this.loop('dropGroup', groups, (group) => [
      this.loop('dropColumn', this.blockQueries, (column) => draw(group, column), {
        vector: true,
      }),
    ]);
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
