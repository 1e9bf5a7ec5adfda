// Initialization of parameters, PyTorch's rules; drawn on the host from the default generator.
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { defaultGenerator, type Generator } from '../tensor/generator.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** Number of inputs and outputs that one element of a weight [out, in, ...space] connects. */
export function calculateFan(weight: Tensor): { fanIn: number; fanOut: number } {
  const [out, into, ...space] = weight.shape;
  if (out === undefined || into === undefined) {
    throw new ShapeError(`a weight needs two axes or more, got ${formatShape(weight.shape)}`, {
      op: 'init',
    });
  }
  const field = space.reduce((product, size) => product * size, 1);
  return { fanIn: into * field, fanOut: out * field };
}

export type Nonlinearity = 'linear' | 'sigmoid' | 'tanh' | 'relu' | 'leakyRelu' | 'selu';

/** How much a nonlinearity shrinks the deviation (He et al. 2015). */
export function calculateGain(nonlinearity: Nonlinearity, slope = 0.01): number {
  switch (nonlinearity) {
    case 'linear':
    case 'sigmoid':
      return 1;
    case 'tanh':
      return 5 / 3;
    case 'relu':
      return Math.SQRT2;
    case 'leakyRelu':
      return Math.sqrt(2 / (1 + slope * slope));
    case 'selu':
      return 3 / 4;
    default:
      nonlinearity satisfies never;
      return 1;
  }
}

interface From {
  readonly generator?: Generator;
}

let skips = 0;

/**
 * Runs `build` without drawing random numbers: layers made in it start from zeros. For models whose
 * weights are loaded or drawn anew right after, where drawing is most of the time of construction.
 * `build` is synchronous.
 *
 * @example
 * const layer = skip(() => new nn.Linear(2, 1));
 * layer.weight; // => [[0, 0]]
 */
export function skip<T>(build: () => T): T {
  skips += 1;
  try {
    return build();
  } finally {
    skips -= 1;
  }
}

/** Whether draws are left out now: inside of `skip`. */
export function isSkipped(): boolean {
  return skips > 0;
}

export function uniform(tensor: Tensor, low = 0, high = 1, from: From = {}): Tensor {
  if (isSkipped()) return tensor;
  const generator = from.generator ?? defaultGenerator;
  return tensor.setData(generator.hostUniform(tensor.size, low, high));
}

export function normal(tensor: Tensor, mean = 0, deviation = 1, from: From = {}): Tensor {
  if (isSkipped()) return tensor;
  const generator = from.generator ?? defaultGenerator;
  return tensor.setData(generator.hostNormal(tensor.size, mean, deviation));
}

export function constant(tensor: Tensor, value: number): Tensor {
  return tensor.setData(new Float64Array(tensor.size).fill(value));
}

export function zeros(tensor: Tensor): Tensor {
  return constant(tensor, 0);
}

export function ones(tensor: Tensor): Tensor {
  return constant(tensor, 1);
}

/** Glorot and Bengio 2010. */
export function xavierUniform(tensor: Tensor, gain = 1, from: From = {}): Tensor {
  const { fanIn, fanOut } = calculateFan(tensor);
  const bound = gain * Math.sqrt(6 / (fanIn + fanOut));
  return uniform(tensor, -bound, bound, from);
}

/** Glorot and Bengio 2010. */
export function xavierNormal(tensor: Tensor, gain = 1, from: From = {}): Tensor {
  const { fanIn, fanOut } = calculateFan(tensor);
  return normal(tensor, 0, gain * Math.sqrt(2 / (fanIn + fanOut)), from);
}

export interface KaimingOptions extends From {
  readonly mode?: 'fanIn' | 'fanOut';
  readonly nonlinearity?: Nonlinearity;
  /** Negative slope of a leaky relu. */
  readonly slope?: number;
}

function kaimingDeviation(tensor: Tensor, options: KaimingOptions): number {
  const { mode = 'fanIn', nonlinearity = 'leakyRelu', slope = 0 } = options;
  return calculateGain(nonlinearity, slope) / Math.sqrt(calculateFan(tensor)[mode]);
}

/** He et al. 2015. */
export function kaimingUniform(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  const bound = Math.sqrt(3) * kaimingDeviation(tensor, options);
  return uniform(tensor, -bound, bound, options);
}

/** He et al. 2015. */
export function kaimingNormal(tensor: Tensor, options: KaimingOptions = {}): Tensor {
  return normal(tensor, 0, kaimingDeviation(tensor, options), options);
}

/**
 * What PyTorch's Linear and Conv layers start from: weight and bias uniform within 1 / sqrt(fanIn),
 * where fanIn counts the inputs of one output. (Written there as kaimingUniform with slope sqrt(5).)
 */
export function resetWeightAndBias(weight: Tensor, bias: Tensor | null, from: From = {}): void {
  // A layer without inputs or outputs has nothing to draw.
  if (weight.size > 0) kaimingUniform(weight, { ...from, slope: Math.sqrt(5) });
  if (bias === null || bias.size === 0) return;
  const { fanIn } = calculateFan(weight);
  const bound = fanIn > 0 ? 1 / Math.sqrt(fanIn) : 0;
  uniform(bias, -bound, bound, from);
}
