// Reductions: sums and the like over some axes, several side by side when they read the same input.
// The order of combination is a function of the shapes, in strict numerics of nothing else.
import type { DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Reduction } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression, ValueType } from '../../ir/expression.ts';
import type { Statement, Target } from '../../ir/kernel.ts';
import { VIRTUAL_LANES } from '../../ir/reduce.ts';
import { mapExpressions, substitute } from '../../ir/rewrite.ts';
import {
  chained,
  laneLoops,
  type Partial,
  reductionLoops,
  type ReducedLoop,
  serialLoops,
} from './accumulate.ts';
import { type Axis, indexVariables } from './axes.ts';
import { Emitter, type GroupView } from './emit.ts';
import { JAM_WIDTH, jamColumns, widestJam } from './jam.ts';
import { KernelBuilder, type Scratch, type Stage } from './kernel-builder.ts';
import { itemsFor, planNest } from './nest.ts';
import { openSpace, type Space } from './reduction-space.ts';

/** Pieces of a row of accumulators that one grid item owns at least. */
const COLUMN_PIECE = JAM_WIDTH;
/** Items that are worth more than longer pieces. */
const ENOUGH_ITEMS = 4;

/** Columns of a grid item: many, as every row is another page, but not all. */
function columnPiece(target: Target, spec: ReductionSpec, { kept, columns }: Space): number {
  if (!columns) return COLUMN_PIECE;
  const width = kept.at(-1)?.size ?? 1;
  const rows = sizeOf(spec.kept) / width;
  const most = widestJam(target, flattenParts(spec).flat.length);
  const share = (width * rows) / ENOUGH_ITEMS;
  let piece = COLUMN_PIECE;
  while (2 * piece <= Math.min(most, share)) piece *= 2;
  return piece;
}

/** One reduction over the common iteration space. */
export interface ReductionPart {
  /** The graph node whose value it gives. */
  readonly node: Node;
  readonly accumulators: readonly { readonly type: ValueType; readonly identity: number }[];
  /** One element as running values; `reduced` are its indices along the reduced axes. */
  map(
    emitter: Emitter,
    kept: readonly Expression[],
    reduced: readonly Expression[],
  ): readonly Expression[];
  combine(
    builder: Builder,
    a: readonly Expression[],
    b: readonly Expression[],
  ): readonly Expression[];
  finish(builder: Builder, values: readonly Expression[]): Expression;
}

/** Reductions that run through the same elements together. */
export interface ReductionSpec {
  readonly parts: readonly ReductionPart[];
  /** Sizes of the axes that are kept and of those that are reduced. */
  readonly kept: readonly number[];
  readonly reduced: readonly number[];
  /** How many reduced axes stand next to each other, from the first on; adds up to all of them. */
  readonly runs: readonly number[];
  /** Whether the last axis of all is kept, so that results are neighbours and lie in columns. */
  readonly columns: boolean;
  /** Shape of the results, and the indices into it. */
  readonly shape: readonly number[];
  resultIndices(builder: Builder, kept: readonly Expression[]): readonly Expression[];
  /** Arithmetic per element, to choose the number of grid items. */
  readonly work: number;
  /**
   * In strict numerics never in pieces: other schedules of the same operation, which not every target
   * has, sum in one run (test/compile/strict-widths.test.ts).
   */
  readonly inOneRun?: boolean;
}

/** The spec of a group of reduce ops over the same axes of inputs of one shape. */
export function reduceSpec(anchors: readonly Node[], work: number): ReductionSpec {
  const first = anchors[0] as Node;
  const { shape } = first.inputs[0] as Node;
  const { axes, keepdims } = reductionOf(first);
  const isReduced = shape.map((_, axis) => axes.includes(axis));
  const kept = shape.filter((_, axis) => !isReduced[axis]);
  const reduced = shape.filter((_, axis) => isReduced[axis]);
  return {
    parts: anchors.map((node) => reducePart(node, isReduced, reduced)),
    kept,
    reduced,
    ...runsOf(shape, isReduced),
    shape: first.shape,
    resultIndices(builder, keptIndices) {
      if (!keepdims) return keptIndices;
      let next = 0;
      return isReduced.map((along) =>
        along ? builder.constant(0) : (keptIndices[next++] as Expression),
      );
    },
    work,
  };
}

function reductionOf(node: Node): Reduction {
  const { lower } = node.op;
  if (lower.kind !== 'reduce') throw internalError(`${node.op.name} is not a reduction`);
  return lower.reduction(node.attrs, node);
}

/** Neighbourhoods of reduced axes; axes of size 1 separate nothing. */
export function runsOf(
  shape: readonly number[],
  isReduced: readonly boolean[],
): Pick<ReductionSpec, 'runs' | 'columns'> {
  const runs: number[] = [];
  let open = false;
  let lastKept = false;
  shape.forEach((size, axis) => {
    if (isReduced[axis]) {
      if (open) runs[runs.length - 1] = (runs.at(-1) as number) + 1;
      else runs.push(1);
      open = true;
    } else if (size !== 1) open = false;
    if (size !== 1) lastKept = isReduced[axis] !== true;
  });
  return { runs, columns: lastKept };
}

export function reducePart(
  node: Node,
  isReduced: readonly boolean[],
  reduced: readonly number[],
): ReductionPart {
  const reduction = reductionOf(node);
  return {
    node,
    accumulators: reduction.accumulators,
    map(emitter, keptIndices, reducedIndices) {
      const { builder } = emitter.kernel;
      let nextKept = 0;
      let nextReduced = 0;
      const indices = isReduced.map(
        (along) => (along ? reducedIndices[nextReduced++] : keptIndices[nextKept++]) as Expression,
      );
      let flat: Expression = builder.constant(0);
      reduced.forEach((size, axis) => {
        flat = builder.add(builder.scale(flat, size), reducedIndices[axis] as Expression);
      });
      const value = emitter.value(node.inputs[0] as Node, indices);
      return reduction.map(builder, value, flat);
    },
    combine: (builder, a, b) => reduction.combine(builder, a, b),
    finish: (builder, values) => reduction.finish(builder, values),
  };
}

/** The kernels of a reduction group. */
export function lowerReduction(view: GroupView, spec: ReductionSpec): Stage[] {
  if (sizeOf(spec.kept) === 0) return [];
  if (sizeOf(spec.reduced) === 0) return [emptyReduction(view, spec)];
  const space = openSpace(view, spec, view.name);
  const split = isInOneRun(view, spec) ? 1 : splitCount(spec, space);
  if (split > 1) {
    const cut = cutAxis(space, split);
    if (cut.pieces > 1) return splitStages(view, spec, space, cut);
  }
  return [singleStage(view, spec, space)];
}

/** Pieces of the reduced axes that are worth running in parallel: by sizes alone. */
function splitCount(spec: ReductionSpec, { kept, columns }: Space): number {
  const results = sizeOf(spec.kept);
  const reduced = sizeOf(spec.reduced);
  const items = itemsFor(4 * results * reduced);
  // Neighbouring columns share cache lines and stay together.
  const width = columns ? (kept.at(-1)?.size ?? 1) : 1;
  const rows = (results / width) * Math.ceil(width / COLUMN_PIECE);
  if (rows * 2 > items) return 1;
  return Math.min(Math.ceil(items / rows), Math.floor(reduced / VIRTUAL_LANES / 4));
}

// ---- one kernel -------------------------------------------------------------------------------

function workOf(spec: ReductionSpec): number {
  return spec.work * sizeOf(spec.kept) * sizeOf(spec.reduced);
}

function singleStage(view: GroupView, spec: ReductionSpec, space: Space): Stage {
  const { kernel } = space;
  const { builder } = kernel;
  const nest = planNest(builder, space.kept, {
    work: workOf(spec),
    vector: space.columns,
    piece: columnPiece(view.target, spec, space),
  });
  const loops = reductionLoops(builder, space.reduced);
  const { statements, results } = accumulate(view, spec, space, loops, nest.replaced);
  const finished = finishResults(spec, space, flattenParts(spec).perPart(results));
  const after = substituteAll(builder, finished, nest.replaced);
  const body = widen(view, space, nest.wrap([...statements, ...after]));
  return kernel.finish(nest.gridIndex, nest.gridSize, body);
}

/** Several vectors of columns at a time, where they share cache lines. */
function widen(
  view: GroupView,
  { kernel, columns, contiguous }: Space,
  body: readonly Statement[],
): readonly Statement[] {
  return columns && contiguous ? jamColumns(kernel.builder, view.target, body) : body;
}

/** Statements that finish all parts and store the group's outputs. */
function finishResults(
  spec: ReductionSpec,
  { kernel, emitter, keptIndices }: Pick<Space, 'kernel' | 'emitter' | 'keptIndices'>,
  results: readonly (readonly Expression[])[],
): Statement[] {
  const { builder } = kernel;
  spec.parts.forEach((part, which) => {
    emitter.give(part.node, part.finish(builder, results[which] as readonly Expression[]));
  });
  return emitter.storeOutputs(spec.resultIndices(builder, keptIndices), spec.shape);
}

export function substituteAll(
  builder: Builder,
  statements: readonly Statement[],
  replaced: ReadonlyMap<Expression, Expression>,
): readonly Statement[] {
  const memo = new Map(replaced);
  return mapExpressions(statements, (value) => substitute(builder, value, memo));
}

/** Accumulators of all parts in one list, and back. */
export function flattenParts(spec: Pick<ReductionSpec, 'parts'>) {
  const flat = spec.parts.flatMap(({ accumulators }, part) =>
    accumulators.map((accumulator, which) => ({ ...accumulator, name: `sum${part}_${which}` })),
  );
  const perPart = <T>(values: readonly T[]): (readonly T[])[] => {
    let next = 0;
    return spec.parts.map(({ accumulators }) => {
      const first = next;
      next += accumulators.length;
      return values.slice(first, next);
    });
  };
  const combine = (
    builder: Builder,
    a: readonly Expression[],
    b: readonly Expression[],
  ): Expression[] => {
    const left = perPart(a);
    const right = perPart(b);
    return spec.parts.flatMap((part, which) =>
      part.combine(
        builder,
        left[which] as readonly Expression[],
        right[which] as readonly Expression[],
      ),
    );
  };
  return { flat, perPart, combine };
}

/** Runs through `loops` and leaves all parts' running values. */
export function accumulate(
  view: GroupView,
  spec: Pick<ReductionSpec, 'parts' | 'inOneRun'>,
  space: Pick<Space, 'kernel' | 'mapped' | 'columns'>,
  loops: readonly ReducedLoop[],
  keptReplaced: ReadonlyMap<Expression, Expression>,
): Partial {
  const { builder } = space.kernel;
  const { flat, combine } = flattenParts(spec);
  const memo = new Map<Expression, Expression>(keptReplaced);
  for (const { replaced } of loops) for (const [from, to] of replaced) memo.set(from, to);
  const mapped = space.mapped.map((value) => substitute(builder, value, memo));
  const step = (running: readonly Expression[]): Expression[] => combine(builder, running, mapped);
  const join = (a: readonly Expression[], b: readonly Expression[]): Expression[] =>
    combine(builder, a, b);
  const run = (inner: readonly ReducedLoop[]): Partial =>
    space.columns || inner.length === 0
      ? serialLoops(builder, flat, inner, step)
      : laneLoops(view.target, builder, flat, inner, { step, combine: join });
  return isInOneRun(view, spec) ? run(loops) : chained(builder, flat, loops, run, join);
}

function isInOneRun(view: GroupView, spec: Pick<ReductionSpec, 'inOneRun'>): boolean {
  return spec.inOneRun === true && view.target.numerics === 'strict';
}

// ---- split over two kernels -------------------------------------------------------------------

/** The longest reduced axis, cut into pieces of `length`. */
interface Cut {
  readonly axis: number;
  readonly length: number;
  readonly pieces: number;
}

function cutAxis({ reduced }: Space, split: number): Cut {
  let axis = 0;
  reduced.forEach(({ size }, i) => {
    if (size > (reduced[axis] as Axis).size) axis = i;
  });
  const { size } = reduced[axis] as Axis;
  const unit = axis === reduced.length - 1 ? VIRTUAL_LANES : 1;
  const length = Math.ceil(size / split / unit) * unit;
  return { axis, length, pieces: Math.ceil(size / length) };
}

/** Partial results of the pieces, then a kernel that combines them in order. */
function splitStages(view: GroupView, spec: ReductionSpec, space: Space, cut: Cut): Stage[] {
  const results = sizeOf(spec.kept);
  const partials = flattenParts(spec).flat.map(({ name, type }): Scratch => ({
    name,
    dtype: storageOf(type),
    length: cut.pieces * results,
  }));
  return [
    partialStage(view, spec, space, cut, partials),
    combineStage(view, spec, cut.pieces, partials),
  ];
}

/** The dtype that holds a register value in scratch memory. */
function storageOf(register: ValueType): DType {
  switch (register) {
    case 'f32':
      return 'float32';
    case 'f64':
      return 'float64';
    case 'i32':
      return 'int32';
    case 'u32':
      return 'uint32';
    case 'bool':
      return 'bool';
    default:
      register satisfies never;
      throw internalError('unknown value type');
  }
}

function partialStage(
  view: GroupView,
  spec: ReductionSpec,
  space: Space,
  cut: Cut,
  partials: readonly Scratch[],
): Stage {
  const { kernel } = space;
  const { builder } = kernel;
  const part = builder.variable('part', 'i32', { min: 0, max: cut.pieces - 1 });
  const partAxis = { variables: [part], joined: true, size: cut.pieces, positions: [0] };
  const nest = planNest(builder, [partAxis, ...space.kept], {
    work: workOf(spec),
    vector: space.columns,
    piece: columnPiece(view.target, spec, space),
  });
  const piece = nest.replaced.get(part) ?? part;
  const loops = reductionLoops(builder, space.reduced).map((loop, i) => {
    if (i !== cut.axis) return loop;
    const start = builder.scale(piece, cut.length);
    const end = builder.min(builder.offset(start, cut.length), loop.end);
    return { ...loop, size: cut.length, start, end };
  });
  const { statements, results } = accumulate(view, spec, space, loops, nest.replaced);
  const index = partialIndex(builder, part, spec, space.keptIndices);
  const stores = results.map((value, which): Statement => ({
    kind: 'store',
    buffer: kernel.scratch(partials[which] as Scratch, 'write'),
    index,
    value,
  }));
  const inner = [...statements, ...substituteAll(builder, stores, nest.replaced)];
  const body = widen(view, space, nest.wrap(inner));
  return kernel.finish(nest.gridIndex, nest.gridSize, body);
}

/** Place of a partial result: pieces one after another, results of one in row-major order. */
function partialIndex(
  builder: Builder,
  part: Expression,
  { kept }: ReductionSpec,
  indices: readonly Expression[],
): Expression {
  let position = part;
  kept.forEach((size, axis) => {
    position = builder.add(builder.scale(position, size), indices[axis] as Expression);
  });
  return position;
}

function combineStage(
  view: GroupView,
  spec: ReductionSpec,
  pieces: number,
  partials: readonly Scratch[],
): Stage {
  const kernel = new KernelBuilder(`${view.name}_combine`);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const kept = indexVariables(builder, 'i', spec.kept);
  const axes = separateAxes(kept.variables);
  const work = spec.work * sizeOf(spec.kept) * pieces;
  const nest = planNest(builder, axes, { work, vector: true, piece: COLUMN_PIECE });
  const { flat, perPart, combine } = flattenParts(spec);
  const part = builder.variable('part', 'i32', { min: 0, max: pieces - 1 });
  const position = partialIndex(builder, part, spec, kept.indices);
  const index = substitute(builder, position, new Map(nest.replaced));
  const loads = partials.map((scratch) => builder.load(kernel.scratch(scratch, 'read'), index));
  const loop: ReducedLoop = {
    index: part,
    size: pieces,
    start: builder.constant(0),
    end: builder.constant(pieces),
    replaced: [],
  };
  const total = serialLoops(builder, flat, [loop], (running) => combine(builder, running, loads));
  const space = { kernel, emitter, keptIndices: kept.indices };
  const finished = finishResults(spec, space, perPart(total.results));
  const body = [...total.statements, ...substituteAll(builder, finished, nest.replaced)];
  return kernel.finish(nest.gridIndex, nest.gridSize, nest.wrap(body));
}

function separateAxes(variables: ReturnType<typeof indexVariables>['variables']): Axis[] {
  return variables.map((variable, i) => ({
    variables: [variable],
    joined: true,
    size: variable.max + 1,
    positions: [i],
  }));
}

/** Nothing to reduce: every result is what the identities finish as. */
function emptyReduction(view: GroupView, spec: ReductionSpec): Stage {
  const kernel = new KernelBuilder(view.name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const { indices, variables } = indexVariables(builder, 'i', spec.kept);
  const identities = spec.parts.map(({ accumulators }) =>
    accumulators.map(({ type, identity }) => builder.constant(identity, type)),
  );
  const nest = planNest(builder, separateAxes(variables), {
    work: sizeOf(spec.kept),
    vector: true,
  });
  const stores = finishResults(spec, { kernel, emitter, keptIndices: indices }, identities);
  const body = nest.wrap(substituteAll(builder, stores, nest.replaced));
  return kernel.finish(nest.gridIndex, nest.gridSize, body);
}
