// Functions of one operand that every target computes exactly, or nearly for free.
import { type DType, isFloat } from '../../base/dtype.ts';
import type { Builder } from '../../ir/builder.ts';
import type { Expression } from '../../ir/expression.ts';
import { roundHalfEven } from '../../ir/fold.ts';
import type { Node } from '../node.ts';
import { defineOp, type GradientContext, makeNode, NO_ATTRS, type Sample } from '../op.ts';
import { div, floatsOnly, integersOnly, mul, neg } from './arithmetic.ts';
import { greater, select } from './compare.ts';
import { constant, zerosLike } from './creation.ts';
import { constantLike, narrow } from './emit.ts';
import { broadcastReference } from './reference.ts';
import { randomTensor, unarySamples } from './samples.ts';

type NoAttrs = Readonly<Record<string, never>>;

const ALL: readonly DType[] = ['float64', 'float16', 'bfloat16', 'int8', 'int16', 'int32', 'uint8'];

/** Defines a function of one operand; without `check` it takes floats only. */
export function defineUnary(spec: {
  readonly name: string;
  readonly summary: string;
  readonly cost?: number;
  readonly check?: (dtype: DType) => void;
  readonly resultDType?: DType;
  readonly emit: (builder: Builder, x: Expression, dtype: DType) => Expression;
  readonly apply: (x: number) => number;
  readonly gradient:
    | ((grad: Node, x: Node, y: Node, context: GradientContext<NoAttrs>) => Node | null)
    | { readonly nonDifferentiable: string };
  readonly samples: () => readonly Sample[];
}) {
  const { gradient } = spec;
  return defineOp({
    name: spec.name,
    summary: spec.summary,
    attrs: {},
    infer: ([x]) => {
      (spec.check ?? floatsOnly(spec.name))(x!.dtype);
      return { shape: x!.shape, dtype: spec.resultDType ?? x!.dtype };
    },
    gradient:
      typeof gradient === 'function'
        ? (context) => [gradient(context.grad, context.inputs[0]!, context.node, context)]
        : gradient,
    lower: {
      kind: 'elementwise',
      emit: (builder, [x], _attrs, node) => spec.emit(builder, x!, node.inputs[0]!.dtype),
    },
    reference: (inputs, _attrs, output) =>
      broadcastReference(inputs, output, (x) => spec.apply(x!)),
    samples: () => spec.samples() as readonly Sample<NoAttrs>[],
    cost: spec.cost ?? 1,
  });
}

const anything = (): void => undefined;
const INFINITE = [0, -0, Infinity, -Infinity];

const absOp = defineUnary({
  name: 'abs',
  summary: '|x|',
  check: anything,
  emit: (builder, x, dtype) => {
    if (isFloat(dtype)) return builder.unary('abs', x);
    if (x.type !== 'i32') return x;
    const zero = constantLike(builder, x, 0);
    const negative = builder.compare('lt', x, zero);
    return narrow(builder, builder.select(negative, builder.sub(zero, x), x), dtype);
  },
  apply: Math.abs,
  gradient: (grad, x) => mul(grad, sign(x)),
  samples: () => [
    ...unarySamples({ dtypes: ALL, special: INFINITE }),
    ...unarySamples({ dtypes: ['uint32', 'bool'], low: 0 }),
  ],
});

const signOp = defineUnary({
  name: 'sign',
  summary: '-1, 0 or 1; NaN gives 0, as in PyTorch',
  check: anything,
  emit: (builder, x, dtype) => {
    if (dtype === 'bool') return x;
    const zero = constantLike(builder, x, 0);
    const one = constantLike(builder, x, 1);
    const up = builder.select(builder.compare('gt', x, zero), one, zero);
    if (x.type === 'u32') return up;
    return builder.select(builder.compare('lt', x, zero), constantLike(builder, x, -1), up);
  },
  apply: (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
  gradient: (grad) => zerosLike(grad),
  samples: () => [
    ...unarySamples({ dtypes: ALL, special: INFINITE }),
    ...unarySamples({ dtypes: ['uint32', 'bool'], low: 0 }),
  ],
});

const sqrtOp = defineUnary({
  name: 'sqrt',
  summary: '√x',
  cost: 4,
  emit: (builder, x) => builder.unary('sqrt', x),
  apply: Math.sqrt,
  gradient: (grad, _x, y) => div(grad, mul(y, constant(2, y.dtype))),
  samples: () => unarySamples({ low: 0.1, high: 9, special: [...INFINITE, -1] }),
});

const rsqrtOp = defineUnary({
  name: 'rsqrt',
  summary: '1 / √x',
  cost: 8,
  emit: (builder, x) => builder.div(constantLike(builder, x, 1), builder.unary('sqrt', x)),
  apply: (x) => 1 / Math.sqrt(x),
  gradient: (grad, _x, y) => mul(mul(grad, constant(-0.5, y.dtype)), mul(y, mul(y, y))),
  samples: () => unarySamples({ low: 0.1, high: 9, special: [...INFINITE, -1] }),
});

const reciprocalOp = defineUnary({
  name: 'reciprocal',
  summary: '1 / x',
  cost: 4,
  emit: (builder, x) => builder.div(constantLike(builder, x, 1), x),
  apply: (x) => 1 / x,
  gradient: (grad, _x, y) => neg(mul(grad, mul(y, y))),
  samples: () => unarySamples({ low: 0.3, high: 4, special: INFINITE }),
});

const reluOp = defineUnary({
  name: 'relu',
  summary: 'max(x, 0), with gradient 0 at 0',
  check: anything,
  emit: (builder, x) => (x.type === 'bool' ? x : builder.max(x, constantLike(builder, x, 0))),
  apply: (x) => (Number.isNaN(x) ? NaN : Math.max(x, 0)),
  gradient: (grad, _x, y) => {
    const zero = constant(0, y.dtype);
    return select(greater(y, zero), grad, zero);
  },
  samples: () =>
    unarySamples({ dtypes: ['float64', 'float16', 'int32', 'int8'], special: INFINITE }),
});

/** A step function: its derivative is zero wherever it has one. */
function defineStep(
  name: 'floor' | 'ceil' | 'trunc' | 'round',
  summary: string,
  apply: (x: number) => number,
) {
  return defineUnary({
    name,
    summary,
    cost: 2,
    check: anything,
    emit: (builder, x, dtype) => (isFloat(dtype) ? builder.unary(name, x) : x),
    apply,
    gradient: (grad) => zerosLike(grad),
    samples: () =>
      unarySamples({
        low: -5,
        high: 5,
        dtypes: ['float64', 'float16', 'int32'],
        special: [...INFINITE, 0.5, 1.5, 2.5, -0.5, -1.5, -0.2, 8388607.5, 1e10, -3e9],
        skipGradient: 'a step',
      }),
  });
}

const floorOp = defineStep('floor', 'the largest integer not above x', Math.floor);
const ceilOp = defineStep('ceil', 'the smallest integer not below x', Math.ceil);
const truncOp = defineStep('trunc', 'x without its fraction', Math.trunc);
const roundOp = defineStep('round', 'the nearest integer, ties to even', (x) =>
  Number.isFinite(x) ? roundHalfEven(x) : x,
);

const logicalNotOp = defineUnary({
  name: 'logicalNot',
  summary: 'true where x is zero',
  check: anything,
  resultDType: 'bool',
  emit: (builder, x) =>
    x.type === 'bool'
      ? builder.unary('not', x)
      : builder.compare('eq', x, constantLike(builder, x, 0)),
  apply: (x) => (x === 0 ? 1 : 0),
  gradient: { nonDifferentiable: 'the result is bool' },
  samples: () =>
    unarySamples({ dtypes: ['bool', 'int32', 'uint32'], special: INFINITE, skipGradient: 'bool' }),
});

const bitwiseNotOp = defineOp({
  name: 'bitwiseNot',
  summary: 'all bits flipped; of bool: not',
  attrs: {},
  infer: ([x]) => {
    integersOnly('bitwiseNot')(x!.dtype);
    return { shape: x!.shape, dtype: x!.dtype };
  },
  gradient: { nonDifferentiable: 'integers have no derivative' },
  lower: {
    kind: 'elementwise',
    emit: (builder, [x], _attrs, { dtype }) => narrow(builder, builder.unary('not', x!), dtype),
  },
  reference: (inputs, _attrs, output) =>
    broadcastReference(inputs, output, (x) => (output.dtype === 'bool' ? 1 - x! : ~x!)),
  samples: () => [
    ...(['int8', 'uint8', 'int16', 'int32', 'uint32', 'bool'] as const).map((dtype) => ({
      inputs: [randomTensor([3, 5], { dtype })],
      attrs: {},
    })),
    ...[[], [0], [1]].map((shape) => ({
      inputs: [randomTensor(shape, { dtype: 'int32' })],
      attrs: {},
    })),
  ],
});

/** -1, 0 or 1. */
export function sign(x: Node): Node {
  return makeNode(signOp, [x], NO_ATTRS);
}
/** |x|. */
export function abs(x: Node): Node {
  return makeNode(absOp, [x], NO_ATTRS);
}
/** √x. */
export function sqrt(x: Node): Node {
  return makeNode(sqrtOp, [x], NO_ATTRS);
}
/** 1 / √x. */
export function rsqrt(x: Node): Node {
  return makeNode(rsqrtOp, [x], NO_ATTRS);
}
/** 1 / x. */
export function reciprocal(x: Node): Node {
  return makeNode(reciprocalOp, [x], NO_ATTRS);
}
/** x * x. */
export function square(x: Node): Node {
  return mul(x, x);
}
/** max(x, 0); its gradient at 0 is 0. */
export function relu(x: Node): Node {
  return makeNode(reluOp, [x], NO_ATTRS);
}
/** The largest integer not above x. */
export function floor(x: Node): Node {
  return makeNode(floorOp, [x], NO_ATTRS);
}
/** The smallest integer not below x. */
export function ceil(x: Node): Node {
  return makeNode(ceilOp, [x], NO_ATTRS);
}
/** x without its fraction. */
export function trunc(x: Node): Node {
  return makeNode(truncOp, [x], NO_ATTRS);
}
/** The nearest integer, ties to even. */
export function round(x: Node): Node {
  return makeNode(roundOp, [x], NO_ATTRS);
}
/** True where x is zero. */
export function logicalNot(x: Node): Node {
  return makeNode(logicalNotOp, [x], NO_ATTRS);
}
/** All bits flipped; of bool: not. */
export function bitwiseNot(x: Node): Node {
  return makeNode(bitwiseNotOp, [x], NO_ATTRS);
}
