// Tensors as text: aligned columns, and long axes shortened to their ends, as NumPy prints them.
import { type DType, isFloat, viewTypedArray } from '../../base/dtype.ts';
import { ArgumentError } from '../../base/errors.ts';
import { contiguousStrides, formatShape, type Shape, sizeOf } from '../../base/shape.ts';
import { decodeNumbers } from './conversion.ts';
import { engine } from './engine.ts';
import type { Tensor } from './tensor.ts';

export interface FormatOptions {
  /** Number of elements beyond which axes are shortened; default 1000. */
  readonly threshold?: number;
  /** Elements shown at each end of a shortened axis; default 3. */
  readonly edgeItems?: number;
  /** Digits behind the point; default 4. */
  readonly precision?: number;
  /** Columns before a row is broken; default 80. */
  readonly lineWidth?: number;
}

/** `Tensor(float32 [2,3])`: what is known without computing anything. */
export function describeTensor(x: Tensor): string {
  return `Tensor(${x.dtype} ${formatShape(x.shape)})`;
}

/** Indices shown along an axis; -1 stands for the gap. */
function shownIndices(size: number, shorten: boolean, edge: number): number[] {
  if (!shorten || size <= 2 * edge) return Array.from({ length: size }, (_, i) => i);
  const head = Array.from({ length: edge }, (_, i) => i);
  return [...head, -1, ...head.map((i) => size - edge + i)];
}

function everyShown(
  values: ArrayLike<number>,
  shape: Shape,
  shorten: boolean,
  edge: number,
): number[] {
  const strides = contiguousStrides(shape);
  let positions = [0];
  shape.forEach((size, axis) => {
    const shown = shownIndices(size, shorten, edge).filter((i) => i >= 0);
    const stride = strides[axis] as number;
    positions = positions.flatMap((base) => shown.map((i) => base + i * stride));
  });
  return sizeOf(shape) === 0 ? [] : positions.map((at) => values[at] as number);
}

/** How all shown numbers are written: plain, with digits behind the point, or with exponents. */
function numberFormat(shown: readonly number[], dtype: DType, precision: number) {
  if (dtype === 'bool') return (value: number): string => (value === 0 ? 'false' : 'true');
  const special = (value: number): string | null => {
    if (Number.isNaN(value)) return 'nan';
    return Number.isFinite(value) ? null : value > 0 ? 'inf' : '-inf';
  };
  const finite = shown.filter(Number.isFinite).map(Math.abs);
  const largest = Math.max(0, ...finite);
  const smallest = Math.min(Infinity, ...finite.filter((value) => value > 0));
  const whole = finite.every(Number.isInteger);
  if (!isFloat(dtype)) return (value: number): string => String(value);
  const exponents =
    largest >= 1e8 || (!whole && (smallest < 1e-4 || largest / smallest > 1e3 * 10 ** precision));
  if (exponents) return (value: number): string => special(value) ?? value.toExponential(precision);
  // As many digits as any number needs, up to the precision.
  let digits = 0;
  if (!whole) {
    for (const value of finite) {
      const text = value.toFixed(precision).replace(/0+$/, '');
      digits = Math.max(digits, text.length - text.indexOf('.') - 1);
    }
  }
  return (value: number): string => special(value) ?? value.toFixed(digits);
}

/** Values of a tensor as text. */
export function formatValues(
  values: ArrayLike<number>,
  shape: Shape,
  dtype: DType,
  options: FormatOptions = {},
): string {
  const { threshold = 1000, edgeItems = 3, precision = 4, lineWidth = 80 } = options;
  if (!(edgeItems >= 1) || !(precision >= 0 && precision <= 20)) {
    throw new ArgumentError(`edgeItems ${edgeItems} and precision ${precision} are out of range`, {
      op: 'format',
    });
  }
  const shorten = sizeOf(shape) > threshold;
  const shown = everyShown(values, shape, shorten, edgeItems);
  const write = numberFormat(shown, dtype, precision);
  if (shape.length === 0) return shown.length === 0 ? '' : write(shown[0] as number);
  const width = shown.reduce((most, value) => Math.max(most, write(value).length), 0);
  const strides = contiguousStrides(shape);
  const rank = shape.length;
  const row = (base: number): string => {
    const cells = shownIndices(shape[rank - 1] as number, shorten, edgeItems).map((i) =>
      i < 0 ? '...' : write(values[base + i] as number).padStart(width),
    );
    return wrapCells(cells, rank, lineWidth);
  };
  const level = (axis: number, base: number): string => {
    if (axis === rank - 1) return row(base);
    const parts = shownIndices(shape[axis] as number, shorten, edgeItems).map((i) =>
      i < 0 ? '...' : level(axis + 1, base + i * (strides[axis] as number)),
    );
    const blank = '\n'.repeat(rank - axis - 1);
    return `[${parts.join(`,${blank}${' '.repeat(axis + 1)}`)}]`;
  };
  return level(0, 0);
}

/** One row in brackets, broken where it exceeds the line. */
function wrapCells(cells: readonly string[], indent: number, lineWidth: number): string {
  const lines: string[] = [];
  let line = '';
  for (const [i, cell] of cells.entries()) {
    const text = i < cells.length - 1 ? `${cell},` : cell;
    if (line !== '' && indent + line.length + 1 + text.length > lineWidth) {
      lines.push(line);
      line = text;
    } else line = line === '' ? text : `${line} ${text}`;
  }
  lines.push(line);
  return `[${lines.join(`\n${' '.repeat(indent)}`)}]`;
}

/**
 * The values as text, computed if they are not yet.
 *
 * @example
 * ```ts
 * console.log(await format(tensor([[1, 2.5], [-3, 4]])));
 * // prints
 * // [[ 1.0,  2.5],
 * //  [-3.0,  4.0]]
 * ```
 */
export async function format(x: Tensor, options: FormatOptions = {}): Promise<string> {
  return formatValues(decodeNumbers(await x.data(), x.dtype), x.shape, x.dtype, options);
}

/** What `console.log(tensor)` shows: the values only if they are there already. */
export function inspectTensor(x: Tensor): string {
  const head = describeTensor(x);
  const { node } = x;
  if (node.storage === null) return `${head} not computed yet`;
  try {
    const bytes = engine().viewSync(node).slice();
    const values = viewTypedArray(x.dtype, bytes.buffer, 0, x.size);
    const text = formatValues(decodeNumbers(values, x.dtype), x.shape, x.dtype, { threshold: 100 });
    return x.ndim < 2 ? `${head} ${text}` : `${head}\n${text}`;
  } catch (error) {
    return `${head} ${error instanceof Error ? error.message : 'cannot be read'}`;
  }
}
