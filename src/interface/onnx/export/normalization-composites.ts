// Softmax and normalizations.
import { sameShape, type Shape } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import type { AttributeValue } from '../encode-attribute.ts';
import { sizesOf } from './conversion.ts';
import { type Image, intsOf, reducesOver, type TracedGraph } from './graph.ts';
import {
  any,
  as,
  type Composite,
  either,
  type Found,
  type Match,
  number,
  oneNode,
  op,
  type Pattern,
  valueOf,
} from './pattern.ts';
import { isMean, meanOf } from './pooling-composites.ts';
import { filled } from './shaping.ts';

// ---- softmax ----------------------------------------------------------------------------------

const top = as('top', op('max', any('x')));

/** Both reductions run over the same one axis, which stays. */
function alongOneAxis(opType: string, found: Found): Match | null {
  const axes = intsOf(found['top'] as Node, 'axes');
  const [axis, more] = axes;
  const fits = ['top', 'total'].every((name) => reducesOver(found[name] as Node, axes));
  if (axis === undefined || more !== undefined || !fits) return null;
  return oneNode(opType, found, ['x'], { axis });
}

const SOFTMAX: Composite = {
  name: 'Softmax',
  root: 'mul',
  pattern: op(
    'mul',
    as('powers', op('exp', op('sub', any('x'), top))),
    op('reciprocal', as('total', op('sum', any('powers')))),
  ),
  match: (found) => alongOneAxis('Softmax', found),
};

const LOG_SOFTMAX: Composite = {
  name: 'LogSoftmax',
  root: 'sub',
  pattern: op(
    'sub',
    as('centered', op('sub', any('x'), top)),
    op('log', as('total', op('sum', op('exp', any('centered'))))),
  ),
  match: (found) => alongOneAxis('LogSoftmax', found),
};

// ---- (x - mean) / sqrt(variance + eps) * weight + bias ----------------------------------------

/** The normalized value, with a weight or without. */
function normalized(mean: Pattern, variance: Pattern, weight: Pattern): Pattern {
  const inverse = op('rsqrt', op('add', variance, number('eps')));
  return op('mul', op('sub', any('x'), mean), either(op('mul', inverse, weight), inverse));
}

/** With a bias, and without: each ends in another primitive. */
function withAndWithoutBias(
  name: string,
  inner: Pattern,
  bias: Pattern,
  match: Composite['match'],
): Composite[] {
  return [
    { name, root: 'add', pattern: op('add', inner, bias), match },
    { name: `${name} without bias`, root: 'mul', pattern: inner, match },
  ];
}

/** Mean and variance of x itself. */
const ownMean = meanOf('mean', any('x'));
const ownVariance = meanOf(
  'variance',
  op('mul', as('centered', op('sub', any('x'), any('mean'))), any('centered')),
);

function ownMoments(found: Found, graph: TracedGraph): readonly number[] | null {
  const axes = intsOf(found['mean.sum'] as Node, 'axes');
  const fits =
    ['mean.sum', 'variance.sum'].every((name) => reducesOver(found[name] as Node, axes)) &&
    isMean(found, 'mean', graph) &&
    isMean(found, 'variance', graph);
  return fits ? axes : null;
}

/** Whether an operand, if there is one, has the shape that it should have, at all sizes. */
function hasShape(
  found: Found,
  name: string,
  graph: TracedGraph,
  wanted: (x: Shape) => Shape,
): boolean {
  const node = found[name];
  if (node === undefined) return true;
  return graph.everywhere([found['x'] as Node, node], (x, image) =>
    sameShape((image as Image).shape, wanted((x as Image).shape)),
  );
}

function layerNormalization(found: Found, _node: Node, graph: TracedGraph): Match | null {
  const axes = ownMoments(found, graph);
  if (axes === null) return null;
  const x = found['x'] as Node;
  const first = axes[0] as number;
  const isTrailing = axes.length === x.shape.length - first && axes.at(-1) === x.shape.length - 1;
  const trailing = (shape: Shape): Shape => shape.slice(first);
  const fits = ['weight', 'bias'].every((name) => hasShape(found, name, graph, trailing));
  if (!isTrailing || !fits) return null;
  const { weight, bias } = found;
  const attributes = { axis: first, epsilon: { float: valueOf(found, 'eps') } };
  const given = [weight, bias].filter((node) => node !== undefined);
  return {
    needs: [x, ...given],
    write: (writer, [value, ...others]) => {
      const sizes = sizesOf(graph, x).slice(first);
      const scale =
        weight === undefined ? filled(writer, 1, x.dtype, sizes) : (others.shift() as string);
      return writer.add('LayerNormalization', [value as string, scale, ...others], attributes);
    },
  };
}

// ---- by channel -------------------------------------------------------------------------------

/** One value per channel, placed at axis 1. */
function channelwise(name: string): Pattern {
  return as(`${name}.placed`, op('reshape', any(name)));
}

/** Whether the operands are one value per channel, at all sizes. */
function arePerChannel(found: Found, names: readonly string[], graph: TracedGraph): boolean {
  const placed = (shape: Shape): Shape => shape.map((size, axis) => (axis === 1 ? size : 1));
  const flat = (shape: Shape): Shape => [shape[1] as number];
  return names.every(
    (name) =>
      hasShape(found, name, graph, flat) && hasShape(found, `${name}.placed`, graph, placed),
  );
}

/** A normalization by channel: x, weight, bias, and what else there is; weight and bias are required. */
function channelNormalization(
  opType: string,
  found: Found,
  graph: TracedGraph,
  more: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>>,
): Match | null {
  const x = found['x'] as Node;
  if (!arePerChannel(found, ['weight', 'bias', ...more], graph)) return null;
  const names = ['x', 'weight', 'bias', ...more].filter((name) => found[name] !== undefined);
  return {
    needs: names.map((name) => found[name] as Node),
    write: (writer, inputs) => {
      const channels = sizesOf(graph, x).slice(1, 2);
      const given = (name: string): string | undefined => inputs[names.indexOf(name)];
      const operands = [
        given('x') as string,
        given('weight') ?? filled(writer, 1, x.dtype, channels),
        given('bias') ?? filled(writer, 0, x.dtype, channels),
        ...more.map((name) => given(name) as string),
      ];
      return writer.add(opType, operands, attributes);
    },
  };
}

function batchNormalization(found: Found, _node: Node, graph: TracedGraph): Match | null {
  const epsilon = { float: valueOf(found, 'eps') };
  return channelNormalization('BatchNormalization', found, graph, ['mean', 'variance'], {
    epsilon,
  });
}

function instanceNormalization(found: Found, _node: Node, graph: TracedGraph): Match | null {
  const axes = ownMoments(found, graph);
  const rank = (found['x'] as Node).shape.length;
  if (axes === null || rank < 3 || axes[0] !== 2 || axes.length !== rank - 2) return null;
  const epsilon = { float: valueOf(found, 'eps') };
  return channelNormalization('InstanceNormalization', found, graph, [], { epsilon });
}

export const NORMALIZATION_COMPOSITES: readonly Composite[] = [
  SOFTMAX,
  LOG_SOFTMAX,
  ...withAndWithoutBias(
    'BatchNormalization',
    normalized(channelwise('mean'), channelwise('variance'), channelwise('weight')),
    channelwise('bias'),
    batchNormalization,
  ),
  ...withAndWithoutBias(
    'InstanceNormalization',
    normalized(ownMean, ownVariance, channelwise('weight')),
    channelwise('bias'),
    instanceNormalization,
  ),
  ...withAndWithoutBias(
    'LayerNormalization',
    normalized(ownMean, ownVariance, any('weight')),
    any('bias'),
    layerNormalization,
  ),
];
