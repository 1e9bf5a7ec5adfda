// Colours for terminal text, as plain functions from string to string.

import { supportsColor } from './environment.ts';
import type { OutputStream } from './environment.ts';

const OPEN_CODES = {
  bold: 1,
  dim: 2,
  underline: 4,
  red: 31,
  green: 32,
  yellow: 33,
  blue: 34,
  magenta: 35,
  cyan: 36,
  gray: 90,
} as const;

/** A name of a colour or weight. */
export type ColorName = keyof typeof OPEN_CODES;

/** One function per colour; each returns its text unchanged when colours are off. */
export type Colors = Readonly<Record<ColorName, (text: string) => string>> & {
  /** Whether the functions add escape sequences at all. */
  readonly enabled: boolean;
};

/** Code that ends what `name` began, leaving other attributes as they are. */
function closeCode(name: ColorName): number {
  if (name === 'bold' || name === 'dim') return 22;
  return name === 'underline' ? 24 : 39;
}

const colorNames = Object.keys(OPEN_CODES) as ColorName[];

function buildColors(enabled: boolean): Colors {
  const paint = (name: ColorName) => (text: string) =>
    enabled && text !== '' ? `\u001b[${OPEN_CODES[name]}m${text}\u001b[${closeCode(name)}m` : text;
  const entries = colorNames.map((name) => [name, paint(name)] as const);
  return {
    ...(Object.fromEntries(entries) as Record<ColorName, (text: string) => string>),
    enabled,
  };
}

const coloured = buildColors(true);
const plain = buildColors(false);

/**
 * Colour functions for a stream, honouring `NO_COLOR`, `FORCE_COLOR` and whether it is a terminal;
 * or with colours simply on or off. Without an argument: for standard output.
 *
 * @example
 * const { green, bold } = colors();
 * console.log(`accuracy ${bold(green('98.7 %'))}`);
 */
export function colors(target?: OutputStream | boolean): Colors {
  const enabled = typeof target === 'boolean' ? target : supportsColor(target);
  return enabled ? coloured : plain;
}
