// Which values occur and how often: uniques, membership, histograms.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from './arguments.ts';
import { valuesNow } from './conversion.ts';
import { tensor } from './creation.ts';
import { castNode, isTensor, numberNode, wrap } from './handle.ts';
import { searchsorted } from './sorting.ts';
import type { Tensor } from './tensor.ts';
import { floatNode } from './unary.ts';

// ---- uniques ----------------------------------------------------------------------------------

/** Values that occur, and how they make the whole. */
export interface Uniques {
  /** Each value once: a vector, or slices along the axis. */
  readonly values: Tensor;
  /** int32: where each element (or slice) stands in `values`. */
  readonly inverse: Tensor;
  /** int32: how often each value occurs. */
  readonly counts: Tensor;
}

/** Equal or both NaN, and their order: NaN is the largest. */
function compare(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a - b;
}

interface Items {
  readonly node: Node;
  readonly axis: number;
  readonly count: number;
  /** Shape of `inverse`. */
  readonly shape: Shape;
  /** Order of two items, 0 if they are the same. */
  readonly order: (i: number, j: number) => number;
}

/** The elements of a flattened tensor, or its slices along an axis, to compare on the host. */
function itemsOf(op: string, x: Tensor, axis: number | undefined): Items {
  const given = nodeOf(op, x);
  const known = valuesNow(op, x);
  if (axis === undefined) {
    const node = ops.reshape(given, [sizeOf(given.shape)]);
    const order = (i: number, j: number): number => compare(known[i] as number, known[j] as number);
    return { node, axis: 0, count: known.length, shape: given.shape, order };
  }
  const normal = normalizeAxis(op, axis, given.shape.length);
  const count = given.shape[normal] as number;
  const inner = sizeOf(given.shape.slice(normal + 1));
  const outer = sizeOf(given.shape.slice(0, normal));
  const order = (i: number, j: number): number => {
    for (let o = 0; o < outer; o++) {
      for (let k = 0; k < inner; k++) {
        const at = (item: number): number => known[(o * count + item) * inner + k] as number;
        const result = compare(at(i), at(j));
        if (result !== 0) return result;
      }
    }
    return 0;
  };
  return { node: given, axis: normal, count, shape: [count], order };
}

/** Groups items that follow each other in `sequence` and are the same. */
function grouped(items: Items, sequence: readonly number[]): Uniques {
  const inverse = new Int32Array(items.count);
  const firsts: number[] = [];
  const counts: number[] = [];
  sequence.forEach((item, place) => {
    const before = sequence[place - 1];
    if (before === undefined || items.order(before, item) !== 0) {
      firsts.push(item);
      counts.push(0);
    }
    inverse[item] = firsts.length - 1;
    counts[counts.length - 1] = (counts.at(-1) as number) + 1;
  });
  const positions = tensor(Int32Array.from(firsts)).node;
  const { node, axis } = items;
  const values =
    firsts.length === 0 ? ops.narrowAxis(node, axis, 0, 0) : ops.take(node, positions, axis);
  return {
    values: wrap(values),
    inverse: tensor(inverse, { shape: items.shape }),
    counts: tensor(Int32Array.from(counts)),
  };
}

/**
 * The values that occur in `x`, ascending; with an axis its different slices, in lexical order. NaN is
 * the largest, and one value. Needs the values: throws DeviceError on devices that are read
 * asynchronously. The gradient flows to the first occurrence of each.
 *
 * @example
 * ```ts
 * const { values, inverse, counts } = unique(tensor([3, 1, 3]));
 * values; // => [1, 3]
 * inverse; // => [1, 0, 1]
 * counts; // => [1, 2]
 * ```
 */
export function unique(x: Tensor, options: { axis?: number } = {}): Uniques {
  const items = itemsOf('unique', x, options.axis);
  const sequence = Array.from({ length: items.count }, (_, i) => i);
  return grouped(
    items,
    sequence.sort((i, j) => items.order(i, j) || i - j),
  );
}

/**
 * One of each run of equal elements of the flattened `x`, or of equal slices along an axis. Needs the
 * values, as `unique`.
 *
 * @example
 * ```ts
 * uniqueConsecutive(tensor([1, 1, 2, 1])).values; // => [1, 2, 1]
 * ```
 */
export function uniqueConsecutive(x: Tensor, options: { axis?: number } = {}): Uniques {
  const items = itemsOf('uniqueConsecutive', x, options.axis);
  return grouped(
    items,
    Array.from({ length: items.count }, (_, i) => i),
  );
}

/**
 * Whether each element is one of `candidates`: bool.
 *
 * @example
 * ```ts
 * isin(tensor([1, 2, 3]), tensor([3, 1])); // => [true, false, true]
 * ```
 */
export function isin(x: Tensor, candidates: Tensor, options: { invert?: boolean } = {}): Tensor {
  const op = 'isin';
  const node = nodeOf(op, x);
  const given = castNode(nodeOf(op, candidates), node.dtype);
  const count = sizeOf(given.shape);
  const row = ops.reshape(given, [count]);
  let found: Node;
  if (count === 0) found = ops.full(node.shape, 0, 'bool');
  else if (node.dtype === 'bool' || count <= 16) {
    const column = ops.reshape(node, [...node.shape, 1]);
    found = ops.any(ops.equal(column, row), -1);
  } else {
    // In order, the place where a value belongs holds it or nothing does.
    const sorted = ops.gather(row, ops.argsort(row, 0), 0);
    const place = ops.minimum(ops.searchSorted(sorted, node), ops.constant(count - 1, 'int32'));
    found = ops.equal(ops.take(sorted, place, 0), node);
  }
  return wrap(options.invert === true ? ops.logicalNot(found) : found);
}

// ---- histograms -------------------------------------------------------------------------------

/**
 * In which of the intervals between ascending `boundaries` each value lies: int32, the number of
 * boundaries below it, or with `right` not above it.
 *
 * @example
 * ```ts
 * bucketize(tensor([1, 3, 9]), tensor([1, 4, 8])); // => [0, 1, 3]
 * ```
 */
export function bucketize(
  x: Tensor | number,
  boundaries: Tensor,
  options: { right?: boolean } = {},
): Tensor {
  const { shape } = nodeOf('bucketize', boundaries);
  if (shape.length !== 1) {
    throw new ShapeError(`boundaries must be a vector, got ${formatShape(shape)}`, {
      op: 'bucketize',
    });
  }
  return searchsorted(boundaries, x, options);
}

/** The ends of a histogram: given, or of the data; a single value is put in the middle of 2. */
function endsOf(op: string, node: Node, low: number, high: number): readonly [Node, Node] {
  const { dtype } = node;
  if (!(low <= high) || !Number.isFinite(high - low)) {
    throw new ArgumentError(`the range [${low}, ${high}] is empty or infinite`, { op });
  }
  const given = low !== high;
  const empty = node.shape[0] === 0;
  const first = given || empty ? numberNode(low, dtype) : ops.min(node);
  const last = given || empty ? numberNode(high, dtype) : ops.max(node);
  if (given) return [first, last];
  const one = ops.constant(1, dtype);
  const single = ops.equal(first, last);
  return [
    ops.select(single, ops.sub(first, one), first),
    ops.select(single, ops.add(last, one), last),
  ];
}

/** The ends of `bins` equal intervals: [bins + 1]. */
function equalEdges(bins: number, [low, high]: readonly [Node, Node]): Node {
  const { dtype } = low;
  const steps = ops.cast(ops.iota([bins + 1], 0, 'int32'), dtype);
  const share = ops.mul(steps, ops.constant(1 / bins, dtype));
  const inner = ops.add(low, ops.mul(share, ops.sub(high, low)));
  const last = ops.equal(ops.iota([bins + 1], 0, 'int32'), ops.constant(bins, 'int32'));
  return ops.select(last, high, inner);
}

/** Sums of `weights` of the values in each interval; the last one holds its upper end. */
function countBetween(values: Node, edges: Node, weights: Node): Node {
  const bins = (edges.shape[0] as number) - 1;
  const below = ops.searchSorted(edges, values, true);
  const last = ops.take(edges, ops.full([1], bins, 'int32'), 0);
  const isLast = ops.equal(values, last);
  const first = ops.take(edges, ops.full([1], 0, 'int32'), 0);
  const inside = ops.logicalAnd(ops.greaterEqual(values, first), ops.lessEqual(values, last));
  const one = ops.constant(1, 'int32');
  const index = ops.select(isLast, ops.constant(bins - 1, 'int32'), ops.sub(below, one));
  const safe = ops.minimum(
    ops.maximum(index, ops.constant(0, 'int32')),
    ops.constant(bins - 1, 'int32'),
  );
  const counted = ops.select(inside, weights, ops.constant(0, weights.dtype));
  if (values.shape[0] === 0) return ops.full([bins], 0, weights.dtype);
  return ops.addRows(counted, safe, 0, bins);
}

function flatFloat(op: string, x: Tensor): Node {
  const node = floatNode(op, x);
  return ops.reshape(node, [sizeOf(node.shape)]);
}

/**
 * How many elements lie in each of `bins` equal intervals from `min` to `max`, or from the smallest
 * to the largest element if both are equal. What lies outside, and NaN, does not count.
 *
 * @example
 * ```ts
 * histc(tensor([1, 2, 1, 9]), 4, 0, 4); // => [0, 2, 1, 0]
 * ```
 */
export function histc(x: Tensor, bins = 100, min = 0, max = 0): Tensor {
  const op = 'histc';
  checkInteger(op, 'bins', bins, 1);
  const values = flatFloat(op, x);
  const edges = equalEdges(bins, endsOf(op, values, min, max));
  return wrap(countBetween(values, edges, ops.full(values.shape, 1, values.dtype)));
}

export interface HistogramOptions {
  /** First and last edge; default the smallest and the largest element. */
  readonly range?: readonly [number, number];
  /** One weight for each element; default 1. */
  readonly weight?: Tensor | null;
  /** The integral over the range is 1. */
  readonly density?: boolean;
}

/**
 * Counts between edges: `bins` is the number of equal intervals, or a vector of ascending edges.
 *
 * @example
 * ```ts
 * const { hist, binEdges } = histogram(tensor([1, 2, 1]), 2, { range: [0, 4] });
 * hist; // => [2, 1]
 * binEdges; // => [0, 2, 4]
 * ```
 */
export function histogram(
  x: Tensor,
  bins: number | Tensor,
  options: HistogramOptions = {},
): { hist: Tensor; binEdges: Tensor } {
  const op = 'histogram';
  const values = flatFloat(op, x);
  const { range, weight = null, density = false } = options;
  let edges: Node;
  if (isTensor(bins)) {
    edges = castNode(nodeOf(op, bins), values.dtype);
    if (edges.shape.length !== 1 || (edges.shape[0] as number) < 2) {
      throw new ShapeError(
        `edges must be a vector of two or more, got ${formatShape(edges.shape)}`,
        {
          op,
        },
      );
    }
  } else {
    checkInteger(op, 'bins', bins, 1);
    edges = equalEdges(bins, endsOf(op, values, ...(range ?? ([0, 0] as const))));
  }
  const count = sizeOf(values.shape);
  let weights = ops.full(values.shape, 1, values.dtype);
  if (weight !== null) {
    const given = castNode(nodeOf(op, weight), values.dtype);
    if (sizeOf(given.shape) !== count) {
      throw new ShapeError(`weights ${formatShape(given.shape)} for ${count} elements`, { op });
    }
    weights = ops.reshape(given, [count]);
  }
  let hist = countBetween(values, edges, weights);
  if (density) {
    const bin = edges.shape[0] as number;
    const widths = ops.sub(
      ops.narrowAxis(edges, 0, 1, bin - 1),
      ops.narrowAxis(edges, 0, 0, bin - 1),
    );
    hist = ops.div(hist, ops.mul(widths, ops.sum(hist)));
  }
  return { hist: wrap(hist), binEdges: wrap(edges) };
}
