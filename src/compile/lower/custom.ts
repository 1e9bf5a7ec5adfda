// Ops that write their own loops: they read and write through the group, so that what stands before
// and after them fuses.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { KernelContext } from '../../graph/op.ts';
import { Emitter, type GroupView } from './emit.ts';
import { KernelBuilder, type Stage } from './kernel-builder.ts';

/** The kernel of a custom op. */
export function lowerCustom(view: GroupView, node: Node): Stage[] {
  const { lower } = node.op;
  if (lower.kind !== 'custom') throw internalError(`${node.op.name} has no loops of its own`);
  if (sizeOf(node.shape) === 0) return [];
  const kernel = new KernelBuilder(view.name);
  const emitter = new Emitter(kernel, view);
  const context: KernelContext = {
    builder: kernel.builder,
    target: view.target,
    read: (input, indices) => emitter.value(node.inputs[input] as Node, indices),
    write(indices, value) {
      emitter.give(node, value);
      return emitter.storeOutputs(indices, node.shape);
    },
    mayRepeat: view.mayRepeat === true,
    scratch: (name, dtype, length) => kernel.privateArray(name, dtype, length),
  };
  const { gridIndex, gridSize, body } = lower.lower(context, node.attrs, node);
  return [kernel.finish(gridIndex, gridSize, body)];
}
