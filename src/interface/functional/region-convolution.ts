// Convolution in which pixels meet only within their regions.
import { checkInteger, checkKeys } from '../../base/checks.ts';
import { isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { type Blocks, blocksOf, readPosition, type UnfoldOptions } from './rearrange.ts';
import { withBatch } from './windows.ts';

export interface RegionConvolutionOptions extends UnfoldOptions {
  /** Groups of channels that do not see each other; default 1. */
  readonly groups?: number;
}

const OP = 'regionRestrictedConv';

/** Window rows are taken together up to this many taps: what is stored stays small for large windows. */
const TAPS_AT_ONCE = 64;

/** Region numbers [n, ...size]: integers. */
function regionNode(name: string, given: Tensor, batch: number, size: readonly number[]): Node {
  const node = nodeOf(OP, given);
  if (isFloat(node.dtype)) {
    throw new DTypeError(`${name} holds ${node.dtype}, regions are integers`, { op: OP });
  }
  const expected = [batch, ...size];
  const shape = node.shape.length === 2 ? [1, ...node.shape] : node.shape;
  if (!sameShape(shape, expected)) {
    throw new ShapeError(
      `${name} is ${formatShape(node.shape)}, expected ${formatShape(expected)}`,
      {
        op: OP,
      },
    );
  }
  return ops.reshape(castNode(node, 'int32'), [batch, 1, ...size]);
}

function padded(node: Node, { sides }: Blocks): Node {
  return ops.pad(node, [0, 0, ...sides], [0, 0, ...sides]);
}

/** What `count` window rows read, by the taps of a window: [n, c, taps, places]. */
function readRows(node: Node, blocks: Blocks, first: number, count: number): Node {
  const width = blocks.kernel[1]!;
  const taps = Array.from({ length: count * width }, (_, at) =>
    readPosition(node, blocks, first + Math.floor(at / width), at % width),
  );
  return ops.concat(taps, 2);
}

/**
 * Convolution of x [n, c, h, w] with weight [out, c / groups, kh, kw] in which an output pixel sees
 * only input pixels of its own region: those where the number in `rin` [n, h, w] is the one in `rout`
 * [n, oh, ow]. Gives [n, out, oh, ow]. With groups = c it is MegEngine's region_restricted_conv, which
 * knows no others. Gradients to x, weight and bias.
 *
 * Throws DTypeError for regions that are no integers, ShapeError for sizes that do not fit.
 *
 * @example
 * ```ts
 * const x = tensor([[[[1, 2, 3, 4]]]]);
 * const regions = tensor([[[0, 0, 1, 1]]], { dtype: 'int32' });
 * const weight = ones(1, 1, 1, 3);
 * regionRestrictedConv(x, weight, regions, regions, null, { padding: [0, 1] }); // => [[[[3, 3, 7, 7]]]]
 * ```
 */
export function regionRestrictedConv(
  x: Tensor,
  weight: Tensor,
  rin: Tensor,
  rout: Tensor,
  bias?: Tensor | null,
  options: RegionConvolutionOptions = {},
): Tensor {
  checkKeys(OP, options, ['stride', 'padding', 'dilation', 'groups']);
  const groups = checkInteger(OP, 'groups', options.groups ?? 1, 1);
  const given = floatNode(OP, x);
  const filter = castNode(floatNode(OP, weight), given.dtype);
  const { batched, unbatch } = withBatch(OP, given, 2);
  const [n, channels, ...size] = batched.shape as readonly [number, number, ...number[]];
  const [out = 0, perGroup = 0, kh = 0, kw = 0] = filter.shape;
  if (filter.shape.length !== 4 || perGroup * groups !== channels || out % groups !== 0) {
    throw new ShapeError(
      `weight ${formatShape(filter.shape)} in ${groups} group(s) is not for x ${formatShape(given.shape)}`,
      { op: OP, hint: 'a weight is [out, c / groups, kh, kw]' },
    );
  }
  const blocks = blocksOf(OP, size, [kh, kw], options);
  const inside = padded(regionNode('rin', rin, n, size), blocks);
  const wanted = regionNode('rout', rout, n, blocks.count);
  const places = sizeOf(blocks.count);
  const regions = ops.reshape(wanted, [n, 1, 1, places]);
  const images = padded(batched, blocks);
  const rows = Math.max(1, Math.floor(TAPS_AT_ONCE / kw));
  let total: Node | null = null;
  for (let first = 0; first < kh; first += rows) {
    const count = Math.min(rows, kh - first);
    const seen = ops.equal(readRows(inside, blocks, first, count), regions);
    const zero = ops.constant(0, given.dtype);
    const columns = ops.select(seen, readRows(images, blocks, first, count), zero);
    const taps = perGroup * count * kw;
    const part = ops.narrowAxis(filter, 2, first, count);
    const left = ops.reshape(part, [1, groups, out / groups, taps]);
    const right = ops.reshape(columns, [n, groups, taps, places]);
    const product = ops.matmul(ops.expand(left, [n, ...left.shape.slice(1)]), right);
    total = total === null ? product : ops.add(total, product);
  }
  const result = ops.reshape(total as Node, [n, out, ...blocks.count]);
  if (bias === undefined || bias === null) return wrap(unbatch(result));
  const offset = castNode(floatNode(OP, bias), given.dtype);
  if (!sameShape(offset.shape, [out])) {
    throw new ShapeError(`bias ${formatShape(offset.shape)} does not fit ${out} output(s)`, {
      op: OP,
    });
  }
  return wrap(unbatch(ops.add(result, ops.reshape(offset, [out, 1, 1]))));
}
