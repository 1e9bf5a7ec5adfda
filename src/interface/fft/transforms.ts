// Fourier transforms over one axis or several, with PyTorch's names, sizes and norms.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { complexTransform, halfTransform, realTransform, type Sign } from './dft.ts';

/** Where the factor 1/n goes: to the inverse, to the forward transform, or its root to both. */
export type FFTNorm = 'backward' | 'forward' | 'ortho';

export interface FFTOptions {
  /** Default 'backward'. */
  readonly norm?: FFTNorm | undefined;
}

/** One axis or several of the numbers transformed; the axis of pairs does not count. */
type Axes = readonly number[];

// ---- arguments --------------------------------------------------------------------------------

function floats(op: string, x: Tensor): Node {
  const node = nodeOf(op, x);
  if (node.dtype === 'float64' || node.dtype === 'float32') return node;
  if (node.dtype === 'float16' || node.dtype === 'bfloat16') {
    throw new DTypeError(`takes float32 or float64, not ${node.dtype}`, {
      op,
      hint: "cast to 'float32' first",
    });
  }
  return castNode(node, 'float32');
}

/** Complex numbers as pairs in the last axis. Throws ShapeError. */
export function complexNode(op: string, x: Tensor): Node {
  const node = floats(op, x);
  if (node.shape.length >= 1 && node.shape.at(-1) === 2) return node;
  throw new ShapeError(
    `takes complex numbers, whose last axis holds real and imaginary part, got ${formatShape(node.shape)}`,
    { op, hint: 'complex(x) makes them of real numbers; rfft() takes real numbers' },
  );
}

function realNode(op: string, x: Tensor): Node {
  return floats(op, x);
}

/** The factor of a transform over `count` numbers. */
function scaleOf(op: string, norm: FFTNorm | undefined, forward: boolean, count: number): number {
  const mode = norm ?? 'backward';
  switch (mode) {
    case 'backward':
      return forward ? 1 : 1 / count;
    case 'forward':
      return forward ? 1 / count : 1;
    case 'ortho':
      return 1 / Math.sqrt(count);
    default:
      mode satisfies never;
      throw new ArgumentError(`norm must be backward, forward or ortho, got '${String(mode)}'`, {
        op,
      });
  }
}

function scaled(x: Node, factor: number): Node {
  return factor === 1 ? x : ops.mul(x, ops.constant(factor, x.dtype));
}

/** An axis with `size` elements: cut at the end, or with zeros there. */
function resized(op: string, x: Node, axis: number, size: number): Node {
  const present = x.shape[axis] as number;
  if (size < 1) {
    throw new ShapeError(
      `axis ${axis} of ${formatShape(x.shape)} would be transformed over ${size} elements`,
      { op },
    );
  }
  if (size === present) return x;
  if (size < present) return ops.narrowAxis(x, axis, 0, size);
  const none = x.shape.map(() => 0);
  return ops.pad(
    x,
    none,
    none.map((_, i) => (i === axis ? size - present : 0)),
  );
}

function checkSize(op: string, n: number | null | undefined): number | null {
  if (n === undefined || n === null) return null;
  return checkInteger(op, 'n', n, 1);
}

/** `run` with `axis` as the last of `rank` axes; those behind (the pairs) stay behind. */
function onLast(x: Node, axis: number, rank: number, run: (moved: Node) => Node): Node {
  if (axis === rank - 1) return run(x);
  const all = Array.from({ length: rank }, (_, i) => i);
  const order = [...all.filter((i) => i !== axis), axis];
  const behind = (node: Node): number[] => (node.shape.length > rank ? [rank] : []);
  const result = run(ops.permute(x, [...order, ...behind(x)]));
  const back = all.map((i) => order.indexOf(i));
  return ops.permute(result, [...back, ...behind(result)]);
}

// ---- one axis ---------------------------------------------------------------------------------

function complexAxis(op: string, x: Node, n: number | null, axis: number, sign: Sign): Node {
  const rank = x.shape.length - 1;
  const sized = resized(op, x, axis, n ?? (x.shape[axis] as number));
  return onLast(sized, axis, rank, (moved) => complexTransform(moved, sign));
}

function realAxis(op: string, x: Node, n: number | null, axis: number, sign: Sign): Node {
  const sized = resized(op, x, axis, n ?? (x.shape[axis] as number));
  return onLast(sized, axis, x.shape.length, (moved) => realTransform(moved, sign));
}

function halfAxis(op: string, x: Node, n: number, axis: number, sign: Sign): Node {
  if (n < 1) resized(op, x, axis, n);
  const sized = resized(op, x, axis, Math.floor(n / 2) + 1);
  return onLast(sized, axis, x.shape.length - 1, (moved) => halfTransform(moved, n, sign));
}

/**
 * The transform X[k] = Σ x[j] exp(-2πi j k / n) over an axis of complex numbers: x [.., m, 2], where the
 * last axis holds real and imaginary parts and does not count among the axes. `n` cuts the axis or
 * fills it with zeros. Any length.
 *
 * @example
 * ```ts
 * import { complex, fft } from 'tengen/fft';
 * fft(complex(tensor([1, 2, 3, 4]))); // => [[10, 0], [-2, 2], [-2, 0], [-2, -2]]
 * ```
 */
export function fft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  return complexOne('fft', x, n, axis, options, -1);
}

/** The inverse of `fft`: (1/n) Σ X[k] exp(2πi j k / n). */
export function ifft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  return complexOne('ifft', x, n, axis, options, 1);
}

function complexOne(
  op: string,
  x: Tensor,
  n: number | null | undefined,
  axis: number,
  { norm }: FFTOptions,
  sign: Sign,
): Tensor {
  const node = complexNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length - 1);
  const result = complexAxis(op, node, checkSize(op, n), normal, sign);
  return wrap(scaled(result, scaleOf(op, norm, sign === -1, result.shape[normal] as number)));
}

/**
 * The first n/2 + 1 results of the transform of real numbers [.., m]; the others are their
 * conjugates. Gives [.., n/2 + 1, 2].
 *
 * @example
 * ```ts
 * rfft(tensor([1, 2, 3, 4])); // => [[10, 0], [-2, 2], [-2, 0]]
 * ```
 */
export function rfft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  const op = 'rfft';
  const node = realNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const size = checkSize(op, n) ?? (node.shape[normal] as number);
  const result = realAxis(op, node, size, normal, -1);
  return wrap(scaled(result, scaleOf(op, options.norm, true, size)));
}

/**
 * The real numbers [.., n] whose `rfft` is x [.., n/2 + 1, 2]. The length is `n`, by default the even one,
 * 2 (m - 1). Imaginary parts that it cannot have (of the first, and of the middle) are ignored.
 *
 * @example
 * ```ts
 * irfft(rfft(tensor([1, 2, 3, 4]))); // => [1, 2, 3, 4]
 * ```
 */
export function irfft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  const op = 'irfft';
  const node = complexNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length - 1);
  const size = checkSize(op, n) ?? 2 * ((node.shape[normal] as number) - 1);
  const result = halfAxis(op, node, size, normal, 1);
  return wrap(scaled(result, scaleOf(op, options.norm, false, size)));
}

/** The real transform [.., n] of a sequence with conjugate symmetry, of which x holds the first half. */
export function hfft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  const op = 'hfft';
  const node = complexNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length - 1);
  const size = checkSize(op, n) ?? 2 * ((node.shape[normal] as number) - 1);
  const result = halfAxis(op, node, size, normal, -1);
  return wrap(scaled(result, scaleOf(op, options.norm, true, size)));
}

/** The inverse of `hfft`: the first half [.., n/2 + 1, 2] of the sequence. */
export function ihfft(x: Tensor, n?: number | null, axis = -1, options: FFTOptions = {}): Tensor {
  const op = 'ihfft';
  const node = realNode(op, x);
  const normal = normalizeAxis(op, axis, node.shape.length);
  const size = checkSize(op, n) ?? (node.shape[normal] as number);
  const result = realAxis(op, node, size, normal, 1);
  return wrap(scaled(result, scaleOf(op, options.norm, false, size)));
}

// ---- several axes -----------------------------------------------------------------------------

interface Plan {
  readonly axes: Axes;
  /** Sizes along them; null for what is there. */
  readonly sizes: readonly (number | null)[];
}

/** By PyTorch's rules: without axes the last ones that `s` has sizes for, or all. */
function planOf(
  op: string,
  rank: number,
  s: readonly number[] | null | undefined,
  axes: Axes | null | undefined,
): Plan {
  const given = s ?? null;
  const count = axes?.length ?? given?.length ?? rank;
  if (given !== null && given.length !== count) {
    throw new ArgumentError(`${given.length} sizes for ${count} axes`, { op });
  }
  if (count > rank) throw new ShapeError(`${count} axes of a tensor that has ${rank}`, { op });
  const list = axes ?? Array.from({ length: count }, (_, i) => rank - count + i);
  const normal = list.map((axis) => normalizeAxis(op, axis, rank));
  if (new Set(normal).size !== normal.length) {
    throw new ArgumentError(`axes [${list.join(',')}] name one twice`, { op });
  }
  const sizes = normal.map((_, i) => {
    const size = given?.[i] ?? null;
    return size === null || size === -1 ? null : checkInteger(op, 'a size', size, 1);
  });
  return { axes: normal, sizes };
}

function complexMany(
  op: string,
  x: Tensor,
  s: readonly number[] | null | undefined,
  axes: Axes | null | undefined,
  { norm }: FFTOptions,
  sign: Sign,
): Tensor {
  const node = complexNode(op, x);
  const plan = planOf(op, node.shape.length - 1, s, axes);
  const result = plan.axes.reduce(
    (all, axis, i) => complexAxis(op, all, plan.sizes[i] as number | null, axis, sign),
    node,
  );
  const count = plan.axes.reduce((product, axis) => product * (result.shape[axis] as number), 1);
  return wrap(scaled(result, scaleOf(op, norm, sign === -1, count)));
}

/** `fft` over several axes: the last ones that `s` has sizes for, or all. */
export function fftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return complexMany('fftn', x, s, axes, options, -1);
}

/** The inverse of `fftn`. */
export function ifftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return complexMany('ifftn', x, s, axes, options, 1);
}

/** `fft` over two axes, the last two by default. */
export function fft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return complexMany('fft2', x, s, axes, options, -1);
}

/** The inverse of `fft2`. */
export function ifft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return complexMany('ifft2', x, s, axes, options, 1);
}

function realMany(
  op: string,
  x: Tensor,
  s: readonly number[] | null | undefined,
  axes: Axes | null | undefined,
  { norm }: FFTOptions,
  sign: Sign = -1,
): Tensor {
  const node = realNode(op, x);
  const plan = planOf(op, node.shape.length, s, axes);
  if (plan.axes.length === 0) throw new ArgumentError('needs at least one axis', { op });
  const last = plan.axes.length - 1;
  const lastAxis = plan.axes[last] as number;
  const size = plan.sizes[last] ?? (node.shape[lastAxis] as number);
  let result = realAxis(op, node, size, lastAxis, sign);
  let count = size;
  plan.axes.slice(0, -1).forEach((axis, i) => {
    result = complexAxis(op, result, plan.sizes[i] as number | null, axis, sign);
    count *= result.shape[axis] as number;
  });
  return wrap(scaled(result, scaleOf(op, norm, sign === -1, count)));
}

function halfMany(
  op: string,
  x: Tensor,
  s: readonly number[] | null | undefined,
  axes: Axes | null | undefined,
  { norm }: FFTOptions,
  sign: Sign = 1,
): Tensor {
  let result = complexNode(op, x);
  const plan = planOf(op, result.shape.length - 1, s, axes);
  if (plan.axes.length === 0) throw new ArgumentError('needs at least one axis', { op });
  const last = plan.axes.length - 1;
  const lastAxis = plan.axes[last] as number;
  const size = plan.sizes[last] ?? 2 * ((result.shape[lastAxis] as number) - 1);
  let count = size;
  plan.axes.slice(0, -1).forEach((axis, i) => {
    result = complexAxis(op, result, plan.sizes[i] as number | null, axis, sign);
    count *= result.shape[axis] as number;
  });
  result = halfAxis(op, result, size, lastAxis, sign);
  return wrap(scaled(result, scaleOf(op, norm, sign === -1, count)));
}

/** `rfft` over the last of several axes, and `fft` over the others. */
export function rfftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return realMany('rfftn', x, s, axes, options);
}

/** The inverse of `rfftn`; of `s` the last says how many real numbers there are. */
export function irfftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return halfMany('irfftn', x, s, axes, options);
}

/**
 * `rfft` over two axes, the last two by default.
 *
 * @example
 * ```ts
 * rfft2(tensor([[1, 2], [3, 4]])); // => [[[10, 0], [-2, 0]], [[-4, 0], [0, 0]]]
 * ```
 */
export function rfft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return realMany('rfft2', x, s, axes, options);
}

/** The inverse of `rfft2`. */
export function irfft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return halfMany('irfft2', x, s, axes, options);
}

/** `hfft` over the last of several axes, and `fft` over the others. */
export function hfftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return halfMany('hfftn', x, s, axes, options, -1);
}

/** The inverse of `hfftn`: `ihfft` over the last axis, and `ifft` over the others. */
export function ihfftn(
  x: Tensor,
  s?: readonly number[] | null,
  axes?: Axes | null,
  options: FFTOptions = {},
): Tensor {
  return realMany('ihfftn', x, s, axes, options, 1);
}

/** `hfftn` over two axes, the last two by default. */
export function hfft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return halfMany('hfft2', x, s, axes, options, -1);
}

/** The inverse of `hfft2`. */
export function ihfft2(
  x: Tensor,
  s?: readonly number[] | null,
  axes: Axes = [-2, -1],
  options: FFTOptions = {},
): Tensor {
  return realMany('ihfft2', x, s, axes, options, 1);
}
