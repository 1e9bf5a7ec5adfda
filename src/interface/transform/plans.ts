// Plans by device, settings and program: found again, compiled, compiled anew with what was learned.
import { BudgetError } from '../../base/errors.ts';
import { PlanCache } from '../../compile/cache.ts';
import { compile } from '../../compile/compiler.ts';
import { LoweringMemo } from '../../compile/lower/memo.ts';
import { contractionFlops } from '../../compile/lower/naive-contraction.ts';
import { passesKey, passesOf } from '../../compile/passes/switches.ts';
import type { Root } from '../../compile/program.ts';
import type { Linearization } from '../../graph/linearize.ts';
import type { Node } from '../../graph/node.ts';
import type { Device, Executable } from '../../runtime/device.ts';
import type { Storage } from '../../runtime/storage.ts';
import { Ahead } from './ahead.ts';
import { policyFor, policyKey } from '../tuning/algorithms.ts';
import type { Entry, Results } from './entry.ts';
import { guardsOf } from './promises.ts';
import { settings, targetOf } from './settings.ts';
import { compiledOnce } from './stored-programs.ts';
import { bytesOf } from './values.ts';

/** Counters that looking up and compiling add to. */
interface PlanStats {
  planHits: number;
  planMisses: number;
  compileMs: number;
}

/** Plans and lowered groups for one device under the same settings. */
interface Shelf {
  readonly name: string;
  readonly device: Device;
  readonly plans: PlanCache<Entry>;
  readonly memo: LoweringMemo;
}

type Compiled = Pick<Entry, 'compiled' | 'executable' | 'ahead'>;

/** A plan that ran, and where. */
export interface RecentPlan {
  readonly entry: Entry;
  readonly device: Device;
}

export class Plans {
  /** Those that ran last, newest first. */
  readonly recent: RecentPlan[] = [];
  readonly #shelves = new Map<string, Shelf>();
  readonly #stats: PlanStats;
  readonly #dropped: (entry: Entry) => void;

  constructor(stats: PlanStats, dropped: (entry: Entry) => void) {
    this.#stats = stats;
    this.#dropped = dropped;
  }

  /** The plan of a program whose key is complete. */
  find(device: Device, linear: Linearization, results: Results): Entry {
    const { key } = linear;
    const shelf = this.#shelfFor(device);
    const { plans } = shelf;
    const known = plans.lookup(key.words, key.length);
    if (known !== undefined) {
      this.#stats.planHits++;
      return known;
    }
    const entry: Entry = {
      ...this.#compile(device, shelf, linear, results, results.roots),
      learned: new Set(),
      learnedRoots: [],
      stale: false,
      bindings: [],
      scalars: new Float64Array(linear.scalars.length),
      // Filled, because a hole is undefined and would be freed as a buffer.
      staging: linear.leaves.map(() => null),
      stagedStorage: [],
      stagedVersion: [],
      kept: [],
      runs: 0,
      measured: null,
    };
    plans.insert(key.words, key.length, entry);
    return entry;
  }

  /** Compiles `entry` again, so that it keeps what it has learned. */
  renew(entry: Entry, device: Device, linear: Linearization, results: Results): void {
    const { roots } = results;
    const known = new Set(roots.map((root) => root.position));
    const wanted = [...entry.learned].filter((position) => !known.has(position));
    const learned = worthKeeping(wanted, linear.nodes).sort((a, b) => a - b);
    const kept = learned.map((position) => ({ position, inPlaceOf: -1 }));
    const shelf = this.#shelfFor(device);
    // Under a budget there may be no plan that keeps them: then the present one goes on.
    if (settings.memoryBudget === null) disposeExecutables(entry);
    let compiled: Compiled;
    try {
      compiled = this.#compile(device, shelf, linear, results, [...roots, ...kept]);
    } catch (error) {
      if (settings.memoryBudget === null || !(error instanceof BudgetError)) throw error;
      entry.stale = false;
      return;
    }
    if (settings.memoryBudget !== null) disposeExecutables(entry);
    Object.assign(entry, compiled);
    entry.learnedRoots = learned;
    // The new plan may bind less: what is computed ahead depends on which leaves are parameters.
    entry.bindings.length = 0;
    entry.stale = false;
    entry.measured = null;
  }

  /** Notes that a plan ran. */
  ran(entry: Entry, device: Device): void {
    if (this.recent[0]?.entry === entry) return;
    const at = this.recent.findIndex((known) => known.entry === entry);
    if (at >= 0) this.recent.splice(at, 1);
    this.recent.unshift({ entry, device });
    if (this.recent.length > 8) this.recent.pop();
  }

  /** Drops all plans, or those of the device of this name, and the memory they hold. */
  clear(name?: string): void {
    const others = this.recent.filter(({ device }) => name !== undefined && device.name !== name);
    this.recent.splice(0, this.recent.length, ...others);
    for (const [key, { device, plans }] of this.#shelves) {
      if (name !== undefined && device.name !== name) continue;
      plans.clear();
      this.#shelves.delete(key);
    }
  }

  #shelfFor(device: Device): Shelf {
    const { numerics, precision, fusion, passes, memoryBudget } = settings;
    const switches = passesKey(passesOf(passes, fusion));
    const parts = [device.name, numerics, precision, switches, policyKey(), memoryBudget];
    const name = parts.join(':');
    let shelf = this.#shelves.get(name);
    if (shelf === undefined) {
      const plans = new PlanCache<Entry>(settings.planCacheSize, (entry: Entry) => {
        this.#dropped(entry);
        disposeExecutables(entry);
        for (const buffer of entry.staging) if (buffer !== null) device.free(buffer);
        entry.staging.length = 0;
      });
      shelf = { name, device, plans, memo: new LoweringMemo() };
      this.#shelves.set(name, shelf);
    }
    return shelf;
  }

  #compile(
    device: Device,
    { name, memo }: Shelf,
    linear: Linearization,
    results: Results,
    roots: readonly Root[],
  ): Compiled {
    this.#stats.planMisses++;
    const start = performance.now();
    const { nodes, leaves, scalars, key } = linear;
    const [nodeCount, keyLength] = [nodes.length, key.length];
    const guards = guardsOf(results.promises).map((node) => ({
      position: linear.add(node),
      inPlaceOf: -1,
    }));
    const program = {
      nodes: nodes.slice(),
      leaves: leaves.slice(),
      scalars: scalars.slice(),
      roots: [...roots, ...guards],
    };
    // Guards follow from the promises: they are no part of what plans are found by.
    nodes.length = nodeCount;
    key.length = keyLength;
    const policy = policyFor(device);
    const constant = constantLeaves(linear, results);
    const { compiled, keep } = compiledOnce(
      linear,
      { device, policy, shelf: name, roots: program.roots, constantLeaves: constant },
      () =>
        compile(program, targetOf(device), {
          fusion: settings.fusion,
          passes: settings.passes,
          algorithms: policy,
          constantLeaves: constant,
          packedOnce: !isTraining(results.rootNodes),
          memo,
          memoryBudget: settings.memoryBudget,
        }),
    );
    // Compilation may number nodes anew; the walk's positions are needed by the run.
    nodes.forEach((node, i) => (node.position = i));
    const executable: Executable = device.load(compiled.plan);
    const ahead = Ahead.of(compiled, device);
    keep();
    this.#stats.compileMs += performance.now() - start;
    return { compiled, executable, ahead };
  }
}

/** Under a budget: as many as fit into it, those that take longest to compute for their bytes first. */
function worthKeeping(positions: number[], nodes: readonly Node[]): number[] {
  const budget = settings.memoryBudget;
  if (typeof budget !== 'number') return positions;
  const work = (position: number): number => {
    const node = nodes[position] as Node;
    const { kind } = node.op.lower;
    const flops = kind === 'matmul' || kind === 'convolution' ? contractionFlops(node) : 0;
    return (flops + 1) / Math.max(1, bytesOf(node));
  };
  let room = budget;
  return positions
    .toSorted((a, b) => work(b) - work(a) || a - b)
    .filter((position) => {
      const bytes = bytesOf(nodes[position] as Node);
      if (bytes > room) return false;
      room -= bytes;
      return true;
    });
}

/** A result that gradients are asked for is one of training: parameters will change. */
export function isTraining(results: readonly Node[]): boolean {
  return results.some(({ tracked }) => tracked);
}

/** Parameters that the program reads and does not change. */
function constantLeaves({ leaves }: Linearization, { assigned }: Results): boolean[] {
  const changed = new Set<Storage>(assigned.map(({ storage }) => storage));
  return leaves.map((leaf) => {
    const storage = leaf.storage as Storage;
    return storage.persistent && !changed.has(storage);
  });
}

function disposeExecutables({ executable, ahead }: Entry): void {
  executable.dispose();
  ahead?.dispose();
}
