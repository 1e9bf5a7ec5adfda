// Convolution whose weights differ from place to place.
import { checkKeys } from '../../base/checks.ts';
import { ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import * as ops from '../../graph/ops/index.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { unfold } from './rearrange.ts';
import { bothSides, perAxis, type Sizes, withBatch } from './windows.ts';

export interface LocalConvolutionOptions {
  readonly stride?: Sizes;
  readonly padding?: Sizes;
  readonly dilation?: Sizes;
}

const OP = 'localConv2d';

/**
 * Convolution of x [n, c, h, w] with weights of their own at each place: weight
 * [groups, oh, ow, c / groups, kh, kw, out / groups], bias [out]. Gives [n, out, oh, ow]. As MegEngine's
 * local_conv2d. Throws ShapeError where the weight is not for these sizes.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2, 3]]]]);
 * localConv2d(x, tensor([1, 10, 100]).reshape(1, 1, 3, 1, 1, 1, 1)); // => [[[[1, 20, 300]]]]
 * ```
 */
export function localConv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor | null,
  options: LocalConvolutionOptions = {},
): Tensor {
  checkKeys(OP, options, ['stride', 'padding', 'dilation']);
  const given = floatNode(OP, x);
  const kernels = castNode(floatNode(OP, weight), given.dtype);
  const { batched, unbatch } = withBatch(OP, given, 2);
  const [n, channels, ...space] = batched.shape as readonly [number, number, ...number[]];
  const [groups = 1, , , , kh = 1, kw = 1, each = 1] = kernels.shape;
  const window = {
    stride: perAxis(OP, 'stride', options.stride ?? 1, 2, 1),
    padding: bothSides(perAxis(OP, 'padding', options.padding ?? 0, 2, 0)),
    dilation: perAxis(OP, 'dilation', options.dilation ?? 1, 2, 1),
  };
  const out = ops.windowOutputSize(space, [kh, kw], window);
  const expected = [groups, ...out, channels / groups, kh, kw, each];
  if (kernels.shape.length !== 7 || !sameShape(kernels.shape, expected)) {
    throw new ShapeError(
      `weight ${formatShape(kernels.shape)} is not for x ${formatShape(given.shape)}, which has ${formatShape(out)} places`,
      { op: OP, hint: 'a weight is [groups, oh, ow, c / groups, kh, kw, out / groups]' },
    );
  }
  const rows = (channels / groups) * kh * kw;
  const places = sizeOf(out);
  // Every place is a product of its own: [groups, places, n, rows] @ [groups, places, rows, each].
  const columns = unfold(wrap(batched), [kh, kw], options).node;
  const left = ops.permute(ops.reshape(columns, [n, groups, rows, places]), [1, 3, 0, 2]);
  const right = ops.reshape(kernels, [groups, places, rows, each]);
  const product = ops.permute(ops.matmul(left, right), [2, 0, 3, 1]);
  const result = ops.reshape(product, [n, groups * each, ...out]);
  if (bias === undefined || bias === null) return wrap(unbatch(result));
  const offset = castNode(floatNode(OP, bias), given.dtype);
  if (!sameShape(offset.shape, [groups * each])) {
    throw new ShapeError(
      `bias ${formatShape(offset.shape)} does not fit ${groups * each} output(s)`,
      { op: OP },
    );
  }
  return wrap(unbatch(ops.add(result, ops.reshape(offset, [groups * each, 1, 1]))));
}
