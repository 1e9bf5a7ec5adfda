// Deformable convolution (Dai et al. 2017; modulated: Zhu et al. 2019): each element of the window reads
// at a place of its own.
import { checkKeys } from '../../../base/checks.ts';
import { ShapeError } from '../../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { pointTaps, readPoints } from '../../functional/sampling.ts';
import { bothSides, perAxis, type Sizes } from '../../functional/windows.ts';
import { castNode, wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { floatNode } from '../../tensor/unary.ts';

export interface DeformConvOptions {
  readonly stride?: Sizes;
  readonly padding?: Sizes;
  readonly dilation?: Sizes;
  /** Factors of what is read: [n, groups * kh * kw, ...size of the result]. */
  readonly mask?: Tensor | null;
}

interface Geometry {
  readonly kernel: readonly number[];
  readonly stride: readonly number[];
  readonly sides: readonly number[];
  readonly dilation: readonly number[];
  readonly out: readonly number[];
  /** Groups of channels with offsets of their own. */
  readonly groups: number;
}

const OP = 'deformConv2d';

function geometryOf(x: Node, offset: Node, weight: Node, options: DeformConvOptions): Geometry {
  const shapes = `x ${formatShape(x.shape)}, weight ${formatShape(weight.shape)}`;
  if (x.shape.length !== 4 || weight.shape.length !== 4 || sizeOf(x.shape.slice(2)) === 0) {
    throw new ShapeError(`takes [n, c, h, w] and [out, c / groups, kh, kw], got ${shapes}`, {
      op: OP,
    });
  }
  const [n, channels, ...space] = x.shape as readonly [number, number, ...number[]];
  const [outputs, perGroup, ...kernel] = weight.shape as readonly [number, number, ...number[]];
  const weightGroups = perGroup === 0 ? 0 : channels / perGroup;
  if (!Number.isInteger(weightGroups) || weightGroups === 0 || outputs % weightGroups !== 0) {
    throw new ShapeError(`channels do not divide into groups: ${shapes}`, { op: OP });
  }
  const stride = perAxis(OP, 'stride', options.stride ?? 1, 2, 1);
  const sides = perAxis(OP, 'padding', options.padding ?? 0, 2, 0);
  const dilation = perAxis(OP, 'dilation', options.dilation ?? 1, 2, 1);
  const window = { stride, padding: bothSides(sides), dilation };
  const out = ops.windowOutputSize(space, kernel, window);
  if (out.some((length) => length < 1)) {
    throw new ShapeError(`the kernel does not fit: ${shapes}`, { op: OP, hint: 'add padding' });
  }
  const groups = (offset.shape[1] ?? 0) / (2 * sizeOf(kernel));
  const expected = [n, 2 * sizeOf(kernel) * groups, ...out];
  const fits = Number.isInteger(groups) && groups > 0 && channels % groups === 0;
  if (!fits || !sameShape(offset.shape, expected)) {
    const wanted = formatShape([n, 2 * sizeOf(kernel), ...out]);
    throw new ShapeError(`offsets are ${formatShape(offset.shape)}, not ${wanted} for one group`, {
      op: OP,
      hint: 'two offsets, y and x, for each element of the window, group by group',
    });
  }
  return { kernel, stride, sides, dilation, out, groups };
}

/** Where the windows read along an axis, [n * groups, kh * kw * oh * ow]. */
function pointsAlong(offset: Node, axis: number, geometry: Geometry): Node {
  const { kernel, stride, sides, dilation, out, groups } = geometry;
  const n = offset.shape[0]!;
  const taps = sizeOf(kernel);
  const apart = ops.reshape(offset, [n * groups, taps, 2, ...out]);
  const own = ops.reshape(ops.narrowAxis(apart, 2, axis, 1), [n * groups, ...kernel, ...out]);
  const { dtype } = offset;
  const along = (position: number, size: number, step: number, first: number): Node => {
    const shape = [1, 1, 1, 1, 1].map((one, i) => (i === position ? size : one));
    const scaled = ops.mul(ops.iota(shape, position, dtype), ops.constant(step, dtype));
    return ops.add(scaled, ops.constant(first, dtype));
  };
  const window = along(1 + axis, kernel[axis]!, dilation[axis]!, -sides[axis]!);
  const place = along(3 + axis, out[axis]!, stride[axis]!, 0);
  return ops.reshape(ops.add(ops.add(own, window), place), [n * groups, taps * sizeOf(out)]);
}

/** The windows' elements, [n, c * kh * kw, oh * ow]. */
function columnsOf(x: Node, offset: Node, mask: Node | null, geometry: Geometry): Node {
  const { kernel, out, groups } = geometry;
  const [n, channels, ...space] = x.shape as readonly [number, number, ...number[]];
  const points = [0, 1].map((axis) => pointsAlong(offset, axis, geometry));
  const taps = pointTaps(points, space, { interpolation: 'bilinear', outside: 'nothing' });
  const grouped = ops.reshape(x, [n * groups, channels / groups, ...space]);
  let read = readPoints(grouped, taps);
  if (mask !== null) read = ops.mul(read, ops.reshape(mask, [n * groups, 1, read.shape[2]!]));
  return ops.reshape(read, [n, channels * sizeOf(kernel), sizeOf(out)]);
}

/**
 * Convolution of x [n, c, h, w] with weight [out, c / groups, kh, kw], whose element (i, j) reads at
 * its place moved by `offset` [n, 2 * offset groups * kh * kw, ...size of the result], bilinearly, with
 * zeros outside; `mask` scales what it reads (version 2). As torchvision.ops.deform_conv2d; gradients
 * flow to all five. Throws ShapeError where shapes do not fit.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2, 3]]]]);
 * const offset = tensor([[[[0, 0, 0]], [[0.5, 0, 1]]]]); // y, x
 * deformConv2d(x, offset, ones(1, 1, 1, 1)); // => [[[[1.5, 2, 0]]]]
 * ```
 */
export function deformConv2d(
  x: Tensor,
  offset: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: DeformConvOptions = {},
): Tensor {
  checkKeys(OP, options, ['stride', 'padding', 'dilation', 'mask']);
  const image = floatNode(OP, x);
  const { dtype } = image;
  const kernel = castNode(floatNode(OP, weight), dtype);
  const moved = floatNode(OP, offset);
  const geometry = geometryOf(image, moved, kernel, options);
  const [n, channels] = image.shape as readonly [number, number];
  const [outputs, perGroup] = kernel.shape as readonly [number, number];
  const { out, groups } = geometry;
  const taps = sizeOf(geometry.kernel);
  const { mask = null } = options;
  const factors = mask === null ? null : castNode(floatNode(OP, mask), dtype);
  if (factors !== null && !sameShape(factors.shape, [n, groups * taps, ...out])) {
    throw new ShapeError(
      `the mask is ${formatShape(factors.shape)}, not ${formatShape([n, groups * taps, ...out])}`,
      { op: OP },
    );
  }
  const parts = channels / perGroup;
  const columns = columnsOf(image, moved, factors, geometry);
  const right = ops.reshape(columns, [n, parts, perGroup * taps, sizeOf(out)]);
  const rows = [parts, outputs / parts, perGroup * taps];
  const left = ops.expand(ops.reshape(kernel, [1, ...rows]), [n, ...rows]);
  const product = ops.reshape(ops.matmul(left, right), [n, outputs, ...out]);
  if (bias === undefined || bias === null) return wrap(product);
  const offsetOf = castNode(floatNode(OP, bias), dtype);
  if (!sameShape(offsetOf.shape, [outputs])) {
    throw new ShapeError(`bias ${formatShape(offsetOf.shape)} does not fit ${outputs} output(s)`, {
      op: OP,
    });
  }
  return wrap(ops.add(product, ops.reshape(offsetOf, [outputs, 1, 1])));
}
