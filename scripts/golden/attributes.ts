// PyTorch's keyword arguments as Tengen's options: the same names in camelCase, but for axes, which
// have NumPy's names.

import type { Attributes, Json } from './manifest.ts';

const RENAMED: Readonly<Record<string, string>> = { dim: 'axis', keepdim: 'keepdims' };

/** The name of an option: `keepdim` is keepdims, all others only change their case. */
function optionName(name: string): string {
  return RENAMED[name] ?? camelCase(name);
}

/** `kernel_size` is kernelSize, `T_max` is tMax, `T_0` is t0. */
export function camelCase(name: string): string {
  const joined = name.replace(/_+([A-Za-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return joined.charAt(0).toLowerCase() + joined.slice(1);
}

/** Options of all attributes but the named ones, which are passed by position. */
export function optionsOf(
  attrs: Attributes,
  ...positional: readonly string[]
): Record<string, Json> {
  const entries = Object.entries(attrs).filter(([name]) => !positional.includes(name));
  return Object.fromEntries(entries.map(([name, value]) => [optionName(name), value]));
}

function wrong(attrs: Attributes, name: string, expected: string): Error {
  return new Error(`attribute ${name} is ${JSON.stringify(attrs[name])}, expected ${expected}`);
}

/** A number that must be there. */
export function numberOf(attrs: Attributes, name: string): number {
  const value = attrs[name];
  if (typeof value !== 'number') throw wrong(attrs, name, 'a number');
  return value;
}

/** Text that must be there. */
export function textOf(attrs: Attributes, name: string): string {
  const value = attrs[name];
  if (typeof value !== 'string') throw wrong(attrs, name, 'text');
  return value;
}

/** A list of numbers that must be there. */
export function numbersOf(attrs: Attributes, name: string): number[] {
  const value = attrs[name];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'number')) {
    throw wrong(attrs, name, 'numbers');
  }
  return value as number[];
}

/** A record that must be there. */
export function recordOf(attrs: Attributes, name: string): Attributes {
  const value = attrs[name];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw wrong(attrs, name, 'a record');
  }
  return value as Attributes;
}
