// A plan of one group alone, to measure a schedule with: every value it reads or writes is a binding.
import { byteSize, type DType, isFloat } from '../../base/dtype.ts';
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import { scalarOp } from '../../graph/ops/leaf.ts';
import { prepareKernel } from '../../ir/prepare.ts';
import type { Binding, Location, Plan } from '../../runtime/plan.ts';
import type { GroupView } from '../lower/emit.ts';
import type { Memory, Stage } from '../lower/kernel-builder.ts';
import { isLoop } from '../items.ts';
import { planMemory, type Step } from '../memory/plan-memory.ts';
import { bindingOf, type Kept, separateConstant } from '../memory/prepared.ts';

export interface Trial {
  /** What is measured. */
  readonly plan: Plan;
  /** To be run once before, with the same bindings: what is kept from run to run. */
  readonly ahead: Plan | null;
}

export function trialPlan(stages: readonly Stage[], view: GroupView): Trial {
  const bindings: Binding[] = [];
  const scalars: DType[] = [];
  const places = new Map<Node | number, Location>();
  const bind = (key: Node | number, node: Node): Location => {
    const index = bindings.length;
    const bytes = Math.max(1, sizeOf(node.shape) * byteSize(node.dtype));
    bindings.push({ bytes, access: 'readwrite' });
    const location: Location = { space: 'binding', index };
    places.set(key, location);
    return location;
  };
  const valueAt = (node: Node): Location => {
    const known = places.get(node);
    if (known !== undefined) return known;
    if (node.op !== scalarOp) return bind(node, node);
    const location: Location = { space: 'scalar', slot: scalars.length };
    scalars.push(node.dtype);
    places.set(node, location);
    return location;
  };
  /** A binding of the whole program becomes one of the trial, as large as what is written there. */
  const bindingAt = (memory: Memory & { kind: 'binding' }): number => {
    const known = places.get(memory.index);
    if (known?.space === 'binding') return known.index;
    const output = view.outputs.find(
      ({ memory: place }) => place.kind === 'binding' && place.index === memory.index,
    );
    if (output === undefined) throw internalError(`binding ${memory.index} is no output`);
    const location = bind(memory.index, output.node);
    return location.space === 'binding' ? location.index : 0;
  };
  const rebound = stages.map(({ kernel, memory }): Stage => {
    return {
      kernel,
      memory: memory.map((place) =>
        place.kind === 'binding' ? { kind: 'binding', index: bindingAt(place) } : place,
      ),
    };
  });
  const steps = rebound.map((stage) => ({ stage, mayShare: () => false }));
  const { ahead, rest, kept } = separateConstant(steps, {
    isConstant: (node) => view.isConstant(node),
    isNumber: (node) => node.op === scalarOp && isFloat(node.dtype),
    isBound: (node) => view.outputs.some((output) => output.node === node),
  });
  const keptAt = new Map(
    kept.map((each): [Kept, Location] => {
      bindings.push({ ...bindingOf(each, 'readwrite') });
      return [each, { space: 'binding', index: bindings.length - 1 }];
    }),
  );
  const planOf = (some: readonly Step[]): Plan => {
    const { locations, arenaBytes } = planMemory(some, valueAt, keptAt);
    return {
      kernels: some.map(({ stage }) => prepareKernel(stage.kernel, view.target)),
      dispatches: some.map((_, i) => ({ kernel: i, arguments: locations[i] ?? [] })),
      arenaBytes,
      bindings,
      scalars,
    };
  };
  // Both plans see the bindings of all values, so the places of the first are found with the second's.
  const plan = planOf(rest.flatMap((step) => (isLoop(step) ? [] : [step])));
  return { plan, ahead: ahead.length === 0 ? null : planOf(ahead) };
}
