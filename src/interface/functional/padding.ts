// Padding of the last axes, in PyTorch's order: last axis first, before and after.
import { checkInteger, describeValue } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { nodeLike } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';

export interface PadOptions {
  /** What stands outside: a value, or the input mirrored, repeated or wrapped around. */
  readonly mode?: 'constant' | 'reflect' | 'replicate' | 'circular';
  /** The value of mode constant; default 0. */
  readonly value?: number | boolean | null;
}

/** Pieces of an axis: [start, count] slices, some of them backwards, some a single repeated row. */
function padAxis(
  node: Node,
  axis: number,
  before: number,
  after: number,
  mode: 'reflect' | 'replicate' | 'circular',
): Node {
  const length = node.shape[axis] as number;
  const limit = mode === 'reflect' ? length - 1 : length;
  if (mode !== 'replicate' && (before > limit || after > limit)) {
    throw new ShapeError(
      `${mode} padding [${before},${after}] exceeds axis ${axis} of ${formatShape(node.shape)}`,
      { op: 'pad', hint: `at most ${Math.max(limit, 0)} on each side` },
    );
  }
  if (length === 0) {
    throw new ShapeError(`axis ${axis} of ${formatShape(node.shape)} is empty`, { op: 'pad' });
  }
  const part = (start: number, count: number): Node => ops.narrowAxis(node, axis, start, count);
  const repeated = (start: number, count: number): Node =>
    ops.expand(
      part(start, 1),
      node.shape.map((size, i) => (i === axis ? count : size)),
    );
  const pieces: Node[] = [];
  const cut = part(Math.max(-before, 0), length - Math.max(-before, 0) - Math.max(-after, 0));
  if (before > 0) {
    if (mode === 'reflect') pieces.push(ops.flip(part(1, before), [axis]));
    else if (mode === 'replicate') pieces.push(repeated(0, before));
    else pieces.push(part(length - before, before));
  }
  pieces.push(cut);
  if (after > 0) {
    if (mode === 'reflect') pieces.push(ops.flip(part(length - 1 - after, after), [axis]));
    else if (mode === 'replicate') pieces.push(repeated(length - 1, after));
    else pieces.push(part(0, after));
  }
  return ops.concat(pieces, axis);
}

/**
 * `padding` holds two amounts for each of the last axes, last axis first: [left, right, top,
 * bottom, ...]. Negative amounts cut off. Throws ShapeError where a mirror is too short.
 *
 * @example
 * ```ts
 * pad(tensor([1, 2, 3]), [2, 1]); // => [0, 0, 1, 2, 3, 0]
 * pad(tensor([1, 2, 3]), [2, 1], { mode: 'reflect' }); // => [3, 2, 1, 2, 3, 2]
 * ```
 */
export function pad(x: Tensor, padding: readonly number[], options: PadOptions = {}): Tensor {
  const node = nodeOf('pad', x);
  const { mode = 'constant' } = options;
  const rank = node.shape.length;
  if (!Array.isArray(padding)) {
    throw new ArgumentError(`expected a list of amounts, got ${describeValue(padding)}`, {
      op: 'pad',
    });
  }
  if (padding.length % 2 !== 0 || padding.length > 2 * rank) {
    throw new ArgumentError(
      `${padding.length} amounts do not make pairs for at most ${rank} axes`,
      { op: 'pad' },
    );
  }
  for (const amount of padding) {
    checkInteger('pad', 'an amount', amount, -Infinity);
  }
  const before = node.shape.map((_, axis) => padding[2 * (rank - 1 - axis)] ?? 0);
  const after = node.shape.map((_, axis) => padding[2 * (rank - 1 - axis) + 1] ?? 0);
  if (mode === 'constant') return wrap(padConstant(node, before, after, options.value ?? 0));
  if (mode !== 'reflect' && mode !== 'replicate' && mode !== 'circular') {
    mode satisfies never;
    throw new ArgumentError(`there is no mode '${String(mode)}'`, {
      op: 'pad',
      hint: 'constant, reflect, replicate or circular',
    });
  }
  let result = node;
  for (let axis = 0; axis < rank; axis++) {
    const [low, high] = [before[axis] as number, after[axis] as number];
    if (low !== 0 || high !== 0) result = padAxis(result, axis, low, high, mode);
  }
  return wrap(result);
}

function padConstant(
  node: Node,
  before: readonly number[],
  after: readonly number[],
  value: number | boolean,
): Node {
  const number = Number(value);
  if (number === 0 || !Number.isFinite(number)) return ops.pad(node, before, after, number);
  if (node.dtype === 'bool') return ops.pad(node, before, after, 1);
  // Any other number is a slot: zeros are padded, and the slot is put where nothing was.
  const padded = ops.pad(node, before, after, 0);
  const inside = ops.pad(ops.full(node.shape, 1, 'bool'), before, after, 0);
  return ops.select(inside, padded, nodeLike('pad', number, node.dtype));
}
