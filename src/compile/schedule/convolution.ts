// Convolutions and their derivatives as implicit matrix products: the product schedule packs its
// panels straight from the image, so that no column matrix is ever a tensor. Any stride, padding,
// dilation and groups, one to three space axes.
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Emitter, GroupView } from '../lower/emit.ts';
import { unflatten } from '../lower/indexing.ts';
import type { Stage } from '../lower/kernel-builder.ts';
import { type ProductProblem, productStages } from './product.ts';

/** Sizes of a convolution, whichever of the three roles a node plays in it. */
interface Dimensions {
  readonly images: number;
  readonly groups: number;
  /** Channels of the input and of the result, per group. */
  readonly inputs: number;
  readonly outputs: number;
  /** Space sizes of input, kernel and result. */
  readonly space: readonly number[];
  readonly kernel: readonly number[];
  readonly result: readonly number[];
}

function dimensionsOf(node: Node, geometry: ConvolutionGeometry): Dimensions {
  const [first, second] = node.inputs as readonly [Node, Node];
  const shapes = {
    forward: { x: first.shape, weight: second.shape, y: node.shape },
    backwardData: { x: node.shape, weight: second.shape, y: first.shape },
    backwardFilter: { x: first.shape, weight: node.shape, y: second.shape },
  }[geometry.role];
  const { groups } = geometry;
  return {
    images: shapes.x[0] as number,
    groups,
    inputs: (shapes.x[1] as number) / groups,
    outputs: (shapes.y[1] as number) / groups,
    space: shapes.x.slice(2),
    kernel: shapes.weight.slice(2),
    result: shapes.y.slice(2),
  };
}

/** Where a tap of the window over result position `at` falls in the input, and whether inside. */
function tapPosition(
  builder: Builder,
  geometry: ConvolutionGeometry,
  dimensions: Dimensions,
  at: readonly Expression[],
  tap: readonly Expression[],
): { indices: Expression[]; inside: Expression } {
  let inside: Expression = builder.constant(1, 'bool');
  const indices = at.map((position, axis) => {
    const size = dimensions.space[axis] as number;
    const start = builder.scale(position, geometry.stride[axis] as number);
    const reach = builder.scale(tap[axis] as Expression, geometry.dilation[axis] as number);
    const index = builder.offset(
      builder.add(start, reach),
      -(geometry.padding[2 * axis] as number),
    );
    return clampInside(builder, index, size, (condition) => {
      inside = builder.and(inside, condition);
    });
  });
  return { indices, inside };
}

/** The result position whose window's tap falls on input position `at`, and whether there is one. */
function sourcePosition(
  builder: Builder,
  geometry: ConvolutionGeometry,
  dimensions: Dimensions,
  at: readonly Expression[],
  tap: readonly Expression[],
): { indices: Expression[]; inside: Expression } {
  let inside: Expression = builder.constant(1, 'bool');
  const indices = at.map((position, axis) => {
    const stride = geometry.stride[axis] as number;
    const size = dimensions.result[axis] as number;
    const reach = builder.scale(tap[axis] as Expression, geometry.dilation[axis] as number);
    const padded = builder.offset(position, geometry.padding[2 * axis] as number);
    const distance = builder.sub(padded, reach);
    const positive = clampInside(builder, distance, (size - 1) * stride + 1, (condition) => {
      inside = builder.and(inside, condition);
    });
    if (stride === 1) return positive;
    const step = builder.constant(stride);
    const aligned = builder.compare('eq', builder.rem(positive, step), builder.constant(0));
    inside = builder.and(inside, aligned);
    return builder.div(positive, step);
  });
  return { indices, inside };
}

/** `index` limited to [0, size); reports the condition under which that changes nothing. */
function clampInside(
  builder: Builder,
  index: Expression,
  size: number,
  require: (condition: Expression) => void,
): Expression {
  const last = builder.constant(size - 1);
  const zero = builder.constant(0);
  require(builder.compare('ge', index, zero));
  require(builder.compare('le', index, last));
  return builder.min(builder.max(index, zero), last);
}

/** `value`, or zero where `inside` does not hold. */
function masked(builder: Builder, inside: Expression, value: Expression): Expression {
  return builder.select(inside, value, builder.constant(0, value.type));
}

/** y[image, group * O + m, n] = sum over (channel, tap) of weight * x. */
function forwardProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const [x, weight] = node.inputs as readonly [Node, Node];
  const d = dimensionsOf(node, geometry);
  const depth = [d.inputs, ...d.kernel];
  const channel = (builder: Builder, batch: Expression, size: number, within: Expression) =>
    builder.add(builder.scale(builder.rem(batch, builder.constant(d.groups)), size), within);
  return {
    sizes: {
      batch: d.images * d.groups,
      m: d.outputs,
      n: sizeOf(d.result),
      k: sizeOf(depth),
    },
    dtype: node.dtype,
    readA: (emitter, batch, m, k) => {
      const { builder } = emitter.kernel;
      const output = channel(builder, batch, d.outputs, m);
      return emitter.value(weight, [output, ...unflatten(builder, k, depth)]);
    },
    readB: (emitter, batch, k, n) => {
      const { builder } = emitter.kernel;
      const [input, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const at = unflatten(builder, n, d.result);
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const image = builder.div(batch, builder.constant(d.groups));
      const from = channel(builder, batch, d.inputs, input);
      return masked(builder, inside, emitter.value(x, [image, from, ...indices]));
    },
    store: (emitter, batch, m, n, value) => {
      const { builder } = emitter.kernel;
      const image = builder.div(batch, builder.constant(d.groups));
      const output = channel(builder, batch, d.outputs, m);
      emitter.give(node, value);
      const at = unflatten(builder, n, d.result);
      return emitter.storeOutputs([image, output, ...at], node.shape);
    },
  };
}

/** dx[image, group * I + m, n] = sum over (output, tap) of weight * dy. */
function backwardDataProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const [dy, weight] = node.inputs as readonly [Node, Node];
  const d = dimensionsOf(node, geometry);
  const depth = [d.outputs, ...d.kernel];
  const grouped = (builder: Builder, batch: Expression, size: number, within: Expression) =>
    builder.add(builder.scale(builder.rem(batch, builder.constant(d.groups)), size), within);
  return {
    sizes: { batch: d.images * d.groups, m: d.inputs, n: sizeOf(d.space), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (emitter, batch, m, k) => {
      const { builder } = emitter.kernel;
      const [output, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      return emitter.value(weight, [grouped(builder, batch, d.outputs, output), m, ...tap]);
    },
    readB: (emitter, batch, k, n) => {
      const { builder } = emitter.kernel;
      const [output, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const at = unflatten(builder, n, d.space);
      const { indices, inside } = sourcePosition(builder, geometry, d, at, tap);
      const image = builder.div(batch, builder.constant(d.groups));
      const from = grouped(builder, batch, d.outputs, output);
      return masked(builder, inside, emitter.value(dy, [image, from, ...indices]));
    },
    store: (emitter, batch, m, n, value) => {
      const { builder } = emitter.kernel;
      const image = builder.div(batch, builder.constant(d.groups));
      emitter.give(node, value);
      const at = unflatten(builder, n, d.space);
      return emitter.storeOutputs([image, grouped(builder, batch, d.inputs, m), ...at], node.shape);
    },
  };
}

/** dw[group * O + m, (channel, tap)] = sum over (image, position) of dy * x. */
function backwardFilterProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const [x, dy] = node.inputs as readonly [Node, Node];
  const d = dimensionsOf(node, geometry);
  const width = [d.inputs, ...d.kernel];
  const depth = [d.images, ...d.result];
  return {
    sizes: { batch: d.groups, m: d.outputs, n: sizeOf(width), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (emitter, batch, m, k) => {
      const { builder } = emitter.kernel;
      const [image, ...at] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return emitter.value(dy, [image, output, ...at]);
    },
    readB: (emitter, batch, k, n) => {
      const { builder } = emitter.kernel;
      const [image, ...at] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const [input, ...tap] = unflatten(builder, n, width) as [Expression, ...Expression[]];
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const from = builder.add(builder.scale(batch, d.inputs), input);
      return masked(builder, inside, emitter.value(x, [image, from, ...indices]));
    },
    store: (emitter, batch, m, n, value) => {
      const { builder } = emitter.kernel;
      const [input, ...tap] = unflatten(builder, n, width) as [Expression, ...Expression[]];
      const output = builder.add(builder.scale(batch, d.outputs), m);
      emitter.give(node, value);
      return emitter.storeOutputs([output, input, ...tap], node.shape);
    },
  };
}

/** Stages of a convolution or one of its derivatives, as an implicit matrix product. */
export function convolutionStages(
  node: Node,
  geometry: ConvolutionGeometry,
  view: GroupView,
): Stage[] {
  switch (geometry.role) {
    case 'forward':
      return productStages(view, forwardProblem(node, geometry));
    case 'backwardData':
      return productStages(view, backwardDataProblem(node, geometry));
    case 'backwardFilter':
      return productStages(view, backwardFilterProblem(node, geometry));
    default:
      geometry.role satisfies never;
      return [];
  }
}
