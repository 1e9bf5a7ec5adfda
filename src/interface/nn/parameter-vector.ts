// All parameters as one vector, and back: torch.nn.utils.parameters_to_vector and its inverse.
import { ShapeError } from '../../base/errors.ts';
import { formatShape } from '../../base/shape.ts';
import { withoutTracking } from '../../graph/op.ts';
import { nodeOf } from '../tensor/arguments.ts';
import { listOf } from '../tensor/handle.ts';
import { cat, narrow } from '../tensor/joining.ts';
import type { Tensor } from '../tensor/tensor.ts';

/**
 * The elements of all parameters one after another; gradients flow to them.
 *
 * @example
 * parametersToVector(new nn.Linear(3, 2).parameters()).shape; // => [8]
 */
export function parametersToVector(parameters: Iterable<Tensor>): Tensor {
  const op = 'parametersToVector';
  const list = listOf(op, [...parameters], 'parameters', `${op}(model.parameters())`);
  return cat(list.map((parameter) => parameter.reshape([-1])));
}

/**
 * Sets parameters to the parts of `vector` in order. Throws ShapeError unless it has as many elements
 * as they have together.
 *
 * @example
 * const layer = new nn.Linear(2, 1);
 * vectorToParameters(tensor([1, 2, 3]), layer.parameters());
 * layer.weight; // => [[1, 2]]
 * layer.bias; // => [3]
 */
export function vectorToParameters(vector: Tensor, parameters: Iterable<Tensor>): void {
  const op = 'vectorToParameters';
  const { shape } = nodeOf(op, vector);
  const list = [...parameters];
  const total = list.reduce((sum, parameter) => sum + parameter.size, 0);
  if (shape.length !== 1 || shape[0] !== total) {
    throw new ShapeError(`parameters of ${total} elements do not fit ${formatShape(shape)}`, {
      op,
    });
  }
  withoutTracking(() => {
    let start = 0;
    for (const parameter of list) {
      const part = narrow(vector, 0, start, parameter.size);
      parameter.assign(part.reshape(parameter.shape).to(parameter.dtype));
      start += parameter.size;
    }
  });
}
