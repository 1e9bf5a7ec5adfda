// Convolutions as windows over a padded source. Forward there is one kind of window. By data, with a
// stride, every phase of a position modulo the stride sees other taps: each is a convolution of stride
// 1 over the gradient, with a part of the kernel.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression } from '../../ir/expression.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Dimensions, dimensionsOf } from './convolution.ts';
import { padStage } from './padded-rows.ts';
import { accumulatorOf } from './product-problem.ts';

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

/** What the schedules forward and by data share, whichever way they go through the windows. */
export interface WindowPlan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly backward: boolean;
  readonly dtype: 'float32' | 'float64' | 'int32';
  /** Channels that are summed, and channels of the result, per group. */
  readonly depth: number;
  readonly outputs: number;
  /** Sizes of the padded source. */
  readonly padded: readonly number[];
}

export function windowPlan(context: ContractionContext, geometry: ConvolutionGeometry): WindowPlan {
  const d = dimensionsOf(context.node, geometry);
  const backward = geometry.role === 'backwardData';
  return {
    context,
    d,
    backward,
    dtype: accumulatorOf(context.node.dtype) as WindowPlan['dtype'],
    depth: backward ? d.outputs : d.inputs,
    outputs: backward ? d.inputs : d.outputs,
    padded: paddedSizes(d, geometry),
  };
}

/** Lanes of the target's vectors. */
export function lanesOf({ context, dtype }: WindowPlan): number {
  return context.target.vectorBytes / (dtype === 'float64' ? 8 : 4);
}

/** What windows read: rows that are padded for them, or the operand itself where nothing is padded. */
export interface Source {
  /** The padded rows, if they are not the operand itself. */
  readonly rows: Scratch | null;
  buffer(kernel: ContractionKernel): Buffer;
  readonly offset: number;
  /** Strides, in elements; `space` has one for each axis. */
  readonly image: number;
  readonly channel: number;
  readonly space: readonly number[];
}

/** The operand itself if it is plain memory and every window lies inside. */
export function plainSource({ context, d, backward, padded, dtype }: WindowPlan): Source | null {
  const sizes = backward ? d.result : d.space;
  if (padded.some((size, axis) => size !== sizes[axis])) return null;
  const plain = context.plainOperand(0);
  if (plain === null || plain.value.dtype !== dtype) return null;
  if (plain.strides.some((stride) => stride < 0)) return null;
  const [image = 0, channel = 0, ...space] = plain.strides;
  const { offset, value } = plain;
  return { rows: null, buffer: (kernel) => kernel.buffer(value), offset, image, channel, space };
}

/** Where the padded source of all images and groups lies, `phases` times as much of each channel. */
export function paddedSource({ d, depth, dtype, padded }: WindowPlan, phases = 1): Source {
  const channel = phases * sizeOf(padded);
  const image = d.groups * depth * channel;
  const rows: Scratch = { name: 'rows', dtype, length: d.images * image };
  const space = stridesOf(padded);
  const buffer = (kernel: ContractionKernel): Buffer => kernel.scratch(rows, 'read');
  return { rows, buffer, offset: 0, image, channel, space };
}

/** The copy into padded rows, if there is one. */
export function sourceStages(
  { context, padded }: WindowPlan,
  { rows, channel }: Source,
  before: readonly number[],
): Stage[] {
  if (rows === null) return [];
  return [padStage(context, 'pad', 0, rows, { before, padded, length: channel })];
}

/** Taps of a window along each axis. */
export function tapCounts({ taps }: Windows): readonly number[] {
  return taps.map(({ count }) => count);
}

/** The weight that output `output` of a group has for its channel `channel` at tap number `tap`. */
export function weightIndices(
  builder: Builder,
  { backward, depth, outputs }: WindowPlan,
  windows: Windows,
  at: { group: Expression; output: Expression; channel: Expression; tap: Expression },
): Expression[] {
  const element = unflatten(builder, at.tap, tapCounts(windows)).map((index, axis) => {
    const { first, step } = windows.taps[axis] as TapAxis;
    return builder.offset(builder.scale(index, step), first);
  });
  return backward
    ? [builder.add(builder.scale(at.group, depth), at.channel), at.output, ...element]
    : [builder.add(builder.scale(at.group, outputs), at.output), at.channel, ...element];
}

/** Space indices of the result at a position of the windows. */
export function resultIndices(
  builder: Builder,
  { scale, shift }: Windows,
  position: readonly Expression[],
): Expression[] {
  return position.map((index, axis) =>
    builder.offset(builder.scale(index, scale[axis] as number), shift[axis] as number),
  );
}

/** `base`, moved to where the window of a position starts in a source of these strides. */
export function windowStart(
  builder: Builder,
  base: Expression,
  position: readonly Expression[],
  step: readonly number[],
  strides: readonly number[],
): Expression {
  return position.reduce(
    (start, index, axis) =>
      builder.add(start, builder.scale(index, (step[axis] as number) * (strides[axis] as number))),
    base,
  );
}

/** Where the window of a position starts in the source. */
export function startInSource(
  builder: Builder,
  { depth }: WindowPlan,
  source: Source,
  step: readonly number[],
  at: {
    readonly image: Expression;
    readonly group: Expression;
    readonly position: readonly Expression[];
  },
): Expression {
  const image = builder.offset(builder.scale(at.image, source.image), source.offset);
  const base = builder.add(image, builder.scale(at.group, depth * source.channel));
  return windowStart(builder, base, at.position, step, source.space);
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

/** Offset of each tap of a kernel, the last axis innermost: what the axes add to it. */
export function tapOffsets(
  counts: readonly number[],
  offset: (tap: number, axis: number) => number,
): number[] {
  let offsets = [0];
  counts.forEach((count, axis) => {
    const along = Array.from({ length: count }, (_, tap) => offset(tap, axis));
    offsets = offsets.flatMap((base) => along.map((more) => base + more));
  });
  return offsets;
}

/** The same in rows that are apart by their phase (`Padding`): `along` in padded elements. */
export function phaseOffsets(
  counts: readonly number[],
  along: (tap: number, axis: number) => number,
  step: readonly number[],
  sizes: readonly number[],
): number[] {
  const strides = stridesOf(sizes);
  const planes = stridesOf(step).map((stride) => stride * sizeOf(sizes));
  return tapOffsets(counts, (tap, axis) => {
    const at = along(tap, axis);
    const by = step[axis] as number;
    return (at % by) * (planes[axis] as number) + Math.floor(at / by) * (strides[axis] as number);
  });
}

/** Offset of each tap in a source of these strides, from where its window starts. */
export function tapOffsetsOf(windows: Windows, strides: readonly number[]): number[] {
  return tapOffsets(tapCounts(windows), (tap, axis) => {
    const { source, sourceStep } = windows.taps[axis] as TapAxis;
    return (source + tap * sourceStep) * (strides[axis] as number);
  });
}
