// Conversions of reductions and running results.
import type { DType } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import {
  type Conversion,
  type Conversions,
  convert,
  inputDType,
  sizesOf,
  type Step,
} from './conversion.ts';
import type { Varying } from './sizes.ts';
import type { GraphWriter } from './writer.ts';

const REDUCE = { axes: 'ints', keepdims: 'flag' } as const;

interface ReduceAttrs {
  readonly axes: readonly number[];
  readonly keepdims: boolean;
}

/** A reduction over axes: they are an attribute at first, an input later. */
export function reduce(
  writer: GraphWriter,
  opType: string,
  x: string,
  { axes, keepdims }: ReduceAttrs,
): string {
  const options = { keepdims: keepdims ? 1 : 0 };
  const sinceOpset = opType === 'ReduceSum' ? 13 : 18;
  if (writer.opset >= sinceOpset) return writer.add(opType, [x, writer.integers(axes)], options);
  return writer.add(opType, [x], { axes, ...options });
}

function asDType(writer: GraphWriter, x: string, from: DType, to: DType): string {
  return from === to ? x : writer.cast(x, to);
}

/** Sums and products of small integers are int32. */
function accumulating(opType: string): Conversion {
  return convert(REDUCE, ({ writer, node, attrs, inputs }) => {
    const x = asDType(writer, inputs[0] as string, inputDType(node), node.dtype);
    return reduce(writer, opType, x, attrs);
  });
}

/** dtypes whose extremes ONNX does not know. */
const COMPARED_AS: Readonly<Partial<Record<DType, DType>>> = { bool: 'int32', int16: 'int32' };

function extreme(opType: string): Conversion {
  return convert(REDUCE, ({ writer, node, attrs, inputs }) => {
    const wide = COMPARED_AS[node.dtype] ?? node.dtype;
    const x = asDType(writer, inputs[0] as string, node.dtype, wide);
    return asDType(writer, reduce(writer, opType, x, attrs), wide, node.dtype);
  });
}

/** All of `axes` as one last axis. */
function flattened(
  { writer, graph, node }: Step<ReduceAttrs>,
  x: string,
  axes: readonly number[],
): string {
  const sizes = sizesOf(graph, node.inputs[0] as Node);
  const rest = sizes.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const perm = [...rest, ...axes];
  const moved = perm.every((axis, i) => axis === i) ? x : writer.add('Transpose', [x], { perm });
  const kept = rest.map((axis) => sizes[axis] as Varying);
  const source = perm.map((axis) => sizes[axis] as Varying);
  const count = axes
    .map((axis) => sizes[axis] as Varying)
    .reduce((a, b) => a.map((size, trace) => size * (b[trace] as number)));
  return writer.reshape(moved, source, [...kept, count]);
}

function position(opType: string): Conversion {
  return convert(REDUCE, (step) => {
    const { writer, graph, node, attrs, inputs } = step;
    const dtype = inputDType(node);
    const wide = COMPARED_AS[dtype] ?? dtype;
    const x = asDType(writer, inputs[0] as string, dtype, wide);
    const [first, second] = attrs.axes;
    const keepdims = attrs.keepdims ? 1 : 0;
    if (second === undefined) {
      return writer.cast(writer.add(opType, [x], { axis: first as number, keepdims }), 'int32');
    }
    const flat = flattened(step, x, attrs.axes);
    const found = writer.cast(writer.add(opType, [flat], { axis: -1, keepdims: 0 }), 'int32');
    if (!attrs.keepdims) return found;
    const sizes = sizesOf(graph, node);
    return writer.reshape(
      found,
      sizes.filter((_, axis) => !attrs.axes.includes(axis)),
      sizes,
    );
  });
}

export const REDUCTION: Conversions = {
  sum: accumulating('ReduceSum'),
  prod: accumulating('ReduceProd'),
  max: extreme('ReduceMax'),
  min: extreme('ReduceMin'),
  argmax: position('ArgMax'),
  argmin: position('ArgMin'),
  cumsum: convert(
    { axis: 'int', reverse: 'flag', exclusive: 'flag' },
    ({ writer, node, attrs, inputs }) => {
      const x = asDType(writer, inputs[0] as string, inputDType(node), node.dtype);
      return writer.add('CumSum', [x, writer.number(attrs.axis, 'int64')], {
        exclusive: attrs.exclusive ? 1 : 0,
        reverse: attrs.reverse ? 1 : 0,
      });
    },
  ),
};
