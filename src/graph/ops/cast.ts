// Conversion between element types.
import { withinDType } from '../bounds.ts';
import { byteSize, type DType, isFloat } from '../../base/dtype.ts';
import type { Builder } from '../../ir/builder.ts';
import { type Expression, valueTypeOf } from '../../ir/expression.ts';
import type { Node } from '../node.ts';
import { defineOp, makeNode, type Sample } from '../op.ts';
import { narrow, roundToHalf } from './emit.ts';
import { broadcastReference, storedValue } from './reference.ts';
import { randomTensor, tensorOf } from './samples.ts';

/** Converts a register value from one element type to another, rounding and wrapping as stored. */
export function emitCast(builder: Builder, x: Expression, from: DType, to: DType): Expression {
  const source = valueTypeOf(from);
  const target = valueTypeOf(to);
  if (target === 'bool') {
    if (source === 'bool') return x;
    return builder.compare('ne', x, builder.constant(0, source, x.lanes));
  }
  if (isFloat(to)) {
    const wide = builder.convert(x, target);
    // A register holds more than a half: without this, fusion would change the value.
    return byteSize(to) === 2 && from !== to ? roundToHalf(builder, wide, to) : wide;
  }
  if (source === 'bool') return builder.convert(x, target);
  if (isFloat(from)) return narrow(builder, builder.convert(x, target), to);
  const word = source === target ? x : builder.bitcast(x, target);
  return narrow(builder, word, to);
}

/** Float to integer truncates; what the target cannot hold saturates at 32 bits, then wraps. */
function castReference(value: number, from: DType, to: DType): number {
  if (isFloat(to)) return byteSize(to) === 2 ? storedValue(to, value) : value;
  if (to === 'bool') return value === 0 ? 0 : 1;
  if (!isFloat(from)) return storedValue(to, value);
  if (Number.isNaN(value)) return 0;
  const [low, high] = to === 'uint32' ? [0, 4294967295] : [-2147483648, 2147483647];
  return storedValue(to, Math.min(Math.max(Math.trunc(value), low), high));
}

const castOp = defineOp({
  name: 'cast',
  summary: 'the same numbers in another element type',
  attrs: { dtype: 'dtype' },
  infer: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
  gradient: ({ grad, inputs }) => {
    const { dtype } = inputs[0]!;
    return [isFloat(dtype) && isFloat(grad.dtype) ? cast(grad, dtype) : null];
  },
  lower: {
    kind: 'elementwise',
    emit: (builder, [x], { dtype }, node) => emitCast(builder, x!, node.inputs[0]!.dtype, dtype),
  },
  reference: (inputs, { dtype }, output) =>
    broadcastReference(inputs, output, (value) => castReference(value, inputs[0]!.dtype, dtype)),
  bounds: ([x], { dtype }) => {
    if (isFloat(dtype)) return null;
    if (x === null || x === undefined) return withinDType(null, dtype);
    return withinDType({ min: Math.trunc(x.min), max: Math.trunc(x.max) }, dtype);
  },
  samples: () => castSamples(),
});

function castSamples(): Sample<{ readonly dtype: DType }>[] {
  const floats = randomTensor([3, 5], { low: -20, high: 20 });
  const samples: Sample<{ readonly dtype: DType }>[] = [];
  const all: readonly DType[] = [
    'float64',
    'float16',
    'bfloat16',
    'int8',
    'int16',
    'int32',
    'bool',
  ];
  for (const dtype of all) {
    const halves = byteSize(dtype) === 2 && isFloat(dtype);
    samples.push({
      inputs: [floats],
      attrs: { dtype },
      ...(dtype === 'float64' ? {} : { skipGradient: halves ? 'rounds' : 'integers' }),
    });
  }
  const skip = { skipGradient: 'integers' };
  for (const from of ['int8', 'uint8', 'int32', 'uint32', 'bool'] as const) {
    for (const dtype of ['float32', 'int8', 'uint8', 'int32', 'uint32', 'bool'] as const) {
      const x = randomTensor([7], { dtype: from, ...(from === 'int32' ? { low: -999 } : {}) });
      if (from !== dtype) samples.push({ inputs: [x], attrs: { dtype }, ...skip });
    }
  }
  const halves = [
    0,
    -0,
    1 / 3,
    65504,
    65519,
    65520,
    1e-7,
    3e-8,
    2.9e-8,
    6.1e-5,
    Infinity,
    NaN,
    -7.7,
  ];
  for (const dtype of ['float16', 'bfloat16'] as const) {
    samples.push({ inputs: [tensorOf([halves.length], halves)], attrs: { dtype }, ...skip });
  }
  const edges = [3e9, -3e9, 0.5, -0.5, -0.99, 2.5, NaN, Infinity, -Infinity];
  for (const dtype of ['int32', 'bool'] as const) {
    samples.push({ inputs: [tensorOf([edges.length], edges)], attrs: { dtype }, ...skip });
  }
  samples.push({ inputs: [randomTensor([])], attrs: { dtype: 'float64' } });
  samples.push({ inputs: [randomTensor([1])], attrs: { dtype: 'float64' } });
  samples.push({ inputs: [randomTensor([0, 3])], attrs: { dtype: 'int32' }, ...skip });
  return samples;
}

/**
 * `x` in another element type. Float to integer truncates toward zero (NaN gives 0), integers
 * wrap, `bool` is "not zero", halves round to nearest even.
 */
export function cast(x: Node, dtype: DType): Node {
  return x.dtype === dtype ? x : makeNode(castOp, [x], { dtype });
}
