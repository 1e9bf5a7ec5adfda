// Convolutions and their derivatives as implicit matrix products: the product schedule packs its
// panels straight from the image, so that no column matrix is ever a tensor. Any stride, padding,
// dilation and groups, one to three space axes.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { ContractionSchedule } from '../lower/contraction.ts';
import { unflatten } from '../lower/indexing.ts';
import { productCost, productStages } from './product.ts';
import type { ProductProblem } from './product-problem.ts';

/** Sizes of a convolution, whichever of the three roles a node plays in it. */
export interface Dimensions {
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

export function dimensionsOf(node: Node, geometry: ConvolutionGeometry): Dimensions {
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
    // Without padding every tap is inside. A clamp would hide that neighbours are neighbours.
    const last = ((dimensions.result[axis] as number) - 1) * (geometry.stride[axis] as number);
    const furthest =
      ((dimensions.kernel[axis] as number) - 1) * (geometry.dilation[axis] as number);
    if (geometry.padding[2 * axis] === 0 && last + furthest < size) return index;
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
    const before = geometry.padding[2 * axis] as number;
    const taps = dimensions.kernel[axis] as number;
    if (stride === 1 && taps === 1 && before === 0 && size === dimensions.space[axis]) {
      return distance;
    }
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

/** Number of channel `within` of the group that product `batch` = (image, group) is about. */
function channelOf(
  builder: Builder,
  { groups }: Dimensions,
  batch: Expression,
  perGroup: number,
  within: Expression,
): Expression {
  const group = builder.rem(batch, builder.constant(groups));
  return builder.add(builder.scale(group, perGroup), within);
}

/** y[image, group * O + m, n] = sum over (channel, tap) of weight * x. */
function forwardProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const depth = [d.inputs, ...d.kernel];
  return {
    sizes: {
      batch: d.images * d.groups,
      m: d.outputs,
      n: sizeOf(d.result),
      k: sizeOf(depth),
    },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const output = channelOf(builder, d, batch, d.outputs, m);
      return kernel.read(1, [output, ...unflatten(builder, k, depth)]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [input, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const at = unflatten(builder, n, d.result);
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const image = builder.div(batch, builder.constant(d.groups));
      const from = channelOf(builder, d, batch, d.inputs, input);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const image = builder.div(batch, builder.constant(d.groups));
      const output = channelOf(builder, d, batch, d.outputs, m);
      const at = unflatten(builder, n, d.result);
      return kernel.writeElement([image, output, ...at], value);
    },
  };
}

/** dx[image, group * I + m, n] = sum over (output, tap) of weight * dy. */
function backwardDataProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const depth = [d.outputs, ...d.kernel];
  return {
    sizes: { batch: d.images * d.groups, m: d.inputs, n: sizeOf(d.space), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const [output, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      return kernel.read(1, [channelOf(builder, d, batch, d.outputs, output), m, ...tap]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [output, ...tap] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const at = unflatten(builder, n, d.space);
      const { indices, inside } = sourcePosition(builder, geometry, d, at, tap);
      const image = builder.div(batch, builder.constant(d.groups));
      const from = channelOf(builder, d, batch, d.outputs, output);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const image = builder.div(batch, builder.constant(d.groups));
      const at = unflatten(builder, n, d.space);
      return kernel.writeElement([image, channelOf(builder, d, batch, d.inputs, m), ...at], value);
    },
  };
}

/** dw[group * O + m, (channel, tap)] = sum over (image, position) of dy * x. */
function backwardFilterProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const width = [d.inputs, ...d.kernel];
  const depth = [d.images, ...d.result];
  return {
    sizes: { batch: d.groups, m: d.outputs, n: sizeOf(width), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.read(1, [image, output, ...at]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, k, depth) as [Expression, ...Expression[]];
      const [input, ...tap] = unflatten(builder, n, width) as [Expression, ...Expression[]];
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const from = builder.add(builder.scale(batch, d.inputs), input);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const [input, ...tap] = unflatten(builder, n, width) as [Expression, ...Expression[]];
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.writeElement([output, input, ...tap], value);
    },
  };
}

function problemOf(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  switch (geometry.role) {
    case 'forward':
      return forwardProblem(node, geometry);
    case 'backwardData':
      return backwardDataProblem(node, geometry);
    case 'backwardFilter':
      return backwardFilterProblem(node, geometry);
    default:
      throw internalError(`unknown convolution role ${String(geometry.role satisfies never)}`);
  }
}

/** The geometry of a convolution node, or null for other nodes. */
export function geometryOf(node: Node): ConvolutionGeometry | null {
  const { lower } = node.op;
  return lower.kind === 'convolution' ? lower.geometry(node.attrs, node) : null;
}

/** Convolutions as products whose panels are packed straight from the image. */
export const implicitProduct: ContractionSchedule = {
  name: 'implicit product',
  reproducible: true,
  usable: ({ node, target }) => {
    const geometry = geometryOf(node);
    if (geometry === null || target.workgroups) return false;
    const { m, n, k } = problemOf(node, geometry).sizes;
    // One channel per group gives products of a single row: no panel is reused.
    return m >= 2 && n >= 2 && k >= 2;
  },
  cost: ({ node, target }) => {
    const geometry = geometryOf(node);
    if (geometry === null) return Infinity;
    return productCost(problemOf(node, geometry).sizes, target, 3);
  },
  lower: (context) => {
    const geometry = geometryOf(context.node);
    if (geometry === null) throw internalError('implicit product of something else');
    return productStages(context, problemOf(context.node, geometry));
  },
};
