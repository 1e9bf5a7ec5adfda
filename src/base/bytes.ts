// Bytes: whether they are the same, and amounts of them as people write them.
import { describeValue } from './checks.ts';
import { ArgumentError } from './errors.ts';

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** Units by their first letters: powers of 1000, and of 1024 with an i. */
const POWERS: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4 };

/**
 * Bytes of a number, or of a text like `'512MB'` or `'1.5 GB'`. kB, MB, GB and TB are powers of 1000;
 * KiB, MiB, GiB and TiB are powers of 1024.
 *
 * @throws ArgumentError if it is neither, or less than one byte.
 *
 * @example
 * ```ts
 * parseBytes('demo', 'limit', '1.5GB'); // => 1500000000
 * parseBytes('demo', 'limit', '2 MiB'); // => 2097152
 * parseBytes('demo', 'limit', '5 apples'); // throws ArgumentError: demo: limit must be
 * ```
 */
export function parseBytes(op: string, name: string, value: unknown): number {
  const bytes = typeof value === 'string' ? bytesOfText(value) : value;
  if (typeof bytes === 'number' && Number.isFinite(bytes) && bytes >= 1) return Math.floor(bytes);
  throw new ArgumentError(
    `${name} must be a number of bytes above 0, got ${describeValue(value)}`,
    {
      op,
      hint: `a number, or a text like '512MB', '1.5GB' or '64 MiB'`,
    },
  );
}

function bytesOfText(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:([kmgt])(i?))?b?\s*$/i.exec(text);
  if (match === null) return NaN;
  const [, amount, unit, binary] = match;
  const power = POWERS[(unit ?? '').toLowerCase()] ?? 0;
  // Rounded, because 0.3 * 1000 is not 300 in binary fractions for every such pair.
  return Math.round(Number(amount) * (binary ? 1024 : 1000) ** power);
}
