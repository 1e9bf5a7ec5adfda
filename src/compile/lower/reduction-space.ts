// The iteration space of a reduction: which axes run as one, in which order, and whether vectors run
// along the results or along what is reduced.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import { VIRTUAL_LANES } from '../../ir/reduce.ts';
import {
  type Axis,
  chooseInnermost,
  collapse,
  indexVariables,
  innermostCost,
  motionOf,
} from './axes.ts';
import { Emitter, type GroupView } from './emit.ts';
import { KernelBuilder } from './kernel-builder.ts';
import type { ReductionSpec } from './reduction.ts';
import { type IndexUse, UseCollector } from './uses.ts';

/** A kernel under construction in which the elements to reduce have been emitted. */
export interface Space {
  readonly kernel: KernelBuilder;
  readonly emitter: Emitter;
  readonly keptIndices: readonly Expression[];
  /** Running values of one element, of all parts in order. */
  readonly mapped: readonly Expression[];
  /** Outer to inner. */
  readonly kept: readonly Axis[];
  readonly reduced: readonly Axis[];
  /** Whether vectors run along the last kept axis, one result per lane. */
  readonly columns: boolean;
  /** Whether neighbouring results read neighbouring elements. */
  readonly contiguous: boolean;
}

/** Emits the elements and decides how they are run through. */
export function openSpace(view: GroupView, spec: ReductionSpec, name: string): Space {
  const kernel = new KernelBuilder(name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const kept = indexVariables(builder, 'i', spec.kept);
  const reduced = indexVariables(builder, 'r', spec.reduced);
  const collector = new UseCollector([...kept.variables, ...reduced.variables]);
  const mapped = spec.parts.flatMap((part) => part.map(emitter, kept.indices, reduced.indices));
  for (const value of mapped) collector.value(value);
  const loads = [...collector.uses];
  for (const { node, accumulators, finish } of spec.parts) {
    const values = accumulators.map(({ type }) => builder.variable('value', type));
    emitter.give(node, finish(builder, values));
  }
  const results = spec.resultIndices(builder, kept.indices);
  for (const { index, value, node } of emitter.outputValues(results, spec.shape)) {
    collector.access('store', index, byteSize(node.dtype));
    collector.value(value);
  }
  const keptAxes = innermostLast(collapse(kept.variables, collector.uses), collector.uses);
  const last = keptAxes.at(-1);
  const contiguous = last !== undefined && loads.some((use) => motionOf(use, last) === 'next');
  const keptIndices = kept.indices;
  const shared = { kernel, emitter, keptIndices, mapped, kept: keptAxes, contiguous };
  if (view.target.numerics === 'strict') {
    const axes = runsAsAxes(spec, reduced.variables, loads, kept.variables.length);
    return { ...shared, reduced: axes, columns: keptAxes.length > 0 && spec.columns };
  }
  const reducedAxes = innermostLast(
    collapse(reduced.variables, loads, kept.variables.length),
    loads,
  );
  const columns = runsInColumns(keptAxes.at(-1), reducedAxes.at(-1), loads, spec);
  return { ...shared, reduced: reducedAxes, columns };
}

export function innermostLast(axes: readonly Axis[], uses: readonly IndexUse[]): readonly Axis[] {
  const last = chooseInnermost(axes, uses);
  return last < 0 ? axes : [...axes.filter((_, i) => i !== last), axes[last] as Axis];
}

/** Whether one result per lane is better than all lanes for one result. */
function runsInColumns(
  kept: Axis | undefined,
  reduced: Axis | undefined,
  loads: readonly IndexUse[],
  spec: ReductionSpec,
): boolean {
  if (kept === undefined || kept.size < 4) return false;
  if (reduced === undefined || sizeOf(spec.reduced) < VIRTUAL_LANES) return true;
  return innermostCost(kept, loads) < innermostCost(reduced, loads);
}

/**
 * Strict numerics: neighbouring reduced axes run as one in row-major order however the values lie
 * in memory, so that the order of combination depends on the shape alone.
 */
export function runsAsAxes(
  spec: Pick<ReductionSpec, 'runs' | 'reduced'>,
  variables: readonly Variable[],
  loads: readonly IndexUse[],
  first: number,
): readonly Axis[] {
  const axes: Axis[] = [];
  let next = 0;
  let position = 0;
  for (const length of spec.runs) {
    const sizes = spec.reduced.slice(position, position + length);
    position += length;
    const members = sizes.filter((size) => size !== 1).length;
    if (members === 0) continue;
    const run = variables.slice(next, next + members);
    axes.push({
      variables: run,
      joined: collapse(run, loads, first + next).length === 1,
      size: sizeOf(sizes),
      positions: run.map((_, i) => first + next + i),
    });
    next += members;
  }
  return axes;
}
