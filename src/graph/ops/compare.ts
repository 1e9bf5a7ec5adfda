// Comparisons, choice between two values, and what is told from a value's class.
import { isFloat } from '../../base/dtype.ts';
import { DTypeError } from '../../base/errors.ts';
import { broadcastShapes, sameShape } from '../../base/shape.ts';
import type { CompareOp } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, NO_ATTRS, type Sample, unionOf } from '../op.ts';
import { constant } from './creation.ts';
import { broadcastReference } from './reference.ts';
import { pairSamples, randomTensor, tensorOf } from './samples.ts';

const BOOLEAN = { nonDifferentiable: 'a comparison is a step' } as const;

function compareOp(
  name: string,
  summary: string,
  operation: CompareOp,
  holds: (a: number, b: number) => boolean,
) {
  return defineOp({
    name,
    summary,
    attrs: {},
    infer: ([a, b]) => {
      if (a!.dtype !== b!.dtype) {
        throw new DTypeError(`operands are ${a!.dtype} and ${b!.dtype}`, { op: name });
      }
      const shape = sameShape(a!.shape, b!.shape)
        ? a!.shape
        : broadcastShapes(name, a!.shape, b!.shape);
      return { shape, dtype: 'bool' };
    },
    gradient: BOOLEAN,
    lower: {
      kind: 'elementwise',
      emit: (builder, [a, b]) =>
        a!.type === 'bool'
          ? builder.compare(operation, builder.convert(a!, 'i32'), builder.convert(b!, 'i32'))
          : builder.compare(operation, a!, b!),
    },
    reference: (inputs, _attrs, output) =>
      broadcastReference(inputs, output, (a, b) => (holds(a!, b!) ? 1 : 0)),
    samples: (): Sample<Record<string, never>>[] =>
      pairSamples({
        left: { low: -3, high: 3 },
        right: { low: -3, high: 3 },
        dtypes: ['float64', 'int32', 'uint32', 'int8', 'bool', 'float16'],
        special: [
          [1, 1],
          [0, -0],
          [NaN, 1],
          [NaN, NaN],
          [Infinity, Infinity],
          [-Infinity, 3],
        ],
        skipGradient: 'a step',
      }) as Sample<Record<string, never>>[],
  });
}

const eqOp = compareOp('equal', 'a = b', 'eq', (a, b) => a === b);
const neOp = compareOp('notEqual', 'a ≠ b', 'ne', (a, b) => a !== b);
const ltOp = compareOp('less', 'a < b', 'lt', (a, b) => a < b);
const leOp = compareOp('lessEqual', 'a ≤ b', 'le', (a, b) => a <= b);
const gtOp = compareOp('greater', 'a > b', 'gt', (a, b) => a > b);
const geOp = compareOp('greaterEqual', 'a ≥ b', 'ge', (a, b) => a >= b);

/** a = b as bool; false where an operand is NaN. */
export function equal(a: Node, b: Node): Node {
  return makeNode(eqOp, [a, b], NO_ATTRS);
}
/** a ≠ b as bool; true where an operand is NaN. */
export function notEqual(a: Node, b: Node): Node {
  return makeNode(neOp, [a, b], NO_ATTRS);
}
/** a < b as bool. */
export function less(a: Node, b: Node): Node {
  return makeNode(ltOp, [a, b], NO_ATTRS);
}
/** a ≤ b as bool. */
export function lessEqual(a: Node, b: Node): Node {
  return makeNode(leOp, [a, b], NO_ATTRS);
}
/** a > b as bool. */
export function greater(a: Node, b: Node): Node {
  return makeNode(gtOp, [a, b], NO_ATTRS);
}
/** a ≥ b as bool. */
export function greaterEqual(a: Node, b: Node): Node {
  return makeNode(geOp, [a, b], NO_ATTRS);
}

const selectOp = defineOp({
  name: 'select',
  summary: 'a where the condition holds, else b',
  attrs: {},
  infer: ([condition, a, b]) => {
    if (condition!.dtype !== 'bool') {
      throw new DTypeError(`the condition is ${condition!.dtype}, not bool`, { op: 'select' });
    }
    if (a!.dtype !== b!.dtype) {
      throw new DTypeError(`the choices are ${a!.dtype} and ${b!.dtype}`, { op: 'select' });
    }
    const shape = broadcastShapes('select', condition!.shape, a!.shape, b!.shape);
    return { shape, dtype: a!.dtype };
  },
  gradient: ({ grad, inputs, needs }) => {
    const zero = constant(0, grad.dtype);
    return [
      null,
      needs(1) ? select(inputs[0]!, grad, zero) : null,
      needs(2) ? select(inputs[0]!, zero, grad) : null,
    ];
  },
  bounds: ([, a, b]) => unionOf([a!, b!]),
  lower: {
    kind: 'elementwise',
    emit: (builder, [condition, a, b]) => {
      if (a!.type !== 'bool') return builder.select(condition!, a!, b!);
      const no = builder.unary('not', condition!);
      return builder.or(builder.and(condition!, a!), builder.and(no, b!));
    },
  },
  reference: (inputs, _attrs, output) =>
    broadcastReference(inputs, output, (condition, a, b) => (condition! !== 0 ? a! : b!)),
  samples: () => {
    const bool = (shape: readonly number[]) => randomTensor(shape, { dtype: 'bool' });
    return [
      {
        inputs: [bool([2, 3]), randomTensor([2, 3]), randomTensor([2, 3], { seed: 2 })],
        attrs: {},
      },
      { inputs: [bool([]), randomTensor([2, 3]), randomTensor([3])], attrs: {} },
      { inputs: [bool([4, 1]), randomTensor([1, 5]), randomTensor([])], attrs: {} },
      { inputs: [bool([0]), randomTensor([0]), randomTensor([1])], attrs: {} },
      {
        inputs: [
          bool([9]),
          randomTensor([9], { dtype: 'int32' }),
          randomTensor([1], { dtype: 'int32' }),
        ],
        attrs: {},
        skipGradient: 'integers',
      },
      { inputs: [bool([9]), bool([9]), bool([1])], attrs: {}, skipGradient: 'bool' },
      {
        inputs: [
          bool([3]),
          randomTensor([3], { dtype: 'float64' }),
          randomTensor([3], { dtype: 'float64', seed: 4 }),
        ],
        attrs: {},
      },
      {
        inputs: [
          tensorOf([3], [1, 0, 1], 'bool'),
          tensorOf([3], [NaN, NaN, Infinity]),
          tensorOf([3], [1, 2, NaN]),
        ],
        attrs: {},
        skipGradient: 'special values',
      },
    ];
  },
});

/** `a` where `condition` (bool) holds, else `b`; all three broadcast. */
export function select(condition: Node, a: Node, b: Node): Node {
  return makeNode(selectOp, [condition, a, b], NO_ATTRS);
}

/** Whether an element is NaN: bool. */
export function isNaN(x: Node): Node {
  return notEqual(x, x);
}

/** Whether an element is plus or minus infinity: bool. */
export function isInf(x: Node): Node {
  if (!isFloat(x.dtype)) return notEqual(x, x);
  const up = equal(x, constant(Infinity, x.dtype));
  return select(up, up, equal(x, constant(-Infinity, x.dtype)));
}
