// Means: over axes, over all of space, under windows.
import { sameShape, type Shape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import { type Image, intsOf, numberIn, resolve, type TracedGraph } from './graph.ts';
import {
  any,
  as,
  type Composite,
  factor,
  type Found,
  type Match,
  number,
  oneNode,
  op,
  type Pattern,
  valueOf,
} from './pattern.ts';
import { onImages, type PoolAttrs, poolAttributes } from './pooling.ts';
import { reduce } from './reduction.ts';

/** Whether `scale` is one over `count`, as far as float32 tells. */
function isOneOver(scale: Image, count: number): boolean {
  return Math.abs(numberIn(scale) * count - 1) < 1e-6;
}

/** A mean over axes: its sum and the factor are found under `name.sum` and `name.scale`. */
export function meanOf(name: string, x: Pattern): Pattern {
  return as(name, op('mul', as(`${name}.sum`, op('sum', x)), factor(`${name}.scale`)));
}

function reducedCount(shape: Shape, sum: Image): number {
  return sizeOf(intsOf(sum, 'axes').map((axis) => shape[axis] as number));
}

/** Whether the factor of a mean is one over the number of elements, at all sizes. */
export function isMean(found: Found, name: string, graph: TracedGraph): boolean {
  const sum = found[`${name}.sum`] as Node;
  const nodes = [resolve(sum.inputs[0] as Node), sum, found[`${name}.scale`] as Node];
  return graph.everywhere(nodes, (x, total, scale) =>
    isOneOver(scale as Image, reducedCount((x as Image).shape, total as Image)),
  );
}

/** The axes behind batch and channels of images; with one axis it is more likely a sequence. */
function isAllSpace(axes: readonly number[], rank: number): boolean {
  return rank > 3 && axes.length === rank - 2 && axes[0] === 2;
}

function matchMean(found: Found, _node: Node, graph: TracedGraph): Match | null {
  if (!isMean(found, 'mean', graph)) return null;
  const sum = found['mean.sum'] as Node;
  const axes = intsOf(sum, 'axes');
  const keepdims = sum.attrs['keepdims'] === true;
  const x = found['x'] as Node;
  if (keepdims && isAllSpace(axes, x.shape.length))
    return oneNode('GlobalAveragePool', found, ['x']);
  return {
    needs: [x],
    write: (writer, [value]) => reduce(writer, 'ReduceMean', value as string, { axes, keepdims }),
  };
}

function averagePool(found: Found, graph: TracedGraph, countIncludePad: number): Match | null {
  const pool = found['pool'] as Node;
  const attrs = pool.attrs as PoolAttrs & Node['attrs'];
  const isDense = attrs.dilation.every((distance) => distance === 1);
  const attributesAt = (opset: number) => {
    const { dilations, ...others } = poolAttributes(attrs);
    return { ...others, ...(opset >= 19 ? { dilations } : {}), count_include_pad: countIncludePad };
  };
  const isFixed = graph.everywhere([pool], (image) =>
    sameShape(intsOf(image, 'kernel'), attrs.kernel),
  );
  if (!isDense || !isFixed) return null;
  return {
    needs: [found['x'] as Node],
    write: (writer, [x]) =>
      onImages({ writer, graph, node: pool, attrs, inputs: [] }, x as string, true, (images) =>
        writer.add('AveragePool', [images], attributesAt(writer.opset)),
      ),
  };
}

/** Whether two pools move in the same way. */
function sameWindow(a: Image, b: Image): boolean {
  return ['kernel', 'stride', 'padding', 'dilation'].every((name) =>
    sameShape(intsOf(a, name), intsOf(b, name)),
  );
}

/** Whether `ones` are ones in the place of the elements of x: their pool counts them. */
function countsElements(found: Found, graph: TracedGraph): boolean {
  const nodes = ['x', 'pool', 'counts', 'ones'].map((name) => found[name] as Node);
  return graph.everywhere(nodes, (x, pool, counts, ones) => {
    const { shape } = ones as Image;
    const space = (x as Image).shape.slice(-shape.length);
    return (
      sameWindow(pool as Image, counts as Image) &&
      numberIn(ones as Image) === 1 &&
      sameShape(space, shape)
    );
  });
}

export const POOLING_COMPOSITES: readonly Composite[] = [
  {
    name: 'AveragePool',
    root: 'mul',
    pattern: op('mul', as('pool', op('sumPool', any('x'))), number('scale')),
    match: (found, _node, graph) => {
      const pool = found['pool'] as Node;
      const count = sizeOf(intsOf(pool, 'kernel'));
      const isAverage = Math.abs(valueOf(found, 'scale') * count - 1) < 1e-6;
      return isAverage ? averagePool(found, graph, 1) : null;
    },
  },
  {
    name: 'AveragePool without its border',
    root: 'div',
    pattern: op(
      'div',
      as('pool', op('sumPool', any('x'))),
      as('counts', op('sumPool', as('ones', op('full')))),
    ),
    match: (found, _node, graph) =>
      countsElements(found, graph) ? averagePool(found, graph, 0) : null,
  },
  { name: 'ReduceMean', root: 'mul', pattern: meanOf('mean', any('x')), match: matchMean },
];
