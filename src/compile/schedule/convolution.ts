// Convolutions as matrix products: those of one tap as they lie, and derivatives by the filter as an
// implicit product, whose panels are packed straight from the image, so that no column matrix is ever
// a tensor. Any stride, padding, dilation and groups, one to three space axes.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type {
  ContractionContext,
  ContractionKernel,
  ContractionSchedule,
} from '../lower/contraction.ts';
import type { Stage } from '../lower/kernel-builder.ts';
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

/**
 * A convolution with kernels of one element, stride 1 and no padding: it is the plain product
 * y[image, group * O + m, n] = sum over channels k of weight[m, k] * x[k, n], and by data the same of
 * the transposed weight and dy. Null for others.
 */
export function pointwiseProblem(
  node: Node,
  geometry: ConvolutionGeometry,
): Required<ProductProblem> | null {
  const { role, stride, padding, groups } = geometry;
  const d = dimensionsOf(node, geometry);
  if (role === 'backwardFilter' || sizeOf(d.kernel) !== 1) return null;
  if (stride.some((step) => step !== 1) || padding.some((size) => size !== 0)) return null;
  const forward = role === 'forward';
  const [m, k] = forward ? [d.outputs, d.inputs] : [d.inputs, d.outputs];
  const at = (
    { builder }: ContractionKernel,
    batch: Expression,
    perGroup: number,
    channel: Expression,
    position: Expression,
  ): Expression[] => [
    builder.div(batch, builder.constant(groups)),
    builder.add(builder.scale(builder.rem(batch, builder.constant(groups)), perGroup), channel),
    ...unflatten(builder, position, d.space),
  ];
  return {
    sizes: { batch: d.images * groups, m, n: sizeOf(d.space), k },
    dtype: node.dtype,
    readA(kernel, batch, row, channel) {
      const { builder } = kernel;
      const group = builder.rem(batch, builder.constant(groups));
      const [output, input] = forward ? [row, channel] : [channel, row];
      const first = builder.add(builder.scale(group, d.outputs), output);
      return kernel.read(1, [first, input, ...d.kernel.map(() => builder.constant(0))]);
    },
    readB: (kernel, batch, channel, n) => kernel.read(0, at(kernel, batch, k, channel, n)),
    store: (kernel, batch, row, n, value) =>
      kernel.writeElement(at(kernel, batch, m, row, n), value),
    storeVector: (kernel, batch, row, n, value) =>
      kernel.writeVector((lane) => at(kernel, batch, m, row, kernel.builder.add(n, lane)), value),
  };
}

/** dw[group * O + m, (channel, tap)] = sum over (image, position) of dy * x. */
function filterProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const width = [d.inputs, ...d.kernel] as const;
  const depth = [d.images, ...d.result] as const;
  return {
    sizes: { batch: d.groups, m: d.outputs, n: sizeOf(width), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, k, depth);
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.read(1, [image, output, ...at]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, k, depth);
      const [input, ...tap] = unflatten(builder, n, width);
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const from = builder.add(builder.scale(batch, d.inputs), input);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const [input, ...tap] = unflatten(builder, n, width);
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.writeElement([output, input, ...tap], value);
    },
  };
}

/** y[image, group * O + m, position] = sum over (channel, tap) of weight * x under that tap. */
function forwardProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const depth = [d.inputs, ...d.kernel] as const;
  const width = [d.images, ...d.result] as const;
  return {
    sizes: { batch: d.groups, m: d.outputs, n: sizeOf(width), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.read(1, [output, ...unflatten(builder, k, depth)]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, n, width);
      const [input, ...tap] = unflatten(builder, k, depth);
      const { indices, inside } = tapPosition(builder, geometry, d, at, tap);
      const from = builder.add(builder.scale(batch, d.inputs), input);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, n, width);
      const output = builder.add(builder.scale(batch, d.outputs), m);
      return kernel.writeElement([image, output, ...at], value);
    },
  };
}

/** dx[image, group * I + m, position] = sum over (output, tap) of weight * dy where that tap hit it. */
function dataProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const d = dimensionsOf(node, geometry);
  const depth = [d.outputs, ...d.kernel] as const;
  const width = [d.images, ...d.space] as const;
  return {
    sizes: { batch: d.groups, m: d.inputs, n: sizeOf(width), k: sizeOf(depth) },
    dtype: node.dtype,
    readA: (kernel, batch, m, k) => {
      const { builder } = kernel;
      const [output, ...tap] = unflatten(builder, k, depth);
      const from = builder.add(builder.scale(batch, d.outputs), output);
      return kernel.read(1, [from, m, ...tap]);
    },
    readB: (kernel, batch, k, n) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, n, width);
      const [output, ...tap] = unflatten(builder, k, depth);
      let inside: Expression = builder.constant(1, 'bool');
      const indices = at.map((position, axis) => {
        const stride = geometry.stride[axis] as number;
        const padding = geometry.padding[2 * axis] as number;
        const reach = builder.scale(tap[axis] as Expression, geometry.dilation[axis] as number);
        const distance = builder.sub(builder.offset(position, padding), reach);
        const size = d.result[axis] as number;
        const require = (condition: Expression): void => {
          inside = builder.and(inside, condition);
        };
        if (stride === 1) return clampInside(builder, distance, size, require);
        // Division is of what is not negative.
        require(builder.compare('ge', distance, builder.constant(0)));
        const whole = builder.max(distance, builder.constant(0));
        const by = builder.constant(stride);
        require(builder.compare('eq', builder.rem(whole, by), builder.constant(0)));
        return clampInside(builder, builder.div(whole, by), size, require);
      });
      const from = builder.add(builder.scale(batch, d.outputs), output);
      return masked(builder, inside, kernel.read(0, [image, from, ...indices]));
    },
    store: (kernel, batch, m, n, value) => {
      const { builder } = kernel;
      const [image, ...at] = unflatten(builder, n, width);
      const input = builder.add(builder.scale(batch, d.inputs), m);
      return kernel.writeElement([image, input, ...at], value);
    },
  };
}

/** Any convolution as a product, whichever role it plays. */
export function convolutionProblem(node: Node, geometry: ConvolutionGeometry): ProductProblem {
  const { role } = geometry;
  switch (role) {
    case 'forward':
      return pointwiseProblem(node, geometry) ?? forwardProblem(node, geometry);
    case 'backwardData':
      return pointwiseProblem(node, geometry) ?? dataProblem(node, geometry);
    case 'backwardFilter':
      return filterProblem(node, geometry);
    default:
      role satisfies never;
      throw internalError('unknown role of a convolution');
  }
}

/** The geometry of a convolution node, or null for other nodes. */
export function geometryOf(node: Node): ConvolutionGeometry | null {
  const { lower } = node.op;
  return lower.kind === 'convolution' ? lower.geometry(node.attrs, node) : null;
}

/** A schedule of convolutions: by the filter, or forward and by data. */
interface ConvolutionSchedule {
  readonly name: string;
  readonly reproducible: boolean;
  readonly byFilter: boolean;
  usable(context: ContractionContext, geometry: ConvolutionGeometry): boolean;
  cost(context: ContractionContext, geometry: ConvolutionGeometry): number;
  lower(context: ContractionContext, geometry: ConvolutionGeometry): readonly Stage[];
}

export function convolutionSchedule(schedule: ConvolutionSchedule): ContractionSchedule {
  const { name, reproducible, byFilter, usable, cost, lower } = schedule;
  const known = ({ node }: ContractionContext): ConvolutionGeometry => {
    const geometry = geometryOf(node);
    if (geometry === null) throw internalError(`${name} of something else`);
    return geometry;
  };
  return {
    name,
    reproducible,
    usable: (context) => {
      const geometry = geometryOf(context.node);
      if (geometry === null || context.target.workgroups) return false;
      return (geometry.role === 'backwardFilter') === byFilter && usable(context, geometry);
    },
    cost: (context) => cost(context, known(context)),
    lower: (context) => lower(context, known(context)),
  };
}

/** By filter, as products whose panels are packed straight from the image. */
export const implicitProduct = convolutionSchedule({
  name: 'implicit product',
  reproducible: true,
  byFilter: true,
  usable: ({ node }, geometry) => {
    const { m, n, k } = filterProblem(node, geometry).sizes;
    // One channel per group gives products of a single row: no panel is reused.
    return m >= 2 && n >= 2 && k >= 2;
  },
  cost: ({ node, target }, geometry) => {
    return productCost(filterProblem(node, geometry).sizes, target, { a: 1, b: 3 });
  },
  lower: (context, geometry) => productStages(context, filterProblem(context.node, geometry)),
});
