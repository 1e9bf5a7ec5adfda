// Products and extrema of values that meet at computed positions.
import { type DType, isFloat } from '../../base/dtype.ts';
import { normalizeAxis, sizeOf } from '../../base/shape.ts';
import type { Node } from '../node.ts';
import { type AttrsOf, defineOp, makeNode, type ReferenceTensor, type Sample } from '../op.ts';
import { div, mul } from './arithmetic.ts';
import { cast } from './cast.ts';
import { equal, select } from './compare.ts';
import { constant } from './creation.ts';
import { narrow } from './emit.ts';
import {
  checkAlong,
  checkIndex,
  checkNumber,
  checkSource,
  gather,
  randomIndices,
  scatterAdd,
} from './indexing.ts';
import { flatPosition, forEachIndex, wrapInteger } from './reference.ts';
import { distinctTensor, randomTensor, tensorOf } from './samples.ts';
import { lowerScatter, type Meeting } from './scatter-lowering.ts';
import { linearScan, shift } from './scan.ts';
import { argsort } from './sorting.ts';

const REDUCED = { axis: 'int', size: 'int', reduction: ['prod', 'max', 'min'] } as const;
type ScatterReduction = AttrsOf<typeof REDUCED>['reduction'];

/** What stands where nothing is scattered to: it leaves any other value as it is. */
function neutral(reduction: ScatterReduction, dtype: DType): number {
  if (reduction === 'prod') return 1;
  if (isFloat(dtype)) return reduction === 'max' ? -Infinity : Infinity;
  if (dtype === 'uint32') return reduction === 'max' ? 0 : 4294967295;
  const [lowest, highest] = {
    int8: [-128, 127],
    uint8: [0, 255],
    int16: [-32768, 32767],
    int32: [-2147483648, 2147483647],
  }[dtype as 'int8' | 'uint8' | 'int16' | 'int32'] as [number, number];
  return reduction === 'max' ? lowest : highest;
}

const scatterReduceOp = defineOp({
  name: 'scatterReduce',
  summary: 'product, maximum or minimum of the values at each index along an axis',
  attrs: REDUCED,
  infer: ([x, index], { axis, size }) => {
    checkNumber('scatterReduce', x!);
    checkIndex('scatterReduce', index!);
    checkAlong('scatterReduce', x!.shape, index!.shape, axis);
    checkSource('scatterReduce', size, sizeOf(x!.shape));
    return { shape: x!.shape.map((old, i) => (i === axis ? size : old)), dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, node, attrs: { axis, size, reduction } }) => {
    const [x, index] = inputs as readonly [Node, Node];
    if (reduction === 'prod') return [prodShares(grad, x, index, axis), null];
    // Ties share the gradient evenly.
    const chosen = cast(equal(x, gather(node, index, axis)), x.dtype);
    const share = div(grad, scatterAdd(chosen, index, axis, size));
    return [mul(chosen, gather(share, index, axis)), null];
  },
  lower: {
    kind: 'custom',
    lower: (context, { axis, reduction }, node) => {
      const operation = reduction === 'prod' ? 'mul' : reduction;
      const meeting: Meeting = {
        initial: neutral(reduction, node.dtype),
        combine: (builder, known, value) =>
          narrow(builder, builder.binary(operation, known, value), node.dtype),
      };
      return lowerScatter(context, node, axis, node.inputs[0]!.shape[axis]!, meeting, (indices) =>
        context.read(1, indices),
      );
    },
  },
  reference: ([x, index], { axis, size, reduction }, output) => {
    const data = new Float64Array(sizeOf(output.shape)).fill(neutral(reduction, output.dtype));
    const join = { prod: (a: number, b: number) => a * b, max: Math.max, min: Math.min }[reduction];
    forEachIndex(x!.shape, (indices, flat) => {
      const at = Math.min(Math.max(index!.data[flat]!, 0), size - 1);
      const target = flatPosition(
        output.shape,
        indices.map((own, i) => (i === axis ? at : own)),
      );
      data[target] = wrapInteger(output.dtype, join(data[target]!, x!.data[flat]!));
    });
    return data;
  },
  samples: () => {
    const sample = (
      reduction: ScatterReduction,
      x: ReferenceTensor,
      axis: number,
      size: number,
    ): Sample<AttrsOf<typeof REDUCED>> => ({
      inputs: [x, randomIndices(x.shape, size, 3)],
      attrs: { axis, size, reduction },
      ...(isFloat(x.dtype) ? {} : { skipGradient: 'integers' }),
    });
    const each: readonly ScatterReduction[] = ['prod', 'max', 'min'];
    return each.flatMap((reduction) => {
      // A place that nothing is scattered to holds an infinity, which differences cannot take.
      const empties = (made: ReturnType<typeof sample>) =>
        reduction === 'prod' ? made : { ...made, skipGradient: 'infinite where empty' };
      return [
        sample(reduction, distinctTensor([9]), 0, 2),
        empties(sample(reduction, distinctTensor([3, 4]), 1, 6)),
        empties(sample(reduction, randomTensor([2, 5, 3], { dtype: 'float64' }), 1, 3)),
        sample(reduction, randomTensor([6, 2], { dtype: 'int32' }), 0, 2),
        sample(reduction, randomTensor([6], { dtype: 'int8' }), 0, 3),
        empties(sample(reduction, randomTensor([0]), 0, 2)),
        sample(reduction, randomTensor([1]), 0, 1),
        {
          inputs: [
            tensorOf([7], [0, 2, 0, 3, 0, 5, 7]),
            tensorOf([7], [0, 0, 1, 1, 1, 2, 2], 'int32'),
          ],
          attrs: { axis: 0, size: 3, reduction },
          ...(reduction === 'prod' ? {} : { skipGradient: 'ties' }),
        },
      ];
    });
  },
});

/**
 * Each factor's share is the product of the others that meet it. Sorted by index, those are the
 * running products from both ends of its run: no division, so zeros are right, at any order.
 */
function prodShares(grad: Node, x: Node, index: Node, axis: number): Node {
  const order = argsort(index, axis);
  const sorted = gather(x, order, axis);
  const place = gather(index, order, axis);
  const zero = constant(0, x.dtype);
  const one = constant(1, x.dtype);
  const running = (reverse: boolean): Node => {
    const sameRun = equal(place, shift(place, axis, !reverse, -1));
    const factor = select(sameRun, shift(sorted, axis, !reverse, 0), zero);
    return linearScan(select(sameRun, zero, one), factor, axis, reverse);
  };
  const shares = mul(running(false), running(true));
  return mul(gather(grad, index, axis), gather(shares, argsort(order, axis), axis));
}

/**
 * Product, maximum or minimum of the elements of `x` that meet at each `index` (int32, of x's
 * shape) along `axis`, of `size` places; 1 or the lowest or highest number where none meet.
 */
export function scatterReduce(
  x: Node,
  index: Node,
  axis: number,
  size: number,
  reduction: ScatterReduction,
): Node {
  const normal = normalizeAxis('scatterReduce', axis, x.shape.length);
  return makeNode(scatterReduceOp, [x, index], { axis: normal, size, reduction });
}
