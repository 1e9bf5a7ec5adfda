// Windows, Fourier transforms and mel filters.
import { ArgumentError, ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import { type Tensor, cat, stack } from '../../tensor/index.ts';
import { elementType, flag, int } from '../attributes.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import type { ElementType } from '../tensor-data.ts';
import { TensorValue } from '../values.ts';
import { as } from './results.ts';

/** A window that is a sum of cosines with these factors. */
function cosineWindow(name: string, factors: readonly number[]): Operator {
  return defineOperator({
    name,
    since: 17,
    inputs: 1,
    attributes: { output_datatype: elementType('float32'), periodic: flag(true) },
    run: (call) => {
      const size = call.number(0);
      if (!(size >= 0 && size <= 2 ** 24)) throw new ArgumentError(`a window of ${size} elements`);
      const { output_datatype: type, periodic } = call.attributes;
      const steps = periodic ? size : size - 1;
      const values = Float64Array.from({ length: size }, (_, n) =>
        factors.reduce(
          (sum, factor, k) => sum + factor * Math.cos((2 * Math.PI * k * n) / steps),
          0,
        ),
      );
      return TensorValue.ofNumbers(values, [size], type);
    },
  });
}

/** Cosines and sines of a transform of `length` points to `bins`, [points, bins] each. */
function fourierMatrices(
  points: number,
  bins: number,
  length: number,
  type: 'float32' | 'float64',
): readonly [Tensor, Tensor] {
  const key = `${points}:${bins}:${length}:${type}`;
  const known = matrices.get(key);
  if (known !== undefined) return known;
  const [cosines, sines] = [new Float64Array(points * bins), new Float64Array(points * bins)];
  for (let n = 0; n < points; n++) {
    for (let k = 0; k < bins; k++) {
      // The product modulo the length keeps the angle exact.
      const angle = (2 * Math.PI * ((n * k) % length)) / length;
      cosines[n * bins + k] = Math.cos(angle);
      sines[n * bins + k] = Math.sin(angle);
    }
  }
  const made = [
    TensorValue.ofNumbers(cosines, [points, bins], type).tensor,
    TensorValue.ofNumbers(sines, [points, bins], type).tensor,
  ] as const;
  if (matrices.size >= 16) matrices.clear();
  matrices.set(key, made);
  return made;
}

const matrices = new Map<string, readonly [Tensor, Tensor]>();

/** The transform is a product with a matrix: so long ones would be slow and large. */
const MAX_POINTS = 8192;

interface Fourier {
  readonly length: number;
  readonly bins: number;
  readonly inverse: boolean;
}

/** The transform along the last axis, real and imaginary parts apart. */
function transform(
  real: Tensor,
  imaginary: Tensor | null,
  { length, bins, inverse }: Fourier,
): readonly [Tensor, Tensor] {
  if (length > MAX_POINTS) {
    throw new ArgumentError(`a transform of ${length} points, at most ${MAX_POINTS}`);
  }
  const type = real.dtype === 'float64' ? 'float64' : 'float32';
  const given = real.shape.at(-1) ?? 0;
  const points = Math.min(given, length);
  const cut = (x: Tensor): Tensor => (given > points ? x.narrow(-1, 0, points) : x).to(type);
  const [cosines, sines] = fourierMatrices(points, bins, length, type);
  const sign = inverse ? 1 : -1;
  const re = cut(real);
  let outRe = re.matmul(cosines);
  let outIm = re.matmul(sines).mul(sign);
  if (imaginary !== null) {
    const im = cut(imaginary);
    outRe = outRe.sub(im.matmul(sines).mul(sign));
    outIm = outIm.add(im.matmul(cosines));
  }
  if (!inverse) return [outRe, outIm];
  return [outRe.div(length), outIm.div(length)];
}

function dft(call: Call<{ inverse: boolean; onesided: boolean }>, given: number): TensorValue {
  const { inverse, onesided } = call.attributes;
  const value = call.value(0);
  const parts = value.shape.at(-1) ?? 0;
  if (value.rank < 2 || parts < 1 || parts > 2) {
    throw new ShapeError(`expected [.., 1 or 2], got ${formatShape(value.shape)}`);
  }
  const axis = given < 0 ? given + value.rank : given;
  if (axis < 0 || axis >= value.rank - 1) {
    throw new ShapeError(`axis ${given} of ${formatShape(value.shape)}`);
  }
  const x = value.tensor;
  const length = call.has(1) ? call.number(1) : (value.shape[axis] ?? 0);
  if (!(length >= 1)) throw new ArgumentError(`a transform of ${length} points`);
  const part = (index: number): Tensor => x.select(-1, index).movedim(axis, -1);
  if (onesided && inverse) return halfInverse(call, part, length, axis);
  const bins = onesided ? (length >> 1) + 1 : length;
  const imaginary = parts === 2 ? part(1) : null;
  const [re, im] = transform(part(0), imaginary, { length, bins, inverse });
  return as(value.type, stack([re.movedim(-1, axis), im.movedim(-1, axis)], -1));
}

/** From half a spectrum, whose other half mirrors it, to real values. */
function halfInverse(
  call: Call,
  part: (index: number) => Tensor,
  length: number,
  axis: number,
): TensorValue {
  const size = call.has(1) ? length : 2 * (length - 1);
  const [re, im] = [part(0), part(1)];
  const half = (size >> 1) + 1;
  const rest = size - half;
  const mirrored = (x: Tensor): Tensor => x.narrow(-1, 1, rest).flip(-1);
  const whole = (x: Tensor, sign: number): Tensor => {
    const kept = x.narrow(-1, 0, half);
    return rest === 0 ? kept : cat([kept, mirrored(x).mul(sign)], -1);
  };
  const spectrum = { length: size, bins: size, inverse: true };
  const [out] = transform(whole(re, 1), whole(im, -1), spectrum);
  return as(call.type(0), out.movedim(-1, axis).unsqueeze(-1));
}

/** Transforms of windowed frames, [batch, frames, bins, 2]. */
function stft(call: Call<{ onesided: boolean }>): TensorValue {
  const signal = call.value(0);
  const step = call.number(1);
  const length = call.has(3) ? call.number(3) : call.has(2) ? (call.shape(2)[0] ?? 0) : 0;
  const samples = signal.shape[1] ?? 0;
  const parts = signal.rank === 3 ? (signal.shape[2] ?? 1) : 1;
  if (!(step >= 1 && length >= 1 && length <= samples)) {
    throw new ShapeError(`frames of ${length} every ${step} in ${formatShape(signal.shape)}`);
  }
  const window = call.optional(2);
  const x = signal.rank === 3 ? signal.tensor : signal.tensor.unsqueeze(-1);
  const frames = (index: number): Tensor => {
    const each = x.select(-1, index).unfold(1, length, step);
    return window === null ? each : each.mul(window);
  };
  const bins = call.attributes.onesided ? (length >> 1) + 1 : length;
  const imaginary = parts === 2 ? frames(1) : null;
  const [re, im] = transform(frames(0), imaginary, { length, bins, inverse: false });
  return as(signal.type, stack([re, im], -1));
}

/** Triangles on the mel scale, [spectrogram bins, mel bins]. */
function melWeights(call: Call<{ output_datatype: ElementType }>): TensorValue {
  const [bands, length, rate, low, high] = [0, 1, 2, 3, 4].map((index) => call.number(index)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const bins = Math.floor(length / 2) + 1;
  if (!(bands >= 1 && bins >= 1 && bands * bins <= 2 ** 24)) {
    throw new ArgumentError(`${bands} mel bands of ${bins} bins`);
  }
  const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
  const step = (toMel(high) - toMel(low)) / (bands + 2);
  const edges = Array.from({ length: bands + 2 }, (_, i) => {
    const hertz = 700 * (10 ** ((i * step + toMel(low)) / 2595) - 1);
    return Math.floor(((length + 1) * hertz) / rate);
  });
  const values = new Float64Array(bins * bands);
  for (let band = 0; band < bands; band++) {
    const [lower = 0, centre = 0, upper = 0] = edges.slice(band, band + 3);
    const rising = centre - lower;
    if (rising === 0 && centre < bins) values[centre * bands + band] = 1;
    for (let bin = lower; rising > 0 && bin <= centre && bin < bins; bin++) {
      values[bin * bands + band] = (bin - lower) / rising;
    }
    const falling = upper - centre;
    for (let bin = centre; falling > 0 && bin < upper && bin < bins; bin++) {
      values[bin * bands + band] = (upper - bin) / falling;
    }
  }
  return TensorValue.ofNumbers(values, [bins, bands], call.attributes.output_datatype);
}

export const signals: readonly Operator[] = [
  cosineWindow('HannWindow', [0.5, -0.5]),
  cosineWindow('HammingWindow', [25 / 46, -21 / 46]),
  cosineWindow('BlackmanWindow', [0.42, -0.5, 0.08]),
  defineOperator({
    name: 'DFT',
    since: 17,
    until: 19,
    inputs: [1, 2],
    attributes: { axis: int(1), inverse: flag(), onesided: flag() },
    run: (call) => dft(call, call.attributes.axis),
  }),
  defineOperator({
    name: 'DFT',
    since: 20,
    inputs: [1, 3],
    attributes: { inverse: flag(), onesided: flag() },
    run: (call) => dft(call, call.has(2) ? call.number(2) : -2),
  }),
  defineOperator({
    name: 'STFT',
    since: 17,
    inputs: [2, 4],
    attributes: { onesided: flag(true) },
    run: stft,
  }),
  defineOperator({
    name: 'MelWeightMatrix',
    since: 17,
    inputs: 5,
    attributes: { output_datatype: elementType('float32') },
    run: melWeights,
  }),
];
