// Bitwise and logical operations on integers and bool.
import type { DType } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { makeNode, NO_ATTRS, type Sample } from '../op.ts';
import { defineBinary, integersOnly } from './arithmetic.ts';
import { notEqual } from './compare.ts';
import { constant } from './creation.ts';
import { constantLike, narrow } from './emit.ts';
import { randomTensor } from './samples.ts';

const INTEGER = { nonDifferentiable: 'integers have no derivative' } as const;
const DTYPES: readonly DType[] = ['int8', 'uint8', 'int16', 'int32', 'uint32'];

function integerSamples(dtypes: readonly DType[], right: { low?: number; high?: number } = {}) {
  const pair = (a: readonly number[], b: readonly number[], dtype: DType): Sample => ({
    inputs: [randomTensor(a, { dtype }), randomTensor(b, { dtype, seed: 9, ...right })],
    attrs: {},
    skipGradient: 'integers',
  });
  return [
    ...dtypes.map((dtype) => pair([3, 5], [5], dtype)),
    pair([], [], 'int32'),
    pair([0], [1], 'int32'),
    pair([4, 1], [1, 3], 'int32'),
  ];
}

function defineBitwise(
  name: string,
  operation: 'and' | 'or' | 'xor',
  apply: (a: number, b: number) => number,
) {
  return defineBinary({
    name,
    summary: `bit by bit ${operation}; of bools: logical`,
    check: integersOnly(name),
    emit: (builder, a, b, dtype) => {
      if (dtype === 'bool' && operation === 'xor') {
        return builder.compare('ne', builder.convert(a, 'i32'), builder.convert(b, 'i32'));
      }
      return builder.binary(operation, a, b);
    },
    apply,
    gradient: INTEGER,
    samples: () => integerSamples([...DTYPES, 'bool']),
  });
}

const andOp = defineBitwise('bitwiseAnd', 'and', (a, b) => a & b);
const orOp = defineBitwise('bitwiseOr', 'or', (a, b) => a | b);
const xorOp = defineBitwise('bitwiseXor', 'xor', (a, b) => a ^ b);

/** A shift by 32 bits or more leaves nothing but the sign. */
function emitShift(
  builder: Builder,
  operation: 'shl' | 'shr',
  a: Expression,
  b: Expression,
  dtype: DType,
): Expression {
  const amount = builder.and(b, constantLike(builder, b, 31));
  const shifted = narrow(builder, builder.binary(operation, a, amount), dtype);
  const zero = constantLike(builder, a, 0);
  const signed = operation === 'shr' && a.type === 'i32';
  const emptied = signed ? builder.binary('shr', a, constantLike(builder, a, 31)) : zero;
  let tooFar = builder.compare('gt', b, constantLike(builder, b, 31));
  if (b.type === 'i32') tooFar = builder.or(tooFar, builder.compare('lt', b, zero));
  return builder.select(tooFar, emptied, shifted);
}

function defineShift(name: 'shiftLeft' | 'shiftRight') {
  const left = name === 'shiftLeft';
  return defineBinary({
    name,
    summary: left ? 'a * 2^b, bits beyond the width are lost' : 'the floor of a / 2^b',
    cost: 4,
    check: (dtype) => {
      integersOnly(name)(dtype);
      if (dtype === 'bool') throw new DTypeError('takes integers, not bool', { op: name });
    },
    emit: (builder, a, b, dtype) => emitShift(builder, left ? 'shl' : 'shr', a, b, dtype),
    apply: (a, b, dtype) => {
      const tooFar = b < 0 || b > 31;
      if (left) return tooFar ? 0 : a << b;
      if (dtype === 'uint32') return tooFar ? 0 : a >>> b;
      return tooFar ? a >> 31 : a >> b;
    },
    gradient: INTEGER,
    samples: () => [
      ...integerSamples(DTYPES, { low: 0, high: 12 }),
      ...integerSamples(['int32', 'uint32'], { low: 25, high: 40 }),
    ],
  });
}

const shiftLeftOp = defineShift('shiftLeft');
const shiftRightOp = defineShift('shiftRight');

/** Bit by bit and; of bools: logical and. */
export function bitwiseAnd(a: Node, b: Node): Node {
  return makeNode(andOp, [a, b], NO_ATTRS);
}
/** Bit by bit or; of bools: logical or. */
export function bitwiseOr(a: Node, b: Node): Node {
  return makeNode(orOp, [a, b], NO_ATTRS);
}
/** Bit by bit exclusive or. */
export function bitwiseXor(a: Node, b: Node): Node {
  return makeNode(xorOp, [a, b], NO_ATTRS);
}
/** a shifted left by b bits; 0 for b outside [0, 32). */
export function shiftLeft(a: Node, b: Node): Node {
  return makeNode(shiftLeftOp, [a, b], NO_ATTRS);
}
/** a shifted right by b bits, keeping the sign. */
export function shiftRight(a: Node, b: Node): Node {
  return makeNode(shiftRightOp, [a, b], NO_ATTRS);
}

/** Whether elements are nonzero: bool. */
export function toBool(x: Node): Node {
  return x.dtype === 'bool' ? x : notEqual(x, constant(0, x.dtype));
}
/** Both nonzero: bool. */
export function logicalAnd(a: Node, b: Node): Node {
  return bitwiseAnd(toBool(a), toBool(b));
}
/** Either nonzero: bool. */
export function logicalOr(a: Node, b: Node): Node {
  return bitwiseOr(toBool(a), toBool(b));
}
/** One of them nonzero: bool. */
export function logicalXor(a: Node, b: Node): Node {
  return bitwiseXor(toBool(a), toBool(b));
}
