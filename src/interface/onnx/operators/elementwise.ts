// Arithmetic, comparison and logic, element by element.
import { ShapeError } from '../../../base/errors.ts';
import { formatShape } from '../../../base/shape.ts';
import * as T from '../../tensor/index.ts';
import type { Tensor, TensorLike } from '../../tensor/index.ts';
import { flag, float, ignored, int, ints, text } from '../attributes.ts';
import { type HostFunction, compareArrays, mapArrays } from '../host-arrays.ts';
import { type Call, type Operator, defineOperator } from '../operator.ts';
import { type TensorValue, isFloatType, isWideInteger } from '../values.ts';
import { as, scalarOr, wideQuotient, wrapped } from './results.ts';

/** Both operands in one dtype; a known number stays one, so that powers and the like stay simple. */
function pair(call: Call): [TensorLike, TensorLike] {
  const [a, b] = [call.value(0), call.value(1)];
  if (a.rank === 0 && b.rank > 0 && isFloatType(a.type)) return [scalarOr(a), b.tensor];
  if (b.rank === 0 && isFloatType(b.type) && a.known === null) return [a.tensor, scalarOr(b)];
  return [a.tensor, b.tensor];
}

type Binary = (a: TensorLike, b: TensorLike) => Tensor;

/** The attributes of versions before 7, where broadcasting was asked for. */
const LEGACY = { axis: int(), broadcast: flag(), consumed_inputs: ints() };

/** The second operand as version 6 lays it along the first: its axes start at `axis`. */
function legacySecond(call: Call<{ axis: number | undefined; broadcast: boolean }>): Tensor {
  const [a, b] = [call.value(0), call.value(1)];
  const { axis, broadcast } = call.attributes;
  if (!broadcast || axis === undefined) return b.tensor;
  const start = axis < 0 ? axis + a.rank : axis;
  const after = a.rank - start - b.rank;
  if (after < 0) {
    throw new ShapeError(`${formatShape(b.shape)} does not lie in ${formatShape(a.shape)}`);
  }
  return b.tensor.reshape([...b.shape, ...new Array<number>(after).fill(1)]);
}

function binary(name: string, compute: Binary, host: HostFunction): Operator[] {
  return [
    defineOperator({
      name,
      since: 7,
      inputs: 2,
      run: (call) => wrapped(call.type(0), compute(...pair(call))),
      host: (call) => {
        const arrays = call.values().map((value) => value.read());
        return mapArrays(arrays, call.type(0), host);
      },
    }),
    defineOperator({
      name,
      since: 1,
      until: 6,
      inputs: 2,
      attributes: LEGACY,
      run: (call) => wrapped(call.type(0), compute(call.tensor(0), legacySecond(call))),
    }),
  ];
}

function comparison(
  name: string,
  since: number,
  compute: Binary,
  test: (x: number | bigint | string, y: number | bigint | string) => boolean,
): Operator[] {
  const rows = [
    defineOperator({
      name,
      since,
      inputs: 2,
      run: (call) => compute(call.tensor(0), call.tensor(1)),
      host: (call) => compareArrays(call.value(0).read(), call.value(1).read(), test),
    }),
  ];
  if (since > 7) return rows;
  const legacy = defineOperator({
    name,
    since: 1,
    until: 6,
    inputs: 2,
    attributes: LEGACY,
    run: (call) => compute(call.tensor(0), legacySecond(call)),
  });
  return [...rows, legacy];
}

function unary(
  name: string,
  since: number,
  compute: (x: Tensor) => Tensor,
  host?: HostFunction,
): Operator {
  return defineOperator({
    name,
    since,
    inputs: 1,
    attributes: since < 6 ? { consumed_inputs: ignored() } : {},
    run: (call) => compute(call.tensor(0)),
    ...(host === undefined
      ? {}
      : { host: (call: Call) => mapArrays([call.value(0).read()], call.type(0), host) }),
  });
}

const isFloatCall = (call: Call): boolean => isFloatType(call.type(0));

const minOf = (a: number, b: number): number => Math.min(a, b);
const maxOf = (a: number, b: number): number => Math.max(a, b);

/** Max, Min, Sum and Mean of any number of tensors. */
function variadic(
  name: string,
  compute: (a: Tensor, b: Tensor) => Tensor,
  host: HostFunction,
  finish: (sum: Tensor, count: number) => Tensor = (sum) => sum,
): Operator {
  return defineOperator({
    name,
    since: 1,
    inputs: [1, 4096],
    attributes: { consumed_inputs: ignored() },
    run: (call) => {
      const tensors = call.values().map(({ tensor }) => tensor);
      const all = tensors.reduce((a, b) => compute(a, b));
      return finish(all, tensors.length);
    },
    host: (call) => {
      if (name === 'Mean' || isFloatCall(call)) return undefined;
      const arrays = call.values().map((value) => value.read());
      return arrays.reduce((a, b) => mapArrays([a, b], a.type, host));
    },
  });
}

/** x to the power y in the type of x, whatever that of y is. */
function power(call: Call): TensorValue {
  const [x, y] = [call.value(0), call.value(1)];
  const known = scalarOr(y);
  if (
    typeof known === 'number' &&
    (isFloatType(x.type) || (Number.isInteger(known) && known >= 0))
  ) {
    return as(x.type, x.tensor.pow(known));
  }
  if (isFloatType(x.type)) return as(x.type, x.tensor.pow(y.tensor.to(x.tensor.dtype)));
  if (!isFloatType(y.type)) {
    return wrapped(x.type, x.tensor.pow(y.tensor.to(x.tensor.dtype)));
  }
  // The power of an integer to a fraction is a fraction, cut off.
  return as(x.type, x.tensor.to('float64').pow(y.tensor.to('float64')).trunc());
}

function floorModulo(a: bigint, b: bigint): bigint {
  const rest = a - wideQuotient(a, b) * b;
  return rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
}

function modulo(call: Call<{ fmod: boolean }>): TensorValue {
  const [a, b] = [call.tensor(0), call.tensor(1)];
  return as(call.type(0), call.attributes.fmod ? a.fmod(b) : a.remainder(b));
}

const hostModulo = (fmod: boolean): HostFunction => ({
  number: (a, b) => {
    const rest = a % b;
    return !fmod && rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
  },
  wide: fmod ? (a, b) => a - wideQuotient(a, b) * b : floorModulo,
});

function shift(call: Call<{ direction: string }>): TensorValue {
  const [a, b] = [call.tensor(0), call.tensor(1)];
  if (call.attributes.direction === 'RIGHT') return as(call.type(0), a.bitwiseRightShift(b));
  return wrapped(call.type(0), a.bitwiseLeftShift(b));
}

function isInfinite(call: Call<{ detect_negative: boolean; detect_positive: boolean }>): Tensor {
  const { detect_negative: low, detect_positive: high } = call.attributes;
  const x = call.tensor(0);
  if (low && high) return x.isinf();
  if (high) return x.eq(Infinity);
  return low ? x.eq(-Infinity) : x.ne(x).logicalAnd(x.eq(x));
}

function clip(call: Call, low: TensorLike | null, high: TensorLike | null): TensorValue {
  if (low === null && high === null) return call.value(0);
  return as(call.type(0), T.clamp(call.tensor(0), low, high));
}

/** A bound of Clip: a number where it is known, for speed. */
function bound(call: Call, index: number): TensorLike | null {
  if (!call.has(index)) return null;
  const value = call.value(index);
  if (isWideInteger(value.type) && value.known !== null) {
    const limit = value.type === 'int64' ? 2 ** 31 - 1 : 2 ** 32 - 1;
    const number = value.numbers()[0] ?? 0;
    // Bounds at the ends of 64 bits do not bound what has 32.
    return Math.abs(number) > limit ? null : value.tensor;
  }
  if (value.size === 1) return value.rank === 0 ? scalarOr(value) : value.tensor.reshape([]);
  return value.tensor;
}

function truncatedQuotient(a: TensorLike, b: TensorLike): Tensor {
  const isInteger = [a, b].every((x) => typeof x === 'object' && !x.dtype.includes('float'));
  return isInteger ? T.div(a, b, { roundingMode: 'trunc' }) : T.div(a, b);
}

export const elementwise: readonly Operator[] = [
  ...binary('Add', (a, b) => T.add(a, b), { number: (a, b) => a + b, wide: (a, b) => a + b }),
  ...binary('Sub', (a, b) => T.sub(a, b), { number: (a, b) => a - b, wide: (a, b) => a - b }),
  ...binary('Mul', T.mul, { number: (a, b) => a * b, wide: (a, b) => a * b }),
  ...binary('Div', truncatedQuotient, { number: (a, b) => a / b, wide: wideQuotient }),
  defineOperator({ name: 'Pow', since: 7, inputs: 2, run: power }),
  defineOperator({
    name: 'Pow',
    since: 1,
    until: 6,
    inputs: 2,
    attributes: LEGACY,
    run: (call) => call.tensor(0).pow(legacySecond(call)),
  }),
  defineOperator({
    name: 'Mod',
    since: 10,
    inputs: 2,
    attributes: { fmod: flag() },
    run: modulo,
    host: (call) => {
      const arrays = call.values().map((value) => value.read());
      return mapArrays(arrays, call.type(0), hostModulo(call.attributes.fmod));
    },
  }),
  ...comparison('Equal', 7, T.eq, (x, y) => x === y),
  ...comparison('Greater', 7, T.gt, (x, y) => x > y),
  ...comparison('Less', 7, T.lt, (x, y) => x < y),
  ...comparison('GreaterOrEqual', 12, T.ge, (x, y) => x >= y),
  ...comparison('LessOrEqual', 12, T.le, (x, y) => x <= y),
  ...comparison('And', 7, T.logicalAnd, (x, y) => x !== 0 && y !== 0),
  ...comparison('Or', 7, T.logicalOr, (x, y) => x !== 0 || y !== 0),
  ...comparison('Xor', 7, T.logicalXor, (x, y) => (x !== 0) !== (y !== 0)),
  unary('Not', 1, T.logicalNot, { number: (x) => (x === 0 ? 1 : 0), wide: (x) => x }),
  unary('Neg', 1, T.neg, { number: (x) => -x, wide: (x) => -x }),
  unary('Abs', 1, T.abs, { number: Math.abs, wide: (x) => (x < 0n ? -x : x) }),
  unary('Floor', 1, T.floor, { number: Math.floor, wide: (x) => x }),
  unary('Ceil', 1, T.ceil, { number: Math.ceil, wide: (x) => x }),
  unary('Round', 11, (x) => T.round(x)),
  unary('Sqrt', 1, T.sqrt, { number: Math.sqrt, wide: (x) => x }),
  unary('Reciprocal', 1, T.reciprocal),
  unary('Exp', 1, T.exp),
  unary('Log', 1, T.log),
  unary('Sin', 7, T.sin),
  unary('Cos', 7, T.cos),
  unary('Tan', 7, T.tan),
  unary('Asin', 7, T.asin),
  unary('Acos', 7, T.acos),
  unary('Atan', 7, T.atan),
  unary('Sinh', 9, T.sinh),
  unary('Cosh', 9, T.cosh),
  unary('Tanh', 1, T.tanh),
  unary('Asinh', 9, T.asinh),
  unary('Acosh', 9, T.acosh),
  unary('Atanh', 9, T.atanh),
  unary('Erf', 9, T.erf),
  unary('Sign', 9, T.sign, { number: Math.sign, wide: (x) => (x > 0n ? 1n : x < 0n ? -1n : 0n) }),
  unary('IsNaN', 9, T.isnan),
  defineOperator({
    name: 'IsInf',
    since: 10,
    inputs: 1,
    attributes: { detect_negative: flag(true), detect_positive: flag(true) },
    run: isInfinite,
  }),
  variadic('Max', T.maximum, { number: maxOf, wide: (a, b) => (a > b ? a : b) }),
  variadic('Min', T.minimum, { number: minOf, wide: (a, b) => (a < b ? a : b) }),
  variadic('Sum', (a, b) => a.add(b), { number: (a, b) => a + b, wide: (a, b) => a + b }),
  variadic(
    'Mean',
    (a, b) => a.add(b),
    { number: (a, b) => a + b, wide: (a, b) => a + b },
    (sum, count) => sum.div(count),
  ),
  defineOperator({
    name: 'BitShift',
    since: 11,
    inputs: 2,
    attributes: { direction: text('LEFT', ['LEFT', 'RIGHT']) },
    run: shift,
  }),
  ...[
    ['BitwiseAnd', T.bitwiseAnd] as const,
    ['BitwiseOr', T.bitwiseOr] as const,
    ['BitwiseXor', T.bitwiseXor] as const,
  ].map(([name, compute]) =>
    defineOperator({
      name,
      since: 18,
      inputs: 2,
      run: (call) => as(call.type(0), compute(call.tensor(0), call.tensor(1))),
    }),
  ),
  defineOperator({
    name: 'BitwiseNot',
    since: 18,
    inputs: 1,
    run: (call) => wrapped(call.type(0), call.tensor(0).bitwiseNot()),
  }),
  defineOperator({
    name: 'Clip',
    since: 1,
    until: 10,
    inputs: 1,
    attributes: { min: float(), max: float(), consumed_inputs: ignored() },
    run: (call) => clip(call, call.attributes.min ?? null, call.attributes.max ?? null),
  }),
  defineOperator({
    name: 'Clip',
    since: 11,
    inputs: [1, 3],
    constants: [1, 2],
    run: (call) => clip(call, bound(call, 1), bound(call, 2)),
  }),
  defineOperator({
    name: 'Where',
    since: 9,
    inputs: 3,
    run: (call) => as(call.type(1), T.where(call.tensor(0), call.tensor(1), call.tensor(2))),
    host: (call) => {
      const arrays = call.values().map((value) => value.read());
      const choose: HostFunction = {
        number: (condition, a, b) => (condition === 0 ? b : a),
        wide: (condition, a, b) => (condition === 0n ? b : a),
      };
      return call.type(1) === 'string' ? undefined : mapArrays(arrays, call.type(1), choose);
    },
  }),
];
