// From a group to its kernels: chooses the lowering by the kind of its main op.
import type { Target } from '../../ir/kernel.ts';
import type { Node } from '../../graph/node.ts';
import type { Flow } from '../flow.ts';
import type { Group, Grouping } from '../schedule/group.ts';
import type { AlgorithmPolicy } from '../tune/algorithms.ts';
import { lowerCustom } from './custom.ts';
import { lowerElementwise } from './elementwise.ts';
import type { GroupOutput, GroupView } from './emit.ts';
import { hasPhases, lowerPhases } from './phases.ts';
import { lowerReduction, reduceSpec } from './reduction.ts';
import { lowerContraction, type LoweredGroup } from './schedules.ts';

/** What else lowering is told. */
export interface LoweringFacts {
  readonly algorithms?: AlgorithmPolicy | undefined;
  /** Values that are the same in every run until a parameter changes. */
  readonly constants?: ReadonlySet<Node> | undefined;
}

/** What lowering is told about a group; `outputs` are the values it must write. */
export function viewOf(
  group: Group,
  flow: Flow,
  { groupOf }: Grouping,
  target: Target,
  outputs: readonly GroupOutput[],
  { algorithms, constants }: LoweringFacts = {},
): GroupView {
  return {
    isConstant: (node) => constants?.has(node) === true,
    target,
    algorithms,
    anchors: group.anchors,
    outputs,
    name: kernelName(group),
    mayRepeat: ![...group.reads.values()].includes(true),
    isInMemory: (node) => {
      if (flow.isLeaf(node)) return true;
      const owner = groupOf.get(node);
      return owner !== undefined && owner !== group;
    },
  };
}

/** The kernels of a group. */
export function lowerGroup(group: Group, view: GroupView): LoweredGroup {
  const anchor = group.anchors[0] as Node;
  switch (anchor.op.lower.kind) {
    case 'reduce': {
      if (hasPhases(group)) {
        const { stages, phases } = lowerPhases(group, view);
        return { stages, schedule: `rows in ${phases} phases` };
      }
      const spec = reduceSpec(group.anchors, group.cost);
      const stages = lowerReduction(view, spec);
      return { stages, schedule: stages.length > 1 ? 'reduction in pieces' : 'reduction' };
    }
    case 'matmul':
    case 'convolution':
      return lowerContraction(view, anchor);
    case 'custom':
      return { stages: lowerCustom(view, anchor), schedule: 'own loops' };
    default:
      return { stages: lowerElementwise(view, group.cost), schedule: 'elementwise' };
  }
}

/** A readable name, for profiles and listings: the ops of the stored values. */
function kernelName(group: Group): string {
  const names = [...new Set(group.members.map(({ op }) => op.name))];
  const shown = names.length > 3 ? [...names.slice(0, 2), `${names.length - 2}_more`] : names;
  return shown.join('_');
}
