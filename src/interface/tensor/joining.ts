// Joining and cutting: cat, stack, split, slices along one axis, windows, differences.
import { type DType, promote } from '../../base/dtype.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from './arguments.ts';
import { castNode, listOf, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

function promoted(op: string, tensors: readonly Tensor[]): Node[] {
  const nodes = listOf(op, tensors).map((x) => nodeOf(op, x));
  const [first] = nodes;
  if (first === undefined) throw new ArgumentError('got no tensors', { op });
  const dtype = nodes.reduce<DType>((all, node) => promote(all, node.dtype), first.dtype);
  return nodes.map((node) => castNode(node, dtype));
}

/** Tensors one after another along an axis; they agree in all others. */
export function cat(tensors: readonly Tensor[], axis = 0): Tensor {
  return wrap(ops.concat(promoted('cat', tensors), axis, 'cat'));
}

/** Tensors of one shape side by side along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const nodes = promoted('stack', tensors);
  const shape = (nodes[0] as Node).shape;
  const normal = normalizeAxis('stack', axis, shape.length + 1);
  for (const [i, node] of nodes.entries()) {
    if (node.shape.join() !== shape.join()) {
      throw new ShapeError(`tensor ${i} is ${formatShape(node.shape)}, not ${formatShape(shape)}`, {
        op: 'stack',
      });
    }
  }
  const unit = [...shape.slice(0, normal), 1, ...shape.slice(normal)];
  return wrap(
    ops.concat(
      nodes.map((node) => ops.reshape(node, unit)),
      normal,
    ),
  );
}

/** Pieces of `size` along an axis (the last may be smaller), or of the given sizes. */
export function split(x: Tensor, size: number | readonly number[], axis = 0): Tensor[] {
  const node = nodeOf('split', x);
  const normal = normalizeAxis('split', axis, node.shape.length);
  const length = node.shape[normal] as number;
  const sizes: number[] = [];
  if (typeof size === 'number') {
    checkInteger('split', 'the size', size, 1);
    for (let start = 0; start < length; start += size) sizes.push(Math.min(size, length - start));
    if (length === 0) sizes.push(0);
  } else sizes.push(...size);
  const total = sizes.reduce((sum, piece) => sum + checkInteger('split', 'a size', piece, 0), 0);
  if (total !== length) {
    throw new ShapeError(
      `sizes [${sizes.join(',')}] sum to ${total}, axis ${axis} of ${formatShape(node.shape)} is ${length}`,
      { op: 'split' },
    );
  }
  let start = 0;
  return sizes.map((piece) => {
    const part = ops.narrowAxis(node, normal, start, piece);
    start += piece;
    return wrap(part);
  });
}

/** At most `chunks` pieces of equal size, the last possibly smaller. */
export function chunk(x: Tensor, chunks: number, axis = 0): Tensor[] {
  checkInteger('chunk', 'the number of chunks', chunks, 1);
  const node = nodeOf('chunk', x);
  const normal = normalizeAxis('chunk', axis, node.shape.length);
  const length = node.shape[normal] as number;
  return split(x, Math.max(1, Math.ceil(length / chunks)), normal);
}

/** All slices along an axis, without it. */
export function unbind(x: Tensor, axis = 0): Tensor[] {
  const node = nodeOf('unbind', x);
  const normal = normalizeAxis('unbind', axis, node.shape.length);
  return Array.from({ length: node.shape[normal] as number }, (_, index) =>
    wrap(selectNode(node, normal, index)),
  );
}

/** The slice at a checked, non-negative index, without its axis. */
export function selectNode(node: Node, axis: number, index: number): Node {
  const rest = node.shape.filter((_, i) => i !== axis);
  return ops.reshape(ops.narrowAxis(node, axis, index, 1), rest);
}

/** An index counted from the end if negative. Throws ShapeError out of range. */
export function checkIndex(op: string, index: number, length: number, axis: number): number {
  const normal = index < 0 ? index + length : index;
  if (!Number.isInteger(index) || normal < 0 || normal >= length) {
    throw new ShapeError(`index ${index} is out of range for axis ${axis} of size ${length}`, {
      op,
      ...(length > 0 ? { hint: `valid indices are ${-length} to ${length - 1}` } : {}),
    });
  }
  return normal;
}

/** The slice at `index` along an axis, which is dropped. */
export function select(x: Tensor, axis: number, index: number): Tensor {
  const node = nodeOf('select', x);
  const normal = normalizeAxis('select', axis, node.shape.length);
  const length = node.shape[normal] as number;
  return wrap(selectNode(node, normal, checkIndex('select', index, length, normal)));
}

/** `length` elements from `start` along an axis. Throws ShapeError if they are not there. */
export function narrow(x: Tensor, axis: number, start: number, length: number): Tensor {
  const node = nodeOf('narrow', x);
  const normal = normalizeAxis('narrow', axis, node.shape.length);
  const size = node.shape[normal] as number;
  const first = start < 0 ? start + size : start;
  checkInteger('narrow', 'length', length, 0);
  if (!Number.isInteger(first) || first < 0 || first + length > size) {
    throw new ShapeError(
      `${length} element(s) from ${start} leave axis ${axis} of ${formatShape(node.shape)}`,
      { op: 'narrow' },
    );
  }
  return wrap(ops.narrowAxis(node, normal, first, length));
}

/** Sliding windows of `size` every `step` along an axis, as a new last axis. */
export function unfoldAxis(x: Tensor, axis: number, size: number, step: number): Tensor {
  const node = nodeOf('unfold', x);
  const normal = normalizeAxis('unfold', axis, node.shape.length);
  const length = node.shape[normal] as number;
  checkInteger('unfold', 'size', size, 1);
  checkInteger('unfold', 'step', step, 1);
  if (size > length) {
    throw new ShapeError(
      `windows of ${size} do not fit axis ${axis} of ${formatShape(node.shape)}`,
      {
        op: 'unfold',
      },
    );
  }
  const count = Math.floor((length - size) / step) + 1;
  // Element k of every window: a slice with the step of the windows.
  const places = Array.from({ length: size }, (_, offset) => {
    const ranges = node.shape.map((_, i) =>
      i === normal ? { start: offset, stop: offset + (count - 1) * step + 1, step } : null,
    );
    const part = ops.slice(node, ranges);
    return ops.reshape(part, [...part.shape, 1]);
  });
  return wrap(ops.concat(places, -1));
}

/** Differences of neighbours along an axis, `n` times over. */
export function diff(x: Tensor, n = 1, axis = -1): Tensor {
  checkInteger('diff', 'n', n, 0);
  let node = nodeOf('diff', x);
  const normal = normalizeAxis('diff', axis, node.shape.length);
  for (let round = 0; round < n; round++) {
    const length = node.shape[normal] as number;
    if (length < 1) break;
    const later = ops.narrowAxis(node, normal, 1, length - 1);
    const earlier = ops.narrowAxis(node, normal, 0, length - 1);
    node = node.dtype === 'bool' ? ops.logicalXor(later, earlier) : ops.sub(later, earlier);
  }
  return wrap(node);
}
