// Which of several schedules computes a contraction: by estimate, or by measuring each once on the
// device. The compiler asks; who measures and who remembers is the caller's business.
import type { Node } from '../../graph/node.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import type { GroupView } from '../lower/emit.ts';
import { kernelKey } from '../lower/kernel-key.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import { byteSize } from '../../base/dtype.ts';
import { hashWords } from '../../base/hash.ts';
import { formatShape } from '../../base/shape.ts';
import { type Trial, trialPlan } from './trial.ts';

/** How schedules are chosen. */
export interface AlgorithmPolicy {
  /** Only schedules whose result for an element does not depend on the sizes around it. */
  readonly reproducible: boolean;
  /** Most bytes of memory beside operands and results. */
  readonly workspaceLimit: number;
  /** No choice: of the schedules that are usable the first in their list, which suits all sizes. */
  readonly general?: boolean;
  /** Set to measure; else estimates decide. */
  readonly tuner?: Tuner | undefined;
}

/** Measures on a device, within a time bound, and remembers. */
export interface Tuner {
  /** What was measured before for this key, by schedule name. */
  lookup(key: string): ReadonlyMap<string, number> | undefined;
  /** Milliseconds of a plan, or null if there is no time left to measure. */
  measure(trial: Trial): number | null;
  remember(key: string, times: ReadonlyMap<string, number>): void;
}

export const DEFAULT_POLICY: AlgorithmPolicy = { reproducible: false, workspaceLimit: Infinity };

/** One schedule that could have been chosen. */
export interface Alternative {
  readonly schedule: string;
  /** Estimated milliseconds on one thread. */
  readonly estimate: number;
  /** Measured milliseconds, if it was measured. */
  readonly measured: number | null;
}

/** A chosen schedule, lowered. */
export interface Choice {
  readonly schedule: string;
  readonly stages: readonly Stage[];
  /** All that were usable, the chosen one included; in order of estimate. */
  readonly alternatives: readonly Alternative[];
}

interface Candidate {
  readonly schedule: ContractionSchedule;
  readonly estimate: number;
  stages: readonly Stage[] | null;
}

/**
 * What is measured alone runs in other company later: a difference smaller than this is no reason to
 * leave the estimate's choice (docs/benchmarks.md, strategies).
 */
const WORTH_CHANGING = 0.94;

/** The usable schedule that costs least under a policy, or null if none is usable. */
export function chooseSchedule(
  schedules: readonly ContractionSchedule[],
  context: ContractionContext,
  view: GroupView,
  policy: AlgorithmPolicy,
): Choice | null {
  const usable = schedules
    .filter((schedule) => !policy.reproducible || schedule.reproducible)
    .filter((schedule) => schedule.usable(context))
    .map((schedule): Candidate => {
      return { schedule, estimate: schedule.cost(context) / 1e6, stages: null };
    })
    .sort((a, b) => (policy.general === true ? 0 : a.estimate - b.estimate));
  const stagesOf = (candidate: Candidate): readonly Stage[] => {
    candidate.stages ??= candidate.schedule.lower(context);
    return candidate.stages;
  };
  const candidates =
    policy.workspaceLimit === Infinity
      ? usable
      : usable.filter((candidate) => workspaceBytes(stagesOf(candidate)) <= policy.workspaceLimit);
  const [first] = candidates;
  if (first === undefined) return null;
  const { tuner } = policy;
  const times =
    tuner === undefined || policy.general === true || candidates.length === 1
      ? new Map<string, number>()
      : measured(candidates, stagesOf, context.node, view, tuner);
  let best = first;
  for (const candidate of candidates) {
    const time = times.get(candidate.schedule.name) ?? Infinity;
    if (time < (times.get(best.schedule.name) ?? Infinity)) best = candidate;
  }
  const [fastest, estimated] = [best, first].map(({ schedule }) => times.get(schedule.name));
  if (fastest !== undefined && estimated !== undefined && fastest > WORTH_CHANGING * estimated) {
    best = first;
  }
  return {
    schedule: best.schedule.name,
    stages: stagesOf(best),
    alternatives: candidates.map(({ schedule, estimate }) => ({
      schedule: schedule.name,
      estimate,
      measured: times.get(schedule.name) ?? null,
    })),
  };
}

/** Bytes of what the kernels hand on to each other. */
export function workspaceBytes(stages: readonly Stage[]): number {
  const scratch = new Set(
    stages.flatMap(({ memory }) =>
      memory.flatMap((place) => (place.kind === 'scratch' ? [place.scratch] : [])),
    ),
  );
  let bytes = 0;
  for (const { dtype, length } of scratch) bytes += length * byteSize(dtype);
  return bytes;
}

/** Times by schedule name; measures what is not known. */
function measured(
  candidates: readonly Candidate[],
  stagesOf: (candidate: Candidate) => readonly Stage[],
  node: Node,
  view: GroupView,
  tuner: Tuner,
): ReadonlyMap<string, number> {
  const key = choiceKey(node, candidates.map(stagesOf), view);
  const known = tuner.lookup(key);
  if (known !== undefined && candidates.every(({ schedule }) => known.has(schedule.name))) {
    return known;
  }
  const times = new Map<string, number>();
  for (const candidate of candidates) {
    const time = tuner.measure(trialPlan(stagesOf(candidate), view));
    // Without time for all of them, none is preferred for having been measured.
    if (time === null) return new Map();
    times.set(candidate.schedule.name, time);
  }
  tuner.remember(key, times);
  return times;
}

/**
 * Text that is equal only for the same operation on the same shapes by the same kernels: a new
 * version of a schedule makes other kernels, and is measured again.
 */
function choiceKey(node: Node, lowered: readonly (readonly Stage[])[], view: GroupView): string {
  const operand = ({ dtype, shape }: Node): string => `${dtype}${formatShape(shape)}`;
  const input = (each: Node): string =>
    `${operand(each)}${view.isConstant(each) ? ' constant' : ''}`;
  let hash: number | undefined;
  for (const { kernel } of lowered.flat()) {
    const words = kernelKey(kernel);
    hash = hashWords(words, words.length, hash);
  }
  const kernels = ((hash ?? 0) >>> 0).toString(16).padStart(8, '0');
  const operands = node.inputs.map(input).join(' ');
  return `${node.op.name} ${operands} -> ${operand(node)} ${JSON.stringify(node.attrs)} ${kernels}`;
}
