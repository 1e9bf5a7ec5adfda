// Conversions of weighted taps, which resizing and sampling are made of.
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, sizesOf, type Step } from './conversion.ts';
import { filled } from './shaping.ts';
import type { Varying } from './sizes.ts';

interface TapAttrs {
  readonly holes: boolean;
}

/** Sizes of index and weight, [batch or 1, taps, length], and of the values. */
function tapSizes({ graph, node }: Pick<Step<unknown>, 'graph' | 'node'>) {
  const [batch, channels, length, inner] = sizesOf(graph, node.inputs[0] as Node) as [
    Varying,
    Varying,
    Varying,
    Varying,
  ];
  const [shared, taps, count] = sizesOf(graph, node.inputs[1] as Node) as [
    Varying,
    Varying,
    Varying,
  ];
  const together = taps.map((size, trace) => size * (count[trace] as number));
  return { batch, channels, length, inner, shared, taps, count, together };
}

/** Indices moved into [0, size). */
function withinAxis({ writer }: Step<TapAttrs>, index: string, size: Varying): string {
  const last = writer.scalar(
    size.map((length) => length - 1),
    'int32',
  );
  return writer.add('Clip', [index, writer.number(0, 'int32'), last]);
}

/** Products of [.., taps, length, inner] and their weights; 0 at holes. */
function weighted(step: Step<TapAttrs>, values: string): string {
  const { writer, node, attrs, inputs } = step;
  const { shared, taps, count } = tapSizes(step);
  const apart = [shared, [1], taps, count, [1]];
  const place = (value: string): string => writer.reshape(value, [shared, taps, count], apart);
  const product = writer.add('Mul', [values, place(inputs[2] as string)]);
  if (!attrs.holes) return product;
  const isHole = writer.add('Less', [inputs[1] as string, writer.number(0, 'int32')]);
  return writer.add('Where', [place(isHole), writer.number(0, node.dtype), product]);
}

/** An index for each element of [batch, channels, taps * length, inner]. */
function perElement(step: Step<TapAttrs>, index: string): string {
  const { writer } = step;
  const { batch, channels, inner, shared, taps, count, together } = tapSizes(step);
  const placed = writer.reshape(index, [shared, taps, count], [shared, [1], together, [1]]);
  return writer.add('Expand', [placed, writer.list([batch, channels, together, inner])]);
}

function readTaps(step: Step<TapAttrs>): string {
  const { writer, node, inputs } = step;
  const { batch, channels, length, inner, shared, taps, count, together } = tapSizes(step);
  const index = withinAxis(step, inputs[1] as string, length);
  const isShared = shared.every((size) => size === 1) && node.inputs[1]?.shape[0] === 1;
  const gathered = isShared
    ? writer.add(
        'Gather',
        [inputs[0] as string, writer.reshape(index, [shared, taps, count], [together])],
        { axis: 2 },
      )
    : writer.add('GatherElements', [inputs[0] as string, perElement(step, index)], { axis: 2 });
  const flat = [batch, channels, together, inner];
  const apart = writer.reshape(gathered, flat, [batch, channels, taps, count, inner]);
  const sum = [weighted(step, apart), writer.integers([2])];
  return writer.add('ReduceSum', sum, { keepdims: 0 });
}

function addTaps(step: Step<TapAttrs>): string {
  const { writer, graph, node, inputs } = step;
  const { batch, channels, inner, taps, count, together } = tapSizes(step);
  const sizes = sizesOf(graph, node);
  const index = perElement(step, withinAxis(step, inputs[1] as string, sizes[2] as Varying));
  const source = [batch, channels, count, inner];
  const x = writer.reshape(inputs[0] as string, source, [batch, channels, [1], count, inner]);
  const apart = [batch, channels, taps, count, inner];
  const values = writer.reshape(weighted(step, x), apart, [batch, channels, together, inner]);
  const zeros = filled(writer, 0, node.dtype, sizes);
  return writer.add('ScatterElements', [zeros, index, values], { axis: 2, reduction: 'add' });
}

export const TAPS: Conversions = {
  readTaps: convert({ holes: 'flag' }, readTaps),
  addTaps: convert({ size: 'int', holes: 'flag' }, addTaps, ['size']),
};
