// Checks of what users give: numbers within bounds, options by name. They throw on the caller's line.
import { ArgumentError } from './errors.ts';

/** A value as messages show it: `'text'`, `NaN`, `Linear`. */
export function describeValue(value: unknown): string {
  if (typeof value === 'string') return `'${value.slice(0, 40)}'`;
  if (typeof value === 'function')
    return value.name === '' ? 'a function' : `the function ${value.name}`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  // An object without a prototype has no constructor.
  const { name } = (value.constructor ?? {}) as { name?: string };
  return name === undefined || name === '' ? 'an object' : name;
}

/** Bounds of a number; `below` leaves the upper one out, `above` the lower one. */
export type Range = readonly [low: number, high?: number, form?: 'integer' | 'below' | 'above'];

/** Any finite number above 0. */
export const POSITIVE: Range = [0, Infinity, 'above'];

/** A finite number within bounds, by default at least 0. Throws ArgumentError. */
export function checkNumber(
  op: string,
  name: string,
  value: unknown,
  [low, high = Infinity, form]: Range = [0],
): number {
  if (
    typeof value === 'number' &&
    Number.isFinite(value) &&
    (form === 'above' ? value > low : value >= low) &&
    (form === 'below' ? value < high : value <= high) &&
    (form !== 'integer' || Number.isInteger(value))
  ) {
    return value;
  }
  const kind = form === 'integer' ? 'an integer' : 'a number';
  let bounds = form === 'above' ? ` above ${low}` : ` of at least ${low}`;
  if (low === -Infinity) bounds = '';
  else if (high < Infinity) bounds = ` in [${low}, ${high}${form === 'below' ? ')' : ']'}`;
  throw new ArgumentError(`${name} must be ${kind}${bounds}, got ${describeValue(value)}`, { op });
}

/** An integer of at least `low`. Throws ArgumentError. */
export function checkInteger(op: string, name: string, value: unknown, low: number): number {
  return checkNumber(op, name, value, [low, Infinity, 'integer']);
}

/** The function to be called. Throws ArgumentError for its result, or anything else. */
export function checkFunction<F>(op: string, value: F): F {
  if (typeof value === 'function') return value;
  throw new ArgumentError(`expected a function, got ${describeValue(value)}`, {
    op,
    hint: `${op}(() => ...)`,
  });
}

/** Whether the letters of `part` stand in `whole` in this order: `lr` in `learningRate`. */
function abbreviates(part: string, whole: string): boolean {
  let at = 0;
  const letters = part.toLowerCase();
  for (const letter of whole.toLowerCase()) if (letter === letters[at]) at++;
  return at === letters.length;
}

/** Throws ArgumentError unless `options` is a record of `known` names; names the nearest. */
export function checkKeys(op: string, options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new ArgumentError(`expected a record of options, got ${describeValue(options)}`, {
      op,
      hint: `it takes { ${known.join(', ')} }`,
    });
  }
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const near = known.filter((name) => abbreviates(name, key) || abbreviates(key, name));
    throw new ArgumentError(`there is no option '${key}'`, {
      op,
      hint: near.length > 0 ? `did you mean ${near.join(' or ')}?` : `it takes ${known.join(', ')}`,
    });
  }
}

/** What an option may be: a switch, a list of integers or texts, one of some words, a number within bounds. */
export type OptionRule = 'boolean' | 'integers' | 'texts' | readonly string[] | Range;

/** The rule of each option, and the default of those that may be left out. */
export type OptionRules<T extends object> = {
  readonly [K in keyof T]-?: readonly [rule: OptionRule, standard?: T[K]];
};

/** Throws ArgumentError unless the value of an option is what its rule says. */
export function checkOption(op: string, name: string, value: unknown, rule: OptionRule): void {
  let fits: boolean;
  let expected: string = 'true or false';
  if (rule === 'boolean') fits = typeof value === 'boolean';
  else if (rule === 'integers') {
    fits = Array.isArray(value) && value.every(Number.isInteger);
    expected = 'a list of integers';
  } else if (rule === 'texts') {
    fits = Array.isArray(value) && value.every((each) => typeof each === 'string');
    expected = 'a list of texts';
  } else if (typeof rule[0] === 'number') {
    checkNumber(op, name, value, rule as Range);
    return;
  } else {
    fits = (rule as readonly unknown[]).includes(value);
    expected = rule.join(' or ');
  }
  if (fits) return;
  throw new ArgumentError(`${name} must be ${expected}, got ${describeValue(value)}`, { op });
}

/** `given` over the defaults, each option checked by its rule. Throws ArgumentError. */
export function readOptions<T extends object>(
  op: string,
  given: T,
  rules: OptionRules<T>,
): Required<T> {
  checkKeys(op, given, Object.keys(rules));
  const options: Partial<T> = { ...given };
  for (const name in rules) {
    const [rule, standard] = rules[name];
    if (!(name in options) && standard !== undefined) options[name] = standard;
    checkOption(op, name, options[name], rule);
  }
  return options as Required<T>;
}
