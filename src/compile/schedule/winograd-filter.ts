// The derivative of a convolution of 3 x 3 windows by its filter, by Winograd's minimal filtering:
// F(3x3, 2x2) and F(3x3, 4x4), whose filters are tiles of the result's gradient. Tiles of both
// operands are transformed; dot products over all tiles, position by position, are transformed back.
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import type { ContractionContext } from '../lower/contraction.ts';
import { multiplyAddsPerNanosecond } from '../lower/cost.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { dimensionsOf } from './convolution.ts';
import { loop, loopIndex, multiplyAdd, roundUp } from './loops.ts';
import { tileCost, tileStrideOf, type WinogradPlan, winogradPlan } from './winograd-plan.ts';
import { phaseStage, tileStage } from './winograd-stages.ts';
import { type ShortConvolution, TransformWriter } from './winograd-transform.ts';

export interface FilterPlan {
  readonly context: ContractionContext;
  readonly transform: ShortConvolution;
  readonly positions: number;
  /** Tiles of the input and of the result's gradient. */
  readonly input: WinogradPlan;
  readonly gradient: WinogradPlan;
  /** Register tile of dot products: outputs by inputs, and how many of each there are. */
  readonly rows: number;
  readonly columns: number;
  readonly rowTiles: number;
  readonly columnTiles: number;
}

export function filterPlan(
  context: ContractionContext,
  geometry: ConvolutionGeometry,
  transform: ShortConvolution,
): FilterPlan {
  const d = dimensionsOf(context.node, geometry);
  const shape = winogradPlan(context, geometry, { ...transform, outputs: transform.taps });
  const block = roundUp(Math.min(shape.tiles, 1024), shape.lanes);
  const blocks = Math.ceil(shape.tiles / block);
  // Rows an odd number of cache lines apart, with a gap for what runs write past their ends.
  const lines = Math.ceil((block + shape.sourceLanes) / 16);
  const tilePitch = (lines + ((lines + 1) % 2)) * 16;
  const input: WinogradPlan = {
    ...shape,
    fused: false,
    block,
    blocks,
    tilePitch,
    tileStride: tileStrideOf(d.inputs, tilePitch),
  };
  const gradient: WinogradPlan = {
    ...input,
    window: transform.taps,
    tileMatrix: transform.filter,
    depth: d.outputs,
    source: shape.result,
    before: [0, 0],
    tileStride: tileStrideOf(d.outputs, tilePitch),
  };
  const { rows, columns } = dotTile(context.target);
  return {
    context,
    transform,
    positions: transform.size ** 2,
    input,
    gradient,
    rows,
    columns,
    rowTiles: Math.ceil(d.outputs / rows),
    columnTiles: Math.ceil(d.inputs / columns),
  };
}

/** The register tile of dot products with the most arithmetic per load. */
function dotTile(target: Target): { rows: number; columns: number } {
  let best = { rows: 1, columns: 1 };
  for (let rows = 1; rows <= 6; rows++) {
    for (let columns = 1; columns <= 6; columns++) {
      const operands = target.foldsSplats === true ? Math.min(rows, columns) + 1 : rows + columns;
      if (rows * columns + operands > target.vectorRegisters) continue;
      const intensity = (rows * columns) / (rows + columns);
      if (intensity > (best.rows * best.columns) / (best.rows + best.columns)) {
        best = { rows, columns };
      }
    }
  }
  return best;
}

/** Estimated nanoseconds of all kernels on one thread. */
export function filterCost(plan: FilterPlan): number {
  const { context, input, positions, rowTiles, columnTiles, rows, columns } = plan;
  const dots = positions * rowTiles * rows * columnTiles * columns;
  const peak = multiplyAddsPerNanosecond(context.target);
  return (
    (dots * roundUp(input.tiles, input.lanes)) / (0.75 * peak) +
    // Every dot product ends in a sum of lanes, and a few operations to transform it back.
    1.3 * dots +
    tileCost(input) +
    tileCost(plan.gradient)
  );
}

export function filterStages(plan: FilterPlan): Stage[] {
  const { positions, input, gradient } = plan;
  const float = (name: string, length: number): Scratch => ({ name, dtype: 'float32', length });
  const phasesOf = (tiles: WinogradPlan): number =>
    tiles.sets * tiles.depth * tiles.step ** 2 * tiles.plane + tiles.sourceLanes;
  const tilesOf = (tiles: WinogradPlan): number => tiles.blocks * positions * tiles.tileStride;
  const inputPhases = float('inputPhases', phasesOf(input));
  const gradientPhases = float('gradientPhases', phasesOf(gradient));
  const inputTiles = float('inputTiles', tilesOf(input));
  const gradientTiles = float('gradientTiles', tilesOf(gradient));
  const cells = plan.rowTiles * plan.rows * plan.columnTiles * plan.columns;
  // Vectors of the last row read past its end.
  const dots = float('dots', positions * cells + input.lanes);
  return [
    phaseStage(input, inputPhases, 0),
    phaseStage(gradient, gradientPhases, 1),
    tileStage(input, inputPhases, inputTiles),
    tileStage(gradient, gradientPhases, gradientTiles),
    dotStage(plan, { inputTiles, gradientTiles, dots }),
    finishStage(plan, dots),
  ];
}

/** Grid items: (position, tile of outputs), each with all inputs: dots [position][output][input]. */
function dotStage(
  plan: FilterPlan,
  scratch: { inputTiles: Scratch; gradientTiles: Scratch; dots: Scratch },
): Stage {
  const { context, positions, rowTiles, columnTiles, rows, columns, input, gradient } = plan;
  const kernel = context.newKernel(`${context.name}_dots`);
  const { builder } = kernel;
  const grid = loopIndex(builder, 'item', positions * rowTiles);
  const position = builder.div(grid, builder.constant(rowTiles));
  const rowTile = builder.rem(grid, builder.constant(rowTiles));
  const columnTile = loopIndex(builder, 'columnTile', columnTiles);
  const block = loopIndex(builder, 'block', input.blocks);
  const k = builder.variable('k', 'i32', { min: 0, max: input.block - input.lanes });
  const lineOf = (tiles: WinogradPlan, buffer: Buffer, channel: Expression): Expression => {
    const safe = builder.min(channel, builder.constant(tiles.depth - 1));
    const start = builder.add(builder.scale(block, positions), position);
    const line = builder.add(
      builder.scale(start, tiles.tileStride),
      builder.scale(safe, tiles.tilePitch),
    );
    return builder.load(buffer, builder.add(line, k), tiles.lanes);
  };
  const inputTiles = kernel.scratch(scratch.inputTiles, 'read');
  const gradientTiles = kernel.scratch(scratch.gradientTiles, 'read');
  const dots = kernel.scratch(scratch.dots, 'write');
  const before: Statement[] = [];
  const inner: Statement[] = [];
  const after: Statement[] = [];
  const named = (name: string, value: Expression): Expression => {
    const variable = builder.variable(name, 'f32', { lanes: value.lanes });
    inner.push({ kind: 'let', variable, value });
    return variable;
  };
  const gradients = Array.from({ length: rows }, (_, row) => {
    const channel = builder.offset(builder.scale(rowTile, rows), row);
    return named(`g${row}`, lineOf(gradient, gradientTiles, channel));
  });
  for (let column = 0; column < columns; column++) {
    const channel = builder.offset(builder.scale(columnTile, columns), column);
    const x = named(`x${column}`, lineOf(input, inputTiles, channel));
    gradients.forEach((g, row) => {
      const type = { lanes: input.lanes, mutable: true };
      const sum = builder.variable(`sum${row}_${column}`, 'f32', type);
      before.push({
        kind: 'declare',
        variable: sum,
        value: builder.constant(0, 'f32', input.lanes),
      });
      inner.push({
        kind: 'assign',
        variable: sum,
        value: multiplyAdd(builder, context.target, g, x, sum),
      });
      const output = builder.add(
        builder.scale(position, rowTiles * rows),
        builder.offset(builder.scale(rowTile, rows), row),
      );
      const index = builder.add(builder.scale(output, columnTiles * columns), channel);
      after.push(...storeSum(builder, dots, index, sum));
    });
  }
  const sums: Statement = {
    kind: 'for',
    index: k,
    start: builder.constant(0),
    end: builder.constant(input.block),
    step: input.lanes,
    body: inner,
  };
  return kernel.finish(grid, positions * rowTiles, [
    loop(builder, columnTile, columnTiles, [
      ...before,
      loop(builder, block, input.blocks, [sums]),
      ...after,
    ]),
  ]);
}

/** Stores the sum of a vector's lanes: halves are added until one is left. */
function storeSum(
  builder: Builder,
  buffer: Buffer,
  index: Expression,
  vector: Expression,
): Statement[] {
  const statements: Statement[] = [];
  let value = vector;
  while (value.lanes > 1) {
    const { lanes } = value;
    const half = (from: number): Expression =>
      builder.lanes(
        Array.from({ length: lanes / 2 }, (_, lane) => builder.extract(value, from + lane)),
      );
    // Vectors of two lanes are no type of every target.
    const narrow = lanes > 4;
    const sum = narrow
      ? builder.add(half(0), half(lanes / 2))
      : Array.from({ length: lanes }, (_, lane) => builder.extract(value, lane)).reduce((a, b) =>
          builder.add(a, b),
        );
    const variable = builder.variable('half', 'f32', { lanes: sum.lanes });
    statements.push({ kind: 'let', variable, value: sum });
    value = variable;
  }
  return [...statements, { kind: 'store', buffer, index, value }];
}

/** Transforms the dot products of each output back, and runs the epilogue. */
function finishStage(plan: FilterPlan, scratch: Scratch): Stage {
  const { context, transform, rowTiles, columnTiles, rows, columns, input } = plan;
  const { size, outputs: taps } = transform;
  const { lanes } = input;
  const outputs = plan.gradient.depth;
  const kernel = context.newKernel(`${context.name}_filter`);
  const { builder } = kernel;
  const dots = kernel.scratch(scratch, 'read');
  const grid = loopIndex(builder, 'output', outputs);
  const vectors = Math.ceil(input.depth / lanes);
  const results = kernel.privateArray('results', 'float32', taps * taps * vectors * lanes);
  const vector = loopIndex(builder, 'vector', vectors);
  const first = builder.scale(vector, lanes);
  const line = builder.add(builder.scale(grid, columnTiles * columns), first);
  const statements: Statement[] = [];
  const values = Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (__, j) => {
      const position = (i * size + j) * rowTiles * rows * columnTiles * columns;
      const value = builder.load(dots, builder.offset(line, position), lanes);
      const variable = builder.variable(`m${i}${j}`, 'f32', { lanes });
      statements.push({ kind: 'let', variable, value });
      return variable;
    }),
  );
  const made = new TransformWriter(builder, context.target).square(transform.result, values);
  statements.push(...made.statements);
  made.values.flat().forEach((value, tap) => {
    const index = builder.offset(first, tap * vectors * lanes);
    statements.push({ kind: 'store', buffer: results, index, value });
  });
  const channel = loopIndex(builder, 'channel', input.depth);
  const writes = made.values.flat().flatMap((_, tap) => {
    const at = [Math.floor(tap / taps), tap % taps].map((index) => builder.constant(index));
    const value = builder.load(results, builder.offset(channel, tap * vectors * lanes));
    return kernel.writeElement([grid, channel, ...at], value);
  });
  return kernel.finish(grid, outputs, [
    loop(builder, vector, vectors, statements),
    loop(builder, channel, input.depth, writes),
  ]);
}
