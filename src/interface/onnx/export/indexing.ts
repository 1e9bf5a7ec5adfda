// Conversions of reading and writing at computed positions, and of orders.
import { byteSize, type DType, isFloat } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, inputDType, needOpset, sizesOf } from './conversion.ts';
import type { TracedGraph } from './graph.ts';
import { filled } from './shaping.ts';
import type { Varying } from './sizes.ts';
import type { GraphWriter } from './writer.ts';

const SCATTER = { axis: 'int', size: 'int' } as const;

/** The number that leaves any other as it is. */
function neutral(reduction: 'prod' | 'max' | 'min', dtype: DType): number {
  if (reduction === 'prod') return 1;
  const sign = reduction === 'max' ? -1 : 1;
  if (isFloat(dtype)) return sign * Infinity;
  const bits = 8 * byteSize(dtype);
  if (dtype.startsWith('u')) return reduction === 'max' ? 0 : 2 ** bits - 1;
  return reduction === 'max' ? -(2 ** (bits - 1)) : 2 ** (bits - 1) - 1;
}

/** An index per row as one per element: repeated over all axes but one. */
function perElement(
  writer: GraphWriter,
  graph: TracedGraph,
  index: string,
  rows: Node,
  axis: number,
): string {
  const sizes = sizesOf(graph, rows);
  const column = rows.shape.map((_, i) => (i === axis ? -1 : 1));
  const placed = writer.add('Reshape', [index, writer.integers(column)]);
  const target: Varying[] = sizes.map((size, i) => (i === axis ? [1] : size));
  return writer.add('Expand', [placed, writer.list(target)]);
}

/** Positions from TopK, whose keys are numbers. */
function order(
  writer: GraphWriter,
  x: string,
  dtype: DType,
  {
    axis,
    count,
    largest,
  }: { readonly axis: number; readonly count: Varying; readonly largest: boolean },
): string {
  const isKnown = isFloat(dtype) || dtype === 'int32';
  const keys = isKnown ? x : writer.cast(x, dtype === 'uint32' ? 'int64' : 'int32');
  const options = { axis, largest: largest ? 1 : 0, sorted: 1 };
  const [, positions] = writer.addMany('TopK', [keys, writer.integer(count)], 2, options);
  return writer.cast(positions as string, 'int32');
}

export const INDEXING: Conversions = {
  gather: convert({ axis: 'int' }, ({ writer, attrs, inputs }) =>
    writer.add('GatherElements', inputs, { axis: attrs.axis }),
  ),
  take: convert({ axis: 'int' }, ({ writer, attrs, inputs }) =>
    writer.add('Gather', inputs, { axis: attrs.axis }),
  ),
  scatterAdd: convert(
    SCATTER,
    ({ writer, graph, node, attrs, inputs: [x, index] }) => {
      const zeros = filled(writer, 0, node.dtype, sizesOf(graph, node));
      const operands = [zeros, index as string, x as string];
      return writer.add('ScatterElements', operands, { axis: attrs.axis, reduction: 'add' });
    },
    ['size'],
  ),
  addRows: convert(
    SCATTER,
    ({ writer, graph, node, attrs, inputs: [x, index] }) => {
      const zeros = filled(writer, 0, node.dtype, sizesOf(graph, node));
      const rows = node.inputs[0] as Node;
      const each = perElement(writer, graph, index as string, rows, attrs.axis);
      const operands = [zeros, each, x as string];
      return writer.add('ScatterElements', operands, { axis: attrs.axis, reduction: 'add' });
    },
    ['size'],
  ),
  scatterReduce: convert(
    { ...SCATTER, reduction: ['prod', 'max', 'min'] },
    ({ writer, graph, node, attrs, inputs: [x, index] }) => {
      const { reduction, axis } = attrs;
      if (reduction !== 'prod')
        needOpset(writer, 18, `ScatterElements with reduction ${reduction}`);
      const start = filled(
        writer,
        neutral(reduction, node.dtype),
        node.dtype,
        sizesOf(graph, node),
      );
      return writer.add('ScatterElements', [start, index as string, x as string], {
        axis,
        reduction: reduction === 'prod' ? 'mul' : reduction,
      });
    },
    ['size'],
  ),
  argsort: convert(
    { axis: 'int', descending: 'flag' },
    ({ writer, graph, node, attrs, inputs }) => {
      const count = sizesOf(graph, node)[attrs.axis] as Varying;
      const options = { axis: attrs.axis, count, largest: attrs.descending };
      return order(writer, inputs[0] as string, inputDType(node), options);
    },
  ),
  topkIndices: convert(
    { axis: 'int', k: 'int', largest: 'flag' },
    ({ writer, node, attrs: { axis, k, largest }, inputs }) =>
      order(writer, inputs[0] as string, inputDType(node), { axis, count: [k], largest }),
  ),
  // How many elements are not at or beyond the value: all of them for NaN.
  searchSorted: convert({ right: 'flag' }, ({ writer, graph, node, attrs, inputs }) => {
    const [sequence, values] = inputs;
    if (node.inputs.some(({ shape }) => shape.includes(0))) {
      return filled(writer, 0, 'int32', sizesOf(graph, node));
    }
    const row = writer.add('Unsqueeze', [sequence as string, writer.integers([-2])]);
    const column = writer.add('Unsqueeze', [values as string, writer.integers([-1])]);
    const beyond = writer.add(attrs.right ? 'Greater' : 'GreaterOrEqual', [row, column]);
    const counted = writer.cast(writer.add('Not', [beyond]), 'int32');
    return writer.add('ReduceSum', [counted, writer.integers([-1])], { keepdims: 0 });
  }),
};
