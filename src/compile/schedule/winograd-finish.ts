// The end of a Winograd convolution: products are transformed back, the epilogue runs, and whole
// tiles are written as short vectors.
import type { Buffer, Expression, Variable } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { ContractionKernel } from '../lower/contraction.ts';
import { loop, loopBetween, loopIndex } from './loops.ts';
import type { WinogradPlan } from './winograd-plan.ts';
import { forRuns } from './winograd-stages.ts';
import { TransformWriter } from './winograd-transform.ts';

/** The results of some outputs for a block of tiles. */
export interface Finish {
  readonly products: Buffer;
  readonly firstPanel: Expression;
  readonly start: Expression;
  readonly end: Expression;
}

/** Transforms the products of a part back, output by output, and runs the epilogue. */
export function finishPart(
  plan: WinogradPlan,
  kernel: ContractionKernel,
  at: Finish,
): readonly Statement[] {
  const { transform, lanes, block, rows, outputs } = plan;
  const { builder } = kernel;
  const { size, outputs: step } = transform;
  const own = loopIndex(builder, 'own', plan.partPanels * rows);
  const first = builder.scale(at.firstPanel, rows);
  const left = builder.sub(builder.constant(outputs), first);
  // Never more than there are: see above.
  const output = builder.min(builder.add(first, own), builder.constant(outputs - 1));
  const results = kernel.privateArray('results', 'float32', step * step * block);
  const vector = loopIndex(builder, 'vector', block / lanes);
  const column = builder.scale(vector, lanes);
  const statements: Statement[] = [];
  const values = Array.from({ length: size }, (_, i) =>
    Array.from({ length: size }, (__, j) => {
      const position = (i * size + j) * plan.productStride;
      const from = builder.add(builder.scale(own, block), column);
      const value = builder.load(at.products, builder.offset(from, position), lanes);
      const variable = builder.variable(`m${i}${j}`, 'f32', { lanes });
      statements.push({ kind: 'let', variable, value });
      return variable;
    }),
  );
  const writer = new TransformWriter(builder, plan.context.target);
  const made = writer.square(transform.result, values);
  statements.push(...made.statements);
  made.values.flat().forEach((value, which) => {
    const index = builder.offset(column, which * block);
    statements.push({ kind: 'store', buffer: results, index, value });
  });
  const used = builder.offset(builder.sub(at.end, at.start), lanes - 1);
  const body: Statement[] = [
    loopBetween(
      vector,
      builder.constant(0),
      builder.div(used, builder.constant(lanes)),
      statements,
    ),
    writeTiles({ plan, kernel, ...at, results, output }),
  ];
  const end = builder.min(left, builder.constant(plan.partPanels * rows));
  return [loopBetween(own, builder.constant(0), end, body)];
}

/** Results [row][column][tile] of one output. */
interface Results extends Finish {
  readonly plan: WinogradPlan;
  readonly kernel: ContractionKernel;
  readonly results: Buffer;
  readonly output: Expression;
}

/** Writes the results of one output, run by run and image by image. */
function writeTiles(at: Results): Statement {
  const { plan, kernel } = at;
  const { group, tilesHigh, tilesWide, result } = plan;
  const { builder } = kernel;
  const step = plan.transform.outputs;
  // Tiles side by side whose rows make one short vector.
  const together = Math.max(1, 4 / step);
  const wholeWide = Math.floor(result[1] / step);
  return forRuns(plan, builder, at, (run, from, to) => {
    const set = builder.div(run, builder.constant(tilesHigh));
    const high = builder.rem(run, builder.constant(tilesHigh));
    const image = loopIndex(builder, 'image', group);
    const firstOfRun = builder.scale(run, plan.run);
    /** The first tile column of the image that is not before `tile`. */
    const columnFrom = (tile: Expression): Expression => {
      const inRun = builder.sub(builder.sub(tile, firstOfRun), image);
      return builder.div(builder.offset(inRun, group - 1), builder.constant(group));
    };
    const bound = (name: string): Variable =>
      builder.variable(name, 'i32', { min: 0, max: tilesWide });
    const [first, end, whole] = [bound('first'), bound('end'), bound('whole')];
    const row: TileRow = {
      ...at,
      image: builder.add(builder.scale(set, group), image),
      y: builder.scale(high, step),
      cell: builder.add(builder.sub(firstOfRun, at.start), image),
    };
    const inside = builder.min(end, builder.constant(wholeWide));
    const available = builder.max(builder.sub(inside, first), builder.constant(0));
    const used = builder.sub(available, builder.rem(available, builder.constant(together)));
    const limit = builder.offset(row.y, step);
    const full = builder.compare('le', limit, builder.constant(result[0]));
    const body: Statement[] = [
      { kind: 'let', variable: first, value: columnFrom(from) },
      { kind: 'let', variable: end, value: columnFrom(to) },
    ];
    if (wholeWide < together) body.push(writeElements(row, first, end));
    else {
      const fast: Statement[] = [
        { kind: 'let', variable: whole, value: builder.add(first, used) },
        writeVectors(row, first, whole, together),
        writeElements(row, whole, end),
      ];
      if (full.kind === 'constant' && full.value !== 0) body.push(...fast);
      else body.push(branch(full, fast, [writeElements(row, first, end)]));
    }
    return [loop(builder, image, group, body)];
  });
}

/** A row of tiles of one image. */
interface TileRow extends Results {
  readonly image: Expression;
  /** The first row of results. */
  readonly y: Expression;
  /** Where the row's first tile would lie in the block. */
  readonly cell: Expression;
}

/** Whole tiles, `together` side by side: each row of them is a vector. */
function writeVectors(
  row: TileRow,
  first: Expression,
  end: Expression,
  together: number,
): Statement {
  const { plan, kernel } = row;
  const { builder } = kernel;
  const step = plan.transform.outputs;
  const wide = builder.variable('wide', 'i32', { min: 0, max: plan.tilesWide - together });
  const cell = builder.add(row.cell, builder.scale(wide, plan.group));
  const body = Array.from({ length: step }, (_, i) => {
    const lanes = Array.from({ length: step * together }, (__, lane) => {
      const tile = Math.floor(lane / step) * plan.group;
      const part = (i * step + (lane % step)) * plan.block;
      return builder.load(row.results, builder.offset(cell, part + tile));
    });
    const y = builder.offset(row.y, i);
    const column = builder.scale(wide, step);
    return kernel.writeVector(
      (lane) => [row.image, row.output, y, builder.add(column, lane)],
      builder.lanes(lanes),
    );
  }).flat();
  return { kind: 'for', index: wide, start: first, end, step: together, body };
}

/** Tiles element by element, as far as there are results. */
function writeElements(row: TileRow, first: Expression, end: Expression): Statement {
  const { plan, kernel } = row;
  const { builder } = kernel;
  const [height, width] = plan.result;
  const step = plan.transform.outputs;
  const wide = builder.variable('wide', 'i32', { min: 0, max: plan.tilesWide - 1 });
  const i = loopIndex(builder, 'i', step);
  const j = loopIndex(builder, 'j', step);
  const x = builder.scale(wide, step);
  const within = (index: Expression, size: number): Expression =>
    builder.min(index, builder.constant(size - 1));
  const upTo = (
    index: Variable,
    from: Expression,
    size: number,
    body: readonly Statement[],
  ): Statement => {
    const left = builder.sub(builder.constant(size), from);
    const end = builder.min(left, builder.constant(step));
    return loopBetween(index, builder.constant(0), end, body);
  };
  const part = builder.scale(builder.add(builder.scale(i, step), j), plan.block);
  const cell = builder.add(row.cell, builder.scale(wide, plan.group));
  const element = kernel.writeElement(
    [
      row.image,
      row.output,
      within(builder.add(row.y, i), height),
      within(builder.add(x, j), width),
    ],
    builder.load(row.results, builder.add(cell, part)),
  );
  const body = [upTo(i, row.y, height, [upTo(j, x, width, element)])];
  return loopBetween(wide, first, end, body);
}
