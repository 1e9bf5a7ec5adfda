// Loops over the bins of regions. How many samples a bin has can depend on values: such loops end where
// the kernel computes it.
import type { Builder } from '../../ir/builder.ts';
import { type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import type { KernelBody, KernelContext } from '../op.ts';
import { constantLike, loop, unflatten } from './emit.ts';
import type { RegionAttrs } from './regions.ts';
import { clampIndex } from './scatter-lowering.ts';

/** Emits what belongs to one kernel: names values, and reads a region's numbers. */
class Emit {
  readonly builder: Builder;
  readonly statements: Statement[] = [];

  constructor(builder: Builder) {
    this.builder = builder;
  }

  pin(name: string, value: Expression, bounds: { min?: number; max?: number } = {}): Variable {
    const variable = this.builder.variable(name, value.type, bounds);
    this.statements.push({ kind: 'let', variable, value });
    return variable;
  }
}

/** The nearest whole number, halves away from zero. */
function roundAway(builder: Builder, value: Expression): Expression {
  const half = constantLike(builder, value, 0.5);
  const size = builder.unary('floor', builder.add(builder.unary('abs', value), half));
  const negative = builder.compare('lt', value, constantLike(builder, value, 0));
  return builder.select(negative, builder.unary('neg', size), size);
}

function toInteger(builder: Builder, value: Expression): Expression {
  return builder.convert(value, 'i32');
}

/** One axis of a bin: how many samples, and the taps of each. */
interface AxisBin {
  readonly count: Expression;
  /** Names the pixels and weights of sample `index`. */
  readonly taps: (
    emit: Emit,
    index: Expression,
  ) => readonly { readonly at: Expression; readonly weight: Expression | null }[];
}

/** A bin of `kind` align: samples between pixels. */
function alignAxis(
  emit: Emit,
  name: string,
  ends: readonly [Expression, Expression],
  bin: Expression,
  bins: number,
  size: number,
  { samples, aligned, spatialScale }: RegionAttrs,
): AxisBin {
  const { builder } = emit;
  const number = (value: number): Expression => constantLike(builder, ends[0], value);
  const scaled = ends.map((end) =>
    builder.sub(builder.mul(end, number(spatialScale)), number(aligned ? 0.5 : 0)),
  ) as [Expression, Expression];
  const start = emit.pin(`${name}Start`, scaled[0]);
  const extent = builder.sub(scaled[1], start);
  const length = aligned ? extent : builder.max(extent, number(1));
  const width = emit.pin(`${name}Width`, builder.div(length, number(bins)));
  const own = builder.convert(bin, width.type);
  const first = emit.pin(`${name}First`, builder.add(start, builder.mul(own, width)));
  const count =
    samples > 0
      ? builder.constant(samples)
      : emit.pin(`${name}Count`, toInteger(builder, builder.unary('ceil', width)));
  const step = emit.pin(`${name}Step`, builder.div(width, builder.convert(count, width.type)));
  return {
    count,
    taps: (inner, index) => {
      const along = builder.add(builder.convert(index, width.type), number(0.5));
      const at = inner.pin(`${name}At`, builder.add(first, builder.mul(along, step)));
      const inside = builder.and(
        builder.compare('ge', at, number(-1)),
        builder.compare('le', at, number(size)),
      );
      const clipped = inner.pin(
        `${name}Clipped`,
        builder.min(builder.max(at, number(0)), number(size - 1)),
      );
      const bounds = { min: 0, max: size - 1 };
      const low = inner.pin(
        `${name}Low`,
        clampIndex(builder, toInteger(builder, clipped), size),
        bounds,
      );
      const next = builder.min(builder.offset(low, 1), builder.constant(size - 1));
      const high = inner.pin(`${name}High`, next, bounds);
      const part = inner.pin(`${name}Part`, builder.sub(clipped, builder.convert(low, width.type)));
      const rest = builder.sub(number(1), part);
      const weigh = (weight: Expression): Expression => builder.select(inside, weight, number(0));
      return [
        { at: low, weight: inner.pin(`${name}LowWeight`, weigh(rest)) },
        { at: high, weight: inner.pin(`${name}HighWeight`, weigh(part)) },
      ];
    },
  };
}

/** Pixels [low, high) that a bin of `kind` pool touches. */
function poolRange(
  emit: Emit,
  name: string,
  ends: readonly [Expression, Expression],
  bin: Expression,
  bins: number,
  size: number,
  { spatialScale, positionSensitive }: Pick<RegionAttrs, 'spatialScale' | 'positionSensitive'>,
): readonly [Variable, Variable] {
  const { builder } = emit;
  const number = (value: number): Expression => constantLike(builder, ends[0], value);
  const [start, end] = ends.map((value, i) =>
    emit.pin(`${name}Edge${i}`, roundAway(builder, builder.mul(value, number(spatialScale)))),
  ) as [Variable, Variable];
  const extra = number(positionSensitive ? 0 : 1);
  const length = builder.max(builder.add(builder.sub(end, start), extra), number(1));
  const width = emit.pin(`${name}Width`, builder.div(length, number(bins)));
  const own = builder.convert(bin, width.type);
  const last = number(positionSensitive ? size - 1 : size);
  const clip = (value: Expression): Expression =>
    toInteger(builder, builder.min(builder.max(builder.add(value, start), number(0)), last));
  const low = builder.unary('floor', builder.mul(own, width));
  const high = builder.unary('ceil', builder.mul(builder.add(own, number(1)), width));
  const bounds = { min: 0, max: size };
  return [emit.pin(`${name}From`, clip(low), bounds), emit.pin(`${name}To`, clip(high), bounds)];
}

function poolAxis(
  emit: Emit,
  name: string,
  ends: readonly [Expression, Expression],
  bin: Expression,
  bins: number,
  size: number,
  attrs: RegionAttrs,
): AxisBin {
  const { builder } = emit;
  const [low, high] = poolRange(emit, name, ends, bin, bins, size, attrs);
  return {
    count: builder.max(builder.sub(high, low), builder.constant(0)),
    taps: (_inner, index) => [
      { at: clampIndex(builder, builder.add(low, index), size), weight: null },
    ],
  };
}

/** A loop to a count that the kernel computes. */
function countedLoop(
  builder: Builder,
  name: string,
  count: Expression,
  body: (index: Expression) => readonly Statement[],
): Statement[] {
  if (count.kind === 'constant') return loop(builder, name, count.value, body);
  const index = builder.variable(name, 'i32', { min: 0, max: 2 ** 31 - 2 });
  return [
    { kind: 'for', index, start: builder.constant(0), end: count, step: 1, body: body(index) },
  ];
}

interface Bin {
  readonly region: Expression;
  readonly row: Expression;
  readonly column: Expression;
}

/** The region's number `k`, in the type that values have. */
function regionNumber(context: KernelContext, node: Node, region: Expression, k: number) {
  const { builder } = context;
  const read = context.read(1, [region, builder.constant(k)]);
  return builder.convert(read, valueTypeOf(node.inputs[0]!.dtype));
}

function imageOf(
  context: KernelContext,
  emit: Emit,
  node: Node,
  bin: Bin,
  count: number,
): Variable {
  const { builder } = context;
  const image = toInteger(builder, regionNumber(context, node, bin.region, 0));
  const bounds = { min: 0, max: Math.max(count - 1, 0) };
  return emit.pin('image', clampIndex(builder, image, count), bounds);
}

interface PixelTap {
  readonly y: Expression;
  readonly x: Expression;
  /** Null: 1. */
  readonly weight: Expression | null;
}

/**
 * Visits all samples of a bin, each of one pixel or of four. The weights are to be multiplied by
 * `share`, which is known before the loops begin.
 */
function overBin(
  context: KernelContext,
  node: Node,
  bin: Bin,
  attrs: RegionAttrs,
  space: readonly [number, number],
  make: (emit: Emit, share: Variable) => (taps: readonly PixelTap[]) => readonly Statement[],
): Statement[] {
  const { builder } = context;
  const emit = new Emit(builder);
  const number = (k: number): Expression =>
    emit.pin(`region${k}`, regionNumber(context, node, bin.region, k));
  const axis = attrs.kind === 'align' ? alignAxis : poolAxis;
  const down = axis(emit, 'y', [number(2), number(4)], bin.row, attrs.height, space[0], attrs);
  const across = axis(emit, 'x', [number(1), number(3)], bin.column, attrs.width, space[1], attrs);
  const type = valueTypeOf(node.inputs[0]!.dtype);
  const one = builder.constant(1, type);
  const samples = builder.mul(
    builder.convert(down.count, type),
    builder.convert(across.count, type),
  );
  const share = emit.pin('share', builder.div(one, builder.max(samples, one)));
  const visit = make(emit, share);
  const body = countedLoop(builder, 'ySample', down.count, (i) => {
    const outer = new Emit(builder);
    const ys = down.taps(outer, i);
    const inner = countedLoop(builder, 'xSample', across.count, (j) => {
      const own = new Emit(builder);
      const xs = across.taps(own, j);
      const taps = ys.flatMap((y) =>
        xs.map((x): PixelTap => {
          const weight =
            y.weight === null || x.weight === null
              ? null
              : own.pin('weight', builder.mul(y.weight, x.weight));
          return { y: y.at, x: x.at, weight };
        }),
      );
      const visits = visit(taps);
      return [...own.statements, ...visits];
    });
    return [...outer.statements, ...inner];
  });
  return [...emit.statements, ...body];
}

/** Channels that share one walk over a bin's samples. */
const CHANNELS = 16;

type ChannelLoop = (
  name: string,
  body: (slot: Expression, channel: Expression) => readonly Statement[],
) => Statement[];

/** A loop over a block of `wide` channels from `first`, cut off where there are no more. */
function channelLoop(
  builder: Builder,
  channels: number,
  wide: number,
  first: Expression,
): ChannelLoop {
  return (name, body) => {
    const each = (slot: Expression): readonly Statement[] => body(slot, builder.add(first, slot));
    if (channels % wide === 0) return loop(builder, name, wide, each);
    const index = builder.variable(name, 'i32', { min: 0, max: wide - 1 });
    const end = builder.min(builder.constant(wide), builder.sub(builder.constant(channels), first));
    return [{ kind: 'for', index, start: builder.constant(0), end, step: 1, body: each(index) }];
  };
}

/** One grid item per region and block of channels. */
export function lowerRegionMean(
  context: KernelContext,
  node: Node,
  attrs: RegionAttrs,
): KernelBody {
  const { builder } = context;
  const [count, channels] = node.shape as readonly [number, number];
  const [images, , ...space] = node.inputs[0]!.shape as readonly number[];
  const wide = Math.min(Math.max(channels, 1), CHANNELS);
  const blocks = Math.ceil(channels / wide);
  const gridSize = count * blocks;
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const [region, block] = unflatten(builder, item, [count, blocks]) as [Expression, Expression];
  const type = valueTypeOf(node.dtype);
  const totals = context.scratch('totals', type === 'f64' ? 'float64' : 'float32', wide);
  const overChannels = channelLoop(builder, channels, wide, builder.scale(block, wide));
  const zero = builder.constant(0, type);
  const body = overBins(builder, attrs, (row, column) => {
    const bin = { region, row, column };
    let share: Expression = zero;
    const sum = overBin(context, node, bin, attrs, space as [number, number], (emit, own) => {
      share = own;
      const image = imageOf(context, emit, node, bin, images!);
      return (taps) =>
        overChannels('channel', (slot, channel) => {
          const bins = builder.add(builder.scale(channel, attrs.height), row);
          const source = attrs.positionSensitive
            ? builder.add(builder.scale(bins, attrs.width), column)
            : channel;
          const value = taps.reduce<Expression>(
            (total, { y, x, weight }) => {
              const read = context.read(0, [image, source, y, x]);
              return builder.add(total, weight === null ? read : builder.mul(weight, read));
            },
            builder.load(totals, slot),
          );
          return [{ kind: 'store', buffer: totals, index: slot, value }];
        });
    });
    return [
      ...overChannels('clear', (slot) => [
        { kind: 'store', buffer: totals, index: slot, value: zero },
      ]),
      ...sum,
      ...overChannels('result', (slot, channel) =>
        context.write(
          [region, channel, row, column],
          builder.mul(builder.load(totals, slot), share),
        ),
      ),
    ];
  });
  return { gridIndex: item, gridSize, body };
}

function overBins(
  builder: Builder,
  { height, width }: Pick<RegionAttrs, 'height' | 'width'>,
  body: (row: Expression, column: Expression) => readonly Statement[],
): Statement[] {
  return loop(builder, 'row', height, (row) =>
    loop(builder, 'column', width, (column) => body(row, column)),
  );
}

/** One grid item per image and channel: goes through all regions, so that the order is fixed. */
export function lowerRegionAdd(context: KernelContext, node: Node, attrs: RegionAttrs): KernelBody {
  const { builder } = context;
  const [images, channels, height, width] = node.shape as readonly [number, number, number, number];
  const gridSize = images * channels;
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const [image, channel] = unflatten(builder, item, [images, channels]) as [Expression, Expression];
  const type = valueTypeOf(node.dtype);
  const totals = context.scratch('totals', type === 'f64' ? 'float64' : 'float32', height * width);
  const zero = builder.constant(0, type);
  const clear = (index: Expression): Statement[] => [
    { kind: 'store', buffer: totals, index, value: zero },
  ];
  const addBin = (region: Expression, from: Expression, row: Expression, column: Expression) =>
    overBin(context, node, { region, row, column }, attrs, [height, width], (emit, share) => {
      const value = builder.mul(context.read(0, [region, from, row, column]), share);
      const part = emit.pin('part', value);
      return (taps) =>
        taps.map(({ y, x, weight }) => {
          const index = builder.add(builder.scale(y, width), x);
          const term = weight === null ? part : builder.mul(weight, part);
          const sum = builder.add(builder.load(totals, index), term);
          return { kind: 'store', buffer: totals, index, value: sum };
        });
    });
  const count = node.inputs[0]!.shape[0]!;
  const addRegions = loop(builder, 'region', count, (region) => {
    const emit = new Emit(builder);
    const bin = { region, row: builder.constant(0), column: builder.constant(0) };
    const own = builder.compare('eq', imageOf(context, emit, node, bin, images), image);
    const bins = [attrs.height, attrs.width];
    const body = attrs.positionSensitive
      ? ((): Statement[] => {
          const shape = [Math.max(channels / (attrs.height * attrs.width), 1), ...bins];
          const [from, row, column] = unflatten(builder, channel, shape) as Expression[];
          return addBin(region, from!, row!, column!);
        })()
      : overBins(builder, attrs, (row, column) => addBin(region, channel, row, column));
    return [...emit.statements, branch(own, body)];
  });
  const write = loop(builder, 'y', height, (y) =>
    loop(
      builder,
      'x',
      width,
      (x) => {
        const index = builder.add(builder.scale(y, width), x);
        return context.write([image, channel, y, x], builder.load(totals, index));
      },
      { vector: true },
    ),
  );
  const body = [
    ...loop(builder, 'slot', height * width, clear, { vector: true }),
    ...addRegions,
    ...write,
  ];
  return { gridIndex: item, gridSize, body };
}

/** One bin of one channel in which a maximum is looked for. */
interface SearchedBin {
  /** Statements before the search. */
  readonly emit: Emit;
  readonly row: Expression;
  readonly column: Expression;
  /** Reads a pixel. */
  pixel(y: Expression, x: Expression): Expression;
  /** Number k of the region. */
  number(k: number): Variable;
  /** Takes `place` for the result if `value` is larger than all before. */
  offer(value: Expression, place: Expression): readonly Statement[];
}

/** Places of maxima, -1 where nothing was offered: one grid item per region and channel. */
function lowerMaxima(
  context: KernelContext,
  node: Node,
  bins: Pick<RegionAttrs, 'height' | 'width'>,
  search: (bin: SearchedBin) => readonly Statement[],
): KernelBody {
  const { builder } = context;
  const [count, channels] = node.shape as readonly [number, number];
  const [x] = node.inputs as readonly [Node];
  const gridSize = count * channels;
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const [region, channel] = unflatten(builder, item, [count, channels]) as [Expression, Expression];
  const type = valueTypeOf(x.dtype);
  const body = overBins(builder, bins, (row, column) => {
    const emit = new Emit(builder);
    const best = builder.variable('best', type, { mutable: true });
    const found = builder.variable('found', 'i32', { mutable: true });
    const image = imageOf(context, emit, node, { region, row, column }, x.shape[0]!);
    const searched = search({
      emit,
      row,
      column,
      pixel: (y, along) => context.read(0, [image, channel, y, along]),
      number: (k) => emit.pin(`region${k}`, regionNumber(context, node, region, k)),
      offer: (value, place) => {
        const better = builder.variable('better', 'bool');
        return [
          { kind: 'let', variable: better, value: builder.compare('gt', value, best) },
          { kind: 'assign', variable: found, value: builder.select(better, place, found) },
          { kind: 'assign', variable: best, value: builder.select(better, value, best) },
        ];
      },
    });
    return [
      ...emit.statements,
      { kind: 'declare', variable: best, value: builder.constant(-Infinity, type) },
      { kind: 'declare', variable: found, value: builder.constant(-1) },
      ...searched,
      ...context.write([region, channel, row, column], found),
    ];
  });
  return { gridIndex: item, gridSize, body };
}

/** Positions of the pixels that are maxima. */
export function lowerRegionPositions(
  context: KernelContext,
  node: Node,
  attrs: Pick<RegionAttrs, 'height' | 'width' | 'spatialScale'>,
): KernelBody {
  const { builder } = context;
  const [, , height, width] = node.inputs[0]!.shape as readonly [number, number, number, number];
  const own = { ...attrs, positionSensitive: false };
  const size = ([from, to]: readonly [Variable, Variable]): Expression =>
    builder.max(builder.sub(to, from), builder.constant(0));
  return lowerMaxima(context, node, attrs, ({ emit, row, column, pixel, number, offer }) => {
    const ys = poolRange(emit, 'y', [number(2), number(4)], row, attrs.height, height, own);
    const xs = poolRange(emit, 'x', [number(1), number(3)], column, attrs.width, width, own);
    return countedLoop(builder, 'i', size(ys), (i) =>
      countedLoop(builder, 'j', size(xs), (j) => {
        const y = clampIndex(builder, builder.add(ys[0], i), height);
        const x = clampIndex(builder, builder.add(xs[0], j), width);
        const inner = new Emit(builder);
        const value = inner.pin('value', pixel(y, x));
        const at = builder.add(builder.scale(y, width), x);
        return [...inner.statements, ...offer(value, at)];
      }),
    );
  });
}

/** Numbers of the samples with the largest values, or of their largest corners. */
export function lowerRegionBest(
  context: KernelContext,
  node: Node,
  attrs: RegionAttrs & { readonly corners: boolean },
): KernelBody {
  const { builder } = context;
  const [x] = node.inputs as readonly [Node];
  const [, , height, width] = x.shape as readonly [number, number, number, number];
  const zero = builder.constant(0, valueTypeOf(x.dtype));
  return lowerMaxima(context, node, attrs, ({ emit, row, column, pixel, number, offer }) => {
    const [top, bottom, left, right] = [number(2), number(4), number(1), number(3)];
    const down = alignAxis(emit, 'y', [top, bottom], row, attrs.height, height, attrs);
    const across = alignAxis(emit, 'x', [left, right], column, attrs.width, width, attrs);
    return countedLoop(builder, 'ySample', down.count, (i) => {
      const outer = new Emit(builder);
      const ys = down.taps(outer, i);
      const inner = countedLoop(builder, 'xSample', across.count, (j) => {
        const own = new Emit(builder);
        const xs = across.taps(own, j);
        const terms = ys.flatMap((y) =>
          xs.map((tap) => {
            const weight = builder.mul(y.weight!, tap.weight!);
            return own.pin('term', builder.mul(weight, pixel(y.at, tap.at)));
          }),
        );
        const sample = builder.add(builder.mul(i, across.count), j);
        if (attrs.corners) {
          const offers = terms.flatMap((term, corner) =>
            offer(term, builder.offset(builder.scale(sample, 4), corner)),
          );
          return [...own.statements, ...offers];
        }
        const value = own.pin(
          'value',
          terms.reduce<Expression>((a, b) => builder.add(a, b), zero),
        );
        return [...own.statements, ...offer(value, sample)];
      });
      return [...outer.statements, ...inner];
    });
  });
}
