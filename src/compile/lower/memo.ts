// Groups that were lowered before, found again by their structure: networks repeat their layers, and
// plans are compiled again with what was learned.
import { dtypeIndex } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import { KeyWriter, writeAttrs } from '../../graph/op.ts';
import { prepareKernel } from '../../ir/prepare.ts';
import type { Kernel, Target } from '../../ir/kernel.ts';
import { PlanCache } from '../cache.ts';
import type { Group } from '../schedule/group.ts';
import type { GroupView } from './emit.ts';
import { lowerGroup } from './group-view.ts';
import type { Memory, Scratch } from './kernel-builder.ts';
import type { LoweredGroup } from './schedules.ts';

/** Groups remembered at most. Their kernels are mostly those that plans in use hold anyway. */
const GROUPS = 128;

/** An argument's memory with values by their number in the key, so that no graph is kept alive. */
type RecordedMemory = Exclude<Memory, { kind: 'value' }> | { readonly kind: 'number'; of: number };

interface Recorded {
  readonly group: LoweredGroup;
  readonly memory: readonly (readonly RecordedMemory[])[];
}

/** For one target and one policy of algorithms: neither is part of the key. */
export class LoweringMemo {
  readonly #groups = new PlanCache<Recorded>(GROUPS);
  readonly #prepared = new WeakMap<Kernel, Kernel>();

  /** The kernels of a group; those of an equal group with this one's values, if there was one. */
  lower(group: Group, view: GroupView): LoweredGroup {
    const { key, nodes, numberOf } = new GroupKey(group, view);
    const known = this.#groups.lookup(key.words, key.length);
    if (known !== undefined) return withValues(known, nodes);
    const lowered = lowerGroup(group, view);
    const memory = lowered.stages.map((stage) =>
      stage.memory.map((place): RecordedMemory => {
        if (place.kind !== 'value') return place;
        return { kind: 'number', of: numberOf.get(place.node) as number };
      }),
    );
    const stages = lowered.stages.map(({ kernel }) => ({ kernel, memory: [] }));
    this.#groups.insert(key.words, key.length, { group: { ...lowered, stages }, memory });
    return lowered;
  }

  /** As backends take it. */
  prepare(kernel: Kernel, target: Target): Kernel {
    let prepared = this.#prepared.get(kernel);
    if (prepared === undefined) {
      prepared = prepareKernel(kernel, target);
      this.#prepared.set(kernel, prepared);
    }
    return prepared;
  }
}

/** Recorded kernels on the values of another group. Scratch memory is each group's own. */
function withValues({ group, memory }: Recorded, nodes: readonly Node[]): LoweredGroup {
  const own = new Map<Scratch, Scratch>();
  const scratchOf = (recorded: Scratch): Scratch => {
    const scratch = own.get(recorded) ?? { ...recorded };
    own.set(recorded, scratch);
    return scratch;
  };
  const stages = group.stages.map(({ kernel }, i) => ({
    kernel,
    memory: (memory[i] as readonly RecordedMemory[]).map((place): Memory => {
      if (place.kind === 'number') return { kind: 'value', node: nodes[place.of] as Node };
      if (place.kind === 'scratch') return { kind: 'scratch', scratch: scratchOf(place.scratch) };
      return place;
    }),
  }));
  return { ...group, stages };
}

/** Everything that lowering sees of a group, as numbers; its values in the order of their numbers. */
class GroupKey {
  readonly key = new KeyWriter();
  readonly nodes: Node[] = [];
  readonly numberOf = new Map<Node, number>();
  readonly #view: GroupView;

  constructor(group: Group, view: GroupView) {
    const { key } = this;
    this.#view = view;
    const { anchors, members, phaseOf, reloaded, rows, cost } = group;
    key.push(members.length);
    for (const member of members) {
      this.#value(member);
      key.push(phaseOf.get(member) ?? -1);
      key.push(reloaded.has(member) ? 1 : 0);
    }
    this.#list(anchors);
    this.#list(view.outputs.map(({ node }) => node));
    for (const { memory } of view.outputs) key.push(memory.kind === 'binding' ? memory.index : -1);
    key.push(view.mayRepeat === true ? 1 : 0);
    key.float(cost);
    if (rows !== null) this.#numbers([...rows.shape, -1, ...rows.axes]);
  }

  #numbers(numbers: readonly number[]): void {
    this.key.push(numbers.length);
    for (const number of numbers) this.key.push(number);
  }

  #list(nodes: readonly Node[]): void {
    this.key.push(nodes.length);
    for (const node of nodes) this.#value(node);
  }

  /** The number of a value met before, or what it is and what it is computed from. */
  #value(node: Node): void {
    const { key } = this;
    const known = this.numberOf.get(node);
    if (known !== undefined) {
      key.push(-1);
      key.push(known);
      return;
    }
    this.numberOf.set(node, this.nodes.length);
    this.nodes.push(node);
    key.push(node.op.id);
    key.push(dtypeIndex[node.dtype]);
    this.#numbers(node.shape);
    if (this.#view.isInMemory(node)) {
      key.push(this.#view.isConstant(node) ? -3 : -2);
      return;
    }
    writeAttrs(node.op, node.attrs, key);
    this.#list(node.inputs);
  }
}
