// Sums over monotone paths through a lattice of times and states, which may stay, step on or skip a
// state: the recurrence of connectionist temporal classification, and the linear one of its gradient.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, type Shape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import {
  defineOp,
  type KernelBody,
  type KernelContext,
  makeNode,
  NO_ATTRS,
  type ReferenceTensor,
} from '../op.ts';
import { add, mul, sub } from './arithmetic.ts';
import { expand, reshape } from './broadcast.ts';
import { equal, select } from './compare.ts';
import { constant, full } from './creation.ts';
import { constantLike, loop } from './emit.ts';
import { exp } from './math.ts';
import { elementAt, flatPosition } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { pad } from './slicing.ts';

/** How far a path moves in one time step: 0, 1 or 2 states. */
const MOVES = 3;

function wide(dtype: DType): DType {
  return dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
}

/** Rows of states in scratch, two for each name: this time's and the one before, by turns. */
class Rows {
  readonly #builder: Builder;
  readonly #buffer: Buffer;
  readonly #length: number;

  constructor(context: KernelContext, name: string, dtype: DType, states: number) {
    this.#builder = context.builder;
    this.#length = states + MOVES - 1;
    this.#buffer = context.scratch(name, dtype, 2 * this.#length);
  }

  fill(value: number): Statement[] {
    const number = this.#builder.constant(value, valueTypeOf(this.#buffer.dtype));
    const store = (index: Expression): Statement[] => [
      { kind: 'store', buffer: this.#buffer, index, value: number },
    ];
    return loop(this.#builder, 'slot', 2 * this.#length, store, { vector: true });
  }

  #at(turn: Expression, state: Expression): Expression {
    return this.#builder.add(this.#builder.scale(turn, this.#length), state);
  }

  read(turn: Expression, state: Expression): Expression {
    return this.#builder.load(this.#buffer, this.#at(turn, state));
  }

  write(turn: Expression, state: Expression, value: Expression): Statement {
    return { kind: 'store', buffer: this.#buffer, index: this.#at(turn, state), value };
  }
}

interface Walk {
  readonly before: readonly Statement[];
  /** Statements for one state; `turn` and `last` number the rows of this time and the one before. */
  readonly step: (
    at: readonly [time: Expression, item: Expression, state: Expression],
    turn: Expression,
    last: Expression,
  ) => readonly Statement[];
}

/** One grid item for each sequence; times one after another, states in vectors. */
function lowerWalk(
  context: KernelContext,
  shape: Shape,
  reverse: boolean,
  make: () => Walk,
): KernelBody {
  const { builder } = context;
  const [times, items, states] = shape as readonly [number, number, number];
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(items - 1, 0) });
  const { before, step } = make();
  const body = loop(builder, 'time', times, (index) => {
    const time = reverse ? builder.sub(builder.constant(times - 1), index) : index;
    const turn = builder.rem(index, builder.constant(2));
    const last = builder.sub(builder.constant(1), turn);
    return loop(builder, 'state', states, (state) => step([time, item, state], turn, last), {
      vector: true,
    });
  });
  return { gridIndex: item, gridSize: items, body: [...before, ...body] };
}

function pin(builder: Builder, name: string, value: Expression, into: Statement[]): Variable {
  const variable = builder.variable(name, value.type);
  into.push({ kind: 'let', variable, value });
  return variable;
}

// ---- the linear recurrence --------------------------------------------------------------------

const BAND = { reverse: 'flag' } as const;

/** x at the next time, `move` states on; `fill` where there is none. */
function following(x: Node, move: number, fill: number): Node {
  const [times, , states] = x.shape as readonly [number, number, number];
  if (times === 0 || states < move) return full(x.shape, fill, x.dtype);
  return pad(x, [-1, 0, -move], [1, 0, move], fill);
}

const bandScanOp = defineOp({
  name: 'bandScan',
  summary:
    'y[t,n,s] = b[t,n,s] + sum over j of p_j[t-1,n,s-j] * y[t-1,n,s-j]; reverse: p_j[t,n,s] * y[t+1,n,s+j]',
  attrs: BAND,
  infer: ([b, ...factors]) => {
    const fits = b!.shape.length === 3 && factors.every(({ shape }) => sameShape(shape, b!.shape));
    if (!fits || factors.length !== MOVES) {
      const shapes = factors.map(({ shape }) => formatShape(shape)).join(', ');
      throw new ShapeError(`${formatShape(b!.shape)} has no factors ${shapes}`, { op: 'bandScan' });
    }
    if (!isFloat(b!.dtype) || factors.some(({ dtype }) => dtype !== b!.dtype)) {
      throw new DTypeError(`takes floats of one dtype, not ${b!.dtype}`, { op: 'bandScan' });
    }
    return { shape: b!.shape, dtype: b!.dtype };
  },
  gradient: ({ node, grad, inputs, attrs: { reverse }, needs }) => {
    const factors = inputs.slice(1);
    const other = bandScan(grad, factors, !reverse);
    const [from, to] = reverse ? [other, node] : [node, other];
    const byFactor = factors.map((_, j) => (needs(j + 1) ? mul(from, following(to, j, 0)) : null));
    return [other, ...byFactor];
  },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1, 1, 1],
    lower: (context, { reverse }, node) =>
      lowerWalk(context, node.shape, reverse, () =>
        reverse ? bandBack(context, node) : bandForward(context, node),
      ),
  },
  reference: ([b, ...factors], { reverse }) => {
    const y = b!.data.slice();
    const [times, items, states] = b!.shape as readonly [number, number, number];
    for (let k = 1; k < times; k++) {
      const t = reverse ? times - 1 - k : k;
      for (let n = 0; n < items; n++) {
        for (let s = 0; s < states; s++) {
          for (let j = 0; j < MOVES; j++) {
            const other = reverse ? s + j : s - j;
            if (other < 0 || other >= states) continue;
            const source = [reverse ? t + 1 : t - 1, n, other];
            const factor = elementAt(factors[j]!, reverse ? [t, n, s] : source);
            y[flatPosition(b!.shape, [t, n, s])]! += factor * y[flatPosition(b!.shape, source)]!;
          }
        }
      }
    }
    return y;
  },
  samples: () => {
    const sample = (shape: Shape, reverse: boolean, dtype: DType = 'float32') => ({
      inputs: [
        randomTensor(shape, { dtype }),
        ...[1, 2, 3].map((seed) => randomTensor(shape, { dtype, seed, low: -0.6, high: 0.6 })),
      ],
      attrs: { reverse },
    });
    return [
      sample([3, 2, 5], false),
      sample([3, 2, 5], true),
      sample([4, 1, 1], false),
      sample([4, 1, 1], true),
      sample([1, 2, 2], false),
      sample([2, 2, 33], true, 'float64'),
      sample([0, 2, 3], false),
      sample([2, 2, 0], true),
      sample([6, 3, 34], false),
    ];
  },
});

/** Each state sends its shares on to where the next time reads them. */
function bandForward(context: KernelContext, node: Node): Walk {
  const { builder } = context;
  const states = node.shape[2]!;
  const shares = Array.from(
    { length: MOVES },
    (_, j) => new Rows(context, `share${j}`, wide(node.dtype), states),
  );
  return {
    before: shares.flatMap((rows) => rows.fill(0)),
    step: (at, turn, last) => {
      const [, , state] = at;
      let total = context.read(0, at);
      for (const rows of shares) total = builder.add(total, rows.read(last, state));
      const statements: Statement[] = [];
      const value = pin(builder, 'value', total, statements);
      shares.forEach((rows, j) => {
        const share = builder.mul(context.read(j + 1, at), value);
        statements.push(rows.write(turn, builder.offset(state, j), share));
      });
      return [...statements, ...context.write(at, value)];
    },
  };
}

function bandBack(context: KernelContext, node: Node): Walk {
  const { builder } = context;
  const rows = new Rows(context, 'values', wide(node.dtype), node.shape[2]!);
  return {
    before: rows.fill(0),
    step: (at, turn, last) => {
      const [, , state] = at;
      let total = context.read(0, at);
      for (let j = 0; j < MOVES; j++) {
        const next = rows.read(last, builder.offset(state, j));
        total = builder.add(total, builder.mul(context.read(j + 1, at), next));
      }
      const statements: Statement[] = [];
      const value = pin(builder, 'value', total, statements);
      return [...statements, rows.write(turn, state, value), ...context.write(at, value)];
    },
  };
}

/**
 * The recurrence y[t,n,s] = b[t,n,s] + sum over j of p_j[t-1,n,s-j] * y[t-1,n,s-j], j from 0 to 2, over
 * [times, items, states]; `reverse`: its adjoint, y[t,n,s] = b[t,n,s] + sum of p_j[t,n,s] * y[t+1,n,s+j].
 */
export function bandScan(b: Node, factors: readonly Node[], reverse = false): Node {
  return makeNode(bandScanOp, [b, ...factors], { reverse });
}

// ---- logarithms of sums over paths ------------------------------------------------------------

const pathScoresOp = defineOp({
  name: 'pathScores',
  summary:
    'log of the sum over paths to (t, s) from state 0 or 1 of exp of the scores on them; a path stays, steps, or skips where skip[n,s] is 1',
  attrs: {},
  infer: ([scores, skip]) => {
    const [, items, states] = scores!.shape;
    if (scores!.shape.length !== 3 || !sameShape(skip!.shape, [items!, states!])) {
      throw new ShapeError(
        `scores are [times, items, states] and skips [items, states], got ${formatShape(scores!.shape)} and ${formatShape(skip!.shape)}`,
        { op: 'pathScores' },
      );
    }
    if (!isFloat(scores!.dtype) || skip!.dtype !== 'int32') {
      throw new DTypeError(`takes floats and int32, not ${scores!.dtype} and ${skip!.dtype}`, {
        op: 'pathScores',
      });
    }
    return { shape: scores!.shape, dtype: scores!.dtype };
  },
  gradient: ({ node, grad, inputs }) => [
    bandScan(grad, moveShares(node, inputs[0]!, inputs[1]!), true),
    null,
  ],
  lower: {
    kind: 'custom',
    evaluations: (_attrs, node) => [1, node.shape[0]!],
    lower: (context, _attrs, node) =>
      lowerWalk(context, node.shape, false, () => scorePaths(context, node)),
  },
  reference: ([scores, skip]) => referenceScores(scores!, skip!),
  samples: () => {
    const sample = (times: number, skips: readonly number[][], dtype: DType = 'float32') => {
      const [items, states] = [skips.length, skips[0]!.length];
      return {
        inputs: [
          randomTensor([times, items, states], { dtype }),
          tensorOf([items, states], skips.flat(), 'int32'),
        ],
        attrs: {},
        // At time 0 only the first two are reached: the rest has no differences.
        ...(states > 2 && times > 0 ? { skipGradient: 'unreached states are -Infinity' } : {}),
      };
    };
    const long = Array.from({ length: 33 }, (_, s) => (s > 2 ? s % 2 : 0));
    return [
      sample(4, [
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0],
      ]),
      sample(3, [[0]]),
      sample(4, [
        [0, 0],
        [0, 1],
      ]),
      sample(1, [[0, 0, 0]]),
      sample(0, [[0, 0, 0]]),
      sample(20, [long, long], 'float64'),
      sample(5, [long]),
      {
        inputs: [
          tensorOf([3, 1, 3], [-Infinity, 1, 5, 2, -Infinity, 1, 0, 0, 0]),
          tensorOf([1, 3], [0, 0, 0], 'int32'),
        ],
        attrs: {},
        skipGradient: 'infinities',
      },
    ];
  },
});

/** Share of each move from (t, s) in what is summed up where it leads. */
function moveShares(totals: Node, scores: Node, skip: Node): Node[] {
  const lowest = constant(-Infinity, totals.dtype);
  const none = equal(totals, lowest);
  // Where no path leads there is nothing to share.
  const zero = constant(0, totals.dtype);
  const gain = select(none, lowest, sub(scores, select(none, zero, totals)));
  const [times, items, states] = totals.shape as readonly [number, number, number];
  const blocked = expand(reshape(equal(skip, constant(0, 'int32')), [1, items, states]), [
    times,
    items,
    states,
  ]);
  return Array.from({ length: MOVES }, (_, move) => {
    const allowed = move === 2 ? select(blocked, lowest, gain) : gain;
    return exp(add(totals, following(allowed, move, -Infinity)));
  });
}

function scorePaths(context: KernelContext, node: Node): Walk {
  const { builder } = context;
  const states = node.shape[2]!;
  const dtype = wide(node.dtype);
  // States stand two places on: what lies before them is never reached.
  const rows = new Rows(context, 'totals', dtype, states);
  const start = builder.constant(0, valueTypeOf(dtype));
  return {
    before: [
      ...rows.fill(-Infinity),
      // A state before all others, as if at time -1: from it, paths reach the first two.
      rows.write(builder.constant(1), builder.constant(2), start),
    ],
    step: (at, turn, last) => {
      const [, item, state] = at;
      const score = context.read(0, at);
      const lowest = constantLike(builder, score, -Infinity);
      const skips = builder.compare('ne', context.read(1, [item, state]), builder.constant(0));
      const stay = rows.read(last, builder.offset(state, 2));
      const on = rows.read(last, builder.offset(state, 1));
      const skipped = builder.select(skips, rows.read(last, state), lowest);
      const top = builder.max(builder.max(stay, on), skipped);
      const base = builder.select(
        builder.compare('eq', top, lowest),
        constantLike(builder, score, 0),
        top,
      );
      const sum = [stay, on, skipped]
        .map((total) => builder.unary('exp', builder.sub(total, base)))
        .reduce((a, b) => builder.add(a, b));
      const statements: Statement[] = [];
      const total = builder.add(builder.add(base, builder.unary('log', sum)), score);
      const value = pin(builder, 'value', total, statements);
      return [
        ...statements,
        rows.write(turn, builder.offset(state, 2), value),
        ...context.write(at, value),
      ];
    },
  };
}

function referenceScores(scores: ReferenceTensor, skip: ReferenceTensor): Float64Array {
  const [times, items, states] = scores.shape as readonly [number, number, number];
  const totals = new Float64Array(scores.data.length);
  const known = (t: number, n: number, s: number): number => {
    if (t < 0) return s === 0 ? 0 : -Infinity;
    return s < 0 ? -Infinity : totals[flatPosition(scores.shape, [t, n, s])]!;
  };
  for (let t = 0; t < times; t++) {
    for (let n = 0; n < items; n++) {
      for (let s = 0; s < states; s++) {
        const ways = [known(t - 1, n, s), known(t - 1, n, s - 1)];
        if (elementAt(skip, [n, s]) !== 0) ways.push(known(t - 1, n, s - 2));
        const top = Math.max(...ways);
        const sum = ways.reduce((total, way) => total + Math.exp(way - top), 0);
        const joined = top === -Infinity ? top : top + Math.log(sum);
        totals[flatPosition(scores.shape, [t, n, s])] = joined + elementAt(scores, [t, n, s]);
      }
    }
  }
  return totals;
}

/**
 * For every time and state the logarithm of the sum, over all paths that lead there, of exp of the
 * scores on the path: scores [times, items, states], skip [items, states] of int32. Paths start in
 * state 0 or 1, and at each time stay, move on by one state, or, into a state whose skip is 1, by two.
 */
export function pathScores(scores: Node, skip: Node): Node {
  return makeNode(pathScoresOp, [scores, skip], NO_ATTRS);
}
