// Conversions of arithmetic with two or three operands.
import { isFloat } from '../../../base/dtype.ts';
import type { Node } from '../../../graph/node.ts';
import { isNumber, numberIn, resolve } from './graph.ts';
import { type Conversion, type Conversions, convert, direct, type Step } from './conversion.ts';
import type { GraphWriter } from './writer.ts';

type NoAttrs = Readonly<Record<never, never>>;

/** Of bools another op than of numbers. */
function withBool(opType: string, ofBools: string): Conversion {
  return convert({}, ({ writer, node, inputs }) =>
    writer.add(node.dtype === 'bool' ? ofBools : opType, inputs),
  );
}

/** A division of integers whose divisor may be 0, which gives 0, or -1, which may overflow. */
interface Division {
  readonly dividend: string;
  readonly divisor: string;
  /** Where the divisor is -1: its place is taken by 1; null if it never is. */
  readonly isMinusOne: string | null;
}

function integerDivision({ writer, graph, node, inputs }: Step<NoAttrs>): Division {
  const [a, b] = inputs as readonly [string, string];
  const known = resolve(node.inputs[1] as Node);
  const values = isNumber(known) ? graph.vary(known, numberIn) : null;
  const isSafe = values?.every((value) => value !== 0 && value !== -1) === true;
  if (isSafe) return { dividend: a, divisor: b, isMinusOne: null };
  const number = (value: number): string => writer.number(value, node.dtype);
  const byZero = writer.add('Equal', [b, number(0)]);
  const dividend = writer.add('Where', [byZero, number(0), a]);
  const divisor = writer.add('Where', [byZero, number(1), b]);
  if (node.dtype.startsWith('u')) return { dividend, divisor, isMinusOne: null };
  const isMinusOne = writer.add('Equal', [b, number(-1)]);
  return { dividend, divisor: writer.add('Where', [isMinusOne, number(1), divisor]), isMinusOne };
}

/** Rest of a division with the sign of the dividend. */
function restTowardsZero(step: Step<NoAttrs>): string {
  const { writer, node, inputs } = step;
  if (isFloat(node.dtype)) return writer.add('Mod', inputs, { fmod: 1 });
  const { dividend, divisor } = integerDivision(step);
  return writer.add('Mod', [dividend, divisor], { fmod: 1 });
}

/** Whether a rest is not 0 and has another sign than the divisor. */
function signsDiffer(writer: GraphWriter, node: Node, rest: string, b: string): string {
  const zero = writer.number(0, node.dtype);
  const isRest = writer.add('Not', [writer.add('Equal', [rest, zero])]);
  const negative = writer.add('Less', [rest, zero]);
  return writer.add('And', [isRest, writer.add('Xor', [negative, writer.add('Less', [b, zero])])]);
}

function remainder(step: Step<NoAttrs>): string {
  const { writer, node, inputs } = step;
  if (!isFloat(node.dtype)) {
    const { dividend, divisor } = integerDivision(step);
    return writer.add('Mod', [dividend, divisor]);
  }
  const b = inputs[1] as string;
  const rest = restTowardsZero(step);
  const moved = writer.add('Add', [rest, b]);
  return writer.add('Where', [signsDiffer(writer, node, rest, b), moved, rest]);
}

/** An integer quotient, rounded to zero or down. */
function integerQuotient(step: Step<NoAttrs>, down: boolean): string {
  const { writer, node, inputs } = step;
  const { dividend, divisor, isMinusOne } = integerDivision(step);
  let quotient = writer.add('Div', [dividend, divisor]);
  if (down && !node.dtype.startsWith('u')) {
    const rest = writer.add('Mod', [dividend, divisor], { fmod: 1 });
    const lower = writer.add('Sub', [quotient, writer.number(1, node.dtype)]);
    quotient = writer.add('Where', [signsDiffer(writer, node, rest, divisor), lower, quotient]);
  }
  if (isMinusOne === null) return quotient;
  const negated = writer.add('Sub', [writer.number(0, node.dtype), inputs[0] as string]);
  return writer.add('Where', [isMinusOne, negated, quotient]);
}

/** From the exact remainder: the floor of a quotient that was rounded up would be off by one. */
function floorDivide(step: Step<NoAttrs>): string {
  const { writer, node, inputs } = step;
  if (!isFloat(node.dtype)) return integerQuotient(step, true);
  const [a, b] = inputs as readonly [string, string];
  const number = (value: number): string => writer.number(value, node.dtype);
  const rest = restTowardsZero(step);
  const plain = writer.add('Div', [writer.add('Sub', [a, rest]), b]);
  const lower = writer.add('Sub', [plain, number(1)]);
  const exact = writer.add('Where', [signsDiffer(writer, node, rest, b), lower, plain]);
  const floor = writer.add('Floor', [exact]);
  const isShort = writer.add('Greater', [writer.add('Sub', [exact, floor]), number(0.5)]);
  const whole = writer.add('Where', [isShort, writer.add('Add', [floor, number(1)]), floor]);
  const byZero = writer.add('Equal', [b, number(0)]);
  return writer.add('Where', [byZero, writer.add('Div', [a, b]), whole]);
}

/** x without its fraction: there is no such op. */
export function truncate(writer: GraphWriter, node: Node, x: string): string {
  const isNegative = writer.add('Less', [x, writer.number(0, node.dtype)]);
  return writer.add('Where', [isNegative, writer.add('Ceil', [x]), writer.add('Floor', [x])]);
}

function truncDivide(step: Step<NoAttrs>): string {
  const { writer, node, inputs } = step;
  if (!isFloat(node.dtype)) return integerQuotient(step, false);
  return truncate(writer, node, writer.add('Div', inputs));
}

/** The angle of the point (b, a), quadrant by quadrant; the signs of zeros and of infinities count. */
function atan2({ writer, node, inputs }: Step<NoAttrs>): string {
  const number = (value: number): string => writer.number(value, node.dtype);
  const [zero, one] = [number(0), number(1)];
  const isInfinite = inputs.map((x) => writer.add('IsInf', [x]));
  const both = writer.add('And', isInfinite);
  const [a, b] = inputs.map((x) => writer.add('Where', [both, writer.add('Sign', [x]), x])) as [
    string,
    string,
  ];
  // 1 / -0 is -Infinity.
  const isNegative = (x: string): string => {
    const isZero = writer.add('Equal', [x, zero]);
    const told = writer.add('Where', [isZero, writer.add('Div', [one, x]), x]);
    return writer.add('Less', [told, zero]);
  };
  const [below, left] = [isNegative(a), isNegative(b)];
  const atOrigin = writer.add('And', [
    writer.add('Equal', [a, zero]),
    writer.add('Equal', [b, zero]),
  ]);
  const signedZero = writer.add('Where', [below, number(-0), zero]);
  const slope = writer.add('Div', [a, writer.add('Where', [atOrigin, one, b])]);
  const onRight = writer.add('Where', [atOrigin, signedZero, writer.add('Atan', [slope])]);
  const angle = writer.add('Where', [atOrigin, zero, writer.add('Atan', [slope])]);
  const turn = writer.add('Where', [below, number(-Math.PI), number(Math.PI)]);
  return writer.add('Where', [left, writer.add('Add', [angle, turn]), onRight]);
}

/** Powers of small integers are computed in wider ones; 0 to a negative power is 0. */
function pow(step: Step<NoAttrs>): string {
  const { writer, node, inputs } = step;
  const { dtype } = node;
  if (isFloat(dtype)) return writer.add('Pow', inputs);
  const wide = dtype === 'uint32' ? 'int64' : 'int32';
  const [a, b] = (dtype === wide ? inputs : inputs.map((x) => writer.cast(x, wide))) as [
    string,
    string,
  ];
  const [zero, one] = [writer.number(0, wide), writer.number(1, wide)];
  const isUndefined = writer.add('And', [
    writer.add('Equal', [a, zero]),
    writer.add('Less', [b, zero]),
  ]);
  const power = writer.add('Pow', [writer.add('Where', [isUndefined, one, a]), b]);
  const value = writer.add('Where', [isUndefined, zero, power]);
  return dtype === wide ? value : writer.cast(value, dtype);
}

function clamp({ writer, node, inputs }: Step<NoAttrs>): string {
  const [x, low, high] = inputs as readonly [string, string, string];
  const isScalar = [1, 2].every((i) => node.inputs[i]?.shape.length === 0);
  if (isScalar && node.inputs[0]?.shape.length === node.shape.length) {
    return writer.add('Clip', [x, low, high]);
  }
  return writer.add('Min', [writer.add('Max', [x, low]), high]);
}

export const ARITHMETIC: Conversions = {
  neg: convert({}, ({ writer, node, inputs: [x] }) =>
    node.dtype.startsWith('u')
      ? writer.add('Sub', [writer.number(0, node.dtype), x as string])
      : writer.add('Neg', [x as string]),
  ),
  add: withBool('Add', 'Or'),
  sub: direct('Sub'),
  mul: withBool('Mul', 'And'),
  div: direct('Div'),
  minimum: withBool('Min', 'And'),
  maximum: withBool('Max', 'Or'),
  clamp: convert({}, clamp),
  floorDivide: convert({}, floorDivide),
  remainder: convert({}, remainder),
  fmod: convert({}, restTowardsZero),
  truncDivide: convert({}, truncDivide),
  pow: convert({}, pow),
  atan2: convert({}, atan2),
};
