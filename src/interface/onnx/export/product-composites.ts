// Products with what stands around them: transposed operands, a bias, batches.
import { isFloat } from '../../../base/dtype.ts';
import { sameShape, type Shape, sizeOf } from '../../../base/shape.ts';
import type { Node } from '../../../graph/node.ts';
import { endsAttention } from './attention-composite.ts';
import { type Image, intsOf, resolve, type TracedGraph } from './graph.ts';
import { any, as, type Composite, either, type Found, type Match, oneNode, op } from './pattern.ts';
import { writeConvolution } from './convolution.ts';

/** The operand of a transposition of a matrix, else the node. */
function untransposed(node: Node): { readonly source: Node; readonly isTransposed: boolean } {
  const isTransposed =
    node.storage === null && node.op.name === 'permute' && sameShape(intsOf(node, 'axes'), [1, 0]);
  return isTransposed
    ? { source: resolve(node.inputs[0] as Node), isTransposed }
    : { source: node, isTransposed };
}

function gemm(found: Found, node: Node, graph: TracedGraph): Match | null {
  const bias = found['bias'];
  const product = found['product'] as Node;
  if (node.shape.length !== 2 || product.shape.length !== 2 || !isFloat(node.dtype)) return null;
  // A bias that is larger than the product would enlarge it, which Gemm does not.
  const keepsShape = graph.everywhere([node, product], (sum, inner) =>
    sameShape((sum as Image).shape, (inner as Image).shape),
  );
  if (!keepsShape) return null;
  const [a, b] = ['a', 'b'].map((name) => untransposed(found[name] as Node)) as [
    ReturnType<typeof untransposed>,
    ReturnType<typeof untransposed>,
  ];
  if (bias === undefined && !a.isTransposed && !b.isTransposed) return null;
  if (endsAttention(product, graph)) return null;
  const attributes = {
    ...(a.isTransposed ? { transA: 1 } : {}),
    ...(b.isTransposed ? { transB: 1 } : {}),
  };
  return {
    needs: [a.source, b.source, ...(bias === undefined ? [] : [bias])],
    write: (writer, inputs) => writer.add('Gemm', inputs, attributes),
  };
}

/** Rows of a batch as one matrix, times a matrix, and back: MatMul takes the batch as it is. */
function rowsTimesMatrix(found: Found, node: Node, graph: TracedGraph): Match | null {
  const nodes = [found['x'], found['rows'], found['b'], node] as readonly Node[];
  const fits = graph.everywhere(nodes, (x, rows, b, result) => {
    const { shape } = x as Image;
    const lead = shape.slice(0, -1);
    const inner = shape.at(-1) as number;
    const columns = (b as Image).shape[1] as number;
    return (
      shape.length > 1 &&
      sameShape((rows as Image).shape, [sizeOf(lead), inner]) &&
      sameShape((result as Image).shape, [...lead, columns])
    );
  });
  return fits ? oneNode('MatMul', found, ['x', 'b']) : null;
}

/** Batch axes by NumPy's rules; null if they do not fit. */
function broadcastBatch(a: Shape, b: Shape): Shape | null {
  const rank = Math.max(a.length, b.length);
  const at = (shape: Shape, axis: number): number => shape[axis - (rank - shape.length)] ?? 1;
  const result: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const [x, y] = [at(a, axis), at(b, axis)];
    if (x !== y && x !== 1 && y !== 1) return null;
    result.push(x === 1 ? y : x);
  }
  return result;
}

/** MatMul repeats batches by itself. */
function withoutExpand(found: Found, node: Node, graph: TracedGraph): Match | null {
  const nodes = [found['a'], found['b'], node] as readonly Node[];
  const fits = graph.everywhere(nodes, (a, b, result) => {
    const batch = broadcastBatch((a as Image).shape.slice(0, -2), (b as Image).shape.slice(0, -2));
    return batch !== null && sameShape(batch, (result as Image).shape.slice(0, -2));
  });
  const areMatrices = nodes.every(({ shape }) => shape.length >= 2);
  return fits && areMatrices ? oneNode('MatMul', found, ['a', 'b']) : null;
}

/** Whether a bias has one value per output channel, at all sizes. */
function isChannelBias(found: Found, graph: TracedGraph): boolean {
  const nodes = ['product', 'bias', 'placed'].map((name) => found[name] as Node);
  return graph.everywhere(nodes, (product, bias, placed) => {
    const { shape } = product as Image;
    const channels = shape[1] as number;
    const tail = shape.slice(2).map(() => 1);
    const place = (placed as Image).shape;
    return (
      sameShape((bias as Image).shape, [channels]) &&
      (sameShape(place, [channels, ...tail]) || sameShape(place, [1, channels, ...tail]))
    );
  });
}

function convolutionWithBias(primitive: string): Composite {
  return {
    name: `${primitive} with bias`,
    root: 'add',
    pattern: op(
      'add',
      as('product', op(primitive, any('x'), any('weight'))),
      as('placed', op('reshape', any('bias'))),
    ),
    match: (found, _node, graph) => {
      if (!isChannelBias(found, graph)) return null;
      const product = found['product'] as Node;
      return {
        needs: ['x', 'weight', 'bias'].map((name) => found[name] as Node),
        write: (writer, inputs) =>
          writeConvolution({ writer, graph, node: product, attrs: null, inputs }),
      };
    },
  };
}

const matrixProduct = as('product', op('matmul', any('a'), any('b')));
const maybeExpanded = (name: string) => either(op('expand', any(name)), any(name));

export const PRODUCT_COMPOSITES: readonly Composite[] = [
  convolutionWithBias('convolution'),
  convolutionWithBias('convolutionBackwardData'),
  { name: 'Gemm', root: 'add', pattern: op('add', matrixProduct, any('bias')), match: gemm },
  { name: 'Gemm without bias', root: 'matmul', pattern: matrixProduct, match: gemm },
  {
    name: 'MatMul of rows',
    root: 'reshape',
    pattern: op('reshape', op('matmul', as('rows', op('reshape', any('x'))), any('b'))),
    match: rowsTimesMatrix,
  },
  {
    name: 'MatMul of batches',
    root: 'matmul',
    pattern: op('matmul', maybeExpanded('a'), maybeExpanded('b')),
    match: withoutExpand,
  },
];
