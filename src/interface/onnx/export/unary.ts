// Conversions of functions of one operand.
import { isFloat } from '../../../base/dtype.ts';
import { truncate } from './arithmetic.ts';
import {
  type Conversion,
  type Conversions,
  convert,
  direct,
  inputDType,
  needOpset,
  type Step,
} from './conversion.ts';

type NoAttrs = Readonly<Record<never, never>>;

/** Integers are left as they are. */
function ofFloats(write: (step: Step<NoAttrs>, x: string) => string): Conversion {
  return convert({}, (step) => {
    const x = step.inputs[0] as string;
    return isFloat(step.node.dtype) ? write(step, x) : x;
  });
}

/** bool is left as it is. */
function ofNumbers(opType: string): Conversion {
  return convert({}, ({ writer, node, inputs }) =>
    node.dtype === 'bool' ? (inputs[0] as string) : writer.add(opType, inputs),
  );
}

/** A logarithm to another base. */
function logarithm(base: number): Conversion {
  return convert({}, ({ writer, node, inputs }) =>
    writer.add('Mul', [writer.add('Log', inputs), writer.number(1 / base, node.dtype)]),
  );
}

/** e^x - 1 = tanh(x / 2) (e^x + 1), which loses nothing near 0. */
function expm1({ writer, node, inputs: [x] }: Step<NoAttrs>): string {
  const half = writer.add('Mul', [x as string, writer.number(0.5, node.dtype)]);
  const above = writer.add('Add', [writer.add('Exp', [x as string]), writer.number(1, node.dtype)]);
  return writer.add('Mul', [writer.add('Tanh', [half]), above]);
}

/**
 * ln(1 + x) as ln(u) x / (u - 1) of the rounded sum u, whose errors cancel (Kahan; Goldberg 1991,
 * theorem 4).
 */
function log1p({ writer, node, inputs: [given] }: Step<NoAttrs>): string {
  const x = given as string;
  const one = writer.number(1, node.dtype);
  const sum = writer.add('Add', [x, one]);
  const isTiny = writer.add('Equal', [sum, one]);
  const isHuge = writer.add('Equal', [sum, x]);
  const difference = writer.add('Sub', [sum, one]);
  const lost = writer.add('Div', [x, writer.add('Where', [isTiny, one, difference])]);
  const factor = writer.add('Where', [isHuge, one, lost]);
  const value = writer.add('Mul', [writer.add('Log', [sum]), factor]);
  return writer.add('Where', [isTiny, x, value]);
}

/** Of NaN it is 0 here. */
function sign({ writer, node, inputs }: Step<NoAttrs>): string {
  if (node.dtype === 'bool') return inputs[0] as string;
  const value = writer.add('Sign', inputs);
  if (!isFloat(node.dtype)) return value;
  const isNaN = writer.add('IsNaN', inputs);
  return writer.add('Where', [isNaN, writer.number(0, node.dtype), value]);
}

function relu({ writer, node, inputs }: Step<NoAttrs>): string {
  if (node.dtype === 'bool') return inputs[0] as string;
  if (isFloat(node.dtype)) return writer.add('Relu', inputs);
  return writer.add('Max', [inputs[0] as string, writer.number(0, node.dtype)]);
}

function logicalNot({ writer, node, inputs }: Step<NoAttrs>): string {
  const dtype = inputDType(node);
  if (dtype === 'bool') return writer.add('Not', inputs);
  return writer.add('Equal', [inputs[0] as string, writer.number(0, dtype)]);
}

function bitwiseNot({ writer, node, inputs }: Step<NoAttrs>): string {
  if (node.dtype === 'bool') return writer.add('Not', inputs);
  needOpset(writer, 18, 'BitwiseNot');
  return writer.add('BitwiseNot', inputs);
}

export const UNARY: Conversions = {
  abs: ofNumbers('Abs'),
  sign: convert({}, sign),
  sqrt: direct('Sqrt'),
  rsqrt: convert({}, ({ writer, inputs }) =>
    writer.add('Reciprocal', [writer.add('Sqrt', inputs)]),
  ),
  reciprocal: direct('Reciprocal'),
  relu: convert({}, relu),
  floor: ofFloats(({ writer }, x) => writer.add('Floor', [x])),
  ceil: ofFloats(({ writer }, x) => writer.add('Ceil', [x])),
  trunc: ofFloats(({ writer, node }, x) => truncate(writer, node, x)),
  round: ofFloats(({ writer }, x) => writer.add('Round', [x])),
  logicalNot: convert({}, logicalNot),
  bitwiseNot: convert({}, bitwiseNot),
  exp: direct('Exp'),
  exp2: convert({}, ({ writer, node, inputs: [x] }) =>
    writer.add('Pow', [writer.number(2, node.dtype), x as string]),
  ),
  expm1: convert({}, expm1),
  log: direct('Log'),
  log2: logarithm(Math.LN2),
  log10: logarithm(Math.LN10),
  log1p: convert({}, log1p),
  sin: direct('Sin'),
  cos: direct('Cos'),
  tan: direct('Tan'),
  asin: direct('Asin'),
  acos: direct('Acos'),
  atan: direct('Atan'),
  sinh: direct('Sinh'),
  cosh: direct('Cosh'),
  tanh: direct('Tanh'),
  asinh: direct('Asinh'),
  acosh: direct('Acosh'),
  atanh: direct('Atanh'),
  sigmoid: direct('Sigmoid'),
  erf: direct('Erf'),
  cast: convert({ dtype: 'dtype' }, ({ writer, attrs, node, inputs: [x] }) =>
    inputDType(node) === attrs.dtype ? (x as string) : writer.cast(x as string, attrs.dtype),
  ),
};
