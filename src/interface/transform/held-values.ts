// Values that wait for a gradient between plans, under a memory budget: results of `debug.eager`, values
// read on the way, values that plans learned to keep. What was given up is computed again from its graph.
// Which one to give up is the rule of Kirisame et al. 2020, "Dynamic Tensor Rematerialization": the least
// cost of computing it again, with what was given up around it, per byte and time since its last use.
import { nanosecondsOf } from '../../compile/lower/cost.ts';
import type { CompiledProgram } from '../../compile/program.ts';
import type { Node } from '../../graph/node.ts';
import type { Storage } from '../../runtime/storage.ts';
import { bytesOf } from './values.ts';

/** What is looked at of a plan. */
type Kernels = Pick<CompiledProgram, 'kernels'>;

/** Values that were given up and lie next to one another: one is computed again with the others. */
interface Component {
  parent: Component | null;
  cost: number;
}

/** A value that can be computed again. Holds no node: graphs that nobody needs must go. */
interface Held {
  readonly node: WeakRef<Node>;
  readonly bytes: number;
  /** Estimated nanoseconds of computing it. */
  readonly cost: number;
  /** Values that it is computed from, and values that are computed from it. */
  readonly inputs: readonly Held[];
  readonly users: Set<Held>;
  lastUse: number;
  /** While it is given up. */
  component: Component | null;
}

/** Of a usual core: what is given up must not depend on the device. */
const FLOPS_PER_NANOSECOND = 32;

/** Values of fewer bytes are not worth a thought. */
const SMALL_BYTES = 64;

export class HeldValues {
  /** How often a value was given up, and computed again. */
  evictions = 0;
  restorations = 0;
  readonly #known = new WeakMap<Node, Held>();
  readonly #held = new Set<Held>();
  readonly #pinned = new WeakSet<Node>();
  readonly #costs = new WeakMap<Kernels, number>();
  /** Nanoseconds of all runs so far, by estimate: the same in every process. */
  #clock = 0;
  #bytes = 0;

  /** Whether nothing can have been given up. */
  get isEmpty(): boolean {
    return this.#held.size === 0;
  }

  /** Bytes of values that are held and could be given up. */
  get bytes(): number {
    return this.#bytes;
  }

  knows(node: Node): boolean {
    return this.#known.has(node);
  }

  /** It stays, whatever the budget. */
  pin(node: Node): void {
    this.#pinned.add(node);
  }

  /** A run of a plan read `leaves` and made `results`. */
  ran(compiled: Kernels, leaves: readonly Node[], results: readonly Node[]): void {
    const cost = this.#costOf(compiled);
    this.#clock += cost;
    for (const leaf of leaves) {
      const held = this.#known.get(leaf);
      if (held !== undefined) held.lastUse = this.#clock;
    }
    for (const node of results) this.#add(node, cost / results.length);
  }

  #costOf(compiled: Kernels): number {
    let cost = this.#costs.get(compiled);
    if (cost === undefined) {
      cost = nanosecondsOf(compiled.kernels, FLOPS_PER_NANOSECOND);
      this.#costs.set(compiled, cost);
    }
    return cost;
  }

  #add(node: Node, cost: number): void {
    const known = this.#known.get(node);
    if (known !== undefined) {
      known.lastUse = this.#clock;
      if (known.component !== null) this.#restored(known);
      return;
    }
    if (node.storage === null || node.inputs.length === 0 || !node.tracked) return;
    const bytes = bytesOf(node);
    const inputs = bytes < SMALL_BYTES ? null : this.#inputsOf(node);
    if (inputs === null) return;
    const held: Held = {
      node: new WeakRef(node),
      bytes,
      cost,
      inputs,
      users: new Set(),
      lastUse: this.#clock,
      component: null,
    };
    for (const input of inputs) input.users.add(held);
    this.#known.set(node, held);
    this.#held.add(held);
    this.#bytes += bytes;
  }

  /** Values that `node` follows from and that may be given up; null if it cannot be computed again. */
  #inputsOf(node: Node): Held[] | null {
    const inputs = new Set<Held>();
    const seen = new Set<Node>();
    const stack = [...node.inputs];
    for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      const known = this.#known.get(next);
      if (known !== undefined) inputs.add(known);
      else if (next.storage !== null) {
        // A buffer may be assigned to at any time. A parameter ends everything that was held.
        const storage = next.storage as Storage;
        if (storage.disposed || (storage.persistent && !storage.tracked)) return null;
      } else if (next.op.lower.kind === 'host') return null;
      else stack.push(...next.inputs);
    }
    return [...inputs];
  }

  /** Gives up values until what is held fits into `budget`; `needed` and what was pinned stay. */
  shrink(budget: number, needed: readonly Node[]): void {
    if (this.#bytes <= budget) return;
    this.#dropDead();
    const stays = new Set(needed);
    while (this.#bytes > budget) {
      let best: Held | null = null;
      let least = Infinity;
      for (const held of this.#held) {
        if (held.component !== null) continue;
        const score = this.#score(held);
        if (score < least && this.#mayGo(held, stays)) [best, least] = [held, score];
      }
      if (best === null) return;
      this.#evict(best);
    }
  }

  #score(held: Held): number {
    const around = new Set<Component>();
    for (const near of [...held.inputs, ...held.users]) {
      if (near.component !== null) around.add(topOf(near.component));
    }
    let { cost } = held;
    for (const component of around) cost += component.cost;
    return cost / (held.bytes * (this.#clock - held.lastUse + 1));
  }

  #mayGo({ node: reference }: Held, stays: ReadonlySet<Node>): boolean {
    const node = reference.deref();
    if (node === undefined || stays.has(node) || this.#pinned.has(node)) return false;
    const storage = node.storage as Storage | null;
    // Others may read the same memory: a detached alias, a recorded graph.
    return storage !== null && !storage.aliased && node.inputs.length > 0;
  }

  #evict(held: Held): void {
    const node = held.node.deref() as Node;
    (node.storage as Storage).dispose();
    node.storage = null;
    this.#bytes -= held.bytes;
    this.evictions++;
    held.component = { parent: null, cost: held.cost };
    for (const near of [...held.inputs, ...held.users]) {
      if (near.component !== null) join(held.component, near.component);
    }
  }

  #restored(held: Held): void {
    const component = topOf(held.component as Component);
    component.cost = Math.max(0, component.cost - held.cost);
    held.component = null;
    this.#bytes += held.bytes;
    this.restorations++;
  }

  /** What was collected or disposed of needs no more memory. */
  #dropDead(): void {
    for (const held of this.#held) {
      const node = held.node.deref();
      const gone = node === undefined || (node.storage === null && held.component === null);
      if (gone || (node.storage as Storage | null)?.disposed === true) this.#forget(held);
    }
  }

  #forget(held: Held): void {
    if (held.component === null) this.#bytes -= held.bytes;
    else topOf(held.component).cost -= held.cost;
    this.#held.delete(held);
    const node = held.node.deref();
    if (node !== undefined) this.#known.delete(node);
    for (const input of held.inputs) input.users.delete(held);
  }

  /** Values that were given up and that `node` follows from, itself included: inputs first. */
  missing(node: Node): Node[] {
    const list: Node[] = [];
    const seen = new Set<Held>();
    const visit = (held: Held): void => {
      if (seen.has(held) || held.component === null) return;
      seen.add(held);
      held.inputs.forEach(visit);
      const given = held.node.deref();
      if (given !== undefined) list.push(given);
    };
    const known = this.#known.get(node);
    if (known !== undefined) visit(known);
    else this.#inputsOf(node)?.forEach(visit);
    return list;
  }

  /** Values from which `nodes` are computed directly. */
  sourcesOf(nodes: readonly Node[]): Node[] {
    return nodes.flatMap((node) => {
      const inputs = this.#known.get(node)?.inputs ?? this.#inputsOf(node) ?? [];
      return inputs.flatMap((held) => held.node.deref() ?? []);
    });
  }

  /** Parameters have changed: what was computed from them before cannot be computed again. */
  clear(): void {
    for (const held of this.#held) {
      const node = held.node.deref();
      if (node !== undefined) this.#known.delete(node);
    }
    this.#held.clear();
    this.#bytes = 0;
  }
}

function topOf(component: Component): Component {
  let top = component;
  while (top.parent !== null) top = top.parent;
  // Shorter for the next time.
  for (let at = component; at !== top;) {
    const { parent } = at;
    at.parent = top;
    at = parent ?? top;
  }
  return top;
}

function join(a: Component, b: Component): void {
  const [first, second] = [topOf(a), topOf(b)];
  if (first === second) return;
  second.parent = first;
  first.cost += second.cost;
}
