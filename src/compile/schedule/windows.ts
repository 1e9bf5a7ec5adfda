// Convolutions as windows over a padded source. Forward there is one kind of window. By data, with a
// stride, every phase of a position modulo the stride sees other taps: each is a convolution of stride
// 1 over the gradient, with a part of the kernel.
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Dimensions } from './convolution.ts';

/** The taps of a window along one axis. */
export interface TapAxis {
  readonly count: number;
  /** Tap i is the kernel's element first + step * i. */
  readonly first: number;
  readonly step: number;
  /** It reads the padded source at source + sourceStep * i from where the window starts. */
  readonly source: number;
  readonly sourceStep: number;
}

export interface Windows {
  /** Number of positions along each axis. */
  readonly results: readonly number[];
  /** How far the window moves in the padded source from one position to the next. */
  readonly step: readonly number[];
  readonly taps: readonly TapAxis[];
  /** Position i is the result's element scale * i + shift. */
  readonly scale: readonly number[];
  readonly shift: readonly number[];
}

interface AxisPhase {
  readonly results: number;
  readonly taps: TapAxis;
  readonly shift: number;
}

/** Zeros before each axis of the source, and the windows: one kind, or one for each phase. */
export function windowsOf(
  d: Dimensions,
  geometry: ConvolutionGeometry,
): { readonly before: readonly number[]; readonly phases: readonly Windows[] } {
  if (geometry.role !== 'backwardData') {
    const taps = d.kernel.map((count, axis): TapAxis => {
      const sourceStep = geometry.dilation[axis] as number;
      return { count, first: 0, step: 1, source: 0, sourceStep };
    });
    const before = d.kernel.map((_, axis) => geometry.padding[2 * axis] as number);
    const ones = d.kernel.map(() => 1);
    const shift = d.kernel.map(() => 0);
    const phases = [{ results: d.result, step: geometry.stride, taps, scale: ones, shift }];
    return { before, phases };
  }
  const axes = d.kernel.map((_, axis) => axisPhases(d, geometry, axis));
  const before = axes.map((phases) => -Math.min(0, ...phases.map(lowestSource)));
  let phases: readonly (readonly AxisPhase[])[] = [[]];
  for (const axis of axes)
    phases = phases.flatMap((known) => axis.map((phase) => [...known, phase]));
  return {
    before,
    phases: phases.map((phase): Windows => ({
      results: phase.map(({ results }) => results),
      step: phase.map(() => 1),
      taps: phase.map(({ taps }, axis) => {
        return { ...taps, source: taps.source + (before[axis] as number) };
      }),
      scale: geometry.stride,
      shift: phase.map(({ shift }) => shift),
    })),
  };
}

function lowestSource({ taps: { count, source, sourceStep } }: AxisPhase): number {
  return count === 0 ? 0 : Math.min(source, source + (count - 1) * sourceStep);
}

/**
 * The phases of an axis by data: dx at y = stride * i + phase sums dy at i + (phase + padding -
 * dilation * tap) / stride over the taps for which that is whole.
 */
function axisPhases(d: Dimensions, geometry: ConvolutionGeometry, axis: number): AxisPhase[] {
  const stride = geometry.stride[axis] as number;
  const dilation = geometry.dilation[axis] as number;
  const padding = geometry.padding[2 * axis] as number;
  const size = d.space[axis] as number;
  return Array.from({ length: Math.min(stride, size) }, (_, shift): AxisPhase => {
    const results = Math.ceil((size - shift) / stride);
    const distance = (tap: number): number => shift + padding - dilation * tap;
    const list = Array.from({ length: d.kernel[axis] as number }, (_, tap) => tap).filter(
      (tap) => distance(tap) % stride === 0,
    );
    const [first = 0, second = first + 1] = list;
    const step = second - first;
    const source = distance(first) / stride;
    const sourceStep = -(dilation * step) / stride;
    return { results, shift, taps: { count: list.length, first, step, source, sourceStep } };
  });
}

/** Sizes of the padded source: all that any window reads, and all that is copied. */
export function paddedSizes(d: Dimensions, geometry: ConvolutionGeometry): readonly number[] {
  const { before, phases } = windowsOf(d, geometry);
  const source = geometry.role === 'backwardData' ? d.result : d.space;
  return source.map((size, axis) => {
    let end = size + (before[axis] as number);
    for (const { results, step, taps } of phases) {
      const { count, source: at, sourceStep } = taps[axis] as TapAxis;
      if (count === 0) continue;
      const last = ((results[axis] as number) - 1) * (step[axis] as number);
      end = Math.max(end, last + Math.max(at, at + (count - 1) * sourceStep) + 1);
    }
    return end;
  });
}

/** Row-major strides, in elements. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    strides[axis] = (strides[axis + 1] as number) * (shape[axis + 1] as number);
  }
  return strides;
}

/** Offset of each tap in a source of these strides, from where its window starts. */
export function tapOffsetsOf(windows: Windows, strides: readonly number[]): number[] {
  let offsets = [0];
  windows.taps.forEach(({ count, source, sourceStep }, axis) => {
    offsets = offsets.flatMap((base) =>
      Array.from({ length: count }, (_, i) => {
        return base + (source + i * sourceStep) * (strides[axis] as number);
      }),
    );
  });
  return offsets;
}
