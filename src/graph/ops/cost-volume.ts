// Products of an image with another one moved by every displacement of a square: the cost volume of
// optical flow and stereo, and its gradients. Each of the three is the gradient of the others.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
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
import { loop, unflatten } from './emit.ts';
import { elementAt, fillReference, flatPosition, forEachIndex } from './reference.ts';
import { randomTensor } from './samples.ts';

/** Displacements 0, step, ..., (count - 1) * step in both directions. */
const SQUARE = { count: 'int', step: 'int' } as const;
type SquareAttrs = AttrsOf<typeof SQUARE>;

function reach({ count, step }: SquareAttrs): number {
  return (count - 1) * step;
}

function wide(dtype: DType): DType {
  return dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
}

function check(op: string, inputs: readonly Node[], fits: boolean): void {
  const [a, b] = inputs as readonly [Node, Node];
  if (!isFloat(a.dtype) || a.dtype !== b.dtype) {
    throw new DTypeError(`takes floats of one dtype, not ${a.dtype} and ${b.dtype}`, { op });
  }
  if (fits && a.shape.length === 4 && b.shape.length === 4) return;
  throw new ShapeError(`${formatShape(a.shape)} and ${formatShape(b.shape)} do not fit`, { op });
}

/** A row of sums in scratch, which grid items add to in a fixed order. */
function rowSums(
  context: KernelContext,
  node: Node,
  width: number,
  make: (
    item: readonly Expression[],
    addTo: (
      name: string,
      count: number,
      shift: Expression,
      term: (x: Expression) => Expression,
    ) => Statement[],
  ) => readonly Statement[],
): KernelBody {
  const { builder } = context;
  const grid = node.shape.slice(0, 3);
  const gridSize = sizeOf(grid);
  const item = builder.variable('item', 'i32', { min: 0, max: Math.max(gridSize - 1, 0) });
  const indices = unflatten(builder, item, grid);
  const dtype = wide(node.dtype);
  const row = context.scratch('row', dtype, width);
  const zero = builder.constant(0, valueTypeOf(dtype));
  const body = make(indices, (name, count, shift, term) =>
    loop(
      builder,
      name,
      count,
      (x) => {
        const index = builder.add(x, shift);
        const value = builder.add(builder.load(row, index), term(x));
        return [{ kind: 'store', buffer: row, index, value }];
      },
      { vector: true },
    ),
  );
  return {
    gridIndex: item,
    gridSize,
    body: [
      ...loop(
        builder,
        'clear',
        width,
        (index) => [{ kind: 'store', buffer: row, index, value: zero }],
        {
          vector: true,
        },
      ),
      ...body,
      ...loop(builder, 'out', width, (x) => context.write([...indices, x], builder.load(row, x)), {
        vector: true,
      }),
    ],
  };
}

function overSquare(
  builder: Builder,
  { count }: SquareAttrs,
  body: (down: Expression, across: Expression) => readonly Statement[],
): Statement[] {
  return loop(builder, 'down', count, (down) =>
    loop(builder, 'across', count, (across) => body(down, across)),
  );
}

const costVolumeOp = defineOp({
  name: 'costVolume',
  summary: 'y[n, i*count+j, h, w] = sum over c of a[n,c,h,w] * b[n,c,h+i*step,w+j*step]',
  attrs: SQUARE,
  infer: (inputs, attrs) => {
    const [a, b] = inputs as readonly [Node, Node];
    const more = reach(attrs);
    const expected = a.shape.map((size, axis) => (axis < 2 ? size : size + more));
    check(
      'costVolume',
      inputs,
      b.shape.every((size, axis) => size === expected[axis]),
    );
    const [n, , h, w] = a.shape as readonly [number, number, number, number];
    return { shape: [n, attrs.count ** 2, h, w], dtype: a.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => [
    needs(0) ? costVolumeFirst(grad, inputs[1]!, attrs) : null,
    needs(1) ? costVolumeSecond(grad, inputs[0]!, attrs) : null,
  ],
  lower: {
    kind: 'custom',
    evaluations: (attrs) => [attrs.count ** 2, attrs.count ** 2],
    lower: (context, { count, step }, node) =>
      rowSums(context, node, node.shape[3]!, ([n, place, h], addTo) => {
        const { builder } = context;
        const [down, across] = unflatten(builder, place!, [count, count]) as Expression[];
        const row = builder.add(h!, builder.scale(down!, step));
        return loop(builder, 'channel', node.inputs[0]!.shape[1]!, (c) =>
          addTo('x', node.shape[3]!, builder.constant(0), (x) => {
            const moved = builder.add(x, builder.scale(across!, step));
            return builder.mul(
              context.read(0, [n!, c, h!, x]),
              context.read(1, [n!, c, row, moved]),
            );
          }),
        );
      }),
  },
  reference: ([a, b], { count, step }, output) =>
    fillReference(output, ([n, place, h, w]) => {
      const [i, j] = [Math.floor(place! / count), place! % count];
      let total = 0;
      for (let c = 0; c < a!.shape[1]!; c++) {
        total +=
          elementAt(a!, [n!, c, h!, w!]) * elementAt(b!, [n!, c, h! + i * step, w! + j * step]);
      }
      return total;
    }),
  samples: () =>
    squareSamples(({ n, c, h, w }, attrs) => [
      [n, c, h, w],
      [n, c, h + reach(attrs), w + reach(attrs)],
    ]),
});

interface Sizes {
  readonly n: number;
  readonly c: number;
  readonly h: number;
  readonly w: number;
}

function squareSamples(
  shapes: (sizes: Sizes, attrs: SquareAttrs) => readonly [Shape, Shape],
): Sample<SquareAttrs>[] {
  const sample = (sizes: Sizes, attrs: SquareAttrs, dtype: DType = 'float32') => ({
    inputs: shapes(sizes, attrs).map((shape, i) => randomTensor(shape, { dtype, seed: i + 1 })) as [
      ReferenceTensor,
      ReferenceTensor,
    ],
    attrs,
  });
  return [
    sample({ n: 2, c: 3, h: 2, w: 4 }, { count: 3, step: 1 }),
    sample({ n: 1, c: 2, h: 3, w: 2 }, { count: 2, step: 2 }),
    sample({ n: 1, c: 1, h: 1, w: 35 }, { count: 1, step: 1 }),
    sample({ n: 1, c: 2, h: 2, w: 2 }, { count: 3, step: 1 }, 'float64'),
    sample({ n: 1, c: 0, h: 2, w: 2 }, { count: 1, step: 1 }),
    sample({ n: 0, c: 2, h: 2, w: 2 }, { count: 3, step: 1 }),
  ];
}

const costVolumeFirstOp = defineOp({
  name: 'costVolumeFirst',
  summary:
    'gradient of costVolume by its first: sum over i, j of dy[n,i*count+j,h,w] * b[n,c,h+i*step,w+j*step]',
  attrs: SQUARE,
  infer: (inputs, attrs) => {
    const [dy, b] = inputs as readonly [Node, Node];
    const more = reach(attrs);
    const [n, places, h, w] = dy.shape as readonly [number, number, number, number];
    const [images, channels, height, width] = b.shape as readonly [number, number, number, number];
    const fits =
      n === images && places === attrs.count ** 2 && height === h + more && width === w + more;
    check('costVolumeFirst', inputs, fits);
    return { shape: [n, channels, h, w], dtype: dy.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => [
    needs(0) ? costVolume(grad, inputs[1]!, attrs) : null,
    needs(1) ? costVolumeSecond(inputs[0]!, grad, attrs) : null,
  ],
  lower: {
    kind: 'custom',
    evaluations: (attrs, node) => [node.shape[1]!, attrs.count ** 2],
    lower: (context, attrs, node) =>
      rowSums(context, node, node.shape[3]!, ([n, c, h], addTo) => {
        const { builder } = context;
        return overSquare(builder, attrs, (down, across) => {
          const place = builder.add(builder.scale(down, attrs.count), across);
          const row = builder.add(h!, builder.scale(down, attrs.step));
          return addTo('x', node.shape[3]!, builder.constant(0), (x) => {
            const moved = builder.add(x, builder.scale(across, attrs.step));
            return builder.mul(
              context.read(0, [n!, place, h!, x]),
              context.read(1, [n!, c!, row, moved]),
            );
          });
        });
      }),
  },
  reference: ([dy, b], { count, step }, output) =>
    fillReference(output, ([n, c, h, w]) => {
      let total = 0;
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < count; j++) {
          const factor = elementAt(dy!, [n!, i * count + j, h!, w!]);
          total += factor * elementAt(b!, [n!, c!, h! + i * step, w! + j * step]);
        }
      }
      return total;
    }),
  samples: () =>
    squareSamples(({ n, c, h, w }, attrs) => [
      [n, attrs.count ** 2, h, w],
      [n, c, h + reach(attrs), w + reach(attrs)],
    ]),
});

const costVolumeSecondOp = defineOp({
  name: 'costVolumeSecond',
  summary:
    'gradient of costVolume by its second: dy[n,i*count+j,h,w] * a[n,c,h,w] added at [n,c,h+i*step,w+j*step]',
  attrs: SQUARE,
  infer: (inputs, attrs) => {
    const [dy, a] = inputs as readonly [Node, Node];
    const [n, places, h, w] = dy.shape as readonly [number, number, number, number];
    const [images, channels, height, width] = a.shape as readonly [number, number, number, number];
    const fits = n === images && places === attrs.count ** 2 && height === h && width === w;
    check('costVolumeSecond', inputs, fits);
    return { shape: [n, channels, h + reach(attrs), w + reach(attrs)], dtype: dy.dtype };
  },
  gradient: ({ grad, inputs, attrs, needs }) => [
    needs(0) ? costVolume(inputs[1]!, grad, attrs) : null,
    needs(1) ? costVolumeFirst(inputs[0]!, grad, attrs) : null,
  ],
  lower: {
    kind: 'custom',
    evaluations: (attrs, node) => [node.shape[1]!, attrs.count ** 2],
    lower: (context, attrs, node) =>
      rowSums(context, node, node.shape[3]!, ([n, c, h], addTo) => {
        const { builder } = context;
        const [height, width] = node.inputs[1]!.shape.slice(2) as [number, number];
        if (height === 0 || width === 0) return [];
        return overSquare(builder, attrs, (down, across) => {
          const place = builder.add(builder.scale(down, attrs.count), across);
          const from = builder.sub(h!, builder.scale(down, attrs.step));
          const inside = builder.and(
            builder.compare('ge', from, builder.constant(0)),
            builder.compare('lt', from, builder.constant(height)),
          );
          const row = builder.min(
            builder.max(from, builder.constant(0)),
            builder.constant(height - 1),
          );
          const adding = addTo('x', width, builder.scale(across, attrs.step), (x) =>
            builder.mul(context.read(0, [n!, place, row, x]), context.read(1, [n!, c!, row, x])),
          );
          if (inside.kind === 'constant') return inside.value === 0 ? [] : adding;
          return [branch(inside, adding)];
        });
      }),
  },
  reference: ([dy, a], { count, step }, output) => {
    const data = new Float64Array(sizeOf(output.shape));
    forEachIndex(dy!.shape, ([n, place, h, w], flat) => {
      const [i, j] = [Math.floor(place! / count), place! % count];
      for (let c = 0; c < a!.shape[1]!; c++) {
        const at = flatPosition(output.shape, [n!, c, h! + i * step, w! + j * step]);
        data[at]! += dy!.data[flat]! * elementAt(a!, [n!, c, h!, w!]);
      }
    });
    return data;
  },
  samples: () =>
    squareSamples(({ n, c, h, w }, attrs) => [
      [n, attrs.count ** 2, h, w],
      [n, c, h, w],
    ]),
});

/**
 * Products of a [n, c, h, w] with b [n, c, h + r, w + r], r = (count - 1) * step, moved by each
 * displacement of a square and summed over channels: [n, count², h, w], row by row.
 */
export function costVolume(a: Node, b: Node, attrs: SquareAttrs): Node {
  return makeNode(costVolumeOp, [a, b], attrs);
}

function costVolumeFirst(dy: Node, b: Node, attrs: SquareAttrs): Node {
  return makeNode(costVolumeFirstOp, [dy, b], attrs);
}

function costVolumeSecond(dy: Node, a: Node, attrs: SquareAttrs): Node {
  return makeNode(costVolumeSecondOp, [dy, a], attrs);
}
