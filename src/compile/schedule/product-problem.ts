// What is multiplied: sizes, elements and, where operands are nothing but memory, how they lie there.
import type { DType } from '../../base/dtype.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import { coefficientOf } from '../../ir/linear.ts';
import type { ContractionContext, ContractionKernel } from '../lower/contraction.ts';
import { loop, loopBetween, loopIndex } from './loops.ts';
import { transposeVectors } from './transpose.ts';

/** Sizes of `batch` products [m, k] @ [k, n]. */
export interface ProductSizes {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** A family of products and how to reach their elements from inside a kernel. */
export interface ProductProblem {
  readonly sizes: ProductSizes;
  /** dtype of the operands. */
  readonly dtype: DType;
  /** Element [m, k] of a; indices are in range. */
  readA(kernel: ContractionKernel, batch: Expression, m: Expression, k: Expression): Expression;
  /** Element [k, n] of b; indices are in range. */
  readB(kernel: ContractionKernel, batch: Expression, k: Expression, n: Expression): Expression;
  /** Runs the epilogue on element [m, n] and stores what comes of it. */
  store(
    kernel: ContractionKernel,
    batch: Expression,
    m: Expression,
    n: Expression,
    value: Expression,
  ): readonly Statement[];
  /** The same for as many elements as `value` has lanes, from [m, n] on along n. */
  storeVector?(
    kernel: ContractionKernel,
    batch: Expression,
    m: Expression,
    n: Expression,
    value: Expression,
  ): readonly Statement[];
}

/** The accumulator's dtype for operands of `dtype`. */
export function accumulatorOf(dtype: DType): DType {
  return dtype === 'float64' ? 'float64' : valueTypeOf(dtype) === 'f32' ? 'float32' : 'int32';
}

/** A matrix in memory. Element (along, k) is at base + along * strides.along + k * strides.depth. */
export interface Layout {
  readonly buffer: Buffer;
  readonly base: Expression;
  /** In elements: from one row of a, or column of b, to the next. */
  readonly along: number;
  /** In elements, from one step of k to the next. */
  readonly depth: number;
}

/** An operand's layout, if it is nothing but memory that holds what the sums are made of. */
export function layoutOf(
  problem: ProductProblem,
  kernel: ContractionKernel,
  side: 'A' | 'B',
  batch: Expression,
): Layout | null {
  const { builder } = kernel;
  const { sizes } = problem;
  const dtype = accumulatorOf(problem.dtype);
  const along = loopIndex(builder, 'along', side === 'A' ? sizes.m : sizes.n);
  const k = loopIndex(builder, 'k', sizes.k);
  const value =
    side === 'A' ? problem.readA(kernel, batch, along, k) : problem.readB(kernel, batch, k, along);
  if (value.kind !== 'load' || value.buffer.dtype !== dtype) return null;
  const byAlong = coefficientOf(value.index, along);
  const byDepth = coefficientOf(value.index, k);
  if (byAlong === undefined || byDepth === undefined) return null;
  const moved = builder.add(builder.scale(along, byAlong), builder.scale(k, byDepth));
  const base = builder.sub(value.index, moved);
  return { buffer: value.buffer, base, along: byAlong, depth: byDepth };
}

/** The strides of both operands, if both are nothing but memory. */
export function layoutsOf(
  context: ContractionContext,
  problem: ProductProblem,
): { readonly a: Layout; readonly b: Layout } | null {
  const kernel = context.newKernel('probe');
  const batch = loopIndex(kernel.builder, 'batch', problem.sizes.batch);
  const a = layoutOf(problem, kernel, 'A', batch);
  const b = layoutOf(problem, kernel, 'B', batch);
  return a === null || b === null ? null : { a, b };
}

/** Elements that are copied from one line to the next: a cache line of float32. */
const LINE = 16;

/** What a copy into panels writes. */
export interface PanelsCopy {
  readonly buffer: Buffer;
  readonly width: number;
  /** Steps of k. */
  readonly depth: number;
  /** Lanes of the target's vectors. */
  readonly lanes: number;
  /** Panels, all of them whole: the line that one begins with, and where it goes. */
  readonly count: number;
  first(panel: Expression): Expression;
  start(panel: Expression): Expression;
}

/**
 * Copies what runs along k in memory into panels: cache lines are read whole, one after the other,
 * and the few lines of the panel that they go to stay in the cache meanwhile. Squares of vectors are
 * turned around in registers, what is left over element by element.
 */
export function transposedCopy(
  builder: Builder,
  layout: Layout,
  copy: PanelsCopy,
): readonly Statement[] {
  const { width, depth, lanes, count, first, start: startOf } = copy;
  const from = (member: Expression, along: Expression, k: Expression): Expression => {
    const line = builder.add(first(member), along);
    return builder.add(builder.add(layout.base, builder.scale(line, layout.along)), k);
  };
  const to = (member: Expression, along: Expression, k: Expression): Expression =>
    builder.add(builder.add(startOf(member), builder.scale(k, width)), along);
  const inSquares = lanes >= 4 && width % lanes === 0;
  const lines = (steps: number, k: Expression): readonly Statement[] => {
    const member = loopIndex(builder, 'panel', count);
    if (inSquares && steps % lanes === 0) {
      const squares = width / lanes;
      const square = loopIndex(builder, 'square', squares);
      const along = builder.scale(square, lanes);
      const body = Array.from({ length: steps / lanes }, (_, part) => {
        const at = builder.offset(k, part * lanes);
        return turnSquare(builder, layout, copy, from(member, along, at), to(member, along, at));
      }).flat();
      return [loop(builder, member, count, [loop(builder, square, squares, body)])];
    }
    const along = loopIndex(builder, 'along', width);
    const stores = Array.from({ length: steps }, (_, step): Statement => ({
      kind: 'store',
      buffer: copy.buffer,
      index: builder.offset(to(member, along, k), step * width),
      value: builder.load(layout.buffer, builder.offset(from(member, along, k), step)),
    }));
    return [loop(builder, member, count, [loop(builder, along, width, stores)])];
  };
  const middle = builder.constant(depth - (depth % LINE));
  const k = loopIndex(builder, 'k', depth);
  const start = builder.constant(0);
  const whole: Statement = {
    kind: 'for',
    index: k,
    start,
    end: middle,
    step: LINE,
    body: lines(LINE, k),
  };
  if (depth % LINE === 0) return [whole];
  const rest = loopIndex(builder, 'k', depth);
  return [whole, loopBetween(rest, middle, builder.constant(depth), lines(1, rest))];
}

/** A square of elements: as many lines as a vector has lanes, of so many steps each. */
function turnSquare(
  builder: Builder,
  layout: Layout,
  { buffer, width, lanes }: PanelsCopy,
  from: Expression,
  to: Expression,
): readonly Statement[] {
  const vectors = Array.from({ length: lanes }, (_, i) =>
    builder.load(layout.buffer, builder.offset(from, i * layout.along), lanes),
  );
  const { statements, values } = transposeVectors(builder, vectors);
  const stores = values.map((value, step): Statement => ({
    kind: 'store',
    buffer,
    index: builder.offset(to, step * width),
    value,
  }));
  return [...statements, ...stores];
}
