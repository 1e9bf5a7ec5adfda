// Convolutions of stride 1 without packing: the input is copied once into rows with their padding,
// and then every tap of the kernel is the same flat row at another offset, so that the register
// tile loads whole vectors of neighbouring results. The few results that straddle two rows are
// computed and dropped. Any kernel size and dilation, one to three space axes, one group.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import { flatten, unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Dimensions, dimensionsOf, geometryOf } from './convolution.ts';
import { loop, loopIndex, multiplyAdd, roundUp } from './loops.ts';
import { accumulatorOf, registerTileFor } from './product.ts';

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
  if (geometry.role === 'backwardFilter') {
    // Sums run per vector lane: not the same on every width, so not in strict numerics.
    return context.target.numerics === 'fast' && accumulatorOf(node.dtype) === 'float32';
  }
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

/** Flat length of the rows that windows start in: junk columns included, the last ones not. */
function rowSpan(plan: Pick<Plan, 'padded' | 'result'>): number {
  let span = 1;
  let stride = 1;
  for (let axis = plan.padded.length - 1; axis >= 0; axis--) {
    span += ((plan.result[axis] as number) - 1) * stride;
    stride *= plan.padded[axis] as number;
  }
  return span;
}

/** Offset of each tap in the padded rows. */
function tapOffsets(plan: Pick<Plan, 'kernel' | 'dilation' | 'padded'>): number[] {
  const offsets: number[] = [];
  const visit = (axis: number, base: number): void => {
    if (axis === plan.kernel.length) {
      offsets.push(base);
      return;
    }
    const stride = plan.padded.slice(axis + 1).reduce((product, size) => product * size, 1);
    for (let tap = 0; tap < (plan.kernel[axis] as number); tap++) {
      visit(axis + 1, base + tap * (plan.dilation[axis] as number) * stride);
    }
  };
  visit(0, 0);
  return offsets;
}

/**
 * Copies [images, channels, ...space] into rows with zeros around; the prologue fuses here. Each
 * channel takes `length` elements: what lies behind its rows is zero too.
 */
function padStage(
  context: ContractionContext,
  name: string,
  operand: number,
  target: Scratch,
  rows: { before: readonly number[]; padded: readonly number[]; length: number },
): Stage {
  const { before, padded, length } = rows;
  const kernel = context.newKernel(`${context.name}_${name}`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const { shape } = context.node.inputs[operand] as Node;
  const [images, channels, ...space] = shape as readonly [number, number, ...number[]];
  const grid = loopIndex(builder, 'item', images * channels);
  const at = padded.map((size, axis) => loopIndex(builder, `s${axis}`, size));
  let inside: Expression = builder.constant(1, 'bool');
  const indices = at.map((position, axis) => {
    const size = space[axis] as number;
    const index = builder.offset(position, -(before[axis] as number));
    inside = builder.and(inside, builder.compare('ge', index, builder.constant(0)));
    inside = builder.and(inside, builder.compare('lt', index, builder.constant(size)));
    return builder.min(builder.max(index, builder.constant(0)), builder.constant(size - 1));
  });
  const image = builder.div(grid, builder.constant(channels));
  const channel = builder.rem(grid, builder.constant(channels));
  const type = valueTypeOf(target.dtype);
  const value = builder.convert(kernel.read(operand, [image, channel, ...indices]), type);
  const position = builder.add(builder.scale(grid, length), flatten(builder, at, padded));
  let body: Statement = {
    kind: 'store',
    buffer,
    index: position,
    value: builder.select(inside, value, builder.constant(0, type)),
  };
  for (let axis = at.length - 1; axis >= 0; axis--) {
    const size = padded[axis] as number;
    body = loop(builder, at[axis] as Variable, size, [body], axis === at.length - 1);
  }
  const rest = length - sizeOf(padded);
  const behind = loopIndex(builder, 'behind', rest);
  const clear: Statement = {
    kind: 'store',
    buffer,
    index: builder.offset(builder.add(builder.scale(grid, length), behind), sizeOf(padded)),
    value: builder.constant(0, type),
  };
  const clearing = rest > 0 ? [loop(builder, behind, rest, [clear])] : [];
  return kernel.finish(grid, images * channels, [body, ...clearing]);
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

/** Writes the offset of each (channel, tap) in the padded rows: the inner loop's only indirection. */
function offsetStage(
  context: ContractionContext,
  target: Scratch,
  depth: number,
  rows: number,
  taps: number[],
) {
  const kernel = context.newKernel(`${context.name}_offsets`);
  const { builder } = kernel;
  const buffer = kernel.scratch(target, 'write');
  const grid = loopIndex(builder, 'item', 1);
  const channel = loopIndex(builder, 'channel', depth);
  const stores = taps.map((offset, tap): Statement => ({
    kind: 'store',
    buffer,
    index: builder.offset(builder.scale(channel, taps.length), tap),
    value: builder.offset(builder.scale(channel, rows), offset),
  }));
  return kernel.finish(grid, 1, [loop(builder, channel, depth, stores)]);
}

/** Convolutions of stride 1 from padded rows. */
export const directConvolution: ContractionSchedule = {
  name: 'direct convolution',
  usable: isUsable,
  lower: (context) => {
    const geometry = geometryOf(context.node);
    if (geometry === null) throw internalError('direct convolution of something else');
    return geometry.role === 'backwardFilter'
      ? filterStages(geometry, context)
      : windowStages(geometry, context);
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
  return [
    padStage(context, 'pad', 0, rows, {
      before: plan.before,
      padded: plan.padded,
      length: sizeOf(plan.padded),
    }),
    weightStage(plan, geometry.role === 'backwardData', weights),
    offsetStage(context, offsets, plan.depth, sizeOf(plan.padded), tapOffsets(plan)),
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
  const slowest: Statement = {
    kind: 'for',
    index: at[0] as Variable,
    start: builder.sub(own, start),
    end: builder.constant(perItem),
    step: 1,
    body: finish,
    vector: at.length === 1,
  };
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

// ---- derivative by the filter -----------------------------------------------------------------

/** Groups of images whose sums are kept apart; a function of the shape alone. */
const IMAGE_GROUPS = 16;

interface FilterPlan {
  readonly context: ContractionContext;
  readonly d: Dimensions;
  readonly lanes: number;
  readonly rows: number;
  readonly columns: number;
  /** Elements of a channel of x and of dy in their rows. */
  readonly inputLength: number;
  readonly span: number;
  readonly groups: number;
  readonly width: number;
}

/**
 * dw[output, (input, tap)] as dot products of flat rows: dy laid out on x's padded rows with zeros
 * in the junk columns, against x shifted by the tap's offset. Sums run in vector lanes.
 */
function filterStages(geometry: ConvolutionGeometry, context: ContractionContext): Stage[] {
  const { node } = context;
  const d = dimensionsOf(node, geometry);
  const lanes = context.target.vectorBytes / 4;
  const reach = d.kernel.map((size, axis) => (geometry.dilation[axis] as number) * (size - 1));
  const padded = d.result.map((size, axis) => size + (reach[axis] as number));
  const before = d.kernel.map((_, axis) => geometry.padding[2 * axis] as number);
  // dy occupies the first rows of the padded space; the rest of its last rows is zero.
  const dyPadded = [d.result[0] as number, ...padded.slice(1)];
  const tile = registerTileFor(context.target);
  const taps = tapOffsets({ kernel: d.kernel, dilation: geometry.dilation, padded });
  const span = roundUp(sizeOf(dyPadded), lanes);
  const plan: FilterPlan = {
    context,
    d,
    lanes,
    rows: tile.rows,
    columns: tile.vectors,
    // The last vector of the last tap ends here.
    inputLength: Math.max(sizeOf(padded), span + Math.max(...taps)),
    span,
    groups: Math.min(IMAGE_GROUPS, d.images),
    width: d.inputs * sizeOf(d.kernel),
  };
  const rows: Scratch = {
    name: 'rows',
    dtype: 'float32',
    length: d.images * d.inputs * plan.inputLength,
  };
  const grads: Scratch = {
    name: 'grads',
    dtype: 'float32',
    length: d.images * d.outputs * span,
  };
  const offsets: Scratch = {
    name: 'offsets',
    dtype: 'int32',
    length: roundUp(plan.width, plan.columns),
  };
  const partial: Scratch = {
    name: 'partial',
    dtype: 'float32',
    length: plan.groups * d.outputs * plan.width,
  };
  const zeros = dyPadded.map(() => 0);
  return [
    padStage(context, 'padInput', 0, rows, { before, padded, length: plan.inputLength }),
    padStage(context, 'padGradient', 1, grads, { before: zeros, padded: dyPadded, length: span }),
    offsetStage(context, offsets, d.inputs, plan.inputLength, taps),
    dotStage(plan, { rows, grads, offsets, partial }),
    sumGroupsStage(plan, partial),
  ];
}

/** Grid items: groups of images; each makes one whole partial derivative. */
function dotStage(
  plan: FilterPlan,
  scratch: { rows: Scratch; grads: Scratch; offsets: Scratch; partial: Scratch },
): Stage {
  const { context, d, lanes, rows, columns, width, groups } = plan;
  const kernel = context.newKernel(`${context.name}_dots`);
  const { builder } = kernel;
  const rowTiles = Math.ceil(d.outputs / rows);
  const columnTiles = Math.ceil(width / columns);
  const cells = rowTiles * columnTiles * rows * columns * lanes;
  const block = kernel.privateArray('sums', 'float32', cells);
  const grid = loopIndex(builder, 'group', groups);
  const clear = loopIndex(builder, 'clear', cells);
  const zero: Statement = {
    kind: 'store',
    buffer: block,
    index: clear,
    value: builder.constant(0, 'f32'),
  };
  const image = builder.variable('image', 'i32', { min: 0, max: d.images - 1 });
  const start = builder.div(builder.scale(grid, d.images), builder.constant(groups));
  const end = builder.div(
    builder.offset(builder.scale(grid, d.images), d.images),
    builder.constant(groups),
  );
  const rowTile = loopIndex(builder, 'rowTile', rowTiles);
  const columnTile = loopIndex(builder, 'columnTile', columnTiles);
  const body = dotTile(plan, builder, {
    rows: kernel.scratch(scratch.rows, 'read'),
    grads: kernel.scratch(scratch.grads, 'read'),
    offsets: kernel.scratch(scratch.offsets, 'read'),
    block,
    image,
    rowTile,
    columnTile,
    columnTiles,
  });
  const partial = kernel.scratch(scratch.partial, 'write');
  return kernel.finish(grid, groups, [
    loop(builder, clear, cells, [zero], true),
    {
      kind: 'for',
      index: image,
      start,
      end,
      step: 1,
      body: [loop(builder, columnTile, columnTiles, [loop(builder, rowTile, rowTiles, body)])],
    },
    ...joinLanes(plan, builder, { block, partial, grid, columnTiles }),
  ]);
}

interface DotTile {
  readonly rows: Buffer;
  readonly grads: Buffer;
  readonly offsets: Buffer;
  readonly block: Buffer;
  readonly image: Expression;
  readonly rowTile: Expression;
  readonly columnTile: Expression;
  readonly columnTiles: number;
}

/** One register tile of vector sums over one image. */
function dotTile(plan: FilterPlan, builder: Builder, at: DotTile): Statement[] {
  const { d, lanes, rows, columns, span, context, width } = plan;
  const p = builder.variable('p', 'i32', { min: 0, max: Math.max(0, span - 1) });
  const imageRows = builder.scale(at.image, d.inputs * plan.inputLength);
  const tileCell = builder.scale(
    builder.add(builder.scale(at.rowTile, at.columnTiles), at.columnTile),
    rows * columns * lanes,
  );
  const before: Statement[] = [];
  const body: Statement[] = [];
  const after: Statement[] = [];
  const fromX: Variable[] = [];
  for (let column = 0; column < columns; column++) {
    const index = builder.min(
      builder.offset(builder.scale(at.columnTile, columns), column),
      builder.constant(width - 1),
    );
    const base = builder.variable(`base${column}`, 'i32', { min: 0 });
    const offset = builder.load(at.offsets, index);
    before.push({ kind: 'let', variable: base, value: builder.add(imageRows, offset) });
    const x = builder.variable(`x${column}`, 'f32', { lanes });
    body.push({
      kind: 'let',
      variable: x,
      value: builder.load(at.rows, builder.add(base, p), lanes),
    });
    fromX.push(x);
  }
  for (let row = 0; row < rows; row++) {
    const output = builder.min(
      builder.offset(builder.scale(at.rowTile, rows), row),
      builder.constant(d.outputs - 1),
    );
    const gradRow = builder.scale(builder.add(builder.scale(at.image, d.outputs), output), span);
    const g = builder.variable(`g${row}`, 'f32', { lanes });
    body.push({
      kind: 'let',
      variable: g,
      value: builder.load(at.grads, builder.add(gradRow, p), lanes),
    });
    fromX.forEach((x, column) => {
      const cell = builder.offset(tileCell, (row * columns + column) * lanes);
      const sum = builder.variable(`sum${row}_${column}`, 'f32', { lanes, mutable: true });
      before.push({
        kind: 'declare',
        variable: sum,
        value: builder.load(at.block, cell, lanes),
      });
      const value = multiplyAdd(builder, context.target, g, x, sum);
      body.push({ kind: 'assign', variable: sum, value });
      after.push({ kind: 'store', buffer: at.block, index: cell, value: sum });
    });
  }
  const whole: Statement = {
    kind: 'for',
    index: p,
    start: builder.constant(0),
    end: builder.constant(span),
    step: lanes,
    body,
  };
  return [...before, whole, ...after];
}

/** Adds the lanes of every sum and writes the group's partial derivative. */
function joinLanes(
  plan: FilterPlan,
  builder: Builder,
  at: { block: Buffer; partial: Buffer; grid: Expression; columnTiles: number },
): Statement[] {
  const { d, lanes, rows, columns, width } = plan;
  const output = loopIndex(builder, 'output', d.outputs);
  const column = loopIndex(builder, 'column', width);
  const divided = (value: Expression, by: number) => ({
    tile: builder.div(value, builder.constant(by)),
    rest: builder.rem(value, builder.constant(by)),
  });
  const row = divided(output, rows);
  const across = divided(column, columns);
  const tile = builder.add(builder.scale(row.tile, at.columnTiles), across.tile);
  const within = builder.add(builder.scale(row.rest, columns), across.rest);
  const cell = builder.scale(builder.add(builder.scale(tile, rows * columns), within), lanes);
  let values = Array.from({ length: lanes }, (_, lane) =>
    builder.load(at.block, builder.offset(cell, lane)),
  );
  while (values.length > 1) {
    const half = values.length / 2;
    values = values
      .slice(0, half)
      .map((value, i) => builder.add(value, values[i + half] as Expression));
  }
  const index = builder.add(
    builder.scale(builder.add(builder.scale(at.grid, d.outputs), output), width),
    column,
  );
  const store: Statement = {
    kind: 'store',
    buffer: at.partial,
    index,
    value: values[0] as Expression,
  };
  return [loop(builder, output, d.outputs, [loop(builder, column, width, [store])])];
}

/** Adds the groups' partial derivatives in order, and runs the epilogue. */
function sumGroupsStage(plan: FilterPlan, scratch: Scratch): Stage {
  const { context, d, width, groups } = plan;
  const kernel = context.newKernel(`${context.name}_sumGroups`);
  const { builder } = kernel;
  const partial = kernel.scratch(scratch, 'read');
  const grid = loopIndex(builder, 'output', d.outputs);
  const column = loopIndex(builder, 'column', width);
  let sum: Expression | undefined;
  for (let group = 0; group < groups; group++) {
    const index = builder.add(
      builder.offset(builder.scale(grid, width), group * d.outputs * width),
      column,
    );
    const value = builder.load(partial, index);
    sum = sum === undefined ? value : builder.add(sum, value);
  }
  const [input, ...tap] = unflatten(builder, column, [d.inputs, ...d.kernel]) as [
    Expression,
    ...Expression[],
  ];
  const store = kernel.writeElement([grid, input, ...tap], sum as Expression);
  return kernel.finish(grid, d.outputs, [loop(builder, column, width, store, true)]);
}
