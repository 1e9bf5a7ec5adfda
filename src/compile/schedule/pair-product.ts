// Matrix products in bfloat16 with float32 sums, where the user allows them and the machine has units
// for them: the product schedule with operands packed as pairs of neighbours along k.
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import { branch, PAIRS, type Statement, type Target } from '../../ir/kernel.ts';
import type { ContractionContext, ContractionSchedule } from '../lower/contraction.ts';
import { elementsPerNanosecond, multiplyAddsPerNanosecond } from '../lower/cost.ts';
import type { Scratch, Stage } from '../lower/kernel-builder.ts';
import { convolutionProblem, geometryOf } from './convolution.ts';
import { loop, loopIndex } from './loops.ts';
import { matmulProblem } from './matmul.ts';
import {
  multiplyStage,
  panelCount,
  panelsOf,
  type ProductContext,
  type ProductTiles,
  sharedOperands,
} from './product.ts';
import { accumulatorOf, type ProductProblem, type ProductSizes } from './product-problem.ts';

/** Values of k in one step. */
const STEP = 2 * PAIRS.depth;

/** Below this many rows, columns or values of k most of a block would be zeros. */
const LEAST = 16;

function problemOf({ node }: ContractionContext): ProductProblem | null {
  if (node.op.lower.kind === 'matmul') return matmulProblem(node);
  const geometry = geometryOf(node);
  return geometry === null ? null : convolutionProblem(node, geometry);
}

/** How much dearer an element is to pack than to copy: that of an image is under some tap. */
function packingOf({ node, isConstant }: ContractionContext): { a: number; b: number } {
  // Products read the first operand by rows, convolutions the second: their weights.
  if (node.op.lower.kind === 'matmul') {
    return { a: isConstant(0) ? 0 : 1, b: isConstant(1) ? 0 : 1 };
  }
  return { a: isConstant(1) ? 0 : 1, b: 3 };
}

/** Products and convolutions in bfloat16. */
export const pairProduct: ContractionSchedule = {
  name: 'bfloat16 product',
  reproducible: true,
  usable: (context) => {
    const { target } = context;
    if (target.pairSpeed === undefined || target.numerics !== 'fast') return false;
    const problem = problemOf(context);
    if (problem === null || accumulatorOf(problem.dtype) !== 'float32') return false;
    const { m, n, k } = problem.sizes;
    return m >= LEAST && n >= LEAST && k >= LEAST;
  },
  cost: (context) => {
    const { sizes } = problemOf(context) as ProductProblem;
    return pairCost(sizes, context.target, packingOf(context));
  },
  lower: (context) => pairStages(context, problemOf(context) as ProductProblem),
};

function pairCost(
  { batch, m, n, k }: ProductSizes,
  target: Target,
  packing: { readonly a: number; readonly b: number },
): number {
  const whole = (size: number, unit: number): number => Math.ceil(size / unit) * unit;
  const [rows, columns, depth] = [whole(m, PAIRS.rows), whole(n, PAIRS.columns), whole(k, STEP)];
  const speed = 0.6 * (target.pairSpeed ?? 1) * multiplyAddsPerNanosecond(target);
  const packed = batch * depth * (rows * packing.a + columns * packing.b);
  return (
    (batch * rows * columns * depth) / speed +
    (packed + batch * m * n) / elementsPerNanosecond(target)
  );
}

function tilesFor(sizes: ProductSizes): ProductTiles {
  const steps = Math.ceil(sizes.k / STEP);
  const blockRows = sizes.m > PAIRS.rows ? 2 * PAIRS.rows : PAIRS.rows;
  const blockColumns = sizes.n > PAIRS.columns ? 2 * PAIRS.columns : PAIRS.columns;
  // Panels of 32 by 512 are 32 KiB: two of each operand stay in the second-level cache.
  return { rows: PAIRS.rows, vectors: 2, blockRows, blockColumns, blockDepth: Math.min(steps, 16) };
}

function pairStages(contraction: ContractionContext, problem: ProductProblem): Stage[] {
  const { sizes } = problem;
  const context: ProductContext = {
    contraction,
    problem,
    tiles: tilesFor(sizes),
    dtype: 'float32',
    type: 'f32',
    width: PAIRS.columns,
    steps: Math.ceil(sizes.k / STEP),
    stepA: PAIRS.rows * PAIRS.depth,
    stepB: PAIRS.columns * PAIRS.depth,
    ...sharedOperands(contraction, problem),
    multiply: (builder, { packedA, packedB, block }, at) => [
      {
        kind: 'multiplyPairs',
        sums: block,
        sumsIndex: at.corner,
        sumsStride: context.tiles.blockColumns,
        left: packedA,
        leftIndex: builder.add(at.a, builder.scale(at.start, context.stepA)),
        right: packedB,
        rightIndex: builder.add(at.b, builder.scale(at.start, context.stepB)),
        steps: builder.sub(at.end, at.start),
      },
    ],
  };
  const { packedA, packedB } = panelsOf(context, 'uint32');
  return [
    packStage(context, 'A', packedA),
    packStage(context, 'B', packedB),
    multiplyStage(context, packedA, packedB),
  ];
}

/** The upper half of a float32, rounded to the nearest even; NaN stays NaN. */
function roundedBits(builder: Builder, value: Expression): Expression {
  const word = (number: number): Expression => builder.constant(number, 'u32');
  const bits = builder.bitcast(value, 'u32');
  const odd = builder.binary('and', builder.binary('shr', bits, word(16)), word(1));
  const rounded = builder.binary('add', builder.binary('add', bits, word(0x7fff)), odd);
  const size = builder.binary('and', bits, word(0x7fffffff));
  const quiet = builder.binary('or', bits, word(0x400000));
  return builder.select(builder.compare('gt', size, word(0x7f800000)), quiet, rounded);
}

/**
 * Packs an operand as the IR's `multiplyPairs` wants it: a step of a panel of `A` is rows of words, of
 * `B` it is words of columns. Beyond the edges stand zeros.
 */
function packStage(context: ProductContext, side: 'A' | 'B', scratch: Scratch): Stage {
  const { contraction, problem, steps } = context;
  const { sizes } = problem;
  const along = side === 'A' ? sizes.m : sizes.n;
  const width = side === 'A' ? PAIRS.rows : PAIRS.columns;
  const batches = side === 'A' ? context.batchA : context.batchB;
  const panels = panelCount(context, side);
  const kernel = contraction.newKernel(`${contraction.name}_pairs${side}`);
  const { builder } = kernel;
  const packed = kernel.scratch(scratch, 'write');
  const item = loopIndex(builder, 'item', batches * panels);
  const batch = builder.div(item, builder.constant(panels));
  const panel = builder.rem(item, builder.constant(panels));
  const step = loopIndex(builder, 'step', steps);
  const last = (size: number): Expression => builder.constant(size - 1);

  /** One operand's element as the bits of its bfloat16, in the upper half. */
  const element = (position: Expression, k: Expression, isWhole: boolean): Expression => {
    const read = (at: Expression, depth: Expression): Expression =>
      builder.convert(
        side === 'A'
          ? problem.readA(kernel, batch, at, depth)
          : problem.readB(kernel, batch, depth, at),
        'f32',
      );
    if (isWhole) return roundedBits(builder, read(position, k));
    const inside = builder.and(
      builder.compare('le', position, last(along)),
      builder.compare('le', k, last(sizes.k)),
    );
    const value = read(builder.min(position, last(along)), builder.min(k, last(sizes.k)));
    return roundedBits(builder, builder.select(inside, value, builder.constant(0, 'f32')));
  };
  /** Copies the panel's part for one step; at the edge some of it is zeros. */
  const copy = (isWhole: boolean): Statement => {
    const word = loopIndex(builder, 'word', PAIRS.depth);
    const line = loopIndex(builder, 'line', width);
    const position = builder.add(builder.scale(panel, width), line);
    const k = builder.add(builder.scale(step, STEP), builder.scale(word, 2));
    const low = builder.binary('shr', element(position, k, isWhole), builder.constant(16, 'u32'));
    const high = builder.binary(
      'and',
      element(position, builder.offset(k, 1), isWhole),
      builder.constant(0xffff0000, 'u32'),
    );
    const start = builder.scale(item, steps * width * PAIRS.depth);
    const ofStep = builder.add(start, builder.scale(step, width * PAIRS.depth));
    const within =
      side === 'A'
        ? builder.add(builder.scale(line, PAIRS.depth), word)
        : builder.add(builder.scale(word, width), line);
    const store: Statement = {
      kind: 'store',
      buffer: packed,
      index: builder.add(ofStep, within),
      value: builder.binary('or', low, high),
    };
    return side === 'A'
      ? loop(builder, line, width, [loop(builder, word, PAIRS.depth, [store], true)])
      : loop(builder, word, PAIRS.depth, [loop(builder, line, width, [store], true)]);
  };
  const wholePanels = Math.floor(along / width);
  const wholeSteps = Math.floor(sizes.k / STEP);
  const isInside = builder.and(
    builder.compare('lt', panel, builder.constant(wholePanels)),
    builder.compare('lt', step, builder.constant(wholeSteps)),
  );
  const allWhole = along % width === 0 && sizes.k % STEP === 0;
  const body = allWhole ? copy(true) : branch(isInside, [copy(true)], [copy(false)]);
  return kernel.finish(item, batches * panels, [loop(builder, step, steps, [body])]);
}
