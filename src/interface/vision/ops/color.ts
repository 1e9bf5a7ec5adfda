// Conversions between colour spaces, by the weights of ITU-R BT.601.
import { isFloat } from '../../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../../base/errors.ts';
import { describeValue } from '../../../base/checks.ts';
import { formatShape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import * as ops from '../../../graph/ops/index.ts';
import { nodeOf } from '../../tensor/arguments.ts';
import { castNode, wrap } from '../../tensor/handle.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** Order of the channels of each space of whole images. */
const CHANNELS = {
  RGB: ['r', 'g', 'b'],
  BGR: ['b', 'g', 'r'],
  RGBA: ['r', 'g', 'b', 'a'],
  BGRA: ['b', 'g', 'r', 'a'],
  GRAY: ['y'],
  YUV: ['y', 'u', 'v'],
  YCrCb: ['y', 'cr', 'cb'],
} as const;

type Space = keyof typeof CHANNELS;

/** Video frames: brightness over colours of half the size, together or one after the other. */
const FRAMES = ['NV12', 'NV21', 'YU12', 'YV12'] as const;
type Frame = (typeof FRAMES)[number];
type FrameTarget = 'RGB' | 'BGR' | 'GRAY';

/** `RGB2GRAY`, `YUV2RGB_NV12`; `BT601_YUV2RGB_NV12` where brightness is in [16, 235]. */
export type ColorMode =
  | `${Space}2${Space}`
  | `YUV2${FrameTarget}_${Frame}`
  | `BT601_YUV2${FrameTarget}_${Frame}`;

type Planes = Record<string, Node>;

interface Context {
  number(value: number): Node;
  /** The middle of colour differences: 128 of 255, or 0.5 of 1. */
  readonly middle: Node;
}

function scaled(context: Context, ...terms: readonly (readonly [number, Node])[]): Node {
  const parts = terms.map(([factor, plane]) => ops.mul(plane, context.number(factor)));
  return parts.reduce((a, b) => ops.add(a, b));
}

/** All planes that a space's own give. */
function toRgb(context: Context, space: Space, planes: Planes): Planes {
  const { middle } = context;
  switch (space) {
    case 'RGB':
    case 'BGR':
    case 'RGBA':
    case 'BGRA':
      return planes;
    case 'GRAY':
      return { r: planes['y']!, g: planes['y']!, b: planes['y']! };
    case 'YUV': {
      const y = planes['y']!;
      const [u, v] = [ops.sub(planes['u']!, middle), ops.sub(planes['v']!, middle)];
      return {
        r: scaled(context, [1, y], [1.14, v]),
        g: scaled(context, [1, y], [-0.395, u], [-0.581, v]),
        b: scaled(context, [1, y], [2.032, u]),
      };
    }
    case 'YCrCb': {
      const y = planes['y']!;
      const [cr, cb] = [ops.sub(planes['cr']!, middle), ops.sub(planes['cb']!, middle)];
      return {
        r: scaled(context, [1, y], [1.403, cr]),
        g: scaled(context, [1, y], [-0.714, cr], [-0.344, cb]),
        b: scaled(context, [1, y], [1.773, cb]),
      };
    }
    default:
      space satisfies never;
      return planes;
  }
}

/** The planes of `space` from red, green and blue. */
function fromRgb(context: Context, space: Space, rgb: Planes): Planes {
  const [r, g, b] = [rgb['r']!, rgb['g']!, rgb['b']!];
  if (space === 'RGB' || space === 'BGR' || space === 'RGBA' || space === 'BGRA') return rgb;
  const y = scaled(context, [0.299, r], [0.587, g], [0.114, b]);
  if (space === 'GRAY') return { y };
  const difference = (from: Node, factor: number): Node =>
    ops.add(scaled(context, [factor, ops.sub(from, y)]), context.middle);
  if (space === 'YUV') return { y, u: difference(b, 0.492), v: difference(r, 0.877) };
  return { y, cr: difference(r, 0.713), cb: difference(b, 0.564) };
}

function split(op: string, node: Node, names: readonly string[]): Planes {
  const axis = node.shape.length - 3;
  if (axis < 0 || node.shape[axis] !== names.length) {
    throw new ShapeError(
      `takes images [.., ${names.length} channels, height, width], got ${formatShape(node.shape)}`,
      { op },
    );
  }
  return Object.fromEntries(
    names.map((name, channel) => [name, ops.narrowAxis(node, axis, channel, 1)]),
  );
}

function join(planes: Planes, names: readonly string[], opaque: Node): Node {
  const parts = names.map((name) => planes[name] ?? ops.expand(opaque, planes['r']!.shape));
  return ops.concat(parts, parts[0]!.shape.length - 3);
}

/** Colours of half the size, spread over pixels: [.., 1, h/2, w/2] to [.., 1, h, w]. */
function doubled(x: Node): Node {
  const lead = x.shape.slice(0, -2);
  const [h, w] = x.shape.slice(-2) as [number, number];
  const wide = ops.expand(ops.reshape(x, [...lead, h, 1, w, 1]), [...lead, h, 2, w, 2]);
  return ops.reshape(wide, [...lead, 2 * h, 2 * w]);
}

/** Brightness and colours of a video frame [.., 1, 3h/2, w], each [.., 1, h, w]. */
function framePlanes(op: string, node: Node, frame: Frame): Planes {
  const { shape } = node;
  const axis = shape.length - 2;
  const [rows = 0, width = 0] = shape.slice(-2);
  if (axis < 1 || shape[axis - 1] !== 1 || rows % 3 !== 0 || width % 2 !== 0) {
    throw new ShapeError(
      `a frame is [.., 1, 3/2 height, width] with even sizes, got ${formatShape(shape)}`,
      { op },
    );
  }
  const height = (rows / 3) * 2;
  const lead = shape.slice(0, -2);
  const y = ops.narrowAxis(node, axis, 0, height);
  const colours = ops.narrowAxis(node, axis, height, height / 2);
  const half = [...lead, height / 2, width / 2];
  const together = frame === 'NV12' || frame === 'NV21';
  const shapeOfBoth = together ? [...half, 2] : [...lead, 2, height / 2, width / 2];
  const both = ops.reshape(colours, shapeOfBoth);
  const [first, second] = [0, 1].map((k) => {
    const one = ops.narrowAxis(both, together ? half.length : lead.length, k, 1);
    return doubled(ops.reshape(one, half));
  }) as [Node, Node];
  const uFirst = frame === 'NV12' || frame === 'YU12';
  return { y, u: uFirst ? first : second, v: uFirst ? second : first };
}

/** Red, green and blue of limited brightness (BT.601): 16 to 235 of 255. */
function limitedToRgb(context: Context, planes: Planes): Planes {
  const { middle } = context;
  const unit = ops.add(middle, middle);
  const black = ops.mul(unit, context.number(16 / 256));
  const y = ops.sub(planes['y']!, black);
  const [u, v] = [ops.sub(planes['u']!, middle), ops.sub(planes['v']!, middle)];
  return {
    r: scaled(context, [1.164, y], [1.596, v]),
    g: scaled(context, [1.164, y], [-0.813, v], [-0.391, u]),
    b: scaled(context, [1.164, y], [2.018, u]),
  };
}

interface Plan {
  readonly from: Space;
  readonly to: Space;
  readonly frame: Frame | null;
  readonly limited: boolean;
}

function readMode(op: string, mode: string): Plan {
  const match = /^(BT601_)?([A-Za-z]+)2([A-Za-z]+)(?:_(NV12|NV21|YU12|YV12))?$/.exec(String(mode));
  const [, limited, from = '', to = '', frame] = match ?? [];
  const isSpace = (name: string): name is Space => Object.hasOwn(CHANNELS, name);
  const framed = frame !== undefined;
  const fits = isSpace(from) && isSpace(to) && (limited === undefined || framed);
  if (!fits || (framed && (from !== 'YUV' || !['RGB', 'BGR', 'GRAY'].includes(to)))) {
    throw new ArgumentError(`there is no mode ${describeValue(mode)}`, {
      op,
      hint: `A2B of ${Object.keys(CHANNELS).join(', ')}; or YUV2RGB_NV12 and the like`,
    });
  }
  return { from, to, frame: (frame as Frame | undefined) ?? null, limited: limited !== undefined };
}

/**
 * Images [.., c, h, w] in another colour space, `RGB2GRAY` and the like, or video frames
 * [.., 1, 3/2 h, w] (`YUV2RGB_NV12`), whose colours have half the size. Floats are in [0, 1], uint8 in
 * [0, 255] and rounded. The weights are those of BT.601, as in OpenCV: gray is 0.299 r + 0.587 g +
 * 0.114 b; colour differences are around 0.5 or 128. A new alpha channel is opaque.
 *
 * Throws ArgumentError for an unknown mode, ShapeError for another number of channels.
 *
 * @example
 * ```ts
 * const red = tensor([[[1]], [[0]], [[0]]]);
 * cvtColor(red, 'RGB2GRAY'); // => [[[0.299]]]
 * cvtColor(red, 'RGB2BGR'); // => [[[0]], [[0]], [[1]]]
 * ```
 */
export function cvtColor(x: Tensor, mode: ColorMode): Tensor {
  const op = 'cvtColor';
  const given = nodeOf(op, x);
  const bytes = given.dtype === 'uint8';
  if (!bytes && !isFloat(given.dtype)) {
    throw new DTypeError(`takes floats or uint8, not ${given.dtype}`, { op });
  }
  const { from, to, frame, limited } = readMode(op, mode);
  const node = bytes ? castNode(given, 'float32') : given;
  const number = (value: number): Node => ops.constant(value, node.dtype);
  const context: Context = { number, middle: number(bytes ? 128 : 0.5) };
  const planes = frame === null ? split(op, node, CHANNELS[from]) : framePlanes(op, node, frame);
  let result: Node;
  if (frame !== null && to === 'GRAY') result = planes['y']!;
  else if (from === to) result = node;
  else if (to === 'GRAY' && planes['y'] !== undefined) result = planes['y'];
  else {
    const rgb = limited ? limitedToRgb(context, planes) : toRgb(context, from, planes);
    result = join(fromRgb(context, to, rgb), CHANNELS[to], number(bytes ? 255 : 1));
  }
  if (!bytes) return wrap(result);
  const rounded = ops.clamp(ops.round(result), number(0), number(255));
  return wrap(castNode(rounded, 'uint8'));
}
