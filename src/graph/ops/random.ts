// Random bits as a function of key and counter (Philox4x32-10), so that recomputation repeats
// them; base/philox.ts draws the same on the host.
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { philoxBits } from '../../base/philox.ts';
import { checkShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import { branch, type Statement } from '../../ir/kernel.ts';
import type { Node } from '../node.ts';
import { defineOp, type KernelBody, type KernelContext, makeNode } from '../op.ts';
import { reshape } from './broadcast.ts';
import { tensorOf } from './samples.ts';

/** The four words of the block at the counter (c0, c1, 0, 0) under the key (k0, k1). */
export function emitPhilox(
  builder: Builder,
  counter: readonly [Expression, Expression],
  key: readonly [Expression, Expression],
): Expression[] {
  const word = (value: number): Expression => builder.constant(value >>> 0, 'u32');
  const xor = (a: Expression, b: Expression): Expression => builder.binary('xor', a, b);
  let [c0, c1, c2, c3]: Expression[] = [...counter, word(0), word(0)];
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = builder.binary('mulHigh', word(0xd2511f53), c0!);
    const low0 = builder.mul(word(0xd2511f53), c0!);
    const high1 = builder.binary('mulHigh', word(0xcd9e8d57), c2!);
    const low1 = builder.mul(word(0xcd9e8d57), c2!);
    [c0, c1, c2, c3] = [xor(xor(high1, c1!), k0), low1, xor(xor(high0, c3!), k1), low0];
    k0 = builder.add(k0, word(0x9e3779b9));
    k1 = builder.add(k1, word(0xbb67ae85));
  }
  return [c0!, c1!, c2!, c3!];
}

/** Blocks that one grid item draws. */
const BLOCKS = 1024;

/** Draws the four words of a block together, blocks side by side in vectors. */
function lowerRandomBits(context: KernelContext, count: number): KernelBody {
  const { builder } = context;
  const [k0, k1, offsetLow, offsetHigh] = [0, 1, 2, 3].map((input) => context.read(input, []));
  const draw = (block: Expression, words: number): Statement[] => {
    const low = builder.add(offsetLow!, builder.bitcast(block, 'u32'));
    const carry = builder.convert(builder.compare('lt', low, offsetLow!), 'u32');
    const drawn = emitPhilox(builder, [low, builder.add(offsetHigh!, carry)], [k0!, k1!]);
    const first = builder.scale(block, 4);
    return drawn
      .slice(0, words)
      .flatMap((word, i) => context.write([builder.offset(first, i)], word));
  };
  const whole = Math.floor(count / 4);
  const gridSize = Math.max(Math.ceil(whole / BLOCKS), 1);
  const item = builder.variable('item', 'i32', { min: 0, max: gridSize - 1 });
  const start = builder.scale(item, BLOCKS);
  const size = Math.min(BLOCKS, Math.max(whole, 1));
  const index = builder.variable('block', 'i32', { min: 0, max: size - 1 });
  const left = builder.sub(builder.constant(whole), start);
  const body: Statement[] = [
    {
      kind: 'for',
      index,
      start: builder.constant(0),
      end: builder.min(builder.constant(size), left),
      step: 1,
      body: draw(builder.add(start, index), 4),
      vector: true,
    },
  ];
  if (count % 4 > 0) {
    const isLast = builder.compare('eq', item, builder.constant(gridSize - 1));
    body.push(branch(isLast, draw(builder.constant(whole), count % 4)));
  }
  return { gridIndex: item, gridSize, body };
}

const randomBitsOp = defineOp({
  name: 'randomBits',
  summary: 'random uint32 words: element i is word i % 4 of Philox block offset + floor(i / 4)',
  attrs: { count: 'int' },
  infer: (inputs, { count }) => {
    for (const input of inputs) {
      if (input.dtype !== 'uint32') {
        throw new DTypeError(`seed and offset are uint32, not ${input.dtype}`, {
          op: 'randomBits',
        });
      }
      if (input.shape.length > 0) {
        throw new ShapeError('seed and offset are scalars', { op: 'randomBits' });
      }
    }
    return { shape: [count], dtype: 'uint32' };
  },
  gradient: { nonDifferentiable: 'random bits depend on nothing but their seed' },
  lower: {
    kind: 'custom',
    evaluations: () => [1, 1, 1, 1],
    lower: (context, { count }) => lowerRandomBits(context, count),
  },
  reference: (inputs, _attrs, output) => {
    const [seedLow, seedHigh, low, high] = inputs.map(({ data }) => data[0]!);
    const offset = low! + high! * 4294967296;
    return Float64Array.from(philoxBits(seedLow!, seedHigh!, offset, sizeOf(output.shape)));
  },
  samples: () => {
    const sample = (count: number, words: readonly number[]) => ({
      inputs: words.map((value) => tensorOf([], [value], 'uint32')),
      attrs: { count },
    });
    return [
      sample(9, [0, 0, 0, 0]),
      sample(15, [123456789, 987, 5, 0]),
      sample(1, [1, 2, 3, 0]),
      sample(0, [1, 2, 3, 0]),
      sample(12, [4294967295, 4294967295, 4294967294, 0]),
      sample(4, [7, 0, 1, 2]),
      sample(4999, [7, 0, 1, 2]),
    ];
  },
});

/** Scalars of dtype uint32 that name a place in a random stream. */
export interface RandomSource {
  readonly seedLow: Node;
  readonly seedHigh: Node;
  /** Number of the first block, in two words. */
  readonly offsetLow: Node;
  readonly offsetHigh: Node;
}

/** Random uint32 words; `source` are scalars, so that drawing on never recompiles. */
export function randomBits(shape: Shape, source: RandomSource): Node {
  checkShape('randomBits', shape);
  const { seedLow, seedHigh, offsetLow, offsetHigh } = source;
  const inputs = [seedLow, seedHigh, offsetLow, offsetHigh];
  return reshape(makeNode(randomBitsOp, inputs, { count: sizeOf(shape) }), shape);
}
