// Kernels without a main op: every element of the results from the elements it needs.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Statement } from '../../ir/kernel.ts';
import { mapExpressions, substitute } from '../../ir/rewrite.ts';
import { chooseInnermost, collapse, indexVariables } from './axes.ts';
import { Emitter, type GroupView } from './emit.ts';
import { KernelBuilder, type Stage } from './kernel-builder.ts';
import { planNest } from './nest.ts';
import { UseCollector } from './uses.ts';

/** The kernel of a group of elementwise values of one size. `work`: arithmetic per element. */
export function lowerElementwise(view: GroupView, work: number): Stage[] {
  const shape = finestShape(view.outputs.map(({ node }) => node));
  if (sizeOf(shape) === 0) return [];
  const kernel = new KernelBuilder(view.name);
  const { builder } = kernel;
  const emitter = new Emitter(kernel, view);
  const { indices, variables } = indexVariables(builder, 'i', shape);
  const collector = new UseCollector(variables);
  const body = emitter.storeOutputs(indices, shape);
  collectUses(collector, body);
  const { uses } = collector;
  const axes = collapse(variables, uses);
  const innermost = chooseInnermost(axes, uses);
  const ordered = axes.filter((_, i) => i !== innermost);
  const inner = axes[innermost];
  if (inner !== undefined) ordered.push(inner);
  const nest = planNest(builder, ordered, { work: work * sizeOf(shape), vector: true });
  const memo = new Map(nest.replaced);
  const replaced = mapExpressions(body, (value) => substitute(builder, value, memo));
  return [kernel.finish(nest.gridIndex, nest.gridSize, nest.wrap(replaced))];
}

/** Notes all index expressions of straight-line statements. */
export function collectUses(collector: UseCollector, statements: readonly Statement[]): void {
  for (const statement of statements) {
    if (statement.kind === 'store') {
      collector.access('store', statement.index, byteSize(statement.buffer.dtype));
      collector.value(statement.value);
    } else if (statement.kind === 'let') collector.value(statement.value);
  }
}

/** Of shapes of one size, the one that tells most axes apart. */
function finestShape(nodes: readonly Node[]): readonly number[] {
  let finest: readonly number[] = [];
  let most = -1;
  for (const { shape } of nodes) {
    const axes = shape.filter((size) => size !== 1).length;
    if (axes > most) {
      most = axes;
      finest = shape;
    }
  }
  return finest;
}
