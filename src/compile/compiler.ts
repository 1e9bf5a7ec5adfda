// The compiler: a linearized graph becomes a plan. Passes, scheduling, lowering and memory, in this
// order; the same program always gives the same plan.
import { byteSize, type DType, isFloat } from '../base/dtype.ts';
import { sizeOf } from '../base/shape.ts';
import type { Node } from '../graph/node.ts';
import type { Kernel, Target } from '../ir/kernel.ts';
import type { Binding, Dispatch, Location, Loop, Plan, PreparedPlan } from '../runtime/plan.ts';
import { PlanCache } from './cache.ts';
import type { Flow } from './flow.ts';
import { isLoop, type Item, type ListedLoop, type ListedStep } from './items.ts';
import { type Compilation, copyStep, list, schedule } from './listing.ts';
import { kernelKey } from './lower/kernel-key.ts';
import { LoweringMemo } from './lower/memo.ts';
import {
  type Budgeted,
  type BudgetReport,
  fitBudget,
  type MemoryBudget,
  saveMemory,
} from './memory/budget.ts';
import { type MemoryPlan, planMemory, type Step } from './memory/plan-memory.ts';
import { bindingOf, type Kept, separateConstant, type Separated } from './memory/prepared.ts';
import type { Fixed } from './memory/units.ts';
import { separateRoots } from './passes/copies.ts';
import { rewrite } from './passes/rewrite.ts';
import { rulesFor } from './passes/rules.ts';
import { type Passes, passesOf } from './passes/switches.ts';
import type { CompiledProgram, Program } from './program.ts';
import { listRegion } from './regions.ts';
import type { AlgorithmPolicy } from './tune/algorithms.ts';

export interface CompileOptions {
  /** Whether kernels are fused (default). Without, every node is simplified by nothing and stored. */
  readonly fusion?: boolean;
  /** Passes that are switched off, by `false`. */
  readonly passes?: Partial<Passes>;
  /** How schedules are chosen; by estimate if nothing is said. */
  readonly algorithms?: AlgorithmPolicy;
  /**
   * For each leaf, whether it is likely the same in the next run: a parameter that this program does
   * not change. What follows from such leaves alone becomes a plan of its own (`prepared`).
   */
  readonly constantLeaves?: readonly boolean[];
  /**
   * Whether they stay the same for many runs (default), so that packing them costs nothing in the
   * choice of schedules. Parameters in training change between any two runs.
   */
  readonly packedOnce?: boolean;
  /** What was lowered before, for this target and these options; of this program alone by default. */
  readonly memo?: LoweringMemo;
  /** What the arena must fit into; what does not is computed again (memory/budget.ts). */
  readonly memoryBudget?: MemoryBudget | null | undefined;
}

/**
 * Compiles a program for a target.
 *
 * @throws BudgetError if the arena cannot be made to fit.
 * @throws Error `internal:` for what is a bug of the framework; user errors were thrown before.
 */
export function compile(
  program: Program,
  target: Target,
  options: CompileOptions = {},
): CompiledProgram {
  const { fusion = true, memo = new LoweringMemo(), algorithms, constantLeaves } = options;
  const { packedOnce = true } = options;
  const passes = passesOf(options.passes, fusion);
  const lasting = packedOnce ? constantLeaves : undefined;
  const rules = rulesFor(target, passes);
  const compilation: Compilation = {
    target,
    passes,
    rules,
    algorithms,
    memo,
    constants: (flow) => (lasting === undefined ? undefined : constantValues(flow, lasting)),
    listRegion,
  };
  const rewritten = rewrite(program, rules, {
    numerics: target.numerics,
    common: passes.commonSubexpressions,
    constantLeaves: lasting,
  });
  const flow = separateRoots(rewritten.flow);
  const scheduled = schedule(flow, compilation, 0);
  const bindings = bindRoots(program, flow, scheduled.order.direct);
  const { items, stored } = list(scheduled, compilation, 0);
  const all = [...items, ...lateCopies(bindings, target)];
  const fixed = (node: Node): Location | null => fixedLocation(node, flow, bindings);
  const separated: Separated =
    constantLeaves === undefined
      ? { ahead: [], rest: all, kept: [] }
      : separateConstant(all, {
          isConstant: (node) => isConstantLeaf(node, flow, constantLeaves),
          isNumber: (node) => isNumber(node, flow),
          isBound: (node) => fixed(node) !== null,
          keepsValues: passes.constantFolding,
          keepsPacked: passes.weightPacking,
        });
  const kept = new Map<Kept, Location>(
    separated.kept.map((each, i) => [each, { space: 'binding', index: bindings.list.length + i }]),
  );
  const scalars = program.scalars.map(({ dtype }) => dtype);
  const where: Fixed = { fixed, kept, target };
  const within = placeWithin(separated.rest, options, where);
  const main = finish(within.placed, where, memo);
  const ahead = finish(placeItems(separated.ahead, where), where, memo);
  const keptBindings = separated.kept.map((each) => bindingOf(each, 'read'));
  return {
    plan: { ...main.parts, bindings: [...bindings.list, ...keptBindings], scalars },
    prepared: preparedPlan(separated, ahead, {
      bindings: bindings.list,
      scalars,
      leafOf: (node) => flow.leaves.get(node),
      slotOf: (node) => flow.scalars.get(node),
    }),
    rootBindings: bindings.ofRoot,
    kernels: within.placed.steps.map(({ explanation }) => explanation),
    stored: Uint8Array.from(rewritten.replacements, (node) => (stored.has(node) ? 1 : 0)),
    arenaLowerBound: main.lowerBound,
    unplannedBytes: main.unplannedBytes,
    applied: [...rewritten.applied],
    budget: within.report,
  };
}

/** Places everything within the budget; without one, in less than it takes where that is nearly free. */
function placeWithin(
  items: readonly Item[],
  { memoryBudget = null }: CompileOptions,
  where: Fixed,
): { readonly placed: Placed; readonly report: BudgetReport | null } {
  const arenaBytesOf = (part: readonly Item[], enough?: number): number =>
    placeItems(part, where, enough).arenaBytes;
  let budgeted: Budgeted | null;
  if (memoryBudget === null) {
    const placed = placeItems(items, where);
    budgeted = saveMemory(items, placed.arenaBytes, where, arenaBytesOf);
    if (budgeted === null) return { placed, report: null };
  } else budgeted = fitBudget(items, memoryBudget, where, arenaBytesOf);
  const { report } = budgeted;
  return { placed: placeItems(budgeted.items, where, report.arenaBytes), report };
}

/** What could not overwrite its leaf before: everybody has read it now. */
function lateCopies({ late }: Bindings, target: Target): Item[] {
  return late.flatMap(({ node, binding }) =>
    copyStep(
      node,
      { kind: 'value', node },
      { kind: 'binding', index: binding },
      target,
      'the value that it overwrites is still needed when it is computed',
    ),
  );
}

function isConstantLeaf(node: Node, flow: Flow, constantLeaves: readonly boolean[]): boolean {
  const leaf = flow.leaves.get(node);
  return leaf !== undefined && constantLeaves[leaf] === true;
}

/** A number that is likely the same in every run. Integers count: where random numbers are, say. */
function isNumber(node: Node, flow: Flow): boolean {
  return flow.scalars.has(node) && isFloat(node.dtype);
}

/** Everything that is computed from nothing but parameters and numbers. */
function constantValues(flow: Flow, constantLeaves: readonly boolean[]): ReadonlySet<Node> {
  const constants = new Set<Node>();
  for (const node of flow.nodes) {
    const constant = flow.leaves.has(node)
      ? isConstantLeaf(node, flow, constantLeaves)
      : flow.scalars.has(node)
        ? isNumber(node, flow)
        : node.inputs.every((input) => constants.has(input));
    if (constant) constants.add(node);
  }
  return constants;
}

interface Finished {
  readonly parts: Pick<Plan, 'kernels' | 'dispatches' | 'loops' | 'arenaBytes'>;
  readonly lowerBound: number;
  readonly unplannedBytes: number;
}

interface Placed extends MemoryPlan {
  readonly steps: readonly ListedStep[];
  readonly listed: readonly (ListedLoop & {
    readonly first: number;
    readonly end: number;
    readonly depth: number;
  })[];
}

/** Gives everything a place. */
function placeItems(items: readonly Item[], { fixed, kept }: Fixed, enough = 0): Placed {
  const steps: ListedStep[] = [];
  const listed: (ListedLoop & { readonly first: number; end: number; readonly depth: number })[] =
    [];
  const flatten = (part: readonly Item[], depth: number): void => {
    for (const item of part) {
      if (!isLoop(item)) {
        steps.push(item);
        continue;
      }
      const loop = { ...item, first: steps.length, end: 0, depth };
      listed.push(loop);
      flatten(item.items, depth + 1);
      loop.end = steps.length;
    }
  };
  flatten(items, 0);
  const ranges = listed.map(({ first, end, condition }) => ({
    first,
    end,
    condition: condition?.memory ?? null,
  }));
  return { ...planMemory(steps, fixed, kept, ranges, enough), steps, listed };
}

/** Shares the kernels of what is placed. */
function finish(placed: Placed, where: Fixed, memo: LoweringMemo): Finished {
  const { steps, listed, locations, conditions, arenaBytes, lowerBound, unplannedBytes } = placed;
  const loops = listed.map(({ first, end, depth, trips, condition }, i): Loop => {
    const location = conditions[i] ?? null;
    return {
      first,
      end,
      depth,
      trips,
      condition:
        condition === null || location === null ? null : { location, when: condition.when },
    };
  });
  const shared = shareKernels(steps, locations, where.target, memo);
  return {
    parts: { ...shared, ...(loops.length > 0 ? { loops } : {}), arenaBytes },
    lowerBound,
    unplannedBytes,
  };
}

/** The plan of what is computed once, or null if there is nothing. */
function preparedPlan(
  { ahead, kept }: Separated,
  { parts }: Finished,
  main: {
    readonly bindings: readonly Binding[];
    readonly scalars: readonly DType[];
    leafOf(node: Node): number | undefined;
    slotOf(node: Node): number | undefined;
  },
): PreparedPlan | null {
  if (ahead.length === 0) return null;
  const { bindings, scalars } = main;
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
      ...parts,
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
