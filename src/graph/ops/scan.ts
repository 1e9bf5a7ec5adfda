// Running results along an axis: sums, products, extrema, and first-order linear recurrences.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis, sameShape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  defineOp,
  type KernelBody,
  type KernelContext,
  makeNode,
  type ReferenceTensor,
  type Sample,
} from '../op.ts';
import { mul, sub } from './arithmetic.ts';
import { accumulatedDType } from './broadcast.ts';
import { equal, select } from './compare.ts';
import { constant } from './creation.ts';
import { constantLike, loop, unflatten } from './emit.ts';
import { exp } from './math.ts';
import { splitAtAxis, wrapInteger } from './reference.ts';
import { distinctTensor, randomTensor, tensorOf } from './samples.ts';
import { narrowAxis, pad } from './slicing.ts';

// ---- lowering ---------------------------------------------------------------------------------

interface ScanStep {
  /** The new running values. */
  readonly next: readonly Expression[];
  readonly output: Expression;
}

interface ScanSpec {
  readonly axis: number;
  readonly reverse: boolean;
  readonly states: readonly { readonly dtype: DType; readonly initial: number }[];
  /** One step; `inputs` are the elements here, `position` the index along the axis. */
  step(
    builder: Builder,
    states: readonly Expression[],
    inputs: readonly Expression[],
    position: Expression,
  ): ScanStep;
}

/** Columns that one grid item carries side by side when the axis is not the last one. */
const COLUMNS = 64;

/** A running value: a register for one column, an array for several. */
interface Cell {
  readonly start: (column: Expression) => Statement;
  readonly read: (column: Expression) => Expression;
  readonly write: (column: Expression, value: Expression) => Statement;
}

function makeCell(
  context: KernelContext,
  name: string,
  state: { dtype: DType; initial: number },
  columns: number,
): Cell {
  const { builder } = context;
  const type = valueTypeOf(state.dtype);
  const initial = builder.constant(state.initial, type);
  if (columns === 1) {
    const variable = builder.variable(name, type, { mutable: true });
    return {
      start: () => ({ kind: 'declare', variable, value: initial }),
      read: () => variable,
      write: (_column, value) => ({ kind: 'assign', variable, value }),
    };
  }
  const buffer = context.scratch(name, state.dtype, columns);
  return {
    start: (index) => ({ kind: 'store', buffer, index, value: initial }),
    read: (index) => builder.load(buffer, index),
    write: (index, value) => ({ kind: 'store', buffer, index, value }),
  };
}

/** Serial along the axis, parallel over everything else; neighbouring columns run in vectors. */
function lowerScan(context: KernelContext, node: Node, spec: ScanSpec): KernelBody {
  const { builder } = context;
  const { shape } = node;
  const { outer, axisSize, inner } = splitAtAxis(shape, spec.axis);
  const columns = Math.max(Math.min(inner, COLUMNS), 1);
  const blocks = Math.ceil(inner / columns);
  const gridSize = outer * blocks;
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const outerFlat = builder.div(item, builder.constant(Math.max(blocks, 1)));
  const block = builder.rem(item, builder.constant(Math.max(blocks, 1)));
  const before = unflatten(builder, outerFlat, shape.slice(0, spec.axis));
  const cells = spec.states.map((state, i) => makeCell(context, `running${i}`, state, columns));

  const overColumns = (body: (column: Expression) => readonly Statement[]): Statement[] => {
    if (inner % columns === 0) return loop(builder, 'column', columns, body, { vector: true });
    const index = builder.variable('column', 'i32', { min: 0, max: columns - 1 });
    const left = builder.sub(builder.constant(inner), builder.scale(block, columns));
    const end = builder.min(builder.constant(columns), left);
    const start = builder.constant(0);
    return [{ kind: 'for', index, start, end, step: 1, body: body(index), vector: true }];
  };

  const pin = (name: string, value: Expression, into: Statement[]): Variable => {
    const variable = builder.variable(name, value.type);
    into.push({ kind: 'let', variable, value });
    return variable;
  };

  const advance = (along: Expression, column: Expression): Statement[] => {
    const statements: Statement[] = [];
    const position = spec.reverse ? builder.sub(builder.constant(axisSize - 1), along) : along;
    const flatInner = builder.add(builder.scale(block, columns), column);
    const after = unflatten(builder, flatInner, shape.slice(spec.axis + 1));
    const indices = [...before, position, ...after];
    const inputs = node.inputs.map((_, i) => context.read(i, indices));
    const states = cells.map((cell, i) => pin(`state${i}`, cell.read(column), statements));
    const { next, output } = spec.step(builder, states, inputs, position);
    const pinned = next.map((value, i) => pin(`next${i}`, value, statements));
    const result = pin('result', output, statements);
    cells.forEach((cell, i) => statements.push(cell.write(column, pinned[i]!)));
    statements.push(...context.write(indices, result));
    return statements;
  };

  const start = (column: Expression): Statement[] => cells.map((cell) => cell.start(column));
  const body = [
    ...(columns === 1 ? start(builder.constant(0)) : overColumns(start)),
    ...loop(builder, 'along', axisSize, (along) => overColumns((column) => advance(along, column))),
  ];
  return { gridIndex: item, gridSize, body };
}

// ---- shared by references and gradients -------------------------------------------------------

/** Runs `step` along the axis of every row of `x`. */
function scanReference(
  x: ReferenceTensor,
  { axis, reverse }: { axis: number; reverse: boolean },
  begin: () => (position: number) => number,
): Float64Array {
  const { outer, axisSize, inner } = splitAtAxis(x.shape, axis);
  const data = new Float64Array(x.data.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const step = begin();
      for (let k = 0; k < axisSize; k++) {
        const along = reverse ? axisSize - 1 - k : k;
        const position = (o * axisSize + along) * inner + i;
        data[position] = step(position);
      }
    }
  }
  return data;
}

/** Moves elements by one along the axis, forwards or back, and puts `fill` where none comes from. */
export function shift(x: Node, axis: number, forwards: boolean, fill: number): Node {
  const size = x.shape[axis]!;
  if (size === 0) return x;
  const kept = narrowAxis(x, axis, forwards ? 0 : 1, size - 1);
  const one = x.shape.map((_, i) => (i === axis ? 1 : 0));
  const none = x.shape.map(() => 0);
  return pad(kept, forwards ? one : none, forwards ? none : one, fill);
}

const SCAN = { axis: 'int', reverse: 'flag', exclusive: 'flag' } as const;
type ScanAttrs = AttrsOf<typeof SCAN>;

function scanSamples(low: number, high: number): Sample<ScanAttrs>[] {
  const sample = (
    shape: readonly number[],
    axis: number,
    reverse = false,
    exclusive = false,
    dtype: DType = 'float32',
  ): Sample<ScanAttrs> => ({
    inputs: [randomTensor(shape, isFloat(dtype) ? { low, high, dtype } : { dtype })],
    attrs: { axis, reverse, exclusive },
    ...(isFloat(dtype) ? {} : { skipGradient: 'integers' }),
  });
  return [
    sample([5], 0),
    sample([5], 0, true),
    sample([3, 4], 1, false, true),
    sample([3, 4], 0, true, true),
    sample([2, 3, 5], 1),
    sample([1], 0, false, true),
    sample([0, 3], 0),
    sample([2, 0], 0),
    sample([2, 5, 70], 1, false, false, 'float64'),
    sample([3, 130], 0, true),
    sample([6], 0, false, false, 'int32'),
    sample([6, 2], 0, false, true, 'int8'),
    sample([9], 0, false, false, 'bool'),
    {
      inputs: [tensorOf([6], [1, Infinity, 2, NaN, 0, 1])],
      attrs: { axis: 0, reverse: false, exclusive: false },
      skipGradient: 'special values',
    },
  ];
}

function defineRunning(spec: {
  name: 'cumsum' | 'cumprod';
  summary: string;
  initial: number;
  combine: (builder: Builder, a: Expression, b: Expression) => Expression;
  apply: (a: number, b: number) => number;
  gradient: (grad: Node, x: Node, attrs: ScanAttrs) => Node;
  samples: () => Sample<ScanAttrs>[];
}) {
  return defineOp({
    name: spec.name,
    summary: spec.summary,
    attrs: SCAN,
    infer: ([x]) => ({ shape: x!.shape, dtype: accumulatedDType(x!.dtype) }),
    gradient: ({ grad, inputs, attrs }) => [spec.gradient(grad, inputs[0]!, attrs)],
    lower: {
      kind: 'custom',
      evaluations: () => [1, 1],
      lower: (context, { axis, reverse, exclusive }, node) =>
        lowerScan(context, node, {
          axis,
          reverse,
          states: [{ dtype: wideDType(node.dtype), initial: spec.initial }],
          step: (builder, [running], [x]) => {
            const next = spec.combine(builder, running!, builder.convert(x!, running!.type));
            return { next: [next], output: exclusive ? running! : next };
          },
        }),
    },
    reference: ([x], attrs, output) =>
      scanReference(x!, attrs, () => {
        let running = spec.initial;
        return (position) => {
          const before = running;
          running = wrapInteger(output.dtype, spec.apply(running, x!.data[position]!));
          return attrs.exclusive ? before : running;
        };
      }),
    samples: spec.samples,
  });
}

/** Halves run in float32. */
function wideDType(dtype: DType): DType {
  return dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
}

const cumsumOp = defineRunning({
  name: 'cumsum',
  summary: 'running sum along an axis',
  initial: 0,
  combine: (builder, a, b) => builder.add(a, b),
  apply: (a, b) => a + b,
  gradient: (grad, _x, { axis, reverse, exclusive }) => cumsum(grad, axis, !reverse, exclusive),
  samples: () => scanSamples(-2, 2),
});

const cumprodOp = defineRunning({
  name: 'cumprod',
  summary: 'running product along an axis',
  initial: 1,
  combine: (builder, a, b) => builder.mul(a, b),
  apply: (a, b) => (Number.isInteger(a) && Number.isInteger(b) ? exactProduct(a, b) : a * b),
  gradient: (grad, x, { axis, reverse, exclusive }) => {
    // y_i holds x_k for i >= k: its share is (product before k) * sum of g_i (product of k+1..i),
    // and that sum is a linear recurrence run the other way. No division, so zeros are right.
    const own = exclusive ? shift(grad, axis, reverse, 0) : grad;
    const before = cumprod(x, axis, reverse, true);
    const following = shift(x, axis, reverse, 0);
    return mul(before, linearScan(own, following, axis, !reverse));
  },
  samples: () => [
    ...scanSamples(-1.5, 1.5),
    {
      inputs: [tensorOf([2, 5], [1, 0, 2, 3, -1, 2, 0, 4, 0, 3])],
      attrs: { axis: 1, reverse: false, exclusive: false },
    },
    {
      inputs: [tensorOf([6], [1, 0, 2, 0, -1, 2])],
      attrs: { axis: 0, reverse: true, exclusive: true },
    },
  ],
});

/** Products of integers wrap at 32 bits, also where a float64 would round. */
function exactProduct(a: number, b: number): number {
  const product = a * b;
  return Number.isSafeInteger(product) ? product : Math.imul(a, b);
}

/** Running sum along `axis`; `reverse` starts at the end, `exclusive` leaves out the element itself. */
export function cumsum(x: Node, axis: number, reverse = false, exclusive = false): Node {
  const normal = normalizeAxis('cumsum', axis, x.shape.length);
  return makeNode(cumsumOp, [x], { axis: normal, reverse, exclusive });
}

/** Running product along `axis`; flags as for `cumsum`. */
export function cumprod(x: Node, axis: number, reverse = false, exclusive = false): Node {
  const normal = normalizeAxis('cumprod', axis, x.shape.length);
  return makeNode(cumprodOp, [x], { axis: normal, reverse, exclusive });
}

// ---- linear recurrence ------------------------------------------------------------------------

const LINEAR = { axis: 'int', reverse: 'flag' } as const;

const linearScanOp = defineOp({
  name: 'linearScan',
  summary: 's[k] = b[k] + a[k] * s[k-1] along an axis, from s[0] = b[0]',
  attrs: LINEAR,
  infer: ([b, a]) => {
    if (!sameShape(a!.shape, b!.shape)) {
      throw new ShapeError(`${formatShape(b!.shape)} and ${formatShape(a!.shape)} differ`, {
        op: 'linearScan',
      });
    }
    if (a!.dtype !== b!.dtype || !isFloat(a!.dtype)) {
      throw new DTypeError(`takes floats of one dtype, not ${b!.dtype} and ${a!.dtype}`, {
        op: 'linearScan',
      });
    }
    return { shape: b!.shape, dtype: b!.dtype };
  },
  gradient: ({ grad, inputs, node, attrs: { axis, reverse }, needs }) => {
    const factors = shift(inputs[1]!, axis, reverse, 0);
    const byTerm = linearScan(grad, factors, axis, !reverse);
    const previous = needs(1) ? shift(node, axis, !reverse, 0) : null;
    return [byTerm, previous === null ? null : mul(byTerm, previous)];
  },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1],
    lower: (context, { axis, reverse }, node) =>
      lowerScan(context, node, {
        axis,
        reverse,
        states: [{ dtype: wideDType(node.dtype), initial: 0 }],
        step: (builder, [running], [b, a], position) => {
          const first = builder.constant(reverse ? node.shape[axis]! - 1 : 0);
          // The first factor does not count, not even if it is infinite.
          const isFirst = builder.compare('eq', position, first);
          const zero = constantLike(builder, running!, 0);
          const carried = builder.select(isFirst, zero, builder.mul(a!, running!));
          const next = builder.add(b!, carried);
          return { next: [next], output: next };
        },
      }),
  },
  reference: ([b, a], attrs) =>
    scanReference(b!, attrs, () => {
      let running: number | undefined;
      return (position) => {
        const carried = running === undefined ? 0 : a!.data[position]! * running;
        running = b!.data[position]! + carried;
        return running;
      };
    }),
  samples: () => {
    const sample = (shape: readonly number[], axis: number, reverse: boolean, dtype: DType) => ({
      inputs: [randomTensor(shape, { dtype }), randomTensor(shape, { dtype, seed: 5 })],
      attrs: { axis, reverse },
    });
    return [
      sample([5], 0, false, 'float32'),
      sample([5], 0, true, 'float32'),
      sample([3, 4], 1, false, 'float64'),
      sample([3, 4], 0, true, 'float32'),
      sample([2, 3, 4], 1, false, 'float32'),
      sample([0], 0, false, 'float32'),
      sample([1], 0, true, 'float32'),
      sample([2, 70], 0, false, 'float32'),
      {
        inputs: [tensorOf([3], [1, 2, 3]), tensorOf([3], [Infinity, 2, NaN])],
        attrs: { axis: 0, reverse: false },
        skipGradient: 'special values',
      },
    ];
  },
});

/**
 * The recurrence s[k] = b[k] + a[k] * s[k-1] along `axis`, s[0] = b[0] (`reverse`: from the end).
 * Running products and their gradients, exponential averages and state-space models are of this
 * form.
 */
export function linearScan(b: Node, a: Node, axis: number, reverse = false): Node {
  const normal = normalizeAxis('linearScan', axis, b.shape.length);
  return makeNode(linearScanOp, [b, a], { axis: normal, reverse });
}

// ---- running extremes -------------------------------------------------------------------------

const EXTREME = { axis: 'int', minimum: 'flag' } as const;

const runningExtremeOp = defineOp({
  name: 'runningExtreme',
  summary: 'index along the axis of the last maximum (or minimum) so far; NaN wins',
  attrs: EXTREME,
  infer: ([x]) => ({ shape: x!.shape, dtype: 'int32' }),
  gradient: { nonDifferentiable: 'a position is an integer' },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1],
    lower: (context, { axis, minimum }, node) => {
      const source = node.inputs[0]!.dtype;
      return lowerScan(context, node, {
        axis,
        reverse: false,
        states: [
          { dtype: source === 'bool' ? 'int32' : wideDType(source), initial: 0 },
          { dtype: 'int32', initial: 0 },
        ],
        step: (builder, [best, index], [x], position) => {
          const value = builder.convert(x!, best!.type);
          const isFirst = builder.compare('eq', position, builder.constant(0));
          let better = builder.compare(minimum ? 'le' : 'ge', value, best!);
          if (isFloat(source)) {
            const nanValue = builder.compare('ne', value, value);
            better = builder.or(nanValue, better);
          }
          const take = builder.or(isFirst, better);
          const next = [builder.select(take, value, best!), builder.select(take, position, index!)];
          return { next, output: next[1]! };
        },
      });
    },
  },
  reference: ([x], { axis, minimum }) => {
    const { axisSize, inner } = splitAtAxis(x!.shape, axis);
    return scanReference(x!, { axis, reverse: false }, () => {
      let best: number | undefined;
      let index = 0;
      return (position) => {
        const value = x!.data[position]!;
        const better = best === undefined || (minimum ? value <= best : value >= best);
        if (better || Number.isNaN(value)) {
          best = value;
          index = Math.floor(position / inner) % axisSize;
        }
        return index;
      };
    });
  },
  samples: () => {
    const attrs = { axis: 0, minimum: false };
    return [
      { inputs: [distinctTensor([7])], attrs },
      { inputs: [distinctTensor([4, 5])], attrs: { axis: 1, minimum: true } },
      { inputs: [distinctTensor([3, 70])], attrs },
      {
        inputs: [distinctTensor([2, 3, 2], { dtype: 'float64' })],
        attrs: { axis: 1, minimum: true },
      },
      { inputs: [randomTensor([0])], attrs },
      { inputs: [randomTensor([1])], attrs },
      { inputs: [randomTensor([20], { dtype: 'int32' })], attrs },
      { inputs: [randomTensor([9], { dtype: 'bool' })], attrs: { axis: 0, minimum: true } },
      { inputs: [tensorOf([7], [1, 1, 0, NaN, 5, NaN, 2])], attrs },
      { inputs: [tensorOf([4], [-Infinity, -Infinity, 3, Infinity])], attrs },
    ];
  },
});

/** Index along `axis`, int32, of the last maximum so far (`minimum`: of the last minimum). */
export function runningExtreme(x: Node, axis: number, minimum = false): Node {
  const normal = normalizeAxis(minimum ? 'cummin' : 'cummax', axis, x.shape.length);
  return makeNode(runningExtremeOp, [x], { axis: normal, minimum });
}

// ---- running log-sum-exp ----------------------------------------------------------------------

const logCumSumExpOp = defineOp({
  name: 'logCumSumExp',
  summary: 'logarithm of the running sum of exponentials along an axis',
  attrs: { axis: 'int' },
  infer: ([x]) => {
    if (!isFloat(x!.dtype)) {
      throw new DTypeError(`takes floats, not ${x!.dtype}`, { op: 'logCumSumExp' });
    }
    return { shape: x!.shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, node: y, attrs: { axis } }) => {
    // dx[k] = sum over i >= k of g[i] exp(x[k] - y[i]), by a recurrence whose factors are <= 1.
    const lowest = constant(-Infinity, y.dtype);
    const zero = constant(0, y.dtype);
    const following = shift(y, axis, false, 0);
    const decay = exp(select(equal(following, lowest), zero, sub(y, following)));
    const total = linearScan(grad, decay, axis, true);
    const empty = equal(y, lowest);
    const share = exp(select(empty, zero, sub(inputs[0]!, y)));
    return [mul(select(empty, zero, share), total)];
  },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1],
    lower: (context, { axis }, node) => {
      const dtype = wideDType(node.dtype);
      return lowerScan(context, node, {
        axis,
        reverse: false,
        states: [
          { dtype, initial: -Infinity },
          { dtype, initial: 0 },
        ],
        step: (builder, [largest, total], [x]) => {
          const top = builder.max(largest!, x!);
          const infinite = constantLike(builder, top, Infinity);
          const zero = constantLike(builder, top, 0);
          const isInfinite = builder.compare('eq', builder.unary('abs', top), infinite);
          const base = builder.select(isInfinite, zero, top);
          const before = builder.unary('exp', builder.sub(largest!, base));
          const own = builder.unary('exp', builder.sub(x!, base));
          const sum = builder.add(builder.mul(total!, before), own);
          return { next: [top, sum], output: builder.add(base, builder.unary('log', sum)) };
        },
      });
    },
  },
  reference: ([x], { axis }) =>
    scanReference(x!, { axis, reverse: false }, () => {
      const seen: number[] = [];
      return (position) => {
        seen.push(x!.data[position]!);
        const top = seen.reduce((a, b) => Math.max(a, b));
        if (Math.abs(top) === Infinity) return top;
        return top + Math.log(seen.reduce((total, value) => total + Math.exp(value - top), 0));
      };
    }),
  samples: () => [
    { inputs: [randomTensor([5])], attrs: { axis: 0 } },
    { inputs: [randomTensor([3, 4])], attrs: { axis: 1 } },
    { inputs: [randomTensor([3, 4], { dtype: 'float64' })], attrs: { axis: 0 } },
    { inputs: [randomTensor([4, 70], { low: -50, high: 50 })], attrs: { axis: 0 } },
    { inputs: [randomTensor([0])], attrs: { axis: 0 } },
    { inputs: [randomTensor([1])], attrs: { axis: 0 } },
    {
      inputs: [tensorOf([6], [-Infinity, -Infinity, 1, 500, Infinity, 1])],
      attrs: { axis: 0 },
      skipGradient: 'infinities',
    },
  ],
});

/** Logarithm of the running sum of exponentials along `axis`, without overflow. */
export function logCumSumExp(x: Node, axis: number): Node {
  const normal = normalizeAxis('logcumsumexp', axis, x.shape.length);
  return makeNode(logCumSumExpOp, [x], { axis: normal });
}
