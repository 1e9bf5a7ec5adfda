// Sizes that depend on declared dimensions, as files hold them (docs/format.md): `{ "size": { "batch": 4,
// "1": 3 } }` stands for 4 * batch + 3, wherever a whole number may stand.
import { ArgumentError, ShapeError } from './errors.ts';

/** Products with a meaning of their own: the constant term, and what the sum is divided by. */
export const CONSTANT = '1';
export const OVER = '/';
/** Before the name of a dimension whose reciprocal is meant. */
export const RECIPROCAL = '1/';

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

/** `(2*batch*time + 1) / 2`. */
export function formatSize(record: SizeRecord): string {
  if (typeof record === 'number') return String(record);
  const { '/': over = 1, ...products } = record.size;
  const terms = Object.entries(products).map(([product, factor]) => {
    if (product === '1') return String(factor);
    return factor === 1 ? product : `${factor}*${product}`;
  });
  const sum = terms.join(' + ');
  const inner = terms.length > 1 ? `(${sum})` : sum;
  const quotient = over === 1 ? sum : `${inner} / ${over}`;
  if (record.of === undefined) return quotient;
  return `${record.of} / ${/\W/.test(quotient) ? `(${quotient})` : quotient}`;
}

/** `batch=4, time=7`. */
export function formatSizes(sizes: Sizes): string {
  return Object.entries(sizes)
    .map(([name, size]) => `${name}=${size}`)
    .join(', ');
}

/**
 * The number that a record stands for.
 *
 * @throws ArgumentError if a dimension is not given, ShapeError if the number must be whole and is not.
 */
export function sizeAt(record: SizeRecord, sizes: Sizes): number {
  if (typeof record === 'number') return record;
  let sum = 0;
  for (const [product, factor] of Object.entries(record.size)) {
    if (product !== OVER) sum += factor * productAt(product, sizes);
  }
  const over = record.size[OVER] ?? 1;
  const value = record.of === undefined ? sum / over : record.of / (sum / over);
  if (record.real === true || Number.isSafeInteger(value)) return value;
  throw new ShapeError(`${formatSize(record)} is not whole at ${formatSizes(sizes)}`, {
    op: 'dim',
    hint: `take sizes that ${over} divides`,
  });
}

/** What a product of dimensions is. */
export function productAt(product: string, sizes: Sizes): number {
  if (product === CONSTANT) return 1;
  return product.split('*').reduce((result, name) => result * sizeNamed(name, sizes), 1);
}

function sizeNamed(name: string, sizes: Sizes): number {
  if (name.startsWith(RECIPROCAL)) return 1 / sizeNamed(name.slice(RECIPROCAL.length), sizes);
  const size = Object.hasOwn(sizes, name) ? sizes[name] : undefined;
  if (size !== undefined) return size;
  throw new ArgumentError(`the size of '${name}' is not known`, { op: 'dim' });
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
