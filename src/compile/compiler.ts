// The compiler: a linearized graph becomes a plan. Passes, scheduling, lowering and memory, in this
// order; the same program always gives the same plan.
import { byteSize, type DType, isFloat } from '../base/dtype.ts';
import { sizeOf } from '../base/shape.ts';
import type { Node } from '../graph/node.ts';
import { copy } from '../graph/ops/copy.ts';
import type { Kernel, Target } from '../ir/kernel.ts';
import type { Binding, Dispatch, Location } from '../runtime/plan.ts';
import { PlanCache } from './cache.ts';
import type { Flow } from './flow.ts';
import { explainStages } from './explain.ts';
import { lowerElementwise } from './lower/elementwise.ts';
import type { GroupOutput } from './lower/emit.ts';
import { viewOf } from './lower/group-view.ts';
import { kernelKey } from './lower/kernel-key.ts';
import { LoweringMemo } from './lower/memo.ts';
import { type MemoryPlan, planMemory, type Step } from './memory/plan-memory.ts';
import {
  bindingOf,
  type Kept,
  type Prepared,
  separateConstant,
  type Separated,
} from './memory/prepared.ts';
import { separateRoots } from './passes/copies.ts';
import { foldConstants } from './passes/fold-constants.ts';
import { rewrite } from './passes/rewrite.ts';
import { SIMPLIFICATIONS } from './passes/simplify.ts';
import type { CompiledProgram, KernelExplanation, Program } from './program.ts';
import { AccessMap } from './schedule/access.ts';
import { formGroups, type Group, type Grouping, keepsRows } from './schedule/group.ts';
import type { AlgorithmPolicy } from './tune/algorithms.ts';
import { materialise } from './schedule/materialise.ts';
import { orderGroups } from './schedule/order.ts';

export interface CompileOptions {
  /** Whether kernels are fused (default). Without, every node is simplified by nothing and stored. */
  readonly fusion?: boolean;
  /** How schedules are chosen; by estimate if nothing is said. */
  readonly algorithms?: AlgorithmPolicy;
  /**
   * For each leaf, whether it is likely the same in the next run: a parameter that this program does
   * not change. What follows from such leaves alone becomes a plan of its own (`prepared`).
   */
  readonly constantLeaves?: readonly boolean[];
  /** What was lowered before, for this target and these options; of this program alone by default. */
  readonly memo?: LoweringMemo;
}

/**
 * Compiles a program for a target.
 *
 * @throws Error `internal:` for what is a bug of the framework; user errors were thrown before.
 */
export function compile(
  program: Program,
  target: Target,
  options: CompileOptions = {},
): CompiledProgram {
  const { fusion = true, memo = new LoweringMemo() } = options;
  const rules = fusion ? [foldConstants(target), ...SIMPLIFICATIONS] : [];
  const rewritten = rewrite(program, rules, { numerics: target.numerics, common: fusion });
  const flow = separateRoots(rewritten.flow);
  const accesses = new AccessMap(target);
  const materialisation = materialise(flow, accesses, fusion);
  const grouping = formGroups(flow, accesses, materialisation, fusion);
  const order = orderGroups(flow, grouping);

  const { constantLeaves } = options;
  const constants = constantLeaves && constantValues(flow, constantLeaves);
  const bindings = bindRoots(program, flow, order.direct);
  const read = readElsewhere(grouping);
  const stored = new Set<Node>();
  const steps: Step[] = [];
  const kernels: KernelExplanation[] = [];
  for (const group of order.groups) {
    const outputs = outputsOf(group, bindings, read, target);
    for (const { node } of outputs) stored.add(node);
    const { algorithms } = options;
    const view = viewOf(group, flow, grouping, target, outputs, { algorithms, constants });
    const lowered = memo.lower(group, view);
    const { stages } = lowered;
    kernels.push(...explainStages(group, flow, accesses, grouping, outputs, lowered));
    for (const stage of stages) {
      steps.push({
        stage,
        mayShare: (result, operand) =>
          group.reads.get(operand) === true &&
          byteSize(result.dtype) === byteSize(operand.dtype) &&
          sizeOf(result.shape) === sizeOf(operand.shape),
      });
    }
  }
  for (const late of bindings.late) {
    const { stage, explanation } = copyStage(late, target);
    if (stage === undefined) continue;
    steps.push({ stage, mayShare: () => false });
    kernels.push(explanation);
  }
  const fixed = (node: Node): Location | null => fixedLocation(node, flow, bindings);
  const separated: Separated =
    constantLeaves === undefined
      ? { ahead: [], rest: steps, kept: [] }
      : separateConstant(steps, {
          isConstant: (node) => {
            const leaf = flow.leaves.get(node);
            return leaf !== undefined && constantLeaves[leaf] === true;
          },
          isNumber: (node) => isNumber(node, flow),
          isBound: (node) => fixed(node) !== null,
        });
  const { rest } = separated;
  const ahead = new Set(separated.ahead);
  const kept = new Map<Kept, Location>(
    separated.kept.map((each, i) => [each, { space: 'binding', index: bindings.list.length + i }]),
  );
  const memory = planMemory(rest, fixed, kept);
  const scalars = program.scalars.map(({ dtype }) => dtype);
  const keptBindings = separated.kept.map((each) => bindingOf(each, 'read'));
  return {
    plan: {
      ...shareKernels(rest, memory.locations, target, memo),
      arenaBytes: memory.arenaBytes,
      bindings: [...bindings.list, ...keptBindings],
      scalars,
    },
    prepared: preparedPlan(separated, planMemory(separated.ahead, fixed, kept), {
      bindings: bindings.list,
      scalars,
      target,
      memo,
      leafOf: (node) => flow.leaves.get(node),
      slotOf: (node) => flow.scalars.get(node),
    }),
    rootBindings: bindings.ofRoot,
    kernels: kernels.filter((_, i) => !ahead.has(steps[i] as Step)),
    stored: Uint8Array.from(rewritten.replacements, (node) => (stored.has(node) ? 1 : 0)),
    arenaLowerBound: memory.lowerBound,
  };
}

/** A number that is likely the same in every run. Integers count: where random numbers are, say. */
function isNumber(node: Node, flow: Flow): boolean {
  return flow.scalars.has(node) && isFloat(node.dtype);
}

/** Everything that is computed from nothing but parameters and numbers. */
function constantValues(flow: Flow, constantLeaves: readonly boolean[]): ReadonlySet<Node> {
  const constants = new Set<Node>();
  for (const node of flow.nodes) {
    const leaf = flow.leaves.get(node);
    const constant =
      leaf !== undefined
        ? constantLeaves[leaf] === true
        : flow.scalars.has(node)
          ? isNumber(node, flow)
          : node.inputs.every((input) => constants.has(input));
    if (constant) constants.add(node);
  }
  return constants;
}

/** The plan of what is computed once, or null if there is nothing. */
function preparedPlan(
  { ahead, kept }: Separated,
  memory: MemoryPlan,
  main: {
    readonly bindings: readonly Binding[];
    readonly scalars: readonly DType[];
    readonly target: Target;
    readonly memo: LoweringMemo;
    leafOf(node: Node): number | undefined;
    slotOf(node: Node): number | undefined;
  },
): Prepared | null {
  if (ahead.length === 0) return null;
  const { bindings, scalars, target, memo } = main;
  const leaves = new Set<number>();
  const slots = new Set<number>();
  for (const { stage } of ahead) {
    for (const place of stage.memory) {
      if (place.kind !== 'value') continue;
      const leaf = main.leafOf(place.node);
      const slot = main.slotOf(place.node);
      if (leaf !== undefined) leaves.add(leaf);
      if (slot !== undefined) slots.add(slot);
    }
  }
  // Results are bound as well, and not touched.
  const others = bindings.map(({ bytes }): Binding => ({ bytes, access: 'read' }));
  return {
    plan: {
      ...shareKernels(ahead, memory.locations, target, memo),
      arenaBytes: memory.arenaBytes,
      bindings: [...others, ...kept.map((each) => bindingOf(each, 'write'))],
      scalars,
    },
    kept: kept.map((_, i) => bindings.length + i),
    leaves: [...leaves],
    scalars: [...slots],
  };
}

// ---- bindings ---------------------------------------------------------------------------------

interface LateCopy {
  readonly node: Node;
  readonly binding: number;
}

interface Bindings {
  readonly list: readonly Binding[];
  readonly ofRoot: readonly number[];
  /** Binding of each value that is written straight to one. */
  readonly ofValue: ReadonlyMap<Node, number>;
  /** Values that cannot overwrite their leaf before everything else has run. */
  readonly late: readonly LateCopy[];
}

function bytesOf(node: Node): number {
  return sizeOf(node.shape) * byteSize(node.dtype);
}

/** Leaves come first, in their order; then a binding for each root that has no leaf to overwrite. */
function bindRoots(program: Program, flow: Flow, direct: ReadonlySet<Node>): Bindings {
  const list: Binding[] = program.leaves.map((leaf) => ({ bytes: bytesOf(leaf), access: 'read' }));
  const ofRoot: number[] = [];
  const ofValue = new Map<Node, number>();
  const late: LateCopy[] = [];
  for (const { node, inPlaceOf } of flow.roots) {
    if (inPlaceOf < 0) {
      ofRoot.push(list.length);
      ofValue.set(node, list.length);
      list.push({ bytes: bytesOf(node), access: 'write' });
      continue;
    }
    ofRoot.push(inPlaceOf);
    const before = list[inPlaceOf] as Binding;
    list[inPlaceOf] = { ...before, access: 'readwrite' };
    if (direct.has(node)) ofValue.set(node, inPlaceOf);
    else late.push({ node, binding: inPlaceOf });
  }
  return { list, ofRoot, ofValue, late };
}

function fixedLocation(node: Node, flow: Flow, bindings: Bindings): Location | null {
  const slot = flow.scalars.get(node);
  if (slot !== undefined) return { space: 'scalar', slot };
  const index = flow.leaves.get(node) ?? bindings.ofValue.get(node);
  return index === undefined ? null : { space: 'binding', index };
}

// ---- outputs ----------------------------------------------------------------------------------

/** Values that a group other than their own reads. */
function readElsewhere({ groups }: Grouping): Set<Node> {
  const read = new Set<Node>();
  for (const group of groups) for (const node of group.reads.keys()) read.add(node);
  return read;
}

/** What a group writes: roots and what others read. The rest stays in registers. */
function outputsOf(
  group: Group,
  bindings: Bindings,
  read: ReadonlySet<Node>,
  target: Target,
): readonly GroupOutput[] {
  const reloaded = keepsRows(group, target) ? new Set<Node>() : group.reloaded;
  const late = new Set(bindings.late.map(({ node }) => node));
  return group.members
    .filter(
      (node) =>
        read.has(node) || bindings.ofValue.has(node) || late.has(node) || reloaded.has(node),
    )
    .map((node) => ({ node, memory: { kind: 'value', node } }));
}

/** Writes over a leaf that could not be written before: everybody has read it now. */
function copyStage({ node, binding }: LateCopy, target: Target) {
  const copied = copy(node);
  const [stage] = lowerElementwise(
    {
      target,
      anchors: [copied],
      outputs: [{ node: copied, memory: { kind: 'binding', index: binding } }],
      isInMemory: (other) => other === node,
      isConstant: () => false,
      name: 'copy',
    },
    6,
  );
  const explanation: KernelExplanation = {
    name: 'copy',
    ops: ['copy'],
    shape: node.shape,
    schedule: 'elementwise',
    flops: 0,
    bytesRead: bytesOf(node),
    bytesWritten: bytesOf(node),
    reasons: ['the value that it overwrites is still needed when it is computed'],
  };
  return { stage, explanation };
}

// ---- kernels ----------------------------------------------------------------------------------

/** Kernels without duplicates, and the dispatches that call them. */
function shareKernels(
  steps: readonly Step[],
  locations: readonly (readonly Location[])[],
  target: Target,
  memo: LoweringMemo,
): { readonly kernels: readonly Kernel[]; readonly dispatches: readonly Dispatch[] } {
  const kernels: Kernel[] = [];
  const same = new Map<Kernel, number>();
  const known = new PlanCache<number>(steps.length);
  const dispatches = steps.map(({ stage }, i): Dispatch => {
    let kernel = same.get(stage.kernel);
    if (kernel === undefined) {
      const key = kernelKey(stage.kernel);
      kernel = known.lookup(key, key.length);
      if (kernel === undefined) {
        kernel = kernels.length;
        known.insert(key, key.length, kernel);
        kernels.push(memo.prepare(stage.kernel, target));
      }
      same.set(stage.kernel, kernel);
    }
    return { kernel, arguments: locations[i] as readonly Location[] };
  });
  return { kernels, dispatches };
}
