// Conversions of windows that move over the last axes. ONNX wants exactly two axes before them.
import type { DType } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, sizesOf, type Step } from './conversion.ts';
import { convolutionAttributes, onnxPads, outputPadding, type WindowAttrs } from './convolution.ts';
import type { Varying } from './sizes.ts';

export const POOL = { kernel: 'ints', stride: 'ints', padding: 'ints', dilation: 'ints' } as const;
const SPREAD = { ...POOL, inputSize: 'ints' } as const;

export interface PoolAttrs extends WindowAttrs {
  readonly kernel: readonly number[];
}

type PoolStep = Step<PoolAttrs>;

/** All sizes as one factor in every trace. */
function merged(sizes: readonly Varying[], traces: number): Varying {
  return Array.from({ length: traces }, (_, trace) =>
    sizes.reduce((total, list) => total * (list[trace] as number), 1),
  );
}

/**
 * `value`, of the shape of `node`, with the axes before its last `rank` ones as [count, 1], or as they
 * are if there are two and they may stay.
 */
function asImages(
  { writer, graph }: Pick<PoolStep, 'writer' | 'graph'>,
  value: string,
  node: Node,
  rank: number,
  keepChannels: boolean,
): string {
  const lead = node.shape.length - rank;
  if (lead === 2 && keepChannels) return value;
  const sizes = sizesOf(graph, node);
  const count = merged(sizes.slice(0, lead), graph.grid.points.length);
  return writer.reshape(value, sizes, [count, [1], ...sizes.slice(lead)]);
}

/** Back to the shape of `node`. */
function fromImages(
  { writer, graph }: Pick<PoolStep, 'writer' | 'graph'>,
  value: string,
  node: Node,
  rank: number,
  keepChannels: boolean,
): string {
  const lead = node.shape.length - rank;
  if (lead === 2 && keepChannels) return value;
  const sizes = sizesOf(graph, node);
  const count = merged(sizes.slice(0, lead), graph.grid.points.length);
  return writer.reshape(value, [count, [1], ...sizes.slice(lead)], sizes);
}

/** Runs `body` on images; `node` has the shape of the result. */
export function onImages(
  step: PoolStep,
  value: string,
  keepChannels: boolean,
  body: (images: string) => string,
): string {
  const rank = step.attrs.kernel.length;
  const images = asImages(step, value, step.node.inputs[0] as Node, rank, keepChannels);
  return fromImages(step, body(images), step.node, rank, keepChannels);
}

/** The attributes that all pools of ONNX share. */
export function poolAttributes({ kernel, stride, padding, dilation }: PoolAttrs) {
  return { kernel_shape: kernel, strides: stride, pads: onnxPads(padding), dilations: dilation };
}

/** dtypes that ONNX finds maxima under windows of. */
const POOLED: ReadonlySet<DType> = new Set(['float32', 'float16', 'float64', 'int8', 'uint8']);

function maxPool(step: PoolStep): string {
  const { writer, node, attrs, inputs } = step;
  const isKnown = POOLED.has(node.dtype);
  const x = isKnown ? (inputs[0] as string) : writer.cast(inputs[0] as string, 'float64');
  const y = onImages(step, x, true, (images) =>
    writer.add('MaxPool', [images], poolAttributes(attrs)),
  );
  return isKnown ? y : writer.cast(y, node.dtype);
}

/** Positions within the space axes, int64 of [count, 1, ...space]: ONNX counts through all axes. */
function maximumPositions(step: PoolStep, x: string, source: Node): string {
  const { writer, graph, attrs } = step;
  const rank = attrs.kernel.length;
  const dtype = source.dtype;
  const known = POOLED.has(dtype) ? x : writer.cast(x, 'float64');
  const images = asImages(step, known, source, rank, false);
  const [, flat] = writer.addMany('MaxPool', [images], 2, poolAttributes(attrs));
  const space = sizesOf(graph, source).slice(-rank);
  const count = writer.integer(merged(space, graph.grid.points.length));
  return writer.add('Mod', [flat as string, count]);
}

/** Sums values [count, 1, ...windows] into positions of images of the size of `node`. */
function unpool(step: PoolStep, values: string, positions: string): string {
  const { writer, graph, node, attrs } = step;
  const rank = attrs.kernel.length;
  const traces = graph.grid.points.length;
  const sizes = sizesOf(graph, node);
  const count = merged(sizes.slice(0, -rank), traces);
  const space = merged(sizes.slice(-rank), traces);
  const rows = (value: string): string => writer.add('Flatten', [value], { axis: 1 });
  const zero = writer.number(0, node.dtype);
  const zeros = writer.add('Expand', [zero, writer.list([count, space])]);
  const operands = [zeros, rows(positions), rows(values)];
  const spread = writer.add('ScatterElements', operands, { axis: 1, reduction: 'add' });
  return writer.reshape(spread, [count, space], sizes);
}

/** A convolution with ones: the sum under each window. */
function sumPool(step: PoolStep): string {
  const { writer, attrs, inputs } = step;
  const ones = onesLike(step);
  return onImages(step, inputs[0] as string, false, (images) =>
    writer.add('Conv', [images, ones], convolutionAttributes(attrs, attrs.kernel, 1)),
  );
}

function onesLike({ writer, node, attrs }: PoolStep): string {
  const count = attrs.kernel.reduce((a, b) => a * b, 1);
  return writer.numbers(new Array<number>(count).fill(1), node.dtype, [1, 1, ...attrs.kernel]);
}

function sumPoolBackward(step: PoolStep): string {
  const { writer, attrs, inputs } = step;
  const ones = onesLike(step);
  return onImages(step, inputs[0] as string, false, (images) =>
    writer.add('ConvTranspose', [images, ones], {
      ...convolutionAttributes(attrs, attrs.kernel, 1),
      output_padding: outputPadding(step, attrs, attrs.kernel),
    }),
  );
}

export const POOLING: Conversions = {
  maxPool: convert(POOL, maxPool),
  maxPoolIndices: convert(POOL, (step) => {
    const source = step.node.inputs[0] as Node;
    const found = maximumPositions(step, step.inputs[0] as string, source);
    const rank = step.attrs.kernel.length;
    return step.writer.cast(fromImages(step, found, step.node, rank, false), 'int32');
  }),
  unpool: convert(
    SPREAD,
    (step) => {
      const [values, positions] = step.inputs.map((value, i) =>
        asImages(step, value, step.node.inputs[i] as Node, step.attrs.kernel.length, false),
      );
      return unpool(step, values as string, positions as string);
    },
    ['inputSize'],
  ),
  maxPoolBackward: convert(POOL, (step) => {
    const [dy, x] = step.node.inputs as readonly [Node, Node];
    const positions = maximumPositions(step, step.inputs[1] as string, x);
    const rank = step.attrs.kernel.length;
    return unpool(step, asImages(step, step.inputs[0] as string, dy, rank, false), positions);
  }),
  sumPool: convert(POOL, sumPool),
  sumPoolBackward: convert(SPREAD, sumPoolBackward, ['inputSize']),
};
