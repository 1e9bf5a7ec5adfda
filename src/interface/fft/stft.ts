// The spectrum of a signal as it changes: transforms of short, overlapping pieces, and back.
import { checkInteger } from '../../base/checks.ts';
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import * as ops from '../../graph/ops/index.ts';
import { pad } from '../functional/padding.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { castNode, tensorOn, wrap } from '../tensor/handle.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { floatNode } from '../tensor/unary.ts';
import { complexTransform, halfTransform, realTransform } from './dft.ts';
import { complexNode } from './transforms.ts';

export interface STFTOptions {
  /** Samples from one piece to the next; default a quarter of nFft. */
  readonly hopLength?: number;
  /** Samples under the window, in the middle of a piece; default nFft. */
  readonly winLength?: number;
  /** [winLength]; default ones. */
  readonly window?: Tensor | null;
  /** The middle of piece t is sample t * hopLength: the signal is padded at both ends. Default true. */
  readonly center?: boolean;
  /** How it is padded. Default 'reflect'. */
  readonly padMode?: 'reflect' | 'constant' | 'replicate' | 'circular';
  /** Divided by the root of nFft. Default false. */
  readonly normalized?: boolean;
  /** Only the nFft/2 + 1 frequencies that a real signal needs. Default true. */
  readonly onesided?: boolean;
}

interface Pieces {
  readonly size: number;
  readonly hop: number;
  /** Weights of one piece. */
  readonly window: Node;
}

/** The window of a whole piece: the given one in the middle, zeros around it. */
function readPieces(
  op: string,
  nFft: number,
  options: STFTOptions,
  dtype: 'float32' | 'float64',
): Pieces {
  const size = checkInteger(op, 'nFft', nFft, 1);
  const hop = checkInteger(
    op,
    'hopLength',
    options.hopLength ?? Math.max(1, Math.floor(size / 4)),
    1,
  );
  const length = checkInteger(op, 'winLength', options.winLength ?? size, 1);
  if (length > size) {
    throw new ArgumentError(`winLength ${length} is more than nFft ${size}`, { op });
  }
  const given = options.window ?? null;
  const own = given === null ? ops.full([length], 1, dtype) : castNode(nodeOf(op, given), dtype);
  if (own.shape.length !== 1 || own.shape[0] !== length) {
    throw new ShapeError(
      `the window is ${formatShape(own.shape)}, expected [${length}], as long as winLength`,
      { op },
    );
  }
  const before = Math.floor((size - length) / 2);
  const window = length === size ? own : ops.pad(own, [before], [size - length - before]);
  return { size, hop, window };
}

/** Where sample j of piece t stands in the signal: int32 [count, size]. */
function places(count: number, { size, hop }: Pieces): Node {
  const piece = ops.iota([count, size], 0, 'int32');
  const sample = ops.iota([count, size], 1, 'int32');
  return ops.add(ops.mul(piece, ops.constant(hop, 'int32')), sample);
}

function signal(op: string, x: Tensor): Node {
  const node = floatNode(op, x);
  return node.dtype === 'float64' ? node : castNode(node, 'float32');
}

/**
 * Transforms of pieces of real signals [n] or [batch, n]: complex numbers [.., frequencies, pieces, 2].
 *
 * @example
 * ```ts
 * import { hannWindow, stft } from 'tengen/fft';
 * const x = arange(16).mul(Math.PI / 2).sin();
 * stft(x, 8, { hopLength: 4, window: hannWindow(8) }).shape; // => [5, 5, 2]
 * ```
 */
export function stft(x: Tensor, nFft: number, options: STFTOptions = {}): Tensor {
  const op = 'stft';
  const { center = true, padMode = 'reflect', normalized = false, onesided = true } = options;
  let node = signal(op, x);
  const rank = node.shape.length;
  if (rank !== 1 && rank !== 2) {
    throw new ShapeError(`takes [n] or [batch, n], got ${formatShape(node.shape)}`, { op });
  }
  const pieces = readPieces(op, nFft, options, node.dtype as 'float32' | 'float64');
  if (center) {
    const half = Math.floor(pieces.size / 2);
    node = pad(tensorOn(node), [half, half], { mode: padMode }).node;
  }
  const length = node.shape[rank - 1] as number;
  if (length < pieces.size) {
    throw new ShapeError(`${length} samples are fewer than nFft, ${pieces.size}`, { op });
  }
  const count = Math.floor((length - pieces.size) / pieces.hop) + 1;
  const taken = ops.mul(ops.take(node, places(count, pieces), rank - 1), pieces.window);
  const zeros = [...taken.shape.map(() => 0), 0];
  const spectrum = onesided
    ? realTransform(taken, -1)
    : complexTransform(
        ops.pad(ops.reshape(taken, [...taken.shape, 1]), zeros, [...taken.shape.map(() => 0), 1]),
        -1,
      );
  const scaled = normalized
    ? ops.mul(spectrum, ops.constant(1 / Math.sqrt(pieces.size), node.dtype))
    : spectrum;
  return wrap(ops.transpose(scaled, -3, -2));
}

export interface ISTFTOptions extends Omit<STFTOptions, 'padMode'> {
  /** Samples of the signal; default as many as the pieces cover. */
  readonly length?: number | null;
}

/**
 * The signal [n] or [batch, n] from complex numbers [.., frequencies, pieces, 2]: transformed back,
 * weighted, added up, and divided by the sum of the squared weights (Griffin and Lim, 1984). Exact
 * where windows of `stft` with the same options cover all samples; 0 where none reaches.
 */
export function istft(x: Tensor, nFft: number, options: ISTFTOptions = {}): Tensor {
  const op = 'istft';
  const { center = true, normalized = false, onesided = true, length = null } = options;
  const node = complexNode(op, x);
  const rank = node.shape.length;
  if (rank !== 3 && rank !== 4) {
    throw new ShapeError(
      `takes [frequencies, pieces, 2] or [batch, frequencies, pieces, 2], got ${formatShape(node.shape)}`,
      { op },
    );
  }
  const { dtype } = node;
  const pieces = readPieces(op, nFft, options, dtype as 'float32' | 'float64');
  const { size, hop, window } = pieces;
  const expected = onesided ? Math.floor(size / 2) + 1 : size;
  const [frequencies, count] = node.shape.slice(-3, -1) as [number, number];
  if (frequencies !== expected || count < 1) {
    throw new ShapeError(
      `${frequencies} frequencies of ${count} pieces, expected ${expected} of at least one`,
      { op },
    );
  }
  const inTime = ops.transpose(node, -3, -2);
  const back = onesided ? halfTransform(inTime, size, 1) : realParts(complexTransform(inTime, 1));
  const factor = normalized ? 1 / Math.sqrt(size) : 1 / size;
  const weighted = ops.mul(ops.mul(back, ops.constant(factor, dtype)), window);
  const total = size + hop * (count - 1);
  const index = ops.reshape(places(count, pieces), [count * size]);
  const lead = node.shape.slice(0, -3);
  const flat = ops.reshape(weighted, [...lead, count * size]);
  const added = ops.addRows(flat, index, lead.length, total);
  const squares = ops.expand(ops.mul(window, window), [count, size]);
  const weights = ops.addRows(ops.reshape(squares, [count * size]), index, 0, total);
  const start = center ? Math.floor(size / 2) : 0;
  const end = length === null ? total - start : start + checkInteger(op, 'length', length, 1);
  const cut = (value: Node): Node => {
    const axis = value.shape.length - 1;
    const kept = ops.narrowAxis(value, axis, start, Math.max(0, Math.min(end, total) - start));
    const none = value.shape.map(() => 0);
    const missing = Math.max(0, end - total);
    return missing === 0 ? kept : ops.pad(kept, none, [...none.slice(0, -1), missing]);
  };
  const [sum, weight] = [cut(added), cut(weights)];
  const reached = ops.greater(weight, ops.constant(1e-11, dtype));
  const one = ops.constant(1, dtype);
  const divided = ops.div(sum, ops.select(reached, weight, one));
  return wrap(ops.select(reached, divided, ops.constant(0, dtype)));
}

function realParts(x: Node): Node {
  return ops.reshape(ops.narrowAxis(x, x.shape.length - 1, 0, 1), x.shape.slice(0, -1));
}
