// Matrix products and convolutions as plain reductions: correct for every shape and dtype, and what
// remains when no faster schedule is usable.
import { internalError } from '../../base/errors.ts';
import { sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import type { ConvolutionGeometry } from '../../graph/op.ts';
import { narrow } from '../../graph/ops/emit.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Emitter, GroupView } from './emit.ts';
import type { Stage } from './kernel-builder.ts';
import { lowerReduction, type ReductionSpec } from './reduction.ts';

/** The kernels of a matmul or convolution without any blocking. */
export function lowerNaiveContraction(view: GroupView, node: Node): Stage[] {
  return lowerReduction(view, contractionSpec(node));
}

/** Indices at which operands 0 and 1 meet, and whether there is anything (padding is nothing). */
interface Meeting {
  readonly first: readonly Expression[];
  readonly second: readonly Expression[];
  readonly inside: Expression;
}

type Meet = (
  builder: Builder,
  result: readonly Expression[],
  reduced: readonly Expression[],
) => Meeting;

function contractionSpec(node: Node): ReductionSpec {
  const { lower } = node.op;
  switch (lower.kind) {
    case 'matmul':
      return productSpec(node, [(node.inputs[0] as Node).shape.at(-1) as number], matmulMeet);
    case 'convolution':
      return convolutionSpec(node, lower.geometry(node.attrs, node));
    default:
      throw internalError(`${node.op.name} is not a contraction`);
  }
}

function matmulMeet(
  builder: Builder,
  result: readonly Expression[],
  reduced: readonly Expression[],
): Meeting {
  const batch = result.slice(0, -2);
  const k = reduced[0] as Expression;
  return {
    first: [...batch, result.at(-2) as Expression, k],
    second: [...batch, k, result.at(-1) as Expression],
    inside: builder.constant(1, 'bool'),
  };
}

/** A sum over `reduced` of products of two operands' elements. */
function productSpec(node: Node, reduced: readonly number[], meet: Meet): ReductionSpec {
  const type = valueTypeOf(node.dtype);
  const [first, second] = node.inputs as readonly [Node, Node];
  const part = {
    node,
    accumulators: [{ type, identity: 0 }],
    map(emitter: Emitter, kept: readonly Expression[], inner: readonly Expression[]) {
      const { builder } = emitter.kernel;
      const { inside, ...at } = meet(builder, kept, inner);
      const left = emitter.value(first, at.first);
      const right = emitter.value(second, at.second);
      // Only one factor is masked: the other is read in range, but may be infinite.
      const product = builder.mul(left, right);
      return [builder.select(inside, product, builder.constant(0, type))];
    },
    combine: (builder: Builder, [a]: readonly Expression[], [b]: readonly Expression[]) => [
      builder.add(a as Expression, b as Expression),
    ],
    finish: (builder: Builder, [value]: readonly Expression[]) =>
      narrow(builder, value as Expression, node.dtype),
  };
  return {
    parts: [part],
    kept: node.shape,
    reduced,
    runs: reduced.map(() => 1),
    columns: true,
    shape: node.shape,
    resultIndices: (_builder, kept) => kept,
    work: 3,
  };
}

/** An index that may lie outside [0, size): made safe, and whether it was inside. */
function guard(
  builder: Builder,
  index: Expression,
  size: number,
): { readonly safe: Expression; readonly inside: Expression } {
  const zero = builder.constant(0);
  const last = builder.constant(Math.max(size - 1, 0));
  return {
    safe: builder.min(builder.max(index, zero), last),
    inside: builder.and(builder.compare('ge', index, zero), builder.compare('le', index, last)),
  };
}

function convolutionSpec(node: Node, geometry: ConvolutionGeometry): ReductionSpec {
  switch (geometry.role) {
    case 'forward':
      return { ...forwardSpec(node, geometry), inOneRun: true };
    case 'backwardData':
      return { ...backwardDataSpec(node, geometry), inOneRun: true };
    case 'backwardFilter':
      return backwardFilterSpec(node, geometry);
    default:
      geometry.role satisfies never;
      throw internalError('unknown role of a convolution');
  }
}

/** Position in the input that an output position and a tap meet at. */
function inputPosition(
  builder: Builder,
  geometry: ConvolutionGeometry,
  axis: number,
  output: Expression,
  tap: Expression,
): Expression {
  const { stride, dilation, padding } = geometry;
  const at = builder.add(
    builder.scale(output, stride[axis] as number),
    builder.scale(tap, dilation[axis] as number),
  );
  return builder.offset(at, -(padding[2 * axis] as number));
}

/** y[n, o, ...p] = sum over c, ...t of x[n, g * C + c, ...p * s + t * d - pad] * w[o, c, ...t]. */
function forwardSpec(node: Node, geometry: ConvolutionGeometry): ReductionSpec {
  const [x, weight] = node.inputs as readonly [Node, Node];
  const perGroup = weight.shape[1] as number;
  const outputsPerGroup = (node.shape[1] as number) / geometry.groups;
  return productSpec(node, weight.shape.slice(1), (builder, result, reduced) => {
    const [batch, output, ...space] = result as readonly [Expression, Expression, ...Expression[]];
    const [channel, ...taps] = reduced as readonly [Expression, ...Expression[]];
    const group = builder.div(output, builder.constant(Math.max(outputsPerGroup, 1)));
    const first = [batch, builder.add(builder.scale(group, perGroup), channel)];
    let inside = builder.constant(1, 'bool');
    space.forEach((position, axis) => {
      const at = inputPosition(builder, geometry, axis, position, taps[axis] as Expression);
      const guarded = guard(builder, at, x.shape[axis + 2] as number);
      inside = builder.and(inside, guarded.inside);
      first.push(guarded.safe);
    });
    return { first, second: [output, channel, ...taps], inside };
  });
}

/** dx[n, c, ...q] sums dy[n, o, ...p] * w[o, c, ...t] over all o, t where p * s = q + pad - t * d. */
function backwardDataSpec(node: Node, geometry: ConvolutionGeometry): ReductionSpec {
  const [dy, weight] = node.inputs as readonly [Node, Node];
  const { groups, stride, dilation, padding } = geometry;
  const perGroup = weight.shape[1] as number;
  const outputsPerGroup = (weight.shape[0] as number) / groups;
  const taps = weight.shape.slice(2);
  return productSpec(node, [outputsPerGroup, ...taps], (builder, result, reduced) => {
    const [batch, channel, ...space] = result as readonly [Expression, Expression, ...Expression[]];
    const [within, ...tap] = reduced as readonly [Expression, ...Expression[]];
    const divisor = builder.constant(Math.max(perGroup, 1));
    const group = builder.div(channel, divisor);
    const output = builder.add(builder.scale(group, outputsPerGroup), within);
    const first = [batch, output];
    let inside = builder.constant(1, 'bool');
    space.forEach((position, axis) => {
      const step = stride[axis] as number;
      const reach = ((taps[axis] as number) - 1) * (dilation[axis] as number);
      // Shifted to be non-negative, so that division and remainder mean the same everywhere.
      const shift = Math.ceil(reach / step) * step;
      const moved = builder.offset(
        builder.sub(position, builder.scale(tap[axis] as Expression, dilation[axis] as number)),
        (padding[2 * axis] as number) + shift,
      );
      const quotient = builder.div(moved, builder.constant(step));
      const at = builder.offset(quotient, -shift / step);
      const guarded = guard(builder, at, dy.shape[axis + 2] as number);
      const even = builder.compare(
        'eq',
        builder.rem(moved, builder.constant(step)),
        builder.constant(0),
      );
      inside = builder.and(inside, builder.and(even, guarded.inside));
      first.push(guarded.safe);
    });
    return { first, second: [output, builder.rem(channel, divisor), ...tap], inside };
  });
}

/** dw[o, c, ...t] sums x[n, g * C + c, ...p * s + t * d - pad] * dy[n, o, ...p] over n and p. */
function backwardFilterSpec(node: Node, geometry: ConvolutionGeometry): ReductionSpec {
  const [x, dy] = node.inputs as readonly [Node, Node];
  const perGroup = node.shape[1] as number;
  const outputsPerGroup = (node.shape[0] as number) / geometry.groups;
  const sizes = [dy.shape[0] as number, ...dy.shape.slice(2)];
  return productSpec(node, sizes, (builder, result, reduced) => {
    const [output, channel, ...taps] = result as readonly [Expression, Expression, ...Expression[]];
    const [batch, ...space] = reduced as readonly [Expression, ...Expression[]];
    const group = builder.div(output, builder.constant(Math.max(outputsPerGroup, 1)));
    const first = [batch, builder.add(builder.scale(group, perGroup), channel)];
    let inside = builder.constant(1, 'bool');
    space.forEach((position, axis) => {
      const at = inputPosition(builder, geometry, axis, position, taps[axis] as Expression);
      const guarded = guard(builder, at, x.shape[axis + 2] as number);
      inside = builder.and(inside, guarded.inside);
      first.push(guarded.safe);
    });
    return { first, second: [batch, output, ...space], inside };
  });
}

/** Multiplications and additions of a contraction, counted as two per product. */
export function contractionFlops(node: Node): number {
  const spec = contractionSpec(node);
  return 2 * sizeOf(spec.kept) * sizeOf(spec.reduced);
}
