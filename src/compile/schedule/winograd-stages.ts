// The kernels before the products of a Winograd convolution: filters and tiles are transformed.
import type { Builder } from '../../ir/builder.ts';
import type { Buffer, Expression } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { loop, loopIndex } from './loops.ts';
import { largestDivisor, type WinogradPlan } from './winograd-plan.ts';
import { TransformWriter } from './winograd-transform.ts';

/**
 * Transforms the filters into panels [part][position][panel of the part][depth][rows], zero beyond the
 * last output: as they are read, since those of deep layers come from memory at each use.
 */
export function filterStage(plan: WinogradPlan, scratch: Scratch): Stage {
  const { context, transform, rows, depth, outputs } = plan;
  const { taps } = transform;
  const kernel = context.newKernel(`${context.name}_filters`);
  const { builder } = kernel;
  const buffer = kernel.scratch(scratch, 'write');
  const grid = loopIndex(builder, 'panel', plan.panels);
  const channel = loopIndex(builder, 'channel', depth);
  const row = loopIndex(builder, 'row', rows);
  const output = builder.add(builder.scale(grid, rows), row);
  const safe = builder.min(output, builder.constant(outputs - 1));
  const inside = builder.compare('lt', output, builder.constant(outputs));
  const zero = builder.constant(0, 'f32');
  const statements: Statement[] = [];
  const values = Array.from({ length: taps }, (_, i) =>
    Array.from({ length: taps }, (__, j) => {
      const at = plan.backward ? [taps - 1 - i, taps - 1 - j] : [i, j];
      const tap = at.map((index) => builder.constant(index));
      const value = kernel.read(
        1,
        plan.backward ? [channel, safe, ...tap] : [safe, channel, ...tap],
      );
      const variable = builder.variable(`w${i}${j}`, 'f32');
      const masked = builder.select(inside, value, zero);
      statements.push({ kind: 'let', variable, value: masked });
      return variable;
    }),
  );
  const writer = new TransformWriter(builder, context.target);
  const made = writer.square(transform.filter, values);
  const part = builder.div(grid, builder.constant(plan.partPanels));
  const within = builder.rem(grid, builder.constant(plan.partPanels));
  const first = builder.scale(part, plan.positions * plan.filterStride);
  const line = builder.scale(builder.add(builder.scale(within, depth), channel), rows);
  const start = builder.add(builder.add(first, line), row);
  const stores = made.values.flat().map((value, position): Statement => {
    const index = builder.offset(start, position * plan.filterStride);
    return { kind: 'store', buffer, index, value };
  });
  const body = [...statements, ...made.statements, ...stores];
  return kernel.finish(grid, plan.panels, [
    loop(builder, channel, depth, [loop(builder, row, rows, body, true)]),
  ]);
}

/**
 * Copies the source with its padding, apart by phases: element (y, x) of a channel goes to plane
 * (y % outputs, x % outputs) at (y / outputs, x / outputs, image of the group). What neighbouring
 * tiles read of a plane is then consecutive. The prologue fuses here.
 */
export function phaseStage(plan: WinogradPlan, scratch: Scratch, operand = 0): Stage {
  const { context, step, depth, group, plane, tilesHigh, tilesWide } = plan;
  const kernel = context.newKernel(`${context.name}_phases${operand}`);
  const { builder } = kernel;
  const buffer = kernel.scratch(scratch, 'write');
  const items = plan.sets * depth;
  const grid = loopIndex(builder, 'item', items);
  const set = builder.div(grid, builder.constant(depth));
  const channel = builder.rem(grid, builder.constant(depth));
  const high = loopIndex(builder, 'high', tilesHigh + 1);
  const phase = loopIndex(builder, 'phase', step);
  const rowLength = (tilesWide + 1) * group;
  const planes = builder.scale(builder.add(builder.scale(grid, step), phase), step * plane);
  const line = builder.add(planes, builder.scale(high, rowLength));
  const [height, width] = plan.source;
  const [above, left] = plan.before;
  // A row of each image with zeros around it.
  const padded = (tilesWide + 1) * step;
  const row = kernel.privateArray('row', 'float32', padded * group);
  const y = builder.offset(builder.add(builder.scale(high, step), phase), -above);
  const inside = builder.and(
    builder.compare('ge', y, builder.constant(0)),
    builder.compare('lt', y, builder.constant(height)),
  );
  const safe = builder.min(builder.max(y, builder.constant(0)), builder.constant(height - 1));
  const image = loopIndex(builder, 'image', group);
  const x = loopIndex(builder, 'x', width);
  const from = builder.add(builder.scale(set, group), image);
  const copy: Statement = {
    kind: 'store',
    buffer: row,
    index: builder.offset(builder.add(builder.scale(image, padded), x), left),
    value: kernel.read(operand, [from, channel, safe, x]),
  };
  const copies = [
    loop(builder, image, group, [loop(builder, x, width, [copy], true)]),
    ...splitPhases(plan, builder, { row, buffer, line }),
  ];
  const lines = Array.from({ length: step }, (_, right) => builder.offset(line, right * plane));
  const clears = lines.flatMap((start) => clear(builder, buffer, start, rowLength));
  const body: Statement[] = inside.kind === 'constant' ? copies : [branch(inside, copies, clears)];
  return kernel.finish(grid, items, [
    ...clear(builder, row, builder.constant(0), padded * group),
    loop(builder, high, tilesHigh + 1, [loop(builder, phase, step, body)]),
  ]);
}

/** Zeros for `count` elements from `start`. */
function clear(builder: Builder, buffer: Buffer, start: Expression, count: number): Statement[] {
  const index = loopIndex(builder, 'clear', count);
  const value = builder.constant(0, 'f32');
  const at = builder.add(start, index);
  return [loop(builder, index, count, [{ kind: 'store', buffer, index: at, value }], true)];
}

interface PaddedRow {
  /** Rows of the group's images, one after the other. */
  readonly row: Buffer;
  /** Where the row's first phase goes; the next are a plane apart. */
  readonly buffer: Buffer;
  readonly line: Expression;
}

/** Writes the phases of a padded row. The last vector ends with the row: it overlaps another. */
function splitPhases(plan: WinogradPlan, builder: Builder, at: PaddedRow): Statement[] {
  const { group, plane, tilesWide, lanes, step } = plan;
  const rowLength = (tilesWide + 1) * group;
  let wide = lanes;
  while (wide > 4 && wide > rowLength) wide /= 2;
  if (wide > rowLength) wide = 1;
  const count = Math.ceil(rowLength / wide);
  const store = (right: number, position: Expression, value: Expression): Statement => {
    const index = builder.offset(builder.add(at.line, position), right * plane);
    return { kind: 'store', buffer: at.buffer, index, value };
  };
  if (group > 1 || wide === 1) {
    return Array.from({ length: count * step }, (_, which) => {
      const first = Math.min(Math.floor(which / step) * wide, rowLength - wide);
      const values = Array.from({ length: wide }, (__, lane) => {
        const column = Math.floor((first + lane) / group) * step + (which % step);
        const image = (first + lane) % group;
        const index = image * (tilesWide + 1) * step + column;
        return builder.load(at.row, builder.constant(index));
      });
      return store(which % step, builder.constant(first), builder.lanes(values));
    });
  }
  const vector = loopIndex(builder, 'vector', count);
  const first = builder.min(builder.scale(vector, wide), builder.constant(rowLength - wide));
  const statements: Statement[] = [];
  const name = (value: Expression): Expression => {
    const variable = builder.variable('p', 'f32', { lanes: wide });
    statements.push({ kind: 'let', variable, value });
    return variable;
  };
  let vectors = Array.from({ length: step }, (_, part) => {
    const index = builder.offset(builder.scale(first, step), part * wide);
    return name(builder.load(at.row, index, wide));
  });
  // Even and odd elements of neighbours, again for four phases.
  for (let stride = 1; stride < step; stride *= 2) {
    const halves = [0, 1].map((odd) =>
      Array.from({ length: step / 2 }, (_, pair) => {
        const sources = [vectors[2 * pair], vectors[2 * pair + 1]] as [Expression, Expression];
        const parts = Array.from({ length: wide }, (__, lane) => {
          const element = 2 * lane + odd;
          return builder.extract(sources[element < wide ? 0 : 1] as Expression, element % wide);
        });
        return name(builder.lanes(parts));
      }),
    );
    vectors = halves.flat();
  }
  vectors.forEach((value, right) => statements.push(store(right, first, value)));
  return [loop(builder, vector, count, statements)];
}

/** A block of tiles, the channels to transform, and where they go. */
export interface TileBlock {
  /** Number of the block, and the first and the end of its tiles. */
  readonly block: Expression;
  readonly start: Expression;
  readonly end: Expression;
  readonly channels: { readonly first: Expression; readonly count: number };
  readonly phases: Buffer;
  readonly target: Buffer;
  /** Offset of the block in `target`. */
  readonly base: Expression;
}

/** The first tile of a block and the one after its last. */
export function tilesOfBlock(
  plan: WinogradPlan,
  builder: Builder,
  block: Expression,
): { readonly start: Expression; readonly end: Expression } {
  const start = builder.scale(block, plan.block);
  const end = builder.min(builder.offset(start, plan.block), builder.constant(plan.tiles));
  return { start, end };
}

/** Walks over the runs of a block: `body` gets the run, and the tiles of it that are in the block. */
export function forRuns(
  plan: WinogradPlan,
  builder: Builder,
  block: Pick<TileBlock, 'start' | 'end'>,
  body: (run: Expression, from: Expression, to: Expression) => readonly Statement[],
): Statement {
  const { run: length, tiles } = plan;
  const runs = tiles / length;
  const run = builder.variable('run', 'i32', { min: 0, max: runs - 1 });
  const from = builder.variable('from', 'i32', { min: 0, max: tiles - 1 });
  const to = builder.variable('to', 'i32', { min: 0, max: tiles });
  const first = builder.scale(run, length);
  return {
    kind: 'for',
    index: run,
    start: builder.div(block.start, builder.constant(length)),
    end: builder.div(builder.offset(block.end, length - 1), builder.constant(length)),
    step: 1,
    body: [
      { kind: 'let', variable: from, value: builder.max(block.start, first) },
      { kind: 'let', variable: to, value: builder.min(block.end, builder.offset(first, length)) },
      ...body(run, from, to),
    ],
  };
}

/** Transforms a block of tiles into [position][channel][tile], zero beyond the last tile. */
export function transformTiles(
  plan: WinogradPlan,
  builder: Builder,
  block: TileBlock,
): readonly Statement[] {
  const { step, window, sourceLanes, group, plane, tilesHigh, tilesWide, depth } = plan;
  const channel = loopIndex(builder, 'channel', block.channels.count);
  const which = builder.add(block.channels.first, channel);
  const rowLength = (tilesWide + 1) * group;
  const writer = new TransformWriter(builder, plan.context.target);
  const runs = forRuns(plan, builder, block, (run, from, to) => {
    const tile = builder.variable('tile', 'i32', { min: 0, max: plan.tiles - 1 });
    const set = builder.div(run, builder.constant(tilesHigh));
    const high = builder.rem(run, builder.constant(tilesHigh));
    const planes = builder.add(builder.scale(set, depth), which);
    const line = builder.add(
      builder.scale(planes, step * step * plane),
      builder.scale(high, rowLength),
    );
    const source = builder.add(line, builder.sub(tile, builder.scale(run, plan.run)));
    const statements: Statement[] = [];
    const values = Array.from({ length: window }, (_, i) =>
      Array.from({ length: window }, (__, j) => {
        const phase = ((i % step) * step + (j % step)) * plane;
        const ahead = Math.floor(i / step) * rowLength + Math.floor(j / step) * group;
        const value = builder.load(
          block.phases,
          builder.offset(source, phase + ahead),
          sourceLanes,
        );
        const variable = builder.variable(`d${i}${j}`, 'f32', { lanes: sourceLanes });
        statements.push({ kind: 'let', variable, value });
        return variable;
      }),
    );
    const made = writer.square(plan.tileMatrix, values);
    const at = builder.add(
      builder.add(block.base, builder.scale(which, plan.tilePitch)),
      builder.sub(tile, block.start),
    );
    const stores = made.values.flat().map((value, position): Statement => {
      const index = builder.offset(at, position * plan.tileStride);
      return { kind: 'store', buffer: block.target, index, value };
    });
    return [
      {
        kind: 'for',
        index: tile,
        start: from,
        end: to,
        step: sourceLanes,
        body: [...statements, ...made.statements, ...stores],
      },
    ];
  });
  return [
    loop(builder, channel, block.channels.count, [runs, ...clearTail(plan, builder, block, which)]),
  ];
}

/** Zeros in the last block where there are no tiles: what a run wrote past its end, or nothing did. */
function clearTail(
  plan: WinogradPlan,
  builder: Builder,
  block: TileBlock,
  channel: Expression,
): readonly Statement[] {
  const used = plan.tiles - (plan.blocks - 1) * plan.block;
  if (used === plan.block) return [];
  const isLast = builder.compare('eq', block.block, builder.constant(plan.blocks - 1));
  const position = loopIndex(builder, 'position', plan.positions);
  const row = builder.add(
    builder.add(block.base, builder.scale(position, plan.tileStride)),
    builder.offset(builder.scale(channel, plan.tilePitch), used),
  );
  const clears = clear(builder, block.target, row, plan.block - used);
  const clearing = loop(builder, position, plan.positions, clears);
  return [isLast.kind === 'constant' ? clearing : branch(isLast, [clearing])];
}

/** Most channels that one grid item of `tileStage` transforms. */
const CHANNELS = 16;

/** Transforms all tiles, for products that many grid items share. */
export function tileStage(plan: WinogradPlan, phases: Scratch, scratch: Scratch): Stage {
  const { context, blocks, depth } = plan;
  const kernel = context.newKernel(`${context.name}_${scratch.name}`);
  const { builder } = kernel;
  const count = largestDivisor(depth, CHANNELS);
  const chunks = depth / count;
  const grid = loopIndex(builder, 'item', blocks * chunks);
  const block = builder.div(grid, builder.constant(chunks));
  const chunk = builder.scale(builder.rem(grid, builder.constant(chunks)), count);
  const body = transformTiles(plan, builder, {
    block,
    ...tilesOfBlock(plan, builder, block),
    channels: { first: chunk, count },
    phases: kernel.scratch(phases, 'read'),
    target: kernel.scratch(scratch, 'write'),
    base: builder.scale(block, plan.positions * plan.tileStride),
  });
  return kernel.finish(grid, blocks * chunks, body);
}
