// Elements of images in another order: pixel shuffles, sliding blocks.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { checkInteger, nodeOf } from '../tensor/arguments.ts';
import { wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { bothSides, perAxis, type Sizes, withBatch } from './windows.ts';

function images(op: string, node: Node): readonly [number[], number, number, number] {
  const { shape } = node;
  if (shape.length < 3) {
    throw new ShapeError(`takes [.., channels, height, width], got ${formatShape(shape)}`, { op });
  }
  const [channels, height, width] = shape.slice(-3) as [number, number, number];
  return [shape.slice(0, -3), channels, height, width];
}

/** [.., c·r², h, w] as [.., c, h·r, w·r] (Shi et al. 2016). */
export function pixelShuffle(x: Tensor, upscaleFactor: number): Tensor {
  const r = checkInteger('pixelShuffle', 'the factor', upscaleFactor, 1);
  const node = nodeOf('pixelShuffle', x);
  const [lead, channels, height, width] = images('pixelShuffle', node);
  if (channels % (r * r) !== 0) {
    throw new ShapeError(`${channels} channels are no multiple of ${r}²`, { op: 'pixelShuffle' });
  }
  const c = channels / (r * r);
  const n = lead.length;
  const split = ops.reshape(node, [...lead, c, r, r, height, width]);
  const order = [...lead.map((_, i) => i), n, n + 3, n + 1, n + 4, n + 2];
  return wrap(ops.reshape(ops.permute(split, order), [...lead, c, height * r, width * r]));
}

/** [.., c, h·r, w·r] as [.., c·r², h, w]: the inverse of `pixelShuffle`. */
export function pixelUnshuffle(x: Tensor, downscaleFactor: number): Tensor {
  const r = checkInteger('pixelUnshuffle', 'the factor', downscaleFactor, 1);
  const node = nodeOf('pixelUnshuffle', x);
  const [lead, c, height, width] = images('pixelUnshuffle', node);
  if (height % r !== 0 || width % r !== 0) {
    throw new ShapeError(`${formatShape(node.shape)} does not divide by ${r}`, {
      op: 'pixelUnshuffle',
    });
  }
  const n = lead.length;
  const split = ops.reshape(node, [...lead, c, height / r, r, width / r, r]);
  const order = [...lead.map((_, i) => i), n, n + 2, n + 4, n + 1, n + 3];
  return wrap(ops.reshape(ops.permute(split, order), [...lead, c * r * r, height / r, width / r]));
}

/** Channels of groups interleaved (Zhang et al. 2018): x [n, channels, ...]. */
export function channelShuffle(x: Tensor, groups: number): Tensor {
  checkInteger('channelShuffle', 'groups', groups, 1);
  const node = nodeOf('channelShuffle', x);
  const [batch, channels, ...space] = node.shape;
  if (batch === undefined || channels === undefined || channels % groups !== 0) {
    throw new ShapeError(
      `${groups} groups do not divide the channels of ${formatShape(node.shape)}`,
      {
        op: 'channelShuffle',
      },
    );
  }
  const split = ops.reshape(node, [batch, groups, channels / groups, sizeOf(space)]);
  return wrap(ops.reshape(ops.permute(split, [0, 2, 1, 3]), node.shape));
}

export interface UnfoldOptions {
  readonly stride?: Sizes;
  readonly padding?: Sizes;
  readonly dilation?: Sizes;
}

/** Sliding blocks over two axes. */
export interface Blocks {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly sides: readonly number[];
  readonly dilation: readonly number[];
  readonly count: readonly number[];
}

/** The blocks that fit; throws ShapeError if none does. */
export function blocksOf(
  op: string,
  size: readonly number[],
  kernelSize: Sizes,
  options: UnfoldOptions,
): Blocks {
  const kernel = perAxis(op, 'kernelSize', kernelSize, 2, 1);
  const stride = perAxis(op, 'stride', options.stride ?? 1, 2, 1);
  const sides = perAxis(op, 'padding', options.padding ?? 0, 2, 0);
  const dilation = perAxis(op, 'dilation', options.dilation ?? 1, 2, 1);
  const count = ops.windowOutputSize(size, kernel, { stride, dilation, padding: bothSides(sides) });
  if (count.some((n) => n < 1)) {
    throw new ShapeError(`blocks ${formatShape(kernel)} do not fit ${formatShape(size)}`, { op });
  }
  return { kernel, stride, sides, dilation, count };
}

/** Padded [n, c, h, w] read at kernel position (i, j) by every block: [n, c, 1, blocks]. */
export function readPosition(padded: Node, blocks: Blocks, i: number, j: number): Node {
  const ranges = [i, j].map((offset, axis) => {
    const start = offset * (blocks.dilation[axis] as number);
    const step = blocks.stride[axis] as number;
    return { start, stop: start + ((blocks.count[axis] as number) - 1) * step + 1, step };
  });
  const part = ops.slice(padded, [null, null, ...ranges]);
  const [n, c] = part.shape as readonly [number, number];
  return ops.reshape(part, [n, c, 1, sizeOf(blocks.count)]);
}

/** Sliding blocks of [n, c, h, w] as columns: [n, c·kh·kw, blocks]. */
export function unfold(x: Tensor, kernelSize: Sizes, options: UnfoldOptions = {}): Tensor {
  const { batched, unbatch } = withBatch('unfold', nodeOf('unfold', x), 2);
  const blocks = blocksOf('unfold', batched.shape.slice(2), kernelSize, options);
  const [top, left] = blocks.sides as readonly [number, number];
  const padded = ops.pad(batched, [0, 0, top, left], [0, 0, top, left]);
  const [kh, kw] = blocks.kernel as readonly [number, number];
  const parts: Node[] = [];
  for (let i = 0; i < kh; i++) {
    for (let j = 0; j < kw; j++) parts.push(readPosition(padded, blocks, i, j));
  }
  const [n, c] = batched.shape as readonly [number, number];
  const joined = ops.concat(parts, 2);
  return wrap(unbatch(ops.reshape(joined, [n, c * kh * kw, sizeOf(blocks.count)])));
}

/** Columns [n, c·kh·kw, blocks] added up where they came from: [n, c, ...outputSize]. */
export function fold(
  x: Tensor,
  outputSize: Sizes,
  kernelSize: Sizes,
  options: UnfoldOptions = {},
): Tensor {
  const node = nodeOf('fold', x);
  const size = perAxis('fold', 'outputSize', outputSize, 2, 1);
  const blocks = blocksOf('fold', size, kernelSize, options);
  const batched = node.shape.length === 2 ? ops.reshape(node, [1, ...node.shape]) : node;
  const [n, columns, count] = batched.shape;
  const [kh, kw] = blocks.kernel as readonly [number, number];
  if (n === undefined || columns === undefined || columns % (kh * kw) !== 0) {
    throw new ShapeError(`${formatShape(node.shape)} has no blocks of ${kh} x ${kw}`, {
      op: 'fold',
    });
  }
  if (count !== sizeOf(blocks.count)) {
    throw new ArgumentError(
      `${count} blocks given, ${formatShape(size)} has ${sizeOf(blocks.count)}`,
      {
        op: 'fold',
      },
    );
  }
  const c = columns / (kh * kw);
  const split = ops.reshape(batched, [n, c, kh * kw, ...blocks.count]);
  let total: Node | null = null;
  for (let position = 0; position < kh * kw; position++) {
    const part = ops.reshape(ops.narrowAxis(split, 2, position, 1), [n, c, ...blocks.count]);
    const placed = placePosition(part, blocks, size, Math.floor(position / kw), position % kw);
    total = total === null ? placed : ops.add(total, placed);
  }
  const result = total as Node;
  return wrap(node.shape.length === 2 ? ops.reshape(result, result.shape.slice(1)) : result);
}

/** The adjoint of reading one kernel position: spread by the stride, then padded or cut to size. */
function placePosition(
  part: Node,
  blocks: Blocks,
  size: readonly number[],
  i: number,
  j: number,
): Node {
  const before = [i, j].map(
    (offset, axis) => offset * (blocks.dilation[axis] as number) - (blocks.sides[axis] as number),
  );
  const after = before.map((first, axis) => {
    const step = blocks.stride[axis] as number;
    const span = ((blocks.count[axis] as number) - 1) * step + 1;
    return (size[axis] as number) - first - span;
  });
  const interior = blocks.stride.map((step) => step - 1);
  const none = [0, 0, 0, 0];
  const spread = ops.pad(part, none, none, 0, [0, 0, ...interior]);
  return ops.pad(spread, [0, 0, ...before], [0, 0, ...after]);
}

/** Sliding blocks of [n, c, h, w] on axes of their own: [n, c, oh, ow, kh, kw]. */
export function slidingWindow(x: Tensor, kernelSize: Sizes, options: UnfoldOptions = {}): Tensor {
  const op = 'slidingWindow';
  const { batched, unbatch } = withBatch(op, nodeOf(op, x), 2);
  const [n, c, ...size] = batched.shape as readonly [number, number, ...number[]];
  const { kernel, count } = blocksOf(op, size, kernelSize, options);
  const columns = unfold(wrap(batched), kernel, options).node;
  const split = ops.reshape(columns, [n, c, ...kernel, ...count]);
  return wrap(unbatch(ops.permute(split, [0, 1, 4, 5, 2, 3])));
}

/** Blocks [n, c, oh, ow, kh, kw] added up where they came from: [n, c, ...outputSize]. */
export function slidingWindowTranspose(
  x: Tensor,
  outputSize: Sizes,
  kernelSize: Sizes,
  options: UnfoldOptions = {},
): Tensor {
  const op = 'slidingWindowTranspose';
  const node = nodeOf(op, x);
  const size = perAxis(op, 'outputSize', outputSize, 2, 1);
  const { kernel, count } = blocksOf(op, size, kernelSize, options);
  const expected = [...count, ...kernel];
  const lead = node.shape.length - 4;
  if (lead < 1 || lead > 2 || !sameShape(node.shape.slice(lead), expected)) {
    throw new ShapeError(
      `takes [batch, channels, ${expected.join(', ')}] or without batch, got ${formatShape(node.shape)}`,
      { op },
    );
  }
  const batched = lead === 1 ? ops.reshape(node, [1, ...node.shape]) : node;
  const [n, c] = batched.shape as readonly [number, number];
  const columns = ops.reshape(ops.permute(batched, [0, 1, 4, 5, 2, 3]), [
    n,
    c * sizeOf(kernel),
    sizeOf(count),
  ]);
  const result = fold(wrap(columns), size, kernel, options).node;
  return wrap(lead === 1 ? ops.reshape(result, result.shape.slice(1)) : result);
}
