// Convolutions of stride 1 without packing: the input is copied once into rows with their padding,
// and then every tap of the kernel is the same flat row at another offset, so that the register
// tile loads whole vectors of neighbouring results. The few results that straddle two rows are
// computed and dropped. Any kernel size and dilation, one to three space axes, one group.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { dimensionsOf, geometryOf } from './convolution.ts';
import { loop, loopBetween, loopIndex, multiplyAdd, roundUp } from './loops.ts';
import { offsetStage, padStage, rowSpan } from './padded-rows.ts';
import { registerTileFor } from './product.ts';
import { accumulatorOf } from './product-problem.ts';
import { stridesOf, tapOffsets } from './windows.ts';

/** Everything the stages share. */
interface Plan {
  readonly context: ContractionContext;
  readonly dtype: 'float32' | 'float64' | 'int32';
  readonly lanes: number;
  readonly tile: { readonly rows: number; readonly vectors: number };
  readonly images: number;
  /** Channels that are summed, and channels of the result. */
  readonly depth: number;
  readonly outputs: number;
  /** Zeros before each space axis of the source, its sizes with padding, and the result's. */
  readonly before: readonly number[];
  readonly padded: readonly number[];
  readonly result: readonly number[];
  readonly kernel: readonly number[];
  readonly dilation: readonly number[];
}

/** Whether the direct schedules apply. */
function isUsable(context: ContractionContext): boolean {
  const { node } = context;
  const geometry = geometryOf(node);
  if (geometry === null) return false;
  if (geometry.groups !== 1 || geometry.stride.some((stride) => stride !== 1)) return false;
  if (context.target.vectorBytes < 16 || context.target.workgroups) return false;
  const d = dimensionsOf(node, geometry);
  if (sizeOf(d.kernel) === 1 || sizeOf(d.result) === 0 || d.images === 0) return false;
  if (geometry.role === 'backwardFilter') return false;
  if (geometry.role === 'backwardData') {
    return geometry.dilation.every((dilation, axis) => {
      const reach = dilation * ((d.kernel[axis] as number) - 1);
      const before = geometry.padding[2 * axis] as number;
      const after = geometry.padding[2 * axis + 1] as number;
      return before <= reach && after <= reach;
    });
  }
  return true;
}

function planOf(geometry: ConvolutionGeometry, context: ContractionContext): Plan {
  const { node } = context;
  const d = dimensionsOf(node, geometry);
  const backward = geometry.role === 'backwardData';
  const dtype = accumulatorOf(node.dtype) as Plan['dtype'];
  const reach = d.kernel.map((size, axis) => (geometry.dilation[axis] as number) * (size - 1));
  const result = backward ? d.space : d.result;
  return {
    context,
    dtype,
    lanes: context.target.vectorBytes / (dtype === 'float64' ? 8 : 4),
    tile: registerTileFor(context.target),
    images: d.images,
    depth: backward ? d.outputs : d.inputs,
    outputs: backward ? d.inputs : d.outputs,
    before: reach.map((size, axis) => {
      const padding = geometry.padding[2 * axis] as number;
      return backward ? size - padding : padding;
    }),
    // A window of stride 1 covers exactly result + reach positions.
    padded: result.map((size, axis) => size + (reach[axis] as number)),
    result,
    kernel: d.kernel,
    dilation: geometry.dilation,
  };
}

/** Copies the weights into panels [panel][depth * taps][rows], mirrored for backwardData. */
function weightStage(plan: Plan, backward: boolean, target: Scratch): Stage {
  const { context, tile, kernel: taps, outputs, depth } = plan;
  const kernel = context.newKernel(`${context.name}_packWeight`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const panels = Math.ceil(outputs / tile.rows);
  const steps = depth * sizeOf(taps);
  const grid = loopIndex(builder, 'panel', panels);
  const k = loopIndex(builder, 'k', steps);
  const row = loopIndex(builder, 'row', tile.rows);
  const output = builder.add(builder.scale(grid, tile.rows), row);
  const safe = builder.min(output, builder.constant(outputs - 1));
  const [channel, ...tap] = unflatten(builder, k, [depth, ...taps]) as [
    Expression,
    ...Expression[],
  ];
  const indices = backward
    ? [
        channel,
        safe,
        ...tap.map((index, axis) =>
          builder.sub(builder.constant((taps[axis] as number) - 1), index),
        ),
      ]
    : [safe, channel, ...tap];
  const type = valueTypeOf(plan.dtype);
  const value = builder.convert(kernel.read(1, indices), type);
  const inside = builder.compare('lt', output, builder.constant(outputs));
  const position = builder.add(
    builder.scale(builder.add(builder.scale(grid, steps), k), tile.rows),
    row,
  );
  const store: Statement = {
    kind: 'store',
    buffer,
    index: position,
    value: builder.select(inside, value, builder.constant(0, type)),
  };
  return kernel.finish(grid, panels, [
    loop(builder, k, steps, [loop(builder, row, tile.rows, [store])]),
  ]);
}

/** Convolutions of stride 1 from padded rows. */
export const directConvolution: ContractionSchedule = {
  name: 'direct convolution',
  reproducible: true,
  usable: isUsable,
  cost: ({ node, target }) => {
    const geometry = geometryOf(node);
    if (geometry === null) return Infinity;
    const d = dimensionsOf(node, geometry);
    const taps = sizeOf(d.kernel);
    const positions = d.images * sizeOf(d.result);
    const work = positions * d.inputs * d.outputs * taps;
    const copied = positions * (d.inputs + d.outputs);
    return (
      work / (0.65 * multiplyAddsPerNanosecond(target)) + copied / elementsPerNanosecond(target)
    );
  },
  lower: (context) => {
    const geometry = geometryOf(context.node);
    if (geometry === null) throw internalError('direct convolution of something else');
    return windowStages(geometry, context);
  },
};

/** Forward and backwardData. */
function windowStages(geometry: ConvolutionGeometry, context: ContractionContext): Stage[] {
  const plan = planOf(geometry, context);
  const { tile, lanes } = plan;
  const width = tile.vectors * lanes;
  const steps = plan.depth * sizeOf(plan.kernel);
  const rows: Scratch = {
    name: 'rows',
    dtype: plan.dtype,
    // The last tile reads past the last window.
    length: plan.images * plan.depth * sizeOf(plan.padded) + width,
  };
  const weights: Scratch = {
    name: 'weights',
    dtype: plan.dtype,
    length: Math.ceil(plan.outputs / tile.rows) * steps * tile.rows,
  };
  const offsets: Scratch = { name: 'offsets', dtype: 'int32', length: steps };
  const strides = stridesOf(plan.padded);
  const taps = tapOffsets(plan.kernel, (tap, axis) => {
    return tap * (plan.dilation[axis] as number) * (strides[axis] as number);
  });
  return [
    padStage(context, 'pad', 0, rows, {
      before: plan.before,
      padded: plan.padded,
      length: sizeOf(plan.padded),
    }),
    weightStage(plan, geometry.role === 'backwardData', weights),
    offsetStage(context, offsets, plan.depth, sizeOf(plan.padded), taps),
    windowStage(plan, { rows, weights, offsets }),
  ];
}

/** Grid items: (image, block of slowest-axis positions). Each computes all output channels. */
function windowStage(
  plan: Plan,
  scratch: { rows: Scratch; weights: Scratch; offsets: Scratch },
): Stage {
  const { context, tile, lanes, outputs } = plan;
  const kernel = context.newKernel(`${context.name}_windows`);
  const { builder } = kernel;
  const width = tile.vectors * lanes;
  const first = plan.result[0] as number;
  const rowLength = sizeOf(plan.padded) / (plan.padded[0] as number);
  // About 128 positions an item: a block of sums that stays in cache, and items to share.
  const perItem = Math.max(1, Math.min(first, Math.round(128 / rowLength)));
  const blocks = Math.ceil(first / perItem);
  const inner = rowSpan({ padded: plan.padded.slice(1), result: plan.result.slice(1) });
  const columns = roundUp((perItem - 1) * rowLength + inner, width);
  const panels = Math.ceil(outputs / tile.rows);
  const block = kernel.privateArray('block', plan.dtype, panels * tile.rows * columns);
  const grid = loopIndex(builder, 'item', plan.images * blocks);
  const image = builder.div(grid, builder.constant(blocks));
  // The last block starts earlier rather than being shorter; it stores only its own positions.
  const own = builder.scale(builder.rem(grid, builder.constant(blocks)), perItem);
  const start = builder.min(own, builder.constant(first - perItem));
  const column = loopIndex(builder, 'column', columns / width);
  const panel = loopIndex(builder, 'panel', panels);
  const from = builder.add(
    builder.scale(image, plan.depth * sizeOf(plan.padded)),
    builder.add(builder.scale(start, rowLength), builder.scale(column, width)),
  );
  const tileBody = windowTile(plan, builder, {
    rows: kernel.scratch(scratch.rows, 'read'),
    weights: kernel.scratch(scratch.weights, 'read'),
    offsets: kernel.scratch(scratch.offsets, 'read'),
    block,
    from,
    panel,
    corner: builder.add(builder.scale(panel, tile.rows * columns), builder.scale(column, width)),
    columns,
  });
  const output = loopIndex(builder, 'output', outputs);
  const at = [perItem, ...plan.result.slice(1)].map((size, axis) =>
    loopIndex(builder, `s${axis}`, size),
  );
  const inBlock = flatten(builder, at, [perItem, ...plan.padded.slice(1)]);
  const value = builder.load(block, builder.add(builder.scale(output, columns), inBlock));
  const position = [builder.add(start, at[0] as Expression), ...at.slice(1)];
  let finish = kernel.writeElement([image, output, ...position], value);
  for (let axis = at.length - 1; axis > 0; axis--) {
    const size = plan.result[axis] as number;
    finish = [loop(builder, at[axis] as Variable, size, finish, axis === at.length - 1)];
  }
  const slowest = loopBetween(
    at[0] as Variable,
    builder.sub(own, start),
    builder.constant(perItem),
    finish,
    at.length === 1,
  );
  return kernel.finish(grid, plan.images * blocks, [
    loop(builder, column, columns / width, [loop(builder, panel, panels, tileBody)]),
    loop(builder, output, outputs, [slowest]),
  ]);
}

interface WindowTile {
  readonly rows: Buffer;
  readonly weights: Buffer;
  readonly offsets: Buffer;
  readonly block: Buffer;
  readonly from: Expression;
  readonly panel: Expression;
  readonly corner: Expression;
  readonly columns: number;
}

/** One register tile: `rows` output channels by `vectors` vectors of neighbouring positions. */
function windowTile(plan: Plan, builder: Builder, at: WindowTile): Statement[] {
  const { tile, lanes, context } = plan;
  const type = valueTypeOf(plan.dtype);
  const steps = plan.depth * sizeOf(plan.kernel);
  const k = loopIndex(builder, 'k', steps);
  const before: Statement[] = [];
  const after: Statement[] = [];
  // Named, so that the inner loop adds no more than the tap's offset.
  const from = builder.variable('from', 'i32', { min: 0 });
  before.push({ kind: 'let', variable: from, value: at.from });
  const base = builder.variable('at', 'i32', { min: 0 });
  const body: Statement[] = [
    { kind: 'let', variable: base, value: builder.add(from, builder.load(at.offsets, k)) },
  ];
  const columns: Variable[] = [];
  for (let v = 0; v < tile.vectors; v++) {
    const variable = builder.variable(`x${v}`, type, { lanes });
    const value = builder.load(at.rows, builder.offset(base, v * lanes), lanes);
    body.push({ kind: 'let', variable, value });
    columns.push(variable);
  }
  const weight = builder.scale(builder.add(builder.scale(at.panel, steps), k), tile.rows);
  for (let row = 0; row < tile.rows; row++) {
    const variable = builder.variable(`w${row}`, type, { lanes });
    const scalar = builder.load(at.weights, builder.offset(weight, row));
    body.push({ kind: 'let', variable, value: builder.splat(scalar, lanes) });
    columns.forEach((x, v) => {
      const sum = builder.variable(`sum${row}_${v}`, type, { lanes, mutable: true });
      before.push({ kind: 'declare', variable: sum, value: builder.constant(0, type, lanes) });
      const value = multiplyAdd(builder, context.target, variable, x, sum);
      body.push({ kind: 'assign', variable: sum, value });
      const cell = builder.offset(at.corner, row * at.columns + v * lanes);
      after.push({ kind: 'store', buffer: at.block, index: cell, value: sum });
    });
  }
  return [...before, loop(builder, k, steps, body), ...after];
}
