// Boxes: their areas, overlaps and forms, and the suppression of those that overlap better ones.
// A box is (x1, y1, x2, y2), rows of [n, 4], as torchvision.ops has them.
import { checkNumber } from '../../../base/checks.ts';
import { isFloat } from '../../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { promoteOperands } from '../../tensor/handle.ts';
import { valuesNow } from '../../tensor/conversion.ts';
import { tensor } from '../../tensor/creation.ts';
import { castNode, wrap } from '../../tensor/handle.ts';
import { nonzero } from '../../tensor/selection.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** Throws ShapeError unless `node` is [.., 4]. */
function checkBoxes(op: string, node: Node, rank?: number): void {
  const { shape } = node;
  if (shape.at(-1) === 4 && (rank === undefined || shape.length === rank)) return;
  throw new ShapeError(
    `takes boxes ${rank === 2 ? '[n, 4]' : '[.., 4]'}, got ${formatShape(shape)}`,
    {
      op,
    },
  );
}

/** The four numbers of boxes [.., 4], each [..]. */
function sides(node: Node): [Node, Node, Node, Node] {
  const lead = node.shape.slice(0, -1);
  const side = (k: number): Node =>
    ops.reshape(ops.narrowAxis(node, node.shape.length - 1, k, 1), lead);
  return [side(0), side(1), side(2), side(3)];
}

/** Numbers [..] as boxes [.., 4]. */
function joined(parts: readonly Node[]): Node {
  const columns = parts.map((part) => ops.reshape(part, [...part.shape, 1]));
  return ops.concat(columns, columns[0]!.shape.length - 1);
}

function areaOf(boxes: Node): Node {
  const [x1, y1, x2, y2] = sides(boxes);
  return ops.mul(ops.sub(x2, x1), ops.sub(y2, y1));
}

/**
 * Areas of boxes [n, 4].
 *
 * @example
 * ```ts
 * boxArea(tensor([[0, 0, 2, 3]])); // => [6]
 * ```
 */
export function boxArea(boxes: Tensor): Tensor {
  const node = nodeOf('boxArea', boxes);
  checkBoxes('boxArea', node, 2);
  return wrap(areaOf(node));
}

const FORMS = ['xyxy', 'xywh', 'cxcywh'] as const;

/** Two corners; a corner and a size; a centre and a size. */
export type BoxForm = (typeof FORMS)[number];

function toCorners(node: Node, form: BoxForm): Node {
  if (form === 'xyxy') return node;
  const [a, b, w, h] = sides(node);
  if (form === 'xywh') return joined([a, b, ops.add(a, w), ops.add(b, h)]);
  const half = ops.constant(0.5, node.dtype);
  const [dx, dy] = [ops.mul(w, half), ops.mul(h, half)];
  return joined([ops.sub(a, dx), ops.sub(b, dy), ops.add(a, dx), ops.add(b, dy)]);
}

function fromCorners(node: Node, form: BoxForm): Node {
  if (form === 'xyxy') return node;
  const [x1, y1, x2, y2] = sides(node);
  const [w, h] = [ops.sub(x2, x1), ops.sub(y2, y1)];
  if (form === 'xywh') return joined([x1, y1, w, h]);
  const half = ops.constant(0.5, node.dtype);
  return joined([ops.mul(ops.add(x1, x2), half), ops.mul(ops.add(y1, y2), half), w, h]);
}

/**
 * Boxes [.., 4] in another form: xyxy are two corners, xywh a corner and a size, cxcywh a centre and a
 * size. Integers become float32 where halves can arise.
 *
 * @example
 * ```ts
 * boxConvert(tensor([[1, 2, 3, 6]]), { inFmt: 'xyxy', outFmt: 'cxcywh' }); // => [[2, 4, 2, 4]]
 * ```
 */
export function boxConvert(
  boxes: Tensor,
  forms: { readonly inFmt: BoxForm; readonly outFmt: BoxForm },
): Tensor {
  const op = 'boxConvert';
  const { inFmt, outFmt } = forms;
  for (const form of [inFmt, outFmt]) {
    if (FORMS.includes(form)) continue;
    throw new ArgumentError(`there is no form '${String(form)}'`, { op, hint: FORMS.join(' or ') });
  }
  const given = nodeOf(op, boxes);
  checkBoxes(op, given);
  const halves = inFmt !== outFmt && (inFmt === 'cxcywh' || outFmt === 'cxcywh');
  const node = halves && !isFloat(given.dtype) ? castNode(given, 'float32') : given;
  return wrap(inFmt === outFmt ? node : fromCorners(toCorners(node, inFmt), outFmt));
}

/**
 * Boxes [.., 4] moved into an image of `size` [height, width].
 *
 * @example
 * ```ts
 * clipBoxesToImage(tensor([[-1, 1, 9, 2]]), { size: [4, 5] }); // => [[0, 1, 5, 2]]
 * ```
 */
export function clipBoxesToImage(
  boxes: Tensor,
  image: { readonly size: readonly [height: number, width: number] },
): Tensor {
  const op = 'clipBoxesToImage';
  const node = nodeOf(op, boxes);
  checkBoxes(op, node);
  const [height, width] = image.size;
  const zero = ops.constant(0, node.dtype);
  const limits = [width, height].map((limit) =>
    ops.constant(checkNumber(op, 'size', limit), node.dtype),
  );
  const clipped = sides(node).map((side, k) => ops.clamp(side, zero, limits[k % 2]!));
  return wrap(joined(clipped));
}

/**
 * Which boxes [n, 4] have both sides of at least `minSize`: int32 positions. Needs the values: throws
 * DeviceError on devices that are read asynchronously.
 *
 * @example
 * ```ts
 * removeSmallBoxes(tensor([[0, 0, 1, 9], [0, 0, 5, 5]]), 2); // => [1]
 * ```
 */
export function removeSmallBoxes(boxes: Tensor, minSize: number): Tensor {
  const op = 'removeSmallBoxes';
  const node = nodeOf(op, boxes);
  checkBoxes(op, node, 2);
  const least = ops.constant(checkNumber(op, 'minSize', minSize), node.dtype);
  const [x1, y1, x2, y2] = sides(node);
  const wide = ops.greaterEqual(ops.sub(x2, x1), least);
  const high = ops.greaterEqual(ops.sub(y2, y1), least);
  return nonzero(wrap(ops.logicalAnd(wide, high))).reshape(-1);
}

/** Overlaps and unions of all pairs, [n, m]; and both boxes' sides, to broadcast. */
function overlaps(op: string, first: Tensor, second: Tensor) {
  nodeOf(op, first);
  nodeOf(op, second);
  const given = promoteOperands(op, first, second);
  for (const node of given) checkBoxes(op, node, 2);
  const [a, b] = given.map((node) => (isFloat(node.dtype) ? node : castNode(node, 'float32'))) as [
    Node,
    Node,
  ];
  const [n, m] = [a.shape[0]!, b.shape[0]!];
  const zero = ops.constant(0, a.dtype);
  const rows = sides(a).map((side) => ops.reshape(side, [n, 1]));
  const columns = sides(b).map((side) => ops.reshape(side, [1, m]));
  const extent = (low: Node, high: Node): Node => {
    const length = ops.sub(high, low);
    // Slope 1 at 0, as PyTorch's clamp has it.
    return ops.select(ops.greaterEqual(length, zero), length, zero);
  };
  const inner = [0, 1].map((k) =>
    extent(ops.maximum(rows[k]!, columns[k]!), ops.minimum(rows[k + 2]!, columns[k + 2]!)),
  );
  const hull = [0, 1].map((k) =>
    extent(ops.minimum(rows[k]!, columns[k]!), ops.maximum(rows[k + 2]!, columns[k + 2]!)),
  );
  const common = ops.mul(inner[0]!, inner[1]!);
  const areas = ops.add(ops.reshape(areaOf(a), [n, 1]), ops.reshape(areaOf(b), [1, m]));
  return { common, union: ops.sub(areas, common), hull: ops.mul(hull[0]!, hull[1]!) };
}

/**
 * Overlap over union of all pairs of boxes [n, 4] and [m, 4]: [n, m].
 *
 * @example
 * ```ts
 * boxIou(tensor([[0, 0, 2, 2]]), tensor([[0, 0, 2, 1], [5, 5, 6, 6]])); // => [[0.5, 0]]
 * ```
 */
export function boxIou(boxes1: Tensor, boxes2: Tensor): Tensor {
  const { common, union } = overlaps('boxIou', boxes1, boxes2);
  return wrap(ops.div(common, union));
}

/**
 * Generalized overlap of all pairs of boxes [n, 4] and [m, 4] (Rezatofighi et al. 2019): overlap over
 * union, less the share of the smallest box around both that neither covers.
 *
 * @example
 * ```ts
 * generalizedBoxIou(tensor([[0, 0, 1, 1]]), tensor([[2, 0, 3, 1]])); // => [[-0.333]]
 * ```
 */
export function generalizedBoxIou(boxes1: Tensor, boxes2: Tensor): Tensor {
  const { common, union, hull } = overlaps('generalizedBoxIou', boxes1, boxes2);
  const empty = ops.div(ops.sub(hull, union), hull);
  return wrap(ops.sub(ops.div(common, union), empty));
}

// ---- suppression ------------------------------------------------------------------------------

export interface NmsOptions {
  /** Boxes that overlap a better one by more than this share of their union are left out. */
  readonly iouThreshold: number;
  /** Most boxes that are kept. */
  readonly maxOutput?: number;
}

/** Values of boxes and scores, in the precision they are stored in. */
function readBoxes(op: string, boxes: Tensor, scores: Tensor) {
  const node = nodeOf(op, boxes);
  checkBoxes(op, node, 2);
  const count = node.shape[0]!;
  const { shape } = nodeOf(op, scores);
  if (shape.length !== 1 || shape[0] !== count) {
    throw new ShapeError(`scores ${formatShape(shape)} are not one for each of ${count} boxes`, {
      op,
    });
  }
  return { count, corners: valuesNow(op, boxes), worth: valuesNow(op, scores) };
}

/** Positions from the best score to the worst; equal ones in order, NaN first. */
function byScore(worth: ArrayLike<number>): number[] {
  const key = (i: number): number => {
    const score = worth[i]!;
    return Number.isNaN(score) ? Infinity : score;
  };
  const order = Array.from({ length: worth.length }, (_, i) => i);
  return order.sort((a, b) => (key(a) === key(b) ? a - b : key(b) - key(a)));
}

/** Whether boxes i and j overlap by more than `limit`: in float32 for float32 boxes, as PyTorch. */
function overlapTest(corners: ArrayLike<number>, double: boolean, limit: number) {
  const round = double ? (value: number): number => value : Math.fround;
  const extent = (low: number, high: number): number => Math.max(0, round(high - low));
  const areas = Array.from({ length: corners.length / 4 }, (_, i) =>
    round(
      round(corners[4 * i + 2]! - corners[4 * i]!) *
        round(corners[4 * i + 3]! - corners[4 * i + 1]!),
    ),
  );
  return (i: number, j: number): boolean => {
    const [a, b] = [4 * i, 4 * j];
    const width = extent(
      Math.max(corners[a]!, corners[b]!),
      Math.min(corners[a + 2]!, corners[b + 2]!),
    );
    const height = extent(
      Math.max(corners[a + 1]!, corners[b + 1]!),
      Math.min(corners[a + 3]!, corners[b + 3]!),
    );
    const common = round(width * height);
    return round(common / round(round(areas[i]! + areas[j]!) - common)) > limit;
  };
}

function suppress(
  op: string,
  boxes: Tensor,
  scores: Tensor,
  groups: ArrayLike<number> | null,
  options: NmsOptions,
): Tensor {
  const { iouThreshold, maxOutput = Infinity } = options;
  checkNumber(op, 'iouThreshold', iouThreshold, [-Infinity]);
  if (maxOutput !== Infinity) checkNumber(op, 'maxOutput', maxOutput, [0, Infinity, 'integer']);
  const { corners, worth } = readBoxes(op, boxes, scores);
  const overlap = overlapTest(corners, boxes.dtype === 'float64', iouThreshold);
  const kept: number[] = [];
  for (const candidate of byScore(worth)) {
    if (kept.length >= maxOutput) break;
    const beaten = kept.some(
      (better) =>
        (groups === null || groups[better] === groups[candidate]) && overlap(better, candidate),
    );
    if (!beaten) kept.push(candidate);
  }
  return tensor(Int32Array.from(kept), { shape: [kept.length] });
}

/**
 * Positions of the boxes [n, 4] that no better one overlaps by more than `iouThreshold` of their union,
 * the best score first: int32. How many there are depends on the values, which are read at once: throws
 * DeviceError on devices that are read asynchronously.
 *
 * @example
 * ```ts
 * const boxes = tensor([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]]);
 * nms(boxes, tensor([0.5, 0.9, 0.1]), { iouThreshold: 0.5 }); // => [1, 2]
 * ```
 */
export function nms(boxes: Tensor, scores: Tensor, options: NmsOptions): Tensor {
  return suppress('nms', boxes, scores, null, options);
}

/**
 * As `nms`, where only boxes of one class suppress each other: `classes` [n] of integers.
 *
 * @example
 * ```ts
 * const boxes = tensor([[0, 0, 4, 4], [0, 0, 4, 5]]);
 * const classes = tensor([0, 1], { dtype: 'int32' });
 * batchedNms(boxes, tensor([0.5, 0.9]), classes, { iouThreshold: 0.5 }); // => [1, 0]
 * ```
 */
export function batchedNms(
  boxes: Tensor,
  scores: Tensor,
  classes: Tensor,
  options: NmsOptions,
): Tensor {
  const op = 'batchedNms';
  const { shape } = nodeOf(op, classes);
  const count = nodeOf(op, boxes).shape[0];
  if (shape.length !== 1 || shape[0] !== count) {
    throw new ShapeError(`classes ${formatShape(shape)} are not one for each of ${count} boxes`, {
      op,
    });
  }
  return suppress(op, boxes, scores, valuesNow(op, classes), options);
}
