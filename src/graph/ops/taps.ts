// Weighted sums of elements at computed positions along an axis, and their adjoint: what resizing,
// grid sampling, warps and deformable convolution are made of.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sameShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression, Variable } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import {
  type AttrsOf,
  defineOp,
  type KernelBody,
  type KernelContext,
  makeNode,
  type ReferenceTensor,
  type Sample,
} from '../op.ts';
import { add, mul } from './arithmetic.ts';
import { reshape, sum, sumTo } from './broadcast.ts';
import { full } from './creation.ts';
import { loop } from './emit.ts';
import { checkIndex, checkSource, randomIndices } from './indexing.ts';
import { elementAt, fillReference, flatPosition, forEachIndex } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';
import { clampIndex, makeTile } from './scatter-lowering.ts';
import { narrowAxis } from './slicing.ts';

/** Taps that one node reads: they stand in the kernel one by one. */
const TAPS_PER_NODE = 16;

function checkTaps(op: string, x: Node, index: Node, weight: Node): void {
  checkIndex(op, index);
  if (!isFloat(x.dtype) || weight.dtype !== x.dtype) {
    throw new DTypeError(`takes floats of one dtype, not ${x.dtype} and ${weight.dtype}`, { op });
  }
  const fits =
    x.shape.length === 4 &&
    index.shape.length === 3 &&
    sameShape(index.shape, weight.shape) &&
    (index.shape[0] === 1 || index.shape[0] === x.shape[0]);
  if (fits) return;
  throw new ShapeError(
    `${formatShape(x.shape)} has no taps ${formatShape(index.shape)} with weights ${formatShape(weight.shape)}`,
    { op },
  );
}

/** The batch of the taps: one for all, or one for each of x. */
function tapBatch(index: { readonly shape: Shape }): (batch: number) => number {
  return index.shape[0] === 1 ? () => 0 : (batch) => batch;
}

/** 0 where the index is negative: there nothing is read or added. */
function unlessHole(builder: Builder, index: Expression, value: Expression): Expression {
  const hole = builder.compare('lt', index, builder.constant(0));
  return builder.select(hole, builder.constant(0, value.type), value);
}

// ---- reading ----------------------------------------------------------------------------------

const READ = { holes: 'flag' } as const;
const ADD = { size: 'int', holes: 'flag' } as const;

const readTapsOp = defineOp({
  name: 'readTaps',
  summary: 'weighted taps: y[b,c,p,i] = sum over k of weight[b,k,p] * x[b,c,index[b,k,p],i]',
  attrs: READ,
  infer: ([x, index, weight]) => {
    checkTaps('readTaps', x!, index!, weight!);
    const [batch, channels, size, inner] = x!.shape as readonly [number, number, number, number];
    const shape = [batch, channels, index!.shape[2]!, inner];
    checkSource('readTaps', size, sizeOf(shape));
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, needs, attrs: { holes } }) => {
    const [x, index, weight] = inputs as readonly [Node, Node, Node];
    return [
      needs(0) ? addTaps(grad, index, weight, x.shape[2]!, holes) : null,
      null,
      needs(2) ? tapProducts(x, index, grad, holes) : null,
    ];
  },
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, [batch, channel, at, inner], { holes }, node) => {
      const { builder } = context;
      const [x, index] = node.inputs as readonly [Node, Node];
      const own = index.shape[0] === 1 ? builder.constant(0) : batch!;
      let total: Expression | undefined;
      for (let k = 0; k < index.shape[1]!; k++) {
        const tap = [own, builder.constant(k), at!];
        const given = context.read(1, tap);
        const where = clampIndex(builder, given, x.shape[2]!);
        const value = context.read(0, [batch!, channel!, where, inner!]);
        const product = builder.mul(context.read(2, tap), value);
        const term = holes ? unlessHole(builder, given, product) : product;
        total = total === undefined ? term : builder.add(total, term);
      }
      return total!;
    },
  },
  reference: ([x, index, weight], { holes }, output) => {
    const own = tapBatch(index!);
    return fillReference(output, ([b, c, p, i]) => {
      let total = 0;
      for (let k = 0; k < index!.shape[1]!; k++) {
        const tap = [own(b!), k, p!];
        const given = elementAt(index!, tap);
        if (holes && given < 0) continue;
        const at = clamped(given, x!.shape[2]!);
        total += elementAt(weight!, tap) * elementAt(x!, [b!, c!, at, i!]);
      }
      return total;
    });
  },
  samples: () =>
    tapSamples([]).flatMap(({ inputs }, i) =>
      (i < 7 ? [false] : [false, true]).map((holes) => ({ inputs, attrs: { holes } })),
    ),
  cost: 12,
});

function clamped(index: number, size: number): number {
  return Math.min(Math.max(index, 0), size - 1);
}

/** Values of [batch, channels, length, inner] with taps [batch or 1, taps, length]. */
function tapSamples(size: readonly number[]): {
  readonly inputs: readonly ReferenceTensor[];
  readonly size: number;
}[] {
  const sample = (x: Shape, taps: Shape, dtype: DType = 'float32') => {
    const target = size[0] ?? x[2]!;
    // For the adjoint the values stand where the taps read to.
    const shape = size.length === 0 ? x : [x[0]!, x[1]!, taps[2]!, x[3]!];
    return {
      inputs: [
        randomTensor(shape, { dtype }),
        randomIndices(taps, target, 3),
        randomTensor(taps, { dtype, seed: 5 }),
      ],
      size: target,
    };
  };
  return [
    sample([1, 1, 4, 1], [1, 2, 3]),
    sample([2, 3, 4, 1], [2, 4, 5]),
    sample([2, 2, 3, 5], [1, 3, 4]),
    sample([1, 2, 3, 70], [1, 1, 2]),
    sample([3, 1, 2, 2], [3, 1, 2], 'float64'),
    sample([1, 2, 3, 1], [1, 2, 0]),
    sample([0, 2, 3, 1], [1, 2, 4]),
    {
      inputs: [
        tensorOf([1, 1, 3, 1], [1, 2, 3]),
        tensorOf([1, 3, 3], [0, 1, 9, 0, -4, 2, 0, 1, 1], 'int32'),
        tensorOf([1, 3, 3], [1, 2, 0.5, 4, 1, 1, 1, 3, 2]),
      ],
      size: 3,
    },
  ];
}

// ---- adding -----------------------------------------------------------------------------------

const addTapsOp = defineOp({
  name: 'addTaps',
  summary: 'adjoint of readTaps: y[b,c,index[b,k,p],i] += weight[b,k,p] * x[b,c,p,i]',
  attrs: ADD,
  infer: ([x, index, weight], { size }) => {
    checkTaps('addTaps', x!, index!, weight!);
    if (x!.shape[2] !== index!.shape[2]) {
      throw new ShapeError(
        `${formatShape(x!.shape)} has no taps ${formatShape(index!.shape)} of its own`,
        { op: 'addTaps' },
      );
    }
    checkSource('addTaps', size, sizeOf(x!.shape));
    const [batch, channels, , inner] = x!.shape as readonly [number, number, number, number];
    return { shape: [batch, channels, size, inner], dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, needs, attrs: { holes } }) => {
    const [x, index, weight] = inputs as readonly [Node, Node, Node];
    return [
      needs(0) ? readTaps(grad, index, weight, holes) : null,
      null,
      needs(2) ? tapProducts(grad, index, x, holes) : null,
    ];
  },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1, 1],
    lower: (context, { holes }, node) => lowerAddTaps(context, node, holes),
  },
  reference: ([x, index, weight], { size, holes }, output) => {
    const own = tapBatch(index!);
    const data = new Float64Array(sizeOf(output.shape));
    forEachIndex(x!.shape, ([b, c, p, i], flat) => {
      for (let k = 0; k < index!.shape[1]!; k++) {
        const tap = [own(b!), k, p!];
        const given = elementAt(index!, tap);
        if (holes && given < 0) continue;
        const at = flatPosition(output.shape, [b!, c!, clamped(given, size), i!]);
        data[at]! += elementAt(weight!, tap) * x!.data[flat]!;
      }
    });
    return data;
  },
  samples: (): Sample<AttrsOf<typeof ADD>>[] => [
    ...tapSamples([6]).map(({ inputs, size }) => ({ inputs, attrs: { size, holes: false } })),
    ...tapSamples([1]).map(({ inputs, size }) => ({ inputs, attrs: { size, holes: true } })),
  ],
});

/** Adds in scratch, position by position, so that the order is always the same. */
function lowerAddTaps(context: KernelContext, node: Node, holes: boolean): KernelBody {
  const { builder } = context;
  const [, index] = node.inputs as readonly [Node, Node];
  const [shared, taps, count] = index.shape as readonly [number, number, number];
  const size = node.shape[2]!;
  const rows = Math.max(size, 1);
  const tile = makeTile(context, node, 2, rows, Infinity);
  const [batch] = tile.before as readonly [Expression];
  const own = shared === 1 ? builder.constant(0) : batch;
  const pin = (variable: Variable, value: Expression, into: Statement[]): Variable => {
    into.push({ kind: 'let', variable, value });
    return variable;
  };
  const spread = (at: Expression): Statement[] => {
    const statements: Statement[] = [];
    const targets = Array.from({ length: taps }, (_, k) => {
      const tap = [own, builder.constant(k), at];
      const given = pin(builder.variable(`index${k}`), context.read(1, tap), statements);
      const row = builder.variable(`row${k}`, 'i32', { min: 0, max: rows - 1 });
      const share = context.read(2, tap);
      const weight = builder.variable(`weight${k}`, share.type);
      return {
        given,
        row: pin(row, clampIndex(builder, given, size), statements),
        weight: pin(weight, share, statements),
      };
    });
    const body = tile.overColumns(true, (column, after) => {
      const read = context.read(0, [...tile.before, at, ...after]);
      const inner: Statement[] = [];
      const value = pin(builder.variable('value', read.type), read, inner);
      for (const { given, row, weight } of targets) {
        const place = tile.place(row, column);
        const known = builder.load(tile.totals, place);
        const product = builder.mul(weight, value);
        const sum = builder.add(known, holes ? unlessHole(builder, given, product) : product);
        inner.push({ kind: 'store', buffer: tile.totals, index: place, value: sum });
      }
      return inner;
    });
    return [...statements, ...body];
  };
  const body = [...tile.clear(0), ...loop(builder, 'at', count, spread), ...tile.finish()];
  return { gridIndex: tile.item, gridSize: tile.gridSize, body };
}

// ---- what the graph calls ---------------------------------------------------------------------

/** Sum over channels of `y[b,c,p,i] * x[b,c,index[b,k,p],i]`: the gradient by the weights. */
function tapProducts(x: Node, index: Node, y: Node, holes: boolean): Node {
  const [shared, taps, count] = index.shape as readonly [number, number, number];
  const [batch, channels, , inner] = x.shape as readonly [number, number, number, number];
  const flat = reshape(index, [shared, 1, taps * count]);
  const found = readTaps(x, flat, full([shared, 1, taps * count], 1, x.dtype), holes);
  const apart = reshape(found, [batch, channels, taps, count, inner]);
  const products = mul(apart, reshape(y, [batch, channels, 1, count, inner]));
  return sumTo(sum(products, [1, 4]), [shared, taps, count]);
}

/** Parts of at most TAPS_PER_NODE taps, added up. */
function inParts(index: Node, weight: Node, build: (index: Node, weight: Node) => Node): Node {
  const taps = index.shape[1] ?? 0;
  if (taps <= TAPS_PER_NODE) return build(index, weight);
  let total: Node | undefined;
  for (let start = 0; start < taps; start += TAPS_PER_NODE) {
    const count = Math.min(TAPS_PER_NODE, taps - start);
    const part = build(narrowAxis(index, 1, start, count), narrowAxis(weight, 1, start, count));
    total = total === undefined ? part : add(total, part);
  }
  return total!;
}

/**
 * `y[b,c,p,i]`, the sum over k of `weight[b,k,p] * x[b,c,index[b,k,p],i]`: x [batch, channels, size,
 * inner], index (int32) and weight [batch or 1, taps, length], at least one tap. Indices beyond the
 * ends read the ends; with `holes`, negative ones read nothing, whatever the weight.
 */
export function readTaps(x: Node, index: Node, weight: Node, holes = false): Node {
  if (index.shape[1] === 0) throw new ShapeError('reads without taps', { op: 'readTaps' });
  return inParts(index, weight, (at, share) => makeNode(readTapsOp, [x, at, share], { holes }));
}

/** The adjoint of `readTaps`: x [batch, channels, length, inner] added up to `size` positions. */
export function addTaps(x: Node, index: Node, weight: Node, size: number, holes = false): Node {
  const attrs = { size, holes };
  return inParts(index, weight, (at, share) => makeNode(addTapsOp, [x, at, share], attrs));
}
