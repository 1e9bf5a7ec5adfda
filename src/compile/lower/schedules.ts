// The schedules for contractions. The reduction at the end can do everything.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { channelConvolution } from '../schedule/channel-convolution.ts';
import { channelFilter } from '../schedule/channel-filter.ts';
import { depthwiseConvolution } from '../schedule/depthwise.ts';
import { implicitProduct } from '../schedule/convolution.ts';
import { dotFilter } from '../schedule/dot-filter.ts';
import { dotProduct } from '../schedule/dot-product.ts';
import { packedProduct } from '../schedule/matmul.ts';
import { pairProduct } from '../schedule/pair-product.ts';
import { unpackedProduct } from '../schedule/unpacked-product.ts';
import { winograd2, winograd4 } from '../schedule/winograd.ts';
import { contractionContext, type ContractionSchedule } from './contraction.ts';
import type { GroupView } from './emit.ts';
import { type Alternative, chooseSchedule, DEFAULT_POLICY } from '../tune/algorithms.ts';
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

const SCHEDULES: readonly ContractionSchedule[] = [
  channelConvolution,
  channelFilter,
  depthwiseConvolution,
  dotFilter,
  dotProduct,
  implicitProduct,
  packedProduct,
  pairProduct,
  unpackedProduct,
  winograd2,
  winograd4,
];

/** The kernels of a contraction, the name of the schedule that was chosen, and what it was chosen of. */
export function lowerContraction(view: GroupView, node: Node): LoweredGroup {
  // Nothing to compute, or sums over nothing: schedules may take for granted that there is work.
  if (sizeOf(node.shape) === 0) return { stages: [], schedule: 'nothing' };
  const empty = node.inputs.some((input) => sizeOf(input.shape) === 0);
  const policy = view.algorithms ?? DEFAULT_POLICY;
  const choice = empty
    ? null
    : chooseSchedule(SCHEDULES, contractionContext(view, node), view, policy);
  return choice ?? { stages: lowerNaiveContraction(view, node), schedule: 'reduction' };
}
