// Two-operand functions beyond plain arithmetic: extremes, integer division, powers, angles, clamp.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { broadcastShapes } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS, type Sample, type Bounds } from '../op.ts';
import { add, defineBinary, div, floatsOnly, mul, neg, numbersOnly, sub } from './arithmetic.ts';
import { equal, greater, greaterEqual, less, lessEqual, select } from './compare.ts';
import { constant, zerosLike } from './creation.ts';
import { constantLike, narrow } from './emit.ts';
import { log } from './math.ts';
import { broadcastReference } from './reference.ts';
import { pairSamples, randomTensor, tensorOf } from './samples.ts';
import { square, trunc } from './unary.ts';

const INTEGERS: readonly DType[] = ['int8', 'uint8', 'int16', 'int32', 'uint32'];
const SPECIAL: readonly (readonly [number, number])[] = [
  [Infinity, -Infinity],
  [Infinity, 2],
  [-Infinity, 2],
  [NaN, 1],
  [1, NaN],
  [0, 0],
  [5, 0],
  [-5, 0],
  [7, Infinity],
  [-7, Infinity],
  [7, -Infinity],
];

// ---- extremes ---------------------------------------------------------------------------------

function defineExtreme(name: 'minimum' | 'maximum') {
  const operation = name === 'minimum' ? 'min' : 'max';
  const loses = name === 'minimum' ? greater : less;
  return defineBinary({
    name,
    summary: `the ${name === 'minimum' ? 'smaller' : 'larger'} of a and b; NaN wins`,
    emit: (builder, a, b, dtype) =>
      dtype === 'bool'
        ? builder.binary(name === 'minimum' ? 'and' : 'or', a, b)
        : builder.binary(operation, a, b),
    apply: (a, b) => (name === 'minimum' ? Math.min(a, b) : Math.max(a, b)),
    bounds: ([a, b]) => extremeBounds(name, a!, b!),
    gradient: ({ grad, inputs, needs }) => {
      const [a, b] = inputs as readonly [Node, Node];
      const zero = constant(0, grad.dtype);
      // Of a tie each gets half.
      const shared = select(equal(a, b), mul(grad, constant(0.5, grad.dtype)), grad);
      return [
        needs(0) ? select(loses(a, b), zero, shared) : null,
        needs(1) ? select(loses(b, a), zero, shared) : null,
      ];
    },
    samples: () =>
      pairSamples({
        dtypes: ['float64', 'float16', ...INTEGERS, 'bool'],
        special: [...SPECIAL, [1, 1], [Infinity, Infinity]],
      }),
  });
}

/** One known operand bounds one side. */
function extremeBounds(
  name: 'minimum' | 'maximum',
  a: Bounds | null,
  b: Bounds | null,
): Bounds | null {
  const pick = name === 'minimum' ? Math.min : Math.max;
  const known = a ?? b;
  if (known === null) return null;
  if (a !== null && b !== null) return { min: pick(a.min, b.min), max: pick(a.max, b.max) };
  return name === 'minimum'
    ? { min: -Infinity, max: known.max }
    : { min: known.min, max: Infinity };
}

const minimumOp = defineExtreme('minimum');
const maximumOp = defineExtreme('maximum');

/** The smaller of a and b; NaN wins; a tie gives each half of the gradient. */
export function minimum(a: Node, b: Node): Node {
  return makeNode(minimumOp, [a, b], NO_ATTRS);
}
/** The larger of a and b; NaN wins; a tie gives each half of the gradient. */
export function maximum(a: Node, b: Node): Node {
  return makeNode(maximumOp, [a, b], NO_ATTRS);
}

const clampOp = defineOp({
  name: 'clamp',
  summary: 'min(max(x, low), high); NaN stays',
  attrs: {},
  infer: ([x, low, high]) => {
    numbersOnly('clamp', 'cast first')(x!.dtype);
    if (low!.dtype !== x!.dtype || high!.dtype !== x!.dtype) {
      throw new DTypeError(`operands are ${x!.dtype}, ${low!.dtype} and ${high!.dtype}`, {
        op: 'clamp',
      });
    }
    const shape = broadcastShapes('clamp', x!.shape, low!.shape, high!.shape);
    return { shape, dtype: x!.dtype };
  },
  gradient: ({ grad, inputs, needs }) => {
    const [x, low, high] = inputs as readonly [Node, Node, Node];
    const zero = constant(0, grad.dtype);
    const above = select(greaterEqual(x, low), grad, zero);
    const below = select(less(x, low), grad, zero);
    return [
      needs(0) ? select(lessEqual(x, high), above, zero) : null,
      needs(1) ? select(less(low, high), below, zero) : null,
      needs(2) ? select(greater(x, high), grad, select(less(high, low), grad, zero)) : null,
    ];
  },
  lower: {
    kind: 'elementwise',
    emit: (builder, [x, low, high]) => builder.min(builder.max(x!, low!), high!),
  },
  bounds: ([x, low, high]) => extremeBounds('minimum', extremeBounds('maximum', x!, low!), high!),
  reference: (inputs, _attrs, output) =>
    broadcastReference(inputs, output, (x, low, high) => Math.min(Math.max(x!, low!), high!)),
  samples: () => {
    const three = (dtype: DType): Sample<Record<string, never>> => ({
      inputs: [
        randomTensor([4, 5], { dtype }),
        randomTensor([5], { dtype, seed: 2, high: -0.5 }),
        randomTensor([], { dtype, seed: 3, low: 0.5 }),
      ],
      attrs: {},
    });
    const values = [NaN, Infinity, -Infinity, 1, -1, 0];
    return [
      three('float32'),
      three('float64'),
      { ...three('int32'), skipGradient: 'integers' },
      {
        inputs: [randomTensor([0]), tensorOf([1], [-1]), tensorOf([], [1])],
        attrs: {},
      },
      {
        inputs: [tensorOf([6], values), tensorOf([], [-1]), tensorOf([], [1])],
        attrs: {},
        skipGradient: 'special values and bounds',
      },
      {
        inputs: [randomTensor([7]), tensorOf([], [1]), tensorOf([], [-1])],
        attrs: {},
      },
    ];
  },
  cost: 2,
});

/** min(max(x, low), high), broadcast; gradient as PyTorch's: it passes where low ≤ x ≤ high. */
export function clamp(x: Node, low: Node, high: Node): Node {
  return makeNode(clampOp, [x, low, high], NO_ATTRS);
}

// ---- integer division -------------------------------------------------------------------------

/** Quotient and rest toward zero that never trap: by 0 both are 0, the smallest int by -1 wraps. */
function divideToZero(
  builder: Builder,
  a: Expression,
  b: Expression,
): { quotient: Expression; rest: Expression } {
  const zero = constantLike(builder, a, 0);
  const one = constantLike(builder, a, 1);
  const byZero = builder.compare('eq', b, zero);
  if (a.type === 'u32') {
    const safe = builder.select(byZero, one, b);
    return {
      quotient: builder.select(byZero, zero, builder.div(a, safe)),
      rest: builder.select(byZero, zero, builder.rem(a, safe)),
    };
  }
  const byMinusOne = builder.compare('eq', b, constantLike(builder, a, -1));
  const safe = builder.select(builder.or(byZero, byMinusOne), one, b);
  const plain = builder.select(byZero, zero, builder.div(a, safe));
  return {
    quotient: builder.select(byMinusOne, builder.sub(zero, a), plain),
    rest: builder.rem(a, safe),
  };
}

/** Whether a nonzero rest has another sign than the divisor. */
function signsDiffer(builder: Builder, rest: Expression, b: Expression): Expression {
  const zero = constantLike(builder, b, 0);
  const nonzero = builder.compare('ne', rest, zero);
  const negativeB = builder.compare('lt', b, zero);
  const negativeRest = builder.compare('lt', rest, zero);
  const either = builder.or(negativeB, negativeRest);
  const both = builder.and(negativeB, negativeRest);
  return builder.and(nonzero, builder.and(either, builder.unary('not', both)));
}

function emitFloorDivide(builder: Builder, a: Expression, b: Expression, dtype: DType): Expression {
  const one = constantLike(builder, a, 1);
  if (!isFloat(dtype)) {
    const { quotient, rest } = divideToZero(builder, a, b);
    if (a.type === 'u32') return quotient;
    const lower = builder.select(
      signsDiffer(builder, rest, b),
      builder.sub(quotient, one),
      quotient,
    );
    return narrow(builder, lower, dtype);
  }
  // From the exact remainder: floor(a / b) alone is off by one where the quotient rounds up.
  const rest = builder.binary('fmod', a, b);
  const plain = builder.div(builder.sub(a, rest), b);
  const exact = builder.select(signsDiffer(builder, rest, b), builder.sub(plain, one), plain);
  const floor = builder.unary('floor', exact);
  const half = constantLike(builder, a, 0.5);
  const short = builder.compare('gt', builder.sub(exact, floor), half);
  const result = builder.select(short, builder.add(floor, one), floor);
  const byZero = builder.compare('eq', b, constantLike(builder, b, 0));
  return builder.select(byZero, builder.div(a, b), result);
}

function floorDivideReference(a: number, b: number, dtype: DType): number {
  if (!isFloat(dtype)) return b === 0 ? 0 : Math.floor(a / b);
  if (b === 0) return a / b;
  const rest = a % b;
  const exact = (a - rest) / b - (rest !== 0 && rest < 0 !== b < 0 ? 1 : 0);
  return Math.round(exact);
}

const DIVISION = {
  left: { low: -9, high: 9 },
  right: { low: 0.6, high: 4 },
  dtypes: ['float64', ...INTEGERS] as readonly DType[],
  special: [...SPECIAL, [7, 2], [-7, 2], [7, -2], [-7, -2], [1, 0.1], [6, 3], [-6, 3]] as const,
};

const byZeroSamples = (): Sample[] => [
  {
    inputs: [
      tensorOf([6], [7, -7, 0, -2147483648, -2147483648, 5], 'int32'),
      tensorOf([6], [0, 0, 0, -1, 3, -3], 'int32'),
    ],
    attrs: {},
    skipGradient: 'integers',
  },
  {
    inputs: [tensorOf([2], [-128, 9], 'int8'), tensorOf([2], [-1, -4], 'int8')],
    attrs: {},
    skipGradient: 'integers',
  },
];

const floorDivideOp = defineBinary({
  name: 'floorDivide',
  summary: 'the floor of a / b; integers by 0 give 0',
  cost: 12,
  check: numbersOnly('floorDivide', 'cast first'),
  emit: emitFloorDivide,
  apply: floorDivideReference,
  gradient: ({ grad }) => [zerosLike(grad), zerosLike(grad)],
  samples: () => [...pairSamples({ ...DIVISION, skipGradient: 'a step' }), ...byZeroSamples()],
});

const remainderOp = defineBinary({
  name: 'remainder',
  summary: 'a - b * floor(a / b): the sign of b; integers by 0 give 0',
  cost: 12,
  check: numbersOnly('remainder', 'cast first'),
  emit: (builder, a, b, dtype) => {
    const float = isFloat(dtype);
    const rest = float ? builder.binary('fmod', a, b) : divideToZero(builder, a, b).rest;
    if (a.type === 'u32') return rest;
    const moved = builder.add(rest, b);
    return narrow(builder, builder.select(signsDiffer(builder, rest, b), moved, rest), dtype);
  },
  apply: (a, b, dtype) => {
    if (!isFloat(dtype) && b === 0) return 0;
    const rest = a % b;
    return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
  },
  gradient: ({ grad, inputs, needs }) => [
    grad,
    needs(1) ? neg(mul(grad, floorDivide(inputs[0]!, inputs[1]!))) : null,
  ],
  samples: () => [...pairSamples(DIVISION), ...byZeroSamples()],
});

const fmodOp = defineBinary({
  name: 'fmod',
  summary: 'a - b * trunc(a / b): the sign of a; integers by 0 give 0',
  cost: 12,
  check: numbersOnly('fmod', 'cast first'),
  emit: (builder, a, b, dtype) =>
    isFloat(dtype) ? builder.binary('fmod', a, b) : divideToZero(builder, a, b).rest,
  apply: (a, b, dtype) => (!isFloat(dtype) && b === 0 ? 0 : a % b),
  gradient: ({ grad, inputs, needs }) => [
    grad,
    needs(1) ? neg(mul(grad, trunc(div(inputs[0]!, inputs[1]!)))) : null,
  ],
  samples: () => [...pairSamples(DIVISION), ...byZeroSamples()],
});

const truncDivideOp = defineBinary({
  name: 'truncDivide',
  summary: 'a / b without its fraction; integers by 0 give 0',
  cost: 8,
  check: numbersOnly('truncDivide', 'cast first'),
  emit: (builder, a, b, dtype) =>
    isFloat(dtype)
      ? builder.unary('trunc', builder.div(a, b))
      : narrow(builder, divideToZero(builder, a, b).quotient, dtype),
  apply: (a, b, dtype) => (!isFloat(dtype) && b === 0 ? 0 : Math.trunc(a / b)),
  gradient: ({ grad }) => [zerosLike(grad), zerosLike(grad)],
  // 1 / 0.1 is a whole number in float32 alone.
  samples: () => [
    ...pairSamples({ ...DIVISION, special: SPECIAL, skipGradient: 'a step' }),
    ...byZeroSamples(),
  ],
});

/** The floor of a / b. Integers divided by 0 give 0. */
export function floorDivide(a: Node, b: Node): Node {
  return makeNode(floorDivideOp, [a, b], NO_ATTRS);
}
/** a / b without its fraction. Integers divided by 0 give 0. */
export function truncDivide(a: Node, b: Node): Node {
  return makeNode(truncDivideOp, [a, b], NO_ATTRS);
}
/** The rest of floorDivide: it has the sign of b (PyTorch's and Python's %). */
export function remainder(a: Node, b: Node): Node {
  return makeNode(remainderOp, [a, b], NO_ATTRS);
}
/** The rest of truncDivide: it has the sign of a (C's fmod). */
export function fmod(a: Node, b: Node): Node {
  return makeNode(fmodOp, [a, b], NO_ATTRS);
}

// ---- powers and angles ------------------------------------------------------------------------

/** Integer powers by repeated squaring; a negative exponent gives the truncated quotient. */
function emitIntegerPower(
  builder: Builder,
  a: Expression,
  b: Expression,
  dtype: DType,
): Expression {
  const number = (value: number): Expression => constantLike(builder, a, value);
  let result = number(1);
  let power = a;
  const bits = dtype === 'int8' || dtype === 'uint8' ? 8 : dtype === 'int16' ? 15 : 31;
  for (let bit = 0; bit < bits; bit++) {
    // The bit stands at the sign's place, so that no mask exceeds an i32.
    const isSet = builder.compare('ne', builder.and(b, number(2 ** bit)), number(0));
    result = builder.select(isSet, narrow(builder, builder.mul(result, power), dtype), result);
    power = narrow(builder, builder.mul(power, power), dtype);
  }
  if (a.type === 'u32') return result;
  const odd = builder.compare('ne', builder.and(b, number(1)), number(0));
  const ofMinusOne = builder.select(odd, number(-1), number(1));
  const inverse = builder.select(
    builder.compare('eq', a, number(1)),
    number(1),
    builder.select(builder.compare('eq', a, number(-1)), ofMinusOne, number(0)),
  );
  return builder.select(builder.compare('lt', b, number(0)), inverse, result);
}

function integerPowerReference(a: number, b: number): number {
  if (b < 0) return Math.trunc(a ** b === Infinity ? 0 : a ** b);
  let result = 1;
  for (let i = 0; i < b; i++) result = Math.imul(result, a);
  return result;
}

const powOp = defineBinary({
  name: 'pow',
  summary: 'a to the power b',
  cost: 40,
  check: numbersOnly('pow', 'cast first'),
  emit: (builder, a, b, dtype) =>
    isFloat(dtype) ? builder.binary('pow', a, b) : emitIntegerPower(builder, a, b, dtype),
  apply: (a, b, dtype) => {
    if (!isFloat(dtype)) return integerPowerReference(a, b);
    // C's pow says 1 where JavaScript says NaN.
    return a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b;
  },
  gradient: ({ grad, inputs, node, needs }) => {
    const [a, b] = inputs as readonly [Node, Node];
    const zero = constant(0, grad.dtype);
    const byBase = (): Node => {
      const lower = sub(b, constant(1, b.dtype));
      return select(equal(b, zero), zero, mul(grad, mul(b, pow(a, lower))));
    };
    const byExponent = (): Node => {
      // 0^b is flat for b >= 0, where its logarithm is infinite.
      const one = constant(1, a.dtype);
      const flat = select(equal(a, zero), greaterEqual(b, zero), equal(one, zero));
      const base = select(flat, one, a);
      return select(flat, zero, mul(grad, mul(node, log(base))));
    };
    return [needs(0) ? byBase() : null, needs(1) ? byExponent() : null];
  },
  samples: () => [
    ...pairSamples({
      left: { low: 0.2, high: 3 },
      dtypes: ['float64'],
      special: [
        [2, 3],
        [-2, 3],
        [-2, 2],
        [-2, 0.5],
        [0, 0],
        [0, 2],
        [0, -1],
        [-0, -1],
        [1, NaN],
        [NaN, 0],
        [1, Infinity],
        [-1, Infinity],
        [0.5, Infinity],
        [2, -Infinity],
        [Infinity, 0.5],
        [-Infinity, 3],
        [-Infinity, -2],
        [1e10, 3],
        [10, 38],
      ],
    }),
    ...pairSamples({
      floats: false,
      left: { low: -5, high: 6 },
      right: { low: 0, high: 9 },
      dtypes: ['int32', 'int8', 'int16'],
    }),
    {
      inputs: [
        tensorOf([7], [0, 1, -1, -1, 2, 3, 0], 'int32'),
        tensorOf([7], [-1, -5, -3, -2, -1, 40, 0], 'int32'),
      ],
      attrs: {},
      skipGradient: 'integers',
    },
    {
      inputs: [tensorOf([3], [3, 2, 7], 'uint32'), tensorOf([3], [20, 31, 5], 'uint32')],
      attrs: {},
      skipGradient: 'integers',
    },
  ],
});

/** a to the power b. Integers: a negative exponent gives 0, unless |a| is 1. */
export function pow(a: Node, b: Node): Node {
  return makeNode(powOp, [a, b], NO_ATTRS);
}

const atan2Op = defineBinary({
  name: 'atan2',
  summary: 'the angle of the point (b, a), in [-π, π]',
  cost: 30,
  check: floatsOnly('atan2'),
  emit: (builder, a, b) => builder.binary('atan2', a, b),
  apply: Math.atan2,
  gradient: ({ grad, inputs, needs }) => {
    const [y, x] = inputs as readonly [Node, Node];
    const scaled = div(grad, add(square(x), square(y)));
    return [needs(0) ? mul(scaled, x) : null, needs(1) ? neg(mul(scaled, y)) : null];
  },
  samples: () => [
    ...pairSamples({
      right: { low: 0.3, high: 2 },
      dtypes: ['float64'],
      special: [
        [0, 1],
        [0, -1],
        [-0, -1],
        [-0, 1],
        [0, 0],
        [0, -0],
        [1, 0],
        [-1, 0],
        [-1, -1],
        [1, -2],
        [Infinity, 1],
        [Infinity, Infinity],
        [-Infinity, -Infinity],
        [1, -Infinity],
        [1, Infinity],
        [NaN, 1],
      ],
    }),
    ...pairSamples({
      floats: false,
      right: { low: -2, high: -0.3 },
      dtypes: ['float64', 'float32'],
    }),
  ],
});

/** The angle of the point (x, y) = (b, a), in [-π, π]. */
export function atan2(a: Node, b: Node): Node {
  return makeNode(atan2Op, [a, b], NO_ATTRS);
}
