// The schedules for contractions. The reduction at the end can do everything.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { implicitProduct } from '../schedule/convolution.ts';
import { directConvolution } from '../schedule/direct-convolution.ts';
import { packedProduct } from '../schedule/matmul.ts';
import { contractionContext, type ContractionSchedule } from './contraction.ts';
import type { GroupView } from './emit.ts';
import type { Stage } from './kernel-builder.ts';
import { lowerNaiveContraction } from './naive-contraction.ts';

const SCHEDULES: readonly ContractionSchedule[] = [
  directConvolution,
  implicitProduct,
  packedProduct,
];

/** The kernels of a contraction and the name of the schedule that was chosen. */
export function lowerContraction(
  view: GroupView,
  node: Node,
): { readonly stages: readonly Stage[]; readonly schedule: string } {
  // Nothing to compute, or sums over nothing: schedules may take for granted that there is work.
  if (sizeOf(node.shape) === 0) return { stages: [], schedule: 'nothing' };
  if (node.inputs.some((input) => sizeOf(input.shape) === 0)) {
    return { stages: lowerNaiveContraction(view, node), schedule: 'reduction' };
  }
  const context = contractionContext(view, node);
  let best: ContractionSchedule | null = null;
  let lowest = Infinity;
  for (const schedule of SCHEDULES) {
    if (!schedule.usable(context)) continue;
    const cost = schedule.cost(context);
    if (cost >= lowest) continue;
    best = schedule;
    lowest = cost;
  }
  if (best === null) return { stages: lowerNaiveContraction(view, node), schedule: 'reduction' };
  return { stages: best.lower(context), schedule: best.name };
}
