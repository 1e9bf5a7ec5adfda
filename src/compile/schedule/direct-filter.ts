// Derivative of a stride-1 convolution by its filter, without packing: dot products of flat rows.
// dy lies on x's padded rows with zeros in the junk columns, against x shifted by the tap's offset.
import { sizeOf } from '../../base/shape.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { type Dimensions, dimensionsOf } from './convolution.ts';
import { loop, loopIndex, multiplyAdd, roundUp } from './loops.ts';
import { offsetStage, padStage, tapOffsets } from './padded-rows.ts';
import { registerTileFor } from './product.ts';

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
export function filterStages(geometry: ConvolutionGeometry, context: ContractionContext): Stage[] {
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
