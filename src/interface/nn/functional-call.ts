// Calling a module with other tensors in the place of its own.
import { ArgumentError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Module, StateSource } from './module.ts';

/**
 * Runs `module.forward(...inputs)` with the given tensors in the place of its parameters and
 * buffers of those names: for gradients by weights as arguments (`grad`, `hvp`), or ensembles.
 * The module is as before afterwards. Throws for names it does not have and shapes that differ.
 *
 * @example
 * const layer = new nn.Linear(2, 1, { bias: false });
 * const weight = tensor([[3, 4]]);
 * functionalCall(layer, { weight }, tensor([1, 10])); // => [43]
 */
export function functionalCall<I extends readonly unknown[], O>(
  module: Module & { forward(...inputs: I): O },
  tensors: StateSource,
  ...inputs: I
): O {
  const own = module.stateDict();
  const given = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  const before: [Tensor, Node][] = [];
  for (const [name, value] of given as [string, Tensor][]) {
    const tensor = own[name];
    if (tensor === undefined) {
      throw new ArgumentError(`the module has no '${name}'`, {
        op: 'functionalCall',
        hint: `it has ${Object.keys(own).join(', ')}`,
      });
    }
    if (!sameShape(value.shape, tensor.shape)) {
      throw new ShapeError(
        `${name} is ${formatShape(value.shape)}, expected ${formatShape(tensor.shape)}`,
        { op: 'functionalCall' },
      );
    }
    before.push([tensor, value.node]);
  }
  const swap = (): void => {
    for (const pair of before) {
      const [tensor, node] = pair;
      pair[1] = tensor.node;
      tensor.node = node;
    }
  };
  swap();
  try {
    return module.forward(...inputs);
  } finally {
    swap();
  }
}
