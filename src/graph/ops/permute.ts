// Reordering of axes: a view.
import { ShapeError } from '../../base/errors.ts';
import { normalizeAxis } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode } from '../op.ts';
import { elementAt, fillReference } from './reference.ts';
import { randomTensor, withAttrs } from './samples.ts';

function inverse(axes: readonly number[]): number[] {
  const result = new Array<number>(axes.length);
  axes.forEach((axis, position) => (result[axis] = position));
  return result;
}

const permuteOp = defineOp({
  name: 'permute',
  summary: 'axes in another order',
  attrs: { axes: 'ints' },
  infer: ([x], { axes }) => ({ shape: axes.map((axis) => x!.shape[axis]!), dtype: x!.dtype }),
  gradient: ({ grad, attrs }) => [permute(grad, inverse(attrs.axes))],
  lower: {
    kind: 'indexed',
    view: true,
    emit: (context, indices, { axes }) => {
      const source = inverse(axes).map((position) => indices[position]!);
      return context.read(0, source);
    },
  },
  reference: ([x], { axes }, output) => {
    const back = inverse(axes);
    return fillReference(output, (indices) =>
      elementAt(
        x!,
        back.map((position) => indices[position]!),
      ),
    );
  },
  samples: () => [
    withAttrs({ axes: [1, 0] }, randomTensor([2, 3])),
    withAttrs({ axes: [2, 0, 1] }, randomTensor([2, 3, 4])),
    withAttrs({ axes: [0, 2, 1] }, randomTensor([2, 1, 5], { dtype: 'int32' })),
    withAttrs({ axes: [1, 0] }, randomTensor([0, 3])),
    withAttrs({ axes: [3, 1, 2, 0] }, randomTensor([2, 2, 3, 2], { dtype: 'float64' })),
  ],
  cost: 0,
});

/** Axis i of the result is axis `axes[i]` of `x`. Throws ShapeError unless it is a permutation. */
export function permute(x: Node, axes: readonly number[]): Node {
  const rank = x.shape.length;
  if (axes.length !== rank) {
    throw new ShapeError(`${axes.length} axes for ${rank} dimension(s)`, { op: 'permute' });
  }
  const normal = new Array<number>(rank);
  let seen = 0;
  let same = true;
  for (let position = 0; position < rank; position++) {
    const axis = normalizeAxis('permute', axes[position]!, rank);
    normal[position] = axis;
    seen |= 1 << axis;
    if (axis !== position) same = false;
  }
  // Ranks never come near the 31 bits of the mask.
  if (seen !== 2 ** rank - 1) {
    throw new ShapeError(`axis appears twice in [${axes.join(',')}]`, { op: 'permute' });
  }
  if (same) return x;
  return makeNode(permuteOp, [x], { axes: normal });
}

/** Swaps two axes, the last two by default. */
export function transpose(x: Node, axis0 = -2, axis1 = -1): Node {
  const rank = x.shape.length;
  const first = normalizeAxis('transpose', axis0, rank);
  const second = normalizeAxis('transpose', axis1, rank);
  const axes = x.shape.map((_, axis) => axis);
  axes[first] = second;
  axes[second] = first;
  return permute(x, axes);
}
