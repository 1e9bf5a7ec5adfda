// What readers of files ask of parsed JSON.

/** An object of JSON: neither an array nor null. */
export type Json = Readonly<Record<string, unknown>>;

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether a value is a whole number that is exact. */
export function isInt(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/** Whether a value is a whole number from 0. */
export function isCount(value: unknown): value is number {
  return isInt(value) && value >= 0;
}
