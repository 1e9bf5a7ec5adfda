// The schedules for contractions. The reduction at the end can do everything.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { channelConvolution } from '../schedule/channel-convolution.ts';
import { channelFilter } from '../schedule/channel-filter.ts';
import { depthwiseConvolution } from '../schedule/depthwise.ts';
import { geometryOf, implicitProduct } from '../schedule/convolution.ts';
import { dotFilter } from '../schedule/dot-filter.ts';
import { dotProduct } from '../schedule/dot-product.ts';
import { packedProduct } from '../schedule/matmul.ts';
import { pairProduct } from '../schedule/pair-product.ts';
import { rowConvolution } from '../schedule/row-convolution.ts';
import { unpackedProduct } from '../schedule/unpacked-product.ts';
import { winograd2, winograd4 } from '../schedule/winograd.ts';
import { contractionContext, type ContractionSchedule } from './contraction.ts';
import type { GroupView } from './emit.ts';
import {
  type AlgorithmPolicy,
  type Alternative,
  chooseSchedule,
  DEFAULT_POLICY,
} from '../tune/algorithms.ts';
import type { Stage } from './kernel-builder.ts';
import { lowerNaiveContraction } from './naive-contraction.ts';

/** The kernels of a group. */
export interface LoweredGroup {
  readonly stages: readonly Stage[];
  /** How it is computed, for explain(). */
  readonly schedule: string;
  /** What the schedule was chosen of. */
  readonly alternatives?: readonly Alternative[];
}

/** First those that take all sizes of their kind, packing both operands. */
const SCHEDULES: readonly ContractionSchedule[] = [
  channelConvolution,
  implicitProduct,
  packedProduct,
  channelFilter,
  depthwiseConvolution,
  dotFilter,
  dotProduct,
  pairProduct,
  rowConvolution,
  unpackedProduct,
  winograd2,
  winograd4,
];

/** All of them; where nothing is chosen, depthwise convolutions have a schedule of their own too. */
function schedulesFor(node: Node, { general }: AlgorithmPolicy): readonly ContractionSchedule[] {
  const groups = geometryOf(node)?.groups ?? 1;
  const depthwise = general === true && groups > 1 && node.inputs[1]?.shape[1] === 1;
  return depthwise ? [depthwiseConvolution, ...SCHEDULES] : SCHEDULES;
}

/** The kernels of a contraction, the name of the schedule that was chosen, and what it was chosen of. */
export function lowerContraction(view: GroupView, node: Node): LoweredGroup {
  // Nothing to compute, or sums over nothing: schedules may take for granted that there is work.
  if (sizeOf(node.shape) === 0) return { stages: [], schedule: 'nothing' };
  const empty = node.inputs.some((input) => sizeOf(input.shape) === 0);
  const policy = view.algorithms ?? DEFAULT_POLICY;
  const choice = empty
    ? null
    : chooseSchedule(schedulesFor(node, policy), contractionContext(view, node), view, policy);
  return choice ?? { stages: lowerNaiveContraction(view, node), schedule: 'reduction' };
}
