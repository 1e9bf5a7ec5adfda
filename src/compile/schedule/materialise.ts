// Decides which values are written to memory ("stored") and which are computed again wherever they
// are needed ("inlined"). Wrong guesses cost time, never correctness.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Flow } from '../flow.ts';
import { GROWTH_BYTES } from '../memory/prepared.ts';
import type { Passes } from '../passes/switches.ts';
import { type AccessMap, isContraction, isMainOp } from './access.ts';
import { type Cone, coneOf, KERNEL_COST, loadCostOf, storeCostOf } from './cone.ts';

/** Nodes that one kernel computes on the spot at most: bounds code size and recursion. */
const CONE_LIMIT = 160;
/** Walks that only estimate give up earlier. */
const ESTIMATE_LIMIT = 48;
/** Places at which a value is used that are told apart. */
const USES_LIMIT = 12;

export interface Materialisation {
  /** Values with memory of their own; leaves are not among them. */
  readonly stored: ReadonlySet<Node>;
  /** Why a value is stored. */
  readonly reasons: ReadonlyMap<Node, string>;
}

/** A kernel's main value that evaluates a node, and how often per element of the node. */
interface Demand {
  readonly sink: Node;
  /**
   * Names the place at which the sink asks: 0 for its own position, else a number for each way of
   * indexing. What is asked for twice at one place is computed once.
   */
  readonly place: number;
  multiplicity: number;
  /** How much of that are windows which slide over a copy. */
  readonly windows: number;
}

/** What schedules are decided by, beside the flow. */
export interface ScheduleFacts {
  readonly passes: Passes;
  /** Values that are the same in every run until a parameter changes. */
  readonly constants: ReadonlySet<Node> | undefined;
}

/** Chooses the stored values. Without elementwise fusion every computed value is one. */
export function materialise(
  flow: Flow,
  accesses: AccessMap,
  facts: ScheduleFacts,
): Materialisation {
  if (!facts.passes.elementwiseFusion) {
    const stored = new Set<Node>();
    const reasons = new Map<Node, string>();
    for (const node of flow.nodes) {
      if (flow.isLeaf(node)) continue;
      stored.add(node);
      reasons.set(node, 'elementwise fusion is off');
    }
    return { stored, reasons };
  }
  return new Materialiser(flow, accesses, facts).run();
}

class Materialiser {
  readonly #flow: Flow;
  readonly #accesses: AccessMap;
  readonly #stored = new Set<Node>();
  readonly #reasons = new Map<Node, string>();
  readonly #demands: (Demand[] | undefined)[] = [];
  /** Values that must be in memory. */
  readonly #roots = new Set<Node>();
  readonly #sizes: number[] = [];
  readonly #places = new Map<string, number>();

  readonly #passes: Passes;
  readonly #constants: ReadonlySet<Node>;

  constructor(flow: Flow, accesses: AccessMap, { passes, constants }: ScheduleFacts) {
    this.#flow = flow;
    this.#accesses = accesses;
    this.#passes = passes;
    this.#constants = (passes.constantFolding ? constants : undefined) ?? new Set();
    for (const { node } of flow.roots) this.#roots.add(node);
    // A region reads its inputs from memory, again and again.
    for (const { op, inputs } of flow.nodes) {
      if (op.lower.kind === 'region') for (const input of inputs) this.#roots.add(input);
    }
  }

  run(): Materialisation {
    const { nodes } = this.#flow;
    for (const node of nodes) {
      if (!this.#flow.isLeaf(node) && isMainOp(node.op)) this.#store(node, 'computed once');
    }
    for (const node of this.#roots) if (!this.#flow.isLeaf(node)) this.#store(node, 'a result');
    // Backwards, so that it is known who asks for a value; forwards, so that it is known what lies
    // before. Each direction guesses the other's answer, so the second round is the better one.
    for (let round = 0; round < 2; round++) {
      for (let i = nodes.length - 1; i >= 0; i--) this.#decide(nodes[i] as Node, round);
      for (const node of nodes) this.#reconsider(node);
    }
    return { stored: this.#stored, reasons: this.#reasons };
  }

  #store(node: Node, reason: string): void {
    this.#stored.add(node);
    this.#reasons.set(node, reason);
  }

  #decide(node: Node, round: number): void {
    if (this.#flow.isLeaf(node)) return;
    const demands = this.#demandsOf(node);
    this.#demands[this.#flow.indexOf(node)] = demands;
    if (isMainOp(node.op) || this.#roots.has(node)) return;
    const limit = round === 0 ? ESTIMATE_LIMIT : CONE_LIMIT;
    const reason = this.#reasonToStore(node, demands, () => this.#coneOf(node, limit));
    if (reason === null) this.#stored.delete(node);
    else this.#store(node, reason);
  }

  #coneOf(node: Node, limit: number): Cone {
    const isStored = (other: Node): boolean => this.#flow.isLeaf(other) || this.#stored.has(other);
    return coneOf(node, this.#accesses, isStored, limit);
  }

  /** Who evaluates `node`, now that all its users are decided. */
  #demandsOf(node: Node): Demand[] {
    const demands: Demand[] = [];
    const users = new Set<Node>();
    for (const { user } of this.#flow.usesOf(node)) users.add(user);
    for (const user of users) {
      const inner = this.#stored.has(user)
        ? [{ sink: user, place: 0, multiplicity: 1, windows: 1 }]
        : (this.#demands[this.#flow.indexOf(user)] ?? []);
      this.#accesses.of(user).forEach((access, which) => {
        if (access.input !== node) return;
        for (const { sink, place, multiplicity, windows } of inner) {
          addDemand(demands, {
            sink,
            place: access.samePosition ? place : this.#placeOf(place, user, which),
            multiplicity: multiplicity * access.multiplicity,
            windows: windows * (access.windows ?? 1),
          });
        }
      });
    }
    return demands;
  }

  /** The number of the place that `user` reads at through its `which`-th access. */
  #placeOf(place: number, user: Node, which: number): number {
    // Reductions of inputs of one shape run through them alike.
    const name = isMainOp(user.op)
      ? `${place}:${user.op.lower.kind}`
      : `${place}:${this.#flow.indexOf(user)}:${which}`;
    let number = this.#places.get(name);
    if (number === undefined) {
      number = this.#places.size + 1;
      this.#places.set(name, number);
    }
    return number;
  }

  #reconsider(node: Node): void {
    if (this.#flow.isLeaf(node)) return;
    const index = this.#flow.indexOf(node);
    const stored = this.#stored.has(node);
    const size = isMainOp(node.op) ? 0 : this.#inlinedSize(node);
    this.#sizes[index] = stored ? 0 : size;
    if (isMainOp(node.op)) return;
    if (size > CONE_LIMIT && this.#coneOf(node, CONE_LIMIT).large) {
      if (!stored) this.#store(node, `${CONE_LIMIT} operations are enough for one kernel`);
      this.#sizes[index] = 0;
      return;
    }
    if (!stored || this.#roots.has(node)) return;
    const demands = this.#demands[index] ?? [];
    const reason = this.#reasonToStore(node, demands, () => this.#coneOf(node, CONE_LIMIT));
    if (reason !== null) this.#reasons.set(node, reason);
    else {
      this.#stored.delete(node);
      this.#sizes[index] = size;
    }
  }

  /** No fewer nodes than a kernel computes on the spot for this one; shared ones count twice. */
  #inlinedSize(node: Node): number {
    let size = 1;
    for (const input of node.inputs) size += this.#sizes[this.#flow.indexOf(input)] ?? 0;
    return Math.min(size, 1e6);
  }

  /** Compares computing again with writing once and reading. Null: compute again. */
  #reasonToStore(node: Node, demands: readonly Demand[], findCone: () => Cone): string | null {
    const size = sizeOf(node.shape);
    const cache = this.#accesses.target.cacheBytes;
    if (size === 0) return null;
    const view = node.op.lower.kind === 'indexed' && node.op.lower.view;
    if (view) return null;
    const [first] = demands;
    const evaluations = this.#evaluationsOf(demands);
    if (this.#isMadeAhead(node, demands)) return 'made of parameters, once';
    if (evaluations <= 1) {
      if (first === undefined || !isContraction(first.sink)) return null;
      if (!this.#passes.preprocessing) return 'a convolution or product reads it';
      // Either kernel computes it, and contractions are quickest on what is plain memory.
      return this.#replacesStore(node, findCone()) ? 'as well as what it is made of' : null;
    }
    const cone = findCone();
    if (cone.reads.size === 0 && cone.cost <= 2) return null;
    // At the end of a contraction its result is at hand, and instead of it this value is read.
    if (this.#replacesStore(node, cone, isContraction)) return 'as well as what it is made of';
    const readCost = evaluations * loadCostOf(node, cache);
    const once = cone.cost + cone.loadCost;
    const inline = evaluations * once;
    const alone = !this.#joins(node, cone) && !demands.every(({ place }) => place === 0);
    const store =
      once +
      (this.#replacesStore(node, cone) ? 0 : storeCostOf(node, cache)) +
      readCost +
      (alone ? KERNEL_COST / size : 0);
    if (store >= inline) return null;
    const times = evaluations.toFixed(evaluations < 10 ? 1 : 0);
    return `needed ${times} times per element by ${demands.length} kernel(s): storing costs ${store.toFixed(0)}, computing again ${inline.toFixed(0)}`;
  }

  /** How often an average element of a value is computed if it is not stored. */
  #evaluationsOf(demands: readonly Demand[]): number {
    const [first] = demands;
    // What slides over its input copies it first, element by element, with the padding.
    const once = this.#passes.preprocessing && demands.every(({ sink }) => sink === first?.sink);
    return demands.reduce(
      (sum, { multiplicity, windows }) => sum + multiplicity / (once ? windows : 1),
      0,
    );
  }

  /** Whether `node` is computed ahead of the runs if it is stored, and every run reads all of it. */
  #isMadeAhead(node: Node, demands: readonly Demand[]): boolean {
    if (!this.#constants.has(node)) return false;
    const inRuns = demands.filter(({ sink }) => !this.#constants.has(sink));
    if (!inRuns.some(({ multiplicity }) => multiplicity >= 1)) return false;
    let bytes = 0;
    for (const read of this.#coneOf(node, ESTIMATE_LIMIT).reads.keys()) {
      if (!this.#flow.scalars.has(read)) bytes += bytesOf(read);
    }
    // What is much larger is not kept, nor what is made of numbers alone.
    return bytes > 0 && bytesOf(node) <= Math.max(bytes, GROWTH_BYTES);
  }

  /** Whether a kernel that runs anyway can compute `node` at its end. */
  #joins(node: Node, cone: Cone): boolean {
    const size = sizeOf(node.shape);
    for (const [read, samePosition] of cone.reads) {
      if (isContraction(read) && !this.#passes.epilogues) continue;
      if (samePosition && this.#stored.has(read) && sizeOf(read.shape) === size) return true;
    }
    return false;
  }

  /** Whether storing `node` makes it needless to store the main op it is computed from. */
  #replacesStore(node: Node, { reads, inlined }: Cone, of = (_: Node): boolean => true): boolean {
    const within = new Set(inlined);
    for (const [read, samePosition] of reads) {
      if (!samePosition || !isMainOp(read.op) || this.#flow.isLeaf(read)) continue;
      if (isContraction(read) && !this.#passes.epilogues) continue;
      if (read.op.lower.kind === 'result' || !of(read)) continue;
      if (sizeOf(read.shape) === sizeOf(node.shape) && this.#leadsOnlyTo(node, read, within)) {
        return true;
      }
    }
    return false;
  }

  /** Whether everything that is computed from `source` is computed from `node`. */
  #leadsOnlyTo(node: Node, source: Node, within: ReadonlySet<Node>): boolean {
    const seen = new Set([source]);
    for (const current of seen) {
      if (this.#roots.has(current)) return false;
      for (const { user } of this.#flow.usesOf(current)) {
        if (user === node) continue;
        if (!within.has(user)) return false;
        seen.add(user);
      }
    }
    return true;
  }
}

function bytesOf({ shape, dtype }: Node): number {
  return sizeOf(shape) * byteSize(dtype);
}

function addDemand(demands: Demand[], demand: Demand): void {
  const known = demands.find(({ sink, place }) => sink === demand.sink && place === demand.place);
  if (known !== undefined) {
    known.multiplicity = Math.max(known.multiplicity, demand.multiplicity);
  } else if (demands.length < USES_LIMIT) demands.push(demand);
  else (demands[USES_LIMIT - 1] as Demand).multiplicity += demand.multiplicity;
}
