// What can be computed once and kept: kernels that read nothing but parameters which the plan leaves
// alone - packed weights, tables of offsets - and write scratch that only later kernels read. They make
// a plan of their own, which runs again when such a parameter has changed.
import { byteSize } from '../../base/dtype.ts';
import type { Node } from '../../graph/node.ts';
import type { Binding, Plan } from '../../runtime/plan.ts';
import type { Scratch } from '../lower/kernel-builder.ts';
import { type Item, stepsIn, type ListedStep } from '../listing.ts';

export interface Prepared {
  /** To be run before the plan itself, with the same bindings. */
  readonly plan: Plan;
  /** Bindings whose contents are kept from run to run. */
  readonly kept: readonly number[];
  /** Leaves that it reads. */
  readonly leaves: readonly number[];
}

export interface Separated {
  /** Steps that can be run ahead, and the others. */
  readonly ahead: readonly ListedStep[];
  readonly rest: readonly Item[];
  /** Scratch that outlives a run, in the order in which it is first written. */
  readonly kept: readonly Scratch[];
}

/** Finds the steps that depend on nothing but values for which `isConstant` holds. */
export function separateConstant(
  items: readonly Item[],
  isConstant: (node: Node) => boolean,
): Separated {
  const written = writers(stepsIn(items));
  const known = new Set<Scratch>();
  const ahead: ListedStep[] = [];
  const rest: Item[] = [];
  for (const step of items) {
    if ('items' in step) {
      rest.push(step);
      continue;
    }
    const { kernel, memory } = step.stage;
    const results: Scratch[] = [];
    const fits = memory.every((place, i) => {
      const reads = kernel.buffers[i]?.access === 'read';
      if (place.kind === 'value') return reads && isConstant(place.node);
      if (place.kind !== 'scratch') return false;
      if (reads) return known.has(place.scratch);
      results.push(place.scratch);
      return written.get(place.scratch) === 1;
    });
    if (!fits || results.length === 0) {
      rest.push(step);
      continue;
    }
    ahead.push(step);
    for (const scratch of results) known.add(scratch);
  }
  return { ahead, rest, kept: [...known] };
}

/** How many steps write each scratch. */
function writers(steps: readonly ListedStep[]): Map<Scratch, number> {
  const counts = new Map<Scratch, number>();
  for (const { stage } of steps) {
    stage.memory.forEach((memory, i) => {
      const place = memory.kind === 'moving' ? memory.of : memory;
      if (place.kind !== 'scratch' || stage.kernel.buffers[i]?.access === 'read') return;
      counts.set(place.scratch, (counts.get(place.scratch) ?? 0) + 1);
    });
  }
  return counts;
}

/** The binding of a scratch that is kept. */
export function bindingOf({ dtype, length }: Scratch, access: Binding['access']): Binding {
  return { bytes: length * byteSize(dtype), access };
}
