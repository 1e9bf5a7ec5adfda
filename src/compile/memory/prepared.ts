// What can be computed once and kept: kernels that read nothing but parameters which the plan leaves
// alone, and numbers - packed weights, tables of offsets, what batch norm makes of its statistics - and
// write what only later kernels read. They make a plan of their own, which runs again when such a
// parameter or number has changed.
import { byteSize } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Binding } from '../../runtime/plan.ts';
import { isLoop, type ListedLoop, type ListedStep, stepsIn } from '../items.ts';
import type { Memory, Scratch, Stage } from '../lower/kernel-builder.ts';

/** Memory that outlives a run: scratch, or a value that would lie in the arena. */
export type Kept = Scratch | Node;

/** All that is looked at of a step. */
interface Staged {
  readonly stage: Stage;
}

export interface Separated<S extends Staged = ListedStep> {
  /** Steps that can be run ahead, and the others. */
  readonly ahead: readonly S[];
  readonly rest: readonly (S | ListedLoop)[];
  /** What the others read of it, in the order in which it is first written. */
  readonly kept: readonly Kept[];
}

/** A value that is kept may be larger than what it is made of, up to this: masks, not expanded data. */
export const GROWTH_BYTES = 1024 * 1024;

/** What the compiler knows of a value. */
export interface ValueFacts {
  /** A parameter that the plan leaves alone. */
  isConstant(node: Node): boolean;
  /** A number that is likely the same in the next run, as an epsilon is. */
  isNumber(node: Node): boolean;
  /** It has a place that the caller gave it, and its step stays in the plan. */
  isBound(node: Node): boolean;
  /** Whether values are computed ahead; else only what schedules pack. Default true. */
  readonly keepsValues?: boolean;
  /** Whether what schedules pack is; else only values. Default true. */
  readonly keepsPacked?: boolean;
}

/** Finds the steps that depend on nothing but parameters, and on numbers beside them. */
export function separateConstant<S extends Staged>(
  items: readonly (S | ListedLoop)[],
  facts: ValueFacts,
): Separated<S> {
  const written = writers(
    items.flatMap<Staged>((item) => (isLoop(item) ? stepsIn(item.items) : [item])),
  );
  const { keepsValues = true, keepsPacked = true } = facts;
  const known = new Set<Kept>();
  const ahead: S[] = [];
  const rest: (S | ListedLoop)[] = [];
  for (const step of items) {
    if (isLoop(step)) {
      rest.push(step);
      continue;
    }
    const { kernel, memory } = step.stage;
    const results: Kept[] = [];
    let bytesRead = 0;
    let valueBytes = 0;
    const fits = memory.every((place, i) => {
      const kept = keptOf(place);
      if (kept === null || place.kind === 'moving') return false;
      if (kernel.buffers[i]?.access === 'read') {
        if (place.kind === 'value' && facts.isNumber(place.node)) return true;
        bytesRead += bytesOf(kept);
        return known.has(kept) || (place.kind === 'value' && facts.isConstant(place.node));
      }
      if (place.kind === 'value') {
        if (!keepsValues || facts.isBound(place.node)) return false;
        valueBytes += bytesOf(kept);
      } else if (!keepsPacked) return false;
      results.push(kept);
      return written.get(kept) === 1;
    });
    const large = valueBytes > Math.max(bytesRead, GROWTH_BYTES);
    const ofNumbers = valueBytes > 0 && bytesRead === 0;
    if (!fits || results.length === 0 || large || ofNumbers) {
      rest.push(step);
      continue;
    }
    ahead.push(step);
    for (const result of results) known.add(result);
  }
  const wanted = new Set(memoryOf(rest).map(keptOf));
  return { ahead, rest, kept: [...known].filter((each) => wanted.has(each)) };
}

/** Everything that is touched, conditions of loops too. */
function memoryOf(items: readonly (Staged | ListedLoop)[]): Memory[] {
  return items.flatMap((item) => {
    if (!isLoop(item)) return item.stage.memory;
    const condition = item.condition === null ? [] : [item.condition.memory];
    return [...condition, ...memoryOf(item.items)];
  });
}

function keptOf(memory: Memory): Kept | null {
  const place = memory.kind === 'moving' ? memory.of : memory;
  if (place.kind === 'binding') return null;
  return place.kind === 'value' ? place.node : place.scratch;
}

/** How many steps write each value and scratch. */
function writers(steps: readonly Staged[]): Map<Kept, number> {
  const counts = new Map<Kept, number>();
  for (const { stage } of steps) {
    stage.memory.forEach((place, i) => {
      const kept = keptOf(place);
      if (kept === null || stage.kernel.buffers[i]?.access === 'read') return;
      counts.set(kept, (counts.get(kept) ?? 0) + 1);
    });
  }
  return counts;
}

function bytesOf(kept: Kept): number {
  const length = 'shape' in kept ? sizeOf(kept.shape) : kept.length;
  return length * byteSize(kept.dtype);
}

/** The binding of what is kept. */
export function bindingOf(kept: Kept, access: Binding['access']): Binding {
  return { bytes: bytesOf(kept), access };
}
