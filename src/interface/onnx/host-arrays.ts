// Arithmetic on small arrays in host memory: the computations of shapes in a model, exact in 64 bits.
import { ShapeError } from '../../base/errors.ts';
import { type Shape, formatShape, sizeOf } from '../../base/shape.ts';
import { type ElementArray, type ElementType, newElements } from './tensor-data.ts';
import { decodeValues, encodeValues, isWideInteger } from './values.ts';

/** Steps from one element to the next along each axis of a row-major array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis] ?? 1;
  }
  return strides;
}

/** The shape that all shapes broadcast to. */
export function broadcastOf(shapes: readonly Shape[]): number[] {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const result = new Array<number>(rank).fill(1);
  for (const shape of shapes) {
    for (const [index, size] of shape.entries()) {
      const axis = rank - shape.length + index;
      const known = result[axis] ?? 1;
      if (known !== 1 && size !== 1 && known !== size) {
        throw new ShapeError(`shapes ${shapes.map(formatShape).join(' and ')} do not broadcast`);
      }
      if (size !== 1) result[axis] = size;
    }
  }
  return result;
}

/** Visits all positions of `shape`; `at` gets the flat place by the given strides. */
export function placesOf(shape: Shape, strides: readonly number[], offset = 0): number[] {
  let places = [offset];
  for (const [axis, size] of shape.entries()) {
    const step = strides[axis] ?? 0;
    const next = new Array<number>(places.length * size);
    let at = 0;
    for (const place of places) for (let i = 0; i < size; i++) next[at++] = place + i * step;
    places = next;
  }
  return places;
}

/** For each element of `target` the place of the element of `shape` that is broadcast there. */
export function broadcastPlaces(shape: Shape, target: Shape): number[] {
  const own = stridesOf(shape);
  const skipped = target.length - shape.length;
  const strides = target.map((_, axis) =>
    axis < skipped || shape[axis - skipped] === 1 ? 0 : (own[axis - skipped] ?? 0),
  );
  return placesOf(target, strides);
}

/** The elements at `places`, as an array of `shape`; text too. */
export function pick(array: ElementArray, places: readonly number[], shape: Shape): ElementArray {
  const data = newElements(array.type, places.length);
  for (let index = 0; index < places.length; index++) {
    Reflect.set(data, index, array.data[places[index] ?? 0]);
  }
  return { type: array.type, shape, data };
}

/** The same elements in another shape. */
export function reshaped(array: ElementArray, shape: Shape): ElementArray {
  return { ...array, shape };
}

/** An operation on numbers, and how it is done exactly on 64-bit integers. */
export interface HostFunction {
  readonly number: (...values: number[]) => number;
  readonly wide: (...values: bigint[]) => bigint;
}

/** Applies a function elementwise, broadcast. The result has type `type`. */
export function mapArrays(
  arrays: readonly ElementArray[],
  type: ElementType,
  { number, wide }: HostFunction,
): ElementArray {
  const shape = broadcastOf(arrays.map((array) => array.shape));
  const places = arrays.map((array) => broadcastPlaces(array.shape, shape));
  const size = sizeOf(shape);
  if (isWideInteger(type)) {
    const values = new Array<bigint>(size);
    for (let i = 0; i < size; i++) {
      const operands = arrays.map(({ data }, k) => BigInt(data[places[k]?.[i] ?? 0] ?? 0));
      values[i] = wide(...operands);
    }
    const data = type === 'int64' ? BigInt64Array.from(values) : BigUint64Array.from(values);
    return { type, shape, data };
  }
  const decoded = arrays.map(decodeValues);
  const values = new Array<number>(size);
  for (let i = 0; i < size; i++) {
    values[i] = number(...decoded.map((list, k) => list[places[k]?.[i] ?? 0] ?? 0));
  }
  return encodeValues(type, shape, values);
}

/** As `mapArrays`, for a comparison: the operands are compared as they are, 64 bits too. */
export function compareArrays(
  a: ElementArray,
  b: ElementArray,
  test: (x: number | bigint | string, y: number | bigint | string) => boolean,
): ElementArray {
  const shape = broadcastOf([a.shape, b.shape]);
  const placesA = broadcastPlaces(a.shape, shape);
  const placesB = broadcastPlaces(b.shape, shape);
  const exact = isWideInteger(a.type) || a.type === 'string';
  const left: ArrayLike<number | bigint | string> = exact ? a.data : decodeValues(a);
  const right: ArrayLike<number | bigint | string> = exact ? b.data : decodeValues(b);
  const data = Uint8Array.from(placesA, (place, i) =>
    test(left[place] ?? 0, right[placesB[i] ?? 0] ?? 0) ? 1 : 0,
  );
  return { type: 'bool', shape, data };
}
