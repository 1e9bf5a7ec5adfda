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
import { planMemory } from '../memory/plan-memory.ts';
import { separateConstant } from '../memory/prepared.ts';

export function trialPlan(stages: readonly Stage[], view: GroupView): Plan {
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
  // What is kept from run to run has no part in the time of one.
  const { rest } = separateConstant(steps, {
    isConstant: (node) => view.isConstant(node),
    isNumber: (node) => node.op === scalarOp && isFloat(node.dtype),
    isBound: (node) => view.outputs.some((output) => output.node === node),
  });
  const { locations, arenaBytes } = planMemory(rest, valueAt);
  return {
    kernels: rest.map(({ stage }) => prepareKernel(stage.kernel, view.target)),
    dispatches: rest.map((_, i) => ({ kernel: i, arguments: locations[i] ?? [] })),
    arenaBytes,
    bindings,
    scalars,
  };
}
