// Reductions: sums and the like over some axes, several side by side when they read the same input.
// The order of combination is a function of the shapes alone.
import { byteSize, type DType } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression, ValueType, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import { emitReduction, VIRTUAL_LANES } from '../../ir/reduce.ts';
import { mapExpressions, substitute } from '../../ir/rewrite.ts';
import { type Axis, chooseInnermost, collapse, indexVariables, innermostCost } from './axes.ts';
import { Emitter, type GroupView } from './emit.ts';
import { KernelBuilder, type Scratch, type Stage } from './kernel-builder.ts';
import { itemsFor, type Nest, planNest } from './nest.ts';
import { UseCollector } from './uses.ts';

/** Elements that are added up one after another before partial sums are: bounds rounding errors. */
const CHAIN = 1024;
/** Pieces of a row of accumulators that one grid item owns. */
const COLUMN_PIECE = 16;

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
  /** Shape of the results, and the indices into it. */
  readonly shape: readonly number[];
  resultIndices(builder: Builder, kept: readonly Expression[]): readonly Expression[];
  /** Arithmetic per element, to choose the number of grid items. */
  readonly work: number;
}

/** The spec of a group of reduce ops over the same axes of inputs of one shape. */
export function reduceSpec(anchors: readonly Node[], work: number): ReductionSpec {
  const first = anchors[0] as Node;
  const input = first.inputs[0] as Node;
  const { axes, keepdims } = reductionOf(first);
  const isReduced = input.shape.map((_, axis) => axes.includes(axis));
  const kept = input.shape.filter((_, axis) => !isReduced[axis]);
  const reduced = input.shape.filter((_, axis) => isReduced[axis]);
  const parts = anchors.map((node): ReductionPart => {
    const reduction = reductionOf(node);
    return {
      node,
      accumulators: reduction.accumulators,
      map(emitter, keptIndices, reducedIndices) {
        const { builder } = emitter.kernel;
        let nextKept = 0;
        let nextReduced = 0;
        const indices = isReduced.map(
          (along) =>
            (along ? reducedIndices[nextReduced++] : keptIndices[nextKept++]) as Expression,
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
  });
  return {
    parts,
    kept,
    reduced,
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

function reductionOf(node: Node) {
  const { lower } = node.op;
  if (lower.kind !== 'reduce') throw internalError(`${node.op.name} is not a reduction`);
  return lower.reduction(node.attrs, node);
}

/** The kernels of a reduction group. */
export function lowerReduction(view: GroupView, spec: ReductionSpec): Stage[] {
  if (sizeOf(spec.kept) === 0) return [];
  if (sizeOf(spec.reduced) === 0) return [emptyReduction(view, spec)];
  const layout = chooseLayout(view, spec);
  const work = spec.work * sizeOf(spec.kept) * sizeOf(spec.reduced);
  const split = splitCount(layout, work);
  if (split === 1) return [singleStage(view, spec, layout, work)];
  return splitStages(view, spec, layout, work, split);
}

// ---- layout -----------------------------------------------------------------------------------

/** How the iteration space is run through; found once, on a kernel that is thrown away. */
interface Layout {
  /** Positions (in `kept`, in `reduced`, sizes 1 left out) that run as one axis, outer to inner. */
  readonly kept: readonly (readonly number[])[];
  readonly reduced: readonly (readonly number[])[];
  readonly keptSizes: readonly number[];
  readonly reducedSizes: readonly number[];
  /** Whether vectors run along the last kept axis, one result per lane. */
  readonly columns: boolean;
}

function chooseLayout(view: GroupView, spec: ReductionSpec): Layout {
  const kernel = new KernelBuilder(view.name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const kept = indexVariables(builder, 'i', spec.kept);
  const reduced = indexVariables(builder, 'r', spec.reduced);
  const collector = new UseCollector([...kept.variables, ...reduced.variables]);
  for (const part of spec.parts) {
    for (const value of part.map(emitter, kept.indices, reduced.indices)) collector.value(value);
  }
  const loads = [...collector.uses];
  giveResults(emitter, spec);
  const results = spec.resultIndices(builder, kept.indices);
  for (const { index, value, node } of emitter.outputValues(results, spec.shape)) {
    collector.access('store', index, byteSize(node.dtype));
    collector.value(value);
  }
  const keptAxes = collapse(kept.variables, collector.uses);
  const reducedAxes = collapse(reduced.variables, loads, kept.variables.length);
  const keptLast = chooseInnermost(keptAxes, collector.uses);
  const reducedLast = chooseInnermost(reducedAxes, loads);
  const columns = runsInColumns(keptAxes[keptLast], reducedAxes[reducedLast], loads, spec);
  const order = (axes: readonly Axis[], last: number): Axis[] => {
    const rest = axes.filter((_, i) => i !== last);
    return last < 0 ? rest : [...rest, axes[last] as Axis];
  };
  const keptOrder = order(keptAxes, keptLast);
  const reducedOrder = order(reducedAxes, reducedLast);
  const shift = kept.variables.length;
  return {
    kept: keptOrder.map(({ positions }) => positions),
    reduced: reducedOrder.map(({ positions }) => positions.map((at) => at - shift)),
    keptSizes: keptOrder.map(({ size }) => size),
    reducedSizes: reducedOrder.map(({ size }) => size),
    columns,
  };
}

/** Whether one result per lane is better than all lanes for one result. */
function runsInColumns(
  kept: Axis | undefined,
  reduced: Axis | undefined,
  loads: UseCollector['uses'],
  spec: ReductionSpec,
): boolean {
  if (kept === undefined || kept.size < 4) return false;
  if (reduced === undefined) return true;
  if (sizeOf(spec.reduced) < VIRTUAL_LANES) return true;
  return innermostCost(kept, loads) < innermostCost(reduced, loads);
}

/** Gives placeholder values to the main ops, for looking at what follows them. */
function giveResults(emitter: Emitter, spec: ReductionSpec): void {
  const { builder } = emitter.kernel;
  for (const { node, accumulators, finish } of spec.parts) {
    const values = accumulators.map(({ type }) => builder.variable('value', type));
    emitter.give(node, finish(builder, values));
  }
}

/** Pieces of the reduced axes that are worth running in parallel. */
function splitCount(layout: Layout, work: number): number {
  const items = itemsFor(work);
  const columns = layout.keptSizes.at(-1) ?? 1;
  const results = layout.keptSizes.reduce((product, size) => product * size, 1);
  // One result per lane: neighbouring columns share cache lines and stay together.
  const rows = layout.columns ? (results / columns) * Math.ceil(columns / COLUMN_PIECE) : results;
  const reduced = layout.reducedSizes.reduce((product, size) => product * size, 1);
  if (rows * 2 > items) return 1;
  return Math.max(1, Math.min(Math.ceil(items / rows), Math.floor(reduced / VIRTUAL_LANES / 4)));
}

// ---- one kernel -------------------------------------------------------------------------------

/** The iteration space inside one kernel. */
interface Space {
  readonly kernel: KernelBuilder;
  readonly emitter: Emitter;
  readonly keptIndices: readonly Expression[];
  readonly reducedIndices: readonly Expression[];
  readonly keptAxes: readonly Axis[];
  readonly reducedAxes: readonly Axis[];
}

function openSpace(view: GroupView, spec: ReductionSpec, layout: Layout, name: string): Space {
  const kernel = new KernelBuilder(name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const kept = indexVariables(builder, 'i', spec.kept);
  const reduced = indexVariables(builder, 'r', spec.reduced);
  const axes = (
    groups: readonly (readonly number[])[],
    sizes: readonly number[],
    variables: readonly Variable[],
  ): Axis[] =>
    groups.map((positions, i) => ({
      positions,
      size: sizes[i] as number,
      variables: positions.map((at) => variables[at] as Variable),
    }));
  return {
    kernel,
    emitter,
    keptIndices: kept.indices,
    reducedIndices: reduced.indices,
    keptAxes: axes(layout.kept, layout.keptSizes, kept.variables),
    reducedAxes: axes(layout.reduced, layout.reducedSizes, reduced.variables),
  };
}

function singleStage(view: GroupView, spec: ReductionSpec, layout: Layout, work: number): Stage {
  const space = openSpace(view, spec, layout, view.name);
  const { kernel } = space;
  const { builder } = kernel;
  const nest = planNest(builder, space.keptAxes, {
    work,
    vector: layout.columns,
    piece: COLUMN_PIECE,
  });
  const loops = reductionLoops(builder, space.reducedAxes);
  const { statements, results } = accumulate(view, spec, space, layout, loops, nest.replaced);
  const finished = finishResults(spec, space, results);
  const after = substituteAll(builder, finished, nest.replaced);
  const body = nest.wrap([...statements, ...after]);
  return kernel.finish(nest.gridIndex, nest.gridSize, body);
}

/** Statements that finish all parts and store the group's outputs. */
function finishResults(
  spec: ReductionSpec,
  { kernel, emitter, keptIndices }: Space,
  results: readonly (readonly Expression[])[],
): Statement[] {
  const { builder } = kernel;
  spec.parts.forEach((part, which) => {
    emitter.give(part.node, part.finish(builder, results[which] as readonly Expression[]));
  });
  return emitter.storeOutputs(spec.resultIndices(builder, keptIndices), spec.shape);
}

function substituteAll(
  builder: Builder,
  statements: readonly Statement[],
  replaced: ReadonlyMap<Expression, Expression>,
): readonly Statement[] {
  const memo = new Map(replaced);
  return mapExpressions(statements, (value) => substitute(builder, value, memo));
}

/** A loop over a reduced axis, from `start` to `end`. */
interface ReducedLoop {
  readonly index: Variable;
  readonly size: number;
  readonly start: Expression;
  readonly end: Expression;
  /** What stands for the axis's variables. */
  readonly replaced: readonly (readonly [Variable, Expression])[];
}

function reductionLoops(builder: Builder, axes: readonly Axis[]): ReducedLoop[] {
  return axes.map((axis) => {
    const bounds = { min: 0, max: axis.size - 1 };
    const index = builder.variable('r', 'i32', bounds);
    const last = axis.variables.at(-1) as Variable;
    return {
      index,
      size: axis.size,
      start: builder.constant(0),
      end: builder.constant(axis.size),
      replaced: axis.variables.map(
        (variable) => [variable, variable === last ? index : builder.constant(0)] as const,
      ),
    };
  });
}

/** Accumulators of all parts in one list, and back. */
function flattenParts(spec: ReductionSpec) {
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
    return spec.parts.flatMap((part, which) => [
      ...part.combine(
        builder,
        left[which] as readonly Expression[],
        right[which] as readonly Expression[],
      ),
    ]);
  };
  return { flat, perPart, combine };
}

/** Runs through `loops` and leaves each part's running values in variables. */
function accumulate(
  view: GroupView,
  spec: ReductionSpec,
  space: Space,
  layout: Layout,
  loops: readonly ReducedLoop[],
  keptReplaced: ReadonlyMap<Expression, Expression>,
): { statements: readonly Statement[]; results: readonly (readonly Expression[])[] } {
  const { builder } = space.kernel;
  const { flat, perPart, combine } = flattenParts(spec);
  const memo = new Map<Expression, Expression>(keptReplaced);
  for (const { replaced } of loops) for (const [from, to] of replaced) memo.set(from, to);
  const mapped = spec.parts
    .flatMap((part) => part.map(space.emitter, space.keptIndices, space.reducedIndices))
    .map((value) => substitute(builder, value, memo));
  const run = (inner: readonly ReducedLoop[]): Partial =>
    layout.columns || inner.length === 0
      ? serialLoops(builder, flat, inner, (running) => combine(builder, running, mapped))
      : laneLoops(view, builder, flat, inner, {
          step: (running) => combine(builder, running, mapped),
          combine: (a, b) => combine(builder, a, b),
        });
  const { statements, results } = chained(builder, flat, loops, run, (a, b) =>
    combine(builder, a, b),
  );
  return { statements, results: perPart(results) };
}

interface Partial {
  readonly statements: readonly Statement[];
  readonly results: readonly Expression[];
}

interface NamedAccumulator {
  readonly name: string;
  readonly type: ValueType;
  readonly identity: number;
}

/**
 * Runs inner loops of about CHAIN elements by `run` and combines their results one after another,
 * so that no value is the end of a very long chain of roundings.
 */
function chained(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  run: (inner: readonly ReducedLoop[]) => Partial,
  combine: (a: readonly Expression[], b: readonly Expression[]) => readonly Expression[],
): Partial {
  let first = loops.length;
  let size = 1;
  while (first > 0 && size < CHAIN) size *= (loops[--first] as ReducedLoop).size;
  const total = loops.reduce((product, loop) => product * loop.size, 1);
  if (total <= 2 * CHAIN) return run(loops);
  const outer = loops.slice(0, first);
  const inner = loops.slice(first);
  const cut = inner[0];
  // The outermost of the inner loops is itself too long: run it in pieces.
  if (cut !== undefined && size > 2 * CHAIN) {
    const rest = inner.slice(1).reduce((product, loop) => product * loop.size, 1);
    const piece = Math.max(VIRTUAL_LANES, Math.ceil(CHAIN / rest / VIRTUAL_LANES) * VIRTUAL_LANES);
    if (piece * 2 <= cut.size) {
      const start = builder.variable('r', 'i32', { min: 0, max: cut.size - 1 });
      const end = builder.min(builder.offset(start, piece), cut.end);
      const part = run([{ ...cut, start, end }, ...inner.slice(1)]);
      const { declared, joined, results } = joining(builder, accumulators, part, combine);
      const loop: Statement = {
        kind: 'for',
        index: start,
        start: cut.start,
        end: cut.end,
        step: piece,
        body: joined,
      };
      return { statements: [...declared, ...nested(outer, [loop])], results };
    }
  }
  if (outer.length === 0) return run(loops);
  const { declared, joined, results } = joining(builder, accumulators, run(inner), combine);
  return { statements: [...declared, ...nested(outer, joined)], results };
}

/** Totals that a partial result is joined to each time its statements run. */
function joining(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  part: Partial,
  combine: (a: readonly Expression[], b: readonly Expression[]) => readonly Expression[],
): { declared: Statement[]; joined: Statement[]; results: readonly Expression[] } {
  const totals = accumulators.map(({ name, type }) =>
    builder.variable(`${name}_total`, type, { mutable: true }),
  );
  const declared = accumulators.map(({ type, identity }, which): Statement => ({
    kind: 'declare',
    variable: totals[which] as Variable,
    value: builder.constant(identity, type),
  }));
  const joined = [...part.statements, ...assignAll(builder, totals, combine(totals, part.results))];
  return { declared, joined, results: totals };
}

/** Assigns all variables at once: new values may depend on any old one. */
function assignAll(
  builder: Builder,
  variables: readonly Variable[],
  values: readonly Expression[],
): Statement[] {
  if (variables.length === 1) {
    return [{ kind: 'assign', variable: variables[0] as Variable, value: values[0] as Expression }];
  }
  const named = variables.map((variable, which) => ({
    variable,
    value: values[which] as Expression,
    next: builder.variable(variable.name, variable.type),
  }));
  return [
    ...named.map(({ next, value }): Statement => ({ kind: 'let', variable: next, value })),
    ...named.map(({ variable, next }): Statement => ({ kind: 'assign', variable, value: next })),
  ];
}

function nested(loops: readonly ReducedLoop[], body: readonly Statement[]): readonly Statement[] {
  let result = body;
  for (let i = loops.length - 1; i >= 0; i--) {
    const { index, start, end } = loops[i] as ReducedLoop;
    result = [{ kind: 'for', index, start, end, step: 1, body: result }];
  }
  return result;
}

/** One running value for each accumulator, element after element. */
function serialLoops(
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  step: (running: readonly Expression[]) => readonly Expression[],
): Partial {
  const running = accumulators.map(({ name, type }) =>
    builder.variable(name, type, { mutable: true }),
  );
  const declared = accumulators.map(({ type, identity }, which): Statement => ({
    kind: 'declare',
    variable: running[which] as Variable,
    value: builder.constant(identity, type),
  }));
  const body = assignAll(builder, running, step(running));
  return { statements: [...declared, ...nested(loops, body)], results: running };
}

/** 16 running values for each accumulator along the innermost loop, combined at the end. */
function laneLoops(
  view: GroupView,
  builder: Builder,
  accumulators: readonly NamedAccumulator[],
  loops: readonly ReducedLoop[],
  code: {
    step(running: readonly Expression[]): readonly Expression[];
    combine(a: readonly Expression[], b: readonly Expression[]): readonly Expression[];
  },
): Partial {
  return emitReduction(builder, view.target, {
    loops: loops.map(({ index, start, end }) => ({ index, start, end })),
    accumulators,
    step: code.step,
    combine: code.combine,
  });
}

// ---- split over two kernels -------------------------------------------------------------------

/** Partial results of pieces of the outermost reduced axis, then a kernel that combines them. */
function splitStages(
  view: GroupView,
  spec: ReductionSpec,
  layout: Layout,
  work: number,
  split: number,
): Stage[] {
  // The longest reduced axis is the one that is cut.
  let cut = 0;
  layout.reducedSizes.forEach((size, i) => {
    if (size > (layout.reducedSizes[cut] as number)) cut = i;
  });
  const length = layout.reducedSizes[cut] as number;
  const rounded = cut === layout.reducedSizes.length - 1 ? VIRTUAL_LANES : 1;
  const piece = Math.ceil(length / split / rounded) * rounded;
  const pieces = Math.ceil(length / piece);
  if (pieces === 1) return [singleStage(view, spec, layout, work)];
  const results = sizeOf(spec.kept);
  const partials = flattenParts(spec).flat.map(({ name, type }): Scratch => ({
    name,
    dtype: storageOf(type),
    length: pieces * results,
  }));
  return [
    partialStage(view, spec, layout, { cut, piece, pieces, partials, work }),
    combineStage(view, spec, layout, { pieces, partials }),
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

/** Position of a result among all results, in the order of the kept axes. */
function resultPosition(builder: Builder, space: Space): Expression {
  let position: Expression = builder.constant(0);
  for (const { variables } of space.keptAxes) {
    for (const variable of variables) {
      position = builder.add(builder.scale(position, variable.max + 1), variable);
    }
  }
  return position;
}

function partialStage(
  view: GroupView,
  spec: ReductionSpec,
  layout: Layout,
  plan: {
    readonly cut: number;
    readonly piece: number;
    readonly pieces: number;
    readonly partials: readonly Scratch[];
    readonly work: number;
  },
): Stage {
  const space = openSpace(view, spec, layout, `${view.name}_partial`);
  const { kernel } = space;
  const { builder } = kernel;
  const results = sizeOf(spec.kept);
  const part = builder.variable('part', 'i32', { min: 0, max: plan.pieces - 1 });
  const partAxis: Axis = { variables: [part], size: plan.pieces, positions: [0] };
  const nest = planNest(builder, [partAxis, ...space.keptAxes], {
    work: plan.work,
    vector: layout.columns,
    piece: COLUMN_PIECE,
  });
  const piece = nest.replaced.get(part) ?? part;
  const loops = reductionLoops(builder, space.reducedAxes).map((loop, i) => {
    if (i !== plan.cut) return loop;
    const start = builder.scale(piece, plan.piece);
    const end = builder.min(builder.offset(start, plan.piece), loop.end);
    return { ...loop, size: plan.piece, start, end };
  });
  const { statements, results: values } = accumulate(
    view,
    spec,
    space,
    layout,
    loops,
    nest.replaced,
  );
  const position = builder.add(builder.scale(part, results), resultPosition(builder, space));
  const stores = values.flat().map((value, which): Statement => ({
    kind: 'store',
    buffer: kernel.scratch(plan.partials[which] as Scratch, 'write'),
    index: position,
    value,
  }));
  const body = [...statements, ...substituteAll(builder, stores, nest.replaced)];
  return kernel.finish(nest.gridIndex, nest.gridSize, nest.wrap(body));
}

function combineStage(
  view: GroupView,
  spec: ReductionSpec,
  layout: Layout,
  plan: { readonly pieces: number; readonly partials: readonly Scratch[] },
): Stage {
  const space = openSpace(view, spec, layout, `${view.name}_combine`);
  const { kernel } = space;
  const { builder } = kernel;
  const results = sizeOf(spec.kept);
  const nest: Nest = planNest(builder, space.keptAxes, {
    work: spec.work * results * plan.pieces,
    vector: true,
    piece: COLUMN_PIECE,
  });
  const { flat, perPart, combine } = flattenParts(spec);
  const part = builder.variable('part', 'i32', { min: 0, max: plan.pieces - 1 });
  const position = builder.add(builder.scale(part, results), resultPosition(builder, space));
  const memo = new Map(nest.replaced);
  const index = substitute(builder, position, memo);
  const loads = plan.partials.map((scratch) =>
    builder.load(kernel.scratch(scratch, 'read'), index),
  );
  const loop: ReducedLoop = {
    index: part,
    size: plan.pieces,
    start: builder.constant(0),
    end: builder.constant(plan.pieces),
    replaced: [],
  };
  const total = serialLoops(builder, flat, [loop], (running) => combine(builder, running, loads));
  const finished = finishResults(spec, space, perPart(total.results));
  const body = [...total.statements, ...substituteAll(builder, finished, nest.replaced)];
  return kernel.finish(nest.gridIndex, nest.gridSize, nest.wrap(body));
}

/** Nothing to reduce: every result is what the identities finish as. */
function emptyReduction(view: GroupView, spec: ReductionSpec): Stage {
  const kernel = new KernelBuilder(view.name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const { indices, variables } = indexVariables(builder, 'i', spec.kept);
  for (const { node, accumulators, finish } of spec.parts) {
    const values = accumulators.map(({ type, identity }) => builder.constant(identity, type));
    emitter.give(node, finish(builder, values));
  }
  const axes = variables.map((variable, i) => ({
    variables: [variable],
    size: variable.max + 1,
    positions: [i],
  }));
  const nest = planNest(builder, axes, { work: sizeOf(spec.kept), vector: true });
  const stores = emitter.storeOutputs(spec.resultIndices(builder, indices), spec.shape);
  const body = nest.wrap(substituteAll(builder, stores, nest.replaced));
  return kernel.finish(nest.gridIndex, nest.gridSize, body);
}
