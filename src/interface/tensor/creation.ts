// New tensors: from host data, and filled by rule.
import { type DType, DTYPES, isDType, isFloat, type TypedArray } from '../../base/dtype.ts';
import { describeValue } from '../../base/checks.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { checkShape, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import type { Node } from '../../graph/node.ts';
import {
  add,
  cast,
  constant,
  equal,
  full as fullNode,
  iota,
  less,
  mul,
  select,
  sub,
} from '../../graph/ops/index.ts';
import { getDevice } from '../../runtime/registry.ts';
import { checkInteger, nodeOf, readIntegers } from './arguments.ts';
import { encodeNumbers } from './encode.ts';
import { claimStorage, fromBytes, isTensor, numberNode, numberOf, wrap } from './handle.ts';
import type { Tensor } from './tensor.ts';

/** Numbers in rows of rows; the innermost may be typed arrays. */
export type NestedArray = readonly (number | boolean | TypedArray | NestedArray)[];
/** What `tensor` takes. */
export type TensorData = number | boolean | TypedArray | NestedArray;

export interface TensorOptions {
  /** Default: float32 for numbers, bool for booleans, a typed array's own. */
  readonly dtype?: DType | undefined;
  /** For flat data: the shape that it fills in row-major order. */
  readonly shape?: Shape | undefined;
  /** Name of the device it must be used on; default: wherever it is used. */
  readonly device?: string | undefined;
  /** Whether gradients may be asked for by it: a leaf for `backward`. Floats only. */
  readonly requiresGrad?: boolean | undefined;
}

export interface CreationOptions {
  /** Default: float32. */
  readonly dtype?: DType | undefined;
}

/** dtype that a typed array stands for. Uint16Array is taken as raw bits of a half. */
function dtypeOfArray(op: string, data: TypedArray, asked: DType | undefined): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Uint8Array) return asked === 'bool' ? 'bool' : 'uint8';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Uint32Array) return 'uint32';
  if (data instanceof Uint16Array) {
    if (asked === 'float16' || asked === 'bfloat16') return asked;
    throw new DTypeError('a Uint16Array holds the bits of a half, but of which', {
      op,
      hint: "give dtype: 'float16' or 'bfloat16'",
    });
  }
  throw new DTypeError(`cannot hold ${describeValue(data)}`, {
    op,
    hint: 'convert it: Int32Array.from(x, Number)',
  });
}

function isTypedArray(value: unknown): value is TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

/** Shape of nested data by its first elements; ragged places are found while filling. */
function nestedShape(data: NestedArray): number[] {
  const shape: number[] = [];
  let level: TensorData | undefined = data;
  while (Array.isArray(level) || isTypedArray(level)) {
    shape.push(level.length);
    level = level[0] as TensorData | undefined;
  }
  return shape;
}

interface Flattened {
  readonly values: Float64Array;
  readonly shape: Shape;
  allBoolean: boolean;
  source: TypedArray | null;
}

/** Flattens nested arrays. Throws ShapeError at the place where rows differ in length. */
function flattenNested(data: NestedArray): Flattened {
  const shape = nestedShape(data);
  const values = new Float64Array(sizeOf(shape));
  const result: Flattened = { values, shape, allBoolean: values.length > 0, source: null };
  let next = 0;
  const ragged = (place: readonly number[], message: string): never => {
    throw new ShapeError(`${message} at data${place.map((index) => `[${index}]`).join('')}`, {
      op: 'tensor',
      hint: 'all rows of an axis must be equally long',
    });
  };
  const visit = (level: unknown, depth: number, place: number[]): void => {
    if (Array.isArray(level) || isTypedArray(level)) {
      if (depth >= shape.length) ragged(place, 'a row where a number was expected');
      if (level.length !== shape[depth]) {
        ragged(place, `${level.length} element(s) where ${shape[depth]} were expected`);
      }
      if (isTypedArray(level)) {
        if (depth !== shape.length - 1) ragged(place, 'numbers where rows were expected');
        result.source ??= level;
        result.allBoolean = false;
        values.set(level, next);
        next += level.length;
        return;
      }
      for (let i = 0; i < level.length; i++) {
        place[depth] = i;
        visit(level[i], depth + 1, place);
      }
      place.length = depth;
      return;
    }
    if (depth !== shape.length) ragged(place, 'a number where a row was expected');
    if (typeof level === 'number') result.allBoolean = false;
    else if (typeof level !== 'boolean') {
      const where = place.map((index) => `[${index}]`).join('');
      throw new ArgumentError(`data${where} is ${describeValue(level)}, not a number`, {
        op: 'tensor',
        ...(isTensor(level) ? { hint: 'use stack() to join tensors' } : {}),
      });
    }
    values[next++] = Number(level);
  };
  visit(data, 0, []);
  return result;
}

function checkDType(op: string, dtype: DType | undefined): void {
  if (dtype !== undefined && !isDType(dtype)) {
    throw new DTypeError(`there is no dtype '${String(dtype)}'`, {
      op,
      hint: `one of ${DTYPES.join(', ')}`,
    });
  }
}

/**
 * A tensor of the given numbers, copied. Plain numbers become float32 and booleans bool, unless
 * `dtype` says otherwise; a typed array keeps its own type. Flat data may be given a `shape`.
 * Throws ShapeError for ragged rows (naming the place), DTypeError for values that do not fit.
 *
 * @example
 * ```ts
 * tensor([[1, 2], [3, 4]]).shape; // => [2, 2]
 * tensor([1, 2, 3], { dtype: 'int32' }).dtype; // => 'int32'
 * tensor(new Float64Array(6), { shape: [2, 3] }).dtype; // => 'float64'
 * tensor([true, false]).dtype; // => 'bool'
 * ```
 */
export function tensor(data: TensorData, options: TensorOptions = {}): Tensor {
  checkDType('tensor', options.dtype);
  if (options.device !== undefined) getDevice(options.device);
  let host: TypedArray;
  let shape: Shape;
  let dtype: DType;
  if (isTypedArray(data)) {
    const own = dtypeOfArray('tensor', data, options.dtype);
    dtype = options.dtype ?? own;
    host = encodeNumbers('tensor', data, dtype);
    shape = [data.length];
  } else if (Array.isArray(data)) {
    const flat = flattenNested(data);
    const own = flat.source === null ? 'float32' : dtypeOfArray('tensor', flat.source, undefined);
    dtype = options.dtype ?? (flat.allBoolean ? 'bool' : own);
    host = encodeNumbers('tensor', flat.values, dtype);
    shape = flat.shape;
  } else {
    if (typeof data !== 'number' && typeof data !== 'boolean') {
      throw new ArgumentError(`cannot make a tensor of ${describeValue(data)}`, {
        op: 'tensor',
        ...(isTensor(data) ? { hint: 'use clone() or detach()' } : {}),
      });
    }
    dtype = options.dtype ?? (typeof data === 'boolean' ? 'bool' : 'float32');
    host = encodeNumbers('tensor', [Number(data)], dtype);
    shape = [];
  }
  if (options.shape !== undefined) {
    checkShape('tensor', options.shape);
    if (sizeOf(options.shape) !== host.length) {
      throw new ShapeError(
        `${host.length} value(s) do not fill ${formatShape(options.shape)} (${sizeOf(options.shape)})`,
        { op: 'tensor' },
      );
    }
    shape = Object.freeze([...options.shape]);
  }
  const bytes = new Uint8Array(host.buffer, host.byteOffset, host.byteLength);
  return leafTensor(bytes, shape, dtype, options);
}

function leafTensor(
  bytes: Uint8Array,
  shape: Shape,
  dtype: DType,
  { device, requiresGrad = false }: TensorOptions,
): Tensor {
  if (requiresGrad && !isFloat(dtype)) {
    throw new DTypeError(`only floats have gradients, not ${dtype}`, { op: 'tensor' });
  }
  const where = device === undefined ? {} : { device };
  const result = fromBytes(bytes, shape, dtype, {
    tracked: requiresGrad,
    persistent: requiresGrad,
    ...where,
  });
  if (requiresGrad) claimStorage(result);
  return result;
}

// ---- filled by rule ---------------------------------------------------------------------------

/** `(2, 3)`, `([2, 3])` and `([2, 3], options)`. */
export function readShape(
  op: string,
  args: readonly (number | Shape | CreationOptions | undefined)[],
): { shape: Shape; dtype: DType } {
  const last = args[args.length - 1];
  const hasOptions = last === undefined || (typeof last === 'object' && !Array.isArray(last));
  const sizes = (hasOptions ? args.slice(0, -1) : args) as (number | Shape)[];
  const shape = readIntegers(op, sizes);
  checkShape(op, shape);
  const options = hasOptions ? ((last ?? {}) as CreationOptions) : {};
  checkDType(op, options.dtype);
  return { shape, dtype: options.dtype ?? 'float32' };
}

/** Zeros: `zeros(2, 3)` or `zeros([2, 3], { dtype })`. */
export function zeros(shape: Shape, options?: CreationOptions): Tensor;
export function zeros(...sizes: number[]): Tensor;
export function zeros(...args: (number | Shape | CreationOptions | undefined)[]): Tensor {
  const { shape, dtype } = readShape('zeros', args);
  return wrap(fullNode(shape, 0, dtype));
}

/** Ones: `ones(2, 3)` or `ones([2, 3], { dtype })`. */
export function ones(shape: Shape, options?: CreationOptions): Tensor;
export function ones(...sizes: number[]): Tensor;
export function ones(...args: (number | Shape | CreationOptions | undefined)[]): Tensor {
  const { shape, dtype } = readShape('ones', args);
  return wrap(fullNode(shape, 1, dtype));
}

/** One value everywhere; bool for a boolean value, else float32 unless `dtype` is given. */
export function full(shape: Shape, value: number | boolean, options: CreationOptions = {}): Tensor {
  checkShape('full', shape);
  checkDType('full', options.dtype);
  const dtype = options.dtype ?? (typeof value === 'boolean' ? 'bool' : 'float32');
  return wrap(fullNode(shape, Number(numberOf('full', value)), dtype));
}

function fillLike(
  op: string,
  x: Tensor,
  value: number | boolean,
  options: CreationOptions,
): Tensor {
  const { shape, dtype } = nodeOf(op, x);
  checkDType(op, options.dtype);
  return wrap(fullNode(shape, Number(numberOf(op, value)), options.dtype ?? dtype));
}

/** Zeros with the shape of `x`, and its dtype unless given. */
export function zerosLike(x: Tensor, options: CreationOptions = {}): Tensor {
  return fillLike('zerosLike', x, 0, options);
}

/** Ones with the shape of `x`, and its dtype unless given. */
export function onesLike(x: Tensor, options: CreationOptions = {}): Tensor {
  return fillLike('onesLike', x, 1, options);
}

/** `value` everywhere, with the shape of `x`, and its dtype unless given. */
export function fullLike(
  x: Tensor,
  value: number | boolean,
  options: CreationOptions = {},
): Tensor {
  return fillLike('fullLike', x, value, options);
}

/** The n by m matrix (square by default) with ones on the diagonal. */
export function eye(n: number, m: number = n, options: CreationOptions = {}): Tensor {
  const shape = [checkInteger('eye', 'n', n, 0), checkInteger('eye', 'm', m, 0)];
  const onDiagonal = equal(iota(shape, 0, 'int32'), iota(shape, 1, 'int32'));
  return wrap(cast(onDiagonal, options.dtype ?? 'float32'));
}

/** A ramp start, start + step, ... of `size` elements, computed in float32 or in integers. */
function ramp(size: number, start: number, step: number, dtype: DType): Node {
  const whole = Number.isInteger(start) && Number.isInteger(step) && !isFloat(dtype);
  const wide: DType = dtype === 'float64' ? 'float64' : whole ? 'int32' : 'float32';
  const index = iota([size], 0, wide);
  const scaled = step === 1 ? index : mul(index, numberNode(step, wide));
  return cast(start === 0 ? scaled : add(scaled, numberNode(start, wide)), dtype);
}

/**
 * Numbers from `start` by `step` up to and without `end`: `arange(5)`, `arange(2, 5)`,
 * `arange(0, 1, 0.25)`. int32 if all three are integers, else float32, unless `dtype` is given.
 * Throws ArgumentError for a step of 0 or one that leads away from `end`.
 *
 * @example
 * ```ts
 * arange(2, 10, 3); // => [2, 5, 8]
 * ```
 */
export function arange(end: number, options?: CreationOptions): Tensor;
export function arange(start: number, end: number, options?: CreationOptions): Tensor;
export function arange(start: number, end: number, step: number, options?: CreationOptions): Tensor;
export function arange(...args: (number | CreationOptions | undefined)[]): Tensor {
  const numbers = args.filter((arg): arg is number => typeof arg === 'number');
  const options = args.find((arg): arg is CreationOptions => typeof arg === 'object') ?? {};
  checkDType('arange', options.dtype);
  const [start, end] =
    numbers.length === 1 ? [0, numbers[0] ?? 0] : [numbers[0] ?? 0, numbers[1] ?? 0];
  const step = numbers[2] ?? 1;
  if (![start, end, step].every(Number.isFinite) || step === 0) {
    throw new ArgumentError(`bounds must be finite and the step not 0, got ${numbers.join(', ')}`, {
      op: 'arange',
    });
  }
  if ((end - start) / step < 0) {
    throw new ArgumentError(`a step of ${step} does not lead from ${start} to ${end}`, {
      op: 'arange',
    });
  }
  const dtype = options.dtype ?? (numbers.every(Number.isInteger) ? 'int32' : 'float32');
  return wrap(ramp(Math.ceil((end - start) / step), start, step, dtype));
}

/** `steps` numbers from `start` to `end`, both included, float32 unless `dtype` is given. */
export function linspace(
  start: number,
  end: number,
  steps: number,
  options: CreationOptions = {},
): Tensor {
  checkInteger('linspace', 'steps', steps, 0);
  checkDType('linspace', options.dtype);
  const dtype = options.dtype ?? 'float32';
  if (steps < 2) return wrap(fullNode([steps], start, dtype));
  const wide: DType = dtype === 'float64' ? 'float64' : 'float32';
  const step = numberNode((end - start) / (steps - 1), wide);
  // From both ends, so that the last number is `end` exactly and the middle is symmetric.
  const index = iota([steps], 0, wide);
  const up = add(numberNode(start, wide), mul(index, step));
  const rest = sub(numberNode(steps - 1, wide), index);
  const down = sub(numberNode(end, wide), mul(rest, step));
  const firstHalf = less(iota([steps], 0, 'int32'), constant(Math.floor(steps / 2), 'int32'));
  return wrap(cast(select(firstHalf, up, down), dtype));
}
