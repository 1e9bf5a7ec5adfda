// Conversions of products: matrices, convolutions and their derivatives.
import type { Node } from '../../../graph/node.ts';
import { type Conversions, convert, entriesOf, type Step } from './conversion.ts';
import type { Attrs } from '../../../graph/op.ts';
import type { Image } from './graph.ts';
import { isFixed } from './sizes.ts';
import { NotExportable } from './writer.ts';

const WINDOW = { stride: 'ints', padding: 'ints', dilation: 'ints', groups: 'int' } as const;

export interface WindowAttrs {
  readonly stride: readonly number[];
  /** Before and after each axis in turn. */
  readonly padding: readonly number[];
  readonly dilation: readonly number[];
}

/** ONNX names all starts, then all ends. */
export function onnxPads(padding: readonly number[]): number[] {
  return [...padding.filter((_, i) => i % 2 === 0), ...padding.filter((_, i) => i % 2 === 1)];
}

/** The attributes of a convolution. */
export function convolutionAttributes(
  { stride, padding, dilation }: WindowAttrs,
  kernel: readonly number[],
  group: number,
) {
  return {
    kernel_shape: kernel,
    strides: stride,
    pads: onnxPads(padding),
    dilations: dilation,
    group,
  };
}

/** What a transposed convolution leaves over at the end of each axis: the same in every trace. */
export function outputPadding(
  { graph, node }: Pick<Step<unknown>, 'graph' | 'node'>,
  window: WindowAttrs,
  kernel: readonly number[],
): number[] {
  const images = graph.images(node.inputs[0] as Node);
  return entriesOf(graph, node, 'inputSize').map((sizes, axis) => {
    const reach = (window.dilation[axis] as number) * ((kernel[axis] as number) - 1) + 1;
    const rest = sizes.map((size, trace) => {
      const { shape } = images[trace] as Image;
      const length = shape[shape.length - kernel.length + axis] as number;
      const whole = (length - 1) * (window.stride[axis] as number) + reach;
      const around =
        (window.padding[2 * axis] as number) + (window.padding[2 * axis + 1] as number);
      return size - (whole - around);
    });
    if (!isFixed(rest)) {
      throw new NotExportable(`its outputs end at another place for each size of a dynamic axis`);
    }
    return rest[0] as number;
  });
}

/** As a convolution of the input with the gradient: batch and channels change places, so do stride and dilation. */
function backwardFilter({
  writer,
  node,
  attrs,
  inputs,
}: Step<
  WindowAttrs & { readonly groups: number; readonly kernelSize: readonly number[] }
>): string {
  if (attrs.groups !== 1) {
    throw new NotExportable('the gradient by a filter in groups is no convolution of ONNX');
  }
  const perm = node.shape.map((_, axis) => (axis < 2 ? 1 - axis : axis));
  const [x, dy] = inputs.map((value) => writer.add('Transpose', [value], { perm }));
  const taps = writer.add('Conv', [x as string, dy as string], {
    strides: attrs.dilation,
    pads: onnxPads(attrs.padding),
    dilations: attrs.stride,
  });
  const axes = attrs.kernelSize.map((_, axis) => axis + 2);
  const kept = writer.add('Slice', [
    taps,
    writer.integers(axes.map(() => 0)),
    writer.integers(attrs.kernelSize),
    writer.integers(axes),
  ]);
  return writer.add('Transpose', [kept], { perm });
}

/** A convolution or a transposed one, with a bias if there is a third operand. */
export function writeConvolution(step: Step<unknown>): string {
  const { writer, node, inputs } = step;
  const attrs = node.attrs as Attrs & WindowAttrs & { readonly groups: number };
  const kernel = (node.inputs[1] as Node).shape.slice(2);
  const attributes = convolutionAttributes(attrs, kernel, attrs.groups);
  if (node.op.name === 'convolution') return writer.add('Conv', inputs, attributes);
  return writer.add('ConvTranspose', inputs, {
    ...attributes,
    output_padding: outputPadding(step, attrs, kernel),
  });
}

export const CONVOLUTION: Conversions = {
  matmul: convert({}, ({ writer, inputs }) => writer.add('MatMul', inputs)),
  convolution: convert(WINDOW, writeConvolution),
  convolutionBackwardData: convert({ ...WINDOW, inputSize: 'ints' }, writeConvolution, [
    'inputSize',
  ]),
  convolutionBackwardFilter: convert({ ...WINDOW, kernelSize: 'ints' }, backwardFilter),
};
