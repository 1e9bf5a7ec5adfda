// Random bits as a function of key and counter (Philox4x32-10), so that recomputation repeats
// them; base/philox.ts draws the same on the host.
import { DTypeError, ShapeError } from '../../base/errors.ts';
import { philoxBits } from '../../base/philox.ts';
import { checkShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode } from '../op.ts';
import { flatten } from './emit.ts';
import { tensorOf } from './samples.ts';

/** The four words of the block at the counter (c0, c1, 0, 0) under the key (k0, k1). */
function emitPhilox(
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

const randomBitsOp = defineOp({
  name: 'randomBits',
  summary: 'random uint32 words: element i is word i % 4 of Philox block offset + floor(i / 4)',
  attrs: { shape: 'ints' },
  infer: (inputs, { shape }) => {
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
    return { shape, dtype: 'uint32' };
  },
  gradient: { nonDifferentiable: 'random bits depend on nothing but their seed' },
  lower: {
    kind: 'indexed',
    view: false,
    emit: (context, indices, { shape }) => {
      const { builder } = context;
      const [k0, k1, offsetLow, offsetHigh] = [0, 1, 2, 3].map((input) => context.read(input, []));
      const flat = flatten(builder, indices, shape);
      const block = builder.bitcast(builder.div(flat, builder.constant(4)), 'u32');
      const low = builder.add(offsetLow!, block);
      const carry = builder.convert(builder.compare('lt', low, offsetLow!), 'u32');
      const words = emitPhilox(builder, [low, builder.add(offsetHigh!, carry)], [k0!, k1!]);
      const lane = builder.rem(flat, builder.constant(4));
      return words.reduce((chosen, word, i) =>
        builder.select(builder.compare('eq', lane, builder.constant(i)), word, chosen),
      );
    },
  },
  reference: (inputs, _attrs, output) => {
    const [seedLow, seedHigh, low, high] = inputs.map(({ data }) => data[0]!);
    const offset = low! + high! * 4294967296;
    return Float64Array.from(philoxBits(seedLow!, seedHigh!, offset, sizeOf(output.shape)));
  },
  samples: () => {
    const sample = (shape: Shape, words: readonly number[]) => ({
      inputs: words.map((value) => tensorOf([], [value], 'uint32')),
      attrs: { shape },
    });
    return [
      sample([9], [0, 0, 0, 0]),
      sample([3, 5], [123456789, 987, 5, 0]),
      sample([], [1, 2, 3, 0]),
      sample([0], [1, 2, 3, 0]),
      sample([1], [1, 2, 3, 0]),
      sample([12], [4294967295, 4294967295, 4294967294, 0]),
      sample([4], [7, 0, 1, 2]),
    ];
  },
  cost: 90,
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
  return makeNode(randomBitsOp, [seedLow, seedHigh, offsetLow, offsetHigh], { shape });
}
