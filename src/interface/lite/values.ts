// What goes into a model and what comes out: numbers on the host, checked against the model's ports.
import {
  byteSize,
  type DType,
  fromBfloat16Bits,
  fromFloat16Bits,
  newTypedArray,
  toBfloat16Bits,
  toFloat16Bits,
  type TypedArray,
  viewTypedArray,
} from '../../base/dtype.ts';
import { ArgumentError, DTypeError, ShapeError } from '../../base/errors.ts';
import { formatShape, sizeOf } from '../../base/shape.ts';
import { formatSize, type SizeRecord, sizeAt } from '../../base/size-expression.ts';
import { isTypedArray } from '../io/host-array.ts';
import { checkSize, type DimensionRecord, type PortRecord } from './header.ts';

/** Numbers in row-major order; with a shape where the model's does not tell it. */
export type InputValue =
  | TypedArray
  | readonly number[]
  | number
  | { readonly data: TypedArray | readonly number[]; readonly shape: readonly number[] };

/** One of a model's results. Halves are given as float32. */
export interface OutputValue {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** Text of a port for messages: `image: float32 [batch,1,28,28]`. */
export function describePort({ name, dtype, shape }: PortRecord): string {
  return `${name}: ${dtype} [${shape.map(formatSize).join(',')}]`;
}

interface Given {
  readonly data: ArrayLike<number>;
  readonly shape: readonly number[] | null;
}

function givenOf(op: string, port: PortRecord, value: unknown): Given {
  if (typeof value === 'number') return { data: [value], shape: null };
  if (isTypedArray(value) || isNumbers(value)) return { data: value, shape: null };
  if (typeof value === 'object' && value !== null && 'data' in value && 'shape' in value) {
    const { data, shape } = value;
    if ((isTypedArray(data) || isNumbers(data)) && isNumbers(shape)) return { data, shape };
  }
  throw new ArgumentError(
    `input ${describePort(port)} must be a typed array, a list of numbers, or { data, shape }`,
    { op },
  );
}

function isNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && (value.length === 0 || typeof value[0] === 'number');
}

/** Finds the sizes of dimensions from what is given. */
export class SizeFinder {
  readonly #op: string;
  readonly #dimensions: readonly DimensionRecord[];
  readonly sizes: Record<string, number> = {};

  constructor(op: string, dimensions: readonly DimensionRecord[]) {
    this.#op = op;
    this.#dimensions = dimensions;
  }

  /** Reads the numbers of an input, and what its shape tells of dimensions. */
  read(port: PortRecord, value: unknown): ArrayLike<number> {
    const { data, shape } = givenOf(this.#op, port, value);
    if (shape !== null) this.#fromShape(port, shape);
    else this.#fromLength(port, data.length);
    const wanted = this.shapeOf(port);
    if (sizeOf(wanted) !== data.length) {
      throw new ShapeError(
        `input ${describePort(port)} takes ${sizeOf(wanted)} numbers, got ${data.length}`,
        { op: this.#op },
      );
    }
    return data;
  }

  shapeOf({ shape }: PortRecord): number[] {
    return shape.map((size) => sizeAt(size, this.sizes));
  }

  /** Whether a port may be of this shape; notes what that says of dimensions. */
  fits(port: PortRecord, shape: readonly number[]): boolean {
    return (
      shape.length === port.shape.length &&
      port.shape.every((size, axis) => this.#accept(size, shape[axis] as number))
    );
  }

  #fromShape(port: PortRecord, shape: readonly number[]): void {
    if (!this.fits(port, shape)) throw this.#misfit(port, formatShape(shape));
  }

  /** One unknown dimension follows from the number of elements. */
  #fromLength(port: PortRecord, length: number): void {
    const unknown = port.shape.filter((size) => !this.#isKnown(size));
    if (unknown.length === 0) return;
    const known = port.shape
      .filter((size) => this.#isKnown(size))
      .reduce<number>((product, size) => product * sizeAt(size, this.sizes), 1);
    const [size] = unknown;
    if (unknown.length > 1) {
      throw new ShapeError(`input ${describePort(port)} has several dimensions of unknown size`, {
        op: this.#op,
        hint: 'pass { data, shape }',
      });
    }
    if (!this.#accept(size as SizeRecord, length / known)) {
      throw this.#misfit(port, `${length} numbers`);
    }
  }

  #misfit(port: PortRecord, what: string): ShapeError {
    return new ShapeError(`input ${describePort(port)} does not take ${what}`, { op: this.#op });
  }

  #isKnown(size: SizeRecord): boolean {
    if (typeof size === 'number') return true;
    const names = Object.keys(size.size).flatMap((product) => product.split('*'));
    return names.every((name) => name === '1' || name === '/' || name in this.sizes);
  }

  /** Whether an axis may have this size; notes what it says of a dimension. */
  #accept(record: SizeRecord, actual: number): boolean {
    if (!Number.isInteger(actual) || actual < 0) return false;
    if (this.#isKnown(record)) return sizeAt(record, this.sizes) === actual;
    const name = Object.keys((record as Exclude<SizeRecord, number>).size).find(
      (term) => term !== '1' && term !== '/',
    );
    const dimension = this.#dimensions.find((each) => each.name === name);
    if (dimension === undefined) return false;
    // Inputs have a dimension itself as a size, or a linear function of it.
    const at = (size: number): number => sizeAt(record, { ...this.sizes, [dimension.name]: size });
    const [zero, one] = [0, 1].map((k) => this.#tried(() => at(k * this.#divisor(record))));
    if (zero === undefined || one === undefined || one === zero) return false;
    const size = ((actual - zero) / (one - zero)) * this.#divisor(record);
    if (!Number.isInteger(size)) return false;
    checkSize(this.#op, dimension, size);
    this.sizes[dimension.name] = size;
    return true;
  }

  #divisor(record: SizeRecord): number {
    return typeof record === 'number' ? 1 : (record.size['/'] ?? 1);
  }

  #tried(compute: () => number): number | undefined {
    try {
      return compute();
    } catch {
      return undefined;
    }
  }
}

/** The bytes of numbers in a dtype: a view where they are of it already. */
export function encodeInput(
  op: string,
  { name, dtype }: PortRecord,
  data: ArrayLike<number>,
): Uint8Array {
  const isHalf = dtype === 'float16' || dtype === 'bfloat16';
  const array = newTypedArray(dtype, 0);
  if (isTypedArray(data) && data.constructor === array.constructor) {
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
  const encoded = newTypedArray(dtype, data.length);
  for (let i = 0; i < data.length; i++) {
    const value = data[i] as number;
    if (typeof value !== 'number') {
      throw new DTypeError(`input ${name}: element ${i} is ${typeof value}, not a number`, { op });
    }
    if (isHalf) encoded[i] = dtype === 'float16' ? toFloat16Bits(value) : toBfloat16Bits(value);
    else {
      encoded[i] = dtype === 'bool' ? (value === 0 ? 0 : 1) : value;
      const isWhole = dtype !== 'float32' && dtype !== 'float64' && dtype !== 'bool';
      if (isWhole && encoded[i] !== value) {
        throw new DTypeError(`input ${name}: ${value} at element ${i} is no ${dtype}`, { op });
      }
    }
  }
  return new Uint8Array(encoded.buffer);
}

/** Bytes as a result of the model. */
export function decodeOutput(
  dtype: DType,
  shape: readonly number[],
  bytes: Uint8Array,
): OutputValue {
  const own = bytes.byteOffset % byteSize(dtype) === 0 ? bytes : bytes.slice();
  const data = viewTypedArray(dtype, own.buffer, own.byteOffset, sizeOf(shape));
  if (dtype !== 'float16' && dtype !== 'bfloat16') return { shape, dtype, data };
  const read = dtype === 'float16' ? fromFloat16Bits : fromBfloat16Bits;
  return { shape, dtype: 'float32', data: Float32Array.from(data, read) };
}
