// The bodies of loops and choices as a part of the plan around them: their kernels, the places of
// what they are given and give, and what stands before and after.
import { byteSize } from '../base/dtype.ts';
import { internalError } from '../base/errors.ts';
import { sizeOf } from '../base/shape.ts';
import type { Node } from '../graph/node.ts';
import { resultOf } from '../graph/ops/result.ts';
import type { ParameterRole, Region } from '../graph/op.ts';
import type { Stride } from '../runtime/plan.ts';
import { isLoop, type Item, stepsIn } from './items.ts';
import { type Compilation, copyStep, list, schedule } from './listing.ts';
import type { GroupOutput } from './lower/emit.ts';
import type { Memory, Place, Scratch } from './lower/kernel-builder.ts';
import { alignedBytes } from './memory/arena.ts';
import { separateConstant } from './memory/prepared.ts';
import { separateRoots } from './passes/copies.ts';
import { rewrite } from './passes/rewrite.ts';
import type { KernelExplanation } from './program.ts';

const bytesOf = (node: Node): number => sizeOf(node.shape) * byteSize(node.dtype);

/** What stands in the program for a region: what runs before, the loop, what runs after. */
export function listRegion(
  node: Node,
  outputs: readonly GroupOutput[],
  compilation: Compilation,
  depth: number,
): Item[] {
  const { lower } = node.op;
  if (lower.kind !== 'region') throw internalError(`${node.op.name} is no region`);
  const regions = lower.regions(node.attrs);
  const wanted = compilation.passes.deadOutputs ? outputs : allOutputs(node, regions, outputs);
  return regions.flatMap((region) =>
    new RegionLister(region, node.inputs, wanted, compilation, depth).items(),
  );
}

/** `outputs`, and those that nobody reads. */
function allOutputs(
  node: Node,
  regions: readonly Region[],
  outputs: readonly GroupOutput[],
): readonly GroupOutput[] {
  const read = new Set(outputs.map((output) => output.node.attrs['index']));
  const unread: GroupOutput[] = [];
  regions[0]?.results.forEach((_, index) => {
    if (read.has(index)) return;
    const result = resultOf(node, index);
    unread.push({ node: result, memory: { kind: 'value', node: result } });
  });
  return [...outputs, ...unread];
}

/**
 * Carries, by their parameter, that something else than themselves depends on: a result that is read,
 * the condition, or another such carry.
 */
function livingCarries(
  { body, roles, results, condition }: Region,
  isRead: (result: number) => boolean,
): ReadonlySet<number> {
  const living = new Set<number>();
  const stack: Node[] = [];
  const keep = (parameter: number): void => {
    if (living.has(parameter) || roles[parameter]?.role !== 'carry') return;
    living.add(parameter);
    stack.push(body.outputs[parameter] as Node);
  };
  if (condition !== null) keep(condition.parameter);
  results.forEach((result, index) => {
    if (!isRead(index)) return;
    if (result.kind === 'final') keep(result.carry);
    else stack.push(result.value);
  });
  const parameterOf = new Map(body.parameters.map((node, i) => [node, i]));
  const seen = new Set<Node>();
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    const parameter = parameterOf.get(node);
    if (parameter === undefined) stack.push(...node.inputs);
    else keep(parameter);
  }
  return living;
}

/** A result that is read, and the root of the body's flow that gives it. */
interface Kept {
  readonly node: Node;
  readonly root: number;
}

class RegionLister {
  readonly #region: Region;
  /** A carry that stays what it is counts as a value from outside, one that serves nothing as none. */
  readonly #roles: readonly (ParameterRole | 'dead')[];
  readonly #inputs: readonly Node[];
  readonly #compilation: Compilation;
  readonly #depth: number;
  /** Results that are read: values of each iteration, and carries in the end. */
  readonly #each: Kept[] = [];
  readonly #final = new Map<number, Node[]>();
  /** Where values of the body are, in terms of the program around it. */
  readonly #memory = new Map<Node, Memory>();
  readonly #before: Item[] = [];
  readonly #after: Item[] = [];

  constructor(
    region: Region,
    inputs: readonly Node[],
    outputs: readonly GroupOutput[],
    compilation: Compilation,
    depth: number,
  ) {
    this.#region = region;
    this.#inputs = inputs;
    this.#compilation = compilation;
    this.#depth = depth;
    const { outputs: made, parameters } = region.body;
    const read = new Set(outputs.map(({ node }) => node.attrs['index']));
    const living = livingCarries(region, (result) => read.has(result));
    const leaveOut = compilation.passes.deadOutputs;
    this.#roles = region.roles.map(({ role }, i) => {
      if (role !== 'carry') return role;
      if (made[i] === parameters[i]) return 'same';
      return leaveOut && !living.has(i) ? 'dead' : role;
    });
    const carries = this.#roles.filter((role) => role === 'carry').length;
    for (const { node } of outputs) {
      const result = region.results[node.attrs['index'] as number];
      if (result?.kind === 'final') {
        this.#final.set(result.carry, [...(this.#final.get(result.carry) ?? []), node]);
      } else if (result !== undefined) {
        this.#each.push({ node, root: carries + this.#each.length });
      }
    }
  }

  items(): Item[] {
    const { trips, condition, body } = this.#region;
    if (trips === 0) return this.#untouched();
    const { target, rules, passes } = this.#compilation;
    const rewritten = rewrite(this.#program(), rules, {
      numerics: target.numerics,
      common: passes.commonSubexpressions,
    });
    const scheduled = schedule(separateRoots(rewritten.flow), this.#compilation, this.#depth + 1);
    const { roots } = scheduled.flow;
    const { direct } = scheduled.order;
    this.#place(
      roots.map(({ node }) => node),
      (root) => direct.has(root),
    );
    const { items } = list(scheduled, this.#compilation, this.#depth + 1);
    // What depends on nothing that changes is prepared once; what runs at most once is not.
    const same = new Set(body.parameters.filter((_, i) => this.#roles[i] === 'same'));
    const { ahead, rest } = separateConstant(items, {
      isConstant: (node) => trips !== 1 && same.has(node),
      isNumber: () => false,
      isBound: (node) => this.#memory.has(node),
    });
    const inside = rest.map((item) => this.#outward(item, true));
    const loop: Item = {
      items: inside,
      trips,
      condition:
        condition === null
          ? null
          : {
              memory: this.#resolve(this.#valueOf(body.parameters[condition.parameter] as Node)),
              when: condition.when,
            },
    };
    return [
      ...this.#before,
      ...ahead.map((item) => this.#outward(item, false)),
      ...(stepsIn(inside).length > 0 ? [loop] : []),
      ...this.#after,
    ];
  }

  /** The body with what is wanted of it: what becomes of its carries, then values that are kept. */
  #program() {
    const { body, results } = this.#region;
    const nodes = [...body.parameters, ...body.nodes];
    const position = new Map(nodes.map((node, i) => [node, i]));
    const positionOf = (node: Node): number => position.get(node) as number;
    const roots = this.#roles.flatMap((role, parameter) =>
      role === 'carry'
        ? [{ position: positionOf(body.outputs[parameter] as Node), inPlaceOf: parameter }]
        : [],
    );
    for (const { node } of this.#each) {
      const result = results[node.attrs['index'] as number];
      if (result === undefined || result.kind === 'final')
        throw internalError('a result of another kind');
      roots.push({ position: positionOf(result.value), inPlaceOf: -1 });
    }
    return { nodes, leaves: body.parameters, scalars: [], roots };
  }

  /** Without an iteration, carries are what they were. */
  #untouched(): Item[] {
    return [...this.#final.keys()].flatMap((carry) => this.#unchanged(carry));
  }

  #unchanged(carry: number): Item[] {
    const results = this.#final.get(carry) ?? [];
    return results.flatMap((node) =>
      this.#copy(this.#input(carry), this.#valueOf(node), 'the loop leaves it as it is'),
    );
  }

  /** Decides where parameters and roots of the body are. */
  #place(roots: readonly Node[], isDirect: (root: Node) => boolean): void {
    const { body, trips, backwards } = this.#region;
    const stepping = (node: Node, bytes: number): Memory => {
      const place = this.#valueOf(node);
      if (trips === 1) return place;
      return backwards
        ? this.#moving(place, (trips - 1) * bytes, { depth: this.#depth, bytes: -bytes })
        : this.#moving(place, 0, { depth: this.#depth, bytes });
    };
    let carries = 0;
    body.parameters.forEach((parameter, i) => {
      const role = this.#roles[i];
      if (role === 'dead') return;
      if (role === 'carry') {
        this.#placeCarry(i, parameter, roots[carries++] as Node, isDirect);
      } else if (role === 'same') {
        this.#memory.set(parameter, this.#valueOf(this.#input(i)));
        this.#before.push(...this.#unchanged(i));
      } else this.#memory.set(parameter, stepping(this.#input(i), bytesOf(parameter)));
    });
    for (const { node, root } of this.#each) {
      const value = roots[root] as Node;
      this.#memory.set(value, stepping(node, bytesOf(value)));
    }
  }

  /**
   * A carry whose old value is read no more when the new one is written is overwritten, and best
   * stands where its last value is wanted. Others have two places, which take turns.
   */
  #placeCarry(carry: number, parameter: Node, root: Node, isDirect: (root: Node) => boolean): void {
    const { dtype } = parameter;
    const { trips, condition } = this.#region;
    const depth = this.#depth;
    const bytes = alignedBytes(bytesOf(parameter));
    const results = [...(this.#final.get(carry) ?? [])];
    const direct = isDirect(root);
    const first = direct ? results.shift() : undefined;
    const scratch: Scratch = {
      name: 'carry',
      dtype,
      length: ((direct ? 1 : 2) * bytes) / byteSize(dtype),
    };
    const cell: Place = first === undefined ? { kind: 'scratch', scratch } : this.#valueOf(first);
    const turned = (turn: 0 | 1): Memory =>
      direct ? cell : this.#moving(cell, 0, { depth, bytes, turn });
    this.#memory.set(parameter, turned(0));
    this.#memory.set(root, turned(1));
    const input = this.#input(carry);
    this.#before.push(...this.#copy(input, this.#moving(cell, 0), 'what the loop begins with'));
    // How often it ran is known, or in the counter of the loop that has just ended.
    const last = condition === null ? this.#moving(cell, (trips % 2) * bytes) : turned(0);
    for (const node of results) {
      const from = direct ? cell : last;
      this.#after.push(
        ...copyStep(node, from, this.#valueOf(node), this.#compilation.target, 'what it ends with'),
      );
    }
  }

  #copy(node: Node, to: Memory, reason: string): Item[] {
    return copyStep(node, this.#valueOf(node), to, this.#compilation.target, reason);
  }

  #input(parameter: number): Node {
    return this.#inputs[this.#region.roles[parameter]?.input ?? -1] as Node;
  }

  #valueOf(node: Node): Place {
    return { kind: 'value', node };
  }

  #moving(of: Place, offset: number, ...strides: Stride[]): Memory {
    return { kind: 'moving', of, offset, strides };
  }

  /** A place of the body in terms of the program around it. */
  #resolve(memory: Memory): Memory {
    switch (memory.kind) {
      case 'value': {
        let known = this.#memory.get(memory.node);
        if (known === undefined) {
          const { op, dtype, shape } = memory.node;
          known = { kind: 'scratch', scratch: { name: op.name, dtype, length: sizeOf(shape) } };
          this.#memory.set(memory.node, known);
        }
        return known;
      }
      case 'moving': {
        const of = this.#resolve(memory.of);
        if (of.kind !== 'moving') return { ...memory, of };
        const strides = [...of.strides, ...memory.strides];
        return { ...of, offset: of.offset + memory.offset, strides };
      }
      case 'scratch':
        return memory;
      case 'binding':
        throw internalError('a binding inside a loop');
      default:
        memory satisfies never;
        throw internalError('unknown memory');
    }
  }

  #outward(item: Item, repeated: boolean): Item {
    if (isLoop(item)) {
      const { condition } = item;
      const items = item.items.map((inner) => this.#outward(inner, repeated));
      if (condition === null) return { ...item, items };
      const memory = this.#resolve(condition.memory);
      return { ...item, items, condition: { ...condition, memory } };
    }
    const { kernel, memory } = item.stage;
    return {
      ...item,
      stage: { kernel, memory: memory.map((place) => this.#resolve(place)) },
      explanation: repeated ? this.#repeated(item.explanation) : item.explanation,
    };
  }

  #repeated(explanation: KernelExplanation): KernelExplanation {
    const { trips, condition } = this.#region;
    const { schedule: how, flops, bytesRead, bytesWritten } = explanation;
    const times = Math.max(trips, 1);
    const often =
      condition === null ? `, ${trips} times` : trips === 1 ? ', in a branch' : ', in a loop';
    return {
      ...explanation,
      schedule: how + often,
      flops: flops * times,
      bytesRead: bytesRead * times,
      bytesWritten: bytesWritten * times,
    };
  }
}
