// Connectionist temporal classification (Graves et al. 2006): the likelihood of a sequence of labels,
// summed over all ways to place them in time.
import { checkInteger, checkKeys, checkOption, describeValue } from '../../base/checks.ts';
import { isFloat, isInteger } from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { valuesNow } from '../tensor/conversion.ts';
import { tensor } from '../tensor/creation.ts';
import { castNode, isTensor, wrap } from '../tensor/handle.ts';
import { rangeNode } from '../tensor/index-values.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type LossOptions, reduceLoss } from './reduction.ts';

export interface CtcOptions extends LossOptions {
  /** The class that stands for no label; default 0. */
  readonly blank?: number;
  /** Whether losses that are infinite, for labels that do not fit in time, count as 0. */
  readonly zeroInfinity?: boolean;
}

const OP = 'ctcLoss';

/** One length per sequence, as int32 [n] within [low, high]. */
function lengthsOf(
  name: string,
  given: Tensor | readonly number[],
  count: number,
  low: number,
  high: number,
): Node {
  if (!isTensor(given) && !Array.isArray(given)) {
    throw new ArgumentError(`${name} must be a tensor or a list, got ${describeValue(given)}`, {
      op: OP,
    });
  }
  const node = isTensor(given) ? given.node : tensor(Int32Array.from(given)).node;
  if (!isInteger(node.dtype)) {
    throw new DTypeError(`${name} are integers, got ${node.dtype}`, { op: OP });
  }
  if (sizeOf(node.shape) !== count || node.shape.length > 1) {
    throw new ShapeError(`${name} ${formatShape(node.shape)} are not one for each of ${count}`, {
      op: OP,
    });
  }
  const flat = ops.reshape(castNode(node, 'int32'), [count]);
  return rangeNode(OP, flat, high + 1, { lowest: low });
}

/** Labels one after another as rows [n, longest]; what is behind a row's end is some other label. */
function rowsOfLabels(labels: Node, lengths: Tensor | readonly number[]): Node {
  const counts = Array.from(isTensor(lengths) ? valuesNow(OP, lengths) : lengths);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (labels.shape[0] !== total) {
    throw new ShapeError(`${labels.shape[0]} labels for lengths that add up to ${total}`, {
      op: OP,
      hint: 'targets are [n, longest], or one row after another',
    });
  }
  const longest = Math.max(0, ...counts);
  const positions = new Int32Array(counts.length * longest);
  let start = 0;
  counts.forEach((count, n) => {
    for (let s = 0; s < longest; s++) {
      positions[n * longest + s] = Math.min(start + s, total - 1);
    }
    start += count;
  });
  const index = tensor(positions, { shape: [counts.length, longest] });
  return longest === 0 ? ops.full([counts.length, 0], 0, 'int32') : ops.take(labels, index.node, 0);
}

/** Elements by turns: [n, s] and [n, s] as a0, b0, a1, b1, ... [n, 2s]. */
function byTurns(a: Node, b: Node): Node {
  const [n, s] = a.shape as readonly [number, number];
  const parts = [a, b].map((node) => ops.reshape(node, [n, s, 1]));
  return ops.reshape(ops.concat(parts, 2), [n, 2 * s]);
}

/** The states of a sequence: blank, label, blank, ..., blank; and which a path may reach by skipping. */
function statesOf(labels: Node, blank: number): { classes: Node; skip: Node } {
  const [n, length] = labels.shape as readonly [number, number];
  const blanks = ops.full([n, length], blank, 'int32');
  const last = ops.full([n, 1], blank, 'int32');
  if (length === 0) return { classes: last, skip: ops.full([n, 1], 0, 'int32') };
  const before = ops.pad(labels, [0, 1], [0, -1], -1);
  const first = ops.equal(ops.iota([1, length], 1, 'int32'), ops.constant(0, 'int32'));
  // Between equal labels there must be a blank.
  const free = ops.logicalAnd(ops.logicalNot(first), ops.notEqual(labels, before));
  const none = ops.full([n, length], 0, 'int32');
  const skip = byTurns(none, castNode(free, 'int32'));
  return {
    classes: ops.concat([byTurns(blanks, labels), last], 1),
    skip: ops.concat([skip, ops.full([n, 1], 0, 'int32')], 1),
  };
}

/** -log of the sum of the two totals that end a sequence; infinite, without gradient, if it is 0. */
function negativeLog(totals: Node): Node {
  const { dtype } = totals;
  const still = ops.detach(ops.max(totals, [1], true));
  const lowest = ops.constant(-Infinity, dtype);
  const zero = ops.constant(0, dtype);
  const base = ops.select(ops.equal(still, lowest), zero, still);
  const sum = ops.sum(ops.exp(ops.sub(totals, base)), 1);
  const possible = ops.notEqual(sum, zero);
  const safe = ops.select(possible, sum, ops.constant(1, dtype));
  const n = totals.shape[0] as number;
  const value = ops.neg(ops.add(ops.reshape(base, [n]), ops.log(safe)));
  return ops.select(possible, value, ops.constant(Infinity, dtype));
}

/** Losses [n] of scores [t, n, classes] that are 0 beyond a sequence's end. */
function lossesOf(scores: Node, labels: Node, inputs: Node, targets: Node, blank: number): Node {
  const [times, n] = scores.shape as readonly [number, number];
  const { classes, skip } = statesOf(labels, blank);
  const states = classes.shape[1] as number;
  const at = ops.expand(ops.reshape(classes, [1, n, states]), [times, n, states]);
  const emitted = ops.gather(scores, at, 2);
  const time = ops.iota([times, 1, 1], 0, 'int32');
  const running = ops.less(time, ops.reshape(inputs, [1, n, 1]));
  const totals = ops.pathScores(ops.select(running, emitted, ops.constant(0, scores.dtype)), skip);
  // A sequence ends in its last blank or its last label.
  const one = ops.constant(1, 'int32');
  const zero = ops.constant(0, 'int32');
  const lastBlank = ops.reshape(ops.add(targets, targets), [n, 1]);
  const lastLabel = ops.maximum(ops.sub(lastBlank, one), zero);
  const ends = ops.reshape(ops.concat([lastBlank, lastLabel], 1), [1, n, 2]);
  const rows = ops.gather(totals, ops.expand(ends, [times, n, 2]), 2);
  const lastTime = ops.reshape(ops.sub(inputs, one), [1, n, 1]);
  const found = ops.reshape(ops.gather(rows, ops.expand(lastTime, [1, n, 2]), 0), [n, 2]);
  const noLabel = ops.logicalAnd(
    ops.equal(ops.reshape(targets, [n, 1]), zero),
    ops.equal(ops.iota([1, 2], 1, 'int32'), one),
  );
  return negativeLog(ops.select(noLabel, ops.constant(-Infinity, scores.dtype), found));
}

/** Labels [n, longest] of int32, blank beyond each row's end. */
function labelsOf(
  targets: Tensor,
  lengths: Tensor | readonly number[],
  n: number,
  batched: boolean,
): Node {
  const given = nodeOf(OP, targets);
  if (!isInteger(given.dtype)) {
    throw new DTypeError(`targets are classes as integers, got ${given.dtype}`, { op: OP });
  }
  const { shape } = given;
  const node = castNode(given, 'int32');
  if (!batched && shape.length === 1) return ops.reshape(node, [1, sizeOf(shape)]);
  if (batched && shape.length === 1) return rowsOfLabels(node, lengths);
  if (shape.length === 2 && shape[0] === n) return node;
  throw new ShapeError(`targets ${formatShape(shape)} are no labels of ${n} sequence(s)`, {
    op: OP,
    hint: 'targets are [n, longest], or one row after another',
  });
}

/**
 * CTC loss of `logProbabilities` [t, n, classes] (or [t, classes]), which `logSoftmax` gives, for
 * targets [n, longest] or one row after another, of int32. Lengths are one per sequence: at most t, and
 * at most as many as there are labels. `mean` divides each loss by its number of labels first.
 *
 * The gradient is that by `logProbabilities` as they are. PyTorch's is what a `logSoftmax` before turns
 * into the same gradient by the scores. Where labels do not fit in time the loss is Infinity, its
 * gradient 0. Throws ShapeError, DTypeError; lengths or labels out of range throw when they are known.
 *
 * @example
 * ```ts
 * const scores = zeros(3, 1, 2);
 * const labels = tensor([[1]], { dtype: 'int32' });
 * ctcLoss(F.logSoftmax(scores, 2), labels, [3], [1]); // => 0.288
 * ```
 */
export function ctcLoss(
  logProbabilities: Tensor,
  targets: Tensor,
  inputLengths: Tensor | readonly number[],
  targetLengths: Tensor | readonly number[],
  options: CtcOptions = {},
): Tensor {
  checkKeys(OP, options, ['blank', 'reduction', 'zeroInfinity']);
  const { blank = 0, reduction = 'mean', zeroInfinity = false } = options;
  checkOption(OP, 'zeroInfinity', zeroInfinity, 'boolean');
  const given = nodeOf(OP, logProbabilities);
  const { shape, dtype } = given;
  if (!isFloat(dtype)) throw new DTypeError(`takes floats, not ${dtype}`, { op: OP });
  if ((shape.length !== 2 && shape.length !== 3) || shape[0] === 0) {
    throw new ShapeError(`takes [times, batch, classes], got ${formatShape(shape)}`, { op: OP });
  }
  const batched = shape.length === 3;
  const [times, n, classes] = batched ? shape : [shape[0], 1, shape[1]];
  const scores = ops.reshape(given, [times!, n!, classes!]);
  if (checkInteger(OP, 'blank', blank, 0) >= classes!) {
    throw new ArgumentError(`blank is ${blank}, there are ${classes} classes`, { op: OP });
  }
  const rows = labelsOf(targets, targetLengths, n!, batched);
  const longest = rows.shape[1] as number;
  const inputs = lengthsOf('inputLengths', inputLengths, n!, 1, times!);
  const lengths = lengthsOf('targetLengths', targetLengths, n!, 0, longest);
  const place = ops.iota([1, longest], 1, 'int32');
  const own = ops.less(place, ops.reshape(lengths, [n!, 1]));
  const labels = ops.select(own, rows, ops.constant(blank, 'int32'));
  let losses = lossesOf(scores, rangeNode(OP, labels, classes!), inputs, lengths, blank);
  if (zeroInfinity) {
    losses = ops.select(ops.isInf(losses), ops.constant(0, dtype), losses);
  }
  if (reduction === 'mean') {
    const counts = ops.maximum(lengths, ops.constant(1, 'int32'));
    losses = ops.div(losses, castNode(counts, dtype));
  }
  const result = reduceLoss(OP, losses, reduction);
  return wrap(!batched && reduction === 'none' ? ops.reshape(result, []) : result);
}
