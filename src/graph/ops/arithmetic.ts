// Elementwise arithmetic: neg, add, sub, mul, div. Operands have one dtype and broadcast.
import { type DType, isFloat } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { broadcastShapes, sameShape, type Shape } from '../../base/shape.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import {
  defineOp,
  type GradientRule,
  makeNode,
  NO_ATTRS,
  type Sample,
  type Bounds,
} from '../op.ts';
import { constantLike, narrow } from './emit.ts';
import { broadcastReference } from './reference.ts';
import { pairSamples, unarySamples } from './samples.ts';

type NoAttrs = Readonly<Record<string, never>>;

/** Shape and dtype of an elementwise op on operands of one dtype. */
export function inferBinary(op: string, inputs: readonly Node[]): { shape: Shape; dtype: DType } {
  const left = inputs[0]!;
  const right = inputs[1]!;
  if (left.dtype !== right.dtype) {
    throw new DTypeError(`operands are ${left.dtype} and ${right.dtype}`, { op });
  }
  const shape = sameShape(left.shape, right.shape)
    ? left.shape
    : broadcastShapes(op, left.shape, right.shape);
  return { shape, dtype: left.dtype };
}

/** What a family of two-operand ops shares; `emit` sees operands of the node's dtype. */
export function defineBinary(spec: {
  readonly name: string;
  readonly summary: string;
  readonly cost?: number;
  /** Throws DTypeError for what the op does not take. */
  readonly check?: (dtype: DType) => void;
  readonly emit: (builder: Builder, a: Expression, b: Expression, dtype: DType) => Expression;
  readonly apply: (a: number, b: number, dtype: DType) => number;
  readonly gradient: GradientRule<NoAttrs>;
  readonly bounds?: (inputs: readonly (Bounds | null)[]) => Bounds | null;
  readonly samples: () => readonly Sample[];
}) {
  return defineOp({
    name: spec.name,
    summary: spec.summary,
    attrs: {},
    infer: (inputs) => {
      const inferred = inferBinary(spec.name, inputs);
      spec.check?.(inferred.dtype);
      return inferred;
    },
    gradient: spec.gradient,
    ...(spec.bounds === undefined ? {} : { bounds: spec.bounds }),
    lower: {
      kind: 'elementwise',
      emit: (builder, [a, b], _attrs, node) => spec.emit(builder, a!, b!, node.dtype),
    },
    reference: (inputs, _attrs, output) =>
      broadcastReference(inputs, output, (a, b) => spec.apply(a!, b!, output.dtype)),
    samples: () => spec.samples() as readonly Sample<NoAttrs>[],
    cost: spec.cost ?? 1,
  });
}

/** Refuses everything but floats. */
export function floatsOnly(op: string): (dtype: DType) => void {
  return (dtype) => {
    if (isFloat(dtype)) return;
    throw new DTypeError(`takes floats, not ${dtype}`, { op, hint: "cast to 'float32' first" });
  };
}

/** Refuses floats. */
export function integersOnly(op: string): (dtype: DType) => void {
  return (dtype) => {
    if (!isFloat(dtype)) return;
    throw new DTypeError(`takes integers or bool, not ${dtype}`, { op });
  };
}

/** Refuses bool. */
export function numbersOnly(op: string, hint: string): (dtype: DType) => void {
  return (dtype) => {
    if (dtype === 'bool') throw new DTypeError('takes numbers, not bool', { op, hint });
  };
}

const negOp = defineOp({
  name: 'neg',
  summary: '-x',
  attrs: {},
  infer: ([x]) => {
    numbersOnly('neg', 'use logicalNot')(x!.dtype);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  gradient: ({ grad }) => [neg(grad)],
  lower: {
    kind: 'elementwise',
    emit: (builder, [x], _attrs, { dtype }) =>
      isFloat(dtype)
        ? builder.unary('neg', x!)
        : narrow(builder, builder.sub(constantLike(builder, x!, 0), x!), dtype),
  },
  reference: (inputs, _attrs, output) => broadcastReference(inputs, output, (x) => -x!),
  samples: () =>
    unarySamples({
      dtypes: ['float64', 'float16', 'bfloat16', 'int8', 'uint8', 'int16', 'int32', 'uint32'],
      special: [0, -0, Infinity, -Infinity],
    }) as Sample<NoAttrs>[],
});

/** -x; unsigned integers wrap. */
export function neg(x: Node): Node {
  return makeNode(negOp, [x], NO_ATTRS);
}

const INTEGERS = [
  'float64',
  'float16',
  'bfloat16',
  'int8',
  'uint8',
  'int16',
  'int32',
  'uint32',
] as const;
const WIDE = { left: { low: -200, high: 200 }, right: { low: -200, high: 200 } };
const SPECIAL: readonly (readonly [number, number])[] = [
  [Infinity, -Infinity],
  [Infinity, 0],
  [NaN, 1],
  [0, -0],
  [1, 0],
  [-1, Infinity],
];

const addOp = defineBinary({
  name: 'add',
  summary: 'a + b; of bools: or',
  emit: (builder, a, b, dtype) =>
    dtype === 'bool' ? builder.or(a, b) : narrow(builder, builder.add(a, b), dtype),
  apply: (a, b) => a + b,
  gradient: ({ grad }) => [grad, grad],
  samples: () => [
    ...pairSamples({ special: SPECIAL }),
    ...pairSamples({ ...WIDE, floats: false, dtypes: [...INTEGERS, 'bool'] }),
  ],
});

const subOp = defineBinary({
  name: 'sub',
  summary: 'a - b',
  check: numbersOnly('sub', 'use notEqual for exclusive or'),
  emit: (builder, a, b, dtype) => narrow(builder, builder.sub(a, b), dtype),
  apply: (a, b) => a - b,
  gradient: ({ grad, needs }) => [grad, needs(1) ? neg(grad) : null],
  samples: () => [
    ...pairSamples({ special: SPECIAL }),
    ...pairSamples({ ...WIDE, floats: false, dtypes: INTEGERS }),
  ],
});

const mulOp = defineBinary({
  name: 'mul',
  summary: 'a * b; of bools: and',
  emit: (builder, a, b, dtype) =>
    dtype === 'bool' ? builder.and(a, b) : narrow(builder, builder.mul(a, b), dtype),
  apply: (a, b, dtype) => (isFloat(dtype) ? a * b : Math.imul(a, b)),
  gradient: ({ grad, inputs, needs }) => [
    needs(0) ? mul(grad, inputs[1]!) : null,
    needs(1) ? mul(grad, inputs[0]!) : null,
  ],
  samples: () => [
    ...pairSamples({ special: SPECIAL }),
    ...pairSamples({ ...WIDE, floats: false, dtypes: [...INTEGERS, 'bool'] }),
    ...pairSamples({
      left: { low: -2000000000, high: 2000000000 },
      right: { low: -2000000000, high: 2000000000 },
      floats: false,
      dtypes: ['int32'],
    }),
  ],
});

const divOp = defineBinary({
  name: 'div',
  summary: 'a / b, true division of floats',
  cost: 4,
  check: floatsOnly('div'),
  emit: (builder, a, b) => builder.div(a, b),
  apply: (a, b) => a / b,
  gradient: ({ grad, inputs, node, needs }) => [
    needs(0) ? div(grad, inputs[1]!) : null,
    needs(1) ? neg(div(mul(grad, node), inputs[1]!)) : null,
  ],
  samples: () =>
    pairSamples({ right: { low: 0.5, high: 3 }, dtypes: ['float64'], special: SPECIAL }),
});

/** a + b, broadcast. Bools: or. */
export function add(a: Node, b: Node): Node {
  return makeNode(addOp, [a, b], NO_ATTRS);
}
/** a - b, broadcast. */
export function sub(a: Node, b: Node): Node {
  return makeNode(subOp, [a, b], NO_ATTRS);
}
/** a * b, broadcast. Bools: and. */
export function mul(a: Node, b: Node): Node {
  return makeNode(mulOp, [a, b], NO_ATTRS);
}
/** a / b of floats, broadcast. */
export function div(a: Node, b: Node): Node {
  return makeNode(divOp, [a, b], NO_ATTRS);
}
