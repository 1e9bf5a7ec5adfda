// Sizes that depend on declared dimensions, as files hold them (docs/format.md): `{ "size": { "batch": 4,
// "1": 3 } }` stands for 4 * batch + 3, wherever a whole number may stand.
import { ShapeError } from './errors.ts';

/** The present size of each declared dimension. */
export type Sizes = Readonly<Record<string, number>>;

/**
 * A sum of products of dimensions: 'batch*time' is their product, '1' the constant. The sum is divided by
 * what stands under '/', which must leave no rest.
 */
export interface SizeExpression {
  readonly size: Readonly<Record<string, number>>;
  /** It is this number over the sum. */
  readonly of?: number;
  /** It need not be whole; then factors may be reciprocals of dimensions, '1/batch'. */
  readonly real?: true;
}

/** A whole number, or one that depends on dimensions. */
export type SizeRecord = number | SizeExpression;

export function isSizeExpression(value: unknown): value is SizeExpression {
  return (
    typeof value === 'object' &&
    value !== null &&
    'size' in value &&
    typeof value.size === 'object' &&
    value.size !== null &&
    // Attributes may be called `size` too: those are lists.
    !Array.isArray(value.size) &&
    Object.values(value.size).every((factor) => Number.isFinite(factor))
  );
}

/** In words: `4*batch+3`. */
export function formatSize(record: SizeRecord): string {
  if (typeof record === 'number') return String(record);
  const terms = Object.entries(record.size).filter(([name]) => name !== '/');
  const sum = terms
    .map(([name, factor]) =>
      name === '1' ? String(factor) : factor === 1 ? name : `${factor}*${name}`,
    )
    .join('+');
  const divisor = record.size['/'];
  const quotient = divisor === undefined ? sum.replaceAll('+-', '-') : `(${sum})/${divisor}`;
  return record.of === undefined ? quotient : `${record.of}/(${quotient})`;
}

/**
 * The number that a record stands for.
 *
 * @throws ShapeError if a dimension is not given, or the division leaves a rest.
 */
export function sizeAt(record: SizeRecord, sizes: Sizes): number {
  if (typeof record === 'number') return record;
  let sum = 0;
  for (const [product, factor] of Object.entries(record.size)) {
    if (product === '/') continue;
    let term = factor;
    if (product !== '1')
      for (const name of product.split('*')) term *= sizeOfDimension(name, sizes);
    sum += term;
  }
  const quotient = sum / (record.size['/'] ?? 1);
  const value = record.of === undefined ? quotient : record.of / quotient;
  if (record.real === true || Number.isSafeInteger(value)) return value;
  const given = Object.entries(sizes).map(([name, size]) => `${name} = ${size}`);
  throw new ShapeError(`${formatSize(record)} is no whole number for ${given.join(', ')}`);
}

function sizeOfDimension(name: string, sizes: Sizes): number {
  if (name.startsWith('1/')) return 1 / sizeOfDimension(name.slice(2), sizes);
  const size = Object.hasOwn(sizes, name) ? sizes[name] : undefined;
  if (size !== undefined) return size;
  throw new ShapeError(`the size of dimension '${name}' is not known`);
}

/** JSON with every size that depends on dimensions replaced by its number. */
export function substituteSizes(json: unknown, sizes: Sizes): unknown {
  if (isSizeExpression(json)) return sizeAt(json, sizes);
  if (Array.isArray(json)) return json.map((item: unknown) => substituteSizes(item, sizes));
  if (typeof json !== 'object' || json === null) return json;
  return Object.fromEntries(
    Object.entries(json).map(([name, value]) => [name, substituteSizes(value, sizes)]),
  );
}
